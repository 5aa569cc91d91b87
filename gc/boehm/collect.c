/* Collecting when the program asks for it, what it is told of collections, and figures.  Owns
 * gcb_layer, by which the collector calls back. */
#include "gc/boehm/layer.h"

#include <string.h>

#include "gc/api.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/heap.h"
#include "gc/large.h"
#include "gc/stats.h"
#include "gc/thread.h"
#include "runtime/globals.h"
#include "runtime/log.h"

static GCI_GLOBAL GC_start_callback_proc start_callback;
static GCI_GLOBAL GC_on_collection_event_proc on_event;
static GCI_GLOBAL GC_on_thread_event_proc on_thread_event;
static GCI_GLOBAL uint64_t allocated_before; /* when the last collection ended */

static void tell(GC_EventType event) {
    GC_on_collection_event_proc function = __atomic_load_n(&on_event, __ATOMIC_RELAXED);
    if (function != NULL) function(event);
}

static void begins(struct gc_heap *heap, enum gc_collection kind) {
    GC_start_callback_proc function = __atomic_load_n(&start_callback, __ATOMIC_RELAXED);
    if (kind == GC_FULL && function != NULL) function();
    if (kind == GC_FULL) gcb_toggles_ask();
    if (kind == GC_FULL) gcb_full_begins(heap);
    tell(GC_EVENT_START);
    tell(GC_EVENT_PRE_STOP_WORLD);
}

/* Of each thread that stands still now, by its name in the C library. */
static void tell_of_threads(const struct gc_heap *heap, GC_EventType event) {
    GC_on_thread_event_proc function = __atomic_load_n(&on_thread_event, __ATOMIC_RELAXED);
    if (function == NULL) return;
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next)
        if (m != gci_self && !m->vanished) function(event, (void *)m->thread_pointer);
}

static void stopped(struct gc_heap *heap, enum gc_collection kind) {
    (void)kind;
    gcb_open_typed(heap);
    gcb_note_stack_bottom(heap);
    tell_of_threads(heap, GC_EVENT_THREAD_SUSPENDED);
    tell(GC_EVENT_POST_STOP_WORLD);
    tell(GC_EVENT_MARK_START);
}

static void marked(struct gc_heap *heap, enum gc_collection kind) {
    (void)kind;
    gcb_toggles_settle(heap);
    gcb_report_leaks(heap);
    gcb_report_smashed(heap);
    tell(GC_EVENT_MARK_END);
    tell(GC_EVENT_RECLAIM_START);
}

static uint64_t heap_size(const struct gc_heap *heap) {
    return (uint64_t)heap->arena.resident_blocks << GCI_BLOCK_SHIFT;
}

/* Called when the heap is larger than it was when it was last told. */
static void tell_size(uint64_t size) {
    static GCI_GLOBAL uint64_t told;
    GC_on_heap_resize_proc function = __atomic_load_n(&GC_on_heap_resize, __ATOMIC_RELAXED);
    if (size == told) return;
    told = size;
    if (function != NULL) function(size);
}

static void settled(struct gc_heap *heap, enum gc_collection kind) {
    GC_gc_no++;
    gcb_held_are_old();
    allocated_before = heap->allocated_total;
    gcb_print_collection(heap, kind);
    __atomic_store_n(&gcb_freed, 0, __ATOMIC_RELAXED);
    tell(GC_EVENT_RECLAIM_END);
    tell(GC_EVENT_PRE_START_WORLD);
    tell_of_threads(heap, GC_EVENT_THREAD_UNSUSPENDED);
}

static void ended(struct gc_heap *heap, enum gc_collection kind) {
    (void)kind;
    gcb_tell_news();
    tell_size(heap_size(heap));
    tell(GC_EVENT_POST_START_WORLD);
    tell(GC_EVENT_END);
}

