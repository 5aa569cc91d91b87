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
#include "runtime/text.h"

#define K ((uint64_t)1 << 10)
#define M ((uint64_t)1 << 20)
#define G ((uint64_t)1 << 30)
#define T ((uint64_t)1 << 40)

_Static_assert(sizeof(size_t) == 8, "the limits below need 64-bit sizes");

/* The field is a size_t; a uint64_t; a const char *; a uint32_t, for the next three; a uint8_t, for
 * the last two. */
enum type { SIZE, WORD, TEXT, COUNT, ENUM, SIGNAL, SMALL_ENUM, SWITCH };

struct option {
    const char *field;
    const char *variable;
    enum type type;
    bool zero; /* 0 is accepted besides [min, max] */
    size_t offset;
    uint64_t initial, min, max;
    const char *accepted;
    const char *const *names; /* enums: of the values 0, 1, ...; TEXT: what it may end in; ends in
                                 NULL */
};

static const char *const barrier_names[] = {
    "auto", "uffd", "mprotect", "none", "cross", "explicit", "explicit-cross", NULL};
static const char *const writes_names[] = {"no", "typed", "all", NULL};
static const char *const fit_names[] = {"first", "best", "worst", NULL};
static const char *const stop_names[] = {"signal", "safepoint", NULL};
static const char *const attach_names[] = {"explicit", "auto", NULL};
static const char *const leaks_names[] = {"0", "1", "all", NULL};
static const char *const profile_endings[] = {".folded", ".pb", ".pb.gz", NULL};
static const char *const poison_names[] = {"0", "1", "guard", NULL};
static const char *const scan_names[] = {"ambiguous", "precise", NULL};

static const char *const finalizers_names[] = {"manual", "thread", "inline", NULL};

_Static_assert(
    sizeof barrier_names / sizeof *barrier_names == GC_BARRIER_EXPLICIT_CROSS + 2, "a name each");
_Static_assert(sizeof writes_names / sizeof *writes_names == GC_WRITES_ALL + 2, "a name each");
_Static_assert(sizeof fit_names / sizeof *fit_names == GC_FIT_WORST + 2, "a name each");
_Static_assert(sizeof stop_names / sizeof *stop_names == GC_STOP_SAFEPOINT + 2, "a name each");
_Static_assert(sizeof attach_names / sizeof *attach_names == GC_ATTACH_AUTO + 2, "a name each");
_Static_assert(sizeof leaks_names / sizeof *leaks_names == GC_LEAKS_ALL + 2, "a name each");
_Static_assert(sizeof poison_names / sizeof *poison_names == GC_POISON_GUARD + 2, "a name each");
_Static_assert(sizeof scan_names / sizeof *scan_names == GC_STACK_SCAN_PRECISE + 2, "a name each");
_Static_assert(
    sizeof finalizers_names / sizeof *finalizers_names == GC_FINALIZERS_INLINE + 2, "a name each");

/* What can't be handled, what a fault in the program raises, and what the C library keeps for
 * itself. */
static const uint8_t signals_refused[] = {
    SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, 32, 33};

