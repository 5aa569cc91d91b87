/* The marker.  It follows ambiguous words to young objects: one test of the offset against the
 * frontier, one load of the block's tag, one of the side byte.  In a full collection every
 * object has been made young before, so that minor and full marking are the same code
 * (docs/collection.md, rule 3).
 *
 * Invariants: an object is marked when it is found and searched once, when it comes off the
 * stack; what is on the stack is marked.  A run popped waits in a short queue with its first
 * line prefetched (Cher, Hosking, Vitek: Software prefetching for mark-sweep garbage collection,
 * ASPLOS 2004).  If the stack can't grow, the marked heap is searched again until nothing more
 * is found (Boehm's recovery from mark stack overflow). */
#include "gc/mark.h"

#include "gc/block.h"
#include "gc/large.h"
#include "gc/remember.h"

#define PREFETCH_QUEUE 16u  /* a power of two */
#define PIECE_WORDS    2048 /* longer runs are searched piece by piece */

/* What the inner loop needs, in registers: stores to side bytes may alias anything in memory. */
struct view {
    uintptr_t base;
    size_t used_bytes;
    const uint8_t *tags;
    uint8_t *side;
    uint16_t *live;
};

static inline struct view view_of(const struct gci_marker *marker) {
    const struct gci_arena *arena = &marker->heap->arena;
    return (struct view){
        arena->base, gci_arena_used_bytes(arena), arena->tags, arena->side, arena->live};
}

static inline bool push(struct gci_mark_stack *stack, gci_words words) {
    if (__builtin_expect(stack->top == stack->limit, 0) && !gci_mark_stack_grow(stack))
        return false;
    *stack->top++ = words;
    return true;
}

/* Marks the unmarked object at GRANULE and pushes it unless it is a leaf. */
static inline __attribute__((always_inline)) void mark_object(
    struct gci_marker *marker, struct view v, size_t granule, uint8_t tag) {
    uint8_t side = v.side[granule];
    size_t granules;
    if (gci_tag_use(tag) == GCI_USE_LARGE) {
        granules = gci_large_bytes(&marker->heap->arena, (gci_object){granule}) / GC_GRANULE;
    } else {
        granules = gci_small_granules(v.side, granule);
        v.live[gci_block_of(granule)] += (uint16_t)granules;
    }
    v.side[granule] = side | GCI_SIDE_MARK;
    marker->marked_granules += granules;
    marker->marked_objects++;
    if (tag & GCI_TAG_LEAF) return;
    const uintptr_t *start = (const uintptr_t *)(v.base + (granule << GCI_GRANULE_SHIFT));
    gci_words words = {start, start + granules * (GC_GRANULE / sizeof *start)};
    if (!push(&marker->stack, words)) marker->stack.overflowed = true;
}

/* An ambiguous word that doesn't point into an object's first granule. */
static __attribute__((noinline)) void mark_interior(
    struct gci_marker *marker, gci_ambiguous word, uint8_t tag) {
    struct view v = view_of(marker);
    gci_object object;
    bool found =
        gci_tag_use(tag) == GCI_USE_LARGE
            ? gci_large_find(&marker->heap->arena, word.offset, &object)
            : gci_block_find(&marker->heap->arena, word.offset >> GCI_GRANULE_SHIFT, &object);
    if (!found || v.side[object.granule] & GCI_SIDE_MARK) return;
    mark_object(marker, v, object.granule, tag);
}

static inline __attribute__((always_inline)) void mark_ambiguous(
    struct gci_marker *marker, struct view v, gci_ambiguous word) {
    uint8_t tag = v.tags[word.offset >> GCI_BLOCK_SHIFT];
    if (!(tag & GCI_TAG_YOUNG)) return;
    size_t granule = word.offset >> GCI_GRANULE_SHIFT;
    uint8_t side = v.side[granule];
    if (side & GCI_SIDE_MARK) return;
    if (__builtin_expect(side & GCI_SIDE_START, 1))
        mark_object(marker, v, granule, tag);
    else
        mark_interior(marker, word, tag);
}

/* PAST_END: C allows a pointer one past an object's end, so a word at a granule's boundary also
 * means the byte before it (docs/roots.md). */
static inline __attribute__((always_inline, no_sanitize("address"))) void mark_words(
    struct gci_marker *marker, gci_words words, bool past_end) {
    struct view v = view_of(marker);
    /* One comparison for most words: with PAST_END the frontier itself counts too. */
    size_t bound = v.used_bytes + past_end;
    for (const uintptr_t *w = words.start; w < words.end; w++) {
        uintptr_t offset = *w - v.base;
        if (offset >= bound) continue;
        if (!past_end || offset < v.used_bytes) mark_ambiguous(marker, v, (gci_ambiguous){offset});
        if (past_end && offset % GC_GRANULE == 0 && offset != 0)
            mark_ambiguous(marker, v, (gci_ambiguous){offset - 1});
    }
}

__attribute__((no_sanitize("address"))) void gci_mark_root_words(
    struct gci_marker *marker, gci_words words) {
    mark_words(marker, words, true);
}

void gci_mark_heap_words(struct gci_marker *marker, gci_words words) {
    if (marker->past_end_in_heap)
        mark_words(marker, words, true);
    else
        mark_words(marker, words, false);
}

static inline bool pop(struct gci_mark_stack *stack, gci_words *words) {
    if (stack->top == stack->base && (stack->segment == NULL || !gci_mark_stack_shrink(stack)))
        return false;
    *words = *--stack->top;
    return true;
}

/* The queue is a ring of WAITING runs that ends before AT. */
static inline __attribute__((always_inline)) void drain_stack(
    struct gci_marker *marker, bool past_end) {
    gci_words queue[PREFETCH_QUEUE];
    unsigned at = 0, waiting = 0;
    for (;;) {
        while (waiting < PREFETCH_QUEUE && pop(&marker->stack, &queue[at % PREFETCH_QUEUE])) {
            __builtin_prefetch(queue[at++ % PREFETCH_QUEUE].start);
            waiting++;
        }
        if (waiting == 0) return;
        gci_words ready = queue[(at - waiting--) % PREFETCH_QUEUE];
        /* A long run is searched in pieces; if there is no room for the rest, at once. */
        gci_words rest = {ready.start + PIECE_WORDS, ready.end};
        if (ready.end - ready.start > PIECE_WORDS && push(&marker->stack, rest))
            ready.end = rest.start;
        mark_words(marker, ready, past_end);
    }
}

static void drain(struct gci_marker *marker) {
    if (marker->past_end_in_heap)
        drain_stack(marker, true);
    else
        drain_stack(marker, false);
}

void gci_mark_drain(struct gci_marker *marker) {
    drain(marker);
    while (marker->stack.overflowed) {
        marker->stack.overflowed = false;
        gci_remember_all_marked(marker->heap);
        drain(marker);
    }
}

void gci_mark_init(struct gc_heap *heap) {
    heap->marker = (struct gci_marker){.heap = heap,
        .stack.bytes_limit = heap->options.mark_stack_limit,
        .past_end_in_heap = heap->options.one_past_end_in_heap};
}
