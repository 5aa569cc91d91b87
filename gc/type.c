/* Types: registering them, asking for an object's layout by its tag, visiting its fields.  Owns
 * struct gci_types, which lives in memory of its own, only grows, and changes with the lock held.
 * Called by gc/embed.c, and by whatever searches or moves objects (docs/types.md). */
#include "gc/type.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gc/block.h"
#include "gc/census.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define SIZE_LIMIT ((size_t)1 << 20)
#define ROOM       ((size_t)64 << 10) /* records are taken from so much at a time */
#define WORD       sizeof(void *)

const struct gci_type gci_no_type = {.size = GC_GRANULE, .granules = 1, .desc = {.name = "none"}};
const struct gci_type gci_type_by_tag = {.size = WORD,
    .granules = 1,
    .tiny = GCI_TINY_TYPES - 1,
    .wide = GCI_TYPE_BY_TAG,
    .flags = GC_TYPE_PINNED,
    .worded = true,
    .desc = {.name = "by tag"}};

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
    const uint32_t known = GC_TYPE_LEAF | GC_TYPE_PINNED | GC_TYPE_AMBIGUOUS_HOLDER |
                           GC_TYPE_LAYOUT_MAY_CHANGE | GC_TYPE_PLAIN_FIELDS;
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
    else if ((leaf || ambiguous) && desc->flags & GC_TYPE_LAYOUT_MAY_CHANGE)
        wrong = "a leaf or an ambiguous holder has no layout that may change";
    else if ((leaf || ambiguous) && desc->flags & GC_TYPE_PLAIN_FIELDS)
        wrong = "a leaf or an ambiguous holder has no fields that are plain";
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
        size_t fresh = bytes > ROOM ? gci_whole_pages(bytes) : ROOM;
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
        struct gci_types *types = gci_vm_map(sizeof *types);
        if (types == NULL) return NULL;
        types->tiny = GC_HOT_TYPES + 1;
        types->wide = GCI_TINY_TYPES;
        types->table[gci_type_by_tag.tiny] = types->table[gci_type_by_tag.wide] = &gci_type_by_tag;
        heap->types = types;
    }
    return heap->types;
}

/* The program's type of that name. */
static const struct gci_type *find(const struct gci_types *types, const char *name) {
    for (uint32_t i = 0; i < types->count; i++)
        if (!types->all[i]->own && strcmp(types->all[i]->desc.name, name) == 0)
            return types->all[i];
    return NULL;
}

