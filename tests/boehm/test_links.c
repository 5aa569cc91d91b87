/* Disappearing links, short and long; reclaiming announced to the program (gc_disclaim.h); and who
 * points to an object (gc_backptr.h). */
#include "support.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "gc_backptr.h"
#include "gc_disclaim.h"
#include "gc_mark.h"

/* A heap object that holds a link to another, hidden. */
struct weak {
    void *link;
};

static void make_weak(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        struct weak *w = held[i] = GC_malloc_atomic(sizeof *w);
        void *object = GC_malloc(40);
        w->link = object;
        REQUIRE_EQUAL(GC_general_register_disappearing_link(&w->link, object), GC_SUCCESS);
        if (i % 2 == 0) held[MANY + i] = object;
    }
}

static void links_go_when_their_objects_do(void) {
    GC_INIT();
    far_below(make_weak, NULL);
    collect_all();
    int strong = 0, weak = 0;
    for (int i = 0; i < MANY; i++) {
        const struct weak *w = held[i];
        if (w->link != NULL) i % 2 == 0 ? strong++ : weak++;
        if (i % 2 == 0) REQUIRE(w->link == held[MANY + i]);
    }
    REQUIRE_EQUAL(strong, MANY / 2);
    REQUIRE_FEW(weak, MANY / 2);
}

static void registering_twice_is_told(void) {
    GC_INIT();
    void **slot = malloc(sizeof *slot), *a = held[0] = GC_malloc(20), *b = held[1] = GC_malloc(20);
    *slot = (void *)GC_HIDE_POINTER(a);
    REQUIRE_EQUAL(GC_general_register_disappearing_link(slot, a), GC_SUCCESS);
    REQUIRE_EQUAL(GC_general_register_disappearing_link(slot, a), GC_DUPLICATE);
    REQUIRE_EQUAL(GC_general_register_disappearing_link(slot, b), GC_DUPLICATE);
    REQUIRE_EQUAL(GC_unregister_disappearing_link(slot), 1);
    REQUIRE_EQUAL(GC_unregister_disappearing_link(slot), 0);
    REQUIRE_EQUAL(GC_register_long_link(slot, a), GC_SUCCESS);
    REQUIRE_EQUAL(GC_register_long_link(slot, a), GC_DUPLICATE);
    REQUIRE_EQUAL(GC_unregister_long_link(slot), 1);
    REQUIRE_EQUAL(GC_unregister_long_link(slot), 0);
    GC_reachable_here(a);
    GC_reachable_here(b);
}

static void **slots;

static void make_slots(void *p) {
    int (*reg)(void **, const void *) = (int (*)(void **, const void *))p;
    for (int i = 0; i < MANY; i++) {
        void *object = GC_malloc(40);
        slots[i] = (void *)GC_HIDE_POINTER(object);
        REQUIRE_EQUAL(reg(slots + i, object), GC_SUCCESS);
    }
}

static int count_slots(int from, int to) {
    int n = 0;
    for (int i = from; i < to; i++) n += slots[i] != NULL;
    return n;
}

static void unregistered_links_stay(void) {
    GC_INIT();
    slots = calloc(2 * MANY, sizeof *slots);
    far_below(make_slots, (void *)GC_general_register_disappearing_link);
    for (int i = 0; i < MANY / 2; i++) REQUIRE_EQUAL(GC_unregister_disappearing_link(slots + i), 1);
    collect_all();
    REQUIRE_EQUAL(count_slots(0, MANY / 2), MANY / 2);
    REQUIRE_FEW(count_slots(MANY / 2, MANY), MANY / 2);
}

static void check_moves(
    int (*reg)(void **, const void *), int (*move)(void **, void **), int (*unregister)(void **)) {
    slots = calloc(2 * MANY, sizeof *slots);
    far_below(make_slots, (void *)reg);
    REQUIRE_EQUAL(move(slots + MANY, slots), GC_NOT_FOUND);
    REQUIRE_EQUAL(move(slots + MANY, slots + MANY), GC_NOT_FOUND);
    REQUIRE_EQUAL(move(slots, slots), GC_SUCCESS);
    REQUIRE_EQUAL(move(slots, slots + 1), GC_DUPLICATE);
    for (int i = 0; i < MANY; i++) {
        slots[MANY + i] = slots[i];
        REQUIRE_EQUAL(move(slots + i, slots + MANY + i), GC_SUCCESS);
    }
    REQUIRE_EQUAL(unregister(slots), 0);
    collect_all();
    REQUIRE_EQUAL(count_slots(0, MANY), MANY);
    REQUIRE_FEW(count_slots(MANY, 2 * MANY), MANY);
}

