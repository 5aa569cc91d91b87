/* Statistics.  Pauses go into a histogram with 16 buckets an octave, so a percentile is right to
 * within 1/16 and costs no memory that grows.  Written by the collector, read by gc_get_stats(). */
#include "gc/collect.h"
#include "gc/stats.h"

#include "gc/arena.h"
#include "gc/crew.h"
#include "gc/watch.h"

#define SUB_SHIFT 4u
#define SUBS      (1u << SUB_SHIFT)

static unsigned bucket_of(uint64_t ns) {
    if (ns < SUBS) return (unsigned)ns;
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
    unsigned bucket =
        (octave - SUB_SHIFT + 1) * SUBS + (unsigned)(ns >> (octave - SUB_SHIFT)) % SUBS;
    return bucket < GCI_HISTOGRAM_BUCKETS ? bucket : GCI_HISTOGRAM_BUCKETS - 1;
}

/* The largest value that falls into BUCKET. */
static uint64_t bucket_top(unsigned bucket) {
    if (bucket < SUBS) return bucket;
    unsigned shift = bucket / SUBS - 1;
    return ((uint64_t)(SUBS + bucket % SUBS + 1) << shift) - 1;
}

void gci_histogram_add(struct gci_histogram *histogram, uint64_t ns) {
    histogram->count++;
    histogram->total += ns;
    if (ns > histogram->max) histogram->max = ns;
    histogram->buckets[bucket_of(ns)]++;
}

/* The least bucket top that at least PER_MILLE of the values in A and B don't exceed. */
static uint64_t percentile(
    const struct gci_histogram *a, const struct gci_histogram *b, unsigned per_mille) {
    uint64_t need = ((a->count + b->count) * per_mille + 999) / 1000, seen = 0;
    uint64_t most = a->max > b->max ? a->max : b->max;
    for (unsigned i = 0; i < GCI_HISTOGRAM_BUCKETS; i++) {
        seen += a->buckets[i] + b->buckets[i];
        if (seen >= need) return bucket_top(i) < most ? bucket_top(i) : most;
    }
    return most;
}

static gc_pauses pauses_of(const struct gci_histogram *a, const struct gci_histogram *b) {
    return (gc_pauses){.count = a->count + b->count,
        .total_ns = a->total + b->total,
        .p50_ns = percentile(a, b, 500),
        .p99_ns = percentile(a, b, 990),
        .max_ns = a->max > b->max ? a->max : b->max};
}

void gci_stats_fill(const struct gc_heap *heap, gc_stats *stats) {
    static const struct gci_histogram none;
    const struct gci_arena *arena = &heap->arena;
    uint64_t page_bytes = (uint64_t)1 << arena->page_shift, free_pages = 0;
    for (unsigned kind = 0; kind < GCI_KINDS; kind++)
        free_pages += heap->large[kind].runs.free_units;
    uint64_t allocated_since = heap->allocated_since, tenured_since = heap->tenured_since;
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next) {
        const struct gci_thread *thread = (const struct gci_thread *)(const void *)m;
        allocated_since += __atomic_load_n(&thread->allocated, __ATOMIC_RELAXED);
        tenured_since += __atomic_load_n(&thread->tenured, __ATOMIC_RELAXED);
    }
    static const struct gci_watches nothing;
    const struct gci_watches *w = heap->watches != NULL ? heap->watches : &nothing;
    *stats = (gc_stats){.size = sizeof *stats,
        .barrier = gci_barrier_kind(heap->barrier),
        .minor = pauses_of(&heap->minor_pauses, &none),
        .full = pauses_of(&heap->full_pauses, &none),
        .all = pauses_of(&heap->minor_pauses, &heap->full_pauses),
        .stops = pauses_of(&heap->stops, &none),
        .allocated_bytes = heap->allocated_total + allocated_since,
        .allocated_large = heap->allocated_large,
        .live_bytes = heap->live_bytes,
        .heap_bytes = gci_arena_taken_bytes(arena) - free_pages * page_bytes,
        .free_bytes = ((uint64_t)(arena->resident_blocks - arena->used_blocks) << GCI_BLOCK_SHIFT) +
                      free_pages * page_bytes,
        .committed_bytes = arena->committed,
        .released_bytes = heap->released_bytes,
        .external_bytes = (uint64_t)__atomic_load_n(&heap->policy.external, __ATOMIC_RELAXED),
        .nursery_bytes = gci_policy_nursery(heap),
        .dirty_pages = heap->dirty_pages,
        .open_blocks = heap->open_blocks,
        .closed_blocks = heap->closed_blocks,
        .promoted_bytes = heap->promoted_bytes,
        .mark_ns = heap->mark_ns,
        .threads = heap->world.count,
        .thread_slots = heap->thread_slots,
        .workers = gci_crew_size(heap),
        .moved_bytes = heap->moved_bytes,
        .tenured_bytes = heap->tenured_total + tenured_since,
        .small_bytes = heap->small_bytes,
        .small_live_bytes = heap->small_live_bytes,
        .compactions = heap->compaction.count,
        .compact_before = heap->compaction.used_before,
        .compact_after = heap->compaction.used_after,
        .compact_live = heap->compaction.live,
        .compact_moved = heap->compaction.moved,
        .compact_by_roots = heap->compaction.by_roots,
        .compact_by_objects = heap->compaction.by_objects,
        .compact_by_pins = heap->compaction.by_pins,
        .compact_by_kind = heap->compaction.by_kind,
        .compact_released = heap->compaction.released,
        .ephemerons_met = heap->ephemerons.met,
        .ephemerons_pended = heap->ephemerons.pended,
        .ephemerons_cleared = heap->ephemerons.cleared,
        .compact_ns = heap->compaction.pause_ns,
        .compact_moving_ns = heap->compaction.ns,
        .finalizers = w->counts[GCI_WATCH_FINALIZER] - w->waiting,
        .finalizers_ready = w->waiting,
        .finalizers_run = w->run,
        .finalizer_cycles = w->cycles,
        .guarded = w->counts[GCI_WATCH_GUARDED],
        .weak_references = w->counts[GCI_WATCH_WEAK],
        .links = w->counts[GCI_WATCH_LINK]};
}
