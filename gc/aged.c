/* Tables by objects with old ones first: see aged.h.  Owns nothing.  Invariants: no object has two
 * entries; the index has each entry's position, in a slot from which nothing but other entries lies
 * between it and the entry's home. */
#include "gc/aged.h"

#include <string.h>

#include "gc/arena.h"
#include "runtime/log.h"

static size_t *entry_at(const struct gci_aged *t, size_t at) {
    return t->entries + at * t->words;
}

static void set_entry(struct gci_aged *t, size_t at, const size_t *from) {
    size_t *to = entry_at(t, at);
    for (uint32_t i = 0; i < t->words; i++) __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

static void set_slot(struct gci_aged *t, size_t slot, size_t value) {
    __atomic_store_n(&t->index[slot], (uint32_t)value, __ATOMIC_RELAXED);
}

/* The slot of the entry at position AT. */
static size_t slot_of(const struct gci_aged *t, size_t at) {
    size_t slot = gci_aged_home(t->shift, *entry_at(t, at));
    while (t->index[slot] != at + 1) slot = (slot + 1) & gci_aged_mask(t->shift);
    return slot;
}

static void enter(struct gci_aged *t, size_t at) {
    size_t slot = gci_aged_home(t->shift, *entry_at(t, at));
    while (t->index[slot] != 0) slot = (slot + 1) & gci_aged_mask(t->shift);
    set_slot(t, slot, at + 1);
}

/* Empties a slot.  Of those behind it, up to the next empty one, each that may stand there is moved
 * there. */
static void leave(struct gci_aged *t, size_t hole) {
    size_t mask = gci_aged_mask(t->shift), slot = hole, value;
    while ((value = t->index[slot = (slot + 1) & mask]) != 0) {
        size_t home = gci_aged_home(t->shift, *entry_at(t, value - 1));
        if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
        set_slot(t, hole, value);
        hole = slot;
    }
    set_slot(t, hole, 0);
}

static void relocate(struct gci_aged *t, size_t from, size_t to) {
    if (from == to) return;
    set_slot(t, slot_of(t, from), to + 1);
    set_entry(t, to, entry_at(t, from));
}

void gci_aged_rebuild(struct gci_aged *t) {
    if (t->capacity == 0) return;
    memset(t->index, 0, 2 * t->capacity * sizeof *t->index);
    for (size_t at = 0; at < t->count; at++) enter(t, at);
}

void gci_aged_add(struct gci_aged *t, const void *entry, bool old) {
    size_t at = t->count++;
    if (old) {
        relocate(t, t->old, at);
        at = t->old++;
    }
    set_entry(t, at, entry);
    enter(t, at);
}

void gci_aged_take_out(struct gci_aged *t, size_t at) {
    leave(t, slot_of(t, at));
    if (at < t->old) {
        relocate(t, --t->old, at);
        at = t->old;
    }
    relocate(t, --t->count, at);
}

/* Does the object live on?  Then *GRANULE is where. */
static bool survives(struct gci_arena *arena, size_t *granule, uint8_t bits) {
    uint8_t side = arena->side[*granule];
    if (!(side & GCI_SIDE_MOVED)) return side & GCI_SIDE_MARK;
    uintptr_t to = *(const uintptr_t *)gci_granule_address(arena, *granule);
    *granule = gci_address_granule(arena, to);
    arena->side[*granule] |= bits;
    return true;
}

void gci_aged_update(struct gc_heap *heap, struct gci_aged *t, bool full, uint8_t bits,
    void (*died)(struct gc_heap *heap, const void *entry)) {
    size_t kept = full ? 0 : t->old;
    for (size_t at = kept; at < t->count; at++) {
        size_t *entry = entry_at(t, at), granule = *entry;
        if (!full) leave(t, slot_of(t, at));
        if (!survives(&heap->arena, &granule, bits)) {
            if (died != NULL) died(heap, entry);
            continue;
        }
        if (kept != at) set_entry(t, kept, entry);
        __atomic_store_n(entry_at(t, kept), granule, __ATOMIC_RELAXED);
        if (!full) enter(t, kept);
        kept++;
    }
    t->count = t->old = kept;
}

size_t gci_check_aged(
    const struct gc_heap *heap, const struct gci_aged *t, uint8_t bits, const char *name) {
    size_t broken = 0;
    for (size_t at = 0; at < t->count; at++) {
        size_t granule = *entry_at(t, at), found = gci_aged_find(t, granule, t->words);
        uint8_t side = heap->arena.side[granule];
        bool old = side & GCI_SIDE_MARK;
        if ((side & bits) == bits && old == (at < t->old) && found == at + 1) continue;
        gci_log("%s: entry %zu of %zu (%zu old), for %p, side byte %#x, is found at %zu", name, at,
            t->count, t->old, (void *)gci_granule_address(&heap->arena, granule), side, found - 1);
        broken++;
    }
    return broken;
}
