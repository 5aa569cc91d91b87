/* Allocation behind the inline fast path: holes, blocks, cells, and what happens when memory is
 * short. */
#ifndef CAIRN_GC_ALLOCATE_H
#define CAIRN_GC_ALLOCATE_H

#include "gc/types.h"

/* Fills heap->class_of.  Once, at opening. */
void gci_allocate_init(struct gc_heap *heap);

/* Bytes of a cell of SIZE_CLASS. */
uint32_t gci_cell_bytes(unsigned size_class);

/* Allocates a zeroed object of SIZE bytes at a multiple of ALIGNMENT (a power of two).  May
 * collect.  NULL, errno ENOMEM, when all fails. */
void *gci_allocate(struct gci_thread *thread, unsigned buffer, size_t size, size_t alignment);

/* The same for objects that are going to be old: small ones lie in blocks apart from the nursery's.
 * It is young still. */
void *gci_allocate_apart(struct gci_thread *thread, enum gci_kind kind, size_t size);

/* Frees the object, which is live, for reuse at once. */
void gci_deallocate(struct gci_thread *thread, gci_object object);

/* Tries to change the size of the object without moving it; new bytes are zero.  BYTES > 0. */
bool gci_resize(struct gci_thread *thread, gci_object object, size_t bytes);

/* Gives up the thread's open buffers: before a collection, and when the thread ends. */
void gci_retire_buffers(struct gci_thread *thread);

#endif
