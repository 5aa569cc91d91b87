/* The Boehm-Demers-Weiser collector as an ordinary program uses it: GC_INIT() and the defaults.
 *
 * Its pauses are measured here, from the events it reports.  The thread that collects stands still
 * from the stop of the world to the end of reclaiming, which comes after the world was started
 * again, so that is what counts as the pause; other threads run on while it reclaims, until they
 * need its lock.  The times are kept in malloc's memory, which it doesn't scan. */
#include <stdlib.h>
#include <time.h>

#include "bench/bench.h"

/* Written by on_event() only, under the collector's lock, in whatever thread collects; read when
 * the other threads have ended. */
static uint64_t pause_start;
static uint64_t *pauses;
static size_t pause_count, pause_room;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Called when the world runs again: while it's stopped a thread may hold malloc's lock. */
static void end_pause(void) {
    if (pause_count == pause_room) {
        pause_room = pause_room == 0 ? 1024 : 2 * pause_room;
        pauses = realloc(pauses, pause_room * sizeof *pauses);
        if (pauses == NULL) bench_out_of_memory(pause_room * sizeof *pauses);
    }
    pauses[pause_count++] = now_ns() - pause_start;
    pause_start = 0;
}

static void GC_CALLBACK on_event(GC_EventType event) {
    switch (event) {
    case GC_EVENT_START:
    case GC_EVENT_PRE_STOP_WORLD:
        if (pause_start == 0) pause_start = now_ns();
        break;
    case GC_EVENT_RECLAIM_END:
        if (pause_start != 0) end_pause();
        break;
    default:
        break;
    }
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void bench_start(void) {
    GC_INIT();
    GC_set_on_collection_event(on_event);
}

void bench_report(struct bench_counters *counters) {
    counters->full = GC_get_gc_no();
    if (pause_count == 0) return;
    qsort(pauses, pause_count, sizeof *pauses, compare);
    counters->pause_p50_ns = pauses[(pause_count - 1) / 2];
    counters->pause_p99_ns = pauses[(pause_count * 99 + 99) / 100 - 1];
    counters->pause_max_ns = pauses[pause_count - 1];
}
