/* The heap verifier: walks everything and states the invariants of docs/memory.md.  Slow and
 * simple on purpose: it shares neither the mask arithmetic nor the inner loops with what it
 * checks. */
#include "gc/verify.h"

#include "gc/allocate.h"
#include "gc/arena.h"
#include "gc/block.h"
#include "gc/identity.h"
#include "gc/large.h"
#include "gc/slots.h"
#include "gc/type.h"
#include "gc/watch.h"
#include "gc/word.h"
#include "runtime/log.h"

#define REPORTS 20u

static void report(
    size_t *broken, const struct gc_heap *heap, uint32_t block, size_t granule, const char *what) {
    if ((*broken)++ >= REPORTS) return;
    gci_log("verify: %p (block %u, tag %#x, side byte %#x, live %u): %s",
        (void *)gci_granule_address(&heap->arena, granule), block, heap->arena.tags[block],
        heap->arena.side[granule], heap->arena.live[block], what);
}

/* ---- Side bytes of one block of small objects ----------------------------------------------- */

static void check_small_block(const struct gc_heap *heap, uint32_t block, size_t *broken) {
    const struct gci_arena *arena = &heap->arena;
    uint8_t tag = arena->tags[block];
    size_t first = gci_block_granule(block), start = 0, live = 0;
    bool inside = false;
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g++) {
        uint8_t side = arena->side[g];
        if (side & GCI_SIDE_START) {
            if (inside) report(broken, heap, block, g, "an object starts inside another");
            inside = true;
            start = g;
            if (!(side & GCI_SIDE_MARK) && !(tag & (GCI_TAG_YOUNG | GCI_TAG_UNSWEPT)))
                report(broken, heap, block, g, "unmarked object in a swept old block");
            if ((side & (GCI_SIDE_MARK | GCI_SIDE_MOVED)) == (GCI_SIDE_MARK | GCI_SIDE_MOVED))
                report(broken, heap, block, g, "marked where it was moved from");
        } else if (side & (GCI_SIDE_MARK | GCI_SIDE_PINNED | GCI_SIDE_HELD | GCI_SIDE_MOVED |
                              GCI_SIDE_KEYED)) {
            report(broken, heap, block, g, "mark or pin without an object's start");
        }
        if (!(side & GCI_SIDE_END)) continue;
        if (!inside) report(broken, heap, block, g, "an object's end without its start");
        inside = false;
        size_t granules = g - start + 1;
        if (arena->side[start] & GCI_SIDE_MARK) live += granules;
        if (gci_tag_use(tag) == GCI_USE_CELLS) {
            size_t cell = gci_cell_bytes(arena->blocks[block].size_class) / GC_GRANULE;
            if (granules != cell || (start - first) % cell != 0)
                report(broken, heap, block, start, "not a cell of its block's size class");
        }
    }
    if (inside) report(broken, heap, block, start, "an object without an end");
    if (live != arena->live[block])
        report(broken, heap, block, first, "live count is not the marked granules' sum");
}

/* ---- Lists, tags, buffers ------------------------------------------------------------------- */

static void check_tag(const struct gc_heap *heap, uint32_t block, size_t *broken) {
    const struct gci_arena *arena = &heap->arena;
    uint8_t tag = arena->tags[block], list = arena->blocks[block].list;
    size_t first = gci_block_granule(block);
    if (tag & GCI_TAG_CLOSING) report(broken, heap, block, first, "left half closed");
    if ((tag & GCI_TAG_YOUNG) && (tag & GCI_TAG_UNSWEPT))
        report(broken, heap, block, first, "young and unswept at once");
    if ((tag & GCI_TAG_LEAF) && (tag & GCI_TAG_CLOSED))
        report(broken, heap, block, first, "a leaf block is protected");
    if (gci_tag_use(tag) == GCI_USE_FREE) {
        if (arena->live[block] != 0 ||
            (list != GCI_NO_LIST && list != GCI_POOL_LIST && list != GCI_QUARANTINE))
            report(broken, heap, block, first, "a free block with live objects or on a list");
        if (list == GCI_QUARANTINE && !arena->blocks[block].resident)
            report(broken, heap, block, first, "a block in quarantine that counts as returned");
    } else if (!arena->blocks[block].resident) {
        report(broken, heap, block, first, "a block in use that counts as returned");
    }
}

static void check_lists(const struct gc_heap *heap, size_t *broken) {
    const struct gci_block *blocks = heap->arena.blocks;
    uint32_t listed = 0, counted = 0;
    for (unsigned list = 0; list < GCI_LISTS; list++) {
        uint32_t prev = GCI_NONE;
        for (uint32_t b = heap->lists[list]; b != GCI_NONE; b = blocks[b].next) {
            if (blocks[b].list != list || blocks[b].prev != prev) {
                report(broken, heap, b, gci_block_granule(b), "on a list it does not know of");
                return;
            }
            prev = b;
            listed++;
        }
    }
    for (uint32_t b = 0; b < heap->arena.frontier; b++) counted += blocks[b].list < GCI_LISTS;
    if (listed != counted) {
        gci_log("verify: %u blocks on lists, %u say so", listed, counted);
        ++*broken;
    }
}

static void check_buffer(const struct gc_heap *heap, const struct gci_bump *bump, size_t *broken) {
    if (bump->buffer->limit == 0) return;
    for (uintptr_t p = bump->buffer->limit; p < bump->buffer->cursor; p += GC_GRANULE) {
        size_t granule = gci_address_granule(&heap->arena, p);
        const uint64_t *words = (const uint64_t *)p;
        if (heap->arena.side[granule] != 0 || words[0] != 0 || words[1] != 0) {
            report(broken, heap, gci_block_of(granule), granule, "an open buffer is not clear");
            return;
        }
    }
}

