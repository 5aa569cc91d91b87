/* fork(): the child has one thread, the one that forked, and a copy of the heap in which all others
 * stood still at some instruction.  The handlers see to it that none of these was changing what
 * threads share (docs/threads.md, rules 12 to 14).  Owns the process's list of heaps that fork, of
 * which there is one. */
#include "gc/fork.h"

#include <pthread.h>
#include <sched.h>

#include "gc/block.h"
#include "gc/code.h"
#include "gc/crew.h"
#include "gc/event.h"
#include "gc/finalize.h"
#include "gc/pthreads.h"
#include "gc/thread.h"
#include "runtime/globals.h"
#include "runtime/log.h"

#define PATIENCE_NS UINT64_C(10000000) /* a step of waiting for a thread that goes to collect */
#define PATIENCE    100u               /* steps, then it is taken that it never arrives */

static GCI_GLOBAL struct gc_heap *forking_heap; /* set once, when it is opened */

/* Waits until no thread is between the loader's lock and ours: in the child it would hold the
 * loader's for ever.  A thread that forks from inside a callback of dl_iterate_phdr() holds that
 * lock itself and would wait in vain: hence the limit, which begins anew with each collection.
 * False: it is reached. */
static bool wait_for_entering(const struct gc_heap *heap) {
    const struct gci_world *world = &heap->world;
    uint64_t collections = 0;
    for (unsigned i = 0; i < PATIENCE; i++) {
        uint32_t entering = __atomic_load_n(&world->entering, __ATOMIC_SEQ_CST);
        if (entering == 0) return true;
        uint64_t now = __atomic_load_n(&heap->collections, __ATOMIC_RELAXED);
        if (now != collections || __atomic_load_n(&world->stopped, __ATOMIC_RELAXED)) i = 0;
        collections = now;
        gci_futex_wait(&world->entering, entering, PATIENCE_NS);
    }
    return false;
}

/* Not stopped from here to after_fork(): inside the library, and with the lock. */
static void before_fork(void) {
    struct gc_heap *heap = forking_heap;
    struct gci_world *world = &heap->world;
    struct gci_mutator *self = gci_self;
    volatile uintptr_t lowest = 0; /* below the registers that this function saves */
    __builtin_unwind_init();
    if (self != NULL && self->inside) { /* in a signal handler: the child is as one of _Fork() */
        self->fork_nested = true;
        return;
    }
    if (self != NULL && self->blocking == 0) {
        gci_enter(self, (const void *)&lowest);
        gci_code_keep_frames_here(gci_thread_self());
        gci_block(self); /* through all the waits: a collection may have to end first */
    }
    gci_lock_take(&world->fork_lock);
    __atomic_store_n(&world->forking, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        bool none = wait_for_entering(heap);
        gci_lock_take(&world->lock);
        if (!none || __atomic_load_n(&world->entering, __ATOMIC_SEQ_CST) == 0) break;
        gci_unlock(&world->lock); /* one that had passed before `forking` was set */
    }
    if (self != NULL && self->blocking == 0) gci_unblock_locked(self);
    while (__atomic_load_n(&heap->sweeping, __ATOMIC_ACQUIRE) != 0) sched_yield();
    if (self != NULL) self->forks = true;
    gci_pthreads_before_fork();
}

/* Did before_fork() do nothing? */
static bool was_nested(void) {
    bool nested = gci_self != NULL && gci_self->fork_nested;
    if (nested) gci_self->fork_nested = false;
    return nested;
}

static void end_fork(struct gci_world *world) {
    if (gci_self != NULL) gci_self->forks = false;
    __atomic_store_n(&world->forking, 0, __ATOMIC_SEQ_CST);
    gci_futex_wake(&world->forking, UINT32_MAX);
    gci_unlock(&world->fork_lock);
    if (gci_self != NULL && gci_self->blocking == 0) {
        gci_leave(gci_self);
        gci_code_drop_frames(gci_thread_self());
    }
}

static void after_fork_in_parent(void) {
    if (was_nested()) return;
    volatile uintptr_t lowest = 0; /* what before_fork() found on the stack is no more */
    __builtin_unwind_init();
    if (gci_self != NULL && gci_self->blocking == 0) gci_enter(gci_self, (const void *)&lowest);
    gci_pthreads_after_fork(false);
    gci_world_unlock(&forking_heap->world);
    end_fork(&forking_heap->world);
}

/* Nothing is protected in the child: what was closed is open. */
static void reopen_barrier(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    gci_barrier_after_fork(heap->barrier, heap->options.log);
    for (uint32_t b = 0; b < arena->frontier; b++) {
        if (!(arena->tags[b] & GCI_TAG_CLOSED)) continue;
        arena->tags[b] &= (uint8_t)~GCI_TAG_CLOSED;
        arena->blocks[b].passed_over = arena->blocks[b].hot = 0;
    }
}

static void be_child(struct gc_heap *heap) {
    gci_pthreads_after_fork(true);
    gci_threads_after_fork(heap, gci_thread_self());
    gci_crew_after_fork(heap);
    gci_finalizers_after_fork(heap);
    gci_events_after_fork(heap);
    reopen_barrier(heap);
}

static void after_fork_in_child(void) {
    if (was_nested()) return;
    be_child(forking_heap);
    end_fork(&forking_heap->world);
}

void gci_fork_without_handlers(struct gc_heap *heap) {
    const struct gci_world *world = &heap->world;
    if (world->lock != 0 || world->entering != 0 || world->awaited != 0 || heap->sweeping != 0)
        gci_fatal("this process was made by _Fork() or clone() while another thread was changing "
                  "the heap, so it can't be used here: use fork()");
    be_child(heap);
    heap->world.forking = heap->world.fork_lock = 0; /* of another thread that was forking, too */
}

int gci_fork_open(struct gc_heap *heap) {
    if (forking_heap != NULL) return 0;
    int error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (error == 0) forking_heap = heap;
    return error;
}
