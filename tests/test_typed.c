/* Typed objects: the random program of typed_model.c under many settings; what moves, and what
 * stays. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cairn/embed.h"
#include "child.h"
#include "fewer.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

/* ---- The model ------------------------------------------------------------------------------ */

static void run(struct typed_plan plan, bool must_move) {
    struct typed_result result;
    plan.seed = model_seed();
    typed_model_run(&plan, &result);
    typed_model_print(&result);
    REQUIRE(!must_move || !are_many() || result.moved > 0);
    /* Much less, mostly, but a stale word on the stack may keep a large subgraph. */
    REQUIRE(result.retained_percent < RETAINED_MOST);
}

static void few_ambiguous_objects(void) {
    run((struct typed_plan){.steps = 250000,
            .most_objects = 20000,
            .check_every = 5000,
            .ambiguous_one_in = 1000,
            .large = true},
        true);
}

static void some_ambiguous_objects(void) {
    run((struct typed_plan){.steps = 250000,
            .most_objects = 20000,
            .check_every = 5000,
            .ambiguous_one_in = 40,
            .large = true,
            .static_root = true},
        true);
}

static void many_ambiguous_objects(void) {
    run((struct typed_plan){.steps = 250000,
            .most_objects = 20000,
            .check_every = 5000,
            .ambiguous_one_in = 2,
            .large = true},
        false);
}

static void few_in_a_small_graph(void) {
    run((struct typed_plan){.steps = 60000,
            .most_objects = 3000,
            .check_every = 500,
            .ambiguous_one_in = 50,
            .large = true},
        true);
}

static void collections_all_the_time(void) {
    run((struct typed_plan){.steps = 30000,
            .most_objects = 1000,
            .check_every = 500,
            .ambiguous_one_in = 30,
            .static_root = true,
            .compacts = true},
        true);
}

/* ---- Small programs ------------------------------------------------------------------------- */

struct node {
    struct node *next;
    uint64_t number;
    uintptr_t junk;
    struct node *other;
};

static const uint32_t node_pointers[] = {offsetof(struct node, next), offsetof(struct node, other)};

static const gc_type_desc node_desc = {
    .name = "node", .size = sizeof(struct node), .pointers = node_pointers, .pointer_count = 2};

static const gc_type *node_type;
static struct node *root;

/* A root that static data refers to, so that it stays where it is, and with it the object that ends
 * where it starts, which is the next one made. */
static void start(void) {
    node_type = gc_type_register(&node_desc);
    REQUIRE(node_type != NULL);
    root = gc_alloc_typed(node_type);
    gc_alloc_typed(node_type);
    root->number = 1;
}

/* A new object of TYPE, laid out like a node, that the root refers to, and nothing else. */
static __attribute__((noinline)) uintptr_t add_one_of(const gc_type *type, uint64_t number) {
    struct node *p = gc_alloc_typed(type);
    p->number = number;
    p->next = root->next;
    root->next = p;
    return hide(p);
}

static __attribute__((noinline)) uintptr_t add(uint64_t number) {
    return add_one_of(node_type, number);
}

static __attribute__((noinline)) bool first_is_at(uintptr_t hidden) {
    return hide(root->next) == hidden;
}

static void a_young_survivor_moves_once(void) {
    need_optimised_code();
    start();
    uintptr_t before = add(2);
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before));
    REQUIRE(root->next->number == 2 && root->next->next == NULL);
    REQUIRE(gc_type_of(root->next) == node_type);
    REQUIRE(gc_size(reveal(before)) == 0);
    before = hide(root->next);
    collect(GC_MINOR);
    collect(GC_FULL);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

static void a_full_collection_moves_nothing(void) {
    start();
    uintptr_t before = add(2);
    collect(GC_FULL);
    REQUIRE(first_is_at(before));
}

static void both_references_to_what_moves_are_changed(void) {
    need_optimised_code();
    start();
    uintptr_t before = add(2);
    root->other = root->next;
    root->next->other = root->next;
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before));
    REQUIRE(root->other == root->next && root->next->other == root->next);
}

