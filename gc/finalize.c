/* Finalizers and guardians: the public functions, and who runs finalizers when.  What is ready is
 * found by gc/liveness.c and stands in queues (gc/watch.h); here it is taken out.  Owns the thread
 * that CAIRN_FINALIZERS=thread starts.  No lock is held while anything of the program's is called
 * (docs/finalization.md, rules 10 to 14). */
#define _GNU_SOURCE
#include "gc/finalize.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "gc/api.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/pthreads.h"
#include "gc/thread.h"
#include "gc/watch.h"
#include "runtime/log.h"

#define ROUNDS 8u /* of gc_finalize_all() */

int gci_entry_finalizer(
    void *p, const gc_finalizer *fresh, gc_finalizer *old, const struct gci_frame *frame);
size_t gci_entry_run_finalizers(size_t a, size_t b, size_t c, const struct gci_frame *frame);
size_t gci_entry_finalize_all(size_t a, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_set_notify(
    gc_finalizer_notify *notify, void *data, size_t c, const struct gci_frame *frame);
gc_guardian *gci_entry_guardian_new(
    enum gc_order order, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_guardian_add(gc_guardian *guardian, void *p, size_t c, const struct gci_frame *frame);
void *gci_entry_guardian_next(
    gc_guardian *guardian, size_t b, size_t c, const struct gci_frame *frame);
void gci_entry_guardian_free(
    gc_guardian *guardian, size_t b, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_finalizer_exchange, gci_entry_finalizer);
GCI_ENTRY(gc_run_finalizers, gci_entry_run_finalizers);
GCI_ENTRY(gc_finalize_all, gci_entry_finalize_all);
GCI_ENTRY(gc_set_finalizer_notify, gci_entry_set_notify);
GCI_ENTRY(gc_guardian_new, gci_entry_guardian_new);
GCI_ENTRY(gc_guardian_add, gci_entry_guardian_add);
GCI_ENTRY(gc_guardian_next, gci_entry_guardian_next);
GCI_ENTRY(gc_guardian_free, gci_entry_guardian_free);

/* ---- Entering ------------------------------------------------------------------------------- */

bool gci_watch_target(
    const char *function, const struct gc_heap *heap, const void *p, gci_object *object) {
    uintptr_t address = (uintptr_t)p;
    if (address - heap->arena.base >= gci_arena_used_bytes(&heap->arena)) {
        gci_log("%s(%p): not an address in the heap", function, p);
        return false;
    }
    if (!gci_find(heap, address, object)) {
        gci_log("%s(%p): no object there: freed already, or never allocated", function, p);
        return false;
    }
    uintptr_t start = gci_granule_address(&heap->arena, object->granule);
    if (start == address) return true;
    gci_log("%s(%p): points %zu bytes into the object of %zu bytes at %p: give its start", function,
        p, (size_t)(address - start), gci_object_bytes(heap, *object), (void *)start);
    return false;
}

struct gci_thread *gci_watch_enter(
    const struct gci_frame *frame, const void *p, const void *q, struct gc_heap **heap) {
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    *heap = gci_default_heap();
    if (thread != NULL) {
        thread->held = (uintptr_t)p;
        thread->watched = (uintptr_t)q;
    }
    gci_heap_lock(*heap);
    return thread;
}

int gci_watch_exit(struct gci_thread *thread, struct gc_heap *heap, int result) {
    gci_heap_unlock(heap);
    if (thread != NULL) thread->held = thread->watched = 0;
    return gci_api_leave_if_attached(thread, result);
}

/* ---- Registering ---------------------------------------------------------------------------- */

static struct gci_watch *finalizer_of(const struct gci_watched *record) {
    struct gci_watch *watch = record != NULL ? record->watches : NULL;
    while (watch != NULL && (watch->kind != GCI_WATCH_FINALIZER || watch->ready))
        watch = watch->next;
    return watch;
}

/* WATCH, a claim of RECORD, ends. */
static void end_claim(struct gci_watches *w, struct gci_watched *record, struct gci_watch *watch) {
    gci_watch_leave(w, watch);
    gci_watch_give(w, watch);
    gci_watched_drop_if_empty(w, record);
}

/* A claim of KIND on the object of RECORD, which may be NULL, at P; NULL without memory. */
static struct gci_watch *claim(struct gc_heap *heap, struct gci_watched *record, void *p,
    gci_object object, enum gci_watch_kind kind) {
    if (record == NULL) record = gci_watched_add(heap, (uintptr_t)p, &object);
    if (record == NULL) return NULL;
    struct gci_watch *watch = gci_watch_new(heap->watches, kind);
    if (watch != NULL)
        gci_watch_join(record, watch);
    else
        gci_watched_drop_if_empty(heap->watches, record);
    return watch;
}

/* HAD: the finalizer that the object of RECORD has, or NULL. */
static int set_finalizer(struct gc_heap *heap, struct gci_watched *record, void *p,
    gci_object object, struct gci_watch *had, const gc_finalizer *fresh) {
    struct gci_watch *watch = had;
    if (watch == NULL) watch = claim(heap, record, p, object, GCI_WATCH_FINALIZER);
    if (watch == NULL) return ENOMEM;
    struct gci_watch before = *watch;
    watch->finalizer.function = fresh->function;
    watch->finalizer.data = fresh->data;
    watch->order = (uint8_t)fresh->order;
    watch->told = false;
    if (gci_watches_note_data(heap, watch)) return 0;
    if (had != NULL)
        *watch = before;
    else
        end_claim(heap->watches, gci_watched_find(heap->watches, (uintptr_t)p), watch);
    return ENOMEM;
}

static int exchange(struct gc_heap *heap, void *p, const gc_finalizer *fresh, gc_finalizer *old) {
    gci_object object;
    bool none = fresh == NULL || fresh->function == NULL;
    if (!none && fresh->order > GC_UNREACHABLE) {
        gci_log("gc_finalizer_set(): no order has the number %u: GC_ORDERED (0) to "
                "GC_UNREACHABLE (3) are accepted",
            fresh->order);
        return EINVAL;
    }
    if (!gci_watch_target("gc_finalizer_set", heap, p, &object)) return EINVAL;
    struct gci_watches *w = gci_watches_of(heap);
    if (w == NULL) return ENOMEM;
    struct gci_watched *record = gci_watched_find(w, (uintptr_t)p);
    struct gci_watch *had = finalizer_of(record);
    gc_finalizer was = {NULL, NULL, 0};
    if (had != NULL) was = (gc_finalizer){had->finalizer.function, had->finalizer.data, had->order};
    int error = 0;
    if (!none)
        error = set_finalizer(heap, record, p, object, had, fresh);
    else if (had != NULL)
        end_claim(w, record, had);
    if (error == 0 && old != NULL) *old = was;
    return error;
}

int gci_entry_finalizer(
    void *p, const gc_finalizer *fresh, gc_finalizer *old, const struct gci_frame *frame) {
    struct gc_heap *heap;
    struct gci_thread *thread =
        gci_watch_enter(frame, p, fresh != NULL ? fresh->data : NULL, &heap);
    int error = exchange(heap, p, fresh, old);
    gci_heap_unlock(heap);
    if (thread == NULL) return error;
    /* What only the one before held is held until the caller has it. */
    if (error == 0 && old != NULL) thread->watched = (uintptr_t)old->data;
    gci_leave(&thread->mutator);
    thread->held = thread->watched = 0;
    return error;
}

/* ---- Running -------------------------------------------------------------------------------- */

/* Takes a finalizer that is ready; false if there is none. */
static bool take_ready(struct gc_heap *heap, uintptr_t *object, gc_finalizer *finalizer) {
    struct gci_watches *w = heap->watches;
    struct gci_watch *watch;
    while (w != NULL && (watch = gci_ready_pop(&w->ready)) != NULL) {
        if (w->ready.first != NULL) gci_watched_fetch(w, w->ready.first->object);
        *object = watch->object;
        *finalizer = (gc_finalizer){watch->finalizer.function, watch->finalizer.data, watch->order};
        if (*object != 0) {
            struct gci_watched *record = gci_watched_find(w, *object);
            gci_watch_leave(w, watch);
            gci_watched_drop_if_empty(w, record);
            gci_count_waiting(w, -1);
            w->run++;
        }
        gci_watch_give(w, watch);
        if (*object != 0) return true;
    }
    return false;
}

/* Runs one.  Nothing of the library's is on the stack that it couldn't leave by longjmp(). */
static bool run_one(const struct gci_frame *frame) {
    uintptr_t object = 0;
    gc_finalizer finalizer;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return false;
    struct gc_heap *heap = thread->heap;
    gci_heap_lock(heap);
    bool found = take_ready(heap, &object, &finalizer);
    thread->held = object;
    if (found) thread->watched = (uintptr_t)finalizer.data;
    gci_heap_unlock(heap);
    gci_leave(&thread->mutator);
    thread->held = thread->watched = 0;
    if (found) finalizer.function((void *)object, finalizer.data);
    return found;
}

size_t gc_finalizers_ready(void) {
    const struct gc_heap *heap = gci_default_heap();
    const struct gci_watches *w =
        heap != NULL ? __atomic_load_n(&heap->watches, __ATOMIC_ACQUIRE) : NULL;
    return w != NULL ? __atomic_load_n(&w->waiting, __ATOMIC_RELAXED) : 0;
}

size_t gci_entry_run_finalizers(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    size_t most = gc_finalizers_ready(), count = 0;
    while (count < most && run_one(frame)) count++;
    return count;
}

static void make_all_ready(struct gci_watches *w) {
    for (size_t i = w->all_count; i-- > 0;) {
        struct gci_watch *watch = finalizer_of(w->all[i]);
        if (watch != NULL) gci_watch_make_ready(w, watch);
    }
}

size_t gci_entry_finalize_all(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    size_t count = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct gc_heap *heap;
        struct gci_thread *thread = gci_watch_enter(frame, NULL, NULL, &heap);
        if (heap->watches != NULL) {
            make_all_ready(heap->watches);
            heap->watches->ready_young = true;
        }
        gci_watch_exit(thread, heap, 0);
        if (gc_finalizers_ready() == 0) break;
        while (run_one(frame)) count++;
    }
    return count;
}

void gci_entry_set_notify(
    gc_finalizer_notify *notify, void *data, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gc_heap *heap;
    struct gci_thread *thread = gci_watch_enter(frame, NULL, NULL, &heap);
    struct gci_watches *w = gci_watches_of(heap);
    if (w == NULL) gci_fatal("gc_set_finalizer_notify(): there is no memory for it");
    w->notify = notify;
    w->notify_data = data;
    gci_watch_exit(thread, heap, 0);
}

/* ---- The library's own thread --------------------------------------------------------------- */

static __thread bool is_runner __attribute__((tls_model("initial-exec")));

/* Also when a finalizer ends the thread: the next collection that finds something starts another. */
static void end_runner(void *context) {
    struct gci_watches *w = context;
    __atomic_store_n(&w->runner, 0, __ATOMIC_RELEASE);
}

static void *run_always(void *argument) {
    struct gci_watches *w = argument;
    is_runner = true;
    pthread_setname_np(pthread_self(), "cairn-finalize");
    pthread_cleanup_push(end_runner, w);
    if (gc_thread_attach() == 0) {
        for (;;) {
            uint32_t seen = __atomic_load_n(&w->wake, __ATOMIC_ACQUIRE);
            if (gc_run_finalizers() > 0) continue;
            gc_blocking_begin();
            gci_futex_wait(&w->wake, seen, GCI_FOREVER);
            gc_blocking_end();
        }
    }
    pthread_cleanup_pop(1);
    return NULL;
}

/* Signals are the program's threads' business. */
static void start_runner(struct gci_watches *w) {
    uint32_t none = 0;
    if (!__atomic_compare_exchange_n(
            &w->runner, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error == 0) {
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = gci_real_pthread_create(&thread, &attributes, run_always, w);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (error != 0) end_runner(w); /* the next collection tries again */
}

void gci_finalizers_after_fork(struct gc_heap *heap) {
    if (heap->watches != NULL) heap->watches->runner = is_runner;
}

/* ---- After a collection --------------------------------------------------------------------- */

static void announce(struct gc_heap *heap, bool found) {
    struct gci_watches *w = heap->watches;
    if (heap->options.finalizers == GC_FINALIZERS_THREAD) {
        start_runner(w);
        __atomic_fetch_add(&w->wake, 1, __ATOMIC_RELEASE);
        gci_futex_wake(&w->wake, 1);
    }
    if (heap->options.finalizers == GC_FINALIZERS_INLINE) gc_run_finalizers();
    if (!found) return;
    gci_heap_lock(heap);
    gc_finalizer_notify *notify = w->notify;
    void *data = w->notify_data;
    gci_heap_unlock(heap);
    if (notify != NULL) notify(data);
}

void gci_finalizers_announce(struct gci_thread *thread) {
    struct gc_heap *heap = thread->heap;
    struct gci_watches *w = __atomic_load_n(&heap->watches, __ATOMIC_ACQUIRE);
    if (w == NULL || thread->announcing) return;
    bool lacks_runner = heap->options.finalizers == GC_FINALIZERS_THREAD &&
                        gc_finalizers_ready() > 0 &&
                        __atomic_load_n(&w->runner, __ATOMIC_RELAXED) == 0;
    bool found = __atomic_exchange_n(&w->now_ready, 0, __ATOMIC_RELAXED) != 0;
    if (!found && !lacks_runner) return;
    int saved_errno = errno;
    uintptr_t frame = thread->mutator.scan_from;
    thread->announcing = true;
    thread->aside[0] = thread->held;
    thread->aside[1] = thread->subject;
    gci_leave(&thread->mutator);
    announce(heap, found);
    gci_enter(&thread->mutator, (const void *)frame);
    thread->held = thread->aside[0];
    thread->subject = thread->aside[1];
    thread->aside[0] = thread->aside[1] = 0;
    thread->announcing = false;
    errno = saved_errno;
}

/* ---- Guardians ------------------------------------------------------------------------------ */

gc_guardian *gci_entry_guardian_new(
    enum gc_order order, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if ((unsigned)order > GC_UNREACHABLE) {
        gci_log("gc_guardian_new(): no order has the number %u: GC_ORDERED (0) to GC_UNREACHABLE "
                "(3) are accepted",
            (unsigned)order);
        errno = EINVAL;
        return NULL;
    }
    struct gc_heap *heap;
    struct gci_thread *thread = gci_watch_enter(frame, NULL, NULL, &heap);
    struct gci_watches *w = gci_watches_of(heap);
    gc_guardian *guardian = w != NULL ? gci_guardian_new(w, order) : NULL;
    gci_watch_exit(thread, heap, 0);
    if (guardian == NULL) errno = ENOMEM;
    return guardian;
}

int gci_entry_guardian_add(
    gc_guardian *guardian, void *p, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gc_heap *heap;
    gci_object object;
    struct gci_thread *thread = gci_watch_enter(frame, p, NULL, &heap);
    int error = EINVAL;
    if (gci_watch_target("gc_guardian_add", heap, p, &object)) {
        struct gci_watched *record = gci_watched_find(heap->watches, (uintptr_t)p);
        struct gci_watch *watch = claim(heap, record, p, object, GCI_WATCH_GUARDED);
        error = watch == NULL ? ENOMEM : 0;
        if (watch != NULL) {
            watch->guarded.guardian = guardian;
            watch->order = guardian->order;
            guardian->count++;
        }
    }
    return gci_watch_exit(thread, heap, error);
}

static uintptr_t take_guarded(struct gci_watches *w, gc_guardian *guardian) {
    struct gci_watch *watch;
    uintptr_t object = 0;
    while (object == 0 && (watch = gci_ready_pop(&guardian->ready)) != NULL) {
        object = watch->object;
        if (object != 0) {
            struct gci_watched *record = gci_watched_find(w, object);
            gci_watch_leave(w, watch);
            gci_watched_drop_if_empty(w, record);
        }
        gci_watch_give(w, watch);
        gci_guardian_let_go(w, guardian);
    }
    return object;
}

void *gci_entry_guardian_next(
    gc_guardian *guardian, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return NULL;
    gci_heap_lock(thread->heap);
    uintptr_t object = take_guarded(thread->heap->watches, guardian);
    thread->held = object;
    gci_heap_unlock(thread->heap);
    return gci_api_leave_with(thread, (void *)object);
}

void gci_entry_guardian_free(
    gc_guardian *guardian, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (guardian == NULL) return;
    struct gc_heap *heap;
    struct gci_thread *thread = gci_watch_enter(frame, NULL, NULL, &heap);
    guardian->count++; /* until here it stays */
    while (take_guarded(heap->watches, guardian) != 0) continue;
    gci_guardian_free(heap->watches, guardian);
    gci_guardian_let_go(heap->watches, guardian);
    gci_watch_exit(thread, heap, 0);
}
