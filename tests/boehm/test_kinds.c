/* Objects whose layout the program describes: typed ones, kinds of its own, mark procedures. */
#include "support.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "gc_gcj.h"
#include "gc_inline.h"
#include "gc_mark.h"
#include "gc_typed.h"

/* Every word of it is set to a pointer; the layout says which of them count. */
#define WORDS 8

struct layout {
    void *(*allocate)(void);
    size_t words;
    uint64_t pointers; /* bit I: word I is one */
    struct watched *strong, *weak;
};

/* Until every word is set nothing may collect: the mark bits of kinds with descriptors in objects
 * depend on them. */
static void fill(void *p) {
    const struct layout *l = p;
    for (size_t i = 0; i < MANY / 10; i++) {
        void **object = held[i] = l->allocate();
        REQUIRE(object != NULL);
        for (size_t w = 0; w < l->words; w++) {
            bool counts = l->pointers >> w & 1;
            if (object[w] != NULL) continue; /* a descriptor, or a free object's */
            void *child = GC_malloc(16);
            watch(counts ? l->strong : l->weak, child);
            object[w] = child;
        }
        GC_end_stubborn_change(object);
    }
}

static void check_layout(void *(*allocate)(void), size_t words, uint64_t pointers) {
    struct layout l = {allocate, words, pointers, new_watched(), new_watched()};
    far_below(fill, &l);
    collect_all();
    REQUIRE_EQUAL(alive(l.strong), l.strong->count);
    if (l.weak->count > 0) REQUIRE_FEW(alive(l.weak), l.weak->count);
    memset(held, 0, sizeof held);
}

static GC_descr descriptor;
static size_t object_bytes;
static int kind;

static void *typed(void) {
    return GC_malloc_explicitly_typed(object_bytes, descriptor);
}
static void *typed_far(void) {
    return GC_malloc_explicitly_typed_ignore_off_page(object_bytes, descriptor);
}

/* The first and the last word of an object of WORDS words with a pointer in each of those that
 * BITS says. */
static void check_typed(size_t words, uint64_t bits) {
    GC_word bitmap = bits;
    descriptor = GC_make_descriptor(&bitmap, words);
    object_bytes = words * 8;
    check_layout(typed, words, bits);
    check_layout(typed_far, words, bits);
}

static void typed_objects_hold_by_their_pointers_only(void) {
    GC_INIT();
    check_typed(8, 0x01);
    check_typed(8, 0x80);
    check_typed(8, 0x5a);
    check_typed(8, 0xff);
    check_typed(8, 0x00);
    check_typed(2, 0x2);
    check_typed(20, 0xf0f01);
    check_typed(40, 0x8000000001);
}

static void words_beyond_the_bitmap_hold_nothing(void) {
    GC_INIT();
    GC_word bitmap = 0x3;
    descriptor = GC_make_descriptor(&bitmap, 2);
    object_bytes = 64;
    check_layout(typed, 8, 0x3);
}

/* A bitmap of several words: longer than what fits into a descriptor. */
static void long_bitmaps_are_exact(void) {
    GC_INIT();
    static GC_word bitmap[5];
    for (size_t i = 0; i < 300; i += 3) GC_set_bit(bitmap, i);
    descriptor = GC_make_descriptor(bitmap, 300);
    struct watched *strong = new_watched(), *weak = new_watched();
    for (size_t k = 0; k < 3; k++) {
        void **p = held[k] = GC_malloc_explicitly_typed(300 * 8, descriptor);
        for (size_t i = 0; i < 300; i++) {
            p[i] = GC_malloc(16);
            watch(GC_get_bit(bitmap, i) ? strong : weak, p[i]);
        }
    }
    collect_all();
    REQUIRE_EQUAL(alive(strong), strong->count);
    REQUIRE_FEW(alive(weak), weak->count);
}

struct element {
    uintptr_t number;
    void *pointer;
    uintptr_t other;
};

