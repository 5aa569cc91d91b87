/* What the public functions promise about objects: sizes, zeroed memory, alignment, gc_base and
 * gc_size, gc_free and gc_realloc in all directions, pins, root ranges, statistics. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "support.h"

/* From each part of the allocator and around its limits. */
static const size_t sizes[] = {1, 8, 15, 16, 17, 24, 64, 100, 1008, 1023, 1024, 1025, 1040, 1120,
    1121, 2048, 4096, 5000, 8000, 8191, 8192, 8193, 12288, 20000, 65536, 100000, 1000000};
#define SIZES (sizeof sizes / sizeof *sizes)

static void *volatile keep; /* a root */

static void *make(unsigned kind, size_t size) {
    switch (kind) {
    case 0:
        return gc_alloc(size);
    case 1:
        return gc_alloc_leaf(size);
    default:
        return gc_alloc_aligned(32, size);
    }
}

/* ---- Sizes and memory ----------------------------------------------------------------------- */

static void a_size_of_zero_gives_distinct_objects(void) {
    char *a = gc_alloc(0), *b = gc_alloc(0), *c = gc_alloc_leaf(0), *d = gc_alloc_aligned(16, 0);
    REQUIRE(a != NULL && b != NULL && c != NULL && d != NULL);
    REQUIRE(a != b && c != d && a != d);
    REQUIRE_EQUAL(gc_size(a), 16);
    REQUIRE_EQUAL(gc_size(c), 16);
}

static void every_size_has_its_base_and_size(void) {
    for (unsigned kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < SIZES; i++) {
            size_t size = sizes[i];
            char *p = make(kind, size);
            size_t usable = gc_size(p);
            REQUIRE((uintptr_t)p % 16 == 0 && usable >= size);
            REQUIRE(usable <= size + size / 7 + (size > 1024 ? 4096 : 16));
            size_t step = usable / 100 + 1;
            for (size_t at = 0; at < usable; at += step) {
                REQUIRE(gc_base(p + at) == p);
                REQUIRE(gc_size(p + at) == (at == 0 ? usable : 0));
            }
            REQUIRE(gc_base(p + usable - 1) == p);
            REQUIRE(gc_base(p + usable) != p);
        }
    }
}

static void foreign_pointers_have_no_base(void) {
    int local = 0;
    void *foreign = malloc(100);
    REQUIRE(gc_base(&local) == NULL && gc_size(&local) == 0); /* there is no heap yet */
    char *p = gc_alloc(100);
    const void *others[] = {NULL, &local, foreign, (void *)foreign_pointers_have_no_base,
        (void *)UINTPTR_MAX, (void *)1, p + (1 << 30)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        REQUIRE(gc_base(others[i]) == NULL);
        REQUIRE_EQUAL(gc_size(others[i]), 0);
        REQUIRE_EQUAL(gc_pin(others[i]), EINVAL);
        REQUIRE_EQUAL(gc_unpin(others[i]), EINVAL);
        REQUIRE_EQUAL(gc_explain(others[i]), EINVAL);
    }
    free(foreign);
}

static __attribute__((noinline)) void dirty_memory(unsigned kind, size_t size) {
    size_t count = ((size_t)2 << 20) / (size + 64) + 2;
    for (size_t n = 0; n < count; n++) {
        unsigned char *p = make(kind, size);
        size_t usable = gc_size(p);
        if (!all_bytes(p, 0, usable))
            child_fail(
                __FILE__, __LINE__, "object %zu of %zu bytes, kind %u, isn't zero", n, size, kind);
        memset(p, 0xff, usable);
        if (n % 7 == 0) *(void *volatile *)&keep = p;
        if (n % 11 == 3) gc_free(p);
    }
}

