/* The timeline: see timeline.h.  Owns a ring of events and the file that they go to, in memory of
 * its own, mapped once and kept.  What is in the ring is written by who holds LOCK, for an instant;
 * what is read of it, and all about the file, is in the hands of who holds WRITING.  Invariants:
 * tail <= head <= tail + RING; between two writes the file is whole: each ends with the bracket that
 * the next one overwrites.  Rules: docs/tracing.md, 7 to 13. */
#include "gc/timeline.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gc/heap.h"
#include "gc/thread.h"
#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/text.h"
#include "runtime/vm.h"

#define RING      4096u /* events; a collection has some 25 */
#define TEXT      (64u << 10)
#define RECORD    1024u /* bytes that one event becomes, at the most */
#define PATH      4096u
#define NAMED     128u /* threads whose names are written */
#define PATIENCE  1000u
#define STEP_NS   1000000u /* PATIENCE steps of waiting at the end of the program */
#define TRAILER   "\n]\n"
#define TEXT_ROOM (TEXT - RECORD)

struct record {
    enum gci_event_name name;
    gc_event event;
};

struct gci_timeline {
    struct gc_heap *heap;
    gci_lock lock, writing;
    bool on; /* events are taken; written with both locks held */
    uint64_t head, tail;
    uint64_t dropped; /* for want of room */

    bool unopened; /* a child's, whose file is made when there is something for it */
    int error;     /* of the write that ended it */
    struct gci_file file;
    uint32_t process;
    uint64_t phase_ns, start_ns; /* begins of what has not ended */
    uint64_t told_dropped;
    uint32_t named[NAMED]; /* threads */
    uint32_t named_count;
    size_t length; /* of the text that waits */
    char pattern[PATH], path[PATH];
    char text[TEXT];
    struct record ring[RING];
};

/* ---- Taking events -------------------------------------------------------------------------- */

void gci_timeline_add(
    struct gci_timeline *timeline, enum gci_event_name name, const gc_event *event) {
    gci_lock_take(&timeline->lock);
    if (timeline->on && timeline->head - timeline->tail < RING)
        timeline->ring[timeline->head++ % RING] = (struct record){name, *event};
    else if (timeline->on)
        timeline->dropped++;
    gci_unlock(&timeline->lock);
}

static void turn(struct gci_timeline *timeline, bool on) {
    gci_lock_take(&timeline->lock);
    if (on) timeline->head = timeline->tail = timeline->dropped = 0;
    timeline->on = on;
    gci_unlock(&timeline->lock);
    __atomic_add_fetch(&timeline->heap->events.wanted, on ? 1 : UINT32_MAX, __ATOMIC_RELAXED);
}

/* ---- Text ----------------------------------------------------------------------------------- */

/* There is room for a RECORD. */
static __attribute__((format(printf, 2, 3))) void put(
    struct gci_timeline *timeline, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int bytes =
        vsnprintf(timeline->text + timeline->length, TEXT - timeline->length, format, arguments);
    va_end(arguments);
    GCI_CHECK(bytes >= 0 && (size_t)bytes < TEXT - timeline->length);
    timeline->length += (size_t)bytes;
}

static void put_string(struct gci_timeline *timeline, const char *text) {
    put(timeline, "\"");
    while (*text != '\0') {
        char character[GCI_JSON_MOST];
        int bytes = (int)gci_json_character(&text, character);
        put(timeline, "%.*s", bytes, character);
    }
    put(timeline, "\"");
}

static void put_time(struct gci_timeline *timeline, const char *key, uint64_t ns) {
    put(timeline, ",\"%s\":%lu.%03lu", key, ns / 1000, ns % 1000);
}

/* What all but the first begin with. */
static void put_head(struct gci_timeline *timeline, const char *name, const char *category,
    char type, uint32_t thread, uint64_t ns) {
    put(timeline, ",\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"%c\",\"pid\":%u,\"tid\":%u", name,
        category, type, timeline->process, thread);
    put_time(timeline, "ts", ns);
}

static void put_instant(struct gci_timeline *timeline, const char *name, char scope,
    const gc_event *event, const char *key, uint64_t value) {
    put_head(timeline, name, "gc", 'i', event->thread, event->ns);
    put(timeline, ",\"s\":\"%c\",\"args\":{\"%s\":%lu}}", scope, key, value);
}

static void put_counters(struct gci_timeline *timeline, const gc_event *event, uint64_t live) {
    put_head(timeline, "heap", "gc", 'C', event->thread, event->ns);
    put(timeline, ",\"args\":{\"live\":%lu,\"used\":%lu,\"resident\":%lu}}", live,
        event->heap_bytes, event->resident_bytes);
    if (event->nursery_bytes == 0) return;
    put_head(timeline, "nursery", "gc", 'C', event->thread, event->ns);
    put(timeline, ",\"args\":{\"bytes\":%lu}}", event->nursery_bytes);
}

