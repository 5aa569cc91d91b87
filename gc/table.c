/* Hash tables of objects, weak in their keys, in their values, in both or in none.  A table is an
 * object of the heap and uses three: itself; its entries, in the order in which they were added,
 * which the collector treats as ephemerons (gc/ephemeron.c) and empties; and an index by open
 * addressing, a leaf.  Rules: docs/ephemerons.md, 11 to 16.
 *
 * All of this is code like a program's: a thread may be stopped for a collection between any two
 * instructions, and whatever is allocated may be one.  What it has loaded it holds; with precise
 * stacks its variables are named by GC_FRAME(), and what may have moved is read again after every
 * call that can stop.  Invariants, with the lock held: the index has each entry below USED that has
 * a key, under its HASH; entries that the collector emptied may be in it, too. */
#include <errno.h>
#include <sched.h>

#include "cairn/embed.h"
#include "gc/ephemeron.h"
#include "gc/heap.h"
#include "runtime/futex.h"
#include "runtime/log.h"

#define LEAST    8u /* entries that there is room for at first */
#define MOST     ((size_t)1 << 31)
#define THIN     8u /* a table of which less than 1/8 is used shrinks */
#define PATIENCE 32u
#define NAP_NS   UINT64_C(50000)

typedef struct gci_table_object table;

/* A pointer that was loaded from an entry keeps that one from being emptied until here. */
#define HOLD(p) __asm__ volatile("" : : "r"(p) : "memory")

static inline void *load(const uintptr_t *slot) {
    return (void *)__atomic_load_n(slot, __ATOMIC_RELAXED);
}

/* ---- The lock ------------------------------------------------------------------------------- */

/* The table may move while a thread waits for it, so that there is no futex in it. */
static void lock(table *const *at) {
    static const uint32_t nothing;
    for (unsigned tries = 0; !gci_lock_try(&(*at)->lock); tries++) {
        gc_safepoint();
        if (tries < PATIENCE)
            sched_yield();
        else
            gci_futex_wait(&nothing, 0, NAP_NS);
    }
}

static void unlock(table *t) {
    __atomic_store_n(&t->lock, 0, __ATOMIC_RELEASE);
}

/* ---- The index ------------------------------------------------------------------------------ */

static size_t home_of(const table *t, uintptr_t hash) {
    return (size_t)(hash * UINT64_C(0x9e3779b97f4a7c15) >> t->shift);
}

static size_t mask_of(const table *t) {
    return ((size_t)1 << (64 - t->shift)) - 1;
}

static void enter(const table *t, size_t at) {
    size_t mask = mask_of(t), slot = home_of(t, t->entries[at].hash);
    while (t->index[slot] != 0) slot = (slot + 1) & mask;
    t->index[slot] = (uint32_t)at;
}

/* Takes the entry AT out.  Of those behind it, up to the next empty slot, each that may stand there
 * is moved there. */
static void leave(const table *t, size_t at) {
    size_t mask = mask_of(t), hole = home_of(t, t->entries[at].hash);
    while (t->index[hole] != at) hole = (hole + 1) & mask;
    for (size_t slot = hole; t->index[slot = (slot + 1) & mask] != 0;) {
        size_t home = home_of(t, t->entries[t->index[slot]].hash);
        if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
        t->index[hole] = t->index[slot];
        hole = slot;
    }
    t->index[hole] = 0;
}

/* ---- Hashes --------------------------------------------------------------------------------- */

static uintptr_t hash_of(const table *t, const void *key) {
    return t->hash_function != NULL ? t->hash_function(key) : (uintptr_t)key;
}

/* By identity, that is by address; an entry with hash 0 isn't in the index then.  (By a function of
 * the program's, nothing changes.
 * The keys that may have moved since they were entered are those
 * which were added since the last collection, as all others are old; or all, after a compaction.
 * One that a caller has as an argument doesn't move meanwhile. */
static void refresh(table *t) {
    const struct gc_heap *heap = gci_default_heap();
    uint64_t now = __atomic_load_n(&heap->collections, __ATOMIC_RELAXED);
    uint64_t compactions = __atomic_load_n(&heap->compaction.count, __ATOMIC_RELAXED);
    if (t->hash_function != NULL || now == t->seen) return;
    bool all = compactions != t->compactions && t->entries != NULL;
    if (all) __builtin_memset(t->index, 0, (mask_of(t) + 1) * sizeof *t->index);
    for (size_t at = all ? 1 : t->fresh; at < t->used; at++) {
        if (!all && t->entries[at].hash != 0) leave(t, at);
        const void *key = load(&t->entries[at].key);
        t->entries[at].hash = key != NULL ? hash_of(t, key) : 0;
        if (key != NULL) enter(t, at);
    }
    t->fresh = t->used;
    t->seen = now;
    t->compactions = compactions;
}

/* ---- Finding -------------------------------------------------------------------------------- */

/* The position of KEY's entry, 0 if there is none.  Where the program's function says what is equal
 * it may stop for a collection, which may move all that *AT and *KEY refer to, and empty the entry
 * found. */
