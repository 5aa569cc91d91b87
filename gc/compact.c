/* Compaction.  Between marking and settling it moves objects from sparse blocks to dense ones, and
 * then changes every precise reference to them; the settle phase finds the blocks they came from
 * empty.  Owns heap->compaction.  Invariants: what is marked is live, before and after, and a
 * block's live count is the sum of its marked granules; nothing that is HELD or PINNED moves, and
 * no block is a source in which a stopped thread has its open buffer.  Rules: docs/compaction.md.
 * Called by gc/collect.c with the world stopped. */
#include "gc/compact.h"

#include <string.h>

#include "gc/allocate.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/crew.h"
#include "gc/evacuate.h"
#include "gc/identity.h"
#include "gc/large.h"
#include "gc/mark.h"
#include "gc/slots.h"
#include "gc/type.h"
#include "gc/watch.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define CELLS_MOST 64u  /* more than a block has of any class */
#define STRETCH    32u  /* blocks that a member of the crew takes at a time */
#define MANY       256u /* blocks, for which it pays to wake the crew */
#define SPARSE     (GCI_BLOCK_GRANULES / 8 * 7) /* a cell block may be emptied if less is live */
#define SPARE      32u /* part of the limit by which to-spaces may exceed it, all being stopped */
#define ROUNDS     8u  /* of moving, each to what the one before emptied, if memory is short */

/* What is found before anything moves. */
struct plan {
    struct gc_heap *heap;
    bool pinned_types;   /* there are types whose objects may not move */
    uint64_t least_gain; /* bytes that emptying a block of bumped objects must bring */
    uint32_t spare;      /* blocks beyond the limit that may be moved to */
    uint64_t used, live; /* bytes, in blocks of kinds that may move */
    uint64_t gain;       /* bytes that compaction will bring */
    struct gci_compaction found;
    /* Cell blocks of each class, linked by NEXT; PREV says how many of a block's can't move. */
    uint32_t cells[GCI_KINDS][GCI_CLASSES];
    struct gci_to_space to[GCI_KINDS];
};

static uint32_t block_pages(const struct gci_arena *arena) {
    return 1u << (GCI_BLOCK_SHIFT - arena->page_shift);
}

static bool is_movable_block(uint8_t tag) {
    enum gci_use use = gci_tag_use(tag);
    return (use == GCI_USE_BUMP || use == GCI_USE_CELLS) && tag & (GCI_TAG_TYPED | GCI_TAG_LEAF);
}

/* ---- What can't move ------------------------------------------------------------------------ */

static bool is_pinned(const struct plan *plan, size_t granule, uint8_t tag) {
    if (plan->heap->arena.side[granule] & GCI_SIDE_PINNED) return true;
    return plan->pinned_types && tag & GCI_TAG_TYPED &&
           gci_type_at(plan->heap, granule)->flags & GC_TYPE_PINNED;
}

static bool may_move(const struct plan *plan, size_t granule, uint8_t tag) {
    return !(plan->heap->arena.side[granule] & GCI_SIDE_HELD) && !is_pinned(plan, granule, tag);
}

/* Live objects of a block that can't move. */
struct stuck {
    uint32_t objects, granules;
    uint32_t pinned; /* granules that are pinned, and not held */
    uint32_t pages;  /* a bit for each page with some of them */
};

static void add_stuck(
    const struct gci_arena *arena, struct stuck *stuck, size_t granule, size_t granules) {
    unsigned shift = arena->page_shift - GCI_GRANULE_SHIFT;
    size_t first = granule % GCI_BLOCK_GRANULES;
    stuck->objects++;
    stuck->granules += (uint32_t)granules;
    for (size_t page = first >> shift; page <= (first + granules - 1) >> shift; page++)
        stuck->pages |= 1u << page;
}

