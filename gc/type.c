/* Registering types.  Owns struct gci_types, which lives in memory of its own and only grows.
 * Called by gc/api.c with the lock held. */
#include "gc/type.h"

#include <errno.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/vm.h"

#define SIZE_LIMIT ((size_t)1 << 20)
#define ROOM       ((size_t)64 << 10) /* records are taken from so much at a time */
#define WORD       sizeof(void *)

const struct gci_type gci_no_type = {.size = GC_GRANULE, .granules = 1, .desc = {.name = "none"}};

/* ---- Checking ------------------------------------------------------------------------------- */

static int check_offsets(const gc_type_desc *desc) {
    for (size_t i = 0; i < desc->pointer_count; i++) {
        size_t at = desc->pointers[i];
        if (at % WORD != 0 || at + WORD > desc->size) {
            gci_log(
                "type %s: the pointer at offset %zu: expected a multiple of %zu that ends within "
                "the size, %zu",
                desc->name, at, WORD, desc->size);
            return EINVAL;
        }
        if (i > 0 && at <= desc->pointers[i - 1]) {
            gci_log("type %s: offset %zu after %u: expected ascending offsets", desc->name, at,
                (unsigned)desc->pointers[i - 1]);
            return EINVAL;
        }
    }
    return 0;
}

static int check(const gc_type_desc *desc) {
    const uint32_t known = GC_TYPE_LEAF | GC_TYPE_PINNED | GC_TYPE_AMBIGUOUS_HOLDER;
    const char *wrong = NULL;
    if (desc->name == NULL || *desc->name == '\0') {
        gci_log("a type without a name");
        return EINVAL;
    }
    bool describes = desc->pointer_count > 0 || desc->trace != NULL;
    bool leaf = desc->flags & GC_TYPE_LEAF, ambiguous = desc->flags & GC_TYPE_AMBIGUOUS_HOLDER;
    if (desc->size == 0 || desc->size > SIZE_LIMIT)
        wrong = "its size must be 1 byte to 1 MiB";
    else if ((desc->flags & ~known) != 0)
        wrong = "a flag that this library doesn't know";
    else if (leaf && ambiguous)
        wrong = "it can't be a leaf and an ambiguous holder";
    else if (describes && (leaf || ambiguous))
        wrong = "a leaf or an ambiguous holder has neither offsets nor a trace function";
    else if (!describes && !leaf && !ambiguous)
        wrong = "it has no offsets and no trace function (NULL): expected one of them, or "
                "GC_TYPE_LEAF";
    else if (desc->pointer_count > 0 && desc->trace != NULL)
        wrong = "it has offsets and a trace function: expected one of them";
    else if (desc->pointer_count > 0 && desc->pointers == NULL)
        wrong = "its offsets are NULL";
    else if (!leaf && !ambiguous && desc->size % WORD != 0)
        wrong = "its size must be a multiple of 8, so that arrays of it are aligned";
    if (wrong != NULL) {
        gci_log("type %s: %s", desc->name, wrong);
        return EINVAL;
    }
    return check_offsets(desc);
}

/* ---- Records -------------------------------------------------------------------------------- */

static void *take_room(struct gci_types *types, size_t bytes) {
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > types->room_bytes) {
        size_t page = gci_page_size(),
               fresh = bytes > ROOM ? (bytes + page - 1) / page * page : ROOM;
        uint8_t *room = gci_vm_map(fresh);
        if (room == NULL) return NULL;
        types->room = room; /* what was left of the old is lost */
        types->room_bytes = fresh;
    }
    void *taken = types->room;
    types->room += bytes;
    types->room_bytes -= bytes;
    return taken;
}

static struct gci_types *registry(struct gc_heap *heap) {
    if (heap->types == NULL) {
        size_t page = gci_page_size();
        struct gci_types *types = gci_vm_map((sizeof *types + page - 1) / page * page);
        if (types == NULL) return NULL;
        types->tiny = GC_HOT_TYPES + 1;
        types->wide = GCI_TINY_TYPES;
        heap->types = types;
    }
    return heap->types;
}

static const struct gci_type *find(const struct gci_types *types, const char *name) {
    for (uint32_t i = 0; i < types->count; i++)
        if (strcmp(types->all[i]->desc.name, name) == 0) return types->all[i];
    return NULL;
}

/* A copy of DESC and what it refers to. */
static struct gci_type *make(struct gci_types *types, const gc_type_desc *desc) {
    size_t name = strlen(desc->name) + 1, offsets = desc->pointer_count * sizeof *desc->pointers;
    struct gci_type *type = take_room(types, sizeof *type + offsets + name);
    if (type == NULL) return NULL;
    uint32_t *copy = (uint32_t *)(void *)(type + 1);
    if (offsets > 0) memcpy(copy, desc->pointers, offsets);
    memcpy((char *)copy + offsets, desc->name, name);
    *type = (struct gci_type){.size = (uint32_t)desc->size,
        .granules = (uint32_t)((desc->size + GC_GRANULE - 1) / GC_GRANULE),
        .flags = desc->flags,
        .count = (uint32_t)desc->pointer_count,
        .offsets = copy,
        .trace = desc->trace,
        .desc = *desc};
    type->desc.pointers = copy;
    type->desc.name = (const char *)copy + offsets;
    bool small = desc->pointer_count > 0 && copy[desc->pointer_count - 1] / WORD < 64;
    for (size_t i = 0; small && i < desc->pointer_count; i++)
        type->map |= (uint64_t)1 << (copy[i] / WORD);
    type->element_map = type->map;
    /* Objects of one word: a granule has room for two. */
    if (type->size == WORD) type->map |= type->map << 1;
    if (type->map != 0 && !(type->flags & GC_TYPE_PINNED)) type->plain = type->granules;
    return type;
}

