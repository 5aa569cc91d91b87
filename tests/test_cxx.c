/* The header and the library from C++: runs cxx.sh, which compiles and runs cxx.cc, with the
 * library that was built beside this program. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

static void a_cxx_program_uses_the_heap(void) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 40);
    REQUIRE(length > 0);
    path[length] = '\0';
    for (unsigned i = 0; i < 2; i++) { /* BUILD/tests/cxx */
        char *slash = strrchr(path, '/');
        REQUIRE(slash != NULL);
        *slash = '\0';
    }
    strcat(path, "/lib/libcairn.a");
    setenv("CAIRN_TEST_LIBRARY", path, 1);
#ifdef GC_SANITIZE
    child_skip("the library needs the sanitizer's flags");
#endif
    if (access("tests/cxx.sh", R_OK) != 0) child_skip("not run from the top directory");
    REQUIRE_EQUAL(system("bash tests/cxx.sh"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {CHILD_TEST(a_cxx_program_uses_the_heap)};
    return cmocka_run_group_tests_name("cxx", tests, NULL, NULL);
}
