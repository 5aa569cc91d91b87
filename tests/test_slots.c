/* Precise roots, and types of C structures: slots and handles hold what they refer to and are
 * changed when it moves, GC_TYPE() and gc_new() find the right type, and what is wrong is
 * refused. */
#include <errno.h>
#include <stdlib.h>

#include "cairn/embed.h"
#include "child.h"
#include "support.h"

struct node {
    struct node *next;
    uint64_t number;
};
GC_TYPE(struct node, next);

typedef struct {
    double x, y;
} point;
GC_LEAF_TYPE(point);

struct five {
    struct node *a;
    uint64_t word;
    struct node *b, *c, *d, *e;
};
GC_TYPE(struct five, a, b, c, d, e);

struct unknown {
    void *p;
};

/* A list of two that nothing on the stack refers to afterwards. */
static __attribute__((noinline)) void make_list(void **slot, uint64_t number) {
    struct node *first = gc_new(struct node);
    REQUIRE(first != NULL);
    first->number = number;
    *slot = first;
    first->next = gc_new(struct node);
    ((struct node *)*slot)->next->number = number + 1;
}

static __attribute__((noinline)) void check_list(const void *p, uint64_t number) {
    const struct node *first = p;
    REQUIRE_EQUAL(first->number, number);
    REQUIRE_EQUAL(first->next->number, number + 1);
    REQUIRE(first->next->next == NULL);
}

static __attribute__((noinline)) uintptr_t hidden_in(void *const *slot) {
    return hide(*slot);
}

static void slots_hold_and_follow_what_moves(void) {
    enum { SLOTS = 5000 };
    need_optimised_code();
    void **slots = calloc(SLOTS, sizeof *slots);
    uintptr_t *before = calloc(SLOTS, sizeof *before);
    REQUIRE_EQUAL(gc_add_slots(slots, SLOTS), 0);
    for (size_t i = 0; i < SLOTS; i += 2) {
        make_list(&slots[i], i);
        before[i] = hidden_in(&slots[i]);
    }
    slots[1] = &before; /* outside the heap */
    collect(GC_MINOR);
    size_t moved = 0;
    for (size_t i = 0; i < SLOTS; i += 2) {
        check_list(slots[i], i);
        moved += hidden_in(&slots[i]) != before[i];
    }
    REQUIRE(moved > SLOTS / 2 - 10);
    REQUIRE(slots[1] == &before && slots[3] == NULL);
    collect(GC_FULL);
    for (size_t i = 0; i < SLOTS; i += 2) check_list(slots[i], i);
    for (size_t i = 0; i < SLOTS; i++) before[i] = hidden_in(&slots[i]);
    REQUIRE_EQUAL(gc_remove_slots(slots, SLOTS), 0);
    collect(GC_FULL);
    REQUIRE(count_alive(before, SLOTS) < 10);
}

static void handles_hold_and_follow_what_moves(void) {
    enum { HANDLES = 20000 }; /* several chunks */
    need_optimised_code();
    gc_handle **handles = calloc(HANDLES, sizeof *handles);
    uintptr_t *before = calloc(HANDLES, sizeof *before);
    for (size_t i = 0; i < HANDLES; i++) {
        void *list;
        make_list(&list, i);
        handles[i] = gc_handle_new(list);
        REQUIRE(handles[i] != NULL);
        before[i] = hide(list);
    }
    collect(GC_MINOR);
    collect(GC_FULL);
    for (size_t i = 0; i < HANDLES; i++) check_list(gc_handle_get(handles[i]), i);
    for (size_t i = 0; i < HANDLES; i += 2) gc_handle_free(handles[i]);
    for (size_t i = 1; i < HANDLES; i += 4) gc_handle_set(handles[i], NULL);
    for (size_t i = 0; i < HANDLES; i++) before[i] = hide(NULL);
    for (size_t i = 3; i < HANDLES; i += 4) before[i] = hide(gc_handle_get(handles[i]));
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(before, HANDLES), HANDLES / 4);
    for (size_t i = 0; i < HANDLES; i += 2) handles[i] = gc_handle_new(NULL);
    for (size_t i = 0; i < HANDLES; i++) {
        if (i % 4 == 3)
            check_list(gc_handle_get(handles[i]), i);
        else
            REQUIRE(gc_handle_get(handles[i]) == NULL);
        gc_handle_free(handles[i]);
    }
    gc_handle_free(NULL);
}

static int collecting = 1;

static void *collect_for_ever(void *unused) {
    while (__atomic_load_n(&collecting, __ATOMIC_RELAXED)) gc_collect(GC_MINOR);
    return unused;
}

static __attribute__((noinline)) gc_handle *make_handle(uint64_t number) {
    struct node *node = gc_new(struct node);
    node->number = number;
    return gc_handle_new(node); /* holds the only reference while it waits for the lock */
}

