/* cairn-bench: runs workloads under several allocators, each run a process of its own, the
 * allocators in turn, and prints medians and ratios.  docs/bench.md is its manual. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/driver/driver.h"

struct options {
    const char *workloads, *with, *json;
    int runs;
    double scale, timeout_s;
};

static const char usage[] =
    "usage: cairn-bench list\n"
    "       cairn-bench run WORKLOAD[,WORKLOAD...]|all [OPTION...]\n"
    "\n"
    "  --with A[,A...]    of cairn, boehm, malloc, mimalloc, ocaml (binary_trees only);\n"
    "                     without it, the first four as far as they were built\n"
    "  --runs N           runs of each combination, 1 to 1000 (3)\n"
    "  --json FILE        write the medians and every run's figures there; - is standard output,\n"
    "                     and the table then goes to standard error\n"
    "  --scale X          this much of each workload's size, above 0 and up to 100 (1)\n"
    "  --timeout SECONDS  kill a run that takes longer (600)\n"
    "  --help             this\n"
    "\n"
    "Exit status: 0 if every run's result was right, 1 if one failed, 2 for a wrong command "
    "line.\n";

void complain(const char *format, ...) {
    va_list arguments;
    fputs("cairn-bench: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static double parse_number(const char *option, const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end != text && *end == '\0' && value >= least && value <= most) return value;
    complain("%s takes a number from %g to %g, not '%s'", option, least, most, text);
    exit(2);
}

static void parse_options(int argc, char **argv, struct options *options) {
    enum { WITH = 256, RUNS, JSON, SCALE, TIMEOUT };
    static const struct option names[] = {{"with", required_argument, NULL, WITH},
        {"runs", required_argument, NULL, RUNS}, {"json", required_argument, NULL, JSON},
        {"scale", required_argument, NULL, SCALE}, {"timeout", required_argument, NULL, TIMEOUT},
        {"help", no_argument, NULL, 'h'}, {0}};
    *options = (struct options){.runs = 3, .scale = 1, .timeout_s = 600};
    int option;
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        switch (option) {
        case WITH:
            options->with = optarg;
            break;
        case JSON:
            options->json = optarg;
            break;
        case RUNS:
            options->runs = (int)parse_number("--runs", optarg, 1, 1000);
            if (options->runs != strtod(optarg, NULL)) {
                complain("--runs takes a whole number, not '%s'", optarg);
                exit(2);
            }
            break;
        case SCALE:
            options->scale = parse_number("--scale", optarg, 1e-6, 100);
            break;
        case TIMEOUT:
            options->timeout_s = parse_number("--timeout", optarg, 0.001, 1e6);
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs("cairn-bench --help tells what it takes\n", stderr);
            exit(2);
        }
    }
}

static void list(const struct catalogue *catalogue) {
    for (int w = 0; w < catalogue->workload_count; w++)
        printf("%-14s %s\n", catalogue->workloads[w].name, catalogue->workloads[w].summary);
    printf("\nallocators:");
    for (int a = 0; a < catalogue->allocator_count; a++) {
        const struct allocator *allocator = &catalogue->allocators[a];
        printf(" %s%s", allocator->name, allocator->program == NULL ? " (not built)" : "");
    }
    printf("\n");
}

/* Takes the "key=value" lines apart.  What's missing stays as it is. */
static void read_counters(const char *output, double value[METRICS]) {
    for (const char *line = output; *line != '\0';
         line += strcspn(line, "\n"), line += *line != 0) {
        for (int i = MINOR; i < METRICS; i++) {
            size_t length = strlen(metric_names[i]);
            if (strncmp(line, metric_names[i], length) == 0 && line[length] == '=')
                value[i] = strtod(line + length + 1, NULL);
        }
    }
}

