/* Boehm's allocators.  The two that matter, GC_malloc() and GC_malloc_atomic(), take an object from
 * the calling thread's buffer as inline code does, and only else enter the library.  Owns nothing:
 * what is behind is gc/allocate.c, kinds.c and uncollectable.c. */
#include "gc/boehm/layer.h"

#include <errno.h>
#include <string.h>

#include "gc/allocate.h"
#include "gc/api.h"
#include "gc/arena.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "gc/type.h"
#include "runtime/log.h"

/* ---- Lack of memory ------------------------------------------------------------------------- */

static __attribute__((noinline, cold)) void *out_of_memory(size_t size) {
    gcb_warn("Out of Memory!  Returning NULL for %zu bytes\n", size);
    return __atomic_load_n(&GC_oom_fn, __ATOMIC_RELAXED)(size);
}

void *gcb_or_oom(void *p, size_t size) {
    return __builtin_expect(p != NULL, 1) ? p : out_of_memory(size);
}

size_t gcb_slack = 1;

/* Bytes.  Objects with pointers of at least so much lie apart from smaller ones: w3m walks a list of
 * lines, 80 bytes each, again and again, and needed a third more time for all it does when lists,
 * strings and marks lay between them. */
#define APART_LEAST 72u

/* ---- Small and large, with pointers and without --------------------------------------------- */

static __attribute__((noinline)) void *malloc_slow(size_t size) {
    gcb_need_heap();
    if (size > PTRDIFF_MAX) return out_of_memory(size);
    return gcb_or_oom(gc_alloc_slow(size + gcb_slack), size);
}

static __attribute__((noinline)) void *malloc_atomic_slow(size_t size) {
    gcb_need_heap();
    if (size > PTRDIFF_MAX) return out_of_memory(size);
    return gcb_or_oom(gc_alloc_leaf_slow(size + gcb_slack), size);
}

void *gcb_alloc_apart(size_t size);
void *gcb_entry_alloc_apart(size_t size, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gcb_alloc_apart, gcb_entry_alloc_apart);

void *gcb_entry_alloc_apart(size_t size, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    return gci_api_leave_with(thread, gci_allocate(thread, GCI_APART_BUFFER, size, GC_GRANULE));
}

static __attribute__((noinline)) void *malloc_apart_slow(size_t size) {
    gcb_need_heap();
    if (size > PTRDIFF_MAX) return out_of_memory(size);
    return gcb_or_oom(gcb_alloc_apart(size + gcb_slack), size);
}

static __attribute__((noinline)) void *malloc_apart(size_t size) {
    void *p = gc_bump(&gc_buffers.apart, size + gcb_slack);
    return __builtin_expect(p != NULL, 1) ? p : malloc_apart_slow(size);
}

EXPORT void *GC_malloc(size_t size) {
    if (size >= APART_LEAST) return malloc_apart(size);
    void *p = gc_bump(&gc_buffers.ambiguous, size + gcb_slack);
    return __builtin_expect(p != NULL, 1) ? p : malloc_slow(size);
}

EXPORT void *GC_malloc_atomic(size_t size) {
    void *p = gc_bump(&gc_buffers.leaf, size + gcb_slack);
    return __builtin_expect(p != NULL, 1) ? p : malloc_atomic_slow(size);
}

EXPORT void *GC_malloc_ignore_off_page(size_t size) {
    return GC_malloc(size);
}

EXPORT void *GC_malloc_atomic_ignore_off_page(size_t size) {
    return GC_malloc_atomic(size);
}

EXPORT void *GC_malloc_stubborn(size_t size) {
    return GC_malloc(size);
}

EXPORT void GC_change_stubborn(const void *p) {
    (void)p;
}

EXPORT void GC_end_stubborn_change(const void *p) {
    __asm__ volatile("" : : "r"(p) : "memory");
}

EXPORT void GC_ptr_store_and_dirty(void *p, const void *q) {
    __atomic_store_n((const void **)p, q, __ATOMIC_RELEASE);
    GC_end_stubborn_change(p);
}

