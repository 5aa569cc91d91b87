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

/* SLOT, a field of the object being traced, holds NULL or the start of an object; in a heap with
 * tagged words (docs/tags.md), a word of its format. */
GC_API void gc_visit(gc_visitor *visitor, void **slot);

/* The same for a field that holds an object's plain address, or NULL, in a heap with tagged words;
 * in others there is no difference. */
GC_API void gc_visit_plain(gc_visitor *visitor, void **slot);

enum gc_type_flags {
    GC_TYPE_LEAF = 1,              /* no pointers: neither offsets nor a trace function */
    GC_TYPE_PINNED = 2,            /* its objects never move */
    GC_TYPE_AMBIGUOUS_HOLDER = 4,  /* any word may be a reference, or none: searched and kept in
                                      place like what gc_alloc() makes */
    GC_TYPE_LAYOUT_MAY_CHANGE = 8, /* which words of an object are pointers may change while it
                                      lives (docs/types.md, rule 9) */
    GC_TYPE_PLAIN_FIELDS = 16,     /* in a heap with tagged words: the pointers at its offsets are
                                     plain addresses all the same (docs/tags.md) */
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
    uint32_t bytes;  /* of one object */
    uint32_t buffer; /* from which inline code takes one: its offset in struct gc_thread_buffers */
    const struct gc_type_desc *desc;
} gc_type;

/* Registers a type, for as long as the process runs; opens the heap.  Returns NULL with errno EINVAL
 * if the description contradicts itself, EEXIST if the name is taken, ENOSPC if there are 65,000
 * types already, or 238 of at most 16 bytes, ENOMEM; one line on stderr says which type, what was
 * wrong, and what is accepted. */
GC_API const gc_type *gc_type_register(const gc_type_desc *desc);

/* A zeroed object of TYPE, or NULL with errno ENOMEM.  May collect. */
GC_API void *gc_alloc_typed(const gc_type *type);

/* The same; SIZE is the type's size, and best a constant. */
GC_API void *gc_new_typed(const gc_type *type, size_t size);

/* The same for an array of COUNT objects of TYPE, one after the other; the reference to it is its
 * start.  COUNT 0 is as 1. */
GC_API void *gc_alloc_array(const gc_type *type, size_t count);

/* The type of the object that P, its start, refers to; NULL if it has none.  Of an object of
 * gc_alloc_with_tag(), what the hook answers; NULL while its first word is 0. */
GC_API const gc_type *gc_type_of(const void *p);

/* ---- Layouts that an object's first word tells ---------------------------------------------- */

/* Finds the layout of an object of gc_alloc_with_tag() from TAG, its first word, which isn't 0: a
 * registered type, but no ambiguous holder; of an object that is larger than the type it is an array.
 * The same word has the same answer always.  It is called at any time, while threads are stopped, by
 * several threads at once, and must not allocate, lock, or call the library.  It may look at static
 * data and memory from malloc; at an object of the heap only if that never moves (of gc_alloc(), of
 * a pinned type), and lives as long as the object whose tag refers to it (docs/types.md, rules 10 to
 * 12). */
typedef const gc_type *gc_layout_hook(uintptr_t tag);

/* Sets the heap's only layout hook, before the first gc_alloc_with_tag(); opens the heap.  Returns 0;
 * EINVAL if HOOK is NULL; EALREADY if there is one; ENOMEM.  Never collects. */
GC_API int gc_set_layout_hook(gc_layout_hook *hook);

/* SIZE bytes, at least 8, zeroed but for the first word, which is TAG.  TAG 0: the object has no
 * fields, and the program must store its tag before any reference.  The heap has no word of its own
 * in the object.  NULL with errno ENOMEM.  Aborts with a message if there is no hook.  May
 * collect. */
GC_API void *gc_alloc_with_tag(uintptr_t tag, size_t size);

/* ---- Precise roots -------------------------------------------------------------------------- */

/* COUNT slots from SLOTS on are roots: each holds NULL, the start of an object, or a word outside the
 * heap (in a heap with tagged words: a word of its format), and a collection that moves the object
 * changes it.  They lie in memory from malloc or mmap; in static data, on a stack or in an object of
 * gc_alloc() they would be searched as ambiguous words besides, and in an object that may move they
 * must not lie.
 * The memory must stay readable until they are removed, with the same SLOTS and COUNT.  Return 0;
 * EINVAL (adding) if SLOTS is NULL or not aligned, or COUNT is 0 or too large; ENOMEM; ENOENT if they
 * weren't added.  Never collect. */
GC_API int gc_add_slots(void **slots, size_t count);
GC_API int gc_remove_slots(void **slots, size_t count);

/* A slot of the library's own, for a reference from where the collector doesn't look: it holds P, an
 * object's start, a plain address in every heap, or NULL, until it is freed.  gc_handle_new() returns
 * NULL with errno ENOMEM if there is no memory.  Different threads may use different handles at once,
 * and read one; they must be attached, and not between gc_blocking_begin() and _end().  A handle that
 * was freed must not be used.  None of these collects. */
typedef struct gc_handle gc_handle;
GC_API gc_handle *gc_handle_new(void *p);
GC_API void *gc_handle_get(const gc_handle *handle);
GC_API void gc_handle_set(gc_handle *handle, void *p);
GC_API void gc_handle_free(gc_handle *handle); /* NULL does nothing */

/* ---- Types of C structures ------------------------------------------------------------------ */

