/* Threads that stand still wherever the stop signal finds them: every place where one can hold its
 * only reference to an object while another thread collects.  The thread holds references to
 * OBJECTS objects in one place, spins there without allocating, and lets go when it is told to. */
#if !defined(__clang__) && !defined(GC_SANITIZE)
#pragma GCC optimize("O2", "omit-frame-pointer")
#endif
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"
#include "threads_support.h"

enum { OBJECTS = 6, SIZE = 48 };

/* What the thread is doing. */
enum { MAKES, HOLDS, SHALL_LET_GO, HAS_LET_GO, SHALL_END };
int hold_stage;
uintptr_t hold_words[OBJECTS]; /* hidden */

typedef void way(void);

/* What the registers had before, from the allocations or from our looking. */
static __attribute__((noinline)) void forget_registers(void) {
#if defined(__x86_64__)
    __asm__ volatile("xorl %%eax, %%eax\n xorl %%ecx, %%ecx\n xorl %%edx, %%edx\n"
                     "xorl %%esi, %%esi\n xorl %%edi, %%edi\n xorl %%r8d, %%r8d\n"
                     "xorl %%r9d, %%r9d\n xorl %%r10d, %%r10d\n xorl %%r11d, %%r11d\n"
                     "xorl %%ebx, %%ebx\n xorl %%r12d, %%r12d\n xorl %%r13d, %%r13d\n"
                     "xorl %%r14d, %%r14d\n xorl %%r15d, %%r15d\n"
                     "pxor %%xmm0, %%xmm0\n pxor %%xmm1, %%xmm1\n"
                     :
                     :
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "rbx", "r12",
                     "r13", "r14", "r15", "xmm0", "xmm1");
#endif
}

/* Called by the thread where it holds. */
static void spin(void) {
    raise_flag(&hold_stage, HOLDS);
    while (look_at(&hold_stage) != SHALL_LET_GO) continue;
}

static __attribute__((noinline)) void make_objects(void) {
    make_hidden(hold_words, OBJECTS, SIZE);
}

/* Function pointers can't be passed as objects. */
static way *the_way;

static void *hold(void *unused) {
    (void)unused;
    make_objects();
    clear_stack();
    forget_registers();
    the_way();
    clear_stack();
    forget_registers();
    raise_flag(&hold_stage, HAS_LET_GO);
    wait_for(&hold_stage, SHALL_END);
    return NULL;
}

