/* Thread-local storage of threads that stand still: variables of every sort, thread-specific
 * values, what the C library keeps of a thread, and the ends of stacks.  A second thread plants
 * words and waits; the first visits its storage and looks for them. */
#define _GNU_SOURCE
#include "child.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "cairn/gc.h"
#include "plugin.h"
#include "runtime/arch/arch.h"
#include "runtime/roots.h"
#include "runtime/tls.h"
#include "runtime/vm.h"

/* Is the storage known that isn't static? */
#if defined(GCI_RECORD_AT_THREAD_POINTER) && defined(__GLIBC__)
#define need_records() ((void)0)
#else
#define need_records() child_skip("the C library's records of threads aren't known here")
#endif

/* ---- Looking for planted words -------------------------------------------------------------- */

enum {
    IN_VARIABLE,
    IN_PLUGIN,
    IN_STATIC_PLUGIN,
    IN_LOW_KEY,
    IN_HIGH_KEY,
    AS_ARGUMENT,
    WORDS = 400
};

/* A word that is nowhere in this form unless it was planted. */
static volatile uintptr_t negated = ~(uintptr_t)0x5ca1ab1e000000;

static __attribute__((noinline)) void *word(size_t i) {
    return (void *)(~negated + 16 * i);
}

static struct {
    bool found[WORDS];
    size_t ranges;
    uintptr_t no_low, no_high; /* must not be visited */
} seen;

__attribute__((no_sanitize("address"))) static void look(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    uintptr_t first = ~negated;
    REQUIRE(context == &seen);
    REQUIRE_EQUAL(kind, GCI_ROOT_TLS);
    REQUIRE(start < end);
    REQUIRE_EQUAL((uintptr_t)start % sizeof *start, 0);
    REQUIRE_EQUAL((uintptr_t)end % sizeof *end, 0);
    REQUIRE((uintptr_t)end <= seen.no_low || (uintptr_t)start >= seen.no_high);
    seen.ranges++;
    for (; start < end; start++)
        if (*start - first < 16 * WORDS && (*start - first) % 16 == 0)
            seen.found[(*start - first) / 16] = true;
}

static struct gci_static_roots modules;

static void visit(uintptr_t thread_pointer, uintptr_t skip_low, uintptr_t skip_high) {
    memset(seen.found, 0, sizeof seen.found);
    seen.ranges = 0;
    errno = ERANGE;
    gci_tls_visit(thread_pointer, skip_low, skip_high, &modules, look, &seen);
    REQUIRE_EQUAL(errno, ERANGE);
}

static void begin(void) {
    gci_tls_init();
    REQUIRE_EQUAL(gci_static_roots_refresh(&modules), 0);
}

/* ---- Plugins -------------------------------------------------------------------------------- */

typedef void tell_function(struct plugin_places *);

static tell_function *load(const char *path) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) child_fail(__FILE__, __LINE__, "%s", dlerror());
    tell_function *tell;
    *(void **)&tell = dlsym(plugin, "plugin_places");
    REQUIRE(tell != NULL);
    return tell;
}

static const char *plugin_path(void) {
    const char *path = getenv("CAIRN_TEST_PLUGIN");
    if (!path) child_skip("CAIRN_TEST_PLUGIN names no plugin");
    return path;
}

static tell_function *load_plugin(void) {
    return load(plugin_path());
}

/* The other one, in the same directory. */
static tell_function *load_static_plugin(void) {
    char path[4096];
    const char *other = plugin_path(), *slash = strrchr(other, '/');
    REQUIRE(slash != NULL);
    snprintf(path, sizeof path, "%.*s/plugin_static.so", (int)(slash - other), other);
    return load(path);
}

static void plant_in_plugin(tell_function *tell, size_t i) {
    struct plugin_places places;
    tell(&places);
    *places.local = word(i);
}

/* ---- The thread that waits ------------------------------------------------------------------ */

static __thread void *variable;

enum { KEYS = 200 };
static pthread_key_t keys[KEYS];

static struct {
    pthread_t thread;
    void (*plant)(void);
    sem_t planted, done;
    uintptr_t thread_pointer, low, high, buffers;
    uintptr_t variable;
} waiter;

static void *run_waiter(void *argument) {
    const uintptr_t *lowest = NULL;
    (void)argument;
    waiter.thread_pointer = gci_thread_pointer();
    waiter.high = (uintptr_t)gci_stack_base(&lowest);
    waiter.low = (uintptr_t)lowest;
    waiter.buffers = (uintptr_t)&gc_buffers;
    waiter.variable = (uintptr_t)&variable;
    if (waiter.plant) waiter.plant();
    sem_post(&waiter.planted);
    while (sem_wait(&waiter.done) != 0) continue;
    return NULL;
}

