/* What a workload of several threads includes instead of bench/bench.h.
 *
 * Each thread does the same amount of work, so N of them do N times the work of one, and operations
 * a second of wall time say how the allocator scales.  bench/threads.c keeps the threads; the
 * workload supplies the body.  Threads are made by pthread_create(), which bench/alloc.h turns into
 * what the allocator asks for. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#ifdef BENCH_ALLOC_H
#error "include bench/threads.h before bench/bench.h, which it includes"
#endif
#define BENCH_THREADS

#include "bench/bench.h"

enum { BENCH_MOST_THREADS = 256 };

/* As BENCH_WORKLOAD(), with the function run(scale, threads).  DEFAULT_THREADS is how many it gets
 * when the user doesn't say. */
#define BENCH_THREADED_WORKLOAD(ident, text, default_threads)                                      \
    static void run(double scale, int threads);                                                    \
    BENCH_REGISTER(.name = #ident, .summary = text, .run_threads = run, .threads = default_threads)

/* A strand of work, which one thread does, or several one after the other.  Static, so that a
 * collector finds what DATA refers to. */
struct bench_strand {
    int number;     /* 0 to the number of threads - 1 */
    int generation; /* how many threads worked on it before this one */
    uint64_t ops;   /* operations done; the body adds to it when it is through, not at each */
    void *data;     /* the body's */

    /* Owned by bench/threads.c. */
    pthread_t worker;  /* the one before this one, or when the strand has ended the last one */
    uint64_t ended_ns; /* when that was */
} __attribute__((__aligned__(128))); /* two cache lines: they're fetched in pairs */

/* What a thread does.  Returns whether the strand goes on: then a new thread is started, which
 * calls it again, while the calling thread ends. */
typedef bool bench_body(struct bench_strand *strand);

/* What all threads together did, and how long that took from the moment when all were ready. */
struct bench_work {
    uint64_t ops;
    double seconds;
};

/* Starts THREADS strands of BODY; returns once all have begun. */
void bench_threads_start(int threads, bench_body *body);
/* Waits for the end of all, and joins every thread. */
struct bench_work bench_threads_finish(void);

/* Both, and prints the figures "ops" and "work_s". */
void bench_threads_run(int threads, bench_body *body);

#endif /* BENCH_THREADS_H */
