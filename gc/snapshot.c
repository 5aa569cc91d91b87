/* Heap snapshots: the graph of what is alive, in the format of V8's.  With the world stopped,
 * objects are numbered, their references counted, and nodes and edges written, in three walks over
 * the side bytes; the table of strings and the end of the file come when the world runs again
 * (docs/snapshots.md, rules 1 to 6).  Owns struct snapshot, in memory from the system, while one is
 * written.  Invariant: walks see the same objects, and as many edges are written of each as were
 * counted, whatever is stored into it meanwhile from outside. */
#define GC_NO_INLINE
#include "gc/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gc/api.h"
#include "gc/block.h"
#include "gc/collect.h"
#include "gc/ephemeron.h"
#include "gc/type.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/output.h"
#include "runtime/vm.h"

#define GROUP         64u /* granules, whose objects are numbered from one entry of the table */
#define NODE_FIELDS   7u
#define NODES_MAX     (UINT32_MAX / NODE_FIELDS) /* edges hold a node's number times that */
#define OFFSETS_NAMED ((size_t)1 << 20)          /* bytes of an object: words beyond are numbered */
#define SIZES_EXACT   (GCI_CELL_MAX / GC_GRANULE + 1)
#define SIZE_NAMES    (SIZES_EXACT + 64u) /* and one for each power of two */

/* Numbers of the format's own lists of types, below in HEADER. */
enum node_type { NODE_OBJECT = 3, NODE_NATIVE = 8, NODE_SYNTHETIC = 9 };
enum edge_type {
    EDGE_CONTEXT,
    EDGE_ELEMENT,
    EDGE_PROPERTY,
    EDGE_INTERNAL,
    EDGE_SHORTCUT = 5,
    EDGE_WEAK
};

static const char header[] =
    "{\"snapshot\":{\"meta\":{\"node_fields\":[\"type\",\"name\",\"id\",\"self_size\","
    "\"edge_count\",\"trace_node_id\",\"detachedness\"],\n"
    "\"node_types\":[[\"hidden\",\"array\",\"string\",\"object\",\"code\",\"closure\",\"regexp\","
    "\"number\",\"native\",\"synthetic\",\"concatenated string\",\"sliced string\",\"symbol\","
    "\"bigint\",\"object shape\"],\"string\",\"number\",\"number\",\"number\",\"number\","
    "\"number\"],\n"
    "\"edge_fields\":[\"type\",\"name_or_index\",\"to_node\"],\n"
    "\"edge_types\":[[\"context\",\"element\",\"property\",\"internal\",\"hidden\",\"shortcut\","
    "\"weak\"],\"string_or_number\",\"node\"],\n"
    "\"trace_function_info_fields\":[\"function_id\",\"name\",\"script_name\",\"script_id\","
    "\"line\",\"column\"],\n"
    "\"trace_node_fields\":[\"id\",\"function_info_index\",\"count\",\"size\",\"children\"],\n"
    "\"sample_fields\":[\"timestamp_us\",\"last_assigned_id\"],\n"
    "\"location_fields\":[\"object_index\",\"script_id\",\"line\",\"column\"]},\n";

/* Strings that are there in any case. */
enum {
    NAME_DUMMY,
    NAME_ROOT,
    NAME_GC_ROOTS,
    NAME_KEY,
    NAME_VALUE,
    NAME_GROUPS,
    NAME_ROOTS = NAME_GROUPS + GCI_GROUPS
};

/* What a string of the table is made of when it is written. */
enum string_kind {
    STRING_FIXED,  /* VALUE: the text */
    STRING_ROOT,   /* the root node's number */
    STRING_TYPE,   /* its struct gci_type */
    STRING_ARRAY,  /* the same, of which the object is an array */
    STRING_SIZE,   /* of ambiguous objects: the number of a size */
    STRING_LEAF,   /* the same of leaves */
    STRING_FIELD,  /* a type, and the offset in FIELD */
    STRING_OFFSET, /* bytes */
    STRING_PAIR    /* the pair's number */
};

struct string {
    uintptr_t value;
    uint32_t field;
    uint8_t kind;
};

