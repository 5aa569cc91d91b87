/* fork(): the child goes on with a copy of the heap, whatever other threads were doing, under every
 * barrier; and the parent isn't harmed. */
#define _GNU_SOURCE
#include "child.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"
#include "threads_support.h"

extern char **environ;

/* ---- A heap that knows what it holds -------------------------------------------------------- */

struct node {
    struct node *next;
    uint64_t number, check;
};

enum { HEADS = 500, CHAIN = 40 };
static struct node *heads[HEADS];

static uint64_t check_of(uint64_t number) {
    return number * 0x9e3779b97f4a7c15u | (uint64_t)1 << 63;
}

static __attribute__((noinline)) struct node *make_chain(uint64_t number, unsigned length) {
    struct node *head = NULL;
    while (length-- > 0) {
        struct node *n = gc_alloc(sizeof *n + (number + length) % 5 * 400);
        REQUIRE(n != NULL && n->next == NULL && n->number == 0);
        n->number = number;
        n->check = check_of(number);
        n->next = head;
        head = n;
    }
    return head;
}

static void check_chain(const struct node *n, uint64_t number, unsigned length) {
    for (; length > 0; length--, n = n->next) {
        REQUIRE(n != NULL && gc_base(n) == n);
        REQUIRE(n->number == number && n->check == check_of(number));
    }
    REQUIRE(n == NULL);
}

static void make_heads(void) {
    for (unsigned i = 0; i < HEADS; i++) heads[i] = make_chain(i, CHAIN);
}

static void check_heads(unsigned length) {
    for (unsigned i = 0; i < HEADS; i++) check_chain(heads[i], i, length);
}

/* Young objects at the ends of old chains. */
static void write_to_old(unsigned length) {
    for (unsigned i = 0; i < HEADS; i++) {
        struct node *n = heads[i];
        while (n->next != NULL) n = n->next;
        n->next = make_chain(i, length);
    }
}

/* ---- In the child --------------------------------------------------------------------------- */

static enum gc_barrier barrier;
static pid_t waiting_for;

/* Waits for CHILD, which must exit well, or if ABORTS is not NULL may have died of an abort. */
static void wait_for_child(pid_t child, bool *aborts) {
    int status;
    REQUIRE(child > 0);
    waiting_for = child;
    gc_blocking_begin();
    while (waitpid(child, &status, 0) < 0) REQUIRE_EQUAL(errno, EINTR);
    gc_blocking_end();
    if (aborts != NULL) {
        *aborts = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
        if (*aborts) return;
    }
    if (status != 0) child_fail(__FILE__, __LINE__, "the child's status is %#x", (unsigned)status);
}

static void *make_garbage(void *megabytes) {
    for (size_t bytes = (uintptr_t)megabytes << 20; bytes > 1400; bytes -= 1400) {
        memset(gc_alloc(1000), 1, 1000);
        memset(gc_alloc_leaf(400), 1, 400);
    }
    for (unsigned i = 0; i < 20; i++) memset(gc_alloc(30000), 1, 30000);
    return megabytes;
}

