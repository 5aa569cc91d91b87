/* When and how threads are stopped: blocking sections, safepoints, a stop signal that is blocked,
 * taken away or can't be queued, and what is said of threads that don't come. */
#if !defined(__clang__) && !defined(GC_SANITIZE)
#pragma GCC optimize("O2", "omit-frame-pointer")
#endif
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gc/thread.h"
#include "support.h"
#include "threads_support.h"

enum { OBJECTS = 6, SIZE = 48 };
enum { BEGINS, READY, SHALL_END };

/* For some hundred collections: on a busy machine, while each for which a thread has to be reminded
 * takes a second. */
#define HUNDRED_TAKE 60000000000u

static int stage;
uintptr_t blocking_words[OBJECTS]; /* hidden */

static void block_all_signals(void) {
    sigset_t all;
    sigfillset(&all);
    REQUIRE_EQUAL(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
}

/* ---- Blocking sections ---------------------------------------------------------------------- */

static void *block_with_signals_blocked(void *unused) {
    gc_blocking_begin();
    block_all_signals();
    raise_flag(&stage, READY);
    while (look_at(&stage) != SHALL_END) usleep(1000);
    sigset_t pending;
    REQUIRE_EQUAL(sigpending(&pending), 0);
    REQUIRE_EQUAL(sigismember(&pending, gci_stop_signal()), 0);
    gc_blocking_end();
    return unused;
}

static void no_signal_is_sent_to_a_blocking_thread(void) {
    pthread_t thread = start_thread(block_with_signals_blocked, NULL);
    wait_for(&stage, READY);
    for (unsigned i = 0; i < 200; i++) REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    raise_flag(&stage, SHALL_END);
    end_thread(thread);
}

#if defined(__x86_64__)
/* Holds the words in the registers that calls preserve at the call of gc_blocking_begin(); then
 * nowhere until F has returned; then calls gc_blocking_end(). */
void block_with_registers(void (*f)(void));
__asm__(".text\n"
        "block_with_registers:\n"
        "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n"
        "    pushq %r15\n    pushq %rdi\n"
        "    movq blocking_words(%rip), %rbx\n    movq blocking_words+8(%rip), %rbp\n"
        "    movq blocking_words+16(%rip), %r12\n    movq blocking_words+24(%rip), %r13\n"
        "    movq blocking_words+32(%rip), %r14\n    movq blocking_words+40(%rip), %r15\n"
        "    notq %rbx\n    notq %rbp\n    notq %r12\n    notq %r13\n    notq %r14\n"
        "    notq %r15\n"
        "    call gc_blocking_begin@PLT\n"
        "    xorl %ebx, %ebx\n    xorl %ebp, %ebp\n    xorl %r12d, %r12d\n    xorl %r13d, %r13d\n"
        "    xorl %r14d, %r14d\n    xorl %r15d, %r15d\n"
        "    call *(%rsp)\n"
        "    call gc_blocking_end@PLT\n"
        "    popq %rdi\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n"
        "    popq %rbx\n    ret\n");

static void wait_for_the_end(void) {
    clear_stack();
    raise_flag(&stage, READY);
    while (look_at(&stage) != SHALL_END) usleep(1000);
}

static void *block_in_registers(void *unused) {
    make_hidden(blocking_words, OBJECTS, SIZE);
    block_with_registers(wait_for_the_end);
    return unused;
}
#endif

static __attribute__((noinline)) void block_and_wait(void) {
    void *volatile kept[OBJECTS];
    for (unsigned i = 0; i < OBJECTS; i++) kept[i] = reveal(blocking_words[i]);
    gc_blocking_begin();
    gc_blocking_begin();
    gc_blocking_end();
    raise_flag(&stage, READY);
    while (look_at(&stage) != SHALL_END) usleep(1000);
    gc_blocking_end();
    for (unsigned i = 0; i < OBJECTS; i++) REQUIRE(check_object(kept[i], SIZE, i));
}

static void *block_on_the_stack(void *unused) {
    make_hidden(blocking_words, OBJECTS, SIZE);
    block_and_wait();
    return unused;
}

static void objects_of_a_blocking_thread_live(void *(*f)(void *)) {
    pthread_t thread = start_thread(f, NULL);
    wait_for(&stage, READY);
    for (unsigned i = 0; i < 6; i++) {
        collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
        REQUIRE(are_whole(blocking_words, OBJECTS, SIZE));
        for (unsigned j = 0; j < 2000; j++) memset(gc_alloc(SIZE), 1, SIZE);
    }
    raise_flag(&stage, SHALL_END);
    end_thread(thread);
    collect_times(2);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void references_in_registers_hold_while_blocking(void) {
#if defined(__x86_64__)
    objects_of_a_blocking_thread_live(block_in_registers);
#endif
}

static void references_on_the_stack_hold_while_blocking(void) {
    objects_of_a_blocking_thread_live(block_on_the_stack);
}

/* Counts what it does out of blocking sections. */
static uint64_t steps[3];

static void *block_and_go_on(void *number) {
    uint64_t *count = &steps[(uintptr_t)number];
    while (look_at(&stage) != SHALL_END) {
        gc_blocking_begin();
        gc_blocking_end();
        __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void *allocate_and_go_on(void *number) {
    uint64_t *count = &steps[(uintptr_t)number];
    while (look_at(&stage) != SHALL_END) {
        gc_alloc(16 + __atomic_add_fetch(count, 1, __ATOMIC_RELAXED) % 3000);
    }
    return NULL;
}

static void *poll_and_go_on(void *number) {
    uint64_t *count = &steps[(uintptr_t)number];
    while (look_at(&stage) != SHALL_END) {
        gc_safepoint();
        __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void nothing_moves(void *context) {
    uint64_t before[3];
    (void)context;
    for (unsigned i = 0; i < 3; i++) before[i] = __atomic_load_n(&steps[i], __ATOMIC_ACQUIRE);
    sleep_ms(2);
    for (unsigned i = 0; i < 3; i++)
        REQUIRE_EQUAL(__atomic_load_n(&steps[i], __ATOMIC_ACQUIRE), before[i]);
}

static void nobody_runs_while_the_world_is_stopped(void) {
    pthread_t threads[3] = {start_thread(block_and_go_on, (void *)0),
        start_thread(allocate_and_go_on, (void *)1), start_thread(poll_and_go_on, (void *)2)};
    for (unsigned i = 0; i < 200; i++) {
        with_world_stopped(nothing_moves, NULL);
        uint64_t seen = __atomic_load_n(&steps[i % 3], __ATOMIC_ACQUIRE);
        while (__atomic_load_n(&steps[i % 3], __ATOMIC_ACQUIRE) == seen) {
            gc_safepoint();
            sched_yield();
        }
    }
    raise_flag(&stage, SHALL_END);
    for (unsigned i = 0; i < 3; i++) end_thread(threads[i]);
}

static void an_end_without_a_begin(void) {
    gc_alloc(16);
    gc_blocking_begin();
    gc_blocking_end();
    gc_blocking_end();
}

static void an_allocation_while_blocking(void) {
    for (;;) {
        gc_alloc(1000);
        gc_blocking_begin();
        for (unsigned i = 0; i < 100; i++) gc_alloc(1000);
        gc_blocking_end();
    }
}

static void a_collection_while_blocking(void) {
    gc_alloc(1000);
    gc_blocking_begin();
    gc_collect(GC_FULL);
}

static void strangers_may_block_and_poll(void) {
    gc_blocking_begin();
    gc_blocking_end();
    gc_blocking_end();
    gc_safepoint();
}

static int pipe_ends[2];

static void *read_for_ever(void *unused) {
    char byte;
    gc_alloc(32);
    gc_blocking_begin();
    raise_flag(&stage, READY);
    REQUIRE_EQUAL(read(pipe_ends[0], &byte, 1), 1);
    gc_blocking_end();
    return unused;
}

static void a_thread_cancelled_while_blocking_detaches(void) {
    REQUIRE_EQUAL(pipe(pipe_ends), 0);
    for (unsigned i = 0; i < 50; i++) {
        raise_flag(&stage, BEGINS);
        pthread_t thread = start_thread(read_for_ever, NULL);
        wait_for(&stage, READY);
        gc_collect(GC_MINOR);
        pthread_cancel(thread);
        REQUIRE(end_thread(thread) == PTHREAD_CANCELED);
        REQUIRE_EQUAL(statistics().threads, 1);
    }
}

/* A library's destructor, say, that knows nothing of the read that was cancelled.  It runs after
 * that of the heap's own key. */
static pthread_key_t key;
static int destroyed;

static void allocate_at_the_end(void *p) {
    (void)p;
    for (unsigned i = 0; i < 100; i++) memset(gc_alloc(1000), 1, 1000);
    destroyed++;
}

static void *read_with_a_value(void *p) {
    pthread_setspecific(key, &key);
    return read_for_ever(p);
}

static void destructors_after_a_cancelled_read_may_allocate(void) {
    REQUIRE_EQUAL(pipe(pipe_ends), 0);
    gc_alloc(16); /* so that the library's key comes first */
    REQUIRE_EQUAL(pthread_key_create(&key, allocate_at_the_end), 0);
    pthread_t thread = start_thread(read_with_a_value, NULL);
    wait_for(&stage, READY);
    pthread_cancel(thread);
    REQUIRE(end_thread(thread) == PTHREAD_CANCELED);
    REQUIRE_EQUAL(destroyed, 1);
}

/* ---- Safepoints ----------------------------------------------------------------------------- */

static void *poll_in_a_loop(void *unused) {
    raise_flag(&stage, READY);
    while (look_at(&stage) != SHALL_END) gc_safepoint();
    return unused;
}

static void *allocate_in_a_loop(void *unused) {
    raise_flag(&stage, READY);
    while (look_at(&stage) != SHALL_END) memset(gc_alloc_leaf(100), 1, 100);
    return unused;
}

static void collect_beside(void *(*f)(void *)) {
    raise_flag(&stage, BEGINS);
    pthread_t thread = start_thread(f, NULL);
    wait_for(&stage, READY);
    collect_times(50);
    raise_flag(&stage, SHALL_END);
    end_thread(thread);
}

static void threads_stop_at_safepoints_and_allocations(void) {
    uint64_t start = now_ns();
    collect_beside(poll_in_a_loop);
    collect_beside(allocate_in_a_loop);
    REQUIRE(now_ns() - start < HUNDRED_TAKE);
    struct sigaction action;
    REQUIRE_EQUAL(sigaction(SIGRTMAX - 5, NULL, &action), 0);
    REQUIRE(action.sa_handler == SIG_DFL);
}

/* Threads that don't stop until something is said of them, however long that takes: for so long
 * standard error is a file in memory. */
static int said_there;
static const char *awaited;

static bool is_said(void) {
    char text[4096];
    ssize_t length = pread(said_there, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return strstr(text, awaited) != NULL;
}

static void collect_until_said(const char *text, void *(*f)(void *)) {
    awaited = text;
    int real = dup(STDERR_FILENO);
    said_there = memfd_create("stderr", 0);
    REQUIRE(real >= 0 && said_there >= 0 && dup2(said_there, STDERR_FILENO) >= 0);
    collect_beside(f);
    dup2(real, STDERR_FILENO);
    char all[4096];
    ssize_t length = pread(said_there, all, sizeof all, 0);
    REQUIRE(length > 0 && write(real, all, (size_t)length) == length);
}

static void *come_late(void *unused) {
    raise_flag(&stage, READY);
    while (!is_said()) continue;
    while (look_at(&stage) != SHALL_END) gc_safepoint();
    return unused;
}

static void a_thread_without_safepoints_is_named(void) {
    collect_until_said("in 2 s", come_late);
}

/* ---- The stop signal ------------------------------------------------------------------------ */

static void *block_signals_for_long(void *unused) {
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    block_all_signals();
    come_late(unused); /* its safepoints work as well */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return unused;
}

static void a_thread_that_blocks_the_stop_signal_is_named(void) {
    collect_until_said("in 1 s", block_signals_for_long);
}

static void *block_signals_and_spin(void *unused) {
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    block_all_signals();
    raise_flag(&stage, READY);
    while (!is_said()) continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    while (look_at(&stage) != SHALL_END) continue;
    return unused;
}

static void the_collection_goes_on_once_the_signal_is_unblocked(void) {
    collect_until_said("blocks the stop signal", block_signals_and_spin);
}

static void do_nothing(int number) {
    (void)number;
}

/* The collecting thread is itself interrupted all the time. */
static void a_thread_is_named_though_a_timer_ticks(void) {
    struct sigaction action = {.sa_flags = SA_RESTART};
    action.sa_handler = do_nothing;
    REQUIRE_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    timer_t timer;
    REQUIRE_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    struct itimerspec every = {{0, 100000000}, {0, 100000000}};
    REQUIRE_EQUAL(timer_settime(timer, 0, &every, NULL), 0);
    collect_until_said("in 1 s", block_signals_for_long);
}

static void *spin(void *unused) {
    raise_flag(&stage, READY);
    while (look_at(&stage) != SHALL_END) continue;
    return unused;
}

static void another_stop_signal_works(void) {
    gc_alloc(16);
    REQUIRE_EQUAL(gci_stop_signal(), 12);
    collect_beside(spin);
    struct sigaction action;
    REQUIRE_EQUAL(sigaction(12, NULL, &action), 0);
    REQUIRE(action.sa_handler != SIG_DFL);
}

static int taken;

static void take_signal(int number) {
    (void)number;
    taken++;
}

/* Said once, and no more. */
static void a_stop_signal_that_is_taken_is_taken_back(void) {
    gc_alloc(16);
    struct sigaction action = {.sa_flags = 0};
    action.sa_handler = take_signal;
    uint64_t start = now_ns();
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE_EQUAL(sigaction(gci_stop_signal(), &action, NULL), 0);
        collect_beside(spin);
    }
    REQUIRE_EQUAL(taken, 0);
    REQUIRE(now_ns() - start < HUNDRED_TAKE);
}

static void what_is_said_of_a_stop_signal_is_said_once(void) {
    static const char said[] = "the handler of the stop signal";
    static struct child_result result;
    child_run(&result, a_stop_signal_that_is_taken_is_taken_back, NULL);
    REQUIRE_EQUAL(result.status, 0);
    const char *first = strstr(result.output, said);
    REQUIRE(first != NULL && strstr(first + 1, said) == NULL);
}

/* A real-time signal is refused when too many are queued in the system. */
static void forbid_queued_signals(void) {
    struct rlimit none = {0, 0};
    REQUIRE_EQUAL(setrlimit(RLIMIT_SIGPENDING, &none), 0);
}

static void threads_that_poll_stop_though_no_signal_can_be_queued(void) {
    gc_alloc(16);
    forbid_queued_signals();
    collect_beside(poll_in_a_loop);
    collect_beside(allocate_in_a_loop);
}

static void a_thread_is_named_though_no_signal_can_be_queued(void) {
    gc_alloc(16);
    forbid_queued_signals();
    collect_until_said("in 1 s", come_late);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(no_signal_is_sent_to_a_blocking_thread),
        CHILD_TEST(references_in_registers_hold_while_blocking, "CAIRN_POISON=1"),
        CHILD_TEST(references_on_the_stack_hold_while_blocking, "CAIRN_POISON=1"),
        CHILD_TEST(nobody_runs_while_the_world_is_stopped),
        CHILD_TEST(nobody_runs_while_the_world_is_stopped, "CAIRN_STOP=safepoint"),
        CHILD_ABORT(an_end_without_a_begin,
            "gc_blocking_end(): called more often than gc_blocking_begin()"),
        CHILD_ABORT(an_allocation_while_blocking,
            "a call that may touch the heap between gc_blocking_begin() and _end()"),
        CHILD_ABORT(a_collection_while_blocking,
            "a call that may touch the heap between gc_blocking_begin() and _end()"),
        CHILD_TEST(strangers_may_block_and_poll),
        CHILD_TEST(a_thread_cancelled_while_blocking_detaches),
        CHILD_TEST(a_thread_cancelled_while_blocking_detaches, "CAIRN_STOP=safepoint"),
        CHILD_TEST(destructors_after_a_cancelled_read_may_allocate),
        CHILD_TEST(threads_stop_at_safepoints_and_allocations, "CAIRN_STOP=safepoint"),
        CHILD_SAYS(a_thread_without_safepoints_is_named,
            "has not stopped for a collection in 2 s, state R (running); it is stopped at "
            "safepoints only",
            "CAIRN_STOP=safepoint"),
        CHILD_SAYS(a_thread_that_blocks_the_stop_signal_is_named,
            "has not stopped for a collection in 1 s, state R (running); it blocks the stop "
            "signal"),
        CHILD_SAYS(the_collection_goes_on_once_the_signal_is_unblocked, "blocks the stop signal"),
        CHILD_SAYS(a_thread_is_named_though_a_timer_ticks, "blocks the stop signal"),
        CHILD_TEST(another_stop_signal_works, "CAIRN_STOP_SIGNAL=12"),
        CHILD_SAYS(a_stop_signal_that_is_taken_is_taken_back, "was replaced by another"),
        CHILD_TEST(what_is_said_of_a_stop_signal_is_said_once),
        CHILD_TEST(threads_that_poll_stop_though_no_signal_can_be_queued),
        CHILD_SAYS(a_thread_is_named_though_no_signal_can_be_queued, "has not stopped"),
    };
    return cmocka_run_group_tests_name("blocking", tests, NULL, NULL);
}
