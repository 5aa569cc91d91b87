/* Larson and Krishnan's simulation of a server: each thread has an array of objects and replaces
 * random ones by new ones of random size; after some rounds it starts a thread, which takes over
 * the array, and ends.  So threads come and go all the time, and many objects are freed by another
 * thread than the one that made them.
 *
 * An object's first word has its length and its serial number, the last word is a function of the
 * first.  Every second object is a leaf. */
#include "bench/threads.h"
#include "bench/random.h"

BENCH_THREADED_WORKLOAD(larson, "each thread: 1 M random replacements, passed on 20 times", 1);

enum { OBJECTS = 1000, GENERATIONS = 20, SHORTEST = 10, LONGEST = 500 };

/* What a strand hands from thread to thread. */
struct server {
    struct bench_random random;
    uint64_t replaced, serials; /* the sum of the living objects' */
    uint64_t *object[OBJECTS];
};
BENCH_TYPE(server, BENCH_FIELD(server, object));

struct word {
    uint64_t bits;
};
BENCH_TYPE(word);

/* Of one thread; set before the threads start. */
static uint64_t rounds;

/* The word that ends an object with the first word HEADER: odd, and far from any address. */
static uint64_t seal_of(uint64_t header) {
    return bench_mix(header) | (uint64_t)1 << 63 | 1;
}

static uint64_t words_of(uint64_t header) {
    return header & 0xff;
}

static uint64_t serial_of(uint64_t header) {
    return header >> 8;
}

static uint64_t *make(struct server *server, uint64_t serial) {
    uint64_t bytes = bench_random_between(&server->random, SHORTEST, LONGEST);
    uint64_t words = (bytes + 7) / 8, header = serial << 8 | words;
    uint64_t *object =
        serial % 2 == 0 ? &bench_new_array_raw(word, words)->bits : bench_alloc_leaf(words * 8);
    object[0] = header;
    object[words - 1] = seal_of(header);
    server->serials += serial;
    return object;
}

static void check(const uint64_t *object) {
    uint64_t header = object[0], words = words_of(header);
    if (words * 8 < SHORTEST || words * 8 > LONGEST + 7)
        bench_fail("wrong result: an object of %llu words", (unsigned long long)words);
    bench_expect("the last word of an object", object[words - 1], seal_of(header));
}

static void drop(struct server *server, uint64_t *object) {
    check(object);
    server->serials -= serial_of(object[0]);
    bench_free(object);
}

static struct server *open_server(int number) {
    struct server *server = bench_new(server);
    server->random.state = (uint64_t)number << 32;
    for (int i = 0; i < OBJECTS; i++) server->object[i] = make(server, (uint64_t)i);
    return server;
}

static void close_server(struct server *server) {
    bench_expect("the number of replacements", server->replaced, rounds * GENERATIONS);
    for (int i = 0; i < OBJECTS; i++) drop(server, server->object[i]);
    bench_expect("what is left of the sum of serial numbers", server->serials, 0);
    bench_free(server);
}

static bool body(struct bench_strand *strand) {
    if (strand->generation == 0) strand->data = open_server(strand->number);
    struct server *server = strand->data;
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t **slot = &server->object[bench_random_below(&server->random, OBJECTS)];
        drop(server, *slot);
        *slot = make(server, OBJECTS + server->replaced++);
    }
    if (strand->generation < GENERATIONS - 1) return true;
    strand->ops = server->replaced;
    strand->data = NULL;
    close_server(server);
    return false;
}

static void run(double scale, int threads) {
    rounds = bench_scaled(1000000, scale, 100 * GENERATIONS) / GENERATIONS;
    bench_threads_run(threads, body);
}
