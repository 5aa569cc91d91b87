/* The C++ interface: the tests are in cpp.cc. */
#include "cpp.h"
#include "support.h"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(cpp_objects_are_collected),
        CHILD_TEST(cpp_objects_hold),
        CHILD_TEST(cpp_placements),
        CHILD_TEST(cpp_destructors_run),
        CHILD_TEST(cpp_cleanup_functions_run),
        CHILD_TEST(cpp_containers_hold),
        CHILD_TEST(cpp_traceable_containers_hold),
        CHILD_TEST(cpp_atomic_containers_do_not),
        CHILD_TEST(cpp_operator_new_is_traced),
        CHILD_TEST(cpp_failure_throws),
    };
    return cmocka_run_group_tests_name("boehm_cpp", tests, NULL, NULL);
}
