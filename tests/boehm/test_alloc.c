/* Every way to allocate, resize and free objects. */
#include "support.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <wchar.h>

#include "gc_inline.h"
#include "gc_mark.h"

static bool is_zero(const void *p, size_t bytes) {
    const char *c = p;
    for (size_t i = 0; i < bytes; i++)
        if (c[i] != 0) return false;
    return true;
}

/* Memory that was used before, too. */
static void check_cleared(allocator *allocate) {
    for (int round = 0; round < 3; round++) {
        for (size_t bytes = 1; bytes < 40000; bytes += bytes / 3 + 1) {
            char *p = allocate(bytes);
            REQUIRE(p != NULL);
            REQUIRE(is_zero(p, bytes));
            REQUIRE((uintptr_t)p % 16 == 0);
            REQUIRE(GC_size(p) >= bytes);
            memset(p, 0xa5, bytes);
        }
        GC_gcollect();
    }
}

static void objects_are_zeroed_aligned_and_large_enough(void) {
    GC_INIT();
    check_cleared(GC_malloc);
    check_cleared(GC_malloc_uncollectable);
    check_cleared(GC_malloc_ignore_off_page);
}

static void atomic_objects_are_aligned_and_large_enough(void) {
    GC_INIT();
    for (size_t bytes = 1; bytes < 1000000; bytes += bytes / 3 + 1) {
        char *p = GC_malloc_atomic(bytes);
        REQUIRE((uintptr_t)p % 16 == 0 && GC_size(p) >= bytes);
        memset(p, 1, bytes);
        p = GC_malloc_atomic_ignore_off_page(bytes);
        REQUIRE((uintptr_t)p % 16 == 0 && GC_size(p) >= bytes);
        memset(p, 1, bytes);
    }
}

static void an_object_of_no_bytes_is_an_object(void) {
    GC_INIT();
    void *a = GC_malloc(0), *b = GC_malloc(0), *c = GC_malloc_atomic(0);
    REQUIRE(a != NULL && b != NULL && c != NULL && a != b);
    REQUIRE(GC_base(a) == a && GC_base(c) == c);
    REQUIRE(GC_malloc_uncollectable(0) != NULL);
}

static void plain_objects_hold_others(void) {
    GC_INIT();
    REQUIRE_EQUAL(children_kept(GC_malloc, 8), MANY);
    REQUIRE_EQUAL(children_kept(GC_malloc, 100), MANY);
    REQUIRE_EQUAL(children_kept(GC_malloc, 5000), MANY);
    REQUIRE_EQUAL(children_kept(GC_malloc_ignore_off_page, 9000), MANY);
    REQUIRE_EQUAL(children_kept(GC_malloc_uncollectable, 40), MANY);
}

static void atomic_objects_hold_nothing(void) {
    GC_INIT();
    REQUIRE_FEW(children_kept(GC_malloc_atomic, 16), MANY);
    REQUIRE_FEW(children_kept(GC_malloc_atomic, 5000), MANY);
    REQUIRE_FEW(children_kept(GC_malloc_atomic_ignore_off_page, 9000), MANY);
    REQUIRE_FEW(children_kept(GC_malloc_atomic_uncollectable, 40), MANY);
}

static void garbage_goes(void) {
    GC_INIT();
    REQUIRE_FEW(garbage_kept(GC_malloc, 24), MANY);
    REQUIRE_FEW(garbage_kept(GC_malloc, 3000), MANY);
    REQUIRE_FEW(garbage_kept(GC_malloc_atomic, 24), MANY);
    REQUIRE_FEW(garbage_kept(GC_malloc_ignore_off_page, 9000), MANY);
}

static void uncollectable_objects_stay_until_freed(void) {
    GC_INIT();
    REQUIRE_EQUAL(garbage_kept(GC_malloc_uncollectable, 24), MANY);
    REQUIRE_EQUAL(garbage_kept(GC_malloc_uncollectable, 5000), MANY);
    REQUIRE_EQUAL(garbage_kept(GC_malloc_atomic_uncollectable, 24), MANY);
    void *p = GC_malloc_uncollectable(100);
    GC_free(p);
    p = GC_malloc_atomic_uncollectable(100);
    GC_free(p);
}

