/* A collection, from top to bottom.  A minor one marks what is young and reached; a full one
 * first makes everything young, and then is the same (docs/collection.md).  A minor one may copy
 * typed objects (gc/evacuate.c), a full one move them and leaves afterwards (gc/compact.c).  Runs
 * with all other threads stopped, and never calls malloc. */
#include "gc/collect.h"

#include "gc/block.h"
#include "gc/census.h"
#include "gc/code.h"
#include "gc/compact.h"
#include "gc/crew.h"
#include "gc/ephemeron.h"
#include "gc/evacuate.h"
#include "gc/event.h"
#include "gc/explain.h"
#include "gc/finalize.h"
#include "gc/frames.h"
#include "gc/hooks.h"
#include "gc/keyed.h"
#include "gc/large.h"
#include "gc/leaks.h"
#include "gc/liveness.h"
#include "gc/mark.h"
#include "gc/missed.h"
#include "gc/pthreads.h"
#include "gc/quarantine.h"
#include "gc/remember.h"
#include "gc/settle.h"
#include "gc/slots.h"
#include "gc/stats.h"
#include "gc/thread.h"
#include "gc/verify.h"
#include "gc/watch.h"
#include "runtime/log.h"
#include "runtime/tls.h"
#include "runtime/vm.h"

#define STRETCH 128u  /* blocks that a member of the crew takes at a time: some 100 us */
#define LONG    512   /* words of roots that are worth a run of the mark stack */
#define MANY    4096u /* blocks, for which it pays to wake the crew */

/* ---- Roots ---------------------------------------------------------------------------------- */

static void visit_root(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    bool lasts = kind == GCI_ROOT_STATIC || kind == GCI_ROOT_RANGE || kind == GCI_ROOT_LAYER;
    if (lasts && end - start >= LONG && gci_mark_roots_later(context, (gci_words){start, end}))
        return;
    if (kind == GCI_ROOT_FINALIZER) /* like a field of its object */
        gci_mark_heap_words(context, (gci_words){start, end});
    else
        gci_mark_root_words(context, (gci_words){start, end});
}

static void visit_thread(
    struct gc_heap *heap, const struct gci_thread *thread, gci_root_visitor *visit, void *context) {
    const struct gci_mutator *m = &thread->mutator;
    if (m->vanished) return;
    bool precise = gci_stacks_are_precise(heap);
    if (!precise) gci_code_visit_thread(heap, thread, visit, context);
    gci_tls_visit(m->thread_pointer, precise ? 0 : m->stack.low, precise ? 0 : m->stack.high,
        &heap->static_roots, visit, context);
    visit(context, GCI_ROOT_RANGE, &thread->held, &thread->held + 1);
    visit(context, GCI_ROOT_RANGE, &thread->subject, &thread->subject + 1);
    visit(context, GCI_ROOT_RANGE, thread->kept, thread->kept + 2);
    visit(context, GCI_ROOT_RANGE, &thread->watched, &thread->watched + 1);
    visit(context, GCI_ROOT_RANGE, thread->aside, thread->aside + 2);
}

void gci_visit_roots(struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    gci_code_find_frames(heap);
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next)
        visit_thread(heap, (const struct gci_thread *)(const void *)m, visit, context);
    if (!gci_stacks_are_precise(heap)) gci_stacks_visit(&heap->world, visit, context);
    gci_pthreads_visit(visit, context);
    gci_static_roots_visit(&heap->static_roots, visit, context);
    for (size_t i = 0; i < heap->range_count; i++) {
        if (heap->ranges[i].precise) continue;
        uintptr_t start = (uintptr_t)heap->ranges[i].start, end = start + heap->ranges[i].bytes;
        start = (start + sizeof(uintptr_t) - 1) / sizeof(uintptr_t) * sizeof(uintptr_t);
        end = end / sizeof(uintptr_t) * sizeof(uintptr_t);
        if (start < end)
            visit(context, GCI_ROOT_RANGE, (const uintptr_t *)start, (const uintptr_t *)end);
    }
    if (heap->layer->visit_ranges != NULL) heap->layer->visit_ranges(visit, context);
    gci_watches_visit_data(heap, visit, context);
    gci_hooks_visit(heap, GC_ROOTS_AMBIGUOUS, visit, context);
}

