/* Stale pointers: with protect_moved, the use of what an object was moved out of faults at once,
 * and the message says what it was. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "fewer.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

struct node {
    struct node *next;
    uint64_t number;
    struct node *other;
};
GC_TYPE(struct node, next, other);

static void **slots; /* precise roots: what they refer to moves */

enum { SLOTS_COUNT = 16384 };

static void start(void) {
    slots = mmap(NULL, SLOTS_COUNT * sizeof *slots, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(slots != MAP_FAILED);
    REQUIRE_EQUAL(gc_add_slots(slots, SLOTS_COUNT), 0);
}

/* Blocks full of nodes, each of them with garbage beside it; some in the middle is where no stale
 * word leads to. */
static __attribute__((noinline)) void fill(void) {
    for (unsigned i = 0; i < SLOTS_COUNT; i++) {
        struct node *p = gc_new(struct node);
        REQUIRE(p != NULL && gc_new(struct node) != NULL);
        p->number = i;
        slots[i] = p;
    }
}

static __attribute__((noinline)) uintptr_t where(unsigned i) {
    return hide(slots[i]);
}

/* Their layout is told by what has become inaccessible. */
static const gc_type *by_tag_type;

static const gc_type *by_tag(uintptr_t tag) {
    (void)tag;
    return by_tag_type;
}

static __attribute__((noinline)) void fill_by_tag(void) {
    static const uint32_t next[] = {8};
    by_tag_type = gc_type_register(
        &(gc_type_desc){.name = "told", .size = 24, .pointers = next, .pointer_count = 1});
    REQUIRE_EQUAL(gc_set_layout_hook(by_tag), 0);
    for (unsigned i = 0; i < SLOTS_COUNT; i++) {
        slots[i] = gc_alloc_with_tag(5, 24);
        REQUIRE(slots[i] != NULL && gc_alloc_with_tag(5, 24) != NULL);
    }
}

/* The hidden address that the middle one had. */
static uintptr_t move_all(void) {
    start();
    fill();
    uintptr_t before = where(SLOTS_COUNT / 2);
    clear_stack();
    collect(GC_MINOR);
    REQUIRE(where(SLOTS_COUNT / 2) != before);
    REQUIRE_EQUAL(gc_verify(), 0);
    return before;
}

/* ---- Faults --------------------------------------------------------------------------------- */

static void reading_through_a_stale_pointer_aborts(void) {
    const struct node *stale = reveal(move_all());
    printf("%llu\n", (unsigned long long)*(volatile const uint64_t *)&stale->number);
}

static void writing_through_a_stale_pointer_aborts(void) {
    struct node *stale = reveal(move_all());
    *(struct node *volatile *)&stale->other = NULL;
}

static void using_what_has_died_aborts(void) {
    const struct node *stale = (struct node *)reveal(move_all()) + 1; /* garbage lies behind each */
    stale = (const struct node *)(((uintptr_t)stale + 15) & ~(uintptr_t)15);
    printf("%llu\n", (unsigned long long)*(volatile const uint64_t *)&stale->number);
}

static uintptr_t move_all_by_tag(void) {
    start();
    fill_by_tag();
    uintptr_t before = where(SLOTS_COUNT / 2);
    clear_stack();
    collect(GC_MINOR);
    REQUIRE(where(SLOTS_COUNT / 2) != before);
    return before;
}

static void using_what_moved_by_tag_aborts(void) {
    const uint64_t *stale = reveal(move_all_by_tag());
    printf("%llu\n", (unsigned long long)*(volatile const uint64_t *)&stale[2]);
}

static void using_what_died_by_tag_aborts(void) {
    const uint64_t *stale = (uint64_t *)reveal(move_all_by_tag()) + 4; /* garbage beside it */
    printf("%llu\n", (unsigned long long)*(volatile const uint64_t *)&stale[2]);
}

static void the_message_says_where_it_is_now(void) {
    struct node *stale = reveal(move_all());
    fprintf(stderr,
        "expected: an object of type struct node that was moved from %p to %p in "
        "collection 1\n",
        (void *)stale, slots[SLOTS_COUNT / 2]);
    fflush(stderr);
    ((volatile struct node *)stale)->number = 1;
}

static void *use(void *p) {
    ((volatile struct node *)p)->number = 1;
    return NULL;
}

static void another_threads_use_aborts(void) {
    void *stale = reveal(move_all());
    end_thread(start_thread(use, stale));
}

static void on_segv(int number) {
    (void)number;
    static const char text[] = "the program's handler\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(1);
    _exit(0);
}

static void other_faults_go_to_the_programs_handler(void) {
    signal(SIGSEGV, on_segv);
    move_all();
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)page = 1;
}

