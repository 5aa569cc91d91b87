/* Kinds of objects, descriptors and mark procedures (docs/boehm.md, rules 10 to 16).
 *
 * What has no pointers is a leaf, and what is searched from end to end has no type; objects of other
 * kinds have a type of Cairn's, whose trace function reads the descriptor.  Owns the tables of kinds,
 * procedures, and layouts; they only grow, with the lock held, and an entry that was told to anyone
 * never changes. */
#include "gc/boehm/layer.h"

#include <string.h>

#include "cairn/finalize.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "gc/type.h"
#include "gc/watch.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define WORD      sizeof(GC_word)
#define WORD_BITS (8 * WORD)

/* ---- Tables --------------------------------------------------------------------------------- */

/* How objects of a type are searched. */
struct layout {
    GC_word descriptor;
    GC_word each; /* 0; or the bytes of an array's element, to which the descriptor applies */
    bool adjust;  /* the object's bytes are added to the descriptor */
    bool whole;   /* searched from end to end, and has a type to tell its kind by */
    const gc_type *type;
    uint32_t kind;
    bool small; /* of those of GC_malloc_explicitly_typed(): for objects of one granule */
    struct layout *next;
};

struct kind {
    bool exists;
    bool leaf;             /* no pointers */
    struct layout *layout; /* NULL: a leaf, or searched from end to end */
    GC_disclaim_proc disclaim;
    gc_guardian *guardian; /* that gives back what of it died, if it has DISCLAIM */
};

static GCI_GLOBAL struct kind *kinds; /* GCB_KINDS of them; NULL until there is a heap */
static GCI_GLOBAL unsigned kind_count;
static GCI_GLOBAL GC_mark_proc *procedures; /* GC_MAX_MARK_PROCS */
static GCI_GLOBAL unsigned procedure_count;
static GCI_GLOBAL struct layout **by_number; /* indexed by a type's number for wide objects */

#define CHAINS 1024u
static GCI_GLOBAL struct layout **explicit_layouts; /* CHAINS; of GC_malloc_explicitly_typed() */

/* Bitmaps of more than 62 words: the descriptor is that of a procedure of ours. */
#define BITMAP_PROCEDURE 1u
#define LARGE_MAX        4096u
struct large_bitmap {
    size_t words; /* of the object that it describes */
    GC_word bits[];
};
static GCI_GLOBAL struct large_bitmap **large_bitmaps; /* LARGE_MAX */
static GCI_GLOBAL unsigned large_count;

static GCI_GLOBAL uint8_t *room;
static GCI_GLOBAL size_t room_bytes;

/* Memory that is never given back, zeroed; with the lock held. */
static void *take(size_t bytes) {
    bytes = (bytes + 15) & ~(size_t)15;
    if (room_bytes < bytes) {
        size_t fresh = bytes > 65536 ? bytes : 65536;
        fresh = (fresh + 4095) & ~(size_t)4095;
        uint8_t *memory = gci_vm_map(fresh);
        if (memory == NULL) return NULL;
        room = memory;
        room_bytes = fresh;
    }
    void *p = room;
    room += bytes;
    room_bytes -= bytes;
    return p;
}

static bool make_tables(void) {
    if (by_number != NULL) return true;
    kinds = take(GCB_KINDS * sizeof *kinds);
    procedures = take(GC_MAX_MARK_PROCS * sizeof *procedures);
    explicit_layouts = take(CHAINS * sizeof *explicit_layouts);
    large_bitmaps = take(LARGE_MAX * sizeof *large_bitmaps);
    struct layout **numbers = gci_vm_map(GCI_TYPE_NUMBERS * sizeof *numbers);
    if (kinds == NULL || procedures == NULL || explicit_layouts == NULL || large_bitmaps == NULL ||
        numbers == NULL)
        return false;
    procedure_count = GC_RESERVED_MARK_PROCS;
    kind_count = GCB_PREDEFINED;
    for (unsigned k = 0; k < GCB_PREDEFINED; k++) kinds[k].exists = true;
    kinds[GCB_PTRFREE].leaf = kinds[GCB_AUNCOLLECTABLE].leaf = true;
    __atomic_store_n(&by_number, numbers, __ATOMIC_RELEASE);
    return true;
}

