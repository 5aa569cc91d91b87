/* gc_explain(): what keeps an object alive. */
#ifndef CAIRN_GC_EXPLAIN_H
#define CAIRN_GC_EXPLAIN_H

#include "gc/types.h"

/* Prints a shortest path from a root to TARGET.  The calling thread is inside the library, and out
 * of it when this returns.  Returns 0, ESRCH or ENOMEM. */
int gci_explain(struct gci_thread *thread, gci_object target);

/* Visits every range of root words of the program (gc/collect.c). */
void gci_visit_roots(struct gc_heap *heap, gci_root_visitor *visit, void *context);

#endif