static void a_survivor_of_1024_bytes_moves_and_a_larger_one_stays(void) {
    need_optimised_code();
    start();
    gc_type_desc desc = {
        .name = "big", .size = 1024, .pointers = node_pointers, .pointer_count = 2};
    uintptr_t before = add_one_of(gc_type_register(&desc), 2);
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before) && root->next->number == 2);
    desc.name = "bigger";
    desc.size = 1040;
    before = add_one_of(gc_type_register(&desc), 3);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before) && root->next->number == 3 && root->next->next->number == 2);
}

/* ---- What stays ----------------------------------------------------------------------------- */

static __attribute__((noinline)) char *inside_first(size_t offset) {
    return (char *)root->next + offset;
}

/* OFFSET of a word on the stack into the object it means. */
static void is_held_from_the_stack(size_t offset) {
    start();
    for (unsigned i = 0; i < 20; i++) {
        uintptr_t before = add(i);
        char *volatile word = inside_first(offset);
        collect(GC_MINOR);
        REQUIRE(first_is_at(before) && root->next->number == i);
        REQUIRE(word == inside_first(offset));
        word = NULL;
        collect(GC_MINOR);
        REQUIRE(first_is_at(before));
    }
}

static void a_word_on_the_stack_holds(void) {
    is_held_from_the_stack(0);
}

static void an_interior_pointer_on_the_stack_holds(void) {
    is_held_from_the_stack(21);
}

static void one_past_the_end_on_the_stack_holds(void) {
    is_held_from_the_stack(sizeof(struct node));
}

/* Nothing but the word on the stack refers to it. */
static void the_stack_alone_keeps_it_alive(void) {
    start();
    uintptr_t before = add(7);
    char *volatile word = inside_first(sizeof(struct node));
    root->next = NULL;
    for (int i = 0; i < 4; i++) collect(i == 2 ? GC_FULL : GC_MINOR);
    struct node *p = (struct node *)(void *)word - 1;
    REQUIRE(hide(p) == before && p->number == 7 && gc_type_of(p) == node_type);
}

static void *static_word;

static __attribute__((noinline)) void store(void **place) {
    *place = root->next;
}

