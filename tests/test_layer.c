/* The layer with Boehm's API from inside: what programs can't see through its functions.  Those are
 * tested in tests/boehm. */
#define _GNU_SOURCE
#include "gc/boehm/layer.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "child.h"
#include "gc/arena.h"
#include "gc/heap.h"
#include "gc/type.h"
#include "support.h"

/* ---- Uncollectable objects ------------------------------------------------------------------ */

#define OBJECTS 1000

static size_t visits;

static void count_visit(gc_visitor *visitor, uintptr_t *slot) {
    (void)visitor;
    REQUIRE(*slot > 1);
    visits++;
}

/* How many roots the layer reports to who marks in a collection. */
static void on_phase(const gc_event *event, void *data) {
    (void)data;
    gc_visitor visitor = {.visit = count_visit};
    if (event->phase == GC_PHASE_ROOTS) gcb_visit_roots(&visitor, GC_ROOTS_PRECISE, NULL);
}

static size_t visits_of(enum gc_collection kind) {
    visits = 0;
    REQUIRE_EQUAL(gc_collect(kind), 0);
    return visits;
}

static void count_visits(void) {
    static const gc_listener listener = {.size = sizeof listener, .phase_begin = on_phase};
    GC_init();
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
}

/* Numbered objects that are held by malloc's memory only, where no collector looks. */
static uintptr_t *hold(size_t count) {
    uintptr_t *objects = malloc(count * sizeof *objects);
    REQUIRE(objects != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t *p = GC_malloc_uncollectable(40);
        REQUIRE(p != NULL);
        p[0] = i;
        p[1] = (size_t)GC_malloc(24);
        *(size_t *)p[1] = i;
        objects[i] = (uintptr_t)p;
    }
    return objects;
}

static void check_held(const uintptr_t *objects, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const size_t *p = (const size_t *)objects[i];
        REQUIRE(gcb_is_held(p));
        REQUIRE(p[0] == i && *(const size_t *)p[1] == i);
    }
}

static void minor_collections_look_at_new_uncollectable_objects_only(void) {
    count_visits();
    hold(OBJECTS);
    REQUIRE_EQUAL(visits_of(GC_MINOR), OBJECTS);
    REQUIRE_EQUAL(visits_of(GC_MINOR), 0);
    uintptr_t *some = hold(3);
    REQUIRE_EQUAL(visits_of(GC_MINOR), 3);
    REQUIRE_EQUAL(visits_of(GC_FULL), OBJECTS + 3);
    REQUIRE_EQUAL(visits_of(GC_MINOR), 0);
    GC_free((void *)some[1]); /* what is freed isn't looked at any more */
    some = hold(5);
    GC_free((void *)some[0]);
    GC_free((void *)some[4]);
    REQUIRE_EQUAL(visits_of(GC_MINOR), 3);
    REQUIRE_EQUAL(visits_of(GC_FULL), OBJECTS + 5);
}

/* More than the list of new ones has room for, while the table grows, and others come and go. */
static void uncollectable_objects_live_through_collections(void) {
    GC_init();
    uintptr_t *objects[20];
    size_t count = 1;
    for (size_t round = 0; round < 20; round++) {
        objects[round] = hold(count);
        for (size_t i = 0; i < 1000; i++) GC_free(GC_malloc_uncollectable(i % 200));
        for (size_t i = 0; i < 1000; i++) memset(GC_malloc(40), 0x5a, 40);
        REQUIRE_EQUAL(gc_collect(round % 7 == 6 ? GC_FULL : GC_MINOR), 0);
        size_t many = 1;
        for (size_t r = 0; r <= round; r++, many = many * 3 / 2 + 1) check_held(objects[r], many);
        count = count * 3 / 2 + 1;
    }
}

static void nothing_else_is_uncollectable(void) {
    GC_init();
    void *p = GC_malloc_uncollectable(40), *q = GC_malloc_uncollectable(40);
    GC_free(p); /* leaves a gap in the table */
    REQUIRE(gcb_is_held(q));
    for (uintptr_t odd = 0; odd < 40; odd++)
        REQUIRE(!gcb_is_held((void *)odd) && !gcb_release((void *)odd));
    for (uintptr_t odd = 1; odd < 40; odd++) REQUIRE(!gcb_is_held((char *)q + odd));
    REQUIRE(gcb_is_held(q) && gcb_release(q) && !gcb_is_held(q) && !gcb_release(q));
}

/* ---- Settings ------------------------------------------------------------------------------- */

