/* A program that does everything at random - allocations of all kinds and sizes, stores, drops,
 * gc_free, gc_realloc, gc_strdup, pins, collections - beside a model that knows which objects it
 * can still reach. The model lies in memory from malloc, where the collector doesn't look, and
 * hides its pointers all the same. What is reachable must be there: at its address, with its size
 * and every byte of its contents. What is not should be gone after a full collection, apart from a
 * little that stale words on the stack keep.
 *
 * Objects refer to one another by real pointers, some of them interior, in up to EDGES words that
 * follow an object's first word; a static array holds the roots. Every object's first word and all
 * that is behind its edges is computed from its number, by which mixing up two objects shows. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/random.h"
#include "child.h"
#include "support.h"

#define ROOTS 64u
#define EDGES 4u
#define NONE  UINT32_MAX

enum shape { AMBIGUOUS, ALIGNED, LEAF, STRING };

struct edge {
    uint32_t to; /* node, or NONE */
    uint32_t offset;
};

struct node {
    uintptr_t hidden;
    size_t size; /* as asked for */
    uint32_t id;
    uint32_t references; /* roots and edges of known nodes that lead here */
    uint8_t shape;
    bool used, pinned, reached;
    struct edge edges[EDGES];
};

/* Where a reference is: a root, or an edge of a node. */
struct place {
    uint32_t node; /* NONE: a root */
    uint32_t index;
};

static uintptr_t roots[ROOTS];
static struct edge root_edges[ROOTS];

struct model {
    const struct model_plan *plan;
    struct model_result result;
    struct bench_random random;
    struct node *nodes;
    uint32_t *free_nodes, *queue;
    uint32_t capacity, free_count, next_id;
    uint64_t garbage, retained;
};

static uint32_t below(struct model *m, uint32_t n) {
    return (uint32_t)bench_random_below(&m->random, n);
}

/* ---- Contents ------------------------------------------------------------------------------- */

static unsigned edge_count(const struct node *n) {
    if (n->shape > ALIGNED || n->size < 2 * sizeof(uintptr_t)) return 0;
    size_t words = n->size / sizeof(uintptr_t) - 1;
    return words < EDGES ? (unsigned)words : EDGES;
}

/* Never an address: bit 63 is set. */
static uint64_t word_of(const struct node *n, size_t at) {
    return bench_mix(n->id * UINT64_C(0x9e3779b97f4a7c15) + at) | UINT64_C(1) << 63;
}

static unsigned char byte_of(const struct node *n, size_t at) {
    if (n->shape == STRING) return at == n->size - 1 ? 0 : (unsigned char)('a' + (n->id + at) % 26);
    uint64_t word = word_of(n, at / 8);
    return (unsigned char)(word >> at % 8 * 8);
}

/* The stretch of contents that is not edges: word 0, and what is behind them. */
static size_t body_start(const struct node *n) {
    return edge_count(n) == 0 ? 0 : (1 + edge_count(n)) * sizeof(uintptr_t);
}

static void fill(struct node *n) {
    unsigned char *p = reveal(n->hidden);
    if (body_start(n) > 0) {
        uint64_t first = word_of(n, 0);
        memcpy(p, &first, sizeof first);
    }
    size_t at = body_start(n), whole = n->size & ~(size_t)7;
    for (; n->shape != STRING && at < whole; at += 8) {
        uint64_t word = word_of(n, at / 8);
        memcpy(p + at, &word, sizeof word);
    }
    for (; at < n->size; at++) p[at] = byte_of(n, at);
}

static void wrong(const struct model *m, const struct node *n, const char *what, size_t at) {
    child_fail(__FILE__, __LINE__,
        "seed %llu, step %llu: object %u at %p (%zu bytes, shape %u%s): %s at +%zu",
        (unsigned long long)m->plan->seed, (unsigned long long)m->result.allocations, n->id,
        reveal(n->hidden), n->size, n->shape, n->pinned ? ", pinned" : "", what, at);
}

static uintptr_t edge_word(const struct model *m, const struct edge *e) {
    return e->to == NONE ? 0 : (uintptr_t)reveal(m->nodes[e->to].hidden) + e->offset;
}

