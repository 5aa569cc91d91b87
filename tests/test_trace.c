/* The timeline: a program's file is whole whenever it is looked at, a parser that isn't ours reads
 * it, and what goes wrong with it is said once and harms nobody.  And the USDT probes, which a tool
 * that isn't ours finds in the library and in a program. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "runtime/probe.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

/* ---- Files ---------------------------------------------------------------------------------- */

/* A directory of this test's own, which main() makes and removes. */
static char directory[] = "/tmp/cairn-trace-XXXXXX";
static char path[300];

static const char *in_directory(const char *name) {
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static bool has(const char *command) {
    char line[200];
    snprintf(line, sizeof line, "command -v %s >/dev/null 2>&1", command);
    return system(line) == 0;
}

/* COUNTS: as check_trace.py wants them. */
static void check_file(const char *name, const char *counts) {
    char line[700];
    if (!has("python3")) child_skip("there is no python3 to read JSON with");
    snprintf(line, sizeof line, "python3 tests/check_trace.py %s %s", name, counts);
    REQUIRE_EQUAL(system(line), 0);
}

static bool exists(const char *name) {
    struct stat found;
    return stat(name, &found) == 0;
}

static void run_model(uint64_t steps) {
    struct typed_plan plan = typed_model_usual_plan(7);
    struct typed_result result;
    plan.steps = steps;
    plan.compacts = true;
    typed_model_run(&plan, &result);
}

/* ---- What is in it -------------------------------------------------------------------------- */

static void *collects_too(void *unused) {
    pthread_setname_np(pthread_self(), "\xc3\xa4 \"\\\t\x80");
    for (unsigned i = 0; i < 40; i++) {
        REQUIRE(gc_alloc(1000) != NULL);
        collect(i % 8 == 0 ? GC_FULL : GC_MINOR);
        sleep_ms(0);
    }
    return unused;
}

static void a_parser_reads_the_whole_timeline(void) {
    const char *name = in_directory("whole.json");
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    pthread_t thread = start_thread(collects_too, NULL);
    run_model(20000);
    end_thread(thread);
    collect(GC_COMPACT);
    REQUIRE(gc_alloc((size_t)1 << 46) == NULL);
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    check_file(name, "collections=40 compact=1 minor=10 full=5 heap=80 nursery=40 thread_name=2 "
                     "'out of memory=1' 'heap grown=1' 'memory returned=1' 'thread attached=1' "
                     "'thread detached=1' compact=1");
    char line[400];
    snprintf(line, sizeof line, "grep -qF '\"\xc3\xa4 \\\"\\\\\\u0009\xef\xbf\xbd\"' %s", name);
    REQUIRE_EQUAL(system(line), 0);
}

static void a_collection_that_promotes_everything_is_in_it(void) {
    static void **volatile list;
    const char *name = in_directory("grows.json");
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    /* Some of the first may be full ones, which seem cheap to a program that was preempted. */
    for (unsigned i = 0; i < 100000 || (i < 2000000 && statistics().minor.count < 8); i++) {
        void **item = gc_alloc(64);
        *item = list;
        list = item;
    }
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    check_file(name, "minor=4");
    char line[400];
    snprintf(line, sizeof line, "grep -q '\"promoted_all\":true' %s", name);
    REQUIRE_EQUAL(system(line), 0);
}

static void a_second_timeline_is_one_of_its_own(void) {
    const char *name = in_directory("first.json");
    REQUIRE_EQUAL(gc_trace_stop(), ENOENT);
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_trace_start(name), EALREADY);
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    REQUIRE_EQUAL(gc_trace_stop(), ENOENT);
    collect(GC_FULL);
    check_file(name, "full=1");
    REQUIRE_EQUAL(gc_trace_start(name), 0); /* the same file, made empty */
    collect(GC_MINOR);
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    check_file(name, "minor=1");
    struct stat before, after;
    REQUIRE(stat(name, &before) == 0);
    collect(GC_FULL);
    REQUIRE(stat(name, &after) == 0 && before.st_size == after.st_size);
}

/* ---- Ends of programs ----------------------------------------------------------------------- */

static void works_and_ends_by(void (*end)(void)) {
    pid_t child = fork();
    int status;
    REQUIRE(child >= 0);
    if (child == 0) {
        run_model(5000);
        collect(GC_FULL);
        end();
    }
    REQUIRE(waitpid(child, &status, 0) == child);
}

static void end_by_exit(void) {
    exit(0);
}

