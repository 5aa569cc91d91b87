/* When something runs out: the heap's limit and its handler, the address space, the mark stack,
 * mappings, and userfaultfd where a sandbox refuses it. Also that memory which is no longer needed
 * goes back to the system. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "refuse.h"
#include "support.h"

/* ---- The heap limit ---------------------------------------------------------------------------
 */

struct link {
    struct link *next;
    char rest[1000];
};

static struct link *volatile list;
static unsigned calls;

/* Puts objects on the list until there is no more memory; returns how many bytes. */
static size_t fill_heap(size_t size) {
    size_t bytes = 0;
    errno = 0;
    for (struct link *l; (l = gc_alloc(size)) != NULL; list = l) {
        l->next = list;
        bytes += size;
        REQUIRE(bytes < (size_t)1 << 30);
    }
    REQUIRE_EQUAL(errno, ENOMEM);
    return bytes;
}

static void the_heap_limit_is_kept(void) {
    static const size_t sizes[] = {sizeof(struct link), 64, 5000, 100000, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = fill_heap(sizes[i]);
        printf("%zu bytes at a time: %zu KB of 32 MB\n", sizes[i], bytes >> 10);
        REQUIRE(bytes > 24 << 20 && bytes <= 32 << 20);
        gc_stats stats = statistics();
        REQUIRE(stats.heap_bytes + stats.free_bytes <= 32 << 20);
        REQUIRE(gc_alloc(8 << 20) == NULL);
        REQUIRE_EQUAL(gc_verify(), 0);
        list = NULL;
        clear_stack();
        for (unsigned n = 0; n < 100000; n++) REQUIRE(gc_alloc(1000) != NULL);
    }
}

static int refuse(size_t size, void *data) {
    REQUIRE(size == sizeof(struct link) && data == &calls);
    calls++;
    return 0;
}

static int drop_the_list(size_t size, void *data) {
    REQUIRE(size == sizeof(struct link) && data == &calls);
    calls++;
    list = NULL;
    return 1;
}

static void the_handler_is_asked_at_the_limit(void) {
    gc_set_oom_handler(refuse, &calls);
    fill_heap(sizeof(struct link));
    REQUIRE_EQUAL(calls, 1);
    need_optimised_code();
    list = NULL;
    gc_set_oom_handler(drop_the_list, &calls);
    calls = 0;
    for (unsigned n = 0; n < 200000; n++) {
        struct link *l = gc_alloc(sizeof *l);
        REQUIRE(l != NULL);
        l->next = list;
        list = l;
    }
    REQUIRE(calls >= 3 && calls < 20);
    gc_set_oom_handler(NULL, NULL);
    list = NULL;
    fill_heap(sizeof(struct link));
}

