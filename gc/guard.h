/* Guard pages behind large objects, for CAIRN_POISON=guard (docs/debugging.md, rules 6 to 9). */
#ifndef CAIRN_GC_GUARD_H
#define CAIRN_GC_GUARD_H

#include "gc/types.h"

/* At opening, before the first large object. */
void gci_guard_open(struct gc_heap *heap);

/* Makes PAGE, the last of a large object's run, inaccessible, unless the system or the budget of
 * mappings refuses it; and accessible again.  With the lock held. */
void gci_guard_raise(struct gci_arena *arena, uint32_t page);
void gci_guard_lower(struct gci_arena *arena, uint32_t page);

#endif
