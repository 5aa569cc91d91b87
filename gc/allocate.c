/* The allocator.  Small objects are bump-allocated into holes: a block is claimed, its holes are
 * the runs of granules that no live object covers, filled from their upper end down, and the hole
 * in use is zeroed a little ahead of the cursor so that the lines are in the first-level cache when
 * the program writes them.  Objects of 1 to 8 KiB take cells of a size class, larger ones page
 * runs.  Invariants: the block of an open buffer is claimed; [limit, cursor) is zero and so are its
 * side bytes.  Called by each thread for its own struct gci_thread, inside the library; what
 * threads share is changed under the world's lock, and zeroing and sweeping are done without it. */
#include "gc/allocate.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "gc/ahead.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/crew.h"
#include "gc/event.h"
#include "gc/keyed.h"
#include "gc/large.h"
#include "gc/sample.h"
#include "gc/thread.h"
#include "runtime/probe.h"

#define ZERO_AHEAD     16384u /* bytes of a hole zeroed at a time, which a first-level cache holds */
#define OVERFLOW_MIN   256u   /* bytes; smaller objects skip to the next hole that fits */
#define SHRINK_MIN     64u    /* bytes; smaller objects are not moved to shrink them */
#define EASY_DENSITIES 5u /* blocks less than 5/8 full are recycled before fresh ones are taken */

/* Cell sizes: a 64 KiB block in n equal parts, n chosen so that neither rounding up to the next
 * class nor the block's rest wastes more than 12.5 %. */
static const uint16_t cell_bytes[GCI_CLASSES] = {1120, 1248, 1424, 1552, 1680, 1808, 2048, 2336,
    2608, 2976, 3264, 3632, 4096, 4672, 5040, 5456, 5952, 6544, 7280, 8192};

uint32_t gci_cell_bytes(unsigned size_class) {
    return cell_bytes[size_class];
}

void gci_allocate_init(struct gc_heap *heap) {
    unsigned size_class = 0;
    for (unsigned g = 0; g <= GCI_CELL_MAX / GC_GRANULE; g++) {
        if (g * GC_GRANULE > cell_bytes[size_class]) size_class++;
        heap->class_of[g] = (uint8_t)size_class;
    }
}

static void retire(struct gci_bump *bump) {
    bump->buffer->cursor = bump->buffer->limit = bump->hole_start = 0;
    bump->overflow = (struct gc_buffer){0, 0};
    bump->block = GCI_NONE;
    bump->point = false;
    bump->freed_count = 0;
}

void gci_retire_buffers(struct gci_thread *thread) {
    for (unsigned b = 0; b < GCI_BUFFERS; b++) retire(&thread->bump[b]);
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        retire(&thread->old[kind]);
        for (unsigned c = 0; c < GCI_CLASSES; c++) thread->cells[kind][c].block = GCI_NONE;
    }
}

/* By the thread itself; gc_get_stats() reads it at any time. */
static void count_allocated(struct gci_thread *thread, size_t bytes) {
    __atomic_store_n(&thread->allocated, thread->allocated + bytes, __ATOMIC_RELAXED);
}

/* ---- Small objects -------------------------------------------------------------------------- */

static void open_hole(struct gci_bump *bump, uintptr_t start, uintptr_t end, bool zeroed) {
    bump->buffer->cursor = bump->buffer->limit = end;
    bump->hole_start = start;
    bump->zeroed = zeroed;
    bump->point = false;
}

/* The next hole of the block being allocated into that has room for BYTES. */
static bool next_hole(struct gc_heap *heap, struct gci_bump *bump, size_t bytes) {
    if (bump->block == GCI_NONE) return false;
    uint32_t at = bump->next_granule, need = (uint32_t)(bytes / GC_GRANULE);
    while (at + need <= GCI_BLOCK_GRANULES) {
        uint64_t free = ~bump->occupied[at / 64] >> at % 64;
        if (free == 0) {
            at = (at / 64 + 1) * 64;
            continue;
        }
        uint32_t first = at + (uint32_t)__builtin_ctzll(free), end = first;
        while (end < GCI_BLOCK_GRANULES) {
            uint64_t used = bump->occupied[end / 64] >> end % 64;
            if (used != 0) {
                end += (uint32_t)__builtin_ctzll(used);
                break;
            }
            end = (end / 64 + 1) * 64;
        }
        at = end;
        if (end - first < need) continue;
        bump->next_granule = end;
        uintptr_t block = gci_block_address(&heap->arena, bump->block);
        open_hole(bump, block + first * GC_GRANULE, block + end * GC_GRANULE, false);
        return true;
    }
    return false;
}

