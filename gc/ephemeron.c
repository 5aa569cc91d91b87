/* Ephemerons: a key and a value that is reached only if the ephemeron and its key are.  Owns
 * heap->ephemerons and what markers remember of entries.  The marker calls gci_ephemeron_meet() for
 * each entry that it searches; those whose key isn't marked yet wait, on a stack outside the heap,
 * for gci_ephemerons_trace().  That looks at all of them again as long as this finds many; then it
 * hangs the rest on the keys themselves, sets GCI_SIDE_KEY on these, and is told when one is marked:
 * so each entry costs a bounded number of steps, in whatever order chains are met.
 *
 * Invariants: outside of a collection no LINK and no GCI_SIDE_KEY is set; during one an entry is on
 * at most one list, or hangs on its key; a key with GCI_SIDE_KEY isn't marked, and its first word is
 * not its own.  Rules: docs/ephemerons.md.  Called with the world stopped; the public functions
 * at the end are plain code like a program's. */
#include "gc/ephemeron.h"

#include <errno.h>

#include "gc/api.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/mark.h"
#include "gc/thread.h"
#include "runtime/log.h"

/* Another round may follow one that resolves such a part of what it looks at. */
#define CHEAP_ROUNDS 4u /* the first so many */
#define WORTH_LITTLE 16u
#define WORTH_MUCH   2u

#define BATCH      16u   /* entries whose keys are fetched together */
#define AHEAD      16u   /* granules from a key to those whose entries are fetched meanwhile */
#define DRAIN_MUCH 1024u /* entries resolved between two drains of the mark stack */

/* ---- Entries -------------------------------------------------------------------------------- */

/* An entry, and in its lower bits what is weak in it, as LINK and the mark stack have it.  A list's
 * end is no entry, but not 0.  ON_KEY is all that LINK has while the entry hangs on its key. */
#define WEAK_BITS ((uintptr_t)3)
#define LIST_END  ((uintptr_t)8)
#define ON_KEY    LIST_END
#define LAST      LIST_END /* in a link of a key's chain: to the entry that has the key's word */

_Static_assert(GCI_WEAK_KINDS - 1 <= WEAK_BITS, "fits the bits below an entry's address");

static inline struct gci_entry *entry_of(uintptr_t link) {
    return (struct gci_entry *)(link & ~(WEAK_BITS | LIST_END));
}

static inline enum gci_weak weak_of(uintptr_t link) {
    return (enum gci_weak)(link & WEAK_BITS);
}

/* What has to live for the entry to live, and what lives then; of an entry that isn't weak in
 * both. */
static inline uintptr_t *guard_of(struct gci_entry *entry, enum gci_weak weak) {
    return weak == GCI_WEAK_KEY ? &entry->key : &entry->value;
}
static inline uintptr_t *held_of(struct gci_entry *entry, enum gci_weak weak) {
    return weak == GCI_WEAK_KEY ? &entry->value : &entry->key;
}

/* Is what *SLOT refers to alive, as far as is known, or none of the heap's business?  If it was
 * moved, *SLOT is changed. */
static inline bool lives(const struct gc_heap *heap, uintptr_t *slot) {
    const struct gci_arena *arena = &heap->arena;
    uintptr_t offset = *slot - arena->base;
    if (offset >= gci_arena_used_bytes(arena)) return true;
    uint8_t tag = arena->tags[offset >> GCI_BLOCK_SHIFT];
    if (!(tag & GCI_TAG_YOUNG)) return gci_tag_use(tag) != GCI_USE_FREE; /* freed by hand */
    uint8_t side = __atomic_load_n(&arena->side[offset >> GCI_GRANULE_SHIFT], __ATOMIC_RELAXED);
    if (side & GCI_SIDE_MARK) return true;
    if (!(side & GCI_SIDE_MOVED)) return false;
    *slot = *(const uintptr_t *)*slot;
    return true;
}

static inline bool entry_lives(
    const struct gc_heap *heap, struct gci_entry *entry, enum gci_weak weak) {
    if (weak != GCI_WEAK_BOTH) return lives(heap, guard_of(entry, weak));
    bool key = lives(heap, &entry->key), value = lives(heap, &entry->value); /* both are changed */
    return key && value;
}

/* ---- Meeting -------------------------------------------------------------------------------- */

