/* Boehm's interface for programs that say how their objects are marked: descriptors, kinds and mark
 * procedures; answered by Cairn (docs/boehm.md, "Kinds and descriptors"). */
#ifndef GC_MARK_H
#define GC_MARK_H

#include "gc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Mark procedures ------------------------------------------------------------------------ */

/* A mark procedure looks at the object at OBJECT, calls GC_mark_and_push() for what it finds, and
 * returns the mark stack's new top.  It may run in several threads at once, while the program
 * stands still, and must not allocate. */
#define GC_PROC_BYTES 100
#ifndef NOT_GCBUILD
struct GC_ms_entry {
    void *opaque;
};
#else
struct GC_ms_entry;
#endif
typedef struct GC_ms_entry *(*GC_mark_proc)(GC_word *object, struct GC_ms_entry *mark_stack_top,
    struct GC_ms_entry *mark_stack_limit, GC_word env);

#define GC_LOG_MAX_MARK_PROCS           6
#define GC_MAX_MARK_PROCS               (1 << GC_LOG_MAX_MARK_PROCS)
#define GC_RESERVED_MARK_PROCS          8
#define GC_GCJ_RESERVED_MARK_PROC_INDEX 0

/* OBJECT is what a word at SOURCE refers to, perhaps. */
GC_API struct GC_ms_entry *GC_CALL GC_mark_and_push(void *object,
    struct GC_ms_entry *mark_stack_top, struct GC_ms_entry *mark_stack_limit, void **source);
/* The heap lies between these. */
GC_API void *GC_least_plausible_heap_addr;
GC_API void *GC_greatest_plausible_heap_addr;
#define GC_MARK_AND_PUSH(object, top, limit, source)                                               \
    ((GC_word)(object) >= (GC_word)GC_least_plausible_heap_addr &&                                 \
                (GC_word)(object) <= (GC_word)GC_greatest_plausible_heap_addr                      \
            ? GC_mark_and_push(object, top, limit, source)                                         \
            : (top))

/* ---- Descriptors ---------------------------------------------------------------------------- */

/* A word whose lower two bits say what the rest is: the bytes, from the object's start, to search;
 * one bit a word, the uppermost for the first; a procedure's number and a word for it; or the
 * object's own descriptor's place: in the object, at that offset; or, if negative, in the table
 * that the object's first word refers to, at minus that offset less the bias. */
#define GC_DS_TAG_BITS   2
#define GC_DS_TAGS       ((1 << GC_DS_TAG_BITS) - 1)
#define GC_DS_LENGTH     0
#define GC_DS_BITMAP     1
#define GC_DS_PROC       2
#define GC_DS_PER_OBJECT 3
#define GC_MAKE_PROC(index, env)                                                                   \
    (((((env) << GC_LOG_MAX_MARK_PROCS) | (index)) << GC_DS_TAG_BITS) | GC_DS_PROC)
#define GC_INDIR_PER_OBJ_BIAS 0x10

/* ---- Kinds ---------------------------------------------------------------------------------- */

/* A new kind of object, whose DESCRIPTOR has the object's bytes added if ADJUST.  CLEAR is
 * ignored: all memory is zeroed.  FREE_LIST comes from GC_new_free_list(). */
GC_API void **GC_CALL GC_new_free_list(void);
GC_API void **GC_CALL GC_new_free_list_inner(void);
GC_API unsigned GC_CALL GC_new_kind(void **free_list, GC_word descriptor, int adjust, int clear)
    GC_ATTR_NONNULL(1);
GC_API unsigned GC_CALL GC_new_kind_inner(
    void **free_list, GC_word descriptor, int adjust, int clear) GC_ATTR_NONNULL(1);
GC_API unsigned GC_CALL GC_new_proc(GC_mark_proc procedure);
GC_API unsigned GC_CALL GC_new_proc_inner(GC_mark_proc procedure);

GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_generic_malloc(size_t size, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_generic_malloc_ignore_off_page(size_t size, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_generic_malloc_uncollectable(size_t size, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_generic_or_special_malloc(size_t size, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_generic_or_special_malloc(size_t size, int kind, GC_EXTRA_PARAMS);
#ifdef GC_DEBUG
#define GC_GENERIC_OR_SPECIAL_MALLOC(size, kind)                                                   \
    GC_debug_generic_or_special_malloc(size, kind, GC_EXTRAS)
#else
#define GC_GENERIC_OR_SPECIAL_MALLOC(size, kind) GC_generic_or_special_malloc(size, kind)
#endif

/* The kind of the object that starts at OBJECT; its bytes to *SIZE unless that is NULL. */
GC_API int GC_CALL GC_get_kind_and_size(const void *object, size_t *size) GC_ATTR_NONNULL(1);
typedef void(GC_CALLBACK *GC_describe_type_fn)(void *object, char *text);
#define GC_TYPE_DESCR_LEN 40
GC_API void GC_CALL GC_register_describe_type_fn(int kind, GC_describe_type_fn function);

/* Bytes between an object of the debugging allocators and what they returned. */
GC_API GC_ATTR_CONST size_t GC_CALL GC_get_debug_header_size(void);
#define GC_USR_PTR_FROM_BASE(p) ((void *)((char *)(p) + GC_get_debug_header_size()))
#ifdef GC_BUILD
GC_API const size_t GC_debug_header_size;
#else
GC_API GC_ATTR_DEPRECATED size_t GC_debug_header_size;
#endif

/* ---- While a collection runs ---------------------------------------------------------------- */

/* Called when a full collection begins. */
typedef void(GC_CALLBACK *GC_start_callback_proc)(void);
GC_API void GC_CALL GC_set_start_callback(GC_start_callback_proc function);
GC_API GC_start_callback_proc GC_CALL GC_get_start_callback(void);

/* Called at each collection, to report roots with the three functions after it. */
typedef void(GC_CALLBACK *GC_push_other_roots_proc)(void);
GC_API void GC_CALL GC_set_push_other_roots(GC_push_other_roots_proc function);
GC_API GC_push_other_roots_proc GC_CALL GC_get_push_other_roots(void);
GC_API void GC_CALL GC_push_all(void *low, void *high);
GC_API void GC_CALL GC_push_all_eager(void *low, void *high);
GC_API void GC_CALL GC_push_conditional(void *low, void *high, int all);
GC_API void GC_CALL GC_push_finalizer_structures(void);

GC_API int GC_CALL GC_is_marked(const void *object) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_clear_mark_bit(const void *object) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_set_mark_bit(const void *object) GC_ATTR_NONNULL(1);
GC_API int GC_CALL GC_is_tmp_root(void *p);

/* FUNCTION(object, bytes, DATA) for each object; called with the lock of
 * GC_call_with_alloc_lock(). */
typedef void(GC_CALLBACK *GC_reachable_object_proc)(void *object, size_t bytes, void *data);
GC_API void GC_CALL GC_enumerate_reachable_objects_inner(
    GC_reachable_object_proc function, void *data) GC_ATTR_NONNULL(1);

/* Returns its argument. */
GC_API void *GC_CALL GC_clear_stack(void *p);

GC_API void GC_CALL GC_print_trace(GC_word collection);
GC_API void GC_CALL GC_print_trace_inner(GC_word collection);

#ifdef __cplusplus
}
#endif

#endif
