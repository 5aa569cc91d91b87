/* Options: defaults, and every value of every field and variable that is accepted or refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cairn/gc.h"
#include "capture.h"
#include "runtime/options.h"

/* The variables of the run itself would get in the way. */
static int without_variables(void **state) {
    (void)state;
    for (;;) {
        char **entry = environ;
        while (*entry && (strncmp(*entry, "CAIRN_", 6) || !strncmp(*entry, "CAIRN_TEST_", 11)))
            entry++;
        if (!*entry) return 0;
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*entry, "="), *entry);
        unsetenv(name);
    }
}

static int resolve(const gc_options *user, gc_options *out, const char **messages) {
    begin_capture();
    int error = gci_options_resolve(user, out);
    *messages = end_capture();
    return error;
}

static void the_defaults_are_those_of_the_manual(void **state) {
    (void)state;
    gc_options options, resolved;
    memset(&options, 0xee, sizeof options);
    gc_options_init(&options);
    assert_int_equal(options.abi, GC_ABI);
    assert_int_equal(options.size, sizeof options);
    assert_int_equal(options.heap_limit, 0);
    assert_int_equal(options.heap_reserve, (size_t)1 << 40);
    assert_int_equal(options.nursery, 0);
    assert_int_equal(options.mark_stack_limit, 0);
    assert_int_equal(options.tag_mask, 0);
    assert_int_equal(options.tag_value, 0);
    assert_int_equal(options.tag_kind_mask, 0);
    assert_int_equal(options.tag_kinds, 0);
    assert_int_equal(options.tag_address_mask, 0);
    assert_int_equal(options.tag_address_left, 0);
    assert_int_equal(options.tag_address_right, 0);
    assert_int_equal(options.profile_interval, 512 << 10);
    assert_int_equal(options.site_memory, 64 << 20);
    assert_null(options.profile);
    assert_int_equal(options.site_depth, 64);
    assert_int_equal(options.find_leaks, GC_LEAKS_OFF);
    assert_int_equal(options.growth_percent, 115);
    assert_int_equal(options.barrier, GC_BARRIER_AUTO);
    assert_int_equal(options.writes_explicitly, GC_WRITES_PLAINLY);
    assert_int_equal(options.large_fit, GC_FIT_FIRST);
    assert_int_equal(options.stop, GC_STOP_SIGNAL);
    assert_int_equal(options.stop_signal, 0);
    assert_int_equal(options.attach, GC_ATTACH_EXPLICIT);
    assert_int_equal(options.stack_scan, GC_STACK_SCAN_AMBIGUOUS);
    assert_int_equal(options.workers, 0);
    assert_int_equal(options.stress, 0);
    assert_int_equal(options.release_after, 8);
    assert_int_equal(options.compact_percent, 60);
    assert_int_equal(options.protect_moved, 0);
    assert_int_equal(options.type_stats, 0);
    assert_int_equal(options.prepares_writes, 0);
    assert_int_equal(options.one_past_end_in_heap, 0);
    assert_int_equal(options.cgroup_limit, 1);
    assert_int_equal(options.huge_pages, 1);
    assert_int_equal(options.log, 0);
    assert_int_equal(options.verify, 0);
    assert_int_equal(options.poison, 0);

    const char *messages;
    assert_int_equal(resolve(NULL, &resolved, &messages), 0);
    assert_string_equal(messages, "");
    assert_memory_equal(&resolved, &options, sizeof options);
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_string_equal(messages, "");
    assert_memory_equal(&resolved, &options, sizeof options);
}

static void a_smaller_structure_is_not_written_beyond_its_end(void **state) {
    (void)state;
    gc_options room[2];
    for (uint32_t size = 0; size <= sizeof room; size++) {
        memset(room, 0xee, sizeof room);
        gc_options_init_abi(room, 7, size);
        for (size_t i = size; i < sizeof room; i++)
            assert_int_equal(((unsigned char *)room)[i], 0xee);
        if (size >= 8) {
            assert_int_equal(room[0].abi, 7);
            assert_int_equal(room[0].size, size);
        }
    }
}

static void another_version_s_options_are_refused(void **state) {
    (void)state;
    gc_options options, resolved;
    const char *messages;
    gc_options_init_abi(&options, GC_ABI + 1, sizeof options);
    assert_int_equal(resolve(&options, &resolved, &messages), EINVAL);
    assert_non_null(strstr(messages, "compiled for another version"));
    assert_int_equal(lines(messages), 1);
    gc_options_init_abi(&options, GC_ABI, sizeof options - 8);
    assert_int_equal(resolve(&options, &resolved, &messages), EINVAL);
    assert_non_null(strstr(messages, "compiled for another version"));
    memset(&options, 0, sizeof options);
    assert_int_equal(resolve(&options, &resolved, &messages), EINVAL);
    assert_non_null(strstr(messages, "gc_options_init()"));
}

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

