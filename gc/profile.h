/* Profiles (docs/profiling.md). */
#ifndef CAIRN_GC_PROFILE_H
#define CAIRN_GC_PROFILE_H

#include "gc/types.h"

/* Once, at the end of opening: begins what the options ask for, and sees to it that it is reported
 * at exit.  Returns 0 or ENOMEM. */
int gci_profile_open(struct gc_heap *heap);

#endif
