/* How long it takes until all threads stand still, with Cairn.  Three in four threads compute and
 * never enter the library, the fourth allocates now and then, while the main thread runs minor
 * collections one after the other with short pauses.  Each thread holds an object that nothing but
 * its stack refers to.  With many more threads than processors the main thread may have to wait for
 * one at the end of each pause, so that there is a limit to how long all this lasts. */
#include <stdatomic.h>
#include <time.h>

#include "bench/threads.h"
#include "bench/random.h"

BENCH_THREADED_WORKLOAD(stop_time, "time to stop threads that compute, 2000 minor collections", 64);

enum { WORDS = 16, ALLOCATES_ONE_IN = 4, MIXES_A_STEP = 256, PAUSE_NS = 200000, LONGEST_S = 30 };

static atomic_bool finished;

static uint64_t *make(uint64_t value) {
    uint64_t *object = gc_alloc(WORDS * sizeof *object);
    if (object == NULL) bench_out_of_memory(WORDS * sizeof *object);
    for (int i = 0; i < WORDS; i++) object[i] = value;
    return object;
}

static uint64_t damage(const uint64_t *object, uint64_t value) {
    uint64_t damaged = 0;
    for (int i = 0; i < WORDS; i++) damaged |= object[i] ^ value;
    return damaged;
}

static bool body(struct bench_strand *strand) {
    uint64_t number = (uint64_t)strand->number, mixed = number, steps = 0, damaged = 0;
    bool allocates = number % ALLOCATES_ONE_IN == 0;
    uint64_t *kept = make(number);
    while (!atomic_load_explicit(&finished, memory_order_relaxed)) {
        for (int i = 0; i < MIXES_A_STEP; i++) mixed = bench_mix(mixed + steps);
        if (allocates) damaged |= damage(make(mixed), mixed);
        steps++;
    }
    strand->ops = steps + (mixed == 0); /* so that the computation has a use */
    bench_expect("the damage to an object kept", damage(kept, number), 0);
    bench_expect("the damage to objects dropped", damaged, 0);
    return false;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Runs at most MOST collections, for at most LONGEST_S seconds.  Returns how many it ran. */
static size_t collect(size_t most) {
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    double deadline = seconds_now() + LONGEST_S;
    size_t count = 0;
    while (count < most && seconds_now() < deadline) {
        int error = gc_collect(GC_MINOR);
        if (error != 0) bench_fail("gc_collect failed: error %d", error);
        count++;
        nanosleep(&pause, NULL);
    }
    return count;
}

static void run(double scale, int threads) {
    bench_threads_start(threads, body);
    size_t collections = collect(bench_scaled(2000, scale, 10));
    gc_stats stats = {.size = sizeof stats};
    gc_get_stats(&stats);
    atomic_store(&finished, true);
    bench_threads_finish();
    if (stats.stops.count < collections)
        bench_fail("wrong result: %llu stops in %zu collections",
            (unsigned long long)stats.stops.count, collections);
    bench_figure("stops", (double)stats.stops.count);
    bench_figure("stop_p50_us", (double)stats.stops.p50_ns / 1e3);
    bench_figure("stop_p99_us", (double)stats.stops.p99_ns / 1e3);
    bench_figure("stop_max_us", (double)stats.stops.max_ns / 1e3);
}
