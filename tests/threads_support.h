/* What tests with several threads need: threads, waiting, a world that stands still. */
#ifndef CAIRN_TESTS_THREADS_SUPPORT_H
#define CAIRN_TESTS_THREADS_SUPPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An attached thread, which must come about; and its end. */
pthread_t start_thread(void *(*f)(void *), void *argument);
void *end_thread(pthread_t thread);

/* A flag that threads wait for without being stopped late: the waiting thread yields. */
void wait_for(const int *flag, int value);
void raise_flag(int *flag, int value);
static inline int look_at(const int *flag) {
    return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

uint64_t now_ns(void);
void sleep_ms(unsigned ms);

/* Numbers that look random, from a state that the caller starts with anything but 0. */
static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1dU;
}

/* N collections, of both kinds in turn, full ones first. */
void collect_times(unsigned n);

/* An object that says what it is: NUMBER and a checksum of its size in every word, or in the first
 * and last bytes of large ones.  Not a word of it is a pointer. */
void fill_object(void *p, size_t size, uint64_t number);
bool check_object(const void *p, size_t size, uint64_t number);

/* Calls F(CONTEXT) while all other threads are stopped for a collection. */
void with_world_stopped(void (*f)(void *context), void *context);

/* The process's resident memory in bytes. */
size_t resident_bytes(void);

/* Stores the hidden words of N objects of SIZE bytes, filled with their numbers, in HIDDEN; leaves
 * no other trace of them. */
void make_hidden(uintptr_t *hidden, size_t n, size_t size);
/* Are they alive, with their contents? */
bool are_whole(const uintptr_t *hidden, size_t n, size_t size);

#endif
