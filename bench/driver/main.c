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
    struct counts threads, workers;
    double scale, timeout_s;
};

static const char usage[] =
    "usage: cairn-bench list\n"
    "       cairn-bench run WORKLOAD[,WORKLOAD...]|all [OPTION...]\n"
    "\n"
    "  --with A[,A...]    of cairn, boehm, malloc, mimalloc, cairn-typed (the same programs with\n"
    "                     typed objects), ocaml (binary_trees only); without it, the first four\n"
    "                     as far as they were built\n"
    "  --threads N[,N...] how many threads the workloads with several run, 1 to 256 each\n"
    "                     (1; stop_time 64)\n"
    "  --workers N[,N...] how many threads Cairn marks with, 1 to 256 each (what is usual)\n"
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
    enum { WITH = 256, THREADS, WORKERS, RUNS, JSON, SCALE, TIMEOUT };
    static const struct option names[] = {{"with", required_argument, NULL, WITH},
        {"threads", required_argument, NULL, THREADS},
        {"workers", required_argument, NULL, WORKERS}, {"runs", required_argument, NULL, RUNS},
        {"json", required_argument, NULL, JSON}, {"scale", required_argument, NULL, SCALE},
        {"timeout", required_argument, NULL, TIMEOUT}, {"help", no_argument, NULL, 'h'}, {0}};
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
        case THREADS:
            if (!counts_parse(&options->threads, "--threads", optarg)) exit(2);
            break;
        case WORKERS:
            if (!counts_parse(&options->workers, "--workers", optarg)) exit(2);
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
        printf("%-14s %s%s\n", catalogue->workloads[w].name, catalogue->workloads[w].summary,
            catalogue->workloads[w].threads != 0 ? " (--threads)" : "");
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

/* The name of the combination of TASK and CONTENDER, as in "larson, 2 threads, cairn". */
static void describe(char *text, size_t room, const struct catalogue *catalogue,
    const struct task *task, const struct contender *contender) {
    const struct workload *workload = &catalogue->workloads[task->workload];
    char threads[32] = "", workers[32] = "";
    if (workload->threads != 0)
        snprintf(
            threads, sizeof threads, ", %d thread%s", task->threads, task->threads == 1 ? "" : "s");
    if (contender->workers != 0)
        snprintf(workers, sizeof workers, ", %d worker%s", contender->workers,
            contender->workers == 1 ? "" : "s");
    snprintf(text, room, "%s%s, %s%s", workload->name, threads,
        catalogue->allocators[contender->allocator].name, workers);
}

/* NAME: the combination's. */
static void run_one(const struct options *options, const struct catalogue *catalogue,
    const struct task *task, const struct contender *contender, const char *name, int run,
    struct series *series) {
    const struct workload *workload = &catalogue->workloads[task->workload];
    char scale[32], threads[16], setting[32];
    snprintf(scale, sizeof scale, "%.9g", options->scale);
    snprintf(threads, sizeof threads, "%d", task->threads);
    snprintf(setting, sizeof setting, "CAIRN_WORKERS=%d", contender->workers);
    char *arguments[] = {catalogue->allocators[contender->allocator].program, "run",
        (char *)workload->name, scale, workload->threads != 0 ? threads : NULL, NULL};
    static struct child_result result;
    int stopped =
        child_run(arguments, contender->workers != 0 ? setting : NULL, options->timeout_s, &result);
    if (stopped != 0) {
        fputs(isatty(STDERR_FILENO) ? "\r\033[K" : "", stderr);
        complain("stopped by signal %d; no results", stopped);
        child_end_by_signal(stopped);
    }
    read_counters(result.output, result.value);
    result.value[OPS_PER_S] = result.value[OPS] / result.value[WORK_S];
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
    complain("%s, run %d: FAILED: %s", name, run, result.error);
}

/* Each task done by the contenders in turn, so that a slow hour of the machine hits all. */
static bool run_all(const struct options *options, struct results *results) {
    const struct plan *plan = results->plan;
    const struct catalogue *catalogue = results->catalogue;
    bool good = true, terminal = isatty(STDERR_FILENO);
    for (int t = 0; t < plan->task_count; t++) {
        const struct task *task = &plan->tasks[t];
        for (int run = 1; run <= options->runs; run++) {
            for (int c = 0; c < plan->contender_count; c++) {
                const struct contender *contender = &plan->contenders[c];
                if (!catalogue->workloads[task->workload].offered[contender->allocator]) continue;
                char name[128];
                describe(name, sizeof name, catalogue, task, contender);
                if (terminal)
                    fprintf(stderr, "\r\033[K%s (%d of %d), run %d of %d ", name, t + 1,
                        plan->task_count, run, options->runs);
                struct series *series = results_series(results, t, c);
                run_one(options, catalogue, task, contender, name, run, series);
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
    for (int t = 0; t < plan->task_count; t++) {
        const struct workload *workload = &catalogue->workloads[plan->tasks[t].workload];
        for (int c = 0; c < plan->contender_count; c++)
            if (workload->offered[plan->contenders[c].allocator]) return true;
    }
    return false;
}

static int run(const struct catalogue *catalogue, const struct options *options) {
    static struct plan plan;
    if (!plan_tasks(&plan, catalogue, options->workloads, &options->threads)) return 2;
    if (!plan_contenders(&plan, catalogue, options->with, &options->workers)) return 2;
    if (!plan_has_runs(&plan, catalogue)) {
        complain("none of the allocators has any of the workloads");
        return 2;
    }
    if (!check_json(options->json)) return 2;
    struct results results;
    results_init(&results, catalogue, &plan, options->scale);
    bool good = run_all(options, &results);
    results_finish(&results);
    bool json_to_stdout = options->json != NULL && strcmp(options->json, "-") == 0;
    table_print(&results, json_to_stdout ? stderr : stdout);
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
