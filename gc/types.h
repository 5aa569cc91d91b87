/* All structures of the heap, and the words for them.
 *
 *   arena     the one reserved address range that all objects live in
 *   block     64 KiB of the arena, at a multiple of 64 KiB; its tag byte says what it is used for
 *   granule   16 bytes; described by one side byte in a table beside the arena
 *   hole      a run of granules in a bump block that no live object covers
 *   cell      one of the equal parts of a block of a size class (objects of 1 to 8 KiB)
 *   page run  pages of a large space, free or one large object (beyond 8 KiB)
 *   young     allocated since the last collection: started, unmarked, in a block tagged YOUNG
 *   old       marked
 *   dead      started, unmarked, in a block tagged UNSWEPT
 *   claimed   (of a block) swept, tagged YOUNG, and ready to be allocated into
 *   open      (of a block with old pointers) not protected: searched whole by minor collections
 *   closed    protected: its dirty pages are searched by minor collections
 *
 *   owned     (of a cell block) some thread allocates its cells
 *   kept      (of a bump block) left to a thread that was stopped with an open buffer in it
 *
 * Conservation: every block below the frontier is either in use (tag not FREE), in the pool, in a
 * free run of blocks, or free and in quarantine; used_blocks + free_blocks == frontier. */
#ifndef CAIRN_GC_TYPES_H
#define CAIRN_GC_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cairn/gc.h"
#include "runtime/arch/arch.h"
#include "runtime/barrier.h"
#include "runtime/roots.h"
#include "runtime/world.h"

#define GCI_GRANULE_SHIFT  4u
#define GCI_BLOCK_SHIFT    16u
#define GCI_BLOCK_BYTES    ((size_t)1 << GCI_BLOCK_SHIFT)
#define GCI_BLOCK_GRANULES (1u << (GCI_BLOCK_SHIFT - GCI_GRANULE_SHIFT))
#define GCI_MASK_WORDS     (GCI_BLOCK_GRANULES / 64u)
#define GCI_NONE           UINT32_MAX /* no block, no page, no run */

_Static_assert(GC_GRANULE == 1u << GCI_GRANULE_SHIFT, "granule size and shift");

/* ---- Three things that must not be mixed ---------------------------------------------------- */

/* An object, by the offset of its first granule in the arena, in granules. */
typedef struct {
    size_t granule;
} gci_object;

/* A word that may be a reference: the offset into the arena it would mean.  Only offsets below
 * the arena's frontier are made into one. */
typedef struct {
    uintptr_t offset;
} gci_ambiguous;

/* A run of words to be searched. */
typedef struct {
    const uintptr_t *start;
    const uintptr_t *end;
} gci_words;

/* ---- Side bytes and tags (docs/memory.md has the table of who writes which bit when) -------- */

#define GCI_SIDE_START  GC_SIDE_START
#define GCI_SIDE_END    GC_SIDE_END
#define GCI_SIDE_MARK   0x04u /* in a START byte: live at the last collection that looked */
#define GCI_SIDE_PINNED 0x08u /* in a START byte */
#define GCI_SIDE_HELD   0x10u /* in a START byte: an ambiguous word may mean it, so it stays */
#define GCI_SIDE_MOVED  0x20u /* in a START byte: its first word says where to */
#define GCI_SIDE_KEYED  0x40u /* in a START byte: tables may have entries for it (gc/keyed.h) */

#define GCI_SIDE_KEY                                                                               \
    0x80u /* in a START byte, while marking: ephemerons wait for it (gc/ephemeron.c) */

#define GCI_POISON 0xfb /* what is freed is filled with it, under CAIRN_POISON */

enum gci_use { GCI_USE_FREE, GCI_USE_BUMP, GCI_USE_CELLS, GCI_USE_LARGE };

#define GCI_TAG_USE     0x03u /* enum gci_use */
#define GCI_TAG_TYPED   0x04u /* its objects have types */
#define GCI_TAG_LEAF    0x08u /* its objects hold no pointers */
#define GCI_TAG_YOUNG   0x10u /* may hold young objects */
#define GCI_TAG_UNSWEPT 0x20u /* unmarked objects are dead, their side bytes not cleared yet */
#define GCI_TAG_CLOSED  0x40u /* protected */
#define GCI_TAG_CLOSING 0x80u /* to be protected at the end of this collection */

