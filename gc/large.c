/* Large objects: one page run each, in blocks tagged LARGE that belong to the space of one kind,
 * so that leaf pages are never protected.  Owns the page table and the free page runs.
 * Invariants: the pages of a LARGE block are each in one object or one free run of its space; a
 * whole block in a free run goes back to the arena at once; an object's START and MARK are in
 * the side byte of its first granule, and all other side bytes of a LARGE block are zero.  An
 * object begins with its first page, but under CAIRN_POISON=guard (gc/guard.c). */
#include "gc/large.h"

#include <string.h>

#include "gc/block.h"
#include "gc/guard.h"
#include "gc/runs.h"
#include "runtime/log.h"

static uint32_t pages_per_block(const struct gci_arena *arena) {
    return 1u << (GCI_BLOCK_SHIFT - arena->page_shift);
}

static uint8_t *page_address(const struct gci_arena *arena, uint32_t page) {
    return (uint8_t *)arena->base + ((size_t)page << arena->page_shift);
}

static uint32_t page_block(const struct gci_arena *arena, uint32_t page) {
    return page >> (GCI_BLOCK_SHIFT - arena->page_shift);
}

void gci_large_init(struct gc_heap *heap) {
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        struct gci_large *space = &heap->large[kind];
        uint8_t *table = heap->arena.tables[GCI_TABLE_AMBIGUOUS_RUNS + kind].base;
        gci_runs_init(&space->runs, (struct gci_run_node *)(void *)table,
            (enum gc_fit)heap->options.large_fit);
        space->kind = (enum gci_kind)kind;
        space->young = space->old = GCI_NONE;
        space->used_pages = 0;
    }
}

bool gci_large_find(const struct gci_arena *arena, uintptr_t offset, gci_object *object) {
    uint32_t page = (uint32_t)(offset >> arena->page_shift), head = arena->pages[page].head;
    if (head > page || page - head + arena->guard_pages >= arena->pages[head].pages) return false;
    *object = gci_large_object(arena, head);
    return offset >> GCI_GRANULE_SHIFT >= object->granule;
}

uintptr_t gci_large_first(const struct gci_arena *arena, uintptr_t start) {
    uintptr_t end = (start | (((uintptr_t)1 << arena->page_shift) - 1)) + 1;
    gci_object object;
    if (gci_large_find(arena, start - arena->base, &object)) return start;
    if (arena->guard_pages == 0 || !gci_large_find(arena, end - 1 - arena->base, &object))
        return end;
    return gci_granule_address(arena, object.granule);
}

static void list_push(struct gci_arena *arena, uint32_t *list, uint32_t head) {
    arena->pages[head].prev = GCI_NONE;
    arena->pages[head].next = *list;
    if (*list != GCI_NONE) arena->pages[*list].prev = head;
    *list = head;
}

static void list_remove(struct gci_arena *arena, uint32_t *list, uint32_t head) {
    const struct gci_page *page = &arena->pages[head];
    if (page->prev != GCI_NONE)
        arena->pages[page->prev].next = page->next;
    else
        *list = page->next;
    if (page->next != GCI_NONE) arena->pages[page->next].prev = page->prev;
}

/* Gives whole blocks inside the free run of LENGTH pages at RUN back to the arena. */
static void trim(struct gci_arena *arena, struct gci_large *space, uint32_t run, uint32_t length) {
    uint32_t each = pages_per_block(arena);
    uint32_t first = (run + each - 1) / each, end = (run + length) / each;
    if (end <= first) return;
    gci_runs_take_at(&space->runs, run, first * each, (end - first) * each);
    gci_arena_give(arena, first, end - first);
}

static void give_pages(
    struct gc_heap *heap, struct gci_large *space, uint32_t first, uint32_t pages) {
    struct gci_arena *arena = &heap->arena;
    for (uint32_t b = page_block(arena, first); b <= page_block(arena, first + pages - 1); b++)
        __atomic_store_n(&arena->blocks[b].zeroed, false, __ATOMIC_RELAXED);
    if (heap->options.poison)
        memset(page_address(arena, first), GCI_POISON, (size_t)pages << arena->page_shift);
    uint32_t joined, run = gci_runs_give(&space->runs, first, pages, &joined);
    trim(arena, space, run, joined);
}

