/* When to collect, and how much memory to keep: a ladder of plain conditions over measured
 * costs.  The rules and their reasons are in docs/policy.md.  Owns struct gci_policy. */
#include "gc/arena.h"
#include "gc/collect.h"
#include "gc/watch.h"
#include "runtime/vm.h"

#define MB              ((size_t)1 << 20)
#define NURSERY_FIRST   (4 * MB)
#define NURSERY_MIN     (2 * MB)  /* fits a second-level cache or two */
#define NURSERY_ROOMY   (8 * MB)  /* beyond, only fixed costs make it grow */
#define NURSERY_MAX     (32 * MB) /* for small heaps; large ones may have a quarter of what lives */
#define NURSERY_THREAD  (2 * MB)  /* more of both for each further thread */
#define GROWTH_MIN      (28 * MB) /* the old space may always grow by this much */
#define GARBAGE_LEAST   0.4       /* and by 1 / 0.4 of that at most, if little of it dies */
#define OWN_LEAST       8u     /* of a pause an eighth counts, however little it had a processor */
#define DYING_PART      4u     /* and by 1/4 of what it may, whatever finalizers keep */
#define CHEAP_SHARE     8      /* full, not minor, if that costs under 1/8 of the time between */
#define SPREAD_PART     2u     /* and if it grew by 1/2 of what it may, and took more blocks */
#define NEAR_NS         0.05   /* a byte: twice what short_lived lost with 10 MB instead of 4 */
#define FIXED_SHARE     12u    /* the nursery grows while fixed costs are over 1/12 of it */
#define FIXED_LITTLE    60u    /* and shrinks when they are under 1/60 */
#define MARK_SHARE      4u     /* it grows, too, while minor collections are over 1/4 */
#define MARK_LITTLE     8u     /* and shrinks only when they are under 1/8 */
#define FAULT_NS        1000.0 /* a page's first write and its protection: measured */
#define SEARCH_NS       1200u  /* to search a nearly empty open block: measured */
#define MARK_NS         10u    /* to mark an object, at the least: measured */
#define ALL_PARTS       16u    /* when less than 1/16 of at least this much has died, */
#define ALL_LEAST       MB     /* the next minor collections promote everything, */
#define ALL_OF_LIVE     8u     /* but no more than 1/8 of what lives, or one nursery, */
#define ALL_MOST        7u     /* nor more than so many in a row */
#define TRIAL           3u     /* minor collections before the generational mode is judged */
#define CLEARLY         1.5    /* but one is enough if it is this much too expensive */
#define PATIENCE_FIRST  2u     /* full collections before it is tried again */
#define PATIENCE_FACTOR 3u     /* more with each failure */
#define PATIENCE_MAX    162u
#define TRUSTED         32u       /* minor collections after which earlier failures are forgotten */
#define RELEASE_PART    4u        /* of the surplus, a quarter goes back to the system at a time */
#define COMPACT_LEAST   (16 * MB) /* bytes that compaction must bring, */
#define COMPACT_SHARE   4u        /* and a quarter of what it looks at */
#define COMPACT_WAIT                                                                               \
    2u /* full collections until the next try after it wasn't worth it; doubled then */
#define COMPACT_MAX  64u
#define EASE_ONE     8u  /* a thrifty layer's figures as they are */
#define EASE_MAX     64u /* beyond, all are those of other heaps */
#define EASE_FROM    8u  /* collections before it is judged */
#define EASE_WINDOW  64u /* after so many, what was counts half */
#define EASE_PERCENT 25u /* more while collections take over so much of the time */
#define EASE_LITTLE  12u /* less when they take under so much */

static bool is_thrifty(const struct gc_heap *heap) {
    return heap->layer->growth_least > 0;
}

/* A layer may be thriftier, as long as that costs little: docs/policy.md, rule 7. */
static size_t or_else(const struct gc_heap *heap, size_t figure, size_t otherwise) {
    size_t eased = figure / EASE_ONE * heap->policy.ease;
    return figure > 0 && eased < otherwise ? eased : otherwise;
}

