/* Objects that have entries in tables outside the heap: the side byte's bit KEYED says that there
 * may be some, and here is what all tables do when such an object is freed or moved by hand.
 * Collections go through the tables themselves. */
#ifndef CAIRN_GC_KEYED_H
#define CAIRN_GC_KEYED_H

#include "gc/types.h"

/* With the lock held: the object at GRANULE ends; the one at FROM is at TO from now on, and has
 * BYTES; it has only BYTES left, where it is. */
void gci_keyed_forget(struct gc_heap *heap, size_t granule);
void gci_keyed_moved(struct gc_heap *heap, size_t from, size_t to, size_t bytes);
void gci_keyed_cut(struct gc_heap *heap, size_t granule, size_t bytes);

#endif
