/* When collections happen and how the heap grows; what is told of both. */
#include "support.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gc_mark.h"

static void collections_are_counted(void) {
    GC_INIT();
    GC_word before = GC_get_gc_no();
    GC_gcollect();
    REQUIRE(GC_get_gc_no() > before);
    before = GC_get_gc_no();
    for (int i = 0; i < 3000000; i++) GC_malloc(100);
    REQUIRE(GC_get_gc_no() > before);
}

static int always(void) {
    return 1;
}
static int never(void) {
    return 0;
}

static void collections_may_be_stopped(void) {
    GC_INIT();
    static void **list;
    for (int i = 0; i < 100000; i++) {
        void **p = GC_malloc(16);
        *p = list;
        GC_end_stubborn_change(p);
        list = p;
    }
    held[0] = list;
    REQUIRE_EQUAL(GC_try_to_collect(always), 0);
    REQUIRE_EQUAL(GC_try_to_collect(never), 1);
    GC_set_stop_func(always);
    REQUIRE(GC_get_stop_func() == always);
    GC_gcollect();
    REQUIRE_EQUAL(GC_try_to_collect(never), 1); /* has its own */
    GC_set_stop_func(never);
    int n = 0;
    for (void **p = held[0]; p != NULL; p = *p) n++;
    REQUIRE_EQUAL(n, 100000);
}

static void disabling_nests(void) {
    GC_INIT();
    REQUIRE(!GC_is_disabled());
    GC_disable();
    GC_disable();
    REQUIRE(GC_is_disabled());
    GC_word before = GC_get_gc_no();
    REQUIRE_FEW(MANY - (long)garbage_kept(GC_malloc, 100), MANY);
    for (int i = 0; i < 200000; i++) GC_malloc(200);
    REQUIRE_EQUAL(GC_get_gc_no(), before);
    REQUIRE_EQUAL(GC_try_to_collect(never), 0);
    GC_enable();
    REQUIRE(GC_is_disabled());
    GC_enable();
    REQUIRE(!GC_is_disabled());
    REQUIRE_EQUAL(GC_try_to_collect(never), 1);
    REQUIRE(GC_get_gc_no() > before);
}

static void automatic_collection_may_be_off(void) {
    GC_INIT();
    GC_set_disable_automatic_collection(1);
    REQUIRE(GC_get_disable_automatic_collection());
    GC_word before = GC_get_gc_no();
    for (int i = 0; i < 200000; i++) GC_malloc(200);
    REQUIRE_EQUAL(GC_get_gc_no(), before);
    GC_gcollect();
    REQUIRE(GC_get_gc_no() > before);
    GC_set_disable_automatic_collection(0);
}

static void a_full_collection_gives_memory_back(void) {
    GC_INIT();
    for (int i = 0; i < 4 * MANY; i++) held[i] = GC_malloc_atomic(20000);
    memset(held, 0, sizeof held);
    size_t before = GC_get_heap_size();
    collect_all();
    for (int i = 0; i < 3; i++) GC_gcollect_and_unmap(); /* Boehm's needs a second one */
    REQUIRE(GC_get_heap_size() < before / 2);
    for (int i = 0; i < MANY; i++) held[i] = GC_malloc(20000);
    for (int i = 0; i < MANY; i++) REQUIRE(GC_size(held[i]) >= 20000);
}

static void the_heap_grows_and_says_so(void) {
    GC_INIT();
    size_t before = GC_get_heap_size();
    REQUIRE_EQUAL(GC_expand_hp(8 << 20), 1);
    REQUIRE(GC_get_heap_size() >= before + (8 << 20));
    REQUIRE(GC_get_free_bytes() <= GC_get_heap_size());
    REQUIRE(GC_get_obtained_from_os_bytes() >= GC_get_heap_size());
    for (int i = 0; i < MANY; i++) held[i] = GC_malloc(5000);
    REQUIRE(GC_get_memory_use() >= MANY * 5000);
}

static GC_word resized;
static void on_resize(GC_word bytes) {
    resized = bytes;
}

static void resizing_is_told(void) {
    GC_INIT();
    GC_set_on_heap_resize(on_resize);
    REQUIRE(GC_get_on_heap_resize() == on_resize);
    GC_expand_hp(16 << 20);
    REQUIRE(resized >= 16 << 20);
    REQUIRE(resized <= GC_get_heap_size() + (64 << 20));
}