static void typed_arrays_repeat_the_layout(void) {
    GC_INIT();
    GC_word bitmap[GC_BITMAP_SIZE(struct element)] = {0};
    GC_set_bit(bitmap, GC_WORD_OFFSET(struct element, pointer));
    GC_descr d = GC_make_descriptor(bitmap, GC_WORD_LEN(struct element));
    static const size_t lengths[] = {1, 2, 3, 7, 40, 500};
    struct watched *strong = new_watched(), *weak = new_watched();
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        struct element *e = GC_calloc_explicitly_typed(lengths[k], sizeof *e, d);
        held[k] = e;
        REQUIRE(GC_size(e) >= lengths[k] * sizeof *e);
        for (size_t i = 0; i < lengths[k]; i++) {
            REQUIRE(e[i].number == 0 && e[i].pointer == NULL && e[i].other == 0);
            e[i].pointer = GC_malloc(16);
            watch(strong, e[i].pointer);
            void *p = GC_malloc(16);
            watch(weak, p);
            e[i].number = (uintptr_t)p;
            p = GC_malloc(16);
            watch(weak, p);
            e[i].other = (uintptr_t)p;
        }
    }
    collect_all();
    REQUIRE_EQUAL(alive(strong), strong->count);
    REQUIRE_FEW(alive(weak), weak->count);
}

static void typed_arrays_that_are_too_large_are_null(void) {
    GC_INIT();
    GC_set_warn_proc(GC_ignore_warn_proc);
    GC_word bitmap = 1;
    volatile size_t most = SIZE_MAX / 8;
    REQUIRE(GC_calloc_explicitly_typed(most, 16, GC_make_descriptor(&bitmap, 2)) == NULL);
}

static void *of_kind(void) {
    return GC_generic_malloc(object_bytes, kind);
}
static void *of_kind_fast(void) {
    return GC_malloc_kind(object_bytes, kind);
}

static void check_kind(size_t words, uint64_t pointers) {
    object_bytes = words * 8;
    check_layout(of_kind, words, pointers);
    check_layout(of_kind_fast, words, pointers);
}

/* The bit of word 0 is the highest one. */
static GC_word bitmap_descriptor(uint64_t pointers) {
    GC_word d = GC_DS_BITMAP;
    for (int w = 0; w < 62; w++)
        if (pointers >> w & 1) d |= (GC_word)1 << (63 - w);
    return d;
}

static void a_kind_of_a_length_is_scanned_so_far(void) {
    GC_INIT();
    kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1); /* all of it */
    check_kind(6, 0x3f);
    kind = (int)GC_new_kind(GC_new_free_list(), 0 | GC_DS_LENGTH, 0, 1);
    check_kind(6, 0);
    kind = (int)GC_new_kind(GC_new_free_list(), 24 | GC_DS_LENGTH, 0, 1);
    check_kind(6, 0x7);
}

static void a_kind_of_a_bitmap_is_exact(void) {
    GC_INIT();
    kind = (int)GC_new_kind(GC_new_free_list(), bitmap_descriptor(0x15), 0, 1);
    check_kind(6, 0x15);
    kind = (int)GC_new_kind(GC_new_free_list(), bitmap_descriptor(0x20), 0, 1);
    check_kind(6, 0x20);
}

static void kinds_are_told_apart(void) {
    GC_INIT();
    int a = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    int b = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 0);
    REQUIRE(a != b && a > GC_I_NORMAL && b > GC_I_NORMAL);
    size_t bytes = 0;
    REQUIRE_EQUAL(GC_get_kind_and_size(GC_generic_malloc(40, a), &bytes), a);
    REQUIRE(bytes >= 40);
    REQUIRE_EQUAL(GC_get_kind_and_size(GC_generic_malloc(40, b), &bytes), b);
    REQUIRE_EQUAL(GC_get_kind_and_size(GC_generic_malloc(50000, b), &bytes), b);
    REQUIRE(bytes >= 50000);
}

