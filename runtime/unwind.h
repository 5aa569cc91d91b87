/* From a function's frame to its caller's, by the tables that compilers write for exceptions
 * (.eh_frame).  Takes no lock, allocates nothing, and reads no memory but the tables and the given
 * stack, so that the collector can follow the stacks of threads that stand still (docs/roots.md,
 * rule 11). */
#ifndef CAIRN_RUNTIME_UNWIND_H
#define CAIRN_RUNTIME_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/arch/arch.h"

/* What a function had in its registers when it called, as far as its caller's frame can be found by
 * it: PC is where the call returns to, SP the stack pointer then.  A register whose value isn't
 * known is not in KNOWN, a set of their indices. */
struct gci_registers {
    uintptr_t pc, sp;
    uintptr_t saved[GCI_SAVED_REGISTERS]; /* in the order of enum gc_saved_register */
    uint32_t known;
};

enum gci_step {
    GCI_STEP_CALLER, /* the registers are the caller's */
    GCI_STEP_END,    /* there is no caller: a thread or the program began here */
    GCI_STEP_UNKNOWN /* what the tables say isn't understood, or there are none */
};

/* Can this be done here? */
bool gci_can_unwind(void);

/* The registers that an entry function found, from the frame that it made. */
void gci_registers_at_entry(struct gci_registers *registers, const struct gci_frame *frame);

/* One step, on a stack that ends at HIGH. */
enum gci_step gci_unwind(struct gci_registers *registers, uintptr_t high);

/* The same for who walks stacks often: what the tables said of a call is kept, in a line of memory
 * for each, where reading the tables takes ten and more.  It isn't noticed when another object is
 * loaded where one was: then a walk may end early, or tell of callers that never were, but still
 * reads nothing but the stack.  So it is for reports, not for finding references. */
#define GCI_UNWIND_BITS 9u

struct gci_unwind_entry {
    uintptr_t pc;
    int32_t offset; /* of the frame, from the register BASE */
    uint8_t base;
    int16_t saved[GCI_SAVED_REGISTERS + 1]; /* from the frame; the last is where to return to */
};

struct gci_unwind_cache {
    struct gci_unwind_entry entries[1u << GCI_UNWIND_BITS]; /* zeroed before the first use */
};

enum gci_step gci_unwind_again(
    struct gci_registers *registers, uintptr_t high, struct gci_unwind_cache *cache);

#endif