static void allocated_bytes_are_counted(void) {
    GC_INIT();
    GC_gcollect();
    GC_disable();
    size_t total = GC_get_total_bytes(), since = GC_get_bytes_since_gc();
    for (int i = 0; i < 10000; i++) GC_malloc(1000);
    REQUIRE(GC_get_total_bytes() - total >= 9500000);
    REQUIRE(GC_get_total_bytes() - total < 15000000);
    REQUIRE(GC_get_bytes_since_gc() - since >= 9500000);
    size_t freed = GC_get_expl_freed_bytes_since_gc();
    for (int i = 0; i < 100; i++) GC_free(GC_malloc(10000));
    REQUIRE(GC_get_expl_freed_bytes_since_gc() - freed >= 1000000);
    GC_enable();
    GC_gcollect();
    REQUIRE(GC_get_bytes_since_gc() < 1000000);
    GC_word sizes[5] = {0};
    GC_get_heap_usage_safe(sizes, sizes + 1, sizes + 2, sizes + 3, sizes + 4);
    REQUIRE(sizes[0] >= sizes[1] && sizes[4] >= 10000000);
    GC_get_heap_usage_safe(NULL, NULL, NULL, NULL, NULL);
}

static void statistics_agree_with_the_single_ones(void) {
    GC_INIT();
    for (int i = 0; i < 10000; i++) GC_malloc(1000);
    GC_gcollect();
    struct GC_prof_stats_s s;
    memset(&s, 0x55, sizeof s);
    REQUIRE_EQUAL(GC_get_prof_stats(&s, sizeof s), sizeof s);
    REQUIRE_EQUAL(s.gc_no, GC_get_gc_no());
    REQUIRE(s.heapsize_full >= GC_get_heap_size());
    REQUIRE(s.free_bytes_full <= s.heapsize_full);
    REQUIRE_EQUAL(s.non_gc_bytes, GC_get_non_gc_bytes());
    REQUIRE_EQUAL(s.unmapped_bytes, GC_get_unmapped_bytes());
    REQUIRE_EQUAL(s.markers_m1, GC_get_parallel());
    REQUIRE(s.obtained_from_os_bytes >= s.heapsize_full);
    REQUIRE(s.allocd_bytes_before_gc + s.bytes_allocd_since_gc >= 9500000);
    REQUIRE(s.bytes_reclaimed_since_gc < 1u << 30 && s.reclaimed_bytes_before_gc < 1u << 30);
    struct {
        struct GC_prof_stats_s s;
        GC_word more[3];
    } longer; /* of a later version */
    memset(&longer, 0, sizeof longer);
    REQUIRE_EQUAL(GC_get_prof_stats(&longer.s, sizeof longer), sizeof s);
    REQUIRE_EQUAL(longer.more[0], (GC_word)-1);
    REQUIRE_EQUAL(longer.more[2], (GC_word)-1);
    memset(&s, 0x55, sizeof s);
    REQUIRE_EQUAL(GC_get_prof_stats_unsafe(&s, 8), 8);
    REQUIRE_EQUAL(s.free_bytes_full, 0x5555555555555555);
}

static void time_in_collections_is_measured(void) {
    GC_INIT();
    GC_start_performance_measurement();
    static void *list;
    for (int i = 0; i < 1000000; i++) {
        void **p = GC_malloc(32);
        *p = list;
        GC_end_stubborn_change(p);
        list = p;
    }
    held[0] = list;
    for (int i = 0; i < 5; i++) GC_gcollect();
    REQUIRE(GC_get_full_gc_total_time() > 0);
    REQUIRE(GC_get_full_gc_total_time() < 60000);
}

static void the_size_map_rounds_up(void) {
    GC_INIT();
    for (int i = 1; i < 500; i += 7) GC_malloc((size_t)i);
    size_t n = GC_get_size_map_at(100);
    REQUIRE(n >= 100 && n <= 512); /* in bytes */
    REQUIRE_EQUAL(GC_get_size_map_at(-1), (size_t)-1);
    REQUIRE_EQUAL(GC_get_size_map_at(1 << 30), (size_t)-1);
}

static void *substitute;
static size_t asked;
static void *on_oom(size_t bytes) {
    asked = bytes;
    return substitute;
}

static void a_full_heap_gives_null_or_what_the_program_says(void) {
    GC_set_max_heap_size(20 << 20);
    GC_INIT();
    GC_set_warn_proc(GC_ignore_warn_proc);
    long n = 0;
    for (; n < 4 * MANY; n++)
        if ((held[n] = GC_malloc(20000)) == NULL) break;
    REQUIRE(n > 100 && n < 1200);
    for (long i = 0; i < n; i++) REQUIRE(GC_size(held[i]) >= 20000); /* it goes on */
    substitute = held[0];
    GC_set_oom_fn(on_oom);
    REQUIRE(GC_get_oom_fn() == on_oom);
    void *p;
    do p = GC_malloc(50000);
    while (asked == 0 && n < 4 * MANY && (held[n++] = p));
    REQUIRE_EQUAL(asked, 50000);
    REQUIRE(p == substitute);
    memset(held, 0, sizeof held);
    asked = 0;
    p = NULL;
    collect_all();
    REQUIRE(GC_malloc(20000) != NULL && asked == 0);
}

