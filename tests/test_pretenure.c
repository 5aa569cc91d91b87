/* Objects that are allocated old, and what is known of how much of a type survives. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "fewer.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

struct node {
    struct node *next, *other;
    uint64_t number;
};
GC_TYPE(struct node, next, other);

static struct node *root; /* static data refers to it: it stays where it is */

static void start(void) {
    root = gc_new(struct node);
    REQUIRE(root != NULL);
}

/* ---- Allocating old ------------------------------------------------------------------------- */

static __attribute__((noinline)) uintptr_t add_old(uint64_t number) {
    struct node *p = gc_alloc_old(gc_type_of(root));
    REQUIRE(p != NULL && all_bytes(p, 0, sizeof *p) && gc_type_of(p) == gc_type_of(root));
    p->number = number;
    p->next = root->next;
    root->next = p;
    return hide(p);
}

static __attribute__((noinline)) bool first_is_at(uintptr_t hidden) {
    return hide(root->next) == hidden;
}

static void what_is_allocated_old_never_moves(void) {
    need_optimised_code();
    start();
    uintptr_t before = add_old(2);
    for (int i = 0; i < 8; i++) {
        clear_stack();
        collect(i == 4 ? GC_FULL : GC_MINOR);
        REQUIRE(first_is_at(before) && root->next->number == 2);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

/* Right after the allocation, and after the block was protected, and with the only reference to the
 * young object in the old one. */
static void it_keeps_young_objects_alive(void) {
    start();
    add_old(2);
    for (uint64_t i = 0; i < 20; i++) {
        struct node *young = gc_new(struct node);
        young->number = i;
        root->next->other = young;
        young = NULL;
        clear_stack();
        collect(i % 7 == 6 ? GC_FULL : GC_MINOR);
        REQUIRE(gc_type_of(root->next->other) == gc_type_of(root));
        REQUIRE(root->next->other->number == i);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

static __attribute__((noinline)) void make_old_garbage(uintptr_t *hidden, unsigned count) {
    for (unsigned i = 0; i < count; i++) hidden[i] = hide(gc_alloc_old(gc_type_of(root)));
}

static void its_garbage_lives_until_a_full_collection(void) {
    enum { COUNT = 1000 };
    static uintptr_t hidden[COUNT];
    need_optimised_code();
    start();
    make_old_garbage(hidden, COUNT);
    collect(GC_MINOR);
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, COUNT) < 10);
}

static __attribute__((noinline)) uintptr_t make_large_old_garbage(void) {
    return hide(gc_alloc_old_array(gc_type_of(root), 10000));
}

static void its_large_garbage_does_so_too(void) {
    need_optimised_code();
    start();
    uintptr_t hidden = make_large_old_garbage();
    clear_stack();
    collect(GC_MINOR);
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(&hidden, 1), 1);
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(&hidden, 1), 0);
}

