/* Profiles: how well samples estimate what was allocated, that what is in use follows objects
 * wherever they go, and the files. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "child.h"
#include "gc/sample.h"
#include "model.h"
#include "runtime/describe.h"
#include "support.h"
#include "typed_model.h"

#define SITE __attribute__((__noinline__))

/* A name for a file of this process, in the directory for such. */
static const char *file_named(const char *ending) {
    static char path[4][256];
    static unsigned next;
    char *text = path[next++ % 4];
    const char *directory = getenv("TMPDIR");
    snprintf(text, 256, "%s/cairn-test-%ld%s", directory != NULL ? directory : "/tmp",
        (long)getpid(), ending);
    return text;
}

/* The sum of the numbers of the lines in which FUNCTION is a frame; of all lines if it is NULL. */
static double sum_of(const char *path, const char *function) {
    static char line[1 << 16];
    double sum = 0;
    FILE *file = fopen(path, "r");
    REQUIRE(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        char *space = strrchr(line, ' '), *rest = line, *frame;
        REQUIRE(space != NULL && space > line);
        double value = atof(space + 1);
        *space = '\0';
        bool there = function == NULL;
        while (!there && (frame = strsep(&rest, ";")) != NULL) there = strcmp(frame, function) == 0;
        if (there) sum += value;
    }
    fclose(file);
    return sum;
}

static double written(const char *ending, const char *function) {
    const char *path = file_named(ending);
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), 0);
    double sum = sum_of(path, function);
    unlink(path);
    return sum;
}

/* ---- Estimating ----------------------------------------------------------------------------- */

static void a_sample_stands_for_as_many_as_its_chance_says(void **state) {
    (void)state;
    static const struct {
        size_t bytes, interval;
        double weight;
    } known[] = {{16, 0, 1}, {1 << 19, 1 << 19, 1.5819767068693265}, {16, 1 << 19, 32768.500002543},
        {1 << 20, 1 << 19, 1.1565176427496657}, {1 << 26, 1 << 19, 1}, {1 << 24, 1 << 19, 1},
        {48, 4096, 85.83430988}, {1 << 14, 1 << 19, 32.502604142}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double weight = gci_sample_weight(known[i].bytes, known[i].interval);
        double ratio = weight / known[i].weight;
        assert_true(ratio > 1 - 1e-8 && ratio < 1 + 1e-8);
    }
}

struct pair {
    struct pair *left, *right;
};

static const gc_type *pair_type;
static void *volatile kept;

static SITE void site_small(void) {
    kept = gc_alloc(48);
}
static SITE void site_tiny_leaf(void) {
    kept = gc_alloc_leaf(16);
}
static SITE void site_middle(void) {
    kept = gc_alloc(600);
}
static SITE void site_cell(void) {
    kept = gc_alloc_leaf(3000);
}
static SITE void site_large(void) {
    kept = gc_alloc(20000);
}
static SITE void site_aligned(void) {
    kept = gc_alloc_aligned(128, 96);
}
static SITE void site_pair(void) {
    kept = gc_alloc_typed(pair_type);
}
static SITE void site_pairs(void) {
    kept = gc_alloc_array(pair_type, 5);
}
static SITE void site_old(void) {
    kept = gc_alloc_old(pair_type);
}
static SITE void site_copy(void) {
    kept = gc_strdup("some text of 31 bytes, 32 in all");
}
static SITE void site_freed(void) {
    void *p = gc_alloc(64);
    kept = p;
    kept = NULL;
    gc_free(p);
}
static SITE void site_grown(void) {
    kept = gc_realloc(gc_alloc_leaf(32), 256);
}

/* BYTES: what one call allocates, as the heap rounds it. */
static const struct {
    void (*function)(void);
    const char *name;
    unsigned bytes;
} sites[] = {{site_small, "site_small", 48}, {site_tiny_leaf, "site_tiny_leaf", 16},
    {site_middle, "site_middle", 608}, {site_cell, "site_cell", 3264},
    {site_large, "site_large", 20480}, {site_aligned, "site_aligned", 96},
    {site_pair, "site_pair", 16}, {site_pairs, "site_pairs", 80}, {site_old, "site_old", 16},
    {site_copy, "site_copy", 48}, {site_freed, "site_freed", 64}, {site_grown, "site_grown", 288}};

#define SITES (sizeof sites / sizeof *sites)

