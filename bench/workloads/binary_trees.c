/* Complete binary trees of 16-byte nodes, built and dropped by the ten thousand while a large one
 * stays alive: the program of the Computer Language Benchmarks Game.  Nearly everything dies young.
 */
#include "bench/bench.h"

BENCH_WORKLOAD(binary_trees, "short-lived binary trees beside a long-lived one, 16-byte nodes");

struct node {
    struct node *left, *right;
};
BENCH_TYPE(node, BENCH_FIELD(node, left), BENCH_FIELD(node, right));

static struct node *make_tree(int depth) {
    struct node *left = NULL, *right = NULL;
    if (depth > 0) {
        left = make_tree(depth - 1);
        right = make_tree(depth - 1);
    }
    struct node *node = bench_new_raw(node);
    node->left = left;
    node->right = right;
    return node;
}

static uint64_t count_nodes(const struct node *node) {
    if (node->left == NULL) return 1;
    return 1 + count_nodes(node->left) + count_nodes(node->right);
}

static void free_tree(struct node *node) {
    if (node->left != NULL) {
        free_tree(node->left);
        free_tree(node->right);
    }
    bench_free(node);
}

/* Makes, counts and drops one tree. */
static uint64_t use_tree(int depth) {
    struct node *tree = make_tree(depth);
    uint64_t count = count_nodes(tree);
    if (BENCH_FREES) free_tree(tree);
    return count;
}

static uint64_t nodes_of(int depth) {
    return ((uint64_t)2 << depth) - 1;
}

static void run(double scale) {
    int least = 4, most = bench_scaled_depth(18, scale, 6);
    bench_expect("the stretch tree's node count", use_tree(most + 1), nodes_of(most + 1));
    struct node *long_lived = make_tree(most);
    for (int depth = least; depth <= most; depth += 2) {
        uint64_t iterations = (uint64_t)1 << (most - depth + least), count = 0;
        for (uint64_t i = 0; i < iterations; i++) count += use_tree(depth);
        bench_expect("the short-lived trees' node count", count, iterations * nodes_of(depth));
    }
    bench_expect("the long-lived tree's node count", count_nodes(long_lived), nodes_of(most));
    if (BENCH_FREES) free_tree(long_lived);
}