/* A block that is not FREE and not LEAF holds words to scan. */
enum gci_kind { GCI_AMBIGUOUS, GCI_LEAF, GCI_TYPED, GCI_KINDS };

/* The number that type bytes hold for an object whose type is found by its first word; an object of
 * one granule has its lower half. */
#define GCI_TYPE_BY_TAG 0xffffu

/* A thread bump-allocates each kind from a buffer of that number, each hot type from one more, from
 * the next what finds its type by its tag, and from the last AMBIGUOUS ones that a layer wants apart
 * from the others. */
#define GCI_BUFFERS       (GCI_KINDS + GC_HOT_TYPES + 2)
#define GCI_BY_TAG_BUFFER (GCI_KINDS + GC_HOT_TYPES)
#define GCI_APART_BUFFER  (GCI_BY_TAG_BUFFER + 1)

static inline enum gci_kind gci_buffer_kind(unsigned buffer) {
    return buffer < GCI_KINDS          ? (enum gci_kind)buffer
           : buffer < GCI_APART_BUFFER ? GCI_TYPED
                                       : GCI_AMBIGUOUS;
}

/* The number of the hot type HOT, or beyond these of what finds its type by its tag, for an object
 * of any length: both halves are the same. */
static inline uint16_t gci_hot_number(unsigned hot) {
    return (uint16_t)(hot < GC_HOT_TYPES ? (hot + 1) * 0x101 : GCI_TYPE_BY_TAG);
}

/* What the objects of a type of the library's hold weakly (docs/ephemerons.md). */
enum gci_weak {
    GCI_WEAK_NONE,
    GCI_WEAK_KEY,   /* a value lives as long as its key, and the ephemeron or table */
    GCI_WEAK_VALUE, /* a key lives as long as its value */
    GCI_WEAK_BOTH,
    GCI_WEAK_KINDS
};

/* ---- Free runs ------------------------------------------------------------------------------ */

/* A node of the treap of free runs, at the run's first unit.  LENGTH has GCI_RUN_EDGE set in the
 * first and last unit of each free run and nowhere else, so that neighbours find it. */
struct gci_run_node {
    uint32_t left, right;
    uint32_t length;
    uint32_t longest; /* longest run in this subtree */
};

#define GCI_RUN_EDGE 0x80000000u

/* Free runs of units (blocks, or pages), placed by a fit.  gc/runs.c. */
struct gci_runs {
    struct gci_run_node *nodes; /* indexed by unit */
    uint32_t root;
    enum gc_fit fit;
    uint64_t free_units;
};

/* ---- Tables beside the arena ---------------------------------------------------------------- */

/* A reserved table, usable up to COMMITTED bytes. */
struct gci_table {
    uint8_t *base;
    size_t reserved, committed;
};

/* What a block's tag leaves out.  Written by the allocator and the collector. */
struct gci_block {
    uint32_t next, prev; /* on a list of blocks with room */
    uint8_t list;        /* which list: index into gc_heap.lists, or GCI_NO_LIST */
    uint8_t size_class;  /* of a CELLS block */
    uint8_t passed_over; /* while open: scans in a row that found no young object */
    uint8_t hot;         /* collections in a row that found over a quarter of it dirty */
    uint8_t side_used;   /* its side bytes may not be zero; cleared only by who zeroes them */
    uint8_t dirty_pages; /* in the running collection */
    uint8_t resident;    /* memory may be behind it: not returned to the system */
    uint8_t zeroed;      /* reads as zero: fresh from the system */
};

_Static_assert(sizeof(struct gci_block) == 16, "four to a cache line");

/* A page of a large space.  Entries of body pages are never cleared: one is believed only if its
 * head is an object long enough to cover it (gci_large_find). */
struct gci_page {
    uint32_t head;  /* first page of the object that this page belongs to */
    uint32_t pages; /* first page only: length in pages, a guard page included; 0: not an object */
    uint32_t next; /* first page only: neighbours on the young or the old list; guard page: how many
                       granules into the first page the object starts */
    uint32_t prev; /* guard page: it is protected */
};

