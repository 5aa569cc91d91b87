/* Objects whose first word tells their layout: the random program of typed_model.c with them; what
 * moves, what holds, what a layout hook may answer. */
#include <errno.h>
#include <stdio.h>

#include "cairn/embed.h"
#include "child.h"
#include "fewer.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

/* ---- The model ------------------------------------------------------------------------------ */

static void run(struct typed_plan plan) {
    struct typed_result result;
    plan.seed = model_seed();
    typed_model_run(&plan, &result);
    typed_model_print(&result);
    REQUIRE(!are_many() || result.moved > 0);
    REQUIRE(result.retained_percent < RETAINED_MOST);
}

static void random_layouts(void) {
    run((struct typed_plan){.steps = 60000,
        .most_objects = 10000,
        .check_every = 5000,
        .ambiguous_one_in = 40,
        .large = true,
        .by_tag = true});
}

static void random_layouts_and_collections_all_the_time(void) {
    run((struct typed_plan){.steps = 10000,
        .most_objects = 1000,
        .check_every = 500,
        .ambiguous_one_in = 30,
        .static_root = true,
        .by_tag = true});
}

/* ---- Layouts by tag: small programs --------------------------------------------------------- */

static const gc_type *layouts[32];

/* Tags are 1 and up; what is above the lower 5 bits is the program's. */
static const gc_type *by_index(uintptr_t tag) {
    return layouts[tag & 31];
}

struct object {
    uintptr_t tag;
    struct object *next;
    uint64_t number;
    struct object *other;
};

static struct object *top;

static void start_layouts(void) {
    static const uint32_t next[] = {8}, both[] = {8, 24};
    layouts[1] = gc_type_register(&(gc_type_desc){.name = "both",
        .size = sizeof(struct object),
        .pointers = both,
        .pointer_count = 2,
        .flags = GC_TYPE_LAYOUT_MAY_CHANGE});
    layouts[2] = gc_type_register(&(gc_type_desc){.name = "next",
        .size = sizeof(struct object),
        .pointers = next,
        .pointer_count = 1,
        .flags = GC_TYPE_LAYOUT_MAY_CHANGE});
    layouts[3] =
        gc_type_register(&(gc_type_desc){.name = "bytes", .size = 1, .flags = GC_TYPE_LEAF});
    layouts[4] = gc_type_register(&(gc_type_desc){.name = "fixed",
        .size = sizeof(struct object),
        .pointers = next,
        .pointer_count = 1,
        .flags = GC_TYPE_PINNED});
    REQUIRE_EQUAL(gc_set_layout_hook(by_index), 0);
    top = gc_alloc_with_tag(1, sizeof *top);
    gc_alloc_with_tag(1, sizeof *top);
}

static __attribute__((noinline)) uintptr_t push(uintptr_t tag, size_t size, uint64_t number) {
    struct object *p = gc_alloc_with_tag(tag, size);
    REQUIRE(p->tag == tag && all_bytes(&p->next, 0, gc_size(p) - 8));
    p->next = top->next;
    if (size > 16) p->number = number;
    top->next = p;
    return hide(p);
}

static void an_object_by_tag_moves_with_its_tag(void) {
    need_optimised_code();
    start_layouts();
    uintptr_t before[3] = {push(1 | 0x500, 32, 7), push(2, 32, 8), push(2 | 0x900, 32, 9)};
    top->next->next->next->other = top->next;
    collect(GC_MINOR);
    const struct object *c = top->next, *b = c->next, *a = b->next;
    REQUIRE(hide(a) != before[0] && hide(b) != before[1] && hide(c) != before[2]);
    REQUIRE(a->tag == (1 | 0x500) && b->tag == 2 && c->tag == (2 | 0x900));
    REQUIRE(a->number == 7 && b->number == 8 && c->number == 9 && a->other == c);
    REQUIRE(gc_type_of(a) == layouts[1] && gc_type_of(c) == layouts[2]);
}

