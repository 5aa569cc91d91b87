/* Objects that are roots until the program frees them.  Owns a set of their addresses, an open hash
 * table in memory of the system's; it changes with the lock of the heap held, so never in a
 * collection, and each entry is a slot that collections mark from (docs/boehm.md, rule 6).
 *
 * Behind the table lies a list of the addresses that were added since the last collection: what was
 * added before is old, so that a minor one has nothing to mark there. */
#include "gc/boehm/layer.h"

#include "gc/heap.h"
#include "runtime/globals.h"
#include "runtime/vm.h"

#define LEAST 512u /* entries: a page */
#define PART  8u   /* an entry of the list for so many of the table */
#define GONE  ((uintptr_t)1)

static GCI_GLOBAL uintptr_t *table;
static GCI_GLOBAL size_t capacity; /* a power of two */
static GCI_GLOBAL size_t used;     /* entries that aren't 0: of objects, or GONE */
static GCI_GLOBAL size_t count;    /* of objects; read by others without the lock */
static GCI_GLOBAL size_t recent;   /* on the list; some of these may have been taken out since */
static GCI_GLOBAL bool all_recent; /* more were added than the list has room for */

static size_t bytes_of(size_t size) {
    return gci_whole_pages((size + size / PART) * sizeof *table);
}

static size_t place_of(uintptr_t address, size_t size) {
    return (size_t)((address >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (size - 1);
}

/* The entry of ADDRESS, or the free one where it belongs; all with the lock held. */
static uintptr_t *entry_of(uintptr_t address) {
    size_t i = place_of(address, capacity);
    uintptr_t *gone = NULL;
    for (; table[i] != 0 && table[i] != address; i = (i + 1) & (capacity - 1))
        if (table[i] == GONE && gone == NULL) gone = &table[i];
    return table[i] == 0 && gone != NULL ? gone : &table[i];
}

/* Its entry, or NULL; with the lock held or the world stopped. */
static uintptr_t *find(uintptr_t address) {
    if (address <= GONE || capacity == 0) return NULL;
    uintptr_t *entry = entry_of(address);
    return *entry == address ? entry : NULL;
}

static bool make_room(void) {
    if (used < capacity / 2) return true;
    size_t size = capacity == 0 ? LEAST : count * 4 >= capacity ? capacity * 2 : capacity;
    uintptr_t *old = table, *fresh = gci_vm_map(bytes_of(size));
    size_t length = capacity;
    if (fresh == NULL) return capacity > 0 && used < capacity - 1;
    table = fresh;
    capacity = size;
    used = count;
    for (size_t i = 0; i < length; i++)
        if (old[i] > GONE) *entry_of(old[i]) = old[i];
    for (size_t i = 0; i < recent; i++) table[size + i] = old[length + i];
    if (old != NULL) gci_vm_unmap(old, bytes_of(length));
    return true;
}

static void add_recent(uintptr_t address) {
    if (recent < capacity / PART)
        table[capacity + recent++] = address;
    else
        all_recent = true;
}

bool gcb_hold(void *p) {
    gcb_lock();
    bool room = make_room();
    if (room) {
        uintptr_t *entry = entry_of((uintptr_t)p);
        used += *entry == 0;
        *entry = (uintptr_t)p;
        __atomic_store_n(&count, count + 1, __ATOMIC_RELAXED);
        add_recent((uintptr_t)p);
    }
    gcb_unlock();
    return room;
}

bool gcb_release(void *p) {
    if (__atomic_load_n(&count, __ATOMIC_RELAXED) == 0) return false;
    gcb_lock();
    uintptr_t *entry = find((uintptr_t)p);
    if (entry != NULL) {
        *entry = GONE;
        __atomic_store_n(&count, count - 1, __ATOMIC_RELAXED);
    }
    gcb_unlock();
    return entry != NULL;
}

bool gcb_is_held_locked(const void *p) {
    return find((uintptr_t)p) != NULL;
}

bool gcb_is_held(const void *p) {
    if (__atomic_load_n(&count, __ATOMIC_RELAXED) == 0) return false;
    gcb_lock();
    bool held = gcb_is_held_locked(p);
    gcb_unlock();
    return held;
}

void gcb_visit_held(gc_visitor *visitor, bool minor) {
    bool some = minor && !all_recent;
    for (size_t i = 0; some && i < recent; i++) {
        uintptr_t *entry = find(table[capacity + i]);
        if (entry != NULL) gc_visit(visitor, (void **)(void *)entry);
    }
    for (size_t i = 0; !some && i < capacity; i++)
        if (table[i] > GONE) gc_visit(visitor, (void **)(void *)&table[i]);
}

void gcb_held_are_old(void) {
    recent = 0;
    all_recent = false;
}
