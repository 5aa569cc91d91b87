/* Ephemerons: each rule of docs/ephemerons.md, and a random program beside a naive model of what must
 * live. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "child.h"
#include "support.h"
#include "threads_support.h"

struct node {
    void *edge[3];
    uint64_t number;
};
GC_TYPE(struct node, edge[0], edge[1], edge[2]);

struct slot {
    void *p;
};
GC_TYPE(struct slot, p);

/* Slots outside of what is searched as ambiguous: what only they refer to may move. */
enum { SLOTS = 16 };
static gc_handle *handles[SLOTS];

static void start(void) {
    for (unsigned i = 0; i < SLOTS; i++) REQUIRE((handles[i] = gc_handle_new(NULL)) != NULL);
}

static void *at(unsigned slot) {
    return gc_handle_get(handles[slot]);
}

static __attribute__((noinline)) void put_node(unsigned slot, uint64_t number) {
    struct node *p = gc_new(struct node);
    REQUIRE(p != NULL);
    p->number = number;
    gc_handle_set(handles[slot], p);
}

static void drop(unsigned slot) {
    gc_handle_set(handles[slot], NULL);
}

/* In slot E one of the key in slot K and a new value, which refers to the key if CYCLE. */
static __attribute__((noinline)) void put_ephemeron(
    unsigned e, unsigned k, uint64_t number, bool cycle) {
    put_node(SLOTS - 1, number);
    gc_ephemeron *p = gc_ephemeron_new(at(k), at(SLOTS - 1));
    REQUIRE(p != NULL);
    if (cycle) ((struct node *)at(SLOTS - 1))->edge[0] = at(k);
    gc_handle_set(handles[e], p);
    drop(SLOTS - 1);
}

static __attribute__((noinline)) uint64_t value_number(unsigned e) {
    const struct node *value = gc_ephemeron_value(at(e));
    return value == NULL ? 0 : value->number;
}

static __attribute__((noinline)) bool is_whole(unsigned e, unsigned k, uint64_t number) {
    return gc_ephemeron_key(at(e)) == at(k) && value_number(e) == number &&
           !gc_ephemeron_is_dead(at(e));
}

static __attribute__((noinline)) bool is_dead(unsigned e) {
    return gc_ephemeron_is_dead(at(e)) && gc_ephemeron_key(at(e)) == NULL &&
           gc_ephemeron_value(at(e)) == NULL;
}

/* ---- Single ephemerons ---------------------------------------------------------------------- */

