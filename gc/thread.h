/* Threads of a heap: their records, attaching and detaching, and what a collection does with their
 * open buffers. */
#ifndef CAIRN_GC_THREAD_H
#define CAIRN_GC_THREAD_H

#include "gc/types.h"

/* The calling thread's record; NULL if it isn't attached. */
static inline struct gci_thread *gci_thread_self(void) {
    return (struct gci_thread *)(void *)gci_self;
}

/* Once for a heap: the key whose destructor detaches threads that end.  0 or an errno value. */
int gci_threads_open(struct gc_heap *heap);

/* As gc_thread_attach() and gc_thread_detach().  FRAME: where the program's part of the calling
 * thread's stack begins. */
int gci_thread_attach(struct gc_heap *heap, const void *frame);
int gci_thread_detach(void);

/* Takes the world's lock in a thread that is attached, then inside the library, or isn't. */
void gci_heap_lock(struct gc_heap *heap);
void gci_heap_unlock(struct gc_heap *heap);

/* The signal that threads are stopped by; 0 if there is no heap or it uses none. */
int gci_stop_signal(void);
/* How often the calling thread was stopped by it. */
uint64_t gci_stop_count(void);

/* Adds what threads have allocated since to the heap's count.  The lock is held. */
void gci_threads_count(struct gc_heap *heap);
void gci_thread_count(struct gci_thread *thread);

/* STOP, SEAL; UNSEAL, START: the lock is held, SELF is the caller or NULL.  While sealed no side
 * byte is torn (docs/threads.md, rule 9). */
void gci_threads_stop(struct gc_heap *heap, struct gci_thread *self);
void gci_threads_start(struct gc_heap *heap, struct gci_thread *self);

/* At the start of a collection: gives up the open buffers and cells, but for those that a thread
 * may be using this instant, whose blocks are KEPT. */
void gci_threads_release_buffers(struct gc_heap *heap);

/* In the child of a fork: the records of threads that are no more become idle; what they left half
 * done is repaired. */
void gci_threads_after_fork(struct gc_heap *heap, struct gci_thread *self);

#endif
