/* Boehm's interface for programs that keep free lists of their own; answered by Cairn.  GC_malloc()
 * itself takes 2 ns here, so that such lists are rarely worth it. */
#ifndef GC_INLINE_H
#define GC_INLINE_H

#include "gc.h"
#include "gc_tiny_fl.h"

#ifdef __GNUC__
#define GC_EXPECT(condition, outcome) __builtin_expect(condition, outcome)
#else
#define GC_EXPECT(condition, outcome) (condition)
#endif
#ifndef GC_ASSERT
#ifdef NDEBUG
#define GC_ASSERT(condition)
#else
#include <assert.h>
#define GC_ASSERT(condition) assert(condition)
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef GC_PREFETCH_FOR_WRITE
#if defined(__GNUC__) && !defined(GC_NO_PREFETCH_FOR_WRITE)
#define GC_PREFETCH_FOR_WRITE(p) __builtin_prefetch((p), 1)
#else
#define GC_PREFETCH_FOR_WRITE(p) (void)0
#endif
#endif

#define GC_I_PTRFREE 0
#define GC_I_NORMAL  1

/* Stores to *RESULT a list of objects of KIND and SIZE bytes, linked through their first words; NULL
 * if there is no memory.  The rest of each is zero. */
GC_API void GC_CALL GC_generic_malloc_many(size_t size, int kind, void **result);

/* An object of KIND, one of the two above or of GC_new_kind(). */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_kind(size_t size, int kind);
#ifdef GC_THREADS
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_malloc_kind_global(size_t size, int kind);
#else
#define GC_malloc_kind_global GC_malloc_kind
#endif

#if defined(GC_THREADS) && defined(AO_HAVE_store)
#define GC_FAST_M_AO_STORE(list, next) AO_store((volatile AO_t *)(list), (AO_t)(next))
#else
#define GC_FAST_M_AO_STORE(list, next) (void)(*(list) = (next))
#endif

/* Takes an object of GRANULES from TINY_FL, GC_TINY_FREELISTS lists of KIND, and runs INIT.  A list
 * that holds a small number instead of an object counts the objects that DEFAULT_EXPR made; after
 * NUM_DIRECT of them, it is filled. */
#define GC_FAST_MALLOC_GRANS(result, granules, tiny_fl, num_direct, kind, default_expr, init)      \
    do {                                                                                           \
        if (GC_EXPECT((granules) >= GC_TINY_FREELISTS, 0)) {                                       \
            result = (default_expr);                                                               \
            break;                                                                                 \
        }                                                                                          \
        void **gc_list = (tiny_fl) + (granules);                                                   \
        void *gc_first = *gc_list, *gc_rest;                                                       \
        while (GC_EXPECT((GC_word)gc_first <= (num_direct) + GC_TINY_FREELISTS + 1, 0)) {          \
            if (gc_first != 0 && (GC_signed_word)gc_first - (GC_signed_word)(num_direct) <= 0) {   \
                GC_FAST_M_AO_STORE(gc_list, (char *)gc_first + (granules) + 1);                    \
                gc_list = 0;                                                                       \
                break;                                                                             \
            }                                                                                      \
            GC_generic_malloc_many(                                                                \
                (granules) == 0 ? GC_GRANULE_BYTES : GC_RAW_BYTES_FROM_INDEX(granules), kind,      \
                gc_list);                                                                          \
            gc_first = *gc_list;                                                                   \
            if (gc_first == 0) break;                                                              \
        }                                                                                          \
        if (gc_list == 0) {                                                                        \
            result = (default_expr);                                                               \
        } else if (gc_first == 0) {                                                                \
            result = (*GC_get_oom_fn())((granules)*GC_GRANULE_BYTES);                              \
        } else {                                                                                   \
            gc_rest = *(void **)gc_first;                                                          \
            result = gc_first;                                                                     \
            GC_FAST_M_AO_STORE(gc_list, gc_rest);                                                  \
            init;                                                                                  \
            GC_PREFETCH_FOR_WRITE(gc_rest);                                                        \
            if ((kind) != GC_I_PTRFREE) {                                                          \
                GC_end_stubborn_change(gc_list);                                                   \
                GC_reachable_here(gc_rest);                                                        \
            }                                                                                      \
        }                                                                                          \
    } while (0)

#define GC_WORDS_TO_WHOLE_GRANULES(n) GC_WORDS_TO_GRANULES((n) + GC_GRANULE_WORDS - 1)
#define GC_MALLOC_WORDS_KIND(result, n, tiny_fl, kind, init)                                       \
    do {                                                                                           \
        size_t gc_granules = GC_WORDS_TO_WHOLE_GRANULES(n);                                        \
        GC_FAST_MALLOC_GRANS(result, gc_granules, tiny_fl, 0, kind,                                \
            GC_malloc_kind(gc_granules *GC_GRANULE_BYTES, kind), init);                            \
    } while (0)
#define GC_MALLOC_WORDS(result, n, tiny_fl)                                                        \
    GC_MALLOC_WORDS_KIND(result, n, tiny_fl, GC_I_NORMAL, *(void **)(result) = 0)
#define GC_MALLOC_ATOMIC_WORDS(result, n, tiny_fl)                                                 \
    GC_MALLOC_WORDS_KIND(result, n, tiny_fl, GC_I_PTRFREE, (void)0)
#define GC_CONS(result, first, second, tiny_fl)                                                    \
    do {                                                                                           \
        void *gc_left = (void *)(first);                                                           \
        void *gc_right = (void *)(second);                                                         \
        GC_MALLOC_WORDS_KIND(result, 2, tiny_fl, GC_I_NORMAL, (void)0);                            \
        if ((result) != 0) {                                                                       \
            *(void **)(result) = gc_left;                                                          \
            GC_PTR_STORE_AND_DIRTY((void **)(result) + 1, gc_right);                               \
            GC_reachable_here(gc_left);                                                            \
        }                                                                                          \
    } while (0)

GC_API void GC_CALL GC_print_free_list(int kind, size_t granules);

#ifdef __cplusplus
}
#endif

#endif
