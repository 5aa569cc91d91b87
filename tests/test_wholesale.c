/* Minor collections that promote everything young without searching it (docs/policy.md, rule 6):
 * when they do, that nothing is lost, and that what they promote in vain goes again. */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "child.h"
#include "support.h"

enum { SMALL = 60000, EVERY = 64, MB = 1 << 20 };

struct link {
    struct link *next;
    void *other;
    uint64_t number;
};

static struct link *volatile chain;

/* Stands in for the C library's, also in the collector: each look is a microsecond later than the one
 * before.  By the real clock a program that is preempted for long has collections that seem cheap
 * beside it, and they would be full ones. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static uint64_t looks;
    uint64_t us = __atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED);
    (void)clock;
    *now = (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    return 0;
}

/* Now and then, of each shape that blocks have: a leaf, a cell, a large object. */
static void *make_other(uint64_t number) {
    size_t bytes = number % (4 * EVERY) == 0 ? 20000 : number % (2 * EVERY) == 0 ? 3000 : 200;
    char *p = number % 3 == 0 ? gc_alloc_leaf(bytes) : gc_alloc(bytes);
    REQUIRE(p != NULL);
    p[bytes - 1] = (char)number;
    return p;
}

static void lengthen(unsigned count, bool typed) {
    for (unsigned i = 0; i < count; i++) {
        struct link *l = typed ? gc_new(struct link) : gc_alloc(sizeof *l);
        REQUIRE(l != NULL);
        l->number = chain != NULL ? chain->number + 1 : 1;
        if (l->number % EVERY == 0) l->other = make_other(l->number);
        l->next = chain;
        chain = l;
    }
}

GC_TYPE(struct link, next, other);

static void check_chain(unsigned count) {
    for (const struct link *l = chain; l != NULL; l = l->next, count--) {
        REQUIRE_EQUAL(l->number, count);
        if (count % EVERY != 0) continue;
        size_t bytes = count % (4 * EVERY) == 0 ? 20000 : count % (2 * EVERY) == 0 ? 3000 : 200;
        REQUIRE_EQUAL(((const char *)l->other)[bytes - 1], (char)count);
    }
    REQUIRE_EQUAL(count, 0);
}

static __attribute__((noinline)) void waste(size_t bytes) {
    for (size_t done = 0; done < bytes; done += 48) REQUIRE(gc_alloc(48) != NULL);
}

/* ---- Nothing is lost ------------------------------------------------------------------------ */

static void keep_all(bool typed) {
    lengthen(SMALL, typed);
    check_chain(SMALL);
    gc_collect(GC_FULL);
    lengthen(SMALL, typed);
    check_chain(2 * SMALL);
    chain = NULL;
    gc_collect(GC_FULL);
    REQUIRE(statistics().live_bytes < MB);
}

static void what_is_kept_is_promoted_unsearched(void) {
    keep_all(false);
}

static void what_is_kept_and_has_types_is_promoted_unsearched(void) {
    keep_all(true);
}

/* Old objects are written to all the time, on pages that no collection cleans meanwhile. */
static void what_old_objects_refer_to_is_promoted_too(void) {
    enum { SLOTS = 200000 };
    void ***table = gc_alloc(SLOTS * sizeof *table);
    gc_collect(GC_FULL);
    for (size_t i = 0; i < SLOTS; i++) {
        size_t at = i * 7919 % SLOTS;
        table[at] = gc_alloc(24);
        table[at][0] = (void *)at;
    }
    for (unsigned round = 0; round < 3; round++) {
        waste(3 * MB);
        for (size_t i = 0; i < SLOTS; i++) REQUIRE_EQUAL(table[i][0], i);
    }
}

/* ---- What goes with objects ----------------------------------------------------------------- */

enum { WATCHED = 500 };

/* All that can be noted of a link, while the structure grows, each of which is young then. */
static struct watched {
    uint64_t number, hash;
    gc_weak *weak[2];
    gc_handle *ephemeron; /* whose value is a link */
    void *slot;           /* a disappearing link, hidden from the collector */
} watched[WATCHED];
static gc_handle *table; /* weak in its keys */
static unsigned watched_count, finalized;

static void count_finalized(void *p, void *data) {
    (void)data;
    REQUIRE(((struct link *)p)->number != 0);
    finalized++;
}

