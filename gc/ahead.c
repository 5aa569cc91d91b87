/* Touching fresh memory ahead of the frontier: see ahead.h.  Owns heap->ahead.  Invariant: only what
 * is committed is touched, and no more than AHEAD blocks beyond the frontier; that is all that may
 * go wrong with NEXT and END, which the program's threads and the crew's change at the same time.
 * What a page holds isn't changed, so it doesn't matter whether the program was faster. */
#include "gc/ahead.h"

#include <errno.h>

#include "gc/arena.h"
#include "gc/crew.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define AHEAD     8u   /* blocks: a thread is woken while half of them are left, some 2 ms before */
#define HIRE_FROM 128u /* blocks: a heap that grows beyond is worth a thread for this alone */

/* While each of the program's threads has a processor, and one is left. */
static bool is_worth_it(const struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    if (heap->world.count >= heap->world.cpus || arena->frontier < HIRE_FROM) return false;
    if (__atomic_load_n(&heap->ahead.off, __ATOMIC_RELAXED)) return false;
    return (uint64_t)arena->resident_blocks + AHEAD <= arena->block_limit;
}

bool gci_ahead_plan(struct gc_heap *heap) {
    struct gci_ahead *ahead = &heap->ahead;
    uint32_t frontier = heap->arena.frontier, end = frontier + AHEAD;
    if (frontier + AHEAD / 2 <= ahead->end || !is_worth_it(heap)) return false;
    uint32_t committed = (uint32_t)(heap->arena.committed >> GCI_BLOCK_SHIFT);
    if (end > committed) end = committed;
    if (end <= frontier || !gci_crew_want(heap)) return false;
    if (__atomic_load_n(&ahead->next, __ATOMIC_RELAXED) < frontier)
        __atomic_store_n(&ahead->next, frontier, __ATOMIC_RELAXED);
    __atomic_store_n(&ahead->end, end, __ATOMIC_RELEASE);
    return true;
}

bool gci_ahead_touch(struct gc_heap *heap) {
    struct gci_ahead *ahead = &heap->ahead;
    const struct gci_arena *arena = &heap->arena;
    uint32_t end = __atomic_load_n(&ahead->end, __ATOMIC_ACQUIRE);
    uint32_t block = __atomic_load_n(&ahead->next, __ATOMIC_RELAXED);
    do {
        if (block >= end || __atomic_load_n(&ahead->off, __ATOMIC_RELAXED)) return false;
    } while (!__atomic_compare_exchange_n(
        &ahead->next, &block, block + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    int error = gci_vm_populate((void *)gci_block_address(arena, block), GCI_BLOCK_BYTES);
    if (error == 0)
        error = gci_vm_populate(arena->side + gci_block_granule(block), GCI_BLOCK_GRANULES);
    if (error == 0 || error == EFAULT) return true; /* in use, and protected, by now */
    __atomic_store_n(&ahead->off, true, __ATOMIC_RELAXED);
    if (heap->options.log)
        gci_log("fresh memory can't be touched ahead (error %d): going on without", error);
    return false;
}
