/* What a workload is and how it says that something is wrong.
 *
 * A workload is one file in bench/workloads/ that says BENCH_WORKLOAD(name, "what it does") once
 * and then defines the function run().  The macro puts a pointer into a section of its own, which
 * the linker gathers into the table that bench/runner.c reads; there is no list to keep.  One that
 * starts threads says BENCH_THREADED_WORKLOAD(), in bench/threads.h. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/alloc.h"

struct bench_workload {
    const char *name;
    const char *summary;
    /* One of the two. */
    void (*run)(double scale);
    void (*run_threads)(double scale, int threads);
    int threads; /* how many RUN_THREADS gets when nobody says; 0 with RUN */
};

#define BENCH_REGISTER(...)                                                                        \
    static const struct bench_workload workload = {__VA_ARGS__};                                   \
    static const struct bench_workload *const workload_entry                                       \
        __attribute__((__used__, __section__("bench_workloads"))) = &workload

#define BENCH_WORKLOAD(ident, text)                                                                \
    static void run(double scale);                                                                 \
    BENCH_REGISTER(.name = #ident, .summary = text, .run = run)

/* Prints the workload, the allocator and the message, and exits with status 1. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* Fails unless COUNT is what it must be. */
void bench_expect(const char *what, uint64_t count, uint64_t expected);

/* Prints a figure of the workload's own, "NAME=VALUE", for cairn-bench to read. */
void bench_figure(const char *name, double value);

/* COUNT times SCALE, at least LEAST. */
size_t bench_scaled(size_t count, double scale, size_t least);

/* The depth of a binary tree with SCALE times the nodes of one of DEPTH, at least LEAST. */
int bench_scaled_depth(int depth, double scale, int least);

#endif /* BENCH_BENCH_H */
