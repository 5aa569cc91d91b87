/* Faults: accesses to the heap's pages that their protection refuses.  Several parts may be
 * interested, each with a function that is asked in the signal handler; what none of them knows
 * goes to the handler that the program had before (docs/barrier.md, rules 6 and 7). */
#ifndef CAIRN_RUNTIME_FAULT_H
#define CAIRN_RUNTIME_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* A thread was refused access to ADDRESS.  True: it may try again.  Called with all signals
 * blocked, perhaps by several threads at once; the world may be running. */
typedef bool gci_fault_server(uintptr_t address, bool write);

/* Adds SERVER, at most 4 of them, and makes the signal come here; to add it again changes nothing.
 * Returns 0 or an errno value. */
int gci_fault_serve(gci_fault_server *server);

/* Takes SERVER away.  When none is left the program has its handler back. */
void gci_fault_leave(gci_fault_server *server);

/* Makes the signal come here again, if the program has installed a handler of its own since. */
void gci_fault_install(void);

#endif
