/* Running tests in child processes: see child.h. The child's standard output and error go to one
 * pipe, which the parent reads to its end and shows. A child that hangs is ended by its alarm. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILED  97
#define SKIPPED 98

void child_fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    fflush(NULL);
    _exit(FAILED);
}

void child_skip(const char *why) {
    fprintf(stderr, "skipped: %s\n", why);
    fflush(NULL);
    _exit(SKIPPED);
}

/* The options that the suite itself runs under would make nonsense of what a test expects. */
static void clear_options(void) {
    for (char **entry = environ; *entry != NULL;) {
        char name[64];
        const char *end = strchr(*entry, '=');
        size_t length = end != NULL ? (size_t)(end - *entry) : 0;
        entry++;
        if (length >= sizeof name || strncmp(entry[-1], "CAIRN_", 6) != 0) continue;
        if (strncmp(entry[-1], "CAIRN_TEST_", 11) == 0) continue;
        memcpy(name, entry[-1], length);
        name[length] = '\0';
        unsetenv(name);
        entry = environ;
    }
}

/* Options that all tests are to run under are the words of CAIRN_TEST_OPTIONS, "NAME=value". */
static void set_common_options(void) {
    const char *words = getenv("CAIRN_TEST_OPTIONS");
    if (words == NULL) return;
    char *copy = strdup(words), *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (strchr(word, '=') != NULL) putenv(word);
}

static void be_child(child_function *function, const char *const *environment, int output) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    close(output);
    for (int s = 1; s < 32; s++) /* cmocka's handlers are the parent's */
        if (s != SIGKILL && s != SIGSTOP) signal(s, SIG_DFL);
    alarm(CHILD_SECONDS);
    clear_options();
    set_common_options();
    for (size_t i = 0; environment != NULL && environment[i] != NULL; i++)
        putenv((char *)(uintptr_t)environment[i]);
    function();
    fflush(NULL);
    _exit(0);
}

static void read_all(int from, char *text, size_t room) {
    size_t length = 0;
    char rest[4096];
    for (;;) {
        bool keep = length + 1 < room;
        ssize_t n =
            keep ? read(from, text + length, room - 1 - length) : read(from, rest, sizeof rest);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (keep) length += (size_t)n;
    }
    text[length] = '\0';
}

void child_run(
    struct child_result *result, child_function *function, const char *const *environment) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        be_child(function, environment, ends[1]);
    }
    close(ends[1]);
    read_all(ends[0], result->output, sizeof result->output);
    close(ends[0]);
    while (waitpid(child, &result->status, 0) < 0) assert_int_equal(errno, EINTR);
}

void child_test(void **state) {
    const struct child_test *test = *state;
    static struct child_result result;
    child_run(&result, test->function, test->environment);
    if (*result.output != '\0') print_message("%s", result.output);
    int status = result.status;
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) skip();
    if (test->aborts) {
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            fail_msg("no abort (status %#x)", (unsigned)status);
    } else if (WIFSIGNALED(status)) {
        fail_msg("died of signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status) != 0) {
        fail_msg("exit status %d", WEXITSTATUS(status));
    }
    if (test->says != NULL && strstr(result.output, test->says) == NULL)
        fail_msg("the output has no \"%s\"", test->says);
}
