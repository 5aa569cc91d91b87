/* Tests of the explicit barrier's backend (runtime/barrier_explicit.c): cards that were set are
 * reported, exactly and once; what page protection saw beside them.  CAIRN_TEST_SEED sets the seed
 * of the random test.  The rest of gc_write() is tested in tests/test_gc_write.c. */
#define _GNU_SOURCE
#include "barrier_arena.h"
#include "bench/random.h"

#include <sys/resource.h>

static enum gc_barrier explicitly = GC_BARRIER_EXPLICIT;
static enum gc_barrier explicit_cross = GC_BARRIER_EXPLICIT_CROSS;

enum { CARD = 1 << GC_CARD_SHIFT };

static void open_covered(struct arena *a, void **state, size_t pages) {
    open_arena(a, state, pages);
    assert_int_equal(gci_barrier_cover(a->barrier, pages * a->page), 0);
}

/* What gc_write() does before it stores to P. */
static void mark(const struct arena *a, volatile char *p) {
    gci_barrier_cards(a->barrier)[(uintptr_t)p >> GC_CARD_SHIFT] = 1;
}

static volatile char *card(const struct arena *a, size_t n) {
    return (volatile char *)(a->start + n * CARD);
}

/* The cards that a collection reported. */
struct report {
    const struct arena *a;
    uint8_t *cards;
    size_t runs, count;
    uintptr_t last_end;
};

static void note(void *context, uintptr_t start, size_t bytes) {
    struct report *r = context;
    assert_true(bytes > 0 && start % CARD == 0 && bytes % CARD == 0);
    assert_true(r->runs == 0 || start > r->last_end); /* in order, and maximal */
    for (uintptr_t p = start; p < start + bytes; p += CARD, r->count++)
        r->cards[(p - r->a->start) / CARD] = 1;
    r->runs++;
    r->last_end = start + bytes;
}

/* Of PAGES from FIRST on; r->cards, by card of the arena, is its caller's. */
static void collect_cards(const struct arena *a, struct report *r, size_t first, size_t pages) {
    memset(r->cards, 0, a->pages * a->page / CARD);
    *r = (struct report){.a = a, .cards = r->cards};
    gci_barrier_collect(a->barrier, (uintptr_t)at(a, first), pages * a->page, note, r);
}

/* ---- Reporting ------------------------------------------------------------------------------ */

static void marked_cards_are_reported_once_and_again_when_marked_again(void **state) {
    struct arena a;
    uint8_t seen[64 * 64];
    struct report r = {.cards = seen};
    open_covered(&a, state, 64);
    protect(&a, 0, 64);
    collect_cards(&a, &r, 0, 64);
    assert_int_equal(r.count, 0);
    for (int round = 0; round < 3; round++) {
        mark(&a, card(&a, 5) + 8);
        mark(&a, card(&a, 5) + CARD - 1);
        mark(&a, card(&a, 40));
        mark(&a, card(&a, 41));
        collect_cards(&a, &r, 0, 64);
        assert_true(r.count == 3 && r.runs == 2 && seen[5] && seen[40] && seen[41]);
        collect_cards(&a, &r, 0, 64);
        assert_int_equal(r.count, 0);
    }
    close_arena(&a);
}

static void a_store_that_marks_nothing_is_not_reported(void **state) {
    struct arena a;
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    for (size_t i = 0; i < 16; i++) *at(&a, i) = 1;
    collect_cards(&a, &r, 0, 16);
    assert_int_equal(r.count, 0);
    close_arena(&a);
}

static void protecting_forgets_what_was_marked_there(void **state) {
    struct arena a;
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    open_covered(&a, state, 16);
    for (size_t i = 0; i < 16; i++) mark(&a, at(&a, i));
    protect(&a, 4, 8);
    collect_cards(&a, &r, 0, 16);
    assert_int_equal(r.count, 8);
    for (size_t i = 0; i < 16; i++) assert_int_equal(seen[i * a.page / CARD], i < 4 || i >= 12);
    close_arena(&a);
}

static void only_the_range_is_collected(void **state) {
    struct arena a;
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    for (size_t i = 0; i < 16 * a.page / CARD; i++) mark(&a, card(&a, i));
    collect_cards(&a, &r, 3, 5);
    assert_int_equal(r.count, 5 * a.page / CARD);
    assert_int_equal(r.runs, 1);
    collect_cards(&a, &r, 0, 16);
    assert_int_equal(r.count, 11 * a.page / CARD);
    assert_int_equal(r.runs, 2);
    close_arena(&a);
}

static void a_prepared_range_counts_as_marked(void **state) {
    struct arena a;
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    gci_barrier_prepare(a.barrier, a.start + 6 * a.page - 1, 2);
    gci_barrier_prepare(a.barrier, a.start + ARENA_BYTES - 1, SIZE_MAX); /* not covered */
    assert_int_equal(read_into(at(&a, 6)), 1);
    collect_cards(&a, &r, 0, 16);
    assert_int_equal(r.count, 2 * a.page / CARD);
    assert_true(seen[5 * a.page / CARD] && seen[6 * a.page / CARD]);
    close_arena(&a);
}

