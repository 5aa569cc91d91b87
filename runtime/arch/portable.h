/* Any processor that gcc or clang knows.  Slower than a file of the processor's own, and the stack
 * is scanned from the library's entry function, whose frame holds the caller's registers. */
#include "cairn/gc.h"

/* Callers may not know which registers the body leaves alone (gcc's -fipa-ra), or they would keep
 * references in registers that it doesn't save. */
#if defined(__clang__)
#define GCI_OPAQUE __attribute__((noinline))
#else
#define GCI_OPAQUE __attribute__((noipa))
#endif

typedef uintptr_t gci_entry_target(uintptr_t, uintptr_t, uintptr_t, struct gci_frame *);

/* Its own frame lies wholly below its caller's, wherever in that one the compiler saves registers,
 * so the address of this frame is where to scan from.  The empty assembly keeps the call from
 * becoming a jump. */
static GCI_OPAQUE __attribute__((unused)) uintptr_t gci_call_below(
    gci_entry_target *target, uintptr_t a, uintptr_t b, uintptr_t c) {
    uintptr_t result = target(a, b, c, __builtin_frame_address(0));
    __asm__ volatile("" : "+r"(result));
    return result;
}

#define GCI_STRING(text)          #text
#define GCI_EXPANDED_STRING(text) GCI_STRING(text)

/* The function has a name of its own in C, as gc.h declares NAME with other types, and NAME for the
 * linker.  Arguments and results are passed as whole registers, whatever their types: true of the
 * calling conventions of the processors that gcc and clang know, except where pointers come back in
 * a register of their own (m68k). */
#define GCI_ENTRY(name, target)                                                                    \
    __attribute__((visibility("default"))) uintptr_t gci_entry_##name(uintptr_t, uintptr_t,        \
        uintptr_t) __asm__(GCI_EXPANDED_STRING(__USER_LABEL_PREFIX__) #name);                      \
    GCI_OPAQUE __attribute__((used))                                                               \
    uintptr_t gci_entry_##name(uintptr_t a, uintptr_t b, uintptr_t c) {                            \
        __builtin_unwind_init();                                                                   \
        uintptr_t result = gci_call_below((gci_entry_target *)(void (*)(void))(target), a, b, c);  \
        __asm__ volatile("" : "+r"(result));                                                       \
        return result;                                                                             \
    }                                                                                              \
    _Static_assert(1, "")

/* The frames of gci_call_below() and of the function that saved the registers; generous. */
#define GCI_FRAME_WORDS     48
#define GCI_SAVED_REGISTERS 6 /* as on x86-64, where alone frames are followed */

static inline void gci_relax(void) {
    __asm__ volatile("" ::: "memory");
}

static inline uintptr_t gci_thread_pointer(void) {
    return (uintptr_t)&gc_buffers;
}

/* 8 side bytes' bit BIT gathered into the low 8 bits: the multiplication moves bit 8i to bit 56 +
 * i. */
static inline uint64_t gci_gather8(uint64_t bytes, unsigned bit) {
    return ((bytes >> bit & 0x0101010101010101u) * 0x0102040810204080u) >> 56;
}

static inline struct gci_side_masks gci_side_masks64(const uint8_t *side) {
    struct gci_side_masks m = {0, 0, 0};
    for (unsigned i = 0; i < 8; i++) {
        uint64_t bytes;
        memcpy(&bytes, side + 8 * i, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        bytes = __builtin_bswap64(bytes);
#endif
        m.start |= gci_gather8(bytes, 0) << (8 * i);
        m.end |= gci_gather8(bytes, 1) << (8 * i);
        m.mark |= gci_gather8(bytes, 2) << (8 * i);
    }
    return m;
}
