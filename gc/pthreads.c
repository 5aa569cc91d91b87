/* Threads as <pthread.h> has them, for the heap: see pthreads.h, and docs/threads.md for stopping.
 *
 * Owns the start records.  One is made for each thread that is created here; its ARGUMENT is a root
 * until the thread, attached, has taken it, and its RESULT until the thread is joined.  They lie in
 * memory of the collector's own, in slabs that are never given back, and are found by the thread's
 * name in a hash table of chains.
 *
 * A record has up to four kinds of holders, and is free again when the last has let go: its
 * creator (until the thread's name is entered), its thread (until it ends), whoever may still join
 * it (until it is joined or detached), and each call that is joining or detaching it.  So it stays
 * what it is during a call of the C library's that frees the thread's name for the next.  A thread
 * that was joined behind our back leaves its record to be freed when its name comes back.
 *
 * The lock here is held with all signals blocked, so that nobody is stopped who holds it: the
 * collector takes it in a stopped world.  It comes after the world's.
 *
 * In the shared library the linker makes the calls of the C library in this file calls of its real
 * functions, never of those in runtime/interpose.c (the Makefile's --wrap). */
#define _GNU_SOURCE
#include "gc/pthreads.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "cairn/gc.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "runtime/futex.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

/* ---- Start records -------------------------------------------------------------------------- */

#define CHAINS     512u /* a page of heads */
#define SLAB_BYTES ((size_t)64 << 10)

struct record {
    void *argument, *result; /* adjacent: visited as one range */
    void *(*start)(void *);
    pthread_t thread;    /* once ENTERED */
    struct record *next; /* on its chain, or the free list */
    uint32_t holders;
    bool attach;   /* at its start; set before the thread is made */
    bool running;  /* its thread holds it */
    bool joinable; /* whoever may join it holds it */
    bool entered;  /* it is on a chain */
};

struct slab {
    struct slab *next;
    struct record records[];
};

#define SLAB_RECORDS ((SLAB_BYTES - sizeof(struct slab)) / sizeof(struct record))

/* All guarded by LOCK, but for ARGUMENT and RESULT of a record in use: its thread's. */
static GCI_GLOBAL gci_lock lock;
static GCI_GLOBAL struct slab *slabs;
static GCI_GLOBAL struct record *free_records;
static GCI_GLOBAL struct record **chains;
static GCI_GLOBAL size_t used_records;
static GCI_GLOBAL bool forking; /* the forking thread holds the lock */
static GCI_GLOBAL sigset_t mask_before_fork;

/* The calling thread's record, from its start to its end. */
static __thread struct record *own __attribute__((tls_model("initial-exec")));

static void lock_records(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
    gci_lock_take(&lock);
}