static uint64_t growth_percent(const struct gc_heap *heap) {
    uint64_t percent = heap->options.growth_percent;
    if (!is_thrifty(heap)) return percent;
    uint64_t eased = percent * heap->policy.ease / EASE_ONE;
    return eased < 2 * percent ? eased : 2 * percent;
}

static void ease(struct gc_heap *heap, uint64_t mutator_ns, uint64_t pause_ns) {
    struct gci_policy *policy = &heap->policy;
    if (!is_thrifty(heap)) return;
    policy->ran_ns += mutator_ns;
    policy->paused_ns += pause_ns;
    if (++policy->judged < EASE_FROM) return;
    uint64_t all = policy->ran_ns + policy->paused_ns;
    if (policy->paused_ns > all / 100 * EASE_PERCENT) {
        if (policy->ease < EASE_MAX) policy->ease += policy->ease / 2;
    } else if (policy->paused_ns < all / 100 * EASE_LITTLE && policy->ease > EASE_ONE) {
        policy->ease -= policy->ease / 8;
    }
    if (policy->judged % EASE_WINDOW != 0) return;
    policy->ran_ns /= 2;
    policy->paused_ns /= 2;
}

static size_t growth_least(const struct gc_heap *heap) {
    return or_else(heap, heap->layer->growth_least, GROWTH_MIN);
}

/* Each thread has things half made in the nursery. */
static size_t for_threads(const struct gc_heap *heap) {
    size_t each = or_else(heap, heap->layer->nursery_thread, NURSERY_THREAD);
    return heap->world.count > 1 ? (heap->world.count - 1) * each : 0;
}

static size_t nursery_max(const struct gc_heap *heap) {
    size_t quarter = heap->live_bytes / 4, most;
    most = or_else(heap, heap->layer->nursery_most, NURSERY_MAX) + for_threads(heap);
    if (most < quarter) most = quarter;
    if (heap->limit != SIZE_MAX && most > heap->limit / 8) most = heap->limit / 8;
    return most < GCI_BLOCK_BYTES ? GCI_BLOCK_BYTES : most;
}

size_t gci_policy_nursery(const struct gc_heap *heap) {
    size_t least = for_threads(heap) / 2, most = nursery_max(heap);
    if (heap->options.nursery > 0 || heap->policy.nursery >= least) return heap->policy.nursery;
    return least < most ? least : most;
}

/* Rule 1, and rule 7: bytes that may be allocated between full collections where all are full; or,
 * GENERATIONAL, grow old. */
static uint64_t growth_of(const struct gc_heap *heap, bool generational) {
    const struct gci_policy *policy = &heap->policy;
    uint64_t live = policy->live_after_full, dying = policy->dying_after_full;
    uint64_t growth = (live - dying) / 100 * growth_percent(heap), least = growth_least(heap);
    if (generational && is_thrifty(heap)) {
        double part = policy->garbage > GARBAGE_LEAST ? policy->garbage : GARBAGE_LEAST;
        growth = (uint64_t)((double)growth / part);
        least -= least / 2 < policy->nursery ? least / 2 : policy->nursery;
    }
    if (growth < least) growth = least;
    if (heap->limit != SIZE_MAX) {
        uint64_t room = heap->limit > live ? heap->limit - live : 0;
        if (growth > room / 2) growth = room / 2;
    }
    uint64_t part = growth / DYING_PART;
    return growth > 2 * dying + part ? growth - 2 * dying : part;
}

static bool is_full_only(const struct gc_heap *heap) {
    return !heap->policy.generational ||
           (heap->layer->full_only != NULL && heap->layer->full_only());
}

static void set_full_threshold(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    policy->full_threshold = policy->live_after_full + growth_of(heap, !is_full_only(heap));
}

void gci_policy_init(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    *policy = (struct gci_policy){.nursery = NURSERY_FIRST,
        .ease = EASE_ONE,
        .last_end_ns = gci_clock_ns(),
        .mark_ns_per_byte = 0.5,
        .garbage = 1,
        .generational = true,
        .next_patience = PATIENCE_FIRST,
        .next_compact_wait = COMPACT_WAIT};
    policy->nursery = or_else(heap, heap->layer->nursery_first, NURSERY_FIRST);
    if (heap->options.nursery > 0)
        policy->nursery = heap->options.nursery;
    else if (policy->nursery > nursery_max(heap))
        policy->nursery = nursery_max(heap);
    set_full_threshold(heap);
}