struct gci_layer gcb_layer = {
    .nursery_first = (size_t)4 << 20, /* docs/policy.md, rule 7 */
    .nursery_most = (size_t)4 << 20,
    .nursery_thread = (size_t)1 << 19,
    .growth_least = (size_t)10 << 20,
    .filled_below = (size_t)16 << 20,
    .manual = &gcb_no_automatic,
    .veto = &GC_dont_gc,
    .in_place = true,
    .visit_ranges = gcb_visit_ranges,
    .full_only = gcb_full_only,
    .begins = begins,
    .stopped = stopped,
    .marked = marked,
    .settled = settled,
    .ended = ended,
    .ready = gcb_becomes_ready,
    .cycle = gcb_is_in_cycle,
};

EXPORT void GC_set_start_callback(GC_start_callback_proc function) {
    __atomic_store_n(&start_callback, function, __ATOMIC_RELAXED);
}

EXPORT GC_start_callback_proc GC_get_start_callback(void) {
    return __atomic_load_n(&start_callback, __ATOMIC_RELAXED);
}

EXPORT void GC_set_on_collection_event(GC_on_collection_event_proc function) {
    __atomic_store_n(&on_event, function, __ATOMIC_RELAXED);
}

EXPORT GC_on_collection_event_proc GC_get_on_collection_event(void) {
    return __atomic_load_n(&on_event, __ATOMIC_RELAXED);
}

EXPORT void GC_set_on_thread_event(GC_on_thread_event_proc function) {
    __atomic_store_n(&on_thread_event, function, __ATOMIC_RELAXED);
}

EXPORT GC_on_thread_event_proc GC_get_on_thread_event(void) {
    return __atomic_load_n(&on_thread_event, __ATOMIC_RELAXED);
}

/* ---- Asking for collections ----------------------------------------------------------------- */

static int never_stop(void) {
    return 0;
}

static GCI_GLOBAL GC_stop_func stop_function;

EXPORT void GC_set_stop_func(GC_stop_func stop) {
    __atomic_store_n(&stop_function, stop, __ATOMIC_RELAXED);
}

EXPORT GC_stop_func GC_get_stop_func(void) {
    GC_stop_func stop = __atomic_load_n(&stop_function, __ATOMIC_RELAXED);
    return stop != NULL ? stop : never_stop;
}

static int collect(enum gc_collection kind) {
    return gc_collect(kind) == 0;
}

/* Free blocks go back to the system now, not after a while. */
static void give_back(void) {
    struct gc_heap *heap = gci_default_heap();
    gcb_lock();
    heap->released_bytes += (uint64_t)gci_arena_release(&heap->arena, UINT32_MAX)
                            << GCI_BLOCK_SHIFT;
    gcb_unlock();
}

EXPORT void GC_gcollect(void) {
    gcb_need_heap();
    if (GC_get_stop_func()() || !collect(GC_FULL)) return;
    if (GC_get_force_unmap_on_gcollect()) give_back();
}

EXPORT void GC_gcollect_and_unmap(void) {
    gcb_need_heap();
    if (collect(GC_FULL)) give_back();
}

EXPORT int GC_try_to_collect(GC_stop_func stop) {
    gcb_need_heap();
    return !stop() && collect(GC_FULL);
}

EXPORT int GC_collect_a_little(void) {
    enum gc_collection kind;
    const char *reason;
    gcb_need_heap();
    gcb_lock();
    bool due = gci_policy_due(gci_default_heap(), &kind, &reason);
    gcb_unlock();
    if (due) collect(kind);
    return 0;
}

EXPORT void GC_start_incremental_collection(void) {
    gcb_need_heap();
    collect(GC_MINOR);
}

EXPORT int GC_incremental_protection_needs(void) {
    return GC_PROTECTS_NONE;
}

/* With the lock, so that no collection that found itself allowed begins when this has returned. */
EXPORT void GC_disable(void) {
    gcb_lock();
    __atomic_store_n(&GC_dont_gc, GC_dont_gc + 1, __ATOMIC_RELAXED);
    gcb_unlock();
}

EXPORT void GC_enable(void) {
    gcb_lock();
    __atomic_store_n(&GC_dont_gc, GC_dont_gc - 1, __ATOMIC_RELAXED);
    gcb_unlock();
}

EXPORT int GC_is_disabled(void) {
    return __atomic_load_n(&GC_dont_gc, __ATOMIC_RELAXED) != 0;
}

