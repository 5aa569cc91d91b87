/* Free runs of units (blocks or pages) with coalescing and a choice of fit. */
#ifndef CAIRN_GC_RUNS_H
#define CAIRN_GC_RUNS_H

#include "gc/types.h"

/* NODES: zeroed, one for each unit that will ever be given. */
void gci_runs_init(struct gci_runs *runs, struct gci_run_node *nodes, enum gc_fit fit);

/* Gives [first, first + length) to the free runs; joins it with its neighbours.  Returns the
 * joined run's first unit and writes its length. */
uint32_t gci_runs_give(
    struct gci_runs *runs, uint32_t first, uint32_t length, uint32_t *joined_length);

/* Takes LENGTH units at a multiple of ALIGNMENT (a power of two, in units), placed by the fit.
 * GCI_NONE if no run is long enough. */
uint32_t gci_runs_take(struct gci_runs *runs, uint32_t length, uint32_t alignment);

/* Takes exactly [first, first + length), all of which must be free and in one run that starts at
 * RUN. */
void gci_runs_take_at(struct gci_runs *runs, uint32_t run, uint32_t first, uint32_t length);

/* The length of the free run that starts at FIRST, 0 if none does. */
uint32_t gci_runs_length(const struct gci_runs *runs, uint32_t first);

/* Checks the treap's invariants; returns how many are broken. */
size_t gci_check_runs(const struct gci_runs *runs);

#endif
