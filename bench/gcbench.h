/* What the workloads gcbench and mt_gcbench share. */
#ifndef BENCH_GCBENCH_H
#define BENCH_GCBENCH_H

#include <stdint.h>

/* Runs the whole of GCBench at SCALE and checks its result.  Returns how many nodes it made.  Any
 * number of threads may be in it at once. */
uint64_t gcbench(double scale);

#endif /* BENCH_GCBENCH_H */
