/* Shadow stacks.  A frame lies on the stack of the function that declares it and is linked into the
 * thread's gc_buffers by inline code; here they are only read, with the world stopped.  Invariant:
 * a frame that is linked is whole, since its link is written last and taken out first
 * (docs/types.md, rule 9). */
#include "gc/frames.h"

#include "cairn/embed.h"
#include "runtime/log.h"

__attribute__((no_sanitize("address"), no_sanitize("thread"))) static void visit_frames(
    const struct gc_frame *frame, gci_root_visitor *visit, void *context) {
    for (; frame != NULL; frame = frame->previous) {
        for (size_t i = 0; i < frame->count; i++) {
            const uintptr_t *slot = (const uintptr_t *)(const void *)frame->variables[i];
            visit(context, GCI_ROOT_FRAME, slot, slot + 1);
        }
    }
}

void gci_frames_visit(const struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    const struct gci_world *world = &heap->world;
    for (const struct gci_mutator *m = world->first; m != NULL; m = m->next) {
        if (m->vanished) continue;
        const struct gc_frame *frame =
            ((const struct gci_thread *)(const void *)m)->buffers->frames;
        if (frame != NULL && gci_frame_is_stale(world, m, frame))
            gci_fatal("thread %d has left the function of the GC_FRAME() at %p, but not the frame: "
                      "after longjmp() or a cancellation gc_frame_restore() is due",
                (int)m->tid, (const void *)frame);
        visit_frames(frame, visit, context);
        visit_frames(m->stack.frames, visit, context);
    }
    for (const struct gc_stack *s = world->stacks; s != NULL; s = s->next)
        visit_frames(s->frames, visit, context);
}
