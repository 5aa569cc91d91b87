/* The debugging allocators, writes beyond objects, and leaks. */
#define GC_DEBUG
#include "support.h"

#include <stdint.h>
#include <stdlib.h>

#include "gc_mark.h"
#include "gc_typed.h"

static bool is_zero(const void *p, size_t bytes) {
    const char *c = p;
    for (size_t i = 0; i < bytes; i++)
        if (c[i] != 0) return false;
    return true;
}

static void *plain(size_t bytes) {
    return GC_MALLOC(bytes);
}
static void *atomic(size_t bytes) {
    return GC_MALLOC_ATOMIC(bytes);
}
static void *uncollectable(size_t bytes) {
    return GC_MALLOC_UNCOLLECTABLE(bytes);
}
static void *atomic_uncollectable(size_t bytes) {
    return GC_MALLOC_ATOMIC_UNCOLLECTABLE(bytes);
}
static void *far(size_t bytes) {
    return GC_MALLOC_IGNORE_OFF_PAGE(bytes);
}
static void *far_atomic(size_t bytes) {
    return GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(bytes);
}
static void *stubborn(size_t bytes) {
    return GC_MALLOC_STUBBORN(bytes);
}
static void *replacement(size_t bytes) {
    return GC_debug_malloc_replacement(bytes);
}

static void debugged_objects_are_like_others(void) {
    GC_INIT();
    static allocator *const all[] = {
        plain, atomic, uncollectable, atomic_uncollectable, far, far_atomic, stubborn, replacement};
    for (size_t a = 0; a < sizeof all / sizeof *all; a++)
        for (size_t bytes = 1; bytes < 50000; bytes = 3 * bytes + 1) {
            char *p = all[a](bytes);
            REQUIRE((uintptr_t)p % 16 == 0);
            REQUIRE((char *)GC_base(p) + GC_get_debug_header_size() == p);
            REQUIRE(GC_USR_PTR_FROM_BASE(GC_base(p)) == p);
            if (all[a] != atomic && all[a] != atomic_uncollectable && all[a] != far_atomic)
                REQUIRE(is_zero(p, bytes));
            memset(p, 0x33, bytes);
            p = GC_REALLOC(p, bytes + 20);
            REQUIRE(p[0] == 0x33 && p[bytes - 1] == 0x33);
            GC_FREE(p);
        }
    GC_FREE(NULL);
    GC_gcollect();
}

static void debugged_objects_hold_as_others_do(void) {
    GC_INIT();
    REQUIRE_EQUAL(children_kept(plain, 40), MANY);
    REQUIRE_FEW(children_kept(atomic, 40), MANY);
    REQUIRE_FEW(garbage_kept(plain, 40), MANY);
    REQUIRE_EQUAL(garbage_kept(uncollectable, 40), MANY);
}

static void debugged_strings(void) {
    GC_INIT();
    REQUIRE(strcmp(GC_STRDUP("some words"), "some words") == 0);
    REQUIRE(strcmp(GC_STRNDUP("some words", 4), "some") == 0);
}

static long runs;
static void finalize(void *object, void *data) {
    REQUIRE(*(long *)object == 4711); /* the object as the program knows it */
    REQUIRE(data == (void *)5);
    runs++;
}

static void make_finalizable(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        long *object = GC_MALLOC(40);
        *object = 4711;
        if (i % 4 == 0) GC_REGISTER_FINALIZER(object, finalize, (void *)5, NULL, NULL);
        if (i % 4 == 1) GC_REGISTER_FINALIZER_IGNORE_SELF(object, finalize, (void *)5, NULL, NULL);
        if (i % 4 == 2) GC_REGISTER_FINALIZER_NO_ORDER(object, finalize, (void *)5, NULL, NULL);
        if (i % 4 == 3) GC_REGISTER_FINALIZER_UNREACHABLE(object, finalize, (void *)5, NULL, NULL);
    }
}

static void debugged_objects_are_finalized(void) {
    GC_set_java_finalization(1);
    GC_INIT();
    far_below(make_finalizable, NULL);
    for (int i = 0; i < 3; i++) {
        wipe_stack();
        GC_gcollect();
        GC_invoke_finalizers();
    }
    REQUIRE_MOST(runs, MANY);
    void *old_data = NULL;
    GC_finalization_proc old = NULL;
    void *p = held[0] = GC_MALLOC(10);
    GC_REGISTER_FINALIZER(p, finalize, (void *)6, NULL, NULL);
    GC_REGISTER_FINALIZER(p, NULL, NULL, &old, &old_data);
    REQUIRE(old == finalize && old_data == (void *)6);
}

static void stores_and_links_by_macro(void) {
    GC_INIT();
    void **p = held[0] = GC_MALLOC(40);
    void *q = GC_MALLOC(16);
    GC_PTR_STORE_AND_DIRTY(p, q);
    REQUIRE(*p == q);
    GC_PTR_STORE(p + 1, q);
    REQUIRE(p[1] == q);
    GC_END_STUBBORN_CHANGE(p);
    void **slot = malloc(2 * sizeof *slot);
    slot[0] = slot[1] = (void *)1;
    REQUIRE_EQUAL(GC_GENERAL_REGISTER_DISAPPEARING_LINK(slot, p), GC_SUCCESS);
    REQUIRE_EQUAL(GC_REGISTER_LONG_LINK(slot + 1, p), GC_SUCCESS);
    char *c = GC_MALLOC(50), *d = c;
    REQUIRE(GC_PTR_ADD(c, 10) == c + 10);
    REQUIRE(GC_PRE_INCR(d, 3) == c + 3 && GC_POST_INCR(d) == c + 3 && d == c + 4);
    GC_REGISTER_DISPLACEMENT(8);
}