static void start(void) {
    REQUIRE_EQUAL(gc_init(NULL), 0);
    static const uint32_t offsets[] = {0, 8};
    gc_type_desc desc = {.name = "pair", .size = 16, .pointers = offsets, .pointer_count = 2};
    pair_type = gc_type_register(&desc);
    REQUIRE(pair_type != NULL);
}

/* Calls the sites in turn until each has allocated about EACH bytes; COUNTS: how often. */
static void allocate_at_sites(double each, uint64_t *counts) {
    struct bench_random random = {5};
    memset(counts, 0, SITES * sizeof *counts);
    for (size_t left = SITES; left > 0;) {
        size_t i = bench_random_below(&random, SITES);
        if ((double)(counts[i] * sites[i].bytes) >= each) continue;
        for (unsigned n = 0; n < 1 + 4000 / sites[i].bytes; n++) {
            sites[i].function();
            counts[i]++;
        }
        if ((double)(counts[i] * sites[i].bytes) >= each) left--;
    }
}

enum { INTERVAL = 4096 };

/* How far an estimate of BYTES is off, OFF a part of them, squared and in variances: a site of N
 * bytes has N/4096 samples, less where objects are larger than that, and its estimate is off by one
 * part in the root of so many.  36 are six standard deviations: each run draws other samples. */
static double squared(double off, double bytes) {
    return off * off * bytes / INTERVAL;
}

static void sites_are_reported_in_the_proportion_of_their_bytes(void) {
    const double each = 6e6;
    uint64_t counts[SITES];
    start();
    REQUIRE_EQUAL(gc_profile_start(INTERVAL), 0);
    allocate_at_sites(each, counts);
    const char *path = file_named(".folded");
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), 0);
    double worst = 0, all = 0, seen = 0;
    for (size_t i = 0; i < SITES; i++) {
        double bytes = (double)counts[i] * sites[i].bytes;
        double off = sum_of(path, sites[i].name) / bytes - 1, off_squared = squared(off, bytes);
        printf("%s: %+.2f %%, squared %.2f times the variance\n", sites[i].name, 100 * off,
            off_squared);
        if (off_squared > worst) worst = off_squared;
        all += bytes;
        seen += sum_of(path, sites[i].name);
    }
    unlink(path);
    REQUIRE(worst < 36);
    REQUIRE(squared(seen / all - 1, all) < 36);
}

static void with_every_object_sampled_the_numbers_are_exact(void) {
    uint64_t counts[SITES];
    start();
    REQUIRE_EQUAL(gc_profile_start(0), 0);
    allocate_at_sites(1e5, counts);
    const char *path = file_named(".folded");
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_FOLDED), 0);
    for (size_t i = 0; i < SITES; i++) {
        printf("%s\n", sites[i].name);
        REQUIRE_EQUAL(sum_of(path, sites[i].name), counts[i] * sites[i].bytes);
    }
    unlink(path);
}

/* What a thread's buffers had room for, up to 4 KiB each, passes. */
static void sampling_begins_and_ends_where_the_program_says(void) {
    start();
    for (unsigned i = 0; i < 1000; i++) site_small();
    REQUIRE_EQUAL(gc_profile_start(1), 0);
    for (unsigned i = 0; i < 1000; i++) site_small();
    REQUIRE_EQUAL(gc_profile_stop(), 0);
    for (unsigned i = 0; i < 1000; i++) site_small();
    double bytes = written(".folded", "site_small");
    REQUIRE(bytes <= 1000 * 48 && bytes >= 1000 * 48 - 4096);
    for (unsigned i = 0; i < 1000; i++) site_small();
    REQUIRE_EQUAL(written(".folded", "site_small"), (long long)bytes);
    REQUIRE_EQUAL(gc_profile_start(1), 0);
    REQUIRE_EQUAL(written(".folded", "site_small"), 0);
}

/* ---- In use --------------------------------------------------------------------------------- */

enum { TABLE = 512 };

struct table {
    struct pair *pairs[TABLE]; /* precise: they move */
    char *leaves[TABLE];
    uint32_t leaf_bytes[TABLE];
};

/* The assembly keeps what is called from taking the caller's frame. */
static SITE struct pair *make_pair(void) {
    struct pair *p = gc_alloc_typed(pair_type);
    __asm__ volatile("" : "+r"(p));
    return p;
}
static SITE char *make_leaf(size_t bytes) {
    char *p = gc_alloc_leaf(bytes);
    __asm__ volatile("" : "+r"(p));
    return p;
}
static SITE char *grow_leaf(char *p, size_t bytes) {
    p = gc_realloc(p, bytes);
    __asm__ volatile("" : "+r"(p));
    return p;
}

