/* Root hooks: what they report holds, ambiguous words keep it in place and slots follow it; they
 * are called for each thread while it is attached; and what a hook may not do ends with a
 * message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "child.h"
#include "support.h"
#include "threads_support.h"

struct node {
    struct node *left, *right;
    uint64_t number;
};
GC_TYPE(struct node, left, right);

static __attribute__((noinline)) void make_at(void **slot, uint64_t number) {
    struct node *node = gc_new(struct node);
    REQUIRE(node != NULL);
    node->number = number;
    *slot = node;
}

static __attribute__((noinline)) uintptr_t hidden_at(void *const *slot) {
    return hide(*slot);
}

/* ---- A value stack -------------------------------------------------------------------------- */

/* Of which the lower half of what is in use counts as slots, the rest as words. */
struct values {
    void **words;
    volatile size_t slots, used;
    volatile unsigned calls[2];
};

static void report_values(gc_visitor *visitor, enum gc_root_pass pass, void *data) {
    struct values *values = data;
    values->calls[pass]++;
    for (size_t i = 0; i < values->slots; i++) gc_visit(visitor, &values->words[i]);
    gc_visit_ambiguous(visitor, values->words + values->slots, values->words + values->used);
}

static void slots_follow_and_ambiguous_words_stay(void) {
    enum { WORDS = 1000 };
    need_optimised_code();
    struct values values = {.words = calloc(WORDS, sizeof(void *)), .slots = 400, .used = 800};
    uintptr_t *before = calloc(WORDS, sizeof *before);
    REQUIRE_EQUAL(gc_add_root_hook(report_values, &values), 0);
    gc_disable();
    for (size_t i = 0; i < WORDS; i++) make_at(&values.words[i], i);
    for (size_t i = 0; i < WORDS; i++) before[i] = hidden_at(&values.words[i]);
    for (size_t i = 500; i < WORDS; i++) /* interior pointers will do */
        values.words[i] = (char *)values.words[i] + i % 24;
    gc_enable();
    collect(GC_MINOR);
    REQUIRE(values.calls[GC_ROOTS_AMBIGUOUS] == 1 && values.calls[GC_ROOTS_PRECISE] >= 1);
    size_t moved = 0;
    for (size_t i = 0; i < 400; i++) {
        REQUIRE_EQUAL(((struct node *)values.words[i])->number, i);
        moved += hidden_at(&values.words[i]) != before[i];
    }
    REQUIRE(moved > 390);
    for (size_t i = 400; i < 800; i++) REQUIRE_EQUAL(((struct node *)reveal(before[i]))->number, i);
    REQUIRE(count_alive(before + 800, 200) < 5);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, &values), 0);
    collect(GC_FULL);
    REQUIRE(values.calls[GC_ROOTS_AMBIGUOUS] == 1);
    REQUIRE(count_alive(before + 400, 400) < 5);
}

/* A value stack that is itself an object: a leaf, of which only what is in use is searched. */
static void ambiguous_words_may_lie_in_the_heap(void) {
    need_optimised_code();
    static struct values values; /* static data: holds the leaf */
    values.words = gc_alloc_leaf(100 * sizeof(void *));
    values.used = 50;
    uintptr_t before[100];
    REQUIRE_EQUAL(gc_add_global_root_hook(report_values, &values), 0);
    for (size_t i = 0; i < 100; i++) {
        make_at(&values.words[i], i);
        before[i] = hidden_at(&values.words[i]);
    }
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(before, 50), 50);
    REQUIRE(count_alive(before + 50, 50) < 3);
    REQUIRE_EQUAL(gc_remove_global_root_hook(report_values, &values), 0);
}

