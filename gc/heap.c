/* Putting a heap together, in the order in which its parts need one another; a failure takes
 * them apart in reverse. */
#include "gc/heap.h"

#include <errno.h>
#include <string.h>

#include "gc/allocate.h"
#include "gc/arena.h"
#include "gc/collect.h"
#include "gc/large.h"
#include "gc/mark.h"
#include "runtime/log.h"
#include "runtime/options.h"
#include "runtime/vm.h"

/* Of what the machine or the cgroup lets the process have, an eighth is left to everything else. */
static size_t heap_limit(const gc_options *options) {
    size_t machine = gci_vm_memory_limit(options->cgroup_limit);
    size_t limit = machine == SIZE_MAX ? SIZE_MAX : machine - machine / 8;
    if (options->heap_limit != 0 && options->heap_limit < limit) limit = options->heap_limit;
    return limit;
}

static size_t heap_bytes(void) {
    size_t page = gci_page_size(), bytes = sizeof(struct gc_heap) + sizeof(struct gci_thread);
    return (bytes + page - 1) / page * page;
}

struct gc_heap *gci_heap_open(const gc_options *options, struct gc_buffer *ambiguous_buffer,
    struct gc_buffer *leaf_buffer, int *error) {
    *error = ENOMEM;
    struct gc_heap *heap = gci_vm_map(heap_bytes());
    if (heap == NULL) return NULL;
    heap->options = *options;
    heap->limit = heap_limit(options);
    if (gci_arena_open(&heap->arena, options->heap_reserve, options->huge_pages) != 0)
        goto no_arena;
    size_t block_limit = heap->limit >> GCI_BLOCK_SHIFT;
    heap->arena.block_limit = block_limit < GCI_NONE ? (uint32_t)block_limit : GCI_NONE;
    heap->barrier = gci_barrier_open((enum gc_barrier)options->barrier, options->prepares_writes,
        options->log, heap->arena.base, heap->arena.reserved);
    if (heap->barrier == NULL) goto no_barrier;
    for (unsigned i = 0; i < GCI_LISTS; i++) heap->lists[i] = GCI_NONE;
    heap->stress_countdown = options->stress;
    gci_large_init(heap);
    gci_allocate_init(heap);
    gci_mark_init(heap);
    gci_policy_init(heap);

    struct gci_thread *thread = (struct gci_thread *)(heap + 1);
    thread->heap = heap;
    thread->bump[GCI_AMBIGUOUS].buffer = ambiguous_buffer;
    thread->bump[GCI_LEAF].buffer = leaf_buffer;
    thread->stack_base = gci_stack_base(&thread->stack_lowest);
    if (thread->stack_base == NULL) {
        gci_log("the end of this thread's stack can't be found");
        goto no_stack;
    }
    gci_retire_buffers(thread);
    heap->threads = thread;
    if (options->log)
        gci_log("heap of at most %zu MB in %zu GB of address space, barrier %s", heap->limit >> 20,
            heap->arena.reserved >> 30, gci_barrier_name(gci_barrier_kind(heap->barrier)));
    *error = 0;
    return heap;

no_stack:
    gci_barrier_close(heap->barrier);
no_barrier:
    gci_arena_close(&heap->arena);
no_arena:
    gci_vm_unmap(heap, heap_bytes());
    return NULL;
}

/* The ranges fill whole pages: their size divides a page. */
static bool grow_ranges(struct gc_heap *heap) {
    size_t page = gci_page_size(), old = heap->range_capacity * sizeof *heap->ranges;
    size_t bytes = old == 0 ? page : old * 2;
    struct gci_root_range *ranges = gci_vm_map(bytes);
    if (ranges == NULL) return false;
    if (old > 0) {
        memcpy(ranges, heap->ranges, old);
        gci_vm_unmap(heap->ranges, old);
    }
    heap->ranges = ranges;
    heap->range_capacity = bytes / sizeof *ranges;
    return true;
}

int gci_heap_add_root(struct gc_heap *heap, const void *start, size_t bytes) {
    if (start == NULL || bytes == 0 || (uintptr_t)start + bytes < (uintptr_t)start) return EINVAL;
    if (heap->range_count == heap->range_capacity && !grow_ranges(heap)) return ENOMEM;
    heap->ranges[heap->range_count++] = (struct gci_root_range){start, bytes};
    return 0;
}

int gci_heap_remove_root(struct gc_heap *heap, const void *start, size_t bytes) {
    for (size_t i = heap->range_count; i-- > 0;) {
        if (heap->ranges[i].start != start || heap->ranges[i].bytes != bytes) continue;
        heap->ranges[i] = heap->ranges[--heap->range_count];
        return 0;
    }
    return ENOENT;
}
