/* Profiles: what was sampled, from gc_profile_start() on, summed up by allocation site.  The
 * counters are the sites' (gc/sample.c); here they are begun, ended, copied with the lock held, and
 * given to those who write files without it.  And what is done at exit, for the options profile and
 * find_leaks. */
#include "gc/profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cairn/gc.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/heap.h"
#include "gc/leaks.h"
#include "gc/sample.h"
#include "gc/thread.h"
#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/profile_file.h"
#include "runtime/text.h"
#include "runtime/vm.h"

#define INTERVAL_MAX ((size_t)1 << 40)
#define PATH_BYTES   4096u

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Beginning and ending, with the lock held ------------------------------------------------ */

static void forget_counts(struct gci_sampler *sampler) {
    for (struct gci_site *site = NULL; (site = gci_site_next(&sampler->sites, site)) != NULL;)
        site->objects = site->bytes = 0;
    for (size_t at = 0; at < sampler->tracking.aged.count; at++)
        gci_tracked_at(&sampler->tracking, at)->counted = false;
}

static int start(struct gc_heap *heap, size_t interval) {
    struct gci_sampler *sampler = gci_sampler_make(heap);
    if (sampler == NULL) return ENOMEM;
    if (sampler->profiling) return EALREADY;
    forget_counts(sampler);
    if (interval == 0) interval = heap->options.profile_interval;
    if (heap->options.find_leaks != GC_LEAKS_ALL) sampler->interval = interval;
    sampler->profiling = sampler->profiled = true;
    sampler->start_ns = now_ns();
    gci_sampling_set(heap, true);
    return 0;
}

static int stop(struct gc_heap *heap) {
    struct gci_sampler *sampler = heap->sampler;
    if (sampler == NULL || !sampler->profiling) return ESRCH;
    sampler->profiling = false;
    sampler->end_ns = now_ns();
    if (heap->options.find_leaks == GC_LEAKS_OFF) gci_sampling_set(heap, false);
    return 0;
}

/* ---- Copying -------------------------------------------------------------------------------- */

static void add_up_live(struct gc_heap *heap, struct gci_sampler *sampler) {
    for (struct gci_site *site = NULL; (site = gci_site_next(&sampler->sites, site)) != NULL;)
        site->live_objects = site->live_bytes = 0;
    for (size_t at = 0; at < sampler->tracking.aged.count; at++) {
        const struct gci_tracked *entry = gci_tracked_at(&sampler->tracking, at);
        if (!entry->counted) continue;
        struct gci_site *site = gci_site_at(&sampler->sites, entry->site);
        gci_object object = {entry->granule};
        site->live_objects += entry->weight;
        site->live_bytes += entry->weight * (double)gci_object_bytes(heap, object);
    }
}

static int64_t whole(double value) {
    return (int64_t)(value + 0.5);
}

/* With the lock held; to be unmapped after.  The callers stay in the table of sites. */
static int copy(struct gc_heap *heap, struct gci_profile *profile, size_t *mapped) {
    struct gci_sampler *sampler = heap->sampler;
    if (sampler == NULL || !sampler->profiled) return ESRCH;
    *mapped = gci_whole_pages(sampler->sites.count * sizeof(struct gci_profile_stack));
    struct gci_profile_stack *stacks = gci_vm_map(*mapped);
    if (stacks == NULL) return ENOMEM;
    add_up_live(heap, sampler);
    uint64_t end_ns = sampler->profiling ? now_ns() : sampler->end_ns;
    *profile = (struct gci_profile){.stacks = stacks,
        .interval = sampler->interval > 0 ? sampler->interval : 1,
        .time_ns = sampler->start_ns,
        .duration_ns = end_ns > sampler->start_ns ? end_ns - sampler->start_ns : 0};
    for (struct gci_site *site = NULL; (site = gci_site_next(&sampler->sites, site)) != NULL;) {
        if (site->objects == 0) continue;
        stacks[profile->count++] = (struct gci_profile_stack){.pcs = site->pcs,
            .depth = site->depth,
            .values = {whole(site->objects), whole(site->bytes), whole(site->live_objects),
                whole(site->live_bytes)}};
    }
    return 0;
}

/* What a file of that name holds; -1 if it doesn't say. */
static int format_of(const char *path) {
    static const struct {
        const char *ending;
        int format;
    } endings[] = {{".live.folded", GC_PROFILE_FOLDED_LIVE}, {".folded", GC_PROFILE_FOLDED},
        {".pb.gz", GC_PROFILE_PPROF_GZIP}, {".pb", GC_PROFILE_PPROF}};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t end = strlen(endings[i].ending);
        if (length >= end && strcmp(path + length - end, endings[i].ending) == 0)
            return endings[i].format;
    }
    return -1;
}

