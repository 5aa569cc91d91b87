/* What keeps an object alive: every place and every form in which C programs hold pointers.
 * Registers, also vector registers across a loop that allocates; interior pointers; pointers one
 * past the end, across holes and blocks; static and thread-local variables; plugins. */
#if !defined(__clang__) && !defined(GC_SANITIZE)
#pragma GCC optimize("O3", "omit-frame-pointer")
#endif

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cairn/embed.h"
#include "child.h"
#include "gc/heap.h"
#include "plugin.h"
#include "support.h"

enum { COUNT = 1000, BLOCK = 65536 };

static void *roots[COUNT];
static uintptr_t hidden[COUNT];

/* ---- Registers ------------------------------------------------------------------------------ */

#if defined(__x86_64__)

/* Puts the six words at WORDS in the registers that a function must preserve, and nowhere else,
 * while F runs. */
void hold_in_registers(uintptr_t *words, void (*f)(void));
__asm__(".text\n"
        "hold_in_registers:\n"
        "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n"
        "    pushq %r15\n    pushq %rdi\n"
        "    movq 0(%rdi), %rbx\n    movq 8(%rdi), %rbp\n    movq 16(%rdi), %r12\n"
        "    movq 24(%rdi), %r13\n    movq 32(%rdi), %r14\n    movq 40(%rdi), %r15\n"
        "    pxor %xmm0, %xmm0\n    movups %xmm0, (%rdi)\n    movups %xmm0, 16(%rdi)\n"
        "    movups %xmm0, 32(%rdi)\n"
        "    notq %rbx\n    notq %rbp\n    notq %r12\n    notq %r13\n    notq %r14\n"
        "    notq %r15\n"
        "    call *%rsi\n"
        "    popq %rdi\n"
        "    notq %rbx\n    notq %rbp\n    notq %r12\n    notq %r13\n    notq %r14\n"
        "    notq %r15\n"
        "    movq %rbx, 0(%rdi)\n    movq %rbp, 8(%rdi)\n    movq %r12, 16(%rdi)\n"
        "    movq %r13, 24(%rdi)\n    movq %r14, 32(%rdi)\n    movq %r15, 40(%rdi)\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n"
        "    popq %rbx\n    ret\n");

static void allocate_and_collect(void) {
    for (unsigned i = 0; i < 300000; i++) *(volatile char *)gc_alloc(64) = 1;
    gc_collect(GC_FULL);
    gc_collect(GC_MINOR);
}

static __attribute__((noinline)) void make_six(uintptr_t words[6]) {
    for (unsigned i = 0; i < 6; i++) {
        char *p = gc_alloc(32 + 1500 * (i % 3));
        p[20] = (char)(i + 1);
        words[i] = hide(p);
    }
}

static void pointers_only_in_callee_saved_registers_are_found(void) {
    uintptr_t words[6];
    make_six(words);
    clear_stack();
    hold_in_registers(words, allocate_and_collect);
    for (unsigned i = 0; i < 6; i++) {
        const char *p = reveal(words[i]);
        REQUIRE(gc_base(p) == p && p[20] == (char)(i + 1));
    }
}
#endif

typedef uintptr_t pair __attribute__((vector_size(16)));

static __attribute__((noinline)) pair make_pair(void) {
    char *a = gc_alloc(48), *b = gc_alloc(3000);
    memset(a, 1, 48);
    memset(b, 2, 3000);
    return (pair){(uintptr_t)a, (uintptr_t)b};
}

/* The empty assembly keeps the pair in a vector register: what it is made of is unknown to the
 * compiler. */
static __attribute__((noinline)) void check_pair(void) {
    pair p = make_pair();
    clear_stack();
#if defined(__x86_64__)
    __asm__("" : "+x"(p));
#endif
    for (unsigned i = 0; i < 3000000; i++) {
        char *q = gc_alloc(i % 64 == 0 ? 2000 : 24);
        q[0] = 1;
#if defined(__x86_64__)
        __asm__("" : "+x"(p));
#endif
    }
    REQUIRE(statistics().all.count > 2);
    REQUIRE(all_bytes((const void *)p[0], 1, 48) && all_bytes((const void *)p[1], 2, 3000));
}

static void pointers_only_in_vector_registers_are_found(void) {
    check_pair();
}