static void need_tables(void) {
    gcb_need_heap();
    if (__atomic_load_n(&by_number, __ATOMIC_ACQUIRE) != NULL) return;
    gcb_lock();
    bool made = make_tables();
    gcb_unlock();
    if (!made) gci_fatal("there is no memory for the tables of kinds of objects");
}

/* ---- Reporting ------------------------------------------------------------------------------ */

__thread struct gcb_marking gcb_marking __attribute__((tls_model("initial-exec")));

/* The visitor looks at the word only. */
static void visit_word(gc_visitor *visitor, GC_word word) {
    uintptr_t slot = word;
    visitor->visit(visitor, &slot);
}

static void visit_words(gc_visitor *visitor, uintptr_t from, uintptr_t to) {
    if (from < visitor->from) from = visitor->from;
    if (to > visitor->to) to = visitor->to;
    for (; from + WORD <= to; from += WORD) visit_word(visitor, *(const GC_word *)from);
}

void gcb_report(GC_word word) {
    gc_visitor *visitor = gcb_marking.visitor;
    if (visitor == NULL) return;
    if (gcb_marking.roots)
        gc_visit_ambiguous(visitor, &word, &word + 1);
    else
        visit_word(visitor, word);
}

EXPORT struct GC_ms_entry *GC_mark_and_push(
    void *object, struct GC_ms_entry *top, struct GC_ms_entry *limit, void **source) {
    (void)limit, (void)source;
    gcb_report((GC_word)object);
    return top;
}

/* ---- Reading descriptors -------------------------------------------------------------------- */

static void trace_part(
    gc_visitor *visitor, uintptr_t start, size_t bytes, GC_word descriptor, unsigned depth);

static void trace_bitmap(gc_visitor *visitor, uintptr_t start, size_t bytes, GC_word map) {
    for (uintptr_t at = start; map != 0 && at + WORD <= start + bytes; at += WORD, map <<= 1)
        if (map >> (WORD_BITS - 1)) visit_words(visitor, at, at + WORD);
}

static void trace_large_bitmap(gc_visitor *visitor, uintptr_t start, size_t bytes, GC_word env) {
    const struct large_bitmap *map = env < large_count ? large_bitmaps[env] : NULL;
    if (map == NULL) return;
    size_t words = map->words < bytes / WORD ? map->words : bytes / WORD;
    for (size_t i = 0; i < words; i++)
        if (GC_get_bit(map->bits, i))
            visit_words(visitor, start + i * WORD, start + (i + 1) * WORD);
}

#define ENTRIES 256u
#define DEPTH   64u

/* What the procedure wrote to its mark stack itself, and did not report.  Such a part may lie
 * anywhere. */
static void trace_entries(
    gc_visitor *visitor, const struct GC_ms_entry *entries, size_t count, unsigned depth) {
    uintptr_t from = visitor->from, to = visitor->to;
    visitor->from = 0;
    visitor->to = UINTPTR_MAX;
    for (size_t i = 0; i < count; i++)
        trace_part(visitor, entries[i].start, SIZE_MAX >> 1, entries[i].descriptor, depth + 1);
    visitor->from = from;
    visitor->to = to;
}

static void trace_by_procedure(
    gc_visitor *visitor, uintptr_t start, GC_word descriptor, unsigned depth) {
    unsigned index = descriptor >> GC_DS_TAG_BITS & (GC_MAX_MARK_PROCS - 1);
    GC_word env = descriptor >> (GC_DS_TAG_BITS + GC_LOG_MAX_MARK_PROCS);
    GC_mark_proc procedure = procedures[index];
    if (procedure == NULL)
        gci_fatal("the object at %p has a descriptor of mark procedure %u, which there isn't",
            (void *)start, index);
    /* The top is the last entry in use: before the first there is one that is never used. */
    struct GC_ms_entry stack[ENTRIES + 1];
    struct gcb_marking before = gcb_marking;
    gcb_marking = (struct gcb_marking){visitor, false};
    struct GC_ms_entry *top = procedure((GC_word *)start, stack, stack + ENTRIES, env);
    gcb_marking = before;
    if (top > stack && top <= stack + ENTRIES)
        trace_entries(visitor, stack + 1, (size_t)(top - stack), depth);
}