static void put(struct gci_entries *list, uintptr_t link) {
    entry_of(link)->link = list->first != 0 ? list->first : LIST_END;
    list->first = link;
}

static uintptr_t take(struct gci_entries *list) {
    uintptr_t link = list->first;
    uintptr_t next = entry_of(link)->link;
    entry_of(link)->link = 0;
    list->first = next != LIST_END ? next : 0;
    return link;
}

/* An entry that waits, as it is on a stack: with what it waits for, so that a round needs no look at
 * the entry; NULL if it is weak in both. */
static gci_words waiting_entry(struct gci_entry *entry, enum gci_weak weak) {
    uintptr_t guard = weak != GCI_WEAK_BOTH ? *guard_of(entry, weak) : 0;
    return (gci_words){(const uintptr_t *)((uintptr_t)entry | weak), (const uintptr_t *)guard};
}

/* Remembers an entry for the next round: outside the heap, so that no page is written to and no
 * barrier asked; if there is no memory by its LINK. */
static void remember(struct gci_marker *marker, gci_words run) {
    uintptr_t link = (uintptr_t)run.start;
    if (gci_mark_stack_push(&marker->entries, run)) return;
    if (entry_of(link)->link == 0) put(&marker->heap->ephemerons.waiting, link);
}

/* One that is on a list, or hangs on its key, was met before. */
uintptr_t *gci_ephemeron_meet(
    struct gci_marker *marker, struct gci_entry *entry, enum gci_weak weak, bool shared) {
    if (entry->key == 0 || entry->link != 0) return NULL;
    marker->entries_met++;
    if (entry_lives(marker->heap, entry, weak))
        return weak != GCI_WEAK_BOTH ? held_of(entry, weak) : NULL;
    marker->entries_pended++;
    gci_words run = waiting_entry(entry, weak);
    if (!shared) {
        remember(marker, run);
    } else if (!gci_mark_stack_push(&marker->entries, run)) {
        marker->stack.overflowed = true; /* it will be met again, by one marker alone */
    }
    return NULL;
}

void gci_ephemerons_join(struct gci_marker *to, struct gci_marker *from) {
    gci_words run;
    to->entries_met += from->entries_met;
    to->entries_pended += from->entries_pended;
    from->entries_met = from->entries_pended = 0;
    while (gci_mark_pop(&from->entries, &run)) remember(to, run);
}

/* ---- Rounds --------------------------------------------------------------------------------- */

/* What one stack gives back another may use, while entries go from one to the other: then no page
 * is new. */
static void hand_over(struct gci_mark_stack *from, struct gci_mark_stack *to) {
    if (from->spare == NULL || to->spare != NULL) return;
    gci_mark_stack_give_spare(from, to);
}

/* Marks what the entry keeps, if its key was marked meanwhile. */
static bool resolve(struct gci_marker *marker, uintptr_t link) {
    struct gci_entry *entry = entry_of(link);
    enum gci_weak weak = weak_of(link);
    if (!entry_lives(marker->heap, entry, weak)) return false;
    if (weak != GCI_WEAK_BOTH) gci_mark_slot(marker, held_of(entry, weak));
    return true;
}

/* Is it plain that the entry waits on? */
static bool waits_still(const struct gc_heap *heap, gci_words run) {
    uintptr_t guard = (uintptr_t)run.end;
    return guard != 0 && !lives(heap, &guard);
}

struct round {
    uint64_t seen, resolved;
};

/* All that wait, once. */
static struct round look_again(struct gci_marker *marker) {
    struct gci_ephemerons *all = &marker->heap->ephemerons;
    struct round round = {0, 0};
    struct gci_mark_stack stack = marker->entries;
    struct gci_entries list = all->waiting;
    gci_words run;
    marker->entries = all->other;
    all->waiting.first = 0;
    for (; gci_mark_pop(&stack, &run); round.seen++) {
        hand_over(&stack, &marker->entries);
        if (!waits_still(marker->heap, run) && resolve(marker, (uintptr_t)run.start))
            round.resolved++;
        else
            remember(marker, run);
    }
    for (; list.first != 0; round.seen++) {
        uintptr_t link = take(&list);
        if (resolve(marker, link))
            round.resolved++;
        else
            put(&all->waiting, link);
    }
    all->other = stack;
    return round;
}

/* ---- Watching ------------------------------------------------------------------------------- */

