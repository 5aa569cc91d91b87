/* Disappearing links on the side of their slots: see link.h.  Each is on the list of its holder's
 * record.  If the holder has more than a few, all of them are in the index besides, a hash table by
 * record and offset: so a link is found as quickly among a million in one object as alone, and the
 * latter, which is the common case, has no index to keep.  A record stays where it is when its object
 * moves, so that nothing in the index changes then.
 *
 * Invariants: a holder that isn't INDEXED has at most FEW links; each link of one that is, is in a
 * slot of the index from which nothing but other links lies between it and the link's home; at least
 * half of the slots are empty (docs/finalization.md, rule 21). */
#include "gc/link.h"

#include "gc/block.h"
#include "runtime/vm.h"

#define FEW         4u
#define FIRST_SLOTS 512u /* a page of them */

/* ---- The index ------------------------------------------------------------------------------ */

static size_t slot_count(const struct gci_link_index *index) {
    return index->slots != NULL ? (size_t)1 << (64 - index->shift) : 0;
}

static size_t home_of(
    const struct gci_link_index *index, const struct gci_watched *holder, size_t offset) {
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    return ((uintptr_t)holder * factor + offset / sizeof(void *)) * factor >> index->shift;
}

static size_t home_of_link(const struct gci_link_index *index, const struct gci_watch *link) {
    return home_of(index, link->link.holder, link->link.offset);
}

static void put(struct gci_link_index *index, struct gci_watch *link) {
    size_t mask = slot_count(index) - 1, slot = home_of_link(index, link);
    while (index->slots[slot] != NULL) slot = (slot + 1) & mask;
    index->slots[slot] = link;
    index->count++;
}

/* Of those behind the slot of LINK, up to the next empty one, each that may stand there is moved
 * there. */
static void take_out(struct gci_link_index *index, const struct gci_watch *link) {
    size_t mask = slot_count(index) - 1, hole = home_of_link(index, link);
    while (index->slots[hole] != link) hole = (hole + 1) & mask;
    struct gci_watch *other;
    for (size_t slot = hole; (other = index->slots[slot = (slot + 1) & mask]) != NULL;) {
        if (((slot - home_of_link(index, other)) & mask) < ((slot - hole) & mask)) continue;
        index->slots[hole] = other;
        hole = slot;
    }
    index->slots[hole] = NULL;
    index->count--;
}

/* Room for one more link, and for a few that weren't in it; false without memory. */
static bool has_room(struct gci_link_index *index) {
    size_t count = slot_count(index), more = count > 0 ? 2 * count : FIRST_SLOTS;
    if (2 * (index->count + FEW + 1) <= count) return true;
    struct gci_watch **old = index->slots, **fresh = gci_vm_map(more * sizeof *fresh);
    if (fresh == NULL) return false;
    index->slots = fresh;
    index->shift = 64 - (unsigned)__builtin_ctzl(more);
    index->count = 0;
    for (size_t i = 0; i < count; i++)
        if (old[i] != NULL) put(index, old[i]);
    if (count > 0) gci_vm_unmap(old, count * sizeof *old);
    return true;
}

/* ---- Links of a holder ---------------------------------------------------------------------- */

static bool is_at(const struct gci_watch *link, const struct gci_watched *holder, size_t offset,
    enum gc_weak_kind when) {
    return link->link.offset == offset && link->link.holder == holder && link->when == when;
}

struct gci_watch *gci_link_find(const struct gci_watches *w, const struct gci_watched *holder,
    size_t offset, enum gc_weak_kind when) {
    const struct gci_link_index *index = &w->index;
    struct gci_watch *link = holder->links;
    if (!holder->indexed) {
        while (link != NULL && !is_at(link, holder, offset, when)) link = link->link.next;
        return link;
    }
    size_t mask = slot_count(index) - 1, slot = home_of(index, holder, offset);
    while ((link = index->slots[slot]) != NULL && !is_at(link, holder, offset, when))
        slot = (slot + 1) & mask;
    return link;
}

/* Has HOLDER as many as a list may have? */
static bool is_full(const struct gci_watched *holder) {
    const struct gci_watch *link = holder->links;
    for (unsigned i = 1; i < FEW && link != NULL; i++) link = link->link.next;
    return link != NULL;
}

bool gci_link_has_room(struct gci_watches *w, const struct gci_watched *holder) {
    return (!holder->indexed && !is_full(holder)) || has_room(&w->index);
}

void gci_link_join(
    struct gci_watches *w, struct gci_watched *holder, size_t offset, struct gci_watch *link) {
    if (!holder->indexed && is_full(holder)) {
        holder->indexed = true;
        for (struct gci_watch *one = holder->links; one != NULL; one = one->link.next)
            put(&w->index, one);
    }
    link->link.holder = holder;
    link->link.offset = offset;
    link->link.prev = NULL;
    link->link.next = holder->links;
    if (holder->links != NULL) holder->links->link.prev = link;
    holder->links = link;
    if (holder->indexed) put(&w->index, link);
}

void gci_link_leave(struct gci_watches *w, struct gci_watch *link) {
    struct gci_watched *holder = link->link.holder;
    if (holder->indexed) take_out(&w->index, link);
    if (link->link.next != NULL) link->link.next->link.prev = link->link.prev;
    if (link->link.prev != NULL)
        link->link.prev->link.next = link->link.next;
    else
        holder->links = link->link.next;
    if (holder->links == NULL) holder->indexed = false;
}

void gci_link_end(struct gci_watches *w, struct gci_watch *link) {
    gci_link_leave(w, link);
    gci_watch_leave(w, link);
    gci_watch_give(w, link);
}

/* The page may be protected, and what is written here is no reference that anyone must hear of. */
void gci_link_store(struct gc_heap *heap, uintptr_t slot, uintptr_t value) {
    const struct gci_arena *arena = &heap->arena;
    uintptr_t offset = slot - arena->base;
    if (offset < gci_arena_used_bytes(arena) &&
        gci_tag(arena, (uint32_t)(offset >> GCI_BLOCK_SHIFT)) & GCI_TAG_CLOSED)
        gci_barrier_prepare(heap->barrier, slot, sizeof slot);
    __atomic_store_n((uintptr_t *)slot, value, __ATOMIC_RELAXED);
}

/* ---- Checking ------------------------------------------------------------------------------- */

bool gci_check_links(
    const struct gci_watches *w, const struct gci_watched *holder, size_t *indexed) {
    const struct gci_watch *before = NULL;
    size_t count = 0;
    for (const struct gci_watch *link = holder->links; link != NULL; link = link->link.next) {
        enum gc_weak_kind when = (enum gc_weak_kind)link->when;
        const struct gci_watched *target = gci_watched_find(w, link->object);
        if (link->link.holder != holder || link->link.prev != before || target == NULL ||
            link->kind != GCI_WATCH_LINK || (holder->outside && link->link.offset != 0) ||
            gci_link_find(w, holder, link->link.offset, when) != link)
            return false;
        before = link;
        count++;
    }
    if (holder->indexed) *indexed += count;
    return holder->indexed ? count > 0 : count <= FEW;
}
