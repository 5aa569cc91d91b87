/* gc_explain(): it names the root that keeps an object alive - a frame by its function, a static
 * variable by its symbol, thread-local storage, a registered range - and the chain of objects that
 * leads from it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cairn/embed.h"
#include "child.h"
#include "support.h"

struct pair {
    struct pair *left, *right;
};

struct record {
    uintptr_t number;
    struct record *next;
    struct pair *pair;
    struct record *table;
};
GC_TYPE(struct record, next, pair, table);

static uintptr_t target;

static void explain(void) {
    need_optimised_code();
    clear_stack();
    REQUIRE_EQUAL(gc_explain(reveal(target)), 0);
}

static __attribute__((noinline)) void frame_that_holds_the_object(void) {
    struct pair *volatile held = gc_alloc(64);
    target = hide(held);
    explain();
    REQUIRE(held != NULL);
}

static void a_frame_is_named(void) {
    frame_that_holds_the_object();
}

static struct pair *volatile variable_that_holds_the_object;

static __attribute__((noinline)) void hold_in_variable(void) {
    variable_that_holds_the_object = gc_alloc(64);
    target = hide(variable_that_holds_the_object);
}

static void a_static_variable_is_named(void) {
    hold_in_variable();
    explain();
}

static void a_static_variable_is_named_after_a_collection(void) {
    hold_in_variable();
    collect(GC_FULL);
    explain();
}

static void *volatile table_that_holds_objects[100];

static __attribute__((noinline)) void hold_in_table(void) {
    char *p = gc_alloc(64);
    table_that_holds_objects[10] = p + 20;
    target = hide(p + 40);
}

static void an_array_is_named_with_the_offset(void) {
    hold_in_table();
    explain();
}

static __thread struct pair *volatile local;

static __attribute__((noinline)) void hold_in_local(void) {
    local = gc_alloc(5000);
    target = hide(local);
}

static void thread_local_storage_is_named(void) {
    hold_in_local();
    explain();
}

static __attribute__((noinline)) void hold_in_range(void **range) {
    range[3] = gc_alloc(64);
    target = hide(range[3]);
}

static void a_range_is_named(void) {
    void **range = calloc(8, sizeof *range);
    REQUIRE_EQUAL(gc_add_root(range, 8 * sizeof *range), 0);
    hold_in_range(range);
    explain();
    REQUIRE_EQUAL(gc_remove_root(range, 8 * sizeof *range), 0);
    free(range);
}

/* Three objects: the first refers to the second by its word at +8, that one to the third at +0. */
static __attribute__((noinline)) void hold_a_chain(void) {
    struct pair *b = gc_alloc(32), *a = gc_alloc(sizeof *a);
    b->left = gc_alloc_leaf(100000);
    a->right = b;
    variable_that_holds_the_object = a;
    target = hide((char *)b->left + 70000);
}

static void a_chain_is_printed(void) {
    hold_a_chain();
    explain();
}

static __attribute__((noinline)) void hold_a_long_chain(void) {
    struct pair *first = NULL;
    for (unsigned i = 0; i < 1000; i++) {
        struct pair *p = gc_alloc(sizeof *p);
        gc_alloc(16); /* or the root, at the border of two of them, would hold both */
        if (first == NULL) target = hide(p);
        p->left = first;
        first = p;
    }
    variable_that_holds_the_object = first;
}

static void a_long_chain_is_cut_in_the_middle(void) {
    hold_a_long_chain();
    explain();
}

/* Through fields of typed objects, an array's among them, to one without a type. */
static __attribute__((noinline)) void hold_by_fields(struct record **slot) {
    struct record *first = gc_new(struct record), *second = gc_new(struct record);
    *slot = first;
    first->next = second;
    second->table = gc_alloc_array(gc_type_of(first), 10);
    second->table[7].pair = gc_alloc(sizeof(struct pair));
    second->table[7].pair->right = gc_alloc(48);
    target = hide(second->table[7].pair->right);
}

static void fields_are_named_by_their_types(void) {
    struct record **slot = calloc(1, sizeof *slot);
    REQUIRE_EQUAL(gc_add_slots((void **)slot, 1), 0);
    hold_by_fields(slot);
    explain();
}

static void a_path_names_types_and_fields(void **state) {
    static struct child_result result;
    (void)state;
#ifndef __OPTIMIZE__
    skip();
#endif
    child_run(&result, fields_are_named_by_their_types, NULL);
    assert_int_equal(result.status, 0);
    const char *at = result.output;
    static const char *const parts[] = {"root: slot given to gc_add_slots",
        ", struct record, 32 bytes, by its field next, at +8\n",
        ", struct record, 32 bytes, by its field table, at +24\n",
        ", struct record, 320 bytes, by the field pair of its element 7, at +240\n",
        ", 16 bytes, by its word at +8\n", ", 48 bytes\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        at = strstr(at, parts[i]);
        if (at == NULL) print_message("%s", result.output);
        assert_non_null(at);
    }
}