/* Contents up to SIZE, on all of a small object and some of a large one. */
static void check_contents(const struct model *m, const struct node *n, size_t size) {
    const unsigned char *p = reveal(n->hidden);
    unsigned edges = edge_count(n);
    for (unsigned i = 0; i < edges && (i + 2) * sizeof(uintptr_t) <= size; i++) {
        uintptr_t word;
        memcpy(&word, p + (i + 1) * sizeof word, sizeof word);
        if (word != edge_word(m, &n->edges[i])) wrong(m, n, "a changed edge", (i + 1) * 8);
    }
    uint64_t first = word_of(n, 0);
    if (edges > 0 && memcmp(p, &first, size < sizeof first ? size : sizeof first) != 0)
        wrong(m, n, "a changed word", 0);
    for (size_t at = body_start(n); at<size; at += at> 512 && at + 600 < size ? 509 : 1)
        if (p[at] != byte_of(n, at)) wrong(m, n, "a changed byte", at);
}

static void check_node(const struct model *m, const struct node *n) {
    const char *p = reveal(n->hidden);
    size_t size = gc_size(p);
    if (size < n->size) wrong(m, n, "too small or gone: gc_size", size);
    if (size > n->size + n->size / 7 + 4096) wrong(m, n, "too large: gc_size", size);
    size_t inside = n->size > 0 ? n->size - 1 : 0;
    if (gc_base(p + inside) != p) wrong(m, n, "not its own base", inside);
    check_contents(m, n, n->size);
}

/* ---- Nodes and references ------------------------------------------------------------------- */

static struct edge *edge_at(struct model *m, struct place at) {
    return at.node == NONE ? &root_edges[at.index] : &m->nodes[at.node].edges[at.index];
}

/* Stores a reference to node TO, or none, in the model and in memory. */
static void set_edge(struct model *m, struct place at, uint32_t to, uint32_t offset) {
    struct edge *e = edge_at(m, at);
    if (e->to != NONE) m->nodes[e->to].references--;
    *e = (struct edge){to, offset};
    if (to != NONE) m->nodes[to].references++;
    uintptr_t *memory = roots + at.index;
    if (at.node != NONE) memory = (uintptr_t *)reveal(m->nodes[at.node].hidden) + 1 + at.index;
    *memory = edge_word(m, e);
}

static void forget_node(struct model *m, uint32_t node) {
    struct node *n = &m->nodes[node];
    for (unsigned i = 0; i < EDGES; i++) {
        if (n->edges[i].to != NONE) m->nodes[n->edges[i].to].references--;
        n->edges[i].to = NONE;
    }
    n->used = false;
    m->free_nodes[m->free_count++] = node;
}

/* Walks from a random root along random edges. Returns a node that is reachable, or NONE; *LAST is
 * the reference that led to it. */
static uint32_t walk(struct model *m, struct place *last) {
    struct place at = {NONE, below(m, ROOTS)};
    uint32_t node = root_edges[at.index].to;
    *last = at;
    for (unsigned steps = below(m, 24); node != NONE && steps > 0; steps--) {
        unsigned edges = edge_count(&m->nodes[node]);
        if (edges == 0) break;
        at = (struct place){node, below(m, edges)};
        uint32_t next = edge_at(m, at)->to;
        if (next == NONE) break;
        node = next;
        *last = at;
    }
    return node;
}

/* A place for a new reference: an edge of a reachable node, or a root. */
static struct place somewhere(struct model *m) {
    struct place at;
    uint32_t node = walk(m, &at);
    unsigned edges = node == NONE ? 0 : edge_count(&m->nodes[node]);
    if (edges == 0) return at;
    unsigned start = below(m, edges);
    for (unsigned i = 0; i < edges; i++) /* rather one that is empty */
        if (m->nodes[node].edges[(start + i) % edges].to == NONE)
            return (struct place){node, (start + i) % edges};
    return (struct place){node, start};
}

static uint32_t random_offset(struct model *m, uint32_t to) {
    size_t size = m->nodes[to].size;
    return size < 2 || below(m, 3) > 0 ? 0 : below(m, (uint32_t)size);
}

/* ---- What is reachable ---------------------------------------------------------------------- */

/* Sets REACHED; returns how many nodes are. */
static uint32_t reach(struct model *m) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->capacity; i++) m->nodes[i].reached = false;
    for (unsigned i = 0; i < ROOTS; i++) {
        uint32_t to = root_edges[i].to;
        if (to == NONE || m->nodes[to].reached) continue;
        m->nodes[to].reached = true;
        m->queue[count++] = to;
    }
    for (uint32_t i = 0; i < count; i++) {
        for (unsigned e = 0; e < EDGES; e++) {
            uint32_t to = m->nodes[m->queue[i]].edges[e].to;
            if (to == NONE || m->nodes[to].reached) continue;
            m->nodes[to].reached = true;
            m->queue[count++] = to;
        }
    }
    return count;
}