/* Memory that the program said it will need: counted as the heap's from here on, and no full
 * collection is due before it is used; taken from the system when it is used. */
static GCI_GLOBAL uint64_t expanded;

EXPORT int GC_expand_hp(size_t size) {
    gcb_need_heap();
    struct gc_heap *heap = gci_default_heap();
    gcb_lock();
    uint64_t now = heap_size(heap), from = expanded > now ? expanded : now;
    uint64_t most = heap->limit < heap->arena.reserved ? heap->limit : heap->arena.reserved;
    bool fits = from <= most && size <= most - from;
    if (fits) {
        expanded = from + size;
        if (heap->policy.full_threshold < expanded) heap->policy.full_threshold = expanded;
        tell_size(expanded);
    }
    gcb_unlock();
    return fits;
}

/* ---- Figures -------------------------------------------------------------------------------- */

/* Without the lock, as programs ask from callbacks that are called with it: each figure is one that
 * was, but they need not be of one moment. */
static gc_stats stats_now(void) {
    gc_stats stats = {.size = sizeof stats};
    gcb_need_heap();
    gci_stats_fill(gci_default_heap(), &stats);
    return stats;
}

EXPORT GC_word GC_get_gc_no(void) {
    return __atomic_load_n(&GC_gc_no, __ATOMIC_RELAXED);
}

/* Sizes as Boehm has them: what the heap has, what of that is free, what was given back. */
struct sizes {
    uint64_t heap, free, unmapped, total;
    uint64_t allocated; /* since the start */
};

static struct sizes sizes_now(void) {
    gc_stats stats = stats_now();
    struct sizes sizes = {.heap = stats.heap_bytes + stats.free_bytes,
        .free = stats.free_bytes,
        .allocated = stats.allocated_bytes};
    if (sizes.heap < expanded) {
        sizes.free += expanded - sizes.heap;
        sizes.heap = expanded;
    }
    if (stats.committed_bytes > sizes.heap) sizes.unmapped = stats.committed_bytes - sizes.heap;
    sizes.total = sizes.heap + sizes.unmapped;
    return sizes;
}

EXPORT size_t GC_get_heap_size(void) {
    return sizes_now().heap;
}

EXPORT size_t GC_get_free_bytes(void) {
    return sizes_now().free;
}

EXPORT size_t GC_get_unmapped_bytes(void) {
    return sizes_now().unmapped;
}

EXPORT size_t GC_get_obtained_from_os_bytes(void) {
    return sizes_now().total;
}

EXPORT size_t GC_get_bytes_since_gc(void) {
    return stats_now().allocated_bytes - allocated_before;
}

uint64_t gcb_freed;

EXPORT size_t GC_get_expl_freed_bytes_since_gc(void) {
    return __atomic_load_n(&gcb_freed, __ATOMIC_RELAXED);
}

EXPORT size_t GC_get_total_bytes(void) {
    return stats_now().allocated_bytes;
}

static void put(GC_word *place, GC_word value) {
    if (place != NULL) *place = value;
}

EXPORT void GC_get_heap_usage_safe(GC_word *heap_size, GC_word *free_bytes, GC_word *unmapped_bytes,
    GC_word *bytes_since_gc, GC_word *total_bytes) {
    struct sizes sizes = sizes_now();
    put(heap_size, sizes.heap);
    put(free_bytes, sizes.free);
    put(unmapped_bytes, sizes.unmapped);
    put(bytes_since_gc, sizes.allocated - allocated_before);
    put(total_bytes, sizes.allocated);
}

EXPORT size_t GC_get_prof_stats(struct GC_prof_stats_s *stats, size_t size) {
    struct sizes sizes = sizes_now();
    struct GC_prof_stats_s full = {.heapsize_full = sizes.total,
        .free_bytes_full = sizes.free + sizes.unmapped,
        .unmapped_bytes = sizes.unmapped,
        .bytes_allocd_since_gc = sizes.allocated - allocated_before,
        .allocd_bytes_before_gc = allocated_before,
        .non_gc_bytes = GC_non_gc_bytes,
        .gc_no = GC_get_gc_no(),
        .markers_m1 = (GC_word)GC_parallel,
        .expl_freed_bytes_since_gc = GC_get_expl_freed_bytes_since_gc(),
        .obtained_from_os_bytes = sizes.total};
    size_t known = size < sizeof full ? size : sizeof full;
    memcpy(stats, &full, known);
    if (size > known) memset((char *)stats + known, 0xff, size - known);
    return known;
}