/* A copy of DESC and what it refers to.  TAGGED: of a type whose fields aren't plain. */
static struct gci_type *make(struct gci_types *types, const gc_type_desc *desc, bool tagged) {
    size_t name = strlen(desc->name) + 1, offsets = desc->pointer_count * sizeof *desc->pointers;
    size_t fields = desc->fields != NULL ? strlen(desc->fields) + 1 : 0;
    struct gci_type *type = take_room(types, sizeof *type + offsets + name + fields);
    struct gci_type_counts *counts = take_room(types, sizeof *counts);
    if (type == NULL || counts == NULL) return NULL;
    uint32_t *copy = (uint32_t *)(void *)(type + 1);
    if (offsets > 0) memcpy(copy, desc->pointers, offsets);
    memcpy((char *)copy + offsets, desc->name, name);
    if (fields > 0) memcpy((char *)copy + offsets + name, desc->fields, fields);
    *type = (struct gci_type){.size = (uint32_t)desc->size,
        .granules = (uint32_t)((desc->size + GC_GRANULE - 1) / GC_GRANULE),
        .flags = desc->flags,
        .count = (uint32_t)desc->pointer_count,
        .offsets = copy,
        .trace = desc->trace,
        .counts = counts,
        .worded = tagged,
        .dense = !tagged && desc->pointer_count * WORD == desc->size,
        .desc = *desc};
    type->desc.pointers = copy;
    type->desc.name = (const char *)copy + offsets;
    if (fields > 0) type->desc.fields = type->desc.name + name;
    bool small = !tagged && desc->pointer_count > 0 && copy[desc->pointer_count - 1] / WORD < 64;
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
    while ((types->wide & 0xff) <= GC_HOT_TYPES) types->wide++; /* kept for hot types */
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

/* DESC was checked; TYPES are HEAP's. */
static int enter(struct gc_heap *heap, struct gci_types *types, const gc_type_desc *desc, bool own,
    enum gci_weak weak, const gc_type **result) {
    /* The last tiny number is no type's: GCI_TYPE_BY_TAG. */
    bool leaf = desc->flags & GC_TYPE_LEAF, ambiguous = desc->flags & GC_TYPE_AMBIGUOUS_HOLDER;
    bool typed = !leaf && !ambiguous, tiny = typed && desc->size <= GC_GRANULE;
    if (types->count == GCI_TYPES_MAX || (tiny && types->tiny == GCI_TINY_TYPES - 1)) {
        gci_log("type %s: there are too many types: at most %u, and %u of up to %u bytes",
            desc->name, GCI_TYPES_MAX, GCI_TINY_TYPES - GC_HOT_TYPES - 2, GC_GRANULE);
        return ENOSPC;
    }
    bool tagged = heap->words.on && typed && !(desc->flags & GC_TYPE_PLAIN_FIELDS);
    struct gci_type *type = make(types, desc, tagged);
    if (type == NULL) return ENOMEM;
    type->own = own;
    type->weak = weak;
    if (weak != GCI_WEAK_NONE) type->worded = true; /* for the marker: see mark_worded() */
    take_numbers(types, type, tiny);
    type->visible.bytes = type->size;
    type->visible.desc = &type->desc;
    if (leaf && desc->flags & GC_TYPE_PINNED) /* each object is pinned, by the library */
        set_buffer(type, GCI_LEAF, offsetof(struct gc_thread_buffers, none));
    else if (leaf)
        set_buffer(type, GCI_LEAF, offsetof(struct gc_thread_buffers, leaf));
    else if (ambiguous)
        set_buffer(type, GCI_AMBIGUOUS, offsetof(struct gc_thread_buffers, ambiguous));
    else
        set_buffer(type, GCI_TYPED, offsetof(struct gc_thread_buffers, none));
    types->all[types->count++] = type;
    *result = &type->visible;
    return 0;
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
    return enter(heap, types, desc, false, GCI_WEAK_NONE, result);
}

int gci_type_register_own(
    struct gc_heap *heap, const gc_type_desc *desc, enum gci_weak weak, const gc_type **result) {
    struct gci_types *types = registry(heap);
    return types != NULL ? enter(heap, types, desc, true, weak, result) : ENOMEM;
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

/* The item numbered INDEX of LIST, without the blanks around it. */
static const char *find_item(const char *list, uint32_t index, size_t *length) {
    for (; list != NULL && index > 0; index--) {
        list = strchr(list, ',');
        if (list != NULL) list++;
    }
    if (list == NULL) return NULL;
    list += strspn(list, " \t\n");
    *length = strcspn(list, ",");
    while (*length > 0 && strchr(" \t\n", list[*length - 1]) != NULL) --*length;
    return *length > 0 ? list : NULL;
}

bool gci_type_name_field(const struct gci_type *type, size_t offset, char *buffer, size_t bytes) {
    size_t length, within = type->count > 0 ? offset % type->size : offset;
    for (uint32_t i = 0; i < type->count; i++) {
        if (type->offsets[i] != within) continue;
        const char *name = find_item(type->desc.fields, i, &length);
        if (name == NULL) break;
        if (length >= bytes) length = bytes - 1;
        memcpy(buffer, name, length);
        buffer[length] = '\0';
        return true;
    }
    snprintf(buffer, bytes, "+%zu", offset);
    return false;
}

/* ---- Layouts by tag ------------------------------------------------------------------------- */

int gci_layout_hook_set(struct gc_heap *heap, gc_layout_hook *hook) {
    struct gci_types *types = registry(heap);
    if (types == NULL) return ENOMEM;
    if (types->layout_hook != NULL) return EALREADY;
    __atomic_store_n(&types->layout_hook, hook, __ATOMIC_RELEASE);
    return 0;
}

/* Is TYPE one of the registered ones, and not just any pointer?  Those asked for before are known
 * by their address: records lie at multiples of 16 in pieces of ROOM bytes, so that two that share
 * an entry are in different pieces. */
static bool is_registered(struct gci_types *types, const struct gci_type *type) {
    const struct gci_type **answer = &types->answers[(uintptr_t)type / 16 % GCI_ANSWERS];
    if (type == NULL) return false;
    if (__atomic_load_n(answer, __ATOMIC_RELAXED) == type) return true;
    for (uint32_t i = 0; i < types->count; i++) {
        if (types->all[i] != type) continue;
        __atomic_store_n(answer, type, __ATOMIC_RELAXED);
        return true;
    }
    return false;
}

_Static_assert(GCI_ANSWERS * 16 == ROOM, "a piece of room, 16 bytes an entry");

/* Under CAIRN_VERIFY: may the object that starts at ADDRESS, if there is one, be moved? */
static bool refers_to_movable(const struct gc_heap *heap, uintptr_t address) {
    const struct gci_arena *arena = &heap->arena;
    uintptr_t offset = address - arena->base;
    if (offset >= gci_arena_used_bytes(arena) || offset % GC_GRANULE != 0) return false;
    uint8_t tag = arena->tags[offset >> GCI_BLOCK_SHIFT];
    size_t granule = offset >> GCI_GRANULE_SHIFT;
    uint8_t side = arena->side[granule];
    if (!(tag & (GCI_TAG_TYPED | GCI_TAG_LEAF)) || gci_tag_use(tag) == GCI_USE_FREE ||
        gci_tag_use(tag) == GCI_USE_LARGE || !(side & GCI_SIDE_START) || side & GCI_SIDE_PINNED)
        return false;
    if (side & GCI_SIDE_MOVED || tag & GCI_TAG_LEAF) return true; /* leaves move in compactions */
    const struct gci_type *type = gci_type_recorded(heap, granule);
    if (type == &gci_type_by_tag) { /* its own tag's type isn't checked as this one's is */
        uintptr_t word = *(const uintptr_t *)address;
        type = word == 0 ? &gci_no_type
                         : (const struct gci_type *)(const void *)heap->types->layout_hook(word);
    }
    return type != NULL && !(type->flags & GC_TYPE_PINNED);
}

static void check_tag(const struct gc_heap *heap, uintptr_t object, uintptr_t word) {
    uintptr_t address = 0;
    if (heap->words.on) gci_word_decode(&heap->words, word, &address);
    if (refers_to_movable(heap, word) || refers_to_movable(heap, address))
        gci_fatal(
            "the tag %#zx of the object at %p refers to an object that may move: expected one "
            "of gc_alloc(), or of a pinned type",
            (size_t)word, (void *)object);
}

const struct gci_type *gci_type_ask(const struct gc_heap *heap, size_t granule) {
    uintptr_t object = gci_granule_address(&heap->arena, granule), at = object;
    if (heap->arena.side[granule] & GCI_SIDE_MOVED) at = *(const uintptr_t *)object;
    uintptr_t word = __atomic_load_n((const uintptr_t *)at, __ATOMIC_RELAXED);
    if (word == 0) return &gci_no_type;
    struct gci_types *types = heap->types;
    gc_layout_hook *hook = __atomic_load_n(&types->layout_hook, __ATOMIC_ACQUIRE);
    const struct gci_type *type = (const struct gci_type *)(const void *)hook(word);
    if (__builtin_expect(!is_registered(types, type), 0))
        gci_fatal(
            "the layout hook answered %p to the tag %#zx of the object at %p: expected a type "
            "of gc_type_register()",
            (const void *)type, (size_t)word, (void *)at);
    if (type->flags & GC_TYPE_AMBIGUOUS_HOLDER)
        gci_fatal(
            "the layout hook answered type %s to the tag %#zx of the object at %p: its layout "
            "can't be that of an ambiguous holder",
            type->desc.name, (size_t)word, (void *)at);
    size_t bytes = gci_object_bytes(heap, (gci_object){granule});
    if (__builtin_expect(type->size > bytes && !(type->flags & GC_TYPE_LEAF), 0))
        gci_fatal("the layout hook answered type %s, of %u bytes, to the tag %#zx of the object of "
                  "%zu bytes at %p",
            type->desc.name, type->size, (size_t)word, bytes, (void *)at);
    if (heap->options.verify) check_tag(heap, at, word);
    return type;
}

/* ---- Fields --------------------------------------------------------------------------------- */

static void visit(
    gc_visitor *visitor, void **field, void (*how)(gc_visitor *visitor, uintptr_t *slot)) {
    uintptr_t slot = (uintptr_t)field;
    if (visitor->type == NULL) { /* a root hook's */
        how(visitor, (uintptr_t *)slot);
        return;
    }
    if (slot < visitor->object || slot >= visitor->object_end || slot % WORD != 0)
        gci_fatal("the trace function of type %s visits %p, which is no field of the object of %zu "
                  "bytes at %p",
            visitor->type->desc.name, (void *)field,
            (size_t)(visitor->object_end - visitor->object), (void *)visitor->object);
    if (slot >= visitor->from && slot < visitor->to) how(visitor, (uintptr_t *)slot);
}

void gc_visit(gc_visitor *visitor, void **slot) {
    visit(visitor, slot, visitor->visit);
}

void gc_visit_plain(gc_visitor *visitor, void **slot) {
    visit(visitor, slot, visitor->visit_plain != NULL ? visitor->visit_plain : visitor->visit);
}

void gci_type_visit(gc_visitor *visitor) {
    const struct gci_type *type = visitor->type;
    uintptr_t object = visitor->object, end = visitor->object_end;
    if (type->trace != NULL) {
        type->trace(
            (void *)object, end - object, (void *)visitor->from, (void *)visitor->to, visitor);
        return;
    }
    if (type->count == 0) return; /* what has no fields may have small elements */
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
