/* Compaction: what moves out of sparse blocks, what stays and why, that memory goes back, and the
 * random program of typed_model.c with compactions under many settings. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "fewer.h"
#include "gc/heap.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

/* ---- The model ------------------------------------------------------------------------------ */

static void run(struct typed_plan plan) {
    struct typed_result result;
    plan.seed = model_seed();
    plan.compacts = true;
    typed_model_run(&plan, &result);
    typed_model_print(&result);
    REQUIRE(!are_many() || (statistics().compactions > 0 && result.moved_by_compaction > 0));
    REQUIRE(result.retained_percent < RETAINED_MOST);
}

static void few_ambiguous_objects(void) {
    run((struct typed_plan){.steps = 120000,
        .most_objects = 20000,
        .check_every = 5000,
        .ambiguous_one_in = 1000,
        .large = true});
}

static void some_ambiguous_objects(void) {
    run((struct typed_plan){.steps = 120000,
        .most_objects = 20000,
        .check_every = 5000,
        .ambiguous_one_in = 40,
        .large = true,
        .static_root = true});
}

static void many_ambiguous_objects(void) {
    run((struct typed_plan){.steps = 120000,
        .most_objects = 20000,
        .check_every = 5000,
        .ambiguous_one_in = 2,
        .large = true});
}

static void few_in_a_small_graph(void) {
    run((struct typed_plan){.steps = 60000,
        .most_objects = 3000,
        .check_every = 500,
        .ambiguous_one_in = 50,
        .large = true});
}

static void collections_all_the_time(void) {
    run((struct typed_plan){.steps = 30000,
        .most_objects = 1000,
        .check_every = 500,
        .ambiguous_one_in = 30,
        .static_root = true});
}

/* ---- A sparse heap -------------------------------------------------------------------------- */

struct node {
    struct node *next;
    void *body;
    uint64_t number;
    uintptr_t junk;
};

static const uint32_t node_pointers[] = {offsetof(struct node, next), offsetof(struct node, body)};

static gc_type_desc described(const char *name, uint32_t flags) {
    return (gc_type_desc){.name = name,
        .size = sizeof(struct node),
        .pointers = node_pointers,
        .pointer_count = 2,
        .flags = flags};
}

static const gc_type *node_type;
static void **slots; /* in memory from malloc, which holds nothing in place */

enum { LIST, OTHER, SLOTS };

static void start(void) {
    gc_type_desc desc = described("node", 0);
    node_type = gc_type_register(&desc);
    REQUIRE(node_type != NULL);
    slots = calloc(SLOTS, sizeof *slots);
    REQUIRE_EQUAL(gc_add_slots(slots, SLOTS), 0);
}

/* What is kept of COUNT nodes, one in ONE_IN, each with a leaf of SIZE bytes, is a list in SLOT. */
static __attribute__((noinline)) void make_list(
    unsigned slot, uint32_t count, uint32_t one_in, size_t size) {
    for (uint32_t i = 0; i < count; i++) {
        struct node *p = gc_alloc_typed(node_type);
        p->number = i;
        if (size > 0) {
            p->body = gc_alloc_leaf(size);
            fill_object(p->body, size, i);
        }
        if (i % one_in != 0) continue;
        p->next = slots[slot];
        slots[slot] = p;
    }
}

/* Its length; all must be what it was. */
static __attribute__((noinline)) uint32_t check_list(unsigned slot, size_t size) {
    uint32_t length = 0;
    for (struct node *p = slots[slot]; p != NULL; p = p->next, length++) {
        REQUIRE(gc_type_of(p) == node_type && gc_size(p) == sizeof *p);
        if (size == 0) continue;
        REQUIRE(gc_size(p->body) >= size && gc_base((char *)p->body + size - 1) == p->body);
        REQUIRE(check_object(p->body, size, p->number));
    }
    return length;
}

/* Drops all of it but one in ONE_IN. */
static __attribute__((noinline)) void thin_out(unsigned slot, uint32_t one_in) {
    for (struct node *p = slots[slot]; p != NULL; p = p->next)
        for (uint32_t i = 1; i < one_in && p->next != NULL; i++) p->next = p->next->next;
}

static void **words; /* hidden addresses, from malloc */

/* Notes where the nodes and bodies of the list are, two words for each. */
static __attribute__((noinline)) void note_list(unsigned slot, uint32_t length) {
    words = calloc(length * 2, sizeof *words);
    uint32_t i = 0;
    for (struct node *p = slots[slot]; p != NULL; p = p->next) {
        words[i++] = (void *)hide(p);
        words[i++] = (void *)hide(p->body);
    }
    REQUIRE_EQUAL(i, length * 2);
}