static void settings_change_what_they_stand_for(void) {
    GC_init();
    const struct gc_heap *heap = gci_default_heap();
    size_t limit = heap->limit;
    uint32_t blocks = heap->arena.block_limit;
    GC_set_free_space_divisor(5);
    REQUIRE_EQUAL(heap->options.growth_percent, 30);
    GC_set_max_heap_size(64 << 20);
    REQUIRE_EQUAL(heap->limit, 64 << 20);
    GC_set_max_heap_size(SIZE_MAX / 2); /* more than there is */
    REQUIRE(heap->limit == limit && heap->arena.block_limit == blocks);
    GC_set_max_heap_size(64 << 20);
    GC_set_max_heap_size(0);
    REQUIRE(heap->limit == limit && heap->arena.block_limit == blocks);
}

static void check_variables(void) {
    GC_set_free_space_divisor(4);
    GC_set_max_heap_size(40 << 20);
    GC_init();
    const struct gc_heap *heap = gci_default_heap();
    for (int i = 0; i < 2; i++) {
        REQUIRE_EQUAL(heap->options.growth_percent, 50);
        REQUIRE_EQUAL(heap->limit, 96 << 20);
        GC_set_free_space_divisor(5);
        GC_set_max_heap_size(i == 0 ? 0 : 64 << 20);
        REQUIRE_EQUAL(GC_get_free_space_divisor(), 5);
        REQUIRE_EQUAL(heap->options.growth_percent, 50);
        REQUIRE_EQUAL(heap->limit, 96 << 20);
    }
}

static void variables_win_over_settings(void) {
    check_variables();
}

static void a_variable_that_is_ignored_does_not_win(void) {
    settings_change_what_they_stand_for();
}

/* ---- The lock, and threads that stand still --------------------------------------------------- */

static unsigned starts;

static void on_start(void) {
    REQUIRE(!gci_default_heap()->world.stopped);
    starts++;
}

static void collections_begin_before_threads_are_stopped(void) {
    GC_init();
    GC_set_start_callback(on_start);
    GC_gcollect();
    REQUIRE_EQUAL(starts, 1);
    int file = open("/dev/null", O_WRONLY);
    REQUIRE(file >= 0);
    REQUIRE_EQUAL(gc_snapshot_write_fd(file), 0);
    REQUIRE_EQUAL(starts, 2);
    GC_disable();
    REQUIRE_EQUAL(gc_snapshot_write_fd(file), 0); /* without a collection */
    REQUIRE_EQUAL(starts, 2);
}

#define EXCLUDERS 3u
#define ROUNDS    4000

static char excluded[1024];
static unsigned arrived;

/* All begin at once. */
static void meet(unsigned number) {
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < number) sched_yield();
}

static void *exclude(void *p) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        meet((2 * round + 1) * EXCLUDERS);
        for (unsigned i = 0; i < GCI_EXCLUDED_MAX / EXCLUDERS; i++)
            GC_exclude_static_roots(excluded, excluded + 16);
        meet((2 * round + 2) * EXCLUDERS);
        if (p == NULL) continue;
        REQUIRE_EQUAL(gcb_static_filter.excluded_count, GCI_EXCLUDED_MAX / EXCLUDERS * EXCLUDERS);
        GC_clear_exclusion_table();
    }
    return NULL;
}

static void ranges_are_excluded_by_several_threads(void) {
    GC_init();
    pthread_t threads[EXCLUDERS - 1];
    for (unsigned t = 0; t < EXCLUDERS - 1; t++)
        REQUIRE_EQUAL(pthread_create(&threads[t], NULL, exclude, NULL), 0);
    exclude(excluded);
    for (unsigned t = 0; t < EXCLUDERS - 1; t++) pthread_join(threads[t], NULL);
}

static void *allocate(void *p) {
    REQUIRE(GC_malloc(40) != NULL);
    return p;
}

static void *let_allocate(void *p) {
    return GC_call_with_gc_active(allocate, p);
}

static void *block_unknown(void *p) {
    REQUIRE(!GC_thread_is_registered());
    void *result = GC_do_blocking(let_allocate, p);
    REQUIRE(GC_thread_is_registered());
    return result;
}

static void a_thread_may_attach_itself_while_it_blocks(void) {
    GC_init();
    pthread_t thread;
    void *result;
    REQUIRE_EQUAL(pthread_create(&thread, NULL, block_unknown, excluded), 0);
    REQUIRE_EQUAL(pthread_join(thread, &result), 0);
    REQUIRE(result == excluded);
    GC_gcollect();
}

/* ---- What follows the lock ------------------------------------------------------------------ */

/* Guile moves a thread's VM stack with the lock held, and sets that VM's stack pointer right after.
 * Waking who waits to collect may cost the thread its CPU in between. */
static volatile bool half_done;
static size_t found_half_done, looked;
static int halves_end;

static void look_for_half_done(void) {
    looked++;
    found_half_done += half_done;
}

static void spend(unsigned steps) {
    for (volatile unsigned i = 0; i < steps; i++) continue;
}

static void *do_half(void *p) {
    half_done = true;
    spend(200000);
    return p;
}

