/* Pointer arrays of 10 KB to 4 MB with a few fresh objects stored into each at random: large
 * objects come and go, and a collector must find the few words of them that were written. */
#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(large_arrays, "pointer arrays of 10 KB to 4 MB, sparsely written, some replaced");

enum { ARRAYS = 64, STORES_A_ROUND = 64, ROUNDS_A_REPLACEMENT = 24 };

struct item {
    uint64_t array, index, serial;
};
BENCH_TYPE(item);

struct array {
    struct item **items; /* the large object */
    uint64_t length, filled;
};
BENCH_TYPE(array, BENCH_FIELD(array, items));

/* From 1280 to 524288 words, each doubling as likely as the next. */
static uint64_t random_length(struct bench_random *random) {
    uint64_t length = 1280, doublings = bench_random_below(random, 9);
    length <<= doublings;
    length += bench_random_below(random, length);
    return length > 524288 ? 524288 : length;
}

static void renew(struct array *array, struct bench_random *random) {
    array->length = random_length(random);
    array->filled = 0;
    array->items = bench_new_pointers(array->length);
}

/* Every item says in which array and where it is.  Counts them, and frees them with their array. */
static void retire(struct array *array, uint64_t number) {
    uint64_t found = 0, misplaced = 0;
    for (uint64_t i = 0; i < array->length; i++) {
        struct item *item = array->items[i];
        if (item == NULL) continue;
        found++;
        misplaced += item->array != number || item->index != i;
        bench_free(item);
    }
    bench_expect("the number of items in an array", found, array->filled);
    bench_expect("the number of misplaced items", misplaced, 0);
    bench_free(array->items);
}

static void run(double scale) {
    struct array *arrays = bench_new_array(array, ARRAYS);
    struct bench_random random = {4};
    for (int i = 0; i < ARRAYS; i++) renew(&arrays[i], &random);
    uint64_t rounds = bench_scaled(60000, scale, 100), serial = 0;
    for (uint64_t round = 1; round <= rounds; round++) {
        uint64_t number = bench_random_below(&random, ARRAYS);
        struct array *array = &arrays[number];
        for (int i = 0; i < STORES_A_ROUND; i++) {
            uint64_t index = bench_random_below(&random, array->length);
            struct item *item = bench_new_raw(item);
            *item = (struct item){number, index, serial++};
            array->filled += array->items[index] == NULL;
            bench_free(array->items[index]);
            array->items[index] = item;
        }
        if (round % ROUNDS_A_REPLACEMENT != 0) continue;
        number = bench_random_below(&random, ARRAYS);
        retire(&arrays[number], number);
        renew(&arrays[number], &random);
    }
    for (uint64_t number = 0; number < ARRAYS; number++) retire(&arrays[number], number);
    bench_free(arrays);
}
