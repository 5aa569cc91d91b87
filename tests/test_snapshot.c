/* Heap snapshots: what is in the file is what is in the heap - every live object with its size and
 * references, checked against a shadow model - and roots have names.  The file is read here by a
 * small reader of its own; an existing one is asked by `make test-snapshot`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "cairn/finalize.h"
#include "child.h"
#include "support.h"

/* ---- The reader ----------------------------------------------------------------------------- */

enum { TYPE, NAME, ID, SIZE, EDGES, NODE_FIELDS = 7 };
enum { CONTEXT, ELEMENT, PROPERTY, INTERNAL, SHORTCUT = 5, WEAK };

struct edge {
    uint64_t type, name, to; /* TO: a node's number */
    size_t from;
};

struct snapshot {
    char *text;
    uint64_t *nodes;
    struct edge *edges;
    char **strings;
    size_t node_count, edge_count, string_count;
    size_t *first_edge;
};

/* The numbers of the list that follows NAME. */
static uint64_t *read_list(char *text, const char *name, size_t *count) {
    char *at = strstr(text, name);
    REQUIRE(at != NULL);
    at += strlen(name);
    size_t room = 1;
    for (const char *c = at; *c != ']'; c++) room += *c == ',';
    uint64_t *list = malloc(room * sizeof *list);
    for (*count = 0; *at != ']';) {
        list[(*count)++] = strtoull(at, &at, 10);
        at += strspn(at, ",\n");
    }
    return list;
}

