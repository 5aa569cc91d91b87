/* Events.  Owns struct gci_events: the list of listeners and what the running collection is.
 * Invariants: WANTED is the number of listeners, and one more while there is a timeline; a listener's
 * functions run only between gc_add_listener() and gc_remove_listener().  Called where something
 * happens; the public functions are here, too, entered and left as those in gc/api.c are
 * (docs/tracing.md, rules 1 to 6). */
#define GC_NO_INLINE
#include "gc/event.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "gc/api.h"
#include "gc/arena.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "gc/timeline.h"
#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/probe.h"
#include "runtime/vm.h"

__thread bool gci_listening __attribute__((tls_model("initial-exec")));

const char *gc_phase_name(enum gc_phase phase) {
    static const char *const names[] = {"stop", "prepare", "make young", "remembered set", "roots",
        "mark", "liveness", "compact", "settle", "close", "policy", "verify", "start"};
    _Static_assert(sizeof names / sizeof *names == GC_PHASES, "a name each");
    return (unsigned)phase < GC_PHASES ? names[phase] : "?";
}

void gci_event_refuse(void) {
    gci_fatal("a listener calls a function that may touch the heap: it may only look at the event");
}

/* ---- Telling -------------------------------------------------------------------------------- */

static gc_event_function *function_of(const gc_listener *listener, enum gci_event_name name) {
    switch (name) {
    case GCI_COLLECTION_BEGIN:
        return listener->collection_begin;
    case GCI_PHASE_BEGIN:
        return listener->phase_begin;
    case GCI_PHASE_END:
        return listener->phase_end;
    case GCI_HEAP_GROWN:
        return listener->heap_grown;
    case GCI_HEAP_RETURNED:
        return listener->heap_returned;
    case GCI_COLLECTION_END:
        return listener->collection_end;
    case GCI_OUT_OF_MEMORY:
        return listener->out_of_memory;
    case GCI_THREAD_ATTACHED:
        return listener->thread_attached;
    case GCI_THREAD_DETACHED:
        return listener->thread_detached;
    }
    return NULL;
}

static bool is_wanted(const struct gc_heap *heap) {
    return __builtin_expect(__atomic_load_n(&heap->events.wanted, __ATOMIC_RELAXED) != 0, 0);
}

static void call(const gc_listener *const *listeners, uint32_t count, enum gci_event_name name,
    const gc_event *event) {
    bool before = gci_listening; /* memory may go back while an allocation fails */
    gci_listening = true;
    for (uint32_t i = 0; i < count; i++) {
        gc_event_function *function = function_of(listeners[i], name);
        if (function != NULL) function(event, listeners[i]->data);
    }
    gci_listening = before;
}

static void add_to_timeline(
    const struct gc_heap *heap, enum gci_event_name name, const gc_event *event) {
    struct gci_timeline *timeline = __atomic_load_n(&heap->events.timeline, __ATOMIC_ACQUIRE);
    if (timeline != NULL) gci_timeline_add(timeline, name, event);
}

/* The lock is held. */
static void tell(struct gc_heap *heap, enum gci_event_name name, const gc_event *event) {
    add_to_timeline(heap, name, event);
    call(heap->events.listeners, heap->events.count, name, event);
}

/* Without the lock, the thread being inside the library or not attached: calls what may be stopped,
 * as the program itself would. */
static void tell_running(struct gc_heap *heap, enum gci_event_name name, const gc_event *event) {
    struct gci_events *events = &heap->events;
    const gc_listener *listeners[GCI_LISTENERS];
    struct gci_mutator *self = gci_self;
    gci_heap_lock(heap);
    uint32_t count = events->count;
    memcpy(listeners, events->listeners, sizeof listeners);
    if (count > 0) __atomic_add_fetch(&events->calling, 1, __ATOMIC_RELAXED);
    gci_heap_unlock(heap);
    if (count == 0) return;
    int cancel;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    uintptr_t frame = self != NULL ? self->scan_from : 0;
    if (self != NULL) gci_leave(self);
    call(listeners, count, name, event);
    if (self != NULL) gci_enter(self, (const void *)frame);
    pthread_setcancelstate(cancel, NULL);
    __atomic_sub_fetch(&events->calling, 1, __ATOMIC_RELEASE);
}

/* For what waits, or takes long: into BLOCKING, if the thread has a mutator, and out of it, while
 * the program's signal handlers wait. */
static uint64_t begin_waiting(void) {
    uint64_t signals = gci_signals_block();
    if (gci_self != NULL) gci_block(gci_self);
    return signals;
}

static void end_waiting(uint64_t signals) {
    if (gci_self != NULL) gci_unblock(gci_self);
    gci_signals_restore(signals);
}

static void write_timeline(const struct gc_heap *heap) {
    struct gci_timeline *timeline = __atomic_load_n(&heap->events.timeline, __ATOMIC_ACQUIRE);
    if (timeline == NULL) return;
    uint64_t signals = begin_waiting();
    gci_timeline_flush(timeline);
    end_waiting(signals);
}

