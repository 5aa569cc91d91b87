/* Evacuation.  Survivors of a minor collection are copied, one behind the other, into blocks that
 * are old from the start; the copy's address is left in the first word of what it was copied from.
 * Owns heap->to_space.  Invariants: nothing is moved that an ambiguous word may mean
 * (docs/moving.md, rules 1 to 3); a copy is marked, and on the mark stack or searched.  Called by
 * the collecting thread alone, with the world stopped. */
#include "gc/evacuate.h"

#include "gc/block.h"
#include "gc/large.h"
#include "gc/mark.h"
#include "gc/type.h"
#include "gc/word.h"

#define MANY_BYTES ((uint64_t)1 << 20)
#define FEW_SHARE  8u  /* young ambiguous blocks are few up to 1/8 of the typed ones, */
#define FEW_ALWAYS 16u /* or as many as go with 16 more of these */

/* ---- Holding what young ambiguous objects may mean ------------------------------------------ */

static void hold(const struct gc_heap *heap, uintptr_t offset) {
    const struct gci_arena *arena = &heap->arena;
    const uint8_t wanted = GCI_TAG_TYPED | GCI_TAG_YOUNG;
    if (offset >= gci_arena_used_bytes(arena)) return;
    uint8_t tag = arena->tags[offset >> GCI_BLOCK_SHIFT];
    if ((tag & wanted) != wanted || gci_tag_use(tag) == GCI_USE_LARGE) return;
    gci_object object;
    if (gci_block_find(arena, offset >> GCI_GRANULE_SHIFT, &object) &&
        !(arena->side[object.granule] & GCI_SIDE_MARK))
        arena->side[object.granule] |= GCI_SIDE_HELD;
}

static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void hold_words(
    const struct gc_heap *heap, size_t granule, size_t bytes) {
    const uintptr_t *w = (const uintptr_t *)gci_granule_address(&heap->arena, granule);
    const uintptr_t *end = w + bytes / sizeof *w;
    for (; w < end; w++) {
        uintptr_t offset = *w - heap->arena.base;
        hold(heap, offset);
        if (heap->options.one_past_end_in_heap && offset % GC_GRANULE == 0) hold(heap, offset - 1);
    }
    if (!heap->words.on) return;
    for (w = (const uintptr_t *)gci_granule_address(&heap->arena, granule); w < end; w++) {
        uintptr_t address;
        if (gci_word_decode(&heap->words, *w, &address)) hold(heap, address - heap->arena.base);
    }
}

/* Whether they are reachable isn't known yet: all are searched. */
static void hold_from_small(const struct gc_heap *heap, uint32_t block) {
    const uint8_t *side = heap->arena.side;
    size_t first = gci_block_granule(block);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += 64) {
        struct gci_side_masks masks = gci_side_masks64(side + g);
        for (uint64_t young = masks.start & ~masks.mark; young != 0; young &= young - 1) {
            size_t granule = g + (unsigned)__builtin_ctzll(young);
            hold_words(heap, granule, gci_small_granules(side, granule) * GC_GRANULE);
        }
    }
}

static bool is_young_holder(uint8_t tag) {
    return (tag & GCI_TAG_YOUNG) && gci_tag_scanned(tag) && !(tag & GCI_TAG_TYPED);
}

static void hold_young(const struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    for (uint32_t b = 0; b < arena->frontier; b++)
        if (is_young_holder(arena->tags[b]) && gci_tag_use(arena->tags[b]) != GCI_USE_LARGE)
            hold_from_small(heap, b);
    for (uint32_t page = heap->large[GCI_AMBIGUOUS].young; page != GCI_NONE;
         page = arena->pages[page].next) {
        gci_object object = gci_large_object(arena, page);
        hold_words(heap, object.granule, gci_large_bytes(arena, object));
    }
}

/* Did most of what was allocated before the last minor collection survive it?  What is dense
 * already needs no copying, and most probably it goes on like that. */
static bool most_survives(const struct gc_heap *heap) {
    return heap->survived_last > MANY_BYTES && heap->survived_last > heap->survived_of / 2;
}

bool gci_evacuation_begin(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    uint64_t typed = 0, ambiguous = 0;
    heap->to_space = (struct gci_to_space){.kind = GCI_TYPED, .block = GCI_NONE};
    if (!gci_may_move(heap) || most_survives(heap)) return false;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        ambiguous += is_young_holder(tag);
        typed += (tag & (GCI_TAG_YOUNG | GCI_TAG_TYPED)) == (GCI_TAG_YOUNG | GCI_TAG_TYPED);
    }
    if (typed == 0 || ambiguous * FEW_SHARE > typed + FEW_ALWAYS) return false;
    hold_young(heap);
    return true;
}

/* ---- Copying -------------------------------------------------------------------------------- */

void gci_to_space_retire(struct gc_heap *heap, struct gci_to_space *to) {
    if (to->block == GCI_NONE) return;
    size_t granules = (to->cursor - gci_block_address(&heap->arena, to->block)) / GC_GRANULE;
    heap->arena.live[to->block] = (uint16_t)granules;
    heap->marker.marked_granules += granules;
    heap->marker.marked_objects += to->objects;
    heap->moved_now += granules * GC_GRANULE;
    to->objects = 0;
    unsigned eighths = heap->arena.live[to->block] / (GCI_BLOCK_GRANULES / 8);
    if (eighths < GCI_LISTED_EIGHTHS)
        gci_list_push(heap, gci_list_of_bump(to->kind, eighths), to->block);
    to->block = GCI_NONE;
    to->cursor = to->limit = 0;
}