static void watch(struct link *link) {
    struct watched *w = &watched[watched_count++];
    struct link *value = gc_new(struct link);
    value->number = link->number + 1;
    w->number = link->number;
    w->hash = gc_identity_hash(link);
    for (int kind = 0; kind < 2; kind++) w->weak[kind] = gc_weak_new(link, (enum gc_weak_kind)kind);
    w->ephemeron = gc_handle_new(gc_ephemeron_new(link, value));
    w->slot = (void *)hide(link);
    REQUIRE_EQUAL(gc_link_register(&w->slot, link, GC_WEAK_SHORT), 0);
    REQUIRE_EQUAL(gc_table_set(gc_handle_get(table), link, value), 0);
    REQUIRE_EQUAL(gc_finalizer_set(link, count_finalized, NULL, GC_UNORDERED), 0);
}

/* The chain, and links beside it that nothing holds: so few that nearly all survives. */
static void lengthen_watched(void) {
    for (unsigned i = 0; i < WATCHED; i++) {
        lengthen(100, i % 4 < 2);
        if (i % 2 == 0) {
            watch(chain);
        } else {
            struct link *lost = i % 4 == 1 ? gc_new(struct link) : gc_alloc(sizeof *lost);
            lost->number = i;
            watch(lost);
        }
    }
}

static void check_watched(const struct link *link, const struct watched *w) {
    const gc_ephemeron *ephemeron = gc_handle_get(w->ephemeron);
    REQUIRE_EQUAL(gc_identity_hash(link), w->hash);
    for (int kind = 0; kind < 2; kind++) REQUIRE(gc_weak_get(w->weak[kind]) == link);
    REQUIRE(gc_ephemeron_key(ephemeron) == link);
    REQUIRE_EQUAL(((struct link *)gc_ephemeron_value(ephemeron))->number, link->number + 1);
    REQUIRE(reveal((uintptr_t)w->slot) == link);
    REQUIRE(gc_table_get(gc_handle_get(table), link) == gc_ephemeron_value(ephemeron));
}

static void check_gone(const struct watched *w) {
    for (int kind = 0; kind < 2; kind++) REQUIRE(gc_weak_get(w->weak[kind]) == NULL);
    REQUIRE(gc_ephemeron_is_dead(gc_handle_get(w->ephemeron)) && w->slot == NULL);
}

static void check_all_watched(void) {
    const struct link *link = chain;
    for (unsigned i = WATCHED; i-- > 0;) {
        if (i % 2 != 0) continue;
        while (link->number != watched[i].number) link = link->next;
        check_watched(link, &watched[i]);
    }
}

static void run_all_finalizers(void) {
    do {
        clear_stack();
        gc_collect(GC_FULL);
    } while (gc_run_finalizers() > 0);
}

/* What is lost may be promoted in vain, and then ends with a full collection, once. */
static void what_is_noted_of_objects_is_promoted_with_them(void) {
    need_optimised_code();
    table = gc_handle_new(gc_table_new(GC_TABLE_WEAK_KEYS, NULL, NULL));
    lengthen_watched();
    gc_stats s = statistics();
    REQUIRE(s.minor.count >= 4 && gc_verify() == 0);
    check_all_watched();
    REQUIRE(finalized == 0 && gc_finalizers_ready() <= WATCHED / 2);
    clear_stack();
    run_all_finalizers();
    REQUIRE(finalized <= WATCHED / 2 && finalized >= WATCHED / 2 - 3);
    check_all_watched();
    unsigned gone = 0;
    for (unsigned i = 1; i < WATCHED; i += 2) {
        if (gc_weak_get(watched[i].weak[GC_WEAK_LONG]) != NULL) continue;
        check_gone(&watched[i]);
        gone++;
    }
    REQUIRE_EQUAL(gone, finalized);
    chain = NULL;
    run_all_finalizers();
    REQUIRE(finalized <= WATCHED && finalized >= WATCHED - 3);
    REQUIRE(gc_table_count(gc_handle_get(table)) <= WATCHED - finalized);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static __attribute__((noinline)) void lose(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        lengthen(100, i % 2 == 0);
        ((char *)gc_alloc(48))[0] = 1;
    }
}

