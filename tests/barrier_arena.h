/* What the tests of the write barrier share: an arena with a barrier over it, which remembers
 * what the last collection reported, and children that run a part of a test.  Included by
 * tests/test_barrier*.c, after which every test ends with close_arena(). */
#ifndef CAIRN_TESTS_BARRIER_ARENA_H
#define CAIRN_TESTS_BARRIER_ARENA_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/barrier.h"
#include "runtime/barrier_backend.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define ARENA_BYTES ((size_t)1 << 40)

struct arena {
    struct gci_barrier *barrier;
    uintptr_t start;
    size_t page;    /* bytes */
    size_t pages;   /* committed */
    uint8_t *dirty; /* by page: reported by the last collection */
    size_t runs, dirty_pages;
    uintptr_t last_end;
    bool disordered; /* runs overlapped, touched or went backwards */
};

static inline void note_run(void *context, uintptr_t start, size_t bytes) {
    struct arena *a = context;
    if (bytes == 0 || (a->runs > 0 && start <= a->last_end)) a->disordered = true;
    for (uintptr_t p = start; p < start + bytes; p += a->page) {
        a->dirty[(p - a->start) / a->page] = 1;
        a->dirty_pages++;
    }
    a->runs++;
    a->last_end = start + bytes;
}

static inline void make_arena(struct arena *a, size_t pages) {
    *a = (struct arena){.page = gci_page_size(), .pages = pages};
    void *start = gci_vm_reserve(ARENA_BYTES, 64 * 1024);
    assert_non_null(start);
    a->start = (uintptr_t)start;
    assert_int_equal(gci_vm_commit(start, pages * a->page), 0);
    a->dirty = calloc(pages, 1);
    assert_non_null(a->dirty);
}

static inline void close_arena(struct arena *a) {
    if (a->barrier != NULL) gci_barrier_close(a->barrier);
    gci_vm_unmap((void *)a->start, ARENA_BYTES);
    free(a->dirty);
}

static inline const char *kind_name(enum gc_barrier kind) {
    static const char *const names[] = {
        "auto", "uffd", "mprotect", "none", "cross", "explicit", "explicit-cross"};
    return names[kind];
}

/* The arena under the barrier that *STATE names; skips the test where the machine lacks it. */
static inline void open_arena(struct arena *a, void **state, size_t pages) {
    enum gc_barrier kind = *(enum gc_barrier *)*state;
    make_arena(a, pages);
    a->barrier = gci_barrier_open(kind, false, false, a->start, ARENA_BYTES);
    assert_non_null(a->barrier);
    if (gci_barrier_kind(a->barrier) != kind) {
        print_message("this machine has no %s barrier\n", kind_name(kind));
        close_arena(a);
        skip();
    }
}

static inline volatile char *at(const struct arena *a, size_t page) {
    return (volatile char *)(a->start + page * a->page);
}

/* Returns what the barrier returns. */
static inline int try_protect(struct arena *a, size_t first, size_t pages) {
    return gci_barrier_protect(a->barrier, (uintptr_t)at(a, first), pages * a->page);
}

static inline void protect(struct arena *a, size_t first, size_t pages) {
    assert_int_equal(try_protect(a, first, pages), 0);
}

static inline void unprotect(struct arena *a, size_t first, size_t pages) {
    gci_barrier_unprotect(a->barrier, (uintptr_t)at(a, first), pages * a->page);
}

static inline void check_tables(const struct arena *a) {
    enum gc_barrier kind = gci_barrier_kind(a->barrier);
    if (kind == GC_BARRIER_MPROTECT || kind == GC_BARRIER_CROSS) gci_check_mprotect(a->barrier);
}

/* Collects the range; returns how many pages are dirty, which a->dirty then tells. */
static inline size_t collect(struct arena *a, size_t first, size_t pages) {
    memset(a->dirty, 0, a->pages);
    a->runs = a->dirty_pages = 0;
    gci_barrier_collect(a->barrier, (uintptr_t)at(a, first), pages * a->page, note_run, a);
    GCI_CHECK(!a->disordered);
    check_tables(a);
    return a->dirty_pages;
}

static inline struct gci_barrier_stats stats_of(const struct arena *a) {
    struct gci_barrier_stats stats;
    gci_barrier_get_stats(a->barrier, &stats);
    return stats;
}

/* read(2) of one byte to P; errno is the call's. */
static inline ssize_t read_into(volatile char *p) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    errno = 0;
    ssize_t n = read(ends[0], (char *)p, 1);
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return n;
}

/* In a child, where cmocka's assertions are no use. */
#define DEMAND(condition) ((condition) ? (void)0 : demand_failed(__LINE__, #condition))
static inline void demand_failed(int line, const char *what) {
    gci_log("line %d: not so: %s", line, what);
    _exit(1);
}

/* Runs BODY in a child with its stderr caught in TEXT; returns the wait status.  A child that
 * hangs is killed by SIGALRM. */
static inline int in_child(void (*body)(void *), void *argument, char *text, size_t room) {
    int ends[2], status = 0;
    size_t length = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(300);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body(argument);
        _exit(0);
    }
    close(ends[1]);
    for (;;) {
        char lost[256];
        bool full = length + 1 >= room;
        char *to = full ? lost : text + length;
        ssize_t n = read(ends[0], to, full ? sizeof lost : room - 1 - length);
        if (n <= 0) break;
        if (!full) length += (size_t)n;
    }
    close(ends[0]);
    text[length] = '\0';
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static inline bool exited_well(int status, const char *text) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    print_message("child ended with status %#x and said: %s\n", (unsigned)status, text);
    return false;
}

/* Tests under one backend, all of them, and those that work by signals. */
static enum gc_barrier uffd __attribute__((__unused__)) = GC_BARRIER_UFFD;
static enum gc_barrier by_mprotect __attribute__((__unused__)) = GC_BARRIER_MPROTECT;
static enum gc_barrier cross __attribute__((__unused__)) = GC_BARRIER_CROSS;

/* clang-format off */
#define UNDER(f, kind) {.name = #f " [" #kind "]", .test_func = f, .initial_state = &kind}
/* clang-format on */
#define UNDER_ALL(f)     UNDER(f, uffd), UNDER(f, by_mprotect), UNDER(f, cross)
#define UNDER_SIGNALS(f) UNDER(f, by_mprotect), UNDER(f, cross)

#endif
