/* Virtual memory, clocks and limits: the system calls behind runtime/vm.h, each with its failure
 * answered.  Owns nothing but the cached page size.  Called by gc/ for the arena and the side
 * tables, and by the barrier for its own memory.  Invariants: no malloc and no stdio anywhere here;
 * a reserved range is one mapping until its caller commits parts of it. */
#include "runtime/vm.h"
#include "runtime/cgroup.h"
#include "runtime/globals.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* in headers before Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

/* ---- Memory --------------------------------------------------------------------------------- */

size_t gci_page_size(void) {
    static GCI_GLOBAL size_t cached; /* written by whoever comes first, always the same value */
    size_t size = __atomic_load_n(&cached, __ATOMIC_RELAXED);
    if (size == 0) {
        long found = sysconf(_SC_PAGESIZE);
        size = found > 0 ? (size_t)found : 4096;
        __atomic_store_n(&cached, size, __ATOMIC_RELAXED);
    }
    return size;
}

size_t gci_whole_pages(size_t bytes) {
    size_t page = gci_page_size();
    return (bytes + page - 1) / page * page;
}

static void *map(size_t bytes, int protection, int flags) {
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Cuts [start, start + bytes) out of MAPPED, a mapping of TOTAL bytes. */
static bool trim(char *mapped, size_t total, char *start, size_t bytes) {
    char *end = start + bytes, *mapped_end = mapped + total;
    if (start != mapped && munmap(mapped, (size_t)(start - mapped)) != 0) return false;
    if (end != mapped_end && munmap(end, (size_t)(mapped_end - end)) != 0) {
        munmap(start, (size_t)(mapped_end - start));
        return false;
    }
    return true;
}

/* What is committed later stays out of core dumps with the rest.  To put it back in by
 * MADV_DODUMP would make every committed run a mapping with flags of its own, at the cost of a
 * second system call for each commit. */
void *gci_vm_reserve(size_t bytes, size_t alignment) {
    size_t page = gci_page_size();
    if (bytes == 0 || (alignment & (alignment - 1)) != 0) return NULL;
    size_t slack = alignment > page ? alignment - page : 0;
    if (bytes > (size_t)PTRDIFF_MAX - slack) return NULL;
    char *mapped = map(bytes + slack, PROT_NONE, MAP_NORESERVE);
    if (mapped == NULL) return NULL;
    char *start = mapped;
    if (slack != 0) {
        start += -(uintptr_t)mapped & (alignment - 1);
        if (!trim(mapped, bytes + slack, start, bytes)) {
            munmap(mapped, bytes + slack);
            return NULL;
        }
    }
    (void)madvise(start, bytes, MADV_DONTDUMP); /* a bigger core file is no failure */
    return start;
}

void gci_vm_dump(void *start, size_t bytes) {
    (void)madvise(start, bytes, MADV_DODUMP);
}

int gci_vm_commit(void *start, size_t bytes) {
    return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
}

int gci_vm_forbid(void *start, size_t bytes) {
    return mprotect(start, bytes, PROT_NONE) == 0 ? 0 : errno;
}

int gci_vm_populate(void *start, size_t bytes) {
    return madvise(start, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
}

int gci_vm_discard(void *start, size_t bytes) {
    return madvise(start, bytes, MADV_DONTNEED) == 0 ? 0 : errno;
}

void gci_vm_advise_huge(void *start, size_t bytes, bool huge) {
    (void)madvise(start, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

uint64_t gci_thread_cpu_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool gci_vm_touch_is_quick(void *page, uint64_t ns) {
    uint64_t before = gci_thread_cpu_ns();
    *(volatile uint8_t *)page = 0;
    return gci_thread_cpu_ns() - before <= ns;
}

void *gci_vm_map(size_t bytes) {
    return bytes == 0 ? NULL : map(bytes, PROT_READ | PROT_WRITE, 0);
}

/* munmap of a whole mapping can't fail for want of mappings; should it fail all the same, the
 * address space is lost and its memory, at least, is given back. */
void gci_vm_unmap(void *start, size_t bytes) {
    if (munmap(start, bytes) != 0) (void)madvise(start, bytes, MADV_DONTNEED);
}

void *gci_vm_with_room(void *items, size_t count, size_t *capacity, size_t item) {
    if (count < *capacity) return items;
    size_t old_bytes = gci_whole_pages(*capacity * item);
    size_t bytes = old_bytes > 0 ? 2 * old_bytes : gci_page_size();
    void *larger = gci_vm_map(bytes);
    if (larger == NULL) return NULL;
    if (old_bytes > 0) {
        memcpy(larger, items, count * item);
        gci_vm_unmap(items, old_bytes);
    }
    *capacity = bytes / item;
    return larger;
}

uint64_t gci_clock_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Limits --------------------------------------------------------------------------------- */

/* sysinfo(2) itself: sysconf(_SC_PHYS_PAGES) may read /proc through stdio, which calls malloc. */
static size_t machine_memory(void) {
    struct sysinfo info;
    if (sysinfo(&info) != 0 || info.totalram == 0) return SIZE_MAX;
    uint64_t unit = info.mem_unit != 0 ? info.mem_unit : 1;
    if (info.totalram > SIZE_MAX / unit) return SIZE_MAX;
    return (size_t)(info.totalram * unit);
}

size_t gci_vm_memory_limit(bool cgroup) {
    size_t machine = machine_memory();
    uint64_t limit = cgroup ? gci_cgroup_limit(GCI_CGROUP_MEMORY) : UINT64_MAX;
    return limit < machine ? (size_t)limit : machine;
}

/* The system call itself, with a mask larger than any kernel's: the C library's cpu_set_t ends at
 * 1024 CPUs, where the call fails on larger machines. */
static unsigned cpus_of_affinity(void) {
    unsigned long mask[65536 / (8 * sizeof(unsigned long))];
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    unsigned count = 0;
    for (size_t i = 0; bytes > 0 && i < (size_t)bytes / sizeof *mask; i++)
        count += (unsigned)__builtin_popcountl(mask[i]);
    return count > 0 ? count : 1;
}

unsigned gci_cpu_count(void) {
    unsigned count = cpus_of_affinity();
    uint64_t limit = gci_cgroup_limit(GCI_CGROUP_CPUS);
    return limit < count ? (unsigned)limit : count;
}