#define AT(name) offsetof(gc_options, name)
#define ANY_WORD "a number of 64 bits, decimal or 0x and hexadecimal"
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
    {"trace", "CAIRN_TRACE", TEXT, true, AT(trace), 0, 0, UINT64_MAX, "the name of a file", NULL},
    {"tag_mask", "CAIRN_TAG_MASK", WORD, false, AT(tag_mask), 0, 0, UINT64_MAX, ANY_WORD, NULL},
    {"tag_value", "CAIRN_TAG_VALUE", WORD, false, AT(tag_value), 0, 0, UINT64_MAX, ANY_WORD, NULL},
    {"tag_kind_mask", "CAIRN_TAG_KIND_MASK", WORD, false, AT(tag_kind_mask), 0, 0, UINT64_MAX,
        ANY_WORD, NULL},
    {"tag_kinds", "CAIRN_TAG_KINDS", WORD, false, AT(tag_kinds), 0, 0, UINT64_MAX, ANY_WORD, NULL},
    {"tag_address_mask", "CAIRN_TAG_ADDRESS_MASK", WORD, false, AT(tag_address_mask), 0, 0,
        UINT64_MAX, ANY_WORD, NULL},
    {"tag_address_left", "CAIRN_TAG_ADDRESS_LEFT", COUNT, false, AT(tag_address_left), 0, 0, 63,
        "0 to 63", NULL},
    {"tag_address_right", "CAIRN_TAG_ADDRESS_RIGHT", COUNT, false, AT(tag_address_right), 0, 0, 63,
        "0 to 63", NULL},
    {"profile_interval", "CAIRN_PROFILE_INTERVAL", SIZE, false, AT(profile_interval), 512 * K, 1, T,
        "1 to 1T", NULL},
    {"site_memory", "CAIRN_SITE_MEMORY", SIZE, false, AT(site_memory), 64 * M, 64 * K, 16 * G,
        "64K to 16G", NULL},
    {"profile", "CAIRN_PROFILE", TEXT, true, AT(profile), 0, 0, 0,
        "a path that ends in .folded, .pb or .pb.gz, in which %p means the process and %% a percent "
        "sign",
        profile_endings},
    {"site_depth", "CAIRN_SITE_DEPTH", COUNT, false, AT(site_depth), 64, 1, 256, "1 to 256", NULL},
    {"find_leaks", "CAIRN_FIND_LEAKS", ENUM, false, AT(find_leaks), GC_LEAKS_OFF, GC_LEAKS_OFF,
        GC_LEAKS_ALL, "0 (off), 1 (where by samples) or all (where of each)", leaks_names},
    {"growth_percent", "CAIRN_GROWTH_PERCENT", COUNT, false, AT(growth_percent), 115, 10, 1000,
        "10 to 1000", NULL},
    {"barrier", "CAIRN_BARRIER", ENUM, false, AT(barrier), GC_BARRIER_AUTO, 0,
        GC_BARRIER_EXPLICIT_CROSS,
        "auto, uffd, mprotect, none, cross, explicit or explicit-cross", barrier_names},
    {"writes_explicitly", "CAIRN_WRITES_EXPLICITLY", ENUM, false, AT(writes_explicitly),
        GC_WRITES_PLAINLY, 0, GC_WRITES_ALL, "no, typed or all", writes_names},
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
    {"compact_percent", "CAIRN_COMPACT_PERCENT", COUNT, false, AT(compact_percent), 60, 0, 99,
        "0 (only when asked) to 99", NULL},
    {"protect_moved", "CAIRN_PROTECT_MOVED", COUNT, false, AT(protect_moved), 0, 0, 1000000,
        "0 (off) to 1000000", NULL},
    {"finalizers", "CAIRN_FINALIZERS", ENUM, false, AT(finalizers), GC_FINALIZERS_MANUAL, 0,
        GC_FINALIZERS_INLINE, "manual, thread or inline", finalizers_names},
    {"type_stats", "CAIRN_TYPE_STATS", COUNT, false, AT(type_stats), 0, 0, 1000000,
        "0 (off) to 1000000", NULL},
    SWITCH_OPTION(prepares_writes, "CAIRN_PREPARES_WRITES", 0),
    SWITCH_OPTION(one_past_end_in_heap, "CAIRN_ONE_PAST_END_IN_HEAP", 0),
    SWITCH_OPTION(cgroup_limit, "CAIRN_CGROUP_LIMIT", 1),
    SWITCH_OPTION(huge_pages, "CAIRN_HUGE_PAGES", 1),
    SWITCH_OPTION(log, "CAIRN_LOG", 0),
    SWITCH_OPTION(verify, "CAIRN_VERIFY", 0),
    {"poison", "CAIRN_POISON", SMALL_ENUM, false, AT(poison), GC_POISON_OFF, 0, GC_POISON_GUARD,
        "0, 1 or guard", poison_names},
    SWITCH_OPTION(dump_heap, "CAIRN_DUMP_HEAP", 0),
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
    case WORD:
        *(uint64_t *)(void *)field = value;
        break;
    case TEXT:
        *(const char **)(void *)field = (const char *)(uintptr_t)value;
        break;
    case COUNT:
    case ENUM:
    case SIGNAL:
        *(uint32_t *)(void *)field = (uint32_t)value;
        break;
    case SMALL_ENUM:
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
    case WORD:
        return *(const uint64_t *)(const void *)field;
    case TEXT:
        return (uintptr_t) * (const char *const *)(const void *)field;
    case COUNT:
    case ENUM:
    case SIGNAL:
        return *(const uint32_t *)(const void *)field;
    case SMALL_ENUM:
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