/* What all events have. */
static gc_event event_now(const struct gc_heap *heap) {
    const struct gci_events *events = &heap->events;
    return (gc_event){.ns = gci_clock_ns(),
        .thread = gci_thread_id(),
        .collection = events->number,
        .kind = events->number > 0 ? events->kind : 0,
        .reason = events->number > 0 ? events->reason : NULL};
}

/* The lock is held. */
static void add_sizes(const struct gc_heap *heap, gc_event *event) {
    event->heap_bytes = gci_arena_taken_bytes(&heap->arena);
    event->resident_bytes = (uint64_t)heap->arena.resident_blocks << GCI_BLOCK_SHIFT;
}

/* ---- Collections ---------------------------------------------------------------------------- */

/* Live after the last collection, or allocated since. */
static uint64_t bytes_now(const struct gc_heap *heap) {
    uint64_t bytes = heap->live_bytes + heap->allocated_since;
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next)
        bytes += __atomic_load_n(
            &((const struct gci_thread *)(const void *)m)->allocated, __ATOMIC_RELAXED);
    return bytes;
}

void gci_event_collection(struct gc_heap *heap, const struct gci_cycle *cycle) {
    struct gci_events *events = &heap->events;
    events->number = heap->collections + 1;
    events->kind = cycle->compact ? GC_COMPACT : cycle->kind;
    events->reason = cycle->reason;
    events->start_ns = cycle->start_ns;
    events->before = bytes_now(heap);
    GCI_PROBE(collection__begin, events->number, events->kind, events->reason, events->before);
    if (is_wanted(heap)) {
        gc_event event = event_now(heap);
        event.ns = cycle->start_ns;
        event.bytes_before = events->before;
        add_sizes(heap, &event);
        tell(heap, GCI_COLLECTION_BEGIN, &event);
    }
    events->phase = GC_PHASE_STOP;
    GCI_PROBE(phase__begin, GC_PHASE_STOP, events->number, gc_phase_name(GC_PHASE_STOP));
    if (is_wanted(heap)) {
        gc_event event = event_now(heap); /* later than the collection's, so that they nest */
        event.phase = GC_PHASE_STOP;
        tell(heap, GCI_PHASE_BEGIN, &event);
    }
}

void gci_event_phase(struct gc_heap *heap, enum gc_phase phase) {
    struct gci_events *events = &heap->events;
    enum gc_phase before = (enum gc_phase)events->phase;
    gc_event event = {0};
    if (is_wanted(heap)) {
        event = event_now(heap);
        event.phase = before;
    }
    if (before != GC_PHASES) {
        GCI_PROBE(phase__end, before, events->number, gc_phase_name(before));
        if (event.ns != 0) tell(heap, GCI_PHASE_END, &event);
    }
    events->phase = phase;
    if (phase != GC_PHASES) {
        GCI_PROBE(phase__begin, phase, events->number, gc_phase_name(phase));
        event.phase = phase;
        if (event.ns != 0) tell(heap, GCI_PHASE_BEGIN, &event);
    }
}

void gci_event_collected(struct gc_heap *heap, const struct gci_cycle *cycle, gc_event *event) {
    struct gci_events *events = &heap->events;
    const struct gci_marker *marker = &heap->marker;
    gci_event_phase(heap, GC_PHASES);
    *event = (gc_event){0};
    GCI_PROBE(collection__end, events->number, events->kind, events->before, heap->live_bytes,
        marker->marked_objects, heap->moved_now);
    if (is_wanted(heap)) {
        *event = event_now(heap);
        event->pause_ns = event->ns - events->start_ns;
        event->compacted = cycle->compacted;
        event->promoted_all = cycle->wholesale;
        event->bytes_before = events->before;
        event->bytes_after = heap->live_bytes;
        event->nursery_bytes = gci_policy_nursery(heap);
        event->marked_objects = marker->marked_objects;
        event->marked_bytes = marker->marked_granules * GC_GRANULE;
        event->moved_bytes = heap->moved_now;
        event->dirty_pages = heap->dirty_now;
        add_sizes(heap, event);
        add_to_timeline(heap, GCI_COLLECTION_END, event);
    }
    events->number = 0;
}

