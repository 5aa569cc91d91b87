/* Any processor that gcc or clang knows.  Slower than a file of the processor's own, and the stack is scanned from
 * the library's entry function, whose frame holds the caller's registers. */

#define GCI_ENTRY(name, target)                                                                    \
    __attribute__((noinline)) uintptr_t name(uintptr_t a, uintptr_t b, uintptr_t c) {              \
        __builtin_unwind_init();                                                                   \
        uintptr_t result = ((uintptr_t(*)(uintptr_t, uintptr_t, uintptr_t, void *))target)(        \
            a, b, c, gci_stack_pointer());                                                         \
        __asm__ volatile("" : "+r"(result));                                                       \
        return result;                                                                             \
    }

/* 8 side bytes' bit BIT gathered into the low 8 bits: the multiplication moves bit 8i to bit 56 + i. */
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