/* Numbers of strings given out so far, by what they are for; 0: none yet, as the string 0 is a
 * dummy. */
struct string_numbers {
    uint32_t types[GCI_TYPE_NUMBERS], arrays[GCI_TYPE_NUMBERS]; /* by the type's wide number */
    uint32_t fields[GCI_TYPE_NUMBERS];                          /* of the type's first field */
    uint32_t sizes[2][SIZE_NAMES];
    uint32_t offsets[OFFSETS_NAMED / sizeof(uintptr_t)];
};

struct snapshot {
    struct gc_heap *heap;
    struct gci_output output;
    struct gci_symbols symbols;
    struct gci_roots roots;
    struct gci_pairs pairs;
    struct string *strings;
    size_t string_count, string_capacity;
    struct string_numbers *numbers;
    uint32_t *ranks; /* by GROUP granules: how many objects start before */
    size_t ranks_bytes;
    uint32_t *edges; /* of each object */
    size_t edges_bytes;
    uint64_t objects, object_edges;
    uint32_t first_object; /* its node's number */
    const char *path;
    int file, error;
};

static void fail(struct snapshot *s, int error) {
    if (s->error == 0) s->error = error;
}

/* ---- Strings -------------------------------------------------------------------------------- */

static uint32_t new_string(
    struct snapshot *s, enum string_kind kind, uintptr_t value, uint32_t field) {
    struct string *strings =
        gci_vm_with_room(s->strings, s->string_count, &s->string_capacity, sizeof *strings);
    if (strings == NULL || s->string_count >= GCI_NONE) {
        fail(s, ENOMEM);
        return 0;
    }
    s->strings = strings;
    strings[s->string_count] = (struct string){value, field, (uint8_t)kind};
    return (uint32_t)s->string_count++;
}

static uint32_t string_of(
    struct snapshot *s, uint32_t *number, enum string_kind kind, uintptr_t value) {
    if (*number == 0) *number = new_string(s, kind, value, 0);
    return *number;
}

/* Objects of one size have one name, large ones those of up to the same power of two. */
static uint32_t size_number(size_t bytes) {
    if (bytes <= GCI_CELL_MAX) return (uint32_t)(bytes / GC_GRANULE);
    return SIZES_EXACT + 64 - (uint32_t)__builtin_clzll(bytes - 1);
}

static void write_size(char *buffer, size_t bytes, const char *kind, uintptr_t number) {
    if (number < SIZES_EXACT)
        snprintf(buffer, bytes, "(%s) %zu bytes", kind, (size_t)number * GC_GRANULE);
    else
        snprintf(
            buffer, bytes, "(%s) up to %zu KiB", kind, ((size_t)1 << (number - SIZES_EXACT)) >> 10);
}

static void write_string(struct snapshot *s, const struct string *string) {
    char text[512];
    const struct gci_type *type = (const struct gci_type *)string->value;
    switch ((enum string_kind)string->kind) {
    case STRING_FIXED:
        gci_output_json(&s->output, (const char *)string->value);
        return;
    case STRING_ROOT:
        gci_root_name(&s->roots, &s->roots.nodes[string->value], text, sizeof text);
        break;
    case STRING_TYPE:
        gci_output_json(&s->output, type->desc.name);
        return;
    case STRING_ARRAY:
        snprintf(text, sizeof text, "%s[]", type->desc.name);
        break;
    case STRING_SIZE:
        write_size(text, sizeof text, "ambiguous", string->value);
        break;
    case STRING_LEAF:
        write_size(text, sizeof text, "leaf", string->value);
        break;
    case STRING_FIELD:
        gci_type_name_field(type, string->field, text, sizeof text);
        break;
    case STRING_OFFSET:
        snprintf(text, sizeof text, "+%zu", (size_t)string->value);
        break;
    case STRING_PAIR:
        gci_pair_name(&s->pairs.pairs[string->value], text, sizeof text);
        break;
    }
    gci_output_json(&s->output, text);
}

/* ---- Objects -------------------------------------------------------------------------------- */

