/* Helpers for tests that allocate: see support.h. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "child.h"

__attribute__((noinline)) void clear_stack(void) {
    volatile char below[64 << 10];
    for (size_t i = 0; i < sizeof below; i++) below[i] = 0;
}

void need_optimised_code(void) {
#ifndef __OPTIMIZE__
    child_skip("unoptimised code keeps stale words on the stack");
#endif
}

void collect(enum gc_collection kind) {
    clear_stack();
    REQUIRE_EQUAL(gc_collect(kind), 0);
}

void settle_old(void) {
    for (int i = 0; i < 6; i++) collect(i == 0 ? GC_FULL : GC_MINOR);
}

gc_stats statistics(void) {
    gc_stats stats = {.size = sizeof stats};
    REQUIRE_EQUAL(gc_get_stats(&stats), 0);
    return stats;
}

bool has_barrier(void) {
    return statistics().barrier != GC_BARRIER_NONE;
}

bool precise(void) {
    const char *text = getenv("CAIRN_STACK_SCAN");
    return text != NULL && strcmp(text, "precise") == 0;
}

size_t count_alive(const uintptr_t *hidden, size_t count) {
    size_t alive = 0;
    for (size_t i = 0; i < count; i++) alive += gc_size(reveal(hidden[i])) != 0;
    return alive;
}

bool all_bytes(const void *p, unsigned char value, size_t bytes) {
    const unsigned char *byte = p;
    if (bytes == 0) return true;
    return byte[0] == value && memcmp(byte, byte + 1, bytes - 1) == 0;
}

__attribute__((noinline)) void call_below(void (*f)(void *), void *p) {
    volatile char space[4 << 10];
    space[0] = 0;
    f(p);
    space[sizeof space - 1] = space[0];
    clear_stack();
}

static void (*makes_garbage)(void);

static void make_below(void *unused) {
    (void)unused;
    makes_garbage();
}

void garbage(void (*f)(void)) {
    makes_garbage = f;
    call_below(make_below, NULL);
}
