/* A program that knows nothing of attaching, run with CAIRN_ATTACH=auto by test_pthreads.c: it
 * makes its threads with pthread_create(), which the shared library stands in for, and has them
 * block signals and wait as programs do.  Each step ends the program if it goes wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "cairn/gc.h"

#define THREADS 40
#define LENGTH  2000

#define NEED(condition)                                                                            \
    ((condition)                                                                                   \
            ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), _exit(1)))

struct cell {
    struct cell *next;
    size_t number;
};

static struct cell *list(size_t length, size_t number) {
    struct cell *first = NULL;
    for (size_t i = 0; i < length; i++) {
        struct cell *cell = gc_alloc(sizeof *cell);
        cell->next = first;
        cell->number = number;
        first = cell;
    }
    return first;
}

static bool is_list(const struct cell *cell, size_t length, size_t number) {
    for (size_t i = 0; i < length; i++, cell = cell->next)
        if (cell == NULL || cell->number != number) return false;
    return cell == NULL;
}

static void collect(void) {
    NEED(gc_collect(GC_FULL) == 0);
}

/* ---- Arguments and results ------------------------------------------------------------------ */

static void *copy_list(void *argument) {
    size_t number = ((struct cell *)argument)->number;
    NEED(is_list(argument, LENGTH, number));
    struct cell *copy = list(LENGTH, number + 1);
    if (number % 3 == 0) pthread_exit(copy);
    return copy;
}

static void arguments_and_results_survive(void) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        NEED(pthread_create(&threads[i], NULL, copy_list, list(LENGTH, i)) == 0);
        if (i % 8 == 0) collect();
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *result;
        collect();
        NEED(pthread_join(threads[i], &result) == 0);
        NEED(is_list(result, LENGTH, i + 1));
    }
}

/* ---- A thread that is older than the heap --------------------------------------------------- */

static sem_t heap_is_there;

static void *start_early(void *argument) {
    NEED(argument == NULL);
    while (sem_wait(&heap_is_there) != 0) NEED(errno == EINTR);
    return list(LENGTH, 77);
}

static pthread_t make_early_thread(void) {
    pthread_t thread;
    sem_init(&heap_is_there, 0, 0);
    NEED(pthread_create(&thread, NULL, start_early, NULL) == 0);
    return thread;
}

static void the_early_thread_is_attached(pthread_t thread) {
    void *result;
    list(1, 0);
    sem_post(&heap_is_there);
    for (int i = 0; i < 100; i++) collect();
    NEED(pthread_join(thread, &result) == 0);
    NEED(is_list(result, LENGTH, 77));
}

/* ---- Threads that block and wait ------------------------------------------------------------ */

static int wake[2];     /* a pipe */
static volatile int at; /* how many threads are there, or nearly */

static void *block_all_and_spin(void *flag) {
    sigset_t all;
    sigfillset(&all);
    NEED(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    NEED(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    __atomic_fetch_add(&at, 1, __ATOMIC_RELAXED);
    while (!__atomic_load_n((int *)flag, __ATOMIC_RELAXED)) continue;
    return NULL;
}

static void *wait_by_sigwait(void *unused) {
    sigset_t all;
    int number;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    __atomic_fetch_add(&at, 1, __ATOMIC_RELAXED);
    NEED(sigwait(&all, &number) == 0 && number == SIGUSR1);
    return unused;
}

static void *wait_by_ppoll(void *unused) {
    sigset_t all;
    struct pollfd fd = {wake[0], POLLIN, 0};
    struct timespec minute = {60, 0};
    sigfillset(&all);
    __atomic_fetch_add(&at, 1, __ATOMIC_RELAXED);
    NEED(ppoll(&fd, 1, &minute, &all) == 1);
    return unused;
}

static void *wait_by_pselect(void *unused) {
    sigset_t all;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(wake[0], &set);
    sigfillset(&all);
    __atomic_fetch_add(&at, 1, __ATOMIC_RELAXED);
    NEED(pselect(wake[0] + 1, &set, NULL, NULL, NULL, &all) == 1);
    return unused;
}

static void *wait_by_epoll(void *unused) {
    sigset_t all;
    struct epoll_event event = {EPOLLIN, {.fd = wake[0]}};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    NEED(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, wake[0], &event) == 0);
    sigfillset(&all);
    __atomic_fetch_add(&at, 1, __ATOMIC_RELAXED);
    NEED(epoll_pwait(epoll, &event, 1, 240000, &all) == 1);
    close(epoll);
    return unused;
}

/* Its time is over in the middle of the collections, and not before. */
static void *wait_a_while(void *unused) {
    sigset_t all;
    struct timespec before, after, time = {0, 300000000};
    sigfillset(&all);
    clock_gettime(CLOCK_MONOTONIC, &before);
    NEED(ppoll(NULL, 0, &time, &all) == 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double s =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    NEED(s >= 0.299 && s < 60);
    __atomic_fetch_add(&at, 1, __ATOMIC_RELAXED);
    return unused;
}

static void blocking_and_waiting_threads_are_stopped(void) {
    static void *(*const functions[])(void *) = {block_all_and_spin, wait_by_sigwait, wait_by_ppoll,
        wait_by_pselect, wait_by_epoll, wait_a_while};
    enum { COUNT = sizeof functions / sizeof *functions };
    pthread_t threads[COUNT];
    int flag = 0;
    NEED(pipe(wake) == 0);
    for (size_t i = 0; i < COUNT; i++)
        NEED(pthread_create(&threads[i], NULL, functions[i], &flag) == 0);
    while (__atomic_load_n(&at, __ATOMIC_RELAXED) < COUNT) collect();
    for (int i = 0; i < 20; i++) collect();
    __atomic_store_n(&flag, 1, __ATOMIC_RELAXED);
    NEED(write(wake[1], "x", 1) == 1);
    NEED(pthread_kill(threads[1], SIGUSR1) == 0);
    for (size_t i = 0; i < COUNT; i++) NEED(pthread_join(threads[i], NULL) == 0);
}

int main(void) {
    alarm(300);
    pthread_t early = make_early_thread();
    the_early_thread_is_attached(early);
    arguments_and_results_survive();
    blocking_and_waiting_threads_are_stopped();
    NEED(gc_verify() == 0);
    puts("auto: all is well");
    return 0;
}
