/* Weak references and disappearing links: the public functions.  When they are cleared is
 * gc/liveness.c's business, the tables are gc/watch.c's and gc/link.c's (docs/finalization.md, rules
 * 15 to 21). */
#include <errno.h>

#include "gc/api.h"
#include "gc/block.h"
#include "gc/finalize.h"
#include "gc/link.h"
#include "runtime/log.h"

/* What the program has of a weak reference is its watch.  Its object is cleared and changed by the
 * collector while the program stands still. */
struct gc_weak {
    struct gci_watch watch;
};

gc_weak *gci_entry_weak_new(
    void *p, enum gc_weak_kind kind, size_t c, const struct gci_frame *frame);
int gci_entry_weak_set(gc_weak *weak, void *p, size_t c, const struct gci_frame *frame);
void gci_entry_weak_free(gc_weak *weak, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_link_register(
    void **slot, void *target, enum gc_weak_kind kind, const struct gci_frame *frame);
int gci_entry_link_unregister(
    void **slot, enum gc_weak_kind kind, size_t c, const struct gci_frame *frame);
int gci_entry_link_move(
    void **from, void **to, enum gc_weak_kind kind, const struct gci_frame *frame);

GCI_ENTRY(gc_weak_new, gci_entry_weak_new);
GCI_ENTRY(gc_weak_set, gci_entry_weak_set);
GCI_ENTRY(gc_weak_free, gci_entry_weak_free);
GCI_ENTRY(gc_link_register, gci_entry_link_register);
GCI_ENTRY(gc_link_unregister, gci_entry_link_unregister);
GCI_ENTRY(gc_link_move, gci_entry_link_move);

static bool is_kind(const char *function, enum gc_weak_kind kind) {
    if ((unsigned)kind <= GC_WEAK_LONG) return true;
    gci_log("%s(): no kind has the number %u: GC_WEAK_SHORT (0) and GC_WEAK_LONG (1) are accepted",
        function, (unsigned)kind);
    return false;
}

/* ---- Weak references ------------------------------------------------------------------------ */

/* WATCH is on no chain.  P NULL: stays so. */
static int refer(struct gc_heap *heap, const char *function, struct gci_watch *watch, void *p) {
    gci_object object;
    if (p == NULL) return 0;
    if (!gci_watch_target(function, heap, p, &object)) return EINVAL;
    struct gci_watched *record = gci_watched_make(heap, (uintptr_t)p, &object);
    if (record == NULL) return ENOMEM;
    gci_watch_join(record, watch);
    return 0;
}

gc_weak *gci_entry_weak_new(
    void *p, enum gc_weak_kind kind, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gc_heap *heap;
    struct gci_thread *thread = gci_watch_enter(frame, p, NULL, &heap);
    struct gci_watch *watch = NULL;
    int error = is_kind("gc_weak_new", kind) ? 0 : EINVAL;
    if (error == 0 && gci_watches_of(heap) == NULL) error = ENOMEM;
    if (error == 0) {
        watch = gci_watch_new(heap->watches, GCI_WATCH_WEAK);
        error = watch == NULL ? ENOMEM : refer(heap, "gc_weak_new", watch, p);
        if (watch != NULL) watch->when = (uint8_t)kind;
        if (watch != NULL && error != 0) {
            gci_watch_give(heap->watches, watch);
            watch = NULL;
        }
    }
    gci_watch_exit(thread, heap, 0);
    if (error != 0) errno = error;
    return (gc_weak *)(void *)watch;
}

void *gc_weak_get(const gc_weak *weak) {
    return (void *)__atomic_load_n(&weak->watch.object, __ATOMIC_RELAXED);
}

/* Off the chain of what it refers to. */
static void let_go(struct gci_watches *w, struct gci_watch *watch) {
    if (watch->object == 0) return;
    struct gci_watched *record = gci_watched_find(w, watch->object);
    gci_watch_leave(w, watch);
    gci_watched_drop_if_empty(w, record);
}

int gci_entry_weak_set(gc_weak *weak, void *p, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gc_heap *heap;
    gci_object object;
    struct gci_thread *thread = gci_watch_enter(frame, p, NULL, &heap);
    struct gci_watched *record = NULL;
    int error = 0;
    if (p != NULL && !gci_watch_target("gc_weak_set", heap, p, &object))
        error = EINVAL;
    else if (p != NULL && (record = gci_watched_make(heap, (uintptr_t)p, &object)) == NULL)
        error = ENOMEM;
    if (error == 0 && (uintptr_t)p != weak->watch.object) {
        if (record == NULL)
            let_go(heap->watches, &weak->watch);
        else if (weak->watch.object == 0)
            gci_watch_join(record, &weak->watch);
        else
            gci_watch_change(heap->watches, record, &weak->watch);
    }
    return gci_watch_exit(thread, heap, error);
}

void gci_entry_weak_free(gc_weak *weak, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (weak == NULL) return;
    struct gc_heap *heap;
    struct gci_thread *thread = gci_watch_enter(frame, NULL, NULL, &heap);
    let_go(heap->watches, &weak->watch);
    gci_watch_give(heap->watches, &weak->watch);
    gci_watch_exit(thread, heap, 0);
}

/* ---- Links ---------------------------------------------------------------------------------- */

/* Where a slot is: in an object, or, INSIDE false, outside the heap. */
struct place {
    uintptr_t holder;
    size_t offset;
    gci_object object;
    bool inside;
};

static bool find_place(const struct gc_heap *heap, void **slot, struct place *place) {
    uintptr_t address = (uintptr_t)slot;
    *place = (struct place){.holder = address};
    if (address == 0 || address % sizeof(void *) != 0) return false;
    if (address - heap->arena.base >= heap->arena.reserved) return true;
    if (!gci_find(heap, address, &place->object)) return false;
    place->holder = gci_granule_address(&heap->arena, place->object.granule);
    place->offset = address - place->holder;
    return place->inside = true;
}

static bool is_slot(
    const char *function, const struct gc_heap *heap, void **slot, struct place *place) {
    if (find_place(heap, slot, place)) return true;
    gci_log("%s(): %p is no slot: it must be a multiple of 8, in a live object or outside the heap",
        function, (void *)slot);
    return false;
}

static struct gci_watch *find_link(
    const struct gci_watches *w, const struct place *place, enum gc_weak_kind kind) {
    const struct gci_watched *holder = gci_watched_find(w, place->holder);
    return holder != NULL ? gci_link_find(w, holder, place->offset, kind) : NULL;
}

static struct gci_watched *holder_for(struct gc_heap *heap, const struct place *place) {
    return gci_watched_make(heap, place->holder, place->inside ? &place->object : NULL);
}

static int add_link(struct gc_heap *heap, const struct place *place, void *target,
    gci_object object, enum gc_weak_kind kind) {
    struct gci_watches *w = gci_watches_of(heap);
    if (w == NULL) return ENOMEM;
    if (find_link(w, place, kind) != NULL) return EEXIST;
    struct gci_watched *of = gci_watched_make(heap, (uintptr_t)target, &object);
    struct gci_watched *holder = holder_for(heap, place);
    bool room = of != NULL && holder != NULL && gci_link_has_room(w, holder);
    struct gci_watch *link = room ? gci_watch_new(w, GCI_WATCH_LINK) : NULL;
    if (link == NULL) {
        if (of != NULL) gci_watched_drop_if_empty(w, of);
        if (holder != NULL && holder != of) gci_watched_drop_if_empty(w, holder);
        return ENOMEM;
    }
    link->when = (uint8_t)kind;
    gci_watch_join(of, link);
    gci_link_join(w, holder, place->offset, link);
    return 0;
}

int gci_entry_link_register(
    void **slot, void *target, enum gc_weak_kind kind, const struct gci_frame *frame) {
    struct gc_heap *heap;
    struct place place;
    gci_object object;
    struct gci_thread *thread = gci_watch_enter(frame, target, slot, &heap);
    int error = EINVAL;
    if (is_kind("gc_link_register", kind) && is_slot("gc_link_register", heap, slot, &place) &&
        gci_watch_target("gc_link_register", heap, target, &object))
        error = add_link(heap, &place, target, object, kind);
    return gci_watch_exit(thread, heap, error);
}

/* Drops the records that a link had, if that was all they were for. */
static void drop_both(struct gci_watches *w, uintptr_t object, struct gci_watched *holder) {
    struct gci_watched *record = gci_watched_find(w, object);
    gci_watched_drop_if_empty(w, record);
    if (holder != record) gci_watched_drop_if_empty(w, holder);
}

int gci_entry_link_unregister(
    void **slot, enum gc_weak_kind kind, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gc_heap *heap;
    struct place place;
    struct gci_thread *thread = gci_watch_enter(frame, slot, NULL, &heap);
    struct gci_watches *w = heap->watches;
    struct gci_watch *link =
        w != NULL && find_place(heap, slot, &place) ? find_link(w, &place, kind) : NULL;
    if (link != NULL) {
        uintptr_t object = link->object;
        struct gci_watched *holder = link->link.holder;
        gci_link_end(w, link);
        drop_both(w, object, holder);
    }
    return gci_watch_exit(thread, heap, link != NULL ? 0 : ENOENT);
}

static int move_link(struct gc_heap *heap, struct gci_watch *link, const struct place *to) {
    struct gci_watches *w = heap->watches;
    struct gci_watch *other = find_link(w, to, (enum gc_weak_kind)link->when);
    if (other == link) return 0;
    if (other != NULL) return EEXIST;
    struct gci_watched *from = link->link.holder, *holder = holder_for(heap, to);
    if (holder == NULL) return ENOMEM;
    if (!gci_link_has_room(w, holder)) {
        gci_watched_drop_if_empty(w, holder);
        return ENOMEM;
    }
    gci_link_leave(w, link);
    gci_link_join(w, holder, to->offset, link);
    if (from != holder) gci_watched_drop_if_empty(w, from);
    return 0;
}

int gci_entry_link_move(
    void **from, void **to, enum gc_weak_kind kind, const struct gci_frame *frame) {
    struct gc_heap *heap;
    struct place before, after;
    struct gci_thread *thread = gci_watch_enter(frame, from, to, &heap);
    int error = is_slot("gc_link_move", heap, to, &after) ? ENOENT : EINVAL;
    if (error == ENOENT && heap->watches != NULL && find_place(heap, from, &before)) {
        struct gci_watch *link = find_link(heap->watches, &before, kind);
        if (link != NULL) error = move_link(heap, link, &after);
    }
    return gci_watch_exit(thread, heap, error);
}
