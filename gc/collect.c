/* A collection, from top to bottom.  A minor one marks what is young and reached; a full one
 * first makes everything young, and then is the same (docs/collection.md).  Nothing moves.  Runs
 * with all other threads stopped, and never calls malloc. */
#include "gc/collect.h"

#include "gc/allocate.h"
#include "gc/block.h"
#include "gc/explain.h"
#include "gc/large.h"
#include "gc/mark.h"
#include "gc/remember.h"
#include "gc/stats.h"
#include "gc/verify.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define PASSED_OVER_MAX 2u /* scans without a young object until an open block is closed */
#define DENSE_EIGHTHS                                                                              \
    6u /* blocks at least this full are closed at once: little of them will be refilled */
#define LISTED_EIGHTHS 7u /* fuller blocks are not worth recycling */

/* ---- Roots ---------------------------------------------------------------------------------- */

static void visit_root(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    (void)kind;
    gci_mark_root_words(context, (gci_words){start, end});
}

void gci_visit_roots(struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    struct gci_thread *thread = heap->threads;
    visit(context, GCI_ROOT_STACK, thread->scan_from, thread->stack_base);
    visit(context, GCI_ROOT_RANGE, &thread->held, &thread->held + 1);
    gci_tls_roots_visit(visit, context);
    gci_static_roots_visit(&heap->static_roots, visit, context);
    for (size_t i = 0; i < heap->range_count; i++) {
        uintptr_t start = (uintptr_t)heap->ranges[i].start, end = start + heap->ranges[i].bytes;
        start = (start + sizeof(uintptr_t) - 1) / sizeof(uintptr_t) * sizeof(uintptr_t);
        end = end / sizeof(uintptr_t) * sizeof(uintptr_t);
        if (start < end)
            visit(context, GCI_ROOT_RANGE, (const uintptr_t *)start, (const uintptr_t *)end);
    }
}

/* ---- Before marking ------------------------------------------------------------------------- */

/* For a full collection: ends the sweep that is still owed, then makes every object young. */
static void make_all_young(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        if (gci_tag_use(tag) == GCI_USE_FREE) continue;
        arena->tags[b] |= GCI_TAG_YOUNG;
        if (gci_tag_use(tag) == GCI_USE_LARGE) continue;
        if (tag & GCI_TAG_UNSWEPT) gci_block_sweep(arena, b, heap->options.poison, NULL);
        gci_block_unmark(arena, b);
    }
    gci_large_unmark(heap);
}

/* ---- After marking -------------------------------------------------------------------------- */

/* A block of small objects that was young: free, or old and with a sweep owed. */
static void settle_small(struct gc_heap *heap, uint32_t b) {
    struct gci_arena *arena = &heap->arena;
    if (arena->blocks[b].list != GCI_NO_LIST) gci_list_remove(heap, b);
    if (arena->live[b] == 0) {
        if (heap->options.poison)
            __builtin_memset((void *)gci_block_address(arena, b), GCI_POISON, GCI_BLOCK_BYTES);
        gci_arena_give(arena, b, 1);
        return;
    }
    arena->tags[b] = (uint8_t)((arena->tags[b] & ~GCI_TAG_YOUNG) | GCI_TAG_UNSWEPT);
    arena->blocks[b].passed_over = 0; /* the search counted it when its objects were young */
    if (heap->options.poison) gci_block_sweep(arena, b, true, NULL);
    unsigned eighths = arena->live[b] / (GCI_BLOCK_GRANULES / 8);
    if (eighths >= LISTED_EIGHTHS) return;
    enum gci_kind kind = gci_tag_kind(arena->tags[b]);
    unsigned list = gci_tag_use(arena->tags[b]) == GCI_USE_BUMP
                        ? gci_list_of_bump(kind, eighths)
                        : gci_list_of_cells(kind, arena->blocks[b].size_class);
    gci_list_push(heap, list, b);
}

/* Should the open block B, which holds old objects with pointers, be protected from now on? */
static bool should_close(const struct gc_heap *heap, uint32_t b) {
    const struct gci_arena *arena = &heap->arena;
    if (arena->blocks[b].passed_over >= PASSED_OVER_MAX) return true;
    if (arena->blocks[b].hot > 0) return false;
    return gci_tag_use(arena->tags[b]) == GCI_USE_LARGE ||
           arena->live[b] >= GCI_BLOCK_GRANULES / 8 * DENSE_EIGHTHS;
}

