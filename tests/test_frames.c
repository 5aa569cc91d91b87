/* Shadow-stack frames: variables in a GC_FRAME() hold what they refer to and are changed when it
 * moves, however the block is left; and stack_scan=precise, under which nothing else on a stack
 * holds anything, nor keeps anything in place. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "cairn/embed.h"
#include "child.h"
#include "support.h"
#include "threads_support.h"

struct node {
    struct node *left, *right;
    uint64_t number;
};
GC_TYPE(struct node, left, right);

static struct node *make(uint64_t number) {
    struct node *node = gc_new(struct node);
    REQUIRE(node != NULL);
    node->number = number;
    return node;
}

/* So that what is found afterwards is another address, if the object moved. */
static __attribute__((noinline)) uintptr_t hidden_at(struct node *const *variable) {
    return hide(*variable);
}

/* ---- One frame ------------------------------------------------------------------------------ */

static void variables_in_a_frame_hold_and_follow(void) {
    struct node *a = NULL, *b = NULL, *none = NULL;
    void *outside = &a;
    GC_FRAME(a, b, none, outside);
    a = make(1);
    b = make(2);
    a->left = b;
    uintptr_t was_a = hidden_at(&a), was_b = hidden_at(&b);
    collect(GC_MINOR);
    REQUIRE_EQUAL(a->number, 1);
    REQUIRE_EQUAL(b->number, 2);
    REQUIRE(a->left == b && none == NULL && outside == &a);
    REQUIRE_EQUAL(hidden_at(&a) != was_a && hidden_at(&b) != was_b, precise());
    collect(GC_FULL);
    REQUIRE(a->number == 1 && b->number == 2);
}

/* The last argument of the macro, 16 variables. */
static void sixteen_variables_fit(void) {
    struct node *v[16] = {NULL};
    GC_FRAME(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13],
        v[14], v[15]);
    for (uint64_t i = 0; i < 16; i++) {
        struct node *node = make(i);
        v[i] = node;
    }
    collect(GC_MINOR);
    for (uint64_t i = 0; i < 16; i++) REQUIRE_EQUAL(v[i]->number, i);
}

/* In memory that isn't a root otherwise, under either option. */
static void a_variable_elsewhere_moves(void) {
    struct node **there = malloc(sizeof *there);
    *there = NULL;
    GC_FRAME(*there);
    need_optimised_code();
    *there = make(5);
    uintptr_t was = hidden_at(there);
    collect(GC_MINOR);
    REQUIRE(hidden_at(there) != was && (*there)->number == 5);
    free(there);
}

/* Only where stacks are precise: a variable that is in no frame holds nothing. */
static void a_variable_in_no_frame_holds_nothing(void) {
    enum { OBJECTS = 1000 };
    struct node *plain[OBJECTS];
    uintptr_t *hidden = calloc(OBJECTS, sizeof *hidden);
    for (size_t i = 0; i < OBJECTS; i++) {
        struct node *node = make(i);
        plain[i] = node;
        hidden[i] = hide(node);
    }
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden, OBJECTS), 0);
    __asm__ volatile("" : : "r"(plain) : "memory");
}

/* ---- Leaving -------------------------------------------------------------------------------- */

static __attribute__((noinline)) int leave_somehow(int how) {
    struct node *a = NULL;
    GC_FRAME(a);
    for (int i = 0; i < 3; i++) {
        struct node *b = make((uint64_t)i);
        GC_FRAME(b);
        a = make(7);
        if (how == 0 && i == 1) return i;
        if (how == 1 && i == 1) break;
        if (how == 2 && i == 1) goto out;
        if (how == 3) continue;
        {
            struct node *c = a;
            GC_FRAME(c);
            struct node *d = b;
            GC_FRAME(d);
            a = make(9);
            REQUIRE(c->number == 7 && d->number == (uint64_t)i);
        }
        REQUIRE_EQUAL(b->number, i);
    }
    a = make(8);
out:
    REQUIRE(a->number >= 7);
    return -1;
}

static void a_frame_ends_with_its_block(void) {
    for (int i = 0; i < (int)fewer(1000); i++) {
        leave_somehow(i % 5);
        REQUIRE(gc_frame_top() == NULL);
    }
}

