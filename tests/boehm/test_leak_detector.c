/* leak_detector.h turns malloc() and its like into the library's functions. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "leak_detector.h"
#include "support.h"

static void memory_is_the_collectors(void) {
    GC_INIT();
    char *p = malloc(40), *q = calloc(4, 30), *r = strdup("some words"), *s = strndup("words", 2);
    REQUIRE(GC_base(p) != NULL && GC_base(q) != NULL && GC_base(r) != NULL);
    REQUIRE(strcmp(r, "some words") == 0 && strcmp(s, "wo") == 0);
    for (int i = 0; i < 120; i++) REQUIRE(q[i] == 0);
    strcpy(p, "is kept");
    p = realloc(p, 4000);
    REQUIRE(strcmp(p, "is kept") == 0);
    free(p);
    free(q);
    free(r);
    free(s);
}

static void lose(void *p) {
    (void)p;
    for (int i = 0; i < 100; i++) memset(malloc(33), 1, 33);
}

static void what_is_not_freed_is_told(void) {
    GC_set_find_leak(1);
    GC_INIT();
    far_below(lose, NULL);
    wipe_stack();
    CHECK_LEAKS();
}

static void free_all(void) {
    GC_set_find_leak(1);
    GC_INIT();
    for (int i = 0; i < 100; i++) free(malloc((size_t)i * 10));
    CHECK_LEAKS();
}

static void what_is_freed_is_not(void) {
    REQUIRE(strstr(output_of(free_all), "eak") == NULL);
}

static void leaks_at_the_end(void) {
    GC_set_find_leak(1);
    GC_INIT();
    far_below(lose, NULL);
    wipe_stack();
    exit(0); /* the library looks once more */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(memory_is_the_collectors),
        CHILD_SAYS(what_is_not_freed_is_told, "test_leak_detector.c:"),
        CHILD_TEST(what_is_freed_is_not),
        CHILD_SAYS(leaks_at_the_end, "test_leak_detector.c:"),
    };
    return cmocka_run_group_tests_name("boehm_leak_detector", tests, NULL, NULL);
}
