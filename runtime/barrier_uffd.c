/* The barrier on asynchronous userfaultfd: the kernel itself clears a page's write protection at
 * its first write, and PAGEMAP_SCAN reports and protects such pages again in one call.  Owns
 * barrier->uffd.  Invariants: the whole arena is registered from opening to closing; a page whose
 * state can't be read counts as written; no call here touches this process's parent after fork.
 * Called through gci_backend_uffd by barrier.c and barrier_cross.c.
 *
 * The interface is that of Linux 6.7, defined here because the headers of older systems lack it. */
#define _GNU_SOURCE
#include "runtime/barrier_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/vm.h"

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

/* One run of pages that PAGEMAP_SCAN found. */
struct gci_region {
    uint64_t start, end;
    uint64_t categories;
};

/* PAGEMAP_SCAN's argument; names of ours, so that newer headers don't clash. */
struct scan_request {
    uint64_t size; /* of this structure */
    uint64_t flags;
    uint64_t start, end;
    uint64_t walk_end; /* out: where the walk stopped */
    uint64_t regions, regions_length;
    uint64_t max_pages;
    uint64_t category_inverted, category_mask, category_any, category_returned;
};
_Static_assert(sizeof(struct scan_request) == 96, "PAGEMAP_SCAN's first version has 12 words");
_Static_assert(sizeof(struct gci_region) == 24, "a region has 3 words");

#define SCAN              _IOWR('f', 16, struct scan_request)
#define SCAN_PROTECTS     (UINT64_C(1) << 0) /* PM_SCAN_WP_MATCHING */
#define SCAN_CHECKS_ASYNC (UINT64_C(1) << 1) /* PM_SCAN_CHECK_WPASYNC */
#define CATEGORY_WRITTEN  (UINT64_C(1) << 1) /* PAGE_IS_WRITTEN */

/* 96 KiB.  When it is full the scan goes on with another call. */
enum { REGIONS = 4096 };

/* A child after fork holds descriptors that act on its parent's memory (docs/barrier.md, rule
 * 9). */
static bool in_child(const struct gci_barrier *barrier) {
    return barrier->fork_words->here == 0;
}

/* ---- Opening and closing -------------------------------------------------------------------- */

/* Closes what uffd_open() got so far.  Closing the userfaultfd ends its registrations. */
static int give_up(struct gci_barrier *barrier, const char *what, int error) {
    struct gci_uffd *uffd = &barrier->uffd;
    if (uffd->found != NULL) gci_vm_unmap(uffd->found, REGIONS * sizeof *uffd->found);
    if (uffd->pagemap >= 0) close(uffd->pagemap);
    if (uffd->fd >= 0) close(uffd->fd);
    uffd->found = NULL;
    uffd->pagemap = uffd->fd = -1;
    barrier->refused_by = what;
    return error;
}