static void put_collection(struct gci_timeline *timeline, const gc_event *event) {
    static const char *const kinds[] = {"minor", "full", "compact"};
    put_head(timeline, kinds[event->kind], "gc", 'X', event->thread, timeline->start_ns);
    put_time(timeline, "dur", event->ns - timeline->start_ns);
    put(timeline, ",\"args\":{\"number\":%lu,\"reason\":", event->collection);
    put_string(timeline, event->reason);
    put(timeline,
        ",\"bytes_before\":%lu,\"bytes_after\":%lu,\"marked_objects\":%lu,\"marked_bytes\":%lu,"
        "\"moved_bytes\":%lu,\"dirty_pages\":%lu,\"compacted\":%s,"
        "\"promoted_all\":%s}}",
        event->bytes_before, event->bytes_after, event->marked_objects, event->marked_bytes,
        event->moved_bytes, event->dirty_pages, event->compacted ? "true" : "false",
        event->promoted_all ? "true" : "false");
    put_counters(timeline, event, event->bytes_after);
}

static void put_phase(struct gci_timeline *timeline, const gc_event *event) {
    put_head(timeline, gc_phase_name((enum gc_phase)event->phase), "gc.phase", 'X', event->thread,
        timeline->phase_ns);
    put_time(timeline, "dur", event->ns - timeline->phase_ns);
    put(timeline, ",\"args\":{\"collection\":%lu}}", event->collection);
}

static void put_name(struct gci_timeline *timeline, const char *what, uint32_t thread) {
    char name[32];
    gci_thread_name(thread, name, sizeof name);
    put(timeline,
        "{\"name\":\"%s\",\"cat\":\"__metadata\",\"ph\":\"M\",\"ts\":0,\"pid\":%u,\"tid\":%u,"
        "\"args\":{\"name\":",
        what, timeline->process, thread);
    put_string(timeline, name);
    put(timeline, "}}");
}

/* A thread's name, before the first event in it, and again when its number is another's. */
static void name_thread(struct gci_timeline *timeline, uint32_t thread, bool ends) {
    uint32_t i = 0;
    while (i < timeline->named_count && timeline->named[i] != thread) i++;
    if (ends) {
        if (i < timeline->named_count)
            timeline->named[i] = timeline->named[--timeline->named_count];
        return;
    }
    if (i < timeline->named_count || i == NAMED) return;
    timeline->named[timeline->named_count++] = thread;
    put(timeline, ",\n");
    put_name(timeline, "thread_name", thread);
}

static void put_event(struct gci_timeline *timeline, const struct record *record) {
    const gc_event *event = &record->event;
    name_thread(timeline, event->thread, record->name == GCI_THREAD_DETACHED);
    switch (record->name) {
    case GCI_COLLECTION_BEGIN:
        timeline->start_ns = event->ns;
        put_counters(timeline, event, event->bytes_before);
        break;
    case GCI_PHASE_BEGIN:
        timeline->phase_ns = event->ns;
        break;
    case GCI_PHASE_END: /* whose begin may have come before there was a timeline */
        if (timeline->phase_ns != 0) put_phase(timeline, event);
        timeline->phase_ns = 0;
        break;
    case GCI_COLLECTION_END:
        if (timeline->start_ns != 0) put_collection(timeline, event);
        timeline->start_ns = 0;
        break;
    case GCI_HEAP_GROWN:
        put_instant(timeline, "heap grown", 'p', event, "bytes", event->bytes);
        break;
    case GCI_HEAP_RETURNED:
        put_instant(timeline, "memory returned", 'p', event, "bytes", event->bytes);
        break;
    case GCI_OUT_OF_MEMORY:
        put_instant(timeline, "out of memory", 'p', event, "bytes", event->bytes);
        break;
    case GCI_THREAD_ATTACHED:
        put_instant(timeline, "thread attached", 't', event, "thread", event->thread);
        break;
    case GCI_THREAD_DETACHED:
        put_instant(timeline, "thread detached", 't', event, "thread", event->thread);
        break;
    }
}

/* ---- The file ------------------------------------------------------------------------------- */

static int write_text(struct gci_timeline *timeline) {
    int error = gci_file_append(
        &timeline->file, timeline->text, timeline->length, TRAILER, sizeof TRAILER - 1);
    timeline->length = 0;
    return error;
}

static int open_file(struct gci_timeline *timeline) {
    timeline->process = gci_process_id();
    timeline->phase_ns = timeline->start_ns = timeline->told_dropped = 0;
    timeline->named_count = 0;
    timeline->length = 0;
    if (!gci_path_expand(timeline->path, PATH, timeline->pattern, NULL)) return EINVAL;
    int error = gci_file_create(&timeline->file, timeline->path);
    if (error != 0) return error;
    put(timeline, "[\n");
    put_name(timeline, "process_name", timeline->process);
    error = write_text(timeline);
    if (error != 0) gci_file_close(&timeline->file);
    return error;
}

static void give_up(struct gci_timeline *timeline, int error) {
    gci_log("the timeline ends: can't write %s: %s", timeline->path, gci_error_name(error));
    timeline->error = error;
    turn(timeline, false);
    gci_file_close(&timeline->file);
}

