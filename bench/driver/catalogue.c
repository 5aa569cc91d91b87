/* Which allocators were built, and which workloads each offers.  The programs are found beside the
 * driver's own executable, in bench/. */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/driver/driver.h"

static const struct allocator known[] = {
    {.name = "cairn", .by_default = true, .has_workers = true},
    {.name = "boehm", .by_default = true}, {.name = "malloc", .by_default = true},
    {.name = "mimalloc", .by_default = true},
    {.name = "cairn-typed", .has_workers = true}, /* not bench/workloads/cairn/ */
    {.name = "cairn-calls", .has_workers = true}, /* cairn, out of line */
    {.name = "cairn-byte", .has_workers = true},  /* and with a byte more in each object */
    {.name = "boehm-cairn", .optional = true},    /* boehm, with Cairn's library */
    {.name = "ocaml", .optional = true},          /* has binary_trees only */
};

_Static_assert(sizeof known / sizeof *known <= MOST_ALLOCATORS, "all have an index");

static struct workload *find_or_add(struct catalogue *catalogue, const char *name) {
    for (int i = 0; i < catalogue->workload_count; i++)
        if (strcmp(catalogue->workloads[i].name, name) == 0) return &catalogue->workloads[i];
    if (catalogue->workload_count == MOST_WORKLOADS) {
        complain("more than %d workloads", MOST_WORKLOADS);
        exit(1);
    }
    struct workload *workload = &catalogue->workloads[catalogue->workload_count++];
    snprintf(workload->name, sizeof workload->name, "%s", name);
    return workload;
}

/* Reads the lines "name TAB summary TAB threads" in TEXT, which it takes apart.  The last column
 * may be missing. */
static void add_offers(struct catalogue *catalogue, int allocator, char *text) {
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        const char *name = strsep(&line, "\t"), *summary = strsep(&line, "\t");
        if (summary == NULL) continue;
        struct workload *workload = find_or_add(catalogue, name);
        workload->offered[allocator] = true;
        if (workload->summary[0] != '\0') continue;
        snprintf(workload->summary, sizeof workload->summary, "%s", summary);
        workload->threads = line != NULL ? atoi(line) : 0;
    }
}

/* The directory of the running executable. */
static void find_directory(char directory[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", directory, PATH_MAX - 1);
    if (length <= 0) {
        complain("can't read /proc/self/exe");
        exit(1);
    }
    directory[length] = '\0';
    *strrchr(directory, '/') = '\0';
}

void catalogue_load(struct catalogue *catalogue) {
    char directory[PATH_MAX];
    find_directory(directory);
    *catalogue = (struct catalogue){.allocator_count = sizeof known / sizeof *known};
    memcpy(catalogue->allocators, known, sizeof known);
    for (int i = 0; i < catalogue->allocator_count; i++) {
        struct allocator *allocator = &catalogue->allocators[i];
        char *program = NULL;
        if (asprintf(&program, "%s/bench/bench-%s", directory, allocator->name) < 0) abort();
        if (access(program, X_OK) != 0) {
            free(program);
            continue;
        }
        allocator->program = program;
        char *arguments[] = {program, "list", NULL};
        struct child_result result;
        int stopped = child_run(arguments, NULL, 10, &result);
        if (stopped != 0) child_end_by_signal(stopped);
        if (!result.ok) {
            complain("%s list: %s", program, result.error);
            exit(1);
        }
        add_offers(catalogue, i, result.output);
    }
    if (catalogue->workload_count == 0) {
        complain("no programs in %s/bench", directory);
        exit(1);
    }
}
