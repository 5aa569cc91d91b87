/* A random program that builds, changes and drops a graph of typed objects, of gc_alloc()'s
 * and of leaves, beside a model of it.  The model, in memory from malloc, knows each object's kind,
 * edges and contents, but no pointer that counts: it goes to an object as the program would, from
 * the root along real references, and takes note of where it finds it, so that it sees what moved.
 *
 * Every object has its number in a word that is no pointer, and all others that are none are
 * computed from the number, but for one: junk, where there is room for it, which holds a former
 * address of another object.  A collector that takes it for a reference changes it, or keeps alive
 * what it means. */
#include "typed_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "child.h"
#include "support.h"
#include "tag_formats.h"

#define NONE        UINT32_MAX
#define MOST_EDGES  24u  /* of one object; a large array's are spread over it */
#define FILLED      512u /* words; what is behind them in an object is zero, but for its edges */
#define HANDLES     4u
#define PRECISE     6u    /* precise roots, half of them slots, half gc_handles */
#define SMALL_BYTES 1024u /* what is larger moves only in a compaction, */
#define CELL_BYTES  8192u /* and what is larger than this never */

/* ---- Kinds of objects ----------------------------------------------------------------------- */

enum kind {
    NODE_16,
    NODE_24,
    NODE_32,
    NODE_200,
    NODE_1024,
    NODE_3000,
    PINNED,
    ARRAY_8,
    ARRAY_16,
    ARRAY_24,
    NODE_PLAIN, /* its fields are plain in every heap */
    TAG_16,     /* layouts that the first word tells */
    TAG_40,     /* that layout may change, though it doesn't */
    TAG_ARRAY,  /* the first word, and references */
    TAG_PINNED,
    TAG_COUNTED, /* as many pointers as its second word says */
    COUNTED,     /* as many pointers as its second word says */
    LEAF_TYPE,
    PINNED_LEAF,
    LEAF,
    HOLDER,
    UNTYPED,
    KINDS
};

struct layout {
    const char *name;
    uint32_t words, pointer_count;
    uint32_t pointers[6]; /* words */
    uint32_t flags;
    uint32_t id, junk; /* words, NONE if there is none */
};

static const struct layout layouts[KINDS] = {
    [NODE_16] = {"node-16", 2, 1, {0}, 0, 1, NONE},
    [NODE_24] = {"node-24", 3, 1, {1}, 0, 0, 2},
    [NODE_32] = {"node-32", 4, 2, {0, 3}, 0, 1, 2},
    [NODE_200] = {"node-200", 25, 4, {0, 3, 7, 24}, 0, 1, 2},
    [NODE_1024] = {"node-1024", 128, 6, {5, 63, 64, 65, 100, 127}, 0, 0, 1},
    [NODE_3000] = {"node-3000", 375, 4, {0, 1, 200, 374}, 0, 2, 3},
    [PINNED] = {"pinned", 6, 2, {0, 3}, GC_TYPE_PINNED, 1, 2},
    [ARRAY_8] = {"array-8", 1, 1, {0}, 0, NONE, NONE},
    [ARRAY_16] = {"array-16", 2, 1, {0}, 0, 1, 3},
    [ARRAY_24] = {"array-24", 3, 1, {1}, 0, 0, 2},
    [NODE_PLAIN] = {"node-plain", 4, 2, {0, 3}, GC_TYPE_PLAIN_FIELDS, 1, 2},
    [TAG_16] = {"tag-16", 2, 1, {1}, 0, NONE, NONE},
    [TAG_40] = {"tag-40", 5, 2, {1, 4}, GC_TYPE_LAYOUT_MAY_CHANGE, 2, 3},
    [TAG_ARRAY] = {"tag-array", 1, 1, {0}, 0, NONE, NONE},
    [TAG_PINNED] = {"tag-pinned", 4, 1, {1}, GC_TYPE_PINNED, 2, 3},
    [TAG_COUNTED] = {"tag-counted", 1, 0, {0}, 0, NONE, NONE},
    [COUNTED] = {"counted", 1, 0, {0}, 0, 0, 2},
    [LEAF_TYPE] = {"leaf", 5, 0, {0}, GC_TYPE_LEAF, 0, 1},
    [PINNED_LEAF] = {"pinned-leaf", 7, 0, {0}, GC_TYPE_LEAF | GC_TYPE_PINNED, 0, 1},
    [LEAF] = {NULL, 1, 0, {0}, 0, 0, 1},
    [HOLDER] = {"holder", 8, 0, {0}, GC_TYPE_AMBIGUOUS_HOLDER, 0, NONE},
    [UNTYPED] = {NULL, 1, 0, {0}, 0, 0, NONE},
};

static const gc_type *types[KINDS];

static bool is_by_tag(enum kind kind) {
    return kind >= TAG_16 && kind <= TAG_COUNTED;
}