/* Of an object of one granule, of a cell, of a large one. */
static void layouts_by_tag_work_for_every_size(void) {
    static const uint32_t second[] = {8};
    start_layouts();
    static const size_t sizes[] = {16, 24, 1024, 1040, 3000, 8192, 9000, 200000};
    for (unsigned i = 0; i < 8; i++) {
        char name[] = {(char)('a' + i), '\0'};
        uintptr_t tag = 8 + i;
        layouts[tag] = gc_type_register(&(gc_type_desc){
            .name = name, .size = sizes[i], .pointers = second, .pointer_count = 1});
        top->next = NULL;
        uintptr_t before = push(1, 32, 3);
        push(tag, sizes[i], 4);
        for (int round = 0; round < 4; round++) {
            collect(round == 2 ? GC_FULL : GC_MINOR);
            REQUIRE(gc_type_of(top->next) == layouts[tag] && top->next->tag == tag);
            REQUIRE(top->next->next->number == 3);
        }
        before = hide(top->next->next);
        REQUIRE_EQUAL(count_alive(&before, 1), 1);
    }
}

static void without_a_tag_an_object_has_no_fields(void) {
    need_optimised_code();
    start_layouts();
    uintptr_t before = push(0, 32, 3), target = push(1, 32, 5);
    struct object *p = top->next->next;
    REQUIRE(gc_type_of(p) == NULL);
    p = NULL;
    collect(GC_MINOR);
    p = top->next->next;
    REQUIRE(hide(p) != before && p->tag == 0 && p->number == 3 && gc_type_of(p) == NULL);
    p->tag = 1;
    REQUIRE(gc_type_of(p) == layouts[1]);
    p->other = top->next;
    top->next = p;
    p = NULL;
    collect(GC_FULL);
    collect(GC_MINOR);
    target = hide(top->next->other);
    REQUIRE(count_alive(&target, 1) == 1 && top->next->other->number == 5);
}

static void a_leaf_s_layout_hides_its_words(void) {
    need_optimised_code();
    enum { TARGETS = 200 };
    start_layouts();
    uintptr_t dead[TARGETS];
    for (unsigned i = 0; i < TARGETS; i++) {
        push(1, 32, i);
        dead[i] = hide(top->next);
        struct object *p = top->next;
        top->next = p->next;
        push(3, 24, 1);
        top->next->number = (uint64_t)(uintptr_t)p;
        p = top->next;
        top->next = top->other;
        top->other = p;
        p->next = NULL;
        p = NULL;
    }
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(count_alive(dead, TARGETS) <= 5);
    REQUIRE(gc_type_of(top->other) == layouts[3]);
}

static void a_pinned_layout_keeps_its_address(void) {
    start_layouts();
    uintptr_t before = push(4, 32, 6);
    push(1, 32, 7);
    collect(GC_MINOR);
    REQUIRE(hide(top->next->next) == before && top->next->next->number == 6);
}

/* The first object gets TAG, and a fresh one in its field OTHER. */
static __attribute__((noinline)) uintptr_t change_layout(uintptr_t tag, uint64_t number) {
    struct object *p = top->next;
    p->tag = tag;
    push(1, 32, number);
    p->other = top->next;
    top->next = p;
    p->other->next = NULL;
    return hide(p->other);
}

/* Old and young, back and forth, in a closed block too. */
static void a_layout_changes(void) {
    need_optimised_code();
    start_layouts();
    push(2, 32, 1);
    settle_old();
    uintptr_t target = 0;
    for (unsigned i = 0; i < 12; i++) {
        bool both = i % 3 != 2;
        target = change_layout(both ? 1 : 2, i);
        collect(i % 4 == 3 ? GC_FULL : GC_MINOR);
        if (both) {
            REQUIRE(gc_type_of(top->next) == layouts[1] && top->next->other->number == i);
            if (i % 4 != 3) REQUIRE(hide(top->next->other) != target);
        } else {
            REQUIRE(gc_type_of(top->next) == layouts[2]);
            REQUIRE(hide(top->next->other) == target);
            top->next->other = NULL;
        }
    }
}