static void *do_in_halves(void *p) {
    while (!__atomic_load_n(&halves_end, __ATOMIC_ACQUIRE)) {
        GC_call_with_alloc_lock(do_half, p);
        half_done = false;
        spend(2000);
    }
    return p;
}

static void what_follows_the_lock_comes_before_a_collection(void) {
#ifdef GC_SANITIZE
    child_skip("with a sanitizer what follows takes longer than it is waited for");
#endif
    GC_init();
    GC_set_push_other_roots(look_for_half_done);
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, do_in_halves, NULL), 0);
    for (int i = 0; i < 1000; i++) GC_gcollect();
    __atomic_store_n(&halves_end, 1, __ATOMIC_RELEASE);
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
    REQUIRE(looked >= 1000);
    if (found_half_done > 100)
        child_fail(__FILE__, __LINE__, "%zu of %zu", found_half_done, looked);
}

/* ---- Debugging ------------------------------------------------------------------------------ */

static void debugged_objects_keep_their_kind(void) {
    GC_init();
    int kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    const int kinds[] = {GCB_PTRFREE, GCB_NORMAL, GCB_UNCOLLECTABLE, GCB_AUNCOLLECTABLE, kind};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *p = GC_debug_generic_or_special_malloc(20, kinds[i], __FILE__, __LINE__);
        memset(p, 7, 20);
        p = GC_debug_realloc(p, 500, __FILE__, __LINE__);
        REQUIRE(all_bytes(p, 7, 20));
        REQUIRE_EQUAL(GC_get_kind_and_size(GC_base(p), NULL), kinds[i]);
        GC_debug_free(p);
    }
}

/* ---- When it collects ----------------------------------------------------------------------- */

#define MB ((size_t)1 << 20)

static uintptr_t *kept;

/* BYTES of objects with pointers, of which one in EACH lives on, or of LEAVES that don't.  As if the
 * program did something with them, for SLEEP_NS each 128 KB, so that full collections are cheap.
 * Returns the most that was taken by blocks. */
static size_t make(size_t bytes, unsigned each, bool leaves, long sleep_ns) {
    const struct gci_arena *arena = &gci_default_heap()->arena;
    size_t most = 0;
    for (size_t i = 0; i < bytes / 32; i++) {
        uintptr_t *p = leaves ? GC_malloc_atomic(24) : GC_malloc(24);
        REQUIRE(p != NULL);
        if (gci_arena_taken_bytes(arena) > most) most = gci_arena_taken_bytes(arena);
        if (i % 4096 == 0) nanosleep(&(struct timespec){0, sleep_ns}, NULL);
        if (leaves || i % each != 0) continue;
        *p = (uintptr_t)kept;
        kept = p;
    }
    return most;
}

static void cheap_collections_wait_until_the_heap_has_grown(void) {
    GC_init();
    make(12 * MB, 6, false, 4000000);
    uint64_t before = gci_default_heap()->collections;
    make(60 * MB, UINT32_MAX, false, 4000000);
    REQUIRE(gci_default_heap()->collections - before <= 60 / 5 + 1); /* and not each 3.5 MB */
}

static void growth_is_not_taken_twice(void) {
    GC_init();
    make(30 * MB, 20, false, 1000000);
    GC_gcollect();
    const struct gc_heap *heap = gci_default_heap();
    size_t taken = gci_arena_taken_bytes(&heap->arena), live = heap->live_bytes;
    REQUIRE(taken > 10 * MB && live < 3 * MB);
    size_t most = make(40 * MB, 1, true, 1000000);
    REQUIRE(most < taken + 8 * MB);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(minor_collections_look_at_new_uncollectable_objects_only),
        CHILD_TEST(uncollectable_objects_live_through_collections, "CAIRN_VERIFY=1"),
        CHILD_TEST(nothing_else_is_uncollectable),
        CHILD_TEST(settings_change_what_they_stand_for),
        CHILD_TEST(variables_win_over_settings, "CAIRN_GROWTH_PERCENT=50", "CAIRN_HEAP_LIMIT=96M"),
        CHILD_TEST(a_variable_that_is_ignored_does_not_win, "CAIRN_GROWTH_PERCENT=5",
            "CAIRN_HEAP_LIMIT=96X"),
        CHILD_TEST(collections_begin_before_threads_are_stopped),
        CHILD_TEST(ranges_are_excluded_by_several_threads),
        CHILD_TEST(a_thread_may_attach_itself_while_it_blocks),
        CHILD_TEST(what_follows_the_lock_comes_before_a_collection),
        CHILD_TEST(debugged_objects_keep_their_kind),
        CHILD_TEST(cheap_collections_wait_until_the_heap_has_grown),
        CHILD_TEST(growth_is_not_taken_twice),
    };
    return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}
