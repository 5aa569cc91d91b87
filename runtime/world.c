/* Stopping the world: see world.h, and docs/threads.md for the protocol whose rules and steps
 * (STOP, PARK, START) are named here.  Owns the stop signal's handler.  Invariant: while the lock
 * is free, or its holder hasn't called gci_world_stop(), every mutator is RUNNING or BLOCKING. */
#define _GNU_SOURCE
#include "runtime/world.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "cairn/gc.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/tls.h"
#include "runtime/vm.h"

#define SECOND    UINT64_C(1000000000)
#define GRACE_NS  UINT64_C(15000) /* before threads are signalled: measured, a signal takes 50 us */
#define SENDINGS  1000u /* of a signal that can't be queued, 0.1 ms apart; then the watchdog */
#define TRIES     100u  /* at a lock, some 2 us, before the thread sleeps */
#define SPIN_NS   UINT64_C(250000) /* as a minor pause; to be woken took 35 to 70 us, measured */
#define GROWTH    ((uintptr_t)1 << 32) /* of the first thread's stack, at the most */
#define RED_ZONE  128u  /* bytes below the stack pointer that a function may use (x86-64 ABI) */
#define SWITCHING 1024u /* bytes of stack between gc_stack_switch() and the switch: see gc.h */

__thread struct gci_mutator *gci_self __attribute__((tls_model("initial-exec")));

static enum gci_state state_of(const struct gci_mutator *mutator) {
    return (enum gci_state)__atomic_load_n(&mutator->state, __ATOMIC_ACQUIRE);
}

static bool change_state(struct gci_mutator *mutator, enum gci_state from, enum gci_state to) {
    uint32_t expected = from;
    return __atomic_compare_exchange_n(
        &mutator->state, &expected, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* ---- A mutator's own steps ------------------------------------------------------------------ */

uint64_t gci_signals_block(void) {
    uint64_t before = 0, all = UINT64_MAX;
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        all &= ~(UINT64_C(1) << (faults[i] - 1));
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof all);
    return before;
}

void gci_signals_restore(uint64_t before) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}

/* May a thread use its processor up while it waits for a collection to end?  Not if another
 * mutator, or one who helps to mark, could run there. */
static bool may_spin(const struct gci_world *world) {
    return !__atomic_load_n(&world->crowded, __ATOMIC_RELAXED);
}

/* Until *WORD isn't VALUE any more, or a wait in the kernel is called for. */
static void spin_while(const struct gci_world *world, const uint32_t *word, uint32_t value) {
    if (!may_spin(world)) return;
    uint64_t deadline = gci_clock_ns() + SPIN_NS;
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value && may_spin(world) &&
           gci_clock_ns() < deadline)
        gci_relax();
}

/* The next mutator to be sent the stop signal; NULL: all are seen to.  The list doesn't change: who
 * asks has not parked yet, so the stopper has the lock. */
