/* Sampling of allocations (docs/profiling.md). */
#ifndef CAIRN_GC_SAMPLE_H
#define CAIRN_GC_SAMPLE_H

#include "gc/sites.h"
#include "gc/tracked.h"
#include "gc/types.h"
#include "runtime/unwind.h"

/* What a heap has once something was to be sampled.  Written with the lock held or the world
 * stopped. */
struct gci_sampler {
    size_t interval;  /* 0: every object is a sample */
    uint32_t changes; /* how often sampling was begun */
    bool profiling;   /* samples count in the profile, and there is one: */
    bool profiled;
    uint64_t start_ns, end_ns; /* of the profile */
    struct gci_sites sites;
    struct gci_tracking tracking;
    struct gci_unwind_cache unwinding;
    uint64_t untracked;                    /* samples there was no memory for */
    uint64_t leaked_objects, leaked_bytes; /* since the last report, all of them */
    uint32_t opener;                       /* the process that opened the heap */
};

/* Makes the sampler if there is none; with the lock held.  NULL if there is no memory. */
struct gci_sampler *gci_sampler_make(struct gc_heap *heap);

/* Threads sample from now on at the sampler's interval, or ON false, not any more: each when it
 * next needs room in some buffer.  With the lock held. */
void gci_sampling_set(struct gc_heap *heap, bool on);

/* What an object of BYTES that was sampled at INTERVAL stands for. */
double gci_sample_weight(size_t bytes, size_t interval);

/* ---- By a thread that allocates, inside the library ----------------------------------------- */

/* The object [START, END) is about to be bumped, and START is below the buffer's limit.  Decides
 * whether it is a sample, and returns how far down, at most to AHEAD, others may be bumped inline. */
uintptr_t gci_sample_hole_slow(struct gci_thread *thread, struct gci_bump *bump, uintptr_t start,
    uintptr_t end, uintptr_t ahead);

/* An object of BYTES was allocated otherwise. */
void gci_sample_object_slow(struct gci_thread *thread, size_t bytes);

/* [limit, cursor) of the buffer is handed out again. */
void gci_sample_again(struct gci_thread *thread, struct gci_bump *bump);

/* P is the object that was found to be a sample, complete, and held.  May wait for a
 * collection. */
void gci_sample_take(struct gci_thread *thread, const void *p);

static inline bool gci_samples(const struct gci_thread *thread) {
    return (__atomic_load_n(&thread->heap->sampling, __ATOMIC_RELAXED) | thread->draw.sampling) !=
           0;
}

static inline uintptr_t gci_sample_hole(struct gci_thread *thread, struct gci_bump *bump,
    uintptr_t start, uintptr_t end, uintptr_t ahead) {
    if (__builtin_expect(!gci_samples(thread), 1)) return ahead;
    return gci_sample_hole_slow(thread, bump, start, end, ahead);
}

static inline void gci_sample_object(struct gci_thread *thread, size_t bytes) {
    if (__builtin_expect(gci_samples(thread), 0)) gci_sample_object_slow(thread, bytes);
}

/* ---- Objects' ends -------------------------------------------------------------------------- */

/* The object at GRANULE is freed by hand.  With the lock held. */
static inline void gci_sample_forget(struct gc_heap *heap, size_t granule) {
    if (heap->sampler != NULL) gci_tracking_forget(&heap->sampler->tracking, granule);
}

/* In a collection, where gci_identity_update() is called. */
void gci_samples_update(struct gc_heap *heap, bool full);

size_t gci_check_samples(const struct gc_heap *heap);

#endif