/* The byte behind the object. */
static void writes_beyond_are_noticed_when_freed(void) {
    GC_INIT();
    char *volatile p = GC_MALLOC(37);
    memset(p, 1, 48);
    GC_FREE(p);
}

static void writes_beyond_are_noticed_by_collections(void) {
    GC_INIT();
    char *volatile p = held[0] = GC_MALLOC(37);
    memset(p, 1, 48);
    GC_gcollect();
}

static void writes_before_are_noticed(void) {
    GC_INIT();
    char *volatile p = GC_MALLOC(37);
    memset(p - 8, 1, 8);
    GC_FREE(p);
}

static void writes_within_are_not(void) {
    GC_INIT();
    for (size_t bytes = 1; bytes < 3000; bytes += 7) {
        char *p = held[bytes] = GC_MALLOC(bytes);
        memset(p, (int)bytes, bytes);
    }
    GC_gcollect();
    for (size_t bytes = 1; bytes < 3000; bytes += 7) GC_FREE(held[bytes]);
}

static void writes_within_say_nothing(void) {
    REQUIRE(strcmp(output_of(writes_within_are_not), "") == 0);
}

static void what_was_freed_is_noticed(void) {
    GC_INIT();
    char *volatile p = held[0] = GC_MALLOC(40);
    GC_FREE(p);
    GC_FREE(p);
}

static void describe(void *p, char *text) {
    (void)p;
    strcpy(text, "such a thing");
}

static void kinds_have_descriptions(void) {
    GC_INIT();
    GC_register_describe_type_fn(1, describe);
    char *volatile p = GC_MALLOC(37);
    memset(p, 1, 48);
    GC_FREE(p);
}

static void lose(void *p) {
    (void)p;
    for (int i = 0; i < 100; i++) memset(GC_MALLOC(40), 1, 40);
}

static void leaks_are_found(void) {
    GC_set_find_leak(1);
    GC_INIT();
    far_below(lose, NULL);
    collect_all();
}

static void lose_plain(void *p) {
    (void)p;
    for (int i = 0; i < 100; i++) memset((GC_malloc)(40), 1, 40);
}

static void leaks_of_undebugged_objects_are_found(void) {
    GC_set_find_leak(1);
    GC_INIT();
    far_below(lose_plain, NULL);
    collect_all();
}

static void lose_nothing(void) {
    GC_set_find_leak(1);
    GC_INIT();
    for (int i = 0; i < 100; i++) held[i] = GC_MALLOC(40);
    for (int i = 0; i < 50; i++) {
        GC_FREE(held[i]);
        held[i] = NULL;
    }
    collect_all();
}

static void what_was_freed_or_is_reachable_is_no_leak(void) {
    REQUIRE(strstr(output_of(lose_nothing), "eak") == NULL);
}

static void leaks_end_the_program_if_asked(void) {
    leaks_are_found();
}

static void kinds_may_be_debugged(void) {
    GC_INIT();
    int kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    char *p = GC_GENERIC_OR_SPECIAL_MALLOC(100, kind);
    REQUIRE(p != NULL && is_zero(p, 100));
    REQUIRE_EQUAL(GC_get_kind_and_size(GC_base(p), NULL), kind);
    GC_word bitmap = 1;
    GC_descr d = GC_make_descriptor(&bitmap, 1);
    REQUIRE(GC_MALLOC_EXPLICITLY_TYPED(16, d) != NULL);
    REQUIRE(GC_CALLOC_EXPLICITLY_TYPED(4, 16, d) != NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(debugged_objects_are_like_others),
        CHILD_TEST(debugged_objects_hold_as_others_do),
        CHILD_TEST(debugged_strings),
        CHILD_TEST(debugged_objects_are_finalized),
        CHILD_TEST(stores_and_links_by_macro),
        CHILD_SAYS(writes_beyond_are_noticed_when_freed, "test_debug.c:"),
        CHILD_SAYS(writes_beyond_are_noticed_by_collections, "test_debug.c:"),
        CHILD_SAYS(writes_before_are_noticed, "mashed"),
        CHILD_TEST(writes_within_say_nothing),
        CHILD_SAYS(what_was_freed_is_noticed, "previously deallocated"),
        CHILD_TEST(kinds_have_descriptions),
        CHILD_SAYS(leaks_are_found, "eaked"),
        CHILD_SAYS(leaks_of_undebugged_objects_are_found, "eaked"),
        CHILD_TEST(what_was_freed_or_is_reachable_is_no_leak),
        CHILD_ABORT(leaks_end_the_program_if_asked, "eaked", "GC_ABORT_ON_LEAK=1"),
        CHILD_TEST(kinds_may_be_debugged),
    };
    return cmocka_run_group_tests_name("boehm_debug", tests, NULL, NULL);
}
