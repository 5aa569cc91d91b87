/* Both page-protection backends at once, compared page by page: a test of the barriers and of
 * the kernel, not for production.  Owns the REPORTED bits of the mprotect tables.  Invariants: a
 * page is armed in both or in neither; what either found is reported to the collector.  Called
 * through gci_backend_cross by barrier.c.  What counts as a disagreement is docs/barrier.md,
 * rule 10. */
#include "runtime/barrier_backend.h"

#include "runtime/log.h"

enum { MESSAGES_MAX = 20 };

/* mprotect first: its handler's touch is what userfaultfd is then expected to see. */
static int cross_open(struct gci_barrier *barrier) {
    int error = gci_backend_uffd.open(barrier);
    if (error != 0) return error;
    error = gci_backend_mprotect.open(barrier);
    if (error != 0) gci_backend_uffd.close(barrier);
    barrier->mprotect.touch = true;
    return error;
}

static void cross_close(struct gci_barrier *barrier) {
    gci_backend_mprotect.close(barrier);
    gci_backend_uffd.close(barrier);
}

static void cross_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    gci_backend_mprotect.unprotect(barrier, start, bytes);
    gci_backend_uffd.unprotect(barrier, start, bytes);
}

static int cross_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    int error = gci_backend_uffd.protect(barrier, start, bytes);
    if (error == 0) error = gci_backend_mprotect.protect(barrier, start, bytes);
    if (error != 0) cross_unprotect(barrier, start, bytes);
    return error;
}

static void cross_prepare(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    gci_backend_mprotect.prepare(barrier, start, bytes);
}

/* ---- Comparing ------------------------------------------------------------------------------ */

static void mark_reported(void *context, uintptr_t start, size_t bytes) {
    struct gci_barrier *barrier = context;
    uint8_t *page = barrier->mprotect.pages + ((start - barrier->start) >> barrier->page_shift);
    uint8_t *end = page + (bytes >> barrier->page_shift);
    while (page < end) *page++ |= GCI_PAGE_REPORTED;
}

static void disagree(struct gci_barrier *barrier, size_t page, const char *missed_by) {
    gci_barrier_count(&barrier->stats.disagreements, 1);
    if (__atomic_load_n(&barrier->stats.disagreements, __ATOMIC_RELAXED) > MESSAGES_MAX) return;
    gci_log("barrier: the page at %p was written, but %s did not notice",
        (void *)(barrier->start + (page << barrier->page_shift)), missed_by);
}

/* Counts a disagreement about PAGE, if there is one.  A page that was not armed is WRITTEN by
 * now. */
static void compare(struct gci_barrier *barrier, size_t page, uint8_t state) {
    bool reported = (state & GCI_PAGE_REPORTED) != 0;
    if (reported && (state & GCI_PAGE_WRITTEN) == 0) disagree(barrier, page, "mprotect");
    if (!reported && (state & GCI_PAGE_FAULTED) != 0) disagree(barrier, page, "userfaultfd");
}

/* All pages are compared before the first is visited, so that what the visitor itself writes
 * belongs to the next collection in both backends. */
static void cross_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    size_t first = (start - barrier->start) >> barrier->page_shift;
    size_t end = first + (bytes >> barrier->page_shift);
    uint8_t *pages = barrier->mprotect.pages;
    if (end > barrier->mprotect.known) { /* part of it was never armed */
        visit(context, start, bytes);
        return;
    }
    uint64_t refused = __atomic_load_n(&barrier->stats.refused, __ATOMIC_RELAXED);
    gci_backend_uffd.collect(barrier, start, bytes, mark_reported, barrier);
    bool guessed = refused != __atomic_load_n(&barrier->stats.refused, __ATOMIC_RELAXED);
    bool armed = gci_mprotect_arm(barrier, first, end) == 0;
    uint8_t done = GCI_PAGE_FAULTED | (armed ? GCI_PAGE_WRITTEN : 0);
    for (size_t page = first; page < end; page++) {
        uint8_t state = pages[page];
        if (!guessed) compare(barrier, page, state);
        if ((state & GCI_PAGE_WRITTEN) != 0) state |= GCI_PAGE_REPORTED;
        pages[page] = state & (uint8_t)~done;
    }
    gci_mprotect_visit_reported(barrier, first, end, visit, context);
}

const struct gci_backend gci_backend_cross = {
    .kind = GC_BARRIER_CROSS,
    .name = "userfaultfd and mprotect, compared",
    .survives_syscalls = false,
    .open = cross_open,
    .close = cross_close,
    .protect = cross_protect,
    .unprotect = cross_unprotect,
    .collect = cross_collect,
    .prepare = cross_prepare,
};
