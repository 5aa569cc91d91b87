/* The tables for people: what every run costs, then throughput, times to stop, marking and
 * compaction of the workloads that have them, then the means. */
#include <math.h>
#include <string.h>

#include "bench/driver/driver.h"

static const char *allocator_name(const struct results *results, int c) {
    return results->catalogue->allocators[results->plan->contenders[c].allocator].name;
}

static const struct workload *workload_of(const struct results *results, int t) {
    return &results->catalogue->workloads[results->plan->tasks[t].workload];
}

/* The position in the plan of what the ratios refer to: cairn, or else the first. */
static int find_base(const struct results *results) {
    for (int c = 0; c < results->plan->contender_count; c++)
        if (strcmp(allocator_name(results, c), "cairn") == 0) return c;
    return 0;
}

static bool any_threaded(const struct results *results) {
    for (int t = 0; t < results->plan->task_count; t++)
        if (workload_of(results, t)->threads != 0) return true;
    return false;
}

static bool any_workers(const struct results *results) {
    for (int c = 0; c < results->plan->contender_count; c++)
        if (results->plan->contenders[c].workers != 0) return true;
    return false;
}

/* Whether any combination has a figure for METRIC. */
static bool any_known(const struct results *results, enum metric metric) {
    for (int t = 0; t < results->plan->task_count; t++)
        for (int c = 0; c < results->plan->contender_count; c++)
            if (!isnan(results_series(results, t, c)->median[metric])) return true;
    return false;
}

static void print_number(FILE *out, int width, int decimals, double value) {
    if (isnan(value))
        fprintf(out, " %*s", width, "-");
    else
        fprintf(out, " %*.*f", width, decimals, value);
}

/* The numbers of threads and workers have a column where they can differ.  COUNT 0: not said. */
static void print_count(FILE *out, int count) {
    if (count == 0)
        fprintf(out, " %4s", "-");
    else
        fprintf(out, " %4d", count);
}

static void print_title(const struct results *results, const char *title, FILE *out) {
    fprintf(out, "%-26s", title);
    if (any_threaded(results)) fprintf(out, " %4s", "thr");
    if (any_workers(results)) fprintf(out, " %4s", "wrk");
}

static void print_names(const struct results *results, int t, int c, FILE *out) {
    fprintf(out, "%-14s %-11s", workload_of(results, t)->name, allocator_name(results, c));
    if (any_threaded(results)) print_count(out, results->plan->tasks[t].threads);
    if (any_workers(results)) print_count(out, results->plan->contenders[c].workers);
}

static void print_costs(
    const struct results *results, int t, int c, const struct series *base, FILE *out) {
    const struct series *series = results_series(results, t, c);
    const double *value = series->median;
    print_names(results, t, c, out);
    if (series->runs == 0) {
        fprintf(out, " FAILED\n");
        return;
    }
    print_number(out, 8, 3, value[WALL_S]);
    print_number(out, 6, 2, value[WALL_S] / base->median[WALL_S]);
    print_number(out, 8, 3, value[CPU_S]);
    print_number(out, 6, 2, value[CPU_S] / base->median[CPU_S]);
    print_number(out, 8, 1, value[PEAK_RSS_KB] / 1024);
    print_number(out, 6, 2, value[PEAK_RSS_KB] / base->median[PEAK_RSS_KB]);
    bool paused = value[MINOR] + value[FULL] > 0;
    print_number(out, 6, 0, paused ? value[MINOR] : NAN);
    print_number(out, 6, 0, paused ? value[FULL] : NAN);
    print_number(out, 8, 0, paused ? value[PAUSE_P50] : NAN);
    print_number(out, 8, 0, paused ? value[PAUSE_P99] : NAN);
    print_number(out, 8, 0, paused ? value[PAUSE_MAX] : NAN);
    if (series->failed > 0)
        fprintf(out, "  %d of %d runs FAILED", series->failed, series->failed + series->runs);
    fputc('\n', out);
}

