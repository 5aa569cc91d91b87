/* Which allocations are sampled, and what is noted of one.  Points are strewn over the bytes that
 * are handed out, at distances drawn from a geometric distribution; the object that lies on one is
 * a sample.  Inline code knows nothing of it: a buffer's room ends above the next point, so that
 * who takes the bytes there comes to the allocator (docs/profiling.md, rules 1 to 4).  Owns
 * heap->sampler.  Each thread draws for itself; what is noted is noted with the lock held. */
#define _GNU_SOURCE
#include "gc/sample.h"

#include <errno.h>

#include "gc/api.h"
#include "gc/arena.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/thread.h"
#include "runtime/describe.h"
#include "runtime/unwind.h"
#include "runtime/vm.h"

#define DEPTH_MAX 256u

/* ---- The sampler ---------------------------------------------------------------------------- */

static size_t sampler_bytes(void) {
    return gci_whole_pages(sizeof(struct gci_sampler));
}

struct gci_sampler *gci_sampler_make(struct gc_heap *heap) {
    if (heap->sampler != NULL) return heap->sampler;
    struct gci_sampler *sampler = gci_vm_map(sampler_bytes());
    if (sampler == NULL) return NULL;
    if (gci_sites_open(&sampler->sites, heap->options.site_memory) != 0) {
        gci_vm_unmap(sampler, sampler_bytes());
        return NULL;
    }
    sampler->interval =
        heap->options.find_leaks == GC_LEAKS_ALL ? 0 : heap->options.profile_interval;
    heap->sampler = sampler;
    return sampler;
}

/* Every change has a number of its own, so that each thread sees that what it drew is void. */
void gci_sampling_set(struct gc_heap *heap, bool on) {
    uint32_t number = on ? ++heap->sampler->changes : 0;
    __atomic_store_n(&heap->sampling, number, __ATOMIC_RELAXED);
}

/* ---- Drawing -------------------------------------------------------------------------------- */

/* Vigna's splitmix64: 64 bits. */
static uint64_t draw_bits(struct gci_draw *draw) {
    uint64_t z = draw->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* A number from the exponential distribution of mean 1, by von Neumann's method ("Various
 * techniques used in connection with random digits", 1951), which needs comparisons only: a falling
 * run of uniform numbers of odd length gives its first as the fraction, any other adds 1. */
static double draw_exponential(struct gci_draw *draw) {
    for (double whole = 0;; whole++) {
        uint64_t first = draw_bits(draw), last = first, next;
        unsigned length = 1;
        while ((next = draw_bits(draw)) < last) {
            last = next;
            length++;
        }
        if (length % 2 == 1) return whole + (double)first * 0x1p-64;
    }
}

/* Bytes that pass until the one that is the next point: the greatest whole number below an
 * exponential one is from the geometric distribution. */
static void draw_distance(struct gci_thread *thread) {
    double interval = (double)thread->heap->sampler->interval;
    thread->draw.distance = (size_t)(draw_exponential(&thread->draw) * interval);
}

double gci_sample_weight(size_t bytes, size_t interval) {
    if (interval == 0) return 1;
    double x = (double)bytes / (double)interval;
    if (x > 40) return 1;
    unsigned halvings = 0;
    for (; x > 0x1p-5; x /= 2) halvings++;
    double hit = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5)))); /* 1 - exp(-x) */
    while (halvings-- > 0) hit *= 2 - hit;
    return 1 / hit;
}

/* BYTES are handed out: is there a point among them? */
static bool passes_point(struct gci_thread *thread, size_t bytes) {
    if (thread->draw.distance >= bytes) {
        thread->draw.distance -= bytes;
        return false;
    }
    draw_distance(thread);
    return true;
}

/* Of the room [LOW, HIGH) that nothing is known of, how far down it may be used inline. */
static uintptr_t limit_above_point(
    struct gci_thread *thread, struct gci_bump *bump, uintptr_t low, uintptr_t high) {
    size_t distance = thread->draw.distance;
    bump->point = passes_point(thread, high - low);
    return bump->point ? high - (distance & ~(size_t)(GC_GRANULE - 1)) : low;
}

void gci_sample_again(struct gci_thread *thread, struct gci_bump *bump) {
    struct gc_buffer *buffer = bump->buffer;
    bump->point = false;
    if (thread->draw.sampling != 0 && buffer->limit != 0)
        buffer->limit = limit_above_point(thread, bump, buffer->limit, buffer->cursor);
}

/* Takes notice of a change: nothing that was drawn before counts. */
static bool may_sample(struct gci_thread *thread) {
    struct gci_draw *draw = &thread->draw;
    uint32_t sampling = __atomic_load_n(&thread->heap->sampling, __ATOMIC_ACQUIRE);
    if (__builtin_expect(draw->sampling != sampling, 0)) {
        draw->sampling = sampling;
        if (draw->random == 0) draw->random = gci_clock_ns() ^ (uintptr_t)thread << 20;
        if (sampling != 0) draw_distance(thread);
        for (unsigned b = 0; b < GCI_BUFFERS; b++) gci_sample_again(thread, &thread->bump[b]);
        for (unsigned k = 0; k < GCI_KINDS; k++) gci_sample_again(thread, &thread->old[k]);
    }
    return sampling != 0;
}