static void a_resized_object_keeps_its_tag_s_layout(void) {
    static const size_t sizes[] = {16, 24, 64, 48, 2000, 16, 100000, 20000, 9000, 24, 16, 40};
    static const uint32_t first_offset[] = {0};
    start_layouts();
    layouts[6] = gc_type_register(
        &(gc_type_desc){.name = "words", .size = 8, .pointers = first_offset, .pointer_count = 1});
    top->other = gc_alloc_with_tag(6, 16);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        push(1, 32, i);
        struct object **words = gc_realloc(top->other, sizes[i]);
        top->other = (struct object *)(void *)words;
        REQUIRE((uintptr_t)words[0] == 6 && gc_type_of(words) == layouts[6]);
        words[0] = (struct object *)3; /* it is by the tag still */
        REQUIRE(gc_type_of(words) == layouts[3]);
        words[0] = (struct object *)6;
        words[1] = top->next;
        if (sizes[i] >= 24) words[sizes[i] / 8 - 1] = top->next;
        words = NULL;
        top->next = NULL;
        collect(GC_MINOR);
        collect(i % 2 ? GC_FULL : GC_MINOR);
        words = (struct object **)(void *)top->other;
        REQUIRE((uintptr_t)words[0] == 6 && gc_type_of(words) == layouts[6]);
        REQUIRE(words[1]->number == i && words[1]->tag == 1);
        REQUIRE(sizes[i] < 24 || words[sizes[i] / 8 - 1] == words[1]);
        words = NULL;
    }
}

/* An interpreter's classes: the tag refers to one, which never moves, and is a field besides. */
struct class {
    uint64_t fields;
    char name[24];
};

static const gc_type *instance_types[4], *class_type;

static const gc_type *by_class(uintptr_t tag) {
    return instance_types[((const struct class *)tag)->fields];
}

static __attribute__((noinline)) struct object *new_instance(uint64_t fields) {
    struct class *class = gc_alloc_typed(class_type);
    class->fields = fields;
    snprintf(class->name, sizeof class->name, "of %d fields", (int)fields);
    return gc_alloc_with_tag((uintptr_t) class, 32);
}

static void a_tag_may_refer_to_a_class_that_stays(void) {
    static const uint32_t fields[3][3] = {{0, 8}, {0, 24}, {0, 8, 24}};
    static const uint8_t counts[] = {2, 2, 3};
    static const uint32_t no_fields[] = {24};
    need_optimised_code();
    {
        class_type = gc_type_register(&(gc_type_desc){.name = "class",
            .size = sizeof(struct class),
            .pointers = no_fields,
            .pointer_count = 1,
            .flags = GC_TYPE_PINNED});
        for (unsigned i = 0; i < 3; i++) {
            char name[] = {(char)('a' + i), '\0'};
            instance_types[i + 1] = gc_type_register(&(gc_type_desc){
                .name = name, .size = 32, .pointers = fields[i], .pointer_count = counts[i]});
        }
        REQUIRE_EQUAL(gc_set_layout_hook(by_class), 0);
    }
    top = new_instance(3);
    for (unsigned i = 0; i < 300; i++) {
        struct object *p = new_instance(1 + i % 3);
        p->number = i;
        if (i % 3 == 1) {
            p->other = top->next;
        } else {
            p->next = top->next;
        }
        top->next = p;
        p = NULL;
        if (i % 10 == 0) collect(i % 50 == 0 ? GC_FULL : GC_MINOR);
    }
    collect(GC_MINOR);
    unsigned i = 300, moved = 0;
    for (const struct object *p = top->next; p != NULL;) {
        const struct class *class = (const struct class *)p->tag;
        i--;
        REQUIRE(p->number == i && class->fields == 1 + i % 3);
        REQUIRE(class->name[3] == (char)('1' + i % 3) && gc_type_of(class) == class_type);
        REQUIRE(gc_type_of(p) == instance_types[1 + i % 3]);
        p = i % 3 == 1 ? p->other : p->next;
        moved++;
    }
    REQUIRE(i == 0 && moved == 300);
}

static void a_tag_that_refers_to_what_may_move_aborts(void) {
    start_layouts();
    top->next = gc_alloc_with_tag((uintptr_t)top, 32);
    layouts[(uintptr_t)top & 31] = layouts[1]; /* whatever its address */
    collect(GC_MINOR);
}

/* A compaction moves it, and the hook would read where it was. */
static void a_tag_that_refers_to_a_leaf_aborts(void) {
    start_layouts();
    void *leaf = gc_alloc_leaf(32);
    layouts[(uintptr_t)leaf & 31] = layouts[1];
    top->next = gc_alloc_with_tag((uintptr_t)leaf, 32);
    collect(GC_MINOR);
}

