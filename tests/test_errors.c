/* Bad input: sizes beyond the machine, pointers that aren't objects, wrong options and environment
 * values, calls out of turn, threads that the heap doesn't know. Each has its documented error, or
 * a message that names the culprit. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "support.h"

/* ---- Sizes ----------------------------------------------------------------------------------- */

static void check_refused(void *p) {
    REQUIRE(p == NULL);
    REQUIRE_EQUAL(errno, ENOMEM);
    errno = 0;
}

static void sizes_beyond_the_machine_are_refused(void) {
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 65536,
        (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, PTRDIFF_MAX - 15, PTRDIFF_MAX - 65536,
        (size_t)PTRDIFF_MAX / 2, (size_t)1 << 46};
    char *kept = gc_alloc(100);
    memset(kept, 7, 100);
    errno = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_refused(gc_alloc(sizes[i]));
        check_refused(gc_alloc_leaf(sizes[i]));
        check_refused(gc_alloc_aligned(16, sizes[i]));
        check_refused(gc_alloc_aligned((size_t)1 << 30, sizes[i]));
        check_refused(gc_realloc(NULL, sizes[i]));
        check_refused(gc_realloc(kept, sizes[i]));
    }
    REQUIRE(all_bytes(kept, 7, 100));
    REQUIRE_EQUAL(gc_verify(), 0);
    REQUIRE(gc_alloc(100) != NULL);
}

/* ---- Pointers that aren't objects -------------------------------------------------------------
 */

static char *volatile object;

static void free_a_pointer_from_malloc(void) {
    object = gc_alloc(16);
    gc_free(malloc(100));
}

static void free_without_a_heap(void) {
    char local;
    gc_free(&local);
}

static void free_an_interior_pointer(void) {
    object = gc_alloc(64);
    gc_free(object + 8);
}

static void free_the_middle_of_a_large_object(void) {
    object = gc_alloc(1 << 20);
    gc_free(object + 65536);
}

static void free_twice(size_t size) {
    object = gc_alloc(size);
    gc_free(object);
    gc_free(object);
}
static void free_a_small_object_twice(void) {
    free_twice(32);
}
static void free_a_cell_twice(void) {
    free_twice(4000);
}
static void free_a_large_object_twice(void) {
    free_twice(100000);
}

static void free_one_past_the_end(void) {
    object = gc_alloc(64);
    gc_free(object + 64);
}

static void resize_an_interior_pointer(void) {
    object = gc_alloc(2000);
    gc_realloc(object + 16, 10);
}

static void resize_a_pointer_from_malloc(void) {
    gc_realloc(malloc(100), 10);
}

static void resize_a_freed_object(void) {
    object = gc_alloc(300);
    gc_free(object);
    gc_realloc(object, 400);
}

/* What the collector freed is as dead as what gc_free() freed, swept or not. */
static void free_a_collected_object(void) {
    static uintptr_t hidden[1000];
    static void *kept[1000];
    for (size_t i = 0; i < 1000; i++) {
        hidden[i] = hide(gc_alloc(48));
        kept[i] = gc_alloc(48);
    }
    collect(GC_FULL);
    REQUIRE(kept[0] != NULL);
    for (size_t i = 0; i < 1000; i++)
        if (gc_size(reveal(hidden[i])) == 0) gc_free(reveal(hidden[i]));
}

/* ---- Options ----------------------------------------------------------------------------------
 */

#define REFUSES(field, value)                                                                      \
    do {                                                                                           \
        gc_options options;                                                                        \
        gc_options_init(&options);                                                                 \
        options.field = value;                                                                     \
        REQUIRE_EQUAL(gc_init(&options), EINVAL);                                                  \
    } while (0)

static void wrong_options_are_refused(void) {
    REFUSES(heap_limit, 1);
    REFUSES(heap_reserve, 0);
    REFUSES(nursery, 1);
    REFUSES(mark_stack_limit, 100);
    REFUSES(growth_percent, 0);
    REFUSES(barrier, 77);
    REFUSES(large_fit, 3);
    REFUSES(release_after, 0);
    REFUSES(compact_percent, 100);
    REFUSES(verify, 2);
    REQUIRE_EQUAL(gc_init(NULL), 0);
    REQUIRE(gc_alloc(16) != NULL);
}

static void another_abi_is_refused(void) {
    REFUSES(abi, GC_ABI + 1);
    REFUSES(size, sizeof options - 8);
    REFUSES(size, 0);
    gc_options blank;
    memset(&blank, 0, sizeof blank);
    REQUIRE_EQUAL(gc_init(&blank), EINVAL);
    REQUIRE_EQUAL(gc_init(NULL), 0);
}

static void a_heap_is_opened_once(void) {
    REQUIRE_EQUAL(gc_init(NULL), 0);
    REQUIRE_EQUAL(gc_init(NULL), EALREADY);
    void *p = gc_alloc(16);
    REQUIRE_EQUAL(gc_init(NULL), EALREADY);
    REQUIRE(gc_base(p) == p);
}

static void the_first_allocation_opens_the_heap(void) {
    REQUIRE(gc_alloc(16) != NULL);
    REQUIRE_EQUAL(gc_init(NULL), EALREADY);
}

static void the_environment_wins_over_options(void) {
    gc_options options;
    gc_options_init(&options);
    options.nursery = 1 << 20;
    options.barrier = GC_BARRIER_AUTO;
    REQUIRE_EQUAL(gc_init(&options), 0);
    REQUIRE_EQUAL(statistics().nursery_bytes, 2 << 20);
    REQUIRE_EQUAL(statistics().barrier, GC_BARRIER_NONE);
}

