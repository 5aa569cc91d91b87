/* Free runs of units, in a treap whose nodes lie in a table indexed by unit: nothing is
 * allocated, and a run is found from either of its edges.  The key is the address under first
 * fit, length and then address under best and worst fit; every node knows the longest run below
 * it.  Used for blocks by the arena and for pages by the large spaces.  (Seidel and Aragon,
 * Randomized search trees, Algorithmica 16, 1996.) */
#include "gc/runs.h"

#include "runtime/log.h"

static uint32_t length_of(const struct gci_runs *runs, uint32_t node) {
    return runs->nodes[node].length & ~GCI_RUN_EDGE;
}

/* The treap's priorities: a mixed unit number instead of a stored random one. */
static uint32_t priority(uint32_t unit) {
    unit = (unit ^ unit >> 16) * 0x7feb352du;
    unit = (unit ^ unit >> 15) * 0x846ca68bu;
    return unit ^ unit >> 16;
}

/* Does run A (of length A_LENGTH) come before run B in key order? */
static bool before(
    const struct gci_runs *runs, uint32_t a, uint32_t a_length, uint32_t b, uint32_t b_length) {
    if (runs->fit != GC_FIT_FIRST && a_length != b_length) return a_length < b_length;
    return a < b;
}

static void update(struct gci_runs *runs, uint32_t node) {
    struct gci_run_node *n = &runs->nodes[node];
    uint32_t longest = n->length & ~GCI_RUN_EDGE;
    if (n->left != GCI_NONE && runs->nodes[n->left].longest > longest)
        longest = runs->nodes[n->left].longest;
    if (n->right != GCI_NONE && runs->nodes[n->right].longest > longest)
        longest = runs->nodes[n->right].longest;
    n->longest = longest;
}

/* Splits TREE into the runs before (KEY, KEY_LENGTH) and the rest. */
static void split(struct gci_runs *runs, uint32_t tree, uint32_t key, uint32_t key_length,
    uint32_t *low, uint32_t *high) {
    if (tree == GCI_NONE) {
        *low = *high = GCI_NONE;
        return;
    }
    struct gci_run_node *n = &runs->nodes[tree];
    if (before(runs, tree, length_of(runs, tree), key, key_length)) {
        split(runs, n->right, key, key_length, &n->right, high);
        *low = tree;
    } else {
        split(runs, n->left, key, key_length, low, &n->left);
        *high = tree;
    }
    update(runs, tree);
}

static uint32_t merge(struct gci_runs *runs, uint32_t low, uint32_t high) {
    if (low == GCI_NONE) return high;
    if (high == GCI_NONE) return low;
    if (priority(low) > priority(high)) {
        runs->nodes[low].right = merge(runs, runs->nodes[low].right, high);
        update(runs, low);
        return low;
    }
    runs->nodes[high].left = merge(runs, low, runs->nodes[high].left);
    update(runs, high);
    return high;
}

static void link_run(struct gci_runs *runs, uint32_t first, uint32_t length) {
    runs->nodes[first + length - 1].length = length | GCI_RUN_EDGE;
    runs->nodes[first] = (struct gci_run_node){GCI_NONE, GCI_NONE, length | GCI_RUN_EDGE, length};
    uint32_t low, high;
    split(runs, runs->root, first, length, &low, &high);
    runs->root = merge(runs, merge(runs, low, first), high);
}

/* Removes NODE from TREE, both known to be there; returns what is left. */
static uint32_t without(struct gci_runs *runs, uint32_t tree, uint32_t node) {
    struct gci_run_node *n = &runs->nodes[tree];
    if (tree == node) return merge(runs, n->left, n->right);
    if (before(runs, node, length_of(runs, node), tree, length_of(runs, tree)))
        n->left = without(runs, n->left, node);
    else
        n->right = without(runs, n->right, node);
    update(runs, tree);
    return tree;
}

static void unlink_run(struct gci_runs *runs, uint32_t first) {
    uint32_t length = length_of(runs, first);
    runs->root = without(runs, runs->root, first);
    runs->nodes[first].length = 0;
    runs->nodes[first + length - 1].length = 0;
}