static jmp_buf there;
static volatile bool goes_on = true; /* no compiler shall see that these functions don't return */

static __attribute__((noinline)) void jump(unsigned depth) {
    struct node *a = make(depth);
    GC_FRAME(a);
    if (depth == 0 && goes_on) longjmp(there, 1);
    if (goes_on) jump(depth - 1);
    __asm__ volatile("" : : "r"(a));
}

static void longjmp_and_restore(void) {
    struct node *volatile kept = NULL; /* not changed after setjmp() but by the collector */
    GC_FRAME(kept);
    kept = make(42);
    for (volatile unsigned i = 0; i < fewer(200); i++) {
        gc_frame *top = gc_frame_top();
        if (setjmp(there) == 0) jump(i % 50);
        gc_frame_restore(top);
        clear_stack();
        gc_collect(GC_MINOR);
        REQUIRE_EQUAL(kept->number, 42);
    }
}

/* No frame of this function's: it would be the innermost after its end. */
static void longjmp_without_restore(void) {
    if (setjmp(there) == 0) jump(20);
    gc_collect(GC_MINOR);
}

static __attribute__((noinline)) void exit_from(unsigned depth) {
    struct node *a = make(depth);
    GC_FRAME(a);
    if (depth == 0 && goes_on) gc_pthread_exit(a);
    if (goes_on) exit_from(depth - 1);
    REQUIRE_EQUAL(a->number, depth);
}

static pthread_key_t key;

static void collect_at_the_end(void *unused) {
    (void)unused;
    clear_stack();
    REQUIRE(gc_frame_top() == NULL);
    gc_collect(GC_MINOR);
}

static void *ends_inside(void *unused) {
    pthread_setspecific(key, &key);
    exit_from(30);
    return unused;
}

static void a_thread_may_end_inside(void) {
    pthread_key_create(&key, collect_at_the_end);
    for (int i = 0; i < 20; i++) {
        pthread_t thread = start_thread(ends_inside, NULL);
        struct node *result = end_thread(thread);
        REQUIRE_EQUAL(result->number, 0);
    }
}

/* ---- Attaching ------------------------------------------------------------------------------ */

static void a_frame_may_be_older_than_the_heap(void) {
    struct node *a = NULL;
    GC_FRAME(a);
    REQUIRE_EQUAL(gc_init(NULL), 0);
    a = make(3);
    collect(GC_MINOR);
    REQUIRE_EQUAL(a->number, 3);
    gc_handle *handle = gc_handle_new(a);
    REQUIRE_EQUAL(gc_thread_detach(), 0);
    REQUIRE_EQUAL(gc_thread_attach(), 0);
    REQUIRE(gc_frame_top() != NULL);
    collect(GC_FULL);
    collect(GC_MINOR);
    REQUIRE(a == gc_handle_get(handle) && a->number == 3);
}

/* ---- What the library itself holds ---------------------------------------------------------- */

/* Each argument is the only reference to its object. */
static void arguments_are_held(void) {
    char *text = NULL;
    struct node *node = NULL;
    GC_FRAME(text, node);
    for (unsigned i = 0; i < 2000; i++) {
        char *made = gc_alloc_leaf(40);
        memset(made, 'a' + (int)(i % 26), 39);
        text = gc_strdup(made);
        REQUIRE(text[0] == (char)('a' + i % 26) && strlen(text) == 39);
        text = gc_realloc(text, 4000);
        REQUIRE(text[0] == (char)('a' + i % 26) && strlen(text) == 39);
        node = gc_realloc(make(i), 24 * (10 + i % 90));
        REQUIRE_EQUAL(node->number, i);
        gc_handle *handle = gc_handle_new(make(i + 1));
        REQUIRE_EQUAL(((struct node *)gc_handle_get(handle))->number, i + 1);
        gc_handle_free(handle);
        gc_free(gc_realloc(make(i), 5000));
    }
}

static struct node *take_and_give(struct node *argument) {
    struct node *result = NULL;
    GC_FRAME(argument, result);
    result = make(argument->number + 1);
    result->left = argument;
    gc_collect(GC_MINOR);
    return result;
}

