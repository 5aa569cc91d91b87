/* Threads made, joined, detached, ended and cancelled through gc_pthread_create() and its like:
 * arguments and results are roots for as long as they must be and no longer, and the records that
 * hold them come back.  Threads that block all signals, or wait for any, are stopped, and see
 * nothing of it.  Programs that know only the C library's functions run with CAIRN_ATTACH=auto. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "gc/pthreads.h"
#include "support.h"

#define LENGTH 100

/* ---- Lists, and waiting ---------------------------------------------------------------------- */

struct cell {
    struct cell *next;
    size_t number;
};

static struct cell *list(size_t number) {
    struct cell *first = NULL;
    for (size_t i = 0; i < LENGTH; i++) {
        struct cell *cell = gc_alloc(sizeof *cell);
        cell->next = first;
        cell->number = number;
        first = cell;
    }
    return first;
}

static bool is_list(const struct cell *cell, size_t number) {
    for (size_t i = 0; i < LENGTH; i++, cell = cell->next)
        if (cell == NULL || cell->number != number) return false;
    return cell == NULL;
}

static void sleep_ms(unsigned ms) {
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&time, &time) != 0) REQUIRE_EQUAL(errno, EINTR);
}

static unsigned count_tasks(void) {
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks != NULL);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* The collector's own threads count, too. */
static void wait_for_tasks(unsigned count) {
    while (count_tasks() > count) sleep_ms(1);
}

static void wait_until(const int *flag, int value) {
    while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) < value) sched_yield();
}

static void set(int *flag, int value) {
    __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

static size_t records_in_use(void) {
    size_t exist, used;
    gci_pthreads_count(&exist, &used);
    return used;
}

static size_t records(void) {
    size_t exist, used;
    gci_pthreads_count(&exist, &used);
    return exist;
}

static pthread_t create(void *(*start)(void *), void *argument) {
    pthread_t thread;
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, start, argument), 0);
    return thread;
}

static void *join(pthread_t thread) {
    void *result;
    REQUIRE_EQUAL(gc_pthread_join(thread, &result), 0);
    return result;
}

/* As create(), from a frame that is gone and wiped when it returns. */
struct call {
    pthread_t thread;
    void *(*start)(void *);
    size_t number;
};

static void create_with_list(void *p) {
    struct call *call = p;
    call->thread = create(call->start, list(call->number));
}

static void join_list(void *p) {
    const struct call *call = p;
    REQUIRE(is_list(join(call->thread), call->number));
}

static void churn(void) {
    for (size_t i = 0; i < 200; i++) list(i);
}

/* ---- Arguments and results ------------------------------------------------------------------- */

static int began;

static void *check_list(void *argument) {
    const struct cell *first = argument;
    __atomic_fetch_add(&began, 1, __ATOMIC_RELEASE);
    REQUIRE(is_list(first, first->number));
    return NULL;
}

/* All on one CPU, so that a thread begins only when its creator sleeps or its time is up. */
static void an_argument_survives_until_its_thread_runs(void) {
    need_optimised_code();
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(sched_getcpu(), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) child_skip("one CPU can't be had");
    pthread_t threads[100];
    size_t late = 0;
    for (size_t i = 0; i < 100; i++) {
        struct call call = {0, check_list, i};
        int before = __atomic_load_n(&began, __ATOMIC_ACQUIRE);
        call_below(create_with_list, &call);
        gc_collect(GC_MINOR);
        gc_collect(GC_FULL);
        late += __atomic_load_n(&began, __ATOMIC_ACQUIRE) == before;
        call_below((void (*)(void *))churn, NULL);
        threads[i] = call.thread;
    }
    print_message("%zu of 100 threads began after a collection\n", late);
    for (size_t i = 0; i < 100; i++) join(threads[i]);
    REQUIRE_EQUAL(began, 100);
    REQUIRE_EQUAL(records_in_use(), 0);
}

static void *return_list(void *number) {
    return list((size_t)number);
}

static void results_survive(void *(*start)(void *)) {
    pthread_t threads[50];
    gc_init(NULL);
    unsigned tasks = count_tasks();
    for (size_t i = 0; i < 50; i++) threads[i] = create(start, (void *)i);
    wait_for_tasks(tasks);
    for (size_t i = 0; i < 50; i++) {
        collect(i % 10 == 0 ? GC_FULL : GC_MINOR);
        call_below((void (*)(void *))churn, NULL);
        struct call call = {threads[i], NULL, i};
        call_below(join_list, &call);
    }
    REQUIRE_EQUAL(records_in_use(), 0);
    REQUIRE_EQUAL(statistics().threads, 1);
}

