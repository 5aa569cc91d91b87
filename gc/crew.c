/* The crew: see crew.h.  A member with too much work gives the older half of its stack, where the
 * larger parts of the object graph are, to one that has none (the idea of Endo, Taura, Yonezawa: A
 * scalable mark-sweep garbage collector on large-scale shared-memory machines, SC 1997).  Who has
 * none looks around for a short while and then sleeps on a futex.  The steps OPEN, JOIN, FEED, WAIT,
 * DONE and LEAVE are those of docs/models/crew.pml.
 *
 * Invariants, under the lock: waiting <= joined; offered is the length of the list of chunks; the
 * job is done (open is false) when waiting == joined, and then there are no chunks. */
#define _GNU_SOURCE
#include "gc/crew.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "gc/ahead.h"
#include "gc/ephemeron.h"
#include "gc/mark.h"
#include "gc/pthreads.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define CHUNKS      (2 * GCI_CREW_MAX)
#define SPIN_NS     50000u /* to be woken took 35 to 70 us, measured */
#define LOOKS       20u    /* pauses between two looks at the clock, which costs 20 ns */
#define FEED_LEAST  4u     /* runs on a stack that is worth halving */
#define STACK_BYTES ((size_t)128 << 10) /* of a hand's thread: marking recurses nowhere */

static size_t crew_bytes(unsigned most) {
    return gci_whole_pages(sizeof(struct gci_crew) + most * sizeof(struct gci_hand) +
                           CHUNKS * sizeof(struct gci_chunk));
}

int gci_crew_open(struct gc_heap *heap) {
    unsigned workers = heap->options.workers != 0 ? heap->options.workers : heap->world.cpus;
    unsigned most = workers > GCI_CREW_MAX ? GCI_CREW_MAX - 1 : workers - 1;
    struct gci_crew *crew = gci_vm_map(crew_bytes(most));
    if (crew == NULL) return ENOMEM;
    crew->heap = heap;
    crew->most = most;
    struct gci_chunk *chunks = (struct gci_chunk *)(void *)&crew->hands[most];
    for (unsigned i = 0; i < CHUNKS; i++) {
        chunks[i].next = crew->free_chunks;
        crew->free_chunks = &chunks[i];
    }
    heap->crew = heap->marker.crew = crew;
    return 0;
}

void gci_crew_close(struct gc_heap *heap) {
    if (heap->crew != NULL) gci_vm_unmap(heap->crew, crew_bytes(heap->crew->most));
    heap->crew = NULL;
}

unsigned gci_crew_size(const struct gc_heap *heap) {
    return heap->crew != NULL ? __atomic_load_n(&heap->crew->size, __ATOMIC_ACQUIRE) : 0;
}

/* ---- Threads -------------------------------------------------------------------------------- */

/* LEAVE. */
static void leave(struct gci_crew *crew) {
    gci_lock_take(&crew->lock);
    uint32_t joined = __atomic_sub_fetch(&crew->joined, 1, __ATOMIC_RELEASE);
    gci_unlock(&crew->lock);
    if (joined == 1) gci_futex_wake(&crew->joined, 1);
}

/* JOIN: one that comes too late goes back to sleep, and so does one that was hired only after the
 * job was opened, for which there are no tables. */
static bool join(struct gci_crew *crew, const struct gci_hand *hand) {
    gci_lock_take(&crew->lock);
    bool open = crew->open && hand - crew->hands < crew->invited;
    if (open) __atomic_add_fetch(&crew->joined, 1, __ATOMIC_RELAXED);
    gci_unlock(&crew->lock);
    return open;
}

static void *work(void *argument) {
    struct gci_hand *hand = argument;
    struct gci_crew *crew = hand->crew;
    uint32_t seen = 0;
    for (;;) {
        uint32_t generation;
        while ((generation = __atomic_load_n(&crew->generation, __ATOMIC_ACQUIRE)) == seen)
            if (!gci_ahead_touch(crew->heap)) gci_futex_wait(&crew->generation, seen, GCI_FOREVER);
        seen = generation;
        if (!join(crew, hand)) continue;
        crew->job(&hand->marker, crew->context);
        leave(crew);
    }
    return NULL;
}

/* All signals are the program's threads' business. */
static int start(struct gci_hand *hand) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) return error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = gci_real_pthread_create(&thread, &attributes, work, hand);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error == 0) pthread_setname_np(thread, "cairn-mark");
    return error;
}

static size_t live_bytes(uint32_t blocks) {
    return gci_whole_pages(blocks * sizeof(uint16_t));
}