static void end_at_once(void) {
    _exit(0);
}

static void end_by_kill(void) {
    raise(SIGKILL);
}

/* The option's variable is set by who runs this. */
static void the_file_is_whole_however_the_program_ends(void) {
    const char *name = in_directory("end.json");
    setenv("CAIRN_TRACE", name, 1);
    works_and_ends_by(end_by_exit);
    check_file(name, "collections=2 full=1");
    unlink(name);
    works_and_ends_by(end_at_once);
    check_file(name, "collections=2 full=1");
    unlink(name);
    works_and_ends_by(end_by_kill);
    check_file(name, "collections=2 full=1");
}

static void the_file_is_whole_while_the_program_runs(void) {
    const char *name = in_directory("running.json");
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    for (unsigned i = 1; i <= 3; i++) {
        char wish[40];
        collect(GC_FULL);
        snprintf(wish, sizeof wish, "full=%u", i);
        check_file(name, wish);
    }
}

/* ---- Fork ----------------------------------------------------------------------------------- */

static void fork_and_collect(char *name_of_child, const char *format) {
    int status;
    collect(GC_FULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        collect(GC_MINOR);
        collect(GC_MINOR);
        exit(0);
    }
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    collect(GC_FULL);
    char name[40];
    snprintf(name, sizeof name, format, (int)child);
    snprintf(name_of_child, 300, "%s/%s", directory, name);
}

static void a_child_leaves_its_parents_file_alone(void) {
    char name[300], of_child[300];
    strcpy(name, in_directory("parent.json"));
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    fork_and_collect(of_child, "%d");
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    check_file(name, "full=2");
    char line[700];
    snprintf(line, sizeof line, "! grep -q minor %s", name);
    REQUIRE_EQUAL(system(line), 0);
    REQUIRE(!exists(of_child));
}

static void a_child_has_a_file_of_its_own_if_the_name_says_so(void) {
    char name[300], of_child[300], mine[300], own[40];
    snprintf(name, sizeof name, "%s/p%%p-100%%%%.json", directory);
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    fork_and_collect(of_child, "p%d-100%%.json");
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    snprintf(own, sizeof own, "p%d-100%%.json", (int)getpid());
    strcpy(mine, in_directory(own));
    check_file(mine, "full=2");
    check_file(of_child, "minor=2");
    int status;
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    pid_t child = fork(); /* one that doesn't collect leaves nothing behind */
    REQUIRE(child >= 0);
    if (child == 0) exit(0);
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    snprintf(own, sizeof own, "p%d-100%%.json", (int)child);
    REQUIRE(!exists(in_directory(own)));
}

/* ---- What goes wrong ------------------------------------------------------------------------ */

static void names_that_cannot_be_are_refused(void) {
    char long_name[5000];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    REQUIRE_EQUAL(gc_trace_start(NULL), EINVAL);
    REQUIRE_EQUAL(gc_trace_start(""), EINVAL);
    REQUIRE_EQUAL(gc_trace_start(long_name), EINVAL);
    REQUIRE_EQUAL(gc_trace_start("/tmp/%d.json"), EINVAL);
    REQUIRE_EQUAL(gc_trace_start("/tmp/%"), EINVAL);
    REQUIRE_EQUAL(gc_trace_start("/no/such/directory/x"), ENOENT);
    REQUIRE_EQUAL(gc_trace_start(directory), EISDIR);
    const char *pipe = in_directory("pipe");
    REQUIRE_EQUAL(mkfifo(pipe, 0600), 0);
    REQUIRE_EQUAL(gc_trace_start(pipe), ENXIO);
    int reader = open(pipe, O_RDONLY | O_NONBLOCK);
    REQUIRE_EQUAL(gc_trace_start(pipe), EINVAL);
    close(reader);
    REQUIRE_EQUAL(gc_trace_stop(), ENOENT);
    REQUIRE_EQUAL(gc_trace_start("/dev/null"), 0);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    REQUIRE_EQUAL(gc_trace_start("/dev/full"), ENOSPC);
    collect(GC_FULL);
}

static void a_program_goes_on_without(void) {
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_trace_stop(), ENOENT);
}

