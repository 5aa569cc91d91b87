/* Tests of how the write barrier lives with the rest of a process: the program's own signal
 * handlers, threads, fork, several barriers, lost descriptors, and system calls that are refused
 * when it opens.  See also tests/test_barrier.c. */
#define _GNU_SOURCE
#include "barrier_arena.h"
#include "refuse.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* ---- Signals -------------------------------------------------------------------------------- */

static sigjmp_buf escape;
static void *volatile fault_address;
static volatile sig_atomic_t mask_was_right;
static volatile char *volatile unmapped = (volatile char *)16;

static void on_segv_with_info(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    mask_was_right =
        sigismember(&now, SIGSEGV) && sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2);
    fault_address = info->si_addr;
    siglongjmp(escape, 1);
}

static void on_segv_plain(int number) {
    (void)number;
    siglongjmp(escape, 2);
}

/* Writes to P; returns which handler saw the fault. */
static int provoke(volatile char *p) {
    int seen = sigsetjmp(escape, 1);
    if (seen == 0) *p = 1;
    return seen;
}

static void a_foreign_fault_reaches_the_programs_handler(void **state) {
    struct arena a;
    struct sigaction before, mine = {.sa_flags = SA_SIGINFO}, now;
    mine.sa_sigaction = on_segv_with_info;
    sigaddset(&mine.sa_mask, SIGUSR1);
    assert_int_equal(sigaction(SIGSEGV, &mine, &before), 0);
    open_arena(&a, state, 16);
    protect(&a, 0, 8);

    volatile char *outside = mmap(NULL, a.page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(outside != MAP_FAILED);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(provoke(outside), 1);
        assert_ptr_equal(fault_address, outside);
        assert_true(mask_was_right);
        *at(&a, 1) = 1; /* ours still works in between */
    }
    assert_int_equal(provoke(at(&a, 100)), 1); /* reserved, not committed */
    assert_int_equal(provoke(unmapped), 1);
    assert_int_equal(collect(&a, 0, 8), 1);
    munmap((void *)(uintptr_t)outside, a.page);
    close_arena(&a);

    assert_int_equal(sigaction(SIGSEGV, &before, &now), 0);
    assert_true(now.sa_sigaction == on_segv_with_info); /* closing gave it back */
}

static void a_plain_handler_is_called_too(void **state) {
    struct arena a;
    struct sigaction before, mine = {.sa_handler = on_segv_plain};
    assert_int_equal(sigaction(SIGSEGV, &mine, &before), 0);
    open_arena(&a, state, 16);
    assert_int_equal(provoke(unmapped), 2);
    close_arena(&a);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
}

static void write_where_nothing_is(void *argument) {
    (void)argument;
    *unmapped = 1;
}

static void send_itself_segv(void *argument) {
    (void)argument;
    raise(SIGSEGV);
}

/* Calls code in a page that was written to: it is open, but can't be executed. */
static void run_data(void *argument) {
    struct arena *a = argument;
    *at(a, 1) = 1;
    void (*data)(void) = (void (*)(void))(uintptr_t)at(a, 1);
    data();
}

static void without_a_handler_a_real_fault_kills(void **state) {
    struct arena a;
    char text[256];
    struct sigaction before, plain = {.sa_handler = SIG_DFL};
    assert_int_equal(sigaction(SIGSEGV, &plain, &before), 0);
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    void (*const bodies[])(void *) = {write_where_nothing_is, send_itself_segv, run_data};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        int status = in_child(bodies[i], &a, text, sizeof text);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    }
    close_arena(&a);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
}

static void an_ignored_segv_is_ignored_only_when_sent(void **state) {
    struct arena a;
    char text[256];
    struct sigaction before, ignored = {.sa_handler = SIG_IGN};
    assert_int_equal(sigaction(SIGSEGV, &ignored, &before), 0);
    open_arena(&a, state, 16);
    raise(SIGSEGV);
    int status = in_child(write_where_nothing_is, &a, text, sizeof text);
    assert_true(WIFSIGNALED(status));
    close_arena(&a);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
}

