/* Blocks of small objects: what the side bytes say, and how a block goes from unswept to
 * claimed.  Invariants: side bytes outside live objects are zero in a swept block; a block on a
 * list is in use, and swept if it is YOUNG.  Called by the allocator and the collector, never by
 * two threads for one block.  Lists and free blocks are the world's lock's. */
#include "gc/block.h"

#include <string.h>

#include "gc/large.h"
#include "gc/quarantine.h"
#include "runtime/log.h"

bool gci_block_find(const struct gci_arena *arena, size_t granule, gci_object *object) {
    const uint8_t *side = arena->side;
    if (side[granule] & GCI_SIDE_START) {
        object->granule = granule;
        return true;
    }
    size_t first = granule & ~(size_t)(GCI_BLOCK_GRANULES - 1), at = granule & ~(size_t)7;
    uint64_t keep = ((uint64_t)1 << 8 * (granule & 7)) - 1; /* only bytes before GRANULE */
    for (;;) {
        uint64_t edges = gci_load8(side + at) & 0x0303030303030303u & keep;
        if (edges != 0) {
            size_t found = at + (63u - (unsigned)__builtin_clzll(edges)) / 8;
            object->granule = found;
            return !(side[found] & GCI_SIDE_END);
        }
        if (at == first) return false;
        at -= 8;
        keep = ~(uint64_t)0;
    }
}

bool gci_find(const struct gc_heap *heap, uintptr_t address, gci_object *object) {
    const struct gci_arena *arena = &heap->arena;
    if (address - arena->base >= gci_arena_used_bytes(arena)) return false;
    size_t granule = gci_address_granule(arena, address);
    uint8_t tag = gci_tag(arena, gci_block_of(granule));
    switch (gci_tag_use(tag)) {
    case GCI_USE_FREE:
        return false;
    case GCI_USE_LARGE:
        return gci_large_find(arena, address - arena->base, object);
    case GCI_USE_BUMP:
    case GCI_USE_CELLS:
        break;
    }
    if (!gci_block_find(arena, granule, object)) return false;
    return !(tag & GCI_TAG_UNSWEPT) || arena->side[object->granule] & GCI_SIDE_MARK;
}

size_t gci_object_bytes(const struct gc_heap *heap, gci_object object) {
    const struct gci_arena *arena = &heap->arena;
    if (gci_tag_use(gci_tag(arena, gci_block_of(object.granule))) == GCI_USE_LARGE)
        return gci_large_bytes(arena, object);
    return gci_small_granules(arena->side, object.granule) << GCI_GRANULE_SHIFT;
}

static inline uint64_t subtract(uint64_t a, uint64_t b, uint64_t *borrow) {
    uint64_t partial = a - b, result = partial - *borrow;
    *borrow = (a < b) | (partial < *borrow);
    return result;
}

static inline uint64_t add(uint64_t a, uint64_t b, uint64_t *carry) {
    uint64_t partial = a + b, result = partial + *carry;
    *carry = (partial < a) | (result < partial);
    return result;
}

/* The bits from each marked start to its end, for WORDS words, by arithmetic on the masks as
 * long integers:
 *   ends - starts                  has ones from each object's start to just before its end;
 *   marked starts + that           carries through the marked ones to their end bits;
 *   2 * marked ends - marked starts  has ones from start to end of the marked.
 * ENTERING: what is known of an object from before the range that covers granule 0: START and
 * perhaps MARK, or 0 if there is none.  EDGES, if not NULL, receives all starts and ends. */
static void cover_marked(
    const uint8_t *side, unsigned words, uint8_t entering, uint64_t *cover, uint64_t *edges) {
    uint64_t borrow = 0, carry = 0, cover_borrow = 0, shifted = 0;
    for (unsigned i = 0; i < words; i++) {
        struct gci_side_masks m = gci_side_masks64(side + 64 * i);
        if (edges != NULL) edges[i] = m.start | m.end;
        if (i == 0) {
            m.start |= (entering & GCI_SIDE_START) != 0;
            m.mark |= (entering & GCI_SIDE_MARK) != 0;
        }
        uint64_t marked = m.start & m.mark;
        uint64_t bodies = subtract(m.end, m.start, &borrow);
        uint64_t ends = add(marked, bodies, &carry) & m.end;
        cover[i] = subtract(ends << 1 | shifted, marked, &cover_borrow);
        shifted = ends >> 63;
    }
}

