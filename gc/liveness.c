/* The end of marking: which objects died, what is told of it, and what lives on for that.
 *
 * A watched object that marking didn't reach goes through these states, all within one collection
 * (docs/finalization.md, rules 4 to 9):
 *
 *       not reached ---- short weak references and links cleared
 *            |
 *            |   an ordered object that isn't finalized yet leads to it
 *            +-----------------------------------------------------------> waits (lives on)
 *            |
 *            |   it has a finalizer or a guardian, of any order but UNREACHABLE
 *            +-----------------------------------------------------------> ready (a root)
 *            |
 *            |   something ready leads to it
 *            +-----------------------------------------------------------> lives on
 *            |
 *            |   it has an UNREACHABLE finalizer
 *            +-----------------------------------------------------------> ready
 *            |
 *          gone ----------- long weak references and links cleared
 *
 * Owns nothing: the tables are gc/watch.c's.  Ordering is Boehm's: from each object with an ordered
 * finalizer everything is marked but itself; who is marked then, waits; who became so by what was
 * marked from itself, closes a cycle (Boehm: Destructors, finalizers, and synchronization, POPL
 * 2003).  Called by gc/collect.c with the world stopped; objects may be moved while it marks. */
#include "gc/liveness.h"

#include "gc/block.h"
#include "gc/ephemeron.h"
#include "gc/large.h"
#include "gc/link.h"
#include "gc/mark.h"
#include "gc/type.h"
#include "gc/watch.h"
#include "gc/word.h"
#include "runtime/log.h"

#define BATCH 16u /* records whose objects and watches are fetched together */

/* ---- Who is dead ---------------------------------------------------------------------------- */

static bool is_claim(const struct gci_watch *watch) {
    return (watch->kind == GCI_WATCH_FINALIZER || watch->kind == GCI_WATCH_GUARDED) &&
           !watch->ready;
}

/* What a guardian claimed that has been freed since. */
static bool is_void(const struct gci_watch *watch) {
    return watch->kind == GCI_WATCH_GUARDED && watch->guarded.guardian->freed;
}

/* The strictest order of those who claim the object of RECORD. */
static uint8_t find_order(struct gci_watches *w, struct gci_watched *record) {
    uint8_t order = GCI_NO_ORDER;
    for (struct gci_watch *watch = record->watches, *next; watch != NULL; watch = next) {
        next = watch->next;
        if (!is_claim(watch)) continue;
        if (is_void(watch)) {
            gci_guardian_let_go(w, watch->guarded.guardian);
            gci_watch_leave(w, watch);
            gci_watch_give(w, watch);
        } else if (watch->order < order) {
            order = watch->order;
        }
    }
    return order;
}

/* The dead, by NEXT_FOUND, in the order of registration; and which orders they have, so that each
 * step goes through them only if it concerns one: they are many, and each is a cache miss or two. */
struct dead {
    struct gci_watched *first;
    struct gci_watched *recent[BATCH]; /* that were put first, by their number */
    size_t count;
    bool has_order[GC_UNREACHABLE + 1];
};

static void add_if_dead(struct gc_heap *heap, struct gci_watched *record, struct dead *dead) {
    if (record->outside || gci_watched_lives(heap, record)) return;
    record->order = find_order(heap->watches, record);
    if (record->order <= GC_UNREACHABLE) dead->has_order[record->order] = true;
    struct gci_watched **recent = &dead->recent[dead->count++ % BATCH];
    record->next_found = dead->first;
    record->far_found = *recent;
    dead->first = *recent = record;
}

/* What is needed of a record soon. */
static void fetch(const struct gc_heap *heap, const struct gci_watched *record) {
    const struct gci_arena *arena = &heap->arena;
    __builtin_prefetch(arena->side + ((record->key - arena->base) >> GCI_GRANULE_SHIFT));
    __builtin_prefetch(record->watches);
}

/* Those at FROM and after, the last one first. */
static void find_dead(struct gc_heap *heap, size_t from, struct dead *dead) {
    struct gci_watched *const *all = heap->watches->all;
    for (size_t i = heap->watches->all_count; i-- > from;) {
        if (i >= from + 2 * BATCH) __builtin_prefetch(all[i - 2 * BATCH]);
        if (i >= from + BATCH && all[i - BATCH] != NULL) fetch(heap, all[i - BATCH]);
        if (all[i] != NULL) add_if_dead(heap, all[i], dead);
    }
}

/* As many as BATCH of the dead from *AT on, while what is looked at next is on its way. */
static unsigned next_some(
    const struct gc_heap *heap, struct gci_watched **at, struct gci_watched **batch) {
    unsigned count = 0;
    for (; count < BATCH && *at != NULL; *at = (*at)->next_found) {
        __builtin_prefetch((*at)->far_found);
        fetch(heap, *at);
        batch[count++] = *at;
    }
    return count;
}