struct moves {
    uint32_t nodes, bodies;
};

static __attribute__((noinline)) struct moves count_moves(unsigned slot) {
    struct moves moves = {0, 0};
    uint32_t i = 0;
    for (struct node *p = slots[slot]; p != NULL; p = p->next, i += 2) {
        moves.nodes += words[i] != (void *)hide(p);
        moves.bodies += words[i + 1] != (void *)hide(p->body);
    }
    return moves;
}

static __attribute__((noinline)) struct node *nth(unsigned slot, uint32_t n) {
    struct node *p = slots[slot];
    while (n-- > 0) p = p->next;
    return p;
}

/* ---- What compaction does ------------------------------------------------------------------- */

/* Sizes whose bodies are bumped, and that are in cells. */
static void all_moves_out_of_sparse_blocks(size_t size) {
    need_optimised_code();
    start();
    make_list(LIST, 20000, 1, size);
    thin_out(LIST, 20);
    collect(GC_FULL);
    note_list(LIST, 1000);
    uint64_t before = statistics().small_bytes;
    collect(GC_COMPACT);
    gc_stats stats = statistics();
    struct moves moves = count_moves(LIST);
    REQUIRE_EQUAL(check_list(LIST, size), 1000);
    printf("%u nodes and %u bodies of 1000 moved; %llu KB of blocks before, %llu KB after\n",
        moves.nodes, moves.bodies, (unsigned long long)before / 1024,
        (unsigned long long)stats.small_bytes / 1024);
    /* A few may be in a block that was dense enough, or be meant by a stale word. */
    REQUIRE(moves.bodies >= 900);
    REQUIRE(stats.small_bytes - stats.small_live_bytes < 4 * (64 << 10));
    REQUIRE_EQUAL(stats.compactions, 1);
    REQUIRE(stats.compact_after == stats.small_bytes && stats.compact_before <= before);
    REQUIRE(stats.compact_moved > 0 && stats.compact_moved <= stats.compact_live);
    for (int i = 0; i < 3; i++) {
        collect(GC_MINOR);
        REQUIRE_EQUAL(check_list(LIST, size), 1000);
    }
}

static void small_leaves_move(void) {
    all_moves_out_of_sparse_blocks(200);
}

static void leaves_in_cells_move(void) {
    all_moves_out_of_sparse_blocks(3000);
}

static void typed_objects_in_cells_move(void) {
    need_optimised_code();
    start();
    gc_type_desc desc = described("big", 0);
    desc.size = 2000;
    const gc_type *big = gc_type_register(&desc);
    for (uint32_t i = 0; i < 4000; i++) {
        struct node *p = gc_alloc_typed(big);
        p->number = i;
        p->body = p;
        ((uint64_t *)p)[249] = ~(uint64_t)i;
        p->next = slots[LIST];
        slots[LIST] = p;
        p = NULL;
    }
    thin_out(LIST, 10);
    collect(GC_FULL);
    note_list(LIST, 400);
    collect(GC_COMPACT);
    REQUIRE(count_moves(LIST).nodes > 300);
    uint32_t number = 4009;
    for (struct node *p = slots[LIST]; p != NULL; p = p->next) {
        number -= 10;
        REQUIRE(p->number == number && p->body == p && gc_type_of(p) == big);
        REQUIRE(((uint64_t *)p)[249] == ~(uint64_t)number);
    }
    REQUIRE_EQUAL(number, 9);
    REQUIRE(statistics().small_bytes < 20 * (64 << 10));
}

static void memory_goes_back_to_the_system(void) {
    start();
    make_list(LIST, 200000, 1, 300);
    thin_out(LIST, 20);
    collect(GC_FULL);
    size_t before = resident_bytes();
    collect(GC_COMPACT);
    size_t after = resident_bytes();
    gc_stats stats = statistics();
    printf("%zu KB resident before, %zu KB after, %llu KB live, %llu KB given back\n", before >> 10,
        after >> 10, (unsigned long long)stats.live_bytes >> 10,
        (unsigned long long)stats.compact_released >> 10);
    REQUIRE(before > 40 << 20 && stats.compact_released > 20 << 20);
#ifndef GC_SANITIZE /* whose tables grow with what was ever touched */
    REQUIRE(after < stats.live_bytes + (9 << 20)); /* the program itself, and tables */
#endif
    REQUIRE(stats.free_bytes < 1 << 20);
    REQUIRE_EQUAL(check_list(LIST, 300), 10000);
}

