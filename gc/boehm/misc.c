/* Checks of pointers, and what has no home elsewhere. */
#include "gc/boehm/layer.h"

#include <stdlib.h>

#include "gc/block.h"
#include "gc/heap.h"
#include "runtime/log.h"

EXPORT void GC_noop1(GC_word word);
EXPORT void GC_noop1(GC_word word) {
    __asm__ volatile("" : : "r"(word) : "memory");
}

EXPORT void *GC_clear_stack(void *p) {
    return p; /* nothing below the caller's frame is searched */
}

EXPORT void GC_incr_bytes_allocd(size_t bytes);
EXPORT void GC_incr_bytes_freed(size_t bytes);
EXPORT void GC_incr_bytes_allocd(size_t bytes) {
    (void)bytes; /* for free lists of the program's own, whose objects were counted when made */
}
EXPORT void GC_incr_bytes_freed(size_t bytes) {
    (void)bytes;
}

/* ---- Checks --------------------------------------------------------------------------------- */

static void not_same(void *p, void *q) {
    gci_log("GC_same_obj(%p, %p): they don't point into one object", p, q);
    GC_get_abort_func()("GC_same_obj test failed");
    abort();
}

static void not_valid(void *p) {
    gci_log("GC_is_valid_displacement(%p): it doesn't point into an object", p);
    GC_get_abort_func()("GC_is_valid_displacement test failed");
    abort();
}

static void not_visible(void *p) {
    gci_log("GC_is_visible(%p): the collector doesn't look there", p);
    GC_get_abort_func()("GC_is_visible test failed");
    abort();
}

EXPORT void (*GC_same_obj_print_proc)(void *p, void *q) = not_same;
EXPORT void (*GC_is_valid_displacement_print_proc)(void *p) = not_valid;
EXPORT void (*GC_is_visible_print_proc)(void *p) = not_visible;

/* Outside the heap nothing is known, and nothing is wrong.  One past the end is in the object. */
EXPORT void *GC_same_obj(void *p, void *q) {
    void *base = GC_base(q);
    uintptr_t start = (uintptr_t)base;
    if (base == NULL) {
        if (GC_base(p) != NULL) GC_same_obj_print_proc(p, q);
    } else if ((uintptr_t)p - start > GC_size(base)) {
        GC_same_obj_print_proc(p, q);
    }
    return p;
}

EXPORT void *GC_pre_incr(void **p, ptrdiff_t by) {
    void *to = (char *)*p + by;
    GC_same_obj(to, *p);
    return *p = to;
}

EXPORT void *GC_post_incr(void **p, ptrdiff_t by) {
    void *before = *p, *to = (char *)before + by;
    GC_same_obj(to, before);
    *p = to;
    return before;
}

/* What lies outside the heap may be a root, or be registered as one later. */
EXPORT void *GC_is_visible(void *p) {
    if ((uintptr_t)p % sizeof(void *) != 0) GC_is_visible_print_proc(p);
    return p;
}

EXPORT void *GC_is_valid_displacement(void *p) {
    const struct gc_heap *heap = gci_default_heap();
    if (heap == NULL || (uintptr_t)p - heap->arena.base >= gci_arena_used_bytes(&heap->arena))
        return p;
    const void *base = GC_base(p);
    if (base == NULL || !gcb_offset_is_valid((uintptr_t)p - (uintptr_t)base))
        GC_is_valid_displacement_print_proc(p);
    return p;
}

EXPORT void GC_debug_ptr_store_and_dirty(void *p, const void *q) {
    *(const void **)GC_is_visible(p) = GC_is_valid_displacement((void *)(uintptr_t)q);
    GC_end_stubborn_change(p);
}
