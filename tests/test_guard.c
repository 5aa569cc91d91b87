/* CAIRN_POISON=guard: a large object ends where a page begins that can't be accessed, so that an
 * overrun faults at once and is explained, whatever the barrier does to pages, and nothing else
 * changes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "support.h"

/* A store that compilers don't know to be wrong. */
static __attribute__((noinline)) void poke(volatile void *p, size_t at) {
    volatile char *volatile bytes = p;
    bytes[at] = 1;
}

/* ---- What faults ---------------------------------------------------------------------------- */

static void a_write_past_the_end_aborts(void) {
    char *volatile p = gc_alloc(20000);
    memset(p, 1, 20000);
    poke(p, 20000);
}

static void a_read_past_the_end_aborts(void) {
    volatile char *volatile p = gc_alloc_leaf(100000);
    (void)p[100000];
}

/* 16 bytes are what an object is a multiple of. */
static void what_is_no_multiple_ends_up_to_fifteen_bytes_before(void) {
    char *volatile p = gc_alloc(20001);
    REQUIRE_EQUAL(gc_size(p), 20016);
    poke(p, 20015);
    poke(p, 20016);
}

static void an_overrun_of_an_old_object_aborts(void) {
    char *volatile p = gc_alloc(20000);
    settle_old();
    memset(p, 1, 20000);
    collect(GC_MINOR);
    poke(p, 20000);
}

struct wide {
    struct wide *next;
    char rest[10232];
};
GC_TYPE(struct wide, next);

static void the_type_is_named(void) {
    struct wide *volatile p = gc_new(struct wide);
    poke(p, sizeof *p);
}

static void an_array_of_a_type_is_guarded(void) {
    struct wide *volatile p = gc_alloc_array(gc_type_of(gc_new(struct wide)), 5);
    settle_old();
    p[4].next = p;
    poke(p, 5 * sizeof *p);
}

static void what_was_resized_is_guarded(void) {
    char *volatile p = gc_alloc(20000);
    memset(p, 7, 20000);
    p = gc_realloc(p, 50000);
    REQUIRE(all_bytes(p, 7, 20000) && all_bytes(p + 20000, 0, 30000));
    p = gc_realloc(p, 10000);
    REQUIRE(all_bytes(p, 7, 10000));
    poke(p, 9999);
    poke(p, 10000);
}

static void a_child_of_fork_is_guarded(void) {
    char *volatile p = gc_alloc(20000);
    settle_old();
    pid_t child = fork();
    int status;
    if (child == 0) {
        gc_collect(GC_FULL);
        poke(p, 20000);
        _exit(0);
    }
    REQUIRE_EQUAL(waitpid(child, &status, 0), child);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void a_system_call_fails(void) {
    char *volatile p = gc_alloc(20000);
    int file = open("/dev/zero", O_RDONLY);
    REQUIRE_EQUAL(read(file, p, 20000), 20000);
    REQUIRE_EQUAL(read(file, p + 20000, 10), -1);
    REQUIRE_EQUAL(errno, EFAULT);
}

/* ---- What doesn't --------------------------------------------------------------------------- */

static void alignments_are_kept(void) {
    for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 2)
        for (size_t size = 9000; size < 80000; size += 8999) {
            char *p = gc_alloc_aligned(alignment, size);
            REQUIRE(p != NULL && (uintptr_t)p % alignment == 0);
            REQUIRE(gc_size(p) >= size && all_bytes(p, 0, gc_size(p)));
            memset(p, 1, gc_size(p));
            REQUIRE(gc_base(p + size - 1) == p);
            REQUIRE(gc_base(p - 1) != p && gc_base(p + gc_size(p)) != p);
        }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static char *volatile the_end;

/* An object that is met by a pointer past its end only, where its guard page begins. */
static void a_pointer_past_the_end_holds_the_object(void) {
    char *p = gc_alloc(20000);
    uintptr_t hidden = hide(p);
    the_end = p + 20000;
    p = NULL;
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(&hidden, 1), 1);
}

/* ---- Against a model ------------------------------------------------------------------------ */

enum { SLOTS = 60, TYPED_BYTES = 30000 }; /* which is no multiple of a page */

struct large {
    struct large *next;
    uint64_t *own; /* an object that only this one refers to: holds the number */
    uint64_t sum;  /* the number, too */
    uint64_t words[];
};

static struct {
    uint64_t number;
    size_t words;
    int next;
} model[SLOTS];

static void **objects;

/* References lie in the first words, which may be anywhere in their page. */
static void make(int i) {
    size_t words = 1024 + (size_t)rand() % 6000, bytes = sizeof(struct large) + words * 8;
    bool typed = i % 3 == 0, leaf = i % 3 == 1;
    static const uint32_t at[] = {0, 8};
    static const gc_type *type;
    if (type == NULL) {
        gc_type_desc desc = {.name = "large", .size = 8, .pointers = at, .pointer_count = 2};
        desc.size = TYPED_BYTES;
        type = gc_type_register(&desc);
        REQUIRE(type != NULL);
    }
    struct large *p = leaf ? gc_alloc_leaf(bytes) : typed ? gc_alloc_typed(type) : gc_alloc(bytes);
    if (typed) words = (TYPED_BYTES - sizeof *p) / 8;
    REQUIRE(p != NULL && all_bytes(p, 0, sizeof *p + words * 8));
    model[i].number = (uint64_t)rand() * 2 + 1;
    model[i].words = words;
    model[i].next = -1;
    p->sum = model[i].number;
    for (size_t w = 0; w < words; w++) p->words[w] = model[i].number;
    objects[i] = p;
}

