/* Finalizers and guardians: when an object is ready, in which order, who runs it, and what becomes
 * of what it stores (docs/finalization.md). */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "nodes.h"
#include "support.h"
#include "threads_support.h"

enum { MOST = 1000 };

/* The numbers of what was finalized, in order. */
static size_t log_of[MOST], logged;
static struct node *saved;

static void note(void *p, void *data) {
    (void)data;
    if (logged < MOST) log_of[logged] = ((struct node *)p)->number;
    logged++;
}

static void set(struct node *n, enum gc_order order) {
    REQUIRE_EQUAL(gc_finalizer_set(n, note, NULL, order), 0);
}

/* Collects until nothing more becomes ready, running what is.  Returns how many were run. */
static size_t run_out(enum gc_collection kind) {
    size_t run = 0, now;
    do {
        collect(kind);
        run += now = gc_run_finalizers();
    } while (now > 0);
    return run;
}

/* ---- Ready ---------------------------------------------------------------------------------- */

static void one_of_each_order(void) {
    for (size_t order = GC_ORDERED; order <= GC_UNREACHABLE; order++)
        set(make(order, NULL), (enum gc_order)order);
}

static void a_dead_object_is_finalized_once(void) {
    need_optimised_code();
    for (int round = 0; round < 4; round++) {
        typed = round % 2;
        logged = 0;
        garbage(one_of_each_order);
        collect(round < 2 ? GC_MINOR : GC_FULL);
        REQUIRE_EQUAL(logged, 0);
        REQUIRE_EQUAL(gc_finalizers_ready(), 4);
        REQUIRE_EQUAL(gc_run_finalizers(), 4);
        REQUIRE_EQUAL(run_out(GC_FULL), 0);
        REQUIRE_EQUAL(logged, 4);
    }
    REQUIRE_EQUAL(statistics().finalizers_run, 16);
    REQUIRE_EQUAL(statistics().finalizers, 0);
}

static void a_reachable_object_is_not_finalized(void) {
    static struct node *kept;
    kept = make(1, NULL);
    set(kept, GC_UNORDERED);
    collect(GC_MINOR);
    collect(GC_FULL);
    collect(GC_COMPACT);
    REQUIRE_EQUAL(gc_finalizers_ready(), 0);
    REQUIRE_EQUAL(statistics().finalizers, 1);
    REQUIRE_EQUAL(gc_finalizer_set(kept, NULL, NULL, GC_ORDERED), 0);
    REQUIRE_EQUAL(statistics().finalizers, 0);
    kept = NULL;
    REQUIRE_EQUAL(run_out(GC_FULL), 0);
}

/* 0 <- 1 <- 2 ... each refers to the one before. */
static enum gc_order order_of_chain;
static void make_chain(void) {
    struct node *n = NULL;
    for (size_t i = 0; i < 10; i++) set(n = make(i, n), order_of_chain);
}

static void an_ordered_one_runs_before_what_it_refers_to(void) {
    need_optimised_code();
    for (int round = 0; round < 4; round++) {
        typed = round % 2;
        order_of_chain = round < 2 ? GC_ORDERED : GC_IGNORE_SELF;
        logged = 0;
        garbage(make_chain);
        REQUIRE_EQUAL(run_out(GC_FULL), 10);
        for (size_t i = 0; i < 10; i++) REQUIRE_EQUAL(log_of[i], 9 - i);
    }
    order_of_chain = GC_UNORDERED;
    garbage(make_chain);
    collect(GC_MINOR);
    REQUIRE_EQUAL(gc_run_finalizers(), 10);
}

static void make_unordered_behind_ordered(void) {
    struct node *behind = make(1, NULL), *front = make(2, behind);
    set(behind, GC_UNORDERED);
    set(front, GC_ORDERED);
    struct node *unreachable = make(3, NULL), *ready = make(4, unreachable);
    set(unreachable, GC_UNREACHABLE);
    set(ready, GC_UNORDERED);
}

