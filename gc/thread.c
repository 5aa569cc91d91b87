/* Threads of a heap: their records, and their open buffers when the world stops.  Owns the records,
 * which are never given back to the system: an idle one keeps the blocks that its last thread
 * allocated into, and the next thread goes on there.  Rules: docs/threads.md. */
#define _GNU_SOURCE
#include "gc/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "gc/allocate.h"
#include "gc/block.h"
#include "gc/code.h"
#include "gc/event.h"
#include "gc/hooks.h"
#include "runtime/vm.h"

#define SLOTS       16u /* records made at a time */
#define LAST_ENDING 3u  /* destructors run up to PTHREAD_DESTRUCTOR_ITERATIONS (4) times */

/* ---- Counting ------------------------------------------------------------------------------- */

void gci_thread_count(struct gci_thread *thread) {
    thread->heap->allocated_since += thread->allocated;
    __atomic_store_n(&thread->allocated, 0, __ATOMIC_RELAXED);
    thread->heap->tenured_since += thread->tenured;
    __atomic_store_n(&thread->tenured, 0, __ATOMIC_RELAXED);
}

static struct gci_thread *first_of(const struct gc_heap *heap) {
    return (struct gci_thread *)(void *)heap->world.first;
}

static struct gci_thread *next_of(const struct gci_thread *thread) {
    return (struct gci_thread *)(void *)thread->mutator.next;
}

void gci_threads_count(struct gc_heap *heap) {
    for (struct gci_thread *t = first_of(heap); t != NULL; t = next_of(t)) gci_thread_count(t);
}

/* ---- Locks and signals ---------------------------------------------------------------------- */

void gci_heap_lock(struct gc_heap *heap) {
    gci_world_lock(&heap->world, gci_self);
}

void gci_heap_unlock(struct gc_heap *heap) {
    gci_world_unlock(&heap->world);
}

uint64_t gci_stop_count(void) {
    return gci_self != NULL ? gci_self->stops : 0;
}

/* ---- Records -------------------------------------------------------------------------------- */

static void set_buffers(struct gci_thread *thread, struct gc_thread_buffers *buffers) {
    thread->buffers = buffers;
    thread->bump[GCI_AMBIGUOUS].buffer = &buffers->ambiguous;
    thread->bump[GCI_LEAF].buffer = &buffers->leaf;
    thread->bump[GCI_TYPED].buffer = &buffers->typed;
    for (unsigned i = 0; i < GC_HOT_TYPES; i++)
        thread->bump[GCI_KINDS + i].buffer = &buffers->hot[i];
    thread->bump[GCI_BY_TAG_BUFFER].buffer = &buffers->by_tag;
    thread->bump[GCI_APART_BUFFER].buffer = &buffers->apart;
}

static void add_idle(struct gc_heap *heap, struct gci_thread *thread) {
    thread->next_idle = heap->idle;
    heap->idle = thread;
}

/* Records are large, and most of them are never needed: memory is behind them from their first
 * thread on. */
static void make_ready(struct gci_thread *thread) {
    for (unsigned k = 0; k < GCI_KINDS; k++) thread->old[k].buffer = &thread->old_buffers[k];
    set_buffers(thread, &thread->idle);
    gci_retire_buffers(thread);
    thread->ready = true;
}

static bool make_records(struct gc_heap *heap) {
    size_t bytes = gci_whole_pages(SLOTS * sizeof(struct gci_thread));
    struct gci_thread *fresh = gci_vm_map(bytes);
    if (fresh == NULL) return false;
    for (unsigned i = SLOTS; i-- > 0;) {
        fresh[i].heap = heap;
        add_idle(heap, &fresh[i]);
    }
    heap->thread_slots += SLOTS;
    return true;
}

/* The lock is held. */
static struct gci_thread *take_record(struct gc_heap *heap, const struct gci_mutator *mutator) {
    if (heap->idle == NULL && !make_records(heap)) return NULL;
    struct gci_thread *thread = heap->idle;
    heap->idle = thread->next_idle;
    if (!thread->ready) make_ready(thread);
    thread->mutator = *mutator;
    thread->held = thread->subject = thread->kept[0] = thread->kept[1] = 0;
    thread->watched = thread->aside[0] = thread->aside[1] = 0;
    thread->announcing = false;
    thread->endings = 0;
    thread->known_count = 0;
    thread->keeps_frames = false;
    struct gc_thread_buffers *mine = &gc_buffers;
    __asm__("" : "+r"(mine));               /* gcc's UndefinedBehaviorSanitizer takes it for NULL */
    struct gc_frame *frames = mine->frames; /* of functions that go on */
    *mine = thread->idle;
    mine->frames = frames;
    mine->side = heap->arena.side - heap->arena.base / GC_GRANULE;
    mine->cards = gci_barrier_cards(heap->barrier);
    set_buffers(thread, mine);
    return thread;
}

