/* Code with stack maps: frames of which the program says where their references are
 * (docs/types.md, rules 13 to 16). */
#ifndef CAIRN_GC_CODE_H
#define CAIRN_GC_CODE_H

#include "gc/types.h"

/* Finds the known frames on the stacks of all threads, with the world stopped. */
void gci_code_find_frames(struct gc_heap *heap);

/* As gci_mutator_visit(), but of known frames only the registers that they have saved. */
void gci_code_visit_thread(
    struct gc_heap *heap, const struct gci_thread *thread, gci_root_visitor *visit, void *context);

/* The slots in known frames. */
void gci_code_visit_slots(const struct gc_heap *heap, gci_root_visitor *visit, void *context);

/* By a thread inside the library: finds its known frames, for as long as it is blocking, or forks,
 * and isn't where a collection could find them. */
void gci_code_keep_frames(struct gci_thread *thread, const struct gci_frame *frame);
void gci_code_drop_frames(struct gci_thread *thread);

/* The same from wherever it is called; NULL does nothing. */
void gci_code_keep_frames_here(struct gci_thread *thread);

#endif
