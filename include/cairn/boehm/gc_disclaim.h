/* Boehm's interface for objects that are told when they are about to be freed; answered by
 * Cairn. */
#ifndef GC_DISCLAIM_H
#define GC_DISCLAIM_H

#include "gc.h"

#ifdef __cplusplus
extern "C" {
#endif

GC_API void GC_CALL GC_init_finalized_malloc(void);

/* PROCEDURE(object) is called for each dead object of KIND; if it doesn't return 0, the object
 * lives on until the next collection.  MARK_UNCONDITIONALLY: what dead objects refer to is held for
 * them. */
typedef int(GC_CALLBACK *GC_disclaim_proc)(void *object);
GC_API void GC_CALL GC_register_disclaim_proc(
    int kind, GC_disclaim_proc procedure, int mark_unconditionally) GC_ATTR_NONNULL(2);

struct GC_finalizer_closure {
    GC_finalization_proc proc;
    void *cd;
};
/* An object for which CLOSURE's procedure is called when it is dead. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_finalized_malloc(size_t size, const struct GC_finalizer_closure *closure) GC_ATTR_NONNULL(2);

#ifdef __cplusplus
}
#endif

#endif
