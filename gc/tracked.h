/* The sampled objects that are alive (docs/profiling.md, rule 7). */
#ifndef CAIRN_GC_TRACKED_H
#define CAIRN_GC_TRACKED_H

#include "gc/types.h"

struct gci_tracked {
    size_t granule; /* where the object is now */
    size_t bytes;   /* when it was allocated */
    double weight;  /* objects that it stands for */
    uint32_t site;
    bool counted; /* in the profile */
};

/* The first OLD of COUNT entries are old objects'. */
struct gci_tracking {
    struct gci_tracked *entries;
    uint32_t *index; /* open addressing: of an entry its position plus 1; twice CAPACITY */
    size_t count, old, capacity;
    unsigned shift; /* of a granule's hash, to have a slot */
};

/* Adds an entry, of an object that has none; OLD if it is marked.  With the lock held.  False if
 * there is no memory. */
bool gci_tracking_add(struct gci_tracking *t, struct gci_tracked entry, bool old);

/* The object at GRANULE, tracked or not, ends.  With the lock held. */
void gci_tracking_forget(struct gci_tracking *t, size_t granule);

/* In a collection, as gci_identity_update().  DIED gets the entry of each object that did. */
void gci_tracking_update(struct gc_heap *heap, struct gci_tracking *t, bool full,
    void (*died)(struct gc_heap *heap, const struct gci_tracked *entry));

/* Checks the table against the side bytes; returns how many invariants are broken. */
size_t gci_check_tracking(const struct gc_heap *heap, const struct gci_tracking *t);

#endif
