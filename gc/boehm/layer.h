/* What the files of gc/boehm share: Boehm's interface on top of Cairn's (docs/boehm.md).  Names
 * that cross files here begin with gcb_; what is exported begins with GC_. */
#ifndef CAIRN_GC_BOEHM_LAYER_H
#define CAIRN_GC_BOEHM_LAYER_H

#define GC_NO_INLINE
#include "cairn/embed.h"
#include "cairn/gc.h"
#include "gc/types.h"

/* Boehm's headers, so that what is defined here is what they declare. */
#undef GC_API
#define GC_API extern __attribute__((__visibility__("default")))
#define GC_BUILD
#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#define GC_REQUIRE_WCSDUP
#define NOT_GCBUILD
#include <wchar.h>

#include "cairn/boehm/gc.h"
#include "cairn/boehm/gc_disclaim.h"
#include "cairn/boehm/gc_gcj.h"
#include "cairn/boehm/gc_inline.h"
#include "cairn/boehm/gc_mark.h"
#include "cairn/boehm/gc_typed.h"
#include "cairn/boehm/javaxfc.h"

/* Before a definition: exported. */
#define EXPORT __attribute__((__visibility__("default")))

/* Exported, but in no header of his: programs declare them themselves. */
extern EXPORT GC_push_other_roots_proc GC_push_other_roots;
extern EXPORT GC_abort_func GC_on_abort;

/* An entry of the mark stack, as programs that write it themselves see it. */
struct GC_ms_entry {
    GC_word start;
    GC_word descriptor;
};

/* ---- Starting: gc/boehm/start.c ------------------------------------------------------------- */

/* Has GC_init() been called?  Written once. */
extern bool gcb_open;

static inline void gcb_need_heap(void) {
    if (__builtin_expect(!__atomic_load_n(&gcb_open, __ATOMIC_ACQUIRE), 0)) GC_init();
}

/* Under CAIRN_LOG says once that FUNCTION can't do what it was asked for, and why. */
void gcb_cannot(bool *said, const char *function, const char *why);
#define GCB_CANNOT(why)                                                                            \
    do {                                                                                           \
        static bool gcb_said;                                                                      \
        gcb_cannot(&gcb_said, __func__, why);                                                      \
    } while (0)

/* GC_set_disable_automatic_collection(): nonzero if only the program's calls collect. */
extern int gcb_no_automatic;

/* Under GC_PRINT_STATS. */
void gcb_print_collection(const struct gc_heap *heap, enum gc_collection kind);

/* GC_DISABLE_INCREMENTAL */
bool gcb_never_incremental(void);

/* Calls the program's warning procedure. */
void gcb_warn(const char *format, GC_word argument);

/* The heap's lock, by any thread. */
void gcb_lock(void);
void gcb_unlock(void);

/* ---- Allocating: gc/boehm/malloc.c ---------------------------------------------------------- */

/* Bytes that each object has beyond what was asked for: 1 with interior pointers on, so that what
 * is one past its end is in it, and holds it and nothing else; else 0.  Written by GC_init(). */
extern size_t gcb_slack;

enum { GCB_PTRFREE, GCB_NORMAL, GCB_UNCOLLECTABLE, GCB_AUNCOLLECTABLE, GCB_PREDEFINED };

/* What P is if it isn't NULL; else what the program's function for lack of memory returns. */
void *gcb_or_oom(void *p, size_t size);

/* An object of TYPE, of any size; NULL without memory. */
void *gcb_alloc_of_type(const gc_type *type, size_t size);

/* ---- Uncollectable objects: gc/boehm/uncollectable.c ---------------------------------------- */

/* Makes the object at P a root, or no root any more; false if there is no memory, or it was none. */
bool gcb_hold(void *p);
bool gcb_release(void *p);
bool gcb_is_held(const void *p);
bool gcb_is_held_locked(const void *p); /* with the lock held */