static GC_word own_descriptor(uintptr_t start, GC_word descriptor) {
    GC_signed_word offset = (GC_signed_word)descriptor;
    if (offset >= 0) return *(const GC_word *)(start + descriptor - GC_DS_PER_OBJECT);
    uintptr_t table = *(const uintptr_t *)start;
    if (table == 0) return 0;
    return *(const GC_word *)(table - (descriptor + (GC_INDIR_PER_OBJ_BIAS - GC_DS_PER_OBJECT)));
}

static void trace_part(
    gc_visitor *visitor, uintptr_t start, size_t bytes, GC_word descriptor, unsigned depth) {
    if ((descriptor & GC_DS_TAGS) == GC_DS_PER_OBJECT)
        descriptor = own_descriptor(start, descriptor);
    switch (descriptor & GC_DS_TAGS) {
    case GC_DS_LENGTH:
        visit_words(visitor, start, start + (descriptor < bytes ? descriptor : bytes));
        break;
    case GC_DS_BITMAP:
        trace_bitmap(visitor, start, bytes, descriptor & ~(GC_word)GC_DS_TAGS);
        break;
    case GC_DS_PROC:
        if ((descriptor >> GC_DS_TAG_BITS & (GC_MAX_MARK_PROCS - 1)) == BITMAP_PROCEDURE &&
            procedures[BITMAP_PROCEDURE] == NULL)
            trace_large_bitmap(
                visitor, start, bytes, descriptor >> (GC_DS_TAG_BITS + GC_LOG_MAX_MARK_PROCS));
        else if (depth < DEPTH && visitor->from <= start) /* else with the object's first part */
            trace_by_procedure(visitor, start, descriptor, depth);
        break;
    default:
        gci_fatal(
            "the object at %p names another's descriptor that names another's", (void *)start);
    }
}

static void trace(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    const struct gci_type *type = visitor->type;
    const struct layout *layout = by_number[type->wide];
    uintptr_t start = (uintptr_t)object;
    (void)from, (void)to;
    if (layout == NULL) return;
    if (layout->each == 0) {
        trace_part(visitor, start, bytes, layout->descriptor + (layout->adjust ? bytes : 0), 0);
        return;
    }
    size_t first = (visitor->from - start) / layout->each * layout->each;
    for (size_t at = first; at + layout->each <= bytes && start + at < visitor->to;
         at += layout->each)
        trace_part(visitor, start + at, layout->each, layout->descriptor, 0);
}

/* ---- Layouts -------------------------------------------------------------------------------- */

/* With the lock held.  OBJECT_BYTES: what it will be used for mostly; only whether that is one
 * granule matters. */
static struct layout *new_layout(
    GC_word descriptor, GC_word each, bool adjust, size_t object_bytes) {
    static const uint32_t both[] = {0, WORD};
    bool whole = descriptor == 0 && each == 0 && adjust;
    static GCI_GLOBAL unsigned number;
    struct layout *layout = take(sizeof *layout);
    char name[40];
    if (layout == NULL) return NULL;
    *layout =
        (struct layout){.descriptor = descriptor, .each = each, .adjust = adjust, .whole = whole};
    const char digits[] = "0123456789";
    memcpy(name, "boehm-000000", 13);
    unsigned rest = number++;
    for (unsigned i = 11; i > 5; i--, rest /= 10) name[i] = digits[rest % 10];
    gc_type_desc desc = {.name = name,
        .size = object_bytes <= GC_GRANULE ? 8 : 32,
        .trace = trace,
        .flags = GC_TYPE_PINNED};
    if (whole) /* an array of pointers, which the collector searches faster */
        desc = (gc_type_desc){.name = name,
            .size = GC_GRANULE,
            .pointers = both,
            .pointer_count = 2,
            .flags = GC_TYPE_PINNED};
    if (gci_type_register(gci_default_heap(), &desc, &layout->type) != 0) return NULL;
    by_number[((const struct gci_type *)(const void *)layout->type)->wide] = layout;
    return layout;
}

