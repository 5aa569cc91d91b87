/* What the tables that are keyed by objects have in common: see keyed.h. */
#include "gc/keyed.h"

#include "gc/identity.h"
#include "gc/watch.h"

static void clear_keyed(struct gc_heap *heap, size_t granule) {
    __atomic_fetch_and(&heap->arena.side[granule], (uint8_t)~GCI_SIDE_KEYED, __ATOMIC_RELAXED);
}

void gci_keyed_forget(struct gc_heap *heap, size_t granule) {
    gci_identity_forget(heap, granule);
    gci_watches_forget(heap, granule);
    clear_keyed(heap, granule);
}

void gci_keyed_moved(struct gc_heap *heap, size_t from, size_t to, size_t bytes) {
    gci_identity_moved(heap, from, to);
    gci_watches_moved(heap, from, to, bytes);
    clear_keyed(heap, from);
}

void gci_keyed_cut(struct gc_heap *heap, size_t granule, size_t bytes) {
    gci_watches_cut(heap, granule, bytes);
}
