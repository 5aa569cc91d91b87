/* The settle phase: what becomes of blocks, by what marking found in them (docs/collection.md, rule
 * 12).  Owns the decision which open blocks are protected, and the figures of the heap that are
 * counted by blocks.  Called by gc/collect.c with the world stopped. */
#include "gc/settle.h"

#include "gc/block.h"
#include "gc/collect.h"
#include "gc/large.h"

#define PASSED_OVER_MAX 2u /* scans without a young object until an open block is closed */
#define DENSE_EIGHTHS                                                                              \
    6u /* blocks at least this full are closed at once: little of them will be refilled */

/* A block of small objects that was young: free, or old and with a sweep owed. */
static void settle_small(struct gc_heap *heap, uint32_t b) {
    struct gci_arena *arena = &heap->arena;
    uint8_t list = arena->blocks[b].list;
    if (list < GCI_LISTS) gci_list_remove(heap, b);
    arena->blocks[b].list = GCI_NO_LIST;
    if (list == GCI_KEPT_LIST) { /* stays as it was claimed: young, swept, open */
        gci_block_sweep(arena, b, heap->options.poison, NULL);
        arena->blocks[b].passed_over = 0;
        return;
    }
    if (arena->live[b] == 0) {
        gci_block_give_empty(heap, b);
        return;
    }
    arena->tags[b] = (uint8_t)((arena->tags[b] & ~GCI_TAG_YOUNG) | GCI_TAG_UNSWEPT);
    arena->blocks[b].passed_over = 0; /* the search counted it when its objects were young */
    if (heap->options.poison) gci_block_sweep(arena, b, true, NULL);
    unsigned eighths = arena->live[b] / (GCI_BLOCK_GRANULES / 8);
    if (eighths >= GCI_LISTED_EIGHTHS) return;
    enum gci_kind kind = gci_tag_kind(arena->tags[b]);
    gci_list_push(heap,
        gci_tag_use(arena->tags[b]) == GCI_USE_BUMP
            ? gci_list_of_bump(kind, eighths)
            : gci_list_of_cells(kind, arena->blocks[b].size_class),
        b);
}

/* Should the open block B, which holds old objects with pointers, be protected from now on?  Under
 * the explicit barrier that costs nothing, and may be done to objects of the kinds into which the
 * program promised to store by gc_write() (docs/barrier.md, rule 15). */
static bool should_close(const struct gc_heap *heap, uint32_t b) {
    const struct gci_arena *arena = &heap->arena;
    if (arena->guard_pages > 0 && gci_tag_use(arena->tags[b]) == GCI_USE_LARGE)
        return false; /* opening it would open its guard pages: docs/debugging.md, rule 8 */
    if (heap->layer->typed_open && arena->tags[b] & GCI_TAG_TYPED) return false;
    if (gci_barrier_is_explicit(heap->barrier))
        return arena->tags[b] & GCI_TAG_TYPED || heap->options.writes_explicitly == GC_WRITES_ALL;
    if (arena->blocks[b].passed_over >= PASSED_OVER_MAX) return true;
    if (arena->blocks[b].hot > 0) return false;
    return gci_tag_use(arena->tags[b]) == GCI_USE_LARGE ||
           arena->live[b] >= GCI_BLOCK_GRANULES / 8 * DENSE_EIGHTHS;
}

/* What fragmentation is reckoned by. */
static void count_small(struct gc_heap *heap, uint32_t b) {
    uint8_t tag = heap->arena.tags[b];
    enum gci_use use = gci_tag_use(tag);
    if (use != GCI_USE_BUMP && use != GCI_USE_CELLS) return;
    heap->small_bytes += GCI_BLOCK_BYTES;
    if (!(tag & (GCI_TAG_TYPED | GCI_TAG_LEAF))) return;
    heap->movable_bytes += GCI_BLOCK_BYTES;
    heap->movable_live_bytes += (uint64_t)heap->arena.live[b] * GC_GRANULE;
}

void gci_settle_blocks(struct gc_heap *heap, enum gc_collection kind) {
    struct gci_arena *arena = &heap->arena;
    uint64_t granules = 0, open = 0, closed = 0;
    heap->small_bytes = heap->movable_bytes = heap->movable_live_bytes = 0;
    bool protects =
        gci_barrier_is_explicit(heap->barrier) ||
        (gci_barrier_kind(heap->barrier) != GC_BARRIER_NONE && gci_policy_protects(heap, kind));
    gci_large_sweep(heap);
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        if (gci_tag_use(tag) == GCI_USE_FREE) continue;
        if (tag & GCI_TAG_YOUNG) {
            if (gci_tag_use(tag) == GCI_USE_LARGE)
                arena->tags[b] &= (uint8_t)~GCI_TAG_YOUNG;
            else
                settle_small(heap, b);
            tag = arena->tags[b];
        }
        granules += arena->live[b];
        count_small(heap, b);
        if (!gci_tag_scanned(tag)) continue;
        if (protects && !(tag & (GCI_TAG_CLOSED | GCI_TAG_YOUNG)) && should_close(heap, b))
            arena->tags[b] |= GCI_TAG_CLOSING;
        if (arena->tags[b] & (GCI_TAG_CLOSED | GCI_TAG_CLOSING))
            closed++;
        else
            open++;
    }
    heap->open_blocks = open;
    heap->closed_blocks = closed;
    uint64_t pages = 0;
    for (unsigned k = 0; k < GCI_KINDS; k++) pages += heap->large[k].used_pages;
    heap->small_live_bytes = granules * GC_GRANULE;
    heap->live_bytes = heap->small_live_bytes + (pages << arena->page_shift);
}