static void unlock_records(const sigset_t *before) {
    gci_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* The rest of this section: with the lock held. */

static bool make_slab(void) {
    if (chains == NULL) chains = gci_vm_map(CHAINS * sizeof *chains);
    struct slab *slab = chains != NULL ? gci_vm_map(SLAB_BYTES) : NULL;
    if (slab == NULL) return false;
    for (size_t i = SLAB_RECORDS; i-- > 0;) {
        slab->records[i].next = free_records;
        free_records = &slab->records[i];
    }
    slab->next = slabs;
    slabs = slab;
    return true;
}

/* Nobody holds it yet. */
static struct record *take_record(void) {
    if (free_records == NULL && !make_slab()) return NULL;
    struct record *record = free_records;
    free_records = record->next;
    used_records++;
    *record = (struct record){.holders = 0};
    return record;
}

static struct record **chain_of(pthread_t thread) {
    uint64_t hash = (uint64_t)(uintptr_t)thread * 0x9e3779b97f4a7c15u;
    return &chains[hash >> 32 & (CHAINS - 1)];
}

/* The newest of that name: an older one is about to be let go by who joined it. */
static struct record *find(pthread_t thread) {
    struct record *record = chains != NULL ? *chain_of(thread) : NULL;
    while (record != NULL && !pthread_equal(record->thread, thread)) record = record->next;
    return record;
}

static void let_go(struct record *record) {
    if (--record->holders > 0) return;
    if (record->entered) {
        struct record **link = chain_of(record->thread);
        while (*link != record) link = &(*link)->next;
        *link = record->next;
    }
    *record = (struct record){.next = free_records};
    free_records = record;
    used_records--;
}

/* It can't be joined any more. */
static void end_joinable(struct record *record) {
    if (!record->joinable) return;
    record->joinable = false;
    let_go(record);
}

/* Its thread ended, and was joined without our knowing, if its name is another's now. */
static void let_go_of_namesake(pthread_t thread) {
    struct record *old = find(thread);
    if (old != NULL && !old->running && old->joinable && old->holders == 1) end_joinable(old);
}

static void enter(struct record *record, pthread_t thread) {
    let_go_of_namesake(thread);
    record->thread = thread;
    record->entered = true;
    record->next = *chain_of(thread);
    *chain_of(thread) = record;
}

/* For a thread that wasn't made here. */
static struct record *find_or_make(pthread_t thread) {
    struct record *record = find(thread);
    if (record != NULL) return record;
    record = take_record();
    if (record != NULL) enter(record, thread);
    return record;
}

/* ---- Visiting, counting, forking ------------------------------------------------------------ */

/* Whoever holds the lock now is not attached, and lets go of it without waiting for us. */
void gci_pthreads_visit(gci_root_visitor *visit, void *context) {
    gci_lock_take(&lock);
    for (const struct slab *slab = slabs; slab != NULL; slab = slab->next) {
        for (size_t i = 0; i < SLAB_RECORDS; i++) {
            const struct record *record = &slab->records[i];
            const uintptr_t *words = (const uintptr_t *)(const void *)&record->argument;
            if (record->argument != NULL || record->result != NULL)
                visit(context, GCI_ROOT_RANGE, words, words + 2);
        }
    }
    gci_unlock(&lock);
}

_Static_assert(
    offsetof(struct record, result) == offsetof(struct record, argument) + sizeof(void *),
    "one range");

void gci_pthreads_count(size_t *exist, size_t *used) {
    sigset_t before;
    lock_records(&before);
    *exist = 0;
    *used = used_records;
    for (const struct slab *slab = slabs; slab != NULL; slab = slab->next) *exist += SLAB_RECORDS;
    unlock_records(&before);
}

void gci_pthreads_before_fork(void) {
    sigset_t before;
    lock_records(&before);
    mask_before_fork = before;
    forking = true;
}

/* In the child no other thread is there that could end, or be joined. */
static void forget_others(void) {
    free_records = NULL;
    used_records = 0;
    if (chains != NULL) memset(chains, 0, CHAINS * sizeof *chains);
    for (struct slab *slab = slabs; slab != NULL; slab = slab->next) {
        for (size_t i = SLAB_RECORDS; i-- > 0;) {
            struct record *record = &slab->records[i];
            if (record == own) continue;
            *record = (struct record){.next = free_records};
            free_records = record;
        }
    }
    if (own == NULL) return;
    used_records = 1;
    own->holders = 1u + own->joinable;
    own->entered = false;
    enter(own, pthread_self());
}

/* In a child that was made without the handlers another thread may have held the lock. */
void gci_pthreads_after_fork(bool child) {
    sigset_t before = mask_before_fork;
    if (child) forget_others();
    if (forking) {
        forking = false;
        unlock_records(&before);
    } else {
        lock = 0;
    }
}

/* ---- Starting ------------------------------------------------------------------------------- */

static void attach(void) {
    int error = gc_thread_attach();
    if (error != 0 && error != EALREADY)
        gci_fatal("a new thread can't be attached to the heap: %s",
            error == ENOMEM ? "there is no memory for its record" : strerror(error));
}

/* The thread is named before program code runs, as that may tell its name to others. */
static void begin(struct record *record) {
    sigset_t before;
    if (record->attach) attach();
    lock_records(&before);
    if (!record->entered) enter(record, pthread_self());
    unlock_records(&before);
    own = record;
}

/* Called also when the thread is unwound, by pthread_exit() or a cancellation. */
static void end(void *p) {
    struct record *record = p;
    sigset_t before;
    own = NULL;
    gc_buffers.frames = NULL;
    record->argument = NULL;
    lock_records(&before);
    record->running = false;
    let_go(record);
    unlock_records(&before);
}

/* The caller's registers have it from here on. */
static void *take_argument(struct record *record) {
    void *argument = record->argument;
    __atomic_store_n(&record->argument, NULL, __ATOMIC_RELAXED);
    return argument;
}

/* Where a thread begins.  Cancelled before it has a record of its own it would leave that behind,
 * so cancellation waits till then. */
static void *run(void *p) {
    struct record *record = p;
    int cancel;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    begin(record);
    pthread_cleanup_push(end, record);
    pthread_setcancelstate(cancel, NULL);
    __atomic_store_n(&record->result, record->start(take_argument(record)), __ATOMIC_RELAXED);
    p = record->result;
    pthread_cleanup_pop(1);
    return p;
}

static bool made_joinable(const pthread_attr_t *attributes) {
    int state = PTHREAD_CREATE_JOINABLE;
    if (attributes != NULL) pthread_attr_getdetachstate(attributes, &state);
    return state == PTHREAD_CREATE_JOINABLE;
}

/* *THREAD is read only if the thread hasn't said its name itself: else its own code may have run,
 * and *THREAD be gone. */
static int create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
    void *argument, bool attached) {
    sigset_t before;
    bool joinable = made_joinable(attributes);
    lock_records(&before);
    struct record *record = take_record();
    if (record != NULL) {
        record->holders = 2u + joinable; /* the creator, the thread */
        record->running = true;
        record->joinable = joinable;
        record->attach = attached;
        record->start = start;
        record->argument = argument;
    }
    unlock_records(&before);
    if (record == NULL) return EAGAIN;

    /* It may wait for the loader, which may wait for a collection. */
    gc_blocking_begin();
    int error = pthread_create(thread, attributes, run, record);
    gc_blocking_end();
    lock_records(&before);
    if (error != 0)
        record->holders = 1;
    else if (record->joinable && !record->entered)
        enter(record, *thread);
    let_go(record);
    unlock_records(&before);
    return error;
}