static size_t find(table *const *at, void *const *key, uintptr_t hash) {
    if ((*at)->entries == NULL) return 0;
    size_t mask = mask_of(*at), slot = home_of(*at, hash), position;
    for (; (position = (*at)->index[slot]) != 0; slot = (slot + 1) & mask) {
        const struct gci_entry *entry = &(*at)->entries[position];
        const void *other = load(&entry->key);
        if (other == NULL || entry->hash != hash) continue;
        if (other == *key || ((*at)->equal != NULL && (*at)->equal(other, *key))) return position;
    }
    return 0;
}

/* What the entry at POSITION, not 0, holds: NULL and NULL if it was emptied. */
struct pair {
    void *key, *value;
};

static struct pair read_entry(const table *t, size_t position) {
    const struct gci_entry *entry = &t->entries[position];
    struct pair pair = {load(&entry->key), load(&entry->value)};
    return pair.value != NULL ? pair : (struct pair){NULL, NULL};
}

/* The collector counts those that it empties in the first. */
static size_t count_live(const table *t) {
    if (t->entries == NULL) return 0;
    return t->used - 1 - t->removed - __atomic_load_n(&t->entries[0].hash, __ATOMIC_RELAXED);
}

/* ---- Room ----------------------------------------------------------------------------------- */

static const gc_type *type_of_entries(const table *t) {
    static const enum gci_own_type types[] = {
        GCI_OWN_STRONG_ENTRIES, GCI_OWN_KEY_ENTRIES, GCI_OWN_VALUE_ENTRIES, GCI_OWN_BOTH_ENTRIES};
    return gci_own_type(types[t->kind]);
}

/* Entries with room for COUNT and half as many more, a power of two. */
static size_t capacity_for(size_t count) {
    size_t capacity = LEAST;
    while (capacity < count + count / 2 + 1) capacity *= 2;
    return capacity;
}

static void append(table *t, uintptr_t hash, void *key, void *value) {
    struct gci_entry *entry = &t->entries[t->used];
    entry->hash = hash;
    gc_store(&entry->key, key);
    gc_store(&entry->value, value);
    enter(t, t->used++);
    HOLD(key);
    HOLD(value);
}

/* Puts what T has into ENTRIES and INDEX, which are empty, in the same order. */
static void move_into(table *t, struct gci_entry *entries, uint32_t *index, size_t capacity) {
    table before = *t;
    gc_store(&t->entries, entries);
    gc_store(&t->index, index);
    t->capacity = capacity;
    t->shift = 63 - (unsigned)__builtin_ctzll(capacity);
    t->used = 1;
    t->removed = 0;
    for (size_t at = 1; at < before.used; at++) {
        if (at == before.fresh) t->fresh = t->used;
        struct pair pair = read_entry(&before, at);
        if (pair.key == NULL) continue;
        append(t, t->hash_function != NULL ? before.entries[at].hash : hash_of(t, pair.key),
            pair.key, pair.value);
    }
    if (before.fresh >= before.used) t->fresh = t->used;
}

static bool is_full(const table *t) {
    return t->entries == NULL || t->used > t->capacity;
}

/* For how many entries the table is made anew before another is added; 0: it needn't be. */
static size_t capacity_wanted(const table *t) {
    size_t live = count_live(t);
    bool thin = t->capacity > LEAST && live < t->capacity / THIN;
    return is_full(t) || thin ? capacity_for(live) : 0;
}

/* Arrays that are no table's, for CAPACITY entries.  FAILED: there is no memory for them. */
struct room {
    struct gci_entry *entries;
    uint32_t *index;
    size_t capacity;
    bool failed;
};

/* May collect, so that a finalizer may run here that uses the table: the lock is not held. */
static void make_room(table *const *at, struct room *room, size_t capacity) {
    const gc_type *type = capacity < MOST ? type_of_entries(*at) : NULL;
    room->failed = true;
    if (type == NULL) return;
    room->entries = gc_alloc_array(type, capacity + 1);
    if (room->entries == NULL) return;
    room->index = gc_alloc_leaf(2 * capacity * sizeof *room->index);
    if (room->index == NULL) return;
    room->capacity = capacity;
    room->failed = false;
}

/* To nobody: they are no leaks. */
static void let_go(struct room *room) {
    void *entries = room->entries;
    room->entries = NULL;
    room->capacity = 0;
    if (gci_default_heap()->options.find_leaks != GC_LEAKS_OFF) gc_free(entries);
    void *index = room->index;
    room->index = NULL;
    if (gci_default_heap()->options.find_leaks != GC_LEAKS_OFF) gc_free(index);
}

/* The table has ROOM from now on, and ROOM what it had. */
static void move_to(table *t, struct room *room) {
    struct room before = {t->entries, t->index, 0, false};
    move_into(t, room->entries, room->index, room->capacity);
    *room = before;
}

/* ---- Public functions ----------------------------------------------------------------------- */

