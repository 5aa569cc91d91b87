/* The crew: threads of the collector's own that help it, and how work is shared among them
 * (docs/threads.md, rules 15 to 18).
 *
 * What the caller gets: gci_crew_run() calls a job in the calling thread and, beside it, in as many
 * of the crew's threads as come in time, each with a marker of its own, and returns when all are
 * done.  What the caller must supply: the world is stopped; jobs neither allocate nor take a lock
 * that a stopped thread may hold. */
#ifndef CAIRN_GC_CREW_H
#define CAIRN_GC_CREW_H

#include "gc/types.h"

typedef void gci_job(struct gci_marker *marker, void *context);

/* Makes the crew, without threads.  Returns 0 or ENOMEM. */
int gci_crew_open(struct gc_heap *heap);
/* Of a crew that was never called. */
void gci_crew_close(struct gc_heap *heap);

/* Before the world is stopped: makes the threads, if a collection could have used them. */
void gci_crew_hire(struct gc_heap *heap);

/* Are there threads to help, and tables for them?  They are invited then.  Where more would have
 * been used the next gci_crew_hire() makes them. */
bool gci_crew_call(struct gc_heap *heap);

/* Wakes a thread, if one sleeps, to touch memory (gc/ahead.h).  By any thread, without the lock. */
void gci_crew_nudge(struct gc_heap *heap);

/* Runs JOB, after gci_crew_call(); the caller's marker is the heap's. */
void gci_crew_run(struct gc_heap *heap, gci_job *job, void *context);

/* Adds what the markers of the crew's threads have counted to the heap's. */
void gci_crew_sum(struct gc_heap *heap);

/* In a job: does another member wait for work?  A guess. */
static inline bool gci_crew_is_hungry(const struct gci_crew *crew);
/* Gives it the older half of the marker's stack, if that is worth it. */
void gci_crew_feed(struct gci_marker *marker);
/* The marker's stack is empty: waits for work.  False when all members wait: the job is done. */
bool gci_crew_wait(struct gci_marker *marker);

/* How many threads of its own the collector has. */
unsigned gci_crew_size(const struct gc_heap *heap);

/* In the child of a fork: it has none of them; they are made again when they are needed. */
void gci_crew_after_fork(struct gc_heap *heap);

#define GCI_CREW_MAX   64u
#define GCI_CHUNK_RUNS 60u

/* Work on its way from one member to another. */
struct gci_chunk {
    struct gci_chunk *next;
    uint32_t count;
    gci_words runs[GCI_CHUNK_RUNS];
};

/* A thread of the collector's. */
struct gci_hand {
    struct gci_marker marker;
    struct gci_crew *crew;
    size_t committed; /* bytes of marker.live */
};

/* What describes a job is under the lock, but that the words which are waited on are futexes, and
 * WAITING and OFFERED are read for a guess; what describes the threads is written by who hires. */
struct gci_crew {
    struct gc_heap *heap;
    gci_lock lock, hiring;
    uint32_t generation; /* jobs so far */
    uint32_t joined;     /* members at work on the present job, the leader included */
    uint32_t waiting;    /* of these: for work */
    uint32_t offered;    /* chunks to be taken */
    uint32_t turn;       /* changes when there is a chunk, or the job is done */
    bool open;           /* the present job can be joined, and isn't done */
    bool wanted;         /* a collection could have used more threads */
    gci_job *job;
    void *context;
    struct gci_chunk *chunks, *free_chunks;
    uint32_t size, most; /* threads that exist, and that may */
    uint32_t invited;    /* to the present job: the first so many */
    uint64_t waited_ns;  /* by the leader, since the start */
    struct gci_hand hands[];
};

static inline bool gci_crew_is_hungry(const struct gci_crew *crew) {
    return __atomic_load_n(&crew->waiting, __ATOMIC_RELAXED) >
           __atomic_load_n(&crew->offered, __ATOMIC_RELAXED);
}

#endif
