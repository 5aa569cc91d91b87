/* The timeline: events as Chrome's trace events in a file (docs/tracing.md, rules 7 to 13).
 *
 * What the caller gets: gci_timeline_add() stores an event in memory that is there already, and
 * gci_timeline_flush() writes what is stored.  What the caller must supply: the first may be called
 * with the world stopped, the second not; its caller may be stopped meanwhile, or is inside the
 * library and BLOCKING, with its signals blocked. */
#ifndef CAIRN_GC_TIMELINE_H
#define CAIRN_GC_TIMELINE_H

#include "gc/event.h"

/* Which function of a listener an event is for. */
enum gci_event_name {
    GCI_COLLECTION_BEGIN,
    GCI_PHASE_BEGIN,
    GCI_PHASE_END,
    GCI_HEAP_GROWN,
    GCI_HEAP_RETURNED,
    GCI_COLLECTION_END,
    GCI_OUT_OF_MEMORY,
    GCI_THREAD_ATTACHED,
    GCI_THREAD_DETACHED
};

/* Begins a timeline in the file that PATH names; as gc_trace_start(). */
int gci_timeline_start(struct gc_heap *heap, const char *path);
/* As gc_trace_stop(). */
int gci_timeline_stop(struct gc_heap *heap);

void gci_timeline_add(
    struct gci_timeline *timeline, enum gci_event_name name, const gc_event *event);
void gci_timeline_flush(struct gci_timeline *timeline);

/* In the child of a fork, whose timeline is another one, or none. */
void gci_timeline_after_fork(struct gc_heap *heap);

#endif