/* A name that can be, and is more than just an ending. */
static bool ends_in_one_of(const char *text, const char *const *endings) {
    size_t length = strlen(text);
    if (!gci_path_expand(NULL, 0, text, NULL)) return false;
    for (; *endings != NULL; endings++) {
        size_t end = strlen(*endings);
        if (length > end && strcmp(text + length - end, *endings) == 0) return true;
    }
    return false;
}

static bool acceptable(const struct option *option, uint64_t value) {
    if (value == 0 && option->zero) return true;
    if (option->type == TEXT)
        return option->names == NULL ||
               ends_in_one_of((const char *)(uintptr_t)value, option->names);
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
        if (option->type == TEXT)
            gci_log("gc_init: the field %s is \"%.64s\"; accepted: NULL or %s", option->field,
                (const char *)(uintptr_t)value, option->accepted);
        else
            gci_log("gc_init: the field %s is %llu; accepted: %s", option->field,
                (unsigned long long)value, option->accepted);
        return EINVAL;
    }
    return 0;
}

/* ---- The format of words --------------------------------------------------------------------- */

#define HIGHEST_ADDRESS                                                                            \
    UINT64_C(0x7ffffffffff0) /* has all bits that an object's address may have */

static bool is_run_of_bits(uint64_t mask) {
    mask >>= __builtin_ctzll(mask);
    return (mask & (mask + 1)) == 0;
}

/* What is wrong with the fields of the format together, or NULL (docs/tags.md, rule 2). */
static const char *format_fault(const gc_options *o) {
    uint64_t address = o->tag_address_mask, kinds = o->tag_kind_mask;
    if (address == 0)
        return (o->tag_mask | o->tag_value | kinds | o->tag_kinds) != 0 ||
                       o->tag_address_left + o->tag_address_right != 0
                   ? "tag_address_mask is 0: expected the bits that hold the address, or no other "
                     "field beside it"
                   : NULL;
    if ((o->tag_value & ~o->tag_mask) != 0)
        return "tag_value has bits that tag_mask hasn't: no word would be a reference";
    if ((kinds == 0) != (o->tag_kinds == 0))
        return "of tag_kind_mask and tag_kinds one is 0: expected both, or neither";
    if (kinds != 0 && (!is_run_of_bits(kinds) || __builtin_popcountll(kinds) > 6))
        return "tag_kind_mask: expected up to 6 adjacent bits";
    unsigned count = 1u << __builtin_popcountll(kinds);
    if (kinds != 0 && count < 64 && o->tag_kinds >> count != 0)
        return "tag_kinds has bits for kinds that don't fit tag_kind_mask";
    if ((o->tag_mask & kinds) != 0) return "tag_mask and tag_kind_mask overlap";
    if ((address & (o->tag_mask | kinds)) != 0)
        return "tag_address_mask overlaps tag_mask or tag_kind_mask: moving would change the tag";
    if (o->tag_address_left != 0 && o->tag_address_right != 0)
        return "tag_address_left and tag_address_right are both set: expected one of them";
    uint64_t word = ((HIGHEST_ADDRESS >> o->tag_address_left) << o->tag_address_right) & address;
    if ((word >> o->tag_address_right) << o->tag_address_left != HIGHEST_ADDRESS)
        return "the shift and tag_address_mask lose bits of addresses: expected that bits 4 to 46 "
               "are kept";
    return NULL;
}

static bool format_is_right(const gc_options *options, const char *who) {
    const char *fault = format_fault(options);
    if (fault != NULL) gci_log("%s: %s", who, fault);
    return fault == NULL;
}

/* If the environment made it wrong, what the program asked for holds. */
static void check_format_from_environment(gc_options *options, const gc_options *before) {
    if (format_is_right(options, "ignored all CAIRN_TAG_ variables")) return;
    for (size_t i = 0; i < OPTIONS; i++)
        if (strncmp(options_table[i].field, "tag_", 4) == 0)
            store(options, &options_table[i], load(before, &options_table[i]));
}

