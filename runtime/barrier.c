/* The write barrier's front: opens a barrier with the backend that was asked for or the best
 * that works, and hands every call on to it.  Owns struct gci_barrier and its page of fork
 * words.  Called by gc/ (runtime/barrier.h). Invariants: a backend is used only after it has
 * proved, on a few pages of its own, that exactly the pages written are reported
 * (docs/barrier.md, rule 2); the kind in force is never AUTO. */
#define _GNU_SOURCE
#include "runtime/barrier_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/vm.h"

/* ---- No barrier ----------------------------------------------------------------------------- */

static int none_open(struct gci_barrier *barrier) {
    (void)barrier;
    return 0;
}

static void none_close(struct gci_barrier *barrier) {
    (void)barrier;
}

static int none_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    (void)barrier, (void)start, (void)bytes;
    return ENOTSUP;
}

static void none_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    (void)barrier, (void)start, (void)bytes;
}

static void none_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    (void)barrier;
    visit(context, start, bytes);
}

const struct gci_backend gci_backend_none = {
    .kind = GC_BARRIER_NONE,
    .name = "none (the whole old space counts as written)",
    .survives_syscalls = true,
    .open = none_open,
    .close = none_close,
    .protect = none_protect,
    .unprotect = none_unprotect,
    .collect = none_collect,
    .prepare = none_unprotect,
};

/* ---- Probing -------------------------------------------------------------------------------- */

enum { TRIAL_PAGES = 8 };

/* Collects what one visitor saw: a bit for each page of the trial. */
struct trial_dirt {
    uintptr_t start;
    size_t page_bytes;
    unsigned pages;
};

static void note_dirt(void *context, uintptr_t start, size_t bytes) {
    struct trial_dirt *dirt = context;
    for (uintptr_t p = start; p < start + bytes; p += dirt->page_bytes) {
        dirt->pages |= 1u << ((p - dirt->start) / dirt->page_bytes);
    }
}

/* Has the kernel write a word to P, as a system call of the program would. */
static bool kernel_writes(void *p) {
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool wrote = pread(fd, p, 8, 0) == 8;
    close(fd);
    return wrote;
}

/* Protects the trial's pages, some of them never touched, writes to some and expects exactly
 * these, twice. */
static const char *run_trial(struct gci_barrier *trial) {
    size_t page = (size_t)1 << trial->page_shift;
    struct trial_dirt dirt = {trial->start, page, 0};
    volatile char *memory = (volatile char *)trial->start;
    for (int i = 0; i < TRIAL_PAGES - 2; i++) memory[(size_t)i * page] = 1;
    if (trial->backend->protect(trial, trial->start, trial->bytes) != 0) return "protecting";
    if (trial->backend->survives_syscalls) {
        if (!kernel_writes((void *)(trial->start + 5 * page))) return "a system call's write";
    } else {
        memory[5 * page] = 2;
    }
    memory[2 * page] = 2;
    memory[6 * page] = 2;
    trial->backend->collect(trial, trial->start, trial->bytes, note_dirt, &dirt);
    if (dirt.pages != (1u << 2 | 1u << 5 | 1u << 6)) return "finding what was written";
    dirt.pages = 0;
    memory[2 * page + 1] = 3;
    trial->backend->collect(trial, trial->start, trial->bytes, note_dirt, &dirt);
    if (dirt.pages != 1u << 2) return "finding what was written again";
    dirt.pages = 0;
    trial->backend->collect(trial, trial->start, trial->bytes, note_dirt, &dirt);
    if (dirt.pages != 0) return "clean pages staying clean";
    trial->backend->unprotect(trial, trial->start, trial->bytes);
    memory[0] = 4;
    if (trial->stats.refused + trial->stats.disagreements != 0) return "the trial's counters";
    return NULL;
}

/* Opens BACKEND for a moment over some pages of our own and sees whether it keeps its promises.
 * Returns 0 or an errno value, with barrier->refused_by set. */
static int probe(struct gci_barrier *barrier, const struct gci_backend *backend) {
    struct gci_barrier trial = {
        .backend = backend,
        .bytes = TRIAL_PAGES * gci_page_size(),
        .page_shift = barrier->page_shift,
        .fork_words = barrier->fork_words,
    };
    void *memory = gci_vm_map(trial.bytes);
    if (memory == NULL) {
        barrier->refused_by = "mmap";
        return ENOMEM;
    }
    trial.start = (uintptr_t)memory;
    int error = backend->open(&trial);
    if (error == 0) {
        trial.refused_by = run_trial(&trial);
        if (trial.refused_by != NULL) error = EIO;
        backend->close(&trial);
    }
    barrier->refused_by = trial.refused_by;
    gci_vm_unmap(memory, trial.bytes);
    return error;
}