static bool is_array(enum kind kind) {
    return (kind >= ARRAY_8 && kind <= ARRAY_24) || kind == TAG_ARRAY;
}

/* The layout hook. */
static const gc_type *type_by_tag(uintptr_t tag) {
    return types[TAG_16 + (tag & 0xff) - 1];
}

static bool is_ambiguous(enum kind kind) {
    return kind >= HOLDER;
}

static bool is_leaf(enum kind kind) {
    return kind == LEAF_TYPE || kind == PINNED_LEAF || kind == LEAF;
}

struct edge {
    uint32_t word, to, offset;
    uint32_t salt;  /* with a format: 0 if the word is plain, else what the box depends on */
    uint64_t other; /* what the word holds while it is no reference */
};

struct node {
    uintptr_t hidden; /* where it was found last */
    uintptr_t junk;
    uint32_t number, words;
    uint32_t edge_count, edges_used;
    uint32_t seen; /* the walk that found it last */
    uint8_t kind;
    bool used, pinned, old;
    uint64_t hash; /* identity hash, if it was asked for */
    struct edge *edges;
};

/* Runs while threads are stopped: looks at the object alone. */
static void trace_counted(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    void **word = object, **end = word + 3 + (uintptr_t)word[1];
    REQUIRE((uintptr_t)word[1] <= bytes / sizeof *word - 3);
    if (end > (void **)to) end = to;
    word += 3;
    if (word < (void **)from) word = from;
    for (; word < end; word++) gc_visit(visitor, word);
}

/* The same behind a tag; in a heap with a format every other pointer is plain. */
static void trace_tag_counted(
    void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    void **word = object;
    (void)from, (void)to;
    REQUIRE((uintptr_t)word[1] <= bytes / sizeof *word - 2);
    for (uintptr_t i = 2; i < 2 + (uintptr_t)word[1]; i++)
        i % 2 == 0 ? gc_visit(visitor, word + i) : gc_visit_plain(visitor, word + i);
}

static void register_types(void) {
    for (unsigned k = 0; k < KINDS; k++) {
        const struct layout *layout = &layouts[k];
        if (layout->name == NULL) continue;
        uint32_t offsets[6];
        for (unsigned i = 0; i < layout->pointer_count; i++) offsets[i] = layout->pointers[i] * 8;
        gc_type_desc desc = {.name = layout->name,
            .size = (size_t)layout->words * 8,
            .pointers = offsets,
            .pointer_count = layout->pointer_count,
            .trace = k == COUNTED       ? trace_counted
                     : k == TAG_COUNTED ? trace_tag_counted
                                        : NULL,
            .flags = layout->flags};
        types[k] = gc_type_register(&desc);
        REQUIRE(types[k] != NULL);
    }
}

/* ---- The model ------------------------------------------------------------------------------ */

/* A reference that the program holds on its stack: the word may point inside. */
struct handle {
    char *word;
    uint32_t to, offset, salt;
};

struct roots {
    void *root;
    struct handle handles[HANDLES];
};

struct found {
    uintptr_t p;
    uint32_t node;
};

struct model {
    const struct typed_plan *plan;
    struct typed_result result;
    struct bench_random random;
    struct roots *roots;
    void **slots; /* PRECISE / 2, in memory from malloc */
    gc_handle *precise[PRECISE / 2];
    uint32_t precise_to[PRECISE];
    struct node *nodes;
    uint32_t *free_nodes;
    struct found *queue;
    uint32_t free_count, next_number, root_node, walk, queued;
    uint64_t steps, garbage, retained;
};

static uint32_t below(struct model *m, uint32_t n) {
    return (uint32_t)bench_random_below(&m->random, n);
}

static __attribute__((noreturn)) void wrong(
    const struct model *m, const struct node *n, const void *p, const char *what, uint64_t at) {
    child_fail(__FILE__, __LINE__,
        "seed %llu, step %llu: object %u (%s, %u words%s) at %p, last seen at %p: %s: %#llx",
        (unsigned long long)m->plan->seed, (unsigned long long)m->steps, n->number,
        layouts[n->kind].name != NULL ? layouts[n->kind].name
        : n->kind == LEAF             ? "gc_alloc_leaf"
                                      : "gc_alloc",
        n->words, n->pinned ? ", pinned" : "", p, reveal(n->hidden), what, (unsigned long long)at);
}

/* ---- Contents ------------------------------------------------------------------------------- */

static uint32_t counted_pointers(const struct node *n) {
    return n->edge_count;
}

/* Of an object of gc_alloc_with_tag(): the number, so that no two are alike, and the layout. */
static uintptr_t tag_of(const struct node *n) {
    return (uintptr_t)n->number << 8 | (n->kind - TAG_16 + 1u);
}