static void *stubborn(size_t bytes) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    void *p = GC_malloc_stubborn(bytes);
    GC_change_stubborn(p);
#pragma GCC diagnostic pop
    return p;
}

static void stubborn_objects_are_plain_ones(void) {
    GC_INIT();
    check_cleared(stubborn);
    REQUIRE_EQUAL(children_kept(stubborn, 40), MANY);
    REQUIRE_FEW(garbage_kept(stubborn, 40), MANY);
}

static void strings_are_copied(void) {
    GC_INIT();
    char *a = GC_strdup("some words");
    REQUIRE(strcmp(a, "some words") == 0 && GC_base(a) == a);
    char *b = GC_strndup("some words", 4), *c = GC_strndup("some", 40);
    REQUIRE(strcmp(b, "some") == 0 && strcmp(c, "some") == 0);
    REQUIRE(strcmp(GC_strdup(""), "") == 0 && strcmp(GC_strndup("x", 0), "") == 0);
    REQUIRE(GC_strdup(NULL) == NULL);
}

static void wide_strings_are_copied(void) {
    GC_INIT();
    wchar_t *(*copy)(const wchar_t *) = (wchar_t * (*)(const wchar_t *)) need_function("GC_wcsdup");
    REQUIRE(wcscmp(copy(L"some words"), L"some words") == 0);
}

static void aligned_objects_are_aligned(void) {
    GC_INIT();
    size_t n = 0;
    for (size_t align = 1; align <= 4096; align *= 2)
        for (size_t bytes = 1; bytes < 20000; bytes = bytes * 3 + 1) {
            char *p = GC_memalign(align, bytes);
            REQUIRE(p != NULL && (uintptr_t)p % align == 0);
            memset(p, 7, bytes);
            held[n++] = p;
        }
    GC_gcollect();
    for (size_t i = 0; i < n; i++) REQUIRE(GC_base(held[i]) != NULL && *(char *)held[i] == 7);
}

static void posix_memalign_says_what_was_wrong(void) {
    GC_INIT();
    void *p = NULL;
    REQUIRE_EQUAL(GC_posix_memalign(&p, 64, 100), 0);
    REQUIRE(p != NULL && (uintptr_t)p % 64 == 0);
    REQUIRE_EQUAL(GC_posix_memalign(&p, 24, 100), EINVAL); /* no power of 2 */
    REQUIRE_EQUAL(GC_posix_memalign(&p, 2, 100), EINVAL);  /* below a pointer's */
}

static void realloc_keeps_contents(void) {
    GC_INIT();
    unsigned char *p = GC_realloc(NULL, 10);
    REQUIRE(p != NULL);
    for (size_t i = 0; i < 10; i++) p[i] = (unsigned char)i;
    size_t bytes = 10;
    for (int step = 0; step < 14; step++) {
        size_t more = bytes * 2 + 3;
        p = GC_realloc(p, more);
        REQUIRE(p != NULL && GC_size(p) >= more);
        for (size_t i = 0; i < bytes; i++) REQUIRE(p[i] == (unsigned char)i);
        REQUIRE(is_zero(p + bytes, more - bytes));
        for (size_t i = bytes; i < more; i++) p[i] = (unsigned char)i;
        bytes = more;
    }
    for (; bytes > 10; bytes /= 3) {
        p = GC_realloc(p, bytes);
        for (size_t i = 0; i < bytes; i++) REQUIRE(p[i] == (unsigned char)i);
    }
    REQUIRE(GC_realloc(p, 0) == NULL);
}

static void *realloc_of_atomic(size_t bytes) {
    return GC_realloc(GC_malloc_atomic(16), bytes);
}
static void *realloc_of_plain(size_t bytes) {
    return GC_realloc(GC_malloc(16), bytes);
}
static void *realloc_of_uncollectable(size_t bytes) {
    return GC_realloc(GC_malloc_uncollectable(16), bytes);
}

static void realloc_keeps_the_kind(void) {
    GC_INIT();
    REQUIRE_FEW(children_kept(realloc_of_atomic, 500), MANY);
    REQUIRE_EQUAL(children_kept(realloc_of_plain, 500), MANY);
    REQUIRE_EQUAL(garbage_kept(realloc_of_uncollectable, 500), MANY);
}

