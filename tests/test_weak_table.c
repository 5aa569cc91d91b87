/* Tables with weak and strong keys and values: each rule of docs/ephemerons.md from 11 on, and a
 * random program beside a shadow of the table. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "child.h"
#include "support.h"
#include "threads_support.h"

struct node {
    void *other;
    uint64_t number;
    uint64_t hash; /* of those that are keys by number */
};
GC_TYPE(struct node, other);

struct slot {
    void *p;
};
GC_TYPE(struct slot, p);

/* All that lives, table included, is in slots that nothing ambiguous refers to: what the test holds
 * it can drop, and it moves. */
enum { KEYS = 600, TABLE = 2 * KEYS, SLOTS };
static gc_handle *array;

static void *at(size_t slot) {
    return ((struct slot *)gc_handle_get(array))[slot].p;
}

static void put(size_t slot, void *p) {
    struct slot *slots = gc_handle_get(array);
    gc_write(slots, &slots[slot].p, p);
}

static __attribute__((noinline)) void make_table(
    enum gc_table_kind kind, gc_table_hash *hash, gc_table_equal *equal) {
    gc_table *table = gc_table_new(kind, hash, equal);
    REQUIRE(table != NULL);
    put(TABLE, table);
}

static __attribute__((noinline)) void start(
    enum gc_table_kind kind, gc_table_hash *hash, gc_table_equal *equal) {
    if (array == NULL) array = gc_handle_new(NULL);
    REQUIRE(array != NULL);
    gc_handle_set(array, gc_alloc_array(gc_type_of(gc_new(struct slot)), SLOTS));
    make_table(kind, hash, equal);
}

static __attribute__((noinline)) void put_node(size_t slot, uint64_t number) {
    struct node *p = gc_new(struct node);
    REQUIRE(p != NULL);
    p->number = p->hash = number;
    put(slot, p);
}

/* Key I and its value are new: in slots I and KEYS + I.  They may refer to each other. */
static __attribute__((noinline)) void add(size_t i, bool key_to_value, bool value_to_key) {
    put_node(i, i);
    put_node(KEYS + i, 1000000 + i);
    struct node *key = at(i), *value = at(KEYS + i);
    if (key_to_value) gc_write(key, &key->other, value);
    if (value_to_key) gc_write(value, &value->other, key);
    REQUIRE_EQUAL(gc_table_set(at(TABLE), key, value), 0);
}

static __attribute__((noinline)) uint64_t number_at(size_t i) {
    const struct node *value = gc_table_get(at(TABLE), at(i));
    return value != NULL ? value->number : 0;
}

static __attribute__((noinline)) size_t count(void) {
    return gc_table_count(at(TABLE));
}

static void drop(size_t from, size_t to) {
    for (size_t i = from; i < to; i++) put(i, NULL);
}

/* A few may be kept by what was left on the stack, which with precise stacks doesn't count. */
static bool is_about(size_t n, size_t expected) {
    return n >= expected && n <= expected + (precise() ? 0 : 4);
}

/* ---- What each kind keeps ------------------------------------------------------------------- */

static void try_kind(enum gc_table_kind kind, enum gc_collection how, size_t without_keys,
    size_t without_values, size_t without_both) {
    enum { COUNT = 100 };
    need_optimised_code();
    for (unsigned cycle = 0; cycle < 4; cycle++) {
        for (unsigned drops = 0; drops < 4; drops++) {
            start(kind, NULL, NULL);
            for (size_t i = 0; i < COUNT; i++) add(i, cycle & 1, cycle & 2);
            REQUIRE_EQUAL(count(), COUNT);
            if (drops & 1) drop(0, COUNT);
            if (drops & 2) drop(KEYS, KEYS + COUNT);
            collect(how);
            size_t expected = drops == 0   ? COUNT
                              : drops == 1 ? (cycle & 2 ? COUNT : without_keys)
                              : drops == 2 ? (cycle & 1 ? COUNT : without_values)
                                           : without_both;
            if (kind == GC_TABLE_WEAK_KEYS && drops == 2) expected = COUNT;
            if (kind == GC_TABLE_WEAK_VALUES && drops == 1) expected = COUNT;
            REQUIRE(is_about(count(), expected));
            for (size_t i = 0; i < COUNT && !(drops & 1); i++)
                if (expected == COUNT) REQUIRE_EQUAL(number_at(i), 1000000 + i);
            REQUIRE_EQUAL(gc_verify(), 0);
        }
    }
}