static bool is_pointer(const struct node *n, uint32_t word) {
    const struct layout *layout = &layouts[n->kind];
    if (is_leaf(n->kind) || (is_by_tag(n->kind) && word == 0)) return false;
    if (n->kind == TAG_COUNTED) return word >= 2 && word < 2 + counted_pointers(n);
    if (is_ambiguous(n->kind)) return word >= 1 && word <= n->edge_count;
    if (n->kind == COUNTED) return word >= 3 && word < 3 + counted_pointers(n);
    for (uint32_t i = 0; i < layout->pointer_count; i++)
        if (word % layout->words == layout->pointers[i]) return true;
    return false;
}

/* Of a word that is no pointer.  Junk apart, it is no address: small, or with bit 63 set. */
static uint64_t contents(const struct node *n, uint32_t word) {
    const struct layout *layout = &layouts[n->kind];
    if (is_by_tag(n->kind) && word == 0) return tag_of(n);
    if (n->kind == TAG_COUNTED && word == 1) return counted_pointers(n);
    if (word == layout->id) return n->number;
    if (word == layout->junk) return n->junk;
    if (n->kind == COUNTED && word == 1) return counted_pointers(n);
    if (word >= FILLED) return 0;
    return bench_mix(n->number * UINT64_C(0x9e3779b97f4a7c15) + word) | UINT64_C(1) << 63;
}

static void fill(const struct node *n, uint64_t *p) {
    for (uint32_t w = 0; w < n->words && w < FILLED; w++)
        if (!is_pointer(n, w)) p[w] = contents(n, w);
}

static void check_number(const struct model *m, const struct node *n, const void *p) {
    uint32_t id = layouts[n->kind].id;
    if (id == NONE) return;
    uint64_t there = ((const uint64_t *)p)[id];
    if (there != n->number) wrong(m, n, p, "another object's number", there);
}

/* Is it a word of the heap's format, where there is one? */
static bool is_boxed(const struct model *m, const struct node *n, uint32_t word) {
    return m->plan->format != NULL && !is_ambiguous(n->kind) && n->kind != NODE_PLAIN &&
           !(n->kind == TAG_COUNTED && word % 2 == 1);
}

static void check_contents(const struct model *m, const struct node *n, const uint64_t *p) {
    uint32_t references = 0, filled = n->words < FILLED ? n->words : FILLED;
    check_number(m, n, p);
    for (uint32_t w = 0; w < filled; w++) {
        if (is_pointer(n, w))
            references += is_boxed(m, n, w) ? m->plan->format->is_reference(p[w]) : p[w] != 0;
        else if (p[w] != contents(n, w))
            wrong(m, n, p, w == layouts[n->kind].junk ? "changed junk" : "a changed word", w);
    }
    if (n->words > FILLED) return;
    if (references != n->edges_used) wrong(m, n, p, "references, too many or too few", references);
}

/* What the library says of the object at P. */
static void check_header(const struct model *m, const struct node *n, void *p) {
    size_t size = gc_size(p), asked = (size_t)n->words * 8;
    if (size < asked) wrong(m, n, p, "too small or gone: gc_size", size);
    if (size > asked + asked / 7 + 4096) wrong(m, n, p, "too large: gc_size", size);
    if (gc_base((char *)p + asked - 1) != p) wrong(m, n, p, "not its own base", 0);
    bool typed = n->kind <= COUNTED;
    const gc_type *type = gc_type_of(p);
    if (typed && type != types[n->kind]) wrong(m, n, p, "another type", (uintptr_t)type);
    if ((n->kind == LEAF || n->kind == UNTYPED) && type != NULL)
        wrong(m, n, p, "a type", (uintptr_t)type);
    for (size_t w = n->words; typed && w < size / 8 && w < n->words + 64; w++)
        if (((uint64_t *)p)[w] != 0) wrong(m, n, p, "the unused end isn't zero", w);
}

static uint64_t edge_value(const struct model *m, const struct edge *e, const void *target) {
    if (e->to == NONE) return e->other;
    if (e->salt != 0) return m->plan->format->box(target, e->salt);
    return (uint64_t)(uintptr_t)target + e->offset;
}

/* What the edge refers to, from the word in memory. */
static void *follow(const struct model *m, const struct node *n, const void *p, uint32_t edge) {
    const struct edge *e = &n->edges[edge];
    uint64_t word = ((const uint64_t *)p)[e->word];
    if (e->to == NONE) {
        if (word != e->other) wrong(m, n, p, "a reference where there was none", e->word);
        return NULL;
    }
    if (word == e->other) wrong(m, n, p, "a lost reference", e->word);
    if (e->salt == 0) return (char *)(uintptr_t)word - e->offset;
    void *target = m->plan->format->unbox(word);
    if (m->plan->format->box(target, e->salt) != word) wrong(m, n, p, "another tag", word);
    return target;
}

/* ---- Walks ---------------------------------------------------------------------------------- */

