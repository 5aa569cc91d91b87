/* Programs that store references by gc_write(): the same under every barrier; what the explicit one
 * finds, and what a store that skips gc_write() costs; that GC_BARRIER_EXPLICIT_CROSS finds it.
 * The table of cards alone is tested in tests/test_cards.c, gc_write() stopped at each instruction
 * in tests/test_step.c. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

#define TYPED     "CAIRN_BARRIER=explicit", "CAIRN_WRITES_EXPLICITLY=typed"
#define ALL       "CAIRN_BARRIER=explicit", "CAIRN_WRITES_EXPLICITLY=all"
#define CROSS     "CAIRN_BARRIER=explicit-cross", "CAIRN_WRITES_EXPLICITLY=typed"
#define CROSS_ALL "CAIRN_BARRIER=explicit-cross", "CAIRN_WRITES_EXPLICITLY=all"
#define STRICT    "CAIRN_VERIFY=1", "CAIRN_POISON=1"

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

/* ---- Small programs ------------------------------------------------------------------------- */

struct node {
    struct node *next;
    uint64_t number;
    struct node *other;
};
GC_TYPE(struct node, next, other);

enum { OLD = 2000 };

/* Old objects, in closed blocks if there is a barrier; static data holds the first. */
static struct node *first;

static __attribute__((noinline)) void make_old(void) {
    first = gc_new(struct node);
    for (uint64_t i = 1; i < OLD; i++) {
        struct node *n = gc_new(struct node), *next = first->next;
        n->number = i;
        n->next = next;
        gc_write(first, &first->next, n);
    }
    settle_old();
    REQUIRE(!has_barrier() || statistics().closed_blocks > 0);
}

/* The old object numbered N. */
static __attribute__((noinline)) struct node *old(uint64_t n) {
    struct node *node = first->next;
    while (node->number != n) node = node->next;
    return node;
}

static __attribute__((noinline)) uintptr_t make_young(uint64_t number) {
    struct node *n = gc_new(struct node);
    n->number = number;
    return hide(n);
}

static __attribute__((noinline)) uintptr_t store(uint64_t n, uint64_t number) {
    struct node *node = old(n);
    uintptr_t young = make_young(number);
    gc_write(node, &node->other, reveal(young));
    return young;
}

/* What gc_write() is to be used for instead. */
static __attribute__((noinline)) uintptr_t store_plainly(uint64_t n, uint64_t number) {
    struct node *node = old(n);
    uintptr_t young = make_young(number);
    node->other = reveal(young);
    return young;
}

static __attribute__((noinline)) uint64_t number_of_other(uint64_t n) {
    return old(n)->other->number;
}

static void what_is_stored_in_old_objects_lives(void) {
    need_optimised_code();
    make_old();
    uint64_t before = statistics().dirty_pages;
    for (uint64_t i = 0; i < 100; i++) {
        store(1 + i * 17 % 1000, 100000 + i);
        store(1 + i * 17 % 1000 + 900, 200000 + i);
        collect(GC_MINOR);
        REQUIRE_EQUAL(number_of_other(1 + i * 17 % 1000), 100000 + i);
        REQUIRE_EQUAL(number_of_other(1 + i * 17 % 1000 + 900), 200000 + i);
        REQUIRE(gc_type_of(old(1 + i * 17 % 1000)->other) == gc_type_of(first));
    }
    REQUIRE(!has_barrier() || statistics().dirty_pages >= before + 100);
}

/* That the barrier is what finds the stores, and nothing else does. */
static void a_store_that_skips_gc_write_is_lost(void) {
    need_optimised_code();
    make_old();
    uintptr_t young = store_plainly(1000, 7);
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(&young, 1), 0);
}

static void the_program_may_choose_it(void) {
    gc_options options;
    gc_options_init(&options);
    options.barrier = GC_BARRIER_EXPLICIT;
    REQUIRE_EQUAL(gc_init(&options), 0);
    REQUIRE_EQUAL(statistics().barrier, GC_BARRIER_EXPLICIT);
    what_is_stored_in_old_objects_lives();
}