static bool prepare(struct gc_heap *heap, struct gci_hand *hand) {
    uint32_t blocks = (uint32_t)(heap->arena.reserved >> GCI_BLOCK_SHIFT);
    if (hand->marker.live == NULL) {
        uint16_t *live = gci_vm_reserve(live_bytes(blocks), 4096);
        if (live == NULL) return false;
        hand->marker = (struct gci_marker){.heap = heap,
            .stack.bytes_limit = heap->options.mark_stack_limit,
            .entries.bytes_limit = heap->options.mark_stack_limit,
            .past_end_in_heap = heap->options.one_past_end_in_heap,
            .live = live,
            .crew = heap->crew};
        hand->committed = 0;
    }
    hand->crew = heap->crew;
    return hand->marker.stack.segment != NULL || gci_mark_stack_grow(&hand->marker.stack);
}

/* Without any lock of ours: pthread_create() calls malloc.  One thread at a time hires; another
 * that comes meanwhile goes on without. */
void gci_crew_hire(struct gc_heap *heap) {
    struct gci_crew *crew = heap->crew;
    if (!__atomic_load_n(&crew->wanted, __ATOMIC_RELAXED) || !gci_lock_try(&crew->hiring)) return;
    __atomic_store_n(&crew->wanted, false, __ATOMIC_RELAXED);
    unsigned size = crew->size;
    while (size < crew->most) {
        struct gci_hand *hand = &crew->hands[size];
        int error = prepare(heap, hand) ? start(hand) : ENOMEM;
        if (error != 0) {
            if (heap->options.log)
                gci_log("no thread to help marking (error %d): going on with %u", error, size);
            crew->most = size; /* not tried again */
            break;
        }
        __atomic_store_n(&crew->size, ++size, __ATOMIC_RELEASE);
    }
    gci_unlock(&crew->hiring);
}

void gci_crew_after_fork(struct gc_heap *heap) {
    struct gci_crew *crew = heap->crew;
    /* Another thread may have been hiring: what it left half done is forgotten. */
    for (unsigned i = crew->size; i < crew->most; i++)
        crew->hands[i] = (struct gci_hand){.crew = crew};
    crew->size = 0;
    crew->lock = crew->hiring = 0;
    crew->generation = crew->joined = crew->waiting = 0;
    crew->open = false;
}

/* ---- A job ---------------------------------------------------------------------------------- */

/* The tables in which hands count reach as far as the heap. */
static bool commit_tables(struct gc_heap *heap) {
    size_t bytes = live_bytes(heap->arena.frontier);
    for (unsigned i = 0; i < heap->crew->invited; i++) {
        struct gci_hand *hand = &heap->crew->hands[i];
        if (bytes <= hand->committed) continue;
        uint8_t *table = (uint8_t *)hand->marker.live;
        if (gci_vm_commit(table + hand->committed, bytes - hand->committed) != 0) return false;
        hand->committed = bytes;
    }
    return true;
}

bool gci_crew_call(struct gc_heap *heap) {
    struct gci_crew *crew = heap->crew;
    unsigned size = __atomic_load_n(&crew->size, __ATOMIC_ACQUIRE);
    if (size < crew->most) __atomic_store_n(&crew->wanted, true, __ATOMIC_RELAXED);
    crew->invited = size;
    return size > 0 && commit_tables(heap);
}

/* As if by itself: to it there was no job.  One that is just going to sleep may miss it. */
void gci_crew_nudge(struct gc_heap *heap) {
    gci_futex_wake(&heap->crew->generation, 1);
}

/* To be woken takes as long as much of what is waited for, so who has a processor to himself looks
 * first.  The leader's sleep is part of what a collection costs, as if it had worked. */
static void wait_for(
    struct gci_crew *crew, const struct gci_marker *marker, uint32_t *word, uint32_t value) {
    bool may_spin = crew->invited < crew->heap->world.cpus;
    uint64_t before = gci_clock_ns(), now = before;
    while (may_spin && now - before < SPIN_NS) {
        if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) return;
        for (unsigned i = 0; i < LOOKS; i++) gci_relax();
        now = gci_clock_ns();
    }
    gci_futex_wait(word, value, GCI_FOREVER);
    if (marker == &crew->heap->marker) crew->waited_ns += gci_clock_ns() - now;
}