#define FIELD(name) #name, offsetof(gc_options, name), sizeof((gc_options){0}.name)

static const struct {
    const char *name;
    size_t offset, bytes;
    uint64_t good[4]; /* 0 may be among them, first */
    uint64_t bad[4];  /* up to the first 0, unless zero_is_bad */
    bool zero_is_bad;
    const char *variable;
    const char *good_text[5];
    uint64_t good_values[5];
    const char *bad_text[6];
} fields[] = {
    {FIELD(heap_limit), {0, MIB, GIB, SIZE_MAX}, {1, MIB - 1}, false, "CAIRN_HEAP_LIMIT",
        {"0", "1M", "1048576", "3G", "2T"}, {0, MIB, MIB, 3 * GIB, 2 * TIB},
        {"", "1", "1023K", "-1", "1Q", "99999999999T"}},
    {FIELD(heap_reserve), {16 * MIB, TIB, 4 * TIB, GIB}, {16 * MIB - 1, 4 * TIB + 1}, true,
        "CAIRN_HEAP_RESERVE", {"16M", "4T"}, {16 * MIB, 4 * TIB}, {"0", "15M", "5T", "many"}},
    {FIELD(nursery), {0, 64 * KIB, 64 * GIB, MIB}, {1, 64 * KIB - 1, 64 * GIB + 1}, false,
        "CAIRN_NURSERY", {"0", "64K", "64G"}, {0, 64 * KIB, 64 * GIB},
        {"63K", "65G", "64KB", "64 K", "64k", "0x100000"}},
    {FIELD(mark_stack_limit), {0, 4 * KIB, MIB, SIZE_MAX}, {1, 4 * KIB - 1}, false,
        "CAIRN_MARK_STACK_LIMIT", {"0", "4K", "1M"}, {0, 4 * KIB, MIB},
        {"1", "3K", " 4K", "18446744073709551616", "16777216T"}},
/* Those that mean something only beside others: see the table of formats. */
#define WORD_OF_FORMAT(name, variable)                                                             \
    {                                                                                              \
        FIELD(name), {0}, {0}, false, variable, {"0", "0x0", "0x00000000000000000000"}, {0}, {     \
            "", "0x", "-1", "0xg0", "18446744073709551616", "0x10000000000000000"                  \
        }                                                                                          \
    }
    WORD_OF_FORMAT(tag_mask, "CAIRN_TAG_MASK"),
    WORD_OF_FORMAT(tag_value, "CAIRN_TAG_VALUE"),
    WORD_OF_FORMAT(tag_kind_mask, "CAIRN_TAG_KIND_MASK"),
    WORD_OF_FORMAT(tag_kinds, "CAIRN_TAG_KINDS"),
    {FIELD(tag_address_mask), {0, UINT64_MAX, UINT64_MAX - 7, 0x7ffffffffff0}, {0}, false,
        "CAIRN_TAG_ADDRESS_MASK",
        {"0", "18446744073709551615", "0xfffffffffffffff8", "0x7FfFFFfffff0", "0xffffffffffff"},
        {0, UINT64_MAX, UINT64_MAX - 7, 0x7ffffffffff0, 0xffffffffffff},
        {"ff", "1K", " 1", "0X10", "0x 1", "0xffffffffffffffff1"}},
    {FIELD(tag_address_left), {0}, {64, UINT32_MAX}, false, "CAIRN_TAG_ADDRESS_LEFT", {"0"}, {0},
        {"", "64", "0x1", "-1"}},
    {FIELD(tag_address_right), {0}, {64, UINT32_MAX}, false, "CAIRN_TAG_ADDRESS_RIGHT", {"0"}, {0},
        {"", "64", "0x1", "-1"}},
    {FIELD(profile_interval), {1, 4 * KIB, MIB, TIB}, {0, TIB + 1}, true, "CAIRN_PROFILE_INTERVAL",
        {"1", "64K", "1T"}, {1, 64 * KIB, TIB}, {"0", "2T", "", "often", "-1"}},
    {FIELD(site_memory), {64 * KIB, MIB, GIB, 16 * GIB}, {0, 64 * KIB - 1, 16 * GIB + 1}, true,
        "CAIRN_SITE_MEMORY", {"64K", "16G"}, {64 * KIB, 16 * GIB}, {"0", "63K", "17G", "all"}},
    /* A text: what is right is below. */
    {FIELD(profile), {0}, {0}, false, "CAIRN_PROFILE", {NULL}, {0},
        {"", "profile", "profile.svg", ".pb", "profile.pb.xz", "profile.PB"}},
    {FIELD(site_depth), {1, 2, 64, 256}, {0, 257, UINT32_MAX}, true, "CAIRN_SITE_DEPTH",
        {"1", "256"}, {1, 256}, {"0", "257", "1K", ""}},
    {FIELD(find_leaks), {0, 1, GC_LEAKS_ALL, GC_LEAKS_SAMPLED}, {GC_LEAKS_ALL + 1, UINT32_MAX},
        false, "CAIRN_FIND_LEAKS", {"0", "1", "all"}, {0, 1, 2}, {"", "2", "yes", "All"}},
    {FIELD(growth_percent), {10, 75, 1000, 11}, {9, 1001, UINT32_MAX}, true, "CAIRN_GROWTH_PERCENT",
        {"10", "1000"}, {10, 1000}, {"9", "1001", "75%", "1K", "4294967306"}},
    {FIELD(barrier), {0, 1, GC_BARRIER_CROSS, GC_BARRIER_EXPLICIT_CROSS},
        {GC_BARRIER_EXPLICIT_CROSS + 1, UINT32_MAX}, false, "CAIRN_BARRIER",
        {"auto", "uffd", "mprotect", "none", "cross"}, {0, 1, 2, 3, 4},
        {"", "0", "Auto", "uffd ", "soft"}},
    {FIELD(writes_explicitly), {0, 1, GC_WRITES_ALL, 1}, {GC_WRITES_ALL + 1, UINT32_MAX}, false,
        "CAIRN_WRITES_EXPLICITLY", {"no", "typed", "all"}, {0, 1, 2}, {"", "1", "yes", "Typed"}},
    {FIELD(large_fit), {0, 1, 2, GC_FIT_WORST}, {GC_FIT_WORST + 1}, false, "CAIRN_LARGE_FIT",
        {"first", "best", "worst"}, {0, 1, 2}, {"next", "FIRST", "1"}},
    {FIELD(stop), {0, GC_STOP_SAFEPOINT, 1, 1}, {GC_STOP_SAFEPOINT + 1, UINT32_MAX}, false,
        "CAIRN_STOP", {"signal", "safepoint"}, {0, 1}, {"", "0", "Signal", "safepoints"}},
    {FIELD(stop_signal), {0, 1, SIGUSR2, 64}, {SIGKILL, 33, 65, UINT32_MAX}, false,
        "CAIRN_STOP_SIGNAL", {"0", "10", "31", "34", "64"}, {0, 10, 31, 34, 64},
        {"", "65", "32", "-1", "SIGUSR1", "9"}},
    {FIELD(attach), {0, GC_ATTACH_AUTO, 1, 1}, {GC_ATTACH_AUTO + 1, UINT32_MAX}, false,
        "CAIRN_ATTACH", {"explicit", "auto"}, {0, 1}, {"", "1", "AUTO", "automatic"}},
    {FIELD(stack_scan), {0, GC_STACK_SCAN_PRECISE, 1, 1}, {GC_STACK_SCAN_PRECISE + 1, UINT32_MAX},
        false, "CAIRN_STACK_SCAN", {"ambiguous", "precise"}, {0, 1},
        {"", "0", "Precise", "conservative"}},
    {FIELD(workers), {0, 1, 2, 64}, {65, UINT32_MAX}, false, "CAIRN_WORKERS", {"0", "1", "64"},
        {0, 1, 64}, {"", "65", "-1", "1K", "all"}},
    {FIELD(stress), {0, 1, 1000, UINT32_MAX}, {0}, false, "CAIRN_STRESS", {"0", "1", "4294967295"},
        {0, 1, UINT32_MAX}, {"4294967296", "-1", "yes", "1K"}},
    {FIELD(release_after), {1, 8, 1000000, 2}, {1000001, UINT32_MAX}, true, "CAIRN_RELEASE_AFTER",
        {"1", "1000000"}, {1, 1000000}, {"0", "1000001", "1M"}},
    {FIELD(compact_percent), {0, 1, 60, 99}, {100, UINT32_MAX}, false, "CAIRN_COMPACT_PERCENT",
        {"0", "99"}, {0, 99}, {"100", "-1", "50%"}},
    {FIELD(finalizers), {0, 1, GC_FINALIZERS_INLINE, 2}, {GC_FINALIZERS_INLINE + 1, UINT32_MAX},
        false, "CAIRN_FINALIZERS", {"manual", "thread", "inline"}, {0, 1, 2},
        {"", "1", "Thread", "auto"}},
    {FIELD(protect_moved), {0, 1, 8, 1000000}, {1000001, UINT32_MAX}, false, "CAIRN_PROTECT_MOVED",
        {"0", "1", "1000000"}, {0, 1, 1000000}, {"1000001", "-1", "yes"}},
    {FIELD(type_stats), {0, 1, 64, 1000000}, {1000001, UINT32_MAX}, false, "CAIRN_TYPE_STATS",
        {"0", "1", "1000000"}, {0, 1, 1000000}, {"1000001", "-1", "64x"}},
#define SWITCH(name, variable)                                                                     \
    {                                                                                              \
        FIELD(name), {0, 1, 1, 1}, {2, 255}, false, variable, {"0", "1"}, {0, 1}, {                \
            "2", "yes", "", "256", "on"                                                            \
        }                                                                                          \
    }
    SWITCH(prepares_writes, "CAIRN_PREPARES_WRITES"),
    SWITCH(one_past_end_in_heap, "CAIRN_ONE_PAST_END_IN_HEAP"),
    SWITCH(cgroup_limit, "CAIRN_CGROUP_LIMIT"),
    SWITCH(huge_pages, "CAIRN_HUGE_PAGES"),
    SWITCH(log, "CAIRN_LOG"),
    SWITCH(verify, "CAIRN_VERIFY"),
    {FIELD(poison), {GC_POISON_OFF, GC_POISON_FILL, GC_POISON_GUARD}, {3, 255}, false,
        "CAIRN_POISON", {"0", "1", "guard"}, {0, 1, GC_POISON_GUARD},
        {"2", "yes", "", "256", "Guard"}},
    SWITCH(dump_heap, "CAIRN_DUMP_HEAP"),
};

