/* A long random test of threads on one heap: threads of every kind come and go, fork, block, switch
 * stacks, load and unload a plugin, and pass objects to one another, while others collect.
 *
 *     soak [--seconds N] [--threads N] [--seed N] [--without ACTION] [--help]
 *
 * The oracle is in the objects.  Each begins with an id, and every place that refers to one (an
 * edge in another object, or a struct place in memory that the collector doesn't search) knows the
 * id it must find there; so an object that was lost is noticed at once, the more surely under
 * CAIRN_POISON=1.  The objects that a thread can reach are its own, but for those in `shared`,
 * which nothing else refers to.  Any inconsistency ends the program with abort() and a message
 * that names the seed.  All of the heap's options come from the environment (docs/options.md);
 * tests/soak.sh runs it under many.
 *
 * Under ThreadSanitizer there are no forks, no plugin, no cancellations, no coroutines and no
 * gc_explain(): it loses its own state in these, or has calls of its own for them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "cairn/gc.h"
#include "plugin.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#define PLACES      24u /* of each thread: a third each on its stack, in its TLS, in a root range */
#define THIRD       (PLACES / 3)
#define SHARED      16u
#define EDGES_MAX   6u
#define THREADS_MAX 64u
#define TODO        4096u
#define CORO_BYTES  ((size_t)64 << 10)
#define PATIENCE    90u                 /* seconds without any action: a deadlock */
#define CHILD_SECS  120u                /* that a forked child may take */
#define ID_BIT      (UINT64_C(1) << 63) /* what looks like no address */
#define TINY_BIT    (UINT64_C(1) << 62) /* the object is its id, and nothing else */
#define POISONED    UINT64_C(0xfbfbfbfbfbfbfbfb)

/* ---- Objects -------------------------------------------------------------------------------- */

struct node;

struct edge {
    struct node *to;
    uint64_t id; /* of TO; 0: none */
};

struct node {
    uint64_t id;
    uint64_t check; /* of the id and the next three */
    uint32_t bytes;
    uint16_t edges;
    uint16_t leaf;
    uint64_t stamp; /* of the last search that came by */
    struct edge edge[];
};

/* ---- Threads -------------------------------------------------------------------------------- */

/* Where a reference is, and to what.  Lies in malloc's memory, so it keeps nothing alive. */
struct place {
    struct node **where;
    uint64_t id;
    bool solo; /* no other reference to the object exists */
};

enum ending { BY_RETURN, BY_EXIT, BY_CANCEL, ENDINGS };

struct worker {
    uint64_t random;
    uint64_t stamp;
    unsigned number;
    const char *doing;
    bool made;     /* by gc_pthread_create(), else a plain thread that attaches itself */
    bool detached; /* nobody joins it */
    bool child;    /* in a forked child */
    bool switches; /* calls gc_stack_switch() */
    bool blocking, ranged;
    uint32_t waiting;  /* to be cancelled; atomic */
    uint32_t finished; /* atomic */
    enum ending ending;
    unsigned steps;
    size_t budget, used; /* bytes that may be allocated before all is dropped, and are */
    uint64_t argument_id, result_id;
    pthread_t thread;
    struct place places[PLACES];
    struct node *range[THIRD]; /* a root range while RANGED */
    struct node *todo[TODO];
};

static struct options {
    unsigned seconds, threads;
    uint64_t seed;
} options = {10, 4, 0};

static __thread struct worker *self; /* malloc's */
static __thread struct node *locals[THIRD];
static __thread bool alone; /* has file descriptors of its own */
static __thread struct coroutine *entered;

static struct {
    pthread_mutex_t lock;
    struct node *tree;
    uint64_t id;
} shared[SHARED];

static uint32_t stopping;
static uint64_t progress;
static uint32_t plugin_taken; /* its static variables are in use */
static uint32_t loader_taken; /* see lock_loader() */
static bool by_safepoints, attaches_by_use;
static int messages = STDERR_FILENO; /* a copy of stderr */
static pthread_key_t late_key;

/* ---- Failing -------------------------------------------------------------------------------- */

static void __attribute__((format(printf, 1, 2), noreturn)) fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(messages, "soak: %s\n", text);
    abort();
}

