/* Files that the library writes: see file.h.  Owns nothing: a struct gci_file is its caller's. */
#define _GNU_SOURCE
#include "runtime/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* System calls by their numbers: the C library's functions of these names are cancellation
 * points. */
int gci_fd_open(const char *path, int flags) {
    long fd = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0666);
    return fd >= 0 ? (int)fd : -errno;
}

int gci_fd_close(int fd) {
    return syscall(SYS_close, fd) == 0 || errno == EINTR ? 0 : errno;
}

/* A write beyond RLIMIT_FSIZE, or to a pipe without a reader, has left a signal behind. */
static void take_back_signal(int number) {
    const struct timespec now = {0, 0};
    uint64_t set = UINT64_C(1) << (number - 1);
    (void)syscall(SYS_rt_sigtimedwait, &set, NULL, &now, sizeof set);
}

int gci_fd_write(int fd, const void *from, size_t bytes, uint64_t at) {
    const char *text = from;
    while (bytes > 0) {
        long written = at != GCI_NO_POSITION ? syscall(SYS_pwrite64, fd, text, bytes, at)
                                             : syscall(SYS_write, fd, text, bytes);
        if (written < 0 && errno == EINTR) continue;
        int error = written < 0 ? errno : ENOSPC;
        if (error == EFBIG) take_back_signal(SIGXFSZ);
        if (error == EPIPE) take_back_signal(SIGPIPE);
        if (written <= 0) return error;
        text += written, bytes -= (size_t)written;
        if (at != GCI_NO_POSITION) at += (uint64_t)written;
    }
    return 0;
}

/* O_NONBLOCK: opening a pipe that nobody reads would wait. */
int gci_file_create(struct gci_file *file, const char *path) {
    struct stat found;
    int saved_errno = errno, error = 0;
    *file = (struct gci_file){.fd = -1};
    int fd = gci_fd_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        error = -fd;
    else if (fstat(fd, &found) != 0)
        error = errno;
    else if (!S_ISREG(found.st_mode) && !S_ISCHR(found.st_mode))
        error = EINVAL;
    if (error == 0)
        *file = (struct gci_file){fd, S_ISREG(found.st_mode), found.st_dev, found.st_ino, 0};
    else if (fd >= 0)
        (void)gci_fd_close(fd);
    errno = saved_errno;
    return error;
}

static bool is_still(const struct gci_file *file) {
    struct stat found;
    return fstat(file->fd, &found) == 0 && found.st_dev == file->device &&
           found.st_ino == file->number;
}

int gci_file_append(struct gci_file *file, const char *text, size_t bytes, const char *trailer,
    size_t trailer_bytes) {
    int saved_errno = errno, error = is_still(file) ? 0 : EBADF;
    if (error == 0)
        error = gci_fd_write(file->fd, text, bytes, file->seeks ? file->end : GCI_NO_POSITION);
    if (error == 0) file->end += bytes;
    if (error == 0 && file->seeks)
        error = gci_fd_write(file->fd, trailer, trailer_bytes, file->end);
    errno = saved_errno;
    return error;
}

void gci_file_close(struct gci_file *file) {
    int saved_errno = errno;
    if (file->fd >= 0 && is_still(file)) (void)gci_fd_close(file->fd);
    file->fd = -1;
    errno = saved_errno;
}

void gci_thread_name(uint32_t tid, char *name, size_t room) {
    int saved_errno = errno;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%u/comm", tid);
    name[0] = '\0';
    int fd = gci_fd_open(path, O_RDONLY);
    if (fd >= 0) {
        long bytes = syscall(SYS_read, fd, name, room - 1);
        if (bytes > 0 && name[bytes - 1] == '\n') bytes--;
        name[bytes > 0 ? bytes : 0] = '\0';
        (void)gci_fd_close(fd);
    }
    errno = saved_errno;
}

uint32_t gci_process_id(void) {
    return (uint32_t)getpid();
}

uint32_t gci_thread_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

/* Not strerror(), which may call malloc. */
const char *gci_error_name(int error) {
    const char *text = strerrordesc_np(error);
    return text != NULL ? text : "unknown error";
}

void gci_pause_ns(uint64_t ns) {
    int saved_errno = errno;
    struct timespec time = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    (void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL);
    errno = saved_errno;
}
