/* Threads: those the library starts, those it is told of, their stacks, and what they wait for. */
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "gc_mark.h"
#define GC_SUSPEND_THREAD_ID pthread_t
#include "javaxfc.h"

#define THREADS 4

struct node {
    struct node *next;
    long number;
};

static void nap(void) {
    const struct timespec t = {0, 200000};
    nanosleep(&t, NULL);
}

static void *build_lists(void *p) {
    for (long rounds = (long)(intptr_t)p; rounds > 0; rounds--) check_list(2000);
    return p;
}

static void threads_allocate_side_by_side(void) {
    GC_INIT();
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        REQUIRE_EQUAL(GC_pthread_create(&threads[t], NULL, build_lists, (void *)60), 0);
    for (int i = 0; i < 10; i++) {
        GC_gcollect();
        nap();
    }
    for (int t = 0; t < THREADS; t++) {
        void *result = NULL;
        REQUIRE_EQUAL(GC_pthread_join(threads[t], &result), 0);
        REQUIRE(result == (void *)60);
    }
}

static void *give(void *p) {
    (void)p;
    struct node *n = GC_malloc(sizeof *n);
    n->number = 99;
    return n;
}

static void a_result_waits_for_the_join(void) {
    GC_INIT();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, give, NULL), 0);
    nap();
    for (int i = 0; i < 5; i++) {
        GC_gcollect();
        for (int k = 0; k < 1000; k++) memset(GC_malloc(16), 1, 16);
        nap();
    }
    void *result = NULL;
    REQUIRE_EQUAL(GC_pthread_join(thread, &result), 0);
    REQUIRE_EQUAL(((struct node *)result)->number, 99);
}

static int ended;
static void *end_early(void *p) {
    GC_malloc(100);
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    void (*leave)(void *) = need_function("GC_pthread_exit");
    leave(p);
    return NULL;
}

static void threads_may_exit_and_be_detached(void) {
    GC_INIT();
    pthread_t thread;
    void *result = NULL;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, end_early, (void *)5), 0);
    REQUIRE_EQUAL(GC_pthread_join(thread, &result), 0);
    REQUIRE(result == (void *)5);
    for (int i = 0; i < 50; i++) {
        REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, end_early, NULL), 0);
        REQUIRE_EQUAL(GC_pthread_detach(thread), 0);
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    REQUIRE_EQUAL(GC_pthread_create(&thread, &attributes, end_early, NULL), 0);
    while (__atomic_load_n(&ended, __ATOMIC_SEQ_CST) < 52) nap();
    GC_gcollect();
}

static void *wait_for_cancel(void *p) {
    void *volatile object = GC_malloc(50);
    __atomic_store_n((int *)p, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        pthread_testcancel();
        nap();
    }
    return object;
}

static void threads_may_be_cancelled(void) {
    GC_INIT();
    int (*cancel)(pthread_t) = (int (*)(pthread_t))need_function("GC_pthread_cancel");
    pthread_t thread;
    static int running;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, wait_for_cancel, &running), 0);
    while (!__atomic_load_n(&running, __ATOMIC_SEQ_CST)) nap();
    GC_gcollect();
    REQUIRE_EQUAL(cancel(thread), 0);
    void *result = NULL;
    REQUIRE_EQUAL(GC_pthread_join(thread, &result), 0);
    REQUIRE(result == PTHREAD_CANCELED);
    GC_gcollect();
}

static void signals_are_masked_but_those_that_stop_threads(void) {
    GC_INIT();
    sigset_t all, old;
    sigfillset(&all);
    REQUIRE_EQUAL(GC_pthread_sigmask(SIG_SETMASK, &all, &old), 0);
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    REQUIRE(sigismember(&now, SIGUSR1) && sigismember(&now, SIGTERM));
    pthread_t thread; /* which inherits the mask */
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, build_lists, (void *)20), 0);
    for (int i = 0; i < 5; i++) {
        GC_gcollect();
        nap();
    }
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
}

/* A thread of the program's own, which says so to the library. */
static void *with_base(struct GC_stack_base *base, void *p) {
    REQUIRE(base->mem_base > (void *)&base || base->mem_base != NULL);
    REQUIRE(!GC_thread_is_registered());
    REQUIRE_EQUAL(GC_register_my_thread(base), GC_SUCCESS);
    REQUIRE(GC_thread_is_registered());
    REQUIRE_EQUAL(GC_register_my_thread(base), GC_DUPLICATE);
    build_lists(p);
    REQUIRE_EQUAL(GC_unregister_my_thread(), GC_SUCCESS);
    REQUIRE(!GC_thread_is_registered());
    return (void *)1;
}