/* ---- Before marking ------------------------------------------------------------------------- */

static void make_young(struct gc_heap *heap, uint32_t b) {
    struct gci_arena *arena = &heap->arena;
    uint8_t tag = arena->tags[b];
    if (gci_tag_use(tag) == GCI_USE_FREE) return;
    arena->tags[b] |= GCI_TAG_YOUNG;
    if (gci_tag_use(tag) == GCI_USE_LARGE) return;
    if (tag & GCI_TAG_UNSWEPT) gci_block_sweep(arena, b, heap->options.poison, NULL);
    if (arena->live[b] > 0) gci_block_unmark(arena, b);
}

/* A member's part: one stretch of blocks after another, until *CONTEXT, the next, is at the end. */
static void make_some_young(struct gci_marker *marker, void *context) {
    struct gc_heap *heap = marker->heap;
    uint32_t *next = context, frontier = heap->arena.frontier;
    for (;;) {
        uint32_t b = __atomic_fetch_add(next, STRETCH, __ATOMIC_RELAXED);
        if (b >= frontier) return;
        uint32_t end = frontier - b < STRETCH ? frontier : b + STRETCH;
        while (b < end) make_young(heap, b++);
    }
}

/* For a full collection: ends the sweep that is still owed, then makes every object young. */
static void make_all_young(struct gc_heap *heap) {
    uint32_t next = 0;
    if (heap->arena.frontier >= MANY && gci_crew_call(heap))
        gci_crew_run(heap, make_some_young, &next);
    else
        make_some_young(&heap->marker, &next);
    gci_large_unmark(heap);
}

/* Instead of marking: promotes everything young, dead or not (docs/policy.md, rule 6).  What old
 * objects refer to needn't be searched: nothing young is left. */
static void promote_all(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    gci_event_phase(heap, GC_PHASE_MARK);
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        enum gci_use use = gci_tag_use(tag);
        if (!(tag & GCI_TAG_YOUNG) || (use != GCI_USE_BUMP && use != GCI_USE_CELLS)) continue;
        uint32_t before = arena->live[b];
        heap->marker.marked_objects += gci_block_mark(arena, b);
        heap->marker.marked_granules += arena->live[b] - before;
    }
    gci_large_mark(heap);
}

/* Marks what is reached, or moves it.  Returns how much only roots hold, if the heap's marker
 * holds. */
static uint64_t mark(struct gc_heap *heap, struct gci_cycle *cycle) {
    if (cycle->kind == GC_MINOR) {
        gci_event_phase(heap, GC_PHASE_REMEMBERED);
        gci_remember_scan(heap);
    }
    gci_event_phase(heap, GC_PHASE_ROOTS);
    gci_visit_roots(heap, visit_root, &heap->marker);
    gci_slots_mark(heap);
    uint64_t by_roots = heap->marker.held_granules;
    cycle->roots_ns = gci_clock_ns();
    gci_event_phase(heap, GC_PHASE_MARK);
    gci_mark_drain(&heap->marker);
    return by_roots;
}

/* ---- The script ----------------------------------------------------------------------------- */

static void log_collection(const struct gc_heap *heap, const struct gci_cycle *cycle) {
    gci_log(
        "%s: %s; %spause %lu us (stop %lu, roots %lu, mark %lu, settle %lu); %lu KB, %lu KB live "
        "after; "
        "%lu dirty pages, %lu blocks open, %lu closed; marked %lu objects, %lu KB, moved %lu KB; "
        "nursery %lu KB, %s",
        cycle->kind == GC_FULL ? "full" : "minor", cycle->reason,
        cycle->wholesale ? "all promoted; " : "", (cycle->end_ns - cycle->start_ns) / 1000,
        (cycle->stopped_ns - cycle->start_ns) / 1000, (cycle->roots_ns - cycle->stopped_ns) / 1000,
        (cycle->marked_ns - cycle->roots_ns) / 1000, (cycle->end_ns - cycle->marked_ns) / 1000,
        cycle->before / 1024, heap->live_bytes / 1024, heap->dirty_now, heap->open_blocks,
        heap->closed_blocks, heap->marker.marked_objects,
        heap->marker.marked_granules * GC_GRANULE / 1024, heap->moved_now / 1024,
        gci_policy_nursery(heap) / 1024, heap->policy.generational ? "generational" : "full only");
}