static struct stuck find_stuck(const struct plan *plan, uint32_t b) {
    const struct gci_arena *arena = &plan->heap->arena;
    uint8_t tag = arena->tags[b];
    struct stuck stuck = {0, 0, 0, 0};
    uint64_t wanted = (uint64_t)(GCI_SIDE_HELD | GCI_SIDE_PINNED) * 0x0101010101010101u;
    if (plan->pinned_types && tag & GCI_TAG_TYPED) wanted = GCI_SIDE_START * 0x0101010101010101u;
    size_t first = gci_block_granule(b);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += 8) {
        for (uint64_t bytes = gci_load8(arena->side + g) & wanted; bytes != 0;) {
            unsigned at = (unsigned)__builtin_ctzll(bytes) / 8;
            bytes &= ~((uint64_t)0xff << 8 * at);
            if (!(arena->side[g + at] & GCI_SIDE_MARK) || may_move(plan, g + at, tag)) continue;
            size_t granules = gci_small_granules(arena->side, g + at);
            add_stuck(arena, &stuck, g + at, granules);
            if (!(arena->side[g + at] & GCI_SIDE_HELD)) stuck.pinned += (uint32_t)granules;
        }
    }
    return stuck;
}

/* ---- Choosing ------------------------------------------------------------------------------- */

/* Emptying a block brings the block; or, if something stays, the pages on which nothing does.  It
 * costs the room for what is moved (rule 4). */
static void plan_bump(struct plan *plan, uint32_t b, const struct stuck *stuck) {
    struct gci_arena *arena = &plan->heap->arena;
    uint64_t moving = (uint64_t)(arena->live[b] - stuck->granules) * GC_GRANULE;
    uint64_t freed = GCI_BLOCK_BYTES;
    if (stuck->objects > 0) {
        uint32_t pages = block_pages(arena) - (uint32_t)__builtin_popcount(stuck->pages);
        freed = (uint64_t)pages << arena->page_shift;
    }
    if (moving == 0 || freed < moving + plan->least_gain) return;
    plan->gain += freed - moving;
    arena->blocks[b].list = GCI_SOURCE_LIST;
    arena->blocks[b].prev = stuck->objects;
}

static void plan_cells(struct plan *plan, uint32_t b, const struct stuck *stuck) {
    struct gci_block *block = &plan->heap->arena.blocks[b];
    uint32_t *head = &plan->cells[gci_tag_kind(plan->heap->arena.tags[b])][block->size_class];
    block->next = *head;
    block->prev = stuck->objects;
    *head = b;
}

static uint32_t cell_granules(uint32_t bytes) {
    return bytes / GC_GRANULE;
}

/* How many blocks of a class are left over when their cells are moved together. */
static void count_cells(struct plan *plan, uint32_t b, uint32_t each) {
    const struct gci_arena *arena = &plan->heap->arena;
    uint64_t cells = 0, blocks = 0, emptied = 0;
    for (; b != GCI_NONE; b = arena->blocks[b].next) {
        cells += arena->live[b] / each;
        blocks++;
        emptied += arena->blocks[b].prev == 0 && arena->live[b] < SPARSE;
    }
    uint64_t need = (cells + GCI_BLOCK_GRANULES / each - 1) / (GCI_BLOCK_GRANULES / each);
    if (emptied > blocks - need) emptied = blocks - need;
    plan->gain += emptied * GCI_BLOCK_BYTES;
}

/* Looks at every block; those with nothing live in them are given back at once, so that there is
 * room to move to.  All lists are made anew by the settle phase. */
