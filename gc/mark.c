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
#include "gc/ephemeron.h"
#include "gc/evacuate.h"
#include "gc/large.h"
#include "gc/remember.h"
#include "gc/type.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define PREFETCH_QUEUE 16u   /* a power of two */
#define PIECE_WORDS    2048  /* longer runs are searched piece by piece */
#define FIRST_RUNS     4096u /* runs searched before the crew is called: some 50 us, as is a call */
#define LOOK_AROUND    32u   /* runs searched between two looks whether another waits for work */
#define CALL_AT_ONCE   65536u /* words of roots for which it is called first: 20 to 150 us */

/* Who marks beside this marker, and whether the objects it marks may be keys that ephemerons wait
 * for (docs/ephemerons.md, rule 6).  A constant in the loops that matter. */
enum marking { ALONE, SHARED, WATCHING };

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

inline __attribute__((always_inline)) void gci_mark_push(struct gci_marker *marker, gci_words run) {
    if (!gci_mark_stack_push(&marker->stack, run)) marker->stack.overflowed = true;
}

/* Sets the mark; false if another marker was faster. */
static inline __attribute__((always_inline)) bool set_mark(uint8_t *byte, enum marking how) {
    uint8_t side = __atomic_load_n(byte, __ATOMIC_RELAXED);
    if (how != SHARED) {
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
    struct gci_marker *marker, struct view v, size_t granule, uint8_t tag, enum marking how) {
    if (!set_mark(&v.side[granule], how)) return;
    if (how == WATCHING && v.side[granule] & GCI_SIDE_KEY)
        gci_ephemeron_key_found(marker->heap, granule);
    size_t granules;
    if (gci_tag_use(tag) == GCI_USE_LARGE) {
        granules = gci_large_bytes(&marker->heap->arena, (gci_object){granule}) / GC_GRANULE;
    } else {
        granules = gci_small_granules(v.side, granule);
        /* Of the arena's table others may read, when they search open blocks. */
        uint16_t *live = &v.live[gci_block_of(granule)];
        __atomic_store_n(live, (uint16_t)(*live + granules), __ATOMIC_RELAXED);
    }
    marker->marked_granules += granules;
    marker->marked_objects++;
    if (tag & GCI_TAG_LEAF) return;
    uintptr_t start = v.base + (granule << GCI_GRANULE_SHIFT);
    if (!(tag & GCI_TAG_TYPED)) {
        gci_mark_push(marker, gci_run(start, start + granules * GC_GRANULE, 0));
        return;
    }
    gci_mark_push(
        marker, gci_run_of_object(gci_type_recorded(marker->heap, granule), start, granules));
}

/* In a collection that compacts: an ambiguous word means the object at GRANULE, so it stays. */
static inline __attribute__((always_inline)) void hold_object(
    struct gci_marker *marker, struct view v, size_t granule, uint8_t tag, enum marking how) {
    if (!(tag & (GCI_TAG_TYPED | GCI_TAG_LEAF)) || gci_tag_use(tag) == GCI_USE_LARGE) return;
    uint8_t *byte = &v.side[granule], side = __atomic_load_n(byte, __ATOMIC_RELAXED);
    if (side & GCI_SIDE_HELD) return;
    if (how != SHARED)
        *byte = side | GCI_SIDE_HELD;
    else if (__atomic_fetch_or(byte, GCI_SIDE_HELD, __ATOMIC_RELAXED) & GCI_SIDE_HELD)
        return;
    marker->held_granules += gci_small_granules(v.side, granule);
}

/* An ambiguous word that doesn't point into an object's first granule. */
static __attribute__((noinline)) void mark_interior(
    struct gci_marker *marker, gci_ambiguous word, uint8_t tag, enum marking how, bool hold) {
    struct view v = view_of(marker);
    gci_object object;
    bool found =
        gci_tag_use(tag) == GCI_USE_LARGE
            ? gci_large_find(&marker->heap->arena, word.offset, &object)
            : gci_block_find(&marker->heap->arena, word.offset >> GCI_GRANULE_SHIFT, &object);
    if (!found) return;
    if (hold) hold_object(marker, v, object.granule, tag, how);
    if (v.side[object.granule] & GCI_SIDE_MARK) return;
    mark_object(marker, v, object.granule, tag, how);
}

/* HOLD: what it refers to is held besides, marked before or not (docs/compaction.md, rule 2). */
static inline __attribute__((always_inline)) void mark_ambiguous(
    struct gci_marker *marker, struct view v, gci_ambiguous word, enum marking how, bool hold) {
    uint8_t tag = v.tags[word.offset >> GCI_BLOCK_SHIFT];
    if (!(tag & GCI_TAG_YOUNG)) return;
    size_t granule = word.offset >> GCI_GRANULE_SHIFT;
    uint8_t side = v.side[granule];
    if (hold && side & GCI_SIDE_START) hold_object(marker, v, granule, tag, how);
    if (side & GCI_SIDE_MARK) return;
    if (__builtin_expect(side & GCI_SIDE_START, 1))
        mark_object(marker, v, granule, tag, how);
    else
        mark_interior(marker, word, tag, how, hold);
}

/* PAST_END: C allows a pointer one past an object's end, so a word at a granule's boundary also
 * means the byte before it (docs/roots.md). */
static inline __attribute__((always_inline, no_sanitize("address"), no_sanitize("thread"))) void
mark_words(struct gci_marker *marker, gci_words words, bool past_end, enum marking how, bool hold) {
    struct view v = view_of(marker);
    /* One comparison for most words: with PAST_END the frontier itself counts too. */
    size_t bound = v.used_bytes + past_end;
    for (const uintptr_t *w = words.start; w < words.end; w++) {
        uintptr_t offset = *w - v.base;
        if (offset >= bound) continue;
        if (!past_end || offset < v.used_bytes)
            mark_ambiguous(marker, v, (gci_ambiguous){offset}, how, hold);
        if (past_end && offset % GC_GRANULE == 0 && offset != 0)
            mark_ambiguous(marker, v, (gci_ambiguous){offset - 1}, how, hold);
    }
}

/* Beside mark_words(): what the words mean by the heap's format.  An object's end has no tag. */
static __attribute__((noinline, no_sanitize("address"), no_sanitize("thread"))) void
mark_decoded_words(struct gci_marker *marker, gci_words words, enum marking how, bool hold) {
    struct view v = view_of(marker);
    const struct gci_word_format *format = &marker->heap->words;
    for (const uintptr_t *w = words.start; w < words.end; w++) {
        uintptr_t address;
        if (!gci_word_decode(format, *w, &address) || address - v.base >= v.used_bytes) continue;
        mark_ambiguous(marker, v, (gci_ambiguous){address - v.base}, how, hold);
    }
}

static inline __attribute__((always_inline, no_sanitize("address"), no_sanitize("thread"))) void
mark_root_words(struct gci_marker *marker, gci_words words, enum marking how, bool hold) {
    if (marker->heap->layer->has_slack)
        mark_words(marker, words, false, how, false);
    else
        mark_words(marker, words, true, how, hold);
    if (__builtin_expect(marker->heap->words.on, 0)) mark_decoded_words(marker, words, how, hold);
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) void gci_mark_root_words(
    struct gci_marker *marker, gci_words words) {
    if (marker->holding)
        mark_root_words(marker, words, ALONE, true);
    else
        mark_root_words(marker, words, ALONE, false);
}

/* In pieces, the last first, so that they are searched from the first on.  Without room for all of
 * them the rest is searched now. */
bool gci_mark_roots_later(struct gci_marker *marker, gci_words words) {
    const struct gci_arena *arena = &marker->heap->arena;
    uintptr_t start = (uintptr_t)words.start, end = (uintptr_t)words.end;
    bool in_heap = start < arena->base + arena->reserved && end > arena->base;
    bool at_once = marker->moving || marker->holding || marker->watching;
    if (in_heap || at_once || gci_crew_size(marker->heap) == 0) return false;
    marker->put_off += (uint64_t)(words.end - words.start);
    while (words.start < words.end) {
        size_t left = (size_t)(words.end - words.start);
        const uintptr_t *from = words.end - (left < PIECE_WORDS ? left : PIECE_WORDS);
        gci_words piece = gci_run((uintptr_t)from, (uintptr_t)words.end, GCI_RUN_OBJECTS);
        if (!gci_mark_stack_push(&marker->stack, piece)) break;
        words.end = from;
    }
    if (words.start < words.end) gci_mark_root_words(marker, words);
    return true;
}

/* What gci_mark_roots_later() put off. */
static __attribute__((noinline, no_sanitize("address"), no_sanitize("thread"))) void mark_put_off(
    struct gci_marker *marker, gci_words words, enum marking how) {
    uint64_t before = gci_clock_ns();
    if (how == SHARED)
        mark_root_words(marker, words, SHARED, false);
    else
        mark_root_words(marker, words, ALONE, false);
    marker->put_off_ns += gci_clock_ns() - before;
}

/* As for gci_mark_heap_words(), while ephemerons wait for keys. */
static __attribute__((noinline, no_sanitize("address"), no_sanitize("thread"))) void
mark_watched_words(struct gci_marker *marker, gci_words words) {
    if (marker->heap->words.on) mark_decoded_words(marker, words, WATCHING, marker->holding);
    mark_words(marker, words, marker->past_end_in_heap, WATCHING, marker->holding);
}

void gci_mark_heap_words(struct gci_marker *marker, gci_words words) {
    if (__builtin_expect(marker->watching, 0)) {
        mark_watched_words(marker, words);
        return;
    }
    if (__builtin_expect(marker->heap->words.on, 0))
        mark_decoded_words(marker, words, ALONE, marker->holding);
    if (marker->holding)
        mark_words(marker, words, marker->past_end_in_heap, ALONE, true);
    else if (marker->past_end_in_heap)
        mark_words(marker, words, true, ALONE, false);
    else
        mark_words(marker, words, false, ALONE, false);
}

void gci_mark_shared_words(struct gci_marker *marker, gci_words words) {
    if (__builtin_expect(marker->heap->words.on, 0))
        mark_decoded_words(marker, words, SHARED, false);
    if (marker->past_end_in_heap)
        mark_words(marker, words, true, SHARED, false);
    else
        mark_words(marker, words, false, SHARED, false);
}

/* ---- Typed objects -------------------------------------------------------------------------- */

__attribute__((noinline)) void gci_refuse_interior(
    const struct gc_heap *heap, const uintptr_t *slot, size_t granule) {
    bool typed = heap->arena.tags[gci_block_of(granule)] & GCI_TAG_TYPED;
    gci_fatal(
        "the typed field at %p refers into the middle of an object of type %s, which has moved: "
        "such a field must hold the start of an object",
        (const void *)slot, typed ? gci_type_at(heap, granule)->desc.name : "leaf");
}

/* *WORD, from the field SLOT, is a reference, or NULL, or lies outside the heap.  MOVE: what it
 * refers to may be evacuated, and *WORD is changed then. */
static inline __attribute__((always_inline)) void mark_reference(struct gci_marker *marker,
    struct view v, uintptr_t *word, const uintptr_t *slot, enum marking how, bool move) {
    uintptr_t offset = *word - v.base;
    if (offset >= v.used_bytes) return;
    uint8_t tag = v.tags[offset >> GCI_BLOCK_SHIFT];
    if (!(tag & GCI_TAG_YOUNG)) return;
    size_t granule = offset >> GCI_GRANULE_SHIFT;
    uint8_t side = v.side[granule];
    if (side & GCI_SIDE_MARK) return;
    if (__builtin_expect(!(side & GCI_SIDE_START), 0)) {
        gci_object object;
        if (move && (tag & GCI_TAG_TYPED) && gci_tag_use(tag) != GCI_USE_LARGE &&
            gci_block_find(&marker->heap->arena, granule, &object) &&
            v.side[object.granule] & GCI_SIDE_MOVED)
            gci_refuse_interior(marker->heap, slot, object.granule);
        mark_interior(marker, (gci_ambiguous){offset}, tag, how, false);
        return;
    }
    if (move && (tag & (GCI_TAG_TYPED | GCI_TAG_USE)) == (GCI_TAG_TYPED | GCI_USE_BUMP)) {
        if (side & GCI_SIDE_MOVED) {
            *word = *(const uintptr_t *)(v.base + (granule << GCI_GRANULE_SHIFT));
            return;
        }
        if (!(side & (GCI_SIDE_HELD | GCI_SIDE_PINNED))) {
            if (__builtin_expect(side & GCI_SIDE_KEY, 0))
                gci_ephemeron_key_found(marker->heap, granule);
            gci_words run = gci_evacuate(marker, granule);
            if (run.end != NULL) {
                *word = (uintptr_t)run.start & ~(uintptr_t)3;
                gci_mark_push(marker, run);
                return;
            }
        }
    }
    mark_object(marker, v, granule, tag, how);
}

/* A field that holds a plain word. */
static inline __attribute__((always_inline)) void mark_slot(
    struct gci_marker *marker, struct view v, uintptr_t *slot, enum marking how, bool move) {
    mark_reference(marker, v, slot, slot, how, move);
}

/* A field that holds a word of the heap's format.  The bits that aren't its address stay. */
static inline __attribute__((always_inline)) void mark_tagged_slot(
    struct gci_marker *marker, uintptr_t *slot, enum marking how, bool move) {
    const struct gci_word_format *format = &marker->heap->words;
    uintptr_t before, address;
    if (!gci_word_decode(format, *slot, &before)) return;
    address = before;
    mark_reference(marker, view_of(marker), &address, slot, how, move);
    if (move && address != before) *slot = gci_word_encode(format, *slot, address);
}

static void visit_alone(gc_visitor *visitor, uintptr_t *slot) {
    struct gci_marker *marker = visitor->context;
    mark_slot(marker, view_of(marker), slot, ALONE, false);
}

static void visit_shared(gc_visitor *visitor, uintptr_t *slot) {
    struct gci_marker *marker = visitor->context;
    mark_slot(marker, view_of(marker), slot, SHARED, false);
}

static void visit_watching(gc_visitor *visitor, uintptr_t *slot) {
    struct gci_marker *marker = visitor->context;
    mark_slot(marker, view_of(marker), slot, WATCHING, false);
}

static void visit_moving(gc_visitor *visitor, uintptr_t *slot) {
    struct gci_marker *marker = visitor->context;
    mark_slot(marker, view_of(marker), slot, WATCHING, true);
}

static void visit_tagged_alone(gc_visitor *visitor, uintptr_t *slot) {
    mark_tagged_slot(visitor->context, slot, WATCHING, false);
}

static void visit_tagged_shared(gc_visitor *visitor, uintptr_t *slot) {
    mark_tagged_slot(visitor->context, slot, SHARED, false);
}

static void visit_tagged_moving(gc_visitor *visitor, uintptr_t *slot) {
    mark_tagged_slot(visitor->context, slot, WATCHING, true);
}

/* The fields that MAP says. */
static inline __attribute__((always_inline)) void mark_map(
    struct gci_marker *marker, uint64_t map, uintptr_t object, enum marking how, bool move) {
    struct view v = view_of(marker);
    for (; map != 0; map &= map - 1)
        mark_slot(marker, v, (uintptr_t *)object + __builtin_ctzll(map), how, move);
}

/* Those in [FROM, TO). */
static void mark_some(struct gci_marker *marker, const struct gci_type *type, uintptr_t object,
    uintptr_t from, uintptr_t to, enum marking how, bool move) {
    for (uint64_t map = type->element_map; map != 0; map &= map - 1) {
        uintptr_t slot = object + (uintptr_t)__builtin_ctzll(map) * sizeof slot;
        if (slot < from || slot >= to) continue;
        if (move)
            mark_slot(marker, view_of(marker), (uintptr_t *)slot, WATCHING, true);
        else
            mark_slot(marker, view_of(marker), (uintptr_t *)slot, how, false);
    }
}

/* Those in [FROM, TO) of an object of a type with WORDED set. */
static void mark_worded(struct gci_marker *marker, const struct gci_type *type, uintptr_t object,
    uintptr_t end, uintptr_t from, uintptr_t to, enum marking how, bool move);

/* The fields in [FROM, TO) of the object [OBJECT, END). */
static inline __attribute__((always_inline)) void mark_fields(struct gci_marker *marker,
    const struct gci_type *type, uintptr_t object, uintptr_t end, uintptr_t from, uintptr_t to,
    enum marking how, bool move) {
    if (type->map != 0 && from == object && to == end &&
        end - object == type->granules * GC_GRANULE) {
        mark_map(marker, type->map, object, how, move);
        return;
    }
    if (!move && type->dense) {
        mark_words(marker, (gci_words){(uintptr_t *)from, (uintptr_t *)to}, false, how, false);
        return;
    }
    if (type->map != 0) {
        uintptr_t e = object + (from - object) / type->size * type->size;
        for (; e < to && end - e >= type->size; e += type->size) {
            if (e >= from && e + type->size <= to)
                mark_map(marker, type->element_map, e, how, move);
            else
                mark_some(marker, type, e, from, to, how, move);
        }
        return;
    }
    if (__builtin_expect(type->worded, 0)) {
        mark_worded(marker, type, object, end, from, to, how, move);
        return;
    }
    gc_visitor visitor = {move              ? visit_moving
                          : how == SHARED   ? visit_shared
                          : how == WATCHING ? visit_watching
                                            : visit_alone,
        marker, type, object, end, from, to, NULL};
    gci_type_visit(&visitor);
}

/* Those in [FROM, TO) of an object of a type of gc/ephemeron.c's, entry by entry: what an entry is
 * known to keep already. */
static void mark_weak(struct gci_marker *marker, enum gci_weak weak, uintptr_t object,
    uintptr_t end, uintptr_t from, uintptr_t to, enum marking how, bool move) {
    uintptr_t entry = object + (from - object) / GCI_ENTRY_BYTES * GCI_ENTRY_BYTES;
    for (; entry < to && end - entry >= GCI_ENTRY_BYTES; entry += GCI_ENTRY_BYTES) {
        uintptr_t *held =
            gci_ephemeron_meet(marker, (struct gci_entry *)entry, weak, how == SHARED);
        if (held == NULL) continue;
        if (move)
            mark_slot(marker, view_of(marker), held, WATCHING, true);
        else
            mark_slot(marker, view_of(marker), held, how, false);
    }
}

static __attribute__((noinline)) void mark_worded(struct gci_marker *marker,
    const struct gci_type *type, uintptr_t object, uintptr_t end, uintptr_t from, uintptr_t to,
    enum marking how, bool move) {
    const struct gc_heap *heap = marker->heap;
    if (type == &gci_type_by_tag)
        type = gci_type_ask(heap, gci_address_granule(&heap->arena, object));
    if (type->weak != GCI_WEAK_NONE) {
        mark_weak(marker, type->weak, object, end, from, to, how, move);
        return;
    }
    if (!type->worded) {
        if (move)
            mark_fields(marker, type, object, end, from, to, WATCHING, true);
        else
            mark_fields(marker, type, object, end, from, to, how, false);
        return;
    }
    gc_visitor visitor = {move            ? visit_tagged_moving
                          : how == SHARED ? visit_tagged_shared
                                          : visit_tagged_alone,
        marker, type, object, end, from, to,
        move            ? visit_moving
        : how == SHARED ? visit_shared
                        : visit_watching};
    gci_type_visit(&visitor);
}

/* The typed object that covers FROM, as far as it is below TO.  Returns its end. */
static inline __attribute__((always_inline)) uintptr_t mark_typed(
    struct gci_marker *marker, uintptr_t from, uintptr_t to, enum marking how, bool move) {
    const struct gc_heap *heap = marker->heap;
    gci_object object = {gci_address_granule(&heap->arena, from)};
    uint8_t side = heap->arena.side[object.granule];
    if (!(side & GCI_SIDE_START) && !gci_find(heap, from, &object)) return to;
    uintptr_t start = gci_granule_address(&heap->arena, object.granule);
    uintptr_t end = start + gci_object_bytes(heap, object);
    mark_fields(marker, gci_type_recorded(heap, object.granule), start, end, from,
        to < end ? to : end, how, move);
    return end;
}

/* The marked objects that overlap [START, END), in one TYPED block of small objects; both are
 * multiples of 64 granules. */
static inline __attribute__((always_inline)) void mark_small_objects(
    struct gci_marker *marker, uintptr_t start, uintptr_t end, enum marking how, bool move) {
    const struct gci_arena *arena = &marker->heap->arena;
    size_t granule = gci_address_granule(arena, start), last = gci_address_granule(arena, end);
    gci_object object;
    if (!(arena->side[granule] & GCI_SIDE_START) && gci_block_find(arena, granule, &object) &&
        arena->side[object.granule] & GCI_SIDE_MARK)
        mark_typed(marker, start, end, how, move);
    for (; granule < last; granule += 64) {
        struct gci_side_masks masks = gci_side_masks64(arena->side + granule);
        for (uint64_t live = masks.start & masks.mark; live != 0; live &= live - 1) {
            size_t first = granule + (unsigned)__builtin_ctzll(live);
            uintptr_t from = gci_granule_address(arena, first);
            uintptr_t stop = from + gci_small_granules(arena->side, first) * GC_GRANULE;
            mark_fields(marker, gci_type_recorded(marker->heap, first), from, stop, from,
                stop < end ? stop : end, how, move);
        }
    }
}

/* The same for pages of large objects. */
static void mark_large_objects(
    struct gci_marker *marker, uintptr_t start, uintptr_t end, enum marking how, bool move) {
    const struct gci_arena *arena = &marker->heap->arena;
    while (start < end) {
        gci_object object;
        uintptr_t first = gci_large_first(arena, start), next = start + 1;
        if (first < end && gci_large_find(arena, first - arena->base, &object) &&
            arena->side[object.granule] & GCI_SIDE_MARK)
            next = mark_typed(marker, first, end, how, move);
        start = (next + ((uintptr_t)1 << arena->page_shift) - 1) >> arena->page_shift
                                                                        << arena->page_shift;
    }
}

static uint64_t found_so_far(const struct gci_marker *marker, bool move) {
    return marker->marked_objects + (move ? marker->heap->to_space.objects : 0);
}

static void mark_objects(
    struct gci_marker *marker, uintptr_t start, uintptr_t end, enum marking how, bool move) {
    const struct gci_arena *arena = &marker->heap->arena;
    uint32_t block = gci_block_of(gci_address_granule(arena, start));
    uint64_t before = found_so_far(marker, move);
    if (gci_tag_use(arena->tags[block]) == GCI_USE_LARGE)
        mark_large_objects(marker, start, end, how, move);
    else if (move)
        mark_small_objects(marker, start, end, WATCHING, true);
    else
        mark_small_objects(marker, start, end, how, false);
    if (found_so_far(marker, move) != before)
        __atomic_store_n(&arena->blocks[block].passed_over, 0, __ATOMIC_RELAXED);
}

void gci_mark_objects(struct gci_marker *marker, uintptr_t start, uintptr_t end) {
    mark_objects(marker, start, end, marker->watching ? WATCHING : ALONE, marker->moving);
}

/* A run of the stack that isn't searched word by word.  MOVE is a constant here. */
static inline __attribute__((always_inline)) void mark_run(
    struct gci_marker *marker, gci_words run, enum marking how, bool move) {
    uintptr_t start = (uintptr_t)run.start & ~(uintptr_t)3, end = (uintptr_t)run.end;
    switch ((uintptr_t)run.start & 3) {
    case GCI_RUN_FIELDS:
        mark_map(marker, ((const struct gci_type *)(const void *)run.end)->map, start, how, move);
        break;
    case GCI_RUN_TYPED:
        mark_typed(marker, start, end, how, move);
        break;
    default:
        if (start - marker->heap->arena.base < gci_arena_used_bytes(&marker->heap->arena))
            mark_objects(marker, start, end, how, move);
        else
            mark_put_off(marker, (gci_words){(const uintptr_t *)start, run.end}, how);
        break;
    }
}

/* ---- Draining ------------------------------------------------------------------------------- */

void gci_mark_slot(struct gci_marker *marker, uintptr_t *slot) {
    if (marker->moving)
        mark_slot(marker, view_of(marker), slot, WATCHING, true);
    else
        mark_slot(marker, view_of(marker), slot, marker->watching ? WATCHING : ALONE, false);
}

void gci_mark_tagged_slot(struct gci_marker *marker, uintptr_t *slot) {
    if (marker->moving)
        mark_tagged_slot(marker, slot, WATCHING, true);
    else
        mark_tagged_slot(marker, slot, WATCHING, false);
}

static inline bool pop(struct gci_mark_stack *stack, gci_words *words) {
    if (stack->top == stack->base && (stack->segment == NULL || !gci_mark_stack_shrink(stack)))
        return false;
    *words = *--stack->top;
    return true;
}

bool gci_mark_pop(struct gci_mark_stack *stack, gci_words *run) {
    return pop(stack, run);
}

/* Searches what is on the stack, and what that leads to.  Alone, only up to LIMIT runs: then it
 * returns false, with everything back on the stack.  SHARED: feeds members of the crew that wait.
 * TAGGED: the heap has a format for words.  HOLD: what ambiguous words mean is held, too.
 * The queue is a ring of WAITING runs that ends before AT. */
static inline __attribute__((always_inline)) bool drain_stack(struct gci_marker *marker,
    bool past_end, bool tagged, enum marking how, bool hold, uint64_t limit) {
    gci_words queue[PREFETCH_QUEUE];
    unsigned at = 0, waiting = 0;
    for (uint64_t searched = 0;; searched++) {
        while (waiting < PREFETCH_QUEUE && pop(&marker->stack, &queue[at % PREFETCH_QUEUE])) {
            __builtin_prefetch(queue[at++ % PREFETCH_QUEUE].start);
            waiting++;
        }
        if (waiting == 0) return true;
        if (how != SHARED && searched >= limit) {
            while (waiting > 0 &&
                   gci_mark_stack_push(&marker->stack, queue[(at - waiting) % PREFETCH_QUEUE]))
                waiting--;
            if (waiting == 0) return false;
        }
        gci_words ready = queue[(at - waiting--) % PREFETCH_QUEUE];
        /* A long run is searched in pieces; if there is no room for the rest, at once. */
        unsigned kind = (unsigned)(uintptr_t)ready.start & 3;
        gci_words rest = {ready.start + PIECE_WORDS, ready.end};
        if (kind != GCI_RUN_FIELDS && ready.end - ready.start > PIECE_WORDS &&
            gci_mark_stack_push(&marker->stack, rest))
            ready.end = (const uintptr_t *)((uintptr_t)rest.start & ~(uintptr_t)3);
        if (kind == 0) {
            mark_words(marker, ready, past_end, how, hold);
            if (tagged) mark_decoded_words(marker, ready, how, hold);
        } else {
            mark_run(marker, ready, how, false);
        }
        bool look = kind == GCI_RUN_OBJECTS || searched % LOOK_AROUND == 0; /* these are long */
        if (how == SHARED && look && gci_crew_is_hungry(marker->crew)) gci_crew_feed(marker);
    }
}

/* A heap with a format for words, a collection that compacts, or ephemerons that wait for keys: not
 * worth a loop of its own each. */
static bool is_rare(const struct gci_marker *marker) {
    return marker->heap->words.on || marker->heap->marker.holding || marker->watching;
}

static __attribute__((noinline)) bool drain_rare(
    struct gci_marker *marker, enum marking how, uint64_t limit) {
    const struct gc_heap *heap = marker->heap;
    return drain_stack(
        marker, marker->past_end_in_heap, heap->words.on, how, heap->marker.holding, limit);
}

static bool drain_alone(struct gci_marker *marker, uint64_t limit) {
    if (is_rare(marker)) return drain_rare(marker, marker->watching ? WATCHING : ALONE, limit);
    return marker->past_end_in_heap ? drain_stack(marker, true, false, ALONE, false, limit)
                                    : drain_stack(marker, false, false, ALONE, false, limit);
}

/* One run, whatever it is. */
static void search_moving(struct gci_marker *marker, gci_words run) {
    if (((uintptr_t)run.start & 3) == 0)
        gci_mark_heap_words(marker, run);
    else
        mark_run(marker, run, WATCHING, true);
}

static void drain_moving(struct gci_marker *marker) {
    gci_words run;
    while (gci_evacuate_fields(marker, &run)) search_moving(marker, run);
}

/* A member's part of the job. */
static void drain_together(struct gci_marker *marker, void *context) {
    (void)context;
    do {
        if (is_rare(marker))
            drain_rare(marker, SHARED, 0);
        else if (marker->past_end_in_heap)
            drain_stack(marker, true, false, SHARED, false, 0);
        else
            drain_stack(marker, false, false, SHARED, false, 0);
    } while (gci_crew_wait(marker));
}

void gci_mark_drain_shared(struct gci_marker *marker) {
    drain_together(marker, NULL);
}

static void drain(struct gci_marker *marker) {
    if (marker->moving) {
        drain_moving(marker);
        return;
    }
    struct gc_heap *heap = marker->heap;
    uint64_t limit = marker->put_off >= CALL_AT_ONCE ? 0 : FIRST_RUNS;
    marker->put_off = 0;
    if (drain_alone(marker, marker->watching ? UINT64_MAX : limit)) return;
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
        .entries.bytes_limit = heap->options.mark_stack_limit,
        .past_end_in_heap = heap->options.one_past_end_in_heap,
        .live = heap->arena.live};
    heap->ephemerons.other.bytes_limit = heap->options.mark_stack_limit;
}