static void use_heap(size_t megabytes, unsigned generations) {
    alarm(CHILD_SECONDS);
    check_heads(CHAIN);
    REQUIRE_EQUAL(gc_verify(), 0);
    make_garbage((void *)megabytes);
    REQUIRE_EQUAL(statistics().barrier, barrier);
    REQUIRE(statistics().threads <= 1);
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    for (unsigned i = 0; i < 3; i++) REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    write_to_old(3);
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    make_garbage((void *)1);
    check_heads(CHAIN + 3);
    pthread_t threads[2] = {
        start_thread(make_garbage, (void *)1), start_thread(make_garbage, (void *)1)};
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    end_thread(threads[0]);
    end_thread(threads[1]);
    REQUIRE_EQUAL(statistics().threads, 1);
    if (generations > 0) {
        pid_t child = fork();
        if (child == 0) {
            check_heads(CHAIN + 3);
            write_to_old(2);
            REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
            REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
            check_heads(CHAIN + 5);
            _exit(0);
        }
        wait_for_child(child, NULL);
    }
    check_heads(CHAIN + 3);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void fork_once(size_t megabytes, unsigned generations) {
    pid_t child = fork();
    if (child == 0) {
        use_heap(megabytes, generations);
        _exit(0);
    }
    wait_for_child(child, NULL);
}

/* ---- While others are at work --------------------------------------------------------------- */

static int shall_end;

static void *work(void *seed) {
    uint64_t state = (uintptr_t)seed + 17;
    struct node *kept[16] = {NULL};
    while (!look_at(&shall_end)) {
        uint64_t r = next_random(&state), number = r >> 8;
        unsigned at = r % 16, length = 1 + r / 16 % 30;
        if (kept[at] != NULL) {
            REQUIRE(kept[at]->check == check_of(kept[at]->number));
            if (r % 3 == 0) gc_free(kept[at]);
        }
        kept[at] = make_chain(number, length);
        memset(gc_alloc(9000 + r % 50000), 1, 9000);
        check_chain(kept[at], number, length);
        if (r % 101 == 0) gc_collect(r % 303 == 0 ? GC_FULL : GC_MINOR);
        if (r % 50 == 0) free(malloc(r % 100000));
    }
    return NULL;
}

enum { WORKERS = 3 };

static void *fork_often(void *times) {
    for (uintptr_t i = 0; i < (uintptr_t)times; i++) fork_once(i % 7 == 0 ? 50 : 2, i % 4 == 0);
    return NULL;
}

static void beside_workers(void *(*f)(void *), unsigned times) {
    pthread_t threads[WORKERS];
    make_heads();
    settle_old();
    barrier = (enum gc_barrier)statistics().barrier;
    for (uintptr_t i = 0; i < WORKERS; i++) threads[i] = start_thread(work, (void *)i);
    f((void *)(uintptr_t)times);
    raise_flag(&shall_end, 1);
    for (unsigned i = 0; i < WORKERS; i++) end_thread(threads[i]);
    check_heads(CHAIN);
    write_to_old(3);
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    check_heads(CHAIN + 3);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void forks_while_others_work(void) {
    beside_workers(fork_often, 14);
}

static void *fork_in_another(void *times) {
    end_thread(start_thread(fork_often, times));
    return NULL;
}

static void forks_of_a_thread_while_others_work(void) {
    beside_workers(fork_in_another, 12);
}

/* Several at once. */
static void *fork_in_several(void *times) {
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++) threads[i] = start_thread(fork_often, times);
    for (unsigned i = 0; i < 3; i++) end_thread(threads[i]);
    return NULL;
}

static void forks_of_several_threads_at_once(void) {
    beside_workers(fork_in_several, 4);
}

/* A thread that isn't attached: in the child it may attach. */
static void *fork_unattached(void *times) {
    for (uintptr_t i = 0; i < (uintptr_t)times; i++) {
        pid_t child = fork();
        if (child == 0) {
            REQUIRE_EQUAL(statistics().threads, 0);
            REQUIRE_EQUAL(gc_thread_attach(), 0);
            use_heap(2, 0);
            _exit(0);
        }
        wait_for_child(child, NULL);
    }
    return NULL;
}

static void *in_a_plain_thread(void *times) {
    pthread_t thread;
    REQUIRE_EQUAL(pthread_create(&thread, NULL, fork_unattached, times), 0);
    REQUIRE_EQUAL(gc_pthread_join(thread, NULL), 0);
    return NULL;
}

static void forks_of_an_unattached_thread(void) {
    beside_workers(in_a_plain_thread, 6);
}

static void *fork_while_blocking(void *times) {
    for (uintptr_t i = 0; i < (uintptr_t)times; i++) {
        gc_blocking_begin();
        gc_blocking_begin();
        pid_t child = fork();
        gc_blocking_end();
        gc_blocking_end();
        if (child == 0) {
            use_heap(2, 0);
            _exit(0);
        }
        wait_for_child(child, NULL);
    }
    return NULL;
}

static void forks_while_blocking(void) {
    beside_workers(fork_while_blocking, 6);
}

/* As a collection does that takes that long: the loader's lock is held meanwhile. */
static void take_long(void *unused) {
    (void)unused;
    raise_flag(&shall_end, 1);
    sleep_ms(2500);
}

static void *stop_for_long(void *unused) {
    with_world_stopped(take_long, NULL);
    return unused;
}

static void forks_wait_for_long_collections(void) {
    make_heads();
    barrier = (enum gc_barrier)statistics().barrier;
    pthread_t thread = start_thread(stop_for_long, NULL);
    gc_blocking_begin(); /* not stopped itself */
    while (!look_at(&shall_end)) sleep_ms(1);
    pid_t child = fork();
    gc_blocking_end();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        check_heads(CHAIN);
        _exit(0);
    }
    wait_for_child(child, NULL);
    end_thread(thread);
}

