/* Keeps every run's figures, works out medians, and writes them as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/driver.h"

const char *const metric_names[METRICS] = {
    [WALL_S] = "wall_s",
    [CPU_S] = "cpu_s",
    [PEAK_RSS_KB] = "peak_rss_kb",
    [MINOR] = "minor",
    [FULL] = "full",
    [PAUSE_P50] = "pause_p50_us",
    [PAUSE_P99] = "pause_p99_us",
    [PAUSE_MAX] = "pause_max_us",
    [OPS] = "ops",
    [WORK_S] = "work_s",
    [OPS_PER_S] = "ops_per_s",
    [STOPS] = "stops",
    [STOP_P50] = "stop_p50_us",
    [STOP_P99] = "stop_p99_us",
    [STOP_MAX] = "stop_max_us",
    [MARK_MS] = "mark_ms",
    [MARK_WORKERS] = "mark_workers",
    [RSS_FULL_MB] = "rss_full_mb",
    [RSS_COMPACT_MB] = "rss_compact_mb",
    [LIVE_MB] = "live_mb",
    [RSS_PER_LIVE] = "rss_per_live",
    [COMPACT_MS] = "compact_ms",
    [COMPACT_PER_MB] = "compact_us_per_live_mb",
    [MOVED_MB] = "moved_mb",
    [CHAIN_1E5_MS] = "chain_1e5_ms",
    [CHAIN_3E5_MS] = "chain_3e5_ms",
    [CHAIN_1E6_MS] = "chain_1e6_ms",
    [CHAIN_MADE_MS] = "chain_made_ms",
    [CHAIN_LINKS_MS] = "chain_links_ms",
    [CHAIN_DIES_MS] = "chain_dies_ms",
    [CHAIN_NONE_MS] = "chain_none_ms",
    [FINALIZED_PER_S] = "finalized_per_s",
};

void results_init(struct results *results, const struct catalogue *catalogue,
    const struct plan *plan, double scale) {
    size_t count = (size_t)plan->task_count * (size_t)plan->contender_count;
    *results = (struct results){catalogue, plan, calloc(count, sizeof(struct series)), scale};
    if (results->series == NULL) abort();
}

struct series *results_series(const struct results *results, int t, int c) {
    return &results->series[t * results->plan->contender_count + c];
}

void series_add(struct series *series, const double value[METRICS]) {
    for (int i = 0; i < METRICS; i++) {
        size_t bytes = ((size_t)series->runs + 1) * sizeof(double);
        series->value[i] = realloc(series->value[i], bytes);
        if (series->value[i] == NULL) abort();
        series->value[i][series->runs] = value[i];
    }
    series->runs++;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* NaN when a value is, or there is none. */
static double median(const double *values, int count) {
    if (count == 0) return NAN;
    double *sorted = malloc((size_t)count * sizeof *sorted);
    if (sorted == NULL) abort();
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    double middle = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
    free(sorted);
    return middle;
}

void results_finish(struct results *results) {
    for (int t = 0; t < results->plan->task_count; t++) {
        for (int c = 0; c < results->plan->contender_count; c++) {
            struct series *series = results_series(results, t, c);
            for (int i = 0; i < METRICS; i++)
                series->median[i] = median(series->value[i], series->runs);
        }
    }
}

static void write_number(FILE *out, double value) {
    if (isnan(value) || isinf(value))
        fputs("null", out);
    else if (value == floor(value) && fabs(value) < 1e15)
        fprintf(out, "%.0f", value);
    else
        fprintf(out, "%.6f", value);
}

static void write_runs(const struct series *series, enum metric metric, FILE *out) {
    fprintf(out, ", \"%s_runs\": [", metric_names[metric]);
    for (int run = 0; run < series->runs; run++) {
        if (run > 0) fputs(", ", out);
        write_number(out, series->value[metric][run]);
    }
    fputc(']', out);
}

static void write_series(const struct results *results, int t, int c, FILE *out) {
    const struct series *series = results_series(results, t, c);
    struct task task = results->plan->tasks[t];
    struct contender contender = results->plan->contenders[c];
    fprintf(out, "  {\"workload\": \"%s\", \"allocator\": \"%s\", \"threads\": %d",
        results->catalogue->workloads[task.workload].name,
        results->catalogue->allocators[contender.allocator].name, task.threads);
    if (contender.workers != 0) fprintf(out, ", \"workers\": %d", contender.workers);
    for (int i = 0; i < METRICS; i++) {
        if (i >= OPS && isnan(series->median[i])) continue;
        fprintf(out, ", \"%s\": ", metric_names[i]);
        write_number(out, series->median[i]);
    }
    fprintf(out, ",\n   \"scale\": %g, \"runs\": %d, \"failed\": %d", results->scale, series->runs,
        series->failed);
    for (int i = 0; i < METRICS; i++) {
        if (i <= PEAK_RSS_KB || (i >= OPS_PER_S && !isnan(series->median[i])))
            write_runs(series, (enum metric)i, out);
    }
    fputc('}', out);
}

void results_write_json(const struct results *results, FILE *out) {
    const char *before = "[\n";
    for (int t = 0; t < results->plan->task_count; t++) {
        for (int c = 0; c < results->plan->contender_count; c++) {
            const struct series *series = results_series(results, t, c);
            if (series->runs + series->failed == 0) continue;
            fputs(before, out);
            write_series(results, t, c, out);
            before = ",\n";
        }
    }
    fputs(before[0] == '[' ? "[]\n" : "\n]\n", out);
}
