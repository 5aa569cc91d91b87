/* Files of profiles, in formats that other programs read (docs/profiling.md, rule 9). */
#ifndef CAIRN_RUNTIME_PROFILE_FILE_H
#define CAIRN_RUNTIME_PROFILE_FILE_H

#include <stddef.h>
#include <stdint.h>

enum { GCI_ALLOC_OBJECTS, GCI_ALLOC_BYTES, GCI_LIVE_OBJECTS, GCI_LIVE_BYTES, GCI_PROFILE_VALUES };

struct gci_profile_stack {
    const uintptr_t *pcs; /* where calls return to, innermost first */
    uint32_t depth;       /* 0: not known */
    int64_t values[GCI_PROFILE_VALUES];
};

struct gci_profile {
    const struct gci_profile_stack *stacks;
    size_t count;
    uint64_t interval;
    uint64_t time_ns; /* when it began, since 1970 */
    uint64_t duration_ns;
};

/* FORMAT: enum gc_profile_format, not BY_NAME.  The file is written beside PATH and then renamed, so
 * that nobody sees half of one.  Returns 0, ENOMEM or what the system said.  Calls malloc and takes
 * the loader's lock. */
int gci_profile_write_file(const char *path, int format, const struct gci_profile *profile);

#endif
