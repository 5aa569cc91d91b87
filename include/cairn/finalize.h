/* Cairn: what happens when objects die.  Finalizers, guardians, weak references and disappearing
 * links.  docs/finalization.md is the manual: its numbered rules say what "dies" means and in which
 * order things happen.
 *
 * All pointers to objects here are to their starts.  An attached thread may call any function at any
 * time (also in a finalizer), but not in a signal handler nor a root hook.  A wrong argument is
 * refused with EINVAL and a line on stderr that says what it is.  Nothing here collects, unless it
 * calls what the program gave it. */
#ifndef CAIRN_FINALIZE_H
#define CAIRN_FINALIZE_H

#include <stddef.h>
#include <stdint.h>

#include "cairn/gc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Finalizers ----------------------------------------------------------------------------- */

/* When an object that nothing leads to any more is ready to be finalized. */
enum gc_order {
    GC_ORDERED,     /* when no other object leads to it that waits for its own finalizer: what it
                       refers to is there, not finalized, when its finalizer runs.  One in a cycle
                       of such objects is never ready, which is reported */
    GC_IGNORE_SELF, /* the same, but references to itself in the object itself don't count */
    GC_UNORDERED,   /* the same, but what it refers to needn't wait for it */
    GC_UNREACHABLE  /* when not even an object that is ready leads to it */
};

/* Called with the object and DATA: by gc_run_finalizers(), with no lock held.  It may do anything,
 * also leave by longjmp().  What it stores somewhere lives on; it has no finalizer any more unless
 * it is given one again. */
typedef void gc_finalizer_function(void *p, void *data);

typedef struct gc_finalizer {
    gc_finalizer_function *function; /* NULL: none */
    void *data;                      /* a root until the function was called */
    uint32_t order;                  /* enum gc_order */
} gc_finalizer;

/* Gives the object at P the finalizer FRESH instead of the one it has; FRESH NULL, or without a
 * function: takes that away.  *OLD, unless OLD is NULL, becomes the one it had.  A finalizer that is
 * ready isn't had any more.  DATA must not lead to the object, or it never dies.  Returns 0; EINVAL;
 * ENOMEM, and nothing has changed. */
GC_API int gc_finalizer_exchange(void *p, const gc_finalizer *fresh, gc_finalizer *old);

static inline int gc_finalizer_set(
    void *p, gc_finalizer_function *function, void *data, enum gc_order order) {
    gc_finalizer fresh = {function, data, (uint32_t)order};
    return gc_finalizer_exchange(p, &fresh, NULL);
}

/* Runs the finalizers that are ready, as many as there are when it is called, on this thread.
 * Returns how many it called.  A finalizer may call it: that runs the next ones. */
GC_API size_t gc_run_finalizers(void);

/* How many are ready.  Any thread may ask. */
GC_API size_t gc_finalizers_ready(void);

/* NOTIFY is called with DATA after a collection that made finalizers ready, or gave a guardian
 * something, on the thread that collected, with no lock held, not in the pause; not while one call
 * of it is running on that thread.  It may use the heap and may run finalizers, but the thread is in
 * the middle of an allocation, with whatever locks of the program's it holds: better to wake another
 * thread.  It must return.  NULL: none.  DATA is not a root. */
typedef void gc_finalizer_notify(void *data);
GC_API void gc_set_finalizer_notify(gc_finalizer_notify *notify, void *data);

/* For the end of a program: makes all finalizers ready, whether their objects are alive or not, in
 * no order, and runs them, and again those that were registered meanwhile, up to 8 times.  Returns
 * how many were called. */
GC_API size_t gc_finalize_all(void);

/* ---- Guardians ------------------------------------------------------------------------------ */

/* A queue of objects that died, which the program drains (Dybvig, Bruggeman, Eby: Guardians in a
 * generation-based garbage collector, PLDI 1993). */
typedef struct gc_guardian gc_guardian;

/* NULL with errno EINVAL (ORDER) or ENOMEM. */
GC_API gc_guardian *gc_guardian_new(enum gc_order order);

/* When the object at P is ready, by the guardian's order, it is put into the queue, once for each
 * call.  It may have a finalizer and other guardians besides: all get it at once, when the strictest
 * order says so.  Returns 0, EINVAL, ENOMEM. */
GC_API int gc_guardian_add(gc_guardian *guardian, void *p);

/* Takes an object out of the queue; NULL if it is empty. */
GC_API void *gc_guardian_next(gc_guardian *guardian);

/* Ends it, and what it was asked to guard.  NULL does nothing. */
GC_API void gc_guardian_free(gc_guardian *guardian);

/* ---- Weak references ------------------------------------------------------------------------ */

/* When a collection clears a weak reference or a link. */
enum gc_weak_kind {
    GC_WEAK_SHORT, /* when its object is found dead: before its finalizer is ready */
    GC_WEAK_LONG   /* when the object is gone for good */
};

/* A weak reference: a place outside the heap.  The pointer to it may be kept anywhere. */
typedef struct gc_weak gc_weak;

/* One that refers to the object at P, or to nothing if P is NULL.  NULL with errno EINVAL or
 * ENOMEM. */
GC_API gc_weak *gc_weak_new(void *p, enum gc_weak_kind kind);

/* The object, or NULL.  What it returns is held by who has it.  Takes no lock. */
GC_API void *gc_weak_get(const gc_weak *weak);

/* From now on it refers to the object at P, or to nothing.  Returns 0, EINVAL, ENOMEM. */
GC_API int gc_weak_set(gc_weak *weak, void *p);

/* NULL does nothing. */
GC_API void gc_weak_free(gc_weak *weak);

/* ---- Disappearing links --------------------------------------------------------------------- */

/* When the object at TARGET dies, *SLOT becomes NULL.  SLOT is an aligned word: in an object, with
 * which the link moves and ends, or outside the heap.  It should be where the collector doesn't look,
 * in a leaf object or in memory from malloc(), or hold the address's complement: else it keeps TARGET
 * alive as any other reference.  If TARGET moves, a slot that holds its address, or the complement,
 * is changed.  A slot may have one link of each kind.  Returns 0; EINVAL; EEXIST if it has one of
 * that kind; ENOMEM. */
GC_API int gc_link_register(void **slot, void *target, enum gc_weak_kind kind);

/* Ends the link.  Returns 0; ENOENT if there is none, or it was cleared. */
GC_API int gc_link_unregister(void **slot, enum gc_weak_kind kind);

/* The link of FROM is one of TO from now on; neither slot is written.  Returns 0; EINVAL (TO);
 * ENOENT; EEXIST; ENOMEM. */
GC_API int gc_link_move(void **from, void **to, enum gc_weak_kind kind);

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_FINALIZE_H */