static void static_data_holds(void) {
    start();
    uintptr_t before = add(2);
    store(&static_word);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

static void a_root_range_holds(void) {
    start();
    void **range = calloc(4, sizeof *range);
    REQUIRE_EQUAL(gc_add_root(range, 4 * sizeof *range), 0);
    uintptr_t before = add(2);
    store(range + 3);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

static void **untyped;

static void an_old_untyped_object_holds(void) {
    start();
    untyped = gc_alloc(16);
    settle_old();
    for (unsigned i = 0; i < 5; i++) {
        uintptr_t before = add(i);
        store(untyped);
        collect(GC_MINOR);
        REQUIRE(first_is_at(before));
        settle_old();
    }
}

static void an_old_large_untyped_object_holds(void) {
    start();
    untyped = gc_alloc(1 << 20);
    settle_old();
    for (unsigned i = 0; i < 5; i++) {
        uintptr_t before = add(i);
        store(untyped + 100000);
        collect(GC_MINOR);
        REQUIRE(first_is_at(before));
        settle_old();
    }
}

static void a_young_untyped_object_holds(void) {
    start();
    for (unsigned i = 0; i < 5; i++) {
        uintptr_t before = add(i);
        untyped = gc_alloc(16 << i);
        store(untyped + 1);
        collect(GC_MINOR);
        REQUIRE(first_is_at(before));
    }
}

static void a_young_large_untyped_object_holds(void) {
    start();
    uintptr_t before = add(2);
    untyped = gc_alloc(100000);
    store(untyped + 1000);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

/* With the option. */
static void one_past_the_end_in_an_untyped_object_holds(void) {
    start();
    for (unsigned i = 0; i < 5; i++) {
        uintptr_t before = add(i);
        untyped = gc_alloc(32);
        untyped[1] = inside_first(sizeof(struct node));
        collect(GC_MINOR);
        REQUIRE(first_is_at(before));
    }
}

/* The typed object that leads to it is found before the untyped one. */
static void an_untyped_object_that_is_found_late_holds(void) {
    start();
    uintptr_t before = add(2);
    void **p = gc_alloc(64);
    p[3] = root->next;
    struct node *last = root->next;
    for (unsigned i = 0; i < 50; i++) last = last->next = gc_alloc_typed(node_type);
    last->other = (struct node *)(void *)p;
    p = NULL, last = NULL;
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

static __attribute__((noinline)) void make_dead_holders(size_t size, unsigned word) {
    for (unsigned i = 0; i < 3; i++) store((void **)gc_alloc(size) + word);
}

static void a_dead_young_untyped_object_holds(void) {
    start();
    uintptr_t before = add(2);
    make_dead_holders(16, 1);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
    before = add(3);
    make_dead_holders(5000, 600);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
    before = add(4);
    make_dead_holders(20000, 2000);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

static const gc_type *holder_type;

static void an_ambiguous_holder_type_holds(void) {
    start();
    holder_type = gc_type_register(
        &(gc_type_desc){.name = "holder", .size = 48, .flags = GC_TYPE_AMBIGUOUS_HOLDER});
    uintptr_t before = add(2), there = hide(untyped = gc_alloc_typed(holder_type));
    *(char **)(untyped + 5) = inside_first(9);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before) && hide(untyped) == there);
}

/* It is reached from a typed parent alone. */
static void untyped_objects_and_leaves_keep_their_address(void) {
    start();
    uintptr_t before[3];
    root->next = gc_alloc(48);
    root->other = gc_alloc_typed(node_type);
    root->other->next = gc_alloc_leaf(48);
    root->other->other = gc_alloc_typed(
        gc_type_register(&(gc_type_desc){.name = "leaf", .size = 13, .flags = GC_TYPE_LEAF}));
    before[0] = hide(root->next);
    before[1] = hide(root->other->next);
    before[2] = hide(root->other->other);
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(before, 3), 3);
    REQUIRE(hide(root->next) == before[0]);
    REQUIRE(hide(root->other->next) == before[1] && hide(root->other->other) == before[2]);
}

static void a_pinned_type_stays(void) {
    need_optimised_code();
    start();
    gc_type_desc desc = node_desc;
    desc.name = "pinned";
    desc.flags = GC_TYPE_PINNED;
    const gc_type *type = gc_type_register(&desc);
    uintptr_t behind = add(3), before = add_one_of(type, 2);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before) && root->next->number == 2);
    REQUIRE(hide(root->next->next) != behind && root->next->next->number == 3);
}

static void a_pinned_object_stays(void) {
    need_optimised_code();
    start();
    uintptr_t before = add(2);
    REQUIRE_EQUAL(gc_pin(inside_first(8)), 0);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before) && root->next->number == 2);
    before = add(3);
    REQUIRE_EQUAL(gc_pin(root->next), 0);
    REQUIRE_EQUAL(gc_unpin(root->next), 0);
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before) && root->next->number == 3);
}

/* ---- How much moves ------------------------------------------------------------------------- */

/* Garbage, too, of which most young objects are in most programs. */
static __attribute__((noinline)) void add_among_others(uint64_t number) {
    for (int i = 0; i < 9; i++) {
        struct node *p = gc_alloc_typed(node_type);
        p->next = root->next;
    }
    add(number);
}

/* A list of N nodes, and every 1000th object an untyped one. */
static void a_few_untyped_objects_dont_hinder_moving(void) {
    enum { NODES = 200000, EVERY = 100 };
    need_optimised_code();
    start();
    uintptr_t *hidden = calloc(NODES, sizeof *hidden);
    REQUIRE(hidden != NULL);
    for (size_t i = 0; i < NODES; i++) {
        add_among_others(i);
        hidden[i] = hide(root->next);
        if (i % EVERY == 0) root->next->other = gc_alloc(32);
    }
    collect(GC_MINOR);
    size_t moved = 0, i = NODES;
    for (struct node *p = root->next; p != NULL; p = p->next) {
        i--;
        REQUIRE_EQUAL(p->number, i);
        moved += hide(p) != hidden[i];
        REQUIRE((p->other != NULL) == (i % EVERY == 0));
        REQUIRE(p->other == NULL || gc_size(p->other) == 32);
    }
    REQUIRE_EQUAL(i, 0);
    free(hidden);
    gc_stats stats = statistics();
    printf("%zu of %d moved, in %llu minor collections; %llu were full\n", moved, (int)NODES,
        (unsigned long long)stats.minor.count, (unsigned long long)stats.full.count);
    REQUIRE(moved > NODES / 2); /* a full collection leaves young objects in place */
}

