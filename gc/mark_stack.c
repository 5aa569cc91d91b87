/* The mark stack: segments from the system, linked, so that it grows without moving and without
 * malloc.  One empty segment is kept spare, so that a stack that hovers around a boundary makes
 * no system calls.  When the system or the option refuses a segment, the marker goes on without
 * the entry and searches the heap for objects that were marked but not searched (gc/mark.c).
 * Used by one marker. */
#include "gc/mark.h"
#include "runtime/vm.h"

#define SEGMENT_BYTES ((size_t)256 << 10)

struct gci_mark_segment {
    struct gci_mark_segment *below;
    size_t bytes;
};

static void enter(struct gci_mark_stack *stack, struct gci_mark_segment *segment, bool at_top) {
    stack->segment = segment;
    stack->base = (gci_words *)(void *)(segment + 1);
    stack->limit = stack->base + (segment->bytes - sizeof *segment) / sizeof(gci_words);
    stack->top = at_top ? stack->limit : stack->base;
}

bool gci_mark_stack_grow(struct gci_mark_stack *stack) {
    struct gci_mark_segment *segment = stack->spare;
    stack->spare = NULL;
    if (segment == NULL) {
        size_t bytes = SEGMENT_BYTES;
        if (stack->bytes_limit != 0 && stack->bytes + bytes > stack->bytes_limit)
            bytes = stack->bytes_limit > stack->bytes ? stack->bytes_limit - stack->bytes : 0;
        bytes = bytes / gci_page_size() * gci_page_size();
        if (bytes > 0) segment = gci_vm_map(bytes);
        if (segment == NULL) return false;
        segment->bytes = bytes;
        stack->bytes += bytes;
    }
    segment->below = stack->segment;
    enter(stack, segment, false);
    return true;
}

static void release(struct gci_mark_stack *stack, struct gci_mark_segment *segment) {
    stack->bytes -= segment->bytes;
    gci_vm_unmap(segment, segment->bytes);
}

bool gci_mark_stack_shrink(struct gci_mark_stack *stack) {
    struct gci_mark_segment *segment = stack->segment;
    if (segment == NULL || segment->below == NULL) return false;
    if (stack->spare != NULL) release(stack, stack->spare);
    stack->spare = segment;
    enter(stack, segment->below, true);
    return true;
}

void gci_mark_stack_give_spare(struct gci_mark_stack *from, struct gci_mark_stack *to) {
    struct gci_mark_segment *segment = from->spare;
    if (to->bytes_limit != 0 && to->bytes + segment->bytes > to->bytes_limit) return;
    from->spare = NULL;
    from->bytes -= segment->bytes;
    to->spare = segment;
    to->bytes += segment->bytes;
}