/* Live objects among GROUP granules from GRANULE, a bit for each start. */
static inline uint64_t live_starts(const struct gci_arena *arena, size_t granule, uint8_t tag) {
    struct gci_side_masks masks = gci_side_masks64(arena->side + granule);
    return tag & GCI_TAG_UNSWEPT ? masks.start & masks.mark : masks.start;
}

typedef void object_function(struct snapshot *s, gci_object object, uint8_t tag, size_t number);

/* Calls FUNCTION for each live object, with its number among them. */
static void walk(struct snapshot *s, object_function *function) {
    const struct gci_arena *arena = &s->heap->arena;
    size_t number = 0;
    for (uint32_t b = 0; b < arena->frontier && s->error == 0; b++) {
        uint8_t tag = arena->tags[b];
        if (gci_tag_use(tag) == GCI_USE_FREE) continue;
        size_t first = gci_block_granule(b);
        for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g += GROUP)
            for (uint64_t starts = live_starts(arena, g, tag); starts != 0; starts &= starts - 1)
                function(s, (gci_object){g + (unsigned)__builtin_ctzll(starts)}, tag, number++);
    }
}

static void number_objects(struct snapshot *s) {
    const struct gci_arena *arena = &s->heap->arena;
    size_t groups = gci_block_granule(arena->frontier) / GROUP;
    s->ranks_bytes = gci_whole_pages(groups * sizeof *s->ranks);
    s->ranks = gci_vm_map(s->ranks_bytes);
    if (s->ranks == NULL && s->ranks_bytes > 0) {
        fail(s, ENOMEM);
        return;
    }
    for (size_t i = 0; i < groups; i++) {
        uint8_t tag = arena->tags[gci_block_of(i * GROUP)];
        s->ranks[i] = (uint32_t)s->objects;
        if (gci_tag_use(tag) == GCI_USE_FREE) continue;
        s->objects += (unsigned)__builtin_popcountll(live_starts(arena, i * GROUP, tag));
        if (s->objects > NODES_MAX) break;
    }
    if (s->objects + s->roots.node_count + GCI_GROUPS + 2 > NODES_MAX) fail(s, EOVERFLOW);
    s->edges_bytes = gci_whole_pages(s->objects * sizeof *s->edges);
    s->edges = gci_vm_map(s->edges_bytes);
    if (s->edges == NULL && s->objects > 0) fail(s, ENOMEM);
}

static uint32_t node_of(const struct snapshot *s, gci_object object) {
    const struct gci_arena *arena = &s->heap->arena;
    size_t group = object.granule / GROUP;
    uint64_t before = live_starts(arena, group * GROUP, arena->tags[gci_block_of(object.granule)]) &
                      (((uint64_t)1 << object.granule % GROUP) - 1);
    return s->first_object + s->ranks[group] + (uint32_t)__builtin_popcountll(before);
}

/* ---- References of an object ---------------------------------------------------------------- */

/* One search of an object's words. */
struct edge_visit {
    struct snapshot *s;
    gci_object object;
    const struct gci_type *type; /* NULL: none */
    uintptr_t start;
    size_t bytes;
    uint32_t count, most; /* found; written at most */
    bool writes;
};

static void write_edge(struct snapshot *s, enum edge_type type, uint64_t name, uint32_t node) {
    gci_output_number(&s->output, type);
    gci_output_bytes(&s->output, ",", 1);
    gci_output_number(&s->output, name);
    gci_output_bytes(&s->output, ",", 1);
    gci_output_number(&s->output, (uint64_t)node * NODE_FIELDS);
    gci_output_bytes(&s->output, ",\n", 2);
}

/* A field by the type's name for it, an array's by the element's number, another word by its
 * offset. */