static void every_size_can_be_allocated_old(void) {
    static const size_t counts[] = {1, 2, 10, 42, 43, 44, 100, 341, 342, 1000, 100000};
    enum { COUNT = sizeof counts / sizeof *counts };
    start();
    const gc_type *leaf =
        gc_type_register(&(gc_type_desc){.name = "leaf", .size = 24, .flags = GC_TYPE_LEAF});
    const gc_type *holder = gc_type_register(
        &(gc_type_desc){.name = "holder", .size = 24, .flags = GC_TYPE_AMBIGUOUS_HOLDER});
    const gc_type *types[] = {gc_type_of(root), leaf, holder};
    for (int t = 0; t < 3; t++) {
        struct node *objects[COUNT];
        for (int i = 0; i < COUNT; i++) {
            objects[i] = gc_alloc_old_array(types[t], counts[i]);
            REQUIRE(objects[i] != NULL && all_bytes(objects[i], 0, gc_size(objects[i])));
            REQUIRE(gc_size(objects[i]) >= counts[i] * 24);
            if (t != 1) objects[i][counts[i] - 1].next = gc_new(struct node);
        }
        REQUIRE_EQUAL(gc_verify(), 0);
        for (int round = 0; round < 3; round++) {
            REQUIRE_EQUAL(gc_collect(round == 1 ? GC_FULL : GC_MINOR), 0);
            REQUIRE_EQUAL(gc_verify(), 0);
            for (int i = 0; t != 1 && i < COUNT; i++)
                REQUIRE(gc_type_of(objects[i][counts[i] - 1].next) == gc_type_of(root));
        }
        for (int i = 0; i < COUNT; i++) gc_free(objects[i]);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

static void an_old_array_too_large_is_refused(void) {
    start();
    errno = 0;
    REQUIRE(gc_alloc_old_array(gc_type_of(root), SIZE_MAX / 8) == NULL && errno == ENOMEM);
}

static void it_can_be_freed_and_resized(void) {
    start();
    struct node *p = gc_alloc_old(gc_type_of(root));
    p->number = 5;
    p = gc_realloc(p, 10 * sizeof *p);
    REQUIRE(p != NULL && p->number == 5);
    gc_free(p);
    REQUIRE_EQUAL(gc_verify(), 0);
    p = gc_alloc_old(gc_type_of(root));
    gc_free(p);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* Pretenuring alone must lead to full collections, and not to minor ones. */
static void allocating_old_alone_is_collected(void) {
    start();
    for (unsigned i = 0; i < 20 * 1000 * 1000; i++) {
        struct node *p = gc_alloc_old(gc_type_of(root));
        REQUIRE(p != NULL);
        p->number = i;
        if (i % 1000 == 0) root->other = NULL;
        p->next = root->other;
        root->other = p;
    }
    gc_stats stats = statistics();
    printf("%llu MB allocated old, %llu MB in use, %llu minor and %llu full collections\n",
        (unsigned long long)stats.tenured_bytes >> 20, (unsigned long long)stats.heap_bytes >> 20,
        (unsigned long long)stats.minor.count, (unsigned long long)stats.full.count);
    REQUIRE_EQUAL(stats.tenured_bytes, 20 * 1000 * 1000 * (uint64_t)32);
    REQUIRE(stats.full.count > 5 && stats.full.count < 100 && stats.minor.count < 5);
    REQUIRE(stats.heap_bytes < 100 << 20);
}

/* ---- How much of a type survives ------------------------------------------------------------ */

struct brief {
    struct brief *next;
};
GC_TYPE(struct brief, next);

static const gc_type *brief_type;

static gc_type_stats stats_of(const gc_type *type) {
    gc_type_stats stats = {.size = sizeof stats};
    REQUIRE_EQUAL(gc_type_get_stats(type, &stats), 0);
    return stats;
}

static __attribute__((noinline)) void add_kept_and_brief(unsigned kept, unsigned brief) {
    for (unsigned i = 0; i < kept; i++) {
        struct node *p = gc_new(struct node);
        p->next = root->next;
        root->next = p;
    }
    struct brief *p = gc_new(struct brief);
    brief_type = gc_type_of(p);
    for (unsigned i = 1; i < brief; i++) gc_new(struct brief);
}

static void survivors_are_counted_by_type(void) {
    need_optimised_code();
    start();
    collect(GC_FULL); /* the root is no survivor of what is counted */
    add_kept_and_brief(1000, 3000);
    clear_stack();
    collect(GC_MINOR);
    gc_type_stats node = stats_of(gc_type_of(root)), brief = stats_of(brief_type);
    REQUIRE_EQUAL(node.collections, 1);
    REQUIRE_EQUAL(node.allocated_objects, 1000);
    REQUIRE_EQUAL(node.allocated_bytes, 32000);
    REQUIRE_EQUAL(node.survived_objects, 1000);
    REQUIRE_EQUAL(node.survived_bytes, 32000);
    REQUIRE_EQUAL(brief.allocated_objects, 3000);
    REQUIRE_EQUAL(brief.allocated_bytes, 48000);
    REQUIRE(brief.survived_objects < 10);
    for (int i = 0; i < 4; i++) { /* into the holes beside old ones, which don't count again */
        add_kept_and_brief(1000, 3000);
        gc_alloc_old(gc_type_of(root));
        clear_stack();
        collect(GC_MINOR);
    }
    node = stats_of(gc_type_of(root)), brief = stats_of(brief_type);
    REQUIRE_EQUAL(node.collections, 5);
    REQUIRE_EQUAL(node.allocated_objects, 5000);
    REQUIRE_EQUAL(node.survived_objects, 5000);
    REQUIRE_EQUAL(node.survived_bytes, 160000);
    REQUIRE_EQUAL(brief.allocated_objects, 15000);
    REQUIRE(brief.survived_objects < 50);
}

static void arrays_of_all_sizes_are_counted(void) {
    static const size_t counts[] = {10, 100, 1000};
    void *arrays[3];
    start();
    collect(GC_FULL);
    for (int i = 0; i < 3; i++) arrays[i] = gc_alloc_array(gc_type_of(root), counts[i]);
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    size_t bytes = gc_size(arrays[0]) + gc_size(arrays[1]) + gc_size(arrays[2]);
    gc_type_stats stats = stats_of(gc_type_of(root));
    REQUIRE_EQUAL(stats.allocated_objects, 3);
    REQUIRE_EQUAL(stats.allocated_bytes, bytes);
    REQUIRE_EQUAL(stats.survived_objects, 3);
    REQUIRE_EQUAL(stats.survived_bytes, bytes);
}

static void one_collection_of_n_counts(void) {
    start();
    for (int i = 0; i < 21; i++) {
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    }
    const char *text = getenv("CAIRN_TYPE_STATS");
    REQUIRE(text != NULL);
    uint64_t every = (uint64_t)atoi(text);
    REQUIRE_EQUAL(stats_of(gc_type_of(root)).collections, every == 0 ? 0 : 20 / every + 1);
}

static void objects_without_a_type_are_not_counted(void) {
    const gc_type *leaf =
        gc_type_register(&(gc_type_desc){.name = "leaf", .size = 24, .flags = GC_TYPE_LEAF});
    gc_type_stats stats = {.size = sizeof stats};
    REQUIRE_EQUAL(gc_type_get_stats(leaf, &stats), ENOTSUP);
    start();
    stats.size = 4;
    REQUIRE_EQUAL(gc_type_get_stats(gc_type_of(root), &stats), EINVAL);
}

/* ---- Threads and fork ----------------------------------------------------------------------- */

static int stop;

static void *build_lists(void *number) {
    const gc_type *type = gc_type_of(root);
    uint64_t base = (uintptr_t)number << 32;
    for (uint64_t round = 0; round < 100 && look_at(&stop) == 0; round++) {
        struct node *list = NULL;
        for (uint64_t i = 0; i < 3000; i++) {
            struct node *p = i % 3 == 0 ? gc_new(struct node) : gc_alloc_old(type);
            p->number = base + i;
            p->next = list;
            list = p;
        }
        uint64_t i = 3000;
        for (struct node *p = list; p != NULL; p = p->next) REQUIRE(p->number == base + --i);
        REQUIRE(i == 0);
        struct node *gone = list->next; /* freed by hand, while others allocate */
        list->next = NULL;
        for (int k = 0; k < 100; k++) {
            struct node *next = gone->next;
            gc_free(gone);
            gone = next;
        }
    }
    return NULL;
}

static void threads_allocate_old(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    start();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(build_lists, (void *)i);
    for (int i = 0; i < 30; i++) {
        REQUIRE_EQUAL(gc_collect(i % 4 == 3 ? GC_FULL : GC_MINOR), 0);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* A child in which F must go on, COUNT times. */
static void fork_times(unsigned count, void (*f)(void)) {
    for (unsigned i = 0; i < count; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            alarm(CHILD_SECONDS);
            REQUIRE_EQUAL(gc_verify(), 0);
            f();
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
        REQUIRE_EQUAL(status, 0);
    }
}

static void build_in_the_child(void) {
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    build_lists((void *)9);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_child_of_a_thread_that_allocates_old_is_whole(void) {
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    start();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(build_lists, (void *)i);
    fork_times(60, build_in_the_child);
    raise_flag(&stop, 1);
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
}

static void *allocate_old_only(void *unused) {
    const gc_type *type = gc_type_of(root);
    while (look_at(&stop) == 0) gc_alloc_old(type);
    return unused;
}

static void do_nothing(void) {}

/* Wherever the others are in it. */
static void a_child_made_amid_allocations_is_whole(void) {
    enum { THREADS = 2 };
    pthread_t threads[THREADS];
    start();
    for (int i = 0; i < THREADS; i++) threads[i] = start_thread(allocate_old_only, NULL);
    fork_times(300, do_nothing);
    raise_flag(&stop, 1);
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
}

/* ---- The model ------------------------------------------------------------------------------ */

static void random_objects_are_allocated_old(void) {
    struct typed_plan plan = typed_model_usual_plan(model_seed());
    plan.ambiguous_one_in = 100;
    plan.old_one_in = 4;
    struct typed_result result;
    typed_model_run(&plan, &result);
    typed_model_print(&result);
    REQUIRE(!are_many() || (result.moved > 0 && statistics().tenured_bytes > 0));
}

/* ---- All of them ---------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(what_is_allocated_old_never_moves),
        CHILD_TEST(it_keeps_young_objects_alive),
        CHILD_TEST(it_keeps_young_objects_alive, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(it_keeps_young_objects_alive, "CAIRN_BARRIER=none"),
        CHILD_TEST(its_garbage_lives_until_a_full_collection),
        CHILD_TEST(its_large_garbage_does_so_too),
        CHILD_TEST(every_size_can_be_allocated_old, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(every_size_can_be_allocated_old, "CAIRN_STRESS=1", "CAIRN_VERIFY=1"),
        CHILD_TEST(an_old_array_too_large_is_refused),
        CHILD_TEST(it_can_be_freed_and_resized),
        CHILD_TEST(allocating_old_alone_is_collected),
        CHILD_TEST(survivors_are_counted_by_type, "CAIRN_TYPE_STATS=1"),
        CHILD_TEST(survivors_are_counted_by_type, "CAIRN_TYPE_STATS=1", "CAIRN_POISON=1"),
        CHILD_TEST(survivors_are_counted_by_type, "CAIRN_TYPE_STATS=1", "CAIRN_PROTECT_MOVED=3"),
        CHILD_TEST(arrays_of_all_sizes_are_counted, "CAIRN_TYPE_STATS=1"),
        CHILD_TEST(one_collection_of_n_counts, "CAIRN_TYPE_STATS=0"),
        CHILD_TEST(one_collection_of_n_counts, "CAIRN_TYPE_STATS=1"),
        CHILD_TEST(one_collection_of_n_counts, "CAIRN_TYPE_STATS=7"),
        CHILD_TEST(objects_without_a_type_are_not_counted),
        CHILD_TEST(threads_allocate_old),
        CHILD_TEST(threads_allocate_old, "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_NURSERY=256K"),
        CHILD_TEST(a_child_of_a_thread_that_allocates_old_is_whole),
        CHILD_TEST(a_child_made_amid_allocations_is_whole),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_NURSERY=256K"),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_STRESS=61"),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_BARRIER=none"),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_BARRIER=uffd"),
        CHILD_TEST(random_objects_are_allocated_old, "CAIRN_BARRIER=cross"),
    };
    return cmocka_run_group_tests_name("pretenure", tests, NULL, NULL);
}
