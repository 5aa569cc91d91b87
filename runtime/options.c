/* Options: see options.h.  Owns the table below, from which the defaults, the checks, the
 * environment variables and the messages all come: a new option is a field in gc.h, a line here and
 * a section in docs/options.md. Has no other state.  Called by gc_init() and by programs through
 * gc_options_init(). */
#define _GNU_SOURCE
#include "runtime/options.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "runtime/log.h"

#define K ((uint64_t)1 << 10)
#define M ((uint64_t)1 << 20)
#define G ((uint64_t)1 << 30)
#define T ((uint64_t)1 << 40)

_Static_assert(sizeof(size_t) == 8, "the limits below need 64-bit sizes");

enum type { SIZE, COUNT, ENUM, SIGNAL, SWITCH }; /* size_t; uint32_t three times; uint8_t */

struct option {
    const char *field;
    const char *variable;
    enum type type;
    bool zero; /* 0 is accepted besides [min, max] */
    size_t offset;
    uint64_t initial, min, max;
    const char *accepted;
    const char *const *names; /* ENUM: of the values 0, 1, ...; ends in NULL */
};

static const char *const barrier_names[] = {"auto", "uffd", "mprotect", "none", "cross", NULL};
static const char *const fit_names[] = {"first", "best", "worst", NULL};
static const char *const stop_names[] = {"signal", "safepoint", NULL};
static const char *const attach_names[] = {"explicit", "auto", NULL};
static const char *const scan_names[] = {"ambiguous", "precise", NULL};

_Static_assert(sizeof barrier_names / sizeof *barrier_names == GC_BARRIER_CROSS + 2, "a name each");
_Static_assert(sizeof fit_names / sizeof *fit_names == GC_FIT_WORST + 2, "a name each");
_Static_assert(sizeof stop_names / sizeof *stop_names == GC_STOP_SAFEPOINT + 2, "a name each");
_Static_assert(sizeof attach_names / sizeof *attach_names == GC_ATTACH_AUTO + 2, "a name each");
_Static_assert(sizeof scan_names / sizeof *scan_names == GC_STACK_SCAN_PRECISE + 2, "a name each");

/* What can't be handled, what a fault in the program raises, and what the C library keeps for
 * itself. */
static const uint8_t signals_refused[] = {
    SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, 32, 33};

