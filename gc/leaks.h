/* Finding what the program lost (docs/leaks.md). */
#ifndef CAIRN_GC_LEAKS_H
#define CAIRN_GC_LEAKS_H

#include "gc/types.h"

/* In a collection, when all that lives is marked or was moved, and nothing of the rest freed yet:
 * counts what it found dead. */
void gci_leaks_count(struct gc_heap *heap);

/* As gc_find_leaks(), but without the collection, by a thread that isn't attached. */
size_t gci_leaks_report(struct gc_heap *heap);

#endif
