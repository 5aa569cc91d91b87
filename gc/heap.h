/* A heap as a whole. */
#ifndef CAIRN_GC_HEAP_H
#define CAIRN_GC_HEAP_H

#include "gc/types.h"

/* Creates a heap with resolved OPTIONS and attaches the calling thread, whose part of the stack
 * begins at FRAME.  Returns NULL with *ERROR set. */
struct gc_heap *gci_heap_open(const gc_options *options, const void *frame, int *error);

/* With the lock held, or before there is a thread: it has at most BYTES (0: no limit), and what the
 * machine lets it have. */
void gci_heap_set_limit(struct gc_heap *heap, size_t bytes);

/* The heap that gc_alloc() and its like use; NULL before it is opened (gc/api.c). */
struct gc_heap *gci_default_heap(void);

/* Root ranges, PRECISE if each word is a slot.  Both take the lock, and return 0 or an errno
 * value. */
int gci_heap_add_root(struct gc_heap *heap, const void *start, size_t bytes, bool precise);
int gci_heap_remove_root(struct gc_heap *heap, const void *start, size_t bytes, bool precise);

#endif