static SITE void change(struct table *t, struct bench_random *random) {
    size_t i = bench_random_below(random, TABLE);
    switch (bench_random_below(random, 8)) {
    case 0:
        t->pairs[i] = NULL;
        break;
    case 1:
        if (t->pairs[i] != NULL) gc_free(t->pairs[i]);
        t->pairs[i] = NULL;
        break;
    case 2:
        t->leaves[i] = NULL;
        break;
    case 3:
        if (t->leaves[i] != NULL) gc_free(t->leaves[i]);
        t->leaves[i] = NULL;
        break;
    case 4:
        if (t->leaves[i] == NULL) break;
        t->leaf_bytes[i] = (uint32_t)(1 + bench_random_below(random, 12000));
        t->leaves[i] = grow_leaf(t->leaves[i], t->leaf_bytes[i]);
        break;
    case 5:
        t->leaf_bytes[i] = (uint32_t)(1 + bench_random_below(random, 12000));
        t->leaves[i] = make_leaf(t->leaf_bytes[i]);
        break;
    default:
        t->pairs[i] = make_pair();
    }
}

/* Every object is sampled, so that what is in use must be just what the table holds; a word left
 * over on the stack may hold a few more. */
static void compare(struct table *t) {
    size_t pairs = 0, leaves = 0;
    clear_stack();
    collect(GC_FULL);
    for (size_t i = 0; i < TABLE; i++) {
        pairs += t->pairs[i] != NULL ? 16 : 0;
        leaves += t->leaves[i] != NULL ? gc_size(t->leaves[i]) : 0;
    }
    const char *path = file_named(".live.folded");
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), 0);
    double live_pairs = sum_of(path, "make_pair");
    double live_leaves = sum_of(path, "make_leaf") + sum_of(path, "grow_leaf");
    unlink(path);
    REQUIRE(live_pairs >= (double)pairs && live_pairs <= (double)pairs + 16 * 8);
    REQUIRE(live_leaves >= (double)leaves && live_leaves <= (double)leaves + 12288 * 4);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void what_is_in_use_follows_the_objects(void) {
    start();
    uint32_t offsets[2 * TABLE];
    for (uint32_t i = 0; i < 2 * TABLE; i++) offsets[i] = 8 * i;
    gc_type_desc desc = {.name = "table",
        .size = sizeof(struct table),
        .pointers = offsets,
        .pointer_count = 2 * TABLE};
    static void *table;
    REQUIRE_EQUAL(gc_add_slots(&table, 1), 0);
    table = gc_alloc_typed(gc_type_register(&desc));
    REQUIRE(table != NULL);
    REQUIRE_EQUAL(gc_profile_start(0), 0);
    struct bench_random random = {model_seed()};
    for (unsigned step = 0; step < 60000; step++) {
        change(table, &random);
        if (step % 2999 == 2998) REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
        if (step % 9999 == 9998) REQUIRE_EQUAL(gc_collect(GC_COMPACT), 0);
        if (step % 15000 == 14999) compare(table);
    }
}

static void the_random_program(void) {
    struct model_plan plan = {
        .seed = model_seed(), .steps = 40000, .most_objects = 3000, .large = true};
    REQUIRE_EQUAL(gc_profile_start(100), 0);
    model_run(&plan, NULL);
    written(".folded", NULL);
}

static void the_random_typed_program(void) {
    struct typed_plan plan = typed_model_usual_plan(model_seed());
    struct typed_result result;
    plan.steps = plan.steps / 4;
    plan.compacts = true;
    plan.old_one_in = 20;
    REQUIRE_EQUAL(gc_profile_start(100), 0);
    typed_model_run(&plan, &result);
    REQUIRE(written(".live.folded", NULL) > 0);
}

static SITE void *allocate_much(void *argument) {
    (void)argument;
    for (unsigned i = 0; i < 60000; i++) {
        site_small();
        if (i % 64 == 0) site_cell();
    }
    return NULL;
}

