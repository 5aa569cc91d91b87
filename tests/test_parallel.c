/* Marking by several threads at once: the result is what one thread finds, however many mark,
 * whatever the shape of the graph, and if the mark stacks may not grow.  And threads that write to
 * old objects everywhere while others collect. */
#define _GNU_SOURCE
#include "child.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gc/api.h"
#include "gc/heap.h"
#include "support.h"
#include "threads_support.h"

/* ---- Graphs of every shape ------------------------------------------------------------------ */

struct node {
    struct node *left, *right;
    uint64_t number;
};

enum { LIST = 60000, DEPTH = 15, ARRAY = 40000, HASH = 16384, CELLS = 1500 };

static struct node *tree, *list, **array, **hash, *cells;

static struct node *new_node(uint64_t number) {
    struct node *n = gc_alloc(sizeof *n);
    REQUIRE(n != NULL);
    n->number = number;
    return n;
}

static struct node *make_tree(unsigned depth, uint64_t number) {
    struct node *n = new_node(number);
    if (depth > 0) {
        n->left = make_tree(depth - 1, 2 * number);
        n->right = make_tree(depth - 1, 2 * number + 1);
    }
    return n;
}

static uint64_t sum_of_tree(const struct node *n) {
    return n == NULL ? 0 : n->number + sum_of_tree(n->left) + sum_of_tree(n->right);
}

static __attribute__((noinline)) void make_graph(void) {
    tree = make_tree(DEPTH, 1);
    for (unsigned i = 0; i < LIST; i++) {
        struct node *n = new_node(i);
        n->left = list;
        list = n;
    }
    array = gc_alloc(ARRAY * sizeof *array);
    for (unsigned i = 0; i < ARRAY; i++) {
        array[i] = new_node(i);
        array[i]->left = array[i * 7919 % (i + 1)]; /* shared */
    }
    hash = gc_alloc(HASH * sizeof *hash);
    for (unsigned i = 0; i < 3 * HASH; i++) {
        struct node *n = new_node(i), **bucket = &hash[i * 2654435761u % HASH];
        n->left = *bucket;
        n->right = gc_alloc_leaf(i % 100 + 1);
        *bucket = n;
    }
    for (unsigned i = 0; i < CELLS; i++) {
        struct node **n = gc_alloc(2000 + i % 3 * 3000);
        n[0] = cells;
        n[i % 200 + 1] = new_node(i);
        cells = (struct node *)n;
    }
}

static void check_graph(void) {
    uint64_t sum = 0, size = (uint64_t)2 << DEPTH;
    REQUIRE_EQUAL(sum_of_tree(tree), size * (size - 1) / 2);
    for (const struct node *n = list; n != NULL; n = n->left) sum += n->number;
    REQUIRE_EQUAL(sum, (uint64_t)LIST * (LIST - 1) / 2);
    for (unsigned i = 0; i < ARRAY; i++) REQUIRE_EQUAL(array[i]->number, i);
    sum = 0;
    for (unsigned i = 0; i < HASH; i++)
        for (const struct node *n = hash[i]; n != NULL; n = n->left) {
            sum += n->number;
            REQUIRE(gc_size(n->right) > n->number % 100);
        }
    REQUIRE_EQUAL(sum, (uint64_t)3 * HASH * (3 * HASH - 1) / 2);
}

static void make_garbage(void) {
    for (unsigned i = 0; i < 30000; i++) memset(gc_alloc(100 + i % 900), 1, 100);
}

/* What lives is the same for all; the few objects that stale words on the stack may keep are no
 * 20 KB. */
static void marking_finds(unsigned workers) {
    static uint64_t live;
    make_graph();
    for (unsigned i = 0; i < 6; i++) {
        make_garbage();
        collect(GC_FULL);
        uint64_t now = statistics().live_bytes;
        if (live == 0) live = now;
        REQUIRE(now < live + 20000 && live < now + 20000);
        check_graph();
    }
    collect(GC_MINOR);
    check_graph();
    REQUIRE_EQUAL(statistics().workers, workers);
    fprintf(stderr, "live: %lu KB\n", (unsigned long)(live + 20480) >> 15 << 5);
}

static void one_marks(void) {
    marking_finds(0);
}
static void two_mark(void) {
    marking_finds(1);
}
static void four_mark(void) {
    marking_finds(3);
}
static void as_many_as_there_may_be_mark(void) {
    marking_finds(63);
}

