/* Shadow stacks: the variables that GC_FRAME() of cairn/embed.h names are precise roots. */
#ifndef CAIRN_GC_FRAMES_H
#define CAIRN_GC_FRAMES_H

#include "gc/types.h"

/* Are stacks and registers left out of the search for ambiguous words? */
static inline bool gci_stacks_are_precise(const struct gc_heap *heap) {
    return heap->options.stack_scan == GC_STACK_SCAN_PRECISE;
}

/* Visits all variables in frames, with the world stopped: of threads, and of coroutines that were
 * left by gc_stack_switch().  Aborts with a message if a frame's function has ended without it. */
void gci_frames_visit(const struct gc_heap *heap, gci_root_visitor *visit, void *context);

#endif