void gci_runs_init(struct gci_runs *runs, struct gci_run_node *nodes, enum gc_fit fit) {
    *runs = (struct gci_runs){nodes, GCI_NONE, fit, 0};
}

uint32_t gci_runs_length(const struct gci_runs *runs, uint32_t first) {
    return runs->nodes[first].length & GCI_RUN_EDGE ? length_of(runs, first) : 0;
}

uint32_t gci_runs_give(
    struct gci_runs *runs, uint32_t first, uint32_t length, uint32_t *joined_length) {
    runs->free_units += length;
    uint32_t before_length = first > 0 ? gci_runs_length(runs, first - 1) : 0;
    uint32_t after_length = gci_runs_length(runs, first + length);
    if (after_length > 0) unlink_run(runs, first + length);
    if (before_length > 0) {
        first -= before_length;
        unlink_run(runs, first);
    }
    *joined_length = before_length + length + after_length;
    link_run(runs, first, *joined_length);
    return first;
}

/* The run that the fit chooses for LENGTH units. */
static uint32_t choose(const struct gci_runs *runs, uint32_t length) {
    uint32_t node = runs->root, best = GCI_NONE;
    if (node == GCI_NONE || runs->nodes[node].longest < length) return GCI_NONE;
    for (;;) {
        const struct gci_run_node *n = &runs->nodes[node];
        switch (runs->fit) {
        case GC_FIT_FIRST: /* the leftmost that is long enough */
            if (n->left != GCI_NONE && runs->nodes[n->left].longest >= length)
                node = n->left;
            else if (length_of(runs, node) >= length)
                return node;
            else
                node = n->right;
            break;
        case GC_FIT_BEST: /* the least key whose length is enough */
            if (length_of(runs, node) >= length) {
                best = node;
                node = n->left;
            } else {
                node = n->right;
            }
            if (node == GCI_NONE) return best;
            break;
        case GC_FIT_WORST: /* the last key is a longest run */
            if (n->right == GCI_NONE) return node;
            node = n->right;
            break;
        }
    }
}

void gci_runs_take_at(struct gci_runs *runs, uint32_t run, uint32_t first, uint32_t length) {
    uint32_t run_length = length_of(runs, run);
    GCI_CHECK(run <= first && first + length <= run + run_length);
    unlink_run(runs, run);
    if (first > run) link_run(runs, run, first - run);
    if (first + length < run + run_length)
        link_run(runs, first + length, run + run_length - first - length);
    runs->free_units -= length;
}

uint32_t gci_runs_take(struct gci_runs *runs, uint32_t length, uint32_t alignment) {
    if (length > UINT32_MAX / 2 - alignment) return GCI_NONE;
    uint32_t run = choose(runs, length + alignment - 1);
    if (run == GCI_NONE) return GCI_NONE;
    uint32_t first = (run + alignment - 1) & ~(alignment - 1);
    gci_runs_take_at(runs, run, first, length);
    return first;
}

static size_t check_tree(const struct gci_runs *runs, uint32_t tree, uint64_t *units) {
    if (tree == GCI_NONE) return 0;
    const struct gci_run_node *n = &runs->nodes[tree];
    uint32_t length = length_of(runs, tree), longest = length;
    size_t broken = (n->length & GCI_RUN_EDGE) == 0 ||
                    runs->nodes[tree + length - 1].length != (length | GCI_RUN_EDGE);
    uint32_t children[2] = {n->left, n->right};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t child = children[i];
        if (child == GCI_NONE) continue;
        bool ordered = before(runs, child, length_of(runs, child), tree, length) == (i == 0);
        broken += !ordered || priority(child) > priority(tree);
        if (runs->nodes[child].longest > longest) longest = runs->nodes[child].longest;
        broken += check_tree(runs, child, units);
    }
    *units += length;
    return broken + (longest != n->longest);
}

size_t gci_check_runs(const struct gci_runs *runs) {
    uint64_t units = 0;
    size_t broken = check_tree(runs, runs->root, &units) + 0u;
    broken += units != runs->free_units;
    if (broken > 0) gci_log("free runs: %zu broken nodes or counts", broken);
    return broken;
}
