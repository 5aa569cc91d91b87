/* What runtime/ does for the collector apart from memory and barriers: messages, entry functions,
 * side masks, static and thread-local roots, the stack's base, and names for places. */
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
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cairn/gc.h"
#include "capture.h"
#include "plugin.h"
#include "runtime/arch/arch.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/roots.h"
#include "runtime/tls.h"
#include "runtime/vm.h"

/* ---- Messages ------------------------------------------------------------------------------- */

static void a_message_is_one_line_and_keeps_errno(void **state) {
    (void)state;
    begin_capture();
    errno = ERANGE;
    gci_log("%s %d", "answer", 42);
    gci_print("%s", "plain");
    int kept = errno;
    assert_string_equal(end_capture(), "cairn: answer 42\nplain");
    assert_int_equal(kept, ERANGE);
}

static void a_long_message_is_cut_to_one_line(void **state) {
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text);
    for (size_t length = 900; length < 1200; length++) {
        begin_capture();
        gci_log("%.*s", (int)length, text);
        const char *line = end_capture();
        assert_int_equal(lines(line), 1);
        size_t got = strlen(line);
        assert_int_equal(line[got - 1], '\n');
        if (got != strlen("cairn: ") + length + 1) assert_string_equal(line + got - 4, "...\n");
    }
}

static void a_closed_stderr_does_no_harm(void **state) {
    (void)state;
    begin_capture();
    close(STDERR_FILENO);
    errno = 0;
    gci_log("nobody hears this");
    int kept = errno;
    end_capture();
    assert_int_equal(kept, 0);
}

static void a_fatal_message_is_printed_before_the_abort(void **state) {
    (void)state;
    begin_capture();
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        gci_fatal("the end: %d", 7);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_string_equal(end_capture(), "cairn: the end: 7\n");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
/* ---- Side masks and entry functions --------------------------------------------------------- */

/* Both kinds of header at once: what follows has the processor's own under its names, and the
 * portable one as portable_side_masks64() and the entry function portable_entry(). */
uintptr_t scan_from(uintptr_t a, uintptr_t b, uintptr_t c, struct gci_frame *frame);
uintptr_t native_entry(uintptr_t a, uintptr_t b, uintptr_t c);
uintptr_t portable_entry(uintptr_t a, uintptr_t b, uintptr_t c);

GCI_ENTRY(native_entry, scan_from);

#if defined(__x86_64__) && !defined(CAIRN_PORTABLE)
#undef GCI_ENTRY
#undef GCI_FRAME_WORDS
#define gci_relax          portable_relax
#define gci_thread_pointer portable_thread_pointer
#define gci_side_masks64   portable_side_masks64
#include "runtime/arch/portable.h"
#undef gci_side_masks64
#undef gci_thread_pointer
#undef gci_relax
#else
#define portable_side_masks64 gci_side_masks64
#endif

GCI_ENTRY(portable_entry, scan_from);

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void check_masks(const struct gci_side_masks *masks, const uint8_t *side) {
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(masks->start >> i & 1, side[i] & 1);
        assert_int_equal(masks->end >> i & 1, side[i] >> 1 & 1);
        assert_int_equal(masks->mark >> i & 1, side[i] >> 2 & 1);
    }
}

static void side_masks_say_what_a_loop_over_the_bytes_says(void **state) {
    (void)state;
    uint8_t side[64 + 16];
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof side; i++) side[i] = (uint8_t)next_random();
        const uint8_t *at = side + round % 16;
        struct gci_side_masks native = gci_side_masks64(at);
        struct gci_side_masks portable = portable_side_masks64(at);
        check_masks(&native, at);
        check_masks(&portable, at);
    }
}

/* Set by the test, read by scan_from(): what to look for, which is nowhere in this form. */
static volatile uintptr_t negated_value;
static unsigned values_found; /* bit i: the value + i was found between the frame and the base */
static uintptr_t arguments_seen[3];
static char description[256];

