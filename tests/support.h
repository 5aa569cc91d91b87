/* What tests of a conservative collector need: stacks without stale pointers, pointers that the
 * collector can't see, collections, statistics. */
#ifndef CAIRN_TESTS_SUPPORT_H
#define CAIRN_TESTS_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cairn/gc.h"
#include "fewer.h"

/* Overwrites the stack below the caller, and the registers that calls may change. */
void clear_stack(void);

/* Skips the rest of a test that what unoptimised code leaves on the stack would disturb. */
void need_optimised_code(void);

/* clear_stack(), and then a collection, which must work. */
void collect(enum gc_collection kind);

/* Full collections with stores of nothing in between, until old blocks are as closed as they get.
 */
void settle_old(void);

gc_stats statistics(void);

/* Does the barrier of this heap, as it was opened here, notice writes? */
bool has_barrier(void);

/* Does CAIRN_STACK_SCAN say "precise"? */
bool precise(void);

/* A pointer as a word that means nothing to the collector, and back. */
static inline uintptr_t hide(const void *p) {
    return ~(uintptr_t)p;
}
static inline void *reveal(uintptr_t hidden) {
    return (void *)~hidden;
}

/* How many of COUNT hidden pointers are starts of live objects. */
size_t count_alive(const uintptr_t *hidden, size_t count);

/* Are all BYTES bytes at P the byte VALUE? */
bool all_bytes(const void *p, unsigned char value, size_t bytes);

/* Calls F(P) in a frame far below the caller's, so that what it leaves on the stack is overwritten.
 */
void call_below(void (*f)(void *), void *p);

/* The same for a function that makes what nothing refers to afterwards. */
void garbage(void (*f)(void));

#endif
