/* Describing types: what is refused, with which message, and that many types are told apart. */
#include <errno.h>
#include <stdio.h>

#include "cairn/embed.h"
#include "child.h"
#include "support.h"

struct node {
    struct node *next;
    uint64_t number;
    uintptr_t junk;
    struct node *other;
};

static const uint32_t node_pointers[] = {offsetof(struct node, next), offsetof(struct node, other)};

static const gc_type_desc node_desc = {
    .name = "node", .size = sizeof(struct node), .pointers = node_pointers, .pointer_count = 2};

static struct node *root;

/* A root that static data refers to, so that it stays where it is, and with it the object that ends
 * where it starts, which is the next one made. */
static void start(void) {
    const gc_type *node_type = gc_type_register(&node_desc);
    REQUIRE(node_type != NULL);
    root = gc_alloc_typed(node_type);
    gc_alloc_typed(node_type);
    root->number = 1;
}

/* A new object of TYPE, laid out like a node, that the root refers to, and nothing else. */
static void add_one_of(const gc_type *type, uint64_t number) {
    struct node *p = gc_alloc_typed(type);
    p->number = number;
    p->next = root->next;
    root->next = p;
}

/* ---- What is refused ------------------------------------------------------------------------ */

static void is_refused(const gc_type_desc *desc, int error) {
    errno = 0;
    REQUIRE(gc_type_register(desc) == NULL);
    REQUIRE_EQUAL(errno, error);
}

static gc_type_desc with_offsets(const uint32_t *offsets, size_t count) {
    return (gc_type_desc){.name = "wrong", .size = 32, .pointers = offsets, .pointer_count = count};
}

static void trace_nothing(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    (void)object, (void)bytes, (void)from, (void)to, (void)visitor;
}

static void no_description_is_refused(void) {
    is_refused(NULL, EINVAL);
}

static void an_offset_beyond_the_size_is_refused(void) {
    is_refused(
        &(gc_type_desc){
            .name = "wrong", .size = 32, .pointers = (uint32_t[]){8, 32}, .pointer_count = 2},
        EINVAL);
}

static void a_misaligned_offset_is_refused(void) {
    gc_type_desc desc = with_offsets((uint32_t[]){4}, 1);
    is_refused(&desc, EINVAL);
}

static void offsets_that_dont_ascend_are_refused(void) {
    gc_type_desc desc = with_offsets((uint32_t[]){16, 8}, 2);
    is_refused(&desc, EINVAL);
    desc = with_offsets((uint32_t[]){8, 8}, 2);
    is_refused(&desc, EINVAL);
}

static void offsets_that_are_null_are_refused(void) {
    gc_type_desc desc = with_offsets(NULL, 2);
    is_refused(&desc, EINVAL);
}

static void a_type_without_a_name_is_refused(void) {
    gc_type_desc desc = node_desc;
    desc.name = "";
    is_refused(&desc, EINVAL);
    desc.name = NULL;
    is_refused(&desc, EINVAL);
}

static void a_size_of_0_is_refused(void) {
    is_refused(&(gc_type_desc){.name = "wrong", .flags = GC_TYPE_LEAF}, EINVAL);
}

static void a_size_beyond_1_mib_is_refused(void) {
    gc_type_desc desc = node_desc;
    desc.name = "wrong";
    desc.size = (1 << 20) + 8;
    is_refused(&desc, EINVAL);
    desc.size = SIZE_MAX - 7;
    is_refused(&desc, EINVAL);
    desc.size = 1 << 20;
    REQUIRE(gc_type_register(&desc) != NULL);
}

static void a_size_that_is_no_multiple_of_8_is_refused(void) {
    gc_type_desc desc = node_desc;
    desc.name = "wrong";
    desc.size = 36;
    is_refused(&desc, EINVAL);
}

static void a_type_that_says_nothing_of_pointers_is_refused(void) {
    is_refused(&(gc_type_desc){.name = "wrong", .size = 32}, EINVAL);
    is_refused(&(gc_type_desc){.name = "wrong", .size = 32, .flags = GC_TYPE_PINNED}, EINVAL);
}

static void offsets_and_a_trace_function_are_refused(void) {
    gc_type_desc desc = node_desc;
    desc.name = "wrong";
    desc.trace = trace_nothing;
    is_refused(&desc, EINVAL);
}

