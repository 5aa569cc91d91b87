/* The remembered set: old words that may refer to young objects. */
#ifndef CAIRN_GC_REMEMBER_H
#define CAIRN_GC_REMEMBER_H

#include "gc/types.h"

/* Marks from all old objects that may have been written to since the last collection: those in
 * open blocks, and those on dirty pages of closed blocks, which are clean again afterwards. */
void gci_remember_scan(struct gc_heap *heap);

/* Marks from every marked object in the heap. */
void gci_remember_all_marked(struct gc_heap *heap);

/* Protects the blocks tagged CLOSING. */
void gci_remember_close(struct gc_heap *heap);

#endif