/* No process may have another thread; root isn't held to that. */
static void marking_goes_on_without_more_threads(void) {
    struct rlimit none = {1, 1};
    if (getuid() == 0) {
        REQUIRE_EQUAL(setgid(65534), 0);
        REQUIRE_EQUAL(setuid(65534), 0);
    }
    REQUIRE_EQUAL(setrlimit(RLIMIT_NPROC, &none), 0);
    marking_finds(0);
}

/* The numbers that are printed above. */
static void all_find_the_same(void) {
    static const struct {
        child_function *function;
        const char *environment[3];
    } runs[] = {{one_marks, {"CAIRN_WORKERS=1"}}, {two_mark, {"CAIRN_WORKERS=2"}},
        {four_mark, {"CAIRN_WORKERS=4"}}, {as_many_as_there_may_be_mark, {"CAIRN_WORKERS=64"}},
        {four_mark, {"CAIRN_WORKERS=4", "CAIRN_MARK_STACK_LIMIT=4K"}},
        {one_marks, {"CAIRN_WORKERS=1", "CAIRN_MARK_STACK_LIMIT=4K"}}};
    static struct child_result first, result;
    for (unsigned i = 0; i < sizeof runs / sizeof *runs; i++) {
        child_run(i == 0 ? &first : &result, runs[i].function, runs[i].environment);
        REQUIRE_EQUAL(first.status, 0);
        if (i == 0) continue;
        fprintf(stderr, "%s: %s", runs[i].environment[0], result.output);
        REQUIRE_EQUAL(result.status, 0);
        REQUIRE(strcmp(first.output, result.output) == 0);
    }
}

/* ---- Writing to old objects everywhere ------------------------------------------------------ */

enum { OLD = 16 << 20, SLOT = 1024, SLOTS = OLD / SLOT, WRITERS = 4 };

/* An old object; each writer has words of its own in it, which refer to young objects. */
struct slot {
    uint64_t *of[WRITERS];
    uint64_t stamp[WRITERS];
};

static struct slot *old[SLOTS];
static int shall_end;
static unsigned rounds = 20000;

static void *write_everywhere(void *number) {
    uintptr_t mine = (uintptr_t)number;
    uint64_t state = mine + 1;
    for (unsigned i = 0; i < rounds; i++) {
        struct slot *slot = old[next_random(&state) % SLOTS];
        uint64_t *p = slot->of[mine], stamp = slot->stamp[mine];
        if (p != NULL)
            REQUIRE(p[0] == (uintptr_t)slot << 16 && p[3] == stamp);
        else
            REQUIRE_EQUAL(stamp, 0);
        p = gc_alloc(32);
        p[0] = (uintptr_t)slot << 16;
        p[3] = stamp + 1;
        slot->of[mine] = p;
        slot->stamp[mine] = stamp + 1;
    }
    return NULL;
}

static void *collect_minor(void *unused) {
    while (!look_at(&shall_end)) {
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        memset(gc_alloc(200), 1, 200);
        nanosleep(&(struct timespec){0, 200000}, NULL); /* or the writers would hardly run */
    }
    return unused;
}

static void writers_and_collectors(void) {
    pthread_t writers[WRITERS], collectors[2];
    for (unsigned i = 0; i < SLOTS; i++) old[i] = gc_alloc(SLOT);
    settle_old();
    for (uintptr_t i = 0; i < WRITERS; i++) writers[i] = start_thread(write_everywhere, (void *)i);
    for (unsigned i = 0; i < 2; i++) collectors[i] = start_thread(collect_minor, NULL);
    for (unsigned i = 0; i < WRITERS; i++) end_thread(writers[i]);
    raise_flag(&shall_end, 1);
    for (unsigned i = 0; i < 2; i++) end_thread(collectors[i]);
    uint64_t sum = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        for (unsigned w = 0; w < WRITERS; w++) {
            const uint64_t *p = old[i]->of[w];
            sum += old[i]->stamp[w];
            if (p != NULL) REQUIRE(gc_base(p) == p && p[3] == old[i]->stamp[w]);
        }
    REQUIRE_EQUAL(sum, (uint64_t)rounds * WRITERS);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void threads_write_to_old_objects_everywhere(void) {
    writers_and_collectors();
}

static void threads_write_while_all_is_verified(void) {
    rounds = 1500;
    writers_and_collectors();
}

/* A handler of the program's own, put above the library's time and again, which passes on what it
 * doesn't know. */
static struct sigaction below;
static int own_faults;
static char *own_page;

static void on_fault(int number, siginfo_t *info, void *context) {
    if ((char *)info->si_addr == own_page) {
        own_faults++;
        mprotect(own_page, 4096, PROT_READ | PROT_WRITE);
        return;
    }
    below.sa_sigaction(number, info, context);
}

static void *install_often(void *unused) {
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK}, current;
    action.sa_sigaction = on_fault;
    while (!look_at(&shall_end) || own_faults <= 10) {
        REQUIRE_EQUAL(sigaction(SIGSEGV, NULL, &current), 0);
        if (current.sa_sigaction != on_fault) {
            below = current;
            REQUIRE_EQUAL(sigaction(SIGSEGV, &action, NULL), 0);
        }
        REQUIRE_EQUAL(mprotect(own_page, 4096, PROT_NONE), 0);
        *(volatile char *)own_page = 1;
        usleep(200);
    }
    return unused;
}

