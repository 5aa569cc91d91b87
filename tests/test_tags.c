/* Words with tags, in each of the formats of tag_formats.c, and objects whose first word tells
 * their layout: the random program of typed_model.c with both; what moves, what holds, what is
 * refused. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cairn/embed.h"
#include "child.h"
#include "model.h"
#include "support.h"
#include "tag_formats.h"
#include "threads_support.h"
#include "typed_model.h"

/* ---- The model ------------------------------------------------------------------------------ */

static void run(struct typed_plan plan) {
    struct typed_result result;
    plan.seed = model_seed();
    typed_model_run(&plan, &result);
    typed_model_print(&result);
    REQUIRE(result.moved > 0);
    REQUIRE(result.retained_percent < 80);
}

static void random_words(void) {
    run((struct typed_plan){.steps = 15000,
        .most_objects = 3000,
        .check_every = 1000,
        .ambiguous_one_in = 40,
        .large = true,
        .static_root = true,
        .format = tag_format_chosen(),
        .by_tag = true});
}

static void random_words_and_collections_all_the_time(void) {
    run((struct typed_plan){.steps = 4000,
        .most_objects = 500,
        .check_every = 500,
        .ambiguous_one_in = 40,
        .format = tag_format_chosen(),
        .by_tag = true});
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

/* ---- Words: small programs ------------------------------------------------------------------ */

struct node {
    uint64_t next; /* boxed */
    uint64_t number;
    uint64_t other; /* boxed */
    uint64_t junk;
};

static const uint32_t node_pointers[] = {offsetof(struct node, next), offsetof(struct node, other)};

static const struct tag_format *format;
static const gc_type *node_type;
static struct node *root;

/* A root that static data refers to, so that it stays where it is, and with it the object that ends
 * where it starts, which is the next one made. */
static void start(void) {
    format = tag_format_chosen();
    tag_format_open(format);
    node_type = gc_type_register(&(gc_type_desc){.name = "node",
        .size = sizeof(struct node),
        .pointers = node_pointers,
        .pointer_count = 2});
    REQUIRE(node_type != NULL);
    root = gc_alloc_typed(node_type);
    gc_alloc_typed(node_type);
}

/* A new node that the root refers to, and nothing else. */
static __attribute__((noinline)) uintptr_t add(uint64_t number) {
    struct node *p = gc_alloc_typed(node_type);
    p->number = number;
    p->next = root->next;
    root->next = format->box(p, (uint32_t)number);
    return hide(p);
}

static __attribute__((noinline)) struct node *first(void) {
    return format->unbox(root->next);
}

static __attribute__((noinline)) uintptr_t where_first_is(void) {
    return hide(first());
}

static __attribute__((noinline)) bool first_is_at(uintptr_t hidden) {
    return hide(first()) == hidden;
}

static __attribute__((noinline)) bool first_has(uint64_t number) {
    const struct node *p = first();
    return p->number == number && root->next == format->box(p, (uint32_t)number) &&
           gc_type_of(p) == node_type;
}

static void a_boxed_reference_follows_and_keeps_its_tag(void) {
    need_optimised_code();
    start();
    for (unsigned i = 0; i < 40; i++) {
        uintptr_t before = add(i);
        root->other = format->box(first(), i + 7);
        collect(GC_MINOR);
        REQUIRE(!first_is_at(before) && first_has(i));
        REQUIRE(root->other == format->box(first(), i + 7));
    }
    unsigned i = 40;
    for (uint64_t w = root->next; w != 0; w = ((struct node *)format->unbox(w))->next)
        REQUIRE_EQUAL(((struct node *)format->unbox(w))->number, --i);
    REQUIRE_EQUAL(i, 0);
}

enum { TARGETS = 200 };
static uintptr_t targets[TARGETS];

static __attribute__((noinline)) void make_immediates(void) {
    for (unsigned i = 0; i < TARGETS; i++) {
        void *target = gc_alloc_typed(node_type);
        targets[i] = hide(target);
        add(i);
        first()->other = format->immediate((uint64_t)(uintptr_t)target);
    }
}

static void an_immediate_is_neither_followed_nor_changed(void) {
    need_optimised_code();
    start();
    make_immediates();
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(count_alive(targets, TARGETS) <= 5);
    unsigned i = TARGETS;
    for (uint64_t w = root->next; w != 0;) {
        const struct node *p = format->unbox(w);
        REQUIRE_EQUAL(p->number, --i);
        REQUIRE(p->other == format->immediate((uint64_t)(uintptr_t)reveal(targets[i])));
        w = p->next;
    }
}

static __attribute__((noinline)) uint64_t box_of_first(uint32_t salt) {
    return format->box(first(), salt);
}

static void a_boxed_word_on_the_stack_holds(void) {
    start();
    for (unsigned i = 0; i < 20; i++) {
        uintptr_t before = add(i);
        volatile uint64_t word = box_of_first(i * 3);
        collect(GC_MINOR);
        REQUIRE(first_is_at(before) && first_has(i) && word == box_of_first(i * 3));
        word = 0;
        collect(GC_MINOR);
        REQUIRE(first_is_at(before));
    }
}

static void a_boxed_word_on_the_stack_keeps_alive(void) {
    start();
    uintptr_t before = add(9);
    volatile uint64_t word = box_of_first(11);
    root->next = 0;
    for (int i = 0; i < 4; i++) collect(i == 2 ? GC_FULL : GC_MINOR);
    REQUIRE_EQUAL(count_alive(&before, 1), 1);
    REQUIRE(((struct node *)format->unbox(word))->number == 9);
    word = 0;
}

static void a_plain_pointer_into_the_middle_still_holds(void) {
    start();
    for (unsigned i = 0; i < 20; i++) {
        uintptr_t before = add(i);
        char *volatile word = (char *)first() + 21;
        collect(GC_MINOR);
        REQUIRE(first_is_at(before) && first_has(i));
        word = NULL;
        (void)word;
    }
}

static uint64_t static_word;
static uint64_t *untyped;

static __attribute__((noinline)) void store(uint64_t *place) {
    *place = box_of_first(5);
}

static void a_boxed_word_in_static_data_or_a_range_holds(void) {
    start();
    uint64_t *range = calloc(4, sizeof *range);
    REQUIRE_EQUAL(gc_add_root(range, 4 * sizeof *range), 0);
    uintptr_t before = add(2);
    store(&static_word);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
    before = add(3);
    store(range + 3);
    collect(GC_MINOR);
    REQUIRE(first_is_at(before));
}

static void a_boxed_word_in_an_untyped_object_holds(void) {
    static const size_t sizes[] = {16, 500, 5000, 100000};
    start();
    for (unsigned s = 0; s < 4; s++) {
        for (unsigned old = 0; old < 2; old++) {
            untyped = gc_alloc(sizes[s]);
            if (old) settle_old();
            uintptr_t before = add(s);
            store(untyped + sizes[s] / 8 - 1);
            collect(GC_MINOR);
            REQUIRE(first_is_at(before) && first_has(s));
            REQUIRE(untyped[sizes[s] / 8 - 1] == box_of_first(5));
            before = add(s); /* by it alone */
            store(untyped);
            root->next = first()->next;
            collect(GC_MINOR);
            collect(GC_FULL);
            REQUIRE_EQUAL(count_alive(&before, 1), 1);
        }
    }
}

static __attribute__((noinline)) void make_dead_holders(void) {
    for (unsigned i = 0; i < 3; i++) store((uint64_t *)gc_alloc(64) + i);
}

static void a_boxed_word_in_a_dead_young_object_holds(void) {
    start();
    uintptr_t before = add(2);
    make_dead_holders();
    collect(GC_MINOR);
    REQUIRE(first_is_at(before) && first_has(2));
}

static __attribute__((noinline)) void store_immediate(uint64_t *place) {
    *place = format->immediate((uint64_t)(uintptr_t)first());
}

static __attribute__((noinline)) gc_handle *handle_of_first(void) {
    return gc_handle_new(first());
}

static void slots_are_boxed_and_handles_are_plain(void) {
    need_optimised_code();
    start();
    uint64_t *slots = calloc(4, sizeof *slots);
    REQUIRE_EQUAL(gc_add_slots((void **)(void *)slots, 4), 0);
    uintptr_t before = add(2);
    store(slots + 2);
    store_immediate(slots + 1);
    gc_handle *handle = handle_of_first();
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before) && first_has(2));
    REQUIRE(slots[2] == box_of_first(5) && slots[0] == 0);
    REQUIRE(slots[1] == format->immediate((uint64_t)(uintptr_t)reveal(before)));
    REQUIRE(gc_handle_get(handle) == first());
    before = add(3);
    store(slots);
    gc_handle_set(handle, NULL);
    root->next = 0;
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(((struct node *)format->unbox(slots[0]))->number == 3);
    REQUIRE(((struct node *)format->unbox(slots[2]))->number == 2);
}

