/* Settings by functions, by variables and by the environment. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* the variables */
#include "support.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gc_mark.h"

#define ROUND_TRIP(name, value)                                                                    \
    do {                                                                                           \
        GC_set_##name(value);                                                                      \
        REQUIRE_EQUAL(GC_get_##name(), value);                                                     \
    } while (0)

/* Before and after the library is initialised. */
static void set_and_get(void) {
    ROUND_TRIP(dont_expand, 1);
    ROUND_TRIP(dont_expand, 0);
    ROUND_TRIP(full_freq, 7);
    ROUND_TRIP(non_gc_bytes, 12345);
    ROUND_TRIP(non_gc_bytes, 0);
    ROUND_TRIP(free_space_divisor, 5);
    ROUND_TRIP(max_retries, 3);
    ROUND_TRIP(max_retries, 0);
    ROUND_TRIP(dont_precollect, 1);
    ROUND_TRIP(time_limit, 30);
    ROUND_TRIP(time_limit, GC_TIME_UNLIMITED);
    ROUND_TRIP(allocd_bytes_per_finalizer, 20000);
    ROUND_TRIP(min_bytes_allocd, 1 << 16);
    ROUND_TRIP(rate, 20);
    ROUND_TRIP(max_prior_attempts, 2);
    ROUND_TRIP(disable_automatic_collection, 1);
    ROUND_TRIP(disable_automatic_collection, 0);
    ROUND_TRIP(force_unmap_on_gcollect, 1);
    ROUND_TRIP(finalize_on_demand, 1);
    ROUND_TRIP(finalize_on_demand, 0);
    ROUND_TRIP(java_finalization, 1);
    ROUND_TRIP(java_finalization, 0);
    struct GC_timeval_s t = {25, 1500};
    GC_set_time_limit_tv(t);
    REQUIRE_EQUAL(GC_get_time_limit_tv().tv_ms, 25);
    REQUIRE_EQUAL(GC_get_time_limit_tv().tv_nsec, 1500);
}

static void settings_are_kept(void) {
    set_and_get();
    GC_INIT();
    set_and_get();
    GC_gcollect();
    REQUIRE(GC_malloc(100) != NULL);
}

static void settings_before_init(void) {
    ROUND_TRIP(no_dls, 0);
    ROUND_TRIP(find_leak, 0);
    ROUND_TRIP(all_interior_pointers, 0);
    ROUND_TRIP(all_interior_pointers, 1);
    ROUND_TRIP(pages_executable, 0);
    GC_set_markers_count(1);
    GC_INIT();
    REQUIRE_EQUAL(GC_get_parallel(), 0);
}

static void markers_are_as_many_as_set(void) {
    GC_set_markers_count(3);
    GC_INIT();
    GC_start_mark_threads();
    REQUIRE_EQUAL(GC_get_parallel(), 2);
    GC_gcollect();
}

static void variables_are_what_functions_set(void) {
    GC_INIT();
    GC_set_full_freq(9);
    REQUIRE_EQUAL(GC_full_freq, 9);
    GC_full_freq = 11;
    REQUIRE_EQUAL(GC_get_full_freq(), 11);
    GC_free_space_divisor = 4;
    REQUIRE_EQUAL(GC_get_free_space_divisor(), 4);
    GC_set_free_space_divisor(6);
    REQUIRE_EQUAL(GC_free_space_divisor, 6);
    GC_time_limit = 33;
    REQUIRE_EQUAL(GC_get_time_limit(), 33);
    GC_non_gc_bytes = 1000;
    REQUIRE_EQUAL(GC_get_non_gc_bytes(), 1000);
    GC_max_retries = 2;
    REQUIRE_EQUAL(GC_get_max_retries(), 2);
    GC_finalize_on_demand = 1;
    REQUIRE_EQUAL(GC_get_finalize_on_demand(), 1);
    GC_java_finalization = 1;
    REQUIRE_EQUAL(GC_get_java_finalization(), 1);
    GC_dont_expand = 1;
    REQUIRE_EQUAL(GC_get_dont_expand(), 1);
    GC_dont_expand = 0;
    GC_dont_precollect = 1;
    REQUIRE_EQUAL(GC_get_dont_precollect(), 1);
    GC_no_dls = 1;
    REQUIRE_EQUAL(GC_get_no_dls(), 1);
    GC_no_dls = 0;
    REQUIRE_EQUAL(GC_all_interior_pointers, GC_get_all_interior_pointers());
    REQUIRE_EQUAL(GC_find_leak, 0);
    REQUIRE_EQUAL(GC_parallel, GC_get_parallel());
    GC_use_entire_heap = 1;
    REQUIRE_EQUAL(GC_gc_no, GC_get_gc_no());
    GC_gcollect();
    REQUIRE_EQUAL(GC_gc_no, GC_get_gc_no());
    REQUIRE((char *)GC_stackbottom > (char *)__builtin_frame_address(0));
    REQUIRE(GC_oom_fn == GC_get_oom_fn());
    REQUIRE(GC_debug_header_size == GC_get_debug_header_size());
}

static void not_collecting_by_variable(void) {
    GC_INIT();
    GC_dont_gc = 1;
    REQUIRE(GC_is_disabled());
    GC_word before = GC_get_gc_no();
    GC_gcollect();
    for (int i = 0; i < 100000; i++) GC_malloc(100);
    REQUIRE_EQUAL(GC_get_gc_no(), before);
    GC_dont_gc = 0;
    GC_gcollect();
    REQUIRE(GC_get_gc_no() > before);
}

static long runs;
static void count(void *object, void *data) {
    (void)object;
    (void)data;
    runs++;
}
static long notes;
static void note(void) {
    notes++;
}

static void make(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) GC_register_finalizer(GC_malloc(20), count, NULL, NULL, NULL);
}