/* Leaves escapes as they are. */
static void read_strings(struct snapshot *s) {
    char *at = strstr(s->text, "\"strings\":[");
    REQUIRE(at != NULL);
    at += strlen("\"strings\":[");
    s->strings = malloc(strlen(at) * sizeof *s->strings);
    while (*at != ']') {
        REQUIRE(*at == '"');
        s->strings[s->string_count++] = ++at;
        for (; *at != '"'; at++) at += *at == '\\';
        *at++ = '\0';
        at += strspn(at, ",\n");
    }
    REQUIRE(strcmp(at, "]}\n") == 0);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* What must hold of any snapshot. */
static void check_form(const struct snapshot *s) {
    uint64_t *ids = malloc(s->node_count * sizeof *ids);
    size_t edges = 0;
    for (size_t i = 0; i < s->node_count; i++) {
        const uint64_t *node = s->nodes + i * NODE_FIELDS;
        REQUIRE(node[NAME] < s->string_count);
        edges += node[EDGES];
        ids[i] = node[ID];
    }
    REQUIRE_EQUAL(edges, s->edge_count);
    qsort(ids, s->node_count, sizeof *ids, compare);
    for (size_t i = 1; i < s->node_count; i++) REQUIRE(ids[i] != ids[i - 1]);
    for (size_t i = 0; i < s->edge_count; i++) {
        REQUIRE(s->edges[i].type == ELEMENT || s->edges[i].name < s->string_count);
        REQUIRE(s->edges[i].type <= WEAK && s->edges[i].to < s->node_count);
    }
    free(ids);
}

static void parse(struct snapshot *s) {
    size_t count;
    s->nodes = read_list(s->text, "\"nodes\":[", &count);
    REQUIRE_EQUAL(count % NODE_FIELDS, 0);
    s->node_count = count / NODE_FIELDS;
    uint64_t *edges = read_list(s->text, "\"edges\":[", &count);
    REQUIRE_EQUAL(count % 3, 0);
    s->edge_count = count / 3;
    char counts[96];
    snprintf(counts, sizeof counts, "\"node_count\":%zu,\"edge_count\":%zu,", s->node_count,
        s->edge_count);
    REQUIRE(strstr(s->text, counts) != NULL);
    read_strings(s);
    s->edges = malloc((s->edge_count + 1) * sizeof *s->edges);
    for (size_t i = 0; i < s->edge_count; i++) {
        REQUIRE_EQUAL(edges[3 * i + 2] % NODE_FIELDS, 0);
        s->edges[i] =
            (struct edge){edges[3 * i], edges[3 * i + 1], edges[3 * i + 2] / NODE_FIELDS, 0};
    }
    free(edges);
    s->first_edge = malloc((s->node_count + 1) * sizeof *s->first_edge);
    s->first_edge[0] = 0;
    for (size_t i = 0; i < s->node_count; i++) {
        s->first_edge[i + 1] = s->first_edge[i] + s->nodes[i * NODE_FIELDS + EDGES];
        for (size_t e = s->first_edge[i]; e < s->first_edge[i + 1] && e < s->edge_count; e++)
            s->edges[e].from = i;
    }
    check_form(s);
}

static char *read_file(int file) {
    size_t used = 0, room = 1 << 16;
    char *text = malloc(room);
    for (ssize_t got; (got = read(file, text + used, room - used - 1)) > 0;) {
        used += (size_t)got;
        if (room - used < room / 2) text = realloc(text, room *= 2);
    }
    text[used] = '\0';
    return text;
}

static struct snapshot take(void) {
    struct snapshot s = {.text = NULL};
    int file = memfd_create("snapshot", 0);
    REQUIRE(file >= 0);
    REQUIRE_EQUAL(gc_snapshot_write_fd(file), 0);
    REQUIRE_EQUAL(lseek(file, 0, SEEK_SET), 0);
    s.text = read_file(file);
    close(file);
    parse(&s);
    return s;
}

static void drop(struct snapshot *s) {
    free(s->text);
    free(s->nodes);
    free(s->edges);
    free(s->strings);
    free(s->first_edge);
}

static const char *name_of(const struct snapshot *s, size_t node) {
    return s->strings[s->nodes[node * NODE_FIELDS + NAME]];
}

static size_t find_named(const struct snapshot *s, const char *name) {
    size_t found = 0;
    for (size_t i = 0; i < s->node_count; i++)
        if (strcmp(name_of(s, i), name) == 0) {
            REQUIRE_EQUAL(found, 0);
            found = i;
        }
    REQUIRE(found != 0);
    return found;
}

/* A node with TEXT in its name that has an edge of TYPE called EDGE (or, if that is NULL, any) to
 * TO? */
static bool refers(
    const struct snapshot *s, const char *text, uint64_t type, const char *edge, size_t to) {
    for (size_t i = 0; i < s->edge_count; i++) {
        const struct edge *e = &s->edges[i];
        if (e->to != to || strstr(name_of(s, e->from), text) == NULL) continue;
        if (edge == NULL || (e->type == type && strcmp(s->strings[e->name], edge) == 0))
            return true;
    }
    return false;
}

/* ---- Against a model ------------------------------------------------------------------------ */

struct node {
    struct node *left;
    uintptr_t number;
    struct node *right, *other;
};
GC_TYPE(struct node, left, right, other);

struct cell {
    struct cell *it;
};
GC_TYPE(struct cell, it);

struct anchor {
    void *none;
    char rest[40];
};
GC_TYPE(struct anchor, none);

enum { OBJECTS = 600, REFERENCES = 3 };
enum shape { NODE, CELLS, AMBIGUOUS, LARGE, LEAF, SHAPES };

static void **objects; /* slots */
static struct {
    enum shape shape;
    int to[REFERENCES]; /* -1: none */
} model[OBJECTS];

static void make(int i) {
    size_t sizes[] = {0, 0, 48, 20000, 100};
    enum shape shape = (enum shape)(rand() % SHAPES);
    model[i].shape = shape;
    for (int r = 0; r < REFERENCES; r++) model[i].to[r] = -1;
    objects[i] = shape == NODE    ? (void *)gc_new(struct node)
                 : shape == CELLS ? gc_alloc_array(gc_type_of(objects[0]), 8)
                 : shape == LEAF  ? gc_alloc_leaf(sizes[shape])
                                  : gc_alloc(sizes[shape]);
    REQUIRE(objects[i] != NULL);
}

/* Where reference R of an object of SHAPE stands. */
static void **place(int i, int r) {
    void **words = objects[i];
    if (model[i].shape == NODE) return words + (r == 0 ? 0 : r + 1);
    return words + (model[i].shape == LARGE ? 800 * r + 7 : r + 2);
}

static void link_randomly(int i) {
    for (int r = 0; r < REFERENCES && model[i].shape != LEAF; r++) {
        model[i].to[r] = rand() % 4 == 0 ? -1 : rand() % OBJECTS;
        void *to = model[i].to[r] < 0 ? NULL : objects[model[i].to[r]];
        gc_write(objects[i], place(i, r), to);
    }
}

static uintptr_t arena;

static size_t node_at(const struct snapshot *s, const uint64_t *order, const void *p) {
    uint64_t id = ((uintptr_t)p - arena) / 16 * 2 + 3;
    const uint64_t *found = bsearch(&id, order, s->node_count, 2 * sizeof *order, compare);
    REQUIRE(found != NULL);
    return (size_t)found[1];
}

static void check_object(const struct snapshot *s, const uint64_t *order, int i) {
    static const char *const names[] = {"struct node", "struct cell[]", "(ambiguous) 48 bytes",
        "(ambiguous) up to 32 KiB", "(leaf) 112 bytes"};
    static const char *const fields[] = {"left", "right", "other"};
    size_t at = node_at(s, order, objects[i]);
    const uint64_t *node = s->nodes + at * NODE_FIELDS;
    REQUIRE_EQUAL(node[SIZE], gc_size(objects[i]));
    if (strcmp(name_of(s, at), names[model[i].shape]) != 0)
        child_fail(__FILE__, __LINE__, "%s, not %s", name_of(s, at), names[model[i].shape]);
    size_t e = s->first_edge[at];
    for (int r = 0; r < REFERENCES; r++) {
        if (model[i].to[r] < 0) continue;
        const struct edge *edge = &s->edges[e++];
        char offset[32];
        snprintf(offset, sizeof offset, "+%zu", (size_t)((char *)place(i, r) - (char *)objects[i]));
        REQUIRE_EQUAL(edge->to, node_at(s, order, objects[model[i].to[r]]));
        switch (model[i].shape) {
        case NODE:
            REQUIRE(edge->type == PROPERTY && strcmp(s->strings[edge->name], fields[r]) == 0);
            break;
        case CELLS:
            REQUIRE(edge->type == ELEMENT && edge->name == (uint64_t)r + 2);
            break;
        default:
            REQUIRE(edge->type == CONTEXT && strcmp(s->strings[edge->name], offset) == 0);
        }
    }
    REQUIRE_EQUAL(e, s->first_edge[at + 1]);
}

static void check_model(struct anchor **anchor) {
    clear_stack();
    struct snapshot s = take();
    size_t at = find_named(&s, "struct anchor");
    arena = (uintptr_t)*anchor - (s.nodes[at * NODE_FIELDS + ID] - 3) / 2 * 16;
    uint64_t *order = malloc(s.node_count * 2 * sizeof *order);
    for (size_t i = 0; i < s.node_count; i++) {
        order[2 * i] = s.nodes[i * NODE_FIELDS + ID];
        order[2 * i + 1] = i;
    }
    qsort(order, s.node_count, 2 * sizeof *order, compare);
    for (int i = 1; i < OBJECTS; i++) check_object(&s, order, i);
    REQUIRE(s.node_count < OBJECTS + 120); /* what the stack may hold of garbage besides */
    free(order);
    drop(&s);
}

static void start_model(void) {
    srand(7);
    objects = calloc(OBJECTS + 1, sizeof *objects);
    REQUIRE_EQUAL(gc_add_slots(objects, OBJECTS + 1), 0);
    objects[0] = gc_new(struct cell);
    model[0].shape = LEAF; /* not looked at */
    objects[OBJECTS] = gc_new(struct anchor);
}

static void a_snapshot_is_what_is_in_the_heap(void) {
    start_model();
    for (int round = 0; round < 4; round++) {
        for (int i = 1; i < OBJECTS; i++)
            if (round == 0 || rand() % 3 == 0) make(i);
        /* What referred to an object that was replaced refers to the old one still. */
        for (int i = 1; i < OBJECTS; i++) link_randomly(i);
        check_model((struct anchor **)(void *)&objects[OBJECTS]);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* ---- Roots ---------------------------------------------------------------------------------- */

static struct anchor *volatile variable_that_holds;
static void *volatile table_that_holds[50];
static __thread struct anchor *volatile local_that_holds;

static __attribute__((noinline)) void hold_in_variable(void *none) {
    (void)none;
    variable_that_holds = gc_new(struct anchor);
}

static void a_static_variable_is_a_root(void) {
    call_below(hold_in_variable, NULL);
    struct snapshot s = take();
    REQUIRE(refers(&s, "variable_that_holds in ", CONTEXT, "+0", find_named(&s, "struct anchor")));
}

static __attribute__((noinline)) void hold_in_table(void *none) {
    (void)none;
    table_that_holds[10] = gc_new(struct anchor);
}

static void a_word_of_a_table_is_named_by_its_offset(void) {
    call_below(hold_in_table, NULL);
    struct snapshot s = take();
    REQUIRE(refers(&s, "table_that_holds in ", CONTEXT, "+80", find_named(&s, "struct anchor")));
}

static char *volatile pointer_past_the_end;

static __attribute__((noinline)) void hold_past_the_end(void *none) {
    (void)none;
    pointer_past_the_end = (char *)gc_alloc(3000) + 3264; /* a cell's size */
}

static void a_pointer_past_the_end_is_a_reference(void) {
    call_below(hold_past_the_end, NULL);
    struct snapshot s = take();
    size_t at = find_named(&s, "(ambiguous) 3264 bytes");
    REQUIRE(refers(&s, "pointer_past_the_end in ", CONTEXT, "+0", at));
}

static __attribute__((noinline)) void function_that_holds(void) {
    struct anchor *volatile held = gc_new(struct anchor);
    struct snapshot s = take();
    char thread[64];
    snprintf(thread, sizeof thread, ", thread %d", (int)getpid());
    size_t at = find_named(&s, "struct anchor");
    REQUIRE(refers(&s, "function_that_holds() +0x", CONTEXT, NULL, at));
    REQUIRE(refers(&s, thread, CONTEXT, NULL, at));
    REQUIRE(held != NULL);
}

static void a_frame_is_a_root(void) {
    need_optimised_code();
    function_that_holds();
}

static uint32_t ready, done;
static pid_t other;

static __attribute__((noinline)) void loop_that_holds(struct anchor *volatile *held) {
    *held = gc_new(struct anchor);
    other = gettid();
    __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) gc_safepoint();
}

static __attribute__((noinline)) void *thread_that_holds(void *none) {
    struct anchor *volatile held = NULL;
    loop_that_holds(&held);
    REQUIRE(held != NULL);
    return none;
}

static void a_frame_of_another_thread_is_a_root(void) {
    need_optimised_code();
    pthread_t thread;
    char name[64];
    gc_alloc(1);
    REQUIRE_EQUAL(gc_pthread_create(&thread, NULL, thread_that_holds, NULL), 0);
    while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) usleep(100);
    struct snapshot s = take();
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    REQUIRE_EQUAL(gc_pthread_join(thread, NULL), 0);
    size_t at = find_named(&s, "struct anchor");
    snprintf(name, sizeof name, ", thread %d", (int)other);
    REQUIRE(refers(&s, "thread_that_holds() +0x", CONTEXT, NULL, at));
    REQUIRE(refers(&s, name, CONTEXT, NULL, at));
}

static __attribute__((noinline)) void hold_in_others(void *p) {
    void **words = p;
    local_that_holds = gc_new(struct anchor);
    words[1] = gc_new(struct anchor);
    words[9] = gc_new(struct anchor);
    gc_handle_new(gc_new(struct anchor));
}

static void other_roots_are_named_too(void) {
    void **words = calloc(16, sizeof *words);
    REQUIRE_EQUAL(gc_add_slots(words, 8), 0);
    REQUIRE_EQUAL(gc_add_root(words + 8, 8 * sizeof *words), 0);
    call_below(hold_in_others, words);
    clear_stack();
    struct snapshot s = take();
    char slots[64], range[64];
    snprintf(slots, sizeof slots, "slots at %p", (void *)words);
    snprintf(range, sizeof range, "range at %p", (void *)(words + 8));
    unsigned found = 0;
    for (size_t i = 0; i < s.node_count; i++) {
        if (strcmp(name_of(&s, i), "struct anchor") != 0) continue;
        if (refers(&s, "thread-local variables", CONTEXT, NULL, i)) found |= 1;
        if (refers(&s, slots, PROPERTY, "+8", i)) found |= 2;
        if (refers(&s, range, CONTEXT, "+8", i)) found |= 4;
        if (refers(&s, "handles", ELEMENT, NULL, i)) found |= 8;
    }
    REQUIRE_EQUAL(found, 15);
}

/* ---- Ephemerons, weak tables, finalizers ---------------------------------------------------- */

static struct anchor *volatile key_that_lives;
static void *volatile weak_one;

static uint64_t id_of(const struct snapshot *s, size_t node) {
    return s->nodes[node * NODE_FIELDS + ID];
}

/* GUARD leads to HELD for the sake of the object named TABLE, which holds neither. */
static void check_pair(
    const struct snapshot *s, const char *format, size_t guard, size_t held, const char *table) {
    char name[200];
    size_t at = find_named(s, table);
    snprintf(name, sizeof name, format, id_of(s, guard), id_of(s, held), id_of(s, at));
    REQUIRE(refers(s, name_of(s, guard), INTERNAL, name, held));
    for (size_t e = s->first_edge[at]; e < s->first_edge[at + 1]; e++)
        REQUIRE_EQUAL(s->edges[e].type, WEAK);
}

#define PAIR_BY_KEY                                                                                \
    "1 / part of key (object @%lu) -> value (object @%lu) pair in WeakMap (table @%lu)"
#define PAIR_BY_VALUE "part of value (object @%lu) -> key (object @%lu) pair in table (table @%lu)"

static void hold_ephemeron(void *none) {
    (void)none;
    key_that_lives = gc_new(struct anchor);
    weak_one = gc_ephemeron_new(key_that_lives, gc_new(struct node));
}

static void the_value_of_an_ephemeron_is_held_by_its_key(void) {
    call_below(hold_ephemeron, NULL);
    struct snapshot s = take();
    size_t key = find_named(&s, "struct anchor"), value = find_named(&s, "struct node");
    check_pair(&s, PAIR_BY_KEY, key, value, "gc_ephemeron");
    REQUIRE(refers(&s, "gc_ephemeron", WEAK, "key", key));
    REQUIRE(refers(&s, "gc_ephemeron", WEAK, "value", value));
    REQUIRE(refers(&s, "weak_one in ", CONTEXT, "+0", find_named(&s, "gc_ephemeron")));
}

static enum gc_table_kind kind_of_table;

static void hold_table(void *none) {
    (void)none;
    gc_table *table = gc_table_new(kind_of_table, NULL, NULL);
    struct node *second = gc_new(struct node);
    weak_one = table;
    key_that_lives = gc_new(struct anchor);
    if (kind_of_table == GC_TABLE_WEAK_VALUES)
        REQUIRE_EQUAL(gc_table_set(table, second, key_that_lives), 0);
    else
        REQUIRE_EQUAL(gc_table_set(table, key_that_lives, second), 0);
    /* One without an object for a value. */
    REQUIRE_EQUAL(gc_table_set(table, key_that_lives->none = gc_alloc_leaf(100), (void *)8), 0);
}

static struct snapshot take_of_table(enum gc_table_kind kind) {
    need_optimised_code();
    kind_of_table = kind;
    call_below(hold_table, NULL);
    return take();
}

static void a_strong_table_holds_both(void) {
    struct snapshot s = take_of_table(GC_TABLE_STRONG);
    size_t key = find_named(&s, "struct anchor"), value = find_named(&s, "struct node");
    REQUIRE(refers(&s, "gc_table, strong", ELEMENT, NULL, key));
    REQUIRE(refers(&s, "gc_table, strong", ELEMENT, NULL, value));
    for (size_t e = 0; e < s.edge_count; e++) REQUIRE(s.edges[e].type != INTERNAL);
}

static void the_value_in_a_table_with_weak_keys_is_held_by_its_key(void) {
    struct snapshot s = take_of_table(GC_TABLE_WEAK_KEYS);
    size_t key = find_named(&s, "struct anchor"), value = find_named(&s, "struct node");
    check_pair(&s, PAIR_BY_KEY, key, value, "gc_table, weak keys");
}

static void the_key_in_a_table_with_weak_values_is_held_by_its_value(void) {
    struct snapshot s = take_of_table(GC_TABLE_WEAK_VALUES);
    size_t key = find_named(&s, "struct node"), value = find_named(&s, "struct anchor");
    check_pair(&s, PAIR_BY_VALUE, value, key, "gc_table, weak values");
}

static void a_table_that_is_weak_in_both_holds_nothing(void) {
    struct snapshot s = take_of_table(GC_TABLE_WEAK_BOTH);
    size_t leaf = find_named(&s, "(leaf) 112 bytes");
    REQUIRE(refers(&s, "gc_table, weak", WEAK, "key", leaf));
    for (size_t e = 0; e < s.edge_count; e++) REQUIRE(s.edges[e].type != INTERNAL);
}

enum { TABLES = 3, ALL = 400 };
static struct node *nodes[ALL];
static gc_table *tables[TABLES];
static size_t pairs_made;

static void make_pairs(void *none) {
    (void)none;
    srand(9);
    for (int i = 0; i < ALL; i++) nodes[i] = gc_new(struct node);
    for (int t = 0; t < TABLES; t++) tables[t] = gc_table_new(GC_TABLE_WEAK_KEYS, NULL, NULL);
    for (int t = 0; t < TABLES; t++)
        for (int i = 0; i < ALL; i++) {
            if (rand() % 3 == 0) continue;
            REQUIRE_EQUAL(gc_table_set(tables[t], nodes[i], nodes[rand() % ALL]), 0);
            pairs_made++;
        }
}

/* Each key is that of several pairs, in several tables; values are among the keys. */
static void each_pair_is_an_edge_of_its_own(void) {
    size_t found = 0;
    need_optimised_code();
    call_below(make_pairs, NULL);
    struct snapshot s = take();
    for (size_t e = 0; e < s.edge_count; e++) {
        const struct edge *edge = &s.edges[e];
        uint64_t guard, held;
        if (edge->type != INTERNAL) continue;
        int read = sscanf(s.strings[edge->name],
            "1 / part of key (object @%lu) -> value (object @%lu) pair", &guard, &held);
        REQUIRE_EQUAL(read, 2);
        REQUIRE_EQUAL(id_of(&s, edge->from), guard);
        REQUIRE_EQUAL(id_of(&s, edge->to), held);
        found++;
    }
    /* A word that is a pointer past the end of entries that were given up may hold these. */
    REQUIRE(found >= pairs_made && found <= pairs_made + 8 * TABLES);
}

static void do_nothing(void *p, void *data) {
    (void)p, (void)data;
}

static void hold_for_finalizer(void *none) {
    (void)none;
    struct anchor *dead = gc_new(struct anchor);
    REQUIRE_EQUAL(gc_finalizer_set(dead, do_nothing, gc_new(struct cell), GC_UNORDERED), 0);
}

static void what_waits_for_its_finalizer_is_a_root(void) {
    need_optimised_code();
    call_below(hold_for_finalizer, NULL);
    struct snapshot s = take();
    size_t ready_one = find_named(&s, "struct anchor"), data = find_named(&s, "struct cell");
    REQUIRE(refers(&s, "objects whose finalizers are ready", ELEMENT, NULL, ready_one));
    REQUIRE(refers(&s, "data of finalizers", ELEMENT, NULL, data));
    REQUIRE_EQUAL(gc_run_finalizers(), 1);
}

/* ---- Names ---------------------------------------------------------------------------------- */

static void ignore(void *p, void *data) {
    (void)p, (void)data;
}

/* NODE is left to be finalized, and just before it lies another object. */
static void *watched;
static void make_dead(void *unused) {
    (void)unused;
    char *dead = gc_alloc(5000), *data = gc_alloc(6000);
    REQUIRE_EQUAL(gc_finalizer_set(dead, ignore, NULL, GC_UNORDERED), 0);
    REQUIRE_EQUAL(gc_finalizer_set(watched, ignore, data, GC_UNORDERED), 0);
}

static void what_finalizers_keep_is_named(void) {
    need_optimised_code();
    watched = gc_alloc(64);
    call_below(make_dead, NULL);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_finalizers_ready(), 1);
    struct snapshot s = take();
    size_t queue = find_named(&s, "objects whose finalizers are ready");
    size_t data = find_named(&s, "data of finalizers");
    REQUIRE(refers(&s, "whose finalizers", 0, NULL, find_named(&s, "(ambiguous) 5040 bytes")));
    REQUIRE(refers(&s, "data of", 0, NULL, find_named(&s, "(ambiguous) 6544 bytes")));
    REQUIRE_EQUAL(s.nodes[queue * NODE_FIELDS + EDGES], 1);
    REQUIRE_EQUAL(s.nodes[data * NODE_FIELDS + EDGES], 1);
    drop(&s);
}

