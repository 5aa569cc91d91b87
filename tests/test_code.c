/* Code with stack maps: frames of generated code are roots where the maps say and nowhere else,
 * what they refer to moves, and what is not known stays where it is.  The code is written here, in
 * the machine's language; C functions of all kinds lie between its frames. */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include <alloca.h>
#include <errno.h>
#include <libunwind.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "child.h"
#include "runtime/unwind.h"
#include "support.h"
#include "threads_support.h"

struct node {
    struct node *left, *right;
    uint64_t number;
};
GC_TYPE(struct node, left, right);

static __attribute__((noinline)) uintptr_t make_hidden_node(uint64_t number) {
    struct node *node = gc_new(struct node);
    REQUIRE(node != NULL);
    node->number = number;
    return hide(node);
}

#if defined(__x86_64__) && !defined(CAIRN_PORTABLE)

/* ---- Generated code ------------------------------------------------------------------------- */

/* Calls CALLBACK(ARGUMENT), with REFERENCE in its frame and JUNK in another word of it, and returns
 * the reference that is there afterwards. */
typedef void callback(void *argument);
typedef void *generated(callback *f, void *reference, void *junk, void *argument);

static const uint8_t holds_text[] = {0x53, /* push %rbx */
    0x48, 0x83, 0xec, 0x20,                /* sub $32, %rsp */
    0x48, 0x89, 0x74, 0x24, 0x08,          /* mov %rsi, 8(%rsp) */
    0x48, 0x89, 0x54, 0x24, 0x10,          /* mov %rdx, 16(%rsp) */
    0x31, 0xf6, 0x31, 0xd2, 0x31, 0xdb,    /* xor %esi, %esi; the same of %edx, %ebx */
    0x48, 0x89, 0xf8,                      /* mov %rdi, %rax */
    0x48, 0x89, 0xcf,                      /* mov %rcx, %rdi */
    0xff, 0xd0,                            /* call *%rax */
    0x48, 0x8b, 0x44, 0x24, 0x08,          /* mov 8(%rsp), %rax */
    0x48, 0x83, 0xc4, 0x20,                /* add $32, %rsp */
    0x5b, 0xc3};                           /* pop %rbx; ret */
enum { HOLDS_RETURN = 29 };

/* The same with a frame pointer. */
static const uint8_t pointer_text[] = {0x55, 0x48, 0x89, 0xe5, /* push %rbp; mov %rsp, %rbp */
    0x48, 0x83, 0xec, 0x10,                                    /* sub $16, %rsp */
    0x48, 0x89, 0x75, 0xf8,                                    /* mov %rsi, -8(%rbp) */
    0x31, 0xf6, 0x31, 0xd2,                                    /* xor %esi, %esi; xor %edx, %edx */
    0x48, 0x89, 0xf8,                                          /* mov %rdi, %rax */
    0x48, 0x89, 0xcf,                                          /* mov %rcx, %rdi */
    0xff, 0xd0,                                                /* call *%rax */
    0x48, 0x8b, 0x45, 0xf8,                                    /* mov -8(%rbp), %rax */
    0xc9, 0xc3};                                               /* leave; ret */

/* Holds REFERENCE in rbx alone, and jumps to no one: calls f(NULL, NULL, NULL, argument), with the
 * callback's own function in JUNK. */
static const uint8_t register_text[] = {0x53, /* push %rbx */
    0x48, 0x89, 0xf3,                         /* mov %rsi, %rbx */
    0x48, 0x89, 0xf8,                         /* mov %rdi, %rax */
    0x48, 0x89, 0xd7,                         /* mov %rdx, %rdi */
    0x31, 0xf6, 0x31, 0xd2,                   /* xor %esi, %esi; xor %edx, %edx */
    0xff, 0xd0,                               /* call *%rax */
    0x48, 0x89, 0xd8,                         /* mov %rbx, %rax */
    0x5b, 0xc3};                              /* pop %rbx; ret */

enum { MAPPED_AT = 0, UNMAPPED_AT = 256, POINTER_AT = 512, REGISTER_AT = 768, PAGE = 4096 };

static uint8_t *text;
static gc_code *registered;

static generated *at(size_t offset) {
    generated *f;
    uint8_t *p = text + offset;
    memcpy(&f, &p, sizeof f);
    return f;
}