static void survey(struct plan *plan) {
    struct gc_heap *heap = plan->heap;
    struct gci_arena *arena = &heap->arena;
    struct gci_compaction *stats = &plan->found;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b], list = arena->blocks[b].list;
        if (gci_tag_use(tag) == GCI_USE_FREE || gci_tag_use(tag) == GCI_USE_LARGE) continue;
        if (list < GCI_LISTS) gci_list_remove(heap, b);
        if (list != GCI_KEPT_LIST) {
            arena->blocks[b].list = GCI_NO_LIST;
            if (arena->live[b] == 0) {
                gci_block_give_empty(heap, b);
                continue;
            }
        }
        uint64_t live = (uint64_t)arena->live[b] * GC_GRANULE;
        stats->used_before += GCI_BLOCK_BYTES;
        stats->live += live;
        if (!is_movable_block(tag)) {
            stats->by_kind += live;
            continue;
        }
        plan->used += GCI_BLOCK_BYTES;
        plan->live += live;
        struct stuck stuck = find_stuck(plan, b);
        stats->by_pins += (uint64_t)stuck.pinned * GC_GRANULE;
        if (list == GCI_KEPT_LIST) continue;
        if (gci_tag_use(tag) == GCI_USE_BUMP)
            plan_bump(plan, b, &stuck);
        else
            plan_cells(plan, b, &stuck);
    }
    for (unsigned kind = 0; kind < GCI_KINDS; kind++)
        for (unsigned c = 0; c < GCI_CLASSES; c++)
            count_cells(plan, plan->cells[kind][c], cell_granules(gci_cell_bytes(c)));
}

/* ---- Moving --------------------------------------------------------------------------------- */

/* Moves the object at granule FROM, of a block tagged TAG, to granule TO.  What is marked from now
 * on is the copy; that is counted by who has made room for it. */
static inline __attribute__((always_inline)) void move_object(
    struct gc_heap *heap, size_t from, size_t to, size_t granules, uint8_t tag) {
    struct gci_arena *arena = &heap->arena;
    if (tag & GCI_TAG_TYPED)
        gci_copy_object(arena->base, arena->side, arena->types, from, to, granules);
    else
        gci_copy_leaf(arena->base, arena->side, from, to, granules);
    arena->side[from] &= (uint8_t)~GCI_SIDE_MARK;
    arena->live[gci_block_of(from)] -= (uint16_t)granules;
    heap->marker.marked_granules -= granules;
    heap->marker.marked_objects--;
}

/* All that may move out of block B.  False if memory is short. */
static bool move_bumped(struct plan *plan, uint32_t b) {
    struct gc_heap *heap = plan->heap;
    struct gci_arena *arena = &heap->arena;
    uint8_t tag = arena->tags[b];
    struct gci_to_space *to = &plan->to[gci_tag_kind(tag)];
    size_t first = gci_block_granule(b);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += 64) {
        struct gci_side_masks masks = gci_side_masks64(arena->side + g);
        for (uint64_t live = masks.start & masks.mark; live != 0; live &= live - 1) {
            size_t granule = g + (unsigned)__builtin_ctzll(live);
            if (!may_move(plan, granule, tag)) continue;
            size_t granules = gci_small_granules(arena->side, granule);
            if (to->limit - to->cursor < granules * GC_GRANULE && !gci_to_space_refill(heap, to))
                return false;
            size_t copy = gci_address_granule(arena, to->cursor);
            to->cursor += granules * GC_GRANULE;
            to->objects++;
            move_object(heap, granule, copy, granules, tag);
        }
    }
    return true;
}

/* Those in which something stays, if STAYS, or the others; the sparsest first, so that what memory
 * there is serves the most.  False if it is short. */
static bool move_some_bumped(struct plan *plan, bool stays) {
    const struct gci_arena *arena = &plan->heap->arena;
    for (unsigned eighth = 0; eighth < 8; eighth++) {
        for (uint32_t b = 0; b < arena->frontier; b++) {
            if (arena->blocks[b].list != GCI_SOURCE_LIST ||
                gci_tag_use(arena->tags[b]) != GCI_USE_BUMP ||
                arena->live[b] / (GCI_BLOCK_GRANULES / 8) != eighth ||
                (arena->blocks[b].prev > 0) != stays)
                continue;
            if (!move_bumped(plan, b)) return false;
        }
    }
    return true;
}