bool gci_to_space_refill(struct gc_heap *heap, struct gci_to_space *to) {
    uint32_t block = to->exhausted ? GCI_NONE : gci_block_new(heap, GCI_USE_BUMP, to->kind, true);
    to->exhausted = block == GCI_NONE;
    if (to->exhausted) return false;
    gci_block_clear_new(heap, block);
    heap->arena.blocks[block].zeroed = false;
    gci_tag_change(&heap->arena, block, GCI_TAG_YOUNG, 0);
    gci_to_space_retire(heap, to);
    to->block = block;
    to->cursor = gci_block_address(&heap->arena, block);
    to->limit = to->cursor + GCI_BLOCK_BYTES;
    return true;
}

gci_words gci_evacuate_slowly(
    struct gci_marker *marker, size_t granule, const struct gci_type *type) {
    struct gc_heap *heap = marker->heap;
    const struct gci_to_space *to = &heap->to_space;
    if (type == &gci_type_by_tag) type = gci_type_ask(heap, granule);
    if (type->flags & GC_TYPE_PINNED) return gci_run(0, 0, 0);
    size_t granules = gci_small_granules(heap->arena.side, granule);
    if (to->limit - to->cursor < granules * GC_GRANULE &&
        !gci_to_space_refill(heap, &heap->to_space))
        return gci_run(0, 0, 0);
    return gci_evacuate_now(marker, granule, granules, type);
}

/* The loop that copying spends its time in: the fewest instructions for objects of hot types.  What
 * it changes often is kept in registers and brought back to the heap's structures in between. */
struct mover {
    struct gci_marker *marker;
    gci_words *top, *base, *limit; /* of the mark stack */
    uintptr_t cursor, room_end;    /* of the to-space */
    uint64_t objects;
};

static inline __attribute__((always_inline)) struct mover take_over(struct gci_marker *marker) {
    const struct gci_to_space *to = &marker->heap->to_space;
    const struct gci_mark_stack *stack = &marker->stack;
    return (struct mover){
        marker, stack->top, stack->base, stack->limit, to->cursor, to->limit, to->objects};
}

static inline __attribute__((always_inline)) void hand_back(const struct mover *m) {
    struct gci_to_space *to = &m->marker->heap->to_space;
    m->marker->stack.top = m->top;
    to->cursor = m->cursor;
    to->objects = m->objects;
}

bool gci_evacuate_fields(struct gci_marker *marker, gci_words *run) {
    struct gc_heap *heap = marker->heap;
    const struct gci_arena *arena = &heap->arena;
    const struct gci_type *const *table = heap->types->table;
    const uintptr_t base = arena->base;
    const size_t used = gci_arena_used_bytes(arena);
    const uint8_t *tags = arena->tags;
    uint8_t *side = arena->side, *types = arena->types;
    struct mover m = take_over(marker);
    for (;;) {
        if (m.top == m.base) {
            hand_back(&m);
            if (!gci_mark_pop(&marker->stack, run)) return false;
            m = take_over(marker);
        } else {
            *run = *--m.top;
        }
        if (((uintptr_t)run->start & 3) != GCI_RUN_FIELDS) {
            hand_back(&m);
            return true;
        }
        const struct gci_type *type = (const struct gci_type *)(const void *)run->end;
        uintptr_t *fields = (uintptr_t *)((uintptr_t)run->start - GCI_RUN_FIELDS);
        for (uint64_t map = type->map; map != 0; map &= map - 1) {
            uintptr_t *slot = fields + __builtin_ctzll(map), offset = *slot - base;
            if (offset >= used) continue;
            uint8_t tag = tags[offset >> GCI_BLOCK_SHIFT];
            if (!(tag & GCI_TAG_YOUNG)) continue;
            size_t granule = offset >> GCI_GRANULE_SHIFT;
            const uint8_t edges = side[granule], hot = types[granule];
            if (edges & GCI_SIDE_MARK) continue;
            /* A hot type's objects are known by one byte, and all of one size. */
            const uint8_t plain =
                GCI_SIDE_START | GCI_SIDE_MOVED | GCI_SIDE_HELD | GCI_SIDE_PINNED | GCI_SIDE_KEY;
            bool plain_hot =
                (edges & plain) == GCI_SIDE_START && hot - 1u < GC_HOT_TYPES &&
                (tag & (GCI_TAG_TYPED | GCI_TAG_USE)) == (GCI_TAG_TYPED | GCI_USE_BUMP);
            const struct gci_type *its = plain_hot ? table[hot] : &gci_no_type;
            size_t bytes = its->plain * GC_GRANULE; /* 0: not this way */
            if (bytes - 1 >= m.room_end - m.cursor || m.top == m.limit) {
                hand_back(&m);
                gci_mark_slot(marker, slot);
                m = take_over(marker);
                continue;
            }
            uintptr_t copy = m.cursor;
            size_t to = (copy - base) >> GCI_GRANULE_SHIFT;
            m.cursor = copy + bytes;
            m.objects++;
            *m.top++ = gci_run(copy, (uintptr_t)its, GCI_RUN_FIELDS);
            gci_copy_leaf(base, side, granule, to, bytes / GC_GRANULE);
            types[to] = hot;
            if (bytes > GC_GRANULE) types[to + 1] = hot;
            *slot = copy;
        }
    }
}

void gci_evacuation_end(struct gc_heap *heap) {
    gci_to_space_retire(heap, &heap->to_space);
}