/* A kind whose mark procedure takes every second word, by the environment's parity. */
static unsigned procedure;
static long calls;

static struct GC_ms_entry *mark_some(
    GC_word *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, GC_word env) {
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    for (size_t w = env & 1; w < 6; w += 2)
        if (object[w] != 0)
            top = GC_MARK_AND_PUSH((void *)object[w], top, limit, (void **)&object[w]);
    return top;
}

static void mark_procedures_mark(void) {
    GC_INIT();
    procedure = GC_new_proc(mark_some);
    kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(procedure, 0), 0, 1);
    check_kind(6, 0x15);
    REQUIRE(calls > 0);
    kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(procedure, 1), 0, 1);
    check_kind(6, 0x2a);
}

static void *of_kind_resized(void) {
    return GC_realloc(GC_generic_malloc(object_bytes, kind), 2 * object_bytes);
}

static void realloc_keeps_the_mark_procedure(void) {
    GC_INIT();
    procedure = GC_new_proc(mark_some);
    kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(procedure, 1), 0, 1);
    object_bytes = 48;
    check_layout(of_kind_resized, 6, 0x2a);
    object_bytes = 5000;
    check_layout(of_kind_resized, 6, 0x2a);
    REQUIRE_EQUAL(GC_get_kind_and_size(of_kind_resized(), NULL), kind);
}

/* A long chain through a mark procedure: what is pushed is scanned, too. */
static struct GC_ms_entry *mark_next(
    GC_word *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, GC_word env) {
    (void)env;
    return GC_MARK_AND_PUSH((void *)object[1], top, limit, (void **)&object[1]);
}

static void mark_procedures_follow_chains(void) {
    GC_INIT();
    int k = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(GC_new_proc(mark_next), 0), 0, 1);
    struct watched *w = new_watched();
    for (int i = 0; i < 2 * MANY; i++) {
        void **p = GC_generic_malloc(32, k);
        p[1] = held[0];
        GC_end_stubborn_change(p);
        held[0] = p;
        watch(w, p);
    }
    collect_all();
    REQUIRE_EQUAL(alive(w), 2 * MANY);
}

/* What an object refers to lies outside the heap, where no store tells the collector of it. */
#define PARTS 8
struct outside {
    uintptr_t parts[PARTS]; /* hidden */
    bool freed;
};

static long too_late; /* calls for what was freed */

static struct GC_ms_entry *mark_outside(
    GC_word *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, GC_word env) {
    const struct outside *outside = (const struct outside *)~object[1];
    (void)env;
    if (object[0] == 0 || object[1] == 0) return top; /* it's free */
    if (outside->freed) __atomic_add_fetch(&too_late, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < PARTS; i++)
        if (outside->parts[i] != 0) {
            void *part = (void *)~outside->parts[i];
            top = GC_MARK_AND_PUSH(part, top, limit, (void **)(void *)&outside->parts[i]);
        }
    return top;
}

static int kind_of_outside(void) {
    return (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(GC_new_proc(mark_outside), 0), 0, 1);
}

static GC_word *new_outside(int k, size_t bytes) {
    GC_word *p = GC_generic_malloc(bytes, k);
    p[1] = ~(GC_word)calloc(1, sizeof(struct outside));
    p[0] = 1;
    return p;
}

static void put_number(uintptr_t *hidden, long number) {
    long *fresh = GC_malloc(24);
    *fresh = number;
    *hidden = ~(uintptr_t)fresh;
}

