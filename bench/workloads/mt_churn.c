/* A chained hash table that all threads share, with a lock for each 256th part.  They look up,
 * insert and delete random keys of a million, half of which are present.  What one thread stores
 * others use and delete; objects are made and freed outside the locks. */
#include "bench/threads.h"
#include "bench/random.h"

BENCH_THREADED_WORKLOAD(mt_churn, "each thread: 500 K operations on a shared table of 1 M keys", 1);

enum { STRIPES = 256 };

struct entry {
    struct entry *next;
    uint64_t key;
    uint32_t *payload; /* length + 1 words: the length, then words of the key's low half */
};
BENCH_TYPE(entry, BENCH_FIELD(entry, next), BENCH_FIELD(entry, payload));

/* What one thread changed. */
struct tally {
    uint64_t entries, keys; /* inserted less deleted: how many, and their sum */
} __attribute__((__aligned__(128)));

struct stripe {
    pthread_mutex_t lock; /* of the buckets whose number modulo STRIPES is the stripe's */
} __attribute__((__aligned__(128)));

/* Set before the threads start; the buckets' contents are changed under their stripe's lock. */
static struct stripe stripes[STRIPES];
static struct entry **buckets;
static uint64_t key_count, rounds;

static struct tally tallies[BENCH_MOST_THREADS];

static uint64_t key_of(uint64_t serial) {
    return bench_mix(serial + 1);
}

static uint64_t bucket_of(uint64_t key) {
    return bench_reduce(bench_mix(key), key_count);
}

/* Returns the link to KEY's entry, or to NULL at its chain's end. */
static struct entry **find(uint64_t bucket, uint64_t key) {
    struct entry **link = &buckets[bucket];
    while (*link != NULL && (*link)->key != key) link = &(*link)->next;
    return link;
}

static void lock(uint64_t bucket) {
    pthread_mutex_lock(&stripes[bucket % STRIPES].lock);
}

static void unlock(uint64_t bucket) {
    pthread_mutex_unlock(&stripes[bucket % STRIPES].lock);
}

static bool intact(const struct entry *entry) {
    uint32_t length = entry->payload[0];
    return length == 1 + entry->key % 12 && entry->payload[length] == (uint32_t)entry->key;
}

static uint32_t *make_payload(uint64_t key) {
    uint32_t length = 1 + (uint32_t)(key % 12);
    uint32_t *payload = bench_alloc_leaf((length + 1) * sizeof *payload);
    payload[0] = length;
    for (uint32_t i = 1; i <= length; i++) payload[i] = (uint32_t)key;
    return payload;
}

/* Stores a new payload for KEY, with a new entry if there is none. */
static void insert(uint64_t key, struct tally *tally) {
    uint32_t *payload = make_payload(key), *old = NULL;
    struct entry *fresh = bench_new_raw(entry);
    *fresh = (struct entry){.key = key, .payload = payload};
    uint64_t bucket = bucket_of(key);
    lock(bucket);
    struct entry **link = find(bucket, key), *present = *link;
    if (present == NULL) {
        *link = fresh;
    } else {
        old = present->payload;
        present->payload = payload;
    }
    unlock(bucket);
    if (present == NULL) {
        tally->entries++;
        tally->keys += key;
    } else {
        bench_free(old);
        bench_free(fresh);
    }
}

static void delete (uint64_t key, struct tally *tally) {
    uint64_t bucket = bucket_of(key);
    lock(bucket);
    struct entry **link = find(bucket, key), *entry = *link;
    if (entry != NULL) *link = entry->next;
    unlock(bucket);
    if (entry == NULL) return;
    tally->entries--;
    tally->keys -= key;
    bench_free(entry->payload);
    bench_free(entry);
}

/* Returns whether KEY has an entry that is damaged. */
static bool lookup(uint64_t key) {
    uint64_t bucket = bucket_of(key);
    lock(bucket);
    struct entry *entry = *find(bucket, key);
    bool damaged = entry != NULL && !intact(entry);
    unlock(bucket);
    return damaged;
}

static bool body(struct bench_strand *strand) {
    struct bench_random random = {(uint64_t)strand->number << 32};
    struct tally *tally = &tallies[strand->number];
    uint64_t damaged = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t key = key_of(bench_random_below(&random, key_count));
        switch (bench_random_below(&random, 4)) {
        case 0:
            insert(key, tally);
            break;
        case 1:
            delete (key, tally);
            break;
        default:
            damaged += lookup(key);
            break;
        }
    }
    bench_expect("the number of damaged entries looked up", damaged, 0);
    strand->ops = rounds;
    return false;
}

/* Every entry is intact, and what the threads say is left is there. */
static void check(const struct tally *sum) {
    uint64_t entries = 0, keys = 0, damaged = 0;
    for (uint64_t bucket = 0; bucket < key_count; bucket++) {
        for (const struct entry *entry = buckets[bucket]; entry != NULL; entry = entry->next) {
            entries++;
            keys += entry->key;
            damaged += !intact(entry) || bucket_of(entry->key) != bucket;
        }
    }
    bench_expect("the number of entries", entries, sum->entries);
    bench_expect("the sum of keys", keys, sum->keys);
    bench_expect("the number of damaged entries", damaged, 0);
}

static void run(double scale, int threads) {
    key_count = bench_scaled(1000000, scale, 1000);
    rounds = bench_scaled(500000, scale, 1000);
    buckets = bench_new_pointers(key_count);
    for (int i = 0; i < STRIPES; i++) pthread_mutex_init(&stripes[i].lock, NULL);
    struct tally sum = {0};
    for (uint64_t serial = 0; serial < key_count; serial += 2) insert(key_of(serial), &sum);
    bench_threads_run(threads, body);
    for (int i = 0; i < threads; i++) {
        sum.entries += tallies[i].entries;
        sum.keys += tallies[i].keys;
    }
    check(&sum);
    struct tally unused = {0};
    for (uint64_t serial = 0; BENCH_FREES && serial < key_count; serial++)
        delete (key_of(serial), &unused);
    bench_free(buckets);
    buckets = NULL;
}