/* The limit is reached after a while, and lifted again. */
static void a_write_that_fails_is_told_of_once(void) {
    const char *name = in_directory("limited.json");
    struct rlimit limit = {8192, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    REQUIRE_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    collect_times(40);
    REQUIRE_EQUAL(setrlimit(RLIMIT_FSIZE, &none), 0);
    collect_times(4);
    struct stat found;
    REQUIRE(stat(name, &found) == 0 && found.st_size <= 8192);
    REQUIRE_EQUAL(gc_trace_stop(), EFBIG);
    REQUIRE_EQUAL(gc_trace_stop(), ENOENT);
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_trace_stop(), 0);
    check_file(name, "full=1");
}

static void a_write_that_fails(void) {
    struct child_result result;
    child_run(&result, a_write_that_fails_is_told_of_once, NULL);
    REQUIRE_EQUAL(result.status, 0);
    const char *told = strstr(result.output, "the timeline ends: can't write");
    REQUIRE(told != NULL && strstr(told, "File too large") != NULL);
    REQUIRE(strstr(told + 30, "can't write") == NULL);
}

/* A program that closes what it doesn't know, and opens a file of its own. */
static void a_descriptor_that_became_another_file_is_not_written_to(void) {
    const char *name = in_directory("lost.json");
    REQUIRE_EQUAL(gc_trace_start(name), 0);
    collect(GC_FULL);
    for (int fd = 3; fd < 64; fd++) close(fd);
    for (int i = 0; i < 20; i++) REQUIRE(open(in_directory("mine"), O_RDWR | O_CREAT, 0600) >= 0);
    collect_times(4);
    REQUIRE_EQUAL(gc_trace_stop(), EBADF);
    struct stat found;
    REQUIRE(stat(in_directory("mine"), &found) == 0 && found.st_size == 0);
    check_file(in_directory("lost.json"), "full=1");
}

/* ---- Probes --------------------------------------------------------------------------------- */

static void count_probes(const char *file) {
    static const char *const names[] = {"collection__begin", "collection__end", "phase__begin",
        "phase__end", "heap__grow", "heap__return", "out__of__memory", "alloc__slow",
        "thread__attach", "thread__detach"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char line[1000];
        snprintf(line, sizeof line,
            "readelf -n %s | grep -A1 'Provider: cairn$' | grep -q 'Name: %s$'", file, names[i]);
        if (system(line) != 0) child_fail(__FILE__, __LINE__, "no probe %s in %s", names[i], file);
    }
}

static void a_tool_finds_the_probes(void) {
    if (!GCI_HAS_PROBES) child_skip("there was no <sys/sdt.h>");
    if (!has("readelf")) child_skip("there is no readelf");
    char self[300] = {0}; /* this program, which has the library in it */
    REQUIRE(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    count_probes(self);
    const char *shared = getenv("CAIRN_TEST_SHARED");
    if (shared != NULL) count_probes(shared);
}

int main(void) {
    if (mkdtemp(directory) == NULL) return 1;
    const struct CMUnitTest tests[] = {CHILD_TEST(a_parser_reads_the_whole_timeline),
        CHILD_TEST(a_parser_reads_the_whole_timeline, "CAIRN_VERIFY=1", "CAIRN_STRESS=200",
            "CAIRN_BARRIER=none"),
        CHILD_TEST(a_collection_that_promotes_everything_is_in_it, "CAIRN_NURSERY=1M"),
        CHILD_TEST(a_second_timeline_is_one_of_its_own),
        CHILD_TEST(the_file_is_whole_however_the_program_ends),
        CHILD_TEST(the_file_is_whole_while_the_program_runs),
        CHILD_TEST(a_child_leaves_its_parents_file_alone),
        CHILD_TEST(a_child_has_a_file_of_its_own_if_the_name_says_so),
        CHILD_TEST(names_that_cannot_be_are_refused),
        CHILD_SAYS(a_program_goes_on_without,
            "ignored the option trace, \"%x\"; accepted:", "CAIRN_TRACE=%x"),
        CHILD_SAYS(a_program_goes_on_without, "can't write /no/such/x: No such file or directory",
            "CAIRN_TRACE=/no/such/x"),
        CHILD_TEST(a_program_goes_on_without, "CAIRN_TRACE="), CHILD_TEST(a_write_that_fails),
        CHILD_TEST(a_descriptor_that_became_another_file_is_not_written_to),
        CHILD_TEST(a_tool_finds_the_probes)};
    int failed = cmocka_run_group_tests_name("trace", tests, NULL, NULL);
    char line[100];
    snprintf(line, sizeof line, "rm -rf %s", directory);
    if (system(line) != 0) return 1;
    return failed;
}