enum gci_table_name {
    GCI_TABLE_SIDE,
    GCI_TABLE_TYPES,
    GCI_TABLE_TAGS,
    GCI_TABLE_LIVE,
    GCI_TABLE_BLOCKS,
    GCI_TABLE_BLOCK_RUNS,
    GCI_TABLE_PAGES,
    GCI_TABLE_AMBIGUOUS_RUNS, /* free pages of the large space of each kind */
    GCI_TABLE_LEAF_RUNS,
    GCI_TABLE_TYPED_RUNS,
    GCI_TABLE_POOL,
    GCI_TABLES
};

/* Free blocks that objects were moved out of, and that nobody may touch for a while:
 * gc/quarantine.c.  A queue by their gci_block.next; gci_block.prev is the number of the
 * collection, size_class the kind. */
struct gci_quarantine {
    uint32_t first, last; /* the oldest, the newest; or GCI_NONE */
    uint32_t fresh;       /* the first that isn't protected yet, during a collection */
    uint32_t count;
    bool poison;  /* what comes out of it is filled */
    bool refused; /* the system has refused a protection: no more of them */
};

struct gci_arena {
    uintptr_t base;
    size_t reserved;   /* bytes */
    size_t committed;  /* bytes from base */
    uint32_t frontier; /* blocks ever used; all below are described by the tables */
    unsigned page_shift;
    uint8_t *side;  /* indexed by granule of the arena */
    uint8_t *types; /* the same: which type an object in a TYPED block has (docs/types.md) */
    uint8_t *tags;  /* indexed by block, as are the next three */
    uint16_t *live; /* marked granules in a BUMP or CELLS block */
    struct gci_block *blocks;
    struct gci_runs block_runs;
    struct gci_page *pages; /* indexed by page of the arena */
    uint32_t *pool;         /* free blocks, warmest last */
    uint32_t pool_count;
    uint32_t used_blocks, free_blocks;
    struct gci_quarantine quarantine; /* those of the free ones that nobody may take */
    uint32_t resident_blocks;         /* used, or free and not returned to the system */
    uint32_t block_limit;             /* resident_blocks stays at or below */
    bool huge_pages;
    size_t huge_from;            /* bytes from base that are not to be on huge pages */
    bool dumped;                 /* what is committed is put into core dumps */
    bool guards_refused;         /* gc/guard.c */
    uint32_t guard_pages;        /* behind each large object: 1 under CAIRN_POISON=guard, else 0 */
    uint32_t guards;             /* those that are protected */
    struct gc_heap *heap;        /* told of what is taken and given back; NULL: nobody is */
    struct gci_barrier *barrier; /* told of what is committed, once there is one */
    struct gci_table tables[GCI_TABLES];
};

/* ---- Size classes --------------------------------------------------------------------------- */

#define GCI_CLASSES  20u
#define GCI_CELL_MAX 8192u

/* Lists of claimable blocks: bump blocks by how full they are, cell blocks by class; each for
 * every kind. */
#define GCI_DENSITIES      8u
#define GCI_LISTS          (GCI_KINDS * (GCI_DENSITIES + GCI_CLASSES))
#define GCI_LISTED_EIGHTHS 7u /* fuller blocks are not worth recycling */
#define GCI_NO_LIST        0xffu
#define GCI_POOL_LIST      0xfeu /* a free block in the pool */
#define GCI_OWNED_LIST     0xfdu /* some thread takes cells from it */
#define GCI_KEPT_LIST      0xfcu /* in a collection: a stopped thread's open buffer is in it */
#define GCI_SOURCE_LIST    0xfbu /* in a compaction: what can move is moved out of it */
#define GCI_QUARANTINE     0xfau /* a free block in quarantine */

_Static_assert(GCI_LISTS < GCI_QUARANTINE, "list numbers fit a byte");

/* ---- Threads -------------------------------------------------------------------------------- */

#define GCI_FREED_RUNS 64u

/* Bump allocation of one kind, or one hot type, by one thread.  The buffer that inline code uses is
 * a zeroed part of HOLE. */