/* ---- Weak references and links -------------------------------------------------------------- */

static void clear_watches(
    struct gc_heap *heap, struct gci_watched *record, enum gc_weak_kind when) {
    for (struct gci_watch *watch = record->watches, *next; watch != NULL; watch = next) {
        next = watch->next;
        if (watch->when != when) continue;
        if (watch->kind == GCI_WATCH_WEAK) {
            gci_watch_leave(heap->watches, watch);
        } else if (watch->kind == GCI_WATCH_LINK) {
            gci_link_store(heap, gci_link_slot(heap, watch), 0);
            gci_link_end(heap->watches, watch);
        }
    }
}

static void clear_weak(struct gc_heap *heap, const struct dead *dead, enum gc_weak_kind when) {
    const struct gci_watches *w = heap->watches;
    if (w == NULL || w->counts[GCI_WATCH_WEAK] + w->counts[GCI_WATCH_LINK] == 0) return;
    for (struct gci_watched *record = dead->first; record != NULL; record = record->next_found)
        if (!gci_watched_lives(heap, record)) clear_watches(heap, record, when);
}

/* ---- Ordered finalizers --------------------------------------------------------------------- */

/* One word of an object, but for references to that object itself. */
struct others {
    struct gci_marker *marker;
    uintptr_t start, bytes;
};

static bool is_other(const struct others *others, uintptr_t address) {
    return address - others->start >= others->bytes;
}

static void mark_other(gc_visitor *visitor, uintptr_t *slot) {
    const struct others *others = visitor->context;
    if (is_other(others, *slot)) gci_mark_slot(others->marker, slot);
}

static void mark_other_tagged(gc_visitor *visitor, uintptr_t *slot) {
    const struct others *others = visitor->context;
    uintptr_t address;
    if (gci_word_decode(&others->marker->heap->words, *slot, &address) && is_other(others, address))
        gci_mark_tagged_slot(others->marker, slot);
}

/* An ephemeron keeps its value for its key's sake only. */
static void mark_other_entry(const struct others *others, enum gci_weak weak) {
    struct gci_entry *entry = (struct gci_entry *)others->start;
    uintptr_t *slot = gci_ephemeron_meet(others->marker, entry, weak, false);
    if (slot != NULL && is_other(others, *slot)) gci_mark_slot(others->marker, slot);
}

static void mark_others(
    struct gci_marker *marker, size_t granule, const struct gci_type *type, size_t bytes) {
    struct gc_heap *heap = marker->heap;
    uintptr_t start = gci_granule_address(&heap->arena, granule), end = start + bytes, address;
    struct others others = {marker, start, bytes};
    if (type != NULL && type->weak != GCI_WEAK_NONE) {
        mark_other_entry(&others, type->weak);
        return;
    }
    if (type != NULL) {
        gc_visitor visitor = {type->worded ? mark_other_tagged : mark_other, &others, type, start,
            end, start, end, mark_other};
        gci_type_visit(&visitor);
        return;
    }
    for (const uintptr_t *word = (const uintptr_t *)start; word < (const uintptr_t *)end; word++) {
        bool itself = gci_word_decode(&heap->words, *word, &address) && !is_other(&others, address);
        if (is_other(&others, *word) && !itself)
            gci_mark_heap_words(marker, (gci_words){word, word + 1});
    }
}

/* Marks all that the object at GRANULE leads to, and itself only if something of that does.  It
 * isn't moved meanwhile, as its words are being read. */
static void mark_from(struct gci_marker *marker, size_t granule, bool ignore_self) {
    struct gc_heap *heap = marker->heap;
    uint8_t tag = heap->arena.tags[gci_block_of(granule)], *side = &heap->arena.side[granule];
    if (tag & GCI_TAG_LEAF) return;
    bool holds = marker->moving && !(*side & GCI_SIDE_HELD);
    if (holds) *side |= GCI_SIDE_HELD;
    size_t bytes = gci_object_bytes(heap, (gci_object){granule});
    uintptr_t start = gci_granule_address(&heap->arena, granule);
    if (ignore_self)
        mark_others(
            marker, granule, tag & GCI_TAG_TYPED ? gci_type_at(heap, granule) : NULL, bytes);
    else if (tag & GCI_TAG_TYPED)
        gci_mark_push(
            marker, gci_run_of_object(gci_type_recorded(heap, granule), start, bytes / GC_GRANULE));
    else
        gci_mark_push(marker, gci_run(start, start + bytes, 0));
    gci_mark_drain(marker);
    if (holds) *side &= (uint8_t)~GCI_SIDE_HELD;
}

