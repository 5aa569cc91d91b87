/* Fresh memory is touched ahead by a thread of the collector's: what comes next is there, little more
 * is, and nothing without such a thread, near the limit, or if the system can't. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "gc/arena.h"
#include "gc/heap.h"
#include "refuse.h"
#include "runtime/vm.h"
#include "support.h"

enum { STEPS = 40, STEP = 16, NODES = GCI_BLOCK_BYTES / 32, FAR = 64, LOOKS = 200 };

struct node {
    struct node *next;
    uint64_t number, rest[2];
};

static struct node *list;
static uint64_t made;

static void grow(unsigned blocks) {
    for (unsigned i = 0; i < blocks * NODES; i++) {
        struct node *n = gc_alloc(sizeof *n);
        if (n == NULL) return;
        n->next = list;
        n->number = ++made;
        list = n;
    }
}

static void check_list(void) {
    uint64_t expected = made;
    for (const struct node *n = list; n != NULL; n = n->next) {
        REQUIRE_EQUAL(n->number, expected);
        REQUIRE(n->rest[0] == 0 && n->rest[1] == 0);
        expected--;
    }
    REQUIRE_EQUAL(expected, 0);
}

/* Is all of the block at OFFSET from the frontier in memory, and what describes it? */
static bool is_there(uint32_t offset) {
    const struct gci_arena *arena = &gci_default_heap()->arena;
    uint32_t block = arena->frontier + offset;
    unsigned char pages[GCI_BLOCK_BYTES / 4096], side = 1;
    if (((size_t)block + 1) << GCI_BLOCK_SHIFT > arena->committed) return false;
    REQUIRE_EQUAL(mincore((void *)gci_block_address(arena, block), GCI_BLOCK_BYTES, pages), 0);
    if (gci_arena_side_fills_pages())
        REQUIRE_EQUAL(
            mincore(arena->side + gci_block_granule(block), GCI_BLOCK_GRANULES, &side), 0);
    bool all = side & 1;
    for (unsigned i = 0; i < GCI_BLOCK_BYTES >> arena->page_shift; i++) all = all && pages[i] & 1;
    return all;
}

static bool comes(void) {
    for (unsigned i = 0; i < LOOKS; i++) {
        if (is_there(0)) return true;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return false;
}

/* A heap of so many objects that there is a crew, if there may be: the second collection makes it. */
static void begin(void) {
    grow(256);
    for (unsigned i = 0; i < 2; i++) REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
}

/* How often of STEPS times the next block came, while the heap grew. */
static unsigned times_there(void) {
    unsigned times = 0;
    begin();
    for (unsigned i = 0; i < STEPS; i++) {
        grow(STEP);
        times += statistics().workers > 0 ? comes() : is_there(0);
        REQUIRE(!is_there(FAR));
    }
    check_list();
    return times;
}

static void need_another_processor(void) {
    REQUIRE_EQUAL(gc_init(NULL), 0);
    if (gci_default_heap()->world.cpus < 2) child_skip("there is one processor");
}

static void need_populating(void) {
    void *page =
        mmap(NULL, gci_page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(page != MAP_FAILED);
    if (gci_vm_populate(page, gci_page_size()) != 0) child_skip("the kernel can't populate memory");
    munmap(page, gci_page_size());
}

static void what_comes_next_is_touched(void) {
    need_another_processor();
    need_populating();
    REQUIRE(times_there() > STEPS * 3 / 4);
}

/* Where the kernel uses huge pages unasked a fault brings the next blocks, too. */
static void need_small_pages(void) {
    char text[64] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (file == NULL) return;
    bool always = fgets(text, sizeof text, file) != NULL && strstr(text, "[always]") != NULL;
    fclose(file);
    if (always) child_skip("the kernel uses huge pages everywhere");
}

static void nothing_is_touched_without_a_thread(void) {
    need_small_pages();
    /* The frontier may be where memory was given back. */
    REQUIRE(times_there() < STEPS / 4);
    REQUIRE_EQUAL(statistics().workers, 0);
}

static void nothing_is_touched_beyond_the_limit(void) {
    grow(4096);
    const struct gci_arena *arena = &gci_default_heap()->arena;
    REQUIRE(made < 4096 * NODES);
    uint32_t touched = 0;
    for (uint32_t offset = 0; offset < FAR; offset++) touched += is_there(offset);
    REQUIRE(arena->resident_blocks + touched <= arena->block_limit);
    check_list();
}

/* The advice isn't known before Linux 5.14.  The collector's threads are made later, and inherit this.
 */
static void it_goes_on_where_the_system_cannot(void) {
    if (!refuse_system_call(SYS_madvise, MADV_POPULATE_WRITE, EINVAL))
        child_skip("no system call filters here");
    need_another_processor();
    begin();
    const struct gci_ahead *ahead = &gci_default_heap()->ahead;
    for (unsigned i = 0; i < LOOKS && !__atomic_load_n(&ahead->off, __ATOMIC_RELAXED); i++) {
        grow(STEP);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    REQUIRE(__atomic_load_n(&ahead->off, __ATOMIC_RELAXED));
    check_list();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(what_comes_next_is_touched, "CAIRN_WORKERS=2", "CAIRN_HUGE_PAGES=0"),
        CHILD_TEST(what_comes_next_is_touched, "CAIRN_WORKERS=4", "CAIRN_HUGE_PAGES=0",
            "CAIRN_BARRIER=mprotect", "CAIRN_PREPARES_WRITES=1", "CAIRN_VERIFY=1"),
        CHILD_TEST(nothing_is_touched_without_a_thread, "CAIRN_WORKERS=1", "CAIRN_HUGE_PAGES=0"),
        CHILD_TEST(nothing_is_touched_beyond_the_limit, "CAIRN_WORKERS=2", "CAIRN_HUGE_PAGES=0",
            "CAIRN_HEAP_LIMIT=32M"),
        CHILD_SAYS(it_goes_on_where_the_system_cannot, "can't be touched ahead (error 22)",
            "CAIRN_WORKERS=2", "CAIRN_HUGE_PAGES=0", "CAIRN_LOG=1"),
    };
    return cmocka_run_group_tests_name("ahead", tests, NULL, NULL);
}
