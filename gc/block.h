/* Blocks of small objects: finding objects by their side bytes, sweeping, claiming, and the
 * lists of blocks with room. */
#ifndef CAIRN_GC_BLOCK_H
#define CAIRN_GC_BLOCK_H

#include "gc/arena.h"
#include "gc/types.h"

/* Finds the object that covers GRANULE of a BUMP or CELLS block, alive or not yet swept.  Walks
 * the side bytes back to a start, eight at a time; an end or the block's beginning met first
 * means that none does. */
bool gci_block_find(const struct gci_arena *arena, size_t granule, gci_object *object);

/* Finds the live object, large or small, that contains the byte at ADDRESS.  Young and old
 * objects are live; dead ones are not found, swept or not. */
bool gci_find(const struct gc_heap *heap, uintptr_t address, gci_object *object);

/* Bytes that OBJECT, live, may use. */
size_t gci_object_bytes(const struct gc_heap *heap, gci_object object);

/* Writes to COVER one bit for each granule of WORDS * 64 granules from GRANULE that a marked
 * object covers.  The range must lie in one BUMP or CELLS block. */
void gci_marked_cover(
    const struct gci_arena *arena, size_t granule, unsigned words, uint64_t *cover);

/* Sweeps an UNSWEPT block: clears the side bytes of dead objects (and fills them, if POISON).
 * If COVER is not NULL it receives the granules of live objects. */
void gci_block_sweep(
    struct gci_arena *arena, uint32_t block, bool poison, uint64_t cover[GCI_MASK_WORDS]);

/* Makes every object of a swept block young again: clears its marks. */
void gci_block_unmark(struct gci_arena *arena, uint32_t block);

/* In a collection: marks every object of a swept block.  Returns how many weren't marked. */
uint32_t gci_block_mark(struct gci_arena *arena, uint32_t block);

/* Claiming a block that is in use, to allocate into it, in two steps.  The first, with the lock
 * held, takes it off its list and tags it YOUNG; the second, which needs no lock, sweeps it, COVER
 * as for gci_block_sweep().  In between it is YOUNG and UNSWEPT, and its side bytes are the
 * claimer's alone. */
void gci_block_take(struct gc_heap *heap, uint32_t block);
void gci_block_claim(struct gc_heap *heap, uint32_t block, uint64_t cover[GCI_MASK_WORDS]);

/* Clears each END without a START, left by an allocation that was never finished, and counts again
 * what is marked. */
void gci_block_repair(struct gci_arena *arena, uint32_t block);

/* Taking a free block for USE and KIND, if need be a fresh one when GROW, in two steps as for
 * claiming: with the lock held, and, for its side bytes, without it.  It is claimed then, and has
 * no object in it. */
uint32_t gci_block_new(struct gc_heap *heap, enum gci_use use, enum gci_kind kind, bool grow);
void gci_block_clear_new(struct gc_heap *heap, uint32_t block);

/* In a collection: gives a block of small objects in which nothing is marked back to the arena, or
 * into quarantine. */
void gci_block_give_empty(struct gc_heap *heap, uint32_t block);

/* Zeroes the side bytes that earlier use of a free block left. */
void gci_block_clear_side(struct gci_arena *arena, uint32_t block);

/* Opens a closed block: from now on writes to it are not noticed. */
void gci_block_open(struct gc_heap *heap, uint32_t first, uint32_t length);
/* The same for those among LENGTH blocks that are closed. */
void gci_block_open_closed(struct gc_heap *heap, uint32_t first, uint32_t length);

/* The lists of blocks with room. */
unsigned gci_list_of_bump(enum gci_kind kind, unsigned density);
unsigned gci_list_of_cells(enum gci_kind kind, unsigned size_class);
void gci_list_push(struct gc_heap *heap, unsigned list, uint32_t block);
void gci_list_remove(struct gc_heap *heap, uint32_t block);

static inline enum gci_kind gci_tag_kind(uint8_t tag) {
    return tag & GCI_TAG_TYPED ? GCI_TYPED : tag & GCI_TAG_LEAF ? GCI_LEAF : GCI_AMBIGUOUS;
}

static inline uint8_t gci_kind_tag(enum gci_kind kind) {
    return (uint8_t)(kind == GCI_TYPED ? GCI_TAG_TYPED : kind == GCI_LEAF ? GCI_TAG_LEAF : 0);
}

/* Granules of the small object that starts at GRANULE: the distance to its END. */
static inline size_t gci_small_granules(const uint8_t *side, size_t granule) {
    if (side[granule] & GCI_SIDE_END) return 1;
    for (size_t n = 1;; n += 8) {
        uint64_t ends = gci_load8(side + granule + n) & 0x0202020202020202u;
        if (ends != 0) return n + (unsigned)__builtin_ctzll(ends) / 8 + 1;
    }
}

#endif