/* Of the tables of what is watched, which is in proportion to the objects that are. */
static uint64_t watches_growth(const struct gc_heap *heap) {
    uint64_t bytes = gci_watches_bytes(heap), before = heap->policy.watches_after_full;
    return bytes > before ? bytes - before : 0;
}

static uint64_t external_growth(const struct gci_policy *policy) {
    int64_t external = __atomic_load_n(&policy->external, __ATOMIC_RELAXED);
    int64_t growth = external - policy->external_after_full;
    return growth > 0 ? (uint64_t)growth : 0;
}

static double full_ns(const struct gc_heap *heap) {
    return heap->policy.mark_ns_per_byte * (double)heap->live_bytes;
}

/* Would marking everything cost little of the time between collections? */
static bool is_cheap(const struct gc_heap *heap) {
    return full_ns(heap) < (double)heap->policy.mutator_ns / CHEAP_SHARE;
}

/* Rule 7: it may wait if it costs more than allocating in memory that the caches don't hold. */
static bool may_wait(const struct gc_heap *heap) {
    return is_thrifty(heap) && heap->options.nursery == 0 &&
           full_ns(heap) > NEAR_NS * (double)gci_policy_nursery(heap);
}

/* Is nothing collected until the heap has grown? */
static bool waits_for_growth(const struct gc_heap *heap) {
    return is_full_only(heap) || (is_cheap(heap) && may_wait(heap));
}

/* What may be live or young, or if it doesn't WAIT old. */
static uint64_t threshold_of(const struct gc_heap *heap, bool wait) {
    uint64_t threshold = heap->policy.full_threshold;
    if (!wait) return threshold;
    uint64_t other = heap->policy.live_after_full + growth_of(heap, false);
    return other > threshold ? other : threshold;
}

/* Rule 7: has a small thrifty heap, when it has grown by half of what it may, taken more blocks than
 * it had?  Blocks with room for objects of one kind aren't to stand beside as many for another. */
static bool is_spread(const struct gc_heap *heap, uint64_t bytes, uint64_t threshold) {
    const struct gci_policy *policy = &heap->policy;
    uint64_t taken = gci_arena_taken_bytes(&heap->arena);
    uint64_t growth = threshold - policy->live_after_full;
    return heap->live_bytes < heap->layer->filled_below &&
           bytes > policy->live_after_full + growth / SPREAD_PART && taken > threshold &&
           taken > policy->taken_after_full;
}

bool gci_policy_due(const struct gc_heap *heap, enum gc_collection *kind, const char **reason) {
    const struct gci_policy *policy = &heap->policy;
    const int *manual = heap->layer->manual;
    if (manual != NULL && __atomic_load_n(manual, __ATOMIC_RELAXED) != 0) return false;
    bool wait = waits_for_growth(heap);
    uint64_t external = external_growth(policy);
    uint64_t young = wait ? heap->allocated_since : heap->tenured_since;
    uint64_t bytes = heap->live_bytes + young + external + watches_growth(heap);
    uint64_t threshold = threshold_of(heap, wait);
    if (bytes > threshold || (wait && is_spread(heap, bytes, threshold))) {
        *kind = GC_FULL;
        *reason = external > 0 ? "memory outside the heap grew" : "the heap grew";
        return true;
    }
    if (wait || heap->allocated_since - heap->tenured_since < gci_policy_nursery(heap))
        return false;
    bool cheap = is_cheap(heap);
    *kind = cheap ? GC_FULL : GC_MINOR;
    *reason = cheap ? "the nursery is full, and little lives" : "the nursery is full";
    return true;
}

bool gci_policy_promotes_all(const struct gc_heap *heap, const struct gci_cycle *cycle) {
    return cycle->kind == GC_MINOR && !cycle->asked && heap->policy.wholesale > 0;
}