__attribute__((no_sanitize("address"))) uintptr_t scan_from(
    uintptr_t a, uintptr_t b, uintptr_t c, struct gci_frame *frame) {
    const uintptr_t *base = gci_stack_base(NULL);
    uintptr_t first = ~negated_value;
    values_found = 0;
    for (const uintptr_t *word = (const uintptr_t *)frame; word < base; word++) {
        if (*word - first >= 6) continue;
        values_found |= 1u << (*word - first);
        if (*word == first + 2) gci_describe_stack(word, description, sizeof description);
    }
    arguments_seen[0] = a;
    arguments_seen[1] = b;
    arguments_seen[2] = c;
    return a * 3;
}

static void an_entry_function_passes_arguments_and_results_on(void **state) {
    (void)state;
    assert_int_equal(native_entry(14, (uintptr_t)-1, 3), 42);
    assert_int_equal(arguments_seen[0], 14);
    assert_int_equal(arguments_seen[1], (uintptr_t)-1);
    assert_int_equal(arguments_seen[2], 3);
    assert_int_equal(portable_entry(7, 8, 9), 21);
    assert_int_equal(arguments_seen[0], 7);
    assert_int_equal(arguments_seen[1], 8);
    assert_int_equal(arguments_seen[2], 9);
}

#if defined(__x86_64__)
/* Calls FUNCTION(1, 0, 0) while ~NEGATED + 0 to 5 are in rbx, rbp, r12, r13, r14 and r15, and
 * nowhere else. Returns how many of these registers it finds unchanged afterwards. */
unsigned hold_in_registers(
    uintptr_t negated, uintptr_t (*function)(uintptr_t, uintptr_t, uintptr_t));

/* clang-format off */
__asm__(".pushsection .text\n"
        ".globl hold_in_registers\n"
        ".type hold_in_registers, @function\n"
        "hold_in_registers:\n"
        "    .cfi_startproc\n"
        "    pushq %rbx\n    .cfi_def_cfa_offset 16\n    .cfi_offset %rbx, -16\n"
        "    pushq %rbp\n    .cfi_def_cfa_offset 24\n    .cfi_offset %rbp, -24\n"
        "    pushq %r12\n    .cfi_def_cfa_offset 32\n    .cfi_offset %r12, -32\n"
        "    pushq %r13\n    .cfi_def_cfa_offset 40\n    .cfi_offset %r13, -40\n"
        "    pushq %r14\n    .cfi_def_cfa_offset 48\n    .cfi_offset %r14, -48\n"
        "    pushq %r15\n    .cfi_def_cfa_offset 56\n    .cfi_offset %r15, -56\n"
        "    pushq %rdi\n    .cfi_def_cfa_offset 64\n"
        "    movq %rdi, %rbx\n    notq %rbx\n"
        "    leaq 1(%rbx), %rbp\n    leaq 2(%rbx), %r12\n    leaq 3(%rbx), %r13\n"
        "    leaq 4(%rbx), %r14\n    leaq 5(%rbx), %r15\n"
        "    movq %rsi, %rax\n    movl $1, %edi\n    xorl %esi, %esi\n    xorl %edx, %edx\n"
        "    call *%rax\n"
        "    popq %rdi\n    .cfi_def_cfa_offset 56\n"
        "    notq %rdi\n    xorl %eax, %eax\n    xorl %ecx, %ecx\n"
        "    cmpq %rdi, %rbx\n    sete %cl\n    addl %ecx, %eax\n    incq %rdi\n"
        "    cmpq %rdi, %rbp\n    sete %cl\n    addl %ecx, %eax\n    incq %rdi\n"
        "    cmpq %rdi, %r12\n    sete %cl\n    addl %ecx, %eax\n    incq %rdi\n"
        "    cmpq %rdi, %r13\n    sete %cl\n    addl %ecx, %eax\n    incq %rdi\n"
        "    cmpq %rdi, %r14\n    sete %cl\n    addl %ecx, %eax\n    incq %rdi\n"
        "    cmpq %rdi, %r15\n    sete %cl\n    addl %ecx, %eax\n"
        "    popq %r15\n    .cfi_def_cfa_offset 48\n"
        "    popq %r14\n    .cfi_def_cfa_offset 40\n"
        "    popq %r13\n    .cfi_def_cfa_offset 32\n"
        "    popq %r12\n    .cfi_def_cfa_offset 24\n"
        "    popq %rbp\n    .cfi_def_cfa_offset 16\n"
        "    popq %rbx\n    .cfi_def_cfa_offset 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size hold_in_registers, . - hold_in_registers\n"
        ".popsection\n");