size_t gci_verify_heap(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    size_t broken = gci_check_arena(arena) + gci_check_large(heap) + gci_check_identities(heap) +
                    gci_check_watches(heap);
    for (uint32_t b = 0; b < arena->frontier; b++) {
        check_tag(heap, b, &broken);
        enum gci_use use = gci_tag_use(arena->tags[b]);
        if (use == GCI_USE_BUMP || use == GCI_USE_CELLS) check_small_block(heap, b, &broken);
    }
    check_lists(heap, &broken);
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next) {
        const struct gci_thread *thread = (const struct gci_thread *)(const void *)m;
        for (unsigned b = 0; b < GCI_BUFFERS; b++) check_buffer(heap, &thread->bump[b], &broken);
        for (unsigned kind = 0; kind < GCI_KINDS; kind++)
            check_buffer(heap, &thread->old[kind], &broken);
    }
    struct gci_barrier_stats stats;
    gci_barrier_get_stats(heap->barrier, &stats);
    if (stats.disagreements > 0) {
        gci_log("verify: the barrier backends disagreed on %lu pages", stats.disagreements);
        broken++;
    }
    if (heap->missed_stores > 0) {
        gci_log("verify: references stored without gc_write(): %lu", heap->missed_stores);
        broken++;
    }
    return broken;
}

/* ---- Marks ---------------------------------------------------------------------------------- */

/* Is WORD, at a granule's boundary, accounted for by the marked object that ends there?  Then it
 * may have been a pointer past that object's end before another object came to start there. */
static bool is_past_end(const struct gc_heap *heap, uintptr_t word) {
    gci_object object;
    return heap->options.one_past_end_in_heap && word % GC_GRANULE == 0 &&
           gci_find(heap, word - 1, &object) && heap->arena.side[object.granule] & GCI_SIDE_MARK;
}

/* Checks that ADDRESS, which is what the word at W means, isn't in an unmarked young object. */
static void check_address(
    const struct gc_heap *heap, uintptr_t address, const uintptr_t *w, size_t *broken) {
    const struct gci_arena *arena = &heap->arena;
    gci_object object;
    if (address - arena->base >= gci_arena_used_bytes(arena)) return;
    size_t granule = gci_address_granule(arena, address);
    uint32_t block = gci_block_of(granule);
    if (!(arena->tags[block] & GCI_TAG_YOUNG) || !gci_find(heap, address, &object)) return;
    if (arena->side[object.granule] & GCI_SIDE_MARK || is_past_end(heap, address)) return;
    if (*broken < REPORTS)
        gci_log("verify: the word at %p refers to the following, which was not marked:",
            (const void *)w);
    report(broken, heap, block, object.granule,
        arena->side[object.granule] & GCI_SIDE_MOVED ? "reachable where it was moved from"
                                                     : "reachable, and about to be freed");
}

static void check_tagged_word(const struct gc_heap *heap, const uintptr_t *w, size_t *broken) {
    uintptr_t address;
    if (gci_word_decode(&heap->words, *w, &address)) check_address(heap, address, w, broken);
}

struct field_check {
    const struct gc_heap *heap;
    size_t *broken;
};

static void check_field(gc_visitor *visitor, uintptr_t *slot) {
    const struct field_check *check = visitor->context;
    check_address(check->heap, *slot, slot, check->broken);
}

static void check_tagged_field(gc_visitor *visitor, uintptr_t *slot) {
    const struct field_check *check = visitor->context;
    check_tagged_word(check->heap, slot, check->broken);
}

/* All words of a marked object that may refer to others. */
static void check_object(const struct gc_heap *heap, size_t granule, size_t *broken) {
    uintptr_t start = gci_granule_address(&heap->arena, granule);
    uintptr_t end = start + gci_object_bytes(heap, (gci_object){granule});
    if (heap->arena.tags[gci_block_of(granule)] & GCI_TAG_TYPED) {
        struct field_check check = {heap, broken};
        const struct gci_type *type = gci_type_at(heap, granule);
        gc_visitor visitor = {type->worded ? check_tagged_field : check_field, &check, type, start,
            end, start, end, check_field};
        gci_type_visit(&visitor);
        return;
    }
    for (const uintptr_t *w = (const uintptr_t *)start; w < (const uintptr_t *)end; w++) {
        check_address(heap, *w, w, broken);
        if (heap->words.on) check_tagged_word(heap, w, broken);
    }
}

static void check_slots(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    const struct field_check *check = context;
    bool tagged = gci_root_is_worded(kind) && check->heap->words.on;
    for (const uintptr_t *slot = start; slot < end; slot++)
        if (tagged)
            check_tagged_word(check->heap, slot, check->broken);
        else
            check_address(check->heap, *slot, slot, check->broken);
}

void gci_verify_marks(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    size_t broken = 0;
    gci_slots_visit(heap, check_slots, &(struct field_check){heap, &broken});
    for (uint32_t b = 0; b < arena->frontier; b++) {
        if (!gci_tag_scanned(arena->tags[b])) continue;
        size_t first = gci_block_granule(b);
        for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g++) {
            if (arena->side[g] & GCI_SIDE_START && arena->side[g] & GCI_SIDE_MARK)
                check_object(heap, g, &broken);
        }
    }
    if (broken == 0) return;
    if (!heap->freed_by_hand) gci_fatal("%zu references to objects that were not marked", broken);
    gci_log("verify: %zu references to objects that were not marked, or dangling pointers to what "
            "gc_free() or gc_realloc() freed",
        broken);
}