/* Hangs an entry on its key, which isn't marked, so that nobody needs its first word: that refers
 * to the entry from now on.  The word itself is where the entry had the key, or, if others hang
 * there already, in the last of them; in the others is the next one. */
static void hang(struct gc_heap *heap, uintptr_t link, uintptr_t key) {
    uint8_t *side = &heap->arena.side[gci_address_granule(&heap->arena, key)];
    uintptr_t *first = (uintptr_t *)key;
    *guard_of(entry_of(link), weak_of(link)) = *first;
    *first = *side & GCI_SIDE_KEY ? link : link | LAST;
    *side |= GCI_SIDE_KEY;
    entry_of(link)->link = ON_KEY;
}

/* Takes the next one off the key; *LINK is 0 when that was the last, and the key whole again. */
static uintptr_t unhang(uintptr_t key, uintptr_t *link) {
    uintptr_t taken = *link & ~LAST, *guard = guard_of(entry_of(taken), weak_of(taken));
    uintptr_t next = *guard;
    *guard = key;
    if (*link & LAST) *(uintptr_t *)key = next;
    *link = *link & LAST ? 0 : next;
    return taken;
}

/* An entry that waits: for its key, unless that is no object any more.  False without memory. */
static bool wait_for_key(struct gc_heap *heap, uintptr_t link, struct gci_entries *aside) {
    enum gci_weak weak = weak_of(link);
    uintptr_t key = weak != GCI_WEAK_BOTH ? *guard_of(entry_of(link), weak) : 0;
    bool is_object = weak != GCI_WEAK_BOTH &&
                     heap->arena.side[gci_address_granule(&heap->arena, key)] & GCI_SIDE_START;
    gci_words run = {(const uintptr_t *)link, (const uintptr_t *)key};
    bool has_room = is_object && gci_mark_stack_push(&heap->ephemerons.other, run);
    if (has_room)
        hang(heap, link, key);
    else
        put(aside, link);
    return has_room || !is_object;
}

static bool admit(struct gc_heap *heap, uintptr_t link, struct gci_entries *aside) {
    struct gci_entry *entry = entry_of(link);
    if (entry->link != 0) return true; /* met before */
    if (!entry_lives(heap, entry, weak_of(link))) return wait_for_key(heap, link, aside);
    if (weak_of(link) != GCI_WEAK_BOTH) put(&heap->ephemerons.ready, link);
    return true;
}

/* As many as BATCH from the stack, while their keys and these' side bytes are on their way. */
static unsigned pop_some(struct gc_heap *heap, gci_words *batch) {
    const struct gci_arena *arena = &heap->arena;
    unsigned count = 0;
    for (; count < BATCH && gci_mark_pop(&heap->marker.entries, &batch[count]); count++) {
        uintptr_t key = (uintptr_t)batch[count].end;
        __builtin_prefetch((const void *)key, 1);
        __builtin_prefetch(arena->side + ((key - arena->base) >> GCI_GRANULE_SHIFT), 1);
        hand_over(&heap->marker.entries, &heap->ephemerons.other);
    }
    return count;
}

static bool admit_all(struct gc_heap *heap, struct gci_entries *aside) {
    struct gci_entries list = heap->ephemerons.waiting;
    gci_words batch[BATCH];
    bool complete = true;
    heap->ephemerons.waiting.first = 0;
    for (unsigned count; (count = pop_some(heap, batch)) > 0;)
        for (unsigned i = 0; i < count; i++)
            complete &= admit(heap, (uintptr_t)batch[i].start, aside);
    while (list.first != 0) complete &= admit(heap, take(&list), aside);
    return complete;
}

/* Keys that were made one after the other may well be found so, from the first or from the last:
 * the entry of one that is near is fetched.  (A chain of 10^6, entries made at random: see
 * docs/ephemerons.md.) */
static void fetch_near(const struct gci_arena *arena, size_t granule) {
    if (granule < gci_arena_used_bytes(arena) >> GCI_GRANULE_SHIFT &&
        arena->side[granule] & GCI_SIDE_KEY)
        __builtin_prefetch(entry_of(*(const uintptr_t *)gci_granule_address(arena, granule)), 1);
}

