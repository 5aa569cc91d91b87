/* The parts of cairn-bench: main.c reads the command line and runs the combinations, child.c runs
 * one process, plan.c knows which programs there are and what they offer, results.c prints. */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What is known of one run: first what the driver measures, then what the child counts.  NaN: not
 * known. */
enum metric { WALL_S, CPU_S, PEAK_RSS_KB, MINOR, FULL, PAUSE_P50, PAUSE_P99, PAUSE_MAX, METRICS };
extern const char *const metric_names[METRICS];

/* ---- child.c ----------------------------------------------------------------------------- */

struct child_result {
    bool ok;
    char error[200];       /* says what went wrong unless OK */
    char output[8192];     /* what it wrote to its standard output, zero-terminated */
    double value[METRICS]; /* the first three; the rest NaN */
};

/* Before the first child_run(): the signals it waits for are blocked from here on. */
void child_setup(void);

/* Runs the program ARGUMENTS[0] to its end, or kills it after TIMEOUT_S seconds.  Returns 0, or the
 * number of the signal that asked the driver to stop (the child is gone then, too). */
int child_run(char *const *arguments, double timeout_s, struct child_result *result);

/* Ends the driver the way signal NUMBER would have. */
_Noreturn void child_end_by_signal(int number);

/* ---- plan.c ------------------------------------------------------------------------------ */

enum { MOST_WORKLOADS = 64, MOST_ALLOCATORS = 8, NAME_ROOM = 32 };

struct workload {
    char name[NAME_ROOM];
    char summary[128];
    bool offered[MOST_ALLOCATORS]; /* by the allocator with that index */
};

struct allocator {
    const char *name;
    bool optional; /* skipped without an error when it wasn't built */
    bool by_default;
    char *program; /* NULL if it wasn't built */
};

/* All that was built. */
struct catalogue {
    struct allocator allocators[MOST_ALLOCATORS];
    int allocator_count;
    struct workload workloads[MOST_WORKLOADS];
    int workload_count;
};

/* What was asked for: indices into the catalogue. */
struct plan {
    int workloads[MOST_WORKLOADS];
    int workload_count;
    int allocators[MOST_ALLOCATORS];
    int allocator_count;
};

/* Looks for the programs beside this one and asks each what it offers.  Exits with a message when
 * there are none or one doesn't answer. */
void catalogue_load(struct catalogue *catalogue);

/* Fill the plan from the user's comma-separated lists.  A name that isn't known is an error that
 * names those that are; then they return false. */
bool plan_workloads(struct plan *plan, const struct catalogue *catalogue, const char *list);
bool plan_allocators(struct plan *plan, const struct catalogue *catalogue, const char *list);

/* ---- results.c --------------------------------------------------------------------------- */

/* All runs of one combination. */
struct series {
    double *value[METRICS]; /* one for each good run */
    double median[METRICS]; /* NaN without good runs */
    int runs;               /* good ones */
    int failed;
};

struct results {
    const struct catalogue *catalogue;
    const struct plan *plan;
    struct series series[MOST_WORKLOADS][MOST_ALLOCATORS]; /* by position in the plan */
    double scale;
};

void series_add(struct series *series, const double value[METRICS]);

/* Works out the medians. */
void results_finish(struct results *results);
void results_print(const struct results *results, FILE *out);
void results_write_json(const struct results *results, FILE *out);

/* Prints "cairn-bench: " and the message on stderr. */
void complain(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

#endif /* BENCH_DRIVER_H */