struct gci_bump {
    struct gc_buffer *buffer; /* in the thread's gc_buffers, or its record's */
    uintptr_t hole_start;  /* [hole_start, buffer->limit) is the hole's too, and not zeroed yet */
    uint32_t block;        /* being allocated into, or GCI_NONE */
    uint32_t next_granule; /* of the block: where to look for its next hole */
    bool zeroed;           /* the hole reads as zero */
    bool recycled;         /* the block had live objects when it was claimed */
    bool point;            /* the granule below the buffer's limit is to be sampled: gc/sample.c */
    struct gc_buffer
        overflow; /* in a block of its own, for objects too big for the present hole; unzeroed */
    uint64_t
        occupied[GCI_MASK_WORDS]; /* granules of the block that were live when it was claimed */
    uint32_t freed_count;
    struct gc_buffer freed[GCI_FREED_RUNS]; /* holes made by gc_free */
};

/* Allocation of cells of one class and kind. */
struct gci_cells {
    uint32_t block;
    uint32_t next; /* first cell that may be free */
};

/* What a thread draws samples by: gc/sample.c. */
struct gci_draw {
    uint32_t sampling; /* the heap's, when DISTANCE was drawn */
    size_t distance;   /* bytes to hand out until the next point */
    size_t sampled;    /* bytes of the object that is being allocated, if it has a point; else 0 */
    uint64_t random;
};

/* A thread's part of the heap.  Written by its thread inside the library, and by the collector.
 * A record outlives its thread: the next thread goes on with its blocks. */
struct gci_thread {
    struct gci_mutator mutator; /* first: gci_self points to it */
    struct gc_heap *heap;
    struct gci_thread *next_idle;      /* among the records without a thread */
    bool ready;                        /* it has had one: else all but this is zero, and HEAP */
    struct gc_thread_buffers *buffers; /* in the thread's TLS, or IDLE */
    struct gc_thread_buffers idle;     /* a record's without a thread */
    uintptr_t held;                    /* a root: what the library must keep across a collection */
    uintptr_t subject;                 /* the same: what gc_free() or gc_realloc() is about */
    uintptr_t kept[2];             /* the same: both of these, while the program's handler runs */
    uintptr_t watched;             /* the same: what a function of cairn/finalize.h is about */
    uintptr_t aside[2];            /* the same as KEPT, while finalizers are announced */
    bool announcing;               /* that is the case */
    uint64_t allocated;            /* bytes, not yet in heap->allocated_since; read by others */
    uint64_t tenured;              /* bytes allocated old, not yet in heap->tenured_since */
    uint32_t endings;              /* how often the destructor of the thread's key was called */
    bool keeps_frames;             /* KNOWN are of its own finding: it is blocking, or forks */
    struct gci_known_frame *known; /* gc/code.c: frames with stack maps, while stopped */
    size_t known_count, known_capacity;
    uint8_t *torn[GCI_BUFFERS]; /* while stopped: where an END without START was hidden */
    struct gci_bump bump[GCI_BUFFERS];
    struct gci_bump old[GCI_KINDS]; /* for what is allocated old: gc/pretenure.c */
    struct gc_buffer old_buffers[GCI_KINDS];
    struct gci_cells cells[GCI_KINDS][GCI_CLASSES];
    struct gci_draw draw;
};

/* ---- Words ---------------------------------------------------------------------------------- */

/* How a reference is written in the words of this heap that aren't plain (gc/word.h). */
struct gci_word_format {
    bool on; /* else all words are plain */
    uint32_t left, right;
    uint64_t tag_mask, tag_value;
    uint32_t kind_shift;
    uint64_t kind_mask; /* after the shift: at most 63 */
    uint64_t kinds;
    uint64_t address_mask;
};

/* ---- Marking -------------------------------------------------------------------------------- */

struct gci_mark_segment; /* gc/mark_stack.c */

/* A stack of word runs, outside the heap.  The lower bits of a run's start say how it is searched:
 * GCI_RUN_TYPED: it is of one typed object, GCI_RUN_OBJECTS: of the marked ones in a TYPED block, or,
 * outside the heap, of roots; GCI_RUN_FIELDS: a typed object that is no array, and instead of an end
 * its type. */
