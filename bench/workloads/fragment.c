/* The phases of bench/fragment.c. */
#include "bench/bench.h"
#include "bench/fragment.h"

BENCH_WORKLOAD(fragment, "12 phases of different object sizes, an eighth of each phase kept");

static void run(double scale) {
    fragment(scale, NULL);
}
