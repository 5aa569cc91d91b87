/* Phases that each allocate objects of another range of sizes and keep a random eighth of them:
 * what one phase leaves behind is of little use to the next, and peak memory shows what the
 * allocator makes of it.  Each object is filled with a pattern of its own, compared when it's
 * dropped and at the end. */
#include <string.h>

#include "bench/bench.h"
#include "bench/fragment.h"
#include "bench/random.h"

enum { BATCH = 4096, KEEP_ONE_IN = 8, DROP_ONE_IN = 4 };

struct range {
    uint16_t low, high; /* bytes */
};

static const struct range phases[] = {{16, 64}, {100, 300}, {500, 2000}, {24, 40}, {2000, 8000},
    {64, 128}, {300, 600}, {16, 32}, {1000, 4000}, {48, 96}, {200, 2000}, {16, 8000}};

/* The pattern follows; its words are odd multiples, far from any address. */
struct object {
    uint32_t words; /* of the whole object */
    uint32_t serial;
    uint64_t pattern[];
};

/* Every other object is an array of these, the rest are leaves. */
struct word {
    uint64_t bits;
};
BENCH_TYPE(word);

struct kept {
    struct object **object;
    uint64_t count, room;
    uint64_t serials; /* the sum of the objects' */
};

static uint64_t pattern_of(uint32_t serial) {
    return bench_mix(serial) | (uint64_t)1 << 63 | 1;
}

static struct object *make(uint64_t size, uint32_t serial) {
    uint32_t words = (uint32_t)((size + 7) / 8);
    void *block = serial % 2 == 0 ? bench_new_array_raw(word, words) : bench_alloc_leaf(words * 8);
    struct object *object = block;
    object->words = words;
    object->serial = serial;
    for (uint32_t i = 0; i + 1 < words; i++) object->pattern[i] = pattern_of(serial);
    return object;
}

static void check(const struct object *object) {
    uint64_t pattern = pattern_of(object->serial), wrong = 0;
    for (uint32_t i = 0; i + 1 < object->words; i++) wrong += object->pattern[i] != pattern;
    bench_expect("the number of damaged words in an object", wrong, 0);
}

static void drop(struct object *object) {
    check(object);
    bench_free(object);
}

static void enlarge(struct kept *kept) {
    kept->room *= 2;
    struct object **object = bench_new_pointers(kept->room);
    memcpy(object, kept->object, kept->count * sizeof *object);
    bench_free(kept->object);
    kept->object = object;
}

static void keep(struct kept *kept, struct object *object) {
    if (kept->count == kept->room) enlarge(kept);
    kept->object[kept->count++] = object;
    kept->serials += object->serial;
}

/* Forgets a random quarter of what earlier phases kept. */
static void thin_out(struct kept *kept, struct bench_random *random) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < kept->count; i++) {
        struct object *object = kept->object[i];
        if (bench_random_below(random, DROP_ONE_IN) == 0) {
            kept->serials -= object->serial;
            drop(object);
        } else {
            kept->object[count++] = object;
        }
    }
    for (uint64_t i = count; i < kept->count; i++) kept->object[i] = NULL;
    kept->count = count;
}

/* Allocates BYTES in objects of RANGE's sizes, in batches of which a part is kept. */
static uint32_t run_phase(struct kept *kept, struct range range, uint64_t bytes, uint32_t serial,
    struct bench_random *random) {
    struct object **batch = bench_new_pointers(BATCH);
    for (uint64_t done = 0; done < bytes;) {
        for (int i = 0; i < BATCH; i++) {
            uint64_t size = bench_random_between(random, range.low, range.high);
            batch[i] = make(size, serial++);
            done += size;
        }
        for (int i = 0; i < BATCH; i++) {
            if (bench_random_below(random, KEEP_ONE_IN) == 0)
                keep(kept, batch[i]);
            else
                drop(batch[i]);
        }
    }
    bench_free(batch);
    return serial;
}

void fragment(double scale, void (*after_last_phase)(void)) {
    uint64_t bytes = bench_scaled((size_t)64 << 20, scale, 1 << 16);
    struct kept kept = {.room = BATCH};
    kept.object = bench_new_pointers(kept.room);
    struct bench_random random = {5};
    uint32_t serial = 0;
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        thin_out(&kept, &random);
        serial = run_phase(&kept, phases[i], bytes, serial, &random);
    }
    if (after_last_phase != NULL) after_last_phase();
    uint64_t serials = 0;
    for (uint64_t i = 0; i < kept.count; i++) {
        serials += kept.object[i]->serial;
        drop(kept.object[i]);
    }
    bench_expect("the sum of serial numbers", serials, kept.serials);
    bench_free(kept.object);
}