#define FIELDS (sizeof fields / sizeof *fields)

/* Little endian, as all that the tests run on. */
static void set_field(gc_options *options, size_t i, uint64_t value) {
    memcpy((char *)options + fields[i].offset, &value, fields[i].bytes);
}

static uint64_t get_field(const gc_options *options, size_t i) {
    uint64_t value = 0;
    memcpy(&value, (const char *)options + fields[i].offset, fields[i].bytes);
    return value;
}

static void the_table_of_this_test_has_every_field(void **state) {
    (void)state;
    size_t bytes = 2 * sizeof(uint32_t) + sizeof(char *); /* trace, which takes any text */
    for (size_t i = 0; i < FIELDS; i++) bytes += fields[i].bytes;
    assert_true(bytes <= sizeof(gc_options) && bytes + sizeof(size_t) > sizeof(gc_options));
}

static void a_field_takes_the_values_that_it_may_have(void **state) {
    (void)state;
    for (size_t i = 0; i < FIELDS; i++) {
        for (size_t j = 0; j < 4; j++) {
            gc_options options, resolved;
            const char *messages;
            gc_options_init(&options);
            set_field(&options, i, fields[i].good[j]);
            assert_int_equal(resolve(&options, &resolved, &messages), 0);
            assert_string_equal(messages, "");
            assert_int_equal(get_field(&resolved, i), fields[i].good[j]);
        }
    }
}

