/* Helpers for tests with several threads: see threads_support.h. */
#define _GNU_SOURCE
#include "threads_support.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "gc/collect.h"
#include "gc/thread.h"
#include "support.h"

pthread_t start_thread(void *(*f)(void *), void *argument) {
    pthread_t thread;
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, f, argument), 0);
    return thread;
}

void *end_thread(pthread_t thread) {
    void *result;
    REQUIRE_EQUAL(gc_pthread_join(thread, &result), 0);
    return result;
}

void wait_for(const int *flag, int value) {
    while (look_at(flag) != value) {
        gc_safepoint();
        sched_yield();
    }
}

void raise_flag(int *flag, int value) {
    __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sleep_ms(unsigned ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
}

void collect_times(unsigned n) {
    for (unsigned i = 0; i < n; i++) collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
}

static uint64_t word_of(size_t size, uint64_t number) {
    return (number << 20 ^ size) * 0x9e3779b97f4a7c15u | (uint64_t)1 << 63;
}

enum { EDGE = 256 }; /* words at each end of a large object */

void fill_object(void *p, size_t size, uint64_t number) {
    uint64_t *word = p, value = word_of(size, number);
    size_t n = size / sizeof *word;
    for (size_t i = 0; i < n; i++) {
        if (i == EDGE && n > 2 * EDGE) i = n - EDGE;
        word[i] = value;
    }
    memset(&word[n], 7, size % sizeof *word);
}

bool check_object(const void *p, size_t size, uint64_t number) {
    const uint64_t *word = p;
    uint64_t value = word_of(size, number);
    size_t n = size / sizeof *word;
    for (size_t i = 0; i < n; i++) {
        if (i == EDGE && n > 2 * EDGE) i = n - EDGE;
        if (word[i] != value) return false;
    }
    return all_bytes(&word[n], 7, size % sizeof *word);
}

struct call {
    void (*f)(void *context);
    void *context;
};

static void call_it(struct gc_heap *heap, void *context) {
    const struct call *call = context;
    (void)heap;
    call->f(call->context);
}

__attribute__((noinline)) void with_world_stopped(void (*f)(void *context), void *context) {
    struct call call = {f, context};
    struct gci_thread *self = gci_thread_self();
    REQUIRE(self != NULL);
    gci_enter(&self->mutator, __builtin_frame_address(0));
    gci_with_world_stopped(self, call_it, &call);
    gci_leave(&self->mutator);
}

size_t resident_bytes(void) {
    unsigned long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL);
    REQUIRE_EQUAL(fscanf(file, "%lu %lu", &size, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

__attribute__((noinline)) void make_hidden(uintptr_t *hidden, size_t n, size_t size) {
    for (size_t i = 0; i < n; i++) {
        void *p = gc_alloc(size);
        REQUIRE(p != NULL);
        fill_object(p, size, i);
        hidden[i] = hide(p);
    }
    clear_stack();
}

__attribute__((noinline)) bool are_whole(const uintptr_t *hidden, size_t n, size_t size) {
    for (size_t i = 0; i < n; i++)
        if (gc_size(reveal(hidden[i])) < size || !check_object(reveal(hidden[i]), size, i))
            return false;
    return true;
}