/* Takes PAGES from new blocks of the arena; what they leave over joins the free runs. */
static uint32_t take_new(
    struct gc_heap *heap, struct gci_large *space, uint32_t pages, uint32_t alignment) {
    struct gci_arena *arena = &heap->arena;
    uint32_t each = pages_per_block(arena), blocks = pages / each + (pages % each != 0);
    uint32_t first = gci_arena_take_run(arena, blocks, alignment > each ? alignment / each : 1);
    if (first == GCI_NONE) return GCI_NONE;
    for (uint32_t b = first; b < first + blocks; b++) {
        gci_block_clear_side(arena, b); /* the marker looks at them before the block's use */
        arena->tags[b] = (uint8_t)(GCI_USE_LARGE | (arena->tags[b] & GCI_TAG_CLOSED) |
                                   gci_kind_tag(space->kind));
    }
    uint32_t joined, run = gci_runs_give(&space->runs, first * each, blocks * each, &joined);
    uint32_t start = (run + alignment - 1) & ~(alignment - 1);
    gci_runs_take_at(&space->runs, run, start, pages);
    uint32_t rest = run + joined - (start + pages);
    if (rest > 0) trim(arena, space, start + pages, rest);
    return start;
}

/* Without the lock.  A block counts as zeroed until a page of it is given back, so that whoever
 * reads that flag while another gives back is right either way: his own pages were never used. */
void gci_large_zero(struct gci_arena *arena, uintptr_t start, size_t bytes) {
    uint32_t each = pages_per_block(arena);
    uint32_t first = (uint32_t)((start - arena->base) >> arena->page_shift);
    uint32_t end = first + (uint32_t)((bytes - 1) >> arena->page_shift) + 1;
    while (first < end) {
        uint32_t block = page_block(arena, first), stop = (block + 1) * each;
        if (stop > end) stop = end;
        if (!__atomic_load_n(&arena->blocks[block].zeroed, __ATOMIC_RELAXED))
            memset(page_address(arena, first), 0, (size_t)(stop - first) << arena->page_shift);
        first = stop;
    }
}

/* Makes pages FIRST to END part of the object at HEAD, in open blocks that may hold young
 * objects. */
static void settle(struct gc_heap *heap, uint32_t head, uint32_t first, uint32_t end) {
    struct gci_arena *arena = &heap->arena;
    uint32_t block = page_block(arena, first), last = page_block(arena, end - 1);
    gci_block_open_closed(heap, block, last - block + 1);
    for (uint32_t b = block; b <= last; b++) {
        gci_tag_change(arena, b, 0, GCI_TAG_YOUNG);
        arena->blocks[b].passed_over = 0;
    }
    for (uint32_t page = first; page < end; page++) arena->pages[page].head = head;
}

/* The object of BYTES on the pages from HEAD on ends at its guard page, as far as ALIGNMENT lets
 * it. */
static void place_before_guard(
    struct gci_arena *arena, uint32_t head, size_t bytes, size_t alignment) {
    uint32_t guard = head + arena->pages[head].pages - 1;
    size_t unused = ((size_t)(guard - head) << arena->page_shift) - bytes;
    if (alignment < GC_GRANULE) alignment = GC_GRANULE;
    arena->pages[guard].next = (uint32_t)(unused / alignment * alignment / GC_GRANULE);
    gci_guard_raise(arena, guard);
}