static void a_dense_heap_is_left_alone(void) {
    start();
    make_list(LIST, 20000, 1, 200);
    collect(GC_FULL);
    collect(GC_COMPACT);
    gc_stats stats = statistics();
    REQUIRE(stats.compact_moved < stats.compact_live / 8);
    uint64_t moved = stats.compact_moved;
    collect(GC_COMPACT);
    REQUIRE(statistics().compact_moved <= moved);
    REQUIRE_EQUAL(check_list(LIST, 200), 20000);
}

/* Two lists that refer to one another, a large array and objects with a trace function. */
static void trace_body(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    struct node *p = object;
    (void)bytes, (void)from, (void)to;
    if (p->number % 2 == 0) gc_visit(visitor, &p->body);
}

static void every_precise_reference_is_changed(void) {
    need_optimised_code();
    start();
    static const uint32_t one[] = {8};
    gc_type_desc desc = {.name = "traced", .size = 64, .trace = trace_body};
    const gc_type *traced = gc_type_register(&desc);
    desc = (gc_type_desc){.name = "pair", .size = 24, .pointers = one, .pointer_count = 1};
    const gc_type *pair = gc_type_register(&desc);
    static const uint32_t zero[] = {0};
    desc = (gc_type_desc){.name = "pointer", .size = 8, .pointers = zero, .pointer_count = 1};
    const gc_type *pointer = gc_type_register(&desc);
    make_list(LIST, 60000, 20, 0);
    void **pairs = gc_alloc_array(pair, 3000), **pointers = gc_alloc_array(pointer, 3000);
    uint32_t i = 0;
    for (struct node *p = slots[LIST]; p != NULL; p = p->next, i++) {
        struct node *t = gc_alloc_typed(traced);
        t->number = i * 2;
        t->body = p;
        t->next = p; /* of the traced, no field */
        p->body = t;
        pairs[i * 3 + 1] = pointers[i] = p;
    }
    gc_handle *handle = gc_handle_new(pairs), *second = gc_handle_new(nth(LIST, 5));
    slots[OTHER] = pointers;
    pairs = pointers = NULL;
    collect(GC_FULL);
    note_list(LIST, 3000);
    collect(GC_COMPACT);
    REQUIRE(count_moves(LIST).nodes > 2500);
    REQUIRE(gc_handle_get(second) == nth(LIST, 5));
    pairs = gc_handle_get(handle);
    pointers = slots[OTHER];
    i = 0;
    for (struct node *p = slots[LIST]; p != NULL; p = p->next, i++) {
        const struct node *t = p->body;
        REQUIRE(pairs[i * 3 + 1] == p && pointers[i] == p);
        REQUIRE(gc_type_of(t) == traced && t->body == p && t->number == i * 2);
        REQUIRE(hide(t->next) == (uintptr_t)words[i * 2]);
    }
    REQUIRE_EQUAL(i, 3000);
}

/* ---- What stays ----------------------------------------------------------------------------- */

static void *static_word;
static void **untyped;

static __attribute__((noinline)) void store_words(void) {
    static_word = (char *)nth(LIST, 300)->body + 199;
    untyped[5] = nth(LIST, 400);
    untyped[6] = (char *)nth(LIST, 500)->body + 64;
    untyped[7] = (char *)nth(LIST, 600)->body + 208; /* past its end: holds by option only */
}

/* One of each, among 1000 objects that move: a word on the stack, one in static data and one in an
 * untyped object hold what they mean, to whatever byte of it they point. */
