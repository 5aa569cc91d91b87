/* The remembered set is not kept: it is what the barrier and the block tags say.  A
 * pointer-bearing block is either open, and searched whole at every minor collection, or closed,
 * and then only its dirty pages are.  Invariant (rule 5 of docs/collection.md): an old object
 * that refers to a young one is in an open block or on a dirty page. Called by gc/collect.c with
 * the world stopped. */
#include "gc/remember.h"

#include "gc/block.h"
#include "gc/collect.h"
#include "gc/crew.h"
#include "gc/large.h"
#include "gc/mark.h"
#include "runtime/vm.h"

#define FEW          4u  /* blocks that a member of the crew takes at a time: some 50 us */
#define SHARED_LEAST 48u /* open blocks, for which it pays to wake the crew */
#define HOT_AFTER    3u  /* dirty collections in a row until a closed block is left open */

/* Marks from the marked objects among WORDS * 64 granules at GRANULE, in one small-object block. */
static void scan_small(
    struct gci_marker *marker, gci_mark_words *mark, size_t granule, unsigned words) {
    const struct gci_arena *arena = &marker->heap->arena;
    uint64_t cover[GCI_MASK_WORDS];
    gci_marked_cover(arena, granule, words, cover);
    const uintptr_t *base = (const uintptr_t *)gci_granule_address(arena, granule);
    unsigned total = words * 64, at = 0;
    while (at < total) {
        uint64_t ones = cover[at / 64] >> at % 64;
        if (ones == 0) {
            at = (at / 64 + 1) * 64;
            continue;
        }
        unsigned first = at + (unsigned)__builtin_ctzll(ones), end = first;
        for (;;) { /* the run of ones from FIRST */
            uint64_t zeros = ~cover[end / 64] >> end % 64;
            if (zeros != 0) {
                end += (unsigned)__builtin_ctzll(zeros);
                break;
            }
            end = (end / 64 + 1) * 64;
            if (end >= total) break;
        }
        const unsigned each = GC_GRANULE / sizeof *base;
        mark(marker, (gci_words){base + first * each, base + end * each});
        at = end;
    }
}

/* Marks from the marked large objects on [START, START + BYTES), pages of one or more LARGE
 * blocks. */
static void scan_large(
    struct gci_marker *marker, gci_mark_words *mark, uintptr_t start, size_t bytes) {
    const struct gci_arena *arena = &marker->heap->arena;
    uintptr_t end = start + bytes;
    while (start < end) {
        gci_object object;
        uintptr_t page = (uintptr_t)1 << arena->page_shift;
        uintptr_t stop = (start | (page - 1)) + 1; /* START may be in the middle: a card */
        start = gci_large_first(arena, start);
        if (start < stop && gci_large_find(arena, start - arena->base, &object)) {
            stop = gci_granule_address(arena, object.granule) + gci_large_bytes(arena, object);
            if (stop > end) stop = end;
            if (arena->side[object.granule] & GCI_SIDE_MARK)
                mark(marker, (gci_words){(const uintptr_t *)start, (const uintptr_t *)stop});
        }
        start = stop;
    }
}

/* Marks from the marked objects on a page-aligned range within one block.  That of typed objects
 * waits: they are moved from, which must come after all ambiguous words were looked at. */
static void scan_range(struct gci_marker *marker, gci_mark_words *mark, uint32_t block,
    uintptr_t start, size_t bytes) {
    const struct gci_arena *arena = &marker->heap->arena;
    bool large = gci_tag_use(arena->tags[block]) == GCI_USE_LARGE;
    if (!large && __atomic_load_n(&arena->live[block], __ATOMIC_RELAXED) == 0) return;
    if (arena->tags[block] & GCI_TAG_TYPED)
        gci_mark_push(marker, gci_run(start, start + bytes, GCI_RUN_OBJECTS));
    else if (large)
        scan_large(marker, mark, start, bytes);
    else
        scan_small(
            marker, mark, gci_address_granule(arena, start), (unsigned)(bytes / (64 * GC_GRANULE)));
}

static void scan_block(struct gci_marker *marker, gci_mark_words *mark, uint32_t block) {
    uintptr_t start = gci_block_address(&marker->heap->arena, block);
    scan_range(marker, mark, block, start, GCI_BLOCK_BYTES);
}

/* A run of dirty pages, in one or more adjacent closed blocks. */
static void visit_dirty(void *context, uintptr_t start, size_t bytes) {
    struct gc_heap *heap = context;
    struct gci_arena *arena = &heap->arena;
    size_t inside = ((size_t)1 << arena->page_shift) - 1; /* a card is a part of a page */
    heap->dirty_now += (bytes + inside) >> arena->page_shift;
    while (bytes > 0) {
        uint32_t block = gci_block_of(gci_address_granule(arena, start));
        size_t piece = gci_block_address(arena, block) + GCI_BLOCK_BYTES - start;
        if (piece > bytes) piece = bytes;
        scan_range(&heap->marker, gci_mark_heap_words, block, start, piece);
        arena->blocks[block].dirty_pages += (uint8_t)((piece + inside) >> arena->page_shift);
        start += piece;
        bytes -= piece;
    }
}

/* After a run of closed blocks was collected: opens those that are dirty time after time, where
 * the faults cost more than searching the whole block does.  Explicit stores don't fault. */