/* The lock is held, and the record off the world's list.  CURRENT: its thread is the calling
 * one. */
static void give_record(struct gci_thread *thread, bool current) {
    gci_thread_count(thread);
    thread->idle = current ? gc_buffers : (struct gc_thread_buffers){.side = NULL};
    thread->idle.stop = 0;
    thread->idle.frames = NULL;
    thread->held = 0;
    gci_hooks_forget(thread);
    set_buffers(thread, &thread->idle);
    add_idle(thread->heap, thread);
}

/* ---- Attaching and detaching ---------------------------------------------------------------- */

/* The calling thread was detached by its end. */
static __thread bool ended __attribute__((tls_model("initial-exec")));

/* A thread that ends between gc_blocking_begin() and _end(), by cancellation for instance. */
static void end_blocking(struct gci_mutator *mutator) {
    if (mutator->blocking == 0) return;
    gci_unblock(mutator);
    gci_code_drop_frames((struct gci_thread *)(void *)mutator);
    __atomic_store_n(&mutator->blocking, 0, __ATOMIC_RELAXED);
}

/* The destructor of the thread's key.  Other destructors may still allocate: it asks to be called
 * again until no more is promised. */
static void on_ending(void *value) {
    struct gci_thread *thread = value;
    if (thread != gci_thread_self()) return;
    end_blocking(&thread->mutator);
    gc_buffers.frames = NULL; /* their stack has been unwound */
    if (++thread->endings < LAST_ENDING && pthread_setspecific(thread->heap->ending, thread) == 0)
        return;
    gci_thread_detach();
    ended = true;
}

int gci_threads_open(struct gc_heap *heap) {
    return pthread_key_create(&heap->ending, on_ending);
}