/* The layout of objects of SIZE bytes, of arrays if EACH; NULL if there can be no more of them. */
static struct layout *explicit_layout(GC_word descriptor, GC_word each, bool small) {
    GC_word hash = (descriptor * UINT64_C(0x9e3779b97f4a7c15) ^ each * 31 ^ small) >> 20;
    struct layout **chain = &explicit_layouts[hash % CHAINS], *layout;
    for (layout = __atomic_load_n(chain, __ATOMIC_ACQUIRE); layout != NULL; layout = layout->next)
        if (layout->descriptor == descriptor && layout->each == each && layout->small == small)
            return layout;
    gcb_lock();
    for (layout = *chain; layout != NULL; layout = layout->next)
        if (layout->descriptor == descriptor && layout->each == each && layout->small == small)
            break;
    if (layout == NULL) {
        layout = new_layout(descriptor, each, false, small ? GC_GRANULE : 2 * GC_GRANULE);
        if (layout != NULL) {
            layout->small = small;
            layout->kind = GCB_NORMAL; /* they have no number of their own */
            layout->next = *chain;
            __atomic_store_n(chain, layout, __ATOMIC_RELEASE);
        }
    }
    gcb_unlock();
    return layout;
}

/* Its layout, if it has a type. */
static const struct layout *layout_of(const struct gc_heap *heap, size_t granule) {
    const struct gci_type *type = gci_type_recorded(heap, granule);
    return type == &gci_no_type ? NULL : by_number[type->wide];
}

/* ---- Kinds ---------------------------------------------------------------------------------- */

EXPORT unsigned GC_new_kind_inner(void **free_list, GC_word descriptor, int adjust, int clear) {
    (void)free_list, (void)clear;
    need_tables();
    gcb_lock();
    unsigned number = kind_count;
    if (number == GCB_KINDS) gci_fatal("GC_new_kind(): there are %u kinds already", GCB_KINDS);
    struct kind *kind = &kinds[number];
    *kind = (struct kind){.exists = true, .leaf = descriptor == 0 && !adjust};
    if (!kind->leaf) {
        kind->layout = new_layout(descriptor, 0, adjust != 0, GC_GRANULE);
        if (kind->layout == NULL) gci_fatal("GC_new_kind(): there is no memory for it");
        kind->layout->kind = number;
    }
    kind_count++;
    gcb_unlock();
    return number;
}

EXPORT unsigned GC_new_kind(void **free_list, GC_word descriptor, int adjust, int clear) {
    return GC_new_kind_inner(free_list, descriptor, adjust, clear);
}

/* Free lists are of no use here, but a program may look at what it got. */
EXPORT void **GC_new_free_list_inner(void) {
    need_tables();
    gcb_lock();
    void **list = take((GC_GRANULE * 256 / GC_GRANULE + 1) * sizeof *list);
    gcb_unlock();
    if (list == NULL) gci_fatal("GC_new_free_list(): there is no memory for it");
    return list;
}

EXPORT void **GC_new_free_list(void) {
    return GC_new_free_list_inner();
}

/* A mark procedure may find what isn't in the object, so that no store tells of it (docs/boehm.md,
 * rule 14).  With the lock held. */
static void leave_typed_open(void) {
    gcb_layer.typed_open = true;
}

/* Some were protected before there was a procedure. */
void gcb_open_typed(struct gc_heap *heap) {
    static GCI_GLOBAL bool opened;
    if (!gcb_layer.typed_open || opened) return;
    opened = true;
    for (uint32_t b = 0; b < heap->arena.frontier; b++)
        if (heap->arena.tags[b] & GCI_TAG_TYPED) gci_block_open_closed(heap, b, 1);
}

/* Finalizers and disclaim procedures may free what is outside the heap and is some old object's:
 * whether a mark procedure may look there a full collection must find out. */
static GCI_GLOBAL bool
    given_away; /* something became ready, or was run, since the last one; atomic */
static GCI_GLOBAL uint32_t running; /* threads that run such functions; atomic */

void gcb_note_given_away(void) {
    __atomic_store_n(&given_away, true, __ATOMIC_SEQ_CST);
}

void gcb_functions_begin(void) {
    __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
}

void gcb_functions_end(bool ran) {
    if (ran) gcb_note_given_away();
    __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
}

void gcb_full_begins(const struct gc_heap *heap) {
    bool some = __atomic_load_n(&running, __ATOMIC_SEQ_CST) > 0;
    some = some || (heap->watches != NULL && heap->watches->waiting > 0);
    if (!some) __atomic_store_n(&given_away, false, __ATOMIC_SEQ_CST);
}