static void a_tag_may_refer_to_a_pinned_leaf(void) {
    start_layouts();
    void *leaf = gc_alloc_typed(gc_type_register(&(gc_type_desc){
        .name = "fixed bytes", .size = 32, .flags = GC_TYPE_LEAF | GC_TYPE_PINNED}));
    layouts[(uintptr_t)leaf & 31] = layouts[1];
    top->next = gc_alloc_with_tag((uintptr_t)leaf, 32);
    collect(GC_MINOR);
    collect(GC_COMPACT);
    REQUIRE(top->next->tag == (uintptr_t)leaf);
}

static void layouts_by_tag_are_explained(void) {
    start_layouts();
    push(1, 32, 5);
    push(2, 32, 6);
    REQUIRE_EQUAL(gc_explain(top->next->next), 0);
}

static struct object *grow(unsigned depth, uint64_t number) {
    struct object *p = gc_alloc_with_tag(1 | number << 5, sizeof *p);
    p->number = number;
    if (depth > 0) {
        p->next = grow(depth - 1, number * 2);
        p->other = grow(depth - 1, number * 2 + 1);
    }
    return p;
}

static void check_tree(const struct object *p, unsigned depth, uint64_t number) {
    REQUIRE(p->number == number && p->tag == (1 | number << 5));
    REQUIRE(gc_type_of(p) == layouts[1] && (p->next != NULL) == (depth > 0));
    if (depth == 0) return;
    check_tree(p->next, depth - 1, number * 2);
    check_tree(p->other, depth - 1, number * 2 + 1);
}

static void *grow_trees(void *seed) {
    struct object *volatile kept = grow(13, (uintptr_t)seed);
    for (unsigned i = 0; i < 100; i++) {
        struct object *volatile tree = grow(10, (uintptr_t)seed + i);
        if (i % 16 == 0) gc_collect(i % 64 == 0 ? GC_FULL : GC_MINOR);
        check_tree(tree, 10, (uintptr_t)seed + i);
        check_tree(kept, 13, (uintptr_t)seed);
    }
    return NULL;
}

