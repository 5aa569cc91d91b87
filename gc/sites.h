/* Allocation sites: call stacks, each kept once, and what is counted of each (docs/profiling.md). */
#ifndef CAIRN_GC_SITES_H
#define CAIRN_GC_SITES_H

#include <stddef.h>
#include <stdint.h>

#define GCI_SITE_UNKNOWN 0u /* of all that there was no room for */

/* A site never moves, and but for the counts never changes: it may be read without the lock. */
struct gci_site {
    uint32_t next; /* in its chain of the index */
    uint32_t depth;
    uint64_t hash;
    double objects, bytes;               /* allocated: estimates from samples */
    double live_objects, live_bytes;     /* scratch, while a profile is written */
    uint64_t leaked;                     /* samples found dead since the last report, */
    double leaked_objects, leaked_bytes; /* and what they stand for */
    uintptr_t pcs[];                     /* where calls return to, innermost first */
};

struct gci_sites {
    uint8_t *memory; /* reserved; records one behind the other */
    size_t reserved, committed, used;
    uint32_t *index;
    size_t buckets; /* a power of two */
    uint64_t count, refused;
};

/* Takes BYTES in all, at the most, and DEPTH callers of a stack.  Returns 0 or ENOMEM. */
int gci_sites_open(struct gci_sites *sites, size_t bytes);
void gci_sites_close(struct gci_sites *sites);

/* The number of the site with these DEPTH callers; GCI_SITE_UNKNOWN if it is new and there is no
 * room.  With the lock held. */
uint32_t gci_site_intern(struct gci_sites *sites, const uintptr_t *pcs, uint32_t depth);

struct gci_site *gci_site_at(const struct gci_sites *sites, uint32_t number);

/* One site after another, from NULL to NULL. */
struct gci_site *gci_site_next(const struct gci_sites *sites, const struct gci_site *site);

#endif
