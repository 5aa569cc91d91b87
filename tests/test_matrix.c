/* Workloads under every barrier, with the whole heap verified at each collection and a collection
 * at every 97th allocation. The workloads are small programs of different habits: trees that die
 * young, lists, a table of old objects that get young ones, strings, large objects, and the random
 * program of model.c. */
#include <stdio.h>
#include <string.h>

#include "bench/random.h"
#include "child.h"
#include "model.h"
#include "support.h"

/* ---- Trees that die young, and one that stays -------------------------------------------------
 */

struct tree {
    struct tree *left, *right;
};

static struct tree *make_tree(unsigned depth) {
    struct tree *t = gc_alloc(sizeof *t);
    if (depth > 0) t->left = make_tree(depth - 1);
    if (depth > 0) t->right = make_tree(depth - 1);
    return t;
}

static size_t count_tree(const struct tree *t) {
    return t == NULL ? 0 : 1 + count_tree(t->left) + count_tree(t->right);
}

static void trees(void) {
    struct tree *kept = make_tree(11);
    for (unsigned i = 0; i < 60; i++) {
        struct tree *t = make_tree(4 + i % 7);
        REQUIRE_EQUAL(count_tree(t), (2u << (4 + i % 7)) - 1);
        if (i % 4 == 0) kept->left->right = t;
    }
    REQUIRE(count_tree(kept) > 3000);
}

/* ---- A list that is turned around, cut and joined ---------------------------------------------
 */

struct cell {
    struct cell *next;
    uintptr_t number;
};

static struct cell *reverse(struct cell *c) {
    struct cell *done = NULL;
    while (c != NULL) {
        struct cell *next = c->next;
        c->next = done;
        done = c;
        c = next;
    }
    return done;
}

static void lists(void) {
    static struct cell *list;
    for (uintptr_t i = 0; i < 12000; i++) {
        struct cell *c = gc_alloc(i % 5 == 0 ? 400 : sizeof *c);
        *c = (struct cell){list, i};
        list = c;
        if (i % 1500 == 1499) list = reverse(list);
        if (i % 4000 == 2999) list->next->next->next = NULL;
    }
    size_t length = 0;
    for (const struct cell *c = list; c != NULL; c = c->next) {
        REQUIRE(gc_base(c) == c && c->number < 12000);
        length++;
    }
    REQUIRE_EQUAL(length, 1003);
}

/* ---- A hash table of strings: old slots, young values ------------------------------------------
 */

enum { SLOTS = 4096 };

struct entry {
    struct entry *next;
    char *key;
    uint64_t value;
};

static void hash_tables(void) {
    struct entry **table = gc_alloc(SLOTS * sizeof *table);
    struct bench_random random = {97};
    for (unsigned i = 0; i < 60000; i++) {
        char text[32];
        uint64_t number = bench_random_below(&random, 6000);
        snprintf(text, sizeof text, "key %llu", (unsigned long long)number);
        struct entry **slot = &table[number % SLOTS], *e = *slot;
        while (e != NULL && strcmp(e->key, text) != 0) e = e->next;
        if (e != NULL && i % 3 == 0) {
            while (*slot != e) slot = &(*slot)->next;
            *slot = e->next;
        } else if (e == NULL) {
            e = gc_alloc(sizeof *e);
            e->key = gc_strdup(text);
            e->value = number;
            e->next = *slot;
            *slot = e;
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        for (const struct entry *e = table[i]; e != NULL; e = e->next) {
            char text[32];
            snprintf(text, sizeof text, "key %llu", (unsigned long long)e->value);
            REQUIRE(strcmp(text, e->key) == 0);
        }
    }
}

/* ---- Large arrays that grow and hold the only references ----------------------------------------
 */

static void growing_arrays(void) {
    static uintptr_t **arrays[8];
    static size_t lengths[8], rooms[8];
    for (unsigned i = 0; i < 20000; i++) {
        unsigned a = i % 8 * i % 8;
        if (lengths[a] == rooms[a]) {
            rooms[a] = rooms[a] == 0 ? 4 : rooms[a] * 2;
            arrays[a] = gc_realloc(arrays[a], rooms[a] * sizeof *arrays[a]);
        }
        uintptr_t *element = gc_alloc_leaf(8 + i % 40);
        *element = lengths[a] * 8 + a;
        arrays[a][lengths[a]++] = element;
        if (lengths[a] > 4000) {
            arrays[a] = NULL;
            lengths[a] = rooms[a] = 0;
        }
    }
    for (unsigned a = 0; a < 8; a++)
        for (size_t i = 0; i < lengths[a]; i++) REQUIRE_EQUAL(*arrays[a][i], i * 8 + a);
}

static void the_random_program(void) {
    struct model_plan plan = {
        .seed = model_seed(), .steps = 120000, .most_objects = 4000, .large = true};
    model_run(&plan, NULL);
}

int main(void) {
#define UNDER(workload, barrier)                                                                   \
    CHILD_TEST(workload, "CAIRN_VERIFY=1", "CAIRN_STRESS=97", "CAIRN_BARRIER=" barrier)
#ifdef GC_SANITIZE /* cross is two of them at once, and nothing else differs */
#define BARRIERS(workload) UNDER(workload, "cross")
#else
#define BARRIERS(workload)                                                                         \
    UNDER(workload, "uffd"), UNDER(workload, "mprotect"), UNDER(workload, "none"),                 \
        UNDER(workload, "cross")
#endif
#define EVERYWHERE(workload)                                                                       \
    BARRIERS(workload),                                                                            \
        CHILD_TEST(workload, "CAIRN_VERIFY=1", "CAIRN_STRESS=97", "CAIRN_POISON=1",                \
            "CAIRN_MARK_STACK_LIMIT=4K", "CAIRN_LARGE_FIT=best", "CAIRN_RELEASE_AFTER=1"),         \
        CHILD_TEST(workload, "CAIRN_VERIFY=1", "CAIRN_STRESS=977", "CAIRN_HEAP_LIMIT=512M",        \
            "CAIRN_ONE_PAST_END_IN_HEAP=1", "CAIRN_BARRIER=cross")
    const struct CMUnitTest tests[] = {EVERYWHERE(trees), EVERYWHERE(lists),
        EVERYWHERE(hash_tables), EVERYWHERE(growing_arrays), EVERYWHERE(the_random_program)};
    return cmocka_run_group_tests_name("matrix", tests, NULL, NULL);
}
