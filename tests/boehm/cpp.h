/* The tests of the C++ interface: cpp.cc has them, test_cpp.c runs them. */
#ifndef CAIRN_TESTS_BOEHM_CPP_H
#define CAIRN_TESTS_BOEHM_CPP_H

#ifdef __cplusplus
extern "C" {
#endif

void cpp_objects_are_collected(void);
void cpp_objects_hold(void);
void cpp_placements(void);
void cpp_destructors_run(void);
void cpp_cleanup_functions_run(void);
void cpp_containers_hold(void);
void cpp_traceable_containers_hold(void);
void cpp_atomic_containers_do_not(void);
void cpp_operator_new_is_traced(void);
void cpp_failure_throws(void);

#ifdef __cplusplus
}
#endif

#endif