static void with_many_untyped_objects_nothing_moves(void) {
    start();
    gc_disable();
    for (int i = 0; i < 100000; i++) gc_alloc(32);
    gc_enable();
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0); /* so that there are more than a few */
    root->next = NULL;
    gc_disable();
    uintptr_t *hidden = calloc(100000, sizeof *hidden);
    for (size_t i = 0; i < 100000; i++) {
        hidden[i] = add(i);
        if (i % 2 == 0) root->next->other = gc_alloc(32);
    }
    gc_enable();
    collect(GC_MINOR);
    size_t i = 100000;
    for (struct node *p = root->next; p != NULL; p = p->next) {
        REQUIRE(hide(p) == hidden[--i] && p->number == i);
        REQUIRE((p->other != NULL) == (i % 2 == 0));
    }
    REQUIRE_EQUAL(i, 0);
    free(hidden);
}

/* ---- Fields --------------------------------------------------------------------------------- */

enum { TARGETS = 200 };
static uintptr_t targets[TARGETS], junk[TARGETS];

/* Nodes whose junk is the address of others that nothing refers to. */
static __attribute__((noinline)) void make_junk(void) {
    for (unsigned i = 0; i < TARGETS; i++) {
        struct node *target = gc_alloc_typed(node_type);
        targets[i] = hide(target);
        add(i);
        root->next->junk = (uintptr_t)target;
        junk[i] = hide(target);
    }
}

static void a_field_that_is_no_pointer_is_neither_followed_nor_changed(void) {
    need_optimised_code();
    start();
    make_junk();
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(count_alive(targets, TARGETS) <= 5);
    unsigned i = TARGETS;
    for (const struct node *p = root->next; p != NULL; p = p->next) {
        i--;
        REQUIRE_EQUAL(p->number, i);
        REQUIRE(p->junk == ~junk[i]);
    }
    REQUIRE_EQUAL(i, 0);
}

/* The junk names what lives and moves. */
static void an_address_in_a_field_that_is_no_pointer_stays_as_it_is(void) {
    need_optimised_code();
    start();
    uintptr_t before = add(2);
    root->junk = root->next->junk = (uintptr_t)root->next;
    uint64_t *leaf = gc_alloc_leaf(16);
    root->other = (struct node *)(void *)leaf;
    leaf[0] = root->junk;
    leaf = NULL;
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before));
    REQUIRE(root->junk == (uintptr_t)reveal(before) && root->next->junk == root->junk);
    REQUIRE(*(uint64_t *)(void *)root->other == root->junk);
}

static void a_word_outside_the_heap_in_a_field_is_left_alone(void) {
    static struct node outside;
    start();
    add(2);
    root->next->next = &outside;
    root->other = &outside;
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(root->next->next == &outside && root->other == &outside);
}

static void the_type_of_an_object_is_known(void) {
    REQUIRE(gc_type_of(&root) == NULL);
    start();
    static const uint32_t first[] = {0};
    const gc_type *tiny = gc_type_register(
        &(gc_type_desc){.name = "tiny", .size = 16, .pointers = first, .pointer_count = 1});
    const gc_type *huge = gc_type_register(
        &(gc_type_desc){.name = "huge", .size = 1 << 20, .pointers = first, .pointer_count = 1});
    struct {
        void *p;
        const gc_type *type;
    } objects[] = {{gc_alloc_typed(tiny), tiny}, {gc_alloc_typed(node_type), node_type},
        {gc_alloc_typed(huge), huge}, {gc_alloc_array(tiny, 2), tiny},
        {gc_alloc_array(tiny, 0), tiny}, {gc_alloc_array(node_type, 200), node_type},
        {gc_alloc_array(tiny, 3000), tiny}, {gc_alloc(32), NULL}, {gc_alloc_leaf(32), NULL}};
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
            REQUIRE(gc_type_of(objects[i].p) == objects[i].type);
            REQUIRE(gc_type_of((char *)objects[i].p + 8) == NULL);
        }
        collect(round == 2 ? GC_FULL : GC_MINOR);
    }
    REQUIRE(gc_type_of(NULL) == NULL && gc_type_of(&root) == NULL);
    REQUIRE(strcmp(tiny->desc->name, "tiny") == 0 && tiny->desc->size == 16);
    REQUIRE(tiny->desc->pointers != first && tiny->desc->pointers[0] == 0);
}

