/* Medians, ratios and the two forms in which they're given: a table for people, JSON for programs.
 */
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
};

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
    for (int w = 0; w < results->plan->workload_count; w++) {
        for (int a = 0; a < results->plan->allocator_count; a++) {
            struct series *series = &results->series[w][a];
            for (int i = 0; i < METRICS; i++)
                series->median[i] = median(series->value[i], series->runs);
        }
    }
}

static const char *allocator_name(const struct results *results, int a) {
    return results->catalogue->allocators[results->plan->allocators[a]].name;
}

static const char *workload_name(const struct results *results, int w) {
    return results->catalogue->workloads[results->plan->workloads[w]].name;
}

/* The position in the plan of what the ratios refer to: cairn, or else the first. */
static int find_base(const struct results *results) {
    for (int a = 0; a < results->plan->allocator_count; a++)
        if (strcmp(allocator_name(results, a), "cairn") == 0) return a;
    return 0;
}

static void print_number(FILE *out, int width, int decimals, double value) {
    if (isnan(value))
        fprintf(out, " %*s", width, "-");
    else
        fprintf(out, " %*.*f", width, decimals, value);
}

static void print_series(
    const struct results *results, int w, int a, const struct series *base, FILE *out) {
    const struct series *series = &results->series[w][a];
    const double *value = series->median;
    fprintf(out, "%-14s %-9s", workload_name(results, w), allocator_name(results, a));
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

/* The geometric mean over the workloads of A's median divided by BASE's.  Stores over how many. */
static double mean_ratio(
    const struct results *results, int a, int base, enum metric metric, int *count) {
    double logarithms = 0;
    *count = 0;
    for (int w = 0; w < results->plan->workload_count; w++) {
        double ratio =
            results->series[w][a].median[metric] / results->series[w][base].median[metric];
        if (isnan(ratio) || isinf(ratio) || ratio <= 0) continue;
        logarithms += log(ratio);
        ++*count;
    }
    return *count == 0 ? NAN : exp(logarithms / *count);
}

void results_print(const struct results *results, FILE *out) {
    int base = find_base(results);
    fprintf(out, "Medians; ratios are to %s.\n\n", allocator_name(results, base));
    fprintf(out, "%-24s %8s %6s %8s %6s %8s %6s %6s %6s %8s %8s %8s\n", "", "wall s", "ratio",
        "cpu s", "ratio", "peak MB", "ratio", "minor", "full", "p50 us", "p99 us", "max us");
    for (int w = 0; w < results->plan->workload_count; w++) {
        for (int a = 0; a < results->plan->allocator_count; a++) {
            const struct series *series = &results->series[w][a];
            if (series->runs + series->failed == 0) continue;
            print_series(results, w, a, &results->series[w][base], out);
        }
    }
    fprintf(out, "\n%-24s %8s %6s %8s %9s\n", "geometric mean of ratios", "wall", "cpu", "peak",
        "workloads");
    for (int a = 0; a < results->plan->allocator_count; a++) {
        int count = 0;
        fprintf(out, "%-24s", allocator_name(results, a));
        print_number(out, 8, 2, mean_ratio(results, a, base, WALL_S, &count));
        print_number(out, 6, 2, mean_ratio(results, a, base, CPU_S, &count));
        print_number(out, 8, 2, mean_ratio(results, a, base, PEAK_RSS_KB, &count));
        fprintf(out, " %9d\n", count);
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

static void write_series(const struct results *results, int w, int a, FILE *out) {
    const struct series *series = &results->series[w][a];
    fprintf(out, "  {\"workload\": \"%s\", \"allocator\": \"%s\"", workload_name(results, w),
        allocator_name(results, a));
    for (int i = 0; i < METRICS; i++) {
        fprintf(out, ", \"%s\": ", metric_names[i]);
        write_number(out, series->median[i]);
    }
    fprintf(out, ",\n   \"scale\": %g, \"runs\": %d, \"failed\": %d", results->scale, series->runs,
        series->failed);
    for (int i = 0; i <= PEAK_RSS_KB; i++) {
        fprintf(out, ", \"%s_runs\": [", metric_names[i]);
        for (int run = 0; run < series->runs; run++) {
            if (run > 0) fputs(", ", out);
            write_number(out, series->value[i][run]);
        }
        fputc(']', out);
    }
    fputc('}', out);
}

void results_write_json(const struct results *results, FILE *out) {
    const char *before = "[\n";
    for (int w = 0; w < results->plan->workload_count; w++) {
        for (int a = 0; a < results->plan->allocator_count; a++) {
            const struct series *series = &results->series[w][a];
            if (series->runs + series->failed == 0) continue;
            fputs(before, out);
            write_series(results, w, a, out);
            before = ",\n";
        }
    }
    fputs(before[0] == '[' ? "[]\n" : "\n]\n", out);
}