/* A block from a list of bump blocks at densities from FIRST to before END, taken. */
static uint32_t recycle(struct gc_heap *heap, enum gci_kind kind, unsigned first, unsigned end) {
    for (unsigned density = first; density < end; density++) {
        uint32_t block = heap->lists[gci_list_of_bump(kind, density)];
        if (block == GCI_NONE) continue;
        gci_block_take(heap, block);
        return block;
    }
    return GCI_NONE;
}

/* A block to bump into: a free one; else one with room; else a fresh one; else one with little
 * room.  *EMPTY: no object is in it. */
static uint32_t choose_block(struct gc_heap *heap, enum gci_kind kind, bool *empty) {
    uint32_t block = gci_block_new(heap, GCI_USE_BUMP, kind, false);
    *empty = block != GCI_NONE;
    bool thrifty = heap->live_bytes < heap->layer->filled_below;
    if (!*empty) block = recycle(heap, kind, 0, thrifty ? GCI_DENSITIES : EASY_DENSITIES);
    if (block == GCI_NONE) {
        block = gci_block_new(heap, GCI_USE_BUMP, kind, true);
        *empty = block != GCI_NONE;
    }
    if (block == GCI_NONE) block = recycle(heap, kind, EASY_DENSITIES, GCI_DENSITIES);
    return block;
}

/* Takes the lock, where memory is about to be taken that all threads share.  If a collection is
 * due, it is run first. */
static void lock_after_collection(struct gci_thread *thread) {
    struct gc_heap *heap = thread->heap;
    enum gc_collection kind;
    const char *reason;
    gci_heap_lock(heap);
    gci_thread_count(thread);
    if (!gci_policy_due(heap, &kind, &reason)) return;
    uint64_t seen = heap->collections;
    gci_heap_unlock(heap);
    gci_collect(thread, kind, reason, seen);
    gci_heap_lock(heap);
}

/* Drops it, after memory was taken. */
static void unlock_after_taking(struct gc_heap *heap) {
    bool nudge = gci_ahead_plan(heap);
    gci_heap_unlock(heap);
    if (nudge) gci_crew_nudge(heap);
}

/* Gets the next block to bump into. */
static bool next_block(struct gci_thread *thread, struct gci_bump *bump, enum gci_kind kind) {
    struct gc_heap *heap = thread->heap;
    bool empty;
    lock_after_collection(thread);
    uint32_t block = choose_block(heap, kind, &empty);
    unlock_after_taking(heap);
    if (block == GCI_NONE) return false;
    if (empty)
        gci_block_clear_new(heap, block);
    else
        gci_block_claim(heap, block, bump->occupied);
    bump->block = block;
    bump->next_granule = empty ? GCI_BLOCK_GRANULES : 0;
    bump->recycled = !empty;
    if (empty) {
        uintptr_t start = gci_block_address(&heap->arena, block);
        open_hole(bump, start, start + GCI_BLOCK_BYTES, heap->arena.blocks[block].zeroed);
        heap->arena.blocks[block].zeroed = false;
    } else {
        open_hole(bump, 0, 0, false);
    }
    return true;
}

/* The most recently freed run, if it has room for BYTES. */
static bool freed_hole(struct gci_bump *bump, size_t bytes) {
    if (bump->freed_count == 0) return false;
    struct gc_buffer *run = &bump->freed[bump->freed_count - 1];
    if (run->cursor - run->limit < bytes) return false;
    bump->freed_count--;
    open_hole(bump, run->limit, run->cursor, false);
    return true;
}

/* Bumps past holes that are too small, in a block of its own, so that the small ones aren't lost
 * to smaller objects. */
