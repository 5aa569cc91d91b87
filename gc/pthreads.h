/* Making and joining threads that use the heap, and the calls that set or wait for signals, as
 * gc_pthread_create() and its like in gc.h have them. */
#ifndef CAIRN_GC_PTHREADS_H
#define CAIRN_GC_PTHREADS_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "runtime/roots.h"

/* pthread_create() for a program whose threads are attached as they come: as gc_pthread_create(),
 * but doesn't open the heap.  A thread that starts before there is one is attached at its first
 * allocation; its result is a root all the same. */
int gci_pthread_create_auto(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

/* The C library's own, for threads that the heap shall not know. */
int gci_real_pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

/* As the functions whose names they have, but the stop signal isn't blocked by MASK. */
int gci_ppoll(
    struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
int gci_pselect(int count, fd_set *read, fd_set *write, fd_set *except,
    const struct timespec *timeout, const sigset_t *mask);
int gci_epoll_pwait(
    int epoll, struct epoll_event *events, int count, int milliseconds, const sigset_t *mask);

/* Visits arguments of threads that aren't attached yet, and results of those that aren't joined.
 * The world is stopped. */
void gci_pthreads_visit(gci_root_visitor *visit, void *context);

/* Around a fork(), the world's lock held; CHILD: in it, where only the calling thread is left.  In
 * a child that was made without the first call the second alone. */
void gci_pthreads_before_fork(void);
void gci_pthreads_after_fork(bool child);

/* Start records that exist, and those of them that are in use: for tests. */
void gci_pthreads_count(size_t *exist, size_t *used);

#endif