static void write_named_edge(const struct edge_visit *v, size_t offset, uint32_t node) {
    struct snapshot *s = v->s;
    struct string_numbers *numbers = s->numbers;
    const struct gci_type *type = v->type;
    enum edge_type precise = type != NULL ? EDGE_PROPERTY : EDGE_CONTEXT;
    bool array = type != NULL && type->count > 0 && v->bytes / GC_GRANULE > type->granules;
    if (type != NULL && type->weak != GCI_WEAK_NONE) {
        bool value = offset % GCI_ENTRY_BYTES == offsetof(struct gci_entry, value);
        write_edge(s, EDGE_WEAK, value ? NAME_VALUE : NAME_KEY, node);
        return;
    }
    if (array) {
        write_edge(s, EDGE_ELEMENT, offset / type->size, node);
        return;
    }
    if (type != NULL && type->count > 0 && type->desc.fields != NULL && offset < type->size) {
        uint32_t *first = &numbers->fields[type->wide];
        if (*first == 0)
            for (uint32_t i = 0; i < type->count; i++) {
                uint32_t number = new_string(s, STRING_FIELD, (uintptr_t)type, type->offsets[i]);
                if (i == 0) *first = number;
            }
        for (uint32_t i = 0; i < type->count; i++)
            if (type->offsets[i] == offset) write_edge(s, precise, *first + i, node);
        return;
    }
    size_t word = offset / sizeof(uintptr_t);
    if (offset >= OFFSETS_NAMED)
        write_edge(s, EDGE_ELEMENT, word, node);
    else
        write_edge(s, precise, string_of(s, &numbers->offsets[word], STRING_OFFSET, offset), node);
}

/* The word at SLOT means ADDRESS. */
static void meet(struct edge_visit *v, uintptr_t address, const uintptr_t *slot) {
    gci_object target;
    if (!gci_find(v->s->heap, address, &target)) return;
    if (v->writes && v->count < v->most)
        write_named_edge(v, (uintptr_t)slot - v->start, node_of(v->s, target));
    v->count++;
}

static void meet_tagged(struct edge_visit *v, const uintptr_t *slot) {
    uintptr_t address;
    if (gci_word_decode(&v->s->heap->words, *slot, &address)) meet(v, address, slot);
}

static void meet_field(gc_visitor *visitor, uintptr_t *slot) {
    meet(visitor->context, *slot, slot);
}

static void meet_tagged_field(gc_visitor *visitor, uintptr_t *slot) {
    meet_tagged(visitor->context, slot);
}

static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void meet_words(
    struct edge_visit *v) {
    const struct gc_heap *heap = v->s->heap;
    const uintptr_t *start = (const uintptr_t *)v->start;
    bool past_end = heap->options.one_past_end_in_heap;
    for (const uintptr_t *w = start; w < start + v->bytes / sizeof *w; w++) {
        uintptr_t word = *w;
        meet(v, word, w);
        if (past_end && word % GC_GRANULE == 0) meet(v, word - 1, w);
        if (heap->words.on) meet_tagged(v, w);
    }
}

/* An object's id is odd, another node's even, but for the first one's, as readers expect. */
static uint32_t id_of(gci_object object) {
    return (uint32_t)(object.granule * 2 + 3);
}

/* GUARD is what has to live for HELD to live, as the entry of the object that V visits has it. */
static void note_pair(const struct edge_visit *v, uintptr_t guard, uintptr_t held) {
    struct snapshot *s = v->s;
    gci_object guard_object, held_object;
    if (!gci_find(s->heap, guard, &guard_object) || !gci_find(s->heap, held, &held_object)) return;
    uint32_t number = node_of(s, guard_object) - s->first_object;
    fail(s, gci_pairs_add(&s->pairs, s->objects, number,
                (struct gci_pair){.guard_id = id_of(guard_object),
                    .held_id = id_of(held_object),
                    .table_id = id_of(v->object),
                    .held = node_of(s, held_object),
                    .by_value = v->type->weak == GCI_WEAK_VALUE}));
    s->edges[number]++;
    s->object_edges++;
}

/* An ephemeron, or the entries of a weak table: edges to keys and values hold neither. */
static void meet_entries(struct edge_visit *v) {
    enum gci_weak weak = v->type->weak;
    const struct gci_entry *entry = (const struct gci_entry *)v->start;
    for (size_t n = v->bytes / GCI_ENTRY_BYTES; n > 0; n--, entry++) {
        if (entry->key == 0) continue;
        meet(v, entry->key, &entry->key);
        meet(v, entry->value, &entry->value);
        if (v->writes || weak == GCI_WEAK_BOTH) continue;
        bool by_key = weak == GCI_WEAK_KEY;
        note_pair(v, by_key ? entry->key : entry->value, by_key ? entry->value : entry->key);
    }
}

