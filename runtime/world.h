/* Stopping the world: the threads that use the heap (mutators), their states, and where each keeps
 * its references.  The rules, and what a state allows to whom, are in docs/threads.md.
 *
 * What the caller gets: between gci_world_stop() and gci_world_start() no other mutator runs
 * program code, nor library code outside of gci_lock_wait(), and gci_mutator_visit() finds what is
 * in its registers and on its stacks.  What the caller must supply: the world's lock is held from
 * before stop to after start, and nothing in between calls malloc, the loader, or anything else
 * whose lock a stopped thread may hold. */
#ifndef CAIRN_RUNTIME_WORLD_H
#define CAIRN_RUNTIME_WORLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/arch/arch.h"
#include "runtime/futex.h"
#include "runtime/roots.h"
#include "runtime/unwind.h"

/* docs/threads.md, rule 2. */
enum gci_state { GCI_RUNNING, GCI_REQUESTED, GCI_STOPPED, GCI_BLOCKING, GCI_HELD };

/* A stack: a thread's own, or one that was registered.  All its fields are written inside the
 * library, by the thread that runs on it or the one that registers it. */
struct gc_stack {
    struct gc_stack *next; /* registered: on the world's list, or the free list */
    uintptr_t low, high;
    uintptr_t resume_from; /* while no thread runs on it: references are above; LOW if unknown */
    uintptr_t registers[GCI_FRAME_WORDS]; /* of who left it */
    struct gc_frame *frames;              /* the same: its innermost GC_FRAME() */
};

/* What the signal handler found. */
struct gci_interruption {
    bool valid;
    uintptr_t context; /* the lowest address of what the kernel saved */
    uintptr_t stack_pointer;
    uintptr_t other_low, other_high; /* the alternate signal stack */
};

struct gci_mutator {
    struct gci_world *world;
    struct gci_mutator *next, *prev; /* on the world's list */
    uint32_t state;                  /* enum gci_state; also a futex */
    uint32_t *poll;                  /* what gc_safepoint() looks at; written by the stopper */
    bool inside;      /* in the library: written by its own thread, read by that's signal handler */
    bool forks;       /* is between the handlers of pthread_atfork() */
    bool fork_nested; /* forks in a signal handler that interrupted the library */
    bool leaves;      /* detaches: SCAN_FROM is no entry function's frame */
    bool vanished;    /* its thread ended without a word; written by the stopper */
    uint32_t blocking;  /* gc_blocking_begin() less gc_blocking_end() */
    uint32_t suspended; /* futex: stays stopped between collections, too */
    uintptr_t bottom;   /* nonzero: where a stack that isn't known, and it runs on, ends */
    pid_t tid;
    uint64_t stops; /* by signal */
    uintptr_t thread_pointer;
    uintptr_t scan_from;                  /* of one in the library or blocking */
    uintptr_t registers[GCI_FRAME_WORDS]; /* between gc_blocking_begin() and _end */
    struct gci_interruption interruption;
    struct gc_stack stack;
    struct gc_stack alternate;    /* a signal stack that the program told of: its bounds */
    struct gc_stack *switched_to; /* by gc_stack_switch(), last; NULL: not known */
};

struct gci_world {
    gci_lock lock;
    uint32_t awaited;   /* futex: requested and not yet stopped */
    uint32_t entering;  /* futex: threads that go to collect: between the loader's lock and ours */
    uint32_t forking;   /* futex: nobody may enter now */
    gci_lock fork_lock; /* one thread forks at a time */
    struct gci_mutator *first;
    struct gci_mutator *unsent; /* while stopping: the first to whom nobody sends the signal yet */
    uint32_t failed;            /* a signal that a mutator passed on; atomic, as UNSENT is */
    struct gc_stack *stacks, *free_stacks;
    uint32_t count;
    unsigned cpus;    /* that this process may use */
    int signal;       /* 0: mutators are stopped at safepoints only */
    bool stopped;     /* or about to be */
    bool crowded;     /* while stopped: there are more who could run than processors */
    bool handed_over; /* the program let go of the lock while it was waited for; under the lock */
    bool displaced_told;
};

/* SIGNAL: 0 for none.  Installs the handler.  Returns 0 or an errno value. */
int gci_world_open(struct gci_world *world, int signal);
void gci_world_close(struct gci_world *world);

/* The calling thread's mutator, NULL if it has none.  Written by its own thread. */
extern __thread struct gci_mutator *gci_self __attribute__((tls_model("initial-exec")));

/* Fills in what is known of the calling thread.  POLL: its gc_buffers.stop.  May call malloc.
 * Returns 0 or an errno value. */
int gci_mutator_init(struct gci_mutator *mutator, struct gci_world *world, uint32_t *poll);

/* Both with the lock held, by the mutator's own thread. */
void gci_world_add(struct gci_world *world, struct gci_mutator *mutator);
void gci_world_remove(struct gci_world *world, struct gci_mutator *mutator);

/* ---- By a mutator's own thread -------------------------------------------------------------- */

/* Takes the world's lock; SELF, inside the library, may be held up by a collection meanwhile, or
 * is NULL in a thread that has no mutator. */