static void a_result_survives_until_it_is_joined(void) {
    results_survive(return_list);
}

static int cleaned;

static void clean(void *p) {
    __atomic_fetch_add((int *)p, 1, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) void exit_deep_down(size_t number) {
    pthread_cleanup_push(clean, &cleaned);
    gc_pthread_exit(list(number));
    pthread_cleanup_pop(0);
}

static void *exit_with_list(void *number) {
    exit_deep_down((size_t)number);
    return NULL;
}

static void a_result_of_pthread_exit_survives(void) {
    results_survive(exit_with_list);
    REQUIRE_EQUAL(cleaned, 50);
}

static uintptr_t hidden[200];

static void *return_hidden(void *index) {
    void *result = gc_alloc(64);
    hidden[(size_t)index] = hide(result);
    return result;
}

static void make_and_join(void *unused) {
    (void)unused;
    pthread_t threads[200];
    for (size_t i = 0; i < 200; i++) threads[i] = create(return_hidden, (void *)i);
    for (size_t i = 0; i < 200; i++) join(threads[i]);
}

static void a_result_dies_once_it_is_joined(void) {
    need_optimised_code();
    gc_init(NULL);
    call_below(make_and_join, NULL);
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, 200) <= 5);
}

static pthread_t main_thread;

static void *join_main(void *unused) {
    (void)unused;
    sleep_ms(50);
    collect(GC_FULL);
    churn();
    REQUIRE(is_list(join(main_thread), 4711));
    collect(GC_FULL);
    REQUIRE_EQUAL(records_in_use(), 1); /* this thread's */
    _exit(0);
}

static void the_main_thread_can_be_joined(void) {
    main_thread = pthread_self();
    create(join_main, NULL);
    gc_pthread_exit(list(4711));
}

static void a_heap_is_opened_for_the_first_thread(void) {
    REQUIRE_EQUAL(statistics().threads, 0);
    struct call call = {create(return_list, (void *)7), NULL, 7};
    join_list(&call);
    REQUIRE_EQUAL(statistics().threads, 1);
}

/* ---- Detaching ------------------------------------------------------------------------------- */

static int go;

static void *wait_and_return_hidden(void *index) {
    wait_until(&go, 1);
    return return_hidden(index);
}

static void make_detached(void *unused) {
    (void)unused;
    pthread_t thread;
    pthread_attr_t attributes;
    REQUIRE_EQUAL(pthread_attr_init(&attributes), 0);
    REQUIRE_EQUAL(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED), 0);
    for (size_t i = 0; i < 50; i++) /* by their attribute */
        REQUIRE_EQUAL(gc_pthread_create(&thread, &attributes, return_hidden, (void *)i), 0);
    for (size_t i = 50; i < 100; i++) /* while they run */
        REQUIRE_EQUAL(gc_pthread_detach(create(wait_and_return_hidden, (void *)i)), 0);
    set(&go, 1);
    pthread_attr_destroy(&attributes);
}

static void a_detached_thread_leaves_nothing(void) {
    need_optimised_code();
    gc_init(NULL);
    unsigned tasks = count_tasks();
    call_below(make_detached, NULL);
    wait_for_tasks(tasks);
    REQUIRE_EQUAL(records_in_use(), 0);
    pthread_t threads[100];
    for (size_t i = 0; i < 100; i++) threads[i] = create(return_hidden, (void *)(100 + i));
    wait_for_tasks(tasks);
    REQUIRE_EQUAL(records_in_use(), 100);
    for (size_t i = 0; i < 100; i++) REQUIRE_EQUAL(gc_pthread_detach(threads[i]), 0);
    REQUIRE_EQUAL(records_in_use(), 0);
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, 200) <= 5);
    REQUIRE_EQUAL(statistics().threads, 1);
}

/* ---- Cancelling ------------------------------------------------------------------------------ */

static void *wait_to_be_cancelled(void *unused) {
    pthread_cleanup_push(clean, &cleaned);
    list(1);
    for (;;) pause();
    pthread_cleanup_pop(0);
    return unused;
}

