/* Types: what the heap knows of the layout of objects (docs/types.md). */
#ifndef CAIRN_GC_TYPE_H
#define CAIRN_GC_TYPE_H

#include "cairn/embed.h"
#include "gc/arena.h"
#include "gc/types.h"

#define GCI_TYPE_NUMBERS 65536u
#define GCI_TINY_TYPES   256u /* numbers below are for objects of one granule */
#define GCI_TYPES_MAX    60000u
#define GCI_HOT_BYTES    240u /* larger types aren't hot: they may go to overflow blocks */

_Static_assert(GCI_TYPE_BY_TAG == GCI_TYPE_NUMBERS - 1, "the last number, and the last tiny one");

/* A registered type: what the program sees, and what the collector uses. */
struct gci_type {
    struct gc_type visible; /* first */
    uint16_t tiny;          /* the number for objects of one granule; 0 if it has none */
    uint16_t wide;          /* for larger ones */
    unsigned buffer;        /* of single objects: a kind's, or a hot type's */
    uint32_t warmth;        /* allocations before it became hot; atomic */
    uint32_t size;
    uint32_t granules; /* of one object */
    uint32_t
        plain; /* the same, if it can be copied by rote: MAP says all, and it may move; else 0 */
    uint32_t flags;
    bool dense;  /* all its words are plain references */
    bool worded; /* its fields are words of the heap's format (docs/tags.md), and MAP is 0; or it is
                    gci_type_by_tag, or WEAK is set */
    bool own;    /* the library's */
    enum gci_weak weak; /* a type of gc/ephemeron.c's */
    uint64_t
        map; /* which words of an object that is no array are pointers; 0 if there are others */
    uint64_t element_map; /* the same for an array's element */
    uint32_t count;
    const uint32_t *offsets;
    gc_trace_function *trace;
    struct gci_type_counts *counts; /* gc/census.h */
    struct gc_type_desc desc;
};

#define GCI_ANSWERS 4096u

/* All types of a heap.  Written with the lock held; an entry never changes once it is there. */
struct gci_types {
    const struct gci_type *table[GCI_TYPE_NUMBERS];
    const struct gci_type *all[GCI_TYPES_MAX];
    uint32_t count, hot;
    uint32_t tiny, wide; /* next numbers */
    gc_layout_hook *layout_hook;
    const struct gci_type *answers[GCI_ANSWERS]; /* of the hook that were checked; atomic */
    uint8_t *room;                               /* for records, names and offsets */
    size_t room_bytes;
};

/* Registers DESC, checked, with the lock held.  Returns 0 or an errno value, after a message. */
int gci_type_register(struct gc_heap *heap, const gc_type_desc *desc, const gc_type **type);

/* The same for a type of the library's own.  A program may have one of the same name. */
int gci_type_register_own(
    struct gc_heap *heap, const gc_type_desc *desc, enum gci_weak weak, const gc_type **type);

/* Gives TYPE a buffer of its own, if it can have one and there is one left; with the lock held.
 * Returns the number of the buffer that its single objects come from now. */
unsigned gci_type_heat(struct gc_heap *heap, struct gci_type *type);

/* The type registered under DESC's name, if its layout is the same; else NULL. */
const gc_type *gci_type_find(const struct gc_heap *heap, const gc_type_desc *desc);

/* That of an object whose allocation another thread had not finished when this process was forked:
 * it has no fields. */
extern const struct gci_type gci_no_type;

/* What stands for the type of an object whose type is found by its first word.  Its flags send
 * those who would move the object to gci_type_ask(). */
extern const struct gci_type gci_type_by_tag;

/* Writes what the word at OFFSET of an object of TYPE, or of an array of it, is called: the field's
 * name; false if that isn't known: its offset ("+16"). */
bool gci_type_name_field(const struct gci_type *type, size_t offset, char *buffer, size_t bytes);

static inline bool gci_layout_hook_is_set(const struct gc_heap *heap) {
    return heap->types != NULL &&
           __atomic_load_n(&heap->types->layout_hook, __ATOMIC_ACQUIRE) != NULL;
}

/* Sets the hook, with the lock held.  Returns 0, EALREADY or ENOMEM. */
int gci_layout_hook_set(struct gc_heap *heap, gc_layout_hook *hook);