static void links_can_be_moved(void) {
    GC_INIT();
    check_moves(GC_general_register_disappearing_link, GC_move_disappearing_link,
        GC_unregister_disappearing_link);
}

static void long_links_can_be_moved(void) {
    GC_INIT();
    check_moves(GC_register_long_link, GC_move_long_link, GC_unregister_long_link);
}

/* Weak containers that die with their links. */
static void make_dying(void *p) {
    (void)p;
    for (int i = 0; i < 20 * MANY; i++) {
        struct weak *w = GC_malloc_atomic(sizeof *w);
        w->link = GC_malloc(24);
        GC_general_register_disappearing_link(&w->link, w->link);
    }
}

static void links_in_dead_objects_are_forgotten(void) {
    GC_INIT();
    for (int round = 0; round < 3; round++) {
        far_below(make_dying, NULL);
        collect_all();
        /* Their memory, used again: nothing writes to it. */
        for (int i = 0; i < 20 * MANY; i++) {
            struct weak *w = GC_malloc_atomic(sizeof *w);
            w->link = (void *)1;
            if (i < 4 * MANY) held[i] = w;
        }
        collect_all();
        for (int i = 0; i < 4 * MANY; i++) REQUIRE(((struct weak *)held[i])->link == (void *)1);
    }
}

struct node {
    struct node *next;
    long number;
};

static void make_own_links(void *p) {
    for (int i = 0; i < MANY; i++) {
        struct node *a = GC_malloc(sizeof *a), *b = GC_malloc(sizeof *b);
        a->next = b;
        b->next = a;
        GC_end_stubborn_change(a);
        GC_end_stubborn_change(b);
        /* Without the link in B a cycle is in the way of A's finalizer. */
        REQUIRE_EQUAL(GC_register_disappearing_link((void **)&b->next), GC_SUCCESS);
        GC_register_finalizer(a, (GC_finalization_proc)p, NULL, NULL, NULL);
    }
}

static long runs;
static void count_run(void *object, void *data) {
    (void)data;
    const struct node *a = object;
    REQUIRE(a->next->next == NULL);
    runs++;
}

static void links_break_cycles_for_finalizers(void) {
    GC_INIT();
    far_below(make_own_links, (void *)count_run);
    for (int i = 0; i < 3; i++) {
        collect_all();
        GC_invoke_finalizers();
    }
    REQUIRE_MOST(runs, MANY);
}

/* Long links stay while a finalizer may bring the object back. */
static void **long_slots, **short_slots;

static void keep(void *object, void *data) {
    (void)data;
    held[runs++] = object;
}

static void make_both_links(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        struct node *n = GC_malloc(sizeof *n);
        short_slots[i] = long_slots[i] = (void *)GC_HIDE_POINTER(n);
        GC_general_register_disappearing_link(short_slots + i, n);
        GC_register_long_link(long_slots + i, n);
        GC_register_finalizer(n, keep, NULL, NULL, NULL);
    }
}

static int count_in(void **array) {
    slots = array;
    return count_slots(0, MANY);
}

static void long_links_wait_for_finalizers(void) {
    GC_INIT();
    GC_set_finalize_on_demand(1);
    long_slots = calloc(MANY, sizeof *long_slots);
    short_slots = calloc(MANY, sizeof *short_slots);
    far_below(make_both_links, NULL);
    wipe_stack();
    GC_gcollect();
    REQUIRE_FEW(count_in(short_slots), MANY);
    REQUIRE_EQUAL(count_in(long_slots), MANY);
    GC_invoke_finalizers(); /* brings them back */
    REQUIRE_MOST(runs, MANY);
    collect_all();
    REQUIRE_EQUAL(count_in(long_slots), MANY);
    memset(held, 0, sizeof held);
    collect_all();
    REQUIRE_FEW(count_in(long_slots), MANY);
}

static int disclaim_kind;
static long disclaimed, refused;
static bool refuse;