static void hooks_are_called_in_both_kinds_of_collection(void) {
    struct values values = {.words = calloc(4, sizeof(void *)), .slots = 2, .used = 4};
    REQUIRE_EQUAL(gc_add_root_hook(report_values, &values), 0);
    REQUIRE_EQUAL(gc_add_global_root_hook(report_values, &values), 0);
    make_at(&values.words[0], 1);
    make_at(&values.words[3], 2);
    collect(GC_FULL);
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(values.calls[0] == 6 && values.calls[1] >= 6);
    REQUIRE_EQUAL(((struct node *)values.words[0])->number, 1);
    REQUIRE_EQUAL(((struct node *)values.words[3])->number, 2);
    REQUIRE_EQUAL(gc_remove_global_root_hook(report_values, &values), 0);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, &values), 0);
}

/* ---- Threads -------------------------------------------------------------------------------- */

static struct values of_thread;
static int stage;

static void *has_a_hook(void *unused) {
    REQUIRE_EQUAL(gc_add_root_hook(report_values, &of_thread), 0);
    make_at(&of_thread.words[0], 33);
    raise_flag(&stage, 1);
    while (look_at(&stage) != 2) gc_safepoint();
    REQUIRE_EQUAL(((struct node *)of_thread.words[0])->number, 33);
    return unused;
}

static void a_hook_ends_with_its_thread(void) {
    of_thread = (struct values){.words = calloc(1, sizeof(void *)), .slots = 1, .used = 1};
    pthread_t thread = start_thread(has_a_hook, NULL);
    gc_blocking_begin();
    wait_for(&stage, 1);
    gc_blocking_end();
    collect(GC_MINOR);
    REQUIRE_EQUAL(of_thread.calls[0], 1);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, &of_thread), ENOENT); /* not this thread's */
    raise_flag(&stage, 2);
    end_thread(thread);
    collect(GC_MINOR);
    REQUIRE_EQUAL(of_thread.calls[0], 1);
}

static void many_hooks_are_called_in_order_and_removed(void) {
    enum { HOOKS = 1000 };
    static struct values values[HOOKS];
    for (size_t i = 0; i < HOOKS; i++) {
        values[i].words = calloc(1, sizeof(void *));
        values[i].slots = values[i].used = 1;
        REQUIRE_EQUAL(
            (i % 2 ? gc_add_root_hook : gc_add_global_root_hook)(report_values, &values[i]), 0);
        make_at(values[i].words, i);
    }
    collect(GC_MINOR);
    for (size_t i = 0; i < HOOKS; i++) {
        REQUIRE_EQUAL(((struct node *)values[i].words[0])->number, i);
        REQUIRE_EQUAL(values[i].calls[0], 1);
    }
    for (size_t i = 0; i < HOOKS; i += 3)
        REQUIRE_EQUAL(
            (i % 2 ? gc_remove_root_hook : gc_remove_global_root_hook)(report_values, &values[i]),
            0);
    collect(GC_FULL);
    for (size_t i = 0; i < HOOKS; i++) REQUIRE_EQUAL(values[i].calls[0], 1 + (i % 3 != 0));
}

/* ---- A random interpreter ------------------------------------------------------------------- */

/* A value stack of random depth, whose cells refer to one another, beside the numbers that must be
 * found there.  It pushes as an interpreter must that a signal may stop anywhere: first the word,
 * then the top. */
enum { DEPTH = 600 };

struct machine {
    struct values values;
    uint64_t numbers[DEPTH], left_numbers[DEPTH]; /* 0: no left */
    struct bench_random random;
};

static void set_used(struct machine *m, size_t used) {
    __asm__ volatile("" ::: "memory");
    if (used < m->values.slots) m->values.slots = used;
    m->values.used = used;
    __asm__ volatile("" ::: "memory");
}

static __attribute__((noinline)) void push(struct machine *m) {
    size_t top = m->values.used;
    if (top == DEPTH) return;
    struct node *node = NULL, *left = NULL;
    GC_FRAME(node, left);
    node = gc_new(struct node);
    REQUIRE(node != NULL);
    node->number = 1 + bench_random_below(&m->random, 1u << 30);
    m->numbers[top] = node->number;
    m->left_numbers[top] = 0;
    if (top > 0 && bench_random_below(&m->random, 3) > 0) {
        size_t at = bench_random_below(&m->random, top);
        left = m->values.words[at];
        node->left = left;
        m->left_numbers[top] = m->numbers[at];
    }
    m->values.words[top] = node;
    set_used(m, top + 1);
    /* The words below become slots with it. */
    if (m->values.slots + 50 > top && bench_random_below(&m->random, 16) > 0)
        m->values.slots = top + 1;
}

