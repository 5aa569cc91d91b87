/* The table of allocation sites.  Owns a reserved range that records fill from its start, made
 * usable as it grows, and an index of chains.  Invariants: no two records have the same callers; a
 * record stays where it is until the process ends, so that who writes a profile needs no lock for
 * its callers.  Number 0 is the site of all that is not known.  Called with the lock held, by
 * threads that run (gc/sample.c, docs/profiling.md, rule 5). */
#include "gc/sites.h"

#include <errno.h>
#include <string.h>

#include "runtime/vm.h"

#define UNIT         8u     /* bytes; a site's number is its place in these */
#define STEP         65536u /* bytes made usable at a time */
#define BUCKET_BYTES 1024u  /* of the table, for one chain: a site of 64 callers has 584 */

struct gci_site *gci_site_at(const struct gci_sites *sites, uint32_t number) {
    return (struct gci_site *)(void *)(sites->memory + (size_t)number * UNIT);
}

static size_t record_bytes(uint32_t depth) {
    return sizeof(struct gci_site) + depth * sizeof(uintptr_t);
}

struct gci_site *gci_site_next(const struct gci_sites *sites, const struct gci_site *site) {
    const uint8_t *at = sites->memory;
    if (site != NULL) at = (const uint8_t *)site + record_bytes(site->depth);
    return at < sites->memory + sites->used ? (struct gci_site *)(uintptr_t)at : NULL;
}

/* Room for a record of DEPTH callers, zeroed, or NULL. */
static struct gci_site *make_room(struct gci_sites *sites, uint32_t depth) {
    size_t end = sites->used + record_bytes(depth);
    if (end > sites->reserved) return NULL;
    if (end > sites->committed) {
        size_t more = (end - sites->committed + STEP - 1) / STEP * STEP;
        if (more > sites->reserved - sites->committed) more = sites->reserved - sites->committed;
        if (gci_vm_commit(sites->memory + sites->committed, more) != 0) return NULL;
        sites->committed += more;
    }
    struct gci_site *site = (struct gci_site *)(void *)(sites->memory + sites->used);
    sites->used = end;
    sites->count++;
    site->depth = depth;
    return site;
}

int gci_sites_open(struct gci_sites *sites, size_t bytes) {
    size_t page = gci_page_size();
    size_t buckets = (size_t)1 << (63 - __builtin_clzll(bytes / BUCKET_BYTES));
    size_t records = (bytes - buckets * sizeof(uint32_t)) / page * page;
    *sites = (struct gci_sites){.buckets = buckets, .reserved = records};
    sites->memory = gci_vm_reserve(records, page);
    if (sites->memory == NULL) return ENOMEM;
    sites->index = gci_vm_map(gci_whole_pages(buckets * sizeof(uint32_t)));
    if (sites->index != NULL && make_room(sites, 0) != NULL) return 0;
    gci_sites_close(sites);
    return ENOMEM;
}

void gci_sites_close(struct gci_sites *sites) {
    if (sites->index != NULL)
        gci_vm_unmap(sites->index, gci_whole_pages(sites->buckets * sizeof(uint32_t)));
    if (sites->memory != NULL) gci_vm_unmap(sites->memory, sites->reserved);
    *sites = (struct gci_sites){.memory = NULL};
}

/* Of 64 bits, so that two stacks with the same are hardly ever compared in vain. */
static uint64_t hash_of(const uintptr_t *pcs, uint32_t depth) {
    uint64_t hash = depth;
    for (uint32_t i = 0; i < depth; i++) {
        hash = (hash ^ pcs[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

uint32_t gci_site_intern(struct gci_sites *sites, const uintptr_t *pcs, uint32_t depth) {
    if (depth == 0) return GCI_SITE_UNKNOWN;
    uint64_t hash = hash_of(pcs, depth);
    uint32_t *bucket = &sites->index[hash >> 20 & (sites->buckets - 1)];
    for (uint32_t number = *bucket; number != 0; number = gci_site_at(sites, number)->next) {
        const struct gci_site *site = gci_site_at(sites, number);
        if (site->hash == hash && site->depth == depth &&
            memcmp(site->pcs, pcs, depth * sizeof *pcs) == 0)
            return number;
    }
    struct gci_site *site = make_room(sites, depth);
    if (site == NULL) {
        sites->refused++;
        return GCI_SITE_UNKNOWN;
    }
    site->hash = hash;
    memcpy(site->pcs, pcs, depth * sizeof *pcs);
    site->next = *bucket;
    *bucket = (uint32_t)(((uint8_t *)site - sites->memory) / UNIT);
    return *bucket;
}