/* A loop that gcc and clang turn into moves of two pointers at a time. */
static void pointers_moved_in_pairs_are_found(void) {
    struct two {
        char *a, *b;
    };
    static struct two volatile source;
    struct two from = {NULL, NULL};
    for (unsigned i = 0; i < 300000; i++) {
        struct two next = {gc_alloc(32), gc_alloc(32)};
        next.a[5] = 'a';
        next.b[5] = 'b';
        if (from.a != NULL) REQUIRE(from.a[5] == 'a' && from.b[5] == 'b');
        from = next;
    }
    source = from;
    REQUIRE(source.a[5] == 'a');
}

/* ---- Interior pointers ---------------------------------------------------------------------- */

static void *make(size_t i) {
    static const size_t sizes[] = {16, 32, 40, 500, 1024, 1025, 3000, 8192, 8193, 70000, 300000};
    size_t size = sizes[i % (sizeof sizes / sizeof *sizes)];
    void *p = i / 11 % 2 == 0 ? gc_alloc(size) : gc_alloc_leaf(size);
    REQUIRE(p != NULL);
    return p;
}

static __attribute__((noinline)) void keep_interior_pointers(void) {
    for (size_t i = 0; i < COUNT / 2; i++) {
        char *p = make(i);
        size_t size = gc_size(p), at = i * 7919 % size;
        if (i % 5 == 0) at = size - 1;
        memset(p, (int)(i % 251), size);
        hidden[i] = hide(p);
        roots[i] = p + at;
    }
}

static void check_kept(size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *p = reveal(hidden[i]);
        if (gc_base(p) != p) child_fail(__FILE__, __LINE__, "object %zu at %p is gone", i, p);
        REQUIRE(all_bytes(p, (unsigned char)(i % 251), gc_size(p)));
    }
}

static void interior_pointers_keep_objects(void) {
    keep_interior_pointers();
    collect(GC_MINOR);
    check_kept(COUNT / 2);
    collect(GC_FULL);
    check_kept(COUNT / 2);
}

static __attribute__((noinline)) void use_blocks_for_small_objects(void) {
    for (size_t i = 0; i < 400000; i++) *(volatile char *)gc_alloc(16 + i % 8 * 16) = 1;
}

/* The side bytes of large objects' memory once described small ones. */
static void interior_pointers_keep_large_objects_where_small_ones_were(void) {
    gc_disable();
    use_blocks_for_small_objects();
    gc_enable();
    collect(GC_FULL);
    interior_pointers_keep_objects();
    REQUIRE_EQUAL(gc_verify(), 0);
}

static __attribute__((noinline)) void keep_pointers_in_objects(void) {
    for (size_t i = 0; i < COUNT; i++) {
        char **holder = gc_alloc(i % 3 == 0 ? 2000 : 64);
        char *p = make(i);
        size_t size = gc_size(p);
        memset(p, (int)(i % 251), size);
        hidden[i] = hide(p);
        holder[i % 8] = p + i * 7919 % size;
        roots[i] = holder;
    }
}

/* A young object between two old ones grows in place into a block where nothing is young; a pointer
 * into what it got there is the only one to it. */
static __attribute__((noinline)) void grow_into_the_next_block(void) {
    char *middle = gc_realloc(gc_alloc_leaf(4 * 4096), 12 * 4096);
    memset(middle, 7, 12 * 4096);
    roots[2] = middle + 11 * 4096 + 100;
    REQUIRE(hide(middle) == hidden[0]);
}

static __attribute__((noinline)) void make_room_between(void) {
    roots[0] = gc_alloc_leaf(8 * 4096);
    void *room = gc_alloc_leaf(16 * 4096);
    roots[1] = gc_alloc_leaf(8 * 4096);
    REQUIRE((uintptr_t)room % BLOCK == BLOCK / 2); /* as first fit places them */
    hidden[0] = hide(room);
    gc_free(room);
}

static void interior_pointers_keep_large_objects_that_grew(void) {
    make_room_between();
    collect(GC_FULL);
    grow_into_the_next_block();
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(hidden, 1), 1);
    REQUIRE(all_bytes(gc_base(roots[2]), 7, 12 * 4096));
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void interior_pointers_in_objects_keep_objects(void) {
    keep_pointers_in_objects();
    collect(GC_MINOR);
    check_kept(COUNT);
    collect(GC_FULL);
    check_kept(COUNT);
}

/* ---- One past the end ------------------------------------------------------------------------ */

static __attribute__((noinline)) void keep_ends(size_t size) {
    for (size_t i = 0; i < COUNT; i++) {
        char *p = gc_alloc(size);
        hidden[i] = hide(p);
        roots[i] = p + gc_size(p);
    }
}

static void pointers_past_the_end_keep_objects(void) {
    static const size_t sizes[] = {16, 48, 1024, 1120, 4096, 8192, 12288, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        keep_ends(sizes[i]);
        collect(GC_MINOR);
        REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
        collect(GC_FULL);
        REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
    }
}

