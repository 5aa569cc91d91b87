/* The barrier on mprotect and SIGSEGV: armed pages are read-only, and the signal handler opens
 * what is written to. Owns barrier->mprotect (a byte for each page) and the list of the barriers
 * that faults are served for.  Called through gci_backend_mprotect by barrier.c and
 * barrier_cross.c, and by runtime/fault.c.
 *
 * Invariants: a page that is read-only has its PROTECTED bit set (the reverse may fail to hold
 * after a refused mprotect: then it has its WRITTEN bit, too); `runs` is the number of maximal
 * runs of PROTECTED pages, so that the barrier costs at most 2 * runs mappings; an armed page
 * that isn't PROTECTED, or is WRITTEN, is dirty.  While the program runs, bits change under the
 * lock and with all signals blocked, so no thread is ever stopped between the two halves of a
 * change (docs/barrier.md, rules 4 to 7). */
#define _GNU_SOURCE
#include "runtime/barrier_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/fault.h"
#include "runtime/futex.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

/* ---- The table of pages --------------------------------------------------------------------- */

size_t gci_pages_find(
    const uint8_t *pages, size_t page, size_t end, uint8_t mask, uint8_t wanted, bool same) {
    const uint64_t every = UINT64_C(0x0101010101010101);
    for (; page < end; page++) {
        while (end - page >= sizeof(uint64_t)) {
            uint64_t eight, different;
            memcpy(&eight, pages + page, sizeof eight);
            different = (eight & mask * every) ^ wanted * every;
            /* Is none of the eight bytes of interest?  Then skip them: all equal when looking
             * for another; none equal, that is no zero byte in `different`, when looking for an
             * equal one. */
            if (same ? ((different - every) & ~different & every << 7) != 0 : different != 0) break;
            page += sizeof eight;
        }
        if (page == end) return end;
        if (((pages[page] & mask) == wanted) == same) return page;
    }
    return end;
}

static size_t find_protected(const struct gci_mprotect *m, size_t page, size_t end) {
    return gci_pages_find(m->pages, page, end, GCI_PAGE_PROTECTED, GCI_PAGE_PROTECTED, true);
}

static size_t find_open(const struct gci_mprotect *m, size_t page, size_t end) {
    return gci_pages_find(m->pages, page, end, GCI_PAGE_PROTECTED, GCI_PAGE_PROTECTED, false);
}

/* Whether PAGE is protected; pages outside the table, page -1 among them, are not. */
static bool is_protected(const struct gci_mprotect *m, size_t page) {
    return page < m->known && (m->pages[page] & GCI_PAGE_PROTECTED) != 0;
}

/* The number of runs there will be when all of [first, end) is protected, or open. */
static size_t runs_after(const struct gci_mprotect *m, size_t first, size_t end, bool protect) {
    bool left = is_protected(m, first - 1), right = is_protected(m, end);
    size_t borders = 0; /* between a protected and an open page, [first - 1, end] */
    bool last = left;
    size_t page = first;
    while (page < end) {
        bool here = is_protected(m, page);
        borders += here != last;
        last = here;
        page = here ? find_open(m, page, end) : find_protected(m, page, end);
    }
    borders += last != right;
    size_t borders_after = (size_t)(left != protect) + (size_t)(right != protect);
    return (2 * m->runs + borders_after - borders) / 2;
}

/* Makes the table reach page END.  It grows by 64 KiB, which describes 256 MiB. */
static bool know(struct gci_barrier *barrier, size_t end) {
    struct gci_mprotect *m = &barrier->mprotect;
    if (end <= m->known) return true;
    const size_t step = 64 * 1024;
    size_t all = barrier->bytes >> barrier->page_shift;
    size_t wanted = (end + step - 1) & ~(step - 1);
    if (wanted > all) wanted = all;
    size_t from = m->known & ~(gci_page_size() - 1), to = gci_whole_pages(wanted);
    if (gci_vm_commit(m->pages + from, to - from) != 0) return false;
    m->known = wanted;
    return true;
}

static bool set_access(const struct gci_barrier *barrier, size_t first, size_t end, int access) {
    void *start = (void *)(barrier->start + (first << barrier->page_shift));
    return mprotect(start, (end - first) << barrier->page_shift, access) == 0;
}