/* ---- Opening -------------------------------------------------------------------------------- */

/* Probes BACKEND, if there is anything to prove; chooses the page protection that goes with
 * explicit-cross. */
static int try_out(struct gci_barrier *barrier, const struct gci_backend *backend) {
    if (backend == &gci_backend_none || backend == &gci_backend_explicit) return 0;
    if (backend != &gci_backend_explicit_cross) return probe(barrier, backend);
    barrier->checked_by = &gci_backend_uffd;
    if (probe(barrier, barrier->checked_by) == 0) return 0;
    barrier->checked_by = &gci_backend_mprotect;
    return probe(barrier, barrier->checked_by);
}

/* Tries BACKEND and, if it works, puts it in force. */
static bool take(struct gci_barrier *barrier, const struct gci_backend *backend, bool say) {
    int error = try_out(barrier, backend);
    barrier->backend = backend;
    if (error == 0) error = backend->open(barrier);
    if (error == 0) return true;
    if (say) {
        const char *name = strerrorname_np(error);
        gci_log("barrier: %s does not work here: %s failed (%s)", backend->name,
            barrier->refused_by, name != NULL ? name : "unknown error");
    }
    return false;
}

/* The order of runtime/barrier.h.  ASKED is tried already, and didn't work. */
static void take_best(
    struct gci_barrier *barrier, const struct gci_backend *asked, bool prepares_writes, bool say) {
    if (asked != &gci_backend_uffd && take(barrier, &gci_backend_uffd, say)) return;
    if (prepares_writes) {
        if (asked != &gci_backend_mprotect && take(barrier, &gci_backend_mprotect, say)) return;
    } else if (say) {
        gci_log("barrier: mprotect is not taken: the program does not promise gc_prepare_write()");
    }
    take(barrier, &gci_backend_none, say);
}

static const struct gci_backend *backend_of(enum gc_barrier which) {
    switch (which) {
    case GC_BARRIER_UFFD:
        return &gci_backend_uffd;
    case GC_BARRIER_MPROTECT:
        return &gci_backend_mprotect;
    case GC_BARRIER_CROSS:
        return &gci_backend_cross;
    case GC_BARRIER_NONE:
        return &gci_backend_none;
    case GC_BARRIER_EXPLICIT:
        return &gci_backend_explicit;
    case GC_BARRIER_EXPLICIT_CROSS:
        return &gci_backend_explicit_cross;
    case GC_BARRIER_AUTO:
        break;
    }
    return NULL;
}

struct gci_barrier *gci_barrier_open(
    enum gc_barrier which, bool prepares_writes, bool log, uintptr_t start, size_t bytes) {
    size_t page = gci_page_size();
    struct gci_barrier *barrier = gci_vm_map(sizeof *barrier);
    if (barrier == NULL) return NULL;
    barrier->fork_words = gci_vm_map(page);
    if (barrier->fork_words == NULL) {
        gci_vm_unmap(barrier, sizeof *barrier);
        return NULL;
    }
    /* Refused only by kernels that have no asynchronous userfaultfd either (rule 9). */
    (void)madvise(barrier->fork_words, page, MADV_WIPEONFORK);
    barrier->fork_words->here = 1;
    barrier->start = start;
    barrier->bytes = bytes;
    barrier->page_shift = (unsigned)__builtin_ctzl(page);

    const struct gci_backend *asked = backend_of(which);
    if (asked == NULL) {
        take_best(barrier, NULL, prepares_writes, log);
    } else if (!take(barrier, asked, true)) {
        /* What the program marks is right without being checked. */
        if (asked != &gci_backend_explicit_cross || !take(barrier, &gci_backend_explicit, true))
            take_best(barrier, asked, prepares_writes, true);
        log = true;
    }
    if (log) gci_log("barrier: %s", barrier->backend->name);
    return barrier;
}

/* ---- Dispatch ------------------------------------------------------------------------------- */

void gci_barrier_close(struct gci_barrier *barrier) {
    barrier->backend->close(barrier);
    gci_vm_unmap(barrier->fork_words, gci_page_size());
    gci_vm_unmap(barrier, sizeof *barrier);
}