/* Keeps only objects that end where a block does; all else is garbage. */
static __attribute__((noinline)) size_t keep_ends_of_blocks(size_t size) {
    size_t kept = 0;
    for (size_t i = 0; i < 40000 && kept < 100; i++) {
        char *p = gc_alloc(size);
        if (((uintptr_t)p + gc_size(p)) % BLOCK != 0) continue;
        hidden[kept] = hide(p);
        roots[kept++] = p + gc_size(p);
    }
    return kept;
}

static void pointers_past_the_end_of_a_block_keep_objects(void) {
    static const size_t sizes[] = {16, 64, 1024, 4096, 8192, 65536, 131072};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(roots, 0, sizeof roots);
        size_t kept = keep_ends_of_blocks(sizes[i]);
        REQUIRE(kept > 5);
        collect(GC_MINOR);
        collect(GC_FULL);
        REQUIRE_EQUAL(count_alive(hidden, kept), kept);
    }
}

/* First every second object dies, so that the others end at holes; then only their ends are kept.
 */
static __attribute__((noinline)) void keep_every_second(void) {
    for (size_t i = 0; i < 2 * COUNT; i++) {
        char *p = gc_alloc(64);
        if (i % 2 == 0) roots[i / 2] = p;
        if (i % 2 == 0) hidden[i / 2] = hide(p);
    }
}

static void pointers_to_a_hole_keep_the_object_before_it(void) {
    keep_every_second();
    collect(GC_FULL);
    for (size_t i = 0; i < COUNT; i++) roots[i] = (char *)roots[i] + 64;
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* A word at the border of two objects holds both. */
static __attribute__((noinline)) void keep_borders(void) {
    for (size_t i = 0; i + 1 < COUNT; i += 2) {
        char *p, *q;
        do {
            q = gc_alloc(32); /* holes are filled from their upper ends down */
            p = gc_alloc(32);
        } while (q != p + 32);
        hidden[i] = hide(p);
        hidden[i + 1] = hide(q);
        roots[i / 2] = q;
    }
}

static void a_pointer_at_a_border_keeps_both_objects(void) {
    keep_borders();
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
}

static __attribute__((noinline)) void keep_ends_in_objects(void) {
    char **holder = gc_alloc(COUNT * sizeof *holder);
    for (size_t i = 0; i < COUNT; i++) {
        char *p = gc_alloc(64);
        gc_alloc(64); /* another one, which dies, where the pointer points */
        hidden[i] = hide(p);
        holder[i] = p + 64;
    }
    roots[0] = holder;
}

static void ends_in_objects_keep_objects_by_option(void) {
    keep_ends_in_objects();
    collect(GC_MINOR);
    REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
}

static void ends_in_objects_keep_nothing_without_the_option(void) {
    keep_ends_in_objects();
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, COUNT) < 50);
}

/* ---- Static, thread-local, plugins ----------------------------------------------------------- */

static __thread void *local_roots[16];
static void *data_roots[16] = {(void *)1};

static __attribute__((noinline)) void keep_in_variables(void) {
    for (size_t i = 0; i < 48; i++) {
        void *p = gc_alloc(100);
        void **place = i < 16 ? local_roots : i < 32 ? data_roots : roots;
        place[i % 16] = p;
        hidden[i] = hide(p);
    }
}

static void static_and_thread_local_variables_keep_objects(void) {
    keep_in_variables();
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden, 48), 48);
    memset(local_roots, 0, sizeof local_roots);
    memset(data_roots, 0, sizeof data_roots);
    memset(roots, 0, sizeof roots);
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, 48) < 16);
}

/* So many words of roots are searched in the course of marking, by all who mark.  They are more than
 * the smallest mark stack has room for. */
enum { APART = 600, LONG_ROOTS = APART * COUNT };
static void *long_roots[LONG_ROOTS];

#define TAG ((uintptr_t)1 << 60) /* of references, in a heap that has a format */

/* A chain of those that move, if nothing ambiguous holds them. */
struct kept {
    struct kept *before;
    char *last;
};
GC_TYPE(struct kept, before, last);
static struct kept **newest; /* a slot, in malloc's memory */

