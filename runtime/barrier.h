/* The write barrier: which old pages did the program write to?
 *
 * What the caller gets: after gci_barrier_protect(range), every first write by the program (or by a
 * system call, if the backend can survive that) to a page of the range is remembered, and
 * gci_barrier_collect(range) reports it.  Under GC_BARRIER_EXPLICIT that is so for stores that
 * marked their card, and cards of 1 << GC_CARD_SHIFT bytes are reported.  What the caller must
 * supply: the world is stopped during every call here except gci_barrier_unprotect(), which
 * different threads may call at a time for different ranges, and gci_barrier_prepare(); ranges are
 * page aligned and inside the arena named at opening; and a range whose protection fails is treated
 * as written for ever ("open") until it is protected again.
 *
 * The barrier knows nothing of blocks or objects.  Rules: docs/barrier.md. */
#ifndef CAIRN_RUNTIME_BARRIER_H
#define CAIRN_RUNTIME_BARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cairn/gc.h"

/* One maximal run of written pages, or cards, [start, start + bytes). */
typedef void gci_dirty_visitor(void *context, uintptr_t start, size_t bytes);

struct gci_barrier; /* one for each heap; all state is inside, from gci_vm_map() */

struct gci_barrier_stats {
    uint64_t faults;        /* faults the backend handled itself (mprotect) */
    uint64_t widened;       /* faults that opened more than a page, for want of mappings */
    uint64_t refused;       /* protections refused by the kernel or by the mapping budget */
    uint64_t disagreements; /* GC_BARRIER_CROSS: pages that one backend missed */
};

/* Opens a barrier of kind WHICH (enum gc_barrier) over the arena [start, start + bytes), all of
 * which is reserved and hardly committed yet.  GC_BARRIER_AUTO probes: UFFD; else MPROTECT if
 * prepares_writes; else NONE.  A backend asked for by name that doesn't work here falls back in
 * the same way.  What was refused and what was taken is logged when LOG, and a backend asked for
 * by name that is refused always says so. Returns NULL only when there is no memory. */
struct gci_barrier *gci_barrier_open(
    enum gc_barrier which, bool prepares_writes, bool log, uintptr_t start, size_t bytes);

/* Closes it; everything it covered is writable. */
void gci_barrier_close(struct gci_barrier *barrier);

/* The kind in force: never GC_BARRIER_AUTO. */
enum gc_barrier gci_barrier_kind(const struct gci_barrier *barrier);

/* Is it GC_BARRIER_EXPLICIT or EXPLICIT_CROSS? Then a store must mark its card, and arming a range
 * costs the program nothing. */
bool gci_barrier_is_explicit(const struct gci_barrier *barrier);

/* The table of cards, as inline code wants it: that of address p is [p >> GC_CARD_SHIFT], which a
 * store sets to 1 before it is made.  NULL: there is none.  It stays the same, also in a child. */
uint8_t *gci_barrier_cards(const struct gci_barrier *barrier);

/* Before the arena's first BYTES are used: makes their cards usable.  Returns 0 or an errno value.
 * Others may be storing meanwhile; called by one thread at a time. */
int gci_barrier_cover(struct gci_barrier *barrier, size_t bytes);

/* Arms the barrier for the pages of a committed range: each is clean from here on.  Returns 0 or
 * an errno value (ENOTSUP under NONE): then the range, or part of it, may be unarmed and counts
 * as open. */
int gci_barrier_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes);

/* Disarms: writes to the range are no longer noticed and cost nothing.  Can't fail in a way that
 * makes a write fail. */
void gci_barrier_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes);

/* Visits each run of pages of an armed range that was written since it was armed or last
 * collected, and arms these again.  A page that can't be known clean is reported.  The visitor
 * may not call the barrier. */
void gci_barrier_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context);

/* Under EXPLICIT_CROSS, else nothing: visits each run of pages of an armed range to which page
 * protection saw a write since it was armed or last compared, whatever their cards say, and then
 * sets all cards of these pages, so that gci_barrier_collect() will report them. */
void gci_barrier_compare(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context);

/* Before a system call writes to [p, p + n), any addresses, while the program runs: afterwards
 * no page of it is protected in a way that can make the call fail; the pages count as written. */
void gci_barrier_prepare(struct gci_barrier *barrier, uintptr_t p, size_t n);

/* Is this process a child of the one that opened the barrier, and gci_barrier_after_fork() not
 * called yet? */
bool gci_barrier_is_in_child(const struct gci_barrier *barrier);

/* In such a child, where nothing is armed any more: opens the backend anew, or if that fails none
 * (it is logged).  All of the arena is unarmed afterwards. */
void gci_barrier_after_fork(struct gci_barrier *barrier, bool log);

void gci_barrier_get_stats(const struct gci_barrier *barrier, struct gci_barrier_stats *stats);

#endif
