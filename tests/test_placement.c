/* Where blocks and large objects go: free blocks join again, alignment doesn't eat the address
 * space, frees in any order take the same time, hot blocks stay open, and a stack that isn't the
 * thread's is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include "child.h"
#include "support.h"

/* Found in review: each round moved the arena's end by a gigabyte, as single blocks were never
 * joined. */
static void aligned_objects_reuse_their_place(void) {
    for (int i = 0; i < 3000; i++) {
        void *p = gc_alloc_aligned((size_t)1 << 30, 16);
        REQUIRE(p != NULL && (uintptr_t)p % ((size_t)1 << 30) == 0);
        gc_free(p);
    }
    REQUIRE(gc_verify() == 0);
}

/* Found in review: blocks in the pool didn't join the free runs, and a heap with nothing in it
 * had no room. */
static void free_blocks_join_for_large_objects(void) {
    enum { SMALL = 14 << 20 };
    for (int round = 0; round < 6; round++) {
        for (size_t bytes = 0; bytes < SMALL; bytes += 64) REQUIRE(gc_alloc(64) != NULL);
        clear_stack();
        REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
        void *large = gc_alloc_leaf((size_t)(8 + round) << 20);
        REQUIRE(large != NULL);
        gc_free(large);
    }
    REQUIRE(gc_verify() == 0);
}

/* A large object that fits one block takes one that small objects left, though the address space
 * has ended. */
static void a_free_block_serves_a_large_object(void) {
    gc_disable();
    for (size_t bytes = 0; gc_alloc(64) != NULL; bytes += 64) REQUIRE(bytes < 64 << 20);
    gc_enable();
    collect(GC_FULL);
    for (size_t bytes = 8200; bytes <= 65536; bytes += 4096) {
        void *large = gc_alloc_leaf(bytes);
        REQUIRE(large != NULL);
        gc_free(large);
    }
    REQUIRE(gc_verify() == 0);
}

/* Found in review: the list of large objects was searched for each. */
static void large_objects_are_freed_in_any_order(void) {
    enum { OBJECTS = 60000 };
    void **all = gc_alloc(OBJECTS * sizeof *all);
    gc_disable();
    for (int i = 0; i < OBJECTS; i++) REQUIRE((all[i] = gc_alloc_leaf(8200)) != NULL);
    clock_t start = clock();
    for (int i = 0; i < OBJECTS; i++) gc_free(all[i]);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("%d large objects freed first to last in %.3f s\n", OBJECTS, seconds);
    REQUIRE(seconds < 0.5);
    gc_enable();
    REQUIRE(gc_verify() == 0);
}

/* A table whose every page is written between any two collections stops faulting. */
static void a_hot_table_stays_open(void) {
    enum { WORDS = 1 << 19, COLLECTIONS = 20 };
    void **volatile table = gc_alloc(WORDS * sizeof *table);
    gc_stats stats = {.size = sizeof stats};
    uint64_t early = 0;
    for (int c = 0; c < COLLECTIONS; c++) {
        for (size_t i = 0; i < WORDS; i += 64) table[i] = gc_alloc(16);
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        REQUIRE_EQUAL(gc_get_stats(&stats), 0);
        if (c == COLLECTIONS / 2) early = stats.dirty_pages;
    }
    printf("%lu dirty pages, %lu of them in the second half\n", stats.dirty_pages,
        stats.dirty_pages - early);
    if (stats.barrier == GC_BARRIER_NONE) child_skip("there is no barrier here");
    REQUIRE(early > 0);
    REQUIRE(stats.dirty_pages - early < 200);
    for (size_t i = 0; i < WORDS; i += 64) REQUIRE_EQUAL(gc_size(table[i]), 16);
}

static ucontext_t home, away;

static void collect_away(void) {
    gc_collect(GC_FULL);
}

static void a_collection_on_another_stack_is_refused(void) {
    REQUIRE(gc_alloc(16) != NULL);
    static char stack[1 << 16];
    REQUIRE(getcontext(&away) == 0);
    away.uc_stack.ss_sp = stack;
    away.uc_stack.ss_size = sizeof stack;
    away.uc_link = &home;
    makecontext(&away, collect_away, 0);
    swapcontext(&home, &away);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(aligned_objects_reuse_their_place),
        CHILD_TEST(free_blocks_join_for_large_objects, "CAIRN_HEAP_RESERVE=32M"),
        CHILD_TEST(a_free_block_serves_a_large_object, "CAIRN_HEAP_RESERVE=32M"),
        CHILD_TEST(large_objects_are_freed_in_any_order),
        CHILD_TEST(large_objects_are_freed_in_any_order, "CAIRN_LARGE_FIT=best"),
        CHILD_TEST(a_hot_table_stays_open, "CAIRN_NURSERY=1G"),
        CHILD_TEST(a_hot_table_stays_open, "CAIRN_NURSERY=1G", "CAIRN_BARRIER=mprotect"),
        CHILD_ABORT(a_collection_on_another_stack_is_refused, "neither its own"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
