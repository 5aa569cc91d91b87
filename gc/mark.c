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
#include "gc/crew.h"
#include "gc/large.h"
#include "gc/remember.h"

#define PREFETCH_QUEUE 16u   /* a power of two */
#define PIECE_WORDS    2048  /* longer runs are searched piece by piece */
#define ALONE          4096u /* runs searched before the crew is called: some 50 us, as is a call */
#define LOOK_AROUND    32u   /* runs searched between two looks whether another waits for work */

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
        arena->base, gci_arena_used_bytes(arena), arena->tags, arena->side, marker->live};
}

static inline bool push(struct gci_mark_stack *stack, gci_words words) {
    if (__builtin_expect(stack->top == stack->limit, 0) && !gci_mark_stack_grow(stack))
        return false;
    *stack->top++ = words;
    return true;
}

/* Sets the mark; false if another marker was faster.  SHARED: there may be others. */
static inline __attribute__((always_inline)) bool set_mark(uint8_t *byte, bool shared) {
    uint8_t side = __atomic_load_n(byte, __ATOMIC_RELAXED);
    if (!shared) {
        *byte = side | GCI_SIDE_MARK;
        return true;
    }
    do {
        if (side & GCI_SIDE_MARK) return false;
    } while (!__atomic_compare_exchange_n(
        byte, &side, (uint8_t)(side | GCI_SIDE_MARK), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return true;
}

/* Marks the object at GRANULE, which was found unmarked, and pushes it unless it is a leaf. */
static inline __attribute__((always_inline)) void mark_object(
    struct gci_marker *marker, struct view v, size_t granule, uint8_t tag, bool shared) {
    if (!set_mark(&v.side[granule], shared)) return;
    size_t granules;
    if (gci_tag_use(tag) == GCI_USE_LARGE) {
        granules = gci_large_bytes(&marker->heap->arena, (gci_object){granule}) / GC_GRANULE;
    } else {
        granules = gci_small_granules(v.side, granule);
        v.live[gci_block_of(granule)] += (uint16_t)granules;
    }
    marker->marked_granules += granules;
    marker->marked_objects++;
    if (tag & GCI_TAG_LEAF) return;
    const uintptr_t *start = (const uintptr_t *)(v.base + (granule << GCI_GRANULE_SHIFT));
    gci_words words = {start, start + granules * (GC_GRANULE / sizeof *start)};
    if (!push(&marker->stack, words)) marker->stack.overflowed = true;
}

/* An ambiguous word that doesn't point into an object's first granule. */
static __attribute__((noinline)) void mark_interior(
    struct gci_marker *marker, gci_ambiguous word, uint8_t tag, bool shared) {
    struct view v = view_of(marker);
    gci_object object;
    bool found =
        gci_tag_use(tag) == GCI_USE_LARGE
            ? gci_large_find(&marker->heap->arena, word.offset, &object)
            : gci_block_find(&marker->heap->arena, word.offset >> GCI_GRANULE_SHIFT, &object);
    if (!found || v.side[object.granule] & GCI_SIDE_MARK) return;
    mark_object(marker, v, object.granule, tag, shared);
}

static inline __attribute__((always_inline)) void mark_ambiguous(
    struct gci_marker *marker, struct view v, gci_ambiguous word, bool shared) {
    uint8_t tag = v.tags[word.offset >> GCI_BLOCK_SHIFT];
    if (!(tag & GCI_TAG_YOUNG)) return;
    size_t granule = word.offset >> GCI_GRANULE_SHIFT;
    uint8_t side = v.side[granule];
    if (side & GCI_SIDE_MARK) return;
    if (__builtin_expect(side & GCI_SIDE_START, 1))
        mark_object(marker, v, granule, tag, shared);
    else
        mark_interior(marker, word, tag, shared);
}

/* PAST_END: C allows a pointer one past an object's end, so a word at a granule's boundary also
 * means the byte before it (docs/roots.md). */
static inline __attribute__((always_inline, no_sanitize("address"), no_sanitize("thread"))) void
mark_words(struct gci_marker *marker, gci_words words, bool past_end, bool shared) {
    struct view v = view_of(marker);
    /* One comparison for most words: with PAST_END the frontier itself counts too. */
    size_t bound = v.used_bytes + past_end;
    for (const uintptr_t *w = words.start; w < words.end; w++) {
        uintptr_t offset = *w - v.base;
        if (offset >= bound) continue;
        if (!past_end || offset < v.used_bytes)
            mark_ambiguous(marker, v, (gci_ambiguous){offset}, shared);
        if (past_end && offset % GC_GRANULE == 0 && offset != 0)
            mark_ambiguous(marker, v, (gci_ambiguous){offset - 1}, shared);
    }
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) void gci_mark_root_words(
    struct gci_marker *marker, gci_words words) {
    mark_words(marker, words, true, false);
}

void gci_mark_heap_words(struct gci_marker *marker, gci_words words) {
    if (marker->past_end_in_heap)
        mark_words(marker, words, true, false);
    else
        mark_words(marker, words, false, false);
}

static inline bool pop(struct gci_mark_stack *stack, gci_words *words) {
    if (stack->top == stack->base && (stack->segment == NULL || !gci_mark_stack_shrink(stack)))
        return false;
    *words = *--stack->top;
    return true;
}

/* Searches what is on the stack, and what that leads to.  Alone, only up to LIMIT runs: then it
 * returns false, with everything back on the stack.  SHARED: feeds members of the crew that wait.
 * The queue is a ring of WAITING runs that ends before AT. */
static inline __attribute__((always_inline)) bool drain_stack(
    struct gci_marker *marker, bool past_end, bool shared, uint64_t limit) {
    gci_words queue[PREFETCH_QUEUE];
    unsigned at = 0, waiting = 0;
    for (uint64_t searched = 0;; searched++) {
        while (waiting < PREFETCH_QUEUE && pop(&marker->stack, &queue[at % PREFETCH_QUEUE])) {
            __builtin_prefetch(queue[at++ % PREFETCH_QUEUE].start);
            waiting++;
        }
        if (waiting == 0) return true;
        if (!shared && searched >= limit) {
            while (waiting > 0 && push(&marker->stack, queue[(at - waiting) % PREFETCH_QUEUE]))
                waiting--;
            if (waiting == 0) return false;
        }
        gci_words ready = queue[(at - waiting--) % PREFETCH_QUEUE];
        /* A long run is searched in pieces; if there is no room for the rest, at once. */
        gci_words rest = {ready.start + PIECE_WORDS, ready.end};
        if (ready.end - ready.start > PIECE_WORDS && push(&marker->stack, rest))
            ready.end = rest.start;
        mark_words(marker, ready, past_end, shared);
        if (shared && searched % LOOK_AROUND == 0 && gci_crew_is_hungry(marker->crew))
            gci_crew_feed(marker);
    }
}

static bool drain_alone(struct gci_marker *marker, uint64_t limit) {
    return marker->past_end_in_heap ? drain_stack(marker, true, false, limit)
                                    : drain_stack(marker, false, false, limit);
}

/* A member's part of the job. */
static void drain_together(struct gci_marker *marker, void *context) {
    (void)context;
    do {
        if (marker->past_end_in_heap)
            drain_stack(marker, true, true, 0);
        else
            drain_stack(marker, false, true, 0);
    } while (gci_crew_wait(marker));
}

static void drain(struct gci_marker *marker) {
    if (drain_alone(marker, ALONE)) return;
    struct gc_heap *heap = marker->heap;
    if (gci_crew_call(heap)) {
        gci_crew_run(heap, drain_together, NULL);
        gci_crew_sum(heap);
    } else {
        drain_alone(marker, UINT64_MAX);
    }
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
        .past_end_in_heap = heap->options.one_past_end_in_heap,
        .live = heap->arena.live};
}
