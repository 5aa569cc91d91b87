/* Collections: the script of phases, and when they run. */
#ifndef CAIRN_GC_COLLECT_H
#define CAIRN_GC_COLLECT_H

#include "gc/types.h"

/* Collects now, for the REASON that the log gives.  False if collection is disabled or already
 * running. */
bool gci_collect(struct gc_heap *heap, enum gc_collection kind, const char *reason);

/* Collects if so much was allocated that the policy wants it. */
void gci_collect_if_due(struct gc_heap *heap);

/* For CAIRN_STRESS: minor collections, and every eighth time a full one. */
void gci_collect_stress(struct gc_heap *heap);

/* What one collection did and took. */
struct gci_cycle {
    enum gc_collection kind;
    const char *reason;
    uint64_t start_ns, roots_ns, marked_ns, end_ns; /* points in time */
    uint64_t allocated;                             /* bytes, since the collection before */
};

/* Policy (gc/policy.c, docs/policy.md). */
void gci_policy_init(struct gc_heap *heap);
/* Which kind of collection is due, and why; false if none. */
bool gci_policy_due(const struct gc_heap *heap, enum gc_collection *kind, const char **reason);
/* After marking: will the next collection be a minor one, so that blocks should be protected? */
bool gci_policy_protects(const struct gc_heap *heap, enum gc_collection kind);
/* After a collection: sizes the nursery, sets the threshold for the next full collection,
 * returns memory to the system. */
void gci_policy_update(struct gc_heap *heap, const struct gci_cycle *cycle);

#endif
