/* Objects that have entries in tables outside the heap: the side byte's bit KEYED says that there
 * may be some, and here is what all tables do when such an object is freed or moved by hand, or with the
 * collections. */
#ifndef CAIRN_GC_KEYED_H
#define CAIRN_GC_KEYED_H

#include "gc/types.h"

/* In a collection, after marking and again after a compaction has moved: entries go with their
 * objects, or end.  FULL: what was old may have died, too. */
void gci_keyed_update(struct gc_heap *heap, bool full);

/* Checks the tables; returns how many invariants are broken. */
size_t gci_check_keyed(const struct gc_heap *heap);

/* With the lock held: the object at GRANULE ends; the one at FROM is at TO from now on, and has
 * BYTES; it has only BYTES left, where it is. */
void gci_keyed_forget(struct gc_heap *heap, size_t granule);
void gci_keyed_moved(struct gc_heap *heap, size_t from, size_t to, size_t bytes);
void gci_keyed_cut(struct gc_heap *heap, size_t granule, size_t bytes);

#endif