void gci_world_lock(struct gci_world *world, struct gci_mutator *self);
void gci_world_unlock(struct gci_world *world);

/* Into BLOCKING, and out of it.  Inside the library. */
void gci_block(struct gci_mutator *self);
void gci_unblock(struct gci_mutator *self);
/* The same with the world's lock held.  One that was suspended goes on until gci_mutator_rest(). */
void gci_unblock_locked(struct gci_mutator *self);

/* Before a thread takes the loader's lock and then the world's: waits while somebody forks. */
void gci_world_enter(struct gci_world *world, struct gci_mutator *self);
void gci_world_exit(struct gci_world *world);

/* Calls FUNCTION with the loader's lock held: no object is loaded or unloaded meanwhile. */
void gci_with_loader_lock(void (*function)(void *context), void *context);

/* The program's signal handlers must not run while the thread counts as stopped inside the library:
 * they may change references.  Blocks all signals but those of faults; returns what was blocked. */
uint64_t gci_signals_block(void);
void gci_signals_restore(uint64_t before);

/* Copies the registers that an entry function saved at FRAME, on a stack that may end soon
 * after. */
void gci_copy_registers(const struct gci_mutator *mutator, uintptr_t *to, const void *frame);

/* PARK, as asked by a state of REQUESTED, inside the library. */
void gci_park(struct gci_mutator *self);

/* Into the library and out of it (docs/threads.md, rule 5).  FRAME: where the caller's part of the
 * stack begins. */
static inline void gci_enter(struct gci_mutator *self, const void *frame) {
    self->inside = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    self->scan_from = (uintptr_t)frame;
}

static inline void gci_leave(struct gci_mutator *self) {
    for (;;) {
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        self->inside = false;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (__builtin_expect(__atomic_load_n(&self->state, __ATOMIC_RELAXED) != GCI_REQUESTED, 1))
            return;
        self->inside = true;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(&self->state, __ATOMIC_RELAXED) == GCI_REQUESTED) gci_park(self);
    }
}

/* ---- By who holds the lock ------------------------------------------------------------------ */

/* STOP and START, but for SELF, which may be NULL. */
void gci_world_stop(struct gci_world *world, struct gci_mutator *self);
void gci_world_start(struct gci_world *world, struct gci_mutator *self);

/* The mutator of the thread with THREAD_POINTER stays as it is, stopped or blocking, from the next
 * gci_world_start() on; and the end of that.  Both with the lock held; the first with the world
 * stopped.  False if there is none. */
bool gci_mutator_suspend(struct gci_world *world, uintptr_t thread_pointer);
bool gci_mutator_resume(struct gci_world *world, uintptr_t thread_pointer);
bool gci_mutator_is_suspended(const struct gci_world *world, uintptr_t thread_pointer);
/* The same for SELF, inside the library and without the lock: returns when it is resumed. */
void gci_mutator_rest(struct gci_mutator *self);

/* With the world stopped: visits the mutator's registers and the stacks it runs on or left; and
 * all registered stacks.  Aborts with a message if the mutator runs on a stack that is not
 * known. */
void gci_mutator_visit(struct gci_world *world, const struct gci_mutator *mutator,
    gci_root_visitor *visit, void *context);
void gci_stacks_visit(struct gci_world *world, gci_root_visitor *visit, void *context);

/* The end of the stack that holds ADDRESS, where the mutator is; 0 if it isn't known. */
uintptr_t gci_stack_end(
    const struct gci_world *world, const struct gci_mutator *mutator, uintptr_t address);

/* The innermost GC_FRAME() of a mutator lies below all that is live on the stack it runs on: left
 * by longjmp(), say. */
bool gci_frame_is_stale(
    const struct gci_world *world, const struct gci_mutator *mutator, const void *frame);

/* For naming frames (runtime/unwind.h): what a stopped mutator has in its registers, in its
 * innermost function that isn't the library's; *LOW is where that function's part of the stack
 * begins.  False if it isn't known: it blocks, say. */
bool gci_mutator_registers(
    const struct gci_mutator *mutator, struct gci_registers *registers, uintptr_t *low);

/* The mutator on whose own or present stack ADDRESS is; NULL if none. */
const struct gci_mutator *gci_mutator_at(const struct gci_world *world, uintptr_t address);

/* Registered stacks; with the lock held.  NULL with *ERROR set. */
struct gc_stack *gci_stack_add(struct gci_world *world, uintptr_t low, size_t bytes, int *error);
/* EBUSY if SELF, at FRAME, is on it, or another switched to it last. */
int gci_stack_remove(
    struct gci_world *world, struct gci_mutator *self, struct gc_stack *stack, const void *frame);
/* SELF, at FRAME, is about to leave its stack for TO (NULL: its own).  Without the lock. */
void gci_stack_leave(struct gci_mutator *self, struct gc_stack *to, const void *frame);

/* In the child of a fork, where only SELF's thread is left (NULL: it has no mutator): forgets all
 * other mutators, after handing each to DROP. */
void gci_world_after_fork(struct gci_world *world, struct gci_mutator *self,
    void (*drop)(void *context, struct gci_mutator *mutator), void *context);

#endif