/* clang-format on */

static void a_value_held_only_in_a_register_of_the_caller_is_found(void **state) {
    (void)state;
    negated_value = ~(uintptr_t)0x5ca1ab1e0000;
    assert_int_equal(hold_in_registers(negated_value, native_entry), 6);
    assert_int_equal(values_found, 63);
    assert_int_equal(hold_in_registers(negated_value + 64, portable_entry), 6);
    assert_int_equal(values_found, 0);
    negated_value += 64;
    assert_int_equal(hold_in_registers(negated_value, portable_entry), 6);
    assert_int_equal(values_found, 63);
}

static void a_register_is_named_with_the_function_that_held_it(void **state) {
    (void)state;
    negated_value = ~(uintptr_t)0x5ca1ab1e0000;
    hold_in_registers(negated_value, native_entry);
    assert_ptr_equal(strstr(description, "register r12 of hold_in_registers (+0x"), description);
    assert_non_null(strstr(description, ", saved by native_entry"));
    hold_in_registers(negated_value, portable_entry);
    assert_ptr_equal(strstr(description, "register r12 of hold_in_registers (+0x"), description);
    assert_non_null(strstr(description, ", saved by portable_entry"));
}
#endif

/* ---- Static roots --------------------------------------------------------------------------- */

static void *in_data = (void *)1;
static void *in_bss;
static void *const in_relro = &in_bss;
static GCI_GLOBAL void *of_the_library = (void *)1;
static __thread void *thread_local_pointer = (void *)1;

/* Whether ranges of KIND cover the word at PLACE; other kinds must not come. */
struct lookup {
    const void *place;
    enum gci_root_kind kind;
    bool found;
    size_t ranges;
};

static void look(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    struct lookup *lookup = context;
    assert_int_equal(kind, lookup->kind);
    assert_int_equal((uintptr_t)start % sizeof *start, 0);
    assert_int_equal((uintptr_t)end % sizeof *end, 0);
    assert_true(start < end);
    lookup->ranges++;
    if (lookup->place >= (const void *)start && lookup->place < (const void *)end)
        lookup->found = true;
}

static bool static_roots_cover(const struct gci_static_roots *roots, const void *place) {
    struct lookup lookup = {place, GCI_ROOT_STATIC, false, 0};
    gci_static_roots_visit(roots, look, &lookup);
    return lookup.found;
}

/* Of the calling thread. */
static bool tls_roots_cover(const void *place) {
    struct lookup lookup = {place, GCI_ROOT_TLS, false, 0};
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    gci_tls_visit(gci_thread_pointer(), 0, 0, &roots, look, &lookup);
    gci_static_roots_clear(&roots);
    return lookup.found;
}

static void static_variables_are_roots(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_true(roots.count > 0);
    assert_true(static_roots_cover(&roots, &in_data));
    assert_true(static_roots_cover(&roots, &in_bss));
    assert_true(static_roots_cover(&roots, &environ)); /* the C library's */
    assert_true(static_roots_cover(&roots, &stdout));
    gci_static_roots_clear(&roots);
    assert_int_equal(roots.count, 0);
}

static void what_the_program_cannot_write_is_no_root(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_false(static_roots_cover(&roots, &in_relro));
    assert_false(static_roots_cover(&roots, "text"));
    assert_false(static_roots_cover(&roots, (const void *)(uintptr_t)abort));
    gci_static_roots_clear(&roots);
}

static void the_library_s_own_data_are_no_roots(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_false(static_roots_cover(&roots, &of_the_library));
    assert_false(static_roots_cover(&roots, __start_cairn_data));
    assert_false(static_roots_cover(&roots, (const void *)((uintptr_t)__stop_cairn_data - 1)));
    gci_static_roots_clear(&roots);
}

static void stacks_and_malloc_are_no_static_roots(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    void *local = NULL, *block = malloc(64);
    assert_false(static_roots_cover(&roots, &local));
    assert_false(static_roots_cover(&roots, block));
    assert_false(static_roots_cover(&roots, &thread_local_pointer));
    free(block);
    gci_static_roots_clear(&roots);
}