static void threads_sample_at_once(void) {
    start();
    pthread_t threads[4];
    REQUIRE_EQUAL(gc_profile_start(512), 0);
    for (unsigned i = 0; i < 4; i++)
        REQUIRE_EQUAL(gc_pthread_create(&threads[i], NULL, allocate_much, NULL), 0);
    for (unsigned i = 0; i < 20; i++) {
        const struct timespec pause = {0, 500000};
        collect(i % 4 == 0 ? GC_FULL : GC_MINOR);
        if (i % 8 == 0) written(".folded", NULL);
        nanosleep(&pause, NULL);
    }
    for (unsigned i = 0; i < 4; i++) gc_pthread_join(threads[i], NULL);
    double bytes = 4 * 60000 * 48, seen = written(".folded", "site_small");
    printf("%.0f of %.0f bytes\n", seen, bytes);
    REQUIRE(seen / bytes > 0.96 && seen / bytes < 1.04); /* one sigma is 0.7 % */
}

/* Names are found with the loader's lock, which a collection holds, too. */
static uint32_t through;

static void *collect_often(void *argument) {
    const struct timespec pause = {0, 100000};
    while (!__atomic_load_n(&through, __ATOMIC_RELAXED)) {
        gc_collect(GC_MINOR);
        gc_blocking_begin();
        nanosleep(&pause, NULL);
        gc_blocking_end();
    }
    return argument;
}

static void files_are_written_while_others_collect(void) {
    pthread_t thread;
    start();
    REQUIRE_EQUAL(gc_profile_start(512), 0);
    for (unsigned i = 0; i < 1000; i++) site_small();
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, collect_often, NULL), 0);
    for (unsigned i = 0; i < 100; i++) {
        REQUIRE(written(".folded", "site_small") > 0);
        gc_find_leaks();
    }
    __atomic_store_n(&through, 1, __ATOMIC_RELAXED);
    gc_pthread_join(thread, NULL);
}

static void *write_often(void *path) {
    for (unsigned i = 0; i < 50; i++) REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_FOLDED), 0);
    return NULL;
}

static void two_threads_may_write_to_one_path(void) {
    pthread_t threads[2];
    start();
    REQUIRE_EQUAL(gc_profile_start(512), 0);
    for (unsigned i = 0; i < 1000; i++) site_small();
    char *path = strdup(file_named(".folded"));
    for (unsigned i = 0; i < 2; i++)
        REQUIRE_EQUAL(gc_pthread_create(&threads[i], NULL, write_often, path), 0);
    for (unsigned i = 0; i < 2; i++) gc_pthread_join(threads[i], NULL);
    REQUIRE(sum_of(path, "site_small") > 0);
    unlink(path);
}

/* ---- Sites ---------------------------------------------------------------------------------- */

static void descend(unsigned depth, unsigned path);

static SITE void descend_left(unsigned depth, unsigned path) {
    descend(depth, path);
    kept = NULL;
}
static SITE void descend_right(unsigned depth, unsigned path) {
    kept = NULL;
    descend(depth, path);
    kept = NULL;
}
/* Each of the 2^DEPTH paths is a stack of its own. */
static SITE void descend(unsigned depth, unsigned path) {
    if (depth == 0)
        site_small();
    else
        (path % 2 == 0 ? descend_left : descend_right)(depth - 1, path / 2);
    kept = NULL;
}

static void what_the_table_has_no_room_for_is_counted_as_unknown(void) {
    start();
    REQUIRE_EQUAL(gc_profile_start(1), 0);
    for (unsigned i = 0; i < 4000; i++) descend(12, i);
    const char *path = file_named(".folded");
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), 0);
    double known = sum_of(path, "site_small"), unknown = sum_of(path, "[unknown]");
    unlink(path);
    printf("%.0f bytes known, %.0f unknown\n", known, unknown);
    REQUIRE(known > 48 * 50 && unknown > 48 * 3000);
    REQUIRE(known + unknown >= 48 * 4000 - 4096 && known + unknown <= 48 * 4000);
}

static void stacks_are_cut_at_the_depth_of_the_option(void) {
    start();
    REQUIRE_EQUAL(gc_profile_start(1), 0);
    for (unsigned i = 0; i < 200; i++) descend(12, i % 2);
    const char *path = file_named(".folded");
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), 0);
    REQUIRE(sum_of(path, "site_small") > 0);
    REQUIRE_EQUAL(sum_of(path, "main"), 0);
    unlink(path);
}

static SITE uint32_t trace_here(uintptr_t *pcs) {
    uint32_t depth = gci_backtrace((uintptr_t)__builtin_frame_address(0), pcs, 8);
    __asm__ volatile("");
    return depth;
}