void gci_ephemeron_key_found(struct gc_heap *heap, size_t granule) {
    const struct gci_arena *arena = &heap->arena;
    uintptr_t key = gci_granule_address(arena, granule), link = *(const uintptr_t *)key;
    arena->side[granule] &= (uint8_t)~GCI_SIDE_KEY;
    fetch_near(arena, granule + AHEAD);
    fetch_near(arena, granule - AHEAD);
    while (link != 0) put(&heap->ephemerons.ready, unhang(key, &link));
}

/* Those that still hang on their keys wait as before. */
static void unhang_all(struct gc_heap *heap) {
    struct gci_mark_stack *hung = &heap->ephemerons.other;
    gci_words run;
    while (gci_mark_pop(hung, &run)) {
        uintptr_t key = (uintptr_t)run.end, still = key;
        uint8_t *side = &heap->arena.side[gci_address_granule(&heap->arena, key)];
        hand_over(hung, &heap->marker.entries);
        uintptr_t link = *side & GCI_SIDE_KEY ? *(const uintptr_t *)key : 0;
        *side &= (uint8_t)~GCI_SIDE_KEY;
        while (link != 0) entry_of(unhang(key, &link))->link = 0;
        if (!lives(heap, &still)) remember(&heap->marker, run);
    }
}

/* Until nothing more is found; by the calling thread alone.  False if there was no memory to watch
 * for all. */
static bool watch(struct gci_marker *marker) {
    struct gc_heap *heap = marker->heap;
    struct gci_ephemerons *all = &heap->ephemerons;
    struct gci_entries aside = {0};
    bool complete = admit_all(heap, &aside);
    marker->watching = true;
    while (all->ready.first != 0) {
        for (unsigned n = 0; n < DRAIN_MUCH && all->ready.first != 0; n++)
            resolve(marker, take(&all->ready));
        gci_mark_drain(marker);
        if (all->ready.first == 0) complete &= admit_all(heap, &aside);
    }
    marker->watching = false;
    unhang_all(heap);
    while (aside.first != 0) put(&all->waiting, take(&aside));
    return complete;
}

/* ---- The phases ----------------------------------------------------------------------------- */

static uint64_t found_so_far(const struct gc_heap *heap) {
    return heap->marker.marked_objects + heap->to_space.objects;
}

void gci_ephemerons_trace(struct gc_heap *heap) {
    struct gci_ephemerons *all = &heap->ephemerons;
    if (all->traced && found_so_far(heap) == all->found_then) return;
    for (unsigned n = 1;; n++) {
        struct round round = look_again(&heap->marker);
        if (round.resolved == 0) break;
        gci_mark_drain(&heap->marker);
        if (round.resolved >= round.seen / (n < CHEAP_ROUNDS ? WORTH_LITTLE : WORTH_MUCH)) continue;
        if (watch(&heap->marker)) break;
    }
    all->traced = true;
    all->found_then = found_so_far(heap);
}

/* An entry of a table: its storage counts it. */
static void empty(struct gc_heap *heap, struct gci_entry *entry) {
    gci_object object;
    entry->key = entry->value = 0;
    heap->ephemerons.cleared++;
    if (!gci_find(heap, (uintptr_t)entry, &object)) return;
    struct gci_entry *first = (struct gci_entry *)gci_granule_address(&heap->arena, object.granule);
    if (gci_object_bytes(heap, object) > GCI_ENTRY_BYTES) first->hash++;
}

static void settle(struct gc_heap *heap, uintptr_t link) {
    struct gci_entry *entry = entry_of(link);
    if (entry->key == 0) return; /* met twice */
    if (!entry_lives(heap, entry, weak_of(link)))
        empty(heap, entry);
    else
        GCI_ASSERT(weak_of(link) == GCI_WEAK_BOTH);
}

void gci_ephemerons_settle(struct gc_heap *heap) {
    struct gci_ephemerons *all = &heap->ephemerons;
    struct gci_marker *marker = &heap->marker;
    gci_words run;
    all->cleared = 0;
    while (gci_mark_pop(&marker->entries, &run)) settle(heap, (uintptr_t)run.start);
    while (all->waiting.first != 0) settle(heap, take(&all->waiting));
    all->met = marker->entries_met;
    all->pended = marker->entries_pended;
    marker->entries_met = marker->entries_pended = 0;
    all->traced = false;
}

/* ---- Checking ------------------------------------------------------------------------------- */