/* Also when the library aborts. */
static void on_abort(int number) {
    (void)number;
    char text[160];
    int length = snprintf(text, sizeof text, "soak: aborted: seed %lu, thread %d%s, action %s\n",
        options.seed, self != NULL ? (int)self->number : -1,
        self != NULL && self->child ? " in a child" : "", self != NULL ? self->doing : "none");
    if (length > 0 && write(messages, text, (size_t)length) < 0) return;
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail("line %d: %s does not hold (errno %d)", __LINE__, #condition, errno);             \
    } while (0)

/* ---- Random numbers ------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t next_random(struct worker *w) {
    return mix(w->random += 0x9e3779b97f4a7c15u);
}

static unsigned below(struct worker *w, unsigned n) {
    return (unsigned)((next_random(w) >> 32) * n >> 32);
}

static bool one_in(struct worker *w, unsigned n) {
    return below(w, n) == 0;
}

/* ---- Making and checking objects ------------------------------------------------------------ */

static uint64_t check_of(const struct node *n) {
    return mix(n->id ^ n->bytes ^ (uint64_t)n->edges << 32 ^ (uint64_t)n->leaf << 48) | ID_BIT;
}

static size_t head_bytes(unsigned edges) {
    return sizeof(struct node) + edges * sizeof(struct edge);
}

static uint64_t pattern(uint64_t id, size_t word) {
    return mix(id + word) | ID_BIT;
}

/* Words FROM to END of the object: filled, or looked at, one by one or a few of many. */
static void fill(struct node *n, size_t from, size_t end) {
    uint64_t *words = (uint64_t *)(void *)n;
    for (size_t i = from; i < end; i++) words[i] = pattern(n->id, i);
}

static void look(struct worker *w, const struct node *n, size_t from, size_t end, bool zero) {
    const uint64_t *words = (const uint64_t *)(const void *)n;
    bool all = end - from <= 128;
    for (size_t i = from, seen = 0; i < end && (all || seen < 24); i++, seen++) {
        size_t at = all         ? i
                    : seen == 0 ? from
                    : seen == 1 ? end - 1
                                : from + below(w, (unsigned)(end - from));
        uint64_t expected = zero ? 0 : pattern(n->id, at);
        if (words[at] != expected)
            fail("object %p, id %#lx: word %zu of %zu is %#lx, not %#lx%s", (const void *)n, n->id,
                at, end, words[at], expected, words[at] == POISONED ? ": it was freed" : "");
    }
}

static size_t words_of(const struct node *n) {
    return n->bytes / sizeof(uint64_t);
}

static void check_node(struct worker *w, const struct node *n, uint64_t id) {
    if (n == NULL) fail("no reference to id %#lx", id);
    if (n->id != id)
        fail("object %p has id %#lx, not %#lx%s", (const void *)n, n->id, id,
            n->id == POISONED ? ": it was freed" : "");
    if (id & TINY_BIT) return;
    if (n->check != check_of(n)) fail("object %p, id %#lx: broken head", (const void *)n, id);
    look(w, n, head_bytes(n->edges) / sizeof(uint64_t), words_of(n), false);
}

static size_t random_bytes(struct worker *w) {
    switch (below(w, 64)) {
    case 0:
        return 8192 + below(w, 200000);
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        return 1024 + below(w, 8000);
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
        return 64 + below(w, 961);
    default:
        return 16 + below(w, 240);
    }
}

static void *get_memory(struct worker *w, size_t bytes, bool leaf) {
    if (leaf) return gc_alloc_leaf(bytes);
    if (one_in(w, 32)) {
        size_t alignment = (size_t)1 << below(w, 14);
        void *p = gc_alloc_aligned(alignment, bytes);
        if (p != NULL && (uintptr_t)p % alignment != 0)
            fail("%p isn't aligned to %zu", p, alignment);
        return p;
    }
    return gc_alloc(bytes);
}

/* A new object of BYTES with EDGES edges, all empty. */
static struct node *make_node(struct worker *w, size_t bytes, unsigned edges, bool leaf) {
    if (leaf) edges = 0;
    if (bytes < head_bytes(edges)) bytes = head_bytes(edges);
    struct node *n = get_memory(w, bytes, leaf);
    if (n == NULL) fail("no memory for %zu bytes", bytes);
    look(w, n, 0, bytes / sizeof(uint64_t), true);
    n->id = (next_random(w) | ID_BIT) & ~TINY_BIT;
    n->bytes = (uint32_t)bytes;
    n->edges = (uint16_t)edges;
    n->leaf = leaf;
    n->check = check_of(n);
    fill(n, head_bytes(edges) / sizeof(uint64_t), words_of(n));
    w->used += bytes;
    return n;
}

static struct node *make_tiny(struct worker *w) {
    struct node *n = below(w, 2) ? gc_alloc(8 + below(w, 9)) : gc_alloc_leaf(8 + below(w, 9));
    if (n == NULL) fail("no memory for a tiny object");
    if (n->id != 0) fail("new object %p isn't zero: %#lx", (void *)n, n->id);
    n->id = next_random(w) | ID_BIT | TINY_BIT;
    return n;
}

static struct node *make_any(struct worker *w) {
    if (one_in(w, 6)) return make_tiny(w);
    return make_node(w, random_bytes(w), below(w, EDGES_MAX + 1), one_in(w, 4));
}

/* A tree that nobody else refers to. */
static struct node *make_tree(struct worker *w, unsigned depth) {
    if (depth == 0) return make_any(w);
    struct node *n = make_node(w, random_bytes(w) % 3000, 1 + below(w, 3), false);
    for (unsigned i = 0; i < n->edges; i++) {
        struct node *child = make_tree(w, depth - 1);
        n->edge[i].id = child->id;
        n->edge[i].to = child;
    }
    return n;
}

static void check_tree(struct worker *w, const struct node *n, uint64_t id) {
    check_node(w, n, id);
    if (id & TINY_BIT) return;
    for (unsigned i = 0; i < n->edges; i++)
        if (n->edge[i].id != 0) check_tree(w, n->edge[i].to, n->edge[i].id);
}

static void free_tree(struct worker *w, struct node *n, uint64_t id) {
    check_node(w, n, id);
    for (unsigned i = 0; !(id & TINY_BIT) && i < n->edges; i++)
        if (n->edge[i].id != 0) free_tree(w, n->edge[i].to, n->edge[i].id);
    gc_free(n);
}

/* ---- Places --------------------------------------------------------------------------------- */

/* Volatile: the reference itself lives nowhere else for long. */
static struct node *get(const struct place *p) {
    return *(struct node *volatile *)p->where;
}

static void set(struct place *p, struct node *n, bool solo) {
    *(struct node *volatile *)p->where = n;
    p->id = n != NULL ? n->id : 0;
    p->solo = solo && n != NULL;
}

static struct place *any_place(struct worker *w) {
    return &w->places[below(w, PLACES)];
}

static void drop_all(struct worker *w) {
    for (unsigned i = 0; i < PLACES; i++) set(&w->places[i], NULL, false);
    w->used = 0;
}

static void check_places(struct worker *w) {
    for (unsigned i = 0; i < PLACES; i++)
        if (w->places[i].id != 0) check_node(w, get(&w->places[i]), w->places[i].id);
}

/* An object some way below place P; NULL if there is none with edges. */
static struct node *wander(struct worker *w, const struct place *p) {
    if (p->id == 0) return NULL;
    struct node *n = get(p), *last = NULL;
    uint64_t id = p->id;
    for (unsigned depth = 0; depth < 12; depth++) {
        check_node(w, n, id);
        if (id & TINY_BIT || n->edges == 0) break;
        last = n;
        const struct edge *e = &n->edge[below(w, n->edges)];
        if (e->id == 0) break;
        id = e->id;
        n = e->to;
    }
    return last;
}

/* ---- Actions -------------------------------------------------------------------------------- */

static void link_to(struct worker *w, struct edge *e) {
    struct place *p = any_place(w);
    if (p->id == 0) return;
    p->solo = false;
    e->id = p->id;
    e->to = get(p);
}

static void allocate(struct worker *w) {
    if (w->used > w->budget) drop_all(w);
    struct node *n = make_any(w);
    for (unsigned i = 0; !(n->id & TINY_BIT) && i < n->edges; i++)
        if (!one_in(w, 3)) link_to(w, &n->edge[i]);
    set(any_place(w), n, true);
}

/* A long list: work for several markers, and for a deep stack if edges lead on from it. */
static void grow(struct worker *w) {
    struct node *volatile last = NULL;
    for (unsigned i = below(w, 8000); i-- > 0 && w->used < w->budget;) {
        struct node *n = make_node(w, 60 + below(w, 60), 2, false);
        n->edge[0].id = last != NULL ? last->id : 0;
        n->edge[0].to = last;
        if (one_in(w, 8)) link_to(w, &n->edge[1]);
        last = n;
    }
    if (last != NULL) set(any_place(w), last, true);
}

static void link_objects(struct worker *w) {
    struct node *n = wander(w, any_place(w));
    if (n != NULL) link_to(w, &n->edge[below(w, n->edges)]);
}

static void unlink_objects(struct worker *w) {
    struct node *n = wander(w, any_place(w));
    if (n == NULL) return;
    struct edge *e = &n->edge[below(w, n->edges)];
    e->id = 0;
    e->to = NULL;
}

static void forget(struct worker *w) {
    set(any_place(w), NULL, false);
}

static void check_some(struct worker *w) {
    wander(w, any_place(w));
}

/* Everything that the thread can reach, as far as there is room to remember where to go. */
static void check_all(struct worker *w) {
    unsigned count = 0;
    w->stamp++;
    for (unsigned i = 0; i < PLACES; i++) {
        if (w->places[i].id == 0) continue;
        check_node(w, get(&w->places[i]), w->places[i].id);
        w->todo[count++] = get(&w->places[i]);
    }
    while (count > 0) {
        struct node *n = w->todo[--count];
        if (n->id & TINY_BIT || n->stamp == (w->stamp << 8 | w->number % 256)) continue;
        n->stamp = w->stamp << 8 | w->number % 256;
        for (unsigned i = 0; i < n->edges; i++) {
            if (n->edge[i].id == 0) continue;
            check_node(w, n->edge[i].to, n->edge[i].id);
            if (count < TODO) w->todo[count++] = n->edge[i].to;
        }
    }
}

static void free_one(struct worker *w) {
    struct place *p = any_place(w);
    if (!p->solo) return;
    struct node *n = get(p);
    check_node(w, n, p->id);
    set(p, NULL, false);
    gc_free(n);
}

static void resize(struct worker *w) {
    struct place *p = any_place(w);
    if (!p->solo || p->id & TINY_BIT) return;
    struct node *n = get(p);
    check_node(w, n, p->id);
    size_t old = n->bytes, bytes = random_bytes(w);
    if (bytes < head_bytes(n->edges)) bytes = head_bytes(n->edges);
    set(p, NULL, false);
    n = gc_realloc(n, bytes);
    if (n == NULL) fail("no memory for %zu bytes", bytes);
    size_t head = head_bytes(n->edges) / sizeof(uint64_t);
    size_t kept = (old < bytes ? old : bytes) / sizeof(uint64_t), end = bytes / sizeof(uint64_t);
    if (kept > head) look(w, n, head, kept, false);
    if (end > kept + 1) look(w, n, kept + 1, end, true); /* a part of one word may be kept */
    n->bytes = (uint32_t)bytes;
    n->check = check_of(n);
    if (end > kept) fill(n, kept, end);
    set(p, n, true);
    w->used += bytes;
}

static void copy_text(struct worker *w) {
    char text[200];
    unsigned length = below(w, sizeof text);
    memset(text, 'a' + (int)below(w, 26), length);
    text[length] = '\0';
    char *first = gc_strdup(text), *second = first != NULL ? gc_strdup(first) : NULL;
    if (second == NULL || strcmp(second, text) != 0) fail("a copied text differs");
    if (one_in(w, 2)) gc_free(first);
}

static void ask(struct worker *w) {
    struct place *p = any_place(w);
    if (p->id == 0) return;
    struct node *n = get(p);
    check_node(w, n, p->id);
    size_t bytes = p->id & TINY_BIT ? 8 : n->bytes;
    if (gc_size(n) < bytes) fail("gc_size(%p) is %zu, not %zu", (void *)n, gc_size(n), bytes);
    if (gc_base((char *)n + below(w, (unsigned)bytes)) != n) fail("gc_base() misses %p", (void *)n);
}

static void pin(struct worker *w) {
    struct place *p = any_place(w);
    if (p->id == 0) return;
    CHECK((one_in(w, 2) ? gc_pin(get(p)) : gc_unpin(get(p))) == 0);
}

static void give(struct worker *w) {
    unsigned i = below(w, SHARED);
    struct node *tree = make_tree(w, below(w, 4));
    uint64_t id = tree->id;
    if (w->child || pthread_mutex_trylock(&shared[i].lock) != 0) return;
    if (shared[i].id == 0) {
        shared[i].tree = tree;
        shared[i].id = id;
        tree = NULL;
    }
    pthread_mutex_unlock(&shared[i].lock);
    if (tree != NULL) free_tree(w, tree, id);
}

static void take(struct worker *w) {
    unsigned i = below(w, SHARED);
    if (w->child || pthread_mutex_trylock(&shared[i].lock) != 0) return;
    struct node *tree = shared[i].tree;
    uint64_t id = shared[i].id;
    bool keep = one_in(w, 3);
    if (id != 0) check_tree(w, tree, id);
    if (!keep) {
        shared[i].tree = NULL;
        shared[i].id = 0;
    }
    pthread_mutex_unlock(&shared[i].lock);
    if (keep || id == 0) return;
    if (one_in(w, 2))
        free_tree(w, tree, id);
    else
        set(any_place(w), tree, true);
}

/* Another thread may have disabled collection. */
static void collect(struct worker *w, enum gc_collection kind) {
    (void)w;
    int error = gc_collect(kind);
    if (error != 0 && error != EBUSY) fail("gc_collect(): %s", strerror(error));
}

static void collect_minor(struct worker *w) {
    collect(w, GC_MINOR);
}

static void collect_full(struct worker *w) {
    collect(w, GC_FULL);
}

static void read_stats(struct worker *w) {
    (void)w;
    gc_stats stats = {.size = sizeof stats};
    CHECK(gc_get_stats(&stats) == 0);
    CHECK(stats.threads >= 1 && stats.threads <= stats.thread_slots);
}

static void verify(struct worker *w) {
    (void)w;
    CHECK(gc_verify() == 0);
}

/* In a table of file descriptors of its own the thread can send its stderr elsewhere. */
static void explain(struct worker *w) {
    struct place *p = any_place(w);
    if (p->id == 0) return;
    if (!alone && unshare(CLONE_FILES) != 0) return;
    alone = true;
    int away = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (away < 0 || dup2(away, STDERR_FILENO) < 0) return;
    int error = gc_explain(get(p));
    dup2(messages, STDERR_FILENO);
    close(away);
    CHECK(error == 0);
    check_node(w, get(p), p->id);
}

static void add_range(struct worker *w) {
    struct node *volatile range[4] = {make_tree(w, 1), make_tiny(w), NULL, NULL};
    struct node **copy = malloc(sizeof range);
    CHECK(copy != NULL);
    for (unsigned i = 0; i < 4; i++) copy[i] = range[i];
    CHECK(gc_add_root(copy, sizeof range) == 0);
    uint64_t ids[2] = {range[0]->id, range[1]->id};
    range[0] = range[1] = NULL;
    for (unsigned i = below(w, 20); i-- > 0;) allocate(w);
    check_tree(w, copy[0], ids[0]);
    check_node(w, copy[1], ids[1]);
    CHECK(gc_remove_root(copy, sizeof range) == 0);
    CHECK(gc_remove_root(copy, sizeof range) == ENOENT);
    free(copy);
}

static void nap(struct worker *w) {
    if (one_in(w, 2))
        usleep(below(w, 2000));
    else
        sched_yield();
}

static void block(struct worker *w) {
    bool nested = one_in(w, 4);
    gc_blocking_begin();
    w->blocking = true;
    if (nested) gc_blocking_begin();
    nap(w);
    if (nested) gc_blocking_end();
    w->blocking = false;
    gc_blocking_end();
    check_places(w);
}

static void account(struct worker *w) {
    ptrdiff_t bytes = (ptrdiff_t)below(w, 1 << 20);
    gc_account_external(bytes);
    gc_account_external(-bytes);
}

static void disable(struct worker *w) {
    gc_disable();
    for (unsigned i = below(w, 10); i-- > 0;) allocate(w);
    gc_enable();
}

/* A system call that writes to an object, which may lie on a protected page. */
static void read_into(struct worker *w) {
    struct place *p = any_place(w);
    if (p->id == 0 || p->id & TINY_BIT) return;
    struct node *n = get(p);
    check_node(w, n, p->id);
    int pipe_ends[2];
    CHECK(pipe2(pipe_ends, O_CLOEXEC) == 0);
    CHECK(write(pipe_ends[1], &n->stamp, sizeof n->stamp) == sizeof n->stamp);
    gc_disable(); /* the next collection ends what was prepared; so does one that has begun */
    gc_prepare_write(&n->stamp, sizeof n->stamp);
    ssize_t got = read(pipe_ends[0], &n->stamp, sizeof n->stamp);
    gc_enable();
    CHECK(got == sizeof n->stamp || errno == EFAULT);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* ---- A plugin's variables ------------------------------------------------------------------- */

static void use_plugin(struct worker *w, const struct plugin_places *places, bool owner) {
    void **where[] = {places->local, places->data, places->bss, places->exported};
    uint64_t ids[4];
    unsigned count = owner ? 4 : 1;
    for (unsigned i = 0; i < count; i++) {
        struct node *tree = make_tree(w, 2);
        ids[i] = tree->id;
        *(void *volatile *)where[i] = tree;
    }
    for (unsigned i = below(w, 30); i-- > 0;) allocate(w);
    if (one_in(w, 4)) gc_collect(one_in(w, 2) ? GC_FULL : GC_MINOR);
    for (unsigned i = 0; i < count; i++) {
        check_tree(w, *(void *volatile *)where[i], ids[i]);
        *(void *volatile *)where[i] = NULL;
    }
}

/* Between dlopen() and dlclose() on the one hand and fork() on the other: a lock of the loader's
 * that is taken by one thread while another forks is taken for ever in the child (glibc 2.36
 * renews two of its three). */
static void lock_loader(void) {
    while (__atomic_exchange_n(&loader_taken, 1, __ATOMIC_ACQUIRE) != 0) {
        gc_safepoint();
        sched_yield();
    }
}

static void unlock_loader(void) {
    __atomic_store_n(&loader_taken, 0, __ATOMIC_RELEASE);
}

static void *load(struct worker *w, const char *path) {
    bool blocks = one_in(w, 2);
    lock_loader();
    if (blocks) gc_blocking_begin();
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (blocks) gc_blocking_end();
    unlock_loader();
    if (handle == NULL) fail("dlopen: %s", dlerror());
    return handle;
}

static void unload(struct worker *w, void *handle) {
    bool blocks = one_in(w, 2);
    lock_loader();
    if (blocks) gc_blocking_begin();
    dlclose(handle);
    if (blocks) gc_blocking_end();
    unlock_loader();
}

static void plugin(struct worker *w) {
    const char *path = getenv("CAIRN_TEST_PLUGIN");
    if (path == NULL) return;
    void *handle = load(w, path);
    void (*find)(struct plugin_places *) = NULL;
    *(void **)(void *)&find = dlsym(handle, "plugin_places");
    CHECK(find != NULL);
    struct plugin_places places;
    find(&places);
    bool owner = !w->child && __atomic_exchange_n(&plugin_taken, 1, __ATOMIC_ACQUIRE) == 0;
    use_plugin(w, &places, owner);
    if (owner) __atomic_store_n(&plugin_taken, 0, __ATOMIC_RELEASE);
    unload(w, handle);
}

/* ---- Coroutines ----------------------------------------------------------------------------- */

/* Lies on the stack of the thread that resumes it, so that the registers which swapcontext() saves
 * in it are searched. */
struct coroutine {
    ucontext_t here, caller;
    struct worker *worker;
    gc_stack *stack;
    void *memory;
    bool done;
};

static void yield_from(struct coroutine *co) {
    if (co->worker->switches) gc_stack_switch(NULL);
    swapcontext(&co->here, &co->caller);
}

static void run_coroutine(void) {
    struct coroutine *co = entered;
    struct worker *w = co->worker;
    struct node *volatile mine[3];
    uint64_t ids[3];
    for (unsigned i = 0; i < 3; i++) {
        mine[i] = make_tree(w, 2);
        ids[i] = mine[i]->id;
        yield_from(co);
    }
    for (unsigned round = below(w, 6); round-- > 0;) {
        for (unsigned i = below(w, 10); i-- > 0;) allocate(w);
        if (one_in(w, 8)) gc_collect(GC_MINOR);
        if (one_in(w, 8)) block(w);
        yield_from(co);
        for (unsigned i = 0; i < 3; i++) check_tree(w, mine[i], ids[i]);
    }
    co->done = true;
    yield_from(co);
    fail("a coroutine that is done goes on");
}

static void start_coroutine(struct worker *w, struct coroutine *co) {
    *co = (struct coroutine){.worker = w};
    co->memory = mmap(NULL, CORO_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(co->memory != MAP_FAILED);
    co->stack = gc_stack_register(co->memory, CORO_BYTES);
    CHECK(co->stack != NULL);
    CHECK(getcontext(&co->here) == 0);
    co->here.uc_stack = (stack_t){.ss_sp = co->memory, .ss_size = CORO_BYTES};
    makecontext(&co->here, run_coroutine, 0);
}

static void coroutines(struct worker *w) {
    struct coroutine all[3];
    unsigned count = 1 + below(w, 3), left = count;
    w->switches = one_in(w, 2); /* at every switch or at none */
    for (unsigned i = 0; i < count; i++) start_coroutine(w, &all[i]);
    while (left > 0) {
        struct coroutine *co = &all[below(w, count)];
        if (co->done) continue;
        entered = co;
        if (w->switches) gc_stack_switch(co->stack);
        swapcontext(&co->caller, &co->here);
        left -= co->done;
        if (one_in(w, 4)) allocate(w);
    }
    for (unsigned i = 0; i < count; i++) {
        CHECK(gc_stack_unregister(all[i].stack) == 0);
        CHECK(munmap(all[i].memory, CORO_BYTES) == 0);
    }
}

/* ---- Forking -------------------------------------------------------------------------------- */

static void few_steps(struct worker *w, unsigned steps);
static void *in_grandchild(void *argument);

/* The child has a copy of all, and one thread: this one.  Locks of ours may be held for ever. */
static void __attribute__((noreturn)) be_child(struct worker *w) {
    alarm(CHILD_SECS);
    w->child = true;
    w->doing = "fork, in the child";
    check_all(w);
    if (one_in(w, 2)) collect(w, one_in(w, 2) ? GC_FULL : GC_MINOR);
    few_steps(w, 100);
    if (one_in(w, 3)) {
        pthread_t thread;
        void *result;
        struct node *tree = make_tree(w, 2);
        uint64_t id = tree->id;
        CHECK(gc_pthread_create(&thread, NULL, in_grandchild, tree) == 0);
        tree = NULL;
        few_steps(w, 50);
        CHECK(gc_pthread_join(thread, &result) == 0);
        check_tree(w, result, id);
    }
    check_all(w);
    collect(w, GC_FULL);
    check_all(w);
    CHECK(gc_verify() == 0);
    _exit(0);
}

static void fork_child(struct worker *w) {
    lock_loader();
    pid_t pid = fork();
    if (pid == 0) be_child(w);
    unlock_loader();
    if (pid < 0) return;
    int status = 0;
    pid_t ended;
    gc_blocking_begin();
    do ended = waitpid(pid, &status, 0);
    while (ended < 0 && errno == EINTR);
    gc_blocking_end();
    if (ended != pid || status != 0)
        fail("the child %d of a fork ended with status %#x", (int)pid, (unsigned)status);
    check_places(w);
}

/* ---- Choosing ------------------------------------------------------------------------------- */

/* WEIGHT: how often, in 100,000 steps.  SMALL: also in a forked child. */
static struct action {
    const char *name;
    void (*function)(struct worker *w);
    unsigned weight;
    bool small;
    bool left_out; /* as it is set here: under ThreadSanitizer */
    uint64_t count;
} actions[] = {
    {"allocate", allocate, 40000, true, false, 0},
    {"allocate a list", grow, 50, false, false, 0},
    {"link", link_objects, 20000, true, false, 0},
    {"unlink", unlink_objects, 5000, true, false, 0},
    {"forget", forget, 2000, true, false, 0},
    {"check some", check_some, 10000, true, false, 0},
    {"check all", check_all, 200, true, false, 0},
    {"gc_free", free_one, 4000, true, false, 0},
    {"gc_realloc", resize, 4000, true, false, 0},
    {"gc_strdup", copy_text, 1000, true, false, 0},
    {"gc_size, gc_base", ask, 2000, true, false, 0},
    {"gc_pin, gc_unpin", pin, 1000, true, false, 0},
    {"give", give, 3000, false, false, 0},
    {"take", take, 3000, false, false, 0},
    {"gc_collect minor", collect_minor, 200, true, false, 0},
    {"gc_collect full", collect_full, 50, true, false, 0},
    {"gc_get_stats", read_stats, 300, true, false, 0},
    {"gc_verify", verify, 30, true, false, 0},
    {"gc_add_root", add_range, 300, true, false, 0},
    {"gc_blocking_begin", block, 600, true, false, 0},
    {"gc_account_external", account, 300, true, false, 0},
    {"gc_disable", disable, 100, true, false, 0},
    {"gc_prepare_write", read_into, 200, true, false, 0},
    {"gc_explain", explain, 40, false, true, 0},
    {"dlopen, dlclose", plugin, 150, false, true, 0},
    {"coroutines", coroutines, 150, true, true, 0},
    {"fork", fork_child, 40, false, true, 0},
};

#define ACTIONS (sizeof actions / sizeof *actions)

static uint64_t threads_made, threads_exited, threads_cancelled, attachments;

static void count(uint64_t *counter) {
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static struct action *choose(struct worker *w) {
    for (;;) {
        unsigned number = below(w, 100000);
        for (unsigned i = 0; i < ACTIONS; i++) {
            if (number >= actions[i].weight) {
                number -= actions[i].weight;
                continue;
            }
            if (w->child && !actions[i].small) break;
            if (actions[i].left_out) break;
            return &actions[i];
        }
    }
}

static void few_steps(struct worker *w, unsigned steps) {
    while (steps-- > 0) {
        struct action *action = choose(w);
        w->doing = action->name;
        action->function(w);
        count(&action->count);
        count(&progress);
        gc_safepoint();
        if (!w->child && __atomic_load_n(&stopping, __ATOMIC_RELAXED)) break;
    }
    w->doing = "nothing";
}

/* ---- A thread's life ------------------------------------------------------------------------ */

static struct worker *make_worker(uint64_t random, unsigned number) {
    struct worker *w = calloc(1, sizeof *w);
    CHECK(w != NULL);
    w->random = random;
    w->number = number;
    w->doing = "starting";
    w->budget = (size_t)1 << (14 + below(w, 9));
    return w;
}

static void *in_grandchild(void *argument) {
    struct worker *w = make_worker(((struct node *)argument)->id, 1000);
    struct node *volatile slots[THIRD] = {NULL};
    self = w;
    w->child = true;
    for (unsigned i = 0; i < PLACES; i++) w->places[i].where = (struct node **)&slots[i % THIRD];
    for (unsigned i = 0; i < 50; i++) {
        struct node *tree = make_tree(w, 2);
        check_tree(w, tree, tree->id);
        if (one_in(w, 20)) gc_collect(GC_MINOR);
    }
    self = NULL;
    free(w);
    return argument;
}

/* A destructor of thread-specific values may use the heap still. */
static void on_end(void *value) {
    struct worker w = {.random = (uintptr_t)value, .doing = "a destructor"};
    for (unsigned i = 0; i < 5; i++) {
        struct node *tree = make_tree(&w, 2);
        if (one_in(&w, 8)) gc_collect(GC_MINOR);
        check_tree(&w, tree, tree->id);
    }
}

static void attach(struct worker *w) {
    if (w->made) return;
    if (attaches_by_use && one_in(w, 2)) {
        make_tiny(w);
        return;
    }
    CHECK(gc_thread_attach() == 0);
    CHECK(gc_thread_attach() == EALREADY);
    count(&attachments);
}

static void add_places(struct worker *w, struct node *volatile *slots) {
    for (unsigned i = 0; i < THIRD; i++) {
        w->places[i].where = (struct node **)&slots[i];
        w->places[THIRD + i].where = &locals[i];
        w->places[2 * THIRD + i].where = &w->range[i];
    }
    CHECK(gc_add_root(w->range, sizeof w->range) == 0);
    w->ranged = true;
}

static void remove_places(struct worker *w) {
    check_all(w);
    drop_all(w);
    if (w->ranged) CHECK(gc_remove_root(w->range, sizeof w->range) == 0);
    w->ranged = false;
}

/* The main thread waits for WAITING, and cancels. */
static void wait_for_cancellation(struct worker *w) {
    int old;
    w->doing = "waiting to be cancelled";
    gc_blocking_begin();
    w->blocking = true;
    __atomic_store_n(&w->waiting, 1, __ATOMIC_RELEASE);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    for (;;) pause();
}

/* At the thread's end, whichever it has; unwound by a cancellation, inside gc_blocking_begin(). */
static void on_unwinding(void *p) {
    struct worker *w = p;
    if (w->blocking && one_in(w, 2)) {
        gc_blocking_end();
        w->blocking = false;
        for (unsigned i = 0; i < 10; i++) {
            struct node *n = make_any(w);
            check_node(w, n, n->id);
        }
    }
    self = NULL;
    __atomic_store_n(&w->finished, 1, __ATOMIC_RELEASE);
}

static struct node *make_result(struct worker *w) {
    if (w->detached) return NULL;
    struct node *result = make_tree(w, 2);
    w->result_id = result->id;
    return result;
}

/* Not from the thread's first function: frames are unwound. */
static void __attribute__((noinline, noreturn)) exit_nested(struct worker *w) {
    count(&threads_exited);
    gc_pthread_exit(make_result(w));
}

/* A thread that isn't made by gc_pthread_create() attaches itself, and may do so several times. */
static void live_once(struct worker *w, bool last) {
    struct node *volatile slots[THIRD] = {NULL};
    attach(w);
    add_places(w, slots);
    few_steps(w, 1 + below(w, w->steps));
    if (last && w->ending == BY_CANCEL) wait_for_cancellation(w);
    remove_places(w);
    w->doing = "ending";
    if (w->made || (last && one_in(w, 2))) {
        if (one_in(w, 2)) CHECK(pthread_setspecific(late_key, (void *)(w->random | 1)) == 0);
        if (last && w->ending == BY_EXIT) exit_nested(w);
        return;
    }
    int error = gc_thread_detach();
    CHECK(error == 0 || attaches_by_use);
    CHECK(gc_thread_detach() == ESRCH);
}

static void *live(struct worker *w) {
    void *volatile result = NULL;
    int old;
    self = w;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_cleanup_push(on_unwinding, w);
    for (unsigned times = w->made ? 1 : 1 + below(w, 3); times > 0; times--)
        live_once(w, times == 1);
    if (w->made) result = make_result(w);
    pthread_cleanup_pop(1);
    return result;
}

static void *live_plain(void *argument) {
    return live(argument);
}

/* The argument is an object, to which nothing else refers by now. */
static void *live_made(void *argument) {
    struct node *n = argument;
    struct worker *w = (struct worker *)(uintptr_t)n->stamp;
    check_node(w, n, w->argument_id);
    void *result = live(w);
    return result;
}

/* ---- The main thread ------------------------------------------------------------------------ */

static struct worker *running[THREADS_MAX];

static struct worker *start(struct worker *w, unsigned number) {
    struct worker *other = make_worker(next_random(w), number);
    other->made = one_in(w, 2);
    other->detached = one_in(w, 4);
    other->ending = below(w, UNDER_TSAN ? BY_CANCEL : ENDINGS);
    other->steps = 1u << below(w, 14);
    int error;
    if (other->made) {
        struct node *argument = make_node(w, 200, 0, one_in(w, 2));
        argument->stamp = (uintptr_t)other;
        other->argument_id = argument->id;
        error = gc_pthread_create(&other->thread, NULL, live_made, argument);
    } else {
        error = pthread_create(&other->thread, NULL, live_plain, other);
    }
    if (error != 0) fail("no thread could be made: %s", strerror(error));
    count(&threads_made);
    if (other->detached)
        CHECK((other->made ? gc_pthread_detach : pthread_detach)(other->thread) == 0);
    return other;
}

/* A result is a root until gc_pthread_join() has it. */
static void join(struct worker *w, struct worker *other) {
    void *result = NULL;
    if (other->result_id == 0 && one_in(w, 2)) {
        gc_blocking_begin();
        CHECK(pthread_join(other->thread, &result) == 0);
        gc_blocking_end();
    } else {
        CHECK(gc_pthread_join(other->thread, &result) == 0);
    }
    if (other->waiting)
        CHECK(result == PTHREAD_CANCELED);
    else if (other->result_id != 0)
        check_tree(w, result, other->result_id);
}

/* What a cancelled thread left in its root range is alive still. */
static void reap(struct worker *w, struct worker *other) {
    if (!other->detached) join(w, other);
    if (other->ranged) {
        for (unsigned i = 2 * THIRD; i < PLACES; i++)
            if (other->places[i].id != 0)
                check_node(w, get(&other->places[i]), other->places[i].id);
        CHECK(gc_remove_root(other->range, sizeof other->range) == 0);
    }
    free(other);
}

static unsigned look_after_threads(struct worker *w) {
    unsigned alive = 0;
    static unsigned number;
    for (unsigned i = 0; i < options.threads; i++) {
        struct worker *other = running[i];
        if (other == NULL) {
            if (__atomic_load_n(&stopping, __ATOMIC_RELAXED)) continue;
            running[i] = start(w, ++number);
            other = running[i];
        }
        alive++;
        if (__atomic_load_n(&other->waiting, __ATOMIC_ACQUIRE) == 1) {
            __atomic_store_n(&other->waiting, 2, __ATOMIC_RELAXED);
            CHECK(pthread_cancel(other->thread) == 0);
            count(&threads_cancelled);
        }
        if (!__atomic_load_n(&other->finished, __ATOMIC_ACQUIRE)) continue;
        reap(w, other);
        running[i] = NULL;
    }
    return alive;
}

/* Knows nothing of the heap. */
static void *watch(void *argument) {
    uint64_t seen = 0;
    unsigned idle = 0;
    (void)argument;
    for (;; sleep(1)) {
        uint64_t now = __atomic_load_n(&progress, __ATOMIC_RELAXED);
        idle = now == seen ? idle + 1 : 0;
        seen = now;
        if (idle < PATIENCE) continue;
        for (unsigned i = 0; i < options.threads; i++)
            if (running[i] != NULL)
                dprintf(messages, "soak: thread %u: %s\n", running[i]->number, running[i]->doing);
        fail("nothing has happened for %u s", PATIENCE);
    }
    return NULL;
}

static double seconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static void report_progress(double seconds) {
    gc_stats stats = {.size = sizeof stats};
    gc_get_stats(&stats);
    printf("%4.0f s: %lu actions, %lu threads made, %lu collections, %lu KB live\n", seconds,
        __atomic_load_n(&progress, __ATOMIC_RELAXED), threads_made, stats.all.count,
        stats.live_bytes / 1024);
}

static void report_all(double seconds) {
    gc_stats stats = {.size = sizeof stats};
    gc_get_stats(&stats);
    printf("%lu actions in %.1f s\n", progress, seconds);
    for (unsigned i = 0; i < ACTIONS; i++)
        printf("  %-22s %10lu\n", actions[i].name, actions[i].count);
    printf("threads: %lu made, of these %lu exited and %lu cancelled; %lu times attached\n",
        threads_made, threads_exited, threads_cancelled, attachments);
    printf("collections: %lu minor, %lu full; pauses %lu us half, %lu us at most; "
           "%lu records of threads, %lu workers\n",
        stats.minor.count, stats.full.count, stats.all.p50_ns / 1000, stats.all.max_ns / 1000,
        stats.thread_slots, stats.workers);
}

static void soak(struct worker *w) {
    struct timespec began;
    struct node *volatile slots[THIRD] = {NULL};
    double next = isatty(STDOUT_FILENO) ? 5 : 10, step = next;
    clock_gettime(CLOCK_MONOTONIC, &began);
    self = w;
    add_places(w, slots);
    while (look_after_threads(w) > 0) {
        few_steps(w, below(w, 50));
        gc_blocking_begin();
        usleep(500);
        gc_blocking_end();
        double seconds = seconds_since(&began);
        if (seconds >= options.seconds) __atomic_store_n(&stopping, 1, __ATOMIC_RELAXED);
        if (seconds < next) continue;
        report_progress(seconds);
        next += step;
    }
    for (unsigned i = 0; i < SHARED; i++)
        if (shared[i].id != 0) check_tree(w, shared[i].tree, shared[i].id);
    remove_places(w);
    CHECK(gc_collect(GC_FULL) == 0);
    CHECK(gc_verify() == 0);
    report_all(seconds_since(&began));
}

/* ---- Starting ------------------------------------------------------------------------------- */

static void __attribute__((noreturn)) usage(int status) {
    fprintf(status == 0 ? stdout : stderr,
        "usage: soak [--seconds N] [--threads N] [--seed N] [--help]\n"
        "Threads do random things with one heap, and check what they find in it.\n"
        "  --seconds N  how long, 10 if not given\n"
        "  --threads N  how many at a time, 4 if not given, %u at most\n"
        "  --seed N     of the random numbers; else it is chosen, and printed\n"
        "  --without ACTION  leaves it out, by its name in the list at the end; may be repeated\n"
        "CAIRN_TEST_PLUGIN names the plugin to load and unload; the heap's options come from the\n"
        "environment.\n",
        THREADS_MAX);
    exit(status);
}

static uint64_t number_of(const char *text) {
    char *end;
    errno = 0;
    unsigned long number = text != NULL ? strtoul(text, &end, 0) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != '\0' || errno != 0) usage(2);
    return number;
}

static void leave_out(const char *name) {
    for (unsigned i = 0; name != NULL && i < ACTIONS; i++) {
        if (strcmp(actions[i].name, name) != 0) continue;
        actions[i].left_out = true;
        return;
    }
    usage(2);
}

static void read_options(char **arguments) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    options.seed =
        mix((uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)getpid()) >> 32;
    for (; *arguments != NULL; arguments += 2) {
        if (strcmp(*arguments, "--help") == 0) usage(0);
        if (strcmp(*arguments, "--without") == 0) {
            leave_out(arguments[1]);
            continue;
        }
        uint64_t number = number_of(arguments[1]);
        if (strcmp(*arguments, "--seconds") == 0)
            options.seconds = (unsigned)number;
        else if (strcmp(*arguments, "--threads") == 0 && number > 0 && number <= THREADS_MAX)
            options.threads = (unsigned)number;
        else if (strcmp(*arguments, "--seed") == 0)
            options.seed = number;
        else
            usage(2);
    }
}

/* Who collects holds the loader's lock, and waits for all others to stop.  So where nobody is
 * interrupted, no thread may wait for one of the loader's locks: the plugin is left out, and the
 * library that unwinds threads is loaded before there are any. */
static void prepare_for_safepoints(void) {
    for (unsigned i = 0; i < ACTIONS; i++)
        if (actions[i].function == plugin) actions[i].left_out = true;
    CHECK(dlopen("libgcc_s.so.1", RTLD_NOW) != NULL);
}

static bool is_set(const char *name, const char *value) {
    const char *set = getenv(name);
    return set != NULL && strcmp(set, value) == 0;
}

int main(int argc, char **arguments) {
    pthread_t watcher;
    (void)argc;

    if (!UNDER_TSAN)
        for (unsigned i = 0; i < 4; i++) actions[ACTIONS - 1 - i].left_out = false;
    read_options(arguments + 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %lu\n", options.seed);
    by_safepoints = is_set("CAIRN_STOP", "safepoint");
    attaches_by_use = is_set("CAIRN_ATTACH", "auto");
    if (by_safepoints) prepare_for_safepoints();
    messages = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    signal(SIGABRT, on_abort);
    for (unsigned i = 0; i < SHARED; i++) pthread_mutex_init(&shared[i].lock, NULL);
    CHECK(gc_init(NULL) == 0);
    CHECK(pthread_key_create(&late_key, on_end) == 0);
    CHECK(pthread_create(&watcher, NULL, watch, NULL) == 0);
    struct worker *w = make_worker(options.seed, 0);
    soak(w);
    self = NULL;
    free(w);
    return 0;
}
