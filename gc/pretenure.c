/* Allocating old: objects of which the program knows that they will live long are marked before it
 * has them.  Owns nothing: they come from the bump allocator, in blocks of their own that are
 * claimed, and so YOUNG and open, until the next collection, like any block with old objects that
 * is being refilled (docs/tenure.md, rule 2).  Called by each thread for itself, inside the
 * library. */
#include "cairn/embed.h"

#include "gc/allocate.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/large.h"
#include "gc/thread.h"
#include "gc/type.h"

/* False if a collection has made it old, and counted it among what survived. */
static bool make_large_old(struct gci_thread *thread, gci_object object) {
    struct gc_heap *heap = thread->heap;
    /* There may be a collection before the lock can be had. */
    thread->held = gci_granule_address(&heap->arena, object.granule);
    gci_heap_lock(heap);
    bool promoted = gci_large_promote(heap, object);
    gci_heap_unlock(heap);
    return promoted;
}

/* Nobody else knows P yet, which SIZE bytes were asked for.  But others may free objects of its
 * block, with the lock. */
static void make_old(struct gci_thread *thread, void *p, size_t size) {
    struct gci_arena *arena = &thread->heap->arena;
    gci_object object = {gci_address_granule(arena, (uintptr_t)p)};
    uint32_t block = gci_block_of(object.granule);
    size_t granules = (size + GC_GRANULE - 1) / GC_GRANULE;
    if (size > GC_SMALL_MAX) granules = gci_object_bytes(thread->heap, object) / GC_GRANULE;
    if (gci_tag_use(gci_tag(arena, block)) == GCI_USE_LARGE) {
        if (!make_large_old(thread, object)) return;
    } else {
        arena->side[object.granule] |= GCI_SIDE_MARK;
        __atomic_fetch_add(&arena->live[block], (uint16_t)granules, __ATOMIC_RELAXED);
    }
    uint64_t bytes = thread->tenured + granules * GC_GRANULE;
    __atomic_store_n(&thread->tenured, bytes, __ATOMIC_RELAXED);
}

static void *allocate_old(const struct gci_frame *frame, const struct gci_type *type, size_t size) {
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    enum gci_kind kind = gci_type_kind(type);
    void *p = gci_allocate_apart(thread, kind, size);
    if (p != NULL) {
        gci_type_tell(thread->heap, p, size, type);
        make_old(thread, p, size);
    }
    return gci_api_leave_with(thread, p);
}

void *gci_entry_alloc_old(const gc_type *type, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_alloc_old_array(
    const gc_type *type, size_t count, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_alloc_old, gci_entry_alloc_old);
GCI_ENTRY(gc_alloc_old_array, gci_entry_alloc_old_array);

void *gci_entry_alloc_old(const gc_type *type, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    const struct gci_type *own = (const struct gci_type *)(const void *)type;
    return allocate_old(frame, own, own->size);
}

void *gci_entry_alloc_old_array(
    const gc_type *type, size_t count, size_t c, const struct gci_frame *frame) {
    (void)c;
    const struct gci_type *own = (const struct gci_type *)(const void *)type;
    return allocate_old(frame, own, gci_type_array_bytes(own, count));
}