/* Returns once it has planted and waits. */
static void start_waiter(void (*plant)(void)) {
    waiter.plant = plant;
    sem_init(&waiter.planted, 0, 0);
    sem_init(&waiter.done, 0, 0);
    REQUIRE_EQUAL(pthread_create(&waiter.thread, NULL, run_waiter, word(AS_ARGUMENT)), 0);
    while (sem_wait(&waiter.planted) != 0) continue;
}

static void end_waiter(void) {
    sem_post(&waiter.done);
    REQUIRE_EQUAL(pthread_join(waiter.thread, NULL), 0);
}

static tell_function *tell_plugin;

static void plant_variable(void) {
    variable = word(IN_VARIABLE);
}

static void plant_everywhere(void) {
    plant_variable();
    plant_in_plugin(tell_plugin, IN_PLUGIN);
    pthread_setspecific(keys[0], word(IN_LOW_KEY));
    pthread_setspecific(keys[KEYS - 1], word(IN_HIGH_KEY));
}

static void make_keys(void) {
    for (size_t i = 0; i < KEYS; i++) REQUIRE_EQUAL(pthread_key_create(&keys[i], NULL), 0);
    REQUIRE(keys[0] < 32 && keys[KEYS - 1] >= 32);
}

static void static_variables_of_a_waiting_thread_are_visited(void) {
    begin();
    start_waiter(plant_variable);
    visit(waiter.thread_pointer, 0, 0);
    REQUIRE(seen.found[IN_VARIABLE]);
    visit(gci_thread_pointer(), 0, 0);
    REQUIRE(!seen.found[IN_VARIABLE]);
    end_waiter();
}

static void all_storage_of_a_waiting_thread_is_visited(void) {
    need_records();
    tell_plugin = load_plugin();
    make_keys();
    begin();
    start_waiter(plant_everywhere);
    visit(waiter.thread_pointer, 0, 0);
    REQUIRE(seen.found[IN_VARIABLE]);
    REQUIRE(seen.found[IN_PLUGIN]);
    REQUIRE(seen.found[IN_LOW_KEY]);
    REQUIRE(seen.found[IN_HIGH_KEY]);
#ifndef GC_SANITIZE /* it starts threads with an argument of its own */
    REQUIRE(seen.found[AS_ARGUMENT]);
#endif
    visit(gci_thread_pointer(), 0, 0);
    for (size_t i = 0; i < WORDS; i++) REQUIRE(!seen.found[i]);
    end_waiter();
}

static void what_lies_on_the_stack_is_not_visited_twice(void) {
    need_records();
    tell_plugin = load_plugin();
    make_keys();
    begin();
    start_waiter(plant_everywhere);
    REQUIRE(waiter.variable >= waiter.low && waiter.variable < waiter.high);
    seen.no_low = waiter.low;
    seen.no_high = waiter.high;
    visit(waiter.thread_pointer, waiter.low, waiter.high);
    REQUIRE(!seen.found[IN_VARIABLE]);
    REQUIRE(seen.found[IN_PLUGIN]);
    REQUIRE(!seen.found[IN_LOW_KEY]);
    REQUIRE(seen.found[IN_HIGH_KEY]);
    /* A part of it. */
    uintptr_t middle = waiter.thread_pointer + 64;
    seen.no_high = middle;
    visit(waiter.thread_pointer, waiter.low, middle);
    REQUIRE(!seen.found[IN_VARIABLE]);
    REQUIRE(seen.found[IN_LOW_KEY]);
    seen.no_low = middle;
    seen.no_high = waiter.high;
    visit(waiter.thread_pointer, middle, waiter.high);
    REQUIRE(seen.found[IN_VARIABLE]);
    REQUIRE(!seen.found[IN_LOW_KEY]);
    end_waiter();
}

static void all_storage_of_the_first_thread_is_visited(void) {
    need_records();
    tell_plugin = load_plugin();
    make_keys();
    begin();
    plant_everywhere();
    const uintptr_t *lowest = NULL;
    uintptr_t base = (uintptr_t)gci_stack_base(&lowest);
    seen.no_low = (uintptr_t)lowest;
    seen.no_high = base;
    visit(gci_thread_pointer(), (uintptr_t)lowest, base);
    REQUIRE(seen.found[IN_VARIABLE]);
    REQUIRE(seen.found[IN_PLUGIN]);
    REQUIRE(seen.found[IN_LOW_KEY]);
    REQUIRE(seen.found[IN_HIGH_KEY]);
}