static void run_one(const struct options *options, const struct workload *workload,
    const struct allocator *allocator, int run, struct series *series) {
    char scale[32];
    snprintf(scale, sizeof scale, "%.9g", options->scale);
    char *arguments[] = {allocator->program, "run", (char *)workload->name, scale, NULL};
    static struct child_result result;
    int stopped = child_run(arguments, options->timeout_s, &result);
    if (stopped != 0) {
        fputs(isatty(STDERR_FILENO) ? "\r\033[K" : "", stderr);
        complain("stopped by signal %d; no results", stopped);
        child_end_by_signal(stopped);
    }
    read_counters(result.output, result.value);
    if (result.ok && isnan(result.value[FULL])) {
        result.ok = false;
        snprintf(result.error, sizeof result.error, "didn't print its counters");
    }
    if (result.ok) {
        series_add(series, result.value);
        return;
    }
    series->failed++;
    fputs(isatty(STDERR_FILENO) ? "\r\033[K" : "", stderr);
    complain("%s with %s, run %d: FAILED: %s", workload->name, allocator->name, run, result.error);
}

/* Workload by workload, the allocators in turn, so that a slow hour of the machine hits all. */
static bool run_all(const struct options *options, struct results *results) {
    const struct plan *plan = results->plan;
    const struct catalogue *catalogue = results->catalogue;
    bool good = true, terminal = isatty(STDERR_FILENO);
    for (int w = 0; w < plan->workload_count; w++) {
        const struct workload *workload = &catalogue->workloads[plan->workloads[w]];
        for (int run = 1; run <= options->runs; run++) {
            for (int a = 0; a < plan->allocator_count; a++) {
                if (!workload->offered[plan->allocators[a]]) continue;
                const struct allocator *allocator = &catalogue->allocators[plan->allocators[a]];
                if (terminal)
                    fprintf(stderr, "\r\033[K%s (%d of %d), run %d of %d, %s ", workload->name,
                        w + 1, plan->workload_count, run, options->runs, allocator->name);
                struct series *series = &results->series[w][a];
                run_one(options, workload, allocator, run, series);
                good = good && series->failed == 0;
            }
        }
    }
    if (terminal) fputs("\r\033[K", stderr);
    return good;
}

/* The file is written in one go when everything is known, so that nobody reads half of it.  That it
 * can be written is found out before the runs. */
static bool check_json(const char *path) {
    if (path == NULL || strcmp(path, "-") == 0) return true;
    bool existed = access(path, F_OK) == 0;
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) {
        complain("can't write %s: %s", path, strerror(errno));
        return false;
    }
    close(file);
    if (!existed) unlink(path);
    return true;
}

static bool write_json(const struct results *results, const char *path) {
    FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (out != NULL) results_write_json(results, out);
    if (out != NULL && fflush(out) == 0 && !ferror(out)) {
        if (out != stdout) fclose(out);
        return true;
    }
    complain("can't write %s: %s", path, strerror(errno));
    return false;
}

static bool plan_has_runs(const struct plan *plan, const struct catalogue *catalogue) {
    for (int w = 0; w < plan->workload_count; w++)
        for (int a = 0; a < plan->allocator_count; a++)
            if (catalogue->workloads[plan->workloads[w]].offered[plan->allocators[a]]) return true;
    return false;
}

static int run(const struct catalogue *catalogue, const struct options *options) {
    struct plan plan = {0};
    if (!plan_workloads(&plan, catalogue, options->workloads)) return 2;
    if (!plan_allocators(&plan, catalogue, options->with)) return 2;
    if (!plan_has_runs(&plan, catalogue)) {
        complain("none of the allocators has any of the workloads");
        return 2;
    }
    if (!check_json(options->json)) return 2;
    static struct results results;
    results.catalogue = catalogue;
    results.plan = &plan;
    results.scale = options->scale;
    bool good = run_all(options, &results);
    results_finish(&results);
    bool json_to_stdout = options->json != NULL && strcmp(options->json, "-") == 0;
    results_print(&results, json_to_stdout ? stderr : stdout);
    if (options->json != NULL) good = write_json(&results, options->json) && good;
    return good ? 0 : 1;
}

int main(int argc, char **argv) {
    struct options options;
    static struct catalogue catalogue;
    parse_options(argc, argv, &options);
    const char *command = optind < argc ? argv[optind] : "";
    int operands = argc - optind;
    bool listing = strcmp(command, "list") == 0 && operands == 1;
    bool running = strcmp(command, "run") == 0 && operands == 2;
    if (!listing && !running) {
        fputs(usage, stderr);
        return 2;
    }
    child_setup();
    catalogue_load(&catalogue);
    if (running) {
        options.workloads = argv[optind + 1];
        return run(&catalogue, &options);
    }
    list(&catalogue);
    return 0;
}