struct mixed {
    struct node *plain;
    uint64_t boxed;
    uint64_t number;
};

static void trace_mixed(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    struct mixed *mixed = object;
    (void)bytes, (void)from, (void)to;
    gc_visit_plain(visitor, (void **)(void *)&mixed->plain);
    gc_visit(visitor, (void **)(void *)&mixed->boxed);
}

static __attribute__((noinline)) void add_mixed(const gc_type *type, bool boxed) {
    add(4);
    struct mixed *mixed = gc_alloc_typed(type);
    mixed->number = 77;
    mixed->plain = first();
    mixed->boxed = boxed ? box_of_first(6) : format->immediate((uint64_t)(uintptr_t)mixed);
    root->other = format->box(mixed, 1);
}

static __attribute__((noinline)) struct mixed *the_mixed(void) {
    return format->unbox(root->other);
}

static void plain_and_boxed_fields_in_one_object(void) {
    need_optimised_code();
    start();
    const gc_type *type = gc_type_register(
        &(gc_type_desc){.name = "mixed", .size = sizeof(struct mixed), .trace = trace_mixed});
    add_mixed(type, true);
    uintptr_t before = where_first_is();
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before));
    REQUIRE(the_mixed()->plain == first() && the_mixed()->boxed == box_of_first(6));
    static const uint32_t plain[] = {0};
    type = gc_type_register(&(gc_type_desc){.name = "plain",
        .size = sizeof(struct mixed),
        .pointers = plain,
        .pointer_count = 1,
        .flags = GC_TYPE_PLAIN_FIELDS});
    add_mixed(type, false);
    before = where_first_is();
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before));
    REQUIRE(the_mixed()->plain == first() && the_mixed()->number == 77);
}

