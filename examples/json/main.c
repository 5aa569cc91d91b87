/* The program json: reads JSON files, answers queries about them, prints them, and tells what the
 * collector did meanwhile.  A file's text and its tree are simply forgotten when the next one is
 * read. */
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cairn/gc.h>

static const char usage[] =
    "usage: json [option...] file...        (a file named - is the standard input)\n"
    "  -q, --query PATH   print the values that PATH leads to, each on a line\n"
    "  -p, --pretty       indent what is printed (default without a query)\n"
    "  -c, --compact      print without spaces (default with a query)\n"
    "  -r, --raw          as --compact, but print strings without quotes\n"
    "      --count        print how many values there are instead of the values\n"
    "      --sum          print the sum of those that are numbers instead\n"
    "      --check        print no values: only see whether the files are right\n"
    "      --repeat N     parse each file N times\n"
    "      --stats        say on standard error what the collector did\n"
    "      --version      print the library's version\n"
    "  -h, --help         print this\n"
    "Exit status: 0; 1 if a file is wrong or can't be read or the output can't be\n"
    "written; 2 if the command is wrong.\n"
    "\n";

enum action { PRINT_VALUES, PRINT_COUNT, PRINT_SUM, PRINT_NOTHING };

struct program {
    struct json_query *query; /* or NULL: the whole document */
    const char *path;
    enum action action;
    enum json_style style;
    bool style_given, stats;
    unsigned long repeat;

    uint64_t count; /* values found */
    double sum;     /* of the numbers among them */

    uint64_t files, bytes, parses, parse_ns;
};

static struct json_output output;

/* ---- Reading --------------------------------------------------------------------------------- */

/* Reads a whole file into a leaf object, with a NUL at the end.  NULL and errno on failure.  The
 * collector never protects leaf objects, so that the system call can write to one at any time. */
static char *read_file(int file, size_t *length) {
    struct stat status;
    size_t capacity = 64 * 1024, used = 0;
    if (fstat(file, &status) != 0) return NULL;
    /* One byte for the NUL, and one to see the end of the file. */
    if (S_ISREG(status.st_mode) && status.st_size > 0) capacity = (size_t)status.st_size + 2;
    char *text = gc_alloc_leaf(capacity);
    if (text == NULL) return NULL;
    for (;;) {
        if (used + 1 == capacity) {
            capacity *= 2;
            text = gc_realloc(text, capacity);
            if (text == NULL) return NULL;
        }
        size_t want = capacity - 1 - used;
        ssize_t got = read(file, text + used, want < 1 << 30 ? want : 1 << 30);
        if (got == 0) break;
        if (got > 0) {
            used += (size_t)got;
        } else if (errno != EINTR) {
            return NULL;
        }
    }
    text[used] = '\0';
    *length = used;
    return text;
}

static char *open_and_read(const char *name, size_t *length) {
    if (strcmp(name, "-") == 0) return read_file(STDIN_FILENO, length);
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    char *text = read_file(file, length);
    int error = errno;
    close(file);
    errno = error;
    return text;
}

/* ---- One file -------------------------------------------------------------------------------- */