static void a_wrong_field_is_refused_and_named(void **state) {
    (void)state;
    for (size_t i = 0; i < FIELDS; i++) {
        for (size_t j = 0; j < 4; j++) {
            if (fields[i].bad[j] == 0 && (j == 0 || !fields[i].zero_is_bad)) break;
            gc_options options, resolved;
            const char *messages;
            char value[32];
            gc_options_init(&options);
            set_field(&options, i, fields[i].bad[j]);
            assert_int_equal(resolve(&options, &resolved, &messages), EINVAL);
            assert_int_equal(lines(messages), 1);
            assert_non_null(strstr(messages, fields[i].name));
            assert_non_null(strstr(messages, "accepted: "));
            snprintf(value, sizeof value, " %llu;", (unsigned long long)fields[i].bad[j]);
            assert_non_null(strstr(messages, value));
        }
    }
}

static void a_variable_wins_over_its_field(void **state) {
    (void)state;
    for (size_t i = 0; i < FIELDS; i++) {
        for (size_t j = 0; j < 5 && fields[i].good_text[j]; j++) {
            gc_options options, resolved;
            const char *messages;
            gc_options_init(&options);
            setenv(fields[i].variable, fields[i].good_text[j], 1);
            assert_int_equal(resolve(&options, &resolved, &messages), 0);
            unsetenv(fields[i].variable);
            assert_string_equal(messages, "");
            assert_int_equal(get_field(&resolved, i), fields[i].good_values[j]);
            set_field(&resolved, i, get_field(&options, i));
            if (strcmp(fields[i].name, "stack_scan") == 0) resolved.stop = options.stop;
            assert_memory_equal(&resolved, &options, sizeof options);
        }
    }
}

