/* Collections as a program sees them: short minor pauses, system calls into protected old objects,
 * references that only old objects hold, long lists. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/random.h"
#include "child.h"
#include "support.h"

/* ---- Pauses -----------------------------------------------------------------------------------
 */

static void a_minor_collection_with_few_survivors_is_short(void) {
    enum { LIVE = 1000 };
    void **survivors = gc_alloc(LIVE * sizeof *survivors);
    for (unsigned round = 0; round < 40; round++) {
        size_t objects = statistics().nursery_bytes / 32 * 9 / 10;
        for (size_t i = 0; i < objects; i++) {
            void *p = gc_alloc(32);
            if (i % 1024 == 0) survivors[i / 1024 % LIVE] = p;
        }
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    }
    gc_stats s = statistics();
    printf("%llu minor collections: p50 %llu us, p99 %llu us, longest %llu us\n",
        (unsigned long long)s.minor.count, (unsigned long long)s.minor.p50_ns / 1000,
        (unsigned long long)s.minor.p99_ns / 1000, (unsigned long long)s.minor.max_ns / 1000);
    REQUIRE(s.minor.count >= 40);
#if defined(__OPTIMIZE__) && !defined(GC_SANITIZE)
    REQUIRE(s.minor.p50_ns < 1000000); /* 200 us is the aim, on a machine with nothing else to do */
#endif
}

/* ---- System calls into old objects -------------------------------------------------------------
 */

enum { READS = 1000, BYTES = 4096 };

static char *volatile objects[READS];
static uintptr_t hidden[READS];

static __attribute__((noinline)) void make_old_objects(void) {
    for (size_t i = 0; i < READS; i++) objects[i] = gc_alloc(BYTES);
    settle_old();
    gc_stats s = statistics();
    if (s.barrier == GC_BARRIER_NONE) child_skip("no barrier works here");
    REQUIRE(s.closed_blocks >= READS * BYTES / 65536);
}

/* Makes a young object, and puts its address into a pipe and nowhere else. */
static __attribute__((noinline)) void send_young(int to, size_t i) {
    uintptr_t *young = gc_alloc_leaf(40);
    young[0] = i;
    hidden[i] = hide(young);
    REQUIRE_EQUAL(write(to, &young, sizeof young), sizeof young);
}

/* Reads an address into each old object; returns how many system calls failed, which are made again
 * after gc_prepare_write(). */
static unsigned read_young_into_old(bool prepare) {
    int ends[2];
    unsigned failed = 0;
    REQUIRE_EQUAL(pipe(ends), 0);
    for (size_t i = 0; i < READS; i++) {
        char *place = objects[i] + i * 8 % BYTES;
        send_young(ends[1], i);
        if (prepare) gc_prepare_write(place, sizeof(void *));
        ssize_t n = read(ends[0], place, sizeof(void *));
        if (n < 0) {
            REQUIRE_EQUAL(errno, EFAULT);
            failed++;
            gc_prepare_write(place, sizeof(void *));
            n = read(ends[0], place, sizeof(void *));
        }
        REQUIRE_EQUAL(n, sizeof(void *));
    }
    close(ends[0]);
    close(ends[1]);
    return failed;
}