static void a_path_over_boxed_words_is_explained(void) {
    start();
    add(2);
    add(3);
    printf("target %p\n", format->unbox(first()->next));
    REQUIRE_EQUAL(gc_explain(format->unbox(first()->next)), 0);
}

static uintptr_t explained;

/* The slot is seen before what this leaves in registers, or else the test says nothing. */
static void explain_it(void *none) {
    (void)none;
    gc_explain(reveal(explained));
}

static void a_slot_that_is_boxed_is_explained(void) {
    start();
    static uint64_t *slots;
    slots = calloc(4, sizeof *slots);
    REQUIRE_EQUAL(gc_add_slots((void **)(void *)slots, 4), 0);
    explained = add(2);
    store(slots);
    root->next = 0;
    clear_stack();
    call_below(explain_it, NULL);
}

static void a_boxed_field_that_refers_into_the_middle_aborts(void) {
    start();
    add(2);
    root->other = format->box((char *)first() + 16, 1);
    collect(GC_MINOR);
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

/* ---- All of them ---------------------------------------------------------------------------- */

#define CHECKED "CAIRN_VERIFY=1", "CAIRN_POISON=1"

#define WITH_FORMAT(function, name)                                                                \
    CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=uffd"),                \
        CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=mprotect"),        \
        CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=none")

