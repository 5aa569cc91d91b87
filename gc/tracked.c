/* The table of sampled objects: by the object's place, what it stands for and where it was
 * allocated.  Owns its two arrays; what is done with them is in gc/aged.c.  Invariants: each entry is
 * of a live object; an entry is gone before its object's place is used again.  No bit of the side
 * byte says that an object has one: gc_free() asks the index, and only where something is sampled.
 * Written with the lock held or the world stopped. */
#include "gc/tracked.h"

#include <string.h>

#include "runtime/vm.h"

#define LEAST 512u
#define MOST  ((size_t)1 << 31)
#define WORDS (sizeof(struct gci_tracked) / sizeof(size_t))

_Static_assert(sizeof(struct gci_tracked) % sizeof(size_t) == 0, "whole words");
_Static_assert(offsetof(struct gci_tracked, granule) == 0, "the first is the granule");

static size_t entries_bytes(size_t capacity) {
    return gci_whole_pages(capacity * sizeof(struct gci_tracked));
}

static size_t index_bytes(size_t capacity) {
    return gci_whole_pages(2 * capacity * sizeof(uint32_t));
}

static void unmap(struct gci_aged *t) {
    if (t->entries != NULL) gci_vm_unmap(t->entries, entries_bytes(t->capacity));
    if (t->index != NULL) gci_vm_unmap(t->index, index_bytes(t->capacity));
}

static bool make_room(struct gci_aged *t) {
    if (t->count < t->capacity) return true;
    struct gci_aged more = *t;
    more.words = WORDS;
    more.capacity = t->capacity == 0 ? LEAST : 2 * t->capacity;
    if (more.capacity > MOST) return false;
    more.shift = gci_aged_shift(more.capacity);
    more.entries = gci_vm_map(entries_bytes(more.capacity));
    more.index = gci_vm_map(index_bytes(more.capacity));
    if (more.entries == NULL || more.index == NULL) {
        unmap(&more);
        return false;
    }
    if (t->count > 0) memcpy(more.entries, t->entries, t->count * sizeof(struct gci_tracked));
    unmap(t);
    *t = more;
    gci_aged_rebuild(t);
    return true;
}

bool gci_tracking_add(struct gci_tracking *t, struct gci_tracked entry, bool old) {
    if (!make_room(&t->aged)) return false;
    gci_aged_add(&t->aged, &entry, old);
    return true;
}

void gci_tracking_forget(struct gci_tracking *t, size_t granule) {
    size_t at = t->aged.count > 0 ? gci_aged_find(&t->aged, granule, WORDS) : 0;
    if (at != 0) gci_aged_take_out(&t->aged, at - 1);
}

void gci_tracking_update(struct gc_heap *heap, struct gci_tracking *t, bool full,
    void (*died)(struct gc_heap *heap, const void *entry)) {
    if (t->aged.count == (full ? 0 : t->aged.old)) return;
    gci_aged_update(heap, &t->aged, full, 0, died);
    if (full) gci_aged_rebuild(&t->aged);
}

size_t gci_check_tracking(const struct gc_heap *heap, const struct gci_tracking *t) {
    return gci_check_aged(heap, &t->aged, GCI_SIDE_START, "samples");
}
