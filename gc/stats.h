/* Counting pauses. */
#ifndef CAIRN_GC_STATS_H
#define CAIRN_GC_STATS_H

#include "gc/types.h"

void gci_histogram_add(struct gci_histogram *histogram, uint64_t ns);

/* Fills *STATS, all of it. */
void gci_stats_fill(const struct gc_heap *heap, gc_stats *stats);

#endif