static void libunwind_finds_the_callers_too(void **state) {
    (void)state;
    uintptr_t pcs[8];
    uint32_t depth = trace_here(pcs);
    assert_true(depth >= 2);
    for (uint32_t i = 0; i < depth; i++) pcs[i]--;
    struct gci_places places = gci_places_describe(pcs, depth);
    const struct gci_place *place = gci_place_at(&places, pcs[0]);
    assert_non_null(place);
    bool here = place->function != NULL &&
                (strcmp(place->function, "libunwind_finds_the_callers_too") == 0 ||
                    strcmp(place->function, "trace_here") == 0);
    assert_true(here);
    gci_places_free(&places);
}

static void places_in_no_file_have_no_name(void **state) {
    (void)state;
    static int data;
    const uintptr_t addresses[] = {(uintptr_t)&data, 1, UINTPTR_MAX, 1};
    struct gci_places places = gci_places_describe(addresses, 4);
    assert_int_equal(places.count, 3);
    for (size_t i = 0; i < 3; i++) assert_null(places.places[i].function);
    assert_null(gci_place_at(&places, 2));
    char text[64];
    gci_place_print(gci_place_at(&places, 1), 1, text, sizeof text);
    assert_string_equal(text, "0x1");
    gci_places_free(&places);
}

/* ---- Calls and files ------------------------------------------------------------------------ */

/* ---- A listener that ends the program ------------------------------------------------------- */

static void exits(const gc_event *event, void *data) {
    (void)event, (void)data;
    exit(0);
}

static void a_listener_may_end_the_program(void) {
    static const gc_listener listener = {.size = sizeof listener, .out_of_memory = exits};
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    (void)gc_alloc((size_t)1 << 60);
    child_fail(__FILE__, __LINE__, "the program goes on");
}

static void calls_at_the_wrong_time_are_refused(void) {
    const char *path = file_named(".pb");
    REQUIRE_EQUAL(gc_profile_stop(), ESRCH);
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), ESRCH);
    start();
    REQUIRE_EQUAL(gc_profile_stop(), ESRCH);
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), ESRCH);
    REQUIRE_EQUAL(gc_profile_start(((size_t)1 << 40) + 1), EINVAL);
    REQUIRE_EQUAL(gc_profile_start(0), 0);
    REQUIRE_EQUAL(gc_profile_start(0), EALREADY);
    REQUIRE_EQUAL(gc_profile_write(NULL, GC_PROFILE_FOLDED), EINVAL);
    REQUIRE_EQUAL(gc_profile_write(path, 5), EINVAL);
    REQUIRE_EQUAL(gc_profile_write(path, -1), EINVAL);
    REQUIRE_EQUAL(gc_profile_write("profile.txt", GC_PROFILE_BY_NAME), EINVAL);
    REQUIRE_EQUAL(gc_profile_write("/nonexistent/x.pb", GC_PROFILE_BY_NAME), ENOENT);
    REQUIRE_EQUAL(gc_profile_write("/dev/full/x.pb", GC_PROFILE_PPROF), ENOTDIR);
    REQUIRE_EQUAL(gc_profile_write("/dev/full", GC_PROFILE_PPROF), ENOSPC);
    REQUIRE_EQUAL(gc_profile_write("/dev/null", GC_PROFILE_PPROF), 0);
    struct stat null;
    REQUIRE(stat("/dev/null", &null) == 0 && S_ISCHR(null.st_mode));
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_PPROF_GZIP), 0);
    REQUIRE_EQUAL(gc_profile_stop(), 0);
    REQUIRE_EQUAL(gc_profile_write(path, GC_PROFILE_BY_NAME), 0);
    REQUIRE_EQUAL(unlink(path), 0);
    REQUIRE_EQUAL(gc_profile_stop(), ESRCH);
}

static void allocate_and_exit(void) {
    for (unsigned i = 0; i < 100000; i++) site_middle();
    exit(0);
}

static void a_file_that_cant_be_written_is_named_and_changes_no_status(void) {
    allocate_and_exit();
}