/* By its start, its inside, its end, or a word of the heap's format, if it has one. */
static __attribute__((noinline)) void keep_in_long_roots(unsigned round) {
    bool tagged = getenv("CAIRN_TAG_MASK") != NULL;
    *newest = NULL;
    bool all_precise = round % 2 == 1; /* else there are too many that don't move */
    for (size_t i = 0; i < (all_precise ? 10000 : 0); i++) gc_new(struct kept);
    for (size_t i = 0; i < COUNT; i++) {
        bool precise = all_precise || i % 5 == 4;
        char **p = precise ? (char **)gc_new(struct kept) : gc_alloc(48 + i % 3 * 1024);
        char *last = gc_alloc_leaf(16);
        *last = (char)i;
        p[1] = tagged && precise ? (char *)((uintptr_t)last | TAG) : last;
        if (precise) {
            p[0] = (char *)*newest;
            *newest = (struct kept *)((uintptr_t)p | (tagged ? TAG : 0));
        }
        hidden[i] = hide(p);
        size_t forms[] = {0, 15, gc_size(p)};
        uintptr_t word = (uintptr_t)p + forms[(i + round) % 3];
        if (tagged && i % 2 == 0) word = (uintptr_t)p | TAG;
        long_roots[i * APART + round] = (void *)word;
    }
}

static void check_long_roots(void) {
    for (size_t i = 0; i < COUNT; i++) {
        char **p = reveal(hidden[i]);
        REQUIRE(gc_base(p) == p);
        const char *last = (const char *)((uintptr_t)p[1] & ~TAG);
        REQUIRE(gc_base(last) == last && *last == (char)i);
    }
}

/* Marking is enough work, once, for threads of the collector's own to be made. */
static void get_help(void) {
    void **list = NULL;
    for (unsigned i = 0; i < 100000; i++) {
        void **next = gc_alloc(16);
        *next = list;
        roots[0] = list = next;
    }
    for (unsigned i = 0; i < 3; i++) collect(GC_FULL);
    roots[0] = NULL;
    REQUIRE_EQUAL(statistics().workers > 0, strcmp(getenv("CAIRN_WORKERS"), "1") != 0);
}

static void long_roots_keep_objects(void) {
    static const enum gc_collection kinds[] = {GC_MINOR, GC_FULL, GC_COMPACT, GC_MINOR};
    bool put_off = false, moves = false;
    get_help();
    newest = calloc(1, sizeof *newest);
    REQUIRE_EQUAL(gc_add_slots((void **)newest, 1), 0);
    for (unsigned round = 0; round < 12; round++) {
        memset(long_roots, 0, sizeof long_roots);
        keep_in_long_roots(round);
        for (unsigned k = 0; k < 4; k++) {
            collect(kinds[(round + k) % 4]);
            put_off |= gci_default_heap()->marker.put_off_ns > 0;
            moves |= gci_default_heap()->marker.moving;
            check_long_roots();
        }
    }
    REQUIRE(moves && put_off == (statistics().workers > 0));
    memset(long_roots, 0, sizeof long_roots);
    *newest = NULL;
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, COUNT) < COUNT / 20);
}

/* A range may be an object of the heap, which holds nothing by itself. */
static void long_ranges_in_the_heap_keep_objects(void) {
    get_help();
    static const size_t words[] = {COUNT, 4 * COUNT, 100 * COUNT};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        void **range = gc_alloc_leaf(words[i] * sizeof *range);
        roots[0] = range;
        REQUIRE_EQUAL(gc_add_root(range, words[i] * sizeof *range), 0);
        for (size_t k = 0; k < COUNT; k++) {
            void *p = gc_alloc(64);
            range[k * (words[i] / COUNT)] = p;
            hidden[k] = hide(p);
        }
        collect(GC_FULL);
        collect(GC_MINOR);
        REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
        REQUIRE_EQUAL(gc_remove_root(range, words[i] * sizeof *range), 0);
        collect(GC_FULL);
        REQUIRE(count_alive(hidden, COUNT) < COUNT / 20);
    }
}

static void leaf_objects_hold_nothing(void) {
    void **leaf = gc_alloc_leaf(COUNT * sizeof *leaf);
    roots[0] = leaf;
    for (size_t i = 0; i < COUNT; i++) {
        leaf[i] = gc_alloc(64);
        hidden[i] = hide(leaf[i]);
    }
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, COUNT) < 50);
}

static __attribute__((noinline)) void fill_a_large_object(size_t bytes) {
    void **large = gc_alloc(bytes);
    for (size_t i = 0; i < COUNT; i++) {
        large[i] = gc_alloc(32);
        hidden[i] = hide(large[i]);
    }
}

static void unreachable_large_objects_keep_nothing(void) {
    need_optimised_code();
    for (unsigned i = 0; i < 4; i++) {
        fill_a_large_object(20000 + i * 100000);
        collect(i % 2 == 0 ? GC_MINOR : GC_FULL);
        REQUIRE(count_alive(hidden, COUNT) < 50);
    }
}