static const uint32_t slot_8 = 8;
static const gc_stack_map holds_map = {.return_offset = HOLDS_RETURN,
    .frame_bytes = 40,
    .slots = &slot_8,
    .slot_count = 1,
    .saved = {[GC_RBX] = 8}};

/* The first two functions are the same; only one has a map. */
static void generate(uint32_t flags) {
    need_optimised_code();
    text = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(text != MAP_FAILED);
    memcpy(text + MAPPED_AT, holds_text, sizeof holds_text);
    memcpy(text + UNMAPPED_AT, holds_text, sizeof holds_text);
    memcpy(text + POINTER_AT, pointer_text, sizeof pointer_text);
    memcpy(text + REGISTER_AT, register_text, sizeof register_text);
    REQUIRE_EQUAL(mprotect(text, PAGE, PROT_READ | PROT_EXEC), 0);
    registered = gc_code_register(text, REGISTER_AT, &holds_map, 1, flags);
    REQUIRE(registered != NULL);
}

static __attribute__((noinline)) uintptr_t call_hidden(
    size_t offset, callback *f, uintptr_t reference, uintptr_t junk, void *argument) {
    return hide(at(offset)(f, reveal(reference), reveal(junk), argument));
}

static __attribute__((noinline)) uint64_t number_of(uintptr_t hidden) {
    return ((struct node *)reveal(hidden))->number;
}

/* ---- C functions in between ----------------------------------------------------------------- */

static void collect_minor(void *unused) {
    (void)unused;
    clear_stack();
    REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
}

/* Each calls the next kind, and changes its frame's size, its registers, or how it is found. */
static void between(unsigned kind, callback *f, void *argument);

static __attribute__((noinline)) void with_alloca(unsigned kind, callback *f, void *argument) {
    volatile char *room = alloca(100 + 10 * kind);
    room[0] = 1;
    between(kind / 8, f, argument);
    REQUIRE_EQUAL(room[0], 1);
}

static __attribute__((noinline)) void aligned(unsigned kind, callback *f, void *argument) {
    _Alignas(64) volatile char room[64];
    room[3] = 2;
    REQUIRE_EQUAL((uintptr_t)room % 64, 0);
    between(kind / 8, f, argument);
    REQUIRE_EQUAL(room[3], 2);
}

static __attribute__((noinline)) void aligned_with_alloca(
    unsigned kind, callback *f, void *argument) {
    _Alignas(64) volatile char room[64];
    volatile char *more = alloca(200 + kind);
    room[3] = more[0] = 2;
    REQUIRE_EQUAL((uintptr_t)room % 64, 0);
    between(kind / 8, f, argument);
    REQUIRE_EQUAL(room[3] + more[0], 4);
}

static __attribute__((noinline)) void large(unsigned kind, callback *f, void *argument) {
    volatile char room[20000];
    room[10000] = 3;
    between(kind / 8, f, argument);
    REQUIRE_EQUAL(room[10000], 3);
}

static __attribute__((noinline)) uint64_t with_many_registers(
    uint64_t a, uint64_t b, uint64_t c, unsigned kind, callback *f, void *argument, uint64_t d) {
    uint64_t x = a * b, y = b * c, z = c * d, w = a ^ d, v = b ^ d;
    between(kind / 8, f, argument);
    return x + y * 2 + z * 3 + w * 5 + v * 7 + a + b + c + d;
}

static int compare(const void *a, const void *b);
struct sorting {
    unsigned kind;
    callback *f;
    void *argument;
    bool done;
};
static __thread struct sorting *sorting;

static __attribute__((noinline)) void through_the_c_library(
    unsigned kind, callback *f, void *argument) {
    struct sorting mine = {kind, f, argument, false}, *outer = sorting;
    int numbers[2] = {2, 1};
    sorting = &mine;
    qsort(numbers, 2, sizeof *numbers, compare);
    sorting = outer;
    REQUIRE(mine.done && numbers[0] == 1);
}

static int compare(const void *a, const void *b) {
    struct sorting *mine = sorting;
    if (!mine->done) {
        mine->done = true;
        between(mine->kind / 8, mine->f, mine->argument);
    }
    return *(const int *)a - *(const int *)b;
}