/* ---- Arrays and sizes ----------------------------------------------------------------------- */

static void **array;

/* Each of N words at STRIDE gets an object of its own; then they are checked. */
static __attribute__((noinline)) void fill_array(size_t n, size_t stride, size_t at) {
    for (size_t i = 0; i < n; i++) {
        struct node *p = gc_alloc_typed(node_type);
        p->number = i;
        array[i * stride + at] = p;
    }
}

static __attribute__((noinline)) void check_array(size_t n, size_t stride, size_t at) {
    for (size_t i = 0; i < n; i++) {
        const struct node *p = array[i * stride + at];
        REQUIRE_EQUAL(p->number, i);
        REQUIRE(gc_type_of(p) == node_type);
    }
}

/* Arrays of so many elements of WORDS words with one pointer, from a parent that is typed. */
static void elements_survive(const char *name, uint32_t words, uint32_t at) {
    static const size_t counts[] = {1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 127, 128, 129, 1000, 20000};
    uint32_t offset = at * 8;
    const gc_type *type = gc_type_register(
        &(gc_type_desc){.name = name, .size = words * 8, .pointers = &offset, .pointer_count = 1});
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        root->next = gc_alloc_array(type, counts[i]);
        array = (void **)(void *)root->next;
        fill_array(counts[i], words, at);
        array = NULL;
        for (int round = 0; round < 4; round++) {
            collect(round == 2 ? GC_FULL : GC_MINOR);
            array = (void **)(void *)root->next;
            REQUIRE(gc_type_of(array) == type);
            check_array(counts[i], words, at);
            if (round == 0) fill_array(counts[i], words, at);
            array = NULL;
        }
    }
}

static void every_element_of_an_array_is_searched(void) {
    start();
    elements_survive("one", 1, 0);
    elements_survive("two", 2, 1);
    elements_survive("three", 3, 1);
    elements_survive("five", 5, 4);
    elements_survive("far", 130, 128);
}

static void an_array_too_large_is_refused(void) {
    start();
    errno = 0;
    REQUIRE(gc_alloc_array(node_type, SIZE_MAX / 8) == NULL);
    REQUIRE_EQUAL(errno, ENOMEM);
    errno = 0;
    REQUIRE(gc_alloc_array(node_type, SIZE_MAX / 64) == NULL);
    REQUIRE_EQUAL(errno, ENOMEM);
}

static void a_resized_typed_object_keeps_type_and_contents(void) {
    start();
    static const uint32_t first[] = {0};
    const gc_type *pair = gc_type_register(
        &(gc_type_desc){.name = "pair", .size = 16, .pointers = first, .pointer_count = 1});
    static const size_t counts[] = {1, 2, 1, 3, 40, 70, 600, 599, 5000, 70000, 300, 2, 1, 64, 1};
    size_t kept = 1;
    array = gc_alloc_typed(pair);
    fill_array(1, 2, 0);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        array = gc_realloc(array, counts[i] * 16);
        if (counts[i] < kept) kept = counts[i];
        REQUIRE(gc_type_of(array) == pair);
        check_array(kept, 2, 0);
        REQUIRE(all_bytes(array + kept * 2, 0, (counts[i] - kept) * 16));
        fill_array(counts[i], 2, 0);
        kept = counts[i];
        collect(i % 3 == 0 ? GC_FULL : GC_MINOR);
        check_array(kept, 2, 0);
        REQUIRE(gc_type_of(array) == pair);
    }
}

