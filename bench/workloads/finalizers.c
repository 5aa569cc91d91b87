/* Objects with finalizers, as a program has that keeps files, textures or memory of another library
 * in objects: a table of them makes a heap of 500 MB, in which objects are replaced at random.  What
 * was replaced is finalized from time to time, in no order, which gives its number back; at the end
 * all are.  Each must be finalized once.
 *
 * An allocator without a collector has no finalizers: there the program frees what it replaces. */
#if defined(BENCH_CAIRN) || defined(BENCH_BOEHM)
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/random.h"

#ifdef BENCH_CAIRN
#include <cairn/finalize.h>
#endif

BENCH_WORKLOAD(finalizers, "replaces 3 M of 10^6 objects with finalizers, in 500 MB");

enum { LEAF = 400, DRAIN_STEP = 4096 };

struct resource {
    uint64_t number;
    uint64_t *leaf;
    struct resource *unused[2];
};
BENCH_TYPE(resource, BENCH_FIELD(resource, leaf), BENCH_FIELD(resource, unused));

/* Not in the heap: by number, how often it was finalized. */
static unsigned char *finalized;
static uint64_t finalized_count, made_count;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#ifdef BENCH_CAIRN
static void finalize(void *p, void *data) {
#else
static void GC_CALLBACK finalize(void *p, void *data) {
#endif
    const struct resource *resource = p;
    (void)data;
    finalized[resource->number]++;
    finalized_count++;
}

#ifdef BENCH_CAIRN
static void watch(struct resource *resource) {
    int error = gc_finalizer_set(resource, finalize, NULL, GC_UNORDERED);
    if (error != 0) bench_fail("gc_finalizer_set failed: error %d", error);
}

static void drain(void) {
    gc_run_finalizers();
}

static void collect(void) {
    int error = gc_collect(GC_FULL);
    if (error != 0) bench_fail("gc_collect failed: error %d", error);
}
#else
static void watch(struct resource *resource) {
    GC_REGISTER_FINALIZER_NO_ORDER(resource, finalize, NULL, NULL, NULL);
}

static void drain(void) {
    GC_invoke_finalizers();
}

static void collect(void) {
    GC_gcollect();
}
#endif

static struct resource *make(void) {
    struct resource *resource = bench_new(resource);
    resource->number = made_count++;
    uint64_t *leaf = bench_alloc_leaf(LEAF + resource->number % 64);
    leaf[0] = leaf[LEAF / 8 - 1] = resource->number;
    BENCH_STORE(resource, &resource->leaf, leaf);
    watch(resource);
    return resource;
}

/* Two thirds of the replacements are in an eighth of the table: some die young. */
static void replace(struct resource **table, size_t count, uint64_t replacements) {
    struct bench_random random = {11};
    for (uint64_t i = 0; i < replacements; i++) {
        size_t at = bench_random_below(&random, i % 3 == 0 ? count : count / 8 + 1);
        struct resource *resource = make();
        BENCH_STORE(table, &table[at], resource);
        if (i % DRAIN_STEP == 0) drain();
    }
}

static __attribute__((__noinline__)) void fill(struct resource **table, size_t count) {
    for (size_t i = 0; i < count; i++) BENCH_STORE(table, &table[i], make());
}

/* No object of the table was finalized. */
static __attribute__((__noinline__)) void check_alive(struct resource **table, size_t count) {
    uint64_t early = 0;
    for (size_t i = 0; i < count; i++)
        early += finalized[table[i]->number] != 0 || table[i]->leaf[0] != table[i]->number;
    bench_expect("the number of live objects that were finalized", early, 0);
}

static void run(double scale) {
    size_t count = bench_scaled(1000000, scale, 1000);
    uint64_t replacements = bench_scaled(3000000, scale, 3000), twice = 0;
    size_t most = count + replacements;
    finalized = calloc(most, 1);
    if (finalized == NULL) bench_out_of_memory(most);
#ifdef BENCH_BOEHM
    GC_set_finalize_on_demand(1);
#endif
    struct resource **table = bench_new_pointers(count);
    fill(table, count);
    double start = seconds_now();
    replace(table, count, replacements);
    collect();
    drain();
    double seconds = seconds_now() - start;
    bench_figure("finalized_per_s", (double)finalized_count / seconds);
    check_alive(table, count);
    for (size_t i = 0; i < count; i++) BENCH_STORE(table, &table[i], NULL);
    __asm__ volatile("" : : "r"(table) : "memory"); /* or the stores are left out */
    for (int i = 0; i < 3; i++) {
        collect();
        drain();
    }
    for (size_t i = 0; i < most; i++) twice += finalized[i] > 1;
    bench_expect("the number of objects that were finalized twice", twice, 0);
    /* What an ambiguous word holds isn't finalized. */
    if (finalized_count + most / 100 < made_count)
        bench_fail("%llu of %llu objects were finalized", (unsigned long long)finalized_count,
            (unsigned long long)made_count);
}
#endif