/* The numbers that its objects have: one for those of a granule, one for longer ones. */
static void take_numbers(struct gci_types *types, struct gci_type *type, bool tiny) {
    while (types->wide % 0x101 == 0) types->wide++; /* kept for hot types */
    type->wide = (uint16_t)types->wide++;
    types->table[type->wide] = type;
    if (!tiny) return;
    type->tiny = (uint16_t)types->tiny++;
    types->table[type->tiny] = type;
}

static void set_buffer(struct gci_type *type, unsigned buffer, size_t offset) {
    __atomic_store_n(&type->buffer, buffer, __ATOMIC_RELAXED);
    __atomic_store_n(&type->visible.buffer, (uint32_t)offset, __ATOMIC_RELAXED);
}

unsigned gci_type_heat(struct gc_heap *heap, struct gci_type *type) {
    struct gci_types *types = heap->types;
    if (types->hot == GC_HOT_TYPES || type->size > GCI_HOT_BYTES) return GCI_TYPED;
    unsigned hot = types->hot++;
    uint16_t number = gci_hot_number(hot);
    types->table[number] = types->table[number & 0xff] = type;
    set_buffer(type, GCI_KINDS + hot,
        offsetof(struct gc_thread_buffers, hot) + hot * sizeof(struct gc_buffer));
    return GCI_KINDS + hot;
}

int gci_type_register(struct gc_heap *heap, const gc_type_desc *desc, const gc_type **result) {
    int error = check(desc);
    if (error != 0) return error;
    struct gci_types *types = registry(heap);
    if (types == NULL) return ENOMEM;
    if (find(types, desc->name) != NULL) {
        gci_log("type %s: a type of that name is registered already", desc->name);
        return EEXIST;
    }
    bool leaf = desc->flags & GC_TYPE_LEAF, ambiguous = desc->flags & GC_TYPE_AMBIGUOUS_HOLDER;
    bool typed = !leaf && !ambiguous, tiny = typed && desc->size <= GC_GRANULE;
    if (types->count == GCI_TYPES_MAX || (tiny && types->tiny == GCI_TINY_TYPES)) {
        gci_log("type %s: there are too many types: at most %u, and %u of up to %u bytes",
            desc->name, GCI_TYPES_MAX, GCI_TINY_TYPES - GC_HOT_TYPES - 1, GC_GRANULE);
        return ENOSPC;
    }
    struct gci_type *type = make(types, desc);
    if (type == NULL) return ENOMEM;
    take_numbers(types, type, tiny);
    type->visible.bytes = type->size;
    type->visible.desc = &type->desc;
    if (leaf)
        set_buffer(type, GCI_LEAF, offsetof(struct gc_thread_buffers, leaf));
    else if (ambiguous)
        set_buffer(type, GCI_AMBIGUOUS, offsetof(struct gc_thread_buffers, ambiguous));
    else
        set_buffer(type, GCI_TYPED, offsetof(struct gc_thread_buffers, none));
    types->all[types->count++] = type;
    *result = &type->visible;
    return 0;
}

static bool is_same(const gc_type_desc *a, const gc_type_desc *b) {
    return a->size == b->size && a->flags == b->flags && a->pointer_count == b->pointer_count &&
           (a->pointer_count == 0 ||
               memcmp(a->pointers, b->pointers, a->pointer_count * sizeof *a->pointers) == 0);
}

const gc_type *gci_type_find(const struct gc_heap *heap, const gc_type_desc *desc) {
    const struct gci_type *type = heap->types != NULL ? find(heap->types, desc->name) : NULL;
    return type != NULL && is_same(&type->desc, desc) ? &type->visible : NULL;
}

/* ---- Fields --------------------------------------------------------------------------------- */

void gc_visit(gc_visitor *visitor, void **field) {
    uintptr_t slot = (uintptr_t)field;
    if (visitor->type == NULL) { /* a root hook's */
        visitor->visit(visitor, (uintptr_t *)slot);
        return;
    }
    if (slot < visitor->object || slot >= visitor->object_end || slot % WORD != 0)
        gci_fatal("the trace function of type %s visits %p, which is no field of the object of %zu "
                  "bytes at %p",
            visitor->type->desc.name, (void *)field,
            (size_t)(visitor->object_end - visitor->object), (void *)visitor->object);
    if (slot >= visitor->from && slot < visitor->to) visitor->visit(visitor, (uintptr_t *)slot);
}

void gci_type_visit(gc_visitor *visitor) {
    const struct gci_type *type = visitor->type;
    uintptr_t object = visitor->object, end = visitor->object_end;
    if (type->trace != NULL) {
        type->trace(
            (void *)object, end - object, (void *)visitor->from, (void *)visitor->to, visitor);
        return;
    }
    size_t first = (visitor->from - object) / type->size;
    for (uintptr_t e = object + first * type->size; e < visitor->to && end - e >= type->size;
         e += type->size) {
        for (uint32_t i = 0; i < type->count; i++) {
            uintptr_t slot = e + type->offsets[i];
            if (slot >= visitor->from && slot < visitor->to)
                visitor->visit(visitor, (uintptr_t *)slot);
        }
    }
}
