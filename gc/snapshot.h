/* Heap snapshots (docs/snapshots.md): gc/snapshot.c writes them, gc/snapshot_roots.c finds and
 * names the roots, gc/snapshot_pairs.c keeps what ephemerons say. */
#ifndef CAIRN_GC_SNAPSHOT_H
#define CAIRN_GC_SNAPSHOT_H

#include "gc/types.h"
#include "runtime/symbols.h"

/* Collects, and writes a snapshot to PATH, or to FILE if PATH is NULL.  The calling thread is
 * inside the library.  Returns 0 or an errno value. */
int gci_snapshot_write(struct gci_thread *thread, const char *path, int file);

/* ---- Roots ---------------------------------------------------------------------------------- */

/* What root nodes are grouped by. */
enum gci_root_group {
    GCI_GROUP_STACKS,
    GCI_GROUP_STATIC,
    GCI_GROUP_TLS,
    GCI_GROUP_RANGES,
    GCI_GROUP_SLOTS,
    GCI_GROUP_HANDLES,
    GCI_GROUP_FRAMES,
    GCI_GROUP_CODE,
    GCI_GROUP_HOOKS,
    GCI_GROUP_FINALIZERS,
    GCI_GROUP_LIBRARY,
    GCI_GROUPS
};

extern const char *const gci_group_names[GCI_GROUPS];

/* A node: a function's frame, a static variable, a range; with as many references. */
struct gci_root_node {
    uint8_t group;
    bool precise;
    bool interrupted;                /* a frame: PC is that of the instruction itself */
    pid_t tid;                       /* whose frame or storage; 0 */
    uintptr_t start;                 /* of the frame, the variable, the range */
    uintptr_t pc;                    /* a frame's */
    const struct gci_symbol *symbol; /* a variable's, or a frame's function; or NULL */
    uint32_t edges;
    uint32_t first; /* its first reference among those sorted */
};

struct gci_root_edge {
    uint32_t node;
    gci_object target;
    uintptr_t word; /* where it stands */
};

struct gci_root_frame {
    uintptr_t low, high, pc;
    pid_t tid;
    bool interrupted;
};

/* Filled with the world stopped, in memory of its own. */
struct gci_roots {
    struct gc_heap *heap;
    const struct gci_symbols *symbols;
    struct gci_root_node *nodes;
    size_t node_count, node_capacity;
    struct gci_root_edge *edges;
    size_t edge_count, edge_capacity;
    uint32_t *sorted; /* edges by node */
    size_t sorted_bytes;
    struct gci_root_frame *frames;
    size_t frame_count, frame_capacity;
    uint32_t last[GCI_GROUPS]; /* the node that was found last in each group, plus 1 */
    bool failed;               /* for want of memory */
};

/* Finds all roots that refer to objects.  Returns 0, ENOMEM or EOVERFLOW. */
int gci_roots_find(struct gci_roots *roots);
void gci_roots_free(struct gci_roots *roots);

/* Writes the name of NODE; with the world running or stopped. */
void gci_root_name(
    const struct gci_roots *roots, const struct gci_root_node *node, char *buffer, size_t bytes);

/* ---- Pairs of ephemerons and weak tables ---------------------------------------------------- */

/* The object GUARD has HELD live, as long as TABLE does; by the ids of their nodes. */
struct gci_pair {
    uint32_t guard_id, held_id, table_id;
    uint32_t held; /* the number of the node */
    uint32_t next; /* of the same guard, plus 1 */
    bool by_value; /* the guard is a value in a table with weak values; else a key */
};

/* In memory of its own. */
struct gci_pairs {
    struct gci_pair *pairs;
    size_t count, capacity;
    uint32_t *first; /* of each object as a guard, plus 1; NULL until there is a pair */
    size_t first_bytes;
};

/* A pair whose guard is the object numbered NUMBER, of OBJECTS.  Returns 0 or ENOMEM. */
int gci_pairs_add(struct gci_pairs *pairs, uint64_t objects, uint32_t number, struct gci_pair pair);

/* Those of one guard, one after the other, from NULL to NULL. */
const struct gci_pair *gci_pairs_next(
    const struct gci_pairs *pairs, uint32_t number, const struct gci_pair *pair);

void gci_pair_name(const struct gci_pair *pair, char *buffer, size_t bytes);
void gci_pairs_free(struct gci_pairs *pairs);

#endif
