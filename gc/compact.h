/* Compaction: a full collection moves objects out of sparse blocks (docs/compaction.md). */
#ifndef CAIRN_GC_COMPACT_H
#define CAIRN_GC_COMPACT_H

#include "gc/types.h"

/* After marking, in a collection that held what ambiguous words mean: chooses blocks, moves what
 * may move out of them, and changes every precise reference to it.  BY_ROOTS: granules that roots
 * hold.  ASKED: the program asked for it; else false, and nothing moves, if the policy finds that
 * it isn't worth it. */
bool gci_compact(struct gc_heap *heap, bool asked, uint64_t by_roots);

/* After the settle phase: the line for the log. */
void gci_compact_log(const struct gc_heap *heap);

#endif