/* Each is counted by the collection that finds it, and was not before. */
static void what_is_promoted_in_vain_is_reported_lost_once(void) {
    enum { LOST = 600 };
    need_optimised_code();
    lose(LOST);
    check_chain(100 * LOST);
    clear_stack();
    size_t found = gc_find_leaks();
    REQUIRE(found <= LOST && found >= LOST - 3);
    clear_stack();
    REQUIRE(found + gc_find_leaks() <= LOST);
    check_chain(100 * LOST);
}

/* A collection that counts searches; the others needn't. */
static void what_survives_is_counted_by_type_as_ever(void) {
    gc_type_stats stats = {.size = sizeof stats};
    lengthen(SMALL, true);
    lengthen(SMALL, true);
    REQUIRE_EQUAL(gc_type_get_stats(gc_type_of(chain), &stats), 0);
    REQUIRE(stats.collections >= 2 && stats.allocated_objects > 0);
    REQUIRE(stats.survived_objects <= stats.allocated_objects);
    REQUIRE(stats.survived_objects >= stats.allocated_objects - 2 * stats.collections);
    check_chain(2 * SMALL);
}

/* ---- It ends -------------------------------------------------------------------------------- */

/* Automatic ones find that all is kept, between them. */
static void a_collection_that_is_asked_for_searches(void) {
    enum { LINKS = 8704 }; /* not much over a nursery */
    gc_collect(GC_FULL);
    uint64_t before = statistics().live_bytes;
    lengthen(LINKS, false);
    gc_collect(GC_FULL);
    uint64_t each = statistics().live_bytes - before;
    for (unsigned round = 0; round < 8; round++) {
        before = statistics().live_bytes;
        lengthen(LINKS, false);
        waste(MB / 2);
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        REQUIRE(statistics().live_bytes < before + each + MB / 4);
    }
}

/* A few nurseries may be promoted in vain after a time in which all was kept. */
static void when_most_dies_again_minor_collections_search(void) {
    lengthen(SMALL, false);
    uint64_t before = statistics().live_bytes;
    waste(64 * (size_t)MB);
    gc_stats s = statistics();
    REQUIRE(s.minor.count > 40);
    REQUIRE(s.live_bytes < before + before / 4 + 2 * MB);
    gc_collect(GC_FULL);
    check_chain(SMALL);
}

#define KEEPS(function, ...)                                                                       \
    CHILD_SAYS(function, "all promoted", "CAIRN_LOG=1", "CAIRN_NURSERY=1M", "CAIRN_VERIFY=1",      \
        __VA_ARGS__)

int main(void) {
    const struct CMUnitTest tests[] = {
        KEEPS(what_is_kept_is_promoted_unsearched, "CAIRN_BARRIER=none"),
        KEEPS(what_is_kept_is_promoted_unsearched, "CAIRN_BARRIER=auto"),
        KEEPS(what_is_kept_is_promoted_unsearched, "CAIRN_BARRIER=mprotect", "CAIRN_POISON=1"),
        KEEPS(what_is_kept_and_has_types_is_promoted_unsearched, "CAIRN_BARRIER=auto"),
        KEEPS(what_is_kept_and_has_types_is_promoted_unsearched, "CAIRN_BARRIER=mprotect",
            "CAIRN_PROTECT_MOVED=4"),
        KEEPS(what_old_objects_refer_to_is_promoted_too, "CAIRN_BARRIER=auto"),
        KEEPS(what_old_objects_refer_to_is_promoted_too, "CAIRN_BARRIER=mprotect"),
        KEEPS(what_is_noted_of_objects_is_promoted_with_them, "CAIRN_BARRIER=none"),
        KEEPS(what_is_noted_of_objects_is_promoted_with_them, "CAIRN_BARRIER=mprotect",
            "CAIRN_PREPARES_WRITES=1"),
        KEEPS(what_is_promoted_in_vain_is_reported_lost_once, "CAIRN_FIND_LEAKS=all"),
        KEEPS(what_is_promoted_in_vain_is_reported_lost_once, "CAIRN_FIND_LEAKS=1",
            "CAIRN_PROFILE_INTERVAL=1K"),
        KEEPS(what_survives_is_counted_by_type_as_ever, "CAIRN_TYPE_STATS=4"),
        CHILD_TEST(a_collection_that_is_asked_for_searches, "CAIRN_NURSERY=1M"),
        CHILD_TEST(when_most_dies_again_minor_collections_search, "CAIRN_NURSERY=1M"),
    };
    return cmocka_run_group_tests_name("wholesale", tests, NULL, NULL);
}