#define AT(name) offsetof(gc_options, name)
#define SWITCH_OPTION(name, variable, initial)                                                     \
    { #name, variable, SWITCH, false, AT(name), initial, 0, 1, "0 or 1", NULL }

/* clang-format off */
static const struct option options_table[] = {
    {"heap_limit", "CAIRN_HEAP_LIMIT", SIZE, true, AT(heap_limit), 0, M, SIZE_MAX,
        "0 (no limit) or at least 1M", NULL},
    {"heap_reserve", "CAIRN_HEAP_RESERVE", SIZE, false, AT(heap_reserve), T, 16 * M, 4 * T,
        "16M to 4T", NULL},
    {"nursery", "CAIRN_NURSERY", SIZE, true, AT(nursery), 0, 64 * K, 64 * G,
        "0 (by cost) or 64K to 64G", NULL},
    {"mark_stack_limit", "CAIRN_MARK_STACK_LIMIT", SIZE, true, AT(mark_stack_limit), 0, 4 * K,
        SIZE_MAX, "0 (no limit) or at least 4K", NULL},
    {"growth_percent", "CAIRN_GROWTH_PERCENT", COUNT, false, AT(growth_percent), 115, 10, 1000,
        "10 to 1000", NULL},
    {"barrier", "CAIRN_BARRIER", ENUM, false, AT(barrier), GC_BARRIER_AUTO, 0, GC_BARRIER_CROSS,
        "auto, uffd, mprotect, none or cross", barrier_names},
    {"large_fit", "CAIRN_LARGE_FIT", ENUM, false, AT(large_fit), GC_FIT_FIRST, 0, GC_FIT_WORST,
        "first, best or worst", fit_names},
    {"stop", "CAIRN_STOP", ENUM, false, AT(stop), GC_STOP_SIGNAL, 0, GC_STOP_SAFEPOINT,
        "signal or safepoint", stop_names},
    {"stop_signal", "CAIRN_STOP_SIGNAL", SIGNAL, true, AT(stop_signal), 0, 1, 64,
        "0 (SIGRTMAX - 5) or 1 to 64, but not SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, "
        "SIGTRAP, 32 or 33", NULL},
    {"attach", "CAIRN_ATTACH", ENUM, false, AT(attach), GC_ATTACH_EXPLICIT, 0, GC_ATTACH_AUTO,
        "explicit or auto", attach_names},
    {"stack_scan", "CAIRN_STACK_SCAN", ENUM, false, AT(stack_scan), GC_STACK_SCAN_AMBIGUOUS, 0,
        GC_STACK_SCAN_PRECISE, "ambiguous or precise", scan_names},
    {"workers", "CAIRN_WORKERS", COUNT, true, AT(workers), 0, 1, 64,
        "0 (one for each CPU) or 1 to 64", NULL},
    {"stress", "CAIRN_STRESS", COUNT, false, AT(stress), 0, 0, UINT32_MAX,
        "0 (off) or a number up to 4294967295", NULL},
    {"release_after", "CAIRN_RELEASE_AFTER", COUNT, false, AT(release_after), 8, 1, 1000000,
        "1 to 1000000", NULL},
    SWITCH_OPTION(prepares_writes, "CAIRN_PREPARES_WRITES", 0),
    SWITCH_OPTION(one_past_end_in_heap, "CAIRN_ONE_PAST_END_IN_HEAP", 0),
    SWITCH_OPTION(cgroup_limit, "CAIRN_CGROUP_LIMIT", 1),
    SWITCH_OPTION(huge_pages, "CAIRN_HUGE_PAGES", 1),
    SWITCH_OPTION(log, "CAIRN_LOG", 0),
    SWITCH_OPTION(verify, "CAIRN_VERIFY", 0),
    SWITCH_OPTION(poison, "CAIRN_POISON", 0),
};
/* clang-format on */

#define OPTIONS (sizeof options_table / sizeof *options_table)

/* ---- Fields --------------------------------------------------------------------------------- */

static void store(gc_options *options, const struct option *option, uint64_t value) {
    char *field = (char *)options + option->offset;
    switch (option->type) {
    case SIZE:
        *(size_t *)(void *)field = (size_t)value;
        break;
    case COUNT:
    case ENUM:
    case SIGNAL:
        *(uint32_t *)(void *)field = (uint32_t)value;
        break;
    case SWITCH:
        *(uint8_t *)field = (uint8_t)value;
        break;
    }
}

static uint64_t load(const gc_options *options, const struct option *option) {
    const char *field = (const char *)options + option->offset;
    switch (option->type) {
    case SIZE:
        return *(const size_t *)(const void *)field;
    case COUNT:
    case ENUM:
    case SIGNAL:
        return *(const uint32_t *)(const void *)field;
    case SWITCH:
        return *(const uint8_t *)field;
    }
    return 0;
}

static bool is_refused(uint64_t signal) {
    for (size_t i = 0; i < sizeof signals_refused; i++)
        if (signals_refused[i] == signal) return true;
    return false;
}

static bool acceptable(const struct option *option, uint64_t value) {
    if (value == 0 && option->zero) return true;
    if (option->type == SIGNAL && is_refused(value)) return false;
    return value >= option->min && value <= option->max;
}

void gci_options_default(gc_options *options) {
    memset(options, 0, sizeof *options);
    options->abi = GC_ABI;
    options->size = sizeof *options;
    for (size_t i = 0; i < OPTIONS; i++)
        store(options, &options_table[i], options_table[i].initial);
}

/* A program that was compiled for another version gets as many fields as it has room for, and ABI
 * and SIZE as its own header gave them: gc_init() is where it hears that it doesn't fit. */
void gc_options_init_abi(gc_options *options, uint32_t abi, uint32_t size) {
    gc_options defaults;
    gci_options_default(&defaults);
    defaults.abi = abi;
    defaults.size = size;
    size_t known = size < sizeof defaults ? size : sizeof defaults;
    memcpy(options, &defaults, known);
    memset((char *)options + known, 0, size - known);
}

static int check_fields(const gc_options *user) {
    if (user->abi != GC_ABI || user->size != sizeof *user) {
        gci_log("gc_init: the program was compiled for another version of the library (ABI %u with "
                "options of %u bytes; this library has ABI %u and %zu bytes) or didn't call "
                "gc_options_init()",
            user->abi, user->size, (unsigned)GC_ABI, sizeof *user);
        return EINVAL;
    }
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *option = &options_table[i];
        uint64_t value = load(user, option);
        if (acceptable(option, value)) continue;
        gci_log("gc_init: the field %s is %llu; accepted: %s", option->field,
            (unsigned long long)value, option->accepted);
        return EINVAL;
    }
    return 0;
}

/* ---- The environment ------------------------------------------------------------------------ */

