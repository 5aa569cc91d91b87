/* What the process's cgroup lets it have, of memory and of processor time. */
#ifndef CAIRN_RUNTIME_CGROUP_H
#define CAIRN_RUNTIME_CGROUP_H

#include <stdint.h>

enum gci_cgroup_resource {
    GCI_CGROUP_MEMORY, /* bytes */
    GCI_CGROUP_CPUS    /* CPUs' worth of time, rounded up; at least 1 */
};

/* The least limit of the process's cgroup and all above it, in both versions of cgroups;
 * UINT64_MAX if there is none or it can't be read.  Calls neither malloc nor stdio. */
uint64_t gci_cgroup_limit(enum gci_cgroup_resource resource);

/* The same by other files than /proc/self/cgroup and /proc/self/mountinfo. */
uint64_t gci_cgroup_limit_by(
    enum gci_cgroup_resource resource, const char *membership, const char *mounts);

#endif