static void a_leaf_with_pointers_is_refused(void) {
    gc_type_desc desc = node_desc;
    desc.name = "wrong";
    desc.flags = GC_TYPE_LEAF;
    is_refused(&desc, EINVAL);
    desc.flags = GC_TYPE_AMBIGUOUS_HOLDER;
    is_refused(&desc, EINVAL);
    is_refused(
        &(gc_type_desc){.name = "wrong", .size = 32, .trace = trace_nothing, .flags = GC_TYPE_LEAF},
        EINVAL);
}

static void a_leaf_that_holds_anything_is_refused(void) {
    is_refused(
        &(gc_type_desc){
            .name = "wrong", .size = 32, .flags = GC_TYPE_LEAF | GC_TYPE_AMBIGUOUS_HOLDER},
        EINVAL);
}

static void an_unknown_flag_is_refused(void) {
    gc_type_desc desc = node_desc;
    desc.name = "wrong";
    desc.flags = 1 << 20;
    is_refused(&desc, EINVAL);
    desc.flags = UINT32_C(1) << 31 | GC_TYPE_PINNED;
    is_refused(&desc, EINVAL);
}

static void a_name_that_is_taken_is_refused(void) {
    start();
    char name[] = "node";
    gc_type_desc desc = {.name = name, .size = 13, .flags = GC_TYPE_LEAF};
    is_refused(&desc, EEXIST);
    name[0] = 'm'; /* names are copied */
    REQUIRE(gc_type_register(&desc) != NULL);
    is_refused(&desc, EEXIST);
    name[0] = 'w';
    REQUIRE(gc_type_register(&desc) != NULL);
}

static void a_leaf_whose_layout_may_change_is_refused(void) {
    errno = 0;
    REQUIRE(gc_type_register(&(gc_type_desc){
                .name = "wrong", .size = 8, .flags = GC_TYPE_LEAF | GC_TYPE_LAYOUT_MAY_CHANGE}) ==
            NULL);
    REQUIRE_EQUAL(errno, EINVAL);
}

static void an_ambiguous_holder_with_plain_fields_is_refused(void) {
    REQUIRE(gc_type_register(&(gc_type_desc){.name = "wrong",
                .size = 8,
                .flags = GC_TYPE_AMBIGUOUS_HOLDER | GC_TYPE_PLAIN_FIELDS}) == NULL);
}

static void flags_are_told(void) {
    static const uint32_t offsets[] = {0};
    const gc_type *type = gc_type_register(&(gc_type_desc){.name = "one",
        .size = 16,
        .pointers = offsets,
        .pointer_count = 1,
        .flags = GC_TYPE_LAYOUT_MAY_CHANGE | GC_TYPE_PLAIN_FIELDS | GC_TYPE_PINNED});
    REQUIRE_EQUAL(
        type->desc->flags, GC_TYPE_LAYOUT_MAY_CHANGE | GC_TYPE_PLAIN_FIELDS | GC_TYPE_PINNED);
}

/* ---- Many types ----------------------------------------------------------------------------- */

/* All 238 work. */
static void the_239th_type_of_16_bytes_is_refused(void) {
    static const uint32_t first[] = {0};
    const gc_type *made[238];
    char name[16];
    gc_type_desc desc = {.name = name, .size = 16, .pointers = first, .pointer_count = 1};
    for (unsigned i = 0; i < 238; i++) {
        snprintf(name, sizeof name, "t%u", i);
        made[i] = gc_type_register(&desc);
        REQUIRE(made[i] != NULL);
    }
    snprintf(name, sizeof name, "one too many");
    is_refused(&desc, ENOSPC);
    start(); /* there is room for larger ones */
    for (unsigned i = 0; i < 238; i++) REQUIRE(gc_type_of(gc_alloc_typed(made[i])) == made[i]);
    for (unsigned i = 0; i < 238; i++) {
        root->next = gc_alloc_typed(made[i]);
        collect(GC_MINOR);
        REQUIRE(gc_type_of(root->next) == made[i]);
    }
}

/* Of twenty types that are used alike sixteen become hot.  Numbers from before, hot
 * numbers and others are on the list. */