static void a_wrong_variable_is_named_and_ignored(void **state) {
    (void)state;
    for (size_t i = 0; i < FIELDS; i++) {
        for (size_t j = 0; j < 6 && fields[i].bad_text[j]; j++) {
            gc_options options, resolved;
            const char *messages;
            char text[128];
            gc_options_init(&options);
            setenv(fields[i].variable, fields[i].bad_text[j], 1);
            assert_int_equal(resolve(&options, &resolved, &messages), 0);
            unsetenv(fields[i].variable);
            assert_int_equal(lines(messages), 1);
            snprintf(text, sizeof text, "%s=%s;", fields[i].variable, fields[i].bad_text[j]);
            assert_non_null(strstr(messages, text));
            assert_non_null(strstr(messages, "accepted: "));
            assert_memory_equal(&resolved, &options, sizeof options);
        }
    }
}

static void a_profile_has_a_name_that_says_its_format(void **state) {
    (void)state;
    static const char *const good[] = {"a.folded", "/tmp/x.live.folded", "x-%p.pb", "%%b.pb.gz"};
    static const char *const bad[] = {"", "a", ".pb", "a.svg", "a.pb.gz ", "%d.pb", "%"};
    gc_options options, resolved;
    const char *messages;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        gc_options_init(&options);
        options.profile = good[i];
        assert_int_equal(resolve(&options, &resolved, &messages), 0);
        assert_string_equal(resolved.profile, good[i]);
        options.profile = "other.pb";
        setenv("CAIRN_PROFILE", good[i], 1);
        assert_int_equal(resolve(&options, &resolved, &messages), 0);
        assert_string_equal(resolved.profile, good[i]);
        unsetenv("CAIRN_PROFILE");
        assert_string_equal(messages, "");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gc_options_init(&options);
        options.profile = bad[i];
        assert_int_equal(resolve(&options, &resolved, &messages), EINVAL);
        assert_non_null(strstr(messages, "the field profile is"));
        assert_non_null(strstr(messages, "accepted: NULL or a path that ends in"));
    }
}

static void a_files_name_may_be_any_text(void **state) {
    (void)state;
    gc_options options, resolved;
    const char *messages;
    gc_options_init(&options);
    assert_null(options.trace);
    options.trace = "field";
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_string_equal(resolved.trace, "field");
    setenv("CAIRN_TRACE", "1K /%", 1);
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_string_equal(resolved.trace, "1K /%");
    assert_string_equal(messages, "");
    setenv("CAIRN_TRACE", "", 1);
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_string_equal(resolved.trace, "");
    unsetenv("CAIRN_TRACE");
}

static void a_wrong_field_is_refused_although_its_variable_is_right(void **state) {
    (void)state;
    gc_options options, resolved;
    const char *messages;
    gc_options_init(&options);
    options.growth_percent = 0;
    setenv("CAIRN_GROWTH_PERCENT", "100", 1);
    assert_int_equal(resolve(&options, &resolved, &messages), EINVAL);
    unsetenv("CAIRN_GROWTH_PERCENT");
}

static void signals_that_the_program_or_the_system_needs_are_refused(void **state) {
    (void)state;
    static const int refused[] = {
        SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, 32, 33};
    gc_options options, resolved;
    const char *messages;
    size_t accepted = 0;
    for (uint32_t number = 1; number <= 64; number++) {
        bool refuse = false;
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            refuse = refuse || (uint32_t)refused[i] == number;
        gc_options_init(&options);
        options.stop_signal = number;
        assert_int_equal(resolve(&options, &resolved, &messages), refuse ? EINVAL : 0);
        if (refuse) assert_non_null(strstr(messages, "but not SIGKILL, SIGSTOP, SIGSEGV"));
        accepted += !refuse;
    }
    assert_int_equal(accepted, 64 - sizeof refused / sizeof *refused);
}

/* ---- The format of words --------------------------------------------------------------------- */

struct format {
    uint64_t mask, value, kind_mask, kinds, address_mask;
    uint32_t left, right;
    const char *fault; /* NULL: none */
};

#define TOP16      UINT64_C(0xffff000000000000)
#define LOW47      UINT64_C(0x00007fffffffffff)
#define EVERYTHING UINT64_MAX

