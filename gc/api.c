/* The public functions: they check their arguments, find the calling thread's state, and call
 * the parts.  Owns the default heap and each thread's buffers.  Functions that may collect or wait
 * for a collection are entered through GCI_ENTRY, which saves the caller's registers and says where
 * its stack begins; between gci_api_enter() and gci_api_leave() a thread is inside the library
 * (docs/threads.md, rule 5). */
#define GC_NO_INLINE
#include "cairn/gc.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "gc/allocate.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/code.h"
#include "gc/collect.h"
#include "gc/event.h"
#include "gc/explain.h"
#include "gc/fork.h"
#include "gc/frames.h"
#include "gc/heap.h"
#include "gc/keyed.h"
#include "gc/large.h"
#include "gc/sample.h"
#include "gc/stats.h"
#include "gc/type.h"
#include "gc/thread.h"
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

/* ---- Starting ------------------------------------------------------------------------------- */

/* Waits while another thread opens the heap. */
static int state_of_heap(void) {
    int state;
    while ((state = __atomic_load_n(&heap_state, __ATOMIC_ACQUIRE)) == HEAP_OPENING) sched_yield();
    return state;
}

static int open_heap(const gc_options *options, const void *frame) {
    int none = HEAP_NONE, error;
    if (!__atomic_compare_exchange_n(
            &heap_state, &none, HEAP_OPENING, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return state_of_heap() == HEAP_OPEN ? EALREADY : ENOMEM;
    gc_options resolved;
    struct gc_heap *heap = NULL;
    int cancel;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    error = gci_options_resolve(options, &resolved);
    if (error == 0) heap = gci_heap_open(&resolved, frame, &error);
    pthread_setcancelstate(cancel, NULL);
    if (heap == NULL) {
        __atomic_store_n(&heap_state, HEAP_NONE, __ATOMIC_RELEASE);
        return error;
    }
    default_heap = heap;
    __atomic_store_n(&heap_state, HEAP_OPEN, __ATOMIC_RELEASE);
    return 0;
}

int gci_entry_init(const gc_options *options, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_init, gci_entry_init);

int gci_entry_init(const gc_options *options, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    return open_heap(options, frame);
}

/* The heap, for functions that only look; NULL before it is opened. */
static struct gc_heap *the_heap(void) {
    return __atomic_load_n(&heap_state, __ATOMIC_ACQUIRE) == HEAP_OPEN ? default_heap : NULL;
}

struct gc_heap *gci_default_heap(void) {
    return the_heap();
}

int gci_need_heap(const void *frame) {
    if (the_heap() != NULL) return 0;
    int error = open_heap(NULL, frame);
    return error == EALREADY ? 0 : error;
}

/* A thread that isn't attached: the first one, or one that may attach itself by allocating. */
static struct gci_thread *attach_by_use(const struct gci_frame *frame) {
    int error = gci_need_heap(frame);
    if (error == 0 && gci_self == NULL) {
        if (default_heap->options.attach != GC_ATTACH_AUTO)
            gci_fatal("a thread that the heap does not know allocates or collects: call "
                      "gc_thread_attach() in it, make it with gc_pthread_create(), or set "
                      "CAIRN_ATTACH=auto");
        error = gci_thread_attach(default_heap, frame);
    }
    if (error == 0) return gci_thread_self();
    errno = error;
    return NULL;
}

struct gci_thread *gci_api_enter(const struct gci_frame *frame) {
    struct gci_thread *thread = gci_thread_self();
    if (__builtin_expect(thread == NULL, 0)) {
        thread = attach_by_use(frame);
        if (thread == NULL) return NULL;
    }
    gci_enter(&thread->mutator, frame);
    gci_fork_notice(thread->heap);
    if (__builtin_expect(thread->mutator.blocking > 0, 0))
        gci_fatal("a call that may touch the heap between gc_blocking_begin() and _end()");
    if (__builtin_expect(gci_listening, 0)) gci_event_refuse();
    if (__builtin_expect(thread->heap->in_hook, 0))
        gci_fatal("a root hook calls a function that may touch the heap: it may only report roots");
    return thread;
}

void *gci_api_leave_with(struct gci_thread *thread, void *p) {
    thread->held = (uintptr_t)p;
    if (__builtin_expect(thread->draw.sampled != 0, 0)) gci_sample_take(thread, p);
    gci_leave(&thread->mutator);
    thread->held = 0;
    return p;
}

int gci_api_leave(struct gci_thread *thread, int result) {
    gci_leave(&thread->mutator);
    return result;
}

struct gci_thread *gci_api_enter_if_attached(const struct gci_frame *frame) {
    if (gci_need_heap(frame) != 0) gci_fatal("there is no memory for a heap");
    if (gci_listening) gci_event_refuse();
    return gci_self != NULL ? gci_api_enter(frame) : NULL;
}

int gci_api_leave_if_attached(struct gci_thread *thread, int result) {
    return thread != NULL ? gci_api_leave(thread, result) : result;
}

const char *gc_version(void) {
    return "cairn 0.1.0";
}

/* ---- Allocating ----------------------------------------------------------------------------- */

void *gci_entry_alloc(size_t size, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_alloc_leaf(size_t size, size_t b, size_t c, const struct gci_frame *frame);
void *gci_entry_aligned(size_t alignment, size_t size, size_t c, const struct gci_frame *frame);
void *gci_entry_realloc(void *p, size_t size, size_t c, const struct gci_frame *frame);
void gci_entry_free(void *p, size_t b, size_t c, const struct gci_frame *frame);
char *gci_entry_strdup(const char *s, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_collect(enum gc_collection kind, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_disable(size_t a, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_pin(const void *p, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_unpin(const void *p, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_set_oom_handler(
    gc_oom_handler handler, void *data, size_t c, const struct gci_frame *frame);
int gci_entry_add_root(const void *start, size_t bytes, size_t c, const struct gci_frame *frame);
int gci_entry_remove_root(const void *start, size_t bytes, size_t c, const struct gci_frame *frame);
int gci_entry_stats(gc_stats *stats, size_t b, size_t c, const struct gci_frame *frame);
size_t gci_entry_verify(size_t a, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_attach(size_t a, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_safepoint(size_t a, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_blocking(size_t a, size_t b, size_t c, const struct gci_frame *frame);
gc_stack *gci_entry_stack_register(
    void *low, size_t bytes, size_t c, const struct gci_frame *frame);
int gci_entry_stack_unregister(gc_stack *stack, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_stack_switch(gc_stack *stack, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_explain(const void *p, size_t b, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_alloc_slow, gci_entry_alloc);
GCI_ENTRY(gc_alloc_leaf_slow, gci_entry_alloc_leaf);
GCI_ENTRY(gc_alloc_aligned, gci_entry_aligned);
GCI_ENTRY(gc_realloc, gci_entry_realloc);
GCI_ENTRY(gc_free, gci_entry_free);
GCI_ENTRY(gc_strdup, gci_entry_strdup);
GCI_ENTRY(gc_collect, gci_entry_collect);
GCI_ENTRY(gc_disable, gci_entry_disable);
GCI_ENTRY(gc_pin, gci_entry_pin);
GCI_ENTRY(gc_unpin, gci_entry_unpin);
GCI_ENTRY(gc_set_oom_handler, gci_entry_set_oom_handler);
GCI_ENTRY(gc_add_root, gci_entry_add_root);
GCI_ENTRY(gc_remove_root, gci_entry_remove_root);
GCI_ENTRY(gc_get_stats, gci_entry_stats);
GCI_ENTRY(gc_verify, gci_entry_verify);
GCI_ENTRY(gc_explain, gci_entry_explain);
GCI_ENTRY(gc_thread_attach, gci_entry_attach);
GCI_ENTRY(gc_safepoint_slow, gci_entry_safepoint);
GCI_ENTRY(gc_blocking_begin, gci_entry_blocking);
GCI_ENTRY(gc_stack_register, gci_entry_stack_register);
GCI_ENTRY(gc_stack_unregister, gci_entry_stack_unregister);
GCI_ENTRY(gc_stack_switch, gci_entry_stack_switch);

void *gc_alloc(size_t size) {
    void *p = gc_bump(&gc_buffers.ambiguous, size);
    return p != NULL ? p : gc_alloc_slow(size);
}

void *gc_alloc_leaf(size_t size) {
    void *p = gc_bump(&gc_buffers.leaf, size);
    return p != NULL ? p : gc_alloc_leaf_slow(size);
}

static void *allocate(
    const struct gci_frame *frame, enum gci_kind kind, size_t size, size_t alignment) {
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    return gci_api_leave_with(thread, gci_allocate(thread, kind, size, alignment));
}

void *gci_entry_alloc(size_t size, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    return allocate(frame, GCI_AMBIGUOUS, size, GC_GRANULE);
}

void *gci_entry_alloc_leaf(size_t size, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    return allocate(frame, GCI_LEAF, size, GC_GRANULE);
}

void *gci_entry_aligned(size_t alignment, size_t size, size_t c, const struct gci_frame *frame) {
    (void)c;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > ALIGNMENT_MAX) {
        errno = EINVAL;
        return NULL;
    }
    return allocate(frame, GCI_AMBIGUOUS, size, alignment);
}

char *gci_entry_strdup(const char *s, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    size_t size = strlen(s) + 1;
    thread->held = (uintptr_t)s; /* perhaps the only reference to it */
    char *copy = gci_allocate(thread, GCI_LEAF, size, GC_GRANULE);
    thread->held = 0;
    if (copy != NULL) memcpy(copy, s, size);
    return gci_api_leave_with(thread, copy);
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

void gci_entry_free(void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (p == NULL) return;
    if (gci_self == NULL) {
        object_at(the_heap(), p, "gc_free");
        if (default_heap->options.attach != GC_ATTACH_AUTO)
            gci_fatal("gc_free(%p): called by a thread that the heap does not know", p);
    }
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) gci_fatal("gc_free(%p): this thread can't be attached", p);
    uintptr_t before = thread->subject; /* of a gc_realloc() whose handler calls this */
    thread->subject = (uintptr_t)p;     /* perhaps the only reference to it */
    gci_deallocate(thread, object_at(thread->heap, p, "gc_free"));
    thread->subject = before;
    gci_leave(&thread->mutator);
}

static void *move(struct gci_thread *thread, void *p, gci_object object, size_t size) {
    struct gc_heap *heap = thread->heap;
    size_t old = gci_object_bytes(heap, object);
    enum gci_kind kind = gci_tag_kind(gci_tag(&heap->arena, gci_block_of(object.granule)));
    void *q = gci_allocate(thread, kind, size, GC_GRANULE);
    if (q == NULL) return NULL;
    if (kind == GCI_TYPED) gci_type_set(heap, q, size, gci_type_recorded(heap, object.granule));
    uint8_t *side = heap->arena.side;
    if (kind == GCI_LEAF && side[object.granule] & GCI_SIDE_PINNED) /* perhaps by its type */
        side[gci_address_granule(&heap->arena, (uintptr_t)q)] |= GCI_SIDE_PINNED;
    memcpy(q, p, old < size ? old : size);
    thread->held = (uintptr_t)q; /* freeing P may wait for a collection */
    if (heap->arena.side[object.granule] & GCI_SIDE_KEYED) {
        size_t to = gci_address_granule(&heap->arena, (uintptr_t)q);
        gci_heap_lock(heap);
        gci_keyed_moved(heap, object.granule, to, gci_object_bytes(heap, (gci_object){to}));
        gci_heap_unlock(heap);
    }
    gci_deallocate(thread, object);
    return q;
}

/* The object has another size now, where it is. */
static void resized(struct gc_heap *heap, gci_object object, const struct gci_type *type) {
    size_t bytes = gci_object_bytes(heap, object);
    if (type != NULL) /* of one granule or more, it is written differently */
        gci_type_set(heap, (void *)gci_granule_address(&heap->arena, object.granule), bytes, type);
    if (!(heap->arena.side[object.granule] & GCI_SIDE_KEYED)) return;
    gci_heap_lock(heap);
    gci_keyed_cut(heap, object.granule, bytes);
    gci_heap_unlock(heap);
}

void *gci_entry_realloc(void *p, size_t size, size_t c, const struct gci_frame *frame) {
    (void)c;
    if (p == NULL) return allocate(frame, GCI_AMBIGUOUS, size, GC_GRANULE);
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    gci_object object = object_at(thread->heap, p, "gc_realloc");
    enum gci_kind kind = gci_tag_kind(gci_tag(&thread->heap->arena, gci_block_of(object.granule)));
    const struct gci_type *type =
        kind == GCI_TYPED ? gci_type_recorded(thread->heap, object.granule) : NULL;
    if (type != NULL && size > 0 && size < type->size) size = type->size; /* at least one */
    thread->subject = (uintptr_t)p; /* the caller's copy may be gone already */
    if (size == 0) {
        gci_deallocate(thread, object);
        p = NULL;
    } else if (size > PTRDIFF_MAX || !gci_resize(thread, object, size)) {
        p = move(thread, p, object, size);
    } else {
        resized(thread->heap, object, type);
    }
    thread->subject = 0;
    return gci_api_leave_with(thread, p);
}

/* ---- Asking --------------------------------------------------------------------------------- */

size_t gc_size(const void *p) {
    const struct gc_heap *heap = the_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object) ||
        gci_granule_address(&heap->arena, object.granule) != (uintptr_t)p)
        return 0;
    size_t bytes = gci_object_bytes(heap, object);
    __asm__ volatile("" : : "r"(p)); /* it holds the object until then */
    return bytes;
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
    if (kind != GC_MINOR && kind != GC_FULL && kind != GC_COMPACT) return EINVAL;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return ENOMEM;
    bool done = gci_collect(thread, kind, "the program asked", GCI_ALWAYS);
    return gci_api_leave(thread, done ? 0 : EBUSY);
}

/* For functions that change settings, by any thread, attached or not. */
static struct gc_heap *heap_or_abort(void) {
    if (gci_need_heap(__builtin_frame_address(0)) != 0) gci_fatal("there is no memory for a heap");
    return default_heap;
}

/* With the lock, so that no collection that found itself allowed begins when this has returned. */
void gci_entry_disable(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(default_heap);
    __atomic_fetch_add(&default_heap->disabled, 1, __ATOMIC_RELAXED);
    gci_heap_unlock(default_heap);
    gci_api_leave_if_attached(thread, 0);
}

void gc_enable(void) {
    struct gc_heap *heap = heap_or_abort();
    uint32_t count = __atomic_load_n(&heap->disabled, __ATOMIC_RELAXED);
    do {
        if (count == 0) gci_fatal("gc_enable(): called more often than gc_disable()");
    } while (!__atomic_compare_exchange_n(
        &heap->disabled, &count, count - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void gc_account_external(ptrdiff_t bytes) {
    int64_t *external = &heap_or_abort()->policy.external;
    int64_t before = __atomic_load_n(external, __ATOMIC_RELAXED), after;
    do {
        if (__builtin_add_overflow(before, bytes, &after)) after = bytes > 0 ? INT64_MAX : 0;
        if (after < 0) after = 0;
    } while (!__atomic_compare_exchange_n(
        external, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

int gci_entry_add_root(const void *start, size_t bytes, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    return gci_api_leave_if_attached(thread, gci_heap_add_root(default_heap, start, bytes, false));
}

int gci_entry_remove_root(
    const void *start, size_t bytes, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    return gci_api_leave_if_attached(
        thread, gci_heap_remove_root(default_heap, start, bytes, false));
}

static int set_pin(const void *p, bool pinned) {
    struct gc_heap *heap = the_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object)) return EINVAL;
    uint8_t *side = &heap->arena.side[object.granule];
    if (pinned) /* at once: a collection in between may mark the object */
        __atomic_fetch_or(side, GCI_SIDE_PINNED, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(side, (uint8_t)~GCI_SIDE_PINNED, __ATOMIC_RELAXED);
    return 0;
}

int gci_entry_pin(const void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_self != NULL ? gci_api_enter(frame) : NULL;
    return gci_api_leave_if_attached(thread, set_pin(p, true));
}

int gci_entry_unpin(const void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_self != NULL ? gci_api_enter(frame) : NULL;
    return gci_api_leave_if_attached(thread, set_pin(p, false));
}

void gc_prepare_write(void *p, size_t n) {
    struct gc_heap *heap = the_heap();
    if (heap != NULL && n > 0) gci_barrier_prepare(heap->barrier, (uintptr_t)p, n);
}

void gci_entry_set_oom_handler(
    gc_oom_handler handler, void *data, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(default_heap);
    default_heap->oom_handler = handler;
    default_heap->oom_data = data;
    gci_heap_unlock(default_heap);
    gci_api_leave_if_attached(thread, 0);
}

/* ---- Threads -------------------------------------------------------------------------------- */

int gci_entry_attach(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    bool first = the_heap() == NULL;
    int error = gci_need_heap(frame);
    if (error != 0 || (first && gci_self != NULL)) return error;
    return gci_thread_attach(default_heap, frame);
}

int gc_thread_detach(void) {
    return gci_thread_detach();
}

void gci_entry_safepoint(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gci_thread *thread = gci_thread_self();
    if (thread == NULL || thread->mutator.blocking > 0) return;
    gci_enter(&thread->mutator, frame);
    gci_leave(&thread->mutator);
}

/* What the caller has in registers is copied, as the frame is gone when this returns. */
void gci_entry_blocking(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gci_thread *thread = gci_thread_self();
    if (thread == NULL) return;
    struct gci_mutator *m = &thread->mutator;
    if (m->blocking > 0) {
        __atomic_store_n(&m->blocking, m->blocking + 1, __ATOMIC_RELAXED);
        return;
    }
    gci_enter(m, frame);
    gci_copy_registers(m, m->registers, frame);
    uintptr_t above = (uintptr_t)frame + sizeof m->registers;
    gci_code_keep_frames(thread, frame);
    m->scan_from = above < m->stack.high || m->stack.low > above ? above : (uintptr_t)frame;
    m->blocking = 1;
    gci_block(m);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    m->inside = false;
}

void gc_blocking_end(void) {
    struct gci_thread *thread = gci_thread_self();
    if (thread == NULL) return;
    struct gci_mutator *m = &thread->mutator;
    if (m->blocking == 0)
        gci_fatal("gc_blocking_end(): called more often than gc_blocking_begin()");
    if (m->blocking > 1) {
        __atomic_store_n(&m->blocking, m->blocking - 1, __ATOMIC_RELAXED);
        return;
    }
    gci_fork_notice(thread->heap);
    gci_unblock(m);
    gci_code_drop_frames(thread);
    __atomic_store_n(&m->blocking, 0, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

gc_stack *gci_entry_stack_register(
    void *low, size_t bytes, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    int error;
    gci_heap_lock(default_heap);
    gc_stack *stack = gci_stack_add(&default_heap->world, (uintptr_t)low, bytes, &error);
    gci_heap_unlock(default_heap);
    gci_api_leave_if_attached(thread, 0);
    if (stack == NULL) errno = error;
    return stack;
}

int gci_entry_stack_unregister(gc_stack *stack, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(default_heap);
    int error = gci_stack_remove(&default_heap->world, gci_self, stack, frame);
    gci_heap_unlock(default_heap);
    return gci_api_leave_if_attached(thread, error);
}

void gci_entry_stack_switch(gc_stack *stack, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (gci_self == NULL) return;
    struct gci_thread *thread = gci_api_enter(frame);
    if (gci_stacks_are_precise(thread->heap) && thread->heap->code_count > 0)
        gci_fatal(
            "gc_stack_switch(): code with stack maps can't be left on a stack of its own with "
            "precise stack_scan");
    gci_stack_leave(&thread->mutator, stack, frame);
    gci_leave(&thread->mutator);
}

int gci_stop_signal(void) {
    const struct gc_heap *heap = the_heap();
    return heap == NULL ? 0 : heap->world.signal;
}

/* ---- Seeing --------------------------------------------------------------------------------- */

static void fill_stats(gc_stats *stats, struct gc_heap *heap) {
    gci_heap_lock(heap);
    gci_stats_fill(heap, stats);
    gci_heap_unlock(heap);
}

int gci_entry_stats(gc_stats *stats, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    uint32_t size = stats->size;
    if (size < sizeof *stats) return EINVAL;
    struct gc_heap *heap = the_heap();
    memset(stats, 0, size); /* fields of a later version stay so */
    if (heap != NULL) {
        struct gci_thread *thread = gci_self != NULL ? gci_api_enter(frame) : NULL;
        fill_stats(stats, heap);
        gci_api_leave_if_attached(thread, 0);
    }
    stats->size = size;
    return 0;
}

static void verify_stopped(struct gc_heap *heap, void *context) {
    *(size_t *)context = gci_verify_heap(heap);
}

size_t gci_entry_verify(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    size_t broken = 0;
    if (the_heap() == NULL) return 0;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL || gci_with_world_stopped(thread, verify_stopped, &broken) != 0)
        gci_fatal("gc_verify(): there is no memory for it");
    gci_leave(&thread->mutator);
    return broken;
}

int gci_entry_explain(const void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    const struct gc_heap *heap = the_heap();
    if (heap == NULL || (uintptr_t)p - heap->arena.base >= gci_arena_used_bytes(&heap->arena))
        return EINVAL;
    struct gci_thread *thread = gci_api_enter(frame);
    return thread == NULL ? errno : gci_explain(thread, (uintptr_t)p);
}
