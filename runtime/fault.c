/* The process's SIGSEGV handler.  Owns it, the list of those who are asked, and what the program
 * had installed before.  Called by the barrier and by gc/quarantine.c with the world stopped, or at
 * opening; and by the kernel.  Invariant: while the list is not empty the handler is installed,
 * unless the program has replaced it since. */
#define _GNU_SOURCE
#include "runtime/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/globals.h"

enum { SERVERS_MAX = 4 };

static GCI_GLOBAL gci_fault_server *servers[SERVERS_MAX]; /* read by handlers at any time */
static GCI_GLOBAL struct sigaction previous; /* the program's own; set before ours is installed */

/* Whether the fault was a write; true where the machine doesn't tell. */
static bool is_write(const void *context) {
#if defined(__x86_64__)
    const ucontext_t *user = context;
    return (user->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
    return true;
#endif
}

/* The one that was added last is asked first. */
static bool serve_any(const siginfo_t *info, const void *context) {
    if (info->si_code != SEGV_ACCERR) return false;
    for (int i = SERVERS_MAX; i-- > 0;) {
        gci_fault_server *server = __atomic_load_n(&servers[i], __ATOMIC_ACQUIRE);
        if (server != NULL && server((uintptr_t)info->si_addr, is_write(context))) return true;
    }
    return false;
}

/* Gives the signal to whoever had it before, as if we weren't there.  With no handler, the
 * default is restored and the fault comes again, so that the core dump shows the program and not
 * us. */
static void pass_on(int number, siginfo_t *info, void *context, bool chained) {
    struct sigaction to = previous;
    bool sent = info->si_code <= 0; /* by kill(2) and the like: it won't come again */
    if (chained) to = (struct sigaction){.sa_handler = SIG_DFL};
    if (to.sa_handler == SIG_IGN && sent) return;
    if (to.sa_handler == SIG_DFL || to.sa_handler == SIG_IGN) {
        struct sigaction fallback = {.sa_handler = SIG_DFL};
        sigaction(number, &fallback, NULL);
        if (sent) syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
        return;
    }
    if ((to.sa_flags & SA_RESETHAND) != 0) previous.sa_handler = SIG_DFL;
    const ucontext_t *user = context;
    sigset_t mask = to.sa_mask;
    for (int i = 1; i <= 64; i++) { /* the kernel fills in no more of uc_sigmask */
        if (sigismember(&user->uc_sigmask, i) == 1) sigaddset(&mask, i);
    }
    if ((to.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, number);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if ((to.sa_flags & SA_SIGINFO) != 0) {
        to.sa_sigaction(number, info, context);
    } else {
        to.sa_handler(number);
    }
}

/* Were we called by a handler that had replaced ours and kept it to pass on to, not by the kernel,
 * which puts the context just above the handler's frame?  To pass the fault back would go on for
 * ever. */
static bool is_chained(const void *context, const void *frame) {
#if defined(__x86_64__)
    return (uintptr_t)context != (uintptr_t)frame + 16;
#else
    (void)context, (void)frame;
    return false;
#endif
}

static void on_fault(int number, siginfo_t *info, void *context) {
    int saved_errno = errno;
    bool chained = is_chained(context, __builtin_frame_address(0));
    if (!serve_any(info, context)) {
        errno = saved_errno;
        pass_on(number, info, context, chained);
    }
    errno = saved_errno;
}

static bool is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_fault;
}

/* All signals are blocked while it runs: a thread can't be stopped half-way through
 * (docs/barrier.md, rule 6). Called again at each collection: a handler that the program installed
 * since gets what ours has no use for. */
static int install(void) {
    struct sigaction current, ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(SIGSEGV, NULL, &current) != 0) return errno;
    if (is_ours(&current)) return 0;
    previous = current;
    ours.sa_sigaction = on_fault;
    sigfillset(&ours.sa_mask);
    return sigaction(SIGSEGV, &ours, NULL) == 0 ? 0 : errno;
}

/* A handler that the program installed over ours stays. */
static void uninstall(void) {
    struct sigaction current;
    if (sigaction(SIGSEGV, NULL, &current) == 0 && is_ours(&current)) {
        sigaction(SIGSEGV, &previous, NULL);
    }
}

int gci_fault_serve(gci_fault_server *server) {
    int slot = 0;
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (servers[i] == server) return install();
        if (servers[i] != NULL) slot = i + 1;
    }
    if (slot == SERVERS_MAX) return EMFILE;
    int error = install();
    if (error == 0) __atomic_store_n(&servers[slot], server, __ATOMIC_RELEASE);
    return error;
}

void gci_fault_leave(gci_fault_server *server) {
    bool last = true;
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (servers[i] == server) __atomic_store_n(&servers[i], NULL, __ATOMIC_RELEASE);
        if (servers[i] != NULL) last = false;
    }
    if (last) uninstall();
}

void gci_fault_install(void) {
    (void)install();
}