#define MAX_PAGE 65536

static char guarded[8 * MAX_PAGE] __attribute__((aligned(MAX_PAGE)));

static void pages_made_inaccessible_are_left_out(void **state) {
    (void)state;
    size_t page = gci_page_size();
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_true(static_roots_cover(&roots, guarded + 2 * page));
    assert_int_equal(mprotect(guarded + 2 * page, page, PROT_NONE), 0);
    assert_int_equal(mprotect(guarded + 4 * page, 2 * page, PROT_NONE), 0);
    errno = ERANGE;
    assert_true(static_roots_cover(&roots, guarded + 2 * page - 1));
    assert_int_equal(errno, ERANGE);
    assert_false(static_roots_cover(&roots, guarded + 2 * page));
    assert_false(static_roots_cover(&roots, guarded + 3 * page - 1));
    assert_true(static_roots_cover(&roots, guarded + 3 * page));
    assert_false(static_roots_cover(&roots, guarded + 4 * page));
    assert_false(static_roots_cover(&roots, guarded + 6 * page - 1));
    assert_true(static_roots_cover(&roots, guarded + 6 * page));
    assert_true(static_roots_cover(&roots, &in_data));
    assert_int_equal(mprotect(guarded, 8 * page, PROT_READ | PROT_WRITE), 0);
    assert_true(static_roots_cover(&roots, guarded + 2 * page));
    gci_static_roots_clear(&roots);
}

/* ---- A plugin ------------------------------------------------------------------------------- */

static void *load_plugin(const char *path, struct plugin_places *places) {
    if (!path) path = getenv("CAIRN_TEST_PLUGIN");
    if (!path) fail_msg("CAIRN_TEST_PLUGIN doesn't say where plugin.so is");
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) fail_msg("%s", dlerror());
    void (*tell)(struct plugin_places *);
    *(void **)&tell = dlsym(plugin, "plugin_places");
    assert_non_null(tell);
    tell(places);
    return plugin;
}

static void the_roots_of_a_plugin_come_and_go_with_it(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    struct plugin_places places;
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    size_t before = roots.count;
    void *plugin = load_plugin(NULL, &places);
    assert_false(static_roots_cover(&roots, places.data));
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_true(roots.count > before);
    assert_true(static_roots_cover(&roots, places.data));
    assert_true(static_roots_cover(&roots, places.bss));
    assert_true(static_roots_cover(&roots, places.exported));
    assert_true(static_roots_cover(&roots, &in_data));
    dlclose(plugin);
    /* Not yet read again: what is gone isn't readable, and is passed over. */
    assert_false(static_roots_cover(&roots, places.data));
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_int_equal(roots.count, before);
    assert_false(static_roots_cover(&roots, places.data));
    gci_static_roots_clear(&roots);
}

static void the_list_is_kept_while_nothing_is_loaded(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    const struct gci_segment *list = roots.segments;
    size_t count = roots.count;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(gci_static_roots_refresh(&roots), 0);
        assert_ptr_equal(roots.segments, list);
        assert_int_equal(roots.count, count);
    }
    gci_static_roots_clear(&roots);
}

static void without_memory_the_list_stays_as_it_was(void **state) {
    (void)state;
    struct gci_static_roots roots = {.count = 0};
    struct plugin_places places;
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    const struct gci_segment *list = roots.segments;
    size_t count = roots.count;
    void *plugin = load_plugin(NULL, &places);
    struct rlimit usual, tight;
    assert_int_equal(getrlimit(RLIMIT_AS, &usual), 0);
    tight = usual;
    tight.rlim_cur = 1;
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    int error = gci_static_roots_refresh(&roots);
    assert_int_equal(setrlimit(RLIMIT_AS, &usual), 0);
    assert_int_equal(error, ENOMEM);
    assert_ptr_equal(roots.segments, list);
    assert_int_equal(roots.count, count);
    assert_true(static_roots_cover(&roots, &in_data));
    assert_int_equal(gci_static_roots_refresh(&roots), 0);
    assert_true(static_roots_cover(&roots, places.data));
    dlclose(plugin);
    gci_static_roots_clear(&roots);
}