static bool may_move(struct model *m, const struct node *n) {
    if (is_ambiguous(n->kind) || n->kind == PINNED || n->kind == PINNED_LEAF || n->pinned)
        return false;
    if (!is_leaf(n->kind) && !n->old && n->words * 8 <= SMALL_BYTES) return true;
    m->result.moved_by_compaction++;
    return n->words * 8 <= CELL_BYTES && statistics().compactions > 0;
}

static void *get_precise(const struct model *m, uint32_t i) {
    if (i >= PRECISE / 2) return gc_handle_get(m->precise[i - PRECISE / 2]);
    uint64_t word = (uint64_t)(uintptr_t)m->slots[i];
    return word != 0 && m->plan->format != NULL ? m->plan->format->unbox(word) : m->slots[i];
}

static void set_precise(struct model *m, uint32_t i, uint32_t to, void *p) {
    m->precise_to[i] = to;
    if (i < PRECISE / 2)
        m->slots[i] = p == NULL || m->plan->format == NULL
                          ? p
                          : (void *)(uintptr_t)m->plan->format->box(p, i + 1);
    else
        gc_handle_set(m->precise[i - PRECISE / 2], p);
}

/* Some are asked for their hash, and from then on always. */
static void check_hash(const struct model *m, struct node *n, const void *p) {
    if (!m->plan->hashes || (n->hash == 0 && (n->number + m->walk) % 8 != 0)) return;
    uint64_t hash = gc_identity_hash(p);
    if (n->hash == 0) n->hash = hash;
    if (hash == 0 || hash != n->hash) wrong(m, n, p, "another hash", hash);
}

static void arrive(struct model *m, uint32_t node, void *p) {
    struct node *n = &m->nodes[node];
    if (n->seen == m->walk) {
        if (n->hidden != hide(p)) wrong(m, n, p, "two addresses", (uintptr_t)p);
        return;
    }
    check_header(m, n, p);
    check_contents(m, n, p);
    if (n->hidden != hide(p)) {
        if (!may_move(m, n)) wrong(m, n, p, "it has moved", (uintptr_t)p);
        m->result.moved++;
    }
    check_hash(m, n, p);
    n->hidden = hide(p);
    n->seen = m->walk;
    m->queue[m->queued++] = (struct found){(uintptr_t)p, node};
}

static void *held_by(const struct model *m, const struct handle *h) {
    if (h->salt != 0) return m->plan->format->unbox((uint64_t)(uintptr_t)h->word);
    return h->word - h->offset;
}

/* Goes to all that is reachable, and forgets the rest. */
static __attribute__((noinline)) void check_all(struct model *m, bool collected) {
    m->walk++;
    m->queued = 0;
    m->result.checks++;
    for (unsigned i = 0; i < HANDLES; i++) {
        struct handle *h = &m->roots->handles[i];
        if (h->to == NONE) continue;
        struct node *n = &m->nodes[h->to];
        check_number(m, n, held_by(m, h));
        arrive(m, h->to, held_by(m, h));
    }
    arrive(m, m->root_node, m->roots->root);
    for (uint32_t i = 0; i < PRECISE; i++)
        if (m->precise_to[i] != NONE) arrive(m, m->precise_to[i], get_precise(m, i));
    for (uint32_t i = 0; i < m->queued; i++) {
        const struct node *n = &m->nodes[m->queue[i].node];
        void *p = (void *)m->queue[i].p;
        for (uint32_t e = 0; e < n->edge_count; e++) {
            void *target = follow(m, n, p, e);
            if (target != NULL) arrive(m, n->edges[e].to, target);
        }
    }
    if (m->queued > m->result.most_live) m->result.most_live = m->queued;
    for (uint32_t i = 0; i < m->plan->most_objects; i++) {
        struct node *n = &m->nodes[i];
        if (!n->used || n->seen == m->walk) continue;
        uint32_t id = layouts[n->kind].id;
        if (collected && id != NONE) {
            const uint64_t *p = reveal(n->hidden);
            m->garbage++;
            m->retained += gc_size(p) >= (size_t)n->words * 8 && p[id] == n->number;
        }
        free(n->edges);
        n->edges = NULL;
        n->used = false;
        m->free_nodes[m->free_count++] = i;
    }
    memset(m->queue, 0, m->queued * sizeof *m->queue);
    if (gc_verify() != 0) child_fail(__FILE__, __LINE__, "the heap is broken");
}

/* A random walk: where it ends, and the last reference it followed. */
struct place {
    void *p, *from;
    uint32_t node, from_node, from_edge;
};