static void check_young(void) {
    collect(GC_MINOR);
    for (size_t i = 0; i < READS; i++) {
        uintptr_t *young = *(uintptr_t **)(objects[i] + i * 8 % BYTES);
        REQUIRE(young == reveal(hidden[i]));
        REQUIRE(gc_base(young) == young && young[0] == i);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void reads_into_protected_objects_succeed(void) {
    make_old_objects();
    for (unsigned round = 0; round < 4; round++) {
        REQUIRE_EQUAL(read_young_into_old(false), 0);
        check_young();
    }
}

static void reads_of_whole_objects_succeed(void) {
    make_old_objects();
    int zero = open("/dev/zero", O_RDONLY), urandom = open("/dev/urandom", O_RDONLY);
    for (size_t i = 0; i < READS; i++) {
        memset(objects[i], 0xff, BYTES);
        REQUIRE_EQUAL(read(zero, objects[i], BYTES), BYTES);
        REQUIRE(all_bytes(objects[i], 0, BYTES));
        REQUIRE_EQUAL(read(urandom, objects[i], BYTES), BYTES);
    }
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void reads_under_mprotect_need_gc_prepare_write(void) {
    make_old_objects();
    unsigned failed = read_young_into_old(false);
    printf("%u of %d reads failed with EFAULT\n", failed, READS);
    REQUIRE(failed > READS / 2);
    check_young();
    settle_old();
    REQUIRE_EQUAL(read_young_into_old(true), 0);
    check_young();
}

static void gc_prepare_write_takes_any_range(void) {
    make_old_objects();
    char local[100];
    gc_prepare_write(local, sizeof local);
    gc_prepare_write(objects[0], 0);
    gc_prepare_write(NULL, SIZE_MAX);
    gc_prepare_write(objects[0] - (1 << 20), 64 << 20);
    int zero = open("/dev/zero", O_RDONLY);
    for (size_t i = 0; i < READS; i++) REQUIRE_EQUAL(read(zero, objects[i], BYTES), BYTES);
    collect(GC_MINOR);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Old to young ------------------------------------------------------------------------------
 */

/* Stores of fresh objects all over old ones of all sizes, each the only reference. */
static void old_objects_keep_what_is_stored_in_them(void) {
    enum { OLD = 20000, STORES = 300 };
    static uintptr_t **old[OLD];
    static size_t words[OLD];
    struct bench_random random = {12345};
    for (size_t i = 0; i < OLD; i++) {
        size_t size = i % 100 == 0 ? 20000 : i % 10 == 0 ? 2000 : 16 + i % 8 * 16;
        old[i] = gc_alloc(size);
        words[i] = size / sizeof(void *);
    }
    settle_old();
    for (unsigned round = 0; round < 150; round++) {
        size_t where[STORES], which[STORES];
        for (size_t i = 0; i < STORES; i++) {
            where[i] = bench_random_below(&random, OLD);
            which[i] = bench_random_below(&random, words[where[i]]);
            uintptr_t *young = gc_alloc(48);
            young[1] = i;
            old[where[i]][which[i]] = young;
        }
        collect(GC_MINOR);
        for (size_t i = 0; i < STORES; i++) {
            uintptr_t *young = old[where[i]][which[i]];
            REQUIRE(gc_base(young) == young && young[1] < STORES);
            REQUIRE(young[1] >= i); /* a later store may have gone to the same word */
        }
        if (round % 20 == 19) settle_old();
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Size --------------------------------------------------------------------------------------
 */

static void a_list_of_five_million_cells_is_marked(void) {
    enum { CELLS = 5000000 };
    struct cell {
        struct cell *next;
        uintptr_t number;
    };
    static struct cell *volatile list;
    for (uintptr_t i = 0; i < CELLS; i++) {
        struct cell *c = gc_alloc(sizeof *c);
        c->number = i;
        c->next = list;
        list = c;
    }
    collect(GC_FULL);
    collect(GC_FULL);
    REQUIRE(statistics().live_bytes >= CELLS * sizeof(struct cell));
    uintptr_t expected = CELLS;
    for (const struct cell *c = list; c != NULL; c = c->next) REQUIRE(c->number == --expected);
    REQUIRE_EQUAL(expected, 0);
    need_optimised_code();
    list = NULL;
    collect(GC_FULL);
    REQUIRE(statistics().live_bytes < CELLS * sizeof(struct cell) / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_minor_collection_with_few_survivors_is_short),
        CHILD_TEST(reads_into_protected_objects_succeed),
        CHILD_TEST(reads_of_whole_objects_succeed),
        CHILD_TEST(reads_under_mprotect_need_gc_prepare_write, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(gc_prepare_write_takes_any_range),
        CHILD_TEST(gc_prepare_write_takes_any_range, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(old_objects_keep_what_is_stored_in_them),
        CHILD_TEST(old_objects_keep_what_is_stored_in_them, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(old_objects_keep_what_is_stored_in_them, "CAIRN_BARRIER=none"),
        CHILD_TEST(old_objects_keep_what_is_stored_in_them, "CAIRN_BARRIER=cross"),
        CHILD_TEST(a_list_of_five_million_cells_is_marked),
        CHILD_TEST(a_list_of_five_million_cells_is_marked, "CAIRN_BARRIER=mprotect"),
    };
    return cmocka_run_group_tests_name("collect", tests, NULL, NULL);
}
