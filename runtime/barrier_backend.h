/* What the barrier's own files share: the structure behind runtime/barrier.h and the table of
 * functions that each backend supplies.  Included by runtime/barrier*.c and by the tests of the
 * barrier, by nobody else.
 *
 * A backend gets ranges that runtime/barrier.h promises: page aligned, inside the arena,
 * committed, the world stopped (prepare and unprotect excepted).  It supplies the guarantees stated
 * there and owns the part of the structure that bears its name.  Rules: docs/barrier.md. */
#ifndef CAIRN_RUNTIME_BARRIER_BACKEND_H
#define CAIRN_RUNTIME_BARRIER_BACKEND_H

#include "runtime/barrier.h"
#include "runtime/futex.h"

struct gci_backend {
    enum gc_barrier kind;
    const char *name;
    bool survives_syscalls; /* a system call may write to a protected page */

    /* 0, or an errno value with barrier->refused_by set and nothing left behind. */
    int (*open)(struct gci_barrier *barrier);
    void (*close)(struct gci_barrier *barrier);
    int (*protect)(struct gci_barrier *barrier, uintptr_t start, size_t bytes);
    void (*unprotect)(struct gci_barrier *barrier, uintptr_t start, size_t bytes);
    void (*collect)(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
        gci_dirty_visitor *visit, void *context);
    void (*prepare)(struct gci_barrier *barrier, uintptr_t start, size_t bytes);
};

extern const struct gci_backend gci_backend_uffd;
extern const struct gci_backend gci_backend_mprotect;
extern const struct gci_backend gci_backend_cross;
extern const struct gci_backend gci_backend_none;
extern const struct gci_backend gci_backend_explicit;
extern const struct gci_backend gci_backend_explicit_cross;

/* Two words on a page that fork clears in the child (MADV_WIPEONFORK; docs/barrier.md, rule 9). */
struct gci_fork_words {
    uint32_t here; /* 1 in the process that opened the barrier, 0 in a child of it */
    gci_lock lock; /* of the mprotect tables */
};

struct gci_uffd {
    int fd;                   /* the userfaultfd */
    int pagemap;              /* /proc/self/pagemap */
    struct gci_region *found; /* where PAGEMAP_SCAN puts what it finds */
};

/* One byte for each page of the arena. */
enum {
    GCI_PAGE_PROTECTED = 1, /* a write faults, as far as we know */
    GCI_PAGE_ARMED = 2,     /* protected by the caller's wish, since then clean or written */
    GCI_PAGE_WRITTEN = 4,   /* written, or no longer known to be clean */
    GCI_PAGE_FAULTED = 8,   /* a fault on this very page was handled */
    GCI_PAGE_REPORTED = 16  /* to be visited by the collection that is going on */
};
#define GCI_PAGE_CLEAN (GCI_PAGE_PROTECTED | GCI_PAGE_ARMED)

struct gci_mprotect {
    uint8_t *pages;  /* reserved for the whole arena */
    size_t known;    /* pages [0, known) of it are committed; no page beyond is protected */
    size_t runs;     /* maximal runs of PROTECTED pages; each costs at most two mappings */
    size_t max_runs; /* budget */
    bool touch;      /* the handler writes to the page it opened (cross) */
};

/* One byte for each card of the arena: set by stores, cleared with the world stopped. */
struct gci_cards {
    uint8_t *table; /* reserved for the whole arena */
    size_t known;   /* bytes of it that are committed; grows by gci_barrier_cover(); atomic */
};

struct gci_barrier {
    const struct gci_backend *backend;
    const struct gci_backend *checked_by; /* explicit-cross: the page protection beside the cards */
    uintptr_t start;
    size_t bytes;
    unsigned page_shift;
    const char *refused_by; /* what failed in the last attempt to open a backend */
    struct gci_fork_words *fork_words;
    struct gci_barrier_stats stats; /* written by relaxed atomic additions */
    struct gci_uffd uffd;
    struct gci_mprotect mprotect;
    struct gci_cards cards;
};

static inline void gci_barrier_count(uint64_t *counter, uint64_t n) {
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* The first page in [page, end) whose byte has the bits WANTED among the bits of MASK (SAME) or
 * has others (!SAME); END if none.  Eight pages at a time. */
size_t gci_pages_find(
    const uint8_t *pages, size_t page, size_t end, uint8_t mask, uint8_t wanted, bool same);

/* Arms [first, end) of the mprotect tables with one system call.  What was not armed and clean
 * before gets the WRITTEN bit, and nothing loses it.  Returns 0 or an errno value: then no page
 * of it is protected, or those that may be are known as PROTECTED and open at their first fault;
 * all are WRITTEN, if the tables reach that far at all (mprotect.known). */
int gci_mprotect_arm(struct gci_barrier *barrier, size_t first, size_t end);

/* Visits the runs of REPORTED pages in [first, end) and clears these bits, a run's before it is
 * visited. */
void gci_mprotect_visit_reported(
    struct gci_barrier *barrier, size_t first, size_t end, gci_dirty_visitor *visit, void *context);

/* Commits the table of cards for the arena's first BYTES.  Returns 0 or an errno value. */
int gci_cards_cover(struct gci_barrier *barrier, size_t bytes);

/* The function behind gci_barrier_compare(). */
void gci_cards_compare(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context);

/* Sets how many mappings the mprotect backend may cost the process.  For tests. */
void gci_mprotect_set_budget(struct gci_barrier *barrier, size_t mappings);

/* Checks the invariants of the mprotect tables; aborts with a message.  The world is stopped. */
void gci_check_mprotect(const struct gci_barrier *barrier);

#endif
