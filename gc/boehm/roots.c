/* Roots that the program names, and those that its functions report during a collection.  Owns the
 * list of added ranges; GC_remove_roots() takes whole ones out. */
#include "gc/boehm/layer.h"

#include <string.h>

#include "gc/hooks.h"
#include "gc/heap.h"
#include "gc/type.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define WORD sizeof(GC_word)

struct range {
    uintptr_t low, high;
};

/* All with the lock held. */
static GCI_GLOBAL struct range *ranges;
static GCI_GLOBAL size_t count, capacity;

static bool add(uintptr_t low, uintptr_t high) {
    struct range *list = gci_vm_with_room(ranges, count, &capacity, sizeof *list);
    if (list == NULL) return false;
    ranges = list;
    ranges[count++] = (struct range){low, high};
    return true;
}

EXPORT void GC_add_roots(void *low, void *high) {
    uintptr_t from = ((uintptr_t)low + WORD - 1) & ~(uintptr_t)(WORD - 1);
    uintptr_t to = (uintptr_t)high & ~(uintptr_t)(WORD - 1);
    if (from >= to) return;
    gcb_lock();
    bool known = false;
    for (size_t i = 0; i < count && !known; i++) {
        if (ranges[i].low != from) continue;
        if (ranges[i].high < to) ranges[i].high = to;
        known = true;
    }
    bool added = known || add(from, to);
    gcb_unlock();
    if (!added) gci_fatal("GC_add_roots(): there is no memory for it");
}

EXPORT void GC_remove_roots(void *low, void *high) {
    uintptr_t from = (uintptr_t)low, to = (uintptr_t)high;
    gcb_lock();
    for (size_t i = count; i-- > 0;)
        if (ranges[i].low >= from && ranges[i].high <= to) ranges[i] = ranges[--count];
    gcb_unlock();
}

EXPORT void GC_clear_roots(void) {
    gcb_lock();
    count = 0;
    gcb_unlock();
}

EXPORT int GC_is_tmp_root(void *p) {
    (void)p;
    return 0;
}

/* ---- Static data ---------------------------------------------------------------------------- */

static GCI_GLOBAL GC_has_static_roots_func static_filter;

/* With the loader's lock and the heap's held. */
static bool wants(const char *path, uintptr_t start, size_t bytes) {
    GC_has_static_roots_func filter = __atomic_load_n(&static_filter, __ATOMIC_RELAXED);
    if (__atomic_load_n(&GC_no_dls, __ATOMIC_RELAXED)) return false;
    return filter == NULL || filter(path, (void *)start, bytes);
}

struct gci_static_filter gcb_static_filter GCI_GLOBAL = {.wants = wants};

static void changed(void) {
    __atomic_store_n(&gcb_static_filter.changed, true, __ATOMIC_RELEASE);
}

/* Programs exclude ranges before GC_init(), too, and don't mean that then: what they set later is to
 * hold.  So long nobody reads the table.  True if the lock was taken. */
static bool lock_if_open(void) {
    bool open = __atomic_load_n(&gcb_open, __ATOMIC_ACQUIRE);
    if (open) gcb_lock();
    return open;
}

EXPORT void GC_exclude_static_roots(void *low, void *high) {
    if (low >= high) return;
    bool locked = lock_if_open();
    uint32_t n = gcb_static_filter.excluded_count;
    bool room = n < GCI_EXCLUDED_MAX;
    if (room) {
        gcb_static_filter.excluded[n].start = (uintptr_t)low;
        gcb_static_filter.excluded[n].end = (uintptr_t)high;
        gcb_static_filter.excluded_count = n + 1;
        changed();
    }
    if (locked) gcb_unlock();
    if (!room) GCB_CANNOT("too many ranges are excluded: this one is searched");
}

EXPORT void GC_clear_exclusion_table(void) {
    bool locked = lock_if_open();
    gcb_static_filter.excluded_count = 0;
    changed();
    if (locked) gcb_unlock();
}

EXPORT void GC_register_has_static_roots_callback(GC_has_static_roots_func filter) {
    __atomic_store_n(&static_filter, filter, __ATOMIC_RELAXED);
    changed();
}

EXPORT void GC_set_no_dls(int on) {
    __atomic_store_n(&GC_no_dls, on, __ATOMIC_RELAXED);
    changed();
}

EXPORT int GC_get_no_dls(void) {
    return GC_no_dls;
}

/* ---- Displacements -------------------------------------------------------------------------- */

/* Pointers to any offset hold an object; these are for GC_is_valid_displacement() only. */
#define OFFSETS 4096u
static GCI_GLOBAL uint8_t registered[OFFSETS / 8];

EXPORT void GC_register_displacement(size_t offset) {
    if (offset >= OFFSETS) {
        GC_get_abort_func()("Bad argument to GC_register_displacement");
        __builtin_abort();
    }
    __atomic_fetch_or(&registered[offset / 8], (uint8_t)(1u << offset % 8), __ATOMIC_RELAXED);
}

EXPORT void GC_debug_register_displacement(size_t offset) {
    GC_register_displacement(offset);
    GC_register_displacement(offset + GC_get_debug_header_size());
}

bool gcb_offset_is_valid(size_t offset) {
    return offset == 0 || gcb_slack > 0 ||
           (offset < OFFSETS && registered[offset / 8] >> offset % 8 & 1);
}

/* ---- Reported in a collection --------------------------------------------------------------- */

EXPORT void GC_push_all(void *low, void *high) {
    if (gcb_marking.visitor != NULL && low < high) {
        if (gcb_marking.roots)
            gc_visit_ambiguous(gcb_marking.visitor, low, high);
        else
            for (GC_word *w = low; w + 1 <= (GC_word *)high; w++) gcb_report(*w);
    }
}

EXPORT void GC_push_all_eager(void *low, void *high) {
    GC_push_all(low, high);
}

EXPORT void GC_push_conditional(void *low, void *high, int all) {
    (void)all;
    GC_push_all(low, high);
}

EXPORT void GC_push_finalizer_structures(void) {}

/* Boehm's sets the mark and leaves what the object refers to alone; here that is held, too. */
EXPORT void GC_set_mark_bit(const void *object) {
    gcb_report((GC_word)object);
}

/* Does a minor collection mark from roots?  Who explains, verifies or writes a snapshot is to see
 * all of them. */
static bool marks_young(void) {
    const struct gci_events *now = &gci_default_heap()->events;
    return now->phase == GC_PHASE_ROOTS && now->kind == GC_MINOR;
}

void gcb_visit_ranges(gci_root_visitor *visit, void *context) {
    for (size_t i = 0; i < count; i++)
        visit(context, GCI_ROOT_LAYER, (const uintptr_t *)ranges[i].low,
            (const uintptr_t *)ranges[i].high);
}

void gcb_visit_roots(gc_visitor *visitor, enum gc_root_pass pass, void *data) {
    (void)data;
    if (pass == GC_ROOTS_PRECISE) {
        gcb_visit_held(visitor, marks_young());
        gcb_toggles_visit(visitor);
        return;
    }
    GC_push_other_roots_proc report = __atomic_load_n(&GC_push_other_roots, __ATOMIC_RELAXED);
    if (report == NULL) return;
    gcb_marking = (struct gcb_marking){visitor, true};
    report();
    gcb_marking.visitor = NULL;
}