static void types_stay_apart_when_they_become_hot(void) {
    enum { TYPES = 20, ROUNDS = 200 };
    const gc_type *made[TYPES];
    char name[16];
    start();
    gc_type_desc desc = node_desc;
    desc.name = name;
    for (unsigned i = 0; i < TYPES; i++) {
        snprintf(name, sizeof name, "t%u", i);
        desc.size = sizeof(struct node) + i % 4 * 8;
        made[i] = gc_type_register(&desc);
    }
    for (unsigned i = 0; i < ROUNDS * TYPES; i++) add_one_of(made[i % TYPES], i);
    for (int round = 0; round < 3; round++) {
        unsigned i = ROUNDS * TYPES;
        for (struct node *p = root->next; p != NULL; p = p->next) {
            REQUIRE_EQUAL(p->number, --i);
            REQUIRE(gc_type_of(p) == made[i % TYPES]);
        }
        REQUIRE_EQUAL(i, 0);
        collect(round == 1 ? GC_FULL : GC_MINOR);
    }
}

static void a_thousand_types_are_told_apart(void) {
    enum { TYPES = 1000 };
    static const gc_type *made[TYPES];
    char name[16];
    start();
    gc_type_desc desc = node_desc;
    desc.name = name;
    for (unsigned i = 0; i < TYPES; i++) {
        snprintf(name, sizeof name, "t%u", i);
        made[i] = gc_type_register(&desc);
        REQUIRE(made[i] != NULL);
        add_one_of(made[i], i);
    }
    for (int round = 0; round < 3; round++) {
        unsigned i = TYPES;
        for (struct node *p = root->next; p != NULL; p = p->next) {
            REQUIRE_EQUAL(p->number, --i);
            REQUIRE(gc_type_of(p) == made[i]);
        }
        REQUIRE_EQUAL(i, 0);
        collect(GC_MINOR);
    }
}

/* ---- All of them ---------------------------------------------------------------------------- */

#define SAYS(function, text) CHILD_SAYS(function, "type wrong: " text, NULL)

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(no_description_is_refused),
        SAYS(an_offset_beyond_the_size_is_refused, "the pointer at offset 32: expected a multiple"),
        SAYS(a_misaligned_offset_is_refused, "the pointer at offset 4: expected a multiple of 8"),
        SAYS(offsets_that_dont_ascend_are_refused, "offset 8 after 16: expected ascending"),
        SAYS(offsets_that_are_null_are_refused, "its offsets are NULL"),
        CHILD_SAYS(a_type_without_a_name_is_refused, "a type without a name", NULL),
        SAYS(a_size_of_0_is_refused, "its size must be 1 byte to 1 MiB"),
        SAYS(a_size_beyond_1_mib_is_refused, "its size must be 1 byte to 1 MiB"),
        SAYS(a_size_that_is_no_multiple_of_8_is_refused, "its size must be a multiple of 8"),
        SAYS(a_type_that_says_nothing_of_pointers_is_refused, "it has no offsets and no trace"),
        SAYS(offsets_and_a_trace_function_are_refused, "it has offsets and a trace function"),
        SAYS(a_leaf_with_pointers_is_refused, "a leaf or an ambiguous holder has neither"),
        SAYS(a_leaf_that_holds_anything_is_refused, "it can't be a leaf and an ambiguous holder"),
        SAYS(an_unknown_flag_is_refused, "a flag that this library doesn't know"),
        CHILD_SAYS(a_name_that_is_taken_is_refused, "type node: a type of that name", NULL),
        CHILD_SAYS(the_239th_type_of_16_bytes_is_refused,
            "type one too many: there are too many types: at most 60000, and 238 of up to 16 bytes",
            NULL),
        CHILD_TEST(a_thousand_types_are_told_apart),
        CHILD_TEST(types_stay_apart_when_they_become_hot),
        CHILD_TEST(types_stay_apart_when_they_become_hot, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_STRESS=53"),
        CHILD_SAYS(a_leaf_whose_layout_may_change_is_refused,
            "type wrong: a leaf or an ambiguous holder has no layout that may change", NULL),
        CHILD_SAYS(an_ambiguous_holder_with_plain_fields_is_refused,
            "type wrong: a leaf or an ambiguous holder has no fields that are plain", NULL),
        CHILD_TEST(flags_are_told),
    };
    return cmocka_run_group_tests_name("types", tests, NULL, NULL);
}
