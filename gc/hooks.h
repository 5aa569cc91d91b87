/* Root hooks: functions of the program's that report roots (docs/types.md, rules 10 and 11). */
#ifndef CAIRN_GC_HOOKS_H
#define CAIRN_GC_HOOKS_H

#include "cairn/embed.h"
#include "gc/types.h"

/* Calls all hooks, with the world stopped, and visits what they report of the kind that PASS asks
 * for. */
void gci_hooks_visit(
    struct gc_heap *heap, enum gc_root_pass pass, gci_root_visitor *visit, void *context);

/* Removes those of THREAD, which is no more, or another's from now on.  The lock is held. */
void gci_hooks_forget(struct gci_thread *thread);

#endif
