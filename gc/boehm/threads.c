/* Threads, as Boehm's interface has them, by Cairn's own calls (docs/boehm.md, "Threads"). */
#define _GNU_SOURCE
#include "gc/boehm/layer.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "gc/api.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/roots.h"

/* ---- Known and unknown ---------------------------------------------------------------------- */

EXPORT void GC_allow_register_threads(void) {
    gcb_need_heap();
}

EXPORT int GC_register_my_thread(const struct GC_stack_base *base) {
    (void)base; /* the C library knows the stack */
    gcb_need_heap();
    int error = gc_thread_attach();
    if (error == ENOMEM) gci_fatal("GC_register_my_thread(): there is no memory for it");
    if (error == EALREADY) return GC_DUPLICATE;
    if (error != 0) GCB_CANNOT("the thread is past its end: nothing that it holds is found");
    return error == 0 ? GC_SUCCESS : GC_UNIMPLEMENTED;
}

EXPORT int GC_unregister_my_thread(void) {
    gc_thread_detach();
    return GC_SUCCESS;
}

EXPORT int GC_thread_is_registered(void) {
    return gci_self != NULL;
}

/* The kernel knows it when a signal stops a handler there, but not when that calls the library. */
EXPORT void GC_register_altstack(
    void *stack, GC_word stack_size, void *altstack, GC_word altstack_size) {
    (void)stack, (void)stack_size; /* the C library knows it */
    gcb_need_heap();
    gc_thread_attach();
    struct gci_thread *thread = gci_thread_self();
    if (thread == NULL) return;
    thread->mutator.alternate.low = (uintptr_t)altstack;
    thread->mutator.alternate.high = (uintptr_t)altstack + altstack_size;
}

EXPORT void GC_start_mark_threads(void) {
    /* They start when there is something to mark, in a fork's child too. */
}

/* ---- Stacks --------------------------------------------------------------------------------- */

EXPORT void *GC_call_with_stack_base(GC_stack_base_func function, void *data) {
    struct GC_stack_base base = {__builtin_frame_address(0)};
    void *result = function(&base, data);
    __asm__ volatile("" : : "r"(&base) : "memory"); /* not a tail call: BASE is in this frame */
    return result;
}

EXPORT int GC_get_stack_base(struct GC_stack_base *base) {
    const uintptr_t *end = gci_stack_base(NULL);
    if (end == NULL) return GC_UNIMPLEMENTED;
    base->mem_base = (void *)(uintptr_t)end;
    return GC_SUCCESS;
}

static uintptr_t bottom_of(const struct gci_mutator *mutator) {
    return mutator->bottom != 0 ? mutator->bottom : mutator->stack.high;
}

EXPORT void *GC_get_my_stackbottom(struct GC_stack_base *base) {
    gcb_need_heap();
    struct gci_thread *thread = gci_thread_self();
    if (thread == NULL) {
        GC_get_stack_base(base);
        return NULL;
    }
    base->mem_base = (void *)bottom_of(&thread->mutator);
    return &thread->mutator;
}

static struct gci_mutator *first_thread(const struct gc_heap *heap) {
    struct gci_mutator *m = heap->world.first;
    while (m != NULL && m->tid != getpid()) m = m->next;
    return m;
}

static GCI_GLOBAL uintptr_t seen_bottom;

/* Only a change counts: at first it is what the C library says. */
void gcb_note_stack_bottom(struct gc_heap *heap) {
    uintptr_t now = (uintptr_t)__atomic_load_n(&GC_stackbottom, __ATOMIC_RELAXED);
    struct gci_mutator *m = first_thread(heap);
    if (now == seen_bottom || m == NULL) return;
    bool first = seen_bottom == 0 && now == m->stack.high;
    seen_bottom = now;
    if (!first) m->bottom = now == m->stack.high ? 0 : now;
}

EXPORT void GC_set_stackbottom(void *handle, const struct GC_stack_base *base) {
    struct gci_mutator *mutator = handle != NULL ? handle : gci_self;
    uintptr_t bottom = (uintptr_t)base->mem_base;
    if (mutator == NULL || mutator->tid == getpid()) GC_stackbottom = base->mem_base;
    if (mutator == NULL) return; /* before GC_init() */
    if (mutator->tid == getpid()) seen_bottom = bottom;
    mutator->bottom = bottom == mutator->stack.high ? 0 : bottom;
}

/* ---- Blocking ------------------------------------------------------------------------------- */

/* The thread may have attached itself meanwhile, or left the heap and come back. */
EXPORT void *GC_do_blocking(GC_fn_type function, void *data) {
    gcb_need_heap();
    gc_blocking_begin();
    void *result = function(data);
    const struct gci_thread *thread = gci_thread_self();
    if (thread != NULL && thread->mutator.blocking > 0) gc_blocking_end();
    return result;
}

