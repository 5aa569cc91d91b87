/* What happens in a heap, and who is told of it: the program's listeners, the timeline
 * (gc/timeline.h) and USDT probes.  docs/tracing.md has the events.
 *
 * What the caller gets: if nobody listens, an event costs a call and a branch.  What the caller must
 * supply: of the functions of the first group each is called with the lock held; those of the second
 * without it, by a thread that is inside the library, or not attached. */
#ifndef CAIRN_GC_EVENT_H
#define CAIRN_GC_EVENT_H

#include "cairn/embed.h"
#include "gc/collect.h"
#include "gc/types.h"

/* A listener's function is running in the calling thread. */
extern __thread bool gci_listening __attribute__((tls_model("initial-exec")));

/* Ends the program: such a function has called one that may touch the heap. */
void gci_event_refuse(void) __attribute__((noreturn, cold));

/* ---- With the lock held --------------------------------------------------------------------- */

/* A collection begins that CYCLE describes, with the phase STOP. */
void gci_event_collection(struct gc_heap *heap, const struct gci_cycle *cycle);

/* In a collection, what has gone on ends, and PHASE begins; GC_PHASES: nothing does. */
void gci_event_phase(struct gc_heap *heap, enum gc_phase phase);

/* It ends, and threads go on.  What listeners are told later, without the lock, is stored in
 * *EVENT. */
void gci_event_collected(struct gc_heap *heap, const struct gci_cycle *cycle, gc_event *event);

/* BYTES more of the arena are usable from now on; BYTES went back to the system.  HEAP may be
 * NULL. */
void gci_event_grown(struct gc_heap *heap, uint64_t bytes);
void gci_event_returned(struct gc_heap *heap, uint64_t bytes);

/* ---- Without it ----------------------------------------------------------------------------- */

/* After gci_event_collected(), by the same THREAD: tells listeners, and writes the timeline. */
void gci_event_tell_collected(struct gci_thread *thread, const gc_event *event);

/* An allocation of BYTES fails. */
void gci_event_out_of_memory(struct gci_thread *thread, uint64_t bytes);

/* The calling thread was attached, or was detached, and is not inside the library. */
void gci_event_attached(struct gc_heap *heap);
void gci_event_detached(struct gc_heap *heap);

/* In the child of a fork. */
void gci_events_after_fork(struct gc_heap *heap);

#endif