static struct place stroll(struct model *m, uint32_t most) {
    struct place at = {m->roots->root, NULL, m->root_node, NONE, 0};
    const struct handle *h = &m->roots->handles[below(m, HANDLES)];
    if (h->to != NONE && below(m, 8) == 0) {
        at.p = held_by(m, h);
        at.node = h->to;
    }
    uint32_t precise = below(m, PRECISE);
    if (m->precise_to[precise] != NONE && below(m, 8) == 0)
        at = (struct place){get_precise(m, precise), NULL, m->precise_to[precise], NONE, 0};
    for (uint32_t steps = below(m, most); steps > 0; steps--) {
        const struct node *n = &m->nodes[at.node];
        if (n->edge_count == 0) break;
        uint32_t edge = below(m, n->edge_count);
        void *next = follow(m, n, at.p, edge);
        if (next == NULL) break;
        at = (struct place){next, at.p, n->edges[edge].to, at.node, edge};
        check_number(m, &m->nodes[at.node], at.p);
    }
    return at;
}

/* ---- Changes -------------------------------------------------------------------------------- */

/* Where some object is, or was. */
static uintptr_t address_like(struct model *m) {
    return (uintptr_t)reveal(m->nodes[below(m, m->plan->most_objects)].hidden);
}

/* Each in a frame of its own, which a collection finds overwritten. */
#define CHANGE static __attribute__((noinline)) void

static void set_edge(
    struct model *m, struct node *n, void *p, uint32_t edge, uint32_t to, void *target) {
    struct edge *e = &n->edges[edge];
    n->edges_used -= e->to != NONE;
    e->to = to;
    e->offset = e->salt = 0;
    e->other = 0;
    if (to != NONE && is_ambiguous(n->kind) && below(m, 3) == 0)
        e->offset = below(m, m->nodes[to].words * 8);
    if (is_boxed(m, n, e->word) ||
        (m->plan->format != NULL && is_ambiguous(n->kind) && e->offset == 0 && below(m, 2) == 0))
        e->salt = 1 + below(m, 1000);
    if (to == NONE && e->salt != 0 && !is_ambiguous(n->kind))
        e->other = m->plan->format->immediate(address_like(m));
    n->edges_used += to != NONE;
    gc_write(p, (void **)p + e->word, (void *)(uintptr_t)edge_value(m, e, target));
}

/* Stores a reference in an edge of N that is free, or now and then in one that isn't. */
static void connect(struct model *m, struct node *n, void *p, uint32_t to, void *target) {
    uint32_t start = below(m, n->edge_count);
    for (uint32_t i = 0; i < n->edge_count; i++) {
        uint32_t edge = (start + i) % n->edge_count;
        if (n->edges[edge].to != NONE) continue;
        set_edge(m, n, p, edge, to, target);
        return;
    }
    if (below(m, 8) == 0) set_edge(m, n, p, start, to, target);
}

/* Somewhere that has an edge. */
static struct place somewhere(struct model *m) {
    for (;;) {
        struct place at = stroll(m, 40);
        if (m->nodes[at.node].edge_count > 0) return at;
    }
}

static void plan_edges(struct model *m, struct node *n) {
    const struct layout *layout = &layouts[n->kind];
    uint32_t count = layout->pointer_count, all = count;
    if (is_array(n->kind)) all = count = n->words / layout->words - is_by_tag(n->kind);
    if (n->kind == COUNTED) all = count = below(m, n->words - 3 + 1);
    if (n->kind == TAG_COUNTED) all = count = below(m, n->words - 2 + 1);
    if (is_ambiguous(n->kind)) all = count = n->words - 1 < 4 ? n->words - 1 : 4;
    if (count > MOST_EDGES && n->kind != COUNTED && n->kind != TAG_COUNTED) count = MOST_EDGES;
    n->edge_count = count;
    n->edges = count == 0 ? NULL : calloc(count, sizeof *n->edges);
    REQUIRE(count == 0 || n->edges != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = (uint32_t)((uint64_t)all * i / count);
        uint32_t to = (uint32_t)((uint64_t)all * (i + 1) / count);
        uint32_t slot = from + below(m, to - from), word = 1 + i;
        if (n->kind == TAG_ARRAY)
            word = 1 + slot;
        else if (is_array(n->kind))
            word = slot * layout->words + layout->pointers[0];
        else if (n->kind == COUNTED)
            word = 3 + i;
        else if (n->kind == TAG_COUNTED)
            word = 2 + i;
        else if (!is_ambiguous(n->kind))
            word = layout->pointers[i];
        n->edges[i] = (struct edge){.word = word, .to = NONE};
    }
}

static uint32_t random_words(struct model *m, enum kind kind) {
    uint32_t words = layouts[kind].words, r = below(m, 2000);
    if (kind == UNTYPED || kind == LEAF || kind == COUNTED || kind == TAG_COUNTED) {
        if (m->plan->large && r == 0) return 12500;
        return 3 + (r < 20 ? below(m, 2000) : r < 100 ? below(m, 400) : below(m, 24));
    }
    if (kind == HOLDER) return words * (1 + below(m, 3));
    if (!is_array(kind)) return words;
    if (kind == TAG_ARRAY) words++; /* the tag, and at least one */
    if (m->plan->large && r < 2) return (r == 0 ? 131072 : 12800) / words * words;
    return words * (1 + (r < 20 ? below(m, 2000) : r < 100 ? below(m, 150) : below(m, 12)));
}