/* Grows whenever pages are armed: within one epoch a page that was opened stays open. */
static GCI_GLOBAL uint64_t epoch;

/* ---- Opening pages -------------------------------------------------------------------------- */

/* Opens [first, end), a part of one run, with the bits that tell the collector about it.  The
 * order matters to a child forked in between: what is open may be marked PROTECTED, never the
 * reverse. */
static bool open_part(struct gci_barrier *barrier, size_t first, size_t end, size_t runs) {
    struct gci_mprotect *m = &barrier->mprotect;
    if (!set_access(barrier, first, end, PROT_READ | PROT_WRITE)) return false;
    for (size_t page = first; page < end; page++) {
        uint8_t state = (m->pages[page] & (uint8_t)~GCI_PAGE_PROTECTED) | GCI_PAGE_WRITTEN;
        __atomic_store_n(&m->pages[page], state, __ATOMIC_RELEASE);
    }
    m->runs = runs;
    return true;
}

/* Opens every run there is, a whole one at a time, which only ever takes mappings away. */
static void open_everything(struct gci_barrier *barrier) {
    struct gci_mprotect *m = &barrier->mprotect;
    size_t page = 0;
    while ((page = find_protected(m, page, m->known)) < m->known) {
        size_t end = find_open(m, page, m->known);
        (void)open_part(barrier, page, end, m->runs - 1);
        page = end;
    }
}

/* Opens [first, end), all of it PROTECTED; more of its run when mappings are scarce or mprotect
 * fails; everything when even that fails.  The steps: the pages alone, as long as a quarter of
 * the budget is left; then aligned windows of 64 KiB, 1 MiB and 16 MiB, as far as they are in
 * the run; then the run. */
static void open_pages(struct gci_barrier *barrier, size_t first, size_t end) {
    static const size_t windows[] = {1, 64 << 10, 1 << 20, 16 << 20, SIZE_MAX};
    enum { STEPS = sizeof windows / sizeof windows[0] };
    struct gci_mprotect *m = &barrier->mprotect;
    for (size_t step = 0; step < STEPS; step++) {
        size_t left = first, right = end;
        if (step > 0) {
            size_t width = windows[step] >> barrier->page_shift;
            bool whole = step == STEPS - 1;
            size_t low = whole ? 0 : first - first % width;
            size_t high = whole || m->known - end < width ? m->known : end + width - 1;
            if (high < m->known) high -= high % width;
            while (left > low && is_protected(m, left - 1)) left--;
            right = find_open(m, end, high);
        }
        size_t runs =
            m->runs - 1 + (size_t)is_protected(m, left - 1) + (size_t)is_protected(m, right);
        size_t limit = step == 0 ? m->max_runs - m->max_runs / 4 : m->max_runs;
        if (runs > m->runs && runs > limit) continue;
        if (!open_part(barrier, left, right, runs)) continue;
        if (step > 0) gci_barrier_count(&barrier->stats.widened, 1);
        return;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        open_everything(barrier);
        if (find_protected(m, first, end) == end) {
            gci_barrier_count(&barrier->stats.widened, 1);
            return;
        }
    }
    gci_fatal("barrier: can't make the page at %p writable: mprotect failed (errno %d)",
        (void *)(barrier->start + (first << barrier->page_shift)), errno);
}

/* Opens whatever is PROTECTED in [first, end). */
static void open_range(struct gci_barrier *barrier, size_t first, size_t end) {
    struct gci_mprotect *m = &barrier->mprotect;
    if (end > m->known) end = m->known;
    while (first < end && (first = find_protected(m, first, end)) < end) {
        size_t next = find_open(m, first, end);
        open_pages(barrier, first, next);
        first = next;
    }
}

/* ---- The lock ------------------------------------------------------------------------------- */

/* Whoever holds it has all signals blocked: the fault handler takes it, too (docs/threads.md, rule
 * 10). */
static void lock_tables(struct gci_barrier *barrier, sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, before);
    gci_lock_take(&barrier->fork_words->lock);
}

