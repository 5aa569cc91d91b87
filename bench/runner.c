/* The main program of each build/bench/bench-ALLOCATOR: runs one workload and prints what the
 * allocator counted, one "key=value" a line, for cairn-bench to read.  Owns the table of workloads
 * that the linker gathered (bench/bench.h).
 *
 *   bench-ALLOCATOR list                    names and summaries, a tab between them
 *   bench-ALLOCATOR run WORKLOAD [SCALE]    status 0 if the workload's result was right */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

extern const struct bench_workload *const __start_bench_workloads[];
extern const struct bench_workload *const __stop_bench_workloads[];

/* Set once, before the workload runs. */
static const char *running = "none";

void bench_fail(const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "bench-%s: %s: ", BENCH_ALLOCATOR, running);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void bench_out_of_memory(size_t size) {
    bench_fail("out of memory, asked for %zu bytes", size);
}

void bench_expect(const char *what, uint64_t count, uint64_t expected) {
    if (count == expected) return;
    bench_fail("wrong result: %s is %llu and should be %llu", what, (unsigned long long)count,
        (unsigned long long)expected);
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
        printf("%s\t%s\n", (*entry)->name, (*entry)->summary);
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

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list();
        return 0;
    }
    if (argc < 3 || argc > 4 || strcmp(argv[1], "run") != 0) {
        fprintf(stderr, "usage: %s list | run WORKLOAD [SCALE]\n", argv[0]);
        return 2;
    }
    const struct bench_workload *workload = find(argv[2]);
    if (workload == NULL) {
        fprintf(stderr, "%s: no workload '%s'; 'list' names them\n", argv[0], argv[2]);
        return 2;
    }
    char *end = NULL;
    double scale = argc == 4 ? strtod(argv[3], &end) : 1.0;
    if (argc == 4 && (end == argv[3] || *end != '\0' || !(scale > 0 && scale <= 100))) {
        fprintf(stderr, "%s: scale '%s' is not a number above 0 and up to 100\n", argv[0], argv[3]);
        return 2;
    }
    running = workload->name;
    bench_start();
    workload->run(scale);
    struct bench_counters counters = {0};
    bench_report(&counters);
    print_counters(&counters);
    if (fflush(stdout) != 0) bench_fail("can't write the counters");
    return 0;
}