int gc_pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    int error = gc_init(NULL);
    if (error != 0 && error != EALREADY) return EAGAIN;
    return create(thread, attributes, start, argument, true);
}

int gci_pthread_create_auto(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    return create(thread, attributes, start, argument, gci_default_heap() != NULL);
}

int gci_real_pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    return pthread_create(thread, attributes, start, argument);
}

/* ---- Ending --------------------------------------------------------------------------------- */

/* A thread that wasn't made here gets a record for the time of the call: it may need it by then, to
 * end.  NULL if there is no room. */
static struct record *hold(pthread_t thread) {
    sigset_t before;
    lock_records(&before);
    struct record *record = find_or_make(thread);
    if (record != NULL) record->holders++;
    unlock_records(&before);
    return record;
}

/* ENDS: it can't be joined any more. */
static void release(struct record *record, bool ends) {
    sigset_t before;
    if (record == NULL) return;
    lock_records(&before);
    if (ends) end_joinable(record);
    let_go(record);
    unlock_records(&before);
}

static void give_up_joining(void *record) {
    gc_blocking_end();
    release(record, false);
}

/* Blocking; RECORD, which the caller holds, is let go if the wait is cancelled. */
static __attribute__((noinline)) int join(pthread_t thread, void **result, struct record *record) {
    int error;
    gc_blocking_begin();
    pthread_cleanup_push(give_up_joining, record);
    error = pthread_join(thread, result);
    pthread_cleanup_pop(0);
    gc_blocking_end();
    return error;
}

/* The record keeps the result until *RESULT has it, which may be in the heap. */
int gc_pthread_join(pthread_t thread, void **result) {
    struct record *record = hold(thread);
    void *value = NULL;
    int error = join(thread, &value, record);
    if (error == 0 && result != NULL) __atomic_store_n(result, value, __ATOMIC_RELEASE);
    release(record, error == 0);
    return error;
}

int gc_pthread_detach(pthread_t thread) {
    struct record *record = hold(thread);
    int error = pthread_detach(thread);
    release(record, error == 0);
    return error;
}

static bool is_joinable(void) {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return false;
    bool joinable = made_joinable(&attributes);
    pthread_attr_destroy(&attributes);
    return joinable;
}

/* For the result of a thread that wasn't made here but can be joined: the main thread, for one. */
static struct record *record_of_stranger(void) {
    sigset_t before;
    if (gci_thread_self() == NULL || !is_joinable()) return NULL;
    lock_records(&before);
    let_go_of_namesake(pthread_self());
    struct record *record = find_or_make(pthread_self());
    if (record != NULL && !record->joinable) {
        record->joinable = true;
        record->holders++;
    }
    unlock_records(&before);
    return record;
}