bool gcb_full_only(void) {
    return gcb_layer.typed_open &&
           (gcb_never_incremental() || __atomic_load_n(&given_away, __ATOMIC_SEQ_CST) ||
               __atomic_load_n(&running, __ATOMIC_SEQ_CST) > 0);
}

EXPORT unsigned GC_new_proc_inner(GC_mark_proc procedure) {
    need_tables();
    gcb_lock();
    unsigned number = procedure_count++;
    if (number >= GC_MAX_MARK_PROCS)
        gci_fatal("GC_new_proc(): there are %d mark procedures already", GC_MAX_MARK_PROCS);
    procedures[number] = procedure;
    leave_typed_open();
    gcb_unlock();
    return number;
}

EXPORT unsigned GC_new_proc(GC_mark_proc procedure) {
    return GC_new_proc_inner(procedure);
}

/* An object of a kind of the program's. */
static void *alloc_of_own_kind(size_t size, const struct kind *kind) {
    if (kind->leaf && kind->layout == NULL) return gc_alloc_leaf(size);
    if (kind->layout == NULL) return gc_alloc(size);
    void *p = gcb_alloc_of_type(kind->layout->type, size);
    if (p != NULL && kind->guardian != NULL && gc_guardian_add(kind->guardian, p) != 0) return NULL;
    return p;
}

void *gcb_alloc_of_kind(size_t size, unsigned kind) {
    if (kind == GCB_NORMAL || kind == GCB_UNCOLLECTABLE) {
        void *p = gc_bump(&gc_buffers.ambiguous, size);
        return p != NULL ? p : gc_alloc_slow(size);
    }
    if (kind == GCB_PTRFREE || kind == GCB_AUNCOLLECTABLE) {
        void *p = gc_bump(&gc_buffers.leaf, size);
        return p != NULL ? p : gc_alloc_leaf_slow(size);
    }
    if (kind >= GCB_KINDS || kinds == NULL || !kinds[kind].exists)
        gci_fatal("an object of kind %u, which GC_new_kind() did not give", kind);
    return alloc_of_own_kind(size, &kinds[kind]);
}

EXPORT void *GC_generic_malloc(size_t size, int kind) {
    gcb_need_heap();
    if (size > PTRDIFF_MAX) return gcb_or_oom(NULL, size);
    return gcb_or_oom(gcb_alloc_of_kind(size + gcb_slack, (unsigned)kind), size);
}

EXPORT void *GC_generic_malloc_ignore_off_page(size_t size, int kind) {
    return GC_generic_malloc(size, kind);
}

EXPORT void *GC_malloc_kind(size_t size, int kind) {
    return GC_generic_malloc(size, kind);
}

EXPORT void *GC_malloc_kind_global(size_t size, int kind) {
    return GC_generic_malloc(size, kind);
}

EXPORT void *GC_generic_or_special_malloc(size_t size, int kind) {
    if (kind == GCB_UNCOLLECTABLE) return GC_malloc_uncollectable(size);
    if (kind == GCB_AUNCOLLECTABLE) return GC_malloc_atomic_uncollectable(size);
    return GC_generic_malloc(size, kind);
}

/* ---- Asking --------------------------------------------------------------------------------- */

bool gcb_kind_takes_headers(unsigned kind) {
    return kind < GCB_PREDEFINED || (kind < GCB_KINDS && kinds != NULL && kinds[kind].exists &&
                                        kinds[kind].layout != NULL && kinds[kind].layout->whole);
}

unsigned gcb_kind_of(const void *p) {
    const struct gc_heap *heap = gci_default_heap();
    gci_object object;
    if (heap == NULL || !gci_find(heap, (uintptr_t)p, &object)) return GCB_NORMAL;
    bool root = gcb_is_held(p);
    switch (gci_tag_kind(gci_tag(&heap->arena, gci_block_of(object.granule)))) {
    case GCI_LEAF:
        return root ? GCB_AUNCOLLECTABLE : GCB_PTRFREE;
    case GCI_TYPED: {
        const struct layout *layout = layout_of(heap, object.granule);
        if (layout != NULL) return layout->kind;
        break;
    }
    default:
        break;
    }
    return root ? GCB_UNCOLLECTABLE : GCB_NORMAL;
}

EXPORT int GC_get_kind_and_size(const void *object, size_t *size) {
    if (size != NULL) *size = GC_size(object);
    return (int)gcb_kind_of(object);
}

