/* Touching fresh memory ahead of the frontier: see ahead.h.  Owns heap->ahead.  Invariants: what is
 * touched is committed, and was beyond the frontier when it was chosen, by at most AHEAD blocks.
 * The program may take the block meanwhile, and a collection protect it: what it holds isn't
 * changed. */
#include "gc/ahead.h"

#include "gc/arena.h"
#include "gc/crew.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define AHEAD 8u /* blocks: a thread is woken while half of them are left, some 2 ms before */

/* While each of the program's threads has a processor, and one is left; and there is a thread. */
static bool is_worth_it(const struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    return heap->world.count < heap->world.cpus && gci_crew_size(heap) > 0 &&
           !__atomic_load_n(&heap->ahead.off, __ATOMIC_RELAXED) &&
           (uint64_t)arena->resident_blocks + AHEAD <= arena->block_limit;
}

bool gci_ahead_plan(struct gc_heap *heap) {
    struct gci_ahead *ahead = &heap->ahead;
    uint32_t frontier = heap->arena.frontier, end = frontier + AHEAD;
    uint32_t committed = (uint32_t)(heap->arena.committed >> GCI_BLOCK_SHIFT);
    if (frontier + AHEAD / 2 <= ahead->end) return false;
    if (end > committed) end = committed;
    if (end <= frontier || end == ahead->end || !is_worth_it(heap)) return false;
    __atomic_store_n(&ahead->end, end, __ATOMIC_RELEASE);
    return true;
}

/* The next block to touch, or GCI_NONE. */
static uint32_t choose(struct gci_ahead *ahead, const struct gci_arena *arena) {
    uint32_t end = __atomic_load_n(&ahead->end, __ATOMIC_ACQUIRE);
    uint32_t next = __atomic_load_n(&ahead->next, __ATOMIC_RELAXED), block;
    do {
        uint32_t frontier = __atomic_load_n(&arena->frontier, __ATOMIC_RELAXED);
        block = next > frontier ? next : frontier;
        if (block >= end) return GCI_NONE;
    } while (!__atomic_compare_exchange_n(
        &ahead->next, &next, block + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return block;
}

/* Its side bytes, too. */
static int touch(const struct gci_arena *arena, uint32_t block) {
    int error = gci_vm_populate((void *)gci_block_address(arena, block), GCI_BLOCK_BYTES);
    if (error != 0 || !gci_arena_side_fills_pages()) return error;
    return gci_vm_populate(arena->side + gci_block_granule(block), GCI_BLOCK_GRANULES);
}

bool gci_ahead_touch(struct gc_heap *heap) {
    struct gci_ahead *ahead = &heap->ahead;
    const struct gci_arena *arena = &heap->arena;
    if (__atomic_load_n(&ahead->off, __ATOMIC_RELAXED)) return false;
    uint32_t block = choose(ahead, arena);
    if (block == GCI_NONE) return false;
    int error = touch(arena, block);
    if (error == 0 || block < __atomic_load_n(&arena->frontier, __ATOMIC_RELAXED))
        return true; /* or it is in use, and protected, by now */
    if (!__atomic_exchange_n(&ahead->off, true, __ATOMIC_RELAXED) && heap->options.log)
        gci_log("fresh memory can't be touched ahead (error %d): going on without", error);
    return false;
}