#define IN_EVERY_FORMAT(function)                                                                  \
    WITH_FORMAT(function, "even"), WITH_FORMAT(function, "odd"), WITH_FORMAT(function, "lisp"),    \
        WITH_FORMAT(function, "cell"), WITH_FORMAT(function, "lua"),                               \
        WITH_FORMAT(function, "colour"), WITH_FORMAT(function, "scaled")

#define STRESSED(name)                                                                             \
    CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,      \
        "CAIRN_STRESS=23"),                                                                        \
        CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,  \
            "CAIRN_STRESS=31", "CAIRN_BARRIER=mprotect"),                                          \
        CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,  \
            "CAIRN_STRESS=37", "CAIRN_BARRIER=none")

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_EVERY_FORMAT(random_words),
        STRESSED("even"),
        STRESSED("odd"),
        STRESSED("lisp"),
        STRESSED("cell"),
        STRESSED("lua"),
        STRESSED("colour"),
        STRESSED("scaled"),
        CHILD_TEST(random_words, "CAIRN_TEST_FORMAT=lua", "CAIRN_MARK_STACK_LIMIT=4K", CHECKED),
        CHILD_TEST(random_words, "CAIRN_TEST_FORMAT=lisp", "CAIRN_ONE_PAST_END_IN_HEAP=1", CHECKED),
        CHILD_TEST(random_words, "CAIRN_TEST_FORMAT=odd", "CAIRN_WORKERS=4"),
        CHILD_TEST(random_layouts),
        CHILD_TEST(random_layouts, "CAIRN_BARRIER=uffd", CHECKED),
        CHILD_TEST(random_layouts, "CAIRN_BARRIER=mprotect", CHECKED),
        CHILD_TEST(random_layouts, "CAIRN_BARRIER=none", CHECKED),
        CHILD_TEST(random_layouts, "CAIRN_WORKERS=4", "CAIRN_NURSERY=256K"),
        CHILD_TEST(random_layouts, "CAIRN_MARK_STACK_LIMIT=4K"),
        CHILD_TEST(random_layouts_and_collections_all_the_time, "CAIRN_STRESS=97", CHECKED),
        IN_EVERY_FORMAT(a_boxed_reference_follows_and_keeps_its_tag),
        IN_EVERY_FORMAT(an_immediate_is_neither_followed_nor_changed),
        IN_EVERY_FORMAT(a_boxed_word_on_the_stack_holds),
        IN_EVERY_FORMAT(a_boxed_word_on_the_stack_keeps_alive),
        IN_EVERY_FORMAT(a_plain_pointer_into_the_middle_still_holds),
        IN_EVERY_FORMAT(a_boxed_word_in_static_data_or_a_range_holds),
        IN_EVERY_FORMAT(a_boxed_word_in_an_untyped_object_holds),
        IN_EVERY_FORMAT(a_boxed_word_in_a_dead_young_object_holds),
        IN_EVERY_FORMAT(slots_are_boxed_and_handles_are_plain),
        IN_EVERY_FORMAT(plain_and_boxed_fields_in_one_object),
        CHILD_SAYS(
            a_path_over_boxed_words_is_explained, "by its word at +0", "CAIRN_TEST_FORMAT=lua"),
        CHILD_SAYS(
            a_slot_that_is_boxed_is_explained, "given to gc_add_slots", "CAIRN_TEST_FORMAT=lua"),
        CHILD_ABORT(a_boxed_field_that_refers_into_the_middle_aborts,
            "refers into the middle of an object of type node", "CAIRN_TEST_FORMAT=lua"),
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
        CHILD_SAYS(a_leaf_whose_layout_may_change_is_refused,
            "type wrong: a leaf or an ambiguous holder has no layout that may change", NULL),
        CHILD_SAYS(an_ambiguous_holder_with_plain_fields_is_refused,
            "type wrong: a leaf or an ambiguous holder has no fields that are plain", NULL),
        CHILD_TEST(flags_are_told),
    };
    return cmocka_run_group_tests_name("tags", tests, NULL, NULL);
}