static bool is_start(const struct gc_heap *heap, uintptr_t p) {
    gci_object object;
    return gci_find(heap, p, &object) && gci_granule_address(&heap->arena, object.granule) == p;
}

/* May a field that isn't ambiguous hold it? */
static bool is_plain(const struct gc_heap *heap, uintptr_t p) {
    return p - heap->arena.base >= gci_arena_used_bytes(&heap->arena) || is_start(heap, p);
}

static size_t check_object(const struct gc_heap *heap, size_t granule) {
    const struct gci_type *type = gci_type_at(heap, granule);
    if (type->weak == GCI_WEAK_NONE) return 0;
    struct gci_entry *entry = (struct gci_entry *)gci_granule_address(&heap->arena, granule);
    size_t count = gci_object_bytes(heap, (gci_object){granule}) / GCI_ENTRY_BYTES, broken = 0;
    for (; count > 0; count--, entry++) {
        bool right = entry->link == 0 && (entry->key != 0 || entry->value == 0);
        if (!heap->freed_by_hand)
            right = right && is_plain(heap, entry->key) && is_plain(heap, entry->value);
        if (right) continue;
        gci_log("ephemerons: the entry at %p, of type %s, has key %#zx, value %#zx, link %#zx",
            (void *)entry, type->desc.name, (size_t)entry->key, (size_t)entry->value,
            (size_t)entry->link);
        broken++;
    }
    return broken;
}

size_t gci_check_ephemerons(const struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    size_t broken = 0;
    if (heap->own_types[GCI_OWN_EPHEMERON] == NULL && heap->own_types[GCI_OWN_TABLE] == NULL)
        return 0;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        if (!(arena->tags[b] & GCI_TAG_TYPED) || gci_tag_use(arena->tags[b]) == GCI_USE_FREE)
            continue;
        size_t first = gci_block_granule(b);
        for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g++)
            if ((arena->side[g] & (GCI_SIDE_START | GCI_SIDE_MARK)) ==
                (GCI_SIDE_START | GCI_SIDE_MARK))
                broken += check_object(heap, g);
    }
    return broken;
}

/* ---- Types ---------------------------------------------------------------------------------- */

/* For all that isn't the marker: these fields are none but what lives. */
static void trace_entries(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    size_t at = (size_t)((char *)from - (char *)object) / GCI_ENTRY_BYTES;
    struct gci_entry *entry = (struct gci_entry *)object + at;
    const struct gci_entry *end = (struct gci_entry *)object + bytes / GCI_ENTRY_BYTES;
    for (; entry < end && (void *)entry < to; entry++) {
        gc_visit_plain(visitor, (void **)&entry->key);
        gc_visit_plain(visitor, (void **)&entry->value);
    }
}

static const uint32_t strong_fields[] = {
    offsetof(struct gci_entry, key), offsetof(struct gci_entry, value)};
static const uint32_t table_fields[] = {
    offsetof(struct gci_table_object, entries), offsetof(struct gci_table_object, index)};

static const struct own_description {
    gc_type_desc desc;
    enum gci_weak weak;
} own_types[GCI_OWN_TYPES] = {[GCI_OWN_EPHEMERON] = {{.name = "gc_ephemeron",
                                                         .size = GCI_ENTRY_BYTES,
                                                         .trace = trace_entries},
                                  GCI_WEAK_KEY},
    [GCI_OWN_KEY_ENTRIES] = {{.name = "gc_table, weak keys",
                                 .size = GCI_ENTRY_BYTES,
                                 .trace = trace_entries},
        GCI_WEAK_KEY},
    [GCI_OWN_VALUE_ENTRIES] = {{.name = "gc_table, weak values",
                                   .size = GCI_ENTRY_BYTES,
                                   .trace = trace_entries},
        GCI_WEAK_VALUE},
    [GCI_OWN_BOTH_ENTRIES] = {{.name = "gc_table, weak",
                                  .size = GCI_ENTRY_BYTES,
                                  .trace = trace_entries},
        GCI_WEAK_BOTH},
    [GCI_OWN_STRONG_ENTRIES] = {{.name = "gc_table, strong",
                                    .size = GCI_ENTRY_BYTES,
                                    .pointers = strong_fields,
                                    .pointer_count = 2,
                                    .flags = GC_TYPE_PLAIN_FIELDS,
                                    .fields = "key, value"},
        GCI_WEAK_NONE},
    [GCI_OWN_TABLE] = {{.name = "gc_table",
                           .size = sizeof(struct gci_table_object),
                           .pointers = table_fields,
                           .pointer_count = 2,
                           .flags = GC_TYPE_PLAIN_FIELDS,
                           .fields = "entries, index"},
        GCI_WEAK_NONE}};

