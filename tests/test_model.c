/* The randomised model test (model.c): millions of allocations of all kinds and sizes, under each
 * fit of the large space, with small and large nurseries, with every reachable object checked
 * against the model. The seed is printed; CAIRN_TEST_SEED repeats a run. */
#include <stdio.h>
#include <stdlib.h>

#include "child.h"
#include "model.h"
#include "support.h"

static void run(uint64_t steps, size_t most, bool large) {
    struct model_plan plan = {.seed = model_seed(),
        .steps = steps,
        .most_objects = most,
        .large = large,
        .collections = true};
    struct model_result result;
    model_run(&plan, &result);
    gc_stats stats = statistics();
    printf(
        "%llu allocations, %llu frees, %llu reallocations; %llu minor and %llu full collections; "
        "at most %zu objects live; %.2f %% of the garbage outlived a full collection\n",
        (unsigned long long)result.allocations, (unsigned long long)result.frees,
        (unsigned long long)result.reallocations, (unsigned long long)stats.minor.count,
        (unsigned long long)stats.full.count, result.most_live, result.retained_percent);
    /* With ends in the heap, every reference to an object holds the one before it too. */
    REQUIRE(result.retained_percent < (getenv("CAIRN_ONE_PAST_END_IN_HEAP") != NULL ? 60 : 10));
}

static void small_objects_agree_with_the_model(void) {
    run(4000000, 60000, false);
}

static void objects_of_all_sizes_agree_with_the_model(void) {
    run(1000000, 10000, true);
}

static void a_small_nursery_agrees_with_the_model(void) {
    run(600000, 20000, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(small_objects_agree_with_the_model),
        CHILD_TEST(objects_of_all_sizes_agree_with_the_model),
        CHILD_TEST(
            objects_of_all_sizes_agree_with_the_model, "CAIRN_LARGE_FIT=best", "CAIRN_POISON=1"),
        CHILD_TEST(objects_of_all_sizes_agree_with_the_model, "CAIRN_LARGE_FIT=worst",
            "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_small_nursery_agrees_with_the_model, "CAIRN_NURSERY=256K"),
        CHILD_TEST(a_small_nursery_agrees_with_the_model, "CAIRN_NURSERY=256K",
            "CAIRN_ONE_PAST_END_IN_HEAP=1", "CAIRN_HEAP_LIMIT=512M"),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
