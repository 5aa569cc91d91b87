/* Tests of the write barrier (runtime/barrier.h) under every backend: what is written is
 * reported, exactly; system calls into protected pages do what docs/barrier.md says; lack of
 * mappings costs precision and nothing else. CAIRN_TEST_SEED sets the seed of the random tests.
 * See also tests/test_barrier_signals.c. */
#define _GNU_SOURCE
#include "barrier_arena.h"
#include "fewer.h"
#include "bench/random.h"

#include <sys/mman.h>

/* ---- Reporting ------------------------------------------------------------------------------ */

static void written_pages_are_reported_once_and_again_when_written_again(void **state) {
    struct arena a;
    open_arena(&a, state, 64);
    for (size_t i = 0; i < 32; i++) *at(&a, i) = 1; /* the other half was never touched */
    protect(&a, 0, 64);
    assert_int_equal(collect(&a, 0, 64), 0);
    for (int round = 0; round < 3; round++) {
        *at(&a, 3) = 2;
        *at(&a, 4) = 2;
        at(&a, 40)[17] = 2;
        assert_int_equal(collect(&a, 0, 64), 3);
        assert_true(a.dirty[3] && a.dirty[4] && a.dirty[40]);
        assert_int_equal(a.runs, 2);
        assert_int_equal(collect(&a, 0, 64), 0);
    }
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

static void pages_only_read_stay_clean(void **state) {
    struct arena a;
    open_arena(&a, state, 64);
    for (size_t i = 0; i < 32; i++) *at(&a, i) = 1;
    protect(&a, 0, 64);
    int sum = 0;
    for (size_t i = 0; i < 64; i++) sum += *at(&a, i);
    assert_int_equal(sum, 32);
    assert_int_equal(collect(&a, 0, 64), 0);
    close_arena(&a);
}

static void an_unprotected_page_is_silent(void **state) {
    struct arena a;
    open_arena(&a, state, 64);
    protect(&a, 0, 64);
    unprotect(&a, 16, 16);
    uint64_t faults = stats_of(&a).faults;
    for (size_t i = 16; i < 32; i++) *at(&a, i) = 1;
    assert_int_equal(stats_of(&a).faults, faults);
    assert_int_equal(collect(&a, 0, 16), 0);
    assert_int_equal(collect(&a, 32, 32), 0);
    protect(&a, 0, 64);
    assert_int_equal(collect(&a, 0, 64), 0); /* armed afresh: clean */
    close_arena(&a);
}

static void protecting_again_forgets_what_was_written(void **state) {
    struct arena a;
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    *at(&a, 5) = 1;
    *at(&a, 9) = 1;
    protect(&a, 4, 4);
    assert_int_equal(collect(&a, 0, 16), 1);
    assert_true(a.dirty[9]);
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

/* More runs than the kernel's vector holds, then one run of all pages. */
static void many_runs_are_reported_maximal_and_complete(void **state) {
    enum { PAGES = 20000 };
    struct arena a;
    open_arena(&a, state, PAGES);
    protect(&a, 0, PAGES);
    for (size_t i = 0; i < PAGES; i += 2) *at(&a, i) = 1;
    size_t found = collect(&a, 0, PAGES);
    assert_true(found >= PAGES / 2);
    for (size_t i = 0; i < PAGES; i += 2) assert_true(a.dirty[i]);
    if (stats_of(&a).widened == 0) assert_int_equal(a.runs, PAGES / 2);
    assert_int_equal(collect(&a, 0, PAGES), 0);
    for (size_t i = 0; i < PAGES; i++) *at(&a, i) = 2;
    assert_int_equal(collect(&a, 0, PAGES), PAGES);
    assert_int_equal(a.runs, 1);
    close_arena(&a);
}

static void huge_pages_are_split_not_lost(void **state) {
    enum { PAGES = 2048 };
    struct arena a;
    open_arena(&a, state, PAGES);
    gci_vm_advise_huge((void *)a.start, PAGES * a.page, true);
    for (size_t i = 0; i < PAGES; i++) *at(&a, i) = 1;
    protect(&a, 0, PAGES);
    *at(&a, 600) = 2;
    *at(&a, 1500) = 2;
    assert_int_equal(collect(&a, 0, PAGES), 2);
    assert_true(a.dirty[600] && a.dirty[1500]);
    unprotect(&a, 100, 700);
    *at(&a, 601) = 3;
    *at(&a, 1501) = 3;
    assert_int_equal(collect(&a, 800, PAGES - 800), 1);
    for (size_t i = 0; i < PAGES; i++) assert_true(*at(&a, i) >= 1);
    close_arena(&a);
}

static void write_here_and_further_on(void *context, uintptr_t start, size_t bytes) {
    struct arena *a = context;
    (void)bytes;
    a->runs++;
    *(volatile char *)start = 5;
    *(volatile char *)(start + 8 * a->page) = 5;
}

static void what_the_visitor_writes_is_reported_next_time(void **state) {
    struct arena a;
    open_arena(&a, state, 32);
    protect(&a, 0, 32);
    *at(&a, 2) = 1;
    gci_barrier_collect(a.barrier, a.start, 32 * a.page, write_here_and_further_on, &a);
    assert_int_equal(a.runs, 1);
    assert_int_equal(collect(&a, 0, 32), 2);
    assert_true(a.dirty[2] && a.dirty[10]);
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

/* The mprotect backend's table grows in steps of 256 MiB of arena. */
static void pages_far_into_the_arena_are_served(void **state) {
    struct arena a;
    open_arena(&a, state, 16);
    uintptr_t far = a.start + ((size_t)3 << 30);
    assert_int_equal(gci_vm_commit((void *)far, 16 * a.page), 0);
    assert_int_equal(gci_barrier_protect(a.barrier, far, 16 * a.page), 0);
    *(volatile char *)(far + 3 * a.page) = 1;
    struct arena seen = a; /* the same barrier, its pages numbered from FAR */
    seen.start = far;
    assert_int_equal(collect(&seen, 0, 16), 1);
    assert_true(seen.dirty[3]);
    close_arena(&a);
}

/* ---- System calls --------------------------------------------------------------------------- */

static void a_system_call_into_a_protected_page(void **state) {
    struct arena a;
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    if (gci_barrier_kind(a.barrier) == GC_BARRIER_UFFD) {
        assert_int_equal(read_into(at(&a, 5)), 1);
        assert_int_equal(collect(&a, 0, 16), 1);
        assert_true(a.dirty[5]);
    } else {
        assert_int_equal(read_into(at(&a, 5)), -1);
        assert_int_equal(errno, EFAULT);
        assert_int_equal(collect(&a, 0, 16), 0);
    }
    close_arena(&a);
}

static void a_system_call_into_a_prepared_page_works(void **state) {
    struct arena a;
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    /* Bytes on both sides of a border; what lies outside the arena doesn't matter. */
    gci_barrier_prepare(a.barrier, a.start + 6 * a.page - 1, 2);
    gci_barrier_prepare(a.barrier, 0, 4096);
    gci_barrier_prepare(a.barrier, a.start + ARENA_BYTES - 1, SIZE_MAX);
    gci_barrier_prepare(a.barrier, a.start, 0);
    assert_int_equal(read_into(at(&a, 6) - 1), 1);
    assert_int_equal(read_into(at(&a, 6)), 1);
    assert_int_equal(collect(&a, 0, 16), 2);
    assert_true(a.dirty[5] && a.dirty[6]);
    assert_int_equal(stats_of(&a).disagreements, 0);
    assert_int_equal(collect(&a, 0, 16), 0);
    close_arena(&a);
}

/* ---- Random operations against a model ------------------------------------------------------ */

static uint64_t seed;

enum { MODEL_PAGES = 300 };

struct model {
    struct arena a;
    bool armed[MODEL_PAGES], written[MODEL_PAGES];
    bool exact; /* mappings suffice: nothing but what was written is reported */
    struct bench_random random;
};

static size_t below(struct model *m, size_t n) {
    return bench_random_next(&m->random) % n;
}

/* Collects the armed pages from FIRST on and compares. */
static void model_collect(struct model *m, size_t first, size_t pages) {
    size_t n = 0;
    while (n < pages && m->armed[first + n]) n++;
    if (n == 0) return;
    collect(&m->a, first, n);
    for (size_t i = 0; i < MODEL_PAGES; i++) {
        bool inside = i >= first && i < first + n, reported = m->a.dirty[i];
        if (!inside) assert_false(reported);
        if (inside && m->written[i]) assert_true(reported);
        if (inside && m->exact) assert_int_equal(reported, m->written[i]);
        if (inside) m->written[i] = false;
    }
}

static void model_protect(struct model *m, size_t first, size_t pages) {
    bool ok = try_protect(&m->a, first, pages) == 0;
    assert_true(ok || !m->exact);
    for (size_t i = first; i < first + pages; i++) {
        m->armed[i] = ok;
        m->written[i] = false;
    }
}

/* Every other time the pages are given back, too. */
static void model_unprotect(struct model *m, size_t first, size_t pages) {
    unprotect(&m->a, first, pages);
    for (size_t i = first; i < first + pages; i++) m->armed[i] = false;
    if (below(m, 2) == 0) return;
    assert_int_equal(gci_vm_discard((void *)(uintptr_t)at(&m->a, first), pages * m->a.page), 0);
}

static void model_prepare(struct model *m, size_t first, size_t pages) {
    gci_barrier_prepare(m->a.barrier, (uintptr_t)at(&m->a, first), pages * m->a.page);
    for (size_t i = first; i < first + pages; i++) {
        assert_int_equal(read_into(at(&m->a, i)), 1);
        m->written[i] = true;
    }
}

static void model_step(struct model *m) {
    size_t first = below(m, MODEL_PAGES), most = MODEL_PAGES - first;
    if (below(m, 4) != 0 && most > 8) most = 8;
    size_t pages = 1 + below(m, most);
    switch (below(m, 16)) {
    case 0:
    case 1:
        model_protect(m, first, pages);
        break;
    case 2:
        model_unprotect(m, first, pages);
        break;
    case 3:
    case 4:
    case 5:
        model_collect(m, first, pages);
        break;
    case 6:
        (void)*at(&m->a, first);
        break;
    case 7:
        if (below(m, 8) == 0) model_prepare(m, first, pages < 4 ? pages : 4);
        break;
    default:
        *at(&m->a, first) = 1;
        m->written[first] = true;
        break;
    }
    check_tables(&m->a);
}

/* BUDGET: mappings; 0 for all that the kernel has. */
static void run_model(void **state, size_t budget, uint64_t steps) {
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    open_arena(&m->a, state, MODEL_PAGES);
    m->random.state = seed;
    m->exact = budget == 0;
    if (budget != 0) gci_mprotect_set_budget(m->a.barrier, budget);
    for (uint64_t i = 0; i < fewer(steps); i++) model_step(m);
    model_collect(m, 0, MODEL_PAGES);
    struct gci_barrier_stats stats = stats_of(&m->a);
    assert_int_equal(stats.disagreements, 0);
    assert_int_equal(m->exact, stats.refused + stats.widened == 0);
    close_arena(&m->a);
    free(m);
}

static void random_operations_match_a_model(void **state) {
    run_model(state, 0, 50000);
}

static void random_operations_with_few_mappings_lose_nothing(void **state) {
    run_model(state, 24, 50000);
}

/* ---- Lack of mappings ----------------------------------------------------------------------- */

static void a_small_budget_widens_and_refuses(void **state) {
    enum { PAGES = 4096 };
    struct arena a;
    open_arena(&a, state, PAGES);
    gci_mprotect_set_budget(a.barrier, 64);
    protect(&a, 0, PAGES);
    for (size_t i = 0; i < PAGES; i += 2) *at(&a, i) = 1;
    struct gci_barrier_stats stats = stats_of(&a);
    assert_true(stats.widened > 0);
    assert_int_equal(stats.refused, 0);
    collect(&a, 0, PAGES);
    for (size_t i = 0; i < PAGES; i += 2) assert_true(a.dirty[i]);
    assert_int_equal(collect(&a, 0, PAGES), 0);

    unprotect(&a, 0, PAGES);
    size_t refused = 0;
    for (size_t i = 0; i < 128; i += 2) {
        int error = try_protect(&a, i, 1);
        assert_true(error == 0 || error == ENOMEM);
        refused += error != 0;
    }
    assert_int_equal(refused, 64 - 32); /* a run costs two mappings */
    assert_int_equal(stats_of(&a).refused, refused);
    for (size_t i = 0; i < 128; i++) *at(&a, i) = 2;
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

static void widening_opens_no_more_than_it_must(void **state) {
    enum { PAGES = 4096, WINDOW = 16 }; /* 64 KiB */
    struct arena a;
    open_arena(&a, state, PAGES);
    if (a.page != 4096) skip();
    gci_mprotect_set_budget(a.barrier, 64);
    protect(&a, 0, PAGES);
    size_t i = 1;
    for (; stats_of(&a).widened == 0; i += 2) *at(&a, i) = 1;
    assert_in_range(i, 40, 60); /* three quarters of 32 runs, a run for each write */
    *at(&a, 3000) = 1;
    collect(&a, 0, PAGES);
    size_t window = 3000 / WINDOW * WINDOW;
    for (size_t p = 2 * WINDOW * 2; p < PAGES; p++) {
        assert_int_equal(a.dirty[p], p >= window && p < window + WINDOW);
    }
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

/* More alternating pages than the kernel's limit has mappings for. */
static void every_other_page_under_the_kernels_own_limit(void **state) {
    enum { PAGES = 150000 };
    struct arena a;
    open_arena(&a, state, PAGES);
    protect(&a, 0, PAGES);
    for (size_t i = 0; i < PAGES; i += 2) *at(&a, i) = 1;
    assert_true(stats_of(&a).faults > 1000);
    collect(&a, 0, PAGES);
    for (size_t i = 0; i < PAGES; i += 2) assert_true(a.dirty[i]);
    assert_int_equal(collect(&a, 0, PAGES), 0);
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

/* Maps single pages until the kernel refuses, then gives SPARE mappings back.  For a child that
 * exits soon. */
static void use_up_mappings(size_t spare) {
    enum { MOST = 2000000, KEPT = 256 };
    static void *last[KEPT];
    size_t n = 0, page = gci_page_size();
    for (; n < MOST; n++) { /* neighbours must differ, or they become one mapping */
        int access = n % 2 == 0 ? PROT_READ : PROT_NONE;
        void *p = mmap(NULL, page, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) break;
        last[n % KEPT] = p;
    }
    DEMAND(n > KEPT && n < MOST && spare <= KEPT);
    for (size_t i = 1; i <= spare; i++) DEMAND(munmap(last[(n - i) % KEPT], page) == 0);
}

/* The budget never stops it, the kernel does. */
static void write_with_no_mappings_left(void *argument) {
    enum { PAGES = 4096 };
    struct arena *a = argument;
    gci_mprotect_set_budget(a->barrier, 1 << 20);
    DEMAND(try_protect(a, 0, PAGES) == 0);
    use_up_mappings(60);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < PAGES; i += 2) *at(a, i) = 1;
        collect(a, 0, PAGES);
        for (size_t i = 0; i < PAGES; i += 2) DEMAND(a->dirty[i]);
    }
    DEMAND(stats_of(a).widened > 0);
    /* Many small protections: some must be refused, none may make a write fail. */
    unprotect(a, 0, PAGES);
    size_t refused = 0;
    for (size_t i = 0; i < PAGES; i += 2) {
        int error = try_protect(a, i, 1);
        DEMAND(error == 0 || error == ENOMEM);
        refused += error != 0;
    }
    DEMAND(refused > 0 && refused < PAGES / 2);
    check_tables(a);
    for (size_t i = 0; i < PAGES; i++) *at(a, i) = 2;
    unprotect(a, 0, PAGES);
    check_tables(a);
}

static void mprotect_that_fails_for_want_of_mappings_is_survived(void **state) {
    struct arena a;
    char text[512];
    open_arena(&a, state, 4096);
    int status = in_child(write_with_no_mappings_left, &a, text, sizeof text);
    assert_true(exited_well(status, text));
    close_arena(&a);
}

/* ---- Comparing ------------------------------------------------------------------------------ */

static void ignore_run(void *context, uintptr_t start, size_t bytes) {
    (void)context, (void)start, (void)bytes;
}

/* A write that only userfaultfd sees, and one that it is made to forget. */
static void write_behind_their_backs(void *argument) {
    struct arena *a = argument;
    make_arena(a, 16);
    a->barrier = gci_barrier_open(GC_BARRIER_CROSS, false, false, a->start, ARENA_BYTES);
    DEMAND(a->barrier != NULL);
    DEMAND(try_protect(a, 0, 16) == 0);
    DEMAND(mprotect((void *)(uintptr_t)at(a, 4), a->page, PROT_READ | PROT_WRITE) == 0);
    *at(a, 4) = 1;
    *at(a, 6) = 1;
    gci_backend_uffd.collect(a->barrier, (uintptr_t)at(a, 6), a->page, ignore_run, NULL);
    DEMAND(collect(a, 0, 16) == 2 && a->dirty[4] && a->dirty[6]);
    DEMAND(stats_of(a).disagreements == 2);
    DEMAND(collect(a, 0, 16) == 0 && stats_of(a).disagreements == 2);
}

static void a_page_that_one_backend_missed_is_named(void **state) {
    struct arena a;
    char text[1024];
    open_arena(&a, state, 16); /* skips where there is no such barrier */
    close_arena(&a);
    int status = in_child(write_behind_their_backs, &a, text, sizeof text);
    assert_true(exited_well(status, text));
    assert_non_null(strstr(text, "was written, but mprotect did not notice"));
    assert_non_null(strstr(text, "was written, but userfaultfd did not notice"));
}

/* ---- Main ----------------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        UNDER_ALL(written_pages_are_reported_once_and_again_when_written_again),
        UNDER_ALL(pages_only_read_stay_clean),
        UNDER_ALL(an_unprotected_page_is_silent),
        UNDER_ALL(protecting_again_forgets_what_was_written),
        UNDER_ALL(many_runs_are_reported_maximal_and_complete),
        UNDER_ALL(huge_pages_are_split_not_lost),
        UNDER_ALL(what_the_visitor_writes_is_reported_next_time),
        UNDER_ALL(pages_far_into_the_arena_are_served),
        UNDER_ALL(a_system_call_into_a_protected_page),
        UNDER_ALL(a_system_call_into_a_prepared_page_works),
        UNDER_ALL(random_operations_match_a_model),
        UNDER_SIGNALS(random_operations_with_few_mappings_lose_nothing),
        UNDER_SIGNALS(a_small_budget_widens_and_refuses),
        UNDER_SIGNALS(widening_opens_no_more_than_it_must),
        UNDER_SIGNALS(every_other_page_under_the_kernels_own_limit),
        UNDER(mprotect_that_fails_for_want_of_mappings_is_survived, by_mprotect),
        UNDER(a_page_that_one_backend_missed_is_named, cross),
    };
    const char *given = getenv("CAIRN_TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 0) : gci_clock_ns();
    print_message("CAIRN_TEST_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
