/* The public functions: they check their arguments, find the calling thread's state, and call
 * the parts.  Owns the library's only globals: the default heap, and each thread's buffers and
 * state.  Functions that may collect are entered through GCI_ENTRY, which saves the caller's
 * registers and says where its stack begins. */
#define GC_NO_INLINE
#include "cairn/gc.h"

#include <errno.h>
#include <string.h>

#include "gc/allocate.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/explain.h"
#include "gc/heap.h"
#include "gc/large.h"
#include "gc/stats.h"
#include "gc/verify.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/options.h"

#define ALIGNMENT_MAX ((size_t)1 << 30)

enum { HEAP_NONE, HEAP_OPENING, HEAP_OPEN };

/* Written once, by the thread that opens the heap. */
static GCI_GLOBAL struct gc_heap *default_heap;
static GCI_GLOBAL int heap_state;

__thread struct gc_thread_buffers gc_buffers __attribute__((tls_model("initial-exec")));

/* The calling thread's state; NULL if it isn't attached.  Written by gc_init(). */
static __thread struct gci_thread *self __attribute__((tls_model("initial-exec")));

/* ---- Starting ------------------------------------------------------------------------------- */

static int open_heap(const gc_options *options) {
    int none = HEAP_NONE, error;
    if (!__atomic_compare_exchange_n(
            &heap_state, &none, HEAP_OPENING, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return EALREADY;
    gc_options resolved;
    struct gc_heap *heap = NULL;
    error = gci_options_resolve(options, &resolved);
    if (error == 0)
        heap = gci_heap_open(&resolved, &gc_buffers.ambiguous, &gc_buffers.leaf, &error);
    if (heap == NULL) {
        __atomic_store_n(&heap_state, HEAP_NONE, __ATOMIC_RELEASE);
        return error;
    }
    self = heap->threads;
    gc_buffers.side = heap->arena.side - heap->arena.base / GC_GRANULE;
    default_heap = heap;
    __atomic_store_n(&heap_state, HEAP_OPEN, __ATOMIC_RELEASE);
    return 0;
}

int gc_init(const gc_options *options) {
    return open_heap(options);
}

/* The calling thread, its stack to be searched from FRAME.  Opens the heap if need be; NULL if
 * that fails. */
static struct gci_thread *enter(const struct gci_frame *frame) {
    if (__builtin_expect(self == NULL, 0)) {
        int error = open_heap(NULL);
        if (error == EALREADY)
            gci_fatal("a thread that the heap does not know allocates or collects: only the "
                      "thread that called gc_init() or allocated first may use the heap");
        if (error != 0) {
            errno = error;
            return NULL;
        }
    }
    self->scan_from = (const uintptr_t *)frame;
    return self;
}

/* The heap, for functions that only look; NULL before it is opened. */
static struct gc_heap *the_heap(void) {
    return __atomic_load_n(&heap_state, __ATOMIC_ACQUIRE) == HEAP_OPEN ? default_heap : NULL;
}

/* The heap, for functions that change settings: opened if need be. */
static struct gc_heap *need_heap(void) {
    struct gc_heap *heap = the_heap();
    if (heap != NULL) return heap;
    int error = open_heap(NULL);
    if (error != 0)
        gci_fatal(error == EALREADY ? "another thread is opening the heap"
                                    : "there is no memory for a heap");
    return default_heap;
}

const char *gc_version(void) {
    return "cairn 0.1.0";
}

/* ---- Allocating ----------------------------------------------------------------------------- */

void *gci_entry_alloc(size_t size, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_alloc_leaf(size_t size, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_aligned(size_t alignment, size_t size, size_t c, const struct gci_frame *frame);
void *gci_entry_realloc(void *p, size_t size, size_t c, const struct gci_frame *frame);
char *gci_entry_strdup(const char *s, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_collect(enum gc_collection kind, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_explain(const void *p, size_t b, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_alloc_slow, gci_entry_alloc);
GCI_ENTRY(gc_alloc_leaf_slow, gci_entry_alloc_leaf);
GCI_ENTRY(gc_alloc_aligned, gci_entry_aligned);
GCI_ENTRY(gc_realloc, gci_entry_realloc);
GCI_ENTRY(gc_strdup, gci_entry_strdup);
GCI_ENTRY(gc_collect, gci_entry_collect);
GCI_ENTRY(gc_explain, gci_entry_explain);

void *gc_alloc(size_t size) {
    void *p = gc_bump(&gc_buffers.ambiguous, size);
    return p != NULL ? p : gc_alloc_slow(size);
}

void *gc_alloc_leaf(size_t size) {
    void *p = gc_bump(&gc_buffers.leaf, size);
    return p != NULL ? p : gc_alloc_leaf_slow(size);
}

void *gci_entry_alloc(size_t size, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = enter(frame);
    return thread == NULL ? NULL : gci_allocate(thread, GCI_AMBIGUOUS, size, GC_GRANULE);
}

void *gci_entry_alloc_leaf(size_t size, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = enter(frame);
    return thread == NULL ? NULL : gci_allocate(thread, GCI_LEAF, size, GC_GRANULE);
}

void *gci_entry_aligned(size_t alignment, size_t size, size_t c, const struct gci_frame *frame) {
    (void)c;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > ALIGNMENT_MAX) {
        errno = EINVAL;
        return NULL;
    }
    struct gci_thread *thread = enter(frame);
    return thread == NULL ? NULL : gci_allocate(thread, GCI_AMBIGUOUS, size, alignment);
}

char *gci_entry_strdup(const char *s, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = enter(frame);
    if (thread == NULL) return NULL;
    size_t size = strlen(s) + 1;
    thread->held = (uintptr_t)s; /* perhaps the only reference to it */
    char *copy = gci_allocate(thread, GCI_LEAF, size, GC_GRANULE);
    thread->held = 0;
    return copy == NULL ? NULL : memcpy(copy, s, size);
}

/* ---- Freeing and resizing ------------------------------------------------------------------- */

/* The live object that starts at P; anything else is described, and the program aborted. */
static gci_object object_at(const struct gc_heap *heap, const void *p, const char *function) {
    gci_object object;
    if (heap == NULL || (uintptr_t)p - heap->arena.base >= gci_arena_used_bytes(&heap->arena))
        gci_fatal("%s(%p): not an address in the heap", function, p);
    if (!gci_find(heap, (uintptr_t)p, &object))
        gci_fatal("%s(%p): no object there: freed already, or never allocated", function, p);
    uintptr_t start = gci_granule_address(&heap->arena, object.granule);
    if (start != (uintptr_t)p)
        gci_fatal("%s(%p): points %zu bytes into the object of %zu bytes at %p", function, p,
            (size_t)((uintptr_t)p - start), gci_object_bytes(heap, object), (void *)start);
    return object;
}

/* The calling thread for gc_free(), which does not collect and so needs no frame. */
static struct gci_thread *attached(const char *function, const void *p) {
    if (self == NULL)
        gci_fatal("%s(%p): called by a thread that the heap does not know", function, p);
    return self;
}

void gc_free(void *p) {
    if (p == NULL) return;
    gci_object object = object_at(the_heap(), p, "gc_free");
    gci_deallocate(attached("gc_free", p), object);
}

static void *move(struct gci_thread *thread, void *p, gci_object object, size_t size) {
    struct gc_heap *heap = thread->heap;
    size_t old = gci_object_bytes(heap, object);
    enum gci_kind kind = gci_tag_kind(heap->arena.tags[gci_block_of(object.granule)]);
    thread->held = (uintptr_t)p; /* the caller's copy may be gone already */
    void *q = gci_allocate(thread, kind, size, GC_GRANULE);
    thread->held = 0;
    if (q == NULL) return NULL;
    memcpy(q, p, old < size ? old : size);
    gci_deallocate(thread, object);
    return q;
}

void *gci_entry_realloc(void *p, size_t size, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = enter(frame);
    if (thread == NULL) return NULL;
    if (p == NULL) return gci_allocate(thread, GCI_AMBIGUOUS, size, GC_GRANULE);
    gci_object object = object_at(thread->heap, p, "gc_realloc");
    if (size == 0) {
        gci_deallocate(thread, object);
        return NULL;
    }
    if (size <= PTRDIFF_MAX && gci_resize(thread, object, size)) return p;
    return move(thread, p, object, size);
}

/* ---- Asking --------------------------------------------------------------------------------- */

size_t gc_size(const void *p) {
    const struct gc_heap *heap = the_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object) ||
        gci_granule_address(&heap->arena, object.granule) != (uintptr_t)p)
        return 0;
    return gci_object_bytes(heap, object);
}

void *gc_base(const void *p) {
    const struct gc_heap *heap = the_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object)) return NULL;
    return (void *)gci_granule_address(&heap->arena, object.granule);
}

/* ---- Collecting ----------------------------------------------------------------------------- */

int gci_entry_collect(enum gc_collection kind, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (kind != GC_MINOR && kind != GC_FULL) return EINVAL;
    struct gci_thread *thread = enter(frame);
    if (thread == NULL) return ENOMEM;
    return gci_collect(thread->heap, kind, "the program asked") ? 0 : EBUSY;
}

void gc_disable(void) {
    need_heap()->disabled++;
}

void gc_enable(void) {
    struct gc_heap *heap = need_heap();
    if (heap->disabled == 0) gci_fatal("gc_enable(): called more often than gc_disable()");
    heap->disabled--;
}

void gc_account_external(ptrdiff_t bytes) {
    struct gci_policy *policy = &need_heap()->policy;
    if (__builtin_add_overflow(policy->external, bytes, &policy->external))
        policy->external = bytes > 0 ? INT64_MAX : 0;
    if (policy->external < 0) policy->external = 0;
}

int gc_add_root(const void *start, size_t bytes) {
    return gci_heap_add_root(need_heap(), start, bytes);
}

int gc_remove_root(const void *start, size_t bytes) {
    return gci_heap_remove_root(need_heap(), start, bytes);
}

static int set_pin(const void *p, bool pinned) {
    struct gc_heap *heap = the_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object)) return EINVAL;
    uint8_t *side = &heap->arena.side[object.granule];
    *side = (uint8_t)(pinned ? *side | GCI_SIDE_PINNED : *side & ~GCI_SIDE_PINNED);
    return 0;
}

