/* Boehm's interface for objects whose first word refers to a table that holds their descriptor;
 * answered by Cairn. */
#ifndef GC_GCJ_H
#define GC_GCJ_H

#include "gc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The descriptor is the word at the table's start plus one word; MARK_PROCEDURE gets number
 * INDEX. */
GC_API void GC_CALL GC_init_gcj_malloc(int index, void *mark_procedure);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_gcj_malloc(size_t size, void *table);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_gcj_malloc(size_t size, void *table, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_gcj_malloc_ignore_off_page(size_t size, void *table);
GC_API int GC_gcj_kind;
GC_API int GC_gcj_debug_kind;

#ifdef GC_DEBUG
#define GC_GCJ_MALLOC(size, table)                 GC_debug_gcj_malloc(size, table, GC_EXTRAS)
#define GC_GCJ_MALLOC_IGNORE_OFF_PAGE(size, table) GC_debug_gcj_malloc(size, table, GC_EXTRAS)
#else
#define GC_GCJ_MALLOC(size, table)                 GC_gcj_malloc(size, table)
#define GC_GCJ_MALLOC_IGNORE_OFF_PAGE(size, table) GC_gcj_malloc_ignore_off_page(size, table)
#endif

#ifdef __cplusplus
}
#endif

#endif