#define GCI_RUN_TYPED   1u
#define GCI_RUN_OBJECTS 2u
#define GCI_RUN_FIELDS  3u
struct gci_mark_stack {
    gci_words *top, *base, *limit; /* in the segment in use */
    struct gci_mark_segment *segment, *spare;
    size_t bytes, bytes_limit;
    bool overflowed; /* something marked was not pushed: the heap must be searched for it */
};

/* A list of entries of ephemerons or weak tables; 0: empty.  gc/ephemeron.c. */
struct gci_entries {
    uintptr_t first;
};

struct gci_marker {
    struct gc_heap *heap;
    struct gci_mark_stack stack;
    uint64_t marked_granules; /* by this collection */
    uint64_t marked_objects;
    bool past_end_in_heap;
    bool moving;            /* this collection evacuates typed objects */
    bool holding;           /* the heap's: ambiguous words set HELD, as this one may compact */
    uint64_t held_granules; /* on so much */
    uint64_t put_off;       /* words of roots on the stack, by gci_mark_roots_later() */
    uint64_t put_off_ns;    /* the time that their search took this marker */
    uint16_t
        *live; /* where it counts what it marks in a block: the arena's, or a table of its own */
    struct gci_crew *crew;
    bool watching;                 /* alone; ephemerons wait for what has GCI_SIDE_KEY */
    struct gci_mark_stack entries; /* that were met before their keys: gc/ephemeron.c */
    uint64_t entries_met, entries_pended;
};

/* Where evacuated objects go: a block that no thread allocates into. */
struct gci_to_space {
    enum gci_kind kind;
    uintptr_t cursor, limit;
    uint32_t block;   /* or GCI_NONE */
    uint64_t objects; /* in it */
    bool exhausted;   /* no other block was to be had in this collection */
};

/* ---- Large objects -------------------------------------------------------------------------- */

/* One for each kind, so that leaf pages are never protected. */
struct gci_large {
    struct gci_runs runs; /* units: pages of the arena */
    enum gci_kind kind;
    uint32_t young, old; /* heads of lists of first pages */
    uint64_t used_pages;
};

/* ---- Pauses, policy, the heap --------------------------------------------------------------- */

/* A histogram with 16 buckets an octave of nanoseconds: values to within 7 %. */
#define GCI_HISTOGRAM_BUCKETS (16u * 44u)

struct gci_histogram {
    uint64_t count, total, max;
    uint32_t buckets[GCI_HISTOGRAM_BUCKETS];
};

/* What decides when to collect what.  Written by gc/policy.c only, but for EXTERNAL
 * (docs/policy.md). */
struct gci_policy {
    size_t nursery;          /* bytes to allocate between two minor collections */
    uint64_t full_threshold; /* bytes live or young that call for a full collection */
    uint64_t live_after_full, dying_after_full;
    uint64_t taken_after_full; /* in blocks, as it was when the last full collection ended */
    double
        garbage; /* thrifty: of what grew old between full collections, what these freed; average */
    uint64_t watches_after_full;           /* bytes of gc/watch.c's tables */
    int64_t external, external_after_full; /* memory outside the heap */
    uint64_t last_end_ns;                  /* when the last collection ended */
    double
        mark_ns_per_byte; /* of objects marked; moving averages, of full and of minor collections */
    double
        minor_ns_per_byte; /* cost of minor collections and faults, per byte allocated; average */
    double survival;       /* of bytes allocated, in minor collections */
    uint64_t fixed_ns[4];  /* of recent minor collections: what they cost whatever survives */
    uint64_t minor_ns;     /* moving average of minor collections' pauses */
    uint64_t mutator_ns;   /* moving average of the time between collections, when generational */
    bool generational;     /* else all collections are full, and no more blocks are protected */
    uint32_t wholesale; /* minor collections that may promote everything, until the next search */
    uint32_t trial;     /* generational: minor collections since that began */
    uint32_t patience;  /* not generational: full collections until the next trial */
    uint32_t next_patience;
    uint64_t paused_ns, ran_ns; /* of a thrifty layer's heap, halved now and then */
    uint32_t judged;            /* collections they are of */
    uint32_t ease;              /* eighths of the layer's figures that hold now */
    uint32_t surplus_least;     /* fewest free blocks beyond need in this window of collections */
    uint32_t surplus_age;
    bool fragmented;       /* as the last full collection left the heap */
    uint32_t compact_wait; /* full collections until compaction is considered again */
    uint32_t next_compact_wait;
};