static struct gci_mutator *next_unsent(struct gci_world *world) {
    struct gci_mutator *m = __atomic_load_n(&world->unsent, __ATOMIC_ACQUIRE);
    while (m != NULL && !__atomic_compare_exchange_n(
                            &world->unsent, &m, m->next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        continue;
    return m;
}

/* PASS ON: the stopper may be preempted while it sends signals, and then each thread that got none
 * runs to the end of its time slice.  So whoever parks sends what is unsent (rule 3).  False if one
 * can't be sent: the stopper must be woken then, after `awaited` was lowered, or it could miss
 * it. */
static bool pass_on(struct gci_world *world, const struct gci_mutator *self) {
    int saved_errno = errno;
    bool sent = true;
    for (struct gci_mutator *m; (m = next_unsent(world)) != NULL;) {
        if (m == self || state_of(m) != GCI_REQUESTED ||
            syscall(SYS_tgkill, getpid(), m->tid, world->signal) == 0)
            continue;
        __atomic_store_n(&world->failed, 1, __ATOMIC_RELEASE);
        sent = false;
    }
    errno = saved_errno;
    return sent;
}

/* PARK.  The roots were made readable before. */
void gci_park(struct gci_mutator *self) {
    struct gci_world *world = self->world;
    uint64_t signals = gci_signals_block();
    bool sent = pass_on(world, self);
    __atomic_store_n(&self->state, GCI_STOPPED, __ATOMIC_RELEASE);
    if (__atomic_sub_fetch(&world->awaited, 1, __ATOMIC_ACQ_REL) == 0 || !sent)
        gci_futex_wake(&world->awaited, 1);
    spin_while(world, &self->state, GCI_STOPPED);
    while (state_of(self) == GCI_STOPPED) gci_futex_wait(&self->state, GCI_STOPPED, GCI_FOREVER);
    gci_signals_restore(signals);
}

void gci_block(struct gci_mutator *self) {
    while (!change_state(self, GCI_RUNNING, GCI_BLOCKING))
        if (state_of(self) == GCI_REQUESTED) gci_park(self);
}

/* While the world is stopped it queues for the lock, so that it comes through between two
 * collections.  A handler of the program's that forks must not interrupt who holds it: the handlers
 * of pthread_atfork() take it, too. */
static void leave_blocking(struct gci_mutator *self) {
    if (change_state(self, GCI_BLOCKING, GCI_RUNNING)) return;
    uint64_t signals = gci_signals_block();
    gci_lock_take(&self->world->lock);
    GCI_CHECK(change_state(self, GCI_BLOCKING, GCI_RUNNING)); /* rule 1 */
    gci_unlock(&self->world->lock);
    gci_signals_restore(signals);
}

void gci_mutator_rest(struct gci_mutator *self) {
    while (__atomic_load_n(&self->suspended, __ATOMIC_ACQUIRE) != 0) {
        gci_block(self);
        gci_futex_wait(&self->suspended, 1, GCI_FOREVER);
        leave_blocking(self);
    }
}

void gci_unblock_locked(struct gci_mutator *self) {
    GCI_CHECK(change_state(self, GCI_BLOCKING, GCI_RUNNING)); /* rule 1 */
}

void gci_unblock(struct gci_mutator *self) {
    leave_blocking(self);
    if (__builtin_expect(__atomic_load_n(&self->suspended, __ATOMIC_ACQUIRE) != 0, 0))
        gci_mutator_rest(self);
}

/* Most holders are through in less time than it takes to sleep and be woken.  One that collects
 * stops this mutator first. */
static bool try_for_a_while(struct gci_world *world, struct gci_mutator *self) {
    for (unsigned i = 0; i < TRIES; i++) {
        if (gci_lock_try(&world->lock)) return true;
        if (world->cpus == 1) return false;
        if (self != NULL && state_of(self) == GCI_REQUESTED) {
            gci_park(self);
            i = 0;
        }
        gci_relax();
    }
    return false;
}

void gci_world_lock(struct gci_world *world, struct gci_mutator *self) {
    if (try_for_a_while(world, self)) return;
    if (self == NULL || self->blocking > 0) {
        gci_lock_wait(&world->lock);
        return;
    }
    if (self->forks)
        gci_fatal("a handler of pthread_atfork() uses the heap while it is held for the fork");
    for (;;) {
        uint64_t signals = gci_signals_block();
        gci_block(self);
        gci_lock_wait(&world->lock);
        gci_unblock_locked(self);
        gci_signals_restore(signals);
        if (__atomic_load_n(&self->suspended, __ATOMIC_ACQUIRE) == 0) return;
        gci_unlock(&world->lock);
        gci_mutator_rest(self);
    }
}

void gci_world_unlock(struct gci_world *world) {
    gci_unlock(&world->lock);
}

void gci_world_enter(struct gci_world *world, struct gci_mutator *self) {
    for (;;) {
        __atomic_fetch_add(&world->entering, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&world->forking, __ATOMIC_SEQ_CST) == 0) return;
        gci_world_exit(world);
        if (self != NULL) gci_block(self);
        uint32_t forking;
        while ((forking = __atomic_load_n(&world->forking, __ATOMIC_SEQ_CST)) != 0)
            gci_futex_wait(&world->forking, forking, GCI_FOREVER);
        if (self != NULL) gci_unblock(self);
    }
}

void gci_world_exit(struct gci_world *world) {
    uint32_t left = __atomic_sub_fetch(&world->entering, 1, __ATOMIC_SEQ_CST);
    if (left == 0 && __atomic_load_n(&world->forking, __ATOMIC_SEQ_CST) != 0)
        gci_futex_wake(&world->entering, UINT32_MAX);
}

struct loader_call {
    void (*function)(void *context);
    void *context;
    bool done;
};

/* Ends the walk at the first object. */
static int in_loader_lock(struct dl_phdr_info *object, size_t size, void *context) {
    (void)object, (void)size;
    struct loader_call *call = context;
    call->done = true;
    call->function(call->context);
    return 1;
}

#ifdef GC_SANITIZE_THREAD
/* ThreadSanitizer doesn't see the loader's lock, and takes it itself to name what it reports. */
static GCI_GLOBAL gci_lock in_place_of_loader;

void gci_with_loader_lock(void (*function)(void *context), void *context) {
    (void)in_loader_lock;
    gci_lock_take(&in_place_of_loader);
    function(context);
    gci_unlock(&in_place_of_loader);
}
#else
void gci_with_loader_lock(void (*function)(void *context), void *context) {
    struct loader_call call = {function, context, false};
    dl_iterate_phdr(in_loader_lock, &call);
    if (!call.done) function(context); /* a program without any object that could change */
}
#endif

/* ---- The stop signal ------------------------------------------------------------------------ */

/* All of the kernel's signals, those that the C library keeps for itself as well: a cancellation or
 * a setuid() must not run while the world is stopped. */
static void block_everything(void) {
    uint64_t all = UINT64_MAX;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof all);
}