/* The type of an object at GRANULE whose type bytes say gci_type_by_tag: by the hook, checked. */
const struct gci_type *gci_type_ask(const struct gc_heap *heap, size_t granule);

/* What the type bytes of the object at GRANULE of a TYPED block say: its type, or
 * gci_type_by_tag. */
static inline const struct gci_type *gci_type_recorded(const struct gc_heap *heap, size_t granule) {
    const struct gci_arena *arena = &heap->arena;
    unsigned number = arena->types[granule];
    if (number - 1u >= GC_HOT_TYPES && !(arena->side[granule] & GCI_SIDE_END))
        number |= (unsigned)arena->types[granule + 1] << 8;
    const struct gci_type *type = heap->types->table[number];
    return __builtin_expect(type != NULL, 1) ? type : &gci_no_type;
}

/* The kind of what TYPE's objects are. */
static inline enum gci_kind gci_type_kind(const struct gci_type *type) {
    return type->flags & GC_TYPE_LEAF               ? GCI_LEAF
           : type->flags & GC_TYPE_AMBIGUOUS_HOLDER ? GCI_AMBIGUOUS
                                                    : GCI_TYPED;
}

/* Its type. */
static inline const struct gci_type *gci_type_at(const struct gc_heap *heap, size_t granule) {
    const struct gci_type *type = gci_type_recorded(heap, granule);
    return type != &gci_type_by_tag ? type : gci_type_ask(heap, granule);
}

/* One search of an object's fields: VISIT gets each in [FROM, TO). */
struct gc_visitor {
    void (*visit)(gc_visitor *visitor, uintptr_t *slot);
    void *context;
    const struct gci_type *type;
    uintptr_t object, object_end, from, to;
    void (*visit_plain)(
        gc_visitor *visitor, uintptr_t *slot); /* for gc_visit_plain(); NULL: VISIT */
};

/* Visits the fields, by the type's offsets or its trace function. */
void gci_type_visit(gc_visitor *visitor);

/* A run for the mark stack, HOW as struct gci_mark_stack says. */
static inline gci_words gci_run(uintptr_t start, uintptr_t end, unsigned how) {
    return (gci_words){(const uintptr_t *)(start | how), (const uintptr_t *)end};
}

/* All fields of the object of GRANULES at START, of TYPE. */
static inline gci_words gci_run_of_object(
    const struct gci_type *type, uintptr_t start, size_t granules) {
    if (type->map != 0 && granules == type->granules)
        return gci_run(start, (uintptr_t)type, GCI_RUN_FIELDS);
    return gci_run(start, start + granules * GC_GRANULE, GCI_RUN_TYPED);
}

/* Says that the object of BYTES at P has TYPE. */
static inline void gci_type_set(
    struct gc_heap *heap, const void *p, size_t bytes, const struct gci_type *type) {
    uint8_t *types = heap->arena.types + gci_address_granule(&heap->arena, (uintptr_t)p);
    unsigned number = bytes <= GC_GRANULE ? type->tiny : type->wide;
    types[0] = (uint8_t)number;
    if (bytes > GC_GRANULE) types[1] = (uint8_t)(number >> 8);
}

/* Bytes of an array of COUNT, 0 as 1; SIZE_MAX, which nobody can have, if there can't be so many. */
static inline size_t gci_type_array_bytes(const struct gci_type *type, size_t count) {
    size_t bytes;
    return __builtin_mul_overflow(type->size, count > 0 ? count : 1, &bytes) ? SIZE_MAX : bytes;
}

/* Of a new object of TYPE that doesn't come from a hot type's buffer: its type's number, or, since
 * that of leaves isn't kept, that it is pinned. */
static inline void gci_type_tell(
    struct gc_heap *heap, const void *p, size_t bytes, const struct gci_type *type) {
    uint8_t *side = &heap->arena.side[gci_address_granule(&heap->arena, (uintptr_t)p)];
    if (gci_type_kind(type) == GCI_TYPED)
        gci_type_set(heap, p, bytes, type);
    else if (gci_type_kind(type) == GCI_LEAF && type->flags & GC_TYPE_PINNED)
        __atomic_fetch_or(side, GCI_SIDE_PINNED, __ATOMIC_RELAXED);
}

#endif