/* If there is no room for a record the result is no root, as with the C library's own. */
void gc_pthread_exit(void *result) {
    struct record *record = own;
    if (record == NULL && result != NULL) record = record_of_stranger();
    if (record != NULL) __atomic_store_n(&record->result, result, __ATOMIC_RELAXED);
    pthread_exit(result);
}

/* ---- Signal masks --------------------------------------------------------------------------- */

/* SET without the stop signal, in *COPY; SET itself if there is no such signal or no set. */
static const sigset_t *without_stop(const sigset_t *set, sigset_t *copy) {
    int stop = gci_stop_signal();
    if (set == NULL || stop == 0) return set;
    *copy = *set;
    sigdelset(copy, stop);
    return copy;
}

/* The kernel would fail to write into an object on a protected page: hence OLD's copy. */
int gc_pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t copy, before;
    int error = pthread_sigmask(how, how == SIG_UNBLOCK ? set : without_stop(set, &copy), &before);
    if (error == 0 && old != NULL) *old = before;
    return error;
}

int gc_sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    int error = gc_pthread_sigmask(how, set, old);
    if (error != 0) errno = error;
    return error == 0 ? 0 : -1;
}

/* ---- Waiting for signals in a set ----------------------------------------------------------- */

static int64_t now_ns(void) {
    return (int64_t)gci_clock_ns();
}

/* When TIMEOUT, from now, is over; INT64_MAX for never. */
static int64_t deadline_of(const struct timespec *timeout) {
    int64_t ns;
    if (timeout == NULL || __builtin_mul_overflow(timeout->tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, timeout->tv_nsec, &ns) ||
        __builtin_add_overflow(ns, now_ns(), &ns))
        return INT64_MAX;
    return ns;
}

/* What is left of it; NULL: for ever. */
static const struct timespec *time_until(int64_t deadline, struct timespec *left) {
    if (deadline == INT64_MAX) return NULL;
    int64_t ns = deadline - now_ns();
    if (ns < 0) ns = 0;
    *left = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return left;
}

/* A wait that the stop signal ended goes on.  A handler of the program's may have run as well: it
 * could have run just before the call, too, so no program can count on being told. */
int gc_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
    sigset_t copy;
    siginfo_t found;
    struct timespec left;
    set = without_stop(set, &copy);
    int64_t deadline = deadline_of(timeout);
    for (;;) {
        uint64_t stops = gci_stop_count();
        int number = sigtimedwait(set, &found, timeout);
        if (number >= 0 && info != NULL) *info = found;
        if (number >= 0 || errno != EINTR || gci_stop_count() == stops) return number;
        timeout = time_until(deadline, &left);
    }
}

int gc_sigwaitinfo(const sigset_t *set, siginfo_t *info) {
    return gc_sigtimedwait(set, info, NULL);
}

int gc_sigwait(const sigset_t *set, int *number) {
    int found = gc_sigwaitinfo(set, NULL);
    while (found < 0 && errno == EINTR) found = gc_sigwaitinfo(set, NULL);
    if (found < 0) return errno;
    *number = found;
    return 0;
}

/* ---- Waiting with another mask -------------------------------------------------------------- */

/* sigsuspend(), ppoll() and their like set a mask, wait, and set the old mask again, in one.  The
 * stop signal is taken out of the mask.  But then it ends the wait, with EINTR, and to wait again
 * is right only if no handler of the program's has run: what that was told won't be told again.
 *
 * So everything is blocked around the call.  The kernel saves that mask, and the first handler to
 * run returns to it.  If it is the stop signal's, it is the only one: it blocks all others while
 * it runs, and once it has returned they wait for the next call.  If it is the program's, the stop
 * signal can come only while it runs.  Which of the two it was is told by the stack pointer that
 * the stop found: that of the wait itself; or that of a handler, which is below a frame that the
 * kernel made, or on another stack.  Doubt is taken for a handler: a wait may always end with
 * EINTR. */

/* Between the frame of a function that waits, here, and the stack pointer in the wait: more than
 * both functions' frames, less than these with a signal's, which is 1080 bytes at least on x86-64
 * (the red zone, FXSAVE's area, ucontext and siginfo) and more on other 64-bit processors. */
