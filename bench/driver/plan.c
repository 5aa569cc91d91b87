/* Which allocators were built, which workloads each offers, and which of them the user wants.  The
 * programs are found beside the driver's own executable, in bench/. */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/driver/driver.h"

static const struct allocator known[] = {
    {.name = "cairn", .by_default = true}, {.name = "boehm", .by_default = true},
    {.name = "malloc", .by_default = true}, {.name = "mimalloc", .by_default = true},
    {.name = "ocaml", .optional = true}, /* has binary_trees only */
};

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

/* Reads the lines "name TAB summary" in TEXT, which it takes apart. */
static void add_offers(struct catalogue *catalogue, int allocator, char *text) {
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *summary = strchr(line, '\t');
        if (summary == NULL) continue;
        *summary++ = '\0';
        struct workload *workload = find_or_add(catalogue, line);
        workload->offered[allocator] = true;
        if (workload->summary[0] == '\0')
            snprintf(workload->summary, sizeof workload->summary, "%s", summary);
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
        int stopped = child_run(arguments, 10, &result);
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

/* Ends the line that complain_unknown() began. */
static void name_accepted(const struct catalogue *catalogue, bool workloads) {
    int count = workloads ? catalogue->workload_count : catalogue->allocator_count;
    for (int i = 0; i < count; i++) {
        const char *name = workloads ? catalogue->workloads[i].name : catalogue->allocators[i].name;
        fprintf(stderr, "%s %s", i == 0 ? "" : ",", name);
    }
    fputs(workloads ? ", all\n" : "\n", stderr);
}

static void complain_unknown(const struct catalogue *catalogue, bool workloads, const char *name) {
    fprintf(stderr, "cairn-bench: there is no %s '%s'; accepted are",
        workloads ? "workload" : "allocator", name);
    name_accepted(catalogue, workloads);
}

/* Adds INDEX to the COUNT numbers in CHOSEN unless it's there. */
static void choose(int *chosen, int *count, int index) {
    for (int i = 0; i < *count; i++)
        if (chosen[i] == index) return;
    chosen[(*count)++] = index;
}

bool plan_workloads(struct plan *plan, const struct catalogue *catalogue, const char *list) {
    char *copy = strdup(list), *rest = copy, *name;
    bool good = true;
    while (good && (name = strsep(&rest, ",")) != NULL) {
        bool all = strcmp(name, "all") == 0, found = false;
        for (int i = 0; i < catalogue->workload_count; i++) {
            if (!all && strcmp(catalogue->workloads[i].name, name) != 0) continue;
            choose(plan->workloads, &plan->workload_count, i);
            found = true;
        }
        if (!found) complain_unknown(catalogue, true, name);
        good = found;
    }
    free(copy);
    return good;
}

/* Returns false with a message when the allocator can't be had though it should. */
static bool plan_allocator(struct plan *plan, const struct catalogue *catalogue, int index) {
    const struct allocator *allocator = &catalogue->allocators[index];
    if (allocator->program != NULL) {
        choose(plan->allocators, &plan->allocator_count, index);
        return true;
    }
    complain("%s was not built (what it needs was not installed)%s", allocator->name,
        allocator->optional ? "; skipped" : "");
    return allocator->optional;
}

bool plan_allocators(struct plan *plan, const struct catalogue *catalogue, const char *list) {
    if (list == NULL) {
        for (int i = 0; i < catalogue->allocator_count; i++) {
            const struct allocator *allocator = &catalogue->allocators[i];
            if (allocator->by_default && allocator->program != NULL)
                choose(plan->allocators, &plan->allocator_count, i);
        }
        return true;
    }
    char *copy = strdup(list), *rest = copy, *name;
    bool good = true;
    while (good && (name = strsep(&rest, ",")) != NULL) {
        int i = 0;
        while (i < catalogue->allocator_count && strcmp(catalogue->allocators[i].name, name) != 0)
            i++;
        if (i == catalogue->allocator_count) complain_unknown(catalogue, false, name);
        good = i < catalogue->allocator_count && plan_allocator(plan, catalogue, i);
    }
    free(copy);
    return good;
}