static void memory_is_zero_whatever_was_there_before(void) {
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned kind = 0; kind < 3; kind++) {
            for (size_t i = 0; i < SIZES; i++) {
                size_t other = (i * 5 + round) % SIZES; /* mixes up what blocks are used for */
                dirty_memory(kind, sizes[other]);
                if (i % 3 == 0) collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
            }
        }
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void alignments_up_to_a_gigabyte_are_kept(void) {
    static char *kept[31];
    for (unsigned shift = 0; shift <= 30; shift++) {
        size_t alignment = (size_t)1 << shift;
        for (size_t size = 1; size <= 20000; size = size * 7 + 3) {
            char *p = gc_alloc_aligned(alignment, size);
            if (p == NULL || (uintptr_t)p % alignment != 0)
                child_fail(__FILE__, __LINE__, "%zu bytes at %#zx: %p", size, alignment, (void *)p);
            REQUIRE(gc_size(p) >= size && gc_base(p + size - 1) == p);
            REQUIRE(all_bytes(p, 0, gc_size(p)));
            memset(p, (int)shift + 1, size);
            kept[shift] = p;
        }
        if (shift % 8 == 7) collect(GC_FULL);
    }
    for (unsigned shift = 0; shift <= 30; shift++)
        REQUIRE(all_bytes(kept[shift], (unsigned char)(shift + 1), gc_size(kept[shift]) > 0));
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* At which the arena itself need not be. */
static void alignments_of_many_megabytes_are_of_the_address(void) {
    for (unsigned shift = 21; shift <= 30; shift++) {
        char *p = gc_alloc_aligned((size_t)1 << shift, 16);
        REQUIRE(p != NULL);
        REQUIRE_EQUAL((uintptr_t)p & (((uintptr_t)1 << shift) - 1), 0);
    }
}

static void wrong_alignments_are_refused(void) {
    const size_t wrong[] = {0, 3, 24, (size_t)1 << 31, SIZE_MAX, ((size_t)1 << 30) + 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        errno = 0;
        REQUIRE(gc_alloc_aligned(wrong[i], 16) == NULL);
        REQUIRE_EQUAL(errno, EINVAL);
    }
}

/* ---- gc_free and gc_realloc ------------------------------------------------------------------ */

static void freed_memory_is_used_again(void) {
    gc_disable();
    for (size_t i = 0; i < SIZES; i++) {
        for (unsigned kind = 0; kind < 2; kind++) {
            gc_free(make(kind, sizes[i]));
            uint64_t before = statistics().heap_bytes;
            for (unsigned n = 0; n < 1000; n++) gc_free(make(kind, sizes[i]));
            REQUIRE(statistics().heap_bytes <= before + (128 << 10));
        }
    }
    gc_free(NULL);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* Frees objects one by one from the last allocated back over several blocks, then allocates in
 * other sizes. */
static void frees_in_reverse_order_stop_at_a_block(void) {
    enum { COUNT = 6000, BYTES = 32 };
    static char *objects[COUNT];
    for (unsigned back = 1; back < COUNT; back += 371) {
        for (unsigned i = 0; i < COUNT; i++) objects[i] = gc_alloc(BYTES);
        for (unsigned i = 0; i < back; i++) gc_free(objects[COUNT - 1 - i]);
        for (unsigned i = 0; i < 300; i++) {
            char *p = gc_alloc(1008);
            REQUIRE((uintptr_t)p / 65536 == ((uintptr_t)p + 1007) / 65536);
        }
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

/* Resizes every object in turn while it is the last one allocated, those at a block's end among
 * them.
 */
static void the_newest_object_grows_within_a_block(void) {
    for (unsigned i = 0; i < 20000; i++) {
        char *p = gc_alloc(16 + i % 3 * 16);
        gc_free(gc_alloc(16)); /* perhaps in a new block */
        p[0] = 1;
        p = gc_realloc(p, 200);
        REQUIRE((uintptr_t)p / 65536 == ((uintptr_t)p + 199) / 65536);
        REQUIRE(p[0] == 1 && all_bytes(p + 1, 0, 199));
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void resize(unsigned kind, size_t from, size_t to) {
    unsigned char *p = make(kind, from);
    for (size_t i = 0; i < from; i++) p[i] = (unsigned char)(i * 7 + 1);
    unsigned char *q = gc_realloc(p, to);
    size_t kept = from < to ? from : to, usable = gc_size(q);
    REQUIRE(q != NULL && usable >= to);
    for (size_t i = 0; i < kept; i++) REQUIRE(q[i] == (unsigned char)(i * 7 + 1));
    if (!all_bytes(q + kept, 0, usable - kept))
        child_fail(__FILE__, __LINE__, "%zu to %zu bytes, kind %u: not zero", from, to, kind);
    if (q != p) REQUIRE(gc_base(p) != p);
    if (q == p && to <= from) REQUIRE(usable < 4 * to || usable <= 64);
}

static void gc_realloc_keeps_contents_in_all_directions(void) {
    for (unsigned kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < SIZES; i++)
            for (size_t j = 0; j < SIZES; j++) resize(kind, sizes[i], sizes[j]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void gc_realloc_keeps_old_objects_contents(void) {
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *p = gc_alloc(sizes[i]);
        memset(p, 0x55, sizes[i]);
        collect(GC_FULL);
        collect(GC_MINOR);
        p = gc_realloc(p, sizes[i] * 3);
        REQUIRE(all_bytes(p, 0x55, sizes[i]));
        REQUIRE(all_bytes(p + sizes[i], 0, gc_size(p) - sizes[i]));
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void gc_realloc_of_null_allocates_and_to_zero_frees(void) {
    char *p = gc_realloc(NULL, 100);
    REQUIRE(p != NULL && gc_size(p) >= 100 && all_bytes(p, 0, 100));
    errno = 0;
    REQUIRE(gc_realloc(p, 0) == NULL);
    REQUIRE_EQUAL(errno, 0);
    REQUIRE(gc_base(p) == NULL);
}

static void gc_realloc_keeps_the_kind(void) {
    static uintptr_t targets[1000];
    for (unsigned round = 0; round < 2; round++) {
        void **holder = round == 0 ? gc_alloc(100) : gc_alloc_leaf(100);
        holder = gc_realloc(holder, sizeof targets);
        for (size_t i = 0; i < 1000; i++) {
            holder[i] = gc_alloc_leaf(16);
            targets[i] = hide(holder[i]);
        }
        keep = holder;
        collect(GC_FULL);
        size_t alive = count_alive(targets, 1000);
        if (round == 0) REQUIRE_EQUAL(alive, 1000);
        if (round == 1) REQUIRE(alive < 50);
    }
}

/* Both directions, with no memory for the copy. */
static void a_failed_gc_realloc_leaves_the_object_alone(void) {
    gc_disable();
    unsigned char *small = gc_alloc(1000), *large = gc_alloc(200000);
    memset(small, 0x11, 1000);
    memset(large, 0x22, 200000);
    while (gc_alloc(200000) != NULL) continue;
    while (gc_alloc(8000) != NULL) continue;
    while (gc_alloc(300) != NULL) continue;
    errno = 0;
    REQUIRE(gc_realloc(small, 1 << 20) == NULL);
    REQUIRE_EQUAL(errno, ENOMEM);
    REQUIRE(gc_size(small) >= 1000 && all_bytes(small, 0x11, 1000));
    REQUIRE(gc_realloc(small, SIZE_MAX) == NULL);
    REQUIRE(gc_realloc(large, PTRDIFF_MAX) == NULL);
    if (gc_realloc(small, 300) == NULL) REQUIRE(all_bytes(small, 0x11, 1000));
    if (gc_realloc(large, 8000) == NULL) REQUIRE(all_bytes(large, 0x22, 200000));
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void gc_strdup_copies_from_anywhere(void) {
    char text[10000];
    for (size_t length = 0; length < sizeof text; length = length * 3 + 1) {
        memset(text, 'x', length);
        text[length] = '\0';
        char *copy = gc_strdup(text);
        REQUIRE(strcmp(copy, text) == 0 && gc_size(copy) > length);
    }
    char *chain = gc_strdup("the only reference to the original is the argument");
    for (unsigned i = 0; i < 200000; i++) chain = gc_strdup(chain);
    REQUIRE(strcmp(chain, "the only reference to the original is the argument") == 0);
}

static __attribute__((noinline)) uintptr_t hidden_text(unsigned i, size_t size) {
    char *p = gc_alloc_leaf(size);
    memset(p, 'a' + (int)(i % 26), size - 1);
    return hide(p);
}

/* Under CAIRN_STRESS=1 each allocation collects, also that of the copy; its original is referred to
 * by the argument only. */
static void arguments_are_kept_while_they_are_copied(void) {
    static const size_t lengths[] = {20, 200, 1000, 3000, 9000};
    for (unsigned i = 0; i < 500; i++) {
        size_t size = lengths[i % 5];
        uintptr_t original = hidden_text(i, size);
        clear_stack();
        char *copy =
            i / 5 % 2 == 0 ? gc_strdup(reveal(original)) : gc_realloc(reveal(original), 40000);
        REQUIRE(all_bytes(copy, (unsigned char)('a' + i % 26), size - 1) && copy[size - 1] == '\0');
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Pins, roots, policy, statistics --------------------------------------------------------- */

static void a_pinned_object_keeps_its_address(void) {
    char *p = gc_alloc(200);
    p[150] = 5;
    REQUIRE_EQUAL(gc_pin(p + 150), 0);
    keep = p;
    for (unsigned i = 0; i < 4; i++) collect(i % 2 == 0 ? GC_MINOR : GC_FULL);
    REQUIRE(keep == p && p[150] == 5 && gc_base(p + 150) == p);
    REQUIRE_EQUAL(gc_unpin(p), 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_pin_keeps_nothing_alive(void) {
    static uintptr_t hidden[2000];
    for (size_t i = 0; i < 2000; i++) {
        void *p = gc_alloc(i % 4 == 0 ? 2000 : 48);
        REQUIRE_EQUAL(gc_pin(p), 0);
        hidden[i] = hide(p);
    }
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, 2000) < 100);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_registered_range_keeps_objects_alive(void) {
    enum { COUNT = 1000 };
    static uintptr_t hidden[COUNT];
    void **range = malloc((COUNT + 1) * sizeof *range);
    char *unaligned = (char *)range + 3; /* the partial words at its ends don't count */
    REQUIRE_EQUAL(gc_add_root(NULL, 8), EINVAL);
    REQUIRE_EQUAL(gc_add_root(range, 0), EINVAL);
    REQUIRE_EQUAL(gc_add_root(range, SIZE_MAX), EINVAL);
    REQUIRE_EQUAL(gc_remove_root(range, 8), ENOENT);
    REQUIRE_EQUAL(gc_add_root(unaligned, (COUNT + 1) * sizeof *range - 6), 0);
    for (size_t i = 1; i < COUNT; i++) {
        range[i] = gc_alloc(32);
        hidden[i] = hide(range[i]);
    }
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden + 1, COUNT - 1), COUNT - 1);
    REQUIRE_EQUAL(gc_remove_root(unaligned, 8), ENOENT);
    REQUIRE_EQUAL(gc_remove_root(unaligned, (COUNT + 1) * sizeof *range - 6), 0);
    REQUIRE_EQUAL(gc_remove_root(unaligned, (COUNT + 1) * sizeof *range - 6), ENOENT);
    collect(GC_FULL);
    REQUIRE(count_alive(hidden + 1, COUNT - 1) < 50);
    free(range);
}

static void thousands_of_ranges_are_searched(void) {
    enum { COUNT = 5000 };
    static uintptr_t hidden[COUNT];
    void ***ranges = malloc(COUNT * sizeof *ranges);
    for (size_t i = 0; i < COUNT; i++) {
        ranges[i] = malloc(sizeof(void *));
        REQUIRE_EQUAL(gc_add_root(ranges[i], sizeof(void *)), 0);
        *ranges[i] = gc_alloc(16);
        hidden[i] = hide(*ranges[i]);
    }
    collect(GC_FULL);
    REQUIRE_EQUAL(count_alive(hidden, COUNT), COUNT);
    for (size_t i = 0; i < COUNT; i++) REQUIRE_EQUAL(gc_remove_root(ranges[i], sizeof(void *)), 0);
    collect(GC_FULL);
    REQUIRE(count_alive(hidden, COUNT) < 100);
}

static void allocate_garbage(size_t bytes) {
    for (size_t n = 0; n < bytes / 1024; n++) keep = gc_alloc(1024);
}

static void external_memory_makes_collections_come_earlier(void) {
    allocate_garbage(4 << 20);
    REQUIRE_EQUAL(statistics().all.count, 0);
    gc_account_external((ptrdiff_t)1 << 30);
    REQUIRE_EQUAL(statistics().external_bytes, 1 << 30);
    allocate_garbage(1 << 20);
    REQUIRE_EQUAL(statistics().full.count, 1);
    gc_account_external(-((ptrdiff_t)1 << 30));
    REQUIRE_EQUAL(statistics().external_bytes, 0);
    gc_account_external(PTRDIFF_MIN);
    REQUIRE_EQUAL(statistics().external_bytes, 0);
    gc_account_external(PTRDIFF_MAX);
    gc_account_external(PTRDIFF_MAX);
    REQUIRE(statistics().external_bytes > (uint64_t)1 << 40);
}

static void nothing_is_collected_while_disabled(void) {
    gc_disable();
    gc_disable();
    allocate_garbage(64 << 20);
    REQUIRE_EQUAL(gc_collect(GC_FULL), EBUSY);
    gc_enable();
    REQUIRE_EQUAL(gc_collect(GC_MINOR), EBUSY);
    REQUIRE_EQUAL(statistics().all.count, 0);
    gc_enable();
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    REQUIRE_EQUAL(statistics().minor.count, 1);
}

static void statistics_add_up(void) {
    gc_stats empty = {.size = sizeof empty, .heap_bytes = 1};
    REQUIRE_EQUAL(gc_get_stats(&empty), 0);
    REQUIRE_EQUAL(empty.heap_bytes, 0);
    void **table = gc_alloc_aligned(16, 10000 * sizeof *table);
    for (size_t i = 0; i < 300000; i++) table[i % 10000] = gc_alloc(64);
    table[0] = gc_alloc(1 << 20);
    keep = table;
    uint64_t full = statistics().full.count; /* where little lives, some were full, or all */
    gc_disable();
    for (size_t i = 1; i < 10000; i++) table[i] = gc_alloc(64);
    gc_enable();
    uint64_t promoted = statistics().promoted_bytes;
    collect(GC_MINOR);
    REQUIRE(statistics().promoted_bytes >= promoted + 9999 * 64);
    collect(GC_FULL);
    gc_stats s = statistics();
    REQUIRE(s.barrier != GC_BARRIER_AUTO);
    REQUIRE(s.allocated_bytes >= 300000 * 64 + (1 << 20));
    REQUIRE(s.allocated_bytes < (300000 * 64 + (1 << 20)) * 3 / 2);
    REQUIRE_EQUAL(s.allocated_large, (1 << 20) + 81920);
    REQUIRE(s.live_bytes >= 10000 * 64 + (1 << 20) && s.live_bytes < 4 << 20);
    REQUIRE(s.heap_bytes >= s.live_bytes);
    REQUIRE(s.committed_bytes >= s.heap_bytes);
    REQUIRE(s.committed_bytes >= s.free_bytes);
    REQUIRE_EQUAL(s.full.count, full + 1);
    REQUIRE_EQUAL(s.all.count, s.minor.count + s.full.count);
    REQUIRE_EQUAL(s.all.total_ns, s.minor.total_ns + s.full.total_ns);
    REQUIRE(s.minor.p50_ns <= s.minor.p99_ns && s.minor.p99_ns <= s.minor.max_ns);
    REQUIRE(s.minor.max_ns <= s.minor.total_ns);
    REQUIRE(s.nursery_bytes > 0);
}

static void statistics_have_a_size(void) {
    struct {
        gc_stats stats;
        uint64_t later;
    } larger = {.stats.size = sizeof larger, .later = 7};
    keep = gc_alloc(16);
    REQUIRE_EQUAL(gc_get_stats(&larger.stats), 0);
    REQUIRE(larger.later == 0 && larger.stats.committed_bytes > 0);
    gc_stats s = {.size = 8};
    REQUIRE_EQUAL(gc_get_stats(&s), EINVAL);
    s.size = 0;
    REQUIRE_EQUAL(gc_get_stats(&s), EINVAL);
}

static void the_version_is_named(void) {
    REQUIRE(strncmp(gc_version(), "cairn ", 6) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_size_of_zero_gives_distinct_objects),
        CHILD_TEST(every_size_has_its_base_and_size),
        CHILD_TEST(foreign_pointers_have_no_base),
        CHILD_TEST(memory_is_zero_whatever_was_there_before),
        CHILD_TEST(memory_is_zero_whatever_was_there_before, "CAIRN_POISON=1", "CAIRN_NURSERY=1M"),
        CHILD_TEST(memory_is_zero_whatever_was_there_before, "CAIRN_LARGE_FIT=best",
            "CAIRN_RELEASE_AFTER=1"),
        CHILD_TEST(alignments_up_to_a_gigabyte_are_kept),
        CHILD_TEST(alignments_of_many_megabytes_are_of_the_address),
        CHILD_TEST(wrong_alignments_are_refused),
        CHILD_TEST(freed_memory_is_used_again),
        CHILD_TEST(frees_in_reverse_order_stop_at_a_block),
        CHILD_TEST(the_newest_object_grows_within_a_block),
        CHILD_TEST(gc_realloc_keeps_contents_in_all_directions),
        CHILD_TEST(gc_realloc_keeps_contents_in_all_directions, "CAIRN_POISON=1"),
        CHILD_TEST(gc_realloc_keeps_old_objects_contents),
        CHILD_TEST(gc_realloc_of_null_allocates_and_to_zero_frees),
        CHILD_TEST(gc_realloc_keeps_the_kind),
        CHILD_TEST(a_failed_gc_realloc_leaves_the_object_alone, "CAIRN_HEAP_LIMIT=8M"),
        CHILD_TEST(gc_strdup_copies_from_anywhere),
        CHILD_TEST(arguments_are_kept_while_they_are_copied, "CAIRN_STRESS=1", "CAIRN_POISON=1"),
        CHILD_TEST(a_pinned_object_keeps_its_address),
        CHILD_TEST(a_pin_keeps_nothing_alive),
        CHILD_TEST(a_registered_range_keeps_objects_alive),
        CHILD_TEST(thousands_of_ranges_are_searched),
        CHILD_TEST(external_memory_makes_collections_come_earlier),
        CHILD_TEST(nothing_is_collected_while_disabled),
        CHILD_TEST(statistics_add_up),
        CHILD_TEST(statistics_have_a_size),
        CHILD_TEST(the_version_is_named),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