static void unlock_tables(struct gci_barrier *barrier, const sigset_t *before) {
    gci_unlock(&barrier->fork_words->lock);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* ---- Faults --------------------------------------------------------------------------------- */

enum { SERVED_MAX = 16 };

static GCI_GLOBAL struct gci_barrier
    *served[SERVED_MAX]; /* changed with the world stopped, read by handlers */

/* The last fault of this thread that found its page open already. */
static __thread struct {
    uintptr_t address;
    uint64_t epoch;
} retried __attribute__((__tls_model__("initial-exec")));

/* Writes the byte at P without changing it. */
static void touch(uintptr_t p) {
    volatile uint8_t *byte = (volatile uint8_t *)p;
    uint8_t value = *byte;
    while (!__atomic_compare_exchange_n(
        byte, &value, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* Opens the page a thread wants to write to.  A page found open was opened by another thread
 * after this one faulted: the write is tried again, once; a second fault there in the same epoch
 * isn't the barrier's doing (code run from a data page, say). */
static bool serve(struct gci_barrier *barrier, uintptr_t address) {
    struct gci_mprotect *m = &barrier->mprotect;
    size_t page = (address - barrier->start) >> barrier->page_shift;
    bool served_it = true;
    sigset_t before; /* a handler above ours may have unblocked some */
    lock_tables(barrier, &before);
    if (is_protected(m, page)) {
        open_pages(barrier, page, page + 1);
        m->pages[page] |= GCI_PAGE_FAULTED;
        gci_barrier_count(&barrier->stats.faults, 1);
        if (m->touch) touch(address);
    } else {
        uint64_t now = __atomic_load_n(&epoch, __ATOMIC_RELAXED);
        served_it = page < m->known && (retried.address != address || retried.epoch != now);
        retried.address = address;
        retried.epoch = now;
    }
    unlock_tables(barrier, &before);
    return served_it;
}

static bool serve_any(uintptr_t address, bool write) {
    if (!write) return false;
    for (int i = 0; i < SERVED_MAX; i++) {
        struct gci_barrier *barrier = __atomic_load_n(&served[i], __ATOMIC_ACQUIRE);
        if (barrier == NULL || address - barrier->start >= barrier->bytes) continue;
        return serve(barrier, address);
    }
    return false;
}

/* ---- Opening and closing -------------------------------------------------------------------- */

/* The number at the start of the file, or ELSE. */
static size_t read_number(const char *path, size_t otherwise) {
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return otherwise;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    size_t value = 0;
    for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++) {
        value = value * 10 + (size_t)(text[i] - '0');
    }
    return value != 0 ? value : otherwise;
}

static size_t count_mappings(void) {
    char text[4096];
    size_t lines = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < n; i++) lines += text[i] == '\n';
    }
    close(fd);
    return lines;
}

/* Half of the mappings that the process has left, and that no other barrier counts on. */
static size_t mapping_budget(void) {
    size_t all = read_number("/proc/sys/vm/max_map_count", 65530);
    size_t used = count_mappings();
    for (int i = 0; i < SERVED_MAX; i++) {
        if (served[i] == NULL) continue;
        const struct gci_mprotect *other = &served[i]->mprotect;
        if (other->runs < other->max_runs) used += 2 * (other->max_runs - other->runs);
    }
    return used < all ? (all - used) / 2 : 0;
}

void gci_mprotect_set_budget(struct gci_barrier *barrier, size_t mappings) {
    barrier->mprotect.max_runs = mappings / 2;
}

static int refuse(struct gci_barrier *barrier, const char *what, int error) {
    barrier->refused_by = what;
    return error;
}

static size_t table_bytes(const struct gci_barrier *barrier) {
    return gci_whole_pages(barrier->bytes >> barrier->page_shift);
}

static int mprotect_open(struct gci_barrier *barrier) {
    struct gci_mprotect *m = &barrier->mprotect;
    sigset_t blocked;
    if (pthread_sigmask(SIG_BLOCK, NULL, &blocked) != 0 || sigismember(&blocked, SIGSEGV) != 0) {
        return refuse(barrier, "catching SIGSEGV, which this thread blocks,", EINVAL);
    }
    int slot = 0;
    while (slot < SERVED_MAX && served[slot] != NULL) slot++;
    if (slot == SERVED_MAX) return refuse(barrier, "one more barrier in this process", EMFILE);

    *m = (struct gci_mprotect){.pages = gci_vm_reserve(table_bytes(barrier), 1)};
    if (m->pages == NULL) return refuse(barrier, "reserving the table of pages", ENOMEM);
    gci_mprotect_set_budget(barrier, mapping_budget());
    int error = gci_fault_serve(serve_any);
    if (error != 0) {
        gci_vm_unmap(m->pages, table_bytes(barrier));
        return refuse(barrier, "sigaction", error);
    }
    __atomic_store_n(&served[slot], barrier, __ATOMIC_RELEASE);
    return 0;
}

static void mprotect_close(struct gci_barrier *barrier) {
    struct gci_mprotect *m = &barrier->mprotect;
    open_range(barrier, 0, m->known);
    bool last = true;
    for (int i = 0; i < SERVED_MAX; i++) {
        if (served[i] == barrier) __atomic_store_n(&served[i], NULL, __ATOMIC_RELEASE);
        if (served[i] != NULL) last = false;
    }
    if (last) gci_fault_leave(serve_any);
    gci_vm_unmap(m->pages, table_bytes(barrier));
    m->pages = NULL;
}

/* ---- Arming --------------------------------------------------------------------------------- */

/* After a failed mprotect, which may have got half-way: opens the range again.  If that fails
 * too, it is unknown which pages are read-only: they all count as PROTECTED, and a fault will
 * tell. */
static void disarm_failed(struct gci_barrier *barrier, size_t first, size_t end) {
    struct gci_mprotect *m = &barrier->mprotect;
    bool open = set_access(barrier, first, end, PROT_READ | PROT_WRITE);
    m->runs = runs_after(m, first, end, !open);
    for (size_t page = first; page < end; page++) {
        uint8_t rest = m->pages[page] & (uint8_t)~GCI_PAGE_PROTECTED;
        m->pages[page] = rest | GCI_PAGE_WRITTEN | (open ? 0 : GCI_PAGE_PROTECTED);
    }
}

int gci_mprotect_arm(struct gci_barrier *barrier, size_t first, size_t end) {
    struct gci_mprotect *m = &barrier->mprotect;
    int error = 0;
    if (!know(barrier, end)) {
        gci_barrier_count(&barrier->stats.refused, 1);
        return ENOMEM;
    }
    __atomic_fetch_add(&epoch, 1, __ATOMIC_RELAXED);
    gci_fault_install();
    /* After a failure pages may be open that count as protected: they count as written, too. */
    if (find_open(m, first, end) < end ||
        gci_pages_find(m->pages, first, end, GCI_PAGE_WRITTEN, GCI_PAGE_WRITTEN, true) < end) {
        size_t runs = runs_after(m, first, end, true);
        if (runs > m->runs && runs > m->max_runs) {
            error = ENOMEM;
        } else if (!set_access(barrier, first, end, PROT_READ)) {
            error = errno;
        } else {
            m->runs = runs;
        }
        if (error != 0) {
            gci_barrier_count(&barrier->stats.refused, 1);
            disarm_failed(barrier, first, end);
            return error;
        }
    }
    size_t page = first;
    while (
        (page = gci_pages_find(m->pages, page, end, GCI_PAGE_CLEAN, GCI_PAGE_CLEAN, false)) < end) {
        m->pages[page++] |= GCI_PAGE_CLEAN | GCI_PAGE_WRITTEN;
    }
    return 0;
}

static size_t page_of(const struct gci_barrier *barrier, uintptr_t address) {
    return (address - barrier->start) >> barrier->page_shift;
}

static int mprotect_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    struct gci_mprotect *m = &barrier->mprotect;
    size_t first = page_of(barrier, start), end = page_of(barrier, start + bytes);
    int error = gci_mprotect_arm(barrier, first, end);
    if (error == 0) {
        memset(m->pages + first, GCI_PAGE_CLEAN, end - first);
    } else {
        for (size_t page = first; page < end && page < m->known; page++) {
            m->pages[page] &= (uint8_t)~GCI_PAGE_ARMED;
        }
    }
    return error;
}

