/* Putting a heap together, in the order in which its parts need one another; a failure takes
 * them apart in reverse. */
#include "gc/heap.h"

#include <errno.h>
#include <signal.h>

#include "gc/allocate.h"
#include "gc/arena.h"
#include "gc/collect.h"
#include "gc/crew.h"
#include "gc/event.h"
#include "gc/fork.h"
#include "gc/frames.h"
#include "gc/guard.h"
#include "gc/large.h"
#include "gc/mark.h"
#include "gc/profile.h"
#include "gc/quarantine.h"
#include "gc/thread.h"
#include "gc/timeline.h"
#include "gc/word.h"
#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/options.h"
#include "runtime/tls.h"
#include "runtime/vm.h"

/* Of what the machine or the cgroup lets the process have, an eighth is left to everything else. */
static size_t heap_limit(const gc_options *options) {
    size_t machine = gci_vm_memory_limit(options->cgroup_limit);
    size_t limit = machine == SIZE_MAX ? SIZE_MAX : machine - machine / 8;
    if (options->heap_limit != 0 && options->heap_limit < limit) limit = options->heap_limit;
    return limit;
}

void gci_heap_set_limit(struct gc_heap *heap, size_t bytes) {
    heap->options.heap_limit = bytes;
    heap->limit = heap_limit(&heap->options);
    size_t blocks = heap->limit >> GCI_BLOCK_SHIFT;
    heap->arena.block_limit = blocks < GCI_NONE ? (uint32_t)blocks : GCI_NONE;
}

static size_t heap_bytes(void) {
    return gci_whole_pages(sizeof(struct gc_heap));
}

/* The number of the signal that stops threads, 0 for none. */
static int stop_signal(const gc_options *options) {
    if (options->stop == GC_STOP_SAFEPOINT) return 0;
    return options->stop_signal != 0 ? (int)options->stop_signal : SIGRTMAX - 5;
}

/* The option trace; a program goes on without. */
static void start_timeline(struct gc_heap *heap) {
    const char *path = heap->options.trace;
    if (path == NULL || path[0] == '\0') return;
    uint64_t signals = gci_signals_block();
    int error = gci_timeline_start(heap, path);
    gci_signals_restore(signals);
    if (error == EINVAL)
        gci_log("ignored the option trace, \"%.200s\"; accepted: the name of a file or a character "
                "device, in which %%p means the process and %%%% a percent sign",
            path);
    else if (error != 0)
        gci_log("there is no timeline: can't write %.200s: %s", path, gci_error_name(error));
}

struct gc_heap *gci_heap_open(const gc_options *options, const void *frame, int *error) {
    *error = ENOMEM;
    struct gc_heap *heap = gci_vm_map(heap_bytes());
    if (heap == NULL) return NULL;
    static const struct gci_layer none;
    heap->options = *options;
    heap->layer = &none;
    heap->words = gci_word_format_of(options);
    if (gci_arena_open(&heap->arena, options->heap_reserve, options->huge_pages) != 0)
        goto no_arena;
    heap->arena.dumped = options->dump_heap;
    heap->arena.heap = heap;
    heap->events.phase = GC_PHASES;
    gci_heap_set_limit(heap, options->heap_limit);
    heap->barrier = gci_barrier_open((enum gc_barrier)options->barrier, options->prepares_writes,
        options->log, heap->arena.base, heap->arena.reserved);
    if (heap->barrier == NULL) goto no_barrier;
    heap->arena.barrier = heap->barrier;
    for (unsigned i = 0; i < GCI_LISTS; i++) heap->lists[i] = GCI_NONE;
    heap->stress_countdown = options->stress;
    gci_large_init(heap);
    gci_allocate_init(heap);
    gci_mark_init(heap);
    gci_policy_init(heap);
    gci_quarantine_open(heap);
    gci_guard_open(heap);

    gci_tls_init();
    *error = gci_world_open(&heap->world, stop_signal(options));
    if (*error != 0) goto no_world;
    *error = gci_crew_open(heap);
    if (*error == 0) *error = gci_threads_open(heap);
    if (*error != 0) goto no_threads;
    *error = gci_thread_attach(heap, frame);
    if (*error != 0) goto no_thread;
    *error = gci_profile_open(heap);
    if (*error == 0) *error = gci_fork_open(heap);
    if (*error != 0) {
        gci_thread_detach();
        goto no_thread;
    }
    if (options->log)
        gci_log("heap of at most %zu MB in %zu GB of address space, barrier %s", heap->limit >> 20,
            heap->arena.reserved >> 30, gci_barrier_name(gci_barrier_kind(heap->barrier)));
    if (options->log && gci_stacks_are_precise(heap))
        gci_log("stacks are precise: threads are stopped at safepoints only");
    start_timeline(heap);
    *error = 0;
    return heap;

no_thread:
    pthread_key_delete(heap->ending);
no_threads:
    gci_crew_close(heap);
    gci_world_close(&heap->world);
no_world:
    gci_barrier_close(heap->barrier);
no_barrier:
    gci_arena_close(&heap->arena);
no_arena:
    gci_vm_unmap(heap, heap_bytes());
    return NULL;
}

int gci_heap_add_root(struct gc_heap *heap, const void *start, size_t bytes, bool precise) {
    if (start == NULL || bytes == 0 || (uintptr_t)start + bytes < (uintptr_t)start) return EINVAL;
    gci_heap_lock(heap);
    struct gci_root_range *ranges =
        gci_vm_with_room(heap->ranges, heap->range_count, &heap->range_capacity, sizeof *ranges);
    if (ranges != NULL) {
        heap->ranges = ranges;
        ranges[heap->range_count++] = (struct gci_root_range){start, bytes, precise};
    }
    gci_heap_unlock(heap);
    return ranges != NULL ? 0 : ENOMEM;
}

int gci_heap_remove_root(struct gc_heap *heap, const void *start, size_t bytes, bool precise) {
    int error = ENOENT;
    gci_heap_lock(heap);
    for (size_t i = heap->range_count; i-- > 0 && error != 0;) {
        const struct gci_root_range *range = &heap->ranges[i];
        if (range->start != start || range->bytes != bytes || range->precise != precise) continue;
        heap->ranges[i] = heap->ranges[--heap->range_count];
        error = 0;
    }
    gci_heap_unlock(heap);
    return error;
}