static void *own_thread(void *p) {
    return GC_call_with_stack_base(with_base, p);
}

static void *own_thread_by_base(void *p) {
    struct GC_stack_base base;
    REQUIRE_EQUAL(GC_get_stack_base(&base), GC_SUCCESS);
    return with_base(&base, p);
}

static void threads_may_register_themselves(void) {
    GC_INIT();
    GC_allow_register_threads();
    REQUIRE(GC_thread_is_registered());
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        REQUIRE_EQUAL(
            pthread_create(&threads[t], NULL, t % 2 ? own_thread : own_thread_by_base, (void *)30),
            0);
    for (int i = 0; i < 10; i++) {
        GC_gcollect();
        nap();
    }
    for (int t = 0; t < THREADS; t++) {
        void *result = NULL;
        pthread_join(threads[t], &result);
        REQUIRE(result == (void *)1);
    }
}

static void *many_times(void *p) {
    for (int i = 0; i < 200; i++) {
        struct GC_stack_base base;
        GC_get_stack_base(&base);
        REQUIRE_EQUAL(GC_register_my_thread(&base), GC_SUCCESS);
        GC_malloc(100);
        REQUIRE_EQUAL(GC_unregister_my_thread(), GC_SUCCESS);
    }
    return p;
}

static void a_thread_may_register_again(void) {
    GC_INIT();
    GC_allow_register_threads();
    pthread_t thread;
    REQUIRE_EQUAL(pthread_create(&thread, NULL, many_times, NULL), 0);
    for (int i = 0; i < 5; i++) {
        GC_gcollect();
        nap();
    }
    pthread_join(thread, NULL);
}

static int stage;
static void wait_for_stage(int s) {
    while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < s) nap();
}
static void go_to_stage(int s) {
    __atomic_store_n(&stage, s, __ATOMIC_SEQ_CST);
}

struct blocked {
    struct node *list;
    struct watched *watched;
};

static void *active_again(void *p) {
    struct blocked *b = p;
    struct node *n = GC_malloc(sizeof *n); /* held by this frame only */
    watch(b->watched, n);
    go_to_stage(3);
    wait_for_stage(4);
    REQUIRE_EQUAL(n->number, 0);
    GC_reachable_here(n);
    return (void *)21;
}

static void *while_blocked(void *p) {
    go_to_stage(1);
    wait_for_stage(2);
    REQUIRE(GC_call_with_gc_active(active_again, p) == (void *)21);
    go_to_stage(5);
    wait_for_stage(6);
    return (void *)42;
}

static __attribute__((noinline)) void *block(void *p) {
    struct blocked b = {NULL, p};
    for (int i = 0; i < 100; i++) {
        struct node *n = GC_malloc(sizeof *n);
        n->next = b.list;
        n->number = i;
        b.list = n;
        GC_end_stubborn_change(n);
        watch(b.watched, n);
    }
    REQUIRE(GC_do_blocking(while_blocked, &b) == (void *)42);
    long i = 100;
    for (struct node *n = b.list; n != NULL; n = n->next) REQUIRE_EQUAL(n->number, --i);
    return NULL;
}

static void a_blocked_thread_is_not_waited_for_and_keeps_its_frames(void) {
    GC_INIT();
    struct watched *w = new_watched();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, block, w), 0);
    wait_for_stage(1);
    collect_all();
    REQUIRE_EQUAL(alive(w), 100);
    go_to_stage(2);
    wait_for_stage(3);
    collect_all();
    REQUIRE_EQUAL(alive(w), 101);
    go_to_stage(4);
    wait_for_stage(5);
    collect_all();
    REQUIRE(alive(w) >= 100);
    go_to_stage(6);
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
}

static void *sum_up(void *p) {
    return (char *)p + 1;
}

static void blocking_calls_work_without_threads(void) {
    GC_INIT();
    REQUIRE(GC_do_blocking(sum_up, (void *)4) == (void *)5);
    REQUIRE(GC_call_with_gc_active(sum_up, (void *)7) == (void *)8);
}

