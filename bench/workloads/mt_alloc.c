/* A stream of small objects in each thread, then one of larger ones, the last thousand alive: the
 * price of an allocation when nothing is shared. */
#include "bench/threads.h"

BENCH_THREADED_WORKLOAD(
    mt_alloc, "each thread: 10 M objects of 32 bytes, 1 M of 600, few alive", 1);

enum { WINDOW = 1024, SMALL = 32, LARGE = 600 };

struct small {
    uint64_t words[SMALL / 8];
};
BENCH_TYPE(small);

struct large {
    uint64_t words[LARGE / 8];
};
BENCH_TYPE(large);

/* Set before the threads start. */
static uint64_t small_count, large_count;

static uint64_t *make(size_t size, uint64_t serial) {
    uint64_t *object = size == SMALL ? bench_new_raw(small)->words : bench_new_raw(large)->words;
    object[0] = serial;
    object[size / sizeof *object - 1] = ~serial;
    return object;
}

/* 0 if OBJECT is what make() made. */
static uint64_t damage(const uint64_t *object, size_t size, uint64_t serial) {
    return (object[0] ^ serial) | (object[size / sizeof *object - 1] ^ ~serial);
}

/* COUNT objects of SIZE bytes, a multiple of 8 that the compiler knows. */
static inline __attribute__((__always_inline__)) void stream(
    uint64_t **window, size_t size, uint64_t count) {
    uint64_t damaged = 0;
    for (uint64_t serial = 0; serial < count; serial++) {
        uint64_t **slot = &window[serial % WINDOW], *old = *slot;
        *slot = make(size, serial);
        if (serial < WINDOW) continue;
        damaged |= damage(old, size, serial - WINDOW);
        bench_free(old);
    }
    for (uint64_t serial = count - WINDOW; serial < count; serial++) {
        uint64_t **slot = &window[serial % WINDOW];
        damaged |= damage(*slot, size, serial);
        bench_free(*slot);
        *slot = NULL;
    }
    bench_expect("the damage to the objects", damaged, 0);
}

static bool body(struct bench_strand *strand) {
    uint64_t **window = bench_new_pointers(WINDOW);
    stream(window, SMALL, small_count);
    stream(window, LARGE, large_count);
    bench_free(window);
    strand->ops = small_count + large_count;
    return false;
}

static void run(double scale, int threads) {
    small_count = bench_scaled(10000000, scale, 2 * WINDOW);
    large_count = bench_scaled(1000000, scale, 2 * WINDOW);
    bench_threads_run(threads, body);
}