static void begin_counts(struct gc_heap *heap, struct gci_cycle *cycle) {
    gci_threads_count(heap);
    cycle->allocated = heap->allocated_since;
    cycle->tenured = heap->tenured_since;
    cycle->before = heap->live_bytes + cycle->allocated;
    heap->marker.marked_granules = heap->marker.marked_objects = 0;
    heap->marker.held_granules = 0;
    heap->dirty_now = heap->moved_now = heap->recycled_now = 0;
    heap->shared_ns = heap->marker.put_off_ns = 0;
}

static void add_counts(struct gc_heap *heap, const struct gci_cycle *cycle) {
    if (cycle->kind == GC_MINOR) {
        uint64_t promoted = heap->marker.marked_granules * GC_GRANULE;
        heap->promoted_bytes += promoted;
        if (!cycle->wholesale) {
            heap->survived_last = promoted;
            heap->survived_of = cycle->allocated - cycle->tenured;
        }
        heap->moved_bytes += heap->moved_now;
    }
    heap->mark_ns += cycle->marked_ns - cycle->stopped_ns;
    if (cycle->compacted) heap->compaction.used_after = heap->small_bytes;
    heap->allocated_total += heap->allocated_since;
    heap->allocated_since = 0;
    heap->tenured_total += heap->tenured_since;
    heap->tenured_since = 0;
    heap->collections++;
}

/* The phases, with the world stopped. */
static void collect(struct gc_heap *heap, struct gci_cycle *cycle) {
    enum gc_collection kind = cycle->kind;
    uint64_t cpu_before = gci_thread_cpu_ns() + heap->crew->waited_ns;
    gci_event_phase(heap, GC_PHASE_PREPARE);
    begin_counts(heap, cycle);
    if (heap->layer->stopped != NULL) heap->layer->stopped(heap, kind);
    gci_threads_release_buffers(heap);

    gci_missed_stores_find(heap);
    bool counting = kind == GC_MINOR && gci_census_begin(heap);
    if (counting) cycle->census_ns = gci_clock_ns() - cycle->stopped_ns;
    if (kind == GC_FULL) {
        gci_event_phase(heap, GC_PHASE_MAKE_YOUNG);
        make_all_young(heap);
    }
    heap->marker.holding = kind == GC_FULL && (cycle->compact || gci_policy_holds(heap));
    cycle->wholesale = !counting && gci_policy_promotes_all(heap, cycle);
    gci_liveness_begin(heap, kind == GC_FULL);
    heap->marker.moving = kind == GC_MINOR && !cycle->wholesale && gci_evacuation_begin(heap);
    uint64_t by_roots = 0;
    cycle->roots_ns = gci_clock_ns();
    if (cycle->wholesale)
        promote_all(heap);
    else
        by_roots = mark(heap, cycle);
    gci_event_phase(heap, GC_PHASE_LIVENESS);
    gci_liveness(heap, kind == GC_FULL);
    cycle->marked_ns = gci_clock_ns();
    if (heap->marker.moving) gci_evacuation_end(heap);
    if (counting) {
        gci_census_end(heap);
        cycle->census_ns += gci_clock_ns() - cycle->marked_ns;
    }
    if (heap->options.verify) gci_event_phase(heap, GC_PHASE_VERIFY);
    if (heap->options.verify) gci_verify_marks(heap);
    if (heap->options.find_leaks != GC_LEAKS_OFF) gci_leaks_count(heap);
    if (heap->layer->marked != NULL) heap->layer->marked(heap, kind);
    gci_keyed_update(heap, kind == GC_FULL);
    if (heap->marker.holding) gci_event_phase(heap, GC_PHASE_COMPACT);
    if (heap->marker.holding) cycle->compacted = gci_compact(heap, cycle->compact, by_roots);
    if (heap->options.verify && cycle->compacted) gci_verify_marks(heap);
    gci_event_phase(heap, GC_PHASE_SETTLE);
    gci_settle_blocks(heap, kind);
    gci_quarantine_settle(heap);
    gci_event_phase(heap, GC_PHASE_CLOSE);
    gci_remember_close(heap);
    cycle->end_ns = gci_clock_ns();
    cycle->cpu_ns = gci_thread_cpu_ns() + heap->crew->waited_ns - cpu_before;

    gci_event_phase(heap, GC_PHASE_POLICY);
    add_counts(heap, cycle);
    if (heap->layer->settled != NULL) heap->layer->settled(heap, kind);
    gci_policy_update(heap, cycle);
    uint64_t pause_ns = gci_clock_ns() - cycle->start_ns;
    gci_histogram_add(kind == GC_FULL ? &heap->full_pauses : &heap->minor_pauses, pause_ns);
    if (cycle->compacted) heap->compaction.pause_ns = pause_ns;
    if (heap->options.log) log_collection(heap, cycle);
    if (heap->options.log && cycle->compacted) gci_compact_log(heap);
    if (heap->options.verify) gci_event_phase(heap, GC_PHASE_VERIFY);
    if (heap->options.verify && gci_verify_heap(heap) > 0)
        gci_fatal("the heap is broken after a %s collection", kind == GC_FULL ? "full" : "minor");
}

