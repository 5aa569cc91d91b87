/* The table of sampled objects: by the object's place, what it stands for and where it was
 * allocated.  Owns its two arrays.  Invariants: each entry is of a live object, no object has two;
 * those of old objects come first, so that a minor collection looks at the others only; an entry is
 * gone before its object's place is used again.  No bit of the side byte says that an object has
 * one: gc_free() asks the index, and only where something is sampled.  Written with the lock held
 * or the world stopped. */
#include "gc/tracked.h"

#include <string.h>

#include "gc/arena.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define LEAST     512u
#define MOST      ((size_t)1 << 31)
#define NOT_FOUND SIZE_MAX

static size_t mask(const struct gci_tracking *t) {
    return 2 * t->capacity - 1;
}

static size_t home(const struct gci_tracking *t, size_t granule) {
    return (granule * UINT64_C(0x9e3779b97f4a7c15)) >> t->shift;
}

/* The slot that GRANULE's entry has; NOT_FOUND if there is none. */
static size_t find(const struct gci_tracking *t, size_t granule) {
    if (t->count == 0) return NOT_FOUND;
    for (size_t slot = home(t, granule); t->index[slot] != 0; slot = (slot + 1) & mask(t))
        if (t->entries[t->index[slot] - 1].granule == granule) return slot;
    return NOT_FOUND;
}

static size_t slot_of(const struct gci_tracking *t, size_t at) {
    size_t slot = home(t, t->entries[at].granule);
    while (t->index[slot] != at + 1) slot = (slot + 1) & mask(t);
    return slot;
}

static void enter(struct gci_tracking *t, size_t at) {
    size_t slot = home(t, t->entries[at].granule);
    while (t->index[slot] != 0) slot = (slot + 1) & mask(t);
    t->index[slot] = (uint32_t)(at + 1);
}

/* Empties a slot; of those behind it, each moves there that may. */
static void leave(struct gci_tracking *t, size_t hole) {
    for (size_t slot = (hole + 1) & mask(t); t->index[slot] != 0; slot = (slot + 1) & mask(t)) {
        size_t from = home(t, t->entries[t->index[slot] - 1].granule);
        if (((slot - from) & mask(t)) < ((slot - hole) & mask(t))) continue;
        t->index[hole] = t->index[slot];
        hole = slot;
    }
    t->index[hole] = 0;
}

static void relocate(struct gci_tracking *t, size_t from, size_t to) {
    if (from == to) return;
    t->index[slot_of(t, from)] = (uint32_t)(to + 1);
    t->entries[to] = t->entries[from];
}

static void rebuild(struct gci_tracking *t) {
    if (t->capacity == 0) return;
    memset(t->index, 0, 2 * t->capacity * sizeof *t->index);
    for (size_t at = 0; at < t->count; at++) enter(t, at);
}

static void unmap(struct gci_tracking *t) {
    if (t->entries != NULL)
        gci_vm_unmap(t->entries, gci_whole_pages(t->capacity * sizeof *t->entries));
    if (t->index != NULL)
        gci_vm_unmap(t->index, gci_whole_pages(2 * t->capacity * sizeof *t->index));
}

static bool make_room(struct gci_tracking *t) {
    if (t->count < t->capacity) return true;
    struct gci_tracking more = *t;
    more.capacity = t->capacity == 0 ? LEAST : 2 * t->capacity;
    if (more.capacity > MOST) return false;
    more.shift = 63 - (unsigned)__builtin_ctzl(more.capacity);
    more.entries = gci_vm_map(gci_whole_pages(more.capacity * sizeof *more.entries));
    more.index = gci_vm_map(gci_whole_pages(2 * more.capacity * sizeof *more.index));
    if (more.entries == NULL || more.index == NULL) {
        unmap(&more);
        return false;
    }
    if (t->count > 0) memcpy(more.entries, t->entries, t->count * sizeof *t->entries);
    unmap(t);
    *t = more;
    rebuild(t);
    return true;
}

bool gci_tracking_add(struct gci_tracking *t, struct gci_tracked entry, bool old) {
    if (!make_room(t)) return false;
    size_t at = t->count++;
    if (old) {
        relocate(t, t->old, at);
        at = t->old++;
    }
    t->entries[at] = entry;
    enter(t, at);
    return true;
}

void gci_tracking_forget(struct gci_tracking *t, size_t granule) {
    size_t slot = find(t, granule);
    if (slot == NOT_FOUND) return;
    size_t at = t->index[slot] - 1u;
    leave(t, slot);
    if (at < t->old) {
        relocate(t, --t->old, at);
        at = t->old;
    }
    relocate(t, --t->count, at);
}

/* Does the object live on?  Then *GRANULE is where. */
static bool survives(const struct gci_arena *arena, size_t *granule) {
    uint8_t side = arena->side[*granule];
    if (!(side & GCI_SIDE_MOVED)) return side & GCI_SIDE_MARK;
    uintptr_t to = *(const uintptr_t *)gci_granule_address(arena, *granule);
    *granule = gci_address_granule(arena, to);
    return true;
}

void gci_tracking_update(struct gc_heap *heap, struct gci_tracking *t, bool full,
    void (*died)(struct gc_heap *heap, const struct gci_tracked *entry)) {
    size_t kept = full ? 0 : t->old;
    if (t->count == kept) return;
    for (size_t at = kept; at < t->count; at++) {
        struct gci_tracked entry = t->entries[at];
        if (!full) leave(t, slot_of(t, at));
        if (!survives(&heap->arena, &entry.granule)) {
            died(heap, &entry);
            continue;
        }
        t->entries[kept] = entry;
        if (!full) enter(t, kept);
        kept++;
    }
    t->count = t->old = kept;
    if (full) rebuild(t);
}

size_t gci_check_tracking(const struct gc_heap *heap, const struct gci_tracking *t) {
    size_t broken = 0;
    for (size_t at = 0; at < t->count; at++) {
        size_t granule = t->entries[at].granule, slot = find(t, granule);
        uint8_t side = heap->arena.side[granule];
        bool old = side & GCI_SIDE_MARK, found = slot != NOT_FOUND && t->index[slot] == at + 1;
        if (side & GCI_SIDE_START && old == (at < t->old) && found) continue;
        gci_log("samples: entry %zu of %zu (%zu old), for %p, side byte %#x, is%s found", at,
            t->count, t->old, (void *)gci_granule_address(&heap->arena, granule), side,
            found ? "" : "n't");
        broken++;
    }
    return broken;
}
