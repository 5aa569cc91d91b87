/* Cairn for language implementers: objects whose layout the heap knows.
 *
 * The collector reads and writes the pointer fields of a typed object and nothing else in it, and a
 * minor collection moves the object, unless a word that only may be a reference means it: one on a
 * stack, in a register, in static data, or in an object from gc_alloc().  So C code needs to do
 * nothing about its local variables.  It must not keep the only pointer to a typed object where the
 * collector doesn't look, nor depend on its address (docs/types.md).
 *
 * Thread rules and errors are as in cairn/gc.h. */
#ifndef CAIRN_EMBED_H
#define CAIRN_EMBED_H

#include <stddef.h>
#include <stdint.h>

#include "cairn/gc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Types ---------------------------------------------------------------------------------- */

typedef struct gc_visitor gc_visitor;

/* Reports the pointer fields of the object at OBJECT, of BYTES bytes, that lie in [FROM, TO): calls
 * gc_visit() for each.  What is outside of the range may be left out, so that a part of a large
 * object is searched at the price of that part.  An array's unused end reads as zero.  Called while
 * threads are stopped, by several threads at once: it may read the object, and must not allocate,
 * lock, or look at other objects, which may have moved. */
typedef void gc_trace_function(
    void *object, size_t bytes, void *from, void *to, gc_visitor *visitor);

/* SLOT, a field of the object being traced, holds NULL or the start of an object. */
GC_API void gc_visit(gc_visitor *visitor, void **slot);

enum gc_type_flags {
    GC_TYPE_LEAF = 1,             /* no pointers: neither offsets nor a trace function */
    GC_TYPE_PINNED = 2,           /* its objects never move */
    GC_TYPE_AMBIGUOUS_HOLDER = 4, /* any word may be a reference, or none: searched and kept in
                                     place like what gc_alloc() makes */
};

/* The layout of one object, or of each element of an array. */
typedef struct gc_type_desc {
    const char *name;         /* for messages; copied */
    size_t size;              /* bytes, 1 to 1 MiB */
    const uint32_t *pointers; /* offsets of the pointer fields, multiples of 8, ascending; copied */
    size_t pointer_count;
    gc_trace_function *trace; /* instead of POINTERS, for layouts that vary from object to object */
    uint32_t flags;           /* enum gc_type_flags */
} gc_type_desc;

/* A registered type.  Its fields are the library's. */
typedef struct gc_type {
    uint32_t inline_bytes; /* of one object, if inline code may allocate it; else beyond
                              GC_SMALL_MAX */
    uint16_t number;
    const struct gc_type_desc *desc;
} gc_type;

/* Registers a type, for as long as the process runs; opens the heap.  Returns NULL with errno EINVAL
 * if the description contradicts itself, EEXIST if the name is taken, ENOSPC if there are 65,000
 * types already, or 255 of at most 16 bytes, ENOMEM; one line on stderr says which type, what was
 * wrong, and what is accepted. */
GC_API const gc_type *gc_type_register(const gc_type_desc *desc);

/* A zeroed object of TYPE, or NULL with errno ENOMEM.  May collect. */
GC_API void *gc_alloc_typed(const gc_type *type);

/* The same for an array of COUNT objects of TYPE, one after the other; the reference to it is its
 * start.  COUNT 0 is as 1. */
GC_API void *gc_alloc_array(const gc_type *type, size_t count);

/* The type of the object that P, its start, refers to; NULL if it has none. */
GC_API const gc_type *gc_type_of(const void *p);

/* ---- The inline fast path ------------------------------------------------------------------- */

GC_API void *gc_alloc_typed_slow(const gc_type *type) __attribute__((__malloc__));

#if !defined(GC_NO_INLINE) && defined(__OPTIMIZE__)
extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_alloc_typed(
    const gc_type *type) {
    void *p = gc_bump_typed(&gc_buffers.typed, type->inline_bytes, type->number);
    return __builtin_expect(p != NULL, 1) ? p : gc_alloc_typed_slow(type);
}
#endif

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_EMBED_H */