void *gci_large_allocate(struct gc_heap *heap, enum gci_kind kind, size_t bytes, size_t alignment) {
    struct gci_arena *arena = &heap->arena;
    struct gci_large *space = &heap->large[kind];
    size_t page_bytes = (size_t)1 << arena->page_shift;
    /* Pages are aligned within the arena, so no further than the arena itself is. */
    if (bytes > arena->reserved || alignment > (arena->base & -arena->base)) return NULL;
    uint32_t pages = (uint32_t)((bytes + page_bytes - 1) >> arena->page_shift) + arena->guard_pages;
    uint32_t page_alignment = alignment > page_bytes ? (uint32_t)(alignment / page_bytes) : 1;
    uint32_t first = gci_runs_take(&space->runs, pages, page_alignment);
    if (first == GCI_NONE) first = take_new(heap, space, pages, page_alignment);
    if (first == GCI_NONE) return NULL;
    settle(heap, first, first, first + pages);
    arena->pages[first].pages = pages;
    if (arena->guard_pages > 0) place_before_guard(arena, first, bytes, alignment);
    list_push(arena, &space->young, first);
    space->used_pages += pages;
    heap->allocated_since += (size_t)pages << arena->page_shift;
    heap->allocated_large += (size_t)pages << arena->page_shift;
    gci_object object = gci_large_object(arena, first);
    arena->side[object.granule] = GCI_SIDE_START;
    return (void *)gci_granule_address(arena, object.granule);
}

bool gci_large_resize(struct gc_heap *heap, gci_object object, size_t bytes) {
    struct gci_arena *arena = &heap->arena;
    uint32_t head = gci_large_page(arena, object), old = arena->pages[head].pages;
    struct gci_large *space = &heap->large[gci_tag_kind(arena->tags[gci_block_of(object.granule)])];
    size_t page_bytes = (size_t)1 << arena->page_shift;
    if (bytes > arena->reserved) return false;
    if (arena->guard_pages > 0) /* it would have to begin elsewhere */
        return (bytes + GC_GRANULE - 1) / GC_GRANULE == gci_large_bytes(arena, object) / GC_GRANULE;
    uint32_t pages = (uint32_t)((bytes + page_bytes - 1) >> arena->page_shift);
    if (pages > old) {
        uint32_t room = gci_runs_length(&space->runs, head + old);
        if (room < pages - old) return false;
        gci_runs_take_at(&space->runs, head + old, head + old, pages - old);
        settle(heap, head, head + old, head + pages);
        heap->allocated_since += (size_t)(pages - old) << arena->page_shift;
        heap->allocated_large += (size_t)(pages - old) << arena->page_shift;
    }
    arena->pages[head].pages = pages;
    space->used_pages = space->used_pages + pages - old;
    if (pages < old) give_pages(heap, space, head + pages, old - pages);
    return true;
}

/* Ends the object at HEAD, which is on no list. */
static void free_pages(struct gc_heap *heap, struct gci_large *space, uint32_t head) {
    struct gci_arena *arena = &heap->arena;
    uint32_t pages = arena->pages[head].pages;
    arena->side[gci_large_object(arena, head).granule] = 0;
    if (arena->guard_pages > 0) gci_guard_lower(arena, head + pages - 1);
    arena->pages[head].pages = 0;
    space->used_pages -= pages;
    give_pages(heap, space, head, pages);
}

void gci_large_free(struct gc_heap *heap, gci_object object) {
    struct gci_arena *arena = &heap->arena;
    uint32_t head = gci_large_page(arena, object);
    struct gci_large *space = &heap->large[gci_tag_kind(arena->tags[gci_block_of(object.granule)])];
    bool old = arena->side[object.granule] & GCI_SIDE_MARK;
    list_remove(arena, old ? &space->old : &space->young, head);
    free_pages(heap, space, head);
}

bool gci_large_promote(struct gc_heap *heap, gci_object object) {
    struct gci_arena *arena = &heap->arena;
    uint8_t *side = &arena->side[object.granule];
    uint32_t head = gci_large_page(arena, object);
    struct gci_large *space = &heap->large[gci_tag_kind(arena->tags[gci_block_of(object.granule)])];
    if (*side & GCI_SIDE_MARK) return false;
    list_remove(arena, &space->young, head);
    list_push(arena, &space->old, head);
    *side |= GCI_SIDE_MARK;
    return true;
}