/* At file scope: says that the members named, at most 16, are the pointers of T that the heap knows.
 * In the same file, or wherever a header with this line is included, gc_new(T) allocates one:
 *
 *     struct node { struct node *left, *right; long key; };
 *     GC_TYPE(struct node, left, right);
 *     struct node *n = gc_new(struct node);
 *
 * The type is registered at the first gc_new(), under the name that is written here; the same name in
 * two files must mean the same layout.  GC_LEAF_TYPE(T): it has no pointers. */
#define GC_TYPE(T, ...) GC_TYPE_NUMBERED(__COUNTER__, T, __VA_ARGS__)
#define GC_LEAF_TYPE(T) GC_ENTER_TYPE(__COUNTER__, T, NULL, 0, GC_TYPE_LEAF)

/* A zeroed object of T, a struct T * or whatever T says; NULL with errno ENOMEM.  May collect.  Aborts
 * with a message if there is no GC_TYPE() for T in this file, or its description is refused. */
#define gc_new(T)                                                                                  \
    ((T *)gc_new_typed(__extension__({                                                             \
        static const gc_type *gc_here;                                                             \
        const gc_type *gc_it = __atomic_load_n(&gc_here, __ATOMIC_ACQUIRE);                        \
        if (__builtin_expect(gc_it == NULL, 0)) {                                                  \
            gc_it = gc_type_entered(gc_types_here, #T);                                            \
            __atomic_store_n(&gc_here, gc_it, __ATOMIC_RELEASE);                                   \
        }                                                                                          \
        gc_it;                                                                                     \
    }),                                                                                            \
        sizeof(T)))

/* ---- The inline fast path ------------------------------------------------------------------- */

/* What follows is the library's own business; programs use the functions and macros above. */

struct gc_type_entry {
    struct gc_type_entry *next;
    gc_type_desc desc;
};

/* Of each file that includes this one. */
static struct gc_type_entry *gc_types_here __attribute__((__unused__));

#define GC_TYPE_NUMBERED(n, T, ...)                                                                \
    static const uint32_t GC_JOIN(gc_offsets_, n)[] = {                                            \
        GC_JOIN(GC_EACH_, GC_COUNT(__VA_ARGS__))(T, __VA_ARGS__)};                                 \
    GC_ENTER_TYPE(n, T, GC_JOIN(gc_offsets_, n), GC_COUNT(__VA_ARGS__), 0)

#define GC_ENTER_TYPE(n, T, offsets, count, flags)                                                 \
    __attribute__((__constructor__)) static void GC_JOIN(gc_enter_, n)(void) {                     \
        static struct gc_type_entry entry = {NULL, {#T, sizeof(T), offsets, count, NULL, flags}};  \
        entry.next = gc_types_here;                                                                \
        gc_types_here = &entry;                                                                    \
    }                                                                                              \
    struct gc_type_entry

#define GC_JOIN(a, b)  GC_JOIN_(a, b)
#define GC_JOIN_(a, b) a##b
#define GC_COUNT(...)                                                                              \
    GC_SEVENTEENTH(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define GC_SEVENTEENTH(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, ...) q
#define GC_EACH_1(T, m)                                                        (uint32_t) offsetof(T, m)
#define GC_EACH_2(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_1(T, __VA_ARGS__)
#define GC_EACH_3(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_2(T, __VA_ARGS__)
#define GC_EACH_4(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_3(T, __VA_ARGS__)
#define GC_EACH_5(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_4(T, __VA_ARGS__)
#define GC_EACH_6(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_5(T, __VA_ARGS__)
#define GC_EACH_7(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_6(T, __VA_ARGS__)
#define GC_EACH_8(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_7(T, __VA_ARGS__)
#define GC_EACH_9(T, m, ...)                                                   GC_EACH_1(T, m), GC_EACH_8(T, __VA_ARGS__)
#define GC_EACH_10(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_9(T, __VA_ARGS__)
#define GC_EACH_11(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_10(T, __VA_ARGS__)
#define GC_EACH_12(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_11(T, __VA_ARGS__)
#define GC_EACH_13(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_12(T, __VA_ARGS__)
#define GC_EACH_14(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_13(T, __VA_ARGS__)
#define GC_EACH_15(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_14(T, __VA_ARGS__)
#define GC_EACH_16(T, m, ...)                                                  GC_EACH_1(T, m), GC_EACH_15(T, __VA_ARGS__)

GC_API const gc_type *gc_type_entered(const struct gc_type_entry *entries, const char *name);
GC_API void *gc_alloc_typed_slow(const gc_type *type) __attribute__((__malloc__));
/* Not __malloc__: the tag may be a pointer. */
GC_API void *gc_alloc_with_tag_slow(uintptr_t tag, size_t size);

typedef uintptr_t __attribute__((__may_alias__)) gc_tag_word;

#if !defined(GC_NO_INLINE) && defined(__OPTIMIZE__)
extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_new_typed(
    const gc_type *type, size_t size) {
    uint32_t offset = __atomic_load_n(&type->buffer, __ATOMIC_RELAXED); /* it may become hot */
    void *p = gc_bump((struct gc_buffer *)(void *)((char *)&gc_buffers + offset), size);
    return __builtin_expect(p != NULL, 1) ? p : gc_alloc_typed_slow(type);
}

extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_alloc_typed(
    const gc_type *type) {
    return gc_new_typed(type, type->bytes);
}

/* A thread that is stopped before the tag is stored shows an object without fields, of zeroes. */
extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_alloc_with_tag(
    uintptr_t tag, size_t size) {
    void *p = gc_bump(&gc_buffers.by_tag, size);
    if (__builtin_expect(p == NULL, 0)) return gc_alloc_with_tag_slow(tag, size);
    *(gc_tag_word *)p = tag;
    return p;
}
#endif

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_EMBED_H */