static int uffd_open(struct gci_barrier *barrier) {
    struct gci_uffd *uffd = &barrier->uffd;
    uffd->pagemap = -1;
    uffd->found = NULL;
    uffd->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (uffd->fd < 0) return give_up(barrier, "userfaultfd", errno);

    struct uffdio_api api = {
        .api = UFFD_API,
        .features =
            UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
    };
    if (ioctl(uffd->fd, UFFDIO_API, &api) != 0) {
        return give_up(barrier, "asynchronous write protection (UFFDIO_API)", errno);
    }
    uffd->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (uffd->pagemap < 0) return give_up(barrier, "/proc/self/pagemap", errno);
    uffd->found = gci_vm_map(REGIONS * sizeof *uffd->found);
    if (uffd->found == NULL) return give_up(barrier, "mmap", ENOMEM);

    struct uffdio_register all = {
        .range = {barrier->start, barrier->bytes},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    if (ioctl(uffd->fd, UFFDIO_REGISTER, &all) != 0) {
        return give_up(barrier, "UFFDIO_REGISTER", errno);
    }
    return 0;
}

/* In a child the registrations are gone already, and the descriptors' targets are the parent's. */
static void uffd_close(struct gci_barrier *barrier) {
    if (!in_child(barrier)) {
        struct uffdio_range all = {barrier->start, barrier->bytes};
        (void)ioctl(barrier->uffd.fd, UFFDIO_UNREGISTER, &all); /* close() does it too */
    }
    give_up(barrier, NULL, 0);
}

/* ---- Protecting ----------------------------------------------------------------------------- */

/* EAGAIN: another thread is changing the address space in a way that userfaultfd waits for. */
static int set_protection(struct gci_barrier *barrier, uintptr_t start, size_t bytes, bool on) {
    struct uffdio_writeprotect request = {
        .range = {start, bytes},
        .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    for (int attempt = 0; attempt < 100; attempt++) {
        if (ioctl(barrier->uffd.fd, UFFDIO_WRITEPROTECT, &request) == 0) return 0;
        if (errno != EAGAIN && errno != EINTR) break;
    }
    return errno;
}

static int uffd_protect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    if (in_child(barrier)) return ENOTSUP;
    int error = set_protection(barrier, start, bytes, true);
    if (error == 0) return 0;
    gci_barrier_count(&barrier->stats.refused, 1);
    (void)set_protection(barrier, start, bytes, false);
    return error;
}

/* A failure costs a fault inside the kernel at each page's first write, and nothing else. */
static void uffd_unprotect(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    if (!in_child(barrier)) (void)set_protection(barrier, start, bytes, false);
}

/* System calls' writes clear the protection as the program's do. */
static void uffd_prepare(struct gci_barrier *barrier, uintptr_t start, size_t bytes) {
    (void)barrier, (void)start, (void)bytes;
}

/* ---- Collecting ----------------------------------------------------------------------------- */

/* The run being put together from regions that may touch, also from one full vector to the next. */
struct pending_run {
    gci_dirty_visitor *visit;
    void *context;
    uintptr_t start, end; /* empty: start == end */
};

static void add_region(struct pending_run *run, uintptr_t start, uintptr_t end) {
    if (start == run->end && run->start != run->end) {
        run->end = end;
        return;
    }
    if (run->start != run->end) run->visit(run->context, run->start, run->end - run->start);
    run->start = start;
    run->end = end;
}

/* One call for each full vector.  What a failed call had already protected is unknown, so all
 * from its start on counts as written.  SCAN_CHECKS_ASYNC makes it fail rather than lie about a
 * range that isn't registered, for instance because the program closed all its descriptors (rule
 * 8). */
static void uffd_collect(struct gci_barrier *barrier, uintptr_t start, size_t bytes,
    gci_dirty_visitor *visit, void *context) {
    struct gci_region *found = barrier->uffd.found;
    struct pending_run run = {visit, context, 0, 0};
    uintptr_t end = start + bytes;
    while (start < end) {
        struct scan_request request = {
            .size = sizeof request,
            .flags = SCAN_PROTECTS | SCAN_CHECKS_ASYNC,
            .start = start,
            .end = end,
            .regions = (uintptr_t)found,
            .regions_length = REGIONS,
            .category_any = CATEGORY_WRITTEN, /* not category_mask: rule 3 */
            .category_returned = CATEGORY_WRITTEN,
        };
        int regions = in_child(barrier) ? -1 : ioctl(barrier->uffd.pagemap, SCAN, &request);
        if (regions < 0 || request.walk_end <= start || request.walk_end > end) {
            gci_barrier_count(&barrier->stats.refused, 1);
            add_region(&run, start, end);
            break;
        }
        for (int i = 0; i < regions; i++) add_region(&run, found[i].start, found[i].end);
        start = request.walk_end;
    }
    if (run.start != run.end) visit(context, run.start, run.end - run.start);
}

const struct gci_backend gci_backend_uffd = {
    .kind = GC_BARRIER_UFFD,
    .name = "userfaultfd",
    .survives_syscalls = true,
    .open = uffd_open,
    .close = uffd_close,
    .protect = uffd_protect,
    .unprotect = uffd_unprotect,
    .collect = uffd_collect,
    .prepare = uffd_prepare,
};
