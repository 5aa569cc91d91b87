/* Ephemerons, and entries of weak tables, which are the same: what the marker asks of gc/ephemeron.c
 * (docs/ephemerons.md). */
#ifndef CAIRN_GC_EPHEMERON_H
#define CAIRN_GC_EPHEMERON_H

#include "cairn/embed.h"
#include "gc/type.h"
#include "gc/types.h"

/* An entry: an ephemeron is an object of one.  A table's storage is an array of them, the first of
 * which is empty and has in HASH how many others the collector has emptied.  Invariants: an entry
 * without a key has no value; LINK is 0 but during a collection. */
struct gci_entry {
    uintptr_t key, value;
    uintptr_t link; /* on a list of the collector's; else 0 */
    uintptr_t hash; /* the table's business */
};

#define GCI_ENTRY_BYTES 32u

_Static_assert(sizeof(struct gci_entry) == GCI_ENTRY_BYTES, "two granules");

/* A table, gc_table to programs: gc/table.c.  Written with LOCK held. */
struct gci_table_object {
    struct gci_entry *entries;    /* CAPACITY and the first; NULL at first */
    uint32_t *index;              /* 2 * CAPACITY: positions of entries, 0: none */
    size_t used, capacity;        /* entries from 1 to below USED were added, */
    size_t removed;               /* and of these so many removed by the program */
    size_t fresh;                 /* by identity: those from here on may have moved since */
    uint64_t seen, compactions;   /* this collection, and this compaction */
    gc_table_hash *hash_function; /* both NULL: by identity */
    gc_table_equal *equal;
    unsigned shift; /* of a mixed hash, to have a slot */
    uint32_t kind;  /* enum gc_table_kind */
    uint32_t lock;
};

/* The library's own types, made at first use.  NULL with errno ENOMEM or ENOSPC.  May be called
 * from outside the library; never collects. */
const gc_type *gci_own_type(enum gci_own_type which);

/* Public functions' checks of their arguments: false after a message, errno EINVAL. */
bool gci_may_be_key(const char *function, const void *key);
bool gci_may_be_value(const char *function, const void *value);

/* For the marker, which met ENTRY: returns the slot that it must mark at once, or NULL.  ENTRY is
 * remembered then, if need be, for gci_ephemerons_trace(). */
uintptr_t *gci_ephemeron_meet(
    struct gci_marker *marker, struct gci_entry *entry, enum gci_weak weak, bool shared);

/* The same: it has marked the object at GRANULE, which has GCI_SIDE_KEY. */
void gci_ephemeron_key_found(struct gc_heap *heap, size_t granule);

/* Takes over what a hand of the crew has met. */
void gci_ephemerons_join(struct gci_marker *to, struct gci_marker *from);

/* After marking: marks what ephemerons keep whose keys are marked, and all that this leads to.  May
 * be called again when more was marked. */
void gci_ephemerons_trace(struct gc_heap *heap);

/* After that: empties those whose keys were not marked. */
void gci_ephemerons_settle(struct gc_heap *heap);

/* Checks all marked ephemerons and entries; returns how many invariants are broken. */
size_t gci_check_ephemerons(const struct gc_heap *heap);

#endif