enum gc_barrier gci_barrier_kind(const struct gci_barrier *barrier) {
    return barrier->backend->kind;
}

bool gci_barrier_is_explicit(const struct gci_barrier *barrier) {
    return barrier->backend == &gci_backend_explicit ||
           barrier->backend == &gci_backend_explicit_cross;
}

uint8_t *gci_barrier_cards(const struct gci_barrier *barrier) {
    if (!gci_barrier_is_explicit(barrier)) return NULL;
    return barrier->cards.table - (barrier->start >> GC_CARD_SHIFT);
}

int gci_barrier_cover(struct gci_barrier *barrier, size_t bytes) {
    return gci_barrier_is_explicit(barrier) ? gci_cards_cover(barrier, bytes) : 0;
}

/* Whether the caller kept its side: page aligned and inside the arena. */
static bool range_is_valid(const struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    size_t inside = ((size_t)1 << barrier->page_shift) - 1;
    return ((start | bytes) & inside) == 0 && start - barrier->start <= barrier->bytes &&
           bytes <= barrier->bytes - (start - barrier->start);
}

int gci_barrier_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    GCI_CHECK(range_is_valid(barrier, start, bytes));
    return bytes == 0 ? 0 : barrier->backend->protect(barrier, start, bytes);
}

void gci_barrier_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    GCI_CHECK(range_is_valid(barrier, start, bytes));
    if (bytes != 0) barrier->backend->unprotect(barrier, start, bytes);
}

void gci_barrier_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    GCI_CHECK(range_is_valid(barrier, start, bytes));
    if (bytes != 0) barrier->backend->collect(barrier, start, bytes, visit, context);
}

void gci_barrier_compare(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    GCI_CHECK(range_is_valid(barrier, start, bytes));
    if (bytes != 0 && barrier->backend == &gci_backend_explicit_cross)
        gci_cards_compare(barrier, start, bytes, visit, context);
}

void gci_barrier_prepare(struct gci_barrier *barrier, uintptr_t p, size_t n) {
    uintptr_t arena_end = barrier->start + barrier->bytes;
    uintptr_t end = n <= UINTPTR_MAX - p ? p + n : UINTPTR_MAX;
    if (p < barrier->start) p = barrier->start;
    if (end > arena_end) end = arena_end;
    if (p >= end) return;
    uintptr_t inside = ((uintptr_t)1 << barrier->page_shift) - 1;
    p &= ~inside;
    end = (end + inside) & ~inside;
    barrier->backend->prepare(barrier, p, end - p);
}

bool gci_barrier_is_in_child(const struct gci_barrier *barrier) {
    return __atomic_load_n(&barrier->fork_words->here, __ATOMIC_RELAXED) == 0;
}

/* Closing and opening again does it for page protection: registrations are gone, descriptors are
 * the parent's, protections by mprotect were inherited and are lifted.  The table of cards is a
 * copy, at the same address, where a thread may be about to mark one. */
void gci_barrier_after_fork(struct gci_barrier *barrier, bool log) {
    const struct gci_backend *backend = barrier->backend;
    bool explicitly = gci_barrier_is_explicit(barrier);
    if (explicitly) backend = backend == &gci_backend_explicit ? NULL : barrier->checked_by;
    barrier->fork_words->lock = 0;
    if (backend != NULL) backend->close(barrier);
    barrier->fork_words->here = 1;
    int error = backend != NULL ? backend->open(barrier) : 0;
    if (error == 0) return;
    const char *name = strerrorname_np(error);
    gci_log("barrier: %s does not work in the child process: %s failed (%s)", backend->name,
        barrier->refused_by, name != NULL ? name : "unknown error");
    barrier->backend = explicitly ? &gci_backend_explicit : &gci_backend_none;
    if (log) gci_log("barrier: %s", barrier->backend->name);
}

void gci_barrier_get_stats(const struct gci_barrier *barrier, struct gci_barrier_stats *stats) {
    const struct gci_barrier_stats *from = &barrier->stats;
    stats->faults = __atomic_load_n(&from->faults, __ATOMIC_RELAXED);
    stats->widened = __atomic_load_n(&from->widened, __ATOMIC_RELAXED);
    stats->refused = __atomic_load_n(&from->refused, __ATOMIC_RELAXED);
    stats->disagreements = __atomic_load_n(&from->disagreements, __ATOMIC_RELAXED);
}