EXPORT size_t GC_get_prof_stats_unsafe(struct GC_prof_stats_s *stats, size_t size) {
    return GC_get_prof_stats(stats, size);
}

/* What an object of I bytes takes, if it is small. */
EXPORT size_t GC_get_size_map_at(int i) {
    if (i < 0 || i > 2048) return SIZE_MAX;
    size_t size = (size_t)i + gcb_slack;
    return size == 0 ? GC_GRANULE : (size + GC_GRANULE - 1) & ~(size_t)(GC_GRANULE - 1);
}

EXPORT size_t GC_get_memory_use(void) {
    return stats_now().heap_bytes;
}

EXPORT void GC_start_performance_measurement(void) {}

EXPORT unsigned long GC_get_full_gc_total_time(void) {
    return (unsigned long)(stats_now().full.total_ns / 1000000);
}

EXPORT void GC_dump_named(const char *name) {
    gc_stats s = stats_now();
    if (name != NULL) gci_print("*** Dump %s of Boehm's interface on %s\n", name, gc_version());
    gci_print(
        "*** %s: %lu collections, %lu full; %lu KB in use, %lu KB free, %lu KB live after the "
        "last; %lu KB allocated since the start; %lu threads\n",
        gc_version(), s.all.count, s.full.count, s.heap_bytes / 1024, s.free_bytes / 1024,
        s.live_bytes / 1024, s.allocated_bytes / 1024, s.threads);
}

EXPORT void GC_dump(void) {
    GC_dump_named(NULL);
}

EXPORT void GC_dump_regions(void) {
    gc_stats s = stats_now();
    gci_print("*** heap [%p, %p), of which %lu KB were used\n", GC_least_plausible_heap_addr,
        GC_greatest_plausible_heap_addr, s.committed_bytes / 1024);
}

/* ---- Marks ---------------------------------------------------------------------------------- */

/* As the last collection left them: young objects have none, but uncollectable ones always count as
 * marked (docs/boehm.md, rule 7). */
static bool is_marked(const struct gc_heap *heap, size_t granule) {
    return heap->arena.side[granule] & GCI_SIDE_MARK ||
           gcb_is_held_locked((const void *)gci_granule_address(&heap->arena, granule));
}

EXPORT int GC_is_marked(const void *p) {
    const struct gc_heap *heap = gci_default_heap();
    gci_object object;
    return heap != NULL && gci_find(heap, (uintptr_t)p, &object) && is_marked(heap, object.granule);
}

EXPORT void GC_clear_mark_bit(const void *p) {
    (void)p;
    GCB_CANNOT("marks are the collector's own");
}

static void enumerate_block(
    const struct gc_heap *heap, uint32_t block, GC_reachable_object_proc function, void *data) {
    const struct gci_arena *arena = &heap->arena;
    uint8_t tag = gci_tag(arena, block);
    if (gci_tag_use(tag) == GCI_USE_FREE) return;
    size_t first = gci_block_granule(block);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g++) {
        if (!(arena->side[g] & GCI_SIDE_START) || !is_marked(heap, g)) continue;
        gci_object object;
        uintptr_t address = gci_granule_address(arena, g);
        if (gci_find(heap, address, &object) && object.granule == g)
            function((void *)address, gci_object_bytes(heap, object), data);
    }
}

EXPORT void GC_enumerate_reachable_objects_inner(GC_reachable_object_proc function, void *data) {
    const struct gc_heap *heap = gci_default_heap();
    if (heap == NULL) return;
    for (uint32_t b = 0; b < heap->arena.frontier; b++) enumerate_block(heap, b, function, data);
}
