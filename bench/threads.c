/* The threads of a workload: starts them together, takes the time, joins them.  One set at a time,
 * which only the main thread starts and finishes. */
#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "bench/threads.h"

/* Written by the main thread while there are no others, but for the strands, each of which belongs
 * to the thread that works on it until it has posted ENDED. */
static struct bench_strand strands[BENCH_MOST_THREADS];
static int strand_count;
static bench_body *strand_body;
static pthread_barrier_t ready, go;
static sem_t ended;
static uint64_t started_ns;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Fails unless ERROR, which WHAT returned, is 0. */
static void must(const char *what, int error) {
    if (error != 0) bench_fail("%s: %s", what, strerror(error));
}

static void join(pthread_t thread) {
    must("pthread_join", pthread_join(thread, NULL));
}

static void *work(void *argument) {
    struct bench_strand *strand = argument;
    if (strand->generation == 0) {
        pthread_barrier_wait(&ready);
        pthread_barrier_wait(&go);
    } else {
        join(strand->worker);
    }
    bool goes_on = strand_body(strand);
    strand->worker = pthread_self();
    if (goes_on) {
        pthread_t next; /* it knows itself */
        strand->generation++;
        must("pthread_create", pthread_create(&next, NULL, work, strand));
    } else {
        strand->ended_ns = now_ns();
        sem_post(&ended);
    }
    return NULL;
}

/* The clock is read between the two barriers: after the first all threads stand ready, and after
 * the second this one may be long in getting a processor back. */
void bench_threads_start(int threads, bench_body *body) {
    memset(strands, 0, sizeof strands);
    strand_count = threads;
    strand_body = body;
    must("pthread_barrier_init", pthread_barrier_init(&ready, NULL, (unsigned)threads + 1));
    must("pthread_barrier_init", pthread_barrier_init(&go, NULL, (unsigned)threads + 1));
    sem_init(&ended, 0, 0);
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        strands[i].number = i;
        must("pthread_create", pthread_create(&thread, NULL, work, &strands[i]));
    }
    pthread_barrier_wait(&ready);
    started_ns = now_ns();
    pthread_barrier_wait(&go);
}

static void await_all(void) {
    for (int i = 0; i < strand_count; i++)
        while (sem_wait(&ended) != 0 && errno == EINTR) continue;
}

struct bench_work bench_threads_finish(void) {
    uint64_t ops = 0, last_ns = started_ns;
    bench_wait(await_all);
    for (int i = 0; i < strand_count; i++) {
        join(strands[i].worker);
        strands[i].data = NULL;
        ops += strands[i].ops;
        if (strands[i].ended_ns > last_ns) last_ns = strands[i].ended_ns;
    }
    sem_destroy(&ended);
    pthread_barrier_destroy(&ready);
    pthread_barrier_destroy(&go);
    return (struct bench_work){ops, (double)(last_ns - started_ns) / 1e9};
}

void bench_threads_run(int threads, bench_body *body) {
    bench_threads_start(threads, body);
    struct bench_work done = bench_threads_finish();
    bench_figure("ops", (double)done.ops);
    bench_figure("work_s", done.seconds);
}
