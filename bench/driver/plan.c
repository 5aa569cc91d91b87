/* What the user wants: which workloads with how many threads, and which allocators, Cairn with how
 * many workers. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "bench/driver/driver.h"

static bool counts_contain(const struct counts *counts, long value) {
    for (int i = 0; i < counts->count; i++)
        if (counts->value[i] == value) return true;
    return false;
}

bool counts_parse(struct counts *counts, const char *option, const char *list) {
    *counts = (struct counts){0};
    for (const char *rest = list;; rest++) {
        char *end;
        long value = strtol(rest, &end, 10);
        if (end == rest || (*end != '\0' && *end != ',') || value < 1 || value > LARGEST_COUNT) {
            complain("%s takes whole numbers from 1 to %d with commas between them, not '%s'",
                option, LARGEST_COUNT, list);
            return false;
        }
        if (counts->count == MOST_COUNTS) {
            complain("%s takes at most %d numbers", option, MOST_COUNTS);
            return false;
        }
        if (!counts_contain(counts, value)) counts->value[counts->count++] = (int)value;
        rest = end;
        if (*rest == '\0') return true;
    }
}

static bool counts_only_one(const struct counts *counts) {
    for (int i = 0; i < counts->count; i++)
        if (counts->value[i] != 1) return false;
    return true;
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

static void complain_single_threaded(const struct catalogue *catalogue, const char *name) {
    fprintf(stderr, "cairn-bench: %s is single-threaded; --threads is for", name);
    const char *before = " ";
    for (int i = 0; i < catalogue->workload_count; i++) {
        if (catalogue->workloads[i].threads == 0) continue;
        fprintf(stderr, "%s%s", before, catalogue->workloads[i].name);
        before = ", ";
    }
    fputc('\n', stderr);
}

/* Adds WORKLOAD with each of THREADS unless it's there. */
static void add_tasks(struct plan *plan, const struct catalogue *catalogue, int workload,
    const struct counts *threads) {
    for (int i = 0; i < plan->task_count; i++)
        if (plan->tasks[i].workload == workload) return;
    int usual = catalogue->workloads[workload].threads;
    if (usual == 0 || threads->count == 0) {
        plan->tasks[plan->task_count++] = (struct task){workload, usual == 0 ? 1 : usual};
        return;
    }
    for (int i = 0; i < threads->count; i++)
        plan->tasks[plan->task_count++] = (struct task){workload, threads->value[i]};
}

/* Those that can't have THREADS are left out with a note. */
static void add_all(
    struct plan *plan, const struct catalogue *catalogue, const struct counts *threads) {
    int left_out = 0;
    for (int i = 0; i < catalogue->workload_count; i++) {
        if (catalogue->workloads[i].threads != 0 || counts_only_one(threads)) {
            add_tasks(plan, catalogue, i, threads);
            continue;
        }
        fprintf(stderr, "%s %s",
            left_out++ == 0 ? "cairn-bench: left out as single-threaded:" : ",",
            catalogue->workloads[i].name);
    }
    if (left_out > 0) fputc('\n', stderr);
}

static bool add_named(struct plan *plan, const struct catalogue *catalogue, const char *name,
    const struct counts *threads) {
    int i = 0;
    while (i < catalogue->workload_count && strcmp(catalogue->workloads[i].name, name) != 0) i++;
    if (i == catalogue->workload_count) {
        complain_unknown(catalogue, true, name);
        return false;
    }
    if (catalogue->workloads[i].threads == 0 && !counts_only_one(threads)) {
        complain_single_threaded(catalogue, name);
        return false;
    }
    add_tasks(plan, catalogue, i, threads);
    return true;
}

bool plan_tasks(struct plan *plan, const struct catalogue *catalogue, const char *list,
    const struct counts *threads) {
    char *copy = strdup(list), *rest = copy, *name;
    bool good = true;
    while (good && (name = strsep(&rest, ",")) != NULL) {
        if (strcmp(name, "all") == 0)
            add_all(plan, catalogue, threads);
        else
            good = add_named(plan, catalogue, name, threads);
    }
    free(copy);
    return good;
}

/* Adds ALLOCATOR, with each of WORKERS if it has any, unless it's there. */
static void add_contenders(struct plan *plan, const struct catalogue *catalogue, int allocator,
    const struct counts *workers) {
    for (int i = 0; i < plan->contender_count; i++)
        if (plan->contenders[i].allocator == allocator) return;
    if (!catalogue->allocators[allocator].has_workers || workers->count == 0) {
        plan->contenders[plan->contender_count++] = (struct contender){allocator, 0};
        return;
    }
    for (int i = 0; i < workers->count; i++)
        plan->contenders[plan->contender_count++] =
            (struct contender){allocator, workers->value[i]};
}

/* Returns false with a message when the allocator can't be had though it should. */
static bool add_allocator(struct plan *plan, const struct catalogue *catalogue, const char *name,
    const struct counts *workers) {
    int i = 0;
    while (i < catalogue->allocator_count && strcmp(catalogue->allocators[i].name, name) != 0) i++;
    if (i == catalogue->allocator_count) {
        complain_unknown(catalogue, false, name);
        return false;
    }
    const struct allocator *allocator = &catalogue->allocators[i];
    if (allocator->program != NULL) {
        add_contenders(plan, catalogue, i, workers);
        return true;
    }
    complain("%s was not built (what it needs was not installed)%s", allocator->name,
        allocator->optional ? "; skipped" : "");
    return allocator->optional;
}

static bool add_allocators(struct plan *plan, const struct catalogue *catalogue, const char *list,
    const struct counts *workers) {
    if (list == NULL) {
        for (int i = 0; i < catalogue->allocator_count; i++) {
            const struct allocator *allocator = &catalogue->allocators[i];
            if (allocator->by_default && allocator->program != NULL)
                add_contenders(plan, catalogue, i, workers);
        }
        return true;
    }
    char *copy = strdup(list), *rest = copy, *name;
    bool good = true;
    while (good && (name = strsep(&rest, ",")) != NULL)
        good = add_allocator(plan, catalogue, name, workers);
    free(copy);
    return good;
}

bool plan_contenders(struct plan *plan, const struct catalogue *catalogue, const char *list,
    const struct counts *workers) {
    if (!add_allocators(plan, catalogue, list, workers)) return false;
    if (workers->count == 0) return true;
    for (int i = 0; i < plan->contender_count; i++)
        if (plan->contenders[i].workers != 0) return true;
    complain("--workers is for cairn and cairn-typed, and neither is among the allocators");
    return false;
}
