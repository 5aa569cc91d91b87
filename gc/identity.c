/* Identity hashes.  An object's hash is a number that was drawn when it was first asked for; it
 * stands in a table outside the heap, under the object's address, and a bit of the side byte says
 * that it may.  Owns heap->identities.  Invariants: an entry's object is live and has KEYED; the
 * old objects' come first, so that a minor collection looks at the others only; a table once
 * published stays readable.  Written with the lock held or the world stopped, read at any time
 * (docs/identity.md). */
#include "gc/identity.h"

#include <errno.h>
#include <string.h>

#include "cairn/embed.h"
#include "gc/api.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define MOST_ENTRIES ((size_t)1 << 31)
#define THIN         8u /* a table that is filled less than 1/8 shrinks */

struct entry {
    size_t granule;
    uint64_t hash;
};

/* One mapping: this on a page of its own, the entries, and an index by open addressing of twice as
 * many slots.  A slot holds the position of an entry plus 1, or 0. */
struct table {
    struct entry *entries;
    uint32_t *index;
    size_t mapped;   /* entries there is memory for */
    size_t capacity; /* entries in use at the most */
    unsigned shift;  /* of a granule's hash, to have a slot: 64 less the index's bits */
};

struct gci_identities {
    struct table *table;
    uint32_t version; /* odd while it is being changed */
    size_t count, old_count;
    uint64_t drawn; /* hashes given out */
};

/* ---- The index ------------------------------------------------------------------------------ */

static inline size_t home_of(unsigned shift, size_t granule) {
    return (granule * UINT64_C(0x9e3779b97f4a7c15)) >> shift;
}

static inline size_t mask_of(unsigned shift) {
    return ((size_t)1 << (64 - shift)) - 1;
}

/* Readers without the lock may look at any word while it is changed. */
static inline uint32_t slot_value(const struct table *t, size_t slot) {
    return __atomic_load_n(&t->index[slot], __ATOMIC_RELAXED);
}

static inline void set_slot(struct table *t, size_t slot, size_t value) {
    __atomic_store_n(&t->index[slot], (uint32_t)value, __ATOMIC_RELAXED);
}

static inline void set_entry(struct table *t, size_t at, struct entry entry) {
    __atomic_store_n(&t->entries[at].granule, entry.granule, __ATOMIC_RELAXED);
    __atomic_store_n(&t->entries[at].hash, entry.hash, __ATOMIC_RELAXED);
}

/* The position plus 1 of GRANULE's entry; 0 if it has none. */
static inline size_t find(const struct table *t, size_t granule) {
    unsigned shift = __atomic_load_n(&t->shift, __ATOMIC_RELAXED);
    for (size_t slot = home_of(shift, granule);; slot = (slot + 1) & mask_of(shift)) {
        size_t value = slot_value(t, slot);
        if (value == 0 ||
            __atomic_load_n(&t->entries[value - 1].granule, __ATOMIC_RELAXED) == granule)
            return value;
    }
}

/* The slot of the entry at position AT. */
static size_t slot_of(const struct table *t, size_t at) {
    size_t slot = home_of(t->shift, t->entries[at].granule);
    while (slot_value(t, slot) != at + 1) slot = (slot + 1) & mask_of(t->shift);
    return slot;
}

static void enter(struct table *t, size_t at) {
    size_t slot = home_of(t->shift, t->entries[at].granule);
    while (slot_value(t, slot) != 0) slot = (slot + 1) & mask_of(t->shift);
    set_slot(t, slot, at + 1);
}

/* Empties a slot.  Of those behind it, up to the next empty one, each that may stand there is moved
 * there. */
static void leave(struct table *t, size_t hole) {
    size_t mask = mask_of(t->shift), slot = hole, value;
    while ((value = slot_value(t, slot = (slot + 1) & mask)) != 0) {
        size_t home = home_of(t->shift, t->entries[value - 1].granule);
        if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
        set_slot(t, hole, value);
        hole = slot;
    }
    set_slot(t, hole, 0);
}

static void rebuild(struct table *t, size_t count) {
    memset(t->index, 0, 2 * t->capacity * sizeof *t->index);
    for (size_t at = 0; at < count; at++) enter(t, at);
}

/* ---- Entries -------------------------------------------------------------------------------- */