static void *sum_again(void *p) {
    return (char *)GC_call_with_gc_active(sum_up, (char *)p + 1) + 10;
}

static void *sum_blocking(void *p) {
    GC_gcollect();
    return (char *)GC_do_blocking(sum_again, (char *)p + 1) + 100;
}

static void *sum_active(void *p) {
    return (char *)GC_call_with_gc_active(sum_blocking, p) + 1000;
}

static void blocking_calls_nest(void) {
    GC_INIT();
    for (int i = 0; i < 3; i++) {
        REQUIRE(GC_do_blocking(sum_active, NULL) == (void *)1113);
        GC_gcollect();
        REQUIRE(GC_malloc(100) != NULL);
    }
}

/* A blocking thread's roots are what it had when it began to block, also when it takes the lock
 * later, on another stack: that of a signal handler. */
static void *do_nothing(void *p) {
    return p;
}

static void lock_on_signal(int s) {
    (void)s;
    int here;
    REQUIRE(GC_call_with_alloc_lock(do_nothing, &here) == &here);
}

static void *lock_on_other_stack(void *p) {
    const stack_t s = {.ss_sp = p, .ss_size = 65536};
    REQUIRE_EQUAL(sigaltstack(&s, NULL), 0);
    REQUIRE_EQUAL(pthread_kill(pthread_self(), SIGUSR2), 0);
    go_to_stage(1);
    wait_for_stage(2);
    return p;
}

static void *block_and_lock(void *p) {
    struct node *list = NULL;
    for (long i = 0; i < 100; i++) {
        struct node *n = GC_malloc(sizeof *n);
        n->next = list;
        n->number = i;
        GC_end_stubborn_change(n);
        watch(p, list = n);
    }
    void *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stack != MAP_FAILED);
    REQUIRE(GC_do_blocking(lock_on_other_stack, stack) == stack);
    long i = 100;
    for (struct node *n = list; n != NULL; n = n->next) REQUIRE_EQUAL(n->number, --i);
    return NULL;
}

static void a_blocked_thread_may_take_the_lock(void) {
    GC_INIT();
    const struct sigaction action = {.sa_handler = lock_on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    struct watched *w = new_watched();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, block_and_lock, w), 0);
    wait_for_stage(1);
    collect_all();
    REQUIRE_EQUAL(alive(w), 100);
    go_to_stage(2);
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
}

static volatile long counter;
static volatile bool stop_counting;

static void *count(void *p) {
    void *volatile object = GC_malloc(10);
    while (!stop_counting) {
        counter++;
        sched_yield();
    }
    (void)object;
    return p;
}

static bool counts(void) {
    long before = counter;
    for (int i = 0; i < 20; i++) nap();
    return counter != before;
}

/* In the end, on a busy machine. */
static bool counts_again(void) {
    for (int i = 0; i < 1000; i++)
        if (counts()) return true;
    return false;
}

static void threads_may_be_suspended(void) {
    GC_INIT();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, count, NULL), 0);
    while (counter == 0) nap();
    REQUIRE(!GC_is_thread_suspended(thread));
    GC_suspend_thread(thread);
    REQUIRE(GC_is_thread_suspended(thread));
    nap();
    REQUIRE(!counts());
    GC_gcollect();
    REQUIRE(GC_is_thread_suspended(thread) && !counts());
    GC_resume_thread(thread);
    REQUIRE(!GC_is_thread_suspended(thread));
    REQUIRE(counts_again());
    stop_counting = true;
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
}

static void the_world_may_be_stopped(void) {
    GC_INIT();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, count, NULL), 0);
    while (counter == 0) nap();
    for (int i = 0; i < 3; i++) {
        GC_stop_world_external();
        bool ran = counts();
        GC_start_world_external();
        REQUIRE(!ran);
        REQUIRE(counts_again());
    }
    stop_counting = true;
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
}

static void *locked(void *p) {
    long *value = p;
    long v = *value;
    sched_yield();
    *value = v + 1;
    return p;
}

static long shared_value;

static void *lock_often(void *p) {
    for (int i = 0; i < 1000; i++) REQUIRE(GC_call_with_alloc_lock(locked, p) == p);
    for (int i = 0; i < 1000; i++) {
        GC_alloc_lock();
        locked(p);
        GC_alloc_unlock();
    }
    return NULL;
}

