/* What a collection does about objects that it finds dead, before they are (docs/finalization.md). */
#ifndef CAIRN_GC_LIVENESS_H
#define CAIRN_GC_LIVENESS_H

#include "gc/types.h"

/* Before roots are searched: of which kind the collection is. */
void gci_liveness_begin(struct gc_heap *heap, bool full);

/* When all that the program can reach is marked, or was moved: clears weak references and links,
 * makes finalizers ready, and marks what these keep. */
void gci_liveness(struct gc_heap *heap, bool full);

#endif