static enum kind random_kind(struct model *m) {
    static const uint8_t kinds[] = {NODE_16, NODE_16, NODE_16, NODE_24, NODE_24, NODE_24, NODE_32,
        NODE_32, NODE_32, NODE_32, NODE_200, NODE_200, NODE_1024, NODE_3000, PINNED, ARRAY_8,
        ARRAY_8, ARRAY_16, ARRAY_16, ARRAY_24, ARRAY_24, COUNTED, COUNTED, COUNTED, LEAF_TYPE,
        LEAF_TYPE, PINNED_LEAF, LEAF};
    if (below(m, m->plan->ambiguous_one_in) == 0) return below(m, 2) == 0 ? UNTYPED : HOLDER;
    if (m->plan->format != NULL && below(m, 8) == 0) return NODE_PLAIN;
    if (m->plan->by_tag && below(m, 3) == 0) {
        static const uint8_t more[] = {
            TAG_16, TAG_16, TAG_40, TAG_40, TAG_40, TAG_ARRAY, TAG_COUNTED, TAG_PINNED};
        enum kind kind = more[below(m, sizeof more)];
        return kind == TAG_PINNED && below(m, 4) > 0 ? TAG_40 : kind;
    }
    enum kind kind = kinds[below(m, sizeof kinds)];
    if (kind == NODE_3000 && below(m, 3) > 0) kind = NODE_32;
    return kind;
}

/* One by tag gets it at once or, to be as the others, by fill(). */
static void *allocate(const struct node *n, bool at_once) {
    enum kind kind = n->kind;
    uint32_t words = n->words;
    if (n->old) return gc_alloc_old_array(types[kind], words / layouts[kind].words);
    if (is_by_tag(kind)) {
        uint64_t *p = gc_alloc_with_tag(at_once ? tag_of(n) : 0, (size_t)words * 8);
        if (p != NULL && at_once) {
            REQUIRE(p[0] == tag_of(n));
            p[0] = 0;
        }
        return p;
    }
    if (kind == UNTYPED) return gc_alloc((size_t)words * 8);
    if (kind == LEAF) return gc_alloc_leaf((size_t)words * 8);
    if (words == layouts[kind].words) return gc_alloc_typed(types[kind]);
    return gc_alloc_array(types[kind], words / layouts[kind].words);
}

/* Cuts references of the root until a quarter of the nodes is free. */
static void make_room(struct model *m) {
    check_all(m, false);
    while (m->free_count < m->plan->most_objects / 4) {
        struct node *n = &m->nodes[m->root_node];
        struct handle *h = &m->roots->handles[below(m, HANDLES)];
        *h = (struct handle){NULL, NONE, 0, 0};
        set_precise(m, below(m, PRECISE), NONE, NULL);
        for (uint32_t i = 0; i < n->edge_count; i += 2)
            set_edge(m, n, m->roots->root, below(m, n->edge_count), NONE, NULL);
        check_all(m, false);
    }
}

/* A new object, which only the result refers to; *P is where. */
static uint32_t new_node(struct model *m, enum kind kind, uint32_t words, void **p) {
    uint32_t node = m->free_nodes[--m->free_count];
    struct node *n = &m->nodes[node];
    uintptr_t junk = address_like(m);
    *n = (struct node){.number = ++m->next_number,
        .kind = (uint8_t)kind,
        .words = words,
        .junk = junk,
        .used = true};
    plan_edges(m, n);
    n->old = m->plan->old_one_in > 0 && types[kind] != NULL && kind != LEAF_TYPE &&
             below(m, m->plan->old_one_in) == 0;
    *p = allocate(n, below(m, 2) == 0);
    if (*p == NULL) child_fail(__FILE__, __LINE__, "no memory for %u words", words);
    n->hidden = hide(*p);
    m->result.allocations++;
    if (!all_bytes(*p, 0, gc_size(*p))) wrong(m, n, *p, "not zero", 0);
    fill(n, *p);
    return node;
}

static uint32_t any_node(struct model *m, void **p) {
    enum kind kind = random_kind(m);
    return new_node(m, kind, random_words(m, kind), p);
}

CHANGE add_node(struct model *m) {
    struct place at;
    void *p;
    uint32_t node;
    if (below(m, 2) == 0) { /* the place is on the stack while it allocates, or not */
        at = somewhere(m);
        node = any_node(m, &p);
    } else {
        node = any_node(m, &p);
        at = somewhere(m);
    }
    if (below(m, 8) == 0) return;
    struct node *n = &m->nodes[at.node];
    connect(m, n, at.p, node, p);
}

CHANGE connect_two(struct model *m) {
    struct place to = stroll(m, 40), at = somewhere(m);
    connect(m, &m->nodes[at.node], at.p, to.node, to.p);
}