static void names_are_escaped(void) {
    uint32_t at[] = {0, 8};
    gc_type_desc desc = {.name = "a \"type\"\\\n\x01 \xc3\xa4 \xff\xed\xa0\x80",
        .size = 16,
        .pointers = at,
        .pointer_count = 2,
        .fields = " first field ,\n second"};
    const gc_type *type = gc_type_register(&desc);
    REQUIRE(type != NULL);
    struct node *volatile p = gc_alloc_typed(type);
    p->left = (void *)p;
    *((void **)p + 1) = p;
    struct snapshot s = take();
    size_t node = find_named(&s, "a \\\"type\\\"\\\\\\u000a\\u0001 \xc3\xa4 "
                                 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    REQUIRE(refers(&s, "type", PROPERTY, "first field", node));
    REQUIRE(refers(&s, "type", PROPERTY, "second", node));
}

/* ---- Files ---------------------------------------------------------------------------------- */

static char directory[] = "/tmp/cairn-snapshot-XXXXXX";
static char path[64];

static void need_directory(void) {
    REQUIRE(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/heap", directory);
}

/* Nothing else is in it; removes both. */
static void end_directory(void) {
    unlink(path);
    REQUIRE_EQUAL(rmdir(directory), 0);
}

static void write_text(const char *text) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
}

static void a_file_is_replaced_whole(void) {
    struct snapshot s = {.text = NULL};
    need_directory();
    write_text("old");
    int old = open(path, O_RDONLY);
    REQUIRE_EQUAL(gc_snapshot_write(path), 0);
    char text[8] = "";
    REQUIRE_EQUAL(read(old, text, sizeof text), 3);
    int file = open(path, O_RDONLY);
    s.text = read_file(file);
    parse(&s);
    end_directory();
}

static void a_full_disk_leaves_the_old_file(void) {
    struct rlimit limit = {1 << 20, 1 << 20};
    need_directory();
    write_text("old");
    void **held = calloc(40000, sizeof *held);
    REQUIRE_EQUAL(gc_add_root(held, 40000 * sizeof *held), 0);
    for (int i = 0; i < 40000; i++) held[i] = gc_alloc(32);
    REQUIRE_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    REQUIRE_EQUAL(gc_snapshot_write(path), EFBIG); /* and no SIGXFSZ */
    char *text = read_file(open(path, O_RDONLY));
    REQUIRE(strcmp(text, "old") == 0);
    end_directory();
    REQUIRE_EQUAL(gc_snapshot_write("/dev/full"), ENOSPC);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void wrong_files_are_refused(void) {
    static char longest[5000];
    memset(longest, 'a', sizeof longest - 1);
    REQUIRE_EQUAL(gc_snapshot_write(NULL), EINVAL);
    REQUIRE_EQUAL(gc_snapshot_write("/nonexistent/heap"), ENOENT);
    REQUIRE_EQUAL(gc_snapshot_write("/dev/null/heap"), ENOTDIR);
    REQUIRE_EQUAL(gc_snapshot_write("/tmp"), EISDIR);
    REQUIRE_EQUAL(gc_snapshot_write(""), ENOENT);
    REQUIRE_EQUAL(gc_snapshot_write(longest), ENAMETOOLONG);
    REQUIRE_EQUAL(gc_snapshot_write_fd(-1), EBADF);
    REQUIRE_EQUAL(gc_snapshot_write_fd(1000), EBADF);
    int file = open("/dev/null", O_RDONLY);
    REQUIRE_EQUAL(gc_snapshot_write_fd(file), EBADF);
    REQUIRE_EQUAL(gc_snapshot_write("/dev/null"), 0);
    struct stat null;
    REQUIRE(stat("/dev/null", &null) == 0 && S_ISCHR(null.st_mode));
}

/* Through a pipe, in pieces, to a child that reads slowly. */
static void a_pipe_gets_all_of_it(void) {
    int ends[2], status;
    REQUIRE_EQUAL(pipe(ends), 0);
    for (int i = 0; i < 50; i++) table_that_holds[i] = gc_alloc(100);
    pid_t child = fork();
    if (child == 0) {
        struct snapshot s = {.text = NULL};
        close(ends[1]);
        usleep(20000);
        s.text = read_file(ends[0]);
        parse(&s);
        _exit(0);
    }
    close(ends[0]);
    REQUIRE_EQUAL(gc_snapshot_write_fd(ends[1]), 0);
    close(ends[1]);
    REQUIRE_EQUAL(waitpid(child, &status, 0), child);
    REQUIRE_EQUAL(status, 0);
    REQUIRE_EQUAL(pipe(ends), 0);
    close(ends[0]);
    REQUIRE_EQUAL(gc_snapshot_write_fd(ends[1]), EPIPE); /* and no SIGPIPE */
}

/* ---- Beside other threads ------------------------------------------------------------------- */

static void *allocate_on(void *seed) {
    unsigned state = (unsigned)(uintptr_t)seed;
    struct node *list = NULL;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        for (int i = 0; i < 200; i++) {
            struct node *n = gc_new(struct node);
            gc_write(n, &n->left, rand_r(&state) % 50 == 0 ? NULL : list);
            list = n;
            if (i % 20 == 0) gc_write(n, &n->right, gc_alloc(rand_r(&state) % 30000));
        }
        nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    return NULL;
}

static void a_snapshot_is_whole_while_others_allocate(void) {
    pthread_t threads[3];
    gc_alloc(1);
    for (uintptr_t i = 0; i < 3; i++)
        REQUIRE_EQUAL(gc_pthread_create(&threads[i], NULL, allocate_on, (void *)(i + 1)), 0);
    for (int i = 0; i < 12; i++) {
        struct snapshot s = take(); /* which checks its form */
        for (size_t e = 0; e < s.edge_count; e++) REQUIRE(s.edges[e].type != WEAK);
        drop(&s);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++) REQUIRE_EQUAL(gc_pthread_join(threads[i], NULL), 0);
}

static void what_is_garbage_is_in_it_while_collection_is_disabled(void) {
    gc_disable();
    for (int i = 0; i < 100; i++) gc_alloc(3000);
    struct snapshot s = take();
    size_t count = 0;
    for (size_t i = 0; i < s.node_count; i++)
        count += strcmp(name_of(&s, i), "(ambiguous) 3264 bytes") == 0;
    REQUIRE_EQUAL(count, 100);
    gc_enable();
}

/* ---- main ----------------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_snapshot_is_what_is_in_the_heap, "CAIRN_VERIFY=1", "CAIRN_BARRIER=none"),
        CHILD_TEST(a_snapshot_is_what_is_in_the_heap, "CAIRN_VERIFY=1", "CAIRN_STRESS=150"),
        CHILD_TEST(a_snapshot_is_what_is_in_the_heap, "CAIRN_BARRIER=mprotect", "CAIRN_VERIFY=1",
            "CAIRN_PREPARES_WRITES=1", "CAIRN_PROTECT_MOVED=2"),
        CHILD_TEST(a_snapshot_is_what_is_in_the_heap, "CAIRN_BARRIER=explicit-cross",
            "CAIRN_STRESS=300", "CAIRN_ONE_PAST_END_IN_HEAP=0"),
        CHILD_TEST(a_static_variable_is_a_root),
        CHILD_TEST(a_word_of_a_table_is_named_by_its_offset),
        CHILD_TEST(a_pointer_past_the_end_is_a_reference),
        CHILD_TEST(a_frame_is_a_root),
        CHILD_TEST(a_frame_of_another_thread_is_a_root),
        CHILD_TEST(other_roots_are_named_too),
        CHILD_TEST(the_value_of_an_ephemeron_is_held_by_its_key, "CAIRN_VERIFY=1"),
        CHILD_TEST(the_value_of_an_ephemeron_is_held_by_its_key, "CAIRN_STRESS=1"),
        CHILD_TEST(a_strong_table_holds_both, "CAIRN_VERIFY=1"),
        CHILD_TEST(the_value_in_a_table_with_weak_keys_is_held_by_its_key, "CAIRN_VERIFY=1"),
        CHILD_TEST(the_key_in_a_table_with_weak_values_is_held_by_its_value, "CAIRN_VERIFY=1"),
        CHILD_TEST(a_table_that_is_weak_in_both_holds_nothing, "CAIRN_VERIFY=1"),
        CHILD_TEST(each_pair_is_an_edge_of_its_own, "CAIRN_VERIFY=1", "CAIRN_STRESS=97"),
        CHILD_TEST(what_waits_for_its_finalizer_is_a_root),

        CHILD_TEST(what_finalizers_keep_is_named),
        CHILD_TEST(names_are_escaped),
        CHILD_TEST(a_file_is_replaced_whole),
        CHILD_TEST(a_full_disk_leaves_the_old_file),
        CHILD_TEST(wrong_files_are_refused),
        CHILD_TEST(a_pipe_gets_all_of_it),
        CHILD_TEST(a_snapshot_is_whole_while_others_allocate),
        CHILD_TEST(a_snapshot_is_whole_while_others_allocate, "CAIRN_STOP=safepoint"),
        CHILD_TEST(what_is_garbage_is_in_it_while_collection_is_disabled),
    };
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
