/* System calls that fail, as in a sandbox or on an older kernel. */
#ifndef CAIRN_TESTS_REFUSE_H
#define CAIRN_TESTS_REFUSE_H

#include <stdbool.h>

/* From here on the system call NUMBER fails with ERROR, in the calling thread and those that it makes:
 * always, or, if THIRD isn't negative, where its third argument is that.  False if the kernel has no
 * filters. */
bool refuse_system_call(unsigned number, int third, int error);

#endif
