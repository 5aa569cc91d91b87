/* Tests that run in a process of their own. A heap can be opened once in a process, options come
 * from the environment, and much of what is tested ends in abort(), so that nearly every test
 * function runs in a forked child, whose parent has no heap: a function without arguments, listed
 * in main() with CHILD_TEST() or CHILD_ABORT(), that says what must hold with REQUIRE(). */
#ifndef CAIRN_TESTS_CHILD_H
#define CAIRN_TESTS_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

typedef void child_function(void);

#define CHILD_VARIABLES 8

/* A child that hangs is ended after so long: far more than any takes on a slow and busy machine. For
 * alarm() in children of its own, too, which don't inherit it. */
#define CHILD_SECONDS 300

struct child_test {
    child_function *function;
    const char *says;                         /* what the output must contain, or NULL */
    bool aborts;                              /* it must die of SIGABRT, else return */
    const char *environment[CHILD_VARIABLES]; /* "NAME=value" */
};

struct child_result {
    int status;           /* as waitpid() gives it */
    char output[1 << 16]; /* of both streams, cut if longer */
};

/* Runs FUNCTION in a child with ENVIRONMENT (NULL, or ends in NULL) added to a process environment
 * without options for the library. */
void child_run(
    struct child_result *result, child_function *function, const char *const *environment);

/* A cmocka test: *STATE is a struct child_test. */
void child_test(void **state);

/* One line of main()'s table: the function, and "NAME=value" strings. */
#define CHILD_TEST(function, ...) CHILD_ENTRY(function, NULL, false, __VA_ARGS__)

/* It must print TEXT besides. */
#define CHILD_SAYS(function, text, ...) CHILD_ENTRY(function, text, false, __VA_ARGS__)

/* It must print TEXT and abort. */
#define CHILD_ABORT(function, text, ...) CHILD_ENTRY(function, text, true, __VA_ARGS__)

/* clang-format off */
#define CHILD_ENTRY(function, text, aborts, ...)                                                   \
    {#function, child_test, NULL, NULL,                                                            \
        &(struct child_test){function, text, aborts, {__VA_ARGS__}}}
/* clang-format on */

/* Ends the child as failed. */
void child_fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* Ends the child as passed although it couldn't test anything, and says why. */
void child_skip(const char *why) __attribute__((noreturn));

#define REQUIRE(condition)                                                                         \
    ((condition) ? (void)0 : child_fail(__FILE__, __LINE__, "not so: %s", #condition))

#define REQUIRE_EQUAL(a, b)                                                                        \
    do {                                                                                           \
        long long child_a = (long long)(a), child_b = (long long)(b);                              \
        if (child_a != child_b)                                                                    \
            child_fail(__FILE__, __LINE__, "%s is %lld (%#llx), not %s, %lld (%#llx)", #a,         \
                child_a, child_a, #b, child_b, child_b);                                           \
    } while (0)

#endif