static void *bump_overflow(
    struct gci_thread *thread, struct gci_bump *bump, enum gci_kind kind, size_t bytes) {
    struct gc_heap *heap = thread->heap;
    struct gc_buffer *overflow = &bump->overflow;
    if (overflow->cursor - overflow->limit < bytes) {
        gci_heap_lock(heap);
        uint32_t block = gci_block_new(heap, GCI_USE_BUMP, kind, false);
        gci_heap_unlock(heap);
        if (block == GCI_NONE) return NULL;
        gci_block_clear_new(heap, block);
        heap->arena.blocks[block].zeroed = false;
        overflow->limit = gci_block_address(&heap->arena, block);
        overflow->cursor = overflow->limit + GCI_BLOCK_BYTES;
    }
    memset((void *)(overflow->cursor - bytes), 0, bytes);
    count_allocated(thread, bytes);
    gci_sample_object(thread, bytes);
    return gc_bump(overflow, bytes);
}

/* Inline code writes no type for an object of a hot type: its buffer's room has it already
 * (docs/types.md, rule 2). */
static void tell_type(struct gci_thread *thread, const struct gci_bump *bump, uintptr_t start) {
    struct gci_arena *arena = &thread->heap->arena;
    if (bump < thread->bump + GCI_KINDS || bump >= thread->bump + GCI_APART_BUFFER) return;
    memset(arena->types + gci_address_granule(arena, start),
        gci_hot_number((unsigned)(bump - thread->bump) - GCI_KINDS) & 0xff,
        (bump->buffer->limit - start) / GC_GRANULE);
}

/* Makes [START, cursor) of the hole allocatable, for an object that ends at END: zeroes some of it,
 * and a little more. */
static void zero_hole(
    struct gci_thread *thread, struct gci_bump *bump, uintptr_t start, uintptr_t end) {
    struct gc_buffer *buffer = bump->buffer;
    if (start >= buffer->limit) return;
    uintptr_t ahead = buffer->limit - ZERO_AHEAD;
    if (ahead > start || thread->heap->options.stress != 0) ahead = start;
    if (ahead < bump->hole_start) ahead = bump->hole_start;
    start = gci_sample_hole(thread, bump, start, end, ahead);
    if (!bump->zeroed) memset((void *)start, 0, buffer->limit - start);
    tell_type(thread, bump, start);
    count_allocated(thread, buffer->limit - start);
    buffer->limit = start;
}

static void *allocate_small(struct gci_thread *thread, struct gci_bump *bump, enum gci_kind kind,
    size_t bytes, size_t alignment) {
    struct gc_heap *heap = thread->heap;
    for (;;) {
        uintptr_t start = (bump->buffer->cursor - bytes) & ~(alignment - 1);
        if (bump->buffer->cursor - bump->hole_start >= bytes && start >= bump->hole_start) {
            zero_hole(thread, bump, start, start + bytes);
            bump->buffer->cursor = start + bytes;
            return gc_bump(bump->buffer, bytes);
        }
        if (freed_hole(bump, bytes)) continue;
        if (bump->block != GCI_NONE && bump->recycled && bytes >= OVERFLOW_MIN &&
            alignment == GC_GRANULE) {
            void *p = bump_overflow(thread, bump, kind, bytes);
            if (p != NULL) return p;
        }
        if (next_hole(heap, bump, bytes)) continue;
        if (!next_block(thread, bump, kind)) return NULL;
    }
}

/* ---- Cells ---------------------------------------------------------------------------------- */

/* The next free cell of the block in use, or 0. */
static uintptr_t free_cell(struct gc_heap *heap, struct gci_cells *cells, uint32_t bytes) {
    if (cells->block == GCI_NONE) return 0;
    size_t first = gci_block_granule(cells->block);
    uint32_t each = bytes / GC_GRANULE, count = (uint32_t)GCI_BLOCK_GRANULES / each;
    while (cells->next < count) {
        size_t granule = first + cells->next++ * each;
        if (!(__atomic_load_n(&heap->arena.side[granule], __ATOMIC_ACQUIRE) & GCI_SIDE_START))
            return gci_granule_address(&heap->arena, granule);
    }
    return 0;
}

/* Makes BLOCK, claimed, the one in use, with the lock held.  The one before goes on the list if it
 * may have room still. */