const gc_type *gci_entry_library_type(
    size_t which, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_library_type, gci_entry_library_type);

const gc_type *gci_entry_library_type(
    size_t which, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    int error = 0;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    struct gc_heap *heap = gci_default_heap();
    gci_heap_lock(heap);
    const gc_type *type = heap->own_types[which];
    if (type == NULL) {
        error = gci_type_register_own(heap, &own_types[which].desc, own_types[which].weak, &type);
        if (error == 0) __atomic_store_n(&heap->own_types[which], type, __ATOMIC_RELEASE);
    }
    gci_heap_unlock(heap);
    gci_api_leave_if_attached(thread, 0);
    if (error != 0) errno = error;
    return type;
}

const gc_type *gci_own_type(enum gci_own_type which) {
    const struct gc_heap *heap = gci_default_heap();
    const gc_type *type =
        heap != NULL ? __atomic_load_n(&heap->own_types[which], __ATOMIC_ACQUIRE) : NULL;
    return type != NULL ? type : gc_library_type(which);
}

/* ---- Public functions ----------------------------------------------------------------------- */

/* These are code like a program's: a thread may be stopped for a collection between any two of
 * their instructions, but what they have loaded it holds; with precise stacks it stops in
 * allocations only. */

static struct gci_entry *entry_at(const gc_ephemeron *ephemeron) {
    return (struct gci_entry *)(void *)(uintptr_t)ephemeron;
}

static void *load(const uintptr_t *slot) {
    return (void *)__atomic_load_n(slot, __ATOMIC_RELAXED);
}

bool gci_may_be_key(const char *function, const void *key) {
    const struct gc_heap *heap = gci_default_heap();
    if (heap != NULL && is_start(heap, (uintptr_t)key)) return true;
    gci_log("%s(): %p can't be a key: expected the start of a live object", function, key);
    errno = EINVAL;
    return false;
}

bool gci_may_be_value(const char *function, const void *value) {
    const struct gc_heap *heap = gci_default_heap();
    if (heap == NULL || is_plain(heap, (uintptr_t)value)) return true;
    gci_log("%s(): %p can't be a value: expected NULL, the start of a live object, or a word that "
            "is no address in the heap",
        function, value);
    errno = EINVAL;
    return false;
}

gc_ephemeron *gc_ephemeron_new(void *key, void *value) {
    if (!gci_may_be_key("gc_ephemeron_new", key) || !gci_may_be_value("gc_ephemeron_new", value))
        return NULL;
    GC_FRAME(key, value);
    const gc_type *type = gci_own_type(GCI_OWN_EPHEMERON);
    struct gci_entry *entry = type != NULL ? gc_alloc_typed(type) : NULL;
    if (entry == NULL) return NULL;
    gc_store(&entry->key, key);
    gc_store(&entry->value, value);
    return (gc_ephemeron *)(void *)entry;
}

void *gc_ephemeron_key(const gc_ephemeron *ephemeron) {
    return load(&entry_at(ephemeron)->key);
}

void *gc_ephemeron_value(const gc_ephemeron *ephemeron) {
    return load(&entry_at(ephemeron)->value);
}

int gc_ephemeron_is_dead(const gc_ephemeron *ephemeron) {
    return load(&entry_at(ephemeron)->key) == NULL;
}

/* The key is held until the value is stored, so that the ephemeron can't die in between. */
int gc_ephemeron_set_value(gc_ephemeron *ephemeron, void *value) {
    if (!gci_may_be_value("gc_ephemeron_set_value", value)) return EINVAL;
    void *key = load(&entry_at(ephemeron)->key);
    if (key == NULL) return ESRCH;
    gc_store(&entry_at(ephemeron)->value, value);
    __asm__ volatile("" : : "r"(key) : "memory");
    return 0;
}

/* In this order: what has no key has no value. */
void gc_ephemeron_clear(gc_ephemeron *ephemeron) {
    gc_store(&entry_at(ephemeron)->value, NULL);
    gc_store(&entry_at(ephemeron)->key, NULL);
}