static void what_an_ambiguous_word_means_stays(void) {
    need_optimised_code();
    start();
    untyped = gc_alloc(64);
    make_list(LIST, 20000, 20, 200);
    collect(GC_FULL);
    note_list(LIST, 1000);
    char *volatile on_the_stack = (char *)nth(LIST, 100) + 13;
    char *volatile past_the_end = (char *)nth(LIST, 200)->body + 208;
    store_words();
    collect(GC_COMPACT);
    REQUIRE_EQUAL(check_list(LIST, 200), 1000);
    REQUIRE(on_the_stack == (char *)nth(LIST, 100) + 13);
    REQUIRE(past_the_end == (char *)nth(LIST, 200)->body + 208);
    REQUIRE(static_word == (char *)nth(LIST, 300)->body + 199);
    REQUIRE(untyped[5] == nth(LIST, 400));
    REQUIRE(untyped[6] == (char *)nth(LIST, 500)->body + 64);
    bool by_option = getenv("CAIRN_ONE_PAST_END_IN_HEAP") != NULL;
    REQUIRE((untyped[7] == (char *)nth(LIST, 600)->body + 208) == by_option);
    struct moves moves = count_moves(LIST);
    printf("%u nodes and %u bodies moved\n", moves.nodes, moves.bodies);
    REQUIRE(moves.nodes >= 900 && moves.nodes <= 998);
    REQUIRE(moves.bodies >= 900 && moves.bodies <= 997);
    gc_stats stats = statistics();
    REQUIRE(stats.compact_by_roots >= 32 + 2 * 208 && stats.compact_by_roots < 100 * 208);
    REQUIRE(stats.compact_by_objects >= 32 + 208 && stats.compact_by_objects < 8 * 208);
    REQUIRE(stats.compact_by_kind >= 64 && stats.compact_by_pins == 0);
}

static __attribute__((noinline)) void make_pinned(
    const gc_type *pinned, const gc_type *pinned_leaf) {
    nth(LIST, 0)->body = gc_alloc_typed(pinned);
    nth(LIST, 1)->body = gc_alloc_typed(pinned_leaf);
    nth(LIST, 2)->body = gc_alloc_array(pinned_leaf, 20);
    nth(LIST, 3)->body = gc_alloc_typed(pinned_leaf);
    gc_alloc_leaf(16); /* so that it can't grow where it is */
    nth(LIST, 3)->body = gc_realloc(nth(LIST, 3)->body, 900);
}

static __attribute__((noinline)) void pin_some(void) {
    REQUIRE_EQUAL(gc_pin((char *)nth(LIST, 700)->body + 5), 0);
    REQUIRE_EQUAL(gc_pin(nth(LIST, 800)), 0);
    REQUIRE_EQUAL(gc_pin(nth(LIST, 900)), 0);
    REQUIRE_EQUAL(gc_unpin(nth(LIST, 900)), 0);
}

static void what_is_pinned_stays(void) {
    need_optimised_code();
    start();
    gc_type_desc desc = described("pinned", GC_TYPE_PINNED);
    const gc_type *pinned = gc_type_register(&desc);
    desc = (gc_type_desc){.name = "leaf", .size = 200, .flags = GC_TYPE_LEAF | GC_TYPE_PINNED};
    const gc_type *pinned_leaf = gc_type_register(&desc);
    make_list(LIST, 10000, 20, 200);
    make_pinned(pinned, pinned_leaf);
    make_list(LIST, 10000, 20, 200);
    collect(GC_FULL);
    pin_some();
    note_list(LIST, 1000);
    collect(GC_COMPACT);
    for (uint32_t i = 500; i < 504; i++)
        REQUIRE(hide(nth(LIST, i)->body) == (uintptr_t)words[i * 2 + 1]);
    REQUIRE(hide(nth(LIST, 700)->body) == (uintptr_t)words[700 * 2 + 1]);
    REQUIRE(hide(nth(LIST, 800)) == (uintptr_t)words[800 * 2]);
    struct moves moves = count_moves(LIST);
    REQUIRE(moves.nodes >= 900 && moves.bodies >= 900);
    uint64_t expected = 32 + 208 + 4000 + 912 + 208 + 32; /* more in cells of their class */
    uint64_t by_pins = statistics().compact_by_pins;
    printf("%llu bytes pinned\n", (unsigned long long)by_pins);
    REQUIRE(by_pins >= expected && by_pins <= expected + 200);
}

/* Of a block that can't be emptied, the pages on which nothing lives go back. */
static void pages_between_pinned_objects_go_back(void) {
    start();
    make_list(LIST, 400000, 1, 200);
    thin_out(LIST, 20);
    collect(GC_FULL);
    uint32_t i = 0;
    for (struct node *p = slots[LIST]; p != NULL; p = p->next, i++)
        if (i % 15 == 0) REQUIRE_EQUAL(gc_pin(p->body), 0); /* one in each block of 64 KiB */
    size_t before = resident_bytes();
    collect(GC_COMPACT);
    size_t after = resident_bytes();
    gc_stats stats = statistics();
    printf("%zu KB resident before, %zu KB after, %llu KB live\n", before >> 10, after >> 10,
        (unsigned long long)stats.live_bytes >> 10);
    REQUIRE_EQUAL(check_list(LIST, 200), 20000);
    REQUIRE(before > 80 << 20 && after < 30 << 20);
    make_list(OTHER, 400000, 1000, 200); /* allocates in these blocks again */
    REQUIRE_EQUAL(check_list(LIST, 200), 20000);
}