static void print_all_costs(const struct results *results, int base, FILE *out) {
    print_title(results, "", out);
    fprintf(out, " %8s %6s %8s %6s %8s %6s %6s %6s %8s %8s %8s\n", "wall s", "ratio", "cpu s",
        "ratio", "peak MB", "ratio", "minor", "full", "p50 us", "p99 us", "max us");
    for (int t = 0; t < results->plan->task_count; t++) {
        for (int c = 0; c < results->plan->contender_count; c++) {
            const struct series *series = results_series(results, t, c);
            if (series->runs + series->failed == 0) continue;
            print_costs(results, t, c, results_series(results, t, base), out);
        }
    }
}

/* The position in the plan of the first task with the workload of task T. */
static int first_task(const struct results *results, int t) {
    while (t > 0 && results->plan->tasks[t - 1].workload == results->plan->tasks[t].workload) t--;
    return t;
}

/* The position in the plan of the first contender with the allocator of C. */
static int first_contender(const struct results *results, int c) {
    const struct contender *contenders = results->plan->contenders;
    while (c > 0 && contenders[c - 1].allocator == contenders[c].allocator) c--;
    return c;
}

/* Throughput and how it scales: with the numbers of threads below one another. */
static void print_throughput(const struct results *results, int base, FILE *out) {
    if (!any_known(results, OPS_PER_S)) return;
    fputc('\n', out);
    print_title(results, "throughput", out);
    fprintf(out, " %8s %6s %8s\n", "M ops/s", "ratio", "scaling");
    for (int first = 0, after; first < results->plan->task_count; first = after) {
        after = first;
        while (after < results->plan->task_count && first_task(results, after) == first) after++;
        for (int c = 0; c < results->plan->contender_count; c++) {
            for (int t = first; t < after; t++) {
                double rate = results_series(results, t, c)->median[OPS_PER_S];
                if (isnan(rate)) continue;
                print_names(results, t, c, out);
                print_number(out, 8, 2, rate / 1e6);
                print_number(out, 6, 2, results_series(results, t, base)->median[OPS_PER_S] / rate);
                print_number(
                    out, 8, 2, rate / results_series(results, first, c)->median[OPS_PER_S]);
                fputc('\n', out);
            }
        }
    }
}

/* A column of a table of a workload's own figures. */
struct column {
    const char *title;
    int width, decimals;
    enum metric metric;
};

/* The table of what has a figure for the first of COUNT columns. */
static void print_figures(const struct results *results, const char *title,
    const struct column *columns, size_t count, FILE *out) {
    if (!any_known(results, columns[0].metric)) return;
    fputc('\n', out);
    print_title(results, title, out);
    for (size_t i = 0; i < count; i++) fprintf(out, " %*s", columns[i].width, columns[i].title);
    fputc('\n', out);
    for (int t = 0; t < results->plan->task_count; t++) {
        for (int c = 0; c < results->plan->contender_count; c++) {
            const double *value = results_series(results, t, c)->median;
            if (isnan(value[columns[0].metric])) continue;
            print_names(results, t, c, out);
            for (size_t i = 0; i < count; i++)
                print_number(out, columns[i].width, columns[i].decimals, value[columns[i].metric]);
            fputc('\n', out);
        }
    }
}

static void print_stops(const struct results *results, FILE *out) {
    static const struct column columns[] = {{"stops", 8, 0, STOPS}, {"p50 us", 8, 0, STOP_P50},
        {"p99 us", 8, 0, STOP_P99}, {"max us", 8, 0, STOP_MAX}};
    print_figures(results, "time to stop", columns, sizeof columns / sizeof *columns, out);
}

static void print_marking(const struct results *results, FILE *out) {
    if (!any_known(results, MARK_MS)) return;
    fputc('\n', out);
    print_title(results, "marking", out);
    fprintf(out, " %8s %8s %8s\n", "mark ms", "scaling", "workers");
    for (int t = 0; t < results->plan->task_count; t++) {
        for (int c = 0; c < results->plan->contender_count; c++) {
            const double *value = results_series(results, t, c)->median;
            const struct series *first = results_series(results, t, first_contender(results, c));
            if (isnan(value[MARK_MS])) continue;
            print_names(results, t, c, out);
            print_number(out, 8, 1, value[MARK_MS]);
            print_number(out, 8, 2, first->median[MARK_MS] / value[MARK_MS]);
            print_number(out, 8, 0, value[MARK_WORKERS]);
            fputc('\n', out);
        }
    }
}