static bool found(const struct json_value *value, void *data) {
    struct program *program = data;
    program->count++;
    if (program->action == PRINT_SUM) program->sum += json_number(value);
    return program->action != PRINT_VALUES || json_print(&output, value, program->style);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool parse_repeatedly(struct program *program, const char *name, const char *text,
    size_t length, struct json_value *document) {
    struct json_error error;
    for (unsigned long i = 0; i < program->repeat; i++) {
        /* Forgets the tree of the round before, which would otherwise live until the next one is
         * complete. */
        *document = (struct json_value){.kind = JSON_NULL};
        uint64_t before = now_ns();
        bool good = json_parse(text, length, document, &error);
        program->parse_ns += now_ns() - before;
        program->parses++;
        program->bytes += length;
        if (good) continue;
        json_flush(&output);
        if (error.line == 0) {
            fprintf(stderr, "%s: %s\n", name, error.message);
        } else {
            fprintf(stderr, "%s:%zu:%zu: %s\n", name, error.line, error.column, error.message);
        }
        return false;
    }
    return true;
}

static bool handle_file(struct program *program, const char *file) {
    const char *name = strcmp(file, "-") == 0 ? "<stdin>" : file;
    struct json_value document;
    size_t length;
    char *text = open_and_read(file, &length);
    if (text == NULL) {
        json_flush(&output);
        fprintf(stderr, "json: %s: %s\n", name,
            errno == ENOMEM ? "out of memory, reading the file" : strerror(errno));
        return false;
    }
    program->files++;
    if (!parse_repeatedly(program, name, text, length, &document)) return false;
    if (program->query != NULL) {
        json_query_run(program->query, &document, found, program);
    } else {
        found(&document, program);
    }
    return true;
}

/* ---- What the collector did ------------------------------------------------------------------ */

static const char *barrier_name(uint32_t barrier) {
    static const char *const names[] = {
        "auto", "uffd", "mprotect", "none", "cross", "explicit", "explicit-cross"};
    return barrier < sizeof names / sizeof *names ? names[barrier] : "another";
}

static double mb(uint64_t bytes) {
    return (double)bytes / 1e6;
}
static double ms(uint64_t ns) {
    return (double)ns / 1e6;
}

static void print_stats(const struct program *program) {
    gc_stats stats = {.size = sizeof stats};
    gc_get_stats(&stats);
    double seconds = (double)program->parse_ns / 1e9;
    fprintf(stderr, "read         %llu files; parsed %.1f MB of text in %.2f s",
        (unsigned long long)program->files, mb(program->bytes), seconds);
    if (seconds > 0.01) fprintf(stderr, " (%.0f MB/s)", mb(program->bytes) / seconds);
    fprintf(stderr,
        "\nallocated    %.1f MB, of these %.1f MB in objects beyond 8 KiB; nothing freed\n",
        mb(stats.allocated_bytes), mb(stats.allocated_large));
    fprintf(stderr, "collections  %llu minor, %llu full; %.1f MB live after the last one\n",
        (unsigned long long)stats.minor.count, (unsigned long long)stats.full.count,
        mb(stats.live_bytes));
    if (stats.all.count > 0) {
        fprintf(stderr, "pauses       half up to %.2f ms, the longest %.2f ms, %.2f ms in all\n",
            ms(stats.all.p50_ns), ms(stats.all.max_ns), ms(stats.all.total_ns));
    }
    fprintf(stderr, "heap         %.1f MB in use, %.1f MB for reuse, %.1f MB committed; %s %s\n",
        mb(stats.heap_bytes), mb(stats.free_bytes), mb(stats.committed_bytes),
        "write barrier:", barrier_name(stats.barrier));
}

/* ---- The command ----------------------------------------------------------------------------- */

static int wrong_usage(const char *message, const char *what) {
    fprintf(stderr, "json: %s%s; try json --help\n", message, what);
    return 2;
}

enum { OPTION_COUNT = 256, OPTION_SUM, OPTION_CHECK, OPTION_REPEAT, OPTION_STATS, OPTION_VERSION };

static const struct option long_options[] = {{"query", required_argument, NULL, 'q'},
    {"pretty", no_argument, NULL, 'p'}, {"compact", no_argument, NULL, 'c'},
    {"raw", no_argument, NULL, 'r'}, {"count", no_argument, NULL, OPTION_COUNT},
    {"sum", no_argument, NULL, OPTION_SUM}, {"check", no_argument, NULL, OPTION_CHECK},
    {"repeat", required_argument, NULL, OPTION_REPEAT}, {"stats", no_argument, NULL, OPTION_STATS},
    {"version", no_argument, NULL, OPTION_VERSION}, {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

static int set_repeat(struct program *program, const char *argument) {
    char *end;
    errno = 0;
    program->repeat = strtoul(argument, &end, 10);
    if (errno != 0 || *end != '\0' || argument[0] < '0' || argument[0] > '9' ||
        program->repeat == 0) {
        return wrong_usage("--repeat takes a number from 1, not ", argument);
    }
    return 0;
}

/* Returns -1 to go on, or an exit status. */
static int take_option(struct program *program, int option) {
    static const enum json_style styles[] = {
        ['p'] = JSON_PRETTY, ['c'] = JSON_COMPACT, ['r'] = JSON_RAW};
    static const enum action actions[] = {PRINT_COUNT, PRINT_SUM, PRINT_NOTHING};
    switch (option) {
    case 'q':
        program->path = optarg;
        return -1;
    case 'p':
    case 'c':
    case 'r':
        program->style = styles[option];
        program->style_given = true;
        return -1;
    case OPTION_COUNT:
    case OPTION_SUM:
    case OPTION_CHECK:
        program->action = actions[option - OPTION_COUNT];
        return -1;
    case OPTION_REPEAT:
        return set_repeat(program, optarg) == 0 ? -1 : 2;
    case OPTION_STATS:
        program->stats = true;
        return -1;
    case OPTION_VERSION:
        return puts(gc_version()) < 0 || fflush(stdout) != 0;
    case 'h':
        return fputs(usage, stdout) < 0 || fputs(json_query_help, stdout) < 0 ||
               fflush(stdout) != 0;
    default:
        return 2; /* getopt_long() has said what is wrong */
    }
}

static int compile_query(struct program *program) {
    struct json_error error;
    if (program->path == NULL) return 0;
    if (!program->style_given) program->style = JSON_COMPACT;
    program->query = json_query_compile(program->path, &error);
    if (program->query != NULL) return 0;
    if (error.line == 0) {
        fprintf(stderr, "json: --query: %s\n", error.message);
        return 1;
    }
    fprintf(
        stderr, "json: --query %s, column %zu: %s\n", program->path, error.column, error.message);
    return 2;
}

/* Prints what is printed once, at the end. */
static bool finish(const struct program *program) {
    json_flush(&output);
    if (program->action == PRINT_COUNT) printf("%llu\n", (unsigned long long)program->count);
    if (program->action == PRINT_SUM) printf("%.15g\n", program->sum);
    if (fflush(stdout) != 0 && output.error == 0) output.error = errno;
    /* A reader that has gone has seen enough. */
    if (output.error != 0 && output.error != EPIPE) {
        fprintf(stderr, "json: writing the output: %s\n", strerror(output.error));
    }
    if (program->stats) print_stats(program);
    return output.error == 0;
}

int main(int argc, char **argv) {
    struct program program = {.repeat = 1, .style = JSON_PRETTY};
    int option, status;
    while ((option = getopt_long(argc, argv, "q:pcrh", long_options, NULL)) != -1) {
        status = take_option(&program, option);
        if (status >= 0) return status;
    }
    if (optind == argc) return wrong_usage("no file is named", "");
    status = compile_query(&program);
    if (status != 0) return status;
    for (int i = optind; i < argc && output.error == 0; i++) {
        if (!handle_file(&program, argv[i])) status = 1;
    }
    return finish(&program) ? status : 1;
}