static void try_kinds(enum gc_collection how) {
    try_kind(GC_TABLE_STRONG, how, 100, 100, 100);
    try_kind(GC_TABLE_WEAK_KEYS, how, 0, 100, 0);
    try_kind(GC_TABLE_WEAK_VALUES, how, 100, 0, 0);
    try_kind(GC_TABLE_WEAK_BOTH, how, 0, 0, 0);
}

static void each_kind_keeps_what_it_should(void) {
    try_kinds(GC_FULL);
}

static void minor_collections_do_the_same(void) {
    try_kinds(GC_MINOR);
}

static void compactions_do_the_same(void) {
    try_kinds(GC_COMPACT);
}

static __attribute__((noinline)) void make_chain(size_t length, bool backwards) {
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (size_t i = 0; i < length; i++) put_node(i, i);
    for (size_t n = 0; n + 1 < length; n++) {
        size_t i = backwards ? length - 2 - n : n;
        REQUIRE_EQUAL(gc_table_set(at(TABLE), at(i), at(i + 1)), 0);
    }
    drop(1, length);
}

static void chains_through_a_table_live_and_die(void) {
    need_optimised_code();
    for (unsigned backwards = 0; backwards < 2; backwards++) {
        make_chain(KEYS, backwards);
        collect(GC_MINOR);
        collect(GC_FULL);
        REQUIRE_EQUAL(count(), KEYS - 1);
        drop(0, 1);
        collect(GC_FULL);
        REQUIRE(count() <= (precise() ? 0 : 10));
    }
}

