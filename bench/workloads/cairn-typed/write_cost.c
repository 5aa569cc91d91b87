/* What gc_write() costs beside a plain store: nanoseconds for each, the least of 20 measurements,
 * into a small object and all over a large one, old both.  The values are old, too, so that no
 * collection is due.  Then what the barrier makes of stores of young objects all over 100 MB of old
 * ones: the time of the stores and of the minor collection after them.  The explicit barrier is had
 * by CAIRN_BARRIER=explicit CAIRN_WRITES_EXPLICITLY=typed. */
#include <time.h>

#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(write_cost, "what stores by gc_write() cost, and minor collections after them");

enum { SLOTS = 1 << 20, SPREAD = 4099, PARTS = 20 };

struct cell {
    struct cell *next, *other;
};
BENCH_TYPE(cell, BENCH_FIELD(cell, next), BENCH_FIELD(cell, other));

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Not inlined: each loop is compiled for itself. */
#define LOOP static __attribute__((__noinline__)) void

LOOP store_here(struct cell **cells, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        __atomic_store_n(&cells[0]->other, cells[i & 7], __ATOMIC_RELAXED);
}
LOOP write_here(struct cell **cells, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) gc_write(cells[0], &cells[0]->other, cells[i & 7]);
}
LOOP store_all_over(struct cell **cells, uint64_t count) {
    for (uint64_t i = 0, at = 0; i < count; i++, at = (at + SPREAD) % SLOTS)
        __atomic_store_n(&cells[at], cells[0], __ATOMIC_RELAXED);
}
LOOP write_all_over(struct cell **cells, uint64_t count) {
    for (uint64_t i = 0, at = 0; i < count; i++, at = (at + SPREAD) % SLOTS)
        gc_write(cells, &cells[at], cells[0]);
}

static void measure(const char *figure, void (*loop)(struct cell **cells, uint64_t count),
    struct cell **cells, uint64_t count) {
    double least = 0;
    for (int part = 0; part < PARTS; part++) {
        double start = seconds_now();
        loop(cells, count / PARTS);
        double seconds = seconds_now() - start;
        if (part == 0 || seconds < least) least = seconds;
    }
    bench_figure(figure, least * 1e9 / (double)(count / PARTS));
}

/* 512 bytes. */
struct page {
    struct cell *slot[64];
};
BENCH_TYPE(page, BENCH_FIELD(page, slot));

/* Microseconds for STORES of fresh objects at random places of old PAGES and the minor collection
 * that finds them, the least of some rounds. */
static void measure_round(
    const char *figure, struct page **pages, uint64_t count, uint64_t stores) {
    struct bench_random random = {stores};
    double least = 0;
    for (int round = 0; round < 12; round++) {
        double start = seconds_now();
        for (uint64_t i = 0; i < stores; i++) {
            struct page *page = pages[bench_random_below(&random, count)];
            gc_write(page, &page->slot[i % 64], bench_new(cell));
        }
        gc_collect(GC_MINOR);
        double seconds = seconds_now() - start;
        if (round < 2) continue; /* so that what may be closed is closed */
        if (round == 2 || seconds < least) least = seconds;
    }
    bench_figure(figure, least * 1e6);
}

static void measure_rounds(double scale) {
    uint64_t count = bench_scaled(200000, scale, 100);
    struct page **pages = bench_new_pointers(count);
    for (uint64_t i = 0; i < count; i++) BENCH_STORE(pages, &pages[i], bench_new(page));
    for (int i = 0; i < 3; i++) gc_collect(GC_FULL);
    measure_round("round_1000_us", pages, count, 1000);
    measure_round("round_10000_us", pages, count, 10000);
    measure_round("round_100000_us", pages, count, 100000);
}

static void run(double scale) {
    uint64_t count = bench_scaled(100000000, scale, 1000);
    struct cell **cells = bench_new_pointers(SLOTS);
    for (uint64_t i = 0; i < 8; i++) BENCH_STORE(cells, &cells[i], bench_new(cell));
    for (int i = 0; i < 3; i++) gc_collect(GC_FULL);
    measure("store_here_ns", store_here, cells, count);
    measure("write_here_ns", write_here, cells, count);
    measure("store_all_over_ns", store_all_over, cells, count);
    measure("write_all_over_ns", write_all_over, cells, count);
    measure_rounds(scale);
}