static void use_cell_block(struct gc_heap *heap, struct gci_cells *cells, uint32_t block) {
    struct gci_arena *arena = &heap->arena;
    unsigned size_class = arena->blocks[block].size_class;
    if (cells->block == block) return;
    if (arena->blocks[block].list != GCI_NO_LIST) gci_list_remove(heap, block);
    if (cells->block != GCI_NONE) {
        arena->blocks[cells->block].list = GCI_NO_LIST;
        if (cells->next < GCI_BLOCK_BYTES / cell_bytes[size_class])
            gci_list_push(heap, gci_list_of_cells(gci_tag_kind(arena->tags[block]), size_class),
                cells->block);
    }
    arena->blocks[block].list = GCI_OWNED_LIST;
    cells->block = block;
    cells->next = 0;
}

static bool next_cell_block(
    struct gci_thread *thread, struct gci_cells *cells, enum gci_kind kind, unsigned size_class) {
    struct gc_heap *heap = thread->heap;
    lock_after_collection(thread);
    uint32_t block = heap->lists[gci_list_of_cells(kind, size_class)];
    bool recycled = block != GCI_NONE;
    if (recycled) {
        gci_block_take(heap, block);
    } else {
        block = gci_block_new(heap, GCI_USE_CELLS, kind, true);
        if (block != GCI_NONE) heap->arena.blocks[block].size_class = (uint8_t)size_class;
    }
    if (block != GCI_NONE) use_cell_block(heap, cells, block);
    unlock_after_taking(heap);
    if (recycled)
        gci_block_claim(heap, block, NULL);
    else if (block != GCI_NONE)
        gci_block_clear_new(heap, block);
    return block != GCI_NONE;
}

static void *allocate_cell(struct gci_thread *thread, enum gci_kind kind, size_t bytes) {
    struct gc_heap *heap = thread->heap;
    unsigned size_class = heap->class_of[bytes / GC_GRANULE];
    struct gci_cells *cells = &thread->cells[kind][size_class];
    uint32_t cell = cell_bytes[size_class];
    uintptr_t start; /* of the cell */
    while ((start = free_cell(heap, cells, cell)) == 0)
        if (!next_cell_block(thread, cells, kind, size_class)) return NULL;
    if (!__atomic_load_n(&heap->arena.blocks[cells->block].zeroed, __ATOMIC_RELAXED))
        memset((void *)start, 0, cell);
    count_allocated(thread, cell);
    gci_sample_object(thread, cell);
    uint8_t *side = heap->arena.side + gci_address_granule(&heap->arena, start);
    side[cell / GC_GRANULE - 1] = GCI_SIDE_END;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *side = GCI_SIDE_START;
    return (void *)start;
}

/* ---- All sizes ------------------------------------------------------------------------------ */

static void *try_allocate(struct gci_thread *thread, struct gci_bump *bump, enum gci_kind kind,
    size_t bytes, size_t alignment) {
    GCI_PROBE(alloc__slow, kind, bytes);
    if (bytes <= GC_SMALL_MAX && alignment <= GC_SMALL_MAX)
        return allocate_small(thread, bump, kind, bytes, alignment);
    if (bytes <= GCI_CELL_MAX && alignment <= GC_GRANULE) return allocate_cell(thread, kind, bytes);
    lock_after_collection(thread);
    void *p = gci_large_allocate(thread->heap, kind, bytes, alignment);
    unlock_after_taking(thread->heap);
    if (p == NULL) return NULL;
    gci_large_zero(&thread->heap->arena, (uintptr_t)p, bytes);
    size_t page = (size_t)1 << thread->heap->arena.page_shift;
    gci_sample_object(thread, (bytes + page - 1) & ~(page - 1));
    return p;
}

/* CAIRN_STRESS: is it this allocation's turn to collect? */
static bool stress_is_due(struct gc_heap *heap) {
    if (heap->options.stress == 0) return false;
    if (__atomic_sub_fetch(&heap->stress_countdown, 1, __ATOMIC_RELAXED) != 0) return false;
    __atomic_store_n(&heap->stress_countdown, heap->options.stress, __ATOMIC_RELAXED);
    return true;
}