/* ---- With the world stopped ----------------------------------------------------------------- */

struct stopped_call {
    struct gci_thread *thread;
    bool (*wanted)(struct gc_heap *heap, void *context); /* looked at with the lock held */
    void (*function)(struct gc_heap *heap, void *context);
    void (*after)(struct gc_heap *heap, void *context); /* the threads go on, the lock is held */
    void *context;
    int error;
};

/* With the loader's lock held, and the thread BLOCKING. */
static void stop_and_call(void *context) {
    struct stopped_call *call = context;
    struct gci_thread *thread = call->thread;
    struct gc_heap *heap = thread->heap;
    gci_lock_take(&heap->world.lock);
    gci_unblock_locked(&thread->mutator);
    call->error = gci_static_roots_refresh(&heap->static_roots);
    if (call->error == 0 && (call->wanted == NULL || call->wanted(heap, call->context))) {
        gci_threads_stop(heap, thread);
        call->function(heap, call->context);
        gci_threads_start(heap, thread);
        if (call->after != NULL) call->after(heap, call->context);
    }
    gci_world_unlock(&heap->world);
}

/* A thread that takes the loader's lock, or what takes as long, counts as stopped from here: it must
 * not be waited for, nor its locks taken when it forks; and libunwind blocks signals by itself. */
struct aside {
    uint64_t signals;
    int cancel;
};

static struct aside step_aside(struct gci_thread *thread) {
    struct aside before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before.cancel);
    before.signals = gci_signals_block();
    gci_world_enter(&thread->heap->world, &thread->mutator);
    gci_block(&thread->mutator);
    return before;
}

/* It is RUNNING again. */
static void step_back(struct gci_thread *thread, struct aside before) {
    gci_world_exit(&thread->heap->world);
    gci_signals_restore(before.signals);
    pthread_setcancelstate(before.cancel, NULL);
}

static int call_stopped(struct stopped_call *call) {
    struct gci_thread *thread = call->thread;
    struct aside before = step_aside(thread);
    gci_crew_hire(thread->heap);
    gci_with_loader_lock(stop_and_call, call);
    step_back(thread, before);
    gci_mutator_rest(&thread->mutator); /* if it was suspended meanwhile */
    return call->error;
}

int gci_with_world_stopped(struct gci_thread *thread,
    void (*function)(struct gc_heap *heap, void *context), void *context) {
    struct stopped_call call = {thread, NULL, function, NULL, context, 0};
    return call_stopped(&call);
}

void gci_aside(struct gci_thread *thread, void (*function)(void *context), void *context) {
    if (thread == NULL) {
        function(context);
        return;
    }
    struct aside before = step_aside(thread);
    function(context);
    gci_unblock(&thread->mutator);
    step_back(thread, before);
}

/* ---- Collecting ----------------------------------------------------------------------------- */

struct wish {
    struct gci_cycle cycle;
    uint64_t seen;
    bool refused;
    gc_event event; /* of its end, for listeners; all zero if there are none */
};

