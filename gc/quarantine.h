/* Quarantine: memory that objects were moved out of can't be accessed for some collections, so that
 * the use of a stale pointer faults at once, with a message (option protect_moved;
 * docs/stale.md). */
#ifndef CAIRN_GC_QUARANTINE_H
#define CAIRN_GC_QUARANTINE_H

#include "gc/types.h"

/* At opening: prepares for the faults, if the option is set. */
void gci_quarantine_open(struct gc_heap *heap);

/* In a collection, of a used block in which nothing live is left: true if it is free now and in
 * quarantine, since objects were moved out of it (MOVED); false, if the caller shall give it
 * back. */
bool gci_quarantine_add(struct gc_heap *heap, uint32_t block);

/* When all blocks are settled: protects those that were added, and ends the time of others. */
void gci_quarantine_settle(struct gc_heap *heap);

/* Ends the quarantine of the COUNT oldest blocks, or some more; returns of how many.  With the lock
 * held or the world stopped. */
uint32_t gci_quarantine_end(struct gci_arena *arena, uint32_t count);

#endif