static void a_plugin_s_variables_are_none_until_they_are_touched(void) {
    need_records();
    tell_plugin = load_plugin();
    begin();
    plant_in_plugin(tell_plugin, IN_PLUGIN);
    start_waiter(plant_variable);
    visit(waiter.thread_pointer, 0, 0);
    REQUIRE(seen.found[IN_VARIABLE]);
    REQUIRE(!seen.found[IN_PLUGIN]);
    end_waiter();
}

static void plant_in_static_plugin(void) {
    sem_post(&waiter.planted);
    while (sem_wait(&waiter.done) != 0) continue;
    plant_in_plugin(tell_plugin, IN_STATIC_PLUGIN);
}

/* Its block is in no table: the loader finds room beside the variables of the program. */
static void static_storage_of_a_plugin_loaded_later_is_visited(void) {
    need_records();
    begin();
    start_waiter(plant_in_static_plugin);
    tell_plugin = load_static_plugin();
    REQUIRE_EQUAL(gci_static_roots_refresh(&modules), 0);
    sem_post(&waiter.done);
    while (sem_wait(&waiter.planted) != 0) continue;
    visit(waiter.thread_pointer, 0, 0);
    REQUIRE(seen.found[IN_STATIC_PLUGIN]);
    end_waiter();
}

static void closed_plugins_leave_the_list(void) {
    begin();
    size_t before = modules.module_count;
    void *plugin = dlopen(plugin_path(), RTLD_NOW | RTLD_LOCAL);
    REQUIRE(plugin != NULL);
    REQUIRE_EQUAL(gci_static_roots_refresh(&modules), 0);
    REQUIRE_EQUAL(modules.module_count, before + 1);
    REQUIRE_EQUAL(dlclose(plugin), 0);
    visit(gci_thread_pointer(), 0, 0);
    REQUIRE_EQUAL(gci_static_roots_refresh(&modules), 0);
    REQUIRE_EQUAL(modules.module_count, before);
    gci_static_roots_clear(&modules);
    REQUIRE_EQUAL(modules.module_count, 0);
}

/* ---- The allocation buffers ----------------------------------------------------------------- */

static void the_allocation_buffers_are_not_visited(void) {
    begin();
    start_waiter(plant_variable);
    seen.no_low = waiter.buffers;
    seen.no_high = waiter.buffers + sizeof gc_buffers;
    visit(waiter.thread_pointer, 0, 0);
    REQUIRE(seen.found[IN_VARIABLE]);
    variable = word(IN_VARIABLE);
    seen.no_low = (uintptr_t)&gc_buffers;
    seen.no_high = seen.no_low + sizeof gc_buffers;
    visit(gci_thread_pointer(), 0, 0);
    REQUIRE(seen.found[IN_VARIABLE]);
    end_waiter();
}

static struct {
    uintptr_t start[2], end[2];
    size_t count;
} cut;

static void note(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    REQUIRE(context == &cut);
    REQUIRE_EQUAL(kind, GCI_ROOT_STACK);
    REQUIRE(cut.count < 2 && start < end);
    cut.start[cut.count] = (uintptr_t)start;
    cut.end[cut.count++] = (uintptr_t)end;
}

static void a_range_is_cut_by_the_buffers(void) {
    uintptr_t low = (uintptr_t)&gc_buffers, high = low + sizeof gc_buffers;
    uintptr_t self = gci_thread_pointer();
    const size_t w = sizeof(uintptr_t);
    struct {
        uintptr_t start, end;
        size_t count;
        uintptr_t starts[2], ends[2];
    } cases[] = {
        {low - 5 * w, high + 3 * w, 2, {low - 5 * w, high}, {low, high + 3 * w}},
        {low, high, 0, {0}, {0}},
        {low + w, high - w, 0, {0}, {0}},
        {low, high + w, 1, {high}, {high + w}},
        {low + w, high + w, 1, {high}, {high + w}},
        {low - w, high, 1, {low - w}, {low}},
        {low - w, high - w, 1, {low - w}, {low}},
        {low - 9 * w, low, 1, {low - 9 * w}, {low}},
        {high, high + 9 * w, 1, {high}, {high + 9 * w}},
        {high + w, high + w, 0, {0}, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cut.count = 0;
        gci_visit_without_buffers(self, cases[i].start, cases[i].end, GCI_ROOT_STACK, note, &cut);
        REQUIRE_EQUAL(cut.count, cases[i].count);
        for (size_t j = 0; j < cut.count; j++) {
            REQUIRE_EQUAL(cut.start[j], cases[i].starts[j]);
            REQUIRE_EQUAL(cut.end[j], cases[i].ends[j]);
        }
    }
}

/* ---- Records in disorder -------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

__attribute__((no_sanitize("address"))) static void ignore(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    (void)context, (void)kind;
    for (; start < end; start += 64) __asm__ volatile("" ::"r"(*start)); /* it can be read */
}