static uintptr_t stack_pointer_of(const ucontext_t *user) {
#if defined(__x86_64__)
    return (uintptr_t)user->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)user->uc_mcontext.sp;
#elif defined(__riscv)
    return (uintptr_t)user->uc_mcontext.__gregs[REG_SP];
#else
    return (uintptr_t)user;
#endif
}

/* The alternate stack stays known while a handler runs for which it was disarmed
 * (SS_AUTODISARM). */
static void note_other_stack(struct gci_mutator *self, const stack_t *other) {
    if (other->ss_flags & SS_DISABLE) return;
    self->interruption.other_low = (uintptr_t)other->ss_sp;
    self->interruption.other_high = (uintptr_t)other->ss_sp + other->ss_size;
}

/* The kernel has saved all registers, vector registers included, in a frame that begins at or above
 * the context's address.  Which stacks these are is worked out by gci_mutator_visit(). */
static void on_stop(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    struct gci_mutator *self = gci_self;
    if (self == NULL || self->inside || state_of(self) != GCI_REQUESTED) return; /* rules 5, 8 */
    int saved_errno = errno;
    block_everything();
    const ucontext_t *user = context;
    note_other_stack(self, &user->uc_stack);
    self->interruption.context = (uintptr_t)context;
    self->interruption.stack_pointer = stack_pointer_of(user);
    self->interruption.valid = true;
    self->stops++;
    gci_park(self);
    self->interruption.valid = false;
    errno = saved_errno;
}

static bool is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_stop;
}

