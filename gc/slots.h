/* Precise roots: words that hold a reference or NULL, and that a collection changes when it moves
 * what they refer to (docs/types.md, rules 7 and 8). */
#ifndef CAIRN_GC_SLOTS_H
#define CAIRN_GC_SLOTS_H

#include "cairn/embed.h"
#include "gc/types.h"

/* All of them, with the world stopped: runs of slots. */
void gci_slots_visit(struct gc_heap *heap, gci_root_visitor *visit, void *context);

/* In a heap with a format for words (docs/tags.md), are those of a root of KIND of that format?
 * C's own variables and handles hold plain references. */
static inline bool gci_root_is_worded(enum gci_root_kind kind) {
    return kind == GCI_ROOT_SLOT || kind == GCI_ROOT_CODE || kind == GCI_ROOT_HOOK;
}

/* Is a word of a root of KIND a reference or nothing, so that what merely looks like one isn't?  It
 * doesn't mean what ends where it points. */
static inline bool gci_root_is_precise(enum gci_root_kind kind) {
    return kind == GCI_ROOT_SLOT || kind == GCI_ROOT_HANDLE || kind == GCI_ROOT_READY ||
           kind == GCI_ROOT_FRAME || kind == GCI_ROOT_CODE || kind == GCI_ROOT_HOOK ||
           kind == GCI_ROOT_HOOK_PLAIN;
}

/* Does such a word mean what ends where it points, too? */
static inline bool gci_root_means_past_end(const struct gc_heap *heap, enum gci_root_kind kind) {
    if (kind == GCI_ROOT_FINALIZER) return heap->options.one_past_end_in_heap;
    return !gci_root_is_precise(kind);
}

/* Marks what they refer to, after all ambiguous roots. */
void gci_slots_mark(struct gc_heap *heap);

/* Handles.  Both with the lock held; NULL if there is no memory. */
gc_handle *gci_handle_new(struct gc_heap *heap, void *p);
void gci_handle_free(struct gc_heap *heap, gc_handle *handle);

#endif
