/* Boehm's interface for objects of which the program says which words are pointers; answered by
 * Cairn. */
#ifndef GC_TYPED_H
#define GC_TYPED_H

#include "gc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One bit a word, the lowest of the first word for the object's first word. */
typedef GC_word *GC_bitmap;
#define GC_WORDSZ                   (8 * sizeof(GC_word))
#define GC_get_bit(bitmap, i)       (((bitmap)[(i) / GC_WORDSZ] >> ((i) % GC_WORDSZ)) & 1)
#define GC_set_bit(bitmap, i)       ((bitmap)[(i) / GC_WORDSZ] |= (GC_word)1 << ((i) % GC_WORDSZ))
#define GC_WORD_OFFSET(type, field) (offsetof(type, field) / sizeof(GC_word))
#define GC_WORD_LEN(type)           (sizeof(type) / sizeof(GC_word))
#define GC_BITMAP_SIZE(type)        ((GC_WORD_LEN(type) + GC_WORDSZ - 1) / GC_WORDSZ)

typedef GC_word GC_descr;
/* The descriptor of objects whose first LENGTH words BITMAP describes; the rest isn't searched. */
GC_API GC_descr GC_CALL GC_make_descriptor(const GC_word *bitmap, size_t length);

GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_malloc_explicitly_typed(size_t size, GC_descr descriptor);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_malloc_explicitly_typed_ignore_off_page(size_t size, GC_descr descriptor);
/* COUNT elements of SIZE bytes. */
GC_API GC_ATTR_MALLOC GC_ATTR_CALLOC_SIZE(1, 2) void *GC_CALL
    GC_calloc_explicitly_typed(size_t count, size_t size, GC_descr descriptor);

#ifdef GC_DEBUG
#define GC_MALLOC_EXPLICITLY_TYPED(size, descriptor) ((void)(descriptor), GC_MALLOC(size))
#define GC_CALLOC_EXPLICITLY_TYPED(count, size, descriptor)                                        \
    ((void)(descriptor), GC_MALLOC((count) * (size)))
#else
#define GC_MALLOC_EXPLICITLY_TYPED(size, descriptor) GC_malloc_explicitly_typed(size, descriptor)
#define GC_CALLOC_EXPLICITLY_TYPED(count, size, descriptor)                                        \
    GC_calloc_explicitly_typed(count, size, descriptor)
#endif

#ifdef __cplusplus
}
#endif

#endif
