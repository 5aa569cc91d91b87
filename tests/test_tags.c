/* Words with tags, in each of the formats of tag_formats.c: the random program of typed_model.c
 * with them; what moves, what holds. */
#include <stdio.h>
#include <stdlib.h>

#include "cairn/embed.h"
#include "child.h"
#include "fewer.h"
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
    REQUIRE(!are_many() || result.moved > 0);
    REQUIRE(result.retained_percent < RETAINED_MOST);
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

static void report_word(gc_visitor *visitor, enum gc_root_pass pass, void *data) {
    (void)pass;
    gc_visit_ambiguous(visitor, data, (char *)data + sizeof(void *));
}

static __attribute__((noinline)) void store_plain(void **word) {
    *word = reveal(explained);
}

static void a_plain_word_that_a_root_hook_reports_is_explained(void) {
    start();
    static void **word;
    word = calloc(1, sizeof *word);
    REQUIRE(word != NULL && gc_add_root_hook(report_word, word) == 0);
    explained = add(2);
    store_plain(word);
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

/* ---- All of them ---------------------------------------------------------------------------- */

#define CHECKED "CAIRN_VERIFY=1", "CAIRN_POISON=1"

/* What a barrier does with a format is tested without a sanitizer. */
#ifdef GC_SANITIZE
#define WITH_FORMAT(function, name)                                                                \
    CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=mprotect")
#else
#define WITH_FORMAT(function, name)                                                                \
    CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=uffd"),                \
        CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=mprotect"),        \
        CHILD_TEST(function, "CAIRN_TEST_FORMAT=" name, CHECKED, "CAIRN_BARRIER=none")
#endif

#define IN_EVERY_FORMAT(function)                                                                  \
    WITH_FORMAT(function, "even"), WITH_FORMAT(function, "odd"), WITH_FORMAT(function, "lisp"),    \
        WITH_FORMAT(function, "cell"), WITH_FORMAT(function, "lua"),                               \
        WITH_FORMAT(function, "colour"), WITH_FORMAT(function, "scaled")

#ifdef GC_SANITIZE
#define STRESSED(name)                                                                             \
    CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,      \
        "CAIRN_STRESS=23")
#else
#define STRESSED(name)                                                                             \
    CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,      \
        "CAIRN_STRESS=23"),                                                                        \
        CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,  \
            "CAIRN_STRESS=31", "CAIRN_BARRIER=mprotect"),                                          \
        CHILD_TEST(random_words_and_collections_all_the_time, "CAIRN_TEST_FORMAT=" name, CHECKED,  \
            "CAIRN_STRESS=37", "CAIRN_BARRIER=none")
#endif

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
        CHILD_SAYS(a_plain_word_that_a_root_hook_reports_is_explained, "root hook",
            "CAIRN_TEST_FORMAT=lua"),
        CHILD_ABORT(a_boxed_field_that_refers_into_the_middle_aborts,
            "refers into the middle of an object of type node", "CAIRN_TEST_FORMAT=lua"),
    };
    return cmocka_run_group_tests_name("tags", tests, NULL, NULL);
}