/* Two objects one behind the other: the slot of the second means nothing of the first. */
static __attribute__((noinline)) void hold_the_second(void **slots) {
    for (int i = 0; i < 100; i++) {
        char *second = gc_alloc(64), *first = gc_alloc(64); /* downwards */
        if (first + 64 != second) continue;
        slots[0] = second;
        target = hide(first);
        return;
    }
    child_fail(__FILE__, __LINE__, "no two objects lie side by side");
}

static void a_slot_does_not_mean_what_ends_where_it_points(void) {
    need_optimised_code();
    void **slots = calloc(1, sizeof *slots);
    REQUIRE_EQUAL(gc_add_slots(slots, 1), 0);
    hold_the_second(slots);
    clear_stack();
    REQUIRE_EQUAL(gc_explain(reveal(target)), ESRCH);
    REQUIRE_EQUAL(gc_remove_slots(slots, 1), 0);
    REQUIRE_EQUAL(gc_add_root(slots, sizeof *slots), 0);
    REQUIRE_EQUAL(gc_explain(reveal(target)), 0);
}

static uint32_t done;

static void *collect_on(void *none) {
    while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {
        gc_collect(GC_MINOR);
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
    return none;
}

/* With precise stacks nothing but the call itself holds the object where it is. */
static void an_object_does_not_move_while_it_is_waited_for(void) {
    pthread_t thread;
    gc_handle *handle = gc_handle_new(NULL);
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, collect_on, NULL), 0);
    for (int i = 0; i < 300; i++) {
        gc_handle_set(handle, gc_new(struct record));
        REQUIRE_EQUAL(gc_explain(gc_handle_get(handle)), 0);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    REQUIRE_EQUAL(gc_pthread_join(thread, NULL), 0);
}

/* What is only asked about isn't held by that. */
static void the_question_is_no_root(void) {
    need_optimised_code();
    for (int i = 0; i < 10; i++) {
        gc_handle *handle = gc_handle_new(gc_new(struct record));
        uintptr_t hidden = hide(gc_handle_get(handle));
        gc_handle_free(handle);
        REQUIRE_EQUAL(gc_explain(reveal(hidden)), ESRCH);
    }
}

static __attribute__((noinline)) void make_garbage(uintptr_t *hidden, size_t count) {
    for (size_t i = 0; i < count; i++) hidden[i] = hide(gc_alloc(64));
}

static void what_nothing_keeps_is_said_to_be_free(void) {
    static uintptr_t hidden[100];
    unsigned free_objects = 0;
    make_garbage(hidden, 100);
    clear_stack();
    for (size_t i = 0; i < 100; i++) free_objects += gc_explain(reveal(hidden[i])) == ESRCH;
    REQUIRE(free_objects > 80);
}

static void wrong_pointers_are_refused(void) {
    char *p = gc_alloc(64);
    REQUIRE_EQUAL(gc_explain(NULL), EINVAL);
    REQUIRE_EQUAL(gc_explain(&p), EINVAL);
    gc_free(p);
    REQUIRE_EQUAL(gc_explain(p), EINVAL);
}

/* Every part of a chain, in one test of the whole text. */
static void a_chain_has_all_its_parts(void **state) {
    static struct child_result result;
    (void)state;
#ifndef __OPTIMIZE__
    skip();
#endif
    child_run(&result, a_chain_is_printed, NULL);
    assert_int_equal(result.status, 0);
    const char *at = result.output;
    static const char *const parts[] = {"is kept alive by\n",
        "root: static variable variable_that_holds_the_object", "16 bytes, by its word at +8\n",
        "32 bytes, by its word at +0\n", "bytes, leaf\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        at = strstr(at, parts[i]);
        if (at == NULL) print_message("%s", result.output);
        assert_non_null(at);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_SAYS(a_frame_is_named, "root: frame of frame_that_holds_the_object"),
        CHILD_SAYS(
            a_static_variable_is_named, "root: static variable variable_that_holds_the_object in"),
        CHILD_SAYS(a_static_variable_is_named_after_a_collection,
            "root: static variable variable_that_holds_the_object in"),
        CHILD_SAYS(an_array_is_named_with_the_offset,
            "root: static variable table_that_holds_objects+80 in"),
        CHILD_SAYS(thread_local_storage_is_named, "root: thread-local variable"),
        CHILD_SAYS(a_range_is_named, "root: range given to gc_add_root"),
        cmocka_unit_test(a_chain_has_all_its_parts),
        cmocka_unit_test(a_path_names_types_and_fields),
        CHILD_TEST(a_slot_does_not_mean_what_ends_where_it_points),
        CHILD_TEST(an_object_does_not_move_while_it_is_waited_for, "CAIRN_STACK_SCAN=precise"),
        CHILD_TEST(the_question_is_no_root, "CAIRN_STACK_SCAN=precise"),
        CHILD_SAYS(a_long_chain_is_cut_in_the_middle, "... 980 objects ..."),
        CHILD_SAYS(what_nothing_keeps_is_said_to_be_free, "nothing keeps the object at"),
        CHILD_TEST(wrong_pointers_are_refused),
    };
    return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
