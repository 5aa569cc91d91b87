/* Tables of what is noted of objects outside the heap, found by the object's place, in which old
 * objects' entries come first, so that a minor collection looks at the others only: identity hashes
 * (gc/identity.c), samples (gc/tracked.c).
 *
 * What the caller gets: no function here can fail.  What the caller must supply: memory for CAPACITY
 * entries and their index, and room for one more before it adds one; the lock, or a world that
 * stands still.  Words of entries and of the index are read and written one at a time, so that who
 * looks without the lock finds old or new ones. */
#ifndef CAIRN_GC_AGED_H
#define CAIRN_GC_AGED_H

#include "gc/types.h"

struct gci_aged {
    size_t *entries; /* each of WORDS words, the first of which is its object's granule */
    uint32_t *index; /* open addressing: of an entry its position plus 1; twice CAPACITY */
    size_t count, old;
    size_t capacity; /* a power of two; or 0 */
    uint32_t shift;  /* of a granule's hash, to have a slot: gci_aged_shift(capacity) */
    uint32_t words;
};

static inline uint32_t gci_aged_shift(size_t capacity) {
    return 63 - (uint32_t)__builtin_ctzl(capacity);
}

static inline size_t gci_aged_home(uint32_t shift, size_t granule) {
    return (granule * UINT64_C(0x9e3779b97f4a7c15)) >> shift;
}

static inline size_t gci_aged_mask(uint32_t shift) {
    return ((size_t)1 << (64 - shift)) - 1;
}

/* The position plus 1 of GRANULE's entry, of WORDS words; 0 if it has none.  CAPACITY isn't 0. */
static inline size_t gci_aged_find(const struct gci_aged *t, size_t granule, size_t words) {
    uint32_t shift = __atomic_load_n(&t->shift, __ATOMIC_RELAXED);
    size_t mask = gci_aged_mask(shift);
    for (size_t slot = gci_aged_home(shift, granule);; slot = (slot + 1) & mask) {
        size_t value = __atomic_load_n(&t->index[slot], __ATOMIC_RELAXED);
        if (value == 0 ||
            __atomic_load_n(&t->entries[(value - 1) * words], __ATOMIC_RELAXED) == granule)
            return value;
    }
}

/* Adds an entry, of an object that has none; OLD if it is marked. */
void gci_aged_add(struct gci_aged *t, const void *entry, bool old);

/* Takes out the entry at position AT; others may change their positions. */
void gci_aged_take_out(struct gci_aged *t, size_t at);

/* Makes the index anew, after CAPACITY or all entries have changed. */
void gci_aged_rebuild(struct gci_aged *t);

/* In a collection, when all that lives is marked or was moved, and before anything of the rest is
 * used again: entries of the dead go, and DIED, unless NULL, gets each of these; those of what moved
 * go along, whether it was by evacuation or by compaction: what counts is MOVED and the address in
 * the first word.  A survivor's side byte gets BITS where it has moved.  A minor collection (not
 * FULL) looks at young objects' only; after a full one the index must be rebuilt. */
void gci_aged_update(struct gc_heap *heap, struct gci_aged *t, bool full, uint8_t bits,
    void (*died)(struct gc_heap *heap, const void *entry));

/* Checks the table against the side bytes, which must have BITS; returns how many invariants are
 * broken.  NAME is for the message. */
size_t gci_check_aged(
    const struct gc_heap *heap, const struct gci_aged *t, uint8_t bits, const char *name);

#endif