gc_table *gc_table_new(enum gc_table_kind kind, gc_table_hash *hash, gc_table_equal *equal) {
    if ((unsigned)kind > GC_TABLE_WEAK_BOTH || (hash == NULL) != (equal == NULL)) {
        gci_log("gc_table_new(%d, ...): expected a kind from 0 to %d, and either both functions or "
                "none",
            (int)kind, (int)GC_TABLE_WEAK_BOTH);
        errno = EINVAL;
        return NULL;
    }
    const gc_type *type = gci_own_type(GCI_OWN_TABLE);
    table *t = type != NULL ? gc_alloc_typed(type) : NULL;
    if (t == NULL) return NULL;
    t->kind = kind;
    t->hash_function = hash;
    t->equal = equal;
    return (gc_table *)(void *)t;
}

/* Takes the lock, and finds the key; 0: it isn't there.  A function of the program's is called
 * without the lock, the hash by identity is known only with it. */
static size_t lock_and_find(table **at, void **key) {
    uintptr_t hash = (*at)->hash_function != NULL ? hash_of(*at, *key) : 0;
    lock(at);
    refresh(*at);
    if ((*at)->hash_function == NULL) hash = hash_of(*at, *key);
    return find(at, key, hash);
}

void *gc_table_get(gc_table *given, const void *sought) {
    table *t = (table *)(void *)given;
    void *key = (void *)(uintptr_t)sought;
    GC_FRAME(t, key);
    size_t position = lock_and_find(&t, &key);
    void *value = position != 0 ? read_entry(t, position).value : NULL;
    unlock(t);
    HOLD(key);
    return value;
}

/* Returns whether there was a KEY, which has VALUE then. */
static bool replace(table *t, size_t position, void *value) {
    struct pair pair = read_entry(t, position);
    if (pair.key == NULL) return false;
    gc_store(&t->entries[position].value, value);
    HOLD(pair.key);
    HOLD(pair.value);
    return true;
}

/* Adds or replaces, if there is room in the table or in ROOM.  Returns 0, or the capacity wanted. */
static size_t try_set(
    table **at, void **key, void *const *value, uintptr_t hash, struct room *room) {
    refresh(*at);
    if ((*at)->hash_function == NULL) hash = hash_of(*at, *key);
    size_t position = find(at, key, hash);
    if (position != 0 && replace(*at, position, *value)) return 0;
    size_t wanted = capacity_wanted(*at);
    if (wanted > room->capacity && (is_full(*at) || !room->failed)) return wanted;
    if (wanted > 0 && !room->failed) move_to(*at, room);
    append(*at, hash, *key, *value);
    return 0;
}

static __attribute__((noinline)) int set_in_room(
    table **at, void **key, void *const *value, uintptr_t hash, size_t wanted) {
    struct room room = {NULL, NULL, 0, false};
    GC_FRAME(room.entries, room.index);
    do {
        let_go(&room); /* others were faster, and it is too small */
        make_room(at, &room, wanted);
        lock(at);
        wanted = try_set(at, key, value, hash, &room);
        unlock(*at);
    } while (wanted > 0 && !room.failed);
    let_go(&room);
    return wanted > 0 ? ENOMEM : 0;
}

static int set(table **at, void **key, void *const *value) {
    struct room none = {NULL, NULL, 0, false};
    uintptr_t hash = (*at)->hash_function != NULL ? hash_of(*at, *key) : 0;
    lock(at);
    size_t wanted = try_set(at, key, value, hash, &none);
    unlock(*at);
    return wanted > 0 ? set_in_room(at, key, value, hash, wanted) : 0;
}

int gc_table_set(gc_table *given, void *key, void *value) {
    table *t = (table *)(void *)given;
    if (key == NULL || value == NULL || !gci_may_be_value("gc_table_set", key) ||
        !gci_may_be_value("gc_table_set", value))
        return EINVAL;
    GC_FRAME(t, key, value);
    int error = set(&t, &key, &value);
    HOLD(key);
    HOLD(value);
    return error;
}

int gc_table_remove(gc_table *given, const void *sought) {
    table *t = (table *)(void *)given;
    void *key = (void *)(uintptr_t)sought;
    int error = ENOENT;
    GC_FRAME(t, key);
    size_t position = lock_and_find(&t, &key);
    struct pair pair = position != 0 ? read_entry(t, position) : (struct pair){NULL, NULL};
    if (pair.key != NULL) {
        struct gci_entry *entry = &t->entries[position];
        leave(t, position);
        entry->hash = 0;
        gc_store(&entry->value, NULL);
        gc_store(&entry->key, NULL);
        t->removed++;
        error = 0;
    }
    HOLD(pair.key);
    HOLD(pair.value);
    unlock(t);
    HOLD(key);
    return error;
}

size_t gc_table_count(gc_table *given) {
    table *t = (table *)(void *)given;
    GC_FRAME(t);
    lock(&t);
    size_t count = count_live(t);
    unlock(t);
    return count;
}

int gc_table_next(gc_table *given, size_t *position, void **key, void **value) {
    table *t = (table *)(void *)given;
    struct pair pair = {NULL, NULL};
    GC_FRAME(t);
    lock(&t);
    size_t at = *position > 0 ? *position : 1;
    while (at < t->used && pair.key == NULL) pair = read_entry(t, at++);
    *position = at;
    unlock(t);
    *key = pair.key;
    *value = pair.value;
    return pair.key != NULL;
}