/* Found in review: it held nothing. */
static void a_handle_holds_its_object_from_the_start(void) {
    pthread_t thread;
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, collect_for_ever, NULL), 0);
    for (uint64_t i = 0; statistics().minor.count < 1500; i++) {
        gc_handle *handles[16];
        for (uint64_t n = 0; n < 16; n++) handles[n] = make_handle(i + n);
        for (uint64_t n = 0; n < 16; n++) {
            REQUIRE_EQUAL(((struct node *)gc_handle_get(handles[n]))->number, i + n);
            gc_handle_free(handles[n]);
        }
    }
    __atomic_store_n(&collecting, 0, __ATOMIC_RELAXED);
    gc_pthread_join(thread, NULL);
}

static void a_slot_into_static_data_keeps_its_object_in_place(void) {
    static void *slot;
    REQUIRE_EQUAL(gc_add_slots(&slot, 1), 0);
    make_list(&slot, 1);
    uintptr_t before = hide(slot);
    collect(GC_MINOR);
    REQUIRE(hide(slot) == before);
    check_list(slot, 1);
}

static void what_a_slot_can_not_be_is_refused(void) {
    void **slots = calloc(4, sizeof *slots);
    REQUIRE_EQUAL(gc_add_slots(NULL, 1), EINVAL);
    REQUIRE_EQUAL(gc_add_slots(slots, 0), EINVAL);
    REQUIRE_EQUAL(gc_add_slots(slots, SIZE_MAX), EINVAL);
    REQUIRE_EQUAL(gc_add_slots((void **)((char *)slots + 1), 2), EINVAL);
    REQUIRE_EQUAL(gc_add_slots(slots, 4), 0);
    REQUIRE_EQUAL(gc_remove_slots(slots, 3), ENOENT);
    REQUIRE_EQUAL(gc_remove_root(slots, 4 * sizeof *slots), ENOENT);
    REQUIRE_EQUAL(gc_remove_slots(slots, 4), 0);
    REQUIRE_EQUAL(gc_remove_slots(slots, 4), ENOENT);
}

static void structures_have_the_types_that_were_entered(void) {
    struct node *n = gc_new(struct node);
    struct five *f = gc_new(struct five);
    point *p = gc_new(point);
    REQUIRE(gc_type_of(n) != NULL && gc_type_of(n) != gc_type_of(f));
    REQUIRE_EQUAL(gc_type_of(n)->desc->pointer_count, 1);
    REQUIRE_EQUAL(gc_type_of(f)->desc->pointer_count, 5);
    REQUIRE_EQUAL(gc_type_of(f)->desc->pointers[1], offsetof(struct five, b));
    REQUIRE_EQUAL(gc_type_of(f)->desc->size, sizeof(struct five));
    REQUIRE(gc_type_of(p) == NULL && gc_size(p) == 16 && p->x == 0);
    for (int i = 0; i < 100000; i++) {
        f->b = n;
        f->e = gc_new(struct node);
        f->e->number = (uint64_t)i;
        f->word = ~(uintptr_t)f->e;
    }
    REQUIRE(f->b == n && f->e->number == 99999);
}

static void a_structure_without_a_type_aborts(void) {
    gc_new(struct unknown);
}

static void one_name_for_two_layouts_aborts(void) {
    static const uint32_t offset = 0;
    const gc_type_desc desc = {
        .name = "struct five", .size = 8, .pointers = &offset, .pointer_count = 1};
    REQUIRE(gc_type_register(&desc) != NULL);
    gc_new(struct five);
}

static void one_name_for_one_layout_is_shared(void) {
    static const uint32_t offset = 0;
    const gc_type_desc desc = {.name = "struct node",
        .size = sizeof(struct node),
        .pointers = &offset,
        .pointer_count = 1};
    const gc_type *type = gc_type_register(&desc);
    REQUIRE(type != NULL && gc_type_of(gc_new(struct node)) == type);
}

static void a_path_begins_at_a_handle(void) {
    need_optimised_code();
    void *list;
    make_list(&list, 1);
    gc_handle *handle = gc_handle_new(list);
    collect(GC_MINOR);
    clear_stack();
    REQUIRE_EQUAL(gc_explain(((struct node *)gc_handle_get(handle))->next), 0);
}

#define STRICT "CAIRN_VERIFY=1", "CAIRN_POISON=1"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(slots_hold_and_follow_what_moves),
        CHILD_TEST(slots_hold_and_follow_what_moves, STRICT, "CAIRN_WORKERS=1"),
        CHILD_TEST(handles_hold_and_follow_what_moves),
        CHILD_TEST(handles_hold_and_follow_what_moves, STRICT, "CAIRN_BARRIER=none"),
        CHILD_TEST(a_handle_holds_its_object_from_the_start, "CAIRN_POISON=1"),
        CHILD_TEST(a_slot_into_static_data_keeps_its_object_in_place),
        CHILD_TEST(what_a_slot_can_not_be_is_refused),
        CHILD_TEST(structures_have_the_types_that_were_entered),
        CHILD_TEST(structures_have_the_types_that_were_entered, STRICT, "CAIRN_STRESS=97"),
        CHILD_ABORT(a_structure_without_a_type_aborts, "there is no GC_TYPE(struct unknown, ...)"),
        CHILD_ABORT(one_name_for_two_layouts_aborts, "is registered already"),
        CHILD_TEST(one_name_for_one_layout_is_shared),
        CHILD_SAYS(a_path_begins_at_a_handle, "kept alive by"),
    };
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
