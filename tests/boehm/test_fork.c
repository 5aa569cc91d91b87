/* A fork's child, with the library's own handlers and with those that the program calls. */
#include "support.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct node {
    struct node *next;
    long number;
};

static volatile bool stop;

static void *work(void *p) {
    while (!stop) check_list(500);
    return p;
}

static void *work_once(void *p) {
    for (int i = 0; i < 20000; i++) GC_malloc(100);
    return p;
}

/* In the child: memory is as it was, and everything works, threads too. */
static void check_child(void) {
    for (long i = 0; i < 100; i++) REQUIRE_EQUAL(((struct node *)held[i])->number, i);
    GC_gcollect();
    for (int i = 0; i < 100000; i++) GC_malloc(50);
    REQUIRE_EQUAL(children_kept(GC_malloc, 40), MANY);
    REQUIRE_FEW(garbage_kept(GC_malloc, 40), MANY);
    pthread_t thread;
    REQUIRE_EQUAL(GC_pthread_create(&thread, NULL, work_once, NULL), 0);
    REQUIRE_EQUAL(GC_pthread_join(thread, NULL), 0);
}

static void fork_often(int threads, int times, bool by_hand) {
    pthread_t ids[4];
    for (long i = 0; i < 100; i++) {
        struct node *n = held[i] = GC_malloc(sizeof *n);
        n->number = i;
    }
    for (int t = 0; t < threads; t++)
        REQUIRE_EQUAL(GC_pthread_create(&ids[t], NULL, work, NULL), 0);
    for (int i = 0; i < times; i++) {
        if (by_hand) GC_atfork_prepare();
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            if (by_hand) GC_atfork_child();
            alarm(CHILD_SECONDS);
            check_child();
            _exit(0);
        }
        if (by_hand) GC_atfork_parent();
        int status;
        REQUIRE_EQUAL(waitpid(child, &status, 0), child);
        REQUIRE_EQUAL(status, 0);
        const struct timespec t = {0, 1000000};
        nanosleep(&t, NULL);
    }
    stop = true;
    for (int t = 0; t < threads; t++) REQUIRE_EQUAL(GC_pthread_join(ids[t], NULL), 0);
    GC_gcollect();
}

static void a_child_of_one_thread_goes_on(void) {
    GC_set_handle_fork(1);
    GC_INIT();
    fork_often(0, 3, false);
}

static void a_child_of_many_threads_goes_on(void) {
    GC_set_handle_fork(1);
    GC_INIT();
    fork_often(3, 5, false);
}

static void the_program_may_handle_forks_itself(void) {
    GC_set_handle_fork(-1);
    GC_INIT();
    fork_often(3, 5, true);
}

static void forks_handled_by_hand_as_well_do_no_harm(void) {
    GC_set_handle_fork(1);
    GC_INIT();
    GC_atfork_prepare(); /* no effect, as the library has its own */
    GC_atfork_parent();
    fork_often(1, 2, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_child_of_one_thread_goes_on),
        CHILD_TEST(a_child_of_many_threads_goes_on),
        CHILD_TEST(the_program_may_handle_forks_itself),
        CHILD_TEST(forks_handled_by_hand_as_well_do_no_harm),
    };
    return cmocka_run_group_tests_name("boehm_fork", tests, NULL, NULL);
}
