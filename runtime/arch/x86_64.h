/* x86-64, System V ABI. */
#include <emmintrin.h>

#define GCI_FRAME_WORDS     6 /* rbx, rbp, r12 to r15 */
#define GCI_SAVED_REGISTERS 6

static inline void gci_relax(void) {
    _mm_pause();
}

/* rbx, rbp and r12-r15 are all that a caller may keep in registers across a call; vector registers
 * are the caller's to save.  The frame pointer chain stays intact and the CFI lets unwinders
 * through.  The declaration keeps a compiler that sees no call of TARGET from dropping it. */
#define GCI_ENTRY(name, target)                                                                    \
    extern __typeof__(target) target __attribute__((used));                                        \
    __asm__(".pushsection .text\n"                                                                 \
            ".p2align 4\n"                                                                         \
            ".globl " #name "\n"                                                                   \
            ".type " #name ", @function\n" #name ":\n"                                             \
            "    .cfi_startproc\n"                                                                 \
            "    endbr64\n"                                                                        \
            "    pushq %rbp\n"                                                                     \
            "    .cfi_def_cfa_offset 16\n"                                                         \
            "    .cfi_offset %rbp, -16\n"                                                          \
            "    movq %rsp, %rbp\n"                                                                \
            "    .cfi_def_cfa_register %rbp\n"                                                     \
            "    pushq %rbx\n"                                                                     \
            "    pushq %r12\n"                                                                     \
            "    pushq %r13\n"                                                                     \
            "    pushq %r14\n"                                                                     \
            "    pushq %r15\n"                                                                     \
            "    .cfi_offset %rbx, -24\n"                                                          \
            "    .cfi_offset %r12, -32\n"                                                          \
            "    .cfi_offset %r13, -40\n"                                                          \
            "    .cfi_offset %r14, -48\n"                                                          \
            "    .cfi_offset %r15, -56\n"                                                          \
            "    movq %rsp, %rcx\n"                                                                \
            "    subq $8, %rsp\n"                                                                  \
            "    call " #target "\n"                                                               \
            "    addq $48, %rsp\n"                                                                 \
            "    popq %rbp\n"                                                                      \
            "    .cfi_def_cfa %rsp, 8\n"                                                           \
            "    ret\n"                                                                            \
            "    .cfi_endproc\n"                                                                   \
            ".size " #name ", . - " #name "\n"                                                     \
            ".popsection\n")

#define GCI_RECORD_AT_THREAD_POINTER 1

/* The record's first word is its own address, as the ABI has it. */
static inline uintptr_t gci_thread_pointer(void) {
    uintptr_t thread_pointer;
    __asm__("movq %%fs:0, %0" : "=r"(thread_pointer));
    return thread_pointer;
}

/* 64 side bytes at SIDE to three bit masks: 4 loads, 12 shifts, 12 movemasks. */
static inline __attribute__((no_sanitize("thread"))) struct gci_side_masks gci_side_masks64(
    const uint8_t *side) {
    struct gci_side_masks m = {0, 0, 0};
    for (unsigned i = 0; i < 4; i++) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(side + 16 * i));
        m.start |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_slli_epi16(bytes, 7)) << (16 * i);
        m.end |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_slli_epi16(bytes, 6)) << (16 * i);
        m.mark |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_slli_epi16(bytes, 5)) << (16 * i);
    }
    return m;
}