/* All references of OBJECT.  WRITES: as edges, up to MOST. */
static uint32_t visit_edges(
    struct snapshot *s, gci_object object, uint8_t tag, bool writes, uint32_t most) {
    struct edge_visit v = {.s = s, .object = object, .writes = writes, .most = most};
    if (tag & GCI_TAG_LEAF) return 0;
    v.start = gci_granule_address(&s->heap->arena, object.granule);
    v.bytes = gci_object_bytes(s->heap, object);
    if (tag & GCI_TAG_TYPED) v.type = gci_type_at(s->heap, object.granule);
    if (v.type != NULL && v.type->weak != GCI_WEAK_NONE) {
        meet_entries(&v);
    } else if (v.type != NULL) {
        uintptr_t end = v.start + v.bytes;
        gc_visitor visitor = {v.type->worded ? meet_tagged_field : meet_field, &v, v.type, v.start,
            end, v.start, end, meet_field};
        gci_type_visit(&visitor);
    } else {
        meet_words(&v);
    }
    return v.count;
}

/* ---- The walks ------------------------------------------------------------------------------ */

static void count_edges(struct snapshot *s, gci_object object, uint8_t tag, size_t number) {
    uint32_t count = visit_edges(s, object, tag, false, 0);
    s->edges[number] += count; /* and those of pairs */
    s->object_edges += count;
}

static void write_node(struct snapshot *s, enum node_type type, uint64_t name, uint64_t id,
    size_t size, uint64_t edges) {
    const uint64_t fields[] = {type, name, id, size < UINT32_MAX ? size : UINT32_MAX, edges};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        gci_output_number(&s->output, fields[i]);
        gci_output_bytes(&s->output, ",", 1);
    }
    gci_output_text(&s->output, "0,0,\n");
}

static void write_object_node(struct snapshot *s, gci_object object, uint8_t tag, size_t number) {
    struct string_numbers *numbers = s->numbers;
    size_t bytes = gci_object_bytes(s->heap, object);
    uint32_t size = size_number(bytes), name;
    enum node_type node = NODE_OBJECT;
    if (tag & GCI_TAG_TYPED) {
        const struct gci_type *type = gci_type_at(s->heap, object.granule);
        bool array = bytes / GC_GRANULE > type->granules && type->trace == NULL;
        name = array ? string_of(s, &numbers->arrays[type->wide], STRING_ARRAY, (uintptr_t)type)
                     : string_of(s, &numbers->types[type->wide], STRING_TYPE, (uintptr_t)type);
    } else if (tag & GCI_TAG_LEAF) {
        node = NODE_NATIVE;
        name = string_of(s, &numbers->sizes[1][size], STRING_LEAF, size);
    } else {
        name = string_of(s, &numbers->sizes[0][size], STRING_SIZE, size);
    }
    write_node(s, node, name, id_of(object), bytes, s->edges[number]);
}

/* What was counted, whatever was stored since by who isn't stopped, a system call say. */
static void write_object_edges(struct snapshot *s, gci_object object, uint8_t tag, size_t number) {
    uint32_t at = (uint32_t)number, count = s->edges[at];
    const struct gci_pair *pair = NULL;
    while ((pair = gci_pairs_next(&s->pairs, at, pair)) != NULL) count--;
    for (uint32_t n = visit_edges(s, object, tag, true, count); n < count; n++)
        write_edge(s, EDGE_WEAK, 0, s->first_object + at);
    while ((pair = gci_pairs_next(&s->pairs, at, pair)) != NULL)
        write_edge(s, EDGE_INTERNAL,
            new_string(s, STRING_PAIR, (uintptr_t)(pair - s->pairs.pairs), 0), pair->held);
}

/* ---- What isn't an object ------------------------------------------------------------------- */

enum { NODE_ROOT, NODE_GC_ROOTS, NODE_GROUPS, NODE_ROOTS = NODE_GROUPS + GCI_GROUPS };

