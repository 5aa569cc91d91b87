/* A quad tree of 1.4 million nodes in which random subtrees, mostly small ones, are replaced by
 * fresh ones: old nodes are written to along every path from the root, and garbage is old when it
 * dies. */
#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(quad_tree, "1.4 M nodes with four children, random subtrees replaced 2 M times");

enum { FULL_HEIGHT = 10, TALLEST_REPLACED = 7 };

struct quad {
    struct quad *child[4]; /* all NULL in a leaf */
    uint64_t sum;          /* of the leaves below; a leaf's own value */
};
BENCH_TYPE(quad, BENCH_FIELD(quad, child));

static struct quad *make(int height, struct bench_random *random) {
    struct quad *quad = bench_new(quad);
    if (height == 0) {
        quad->sum = bench_random_below(random, 1000);
        return quad;
    }
    for (int i = 0; i < 4; i++) {
        quad->child[i] = make(height - 1, random);
        quad->sum += quad->child[i]->sum;
    }
    return quad;
}

static void free_quad(struct quad *quad) {
    for (int i = 0; i < 4 && quad->child[i] != NULL; i++) free_quad(quad->child[i]);
    bench_free(quad);
}

/* Adds the nodes below QUAD to *COUNT and returns the sum of the leaves, from the leaves alone. */
static uint64_t add_up(const struct quad *quad, uint64_t *count) {
    ++*count;
    if (quad->child[0] == NULL) return quad->sum;
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) sum += add_up(quad->child[i], count);
    return sum;
}

/* Replaces one subtree of height HEIGHT below ROOT, itself of height TOP. */
static void replace(struct quad *root, int top, int height, struct bench_random *random) {
    uint64_t way = bench_random_next(random);
    struct quad *path[FULL_HEIGHT + 4], **slot = NULL;
    int steps = 0;
    for (struct quad *quad = root; steps < top - height; quad = *slot) {
        path[steps++] = quad;
        slot = &quad->child[way & 3];
        way >>= 2;
    }
    struct quad *old = *slot, *fresh = make(height, random);
    uint64_t change = fresh->sum - old->sum;
    *slot = fresh;
    for (int i = 0; i < steps; i++) path[i]->sum += change;
    if (BENCH_FREES) free_quad(old);
}

static void run(double scale) {
    int top = bench_scaled_depth(2 * FULL_HEIGHT, scale, 8) / 2;
    if (top > FULL_HEIGHT + 4) top = FULL_HEIGHT + 4;
    size_t replacements = bench_scaled(2000000, scale, 1000);
    struct bench_random random = {1};
    struct quad *root = make(top, &random);
    for (size_t i = 0; i < replacements; i++) {
        int height = 0; /* h with probability about 4^-h: each height allocates as much */
        while (height < TALLEST_REPLACED && height < top - 1 && bench_random_below(&random, 4) == 0)
            height++;
        replace(root, top, height, &random);
    }
    uint64_t count = 0, sum = add_up(root, &count);
    bench_expect("the tree's node count", count, (((uint64_t)4 << (2 * top)) - 1) / 3);
    bench_expect("the root's sum", root->sum, sum);
    if (BENCH_FREES) free_quad(root);
}