EXPORT void GC_register_describe_type_fn(int kind, GC_describe_type_fn function) {
    (void)kind, (void)function;
    GCB_CANNOT("types are not described in what is printed");
}

/* ---- Typed objects -------------------------------------------------------------------------- */

static GC_descr large_descriptor(const GC_word *bitmap, size_t length) {
    size_t words = (length + WORD_BITS - 1) / WORD_BITS;
    gcb_lock();
    struct large_bitmap *map = large_count < LARGE_MAX ? take(sizeof *map + words * WORD) : NULL;
    unsigned number = large_count;
    if (map != NULL) {
        map->words = length;
        memcpy(map->bits, bitmap, words * WORD);
        large_bitmaps[large_count++] = map;
    }
    gcb_unlock();
    /* Search all that it may describe, rather. */
    return map != NULL ? GC_MAKE_PROC(BITMAP_PROCEDURE, (GC_word)number) : length * WORD;
}

EXPORT GC_descr GC_make_descriptor(const GC_word *bitmap, size_t length) {
    size_t last = length;
    need_tables();
    while (last > 0 && !GC_get_bit(bitmap, last - 1)) last--;
    if (last == 0) return 0;
    size_t ones = 0;
    while (ones < last && GC_get_bit(bitmap, ones)) ones++;
    if (ones == last) return last * WORD; /* GC_DS_LENGTH */
    if (last > WORD_BITS - GC_DS_TAG_BITS) return large_descriptor(bitmap, last);
    GC_descr descriptor = GC_DS_BITMAP;
    for (size_t i = 0; i < last; i++)
        if (GC_get_bit(bitmap, i)) descriptor |= (GC_word)1 << (WORD_BITS - 1 - i);
    return descriptor;
}

static void *alloc_described(size_t bytes, GC_word descriptor, GC_word each) {
    need_tables();
    if (bytes < WORD) bytes = WORD;
    if (descriptor == 0) return GC_malloc_atomic(bytes);
    bool whole = (descriptor & GC_DS_TAGS) == GC_DS_LENGTH &&
                 descriptor >= (each != 0 ? each : bytes) - (bytes - 1) % WORD;
    if (whole) return GC_malloc(bytes);
    if (bytes > PTRDIFF_MAX) return gcb_or_oom(NULL, bytes);
    size_t all = bytes + gcb_slack;
    struct layout *layout = explicit_layout(descriptor, each, all <= GC_GRANULE);
    if (layout == NULL) { /* too many: all of it counts */
        GCB_CANNOT("there are too many descriptors: some objects are searched from end to end");
        return GC_malloc(bytes);
    }
    return gcb_or_oom(gcb_alloc_of_type(layout->type, all), bytes);
}

EXPORT void *GC_malloc_explicitly_typed(size_t size, GC_descr descriptor) {
    return alloc_described(size, descriptor, 0);
}

EXPORT void *GC_malloc_explicitly_typed_ignore_off_page(size_t size, GC_descr descriptor) {
    return alloc_described(size, descriptor, 0);
}

EXPORT void *GC_calloc_explicitly_typed(size_t count, size_t size, GC_descr descriptor) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return gcb_or_oom(NULL, SIZE_MAX);
    return alloc_described(bytes, descriptor, count > 1 ? size : 0);
}

/* ---- Objects that are told when they die ---------------------------------------------------- */

/* A guardian gives them back: one that holds what the dead refer to until they were told, and one
 * that doesn't order them (docs/boehm.md, rule 22). */
static GCI_GLOBAL gc_guardian *guardians[2];

EXPORT void GC_register_disclaim_proc(int number, GC_disclaim_proc procedure, int unconditionally) {
    need_tables();
    if (number < 0 || (unsigned)number >= GCB_KINDS || !kinds[number].exists)
        gci_fatal("GC_register_disclaim_proc(): there is no kind %d", number);
    struct kind *kind = &kinds[number];
    bool holds = unconditionally != 0;
    if (number < GCB_PREDEFINED) {
        GCB_CANNOT("a predefined kind: its objects are not told");
        return;
    }
    /* Made without the lock, which that takes: another thread may be first. */
    gc_guardian *guardian = gc_guardian_new(holds ? GC_ORDERED : GC_UNREACHABLE);
    gcb_lock();
    if (kind->layout == NULL) {
        kind->layout = new_layout(0, 0, !kind->leaf, GC_GRANULE);
        if (kind->layout != NULL) kind->layout->kind = (unsigned)number;
    }
    bool first = guardians[holds] == NULL;
    if (first) __atomic_store_n(&guardians[holds], guardian, __ATOMIC_RELEASE);
    kind->disclaim = procedure;
    kind->guardian = guardians[holds];
    gcb_unlock();
    if (kind->guardian == NULL || kind->layout == NULL)
        gci_fatal("GC_register_disclaim_proc(): there is no memory for it");
    if (!first) gc_guardian_free(guardian);
}

