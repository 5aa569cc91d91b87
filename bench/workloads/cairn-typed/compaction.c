/* What compaction makes of the heap that the workload fragment leaves: how much memory the process
 * holds then for what lives, and how long the pause was.  What was kept is checked afterwards. */
#include <stdio.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/fragment.h"

BENCH_WORKLOAD(compaction, "fragment, and a compaction after its last phase");

/* Of the process, at this moment. */
static double resident_bytes(void) {
    unsigned long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu %lu", &size, &resident) != 2)
        bench_fail("can't read /proc/self/statm");
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static gc_stats ask(void) {
    gc_stats stats = {.size = sizeof stats};
    int error = gc_get_stats(&stats);
    if (error != 0) bench_fail("gc_get_stats failed: error %d", error);
    return stats;
}

static void collect(enum gc_collection kind) {
    int error = gc_collect(kind);
    if (error != 0) bench_fail("gc_collect failed: error %d", error);
}

/* A full collection comes first, so that garbage isn't counted as fragmentation. */
static void compact(void) {
    const double mb = 1 << 20;
    collect(GC_FULL);
    bench_figure("rss_full_mb", resident_bytes() / mb);
    collect(GC_COMPACT);
    double resident = resident_bytes();
    gc_stats stats = ask();
    bench_figure("rss_compact_mb", resident / mb);
    bench_figure("live_mb", (double)stats.live_bytes / mb);
    bench_figure("rss_per_live", resident / (double)stats.live_bytes);
    bench_figure("compact_ms", (double)stats.compact_ns / 1e6);
    bench_figure(
        "compact_us_per_live_mb", (double)stats.compact_ns / 1e3 / ((double)stats.live_bytes / mb));
    bench_figure("moved_mb", (double)stats.compact_moved / mb);
}

static void run(double scale) {
    fragment(scale, compact);
}
