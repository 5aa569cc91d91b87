/* Virtual memory, clocks and limits: all that gc/ asks of the operating system about memory and
 * processors.
 *
 * Ranges are multiples of gci_page_size() unless a function says otherwise.  Functions that
 * return int return 0 or an errno value.  None calls malloc, none prints, none touches a lock
 * but the kernel's. */
#ifndef CAIRN_RUNTIME_VM_H
#define CAIRN_RUNTIME_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The OS page size; read once. */
size_t gci_page_size(void);

/* BYTES rounded up to whole pages. */
size_t gci_whole_pages(size_t bytes);

/* Reserves BYTES of address space at a multiple of ALIGNMENT (a power of two): inaccessible, not
 * charged to anyone, left out of core dumps.  NULL if refused. */
void *gci_vm_reserve(size_t bytes, size_t alignment);

/* Puts what was committed into core dumps after all.  Advice: failure leaves it out. */
void gci_vm_dump(void *start, size_t bytes);

/* Makes reserved pages usable; they read as zero.  Idempotent.  A failure leaves them as they
 * were or usable, at the kernel's choice; the caller must not use them. */
int gci_vm_commit(void *start, size_t bytes);

/* Makes usable pages inaccessible; they keep what is in them, for when they are committed again. */
int gci_vm_forbid(void *start, size_t bytes);

/* Takes the page faults of usable pages at once, as writes would, and changes nothing in them.  EINVAL
 * before Linux 5.14, and if they are protected. */
int gci_vm_populate(void *start, size_t bytes);

/* Gives the memory behind usable pages back; they stay usable and read as zero. */
int gci_vm_discard(void *start, size_t bytes);

/* Asks for (or against) transparent huge pages.  Advice: failure doesn't matter. */
void gci_vm_advise_huge(void *start, size_t bytes, bool huge);

/* Writes a zero to fresh memory at PAGE.  Did that take at most NS of processor time? */
bool gci_vm_touch_is_quick(void *page, uint64_t ns);

/* Usable zeroed memory for the collector itself; NULL if refused. */
void *gci_vm_map(size_t bytes);

/* Room for one more item in an array of COUNT, which gci_vm_map() gave (NULL if *CAPACITY is 0):
 * the array, at another place with *CAPACITY doubled if there was none left.  NULL if that is
 * refused; then nothing has changed. */
void *gci_vm_with_room(void *items, size_t count, size_t *capacity, size_t item);

/* Ends a mapping made by gci_vm_reserve() or gci_vm_map(). */
void gci_vm_unmap(void *start, size_t bytes);

/* What the machine and the cgroup (v2 or v1; every level up to the root) let this process hold,
 * in bytes; SIZE_MAX if nothing limits it.  cgroup: whether to ask the cgroup; else only the
 * machine's memory. */
size_t gci_vm_memory_limit(bool cgroup);

/* How many CPUs the process may use at once: those of the calling thread's affinity mask, and no
 * more than the cgroup's quota (v2 or v1; every level up to the root) pays for, rounded up.  At
 * least 1. */
unsigned gci_cpu_count(void);

/* Monotonic nanoseconds. */
uint64_t gci_clock_ns(void);
/* Those for which the calling thread had a processor; 0 if that can't be told. */
uint64_t gci_thread_cpu_ns(void);

#endif