static void unreachable_cycles_are_collected(void) {
    for (size_t i = 0; i < COUNT; i++) {
        void **a = gc_alloc(64), **b = gc_alloc(2000);
        a[3] = b;
        b[100] = a;
        hidden[i] = hide(a);
    }
    collect(GC_MINOR);
    REQUIRE(count_alive(hidden, COUNT) < 50);
}

static __attribute__((noinline)) void *load_plugin(struct plugin_places *places) {
    const char *path = getenv("CAIRN_TEST_PLUGIN");
    if (path == NULL) child_skip("CAIRN_TEST_PLUGIN names no plugin");
    void *plugin = dlopen(path, RTLD_NOW);
    if (plugin == NULL) child_fail(__FILE__, __LINE__, "%s", dlerror());
    void (*ask)(struct plugin_places *);
    *(void **)&ask = dlsym(plugin, "plugin_places");
    ask(places);
    return plugin;
}

static __attribute__((noinline)) void keep_in_plugin(const struct plugin_places *places) {
    void **variables[] = {places->data, places->bss, places->exported, places->local};
    for (size_t i = 0; i < 4; i++) {
        *variables[i] = gc_alloc(100);
        hidden[i] = hide(*variables[i]);
    }
}

static void a_plugins_variables_keep_objects_until_it_is_closed(void) {
    collect(GC_FULL);
    for (unsigned round = 0; round < 5; round++) {
        struct plugin_places places;
        void *plugin = load_plugin(&places);
        keep_in_plugin(&places);
        collect(GC_FULL);
        collect(GC_MINOR);
        REQUIRE_EQUAL(count_alive(hidden, 4), 4);
        REQUIRE_EQUAL(dlclose(plugin), 0);
        collect(GC_FULL);
        collect(GC_MINOR);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
        CHILD_TEST(pointers_only_in_callee_saved_registers_are_found),
#endif
        CHILD_TEST(pointers_only_in_vector_registers_are_found),
        CHILD_TEST(pointers_only_in_vector_registers_are_found, "CAIRN_NURSERY=64K"),
        CHILD_TEST(pointers_moved_in_pairs_are_found, "CAIRN_NURSERY=64K"),
        CHILD_TEST(interior_pointers_keep_objects),
        CHILD_TEST(interior_pointers_keep_large_objects_where_small_ones_were),
        CHILD_TEST(interior_pointers_keep_large_objects_that_grew),
        CHILD_TEST(interior_pointers_in_objects_keep_objects),
        CHILD_TEST(pointers_past_the_end_keep_objects),
        CHILD_TEST(pointers_past_the_end_of_a_block_keep_objects),
        CHILD_TEST(pointers_to_a_hole_keep_the_object_before_it),
        CHILD_TEST(a_pointer_at_a_border_keeps_both_objects),
        CHILD_TEST(ends_in_objects_keep_objects_by_option, "CAIRN_ONE_PAST_END_IN_HEAP=1"),
        CHILD_TEST(ends_in_objects_keep_nothing_without_the_option),
        CHILD_TEST(static_and_thread_local_variables_keep_objects),
        CHILD_TEST(long_roots_keep_objects, "CAIRN_VERIFY=1", "CAIRN_WORKERS=1"),
        CHILD_TEST(long_roots_keep_objects, "CAIRN_VERIFY=1", "CAIRN_WORKERS=2"),
        CHILD_TEST(long_roots_keep_objects, "CAIRN_WORKERS=4", "CAIRN_MARK_STACK_LIMIT=4K"),
        CHILD_TEST(long_roots_keep_objects, "CAIRN_WORKERS=4", "CAIRN_VERIFY=1",
            "CAIRN_TAG_MASK=0xf000000000000000", "CAIRN_TAG_VALUE=0x1000000000000000",
            "CAIRN_TAG_ADDRESS_MASK=0x00ffffffffffffff"),
        CHILD_TEST(long_ranges_in_the_heap_keep_objects, "CAIRN_VERIFY=1", "CAIRN_WORKERS=2"),
        CHILD_TEST(leaf_objects_hold_nothing),
        CHILD_TEST(unreachable_large_objects_keep_nothing),
        CHILD_TEST(unreachable_cycles_are_collected),
        CHILD_TEST(a_plugins_variables_keep_objects_until_it_is_closed),
    };
    return cmocka_run_group_tests_name("roots", tests, NULL, NULL);
}