/* Old objects, small and large, get new parts all the time; collections are the library's own. */
static void mark_procedures_find_what_changes_outside(void) {
    GC_INIT();
    int k = kind_of_outside();
    static long numbers[40][PARTS];
    for (long i = 0; i < 40; i++) held[i] = new_outside(k, i % 4 == 3 ? 20000 : 48);
    collect_all();
    unsigned random = 1;
    for (long n = 1; n < 4000; n++) {
        random = random * 1103515245 + 12345;
        unsigned i = random >> 16 & 0x7fff, o = i % 40, part = i / 40 % PARTS;
        struct outside *outside = (struct outside *)~((GC_word *)held[o])[1];
        put_number(&outside->parts[part], numbers[o][part] = n);
        for (int g = 0; g < 60; g++) *(void *volatile *)GC_malloc(100) = NULL;
    }
    for (long i = 0; i < 40; i++)
        for (long p = 0; p < PARTS; p++) {
            struct outside *outside = (struct outside *)~((GC_word *)held[i])[1];
            if (outside->parts[p] != 0) REQUIRE_EQUAL(*(long *)~outside->parts[p], numbers[i][p]);
        }
}

static void free_outside(void *object, void *data) {
    (void)data;
    ((struct outside *)~((GC_word *)object)[1])->freed = true;
}

static void drop_many(void *p) {
    int k = *(int *)p;
    for (int i = 0; i < MANY; i++) held[i] = new_outside(k, 48);
    collect_all();
    for (int i = 0; i < MANY; i++)
        GC_register_finalizer_no_order(held[i], free_outside, NULL, NULL, NULL);
    memset(held, 0, MANY * sizeof *held);
}

static void keep_much(void) {
    for (int i = 0; i < 200000; i++) { /* so that not every collection should be full */
        void **p = GC_malloc(100);
        *p = held[MANY];
        GC_end_stubborn_change(p);
        held[MANY] = p;
    }
}

/* What a finalizer has freed no procedure must read. */
static void mark_procedures_are_not_called_for_what_was_finalized(void) {
    GC_INIT();
    int k = kind_of_outside();
    keep_much();
    far_below(drop_many, &k);
    for (int g = 0; g < 600000; g++) *(void *volatile *)GC_malloc(100) = NULL;
    GC_gcollect();
    GC_invoke_finalizers();
    for (int g = 0; g < 600000; g++) *(void *volatile *)GC_malloc(100) = NULL;
    REQUIRE_FEW(too_late, MANY);
}

/* One finalizer frees what is another object's; the last one collects before it does so. */
static void free_of_other(void *object, void *data) {
    (void)data;
    free_outside(*(void **)object, NULL);
}

static void *volatile nothing;

static void make_garbage(void) {
    for (int g = 0; g < 300000; g++) nothing = GC_malloc(100);
    nothing = NULL;
}

static void collect_and_free_outside(void *object, void *data) {
    if (!GC_should_invoke_finalizers()) make_garbage();
    free_outside(object, data);
}

static void drop_many_others(void *p) {
    int k = *(int *)p;
    for (int i = 0; i < MANY; i++) held[i] = new_outside(k, 48);
    collect_all();
    for (int i = 0; i < MANY; i++) {
        void **owner = GC_malloc(32);
        *owner = held[i];
        if (i % 2 == 0)
            GC_register_finalizer(owner, free_of_other, NULL, NULL, NULL);
        else
            GC_register_finalizer_no_order(held[i], collect_and_free_outside, NULL, NULL, NULL);
        held[i] = owner;
    }
    collect_all();
    memset(held, 0, MANY * sizeof *held);
}

static void mark_procedures_are_not_called_while_finalizers_free(void) {
    GC_INIT();
    int k = kind_of_outside();
    keep_much();
    far_below(drop_many_others, &k);
    make_garbage();
    GC_gcollect();
    GC_invoke_finalizers();
    make_garbage();
    make_garbage();
    REQUIRE_FEW(too_late, MANY);
}

/* The descriptor, in a table outside the heap, becomes a procedure's when the objects are old. */
static uintptr_t *parts_by_number; /* MANY, hidden, in malloc's memory */

static struct GC_ms_entry *mark_by_number(
    GC_word *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, GC_word env) {
    (void)env;
    uintptr_t *slot = &parts_by_number[object[1]];
    if (object[0] == 0 || *slot == 0) return top; /* it's free, or has none */
    return GC_MARK_AND_PUSH((void *)~*slot, top, limit, (void **)(void *)slot);
}