static void with_each_collection(void (*f)(enum gc_collection kind)) {
    need_optimised_code();
    start();
    const enum gc_collection kinds[] = {GC_MINOR, GC_FULL, GC_COMPACT, GC_MINOR};
    for (unsigned i = 0; i < 4; i++) {
        f(kinds[i]);
        for (unsigned s = 0; s < SLOTS; s++) drop(s);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

static void keep_and_end(enum gc_collection kind) {
    put_node(0, 1);
    put_ephemeron(1, 0, 7, false);
    put_ephemeron(2, 0, 8, true);
    collect(kind);
    REQUIRE(is_whole(1, 0, 7) && is_whole(2, 0, 8));
    collect(GC_FULL);
    REQUIRE(is_whole(1, 0, 7) && is_whole(2, 0, 8));
    drop(0);
    collect(GC_FULL);
    REQUIRE(is_dead(1) && is_dead(2));
}

static void a_value_lives_as_long_as_its_key(void) {
    with_each_collection(keep_and_end);
}

static void end_young(enum gc_collection kind) {
    put_node(0, 1);
    put_ephemeron(1, 0, 7, true);
    drop(0);
    collect(kind);
    REQUIRE(is_dead(1));
}

static void a_young_key_dies_in_any_collection(void) {
    with_each_collection(end_young);
}

static void end_with_holder(enum gc_collection kind) {
    put_node(0, 1);
    put_ephemeron(1, 0, 7, false);
    uintptr_t value = hide(gc_ephemeron_value(at(1)));
    drop(1);
    collect(kind);
    REQUIRE_EQUAL(count_alive(&value, 1), 0);
}

static void a_value_ends_with_its_ephemeron(void) {
    with_each_collection(end_with_holder);
}

static __attribute__((noinline)) void point(unsigned e, unsigned k, uint64_t number) {
    put_node(SLOTS - 1, number);
    REQUIRE_EQUAL(gc_ephemeron_set_value(at(e), at(SLOTS - 1)), 0);
    REQUIRE(gc_ephemeron_key(at(e)) == at(k));
    drop(SLOTS - 1);
}

/* The remembered set must say so. */
static void an_old_ephemeron_keeps_a_young_value(void) {
    start();
    put_node(0, 1);
    put_ephemeron(1, 0, 7, false);
    settle_old();
    for (unsigned i = 0; i < 5; i++) {
        point(1, 0, 100 + i);
        collect(GC_MINOR);
        REQUIRE(is_whole(1, 0, 100 + i));
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void an_old_key_stays_in_minor_collections(void) {
    need_optimised_code();
    start();
    put_node(0, 1);
    put_ephemeron(1, 0, 7, false);
    settle_old();
    drop(0);
    collect(GC_MINOR);
    REQUIRE(!is_dead(1));
    collect(GC_FULL);
    REQUIRE(is_dead(1));
}

static void setting_and_clearing(void) {
    need_optimised_code();
    start();
    put_node(0, 1);
    put_ephemeron(1, 0, 7, false);
    REQUIRE_EQUAL(gc_ephemeron_set_value(at(1), NULL), 0);
    REQUIRE(gc_ephemeron_value(at(1)) == NULL && !gc_ephemeron_is_dead(at(1)));
    REQUIRE_EQUAL(gc_ephemeron_set_value(at(1), (void *)(uintptr_t)42), 0);
    collect(GC_FULL);
    REQUIRE(gc_ephemeron_value(at(1)) == (void *)(uintptr_t)42);
    gc_ephemeron_clear(at(1));
    REQUIRE(is_dead(1));
    REQUIRE_EQUAL(gc_ephemeron_set_value(at(1), at(0)), ESRCH);
    REQUIRE(is_dead(1));
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void keys_and_values_of_every_kind(void) {
    enum { COUNT = 8 };
    need_optimised_code();
    start();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            void *p = i == 0   ? gc_alloc(16)
                      : i == 1 ? gc_alloc(100)
                      : i == 2 ? gc_alloc(100000)
                      : i == 3 ? gc_alloc_leaf(16)
                      : i == 4 ? gc_alloc_leaf(3000)
                      : i == 5 ? gc_alloc_leaf(50000)
                      : i == 6 ? (void *)gc_new(struct node)
                               : gc_alloc_array(gc_type_of(gc_new(struct slot)), 5000);
            gc_handle_set(handles[i], p);
            put_ephemeron(COUNT + i % 7, i, i + 1, false);
            if (i == 6) collect(round == 0 ? GC_MINOR : round == 1 ? GC_FULL : GC_COMPACT);
        }
        for (unsigned i = 1; i < COUNT; i++) REQUIRE(is_whole(COUNT + i % 7, i, i + 1));
        for (unsigned i = 0; i < COUNT; i++) drop(i);
        collect(GC_FULL);
        for (unsigned i = 0; i < 7; i++) REQUIRE(is_dead(COUNT + i));
    }
}

static __attribute__((noinline)) void hide_all(uintptr_t *places) {
    places[0] = hide(at(0));
    places[1] = hide(at(1));
    places[2] = hide(gc_ephemeron_value(at(1)));
}

static void a_key_and_its_ephemeron_move(void) {
    need_optimised_code();
    start();
    put_node(0, 1);
    put_ephemeron(1, 0, 7, true);
    put_node(2, 1); /* the newest may be meant by what allocation leaves in registers */
    put_ephemeron(3, 0, 7, false);
    uintptr_t before[3];
    hide_all(before);
    clear_stack();
    collect(GC_MINOR);
    uintptr_t after[3];
    hide_all(after);
    for (unsigned i = 0; i < 3; i++) REQUIRE(before[i] != after[i]);
    REQUIRE(is_whole(1, 0, 7));
}

/* ---- What is refused ------------------------------------------------------------------------ */

static void what_is_no_object_is_refused(void) {
    start();
    put_node(0, 1);
    char outside[16], *inside = at(0);
    void *freed = gc_alloc(100);
    gc_free(freed);
    void *keys[] = {NULL, outside, inside + 8, (void *)(uintptr_t)1, freed};
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
        errno = 0;
        REQUIRE(gc_ephemeron_new(keys[i], NULL) == NULL);
        REQUIRE_EQUAL(errno, EINVAL);
    }
    errno = 0;
    REQUIRE(gc_ephemeron_new(inside, inside + 8) == NULL && errno == EINVAL);
    gc_ephemeron *e = gc_ephemeron_new(inside, outside);
    REQUIRE(e != NULL && gc_ephemeron_value(e) == outside);
    REQUIRE_EQUAL(gc_ephemeron_set_value(e, inside + 8), EINVAL);
    REQUIRE(gc_ephemeron_value(e) == outside);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void before_there_is_a_heap_there_are_no_keys(void) {
    REQUIRE(gc_ephemeron_new(&errno, NULL) == NULL && errno == EINVAL);
}

static void a_key_freed_by_hand_counts_as_dead(void) {
    start();
    gc_handle_set(handles[0], gc_alloc(3000)); /* nothing else of this size */
    put_ephemeron(1, 0, 7, false);
    gc_free(at(0));
    drop(0);
    collect(GC_FULL);
    REQUIRE(is_dead(1));
}

static void no_memory_is_reported(void) {
    start();
    gc_options options;
    gc_options_init(&options);
    put_node(0, 1);
    static gc_handle *list;
    list = gc_handle_new(NULL);
    uint64_t made = 0;
    for (;; made++) {
        gc_ephemeron *e = gc_ephemeron_new(at(0), gc_handle_get(list));
        if (e == NULL) break;
        gc_handle_set(list, e);
    }
    REQUIRE(errno == ENOMEM && made > 1000);
    for (gc_ephemeron *e = gc_handle_get(list); e != NULL; e = gc_ephemeron_value(e), made--)
        REQUIRE(gc_ephemeron_key(e) == at(0));
    REQUIRE_EQUAL(made, 0);
}

/* ---- Chains --------------------------------------------------------------------------------- */

enum { WIDE = 600 };

/* What leads to the object in slot K: that itself, or another one, in slot V. */
static __attribute__((noinline)) void put_value(unsigned v, unsigned k, size_t i) {
    gc_handle_set(handles[v], at(k));
    if (i % 3 == 0) return;
    struct node *p = i % 3 == 1 ? gc_new(struct node) : gc_alloc(sizeof *p);
    REQUIRE(p != NULL);
    p->edge[1] = at(k);
    p->number = ((struct node *)at(k))->number;
    gc_handle_set(handles[v], p);
    if (i % 500 != 1) return;
    gc_handle_set(handles[5], gc_alloc_array(gc_type_of(gc_new(struct slot)), WIDE));
    for (unsigned j = 0; j < WIDE; j++) { /* more than a small mark stack has room for */
        put_node(6, j);
        ((struct node *)at(6))->edge[0] = at(k);
        struct slot *array = at(5);
        gc_write(array, &array[j].p, at(6));
    }
    p = at(v);
    gc_write(p, &p->edge[0], at(5));
    gc_write(p, &p->edge[1], NULL);
    drop(5);
    drop(6);
}

/* Of COUNT ephemerons in an array: the value of each leads to the key of the next, in the array's
 * order or against it, or shuffled.  Slot 0: the array; slot 1: the first key. */
static __attribute__((noinline)) void make_chain(size_t count, int order) {
    static size_t places[1000000];
    struct bench_random random = {11};
    for (size_t i = 0; i < count; i++) places[i] = order == 1 ? count - 1 - i : i;
    for (size_t i = count; order == 2 && i-- > 1;) {
        size_t j = bench_random_below(&random, i + 1), place = places[i];
        places[i] = places[j];
        places[j] = place;
    }
    gc_handle_set(handles[0], gc_alloc_array(gc_type_of(gc_new(struct slot)), count));
    put_node(1, 1);
    gc_handle_set(handles[2], at(1));
    for (size_t i = 0; i < count; i++) {
        put_node(3, i + 2);
        put_value(4, 3, i);
        gc_ephemeron *e = gc_ephemeron_new(at(2), at(4));
        REQUIRE(e != NULL);
        struct slot *array = at(0);
        gc_write(array, &array[places[i]].p, e);
        gc_handle_set(handles[2], at(3));
    }
    drop(2);
    drop(3);
    drop(4);
}

static __attribute__((noinline)) size_t count_whole(size_t count) {
    const struct slot *array = at(0);
    size_t whole = 0;
    for (size_t i = 0; i < count; i++) {
        const struct node *key = gc_ephemeron_key(array[i].p);
        if (key == NULL) continue;
        REQUIRE(((const struct node *)gc_ephemeron_value(array[i].p))->number == key->number + 1);
        whole++;
    }
    return whole;
}

static void try_chain(size_t count, int order, enum gc_collection kind) {
    make_chain(count, order);
    collect(kind);
    REQUIRE_EQUAL(count_whole(count), count);
    collect(GC_FULL);
    REQUIRE_EQUAL(count_whole(count), count);
    drop(1);
    collect(GC_FULL);
    REQUIRE(count_whole(count) <= (precise() ? 0 : 20)); /* what an old word on the stack keeps */
}

static void chains_in_any_order_live_and_die(void) {
    need_optimised_code();
    start();
    for (int order = 0; order < 3; order++) {
        try_chain(3000, order, GC_MINOR);
        try_chain(3000, order, GC_COMPACT);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

/* Looking at all that wait again and again would take hours, and the test has minutes. */
static void a_long_chain_takes_linear_time(void) {
    start();
    for (int order = 0; order < 3; order++) {
        make_chain(300000, order);
        collect(GC_FULL);
        REQUIRE_EQUAL(count_whole(300000), 300000);
    }
}

/* One key, of all, that is found late, and one that is never found. */
static unsigned finalized;

static void check_whole(void *p, void *expected) {
    const uintptr_t *words = p;
    REQUIRE(words[0] == (uintptr_t)expected && words[1] == ~(uintptr_t)expected);
    finalized++;
}

/* While the collector looks for keys, ephemerons hang on the first words of those that it hasn't
 * found.  There are several for each of these, which are of all kinds; the chain makes it look. */
static void a_dead_key_is_whole_when_it_is_finalized(void) {
    enum { COUNT = 64, EACH = 3 };
    start();
    make_chain(1000, 2);
    gc_handle_set(handles[4], gc_alloc_array(gc_type_of(gc_new(struct slot)), COUNT * EACH));
    for (uintptr_t i = 0; i < COUNT; i++) {
        uintptr_t *key = i % 4 == 0   ? gc_alloc(32)
                         : i % 4 == 1 ? gc_alloc_leaf(16)
                         : i % 4 == 2 ? gc_alloc_leaf(100000)
                                      : (uintptr_t *)gc_new(struct node);
        uintptr_t word = i % 4 == 3 ? 0 : i * 8 + 1;
        key[0] = word;
        if (i % 4 != 3) key[1] = ~word;
        gc_handle_set(handles[5], key);
        for (unsigned n = 0; n < EACH; n++) {
            gc_ephemeron *e = gc_ephemeron_new(at(5), NULL);
            struct slot *array = at(4);
            gc_write(array, &array[i * EACH + n].p, e);
        }
        if (i % 4 != 3)
            REQUIRE_EQUAL(gc_finalizer_set(at(5), check_whole, (void *)word, GC_UNORDERED), 0);
        drop(5);
        key = NULL;
    }
    collect(GC_FULL);
    REQUIRE_EQUAL(count_whole(1000), 1000);
    gc_run_finalizers();
    REQUIRE(finalized >= COUNT * 3 / 4 - 2); /* an old word on the stack may keep one */
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void many_ephemerons_of_one_key(void) {
    enum { COUNT = 20000 };
    need_optimised_code();
    start();
    make_chain(50, 1);
    gc_handle_set(handles[4], gc_alloc_array(gc_type_of(gc_new(struct slot)), COUNT));
    put_node(5, 1);
    for (unsigned i = 0; i < COUNT; i++) {
        const struct slot *chain = at(0);
        gc_ephemeron *e = gc_ephemeron_new(
            i % 2 ? at(5) : gc_ephemeron_value(chain[0].p), (void *)(uintptr_t)(i * 16 + 1));
        struct slot *array = at(4);
        gc_write(array, &array[i].p, e);
    }
    drop(5);
    collect(GC_FULL);
    const struct slot *array = at(4);
    for (unsigned i = 0; i < COUNT; i++)
        REQUIRE(gc_ephemeron_value(array[i].p) == (i % 2 ? NULL : (void *)(uintptr_t)(i * 16 + 1)));
    gc_stats stats = statistics();
    REQUIRE(stats.ephemerons_met >= COUNT && stats.ephemerons_cleared >= COUNT / 2);
}

/* ---- A random program ----------------------------------------------------------------------- */

/* The model: objects by number, and what they refer to.  An object is old when it has lived through
 * a collection, and gone when a full one has found it dead. */
enum { MOST = 6000, ROOTS = 6 };
enum kind { TYPED, AMBIGUOUS, LEAF, EPHEMERON };

static struct model_object {
    enum kind kind;
    bool old, gone;
    unsigned edge[3]; /* numbers, 0: none; of an ephemeron its key and its value */
} model[MOST];
static unsigned model_count, model_roots[ROOTS];
static bool marked[MOST];
static uintptr_t hidden[MOST]; /* where the objects that compare() came to are; 0: not reached */

static void *real(unsigned number) {
    return number == 0 ? NULL : reveal(hidden[number]);
}

static void forget(void) {
    memset(hidden, 0, sizeof hidden);
}

static unsigned reached;
static uint64_t late; /* found alive though dead in the model */

static void mark(unsigned number) {
    if (number == 0 || marked[number]) return;
    marked[number] = true;
    if (model[number].kind == EPHEMERON || model[number].kind == LEAF) return;
    for (unsigned i = 0; i < 3; i++) mark(model[number].edge[i]);
}

/* What must live, by the definition; OLD: all that is old lives. */
static void mark_model(bool old) {
    memset(marked, 0, sizeof marked);
    for (unsigned i = 0; i < ROOTS; i++) mark(model_roots[i]);
    for (unsigned i = 1; old && i <= model_count; i++)
        if (model[i].old && !model[i].gone) mark(i);
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 1; i <= model_count; i++) {
            const struct model_object *o = &model[i];
            if (o->kind != EPHEMERON || !marked[i] || !marked[o->edge[0]] || o->edge[1] == 0 ||
                marked[o->edge[1]])
                continue;
            mark(o->edge[1]);
            more = true;
        }
    }
}

/* P is the object NUMBER, and all that it refers to is right, too. */
static void visit(void *p, unsigned number) {
    if (number == 0) {
        REQUIRE(p == NULL);
        return;
    }
    REQUIRE(p != NULL && gc_base(p) == p);
    if (hidden[number] != 0) {
        REQUIRE(real(number) == p);
        return;
    }
    hidden[number] = hide(p);
    reached++;
    const struct model_object *o = &model[number];
    if (o->kind == EPHEMERON) return;
    REQUIRE_EQUAL(((struct node *)p)->number, number);
    for (unsigned i = 0; i < 3; i++) visit(((struct node *)p)->edge[i], o->edge[i]);
}

/* Goes through all that lives, model and heap side by side.  COLLECTED: ephemerons whose keys are
 * dead in the model should be so; those that aren't go on in the model. */
static __attribute__((noinline)) void compare(bool collected) {
    forget();
    for (unsigned i = 0; i < ROOTS; i++) visit(at(i), model_roots[i]);
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 1; i <= model_count; i++) {
            struct model_object *o = &model[i];
            if (o->kind != EPHEMERON || hidden[i] == 0) continue;
            void *key = gc_ephemeron_key(real(i)), *value = gc_ephemeron_value(real(i));
            if (key == NULL) REQUIRE(value == NULL);
            if (collected && key == NULL && o->edge[0] != 0 && !marked[o->edge[0]])
                o->edge[0] = o->edge[1] = 0;
            unsigned before = reached;
            visit(key, o->edge[0]);
            visit(value, o->edge[1]);
            more |= reached != before;
        }
    }
}

/* After a collection in which MARKED lived. */
static void settle_model(bool full) {
    for (unsigned i = 1; i <= model_count; i++) {
        struct model_object *o = &model[i];
        if (o->kind == EPHEMERON && o->edge[0] != 0 && hidden[i] != 0 && !marked[o->edge[0]])
            late++;
        if (o->kind == EPHEMERON && o->edge[0] != 0 && hidden[i] == 0 && !marked[o->edge[0]])
            o->edge[0] = o->edge[1] = 0;
        o->old = true;
        if (full && hidden[i] == 0) o->gone = true;
        if (!full && hidden[i] == 0 && !marked[i]) o->gone = true;
    }
}

static __attribute__((noinline)) void collect_both(enum gc_collection kind) {
    mark_model(kind == GC_MINOR);
    forget();
    collect(kind);
    compare(true);
    settle_model(kind != GC_MINOR);
    forget();
}

/* A number of something that the last compare() reached. */
static unsigned any(struct bench_random *random) {
    for (unsigned tries = 0; tries < 200; tries++) {
        unsigned number = 1 + (unsigned)bench_random_below(random, model_count);
        if (tries < 100 && model_count > 60 && number < model_count - 60) continue;
        if (hidden[number] != 0) return number;
    }
    return 0;
}

static __attribute__((noinline)) void add_object(struct bench_random *random) {
    unsigned root = (unsigned)bench_random_below(random, ROOTS), number = model_count + 1;
    enum kind kind = (enum kind)bench_random_below(random, 6);
    unsigned a = any(random), b = any(random);
    if (kind > EPHEMERON) kind = EPHEMERON;
    if (kind == EPHEMERON && (a == 0 || b == 0)) kind = TYPED;
    struct model_object *o = &model[number];
    *o = (struct model_object){.kind = kind};
    void *p;
    if (kind == EPHEMERON) {
        p = gc_ephemeron_new(real(a), real(b));
        o->edge[0] = a;
        o->edge[1] = b;
    } else {
        p = kind == TYPED ? gc_new(struct node) : kind == LEAF ? gc_alloc_leaf(32) : gc_alloc(32);
        if (p != NULL) ((struct node *)p)->number = number;
    }
    REQUIRE(p != NULL);
    forget(); /* it may have collected */
    model_count++;
    model_roots[root] = number;
    gc_handle_set(handles[root], p);
}

static __attribute__((noinline)) void change(struct bench_random *random) {
    unsigned a = any(random), b = bench_random_below(random, 4) ? any(random) : 0;
    unsigned which = (unsigned)bench_random_below(random, 3);
    if (a == 0) return;
    struct model_object *o = &model[a];
    if (o->kind == LEAF) return;
    if (o->kind == EPHEMERON) {
        if (o->edge[0] == 0) {
            REQUIRE_EQUAL(gc_ephemeron_set_value(real(a), real(b)), ESRCH);
        } else if (bench_random_below(random, 20) == 0) {
            gc_ephemeron_clear(real(a));
            o->edge[0] = o->edge[1] = 0;
        } else {
            REQUIRE_EQUAL(gc_ephemeron_set_value(real(a), real(b)), 0);
            o->edge[1] = b;
        }
        return;
    }
    struct node *p = real(a);
    gc_write(p, &p->edge[which], real(b));
    o->edge[which] = b;
}

/* EXACT: nothing collects but what is asked for, and no word on a stack counts. */
static void run_random(uint64_t seed, unsigned steps, bool exact) {
    struct bench_random random = {seed};
    start();
    model_count = 0;
    late = 0;
    memset(model, 0, sizeof model);
    memset(model_roots, 0, sizeof model_roots);
    for (unsigned step = 0; step < steps && model_count < MOST - 1; step++) {
        uint64_t what = bench_random_below(&random, 100);
        mark_model(false);
        compare(!exact);
        if (what < 45 || model_count < 3) {
            add_object(&random);
        } else if (what < 85) {
            change(&random);
        } else if (what < 93) {
            unsigned root = (unsigned)bench_random_below(&random, ROOTS);
            model_roots[root] = 0;
            drop(root);
        } else {
            collect_both(what < 97 ? GC_MINOR : what < 99 ? GC_FULL : GC_COMPACT);
        }
    }
    collect_both(GC_FULL);
    if (exact) REQUIRE_EQUAL(late, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_random_program_agrees_with_the_model(void) {
    run_random(precise() ? 3 : 4, 1200, false);
}

/* With precise stacks alone is it known what lives. */
static void exactly_what_must_die_dies(void) {
    run_random(5, 2500, true);
}

/* ---- Explaining ----------------------------------------------------------------------------- */

static __attribute__((noinline)) int explain_hidden(uintptr_t place) {
    clear_stack();
    return gc_explain(reveal(place));
}

static void a_value_is_explained_by_its_ephemeron(void) {
    start();
    put_node(0, 1);
    put_ephemeron(1, 0, 7, true);
    put_ephemeron(2, 0, 8, false);
    uintptr_t places[3];
    hide_all(places);
    REQUIRE_EQUAL(explain_hidden(places[2]), 0);
    REQUIRE_EQUAL(explain_hidden(places[1]), 0);
}

/* Not by its own value, to which only its own ephemeron leads. */
static void a_dead_key_is_kept_by_nothing(void) {
    need_optimised_code();
    start();
    put_node(0, 1);
    put_ephemeron(1, 0, 7, true);
    put_node(2, 1);
    put_ephemeron(3, 2, 8, true);
    uintptr_t places[3];
    hide_all(places);
    drop(0);
    REQUIRE_EQUAL(explain_hidden(places[0]), ESRCH);
    REQUIRE_EQUAL(explain_hidden(places[2]), ESRCH);
}

/* ---- Threads -------------------------------------------------------------------------------- */

enum { THREADS = 3 };
static int done;

/* Each with ephemerons of its own, one of which a chain hangs on. */
static void *use_ephemerons(void *number) {
    gc_handle *key = gc_handle_new(gc_new(struct node)), *list = gc_handle_new(NULL);
    for (uintptr_t i = 0; i < 3000; i++) {
        struct node *value = gc_new(struct node);
        value->number = i;
        gc_ephemeron *e = gc_ephemeron_new(i % 2 ? gc_handle_get(key) : value, value);
        struct node *cell = gc_new(struct node);
        cell->edge[0] = gc_handle_get(list);
        cell->edge[1] = e;
        cell->number = i;
        gc_handle_set(list, i % 500 == 0 ? NULL : cell);
        for (struct node *c = gc_handle_get(list); c != NULL && i % 50 == 49; c = c->edge[0]) {
            struct node *held = gc_ephemeron_value(c->edge[1]);
            REQUIRE(c->number % 2 == 0 || held != NULL);
            REQUIRE(held == NULL || held->number == c->number);
        }
    }
    gc_handle_free(key);
    gc_handle_free(list);
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    return number;
}

static void threads_use_ephemerons_at_once(void) {
    pthread_t threads[THREADS];
    start();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(use_ephemerons, (void *)i);
    for (int i = 0; look_at(&done) < THREADS; i++) {
        REQUIRE_EQUAL(gc_collect(i % 8 == 7 ? GC_COMPACT : i % 4 == 3 ? GC_FULL : GC_MINOR), 0);
        nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* Enough work for the crew, and keys that are found after their ephemerons. */
static void several_mark_at_once(void) {
    enum { COUNT = 60000 };
    need_optimised_code();
    start();
    const gc_type *type = gc_type_of(gc_new(struct slot));
    gc_handle_set(handles[0], gc_alloc_array(type, COUNT));
    gc_handle_set(handles[1], gc_alloc_array(type, COUNT));
    for (uintptr_t i = 0; i < COUNT; i++) {
        put_node(3, i);
        put_node(4, i);
        gc_ephemeron *e = gc_ephemeron_new(at(3), at(4));
        struct slot *keys = at(0), *ephemerons = at(1);
        gc_write(ephemerons, &ephemerons[i].p, e);
        if (i % 3 != 0) gc_write(keys, &keys[i].p, at(3));
    }
    for (unsigned round = 0; round < 4; round++) {
        collect(round == 2 ? GC_COMPACT : GC_FULL);
        const struct slot *keys = at(0), *ephemerons = at(1);
        size_t alive = 0;
        for (uintptr_t i = 0; i < COUNT; i++) {
            const struct node *value = gc_ephemeron_value(ephemerons[i].p);
            if (keys[i].p != NULL)
                REQUIRE(value->number == i && gc_ephemeron_key(ephemerons[i].p) == keys[i].p);
            alive += value != NULL;
        }
        REQUIRE(alive <= COUNT - COUNT / 3 + 10);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- All of them ---------------------------------------------------------------------------- */

#define PRECISE "CAIRN_STACK_SCAN=precise", "CAIRN_NURSERY=256M"
#define STRESS  "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_STRESS=13"
/* A format by which plain references are what they are anyhow. */
#define TAGGED "CAIRN_TAG_MASK=7", "CAIRN_TAG_ADDRESS_MASK=0xfffffffffffffff8"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_value_lives_as_long_as_its_key),
        CHILD_TEST(a_value_lives_as_long_as_its_key, "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_young_key_dies_in_any_collection),
        CHILD_TEST(a_value_ends_with_its_ephemeron),
        CHILD_TEST(an_old_ephemeron_keeps_a_young_value, "CAIRN_VERIFY=1"),
        CHILD_TEST(an_old_ephemeron_keeps_a_young_value, "CAIRN_VERIFY=1", "CAIRN_BARRIER=cross"),
        CHILD_TEST(an_old_ephemeron_keeps_a_young_value, "CAIRN_VERIFY=1", "CAIRN_BARRIER=none"),
        CHILD_TEST(an_old_ephemeron_keeps_a_young_value, "CAIRN_VERIFY=1",
            "CAIRN_WRITES_EXPLICITLY=typed", "CAIRN_BARRIER=explicit-cross"),
        CHILD_TEST(an_old_key_stays_in_minor_collections),
        CHILD_TEST(setting_and_clearing),
        CHILD_TEST(keys_and_values_of_every_kind, "CAIRN_VERIFY=1"),
        CHILD_TEST(a_key_and_its_ephemeron_move),
        CHILD_SAYS(what_is_no_object_is_refused, "expected the start of a live object", NULL),
        CHILD_SAYS(before_there_is_a_heap_there_are_no_keys, "can't be a key", NULL),
        CHILD_TEST(a_key_freed_by_hand_counts_as_dead),
        CHILD_TEST(no_memory_is_reported, "CAIRN_HEAP_LIMIT=16M"),
        CHILD_TEST(chains_in_any_order_live_and_die),
        CHILD_TEST(chains_in_any_order_live_and_die, "CAIRN_VERIFY=1", "CAIRN_NURSERY=64K"),
        CHILD_TEST(
            chains_in_any_order_live_and_die, "CAIRN_VERIFY=1", "CAIRN_MARK_STACK_LIMIT=4096"),
        CHILD_TEST(chains_in_any_order_live_and_die, PRECISE, "CAIRN_VERIFY=1"),
        CHILD_TEST(chains_in_any_order_live_and_die, PRECISE, "CAIRN_VERIFY=1",
            "CAIRN_MARK_STACK_LIMIT=4096"),
        CHILD_TEST(a_long_chain_takes_linear_time),
        CHILD_TEST(many_ephemerons_of_one_key, PRECISE),
        CHILD_TEST(a_dead_key_is_whole_when_it_is_finalized, "CAIRN_VERIFY=1"),
        CHILD_TEST(
            a_dead_key_is_whole_when_it_is_finalized, "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_random_program_agrees_with_the_model, "CAIRN_NURSERY=64K"),
        CHILD_TEST(a_random_program_agrees_with_the_model, STRESS),
        CHILD_TEST(a_random_program_agrees_with_the_model, STRESS, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_random_program_agrees_with_the_model, STRESS, "CAIRN_WRITES_EXPLICITLY=all",
            "CAIRN_BARRIER=explicit-cross"),
        CHILD_TEST(a_random_program_agrees_with_the_model, STRESS, "CAIRN_STACK_SCAN=precise"),
        CHILD_TEST(a_random_program_agrees_with_the_model, STRESS, "CAIRN_PROTECT_MOVED=4"),
        CHILD_TEST(a_random_program_agrees_with_the_model, STRESS, TAGGED),
        CHILD_TEST(chains_in_any_order_live_and_die, TAGGED, "CAIRN_VERIFY=1"),
        CHILD_TEST(a_dead_key_is_kept_by_nothing, "CAIRN_STACK_SCAN=precise"),
        CHILD_SAYS(
            a_value_is_explained_by_its_ephemeron, ", an ephemeron's value whose key is ", NULL),
        CHILD_TEST(exactly_what_must_die_dies, PRECISE, "CAIRN_VERIFY=1"),
        CHILD_TEST(exactly_what_must_die_dies, PRECISE, "CAIRN_VERIFY=1", "CAIRN_BARRIER=cross"),
        CHILD_TEST(exactly_what_must_die_dies, PRECISE, "CAIRN_VERIFY=1",
            "CAIRN_WRITES_EXPLICITLY=all", "CAIRN_BARRIER=explicit"),
        CHILD_TEST(exactly_what_must_die_dies, PRECISE, "CAIRN_MARK_STACK_LIMIT=4096"),
        CHILD_TEST(threads_use_ephemerons_at_once, "CAIRN_NURSERY=256K"),
        CHILD_TEST(threads_use_ephemerons_at_once, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(several_mark_at_once, "CAIRN_WORKERS=4", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(several_mark_at_once, "CAIRN_WORKERS=4", "CAIRN_MARK_STACK_LIMIT=8192"),
    };
    return cmocka_run_group_tests_name("ephemerons", tests, NULL, NULL);
}
