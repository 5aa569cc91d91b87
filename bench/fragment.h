/* What the workloads fragment and compaction share. */
#ifndef BENCH_FRAGMENT_H
#define BENCH_FRAGMENT_H

/* Runs all phases at SCALE, calls AFTER_LAST_PHASE unless it is NULL, and checks what was kept. */
void fragment(double scale, void (*after_last_phase)(void));

#endif /* BENCH_FRAGMENT_H */