static int disclaim(void *object) {
    GC_word *words = object;
    if (words[1] != 0x5eed) return 0; /* it was never given out */
    if (refuse) {
        refused++;
        return 1;
    }
    words[1] = 0;
    disclaimed++;
    return 0;
}

static void make_disclaimed(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        GC_word *words = GC_generic_malloc(48, disclaim_kind);
        words[1] = 0x5eed;
        words[2] = (GC_word)GC_malloc(16);
        GC_end_stubborn_change(words);
    }
}

static void reclaiming_is_announced(void) {
    GC_INIT();
    disclaim_kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    GC_register_disclaim_proc(disclaim_kind, disclaim, 0);
    far_below(make_disclaimed, NULL);
    collect_all();
    collect_all();
    REQUIRE_MOST(disclaimed, MANY);
    REQUIRE(disclaimed <= MANY);
    held[0] = GC_generic_malloc(48, disclaim_kind); /* a live one isn't */
    ((GC_word *)held[0])[1] = 0x5eed;
    disclaimed = 0;
    collect_all();
    REQUIRE(((GC_word *)held[0])[1] == 0x5eed);
}

static void reclaiming_may_be_refused(void) {
    GC_INIT();
    refuse = true;
    disclaim_kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    GC_register_disclaim_proc(disclaim_kind, disclaim, 0);
    far_below(make_disclaimed, NULL);
    collect_all();
    REQUIRE_MOST(refused, MANY);
    for (int i = 0; i < 4 * MANY; i++) held[i] = GC_generic_malloc(48, disclaim_kind);
    for (int i = 0; i < 4 * MANY; i++) REQUIRE(((GC_word *)held[i])[1] == 0);
    refuse = false;
    collect_all();
    collect_all();
    REQUIRE_MOST(disclaimed, MANY);
}

static void make_resized(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        GC_word *words = GC_generic_malloc(48, disclaim_kind);
        words[1] = 0x5eed;
        words = GC_realloc(words, 400);
        REQUIRE(words[1] == 0x5eed);
        REQUIRE_EQUAL(GC_get_kind_and_size(words, NULL), disclaim_kind);
        if (i < MANY / 2) held[i] = words; /* not every other: Boehm's tells of whole blocks */
        words = GC_generic_malloc(48, disclaim_kind);
        words[1] = 0x5eed;
        GC_free(words);
    }
}

/* Each once, and those that were freed not at all. */
static void reclaiming_is_announced_after_realloc(void) {
    GC_INIT();
    disclaim_kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    GC_register_disclaim_proc(disclaim_kind, disclaim, 0);
    far_below(make_resized, NULL);
    collect_all();
    collect_all();
    REQUIRE_MOST(disclaimed, MANY / 2);
    REQUIRE(disclaimed <= MANY / 2);
    for (int i = 0; i < MANY / 2; i++) REQUIRE(((GC_word *)held[i])[1] == 0x5eed);
    memset(held, 0, sizeof held);
    collect_all();
    collect_all();
    REQUIRE_MOST(disclaimed, MANY);
    REQUIRE(disclaimed <= MANY);
}

static int kinds_of_threads[2];
static int registering;

static void *register_one(void *p) {
    __atomic_add_fetch(&registering, 1, __ATOMIC_SEQ_CST);
    GC_register_disclaim_proc(*(int *)p, disclaim, 0);
    return NULL;
}

/* Both have begun, and wait if they need the lock. */
static void *let_both_begin(void *p) {
    pthread_t *threads = p;
    for (int t = 0; t < 2; t++)
        REQUIRE_EQUAL(pthread_create(&threads[t], NULL, register_one, &kinds_of_threads[t]), 0);
    while (__atomic_load_n(&registering, __ATOMIC_SEQ_CST) < 2) usleep(100);
    usleep(50000);
    return NULL;
}

static void two_threads_may_announce_at_once(void) {
    GC_INIT();
    GC_allow_register_threads();
    pthread_t threads[2];
    for (int t = 0; t < 2; t++)
        kinds_of_threads[t] = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    GC_call_with_alloc_lock(let_both_begin, threads);
    for (int t = 0; t < 2; t++) pthread_join(threads[t], NULL);
    for (int t = 0; t < 2; t++) {
        disclaim_kind = kinds_of_threads[t];
        far_below(make_disclaimed, NULL);
        collect_all();
        collect_all();
        REQUIRE_MOST(disclaimed, (t + 1) * MANY);
    }
}

