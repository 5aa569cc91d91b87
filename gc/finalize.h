/* Running finalizers, and what the public functions about objects that die have in common. */
#ifndef CAIRN_GC_FINALIZE_H
#define CAIRN_GC_FINALIZE_H

#include "gc/types.h"

/* After a collection, on the thread that collected, inside the library and without the lock: wakes
 * or starts the thread that runs finalizers, or runs them, and calls the program's callback, if the
 * collection made something ready. */
void gci_finalizers_announce(struct gci_thread *thread);

/* In the child. */
void gci_finalizers_after_fork(struct gc_heap *heap);

/* Into the library and with the lock, P and Q being held; and out of it.  The thread is NULL if it
 * isn't attached. */
struct gci_thread *gci_watch_enter(
    const struct gci_frame *frame, const void *p, const void *q, struct gc_heap **heap);
int gci_watch_exit(struct gci_thread *thread, struct gc_heap *heap, int result);

/* The object that starts at P; else false, after a line on stderr. */
bool gci_watch_target(
    const char *function, const struct gc_heap *heap, const void *p, gci_object *object);

#endif
