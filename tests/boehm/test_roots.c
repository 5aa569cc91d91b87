/* Where the collector looks for pointers: static data, of libraries loaded later, too; ranges the
 * program names or excludes; what its procedures push. */
#include "support.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "gc_mark.h"

static struct watched *watched;

static void fill(void *p) {
    void **slots = p;
    for (int i = 0; i < MANY; i++) {
        slots[i] = GC_malloc(24);
        watch(watched, slots[i]);
    }
}

/* How many of MANY objects stay that only SLOTS hold. */
static size_t kept_by(void **slots) {
    watched = new_watched();
    far_below(fill, slots);
    collect_all();
    return alive(watched);
}

static void **outside(void) {
    void *p = mmap(
        NULL, MANY * sizeof(void *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    return p;
}

static void *zeroed[MANY], *set[MANY] = {(void *)1};

static void static_data_holds(void) {
    GC_INIT();
    REQUIRE_EQUAL(kept_by(zeroed), MANY);
    REQUIRE_EQUAL(kept_by(set), MANY);
    REQUIRE_EQUAL(kept_by(held), MANY);
}

static void memory_of_others_holds_nothing(void) {
    GC_INIT();
    REQUIRE_FEW(kept_by(outside()), MANY);
    REQUIRE_FEW(kept_by(malloc(MANY * sizeof(void *))), MANY);
}

static void added_roots_hold_until_removed(void) {
    GC_INIT();
    void **p = outside();
    GC_add_roots(p, p + MANY);
    REQUIRE_EQUAL(kept_by(p), MANY);
    REQUIRE_EQUAL(kept_by(p), MANY);
    GC_remove_roots(p, p + MANY);
    collect_all();
    REQUIRE_FEW(alive(watched), MANY);
}

static void part_of_a_range_may_be_a_root(void) {
    GC_INIT();
    void **p = outside();
    GC_add_roots(p, p + MANY / 2);
    size_t n = kept_by(p);
    REQUIRE(n >= MANY / 2);
    REQUIRE_FEW(n - MANY / 2, MANY / 2);
    GC_add_roots(p + MANY / 2, p + MANY);
    REQUIRE_EQUAL(kept_by(p), MANY);
}

static void cleared_roots_hold_nothing(void) {
    GC_INIT();
    void **p = outside();
    GC_add_roots(p, p + MANY);
    GC_clear_roots();
    REQUIRE_FEW(kept_by(p), MANY);
    REQUIRE_EQUAL(kept_by(held), MANY); /* found again at each collection */
}

static void excluded_static_data_holds_nothing(void) {
    GC_INIT();
    GC_exclude_static_roots(held + MANY, held + 2 * MANY);
    REQUIRE_FEW(kept_by(held + MANY), MANY);
    REQUIRE_EQUAL(kept_by(held), MANY);
    REQUIRE_EQUAL(kept_by(held + 2 * MANY), MANY);
    GC_clear_exclusion_table();
}

static void **load(void *(*open)(const char *, int)) {
    const char *file = getenv("CAIRN_TEST_BOEHM_PLUGIN");
    if (file == NULL) child_skip("CAIRN_TEST_BOEHM_PLUGIN isn't set");
    void *handle = open(file, RTLD_NOW);
    REQUIRE(handle != NULL);
    void **(*memory)(void) = (void **(*)(void))dlsym(handle, "plugin_memory");
    REQUIRE(memory != NULL);
    return memory();
}

static void libraries_loaded_later_hold(void) {
    GC_INIT();
    GC_gcollect();
    REQUIRE_EQUAL(kept_by(load(dlopen)), MANY);
}

static void libraries_loaded_through_the_wrapper_hold(void) {
    GC_INIT();
    GC_gcollect();
    REQUIRE_EQUAL(kept_by(load(GC_dlopen)), MANY);
    void *self = GC_dlopen(NULL, RTLD_LAZY);
    REQUIRE(self != NULL);
}

static bool saw_plugin;

static int all_but_plugin(const char *name, void *start, size_t bytes) {
    (void)start;
    (void)bytes;
    bool plugin = name != NULL && strstr(name, "plugin") != NULL;
    saw_plugin |= plugin;
    return !plugin;
}

static void the_program_may_filter_libraries(void) {
    GC_INIT();
    GC_register_has_static_roots_callback(all_but_plugin);
    void **slots = load(dlopen);
    REQUIRE_FEW(kept_by(slots), MANY);
    REQUIRE(saw_plugin);
    REQUIRE_EQUAL(kept_by(held), MANY);
    GC_register_has_static_roots_callback(NULL);
    REQUIRE_EQUAL(kept_by(slots), MANY);
}

static void no_dls_leaves_libraries_out(void) {
    GC_set_no_dls(1);
    GC_INIT();
    REQUIRE(GC_get_no_dls());
    REQUIRE_FEW(kept_by(load(dlopen)), MANY);
}

static void **pushed;
static GC_push_other_roots_proc next;
static long pushes;

static void push_all(void) {
    pushes++;
    if (next != NULL) next();
    GC_push_all(pushed, pushed + MANY);
}
static void push_eagerly(void) {
    pushes++;
    if (next != NULL) next();
    GC_push_all_eager(pushed, pushed + MANY);
}
static void push_conditionally(void) {
    pushes++;
    if (next != NULL) next();
    GC_push_conditional(pushed, pushed + MANY, 1);
}

static void pushed_ranges_hold(void) {
    GC_INIT();
    pushed = outside();
    next = GC_get_push_other_roots();
    static const GC_push_other_roots_proc procs[] = {push_all, push_eagerly, push_conditionally};
    for (int i = 0; i < 3; i++) {
        pushes = 0;
        GC_set_push_other_roots(procs[i]);
        REQUIRE(GC_get_push_other_roots() == procs[i]);
        REQUIRE_EQUAL(kept_by(pushed), MANY);
        REQUIRE(pushes > 0);
        GC_set_push_other_roots(next);
        collect_all();
        REQUIRE_FEW(alive(watched), MANY);
    }
}

static long starts;
static void on_start(void) {
    starts++;
}

static void the_start_of_collections_is_told(void) {
    GC_INIT();
    GC_set_start_callback(on_start);
    REQUIRE(GC_get_start_callback() == on_start);
    GC_gcollect();
    REQUIRE(starts >= 1);
    long before = starts;
    GC_gcollect();
    REQUIRE(starts > before);
    GC_set_start_callback(NULL);
    before = starts;
    GC_gcollect();
    REQUIRE_EQUAL(starts, before);
}

static GC_EventType events[100];
static int event_count;
static void on_event(GC_EventType event) {
    if (event_count < 100) events[event_count++] = event;
}

static int place(GC_EventType event) {
    for (int i = 0; i < event_count; i++)
        if (events[i] == event) return i;
    child_fail(__FILE__, __LINE__, "event %d wasn't told", (int)event);
}

static void phases_are_told_in_order(void) {
    GC_INIT();
    GC_set_on_collection_event(on_event);
    REQUIRE(GC_get_on_collection_event() == on_event);
    GC_gcollect();
    GC_set_on_collection_event(NULL);
    REQUIRE(place(GC_EVENT_START) < place(GC_EVENT_MARK_START));
    REQUIRE(place(GC_EVENT_MARK_START) < place(GC_EVENT_MARK_END));
    REQUIRE(place(GC_EVENT_MARK_END) < place(GC_EVENT_RECLAIM_START));
    REQUIRE(place(GC_EVENT_RECLAIM_START) < place(GC_EVENT_RECLAIM_END));
    REQUIRE(place(GC_EVENT_RECLAIM_END) < place(GC_EVENT_END));
    REQUIRE(place(GC_EVENT_PRE_STOP_WORLD) < place(GC_EVENT_POST_STOP_WORLD));
    REQUIRE(place(GC_EVENT_POST_STOP_WORLD) < place(GC_EVENT_PRE_START_WORLD));
    REQUIRE(place(GC_EVENT_PRE_START_WORLD) < place(GC_EVENT_POST_START_WORLD));
}

static void temporary_roots_are_libraries(void) {
    GC_INIT();
    GC_gcollect();
    void **p = outside();
    REQUIRE(!GC_is_tmp_root(p));
    GC_add_roots(p, p + MANY);
    REQUIRE(!GC_is_tmp_root(p));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(static_data_holds),
        CHILD_TEST(memory_of_others_holds_nothing),
        CHILD_TEST(added_roots_hold_until_removed),
        CHILD_TEST(part_of_a_range_may_be_a_root),
        CHILD_TEST(cleared_roots_hold_nothing),
        CHILD_TEST(excluded_static_data_holds_nothing),
        CHILD_TEST(libraries_loaded_later_hold),
        CHILD_TEST(libraries_loaded_through_the_wrapper_hold),
        CHILD_TEST(the_program_may_filter_libraries),
        CHILD_TEST(no_dls_leaves_libraries_out),
        CHILD_TEST(pushed_ranges_hold),
        CHILD_TEST(the_start_of_collections_is_told),
        CHILD_TEST(phases_are_told_in_order),
        CHILD_TEST(temporary_roots_are_libraries),
    };
    return cmocka_run_group_tests_name("boehm_roots", tests, NULL, NULL);
}
