/* Programs that store references by gc_write(): the same under every barrier; what the explicit one
 * finds, and what a store that skips gc_write() costs; that GC_BARRIER_EXPLICIT_CROSS finds it.  The
 * table of cards alone is tested in tests/test_cards.c, gc_write() stopped at each instruction in
 * tests/test_step.c. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

#define TYPED      "CAIRN_BARRIER=explicit", "CAIRN_WRITES_EXPLICITLY=typed"
#define ALL        "CAIRN_BARRIER=explicit", "CAIRN_WRITES_EXPLICITLY=all"
#define CROSS      "CAIRN_BARRIER=explicit-cross", "CAIRN_WRITES_EXPLICITLY=typed"
#define CROSS_ALL  "CAIRN_BARRIER=explicit-cross", "CAIRN_WRITES_EXPLICITLY=all"
#define STRICT     "CAIRN_VERIFY=1", "CAIRN_POISON=1"

/* ---- The model ------------------------------------------------------------------------------ */

static void run(uint32_t ambiguous_one_in, uint64_t steps, uint32_t most_objects) {
    struct typed_result result;
    typed_model_run(&(struct typed_plan){.seed = model_seed(),
                        .steps = steps,
                        .most_objects = most_objects,
                        .check_every = (uint32_t)(steps / 50),
                        .ambiguous_one_in = ambiguous_one_in,
                        .large = true},
        &result);
    gc_stats stats = statistics();
    printf("%llu allocations; %llu minor and %llu full collections; %llu moves; %llu dirty pages; "
           "%llu blocks open, %llu closed\n",
        (unsigned long long)result.allocations, (unsigned long long)stats.minor.count,
        (unsigned long long)stats.full.count, (unsigned long long)result.moved,
        (unsigned long long)stats.dirty_pages, (unsigned long long)stats.open_blocks,
        (unsigned long long)stats.closed_blocks);
    REQUIRE(!has_barrier() || (stats.dirty_pages > 0 && stats.closed_blocks > 0));
}

static void few_untyped_objects(void) {
    run(1000, 200000, 20000);
}

static void many_untyped_objects(void) {
    run(3, 200000, 20000);
}

static void a_small_graph(void) {
    run(40, 60000, 3000);
}

static void collections_all_the_time(void) {
    run(30, 30000, 1000);
}

/* ---- Main ----------------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(few_untyped_objects, TYPED),
        CHILD_TEST(few_untyped_objects, ALL),
        CHILD_TEST(many_untyped_objects, ALL),
        CHILD_TEST(many_untyped_objects, TYPED),
        CHILD_TEST(a_small_graph, TYPED, STRICT),
        CHILD_TEST(many_untyped_objects, ALL, STRICT),
        CHILD_TEST(few_untyped_objects, CROSS, STRICT),
        CHILD_TEST(many_untyped_objects, CROSS_ALL, STRICT),
        CHILD_TEST(collections_all_the_time, TYPED, STRICT, "CAIRN_STRESS=97"),
        CHILD_TEST(collections_all_the_time, CROSS_ALL, STRICT, "CAIRN_STRESS=97"),
        CHILD_TEST(few_untyped_objects, TYPED, "CAIRN_WORKERS=2", "CAIRN_MARK_STACK_LIMIT=4K"),
    };
    return cmocka_run_group_tests_name("gc_write", tests, NULL, NULL);
}