/* Anything may stand where an address should: small numbers, places that can't be read or that end
 * where what can't be read begins, addresses that no address can be. */
static void records_full_of_nonsense_do_no_harm(void) {
    tell_plugin = load_plugin();
    begin();
    size_t page = gci_page_size(), words = page / sizeof(uintptr_t);
    char *memory = gci_vm_map(8 * page);
    REQUIRE(memory != NULL);
    REQUIRE_EQUAL(mprotect(memory, page, PROT_NONE), 0);
    REQUIRE_EQUAL(mprotect(memory + 4 * page, page, PROT_NONE), 0);
    REQUIRE_EQUAL(mprotect(memory + 7 * page, page, PROT_NONE), 0);
    for (int round = 0; round < 3000; round++) {
        uintptr_t *record = (uintptr_t *)(memory + page + next_random() % (3 * words) * 8);
        for (uintptr_t *at = (uintptr_t *)(memory + page); at < (uintptr_t *)(memory + 4 * page);
             at++) {
            uint64_t r = next_random();
            switch (r % 5) {
            case 0:
                *at = r >> 8;
                break;
            case 1:
                *at = r >> 60;
                break;
            case 2:
                *at = UINTPTR_MAX - (r >> 8) % 100;
                break;
            default:
                *at = (uintptr_t)memory + (r >> 8) % (8 * page);
                break;
            }
        }
        gci_tls_visit((uintptr_t)record, 0, 0, &modules, ignore, NULL);
    }
    gci_tls_visit(0, 0, 0, &modules, ignore, NULL);
    gci_tls_visit((uintptr_t)(memory + page), 0, 0, &modules, ignore, NULL);
    gci_tls_visit((uintptr_t)(memory + 4 * page), 0, 0, &modules, ignore, NULL);
}

/* The loader makes a larger table with realloc(), so that one of the program's own can stop a
 * thread just there: the old table is freed, and the new one isn't yet in its place. */
#if defined(__GLIBC__) && !defined(GC_SANITIZE)
void *__libc_realloc(void *p, size_t bytes);

static __thread bool stops_in_realloc;
static sem_t stopped, go_on;

void *realloc(void *p, size_t bytes) {
    void *q = __libc_realloc(p, bytes);
    if (stops_in_realloc) {
        sem_post(&stopped);
        while (sem_wait(&go_on) != 0) continue;
    }
    return q;
}

enum { COPIES = 150, AT_ONCE = 15 };
static tell_function *copies[COPIES];
static size_t copies_loaded, words_planted; /* the second by the waiter */
static bool ends;

static void touch_copies(void) {
    stops_in_realloc = true;
    for (;;) {
        sem_post(&stopped);
        while (sem_wait(&go_on) != 0) continue;
        if (ends) break;
        for (; words_planted < copies_loaded; words_planted++)
            plant_in_plugin(copies[words_planted], words_planted);
    }
}

/* The loader loads a file once, whatever it's called; a copy is another file. */
static tell_function *load_copy(const char *directory, size_t number) {
    char path[256];
    snprintf(path, sizeof path, "%s/%zu.so", directory, number);
    int from = open(plugin_path(), O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_EXCL, 0700);
    REQUIRE(from >= 0 && to >= 0);
    while (sendfile(to, from, NULL, 1 << 20) > 0) continue;
    close(from);
    close(to);
    tell_function *tell = load(path);
    unlink(path);
    return tell;
}

