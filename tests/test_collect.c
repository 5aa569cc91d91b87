/* Collections as a program sees them: short minor pauses, system calls into protected old objects,
 * references that only old objects hold, long lists. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/random.h"
#include "child.h"
#include "support.h"

/* ---- Pauses -----------------------------------------------------------------------------------
 */

/* Of the processors, so that it doesn't matter who else has them. */
static double cpu_us(void) {
    struct timespec now;
    REQUIRE_EQUAL(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void a_minor_collection_with_few_survivors_is_short(void) {
    enum { LIVE = 1000, ROUNDS = 40 };
    double us[ROUNDS];
    void **survivors = gc_alloc(LIVE * sizeof *survivors);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t objects = statistics().nursery_bytes / 32 * 9 / 10;
        for (size_t i = 0; i < objects; i++) {
            void *p = gc_alloc(32);
            if (i % 1024 == 0) survivors[i / 1024 % LIVE] = p;
        }
        double before = cpu_us();
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        us[round] = cpu_us() - before;
    }
    qsort(us, ROUNDS, sizeof *us, compare);
    gc_stats s = statistics();
    printf("%llu minor collections: half take %.0f us of processors, all up to %.0f us; "
           "p50 %llu us, p99 %llu us, longest %llu us\n",
        (unsigned long long)s.minor.count, us[ROUNDS / 2], us[ROUNDS - 1],
        (unsigned long long)s.minor.p50_ns / 1000, (unsigned long long)s.minor.p99_ns / 1000,
        (unsigned long long)s.minor.max_ns / 1000);
    REQUIRE(s.minor.count >= ROUNDS);
#if defined(__OPTIMIZE__) && !defined(GC_SANITIZE)
    /* 200 us is the aim; a machine may be slow. */
    REQUIRE(us[ROUNDS / 2] < 5000);
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

/* ---- Memory used again -------------------------------------------------------------------------
 */

enum { SPREAD = 40000 };

static void *volatile spread[SPREAD];

/* A system call writes to P, which was just allocated: nothing may be protected there. */
static void fill_by_system_call(int zero, char *p, size_t bytes) {
    if (read(zero, p, bytes) != (ssize_t)bytes)
        child_fail(__FILE__, __LINE__, "read() into a young object of %zu bytes: %s", bytes,
            strerror(errno));
}

/* Makes old objects with room between them, in closed blocks: one of four stays. */
static __attribute__((noinline)) void make_sparse_blocks(size_t bytes, size_t count) {
    gc_disable(); /* or what lies beside what depends on when, and how, the collector collects */
    for (size_t i = 0; i < count; i++) {
        void *p = gc_alloc(bytes);
        if (i % 4 == 0) spread[i / 4] = p;
    }
    gc_enable();
    settle_old();
    REQUIRE(statistics().closed_blocks > 0);
}

/* Allocates between them; how many of the new objects share a block with an old one? */
static size_t fill_sparse_blocks(size_t bytes, size_t count) {
    static bool old_blocks[1 << 16];
    uintptr_t base = (uintptr_t)spread[0] >> 16;
    int zero = open("/dev/zero", O_RDONLY);
    size_t shared = 0;
    memset(old_blocks, 0, sizeof old_blocks);
    for (size_t i = 0; i < count / 4; i++)
        old_blocks[(((uintptr_t)spread[i] >> 16) - base) & 0xffff] = true;
    gc_disable();
    for (size_t i = 0; i < count; i++) {
        char *p = gc_alloc(bytes);
        shared += old_blocks[(((uintptr_t)p >> 16) - base) & 0xffff];
        fill_by_system_call(zero, p, bytes);
    }
    gc_enable();
    close(zero);
    return shared;
}

static void system_calls_fill_young_objects_between_old_ones(void) {
    REQUIRE_EQUAL(gc_init(NULL), 0);
    static const size_t sizes[] = {64, 2048};
    for (unsigned i = 0; i < 2; i++) {
        size_t count = ((size_t)4 << 20) / sizes[i];
        REQUIRE(count / 4 <= SPREAD);
        make_sparse_blocks(sizes[i], count);
        size_t shared = fill_sparse_blocks(sizes[i], count);
        uint64_t dirty = statistics().dirty_pages;
        collect(GC_MINOR);
        dirty = statistics().dirty_pages - dirty;
        printf("%zu of %zu objects of %zu bytes beside old ones, %llu pages written\n", shared,
            count, sizes[i], (unsigned long long)dirty);
        REQUIRE(shared > count / 4);
        REQUIRE(dirty < 100); /* what is allocated into is not protected */
        memset((void *)spread, 0, sizeof spread);
        collect(GC_FULL);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* In blocks that were closed when they were freed, and whose memory went back to the system, so
 * that nothing is zeroed there before: objects of each kind and of all sizes. */
static void system_calls_fill_objects_in_freed_blocks(void) {
    static const size_t sizes[] = {64, 1000, 2048, 8192, 100000};
    int zero = open("/dev/zero", O_RDONLY);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (unsigned leaf = 0; leaf < 2; leaf++) {
            make_old_objects();
            uintptr_t low = UINTPTR_MAX, high = 0;
            for (size_t n = 0; n < READS; n++) {
                uintptr_t at = (uintptr_t)objects[n];
                low = at < low ? at : low;
                high = at > high ? at : high;
                objects[n] = NULL;
            }
            uint64_t released = statistics().released_bytes;
            for (unsigned n = 0; n < 12; n++) collect(GC_FULL);
            REQUIRE(statistics().released_bytes - released > 1 << 20);
            gc_disable();
            size_t count = ((size_t)4 << 20) / sizes[i], inside = 0;
            for (size_t n = 0; n < count; n++) {
                char *p = leaf ? gc_alloc_leaf(sizes[i]) : gc_alloc(sizes[i]);
                inside += (uintptr_t)p >= low && (uintptr_t)p <= high;
                fill_by_system_call(zero, p, sizes[i]);
            }
            gc_enable();
            REQUIRE(inside > count / 4);
            collect(GC_FULL);
        }
    }
    close(zero);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- The dead stay dead ------------------------------------------------------------------------
 */

enum { DEAD = 20000 };

static uintptr_t dead[DEAD];
static void *volatile stale[DEAD], *volatile beside[DEAD];

static __attribute__((noinline)) void make_the_dead(void) {
    for (size_t i = 0; i < DEAD; i++) {
        dead[i] = hide(gc_alloc(i % 16 == 0 ? 2000 : 48));
        /* So that no block is free.  Not its first byte, which is the end of the one before. */
        beside[i] = (char *)gc_alloc(i % 16 == 0 ? 2000 : 48) + 8;
    }
}

/* A collection found them dead; a word that says their address afterwards doesn't revive them,
 * although a full collection makes young what lives beside them. */
static void dead_objects_are_not_revived(void) {
    need_optimised_code();
    gc_disable(); /* none is found dead early, and its place used again */
    make_the_dead();
    gc_enable();
    collect(GC_FULL);
    size_t alive = count_alive(dead, DEAD);
    REQUIRE(alive < 100);
    for (size_t i = 0; i < DEAD; i++) stale[i] = reveal(dead[i]);
    for (unsigned i = 0; i < 4; i++) {
        collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
        REQUIRE(count_alive(dead, DEAD) <= alive);
    }
    for (size_t i = 0; i < DEAD; i++) REQUIRE(gc_base(beside[i]) == (char *)beside[i] - 8);
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
        CHILD_TEST(system_calls_fill_young_objects_between_old_ones, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(system_calls_fill_young_objects_between_old_ones),
        CHILD_TEST(system_calls_fill_objects_in_freed_blocks, "CAIRN_BARRIER=mprotect",
            "CAIRN_RELEASE_AFTER=1", "CAIRN_NURSERY=64K"),
        CHILD_TEST(dead_objects_are_not_revived),
        CHILD_TEST(a_list_of_five_million_cells_is_marked),
        CHILD_TEST(a_list_of_five_million_cells_is_marked, "CAIRN_BARRIER=mprotect"),
    };
    return cmocka_run_group_tests_name("collect", tests, NULL, NULL);
}
