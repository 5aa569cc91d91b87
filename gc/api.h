/* How a public function enters the library and leaves it, in whatever file it is. */
#ifndef CAIRN_GC_API_H
#define CAIRN_GC_API_H

#include "gc/types.h"

/* Opens the heap if need be; FRAME: where the caller's part of the stack begins.  Returns 0 or an
 * errno value. */
int gci_need_heap(const void *frame);

/* The calling thread, inside the library, its stack to be searched from FRAME.  NULL with errno set
 * if there is no heap and none can be had. */
struct gci_thread *gci_api_enter(const struct gci_frame *frame);
/* Out of the library, with RESULT. */
int gci_api_leave(struct gci_thread *thread, int result);
/* Out of the library with P, which is held until the caller has it. */
void *gci_api_leave_with(struct gci_thread *thread, void *p);

/* Enters if the calling thread is attached, or opens the heap: for functions that any thread may
 * call and that take the lock.  NULL if the thread isn't attached. */
struct gci_thread *gci_api_enter_if_attached(const struct gci_frame *frame);
int gci_api_leave_if_attached(struct gci_thread *thread, int result);

#endif
