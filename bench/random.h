/* The workloads' source of randomness: a counter put through a mixing function (Stafford's variant
 * 13 of MurmurHash3's finalizer, as in SplitMix64).  The same seed gives the same sequence
 * everywhere, and the n-th number can be had without the ones before it, so that a check can ask
 * again. */
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <stdint.h>

struct bench_random {
    uint64_t state;
};

#define BENCH_RANDOM_STEP 0x9e3779b97f4a7c15u /* 2^64 / the golden ratio, odd */

/* A permutation of the 64-bit numbers that looks random. */
static inline uint64_t bench_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* X, uniform over 64 bits, brought into 0..N-1; N below 2^32. */
static inline uint64_t bench_reduce(uint64_t x, uint64_t n) {
    return ((x >> 32) * n) >> 32;
}

static inline uint64_t bench_random_next(struct bench_random *random) {
    return bench_mix(random->state += BENCH_RANDOM_STEP);
}

/* Uniform over 0..N-1; N below 2^32. */
static inline uint64_t bench_random_below(struct bench_random *random, uint64_t n) {
    return bench_reduce(bench_random_next(random), n);
}

/* Uniform over LOW..HIGH. */
static inline uint64_t bench_random_between(
    struct bench_random *random, uint64_t low, uint64_t high) {
    return low + bench_random_below(random, high - low + 1);
}

#endif /* BENCH_RANDOM_H */
