/* The calculator of examples/calc: right results while its cells move, and errors that name the
 * word.  CAIRN_TEST_CALC names the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "child.h"

/* Runs it with PROGRAM and requires what it prints, and its exit status. */
static void expect(const char *program, const char *output, int status) {
    char command[4096], text[4096];
    const char *calc = getenv("CAIRN_TEST_CALC");
    if (calc == NULL) child_skip("CAIRN_TEST_CALC doesn't name the program");
    snprintf(command, sizeof command, "%s '%s' 2>&1", calc, program);
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe != NULL);
    size_t length = fread(text, 1, sizeof text - 1, pipe);
    text[length] = '\0';
    int result = pclose(pipe);
    if (strcmp(text, output) != 0)
        child_fail(__FILE__, __LINE__, "%s printed \"%s\", not \"%s\"", program, text, output);
    REQUIRE(WIFEXITED(result));
    REQUIRE_EQUAL(WEXITSTATUS(result), status);
}

static void it_calculates(void) {
    expect("1 2 + .", "3\n", 0);
    expect("10 4 - 2 * 3 / .", "4\n", 0);
    expect("1 2 swap . . 3 dup * . 7 drop", "1\n2\n9\n", 0);
    expect("nil 3 cons 2 cons 1 cons dup . dup head . tail .", "(1 2 3)\n1\n(2 3)\n", 0);
    expect("nil nil 2 cons cons 1 cons .", "(1 (2))\n", 0);
    expect("1 300 range sum .", "45150\n", 0);
}

static void it_calculates_much(void) {
    expect("1 1000000 range dup sum . tail head .", "500000500000\n2\n", 0);
}

static void it_names_what_is_wrong(void) {
    expect("1 foo",
        "calc: foo: not a number nor one of + - * / . dup swap drop nil cons head tail range sum\n",
        1);
    expect("+", "calc: +: the stack is empty\n", 1);
    expect("nil 1 +", "calc: +: expected a number\n", 1);
    expect("nil head", "calc: head: expected a list that isn't empty\n", 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(it_calculates),
        CHILD_TEST(it_calculates, "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_STRESS=7"),
        CHILD_TEST(it_calculates_much),
        CHILD_TEST(it_calculates_much, "CAIRN_NURSERY=256K", "CAIRN_BARRIER=none"),
        CHILD_TEST(it_names_what_is_wrong),
    };
    return cmocka_run_group_tests_name("calc", tests, NULL, NULL);
}
