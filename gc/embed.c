/* The public functions of cairn/embed.h: types, typed allocation, precise roots.  They check their
 * arguments and call the parts; entered and left as those in gc/api.c are. */
#define GC_NO_INLINE
#include "cairn/embed.h"

#include <errno.h>
#include <string.h>

#include "gc/allocate.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/slots.h"
#include "gc/thread.h"
#include "gc/type.h"
#include "runtime/log.h"

#define HOT_AFTER 32u /* allocations of a type, until it gets a buffer of its own */

const gc_type *gci_entry_type_register(
    const gc_type_desc *desc, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_alloc_typed(const gc_type *type, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_alloc_array(
    const gc_type *type, size_t count, size_t c, const struct gci_frame *frame);

const gc_type *gci_entry_type_entered(
    const struct gc_type_entry *entries, const char *name, size_t c, const struct gci_frame *frame);

int gci_entry_set_layout_hook(
    gc_layout_hook *hook, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_alloc_with_tag(uintptr_t tag, size_t size, size_t c, const struct gci_frame *frame);

int gci_entry_add_slots(void **slots, size_t count, size_t c, const struct gci_frame *frame);
int gci_entry_remove_slots(void **slots, size_t count, size_t c, const struct gci_frame *frame);
gc_handle *gci_entry_handle_new(void *p, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_handle_free(gc_handle *handle, size_t b, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_type_register, gci_entry_type_register);
GCI_ENTRY(gc_type_entered, gci_entry_type_entered);
GCI_ENTRY(gc_add_slots, gci_entry_add_slots);
GCI_ENTRY(gc_remove_slots, gci_entry_remove_slots);
GCI_ENTRY(gc_handle_new, gci_entry_handle_new);
GCI_ENTRY(gc_handle_free, gci_entry_handle_free);
GCI_ENTRY(gc_alloc_typed_slow, gci_entry_alloc_typed);
GCI_ENTRY(gc_alloc_array, gci_entry_alloc_array);
GCI_ENTRY(gc_set_layout_hook, gci_entry_set_layout_hook);
GCI_ENTRY(gc_alloc_with_tag_slow, gci_entry_alloc_with_tag);

/* ---- Types ---------------------------------------------------------------------------------- */

const gc_type *gci_entry_type_register(
    const gc_type_desc *desc, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    const gc_type *type = NULL;
    if (desc == NULL) gci_log("gc_type_register(NULL): expected a description");
    int error = desc == NULL ? EINVAL : gci_need_heap(frame);
    if (error == 0) {
        struct gci_thread *thread = gci_api_enter_if_attached(frame);
        gci_heap_lock(gci_default_heap());
        error = gci_type_register(gci_default_heap(), desc, &type);
        gci_heap_unlock(gci_default_heap());
        gci_api_leave_if_attached(thread, 0);
    }
    if (error != 0) errno = error;
    return type;
}

const gc_type *gci_entry_type_entered(const struct gc_type_entry *entries, const char *name,
    size_t c, const struct gci_frame *frame) {
    (void)c;
    while (entries != NULL && strcmp(entries->desc.name, name) != 0) entries = entries->next;
    if (entries == NULL)
        gci_fatal("gc_new(%s): there is no GC_TYPE(%s, ...) in this file", name, name);
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(gci_default_heap());
    const gc_type *type = gci_type_find(gci_default_heap(), &entries->desc);
    int error = type != NULL ? 0 : gci_type_register(gci_default_heap(), &entries->desc, &type);
    gci_heap_unlock(gci_default_heap());
    gci_api_leave_if_attached(thread, 0);
    if (error != 0) gci_fatal("gc_new(%s): the type can't be registered: error %d", name, error);
    return type;
}

/* Not stopped between the allocation and the type's number: inside the library.  SINGLE: no
 * array. */
static void *allocate_typed(
    const struct gci_frame *frame, struct gci_type *type, size_t size, bool single) {
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    unsigned buffer = __atomic_load_n(&type->buffer, __ATOMIC_RELAXED);
    if (!single) {
        buffer = gci_buffer_kind(buffer);
    } else if (buffer == GCI_TYPED &&
               __atomic_add_fetch(&type->warmth, 1, __ATOMIC_RELAXED) == HOT_AFTER) {
        gci_heap_lock(thread->heap);
        buffer = gci_type_heat(thread->heap, type);
        gci_heap_unlock(thread->heap);
    }
    void *p = gci_allocate(thread, buffer, size, GC_GRANULE);
    if (p != NULL && buffer < GCI_KINDS) gci_type_tell(thread->heap, p, size, type);
    return gci_api_leave_with(thread, p);
}

void *gci_entry_alloc_typed(
    const gc_type *type, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_type *own = (struct gci_type *)(uintptr_t)type;
    return allocate_typed(frame, own, own->size, true);
}

void *gci_entry_alloc_array(
    const gc_type *type, size_t count, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_type *own = (struct gci_type *)(uintptr_t)type;
    return allocate_typed(frame, own, gci_type_array_bytes(own, count), false);
}

void *gc_alloc_typed(const gc_type *type) {
    return gc_alloc_typed_slow(type);
}

void *gc_new_typed(const gc_type *type, size_t size) {
    (void)size;
    return gc_alloc_typed_slow(type);
}

const gc_type *gc_type_of(const void *p) {
    const struct gc_heap *heap = gci_default_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object) ||
        gci_granule_address(&heap->arena, object.granule) != (uintptr_t)p ||
        gci_tag_kind(gci_tag(&heap->arena, gci_block_of(object.granule))) != GCI_TYPED)
        return NULL;
    const struct gci_type *type = gci_type_at(heap, object.granule);
    __asm__ volatile("" : : "r"(p)); /* it holds the object until then */
    return type == &gci_no_type ? NULL : &type->visible;
}

/* ---- Layouts by tag ------------------------------------------------------------------------- */

int gci_entry_set_layout_hook(
    gc_layout_hook *hook, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (hook == NULL) return EINVAL;
    if (gci_need_heap(frame) != 0) return ENOMEM;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(gci_default_heap());
    int error = gci_layout_hook_set(gci_default_heap(), hook);
    gci_heap_unlock(gci_default_heap());
    return gci_api_leave_if_attached(thread, error);
}

void *gci_entry_alloc_with_tag(
    uintptr_t tag, size_t size, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    if (!gci_layout_hook_is_set(thread->heap))
        gci_fatal("gc_alloc_with_tag(): there is no layout hook: call gc_set_layout_hook() first");
    thread->held = tag; /* perhaps the only reference to what it refers to */
    void *p = gci_allocate(thread, GCI_BY_TAG_BUFFER, size, GC_GRANULE);
    if (p != NULL) {
        gci_type_set(thread->heap, p, size, &gci_type_by_tag);
        *(uintptr_t *)p = tag;
    }
    return gci_api_leave_with(thread, p);
}

void *gc_alloc_with_tag(uintptr_t tag, size_t size) {
    return gc_alloc_with_tag_slow(tag, size);
}

/* ---- Stores --------------------------------------------------------------------------------- */

/* What programs compiled without optimisation call: the threads that do are stopped in it like in
 * code of their own. */
static void check_slots(const char *function, const void *object, const void *slots, size_t count) {
    const struct gc_heap *heap = gci_default_heap();
    gci_object found;
    size_t bytes = count * sizeof(void *);
    if (heap != NULL && gci_find(heap, (uintptr_t)object, &found) &&
        gci_granule_address(&heap->arena, found.granule) == (uintptr_t)object &&
        (uintptr_t)slots >= (uintptr_t)object && (uintptr_t)slots % sizeof(void *) == 0 &&
        (uintptr_t)slots - (uintptr_t)object + bytes <= gci_object_bytes(heap, found))
        return;
    gci_fatal("%s(%p, %p, ...): no slot of that object, or no object", function, object, slots);
}

void gc_write(void *object, void *slot, const void *value) {
    check_slots("gc_write", object, slot, 1);
    gc_store(slot, value);
}

void gc_will_write(void *object, void *slots, size_t count) {
    if (count > 0) check_slots("gc_will_write", object, slots, count);
    gc_mark_cards(slots, count);
}

void gc_copy_slots(void *object, void *to, const void *from, size_t count) {
    (void)object;
    gc_any_pointer *target = to;
    const gc_any_pointer *source = from;
    if ((uintptr_t)to - (uintptr_t)from >= count * sizeof *target) {
        for (size_t i = 0; i < count; i++)
            gc_store(target + i, __atomic_load_n(source + i, __ATOMIC_RELAXED));
    } else {
        for (size_t i = count; i-- > 0;)
            gc_store(target + i, __atomic_load_n(source + i, __ATOMIC_RELAXED));
    }
    __asm__ volatile("" : : "r"(object), "r"(to), "r"(from)); /* they hold what is copied */
}

/* ---- Precise roots -------------------------------------------------------------------------- */

/* The bytes of COUNT slots; 0, which no range may have, if there can't be so many. */
static size_t slot_bytes(void **slots, size_t count) {
    size_t bytes;
    bool fits = !__builtin_mul_overflow(count, sizeof *slots, &bytes);
    return fits && (uintptr_t)slots % sizeof *slots == 0 ? bytes : 0;
}

int gci_entry_add_slots(void **slots, size_t count, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    return gci_api_leave_if_attached(
        thread, gci_heap_add_root(gci_default_heap(), slots, slot_bytes(slots, count), true));
}

int gci_entry_remove_slots(void **slots, size_t count, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    return gci_api_leave_if_attached(
        thread, gci_heap_remove_root(gci_default_heap(), slots, slot_bytes(slots, count), true));
}

gc_handle *gci_entry_handle_new(void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    if (thread != NULL) thread->held = (uintptr_t)p; /* perhaps the only reference to it */
    gci_heap_lock(gci_default_heap());
    gc_handle *handle = gci_handle_new(gci_default_heap(), p);
    gci_heap_unlock(gci_default_heap());
    if (thread != NULL) thread->held = 0;
    gci_api_leave_if_attached(thread, 0);
    if (handle == NULL) errno = ENOMEM;
    return handle;
}

void gci_entry_handle_free(gc_handle *handle, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (handle == NULL) return;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(gci_default_heap());
    gci_handle_free(gci_default_heap(), handle);
    gci_heap_unlock(gci_default_heap());
    gci_api_leave_if_attached(thread, 0);
}