static char warning[500];
static void on_warning(char *text, GC_word number) {
    snprintf(warning, sizeof warning, text, number);
}

static void warnings_go_to_the_program(void) {
    GC_set_max_heap_size(20 << 20);
    GC_INIT();
    GC_set_warn_proc(on_warning);
    REQUIRE(GC_get_warn_proc() == on_warning);
    REQUIRE(GC_malloc(200 << 20) == NULL);
    REQUIRE(strlen(warning) > 10 && strchr(warning, '\n') != NULL);
    warning[0] = '\0';
    GC_set_warn_proc(GC_ignore_warn_proc);
    REQUIRE(GC_malloc(200 << 20) == NULL);
    REQUIRE(warning[0] == '\0');
}

static void on_abort(const char *text) {
    fprintf(stderr, "aborting: %s\n", text != NULL ? text : "(nothing said)");
    fflush(stderr);
    _exit(0);
}

static void aborts_go_to_the_program(void) {
    GC_INIT();
    GC_set_abort_func(on_abort);
    REQUIRE(GC_get_abort_func() == on_abort);
    GC_abort_on_oom();
    child_fail(__FILE__, __LINE__, "it returned");
}

static long seen, seen_bytes;
static void on_reachable(void *object, size_t bytes, void *data) {
    if (bytes == 5008) {
        REQUIRE(data == &seen);
        REQUIRE(*(long *)object == 4711);
        seen++;
    }
    seen_bytes += (long)bytes;
}
static void *enumerate(void *p) {
    GC_enumerate_reachable_objects_inner(on_reachable, p);
    return NULL;
}

static void reachable_objects_are_enumerated(void) {
    GC_INIT();
    size_t size = 0;
    for (int i = 0; i < MANY; i++) {
        long *p = held[i] = GC_malloc_atomic(5000);
        *p = 4711;
        size = GC_size(p);
    }
    GC_gcollect();
    seen_bytes = 0;
    GC_call_with_alloc_lock(enumerate, &seen);
    REQUIRE(seen_bytes >= MANY * 5000);
    if (size == 5008) REQUIRE_EQUAL(seen, MANY);
}

static long found;
static void look(void *object, size_t bytes, void *data) {
    (void)data;
    REQUIRE(bytes > 0);
    for (int i = 0; i < 100; i++) found += held[i] == object;
}
static void *look_at_all(void *p) {
    GC_enumerate_reachable_objects_inner(look, p);
    return NULL;
}

static void each_object_is_enumerated_once(void) {
    GC_INIT();
    for (int i = 0; i < 100; i++) held[i] = GC_malloc(16 << i % 12);
    GC_gcollect();
    GC_call_with_alloc_lock(look_at_all, NULL);
    REQUIRE_EQUAL(found, 100);
}

static bool enumerated(void *object) {
    held[0] = object;
    for (int i = 1; i < 100; i++) held[i] = NULL;
    found = 0;
    GC_call_with_alloc_lock(look_at_all, NULL);
    REQUIRE(found == 0 || found == 1);
    return found == 1;
}

/* What is reachable is known as of the last collection. */
static void new_objects_are_not_enumerated(void) {
    GC_INIT();
    GC_gcollect();
    static const size_t sizes[] = {20, 500, 100000};
    for (int i = 0; i < 3; i++) {
        held[100] = GC_malloc(sizes[i]);
        held[101] = GC_malloc_atomic(sizes[i]);
        REQUIRE(!enumerated(held[100]) && !enumerated(held[101]));
        REQUIRE(enumerated(GC_malloc_uncollectable(sizes[i])));
        REQUIRE(enumerated(GC_malloc_atomic_uncollectable(sizes[i])));
        GC_gcollect();
        REQUIRE(enumerated(held[100]) && enumerated(held[101]));
    }
}

/* Lists of which parts die, looked at all the time. */
struct node {
    struct node *next;
    long number;
};

static void churn(void) {
    for (int round = 0; round < 40; round++) {
        struct node **old = held[0] != NULL ? held[0] : (held[0] = GC_malloc(100 * sizeof *old));
        for (int i = 0; i < 100; i++) {
            if (old[i] == NULL || i % 7 == round % 7) {
                struct node *list = NULL;
                for (long k = 0; k < 300; k++) {
                    struct node *n = GC_malloc(sizeof *n);
                    n->number = k;
                    GC_PTR_STORE_AND_DIRTY(&n->next, list);
                    list = n;
                }
                GC_PTR_STORE_AND_DIRTY(old + i, list);
            }
            if (i % 10 == 0) GC_collect_a_little();
        }
        for (int i = 0; i < 100; i++) {
            long k = 300;
            for (struct node *n = old[i]; n != NULL; n = n->next) REQUIRE_EQUAL(n->number, --k);
            REQUIRE_EQUAL(k, 0);
        }
    }
}

