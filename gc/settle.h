/* The settle phase of a collection. */
#ifndef CAIRN_GC_SETTLE_H
#define CAIRN_GC_SETTLE_H

#include "gc/types.h"

/* After marking, and moving: frees large objects that are dead, and blocks with nothing live in
 * them; puts the others on the lists of those with room; tags those CLOSING that are to be
 * protected; counts what is live.  KIND: GC_MINOR or GC_FULL. */
void gci_settle_blocks(struct gc_heap *heap, enum gc_collection kind);

#endif
