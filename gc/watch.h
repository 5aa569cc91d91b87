/* What is to happen when objects die: finalizers, guardians, weak references, links.  Each is a
 * watch of one object (docs/finalization.md). */
#ifndef CAIRN_GC_WATCH_H
#define CAIRN_GC_WATCH_H

#include "cairn/finalize.h"
#include "gc/arena.h"
#include "gc/types.h"
#include "runtime/roots.h"

enum gci_watch_kind {
    GCI_WATCH_FREE, /* not in use */
    GCI_WATCH_FINALIZER,
    GCI_WATCH_GUARDED, /* by a guardian */
    GCI_WATCH_WEAK,    /* a weak reference: the struct gc_weak of the program */
    GCI_WATCH_LINK     /* a disappearing link */
};

/* One watch; 64 bytes. */
struct gci_watch {
    uintptr_t object;       /* its address; 0: none any more.  Of a weak reference read by anyone */
    struct gci_watch *next; /* the others of the same object */
    struct gci_watch *prev;
    union {
        struct {
            gc_finalizer_function *function;
            void *data; /* a root, ambiguous */
            struct gci_watch *next_ready;
        } finalizer;
        struct {
            gc_guardian *guardian;
            struct gci_watch *next_ready;
        } guarded;
        struct {
            struct gci_watched *holder; /* that of the object that the slot is in, or of the slot */
            size_t offset;              /* of the slot */
            struct gci_watch *next, *prev; /* the others with this holder */
        } link;
    };
    uint8_t kind;
    uint8_t order; /* enum gc_order, of finalizers and guardians */
    uint8_t when;  /* enum gc_weak_kind, of weak references and links */
    bool ready;    /* in a queue: its object, unless 0, is a root */
    bool listed;   /* of WITH_DATA below; kept when it is not in use */
    bool recent;   /* of RECENT below; kept likewise */
    bool told;     /* the cycle that it closes was reported */
};

/* What is watched: an object, or a slot outside the heap that has a link; 64 bytes. */
struct gci_watched {
    uintptr_t key;             /* its address */
    struct gci_watched *chain; /* in the hash table */
    size_t place;              /* in struct gci_watches' ALL */
    struct gci_watch *watches;
    struct gci_watch *links;        /* with slots in it */
    struct gci_watched *next_found; /* in a collection: of those that it found dead, or ready */
    struct gci_watched *far_found;  /* several further on, to be fetched meanwhile; or NULL */
    bool old;                       /* survived a collection, or lies outside the heap */
    bool outside;
    bool indexed;  /* its links are in the index: they are many */
    uint8_t order; /* in a collection: the strictest of its finalizers; GCI_NO_ORDER: none */
};

#define GCI_NO_ORDER 0xffu

/* Watches that became ready, in the order in which they will be taken. */
struct gci_ready {
    struct gci_watch *first, *last;
};

struct gc_guardian {
    struct gci_ready ready;
    gc_guardian *next; /* of those in use */
    uint64_t count;    /* watches, those that are ready too */
    uint8_t order;
    bool freed; /* goes when COUNT is 0 */
};

#define GCI_WATCH_CELL_BYTES 64u

/* A stock of cells of 64 bytes, from mmap; never given back. */
struct gci_stock {
    void *free; /* linked by their first word */
    uint8_t *fresh, *end;
};

/* Links by their slots (gc/link.c). */
struct gci_link_index {
    struct gci_watch **slots; /* open addressing; NULL: nothing yet */
    unsigned shift;           /* of a hash, to have a slot */
    size_t count;
};

struct gci_watches {
    struct gci_watched **buckets;
    unsigned shift;           /* of a key's hash, to have a bucket */
    size_t count;             /* records */
    struct gci_watched **all; /* records, in the order in which they were made, and NULL; */
    size_t all_count, all_capacity, all_empty; /* so many NULL; */
    size_t settled;                            /* those that are young come after so many */
    struct gci_stock records, watches;
    struct gci_link_index index;
    struct gci_watch **recent; /* finalizers with data in the heap, since the last collection; */
    size_t recent_count, recent_capacity;
    struct gci_watch **with_data; /* those from before, and some that aren't finalizers any more */
    size_t with_data_count, with_data_capacity;
    bool minor;       /* a minor collection is marking */
    bool ready_young; /* something ready may be young: gc_finalize_all() queued it */
    struct gci_ready ready;
    gc_guardian *guardians;
    uint32_t now_ready; /* by the collections since the last announcement; atomic */
    uint32_t runner;    /* the library's own thread that runs finalizers exists; atomic */
    uint32_t wake;      /* what it waits on */
    gc_finalizer_notify *notify;
    void *notify_data;
    uint64_t counts[GCI_WATCH_LINK + 1]; /* watches there are, by kind */
    uint64_t waiting;                    /* of the finalizers, ready */
    uint64_t run, cycles;                /* since the start */
};

/* All of the following with the lock held or the world stopped. */

