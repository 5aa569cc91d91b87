/* Identity hashes: they stay with their objects, whatever becomes of these and of their
 * addresses. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/random.h"
#include "cairn/embed.h"
#include "child.h"
#include "model.h"
#include "support.h"
#include "threads_support.h"

struct node {
    struct node *next;
    uint64_t number;
    struct node *other;
};
GC_TYPE(struct node, next, other);

struct pair {
    struct pair *next;
    uint64_t number;
};
GC_TYPE(struct pair, next);

static struct node *root; /* stays where it is, since static data refers to it */

static __attribute__((noinline)) uintptr_t add(uint64_t number) {
    struct node *p = gc_new(struct node);
    REQUIRE(p != NULL);
    p->number = number;
    p->next = root->next;
    root->next = p;
    return hide(p);
}

/* And with it the next one made, which ends where it starts. */
static void start(void) {
    root = gc_new(struct node);
    REQUIRE(root != NULL && gc_new(struct node) != NULL);
}

static __attribute__((noinline)) uint64_t hash_of_first(void) {
    return gc_identity_hash(root->next);
}

static __attribute__((noinline)) bool first_is_at(uintptr_t hidden) {
    return hide(root->next) == hidden;
}

/* ---- Small programs ------------------------------------------------------------------------- */

static void a_hash_moves_with_its_object(void) {
    need_optimised_code();
    start();
    uintptr_t before = add(2);
    uint64_t hash = hash_of_first();
    REQUIRE(hash != 0);
    clear_stack();
    collect(GC_MINOR);
    REQUIRE(!first_is_at(before));
    REQUIRE(hash_of_first() == hash);
    collect(GC_FULL);
    collect(GC_MINOR);
    REQUIRE(hash_of_first() == hash);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_hash_asked_for_after_moving_stays(void) {
    start();
    add(2);
    collect(GC_MINOR);
    uint64_t hash = hash_of_first();
    collect(GC_MINOR);
    collect(GC_FULL);
    REQUIRE(hash_of_first() == hash);
}

static void objects_of_every_kind_and_size_have_one(void) {
    enum { COUNT = 9 };
    start();
    void *volatile objects[COUNT] = {gc_alloc(1), gc_alloc(100), gc_alloc(3000), gc_alloc(100000),
        gc_alloc_leaf(16), gc_alloc_leaf(200000), gc_new(struct node), gc_new(struct pair),
        gc_alloc_array(gc_type_of(root), 10000)};
    uint64_t hashes[COUNT];
    for (int i = 0; i < COUNT; i++) {
        REQUIRE((hashes[i] = gc_identity_hash(objects[i])) != 0);
        for (int j = 0; j < i; j++) REQUIRE(hashes[i] != hashes[j]);
    }
    for (int round = 0; round < 4; round++) {
        REQUIRE_EQUAL(gc_collect(round % 2 ? GC_FULL : GC_MINOR), 0);
        for (int i = 0; i < COUNT; i++) REQUIRE(gc_identity_hash(objects[i]) == hashes[i]);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
}

/* The table of docs/embedding.md. */
struct entry {
    void *key, *value;
};
GC_TYPE(struct entry, key, value);

static struct entry *find(struct entry *table, size_t mask, void *key) {
    size_t at = gc_identity_hash(key) & mask;
    while (table[at].key != NULL && table[at].key != key) at = (at + 1) & mask;
    return &table[at];
}

static __attribute__((noinline)) void insert(struct entry *table) {
    struct node *p = gc_new(struct node), *value = gc_new(struct node);
    *find(table, 1023, p) = (struct entry){p, value};
    p->next = root->next;
    p->number = root->next != NULL ? root->next->number + 1 : 0;
    value->number = p->number;
    root->next = p;
}

static void a_table_by_identity_survives_moves(void) {
    start();
    struct entry *table = gc_alloc_array(gc_type_of(gc_new(struct entry)), 1024);
    for (int i = 0; i < 500; i++) {
        insert(table);
        if (i % 100 == 60) clear_stack();
        if (i % 50 == 10) collect(i % 200 == 10 ? GC_FULL : GC_MINOR);
    }
    unsigned found = 0;
    for (struct node *p = root->next; p != NULL; p = p->next) {
        const struct entry *entry = find(table, 1023, p);
        REQUIRE(entry->key == p && ((struct node *)entry->value)->number == p->number);
        found++;
    }
    REQUIRE_EQUAL(found, 500);
    REQUIRE(statistics().moved_bytes > 100 * sizeof(struct node));
}

/* Of a block in which something stays, a compaction gives the pages back that all else has left. */
static __attribute__((noinline)) void make_sparse(void **held, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct node *p = gc_new(struct node);
        p->number = i;
        if (i % 1024 == 0) held[i / 1024] = p;
        if (i % 16 != 0) continue;
        p->next = root->next;
        root->next = p;
    }
}

static __attribute__((noinline)) void hash_all(uint64_t *hashes) {
    for (struct node *p = root->next; p != NULL; p = p->next)
        REQUIRE((hashes[p->number] = gc_identity_hash(p)) != 0);
}

static __attribute__((noinline)) void check_all(const uint64_t *hashes) {
    for (struct node *p = root->next; p != NULL; p = p->next)
        REQUIRE(gc_identity_hash(p) == hashes[p->number]);
}

static void hashes_outlive_compactions_around_what_stays(void) {
    enum { COUNT = 100 * 1024 };
    start();
    void **held = gc_alloc(COUNT / 1024 * sizeof *held);
    uint64_t *hashes = calloc(COUNT, sizeof *hashes);
    make_sparse(held, COUNT);
    collect(GC_FULL);
    hash_all(hashes);
    collect(GC_COMPACT);
    gc_stats stats = statistics();
    REQUIRE(stats.compact_moved > 0 && stats.compact_by_objects > 0);
    check_all(hashes);
    REQUIRE_EQUAL(gc_verify(), 0);
    collect(GC_FULL);
    check_all(hashes);
    REQUIRE(held[0] != NULL);
}

/* The same place again and again: never the same hash. */
static void an_address_used_again_has_another_hash(void) {
    enum { ROUNDS = 1000 };
    static uint64_t seen[ROUNDS];
    unsigned reused = 0;
    uintptr_t last = 0;
    for (int i = 0; i < ROUNDS; i++) {
        void *p = gc_alloc(48);
        seen[i] = gc_identity_hash(p);
        reused += last == hide(p);
        last = hide(p);
        gc_free(p);
        for (int j = 0; j < i; j++) REQUIRE(seen[i] != seen[j]);
    }
    REQUIRE(reused > ROUNDS / 2);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static __attribute__((noinline)) void hash_garbage(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct node *p = gc_new(struct node);
        REQUIRE(gc_identity_hash(p) != 0);
    }
}

static void the_dead_leave_the_table(void) {
    start();
    add(2);
    uint64_t hash = hash_of_first();
    hash_garbage(1000000);
    size_t before = resident_bytes();
    clear_stack();
    collect(GC_MINOR);
    collect(GC_FULL); /* the table shrinks */
    size_t after = resident_bytes();
    printf("%zu KB before, %zu KB after\n", before >> 10, after >> 10);
    REQUIRE(after + (10 << 20) < before);
    for (int i = 0; i < 20; i++) { /* and grows, and shrinks */
        hash_garbage(100000);
        collect(i % 3 == 0 ? GC_FULL : GC_MINOR);
        REQUIRE(hash_of_first() == hash);
    }
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_freed_object_leaves_the_table(void) {
    void *small = gc_alloc(32), *cell = gc_alloc(2000), *large = gc_alloc(50000);
    REQUIRE(gc_identity_hash(small) && gc_identity_hash(cell) && gc_identity_hash(large));
    gc_free(small);
    gc_free(cell);
    gc_free(large);
    REQUIRE_EQUAL(gc_verify(), 0);
    small = gc_alloc(32);
    REQUIRE(gc_identity_hash(small) != 0);
    collect(GC_FULL);
    gc_free(small); /* an old one */
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void realloc_keeps_the_hash(void) {
    static const size_t sizes[] = {
        16, 40, 1000, 1024, 1025, 5000, 8192, 8193, 100000, 300000, 20000, 9000, 3000, 100, 17, 16};
    void *p = gc_alloc(16);
    uint64_t hash = gc_identity_hash(p);
    unsigned moved = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uintptr_t before = hide(p);
        p = gc_realloc(p, sizes[i]);
        REQUIRE(p != NULL);
        moved += hide(p) != before;
        REQUIRE(gc_identity_hash(p) == hash);
        REQUIRE_EQUAL(gc_verify(), 0);
        REQUIRE_EQUAL(gc_collect(i % 3 == 0 ? GC_FULL : GC_MINOR), 0);
        REQUIRE(gc_identity_hash(p) == hash);
    }
    REQUIRE(moved > 4);
}

static void null_has_none(void) {
    errno = 0;
    REQUIRE(gc_identity_hash(NULL) == 0 && errno == 0);
}

static void an_interior_pointer_is_refused(void) {
    char *p = gc_alloc(64);
    REQUIRE(gc_identity_hash(p) != 0);
    gc_identity_hash(p + 8);
}

static void what_is_no_object_is_refused(void) {
    int here = 0;
    gc_identity_hash(&here);
}

static void a_freed_object_is_refused(void) {
    void *p = gc_alloc(64), *q = gc_alloc(64);
    REQUIRE(q != NULL && gc_identity_hash(p) != 0);
    gc_free(p);
    gc_identity_hash(p);
}

/* ---- No memory ------------------------------------------------------------------------------ */

static void no_memory_for_the_table_is_reported(void) {
    enum { COUNT = 200000 };
    void **objects = gc_alloc(COUNT * sizeof *objects);
    uint64_t *hashes = malloc(COUNT * sizeof *hashes);
    REQUIRE(objects != NULL && hashes != NULL);
    for (unsigned i = 0; i < COUNT; i++) REQUIRE((objects[i] = gc_alloc(32)) != NULL);
    struct rlimit none = {0, RLIM_INFINITY};
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &none), 0); /* nothing can be mapped from here on */
    unsigned given = 0;
    errno = 0;
    while (given < COUNT && (hashes[given] = gc_identity_hash(objects[given])) != 0) given++;
    printf("%u hashes without memory\n", given);
    REQUIRE(given == 0 && errno == ENOMEM);
    none.rlim_cur = RLIM_INFINITY;
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &none), 0);
    for (; given < 10; given++) REQUIRE((hashes[given] = gc_identity_hash(objects[given])) != 0);
    none.rlim_cur = 0;
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &none), 0);
    errno = 0;
    while (given < COUNT && (hashes[given] = gc_identity_hash(objects[given])) != 0) given++;
    printf("%u hashes in the first table\n", given);
    REQUIRE(given == 256 && errno == ENOMEM); /* as many as a page has entries */
    REQUIRE_EQUAL(gc_verify(), 0);
    none.rlim_cur = RLIM_INFINITY;
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &none), 0);
    for (; given < COUNT; given++) REQUIRE((hashes[given] = gc_identity_hash(objects[given])) != 0);
    collect(GC_FULL);
    for (unsigned i = 0; i < COUNT; i++) REQUIRE(gc_identity_hash(objects[i]) == hashes[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
    free(hashes);
}

/* ---- A random program ----------------------------------------------------------------------- */

/* Objects of several kinds hang on a table of slots, in memory that the collector changes.  The
 * model has each one's number and hash, if it was asked for it. */
enum { SLOTS_COUNT = 4096 };

struct known {
    uint64_t number, hash;
    uint32_t words; /* 0: nothing there */
};

struct random_model {
    struct bench_random random;
    void **slots;
    struct known known[SLOTS_COUNT];
    uint64_t last, moved, hashed;
    uintptr_t where[SLOTS_COUNT];
    uint64_t *seen; /* all hashes ever */
    size_t seen_count;
};

static uint32_t below(struct random_model *m, uint32_t n) {
    return (uint32_t)bench_random_below(&m->random, n);
}

static void check_slot(struct random_model *m, uint32_t i, bool ask) {
    struct known *k = &m->known[i];
    uint64_t *p = m->slots[i];
    REQUIRE((k->words == 0) == (p == NULL));
    if (p == NULL) return;
    REQUIRE(p[1] == k->number);
    m->moved += m->where[i] != hide(p);
    m->where[i] = hide(p);
    if (k->hash == 0 && !ask) return;
    uint64_t hash = gc_identity_hash(p);
    REQUIRE(hash != 0);
    if (k->hash == 0) {
        m->hashed++;
        m->seen[m->seen_count++] = k->hash = hash;
    }
    REQUIRE(k->hash == hash);
}

static __attribute__((noinline)) void fill_slot(struct random_model *m, uint32_t i) {
    struct known *k = &m->known[i];
    uint32_t kind = below(m, 20);
    uint64_t *p;
    *k = (struct known){.number = ++m->last};
    if (kind < 8)
        p = (uint64_t *)gc_new(struct node);
    else if (kind < 16)
        p = (uint64_t *)gc_new(struct pair);
    else if (kind < 17)
        p = gc_alloc_array(gc_type_of(root), 1 + below(m, 100));
    else
        p = kind < 18 ? gc_alloc(16 + below(m, 3000)) : gc_alloc_leaf(40);
    REQUIRE(p != NULL);
    k->words = (uint32_t)(gc_size(p) / 8);
    p[1] = k->number;
    m->slots[i] = p;
    m->where[i] = hide(p);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static __attribute__((noinline)) void step(struct random_model *m) {
    uint32_t what = below(m, 1000), i = below(m, SLOTS_COUNT);
    if (what < 400) {
        check_slot(m, i, false);
        fill_slot(m, i);
    } else if (what < 500) {
        m->slots[i] = NULL;
        m->known[i].words = 0;
    } else if (what < 520 && m->slots[i] != NULL) {
        gc_free(m->slots[i]);
        m->slots[i] = NULL;
        m->known[i].words = 0;
    } else if (what < 540 && m->slots[i] != NULL) {
        check_slot(m, i, false);
        void *p = gc_realloc(m->slots[i], 24 * (1 + below(m, 60)));
        REQUIRE(p != NULL);
        m->slots[i] = p;
        m->where[i] = hide(p);
    } else if (what < 542) {
        REQUIRE_EQUAL(gc_collect(below(m, 4) == 0 ? GC_FULL : GC_MINOR), 0);
    } else {
        check_slot(m, i, true);
    }
}

static void hashes_outlive_moves_deaths_and_reuse(void) {
    enum { STEPS = 300000 };
    static struct random_model m;
    struct random_model *volatile hidden = &m; /* static, but nothing in it is a reference */
    start();
    m.random.state = model_seed();
    size_t bytes = SLOTS_COUNT * sizeof *m.slots, seen = STEPS * sizeof *m.seen;
    m.slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    m.seen = mmap(NULL, seen, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m.slots != MAP_FAILED && m.seen != MAP_FAILED);
    REQUIRE_EQUAL(gc_add_slots(m.slots, SLOTS_COUNT), 0);
    /* CAIRN_STRESS makes a collection of every nth allocation: fewer do then. */
    uint32_t steps = (uint32_t)fewer(getenv("CAIRN_STRESS") != NULL ? STEPS / 8 : STEPS);
    for (uint32_t i = 0; i < steps; i++) {
        step(hidden);
        if (i % (steps / 20) != 0) continue;
        for (uint32_t s = 0; s < SLOTS_COUNT; s++) check_slot(&m, s, false);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
    qsort(m.seen, m.seen_count, sizeof *m.seen, compare);
    for (size_t i = 1; i < m.seen_count; i++) REQUIRE(m.seen[i] != m.seen[i - 1]);
    gc_stats stats = statistics();
    printf(
        "%llu objects, %llu with a hash, %llu moves seen, %llu minor and %llu full collections\n",
        (unsigned long long)m.last, (unsigned long long)m.hashed, (unsigned long long)m.moved,
        (unsigned long long)stats.minor.count, (unsigned long long)stats.full.count);
    REQUIRE(m.moved > 100);
}

/* ---- Threads and fork ----------------------------------------------------------------------- */

enum { SHARED = 20000, THREADS = 4 };

static gc_handle *shared[SHARED];
static uint64_t shared_hash[SHARED];
static int done;

static void *hash_shared(void *number) {
    struct bench_random random = {(uintptr_t)number + 1};
    for (unsigned i = 0; i < 400000; i++) {
        uint32_t at = (uint32_t)bench_random_below(&random, SHARED);
        struct node *p = gc_handle_get(shared[at]);
        uint64_t hash = gc_identity_hash(p), none = 0;
        REQUIRE(hash != 0 && p->number == at);
        if (!__atomic_compare_exchange_n(
                &shared_hash[at], &none, hash, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            REQUIRE(none == hash);
        if (i % 4 == 0) {
            struct node *q = gc_new(struct node);
            q->next = p;
            if (i % 8 == 0) REQUIRE(gc_identity_hash(q) != 0);
        }
    }
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static __attribute__((noinline)) void share(void) {
    for (unsigned i = 0; i < SHARED; i++) {
        struct node *p = gc_new(struct node);
        p->number = i;
        REQUIRE((shared[i] = gc_handle_new(p)) != NULL);
    }
}

static void threads_get_the_same_hashes(void) {
    share();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(hash_shared, (void *)i);
    for (int i = 0; __atomic_load_n(&done, __ATOMIC_SEQ_CST) < THREADS; i++) {
        REQUIRE_EQUAL(gc_collect(i % 4 == 3 ? GC_FULL : GC_MINOR), 0);
        nanosleep(&(struct timespec){0, 100000}, NULL); /* or the others would hardly run */
    }
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* An old object that gets a hash, or ends, moves the entry of a young one. */
static void *churn(void *unused) {
    const gc_type *type = gc_type_of(root);
    while (look_at(&done) == 0) {
        void *p = gc_alloc_old(type);
        REQUIRE(gc_identity_hash(p) != 0);
        gc_free(p);
    }
    return unused;
}

static void readers_and_a_writer_dont_disturb_one_another(void) {
    enum { COUNT = 3 };
    void *objects[COUNT];
    uint64_t hashes[COUNT];
    start();
    gc_disable(); /* the objects stay young */
    for (unsigned i = 0; i < COUNT; i++) hashes[i] = gc_identity_hash(objects[i] = gc_alloc(16));
    pthread_t writer = start_thread(churn, NULL);
    uint64_t until = now_ns() + 500000000;
    while (now_ns() < until)
        for (unsigned i = 0; i < 100000; i++)
            REQUIRE(gc_identity_hash(objects[i % COUNT]) == hashes[i % COUNT]);
    raise_flag(&done, 1);
    end_thread(writer);
    REQUIRE_EQUAL(gc_verify(), 0);
}

/* Children are made while other threads ask for hashes. */
static void a_child_goes_on_with_the_hashes(void) {
    share();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(hash_shared, (void *)i);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            alarm(CHILD_SECONDS);
            for (unsigned s = 0; s < SHARED; s++) {
                uint64_t hash = gc_identity_hash(gc_handle_get(shared[s]));
                uint64_t known = __atomic_load_n(&shared_hash[s], __ATOMIC_SEQ_CST);
                REQUIRE(hash != 0 && (known == 0 || hash == known));
            }
            REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
            REQUIRE_EQUAL(gc_verify(), 0);
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
        REQUIRE_EQUAL(status, 0);
    }
    for (int i = 0; i < THREADS; i++) end_thread(threads[i]);
}

/* ---- All of them ---------------------------------------------------------------------------- */

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(a_hash_moves_with_its_object),
        CHILD_TEST(a_hash_asked_for_after_moving_stays),
        CHILD_TEST(objects_of_every_kind_and_size_have_one),
        CHILD_TEST(a_table_by_identity_survives_moves),
        CHILD_TEST(hashes_outlive_compactions_around_what_stays, "CAIRN_NURSERY=64M"),
        CHILD_TEST(hashes_outlive_compactions_around_what_stays, "CAIRN_NURSERY=64M",
            "CAIRN_POISON=1", "CAIRN_VERIFY=1"),
        CHILD_TEST(an_address_used_again_has_another_hash),
        CHILD_TEST(the_dead_leave_the_table, "CAIRN_NURSERY=64M"),
        CHILD_TEST(a_freed_object_leaves_the_table),
        CHILD_TEST(realloc_keeps_the_hash),
        CHILD_TEST(null_has_none),
        CHILD_ABORT(an_interior_pointer_is_refused, "not the start of a live object", NULL),
        CHILD_ABORT(what_is_no_object_is_refused, "not the start of a live object", NULL),
        CHILD_ABORT(a_freed_object_is_refused, "not the start of a live object", NULL),
        CHILD_TEST(no_memory_for_the_table_is_reported),
        CHILD_TEST(hashes_outlive_moves_deaths_and_reuse, "CAIRN_NURSERY=256K"),
        CHILD_TEST(hashes_outlive_moves_deaths_and_reuse, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_NURSERY=1M"),
        CHILD_TEST(hashes_outlive_moves_deaths_and_reuse, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_STRESS=61"),
        CHILD_TEST(
            hashes_outlive_moves_deaths_and_reuse, "CAIRN_BARRIER=mprotect", "CAIRN_NURSERY=256K"),
        CHILD_TEST(
            hashes_outlive_moves_deaths_and_reuse, "CAIRN_BARRIER=none", "CAIRN_NURSERY=256K"),
        CHILD_TEST(
            hashes_outlive_moves_deaths_and_reuse, "CAIRN_BARRIER=uffd", "CAIRN_NURSERY=256K"),
        CHILD_TEST(threads_get_the_same_hashes, "CAIRN_NURSERY=1M"),
        CHILD_TEST(threads_get_the_same_hashes, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(readers_and_a_writer_dont_disturb_one_another),
        CHILD_TEST(a_child_goes_on_with_the_hashes, "CAIRN_NURSERY=1M"),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