/* Is the unreachable object N still there, rather than another one at its address? */
static bool is_there(const struct node *n) {
    const unsigned char *p = reveal(n->hidden);
    if (gc_size(p) < n->size) return false;
    for (size_t at = 0; at < n->size && at < 8; at++)
        if (p[at] != byte_of(n, at)) return false;
    return true;
}

/* Checks all that is reachable, and forgets the rest. After a full collection: counts what is left
 * of it. */
static void take_stock(struct model *m, bool collected) {
    uint32_t live = reach(m);
    if (live > m->result.most_live) m->result.most_live = live;
    for (uint32_t i = 0; i < live; i++) check_node(m, &m->nodes[m->queue[i]]);
    for (uint32_t i = 0; i < m->capacity; i++) {
        struct node *n = &m->nodes[i];
        if (!n->used || n->reached) continue;
        if (collected) {
            m->garbage++;
            m->retained += is_there(n);
        }
        forget_node(m, i);
    }
    if (gc_verify() != 0) child_fail(__FILE__, __LINE__, "the heap is broken");
}

static void collect_some(struct model *m) {
    bool full = below(m, 4) == 0;
    m->result.collections++;
    if (full) {
        collect(GC_FULL);
        take_stock(m, true);
    } else {
        REQUIRE_EQUAL(gc_collect(GC_MINOR), 0);
    }
}

/* ---- What the program does ------------------------------------------------------------------ */

static size_t random_size(struct model *m) {
    uint32_t kind = below(m, 1000);
    if (kind < 800) return 1 + below(m, 64);
    if (kind < 940) return 1 + below(m, 1024);
    if (kind < 980 || !m->plan->large) return 1024 + below(m, 7 * 1024 + 1);
    if (kind < 998) return 8 * 1024 + below(m, 56 * 1024);
    return 64 * 1024 + below(m, 960 * 1024);
}

static void *allocate_node(struct model *m, struct node *n) {
    switch (n->shape) {
    case AMBIGUOUS:
        return gc_alloc(n->size);
    case LEAF:
        return gc_alloc_leaf(n->size);
    case ALIGNED: {
        size_t alignment = (size_t)1 << below(m, below(m, 8) == 0 ? 18 : 10);
        void *p = gc_alloc_aligned(alignment, n->size);
        if ((uintptr_t)p % alignment != 0)
            child_fail(__FILE__, __LINE__, "%p at %zu", p, alignment);
        return p;
    }
    default:
        break;
    }
    char text[1024];
    n->size = 1 + below(m, sizeof text);
    for (size_t i = 0; i < n->size; i++) text[i] = (char)byte_of(n, i);
    return gc_strdup(text);
}

/* Drops roots until a quarter of the nodes is free. */
static void make_room(struct model *m) {
    for (unsigned i = below(m, ROOTS); m->free_count < m->capacity / 4; i = (i + 1) % ROOTS) {
        for (unsigned j = 0; j < ROOTS; j += 4)
            set_edge(m, (struct place){NONE, (i + j) % ROOTS}, NONE, 0);
        take_stock(m, false);
    }
}

static uint32_t new_node(struct model *m) {
    static const uint8_t shapes[16] = {AMBIGUOUS, AMBIGUOUS, AMBIGUOUS, AMBIGUOUS, AMBIGUOUS,
        AMBIGUOUS, AMBIGUOUS, AMBIGUOUS, AMBIGUOUS, AMBIGUOUS, ALIGNED, LEAF, LEAF, LEAF, LEAF,
        STRING};
    if (m->free_count == 0) make_room(m);
    uint32_t node = m->free_nodes[--m->free_count];
    struct node *n = &m->nodes[node];
    *n = (struct node){.id = ++m->next_id, .used = true, .size = random_size(m)};
    n->shape = shapes[below(m, 16)];
    for (unsigned i = 0; i < EDGES; i++) n->edges[i].to = NONE;
    void *p = allocate_node(m, n);
    if (p == NULL) child_fail(__FILE__, __LINE__, "no memory for %zu bytes", n->size);
    n->hidden = hide(p);
    m->result.allocations++;
    if (n->shape == STRING) return node;
    if (!all_bytes(p, 0, gc_size(p))) wrong(m, n, "not zero", 0);
    fill(n);
    return node;
}

