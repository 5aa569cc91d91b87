/* Finding what the program lost: objects that are unreachable and were never given to gc_free().
 * Each is found by the collection that frees it, minor or full, so that it is counted once; where
 * it was allocated is known of those that were sampled (docs/leaks.md).  Owns the counts of leaks
 * in the sampler and its sites.  Counting is done with the world stopped; names are found and
 * printed by a thread that may take any lock. */
#include "gc/leaks.h"

#include <errno.h>
#include <stdlib.h>

#include "cairn/gc.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/heap.h"
#include "gc/large.h"
#include "gc/sample.h"
#include "gc/thread.h"
#include "runtime/describe.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define SITES_MOST  100u /* printed of one report */
#define FRAMES_MOST 24u  /* of one site */

/* ---- Counting ------------------------------------------------------------------------------- */

static void count_block(struct gc_heap *heap, uint32_t b) {
    const uint8_t *side = heap->arena.side;
    struct gci_sampler *sampler = heap->sampler;
    size_t first = gci_block_granule(b);
    for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += 64) {
        struct gci_side_masks masks = gci_side_masks64(side + g);
        for (uint64_t dead = masks.start & ~masks.mark; dead != 0; dead &= dead - 1) {
            size_t granule = g + (unsigned)__builtin_ctzll(dead);
            if (side[granule] & GCI_SIDE_MOVED) continue;
            sampler->leaked_objects++;
            sampler->leaked_bytes += gci_small_granules(side, granule) * GC_GRANULE;
        }
    }
}

void gci_leaks_count(struct gc_heap *heap) {
    const struct gci_arena *arena = &heap->arena;
    struct gci_sampler *sampler = heap->sampler;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        enum gci_use use = gci_tag_use(arena->tags[b]);
        if (arena->tags[b] & GCI_TAG_YOUNG && (use == GCI_USE_BUMP || use == GCI_USE_CELLS))
            count_block(heap, b);
    }
    sampler->leaked_objects += gci_large_count_dead(heap, &sampler->leaked_bytes);
}

/* ---- The report ----------------------------------------------------------------------------- */

struct leak {
    const struct gci_site *site;
    uint64_t samples, objects, bytes;
};

struct report {
    struct leak *leaks;
    size_t count, mapped;
    uint64_t objects, bytes; /* all of them */
    uint64_t samples;
    bool exact; /* all were sampled */
};

static void take_counts(struct gci_sampler *sampler, struct report *report) {
    for (struct gci_site *site = NULL; (site = gci_site_next(&sampler->sites, site)) != NULL;) {
        if (site->leaked == 0 || report->leaks == NULL) continue;
        report->leaks[report->count++] = (struct leak){site, site->leaked,
            (uint64_t)(site->leaked_objects + 0.5), (uint64_t)(site->leaked_bytes + 0.5)};
        report->samples += site->leaked;
        site->leaked = 0;
        site->leaked_objects = site->leaked_bytes = 0;
    }
    report->objects = sampler->leaked_objects;
    report->bytes = sampler->leaked_bytes;
    sampler->leaked_objects = sampler->leaked_bytes = 0;
}

static struct report take(struct gc_heap *heap) {
    struct report report = {.exact = heap->options.find_leaks == GC_LEAKS_ALL};
    gci_heap_lock(heap);
    report.mapped = gci_whole_pages(heap->sampler->sites.count * sizeof *report.leaks);
    report.leaks = gci_vm_map(report.mapped);
    take_counts(heap->sampler, &report);
    gci_heap_unlock(heap);
    return report;
}

static int by_bytes(const void *a, const void *b) {
    const struct leak *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1)
                                : (x->site > y->site) - (x->site < y->site);
}

static struct gci_places describe(const struct report *report) {
    size_t total = 0, count = 0;
    for (size_t i = 0; i < report->count; i++) total += report->leaks[i].site->depth;
    uintptr_t *addresses = malloc((total > 0 ? total : 1) * sizeof *addresses);
    if (addresses == NULL) return (struct gci_places){.count = 0};
    for (size_t i = 0; i < report->count; i++)
        for (uint32_t d = 0; d < report->leaks[i].site->depth; d++)
            addresses[count++] = report->leaks[i].site->pcs[d] - 1;
    struct gci_places places = gci_places_describe(addresses, total);
    free(addresses);
    return places;
}

static void print_leak(const struct leak *leak, const struct gci_places *places, bool exact) {
    const struct gci_site *site = leak->site;
    if (exact)
        gci_print("  %lu objects, %lu bytes", leak->objects, leak->bytes);
    else
        gci_print("  about %lu objects, %lu bytes (samples: %lu)", leak->objects, leak->bytes,
            leak->samples);
    gci_print(site->depth > 0 ? ", allocated by\n" : ", site unknown\n");
    for (uint32_t d = 0; d < site->depth && d < FRAMES_MOST; d++) {
        char text[600];
        uintptr_t address = site->pcs[d] - 1;
        gci_place_print(gci_place_at(places, address), address, text, sizeof text);
        gci_print("    %s\n", text);
    }
    if (site->depth > FRAMES_MOST) gci_print("    ... %u more\n", site->depth - FRAMES_MOST);
}

static void print(const struct report *report) {
    struct gci_places places = describe(report);
    gci_print("cairn: leaks: %lu objects, %lu bytes, unreachable and never given to gc_free()\n",
        report->objects, report->bytes);
    for (size_t i = 0; i < report->count && i < SITES_MOST; i++)
        print_leak(&report->leaks[i], &places, report->exact);
    if (report->count > SITES_MOST)
        gci_print("  and those of %zu more sites\n", report->count - SITES_MOST);
    if (report->samples < report->objects)
        gci_print("  %lu of the objects were not sampled: site unknown\n",
            report->objects - report->samples);
    gci_places_free(&places);
}

/* By a thread that may take any lock: that of the loader, too, which who collects holds while it
 * waits for threads to stop. */
static void finish(void *context) {
    struct report *report = context;
    if (report->count > 0) qsort(report->leaks, report->count, sizeof *report->leaks, by_bytes);
    if (report->objects > 0)
        print(report);
    else
        gci_log("no leaks");
    if (report->leaks != NULL) gci_vm_unmap(report->leaks, report->mapped);
}

size_t gci_leaks_report(struct gc_heap *heap) {
    struct report report = take(heap);
    finish(&report);
    return report.objects;
}

/* ---- Asking --------------------------------------------------------------------------------- */

size_t gci_entry_find_leaks(size_t a, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_find_leaks, gci_entry_find_leaks);

size_t gci_entry_find_leaks(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return 0;
    struct gc_heap *heap = thread->heap;
    if (heap->options.find_leaks == GC_LEAKS_OFF) return (size_t)gci_api_leave(thread, 0);
    gci_collect(thread, GC_FULL, "looking for leaks", GCI_ALWAYS);
    struct report report = take(heap);
    gci_aside(thread, finish, &report);
    gci_leave(&thread->mutator);
    return report.objects;
}
