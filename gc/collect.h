/* Collections: the script of phases, and when they run. */
#ifndef CAIRN_GC_COLLECT_H
#define CAIRN_GC_COLLECT_H

#include "gc/types.h"

#define GCI_ALWAYS UINT64_MAX

/* Collects now, for the REASON that the log gives.  The calling thread is inside the library and
 * doesn't hold the lock.  SEEN: the heap's count of collections when this one was found to be due:
 * if another thread has collected since, nothing is done; or GCI_ALWAYS.  False if collection is
 * disabled, or the list of loaded objects can't be read. */
bool gci_collect(
    struct gci_thread *thread, enum gc_collection kind, const char *reason, uint64_t seen);

/* Calls FUNCTION with the world stopped and the lists of roots up to date.  Returns 0, or ENOMEM if
 * the list of loaded objects can't be read; then FUNCTION was not called. */
int gci_with_world_stopped(struct gci_thread *thread,
    void (*function)(struct gc_heap *heap, void *context), void *context);

/* The same after a full collection, for the REASON that the log gives, unless collection is
 * disabled; nothing runs between the two. */
int gci_with_world_collected(struct gci_thread *thread, const char *reason,
    void (*function)(struct gc_heap *heap, void *context), void *context);

/* Calls FUNCTION with the calling thread counted as stopped, so that it may take the loader's lock,
 * or do what takes long, while others collect.  It may not touch the heap.  Without a THREAD it is
 * called as it is. */
void gci_aside(struct gci_thread *thread, void (*function)(void *context), void *context);

/* For CAIRN_STRESS: minor collections, and every eighth time a full one, of which every second
 * compacts if there are types. */
void gci_collect_stress(struct gci_thread *thread);

/* What one collection did and took. */
struct gci_cycle {
    enum gc_collection kind; /* GC_MINOR or GC_FULL */
    bool asked;              /* the program asked for it, or CAIRN_STRESS */
    bool compact;            /* the same, a compaction */
    bool wholesale;          /* everything young was promoted, unsearched */
    bool compacted;
    const char *reason;
    uint64_t start_ns, stopped_ns, roots_ns, marked_ns, end_ns; /* points in time */
    uint64_t before;    /* bytes, live after the collection before or allocated since */
    uint64_t allocated; /* of these, allocated since */
    uint64_t tenured;   /* of these, allocated old */
    uint64_t cpu_ns;    /* once all had stopped, that the collecting thread had a processor, or
                           waited for the crew */
    uint64_t census_ns; /* spent on counting objects by type, which is no cost of collecting */
};

/* Bytes to be allocated between two minor collections, as things are: many threads need more from
 * the start than the costs of earlier collections have told. */
size_t gci_policy_nursery(const struct gc_heap *heap);

/* Policy (gc/policy.c, docs/policy.md). */
void gci_policy_init(struct gc_heap *heap);
/* Which kind of collection is due, and why; false if none. */
bool gci_policy_due(const struct gc_heap *heap, enum gc_collection *kind, const char **reason);
/* Does a minor collection promote everything young, without finding out what lives? */
bool gci_policy_promotes_all(const struct gc_heap *heap, const struct gci_cycle *cycle);
/* After marking: will the next collection be a minor one, so that blocks should be protected? */
bool gci_policy_protects(const struct gc_heap *heap, enum gc_collection kind);
/* Before a full collection marks: may it compact, though nobody asked, so that it must hold what
 * ambiguous words mean?  After marking: does it, USED bytes of blocks that may be emptied with LIVE
 * bytes in them, where GAIN bytes would be had?  How many bytes emptying a block must bring, over
 * what the room for its objects costs. */
bool gci_policy_holds(struct gc_heap *heap);
bool gci_policy_compacts(struct gc_heap *heap, uint64_t used, uint64_t live, uint64_t gain);
uint64_t gci_policy_least_gain(bool asked);
/* A compaction that nobody asked for brought nothing: the next one waits. */
void gci_policy_compacts_later(struct gc_heap *heap);
/* After a collection: sizes the nursery, sets the threshold for the next full collection,
 * returns memory to the system. */
void gci_policy_update(struct gc_heap *heap, const struct gci_cycle *cycle);

#endif