/* What is left of one object that is cut off has its fields still. */
static void a_typed_object_cut_to_16_bytes_keeps_its_first_field(void) {
    static const uint32_t sizes[] = {32, 48, 200, 1024, 3000, 100000};
    static const uint32_t first[] = {0};
    start();
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char name[] = {(char)('a' + i), '\0'};
        const gc_type *type = gc_type_register(
            &(gc_type_desc){.name = name, .size = sizes[i], .pointers = first, .pointer_count = 1});
        array = gc_alloc_typed(type);
        fill_array(1, 1, 0);
        array = gc_realloc(array, 16);
        REQUIRE(gc_type_of(array) == type);
        collect(GC_MINOR);
        check_array(1, 1, 0);
        collect(GC_FULL);
        check_array(1, 1, 0);
    }
}

/* Of so many bytes, 8 pointers at the start, cut to half its size. */
static void a_typed_object_that_is_cut_keeps_the_fields_it_has(void) {
    static const uint32_t sizes[] = {128, 256, 400, 1000, 3000, 100000};
    static const uint32_t first[] = {0, 8, 16, 24, 32, 40, 48, 56};
    start();
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char name[] = {(char)('a' + i), '\0'};
        const gc_type *type = gc_type_register(
            &(gc_type_desc){.name = name, .size = sizes[i], .pointers = first, .pointer_count = 8});
        root->next = gc_alloc_typed(type);
        array = (void **)(void *)root->next;
        fill_array(8, 1, 0);
        root->next = gc_realloc(array, sizes[i] / 2);
        array = NULL;
        for (int round = 0; round < 4; round++) {
            collect(round == 2 ? GC_FULL : GC_MINOR);
            array = (void **)(void *)root->next;
            REQUIRE(gc_type_of(array) == type);
            check_array(8, 1, 0);
            array = NULL;
        }
    }
}

/* ---- Threads -------------------------------------------------------------------------------- */

static struct node *grow(unsigned depth, uint64_t number) {
    struct node *p = gc_alloc_typed(node_type);
    p->number = number;
    if (depth > 0) {
        p->next = grow(depth - 1, number * 2);
        p->other = grow(depth - 1, number * 2 + 1);
    }
    return p;
}

static void check_tree(const struct node *p, unsigned depth, uint64_t number) {
    REQUIRE(p != NULL && p->number == number && gc_type_of(p) == node_type);
    REQUIRE((p->next != NULL) == (depth > 0));
    if (depth == 0) return;
    check_tree(p->next, depth - 1, number * 2);
    check_tree(p->other, depth - 1, number * 2 + 1);
}

static void *grow_trees(void *seed) {
    struct node *volatile kept = grow(15, (uintptr_t)seed);
    for (unsigned i = 0; i < 150; i++) {
        struct node *volatile tree = grow(10, (uintptr_t)seed + i);
        if (i % 16 == 0) gc_collect(i % 64 == 0 ? GC_FULL : GC_MINOR);
        if (i % 5 == 0) kept->next->next->next = grow(12, (uintptr_t)seed * 8);
        check_tree(tree, 10, (uintptr_t)seed + i);
        check_tree(kept, 15, (uintptr_t)seed);
    }
    return NULL;
}

