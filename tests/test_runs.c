/* The free runs (gc/runs.c) against a bitmap: random gives and takes, with alignments, under each
 * fit; where a run is placed is checked too. */
#include <stdlib.h>
#include <string.h>

#include "bench/random.h"
#include "child.h"
#include "gc/runs.h"
#include "model.h"

enum { UNITS = 3000 };

struct runs_model {
    struct gci_runs runs;
    struct gci_run_node nodes[UNITS + 2];
    bool free[UNITS + 1]; /* the last one never is */
    struct bench_random random;
};

static uint32_t below(struct runs_model *m, uint32_t n) {
    return (uint32_t)bench_random_below(&m->random, n);
}

static uint32_t run_end(const struct runs_model *m, uint32_t first) {
    while (m->free[first]) first++;
    return first;
}

/* Where the fit puts LENGTH units: only runs that are long enough wherever they start are
 * considered. */
static uint32_t expected_place(const struct runs_model *m, uint32_t length, uint32_t alignment) {
    uint32_t chosen = GCI_NONE, chosen_length = 0;
    for (uint32_t at = 0; at < UNITS; at++) {
        if (!m->free[at]) continue;
        uint32_t end = run_end(m, at), here = end - at;
        bool better = chosen == GCI_NONE;
        if (m->runs.fit == GC_FIT_BEST) better |= here < chosen_length;
        if (m->runs.fit == GC_FIT_WORST) better |= here >= chosen_length;
        if (here >= length + alignment - 1 && better) {
            chosen = at;
            chosen_length = here;
        }
        at = end;
    }
    return chosen == GCI_NONE ? GCI_NONE : (chosen + alignment - 1) & ~(alignment - 1);
}

static void set(struct runs_model *m, uint32_t first, uint32_t length, bool free) {
    for (uint32_t i = first; i < first + length; i++) {
        REQUIRE(m->free[i] != free);
        m->free[i] = free;
    }
}

/* Every run of the bitmap is one of the treap's, and their sums agree. */
static void compare(const struct runs_model *m) {
    uint64_t units = 0;
    uint32_t longest = 0;
    REQUIRE_EQUAL(gci_check_runs(&m->runs), 0);
    for (uint32_t at = 0; at < UNITS; at++) {
        if (!m->free[at]) {
            REQUIRE_EQUAL(gci_runs_length(&m->runs, at), 0);
            continue;
        }
        uint32_t length = run_end(m, at) - at;
        REQUIRE_EQUAL(gci_runs_length(&m->runs, at), length);
        if (length > longest) longest = length;
        units += length;
        at += length;
    }
    REQUIRE_EQUAL(m->runs.free_units, units);
    REQUIRE_EQUAL(m->runs.root == GCI_NONE ? 0 : m->nodes[m->runs.root].longest, longest);
}

static void give_some(struct runs_model *m) {
    uint32_t first = below(m, UNITS), length = 0, most = 1 + below(m, 40), joined;
    while (first + length < UNITS && !m->free[first + length] && length < most) length++;
    if (length == 0) return;
    set(m, first, length, true);
    uint32_t run = gci_runs_give(&m->runs, first, length, &joined);
    REQUIRE(run <= first && (run == 0 || !m->free[run - 1]));
    REQUIRE_EQUAL(joined, run_end(m, run) - run);
}

static void take_some(struct runs_model *m) {
    uint32_t length = 1 + below(m, below(m, 8) == 0 ? 200 : 12), alignment = 1u << below(m, 5);
    if (below(m, 2) == 0) alignment = 1;
    uint32_t expected = expected_place(m, length, alignment);
    uint32_t first = gci_runs_take(&m->runs, length, alignment);
    REQUIRE_EQUAL(first, expected);
    if (first != GCI_NONE) set(m, first, length, false);
}

static void take_from_the_middle(struct runs_model *m) {
    uint32_t at = below(m, UNITS), run = at;
    if (!m->free[at]) return;
    while (run > 0 && m->free[run - 1]) run--;
    uint32_t length = 1 + below(m, run_end(m, at) - at);
    gci_runs_take_at(&m->runs, run, at, length);
    set(m, at, length, false);
}

static void run_model(enum gc_fit fit) {
    static struct runs_model m;
    m.random.state = model_seed();
    gci_runs_init(&m.runs, m.nodes, fit);
    for (unsigned step = 0; step < 60000; step++) {
        switch (below(&m, 8)) {
        case 0:
            take_from_the_middle(&m);
            break;
        case 1:
        case 2:
        case 3:
            take_some(&m);
            break;
        default:
            give_some(&m);
            break;
        }
        if (step % 50 == 0) compare(&m);
    }
}

static void first_fit_agrees_with_a_bitmap(void) {
    run_model(GC_FIT_FIRST);
}
static void best_fit_agrees_with_a_bitmap(void) {
    run_model(GC_FIT_BEST);
}
static void worst_fit_agrees_with_a_bitmap(void) {
    run_model(GC_FIT_WORST);
}

static void what_is_too_long_is_refused(void) {
    static struct gci_run_node nodes[101];
    struct gci_runs runs;
    uint32_t joined;
    gci_runs_init(&runs, nodes, GC_FIT_BEST);
    REQUIRE_EQUAL(gci_runs_take(&runs, 1, 1), GCI_NONE);
    gci_runs_give(&runs, 0, 100, &joined);
    REQUIRE_EQUAL(gci_runs_take(&runs, 101, 1), GCI_NONE);
    REQUIRE_EQUAL(gci_runs_take(&runs, UINT32_MAX, 1), GCI_NONE);
    REQUIRE_EQUAL(gci_runs_take(&runs, UINT32_MAX / 2, 1u << 31), GCI_NONE);
    REQUIRE_EQUAL(gci_runs_take(&runs, 100, 1), 0);
    REQUIRE_EQUAL(runs.free_units, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(first_fit_agrees_with_a_bitmap),
        CHILD_TEST(best_fit_agrees_with_a_bitmap),
        CHILD_TEST(worst_fit_agrees_with_a_bitmap),
        CHILD_TEST(what_is_too_long_is_refused),
    };
    return cmocka_run_group_tests_name("runs", tests, NULL, NULL);
}