static void a_stale_pointer_aborts_over_the_programs_handler(void) {
    start();
    signal(SIGSEGV, on_segv);
    use(reveal(move_all()));
}

static void a_child_inherits_the_protection(void) {
    void *stale = reveal(move_all());
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        use(stale);
        _exit(0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- How long ------------------------------------------------------------------------------- */

/* Can the word there be read?  The kernel tries, which doesn't fault. */
static bool is_accessible(uintptr_t hidden) {
    int ends[2];
    REQUIRE_EQUAL(pipe(ends), 0);
    ssize_t n = write(ends[1], reveal(hidden), 8);
    REQUIRE(n == 8 || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return n == 8;
}

static void it_lasts_as_many_collections_as_asked(void) {
    uintptr_t before = move_all();
    const char *text = getenv("CAIRN_PROTECT_MOVED");
    REQUIRE(text != NULL);
    for (int i = 0; i < atoi(text); i++) {
        REQUIRE(!is_accessible(before));
        collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
    REQUIRE(is_accessible(before));
    fill(); /* in that memory, perhaps */
    collect(GC_MINOR);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void without_the_option_all_is_accessible(void) {
    REQUIRE(is_accessible(move_all()));
}

/* ---- When memory is short ------------------------------------------------------------------- */

/* 16 MB may be held, and 2 MB are moved in each round: what is protected must go. */
static void it_gives_way_when_memory_is_short(void) {
    start();
    for (int round = 0; round < 40; round++) {
        fill();
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        void *large = gc_alloc(6 << 20), *larger = gc_alloc_leaf(1 << 20);
        REQUIRE(large != NULL && larger != NULL);
        memset(large, 0, 6 << 20);
        REQUIRE_EQUAL(gc_verify(), 0);
        gc_free(large);
    }
    for (unsigned i = 0; i < SLOTS_COUNT; i++) REQUIRE(((struct node *)slots[i])->number == i);
}

/* A process may have so many mappings, and this takes all of them.  What else a collection maps is
 * there since the first one. */
static void without_mappings_it_stops(void) {
    move_all();
    fill();
    uintptr_t before = where(SLOTS_COUNT / 2);
    size_t page = 4096;
    unsigned taken = 0;
    while (mmap(NULL, page, taken % 2 ? PROT_NONE : PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0) != MAP_FAILED)
        taken++;
    printf("%u mappings\n", taken);
    clear_stack();
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    REQUIRE(where(SLOTS_COUNT / 2) != before);
    REQUIRE_EQUAL(gc_verify(), 0);
    REQUIRE(is_accessible(before));
    for (unsigned i = 0; i < SLOTS_COUNT; i++) REQUIRE(((struct node *)slots[i])->number == i);
}

/* ---- A random program ----------------------------------------------------------------------- */

static void a_program_without_stale_pointers_goes_on(void) {
    struct typed_plan plan = typed_model_usual_plan(model_seed());
    plan.ambiguous_one_in = 200;
    plan.old_one_in = 10;
    struct typed_result result;
    typed_model_run(&plan, &result);
    typed_model_print(&result);
    REQUIRE(!are_many() || result.moved > 0);
}

/* ---- All of them ---------------------------------------------------------------------------- */

#define ON          "CAIRN_PROTECT_MOVED=1"
#define MOVED       "into an object of type struct node that was moved from 0x"
#define UNDER(kind) ON, "CAIRN_BARRIER=" kind

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_ABORT(reading_through_a_stale_pointer_aborts, MOVED, UNDER("uffd")),
        CHILD_ABORT(reading_through_a_stale_pointer_aborts, MOVED, UNDER("mprotect")),
        CHILD_ABORT(reading_through_a_stale_pointer_aborts, MOVED, UNDER("none")),
        CHILD_ABORT(reading_through_a_stale_pointer_aborts, "reads from 0x", UNDER("cross")),
        CHILD_ABORT(writing_through_a_stale_pointer_aborts, MOVED, UNDER("uffd")),
        CHILD_ABORT(writing_through_a_stale_pointer_aborts, MOVED, UNDER("mprotect")),
        CHILD_ABORT(writing_through_a_stale_pointer_aborts, MOVED, UNDER("none")),
        CHILD_ABORT(writing_through_a_stale_pointer_aborts, "writes to 0x", UNDER("cross")),
        CHILD_ABORT(using_what_has_died_aborts, "what was an object of type struct node", ON),
        CHILD_ABORT(
            using_what_moved_by_tag_aborts, "into an object of type by tag that was moved", ON),
        CHILD_ABORT(using_what_died_by_tag_aborts, "what was an object of type by tag", ON),
        CHILD_ABORT(the_message_says_where_it_is_now, "in collection 1\n", ON),
        CHILD_ABORT(another_threads_use_aborts, MOVED, ON),
        CHILD_SAYS(other_faults_go_to_the_programs_handler, "the program's handler", ON),
        CHILD_ABORT(a_stale_pointer_aborts_over_the_programs_handler, MOVED, ON),
        CHILD_SAYS(a_child_inherits_the_protection, MOVED, "CAIRN_PROTECT_MOVED=9"),
        CHILD_TEST(it_lasts_as_many_collections_as_asked, "CAIRN_PROTECT_MOVED=1"),
        CHILD_TEST(it_lasts_as_many_collections_as_asked, "CAIRN_PROTECT_MOVED=3"),
        CHILD_TEST(it_lasts_as_many_collections_as_asked, "CAIRN_PROTECT_MOVED=20",
            "CAIRN_BARRIER=mprotect", "CAIRN_POISON=1"),
        CHILD_TEST(without_the_option_all_is_accessible),
        CHILD_TEST(
            it_gives_way_when_memory_is_short, "CAIRN_PROTECT_MOVED=100", "CAIRN_HEAP_LIMIT=16M"),
        CHILD_TEST(it_gives_way_when_memory_is_short, "CAIRN_PROTECT_MOVED=100",
            "CAIRN_HEAP_LIMIT=16M", "CAIRN_BARRIER=mprotect", "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_SAYS(without_mappings_it_stops, "the system refuses to protect more memory", ON),
        CHILD_TEST(a_program_without_stale_pointers_goes_on, UNDER("uffd"), "CAIRN_VERIFY=1"),
        CHILD_TEST(a_program_without_stale_pointers_goes_on, UNDER("mprotect"), "CAIRN_VERIFY=1"),
        CHILD_TEST(a_program_without_stale_pointers_goes_on, UNDER("none"), "CAIRN_POISON=1"),
        CHILD_TEST(a_program_without_stale_pointers_goes_on, UNDER("cross"), "CAIRN_VERIFY=1"),
        CHILD_TEST(a_program_without_stale_pointers_goes_on, "CAIRN_PROTECT_MOVED=7",
            "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_STRESS=61"),
    };
    return cmocka_run_group_tests_name("stale", tests, NULL, NULL);
}