static const struct format formats[] = {
    {1, 0, 0, 0, EVERYTHING - 1, 0, 0, NULL},
    {0, 0, 7, 0xaa, EVERYTHING - 7, 0, 0, NULL},
    {TOP16, TOP16, 0, 0, ~TOP16, 0, 0, NULL},
    {0, 0, UINT64_C(63) << 58, UINT64_C(1) << 63, LOW47, 0, 0, NULL},
    {0, 0, 0, 0, TOP16 | LOW47 << 16, 0, 16, NULL},
    {0, 0, 0, 0, ~TOP16, 4, 0, NULL},
    {1, 0, 0, 0, 0, 0, 0, "tag_address_mask is 0"},
    {0, 1, 0, 0, 0, 0, 0, "tag_address_mask is 0"},
    {0, 0, 1, 0, 0, 0, 0, "tag_address_mask is 0"},
    {0, 0, 0, 1, 0, 0, 0, "tag_address_mask is 0"},
    {0, 0, 0, 0, 0, 1, 0, "tag_address_mask is 0"},
    {0, 0, 0, 0, 0, 0, 1, "tag_address_mask is 0"},
    {1, 2, 0, 0, ~UINT64_C(3), 0, 0, "tag_value has bits that tag_mask hasn't"},
    {0, 1, 0, 0, ~UINT64_C(3), 0, 0, "tag_value has bits that tag_mask hasn't"},
    {0, 0, 7, 0, ~UINT64_C(7), 0, 0, "tag_kind_mask and tag_kinds"},
    {0, 0, 0, 7, ~UINT64_C(7), 0, 0, "tag_kind_mask and tag_kinds"},
    {0, 0, 5, 7, ~UINT64_C(7), 0, 0, "up to 6 adjacent bits"},
    {0, 0, UINT64_C(127) << 48, 7, LOW47, 0, 0, "up to 6 adjacent bits"},
    {0, 0, 7, 0x100, ~UINT64_C(7), 0, 0, "kinds that don't fit"},
    {1, 0, 7, 2, ~UINT64_C(7), 0, 0, "tag_mask and tag_kind_mask overlap"},
    {1, 0, 0, 0, EVERYTHING, 0, 0, "tag_address_mask overlaps"},
    {0, 0, 7, 2, ~UINT64_C(3), 0, 0, "tag_address_mask overlaps"},
    {0, 0, 0, 0, EVERYTHING, 1, 1, "are both set"},
    {0, 0, 0, 0, ~UINT64_C(31), 0, 0, "lose bits of addresses"},
    {0, 0, 0, 0, LOW47 >> 1, 0, 0, "lose bits of addresses"},
    {0, 0, 0, 0, EVERYTHING, 5, 0, "lose bits of addresses"},
    {0, 0, 0, 0, UINT64_C(0xffffffff), 3, 0, "lose bits of addresses"},
    {0, 0, 0, 0, EVERYTHING, 0, 18, "lose bits of addresses"},
    {0, 0, 0, 0, EVERYTHING, 63, 0, "lose bits of addresses"},
};

static void set_format(gc_options *options, const struct format *f) {
    options->tag_mask = f->mask;
    options->tag_value = f->value;
    options->tag_kind_mask = f->kind_mask;
    options->tag_kinds = f->kinds;
    options->tag_address_mask = f->address_mask;
    options->tag_address_left = f->left;
    options->tag_address_right = f->right;
}

static void the_fields_of_a_format_must_fit_together(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        gc_options options, resolved;
        const char *messages;
        gc_options_init(&options);
        set_format(&options, &formats[i]);
        int error = resolve(&options, &resolved, &messages);
        if (formats[i].fault == NULL) {
            assert_int_equal(error, 0);
            assert_string_equal(messages, "");
            assert_memory_equal(&resolved, &options, sizeof options);
        } else {
            assert_int_equal(error, EINVAL);
            assert_int_equal(lines(messages), 1);
            assert_non_null(strstr(messages, formats[i].fault));
        }
    }
}

static void set_word(const char *name, uint64_t value, bool hexadecimal) {
    char text[32];
    snprintf(text, sizeof text, hexadecimal ? "0x%llx" : "%llu", (unsigned long long)value);
    setenv(name, text, 1);
}

static void set_variables(const struct format *f) {
    set_word("CAIRN_TAG_MASK", f->mask, true);
    set_word("CAIRN_TAG_VALUE", f->value, true);
    set_word("CAIRN_TAG_KIND_MASK", f->kind_mask, false);
    set_word("CAIRN_TAG_KINDS", f->kinds, true);
    set_word("CAIRN_TAG_ADDRESS_MASK", f->address_mask, true);
    set_word("CAIRN_TAG_ADDRESS_LEFT", f->left, false);
    set_word("CAIRN_TAG_ADDRESS_RIGHT", f->right, false);
}

static void a_format_may_come_from_the_environment(void **state) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        gc_options options, expected, resolved;
        const char *messages;
        gc_options_init(&options);
        set_format(&options, &formats[1]);
        expected = options;
        if (formats[i].fault == NULL) set_format(&expected, &formats[i]);
        set_variables(&formats[i]);
        assert_int_equal(resolve(&options, &resolved, &messages), 0);
        without_variables(state);
        assert_memory_equal(&resolved, &expected, sizeof expected);
        assert_int_equal(lines(messages), formats[i].fault != NULL);
        if (formats[i].fault == NULL) continue;
        assert_non_null(strstr(messages, "ignored all CAIRN_TAG_ variables: "));
        assert_non_null(strstr(messages, formats[i].fault));
    }
}

