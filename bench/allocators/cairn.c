/* Cairn as an ordinary program uses it: default options, counters from gc_get_stats(). */
#include "bench/bench.h"

void bench_start(void) {
    int error = gc_init(NULL);
    if (error != 0) bench_fail("gc_init failed: error %d", error);
}

void bench_report(struct bench_counters *counters) {
    gc_stats stats = {.size = sizeof stats};
    int error = gc_get_stats(&stats);
    if (error != 0) bench_fail("gc_get_stats failed: error %d", error);
    counters->minor = stats.minor.count;
    counters->full = stats.full.count;
    counters->pause_p50_ns = stats.all.p50_ns;
    counters->pause_p99_ns = stats.all.p99_ns;
    counters->pause_max_ns = stats.all.max_ns;
}