static void at_the_limit_and_disabled_allocation_fails(void) {
    gc_disable();
    size_t count = 0;
    while (gc_alloc(1000) != NULL) count++;
    REQUIRE_EQUAL(errno, ENOMEM);
    REQUIRE(count > 20000);
    gc_enable();
    REQUIRE(gc_alloc(1000) != NULL);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Address space and sandboxes ---------------------------------------------------------------
 */

static void limit_address_space(size_t more) {
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    size_t bytes = pages * 4096 + more;
    const struct rlimit limit = {bytes, bytes};
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
}

static void a_small_address_space_gives_a_small_heap(void) {
#ifdef GC_SANITIZE
    child_skip("the sanitizer needs address space");
#endif
    limit_address_space((size_t)512 << 20);
    REQUIRE_EQUAL(gc_init(NULL), 0);
    size_t bytes = fill_heap(sizeof(struct link));
    REQUIRE(bytes > 32 << 20);
    list = NULL;
    clear_stack();
    REQUIRE(gc_alloc(1 << 20) != NULL);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void without_address_space_there_is_no_heap(void) {
#ifdef GC_SANITIZE
    child_skip("the sanitizer needs address space");
#endif
    limit_address_space((size_t)4 << 20);
    REQUIRE_EQUAL(gc_init(NULL), ENOMEM);
    errno = 0;
    REQUIRE(gc_alloc(16) == NULL);
    REQUIRE_EQUAL(errno, ENOMEM);
    REQUIRE_EQUAL(gc_collect(GC_FULL), ENOMEM);
}

/* As some containers do. */
static void forbid_userfaultfd(void) {
    if (!refuse_system_call(SYS_userfaultfd, -1, EPERM)) child_skip("no system call filters here");
    REQUIRE(syscall(SYS_userfaultfd, 0) < 0 && errno == EPERM);
}

static void work_a_little(void) {
    static struct link *table[1000];
    for (unsigned i = 0; i < 300000; i++) {
        struct link *l = gc_alloc(64);
        l->next = table[i % 1000];
        if (i % 16 == 0) l->next = NULL;
        table[i % 1000] = l;
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_refused_userfaultfd_leaves_no_barrier(void) {
    forbid_userfaultfd();
    REQUIRE_EQUAL(gc_init(NULL), 0);
    REQUIRE_EQUAL(statistics().barrier, GC_BARRIER_NONE);
    work_a_little();
}

static void a_refused_userfaultfd_leaves_mprotect_by_promise(void) {
    forbid_userfaultfd();
    REQUIRE_EQUAL(gc_init(NULL), 0);
    REQUIRE_EQUAL(statistics().barrier, GC_BARRIER_MPROTECT);
    work_a_little();
}

/* ---- Mappings ----------------------------------------------------------------------------------
 */

static size_t max_map_count(void) {
    size_t count = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    REQUIRE(file != NULL && fscanf(file, "%zu", &count) == 1);
    fclose(file);
    return count;
}

/* Uses up mappings until LEFT of them are left: every second page of a region is made inaccessible.
 */
static void use_up_mappings(size_t left) {
    size_t count = max_map_count() - left;
    if (count > 1000000) child_skip("too many mappings allowed");
    char *region =
        mmap(NULL, count * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(region != MAP_FAILED);
    for (size_t page = 1; page < count; page += 2)
        if (mprotect(region + page * 4096, 4096, PROT_NONE) != 0) break;
}

enum { PAGES = 12000 };
static char *pages[PAGES];

static __attribute__((noinline)) void make_pages(void) {
    for (size_t i = 0; i < PAGES; i++) pages[i] = gc_alloc_aligned(4096, 4096);
}

/* Dirties every second page of a protected heap, with the only references to young objects. */
static void dirty_alternate_pages(unsigned rounds) {
    static uintptr_t hidden[PAGES];
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = round % 2; i < PAGES; i += 2) {
            uintptr_t *young = gc_alloc_leaf(32);
            young[0] = i + round;
            hidden[i] = hide(young);
            *(uintptr_t **)pages[i] = young;
        }
        clear_stack();
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        for (size_t i = round % 2; i < PAGES; i += 2) {
            uintptr_t *young = *(uintptr_t **)pages[i];
            REQUIRE(young == reveal(hidden[i]) && young[0] == i + round);
        }
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void many_mappings_before_the_heap_do_no_harm(void) {
    use_up_mappings(3000);
    make_pages();
    settle_old();
    dirty_alternate_pages(6);
}

static void many_mappings_after_the_heap_do_no_harm(void) {
    make_pages();
    settle_old();
    use_up_mappings(200);
    dirty_alternate_pages(6);
}

/* ---- The mark stack ----------------------------------------------------------------------------
 */

struct tree {
    struct tree *child[2];
    uintptr_t number;
    uintptr_t pad;
};

static struct tree *make_tree(unsigned depth, uintptr_t number) {
    struct tree *t = gc_alloc(sizeof *t);
    t->number = number;
    for (unsigned i = 0; depth > 0 && i < 2; i++)
        t->child[i] = make_tree(depth - 1, 2 * number + i);
    return t;
}

static size_t check_tree(const struct tree *t, uintptr_t number) {
    REQUIRE(t->number == number && gc_base(t) == t);
    size_t count = 1;
    for (unsigned i = 0; i < 2; i++)
        if (t->child[i] != NULL) count += check_tree(t->child[i], 2 * number + i);
    return count;
}

static void a_small_mark_stack_marks_everything(void) {
    static struct tree *tree;
    static void **wide;
    enum { WIDE = 300000, DEEP = 300000 };
    tree = make_tree(16, 1);
    wide = gc_alloc(WIDE * sizeof *wide);
    for (size_t i = 0; i < WIDE; i++) {
        void **holder = gc_alloc(16);
        wide[i] = holder;
        holder[0] = gc_alloc(16);
        *(uintptr_t *)holder[0] = i;
    }
    for (size_t i = 0; i < DEEP; i++) {
        struct link *l = gc_alloc(16);
        l->next = list;
        list = l;
    }
    collect(GC_FULL);
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE_EQUAL(check_tree(tree, 1), (1 << 17) - 1);
    for (size_t i = 0; i < WIDE; i++) {
        void **holder = wide[i];
        REQUIRE(gc_base(holder) == holder && gc_base(holder[0]) == holder[0]);
        REQUIRE_EQUAL(*(uintptr_t *)holder[0], i);
    }
    size_t deep = 0;
    for (struct link *l = list; l != NULL; l = l->next, deep++) REQUIRE(gc_base(l) == l);
    REQUIRE_EQUAL(deep, DEEP);
}

/* ---- Giving memory back ------------------------------------------------------------------------
 */

static size_t resident_bytes(void) {
    size_t size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL && fscanf(file, "%zu %zu", &size, &resident) == 2);
    fclose(file);
    return resident * 4096;
}

/* In a frame of its own, so that no slot of one that lives on holds a link. */
static __attribute__((noinline)) void make_long_list(void) {
    for (size_t i = 0; i < 150000; i++) {
        struct link *l = gc_alloc(i % 1000 == 0 ? 300000 : sizeof *l);
        memset(l->rest, 1, sizeof l->rest);
        l->next = list;
        list = l;
    }
}

static void memory_goes_back_to_the_system(void) {
    need_optimised_code();
    make_long_list();
    clear_stack();
    collect(GC_FULL);
    size_t full = resident_bytes();
    list = NULL;
    for (unsigned i = 0; i < 400; i++) collect(i % 10 == 0 ? GC_FULL : GC_MINOR);
    size_t empty = resident_bytes();
    printf("resident: %zu MB, after dropping it %zu MB; released %zu MB\n", full >> 20, empty >> 20,
        (size_t)statistics().released_bytes >> 20);
    REQUIRE(statistics().released_bytes > 50 << 20);
    REQUIRE(full > 140 << 20 && empty < full / 2);
    for (size_t i = 0; i < 100000; i++) {
        char *p = gc_alloc(1000);
        REQUIRE(all_bytes(p, 0, 1000));
        p[999] = 1;
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(the_heap_limit_is_kept, "CAIRN_HEAP_LIMIT=32M"),
        CHILD_TEST(the_heap_limit_is_kept, "CAIRN_HEAP_LIMIT=32M", "CAIRN_LARGE_FIT=worst",
            "CAIRN_BARRIER=none"),
        CHILD_TEST(the_handler_is_asked_at_the_limit, "CAIRN_HEAP_LIMIT=32M"),
        CHILD_TEST(at_the_limit_and_disabled_allocation_fails, "CAIRN_HEAP_LIMIT=32M"),
        CHILD_TEST(a_small_address_space_gives_a_small_heap),
        CHILD_TEST(without_address_space_there_is_no_heap),
        CHILD_SAYS(a_refused_userfaultfd_leaves_no_barrier, "userfaultfd failed (EPERM)",
            "CAIRN_BARRIER=uffd"),
        CHILD_SAYS(
            a_refused_userfaultfd_leaves_no_barrier, "userfaultfd failed (EPERM)", "CAIRN_LOG=1"),
        CHILD_TEST(a_refused_userfaultfd_leaves_no_barrier),
        CHILD_TEST(a_refused_userfaultfd_leaves_mprotect_by_promise, "CAIRN_PREPARES_WRITES=1"),
        CHILD_SAYS(
            a_refused_userfaultfd_leaves_no_barrier, "does not work here", "CAIRN_BARRIER=cross"),
        CHILD_TEST(many_mappings_before_the_heap_do_no_harm, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(many_mappings_after_the_heap_do_no_harm, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(a_small_mark_stack_marks_everything, "CAIRN_MARK_STACK_LIMIT=4K"),
        CHILD_TEST(a_small_mark_stack_marks_everything, "CAIRN_MARK_STACK_LIMIT=4K",
            "CAIRN_BARRIER=none", "CAIRN_NURSERY=1M"),
        CHILD_TEST(memory_goes_back_to_the_system),
        CHILD_TEST(memory_goes_back_to_the_system, "CAIRN_HUGE_PAGES=0", "CAIRN_BARRIER=mprotect"),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
