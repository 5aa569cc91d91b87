/* gc_explain(): what keeps an object alive. */
#ifndef CAIRN_GC_EXPLAIN_H
#define CAIRN_GC_EXPLAIN_H

#include "gc/types.h"

/* Prints a shortest path from a root to the object that ADDRESS is in.  The calling thread is
 * inside the library, and out of it when this returns.  Returns 0, ESRCH, EINVAL or ENOMEM. */
int gci_explain(struct gci_thread *thread, uintptr_t address);

/* Visits every range of root words of the program (gc/collect.c). */
void gci_visit_roots(struct gc_heap *heap, gci_root_visitor *visit, void *context);

#endif