/* What of the object lies above the limit was passed already, with no point in it but the one just
 * below. */
uintptr_t gci_sample_hole_slow(struct gci_thread *thread, struct gci_bump *bump, uintptr_t start,
    uintptr_t end, uintptr_t ahead) {
    if (!may_sample(thread)) return ahead;
    uintptr_t limit = bump->buffer->limit;
    bool sampled = bump->point && end >= limit;
    if (!sampled) sampled = passes_point(thread, (end < limit ? end : limit) - start);
    if (sampled) thread->draw.sampled = end - start;
    return limit_above_point(thread, bump, ahead, start);
}

void gci_sample_object_slow(struct gci_thread *thread, size_t bytes) {
    if (may_sample(thread) && passes_point(thread, bytes)) thread->draw.sampled = bytes;
}

/* ---- Taking --------------------------------------------------------------------------------- */

/* The callers of the entry function whose frame the thread's stack is searched from.  With the lock
 * held, which guards the list of stacks. */
static uint32_t walk(const struct gci_thread *thread, uintptr_t *pcs, uint32_t most) {
    const struct gci_mutator *m = &thread->mutator;
    struct gci_registers registers;
    gci_registers_at_entry(&registers, (const struct gci_frame *)m->scan_from);
    uintptr_t high = gci_stack_end(m->world, m, registers.sp);
    struct gci_unwind_cache *cache = &thread->heap->sampler->unwinding;
    uint32_t depth = 0;
    while (depth < most && registers.pc != 0) {
        pcs[depth++] = registers.pc;
        if (high == 0 || gci_unwind_again(&registers, high, cache) != GCI_STEP_CALLER) break;
    }
    return depth;
}

/* By libunwind, where the library has no reader of its own. */
struct slow_walk {
    uintptr_t frame, *pcs;
    uint32_t most, depth;
};

static void walk_by_libunwind(void *context) {
    struct slow_walk *walk = context;
    walk->depth = gci_backtrace(walk->frame, walk->pcs, walk->most);
}

static void note(struct gc_heap *heap, const void *p, size_t bytes, uint32_t site_number) {
    struct gci_sampler *sampler = heap->sampler;
    struct gci_site *site = gci_site_at(&sampler->sites, site_number);
    struct gci_tracked entry = {.granule = gci_address_granule(&heap->arena, (uintptr_t)p),
        .bytes = bytes,
        .weight = gci_sample_weight(bytes, sampler->interval),
        .site = site_number,
        .counted = sampler->profiling};
    if (sampler->profiling) {
        site->objects += entry.weight;
        site->bytes += entry.weight * (double)bytes;
    }
    bool old = heap->arena.side[entry.granule] & GCI_SIDE_MARK;
    if (!gci_tracking_add(&sampler->tracking, entry, old)) sampler->untracked++;
}

void gci_sample_take(struct gci_thread *thread, const void *p) {
    struct gc_heap *heap = thread->heap;
    uintptr_t pcs[DEPTH_MAX];
    uint32_t most = heap->options.site_depth, depth = 0;
    struct slow_walk slow = {thread->mutator.scan_from, pcs, most, 0};
    size_t bytes = thread->draw.sampled;
    int saved_errno = errno;
    thread->draw.sampled = 0;
    if (!gci_can_unwind()) gci_aside(thread, walk_by_libunwind, &slow);
    gci_heap_lock(heap);
    if (thread->draw.sampling == heap->sampling) {
        depth = gci_can_unwind() ? walk(thread, pcs, most) : slow.depth;
        note(heap, p, bytes, gci_site_intern(&heap->sampler->sites, pcs, depth));
    }
    gci_heap_unlock(heap);
    errno = saved_errno;
}

/* ---- Objects' ends -------------------------------------------------------------------------- */

static void note_death(struct gc_heap *heap, const void *ended) {
    const struct gci_tracked *entry = ended;
    if (heap->options.find_leaks == GC_LEAKS_OFF) return;
    struct gci_site *site = gci_site_at(&heap->sampler->sites, entry->site);
    site->leaked++;
    site->leaked_objects += entry->weight;
    site->leaked_bytes += entry->weight * (double)entry->bytes;
}

void gci_samples_update(struct gc_heap *heap, bool full) {
    if (heap->sampler != NULL)
        gci_tracking_update(heap, &heap->sampler->tracking, full, note_death);
}

size_t gci_check_samples(const struct gc_heap *heap) {
    return heap->sampler != NULL ? gci_check_tracking(heap, &heap->sampler->tracking) : 0;
}