#define WAIT_BYTES 1024u

struct wait {
    sigset_t before; /* the thread's mask */
    sigset_t mask;   /* during the wait */
    uint64_t stops;
};

/* False if there is nothing to do. */
static bool begin_wait(struct wait *wait, const sigset_t *mask) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT};
    int stop = gci_stop_signal();
    if (mask == NULL || stop == 0 || gci_thread_self() == NULL || sigismember(mask, stop) < 0)
        return false;
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
    wait->mask = *mask;
    sigdelset(&wait->mask, stop);
    pthread_sigmask(SIG_SETMASK, &all, &wait->before);
    wait->stops = gci_stop_count();
    return true;
}

/* Also called when a cancellation unwinds the wait. */
static void end_wait(void *p) {
    int saved_errno = errno;
    const struct wait *wait = p;
    pthread_sigmask(SIG_SETMASK, &wait->before, NULL);
    errno = saved_errno;
}

/* Was it the stop signal, alone, that ended a wait with RESULT?  FRAME: that of the function that
 * called it. */
static bool was_only_stopped(struct wait *wait, int result, const void *frame) {
    if (result >= 0 || errno != EINTR) return false;
    uint64_t stops = gci_stop_count();
    if (stops != wait->stops + 1) return false;
    wait->stops = stops;
    uintptr_t stack_pointer = gci_thread_self()->mutator.interruption.stack_pointer;
    return (uintptr_t)frame - stack_pointer < WAIT_BYTES;
}

int gc_sigsuspend(const sigset_t *set) {
    struct wait wait;
    int result;
    if (!begin_wait(&wait, set)) return sigsuspend(set);
    pthread_cleanup_push(end_wait, &wait);
    do result = sigsuspend(&wait.mask);
    while (was_only_stopped(&wait, result, __builtin_frame_address(0)));
    pthread_cleanup_pop(1);
    return result;
}

int gci_ppoll(
    struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
    struct wait wait;
    struct timespec left;
    int result;
    if (!begin_wait(&wait, mask)) return ppoll(fds, count, timeout, mask);
    pthread_cleanup_push(end_wait, &wait);
    int64_t deadline = deadline_of(timeout);
    result = ppoll(fds, count, timeout, &wait.mask);
    while (was_only_stopped(&wait, result, __builtin_frame_address(0)))
        result = ppoll(fds, count, time_until(deadline, &left), &wait.mask);
    pthread_cleanup_pop(1);
    return result;
}

int gci_pselect(int count, fd_set *read, fd_set *write, fd_set *except,
    const struct timespec *timeout, const sigset_t *mask) {
    struct wait wait;
    struct timespec left;
    int result;
    if (!begin_wait(&wait, mask)) return pselect(count, read, write, except, timeout, mask);
    pthread_cleanup_push(end_wait, &wait);
    int64_t deadline = deadline_of(timeout);
    result = pselect(count, read, write, except, timeout, &wait.mask);
    while (was_only_stopped(&wait, result, __builtin_frame_address(0)))
        result = pselect(count, read, write, except, time_until(deadline, &left), &wait.mask);
    pthread_cleanup_pop(1);
    return result;
}

/* Rounded up; -1: for ever. */
static int milliseconds_until(int64_t deadline) {
    struct timespec left;
    if (time_until(deadline, &left) == NULL) return -1;
    return (int)(left.tv_sec * 1000 + (left.tv_nsec + 999999) / 1000000);
}

int gci_epoll_pwait(
    int epoll, struct epoll_event *events, int count, int milliseconds, const sigset_t *mask) {
    struct wait wait;
    int result;
    if (!begin_wait(&wait, mask)) return epoll_pwait(epoll, events, count, milliseconds, mask);
    pthread_cleanup_push(end_wait, &wait);
    int64_t deadline = milliseconds < 0 ? INT64_MAX : now_ns() + milliseconds * INT64_C(1000000);
    result = epoll_pwait(epoll, events, count, milliseconds, &wait.mask);
    while (was_only_stopped(&wait, result, __builtin_frame_address(0)))
        result = epoll_pwait(epoll, events, count, milliseconds_until(deadline), &wait.mask);
    pthread_cleanup_pop(1);
    return result;
}
