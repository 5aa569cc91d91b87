/* GCBench (bench/gcbench.c) in each thread, with a long-lived tree and array for each.  Threads
 * share nothing, but a collection concerns them all and finds the long-lived data of all. */
#include "bench/threads.h"
#include "bench/gcbench.h"

BENCH_THREADED_WORKLOAD(mt_gcbench, "each thread runs gcbench", 1);

static double size; /* set before the threads start */

static bool body(struct bench_strand *strand) {
    strand->ops = gcbench(size);
    return false;
}

static void run(double scale, int threads) {
    size = scale;
    bench_threads_run(threads, body);
}