/* In the child of a fork only a path with the process's number is written to. */
static void at_exit_of(const char *path_in_parent, bool child_has_one, const char *format) {
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        setenv("CAIRN_PROFILE", format, 1);
        for (unsigned i = 0; i < 20000; i++) site_middle();
        pid_t inner = fork();
        REQUIRE(inner >= 0);
        if (inner == 0) {
            for (unsigned i = 0; i < 20000; i++) site_cell();
            exit(0);
        }
        int status;
        waitpid(inner, &status, 0);
        char path[300];
        snprintf(path, sizeof path, path_in_parent, (long)inner);
        bool there = access(path, F_OK) == 0;
        if (there) {
            REQUIRE(sum_of(path, "site_cell") > 0);
            unlink(path);
        }
        if (there != child_has_one || status != 0) _exit(1);
        exit(0);
    }
    int status;
    REQUIRE_EQUAL(waitpid(pid, &status, 0), pid);
    REQUIRE_EQUAL(status, 0);
    char path[300];
    snprintf(path, sizeof path, path_in_parent, (long)pid);
    REQUIRE(sum_of(path, "site_middle") > 0);
    unlink(path);
}

static void a_child_of_fork_writes_a_file_of_its_own_or_none(void) {
    char format[300], path[300];
    snprintf(format, sizeof format, "%s", file_named("-100%%-%p.folded"));
    snprintf(path, sizeof path, "%s", file_named("-100%%-%ld.folded"));
    at_exit_of(path, true, format);
    snprintf(path, sizeof path, "%s", file_named("-one.folded"));
    at_exit_of(path, false, path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_stands_for_as_many_as_its_chance_says),
        cmocka_unit_test(libunwind_finds_the_callers_too),
        cmocka_unit_test(places_in_no_file_have_no_name),
        CHILD_TEST(sites_are_reported_in_the_proportion_of_their_bytes),
        CHILD_TEST(sites_are_reported_in_the_proportion_of_their_bytes, "CAIRN_NURSERY=256K"),
        CHILD_TEST(with_every_object_sampled_the_numbers_are_exact, "CAIRN_FIND_LEAKS=all"),
        CHILD_TEST(with_every_object_sampled_the_numbers_are_exact, "CAIRN_FIND_LEAKS=all",
            "CAIRN_STRESS=97", "CAIRN_VERIFY=1"),
        CHILD_TEST(sampling_begins_and_ends_where_the_program_says),
        CHILD_TEST(what_is_in_use_follows_the_objects, "CAIRN_FIND_LEAKS=all"),
        CHILD_TEST(what_is_in_use_follows_the_objects, "CAIRN_FIND_LEAKS=all", "CAIRN_VERIFY=1",
            "CAIRN_POISON=1", "CAIRN_BARRIER=none"),
        CHILD_TEST(what_is_in_use_follows_the_objects, "CAIRN_FIND_LEAKS=all", "CAIRN_STRESS=997",
            "CAIRN_VERIFY=1", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(the_random_program, "CAIRN_VERIFY=1", "CAIRN_STRESS=397"),
        CHILD_TEST(the_random_typed_program, "CAIRN_VERIFY=1"),
        CHILD_TEST(
            the_random_typed_program, "CAIRN_VERIFY=1", "CAIRN_STRESS=997", "CAIRN_BARRIER=none"),
        CHILD_TEST(threads_sample_at_once),
        CHILD_TEST(threads_sample_at_once, "CAIRN_STOP=safepoint", "CAIRN_VERIFY=1"),
        CHILD_TEST(two_threads_may_write_to_one_path),
        CHILD_TEST(files_are_written_while_others_collect, "CAIRN_STOP=safepoint"),
        CHILD_TEST(
            files_are_written_while_others_collect, "CAIRN_STOP=safepoint", "CAIRN_FIND_LEAKS=1"),
        CHILD_TEST(what_the_table_has_no_room_for_is_counted_as_unknown, "CAIRN_SITE_MEMORY=64K"),
        CHILD_TEST(stacks_are_cut_at_the_depth_of_the_option, "CAIRN_SITE_DEPTH=5"),
        CHILD_TEST(calls_at_the_wrong_time_are_refused),
        CHILD_SAYS(a_file_that_cant_be_written_is_named_and_changes_no_status,
            "the profile can't be written to /nonexistent/x.pb", "CAIRN_PROFILE=/nonexistent/x.pb"),
        CHILD_TEST(a_child_of_fork_writes_a_file_of_its_own_or_none),
        CHILD_SAYS(a_listener_may_end_the_program, "the profile can't be written to /nonexistent/",
            "CAIRN_PROFILE=/nonexistent/x.pb"),
        CHILD_SAYS(a_listener_may_end_the_program, "cairn: no leaks\n", "CAIRN_FIND_LEAKS=1"),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
