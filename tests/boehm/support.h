/* What the tests of Boehm's interface share. Each runs in a child process (see child.h), and asks
 * nothing but what Boehm's documentation promises, so that it passes with Debian's libgc as well as
 * with Cairn's: docs/boehm-tests.md. A conservative collector may keep some garbage, so that what
 * dies is "most of a thousand".
 *
 * Objects are watched through disappearing links kept in malloc()'s memory, where no collector
 * looks. */
#ifndef CAIRN_TESTS_BOEHM_SUPPORT_H
#define CAIRN_TESTS_BOEHM_SUPPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS

#include <string.h>
#include "child.h"
#include "gc.h"

/* How many objects make a statement about "most". */
#define MANY 1000

#define REQUIRE_MOST(n, of)                                                                        \
    ((n) >= (of) - (of) / 10 ? (void)0                                                             \
                             : child_fail(__FILE__, __LINE__, "%s: %lld of %lld is not most", #n,  \
                                   (long long)(n), (long long)(of)))
#define REQUIRE_FEW(n, of)                                                                         \
    ((n) <= (of) / 10 ? (void)0                                                                    \
                      : child_fail(__FILE__, __LINE__, "%s: %lld of %lld is not few", #n,          \
                            (long long)(n), (long long)(of)))

/* Static memory that holds objects: a compiler leaves out what is written to a static variable that
 * nobody reads. */
extern void *held[4 * MANY];

/* Builds a list of LENGTH objects, held by the stack only, and looks whether it is whole. */
void check_list(long length);

/* Overwrites the stack below the caller. */
void wipe_stack(void);

/* Two full collections, nothing stale on the stack. */
void collect_all(void);

/* Calls F(P) in a frame far below the caller's, so that what it leaves is overwritten later. */
void far_below(void (*f)(void *), void *p);

/* The objects watched, in the order of watch(). */
struct watched {
    size_t count;
    void *links[4 * MANY]; /* hidden pointers, NULL when gone */
};

/* In malloc()'s memory, never freed. */
struct watched *new_watched(void);

/* OBJECT may be any address in an object. */
void watch(struct watched *w, void *object);

/* How many are there still. */
size_t alive(const struct watched *w);

/* The I-th object, which must be alive. */
void *watched_object(const struct watched *w, size_t i);

/* A function of the library's by its name, or the test is skipped. */
void *need_function(const char *name);

/* GC_malloc(), GC_malloc_atomic() and so on. */
typedef void *allocator(size_t bytes);

/* Allocates MANY objects of BYTES bytes, in held[], each with the only pointer to
 * another one in its first word; collects; and says how many of the latter are still there. */
size_t children_kept(allocator *allocate, size_t bytes);

/* Allocates MANY objects of BYTES bytes, held by nothing, and says how many are still there after a
 * collection. */
size_t garbage_kept(allocator *allocate, size_t bytes);

/* Runs F with stdout and stderr in a file; returns what was written there, which stays until the
 * next call. */
const char *output_of(void (*f)(void));

#endif
