/* Which pointers hold an object, and what the library says of an address. */
#include "support.h"

#include <stdint.h>

#include "gc_mark.h"

static char not_heap[64];

static void base_finds_the_start(void) {
    GC_INIT();
    for (size_t bytes = 1; bytes < 200000; bytes += bytes / 2 + 1) {
        char *p = GC_malloc(bytes);
        REQUIRE(GC_base(p) == p);
        REQUIRE(GC_base(p + bytes / 2) == p);
        REQUIRE(GC_base(p + bytes - 1) == p);
    }
    REQUIRE(GC_base(not_heap) == NULL);
    REQUIRE(GC_base(NULL) == NULL);
    REQUIRE(GC_base((void *)(uintptr_t)child_skip) == NULL);
    int on_stack;
    REQUIRE(GC_base(&on_stack) == NULL);
}

static void heap_pointers_are_told_from_others(void) {
    GC_INIT();
    char *p = GC_malloc(100), *big = GC_malloc(100000);
    REQUIRE(GC_is_heap_ptr(p) && GC_is_heap_ptr(p + 50) && GC_is_heap_ptr(big + 99999));
    REQUIRE(!GC_is_heap_ptr(not_heap) && !GC_is_heap_ptr(NULL) && !GC_is_heap_ptr(&p));
}

static void size_is_what_may_be_used(void) {
    GC_INIT();
    for (size_t bytes = 1; bytes < 3000000; bytes += bytes / 2 + 1) {
        size_t size = GC_size(GC_malloc(bytes));
        REQUIRE(size >= bytes && size < bytes + bytes / 2 + 8192);
    }
    REQUIRE(GC_size(GC_malloc(32)) % 16 == 0);
}

/* Says how many of MANY objects stay that are held by pointers OFFSET bytes from their starts, in a
 * static array or in an object. */
struct pointers {
    size_t bytes, offset;
    char **hold;
    struct watched *watched;
};

static void point_in(void *p) {
    const struct pointers *o = p;
    for (size_t i = 0; i < MANY; i++) {
        char *object = GC_malloc(o->bytes);
        watch(o->watched, object);
        o->hold[i] = object + o->offset;
        GC_end_stubborn_change(o->hold);
    }
}

static size_t held_at(size_t bytes, size_t offset, bool in_heap) {
    struct watched *w = new_watched();
    char **array = in_heap ? (held[0] = GC_malloc(MANY * sizeof *array)) : (char **)held;
    struct pointers o = {bytes, offset, array, w};
    far_below(point_in, &o);
    collect_all();
    size_t n = alive(w);
    memset(held, 0, sizeof held);
    return n;
}

static void interior_pointers_hold(void) {
    GC_INIT();
    REQUIRE(GC_get_all_interior_pointers());
    for (int in_heap = 0; in_heap < 2; in_heap++) {
        REQUIRE_EQUAL(held_at(100, 1, in_heap), MANY);
        REQUIRE_EQUAL(held_at(100, 64, in_heap), MANY);
        REQUIRE_EQUAL(held_at(100, 99, in_heap), MANY);
        REQUIRE_EQUAL(held_at(10000, 5000, in_heap), MANY);
        REQUIRE_EQUAL(held_at(10000, 9999, in_heap), MANY);
    }
}

static void pointers_past_the_end_hold(void) {
    GC_INIT();
    static const size_t sizes[] = {1, 8, 16, 24, 32, 48, 64, 128, 256, 1024, 2048, 4096, 8192};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int in_heap = 0; in_heap < 2; in_heap++)
            REQUIRE_EQUAL(held_at(sizes[i], sizes[i], in_heap), MANY);
}

static void without_interior_pointers_only_starts_hold(void) {
    GC_set_all_interior_pointers(0);
    GC_INIT();
    REQUIRE(!GC_get_all_interior_pointers());
    for (int in_heap = 0; in_heap < 2; in_heap++) {
        REQUIRE_EQUAL(held_at(96, 0, in_heap), MANY);
        REQUIRE_FEW(held_at(96, 40, in_heap), MANY);
    }
}

static void displacements_hold(void) {
    GC_set_all_interior_pointers(0);
    GC_INIT();
    GC_register_displacement(40);
    REQUIRE_EQUAL(held_at(96, 40, false), MANY);
    REQUIRE_EQUAL(held_at(96, 40, true), MANY);
    REQUIRE_FEW(held_at(96, 24, true), MANY);
}

struct slots {
    char *volatile a[8];
};

static __attribute__((noinline)) void hold_on_stack(void) {
    struct slots s;
    struct watched *w = new_watched();
    for (int i = 0; i < 8; i++) {
        char *p = GC_malloc(200);
        watch(w, p);
        s.a[i] = p + 20 * i;
        p = NULL;
    }
    collect_all();
    REQUIRE_EQUAL(alive(w), 8);
    for (int i = 0; i < 8; i++) REQUIRE(GC_base(s.a[i]) == s.a[i] - 20 * i);
}

static void the_stack_holds_with_and_without_interior_pointers(void) {
    GC_INIT();
    hold_on_stack();
}

static void the_stack_holds_by_interior_pointers_always(void) {
    GC_set_all_interior_pointers(0);
    GC_INIT();
    hold_on_stack();
}

