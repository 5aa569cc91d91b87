/* Collections: the script of phases, and when they run. */
#ifndef CAIRN_GC_COLLECT_H
#define CAIRN_GC_COLLECT_H

#include "gc/types.h"

/* Collects now, for the REASON that the log gives.  False if collection is disabled or already running. */
bool gci_collect(struct gc_heap *heap, enum gc_collection kind, const char *reason);

/* Collects if so much was allocated that the policy wants it. */
void gci_collect_if_due(struct gc_heap *heap);

/* For CAIRN_STRESS: minor collections, and every eighth time a full one. */
void gci_collect_stress(struct gc_heap *heap);

/* Policy (gc/policy.c, docs/policy.md). */
struct gci_phase_times {
    uint64_t start, roots_done, marked, end; /* ns */
};
void gci_policy_init(struct gc_heap *heap);
/* Which kind of collection is due, and why; false if none. */
bool gci_policy_due(struct gc_heap *heap, enum gc_collection *kind, const char **reason);
/* After a collection: sizes the nursery, sets the threshold for the next full collection, returns memory to the
 * system. */
void gci_policy_update(
    struct gc_heap *heap, enum gc_collection kind, const struct gci_phase_times *times);

#endif
