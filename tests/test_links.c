/* Disappearing links of which many have their slots in one object, as those of a weak table: each is
 * found by its slot, whatever becomes of the object.  At the end a random program and a model of the
 * links it has. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "child.h"
#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "nodes.h"
#include "support.h"
#include "threads_support.h"

/* ---- One holder ----------------------------------------------------------------------------- */

/* If each were looked for among the others, this would take minutes, and end by the child's alarm. */
static void two_hundred_thousand_links_in_one_object(void) {
    enum { LINKS = 200000, TARGETS = 1000 };
    static void **slots;
    static struct node *targets[TARGETS];
    const size_t step = 77773; /* has no divisor in common with LINKS: each slot once */
    slots = gc_alloc_leaf(2 * LINKS * sizeof *slots);
    for (size_t i = 0; i < TARGETS; i++) targets[i] = make(i, NULL);
    for (size_t i = 0; i < LINKS; i++) {
        slots[i] = targets[i % TARGETS];
        REQUIRE_EQUAL(gc_link_register(&slots[i], slots[i], GC_WEAK_SHORT), 0);
    }
    REQUIRE_EQUAL(statistics().links, LINKS);
    REQUIRE_EQUAL(gc_verify(), 0);
    for (size_t i = 0; i < LINKS; i++) {
        size_t at = i * step % LINKS;
        REQUIRE_EQUAL(gc_link_register(&slots[at], slots[at], GC_WEAK_SHORT), EEXIST);
        slots[at + LINKS] = slots[at];
        REQUIRE_EQUAL(gc_link_move(&slots[at], &slots[at + LINKS], GC_WEAK_SHORT), 0);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
    gc_free(targets[0]);
    for (size_t i = 0; i < LINKS; i++) {
        size_t at = i * step % LINKS;
        bool cleared = slots[at + LINKS] == NULL;
        REQUIRE_EQUAL(cleared, at % TARGETS == 0);
        int error = gc_link_unregister(&slots[at + LINKS], GC_WEAK_SHORT);
        REQUIRE_EQUAL(error, cleared ? ENOENT : 0);
        REQUIRE_EQUAL(gc_link_unregister(&slots[at], GC_WEAK_SHORT), ENOENT);
    }
    REQUIRE_EQUAL(statistics().links, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* One more, and one less, than may be without an index, again and again, of each kind; the object's
 * record stays, for the sake of a weak reference. */
static void an_object_has_few_links_and_then_many(void) {
    enum { SLOTS = 12 };
    static void **slots, **lone;
    static struct node *n;
    n = make(1, NULL);
    slots = gc_alloc_leaf(SLOTS * sizeof *slots);
    lone = gc_alloc_leaf(sizeof *lone);
    gc_weak *reference = gc_weak_new(slots, GC_WEAK_SHORT);
    for (size_t most = 1; most <= SLOTS; most++) {
        for (size_t i = 0; i < most; i++) {
            for (int kind = 0; kind < 2; kind++) {
                enum gc_weak_kind k = (enum gc_weak_kind)kind;
                REQUIRE_EQUAL(gc_link_register(&slots[i], n, k), 0);
                REQUIRE_EQUAL(gc_link_register(&slots[i], n, k), EEXIST);
            }
        }
        REQUIRE_EQUAL(gc_verify(), 0);
        REQUIRE_EQUAL(gc_link_move(&slots[0], lone, GC_WEAK_SHORT), 0);
        REQUIRE_EQUAL(gc_verify(), 0);
        REQUIRE_EQUAL(gc_link_move(lone, &slots[0], GC_WEAK_SHORT), 0);
        REQUIRE_EQUAL(gc_verify(), 0); /* of the other one nothing is left */
        for (size_t i = 0; i < most; i++) {
            REQUIRE_EQUAL(gc_link_unregister(&slots[i], GC_WEAK_SHORT), 0);
            REQUIRE_EQUAL(gc_link_unregister(&slots[i], GC_WEAK_SHORT), ENOENT);
        }
        REQUIRE_EQUAL(gc_verify(), 0);
        for (size_t i = most; i-- > 0;)
            REQUIRE_EQUAL(gc_link_unregister(&slots[i], GC_WEAK_LONG), 0);
        REQUIRE_EQUAL(statistics().links, 0);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
    gc_weak_free(reference);
}

static void let_address_space(rlim_t bytes) {
    struct rlimit limit;
    REQUIRE_EQUAL(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = bytes;
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
}

static void without_memory_links_are_refused_and_none_is_lost(void) {
#ifdef GC_SANITIZE
    child_skip("the sanitizer needs address space");
#endif
    enum { SLOTS = 5000 };
    static void **slots, **few;
    static struct node *n;
    n = make(1, NULL);
    slots = gc_alloc_leaf(SLOTS * sizeof *slots);
    few = gc_alloc_leaf(64);
    REQUIRE_EQUAL(gc_link_register(&few[0], n, GC_WEAK_SHORT), 0);
    size_t count = 0;
    while (count < 100) REQUIRE_EQUAL(gc_link_register(&slots[count++], n, GC_WEAK_SHORT), 0);
    struct rlimit before;
    REQUIRE_EQUAL(getrlimit(RLIMIT_AS, &before), 0);
    let_address_space(1 << 20);
    while (gc_link_register(&slots[count], n, GC_WEAK_SHORT) == 0) REQUIRE(++count < SLOTS);
    for (size_t i = 0; i < SLOTS; i++)
        REQUIRE_EQUAL(gc_link_register(&slots[i], n, GC_WEAK_SHORT), i < count ? EEXIST : ENOMEM);
    REQUIRE_EQUAL(gc_link_move(&few[0], &slots[count], GC_WEAK_SHORT), ENOMEM);
    REQUIRE_EQUAL(gc_link_unregister(&slots[0], GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_register(&slots[count], n, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_move(&slots[count], &few[1], GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_move(&few[1], &slots[0], GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_link_unregister(&few[0], GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(statistics().links, count);
    let_address_space(before.rlim_cur);
    REQUIRE_EQUAL(gc_verify(), 0);
    for (size_t i = count; i < SLOTS; i++)
        REQUIRE_EQUAL(gc_link_register(&slots[i], n, GC_WEAK_SHORT), 0);
    gc_free(n);
    REQUIRE_EQUAL(statistics().links, 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- A random program ----------------------------------------------------------------------- */

/* A holder is a typed array of cells, or a leaf of words, or memory of malloc()'s.  Slots with even
 * numbers hold the complement of the target's address, the others the address. */
struct cell {
    struct cell *next;
    void *slot;
};
static const gc_type *cell_type;

enum { HOLDERS = 8, MOST = 3000, TARGETS = 60, KINDS = 2 };
enum holder_kind { CELLS, WORDS, OUTSIDE };

struct slot {
    int target[KINDS]; /* of its links; -1: it has none of that kind */
    uintptr_t word;    /* what it holds while it has none */
};

static struct holder {
    enum holder_kind kind;
    gc_handle *handle;
    void **outside;
    size_t count; /* slots */
    struct slot slots[MOST];
} holders[HOLDERS];

static struct target {
    gc_handle *handle; /* of what isn't to die */
    gc_weak *weak;
} targets[TARGETS];

static uint64_t random_state;
static size_t links, most_links, moves, moved, died;

static size_t below(size_t n) {
    return next_random(&random_state) % n;
}

static void **slot_of(const struct holder *h, size_t i) {
    if (h->kind == OUTSIDE) return &h->outside[i];
    void *start = gc_handle_get(h->handle);
    return h->kind == CELLS ? &((struct cell *)start)[i].slot : &((void **)start)[i];
}

static void write_word(const struct holder *h, size_t i, uintptr_t word) {
    *slot_of(h, i) = (void *)word;
}

static uintptr_t word_for(size_t i, const void *target) {
    return i % 2 ? (uintptr_t)target : hide(target);
}

static bool has_link(const struct slot *s) {
    return s->target[0] >= 0 || s->target[1] >= 0;
}

static int target_of(const struct slot *s) {
    return s->target[0] >= 0 ? s->target[0] : s->target[1];
}

/* The slot has no link of KIND any more; without any, the program writes something else there. */
static void note_end(struct holder *h, size_t i, int kind) {
    struct slot *s = &h->slots[i];
    s->target[kind] = -1;
    links--;
    if (!has_link(s)) write_word(h, i, s->word = 2 * below(1000) + 1);
}

/* What the collector did to the slot since it was looked at last must be what was due. */
static void look_at_slot(struct holder *h, size_t i) {
    struct slot *s = &h->slots[i];
    uintptr_t word = (uintptr_t)*slot_of(h, i);
    if (!has_link(s)) {
        REQUIRE_EQUAL(word, s->word);
        return;
    }
    const void *target = gc_weak_get(targets[target_of(s)].weak);
    REQUIRE_EQUAL(word, target != NULL ? word_for(i, target) : 0);
    for (int kind = 0; target == NULL && kind < KINDS; kind++)
        if (s->target[kind] >= 0) note_end(h, i, kind);
}

static void look_at_all(void) {
    for (size_t h = 0; h < HOLDERS; h++)
        for (size_t i = 0; i < holders[h].count; i++) look_at_slot(&holders[h], i);
    REQUIRE(statistics().links >= links);
    if (links > most_links) most_links = links;
}

/* ---- What it does --------------------------------------------------------------------------- */

static __attribute__((noinline)) void make_target(void) {
    struct target *t = &targets[below(TARGETS)];
    if (gc_weak_get(t->weak) != NULL) return;
    look_at_all(); /* nobody takes the new one for the old one */
    typed = below(2);
    void *p = make(1, NULL);
    gc_handle_set(t->handle, p);
    REQUIRE_EQUAL(gc_weak_set(t->weak, p), 0);
}

static __attribute__((noinline)) void end_target(void) {
    struct target *t = &targets[below(TARGETS)];
    void *p = gc_handle_get(t->handle);
    if (p == NULL) return;
    gc_handle_set(t->handle, NULL);
    if (below(4) == 0) gc_free(p);
    died++;
}

/* All the slots from I on are new. */
static void note_fresh(struct holder *h, size_t i, size_t count) {
    h->count = count;
    for (; i < count; i++) {
        h->slots[i] = (struct slot){{-1, -1}, 0};
        write_word(h, i, 0);
    }
}

static size_t random_count(void) {
    return 2 + below(below(2) ? 10 : below(2) ? 300 : MOST - 2);
}

static void *alloc_holder(enum holder_kind kind, size_t count) {
    return kind == CELLS ? gc_alloc_array(cell_type, count) : gc_alloc_leaf(count * sizeof(void *));
}

static __attribute__((noinline)) void make_holder(struct holder *h) {
    h->kind = (enum holder_kind)below(2);
    size_t count = random_count();
    gc_handle_set(h->handle, alloc_holder(h->kind, count));
    note_fresh(h, 0, count);
}

static void forget_links(struct holder *h, size_t from) {
    for (size_t i = from; i < h->count; i++)
        for (int kind = 0; kind < KINDS; kind++)
            if (h->slots[i].target[kind] >= 0) links--;
}

static __attribute__((noinline)) void replace_holder(void) {
    struct holder *h = &holders[below(HOLDERS)];
    if (h->kind == OUTSIDE) return;
    forget_links(h, 0);
    if (below(2)) gc_free(gc_handle_get(h->handle));
    make_holder(h);
}

static __attribute__((noinline)) void resize_holder(void) {
    struct holder *h = &holders[below(HOLDERS)];
    if (h->kind == OUTSIDE) return;
    size_t count = random_count();
    size_t each = h->kind == CELLS ? sizeof(struct cell) : sizeof(void *);
    forget_links(h, count);
    void *p = gc_realloc(gc_handle_get(h->handle), count * each);
    gc_handle_set(h->handle, p);
    size_t before = h->count < count ? h->count : count, room = gc_size(p) / each;
    for (size_t i = count; i < h->count && i < room; i++) /* it is larger than was asked for */
        for (int kind = 0; kind < KINDS; kind++)
            gc_link_unregister(slot_of(h, i), (enum gc_weak_kind)kind);
    note_fresh(h, before, count);
}

static void register_one(struct holder *h, size_t i, int kind) {
    struct slot *s = &h->slots[i];
    look_at_slot(h, i);
    int t = has_link(s) ? target_of(s) : (int)below(TARGETS);
    void *target = gc_weak_get(targets[t].weak);
    if (target == NULL) return;
    int error = gc_link_register(slot_of(h, i), target, (enum gc_weak_kind)kind);
    REQUIRE_EQUAL(error, s->target[kind] >= 0 ? EEXIST : 0);
    if (error != 0) return;
    s->target[kind] = t;
    links++;
    write_word(h, i, word_for(i, target));
}

static void unregister_one(struct holder *h, size_t i, int kind) {
    look_at_slot(h, i);
    int error = gc_link_unregister(slot_of(h, i), (enum gc_weak_kind)kind);
    REQUIRE_EQUAL(error, h->slots[i].target[kind] >= 0 ? 0 : ENOENT);
    if (error == 0) note_end(h, i, kind);
}

static void move_one(struct holder *h, size_t i, int kind) {
    struct holder *to = &holders[below(HOLDERS)];
    size_t j = below(to->count);
    struct slot *s = &h->slots[i], *d = &to->slots[j];
    look_at_slot(h, i);
    look_at_slot(to, j);
    if (has_link(d) && has_link(s) && target_of(d) != target_of(s)) return;
    int error = gc_link_move(slot_of(h, i), slot_of(to, j), (enum gc_weak_kind)kind);
    int due = s != d && d->target[kind] >= 0 ? EEXIST : 0;
    REQUIRE_EQUAL(error, s->target[kind] < 0 ? ENOENT : due);
    if (error != 0 || s == d) return;
    write_word(to, j, word_for(j, gc_weak_get(targets[s->target[kind]].weak)));
    d->target[kind] = s->target[kind];
    links++;
    note_end(h, i, kind);
    moves++;
}

/* Some time with one holder, mostly at slots that have links, or at those that have none. */
static __attribute__((noinline)) void change_links(
    void (*change)(struct holder *, size_t, int), bool wanted) {
    struct holder *h = &holders[below(HOLDERS)];
    for (size_t n = below(2) ? below(h->count) : below(10); n > 0; n--) {
        size_t i = below(h->count);
        for (int tries = 0; tries < 4 && has_link(&h->slots[i]) != wanted; tries++)
            i = below(h->count);
        change(h, i, (int)below(KINDS));
    }
}

static __attribute__((noinline)) void collect_some(unsigned what) {
    uintptr_t before[HOLDERS];
    for (size_t h = 0; h < HOLDERS; h++) before[h] = hide(gc_handle_get(holders[h].handle));
    collect(what < 3 ? GC_MINOR : what < 4 ? GC_FULL : GC_COMPACT);
    for (size_t h = 0; h < HOLDERS; h++)
        moved += before[h] != hide(gc_handle_get(holders[h].handle));
}

static void start(void) {
    char *chosen = getenv("CAIRN_TEST_SEED");
    random_state = chosen != NULL ? strtoull(chosen, NULL, 0) : now_ns() | 1;
    printf("CAIRN_TEST_SEED=%llu\n", (unsigned long long)random_state);
    const uint32_t next = offsetof(struct cell, next);
    gc_type_desc desc = {
        .name = "cell", .size = sizeof(struct cell), .pointers = &next, .pointer_count = 1};
    cell_type = gc_type_register(&desc);
    REQUIRE(cell_type != NULL);
    for (size_t t = 0; t < TARGETS; t++)
        targets[t] = (struct target){gc_handle_new(NULL), gc_weak_new(NULL, GC_WEAK_LONG)};
    for (size_t h = 0; h < HOLDERS; h++) {
        holders[h].handle = gc_handle_new(NULL);
        make_holder(&holders[h]);
    }
    gc_handle_set(holders[0].handle, NULL);
    holders[0].kind = OUTSIDE;
    holders[0].outside = calloc(MOST / 4, sizeof(void *));
    note_fresh(&holders[0], 0, MOST / 4);
}

static void links_agree_with_a_model(void) {
    start();
    for (uint64_t step = 0; step < fewer(8000); step++) {
        unsigned what = (unsigned)below(100);
        if (what < 25)
            change_links(register_one, false);
        else if (what < 35)
            change_links(unregister_one, true);
        else if (what < 50)
            change_links(move_one, true);
        else if (what < 75)
            make_target();
        else if (what < 82)
            end_target();
        else if (what < 85)
            resize_holder();
        else if (what < 87)
            replace_holder();
        else if (what < 92)
            collect_some(what - 87);
        else
            for (int i = 0; i < 20; i++) make(7, NULL);
        if (step % 20 == 19) look_at_all();
    }
    REQUIRE_EQUAL(gc_verify(), 0);
    printf("up to %zu links, %zu moved by the program, holders moved %zu times, %zu targets died\n",
        most_links, moves, moved, died);
    REQUIRE(most_links > 500 && moves > fewer(1000) && died > fewer(50));
}

int main(void) {
#define MODEL(...) CHILD_TEST(links_agree_with_a_model, "CAIRN_VERIFY=1", __VA_ARGS__)
    const struct CMUnitTest tests[] = {
        CHILD_TEST(two_hundred_thousand_links_in_one_object),
        CHILD_TEST(an_object_has_few_links_and_then_many),
        CHILD_TEST(without_memory_links_are_refused_and_none_is_lost),
        MODEL(NULL),
        MODEL("CAIRN_STRESS=31", "CAIRN_POISON=1"),
        MODEL("CAIRN_STRESS=53", "CAIRN_STACK_SCAN=precise"),
        MODEL("CAIRN_BARRIER=mprotect", "CAIRN_PROTECT_MOVED=2"),
        MODEL("CAIRN_BARRIER=none", "CAIRN_WORKERS=2", "CAIRN_STRESS=97"),
    };
    return cmocka_run_group_tests_name("links", tests, NULL, NULL);
}