static void the_allocation_lock_excludes(void) {
    GC_INIT();
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        REQUIRE_EQUAL(GC_pthread_create(&threads[t], NULL, lock_often, &shared_value), 0);
    for (int t = 0; t < THREADS; t++) GC_pthread_join(threads[t], NULL);
    REQUIRE_EQUAL(shared_value, THREADS * 2000);
}

/* Coroutines: the stack that runs is made known by GC_set_stackbottom() or by GC_stackbottom, the
 * one that waits is pushed. */
#define STACK_BYTES 65536

static ucontext_t main_context, side_context;
static char *side_stack;
static void *thread_handle;
static struct GC_stack_base main_base, side_base;
static bool by_variable, in_side;
static void *volatile waiting_sp;
static GC_push_other_roots_proc next_push;

static void push_waiting(void) {
    if (next_push != NULL) next_push();
    GC_push_all_eager(waiting_sp, in_side ? main_base.mem_base : side_base.mem_base);
}

static void *set_base(void *p) {
    GC_set_stackbottom(thread_handle, p);
    return NULL;
}

static __attribute__((noinline)) void change_to(struct GC_stack_base *base) {
    if (by_variable) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        GC_stackbottom = base->mem_base;
#pragma GCC diagnostic pop
    } else {
        GC_call_with_alloc_lock(set_base, base);
    }
}

/* Collections are off while the stack doesn't fit its base. */
static __attribute__((noinline)) void switch_stacks(ucontext_t *from, ucontext_t *to) {
    __builtin_unwind_init();
    GC_disable();
    waiting_sp = __builtin_frame_address(0);
    waiting_sp = (char *)waiting_sp - 256;
    in_side = !in_side;
    change_to(in_side ? &side_base : &main_base);
    swapcontext(from, to);
    GC_enable();
}

static __attribute__((noinline)) void check_own(ucontext_t *me, ucontext_t *them) {
    struct node *list = NULL;
    for (long r = 0; r < 20; r++) {
        for (long i = 0; i < 50; i++) {
            struct node *n = GC_malloc(sizeof *n);
            n->next = list;
            n->number = 50 * r + i;
            GC_end_stubborn_change(n);
            list = n;
        }
        GC_gcollect();
        for (int i = 0; i < 500; i++) memset(GC_malloc(16), 0x77, 16);
        switch_stacks(me, them);
        long k = 50 * (r + 1);
        for (struct node *n = list; n != NULL; n = n->next) REQUIRE_EQUAL(n->number, --k);
        REQUIRE_EQUAL(k, 0);
    }
}

static void side(void) {
    GC_enable();
    check_own(&side_context, &main_context);
    for (;;) switch_stacks(&side_context, &main_context);
}

static void run_coroutines(void) {
    GC_INIT();
    side_stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(side_stack != MAP_FAILED);
    thread_handle = GC_get_my_stackbottom(&main_base);
    int here;
    REQUIRE((char *)main_base.mem_base > (char *)&here);
    side_base.mem_base = side_stack + STACK_BYTES;
    waiting_sp = side_base.mem_base;
    next_push = GC_get_push_other_roots();
    GC_set_push_other_roots(push_waiting);
    getcontext(&side_context);
    side_context.uc_stack.ss_sp = side_stack;
    side_context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&side_context, side, 0);
    switch_stacks(&main_context, &side_context);
    check_own(&main_context, &side_context);
    GC_set_push_other_roots(next_push);
}

static void coroutines_set_the_stack_bottom(void) {
    run_coroutines();
}

static void coroutines_write_the_stack_bottom(void) {
    by_variable = true;
    run_coroutines();
}

static int suspended, resumed;
static void on_thread(GC_EventType event, void *thread) {
    (void)thread;
    if (event == GC_EVENT_THREAD_SUSPENDED) suspended++;
    if (event == GC_EVENT_THREAD_UNSUSPENDED) resumed++;
}

static void stopping_threads_is_told(void) {
    GC_INIT();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, count, NULL), 0);
    while (counter == 0) nap();
    GC_set_on_thread_event(on_thread);
    REQUIRE(GC_get_on_thread_event() == on_thread);
    GC_gcollect();
    GC_set_on_thread_event(NULL);
    REQUIRE(suspended > 0);
    REQUIRE_EQUAL(suspended, resumed);
    stop_counting = true;
    GC_pthread_join(thread, NULL);
}

