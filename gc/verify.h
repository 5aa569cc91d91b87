/* The checks of CAIRN_VERIFY and gc_verify().  Each prints what it finds broken, the first
 * twenty of a run. */
#ifndef CAIRN_GC_VERIFY_H
#define CAIRN_GC_VERIFY_H

#include "gc/types.h"

/* Between marking and sweeping: no marked object and no slot refers to an unmarked young one.  This
 * is what a missed write or a missed word looks like.  Aborts if it is broken, unless something was
 * freed by hand: a dangling pointer that nobody uses looks the same once its place is used
 * again. */
void gci_verify_marks(struct gc_heap *heap);

/* At any time outside a collection: tables, lists, counts, side bytes.  Returns how many
 * invariants are broken. */
size_t gci_verify_heap(struct gc_heap *heap);

#endif