/* In one system call, unless mappings are scarce.  Others may fault meanwhile. */
static void mprotect_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    struct gci_mprotect *m = &barrier->mprotect;
    size_t first = page_of(barrier, start), end = page_of(barrier, start + bytes);
    if (end > m->known) end = m->known;
    if (first >= end) return;
    sigset_t before;
    lock_tables(barrier, &before);
    if (find_protected(m, first, end) < end) {
        size_t runs = runs_after(m, first, end, false);
        bool affordable = runs <= m->runs || runs <= m->max_runs;
        if (affordable && set_access(barrier, first, end, PROT_READ | PROT_WRITE)) {
            m->runs = runs;
        } else {
            open_range(barrier, first, end);
        }
    }
    memset(m->pages + first, 0, end - first);
    unlock_tables(barrier, &before);
}

/* ---- Collecting ----------------------------------------------------------------------------- */

void gci_mprotect_visit_reported(struct gci_barrier *barrier, size_t first, size_t end,
    gci_dirty_visitor *visit, void *context) {
    uint8_t *pages = barrier->mprotect.pages;
    const uint8_t reported = GCI_PAGE_REPORTED;
    while ((first = gci_pages_find(pages, first, end, reported, reported, true)) < end) {
        size_t next = gci_pages_find(pages, first, end, reported, reported, false);
        for (size_t page = first; page < next; page++) pages[page] &= (uint8_t)~reported;
        visit(context, barrier->start + (first << barrier->page_shift),
            (next - first) << barrier->page_shift);
        first = next;
    }
}