/* ---- Asking --------------------------------------------------------------------------------- */

int gci_entry_profile_start(size_t interval, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_profile_stop(size_t a, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_profile_write(const char *path, int format, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_profile_start, gci_entry_profile_start);
GCI_ENTRY(gc_profile_stop, gci_entry_profile_stop);
GCI_ENTRY(gc_profile_write, gci_entry_profile_write);

int gci_entry_profile_start(size_t interval, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (interval > INTERVAL_MAX) return EINVAL;
    if (gci_need_heap(frame) != 0) return ENOMEM;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    struct gc_heap *heap = gci_default_heap();
    gci_heap_lock(heap);
    int error = start(heap, interval);
    gci_heap_unlock(heap);
    return gci_api_leave_if_attached(thread, error);
}

int gci_entry_profile_stop(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gc_heap *heap = gci_default_heap();
    if (heap == NULL) return ESRCH;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(heap);
    int error = stop(heap);
    gci_heap_unlock(heap);
    return gci_api_leave_if_attached(thread, error);
}

/* One file to be written, and what comes of it. */
struct writing {
    const char *path;
    int format, error;
    struct gci_profile profile;
};

static void write_file(void *context) {
    struct writing *w = context;
    w->error = gci_profile_write_file(w->path, w->format, &w->profile);
}

/* Names are found with the loader's lock, which who collects has, too: so the thread, if it is
 * attached, must not be waited for meanwhile. */
int gci_entry_profile_write(const char *path, int format, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gc_heap *heap = gci_default_heap();
    if (path != NULL && format == GC_PROFILE_BY_NAME) format = format_of(path);
    if (path == NULL || format < GC_PROFILE_FOLDED || format > GC_PROFILE_PPROF_GZIP) return EINVAL;
    if (heap == NULL) return ESRCH;
    struct writing w = {.path = path, .format = format};
    size_t mapped = 0;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(heap);
    w.error = copy(heap, &w.profile, &mapped);
    gci_heap_unlock(heap);
    if (w.error == 0) {
        if (thread != NULL)
            gci_aside(thread, write_file, &w);
        else
            write_file(&w);
        gci_vm_unmap((void *)(uintptr_t)w.profile.stacks, mapped);
    }
    return gci_api_leave_if_attached(thread, w.error);
}

/* ---- At exit -------------------------------------------------------------------------------- */

static void write_at_exit(struct gc_heap *heap) {
    const char *pattern = heap->options.profile;
    char path[PATH_BYTES];
    bool numbered = false;
    if (!gci_path_expand(path, sizeof path, pattern, &numbered)) {
        gci_log("the profile can't be written to %.64s: its name is too long", pattern);
        return;
    }
    if (!numbered && gci_process_id() != heap->sampler->opener) return;
    int error = gc_profile_write(path, GC_PROFILE_BY_NAME);
    if (error != 0) gci_log("the profile can't be written to %s: %s", path, gci_error_name(error));
}

/* A thread that isn't attached, or may not be any more, reports what collections found so far. */
static void find_leaks_at_exit(struct gc_heap *heap) {
    bool attached = gci_self != NULL;
    if (attached || gc_thread_attach() == 0)
        gc_find_leaks();
    else
        gci_leaks_report(heap);
    if (!attached) gc_thread_detach();
}

/* Whoever exits inside the library, from a signal handler or a root hook, has no report. */
static void at_exit(void) {
    struct gc_heap *heap = gci_default_heap();
    if (heap == NULL || heap->in_hook || (gci_self != NULL && gci_self->inside)) return;
    while (gci_self != NULL && gci_self->blocking > 0) gc_blocking_end();
    if (heap->options.find_leaks != GC_LEAKS_OFF) find_leaks_at_exit(heap);
    if (heap->options.profile != NULL) write_at_exit(heap);
}

/* ---- At opening ----------------------------------------------------------------------------- */

int gci_profile_open(struct gc_heap *heap) {
    gc_options *options = &heap->options;
    if (options->profile == NULL && options->find_leaks == GC_LEAKS_OFF) return 0;
    struct gci_sampler *sampler = gci_sampler_make(heap);
    if (sampler == NULL) return ENOMEM;
    sampler->opener = gci_process_id();
    if (options->profile != NULL) {
        options->profile = strdup(options->profile); /* the environment may change */
        if (options->profile == NULL) return ENOMEM;
        int error = start(heap, 0);
        if (error != 0) return error;
    }
    gci_sampling_set(heap, true);
    return atexit(at_exit) == 0 ? 0 : ENOMEM;
}
