/* What happens to the heap when the process forks (docs/threads.md, rules 12 to 14). */
#ifndef CAIRN_GC_FORK_H
#define CAIRN_GC_FORK_H

#include "gc/types.h"

/* Registers the heap with pthread_atfork().  Once.  Returns 0 or an errno value. */
int gci_fork_open(struct gc_heap *heap);

/* In a child that was made without the handlers, by _Fork() or clone(). */
void gci_fork_without_handlers(struct gc_heap *heap);

/* Inside the library, at every entry: one load of a word that fork clears in the child. */
static inline void gci_fork_notice(struct gc_heap *heap) {
    if (__builtin_expect(gci_barrier_is_in_child(heap->barrier), 0))
        gci_fork_without_handlers(heap);
}

#endif