EXPORT void *GC_memalign(size_t alignment, size_t size) {
    gcb_need_heap();
    if (alignment <= GC_GRANULE) return GC_malloc(size);
    void *p = gc_alloc_aligned(alignment, size > PTRDIFF_MAX ? size : size + gcb_slack);
    return p == NULL && errno == EINVAL ? NULL : gcb_or_oom(p, size);
}

EXPORT int GC_posix_memalign(void **result, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
    void *p = GC_memalign(alignment, size);
    if (p == NULL) return ENOMEM;
    *result = p;
    return 0;
}

EXPORT char *GC_strdup(const char *s) {
    return s == NULL ? NULL : GC_strndup(s, SIZE_MAX);
}

EXPORT char *GC_strndup(const char *s, size_t size) {
    size_t length = strnlen(s, size);
    char *copy = GC_malloc_atomic(length + 1);
    if (copy == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(copy, s, length);
    copy[length] = '\0';
    return copy;
}

EXPORT wchar_t *GC_wcsdup(const wchar_t *s) {
    size_t bytes = (wcslen(s) + 1) * sizeof *s;
    wchar_t *copy = GC_malloc_atomic(bytes);
    if (copy == NULL)
        errno = ENOMEM;
    else
        memcpy(copy, s, bytes);
    return copy;
}

/* ---- Uncollectable -------------------------------------------------------------------------- */

/* P, new, is a root from here on. */
static void *held(void *p, size_t size) {
    if (p != NULL && !gcb_hold(p)) {
        GC_free(p);
        return out_of_memory(size);
    }
    return p;
}

EXPORT void *GC_malloc_uncollectable(size_t size) {
    return held(GC_malloc(size), size);
}

EXPORT void *GC_malloc_atomic_uncollectable(size_t size) {
    return held(GC_malloc_atomic(size), size);
}

EXPORT void *GC_generic_malloc_uncollectable(size_t size, int kind) {
    return held(GC_generic_malloc(size, kind), size);
}

/* ---- With a type ---------------------------------------------------------------------------- */

void *gcb_entry_alloc_of_type(
    const gc_type *type, size_t size, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gcb_alloc_of_type, gcb_entry_alloc_of_type);

void *gcb_entry_alloc_of_type(
    const gc_type *type, size_t size, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    void *p = gci_allocate(thread, GCI_TYPED, size, GC_GRANULE);
    if (p != NULL) gci_type_set(thread->heap, p, size, (const struct gci_type *)(const void *)type);
    return gci_api_leave_with(thread, p);
}

/* ---- Many at once --------------------------------------------------------------------------- */

#define MANY_BYTES 2048u
#define MANY       128u

/* What is made holds what was made before. */
static void *many_with_pointers(size_t size, unsigned count) {
    void **list = NULL, **next;
    for (; count > 0; count--, list = next) {
        next = gc_bump(&gc_buffers.ambiguous, size);
        if (__builtin_expect(next == NULL, 0) && (next = gc_alloc_slow(size)) == NULL) break;
        *next = list;
    }
    return list;
}

/* The objects are held from the stack until they are linked: no list of what has no pointers holds
 * more than its first.  The last link is zero as all memory is. */
static void *many_of_kind(size_t size, unsigned kind, unsigned count) {
    void *batch[MANY];
    unsigned made = 0;
    while (made < count && (batch[made] = gcb_alloc_of_kind(size, kind)) != NULL) made++;
    for (unsigned i = 1; i < made; i++) *(void **)batch[i - 1] = batch[i];
    __asm__ volatile("" : : "r"(batch) : "memory");
    return made > 0 ? batch[0] : NULL;
}

EXPORT void GC_generic_malloc_many(size_t size, int kind, void **result) {
    if (size < sizeof(void *)) size = sizeof(void *);
    unsigned count = size <= MANY_BYTES / MANY ? MANY : (unsigned)(MANY_BYTES / size);
    if (count == 0) count = 1;
    gcb_need_heap();
    *result = kind == GCB_NORMAL ? many_with_pointers(size, count)
                                 : many_of_kind(size, (unsigned)kind, count);
}

EXPORT void *GC_malloc_many(size_t size) {
    void *result;
    GC_generic_malloc_many(size > PTRDIFF_MAX ? size : size + gcb_slack, GCB_NORMAL, &result);
    return result;
}

/* ---- Freeing, resizing ---------------------------------------------------------------------- */

EXPORT void GC_free(void *p) {
    if (p == NULL) return;
    p = gcb_undressed(p);
    __atomic_fetch_add(&gcb_freed, GC_size(p), __ATOMIC_RELAXED);
    gcb_release(p);
    gc_free(p);
}

/* The bytes of the object at P if it is one that may be left behind: small and young, the program's
 * only, and of no interest to anyone who looks for leaks or dangling pointers; else 0. */
static size_t bytes_left_behind(const struct gc_heap *heap, const void *p, bool *leaf) {
    const struct gci_arena *arena = &heap->arena;
    uintptr_t offset = (uintptr_t)p - arena->base;
    if (offset >= gci_arena_used_bytes(arena) || offset % GC_GRANULE != 0 || GC_find_leak ||
        heap->options.poison || heap->options.find_leaks != GC_LEAKS_OFF)
        return 0;
    size_t granule = gci_address_granule(arena, (uintptr_t)p);
    uint8_t tag = gci_tag(arena, gci_block_of(granule));
    if (gci_tag_use(tag) != GCI_USE_BUMP || tag & GCI_TAG_TYPED || !(tag & GCI_TAG_YOUNG) ||
        (arena->side[granule] & ~GCI_SIDE_END) != GCI_SIDE_START)
        return 0;
    *leaf = tag & GCI_TAG_LEAF;
    return gci_small_granules(arena->side, granule) * GC_GRANULE;
}

/* A small object that grows goes to a new place, and the old one to the next collection: that is half
 * the price of freeing it, and w3m does it half a million times.  NULL if it isn't so, or no room is at
 * hand. */
static void *grown(void *p, size_t size) {
    const struct gc_heap *heap = gci_default_heap();
    bool leaf;
    size_t old = heap != NULL ? bytes_left_behind(heap, p, &leaf) : 0;
    if (old == 0 || size > PTRDIFF_MAX || size + gcb_slack <= old) return NULL;
    struct gc_buffer *buffer = leaf                  ? &gc_buffers.leaf
                               : size >= APART_LEAST ? &gc_buffers.apart
                                                     : &gc_buffers.ambiguous;
    void *q = gc_bump(buffer, size + gcb_slack);
    return q != NULL ? memcpy(q, p, old) : NULL;
}

EXPORT void *GC_realloc(void *p, size_t size) {
    if (p == NULL) return GC_malloc(size);
    if (size == 0) {
        GC_free(p);
        return NULL;
    }
    bool root = gcb_release(p);
    void *q = root ? NULL : grown(p, size);
    if (q != NULL) return q;
    q = gc_realloc(p, size > PTRDIFF_MAX ? size : size + gcb_slack);
    if (root && !gcb_hold(q != NULL ? q : p))
        gci_fatal("GC_realloc(): there is no memory to hold an uncollectable object");
    return gcb_or_oom(q, size);
}

/* ---- Asking --------------------------------------------------------------------------------- */

EXPORT void *GC_base(void *p) {
    return gc_base(p);
}

EXPORT int GC_is_heap_ptr(const void *p) {
    const struct gc_heap *heap = gci_default_heap();
    gci_object object;
    return heap != NULL && gci_find(heap, (uintptr_t)p, &object);
}

EXPORT size_t GC_size(const void *p) {
    const struct gc_heap *heap = gci_default_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object)) return 0;
    return gci_object_bytes(heap, object);
}