static void a_cancelled_thread_leaves_nothing(void) {
    for (size_t i = 0; i < 200; i++) {
        pthread_t thread = create(wait_to_be_cancelled, NULL);
        if (i % 4 != 0) collect(GC_MINOR);
        if (i % 4 == 2) sleep_ms(1);
        REQUIRE_EQUAL(pthread_cancel(thread), 0);
        if (i % 4 == 3) collect(GC_MINOR);
        REQUIRE(join(thread) == PTHREAD_CANCELED);
    }
    REQUIRE_EQUAL(records_in_use(), 0);
    REQUIRE_EQUAL(statistics().threads, 1);
    REQUIRE(cleaned > 0);
}

static pthread_t wanted;
static int joining;

static void *wait_and_return_list(void *number) {
    wait_until(&go, 1);
    return list((size_t)number);
}

static void *join_wanted(void *unused) {
    set(&joining, 1);
    join(wanted);
    return unused;
}

static void a_thread_that_is_cancelled_while_it_joins_loses_nothing(void) {
    gc_init(NULL);
    unsigned tasks = count_tasks();
    wanted = create(wait_and_return_list, (void *)31);
    pthread_t joiner = create(join_wanted, NULL);
    wait_until(&joining, 1);
    sleep_ms(20);
    REQUIRE_EQUAL(pthread_cancel(joiner), 0);
    REQUIRE(join(joiner) == PTHREAD_CANCELED);
    set(&go, 1);
    wait_for_tasks(tasks);
    collect(GC_FULL);
    churn();
    REQUIRE(is_list(join(wanted), 31));
    REQUIRE_EQUAL(records_in_use(), 0);
}

/* ---- Records come back ----------------------------------------------------------------------- */

static void *allocate_a_little(void *argument) {
    list(1);
    return argument;
}

static void ten_thousand_threads_leave_nothing(void) {
    gc_init(NULL);
    join(create(allocate_a_little, NULL));
    size_t exist = records();
    uint64_t slots = statistics().thread_slots;
    for (size_t i = 0; i < 10000; i++) {
        REQUIRE(join(create(allocate_a_little, (void *)i)) == (void *)i);
        if (i % 1000 == 0) collect(GC_MINOR);
    }
    REQUIRE_EQUAL(records_in_use(), 0);
    REQUIRE_EQUAL(records(), exist);
    REQUIRE_EQUAL(statistics().thread_slots, slots);
    REQUIRE_EQUAL(statistics().threads, 1);
}

static void *make_more(void *unused) {
    for (size_t i = 0; i < 500; i++) {
        struct call call = {create(return_list, (void *)i), NULL, i};
        join_list(&call);
    }
    return unused;
}