/* Asks the program's handler to make room, as if it were called by the program. */
static bool handler_helps(struct gci_thread *thread, size_t size) {
    struct gc_heap *heap = thread->heap;
    gci_heap_lock(heap);
    gc_oom_handler handler = heap->oom_handler;
    void *data = heap->oom_data;
    gci_heap_unlock(heap);
    if (handler == NULL) return false;
    uintptr_t frame = thread->mutator.scan_from;
    /* What it calls may hold arguments of its own, and let go of them. */
    thread->kept[0] = thread->held;
    thread->kept[1] = thread->subject;
    gci_leave(&thread->mutator);
    bool helps = handler(size, data) != 0;
    gci_enter(&thread->mutator, (const void *)frame);
    thread->held = thread->kept[0];
    thread->subject = thread->kept[1];
    thread->kept[0] = thread->kept[1] = 0;
    return helps;
}

/* BUMP: one of the thread's, that small objects come from. */
static void *allocate(struct gci_thread *thread, struct gci_bump *bump, enum gci_kind kind,
    size_t size, size_t alignment) {
    struct gc_heap *heap = thread->heap;
    if (size > PTRDIFF_MAX - GCI_BLOCK_BYTES) {
        gci_event_out_of_memory(thread, size);
        errno = ENOMEM;
        return NULL;
    }
    size_t bytes = size == 0 ? GC_GRANULE : (size + GC_GRANULE - 1) & ~(size_t)(GC_GRANULE - 1);
    if (alignment < GC_GRANULE) alignment = GC_GRANULE;
    if (stress_is_due(heap)) gci_collect_stress(thread);
    void *p = try_allocate(thread, bump, kind, bytes, alignment);
    for (unsigned attempt = 0; p == NULL && attempt < 2; attempt++) {
        if (attempt == 1 && !handler_helps(thread, size)) break;
        /* While collection is disabled, what the handler freed by hand may be enough. */
        gci_collect(thread, GC_FULL, "memory is short", GCI_ALWAYS);
        p = try_allocate(thread, bump, kind, bytes, alignment);
        if (p != NULL || !gci_may_move(heap)) continue;
        gci_collect(thread, GC_COMPACT, "memory is short", GCI_ALWAYS);
        p = try_allocate(thread, bump, kind, bytes, alignment);
    }
    if (p == NULL) gci_event_out_of_memory(thread, size);
    if (p == NULL) errno = ENOMEM;
    return p;
}

void *gci_allocate(struct gci_thread *thread, unsigned buffer, size_t size, size_t alignment) {
    return allocate(thread, &thread->bump[buffer], gci_buffer_kind(buffer), size, alignment);
}

void *gci_allocate_apart(struct gci_thread *thread, enum gci_kind kind, size_t size) {
    return allocate(thread, &thread->old[kind], kind, size, GC_GRANULE);
}

/* Does the object that starts at START touch the open hole's cursor?  Not from the next block. */
static bool is_last(const struct gci_bump *bump, uintptr_t start) {
    return bump->buffer->limit != 0 && bump->buffer->cursor == start &&
           (start % GCI_BLOCK_BYTES != 0 || start == bump->hole_start);
}

/* A freed cell is used again at once if its block is the thread's, or nobody's. */
static void reuse_cell(struct gci_thread *thread, uint32_t block, uint8_t tag, uint32_t cell) {
    struct gc_heap *heap = thread->heap;
    unsigned size_class = heap->arena.blocks[block].size_class;
    struct gci_cells *cells = &thread->cells[gci_tag_kind(tag)][size_class];
    if (cells->block != block && heap->arena.blocks[block].list == GCI_OWNED_LIST) return;
    use_cell_block(heap, cells, block);
    if (cell < cells->next) cells->next = cell;
}

/* Takes the lock when BLOCK isn't being swept by another thread; sweeps it if that is owed. */
static void lock_swept(struct gc_heap *heap, uint32_t block) {
    for (;;) {
        gci_heap_lock(heap);
        uint8_t tag = __atomic_load_n(&heap->arena.tags[block], __ATOMIC_ACQUIRE);
        if (!(tag & GCI_TAG_YOUNG)) {
            gci_block_take(heap, block);
            gci_block_claim(heap, block, NULL);
            return;
        }
        if (!(tag & GCI_TAG_UNSWEPT)) return;
        gci_heap_unlock(heap);
        sched_yield();
    }
}