static void nothing_moves_without_precise_references(void) {
    enum { COUNT = 20000 };
    untyped = gc_alloc(COUNT / 20 * sizeof *untyped);
    for (uint32_t i = 0; i < COUNT; i++) {
        void *p = i % 2 == 0 ? gc_alloc_leaf(300) : gc_alloc(300);
        fill_object(p, 300, i);
        if (i % 20 < 2) untyped[i / 20] = p;
    }
    void **copy = calloc(COUNT / 20, sizeof *copy);
    memcpy(copy, untyped, COUNT / 20 * sizeof *copy);
    collect(GC_COMPACT);
    REQUIRE(memcmp(copy, untyped, COUNT / 20 * sizeof *copy) == 0);
    for (uint32_t i = 1; i < COUNT; i += 20) REQUIRE(check_object(untyped[i / 20], 300, i));
    gc_stats stats = statistics();
    REQUIRE_EQUAL(stats.compactions, 1);
    REQUIRE_EQUAL(stats.compact_moved, 0);
    REQUIRE(stats.compact_by_kind > 0 && stats.compact_before == stats.compact_after);
}

/* ---- Fields that err ------------------------------------------------------------------------ */

static void refer_into_the_middle_of(bool leaf) {
    need_optimised_code();
    start();
    make_list(LIST, 20000, 20, 200);
    collect(GC_FULL);
    struct node *p = nth(LIST, 10), *q = nth(LIST, 20);
    p->body = leaf ? (char *)q->body + 32 : (char *)q + 16;
    p = q = NULL;
    collect(GC_COMPACT);
}

static void a_field_that_refers_into_a_typed_object_aborts(void) {
    refer_into_the_middle_of(false);
}

static void a_field_that_refers_into_a_leaf_aborts(void) {
    refer_into_the_middle_of(true);
}

static void a_slot_that_refers_into_the_first_granule_aborts(void) {
    need_optimised_code();
    start();
    make_list(LIST, 20000, 20, 200);
    slots[OTHER] = (char *)nth(LIST, 10) + 8;
    collect(GC_COMPACT);
}

/* ---- By itself ------------------------------------------------------------------------------ */

static uint64_t compactions_after_thinning_out(void) {
    start();
    make_list(LIST, 400000, 1, 200);
    collect(GC_FULL);
    REQUIRE_EQUAL(statistics().compactions, 0);
    thin_out(LIST, 20);
    collect(GC_FULL);
    uint64_t before = statistics().small_bytes;
    for (int i = 0; i < 4 && statistics().compactions == 0; i++) collect(GC_FULL);
    gc_stats stats = statistics();
    REQUIRE_EQUAL(check_list(LIST, 200), 20000);
    if (stats.compactions > 0) REQUIRE(stats.small_bytes < before / 4);
    for (int i = 0; i < 4; i++) collect(GC_FULL);
    REQUIRE_EQUAL(statistics().compactions, stats.compactions); /* it isn't sparse now */
    return stats.compactions;
}

static void a_fragmented_heap_is_compacted(void) {
    REQUIRE_EQUAL(compactions_after_thinning_out(), 1);
    size_t resident = resident_bytes();
    printf("%zu KB resident\n", resident >> 10);
    REQUIRE(resident < 80 << 20);
}

static void it_is_not_when_the_option_says_so(void) {
    REQUIRE_EQUAL(compactions_after_thinning_out(), 0);
    collect(GC_COMPACT);
    REQUIRE_EQUAL(check_list(LIST, 200), 20000);
}

static void a_heap_fragmented_by_what_is_held_is_not_compacted(void) {
    start();
    make_list(LIST, 400000, 1, 200);
    thin_out(LIST, 20);
    untyped = gc_alloc(40000 * sizeof *untyped);
    uint32_t i = 0;
    for (struct node *p = slots[LIST]; p != NULL; p = p->next) {
        untyped[i++] = p;
        untyped[i++] = p->body;
    }
    for (i = 0; i < 6; i++) collect(GC_FULL);
    REQUIRE_EQUAL(statistics().compactions, 0);
}

