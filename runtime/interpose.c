/* The C library's functions for threads and signal masks, for programs that know nothing of the
 * heap and are run with CAIRN_ATTACH=auto: linked with the shared library, or with it in
 * LD_PRELOAD.  In the shared library only.  Each is the C library's own unless the heap attaches
 * threads as they come; then it is the gc_ function.
 *
 * The symbols have no version, so that a program's reference to any version finds them when this
 * library comes before the C library.  The linker's --wrap makes every call of one of them in the
 * library's other files a call of __wrap_NAME, below, which calls the C library's.
 *
 * Not here, though it looks as if it should be:
 *   pthread_cancel()   the stop signal's handler blocks all signals, also the one that the C
 *       library cancels with, so that no thread is unwound while it stands still; and the cleanup
 *       handler in gc/pthreads.c sees the end of a cancelled thread.
 *   pthread_tryjoin_np(), pthread_timedjoin_np(), thrd_join()   a record whose thread was joined
 *       without our knowing is freed when its name comes back.
 *   poll(), select(), epoll_wait() and others without a mask   the stop signal isn't blocked in
 *       them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "cairn/gc.h"
#include "gc/pthreads.h"
#include "gc/thread.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/options.h"

#define EXPORTED __attribute__((visibility("default")))

/* ---- The C library's ------------------------------------------------------------------------ */

enum {
    CREATE,
    JOIN,
    DETACH,
    EXIT,
    THREAD_MASK,
    PROCESS_MASK,
    WAIT,
    WAIT_INFO,
    TIMED_WAIT,
    SUSPEND,
    PPOLL,
    PSELECT,
    EPOLL_PWAIT,
    FUNCTIONS
};

static const char *const names[] = {"pthread_create", "pthread_join", "pthread_detach",
    "pthread_exit", "pthread_sigmask", "sigprocmask", "sigwait", "sigwaitinfo", "sigtimedwait",
    "sigsuspend", "ppoll", "pselect", "epoll_pwait"};

_Static_assert(sizeof names / sizeof *names == FUNCTIONS, "a name each");

/* Written by whoever comes first, always the same: at the latest when the library is loaded, so
 * that no signal handler has to look it up. */
static GCI_GLOBAL void *functions[FUNCTIONS];

static void *look_up(unsigned function) {
    void *address = dlsym(RTLD_NEXT, names[function]);
    if (address == NULL) gci_fatal("the C library has no %s()", names[function]);
    __atomic_store_n(&functions[function], address, __ATOMIC_RELEASE);
    return address;
}

static void *libc(unsigned function) {
    void *address = __atomic_load_n(&functions[function], __ATOMIC_ACQUIRE);
    return address != NULL ? address : look_up(function);
}

static __attribute__((constructor)) void look_up_all(void) {
    for (unsigned i = 0; i < FUNCTIONS; i++) libc(i);
}

/* Defines __wrap_NAME. */
#define LIBC(index, type, name, parameters, arguments)                                             \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        type(*function) parameters = (type(*) parameters)libc(index);                              \
        return function arguments;                                                                 \
    }                                                                                              \
    _Static_assert(1, "")

LIBC(CREATE, int, pthread_create,
    (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument),
    (thread, attributes, start, argument));
LIBC(JOIN, int, pthread_join, (pthread_t thread, void **result), (thread, result));
LIBC(DETACH, int, pthread_detach, (pthread_t thread), (thread));
LIBC(THREAD_MASK, int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old),
    (how, set, old));
LIBC(
    PROCESS_MASK, int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old));
LIBC(WAIT, int, sigwait, (const sigset_t *set, int *number), (set, number));
LIBC(WAIT_INFO, int, sigwaitinfo, (const sigset_t *set, siginfo_t *info), (set, info));
LIBC(TIMED_WAIT, int, sigtimedwait,
    (const sigset_t *set, siginfo_t *info, const struct timespec *timeout), (set, info, timeout));