static int install(int number) {
    struct sigaction ours = {.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    ours.sa_sigaction = on_stop;
    sigfillset(&ours.sa_mask);
    return sigaction(number, &ours, NULL) == 0 ? 0 : errno;
}

int gci_world_open(struct gci_world *world, int signal) {
    *world = (struct gci_world){.signal = signal, .cpus = gci_cpu_count()};
    return signal == 0 ? 0 : install(signal);
}

void gci_world_close(struct gci_world *world) {
    struct sigaction current;
    if (world->signal != 0 && sigaction(world->signal, NULL, &current) == 0 && is_ours(&current))
        signal(world->signal, SIG_DFL);
}

/* Takes the signal back from whoever installed another handler since. */
static void check_handler(struct gci_world *world) {
    struct sigaction current;
    if (sigaction(world->signal, NULL, &current) != 0 || is_ours(&current)) return;
    install(world->signal);
    if (world->displaced_told) return;
    world->displaced_told = true;
    gci_log("the handler of the stop signal, %d, was replaced by another: it is put back; "
            "CAIRN_STOP_SIGNAL sets another signal",
        world->signal);
}

/* ---- Who answers, and who doesn't ----------------------------------------------------------- */

/* The rest of the line of /proc/self/task/TID/FILE that begins with KEY ("": its first line). */
static void read_task(pid_t tid, const char *file, const char *key, char *value, size_t room) {
    char path[64] = "/proc/self/task/", digits[16], text[2048];
    size_t n = 0, at = strlen(path);
    for (unsigned rest = (unsigned)tid; rest > 0 || n == 0; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n > 0) path[at++] = digits[--n];
    path[at++] = '/';
    strcpy(path + at, file);
    *value = '\0';
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    long bytes = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    text[bytes > 0 ? bytes : 0] = '\0';
    const char *line = *key == '\0' ? text : strstr(text, key);
    if (line == NULL) return;
    line += strlen(key);
    line += strspn(line, " \t");
    size_t length = strcspn(line, "\n");
    if (length >= room) length = room - 1;
    memcpy(value, line, length);
    value[length] = '\0';
}

static bool blocks(pid_t tid, int number) {
    char set[32];
    read_task(tid, "status", "SigBlk:", set, sizeof set);
    uint64_t bits = 0;
    for (const char *c = set; *c != '\0'; c++)
        bits = bits << 4 | (uint64_t)(*c <= '9' ? *c - '0' : *c - 'a' + 10);
    return bits >> (number - 1) & 1;
}

static void name_laggard(const struct gci_world *world, const struct gci_mutator *m, unsigned s) {
    char name[32], state[32];
    read_task(m->tid, "comm", "", name, sizeof name);
    read_task(m->tid, "status", "State:", state, sizeof state);
    const char *why = "";
    if (world->signal == 0)
        why = "; it is stopped at safepoints only: does it call gc_safepoint()?";
    else if (blocks(m->tid, world->signal))
        why = "; it blocks the stop signal: use gc_pthread_sigmask(), or gc_blocking_begin()";
    gci_log("thread %d (%s) has not stopped for a collection in %u s, state %s%s", (int)m->tid,
        name, s, state, why);
}

/* Its thread ended without detaching, by a raw exit(2) or the like. */
static void give_up(struct gci_world *world, struct gci_mutator *mutator) {
    gci_log("thread %d has ended without detaching from the heap", (int)mutator->tid);
    mutator->vanished = true;
    if (change_state(mutator, GCI_REQUESTED, GCI_STOPPED))
        __atomic_sub_fetch(&world->awaited, 1, __ATOMIC_ACQ_REL);
}

static void request_by_signal(struct gci_world *world, struct gci_mutator *mutator) {
    for (unsigned i = 0; i < SENDINGS && state_of(mutator) == GCI_REQUESTED; i++) {
        if (syscall(SYS_tgkill, getpid(), mutator->tid, world->signal) == 0) return;
        if (errno == ESRCH) give_up(world, mutator);
        if (errno != EAGAIN) return; /* the watchdog tells */
        gci_futex_wait(
            &world->awaited, __atomic_load_n(&world->awaited, __ATOMIC_RELAXED), SECOND / 10000);
    }
}

/* Signals those once more who haven't answered (rule 8). */
static void signal_again(struct gci_world *world) {
    for (struct gci_mutator *m = world->first; m != NULL && world->signal != 0; m = m->next)
        if (state_of(m) == GCI_REQUESTED) request_by_signal(world, m);
}

/* Names those who are late, too. */
static void remind(struct gci_world *world, unsigned seconds) {
    for (struct gci_mutator *m = world->first; m != NULL; m = m->next)
        if (state_of(m) == GCI_REQUESTED && (seconds & (seconds - 1)) == 0)
            name_laggard(world, m, seconds); /* after 1, 2, 4, 8 ... s */
    signal_again(world);
}

/* ---- STOP and START ------------------------------------------------------------------------- */

/* One mutator; true if it was running.  `awaited` is raised before the request can be answered.
 * The signal comes later. */
static bool request(struct gci_world *world, struct gci_mutator *mutator) {
    for (;;) {
        if (mutator->suspended != 0 && state_of(mutator) == GCI_STOPPED) return false;
        if (change_state(mutator, GCI_BLOCKING, GCI_HELD)) return false;
        __atomic_fetch_add(&world->awaited, 1, __ATOMIC_ACQ_REL);
        if (change_state(mutator, GCI_RUNNING, GCI_REQUESTED)) break;
        __atomic_sub_fetch(&world->awaited, 1, __ATOMIC_ACQ_REL);
    }
    __atomic_store_n(mutator->poll, 1, __ATOMIC_RELAXED);
    return true;
}

/* Waits a moment for those that are about to enter the library: a thread that allocates much does
 * so every few microseconds, and answers faster than the signal can.  Not where it could keep such
 * a thread from running. */
static void wait_for_allocators(const struct gci_world *world) {
    uint64_t deadline = gci_clock_ns() + GRACE_NS;
    while (__atomic_load_n(&world->awaited, __ATOMIC_ACQUIRE) != 0 && gci_clock_ns() < deadline)
        gci_relax();
}

/* Until all have answered.  Signals of the program's interrupt the wait, not the clock. */
static void await(struct gci_world *world) {
    uint64_t start = gci_clock_ns();
    unsigned seconds = 0;
    uint32_t awaited;
    if (__atomic_load_n(&world->awaited, __ATOMIC_ACQUIRE) == 1)
        spin_while(world, &world->awaited, 1);
    while ((awaited = __atomic_load_n(&world->awaited, __ATOMIC_ACQUIRE)) != 0) {
        uint64_t late = gci_clock_ns() - start, next = (seconds + 1) * SECOND;
        if (__atomic_exchange_n(&world->failed, 0, __ATOMIC_ACQUIRE) != 0)
            signal_again(world);
        else if (late < next)
            gci_futex_wait(&world->awaited, awaited, next - late);
        else
            remind(world, ++seconds);
    }
}

/* A thread of the program's that let go of the lock often does the last part of what it took it for
 * right after, and waking who waits may have cost it its CPU (docs/boehm.md, rule 43). */
static void let_it_finish(struct gci_world *world) {
    const uint32_t nothing = 0;
    if (!world->handed_over) return;
    world->handed_over = false;
    gci_futex_wait(&nothing, 0, GRACE_NS);
}

void gci_world_stop(struct gci_world *world, struct gci_mutator *self) {
    __atomic_store_n(&world->stopped, true, __ATOMIC_RELAXED);
    if (world->first == NULL || (world->first == self && self->next == NULL)) return;
    int saved_errno = errno;
    let_it_finish(world);
    if (world->signal != 0) check_handler(world);
    __atomic_store_n(&world->crowded, true, __ATOMIC_RELAXED);
    unsigned running = 1;
    for (struct gci_mutator *m = world->first; m != NULL; m = m->next)
        running += m != self && request(world, m);
    bool crowded = running > world->cpus;
    __atomic_store_n(&world->crowded, crowded, __ATOMIC_RELAXED);
    if (!crowded) wait_for_allocators(world);
    if (world->signal != 0) {
        __atomic_store_n(&world->unsent, world->first, __ATOMIC_RELEASE);
        for (struct gci_mutator *m; (m = next_unsent(world)) != NULL;)
            if (state_of(m) == GCI_REQUESTED) request_by_signal(world, m);
    }
    await(world);
    errno = saved_errno;
}

void gci_world_start(struct gci_world *world, struct gci_mutator *self) {
    for (struct gci_mutator *m = world->first, *next; m != NULL; m = next) {
        next = m->next;
        if (m == self) continue;
        if (m->vanished) {
            gci_world_remove(world, m);
            continue;
        }
        __atomic_store_n(m->poll, 0, __ATOMIC_RELAXED);
        bool parked = state_of(m) == GCI_STOPPED; /* one that is HELD waits for the lock */
        if (parked && m->suspended != 0) continue;
        __atomic_store_n(&m->state, parked ? GCI_RUNNING : GCI_BLOCKING, __ATOMIC_RELEASE);
        if (parked) gci_futex_wake(&m->state, 1);
    }
    __atomic_store_n(&world->stopped, false, __ATOMIC_RELAXED);
}

/* ---- Suspending ------------------------------------------------------------------------------- */

static struct gci_mutator *mutator_of(const struct gci_world *world, uintptr_t thread_pointer) {
    struct gci_mutator *m = world->first;
    while (m != NULL && (m->thread_pointer != thread_pointer || m->vanished)) m = m->next;
    return m;
}

bool gci_mutator_suspend(struct gci_world *world, uintptr_t thread_pointer) {
    struct gci_mutator *m = mutator_of(world, thread_pointer);
    if (m != NULL) __atomic_store_n(&m->suspended, 1, __ATOMIC_RELEASE);
    return m != NULL;
}

bool gci_mutator_resume(struct gci_world *world, uintptr_t thread_pointer) {
    struct gci_mutator *m = mutator_of(world, thread_pointer);
    if (m == NULL) return false;
    __atomic_store_n(&m->suspended, 0, __ATOMIC_RELEASE);
    gci_futex_wake(&m->suspended, 1);
    if (state_of(m) == GCI_STOPPED) {
        __atomic_store_n(m->poll, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->state, GCI_RUNNING, __ATOMIC_RELEASE);
        gci_futex_wake(&m->state, 1);
    }
    return true;
}

bool gci_mutator_is_suspended(const struct gci_world *world, uintptr_t thread_pointer) {
    const struct gci_mutator *m = mutator_of(world, thread_pointer);
    return m != NULL && m->suspended != 0;
}

/* ---- The list ------------------------------------------------------------------------------- */

int gci_mutator_init(struct gci_mutator *mutator, struct gci_world *world, uint32_t *poll) {
    const uintptr_t *lowest, *base = gci_stack_base(&lowest);
    if (base == NULL) return ENOMEM;
    *mutator = (struct gci_mutator){.world = world,
        .poll = poll,
        .tid = (pid_t)syscall(SYS_gettid),
        .thread_pointer = gci_thread_pointer(),
        .stack = {.low = (uintptr_t)lowest, .high = (uintptr_t)base}};
    stack_t other;
    if (sigaltstack(NULL, &other) == 0) note_other_stack(mutator, &other);
    return 0;
}

void gci_world_add(struct gci_world *world, struct gci_mutator *mutator) {
    mutator->prev = NULL;
    mutator->next = world->first;
    if (world->first != NULL) world->first->prev = mutator;
    world->first = mutator;
    __atomic_store_n(&world->count, world->count + 1, __ATOMIC_RELAXED);
}

void gci_world_remove(struct gci_world *world, struct gci_mutator *mutator) {
    if (mutator->prev != NULL)
        mutator->prev->next = mutator->next;
    else
        world->first = mutator->next;
    if (mutator->next != NULL) mutator->next->prev = mutator->prev;
    __atomic_store_n(&world->count, world->count - 1, __ATOMIC_RELAXED);
}

void gci_world_after_fork(struct gci_world *world, struct gci_mutator *self,
    void (*drop)(void *context, struct gci_mutator *mutator), void *context) {
    for (struct gci_mutator *m = world->first, *next; m != NULL; m = next) {
        next = m->next;
        if (m == self) continue;
        gci_world_remove(world, m);
        drop(context, m);
    }
    if (self != NULL) {
        self->tid = (pid_t)syscall(SYS_gettid);
        change_state(self, GCI_HELD, GCI_BLOCKING); /* the stopper is no more */
        change_state(self, GCI_REQUESTED, GCI_RUNNING);
    }
    world->awaited = world->entering = world->lock = 0;
}

/* ---- Stacks --------------------------------------------------------------------------------- */

static bool holds(const struct gc_stack *stack, uintptr_t address) {
    return address - stack->low < stack->high - stack->low;
}

/* Where the mutator's live part of the stack it runs on begins. */
static uintptr_t top_of(const struct gci_mutator *mutator) {
    return mutator->interruption.valid ? mutator->interruption.stack_pointer : mutator->scan_from;
}

/* Does the mutator run on its alternate signal stack, in a handler of the program's?  That may lie
 * inside another stack; where this was left isn't known then. */
static bool runs_on_other(const struct gci_mutator *mutator) {
    const struct gci_interruption *at = &mutator->interruption;
    return at->valid && at->stack_pointer - at->other_low < at->other_high - at->other_low;
}

/* Does it run on STACK, so that only what is above its stack pointer is live? */
static bool runs_on(const struct gci_mutator *mutator, const struct gc_stack *stack) {
    return holds(stack, top_of(mutator)) && !runs_on_other(mutator);
}

/* The stack that holds ADDRESS: one of the mutator's own, or a registered one. */
static struct gc_stack *stack_at(
    const struct gci_world *world, const struct gci_mutator *mutator, uintptr_t address) {
    if (holds(&mutator->alternate, address)) return (struct gc_stack *)&mutator->alternate;
    if (holds(&mutator->stack, address)) return (struct gc_stack *)&mutator->stack;
    for (struct gc_stack *s = world->stacks; s != NULL; s = s->next)
        if (holds(s, address)) return s;
    return NULL;
}

const struct gci_mutator *gci_mutator_at(const struct gci_world *world, uintptr_t address) {
    for (const struct gci_mutator *m = world->first; m != NULL; m = m->next) {
        const struct gc_stack *s = stack_at(world, m, top_of(m));
        if (holds(&m->stack, address) || (s != NULL && holds(s, address))) return m;
    }
    return NULL;
}

bool gci_frame_is_stale(
    const struct gci_world *world, const struct gci_mutator *mutator, const void *frame) {
    uintptr_t top = top_of(mutator), address = (uintptr_t)frame;
    if (mutator->interruption.valid) top -= RED_ZONE;
    const struct gc_stack *running = runs_on_other(mutator) ? NULL : stack_at(world, mutator, top);
    return running != NULL && holds(running, address) && address < top;
}

static void visit_range(uintptr_t start, uintptr_t end, gci_root_visitor *visit, void *context) {
    start &= ~(uintptr_t)(sizeof(uintptr_t) - 1);
    if (start < end)
        visit(context, GCI_ROOT_STACK, (const uintptr_t *)start, (const uintptr_t *)end);
}

static void visit_registers(const uintptr_t *registers, gci_root_visitor *visit, void *context) {
    visit(context, GCI_ROOT_STACK, registers, registers + GCI_FRAME_WORDS);
}

/* A stack that its mutator or coroutine has left.  OWNER: a thread's own, at whose top its
 * gc_buffers may be. */
static void visit_left(const struct gc_stack *stack, uintptr_t low, const struct gci_mutator *owner,
    gci_root_visitor *visit, void *context) {
    if (owner != NULL)
        gci_visit_without_buffers(
            owner->thread_pointer, low, stack->high, GCI_ROOT_STACK, visit, context);
    else
        visit_range(low, stack->high, visit, context);
    visit_registers(stack->registers, visit, context);
}

/* The first thread's stack may grow beyond the limit that held when it was attached. */
static bool has_grown_to(const struct gci_mutator *mutator, uintptr_t address) {
    const struct gc_stack *own = &mutator->stack;
    return mutator->tid == getpid() && address < own->low && own->low - address < GROWTH &&
           gci_stack_extent(address, own->high) <= address;
}

uintptr_t gci_stack_end(
    const struct gci_world *world, const struct gci_mutator *mutator, uintptr_t address) {
    const struct gc_stack *stack = stack_at(world, mutator, address);
    if (stack == NULL && has_grown_to(mutator, address)) stack = &mutator->stack;
    return stack != NULL ? stack->high : 0;
}

void gci_mutator_visit(struct gci_world *world, const struct gci_mutator *mutator,
    gci_root_visitor *visit, void *context) {
    const struct gci_interruption *at = &mutator->interruption;
    const struct gc_stack *own = &mutator->stack;
    uintptr_t top = top_of(mutator);
    const struct gc_stack *running = runs_on_other(mutator) ? NULL : stack_at(world, mutator, top);
    bool on_other = at->valid && at->context - at->other_low < at->other_high - at->other_low;
    if (running == NULL && !on_other && has_grown_to(mutator, top)) running = own;
    const struct gc_stack told = {.low = 0, .high = mutator->bottom};
    if (running == NULL && !on_other && top < told.high) running = &told;
    if (running == NULL && !on_other)
        gci_fatal("thread %d is stopped for a collection on a stack that is neither its own, "
                  "[%p, %p), nor registered with gc_stack_register(), nor an alternate signal "
                  "stack that the "
                  "kernel still knows: at %p",
            (int)mutator->tid, (void *)own->low, (void *)own->high, (void *)top);
    if (on_other) visit_range(at->context, at->other_high, visit, context);
    if (running != NULL) {
        uintptr_t from = at->valid ? (on_other ? top - RED_ZONE : at->context) : top;
        if (from < running->low && top >= running->low) from = running->low;
        from &= ~(uintptr_t)(sizeof(uintptr_t) - 1);
        gci_visit_without_buffers(
            mutator->thread_pointer, from, running->high, GCI_ROOT_STACK, visit, context);
    }
    if (running != own) {
        uintptr_t low = own->resume_from;
        if (low == 0) low = gci_stack_extent(own->low, own->high);
        visit_left(own, low, mutator, visit, context);
    }
    if (__atomic_load_n(&mutator->blocking, __ATOMIC_RELAXED) > 0)
        visit_registers(mutator->registers, visit, context);
}

/* Where the signal met the thread: the address of an instruction, where gci_unwind() expects that
 * of the one after a call. */
static bool interrupted_registers(
    const struct gci_interruption *at, struct gci_registers *registers, uintptr_t *low) {
#if defined(__x86_64__)
    static const uint8_t place[] = {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15};
    const ucontext_t *user = (const ucontext_t *)at->context;
    for (unsigned i = 0; i < sizeof place; i++)
        registers->saved[i] = (uintptr_t)user->uc_mcontext.gregs[place[i]];
    registers->known = (1u << sizeof place) - 1;
    registers->pc = (uintptr_t)user->uc_mcontext.gregs[REG_RIP] + 1;
    registers->sp = at->stack_pointer;
    bool on_other = at->context - at->other_low < at->other_high - at->other_low;
    *low = on_other ? at->stack_pointer - RED_ZONE : at->context;
    return true;
#else
    (void)at, (void)registers, (void)low;
    return false;
#endif
}

bool gci_mutator_registers(
    const struct gci_mutator *m, struct gci_registers *registers, uintptr_t *low) {
    if (!gci_can_unwind() || m->vanished || m->leaves ||
        __atomic_load_n(&m->blocking, __ATOMIC_RELAXED) > 0)
        return false;
    if (m->interruption.valid) return interrupted_registers(&m->interruption, registers, low);
    gci_registers_at_entry(registers, (const struct gci_frame *)m->scan_from);
    *low = m->scan_from;
    return true;
}

/* Of a registered stack on which a mutator runs, gci_mutator_visit() has done the live part. */
void gci_stacks_visit(struct gci_world *world, gci_root_visitor *visit, void *context) {
    for (const struct gc_stack *s = world->stacks; s != NULL; s = s->next) {
        const struct gci_mutator *m = world->first;
        while (m != NULL && !runs_on(m, s)) m = m->next;
        if (m == NULL) visit_left(s, s->resume_from, NULL, visit, context);
    }
}

static struct gc_stack *new_stack(struct gci_world *world) {
    if (world->free_stacks == NULL) {
        size_t bytes = gci_page_size(), count = bytes / sizeof(struct gc_stack);
        struct gc_stack *fresh = gci_vm_map(bytes);
        if (fresh == NULL) return NULL;
        for (size_t i = 0; i < count; i++) {
            fresh[i].next = world->free_stacks;
            world->free_stacks = &fresh[i];
        }
    }
    struct gc_stack *stack = world->free_stacks;
    world->free_stacks = stack->next;
    return stack;
}

struct gc_stack *gci_stack_add(struct gci_world *world, uintptr_t low, size_t bytes, int *error) {
    uintptr_t high = (low + bytes) & ~(uintptr_t)(sizeof(uintptr_t) - 1);
    low = (low + sizeof(uintptr_t) - 1) & ~(uintptr_t)(sizeof(uintptr_t) - 1);
    *error = EINVAL;
    if (low == 0 || bytes == 0 || high <= low) return NULL;
    for (const struct gc_stack *s = world->stacks; s != NULL; s = s->next)
        if (low < s->high && s->low < high) return NULL;
    *error = ENOMEM;
    struct gc_stack *stack = new_stack(world);
    if (stack == NULL) return NULL;
    *stack = (struct gc_stack){.next = world->stacks, .low = low, .high = high, .resume_from = low};
    world->stacks = stack;
    return stack;
}

int gci_stack_remove(
    struct gci_world *world, struct gci_mutator *self, struct gc_stack *stack, const void *frame) {
    struct gc_stack **link = &world->stacks;
    if (stack == NULL) return EINVAL;
    for (const struct gci_mutator *m = world->first; m != NULL; m = m->next)
        if (m != self && m->switched_to == stack) return EBUSY;
    if (holds(stack, (uintptr_t)frame)) return EBUSY;
    while (*link != NULL && *link != stack) link = &(*link)->next;
    if (*link == NULL) return EINVAL;
    *link = stack->next;
    for (struct gci_mutator *m = world->first; m != NULL; m = m->next)
        if (m->switched_to == stack) m->switched_to = NULL;
    stack->next = world->free_stacks;
    world->free_stacks = stack;
    return 0;
}

__attribute__((no_sanitize("address"))) void gci_copy_registers(
    const struct gci_mutator *mutator, uintptr_t *to, const void *frame) {
    const volatile uintptr_t *from = frame;
    for (unsigned i = 0; i < GCI_FRAME_WORDS; i++) {
        bool inside = !holds(&mutator->stack, (uintptr_t)frame) ||
                      holds(&mutator->stack, (uintptr_t)(from + i));
        to[i] = inside ? from[i] : 0;
    }
}

/* The stack on which SELF is, at FRAME: the one it said it would switch to, or another. */
static struct gc_stack *present_stack(struct gci_mutator *self, const void *frame) {
    if (self->switched_to != NULL && holds(self->switched_to, (uintptr_t)frame))
        return self->switched_to;
    gci_world_lock(self->world, self);
    struct gc_stack *stack = stack_at(self->world, self, (uintptr_t)frame);
    gci_world_unlock(self->world);
    return stack;
}

void gci_stack_leave(struct gci_mutator *self, struct gc_stack *to, const void *frame) {
    struct gc_stack *from = present_stack(self, frame);
    if (from == NULL)
        gci_fatal("gc_stack_switch(): called on a stack that is neither the thread's own nor "
                  "registered, at %p",
            frame);
    uintptr_t low = (uintptr_t)frame - SWITCHING;
    from->resume_from = low < from->low ? from->low : low;
    gci_copy_registers(self, from->registers, frame);
    if (to == NULL) to = &self->stack;
    self->switched_to = to;
    if (to == from) return;
    from->frames = gc_buffers.frames;
    gc_buffers.frames = to->frames;
    to->frames = NULL;
    /* While it runs, and if it is left without a word, all of it counts. */
    to->resume_from = to == &self->stack ? 0 : to->low;
}