static void print_compaction(const struct results *results, FILE *out) {
    static const struct column columns[] = {{"RSS MB", 8, 1, RSS_FULL_MB},
        {"then", 8, 1, RSS_COMPACT_MB}, {"live MB", 8, 1, LIVE_MB},
        {"RSS/live", 8, 2, RSS_PER_LIVE}, {"pause ms", 9, 1, COMPACT_MS},
        {"us/MB", 8, 0, COMPACT_PER_MB}, {"moved MB", 9, 1, MOVED_MB}};
    print_figures(results, "compaction", columns, sizeof columns / sizeof *columns, out);
}

static void print_ephemerons(const struct results *results, FILE *out) {
    static const struct column columns[] = {{"10^5 ms", 9, 1, CHAIN_1E5_MS},
        {"3*10^5", 9, 1, CHAIN_3E5_MS}, {"10^6", 9, 1, CHAIN_1E6_MS}, {"made", 9, 1, CHAIN_MADE_MS},
        {"dies", 9, 1, CHAIN_DIES_MS}, {"links", 9, 1, CHAIN_LINKS_MS},
        {"without", 9, 1, CHAIN_NONE_MS}};
    print_figures(results, "chains of ephemerons", columns, sizeof columns / sizeof *columns, out);
}

static void print_finalizers(const struct results *results, FILE *out) {
    static const struct column columns[] = {{"per s", 9, 0, FINALIZED_PER_S}};
    print_figures(results, "finalized", columns, sizeof columns / sizeof *columns, out);
}

/* The geometric mean over the tasks of C's median divided by BASE's.  Stores over how many. */
static double mean_ratio(
    const struct results *results, int c, int base, enum metric metric, int *count) {
    double logarithms = 0;
    *count = 0;
    for (int t = 0; t < results->plan->task_count; t++) {
        double ratio = results_series(results, t, c)->median[metric] /
                       results_series(results, t, base)->median[metric];
        if (isnan(ratio) || isinf(ratio) || ratio <= 0) continue;
        logarithms += log(ratio);
        ++*count;
    }
    return *count == 0 ? NAN : exp(logarithms / *count);
}

static void print_means(const struct results *results, int base, FILE *out) {
    fprintf(out, "\n%-26s %8s %6s %8s %9s\n", "geometric mean of ratios", "wall", "cpu", "peak",
        "over");
    for (int c = 0; c < results->plan->contender_count; c++) {
        int count = 0, workers = results->plan->contenders[c].workers;
        char with[32] = "";
        if (workers != 0) snprintf(with, sizeof with, "--workers %d", workers);
        fprintf(out, "%-11s %-14s", allocator_name(results, c), with);
        print_number(out, 8, 2, mean_ratio(results, c, base, WALL_S, &count));
        print_number(out, 6, 2, mean_ratio(results, c, base, CPU_S, &count));
        print_number(out, 8, 2, mean_ratio(results, c, base, PEAK_RSS_KB, &count));
        fprintf(out, " %9d\n", count);
    }
}

void table_print(const struct results *results, FILE *out) {
    int base = find_base(results), workers = results->plan->contenders[base].workers;
    fprintf(out, "Medians; ratios are to %s", allocator_name(results, base));
    if (workers != 0) fprintf(out, " with --workers %d", workers);
    fputs(".\n\n", out);
    print_all_costs(results, base, out);
    print_throughput(results, base, out);
    print_stops(results, out);
    print_marking(results, out);
    print_compaction(results, out);
    print_ephemerons(results, out);
    print_finalizers(results, out);
    print_means(results, base, out);
}
