/* The arena: one reserved range, its tables, and its blocks, used and free. */
#ifndef CAIRN_GC_ARENA_H
#define CAIRN_GC_ARENA_H

#include "gc/types.h"
#include "runtime/vm.h"

/* Reserves at most BYTES, less if refused, and the tables.  Returns 0 or ENOMEM. */
int gci_arena_open(struct gci_arena *arena, size_t bytes, bool huge_pages);
void gci_arena_close(struct gci_arena *arena);

/* Takes one block: from the pool or a free run; if GROW and there is none, a fresh one.  Its tag
 * is FREE, perhaps with CLOSED.  GCI_NONE if there is none within the limit. */
uint32_t gci_arena_take(struct gci_arena *arena, bool grow);

/* Takes LENGTH adjacent blocks at a multiple of ALIGNMENT blocks (a power of two), free or
 * fresh. */
uint32_t gci_arena_take_run(struct gci_arena *arena, uint32_t length, uint32_t alignment);

/* Gives LENGTH adjacent used blocks back; their tags become FREE, keeping CLOSED. */
void gci_arena_give(struct gci_arena *arena, uint32_t first, uint32_t length);

/* Hands LENGTH free blocks that are in quarantine no more to those that may take them. */
void gci_arena_readmit(struct gci_arena *arena, uint32_t first, uint32_t length);

/* Returns the memory of up to COUNT free blocks to the system, highest addresses first; returns
 * how many. */
uint32_t gci_arena_release(struct gci_arena *arena, uint32_t count);

/* Checks the block counts and the free runs; returns how many invariants are broken. */
size_t gci_check_arena(const struct gci_arena *arena);

static inline uint32_t gci_block_of(size_t granule) {
    return (uint32_t)(granule >> (GCI_BLOCK_SHIFT - GCI_GRANULE_SHIFT));
}

static inline size_t gci_block_granule(uint32_t block) {
    return (size_t)block << (GCI_BLOCK_SHIFT - GCI_GRANULE_SHIFT);
}

static inline uintptr_t gci_block_address(const struct gci_arena *arena, uint32_t block) {
    return arena->base + ((uintptr_t)block << GCI_BLOCK_SHIFT);
}

static inline uintptr_t gci_granule_address(const struct gci_arena *arena, size_t granule) {
    return arena->base + (granule << GCI_GRANULE_SHIFT);
}

static inline size_t gci_address_granule(const struct gci_arena *arena, uintptr_t address) {
    return (address - arena->base) >> GCI_GRANULE_SHIFT;
}

/* Bytes below the frontier: an address is the heap's if address - base is less. */
static inline size_t gci_arena_used_bytes(const struct gci_arena *arena) {
    return (size_t)__atomic_load_n(&arena->frontier, __ATOMIC_RELAXED) << GCI_BLOCK_SHIFT;
}

/* Do a block's side bytes fill pages of their own? */
static inline bool gci_arena_side_fills_pages(void) {
    return GCI_BLOCK_GRANULES % gci_page_size() == 0;
}

/* In blocks that are in use. */
static inline size_t gci_arena_taken_bytes(const struct gci_arena *arena) {
    return (size_t)arena->used_blocks << GCI_BLOCK_SHIFT;
}

/* A block's tag, and a change of it, where other threads may look at it or change another. */
static inline uint8_t gci_tag(const struct gci_arena *arena, uint32_t block) {
    return __atomic_load_n(&arena->tags[block], __ATOMIC_RELAXED);
}

static inline void gci_tag_change(
    struct gci_arena *arena, uint32_t block, uint8_t clear, uint8_t set) {
    uint8_t tag = (uint8_t)((gci_tag(arena, block) & ~clear) | set);
    __atomic_store_n(&arena->tags[block], tag, __ATOMIC_RELAXED);
}

static inline enum gci_use gci_tag_use(uint8_t tag) {
    return (enum gci_use)(tag & GCI_TAG_USE);
}

/* Does the block hold words that may refer to the heap? */
static inline bool gci_tag_scanned(uint8_t tag) {
    return (tag & GCI_TAG_USE) != GCI_USE_FREE && !(tag & GCI_TAG_LEAF);
}

#endif
