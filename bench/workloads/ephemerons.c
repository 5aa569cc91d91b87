/* Chains of ephemerons: the value of each is the key of the next, so that a collector that looks at
 * all of them again whenever a key is found needs a time that grows with the square of the chain's
 * length.  In a heap of 500 MB it builds chains of 10^5, 3*10^5 and 10^6, holds the first key, and
 * measures the time that a full collection takes for each beyond what it takes without; then lets go
 * of the first key, whereupon all must end.
 *
 * Boehm's collector has no ephemerons.  The nearest is, for each key: a disappearing link in an entry
 * that it doesn't search, the value kept by the key itself, and a finalizer of the key, in no order,
 * that empties the entry and would take it out of its table.  That ends with the key, and a value may
 * refer to its key; but the value outlives the entry, the key needs room for it and can have one
 * only, and what died is freed a collection later.  The figures are those; chain_links_ms is what
 * 10^6 cost with the links alone, as a program may do whose entries needn't end.  An allocator
 * without a collector can't know what is dead. */
#if defined(BENCH_CAIRN) || defined(BENCH_BOEHM)
#include <time.h>

#include "bench/bench.h"
#include "bench/random.h"

#ifdef BENCH_CAIRN
#include <cairn/embed.h>
#endif

BENCH_WORKLOAD(ephemerons, "full collections with chains of 10^5 to 10^6 ephemerons");

enum { LENGTHS = 3, ROUNDS = 3, LEAF = 432 };

struct key {
    struct key *kept; /* Boehm: the value */
    uint64_t number;
};
BENCH_TYPE(key, BENCH_FIELD(key, kept));

/* What makes the heap as large as a program's. */
struct ballast {
    struct ballast *next;
    uint64_t *leaf;
    uint64_t number, unused;
};
BENCH_TYPE(ballast, BENCH_FIELD(ballast, next), BENCH_FIELD(ballast, leaf));

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Under each collector ------------------------------------------------------------------- */

#ifdef BENCH_CAIRN
typedef gc_ephemeron entry;

static entry *new_entry(struct key *key, struct key *value) {
    entry *e = gc_ephemeron_new(key, value);
    if (e == NULL) bench_out_of_memory(32);
    return e;
}

static struct key *value_of(const entry *e) {
    return gc_ephemeron_value(e);
}

static bool is_dead(const entry *e) {
    return gc_ephemeron_is_dead(e) != 0;
}

static void collect(void) {
    int error = gc_collect(GC_FULL);
    if (error != 0) bench_fail("gc_collect failed: error %d", error);
}
#else
/* Of 32 bytes as an ephemeron is; KEY hidden, as Boehm's manual has it, and cleared by it. */
typedef struct {
    GC_hidden_pointer key;
    uint64_t unused[3];
} entry;

static bool links_only;
static uint64_t entries_ended;

/* Of a key; DATA is its entry, which is known to be reached, as the table holds it. */
static void GC_CALLBACK end_entry(void *key, void *data) {
    entry *e = data;
    (void)key;
    e->key = 0;
    entries_ended++;
}

static entry *new_entry(struct key *key, struct key *value) {
    entry *e = GC_MALLOC_ATOMIC(sizeof *e);
    if (e == NULL) bench_out_of_memory(sizeof *e);
    e->key = GC_HIDE_POINTER(key);
    key->kept = value;
    if (!links_only) GC_REGISTER_FINALIZER_NO_ORDER(key, end_entry, e, NULL, NULL);
    if (GC_general_register_disappearing_link((void **)&e->key, key) != GC_SUCCESS)
        bench_fail("GC_general_register_disappearing_link failed");
    return e;
}

static struct key *value_of(const entry *e) {
    return e->key == 0 ? NULL : ((struct key *)GC_REVEAL_POINTER(e->key))->kept;
}

static bool is_dead(const entry *e) {
    return e->key == 0;
}

static void collect(void) {
    GC_gcollect();
    GC_invoke_finalizers();
}
#endif

/* ---- The same for all ----------------------------------------------------------------------- */

static struct ballast *make_ballast(size_t count) {
    struct ballast *list = NULL;
    for (size_t i = 0; i < count; i++) {
        struct ballast *b = bench_new(ballast);
        b->number = i;
        BENCH_STORE(b, &b->next, list);
        list = b;
        uint64_t *leaf = bench_alloc_leaf(LEAF);
        for (size_t word = 0; word < LEAF / 8; word++) leaf[word] = i;
        BENCH_STORE(b, &b->leaf, leaf);
    }
    return list;
}

