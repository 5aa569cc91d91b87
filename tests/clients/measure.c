/* Runs a program and says what it took.
 *
 *     measure SECONDS OUTPUT COMMAND...
 *
 * The command's standard output and error go to the file OUTPUT, and its input is empty; it's killed
 * after so many seconds. Prints its wall time and its processor time, in seconds, its largest
 * resident set in KiB, and its exit status, or 128 and the signal that ended it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static pid_t child;

static void on_alarm(int s) {
    (void)s;
    kill(child, SIGKILL);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: measure SECONDS OUTPUT COMMAND...\n");
        return 2;
    }
    int input = open("/dev/null", O_RDONLY);
    int output = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (input < 0 || output < 0) {
        perror(argv[2]);
        return 2;
    }
    double began = now();
    child = fork();
    if (child < 0) {
        perror("fork");
        return 2;
    }
    if (child == 0) {
        dup2(input, STDIN_FILENO);
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    const struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    alarm((unsigned)atoi(argv[1]));
    int status;
    struct rusage used;
    if (wait4(child, &status, 0, &used) != child) {
        perror("wait4");
        return 2;
    }
    printf("%.4f %.4f %ld %d\n", now() - began, seconds(used.ru_utime) + seconds(used.ru_stime),
        used.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}