/* Sorts all blocks by what marking found, and counts what is live. */
static void settle_blocks(struct gc_heap *heap, enum gc_collection kind) {
    struct gci_arena *arena = &heap->arena;
    uint64_t granules = 0, open = 0, closed = 0;
    bool protects =
        gci_barrier_kind(heap->barrier) != GC_BARRIER_NONE && gci_policy_protects(heap, kind);
    gci_large_sweep(heap);
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        if (gci_tag_use(tag) == GCI_USE_FREE) continue;
        if (tag & GCI_TAG_YOUNG) {
            if (gci_tag_use(tag) == GCI_USE_LARGE)
                arena->tags[b] &= (uint8_t)~GCI_TAG_YOUNG;
            else
                settle_small(heap, b);
            tag = arena->tags[b];
        }
        granules += arena->live[b];
        if (!gci_tag_scanned(tag)) continue;
        if (protects && !(tag & GCI_TAG_CLOSED) && should_close(heap, b))
            arena->tags[b] |= GCI_TAG_CLOSING;
        if (arena->tags[b] & (GCI_TAG_CLOSED | GCI_TAG_CLOSING))
            closed++;
        else
            open++;
    }
    heap->open_blocks = open;
    heap->closed_blocks = closed;
    uint64_t pages = heap->large[GCI_AMBIGUOUS].used_pages + heap->large[GCI_LEAF].used_pages;
    heap->live_bytes = granules * GC_GRANULE + (pages << arena->page_shift);
}

/* ---- The script ----------------------------------------------------------------------------- */

static void log_collection(
    const struct gc_heap *heap, const struct gci_cycle *cycle, uint64_t before) {
    gci_log("%s: %s; pause %lu us (roots %lu, mark %lu, settle %lu); %lu KB, %lu KB live after; "
            "%lu dirty pages, %lu blocks open, %lu closed; marked %lu objects, %lu KB; "
            "nursery %lu KB, %s",
        cycle->kind == GC_FULL ? "full" : "minor", cycle->reason,
        (cycle->end_ns - cycle->start_ns) / 1000, (cycle->roots_ns - cycle->start_ns) / 1000,
        (cycle->marked_ns - cycle->roots_ns) / 1000, (cycle->end_ns - cycle->marked_ns) / 1000,
        before / 1024, heap->live_bytes / 1024, heap->dirty_now, heap->open_blocks,
        heap->closed_blocks, heap->marker.marked_objects,
        heap->marker.marked_granules * GC_GRANULE / 1024, heap->policy.nursery / 1024,
        heap->policy.generational ? "generational" : "full only");
}

bool gci_collect(struct gc_heap *heap, enum gc_collection kind, const char *reason) {
    if (heap->disabled > 0 || heap->collecting) return false;
    struct gci_cycle cycle = {kind, reason, gci_clock_ns(), 0, 0, 0, heap->allocated_since};
    if (gci_static_roots_refresh(&heap->static_roots) != 0) return false;
    const struct gci_thread *thread = heap->threads;
    if (thread->scan_from < thread->stack_lowest || thread->scan_from >= thread->stack_base)
        gci_fatal("a collection on a stack that isn't the thread's own (a coroutine's?), which is "
                  "not supported: %p is not in [%p, %p)",
            (const void *)thread->scan_from, (const void *)thread->stack_lowest,
            (const void *)thread->stack_base);
    heap->collecting = true;
    uint64_t before = heap->live_bytes + heap->allocated_since;
    heap->marker.marked_granules = heap->marker.marked_objects = 0;
    heap->dirty_now = 0;
    heap->recycled_now = 0;
    gci_retire_buffers(heap->threads);

    if (kind == GC_FULL) make_all_young(heap);
    if (kind == GC_MINOR) gci_remember_scan(heap);
    gci_visit_roots(heap, visit_root, &heap->marker);
    cycle.roots_ns = gci_clock_ns();
    gci_mark_drain(&heap->marker);
    cycle.marked_ns = gci_clock_ns();
    if (heap->options.verify) gci_verify_marks(heap);
    settle_blocks(heap, kind);
    gci_remember_close(heap);
    cycle.end_ns = gci_clock_ns();

    if (kind == GC_MINOR) heap->promoted_bytes += heap->marker.marked_granules * GC_GRANULE;
    heap->allocated_total += heap->allocated_since;
    heap->allocated_since = 0;
    gci_policy_update(heap, &cycle);
    gci_histogram_add(kind == GC_FULL ? &heap->full_pauses : &heap->minor_pauses,
        gci_clock_ns() - cycle.start_ns);
    if (heap->options.log) log_collection(heap, &cycle, before);
    if (heap->options.verify && gci_verify_heap(heap) > 0)
        gci_fatal("the heap is broken after a %s collection", kind == GC_FULL ? "full" : "minor");
    heap->collecting = false;
    return true;
}

void gci_collect_if_due(struct gc_heap *heap) {
    enum gc_collection kind;
    const char *reason;
    if (gci_policy_due(heap, &kind, &reason)) gci_collect(heap, kind, reason);
}

void gci_collect_stress(struct gc_heap *heap) {
    uint64_t count = heap->minor_pauses.count + heap->full_pauses.count;
    gci_collect(heap, count % 8 == 7 ? GC_FULL : GC_MINOR, "stress");
}