/* OBJECTS objects survive until the thread lets go, and no longer. */
static void check_way(way *chosen) {
    need_optimised_code();
    the_way = chosen;
    gc_alloc(16); /* takes the heap's first block, whose address is in many registers */
    pthread_t thread = start_thread(hold, NULL);
    wait_for(&hold_stage, HOLDS);
    for (unsigned i = 0; i < 8; i++) {
        collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
        if (!are_whole(hold_words, OBJECTS, SIZE))
            child_fail(__FILE__, __LINE__, "objects are lost at collection %u", i);
        for (unsigned j = 0; j < 2000; j++) /* what was freed is used again */
            memset(gc_alloc(SIZE), 1, SIZE);
    }
    clear_stack();
    raise_flag(&hold_stage, SHALL_LET_GO);
    wait_for(&hold_stage, HAS_LET_GO);
    collect_times(4);
    /* Words left on a stack that is searched as a whole may still hold one or two. */
    REQUIRE(count_alive(hold_words, OBJECTS) <= 2);
    raise_flag(&hold_stage, SHALL_END);
    end_thread(thread);
    collect_times(2);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Registers ------------------------------------------------------------------------------ */

#if defined(__x86_64__)

/* Puts the words, no longer hidden, in the registers of one row of the table below, spins there,
 * and clears them. */
#define ROW(name, load, store)                                                                     \
    void name(void);                                                                               \
    __asm__(".text\n" #name ":\n"                                                                  \
            "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n"     \
            "    pushq %r15\n"                                                                     \
            "    xorl %ebx, %ebx\n    xorl %ebp, %ebp\n    xorl %r12d, %r12d\n"                    \
            "    xorl %r13d, %r13d\n    xorl %r14d, %r14d\n    xorl %r15d, %r15d\n" load           \
            "    movl $1, hold_stage(%rip)\n"                                                      \
            "1:  pause\n    cmpl $2, hold_stage(%rip)\n    jne 1b\n" store                         \
            "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n"          \
            "    popq %rbx\n    ret\n")

#define LOAD(n, register)                                                                          \
    "    movq hold_words+8*" #n "(%rip), %" #register "\n    notq %" #register "\n"
#define CLEAR(register) "    xorq %" #register ", %" #register "\n"

ROW(in_preserved_registers,
    LOAD(0, rbx) LOAD(1, rbp) LOAD(2, r12) LOAD(3, r13) LOAD(4, r14) LOAD(5, r15), "");
ROW(in_argument_registers,
    LOAD(0, rdi) LOAD(1, rsi) LOAD(2, rdx) LOAD(3, rcx) LOAD(4, r8) LOAD(5, r9),
    CLEAR(rdi) CLEAR(rsi) CLEAR(rdx) CLEAR(rcx) CLEAR(r8) CLEAR(r9));
ROW(in_scratch_registers,
    LOAD(0, rax) LOAD(1, r10) LOAD(2, r11) LOAD(
        3, rax) "    pushq %rax\n    movq %rax, %rcx\n"
                "    popq %rdx\n    movq $0, -8(%rsp)\n" LOAD(0, rax) LOAD(4, rsi) LOAD(5, rdi),
    CLEAR(rax) CLEAR(r10) CLEAR(r11) CLEAR(rcx) CLEAR(rdx) CLEAR(rsi) CLEAR(rdi));

#define LOAD_VECTOR(n, register) LOAD(n, rax) "    movq %rax, %" #register "\n"
#define LOAD_UPPER(n, register)  LOAD_VECTOR(n, register) "    pslldq $8, %" #register "\n"
#define CLEAR_VECTOR(register)   "    pxor %" #register ", %" #register "\n"

ROW(in_vector_registers,
    LOAD_VECTOR(0, xmm0) LOAD_UPPER(1, xmm5) LOAD_VECTOR(2, xmm7) LOAD_UPPER(3, xmm8)
        LOAD_VECTOR(4, xmm15) LOAD_UPPER(5, xmm14) CLEAR(rax),
    CLEAR_VECTOR(xmm0) CLEAR_VECTOR(xmm5) CLEAR_VECTOR(xmm7) CLEAR_VECTOR(xmm8) CLEAR_VECTOR(xmm15)
        CLEAR_VECTOR(xmm14));

/* In the half that the older instructions leave alone. */
#define LOAD_HIGH(n, register)                                                                     \
    LOAD(n, rax) "    movq %rax, %xmm1\n    vinserti128 $1, %xmm1, %" #register ", %" #register "\n"
ROW(in_upper_halves,
    "    vzeroall\n" LOAD_HIGH(0, ymm0) LOAD_HIGH(1, ymm3) LOAD_HIGH(2, ymm7) LOAD_HIGH(3, ymm8)
        LOAD_HIGH(4, ymm12) LOAD_HIGH(5, ymm15) "    pxor %xmm1, %xmm1\n" CLEAR(rax),
    "    vzeroall\n");

ROW(in_mmx_registers,
    "    fninit\n" LOAD_VECTOR(0, mm0) LOAD_VECTOR(1, mm1) LOAD_VECTOR(2, mm3) LOAD_VECTOR(3, mm5)
        LOAD_VECTOR(4, mm6) LOAD_VECTOR(5, mm7) CLEAR(rax),
    CLEAR_VECTOR(mm0) CLEAR_VECTOR(mm1) CLEAR_VECTOR(mm3) CLEAR_VECTOR(mm5) CLEAR_VECTOR(mm6)
        CLEAR_VECTOR(mm7) "    emms\n");

#define LOAD_BELOW(n, at) LOAD(n, rax) "    movq %rax, " #at "(%rsp)\n"
#define CLEAR_BELOW(at)   "    movq $0, " #at "(%rsp)\n"
ROW(in_the_red_zone,
    LOAD_BELOW(0, -8) LOAD_BELOW(1, -16) LOAD_BELOW(2, -64) LOAD_BELOW(3, -112) LOAD_BELOW(4, -120)
        LOAD_BELOW(5, -128) CLEAR(rax),
    CLEAR_BELOW(-8) CLEAR_BELOW(-16) CLEAR_BELOW(-64) CLEAR_BELOW(-112) CLEAR_BELOW(-120)
        CLEAR_BELOW(-128));

static void references_in_registers_that_calls_preserve_hold(void) {
    check_way(in_preserved_registers);
}
static void references_in_argument_registers_hold(void) {
    check_way(in_argument_registers);
}
static void references_in_scratch_registers_hold(void) {
    check_way(in_scratch_registers);
}
static void references_in_vector_registers_hold(void) {
    check_way(in_vector_registers);
}
static void references_in_upper_halves_of_vector_registers_hold(void) {
    if (!__builtin_cpu_supports("avx2")) child_skip("no AVX2");
    check_way(in_upper_halves);
}
static void references_in_mmx_registers_hold(void) {
    check_way(in_mmx_registers);
}
static void references_below_the_stack_pointer_hold(void) {
    check_way(in_the_red_zone);
}

#endif

/* ---- Memory --------------------------------------------------------------------------------- */

static __attribute__((noinline)) void take_up(void *volatile *to, unsigned first, unsigned end) {
    for (unsigned i = first; i < end; i++) to[i] = (char *)reveal(hold_words[i]) + i;
}

static __attribute__((noinline)) void put_down(void *volatile *from, unsigned first, unsigned end) {
    for (unsigned i = first; i < end; i++) from[i] = NULL;
}

static __attribute__((noinline)) void on_the_stack(void) {
    void *volatile kept[OBJECTS];
    take_up(kept, 0, OBJECTS);
    spin();
    put_down(kept, 0, OBJECTS);
}

static __thread void *volatile kept_locally[OBJECTS];

static void in_thread_local_storage(void) {
    take_up(kept_locally, 0, OBJECTS);
    clear_stack();
    spin();
    put_down(kept_locally, 0, OBJECTS);
}

static void as_specific_values(void) {
    enum { KEYS = 200 };
    static pthread_key_t keys[KEYS];
    for (unsigned i = 0; i < KEYS; i++) REQUIRE_EQUAL(pthread_key_create(&keys[i], NULL), 0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        pthread_key_t key = keys[(KEYS - 1) * i / (OBJECTS - 1)];
        REQUIRE_EQUAL(pthread_setspecific(key, reveal(hold_words[i])), 0);
    }
    clear_stack();
    spin();
    for (unsigned i = 0; i < KEYS; i++) pthread_setspecific(keys[i], NULL);
}

static void references_on_the_stack_hold(void) {
    check_way(on_the_stack);
}
static void references_in_thread_local_storage_hold(void) {
    check_way(in_thread_local_storage);
}
static void specific_values_hold(void) {
    check_way(as_specific_values);
}

/* ---- Signal handlers ------------------------------------------------------------------------ */

enum { ALTERNATE = 128 << 10 };

/* Signals one after the other, each handler raising the next, and spinning in the last. */
static struct {
    int number[3];
    unsigned count, depth;
} nested;

static __attribute__((noinline)) void clear_some_stack(void) {
    volatile char below[16 << 10];
    for (size_t i = 0; i < sizeof below; i++) below[i] = 0;
}

static void on_nested(int number) {
    void *volatile kept[OBJECTS];
    unsigned depth = ++nested.depth;
    (void)number;
    take_up(kept, depth, depth == nested.count ? OBJECTS : depth + 1);
    clear_some_stack();
    if (depth < nested.count)
        raise(nested.number[depth]);
    else
        spin();
    put_down(kept, depth, depth == nested.count ? OBJECTS : depth + 1);
    clear_some_stack();
}

static void add_handler(int number, int flags) {
    struct sigaction action = {.sa_flags = flags};
    action.sa_handler = on_nested;
    sigemptyset(&action.sa_mask);
    REQUIRE_EQUAL(sigaction(number, &action, NULL), 0);
    nested.number[nested.count++] = number;
}

/* The first object is referred to where the first signal comes. */
static __attribute__((noinline)) void hold_and_raise(void) {
    void *volatile kept[OBJECTS];
    take_up(kept, 0, 1);
    clear_some_stack();
    raise(nested.number[0]);
    put_down(kept, 0, 1);
}

static void use_stack(void *low) {
    stack_t stack = {.ss_sp = low, .ss_size = ALTERNATE};
    REQUIRE_EQUAL(sigaltstack(&stack, NULL), 0);
}

static void on_an_alternate_stack(void) {
    void *low = malloc(ALTERNATE);
    add_handler(SIGUSR1, SA_ONSTACK);
    use_stack(low);
    hold_and_raise();
    stack_t none = {.ss_flags = SS_DISABLE};
    REQUIRE_EQUAL(sigaltstack(&none, NULL), 0);
    memset(low, 0, ALTERNATE);
    free(low);
}

static void twice_on_an_alternate_stack(void) {
    add_handler(SIGUSR2, 0);
    add_handler(SIGHUP, SA_ONSTACK);
    on_an_alternate_stack();
}

static void in_a_handler(void) {
    add_handler(SIGUSR1, 0);
    hold_and_raise();
}

/* One that is part of the thread's own stack, above the frames in use. */
static __attribute__((noinline)) void on_a_local_array(void) {
    char stack[ALTERNATE];
    add_handler(SIGUSR1, SA_ONSTACK);
    use_stack(stack);
    hold_and_raise();
    stack_t none = {.ss_flags = SS_DISABLE};
    REQUIRE_EQUAL(sigaltstack(&none, NULL), 0);
    memset(stack, 0, sizeof stack);
    __asm__ volatile("" : : "r"(stack) : "memory");
}

/* The kernel forgets the stack while the handler runs. */
static void on_a_stack_that_is_disarmed(void) {
    char *low = malloc(ALTERNATE);
    stack_t stack = {.ss_sp = low, .ss_size = ALTERNATE, .ss_flags = (int)(1U << 31)};
    add_handler(SIGUSR1, SA_ONSTACK);
    REQUIRE_EQUAL(sigaltstack(&stack, NULL), 0);
    hold_and_raise();
    stack_t none = {.ss_flags = SS_DISABLE};
    REQUIRE_EQUAL(sigaltstack(&none, NULL), 0);
    memset(low, 0, ALTERNATE);
    free(low);
}

static void references_of_a_handler_hold(void) {
    check_way(in_a_handler);
}
static void references_on_and_below_an_alternate_stack_hold(void) {
    check_way(on_an_alternate_stack);
}
static void references_of_nested_handlers_hold(void) {
    check_way(twice_on_an_alternate_stack);
}
static void references_below_an_alternate_stack_in_the_stack_hold(void) {
    check_way(on_a_local_array);
}
static void an_alternate_stack_that_is_disarmed_is_refused(void) {
    check_way(on_a_stack_that_is_disarmed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
        CHILD_TEST(references_in_registers_that_calls_preserve_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_in_argument_registers_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_in_scratch_registers_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_in_vector_registers_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_in_upper_halves_of_vector_registers_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_in_mmx_registers_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_below_the_stack_pointer_hold, "CAIRN_POISON=1"),
#endif
        CHILD_TEST(references_on_the_stack_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_in_thread_local_storage_hold, "CAIRN_POISON=1"),
        CHILD_TEST(specific_values_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_of_a_handler_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_on_and_below_an_alternate_stack_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_of_nested_handlers_hold, "CAIRN_POISON=1"),
        CHILD_TEST(references_below_an_alternate_stack_in_the_stack_hold, "CAIRN_POISON=1"),
        CHILD_ABORT(an_alternate_stack_that_is_disarmed_is_refused, "that the kernel still knows"),
    };
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