/* The visitor's own writes come after all bits have been taken over: they belong to the next
 * collection, as they do with userfaultfd. */
static void mprotect_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    struct gci_mprotect *m = &barrier->mprotect;
    size_t first = page_of(barrier, start), end = page_of(barrier, start + bytes);
    bool armed = gci_mprotect_arm(barrier, first, end) == 0;
    if (end > m->known) { /* no table for it, and no memory for one */
        visit(context, start, bytes);
        return;
    }
    uint8_t done = armed ? GCI_PAGE_WRITTEN | GCI_PAGE_FAULTED : 0;
    const uint8_t written = GCI_PAGE_WRITTEN;
    size_t page = first;
    while ((page = gci_pages_find(m->pages, page, end, written, written, true)) < end) {
        m->pages[page] = (m->pages[page] & (uint8_t)~done) | GCI_PAGE_REPORTED;
        page++;
    }
    gci_mprotect_visit_reported(barrier, first, end, visit, context);
}

/* ---- Preparing ------------------------------------------------------------------------------ */

/* While the program runs.  Looks first without the lock: a page's PROTECTED bit goes after it
 * has become writable. */
static void mprotect_prepare(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    struct gci_mprotect *m = &barrier->mprotect;
    size_t first = page_of(barrier, start), end = page_of(barrier, start + bytes);
    if (end > m->known) end = m->known;
    while (first < end &&
           (__atomic_load_n(&m->pages[first], __ATOMIC_ACQUIRE) & GCI_PAGE_PROTECTED) == 0) {
        first++;
    }
    if (first >= end) return;
    sigset_t before;
    lock_tables(barrier, &before);
    open_range(barrier, first, end);
    unlock_tables(barrier, &before);
}

/* ---- Checking ------------------------------------------------------------------------------- */

void gci_check_mprotect(const struct gci_barrier *barrier) {
    const struct gci_mprotect *m = &barrier->mprotect;
    size_t runs = 0;
    GCI_CHECK(m->known <= barrier->bytes >> barrier->page_shift);
    for (size_t page = 0; page < m->known; page++) {
        runs += is_protected(m, page) && !is_protected(m, page - 1);
        GCI_CHECK((m->pages[page] & GCI_PAGE_REPORTED) == 0);
    }
    GCI_CHECK(runs == m->runs);
}

const struct gci_backend gci_backend_mprotect = {
    .kind = GC_BARRIER_MPROTECT,
    .name = "mprotect",
    .survives_syscalls = false,
    .open = mprotect_open,
    .close = mprotect_close,
    .protect = mprotect_protect,
    .unprotect = mprotect_unprotect,
    .collect = mprotect_collect,
    .prepare = mprotect_prepare,
};