/* After a collection: tells what died; what wants to live on is watched again.  The rest goes with
 * the next collection, unless a finalizer has brought it back. */
void gcb_tell_the_dead(void) {
    bool told = false;
    gcb_functions_begin();
    for (unsigned i = 0; i < 2; i++) {
        gc_guardian *guardian = __atomic_load_n(&guardians[i], __ATOMIC_ACQUIRE);
        void *object;
        while (guardian != NULL && (object = gc_guardian_next(guardian)) != NULL) {
            unsigned kind = gcb_kind_of(object);
            if (kind >= GCB_KINDS || kinds[kind].disclaim == NULL) continue;
            told = true;
            if (kinds[kind].disclaim(object) != 0) gc_guardian_add(kinds[kind].guardian, object);
        }
    }
    gcb_functions_end(told);
}

static GCI_GLOBAL int finalized_kind;

/* The closure lies in the granule before what the program knows. */
static int call_closure(void *object) {
    const struct GC_finalizer_closure *closure = *(struct GC_finalizer_closure **)object;
    if (closure != NULL) closure->proc((char *)object + GC_GRANULE, closure->cd);
    return 0;
}

EXPORT void GC_init_finalized_malloc(void) {
    need_tables();
    if (finalized_kind != 0) return;
    int kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
    GC_register_disclaim_proc(kind, call_closure, 1);
    finalized_kind = kind;
}

EXPORT void *GC_finalized_malloc(size_t size, const struct GC_finalizer_closure *closure) {
    if (finalized_kind == 0) GC_init_finalized_malloc();
    if (size > PTRDIFF_MAX - GC_GRANULE) return gcb_or_oom(NULL, size);
    char *p = GC_generic_malloc(size + GC_GRANULE, finalized_kind);
    if (p == NULL) return NULL;
    *(const struct GC_finalizer_closure **)(void *)p = closure;
    return p + GC_GRANULE;
}

/* ---- Objects with a table ------------------------------------------------------------------- */

EXPORT int GC_gcj_kind, GC_gcj_debug_kind;

EXPORT void GC_init_gcj_malloc(int index, void *procedure) {
    need_tables();
    if (GC_gcj_kind != 0) return;
    if (index < 0 || index >= (int)GC_RESERVED_MARK_PROCS || index == (int)BITMAP_PROCEDURE)
        gci_fatal("GC_init_gcj_malloc(): bad index %d: it must be 0, or 2 and below %d", index,
            GC_RESERVED_MARK_PROCS);
    gcb_lock();
    procedures[index] = (GC_mark_proc)procedure;
    leave_typed_open();
    gcb_unlock();
    /* The descriptor is the table's second word. */
    GC_word descriptor =
        ((GC_word)(-(GC_signed_word)WORD - GC_INDIR_PER_OBJ_BIAS)) | GC_DS_PER_OBJECT;
    GC_gcj_kind = (int)GC_new_kind(GC_new_free_list(), descriptor, 0, 1);
    GC_gcj_debug_kind = GC_gcj_kind;
}

EXPORT void *GC_gcj_malloc(size_t size, void *table) {
    void **p = GC_generic_malloc(size < WORD ? WORD : size, GC_gcj_kind);
    if (p != NULL) *p = table;
    return p;
}

EXPORT void *GC_gcj_malloc_ignore_off_page(size_t size, void *table) {
    return GC_gcj_malloc(size, table);
}

EXPORT void GC_print_free_list(int kind, size_t granules) {
    gci_log(
        "there is no list of free objects of kind %d and %zu granules: they are taken from holes "
        "in blocks",
        kind, granules);
}
