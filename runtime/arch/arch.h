/* What differs between processors.  One header for each, and a portable one; gc/ and runtime/
 * include only this file.
 *
 * Each supplies:
 *
 *   GCI_ENTRY(name, target)  at file scope: defines the public function NAME, which saves the
 *       registers that a callee must preserve in a struct gci_frame on the stack and calls TARGET
 *       with NAME's (up to three) integer arguments in place and the frame's address as the fourth.
 *       Scanning from the frame to the stack's base then sees the caller's registers and frames,
 *       and nothing of the library's own.  TARGET is declared before, with pointers and integers
 *       (or void for the result) as its types; a semicolon follows.
 *
 *   GCI_FRAME_WORDS  how many words from the frame's address hold all of the caller's registers.
 *
 *   GCI_SAVED_REGISTERS  how many of the registers that a callee must preserve are followed from
 *       frame to frame (runtime/unwind.h).
 *
 *   gci_thread_pointer()  an address from which the calling thread's static thread-local storage
 *       lies at the same distance in every thread (runtime/tls.c).
 *
 *   gci_relax()  for the body of a loop that waits for another processor.
 *
 *   struct gci_side_masks, gci_side_masks64(side)  one bit of each kind for 64 consecutive side
 *       bytes.
 *
 * and may supply:
 *
 *   GCI_RECORD_AT_THREAD_POINTER  the C library's record of a thread begins at its thread pointer,
 *       and the static part of its thread-local storage ends there ("variant II" of the TLS ABI).
 */
#ifndef CAIRN_RUNTIME_ARCH_ARCH_H
#define CAIRN_RUNTIME_ARCH_ARCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct gci_frame; /* opaque: only its address matters */

/* Bit i describes granule i. */
struct gci_side_masks {
    uint64_t start, end, mark;
};

#if defined(__x86_64__) && !defined(CAIRN_PORTABLE)
#include "x86_64.h"
#else
#include "portable.h"
#endif

/* Eight side bytes; byte i in bits 8i to 8i + 7. */
static inline __attribute__((no_sanitize("thread"))) uint64_t gci_load8(const uint8_t *side) {
    uint64_t bytes;
    memcpy(&bytes, side, sizeof bytes);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bytes = __builtin_bswap64(bytes);
#endif
    return bytes;
}

#endif