/* For blocks that will be free the limit may be exceeded: as many are emptied as are moved to, at
 * least (rule 5).  False if memory is short. */
static bool move_all_bumped(struct plan *plan) {
    struct gc_heap *heap = plan->heap;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++)
        plan->to[kind] = (struct gci_to_space){.kind = (enum gci_kind)kind, .block = GCI_NONE};
    heap->arena.block_limit += plan->spare;
    bool all = move_some_bumped(plan, false);
    heap->arena.block_limit -= plan->spare;
    all = all && move_some_bumped(plan, true);
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) gci_to_space_retire(heap, &plan->to[kind]);
    return all;
}

/* Cell blocks by how many cells live in them, those that can't be emptied last of all. */
struct by_fullness {
    uint32_t first[CELLS_MOST + 1];
    uint64_t room; /* free cells in all of them */
};

static void sort_cells(struct plan *plan, uint32_t b, uint32_t each, struct by_fullness *sorted) {
    struct gci_arena *arena = &plan->heap->arena;
    for (unsigned i = 0; i <= CELLS_MOST; i++) sorted->first[i] = GCI_NONE;
    sorted->room = 0;
    while (b != GCI_NONE) {
        struct gci_block *block = &arena->blocks[b];
        uint32_t next = block->next, live = arena->live[b] / each;
        uint32_t *head = &sorted->first[block->prev > 0 ? CELLS_MOST : live];
        block->next = *head;
        *head = b;
        sorted->room += GCI_BLOCK_GRANULES / each - live;
        b = next;
    }
}

static uint32_t take_fullest(const struct gci_arena *arena, struct by_fullness *sorted) {
    for (unsigned i = CELLS_MOST + 1; i-- > 0;) {
        uint32_t b = sorted->first[i];
        if (b == GCI_NONE) continue;
        sorted->first[i] = arena->blocks[b].next;
        return b;
    }
    return GCI_NONE;
}

static uint32_t take_sparsest(const struct gci_arena *arena, struct by_fullness *sorted) {
    for (unsigned i = 0; i < CELLS_MOST; i++) {
        uint32_t b = sorted->first[i];
        if (b == GCI_NONE) continue;
        sorted->first[i] = arena->blocks[b].next;
        return b;
    }
    return GCI_NONE;
}

/* Where cells go: the next cell of BLOCK that isn't live. */
struct cell_room {
    uint32_t block, next;
};

static size_t take_cell(
    struct plan *plan, struct by_fullness *sorted, uint32_t each, struct cell_room *room) {
    struct gci_arena *arena = &plan->heap->arena;
    for (;;) {
        if (room->block == GCI_NONE || room->next == GCI_BLOCK_GRANULES / each) {
            *room = (struct cell_room){take_fullest(arena, sorted), 0};
            GCI_ASSERT(room->block != GCI_NONE);
        }
        size_t granule = gci_block_granule(room->block) + room->next++ * each;
        if (!(arena->side[granule] & GCI_SIDE_MARK)) return granule;
    }
}

/* Empties the sparsest blocks of a class into the fullest as long as a whole one fits. */
static void move_class(struct plan *plan, uint32_t blocks, uint32_t each) {
    struct gc_heap *heap = plan->heap;
    struct gci_arena *arena = &heap->arena;
    struct by_fullness sorted;
    struct cell_room room = {GCI_NONE, 0};
    uint32_t most = GCI_BLOCK_GRANULES / each;
    sort_cells(plan, blocks, each, &sorted);
    for (;;) {
        uint32_t from = take_sparsest(arena, &sorted);
        if (from == GCI_NONE || arena->live[from] >= SPARSE) return;
        uint32_t live = arena->live[from] / each;
        sorted.room -= most - live; /* its own is no room any more */
        if (sorted.room < live) return;
        sorted.room -= live;
        arena->blocks[from].list = GCI_SOURCE_LIST;
        uint8_t tag = arena->tags[from];
        size_t first = gci_block_granule(from);
        for (uint32_t i = 0; i < most; i++) {
            size_t granule = first + i * each;
            if (!(arena->side[granule] & GCI_SIDE_MARK)) continue;
            size_t copy = take_cell(plan, &sorted, each, &room);
            move_object(heap, granule, copy, each, tag);
            arena->live[gci_block_of(copy)] += (uint16_t)each;
            heap->marker.marked_granules += each;
            heap->marker.marked_objects++;
            heap->moved_now += each * GC_GRANULE;
        }
    }
}