/* ---- The environment ------------------------------------------------------------------------ */

/* Whoever starts a setuid program doesn't own it. */
static bool environment_counts(void) {
    return getauxval(AT_SECURE) == 0;
}

/* A number of 64 bits, decimal or 0x and hexadecimal, and nothing after it. */
static bool parse_word(const char *text, uint64_t *value) {
    bool hex = text[0] == '0' && text[1] == 'x';
    unsigned base = hex ? 16 : 10;
    uint64_t number = 0;
    if (hex) text += 2;
    if (*text == '\0') return false;
    for (; *text != '\0'; text++) {
        unsigned digit = *text >= '0' && *text <= '9'   ? (unsigned)(*text - '0')
                         : *text >= 'a' && *text <= 'f' ? (unsigned)(*text - 'a') + 10
                         : *text >= 'A' && *text <= 'F' ? (unsigned)(*text - 'A') + 10
                                                        : base;
        if (digit >= base || __builtin_mul_overflow(number, base, &number) ||
            __builtin_add_overflow(number, digit, &number))
            return false;
    }
    *value = number;
    return true;
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

/* What TEXT, the option's variable, says; false if that isn't accepted. */
static bool parse(const struct option *option, const char *text, uint64_t *value) {
    *value = option->type == TEXT ? (uintptr_t)text : 0;
    bool parsed = option->type == TEXT   ? true
                  : option->names        ? parse_name(text, option->names, value)
                  : option->type == WORD ? parse_word(text, value)
                                         : parse_number(text, option->type == SIZE, value);
    return parsed && acceptable(option, *value);
}

static void override_from_environment(gc_options *options) {
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *option = &options_table[i];
        const char *text = getenv(option->variable);
        uint64_t value;
        if (!text) continue;
        if (parse(option, text, &value))
            store(options, option, value);
        else
            gci_log("ignored %s=%.64s; accepted: %s", option->variable, text, option->accepted);
    }
}

/* ---- Promises ------------------------------------------------------------------------------- */

/* The explicit barrier is for programs that promise gc_write(): those that choose it by the field,
 * or say so in the other one.  CHOSEN: the barrier that the field names.  EXPLICIT_CROSS loses
 * nothing and may be had by anybody, to see what would have to change. */
static void hold_to_promises(gc_options *options, uint32_t chosen) {
    if (options->writes_explicitly != GC_WRITES_PLAINLY) return;
    if (chosen == GC_BARRIER_EXPLICIT || chosen == GC_BARRIER_EXPLICIT_CROSS ||
        options->barrier == GC_BARRIER_EXPLICIT_CROSS) {
        options->writes_explicitly = GC_WRITES_TYPED;
    } else if (options->barrier == GC_BARRIER_EXPLICIT) {
        gci_log("ignored CAIRN_BARRIER=explicit: the program does not promise to store references "
                "by gc_write() (the option writes_explicitly)");
        options->barrier = chosen;
    }
}

/* A thread that is stopped at an arbitrary instruction has references where no frame or map
 * says. */
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
        if (!format_is_right(user, "gc_init")) return EINVAL;
        *out = *user;
    } else {
        gci_options_default(out);
    }
    gc_options before = *out;
    if (environment_counts()) {
        override_from_environment(out);
        check_format_from_environment(out, &before);
        warn_of_unknown_variables();
    }
    hold_to_promises(out, before.barrier);
    settle_stop(out);
    return 0;
}

bool gci_options_are_given(const char *variable) {
    const char *text = environment_counts() ? getenv(variable) : NULL;
    uint64_t value;
    for (size_t i = 0; text && i < OPTIONS; i++)
        if (strcmp(options_table[i].variable, variable) == 0)
            return parse(&options_table[i], text, &value);
    return false;
}

bool gci_options_attach_auto(void) {
    const char *text = environment_counts() ? getenv("CAIRN_ATTACH") : NULL;
    return text && strcmp(text, attach_names[GC_ATTACH_AUTO]) == 0;
}

const char *gci_barrier_name(enum gc_barrier barrier) {
    return (unsigned)barrier <= GC_BARRIER_EXPLICIT_CROSS ? barrier_names[barrier] : "?";
}
