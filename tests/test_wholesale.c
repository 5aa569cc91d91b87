/* Minor collections that promote everything young without searching it (docs/policy.md, rule 6):
 * when they do, that nothing is lost, and that what they promote in vain goes again. */
#define _GNU_SOURCE
#include <string.h>

#include "cairn/embed.h"
#include "child.h"
#include "support.h"

enum { SMALL = 60000, EVERY = 64, MB = 1 << 20 };

struct link {
    struct link *next;
    void *other;
    uint64_t number;
};

static struct link *volatile chain;

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
        CHILD_TEST(a_collection_that_is_asked_for_searches, "CAIRN_NURSERY=1M"),
        CHILD_TEST(when_most_dies_again_minor_collections_search, "CAIRN_NURSERY=1M"),
    };
    return cmocka_run_group_tests_name("wholesale", tests, NULL, NULL);
}