static void errno_survives_a_fault(void **state) {
    struct arena a;
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    errno = 1234;
    *at(&a, 1) = 1;
    assert_int_equal(errno, 1234);
    close_arena(&a);
}

/* ---- Threads -------------------------------------------------------------------------------- */

enum { RACE_PAGES = 256, RACE_ROUNDS = 200, RACERS = 3 };

struct race {
    struct arena *a;
    pthread_barrier_t start, stop;
};

static void *run_race(void *argument) {
    struct race *race = argument;
    for (int round = 0; round < RACE_ROUNDS; round++) {
        pthread_barrier_wait(&race->start);
        for (size_t i = 0; i < RACE_PAGES; i++) {
            __atomic_fetch_add((int *)(uintptr_t)at(race->a, i), 1, __ATOMIC_RELAXED);
        }
        pthread_barrier_wait(&race->stop);
    }
    return NULL;
}

static void threads_that_fault_on_one_page_all_get_on(void **state) {
    struct arena a;
    struct race race = {.a = &a};
    pthread_t threads[RACERS];
    open_arena(&a, state, RACE_PAGES);
    protect(&a, 0, RACE_PAGES);
    pthread_barrier_init(&race.start, NULL, RACERS + 1);
    pthread_barrier_init(&race.stop, NULL, RACERS + 1);
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_race, &race), 0);
    }
    for (int round = 0; round < RACE_ROUNDS; round++) {
        pthread_barrier_wait(&race.start);
        pthread_barrier_wait(&race.stop);
        assert_int_equal(collect(&a, 0, RACE_PAGES), RACE_PAGES);
        assert_int_equal(collect(&a, 0, RACE_PAGES), 0);
    }
    for (int i = 0; i < RACERS; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < RACE_PAGES; i++) {
        assert_int_equal(*(int *)(uintptr_t)at(&a, i), RACERS * RACE_ROUNDS);
    }
    assert_int_equal(stats_of(&a).disagreements, 0);
    pthread_barrier_destroy(&race.start);
    pthread_barrier_destroy(&race.stop);
    close_arena(&a);
}

/* ---- Processes and several barriers --------------------------------------------------------- */

static void use_inherited_barrier(void *argument) {
    struct arena *a = argument;
    bool works = gci_barrier_kind(a->barrier) == GC_BARRIER_MPROTECT;
    *at(a, 3) = 9;
    size_t dirty = collect(a, 0, 16);
    DEMAND(a->dirty[3] && dirty == (works ? 2 : 16));
    DEMAND(try_protect(a, 0, 16) == (works ? 0 : ENOTSUP));
    *at(a, 4) = 9;
    unprotect(a, 0, 16);
    gci_barrier_close(a->barrier);
    for (size_t i = 0; i < 16; i++) *at(a, i) = 9;
}

