/* What a snapshot says of ephemerons and weak tables: that a value lives as long as its key does, or
 * in a table with weak values the other way round.  Such a pair is an edge of the object that has to
 * live, but is found in the ephemeron: so all are gathered while objects are counted, and written
 * with the objects that they belong to.  Owns struct gci_pairs.  Called by gc/snapshot.c
 * (docs/snapshots.md, rule 8). */
#include <errno.h>
#include <stdio.h>

#include "gc/snapshot.h"
#include "runtime/vm.h"

/* Chains are mapped with the first pair, as most heaps have none. */
int gci_pairs_add(struct gci_pairs *p, uint64_t objects, uint32_t number, struct gci_pair pair) {
    if (p->first == NULL) {
        p->first_bytes = gci_whole_pages(objects * sizeof *p->first);
        p->first = gci_vm_map(p->first_bytes);
        if (p->first == NULL) return ENOMEM;
    }
    struct gci_pair *pairs = gci_vm_with_room(p->pairs, p->count, &p->capacity, sizeof *pairs);
    if (pairs == NULL || p->count >= GCI_NONE - 1) return ENOMEM;
    p->pairs = pairs;
    pair.next = p->first[number];
    pairs[p->count++] = pair;
    p->first[number] = (uint32_t)p->count;
    return 0;
}

const struct gci_pair *gci_pairs_next(
    const struct gci_pairs *p, uint32_t number, const struct gci_pair *pair) {
    uint32_t next = pair != NULL ? pair->next : p->first != NULL ? p->first[number] : 0;
    return next != 0 ? &p->pairs[next - 1] : NULL;
}

/* As V8 names them, so that its readers know them; those of weak values otherwise, as there is
 * nothing like it. */
void gci_pair_name(const struct gci_pair *pair, char *buffer, size_t bytes) {
    snprintf(buffer, bytes,
        pair->by_value
            ? "part of value (object @%u) -> key (object @%u) pair in table (table @%u)"
            : "1 / part of key (object @%u) -> value (object @%u) pair in WeakMap (table "
              "@%u)",
        pair->guard_id, pair->held_id, pair->table_id);
}

void gci_pairs_free(struct gci_pairs *p) {
    if (p->first != NULL) gci_vm_unmap(p->first, p->first_bytes);
    if (p->pairs != NULL) gci_vm_unmap(p->pairs, gci_whole_pages(p->capacity * sizeof *p->pairs));
}