/* What is protected is opened first, in runs: the collector is about to write all over it. */
static void open_typed(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    const uint8_t wanted = GCI_TAG_TYPED | GCI_TAG_CLOSED;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint32_t first = b;
        while (b < arena->frontier && (arena->tags[b] & wanted) == wanted) b++;
        if (b > first) gci_block_open(heap, first, b - first);
    }
}

/* ---- Fixing --------------------------------------------------------------------------------- */

/* *WORD, from the field SLOT, is a plain reference, or NULL, or lies outside the heap. */
static inline __attribute__((always_inline)) void fix_reference(const struct gc_heap *heap,
    uintptr_t base, size_t used, uintptr_t *word, const uintptr_t *slot) {
    const struct gci_arena *arena = &heap->arena;
    uintptr_t offset = *word - base;
    if (offset >= used) return;
    if (arena->blocks[offset >> GCI_BLOCK_SHIFT].list != GCI_SOURCE_LIST) return;
    gci_object object = {offset >> GCI_GRANULE_SHIFT};
    uint8_t side = arena->side[object.granule];
    if (side & GCI_SIDE_MOVED && offset % GC_GRANULE == 0) {
        *word = *(const uintptr_t *)(base + offset);
        return;
    }
    if (gci_block_find(arena, object.granule, &object) &&
        arena->side[object.granule] & GCI_SIDE_MOVED)
        gci_refuse_interior(heap, slot, object.granule);
}

static void fix_plain(const struct gc_heap *heap, uintptr_t *slot) {
    fix_reference(heap, heap->arena.base, gci_arena_used_bytes(&heap->arena), slot, slot);
}

/* A word of the heap's format. */
static void fix_tagged(const struct gc_heap *heap, uintptr_t *slot) {
    uintptr_t before, address;
    if (!gci_word_decode(&heap->words, *slot, &before)) return;
    address = before;
    fix_reference(heap, heap->arena.base, gci_arena_used_bytes(&heap->arena), &address, slot);
    if (address != before) *slot = gci_word_encode(&heap->words, *slot, address);
}

static void fix_field(gc_visitor *visitor, uintptr_t *slot) {
    fix_plain(visitor->context, slot);
}

static void fix_tagged_field(gc_visitor *visitor, uintptr_t *slot) {
    fix_tagged(visitor->context, slot);
}

/* All fields of the object [START, END). */
static inline __attribute__((always_inline)) void fix_object(
    struct gc_heap *heap, uintptr_t start, uintptr_t end) {
    const struct gci_arena *arena = &heap->arena;
    const struct gci_type *type = gci_type_at(heap, gci_address_granule(arena, start));
    const uintptr_t base = arena->base;
    const size_t used = gci_arena_used_bytes(arena);
    if (type->map != 0 && end - start == type->granules * GC_GRANULE) {
        for (uint64_t map = type->map; map != 0; map &= map - 1)
            fix_reference(heap, base, used, (uintptr_t *)start + __builtin_ctzll(map),
                (uintptr_t *)start + __builtin_ctzll(map));
    } else if (type->dense) {
        for (uintptr_t *slot = (uintptr_t *)start; slot < (uintptr_t *)end; slot++)
            fix_reference(heap, base, used, slot, slot);
    } else {
        gc_visitor visitor = {type->worded ? fix_tagged_field : fix_field, heap, type, start, end,
            start, end, fix_field};
        gci_type_visit(&visitor);
    }
}