int gc_pin(const void *p) {
    return set_pin(p, true);
}

int gc_unpin(const void *p) {
    return set_pin(p, false);
}

void gc_prepare_write(void *p, size_t n) {
    struct gc_heap *heap = the_heap();
    if (heap != NULL && n > 0) gci_barrier_prepare(heap->barrier, (uintptr_t)p, n);
}

void gc_set_oom_handler(gc_oom_handler handler, void *data) {
    struct gc_heap *heap = need_heap();
    heap->oom_handler = handler;
    heap->oom_data = data;
}

/* ---- Seeing --------------------------------------------------------------------------------- */

int gc_get_stats(gc_stats *stats) {
    uint32_t size = stats->size;
    if (size < sizeof *stats) return EINVAL;
    const struct gc_heap *heap = the_heap();
    if (heap != NULL)
        gci_stats_fill(heap, stats);
    else
        memset(stats, 0, sizeof *stats);
    memset(stats + 1, 0, size - sizeof *stats); /* fields of a later version */
    stats->size = size;
    return 0;
}

size_t gc_verify(void) {
    struct gc_heap *heap = the_heap();
    return heap == NULL ? 0 : gci_verify_heap(heap);
}

int gci_entry_explain(const void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    gci_object object;
    if (the_heap() == NULL) return EINVAL;
    struct gci_thread *thread = enter(frame);
    if (!gci_find(thread->heap, (uintptr_t)p, &object)) return EINVAL;
    return gci_explain(thread->heap, object);
}
