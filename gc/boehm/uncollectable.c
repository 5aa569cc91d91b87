/* Objects that are roots until the program frees them.  Owns a set of their addresses, an open hash
 * table in memory of the system's; it changes with the lock of the heap held, so never in a
 * collection, and each entry is a slot that collections mark from (docs/boehm.md, rule 6). */
#include "gc/boehm/layer.h"

#include "gc/heap.h"
#include "runtime/globals.h"
#include "runtime/vm.h"

#define LEAST 512u /* entries: a page */
#define GONE  ((uintptr_t)1)

static GCI_GLOBAL uintptr_t *table;
static GCI_GLOBAL size_t capacity; /* a power of two */
static GCI_GLOBAL size_t used;     /* entries that aren't 0: of objects, or GONE */
static GCI_GLOBAL size_t count;    /* of objects; read by others without the lock */

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

static bool make_room(void) {
    if (used < capacity / 2) return true;
    size_t size = capacity == 0 ? LEAST : count * 4 >= capacity ? capacity * 2 : capacity;
    uintptr_t *old = table, *fresh = gci_vm_map(size * sizeof *fresh);
    size_t length = capacity;
    if (fresh == NULL) return capacity > 0 && used < capacity - 1;
    table = fresh;
    capacity = size;
    used = count;
    for (size_t i = 0; i < length; i++)
        if (old[i] > GONE) *entry_of(old[i]) = old[i];
    if (old != NULL) gci_vm_unmap(old, length * sizeof *old);
    return true;
}

bool gcb_hold(void *p) {
    gcb_lock();
    bool room = make_room();
    if (room) {
        uintptr_t *entry = entry_of((uintptr_t)p);
        used += *entry == 0;
        *entry = (uintptr_t)p;
        __atomic_store_n(&count, count + 1, __ATOMIC_RELAXED);
    }
    gcb_unlock();
    return room;
}

bool gcb_release(void *p) {
    if (__atomic_load_n(&count, __ATOMIC_RELAXED) == 0) return false;
    gcb_lock();
    uintptr_t *entry = entry_of((uintptr_t)p);
    bool found = *entry == (uintptr_t)p;
    if (found) {
        *entry = GONE;
        __atomic_store_n(&count, count - 1, __ATOMIC_RELAXED);
    }
    gcb_unlock();
    return found;
}

bool gcb_is_held(const void *p) {
    if (__atomic_load_n(&count, __ATOMIC_RELAXED) == 0) return false;
    gcb_lock();
    bool found = *entry_of((uintptr_t)p) == (uintptr_t)p;
    gcb_unlock();
    return found;
}

void gcb_visit_held(gc_visitor *visitor) {
    for (size_t i = 0; i < capacity; i++)
        if (table[i] > GONE) gc_visit(visitor, (void **)(void *)&table[i]);
}
