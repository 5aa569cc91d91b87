/* The main program of each build/bench/bench-ALLOCATOR: runs one workload and prints what the
 * allocator counted, one "key=value" a line, for cairn-bench to read.  Owns the table of workloads
 * that the linker gathered (bench/bench.h).
 *
 *   bench-ALLOCATOR list                              names, summaries, how many threads unless
 *                                                     told (0: takes no number); tabs between them
 *   bench-ALLOCATOR run WORKLOAD [SCALE [THREADS]]    status 0 if the workload's result was right
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/threads.h"

extern const struct bench_workload *const __start_bench_workloads[];
extern const struct bench_workload *const __stop_bench_workloads[];

/* Set once, before the workload runs. */
static const char *running = "none";

/* Other threads may be running, so nothing of the program is tidied up. */
void bench_fail(const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "bench-%s: %s: ", BENCH_ALLOCATOR, running);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

void bench_out_of_memory(size_t size) {
    bench_fail("out of memory, asked for %zu bytes", size);
}

void bench_expect(const char *what, uint64_t count, uint64_t expected) {
    if (count == expected) return;
    bench_fail("wrong result: %s is %llu and should be %llu", what, (unsigned long long)count,
        (unsigned long long)expected);
}

void bench_figure(const char *name, double value) {
    printf("%s=%.15g\n", name, value);
}

size_t bench_scaled(size_t count, double scale, size_t least) {
    double scaled = (double)count * scale;
    return scaled < (double)least ? least : (size_t)scaled;
}

int bench_scaled_depth(int depth, double scale, int least) {
    for (; scale < 0.75; scale *= 2) depth--;
    for (; scale >= 1.5; scale /= 2) depth++;
    return depth < least ? least : depth;
}

static void list(void) {
    for (const struct bench_workload *const *entry = __start_bench_workloads;
         entry < __stop_bench_workloads; entry++) {
        printf("%s\t%s\t%d\n", (*entry)->name, (*entry)->summary, (*entry)->threads);
    }
}

static const struct bench_workload *find(const char *name) {
    for (const struct bench_workload *const *entry = __start_bench_workloads;
         entry < __stop_bench_workloads; entry++) {
        if (strcmp((*entry)->name, name) == 0) return *entry;
    }
    return NULL;
}

static void print_counters(const struct bench_counters *counters) {
    printf("minor=%llu\n", (unsigned long long)counters->minor);
    printf("full=%llu\n", (unsigned long long)counters->full);
    printf("pause_p50_us=%.3f\n", (double)counters->pause_p50_ns / 1e3);
    printf("pause_p99_us=%.3f\n", (double)counters->pause_p99_ns / 1e3);
    printf("pause_max_us=%.3f\n", (double)counters->pause_max_ns / 1e3);
}

/* ARGUMENT as a number from LEAST to MOST; ends the program if it's none. */
static double parse(const char *what, const char *argument, double least, double most) {
    char *end;
    double value = strtod(argument, &end);
    if (end != argument && *end == '\0' && value >= least && value <= most) return value;
    fprintf(stderr, "bench-%s: %s '%s' is not a number from %g to %g\n", BENCH_ALLOCATOR, what,
        argument, least, most);
    exit(2);
}

static void run(const struct bench_workload *workload, double scale, int threads) {
    running = workload->name;
    bench_start();
    if (workload->run != NULL)
        workload->run(scale);
    else
        workload->run_threads(scale, threads);
    struct bench_counters counters = {0};
    bench_report(&counters);
    print_counters(&counters);
    if (fflush(stdout) != 0) bench_fail("can't write the counters");
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list();
        return 0;
    }
    if (argc < 3 || argc > 5 || strcmp(argv[1], "run") != 0) {
        fprintf(stderr, "usage: %s list | run WORKLOAD [SCALE [THREADS]]\n", argv[0]);
        return 2;
    }
    const struct bench_workload *workload = find(argv[2]);
    if (workload == NULL) {
        fprintf(stderr, "%s: no workload '%s'; 'list' names them\n", argv[0], argv[2]);
        return 2;
    }
    int most_threads = workload->run != NULL ? 1 : BENCH_MOST_THREADS, threads = workload->threads;
    double scale = argc > 3 ? parse("scale", argv[3], 1e-6, 100) : 1.0;
    if (argc > 4) threads = (int)parse("number of threads", argv[4], 1, most_threads);
    run(workload, scale, threads);
    return 0;
}
