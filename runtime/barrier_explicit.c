/* The explicit barrier: the program says where it stores references, by setting the byte of the
 * card that the slot lies in, before it stores (gc_write() in cairn/embed.h).  Owns barrier->cards.
 * Called through gci_backend_explicit and gci_backend_explicit_cross by barrier.c.
 *
 * Invariants: cards of committed parts of the arena are usable, so that a store into an object
 * never faults; cards are cleared with the world stopped only.  Why that loses nothing:
 * docs/barrier.md, rules 12 to 14.
 *
 * Under explicit-cross the ranges are page-protected besides, by barrier->checked_by.  That isn't
 * compared here: a page is also written to where numbers are stored, which needn't be said, and
 * what is a reference the collector alone knows (gc/missed.c). */
#include "runtime/barrier_backend.h"

#include <errno.h>
#include <string.h>

#include "runtime/vm.h"

_Static_assert(GC_CARD_SHIFT >= 10 && GC_CARD_SHIFT <= 12,
    "at least the 64 granules that are searched at a time, and no more than a page");

static size_t table_bytes(const struct gci_barrier *barrier) {
    return gci_whole_pages(barrier->bytes >> GC_CARD_SHIFT);
}

static size_t card_of(const struct gci_barrier *barrier, uintptr_t address) {
    return (address - barrier->start) >> GC_CARD_SHIFT;
}

/* ---- The table ------------------------------------------------------------------------------ */

int gci_cards_cover(struct gci_barrier *barrier, size_t bytes) {
    struct gci_cards *cards = &barrier->cards;
    size_t need = gci_whole_pages(bytes >> GC_CARD_SHIFT);
    if (need <= cards->known) return 0;
    int error = gci_vm_commit(cards->table + cards->known, need - cards->known);
    if (error == 0) __atomic_store_n(&cards->known, need, __ATOMIC_RELEASE);
    return error;
}

static int explicit_open(struct gci_barrier *barrier) {
    barrier->cards = (struct gci_cards){.table = gci_vm_reserve(table_bytes(barrier), 1)};
    if (barrier->cards.table != NULL) return 0;
    barrier->refused_by = "reserving the table of cards";
    return ENOMEM;
}

static void explicit_close(struct gci_barrier *barrier) {
    gci_vm_unmap(barrier->cards.table, table_bytes(barrier));
    barrier->cards.table = NULL;
}

/* ---- Arming and collecting ------------------------------------------------------------------ */

static int explicit_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    int error = gci_cards_cover(barrier, start + bytes - barrier->start);
    if (error != 0) return error;
    memset(barrier->cards.table + card_of(barrier, start), 0, bytes >> GC_CARD_SHIFT);
    return 0;
}

static void explicit_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    (void)barrier, (void)start, (void)bytes;
}

static void explicit_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    uint8_t *table = barrier->cards.table;
    size_t card = card_of(barrier, start), end = card_of(barrier, start + bytes);
    while ((card = gci_pages_find(table, card, end, 0xff, 0, false)) < end) {
        size_t next = gci_pages_find(table, card, end, 0xff, 0, true);
        memset(table + card, 0, next - card);
        visit(context, barrier->start + (card << GC_CARD_SHIFT), (next - card) << GC_CARD_SHIFT);
        card = next;
    }
}

/* While the program runs: as if it had stored to all of it. */
static void explicit_prepare(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    size_t known = __atomic_load_n(&barrier->cards.known, __ATOMIC_ACQUIRE);
    size_t card = card_of(barrier, start), end = card_of(barrier, start + bytes);
    for (; card < end && card < known; card++)
        __atomic_store_n(&barrier->cards.table[card], 1, __ATOMIC_RELAXED);
}

const struct gci_backend gci_backend_explicit = {
    .kind = GC_BARRIER_EXPLICIT,
    .name = "explicit, by gc_write()",
    .survives_syscalls = true,
    .open = explicit_open,
    .close = explicit_close,
    .protect = explicit_protect,
    .unprotect = explicit_unprotect,
    .collect = explicit_collect,
    .prepare = explicit_prepare,
};

/* ---- Together with page protection ---------------------------------------------------------- */

static int cross_open(struct gci_barrier *barrier) {
    int error = explicit_open(barrier);
    if (error != 0) return error;
    error = barrier->checked_by->open(barrier);
    if (error != 0) explicit_close(barrier);
    return error;
}

static void cross_close(struct gci_barrier *barrier) {
    barrier->checked_by->close(barrier);
    explicit_close(barrier);
}

/* Where protecting fails, what is written is unknown: all of it will be compared. */
static int cross_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    int error = explicit_protect(barrier, start, bytes);
    if (error == 0) (void)barrier->checked_by->protect(barrier, start, bytes);
    return error;
}

static void cross_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    barrier->checked_by->unprotect(barrier, start, bytes);
}

static void cross_prepare(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    explicit_prepare(barrier, start, bytes);
    barrier->checked_by->prepare(barrier, start, bytes);
}

struct comparison {
    struct gci_barrier *barrier;
    gci_dirty_visitor *visit;
    void *context;
};

static void visit_and_set(void *context, uintptr_t start, size_t bytes) {
    const struct comparison *c = context;
    c->visit(c->context, start, bytes);
    memset(c->barrier->cards.table + card_of(c->barrier, start), 1, bytes >> GC_CARD_SHIFT);
}

void gci_cards_compare(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    struct comparison comparison = {barrier, visit, context};
    barrier->checked_by->collect(barrier, start, bytes, visit_and_set, &comparison);
}

const struct gci_backend gci_backend_explicit_cross = {
    .kind = GC_BARRIER_EXPLICIT_CROSS,
    .name = "explicit, by gc_write(), compared with page protection",
    .survives_syscalls = false,
    .open = cross_open,
    .close = cross_close,
    .protect = cross_protect,
    .unprotect = cross_unprotect,
    .collect = explicit_collect,
    .prepare = cross_prepare,
};