static void procedures_by_variable(void) {
    GC_INIT();
    GC_finalize_on_demand = 1;
    GC_finalizer_notifier = note;
    REQUIRE(GC_get_finalizer_notifier() == note);
    far_below(make, NULL);
    collect_all();
    REQUIRE(notes > 0 && runs == 0);
    GC_invoke_finalizers();
    REQUIRE_MOST(runs, MANY);
}

static void the_heap_has_a_first_size(void) {
    GC_INIT();
    REQUIRE(GC_get_heap_size() >= 30 << 20);
}

static void the_heap_has_a_limit(void) {
    GC_INIT();
    GC_set_warn_proc(GC_ignore_warn_proc);
    int i = 0;
    for (; i < 4 * MANY && (held[i] = GC_malloc(20000)) != NULL; i++) {
    }
    REQUIRE(i > 200 && i < 1700);
}

static void the_environment_disables(void) {
    GC_INIT();
    REQUIRE(GC_is_disabled());
    GC_word before = GC_get_gc_no();
    for (int i = 0; i < 100000; i++) GC_malloc(200);
    GC_gcollect();
    REQUIRE_EQUAL(GC_get_gc_no(), before);
}

static void the_environment_sets_numbers(void) {
    GC_INIT();
    REQUIRE_EQUAL(GC_get_free_space_divisor(), 9);
    REQUIRE_EQUAL(GC_get_full_freq(), 13);
    REQUIRE_EQUAL(GC_get_time_limit(), 77);
    REQUIRE_EQUAL(GC_get_parallel(), 0);
    REQUIRE_EQUAL(GC_use_entire_heap, 1);
    REQUIRE(GC_get_force_unmap_on_gcollect());
}

static void the_environment_enables_incremental_mode(void) {
    GC_INIT();
    REQUIRE(GC_is_incremental_mode());
    REQUIRE_EQUAL(children_kept(GC_malloc, 40), MANY);
    REQUIRE_FEW(garbage_kept(GC_malloc, 40), MANY);
}

static void the_environment_forbids_incremental_mode(void) {
    GC_INIT();
    GC_enable_incremental();
    REQUIRE(!GC_is_incremental_mode());
}

static void the_environment_finds_leaks(void) {
    GC_INIT();
    REQUIRE(GC_get_find_leak());
}

static void statistics_are_printed(void) {
    GC_INIT();
    for (int i = 0; i < 10; i++) GC_gcollect();
}

static void the_log_goes_to_a_file(void) {
    char name[] = "/tmp/cairn-boehm-log-XXXXXX";
    int file = mkstemp(name);
    REQUIRE(file >= 0);
    setenv("GC_LOG_FILE", name, 1);
    setenv("GC_PRINT_STATS", "1", 1);
    GC_INIT();
    for (int i = 0; i < 10; i++) GC_gcollect();
    bool written = lseek(file, 0, SEEK_END) > 20;
    unlink(name);
    REQUIRE(written);
}

static void gcollect(void) {
    for (int i = 0; i < 10; i++) GC_gcollect();
}

static void the_log_goes_to_a_descriptor(void) {
    setenv("GC_PRINT_STATS", "1", 1);
    FILE *file = tmpfile();
    REQUIRE(file != NULL);
    GC_INIT();
    GC_set_log_fd(fileno(file));
    gcollect();
    REQUIRE(lseek(fileno(file), 0, SEEK_END) > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(settings_are_kept),
        CHILD_TEST(settings_before_init),
        CHILD_TEST(markers_are_as_many_as_set),
        CHILD_TEST(variables_are_what_functions_set),
        CHILD_TEST(not_collecting_by_variable),
        CHILD_TEST(procedures_by_variable),
        CHILD_TEST(the_heap_has_a_first_size, "GC_INITIAL_HEAP_SIZE=32M"),
        CHILD_TEST(the_heap_has_a_limit, "GC_MAXIMUM_HEAP_SIZE=30M"),
        CHILD_TEST(the_environment_disables, "GC_DONT_GC=1"),
        CHILD_TEST(the_environment_sets_numbers, "GC_FREE_SPACE_DIVISOR=9", "GC_FULL_FREQUENCY=13",
            "GC_PAUSE_TIME_TARGET=77", "GC_MARKERS=1", "GC_USE_ENTIRE_HEAP=1",
            "GC_FORCE_UNMAP_ON_GCOLLECT=1"),
        CHILD_TEST(the_environment_enables_incremental_mode, "GC_ENABLE_INCREMENTAL=1"),
        CHILD_TEST(the_environment_forbids_incremental_mode, "GC_DISABLE_INCREMENTAL=1"),
        CHILD_TEST(the_environment_finds_leaks, "GC_FIND_LEAK=1"),
        CHILD_SAYS(statistics_are_printed, "ollection", "GC_PRINT_STATS=1"),
        CHILD_TEST(the_log_goes_to_a_file),
        CHILD_TEST(the_log_goes_to_a_descriptor),
    };
    return cmocka_run_group_tests_name("boehm_settings", tests, NULL, NULL);
}