/* Threads that are stopped by a signal have references where nothing says so. */
static void precise_stacks_imply_safepoints(void **state) {
    (void)state;
    gc_options options, resolved;
    const char *messages;
    gc_options_init(&options);
    options.stack_scan = GC_STACK_SCAN_PRECISE;
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_int_equal(resolved.stop, GC_STOP_SAFEPOINT);
    assert_string_equal(messages, "");
    setenv("CAIRN_STOP", "safepoint", 1);
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_string_equal(messages, "");
    setenv("CAIRN_STOP", "signal", 1);
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_int_equal(resolved.stop, GC_STOP_SAFEPOINT);
    assert_non_null(strstr(messages, "ignored CAIRN_STOP=signal: with precise stack_scan"));
    assert_int_equal(lines(messages), 1);
    setenv("CAIRN_STACK_SCAN", "ambiguous", 1);
    assert_int_equal(resolve(&options, &resolved, &messages), 0);
    assert_int_equal(resolved.stop, GC_STOP_SIGNAL);
    assert_string_equal(messages, "");
    unsetenv("CAIRN_STOP");
    setenv("CAIRN_STACK_SCAN", "precise", 1);
    assert_int_equal(resolve(NULL, &resolved, &messages), 0);
    assert_int_equal(resolved.stop, GC_STOP_SAFEPOINT);
    assert_int_equal(resolved.stack_scan, GC_STACK_SCAN_PRECISE);
    unsetenv("CAIRN_STACK_SCAN");
}

static void automatic_attaching_is_known_from_the_environment_alone(void **state) {
    (void)state;
    assert_false(gci_options_attach_auto());
    static const char *const others[] = {"", "explicit", "AUTO", "automatic", "1"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        setenv("CAIRN_ATTACH", others[i], 1);
        assert_false(gci_options_attach_auto());
    }
    setenv("CAIRN_ATTACH", "auto", 1);
    assert_true(gci_options_attach_auto());
    unsetenv("CAIRN_ATTACH");
}

static void an_unknown_variable_is_told_the_nearest(void **state) {
    (void)state;
    static const struct {
        const char *name, *nearest;
    } cases[] = {{"CAIRN_NURSREY", "CAIRN_NURSERY"}, {"CAIRN_VERIFI", "CAIRN_VERIFY"},
        {"CAIRN_HEAPLIMIT", "CAIRN_HEAP_LIMIT"}, {"CAIRN_LOGS", "CAIRN_LOG"},
        {"CAIRN_BARRIER_KIND", "CAIRN_BARRIER"}, {"CAIRN_STOP_SIGNALS", "CAIRN_STOP_SIGNAL"},
        {"CAIRN_WORKER", "CAIRN_WORKERS"}};
    gc_options resolved;
    const char *messages;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv(cases[i].name, "1", 1);
        assert_int_equal(resolve(NULL, &resolved, &messages), 0);
        unsetenv(cases[i].name);
        assert_int_equal(lines(messages), 1);
        char text[128];
        snprintf(text, sizeof text, "unknown variable %s ", cases[i].name);
        assert_non_null(strstr(messages, text));
        snprintf(text, sizeof text, "did you mean %s?", cases[i].nearest);
        assert_non_null(strstr(messages, text));
    }
    char endless[4096] = "CAIRN_";
    memset(endless + 6, 'X', sizeof endless - 7);
    setenv(endless, "1", 1);
    assert_int_equal(resolve(NULL, &resolved, &messages), 0);
    unsetenv(endless);
    assert_int_equal(lines(messages), 1);
}

static void test_and_bench_variables_are_nobody_s_mistake(void **state) {
    (void)state;
    gc_options resolved;
    const char *messages;
    setenv("CAIRN_TEST_NURSERY", "1", 1);
    setenv("CAIRN_BENCH_RUNS", "1", 1);
    assert_int_equal(resolve(NULL, &resolved, &messages), 0);
    unsetenv("CAIRN_TEST_NURSERY");
    unsetenv("CAIRN_BENCH_RUNS");
    assert_string_equal(messages, "");
}