/* ---- The table ------------------------------------------------------------------------------ */

static void cards_far_into_the_arena_are_usable_once_covered(void **state) {
    struct arena a;
    open_covered(&a, state, 16);
    mark(&a, at(&a, 3));
    uintptr_t far = a.start + ((size_t)300 << 30);
    assert_int_equal(gci_vm_commit((void *)far, 16 * a.page), 0);
    assert_int_equal(gci_barrier_cover(a.barrier, far + 16 * a.page - a.start), 0);
    assert_int_equal(gci_barrier_cover(a.barrier, 16 * a.page), 0); /* takes nothing back */
    struct arena seen_from_far = a;
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    seen_from_far.start = far;
    protect(&seen_from_far, 0, 16);
    mark(&a, (volatile char *)far + 5 * a.page);
    collect_cards(&seen_from_far, &r, 0, 16);
    assert_true(r.count == 1 && seen[5 * a.page / CARD]);
    collect_cards(&a, &r, 0, 16);
    assert_int_equal(r.count, 1);
    close_arena(&a);
}

static void cover_with_no_memory_left(void *argument) {
    struct arena *a = argument;
    const struct rlimit little = {1 << 20, 1 << 20};
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    mark(a, at(a, 7));
    DEMAND(setrlimit(RLIMIT_DATA, &little) == 0);
    DEMAND(gci_barrier_cover(a->barrier, (size_t)100 << 30) == ENOMEM);
    collect_cards(a, &r, 0, 16); /* what there was is as it was */
    DEMAND(r.count == 1);
    mark(a, at(a, 15));
}

static void a_table_that_cant_grow_says_so(void **state) {
    struct arena a;
    char text[512];
    open_covered(&a, state, 16);
    int status = in_child(cover_with_no_memory_left, &a, text, sizeof text);
    assert_true(exited_well(status, text));
    close_arena(&a);
}

static void go_on_in_the_child(void *argument) {
    struct arena *a = argument;
    uint8_t *cards = gci_barrier_cards(a->barrier), seen[16 * 64];
    struct report r = {.cards = seen};
    enum gc_barrier kind = gci_barrier_kind(a->barrier);
    DEMAND(gci_barrier_is_in_child(a->barrier));
    gci_barrier_after_fork(a->barrier, false);
    DEMAND(!gci_barrier_is_in_child(a->barrier) && gci_barrier_kind(a->barrier) == kind);
    DEMAND(gci_barrier_cards(a->barrier) == cards);
    collect_cards(a, &r, 0, 16);
    DEMAND(r.count == 1 && seen[2 * a->page / CARD]);
    DEMAND(try_protect(a, 0, 16) == 0);
    *at(a, 9) = 1;
    a->runs = 0;
    gci_barrier_compare(a->barrier, a->start, 16 * a->page, note_run, a);
    DEMAND(a->runs == (kind == GC_BARRIER_EXPLICIT_CROSS));
}

static void a_child_keeps_the_table_where_it_is(void **state) {
    struct arena a;
    char text[512];
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    mark(&a, at(&a, 2));
    int status = in_child(go_on_in_the_child, &a, text, sizeof text);
    assert_true(exited_well(status, text));
    close_arena(&a);
}

static void others_have_no_cards(void **state) {
    (void)state;
    struct arena a;
    make_arena(&a, 16);
    a.barrier = gci_barrier_open(GC_BARRIER_AUTO, true, false, a.start, ARENA_BYTES);
    assert_non_null(a.barrier);
    assert_false(gci_barrier_is_explicit(a.barrier));
    assert_null(gci_barrier_cards(a.barrier));
    assert_int_equal(gci_barrier_cover(a.barrier, ARENA_BYTES), 0);
    close_arena(&a);
}

/* ---- Comparing ------------------------------------------------------------------------------ */

/* Compares PAGES; returns how many were written. */
static size_t compare(struct arena *a, size_t pages) {
    memset(a->dirty, 0, a->pages);
    a->runs = a->dirty_pages = 0;
    gci_barrier_compare(a->barrier, a->start, pages * a->page, note_run, a);
    return a->dirty_pages;
}

static void written_pages_are_compared_and_their_cards_set(void **state) {
    struct arena a;
    uint8_t seen[16 * 64];
    struct report r = {.cards = seen};
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    for (int round = 0; round < 3; round++) {
        *at(&a, 4) = 1; /* without a mark */
        mark(&a, at(&a, 7));
        *at(&a, 7) = 1;
        mark(&a, at(&a, 9)); /* and no store, yet */
        assert_int_equal(compare(&a, 16), 2);
        assert_true(a.dirty[4] && a.dirty[7]);
        assert_int_equal(compare(&a, 16), 0);
        collect_cards(&a, &r, 0, 16);
        assert_int_equal(r.count, 2 * a.page / CARD + 1);
        assert_true(seen[4 * a.page / CARD] && seen[5 * a.page / CARD - 1]);
        collect_cards(&a, &r, 0, 16);
        assert_int_equal(r.count, 0);
    }
    unprotect(&a, 0, 16);
    *at(&a, 4) = 2;
    close_arena(&a);
}