static void a_wrong_variable_is_ignored(void) {
    gc_options options;
    gc_options_init(&options);
    options.nursery = 1 << 20;
    REQUIRE_EQUAL(gc_init(&options), 0);
    REQUIRE_EQUAL(statistics().nursery_bytes, 1 << 20);
}

/* ---- Calls out of turn ------------------------------------------------------------------------
 */

static void enabling_too_often_aborts(void) {
    gc_disable();
    gc_enable();
    gc_enable();
}

static void an_unknown_collection_is_refused(void) {
    REQUIRE(gc_alloc(16) != NULL);
    REQUIRE_EQUAL(gc_collect((enum gc_collection)7), EINVAL);
    REQUIRE_EQUAL(gc_collect((enum gc_collection) - 1), EINVAL);
    REQUIRE_EQUAL(statistics().all.count, 0);
}

static void everything_works_before_the_first_allocation(void) {
    int local;
    REQUIRE_EQUAL(gc_verify(), 0);
    REQUIRE(gc_base(&local) == NULL && gc_size(&local) == 0);
    REQUIRE_EQUAL(gc_explain(&local), EINVAL);
    REQUIRE_EQUAL(gc_pin(&local), EINVAL);
    gc_prepare_write(&local, sizeof local);
    gc_free(NULL);
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    gc_disable();
    gc_enable();
}

/* ---- Threads ----------------------------------------------------------------------------------
 */

static void *allocate_here(void *size) {
    return gc_alloc(*(size_t *)size);
}

static void *free_here(void *p) {
    gc_free(p);
    return NULL;
}

static void *collect_here(void *unused) {
    gc_collect(GC_FULL);
    return unused;
}

static void run_thread(void *(*f)(void *), void *argument) {
    pthread_t thread;
    REQUIRE(gc_alloc(16) != NULL);
    REQUIRE_EQUAL(pthread_create(&thread, NULL, f, argument), 0);
    pthread_join(thread, NULL);
}

static void another_thread_allocates(void) {
    run_thread(allocate_here, &(size_t){16});
}
static void another_thread_allocates_much(void) {
    run_thread(allocate_here, &(size_t){100000});
}
static void another_thread_collects(void) {
    run_thread(collect_here, NULL);
}
static void another_thread_frees(void) {
    run_thread(free_here, gc_alloc(16));
}

/* The first to allocate is the one that may. */
static void a_thread_that_is_first_may_use_the_heap(void) {
    pthread_t thread;
    size_t size = 5000;
    void *p = NULL;
    REQUIRE_EQUAL(pthread_create(&thread, NULL, allocate_here, &size), 0);
    pthread_join(thread, &p);
    REQUIRE(gc_base(p) == p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(sizes_beyond_the_machine_are_refused),
        CHILD_ABORT(free_a_pointer_from_malloc, "not an address in the heap"),
        CHILD_ABORT(free_without_a_heap, "not an address in the heap"),
        CHILD_ABORT(free_an_interior_pointer, "points 8 bytes into the object of 64 bytes"),
        CHILD_ABORT(free_the_middle_of_a_large_object,
            "points 65536 bytes into the object of 1048576 bytes"),
        CHILD_ABORT(free_a_small_object_twice, "freed already"),
        CHILD_ABORT(free_a_cell_twice, "freed already"),
        CHILD_ABORT(free_a_large_object_twice, "freed already"),
        CHILD_ABORT(free_one_past_the_end, "gc_free(0x"),
        CHILD_ABORT(resize_an_interior_pointer, "points 16 bytes into the object of"),
        CHILD_ABORT(resize_a_pointer_from_malloc, "not an address in the heap"),
        CHILD_ABORT(resize_a_freed_object, "gc_realloc(0x"),
        CHILD_ABORT(free_a_collected_object, "no object there"),
        CHILD_SAYS(wrong_options_are_refused, "gc_init: the field barrier is 77; accepted: auto"),
        CHILD_SAYS(another_abi_is_refused, "compiled for another version"),
        CHILD_TEST(a_heap_is_opened_once),
        CHILD_TEST(the_first_allocation_opens_the_heap),
        CHILD_TEST(the_environment_wins_over_options, "CAIRN_NURSERY=2M", "CAIRN_BARRIER=none"),
        CHILD_SAYS(a_wrong_variable_is_ignored, "ignored CAIRN_NURSERY=lots; accepted: 0 (by cost)",
            "CAIRN_NURSERY=lots"),
        CHILD_SAYS(a_wrong_variable_is_ignored, "ignored CAIRN_NURSERY=-1", "CAIRN_NURSERY=-1"),
        CHILD_SAYS(
            a_wrong_variable_is_ignored, "ignored CAIRN_BARRIER=magic", "CAIRN_BARRIER=magic"),
        CHILD_SAYS(a_wrong_variable_is_ignored, "did you mean CAIRN_NURSERY?", "CAIRN_NURSRY=2M"),
        CHILD_ABORT(enabling_too_often_aborts, "gc_enable(): called more often than gc_disable()"),
        CHILD_TEST(an_unknown_collection_is_refused),
        CHILD_TEST(everything_works_before_the_first_allocation),
        CHILD_ABORT(another_thread_allocates, "a thread that the heap does not know"),
        CHILD_ABORT(another_thread_allocates_much, "a thread that the heap does not know"),
        CHILD_ABORT(another_thread_collects, "a thread that the heap does not know"),
        CHILD_ABORT(another_thread_frees, "a thread that the heap does not know"),
        CHILD_TEST(a_thread_that_is_first_may_use_the_heap),
    };
    return cmocka_run_group_tests_name("errors", tests, NULL, NULL);
}
