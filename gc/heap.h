/* A heap as a whole. */
#ifndef CAIRN_GC_HEAP_H
#define CAIRN_GC_HEAP_H

#include "gc/types.h"

/* Creates a heap with resolved OPTIONS and attaches the calling thread.  Returns NULL with
 * *ERROR set. */
struct gc_heap *gci_heap_open(const gc_options *options, struct gc_buffer *ambiguous_buffer,
    struct gc_buffer *leaf_buffer, int *error);

/* Root ranges.  Both return 0 or an errno value. */
int gci_heap_add_root(struct gc_heap *heap, const void *start, size_t bytes);
int gci_heap_remove_root(struct gc_heap *heap, const void *start, size_t bytes);

#endif