void gci_marked_cover(
    const struct gci_arena *arena, size_t granule, unsigned words, uint64_t *cover) {
    gci_object object;
    bool entering = granule % GCI_BLOCK_GRANULES != 0 && !(arena->side[granule] & GCI_SIDE_START) &&
                    gci_block_find(arena, granule, &object);
    cover_marked(
        arena->side + granule, words, entering ? arena->side[object.granule] : 0, cover, NULL);
}

/* Fills dead objects, and nothing else: there may be an open buffer between them. */
static void poison_dead(struct gci_arena *arena, uint32_t block) {
    size_t first = gci_block_granule(block);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g++) {
        if ((arena->side[g] & (GCI_SIDE_START | GCI_SIDE_MARK)) != GCI_SIDE_START) continue;
        memset((void *)gci_granule_address(arena, g), GCI_POISON,
            gci_small_granules(arena->side, g) * GC_GRANULE);
    }
}

void gci_block_sweep(
    struct gci_arena *arena, uint32_t block, bool poison, uint64_t cover[GCI_MASK_WORDS]) {
    uint64_t own_cover[GCI_MASK_WORDS], edges[GCI_MASK_WORDS];
    if (cover == NULL) cover = own_cover;
    uint8_t *side = arena->side + gci_block_granule(block);
    if (poison) poison_dead(arena, block);
    cover_marked(side, GCI_MASK_WORDS, 0, cover, edges);
    for (unsigned i = 0; i < GCI_MASK_WORDS; i++) {
        if (cover[i] == 0) {
            memset(side + 64 * i, 0, 64);
            continue;
        }
        for (uint64_t stale = edges[i] & ~cover[i]; stale != 0; stale &= stale - 1)
            side[64 * i + (unsigned)__builtin_ctzll(stale)] = 0;
    }
    __atomic_store_n(
        &arena->tags[block], gci_tag(arena, block) & (uint8_t)~GCI_TAG_UNSWEPT, __ATOMIC_RELEASE);
}

void gci_block_unmark(struct gci_arena *arena, uint32_t block) {
    uint8_t *side = arena->side + gci_block_granule(block);
    for (unsigned i = 0; i < GCI_BLOCK_GRANULES; i++)
        side[i] &= (uint8_t) ~(GCI_SIDE_MARK | GCI_SIDE_HELD);
    arena->live[block] = 0;
}

uint32_t gci_block_mark(struct gci_arena *arena, uint32_t block) {
    uint8_t *side = arena->side + gci_block_granule(block);
    uint64_t cover[GCI_MASK_WORDS];
    uint32_t objects = 0, live = 0;
    for (unsigned i = 0; i < GCI_MASK_WORDS; i++) {
        struct gci_side_masks m = gci_side_masks64(side + 64 * i);
        objects += (uint32_t)__builtin_popcountll(m.start & ~m.mark);
    }
    for (unsigned i = 0; i < GCI_BLOCK_GRANULES; i++) /* of START the mark is the square */
        side[i] |= (uint8_t)((side[i] & GCI_SIDE_START) * GCI_SIDE_MARK);
    cover_marked(side, GCI_MASK_WORDS, 0, cover, NULL);
    for (unsigned i = 0; i < GCI_MASK_WORDS; i++) live += (uint32_t)__builtin_popcountll(cover[i]);
    arena->live[block] = (uint16_t)live;
    return objects;
}

void gci_block_open(struct gc_heap *heap, uint32_t first, uint32_t length) {
    gci_barrier_unprotect(
        heap->barrier, gci_block_address(&heap->arena, first), (size_t)length << GCI_BLOCK_SHIFT);
    for (uint32_t b = first; b < first + length; b++) {
        gci_tag_change(&heap->arena, b, GCI_TAG_CLOSED, 0);
        heap->arena.blocks[b].passed_over = 0;
        heap->arena.blocks[b].hot = 0;
    }
}

void gci_block_open_closed(struct gc_heap *heap, uint32_t first, uint32_t length) {
    const struct gci_arena *arena = &heap->arena;
    uint32_t end = first + length;
    while (first < end) {
        uint32_t b = first;
        while (b < end && gci_tag(arena, b) & GCI_TAG_CLOSED) b++;
        if (b > first) gci_block_open(heap, first, b - first);
        first = b + 1;
    }
}

void gci_block_give_empty(struct gc_heap *heap, uint32_t block) {
    struct gci_arena *arena = &heap->arena;
    if (gci_quarantine_add(heap, block)) return;
    if (heap->options.poison)
        memset((void *)gci_block_address(arena, block), GCI_POISON, GCI_BLOCK_BYTES);
    gci_arena_give(arena, block, 1);
}

