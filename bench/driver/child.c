/* Runs one child process and measures it.
 *
 * The driver keeps SIGCHLD and the signals that ask it to stop blocked and takes them with
 * sigtimedwait(), so no handler runs and nothing is ever interrupted: a child ends, the time is up,
 * or the user has had enough.  Output is read when the child is gone; what it writes fits into a
 * pipe. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/driver/driver.h"

/* Set once by child_setup(). */
static sigset_t awaited, original;

void child_setup(void) {
    static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++) {
        struct sigaction action;
        sigaction(stopping[i], NULL, &action);
        if (action.sa_handler != SIG_IGN) sigaddset(&awaited, stopping[i]);
    }
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &awaited, &original);
}

void child_end_by_signal(int number) {
    signal(number, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(128 + number);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static void set_error(struct child_result *result, const char *format, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static void set_error(struct child_result *result, const char *format, ...) {
    va_list arguments;
    result->ok = false;
    va_start(arguments, format);
    vsnprintf(result->error, sizeof result->error, format, arguments);
    va_end(arguments);
}

static _Noreturn void become(char *const *arguments, char *setting, int output) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output, STDOUT_FILENO);
    sigprocmask(SIG_SETMASK, &original, NULL);
    if (setting != NULL) putenv(setting);
    execv(arguments[0], arguments);
    complain("can't run %s: %s", arguments[0], strerror(errno));
    _exit(127);
}

/* Waits for the child.  Returns 0 and fills *STATUS and *USAGE; *LATE says that it was killed for
 * its time was up.  Or returns the signal that asked the driver to stop. */
static int await(pid_t child, double deadline, int *status, struct rusage *usage, bool *late) {
    for (;;) {
        if (wait4(child, status, WNOHANG, usage) == child) {
            /* A terminal's Ctrl-C reaches both, and the child may be the faster to go. */
            bool stopping = WIFSIGNALED(*status) && WTERMSIG(*status) != SIGCHLD &&
                            sigismember(&awaited, WTERMSIG(*status)) == 1;
            return stopping ? WTERMSIG(*status) : 0;
        }
        double left = deadline - seconds_now();
        if (left <= 0) {
            *late = true;
            kill(child, SIGKILL);
            while (wait4(child, status, 0, usage) < 0 && errno == EINTR) continue;
            return 0;
        }
        struct timespec timeout = {
            .tv_sec = (time_t)left, .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
        int number = sigtimedwait(&awaited, NULL, &timeout);
        if (number <= 0 || number == SIGCHLD) continue;
        kill(child, SIGKILL);
        while (wait4(child, status, 0, usage) < 0 && errno == EINTR) continue;
        return number;
    }
}

static void read_output(int input, struct child_result *result) {
    size_t length = 0;
    fcntl(input, F_SETFL, O_NONBLOCK);
    while (length < sizeof result->output - 1) {
        ssize_t n = read(input, result->output + length, sizeof result->output - 1 - length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        length += (size_t)n;
    }
    result->output[length] = '\0';
}

static void judge(int status, bool late, double timeout_s, struct child_result *result) {
    result->ok = true;
    if (late) {
        set_error(result, "not done after %g seconds, killed", timeout_s);
    } else if (WIFSIGNALED(status)) {
        set_error(
            result, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else if (WEXITSTATUS(status) != 0) {
        set_error(result, "exit status %d", WEXITSTATUS(status));
    }
}

int child_run(
    char *const *arguments, char *setting, double timeout_s, struct child_result *result) {
    *result = (struct child_result){0};
    for (int i = 0; i < METRICS; i++) result->value[i] = NAN;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        set_error(result, "pipe: %s", strerror(errno));
        return 0;
    }
    double start = seconds_now();
    pid_t child = fork();
    if (child == 0) become(arguments, setting, ends[1]);
    close(ends[1]);
    if (child < 0) {
        set_error(result, "fork: %s", strerror(errno));
        close(ends[0]);
        return 0;
    }
    int status = 0;
    bool late = false;
    struct rusage usage;
    int stopped = await(child, start + timeout_s, &status, &usage, &late);
    if (stopped == 0) {
        result->value[WALL_S] = seconds_now() - start;
        result->value[CPU_S] = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
        result->value[PEAK_RSS_KB] = (double)usage.ru_maxrss;
        read_output(ends[0], result);
        judge(status, late, timeout_s, result);
    }
    close(ends[0]);
    return stopped;
}
