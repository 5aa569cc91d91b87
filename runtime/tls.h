/* Thread-local storage of threads that stand still: variables, and what the C library keeps of a
 * thread: the values of pthread_setspecific(), the argument it was started with, its result
 * (docs/roots.md, rule 9).
 *
 * Ranges given to a visitor are as roots.h says. */
#ifndef CAIRN_RUNTIME_TLS_H
#define CAIRN_RUNTIME_TLS_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/roots.h"

struct dl_phdr_info;

/* A loaded object that has thread-local variables. */
struct gci_tls_module {
    size_t id;                      /* its index in each thread's table */
    size_t bytes;                   /* of each thread's block */
    const uintptr_t *static_offset; /* where the loader notes how far a block that isn't in the
                                       table lies below the thread pointer; NULL if not known */
    bool seen;                      /* the thread that made the list had a block, ... */
    uintptr_t distance;             /* ... so far above its thread pointer, modulo 2^64 */
};

/* Asks the C library how it lays out what it keeps of a thread.  Called once, when the heap is
 * opened, before the world's lock is taken: takes the loader's lock and may call malloc. */
void gci_tls_init(void);

/* Is OBJECT one with thread-local variables?  Then fills *MODULE.  Called by dl_iterate_phdr(),
 * with its SIZE. */
bool gci_tls_read_module(
    const struct dl_phdr_info *object, size_t size, struct gci_tls_module *module);

/* Visits the thread-local storage of the thread with that THREAD_POINTER, which is the calling one
 * or stands still, apart from what lies in [SKIP_LOW, SKIP_HIGH): its stack, if that is searched
 * anyway.  MODULES: as refreshed with no object loaded or unloaded since.  Takes no lock, calls
 * nothing that might, reads nothing without having tried whether it can be read, and keeps
 * errno. */
void gci_tls_visit(uintptr_t thread_pointer, uintptr_t skip_low, uintptr_t skip_high,
    const struct gci_static_roots *modules, gci_root_visitor *visit, void *context);

/* Visits [START, END) without that thread's gc_buffers. */
void gci_visit_without_buffers(uintptr_t thread_pointer, uintptr_t start, uintptr_t end,
    enum gci_root_kind kind, gci_root_visitor *visit, void *context);

#endif