/* FIELD and PROMISE: the program's; VARIABLE, PROMISED: of the environment, or NULL. */
static const struct {
    uint32_t field, promise;
    const char *variable, *promised;
    uint32_t barrier, writes;
    bool complains;
} choices[] = {
    {GC_BARRIER_AUTO, GC_WRITES_PLAINLY, "explicit", NULL, GC_BARRIER_AUTO, GC_WRITES_PLAINLY,
        true},
    {GC_BARRIER_NONE, GC_WRITES_PLAINLY, "explicit", "no", GC_BARRIER_NONE, GC_WRITES_PLAINLY,
        true},
    {GC_BARRIER_AUTO, GC_WRITES_TYPED, "explicit", NULL, GC_BARRIER_EXPLICIT, GC_WRITES_TYPED,
        false},
    {GC_BARRIER_UFFD, GC_WRITES_ALL, "explicit", NULL, GC_BARRIER_EXPLICIT, GC_WRITES_ALL, false},
    {GC_BARRIER_AUTO, GC_WRITES_PLAINLY, "explicit", "all", GC_BARRIER_EXPLICIT, GC_WRITES_ALL,
        false},
    {GC_BARRIER_EXPLICIT, GC_WRITES_PLAINLY, NULL, NULL, GC_BARRIER_EXPLICIT, GC_WRITES_TYPED,
        false},
    {GC_BARRIER_EXPLICIT, GC_WRITES_ALL, NULL, NULL, GC_BARRIER_EXPLICIT, GC_WRITES_ALL, false},
    {GC_BARRIER_EXPLICIT, GC_WRITES_PLAINLY, "uffd", NULL, GC_BARRIER_UFFD, GC_WRITES_TYPED, false},
    {GC_BARRIER_EXPLICIT_CROSS, GC_WRITES_PLAINLY, "explicit", NULL, GC_BARRIER_EXPLICIT,
        GC_WRITES_TYPED, false},
    {GC_BARRIER_AUTO, GC_WRITES_PLAINLY, "explicit-cross", NULL, GC_BARRIER_EXPLICIT_CROSS,
        GC_WRITES_TYPED, false},
    {GC_BARRIER_AUTO, GC_WRITES_PLAINLY, NULL, NULL, GC_BARRIER_AUTO, GC_WRITES_PLAINLY, false},
};

static void the_explicit_barrier_is_for_programs_that_promise_gc_write(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        gc_options options, resolved;
        const char *messages;
        gc_options_init(&options);
        options.barrier = choices[i].field;
        options.writes_explicitly = choices[i].promise;
        if (choices[i].variable) setenv("CAIRN_BARRIER", choices[i].variable, 1);
        if (choices[i].promised) setenv("CAIRN_WRITES_EXPLICITLY", choices[i].promised, 1);
        assert_int_equal(resolve(&options, &resolved, &messages), 0);
        unsetenv("CAIRN_BARRIER");
        unsetenv("CAIRN_WRITES_EXPLICITLY");
        assert_int_equal(resolved.barrier, choices[i].barrier);
        assert_int_equal(resolved.writes_explicitly, choices[i].writes);
        assert_int_equal(lines(messages), choices[i].complains);
        if (choices[i].complains) assert_non_null(strstr(messages, "does not promise"));
    }
}

static void barriers_have_names(void **state) {
    (void)state;
    assert_string_equal(gci_barrier_name(GC_BARRIER_EXPLICIT), "explicit");
    assert_string_equal(gci_barrier_name(GC_BARRIER_EXPLICIT_CROSS), "explicit-cross");
    assert_string_equal(gci_barrier_name(GC_BARRIER_AUTO), "auto");
    assert_string_equal(gci_barrier_name(GC_BARRIER_CROSS), "cross");
    assert_string_equal(gci_barrier_name((enum gc_barrier)77), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_manual),
        cmocka_unit_test(a_smaller_structure_is_not_written_beyond_its_end),
        cmocka_unit_test(another_version_s_options_are_refused),
        cmocka_unit_test(the_table_of_this_test_has_every_field),
        cmocka_unit_test(a_field_takes_the_values_that_it_may_have),
        cmocka_unit_test(a_wrong_field_is_refused_and_named),
        cmocka_unit_test(a_variable_wins_over_its_field),
        cmocka_unit_test(a_wrong_variable_is_named_and_ignored),
        cmocka_unit_test(a_profile_has_a_name_that_says_its_format),
        cmocka_unit_test(a_files_name_may_be_any_text),
        cmocka_unit_test(a_wrong_field_is_refused_although_its_variable_is_right),
        cmocka_unit_test(signals_that_the_program_or_the_system_needs_are_refused),
        cmocka_unit_test(the_fields_of_a_format_must_fit_together),
        cmocka_unit_test(a_format_may_come_from_the_environment),
        cmocka_unit_test(precise_stacks_imply_safepoints),
        cmocka_unit_test(automatic_attaching_is_known_from_the_environment_alone),
        cmocka_unit_test(an_unknown_variable_is_told_the_nearest),
        cmocka_unit_test(test_and_bench_variables_are_nobody_s_mistake),
        cmocka_unit_test(the_explicit_barrier_is_for_programs_that_promise_gc_write),
        cmocka_unit_test(barriers_have_names),
    };
    return cmocka_run_group_tests_name("options", tests, without_variables, NULL);
}