static void begin_change(struct gci_identities *ids) {
    __atomic_store_n(&ids->version, ids->version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end_change(struct gci_identities *ids) {
    __atomic_store_n(&ids->version, ids->version + 1, __ATOMIC_RELEASE);
}

static void relocate(struct table *t, size_t from, size_t to) {
    if (from == to) return;
    set_slot(t, slot_of(t, from), to + 1);
    set_entry(t, to, t->entries[from]);
}

static void add(struct gci_identities *ids, struct entry entry, bool old) {
    struct table *t = ids->table;
    size_t at = ids->count++;
    if (old) {
        relocate(t, ids->old_count, at);
        at = ids->old_count++;
    }
    set_entry(t, at, entry);
    enter(t, at);
}

static struct entry take_out(struct gci_identities *ids, size_t at) {
    struct table *t = ids->table;
    struct entry entry = t->entries[at];
    leave(t, slot_of(t, at));
    if (at < ids->old_count) {
        relocate(t, --ids->old_count, at);
        at = ids->old_count;
    }
    relocate(t, --ids->count, at);
    return entry;
}

/* ---- Room ----------------------------------------------------------------------------------- */

/* Bytes of the index of CAPACITY entries, whole pages. */
static size_t index_bytes(size_t capacity) {
    return gci_whole_pages(2 * capacity * sizeof(uint32_t));
}

static struct table *make_table(size_t capacity) {
    size_t page = gci_page_size(), entries = capacity * sizeof(struct entry);
    uint8_t *memory = gci_vm_map(page + entries + index_bytes(capacity));
    if (memory == NULL) return NULL;
    struct table *t = (struct table *)(void *)memory;
    *t = (struct table){.entries = (struct entry *)(void *)(memory + page),
        .index = (uint32_t *)(void *)(memory + page + entries),
        .mapped = capacity,
        .capacity = capacity,
        .shift = 63 - (unsigned)__builtin_ctzl(capacity)};
    return t;
}

/* The memory of all that is behind CAPACITY entries goes back.  The addresses stay readable. */
static void discard_behind(struct table *t, size_t capacity) {
    size_t used = capacity == 0 ? 0 : index_bytes(capacity);
    uint8_t *index = (uint8_t *)t->index;
    if (capacity < t->mapped)
        gci_vm_discard(t->entries + capacity, (t->mapped - capacity) * sizeof *t->entries);
    if (used < index_bytes(t->mapped)) gci_vm_discard(index + used, index_bytes(t->mapped) - used);
}

/* Makes room for twice as many entries; false if there is no memory.  The tables that are given up
 * stay where they are, empty, for readers that are late: together they take less address space than
 * the one in use. */
static bool grow(struct gci_identities *ids) {
    struct table *old = ids->table;
    if (old->capacity >= MOST_ENTRIES) return false;
    if (old->capacity < old->mapped) { /* it shrank before */
        old->capacity *= 2;
        __atomic_store_n(&old->shift, old->shift - 1, __ATOMIC_RELAXED);
        rebuild(old, ids->count);
        return true;
    }
    struct table *fresh = make_table(2 * old->capacity);
    if (fresh == NULL) return false;
    memcpy(fresh->entries, old->entries, ids->count * sizeof *fresh->entries);
    rebuild(fresh, ids->count);
    __atomic_store_n(&ids->table, fresh, __ATOMIC_RELEASE);
    discard_behind(old, 0);
    return true;
}

static void shrink(struct gci_identities *ids) {
    struct table *t = ids->table;
    size_t least = gci_page_size() / sizeof(struct entry), capacity = t->capacity;
    while (capacity > least && ids->count < capacity / THIN) capacity /= 2;
    if (capacity == t->capacity) return;
    t->capacity = capacity;
    __atomic_store_n(&t->shift, 63 - (unsigned)__builtin_ctzl(capacity), __ATOMIC_RELAXED);
    discard_behind(t, capacity);
}

static struct gci_identities *identities(struct gc_heap *heap) {
    if (heap->identities == NULL) {
        size_t page = gci_page_size();
        struct gci_identities *ids = gci_vm_map(page);
        if (ids == NULL) return NULL;
        ids->table = make_table(page / sizeof(struct entry));
        if (ids->table == NULL) {
            gci_vm_unmap(ids, page);
            return NULL;
        }
        __atomic_store_n(&heap->identities, ids, __ATOMIC_RELEASE);
    }
    return heap->identities;
}

/* ---- What becomes of objects ---------------------------------------------------------------- */

/* Does the object live on?  Then *GRANULE is where. */
static bool survives(struct gc_heap *heap, size_t *granule) {
    struct gci_arena *arena = &heap->arena;
    uint8_t side = arena->side[*granule];
    if (!(side & GCI_SIDE_MOVED)) return side & GCI_SIDE_MARK;
    uintptr_t to = *(const uintptr_t *)gci_granule_address(arena, *granule);
    *granule = gci_address_granule(arena, to);
    arena->side[*granule] |= GCI_SIDE_KEYED;
    return true;
}

void gci_identity_update(struct gc_heap *heap, bool full) {
    struct gci_identities *ids = heap->identities;
    if (ids == NULL || ids->count == (full ? 0 : ids->old_count)) return;
    struct table *t = ids->table;
    size_t kept = full ? 0 : ids->old_count;
    begin_change(ids);
    for (size_t at = kept; at < ids->count; at++) {
        struct entry entry = t->entries[at];
        if (!full) leave(t, slot_of(t, at));
        if (!survives(heap, &entry.granule)) continue;
        set_entry(t, kept, entry);
        if (!full) enter(t, kept);
        kept++;
    }
    ids->count = ids->old_count = kept;
    if (full) {
        shrink(ids);
        rebuild(t, kept);
    }
    end_change(ids);
}

void gci_identity_moved(struct gc_heap *heap, size_t from, size_t to) {
    struct gci_identities *ids = heap->identities;
    uint8_t *side = heap->arena.side;
    size_t at = ids != NULL ? find(ids->table, from) : 0;
    if (at == 0) return;
    begin_change(ids);
    struct entry entry = take_out(ids, at - 1);
    entry.granule = to;
    add(ids, entry, side[to] & GCI_SIDE_MARK);
    end_change(ids);
    __atomic_fetch_or(&side[to], GCI_SIDE_KEYED, __ATOMIC_RELAXED);
}

void gci_identity_forget(struct gc_heap *heap, size_t granule) {
    struct gci_identities *ids = heap->identities;
    size_t at = ids != NULL ? find(ids->table, granule) : 0;
    if (at == 0) return;
    begin_change(ids);
    take_out(ids, at - 1);
    end_change(ids);
}

/* ---- Asking --------------------------------------------------------------------------------- */

/* The next number, mixed (splitmix64's finalizer, which maps 0 to 0 and is one to one): so no two
 * objects ever have the same hash, and none has 0. */
static uint64_t draw(struct gci_identities *ids) {
    uint64_t z = ++ids->drawn;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Without the lock: the hash of the object at P, or 0 if it isn't known or the table is being
 * changed.  Where P isn't an object's start there is no entry. */
static uint64_t look(const struct gc_heap *heap, uintptr_t p) {
    const struct gci_identities *ids = __atomic_load_n(&heap->identities, __ATOMIC_ACQUIRE);
    if (ids == NULL || p % GC_GRANULE != 0) return 0;
    uint32_t version = __atomic_load_n(&ids->version, __ATOMIC_ACQUIRE);
    if (version % 2 != 0) return 0;
    const struct table *t = __atomic_load_n(&ids->table, __ATOMIC_ACQUIRE);
    size_t value = find(t, gci_address_granule(&heap->arena, p));
    if (value == 0) return 0;
    uint64_t hash = __atomic_load_n(&t->entries[value - 1].hash, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&ids->version, __ATOMIC_RELAXED) == version ? hash : 0;
}

/* With the lock held: the hash of OBJECT, drawn if it has none; 0 if there is no memory. */
static uint64_t hash_of(struct gc_heap *heap, gci_object object) {
    struct gci_identities *ids = identities(heap);
    uint8_t *side = &heap->arena.side[object.granule];
    if (ids == NULL) return 0;
    size_t at = *side & GCI_SIDE_KEYED ? find(ids->table, object.granule) : 0;
    if (at != 0) return ids->table->entries[at - 1].hash;
    uint64_t hash = 0;
    begin_change(ids);
    if (ids->count < ids->table->capacity || grow(ids)) {
        hash = draw(ids);
        add(ids, (struct entry){object.granule, hash}, *side & GCI_SIDE_MARK);
        __atomic_fetch_or(side, GCI_SIDE_KEYED, __ATOMIC_RELAXED);
    }
    end_change(ids);
    return hash;
}

uint64_t gci_entry_identity(const void *p, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gc_identity_hash_slow, gci_entry_identity);

uint64_t gci_entry_identity(const void *p, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    struct gc_heap *heap = gci_default_heap();
    gci_object object;
    if (thread != NULL) thread->held = (uintptr_t)p; /* perhaps the only reference to it */
    gci_heap_lock(heap);
    if (!gci_find(heap, (uintptr_t)p, &object) ||
        gci_granule_address(&heap->arena, object.granule) != (uintptr_t)p)
        gci_fatal("gc_identity_hash(%p): not the start of a live object", p);
    uint64_t hash = hash_of(heap, object);
    gci_heap_unlock(heap);
    if (thread != NULL) thread->held = 0;
    gci_api_leave_if_attached(thread, 0);
    if (hash == 0) errno = ENOMEM;
    return hash;
}

uint64_t gc_identity_hash(const void *p) {
    const struct gc_heap *heap = gci_default_heap();
    if (p == NULL) return 0;
    uint64_t hash = heap != NULL ? look(heap, (uintptr_t)p) : 0;
    return hash != 0 ? hash : gc_identity_hash_slow(p);
}

/* ---- Checking ------------------------------------------------------------------------------- */

size_t gci_check_identities(const struct gc_heap *heap) {
    const struct gci_identities *ids = heap->identities;
    const uint8_t wanted = GCI_SIDE_START | GCI_SIDE_KEYED;
    size_t broken = 0, count = ids != NULL ? ids->count : 0;
    for (size_t at = 0; at < count; at++) {
        size_t granule = ids->table->entries[at].granule;
        uint8_t side = heap->arena.side[granule];
        bool old = side & GCI_SIDE_MARK, right = (side & wanted) == wanted;
        if (right && old == (at < ids->old_count) && find(ids->table, granule) == at + 1) continue;
        gci_log("identities: entry %zu of %zu (%zu old), for %p, side byte %#x, is found at %zu",
            at, count, ids->old_count, (void *)gci_granule_address(&heap->arena, granule), side,
            find(ids->table, granule) - 1);
        broken++;
    }
    return broken;
}