static __attribute__((noinline)) void between(unsigned kind, callback *f, void *argument) {
    switch (kind % 8) {
    case 0:
        f(argument);
        break;
    case 1:
        with_alloca(kind, f, argument);
        break;
    case 2:
        aligned(kind, f, argument);
        break;
    case 3:
        large(kind, f, argument);
        break;
    case 4:
        REQUIRE_EQUAL(with_many_registers(1, 2, 3, kind, f, argument, 4),
            2 + 6 * 2 + 12 * 3 + 5 * 5 + 6 * 7 + 10);
        break;
    case 5:
        through_the_c_library(kind, f, argument);
        break;
    case 6:
        aligned_with_alloca(kind, f, argument);
        break;
    default:
        between(kind / 8, f, argument);
        break;
    }
}

struct call {
    unsigned kind;
    callback *f;
    void *argument;
};

static void call_between(void *argument) {
    const struct call *call = argument;
    between(call->kind, call->f, call->argument);
}

/* ---- One frame ------------------------------------------------------------------------------ */

enum { TIMES = 100 };

/* How many of TIMES references, each in a frame of the function at OFFSET, were changed. */
static unsigned count_moved(size_t offset, callback *f, void *argument) {
    unsigned moved = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        uintptr_t before = make_hidden_node(i);
        clear_stack(); /* what is left of the reference would keep the object in place */
        uintptr_t after = call_hidden(offset, f, before, hide(NULL), argument);
        REQUIRE_EQUAL(number_of(after), i);
        moved += after != before;
    }
    return moved;
}

static void a_slot_of_a_mapped_frame_follows(void) {
    generate(0);
    REQUIRE(count_moved(MAPPED_AT, collect_minor, NULL) > TIMES - 5);
}

static void a_frame_without_a_map_keeps_its_objects_in_place(void) {
    generate(0);
    REQUIRE_EQUAL(count_moved(UNMAPPED_AT, collect_minor, NULL), 0);
    REQUIRE_EQUAL(count_moved(POINTER_AT, collect_minor, NULL), 0);
}

static void frames_are_ambiguous_once_their_code_is_not_registered(void) {
    generate(0);
    REQUIRE_EQUAL(gc_code_unregister(registered), 0);
    REQUIRE_EQUAL(count_moved(MAPPED_AT, collect_minor, NULL), 0);
    REQUIRE_EQUAL(gc_code_unregister(registered), EINVAL);
}

/* What is in the frame and is no slot holds nothing. */
static void other_words_of_a_mapped_frame_hold_nothing(void) {
    generate(0);
    uintptr_t junk[TIMES];
    for (unsigned i = 0; i < TIMES; i++) {
        uintptr_t reference = make_hidden_node(i);
        junk[i] = make_hidden_node(i + 1000);
        reference = call_hidden(MAPPED_AT, collect_minor, reference, junk[i], NULL);
        REQUIRE_EQUAL(number_of(reference), i);
    }
    REQUIRE(count_alive(junk, TIMES) < 5);
    for (unsigned i = 0; i < TIMES; i++) junk[i] = make_hidden_node(i + 1000);
    for (unsigned i = 0; i < TIMES; i++)
        call_hidden(UNMAPPED_AT, collect_minor, hide(NULL), junk[i], NULL);
}

/* A register of the caller's that the frame has saved is all that refers to the object. */
static void what_a_mapped_frame_saves_for_its_caller_holds(void) {
    generate(0);
    generated *holder = at(REGISTER_AT), *mapped = at(MAPPED_AT);
    callback *as_callback;
    void *as_junk;
    callback *f = collect_minor;
    memcpy(&as_callback, &mapped, sizeof as_callback);
    memcpy(&as_junk, &f, sizeof as_junk);
    for (unsigned i = 0; i < TIMES; i++) {
        uintptr_t before = make_hidden_node(i);
        uintptr_t after = hide(holder(as_callback, reveal(before), as_junk, NULL));
        REQUIRE(after == before);
        REQUIRE_EQUAL(number_of(after), i);
    }
}