void gci_crew_run(struct gc_heap *heap, gci_job *job, void *context) {
    struct gci_crew *crew = heap->crew;
    __atomic_store_n(&heap->world.crowded, true, __ATOMIC_RELAXED);
    gci_lock_take(&crew->lock); /* OPEN */
    crew->job = job;
    crew->context = context;
    crew->waiting = 0;
    __atomic_store_n(&crew->joined, 1, __ATOMIC_RELAXED);
    crew->open = true;
    __atomic_add_fetch(&crew->generation, 1, __ATOMIC_RELEASE);
    gci_unlock(&crew->lock);
    gci_futex_wake(&crew->generation, UINT32_MAX);

    job(&heap->marker, context);

    gci_lock_take(&crew->lock);
    crew->open = false;
    gci_unlock(&crew->lock);
    uint32_t joined;
    while ((joined = __atomic_load_n(&crew->joined, __ATOMIC_ACQUIRE)) > 1)
        wait_for(crew, &heap->marker, &crew->joined, joined);
}

void gci_crew_sum(struct gc_heap *heap) {
    struct gci_crew *crew = heap->crew;
    for (unsigned i = 0; i < crew->invited; i++) {
        struct gci_marker *from = &crew->hands[i].marker, *to = &heap->marker;
        to->held_granules += from->held_granules;
        from->held_granules = 0;
        gci_ephemerons_join(to, from);
        to->stack.overflowed |= from->stack.overflowed;
        from->stack.overflowed = false;
        if (from->marked_objects == 0) continue;
        to->marked_granules += from->marked_granules;
        to->marked_objects += from->marked_objects;
        from->marked_granules = from->marked_objects = 0;
        for (uint32_t b = 0; b < heap->arena.frontier; b++) to->live[b] += from->live[b];
        memset(from->live, 0, heap->arena.frontier * sizeof *from->live);
    }
}

/* FEED. */
void gci_crew_feed(struct gci_marker *marker) {
    struct gci_crew *crew = marker->crew;
    struct gci_mark_stack *stack = &marker->stack;
    size_t have = (size_t)(stack->top - stack->base);
    if (have < FEED_LEAST) return;
    size_t count = have / 2 < GCI_CHUNK_RUNS ? have / 2 : GCI_CHUNK_RUNS;
    gci_lock_take(&crew->lock);
    struct gci_chunk *chunk = crew->free_chunks;
    bool needed = chunk != NULL && crew->waiting > crew->offered;
    if (needed) {
        crew->free_chunks = chunk->next;
        memcpy(chunk->runs, stack->base, count * sizeof *stack->base);
        chunk->count = (uint32_t)count;
        chunk->next = crew->chunks;
        crew->chunks = chunk;
        __atomic_add_fetch(&crew->offered, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&crew->turn, 1, __ATOMIC_RELEASE);
    }
    gci_unlock(&crew->lock);
    if (!needed) return;
    memmove(stack->base, stack->base + count, (have - count) * sizeof *stack->base);
    stack->top -= count;
    gci_futex_wake(&crew->turn, 1);
}

/* The chunk's runs onto the empty stack.  With the lock held. */
static void take_chunk(struct gci_crew *crew, struct gci_mark_stack *stack) {
    struct gci_chunk *chunk = crew->chunks;
    crew->chunks = chunk->next;
    __atomic_sub_fetch(&crew->offered, 1, __ATOMIC_RELAXED);
    memcpy(stack->base, chunk->runs, chunk->count * sizeof *stack->base);
    stack->top = stack->base + chunk->count;
    chunk->next = crew->free_chunks;
    crew->free_chunks = chunk;
}

/* WAIT, and DONE.  An empty stack always has room for a chunk: its first segment is at least a
 * page, and stays. */
bool gci_crew_wait(struct gci_marker *marker) {
    struct gci_crew *crew = marker->crew;
    bool found = false;
    gci_lock_take(&crew->lock);
    while (crew->open && !found) {
        if (crew->chunks != NULL) {
            take_chunk(crew, &marker->stack);
            found = true;
            continue;
        }
        if (__atomic_add_fetch(&crew->waiting, 1, __ATOMIC_RELAXED) == crew->joined) {
            crew->open = false;
            __atomic_add_fetch(&crew->turn, 1, __ATOMIC_RELEASE);
            gci_futex_wake(&crew->turn, UINT32_MAX);
            continue;
        }
        uint32_t turn = __atomic_load_n(&crew->turn, __ATOMIC_RELAXED);
        gci_unlock(&crew->lock);
        wait_for(crew, marker, &crew->turn, turn);
        gci_lock_take(&crew->lock);
        __atomic_sub_fetch(&crew->waiting, 1, __ATOMIC_RELAXED);
    }
    gci_unlock(&crew->lock);
    return found;
}
