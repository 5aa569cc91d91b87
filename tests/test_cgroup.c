/* What the machine and the cgroup let the process have: the files of both versions of cgroups, made
 * up in a directory of the test's own, the affinity mask, and a real cgroup where one may be made.
 */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cgroup.h"
#include "runtime/vm.h"

#define NONE UINT64_MAX

/* ---- A machine made up ---------------------------------------------------------------------- */

static char root[] = "/tmp/cairn-test-XXXXXX";

/* Creates or replaces the file PATH, below the root, and the directories on the way. */
static void write_file(const char *path, const char *text) {
    char whole[4096];
    int length = snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *slash = whole + sizeof root; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        REQUIRE(mkdir(whole, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    REQUIRE(length > 0 && (size_t)length < sizeof whole);
    FILE *file = fopen(whole, "w");
    REQUIRE(file != NULL);
    fputs(text, file);
    REQUIRE_EQUAL(fclose(file), 0);
}

/* The two files of /proc.  In MOUNTS, # is the root. */
static void be_in(const char *membership, const char *mounts) {
    char text[16384];
    size_t length = 0;
    for (; *mounts; mounts++) {
        if (*mounts == '#') {
            length += (size_t)snprintf(text + length, sizeof text - length, "%s", root);
        } else {
            text[length++] = *mounts;
        }
        REQUIRE(length < sizeof text - sizeof root);
    }
    text[length] = '\0';
    write_file("membership", membership);
    write_file("mounts", text);
}

static uint64_t limit(enum gci_cgroup_resource resource) {
    char membership[64], mounts[64];
    snprintf(membership, sizeof membership, "%s/membership", root);
    snprintf(mounts, sizeof mounts, "%s/mounts", root);
    return gci_cgroup_limit_by(resource, membership, mounts);
}

#define REQUIRE_LIMIT(resource, value) REQUIRE_EQUAL(limit(resource), value)

static void begin(void) {
    REQUIRE(mkdtemp(root) != NULL);
}

static void end(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    REQUIRE_EQUAL(system(command), 0);
}

#define V2 "31 23 0:28 / #/v2 rw,relatime shared:1 - cgroup2 cgroup2 rw\n"

static void a_quota_is_rounded_up_to_whole_cpus(void) {
    static const struct {
        const char *text;
        uint64_t cpus;
    } cases[] = {{"max 100000\n", NONE}, {"100000 100000\n", 1}, {"100001 100000\n", 2},
        {"1000 100000\n", 1}, {"250000 100000\n", 3}, {"6400000 100000", 64}, {"15000 10000\n", 2},
        {"", NONE}, {"100000\n", NONE}, {"100000 0\n", NONE}, {"0 100000\n", NONE},
        {"many 100000\n", NONE}, {"100000 some\n", NONE}, {"-1 100000\n", NONE},
        {"99999999999999999999999 1\n", NONE}, {"200000  100000\n", NONE}};
    begin();
    be_in("0::/service\n", V2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("v2/service/cpu.max", cases[i].text);
        REQUIRE_LIMIT(GCI_CGROUP_CPUS, cases[i].cpus);
    }
    end();
}

static void a_quota_of_version_1_has_two_files(void) {
    static const struct {
        const char *quota, *period;
        uint64_t cpus;
    } cases[] = {{"-1\n", "100000\n", NONE}, {"100000\n", "100000\n", 1},
        {"150000\n", "100000\n", 2}, {"1000\n", "1000000\n", 1}, {"400000\n", "", NONE},
        {"", "100000\n", NONE}, {"400000\n", "0\n", NONE}};
    begin();
    be_in("5:cpu,cpuacct:/service\n4:memory:/elsewhere\n",
        "33 31 0:30 / #/v1 rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("v1/service/cpu.cfs_quota_us", cases[i].quota);
        write_file("v1/service/cpu.cfs_period_us", cases[i].period);
        REQUIRE_LIMIT(GCI_CGROUP_CPUS, cases[i].cpus);
    }
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, NONE);
    end();
}

static void memory_limits_of_both_versions_are_read(void) {
    begin();
    be_in("4:memory:/a\n0::/b\n", V2 "35 31 0:32 / #/v1 rw - cgroup cgroup rw,memory\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, NONE);
    write_file("v2/b/memory.max", "max\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, NONE);
    write_file("v1/a/memory.limit_in_bytes", "9223372036854771712\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, NONE);
    write_file("v2/b/memory.max", "536870912\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 536870912);
    write_file("v1/a/memory.limit_in_bytes", "268435456\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 268435456);
    write_file("v1/a/memory.limit_in_bytes", "18446744073709551617\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 536870912);
    end();
}

static void every_level_up_to_the_root_counts(void) {
    begin();
    be_in("0::/a/b/c\n", V2);
    write_file("v2/a/b/c/cpu.max", "800000 100000\n");
    write_file("v2/a/b/c/memory.max", "800\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 8);
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 800);
    write_file("v2/a/cpu.max", "20000 10000\n");
    write_file("v2/a/memory.max", "700\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 2);
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 700);
    write_file("v2/cpu.max", "50000 100000\n");
    write_file("v2/memory.max", "600\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 1);
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 600);
    write_file("v2/a/x/cpu.max", "1 100000\n");
    write_file("v2/a/x/memory.max", "1\n");
    REQUIRE_LIMIT(GCI_CGROUP_MEMORY, 600);
    end();
}

/* A container sees its own cgroup at the top of the mount. */
static void a_mount_may_show_a_part_of_the_hierarchy(void) {
    begin();
    be_in("0::/docker/12ab/service\n",
        "31 23 0:28 /docker/12ab #/v2 rw shared:1 master:2 - cgroup2 cgroup2 rw\n");
    write_file("v2/service/cpu.max", "300000 100000\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 3);
    be_in("0::/docker/12abc\n", "31 23 0:28 /docker/12ab #/v2 rw - cgroup2 cgroup2 rw\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, NONE);
    write_file("v2/cpu.max", "400000 100000\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 4);
    be_in("0::/../other\n", V2);
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 4);
    end();
}

static void names_with_spaces_are_understood(void) {
    begin();
    be_in("0::/my service\n", "31 23 0:28 / #/v\\0402\\134x rw - cgroup2 cgroup2 rw\n");
    write_file("v 2\\x/my service/cpu.max", "300000 100000\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 3);
    end();
}

static void what_cannot_be_understood_limits_nothing(void) {
    static char text[16000];
    begin();
    write_file("v2/cpu.max", "300000 100000\n");
    be_in("", V2);
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, NONE);
    be_in("0\nx:\n:\n::\n\n0:cpu:/v2\n", V2);
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, NONE);
    be_in("0::/\n", "\n-\n31\n31 23 0:28 / #/v2\n31 23 0:28 / #/v2 rw -\n- - - - - - - - -\n");
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, NONE);
    be_in("0::/\n", V2);
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 3);
    /* Lines beyond every buffer, and others after them. */
    memset(text, 'x', 9000);
    snprintf(text + 9000, 100, "\n%s", "0::/a\n");
    be_in(text, V2);
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, 3);
    memset(text, 'x', 9000);
    memcpy(text, "0::/", 4);
    strcpy(text + 3000, "\n");
    be_in(text, V2);
    REQUIRE_LIMIT(GCI_CGROUP_CPUS, NONE);
    end();
}

/* ---- This machine --------------------------------------------------------------------------- */

static void the_cpus_are_those_of_the_affinity_mask(void) {
    cpu_set_t allowed;
    unsigned all = gci_cpu_count();
    REQUIRE(all >= 1);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) child_skip("a very large machine");
    REQUIRE(all <= (unsigned)CPU_COUNT(&allowed));
    int first = 0;
    while (!CPU_ISSET(first, &allowed)) first++;
    CPU_ZERO(&allowed);
    CPU_SET(first, &allowed);
    REQUIRE_EQUAL(sched_setaffinity(0, sizeof allowed, &allowed), 0);
    REQUIRE_EQUAL(gci_cpu_count(), 1);
}

static void the_memory_limit_is_at_most_the_machine_s(void) {
    size_t machine = gci_vm_memory_limit(false), limited = gci_vm_memory_limit(true);
    REQUIRE(machine >= 1 << 20 && machine != SIZE_MAX);
    REQUIRE(limited <= machine);
    uint64_t cgroup = gci_cgroup_limit(GCI_CGROUP_MEMORY);
    REQUIRE_EQUAL(limited, cgroup < machine ? cgroup : machine);
}

static bool write_number(const char *directory, const char *name, const char *text) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) close(fd);
    return written;
}

/* The process moves into a cgroup of its own, and out again so that this can be removed. */
static bool checked_in_cgroup(const char *parent, bool v2) {
    char own[4096], self[32];
    snprintf(own, sizeof own, "%s/cairn-test-%d", parent, (int)getpid());
    snprintf(self, sizeof self, "%d", (int)getpid());
    if (mkdir(own, 0755) != 0) return false;
    bool limited = v2 ? write_number(own, "cpu.max", "50000 100000")
                      : write_number(own, "cpu.cfs_quota_us", "50000");
    bool in = limited && write_number(own, "cgroup.procs", self);
    uint64_t cpus = in ? gci_cgroup_limit(GCI_CGROUP_CPUS) : 0;
    unsigned count = in ? gci_cpu_count() : 0;
    if (in) write_number(parent, "cgroup.procs", self);
    rmdir(own);
    if (!in) return false;
    REQUIRE_EQUAL(cpus, 1);
    REQUIRE_EQUAL(count, 1);
    return true;
}

static void a_quota_of_a_real_cgroup_holds(void) {
    if (checked_in_cgroup("/sys/fs/cgroup/cpu", false)) return;
    if (checked_in_cgroup("/sys/fs/cgroup", true)) return;
    child_skip("no cgroup with a CPU quota can be made here");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_quota_is_rounded_up_to_whole_cpus),
        CHILD_TEST(a_quota_of_version_1_has_two_files),
        CHILD_TEST(memory_limits_of_both_versions_are_read),
        CHILD_TEST(every_level_up_to_the_root_counts),
        CHILD_TEST(a_mount_may_show_a_part_of_the_hierarchy),
        CHILD_TEST(names_with_spaces_are_understood),
        CHILD_TEST(what_cannot_be_understood_limits_nothing),
        CHILD_TEST(the_cpus_are_those_of_the_affinity_mask),
        CHILD_TEST(the_memory_limit_is_at_most_the_machine_s),
        CHILD_TEST(a_quota_of_a_real_cgroup_holds),
    };
    return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