/* The object of RECORD leads to itself. */
static void report_cycle(struct gc_heap *heap, const struct gci_watched *record) {
    for (struct gci_watch *watch = record->watches; watch != NULL; watch = watch->next) {
        if (!is_claim(watch) || watch->order > GC_IGNORE_SELF) continue;
        if (watch->told) return;
        watch->told = true;
    }
    heap->watches->cycles++;
    if (heap->layer->cycle != NULL) {
        heap->layer->cycle(heap, record->key);
        return;
    }
    size_t granule = gci_address_granule(&heap->arena, record->key);
    bool typed = heap->arena.tags[gci_block_of(granule)] & GCI_TAG_TYPED;
    gci_log("finalization cycle: the object of %zu bytes at %p, %s%s, has an ordered finalizer and "
            "leads to itself: it is never finalized",
        gci_object_bytes(heap, (gci_object){granule}), (void *)record->key,
        typed ? "of type " : "without a type", typed ? gci_type_at(heap, granule)->desc.name : "");
}

static void mark_from_ordered(struct gc_heap *heap, const struct dead *dead) {
    if (!dead->has_order[GC_ORDERED] && !dead->has_order[GC_IGNORE_SELF]) return;
    for (struct gci_watched *record = dead->first; record != NULL; record = record->next_found) {
        if (record->order > GC_IGNORE_SELF || gci_watched_lives(heap, record)) continue;
        size_t granule = gci_address_granule(&heap->arena, record->key);
        mark_from(&heap->marker, granule, record->order == GC_IGNORE_SELF);
        if (gci_watched_lives(heap, record)) report_cycle(heap, record);
    }
}

/* ---- Who is ready --------------------------------------------------------------------------- */

/* What those who claim the object of RECORD, in an order up to MOST, get. */
static uint32_t make_ready(
    struct gc_heap *heap, const struct gci_watched *record, enum gc_order most) {
    uint32_t found = 0;
    if (record->order > most || gci_watched_lives(heap, record)) return 0;
    for (struct gci_watch *watch = record->watches; watch != NULL; watch = watch->next) {
        if (!is_claim(watch) || watch->order > most) continue;
        gci_watch_make_ready(heap->watches, watch);
        if (heap->layer->ready != NULL) heap->layer->ready(heap, watch->object);
        found++;
    }
    return found;
}

static void mark_ready(struct gc_heap *heap, const struct gci_watched *record, enum gc_order most) {
    if (record->order > most) return;
    for (struct gci_watch *watch = record->watches; watch != NULL; watch = watch->next)
        if (watch->ready) gci_mark_slot(&heap->marker, &watch->object);
}

/* All that are dead still, and claimed in an order up to MOST; what they keep is marked. */
static void make_all_ready(struct gc_heap *heap, const struct dead *dead, enum gc_order most) {
    struct gci_watched *at = dead->first, *batch[BATCH];
    uint64_t before = heap->marker.marked_granules;
    uint32_t found = 0;
    for (unsigned count; (count = next_some(heap, &at, batch)) > 0;)
        for (unsigned i = 0; i < count; i++) found += make_ready(heap, batch[i], most);
    if (found == 0) return;
    __atomic_fetch_add(&heap->watches->now_ready, found, __ATOMIC_RELAXED);
    at = dead->first;
    for (unsigned count; (count = next_some(heap, &at, batch)) > 0;)
        for (unsigned i = 0; i < count; i++) mark_ready(heap, batch[i], most);
    gci_mark_drain(&heap->marker);
    heap->dying_bytes += (heap->marker.marked_granules - before) * GC_GRANULE;
}

/* ---- The script ----------------------------------------------------------------------------- */

void gci_liveness_begin(struct gc_heap *heap, bool full) {
    if (heap->watches != NULL) heap->watches->minor = !full;
}

void gci_liveness(struct gc_heap *heap, bool full) {
    struct gci_watches *w = heap->watches;
    struct dead dead = {0};
    heap->dying_bytes = 0;
    gci_ephemerons_trace(heap);
    if (w != NULL) {
        find_dead(heap, full ? 0 : w->settled, &dead);
        w->minor = false;
    }
    clear_weak(heap, &dead, GC_WEAK_SHORT);
    mark_from_ordered(heap, &dead);
    gci_ephemerons_trace(heap);
    if (dead.has_order[GC_ORDERED] || dead.has_order[GC_IGNORE_SELF] ||
        dead.has_order[GC_UNORDERED])
        make_all_ready(heap, &dead, GC_UNORDERED);
    gci_ephemerons_trace(heap);
    if (dead.has_order[GC_UNREACHABLE]) make_all_ready(heap, &dead, GC_UNREACHABLE);
    gci_ephemerons_trace(heap);
    gci_ephemerons_settle(heap);
    clear_weak(heap, &dead, GC_WEAK_LONG);
}
