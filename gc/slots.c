/* Precise roots: ranges of slots, and handles, which are slots of the library's own; and the others
 * in turn, frames (gc/frames.c, gc/code.c) and what hooks report (gc/hooks.c).  Owns the handles:
 * they lie in chunks from mmap that are never given back, so that no ambiguous root leads to what
 * they hold.  Invariant: a handle that isn't in use holds NULL.  The ranges are gc/heap.c's. */
#include "gc/slots.h"

#include "gc/code.h"
#include "gc/frames.h"
#include "gc/hooks.h"
#include "gc/mark.h"
#include "gc/watch.h"
#include "runtime/vm.h"

#define CHUNK_BYTES   ((size_t)64 << 10)
#define CHUNK_HANDLES ((CHUNK_BYTES - sizeof(struct gci_handle_chunk)) / sizeof(struct gc_handle))

/* Written by any thread while in use; the rest with the lock held. */
struct gc_handle {
    void *object;
    gc_handle *next_free;
};

struct gci_handle_chunk {
    struct gci_handle_chunk *next;
    struct gc_handle handles[];
};

gc_handle *gci_handle_new(struct gc_heap *heap, void *p) {
    if (heap->free_handles == NULL) {
        struct gci_handle_chunk *chunk = gci_vm_map(CHUNK_BYTES);
        if (chunk == NULL) return NULL;
        for (size_t i = CHUNK_HANDLES; i-- > 0;) {
            chunk->handles[i].next_free = heap->free_handles;
            heap->free_handles = &chunk->handles[i];
        }
        chunk->next = heap->handle_chunks;
        heap->handle_chunks = chunk;
    }
    gc_handle *handle = heap->free_handles;
    heap->free_handles = handle->next_free;
    handle->next_free = NULL;
    gc_handle_set(handle, p);
    return handle;
}

void gci_handle_free(struct gc_heap *heap, gc_handle *handle) {
    gc_handle_set(handle, NULL);
    handle->next_free = heap->free_handles;
    heap->free_handles = handle;
}

void *gc_handle_get(const gc_handle *handle) {
    return __atomic_load_n(&handle->object, __ATOMIC_RELAXED);
}

void gc_handle_set(gc_handle *handle, void *p) {
    __atomic_store_n(&handle->object, p, __ATOMIC_RELAXED);
}

void gci_slots_visit(struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    for (size_t i = 0; i < heap->range_count; i++) {
        const struct gci_root_range *range = &heap->ranges[i];
        const uintptr_t *start = range->start;
        if (range->precise)
            visit(context, GCI_ROOT_SLOT, start, start + range->bytes / sizeof *start);
    }
    for (const struct gci_handle_chunk *c = heap->handle_chunks; c != NULL; c = c->next) {
        for (size_t i = 0; i < CHUNK_HANDLES; i++) {
            const uintptr_t *slot = (const uintptr_t *)(const void *)&c->handles[i].object;
            if (*slot != 0) visit(context, GCI_ROOT_HANDLE, slot, slot + 1);
        }
    }
    gci_watches_visit_ready(heap, visit, context);
    gci_code_visit_slots(heap, visit, context);
    gci_frames_visit(heap, visit, context);
    gci_hooks_visit(heap, GC_ROOTS_PRECISE, visit, context);
}

static void mark(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    struct gci_marker *marker = context;
    bool tagged = gci_root_is_worded(kind) && marker->heap->words.on;
    for (const uintptr_t *slot = start; slot < end; slot++)
        if (tagged)
            gci_mark_tagged_slot(marker, (uintptr_t *)(uintptr_t)slot);
        else
            gci_mark_slot(marker, (uintptr_t *)(uintptr_t)slot);
}

void gci_slots_mark(struct gc_heap *heap) {
    gci_slots_visit(heap, mark, &heap->marker);
}