static bool is_refused(const struct gc_heap *heap) {
    const int *veto = heap->layer->veto;
    return __atomic_load_n(&heap->disabled, __ATOMIC_RELAXED) > 0 ||
           (veto != NULL && __atomic_load_n(veto, __ATOMIC_RELAXED) != 0);
}

static bool is_wanted(struct gc_heap *heap, void *context) {
    struct wish *wish = context;
    wish->refused = is_refused(heap);
    if (wish->refused) return false;
    if (wish->seen != GCI_ALWAYS && wish->seen != heap->collections) return false;
    if (heap->layer->full_only != NULL && heap->layer->full_only()) wish->cycle.kind = GC_FULL;
    wish->cycle.start_ns = gci_clock_ns();
    gci_event_collection(heap, &wish->cycle);
    if (heap->layer->begins != NULL) heap->layer->begins(heap, wish->cycle.kind);
    return true;
}

static void collect_as_wished(struct gc_heap *heap, void *context) {
    struct gci_cycle *cycle = &((struct wish *)context)->cycle;
    cycle->stopped_ns = gci_clock_ns();
    gci_histogram_add(&heap->stops, cycle->stopped_ns - cycle->start_ns);
    collect(heap, cycle);
    gci_event_phase(heap, GC_PHASE_START);
}

static void note_end(struct gc_heap *heap, void *context) {
    struct wish *wish = context;
    gci_event_collected(heap, &wish->cycle, &wish->event);
    if (heap->layer->ended != NULL) heap->layer->ended(heap, wish->cycle.kind);
}

static struct wish new_wish(enum gc_collection kind, const char *reason, uint64_t seen) {
    return (struct wish){.cycle = {.kind = kind == GC_MINOR ? GC_MINOR : GC_FULL,
                             .asked = seen == GCI_ALWAYS,
                             .compact = kind == GC_COMPACT,
                             .reason = reason},
        .seen = seen};
}

/* With the world running, and no lock. */
static void tell_collected(struct gci_thread *thread, const struct wish *wish) {
    gci_event_tell_collected(thread, &wish->event);
    gci_finalizers_announce(thread);
}

bool gci_collect(
    struct gci_thread *thread, enum gc_collection kind, const char *reason, uint64_t seen) {
    if (is_refused(thread->heap)) return false;
    struct wish wish = new_wish(kind, reason, seen);
    struct stopped_call call = {thread, is_wanted, collect_as_wished, note_end, &wish, 0};
    if (call_stopped(&call) != 0 || wish.refused) return false;
    tell_collected(thread, &wish);
    return true;
}

/* A collection, unless collection is disabled, and then FUNCTION. */
struct collected_call {
    struct wish wish;
    void (*function)(struct gc_heap *heap, void *context);
    void *context;
};

/* The collection may be refused; the call goes on. */
static bool begin_call(struct gc_heap *heap, void *context) {
    is_wanted(heap, &((struct collected_call *)context)->wish);
    return true;
}

static void collect_and_call(struct gc_heap *heap, void *context) {
    struct collected_call *call = context;
    if (!call->wish.refused) collect_as_wished(heap, &call->wish);
    call->function(heap, call->context);
}

static void note_end_of_call(struct gc_heap *heap, void *context) {
    struct collected_call *call = context;
    if (!call->wish.refused) note_end(heap, &call->wish);
}

int gci_with_world_collected(struct gci_thread *thread, const char *reason,
    void (*function)(struct gc_heap *heap, void *context), void *context) {
    struct collected_call collected = {new_wish(GC_FULL, reason, GCI_ALWAYS), function, context};
    struct stopped_call call = {
        thread, begin_call, collect_and_call, note_end_of_call, &collected, 0};
    int error = call_stopped(&call);
    if (error == 0 && !collected.wish.refused) tell_collected(thread, &collected.wish);
    return error;
}

void gci_collect_stress(struct gci_thread *thread) {
    const struct gc_heap *heap = thread->heap;
    bool full = heap->collections % 8 == 7,
         compact = gci_may_move(heap) && heap->collections % 16 == 15;
    gci_collect(thread, compact ? GC_COMPACT : full ? GC_FULL : GC_MINOR, "stress", GCI_ALWAYS);
}