/* Out of all the blocking calls that the thread is in, and into as many again.  Blocking again, the
 * thread may return to functions that restore registers as they were at the first call, so what
 * that saved counts again: it isn't what the registers hold here. */
EXPORT void *GC_call_with_gc_active(GC_fn_type function, void *data) {
    gcb_need_heap();
    struct gci_thread *thread = gci_thread_self();
    uint32_t depth = thread != NULL ? thread->mutator.blocking : 0;
    uintptr_t registers[GCI_FRAME_WORDS];
    if (depth == 0) return function(data);
    memcpy(registers, thread->mutator.registers, sizeof registers);
    for (uint32_t i = 0; i < depth; i++) gc_blocking_end();
    void *result = function(data);
    thread = gci_thread_self();
    if (thread == NULL) return result; /* it has left the heap meanwhile */
    for (uint32_t i = 0; i < depth; i++) gc_blocking_begin();
    memcpy(thread->mutator.registers, registers, sizeof registers);
    return result;
}

/* ---- The lock ------------------------------------------------------------------------------- */

EXPORT void GC_alloc_lock(void) {
    gcb_lock();
}

EXPORT void GC_alloc_unlock(void) {
    gcb_unlock();
}

EXPORT void *GC_call_with_alloc_lock(GC_fn_type function, void *data) {
    gcb_lock();
    void *result = function(data);
    gcb_unlock();
    return result;
}

EXPORT void GC_stop_world_external(void) {
    gcb_lock();
    gci_threads_stop(gci_default_heap(), gci_thread_self());
}

EXPORT void GC_start_world_external(void) {
    gci_threads_start(gci_default_heap(), gci_thread_self());
    gcb_unlock();
}

/* ---- Suspending a thread -------------------------------------------------------------------- */

/* Its name is its thread pointer: so it is in glibc on x86-64 (docs/boehm.md, rule 42). */
EXPORT void GC_suspend_thread(GC_SUSPEND_THREAD_ID thread) {
    struct gci_mutator *self = gci_self;
    gcb_need_heap();
    if (self != NULL && self->thread_pointer == (uintptr_t)thread) {
        __atomic_store_n(&self->suspended, 1, __ATOMIC_RELEASE);
        gc_blocking_begin();
        gc_blocking_end();
        return;
    }
    uint64_t signals = gci_signals_block();
    GC_stop_world_external();
    gci_mutator_suspend(&gci_default_heap()->world, (uintptr_t)thread);
    GC_start_world_external();
    gci_signals_restore(signals);
}

EXPORT void GC_resume_thread(GC_SUSPEND_THREAD_ID thread) {
    gcb_lock();
    gci_mutator_resume(&gci_default_heap()->world, (uintptr_t)thread);
    gcb_unlock();
}

EXPORT int GC_is_thread_suspended(GC_SUSPEND_THREAD_ID thread) {
    gcb_lock();
    bool is = gci_mutator_is_suspended(&gci_default_heap()->world, (uintptr_t)thread);
    gcb_unlock();
    return is;
}

/* ---- What stands in for the C library's ----------------------------------------------------- */

EXPORT int GC_pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
EXPORT int GC_pthread_join(pthread_t thread, void **result);
EXPORT int GC_pthread_detach(pthread_t thread);
EXPORT int GC_pthread_cancel(pthread_t thread);
EXPORT void GC_pthread_exit(void *result) __attribute__((noreturn));
EXPORT int GC_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
EXPORT void *GC_dlopen(const char *path, int mode);

EXPORT int GC_pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    gcb_need_heap();
    return gc_pthread_create(thread, attributes, start, argument);
}

EXPORT int GC_pthread_join(pthread_t thread, void **result) {
    return gc_pthread_join(thread, result);
}

EXPORT int GC_pthread_detach(pthread_t thread) {
    return gc_pthread_detach(thread);
}

EXPORT int GC_pthread_cancel(pthread_t thread) {
    return pthread_cancel(thread);
}

EXPORT void GC_pthread_exit(void *result) {
    gc_pthread_exit(result);
}

EXPORT int GC_pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    return gc_pthread_sigmask(how, set, old);
}

EXPORT void *GC_dlopen(const char *path, int mode) {
    return dlopen(path, mode); /* a collection reads the list of loaded objects itself */
}

/* ---- fork() --------------------------------------------------------------------------------- */

/* Any thread may fork at any time: gc/fork.c. */
EXPORT void GC_set_handle_fork(int mode) {
    (void)mode;
}

EXPORT void GC_atfork_prepare(void) {}

EXPORT void GC_atfork_parent(void) {}

EXPORT void GC_atfork_child(void) {}