/* What the last compaction found and did, in bytes of blocks of small objects: gc/compact.c. */
struct gci_compaction {
    uint64_t count;       /* since the start */
    uint64_t used_before; /* blocks with something live in them */
    uint64_t used_after, live, moved, released;
    uint64_t by_roots, by_objects, by_pins, by_kind; /* live, but can't move, for that reason */
    uint64_t ns;                                     /* surveying, moving, fixing */
    uint64_t pause_ns;                               /* of the whole collection */
};

/* Who is told of events: gc/event.c.  Changed with the lock held, but for CALLING. */
#define GCI_LISTENERS 16u

struct gci_events {
    uint32_t wanted;  /* listeners, and one if there is a timeline; atomic */
    uint32_t calling; /* threads in functions of the second group; atomic */
    uint32_t count;
    const struct gc_listener *listeners[GCI_LISTENERS];
    struct gci_timeline *timeline; /* gc/timeline.c; NULL until there is one */
    uint32_t phase;                /* enum gc_phase of the running collection, or GC_PHASES */
    uint64_t number;               /* of the running collection, 0 outside; and the rest of it */
    enum gc_collection kind;
    const char *reason;
    uint64_t before, start_ns;
};

struct gci_root_range {
    const void *start;
    size_t bytes;
    bool precise; /* slots: gc/slots.c */
};

/* The types of objects that the library itself uses: gc/ephemeron.c. */
enum gci_own_type {
    GCI_OWN_EPHEMERON,
    GCI_OWN_STRONG_ENTRIES,
    GCI_OWN_KEY_ENTRIES,
    GCI_OWN_VALUE_ENTRIES,
    GCI_OWN_BOTH_ENTRIES,
    GCI_OWN_TABLE,
    GCI_OWN_TYPES
};

/* What gc/ephemeron.c keeps.  Written by the collecting thread, with the world stopped. */
struct gci_ephemerons {
    struct gci_mark_stack other; /* the marker's, in turn; while watching, what hangs on keys */
    struct gci_entries waiting;  /* that wait as those on the marker's stack do */
    struct gci_entries ready;    /* whose keys were found */
    bool traced;                 /* in this collection, and FOUND_THEN objects were marked then */
    uint64_t found_then;
    uint64_t met, pended, cleared; /* entries, in the last collection */
};

/* What another API on top of this one (gc/boehm) asks of a heap: NULL pointers for what it doesn't.
 * Set before the program goes on, but for FULL_ONLY. */
struct gci_layer {
    size_t nursery_first, nursery_most; /* bytes, or 0 for what gc/policy.c has for all heaps */
    size_t nursery_thread, growth_least;
    size_t
        filled_below;  /* while less lives, all blocks with room are filled before the heap grows */
    const int *manual; /* while *MANUAL isn't 0 only the program's calls collect */
    const int *veto;   /* while *VETO isn't 0 no collection begins */
    bool has_slack; /* each object has a byte more than the program uses, so that a word at its end
                         is never the program's pointer one past its end */
    bool in_place;  /* nothing moves, in no collection */
    bool
        typed_open; /* what a typed object refers to may change without a store into it: such objects
                         are never protected, and minor collections search all of them */
    void (*visit_ranges)(gci_root_visitor *visit, void *context); /* more roots, ambiguous */
    bool (*full_only)(void); /* must collections be full, for the time being? */
    /* With the lock held: before threads are stopped; with the world stopped, before the roots are
     * searched, when all is marked, and when all is settled; when threads run again. */
    void (*begins)(struct gc_heap *heap, enum gc_collection kind);
    void (*stopped)(struct gc_heap *heap, enum gc_collection kind);
    void (*marked)(struct gc_heap *heap, enum gc_collection kind);
    void (*settled)(struct gc_heap *heap, enum gc_collection kind);
    void (*ended)(struct gc_heap *heap, enum gc_collection kind);
    /* With the world stopped: the finalizer of OBJECT became ready. */
    void (*ready)(struct gc_heap *heap, uintptr_t object);
    void (*cycle)(struct gc_heap *heap, uintptr_t object); /* instead of a message */
};