static void a_thread_stopped_while_its_table_grows_keeps_its_variables(void) {
    need_records();
    plugin_path();
    char directory[] = "/tmp/cairn-test-XXXXXX";
    REQUIRE(mkdtemp(directory) != NULL);
    begin();
    sem_init(&stopped, 0, 0);
    sem_init(&go_on, 0, 0);
    size_t stops = 0;
    waiter.plant = touch_copies;
    REQUIRE_EQUAL(pthread_create(&waiter.thread, NULL, run_waiter, NULL), 0);
    while (sem_wait(&stopped) != 0) continue;
    while (copies_loaded < COPIES) {
        for (size_t i = 0; i < AT_ONCE; i++, copies_loaded++)
            copies[copies_loaded] = load_copy(directory, copies_loaded);
        REQUIRE_EQUAL(gci_static_roots_refresh(&modules), 0);
        do {
            sem_post(&go_on);
            while (sem_wait(&stopped) != 0) continue;
            visit(waiter.thread_pointer, waiter.low, waiter.high);
            for (size_t i = 0; i < words_planted; i++) REQUIRE(seen.found[i]);
            stops += words_planted < copies_loaded;
        } while (words_planted < copies_loaded);
    }
    rmdir(directory);
    REQUIRE(stops >= 5);
    ends = true;
    sem_init(&waiter.planted, 0, 0);
    sem_init(&waiter.done, 0, 1);
    sem_post(&go_on);
    REQUIRE_EQUAL(pthread_join(waiter.thread, NULL), 0);
}
#endif

/* ---- Stacks --------------------------------------------------------------------------------- */

static void the_first_thread_s_stack_ends_where_it_has_grown_to(void) {
    const uintptr_t *lowest = NULL;
    uintptr_t base = (uintptr_t)gci_stack_base(&lowest), low = (uintptr_t)lowest;
    errno = ERANGE;
    uintptr_t extent = gci_stack_extent(low, base);
    REQUIRE_EQUAL(errno, ERANGE);
    REQUIRE(extent <= (uintptr_t)&lowest && extent >= low);
    for (uintptr_t at = extent; at < base; at += 512) REQUIRE(gci_is_readable(at));
    /* Looking doesn't make it grow. */
    if (base - low >= 4 << 20) REQUIRE(base - extent < 2 << 20);
    REQUIRE_EQUAL(gci_stack_extent(low, base), extent);
    uintptr_t limit = base - 1000;
    REQUIRE_EQUAL(gci_stack_extent(limit, base), limit);
    REQUIRE_EQUAL(gci_stack_extent(base, base), base);
}

static void another_thread_s_stack_is_all_there(void) {
    start_waiter(NULL);
    REQUIRE_EQUAL(gci_stack_extent(waiter.low, waiter.high), waiter.low);
    REQUIRE(gci_stack_extent(0, waiter.high) >= waiter.low - (64 << 10)); /* a guard page */
    end_waiter();
}

static void a_stack_ends_at_what_cannot_be_read(void) {
    size_t page = gci_page_size();
    uintptr_t memory = (uintptr_t)gci_vm_map(8 * page), end = memory + 8 * page;
    REQUIRE(memory != 0);
    REQUIRE_EQUAL(gci_stack_extent(memory, end), memory);
    REQUIRE_EQUAL(gci_stack_extent(memory + 24, end), memory + 24);
    REQUIRE_EQUAL(mprotect((void *)(memory + 3 * page), page, PROT_NONE), 0);
    REQUIRE_EQUAL(gci_stack_extent(memory, end), memory + 4 * page);
    REQUIRE_EQUAL(gci_stack_extent(memory, end - 24), memory + 4 * page);
    REQUIRE_EQUAL(munmap((void *)(memory + 5 * page), page), 0);
    REQUIRE_EQUAL(gci_stack_extent(memory, end), memory + 6 * page);
    REQUIRE_EQUAL(gci_stack_extent(memory, memory + 6 * page), memory + 6 * page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(static_variables_of_a_waiting_thread_are_visited),
        CHILD_TEST(all_storage_of_a_waiting_thread_is_visited),
        CHILD_TEST(what_lies_on_the_stack_is_not_visited_twice),
        CHILD_TEST(all_storage_of_the_first_thread_is_visited),
        CHILD_TEST(a_plugin_s_variables_are_none_until_they_are_touched),
        CHILD_TEST(static_storage_of_a_plugin_loaded_later_is_visited),
        CHILD_TEST(closed_plugins_leave_the_list),
        CHILD_TEST(the_allocation_buffers_are_not_visited),
        CHILD_TEST(a_range_is_cut_by_the_buffers),
        CHILD_TEST(records_full_of_nonsense_do_no_harm),
#if defined(__GLIBC__) && !defined(GC_SANITIZE)
        CHILD_TEST(a_thread_stopped_while_its_table_grows_keeps_its_variables),
#endif
        CHILD_TEST(the_first_thread_s_stack_ends_where_it_has_grown_to),
        CHILD_TEST(another_thread_s_stack_is_all_there),
        CHILD_TEST(a_stack_ends_at_what_cannot_be_read),
    };
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
