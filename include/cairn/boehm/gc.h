/* Boehm's interface (8.2), answered by Cairn.  A program that is compiled with this header runs
 * with Boehm's libgc.so.1 too, and one that was compiled with Boehm's runs with Cairn's: names,
 * signatures, structures and constants are the same.  What each call does here, and where that
 * differs, is in docs/boehm.md.
 *
 * Any thread may call any of these, but from no signal handler.  "May collect" is true of all that
 * allocate and of those under "Collecting". */
#ifndef GC_H
#define GC_H

#include "gc_config_macros.h"
#include "gc_version.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void *GC_PTR;
typedef unsigned long GC_word;
typedef long GC_signed_word;

/* (GC_VERSION_MAJOR << 16) + (GC_VERSION_MINOR << 8) + GC_VERSION_MICRO of the library. */
GC_API unsigned GC_CALL GC_get_version(void);

/* ---- Starting ------------------------------------------------------------------------------- */

/* Opens the heap; settings that say so must be made before.  GC_INIT() does it with what the
 * program's macros (GC_INITIAL_HEAP_SIZE and others) ask for. */
GC_API void GC_CALL GC_init(void);
GC_API int GC_CALL GC_is_init_called(void);
GC_API void GC_CALL GC_deinit(void);

/* ---- Allocating ----------------------------------------------------------------------------- */

/* All return zeroed memory at a multiple of 16, or what the function of GC_set_oom_fn() returns.
 * "atomic": without pointers.  "uncollectable": a root, until it is freed.  "ignore_off_page": the
 * program promises to keep a pointer near the start; here any pointer into the object holds it.
 * "stubborn": like GC_malloc(). */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc(size_t size);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_atomic(size_t size);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_uncollectable(size_t size);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_malloc_atomic_uncollectable(size_t size);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_ignore_off_page(size_t size);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_malloc_atomic_ignore_off_page(size_t size);
GC_API GC_ATTR_DEPRECATED void *GC_CALL GC_malloc_stubborn(size_t size);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(2) void *GC_CALL
    GC_memalign(size_t alignment, size_t size);
GC_API int GC_CALL GC_posix_memalign(void **result, size_t alignment, size_t size)
    GC_ATTR_NONNULL(1);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_strdup(const char *s);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_strndup(const char *s, size_t size) GC_ATTR_NONNULL(1);
#ifdef GC_REQUIRE_WCSDUP
GC_API GC_ATTR_MALLOC wchar_t *GC_CALL GC_wcsdup(const wchar_t *s) GC_ATTR_NONNULL(1);
#endif

/* Objects of at least SIZE bytes, linked through their first words (GC_NEXT); otherwise zero. */
GC_API GC_ATTR_MALLOC void *GC_CALL GC_malloc_many(size_t size);
#define GC_NEXT(p) (*(void **)(p))

/* Keeps the kind of the object at P.  P NULL allocates, SIZE 0 frees. */
GC_API void *GC_CALL GC_realloc(void *p, size_t size) GC_ATTR_ALLOC_SIZE(2);
GC_API void GC_CALL GC_free(void *p);

/* No more than notes to the collector: nothing here needs them. */
GC_API GC_ATTR_DEPRECATED void GC_CALL GC_change_stubborn(const void *p);
GC_API void GC_CALL GC_end_stubborn_change(const void *p) GC_ATTR_NONNULL(1);

/* The start of the object that P points into, NULL if there is none; is there one; the bytes of
 * the object at P. */
GC_API void *GC_CALL GC_base(void *p);
GC_API int GC_CALL GC_is_heap_ptr(const void *p);
GC_API size_t GC_CALL GC_size(const void *p) GC_ATTR_NONNULL(1);

/* ---- Allocating, with checks ---------------------------------------------------------------- */

/* Beside the object lie the place in the program that allocated it and words by which stores
 * beyond its ends are found, when it is freed and at each full collection. */
#ifdef GC_ADD_CALLER
#define GC_EXTRAS       GC_RETURN_ADDR, __FILE__, __LINE__
#define GC_EXTRA_PARAMS GC_word ra, const char *s, int i
#else
#define GC_EXTRAS       __FILE__, __LINE__
#define GC_EXTRA_PARAMS const char *s, int i
#endif

GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_atomic(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_uncollectable(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_atomic_uncollectable(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_ignore_off_page(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_atomic_ignore_off_page(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_DEPRECATED void *GC_CALL GC_debug_malloc_stubborn(size_t size, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_debug_strdup(const char *string, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_debug_strndup(
    const char *string, size_t size, GC_EXTRA_PARAMS) GC_ATTR_NONNULL(1);
#ifdef GC_REQUIRE_WCSDUP
GC_API GC_ATTR_MALLOC wchar_t *GC_CALL GC_debug_wcsdup(const wchar_t *string, GC_EXTRA_PARAMS)
    GC_ATTR_NONNULL(1);
#endif
GC_API void *GC_CALL GC_debug_realloc(void *p, size_t size, GC_EXTRA_PARAMS) GC_ATTR_ALLOC_SIZE(2);
GC_API void GC_CALL GC_debug_free(void *p);
GC_API GC_ATTR_DEPRECATED void GC_CALL GC_debug_change_stubborn(const void *p);
GC_API void GC_CALL GC_debug_end_stubborn_change(const void *p) GC_ATTR_NONNULL(1);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_debug_malloc_replacement(size_t size);
GC_API GC_ATTR_ALLOC_SIZE(2) void *GC_CALL GC_debug_realloc_replacement(void *p, size_t size);

#if defined(GC_DEBUG_REPLACEMENT)
#define GC_MALLOC(size)     GC_debug_malloc_replacement(size)
#define GC_REALLOC(p, size) GC_debug_realloc_replacement(p, size)
#elif defined(GC_DEBUG)
#define GC_MALLOC(size)     GC_debug_malloc(size, GC_EXTRAS)
#define GC_REALLOC(p, size) GC_debug_realloc(p, size, GC_EXTRAS)
#else
#define GC_MALLOC(size)     GC_malloc(size)
#define GC_REALLOC(p, size) GC_realloc(p, size)
#endif

#ifdef GC_DEBUG
#define GC_MALLOC_ATOMIC(size)               GC_debug_malloc_atomic(size, GC_EXTRAS)
#define GC_MALLOC_UNCOLLECTABLE(size)        GC_debug_malloc_uncollectable(size, GC_EXTRAS)
#define GC_MALLOC_ATOMIC_UNCOLLECTABLE(size) GC_debug_malloc_atomic_uncollectable(size, GC_EXTRAS)
#define GC_MALLOC_IGNORE_OFF_PAGE(size)      GC_debug_malloc_ignore_off_page(size, GC_EXTRAS)
#define GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(size)                                                     \
    GC_debug_malloc_atomic_ignore_off_page(size, GC_EXTRAS)
#define GC_STRDUP(string)                      GC_debug_strdup(string, GC_EXTRAS)
#define GC_STRNDUP(string, size)               GC_debug_strndup(string, size, GC_EXTRAS)
#define GC_FREE(p)                             GC_debug_free(p)
#define GC_REGISTER_FINALIZER(p, f, d, of, od) GC_debug_register_finalizer(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_IGNORE_SELF(p, f, d, of, od)                                         \
    GC_debug_register_finalizer_ignore_self(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_NO_ORDER(p, f, d, of, od)                                            \
    GC_debug_register_finalizer_no_order(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_UNREACHABLE(p, f, d, of, od)                                         \
    GC_debug_register_finalizer_unreachable(p, f, d, of, od)
#define GC_END_STUBBORN_CHANGE(p)    GC_debug_end_stubborn_change(p)
#define GC_PTR_STORE_AND_DIRTY(p, q) GC_debug_ptr_store_and_dirty(p, q)
#define GC_GENERAL_REGISTER_DISAPPEARING_LINK(link, object)                                        \
    GC_general_register_disappearing_link(link, GC_base((void *)(object)))
#define GC_REGISTER_LONG_LINK(link, object) GC_register_long_link(link, GC_base((void *)(object)))
#define GC_REGISTER_DISPLACEMENT(n)         GC_debug_register_displacement(n)
#else
#define GC_MALLOC_ATOMIC(size)                 GC_malloc_atomic(size)
#define GC_MALLOC_UNCOLLECTABLE(size)          GC_malloc_uncollectable(size)
#define GC_MALLOC_ATOMIC_UNCOLLECTABLE(size)   GC_malloc_atomic_uncollectable(size)
#define GC_MALLOC_IGNORE_OFF_PAGE(size)        GC_malloc_ignore_off_page(size)
#define GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(size) GC_malloc_atomic_ignore_off_page(size)
#define GC_STRDUP(string)                      GC_strdup(string)
#define GC_STRNDUP(string, size)               GC_strndup(string, size)
#define GC_FREE(p)                             GC_free(p)
#define GC_REGISTER_FINALIZER(p, f, d, of, od) GC_register_finalizer(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_IGNORE_SELF(p, f, d, of, od)                                         \
    GC_register_finalizer_ignore_self(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_NO_ORDER(p, f, d, of, od)                                            \
    GC_register_finalizer_no_order(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_UNREACHABLE(p, f, d, of, od)                                         \
    GC_register_finalizer_unreachable(p, f, d, of, od)
#define GC_END_STUBBORN_CHANGE(p)    GC_end_stubborn_change(p)
#define GC_PTR_STORE_AND_DIRTY(p, q) GC_ptr_store_and_dirty(p, q)
#define GC_GENERAL_REGISTER_DISAPPEARING_LINK(link, object)                                        \
    GC_general_register_disappearing_link(link, object)
#define GC_REGISTER_LONG_LINK(link, object) GC_register_long_link(link, object)
#define GC_REGISTER_DISPLACEMENT(n)         GC_register_displacement(n)
#endif
#define GC_MALLOC_STUBBORN(size) GC_MALLOC(size)
#define GC_NEW_STUBBORN(type)    GC_NEW(type)
#define GC_CHANGE_STUBBORN(p)    GC_change_stubborn(p)
#ifdef GC_REQUIRE_WCSDUP
#ifdef GC_DEBUG
#define GC_WCSDUP(string) GC_debug_wcsdup(string, GC_EXTRAS)
#else
#define GC_WCSDUP(string) GC_wcsdup(string)
#endif
#endif
#define GC_NEW(type)               ((type *)GC_MALLOC(sizeof(type)))
#define GC_NEW_ATOMIC(type)        ((type *)GC_MALLOC_ATOMIC(sizeof(type)))
#define GC_NEW_UNCOLLECTABLE(type) ((type *)GC_MALLOC_UNCOLLECTABLE(sizeof(type)))

/* ---- Roots ---------------------------------------------------------------------------------- */

/* [LOW, HIGH) is searched; removed are all added ranges within [LOW, HIGH).  GC_clear_roots() drops
 * all, static data with them, until more is added. */
GC_API void GC_CALL GC_add_roots(void *low, void *high);
GC_API void GC_CALL GC_remove_roots(void *low, void *high);
GC_API void GC_CALL GC_clear_roots(void);
/* [LOW, HIGH) of static data isn't. */
GC_API void GC_CALL GC_exclude_static_roots(void *low, void *high);
GC_API void GC_CALL GC_clear_exclusion_table(void);
/* FILTER is asked for each segment of each shared library whether it is a root. */
typedef int(GC_CALLBACK *GC_has_static_roots_func)(const char *path, void *start, size_t size);
GC_API void GC_CALL GC_register_has_static_roots_callback(GC_has_static_roots_func filter);
/* With interior pointers off: a pointer OFFSET bytes into an object holds it.  Here all do. */
GC_API void GC_CALL GC_register_displacement(size_t offset);
GC_API void GC_CALL GC_debug_register_displacement(size_t offset);

/* ---- Collecting ----------------------------------------------------------------------------- */

/* A full collection; one that also returns free memory; one unless STOP says no, 0 if so. */
GC_API void GC_CALL GC_gcollect(void);
GC_API void GC_CALL GC_gcollect_and_unmap(void);
typedef int(GC_CALLBACK *GC_stop_func)(void);
GC_API int GC_CALL GC_try_to_collect(GC_stop_func stop) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_set_stop_func(GC_stop_func stop) GC_ATTR_NONNULL(1);
GC_API GC_stop_func GC_CALL GC_get_stop_func(void);
/* Nestable.  GC_is_disabled() says whether it is. */
GC_API void GC_CALL GC_disable(void);
GC_API void GC_CALL GC_enable(void);
GC_API int GC_CALL GC_is_disabled(void);
/* Makes the heap larger by SIZE bytes at least; 0 if that fails. */
GC_API int GC_CALL GC_expand_hp(size_t size);
GC_API void GC_CALL GC_set_max_heap_size(GC_word bytes);

/* Collections are generational from the start.  GC_collect_a_little() runs a minor one when one is
 * due, and returns 0. */
GC_API void GC_CALL GC_enable_incremental(void);
GC_API int GC_CALL GC_is_incremental_mode(void);
GC_API void GC_CALL GC_start_incremental_collection(void);
GC_API int GC_CALL GC_collect_a_little(void);
GC_API void GC_CALL GC_set_manual_vdb_allowed(int allowed);
GC_API int GC_CALL GC_get_manual_vdb_allowed(void);
#define GC_PROTECTS_POINTER_HEAP 1
#define GC_PROTECTS_PTRFREE_HEAP 2
#define GC_PROTECTS_STATIC_DATA  4
#define GC_PROTECTS_STACK        8
#define GC_PROTECTS_NONE         0
GC_API int GC_CALL GC_incremental_protection_needs(void);

/* ---- Settings ------------------------------------------------------------------------------- */

/* The variables are those of old; they may be read and, before GC_init() at least, written. */
GC_API GC_ATTR_DEPRECATED int GC_all_interior_pointers; /* before GC_init() */
GC_API void GC_CALL GC_set_all_interior_pointers(int on);
GC_API int GC_CALL GC_get_all_interior_pointers(void);
GC_API GC_ATTR_DEPRECATED int GC_find_leak;
GC_API void GC_CALL GC_set_find_leak(int on);
GC_API int GC_CALL GC_get_find_leak(void);
GC_API GC_ATTR_DEPRECATED int GC_finalize_on_demand;
GC_API void GC_CALL GC_set_finalize_on_demand(int on);
GC_API int GC_CALL GC_get_finalize_on_demand(void);
GC_API GC_ATTR_DEPRECATED int GC_java_finalization;
GC_API void GC_CALL GC_set_java_finalization(int on);
GC_API int GC_CALL GC_get_java_finalization(void);
#ifdef GC_DONT_GC
GC_API int GC_dont_gc;
#else
GC_API GC_ATTR_DEPRECATED int GC_dont_gc;
#endif
GC_API GC_ATTR_DEPRECATED int GC_dont_expand;
GC_API void GC_CALL GC_set_dont_expand(int on);
GC_API int GC_CALL GC_get_dont_expand(void);
GC_API GC_ATTR_DEPRECATED int GC_use_entire_heap;
GC_API GC_ATTR_DEPRECATED int GC_full_freq;
GC_API void GC_CALL GC_set_full_freq(int n);
GC_API int GC_CALL GC_get_full_freq(void);
GC_API GC_ATTR_DEPRECATED GC_word GC_non_gc_bytes;
GC_API void GC_CALL GC_set_non_gc_bytes(GC_word bytes);
GC_API GC_word GC_CALL GC_get_non_gc_bytes(void);
GC_API GC_ATTR_DEPRECATED int GC_no_dls; /* libraries' static data is no root */
GC_API void GC_CALL GC_set_no_dls(int on);
GC_API int GC_CALL GC_get_no_dls(void);
GC_API GC_ATTR_DEPRECATED GC_word GC_free_space_divisor;
GC_API void GC_CALL GC_set_free_space_divisor(GC_word n);
GC_API GC_word GC_CALL GC_get_free_space_divisor(void);
GC_API GC_ATTR_DEPRECATED GC_word GC_max_retries;
GC_API void GC_CALL GC_set_max_retries(GC_word n);
GC_API GC_word GC_CALL GC_get_max_retries(void);
GC_API GC_ATTR_DEPRECATED int GC_dont_precollect;
GC_API void GC_CALL GC_set_dont_precollect(int on);
GC_API int GC_CALL GC_get_dont_precollect(void);
GC_API GC_ATTR_DEPRECATED unsigned long GC_time_limit;
#define GC_TIME_UNLIMITED 999999
GC_API void GC_CALL GC_set_time_limit(unsigned long milliseconds);
GC_API unsigned long GC_CALL GC_get_time_limit(void);
struct GC_timeval_s {
    unsigned long tv_ms;
    unsigned long tv_nsec;
};
GC_API void GC_CALL GC_set_time_limit_tv(struct GC_timeval_s limit);
GC_API struct GC_timeval_s GC_CALL GC_get_time_limit_tv(void);
GC_API void GC_CALL GC_set_allocd_bytes_per_finalizer(GC_word bytes);
GC_API GC_word GC_CALL GC_get_allocd_bytes_per_finalizer(void);
GC_API void GC_CALL GC_set_pages_executable(int on);
GC_API int GC_CALL GC_get_pages_executable(void);
GC_API void GC_CALL GC_set_min_bytes_allocd(size_t bytes);
GC_API size_t GC_CALL GC_get_min_bytes_allocd(void);
GC_API void GC_CALL GC_set_rate(int n);
GC_API int GC_CALL GC_get_rate(void);
GC_API void GC_CALL GC_set_max_prior_attempts(int n);
GC_API int GC_CALL GC_get_max_prior_attempts(void);
GC_API void GC_CALL GC_set_disable_automatic_collection(int on);
GC_API int GC_CALL GC_get_disable_automatic_collection(void);
GC_API void GC_CALL GC_set_force_unmap_on_gcollect(int on);
GC_API int GC_CALL GC_get_force_unmap_on_gcollect(void);

/* ---- Functions of the program's ------------------------------------------------------------- */

/* Out of memory: what it returns is what the allocation returns. */
typedef void *(GC_CALLBACK *GC_oom_func)(size_t size);
GC_API GC_ATTR_DEPRECATED GC_oom_func GC_oom_fn;
GC_API void GC_CALL GC_set_oom_fn(GC_oom_func function) GC_ATTR_NONNULL(1);
GC_API GC_oom_func GC_CALL GC_get_oom_fn(void);
typedef void(GC_CALLBACK *GC_on_heap_resize_proc)(GC_word new_size);
GC_API GC_ATTR_DEPRECATED GC_on_heap_resize_proc GC_on_heap_resize;
GC_API void GC_CALL GC_set_on_heap_resize(GC_on_heap_resize_proc function);
GC_API GC_on_heap_resize_proc GC_CALL GC_get_on_heap_resize(void);

typedef enum {
    GC_EVENT_START,
    GC_EVENT_MARK_START,
    GC_EVENT_MARK_END,
    GC_EVENT_RECLAIM_START,
    GC_EVENT_RECLAIM_END,
    GC_EVENT_END,
    GC_EVENT_PRE_STOP_WORLD,
    GC_EVENT_POST_STOP_WORLD,
    GC_EVENT_PRE_START_WORLD,
    GC_EVENT_POST_START_WORLD,
    GC_EVENT_THREAD_SUSPENDED,
    GC_EVENT_THREAD_UNSUSPENDED
} GC_EventType;
typedef void(GC_CALLBACK *GC_on_collection_event_proc)(GC_EventType event);
GC_API void GC_CALL GC_set_on_collection_event(GC_on_collection_event_proc function);
GC_API GC_on_collection_event_proc GC_CALL GC_get_on_collection_event(void);
#ifdef GC_THREADS
typedef void(GC_CALLBACK *GC_on_thread_event_proc)(GC_EventType event, void *thread);
GC_API void GC_CALL GC_set_on_thread_event(GC_on_thread_event_proc function);
GC_API GC_on_thread_event_proc GC_CALL GC_get_on_thread_event(void);
#endif

/* MESSAGE is a format for one word. */
typedef void(GC_CALLBACK *GC_warn_proc)(char *message, GC_word argument);
GC_API void GC_CALL GC_set_warn_proc(GC_warn_proc function) GC_ATTR_NONNULL(1);
GC_API GC_warn_proc GC_CALL GC_get_warn_proc(void);
GC_API void GC_CALLBACK GC_ignore_warn_proc(char *message, GC_word argument);
GC_API void GC_CALL GC_set_log_fd(int fd);
typedef void(GC_CALLBACK *GC_abort_func)(const char *message);
GC_API void GC_CALL GC_set_abort_func(GC_abort_func function) GC_ATTR_NONNULL(1);
GC_API GC_abort_func GC_CALL GC_get_abort_func(void);
GC_API void GC_CALL GC_abort_on_oom(void);

/* ---- Figures -------------------------------------------------------------------------------- */

GC_API GC_ATTR_DEPRECATED GC_word GC_gc_no; /* collections */
GC_API GC_word GC_CALL GC_get_gc_no(void);
GC_API size_t GC_CALL GC_get_heap_size(void);
GC_API size_t GC_CALL GC_get_free_bytes(void);
GC_API size_t GC_CALL GC_get_unmapped_bytes(void);
GC_API size_t GC_CALL GC_get_bytes_since_gc(void);
GC_API size_t GC_CALL GC_get_expl_freed_bytes_since_gc(void);
GC_API size_t GC_CALL GC_get_total_bytes(void);
GC_API size_t GC_CALL GC_get_obtained_from_os_bytes(void);
GC_API void GC_CALL GC_get_heap_usage_safe(GC_word *heap_size, GC_word *free_bytes,
    GC_word *unmapped_bytes, GC_word *bytes_since_gc, GC_word *total_bytes);
struct GC_prof_stats_s {
    GC_word heapsize_full;
    GC_word free_bytes_full;
    GC_word unmapped_bytes;
    GC_word bytes_allocd_since_gc;
    GC_word allocd_bytes_before_gc;
    GC_word non_gc_bytes;
    GC_word gc_no;
    GC_word markers_m1;
    GC_word bytes_reclaimed_since_gc;
    GC_word reclaimed_bytes_before_gc;
    GC_word expl_freed_bytes_since_gc;
    GC_word obtained_from_os_bytes;
};
/* Fill as much of the structure as SIZE says, and return how much that was. */
GC_API size_t GC_CALL GC_get_prof_stats(struct GC_prof_stats_s *stats, size_t size);
#ifdef GC_THREADS
GC_API size_t GC_CALL GC_get_prof_stats_unsafe(struct GC_prof_stats_s *stats, size_t size);
#endif
GC_API size_t GC_CALL GC_get_size_map_at(int i);
GC_API size_t GC_CALL GC_get_memory_use(void);
GC_API void GC_CALL GC_start_performance_measurement(void);
GC_API unsigned long GC_CALL GC_get_full_gc_total_time(void);
GC_API void GC_CALL GC_dump(void);
GC_API void GC_CALL GC_dump_named(const char *name);
GC_API void GC_CALL GC_dump_regions(void);
GC_API void GC_CALL GC_dump_finalization(void);

/* ---- Finalizers and links ------------------------------------------------------------------- */

/* FUNCTION(object, DATA) is called once the object that starts at OBJECT isn't reachable.  Which
 * of several comes first, and what holds an object reachable, differs: docs/boehm.md.  FUNCTION
 * NULL removes.  What was there before goes to *OLD_FUNCTION and *OLD_DATA, unless these are
 * NULL. */
typedef void(GC_CALLBACK *GC_finalization_proc)(void *object, void *data);
GC_API void GC_CALL GC_register_finalizer(void *object, GC_finalization_proc function, void *data,
    GC_finalization_proc *old_function, void **old_data) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_register_finalizer_ignore_self(void *object, GC_finalization_proc function,
    void *data, GC_finalization_proc *old_function, void **old_data) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_register_finalizer_no_order(void *object, GC_finalization_proc function,
    void *data, GC_finalization_proc *old_function, void **old_data) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_register_finalizer_unreachable(void *object, GC_finalization_proc function,
    void *data, GC_finalization_proc *old_function, void **old_data) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer(void *object, GC_finalization_proc function,
    void *data, GC_finalization_proc *old_function, void **old_data) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer_ignore_self(void *object,
    GC_finalization_proc function, void *data, GC_finalization_proc *old_function, void **old_data)
    GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer_no_order(void *object,
    GC_finalization_proc function, void *data, GC_finalization_proc *old_function, void **old_data)
    GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer_unreachable(void *object,
    GC_finalization_proc function, void *data, GC_finalization_proc *old_function, void **old_data)
    GC_ATTR_NONNULL(1);

/* *LINK is cleared when OBJECT isn't reachable any more: before finalizers run, or for a long link
 * when no finalizer can bring it back.  Return GC_SUCCESS, GC_DUPLICATE, GC_NO_MEMORY,
 * GC_NOT_FOUND; the two that unregister 1 if there was such a link. */
#define GC_NO_MEMORY 2
GC_API int GC_CALL GC_register_disappearing_link(void **link) GC_ATTR_NONNULL(1);
GC_API int GC_CALL GC_general_register_disappearing_link(void **link, const void *object)
    GC_ATTR_NONNULL(1) GC_ATTR_NONNULL(2);
GC_API int GC_CALL GC_move_disappearing_link(void **link, void **new_link) GC_ATTR_NONNULL(2);
GC_API int GC_CALL GC_unregister_disappearing_link(void **link);
GC_API int GC_CALL GC_register_long_link(void **link, const void *object) GC_ATTR_NONNULL(1)
    GC_ATTR_NONNULL(2);
GC_API int GC_CALL GC_move_long_link(void **link, void **new_link) GC_ATTR_NONNULL(2);
GC_API int GC_CALL GC_unregister_long_link(void **link);

/* A toggle reference is asked at each full collection whether it is strong, weak, or to be
 * dropped. */
typedef enum { GC_TOGGLE_REF_DROP, GC_TOGGLE_REF_STRONG, GC_TOGGLE_REF_WEAK } GC_ToggleRefStatus;
typedef GC_ToggleRefStatus(GC_CALLBACK *GC_toggleref_func)(void *object);
GC_API void GC_CALL GC_set_toggleref_func(GC_toggleref_func function);
GC_API GC_toggleref_func GC_CALL GC_get_toggleref_func(void);
GC_API int GC_CALL GC_toggleref_add(void *object, int strong) GC_ATTR_NONNULL(1);

typedef void(GC_CALLBACK *GC_await_finalize_proc)(void *object);
GC_API void GC_CALL GC_set_await_finalize_proc(GC_await_finalize_proc function);
GC_API GC_await_finalize_proc GC_CALL GC_get_await_finalize_proc(void);
typedef void(GC_CALLBACK *GC_finalizer_notifier_proc)(void);
GC_API GC_ATTR_DEPRECATED GC_finalizer_notifier_proc GC_finalizer_notifier;
GC_API void GC_CALL GC_set_finalizer_notifier(GC_finalizer_notifier_proc function);
GC_API GC_finalizer_notifier_proc GC_CALL GC_get_finalizer_notifier(void);
GC_API int GC_CALL GC_should_invoke_finalizers(void);
/* Runs what waits; returns how many. */
GC_API int GC_CALL GC_invoke_finalizers(void);

/* A word that the collector doesn't take for the pointer. */
typedef GC_word GC_hidden_pointer;
#define GC_HIDE_POINTER(p)   (~(GC_hidden_pointer)(p))
#define GC_REVEAL_POINTER(p) ((void *)GC_HIDE_POINTER(p))
#if defined(I_HIDE_POINTERS) || defined(GC_I_HIDE_POINTERS)
#define HIDE_POINTER(p)   GC_HIDE_POINTER(p)
#define REVEAL_POINTER(p) GC_REVEAL_POINTER(p)
#endif

/* What P points to is reachable up to here. */
#if defined(__GNUC__)
#define GC_reachable_here(p) __asm__ __volatile__("" : : "X"(p) : "memory")
#else
GC_API void GC_CALL GC_noop1(GC_word word);
#define GC_reachable_here(p) GC_noop1((GC_word)(p))
#endif

/* ---- Stores and arithmetic ------------------------------------------------------------------ */

/* Aborts, by way of GC_same_obj_print_proc, unless P and Q point into one object; returns P. */
GC_API void *GC_CALL GC_same_obj(void *p, void *q);
GC_API void *GC_CALL GC_pre_incr(void **p, ptrdiff_t by) GC_ATTR_NONNULL(1);
GC_API void *GC_CALL GC_post_incr(void **p, ptrdiff_t by) GC_ATTR_NONNULL(1);
GC_API void *GC_CALL GC_is_visible(void *p);
GC_API void *GC_CALL GC_is_valid_displacement(void *p);
GC_API void(GC_CALLBACK *GC_same_obj_print_proc)(void *p, void *q);
GC_API void(GC_CALLBACK *GC_is_valid_displacement_print_proc)(void *p);
GC_API void(GC_CALLBACK *GC_is_visible_print_proc)(void *p);
GC_API void GC_CALL GC_ptr_store_and_dirty(void *p, const void *q);
GC_API void GC_CALL GC_debug_ptr_store_and_dirty(void *p, const void *q);

#if defined(GC_DEBUG) && defined(__GNUC__)
#define GC_PTR_ADD3(x, n, type)   ((type)GC_same_obj((x) + (n), (x)))
#define GC_PRE_INCR3(x, n, type)  ((type)GC_pre_incr((void **)(&(x)), (n) * sizeof(*x)))
#define GC_POST_INCR3(x, n, type) ((type)GC_post_incr((void **)(&(x)), (n) * sizeof(*x)))
#define GC_PTR_ADD(x, n)          GC_PTR_ADD3(x, n, __typeof__(x))
#define GC_PRE_INCR(x, n)         GC_PRE_INCR3(x, n, __typeof__(x))
#define GC_POST_INCR(x)           GC_POST_INCR3(x, 1, __typeof__(x))
#define GC_POST_DECR(x)           GC_POST_INCR3(x, -1, __typeof__(x))
#else
#define GC_PTR_ADD(x, n)  ((x) + (n))
#define GC_PRE_INCR(x, n) ((x) += (n))
#define GC_POST_INCR(x)   ((x)++)
#define GC_POST_DECR(x)   ((x)--)
#endif
#ifdef GC_DEBUG
#define GC_PTR_STORE(p, q)                                                                         \
    (*(void **)GC_is_visible((void *)(p)) = GC_is_valid_displacement((void *)(q)))
#else
#define GC_PTR_STORE(p, q) (*(void **)(p) = (void *)(q))
#endif

/* ---- Threads -------------------------------------------------------------------------------- */

#define GC_SUCCESS       0
#define GC_DUPLICATE     1
#define GC_NO_THREADS    2
#define GC_UNIMPLEMENTED 3
#define GC_NOT_FOUND     4

/* FUNCTION(DATA) with the collector's lock held: no collection begins meanwhile.  It may not
 * allocate. */
typedef void *(GC_CALLBACK *GC_fn_type)(void *data);
GC_API void *GC_CALL GC_call_with_alloc_lock(GC_fn_type function, void *data) GC_ATTR_NONNULL(1);
#ifdef GC_THREADS
GC_API void GC_CALL GC_alloc_lock(void);
GC_API void GC_CALL GC_alloc_unlock(void);
#else
#define GC_alloc_lock()   (void)0
#define GC_alloc_unlock() (void)0
#endif

GC_API GC_ATTR_DEPRECATED char *GC_stackbottom; /* of the first thread */
struct GC_stack_base {
    void *mem_base;
};
typedef void *(GC_CALLBACK *GC_stack_base_func)(struct GC_stack_base *base, void *data);
GC_API void *GC_CALL GC_call_with_stack_base(GC_stack_base_func function, void *data)
    GC_ATTR_NONNULL(1);
GC_API int GC_CALL GC_get_stack_base(struct GC_stack_base *base) GC_ATTR_NONNULL(1);
/* The stack that a thread runs on, of coroutines for instance.  THREAD is what
 * GC_get_my_stackbottom() returned, NULL for the calling thread. */
GC_API void *GC_CALL GC_get_my_stackbottom(struct GC_stack_base *base) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_set_stackbottom(void *thread, const struct GC_stack_base *base)
    GC_ATTR_NONNULL(2);

/* FUNCTION(DATA), which doesn't touch the heap, while collections don't wait for this thread; and
 * the reverse, within. */
GC_API void *GC_CALL GC_do_blocking(GC_fn_type function, void *data) GC_ATTR_NONNULL(1);
GC_API void *GC_CALL GC_call_with_gc_active(GC_fn_type function, void *data) GC_ATTR_NONNULL(1);

GC_API void GC_CALL GC_start_mark_threads(void);
#ifdef GC_THREADS
GC_API GC_ATTR_DEPRECATED int GC_parallel;
GC_API int GC_CALL GC_get_parallel(void);
GC_API void GC_CALL GC_set_markers_count(unsigned count);
GC_API void GC_CALL GC_set_suspend_signal(int number);
GC_API void GC_CALL GC_set_thr_restart_signal(int number);
GC_API int GC_CALL GC_get_suspend_signal(void);
GC_API int GC_CALL GC_get_thr_restart_signal(void);
GC_API void GC_CALL GC_allow_register_threads(void);
GC_API int GC_CALL GC_register_my_thread(const struct GC_stack_base *base) GC_ATTR_NONNULL(1);
GC_API int GC_CALL GC_thread_is_registered(void);
GC_API void GC_CALL GC_register_altstack(
    void *stack, GC_word stack_size, void *altstack, GC_word altstack_size);
GC_API int GC_CALL GC_unregister_my_thread(void);
GC_API void GC_CALL GC_stop_world_external(void);
GC_API void GC_CALL GC_start_world_external(void);
#endif
GC_API void GC_CALL GC_set_handle_fork(int mode);
GC_API void GC_CALL GC_atfork_prepare(void);
GC_API void GC_CALL GC_atfork_parent(void);
GC_API void GC_CALL GC_atfork_child(void);

#ifdef __cplusplus
}
#endif

#ifdef GC_PTHREADS
#include "gc_pthread_redirects.h"
#endif

/* ---- GC_INIT() ------------------------------------------------------------------------------ */

#define GC_INIT_CONF_ROOTS
#ifdef GC_DONT_EXPAND
#define GC_INIT_CONF_DONT_EXPAND GC_set_dont_expand(1)
#else
#define GC_INIT_CONF_DONT_EXPAND
#endif
#ifdef GC_FORCE_UNMAP_ON_GCOLLECT
#define GC_INIT_CONF_FORCE_UNMAP_ON_GCOLLECT GC_set_force_unmap_on_gcollect(1)
#else
#define GC_INIT_CONF_FORCE_UNMAP_ON_GCOLLECT
#endif
#if defined(GC_DONT_GC)
#define GC_INIT_CONF_MAX_RETRIES (void)(GC_dont_gc = 1)
#elif defined(GC_MAX_RETRIES)
#define GC_INIT_CONF_MAX_RETRIES GC_set_max_retries(GC_MAX_RETRIES)
#else
#define GC_INIT_CONF_MAX_RETRIES
#endif
#ifdef GC_ALLOCD_BYTES_PER_FINALIZER
#define GC_INIT_CONF_ALLOCD_BYTES_PER_FINALIZER                                                    \
    GC_set_allocd_bytes_per_finalizer(GC_ALLOCD_BYTES_PER_FINALIZER)
#else
#define GC_INIT_CONF_ALLOCD_BYTES_PER_FINALIZER
#endif
#ifdef GC_FREE_SPACE_DIVISOR
#define GC_INIT_CONF_FREE_SPACE_DIVISOR GC_set_free_space_divisor(GC_FREE_SPACE_DIVISOR)
#else
#define GC_INIT_CONF_FREE_SPACE_DIVISOR
#endif
#ifdef GC_FULL_FREQ
#define GC_INIT_CONF_FULL_FREQ GC_set_full_freq(GC_FULL_FREQ)
#else
#define GC_INIT_CONF_FULL_FREQ
#endif
#ifdef GC_TIME_LIMIT
#define GC_INIT_CONF_TIME_LIMIT GC_set_time_limit(GC_TIME_LIMIT)
#else
#define GC_INIT_CONF_TIME_LIMIT
#endif
#if defined(GC_MARKERS) && defined(GC_THREADS)
#define GC_INIT_CONF_MARKERS GC_set_markers_count(GC_MARKERS)
#else
#define GC_INIT_CONF_MARKERS
#endif
#if defined(GC_SIG_SUSPEND) && defined(GC_THREADS)
#define GC_INIT_CONF_SUSPEND_SIGNAL GC_set_suspend_signal(GC_SIG_SUSPEND)
#else
#define GC_INIT_CONF_SUSPEND_SIGNAL
#endif
#if defined(GC_SIG_THR_RESTART) && defined(GC_THREADS)
#define GC_INIT_CONF_THR_RESTART_SIGNAL GC_set_thr_restart_signal(GC_SIG_THR_RESTART)
#else
#define GC_INIT_CONF_THR_RESTART_SIGNAL
#endif
#ifdef GC_MAXIMUM_HEAP_SIZE
#define GC_INIT_CONF_MAXIMUM_HEAP_SIZE GC_set_max_heap_size(GC_MAXIMUM_HEAP_SIZE)
#else
#define GC_INIT_CONF_MAXIMUM_HEAP_SIZE
#endif
#ifdef GC_IGNORE_WARN
#define GC_INIT_CONF_IGNORE_WARN GC_set_warn_proc(GC_ignore_warn_proc)
#else
#define GC_INIT_CONF_IGNORE_WARN
#endif
#ifdef GC_INITIAL_HEAP_SIZE
#define GC_INIT_CONF_INITIAL_HEAP_SIZE                                                             \
    {                                                                                              \
        size_t gc_had = GC_get_heap_size();                                                        \
        if (gc_had < (GC_INITIAL_HEAP_SIZE)) (void)GC_expand_hp((GC_INITIAL_HEAP_SIZE)-gc_had);    \
    }
#else
#define GC_INIT_CONF_INITIAL_HEAP_SIZE
#endif
#define GC_INIT()                                                                                  \
    {                                                                                              \
        GC_INIT_CONF_DONT_EXPAND;                                                                  \
        GC_INIT_CONF_FORCE_UNMAP_ON_GCOLLECT;                                                      \
        GC_INIT_CONF_MAX_RETRIES;                                                                  \
        GC_INIT_CONF_ALLOCD_BYTES_PER_FINALIZER;                                                   \
        GC_INIT_CONF_FREE_SPACE_DIVISOR;                                                           \
        GC_INIT_CONF_FULL_FREQ;                                                                    \
        GC_INIT_CONF_TIME_LIMIT;                                                                   \
        GC_INIT_CONF_MARKERS;                                                                      \
        GC_INIT_CONF_SUSPEND_SIGNAL;                                                               \
        GC_INIT_CONF_THR_RESTART_SIGNAL;                                                           \
        GC_INIT_CONF_MAXIMUM_HEAP_SIZE;                                                            \
        GC_init();                                                                                 \
        GC_INIT_CONF_ROOTS;                                                                        \
        GC_INIT_CONF_IGNORE_WARN;                                                                  \
        GC_INIT_CONF_INITIAL_HEAP_SIZE;                                                            \
    }

#endif
