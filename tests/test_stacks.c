/* Stacks that aren't a thread's own: coroutines by swapcontext(), whose stacks lie in memory from
 * malloc() and are registered.  Each coroutine keeps references on its stack and in registers that
 * calls preserve; everything else that knows of its objects is hidden. */
#if !defined(__clang__) && !defined(GC_SANITIZE)
#pragma GCC optimize("O2", "omit-frame-pointer")
#endif
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include "support.h"
#include "threads_support.h"

enum { COROUTINES = 20, OBJECTS = 5, SIZE = 48, STACK = 128 << 10 };

/* Whether the switch is told to the library: always, never, or by one side only. */
static enum { TOLD, UNTOLD, TOLD_BY_COROUTINES, TOLD_BY_THREADS } telling;

struct coroutine {
    ucontext_t own;
    ucontext_t *back; /* who resumed it */
    char *low;
    gc_stack *stack;
    uintptr_t hidden[OBJECTS];
    unsigned held; /* so many of them are referred to */
    bool over;
};

/* Memory that isn't searched. */
static struct coroutine *coroutines;

/* ---- Switching ------------------------------------------------------------------------------ */

static __attribute__((noinline)) void resume(struct coroutine *c) {
    ucontext_t here;
    c->back = &here;
    if (telling == TOLD || telling == TOLD_BY_THREADS) gc_stack_switch(c->stack);
    swapcontext(&here, &c->own);
}

static __attribute__((noinline)) void give_way(struct coroutine *c) {
    if (telling == TOLD || telling == TOLD_BY_COROUTINES) gc_stack_switch(NULL);
    swapcontext(&c->own, c->back);
}

static __attribute__((noinline)) void *make_object(struct coroutine *c, unsigned i) {
    void *p = gc_alloc(SIZE);
    REQUIRE(p != NULL && all_bytes(p, 0, SIZE));
    fill_object(p, SIZE, i);
    c->hidden[i] = hide(p);
    c->held = i + 1;
    return p;
}

/* A frame for each object. */
static __attribute__((noinline)) void work(struct coroutine *c, unsigned i) {
    void *kept = make_object(c, i);
    for (unsigned n = 0; n < 2; n++) {
        give_way(c);
        REQUIRE(gc_base(kept) == kept && check_object(kept, SIZE, i));
        memset(gc_alloc(SIZE), 1, SIZE);
        if (i + 1 < OBJECTS) work(c, i + 1);
        REQUIRE(gc_base(kept) == kept && check_object(kept, SIZE, i));
    }
    c->held = i;
}

static struct coroutine *starting;

static void begin(void) {
    struct coroutine *c = starting;
    work(c, 0);
    c->over = true;
    give_way(c);
    abort();
}

static void make_coroutine(struct coroutine *c) {
    c->low = malloc(STACK);
    REQUIRE(c->low != NULL);
    memset(c->low, 0, STACK);
    c->stack = gc_stack_register(c->low, STACK);
    REQUIRE(c->stack != NULL);
    REQUIRE_EQUAL(getcontext(&c->own), 0);
    c->own.uc_stack.ss_sp = c->low;
    c->own.uc_stack.ss_size = STACK;
    c->own.uc_link = NULL;
    makecontext(&c->own, begin, 0);
    c->over = false;
    starting = c;
    resume(c);
}

static void end_coroutine(struct coroutine *c) {
    REQUIRE_EQUAL(gc_stack_unregister(c->stack), 0);
    memset(c->low, 0, STACK);
    free(c->low);
}

static void make_coroutines(void) {
    coroutines = calloc(COROUTINES, sizeof *coroutines);
    REQUIRE(coroutines != NULL);
    for (unsigned i = 0; i < COROUTINES; i++) make_coroutine(&coroutines[i]);
}

static bool all_are_whole(void) {
    for (unsigned i = 0; i < COROUTINES; i++)
        if (!are_whole(coroutines[i].hidden, coroutines[i].held, SIZE)) return false;
    return true;
}

static size_t resume_all(uint64_t *state) {
    size_t going = 0;
    for (unsigned i = 0; i < COROUTINES; i++) {
        struct coroutine *c = &coroutines[next_random(state) % COROUTINES];
        if (!c->over) resume(c);
    }
    for (unsigned i = 0; i < COROUTINES; i++) going += !coroutines[i].over;
    return going;
}

/* ---- Suspended coroutines ------------------------------------------------------------------- */