static void signals_are_chosen_before_init(void) {
    GC_set_suspend_signal(SIGRTMIN + 5);
    GC_set_thr_restart_signal(SIGRTMIN + 6);
    GC_INIT();
    REQUIRE_EQUAL(GC_get_suspend_signal(), SIGRTMIN + 5);
    REQUIRE_EQUAL(GC_get_thr_restart_signal(), SIGRTMIN + 6);
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, build_lists, (void *)10), 0);
    GC_gcollect();
    GC_pthread_join(thread, NULL);
}

/* A signal handler on an alternate stack holds objects in its frame. (With Boehm's those of the
 * thread's other stack aren't held meanwhile.) The signal is the thread's own, so that the handler
 * may allocate. */
static struct watched *watched_in_handler;

static void on_signal(int s) {
    (void)s;
    struct node *list = NULL;
    for (long i = 0; i < 50; i++) {
        struct node *n = GC_malloc(sizeof *n);
        watch(watched_in_handler, n);
        n->next = list;
        n->number = i;
        list = n;
    }
    go_to_stage(1);
    wait_for_stage(2);
    long i = 50;
    for (struct node *n = list; n != NULL; n = n->next) REQUIRE_EQUAL(n->number, --i);
}

static void collect_on_signal(int s) {
    (void)s;
    struct node *volatile n = GC_malloc(sizeof *n);
    watch(watched_in_handler, n);
    for (int i = 0; i < 3; i++) GC_gcollect();
    check_list(1000);
    REQUIRE_EQUAL(n->number, 0);
    REQUIRE_EQUAL(alive(watched_in_handler), 1);
}

static void *on_alternate_stack(void *p) {
    pthread_attr_t attributes;
    void *stack;
    size_t bytes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &bytes);
    pthread_attr_destroy(&attributes);
    char *alternate =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const stack_t s = {.ss_sp = alternate, .ss_size = STACK_BYTES};
    sigaltstack(&s, NULL);
    GC_register_altstack(stack, bytes, alternate, STACK_BYTES);
    pthread_kill(pthread_self(), SIGUSR2);
    return p;
}

static void a_thread_on_its_alternate_stack_keeps_its_frames(void) {
    GC_INIT();
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    watched_in_handler = new_watched();
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, on_alternate_stack, NULL), 0);
    wait_for_stage(1);
    collect_all();
    size_t n = alive(watched_in_handler);
    go_to_stage(2);
    GC_pthread_join(thread, NULL);
    REQUIRE_EQUAL(n, 50);
}

static void a_handler_on_an_alternate_stack_may_collect(void) {
    GC_INIT();
    const struct sigaction action = {.sa_handler = collect_on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    pthread_t thread;
    watched_in_handler = new_watched();
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, on_alternate_stack, NULL), 0);
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
    watched_in_handler = new_watched();
    on_alternate_stack(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(threads_allocate_side_by_side),
        CHILD_TEST(a_result_waits_for_the_join),
        CHILD_TEST(threads_may_exit_and_be_detached),
        CHILD_TEST(threads_may_be_cancelled),
        CHILD_TEST(signals_are_masked_but_those_that_stop_threads),
        CHILD_TEST(threads_may_register_themselves),
        CHILD_TEST(a_thread_may_register_again),
        CHILD_TEST(a_blocked_thread_is_not_waited_for_and_keeps_its_frames),
        CHILD_TEST(blocking_calls_work_without_threads),
        CHILD_TEST(blocking_calls_nest),
        CHILD_TEST(a_blocked_thread_may_take_the_lock),
        CHILD_TEST(threads_may_be_suspended),
        CHILD_TEST(the_world_may_be_stopped),
        CHILD_TEST(the_allocation_lock_excludes),
        CHILD_TEST(coroutines_set_the_stack_bottom),
        CHILD_TEST(coroutines_write_the_stack_bottom),
        CHILD_TEST(stopping_threads_is_told),
        CHILD_TEST(signals_are_chosen_before_init),
        CHILD_TEST(a_thread_on_its_alternate_stack_keeps_its_frames),
        CHILD_TEST(a_handler_on_an_alternate_stack_may_collect),
    };
    return cmocka_run_group_tests_name("boehm_threads", tests, NULL, NULL);
}
