/* References that were stored into old objects without gc_write(). */
#ifndef CAIRN_GC_MISSED_H
#define CAIRN_GC_MISSED_H

#include "gc/types.h"

/* Under GC_BARRIER_EXPLICIT_CROSS, else nothing: reports each field of an old object, in a closed
 * block, that refers to a young object and whose card isn't set; aborts then under CAIRN_VERIFY.
 * At the beginning of a collection, before anything is marked.  Afterwards the cards of all pages
 * written are set. */
void gci_missed_stores_find(struct gc_heap *heap);

#endif
