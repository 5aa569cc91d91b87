/* Finds references that were stored without gc_write(): on the pages of closed blocks to which page
 * protection saw a write, the fields that refer to a young object though their card isn't set.  A
 * store of a number needs no gc_write(), so that a written page alone says nothing, and a reference
 * to an old object can't be missed (docs/barrier.md, rule 16).  Called by gc/collect.c with the
 * world stopped.  Slow and simple, like the verifier. */
#include "gc/missed.h"

#include "gc/block.h"
#include "gc/type.h"
#include "gc/word.h"
#include "runtime/log.h"

#define REPORTS 20u

/* One object, and the part of it on a written page. */
struct object_check {
    struct gc_heap *heap;
    const uint8_t *cards;
    uintptr_t start, end, from, to;
    const char *type;
};

static const char *type_name(const struct gc_heap *heap, size_t granule) {
    bool typed = heap->arena.tags[gci_block_of(granule)] & GCI_TAG_TYPED;
    return typed ? gci_type_at(heap, granule)->desc.name : "none";
}

/* The word at SLOT means ADDRESS. */
static void check_address(
    const struct object_check *check, uintptr_t address, const uintptr_t *slot) {
    struct gc_heap *heap = check->heap;
    const struct gci_arena *arena = &heap->arena;
    gci_object object;
    if (check->cards[(uintptr_t)slot >> GC_CARD_SHIFT] != 0 || !gci_find(heap, address, &object))
        return;
    if (!(arena->tags[gci_block_of(object.granule)] & GCI_TAG_YOUNG) ||
        arena->side[object.granule] & GCI_SIDE_MARK)
        return;
    if (heap->missed_stores++ >= REPORTS) return;
    gci_log("missed store: the word at %p, %zu bytes into the old object of %zu bytes (type %s) at "
            "%p, refers to the young object (type %s) at %p, but was not stored by gc_write()",
        (const void *)slot, (size_t)((uintptr_t)slot - check->start),
        (size_t)(check->end - check->start), check->type, (void *)check->start,
        type_name(heap, object.granule), (void *)address);
}

static void check_field(gc_visitor *visitor, uintptr_t *slot) {
    check_address(visitor->context, *slot, slot);
}

static void check_tagged_field(gc_visitor *visitor, uintptr_t *slot) {
    const struct object_check *check = visitor->context;
    uintptr_t address;
    if (gci_word_decode(&check->heap->words, *slot, &address)) check_address(check, address, slot);
}

/* The part on the page [FROM, TO) of the object at GRANULE, which may be dead. */
static void check_object(struct object_check check, size_t granule, uintptr_t from, uintptr_t to) {
    struct gc_heap *heap = check.heap;
    if (!(heap->arena.side[granule] & GCI_SIDE_MARK)) return;
    check.start = gci_granule_address(&heap->arena, granule);
    check.end = check.start + gci_object_bytes(heap, (gci_object){granule});
    check.type = type_name(heap, granule);
    check.from = from > check.start ? from : check.start;
    check.to = to < check.end ? to : check.end;
    if (heap->arena.tags[gci_block_of(granule)] & GCI_TAG_TYPED) {
        const struct gci_type *type = gci_type_at(heap, granule);
        gc_visitor visitor = {type->worded ? check_tagged_field : check_field, &check, type,
            check.start, check.end, check.from, check.to, check_field};
        gci_type_visit(&visitor);
        return;
    }
    const uintptr_t *end = (const uintptr_t *)check.to;
    for (const uintptr_t *w = (const uintptr_t *)check.from; w < end; w++)
        check_address(&check, *w, w);
}

/* A run of written pages in closed blocks. */
static void check_pages(void *context, uintptr_t start, size_t bytes) {
    struct gc_heap *heap = context;
    const struct gci_arena *arena = &heap->arena;
    struct object_check check = {.heap = heap, .cards = gci_barrier_cards(heap->barrier)};
    size_t page = (size_t)1 << arena->page_shift;
    for (uintptr_t from = start; from < start + bytes; from += page) {
        size_t granule = gci_address_granule(arena, from), end = granule + page / GC_GRANULE;
        gci_object object;
        if (!(arena->side[granule] & GCI_SIDE_START) && gci_find(heap, from, &object))
            check_object(check, object.granule, from, from + page);
        for (; granule < end; granule++)
            if (arena->side[granule] & GCI_SIDE_START)
                check_object(check, granule, from, from + page);
    }
}

void gci_missed_stores_find(struct gc_heap *heap) {
    if (gci_barrier_kind(heap->barrier) != GC_BARRIER_EXPLICIT_CROSS) return;
    const struct gci_arena *arena = &heap->arena;
    uint64_t before = heap->missed_stores;
    for (uint32_t b = 0, end; b < arena->frontier; b = end) {
        end = b + 1;
        if (!gci_tag_scanned(arena->tags[b]) || !(arena->tags[b] & GCI_TAG_CLOSED)) continue;
        while (end < arena->frontier && gci_tag_scanned(arena->tags[end]) &&
               arena->tags[end] & GCI_TAG_CLOSED)
            end++;
        gci_barrier_compare(heap->barrier, gci_block_address(arena, b),
            (size_t)(end - b) << GCI_BLOCK_SHIFT, check_pages, heap);
    }
    if (heap->missed_stores != before && heap->options.verify)
        gci_fatal("references stored into old objects without gc_write(): %lu",
            heap->missed_stores - before);
}