/* ---- Thread-local variables and the stack --------------------------------------------------- */

static void thread_local_variables_are_roots(void **state) {
    (void)state;
    assert_true(tls_roots_cover(&thread_local_pointer));
    assert_false(tls_roots_cover(&in_data));
    struct plugin_places places;
    void *plugin = load_plugin(NULL, &places);
    assert_true(tls_roots_cover(places.local));
    dlclose(plugin);
}

static void the_allocation_buffers_are_no_roots(void **state) {
    (void)state;
    const char *buffers = (const char *)&gc_buffers;
    for (size_t i = 0; i < sizeof gc_buffers; i++) assert_false(tls_roots_cover(buffers + i));
}

static void *check_thread(void *main_s_local) {
    void *local = main_s_local;
    const uintptr_t *base = gci_stack_base(NULL);
    bool good = base && (const void *)base > (const void *)&local &&
                (size_t)((const char *)base - (const char *)&local) < (64 << 20);
    good = good && tls_roots_cover(&thread_local_pointer) && !tls_roots_cover(main_s_local);
    return good ? &in_data : NULL;
}

static void the_stack_base_is_above_all_frames(void **state) {
    (void)state;
    void *local = &local;
    const uintptr_t *base = gci_stack_base(NULL);
    assert_non_null(base);
    assert_int_equal((uintptr_t)base % sizeof *base, 0);
    assert_true((const void *)base > (const void *)&local);
    /* All of it can be read. */
    __asm__ volatile("" ::"r"(((const volatile uintptr_t *)base)[-1]));
}

static void a_thread_has_its_own_base_and_variables(void **state) {
    (void)state;
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, check_thread, &thread_local_pointer), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &in_data);
}

/* ---- Names ---------------------------------------------------------------------------------- */

__attribute__((noinline)) static bool inner_function(const void *place, char *text, size_t bytes) {
    bool known = gci_describe_stack(place, text, bytes);
    __asm__ volatile("" ::: "memory");
    return known;
}

__attribute__((noinline)) static bool holding_function(char *text, size_t bytes) {
    void *volatile held[8] = {text};
    bool known = inner_function((const void *)&held[3], text, bytes);
    held[0] = NULL;
    return known;
}

static void a_frame_is_named_by_its_function(void **state) {
    (void)state;
    char text[200];
    assert_true(holding_function(text, sizeof text));
    assert_ptr_equal(strstr(text, "frame of holding_function (+0x"), text);
    assert_false(gci_describe_stack((const void *)16, text, sizeof text));
    assert_string_equal(text, "stack");
    char small[9];
    memset(small, 'x', sizeof small);
    holding_function(small, 8);
    assert_string_equal(small, "frame o");
    assert_int_equal(small[8], 'x');
}

static void *known_table[8] = {(void *)1};

static void a_static_variable_is_named(void **state) {
    (void)state;
    char text[200], small[9];
    assert_true(gci_describe_static(&known_table[0], text, sizeof text));
    assert_ptr_equal(strstr(text, "static variable known_table in "), text);
    assert_true(gci_describe_static(&known_table[3], text, sizeof text));
    assert_ptr_equal(strstr(text, "static variable known_table+24 in "), text);
    memset(small, 'x', sizeof small);
    gci_describe_static(&known_table[3], small, 8);
    assert_string_equal(small, "static ");
    assert_int_equal(small[8], 'x');
    assert_false(gci_describe_static(text, text, sizeof text));
    assert_string_equal(text, "static data");
    struct plugin_places places;
    void *plugin = load_plugin(NULL, &places);
    assert_true(gci_describe_static(places.data, text, sizeof text));
    assert_string_equal(text, "static variable hidden_data in plugin.so");
    dlclose(plugin);
}

static size_t read_whole(const char *path, char *bytes, size_t room) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    ssize_t length = read(file, bytes, room);
    close(file);
    assert_true(length > 0 && (size_t)length < room);
    return (size_t)length;
}

