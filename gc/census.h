/* The census: how much of each type survives its first collection (docs/tenure.md, rule 4). */
#ifndef CAIRN_GC_CENSUS_H
#define CAIRN_GC_CENSUS_H

#include "gc/types.h"

/* What is known of a type.  Written with the world stopped. */
struct gci_type_counts {
    uint64_t allocated_objects, allocated_bytes; /* that were young when a census began */
    uint64_t survived_objects, survived_bytes;   /* of these, found alive */
};

/* At the start of a minor collection, when no buffer is open: counts what is young, if it is this
 * collection's turn.  True if so: then gci_census_end() must follow, after marking. */
bool gci_census_begin(struct gc_heap *heap);
void gci_census_end(struct gc_heap *heap);

#endif