static void check_ballast(const struct ballast *list, size_t count) {
    uint64_t sum = 0;
    for (const struct ballast *b = list; b != NULL; b = b->next) sum += b->leaf[LEAF / 8 - 1];
    bench_expect("the sum of the ballast's numbers", sum, (uint64_t)count * (count - 1) / 2);
}

/* Entries are made in an order of chance, so that a collector meets them so.  Only the entries and,
 * by HOLDER, the first key are kept; the rest of the chain lives through them.  Nothing else knows
 * the first key, so that no stale word on the stack is one. */
static __attribute__((__noinline__)) void make_chain(
    struct key *holder, entry **entries, size_t length) {
    struct key **keys = bench_new_pointers(length + 1);
    struct bench_random random = {length};
    size_t *order = bench_alloc_leaf(length * sizeof *order);
    for (size_t i = 0; i <= length; i++) {
        struct key *key = bench_new(key);
        key->number = i;
        BENCH_STORE(keys, &keys[i], key);
    }
    for (size_t i = 0; i < length; i++) order[i] = i;
    for (size_t i = length - 1; i > 0; i--) {
        size_t j = bench_random_below(&random, i + 1), taken = order[i];
        order[i] = order[j];
        order[j] = taken;
    }
    for (size_t i = 0; i < length; i++) {
        entry *e = new_entry(keys[order[i]], keys[order[i] + 1]);
        BENCH_STORE(entries, &entries[i], e);
    }
    BENCH_STORE(holder, &holder->kept, keys[0]);
    for (size_t i = 0; i <= length; i++) BENCH_STORE(keys, &keys[i], NULL);
    __asm__ volatile("" : : "r"(keys) : "memory"); /* or the stores are left out */
}

/* The least of ROUNDS, in milliseconds. */
static double collection_ms(void) {
    double least = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = now_ns();
        collect();
        double ms = (double)(now_ns() - start) / 1e6;
        if (ms < least) least = ms;
    }
    return least;
}

static __attribute__((__noinline__)) void check_alive(entry **entries, size_t length) {
    uint64_t sum = 0, dead = 0;
    for (size_t i = 0; i < length; i++) {
        const struct key *value = value_of(entries[i]);
        dead += value == NULL;
        sum += value == NULL ? 0 : value->number;
    }
    bench_expect("the number of entries that ended too early", dead, 0);
    bench_expect("the sum of values", sum, (uint64_t)length * (length + 1) / 2);
}

static uint64_t count_alive(entry **entries, size_t length) {
    uint64_t alive = 0;
    for (size_t i = 0; i < length; i++) alive += !is_dead(entries[i]);
    return alive;
}

/* Overwrites what make_chain() left on the stack. */
static __attribute__((__noinline__)) void clear_stack(void) {
    volatile char room[32768];
    for (size_t i = 0; i < sizeof room; i++) room[i] = 0;
}

/* How much longer than WITHOUT a full collection takes with a chain of LENGTH.  LAST: what it took to
 * make, and to end, are figures, too. */
static double chain_ms(size_t length, double without, bool last) {
    entry **entries = bench_new_pointers(length);
    struct key *holder = bench_new(key);
    uint64_t start = now_ns();
    make_chain(holder, entries, length);
    if (last) bench_figure("chain_made_ms", (double)(now_ns() - start) / 1e6);
    clear_stack();
    double ms = collection_ms();
    check_alive(entries, length);
    BENCH_STORE(holder, &holder->kept, NULL);
    __asm__ volatile("" : : "r"(holder) : "memory");
    start = now_ns();
    collect();
    if (last) bench_figure("chain_dies_ms", (double)(now_ns() - start) / 1e6);
    /* A word that looks like one of the keys would hold the rest of the chain. */
    if (count_alive(entries, length) == length) bench_fail("none of the %zu entries ended", length);
    return ms - without > 0 ? ms - without : 0;
}

static void run(double scale) {
    static const size_t lengths[LENGTHS] = {100000, 300000, 1000000};
    static const char *const names[LENGTHS] = {"chain_1e5_ms", "chain_3e5_ms", "chain_1e6_ms"};
    size_t count = bench_scaled(1040000, scale, 100);
    struct ballast *ballast = make_ballast(count);
    double without = collection_ms();
    bench_figure("chain_none_ms", without);
#ifdef BENCH_BOEHM
    GC_set_finalize_on_demand(1);
    links_only = true;
    bench_figure(
        "chain_links_ms", chain_ms(bench_scaled(lengths[LENGTHS - 1], scale, 100), without, false));
    links_only = false;
#endif
    for (int i = 0; i < LENGTHS; i++)
        bench_figure(
            names[i], chain_ms(bench_scaled(lengths[i], scale, 100), without, i == LENGTHS - 1));
    check_ballast(ballast, count);
}
#endif
