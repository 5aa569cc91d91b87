/* Identity hashes: numbers that stay with their objects when these move (docs/identity.md). */
#ifndef CAIRN_GC_IDENTITY_H
#define CAIRN_GC_IDENTITY_H

#include "gc/types.h"

/* In a collection, when all that lives is marked or was moved, and before anything of the rest is
 * used again: entries of the dead go, those of what moved go along, whether it was by evacuation or
 * by compaction: what counts is MOVED and the address in the first word.  A minor collection (not
 * FULL) looks at young objects' only.  Never fails. */
void gci_identity_update(struct gc_heap *heap, bool full);

/* The object at granule FROM, if it has a hash, is at granule TO from now on.  With the lock held
 * or the world stopped.  TO has START, and MARK if it is old. */
void gci_identity_moved(struct gc_heap *heap, size_t from, size_t to);

/* The object at GRANULE, if it has a hash, ends.  With the lock held. */
void gci_identity_forget(struct gc_heap *heap, size_t granule);

/* Checks the table against the side bytes; returns how many invariants are broken. */
size_t gci_check_identities(const struct gc_heap *heap);

#endif