static void what_waits_for_whom_is_by_the_order_of_who_refers(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        typed = round;
        garbage(make_unordered_behind_ordered);
        collect(GC_MINOR);
        logged = 0;
        REQUIRE_EQUAL(gc_run_finalizers(), 2);
        REQUIRE_EQUAL(log_of[0] + log_of[1], 2 + 4);
        collect(GC_FULL);
        REQUIRE_EQUAL(gc_run_finalizers(), 2);
        REQUIRE_EQUAL(log_of[2] + log_of[3], 1 + 3);
    }
}

/* ---- Cycles --------------------------------------------------------------------------------- */

static enum gc_order order_of_self;
static void make_self(void) {
    struct node *n = make(7, NULL);
    n->other = n;
    n->next = make(8, NULL);
    set(n, order_of_self);
}

static void make_cycle(void) {
    struct node *a = make(1, NULL), *between = make(2, a), *b = make(3, between);
    a->next = make(4, b);
    set(a, GC_ORDERED);
    set(b, GC_ORDERED);
    set(make(5, a), GC_ORDERED);
}

static void a_cycle_of_ordered_ones_is_reported_once(void) {
    need_optimised_code();
    garbage(make_cycle);
    REQUIRE_EQUAL(run_out(GC_MINOR), 1);
    REQUIRE_EQUAL(log_of[0], 5);
    for (int i = 0; i < 4; i++) collect(GC_FULL);
    REQUIRE_EQUAL(statistics().finalizer_cycles, 1);
    REQUIRE_EQUAL(statistics().finalizers, 2);
    order_of_self = GC_ORDERED;
    typed = true;
    garbage(make_self);
    for (int i = 0; i < 4; i++) collect(i == 0 ? GC_MINOR : GC_COMPACT);
    REQUIRE_EQUAL(statistics().finalizer_cycles, 2);
    REQUIRE_EQUAL(gc_run_finalizers(), 0);
}

static void a_reference_to_itself_can_be_ignored(void) {
    need_optimised_code();
    for (int round = 0; round < 4; round++) {
        typed = round % 2;
        order_of_self = GC_IGNORE_SELF;
        garbage(make_self);
        collect(round < 2 ? GC_MINOR : GC_COMPACT);
        REQUIRE_EQUAL(gc_run_finalizers(), 1);
        REQUIRE_EQUAL(log_of[round], 7);
    }
    REQUIRE_EQUAL(statistics().finalizer_cycles, 0);
}

/* What an ephemeron refers to besides isn't kept by that. */
static gc_weak *key_of_ephemeron;
static gc_handle *keeper;

static void ignore(void *p, void *data) {
    (void)p, (void)data;
}

static enum gc_order order_of_ephemeron;

static void make_ephemeron(void) {
    struct node *key = make(1, NULL);
    key_of_ephemeron = gc_weak_new(key, GC_WEAK_LONG);
    gc_ephemeron *e = gc_ephemeron_new(key, NULL);
    REQUIRE_EQUAL(gc_finalizer_set(e, ignore, NULL, order_of_ephemeron), 0);
}

static void make_ephemeron_of_itself(void) {
    gc_ephemeron *e = gc_ephemeron_new(gc_handle_get(keeper), NULL);
    REQUIRE_EQUAL(gc_ephemeron_set_value(e, e), 0);
    REQUIRE_EQUAL(gc_finalizer_set(e, ignore, NULL, GC_IGNORE_SELF), 0);
}

static void an_ephemeron_with_a_finalizer_keeps_no_key(void) {
    need_optimised_code();
    for (size_t order = GC_ORDERED; order <= GC_UNREACHABLE; order++) {
        typed = order % 2;
        order_of_ephemeron = (enum gc_order)order;
        garbage(make_ephemeron);
        collect(order < GC_UNORDERED ? GC_FULL : GC_MINOR);
        REQUIRE(gc_weak_get(key_of_ephemeron) == NULL);
        REQUIRE_EQUAL(gc_run_finalizers(), 1);
    }
    keeper = gc_handle_new(make(2, NULL));
    garbage(make_ephemeron_of_itself);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_run_finalizers(), 1);
}

/* Its words, and how many there are is one of them, are read where it was until all are read. */
struct list {
    size_t length;
    struct node *first;
    struct list *items[6];
};