static __attribute__((noinline)) void check(const struct machine *m) {
    for (size_t i = 0; i < m->values.used; i++) {
        const struct node *node = m->values.words[i];
        REQUIRE_EQUAL(node->number, m->numbers[i]);
        REQUIRE_EQUAL(node->left != NULL ? node->left->number : 0, m->left_numbers[i]);
    }
}

static __attribute__((noinline)) void drop(struct machine *m) {
    size_t used = m->values.used, n = bench_random_below(&m->random, used / 2 + 1);
    set_used(m, used - n);
}

/* More of the stack is slots, or less. */
static __attribute__((noinline)) void shift(struct machine *m) {
    size_t used = m->values.used;
    m->values.slots = used - bench_random_below(&m->random, used + 1) % 50;
}

static void *run_machine(void *seed) {
    struct machine *m = calloc(1, sizeof *m);
    m->values.words = calloc(DEPTH, sizeof(void *));
    m->random.state = (uint64_t)(uintptr_t)seed;
    REQUIRE_EQUAL(gc_add_root_hook(report_values, &m->values), 0);
    unsigned steps = getenv("CAIRN_STRESS") != NULL ? 3000 : 60000;
    for (unsigned i = 0; i < steps; i++) {
        switch (bench_random_below(&m->random, 64)) {
        case 0:
            drop(m);
            break;
        case 1:
            shift(m);
            check(m);
            break;
        case 2:
            if (i % 16 == 3) gc_collect(i % 64 == 3 ? GC_FULL : GC_MINOR);
            break;
        default:
            push(m);
            break;
        }
        gc_safepoint();
    }
    check(m);
    return NULL;
}

static void random_machines_keep_their_values(void) {
    run_machine((void *)1);
    if (precise()) REQUIRE(statistics().moved_bytes > 30000);
}

static void machines_of_threads_keep_their_values(void) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) threads[i] = start_thread(run_machine, (void *)(i + 2));
    run_machine((void *)9);
    for (unsigned i = 0; i < 3; i++) end_thread(threads[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- What is wrong -------------------------------------------------------------------------- */

static void what_can_not_be_a_hook_is_refused(void) {
    REQUIRE_EQUAL(gc_add_root_hook(NULL, NULL), EINVAL);
    REQUIRE_EQUAL(gc_add_global_root_hook(NULL, NULL), EINVAL);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, NULL), ENOENT);
    REQUIRE_EQUAL(gc_add_root_hook(report_values, &of_thread), 0);
    REQUIRE_EQUAL(gc_remove_global_root_hook(report_values, &of_thread), ENOENT);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, NULL), ENOENT);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, &of_thread), 0);
    REQUIRE_EQUAL(gc_remove_root_hook(report_values, &of_thread), ENOENT);
}

static void report_slot(gc_visitor *visitor, enum gc_root_pass pass, void *data) {
    (void)pass;
    gc_visit(visitor, data);
}

static void collect_with(gc_root_hook *hook, void *data) {
    REQUIRE_EQUAL(gc_add_global_root_hook(hook, data), 0);
    gc_collect(GC_MINOR);
}

static void a_slot_in_the_heap(void) {
    collect_with(report_slot, gc_new(struct node));
}
static void an_unaligned_slot(void) {
    static void *words[2];
    collect_with(report_slot, (char *)words + 4);
}
static void a_slot_that_is_null(void) {
    collect_with(report_slot, NULL);
}

static void report_backwards(gc_visitor *visitor, enum gc_root_pass pass, void *data) {
    (void)pass;
    gc_visit_ambiguous(visitor, (char *)data + 8, data);
}
static void a_range_that_is_none(void) {
    static void *words[2];
    collect_with(report_backwards, words);
}

