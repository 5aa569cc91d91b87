/* Identity hashes.  An object's hash is a number that was drawn when it was first asked for; it
 * stands in a table outside the heap (gc/aged.c), under the object's address, and a bit of the side
 * byte says that it may.  Owns heap->identities.  Invariants: an entry's object is live and has
 * KEYED; a table once published stays readable.  Written with the lock held or the world stopped,
 * read at any time (docs/identity.md). */
#include "gc/identity.h"

#include <errno.h>
#include <string.h>

#include "cairn/embed.h"
#include "gc/aged.h"
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

#define WORDS     (sizeof(struct entry) / sizeof(size_t))
#define HASH_WORD (offsetof(struct entry, hash) / sizeof(size_t))

/* One mapping: this on a page of its own, the entries, and their index. */
struct table {
    struct gci_aged aged;
    size_t mapped; /* entries there is memory for: CAPACITY or more */
};

struct gci_identities {
    struct table *table;
    uint32_t version; /* odd while it is being changed */
    uint64_t drawn;   /* hashes given out */
};

/* ---- Changes -------------------------------------------------------------------------------- */

static void begin_change(struct gci_identities *ids) {
    __atomic_store_n(&ids->version, ids->version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end_change(struct gci_identities *ids) {
    __atomic_store_n(&ids->version, ids->version + 1, __ATOMIC_RELEASE);
}

static size_t find(const struct gci_identities *ids, size_t granule) {
    return gci_aged_find(&ids->table->aged, granule, WORDS);
}

static struct entry *entry_at(const struct gci_identities *ids, size_t at) {
    return (struct entry *)(void *)ids->table->aged.entries + at;
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
    *t = (struct table){.aged = {.entries = (size_t *)(void *)(memory + page),
                            .index = (uint32_t *)(void *)(memory + page + entries),
                            .capacity = capacity,
                            .shift = gci_aged_shift(capacity),
                            .words = WORDS},
        .mapped = capacity};
    return t;
}

/* The memory of all that is behind CAPACITY entries goes back.  The addresses stay readable. */
static void discard_behind(struct table *t, size_t capacity) {
    size_t used = capacity == 0 ? 0 : index_bytes(capacity);
    uint8_t *entries = (uint8_t *)t->aged.entries, *index = (uint8_t *)t->aged.index;
    size_t from = capacity * sizeof(struct entry), end = t->mapped * sizeof(struct entry);
    if (from < end) gci_vm_discard(entries + from, end - from);
    if (used < index_bytes(t->mapped)) gci_vm_discard(index + used, index_bytes(t->mapped) - used);
}

/* Makes room for twice as many entries; false if there is no memory.  The tables that are given up
 * stay where they are, empty, for readers that are late: together they take less address space than
 * the one in use. */
static bool grow(struct gci_identities *ids) {
    struct table *old = ids->table;
    struct gci_aged *aged = &old->aged;
    if (aged->capacity >= MOST_ENTRIES) return false;
    if (aged->capacity < old->mapped) { /* it shrank before */
        aged->capacity *= 2;
        __atomic_store_n(&aged->shift, aged->shift - 1, __ATOMIC_RELAXED);
        gci_aged_rebuild(aged);
        return true;
    }
    struct table *fresh = make_table(2 * aged->capacity);
    if (fresh == NULL) return false;
    memcpy(fresh->aged.entries, aged->entries, aged->count * sizeof(struct entry));
    fresh->aged.count = aged->count;
    fresh->aged.old = aged->old;
    gci_aged_rebuild(&fresh->aged);
    __atomic_store_n(&ids->table, fresh, __ATOMIC_RELEASE);
    discard_behind(old, 0);
    return true;
}

static void shrink(struct table *t) {
    size_t least = gci_page_size() / sizeof(struct entry), capacity = t->aged.capacity;
    while (capacity > least && t->aged.count < capacity / THIN) capacity /= 2;
    if (capacity == t->aged.capacity) return;
    t->aged.capacity = capacity;
    __atomic_store_n(&t->aged.shift, gci_aged_shift(capacity), __ATOMIC_RELAXED);
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

void gci_identity_update(struct gc_heap *heap, bool full) {
    struct gci_identities *ids = heap->identities;
    if (ids == NULL) return;
    struct table *t = ids->table;
    if (t->aged.count == (full ? 0 : t->aged.old)) return;
    begin_change(ids);
    gci_aged_update(heap, &t->aged, full, GCI_SIDE_KEYED, NULL);
    if (full) {
        shrink(t);
        gci_aged_rebuild(&t->aged);
    }
    end_change(ids);
}

void gci_identity_moved(struct gc_heap *heap, size_t from, size_t to) {
    struct gci_identities *ids = heap->identities;
    uint8_t *side = heap->arena.side;
    size_t at = ids != NULL ? find(ids, from) : 0;
    if (at == 0) return;
    begin_change(ids);
    struct entry entry = {to, entry_at(ids, at - 1)->hash};
    gci_aged_take_out(&ids->table->aged, at - 1);
    gci_aged_add(&ids->table->aged, &entry, side[to] & GCI_SIDE_MARK);
    end_change(ids);
    __atomic_fetch_or(&side[to], GCI_SIDE_KEYED, __ATOMIC_RELAXED);
}

void gci_identity_forget(struct gc_heap *heap, size_t granule) {
    struct gci_identities *ids = heap->identities;
    size_t at = ids != NULL ? find(ids, granule) : 0;
    if (at == 0) return;
    begin_change(ids);
    gci_aged_take_out(&ids->table->aged, at - 1);
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
    size_t value = gci_aged_find(&t->aged, gci_address_granule(&heap->arena, p), WORDS);
    if (value == 0) return 0;
    uint64_t hash =
        __atomic_load_n(&t->aged.entries[(value - 1) * WORDS + HASH_WORD], __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&ids->version, __ATOMIC_RELAXED) == version ? hash : 0;
}

/* With the lock held: the hash of OBJECT, drawn if it has none; 0 if there is no memory. */
static uint64_t hash_of(struct gc_heap *heap, gci_object object) {
    struct gci_identities *ids = identities(heap);
    uint8_t *side = &heap->arena.side[object.granule];
    if (ids == NULL) return 0;
    size_t at = *side & GCI_SIDE_KEYED ? find(ids, object.granule) : 0;
    if (at != 0) return entry_at(ids, at - 1)->hash;
    uint64_t hash = 0;
    begin_change(ids);
    if (ids->table->aged.count < ids->table->aged.capacity || grow(ids)) {
        hash = draw(ids);
        struct entry entry = {object.granule, hash};
        gci_aged_add(&ids->table->aged, &entry, *side & GCI_SIDE_MARK);
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
    if (ids == NULL) return 0;
    return gci_check_aged(heap, &ids->table->aged, GCI_SIDE_START | GCI_SIDE_KEYED, "identities");
}