static void fix_block(struct gc_heap *heap, uint32_t b) {
    const struct gci_arena *arena = &heap->arena;
    size_t first = gci_block_granule(b);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += 64) {
        struct gci_side_masks masks = gci_side_masks64(arena->side + g);
        for (uint64_t live = masks.start & masks.mark; live != 0; live &= live - 1) {
            size_t granule = g + (unsigned)__builtin_ctzll(live);
            uintptr_t start = gci_granule_address(arena, granule);
            fix_object(heap, start, start + gci_small_granules(arena->side, granule) * GC_GRANULE);
        }
    }
}

/* A member's part: one stretch of blocks after another, until *CONTEXT, the next, is at the end. */
static void fix_blocks(struct gci_marker *marker, void *context) {
    struct gc_heap *heap = marker->heap;
    const struct gci_arena *arena = &heap->arena;
    for (;;) {
        uint32_t b = __atomic_fetch_add((uint32_t *)context, STRETCH, __ATOMIC_RELAXED);
        if (b >= arena->frontier) return;
        uint32_t end = arena->frontier - b < STRETCH ? arena->frontier : b + STRETCH;
        for (; b < end; b++) {
            uint8_t tag = arena->tags[b];
            if (tag & GCI_TAG_TYPED && is_movable_block(tag) && arena->live[b] > 0)
                fix_block(heap, b);
        }
    }
}

/* They are all young still. */
static void fix_large(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    for (uint32_t page = heap->large[GCI_TYPED].young; page != GCI_NONE;
         page = arena->pages[page].next) {
        gci_object object = {(size_t)page << (arena->page_shift - GCI_GRANULE_SHIFT)};
        if (!(arena->side[object.granule] & GCI_SIDE_MARK)) continue;
        uintptr_t start = gci_granule_address(arena, object.granule);
        fix_object(heap, start, start + gci_large_bytes(arena, object));
    }
}

static void fix_slots(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    const struct gc_heap *heap = context;
    bool tagged = gci_root_is_worded(kind) && heap->words.on;
    for (const uintptr_t *slot = start; slot < end; slot++)
        if (tagged)
            fix_tagged(heap, (uintptr_t *)(uintptr_t)slot);
        else
            fix_plain(heap, (uintptr_t *)(uintptr_t)slot);
}

static void fix_references(struct gc_heap *heap) {
    uint32_t next = 0;
    gci_slots_visit(heap, fix_slots, heap);
    fix_large(heap);
    if (heap->arena.frontier >= MANY && gci_crew_call(heap))
        gci_crew_run(heap, fix_blocks, &next);
    else
        fix_blocks(&heap->marker, &next);
}

/* ---- In rounds ------------------------------------------------------------------------------ */

static void fix_all(struct gc_heap *heap) {
    fix_references(heap);
    gci_identity_update(heap, true);
    gci_watches_update(heap, true);
}

/* How many blocks of bumped objects there were that nothing is in any more, nor refers to. */
static uint32_t give_emptied(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    uint32_t given = 0;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        if (arena->blocks[b].list != GCI_SOURCE_LIST || arena->live[b] > 0 ||
            gci_tag_use(arena->tags[b]) != GCI_USE_BUMP)
            continue;
        gci_block_give_empty(heap, b);
        given++;
    }
    return given;
}

/* One round is enough, unless memory is short. */
static void move_objects(struct plan *plan) {
    struct gc_heap *heap = plan->heap;
    uint64_t fixed = 0; /* what had been moved then */
    open_typed(heap);
    for (unsigned round = 1; !move_all_bumped(plan) && round < ROUNDS; round++) {
        if (heap->moved_now == fixed) break;
        fix_all(heap);
        fixed = heap->moved_now;
        if (give_emptied(heap) == 0) break;
    }
    for (unsigned kind = 0; kind < GCI_KINDS; kind++)
        for (unsigned c = 0; c < GCI_CLASSES; c++)
            move_class(plan, plan->cells[kind][c], cell_granules(gci_cell_bytes(c)));
    if (heap->moved_now > fixed) fix_all(heap);
}