static void name_roots(struct snapshot *s) {
    new_string(s, STRING_FIXED, (uintptr_t) "<dummy>", 0);
    new_string(s, STRING_FIXED, (uintptr_t) "", 0);
    new_string(s, STRING_FIXED, (uintptr_t) "(GC roots)", 0);
    new_string(s, STRING_FIXED, (uintptr_t) "key", 0);
    new_string(s, STRING_FIXED, (uintptr_t) "value", 0);
    for (unsigned i = 0; i < GCI_GROUPS; i++)
        new_string(s, STRING_FIXED, (uintptr_t)gci_group_names[i], 0);
    for (size_t i = 0; i < s->roots.node_count; i++) new_string(s, STRING_ROOT, i, 0);
    s->first_object = NODE_ROOTS + (uint32_t)s->roots.node_count;
}

/* The first node leads to "(GC roots)" and, by shortcuts, as to what belongs to the program, to
 * each group of roots; so distances are counted from there, and each group dominates what is
 * reached from it alone. */
static void write_root_nodes(struct snapshot *s) {
    uint32_t counts[GCI_GROUPS] = {0};
    const struct gci_roots *r = &s->roots;
    for (size_t i = 0; i < r->node_count; i++) counts[r->nodes[i].group]++;
    write_node(s, NODE_SYNTHETIC, NAME_ROOT, 1, 0, 1 + GCI_GROUPS);
    write_node(s, NODE_SYNTHETIC, NAME_GC_ROOTS, 2, 0, GCI_GROUPS);
    for (unsigned i = 0; i < GCI_GROUPS; i++)
        write_node(s, NODE_NATIVE, NAME_GROUPS + i, 4 + 2 * i, 0, counts[i]);
    for (size_t i = 0; i < r->node_count; i++)
        write_node(s, NODE_NATIVE, NAME_ROOTS + i, 4 + 2 * (GCI_GROUPS + i), 0, r->nodes[i].edges);
}

/* A word of a frame or a variable by its offset there, one of the rest by its number. */
static void write_root_edge(struct snapshot *s, const struct gci_root_node *node, uint32_t i) {
    const struct gci_root_edge *edge = &s->roots.edges[s->roots.sorted[node->first + i]];
    uint32_t target = node_of(s, edge->target);
    size_t offset = edge->word - node->start;
    if (node->start == 0 || edge->word < node->start || offset >= OFFSETS_NAMED) {
        write_edge(s, EDGE_ELEMENT, i, target);
        return;
    }
    uint32_t *number = &s->numbers->offsets[offset / sizeof(uintptr_t)];
    write_edge(s, node->precise ? EDGE_PROPERTY : EDGE_CONTEXT,
        string_of(s, number, STRING_OFFSET, offset), target);
}

static void write_root_edges(struct snapshot *s) {
    const struct gci_roots *r = &s->roots;
    write_edge(s, EDGE_ELEMENT, 1, NODE_GC_ROOTS);
    for (unsigned i = 0; i < GCI_GROUPS; i++)
        write_edge(s, EDGE_SHORTCUT, NAME_GROUPS + i, NODE_GROUPS + i);
    for (unsigned i = 0; i < GCI_GROUPS; i++) write_edge(s, EDGE_ELEMENT, i, NODE_GROUPS + i);
    for (unsigned group = 0; group < GCI_GROUPS; group++)
        for (size_t i = 0, n = 0; i < r->node_count; i++)
            if (r->nodes[i].group == group)
                write_edge(s, EDGE_ELEMENT, n++, NODE_ROOTS + (uint32_t)i);
    for (size_t i = 0; i < r->node_count; i++)
        for (uint32_t j = 0; j < r->nodes[i].edges; j++) write_root_edge(s, &r->nodes[i], j);
}

/* ---- The file ------------------------------------------------------------------------------- */

static void write_counts(struct snapshot *s) {
    uint64_t edges =
        s->object_edges + s->roots.edge_count + s->roots.node_count + 1 + 2 * GCI_GROUPS;
    gci_output_text(&s->output, header);
    gci_output_text(&s->output, "\"node_count\":");
    gci_output_number(&s->output, s->first_object + s->objects);
    gci_output_text(&s->output, ",\"edge_count\":");
    gci_output_number(&s->output, edges);
    gci_output_text(&s->output, ",\"trace_function_count\":0},\n");
}

