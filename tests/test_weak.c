/* Weak references and disappearing links: what clears them, when, and that they follow what moves.
 * At the end a random program and a model of what must have become of its objects. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "nodes.h"
#include "support.h"
#include "threads_support.h"

/* A reference of each kind, to something that is kept and to something that isn't. */
static gc_weak *weak[2][2];
static gc_handle *kept;
static struct node *saved;

static void save(void *p, void *data) {
    (void)data;
    saved = p;
}

static void make_referred(void) {
    for (int kind = 0; kind < 2; kind++) {
        weak[kind][0] = gc_weak_new(make(1, NULL), (enum gc_weak_kind)kind);
        REQUIRE_EQUAL(((struct node *)gc_weak_get(weak[kind][0]))->number, 1);
    }
    struct node *n = make(2, make(3, NULL));
    kept = gc_handle_new(n);
    for (int kind = 0; kind < 2; kind++) weak[kind][1] = gc_weak_new(n, (enum gc_weak_kind)kind);
}

static void look_at_referred(void) {
    for (int kind = 0; kind < 2; kind++) {
        REQUIRE(gc_weak_get(weak[kind][0]) == NULL);
        const struct node *n = gc_weak_get(weak[kind][1]);
        REQUIRE(n == gc_handle_get(kept));
        REQUIRE(n->number == 2 && n->next->number == 3);
    }
}

static void a_weak_reference_is_cleared_when_its_object_dies(void) {
    need_optimised_code();
    for (int round = 0; round < 6; round++) {
        typed = round % 2;
        garbage(make_referred);
        collect(round < 2 ? GC_MINOR : round < 4 ? GC_FULL : GC_COMPACT);
        for (int i = 0; i < 100; i++) make(50, NULL);
        collect(GC_COMPACT);
        garbage(look_at_referred);
        gc_handle_free(kept);
        clear_stack();
        collect(GC_FULL);
        for (int kind = 0; kind < 2; kind++) {
            REQUIRE(gc_weak_get(weak[kind][1]) == NULL);
            gc_weak_free(weak[kind][0]);
            gc_weak_free(weak[kind][1]);
        }
        REQUIRE_EQUAL(statistics().weak_references, 0);
    }
    gc_weak_free(NULL);
}

static void make_finalized(void) {
    struct node *n = make(4, make(5, NULL));
    REQUIRE_EQUAL(gc_finalizer_set(n, save, NULL, GC_ORDERED), 0);
    for (int kind = 0; kind < 2; kind++) {
        weak[kind][0] = gc_weak_new(n, (enum gc_weak_kind)kind);
        weak[kind][1] = gc_weak_new(n->next, (enum gc_weak_kind)kind);
    }
}

static void short_ones_are_cleared_before_finalization_long_ones_after(void) {
    need_optimised_code();
    for (int round = 0; round < 4; round++) {
        typed = round % 2;
        garbage(make_finalized);
        collect(round < 2 ? GC_MINOR : GC_COMPACT);
        for (int i = 0; i < 2; i++) {
            REQUIRE(gc_weak_get(weak[GC_WEAK_SHORT][i]) == NULL);
            REQUIRE_EQUAL(((struct node *)gc_weak_get(weak[GC_WEAK_LONG][i]))->number, 4 + i);
        }
        REQUIRE_EQUAL(gc_run_finalizers(), 1);
        clear_stack();
        collect(GC_COMPACT);
        REQUIRE(gc_weak_get(weak[GC_WEAK_LONG][0]) == saved);
        REQUIRE(gc_weak_get(weak[GC_WEAK_LONG][1]) == saved->next);
        saved = NULL;
        clear_stack();
        collect(GC_FULL);
        for (int i = 0; i < 2; i++) {
            REQUIRE(gc_weak_get(weak[GC_WEAK_LONG][i]) == NULL);
            for (int kind = 0; kind < 2; kind++) gc_weak_free(weak[kind][i]);
        }
    }
}