static void auto_does_not_take_it(void) {
    gc_options options;
    gc_options_init(&options);
    options.writes_explicitly = GC_WRITES_ALL;
    REQUIRE_EQUAL(gc_init(&options), 0);
    REQUIRE(statistics().barrier != GC_BARRIER_EXPLICIT);
    REQUIRE(gc_buffers.cards == NULL);
}

static void without_a_promise_it_is_not_to_be_had(void) {
    REQUIRE(gc_alloc(16) != NULL);
    REQUIRE(statistics().barrier != GC_BARRIER_EXPLICIT);
}

/* ---- Skipped stores ------------------------------------------------------------------------- */

static void a_skipped_store_is_found(void) {
    need_optimised_code();
    make_old();
    store_plainly(1000, 7);
    collect(GC_MINOR);
    REQUIRE_EQUAL(number_of_other(1000), 7); /* collected rightly all the same */
    REQUIRE_EQUAL(gc_verify(), 1);
    store(1000, 8);
    collect(GC_MINOR);
    REQUIRE_EQUAL(number_of_other(1000), 8);
    REQUIRE_EQUAL(gc_verify(), 1);
}

static void a_skipped_store_aborts(void) {
    need_optimised_code();
    make_old();
    store_plainly(1000, 7);
    collect(GC_MINOR);
}

static void a_skipped_store_is_found_by_a_full_collection(void) {
    need_optimised_code();
    make_old();
    store_plainly(1000, 7);
    collect(GC_FULL);
    REQUIRE_EQUAL(number_of_other(1000), 7);
}

/* On one page, but not on one card. */
static void a_skipped_store_beside_another_is_found(void) {
    need_optimised_code();
    make_old();
    uint64_t n = 0;
    uintptr_t a = 0, b = 1;
    while (a >> 12 != b >> 12 || a >> GC_CARD_SHIFT == b >> GC_CARD_SHIFT) {
        a = (uintptr_t)&old(++n)->other;
        b = (uintptr_t)&old(n + 1)->other;
    }
    store(n, 7);
    store_plainly(n + 1, 8);
    collect(GC_MINOR);
    REQUIRE_EQUAL(number_of_other(n), 7);
    REQUIRE_EQUAL(number_of_other(n + 1), 8);
}