/* Takes back the comma and the newline after a list's last item. */
static void end_list(struct snapshot *s, const char *then) {
    gci_output_unwrite(&s->output, 2);
    gci_output_text(&s->output, then);
}

/* With the world stopped. */
static void write_graph(struct gc_heap *heap, void *context) {
    struct snapshot *s = context;
    s->roots.heap = heap;
    s->roots.symbols = &s->symbols;
    fail(s, gci_roots_find(&s->roots));
    if (s->error == 0) number_objects(s);
    if (s->error == 0) name_roots(s);
    walk(s, count_edges);
    if (s->error != 0) return;
    write_counts(s);
    gci_output_text(&s->output, "\"nodes\":[");
    write_root_nodes(s);
    walk(s, write_object_node);
    end_list(s, "],\n\"edges\":[");
    write_root_edges(s);
    walk(s, write_object_edges);
    end_list(s, "],\n");
    fail(s, s->output.error);
}

static void prepare(void *context) {
    struct snapshot *s = context;
    s->numbers = gci_vm_map(gci_whole_pages(sizeof *s->numbers));
    if (s->numbers == NULL) fail(s, ENOMEM);
    int error = s->path != NULL ? gci_output_open(&s->output, s->path)
                                : gci_output_open_file(&s->output, s->file);
    if (s->error == 0 && error == 0) gci_symbols_load(&s->symbols);
    if (error == 0 && s->error != 0) gci_output_close(&s->output, s->error);
    fail(s, error);
}

static void finish(void *context) {
    struct snapshot *s = context;
    if (s->error == 0) {
        gci_output_text(&s->output, "\"trace_function_infos\":[],\n\"trace_tree\":[],\n"
                                    "\"samples\":[],\n\"locations\":[],\n\"strings\":[");
        for (size_t i = 0; i < s->string_count; i++) {
            if (i > 0) gci_output_text(&s->output, ",\n");
            write_string(s, &s->strings[i]);
        }
        gci_output_text(&s->output, "]}\n");
    }
    s->error = gci_output_close(&s->output, s->error);
}

static void release(struct snapshot *s) {
    gci_symbols_free(&s->symbols);
    gci_roots_free(&s->roots);
    gci_pairs_free(&s->pairs);
    if (s->strings)
        gci_vm_unmap(s->strings, gci_whole_pages(s->string_capacity * sizeof *s->strings));
    if (s->numbers) gci_vm_unmap(s->numbers, gci_whole_pages(sizeof *s->numbers));
    if (s->ranks) gci_vm_unmap(s->ranks, s->ranks_bytes);
    if (s->edges) gci_vm_unmap(s->edges, s->edges_bytes);
}

int gci_snapshot_write(struct gci_thread *thread, const char *path, int file) {
    size_t bytes = gci_whole_pages(sizeof(struct snapshot));
    struct snapshot *s = gci_vm_map(bytes); /* more than a small stack has room for */
    if (s == NULL) return ENOMEM;
    *s = (struct snapshot){.heap = thread->heap, .path = path, .file = file};
    gci_aside(thread, prepare, s);
    if (s->error == 0) {
        fail(s, gci_with_world_collected(thread, "a snapshot is written", write_graph, s));
        gci_aside(thread, finish, s);
    }
    int error = s->error;
    release(s);
    gci_vm_unmap(s, bytes);
    return error;
}

/* ---- Public functions ----------------------------------------------------------------------- */

int gci_entry_snapshot(const char *path, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_snapshot_fd(int file, size_t b, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_snapshot_write, gci_entry_snapshot);
GCI_ENTRY(gc_snapshot_write_fd, gci_entry_snapshot_fd);

int gci_entry_snapshot(const char *path, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (path == NULL) return EINVAL;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return errno;
    return gci_api_leave(thread, gci_snapshot_write(thread, path, -1));
}

int gci_entry_snapshot_fd(int file, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    if (file < 0) return EBADF;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return errno;
    return gci_api_leave(thread, gci_snapshot_write(thread, NULL, file));
}