/* With mark_from_all what an object to be reclaimed points to is whole when it is announced. */
static int look_at_child(void *object) {
    GC_word *words = object;
    if (words[1] != 0x5eed) return 0;
    const long *child = (const long *)words[2];
    REQUIRE(*child == 77);
    words[1] = 0;
    disclaimed++;
    return 0;
}

static void make_parents(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        GC_word *words = GC_generic_malloc(48, disclaim_kind);
        long *child = GC_malloc(48);
        *child = 77;
        words[2] = (GC_word)child;
        words[1] = 0x5eed;
        GC_end_stubborn_change(words);
    }
}

static void what_is_to_be_reclaimed_may_hold_others(void) {
    GC_INIT();
    disclaim_kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    GC_register_disclaim_proc(disclaim_kind, look_at_child, 1);
    for (int round = 0; round < 3; round++) {
        far_below(make_parents, NULL);
        for (int i = 0; i < 20000; i++) memset(GC_malloc(48), 0x11, 48);
        collect_all();
    }
    collect_all();
    REQUIRE_MOST(disclaimed, 3 * MANY);
}

static long finalized;
static void finalize(void *object, void *data) {
    REQUIRE(*(long *)object == 4711);
    finalized += (long)(intptr_t)data;
}

static const struct GC_finalizer_closure closure = {finalize, (void *)1};

static void make_finalized(void *p) {
    (void)p;
    for (int i = 0; i < MANY; i++) {
        long *object = GC_finalized_malloc(40, &closure);
        REQUIRE((uintptr_t)object % sizeof(void *) == 0 && object[0] == 0 && object[4] == 0);
        *object = 4711;
        if (i % 2 == 0) held[i] = object;
    }
}

static void finalized_allocations_are_finalized_when_reclaimed(void) {
    GC_INIT();
    GC_init_finalized_malloc();
    far_below(make_finalized, NULL);
    collect_all();
    collect_all();
    REQUIRE_MOST(finalized, MANY / 2);
    REQUIRE(finalized <= MANY / 2);
    for (int i = 0; i < MANY; i += 2) REQUIRE(*(long *)held[i] == 4711);
    memset(held, 0, sizeof held);
    collect_all();
    collect_all();
    REQUIRE_MOST(finalized, MANY);
}

static void who_points_to_an_object_is_told(void) {
    GC_ref_kind (*info)(void *, void **, size_t *) =
        (GC_ref_kind(*)(void *, void **, size_t *))need_function("GC_get_back_ptr_info");
    GC_INIT();
    struct node *parent = held[0] = GC_debug_malloc(sizeof *parent, __FILE__, __LINE__);
    struct node *child = GC_debug_malloc(sizeof *child, __FILE__, __LINE__);
    parent->next = child;
    child = NULL;
    collect_all();
    void *base = NULL;
    size_t offset = 99;
    REQUIRE_EQUAL(info(parent->next, &base, &offset), GC_REFD_FROM_HEAP);
    REQUIRE(base == GC_base(parent) || base == (void *)parent);
    REQUIRE_EQUAL(info(parent, &base, &offset), GC_REFD_FROM_ROOT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(links_go_when_their_objects_do),
        CHILD_TEST(registering_twice_is_told),
        CHILD_TEST(unregistered_links_stay),
        CHILD_TEST(links_can_be_moved),
        CHILD_TEST(long_links_can_be_moved),
        CHILD_TEST(links_in_dead_objects_are_forgotten),
        CHILD_TEST(links_break_cycles_for_finalizers),
        CHILD_TEST(long_links_wait_for_finalizers),
        CHILD_TEST(reclaiming_is_announced),
        CHILD_TEST(reclaiming_may_be_refused),
        CHILD_TEST(reclaiming_is_announced_after_realloc),
        CHILD_TEST(two_threads_may_announce_at_once),
        CHILD_TEST(what_is_to_be_reclaimed_may_hold_others),
        CHILD_TEST(finalized_allocations_are_finalized_when_reclaimed),
        CHILD_TEST(who_points_to_an_object_is_told),
    };
    return cmocka_run_group_tests_name("boehm_links", tests, NULL, NULL);
}
