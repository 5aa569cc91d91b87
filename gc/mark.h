/* Marking: from roots and remembered words to everything young that they reach. */
#ifndef CAIRN_GC_MARK_H
#define CAIRN_GC_MARK_H

#include "gc/type.h"
#include "gc/types.h"

void gci_mark_init(struct gc_heap *heap);

/* Searches words for references to young objects; marks and pushes these.  ROOTS: a word at an
 * object boundary holds the object before it too, whatever the option for heap words says. */
void gci_mark_root_words(struct gci_marker *marker, gci_words words);
/* The same later, in the course of marking, when the crew helps.  False if nothing was done: there is no
 * crew, the words are in the heap, or this kind of collection must know what roots refer to first.
 * They must stay readable until everything is marked. */
bool gci_mark_roots_later(struct gci_marker *marker, gci_words words);

typedef void gci_mark_words(struct gci_marker *marker, gci_words words);
gci_mark_words gci_mark_heap_words;
/* The same by several members of the crew at a time, in a minor collection that moves nothing. */
gci_mark_words gci_mark_shared_words;

/* Pushes a run to be searched later, its lower bits as struct gci_mark_stack says. */
void gci_mark_push(struct gci_marker *marker, gci_words run);

/* Searches the marked objects of a TYPED block or large space between START and END now. */
void gci_mark_objects(struct gci_marker *marker, uintptr_t start, uintptr_t end);

/* Searches what was pushed until nothing is left. */
void gci_mark_drain(struct gci_marker *marker);

/* The same by a member of the crew, what others of it have pushed included. */
void gci_mark_drain_shared(struct gci_marker *marker);

/* A precise root, or a field of an object in a collection that moves: marks what it refers to, or
 * moves that and changes it. */
void gci_mark_slot(struct gci_marker *marker, uintptr_t *slot);
/* The same for a word of the heap's format (gc/word.h), which the heap must have. */
void gci_mark_tagged_slot(struct gci_marker *marker, uintptr_t *slot);

/* Aborts: SLOT, a typed field or a slot, refers into the object at GRANULE, which has moved. */
__attribute__((noreturn)) void gci_refuse_interior(
    const struct gc_heap *heap, const uintptr_t *slot, size_t granule);

/* Takes the top of the stack; false if it is empty. */
bool gci_mark_pop(struct gci_mark_stack *stack, gci_words *run);

/* Makes room on a full stack; false if the system or the option refuses it. */
bool gci_mark_stack_grow(struct gci_mark_stack *stack);
static inline bool gci_mark_stack_push(struct gci_mark_stack *stack, gci_words words) {
    if (__builtin_expect(stack->top == stack->limit, 0) && !gci_mark_stack_grow(stack))
        return false;
    *stack->top++ = words;
    return true;
}

/* The spare segment of FROM, which has one, becomes that of TO, which has none, unless its limit
 * forbids that. */
void gci_mark_stack_give_spare(struct gci_mark_stack *from, struct gci_mark_stack *to);

/* Goes back to the segment below; false if there is none. */
bool gci_mark_stack_shrink(struct gci_mark_stack *stack);

#endif
