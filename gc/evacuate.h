/* Evacuation: a minor collection copies young typed objects out of the nursery (docs/moving.md). */
#ifndef CAIRN_GC_EVACUATE_H
#define CAIRN_GC_EVACUATE_H

#include "gc/block.h"
#include "gc/type.h"
#include "gc/types.h"

/* Before a minor collection looks at any reference: may it move objects?  If so, holds those that a
 * word of a young ambiguous object may mean. */
bool gci_evacuation_begin(struct gc_heap *heap);
/* After marking. */
void gci_evacuation_end(struct gc_heap *heap);

/* Searches runs from the top of the mark stack as long as they are the fields of one object, and
 * what that adds to it.  True, and another run, for the caller to search; false when the stack is
 * empty. */
bool gci_evacuate_fields(struct gci_marker *marker, gci_words *run);

/* Takes another block to copy into; false if there is none. */
bool gci_to_space_refill(struct gc_heap *heap, struct gci_to_space *to);

/* The block in use becomes an old block like others: its rest is a hole. */
void gci_to_space_retire(struct gc_heap *heap, struct gci_to_space *to);

/* The copying itself, from granule FROM to granule TO of the arena at BASE.  The type bytes of
 * objects that have none are not touched. */
static inline __attribute__((always_inline)) void gci_copy_leaf(
    uintptr_t base, uint8_t *side, size_t from, size_t to, size_t granules) {
    uintptr_t old = base + (from << GCI_GRANULE_SHIFT), copy = base + (to << GCI_GRANULE_SHIFT);
    for (size_t i = 0; i < granules * GC_GRANULE; i += GC_GRANULE)
        __builtin_memcpy((void *)(copy + i), (const void *)(old + i), GC_GRANULE);
    *(uintptr_t *)old = copy;
    if (granules > 1) side[to + granules - 1] = GCI_SIDE_END;
    side[to] = (uint8_t)(GCI_SIDE_START | GCI_SIDE_MARK | (granules > 1 ? 0 : GCI_SIDE_END));
    side[from] |= GCI_SIDE_MOVED;
}

static inline __attribute__((always_inline)) void gci_copy_object(
    uintptr_t base, uint8_t *side, uint8_t *types, size_t from, size_t to, size_t granules) {
    types[to] = types[from];
    if (granules > 1) types[to + 1] = types[from + 1];
    gci_copy_leaf(base, side, from, to, granules);
}

/* gci_evacuate() for an object of which TYPE, as its type bytes say, has PINNED, or for which there
 * is no room in the block in use. */
gci_words gci_evacuate_slowly(
    struct gci_marker *marker, size_t granule, const struct gci_type *type);

/* The same where there is room, and TYPE lets it move. */
static inline __attribute__((always_inline)) gci_words gci_evacuate_now(
    struct gci_marker *marker, size_t granule, size_t granules, const struct gci_type *type) {
    struct gci_arena *arena = &marker->heap->arena;
    struct gci_to_space *to = &marker->heap->to_space;
    uintptr_t copy = to->cursor;
    to->cursor = copy + granules * GC_GRANULE;
    to->objects++;
    gci_copy_object(arena->base, arena->side, arena->types, granule,
        gci_address_granule(arena, copy), granules);
    return gci_run_of_object(type, copy, granules);
}

/* Copies the young, unmarked, unheld object at GRANULE of a TYPED bump block, and marks the copy.
 * Returns what must be searched then: a run, empty if the object must stay, because its type is
 * pinned or memory is short. */
static inline __attribute__((always_inline)) gci_words gci_evacuate(
    struct gci_marker *marker, size_t granule) {
    const struct gc_heap *heap = marker->heap;
    const struct gci_type *type = gci_type_recorded(heap, granule);
    size_t granules = gci_small_granules(heap->arena.side, granule);
    if (__builtin_expect((type->flags & GC_TYPE_PINNED) ||
                             heap->to_space.limit - heap->to_space.cursor < granules * GC_GRANULE,
            0))
        return gci_evacuate_slowly(marker, granule, type);
    return gci_evacuate_now(marker, granule, granules, type);
}

#endif