static void visit_and_look(void *context, uintptr_t start, size_t bytes) {
    struct arena *a = context;
    assert_int_equal(bytes, a->page);
    assert_int_equal(gci_barrier_cards(a->barrier)[start >> GC_CARD_SHIFT], 0);
    a->runs++;
}

static void the_visitor_sees_the_cards_as_they_were(void **state) {
    struct arena a;
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    *at(&a, 4) = 1;
    gci_barrier_compare(a.barrier, a.start, 16 * a.page, visit_and_look, &a);
    assert_int_equal(a.runs, 1);
    close_arena(&a);
}

static void nothing_is_compared_under_explicit_alone(void **state) {
    struct arena a;
    open_covered(&a, state, 16);
    protect(&a, 0, 16);
    *at(&a, 4) = 1;
    assert_int_equal(compare(&a, 16), 0);
    close_arena(&a);
}

/* ---- Random operations against a model ------------------------------------------------------ */

static uint64_t seed;

static void random_operations_match_a_model(void **state) {
    enum { PAGES = 100, MOST = PAGES * 64 };
    struct arena a;
    static uint8_t seen[MOST], marked[MOST], written[PAGES], armed[PAGES];
    struct report r = {.cards = seen};
    struct bench_random random = {seed};
    open_covered(&a, state, PAGES);
    bool compares = gci_barrier_kind(a.barrier) == GC_BARRIER_EXPLICIT_CROSS;
    size_t each = a.page / CARD;
    memset(marked, 0, sizeof marked), memset(written, 0, sizeof written);
    memset(armed, 0, sizeof armed);
    for (int step = 0; step < 50000; step++) {
        size_t first = bench_random_below(&random, PAGES),
               pages = 1 + bench_random_below(&random, PAGES - first);
        if (bench_random_below(&random, 4) != 0 && pages > 8) pages = 8;
        size_t n = first * each + bench_random_below(&random, each);
        switch (bench_random_below(&random, 12)) {
        case 0:
            protect(&a, first, pages);
            memset(marked + first * each, 0, pages * each);
            memset(written + first, 0, pages), memset(armed + first, 1, pages);
            break;
        case 1:
            unprotect(&a, first, pages);
            memset(armed + first, 0, pages);
            break;
        case 2:
        case 3:
            collect_cards(&a, &r, first, pages);
            assert_memory_equal(seen + first * each, marked + first * each, pages * each);
            memset(marked + first * each, 0, pages * each);
            break;
        case 4:
            for (pages = 0; first + pages < PAGES && armed[first + pages];) pages++;
            memset(a.dirty, 0, a.pages);
            a.runs = 0;
            gci_barrier_compare(a.barrier, (uintptr_t)at(&a, first), pages * a.page, note_run, &a);
            for (size_t i = first; i < first + pages; i++) {
                assert_int_equal(a.dirty[i], compares && written[i]);
                if (a.dirty[i]) memset(marked + i * each, 1, each);
                written[i] = 0;
            }
            break;
        case 5:
        case 6:
        case 7:
            mark(&a, card(&a, n));
            marked[n] = 1; /* falls through */
        default:
            *card(&a, n) = 1;
            written[first] = 1;
            break;
        }
    }
    close_arena(&a);
}

/* ---- Main ----------------------------------------------------------------------------------- */

#define UNDER_BOTH(f) UNDER(f, explicitly), UNDER(f, explicit_cross)

int main(void) {
    const struct CMUnitTest tests[] = {
        UNDER_BOTH(marked_cards_are_reported_once_and_again_when_marked_again),
        UNDER_BOTH(a_store_that_marks_nothing_is_not_reported),
        UNDER_BOTH(protecting_forgets_what_was_marked_there),
        UNDER_BOTH(only_the_range_is_collected),
        UNDER_BOTH(a_prepared_range_counts_as_marked),
        UNDER_BOTH(cards_far_into_the_arena_are_usable_once_covered),
        UNDER_BOTH(a_table_that_cant_grow_says_so),
        UNDER_BOTH(a_child_keeps_the_table_where_it_is),
        cmocka_unit_test(others_have_no_cards),
        UNDER(written_pages_are_compared_and_their_cards_set, explicit_cross),
        UNDER(the_visitor_sees_the_cards_as_they_were, explicit_cross),
        UNDER(nothing_is_compared_under_explicit_alone, explicitly),
        UNDER_BOTH(random_operations_match_a_model),
    };
    const char *given = getenv("CAIRN_TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 0) : gci_clock_ns();
    print_message("CAIRN_TEST_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests_name("cards", tests, NULL, NULL);
}