static void open_hot(struct gc_heap *heap, uint32_t first, uint32_t end) {
    struct gci_arena *arena = &heap->arena;
    bool faults = !gci_barrier_is_explicit(heap->barrier);
    unsigned most = 1u << (GCI_BLOCK_SHIFT - arena->page_shift) >> 2;
    for (uint32_t b = first; b < end; b++) {
        struct gci_block *block = &arena->blocks[b];
        if (block->dirty_pages == 0) {
            block->hot = 0;
            continue;
        }
        bool hot = faults && block->dirty_pages > most;
        block->dirty_pages = 0;
        block->hot = hot ? block->hot + 1 : 0;
        if (block->hot < HOT_AFTER) continue;
        gci_block_open(heap, b, 1);
        block->hot = HOT_AFTER; /* until it is closed again: see should_close() */
    }
}

static uint32_t scan_closed(struct gc_heap *heap, uint32_t first) {
    struct gci_arena *arena = &heap->arena;
    uint32_t end = first + 1;
    while (end < arena->frontier && gci_tag_scanned(arena->tags[end]) &&
           arena->tags[end] & GCI_TAG_CLOSED)
        end++;
    uint64_t before = heap->dirty_now;
    gci_barrier_collect(heap->barrier, gci_block_address(arena, first),
        (size_t)(end - first) << GCI_BLOCK_SHIFT, visit_dirty, heap);
    if (heap->dirty_now != before) open_hot(heap, first, end);
    return end;
}

/* Of typed objects nothing is found yet: gci_mark_objects() takes back that the block was passed
 * over. */
static void scan_open(struct gci_marker *marker, gci_mark_words *mark, uint32_t block) {
    struct gci_block *b = &marker->heap->arena.blocks[block];
    uint64_t before = marker->marked_objects;
    scan_block(marker, mark, block);
    if (marker->marked_objects != before)
        b->passed_over = 0;
    else if (b->passed_over < UINT8_MAX)
        b->passed_over++;
}

static bool is_open(uint8_t tag) {
    return gci_tag_scanned(tag) && !(tag & GCI_TAG_CLOSED);
}

/* A member's part: a few blocks after the other, until *CONTEXT, the next, is at the end; and then of
 * what these led to. */
static void scan_open_together(struct gci_marker *marker, void *context) {
    const struct gci_arena *arena = &marker->heap->arena;
    uint32_t *next = context;
    for (;;) {
        uint32_t b = __atomic_fetch_add(next, FEW, __ATOMIC_RELAXED);
        if (b >= arena->frontier) break;
        uint32_t end = arena->frontier - b < FEW ? arena->frontier : b + FEW;
        for (; b < end; b++)
            if (is_open(arena->tags[b])) scan_open(marker, gci_mark_shared_words, b);
    }
    gci_mark_drain_shared(marker);
}

/* Blocks that were allocated into, and have old objects. */
static void count_recycled(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    for (uint32_t b = 0; b < arena->frontier; b++)
        heap->recycled_now +=
            is_open(arena->tags[b]) && arena->tags[b] & GCI_TAG_YOUNG && arena->live[b] > 0;
}

/* With the help of the crew, if there are many and it may.  False if they are still to be searched. */
static bool share_open(struct gc_heap *heap) {
    if (heap->open_blocks < SHARED_LEAST || heap->marker.moving || heap->marker.watching ||
        !gci_crew_call(heap))
        return false;
    uint64_t before = gci_clock_ns();
    uint32_t next = 0;
    gci_crew_run(heap, scan_open_together, &next);
    gci_crew_sum(heap);
    heap->shared_ns = gci_clock_ns() - before;
    return true;
}

void gci_remember_scan(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    uint32_t b = 0;
    count_recycled(heap);
    bool shared = share_open(heap);
    while (b < arena->frontier) {
        uint8_t tag = arena->tags[b];
        if (gci_tag_scanned(tag) && tag & GCI_TAG_CLOSED) {
            b = scan_closed(heap, b);
            continue;
        }
        if (is_open(tag) && !shared) scan_open(&heap->marker, gci_mark_heap_words, b);
        b++;
    }
    heap->dirty_pages += heap->dirty_now;
}

void gci_remember_all_marked(struct gc_heap *heap) {
    for (uint32_t b = 0; b < heap->arena.frontier; b++)
        if (heap->arena.tags[b] & GCI_TAG_TYPED) {
            uintptr_t start = gci_block_address(&heap->arena, b);
            gci_mark_objects(&heap->marker, start, start + GCI_BLOCK_BYTES);
        } else if (gci_tag_scanned(heap->arena.tags[b])) {
            scan_block(&heap->marker, gci_mark_heap_words, b);
        }
}

/* Of the free blocks that are still protected, opens as many as may be taken before the next
 * collection: a run in one call, which costs less here, while nobody runs on the other processors,
 * than for each block when it is taken. */
static void open_free(struct gc_heap *heap) {
    const uint8_t *tags = heap->arena.tags;
    uint32_t frontier = heap->arena.frontier, left = gci_policy_nursery(heap) >> GCI_BLOCK_SHIFT;
    for (uint32_t b = 0; b < frontier && left > 0; b++) {
        uint32_t first = b;
        while (b < frontier && b - first < left && tags[b] == (GCI_USE_FREE | GCI_TAG_CLOSED)) b++;
        if (b > first) gci_block_open(heap, first, b - first);
        left -= b - first;
    }
}

void gci_remember_close(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        if (!(arena->tags[b] & GCI_TAG_CLOSING)) continue;
        uint32_t end = b;
        while (end < arena->frontier && arena->tags[end] & GCI_TAG_CLOSING) end++;
        bool closed = gci_barrier_protect(heap->barrier, gci_block_address(arena, b),
                          (size_t)(end - b) << GCI_BLOCK_SHIFT) == 0;
        for (; b < end; b++) {
            arena->tags[b] &= (uint8_t)~GCI_TAG_CLOSING;
            if (closed) arena->tags[b] |= GCI_TAG_CLOSED;
            arena->blocks[b].hot = 0;
        }
    }
    open_free(heap);
}
