/* The policy (gc/policy.c) by itself: it is told of collections that never were, and what it decides
 * is checked against the rules of docs/policy.md. */
#include <string.h>

#include "child.h"
#include "gc/arena.h"
#include "gc/collect.h"
#include "gc/types.h"

#define MB ((uint64_t)1 << 20)
#define US ((uint64_t)1000)
#define MS (1000 * US)

static struct gci_layer layer;
static struct gc_heap heap;
static uint64_t now;

static void open_policy(bool thrifty) {
    if (thrifty)
        layer = (struct gci_layer){.nursery_first = 4 * MB,
            .nursery_most = 4 * MB,
            .nursery_thread = MB / 2,
            .growth_least = 7 * MB};
    int error = gci_arena_open(&heap.arena, 64 * MB, false);
    REQUIRE_EQUAL(error, 0);
    heap.barrier = gci_barrier_open(GC_BARRIER_NONE, false, false, heap.arena.base, 64 * MB);
    REQUIRE(heap.barrier != NULL);
    heap.layer = &layer;
    heap.limit = SIZE_MAX;
    heap.world.count = 1;
    heap.options.growth_percent = thrifty ? 50 : 115;
    heap.options.release_after = 8;
    gci_policy_init(&heap);
}

/* A collection of KIND that took NS, after ALLOCATED bytes in twenty times as long; then LIVE do,
 * and MARKED were. */
static void collected(enum gc_collection kind, uint64_t ns, uint64_t cpu_ns, uint64_t allocated,
    uint64_t live, uint64_t marked) {
    struct gci_cycle cycle = {.kind = kind,
        .before = heap.live_bytes + allocated,
        .allocated = allocated,
        .cpu_ns = cpu_ns};
    now = heap.policy.last_end_ns + 20 * ns;
    cycle.start_ns = cycle.stopped_ns = cycle.roots_ns = now;
    cycle.marked_ns = cycle.end_ns = now + ns;
    heap.live_bytes = live;
    heap.marker.marked_granules = marked / GC_GRANULE;
    heap.marker.marked_objects = marked / 64;
    gci_policy_update(&heap, &cycle);
}

static void full(uint64_t live) {
    collected(GC_FULL, MS, MS, 0, live, live);
}

/* Bytes beyond what lives that bring the next full collection, in MB. */
static uint64_t growth(void) {
    return (heap.policy.full_threshold - heap.policy.live_after_full + MB / 2) / MB;
}

/* As if so many bytes had grown old. */
static void grow(uint64_t bytes) {
    heap.live_bytes += bytes;
}

static void the_heap_grows_in_proportion(void) {
    open_policy(false);
    REQUIRE_EQUAL(growth(), 28);
    grow(100 * MB);
    full(100 * MB);
    REQUIRE_EQUAL(growth(), 115);
    grow(100 * MB);
    full(20 * MB);
    REQUIRE_EQUAL(growth(), 28);
}

/* ---- Rule 3 --------------------------------------------------------------------------------- */

/* LIVE bytes of which a full collection costs FULL_US, and minor ones of MINOR_US after each 2 MB.
 * Is it generational after three of them? */
static bool stays_generational(uint64_t live, uint64_t full_us, uint64_t minor_us) {
    for (unsigned i = 0; i < 40; i++) collected(GC_FULL, full_us * US, full_us * US, 0, live, live);
    for (unsigned i = 0; i < 3; i++)
        collected(GC_MINOR, minor_us * US, minor_us * US, 2 * MB, live, MB / 64);
    return heap.policy.generational;
}

static void small_thrifty_heaps_are_judged(void) {
    open_policy(true);
    REQUIRE_EQUAL(growth(), 4); /* the nursery is in it, but for half */
    REQUIRE(!stays_generational(5 * MB / 4, 800, 500));
    full(MB);
    REQUIRE_EQUAL(growth(), 7);
    full(MB);
    REQUIRE(heap.policy.generational); /* on trial */
    REQUIRE(stays_generational(5 * MB, 2500, 400));
    REQUIRE(!stays_generational(5 * MB, 2500, 1500));
}

static void other_small_heaps_are_not(void) {
    open_policy(false);
    REQUIRE(stays_generational(5 * MB / 4, 800, 500));
    REQUIRE(!stays_generational(40 * MB, 8000, 2000));
}

/* What is kept for finalizers in a minor collection says nothing of the last full one. */
static void what_is_dying_is_that_of_a_full_collection(void) {
    open_policy(false);
    grow(40 * MB);
    heap.dying_bytes = 10 * MB;
    for (unsigned i = 0; i < 3; i++) collected(GC_MINOR, MS, MS, 4 * MB, 40 * MB, MB / 64);
    REQUIRE(heap.policy.generational);
    full(40 * MB);
    REQUIRE_EQUAL(growth(), 14); /* 34.5 less twice 10 */
    heap.dying_bytes = 50 * MB;
    full(40 * MB);
    REQUIRE_EQUAL(growth(), 7); /* a quarter of 28 */
}