static void *thread_with_argument(void *argument) {
    return take_and_give(argument);
}

static void arguments_and_results_of_threads_are_held(void) {
    for (uint64_t i = 0; i < 30; i++) {
        pthread_t thread = start_thread(thread_with_argument, make(i));
        gc_collect(GC_MINOR);
        struct node *result = end_thread(thread);
        REQUIRE(result->number == i + 1 && result->left->number == i);
    }
}

static __thread struct node *local;
static struct node *global;

static void *use_variables(void *unused) {
    local = make(11);
    make(0); /* or GLOBAL would point just past it, and hold it too */
    global = make(12);
    for (int i = 0; i < 5; i++) {
        collect(i % 2 == 0 ? GC_MINOR : GC_FULL);
        REQUIRE(local->number == 11 && global->number == 12);
    }
    return unused;
}

static void static_and_thread_local_variables_hold(void) {
    use_variables(NULL);
    end_thread(start_thread(use_variables, NULL));
}

/* ---- Blocking ------------------------------------------------------------------------------- */

static int blocking;

static void *blocks_in_a_frame(void *unused) {
    struct node *a = make(21);
    GC_FRAME(a);
    gc_blocking_begin();
    raise_flag(&blocking, 1);
    wait_for(&blocking, 2);
    gc_blocking_end();
    REQUIRE_EQUAL(a->number, 21);
    return unused;
}

static void frames_hold_while_a_thread_blocks(void) {
    pthread_t thread = start_thread(blocks_in_a_frame, NULL);
    gc_blocking_begin();
    wait_for(&blocking, 1);
    gc_blocking_end();
    collect_times(4);
    raise_flag(&blocking, 2);
    gc_blocking_begin();
    pthread_join(thread, NULL);
    gc_blocking_end();
}

/* ---- Coroutines ----------------------------------------------------------------------------- */

enum { COROUTINES = 8, ROUNDS = 40, STACK = 1 << 16 };

static ucontext_t contexts[COROUTINES], outside_context;
static gc_stack *stacks[COROUTINES];
static unsigned running;

static __attribute__((noinline)) void yield(void) {
    gc_stack_switch(NULL);
    swapcontext(&contexts[running], &outside_context);
}

static __attribute__((noinline)) void work(uint64_t number, unsigned depth) {
    struct node *a = make(number), *b = NULL;
    GC_FRAME(a, b);
    b = make(number + 1);
    b->left = a;
    if (depth > 0)
        work(number + 2, depth - 1);
    else
        yield();
    struct node *c = make(number + 3);
    GC_FRAME(c);
    yield();
    REQUIRE(a->number == number && b->left == a && c->number == number + 3);
}

static void coroutine(void) {
    for (unsigned i = 0; i < ROUNDS; i++) work(running * 1000, i % 7);
    gc_stack_switch(NULL);
}

static void frames_of_coroutines_hold(void) {
    struct node *own = make(77);
    GC_FRAME(own);
    for (unsigned i = 0; i < COROUTINES; i++) {
        void *memory = aligned_alloc(4096, STACK);
        stacks[i] = gc_stack_register(memory, STACK);
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = memory;
        contexts[i].uc_stack.ss_size = STACK;
        contexts[i].uc_link = &outside_context;
        makecontext(&contexts[i], coroutine, 0);
    }
    gc_frame *top = gc_frame_top();
    for (unsigned i = 0; i < COROUTINES * 100; i++) {
        running = i % COROUTINES;
        gc_stack_switch(stacks[running]);
        swapcontext(&outside_context, &contexts[running]);
        REQUIRE(gc_frame_top() == top);
        if (i % 5 == 0) gc_collect(GC_MINOR);
        REQUIRE_EQUAL(own->number, 77);
    }
    for (unsigned i = 0; i < COROUTINES; i++) REQUIRE_EQUAL(gc_stack_unregister(stacks[i]), 0);
}

/* ---- Many, at random ------------------------------------------------------------------------ */

/* A tree that is grown, rotated and cut by a recursive program, beside its sum, which the program
 * knows.  All references are in frames. */
struct expected {
    uint64_t sum, count;
};