static void incremental_collections_keep_what_is_reachable(void) {
    GC_INIT();
    GC_enable_incremental();
    REQUIRE(GC_is_incremental_mode());
    int needs = GC_incremental_protection_needs();
    REQUIRE((needs & ~(GC_PROTECTS_POINTER_HEAP | GC_PROTECTS_PTRFREE_HEAP)) == 0);
    GC_set_time_limit(2);
    REQUIRE_EQUAL(GC_get_time_limit(), 2);
    GC_start_incremental_collection();
    churn();
    REQUIRE_FEW(garbage_kept(GC_malloc, 40), MANY);
    REQUIRE_EQUAL(children_kept(GC_malloc, 40), MANY);
}

static void dirtying_by_hand_works(void) {
    GC_set_manual_vdb_allowed(1);
    REQUIRE(GC_get_manual_vdb_allowed());
    GC_INIT();
    GC_enable_incremental();
    churn();
}

static void a_little_work_ends(void) {
    GC_INIT();
    for (int i = 0; i < 10000; i++) GC_malloc(100);
    int n = 0;
    while (GC_collect_a_little() && n < 1000000) n++;
    REQUIRE(n < 1000000);
}

static void system_calls_write_to_the_heap(void) {
    GC_INIT();
    GC_enable_incremental();
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    for (int i = 0; i < 50; i++) {
        char *volatile p = held[i] = GC_malloc_atomic(60000);
        GC_gcollect();
        memset(p, i, 60000);
        REQUIRE_EQUAL(write(ends[1], p, 30000), 30000);
        GC_gcollect();
        REQUIRE_EQUAL(read(ends[0], p + 30000, 30000), 30000);
        REQUIRE(memcmp(p, p + 30000, 30000) == 0);
    }
}

static void init_is_told_and_deinit_ends(void) {
    REQUIRE(!GC_is_init_called());
    GC_INIT();
    REQUIRE(GC_is_init_called());
    GC_INIT(); /* may be repeated */
    REQUIRE((GC_get_version() >> 16) == 8);
    REQUIRE(GC_malloc(10) != NULL);
    GC_deinit();
    REQUIRE(!GC_is_init_called());
}

static void dump_all(void) {
    GC_dump();
    GC_dump_named("a name");
    GC_dump_regions();
    GC_dump_finalization();
}

static void dumps_say_something(void) {
    GC_INIT();
    for (int i = 0; i < 100; i++) held[i] = GC_malloc(100);
    GC_gcollect();
    const char *text = output_of(dump_all);
    REQUIRE(strlen(text) > 200);
    REQUIRE(strstr(text, "a name") != NULL);
}

static void stack_clearing_returns_its_argument(void) {
    GC_INIT();
    int x;
    REQUIRE(GC_clear_stack(&x) == &x);
    REQUIRE(GC_clear_stack(NULL) == NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(collections_are_counted),
        CHILD_TEST(collections_may_be_stopped),
        CHILD_TEST(disabling_nests),
        CHILD_TEST(automatic_collection_may_be_off),
        CHILD_TEST(a_full_collection_gives_memory_back),
        CHILD_TEST(the_heap_grows_and_says_so),
        CHILD_TEST(resizing_is_told),
        CHILD_TEST(allocated_bytes_are_counted),
        CHILD_TEST(statistics_agree_with_the_single_ones),
        CHILD_TEST(time_in_collections_is_measured),
        CHILD_TEST(the_size_map_rounds_up),
        CHILD_TEST(a_full_heap_gives_null_or_what_the_program_says),
        CHILD_TEST(warnings_go_to_the_program),
        CHILD_SAYS(aborts_go_to_the_program, "aborting: "),
        CHILD_TEST(reachable_objects_are_enumerated),
        CHILD_TEST(each_object_is_enumerated_once),
        CHILD_TEST(new_objects_are_not_enumerated),
        CHILD_TEST(incremental_collections_keep_what_is_reachable),
        CHILD_TEST(dirtying_by_hand_works),
        CHILD_TEST(a_little_work_ends),
        CHILD_TEST(system_calls_write_to_the_heap),
        CHILD_TEST(init_is_told_and_deinit_ends),
        CHILD_TEST(dumps_say_something),
        CHILD_TEST(stack_clearing_returns_its_argument),
    };
    return cmocka_run_group_tests_name("boehm_collect", tests, NULL, NULL);
}