/* A collecting thread that is preempted has a long pause, but no dear one. */
static void preemption_costs_nothing(void) {
    open_policy(false);
    for (unsigned i = 0; i < 40; i++) collected(GC_FULL, 100 * MS, 16 * MS, 0, 40 * MB, 40 * MB);
    double cost = heap.policy.mark_ns_per_byte * 40 * 1048576;
    REQUIRE(cost > 15e6 && cost < 17e6);
    for (unsigned i = 0; i < 3; i++) collected(GC_MINOR, 8 * MS, 8 * US, 4 * MB, 40 * MB, MB / 64);
    REQUIRE(heap.policy.generational);
    REQUIRE_EQUAL(heap.policy.minor_ns, MS); /* an eighth counts in any case */
    for (unsigned i = 0; i < 3; i++) collected(GC_MINOR, 50 * MS, 0, 4 * MB, 40 * MB, MB / 64);
    REQUIRE(!heap.policy.generational); /* where that clock is missing the pause counts */
}

/* ---- Rule 7 --------------------------------------------------------------------------------- */

static void the_less_dies_the_further_a_thrifty_heap_grows(void) {
    open_policy(true);
    REQUIRE_EQUAL(growth(), 4); /* the nursery is in it, but for half */
    grow(100 * MB);
    full(0); /* all that had grown has died */
    REQUIRE_EQUAL(growth(), 4);
    grow(100 * MB);
    full(100 * MB);
    REQUIRE_EQUAL(growth(), 100); /* a share of a half, on average */
    grow(100 * MB);
    full(200 * MB);
    REQUIRE_EQUAL(growth(), 250); /* a quarter counts as 0.4 */
    grow(MB);
    full(201 * MB); /* too little to tell */
    REQUIRE_EQUAL(growth(), 251);
    grow(100 * MB);
    full(200 * MB);
    REQUIRE_EQUAL(growth(), 160); /* 5/8 */
}

static void what_is_full_only_has_no_share(void) {
    open_policy(true);
    heap.policy.generational = false;
    heap.policy.patience = 3;
    for (unsigned i = 1; i < 3; i++) {
        grow(100 * MB);
        full(i * 100 * MB);
        REQUIRE_EQUAL(growth(), i * 50);
    }
    grow(100 * MB);
    full(300 * MB); /* generational again, on trial */
    REQUIRE(heap.policy.generational);
    REQUIRE_EQUAL(growth(), 150);
}

/* What is young dies at the rate of minor collections, and is no garbage of the old space. */
static void young_garbage_is_not_counted(void) {
    open_policy(true);
    grow(100 * MB);
    full(100 * MB);
    collected(GC_MINOR, MS, MS, 8 * MB, 102 * MB, 2 * MB); /* a quarter survives */
    grow(98 * MB);
    collected(GC_FULL, MS, MS, 8 * MB, 202 * MB, 202 * MB);
    REQUIRE_EQUAL(growth(), 252); /* 202 * 0.5 / 0.4 */
}

/* COUNT full collections of 1 ms, RAN times as long after each other. */
static void run(unsigned count, unsigned ran) {
    for (unsigned i = 0; i < count; i++) {
        heap.policy.last_end_ns = 0;
        struct gci_cycle cycle = {.kind = GC_FULL, .cpu_ns = MS};
        cycle.start_ns = cycle.stopped_ns = cycle.roots_ns = ran * MS;
        cycle.marked_ns = cycle.end_ns = (ran + 1) * MS;
        heap.marker.marked_granules = MB / GC_GRANULE;
        heap.policy.generational = false;
        heap.policy.patience = 100;
        heap.policy.last_end_ns = 0;
        gci_policy_update(&heap, &cycle);
    }
}

static void thrift_eases_where_it_is_dear(void) {
    open_policy(true);
    run(200, 9);
    REQUIRE_EQUAL(growth(), 7);
    run(400, 1);
    REQUIRE_EQUAL(growth(), 28); /* as others */
    run(1000, 9);
    REQUIRE_EQUAL(growth(), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(the_heap_grows_in_proportion),
        CHILD_TEST(small_thrifty_heaps_are_judged),
        CHILD_TEST(other_small_heaps_are_not),
        CHILD_TEST(what_is_dying_is_that_of_a_full_collection),
        CHILD_TEST(preemption_costs_nothing),
        CHILD_TEST(the_less_dies_the_further_a_thrifty_heap_grows),
        CHILD_TEST(what_is_full_only_has_no_share),
        CHILD_TEST(young_garbage_is_not_counted),
        CHILD_TEST(thrift_eases_where_it_is_dear),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