/* Frees the node that LAST refers to, if nothing else does. */
static void free_node(struct model *m, uint32_t node, struct place last) {
    if (m->nodes[node].references != 1) return;
    check_node(m, &m->nodes[node]);
    set_edge(m, last, NONE, 0);
    gc_free(reveal(m->nodes[node].hidden));
    forget_node(m, node);
    m->result.frees++;
}

static void resize_node(struct model *m, uint32_t node, struct place last) {
    struct node *n = &m->nodes[node], old = *n;
    if (n->references != 1 || n->shape == STRING) return;
    for (unsigned i = 0; i < EDGES; i++)
        if (n->edges[i].to == node) return; /* the one reference is its own */
    size_t size = below(m, 2) == 0 ? random_size(m) : 1 + below(m, (uint32_t)n->size * 2);
    unsigned edges = edge_count(n);
    struct node resized = *n;
    resized.size = size;
    for (unsigned i = edge_count(&resized); i < edges; i++)
        set_edge(m, (struct place){node, i}, NONE, 0);
    unsigned char *p = gc_realloc(reveal(n->hidden), size);
    if (p == NULL) child_fail(__FILE__, __LINE__, "no memory for %zu bytes", size);
    m->result.reallocations++;
    size_t kept = size < old.size ? size : old.size;
    n->hidden = old.hidden = hide(p);
    memcpy(old.edges, n->edges, sizeof old.edges);
    check_contents(m, &old, kept);
    if (!all_bytes(p + kept, 0, gc_size(p) - kept)) wrong(m, n, "not zero after gc_realloc", kept);
    n->size = size;
    set_edge(m, last, node, 0);
    for (unsigned i = edges; i < edge_count(n); i++) set_edge(m, (struct place){node, i}, NONE, 0);
    fill(n);
}

static void pin_node(struct model *m, uint32_t node) {
    struct node *n = &m->nodes[node];
    char *inside = (char *)reveal(n->hidden) + random_offset(m, node);
    n->pinned = !n->pinned;
    REQUIRE_EQUAL(n->pinned ? gc_pin(inside) : gc_unpin(inside), 0);
}

static void step(struct model *m) {
    struct place last, at;
    uint32_t what = below(m, 1000), node, other;
    if (what < 450) {
        other = new_node(m);
        at = somewhere(m); /* chosen now: what was reachable before is reachable still */
        if (below(m, 8) > 0) set_edge(m, at, other, random_offset(m, other));
        return;
    }
    if (what >= 998) {
        if (m->plan->collections && below(m, 4) == 0) collect_some(m);
        return;
    }
    node = walk(m, &last);
    if (node == NONE) return;
    if (what < 700) {
        at = somewhere(m);
        set_edge(m, at, node, random_offset(m, node));
    } else if (what < 780) {
        set_edge(m, last, NONE, 0);
    } else if (what < 850) {
        free_node(m, node, last);
    } else if (what < 900) {
        resize_node(m, node, last);
    } else if (what < 920) {
        pin_node(m, node);
    } else {
        check_node(m, &m->nodes[node]);
    }
}

uint64_t model_seed(void) {
    const char *text = getenv("CAIRN_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = bench_mix((uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec) >> 32;
    if (text != NULL) seed = strtoull(text, NULL, 10);
    printf("CAIRN_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

void model_run(const struct model_plan *plan, struct model_result *result) {
    struct model m = {.plan = plan, .random.state = plan->seed};
    m.capacity = (uint32_t)plan->most_objects;
    m.nodes = calloc(m.capacity, sizeof *m.nodes);
    m.free_nodes = calloc(m.capacity, sizeof *m.free_nodes);
    m.queue = calloc(m.capacity, sizeof *m.queue);
    REQUIRE(m.nodes != NULL && m.free_nodes != NULL && m.queue != NULL);
    for (uint32_t i = 0; i < m.capacity; i++) m.free_nodes[m.free_count++] = i;
    for (unsigned i = 0; i < ROOTS; i++) root_edges[i].to = NONE;
    for (uint64_t i = 0; i < fewer(plan->steps); i++) step(&m);
    collect(GC_FULL);
    take_stock(&m, true);
    if (m.garbage > 0) m.result.retained_percent = 100.0 * (double)m.retained / (double)m.garbage;
    if (result != NULL) *result = m.result;
    for (unsigned i = 0; i < ROOTS; i++) set_edge(&m, (struct place){NONE, i}, NONE, 0);
    free(m.nodes);
    free(m.free_nodes);
    free(m.queue);
}