void gci_large_mark(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++)
        for (uint32_t p = heap->large[kind].young; p != GCI_NONE; p = arena->pages[p].next) {
            gci_object object = gci_large_object(arena, p);
            arena->side[object.granule] |= GCI_SIDE_MARK;
            heap->marker.marked_objects++;
            heap->marker.marked_granules += gci_large_bytes(arena, object) / GC_GRANULE;
        }
}

void gci_large_unmark(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        struct gci_large *space = &heap->large[kind];
        while (space->old != GCI_NONE) {
            uint32_t head = space->old;
            list_remove(arena, &space->old, head);
            list_push(arena, &space->young, head);
            arena->side[gci_large_object(arena, head).granule] &=
                (uint8_t) ~(GCI_SIDE_MARK | GCI_SIDE_HELD);
        }
    }
}

void gci_large_sweep(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        struct gci_large *space = &heap->large[kind];
        while (space->young != GCI_NONE) {
            uint32_t head = space->young;
            list_remove(arena, &space->young, head);
            if (arena->side[gci_large_object(arena, head).granule] & GCI_SIDE_MARK)
                list_push(arena, &space->old, head);
            else
                free_pages(heap, space, head);
        }
    }
}

size_t gci_large_count_dead(const struct gc_heap *heap, uint64_t *bytes) {
    const struct gci_arena *arena = &heap->arena;
    size_t dead = 0;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        uint32_t head = heap->large[kind].young;
        for (; head != GCI_NONE; head = arena->pages[head].next) {
            gci_object object = gci_large_object(arena, head);
            if (arena->side[object.granule] & GCI_SIDE_MARK) continue;
            *bytes += gci_large_bytes(arena, object);
            dead++;
        }
    }
    return dead;
}

/* Checks one list; adds its pages to *PAGES. */
static size_t check_list(const struct gc_heap *heap, const struct gci_large *space, uint32_t head,
    uint8_t side, uint64_t *pages) {
    const struct gci_arena *arena = &heap->arena;
    size_t broken = 0;
    for (; head != GCI_NONE; head = arena->pages[head].next) {
        const struct gci_page *page = &arena->pages[head];
        uint8_t seen =
            arena->side[gci_large_object(arena, head).granule] & (GCI_SIDE_START | GCI_SIDE_MARK);
        bool right = page->head == head && page->pages > 0 && seen == side;
        for (uint32_t p = head; right && p < head + page->pages; p++) {
            uint8_t tag = arena->tags[page_block(arena, p)];
            right = gci_tag_use(tag) == GCI_USE_LARGE && gci_tag_kind(tag) == space->kind &&
                    arena->pages[p].head == head;
        }
        if (!right) {
            gci_log("large object %p of %u pages: broken page table or side byte %#x",
                (void *)page_address(arena, head), page->pages, seen);
            broken++;
        }
        *pages += page->pages;
    }
    return broken;
}

size_t gci_check_large(const struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    size_t broken = 0;
    uint64_t blocks = 0, pages = 0;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        const struct gci_large *space = &heap->large[kind];
        uint64_t used = 0;
        broken += check_list(heap, space, space->young, GCI_SIDE_START, &used);
        broken += check_list(heap, space, space->old, GCI_SIDE_START | GCI_SIDE_MARK, &used);
        broken += gci_check_runs(&space->runs);
        if (used != space->used_pages) {
            gci_log("large space %u: %lu pages listed, %lu counted", kind, used, space->used_pages);
            broken++;
        }
        pages += used + space->runs.free_units;
    }
    for (uint32_t b = 0; b < arena->frontier; b++)
        blocks += gci_tag_use(arena->tags[b]) == GCI_USE_LARGE;
    if (blocks * pages_per_block(arena) != pages) {
        gci_log("large spaces: %lu blocks, but %lu pages used or free", blocks, pages);
        broken++;
    }
    return broken;
}