static void threads_allocate_typed_objects_at_once(void) {
    start();
    pthread_t threads[2] = {
        start_thread(grow_trees, (void *)1000), start_thread(grow_trees, (void *)5000000)};
    grow_trees((void *)77);
    end_thread(threads[0]);
    end_thread(threads[1]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Trace functions that err --------------------------------------------------------------- */

static ptrdiff_t visited; /* bytes from the object's start */

static void trace_wrongly(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    (void)bytes, (void)from, (void)to;
    gc_visit(visitor, (void **)(void *)((char *)object + visited));
}

static void visit_wrongly(ptrdiff_t offset) {
    start();
    gc_type_desc desc = {.name = "crooked", .size = 48, .trace = trace_wrongly};
    visited = offset;
    add_one_of(gc_type_register(&desc), 2);
    collect(GC_MINOR);
}

static void visiting_what_is_behind_an_object_aborts(void) {
    visit_wrongly(48);
}

static void visiting_what_is_before_an_object_aborts(void) {
    visit_wrongly(-8);
}

static void visiting_what_is_misaligned_aborts(void) {
    visit_wrongly(4);
}

static void a_field_that_refers_into_the_middle_aborts(void) {
    start();
    add(2);
    root->other = (struct node *)(void *)((char *)root->next + 16);
    collect(GC_MINOR);
}

/* ---- All of them ---------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(few_ambiguous_objects),
        CHILD_TEST(some_ambiguous_objects),
        CHILD_TEST(many_ambiguous_objects),
        CHILD_TEST(few_in_a_small_graph, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(many_ambiguous_objects, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(collections_all_the_time, "CAIRN_STRESS=97", "CAIRN_VERIFY=1"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=none"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=cross"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=uffd"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_NURSERY=256K"),
        CHILD_TEST(few_ambiguous_objects, "CAIRN_WORKERS=1"),
        CHILD_TEST(few_ambiguous_objects, "CAIRN_ONE_PAST_END_IN_HEAP=1", "CAIRN_POISON=1"),
        CHILD_TEST(few_in_a_small_graph, "CAIRN_MARK_STACK_LIMIT=4K", "CAIRN_VERIFY=1"),
        CHILD_TEST(few_ambiguous_objects, "CAIRN_MARK_STACK_LIMIT=4K"),
        CHILD_TEST(a_young_survivor_moves_once),
        CHILD_TEST(a_full_collection_moves_nothing),
        CHILD_TEST(both_references_to_what_moves_are_changed),
        CHILD_TEST(a_survivor_of_1024_bytes_moves_and_a_larger_one_stays),
        CHILD_TEST(a_word_on_the_stack_holds),
        CHILD_TEST(an_interior_pointer_on_the_stack_holds),
        CHILD_TEST(one_past_the_end_on_the_stack_holds),
        CHILD_TEST(the_stack_alone_keeps_it_alive),
        CHILD_TEST(static_data_holds),
        CHILD_TEST(a_root_range_holds),
        CHILD_TEST(an_old_untyped_object_holds),
        CHILD_TEST(an_old_large_untyped_object_holds),
        CHILD_TEST(a_young_untyped_object_holds),
        CHILD_TEST(a_young_large_untyped_object_holds),
        CHILD_TEST(one_past_the_end_in_an_untyped_object_holds, "CAIRN_ONE_PAST_END_IN_HEAP=1"),
        CHILD_TEST(an_untyped_object_that_is_found_late_holds),
        CHILD_TEST(a_dead_young_untyped_object_holds),
        CHILD_TEST(an_ambiguous_holder_type_holds),
        CHILD_TEST(untyped_objects_and_leaves_keep_their_address),
        CHILD_TEST(a_pinned_type_stays),
        CHILD_TEST(a_pinned_object_stays),
        CHILD_TEST(a_few_untyped_objects_dont_hinder_moving),
        CHILD_TEST(with_many_untyped_objects_nothing_moves),
        CHILD_TEST(a_field_that_is_no_pointer_is_neither_followed_nor_changed),
        CHILD_TEST(an_address_in_a_field_that_is_no_pointer_stays_as_it_is),
        CHILD_TEST(a_word_outside_the_heap_in_a_field_is_left_alone),
        CHILD_TEST(the_type_of_an_object_is_known),
        CHILD_TEST(every_element_of_an_array_is_searched),
        CHILD_TEST(an_array_too_large_is_refused),
        CHILD_TEST(a_resized_typed_object_keeps_type_and_contents),
        CHILD_TEST(a_typed_object_cut_to_16_bytes_keeps_its_first_field),
        CHILD_TEST(a_typed_object_that_is_cut_keeps_the_fields_it_has),
        CHILD_TEST(threads_allocate_typed_objects_at_once),
        CHILD_TEST(threads_allocate_typed_objects_at_once, "CAIRN_NURSERY=1M"),
        CHILD_TEST(threads_allocate_typed_objects_at_once, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_STOP=safepoint"),
        CHILD_ABORT(visiting_what_is_behind_an_object_aborts, "of type crooked visits", NULL),
        CHILD_ABORT(visiting_what_is_before_an_object_aborts, "of type crooked visits", NULL),
        CHILD_ABORT(visiting_what_is_misaligned_aborts, "of type crooked visits", NULL),
        CHILD_ABORT(a_field_that_refers_into_the_middle_aborts,
            "refers into the middle of an object of type node", NULL),
    };
    return cmocka_run_group_tests_name("typed", tests, NULL, NULL);
}