static void deallocate_small(struct gci_thread *thread, gci_object object) {
    struct gc_heap *heap = thread->heap;
    struct gci_arena *arena = &heap->arena;
    uint32_t block = gci_block_of(object.granule);
    uint8_t tag = arena->tags[block];
    size_t granules = gci_small_granules(arena->side, object.granule);
    uintptr_t start = gci_granule_address(arena, object.granule);
    uintptr_t end = start + granules * GC_GRANULE;
    if (arena->side[object.granule] & GCI_SIDE_MARK) /* at once: gc_alloc_old() adds to it */
        __atomic_fetch_sub(&arena->live[block], (uint16_t)granules, __ATOMIC_RELAXED);
    if (heap->options.poison) memset((void *)start, GCI_POISON, end - start);
    __atomic_store_n(&arena->blocks[block].zeroed, false, __ATOMIC_RELAXED);
    if (granules > 1) arena->side[object.granule + granules - 1] = 0;
    /* Whoever allocates cells in this block may take this one from here on. */
    __atomic_store_n(&arena->side[object.granule], 0, __ATOMIC_RELEASE);
    if (gci_tag_use(tag) == GCI_USE_CELLS) {
        uint32_t cell = (uint32_t)((object.granule - gci_block_granule(block)) / granules);
        reuse_cell(thread, block, tag, cell);
        return;
    }
    struct gci_bump *bump = &thread->bump[gci_tag_kind(tag)];
    if (is_last(bump, start)) {
        memset((void *)start, 0, end - start);
        bump->buffer->cursor = end;
        gci_sample_again(thread, bump);
    } else if (bump->freed_count < GCI_FREED_RUNS) {
        bump->freed[bump->freed_count++] = (struct gc_buffer){.cursor = end, .limit = start};
    }
}

void gci_deallocate(struct gci_thread *thread, gci_object object) {
    struct gc_heap *heap = thread->heap;
    uint32_t block = gci_block_of(object.granule);
    const uint8_t *side = &heap->arena.side[object.granule];
    __atomic_store_n(&heap->freed_by_hand, true, __ATOMIC_RELAXED);
    if (gci_tag_use(gci_tag(&heap->arena, block)) == GCI_USE_LARGE) {
        gci_heap_lock(heap);
        if (*side & GCI_SIDE_KEYED) gci_keyed_forget(heap, object.granule);
        gci_sample_forget(heap, object.granule);
        gci_large_free(heap, object);
    } else {
        lock_swept(heap, block);
        if (*side & GCI_SIDE_KEYED) gci_keyed_forget(heap, object.granule);
        gci_sample_forget(heap, object.granule);
        deallocate_small(thread, object);
    }
    gci_heap_unlock(heap);
}

static bool resize_large(struct gc_heap *heap, gci_object object, size_t old, size_t bytes) {
    gci_heap_lock(heap);
    bool done = gci_large_resize(heap, object, bytes);
    gci_heap_unlock(heap);
    if (done && bytes > old)
        gci_large_zero(
            &heap->arena, gci_granule_address(&heap->arena, object.granule) + old, bytes - old);
    return done;
}

bool gci_resize(struct gci_thread *thread, gci_object object, size_t bytes) {
    struct gc_heap *heap = thread->heap;
    uint8_t tag = gci_tag(&heap->arena, gci_block_of(object.granule));
    size_t old = gci_object_bytes(heap, object);
    bool done;
    if (gci_tag_use(tag) == GCI_USE_LARGE)
        done = bytes > GCI_CELL_MAX && resize_large(heap, object, old, bytes);
    else
        done = bytes <= old && (bytes > old / 2 || old <= SHRINK_MIN);
    if (!done || bytes >= old) return done;
    __atomic_store_n(&heap->freed_by_hand, true, __ATOMIC_RELAXED);
    /* What is given up reads as zero if the object grows again. */
    size_t now = gci_object_bytes(heap, object);
    memset((uint8_t *)gci_granule_address(&heap->arena, object.granule) + bytes, 0, now - bytes);
    return true;
}