static void a_child_does_not_disturb_its_parent(void **state) {
    struct arena a;
    char text[512];
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    *at(&a, 7) = 1;
    int status = in_child(use_inherited_barrier, &a, text, sizeof text);
    assert_true(exited_well(status, text));
    *at(&a, 8) = 1;
    assert_int_equal(collect(&a, 0, 16), 2);
    assert_true(a.dirty[7] && a.dirty[8]);
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

static void two_barriers_keep_apart(void **state) {
    struct arena a, b;
    open_arena(&a, state, 16);
    open_arena(&b, state, 16);
    protect(&a, 0, 16);
    protect(&b, 0, 16);
    *at(&a, 1) = 1;
    *at(&b, 2) = 1;
    assert_int_equal(collect(&b, 0, 16), 1);
    assert_true(b.dirty[2]);
    close_arena(&b);
    *at(&a, 3) = 1;
    assert_int_equal(collect(&a, 0, 16), 2);
    assert_true(a.dirty[1] && a.dirty[3]);
    close_arena(&a);
}

static void closing_leaves_everything_writable(void **state) {
    struct arena a;
    struct sigaction before, after;
    sigaction(SIGSEGV, NULL, &before);
    open_arena(&a, state, 64);
    protect(&a, 0, 64);
    *at(&a, 30) = 1;
    gci_barrier_close(a.barrier);
    a.barrier = NULL;
    for (size_t i = 0; i < 64; i++) assert_int_equal(read_into(at(&a, i)), 1);
    sigaction(SIGSEGV, NULL, &after);
    assert_true(before.sa_sigaction == after.sa_sigaction);
    close_arena(&a);
}

/* As in a program that closes all descriptors to become a daemon. */
static void lost_descriptors_make_everything_written(void **state) {
    struct arena a;
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    close(a.barrier->uffd.fd);
    assert_int_equal(collect(&a, 0, 16), 16);
    close(a.barrier->uffd.pagemap);
    assert_int_equal(collect(&a, 0, 16), 16);
    assert_int_not_equal(try_protect(&a, 0, 16), 0);
    for (size_t i = 0; i < 16; i++) *at(&a, i) = 1;
    assert_int_equal(stats_of(&a).disagreements, 0);
    close_arena(&a);
}

/* ---- Opening -------------------------------------------------------------------------------- */

struct refusal {
    int error;
    enum gc_barrier asked;
    bool prepares_writes, log;
    enum gc_barrier taken;
    const char *says[2]; /* NULL: nothing at all */
};

static void open_refused(void *argument) {
    const struct refusal *r = argument;
    DEMAND(refuse_system_call(SYS_userfaultfd, -1, r->error));
    void *start = gci_vm_reserve(ARENA_BYTES, 65536);
    DEMAND(start != NULL && gci_vm_commit(start, 65536) == 0);
    struct gci_barrier *barrier =
        gci_barrier_open(r->asked, r->prepares_writes, r->log, (uintptr_t)start, ARENA_BYTES);
    DEMAND(barrier != NULL && gci_barrier_kind(barrier) == r->taken);
    int error = gci_barrier_protect(barrier, (uintptr_t)start, 65536);
    DEMAND(error == (r->taken == GC_BARRIER_NONE ? ENOTSUP : 0));
    *(volatile char *)start = 1;
    gci_barrier_close(barrier);
}

static void a_refused_userfaultfd_falls_back_and_says_so(void **state) {
    (void)state;
    const enum gc_barrier aut = GC_BARRIER_AUTO, none = GC_BARRIER_NONE;
    const enum gc_barrier explicitly = GC_BARRIER_EXPLICIT;
    const enum gc_barrier explicit_cross = GC_BARRIER_EXPLICIT_CROSS;
    const struct refusal refusals[] = {
        {EPERM, aut, false, true, none, {"userfaultfd failed (EPERM)", "barrier: none"}},
        {ENOSYS, aut, true, true, by_mprotect, {"(ENOSYS)", "barrier: mprotect\n"}},
        {EPERM, aut, false, false, none, {NULL, NULL}},
        {EPERM, uffd, false, false, none, {"(EPERM)", "does not promise"}},
        {EPERM, uffd, true, false, by_mprotect, {"(EPERM)", "barrier: mprotect\n"}},
        {EPERM, cross, false, false, none, {"compared", "barrier: none"}},
        {EPERM, explicitly, false, false, explicitly, {NULL, NULL}},
        {EPERM, explicitly, false, true, explicitly, {"barrier: explicit, by gc_write()\n", ""}},
        {EPERM, explicit_cross, false, false, explicit_cross, {NULL, NULL}},
        {EPERM, by_mprotect, false, false, by_mprotect, {NULL, NULL}},
        {EPERM, by_mprotect, false, true, by_mprotect, {"barrier: mprotect\n", ""}},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct refusal r = refusals[i];
        char text[1024];
        int status = in_child(open_refused, &r, text, sizeof text);
        assert_true(exited_well(status, text));
        for (int k = 0; k < 2; k++) {
            if (r.says[k] == NULL) assert_string_equal(text, "");
            if (r.says[k] != NULL) assert_non_null(strstr(text, r.says[k]));
        }
    }
}

static void write_when_mprotect_is_refused(void *argument) {
    struct arena *a = argument;
    DEMAND(refuse_system_call(SYS_mprotect, -1, ENOMEM));
    *at(a, 3) = 1;
}

static void a_page_that_nothing_can_open_ends_the_program_with_its_name(void **state) {
    struct arena a;
    char text[1024];
    open_arena(&a, state, 16);
    protect(&a, 0, 16);
    int status = in_child(write_when_mprotect_is_refused, &a, text, sizeof text);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "can't make the page at 0x"));
    close_arena(&a);
}