static void freed_memory_is_used_again(void) {
    GC_INIT();
    GC_disable();
    size_t before = GC_get_heap_size();
    for (int i = 0; i < 100000; i++) {
        GC_free(GC_malloc(100));
        GC_free(GC_malloc_atomic(5000));
        GC_free(GC_malloc_uncollectable(200));
    }
    REQUIRE(GC_get_heap_size() < before + (64 << 20));
    GC_free(NULL);
}

static void too_much_is_null(void) {
    volatile size_t most = SIZE_MAX; /* the compiler warns of it */
    GC_INIT();
    GC_set_warn_proc(GC_ignore_warn_proc);
    REQUIRE(GC_malloc(most) == NULL);
    REQUIRE(GC_malloc_atomic(most - 100) == NULL);
    REQUIRE(GC_malloc((size_t)1 << 60) == NULL);
    REQUIRE(GC_malloc_uncollectable(most - 8) == NULL);
    REQUIRE(GC_malloc(100) != NULL);
}

static void malloc_many_gives_a_list_linked_through_first_words(void) {
    GC_INIT();
    size_t n = 0;
    static void *list;
    for (size_t bytes = 8; bytes <= 400; bytes += 56) {
        list = GC_malloc_many(bytes);
        REQUIRE(list != NULL);
        GC_gcollect(); /* the list holds its members */
        for (void *p = list; p != NULL; p = GC_NEXT(p), n++) {
            REQUIRE(GC_base(p) == p && GC_size(p) >= bytes);
            REQUIRE(is_zero((void **)p + 1, bytes - sizeof(void *)));
        }
    }
    REQUIRE(n > 8);
}

static void generic_malloc_many_gives_objects_of_the_kind(void) {
    GC_INIT();
    static void *list;
    GC_generic_malloc_many(32, GC_I_NORMAL, &list);
    REQUIRE(list != NULL);
    for (void *p = list; p != NULL; p = GC_NEXT(p)) {
        size_t bytes = 0;
        REQUIRE_EQUAL(GC_get_kind_and_size(p, &bytes), GC_I_NORMAL);
        REQUIRE_EQUAL(bytes, 32);
    }
    GC_generic_malloc_many(32, GC_I_PTRFREE, &list);
    REQUIRE(list != NULL);
    REQUIRE_EQUAL(GC_get_kind_and_size(list, NULL), GC_I_PTRFREE);
}

/* A program's own free lists, as gc_inline.h has them. */
static void *inline_lists[2][GC_TINY_FREELISTS];

static void *inline_plain(size_t bytes) {
    void *result;
    size_t words = bytes / 8;
    GC_MALLOC_WORDS(result, words, inline_lists[0]);
    return result;
}
static void *inline_atomic(size_t bytes) {
    void *result;
    size_t words = bytes / 8;
    GC_MALLOC_ATOMIC_WORDS(result, words, inline_lists[1]);
    return result;
}

static void inline_free_lists_allocate(void) {
    GC_INIT();
    for (size_t bytes = 16; bytes < 600; bytes += 16) {
        char *p = inline_plain(bytes);
        REQUIRE(is_zero(p, bytes) && GC_size(p) >= bytes);
    }
    /* The last word of an object without a byte to spare isn't traced: a large enough one. */
    REQUIRE_EQUAL(children_kept(inline_plain, 48), MANY);
    REQUIRE_FEW(children_kept(inline_atomic, 48), MANY);
    REQUIRE_FEW(garbage_kept(inline_plain, 48), MANY);
}

static void inline_conses_make_a_list(void) {
    GC_INIT();
    static void *list, *lists[GC_TINY_FREELISTS];
    for (uintptr_t i = 0; i < 300000; i++) {
        void *cell;
        GC_CONS(cell, i, NULL, lists);
        (void)cell;
    }
    for (uintptr_t i = 0; i < 100000; i++) {
        void **cell;
        void *length = (void *)(i << 1 | 1);
        GC_MALLOC_WORDS_KIND(cell, 3, lists, GC_I_NORMAL, (void)0);
        cell[0] = list;
        cell[1] = length;
        list = cell;
        GC_END_STUBBORN_CHANGE(cell);
    }
    uintptr_t i = 100000;
    for (void **cell = list; cell != NULL; cell = *cell)
        REQUIRE_EQUAL((uintptr_t)cell[1], --i << 1 | 1);
    REQUIRE_EQUAL(i, 0);
}