bool gci_policy_protects(const struct gc_heap *heap, enum gc_collection kind) {
    const struct gci_policy *policy = &heap->policy;
    return policy->generational || (kind == GC_FULL && policy->patience <= 1);
}

static double average(double recent, double value) {
    return (recent * 3 + value) / 4;
}

static uint64_t least(const uint64_t *values, unsigned count) {
    uint64_t result = values[0];
    for (unsigned i = 1; i < count; i++)
        if (values[i] < result) result = values[i];
    return result;
}

/* Rule 2.  The least of four, since a preempted collection looks expensive. */
static void size_nursery(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    if (heap->options.nursery > 0) return;
    size_t most = nursery_max(heap);
    uint64_t fixed = least(policy->fixed_ns, 4);
    if (fixed > policy->mutator_ns / FIXED_SHARE ||
        (policy->minor_ns > policy->mutator_ns / MARK_SHARE &&
            policy->nursery < NURSERY_ROOMY + for_threads(heap)))
        policy->nursery += policy->nursery / 2;
    else if (fixed < policy->mutator_ns / FIXED_LITTLE &&
             policy->minor_ns < policy->mutator_ns / MARK_LITTLE && policy->nursery > NURSERY_MIN)
        policy->nursery -= policy->nursery / 8;
    if (policy->nursery > most) policy->nursery = most;
}

/* Rule 3: are minor collections worth it?  Per byte allocated, collecting everything costs FULL
 * over the growth between; minor collections cost MINOR, and what survives them, SURVIVAL, brings the
 * next full collection closer. */
static bool generations_pay(const struct gc_heap *heap, double tolerance) {
    const struct gci_policy *policy = &heap->policy;
    double full = full_ns(heap);
    double minor =
        policy->minor_ns_per_byte + policy->survival * full / ((double)growth_of(heap, true) + 1);
    return minor < tolerance * full / ((double)growth_of(heap, false) + 1);
}

/* Rule 6.  SURVIVAL: that of a minor collection which searched. */
static void allow_wholesale(struct gc_heap *heap, const struct gci_cycle *cycle, double survival) {
    struct gci_policy *policy = &heap->policy;
    if (cycle->wholesale) {
        policy->wholesale--;
        return;
    }
    uint64_t most = heap->live_bytes / ALL_OF_LIVE / gci_policy_nursery(heap);
    policy->wholesale = 0;
    if (cycle->allocated < ALL_LEAST || (1 - survival) * ALL_PARTS > 1) return;
    policy->wholesale = most < 1 ? 1 : most > ALL_MOST ? ALL_MOST : (uint32_t)most;
}

/* Of NS, a part of CYCLE with the world stopped, that in which the thread wasn't preempted: costs are
 * to be the same on a machine that has other work.  A thread may also be without a processor because
 * memory must be read back, so no more than 7/8 are believed to be preemption. */
static uint64_t own_ns(const struct gci_cycle *cycle, uint64_t ns) {
    uint64_t all = cycle->end_ns - cycle->stopped_ns, own = cycle->cpu_ns;
    if (own == 0 || own >= all) return ns;
    if (own < all / OWN_LEAST) own = all / OWN_LEAST;
    return (uint64_t)((double)ns * (double)own / (double)all);
}

static uint64_t pause_ns(const struct gci_cycle *cycle, uint64_t aside_ns) {
    uint64_t stop_ns = cycle->stopped_ns - cycle->start_ns;
    return stop_ns + own_ns(cycle, cycle->end_ns - cycle->stopped_ns - aside_ns);
}