static void check(int i) {
    const struct large *p = objects[i];
    REQUIRE_EQUAL(p->sum, model[i].number);
    for (size_t w = 0; w < model[i].words; w++) REQUIRE(p->words[w] == model[i].number);
    if (i % 3 != 1 && p->own != NULL) REQUIRE_EQUAL(*p->own, model[i].number);
    if (i % 3 != 1) REQUIRE(p->next == (model[i].next < 0 ? NULL : objects[model[i].next]));
}

static void large_objects_live_as_ever(void) {
    srand(11);
    objects = calloc(SLOTS, sizeof *objects);
    REQUIRE_EQUAL(gc_add_slots(objects, SLOTS), 0);
    for (int i = 0; i < SLOTS; i++) make(i);
    for (int round = 0; round < 250; round++) {
        int i = rand() % SLOTS, j = rand() % SLOTS;
        struct large *p = objects[i];
        if (i % 3 != 1) {
            gc_write(p, &p->next, objects[j]);
            gc_write(p, &p->own, gc_alloc_leaf(32));
            *p->own = model[i].number;
            model[i].next = j;
        }
        for (int k = 0; k < SLOTS; k++) /* an object that is replaced is referred to no more */
            if (model[k].next == j) {
                struct large *q = objects[k];
                gc_write(q, &q->next, NULL);
                model[k].next = -1;
            }
        if (rand() % 8 == 0) gc_free(objects[j]);
        objects[j] = NULL;
        make(j);
        for (int n = 0; n < 8; n++) gc_new(struct wide);
        if (rand() % 10 == 0) collect(rand() % 3 == 0 ? GC_FULL : GC_MINOR);
        check(rand() % SLOTS);
    }
    for (int i = 0; i < SLOTS; i++) check(i);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Where mappings end --------------------------------------------------------------------- */

static void too_many_are_not_guarded(void) {
    static void *held[16500];
    for (int i = 0; i < 16500; i++) REQUIRE((held[i] = gc_alloc(8300)) != NULL);
    collect(GC_FULL);
    memset(held, 0, sizeof held);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_verify(), 0);
    char *volatile p = gc_alloc(20000); /* there are enough again */
    poke(p, 20000);
}

#define GUARD "CAIRN_POISON=guard"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_ABORT(a_write_past_the_end_aborts,
            "byte 20000 of an object of 20000 bytes (ambiguous) at", GUARD),
        CHILD_ABORT(a_write_past_the_end_aborts, "an overrun: the program writes to", GUARD,
            "CAIRN_BARRIER=mprotect", "CAIRN_PREPARES_WRITES=1"),
        CHILD_ABORT(a_read_past_the_end_aborts,
            "byte 100000 of an object of 100000 bytes (a leaf) at", GUARD),
        CHILD_ABORT(what_is_no_multiple_ends_up_to_fifteen_bytes_before,
            "byte 20016 of an object of 20016 bytes", GUARD),
        CHILD_ABORT(an_overrun_of_an_old_object_aborts, "byte 20000 of an object", GUARD),
        CHILD_ABORT(an_overrun_of_an_old_object_aborts, "byte 20000 of an object", GUARD,
            "CAIRN_BARRIER=mprotect"),
        CHILD_ABORT(an_overrun_of_an_old_object_aborts, "byte 20000 of an object", GUARD,
            "CAIRN_BARRIER=cross", "CAIRN_VERIFY=1"),
        CHILD_ABORT(the_type_is_named, "of 10240 bytes (of type struct wide) at", GUARD),
        CHILD_ABORT(an_array_of_a_type_is_guarded, "byte 51200 of an object of 51200", GUARD),
        CHILD_ABORT(what_was_resized_is_guarded, "byte 10000 of an object of 10000", GUARD),
        CHILD_SAYS(a_child_of_fork_is_guarded, "byte 20000 of an object", GUARD),
        CHILD_SAYS(
            a_child_of_fork_is_guarded, "byte 20000 of an object", GUARD, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_system_call_fails, GUARD),
        CHILD_TEST(alignments_are_kept, GUARD, "CAIRN_VERIFY=1"),
        CHILD_TEST(a_pointer_past_the_end_holds_the_object, GUARD),
        CHILD_TEST(large_objects_live_as_ever, GUARD, "CAIRN_VERIFY=1", "CAIRN_NURSERY=256K"),
        CHILD_TEST(large_objects_live_as_ever, GUARD, "CAIRN_BARRIER=mprotect",
            "CAIRN_NURSERY=256K", "CAIRN_LARGE_FIT=best"),
        CHILD_TEST(large_objects_live_as_ever, GUARD, "CAIRN_BARRIER=cross", "CAIRN_STRESS=97"),
        CHILD_TEST(large_objects_live_as_ever, GUARD, "CAIRN_BARRIER=explicit-cross",
            "CAIRN_NURSERY=256K", "CAIRN_VERIFY=1"),
        CHILD_TEST(large_objects_live_as_ever, GUARD, "CAIRN_BARRIER=none", "CAIRN_NURSERY=256K",
            "CAIRN_PROTECT_MOVED=2"),
        CHILD_ABORT(too_many_are_not_guarded, "no more mappings for guard pages", GUARD),
    };
    return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
