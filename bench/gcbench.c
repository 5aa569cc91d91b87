/* The classic of John Ellis, Pete Kovac and Hans Boehm with its usual parameters: trees built from
 * the top (old nodes are written to) and from the bottom (they aren't), beside a long-lived tree
 * and a large array of numbers. */
#include "bench/bench.h"
#include "bench/gcbench.h"

enum { STRETCH_DEPTH = 18, LONG_LIVED_DEPTH = 16, LEAST_DEPTH = 4, ARRAY_LENGTH = 500000 };

struct node {
    struct node *left, *right;
    int i, j;
};
BENCH_TYPE(node, BENCH_FIELD(node, left), BENCH_FIELD(node, right));

static uint64_t nodes_of(int depth) {
    return ((uint64_t)2 << depth) - 1;
}

/* Hangs complete trees below NODE, parents before children. */
static void populate(int depth, struct node *node) {
    if (depth == 0) return;
    node->left = bench_new(node);
    node->right = bench_new(node);
    populate(depth - 1, node->left);
    populate(depth - 1, node->right);
}

static struct node *top_down(int depth) {
    struct node *root = bench_new(node);
    populate(depth, root);
    return root;
}

/* Children before parents. */
static struct node *bottom_up(int depth) {
    struct node *left = NULL, *right = NULL;
    if (depth > 0) {
        left = bottom_up(depth - 1);
        right = bottom_up(depth - 1);
    }
    struct node *node = bench_new_raw(node);
    *node = (struct node){.left = left, .right = right};
    return node;
}

static void free_tree(struct node *node) {
    if (node->left != NULL) {
        free_tree(node->left);
        free_tree(node->right);
    }
    bench_free(node);
}

static uint64_t count_nodes(const struct node *node) {
    if (node->left == NULL) return 1;
    return 1 + count_nodes(node->left) + count_nodes(node->right);
}

/* The sum of the lengths of the outermost paths: a check that costs next to nothing. */
static uint64_t outline(const struct node *tree) {
    uint64_t length = 0;
    for (const struct node *node = tree; node->left != NULL; node = node->left) length++;
    for (const struct node *node = tree; node->right != NULL; node = node->right) length++;
    return length;
}

/* Builds trees of DEPTH, ITERATIONS in each way. */
static void time_construction(int depth, uint64_t iterations) {
    uint64_t outlines = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        struct node *tree = top_down(depth);
        outlines += outline(tree);
        if (BENCH_FREES) free_tree(tree);
    }
    for (uint64_t i = 0; i < iterations; i++) {
        struct node *tree = bottom_up(depth);
        outlines += outline(tree);
        if (BENCH_FREES) free_tree(tree);
    }
    bench_expect("the outlines' length", outlines, 4 * iterations * (uint64_t)depth);
}

/* Not inlined, so that no slot of a frame that lives on holds the tree: ambiguous roots would
 * keep it. */
static __attribute__((noinline)) void stretch(int depth) {
    struct node *tree = bottom_up(depth);
    bench_expect("the stretch tree's node count", count_nodes(tree), nodes_of(depth));
    if (BENCH_FREES) free_tree(tree);
}

uint64_t gcbench(double scale) {
    int stretch_depth = bench_scaled_depth(STRETCH_DEPTH, scale, LEAST_DEPTH + 4);
    int long_lived_depth = stretch_depth - (STRETCH_DEPTH - LONG_LIVED_DEPTH);
    uint64_t made = nodes_of(stretch_depth) + nodes_of(long_lived_depth);
    stretch(stretch_depth);

    struct node *long_lived = top_down(long_lived_depth);
    double *array = bench_alloc_leaf(ARRAY_LENGTH * sizeof *array);
    for (int i = 0; i < ARRAY_LENGTH; i++) array[i] = 1.0 / (i + 1);

    for (int depth = LEAST_DEPTH; depth <= long_lived_depth; depth += 2) {
        uint64_t iterations = 2 * nodes_of(stretch_depth) / nodes_of(depth);
        time_construction(depth, iterations);
        made += 2 * iterations * nodes_of(depth);
    }

    uint64_t kept = count_nodes(long_lived), wrong = 0;
    for (int i = 0; i < ARRAY_LENGTH; i++) wrong += array[i] != 1.0 / (i + 1);
    bench_expect("the long-lived tree's node count", kept, nodes_of(long_lived_depth));
    bench_expect("the number of changed array elements", wrong, 0);
    if (BENCH_FREES) free_tree(long_lived);
    bench_free(array);
    return made;
}