static void learn_from_minor(struct gc_heap *heap, const struct gci_cycle *cycle) {
    struct gci_policy *policy = &heap->policy;
    if (!policy->generational) return; /* the program asked for it: nothing was protected */
    uint64_t mark_ns = own_ns(cycle, cycle->marked_ns - cycle->roots_ns);
    uint64_t ns = pause_ns(cycle, cycle->census_ns);
    double allocated = (double)cycle->allocated + 1;
    double marked = (double)(heap->marker.marked_granules * GC_GRANULE);
    bool first = policy->trial == 0;
    double fault_ns = gci_barrier_is_explicit(heap->barrier) ? 0 : FAULT_NS;
    double cost = ((double)ns + fault_ns * (double)heap->dirty_now) / allocated;
    policy->minor_ns_per_byte = first ? cost : average(policy->minor_ns_per_byte, cost);
    double kept = marked + (double)cycle->tenured;
    double survival = kept / allocated < 1 ? kept / allocated : 1;
    allow_wholesale(heap, cycle, survival);
    policy->survival = first ? survival : average(policy->survival, survival);
    /* Leaves are marked while what refers to them is searched, which is no fixed cost. */
    uint64_t marking_ns = mark_ns + MARK_NS * heap->marker.marked_objects;
    marking_ns += heap->shared_ns > 0 ? own_ns(cycle, heap->shared_ns)
                                      : SEARCH_NS * heap->recycled_now; /* as the nursery needs */
    marking_ns -= own_ns(cycle, heap->marker.put_off_ns); /* a part of mark_ns, but fixed */
    uint64_t fixed_ns = ns > marking_ns ? ns - marking_ns : 0;
    for (unsigned i = 0; i < 4; i++)
        if (first || (i == policy->trial % 4 && !cycle->wholesale)) policy->fixed_ns[i] = fixed_ns;
    policy->minor_ns = first ? ns : (policy->minor_ns * 3 + ns) / 4;
    if (++policy->trial == TRUSTED) policy->next_patience = PATIENCE_FIRST;
    size_nursery(heap);
    if (cycle->wholesale) return; /* it hardly cost anything */
    double tolerance = policy->trial < TRIAL ? CLEARLY : 1;
    bool small = !is_thrifty(heap) && heap->live_bytes < GROWTH_MIN;
    if (small || generations_pay(heap, tolerance)) return;
    policy->generational = false;
    policy->patience = policy->next_patience;
    if (policy->next_patience < PATIENCE_MAX) policy->next_patience *= PATIENCE_FACTOR;
}

static bool is_fragmented(const struct gc_heap *heap, uint64_t used, uint64_t live) {
    uint64_t percent = heap->options.compact_percent;
    return percent > 0 && used - live >= COMPACT_LEAST && (used - live) / percent > used / 100;
}

/* Rule 7.  What is young dies at the rate of minor collections. */
static void learn_garbage(struct gc_heap *heap, const struct gci_cycle *cycle) {
    struct gci_policy *policy = &heap->policy;
    double young = (double)(cycle->allocated - cycle->tenured);
    double grown = (double)cycle->before - young - (double)policy->live_after_full;
    double freed =
        (double)cycle->before - young * (1 - policy->survival) - (double)heap->live_bytes;
    if (grown < (double)growth_least(heap) / 2) return;
    double garbage = freed < 0 ? 0 : freed > grown ? 1 : freed / grown;
    policy->garbage = (policy->garbage + garbage) / 2;
}

static void learn_from_full(struct gc_heap *heap, const struct gci_cycle *cycle) {
    struct gci_policy *policy = &heap->policy;
    double marked = (double)(heap->marker.marked_granules * GC_GRANULE) + 1;
    uint64_t compact_ns = cycle->compacted ? heap->compaction.ns : 0;
    double cost = (double)pause_ns(cycle, compact_ns) / marked;
    policy->fragmented = is_fragmented(heap, heap->movable_bytes, heap->movable_live_bytes);
    if (heap->live_bytes > MB) policy->mark_ns_per_byte = average(policy->mark_ns_per_byte, cost);
    if (policy->generational && is_thrifty(heap)) learn_garbage(heap, cycle);
    policy->live_after_full = heap->live_bytes;
    policy->taken_after_full = gci_arena_taken_bytes(&heap->arena);
    policy->dying_after_full =
        heap->dying_bytes < heap->live_bytes ? heap->dying_bytes : heap->live_bytes;
    policy->wholesale = 0;
    policy->watches_after_full = gci_watches_bytes(heap);
    policy->external_after_full = __atomic_load_n(&policy->external, __ATOMIC_RELAXED);
    if (!policy->generational && --policy->patience == 0) {
        policy->generational = true;
        policy->trial = 0;
    }
    set_full_threshold(heap);
}

