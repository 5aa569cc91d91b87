/* Finding what the program lost without gc_free(): what is reported, how often, and from where. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "child.h"
#include "capture.h"
#include "model.h"
#include "support.h"

#ifdef __clang__
#define SITE __attribute__((noinline))
#else
#define SITE __attribute__((noinline, noclone))
#endif

static void *volatile passing;
static void *kept[1000];

static SITE void lose_small(unsigned count) {
    for (unsigned i = 0; i < count; i++) passing = gc_alloc(48);
    passing = NULL;
}
static SITE void lose_cells(unsigned count) {
    for (unsigned i = 0; i < count; i++) passing = gc_alloc_leaf(3000);
    passing = NULL;
}
static SITE void lose_large(unsigned count) {
    for (unsigned i = 0; i < count; i++) passing = gc_alloc(40000);
    passing = NULL;
}

/* What gc_find_leaks() returns and prints. */
static const char *find(size_t *count) {
    clear_stack();
    begin_capture();
    *count = gc_find_leaks();
    return end_capture();
}

/* The number before " objects" in the line before the first that names FUNCTION; 0 if none does. */
static unsigned long objects_at(const char *text, const char *function) {
    const char *name = strstr(text, function), *line = NULL;
    for (const char *at = text; name != NULL && at < name; at++)
        if (strncmp(at, ", allocated by\n", 15) == 0) line = at;
    if (line == NULL) return 0;
    while (line > text && line[-1] != '\n') line--;
    return strtoul(line + strspn(line, " about"), NULL, 10);
}

/* A word left over on the stack, or in a register, may hold one. */
static void require_about(size_t found, size_t expected) {
    printf("%zu found, %zu expected\n", found, expected);
    REQUIRE(found <= expected && found + 2 >= expected);
}

static void lost_objects_are_reported_by_site_once(void) {
    size_t count;
    lose_small(1000);
    lose_cells(100);
    lose_large(10);
    const char *text = find(&count);
    printf("%s", text);
    require_about(count, 1110);
    require_about(objects_at(text, "lose_small"), 1000);
    require_about(objects_at(text, "lose_cells"), 100);
    require_about(objects_at(text, "lose_large"), 10);
    REQUIRE(strstr(text, "lose_large") < strstr(text, "lose_cells")); /* most bytes first */
    REQUIRE(strstr(text, "lose_cells") < strstr(text, "lose_small"));
    REQUIRE(strstr(text, "not sampled") == NULL);
    find(&count);
    REQUIRE(count <= 4);
}

/* Minor collections find most of them. */
static void what_minor_collections_free_is_reported_too(void) {
    size_t count;
    for (volatile unsigned i = 0; i < 20; i++) { /* one call, not unrolled */
        lose_small(500);
        clear_stack();
        collect(GC_MINOR);
    }
    const char *text = find(&count);
    require_about(count, 10000);
    require_about(objects_at(text, "lose_small"), 10000);
}

static void what_is_held_or_was_freed_is_no_leak(void) {
    size_t count;
    for (unsigned i = 0; i < 1000; i++) kept[i] = gc_alloc(16 + i);
    for (unsigned i = 0; i < 1000; i += 2) {
        gc_free(kept[i]);
        kept[i] = NULL;
    }
    for (unsigned i = 1; i < 1000; i += 4) kept[i] = gc_realloc(kept[i], 5000);
    const char *text = find(&count);
    REQUIRE_EQUAL(count, 0);
    REQUIRE(strcmp(text, "cairn: no leaks\n") == 0);
    for (unsigned i = 1; i < 1000; i += 2) gc_free(kept[i]);
    memset(kept, 0, sizeof kept);
    find(&count);
    REQUIRE_EQUAL(count, 0);
}

static void with_samples_all_are_counted_and_some_have_a_site(void) {
    size_t count;
    lose_small(20000);
    lose_large(1000);
    const char *text = find(&count);
    printf("%s", text);
    REQUIRE(count <= 21000 && count >= 20990);
    REQUIRE(strstr(text, "about ") != NULL && strstr(text, "lose_large") != NULL);
    REQUIRE(strstr(text, "were not sampled: site unknown\n") != NULL);
}

static void without_the_option_nothing_is_found(void) {
    lose_small(1000);
    begin_capture();
    size_t count = gc_find_leaks();
    const char *text = end_capture();
    REQUIRE_EQUAL(count, 0);
    REQUIRE(*text == '\0');
}

struct node {
    struct node *next;
    uintptr_t number;
};

static const gc_type *node_type;
static void *list;

static SITE struct node *make_node(struct node *next) {
    gc_any_pointer hold = next;
    struct node *node = gc_alloc_typed(node_type);
    node->next = hold;
    return node;
}

static void start_typed(void) {
    static const uint32_t offsets[] = {0};
    gc_type_desc desc = {.name = "node", .size = 16, .pointers = offsets, .pointer_count = 1};
    node_type = gc_type_register(&desc);
    REQUIRE_EQUAL(gc_add_slots(&list, 1), 0);
}

static void what_moved_is_no_leak(void) {
    size_t count;
    start_typed();
    for (unsigned i = 0; i < 5000; i++) list = make_node(list);
    clear_stack();
    collect(GC_MINOR);
    collect(GC_COMPACT);
    find(&count);
    REQUIRE_EQUAL(count, 0);
    list = NULL;
    const char *text = find(&count);
    require_about(count, 5000);
    require_about(objects_at(text, "make_node"), 5000);
}