static void threads_make_threads_at_the_same_time(void) {
    pthread_t threads[8];
    for (size_t i = 0; i < 8; i++) threads[i] = create(make_more, NULL);
    for (size_t i = 0; i < 20; i++) collect(GC_FULL);
    for (size_t i = 0; i < 8; i++) join(threads[i]);
    REQUIRE_EQUAL(records_in_use(), 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void records_of_threads_joined_by_others_come_back(void) {
    for (size_t i = 0; i < 1000; i++) {
        pthread_t thread = create(allocate_a_little, NULL);
        REQUIRE_EQUAL(pthread_join(thread, NULL), 0);
    }
    REQUIRE(records_in_use() <= 2); /* the C library may keep a name back for a while */
    join(create(allocate_a_little, NULL));
}

static void wrong_calls_are_answered_as_by_the_c_library(void) {
    gc_init(NULL);
    pthread_attr_t attributes;
    pthread_t thread;
    REQUIRE_EQUAL(gc_pthread_join(pthread_self(), NULL), EDEADLK);
    REQUIRE_EQUAL(pthread_attr_init(&attributes), 0);
    REQUIRE_EQUAL(pthread_attr_setstacksize(&attributes, (size_t)1 << 62), 0);
    REQUIRE(gc_pthread_create(&thread, &attributes, return_list, NULL) != 0);
    pthread_attr_destroy(&attributes);
    REQUIRE_EQUAL(records_in_use(), 0);

    go = 0;
    thread = create(wait_and_return_list, (void *)3);
    REQUIRE_EQUAL(gc_pthread_detach(thread), 0);
    REQUIRE_EQUAL(gc_pthread_detach(thread), EINVAL);
    REQUIRE_EQUAL(gc_pthread_join(thread, NULL), EINVAL);
    set(&go, 1);
    while (records_in_use() > 0) sched_yield();
}

/* ---- Signal masks ---------------------------------------------------------------------------- */

static int there;

static sigset_t everything(void) {
    sigset_t all;
    sigfillset(&all);
    return all;
}

static void *spin_with_all_blocked(void *how) {
    const sigset_t all = everything();
    sigset_t old;
    if (how == NULL) {
        REQUIRE_EQUAL(gc_pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
    } else {
        REQUIRE_EQUAL(gc_sigprocmask(SIG_BLOCK, &all, &old), 0);
        REQUIRE_EQUAL(sigismember(&old, SIGUSR1), 0);
    }
    REQUIRE_EQUAL(gc_pthread_sigmask(SIG_BLOCK, NULL, &old), 0);
    REQUIRE_EQUAL(sigismember(&old, SIGUSR1), 1);
    REQUIRE_EQUAL(sigismember(&old, SIGUSR2), 1);
    __atomic_fetch_add(&there, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) == 0) continue;
    return NULL;
}

static void a_thread_that_blocks_all_signals_is_stopped(void) {
    pthread_t a = create(spin_with_all_blocked, NULL), b = create(spin_with_all_blocked, &go);
    wait_until(&there, 2);
    for (size_t i = 0; i < 50; i++) collect(GC_FULL);
    set(&go, 1);
    join(a);
    join(b);
}

static void wrong_masks_are_answered_as_by_the_c_library(void) {
    gc_init(NULL);
    sigset_t all = everything(), old;
    REQUIRE_EQUAL(gc_pthread_sigmask(77, &all, NULL), EINVAL);
    errno = 0;
    REQUIRE_EQUAL(gc_sigprocmask(77, &all, NULL), -1);
    REQUIRE_EQUAL(errno, EINVAL);
    struct timespec wrong = {0, -1}, none = {0, 0};
    REQUIRE_EQUAL(gc_sigtimedwait(&all, NULL, &wrong), -1);
    REQUIRE_EQUAL(errno, EINVAL);
    REQUIRE_EQUAL(gc_sigtimedwait(&all, NULL, &none), -1);
    REQUIRE_EQUAL(errno, EAGAIN);
    REQUIRE_EQUAL(gc_pthread_sigmask(SIG_UNBLOCK, &all, &old), 0);
}

/* ---- Waiting for signals --------------------------------------------------------------------- */

enum way { BY_SIGWAIT, BY_SIGWAITINFO, BY_SIGTIMEDWAIT, WAYS };

static void *wait_for_any(void *way) {
    const sigset_t all = everything();
    const struct timespec minute = {60, 0};
    siginfo_t info;
    int number = 0;
    REQUIRE_EQUAL(gc_pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
    __atomic_fetch_add(&there, 1, __ATOMIC_RELEASE);
    switch ((enum way)(uintptr_t)way) {
    case BY_SIGWAIT:
        REQUIRE_EQUAL(gc_sigwait(&all, &number), 0);
        break;
    case BY_SIGWAITINFO:
        number = gc_sigwaitinfo(&all, &info);
        REQUIRE_EQUAL(info.si_signo, number);
        break;
    default:
        number = gc_sigtimedwait(&all, &info, &minute);
        REQUIRE_EQUAL(info.si_signo, number);
    }
    REQUIRE_EQUAL(number, SIGUSR2);
    return NULL;
}

static void a_thread_that_waits_for_any_signal_is_stopped(void) {
    pthread_t threads[WAYS];
    for (uintptr_t i = 0; i < WAYS; i++) threads[i] = create(wait_for_any, (void *)i);
    wait_until(&there, WAYS);
    for (size_t i = 0; i < 100; i++) collect(GC_MINOR);
    for (size_t i = 0; i < WAYS; i++) {
        REQUIRE_EQUAL(pthread_kill(threads[i], SIGUSR2), 0);
        join(threads[i]);
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *wait_in_vain(void *unused) {
    sigset_t usr;
    const struct timespec time = {0, 300000000};
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    double before = seconds();
    REQUIRE_EQUAL(gc_sigtimedwait(&usr, NULL, &time), -1);
    REQUIRE_EQUAL(errno, EAGAIN);
    double waited = seconds() - before;
    REQUIRE(waited >= 0.299 && waited < 30);
    set(&there, 1);
    return unused;
}

static void collections_dont_change_the_time_of_a_wait(void) {
    pthread_t thread = create(wait_in_vain, NULL);
    while (__atomic_load_n(&there, __ATOMIC_ACQUIRE) == 0) collect(GC_MINOR);
    join(thread);
}

static volatile sig_atomic_t handled;

static void on_signal(int number) {
    (void)number;
    handled++;
}

static void install(int flags, bool all) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    if (all) sigfillset(&action.sa_mask);
    REQUIRE_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
}

/* ---- sigsuspend() ---------------------------------------------------------------------------- */

#define SUSPENSIONS 1000

/* Each return of sigsuspend() comes with one run of the handler: none is missing, which would hang,
 * and none is made up. */
static void *suspend(void *unused) {
    sigset_t usr, mask = everything(), old, now;
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    sigdelset(&mask, SIGUSR1);
    REQUIRE_EQUAL(gc_pthread_sigmask(SIG_BLOCK, &usr, &old), 0);
    sigaddset(&old, SIGUSR1);
    for (int i = 0; i < SUSPENSIONS; i++) {
        set(&there, i + 1);
        REQUIRE_EQUAL(gc_sigsuspend(&mask), -1);
        REQUIRE_EQUAL(errno, EINTR);
        REQUIRE_EQUAL(handled, i + 1);
        gc_alloc(16);
    }
    REQUIRE_EQUAL(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    for (int s = 1; s < 65; s++) REQUIRE_EQUAL(sigismember(&now, s), sigismember(&old, s));
    return unused;
}

static int collected;

static void *wake_up(void *thread) {
    for (int i = 0; i < SUSPENSIONS; i++) {
        wait_until(&there, i + 1);
        wait_until(&collected, i / 10); /* however busy the machine is */
        for (int j = 0; j < i % 50; j++) sched_yield();
        REQUIRE_EQUAL(pthread_kill(*(pthread_t *)thread, SIGUSR1), 0);
    }
    set(&go, 1);
    return NULL;
}

static void suspended_threads_are_woken_by_their_own_signals_only(void) {
    pthread_t sleeper = create(suspend, NULL), waker = create(wake_up, &sleeper);
    for (; __atomic_load_n(&go, __ATOMIC_ACQUIRE) == 0; set(&collected, collected + 1))
        collect(GC_MINOR);
    join(waker);
    join(sleeper);
    print_message("%d collections\n", collected);
}

static void sigsuspend_and_a_plain_handler(void) {
    install(0, false);
    suspended_threads_are_woken_by_their_own_signals_only();
}

static void sigsuspend_and_a_handler_that_blocks_all(void) {
    install(SA_RESTART, true);
    suspended_threads_are_woken_by_their_own_signals_only();
}

static void *suspend_until_cancelled(void *unused) {
    sigset_t mask = everything();
    pthread_cleanup_push(clean, &cleaned);
    set(&there, 1);
    gc_sigsuspend(&mask);
    pthread_cleanup_pop(0);
    return unused;
}

static void a_suspended_thread_can_be_cancelled(void) {
    pthread_t thread = create(suspend_until_cancelled, NULL);
    wait_until(&there, 1);
    for (size_t i = 0; i < 10; i++) collect(GC_MINOR);
    REQUIRE_EQUAL(pthread_cancel(thread), 0);
    REQUIRE(join(thread) == PTHREAD_CANCELED);
    REQUIRE_EQUAL(cleaned, 1);
    REQUIRE_EQUAL(statistics().threads, 1);
}

/* ---- Strangers ------------------------------------------------------------------------------- */

static void *allocate_as_a_stranger(void *unused) {
    gc_alloc(16);
    return unused;
}

static void run_stranger(void) {
    pthread_t thread;
    gc_alloc(16);
    REQUIRE_EQUAL(pthread_create(&thread, NULL, allocate_as_a_stranger, NULL), 0);
    REQUIRE_EQUAL(pthread_join(thread, NULL), 0);
}

static void a_stranger_that_allocates_is_refused(void) {
    run_stranger();
}

static void a_stranger_that_allocates_is_attached(void) {
    run_stranger();
    REQUIRE_EQUAL(statistics().threads, 1);
}

static void *create_and_join_as_a_stranger(void *unused) {
    struct call call = {create(return_list, (void *)5), NULL, 5};
    REQUIRE(join(call.thread) != NULL);
    return unused;
}

static void a_stranger_may_make_threads(void) {
    pthread_t thread;
    gc_alloc(16);
    REQUIRE_EQUAL(pthread_create(&thread, NULL, create_and_join_as_a_stranger, NULL), 0);
    for (size_t i = 0; i < 20; i++) collect(GC_MINOR);
    REQUIRE_EQUAL(pthread_join(thread, NULL), 0);
    REQUIRE_EQUAL(records_in_use(), 0);
}

/* ---- Programs that know nothing -------------------------------------------------------------- */

/* CAIRN_TEST_AUTO and CAIRN_TEST_AUTO_LATE are tests/auto.c, linked with the shared library before
 * and after the C library; CAIRN_TEST_SHARED is that library. */
static void run_program(const char *variable) {
    const char *program = getenv(variable);
    if (program == NULL) child_skip("there is no program to run");
#ifdef GC_SANITIZE
    child_skip("a sanitizer stands in for the same functions");
#endif
    execl(program, program, (char *)NULL);
    child_fail(__FILE__, __LINE__, "%s: %s", program, strerror(errno));
}

static void a_program_that_is_linked(void) {
    run_program("CAIRN_TEST_AUTO");
}

static void a_program_with_the_library_preloaded(void) {
    const char *library = getenv("CAIRN_TEST_SHARED");
    if (library != NULL) setenv("LD_PRELOAD", library, 1);
    run_program("CAIRN_TEST_AUTO_LATE");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(an_argument_survives_until_its_thread_runs, "CAIRN_POISON=1"),
        CHILD_TEST(a_result_survives_until_it_is_joined, "CAIRN_POISON=1"),
        CHILD_TEST(a_result_of_pthread_exit_survives, "CAIRN_POISON=1"),
        CHILD_TEST(a_result_dies_once_it_is_joined),
        CHILD_TEST(the_main_thread_can_be_joined, "CAIRN_POISON=1"),
        CHILD_TEST(a_heap_is_opened_for_the_first_thread),
        CHILD_TEST(a_detached_thread_leaves_nothing),
        CHILD_TEST(a_cancelled_thread_leaves_nothing),
        CHILD_TEST(a_thread_that_is_cancelled_while_it_joins_loses_nothing, "CAIRN_POISON=1"),
        CHILD_TEST(ten_thousand_threads_leave_nothing),
        CHILD_TEST(threads_make_threads_at_the_same_time, "CAIRN_POISON=1"),
        CHILD_TEST(records_of_threads_joined_by_others_come_back),
        CHILD_TEST(wrong_calls_are_answered_as_by_the_c_library),
        CHILD_TEST(a_thread_that_blocks_all_signals_is_stopped),
        CHILD_TEST(wrong_masks_are_answered_as_by_the_c_library),
        CHILD_TEST(a_thread_that_waits_for_any_signal_is_stopped),
        CHILD_TEST(collections_dont_change_the_time_of_a_wait),
        CHILD_TEST(sigsuspend_and_a_plain_handler),
        CHILD_TEST(sigsuspend_and_a_handler_that_blocks_all),
        CHILD_TEST(a_suspended_thread_can_be_cancelled),
        CHILD_ABORT(a_stranger_that_allocates_is_refused, "gc_thread_attach"),
        CHILD_TEST(a_stranger_that_allocates_is_attached, "CAIRN_ATTACH=auto"),
        CHILD_TEST(a_stranger_may_make_threads),
        CHILD_SAYS(a_program_that_is_linked, "auto: all is well", "CAIRN_ATTACH=auto"),
        CHILD_SAYS(a_program_that_is_linked, "auto: all is well", "CAIRN_ATTACH=auto",
            "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_STRESS=1000"),
        CHILD_ABORT(a_program_that_is_linked, "gc_thread_attach"),
        CHILD_SAYS(a_program_with_the_library_preloaded, "auto: all is well", "CAIRN_ATTACH=auto"),
    };
    return cmocka_run_group_tests_name("pthreads", tests, NULL, NULL);
}
