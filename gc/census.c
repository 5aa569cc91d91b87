/* The census.  Allocation counts nothing; instead, in one of type_stats minor collections, all
 * typed objects of young blocks are counted before marking and again after it.  Owns the counts of
 * each type and heap->censuses.  Called by the collecting thread with the world stopped
 * (docs/tenure.md, rule 4). */
#include "gc/census.h"

#include <errno.h>
#include <string.h>

#include "cairn/embed.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/large.h"
#include "gc/thread.h"
#include "gc/type.h"

static inline void count(uint64_t *objects, uint64_t *bytes, size_t granules) {
    *objects += 1;
    *bytes += granules * GC_GRANULE;
}

/* An object that was marked before, too, is counted as a survivor less here, and one more
 * afterwards. */
static void count_before(struct gc_heap *heap, size_t granule, size_t granules) {
    struct gci_type_counts *counts = gci_type_at(heap, granule)->counts;
    if (counts == NULL) return;
    if (heap->arena.side[granule] & GCI_SIDE_MARK) {
        counts->survived_objects -= 1;
        counts->survived_bytes -= granules * GC_GRANULE;
    } else {
        count(&counts->allocated_objects, &counts->allocated_bytes, granules);
    }
}

/* What was moved has its first word at its new place. */
static void count_after(struct gc_heap *heap, size_t granule, size_t granules) {
    const struct gci_arena *arena = &heap->arena;
    uint8_t side = arena->side[granule];
    if (!(side & (GCI_SIDE_MARK | GCI_SIDE_MOVED))) return;
    if (side & GCI_SIDE_MOVED)
        granule =
            gci_address_granule(arena, *(const uintptr_t *)gci_granule_address(arena, granule));
    struct gci_type_counts *counts = gci_type_at(heap, granule)->counts;
    if (counts != NULL) count(&counts->survived_objects, &counts->survived_bytes, granules);
}

/* All typed objects where young ones are.  AFTER is a constant. */
static inline __attribute__((always_inline)) void count_all(struct gc_heap *heap, bool after) {
    const struct gci_arena *arena = &heap->arena;
    const uint8_t wanted = GCI_TAG_YOUNG | GCI_TAG_TYPED;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        if ((tag & wanted) != wanted || gci_tag_use(tag) == GCI_USE_LARGE) continue;
        size_t first = gci_block_granule(b);
        for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += 64) {
            uint64_t starts = gci_side_masks64(arena->side + g).start;
            for (; starts != 0; starts &= starts - 1) {
                size_t granule = g + (unsigned)__builtin_ctzll(starts);
                size_t granules = gci_small_granules(arena->side, granule);
                if (after)
                    count_after(heap, granule, granules);
                else
                    count_before(heap, granule, granules);
            }
        }
    }
    for (uint32_t page = heap->large[GCI_TYPED].young; page != GCI_NONE;
         page = arena->pages[page].next) {
        gci_object object = gci_large_object(arena, page);
        size_t granules = gci_large_bytes(arena, object) / GC_GRANULE;
        if (after)
            count_after(heap, object.granule, granules);
        else
            count_before(heap, object.granule, granules);
    }
}

bool gci_census_begin(struct gc_heap *heap) {
    uint32_t every = heap->options.type_stats;
    if (every == 0 || heap->types == NULL || heap->minor_pauses.count % every != 0) return false;
    count_all(heap, false);
    heap->censuses++;
    return true;
}

void gci_census_end(struct gc_heap *heap) {
    count_all(heap, true);
}

/* ---- Asking --------------------------------------------------------------------------------- */

static void fill(struct gc_heap *heap, const struct gci_type_counts *counts, gc_type_stats *stats) {
    gci_heap_lock(heap);
    stats->collections = heap->censuses;
    stats->allocated_objects = counts->allocated_objects;
    stats->allocated_bytes = counts->allocated_bytes;
    stats->survived_objects = counts->survived_objects;
    stats->survived_bytes = counts->survived_bytes;
    gci_heap_unlock(heap);
}

int gci_entry_type_stats(
    const gc_type *type, gc_type_stats *stats, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_type_get_stats, gci_entry_type_stats);

int gci_entry_type_stats(
    const gc_type *type, gc_type_stats *stats, size_t c, const struct gci_frame *frame) {
    (void)c;
    const struct gci_type *own = (const struct gci_type *)(const void *)type;
    uint32_t size = stats->size;
    if (size < sizeof *stats) return EINVAL;
    memset(stats, 0, size); /* fields of a later version stay so */
    stats->size = size;
    if (gci_type_kind(own) != GCI_TYPED) return ENOTSUP;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    fill(gci_default_heap(), own->counts, stats);
    return gci_api_leave_if_attached(thread, 0);
}