static void stores_of_numbers_and_old_references_are_nothing(void) {
    need_optimised_code();
    make_old();
    for (uint64_t i = 1; i < 1000; i += 3)
        old(i)->number = i; /* unchanged, but the page is written */
    for (uint64_t i = 1; i < 1000; i += 7) old(i)->other = old(i + 1);
    for (uint64_t i = 1; i < 1000; i += 9) old(i)->other = NULL;
    collect(GC_MINOR);
    collect(GC_FULL);
    collect(GC_MINOR);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void twenty_messages_are_enough(void) {
    need_optimised_code();
    make_old();
    for (uint64_t i = 1; i < 100; i++) store_plainly(i, 1000000 + i);
    collect(GC_MINOR);
    for (uint64_t i = 1; i < 100; i++) REQUIRE_EQUAL(number_of_other(i), 1000000 + i);
    fflush(NULL);
}

static void twenty_messages(void **state) {
    (void)state;
    static struct child_result result;
    static const char *const environment[] = {CROSS, NULL};
    child_run(&result, twenty_messages_are_enough, environment);
    assert_int_equal(result.status, 0);
    unsigned count = 0;
    for (const char *s = result.output; (s = strstr(s, "missed store")) != NULL; s++) count++;
    assert_in_range(count, 20, 20);
}

/* ---- Arrays, and objects without types ------------------------------------------------------ */

static void **array;
static size_t array_length;

static void make_old_array(bool typed, size_t length) {
    array_length = length;
    array =
        typed ? gc_alloc_array(gc_type_of(first), length / 3) : gc_alloc(length * sizeof *array);
    REQUIRE(array != NULL);
    settle_old();
}

/* Stores at every STEPth slot of the array's pointers, by gc_write() or not. */
static __attribute__((noinline)) void store_in_array(size_t step, bool plainly) {
    for (size_t i = 0; i < array_length / 3 * 3; i += step * 3) {
        struct node *n = gc_new(struct node);
        n->number = i;
        if (plainly)
            array[i] = n;
        else
            gc_write(array, &array[i], n);
    }
}

static __attribute__((noinline)) void check_array(size_t step) {
    for (size_t i = 0; i < array_length / 3 * 3; i += step * 3)
        REQUIRE_EQUAL(((struct node *)array[i])->number, i);
}

static void in_arrays(bool typed, bool plainly) {
    need_optimised_code();
    make_old();
    static const size_t lengths[] = {30, 300, 3000, 300000};
    static const size_t steps[] = {1, 7, 200, 1111, 33333};
    for (size_t l = 0; l < 4; l++) {
        make_old_array(typed, lengths[l]);
        for (size_t s = 0; s < 5; s++) {
            store_in_array(steps[s], plainly);
            collect(GC_MINOR);
            check_array(steps[s]);
        }
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void references_in_typed_arrays_live(void) {
    in_arrays(true, false);
}
static void references_in_untyped_objects_live(void) {
    in_arrays(false, false);
}
static void untyped_objects_need_no_gc_write_without_the_promise(void) {
    in_arrays(false, true);
}

/* Arrays of whole pages, one behind the other; the first slot of every other one is stored into,
 * and the last slot of the one before, which is freed then: its card and the next are one run. */
static void behind_freed_objects(bool typed) {
    need_optimised_code();
    enum { ARRAYS = 40, LENGTH = 3 * 4096 / sizeof(void *) };
    make_old();
    REQUIRE(gc_new(struct node) != NULL);
    void ***arrays = gc_alloc(ARRAYS * sizeof *arrays);
    for (unsigned i = 0; i < ARRAYS; i++)
        arrays[i] = typed ? gc_alloc_array(gc_type_of(first), LENGTH / 3)
                          : gc_alloc(LENGTH * sizeof(void *));
    settle_old();
    unsigned adjacent = 0;
    for (unsigned i = 0; i + 1 < ARRAYS; i += 2) {
        void **a = arrays[i], **b = arrays[i + 1];
        adjacent += a + LENGTH == b;
        gc_write(a, a + LENGTH - 3, NULL);
        gc_write(b, b, reveal(make_young(i)));
        gc_free(a);
        arrays[i] = NULL;
    }
    REQUIRE(adjacent > 5);
    collect(GC_MINOR);
    for (unsigned i = 1; i < ARRAYS; i += 2)
        REQUIRE_EQUAL(((struct node *)arrays[i][0])->number, i - 1);
}

static void a_card_behind_a_freed_array_is_searched(void) {
    behind_freed_objects(true);
}
static void a_card_behind_a_freed_untyped_object_is_searched(void) {
    behind_freed_objects(false);
}

/* The last slot of an array of 300 KB. */
static void skip_in_an_array(bool typed) {
    need_optimised_code();
    make_old();
    make_old_array(typed, 37500);
    gc_write(array, &array[0], gc_new(struct node));
    array[37497] = gc_new(struct node);
    collect(GC_MINOR);
    REQUIRE(gc_base(array[37497]) == array[37497]);
}
static void a_skipped_store_into_an_array_is_found(void) {
    skip_in_an_array(true);
}
static void a_skipped_store_into_an_untyped_object_is_found(void) {
    skip_in_an_array(false);
}

/* ---- Copying -------------------------------------------------------------------------------- */

static __attribute__((noinline)) void check_copy(void **to, uint64_t number, size_t count) {
    for (size_t i = 0; i < count; i++) REQUIRE_EQUAL(((struct node *)to[i])->number, number + i);
}

/* An array of nothing but pointers, old. */
struct pointer {
    struct node *to;
};
GC_TYPE(struct pointer, to);

static __attribute__((noinline)) void fill_pointers(void **to, uint64_t number, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct node *n = gc_new(struct node);
        n->number = number + i;
        gc_write(array, &to[i], n);
    }
}

static void copied_references_live_and_may_overlap(void) {
    need_optimised_code();
    enum { LENGTH = 5000, COPIED = 1500 };
    make_old();
    REQUIRE(gc_new(struct pointer) != NULL);
    array = gc_alloc_array(gc_type_of(gc_new(struct pointer)), LENGTH);
    settle_old();
    static const size_t from[] = {0, 2000, 2000, 2000, 2000, 2000, 3500};
    static const size_t to[] = {3500, 2000, 2001, 1999, 3000, 1000, 0};
    for (unsigned i = 0; i < 7; i++) {
        fill_pointers(array + from[i], i * 100000, COPIED);
        gc_copy_slots(array, array + to[i], array + from[i], COPIED);
        for (size_t k = 0; k < COPIED; k++) /* what wasn't written over */
            if (from[i] + k - to[i] >= COPIED) array[from[i] + k] = NULL;
        collect(GC_MINOR);
        check_copy(array + to[i], i * 100000, COPIED);
    }
    gc_copy_slots(array, array, array + 100, 0);
    gc_copy_slots(array, array + LENGTH, NULL, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void an_exchange_that_is_announced_is_seen(void) {
    need_optimised_code();
    make_old();
    for (uint64_t i = 1; i < 50; i++) {
        struct node *node = old(i), *n = reveal(make_young(i + 5000));
        gc_will_write(node, &node->other, 1);
        (void)__atomic_exchange_n(&node->other, n, __ATOMIC_SEQ_CST);
        n = NULL;
        collect(GC_MINOR);
        REQUIRE_EQUAL(number_of_other(i), i + 5000);
    }
    gc_will_write(first, &first->next, 0);
}

static void a_range_that_is_announced_is_seen(void) {
    need_optimised_code();
    make_old();
    make_old_array(true, 30000);
    for (unsigned round = 0; round < 20; round++) {
        size_t start = round * 999, count = round * 131 + 1;
        struct node *n = reveal(make_young(round));
        gc_will_write(array, array + start, count);
        for (size_t i = start; i < start + count; i++)
            if (i % 3 != 1) array[i] = n;
        n = NULL;
        collect(GC_MINOR);
        REQUIRE_EQUAL(((struct node *)array[start])->number, round);
        REQUIRE(start % 3 == 0 && array[start + (count - 1) / 3 * 3] == array[start]);
    }
}

/* ---- Wrong calls ---------------------------------------------------------------------------- */

static void (*volatile write_out_of_line)(void *, void *, const void *) = gc_write;
static void (*volatile announce_out_of_line)(void *, void *, size_t) = gc_will_write;

static void out_of_line_it_does_the_same(void) {
    need_optimised_code();
    make_old();
    uintptr_t young = make_young(17);
    struct node *node = old(600);
    write_out_of_line(node, &node->other, reveal(young));
    announce_out_of_line(node, node, 3);
    collect(GC_MINOR);
    REQUIRE_EQUAL(number_of_other(600), 17);
}
static void a_slot_in_another_object_is_refused(void) {
    make_old();
    write_out_of_line(first, first->next, first); /* meant was &first->next */
}
static void a_slot_behind_the_object_is_refused(void) {
    make_old();
    announce_out_of_line(first, &first->other, 10);
}
static void a_slot_on_the_stack_is_refused(void) {
    make_old();
    void *slot;
    write_out_of_line(first, &slot, first);
}
static void what_is_no_object_is_refused(void) {
    make_old();
    write_out_of_line((char *)first + 8, &first->number, first);
}

/* ---- Threads, children ---------------------------------------------------------------------- */

enum { THREADS = 3, SLOTS = 6000, ROUNDS = 12 };

/* Stores into every THREADS-th slot: the threads share cards. */
static void *store_here_and_there(void *number) {
    uint64_t own = (uintptr_t)number, random = own + 1;
    static uint64_t stored[SLOTS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 3000; i++) {
            size_t slot = next_random(&random) % (SLOTS / THREADS) * THREADS + own;
            struct node *n = gc_new(struct node);
            n->number = stored[slot] = next_random(&random);
            gc_write(array, &array[slot], n);
            if (i % 5 == 0) gc_alloc_leaf(100);
        }
        if (round % 4 == own) gc_collect(round == 4 ? GC_FULL : GC_MINOR);
        for (size_t slot = own; slot < SLOTS; slot += THREADS)
            if (stored[slot] != 0)
                REQUIRE_EQUAL(((struct node *)array[slot])->number, stored[slot]);
    }
    return NULL;
}

static void threads_store_into_one_array(void) {
    make_old();
    array = gc_alloc_array(gc_type_of(gc_new(struct pointer)), SLOTS);
    settle_old();
    pthread_t threads[THREADS - 1];
    for (uintptr_t i = 1; i < THREADS; i++)
        threads[i - 1] = start_thread(store_here_and_there, (void *)i);
    store_here_and_there((void *)0);
    for (unsigned i = 1; i < THREADS; i++) end_thread(threads[i - 1]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* One copies what others change. */
static int shall_end;

static void *change_all_the_time(void *half) {
    void **from = array + (uintptr_t)half;
    for (uint64_t i = 1; !look_at(&shall_end); i++) {
        struct node *n = gc_new(struct node);
        n->number = i;
        gc_write(array, &from[i % 1000], n);
    }
    return NULL;
}

static void what_others_change_may_be_copied(void) {
    make_old();
    array = gc_alloc_array(gc_type_of(gc_new(struct pointer)), 4000);
    settle_old();
    pthread_t a = start_thread(change_all_the_time, (void *)0);
    pthread_t b = start_thread(change_all_the_time, (void *)1000);
    for (unsigned round = 0; round < 3000; round++) {
        gc_copy_slots(array, array + 2000 + round % 7, array + round % 11, 1900);
        if (round % 16 != 0) continue;
        if (round % 64 == 0) gc_collect(GC_MINOR);
        for (size_t i = 2000; i < 4000; i++)
            if (array[i] != NULL) REQUIRE(gc_type_of(array[i]) == gc_type_of(first));
    }
    raise_flag(&shall_end, 1);
    end_thread(a);
    end_thread(b);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_child_goes_on(void) {
    need_optimised_code();
    make_old();
    enum gc_barrier kind = (enum gc_barrier)statistics().barrier;
    store(77, 1);
    pid_t child = fork();
    REQUIRE(child >= 0);
    for (unsigned i = 0; i < 5; i++) {
        store(99 + i, i);
        collect(GC_MINOR);
        REQUIRE(number_of_other(77) == 1 && number_of_other(99 + i) == i);
        if (i == 2) settle_old();
    }
    REQUIRE_EQUAL(statistics().barrier, kind);
    REQUIRE(statistics().closed_blocks > 0);
    if (child == 0) return;
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

/* ---- Main ----------------------------------------------------------------------------------- */

#define UNDER_ALL(f)                                                                               \
    CHILD_TEST(f, TYPED, STRICT), CHILD_TEST(f, ALL, STRICT), CHILD_TEST(f, CROSS, STRICT),        \
        CHILD_TEST(f, CROSS_ALL, STRICT), CHILD_TEST(f, "CAIRN_BARRIER=uffd", STRICT),             \
        CHILD_TEST(f, "CAIRN_BARRIER=mprotect", STRICT),                                           \
        CHILD_TEST(f, "CAIRN_BARRIER=none", STRICT)

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
        UNDER_ALL(what_is_stored_in_old_objects_lives),
        CHILD_TEST(a_store_that_skips_gc_write_is_lost, TYPED),
        CHILD_TEST(a_store_that_skips_gc_write_is_lost, ALL),
        CHILD_TEST(the_program_may_choose_it),
        CHILD_TEST(auto_does_not_take_it),
        CHILD_SAYS(
            without_a_promise_it_is_not_to_be_had, "does not promise", "CAIRN_BARRIER=explicit"),
        CHILD_SAYS(a_skipped_store_is_found,
            "16 bytes into the old object of 32 bytes (type struct node)", CROSS, "CAIRN_POISON=1"),
        CHILD_SAYS(a_skipped_store_is_found, "refers to the young object (type struct node) at",
            CROSS_ALL),
        CHILD_SAYS(a_skipped_store_is_found, "missed store", "CAIRN_BARRIER=explicit-cross"),
        CHILD_ABORT(a_skipped_store_aborts,
            "references stored into old objects without gc_write(): 1", CROSS, STRICT),
        CHILD_SAYS(a_skipped_store_is_found_by_a_full_collection, "missed store", CROSS),
        CHILD_SAYS(a_skipped_store_beside_another_is_found, "missed store", CROSS),
        CHILD_TEST(stores_of_numbers_and_old_references_are_nothing, CROSS, STRICT),
        CHILD_TEST(stores_of_numbers_and_old_references_are_nothing, CROSS_ALL, STRICT),
        cmocka_unit_test(twenty_messages),
        UNDER_ALL(references_in_typed_arrays_live),
        UNDER_ALL(references_in_untyped_objects_live),
        CHILD_TEST(a_card_behind_a_freed_array_is_searched, TYPED, STRICT),
        CHILD_TEST(a_card_behind_a_freed_untyped_object_is_searched, ALL, STRICT),
        CHILD_TEST(untyped_objects_need_no_gc_write_without_the_promise, TYPED, STRICT),
        CHILD_TEST(untyped_objects_need_no_gc_write_without_the_promise, CROSS, STRICT),
        CHILD_SAYS(a_skipped_store_into_an_array_is_found, "299976 bytes into the old", CROSS),
        CHILD_SAYS(a_skipped_store_into_an_untyped_object_is_found,
            "299976 bytes into the old object of 303104 bytes (type none)", CROSS_ALL),
        UNDER_ALL(copied_references_live_and_may_overlap),
        UNDER_ALL(an_exchange_that_is_announced_is_seen),
        UNDER_ALL(a_range_that_is_announced_is_seen),
        UNDER_ALL(out_of_line_it_does_the_same),
        CHILD_ABORT(a_slot_in_another_object_is_refused, "no slot of that object", TYPED),
        CHILD_ABORT(a_slot_behind_the_object_is_refused, "gc_will_write(0x", TYPED),
        CHILD_ABORT(a_slot_on_the_stack_is_refused, "no slot of that object"),
        CHILD_ABORT(what_is_no_object_is_refused, "or no object", TYPED),
        UNDER_ALL(threads_store_into_one_array),
        CHILD_TEST(threads_store_into_one_array, TYPED, "CAIRN_NURSERY=256K"),
        CHILD_TEST(threads_store_into_one_array, TYPED, STRICT, "CAIRN_STRESS=313"),
        CHILD_TEST(what_others_change_may_be_copied, TYPED, "CAIRN_NURSERY=64K", "CAIRN_POISON=1"),
        CHILD_TEST(what_others_change_may_be_copied, CROSS, STRICT),
        CHILD_TEST(a_child_goes_on, TYPED, STRICT),
        CHILD_TEST(a_child_goes_on, CROSS, STRICT),
        CHILD_TEST(a_child_goes_on, "CAIRN_BARRIER=uffd", STRICT),
    };
    return cmocka_run_group_tests_name("gc_write", tests, NULL, NULL);
}