static void trace_list(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    struct list *l = object;
    (void)bytes, (void)from, (void)to;
    gc_visit(visitor, (void **)&l->first);
    for (size_t i = 0; i < l->length; i++) {
        gc_visit(visitor, (void **)&l->items[i]);
        REQUIRE(l->length <= 6);
    }
}

static const gc_type *list_type;

static void make_list(void) {
    struct list *l = gc_alloc_typed(list_type);
    l->length = 6;
    for (size_t i = 0; i < 6; i++) l->items[i] = i % 2 ? l : NULL;
    l->first = make(1, NULL);
    REQUIRE_EQUAL(gc_finalizer_set(l, note, NULL, GC_ORDERED), 0);
}

static void an_object_is_not_moved_while_it_is_searched(void) {
    need_optimised_code();
    gc_type_desc desc = {.name = "list", .size = sizeof(struct list), .trace = trace_list};
    list_type = gc_type_register(&desc);
    typed = true;
    for (int i = 0; i < 10; i++) {
        garbage(make_list);
        collect(GC_MINOR);
    }
    REQUIRE_EQUAL(statistics().finalizer_cycles, 10);
    REQUIRE_EQUAL(gc_run_finalizers(), 0);
}

/* ---- Resurrection --------------------------------------------------------------------------- */

static void save(void *p, void *data) {
    (void)data;
    saved = p;
    logged++;
}

static void save_again(void *p, void *data) {
    save(p, data);
    REQUIRE_EQUAL(gc_finalizer_set(p, save_again, data, GC_ORDERED), 0);
}

static void make_saved(void) {
    REQUIRE_EQUAL(gc_finalizer_set(make(11, make(12, NULL)), save, NULL, GC_ORDERED), 0);
}

static void what_a_finalizer_stores_lives_on_without_one(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        typed = round;
        logged = 0;
        garbage(make_saved);
        REQUIRE_EQUAL(run_out(GC_MINOR), 1);
        collect(GC_COMPACT);
        REQUIRE_EQUAL(saved->number, 11);
        REQUIRE_EQUAL(saved->next->number, 12);
        uintptr_t hidden = hide(saved);
        saved = NULL;
        REQUIRE_EQUAL(run_out(GC_FULL), 0);
        REQUIRE_EQUAL(count_alive(&hidden, 1), 0);
        REQUIRE_EQUAL(logged, 1);
    }
}

static void a_finalizer_may_register_itself_again(void) {
    need_optimised_code();
    saved = make(13, NULL);
    REQUIRE_EQUAL(gc_finalizer_set(saved, save_again, NULL, GC_ORDERED), 0);
    for (size_t i = 1; i < 6; i++) {
        saved = NULL;
        collect(i % 2 ? GC_MINOR : GC_FULL);
        if (i % 2 && i > 1) collect(GC_FULL);
        REQUIRE_EQUAL(gc_run_finalizers(), 1);
        REQUIRE_EQUAL(logged, i);
        REQUIRE_EQUAL(saved->number, 13);
    }
}

static void what_is_ready_lives_until_it_was_run(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        typed = round;
        logged = 0;
        order_of_chain = GC_UNORDERED;
        garbage(make_chain);
        collect(GC_MINOR);
        for (int i = 0; i < 3; i++) collect(i % 2 ? GC_FULL : GC_COMPACT);
        for (int i = 0; i < 1000; i++) make(100, NULL);
        REQUIRE_EQUAL(gc_verify(), 0);
        size_t sum = 0;
        REQUIRE_EQUAL(gc_run_finalizers(), 10);
        for (size_t i = 0; i < 10; i++) sum += log_of[i];
        REQUIRE_EQUAL(sum, 45);
    }
}

/* ---- Data ----------------------------------------------------------------------------------- */

static void add_number(void *p, void *data) {
    ((struct node *)p)->number += ((struct node *)data)->number;
    note(p, data);
}

static void make_with_data(void) {
    for (size_t i = 0; i < 10; i++) {
        struct node *data = make(1000 * i, NULL);
        REQUIRE_EQUAL(gc_finalizer_set(make(i, NULL), add_number, data, GC_UNORDERED), 0);
    }
}