/* In a collection: those that may be young, if it is a MINOR one; and when it has marked them. */
void gcb_visit_held(gc_visitor *visitor, bool minor);
void gcb_held_are_old(void);

/* ---- Roots: gc/boehm/roots.c ---------------------------------------------------------------- */

extern struct gci_static_filter gcb_static_filter;

/* Visits what GC_add_roots() told of. */
void gcb_visit_ranges(gci_root_visitor *visit, void *context);

/* Did the program say that it will have pointers OFFSET bytes into objects, or any? */
bool gcb_offset_is_valid(size_t offset);

/* ---- Kinds: gc/boehm/kinds.c ---------------------------------------------------------------- */

#define GCB_KINDS 64u

/* An object of KIND that is not cleared of anything; NULL without memory. */
void *gcb_alloc_of_kind(size_t size, unsigned kind);
/* The kind of the object that starts at P. */
unsigned gcb_kind_of(const void *p);
/* Are objects of KIND searched whole, so that a debugging allocator's header does no harm? */
bool gcb_kind_takes_headers(unsigned kind);

/* With the world stopped, before a collection: once there are mark procedures typed objects aren't
 * protected any more. */
void gcb_open_typed(struct gc_heap *heap);

/* A finalizer or disclaim procedure became ready; is about to be run; has been run, if RAN.  Then, if
 * there are mark procedures, all collections are to be full until one begins when all that is over. */
void gcb_note_given_away(void);
void gcb_functions_begin(void);
void gcb_functions_end(bool ran);
void gcb_full_begins(const struct gc_heap *heap);
bool gcb_full_only(void);

/* After a collection: calls the procedures of GC_register_disclaim_proc(). */
void gcb_tell_the_dead(void);

/* While the program's functions are called in a collection: where what they report goes. */
struct gcb_marking {
    gc_visitor *visitor;
    bool roots; /* a root hook's, not an object's */
};
extern __thread struct gcb_marking gcb_marking __attribute__((tls_model("initial-exec")));

/* WORD may be a reference. */
void gcb_report(GC_word word);

/* ---- Collecting: gc/boehm/collect.c --------------------------------------------------------- */

extern struct gci_layer gcb_layer;
extern uint64_t gcb_freed; /* bytes freed by hand since the last collection; atomic */
void gcb_visit_roots(gc_visitor *visitor, enum gc_root_pass pass, void *data);

/* ---- Threads: gc/boehm/threads.c ------------------------------------------------------------ */

/* With the world stopped: where the first thread's stack ends, if the program wrote that. */
void gcb_note_stack_bottom(struct gc_heap *heap);

/* ---- Finalizers: gc/boehm/finalize.c -------------------------------------------------------- */

/* For gc_set_finalizer_notify(): runs finalizers, or tells the program. */
void gcb_finalizers_are_ready(void *data);
void gcb_becomes_ready(struct gc_heap *heap, uintptr_t object);
void gcb_is_in_cycle(struct gc_heap *heap, uintptr_t object);
void gcb_tell_news(void);

/* Toggle references: asked about when a full collection begins; roots; and when all is marked, those
 * of the dead go. */
void gcb_toggles_ask(void);
void gcb_toggles_visit(gc_visitor *visitor);
void gcb_toggles_settle(const struct gc_heap *heap);

/* ---- Debugging: gc/boehm/debug.c ------------------------------------------------------------ */

/* Is the object that starts at BASE one of the debugging allocators? */
bool gcb_is_debugged(const void *base);
/* P, or if that is what a debugging allocator returned, the object's start. */
void *gcb_undressed(void *p);

/* With the world stopped and all marked: prints what is about to be freed, if leaks are looked for;
 * and which debugged objects were written beyond. */
void gcb_report_leaks(const struct gc_heap *heap);
void gcb_report_smashed(const struct gc_heap *heap);
void gcb_abort_on_leak(void);

#endif
