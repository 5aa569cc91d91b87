/* A stream of 24-byte records of which the last thousand are alive: what an event loop or a parser
 * does to an allocator.  The price of an allocation and little else. */
#include "bench/bench.h"

BENCH_WORKLOAD(short_lived, "100 M records of 24 bytes, the last 1000 alive");

enum { WINDOW = 1000 };

struct record {
    uint64_t serial, due, weight;
};
BENCH_TYPE(record);

static void run(double scale) {
    uint64_t count = bench_scaled(100000000, scale, 10 * WINDOW), retired = 0, sum = 0;
    struct record **window = bench_new_pointers(WINDOW);
    size_t slot = 0;
    for (uint64_t serial = 0; serial < count; serial++) {
        struct record *record = bench_new_raw(record);
        record->serial = serial;
        record->due = serial + WINDOW;
        record->weight = serial & 7;
        struct record *old = window[slot];
        if (old != NULL) {
            retired += old->due == serial;
            sum += old->weight;
            bench_free(old);
        }
        window[slot] = record;
        if (++slot == WINDOW) slot = 0;
    }
    for (slot = 0; slot < WINDOW; slot++) {
        sum += window[slot]->weight;
        bench_free(window[slot]);
    }
    bench_free(window);
    bench_expect("the number of records retired in time", retired, count - WINDOW);
    uint64_t whole = count / 8, rest = count % 8;
    bench_expect("the sum of weights", sum, whole * 28 + rest * (rest - 1) / 2);
}