static void unblock_signal(int number) {
    sigset_t set;
    if (number == 0) return;
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int gci_thread_attach(struct gc_heap *heap, const void *frame) {
    if (gci_self != NULL) return EALREADY;
    if (ended) return EBUSY;
    int saved_errno = errno, cancel;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    struct gci_mutator mutator;
    int error = gci_mutator_init(&mutator, &heap->world, &gc_buffers.stop);
    if (error == 0) {
        gci_enter(&mutator, frame);
        gci_world_lock(&heap->world, NULL);
        struct gci_thread *thread = take_record(heap, &mutator);
        if (thread != NULL) {
            gci_world_add(&heap->world, &thread->mutator);
            gci_self = &thread->mutator;
        }
        gci_world_unlock(&heap->world);
        /* May call malloc, whose lock a stopped thread may hold: not inside the library. */
        if (thread != NULL) gci_leave(&thread->mutator);
        error = thread == NULL ? ENOMEM : pthread_setspecific(heap->ending, thread);
        if (thread != NULL && error != 0) gci_thread_detach();
    }
    if (error == 0) unblock_signal(heap->world.signal);
    if (error == 0) gci_event_attached(heap);
    pthread_setcancelstate(cancel, NULL);
    errno = saved_errno;
    return error;
}

/* The signal may still come: it finds no gci_self. */
int gci_thread_detach(void) {
    struct gci_thread *thread = gci_thread_self();
    if (thread == NULL) return ESRCH;
    struct gc_heap *heap = thread->heap;
    struct gci_mutator *mutator = &thread->mutator;
    gci_enter(mutator, __builtin_frame_address(0));
    mutator->leaves = true;
    end_blocking(mutator);
    pthread_setspecific(heap->ending, NULL);
    gci_world_lock(&heap->world, mutator);
    gci_world_remove(&heap->world, mutator);
    gci_self = NULL;
    give_record(thread, true);
    gc_buffers = (struct gc_thread_buffers){.frames = gc_buffers.frames};
    gci_world_unlock(&heap->world);
    gci_event_detached(heap);
    return 0;
}

/* ---- Buffers of stopped threads ------------------------------------------------------------- */

/* SEAL: an inline allocation that was stopped after it wrote END and before START has moved the
 * cursor already, so its END is the first edge from there up.  It is put away. */
static void seal(struct gci_thread *thread, unsigned b) {
    const struct gci_arena *arena = &thread->heap->arena;
    const struct gci_bump *bump = &thread->bump[b];
    thread->torn[b] = NULL;
    if (!thread->mutator.interruption.valid || bump->buffer->limit == 0) return;
    size_t at = gci_address_granule(arena, bump->buffer->cursor);
    size_t block_end =
        gci_block_granule(gci_block_of(gci_address_granule(arena, bump->hole_start)) + 1);
    size_t end =
        at + GC_SMALL_MAX / GC_GRANULE < block_end ? at + GC_SMALL_MAX / GC_GRANULE : block_end;
    while (at < end && arena->side[at] == 0) at++;
    if (at == end || arena->side[at] & GCI_SIDE_START) return; /* nothing written, or whole */
    thread->torn[b] = &arena->side[at];
    arena->side[at] = 0;
}

static void unseal(struct gci_thread *thread, unsigned b) {
    if (thread->torn[b] != NULL) *thread->torn[b] = GCI_SIDE_END;
    thread->torn[b] = NULL;
}

void gci_threads_stop(struct gc_heap *heap, struct gci_thread *self) {
    gci_world_stop(&heap->world, self != NULL ? &self->mutator : NULL);
    for (struct gci_thread *t = first_of(heap); t != NULL; t = next_of(t))
        for (unsigned b = 0; b < GCI_BUFFERS; b++) seal(t, b);
}

void gci_threads_start(struct gc_heap *heap, struct gci_thread *self) {
    for (struct gci_thread *t = first_of(heap); t != NULL; t = next_of(t))
        for (unsigned b = 0; b < GCI_BUFFERS; b++) unseal(t, b);
    gci_world_start(&heap->world, self != NULL ? &self->mutator : NULL);
}

/* Of a thread that was stopped by the signal only its inline buffers can be in use: their blocks
 * stay with it.  A buffer may be a hole that gc_free() made in another block. */
static void keep_buffers(struct gci_thread *thread) {
    struct gc_heap *heap = thread->heap;
    struct gci_bump kept[GCI_BUFFERS];
    struct gc_buffer buffer[GCI_BUFFERS];
    for (unsigned b = 0; b < GCI_BUFFERS; b++) {
        kept[b] = thread->bump[b];
        buffer[b] = *thread->bump[b].buffer;
    }
    gci_retire_buffers(thread);
    for (unsigned b = 0; b < GCI_BUFFERS; b++) {
        if (buffer[b].limit == 0) continue;
        struct gci_bump *bump = &thread->bump[b];
        uint32_t block = gci_block_of(gci_address_granule(&heap->arena, kept[b].hole_start));
        heap->arena.blocks[block].list = GCI_KEPT_LIST;
        *bump = kept[b];
        *bump->buffer = buffer[b];
        bump->overflow = (struct gc_buffer){0, 0};
        bump->freed_count = 0;
        if (bump->block != block) bump->block = GCI_NONE;
    }
}

void gci_threads_release_buffers(struct gc_heap *heap) {
    for (struct gci_thread *t = first_of(heap); t != NULL; t = next_of(t)) {
        if (t->mutator.interruption.valid)
            keep_buffers(t);
        else
            gci_retire_buffers(t);
    }
    for (struct gci_thread *t = heap->idle; t != NULL; t = t->next_idle)
        if (t->ready) gci_retire_buffers(t);
}

/* ---- After fork ----------------------------------------------------------------------------- */

/* The block of the hole that begins at START, if there is one. */
static void repair_hole(struct gc_heap *heap, uintptr_t start) {
    if (start != 0)
        gci_block_repair(&heap->arena, gci_block_of(gci_address_granule(&heap->arena, start)));
}

/* Ends without a start are what an allocation left half done. */
static void drop(void *context, struct gci_mutator *mutator) {
    struct gc_heap *heap = context;
    struct gci_thread *thread = (struct gci_thread *)(void *)mutator;
    for (unsigned b = 0; b < GCI_BUFFERS; b++) {
        repair_hole(heap, thread->bump[b].hole_start);
        repair_hole(heap, thread->bump[b].overflow.limit);
    }
    for (unsigned kind = 0; kind < GCI_KINDS; kind++) {
        repair_hole(heap, thread->old[kind].hole_start);
        repair_hole(heap, thread->old[kind].overflow.limit);
        for (unsigned c = 0; c < GCI_CLASSES; c++) {
            uint32_t block = thread->cells[kind][c].block;
            if (block != GCI_NONE) gci_block_repair(&heap->arena, block);
        }
    }
    gci_retire_buffers(thread);
    give_record(thread, false);
}

void gci_threads_after_fork(struct gc_heap *heap, struct gci_thread *self) {
    gci_world_after_fork(&heap->world, self != NULL ? &self->mutator : NULL, drop, heap);
}