static void slots_follow_whatever_c_functions_are_in_between(void) {
    generate(0);
    for (unsigned kind = 0; kind < 512; kind++) {
        struct call call = {kind, collect_minor, NULL};
        uintptr_t before = make_hidden_node(kind);
        uintptr_t after = call_hidden(MAPPED_AT, call_between, before, hide(NULL), &call);
        REQUIRE_EQUAL(number_of(after), kind);
        REQUIRE(!precise() || after != before);
    }
    struct call call = {1 + 8 * (2 + 8 * (3 + 8 * (4 + 8 * (5 + 8 * 6)))), collect_minor, NULL};
    REQUIRE(count_moved(MAPPED_AT, call_between, &call) > TIMES - 5);
}

/* A frame with a map above one that has none, but keeps the frame pointer. */
static void call_with_pointer(void *argument) {
    at(POINTER_AT)(collect_minor, NULL, NULL, argument);
}

static void frames_without_a_map_are_passed_by_the_frame_pointer(void) {
    generate(GC_CODE_FRAME_POINTER);
    REQUIRE(count_moved(MAPPED_AT, call_with_pointer, NULL) > TIMES - 5);
    REQUIRE_EQUAL(count_moved(POINTER_AT, collect_minor, NULL), 0);
}

static void frames_above_one_without_a_map_are_ambiguous(void) {
    generate(0);
    REQUIRE_EQUAL(count_moved(MAPPED_AT, call_with_pointer, NULL), 0);
}

/* ---- Other threads -------------------------------------------------------------------------- */

static int stage;

static void wait_blocking(void *unused) {
    (void)unused;
    gc_blocking_begin();
    raise_flag(&stage, 1);
    wait_for(&stage, 2);
    gc_blocking_end();
}

static void wait_at_safepoints(void *unused) {
    (void)unused;
    raise_flag(&stage, 1);
    while (look_at(&stage) != 2) gc_safepoint();
}

static void *hold_while_waiting(void *wait) {
    callback *f;
    memcpy(&f, wait, sizeof f);
    struct call call = {2 + 8 * 1, f, NULL};
    uintptr_t before = make_hidden_node(55);
    clear_stack();
    uintptr_t after = call_hidden(MAPPED_AT, call_between, before, hide(NULL), &call);
    REQUIRE_EQUAL(number_of(after), 55);
    return (void *)(uintptr_t)(after != before);
}

static unsigned wait_in_threads(callback *f, bool busy) {
    unsigned moved = 0;
    generate(0);
    for (unsigned i = 0; i < 10; i++) {
        raise_flag(&stage, 0);
        pthread_t thread = start_thread(hold_while_waiting, &f);
        gc_blocking_begin();
        wait_for(&stage, 1);
        gc_blocking_end();
        for (unsigned n = 0; n < 3; n++) gc_collect(GC_MINOR);
        if (busy) REQUIRE_EQUAL(gc_code_unregister(registered), EBUSY);
        gc_collect(GC_FULL);
        raise_flag(&stage, 2);
        moved += end_thread(thread) != NULL;
    }
    return moved;
}

static void frames_of_a_blocking_thread_are_known(void) {
    REQUIRE(wait_in_threads(wait_blocking, true) >= 8);
}

/* With stop=safepoint. */
static void frames_of_a_thread_at_a_safepoint_are_known(void) {
    REQUIRE(wait_in_threads(wait_at_safepoints, false) >= 8);
}

/* It may be at an instruction where no map holds, so all stays. */
static void spin(void *unused) {
    (void)unused;
    raise_flag(&stage, 1);
    while (look_at(&stage) != 2) continue;
}

static void frames_of_a_thread_stopped_by_the_signal_are_ambiguous(void) {
    REQUIRE_EQUAL(wait_in_threads(spin, false), 0);
}