void gci_event_tell_collected(struct gci_thread *thread, const gc_event *event) {
    if (event->ns == 0) return;
    write_timeline(thread->heap);
    tell_running(thread->heap, GCI_COLLECTION_END, event);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void tell_of_memory(struct gc_heap *heap, enum gci_event_name name, uint64_t bytes) {
    if (heap == NULL || !is_wanted(heap)) return;
    gc_event event = event_now(heap);
    event.bytes = bytes;
    add_sizes(heap, &event);
    tell(heap, name, &event);
}

void gci_event_grown(struct gc_heap *heap, uint64_t bytes) {
    GCI_PROBE(heap__grow, bytes);
    tell_of_memory(heap, GCI_HEAP_GROWN, bytes);
}

void gci_event_returned(struct gc_heap *heap, uint64_t bytes) {
    GCI_PROBE(heap__return, bytes);
    tell_of_memory(heap, GCI_HEAP_RETURNED, bytes);
}

void gci_event_out_of_memory(struct gci_thread *thread, uint64_t bytes) {
    GCI_PROBE(out__of__memory, bytes);
    if (!is_wanted(thread->heap)) return;
    gc_event event = {.ns = gci_clock_ns(), .thread = gci_thread_id(), .bytes = bytes};
    add_to_timeline(thread->heap, GCI_OUT_OF_MEMORY, &event);
    write_timeline(thread->heap);
    tell_running(thread->heap, GCI_OUT_OF_MEMORY, &event);
}

/* ---- Threads -------------------------------------------------------------------------------- */

static void tell_of_thread(struct gc_heap *heap, enum gci_event_name name) {
    gc_event event = {.ns = gci_clock_ns(), .thread = gci_thread_id()};
    volatile uintptr_t lowest = 0; /* below the registers that this function saves */
    __builtin_unwind_init();
    if (gci_self != NULL) gci_enter(gci_self, (const void *)&lowest);
    add_to_timeline(heap, name, &event);
    tell_running(heap, name, &event);
    if (gci_self != NULL) gci_leave(gci_self);
}

void gci_event_attached(struct gc_heap *heap) {
    GCI_PROBE(thread__attach, __atomic_load_n(&heap->world.count, __ATOMIC_RELAXED));
    if (is_wanted(heap)) tell_of_thread(heap, GCI_THREAD_ATTACHED);
}

void gci_event_detached(struct gc_heap *heap) {
    GCI_PROBE(thread__detach, __atomic_load_n(&heap->world.count, __ATOMIC_RELAXED));
    if (is_wanted(heap)) tell_of_thread(heap, GCI_THREAD_DETACHED);
}

/* ---- Fork ----------------------------------------------------------------------------------- */

/* Of the threads that were in listeners' functions only this one is left. */
void gci_events_after_fork(struct gc_heap *heap) {
    heap->events.calling = gci_listening ? 1 : 0;
    gci_timeline_after_fork(heap);
}

/* ---- Public functions ----------------------------------------------------------------------- */

int gci_entry_add_listener(
    const gc_listener *listener, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_remove_listener(
    const gc_listener *listener, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_trace_start(const char *path, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_trace_stop(size_t a, size_t b, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_add_listener, gci_entry_add_listener);
GCI_ENTRY(gc_remove_listener, gci_entry_remove_listener);
GCI_ENTRY(gc_trace_start, gci_entry_trace_start);
GCI_ENTRY(gc_trace_stop, gci_entry_trace_stop);

static int add(struct gci_events *events, const gc_listener *listener) {
    for (uint32_t i = 0; i < events->count; i++)
        if (events->listeners[i] == listener) return EEXIST;
    if (events->count == GCI_LISTENERS) return ENOSPC;
    events->listeners[events->count++] = listener;
    __atomic_add_fetch(&events->wanted, 1, __ATOMIC_RELAXED);
    return 0;
}

static int take_out(struct gci_events *events, const gc_listener *listener) {
    uint32_t i = 0;
    while (i < events->count && events->listeners[i] != listener) i++;
    if (i == events->count) return ENOENT;
    events->count--;
    memmove(events->listeners + i, events->listeners + i + 1,
        (events->count - i) * sizeof *events->listeners);
    __atomic_sub_fetch(&events->wanted, 1, __ATOMIC_RELAXED);
    return 0;
}

int gci_entry_add_listener(
    const gc_listener *listener, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (listener == NULL || listener->size < sizeof *listener) return EINVAL;
    int error = gci_need_heap(frame);
    if (error != 0) return error;
    struct gc_heap *heap = gci_default_heap();
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(heap);
    error = add(&heap->events, listener);
    gci_heap_unlock(heap);
    return gci_api_leave_if_attached(thread, error);
}

int gci_entry_remove_listener(
    const gc_listener *listener, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gc_heap *heap = gci_default_heap();
    if (heap == NULL) return ENOENT;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(heap);
    int error = take_out(&heap->events, listener);
    gci_heap_unlock(heap);
    uint64_t signals = begin_waiting();
    while (error == 0 && __atomic_load_n(&heap->events.calling, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
    end_waiting(signals);
    return gci_api_leave_if_attached(thread, error);
}

/* The program's signal handlers wait while a thread is BLOCKING inside the library. */
int gci_entry_trace_start(const char *path, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    int error = gci_need_heap(frame);
    if (error != 0) return error;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    uint64_t signals = gci_signals_block();
    error = gci_timeline_start(gci_default_heap(), path);
    gci_signals_restore(signals);
    return gci_api_leave_if_attached(thread, error);
}

int gci_entry_trace_stop(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    if (gci_default_heap() == NULL) return ENOENT;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    uint64_t signals = begin_waiting();
    int error = gci_timeline_stop(gci_default_heap());
    end_waiting(signals);
    return gci_api_leave_if_attached(thread, error);
}
