/* Fresh memory, touched ahead: the first write to a page costs a fault, which a thread of the crew
 * that has nothing to do takes instead of the program's (docs/memory.md, rule 2). */
#ifndef CAIRN_GC_AHEAD_H
#define CAIRN_GC_AHEAD_H

#include "gc/types.h"

/* With the lock held, after memory was taken: is a thread to be woken to touch what comes next?  By
 * gci_crew_nudge(), without the lock. */
bool gci_ahead_plan(struct gc_heap *heap);

/* By a thread of the crew: touches one block.  False if there is nothing to do. */
bool gci_ahead_touch(struct gc_heap *heap);

#endif