static void procedures_may_come_when_objects_are_old(void) {
    GC_INIT();
    static GC_word described[2];
    parts_by_number = calloc(MANY, sizeof *parts_by_number);
    GC_word indirect = ((GC_word)0 - (8 + GC_INDIR_PER_OBJ_BIAS)) & ~(GC_word)GC_DS_TAGS;
    int k = (int)GC_new_kind(GC_new_free_list(), indirect | GC_DS_PER_OBJECT, 0, 1);
    keep_much();
    for (GC_word i = 0; i < MANY; i++) {
        GC_word *p = held[i] = GC_generic_malloc(48, k);
        p[0] = (GC_word)described;
        p[1] = i;
    }
    collect_all();
    make_garbage();
    described[1] = GC_MAKE_PROC(GC_new_proc(mark_by_number), 0);
    for (long i = 0; i < MANY; i++) {
        long *part = GC_malloc(24);
        *part = i;
        parts_by_number[i] = ~(uintptr_t)part;
    }
    for (int g = 0; g < 300000; g++) {
        long *other = GC_malloc(24);
        *other = -1;
        nothing = other;
    }
    for (long i = 0; i < MANY; i++) REQUIRE_EQUAL(*(long *)~parts_by_number[i], i);
}

/* Entries of the mark stack as programs write them: a start and a descriptor. */
struct entry {
    void *start;
    GC_word descriptor;
};

static struct GC_ms_entry *push_entry(
    GC_word *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, GC_word env) {
    struct entry *e = (struct entry *)top + 1;
    if ((struct GC_ms_entry *)(void *)e >= limit) return top;
    e->start = object + 1;
    e->descriptor = env == 0 ? (16 | GC_DS_LENGTH) : bitmap_descriptor(0x5);
    return (struct GC_ms_entry *)(void *)e;
}

static void mark_procedures_push_entries_themselves(void) {
    GC_INIT();
    procedure = GC_new_proc(push_entry);
    kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(procedure, 0), 0, 1);
    check_kind(6, 0x06);
    kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC(procedure, 1), 0, 1);
    check_kind(6, 0x0a);
}

/* The descriptor is in the object's first word, or in what that points to. */
static void *with_descriptor(void) {
    GC_word *p = GC_generic_malloc(object_bytes, kind);
    p[0] = bitmap_descriptor(0x14);
    return p;
}

static GC_word type_block[4];

static void *with_type(void) {
    GC_word *p = GC_generic_malloc(object_bytes, kind);
    type_block[1] = bitmap_descriptor(0x28);
    p[0] = (GC_word)type_block;
    return p;
}

static void descriptors_may_be_in_objects(void) {
    GC_INIT();
    object_bytes = 48;
    kind = (int)GC_new_kind(GC_new_free_list(), 0 | GC_DS_PER_OBJECT, 0, 1);
    check_layout(with_descriptor, 6, 0x14);
    /* The word 8 bytes into what the first word points to. */
    GC_word indirect = ((GC_word)0 - (8 + GC_INDIR_PER_OBJ_BIAS)) & ~(GC_word)GC_DS_TAGS;
    indirect |= GC_DS_PER_OBJECT;
    kind = (int)GC_new_kind(GC_new_free_list(), indirect, 0, 1);
    check_layout(with_type, 6, 0x28);
}

/* As Java's: the first word points to a table with the descriptor in its second word. */
static struct GC_ms_entry *mark_java(
    GC_word *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, GC_word env) {
    (void)env;
    return GC_MARK_AND_PUSH((void *)object[2], top, limit, (void **)&object[2]);
}

static GC_word table[2];

static void *java(void) {
    return GC_gcj_malloc(48, table);
}
static void *java_far(void) {
    return GC_gcj_malloc_ignore_off_page(48, table);
}