static void data_is_a_root_until_the_finalizer_ran(void) {
    need_optimised_code();
    static struct node *kept;
    kept = make(0, NULL);
    collect(GC_FULL);
    for (int round = 0; round < 2; round++) {
        typed = round;
        logged = 0;
        /* An old object with young data, too. */
        REQUIRE_EQUAL(gc_finalizer_set(kept, add_number, make(500, NULL), GC_ORDERED), 0);
        garbage(make_with_data);
        collect(GC_MINOR);
        for (int i = 0; i < 1000; i++) make(77, NULL);
        collect(GC_FULL);
        collect(GC_COMPACT);
        for (int i = 0; i < 1000; i++) make(78, NULL);
        size_t sum = 0;
        REQUIRE_EQUAL(gc_run_finalizers(), 10);
        for (size_t i = 0; i < 10; i++) sum += log_of[i];
        REQUIRE_EQUAL(sum, 45045);
        gc_finalizer old;
        REQUIRE_EQUAL(gc_finalizer_exchange(kept, NULL, &old), 0);
        REQUIRE(old.function == add_number && old.order == GC_ORDERED);
        REQUIRE_EQUAL(((struct node *)old.data)->number, 500);
    }
}

static uint64_t found_in_data;

static void look_into_data(void *p, void *data) {
    (void)p;
    found_in_data = *(uint64_t *)((uintptr_t)data & ~((uintptr_t)0xf << 60));
}

static void make_boxed_data(void) {
    uint64_t *data = gc_alloc_leaf(32);
    *data = 1234567;
    uintptr_t word = (uintptr_t)data | (uintptr_t)1 << 60;
    saved = make(1, NULL);
    REQUIRE_EQUAL(gc_finalizer_set(saved, look_into_data, (void *)word, GC_UNORDERED), 0);
}

static void data_may_be_a_word_of_the_heaps_format(void) {
    garbage(make_boxed_data);
    for (unsigned i = 0; i < 3; i++) collect(i == 0 ? GC_MINOR : GC_COMPACT);
    saved = NULL;
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_run_finalizers(), 1);
    REQUIRE_EQUAL(found_in_data, 1234567);
}

static size_t resident_pages(void) {
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL && fscanf(file, "%*u %zu", &pages) == 1);
    fclose(file);
    return pages;
}

static void setting_one_again_and_again_takes_no_memory(void) {
    static void *p, *data;
    p = gc_alloc(32);
    data = gc_alloc(32);
    REQUIRE_EQUAL(gc_finalizer_set(p, note, data, GC_UNORDERED), 0);
    size_t before = resident_pages();
    for (unsigned i = 0; i < 500000; i++)
        REQUIRE_EQUAL(gc_finalizer_set(p, note, data, GC_UNORDERED), 0);
    REQUIRE(resident_pages() < before + 200);
}

static void exchanging_returns_the_one_before(void) {
    static struct node *n;
    gc_finalizer old = {note, &old, 77}, other = {save, &logged, GC_UNORDERED};
    n = make(1, NULL);
    REQUIRE_EQUAL(gc_finalizer_exchange(n, NULL, &old), 0);
    REQUIRE(old.function == NULL && old.data == NULL);
    set(n, GC_ORDERED);
    REQUIRE_EQUAL(gc_finalizer_exchange(n, &other, &old), 0);
    REQUIRE(old.function == note && old.order == GC_ORDERED);
    REQUIRE_EQUAL(gc_finalizer_exchange(n, &old, &other), 0);
    REQUIRE(other.function == save && other.data == &logged && other.order == GC_UNORDERED);
    REQUIRE_EQUAL(statistics().finalizers, 1);
}

/* ---- Bad input, and what a finalizer may do ------------------------------------------------- */

