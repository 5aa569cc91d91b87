/* Waiting and waking on a word of memory, and a lock made of it, for places where pthread's own may
 * not be used: signal handlers, and wherever malloc is out of the question.  errno is kept. */
#ifndef CAIRN_RUNTIME_FUTEX_H
#define CAIRN_RUNTIME_FUTEX_H

#include <stdbool.h>
#include <stdint.h>

#define GCI_FOREVER UINT64_MAX

/* Sleeps while *WORD is VALUE, until woken or for NS nanoseconds; may return early.  No
 * cancellation point.  False if the time was up. */
bool gci_futex_wait(const uint32_t *word, uint32_t value, uint64_t ns);
/* Wakes up to COUNT threads that sleep on WORD. */
void gci_futex_wake(const uint32_t *word, uint32_t count);

/* A lock: 0 free, 1 held, 2 held and perhaps waited for (Drepper: Futexes are tricky, 2011).  Not
 * recursive.  A holder may not be stopped or interrupted by anything that takes it, which is its
 * caller's business. */
typedef uint32_t gci_lock;

void gci_lock_wait(gci_lock *lock);
void gci_unlock(gci_lock *lock);

static inline bool gci_lock_is_awaited(const gci_lock *lock) {
    return __atomic_load_n(lock, __ATOMIC_RELAXED) == 2;
}

static inline bool gci_lock_try(gci_lock *lock) {
    uint32_t free = 0;
    return __atomic_compare_exchange_n(lock, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void gci_lock_take(gci_lock *lock) {
    if (!gci_lock_try(lock)) gci_lock_wait(lock);
}

#endif