LIBC(SUSPEND, int, sigsuspend, (const sigset_t *set), (set));
LIBC(PPOLL, int, ppoll,
    (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
    (fds, count, timeout, mask));
LIBC(PSELECT, int, pselect,
    (int count, fd_set *read, fd_set *write, fd_set *except, const struct timespec *timeout,
        const sigset_t *mask),
    (count, read, write, except, timeout, mask));
LIBC(EPOLL_PWAIT, int, epoll_pwait,
    (int epoll, struct epoll_event *events, int count, int milliseconds, const sigset_t *mask),
    (epoll, events, count, milliseconds, mask));

void __wrap_pthread_exit(void *result) __attribute__((noreturn));
void __wrap_pthread_exit(void *result) {
    ((void (*)(void *))libc(EXIT))(result);
    __builtin_unreachable();
}

/* ---- Which of the two ----------------------------------------------------------------------- */

enum { UNKNOWN, NO, YES };

/* Does the environment say so?  Written by whoever comes first, once there is an environment. */
static GCI_GLOBAL int said;

static bool environment_says(void) {
    int answer = __atomic_load_n(&said, __ATOMIC_RELAXED);
    if (answer != UNKNOWN) return answer == YES;
    if (environ == NULL) return false;
    answer = gci_options_attach_auto() ? YES : NO;
    __atomic_store_n(&said, answer, __ATOMIC_RELAXED);
    return answer == YES;
}

/* The heap's options, which the environment may have changed, are known in threads that are
 * attached.  In others the program's wish counts from their first allocation on. */
static bool automatic(void) {
    const struct gci_thread *self = gci_thread_self();
    return self != NULL ? self->heap->options.attach == GC_ATTACH_AUTO : environment_says();
}

/* Defines NAME. */
#define INTERPOSE(type, name, ours, parameters, arguments)                                         \
    EXPORTED type name parameters {                                                                \
        return automatic() ? ours arguments : __wrap_##name arguments;                             \
    }                                                                                              \
    _Static_assert(1, "")

INTERPOSE(int, pthread_create, gci_pthread_create_auto,
    (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument),
    (thread, attributes, start, argument));
INTERPOSE(int, pthread_join, gc_pthread_join, (pthread_t thread, void **result), (thread, result));
INTERPOSE(int, pthread_detach, gc_pthread_detach, (pthread_t thread), (thread));
INTERPOSE(int, pthread_sigmask, gc_pthread_sigmask, (int how, const sigset_t *set, sigset_t *old),
    (how, set, old));
INTERPOSE(int, sigprocmask, gc_sigprocmask, (int how, const sigset_t *set, sigset_t *old),
    (how, set, old));
INTERPOSE(int, sigwait, gc_sigwait, (const sigset_t *set, int *number), (set, number));
INTERPOSE(int, sigwaitinfo, gc_sigwaitinfo, (const sigset_t *set, siginfo_t *info), (set, info));
INTERPOSE(int, sigtimedwait, gc_sigtimedwait,
    (const sigset_t *set, siginfo_t *info, const struct timespec *timeout), (set, info, timeout));
INTERPOSE(int, sigsuspend, gc_sigsuspend, (const sigset_t *set), (set));
INTERPOSE(int, ppoll, gci_ppoll,
    (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
    (fds, count, timeout, mask));
INTERPOSE(int, pselect, gci_pselect,
    (int count, fd_set *read, fd_set *write, fd_set *except, const struct timespec *timeout,
        const sigset_t *mask),
    (count, read, write, except, timeout, mask));
INTERPOSE(int, epoll_pwait, gci_epoll_pwait,
    (int epoll, struct epoll_event *events, int count, int milliseconds, const sigset_t *mask),
    (epoll, events, count, milliseconds, mask));

EXPORTED void pthread_exit(void *result) {
    if (automatic()) gc_pthread_exit(result);
    __wrap_pthread_exit(result);
}
