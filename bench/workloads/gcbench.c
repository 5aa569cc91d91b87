/* GCBench (bench/gcbench.c) in one thread. */
#include "bench/bench.h"
#include "bench/gcbench.h"

BENCH_WORKLOAD(gcbench, "trees built top-down and bottom-up beside a tree and an array of doubles");

static void run(double scale) {
    gcbench(scale);
}