/* Blocks beyond the frontier that the crew touches: gc/ahead.c.  All atomic; END is written with the
 * lock held. */
struct gci_ahead {
    uint32_t next, end; /* to be touched */
    bool off;           /* the system can't */
};

struct gc_heap {
    gc_options options;
    const struct gci_layer *layer; /* never NULL */
    struct gci_arena arena;
    struct gci_barrier *barrier;
    struct gci_large large[GCI_KINDS];
    uint32_t lists[GCI_LISTS];
    struct gci_world world;  /* its lock guards all that threads share; the list of threads */
    struct gci_thread *idle; /* records without a thread */
    uint32_t thread_slots;   /* records, with and without */
    pthread_key_t ending;    /* its destructor detaches a thread that ends */
    struct gci_crew *crew;   /* the collector's own threads: gc/crew.c */
    struct gci_ahead ahead;
    struct gci_static_roots static_roots;
    struct gci_root_range *ranges;
    size_t range_count, range_capacity;
    struct gci_handle_chunk *handle_chunks; /* gc/slots.c */
    struct gc_handle *free_handles;
    struct gci_hook *hooks; /* gc/hooks.c */
    size_t hook_count, hook_capacity;
    struct gc_code **code; /* with stack maps, sorted: gc/code.c */
    size_t code_count, code_capacity;
    bool in_hook; /* a root hook is running: written by the collecting thread */
    struct gci_marker marker;
    struct gci_types *types;          /* gc/type.c */
    struct gci_word_format words;     /* written at opening */
    struct gci_to_space to_space;     /* gc/evacuate.c */
    struct gci_compaction compaction; /* gc/compact.c */
    struct gci_ephemerons ephemerons;
    const struct gc_type *own_types[GCI_OWN_TYPES]; /* atomic; NULL until one is used */
    struct gci_identities *identities; /* gc/identity.c; NULL until a hash is asked for */
    struct gci_watches *watches;       /* gc/watch.c; NULL until something is watched */
    struct gci_sampler *sampler;       /* gc/sample.c; NULL until something is to be sampled */
    uint32_t sampling;                 /* 0: nothing is; else changes with the interval; atomic */
    struct gci_policy policy;
    struct gci_events events;
    size_t limit;         /* bytes; SIZE_MAX: none */
    uint32_t sweeping;    /* blocks that are swept at the moment without the lock; atomic */
    uint32_t disabled;    /* gc_disable() less gc_enable(); atomic */
    uint64_t collections; /* that ended */
    uint64_t censuses;    /* gc/census.c */
    bool freed_by_hand;   /* by gc_free() or gc_realloc(): there may be dangling pointers */
    gc_oom_handler oom_handler;
    void *oom_data;
    uint32_t stress_countdown;
    uint8_t
        class_of[GCI_CELL_MAX / GC_GRANULE + 1]; /* size class by granules; written at opening */

    uint64_t allocated_since; /* bytes handed to buffers and objects since the last collection */
    uint64_t allocated_total, allocated_large;
    uint64_t tenured_since, tenured_total; /* of allocated_since and _total, allocated old */
    uint64_t live_bytes;
    uint64_t dying_bytes; /* of these, what the last collection kept for finalizers and guardians */
    uint64_t small_bytes, small_live_bytes; /* blocks of small objects, after the last collection */
    uint64_t movable_bytes, movable_live_bytes; /* those of kinds that may move */
    uint64_t promoted_bytes, moved_bytes, dirty_pages, released_bytes;
    uint64_t survived_last, survived_of; /* bytes: of the last minor collection */
    uint64_t dirty_now;                  /* pages, in the running collection */
    uint64_t moved_now;                  /* bytes, in it */
    uint64_t missed_stores;              /* found by gc/missed.c */
    uint64_t recycled_now;               /* blocks searched in it that were allocated into, too */
    uint64_t shared_ns;                  /* in it: while the crew searched blocks */
    uint64_t open_blocks, closed_blocks;
    struct gci_histogram minor_pauses, full_pauses, stops;
    uint64_t mark_ns; /* since the start */
};

/* Are there objects that collections may move? */
static inline bool gci_may_move(const struct gc_heap *heap) {
    return heap->types != NULL && !heap->layer->in_place;
}

#endif