static void far_pointers_near_the_start_hold(void) {
    GC_INIT();
    struct watched *w = new_watched();
    for (int i = 0; i < 100; i++) {
        char *p = GC_malloc_ignore_off_page(50000);
        watch(w, p);
        held[i] = p + i;
    }
    collect_all();
    REQUIRE_EQUAL(alive(w), 100);
}

static int complaints;
static void complain1(void *p) {
    (void)p;
    complaints++;
}
static void complain2(void *p, void *q) {
    (void)p;
    (void)q;
    complaints++;
}

static void addresses_are_checked(void) {
    GC_INIT();
    GC_same_obj_print_proc = complain2;
    GC_is_visible_print_proc = complain1;
    GC_is_valid_displacement_print_proc = complain1;
    char *p = GC_malloc(100), *q = GC_malloc(100), *big = GC_malloc(50000);
    REQUIRE(GC_same_obj(p + 60, p) == p + 60);
    REQUIRE(GC_same_obj(big + 40000, big) == big + 40000);
    REQUIRE_EQUAL(complaints, 0);
    GC_same_obj(q + 50, p);
    REQUIRE_EQUAL(complaints, 1);
    GC_same_obj(big + 60000, big);
    REQUIRE_EQUAL(complaints, 2);
    REQUIRE(GC_is_valid_displacement(p + 8) == p + 8);
    REQUIRE(GC_is_valid_displacement(not_heap) == not_heap);
    REQUIRE_EQUAL(complaints, 2);
    static char *slot;
    char *volatile local = p;
    REQUIRE(GC_is_visible(&slot) == &slot);
    REQUIRE(GC_is_visible((void *)&local) == &local);
    REQUIRE(GC_is_visible(p + 8) == p + 8);
    REQUIRE_EQUAL(complaints, 2);
}

static void other_objects_are_refused(void) {
    GC_INIT();
    /* The start of one may be the end of another. */
    GC_same_obj((char *)GC_malloc(100) + 50, GC_malloc(100));
}

static void wrong_displacements_are_noticed(void) {
    GC_set_all_interior_pointers(0);
    GC_INIT();
    GC_is_valid_displacement_print_proc = complain1;
    char *p = GC_malloc(100);
    GC_is_valid_displacement(p);
    REQUIRE_EQUAL(complaints, 0);
    GC_is_valid_displacement(p + 24);
    REQUIRE_EQUAL(complaints, 1);
    GC_register_displacement(24);
    GC_is_valid_displacement(p + 24);
    REQUIRE_EQUAL(complaints, 1);
}

static void pointers_are_counted_up(void) {
    GC_INIT();
    GC_same_obj_print_proc = complain2;
    char *p = GC_malloc(100);
    void *q = p;
    REQUIRE(GC_pre_incr(&q, 16) == p + 16 && q == p + 16);
    REQUIRE(GC_post_incr(&q, -8) == p + 16 && q == p + 8);
    REQUIRE_EQUAL(complaints, 0);
    GC_pre_incr(&q, 5000);
    REQUIRE_EQUAL(complaints, 1);
}

static void stores_are_stores(void) {
    GC_INIT();
    held[0] = GC_malloc(64);
    struct watched *w = new_watched();
    for (int i = 0; i < 8; i++) {
        void *q = GC_malloc(16);
        watch(w, q);
        GC_ptr_store_and_dirty((void **)held[0] + i, q);
    }
    collect_all();
    REQUIRE_EQUAL(alive(w), 8);
}

static void the_plausible_bounds_enclose_the_heap(void) {
    GC_INIT();
    for (int i = 0; i < 1000; i++) {
        char *p = GC_malloc((size_t)i * 40 + 1);
        REQUIRE((char *)GC_least_plausible_heap_addr <= p);
        REQUIRE((char *)GC_greatest_plausible_heap_addr >= p + i * 40);
    }
}

static void hidden_pointers_hold_nothing(void) {
    GC_INIT();
    REQUIRE_FEW(garbage_kept(GC_malloc, 64), MANY); /* watch() keeps hidden pointers */
    void *p = GC_malloc(10);
    REQUIRE(GC_REVEAL_POINTER(GC_HIDE_POINTER(p)) == p);
    GC_reachable_here(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(base_finds_the_start),
        CHILD_TEST(heap_pointers_are_told_from_others),
        CHILD_TEST(size_is_what_may_be_used),
        CHILD_TEST(interior_pointers_hold),
        CHILD_TEST(pointers_past_the_end_hold),
        CHILD_TEST(without_interior_pointers_only_starts_hold),
        CHILD_TEST(displacements_hold),
        CHILD_TEST(the_stack_holds_with_and_without_interior_pointers),
        CHILD_TEST(the_stack_holds_by_interior_pointers_always),
        CHILD_TEST(far_pointers_near_the_start_hold),
        CHILD_TEST(addresses_are_checked),
        CHILD_ABORT(other_objects_are_refused, ""),
        CHILD_TEST(wrong_displacements_are_noticed),
        CHILD_TEST(pointers_are_counted_up),
        CHILD_TEST(stores_are_stores),
        CHILD_TEST(the_plausible_bounds_enclose_the_heap),
        CHILD_TEST(hidden_pointers_hold_nothing),
    };
    return cmocka_run_group_tests_name("boehm_pointers", tests, NULL, NULL);
}
