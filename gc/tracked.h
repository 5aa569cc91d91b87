/* The sampled objects that are alive (docs/profiling.md, rule 7). */
#ifndef CAIRN_GC_TRACKED_H
#define CAIRN_GC_TRACKED_H

#include "gc/aged.h"
#include "gc/types.h"

struct gci_tracked {
    size_t granule; /* where the object is now */
    size_t bytes;   /* when it was allocated */
    double weight;  /* objects that it stands for */
    uint32_t site;
    bool counted; /* in the profile */
};

struct gci_tracking {
    struct gci_aged aged;
};

/* The entry at position AT, below the table's count. */
static inline struct gci_tracked *gci_tracked_at(const struct gci_tracking *t, size_t at) {
    return (struct gci_tracked *)(void *)t->aged.entries + at;
}

/* Adds an entry, of an object that has none; OLD if it is marked.  With the lock held.  False if
 * there is no memory. */
bool gci_tracking_add(struct gci_tracking *t, struct gci_tracked entry, bool old);

/* The object at GRANULE, tracked or not, ends.  With the lock held. */
void gci_tracking_forget(struct gci_tracking *t, size_t granule);

/* In a collection, as gci_identity_update().  DIED gets the struct gci_tracked of each object that
 * did. */
void gci_tracking_update(struct gc_heap *heap, struct gci_tracking *t, bool full,
    void (*died)(struct gc_heap *heap, const void *entry));

/* Checks the table against the side bytes; returns how many invariants are broken. */
size_t gci_check_tracking(const struct gc_heap *heap, const struct gci_tracking *t);

#endif