static void objects_as_java_has_them(void) {
    GC_INIT();
    GC_init_gcj_malloc(GC_GCJ_RESERVED_MARK_PROC_INDEX, (void *)(uintptr_t)mark_java);
    table[1] = bitmap_descriptor(0x14);
    check_layout(java, 6, 0x15);
    check_layout(java_far, 6, 0x15);
    table[1] = GC_MAKE_PROC(GC_GCJ_RESERVED_MARK_PROC_INDEX, 0);
    check_layout(java, 6, 0x05);
    REQUIRE_EQUAL(GC_get_kind_and_size(java(), NULL), GC_gcj_kind);
    REQUIRE(*(GC_word **)java() == table);
}

static int k_many;

static void *one_of_many(void) {
    static void *list;
    if (list == NULL) GC_generic_malloc_many(48, k_many, &list);
    void **p = list;
    list = *p;
    *p = NULL;
    return p;
}

static void lists_of_a_kind_are_of_that_kind(void) {
    GC_INIT();
    k_many = (int)GC_new_kind(GC_new_free_list(), bitmap_descriptor(0x15), 0, 1);
    check_layout(one_of_many, 6, 0x15);
    REQUIRE_EQUAL(GC_get_kind_and_size(one_of_many(), NULL), k_many);
}

static void *under_lock(void *p) {
    struct watched *w = p;
    void *object = watched_object(w, 0);
    REQUIRE(GC_is_marked(object));
    GC_clear_mark_bit(object);
    REQUIRE(!GC_is_marked(object));
    GC_set_mark_bit(object);
    REQUIRE(GC_is_marked(object));
    return NULL;
}

static void mark_bits_can_be_read_and_set(void) {
    GC_INIT();
    held[0] = GC_malloc(100);
    struct watched *w = new_watched();
    watch(w, held[0]);
    collect_all();
    GC_call_with_alloc_lock(under_lock, w);
}

static void *look_at_uncollectable(void *p) {
    (void)p;
    for (int i = 0; i < 4; i++) REQUIRE_EQUAL(GC_is_marked(held[i]), i % 2);
    return NULL;
}

static void uncollectable_objects_are_always_marked(void) {
    GC_INIT();
    GC_gcollect();
    held[0] = GC_malloc(40);
    held[1] = GC_malloc_uncollectable(40);
    held[2] = GC_malloc_atomic(50000);
    held[3] = GC_malloc_atomic_uncollectable(50000);
    GC_call_with_alloc_lock(look_at_uncollectable, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(typed_objects_hold_by_their_pointers_only),
        CHILD_TEST(words_beyond_the_bitmap_hold_nothing),
        CHILD_TEST(long_bitmaps_are_exact),
        CHILD_TEST(typed_arrays_repeat_the_layout),
        CHILD_TEST(typed_arrays_that_are_too_large_are_null),
        CHILD_TEST(a_kind_of_a_length_is_scanned_so_far),
        CHILD_TEST(a_kind_of_a_bitmap_is_exact),
        CHILD_TEST(kinds_are_told_apart),
        CHILD_TEST(mark_procedures_mark),
        CHILD_TEST(realloc_keeps_the_mark_procedure),
        CHILD_TEST(mark_procedures_follow_chains),
        CHILD_TEST(mark_procedures_find_what_changes_outside),
        CHILD_TEST(mark_procedures_are_not_called_for_what_was_finalized),
        CHILD_TEST(mark_procedures_are_not_called_while_finalizers_free),
        CHILD_TEST(procedures_may_come_when_objects_are_old),
        CHILD_TEST(mark_procedures_push_entries_themselves),
        CHILD_TEST(descriptors_may_be_in_objects),
        CHILD_TEST(objects_as_java_has_them),
        CHILD_TEST(lists_of_a_kind_are_of_that_kind),
        CHILD_TEST(mark_bits_can_be_read_and_set),
        CHILD_TEST(uncollectable_objects_are_always_marked),
    };
    return cmocka_run_group_tests_name("boehm_kinds", tests, NULL, NULL);
}