static void *kind_plain(size_t bytes) {
    return GC_malloc_kind(bytes, GC_I_NORMAL);
}
static void *kind_atomic(size_t bytes) {
    return GC_malloc_kind_global(bytes, GC_I_PTRFREE);
}
static void *generic_plain(size_t bytes) {
    return GC_generic_malloc(bytes, GC_I_NORMAL);
}
static void *generic_far(size_t bytes) {
    return GC_generic_malloc_ignore_off_page(bytes, GC_I_NORMAL);
}

static void allocation_by_kind_number(void) {
    GC_INIT();
    REQUIRE_EQUAL(children_kept(kind_plain, 40), MANY);
    REQUIRE_FEW(children_kept(kind_atomic, 40), MANY);
    REQUIRE_FEW(garbage_kept(kind_plain, 40), MANY);
    REQUIRE_EQUAL(children_kept(generic_plain, 40), MANY);
    REQUIRE_EQUAL(children_kept(generic_far, 9000), MANY);
    void *p = GC_malloc_uncollectable(40);
    int kind = GC_get_kind_and_size(p, NULL);
    void *q = GC_generic_or_special_malloc(100, kind);
    REQUIRE(q != NULL);
    REQUIRE_EQUAL(GC_get_kind_and_size(q, NULL), kind);
    REQUIRE(GC_generic_malloc_uncollectable(40, kind) != NULL);
    REQUIRE_EQUAL(GC_get_kind_and_size(GC_malloc(5), NULL), GC_I_NORMAL);
    REQUIRE_EQUAL(GC_get_kind_and_size(GC_malloc_atomic(5), NULL), GC_I_PTRFREE);
}

static void macros_allocate(void) {
    GC_INIT();
    struct pair {
        void *a, *b;
    };
    struct pair *p = GC_NEW(struct pair), *q = GC_NEW_ATOMIC(struct pair);
    struct pair *r = GC_NEW_UNCOLLECTABLE(struct pair);
    REQUIRE(p->a == NULL && q != NULL && r->b == NULL);
    REQUIRE(GC_MALLOC_IGNORE_OFF_PAGE(100000) != NULL);
    REQUIRE(GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(100000) != NULL);
    REQUIRE(GC_MALLOC_ATOMIC_UNCOLLECTABLE(10) != NULL);
    REQUIRE(GC_STRNDUP("abc", 2)[1] == 'b' && GC_STRDUP("abc")[2] == 'c');
    GC_FREE(r);
}

static void allocation_before_init_initialises(void) {
    void *p = GC_malloc(30);
    REQUIRE(p != NULL && GC_is_init_called());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(objects_are_zeroed_aligned_and_large_enough),
        CHILD_TEST(atomic_objects_are_aligned_and_large_enough),
        CHILD_TEST(an_object_of_no_bytes_is_an_object),
        CHILD_TEST(plain_objects_hold_others),
        CHILD_TEST(atomic_objects_hold_nothing),
        CHILD_TEST(garbage_goes),
        CHILD_TEST(uncollectable_objects_stay_until_freed),
        CHILD_TEST(stubborn_objects_are_plain_ones),
        CHILD_TEST(strings_are_copied),
        CHILD_TEST(wide_strings_are_copied),
        CHILD_TEST(aligned_objects_are_aligned),
        CHILD_TEST(posix_memalign_says_what_was_wrong),
        CHILD_TEST(realloc_keeps_contents),
        CHILD_TEST(realloc_keeps_the_kind),
        CHILD_TEST(freed_memory_is_used_again),
        CHILD_TEST(too_much_is_null),
        CHILD_TEST(malloc_many_gives_a_list_linked_through_first_words),
        CHILD_TEST(generic_malloc_many_gives_objects_of_the_kind),
        CHILD_TEST(inline_free_lists_allocate),
        CHILD_TEST(inline_conses_make_a_list),
        CHILD_TEST(allocation_by_kind_number),
        CHILD_TEST(macros_allocate),
        CHILD_TEST(allocation_before_init_initialises),
    };
    return cmocka_run_group_tests_name("boehm_alloc", tests, NULL, NULL);
}