static void a_fault_handler_above_ours_is_served(void) {
    rounds = 6000;
    own_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    gc_alloc(16);
    pthread_t installer = start_thread(install_often, NULL);
    writers_and_collectors();
    end_thread(installer);
    REQUIRE(own_faults > 10);
}

/* ---- The remembered set --------------------------------------------------------------------- */

enum { KEEPERS = 40000, SHARED_ROUNDS = 30, STORES = 3000 };

/* A keeper in every fourth place of many blocks, which stay open as the rest is allocated into again
 * and again: in each minor collection several threads search them.  Each keeper refers to a chain of
 * nodes made in different rounds. */
static void open_blocks_are_searched_by_all(void) {
    struct node **keepers = gc_alloc(KEEPERS * sizeof *keepers);
    static uint64_t numbers[KEEPERS];
    uint64_t random = 1;
    unsigned shared = 0;
    for (unsigned i = 0; i < KEEPERS; i++) {
        keepers[i] = new_node(i);
        for (unsigned k = 0; k < 3; k++) new_node(0);
    }
    collect(GC_FULL);
    for (unsigned round = 1; round <= SHARED_ROUNDS; round++) {
        for (unsigned i = 0; i < STORES; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            unsigned k = random >> 33 & 0x7fffffff;
            struct node *keeper = keepers[k % KEEPERS];
            struct node *fresh = new_node(round * STORES + i);
            fresh->left = keeper->right;
            fresh->right = new_node(fresh->number);
            keeper->right = fresh;
            numbers[k % KEEPERS] = fresh->number;
            for (unsigned g = 0; g < 20; g++) new_node(g);
        }
        collect(GC_MINOR);
        shared += gci_default_heap()->shared_ns > 0;
        for (unsigned i = 0; i < KEEPERS; i++) {
            uint64_t expected = numbers[i];
            for (const struct node *n = keepers[i]->right; n != NULL; n = n->left) {
                REQUIRE(n->number == n->right->number && n->number <= expected);
                REQUIRE(n != keepers[i]->right || n->number == expected);
                expected = n->number;
            }
        }
    }
    if (statistics().workers > 0)
        REQUIRE(shared >= SHARED_ROUNDS / 2);
    else
        REQUIRE_EQUAL(shared, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(all_find_the_same),
        CHILD_TEST(marking_goes_on_without_more_threads, "CAIRN_WORKERS=4"),
        CHILD_TEST(open_blocks_are_searched_by_all, "CAIRN_WORKERS=2"),
        CHILD_TEST(open_blocks_are_searched_by_all, "CAIRN_WORKERS=4", "CAIRN_VERIFY=1"),
        CHILD_TEST(open_blocks_are_searched_by_all, "CAIRN_WORKERS=1"),
        CHILD_TEST(open_blocks_are_searched_by_all, "CAIRN_WORKERS=3", "CAIRN_MARK_STACK_LIMIT=8K",
            "CAIRN_VERIFY=1"),
        CHILD_TEST(threads_write_to_old_objects_everywhere, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(threads_write_to_old_objects_everywhere, "CAIRN_BARRIER=uffd"),
        CHILD_TEST(threads_write_to_old_objects_everywhere, "CAIRN_BARRIER=cross"),
        CHILD_TEST(threads_write_while_all_is_verified, "CAIRN_BARRIER=mprotect", "CAIRN_VERIFY=1",
            "CAIRN_POISON=1"),
        CHILD_TEST(threads_write_while_all_is_verified, "CAIRN_BARRIER=uffd", "CAIRN_VERIFY=1",
            "CAIRN_POISON=1"),
        CHILD_TEST(threads_write_while_all_is_verified, "CAIRN_BARRIER=cross", "CAIRN_VERIFY=1",
            "CAIRN_POISON=1"),
        CHILD_TEST(a_fault_handler_above_ours_is_served, "CAIRN_BARRIER=mprotect"),
    };
    return cmocka_run_group_tests_name("parallel", tests, NULL, NULL);
}
