/* A chained hash table of a million entries under steady inserts, deletes and lookups: a cache.
 * Entries die old and in random order, and each insert writes to a random place of an old bucket
 * array. */
#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(hash_churn, "a table of 1 M entries, 2 M rounds of delete, insert and two lookups");

struct entry {
    struct entry *next;
    uint64_t key;
    uint32_t *payload; /* length + 1 words: the length, then words of the key's low half */
    uint64_t hits;
};
BENCH_TYPE(entry, BENCH_FIELD(entry, next), BENCH_FIELD(entry, payload));

struct table {
    struct entry **buckets;
    uint64_t bucket_count, entries;
};

static uint64_t key_of(uint64_t serial) {
    return bench_mix(serial + 1);
}

static struct entry **bucket_of(const struct table *table, uint64_t key) {
    return &table->buckets[bench_reduce(bench_mix(key), table->bucket_count)];
}

static struct entry *lookup(const struct table *table, uint64_t key) {
    struct entry *entry = *bucket_of(table, key);
    while (entry != NULL && entry->key != key) entry = entry->next;
    return entry;
}

static void insert(struct table *table, uint64_t key) {
    uint32_t length = 1 + (uint32_t)(key % 12);
    uint32_t *payload = bench_alloc_leaf((length + 1) * sizeof *payload);
    payload[0] = length;
    for (uint32_t i = 1; i <= length; i++) payload[i] = (uint32_t)key;
    struct entry *entry = bench_new_raw(entry), **bucket = bucket_of(table, key);
    *entry = (struct entry){.next = *bucket, .key = key, .payload = payload};
    BENCH_STORE(table->buckets, bucket, entry);
    table->entries++;
}

/* Returns whether there was such an entry. */
static bool delete (struct table *table, uint64_t key) {
    struct entry **link = bucket_of(table, key);
    void *holder = table->buckets;
    while (*link != NULL && (*link)->key != key) {
        holder = *link;
        link = &(*link)->next;
    }
    struct entry *entry = *link;
    if (entry == NULL) return false;
    BENCH_STORE(holder, link, entry->next);
    bench_free(entry->payload);
    bench_free(entry);
    table->entries--;
    return true;
}

static bool intact(const struct entry *entry) {
    uint32_t length = entry->payload[0];
    return length == 1 + entry->key % 12 && entry->payload[length] == (uint32_t)entry->key;
}

/* One round for each SERIAL from the table's size on: a random entry makes room for a new one. LIVE
 * has the serial numbers of the entries. */
static void churn(struct table *table, uint64_t *live, uint64_t rounds) {
    struct bench_random random = {2};
    uint64_t size = table->entries, deleted = 0, found = 0, ghosts = 0;
    for (uint64_t serial = size; serial < size + rounds; serial++) {
        uint64_t victim = bench_random_below(&random, size);
        uint64_t old = live[victim];
        deleted += delete (table, key_of(old));
        insert(table, key_of(serial));
        live[victim] = serial;
        ghosts += lookup(table, key_of(old)) != NULL;
        struct entry *entry = lookup(table, key_of(live[bench_random_below(&random, size)]));
        if (entry == NULL) continue;
        entry->hits++;
        found += intact(entry);
    }
    bench_expect("the number of entries deleted", deleted, rounds);
    bench_expect("the number of entries found", found, rounds);
    bench_expect("the number of entries found though deleted", ghosts, 0);
}

/* Walks the whole table: every entry of LIVE is there, once, and nothing else. */
static void check(const struct table *table, const uint64_t *live, uint64_t size) {
    uint64_t count = 0, keys = 0, expected = 0, good = 0;
    for (uint64_t i = 0; i < table->bucket_count; i++) {
        for (const struct entry *entry = table->buckets[i]; entry != NULL; entry = entry->next) {
            count++;
            keys += entry->key;
            good += intact(entry);
        }
    }
    for (uint64_t i = 0; i < size; i++) expected += key_of(live[i]);
    bench_expect("the number of entries", count, size);
    bench_expect("the number of intact entries", good, size);
    bench_expect("the sum of keys", keys, expected);
}

static void run(double scale) {
    uint64_t size = bench_scaled(1000000, scale, 1000);
    struct table table = {.bucket_count = size};
    table.buckets = bench_new_pointers(size);
    uint64_t *live = bench_alloc_leaf(size * sizeof *live);
    for (uint64_t i = 0; i < size; i++) {
        live[i] = i;
        insert(&table, key_of(i));
    }
    churn(&table, live, bench_scaled(2000000, scale, 2000));
    check(&table, live, size);
    if (BENCH_FREES) {
        for (uint64_t i = 0; i < size; i++) delete (&table, key_of(live[i]));
    }
    bench_free(table.buckets);
    bench_free(live);
}
