/* The parts of cairn-bench: main.c reads the command line and runs the combinations, child.c runs
 * one process, catalogue.c knows which programs there are and what they offer, plan.c what was
 * asked for, results.c keeps the figures and writes JSON, table.c prints for people. */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What is known of one run: first what the driver measures, then what every child counts, and from
 * OPS on what only some workloads have.  NaN: not known. */
enum metric {
    WALL_S,
    CPU_S,
    PEAK_RSS_KB,
    MINOR,
    FULL,
    PAUSE_P50,
    PAUSE_P99,
    PAUSE_MAX,
    OPS,       /* operations of all threads */
    WORK_S,    /* wall time of the part with several threads */
    OPS_PER_S, /* the quotient, which the driver works out */
    STOPS,     /* how often all threads were stopped */
    STOP_P50,
    STOP_P99,
    STOP_MAX,
    MARK_MS,
    MARK_WORKERS,
    RSS_FULL_MB, /* after a full collection, and after one that compacts */
    RSS_COMPACT_MB,
    LIVE_MB,
    RSS_PER_LIVE,   /* the quotient of the two above */
    COMPACT_MS,     /* its pause */
    COMPACT_PER_MB, /* the same in us for each live MB */
    MOVED_MB,
    CHAIN_1E5_MS, /* full collections with chains of ephemerons of such lengths, less one without */
    CHAIN_3E5_MS,
    CHAIN_1E6_MS,
    CHAIN_MADE_MS,  /* to make the longest, with collections */
    CHAIN_LINKS_MS, /* the same for 10^6 of Boehm's links */
    CHAIN_DIES_MS,  /* the collection that ends the longest */
    CHAIN_NONE_MS,
    FINALIZED_PER_S,
    METRICS
};
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

/* Runs the program ARGUMENTS[0] to its end, or kills it after TIMEOUT_S seconds.  SETTING, a string
 * "NAME=VALUE" unless NULL, goes into its environment.  Returns 0, or the number of the signal that
 * asked the driver to stop (the child is gone then, too). */
int child_run(char *const *arguments, char *setting, double timeout_s, struct child_result *result);

/* Ends the driver the way signal NUMBER would have. */
_Noreturn void child_end_by_signal(int number);

/* ---- catalogue.c ------------------------------------------------------------------------- */

enum { MOST_WORKLOADS = 64, MOST_ALLOCATORS = 9, NAME_ROOM = 32 };

struct workload {
    char name[NAME_ROOM];
    char summary[128];
    int threads; /* how many it gets when the user doesn't say; 0: it is single-threaded */
    bool offered[MOST_ALLOCATORS]; /* by the allocator with that index */
};

struct allocator {
    const char *name;
    bool optional; /* skipped without an error when it wasn't built */
    bool by_default;
    bool has_workers; /* CAIRN_WORKERS means something to it */
    char *program;    /* NULL if it wasn't built */
};

/* All that was built. */
struct catalogue {
    struct allocator allocators[MOST_ALLOCATORS];
    int allocator_count;
    struct workload workloads[MOST_WORKLOADS];
    int workload_count;
};

/* Looks for the programs beside this one and asks each what it offers.  Exits with a message when
 * there are none or one doesn't answer. */
void catalogue_load(struct catalogue *catalogue);

/* ---- plan.c ------------------------------------------------------------------------------ */

/* How many values an option may list, and how large each may be (the allocators' programs take as
 * many threads: bench/threads.h). */
enum { MOST_COUNTS = 16, LARGEST_COUNT = 256 };

struct counts {
    int value[MOST_COUNTS];
    int count; /* 0: the option wasn't given */
};

/* A workload with a number of threads. */
struct task {
    int workload; /* index into the catalogue */
    int threads;
};

/* An allocator, which for Cairn may have a number of marking threads. */
struct contender {
    int allocator; /* index into the catalogue */
    int workers;   /* 0: what is usual */
};

/* What was asked for: each contender does each task it offers.  The tasks of a workload, and the
 * contenders of an allocator, are neighbours. */
struct plan {
    struct task tasks[MOST_WORKLOADS * MOST_COUNTS];
    int task_count;
    struct contender contenders[MOST_ALLOCATORS * MOST_COUNTS];
    int contender_count;
};

/* Reads "1,2,32".  Returns false with a message that names OPTION if it's something else. */
bool counts_parse(struct counts *counts, const char *option, const char *list);

/* Fill the plan from the user's comma-separated lists.  What isn't known or doesn't fit is an error
 * that names what does; then they return false. */
bool plan_tasks(struct plan *plan, const struct catalogue *catalogue, const char *list,
    const struct counts *threads);
bool plan_contenders(struct plan *plan, const struct catalogue *catalogue, const char *list,
    const struct counts *workers);

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
    struct series *series; /* results_series() finds them */
    double scale;
};

/* RESULTS for PLAN, without any figures. */
void results_init(struct results *results, const struct catalogue *catalogue,
    const struct plan *plan, double scale);
/* The figures of the plan's task T and contender C. */
struct series *results_series(const struct results *results, int t, int c);
void series_add(struct series *series, const double value[METRICS]);

/* Works out the medians. */
void results_finish(struct results *results);
void results_write_json(const struct results *results, FILE *out);

/* ---- table.c ----------------------------------------------------------------------------- */

void table_print(const struct results *results, FILE *out);

/* ---- main.c ------------------------------------------------------------------------------ */

/* Prints "cairn-bench: " and the message on stderr. */
void complain(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

#endif /* BENCH_DRIVER_H */
