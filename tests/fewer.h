/* How long random tests run. */
#ifndef CAIRN_TESTS_FEWER_H
#define CAIRN_TESTS_FEWER_H

#include <stdbool.h>
#include <stdint.h>

/* How many of N random steps a test takes: a quarter with a sanitizer, which makes each several times
 * as long, and finds the misuse of memory in a step or doesn't.  What depends on there being many is
 * tested by the other builds. */
static inline uint64_t fewer(uint64_t n) {
#ifdef GC_SANITIZE
    return n / 4;
#else
    return n;
#endif
}

/* Are there so many that what a random test waits for surely happens? */
static inline bool are_many(void) {
#ifdef GC_SANITIZE
    return false;
#else
    return true;
#endif
}

#endif