/* The heap's, made if there are none; NULL if there is no memory. */
struct gci_watches *gci_watches_of(struct gc_heap *heap);

/* The record of the object or slot at KEY, or NULL; made if there is none, for OBJECT, or, if that
 * is NULL, for a slot outside the heap. */
struct gci_watched *gci_watched_find(const struct gci_watches *w, uintptr_t key);
struct gci_watched *gci_watched_make(struct gc_heap *heap, uintptr_t key, const gci_object *object);
/* The former will be called soon. */
void gci_watched_fetch(const struct gci_watches *w, uintptr_t key);
/* The same where there is none. */
struct gci_watched *gci_watched_add(struct gc_heap *heap, uintptr_t key, const gci_object *object);

/* A new watch, of no object yet; and its end.  A watch that goes leaves its chains first. */
struct gci_watch *gci_watch_new(struct gci_watches *w, enum gci_watch_kind kind);
void gci_watch_give(struct gci_watches *w, struct gci_watch *watch);

/* On and off the chain of its object's record. */
void gci_watch_join(struct gci_watched *of, struct gci_watch *watch);
void gci_watch_leave(struct gci_watches *w, struct gci_watch *watch);
/* From one to another, TO, at once for who reads its object. */
void gci_watch_change(struct gci_watches *w, struct gci_watched *to, struct gci_watch *watch);

/* A record of which nothing is left goes, but not while a collection may be going through them. */
void gci_watched_drop_if_empty(struct gci_watches *w, struct gci_watched *record);

/* Data of FINALIZER may be a young object: the next minor collection must look. */
bool gci_watches_note_data(struct gc_heap *heap, struct gci_watch *finalizer);

/* So many more finalizers are ready: who asks how many has no lock. */
static inline void gci_count_waiting(struct gci_watches *w, int more) {
    __atomic_store_n(&w->waiting, w->waiting + (uint64_t)more, __ATOMIC_RELAXED);
}

/* It is ready: to the end of its queue. */
void gci_watch_make_ready(struct gci_watches *w, struct gci_watch *watch);

/* Guardians; the last let go of a freed one ends it. */
gc_guardian *gci_guardian_new(struct gci_watches *w, enum gc_order order);
void gci_guardian_free(struct gci_watches *w, gc_guardian *guardian);
void gci_guardian_let_go(struct gci_watches *w, gc_guardian *guardian);

/* To the end of a queue; and from its front, NULL if it is empty. */
void gci_ready_push(struct gci_ready *queue, struct gci_watch *watch);
struct gci_watch *gci_ready_pop(struct gci_ready *queue);

/* Where the object that was at ADDRESS is: a collection may have moved it. */
static inline uintptr_t gci_present(const struct gc_heap *heap, uintptr_t address) {
    uintptr_t offset = address - heap->arena.base;
    if (offset >= gci_arena_used_bytes(&heap->arena)) return address;
    bool moved = heap->arena.side[offset >> GCI_GRANULE_SHIFT] & GCI_SIDE_MOVED;
    return moved ? *(const uintptr_t *)address : address;
}

/* ---- What becomes of objects ---------------------------------------------------------------- */

/* The object at GRANULE ends, by gc_free(); is at granule TO from now on; has only BYTES left. */
void gci_watches_forget(struct gc_heap *heap, size_t granule);
void gci_watches_moved(struct gc_heap *heap, size_t from, size_t to, size_t bytes);
void gci_watches_cut(struct gc_heap *heap, size_t granule, size_t bytes);

/* What records and watches take; with the lock held. */
static inline size_t gci_watches_bytes(const struct gc_heap *heap) {
    const struct gci_watches *w = heap->watches;
    if (w == NULL) return 0;
    size_t cells = w->count;
    for (unsigned kind = GCI_WATCH_FINALIZER; kind <= GCI_WATCH_LINK; kind++)
        cells += w->counts[kind];
    return cells * GCI_WATCH_CELL_BYTES;
}

/* In a collection, when gci_liveness() is through, and after a compaction: records of the dead go,
 * those of what moved go along (as gci_identity_update()). */
void gci_watches_update(struct gc_heap *heap, bool full);

/* In a collection that has marked, or moved, what lives. */
static inline bool gci_watched_lives(const struct gc_heap *heap, const struct gci_watched *record) {
    size_t granule = (record->key - heap->arena.base) >> GCI_GRANULE_SHIFT;
    return heap->arena.side[granule] & (GCI_SIDE_MARK | GCI_SIDE_MOVED);
}

/* ---- Roots ---------------------------------------------------------------------------------- */

/* Ambiguous ones: the data of finalizers.  Precise ones: what is ready.  In a minor collection only
 * those that may be young. */
void gci_watches_visit_data(struct gc_heap *heap, gci_root_visitor *visit, void *context);
void gci_watches_visit_ready(struct gc_heap *heap, gci_root_visitor *visit, void *context);

/* Checks the tables; returns how many invariants are broken. */
size_t gci_check_watches(const struct gc_heap *heap);

#endif