static void check_tree(const struct node *node, struct expected *found) {
    for (; node != NULL; node = node->right) {
        found->sum += node->number;
        found->count++;
        check_tree(node->left, found);
    }
}

static __attribute__((noinline)) struct node *grow(
    uint64_t *random, unsigned depth, struct expected *expected) {
    struct node *left = NULL, *right = NULL, *node = NULL;
    GC_FRAME(left, right, node);
    if (depth == 0) return NULL;
    uint64_t r = next_random(random);
    if (r % 5 != 0) left = grow(random, depth - 1, expected);
    if (r % 7 < 2) make(r); /* garbage */
    if (r % 6 != 1) right = grow(random, depth - 1, expected);
    node = make(r);
    node->left = left;
    node->right = right;
    if (r % 11 == 3 && right != NULL) { /* a rotation */
        node->right = right->left;
        right->left = node;
        node = right;
    }
    expected->sum += r;
    expected->count++;
    return node;
}

static void *grow_trees(void *seed) {
    uint64_t random = (uint64_t)(uintptr_t)seed * 7919 + 1;
    enum { TREES = 12 };
    struct node *trees[TREES] = {NULL};
    struct expected expected[TREES] = {{0, 0}};
    GC_FRAME(trees[0], trees[1], trees[2], trees[3], trees[4], trees[5], trees[6], trees[7],
        trees[8], trees[9], trees[10], trees[11]);
    unsigned rounds = (unsigned)fewer(getenv("CAIRN_STRESS") != NULL ? 20 : 300);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned at = (unsigned)(next_random(&random) % TREES);
        expected[at] = (struct expected){0, 0};
        struct node *tree = grow(&random, 2 + (unsigned)(next_random(&random) % 9), &expected[at]);
        trees[at] = tree;
        if (i % 16 == 7) gc_collect(i % 64 == 23 ? GC_FULL : GC_MINOR);
        for (unsigned t = 0; t < TREES; t++) {
            struct expected found = {0, 0};
            check_tree(trees[t], &found);
            REQUIRE(found.sum == expected[t].sum && found.count == expected[t].count);
        }
        gc_safepoint();
    }
    return NULL;
}

static void recursive_programs_keep_their_trees(void) {
    grow_trees((void *)1);
    if (precise()) REQUIRE(statistics().moved_bytes > 10000);
}