/* ---- Compaction: rule 5 --------------------------------------------------------------------- */

bool gci_policy_holds(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    if (!policy->fragmented || !gci_may_move(heap)) return false;
    return policy->compact_wait == 0 || --policy->compact_wait == 0;
}

void gci_policy_compacts_later(struct gc_heap *heap) {
    struct gci_policy *policy = &heap->policy;
    policy->compact_wait = policy->next_compact_wait;
    if (policy->next_compact_wait < COMPACT_MAX) policy->next_compact_wait *= 2;
}

bool gci_policy_compacts(struct gc_heap *heap, uint64_t used, uint64_t live, uint64_t gain) {
    struct gci_policy *policy = &heap->policy;
    if (is_fragmented(heap, used, live) && gain >= COMPACT_LEAST && gain >= used / COMPACT_SHARE) {
        policy->next_compact_wait = COMPACT_WAIT;
        return true;
    }
    gci_policy_compacts_later(heap);
    return false;
}

uint64_t gci_policy_least_gain(bool asked) {
    return asked ? GCI_BLOCK_BYTES / 8 : GCI_BLOCK_BYTES / 2;
}

/* ---- Giving memory back --------------------------------------------------------------------- */

static void release(struct gc_heap *heap, uint32_t blocks) {
    heap->released_bytes += (uint64_t)gci_arena_release(&heap->arena, blocks) << GCI_BLOCK_SHIFT;
}

/* After a compaction at once: all, if the program asked for it, else all beyond KEEP. */
static void release_compacted(struct gc_heap *heap, bool asked, uint32_t free, uint32_t keep) {
    uint64_t before = heap->released_bytes;
    heap->released_bytes += heap->compaction.released;
    heap->policy.surplus_age = 0;
    if (asked)
        release(heap, free);
    else if (free > keep)
        release(heap, free - keep);
    heap->compaction.released = heap->released_bytes - before;
}

/* Rule 4: what was not needed in the last release_after collections goes back, a part at a time. */
static void release_surplus(struct gc_heap *heap, const struct gci_cycle *cycle) {
    struct gci_policy *policy = &heap->policy;
    const struct gci_arena *arena = &heap->arena;
    bool wait = waits_for_growth(heap);
    uint64_t threshold = threshold_of(heap, wait);
    uint64_t due = threshold > heap->live_bytes ? threshold - heap->live_bytes : 0;
    if (!wait && due > gci_policy_nursery(heap)) due = gci_policy_nursery(heap);
    uint32_t resident_free = arena->resident_blocks - arena->used_blocks - arena->quarantine.count;
    uint32_t keep = (uint32_t)(due >> GCI_BLOCK_SHIFT) + arena->used_blocks / 8 + 16;
    if (cycle->compacted) {
        release_compacted(heap, cycle->compact, resident_free, keep);
        return;
    }
    uint32_t surplus = resident_free > keep ? resident_free - keep : 0;
    if (surplus < policy->surplus_least || policy->surplus_age == 0)
        policy->surplus_least = surplus;
    if (surplus == 0) {
        policy->surplus_age = 0;
        return;
    }
    if (++policy->surplus_age < heap->options.release_after) return;
    policy->surplus_age = 0;
    uint32_t part = policy->surplus_least / RELEASE_PART + 1;
    release(heap, part);
}

void gci_policy_update(struct gc_heap *heap, const struct gci_cycle *cycle) {
    struct gci_policy *policy = &heap->policy;
    uint64_t mutator_ns = cycle->start_ns - policy->last_end_ns;
    if (policy->generational) /* after cheap full collections, too, or they would go on for ever */
        policy->mutator_ns =
            policy->trial == 0 ? mutator_ns : (policy->mutator_ns * 3 + mutator_ns) / 4;
    ease(heap, mutator_ns, pause_ns(cycle, 0));
    if (cycle->kind == GC_FULL)
        learn_from_full(heap, cycle);
    else
        learn_from_minor(heap, cycle);
    release_surplus(heap, cycle);
    policy->last_end_ns = gci_clock_ns();
}