/* With collections on several CPUs before and after. */
static void the_child_has_a_crew_of_its_own(void) {
    make_heads();
    static struct node *many[40000];
    for (unsigned i = 0; i < 40000; i++) many[i] = make_chain(i, 2);
    collect_times(4);
    barrier = (enum gc_barrier)statistics().barrier;
    REQUIRE(statistics().workers > 0);
    pid_t child = fork();
    if (child == 0) {
        REQUIRE_EQUAL(statistics().workers, 0);
        collect_times(4);
        REQUIRE(statistics().workers > 0);
        for (unsigned i = 0; i < 40000; i++) check_chain(many[i], i, 2);
        use_heap(2, 1);
        _exit(0);
    }
    wait_for_child(child, NULL);
    collect_times(2);
    for (unsigned i = 0; i < 40000; i++) check_chain(many[i], i, 2);
}

/* ---- Without handlers ----------------------------------------------------------------------- */

static pid_t fork_by_clone(void) {
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static pid_t fork_by_name(void) {
    pid_t (*real)(void);
    *(void **)&real = dlsym(RTLD_DEFAULT, "_Fork");
    if (real == NULL) child_skip("no _Fork()");
    return real();
}

static pid_t (*fork_silently)(void);

/* In a silent child the C library's own locks may be held for ever, so nothing but the heap is
 * used. */
static void use_heap_alone(void) {
    alarm(CHILD_SECONDS);
    signal(SIGALRM, SIG_DFL);
    check_heads(CHAIN);
    write_to_old(3);
    REQUIRE_EQUAL(statistics().barrier, barrier);
    for (unsigned i = 0; i < 3; i++) make_garbage((void *)1);
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    check_heads(CHAIN + 3);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void *fork_silently_often(void *times) {
    unsigned aborted = 0;
    for (uintptr_t i = 0; i < (uintptr_t)times; i++) {
        bool aborts;
        pid_t child = fork_silently();
        if (child == 0) {
            use_heap_alone();
            _exit(0);
        }
        wait_for_child(child, &aborts);
        aborted += aborts;
    }
    printf("%u of %lu children were refused\n", aborted, (unsigned long)(uintptr_t)times);
    return NULL;
}

static void silent_children_alone(void) {
    make_heads();
    settle_old();
    barrier = (enum gc_barrier)statistics().barrier;
    for (unsigned i = 0; i < 10; i++) {
        pid_t child = fork_silently();
        if (child == 0) {
            use_heap(5, 1);
            _exit(0);
        }
        wait_for_child(child, NULL);
    }
}

static void children_of_clone_alone(void) {
    fork_silently = fork_by_clone;
    silent_children_alone();
}
static void children_of_clone_while_others_work(void) {
    fork_silently = fork_by_clone;
    beside_workers(fork_silently_often, 30);
}
static void children_of__Fork_alone(void) {
    fork_silently = fork_by_name;
    silent_children_alone();
}
static void children_of__Fork_while_others_work(void) {
    fork_silently = fork_by_name;
    beside_workers(fork_silently_often, 30);
}

static void *spawn_often(void *times) {
    char *arguments[] = {"true", NULL};
    for (volatile uintptr_t i = 0; i < (uintptr_t)times; i++) {
        pid_t child;
        REQUIRE_EQUAL(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ), 0);
        wait_for_child(child, NULL);
        child = vfork();
        if (child == 0) {
            execv("/bin/true", arguments);
            _exit(1);
        }
        wait_for_child(child, NULL);
        write_to_old(0);
    }
    return NULL;
}

static void spawned_programs_change_nothing(void) {
    beside_workers(spawn_often, 20);
}

#define UNDER(f, barrier)                                                                          \
    CHILD_TEST(f, "CAIRN_BARRIER=" barrier, "CAIRN_VERIFY=1", "CAIRN_POISON=1")

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(forks_while_others_work),
        UNDER(forks_while_others_work, "uffd"),
        UNDER(forks_while_others_work, "mprotect"),
        CHILD_TEST(forks_while_others_work, "CAIRN_BARRIER=none"),
        CHILD_TEST(forks_while_others_work, "CAIRN_BARRIER=cross"),
        CHILD_TEST(forks_of_a_thread_while_others_work),
        CHILD_TEST(forks_of_several_threads_at_once),
        CHILD_TEST(forks_of_several_threads_at_once, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(forks_of_an_unattached_thread),
        UNDER(forks_while_blocking, "uffd"),
        CHILD_TEST(forks_while_blocking, "CAIRN_STOP=safepoint"),
        CHILD_TEST(forks_wait_for_long_collections),
        CHILD_TEST(the_child_has_a_crew_of_its_own, "CAIRN_WORKERS=4"),
        UNDER(children_of_clone_alone, "uffd"),
        UNDER(children_of_clone_alone, "mprotect"),
        UNDER(children_of__Fork_alone, "uffd"),
        CHILD_TEST(children_of__Fork_while_others_work),
        CHILD_TEST(children_of_clone_while_others_work, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(spawned_programs_change_nothing),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