CHANGE cut_edge(struct model *m) {
    struct place at = somewhere(m);
    struct node *n = &m->nodes[at.node];
    set_edge(m, n, at.p, below(m, n->edge_count), NONE, NULL);
}

CHANGE drop_subgraph(struct model *m) {
    struct place at = stroll(m, 3);
    if (at.from != NULL) set_edge(m, &m->nodes[at.from_node], at.from, at.from_edge, NONE, NULL);
}

/* A new object between two others, with what the old one refers to. */
CHANGE replace_node(struct model *m) {
    struct place at = stroll(m, 40);
    if (at.from == NULL) return;
    void *p;
    uint32_t node = any_node(m, &p);
    struct node *n = &m->nodes[node];
    const struct node *old = &m->nodes[at.node];
    if (old->edges_used > n->edge_count && below(m, 16) > 0) return;
    for (uint32_t i = 0; i < n->edge_count && i < old->edge_count; i++)
        set_edge(m, n, p, i, old->edges[i].to, follow(m, old, at.p, i));
    set_edge(m, &m->nodes[at.from_node], at.from, at.from_edge, node, p);
}

CHANGE swap_edges(struct model *m) {
    struct place a = somewhere(m), b = somewhere(m);
    struct node *an = &m->nodes[a.node], *bn = &m->nodes[b.node];
    uint32_t i = below(m, an->edge_count), j = below(m, bn->edge_count);
    uint32_t a_to = an->edges[i].to, b_to = bn->edges[j].to;
    void *a_p = follow(m, an, a.p, i), *b_p = follow(m, bn, b.p, j);
    set_edge(m, an, a.p, i, b_to, b_p);
    set_edge(m, bn, b.p, j, a_to, a_p);
}

/* Another word of a large array gets an edge's reference. */
CHANGE shift_edge(struct model *m) {
    struct place at = stroll(m, 40);
    struct node *n = &m->nodes[at.node];
    if (!is_array(n->kind) || n->edge_count < MOST_EDGES) return;
    const struct layout *layout = &layouts[n->kind];
    uint32_t i = below(m, n->edge_count), to = n->edges[i].to;
    void *target = follow(m, n, at.p, i);
    uint32_t word = below(m, n->words / layout->words) * layout->words + layout->pointers[0];
    if (is_by_tag(n->kind) && word == 0) return;
    for (uint32_t j = 0; j < n->edge_count; j++)
        if (n->edges[j].word == word) return;
    set_edge(m, n, at.p, i, NONE, NULL);
    n->edges[i].word = word;
    set_edge(m, n, at.p, i, to, target);
}

CHANGE change_junk(struct model *m) {
    struct place at = stroll(m, 40);
    struct node *n = &m->nodes[at.node];
    uint32_t word = layouts[n->kind].junk;
    if (word == NONE || word >= n->words) return;
    n->junk = address_like(m);
    ((uint64_t *)at.p)[word] = n->junk;
}

CHANGE change_handle(struct model *m) {
    struct place at = stroll(m, 40);
    struct handle *h = &m->roots->handles[below(m, HANDLES)];
    *h = (struct handle){NULL, NONE, 0, 0};
    if (below(m, 3) == 0) return;
    if (m->plan->format != NULL && below(m, 2) == 0) {
        uint32_t salt = 1 + below(m, 1000);
        *h = (struct handle){(char *)(uintptr_t)m->plan->format->box(at.p, salt), at.node, 0, salt};
        return;
    }
    uint32_t offset = below(m, 2) == 0 ? 0 : below(m, m->nodes[at.node].words * 8);
    *h = (struct handle){(char *)at.p + offset, at.node, offset, 0};
}

CHANGE change_precise(struct model *m) {
    struct place at = stroll(m, 40);
    bool cut = below(m, 3) == 0;
    set_precise(m, below(m, PRECISE), cut ? NONE : at.node, cut ? NULL : at.p);
}

CHANGE change_pin(struct model *m) {
    struct place at = stroll(m, 40);
    if (m->nodes[at.node].kind == PINNED_LEAF) return; /* gc_unpin() would end what its type says */
    struct node *n = &m->nodes[at.node];
    if (n->hidden != hide(at.p)) { /* it moved since it was seen */
        if (!may_move(m, n)) wrong(m, n, at.p, "it has moved", 0);
        m->result.moved++;
        n->hidden = hide(at.p);
    }
    n->pinned = !n->pinned;
    REQUIRE_EQUAL(n->pinned ? gc_pin(at.p) : gc_unpin(at.p), 0);
}

/* Garbage, until a collection has probably come. */
CHANGE burst(struct model *m) {
    void *last = NULL;
    for (uint32_t i = below(m, 20000); i > 0; i--) {
        void **p = gc_alloc_typed(types[NODE_32]);
        p[0] = m->plan->format == NULL ? last
               : last == NULL          ? NULL
                                       : (void *)(uintptr_t)m->plan->format->box(last, i);
        if (i % 64 != 0) last = p;
    }
}