/* ---- What could not be emptied -------------------------------------------------------------- */

/* Returns the pages of block B on which nothing lives to the system. */
static uint64_t release_pages(struct gci_arena *arena, uint32_t b) {
    uint64_t cover[GCI_MASK_WORDS], released = 0;
    gci_marked_cover(arena, gci_block_granule(b), GCI_MASK_WORDS, cover);
    uint32_t pages = block_pages(arena), words = GCI_MASK_WORDS / pages;
    size_t bytes = (size_t)1 << arena->page_shift;
    for (uint32_t page = 0; page < pages; page++) {
        uint32_t first = page;
        for (; page < pages; page++) {
            uint64_t used = 0;
            for (uint32_t w = 0; w < words; w++) used |= cover[page * words + w];
            if (used != 0) break;
        }
        if (page == first) continue;
        uintptr_t start = gci_block_address(arena, b) + first * bytes;
        if (gci_vm_discard((void *)start, (page - first) * bytes) == 0)
            released += (page - first) * bytes;
    }
    return released;
}

/* No block of these is protected any more (rule 6).  Under CAIRN_POISON the dead are filled. */
static void release_parts(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    if (heap->options.poison) return;
    for (uint32_t b = 0; b < arena->frontier; b++)
        if (arena->blocks[b].list == GCI_SOURCE_LIST && arena->live[b] > 0 &&
            gci_tag_use(arena->tags[b]) == GCI_USE_BUMP)
            heap->compaction.released += release_pages(arena, b);
}

/* ---- The script ----------------------------------------------------------------------------- */

static bool has_pinned_types(const struct gc_heap *heap) {
    if (heap->types == NULL) return false;
    for (uint32_t i = 0; i < heap->types->count; i++)
        if (heap->types->all[i]->flags & GC_TYPE_PINNED) return true;
    return false;
}

bool gci_compact(struct gc_heap *heap, bool asked, uint64_t by_roots) {
    uint64_t start_ns = gci_clock_ns();
    struct plan plan = {.heap = heap,
        .pinned_types = has_pinned_types(heap),
        .least_gain = gci_policy_least_gain(asked),
        .spare = asked && heap->arena.block_limit < GCI_NONE / 2
                     ? heap->arena.block_limit / SPARE + 1
                     : 0,
        .found = {.count = heap->compaction.count + 1,
            .by_roots = by_roots * GC_GRANULE,
            .by_objects = (heap->marker.held_granules - by_roots) * GC_GRANULE}};
    memset(plan.cells, 0xff, sizeof plan.cells); /* GCI_NONE */
    survey(&plan);
    if (!asked && !gci_policy_compacts(heap, plan.used, plan.live, plan.gain)) return false;
    heap->compaction = plan.found;
    if (plan.gain > 0) {
        move_objects(&plan);
        release_parts(heap); /* and with the pages what says where things went */
        if (!asked && heap->moved_now == 0) gci_policy_compacts_later(heap);
    }
    heap->compaction.moved = heap->moved_now;
    heap->compaction.ns = gci_clock_ns() - start_ns;
    return true;
}

void gci_compact_log(const struct gc_heap *heap) {
    const struct gci_compaction *c = &heap->compaction;
    gci_log(
        "compacted: blocks of small objects %lu KB before, %lu KB after, %lu KB live; moved %lu KB "
        "in %lu us; could not move: %lu KB held by roots, %lu KB by objects, %lu KB pinned, "
        "%lu KB without a type; %lu KB given back",
        c->used_before / 1024, c->used_after / 1024, c->live / 1024, c->moved / 1024, c->ns / 1000,
        c->by_roots / 1024, c->by_objects / 1024, c->by_pins / 1024, c->by_kind / 1024,
        c->released / 1024);
}