static void setting_a_weak_reference_changes_what_clears_it(void) {
    need_optimised_code();
    static struct node *a, *b;
    a = make(1, NULL);
    make(0, NULL);
    b = make(2, NULL);
    gc_weak *w = gc_weak_new(NULL, GC_WEAK_SHORT);
    REQUIRE(gc_weak_get(w) == NULL);
    REQUIRE_EQUAL(gc_weak_set(w, a), 0);
    collect(GC_FULL);
    REQUIRE(gc_weak_get(w) == a);
    REQUIRE_EQUAL(gc_weak_set(w, b), 0);
    a = NULL;
    collect(GC_FULL);
    REQUIRE(gc_weak_get(w) == b);
    REQUIRE_EQUAL(gc_weak_set(w, b), 0);
    REQUIRE_EQUAL(gc_weak_set(w, NULL), 0);
    REQUIRE(gc_weak_get(w) == NULL);
    REQUIRE_EQUAL(gc_weak_set(w, b), 0);
    gc_free(b);
    REQUIRE(gc_weak_get(w) == NULL);
    b = make(3, NULL);
    REQUIRE_EQUAL(gc_weak_set(w, b), 0);
    b = gc_realloc(b, 20000);
    REQUIRE(gc_weak_get(w) == b);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void bad_arguments_are_refused(void) {
    static struct node *n, *gone;
    static void *slot;
    n = make(1, NULL);
    gone = gc_alloc(2000);
    gc_free(gone);
    errno = 0;
    REQUIRE(gc_weak_new(&n->other, GC_WEAK_SHORT) == NULL && errno == EINVAL);
    errno = 0;
    REQUIRE(gc_weak_new(&slot, GC_WEAK_SHORT) == NULL && errno == EINVAL);
    errno = 0;
    REQUIRE(gc_weak_new(n, (enum gc_weak_kind)2) == NULL && errno == EINVAL);
    gc_weak *w = gc_weak_new(n, GC_WEAK_LONG);
    REQUIRE_EQUAL(gc_weak_set(w, gone), EINVAL);
    REQUIRE(gc_weak_get(w) == n);
    REQUIRE_EQUAL(gc_link_register(&slot, gone, GC_WEAK_SHORT), EINVAL);
    REQUIRE_EQUAL(gc_link_register(&slot, &n->other, GC_WEAK_SHORT), EINVAL);
    REQUIRE_EQUAL(gc_link_register((void **)gone, n, GC_WEAK_SHORT), EINVAL);
    REQUIRE_EQUAL(gc_link_register((void **)((char *)&slot + 1), n, GC_WEAK_SHORT), EINVAL);
    REQUIRE_EQUAL(gc_link_register(NULL, n, GC_WEAK_SHORT), EINVAL);
    REQUIRE_EQUAL(gc_link_register(&slot, n, (enum gc_weak_kind)7), EINVAL);
    REQUIRE_EQUAL(gc_link_unregister(&slot, GC_WEAK_SHORT), ENOENT);
    REQUIRE_EQUAL(gc_link_register(&slot, n, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_register(&slot, n, GC_WEAK_SHORT), EEXIST);
    REQUIRE_EQUAL(gc_link_register(&slot, n, GC_WEAK_LONG), 0);
    REQUIRE_EQUAL(gc_link_unregister(&slot, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_unregister(&slot, GC_WEAK_SHORT), ENOENT);
    REQUIRE_EQUAL(gc_link_move(&slot, (void **)gone, GC_WEAK_LONG), EINVAL);
    REQUIRE_EQUAL(gc_link_move(&slot, (void **)&n->other, GC_WEAK_SHORT), ENOENT);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Links ---------------------------------------------------------------------------------- */

enum { SLOTS = 64 };
static void **outside;
static gc_handle *holder; /* of a leaf with slots */

static void link_slots(void) {
    void **inside = gc_handle_get(holder);
    for (size_t i = 0; i < SLOTS; i++) {
        struct node *n = make(i, NULL);
        if (i % 2) {
            outside[i] = (void *)hide(n);
            inside[i] = n;
        } else {
            outside[i] = n;
            inside[i] = (void *)hide(n);
        }
        REQUIRE_EQUAL(gc_link_register(&outside[i], n, (enum gc_weak_kind)(i % 2)), 0);
        REQUIRE_EQUAL(gc_link_register(&inside[i], n, GC_WEAK_SHORT), 0);
        if (i % 4 < 2) { /* is kept */
            n->next = saved;
            saved = n;
        }
    }
}

static size_t check_slots(void) {
    void **inside = gc_handle_get(holder);
    size_t left = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        if (outside[i] == NULL && inside[i] == NULL) continue;
        const struct node *n = i % 2 ? inside[i] : outside[i];
        REQUIRE(hide(n) == (uintptr_t)(i % 2 ? outside[i] : inside[i]));
        REQUIRE(gc_base(n) == n && n->number == i);
        left++;
    }
    return left;
}

static void links_disappear_with_their_targets_and_follow_them(void) {
    need_optimised_code();
    outside = calloc(SLOTS, sizeof *outside);
    for (int round = 0; round < 4; round++) {
        typed = round % 2;
        saved = NULL;
        holder = gc_handle_new(gc_alloc_leaf(SLOTS * sizeof(void *)));
        if (round >= 2) collect(GC_FULL);
        garbage(link_slots);
        collect(GC_MINOR);
        size_t left = check_slots(); /* those that lie beside what is kept live too */
        REQUIRE(left >= SLOTS / 2 && left < SLOTS);
        for (int i = 0; i < 3; i++) {
            collect(GC_COMPACT);
            REQUIRE(check_slots() >= SLOTS / 2);
        }
        REQUIRE(statistics().links >= SLOTS);
        gc_handle_free(holder); /* its links end */
        clear_stack();
        collect(GC_FULL);
        REQUIRE(statistics().links <= SLOTS / 2 + SLOTS / 4);
        saved = NULL;
        clear_stack();
        collect(GC_FULL);
        for (size_t i = 0; i < SLOTS; i++) REQUIRE(outside[i] == NULL);
        REQUIRE_EQUAL(statistics().links, 0);
    }
}

static void link_in_garbage(void) {
    for (size_t i = 0; i < 20; i++) {
        void **slots = gc_alloc_leaf(64);
        REQUIRE_EQUAL(gc_link_register(&slots[i % 8], saved, GC_WEAK_SHORT), 0);
    }
}

static void a_link_ends_with_its_holder(void) {
    need_optimised_code();
    for (int round = 0; round < 2; round++) {
        typed = round;
        saved = make(1, NULL);
        make(0, NULL);
        garbage(link_in_garbage);
        collect(GC_MINOR);
        REQUIRE(statistics().links <= 1);
        for (int i = 0; i < 1000; i++) memset(gc_alloc_leaf(64), 7, 64);
        gc_free(saved);
        saved = NULL;
        REQUIRE_EQUAL(statistics().links, 0);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

static void a_link_can_be_moved_and_ended(void) {
    need_optimised_code();
    static void *slots[3];
    slots[0] = (void *)1;
    REQUIRE_EQUAL(gc_link_register(&slots[0], make(1, NULL), GC_WEAK_LONG), 0);
    slots[1] = (void *)2;
    REQUIRE_EQUAL(gc_link_move(&slots[0], &slots[1], GC_WEAK_LONG), 0);
    REQUIRE_EQUAL(gc_link_move(&slots[0], &slots[1], GC_WEAK_LONG), ENOENT);
    REQUIRE_EQUAL(gc_link_move(&slots[1], &slots[1], GC_WEAK_LONG), 0);
    slots[2] = (void *)3;
    REQUIRE_EQUAL(gc_link_register(&slots[2], make(2, NULL), GC_WEAK_LONG), 0);
    REQUIRE_EQUAL(gc_link_move(&slots[1], &slots[2], GC_WEAK_LONG), EEXIST);
    REQUIRE_EQUAL(gc_link_unregister(&slots[2], GC_WEAK_LONG), 0);
    collect(GC_FULL);
    REQUIRE(slots[0] == (void *)1 && slots[1] == NULL && slots[2] == (void *)3);
    REQUIRE_EQUAL(statistics().links, 0);
}

static void a_link_ends_with_the_part_of_its_holder(void) {
    static void **block;
    static struct node *n;
    n = make(1, NULL);
    block = gc_alloc_leaf(100000);
    REQUIRE_EQUAL(gc_link_register(&block[1], n, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_register(&block[9000], n, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_register(&block[12000], n, GC_WEAK_SHORT), 0);
    block = gc_realloc(block, 80000); /* where it is */
    REQUIRE_EQUAL(statistics().links, 2);
    block = gc_realloc(block, 200);
    REQUIRE_EQUAL(statistics().links, 1);
    block[1] = n;
    gc_free(n);
    REQUIRE(block[1] == NULL);
    REQUIRE_EQUAL(statistics().links, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
    n = make(2, NULL);
    block = gc_alloc_leaf(100000);
    REQUIRE_EQUAL(gc_link_register(&block[9000], n, GC_WEAK_SHORT), 0);
    block = gc_realloc(block, 200); /* elsewhere, and nothing is left to watch */
    REQUIRE_EQUAL(statistics().links, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
    REQUIRE_EQUAL(gc_link_register(&block[0], block, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_register(&block[2], n, GC_WEAK_SHORT), 0);
    gc_free(block);
    REQUIRE_EQUAL(statistics().links, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_slot_that_is_searched_keeps_its_target(void) {
    static struct node *n;
    n = make(1, NULL);
    n->other = make(2, NULL);
    REQUIRE_EQUAL(gc_link_register((void **)&n->other, n->other, GC_WEAK_SHORT), 0);
    collect(GC_MINOR);
    collect(GC_COMPACT);
    REQUIRE_EQUAL(n->other->number, 2);
    REQUIRE_EQUAL(statistics().links, 1);
}

/* ---- A random program ----------------------------------------------------------------------- */

/* The shadow of an object: where it is referred to from, and what it has. */
enum { OBJECTS = 400, FIELDS = 2, ROOTS = 40 };

struct shadow {
    bool exists; /* it hasn't been found dead for good */
    size_t number;
    int field[FIELDS]; /* shadows; -1: NULL */
    bool has_finalizer;
    bool dropped; /* nothing led to it at some time */
    gc_weak *weak[2];
};

static struct shadow shadows[OBJECTS];
static gc_handle *roots[ROOTS];
static int root_of[ROOTS]; /* shadows; -1 */
static uintptr_t *links;   /* outside; hidden addresses */
static uint64_t random_state;
static size_t made, finalized;

static size_t below(size_t n) {
    return next_random(&random_state) % n;
}

static void mark_shadow(int s, bool *seen) {
    if (s < 0 || seen[s]) return;
    seen[s] = true;
    for (int f = 0; f < FIELDS; f++) mark_shadow(shadows[s].field[f], seen);
}

static void find_reachable(bool *seen) {
    memset(seen, 0, OBJECTS);
    for (int r = 0; r < ROOTS; r++) mark_shadow(root_of[r], seen);
}

static void note_dropped(void) {
    bool seen[OBJECTS];
    find_reachable(seen);
    for (size_t i = 0; i < OBJECTS; i++) shadows[i].dropped |= !seen[i];
}

static void on_finalized(void *p, void *data) {
    struct shadow *s = data;
    const struct node *n = p;
    if (!s->exists || !s->has_finalizer || n->number != s->number)
        child_fail(__FILE__, __LINE__, "finalizer of %zu called for %zu", s->number, n->number);
    REQUIRE(s->dropped);
    s->has_finalizer = false;
    finalized++;
    if (below(4) != 0) return;
    size_t r = below(ROOTS); /* resurrected, with all it leads to */
    gc_handle_set(roots[r], p);
    root_of[r] = (int)(s - shadows);
    note_dropped();
}

static __attribute__((noinline)) void make_object(void) {
    size_t at = below(OBJECTS);
    struct shadow *s = &shadows[at];
    if (s->exists) return;
    typed = below(3) > 0;
    struct node *n = make(++made, NULL);
    gc_weak *a = s->weak[0] != NULL ? s->weak[0] : gc_weak_new(NULL, GC_WEAK_SHORT);
    gc_weak *b = s->weak[1] != NULL ? s->weak[1] : gc_weak_new(NULL, GC_WEAK_LONG);
    *s = (struct shadow){.exists = true, .number = made, .field = {-1, -1}, .weak = {a, b}};
    REQUIRE_EQUAL(gc_weak_set(a, n), 0);
    REQUIRE_EQUAL(gc_weak_set(b, n), 0);
    links[at] = hide(n);
    REQUIRE_EQUAL(gc_link_register((void **)&links[at], n, GC_WEAK_LONG), 0);
    if (below(2) == 0) {
        enum gc_order order = below(3) == 0 ? GC_ORDERED : GC_UNORDERED;
        REQUIRE_EQUAL(gc_finalizer_set(n, on_finalized, s, order), 0);
        s->has_finalizer = true;
    }
    size_t r = below(ROOTS);
    gc_handle_set(roots[r], n);
    root_of[r] = (int)at;
}

static __attribute__((noinline)) void change_reference(void) {
    size_t from = below(ROOTS), to = below(ROOTS), f = below(FIELDS);
    if (root_of[from] < 0) return;
    struct node *holds = gc_handle_get(roots[from]), *held = gc_handle_get(roots[to]);
    gc_write(holds, f == 0 ? &holds->next : &holds->other, held);
    shadows[root_of[from]].field[f] = root_of[to];
}

static __attribute__((noinline)) void change_root(void) {
    size_t from = below(ROOTS), to = below(ROOTS);
    struct node *n = gc_handle_get(roots[from]);
    if (below(3) == 0) {
        gc_handle_set(roots[to], NULL);
        root_of[to] = -1;
    } else if (n != NULL && root_of[from] >= 0) {
        size_t f = below(FIELDS);
        gc_handle_set(roots[to], f == 0 ? n->next : n->other);
        root_of[to] = shadows[root_of[from]].field[f];
    }
}

/* After a full collection.  What the model can reach is there; what isn't there was not to be
 * reached.  A word that happens to mean something may keep more. */
static void check_all(size_t *retained) {
    bool seen[OBJECTS];
    find_reachable(seen);
    for (size_t i = 0; i < OBJECTS; i++) {
        struct shadow *s = &shadows[i];
        if (!s->exists) continue;
        const struct node *n = gc_weak_get(s->weak[1]), *quick = gc_weak_get(s->weak[0]);
        if (seen[i] || s->has_finalizer)
            REQUIRE(n != NULL && n->number == s->number && links[i] == hide(n));
        REQUIRE(quick == NULL || quick == n);
        REQUIRE((n == NULL) == (links[i] == 0));
        if (n != NULL) REQUIRE(links[i] == hide(n) && gc_base(n) == n);
        for (int f = 0; f < FIELDS && n != NULL && seen[i]; f++) {
            const struct node *to = f == 0 ? n->next : n->other;
            REQUIRE((to == NULL) == (s->field[f] < 0));
            if (to != NULL) REQUIRE_EQUAL(to->number, shadows[s->field[f]].number);
        }
        if (n == NULL) s->exists = false;
        if (n != NULL && !seen[i] && !s->has_finalizer) ++*retained;
    }
}

static void the_random_program(void) {
    need_optimised_code();
    char *chosen = getenv("CAIRN_TEST_SEED");
    random_state = chosen != NULL ? strtoull(chosen, NULL, 0) : now_ns() | 1;
    printf("CAIRN_TEST_SEED=%llu\n", (unsigned long long)random_state);
    links = calloc(OBJECTS, sizeof *links);
    for (int r = 0; r < ROOTS; r++) {
        roots[r] = gc_handle_new(NULL);
        root_of[r] = -1;
    }
    size_t checks = 0, retained = 0;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned what = (unsigned)below(100);
        if (what < 45)
            make_object();
        else if (what < 75)
            change_reference();
        else if (what < 97)
            change_root();
        else if (what < 98)
            collect(below(2) ? GC_FULL : GC_COMPACT);
        else
            collect(GC_MINOR);
        note_dropped();
        if (step % 50 == 49) gc_run_finalizers();
        if (step % 200 == 199) {
            collect(GC_FULL);
            check_all(&retained);
            checks++;
        }
    }
    gc_stats stats = statistics();
    printf("%zu objects, %zu finalized, %llu cycles, %.1f retained at each of %zu checks\n", made,
        finalized, (unsigned long long)stats.finalizer_cycles, (double)retained / (double)checks,
        checks);
    REQUIRE(made > 1000 && finalized > 200);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Threads -------------------------------------------------------------------------------- */

/* Each makes objects with everything, drops most, and looks at what is left. */
static void count_one(void *p, void *data) {
    REQUIRE(((struct node *)p)->number < 1000000);
    __atomic_fetch_add((size_t *)data, 1, __ATOMIC_RELAXED);
}

static size_t finalized_by_all;

static __attribute__((noinline)) gc_weak *make_watched(size_t i, void **slot) {
    struct node *n = i % 2 ? gc_new(struct node) : gc_alloc(sizeof *n);
    n->number = i;
    REQUIRE_EQUAL(gc_finalizer_set(n, count_one, &finalized_by_all, GC_UNORDERED), 0);
    *slot = (void *)hide(n);
    REQUIRE_EQUAL(gc_link_register(slot, n, GC_WEAK_SHORT), 0);
    return gc_weak_new(n, GC_WEAK_LONG);
}

enum { EACH = 2000, THREADS = 4 };

static void *make_many(void *argument) {
    (void)argument;
    enum { KEPT = 50 };
    gc_weak *references[KEPT] = {NULL};
    void **slots = calloc(KEPT, sizeof *slots);
    for (size_t i = 0; i < EACH; i++) {
        size_t at = i % KEPT;
        if (references[at] != NULL) {
            const struct node *n = gc_weak_get(references[at]);
            REQUIRE(n == NULL || n->number == i - KEPT);
            int error = gc_link_unregister(&slots[at], GC_WEAK_SHORT);
            REQUIRE(error == 0 || error == ENOENT);
            gc_weak_free(references[at]);
        }
        references[at] = make_watched(i, &slots[at]);
        if (i % 100 == 99) gc_run_finalizers();
    }
    clear_stack();
    return NULL;
}

static void threads_register_while_others_collect(void) {
    need_optimised_code();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) threads[i] = start_thread(make_many, NULL);
    for (int i = 0; i < 40; i++) {
        gc_collect(i % 4 == 3 ? GC_COMPACT : i % 4 == 2 ? GC_FULL : GC_MINOR);
        sleep_ms(1);
    }
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
    collect(GC_FULL);
    gc_run_finalizers();
    collect(GC_FULL);
    size_t done = __atomic_load_n(&finalized_by_all, __ATOMIC_RELAXED);
    REQUIRE(done > THREADS * EACH * 9 / 10 && done <= THREADS * EACH);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* Whoever looks while it is set to another object sees one of both. */
static gc_weak *shared;
static int through;

static void *look_on(void *argument) {
    size_t seen = 0;
    for (size_t looks = 0; looks < 10000000 || seen != 3; looks++) {
        const struct node *n = gc_weak_get(shared);
        REQUIRE(n != NULL && (n->number == 1 || n->number == 2));
        seen |= n->number;
    }
    raise_flag(&through, 1);
    return argument;
}

static void a_weak_reference_is_set_at_once(void) {
    static struct node *n[2];
    for (size_t i = 0; i < 2; i++) n[i] = make(i + 1, NULL);
    shared = gc_weak_new(n[0], GC_WEAK_SHORT);
    pthread_t thread = start_thread(look_on, NULL);
    for (size_t i = 0; !look_at(&through); i++) gc_weak_set(shared, n[i & 1]);
    end_thread(thread);
}

int main(void) {
#define HARD(test)                                                                                 \
    CHILD_TEST(test, "CAIRN_VERIFY=1"),                                                            \
        CHILD_TEST(test, "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect", "CAIRN_PROTECT_MOVED=3"),     \
        CHILD_TEST(test, "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_MARK_STACK_LIMIT=4K",          \
            "CAIRN_BARRIER=none")
#define RANDOM(...) CHILD_TEST(the_random_program, "CAIRN_VERIFY=1", __VA_ARGS__)
    const struct CMUnitTest tests[] = {
        HARD(a_weak_reference_is_cleared_when_its_object_dies),
        HARD(short_ones_are_cleared_before_finalization_long_ones_after),
        HARD(setting_a_weak_reference_changes_what_clears_it),
        CHILD_TEST(bad_arguments_are_refused, "CAIRN_VERIFY=1"),
        CHILD_SAYS(bad_arguments_are_refused, "is no slot: it must be a multiple of 8"),
        HARD(links_disappear_with_their_targets_and_follow_them),
        HARD(a_link_ends_with_its_holder),
        HARD(a_link_can_be_moved_and_ended),
        HARD(a_link_ends_with_the_part_of_its_holder),
        HARD(a_slot_that_is_searched_keeps_its_target),
        CHILD_TEST(a_weak_reference_is_set_at_once),
        RANDOM("CAIRN_BARRIER=uffd"),
        RANDOM("CAIRN_BARRIER=mprotect", "CAIRN_STRESS=37"),
        RANDOM("CAIRN_BARRIER=cross", "CAIRN_STRESS=97", "CAIRN_POISON=1"),
        RANDOM("CAIRN_BARRIER=explicit-cross", "CAIRN_WRITES_EXPLICITLY=all", "CAIRN_STRESS=51"),
        RANDOM("CAIRN_BARRIER=none", "CAIRN_PROTECT_MOVED=2", "CAIRN_MARK_STACK_LIMIT=4K"),
        RANDOM("CAIRN_FINALIZERS=inline", "CAIRN_STRESS=29"),
        CHILD_TEST(threads_register_while_others_collect, "CAIRN_VERIFY=1"),
        CHILD_TEST(threads_register_while_others_collect, "CAIRN_FINALIZERS=thread"),
        CHILD_TEST(threads_register_while_others_collect, "CAIRN_STOP=safepoint"),
        CHILD_TEST(threads_register_while_others_collect, "CAIRN_STRESS=203", "CAIRN_WORKERS=2"),
    };
    return cmocka_run_group_tests_name("weak", tests, NULL, NULL);
}
