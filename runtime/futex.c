/* Futexes: see futex.h.  Owns nothing.  Called from everywhere, signal handlers included. */
#define _GNU_SOURCE
#include "runtime/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

bool gci_futex_wait(const uint32_t *word, uint32_t value, uint64_t ns) {
    int saved_errno = errno;
    struct timespec timeout = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    long result = syscall(
        SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns == GCI_FOREVER ? NULL : &timeout, NULL, 0);
    bool late = result != 0 && errno == ETIMEDOUT;
    errno = saved_errno;
    return !late;
}

void gci_futex_wake(const uint32_t *word, uint32_t count) {
    int saved_errno = errno;
    syscall(
        SYS_futex, word, FUTEX_WAKE_PRIVATE, count > INT_MAX ? INT_MAX : (int)count, NULL, NULL, 0);
    errno = saved_errno;
}

void gci_lock_wait(gci_lock *lock) {
    while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE) != 0)
        gci_futex_wait(lock, 2, GCI_FOREVER);
}

void gci_unlock(gci_lock *lock) {
    if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) == 2) gci_futex_wake(lock, 1);
}