/* Whoever starts a setuid program doesn't own it. */
static bool environment_counts(void) {
    return getauxval(AT_SECURE) == 0;
}

/* A decimal number, for SIZE with an optional suffix, and nothing after it. */
static bool parse_number(const char *text, bool suffix, uint64_t *value) {
    if (*text < '0' || *text > '9') return false;
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
            return false;
    }
    uint64_t unit = 1;
    if (suffix) {
        switch (*text) {
        case 'K':
            unit = K;
            break;
        case 'M':
            unit = M;
            break;
        case 'G':
            unit = G;
            break;
        case 'T':
            unit = T;
            break;
        }
        if (unit > 1) text++;
    }
    return *text == '\0' && !__builtin_mul_overflow(number, unit, value);
}

static bool parse_name(const char *text, const char *const *names, uint64_t *value) {
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *value = i;
        return true;
    }
    return false;
}

static void override_from_environment(gc_options *options) {
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *option = &options_table[i];
        const char *text = getenv(option->variable);
        if (!text) continue;
        uint64_t value = 0;
        bool parsed = option->names ? parse_name(text, option->names, &value)
                                    : parse_number(text, option->type == SIZE, &value);
        if (parsed && acceptable(option, value)) {
            store(options, option, value);
        } else {
            gci_log("ignored %s=%.64s; accepted: %s", option->variable, text, option->accepted);
        }
    }
}

/* A thread that is stopped at an arbitrary instruction has references where no frame or map says. */
static void settle_stop(gc_options *options) {
    if (options->stack_scan != GC_STACK_SCAN_PRECISE) return;
    const char *text = environment_counts() ? getenv("CAIRN_STOP") : NULL;
    if (text && strcmp(text, stop_names[GC_STOP_SIGNAL]) == 0)
        gci_log("ignored CAIRN_STOP=signal: with precise stack_scan threads are stopped at "
                "safepoints only");
    options->stop = GC_STOP_SAFEPOINT;
}

/* ---- Misspelt variables --------------------------------------------------------------------- */

#define NAME_MAX_BYTES 48 /* longer names are compared by their first bytes */

/* How many single letters must be inserted, deleted or replaced to turn A into B (Levenshtein),
 * with one row of the matrix. */
static unsigned edit_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    unsigned row[NAME_MAX_BYTES + 1];
    for (size_t j = 0; j <= b_length; j++) row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_length; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_length];
}

static bool begins(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* NAME, of LENGTH bytes, isn't terminated. */
static void warn_if_unknown(const char *name, size_t length) {
    const char *nearest = NULL;
    unsigned nearest_distance = 0;
    size_t compared = length < NAME_MAX_BYTES ? length : NAME_MAX_BYTES;
    for (size_t i = 0; i < OPTIONS; i++) {
        const char *known = options_table[i].variable;
        size_t known_length = strlen(known);
        if (known_length == length && memcmp(name, known, length) == 0) return;
        unsigned distance = edit_distance(name, compared, known, known_length);
        if (nearest && distance >= nearest_distance) continue;
        nearest = known;
        nearest_distance = distance;
    }
    gci_log("unknown variable %.*s in the environment; did you mean %s?",
        (int)(length < 64 ? length : 64), name, nearest);
}

/* CAIRN_TEST_ and CAIRN_BENCH_ variables are the test suite's and the benchmarks' own. */
static void warn_of_unknown_variables(void) {
    for (char **entry = environ; entry && *entry; entry++) {
        if (!begins(*entry, "CAIRN_")) continue;
        if (begins(*entry, "CAIRN_TEST_") || begins(*entry, "CAIRN_BENCH_")) continue;
        const char *end = strchr(*entry, '=');
        if (end) warn_if_unknown(*entry, (size_t)(end - *entry));
    }
}

/* ---- What callers use ----------------------------------------------------------------------- */

int gci_options_resolve(const gc_options *user, gc_options *out) {
    if (user) {
        int error = check_fields(user);
        if (error) return error;
        *out = *user;
    } else {
        gci_options_default(out);
    }
    if (environment_counts()) {
        override_from_environment(out);
        warn_of_unknown_variables();
    }
    settle_stop(out);
    return 0;
}

bool gci_options_attach_auto(void) {
    const char *text = environment_counts() ? getenv("CAIRN_ATTACH") : NULL;
    return text && strcmp(text, attach_names[GC_ATTACH_AUTO]) == 0;
}

const char *gci_barrier_name(enum gc_barrier barrier) {
    return (unsigned)barrier <= GC_BARRIER_CROSS ? barrier_names[barrier] : "?";
}