static void fork_here(void *unused) {
    (void)unused;
    sleep_ms(2); /* until a collection waits for this thread */
    pid_t child = fork();
    collect_minor(NULL);
    if (child == 0) {
        REQUIRE_EQUAL(gc_verify(), 0);
        return;
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int collecting = 1;

static void *collect_for_ever(void *unused) {
    while (look_at(&collecting)) {
        gc_collect(GC_MINOR);
        gc_safepoint();
        nanosleep(
            &(struct timespec){0, 100000}, NULL); /* or the other would never sleep its time */
    }
    return unused;
}

static void frames_are_known_while_a_thread_forks(void) {
    generate(0);
    pthread_t thread = start_thread(collect_for_ever, NULL);
    for (unsigned i = 0; i < 20; i++) {
        pid_t self = getpid();
        uintptr_t before = make_hidden_node(i);
        uintptr_t after = call_hidden(MAPPED_AT, fork_here, before, hide(NULL), NULL);
        REQUIRE_EQUAL(number_of(after), i);
        if (getpid() != self) _exit(0);
    }
    raise_flag(&collecting, 0);
    end_thread(thread);
}

/* ---- At random ------------------------------------------------------------------------------ */

/* Generated code and C functions call each other at random, each frame of generated code with an
 * object that is known by its number. */
struct program {
    struct bench_random random;
    unsigned depth, calls;
};

static void act(void *argument);

static __attribute__((noinline)) void make_garbage(struct program *p) {
    struct node *volatile last = NULL;
    for (uint64_t n = bench_random_below(&p->random, 40); n > 0; n--) last = gc_new(struct node);
    REQUIRE(last == NULL || last->number == 0);
}

static __attribute__((noinline)) void descend(struct program *p) {
    uint64_t number = bench_random_below(&p->random, 1u << 30);
    /* All code has maps where nothing is ambiguous. */
    size_t offset = precise() || bench_random_below(&p->random, 4) > 0 ? MAPPED_AT
                    : bench_random_below(&p->random, 2) > 0            ? UNMAPPED_AT
                                                                       : POINTER_AT;
    struct call call = {(unsigned)bench_random_below(&p->random, 4096), act, p};
    uintptr_t reference = make_hidden_node(number);
    p->depth++;
    reference = call_hidden(offset, call_between, reference, ~reference, &call);
    p->depth--;
    REQUIRE_EQUAL(number_of(reference), number);
}

static void act(void *argument) {
    struct program *p = argument;
    while (p->calls > 0) {
        p->calls--;
        switch (bench_random_below(&p->random, 8)) {
        case 0:
        case 1:
        case 2:
        case 3:
            if (p->depth < 30) descend(p);
            break;
        case 4:
            make_garbage(p);
            break;
        case 5:
            if (bench_random_below(&p->random, 8) == 0) gc_collect(GC_FULL);
            gc_collect(GC_MINOR);
            break;
        default:
            if (p->depth > 0) return;
        }
    }
}

static void *run_program(void *seed) {
    struct program p = {.random.state = (uintptr_t)seed,
        .calls = (unsigned)fewer(getenv("CAIRN_STRESS") != NULL ? 1000 : 2000)};
    act(&p);
    return NULL;
}

static void random_programs_keep_their_objects(void) {
    generate(GC_CODE_FRAME_POINTER);
    run_program((void *)7);
#ifndef GC_SANITIZE /* whose code leaves more on the stack */
    REQUIRE(statistics().moved_bytes > 1000);
#endif
}

static void threads_keep_their_objects(void) {
    generate(GC_CODE_FRAME_POINTER);
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) threads[i] = start_thread(run_program, (void *)(i + 1));
    run_program((void *)9);
    for (unsigned i = 0; i < 3; i++) end_thread(threads[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Following C functions ------------------------------------------------------------------ */

/* The reader of unwind tables, compared with libunwind, as far as both go. */
static unsigned compared;

void compare_walks(size_t a, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(compare_from_here, compare_walks);
void compare_from_here(size_t a, size_t b, size_t c);

void compare_walks(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gci_registers registers;
    unw_context_t context;
    unw_cursor_t cursor;
    unw_word_t pc = 0, sp = 0;
    unsigned steps = 0;
    gci_registers_at_entry(&registers, frame);
    unw_getcontext(&context);
    unw_init_local(&cursor, &context);
    while (pc != registers.pc) {
        REQUIRE(unw_step(&cursor) > 0);
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
    }
    for (enum gci_step step = GCI_STEP_CALLER; step == GCI_STEP_CALLER; steps++) {
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        unw_get_reg(&cursor, UNW_REG_SP, &sp);
        REQUIRE(pc == registers.pc && sp == registers.sp);
        static const int numbers[] = {UNW_X86_64_RBX, UNW_X86_64_RBP, UNW_X86_64_R12,
            UNW_X86_64_R13, UNW_X86_64_R14, UNW_X86_64_R15};
        for (unsigned i = 0; i < 6; i++) {
            unw_word_t value;
            if (!(registers.known >> i & 1)) continue;
            REQUIRE_EQUAL(unw_get_reg(&cursor, numbers[i], &value), 0);
            REQUIRE_EQUAL(value, registers.saved[i]);
        }
        step = gci_unwind(&registers, UINTPTR_MAX / 2);
        REQUIRE(step != GCI_STEP_UNKNOWN);
        REQUIRE_EQUAL(unw_step(&cursor) > 0, step == GCI_STEP_CALLER);
    }
    REQUIRE(steps > 2);
    compared += steps;
}

static void compare_here(void *unused) {
    (void)unused;
    compare_from_here(0, 0, 0);
}

static void *compare_all(void *unused) {
    for (unsigned kind = 0; kind < 4096; kind += 7) between(kind, compare_here, NULL);
    return unused;
}

static void c_functions_are_followed_as_libunwind_does(void) {
    compare_all(NULL);
    end_thread(start_thread(compare_all, NULL));
    REQUIRE(compared > 5000);
}

/* ---- What is wrong -------------------------------------------------------------------------- */

static void refuse(const void *start, size_t bytes, gc_stack_map map, uint32_t flags) {
    errno = 0;
    REQUIRE(gc_code_register(start, bytes, &map, 1, flags) == NULL);
    REQUIRE_EQUAL(errno, EINVAL);
}

static void wrong_maps_are_refused(void) {
    static const uint32_t odd = 4, beyond = 40, saved = 32, twice[] = {8, 8};
    static uint8_t code[64];
    gc_stack_map map = holds_map;
    generate(0);
    refuse(NULL, 64, map, 0);
    refuse(code, 0, map, 0);
    refuse(code, SIZE_MAX, map, 0);
    refuse(code, 64, map, 2);
    refuse(code, 28, map, 0);
    refuse(text + 100, 64, map, 0); /* overlaps */
    REQUIRE(gc_code_register(code, 64, NULL, 1, 0) == NULL && errno == EINVAL);
    map.return_offset = 0;
    refuse(code, 64, map, 0);
    map = holds_map;
    map.frame_bytes = 41;
    refuse(code, 64, map, 0);
    map.frame_bytes = 2 * GC_FRAME_BYTES_MAX;
    refuse(code, 64, map, 0);
    map = holds_map;
    map.slots = &odd;
    refuse(code, 64, map, 0);
    map.slots = &beyond;
    refuse(code, 64, map, 0);
    map.slots = &saved;
    refuse(code, 64, map, 0);
    map.slots = twice;
    map.slot_count = 2;
    refuse(code, 64, map, 0);
    map = holds_map;
    map.saved[GC_R15] = 48;
    refuse(code, 64, map, 0);
    map.saved[GC_R15] = 12;
    refuse(code, 64, map, 0);
    gc_stack_map two[] = {holds_map, holds_map};
    REQUIRE(gc_code_register(code, 64, two, 2, 0) == NULL && errno == EINVAL);
    REQUIRE_EQUAL(gc_code_unregister(NULL), EINVAL);
}

static void much_code_is_found(void) {
    enum { RANGES = 2000 };
    static gc_code *codes[RANGES];
    generate(0);
    uint8_t *many = mmap(NULL, RANGES * 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    gc_stack_map map = {.return_offset = 5};
    for (size_t i = 0; i < RANGES; i++) {
        size_t n = i * 7919 % RANGES;
        codes[n] = gc_code_register(many + n * 16, 16, &map, 1, 0);
        REQUIRE(codes[n] != NULL);
    }
    REQUIRE(count_moved(MAPPED_AT, collect_minor, NULL) > TIMES - 5);
    for (size_t i = 0; i < RANGES; i++) REQUIRE_EQUAL(gc_code_unregister(codes[i]), 0);
    REQUIRE(count_moved(MAPPED_AT, collect_minor, NULL) > TIMES - 5);
}

static void a_frame_without_a_map_where_stacks_are_precise(void) {
    generate(0);
    call_hidden(UNMAPPED_AT, collect_minor, make_hidden_node(1), hide(NULL), NULL);
}

static void an_unknown_frame_where_stacks_are_precise(void) {
    generate(0);
    generated *holder = at(REGISTER_AT);
    holder(collect_minor, NULL, NULL, NULL);
}

static uintptr_t explained;

static void explain_it(void *unused) {
    (void)unused;
    clear_stack();
    gc_collect(GC_MINOR);
    REQUIRE_EQUAL(gc_explain(((struct node *)reveal(explained))->left), 0);
}

static void a_path_begins_in_code(void) {
    generate(0);
    struct node *a = gc_new(struct node), *b = gc_new(struct node);
    GC_FRAME(a, b);
    collect(GC_FULL); /* what is old doesn't move */
    b->left = a;
    explained = hide(b);
    void *reference = b;
    a = b = NULL;
    at(MAPPED_AT)(explain_it, reference, NULL, NULL);
}

#define STRICT  "CAIRN_VERIFY=1", "CAIRN_POISON=1"
#define PRECISE "CAIRN_STACK_SCAN=precise"
#define SAFE    "CAIRN_STOP=safepoint"

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_slot_of_a_mapped_frame_follows, STRICT),
        CHILD_TEST(a_slot_of_a_mapped_frame_follows, STRICT, PRECISE),
        CHILD_TEST(a_frame_without_a_map_keeps_its_objects_in_place, STRICT),
        CHILD_TEST(frames_are_ambiguous_once_their_code_is_not_registered, STRICT),
        CHILD_TEST(other_words_of_a_mapped_frame_hold_nothing, STRICT),
        CHILD_TEST(what_a_mapped_frame_saves_for_its_caller_holds, STRICT),
        CHILD_TEST(slots_follow_whatever_c_functions_are_in_between, STRICT),
        CHILD_TEST(slots_follow_whatever_c_functions_are_in_between, STRICT, PRECISE),
        CHILD_TEST(frames_without_a_map_are_passed_by_the_frame_pointer, STRICT),
        CHILD_TEST(frames_above_one_without_a_map_are_ambiguous, STRICT),
        CHILD_TEST(frames_of_a_blocking_thread_are_known, STRICT),
        CHILD_TEST(frames_of_a_blocking_thread_are_known, STRICT, PRECISE),
        CHILD_TEST(frames_of_a_thread_at_a_safepoint_are_known, STRICT, SAFE),
        CHILD_TEST(frames_of_a_thread_at_a_safepoint_are_known, STRICT, PRECISE),
        CHILD_TEST(frames_of_a_thread_stopped_by_the_signal_are_ambiguous, STRICT),
        CHILD_TEST(frames_are_known_while_a_thread_forks, STRICT),
        CHILD_TEST(frames_are_known_while_a_thread_forks, STRICT, PRECISE),
        CHILD_TEST(random_programs_keep_their_objects, STRICT),
        CHILD_TEST(random_programs_keep_their_objects, STRICT, "CAIRN_STRESS=3"),
        CHILD_TEST(random_programs_keep_their_objects, STRICT, PRECISE, "CAIRN_STRESS=3"),
        CHILD_TEST(random_programs_keep_their_objects, STRICT, PRECISE, "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(
            random_programs_keep_their_objects, STRICT, "CAIRN_STRESS=3", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(random_programs_keep_their_objects, STRICT, PRECISE, "CAIRN_BARRIER=none"),
        CHILD_TEST(threads_keep_their_objects, STRICT),
        CHILD_TEST(threads_keep_their_objects, STRICT, SAFE, "CAIRN_STRESS=7"),
        CHILD_TEST(threads_keep_their_objects, STRICT, PRECISE, "CAIRN_STRESS=7"),
        CHILD_TEST(c_functions_are_followed_as_libunwind_does),
        CHILD_TEST(wrong_maps_are_refused),
        CHILD_TEST(much_code_is_found, STRICT),
        CHILD_ABORT(a_frame_without_a_map_where_stacks_are_precise,
            "is of registered code and has no stack map", PRECISE),
        CHILD_ABORT(an_unknown_frame_where_stacks_are_precise, "can't be followed", PRECISE),
        CHILD_SAYS(a_path_begins_in_code, "root: frame of code given to gc_code_register", PRECISE),
    };
    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}

#else

static void frames_are_followed_on_x86_64_only(void) {
    (void)make_hidden_node;
    child_skip("the code that this test makes is for x86-64");
}

int main(void) {
    const struct CMUnitTest tests[] = {CHILD_TEST(frames_are_followed_on_x86_64_only)};
    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}

#endif
