/* When to collect, and how much memory to keep: a ladder of plain conditions over measured costs.  The rules and their
 * reasons are in docs/policy.md.  Owns struct gci_policy. */
#include "gc/arena.h"
#include "gc/collect.h"
#include "runtime/vm.h"

#define NURSERY_FIRST ((size_t)8 << 20)
#define NURSERY_MIN ((size_t)4 << 20)
#define NURSERY_MAX ((size_t)64 << 20)    /* for small heaps; large ones may have half of what lives */
#define GROWTH_MIN ((uint64_t)32 << 20)   /* the old space may always grow by this much */
#define FIXED_SHARE 12u  /* the nursery grows while fixed costs are more than 1/12 of the time between */
#define FIXED_LITTLE 60u /* and shrinks below 1/60 */
#define RELEASE_PART 4u  /* of the surplus, a quarter goes back to the system at a time */

static size_t nursery_max(const struct gc_heap *heap) {
    size_t half = heap->live_bytes / 2;
    size_t most = half > NURSERY_MAX ? half : NURSERY_MAX;
    if (heap->limit != SIZE_MAX && most > heap->limit / 8) most = heap->limit / 8;
    return most < GCI_BLOCK_BYTES ? GCI_BLOCK_BYTES : most;
}

static void set_full_threshold(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    uint64_t growth = policy->live_after_full / 100 * heap->options.growth_percent;
    if (growth < GROWTH_MIN) growth = GROWTH_MIN;
    policy->full_threshold = policy->live_after_full + growth;
    if (heap->limit != SIZE_MAX && policy->full_threshold > heap->limit / 4 * 3)
        policy->full_threshold = policy->live_after_full + (heap->limit - policy->live_after_full) / 2;
}

void gci_policy_init(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    *policy = (struct gci_policy){.nursery = NURSERY_FIRST, .last_end_ns = gci_clock_ns()};
    if (heap->options.nursery > 0) policy->nursery = heap->options.nursery;
    else if (policy->nursery > nursery_max(heap)) policy->nursery = nursery_max(heap);
    set_full_threshold(heap);
}

bool gci_policy_due(struct gc_heap *heap, enum gc_collection *kind, const char **reason) {
    struct gci_policy *policy = &heap->policy;
    int64_t external = policy->external - policy->external_after_full;
    uint64_t external_growth = external > 0 ? (uint64_t)external : 0;
    if (heap->live_bytes + external_growth > policy->full_threshold) {
        *kind = GC_FULL;
        *reason = external_growth > heap->live_bytes ? "memory outside the heap grew"
                                                     : "the old space grew";
        return true;
    }
    if (heap->allocated_since < policy->nursery) return false;
    *kind = policy->full_next ? GC_FULL : GC_MINOR;
    *reason = policy->full_next ? "minor collections cost as much" : "the nursery is full";
    return true;
}

static void average(uint64_t *recent, uint64_t value) { *recent = (*recent * 3 + value) / 4; }

/* Rule: the cost that a minor collection has whatever survives is paid per nursery, so the nursery grows until that is
 * a small share of the time between collections. */
static void size_nursery(struct gc_heap *heap, const struct gci_phase_times *times) {
    struct gci_policy *policy = &heap->policy;
    average(&policy->recent_fixed_ns, times->end - times->start - (times->marked - times->roots_done));
    average(&policy->recent_mutator_ns, times->start - policy->last_end_ns);
    average(&policy->recent_pause_ns, times->end - times->start);
    if (heap->options.nursery > 0) return;
    size_t most = nursery_max(heap);
    if (policy->recent_fixed_ns > policy->recent_mutator_ns / FIXED_SHARE)
        policy->nursery += policy->nursery / 2;
    else if (policy->recent_fixed_ns < policy->recent_mutator_ns / FIXED_LITTLE &&
             policy->nursery > NURSERY_MIN)
        policy->nursery -= policy->nursery / 8;
    if (policy->nursery > most) policy->nursery = most;
}

/* Rule: what was not needed in the last release_after collections goes back, a part at a time. */
static void release_surplus(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    struct gci_arena *arena = &heap->arena;
    uint32_t resident_free = arena->resident_blocks - arena->used_blocks;
    uint32_t keep = (uint32_t)(policy->nursery >> GCI_BLOCK_SHIFT) + arena->used_blocks / 8 + 16;
    uint32_t surplus = resident_free > keep ? resident_free - keep : 0;
    if (surplus < policy->surplus_least || policy->surplus_age == 0) policy->surplus_least = surplus;
    if (surplus == 0) {
        policy->surplus_age = 0;
        return;
    }
    if (++policy->surplus_age < heap->options.release_after) return;
    policy->surplus_age = 0;
    uint32_t part = policy->surplus_least / RELEASE_PART + 1;
    heap->released_bytes += (uint64_t)gci_arena_release(arena, part) << GCI_BLOCK_SHIFT;
}

void gci_policy_update(
    struct gc_heap *heap, enum gc_collection kind, const struct gci_phase_times *times) {
    struct gci_policy *policy = &heap->policy;
    if (kind == GC_FULL) {
        policy->live_after_full = heap->live_bytes;
        policy->external_after_full = policy->external;
        policy->full_next = false;
        policy->last_full_ns = times->end - times->start;
        set_full_threshold(heap);
    } else {
        size_nursery(heap, times);
        policy->full_next = policy->last_full_ns > 0 &&
                            policy->recent_pause_ns > policy->last_full_ns &&
                            heap->live_bytes > policy->live_after_full +
                                                   policy->live_after_full / 8 + policy->nursery;
    }
    release_surplus(heap);
    policy->last_end_ns = gci_clock_ns();
}