CHANGE collect_some(struct model *m) {
    bool full = below(m, 6) == 0;
    if (full)
        collect(m->plan->compacts && below(m, 2) == 0 ? GC_COMPACT : GC_FULL);
    else
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    if (full || below(m, 4) == 0) check_all(m, full);
}

static __attribute__((noinline)) void step(struct model *m) {
    if (m->free_count < 2) make_room(m);
    uint32_t what = below(m, 10000);
    if (what < 5000) {
        add_node(m);
    } else if (what < 6500) {
        connect_two(m);
    } else if (what < 6900) {
        cut_edge(m);
    } else if (what < 8000) {
        swap_edges(m);
    } else if (what < 8800) {
        replace_node(m);
    } else if (what < 8802) {
        drop_subgraph(m);
    } else if (what < 9300) {
        shift_edge(m);
    } else if (what < 9800) {
        change_junk(m);
    } else if (what < 9870) {
        change_handle(m);
    } else if (what < 9900) {
        change_precise(m);
    } else if (what < 9950) {
        change_pin(m);
    } else if (what < 9970) {
        collect_some(m);
    } else if (what < 9972) {
        burst(m);
    }
}

static struct roots static_roots;

static __attribute__((noinline)) void run(struct model *m) {
    struct roots stack_roots;
    m->roots = m->plan->static_root ? &static_roots : &stack_roots;
    m->roots->root = NULL;
    for (unsigned i = 0; i < HANDLES; i++) m->roots->handles[i] = (struct handle){NULL, NONE, 0, 0};
    m->root_node = new_node(m, NODE_1024, layouts[NODE_1024].words, &m->roots->root);
    for (m->steps = 0; m->steps < fewer(m->plan->steps); m->steps++) {
        step(m);
        if (m->steps % m->plan->check_every == 0) check_all(m, false);
    }
    collect(GC_FULL);
    check_all(m, true);
    memset(m->roots, 0, sizeof *m->roots);
}

static void make_precise(struct model *m) {
    m->slots = calloc(PRECISE / 2, sizeof *m->slots);
    REQUIRE(m->slots != NULL && gc_add_slots(m->slots, PRECISE / 2) == 0);
    for (uint32_t i = 0; i < PRECISE; i++) {
        if (i < PRECISE / 2) REQUIRE((m->precise[i] = gc_handle_new(NULL)) != NULL);
        m->precise_to[i] = NONE;
    }
}

void typed_model_run(const struct typed_plan *plan, struct typed_result *result) {
    struct model m = {.plan = plan, .random.state = plan->seed};
    uint32_t capacity = plan->most_objects;
    m.nodes = calloc(capacity, sizeof *m.nodes);
    m.free_nodes = calloc(capacity, sizeof *m.free_nodes);
    m.queue = calloc(capacity, sizeof *m.queue);
    REQUIRE(m.nodes != NULL && m.free_nodes != NULL && m.queue != NULL);
    for (uint32_t i = 0; i < capacity; i++) {
        m.nodes[i].hidden = hide(NULL);
        m.free_nodes[m.free_count++] = i;
    }
    if (plan->format != NULL) tag_format_open(plan->format);
    register_types();
    make_precise(&m);
    if (plan->by_tag) REQUIRE_EQUAL(gc_set_layout_hook(type_by_tag), 0);
    run(&m);
    if (m.garbage > 0) m.result.retained_percent = 100.0 * (double)m.retained / (double)m.garbage;
    *result = m.result;
    for (uint32_t i = 0; i < capacity; i++) free(m.nodes[i].edges);
    free(m.nodes);
    free(m.free_nodes);
    free(m.queue);
}

struct typed_plan typed_model_usual_plan(uint64_t seed) {
    bool stress = getenv("CAIRN_STRESS") != NULL;
    return (struct typed_plan){.seed = seed,
        .steps = stress ? 30000 : 120000,
        .most_objects = stress ? 1000 : 10000,
        .check_every = stress ? 500 : 3000,
        .hashes = true,
        .large = true};
}

void typed_model_print(const struct typed_result *result) {
    gc_stats stats = statistics();
    printf("%llu allocations, %llu KB of them old; %llu minor and %llu full collections, %llu "
           "compactions; %llu walks over at most %u objects; %llu moves seen, %llu of them by "
           "compaction; %.2f %% of the garbage outlived a full collection\n",
        (unsigned long long)result->allocations, (unsigned long long)stats.tenured_bytes >> 10,
        (unsigned long long)stats.minor.count, (unsigned long long)stats.full.count,
        (unsigned long long)stats.compactions, (unsigned long long)result->checks,
        result->most_live, (unsigned long long)result->moved,
        (unsigned long long)result->moved_by_compaction, result->retained_percent);
}