/* WRITING is held. */
static void write_events(struct gci_timeline *timeline) {
    int error = 0;
    for (;;) {
        gci_lock_take(&timeline->lock);
        uint64_t head = timeline->head, dropped = timeline->dropped;
        bool on = timeline->on;
        gci_unlock(&timeline->lock);
        if (!on || (timeline->tail == head && timeline->length == 0)) break;
        if (timeline->unopened) {
            timeline->unopened = false;
            error = open_file(timeline);
            if (error != 0) break;
        }
        uint64_t tail = timeline->tail;
        while (tail < head && timeline->length < TEXT_ROOM - RECORD)
            put_event(timeline, &timeline->ring[tail++ % RING]);
        if (dropped > timeline->told_dropped) {
            gc_event event = {.ns = gci_clock_ns(), .thread = gci_thread_id()};
            put_instant(timeline, "events dropped", 'p', &event, "count", dropped);
            timeline->told_dropped = dropped;
        }
        gci_lock_take(&timeline->lock);
        timeline->tail = tail;
        gci_unlock(&timeline->lock);
        error = write_text(timeline);
        if (error != 0) break;
    }
    if (error != 0) give_up(timeline, error);
}

/* Another thread that writes writes this one's events, too, or leaves them to the next. */
void gci_timeline_flush(struct gci_timeline *timeline) {
    if (!gci_lock_try(&timeline->writing)) return;
    write_events(timeline);
    gci_unlock(&timeline->writing);
}

/* ---- Beginning and ending ------------------------------------------------------------------- */

static size_t timeline_bytes(void) {
    return gci_whole_pages(sizeof(struct gci_timeline));
}

/* The heap's, made if need be. */
static struct gci_timeline *timeline_of(struct gc_heap *heap) {
    struct gci_timeline *timeline = __atomic_load_n(&heap->events.timeline, __ATOMIC_ACQUIRE);
    if (timeline != NULL) return timeline;
    struct gci_timeline *fresh = gci_vm_map(timeline_bytes());
    if (fresh == NULL) return NULL;
    fresh->heap = heap;
    fresh->file.fd = -1;
    if (__atomic_compare_exchange_n(
            &heap->events.timeline, &timeline, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return fresh;
    gci_vm_unmap(fresh, timeline_bytes());
    return timeline;
}

int gci_timeline_start(struct gc_heap *heap, const char *path) {
    if (path == NULL || strlen(path) >= PATH) return EINVAL;
    struct gci_timeline *timeline = timeline_of(heap);
    if (timeline == NULL) return ENOMEM;
    gci_lock_take(&timeline->writing);
    int error = timeline->on ? EALREADY : 0;
    if (error == 0) {
        strcpy(timeline->pattern, path);
        timeline->unopened = false;
        timeline->error = 0;
        error = open_file(timeline);
        if (error == 0) turn(timeline, true);
    }
    gci_unlock(&timeline->writing);
    return error;
}

/* WRITING is held. */
static int end(struct gci_timeline *timeline) {
    write_events(timeline);
    if (!timeline->on) {
        int error = timeline->error;
        timeline->error = 0;
        return error != 0 ? error : ENOENT;
    }
    turn(timeline, false);
    gci_file_close(&timeline->file);
    return 0;
}

int gci_timeline_stop(struct gc_heap *heap) {
    struct gci_timeline *timeline = __atomic_load_n(&heap->events.timeline, __ATOMIC_ACQUIRE);
    if (timeline == NULL) return ENOENT;
    gci_lock_take(&timeline->writing);
    int error = end(timeline);
    gci_unlock(&timeline->writing);
    return error;
}

/* The end of the program.  One that ends in a signal handler or a listener may have interrupted who
 * holds the lock. */
static __attribute__((destructor)) void at_exit(void) {
    const struct gc_heap *heap = gci_default_heap();
    struct gci_timeline *timeline = heap != NULL ? heap->events.timeline : NULL;
    if (timeline == NULL) return;
    uint64_t signals = gci_signals_block();
    bool held = false;
    for (unsigned i = 0; i < PATIENCE && !held; i++) {
        held = gci_lock_try(&timeline->writing);
        if (!held) gci_pause_ns(STEP_NS);
    }
    if (held) {
        (void)end(timeline);
        gci_unlock(&timeline->writing);
    }
    gci_signals_restore(signals);
}

/* ---- After fork ----------------------------------------------------------------------------- */

/* The file is the parent's. */
void gci_timeline_after_fork(struct gc_heap *heap) {
    struct gci_timeline *timeline = heap->events.timeline;
    if (timeline == NULL) return;
    timeline->lock = timeline->writing = 0;
    bool own = false;
    (void)gci_path_expand(NULL, 0, timeline->pattern, &own);
    timeline->head = timeline->tail = timeline->dropped = 0;
    timeline->length = 0;
    if (!timeline->on) return;
    gci_file_close(&timeline->file);
    timeline->unopened = own;
    if (!own) turn(timeline, false);
}