/* Another file of that name: the one that is loaded keeps its contents. */
static void replace_file(const char *path, const char *bytes, size_t length) {
    char other[256];
    snprintf(other, sizeof other, "%s.new", path);
    int file = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, length), length);
    close(file);
    assert_int_equal(rename(other, path), 0);
}

/* Changes COPY, a plugin of LENGTH bytes, in one of the ways in which it can be wrong. */
static size_t damage(char *copy, size_t length, int round) {
    ElfW(Ehdr) header;
    memcpy(&header, copy, sizeof header);
    if (round % 4 == 0) return next_random() % (length + 1);
    size_t sections = header.e_shnum * sizeof(ElfW(Shdr));
    size_t start = round % 4 == 1 ? header.e_shoff : round % 4 == 2 ? 0 : length / 2;
    size_t bytes = round % 4 == 1 ? sections : round % 4 == 2 ? sizeof header : length - start;
    for (int i = 0; i < 1 + round % 40; i++) {
        uint64_t value = round & 4 ? next_random() : next_random() % 65536;
        memcpy(copy + start + next_random() % (bytes - 8), &value, 1 + next_random() % 8);
    }
    return length;
}

static void a_malformed_file_gives_no_name_and_no_crash(void **state) {
    (void)state;
    static char original[1 << 20], copy[1 << 20];
    char path[] = "/tmp/cairn-test-XXXXXX", text[200];
    assert_non_null(mkdtemp(path));
    char object[sizeof path + 16];
    snprintf(object, sizeof object, "%s/plugin.so", path);
    size_t length = read_whole(getenv("CAIRN_TEST_PLUGIN"), original, sizeof original);
    replace_file(object, original, length);
    struct plugin_places places;
    void *plugin = load_plugin(object, &places);
    for (int round = 0; round < 2000; round++) {
        memcpy(copy, original, length);
        replace_file(object, copy, damage(copy, length, round));
        memset(text, 'x', sizeof text);
        assert_true(gci_describe_static(places.bss, text, sizeof text));
        assert_ptr_equal(strstr(text, "static "), text);
        assert_true(strlen(text) < sizeof text);
    }
    /* Without the file there is what the loader knows. */
    unlink(object);
    assert_true(gci_describe_static(places.exported, text, sizeof text));
    assert_string_equal(text, "static variable plugin_table+16 in plugin.so");
    assert_true(gci_describe_static(places.bss, text, sizeof text));
    assert_ptr_equal(strstr(text, "static data of plugin.so+0x"), text);
    dlclose(plugin);
    rmdir(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_one_line_and_keeps_errno),
        cmocka_unit_test(a_long_message_is_cut_to_one_line),
        cmocka_unit_test(a_closed_stderr_does_no_harm),
        cmocka_unit_test(a_fatal_message_is_printed_before_the_abort),
        cmocka_unit_test(side_masks_say_what_a_loop_over_the_bytes_says),
        cmocka_unit_test(an_entry_function_passes_arguments_and_results_on),
#if defined(__x86_64__)
        cmocka_unit_test(a_value_held_only_in_a_register_of_the_caller_is_found),
        cmocka_unit_test(a_register_is_named_with_the_function_that_held_it),
#endif
        cmocka_unit_test(static_variables_are_roots),
        cmocka_unit_test(what_the_program_cannot_write_is_no_root),
        cmocka_unit_test(the_library_s_own_data_are_no_roots),
        cmocka_unit_test(stacks_and_malloc_are_no_static_roots),
        cmocka_unit_test(pages_made_inaccessible_are_left_out),
        cmocka_unit_test(the_roots_of_a_plugin_come_and_go_with_it),
        cmocka_unit_test(the_list_is_kept_while_nothing_is_loaded),
        cmocka_unit_test(without_memory_the_list_stays_as_it_was),
        cmocka_unit_test(thread_local_variables_are_roots),
        cmocka_unit_test(the_allocation_buffers_are_no_roots),
        cmocka_unit_test(the_stack_base_is_above_all_frames),
        cmocka_unit_test(a_thread_has_its_own_base_and_variables),
        cmocka_unit_test(a_frame_is_named_by_its_function),
        cmocka_unit_test(a_static_variable_is_named),
        cmocka_unit_test(a_malformed_file_gives_no_name_and_no_crash),
    };
    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
