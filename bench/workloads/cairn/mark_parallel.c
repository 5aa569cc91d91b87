/* How long Cairn marks a heap of about 1 GB that can be marked by several threads at once: two
 * fifths binary trees, the rest a hash table of lists, and arrays of pointers to small objects.
 * CAIRN_WORKERS says by how many (cairn-bench: --workers). */
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(mark_parallel, "marks a heap of 1 GB 5 times; see --workers");

enum { COLLECTIONS = 5, TREE_DEPTH = 15, CHAIN = 8, ARRAY_LENGTH = 1000 };

struct node {
    struct node *left, *right;
    uint64_t value, unused;
}; /* 2 MB in a tree */

struct entry {
    struct entry *next;
    uint64_t *payload; /* a leaf of one word, the key */
    uint64_t key;
}; /* 48 bytes with its payload */

struct item {
    uint64_t *array; /* that it is in */
    uint64_t index;
};

struct heap {
    struct node **trees;
    struct entry **buckets;
    struct item ***arrays;
    size_t tree_count, bucket_count, array_count;
};

static struct node *make_tree(int depth) {
    struct node *node = bench_alloc(sizeof *node);
    node->value = (uint64_t)depth;
    if (depth == 0) return node;
    node->left = make_tree(depth - 1);
    node->right = make_tree(depth - 1);
    return node;
}

/* Adds up the nodes' values. */
static uint64_t add_up(const struct node *node) {
    return node == NULL ? 0 : node->value + add_up(node->left) + add_up(node->right);
}

/* Keys go to the buckets in random order, so that a list is spread over the heap. */
static void fill_buckets(struct heap *heap) {
    heap->buckets = bench_alloc(heap->bucket_count * sizeof *heap->buckets);
    for (uint64_t key = 0; key < heap->bucket_count * CHAIN; key++) {
        struct entry *entry = bench_alloc(sizeof *entry);
        struct entry **bucket = &heap->buckets[bench_reduce(bench_mix(key), heap->bucket_count)];
        entry->payload = bench_alloc_leaf(sizeof *entry->payload);
        *entry->payload = entry->key = key;
        entry->next = *bucket;
        *bucket = entry;
    }
}

static struct item **make_array(void) {
    struct item **array = bench_alloc(ARRAY_LENGTH * sizeof *array);
    for (uint64_t i = 0; i < ARRAY_LENGTH; i++) {
        array[i] = bench_alloc(sizeof *array[i]);
        *array[i] = (struct item){(uint64_t *)array, i};
    }
    return array;
}

static void build(struct heap *heap) {
    heap->trees = bench_alloc(heap->tree_count * sizeof *heap->trees);
    for (size_t i = 0; i < heap->tree_count; i++) heap->trees[i] = make_tree(TREE_DEPTH);
    fill_buckets(heap);
    heap->arrays = bench_alloc(heap->array_count * sizeof *heap->arrays);
    for (size_t i = 0; i < heap->array_count; i++) heap->arrays[i] = make_array();
}

static void check(const struct heap *heap) {
    uint64_t values = 0, keys = 0, misplaced = 0, count = heap->bucket_count * CHAIN;
    for (size_t i = 0; i < heap->tree_count; i++) values += add_up(heap->trees[i]);
    for (size_t i = 0; i < heap->bucket_count; i++) {
        for (const struct entry *entry = heap->buckets[i]; entry != NULL; entry = entry->next) {
            keys += entry->key + 1;
            misplaced += *entry->payload != entry->key;
        }
    }
    for (size_t i = 0; i < heap->array_count; i++) {
        struct item **array = heap->arrays[i];
        for (uint64_t j = 0; j < ARRAY_LENGTH; j++)
            misplaced += array[j]->array != (uint64_t *)array || array[j]->index != j;
    }
    /* Depth d has 2^(TREE_DEPTH - d) nodes of value d. */
    uint64_t in_a_tree = ((uint64_t)2 << TREE_DEPTH) - TREE_DEPTH - 2;
    bench_expect("the sum of the trees' values", values, heap->tree_count * in_a_tree);
    bench_expect("the sum of keys", keys, count * (count + 1) / 2);
    bench_expect("the number of misplaced objects", misplaced, 0);
}

static gc_stats ask(void) {
    gc_stats stats = {.size = sizeof stats};
    int error = gc_get_stats(&stats);
    if (error != 0) bench_fail("gc_get_stats failed: error %d", error);
    return stats;
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static void run(double scale) {
    struct heap heap = {.tree_count = bench_scaled(200, scale, 1),
        .bucket_count = bench_scaled(800000, scale, 100),
        .array_count = bench_scaled(12500, scale, 1)};
    build(&heap);
    uint64_t mark_ns[COLLECTIONS];
    for (int i = 0; i < COLLECTIONS; i++) {
        uint64_t before = ask().mark_ns;
        int error = gc_collect(GC_FULL);
        if (error != 0) bench_fail("gc_collect failed: error %d", error);
        mark_ns[i] = ask().mark_ns - before;
    }
    qsort(mark_ns, COLLECTIONS, sizeof *mark_ns, compare);
    bench_figure("mark_ms", (double)mark_ns[COLLECTIONS / 2] / 1e6);
    bench_figure("mark_workers", (double)ask().workers);
    check(&heap);
}