static void threads_keep_their_trees(void) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) threads[i] = start_thread(grow_trees, (void *)(i + 2));
    grow_trees((void *)5);
    for (unsigned i = 0; i < 3; i++) end_thread(threads[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- When memory is short ------------------------------------------------------------------- */

enum { TEXT_BYTES = 4 << 20 };

static void *volatile ballast[8];
static void *other;

/* Calls that hold arguments of their own. */
static int drop_and_work(size_t size, void *data) {
    (void)data;
    gc_set_oom_handler(NULL, NULL);
    gc_handle_free(gc_handle_new(other));
    REQUIRE(gc_identity_hash(other) != 0);
    gc_free(other);
    other = NULL;
    for (unsigned i = 0; i < 8; i++) ballast[i] = NULL;
    return size > 0;
}

static char *fill_with_text(void) {
    static char *text; /* not on the stack, which would be no root, while the rest is allocated */
    other = gc_alloc_leaf(100);
    text = gc_alloc_leaf(TEXT_BYTES);
    REQUIRE(text != NULL);
    memset(text, 'x', TEXT_BYTES - 1);
    for (unsigned i = 0; i < 8; i++) ballast[i] = gc_alloc_leaf(TEXT_BYTES / 2);
    gc_set_oom_handler(drop_and_work, NULL);
    char *result = text;
    text = NULL;
    return result;
}

static void arguments_outlive_what_the_handler_does(void) {
    const char *copy = gc_strdup(fill_with_text());
    REQUIRE(copy != NULL && other == NULL);
    REQUIRE(all_bytes(copy, 'x', TEXT_BYTES - 1));
    copy = gc_realloc(fill_with_text(), TEXT_BYTES + TEXT_BYTES / 2);
    REQUIRE(copy != NULL && other == NULL);
    REQUIRE(all_bytes(copy, 'x', TEXT_BYTES - 1));
}

/* ---- Names ---------------------------------------------------------------------------------- */

static void a_path_begins_at_a_frame(void) {
    struct node *a = make(1), *b = NULL;
    GC_FRAME(a, b);
    b = make(2);
    a->left = b;
    b = NULL;
    REQUIRE_EQUAL(gc_explain(a->left), 0);
}

#define STRICT  "CAIRN_VERIFY=1", "CAIRN_POISON=1"
#define PRECISE "CAIRN_STACK_SCAN=precise"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(variables_in_a_frame_hold_and_follow, STRICT),
        CHILD_TEST(variables_in_a_frame_hold_and_follow, STRICT, PRECISE),
        CHILD_TEST(sixteen_variables_fit, STRICT, PRECISE, "CAIRN_STRESS=1"),
        CHILD_TEST(a_variable_elsewhere_moves, STRICT),
        CHILD_TEST(a_variable_elsewhere_moves, STRICT, PRECISE),
        CHILD_TEST(a_variable_in_no_frame_holds_nothing, PRECISE),
        CHILD_TEST(a_frame_ends_with_its_block, STRICT),
        CHILD_TEST(a_frame_ends_with_its_block, STRICT, PRECISE, "CAIRN_STRESS=3"),
        CHILD_TEST(longjmp_and_restore, STRICT),
        CHILD_TEST(longjmp_and_restore, STRICT, PRECISE, "CAIRN_STRESS=7"),
        CHILD_ABORT(longjmp_without_restore, "gc_frame_restore() is due"),
        CHILD_ABORT(longjmp_without_restore, "gc_frame_restore() is due", PRECISE),
        CHILD_TEST(a_thread_may_end_inside, STRICT),
        CHILD_TEST(a_thread_may_end_inside, STRICT, PRECISE),
        CHILD_TEST(a_frame_may_be_older_than_the_heap, STRICT),
        CHILD_TEST(a_frame_may_be_older_than_the_heap, STRICT, PRECISE),
        CHILD_TEST(arguments_are_held, STRICT, PRECISE, "CAIRN_STRESS=1"),
        CHILD_TEST(arguments_and_results_of_threads_are_held, STRICT, PRECISE, "CAIRN_STRESS=1"),
        CHILD_TEST(static_and_thread_local_variables_hold, STRICT, PRECISE),
        CHILD_TEST(frames_hold_while_a_thread_blocks, STRICT, PRECISE),
        CHILD_TEST(frames_of_coroutines_hold, STRICT),
        CHILD_TEST(frames_of_coroutines_hold, STRICT, PRECISE),
        CHILD_TEST(frames_of_coroutines_hold, STRICT, PRECISE, "CAIRN_STRESS=2"),
        CHILD_TEST(recursive_programs_keep_their_trees, STRICT),
        CHILD_TEST(recursive_programs_keep_their_trees, STRICT, PRECISE, "CAIRN_NURSERY=64K"),
        CHILD_TEST(recursive_programs_keep_their_trees, STRICT, PRECISE, "CAIRN_STRESS=5"),
        CHILD_TEST(recursive_programs_keep_their_trees, STRICT, PRECISE, "CAIRN_NURSERY=64K",
            "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(recursive_programs_keep_their_trees, STRICT, PRECISE, "CAIRN_NURSERY=64K",
            "CAIRN_BARRIER=none"),
        CHILD_TEST(threads_keep_their_trees, STRICT, "CAIRN_NURSERY=64K"),
        CHILD_TEST(threads_keep_their_trees, STRICT, PRECISE, "CAIRN_NURSERY=64K"),
        CHILD_TEST(threads_keep_their_trees, STRICT, PRECISE, "CAIRN_STRESS=13"),
        CHILD_TEST(
            threads_keep_their_trees, STRICT, PRECISE, "CAIRN_STRESS=13", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(
            arguments_outlive_what_the_handler_does, STRICT, PRECISE, "CAIRN_HEAP_LIMIT=18M"),
        CHILD_SAYS(a_path_begins_at_a_frame, "root: variable in a GC_FRAME", PRECISE),
    };
    return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