static void an_entry_of_an_old_table_gets_a_young_value(void) {
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (size_t i = 0; i < 100; i++) add(i, false, false);
    drop(KEYS, KEYS + 100);
    settle_old();
    for (size_t i = 0; i < 100; i += 7) {
        put_node(KEYS, 5000 + i);
        REQUIRE_EQUAL(gc_table_set(at(TABLE), at(i), at(KEYS)), 0);
        put(KEYS, NULL);
        collect(GC_MINOR);
        REQUIRE_EQUAL(number_at(i), 5000 + i);
        add(100 + i, false, false);
        put(KEYS + 100 + i, NULL);
        collect(GC_MINOR);
        REQUIRE_EQUAL(number_at(100 + i), 1000100 + i);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Keys ----------------------------------------------------------------------------------- */

static uintptr_t hash_number(const void *key) {
    return ((const struct node *)key)->hash % 7; /* many are the same */
}

static int equal_number(const void *a, const void *b) {
    return ((const struct node *)a)->number == ((const struct node *)b)->number;
}

static void keys_that_are_equal_are_the_same(void) {
    start(GC_TABLE_WEAK_KEYS, hash_number, equal_number);
    for (size_t i = 0; i < 100; i++) add(i, false, false);
    for (size_t i = 0; i < 100; i++) {
        put_node(KEYS - 1, i);
        REQUIRE(gc_table_get(at(TABLE), at(KEYS - 1)) == at(KEYS + i));
        if (i % 3 == 0) REQUIRE_EQUAL(gc_table_remove(at(TABLE), at(KEYS - 1)), 0);
        if (i % 3 == 1) REQUIRE_EQUAL(gc_table_set(at(TABLE), at(KEYS - 1), at(KEYS)), 0);
        if (i % 10 == 5) collect(i % 4 == 3 ? GC_COMPACT : GC_MINOR);
    }
    REQUIRE_EQUAL(count(), 66);
    REQUIRE_EQUAL(number_at(0), 0);
    REQUIRE_EQUAL(number_at(1), 1000000);
    REQUIRE_EQUAL(number_at(2), 1000002);
}

static void keys_may_be_no_objects(void) {
    start(GC_TABLE_WEAK_BOTH, NULL, NULL);
    for (uintptr_t i = 1; i < 1000; i++)
        REQUIRE_EQUAL(gc_table_set(at(TABLE), (void *)i, (void *)(i + 7)), 0);
    collect(GC_FULL);
    for (uintptr_t i = 1; i < 1000; i++)
        REQUIRE(gc_table_get(at(TABLE), (void *)i) == (void *)(i + 7));
    REQUIRE_EQUAL(count(), 999);
    collect(GC_MINOR);
    for (uintptr_t i = 1; i < 1000; i += 2) REQUIRE_EQUAL(gc_table_remove(at(TABLE), (void *)i), 0);
    REQUIRE_EQUAL(count(), 499);
    REQUIRE_EQUAL(gc_table_remove(at(TABLE), (void *)(uintptr_t)3), ENOENT);
}

static void what_cant_be_in_a_table_is_refused(void) {
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    add(0, false, false);
    char *inside = at(0);
    REQUIRE_EQUAL(gc_table_set(at(TABLE), NULL, inside), EINVAL);
    REQUIRE_EQUAL(gc_table_set(at(TABLE), inside, NULL), EINVAL);
    REQUIRE_EQUAL(gc_table_set(at(TABLE), inside + 8, inside), EINVAL);
    REQUIRE_EQUAL(gc_table_set(at(TABLE), inside, inside + 8), EINVAL);
    REQUIRE(gc_table_get(at(TABLE), NULL) == NULL && gc_table_get(at(TABLE), inside + 8) == NULL);
    REQUIRE_EQUAL(gc_table_remove(at(TABLE), NULL), ENOENT);
    REQUIRE_EQUAL(count(), 1);
    REQUIRE_EQUAL(number_at(0), 1000000);
    errno = 0;
    REQUIRE(gc_table_new((enum gc_table_kind)4, NULL, NULL) == NULL && errno == EINVAL);
    errno = 0;
    REQUIRE(gc_table_new(GC_TABLE_STRONG, hash_number, NULL) == NULL && errno == EINVAL);
}

static void an_empty_table_has_nothing(void) {
    size_t position = 0;
    void *key, *value;
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    put_node(0, 1);
    REQUIRE(count() == 0 && gc_table_get(at(TABLE), at(0)) == NULL);
    REQUIRE_EQUAL(gc_table_remove(at(TABLE), at(0)), ENOENT);
    REQUIRE_EQUAL(gc_table_next(at(TABLE), &position, &key, &value), 0);
}

/* ---- Iterating, growing --------------------------------------------------------------------- */

static void iterating_finds_each_entry_once_in_order(void) {
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (size_t i = 0; i < 300; i++) add(i, false, false);
    collect(GC_MINOR);
    size_t position = 0, found = 0;
    void *key, *value;
    while (gc_table_next(at(TABLE), &position, &key, &value)) {
        REQUIRE_EQUAL(((struct node *)key)->number, found);
        REQUIRE(value == at(KEYS + found));
        if (found % 2 == 0) REQUIRE_EQUAL(gc_table_remove(at(TABLE), key), 0);
        if (found % 64 == 10) REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        found++;
    }
    REQUIRE_EQUAL(found, 300);
    REQUIRE_EQUAL(count(), 150);
    REQUIRE(!gc_table_next(at(TABLE), &position, &key, &value) && key == NULL && value == NULL);
}

static __attribute__((noinline)) void fill(size_t n) {
    for (size_t i = 0; i < n; i++) {
        put_node(0, i);
        REQUIRE_EQUAL(gc_table_set(at(TABLE), at(0), at(0)), 0);
    }
}

static void a_table_shrinks_again(void) {
    need_optimised_code();
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (unsigned round = 0; round < 3; round++) {
        gc_disable();
        fill(50000);
        REQUIRE(count() >= 50000);
        gc_enable();
        collect(GC_FULL);
        REQUIRE(count() <= 10);
        fill(1);
        collect(GC_FULL);
        REQUIRE(statistics().live_bytes < 200000);
    }
}

static void without_memory_nothing_is_lost(void) {
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    static gc_handle *list;
    list = gc_handle_new(NULL);
    uint64_t made = 0;
    int error = 0;
    for (; error == 0; made++) {
        struct node *p = gc_new(struct node);
        if (p == NULL) break;
        p->number = made;
        p->other = gc_handle_get(list);
        gc_handle_set(list, p);
        error = gc_table_set(at(TABLE), p, (void *)(uintptr_t)(made + 1));
        if (error != 0) gc_handle_set(list, p->other);
    }
    REQUIRE(error == ENOMEM && made > 1000);
    uint64_t found = 0;
    for (struct node *p = gc_handle_get(list); p != NULL; p = p->other, found++)
        REQUIRE(gc_table_get(at(TABLE), p) == (void *)(uintptr_t)(p->number + 1));
    REQUIRE_EQUAL(found, made - 1);
    REQUIRE_EQUAL(count(), found);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- A random program ----------------------------------------------------------------------- */

/* What the table should have: of each key that is held, or would be. */
static struct {
    bool in_table;
    uint64_t value; /* its number */
} shadow[KEYS];

static __attribute__((noinline)) void forget(size_t i) {
    put(i, NULL);
    put(KEYS + i, NULL);
    shadow[i].in_table = false;
}

static __attribute__((noinline)) void step(struct bench_random *random) {
    size_t i = bench_random_below(random, KEYS);
    uint64_t what = bench_random_below(random, 100),
             number = 1 + bench_random_below(random, 1u << 30);
    if (at(i) == NULL) {
        put_node(i, bench_random_next(random));
        shadow[i].in_table = false;
    }
    if (what < 50) {
        put_node(KEYS + i, number);
        struct node *value = at(KEYS + i);
        if (what % 2 == 0) gc_write(value, &value->other, at(i));
        REQUIRE_EQUAL(gc_table_set(at(TABLE), at(i), at(KEYS + i)), 0);
        shadow[i].in_table = true;
        shadow[i].value = number;
    } else if (what < 65) {
        REQUIRE_EQUAL(gc_table_remove(at(TABLE), at(i)), shadow[i].in_table ? 0 : ENOENT);
        shadow[i].in_table = false;
    } else if (what < 90) {
        REQUIRE_EQUAL(number_at(i), shadow[i].in_table ? shadow[i].value : 0);
    } else {
        forget(i);
    }
}

static void compare(size_t most_late) {
    size_t expected = 0;
    for (size_t i = 0; i < KEYS; i++) {
        if (at(i) == NULL) continue;
        REQUIRE_EQUAL(number_at(i), shadow[i].in_table ? shadow[i].value : 0);
        expected += shadow[i].in_table;
    }
    REQUIRE(count() >= expected && count() <= expected + most_late);
    size_t position = 0, found = 0;
    void *key, *value;
    while (gc_table_next(at(TABLE), &position, &key, &value)) found++;
    REQUIRE_EQUAL(found, count());
}

/* EXACT: nothing collects but what is asked for, and no word on a stack counts. */
static void run_random(enum gc_table_kind kind, bool by_number, unsigned steps, bool exact) {
    struct bench_random random = {kind + 17};
    memset(shadow, 0, sizeof shadow);
    start(kind, by_number ? hash_number : NULL, by_number ? equal_number : NULL);
    for (unsigned n = 1; n <= steps; n++) {
        step(&random);
        if (n % 200 != 0) continue;
        compare(SIZE_MAX / 2);
        collect(n % 1600 == 0 ? GC_COMPACT : n % 800 == 0 ? GC_FULL : GC_MINOR);
        bool all = n % 800 == 0; /* those that died old are still there otherwise */
        compare(!all || !exact || kind == GC_TABLE_STRONG ? SIZE_MAX / 2 : 0);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

static void all_kinds_agree_with_a_shadow(void) {
    for (unsigned kind = 0; kind < 4; kind++)
        run_random((enum gc_table_kind)kind, false, 3200, false);
    run_random(GC_TABLE_WEAK_KEYS, true, 1600, false);
}

static void after_a_collection_the_count_is_exact(void) {
    for (unsigned kind = 0; kind < 4; kind++)
        run_random((enum gc_table_kind)kind, false, 6400, true);
}

/* ---- Threads -------------------------------------------------------------------------------- */

enum { THREADS = 3, EACH = 200 };
static int done;

/* All use one table, each with keys of its own. */
static void *use_table(void *number) {
    size_t first = (size_t)(uintptr_t)number * EACH;
    struct bench_random random = {first + 1};
    static uint64_t values[THREADS * EACH];
    for (unsigned n = 0; n < 4000; n++) {
        size_t i = first + bench_random_below(&random, EACH);
        uint64_t what = bench_random_below(&random, 10);
        if (what == 0 || at(i) == NULL) {
            put_node(i, i);
            values[i] = 0;
        }
        if (what < 4) {
            values[i] = n + 1;
            put_node(KEYS + i, n + 1);
            struct node *value = at(KEYS + i);
            gc_write(value, &value->other, at(i));
            REQUIRE_EQUAL(gc_table_set(at(TABLE), at(i), value), 0);
            put(KEYS + i, NULL);
        } else if (what < 5) {
            REQUIRE_EQUAL(gc_table_remove(at(TABLE), at(i)), values[i] ? 0 : ENOENT);
            values[i] = 0;
        } else {
            REQUIRE_EQUAL(number_at(i), values[i]);
        }
    }
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    return number;
}

static void threads_share_a_table(void) {
    pthread_t threads[THREADS];
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(use_table, (void *)i);
    for (int i = 0; look_at(&done) < THREADS; i++) {
        REQUIRE_EQUAL(gc_collect(i % 16 == 15 ? GC_COMPACT : i % 4 == 3 ? GC_FULL : GC_MINOR), 0);
        nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
    REQUIRE(count() <= THREADS * EACH + 3000);
    collect(GC_FULL);
    REQUIRE(count() <= THREADS * EACH + 10);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- All of them ---------------------------------------------------------------------------- */

#define PRECISE "CAIRN_STACK_SCAN=precise", "CAIRN_NURSERY=256M"
#define STRESS  "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_STRESS=41"

/* ---- Finalizers ----------------------------------------------------------------------------- */

static size_t dropped;

static void use_the_table(void *p, void *data) {
    (void)p, (void)data;
    dropped++;
    REQUIRE_EQUAL(gc_table_set(at(TABLE), (void *)3, (void *)dropped), 0);
    REQUIRE(gc_table_get(at(TABLE), (void *)3) == (void *)dropped);
}

static __attribute__((noinline)) void make_finalized(void) {
    void *p = gc_alloc(64);
    REQUIRE_EQUAL(gc_finalizer_set(p, use_the_table, NULL, GC_UNORDERED), 0);
}

/* They run in the allocation with which a table grows, too. */
static void a_finalizer_that_runs_inline_may_use_the_table(void) {
    start(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (size_t i = 0; i < KEYS; i++) {
        put_node(i, i);
        put_node(KEYS + i, 1000000 + i);
        for (unsigned n = 0; n < 3; n++) make_finalized();
        clear_stack();
        REQUIRE_EQUAL(gc_table_set(at(TABLE), at(i), at(KEYS + i)), 0);
    }
    for (size_t i = 0; i < KEYS; i++) REQUIRE_EQUAL(number_at(i), 1000000 + i);
    REQUIRE_EQUAL(count(), KEYS + 1);
    REQUIRE(dropped > KEYS / 2);
}

/* ---- Names ---------------------------------------------------------------------------------- */

/* The library's types are in no program's way. */
static void a_program_may_have_types_of_the_same_names(void) {
    static const char *const names[] = {"gc_table", "gc_ephemeron", "gc_table, weak"};
    start(GC_TABLE_WEAK_BOTH, NULL, NULL);
    add(0, false, false);
    REQUIRE(gc_ephemeron_new(at(0), at(0)) != NULL);
    for (size_t i = 0; i < 3; i++) {
        gc_type_desc desc = {.name = names[i], .size = 48, .flags = GC_TYPE_LEAF};
        const gc_type *type = gc_type_register(&desc);
        REQUIRE(type != NULL);
        REQUIRE(gc_type_register(&desc) == NULL && errno == EEXIST);
        REQUIRE(gc_alloc_typed(type) != NULL);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(each_kind_keeps_what_it_should),
        CHILD_TEST(minor_collections_do_the_same),
        CHILD_TEST(compactions_do_the_same),
        CHILD_TEST(compactions_do_the_same, "CAIRN_VERIFY=1", PRECISE),
        CHILD_TEST(minor_collections_do_the_same, "CAIRN_VERIFY=1", PRECISE),
        CHILD_TEST(chains_through_a_table_live_and_die, "CAIRN_VERIFY=1"),
        CHILD_TEST(chains_through_a_table_live_and_die, "CAIRN_VERIFY=1", PRECISE),
        CHILD_TEST(an_entry_of_an_old_table_gets_a_young_value, "CAIRN_VERIFY=1"),
        CHILD_TEST(
            an_entry_of_an_old_table_gets_a_young_value, "CAIRN_VERIFY=1", "CAIRN_BARRIER=cross"),
        CHILD_TEST(an_entry_of_an_old_table_gets_a_young_value, "CAIRN_VERIFY=1",
            "CAIRN_WRITES_EXPLICITLY=typed", "CAIRN_BARRIER=explicit-cross"),
        CHILD_TEST(keys_that_are_equal_are_the_same),
        CHILD_TEST(keys_that_are_equal_are_the_same, STRESS, "CAIRN_STACK_SCAN=precise"),
        CHILD_TEST(keys_may_be_no_objects),
        CHILD_SAYS(
            what_cant_be_in_a_table_is_refused, "gc_table_new(4, ...): expected a kind from", NULL),
        CHILD_TEST(an_empty_table_has_nothing),
        CHILD_TEST(iterating_finds_each_entry_once_in_order),
        CHILD_TEST(a_table_shrinks_again),
        CHILD_TEST(without_memory_nothing_is_lost, "CAIRN_HEAP_LIMIT=16M"),
        CHILD_TEST(all_kinds_agree_with_a_shadow, "CAIRN_NURSERY=64K"),
        CHILD_TEST(all_kinds_agree_with_a_shadow, STRESS),
        CHILD_TEST(all_kinds_agree_with_a_shadow, STRESS, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(all_kinds_agree_with_a_shadow, STRESS, "CAIRN_WRITES_EXPLICITLY=typed",
            "CAIRN_BARRIER=explicit-cross"),
        CHILD_TEST(all_kinds_agree_with_a_shadow, STRESS, "CAIRN_STACK_SCAN=precise"),
        CHILD_TEST(all_kinds_agree_with_a_shadow, STRESS, "CAIRN_TAG_MASK=7",
            "CAIRN_TAG_ADDRESS_MASK=0xfffffffffffffff8"),
        CHILD_TEST(after_a_collection_the_count_is_exact, PRECISE),
        CHILD_TEST(after_a_collection_the_count_is_exact, PRECISE, "CAIRN_MARK_STACK_LIMIT=4096"),
        CHILD_TEST(a_finalizer_that_runs_inline_may_use_the_table, "CAIRN_FINALIZERS=inline",
            "CAIRN_STRESS=1", "CAIRN_VERIFY=1"),
        CHILD_TEST(a_finalizer_that_runs_inline_may_use_the_table, "CAIRN_FINALIZERS=inline",
            PRECISE, "CAIRN_STRESS=1"),
        CHILD_TEST(a_program_may_have_types_of_the_same_names),
        CHILD_TEST(threads_share_a_table, "CAIRN_NURSERY=256K"),
        CHILD_TEST(threads_share_a_table, "CAIRN_NURSERY=256K", "CAIRN_STOP=safepoint"),
        CHILD_TEST(
            threads_share_a_table, "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_BARRIER=mprotect"),
    };
    return cmocka_run_group_tests_name("weak_table", tests, NULL, NULL);
}