void gci_block_take(struct gc_heap *heap, uint32_t block) {
    struct gci_arena *arena = &heap->arena;
    if (arena->blocks[block].list != GCI_NO_LIST) gci_list_remove(heap, block);
    /* A bump block on a list is old, and swept already under CAIRN_POISON: gc_free() must wait all
     * the same while its holes are searched. */
    bool bump = gci_tag_use(arena->tags[block]) == GCI_USE_BUMP;
    gci_tag_change(arena, block, 0, (uint8_t)(GCI_TAG_YOUNG | (bump ? GCI_TAG_UNSWEPT : 0)));
    arena->blocks[block].passed_over = 0;
    arena->blocks[block].zeroed = false;
    __atomic_fetch_add(&heap->sweeping, 1, __ATOMIC_RELAXED);
}

void gci_block_claim(struct gc_heap *heap, uint32_t block, uint64_t cover[GCI_MASK_WORDS]) {
    struct gci_arena *arena = &heap->arena;
    gci_block_open_closed(heap, block, 1);
    if (cover != NULL || arena->tags[block] & GCI_TAG_UNSWEPT)
        gci_block_sweep(arena, block, false, cover);
    __atomic_fetch_sub(&heap->sweeping, 1, __ATOMIC_RELEASE);
}

void gci_block_repair(struct gci_arena *arena, uint32_t block) {
    uint8_t *side = arena->side + gci_block_granule(block);
    unsigned start = GCI_BLOCK_GRANULES, live = 0;
    for (unsigned g = 0; g < GCI_BLOCK_GRANULES; g++) {
        if (side[g] & GCI_SIDE_START) start = g;
        if (!(side[g] & GCI_SIDE_END)) continue;
        if (start == GCI_BLOCK_GRANULES)
            side[g] = 0;
        else if (side[start] & GCI_SIDE_MARK)
            live += g - start + 1;
        start = GCI_BLOCK_GRANULES;
    }
    arena->live[block] = (uint16_t)live;
}

void gci_block_clear_side(struct gci_arena *arena, uint32_t block) {
    if (!arena->blocks[block].side_used) return;
    memset(arena->side + gci_block_granule(block), 0, GCI_BLOCK_GRANULES);
    arena->blocks[block].side_used = false;
}

uint32_t gci_block_new(struct gc_heap *heap, enum gci_use use, enum gci_kind kind, bool grow) {
    struct gci_arena *arena = &heap->arena;
    uint32_t block = gci_arena_take(arena, grow);
    if (block == GCI_NONE) return GCI_NONE;
    arena->blocks[block].passed_over = 0;
    arena->blocks[block].hot = 0;
    arena->live[block] = 0;
    gci_tag_change(arena, block, (uint8_t)~GCI_TAG_CLOSED,
        (uint8_t)(use | GCI_TAG_YOUNG | gci_kind_tag(kind)));
    __atomic_fetch_add(&heap->sweeping, 1, __ATOMIC_RELAXED);
    return block;
}

void gci_block_clear_new(struct gc_heap *heap, uint32_t block) {
    gci_block_open_closed(heap, block, 1);
    gci_block_clear_side(&heap->arena, block);
    heap->arena.blocks[block].side_used = true;
    __atomic_fetch_sub(&heap->sweeping, 1, __ATOMIC_RELEASE);
}

unsigned gci_list_of_bump(enum gci_kind kind, unsigned density) {
    return kind * (GCI_DENSITIES + GCI_CLASSES) + density;
}

unsigned gci_list_of_cells(enum gci_kind kind, unsigned size_class) {
    return kind * (GCI_DENSITIES + GCI_CLASSES) + GCI_DENSITIES + size_class;
}

void gci_list_push(struct gc_heap *heap, unsigned list, uint32_t block) {
    struct gci_block *blocks = heap->arena.blocks;
    GCI_ASSERT(blocks[block].list == GCI_NO_LIST);
    blocks[block].list = (uint8_t)list;
    blocks[block].prev = GCI_NONE;
    blocks[block].next = heap->lists[list];
    if (blocks[block].next != GCI_NONE) blocks[blocks[block].next].prev = block;
    heap->lists[list] = block;
}

void gci_list_remove(struct gc_heap *heap, uint32_t block) {
    struct gci_block *blocks = heap->arena.blocks, *b = &blocks[block];
    GCI_ASSERT(b->list < GCI_LISTS);
    if (b->prev != GCI_NONE)
        blocks[b->prev].next = b->next;
    else
        heap->lists[b->list] = b->next;
    if (b->next != GCI_NONE) blocks[b->next].prev = b->prev;
    b->list = GCI_NO_LIST;
}