static void threads_allocate_objects_by_tag_at_once(void) {
    start_layouts();
    pthread_t threads[2] = {
        start_thread(grow_trees, (void *)1000), start_thread(grow_trees, (void *)5000000)};
    grow_trees((void *)77);
    end_thread(threads[0]);
    end_thread(threads[1]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* What has moved has no tag any more where it was. */
static void a_field_into_the_middle_of_an_object_by_tag_aborts(void) {
    start_layouts();
    push(1, 32, 5);
    top->other = (struct object *)(void *)((char *)top->next + 16);
    collect(GC_MINOR);
}

/* ---- What is refused ------------------------------------------------------------------------ */

static void the_hook_is_set_once(void) {
    REQUIRE_EQUAL(gc_set_layout_hook(NULL), EINVAL);
    REQUIRE_EQUAL(gc_set_layout_hook(by_index), 0);
    REQUIRE_EQUAL(gc_set_layout_hook(by_index), EALREADY);
    REQUIRE_EQUAL(gc_set_layout_hook(by_class), EALREADY);
}

static void an_object_by_tag_without_a_hook_aborts(void) {
    gc_alloc_with_tag(1, 32);
}

static const gc_type *answer;

static const gc_type *answer_that(uintptr_t tag) {
    (void)tag;
    return answer;
}

static void ask_for(const gc_type *type) {
    answer = type;
    REQUIRE_EQUAL(gc_set_layout_hook(answer_that), 0);
    void *p = gc_alloc_with_tag(0xabc0, 32);
    gc_collect(GC_MINOR);
    printf("%p\n", p);
}

static void a_hook_that_answers_null_aborts(void) {
    ask_for(NULL);
}

static void a_hook_that_answers_no_type_aborts(void) {
    static gc_type copy;
    copy = *gc_type_register(&(gc_type_desc){.name = "leaf", .size = 8, .flags = GC_TYPE_LEAF});
    ask_for(&copy);
}

static void a_hook_that_answers_an_ambiguous_holder_aborts(void) {
    ask_for(gc_type_register(
        &(gc_type_desc){.name = "holder", .size = 8, .flags = GC_TYPE_AMBIGUOUS_HOLDER}));
}

static void a_hook_that_answers_a_larger_type_aborts(void) {
    static const uint32_t offsets[] = {8};
    ask_for(gc_type_register(
        &(gc_type_desc){.name = "big", .size = 48, .pointers = offsets, .pointer_count = 1}));
}

/* ---- All of them ---------------------------------------------------------------------------- */

#define CHECKED "CAIRN_VERIFY=1", "CAIRN_POISON=1"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(random_layouts),
        CHILD_TEST(random_layouts, "CAIRN_BARRIER=uffd", CHECKED),
        CHILD_TEST(random_layouts, "CAIRN_BARRIER=mprotect", CHECKED),
        CHILD_TEST(random_layouts, "CAIRN_BARRIER=none", CHECKED),
        CHILD_TEST(random_layouts, "CAIRN_WORKERS=4", "CAIRN_NURSERY=256K"),
        CHILD_TEST(random_layouts, "CAIRN_MARK_STACK_LIMIT=4K"),
        CHILD_TEST(random_layouts_and_collections_all_the_time, "CAIRN_STRESS=97", CHECKED),
        CHILD_TEST(an_object_by_tag_moves_with_its_tag, CHECKED),
        CHILD_TEST(layouts_by_tag_work_for_every_size, CHECKED),
        CHILD_TEST(without_a_tag_an_object_has_no_fields, CHECKED),
        CHILD_TEST(a_leaf_s_layout_hides_its_words, CHECKED),
        CHILD_TEST(a_pinned_layout_keeps_its_address, CHECKED),
        CHILD_TEST(a_layout_changes, CHECKED),
        CHILD_TEST(a_layout_changes, CHECKED, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_layout_changes, CHECKED, "CAIRN_BARRIER=none"),
        CHILD_TEST(a_resized_object_keeps_its_tag_s_layout, CHECKED),
        CHILD_TEST(a_tag_may_refer_to_a_class_that_stays, CHECKED),
        CHILD_TEST(a_tag_may_refer_to_a_class_that_stays, CHECKED, "CAIRN_STRESS=7"),
        CHILD_ABORT(a_tag_that_refers_to_what_may_move_aborts,
            "refers to an object that may move: expected one of gc_alloc(), or of a pinned type",
            "CAIRN_VERIFY=1"),
        CHILD_ABORT(a_tag_that_refers_to_a_leaf_aborts,
            "refers to an object that may move: expected", "CAIRN_VERIFY=1"),
        CHILD_TEST(a_tag_may_refer_to_a_pinned_leaf, CHECKED),
        CHILD_ABORT(a_field_into_the_middle_of_an_object_by_tag_aborts,
            "refers into the middle of an object of type both, which has moved", NULL),
        CHILD_SAYS(layouts_by_tag_are_explained, "by its word at +8", NULL),
        CHILD_TEST(threads_allocate_objects_by_tag_at_once, "CAIRN_NURSERY=1M"),
        CHILD_TEST(threads_allocate_objects_by_tag_at_once, CHECKED, "CAIRN_STOP=safepoint"),
        CHILD_TEST(the_hook_is_set_once),
        CHILD_ABORT(an_object_by_tag_without_a_hook_aborts,
            "gc_alloc_with_tag(): there is no layout hook: call gc_set_layout_hook() first", NULL),
        CHILD_ABORT(a_hook_that_answers_null_aborts,
            "the layout hook answered (nil) to the tag 0xabc0 of the object at", NULL),
        CHILD_ABORT(a_hook_that_answers_no_type_aborts, "to the tag 0xabc0 of the object at", NULL),
        CHILD_ABORT(a_hook_that_answers_an_ambiguous_holder_aborts,
            "the layout hook answered type holder to the tag 0xabc0", NULL),
        CHILD_ABORT(a_hook_that_answers_a_larger_type_aborts,
            "the layout hook answered type big, of 48 bytes, to the tag 0xabc0 of the object of 32 "
            "bytes",
            NULL),
    };
    return cmocka_run_group_tests_name("layouts", tests, NULL, NULL);
}
