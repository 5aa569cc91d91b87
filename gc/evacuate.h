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

/* Searches runs from the top of the mark stack as long as they are the fields of one object, and what
 * that adds to it.  True, and another run, for the caller to search; false when the stack is empty. */
bool gci_evacuate_fields(struct gci_marker *marker, gci_words *run);

/* Takes another block to copy into; false if there is none. */
bool gci_to_space_refill(struct gc_heap *heap);

/* Copies the young, unmarked, unheld object at GRANULE of a TYPED bump block, and marks the copy.
 * Returns what must be searched then: a run, empty if the object must stay, because its type is
 * pinned or memory is short. */
static inline __attribute__((always_inline)) gci_words gci_evacuate(
    struct gci_marker *marker, size_t granule) {
    struct gc_heap *heap = marker->heap;
    struct gci_arena *arena = &heap->arena;
    struct gci_to_space *to = &heap->to_space;
    const struct gci_type *type = gci_type_at(heap, granule);
    size_t granules = gci_small_granules(arena->side, granule), bytes = granules * GC_GRANULE;
    if (__builtin_expect(type->flags & GC_TYPE_PINNED, 0) ||
        (__builtin_expect(to->limit - to->cursor < bytes, 0) && !gci_to_space_refill(heap)))
        return gci_run(0, 0, 0);
    uintptr_t from = gci_granule_address(arena, granule), copy = to->cursor;
    size_t there = gci_address_granule(arena, copy);
    to->cursor = copy + bytes;
    for (size_t i = 0; i < bytes; i += GC_GRANULE)
        __builtin_memcpy((void *)(copy + i), (const void *)(from + i), GC_GRANULE);
    *(uintptr_t *)from = copy;
    uint8_t end = granules > 1 ? 0 : GCI_SIDE_END;
    arena->types[there] = arena->types[granule];
    if (granules > 1) {
        arena->types[there + 1] = arena->types[granule + 1];
        arena->side[there + granules - 1] = GCI_SIDE_END;
    }
    arena->side[there] = (uint8_t)(GCI_SIDE_START | GCI_SIDE_MARK | end);
    arena->side[granule] |= GCI_SIDE_MOVED;
    to->objects++;
    if (type->map != 0 && granules == type->granules)
        return gci_run(copy, (uintptr_t)type, GCI_RUN_FIELDS);
    return gci_run(copy, copy + bytes, GCI_RUN_TYPED);
}

#endif
