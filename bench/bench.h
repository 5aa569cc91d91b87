/* What a workload is and how it says that something is wrong.
 *
 * A workload is one file in bench/workloads/ that says BENCH_WORKLOAD(name, "what it does") once
 * and then defines the function run().  The macro puts a pointer into a section of its own, which
 * the linker gathers into the table that bench/runner.c reads; there is no list to keep. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/alloc.h"

struct bench_workload {
    const char *name;
    const char *summary;
    void (*run)(double scale);
};

#define BENCH_WORKLOAD(ident, text)                                                                \
    static void run(double scale);                                                                 \
    static const struct bench_workload workload = {#ident, text, run};                             \
    static const struct bench_workload *const workload_entry                                       \
        __attribute__((__used__, __section__("bench_workloads"))) = &workload

/* Prints the workload, the allocator and the message, and exits with status 1. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* Fails unless COUNT is what it must be. */
void bench_expect(const char *what, uint64_t count, uint64_t expected);

/* COUNT times SCALE, at least LEAST. */
size_t bench_scaled(size_t count, double scale, size_t least);

/* The depth of a binary tree with SCALE times the nodes of one of DEPTH, at least LEAST. */
int bench_scaled_depth(int depth, double scale, int least);

#endif /* BENCH_BENCH_H */