static void allocate_here(gc_visitor *visitor, enum gc_root_pass pass, void *data) {
    (void)visitor, (void)pass, (void)data;
    gc_new(struct node);
}
static void a_hook_that_allocates(void) {
    gc_new(struct node);
    collect_with(allocate_here, NULL);
}

static void trace_wrongly(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    (void)bytes, (void)from, (void)to;
    gc_visit_ambiguous(visitor, object, (char *)object + 8);
}
static void a_trace_function_that_reports_words(void) {
    gc_type_desc desc = {.name = "wrong", .size = 24, .trace = trace_wrongly};
    void *volatile p = gc_alloc_typed(gc_type_register(&desc));
    gc_collect(GC_MINOR);
    REQUIRE(p != NULL);
}

static void a_path_begins_at_a_hook(void) {
    need_optimised_code();
    struct values values = {.words = calloc(1, sizeof(void *)), .slots = 1, .used = 1};
    REQUIRE_EQUAL(gc_add_root_hook(report_values, &values), 0);
    make_at(&values.words[0], 1);
    clear_stack();
    collect(GC_MINOR);
    clear_stack();
    REQUIRE_EQUAL(gc_explain(values.words[0]), 0);
}

#define STRICT  "CAIRN_VERIFY=1", "CAIRN_POISON=1"
#define PRECISE "CAIRN_STACK_SCAN=precise"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(slots_follow_and_ambiguous_words_stay, STRICT),
        CHILD_TEST(slots_follow_and_ambiguous_words_stay, STRICT, PRECISE),
        CHILD_TEST(slots_follow_and_ambiguous_words_stay, STRICT, "CAIRN_WORKERS=1"),
        CHILD_TEST(ambiguous_words_may_lie_in_the_heap, STRICT),
        CHILD_TEST(hooks_are_called_in_both_kinds_of_collection, STRICT),
        CHILD_TEST(a_hook_ends_with_its_thread, STRICT),
        CHILD_TEST(many_hooks_are_called_in_order_and_removed, STRICT),
        CHILD_TEST(random_machines_keep_their_values, STRICT),
        CHILD_TEST(random_machines_keep_their_values, STRICT, PRECISE, "CAIRN_NURSERY=64K"),
        CHILD_TEST(random_machines_keep_their_values, STRICT, PRECISE, "CAIRN_STRESS=3"),
        CHILD_TEST(random_machines_keep_their_values, STRICT, PRECISE, "CAIRN_STRESS=3",
            "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(random_machines_keep_their_values, STRICT, PRECISE, "CAIRN_STRESS=3",
            "CAIRN_BARRIER=none"),
        CHILD_TEST(machines_of_threads_keep_their_values, STRICT, "CAIRN_NURSERY=64K"),
        CHILD_TEST(machines_of_threads_keep_their_values, STRICT, "CAIRN_STRESS=17"),
        CHILD_TEST(machines_of_threads_keep_their_values, STRICT, PRECISE, "CAIRN_STRESS=17"),
        CHILD_TEST(machines_of_threads_keep_their_values, STRICT, PRECISE, "CAIRN_STRESS=17",
            "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(what_can_not_be_a_hook_is_refused),
        CHILD_ABORT(a_slot_in_the_heap, "which lies in the heap"),
        CHILD_ABORT(an_unaligned_slot, "expected the address of an aligned word"),
        CHILD_ABORT(a_slot_that_is_null, "expected the address of an aligned word"),
        CHILD_ABORT(a_range_that_is_none, "which is none"),
        CHILD_ABORT(a_hook_that_allocates, "a root hook calls a function"),
        CHILD_ABORT(a_trace_function_that_reports_words, "is for root hooks"),
        CHILD_SAYS(a_path_begins_at_a_hook, "root: root hook"),
    };
    return cmocka_run_group_tests_name("hooks", tests, NULL, NULL);
}