static void bad_objects_are_refused(void) {
    static struct node *kept, *freed;
    int outside;
    kept = make(1, NULL);
    freed = gc_alloc(5000);
    gc_free(freed);
    REQUIRE_EQUAL(gc_finalizer_set(&outside, note, NULL, GC_ORDERED), EINVAL);
    REQUIRE_EQUAL(gc_finalizer_set(NULL, note, NULL, GC_ORDERED), EINVAL);
    REQUIRE_EQUAL(gc_finalizer_set(&kept->other, note, NULL, GC_ORDERED), EINVAL);
    REQUIRE_EQUAL(gc_finalizer_set(freed, note, NULL, GC_ORDERED), EINVAL);
    REQUIRE_EQUAL(gc_finalizer_set(kept, note, NULL, (enum gc_order)4), EINVAL);
    errno = 0;
    REQUIRE(gc_guardian_new((enum gc_order)4) == NULL && errno == EINVAL);
    gc_guardian *guardian = gc_guardian_new(GC_UNORDERED);
    REQUIRE_EQUAL(gc_guardian_add(guardian, &kept->other), EINVAL);
    REQUIRE_EQUAL(statistics().finalizers + statistics().guarded, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void freeing_drops_the_finalizer(void) {
    need_optimised_code();
    struct node *n = make(1, NULL);
    set(n, GC_ORDERED);
    gc_free(n);
    order_of_chain = GC_UNORDERED;
    garbage(make_chain);
    gc_weak *weak = gc_weak_new(saved = make(99, NULL), GC_WEAK_LONG);
    set(saved, GC_UNORDERED);
    saved = NULL;
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_finalizers_ready(), 11);
    gc_free(gc_weak_get(weak)); /* is ready: it isn't run */
    REQUIRE_EQUAL(gc_finalizers_ready(), 10);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_run_finalizers(), 10);
    for (size_t i = 0; i < 10; i++) REQUIRE(log_of[i] < 10);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_finalizer_goes_along_when_its_object_is_resized(void) {
    need_optimised_code();
    saved = make(21, NULL);
    set(saved, GC_ORDERED);
    saved = gc_realloc(saved, 3000);
    saved = gc_realloc(saved, 300000);
    REQUIRE_EQUAL(gc_verify(), 0);
    collect(GC_FULL);
    saved = NULL;
    REQUIRE_EQUAL(run_out(GC_FULL), 1);
    REQUIRE_EQUAL(log_of[0], 21);
}

static jmp_buf out;
static void leave(void *p, void *data) {
    note(p, data);
    longjmp(out, 1);
}
static void make_leaving(void) {
    for (size_t i = 0; i < 5; i++)
        REQUIRE_EQUAL(gc_finalizer_set(make(i, NULL), leave, NULL, GC_UNORDERED), 0);
}

static void one_that_leaves_by_longjmp_counts_as_run(void) {
    need_optimised_code();
    garbage(make_leaving);
    collect(GC_FULL);
    volatile size_t left = 0;
    if (setjmp(out) != 0) left++;
    if (left < 5) gc_run_finalizers();
    REQUIRE_EQUAL(logged, 5);
    REQUIRE_EQUAL(gc_finalizers_ready(), 0);
    REQUIRE_EQUAL(statistics().finalizers_run, 5);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void work_hard(void *p, void *data) {
    static unsigned depth;
    note(p, data);
    for (size_t i = 0; i < 100; i++) saved = make(i, saved);
    collect(logged % 2 ? GC_MINOR : GC_FULL);
    if (logged < 200) set(make(200, NULL), GC_UNORDERED);
    if (depth++ == 0) REQUIRE(gc_run_finalizers() >= 9);
    REQUIRE(((struct node *)p)->number <= 200);
}
static void make_working(void) {
    for (size_t i = 0; i < 10; i++)
        REQUIRE_EQUAL(gc_finalizer_set(make(i, NULL), work_hard, NULL, GC_UNORDERED), 0);
}

static void a_finalizer_may_allocate_collect_register_and_run_others(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        typed = round;
        logged = 0;
        garbage(make_working);
        collect(GC_MINOR);
        REQUIRE(gc_run_finalizers() >= 1);
        saved = NULL;
        REQUIRE(run_out(GC_FULL) > 0);
        REQUIRE_EQUAL(statistics().finalizers, 0);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

static void all_are_finalized_at_the_end_if_asked(void) {
    static struct node *kept[20];
    for (size_t i = 0; i < 20; i++) {
        typed = i % 2;
        set(kept[i] = make(i, i > 0 ? kept[i - 1] : NULL), GC_ORDERED);
        if (i == 10) collect(GC_FULL);
    }
    set(make(99, NULL), GC_UNORDERED);
    REQUIRE_EQUAL(gc_finalize_all(), 21);
    REQUIRE_EQUAL(logged, 21);
    REQUIRE_EQUAL(gc_finalize_all(), 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void collect_and_note(void *p, void *data) {
    collect(GC_MINOR);
    for (size_t i = 0; i < 1000; i++) make(1000, NULL);
    REQUIRE(((struct node *)p)->next->number == ((struct node *)p)->number + 100);
    note(p, data);
}
static void make_collecting(void) {
    for (size_t i = 0; i < 10; i++)
        REQUIRE_EQUAL(
            gc_finalizer_set(make(i, make(100 + i, NULL)), collect_and_note, NULL, GC_UNORDERED),
            0);
}

static void young_ones_live_until_they_are_run_at_the_end(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        typed = round;
        garbage(make_collecting);
        REQUIRE_EQUAL(gc_finalize_all(), 10);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

/* ---- Who runs them -------------------------------------------------------------------------- */

static unsigned notified;
static void on_ready(void *data) {
    REQUIRE(data == &notified);
    notified++;
    for (int i = 0; i < 10; i++) gc_alloc(100);
}

static void the_program_is_told_once_for_a_collection(void) {
    need_optimised_code();
    gc_set_finalizer_notify(on_ready, &notified);
    collect(GC_FULL);
    REQUIRE_EQUAL(notified, 0);
    garbage(one_of_each_order);
    collect(GC_MINOR);
    REQUIRE_EQUAL(notified, 1);
    collect(GC_FULL);
    REQUIRE_EQUAL(notified, 1);
    REQUIRE_EQUAL(gc_run_finalizers(), 4);
}

static void the_library_can_run_them_itself(void) {
    need_optimised_code();
    for (int round = 0; round < 5; round++) {
        garbage(one_of_each_order);
        collect(GC_FULL);
        while (__atomic_load_n(&logged, __ATOMIC_ACQUIRE) < 4u * (round + 1)) sleep_ms(1);
        REQUIRE_EQUAL(logged, 4 * (round + 1));
    }
}

static int gate;
static void wait_at_gate(void *p, void *data) {
    (void)data;
    gc_blocking_begin();
    wait_for(&gate, 1);
    gc_blocking_end();
    note(p, NULL);
}
static void make_waiting(void) {
    REQUIRE_EQUAL(gc_finalizer_set(make(1, NULL), wait_at_gate, NULL, GC_UNORDERED), 0);
}

static void one_that_blocks_holds_up_only_who_runs_it(void) {
    need_optimised_code();
    garbage(make_waiting);
    collect(GC_FULL);
    while (gc_finalizers_ready() > 0) sleep_ms(1);
    for (int i = 0; i < 5; i++) collect(i % 2 ? GC_FULL : GC_MINOR);
    make(0, NULL); /* a pointer to the object before it is on the other's stack */
    garbage(one_of_each_order);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_run_finalizers(), 4);
    raise_flag(&gate, 1);
    while (__atomic_load_n(&logged, __ATOMIC_ACQUIRE) < 5) sleep_ms(1);
    REQUIRE_EQUAL(logged, 5);
}

static void in_the_child(void) {
    alarm(CHILD_SECONDS);
    logged = 0;
    garbage(one_of_each_order);
    collect(GC_FULL);
    /* Its own, and those that were ready when it was forked, unless the thread was faster. */
    if (getenv("CAIRN_FINALIZERS") == NULL) gc_run_finalizers();
    while (__atomic_load_n(&logged, __ATOMIC_ACQUIRE) < 4 || gc_finalizers_ready() > 0) sleep_ms(1);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_forked_child_has_them_all(void) {
    need_optimised_code();
    garbage(one_of_each_order);
    collect(GC_FULL);
#ifdef GC_SANITIZE
    /* A thread that starts may hold a lock of AddressSanitizer's allocator, in the child for ever. */
    while (getenv("CAIRN_FINALIZERS") != NULL && gc_finalizers_ready() > 0) sleep_ms(1);
#endif
    pid_t child = fork();
    if (child == 0) {
        in_the_child();
        _exit(0);
    }
    int status;
    REQUIRE_EQUAL(waitpid(child, &status, 0), child);
    REQUIRE_EQUAL(status, 0);
}

/* ---- Guardians ------------------------------------------------------------------------------ */

static gc_guardian *guardian, *second;
static void make_guarded(void) {
    for (size_t i = 0; i < 10; i++) {
        struct node *n = make(i, make(100 + i, NULL));
        REQUIRE_EQUAL(gc_guardian_add(guardian, n), 0);
        if (i == 3) REQUIRE_EQUAL(gc_guardian_add(guardian, n), 0);
        if (i == 4) REQUIRE_EQUAL(gc_guardian_add(second, n), 0);
        if (i == 5) set(n, GC_UNORDERED);
    }
}

static void a_guardian_hands_out_what_died(void) {
    need_optimised_code();
    guardian = gc_guardian_new(GC_UNORDERED);
    second = gc_guardian_new(GC_ORDERED);
    for (int round = 0; round < 4; round++) {
        typed = round % 2;
        garbage(make_guarded);
        REQUIRE(gc_guardian_next(guardian) == NULL);
        collect(round < 2 ? GC_MINOR : GC_COMPACT);
        collect(GC_COMPACT);
        size_t sum = 0, count = 0;
        for (const struct node *n; (n = gc_guardian_next(guardian)) != NULL; count++) {
            REQUIRE_EQUAL(n->next->number, n->number + 100);
            sum += n->number;
        }
        REQUIRE_EQUAL(count, 11);
        REQUIRE_EQUAL(sum, 48);
        REQUIRE_EQUAL(((struct node *)gc_guardian_next(second))->number, 4);
        REQUIRE_EQUAL(gc_run_finalizers(), 1);
        collect(GC_FULL);
        REQUIRE(gc_guardian_next(guardian) == NULL);
        REQUIRE_EQUAL(statistics().guarded, 0);
    }
}

static void a_freed_guardian_lets_go_of_everything(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        guardian = gc_guardian_new(GC_UNORDERED);
        second = gc_guardian_new(GC_UNORDERED);
        garbage(make_guarded);
        if (round == 1) collect(GC_MINOR);
        gc_guardian_free(guardian);
        gc_guardian_free(second);
        gc_guardian_free(NULL);
        collect(GC_FULL);
        REQUIRE_EQUAL(gc_verify(), 0);
        REQUIRE_EQUAL(statistics().guarded, 0);
        REQUIRE_EQUAL(gc_run_finalizers(), 1);
    }
}

/* ---- Threads -------------------------------------------------------------------------------- */

static int through;

static void *collect_often(void *argument) {
    while (!look_at(&through)) {
        gc_collect(GC_FULL);
        gc_blocking_begin();
        usleep(100);
        gc_blocking_end();
    }
    return argument;
}

/* Also with precise stacks, where the caller has nothing else that holds it. */
static void the_data_of_one_taken_away_is_still_there(void) {
    void *p = NULL;
    GC_FRAME(p);
    p = gc_alloc_leaf(32);
    pthread_t thread = start_thread(collect_often, NULL);
    for (int i = 0; i < 30000; i++) {
        gc_finalizer old;
        size_t *data = gc_alloc_leaf(32);
        *data = 1234567;
        REQUIRE_EQUAL(gc_finalizer_set(p, note, data, GC_UNORDERED), 0);
        REQUIRE_EQUAL(gc_finalizer_exchange(p, NULL, &old), 0);
        REQUIRE_EQUAL(*(size_t *)old.data, 1234567);
    }
    raise_flag(&through, 1);
    end_thread(thread);
}

static void count_ended(void *p, void *data) {
    (void)p;
    ++*(unsigned *)data;
}

/* What waits for its finalizer is garbage of which the heap mustn't grow: if it counted as living,
 * more would be allocated until the next collection, more would be waiting then, and so on. */
static void the_heap_does_not_grow_by_what_only_finalizers_keep(void) {
    enum { COUNT = 16384, BYTES = 4096, ROUNDS = 8 };
    static unsigned ended;
    void **table = gc_alloc(COUNT * sizeof *table);
    uint64_t most = 0;
    for (unsigned i = 0; i < ROUNDS * COUNT; i++) {
        void *p = gc_alloc_leaf(BYTES);
        REQUIRE(p != NULL && gc_finalizer_set(p, count_ended, &ended, GC_UNORDERED) == 0);
        gc_write(table, &table[i % COUNT], p);
        if (i % 1024 == 0) gc_run_finalizers();
        if (i % 1024 == 0 && statistics().heap_bytes > most) most = statistics().heap_bytes;
    }
    REQUIRE(ended > COUNT);
    REQUIRE(most < (uint64_t)COUNT * BYTES * 7 / 2);
}

int main(void) {
#define HARD(test)                                                                                 \
    CHILD_TEST(test, "CAIRN_VERIFY=1"),                                                            \
        CHILD_TEST(test, "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect", "CAIRN_PROTECT_MOVED=3"),     \
        CHILD_TEST(test, "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_MARK_STACK_LIMIT=4K",          \
            "CAIRN_BARRIER=none")
    const struct CMUnitTest tests[] = {
        HARD(a_dead_object_is_finalized_once),
        HARD(a_reachable_object_is_not_finalized),
        HARD(an_ordered_one_runs_before_what_it_refers_to),
        HARD(what_waits_for_whom_is_by_the_order_of_who_refers),
        HARD(a_cycle_of_ordered_ones_is_reported_once),
        CHILD_SAYS(
            a_cycle_of_ordered_ones_is_reported_once, "finalization cycle: the object of 32"),
        HARD(a_reference_to_itself_can_be_ignored),
        HARD(an_ephemeron_with_a_finalizer_keeps_no_key),
        HARD(an_object_is_not_moved_while_it_is_searched),
        CHILD_TEST(data_may_be_a_word_of_the_heaps_format, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_TAG_MASK=0xf000000000000000", "CAIRN_TAG_VALUE=0x1000000000000000",
            "CAIRN_TAG_ADDRESS_MASK=0x00ffffffffffffff"),
        HARD(what_a_finalizer_stores_lives_on_without_one),
        HARD(a_finalizer_may_register_itself_again),
        HARD(what_is_ready_lives_until_it_was_run),
        HARD(data_is_a_root_until_the_finalizer_ran),
        CHILD_TEST(setting_one_again_and_again_takes_no_memory),
        CHILD_TEST(exchanging_returns_the_one_before, "CAIRN_VERIFY=1"),
        CHILD_SAYS(bad_objects_are_refused, "points 8 bytes into the object of 32 bytes"),
        CHILD_SAYS(bad_objects_are_refused, "freed already"),
        CHILD_SAYS(bad_objects_are_refused, "not an address in the heap"),
        HARD(freeing_drops_the_finalizer),
        HARD(a_finalizer_goes_along_when_its_object_is_resized),
        HARD(one_that_leaves_by_longjmp_counts_as_run),
        HARD(a_finalizer_may_allocate_collect_register_and_run_others),
        HARD(all_are_finalized_at_the_end_if_asked),
        HARD(young_ones_live_until_they_are_run_at_the_end),
        HARD(the_program_is_told_once_for_a_collection),
        CHILD_TEST(the_library_can_run_them_itself, "CAIRN_FINALIZERS=thread", "CAIRN_VERIFY=1"),
        CHILD_TEST(the_library_can_run_them_itself, "CAIRN_FINALIZERS=inline", "CAIRN_VERIFY=1"),
        CHILD_TEST(one_that_blocks_holds_up_only_who_runs_it, "CAIRN_FINALIZERS=thread"),
        CHILD_TEST(the_heap_does_not_grow_by_what_only_finalizers_keep),
        CHILD_TEST(a_forked_child_has_them_all, "CAIRN_VERIFY=1"),
        CHILD_TEST(a_forked_child_has_them_all, "CAIRN_FINALIZERS=thread"),
        CHILD_TEST(the_data_of_one_taken_away_is_still_there, "CAIRN_POISON=1",
            "CAIRN_STACK_SCAN=precise"),
        HARD(a_guardian_hands_out_what_died),
        HARD(a_freed_guardian_lets_go_of_everything),
    };
    return cmocka_run_group_tests_name("finalizers", tests, NULL, NULL);
}