static void open_refused_with_segv_blocked(void *refusal) {
    sigset_t segv;
    sigemptyset(&segv);
    sigaddset(&segv, SIGSEGV);
    sigprocmask(SIG_BLOCK, &segv, NULL);
    open_refused(refusal);
}

static void mprotect_is_refused_to_a_thread_that_blocks_segv(void **state) {
    (void)state;
    struct refusal r = {EPERM, GC_BARRIER_MPROTECT, true, false, GC_BARRIER_NONE, {NULL, NULL}};
    char text[1024];
    int status = in_child(open_refused_with_segv_blocked, &r, text, sizeof text);
    assert_true(exited_well(status, text));
    assert_non_null(strstr(text, "mprotect does not work here"));
}

static void without_page_protection_explicit_stores_are_not_compared(void **state) {
    (void)state;
    struct refusal r = {
        EPERM, GC_BARRIER_EXPLICIT_CROSS, true, false, GC_BARRIER_EXPLICIT, {NULL, NULL}};
    char text[1024];
    int status = in_child(open_refused_with_segv_blocked, &r, text, sizeof text);
    assert_true(exited_well(status, text));
    assert_non_null(strstr(text, "compared with page protection does not work here"));
    assert_non_null(strstr(text, "barrier: explicit, by gc_write()\n"));
}

static void auto_takes_the_best_and_never_says_auto(void **state) {
    (void)state;
    struct arena a;
    make_arena(&a, 16);
    a.barrier = gci_barrier_open(GC_BARRIER_AUTO, true, false, a.start, ARENA_BYTES);
    assert_non_null(a.barrier);
    enum gc_barrier kind = gci_barrier_kind(a.barrier);
    print_message("auto takes %s here\n", kind_name(kind));
    assert_true(kind == GC_BARRIER_UFFD || kind == GC_BARRIER_MPROTECT);
    close_arena(&a);
}

static void without_a_barrier_everything_is_written(void **state) {
    (void)state;
    struct arena a;
    make_arena(&a, 16);
    a.barrier = gci_barrier_open(GC_BARRIER_NONE, true, false, a.start, ARENA_BYTES);
    assert_non_null(a.barrier);
    assert_int_equal(gci_barrier_kind(a.barrier), GC_BARRIER_NONE);
    assert_int_equal(try_protect(&a, 0, 16), ENOTSUP);
    assert_int_equal(collect(&a, 4, 8), 8);
    assert_int_equal(a.runs, 1);
    gci_barrier_prepare(a.barrier, a.start, 100);
    unprotect(&a, 0, 16);
    close_arena(&a);
}

/* ---- Main ----------------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        UNDER_SIGNALS(a_foreign_fault_reaches_the_programs_handler),
        UNDER_SIGNALS(a_plain_handler_is_called_too),
        UNDER_SIGNALS(without_a_handler_a_real_fault_kills),
        UNDER_SIGNALS(an_ignored_segv_is_ignored_only_when_sent),
        UNDER_ALL(errno_survives_a_fault),
        UNDER_ALL(threads_that_fault_on_one_page_all_get_on),
        UNDER_ALL(a_child_does_not_disturb_its_parent),
        UNDER_ALL(two_barriers_keep_apart),
        UNDER_ALL(closing_leaves_everything_writable),
        UNDER(lost_descriptors_make_everything_written, uffd),
        UNDER(lost_descriptors_make_everything_written, cross),
        cmocka_unit_test(a_refused_userfaultfd_falls_back_and_says_so),
        UNDER(a_page_that_nothing_can_open_ends_the_program_with_its_name, by_mprotect),
        cmocka_unit_test(mprotect_is_refused_to_a_thread_that_blocks_segv),
        cmocka_unit_test(without_page_protection_explicit_stores_are_not_compared),
        cmocka_unit_test(auto_takes_the_best_and_never_says_auto),
        cmocka_unit_test(without_a_barrier_everything_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
