/* The large spaces: objects beyond GCI_CELL_MAX, in page runs. */
#ifndef CAIRN_GC_LARGE_H
#define CAIRN_GC_LARGE_H

#include "gc/arena.h"
#include "gc/types.h"

void gci_large_init(struct gc_heap *heap);

/* All of these with the lock held, but gci_large_zero(), gci_large_find() and what only reads one
 * object. */

/* Allocates a young object of BYTES at a multiple of ALIGNMENT; it is not zeroed yet.  NULL if no
 * run is long enough and none can be had.  Doesn't collect. */
void *gci_large_allocate(struct gc_heap *heap, enum gci_kind kind, size_t bytes, size_t alignment);

/* Zeroes BYTES from START in a large object, rounded up to whole pages, but for what is fresh from
 * the system. */
void gci_large_zero(struct gci_arena *arena, uintptr_t start, size_t bytes);

/* Grows or shrinks OBJECT in place to BYTES; new pages are not zeroed yet.  False if it can't. */
bool gci_large_resize(struct gc_heap *heap, gci_object object, size_t bytes);

/* Frees one object now. */
void gci_large_free(struct gc_heap *heap, gci_object object);

/* Makes OBJECT old now; false if it is old already. */
bool gci_large_promote(struct gc_heap *heap, gci_object object);

/* Marks all young ones. */
void gci_large_mark(struct gc_heap *heap);

/* Before a full collection: every large object becomes young and unmarked. */
void gci_large_unmark(struct gc_heap *heap);

/* After marking: frees unmarked young objects; the others become old. */
void gci_large_sweep(struct gc_heap *heap);

/* The object that contains the byte at OFFSET of the arena, in a LARGE block. */
bool gci_large_find(const struct gci_arena *arena, uintptr_t offset, gci_object *object);

static inline uint32_t gci_large_page(const struct gci_arena *arena, gci_object object) {
    return (uint32_t)(object.granule >> (arena->page_shift - GCI_GRANULE_SHIFT));
}

/* The object whose first page is HEAD: it starts there, or under CAIRN_POISON=guard so far in that
 * it ends where its guard page begins. */
static inline gci_object gci_large_object(const struct gci_arena *arena, uint32_t head) {
    size_t granule = (size_t)head << (arena->page_shift - GCI_GRANULE_SHIFT);
    if (__builtin_expect(arena->guard_pages > 0, 0))
        granule += arena->pages[head + arena->pages[head].pages - 1].next;
    return (gci_object){granule};
}

static inline size_t gci_large_bytes(const struct gci_arena *arena, gci_object object) {
    uint32_t head = gci_large_page(arena, object);
    size_t end = (size_t)(head + arena->pages[head].pages - arena->guard_pages)
                 << (arena->page_shift - GCI_GRANULE_SHIFT);
    return (end - object.granule) << GCI_GRANULE_SHIFT;
}

/* Where in [START, the end of its page) an object's part begins; the page's end if there is
 * none. */
uintptr_t gci_large_first(const struct gci_arena *arena, uintptr_t start);

/* After marking: how many large objects were found dead; adds their bytes to *BYTES. */
size_t gci_large_count_dead(const struct gc_heap *heap, uint64_t *bytes);

/* Checks the page tables and lists; returns how many invariants are broken. */
size_t gci_check_large(const struct gc_heap *heap);

#endif