static void references_of_coroutines_hold(void) {
    uint64_t state = 5;
    need_optimised_code();
    gc_alloc(16);
    make_coroutines();
    for (unsigned round = 0; resume_all(&state) > 0; round++) {
        for (unsigned i = 0; i < 200; i++) memset(gc_alloc(SIZE), 2, SIZE);
        if (round % 4 != 0) continue;
        collect(round % 8 == 0 ? GC_FULL : GC_MINOR);
        REQUIRE(all_are_whole());
    }
    for (unsigned i = 0; i < COROUTINES; i++) end_coroutine(&coroutines[i]);
    collect_times(2);
    for (unsigned i = 0; i < COROUTINES; i++)
        REQUIRE(count_alive(coroutines[i].hidden, OBJECTS) == 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void without_telling(void) {
    telling = UNTOLD;
    references_of_coroutines_hold();
}
static void told_by_coroutines_only(void) {
    telling = TOLD_BY_COROUTINES;
    references_of_coroutines_hold();
}
static void told_by_threads_only(void) {
    telling = TOLD_BY_THREADS;
    references_of_coroutines_hold();
}

static void stacks_without_a_coroutine_keep_nothing(void) {
    need_optimised_code();
    gc_alloc(16);
    make_coroutines();
    uint64_t state = 9;
    for (unsigned i = 0; i < 4; i++) resume_all(&state);
    collect(GC_FULL);
    REQUIRE(all_are_whole());
    for (unsigned i = 0; i < COROUTINES; i++)
        REQUIRE_EQUAL(gc_stack_unregister(coroutines[i].stack), 0);
    collect_times(2);
    for (unsigned i = 0; i < COROUTINES; i++)
        REQUIRE_EQUAL(count_alive(coroutines[i].hidden, coroutines[i].held), 0);
}

/* ---- Other threads -------------------------------------------------------------------------- */

static int turn; /* whose it is to resume the coroutines */
enum { THREADS = 3, ALL_DONE = 99 };

static void *resume_in_turn(void *number) {
    int mine = (int)(uintptr_t)number;
    uint64_t state = (uint64_t)mine + 77;
    for (;;) {
        while (look_at(&turn) != mine && look_at(&turn) != ALL_DONE) {
            memset(gc_alloc(SIZE), 3, SIZE);
            sched_yield();
        }
        if (look_at(&turn) == ALL_DONE) return NULL;
        size_t going = resume_all(&state);
        raise_flag(&turn, going > 0 ? (mine + 1) % THREADS : ALL_DONE);
    }
}

static void coroutines_go_from_thread_to_thread(void) {
    pthread_t threads[THREADS];
    need_optimised_code();
    gc_alloc(16);
    make_coroutines();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(resume_in_turn, (void *)i);
    while (look_at(&turn) != ALL_DONE) {
        gc_collect(GC_FULL);
        gc_collect(GC_MINOR);
        nanosleep(&(struct timespec){0, 100000}, NULL); /* or the others would hardly run */
    }
    for (unsigned i = 0; i < THREADS; i++) end_thread(threads[i]);
    for (unsigned i = 0; i < COROUTINES; i++) end_coroutine(&coroutines[i]);
    collect_times(2);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void coroutines_go_from_thread_to_thread_untold(void) {
    telling = UNTOLD;
    coroutines_go_from_thread_to_thread();
}

/* ---- Errors --------------------------------------------------------------------------------- */

static char memory[8 * 4096];
static gc_stack *registered;
static ucontext_t inside_context, outside_context;

static void unregister_here(void) {
    REQUIRE_EQUAL(gc_stack_unregister(registered), EBUSY);
    gc_stack_switch(NULL);
    swapcontext(&inside_context, &outside_context);
}

static void collect_here(void) {
    gc_collect(GC_FULL);
    swapcontext(&inside_context, &outside_context);
}

static void run_on_memory(void (*f)(void), char *low, size_t bytes) {
    getcontext(&inside_context);
    inside_context.uc_stack.ss_sp = low;
    inside_context.uc_stack.ss_size = bytes;
    makecontext(&inside_context, f, 0);
    swapcontext(&outside_context, &inside_context);
}

static void *linger(void *flag) {
    raise_flag(flag, 1);
    wait_for(flag, 2);
    return NULL;
}

static void wrong_stacks_are_refused(void) {
    static int flag;
    REQUIRE(gc_stack_register(NULL, 4096) == NULL);
    REQUIRE_EQUAL(errno, EINVAL);
    REQUIRE(gc_stack_register(memory, 0) == NULL);
    REQUIRE_EQUAL(errno, EINVAL);
    REQUIRE(gc_stack_register(memory, SIZE_MAX) == NULL);
    REQUIRE_EQUAL(errno, EINVAL);
    gc_stack *s = gc_stack_register(memory + 4096, 4096);
    REQUIRE(s != NULL);
    static const size_t overlapping[][2] = {
        {0, 4104}, {4096, 4096}, {4096, 8}, {8184, 4096}, {0, sizeof memory}};
    for (unsigned i = 0; i < sizeof overlapping / sizeof *overlapping; i++) {
        errno = 0;
        REQUIRE(gc_stack_register(memory + overlapping[i][0], overlapping[i][1]) == NULL);
        REQUIRE_EQUAL(errno, EINVAL);
    }
    gc_stack *below = gc_stack_register(memory, 4096);
    gc_stack *above = gc_stack_register(memory + 8192, 4096);
    REQUIRE(below != NULL && above != NULL);
    REQUIRE_EQUAL(gc_stack_unregister(NULL), EINVAL);
    pthread_t thread = start_thread(linger, &flag);
    wait_for(&flag, 1);
    REQUIRE_EQUAL(gc_stack_unregister(NULL), EINVAL);
    raise_flag(&flag, 2);
    end_thread(thread);
    REQUIRE_EQUAL(gc_stack_unregister(s), 0);
    REQUIRE_EQUAL(gc_stack_unregister(below), 0);
    REQUIRE_EQUAL(gc_stack_unregister(above), 0);
    for (unsigned i = 0; i < 1000; i++) {
        s = gc_stack_register(memory, sizeof memory);
        REQUIRE(s != NULL);
        REQUIRE_EQUAL(gc_stack_unregister(s), 0);
    }
}

static void a_stack_in_use_is_busy(void) {
    registered = gc_stack_register(memory, sizeof memory);
    run_on_memory(unregister_here, memory, sizeof memory);
    REQUIRE_EQUAL(gc_stack_unregister(registered), 0);
}

/* Another thread's, which spins there. */
static int on_it;

static void spin_on_it(void) {
    raise_flag(&on_it, 1);
    while (look_at(&on_it) != 2) continue;
    swapcontext(&inside_context, &outside_context);
}

static void *run_on_registered_stack(void *tell) {
    if (tell != NULL) gc_stack_switch(registered);
    run_on_memory(spin_on_it, memory, sizeof memory);
    return NULL;
}

static void check_busy(void *tell) {
    registered = gc_stack_register(memory, sizeof memory);
    pthread_t thread = start_thread(run_on_registered_stack, tell);
    wait_for(&on_it, 1);
    collect_times(3);
    REQUIRE_EQUAL(gc_stack_unregister(registered), EBUSY);
    raise_flag(&on_it, 2);
    end_thread(thread);
    REQUIRE_EQUAL(gc_stack_unregister(registered), 0);
}

static void a_stack_that_another_thread_uses_is_busy(void) {
    check_busy(&on_it);
}

static void a_collection_on_an_unknown_stack(void) {
    run_on_memory(collect_here, malloc(STACK), STACK);
}

static void *run_on_unknown_stack(void *unused) {
    run_on_memory(spin_on_it, malloc(STACK), STACK);
    return unused;
}

static void a_collection_while_another_is_on_an_unknown_stack(void) {
    start_thread(run_on_unknown_stack, NULL);
    wait_for(&on_it, 1);
    gc_collect(GC_FULL);
}

static void switch_here(void) {
    gc_stack_switch(NULL);
}

static void a_switch_from_an_unknown_stack(void) {
    gc_alloc(16);
    run_on_memory(switch_here, malloc(STACK), STACK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(references_of_coroutines_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_of_coroutines_hold, "CAIRN_POISON=1", "CAIRN_STRESS=3"),
        CHILD_TEST(without_telling, "CAIRN_POISON=1"),
        CHILD_TEST(without_telling, "CAIRN_POISON=1", "CAIRN_STRESS=3"),
        CHILD_TEST(told_by_coroutines_only, "CAIRN_POISON=1", "CAIRN_STRESS=5"),
        CHILD_TEST(told_by_threads_only, "CAIRN_POISON=1", "CAIRN_STRESS=5"),
        CHILD_TEST(stacks_without_a_coroutine_keep_nothing),
        CHILD_TEST(coroutines_go_from_thread_to_thread, "CAIRN_POISON=1", "CAIRN_STRESS=50"),
        CHILD_TEST(coroutines_go_from_thread_to_thread_untold, "CAIRN_POISON=1"),
        CHILD_TEST(wrong_stacks_are_refused),
        CHILD_TEST(a_stack_in_use_is_busy),
        CHILD_TEST(a_stack_that_another_thread_uses_is_busy),
        CHILD_ABORT(a_collection_on_an_unknown_stack, "nor registered"),
        CHILD_ABORT(a_collection_while_another_is_on_an_unknown_stack, "nor registered"),
        CHILD_ABORT(a_switch_from_an_unknown_stack, "nor registered"),
    };
    return cmocka_run_group_tests_name("stacks", tests, NULL, NULL);
}