static void a_program_without_types_is_not_compacted(void) {
    enum { COUNT = 400000 };
    untyped = gc_alloc(COUNT * sizeof *untyped);
    for (uint32_t i = 0; i < COUNT; i++) untyped[i] = gc_alloc_leaf(200);
    for (uint32_t i = 0; i < COUNT; i++)
        if (i % 20 != 0) untyped[i] = NULL;
    for (int i = 0; i < 6; i++) {
        collect(GC_FULL);
        REQUIRE(!gci_default_heap()->marker.holding); /* which would cost something */
    }
    REQUIRE_EQUAL(statistics().compactions, 0);
}

/* ---- Little memory, threads, fork ----------------------------------------------------------- */

static __attribute__((noinline)) uint32_t fill_up(unsigned slot) {
    uint32_t length = 0;
    for (struct node *p; (p = gc_alloc_typed(node_type)) != NULL; length++) {
        p->number = length;
        p->next = slots[slot];
        slots[slot] = p;
    }
    return length;
}

/* Nothing is free when memory is short, and little lives in each block. */
static void a_full_heap_gets_the_room_that_compaction_makes(void) {
    need_optimised_code();
    start();
    uint32_t length = fill_up(LIST);
    thin_out(LIST, 10);
    clear_stack();
    void *large = gc_alloc_leaf(10 << 20);
    REQUIRE(large != NULL);
    REQUIRE_EQUAL(check_list(LIST, 0), (length + 9) / 10);
    gc_stats stats = statistics();
    REQUIRE(stats.heap_bytes + stats.free_bytes <= 16 << 20);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* There is no room for copies beyond what is free. */
static void without_memory_what_can_be_moved_is(void) {
    start();
    make_list(LIST, 40000, 1, 200);
    thin_out(LIST, 3);
    collect(GC_FULL);
    uint64_t before = statistics().small_bytes;
    for (int i = 0; i < 4; i++) {
        collect(GC_COMPACT);
        REQUIRE_EQUAL(check_list(LIST, 200), 13334);
    }
    printf("%llu KB of blocks before, %llu KB after\n", (unsigned long long)before / 1024,
        (unsigned long long)statistics().small_bytes / 1024);
    REQUIRE(statistics().small_bytes < before);
}

/* What is live is little, but in all blocks of the heap. */
static void a_large_object_gets_the_room_that_compaction_makes(void) {
    need_optimised_code();
    start();
    make_list(LIST, 80000, 1, 200);
    thin_out(LIST, 40);
    collect(GC_FULL);
    size_t size = 18 << 20;
    REQUIRE(statistics().small_bytes + size > 30 << 20);
    char *p = gc_alloc_leaf(size);
    REQUIRE(p != NULL && all_bytes(p, 0, size));
    REQUIRE_EQUAL(statistics().compactions, 1);
    REQUIRE_EQUAL(check_list(LIST, 200), 2000);
}

/* The barrier's faults would cost more than opening what is protected does. */
static void compaction_takes_no_faults(void) {
    start();
    make_list(LIST, 100000, 1, 0);
    settle_old();
    thin_out(LIST, 5);
    settle_old();
    REQUIRE(statistics().closed_blocks > 20);
    struct gci_barrier_stats before, after;
    gci_barrier_get_stats(gci_default_heap()->barrier, &before);
    collect(GC_COMPACT);
    gci_barrier_get_stats(gci_default_heap()->barrier, &after);
    REQUIRE(statistics().compact_moved > 0);
    REQUIRE_EQUAL(after.faults, before.faults);
    REQUIRE(statistics().closed_blocks > 5);
    REQUIRE_EQUAL(check_list(LIST, 0), 20000);
}

enum { TREES = 2 };

struct tree {
    struct tree *left, *right;
    uint64_t *number; /* a leaf */
};

static const gc_type *tree_type;

static struct tree *grow(unsigned depth, uint64_t number) {
    struct tree *t = gc_alloc_typed(tree_type);
    t->number = gc_alloc_leaf(24);
    *t->number = number;
    if (depth == 0) return t;
    t->left = grow(depth - 1, number * 2);
    t->right = grow(depth - 1, number * 2 + 1);
    return t;
}

static void check_tree(const struct tree *t, unsigned depth, uint64_t number) {
    REQUIRE(t != NULL && gc_type_of(t) == tree_type && *t->number == number);
    if (depth == 0) return;
    check_tree(t->left, depth - 1, number * 2);
    check_tree(t->right, depth - 1, number * 2 + 1);
}

static int finished;

/* Each thread's oldest tree is in a slot of its own, a younger one on its stack. */
static void *grow_trees(void *seed) {
    gc_handle *handle = gc_handle_new(NULL);
    uint64_t number = (uintptr_t)seed;
    gc_handle_set(handle, grow(12, number));
    while (!look_at(&finished)) {
        struct tree *volatile t = grow(8, number);
        struct tree *kept = gc_handle_get(handle);
        kept->left->left->right = grow(9, number * 8 + 1);
        kept = NULL;
        check_tree(t, 8, number);
        check_tree(gc_handle_get(handle), 12, number);
    }
    gc_handle_free(handle);
    return NULL;
}

static void threads_go_on_between_compactions(void) {
    start();
    static const uint32_t all[] = {0, 8, 16};
    tree_type = gc_type_register(
        &(gc_type_desc){.name = "tree", .size = 24, .pointers = all, .pointer_count = 3});
    pthread_t threads[TREES];
    for (uintptr_t i = 0; i < TREES; i++)
        threads[i] = start_thread(grow_trees, (void *)(i * 1000000 + 1));
    uint64_t moved = 0;
    for (int i = 0; i < 60; i++) {
        make_list(OTHER, 5000, 20, 100);
        if (i % 10 == 9) slots[OTHER] = NULL;
        REQUIRE_EQUAL(gc_collect(i % 3 == 2 ? GC_MINOR : GC_COMPACT), 0);
        moved += statistics().compact_moved;
        if (i % 8 == 0) sleep_ms(10);
        check_list(OTHER, 0);
    }
    raise_flag(&finished, 1);
    for (unsigned i = 0; i < TREES; i++) end_thread(threads[i]);
    REQUIRE(moved > 0 && gc_verify() == 0);
}

static void a_child_of_fork_compacts(void) {
    start();
    make_list(LIST, 40000, 20, 200);
    collect(GC_COMPACT);
    thin_out(LIST, 4);
    pid_t child = fork();
    REQUIRE(child >= 0);
    collect(GC_COMPACT);
    REQUIRE_EQUAL(check_list(LIST, 200), 500);
    make_list(OTHER, 40000, 20, 100);
    collect(GC_COMPACT);
    REQUIRE(check_list(OTHER, 100) == 2000 && check_list(LIST, 200) == 500 && gc_verify() == 0);
    if (child == 0) _exit(0);
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

static void while_collection_is_disabled_it_is_refused(void) {
    start();
    gc_disable();
    REQUIRE_EQUAL(gc_collect(GC_COMPACT), EBUSY);
    gc_enable();
    REQUIRE_EQUAL(gc_collect(GC_COMPACT), 0);
    REQUIRE_EQUAL(gc_collect((enum gc_collection)(GC_COMPACT + 1)), EINVAL);
    REQUIRE_EQUAL(statistics().compactions, 1);
}

/* Fields changed after a compaction are seen by the minor collections after it. */
static void what_is_written_after_a_compaction_is_remembered(void) {
    start();
    make_list(LIST, 100000, 20, 0);
    for (int round = 0; round < 4; round++) {
        collect(GC_COMPACT);
        for (int i = 0; i < 4; i++) {
            uint32_t n = 0;
            for (struct node *p = slots[LIST]; p != NULL; p = p->next, n++) {
                if (n % 61 != (uint32_t)i) continue;
                p->body = gc_alloc_leaf(100);
                fill_object(p->body, 100, p->number);
            }
            collect(GC_MINOR);
            n = 0;
            for (struct node *p = slots[LIST]; p != NULL; p = p->next, n++)
                if (n % 61 == (uint32_t)i) REQUIRE(check_object(p->body, 100, p->number));
        }
        thin_out(LIST, 2);
    }
}

/* ---- All of them ---------------------------------------------------------------------------- */

#define CHECKED "CAIRN_VERIFY=1", "CAIRN_POISON=1"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(few_ambiguous_objects),
        CHILD_TEST(some_ambiguous_objects),
        CHILD_TEST(many_ambiguous_objects),
        CHILD_TEST(few_in_a_small_graph, CHECKED),
        CHILD_TEST(some_ambiguous_objects, CHECKED),
        CHILD_TEST(many_ambiguous_objects, CHECKED),
        CHILD_TEST(collections_all_the_time, "CAIRN_STRESS=53", CHECKED),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=mprotect", "CAIRN_VERIFY=1"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=none", "CAIRN_VERIFY=1"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=cross", "CAIRN_VERIFY=1"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_BARRIER=uffd", "CAIRN_VERIFY=1"),
        CHILD_TEST(some_ambiguous_objects, "CAIRN_NURSERY=256K", CHECKED),
        CHILD_TEST(few_ambiguous_objects, "CAIRN_WORKERS=1"),
        CHILD_TEST(few_ambiguous_objects, "CAIRN_ONE_PAST_END_IN_HEAP=1", CHECKED),
        CHILD_TEST(few_in_a_small_graph, "CAIRN_MARK_STACK_LIMIT=4K", "CAIRN_VERIFY=1"),
        CHILD_TEST(many_ambiguous_objects, "CAIRN_MARK_STACK_LIMIT=4K", "CAIRN_WORKERS=1"),
        CHILD_TEST(small_leaves_move),
        CHILD_TEST(small_leaves_move, CHECKED),
        CHILD_TEST(leaves_in_cells_move),
        CHILD_TEST(leaves_in_cells_move, CHECKED),
        CHILD_TEST(typed_objects_in_cells_move),
        CHILD_TEST(typed_objects_in_cells_move, CHECKED),
        CHILD_TEST(memory_goes_back_to_the_system),
        CHILD_TEST(a_dense_heap_is_left_alone),
        CHILD_TEST(every_precise_reference_is_changed),
        CHILD_TEST(every_precise_reference_is_changed, CHECKED, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(what_an_ambiguous_word_means_stays),
        CHILD_TEST(what_an_ambiguous_word_means_stays, "CAIRN_WORKERS=1"),
        CHILD_TEST(what_an_ambiguous_word_means_stays, "CAIRN_ONE_PAST_END_IN_HEAP=1", CHECKED),
        CHILD_TEST(what_is_pinned_stays),
        CHILD_TEST(what_is_pinned_stays, CHECKED),
        CHILD_TEST(pages_between_pinned_objects_go_back),
        CHILD_TEST(
            pages_between_pinned_objects_go_back, "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(nothing_moves_without_precise_references),
        CHILD_ABORT(a_field_that_refers_into_a_typed_object_aborts,
            "refers into the middle of an object of type node", NULL),
        CHILD_ABORT(a_field_that_refers_into_a_leaf_aborts,
            "refers into the middle of an object of type leaf", NULL),
        CHILD_ABORT(a_slot_that_refers_into_the_first_granule_aborts,
            "refers into the middle of an object of type node", NULL),
        CHILD_TEST(a_fragmented_heap_is_compacted),
        CHILD_TEST(a_fragmented_heap_is_compacted, "CAIRN_VERIFY=1"),
        CHILD_TEST(it_is_not_when_the_option_says_so, "CAIRN_COMPACT_PERCENT=0"),
        CHILD_TEST(a_heap_fragmented_by_what_is_held_is_not_compacted),
        CHILD_TEST(a_program_without_types_is_not_compacted),
        CHILD_TEST(without_memory_what_can_be_moved_is, "CAIRN_HEAP_LIMIT=12M", CHECKED),
        CHILD_TEST(
            a_full_heap_gets_the_room_that_compaction_makes, "CAIRN_HEAP_LIMIT=16M", CHECKED),
        CHILD_TEST(a_full_heap_gets_the_room_that_compaction_makes, "CAIRN_HEAP_LIMIT=16M",
            "CAIRN_VERIFY=1", "CAIRN_PROTECT_MOVED=5", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_large_object_gets_the_room_that_compaction_makes, "CAIRN_HEAP_LIMIT=30M",
            "CAIRN_COMPACT_PERCENT=0"),
        CHILD_TEST(compaction_takes_no_faults, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(threads_go_on_between_compactions),
        CHILD_TEST(threads_go_on_between_compactions, "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(threads_go_on_between_compactions, "CAIRN_STOP=safepoint", CHECKED),
        CHILD_TEST(a_child_of_fork_compacts, "CAIRN_VERIFY=1"),
        CHILD_TEST(while_collection_is_disabled_it_is_refused),
        CHILD_TEST(what_is_written_after_a_compaction_is_remembered, "CAIRN_VERIFY=1"),
        CHILD_TEST(what_is_written_after_a_compaction_is_remembered, "CAIRN_BARRIER=mprotect",
            "CAIRN_VERIFY=1"),
        CHILD_TEST(what_is_written_after_a_compaction_is_remembered, "CAIRN_BARRIER=cross",
            "CAIRN_VERIFY=1"),
    };
    return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