/* A table in which objects come and go, by gc_free() or not: the model counts the latter. */
static void random_losses_are_counted_exactly(void) {
    struct bench_random random = {model_seed()};
    size_t lost = 0, found = 0, count;
    for (unsigned step = 0; step < 40000; step++) {
        size_t i = bench_random_below(&random, 1000);
        if (kept[i] != NULL && bench_random_below(&random, 2) == 0) {
            gc_free(kept[i]);
            kept[i] = NULL;
        } else {
            lost += kept[i] != NULL;
            kept[i] = gc_alloc(bench_random_below(&random, step % 50 == 0 ? 30000 : 300));
        }
        if (step % 5000 == 4999) {
            find(&count);
            found += count;
        }
    }
    memset(kept, 0, sizeof kept);
    for (unsigned i = 0; i < 3; i++) { /* what a stale word held the first time */
        find(&count);
        found += count;
    }
    printf("%zu lost, %zu found\n", lost, found);
    REQUIRE(found >= lost + 400); /* what the table held at the end */
    REQUIRE(found <= lost + 1000);
}

static void freeing_twice_aborts_as_ever(void) {
    void *p = gc_alloc(100);
    gc_free(p);
    gc_free(p);
}

static void lose_and_exit(void) {
    lose_small(1000);
    clear_stack();
    exit(0);
}

static void nothing_lost_at_exit(void) {
    void *p = gc_alloc(100);
    gc_free(p);
    clear_stack();
    exit(0);
}

static void *lose_in_thread(void *argument) {
    lose_small(500);
    return argument;
}

static void *exit_from_here(void *argument) {
    (void)argument;
    clear_stack();
    exit(0);
}

static void a_thread_that_isnt_attached_exits(void) {
    pthread_t thread;
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, lose_in_thread, NULL), 0);
    gc_pthread_join(thread, NULL);
    REQUIRE_EQUAL(pthread_create(&thread, NULL, exit_from_here, NULL), 0);
    gc_blocking_begin();
    pthread_join(thread, NULL);
    gc_blocking_end();
}

static void a_thread_exits_while_blocking(void) {
    lose_small(500);
    gc_blocking_begin();
    exit(0);
}

static void one_exits_while_collection_is_disabled(void) {
    lose_small(500);
    collect(GC_FULL);
    gc_disable();
    exit(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(lost_objects_are_reported_by_site_once, "CAIRN_FIND_LEAKS=all"),
        CHILD_TEST(lost_objects_are_reported_by_site_once, "CAIRN_FIND_LEAKS=all", "CAIRN_VERIFY=1",
            "CAIRN_POISON=1"),
        CHILD_TEST(what_minor_collections_free_is_reported_too, "CAIRN_FIND_LEAKS=all"),
        CHILD_TEST(what_minor_collections_free_is_reported_too, "CAIRN_FIND_LEAKS=all",
            "CAIRN_STRESS=97", "CAIRN_VERIFY=1"),
        CHILD_TEST(what_is_held_or_was_freed_is_no_leak, "CAIRN_FIND_LEAKS=all"),
        CHILD_TEST(what_is_held_or_was_freed_is_no_leak, "CAIRN_FIND_LEAKS=1"),
        CHILD_TEST(with_samples_all_are_counted_and_some_have_a_site, "CAIRN_FIND_LEAKS=1"),
        CHILD_TEST(without_the_option_nothing_is_found),
        CHILD_TEST(what_moved_is_no_leak, "CAIRN_FIND_LEAKS=all"),
        CHILD_TEST(
            what_moved_is_no_leak, "CAIRN_FIND_LEAKS=all", "CAIRN_VERIFY=1", "CAIRN_BARRIER=none"),
        CHILD_TEST(random_losses_are_counted_exactly, "CAIRN_FIND_LEAKS=1"),
        CHILD_TEST(random_losses_are_counted_exactly, "CAIRN_FIND_LEAKS=all", "CAIRN_VERIFY=1",
            "CAIRN_STRESS=997"),
        CHILD_ABORT(freeing_twice_aborts_as_ever, "freed already", "CAIRN_FIND_LEAKS=all"),
        CHILD_SAYS(lose_and_exit, "cairn: leaks: ", "CAIRN_FIND_LEAKS=all"),
        CHILD_SAYS(lose_and_exit, "lose_small (+", "CAIRN_FIND_LEAKS=all"),
        CHILD_SAYS(nothing_lost_at_exit, "cairn: no leaks\n", "CAIRN_FIND_LEAKS=1"),
        CHILD_SAYS(a_thread_that_isnt_attached_exits, "cairn: leaks: ", "CAIRN_FIND_LEAKS=all"),
        CHILD_SAYS(a_thread_exits_while_blocking, "cairn: leaks: ", "CAIRN_FIND_LEAKS=all"),
        CHILD_SAYS(
            one_exits_while_collection_is_disabled, "cairn: leaks: ", "CAIRN_FIND_LEAKS=all"),
    };
    return cmocka_run_group_tests_name("leaks", tests, NULL, NULL);
}
