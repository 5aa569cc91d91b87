/* Disappearing links on the side of their slots: which ones an object has in it, and which one a slot
 * has (docs/finalization.md, rules 17 to 21).  All with the lock held or the world stopped. */
#ifndef CAIRN_GC_LINK_H
#define CAIRN_GC_LINK_H

#include "gc/watch.h"

/* The link of kind WHEN whose slot is at OFFSET in HOLDER, or NULL. */
struct gci_watch *gci_link_find(const struct gci_watches *w, const struct gci_watched *holder,
    size_t offset, enum gc_weak_kind when);

/* Is there memory for HOLDER to have one link more?  Who adds one has asked before. */
bool gci_link_has_room(struct gci_watches *w, const struct gci_watched *holder);

/* LINK, of a slot at OFFSET in HOLDER, comes to it; and leaves it. */
void gci_link_join(
    struct gci_watches *w, struct gci_watched *holder, size_t offset, struct gci_watch *link);
void gci_link_leave(struct gci_watches *w, struct gci_watch *link);

/* Leaves its holder and its object, and is given back. */
void gci_link_end(struct gci_watches *w, struct gci_watch *link);

/* Where the slot of LINK is. */
static inline uintptr_t gci_link_slot(const struct gc_heap *heap, const struct gci_watch *link) {
    return gci_present(heap, link->link.holder->key) + link->link.offset;
}

/* Makes the slot of LINK hold VALUE. */
void gci_link_store(struct gc_heap *heap, uintptr_t slot, uintptr_t value);

/* Are the links of HOLDER as they should be?  Adds those that are in the index to *INDEXED. */
bool gci_check_links(
    const struct gci_watches *w, const struct gci_watched *holder, size_t *indexed);

#endif
