/* Text without pointers: strings of 8 to 200 bytes are made, concatenated, split and shared when
 * equal, in a table whose entries are replaced all the time.  Where there is no collector a string
 * counts its references, as a C program would.
 *
 * Each slot of the table remembers the length and the polynomial hash that its string must have.
 * For a concatenation and for the rear part of a split these are worked out from the parts' alone,
 * and the end compares them with the bytes. */
#include <string.h>

#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(strings, "200 K strings of 8 to 200 bytes made, joined, split, shared; 6 M steps");

enum { SHORTEST = 8, LONGEST = 200, SHARED = 1 << 14, WORDS = 5000 };

struct string {
    uint32_t length;
    uint32_t references; /* used without a collector only */
    char text[];
};

struct digest {
    uint32_t length;
    uint32_t hash;
};

struct strings {
    struct string **slot;
    struct digest *digest; /* of each slot's string */
    size_t count;
    struct string **shared; /* the last string seen with each hash modulo SHARED */
    uint32_t power[LONGEST + 1];
    struct bench_random random;
};

/* The text as a number to the base 31.  Four letters at a time, so that the multiplications
 * don't wait for one another: this measures an allocator. */
static uint32_t hash_text(const char *text, uint32_t length) {
    const unsigned char *t = (const unsigned char *)text;
    uint32_t hash = 0, i = 0;
    for (; i + 4 <= length; i += 4)
        hash = hash * (31 * 31 * 31 * 31) + t[i] * (31u * 31 * 31) + t[i + 1] * (31u * 31) +
               t[i + 2] * 31u + t[i + 3];
    for (; i < length; i++) hash = hash * 31 + t[i];
    return hash;
}

static struct string *new_string(uint32_t length) {
    struct string *string = bench_alloc_leaf(sizeof *string + length + 1);
    string->length = length;
    string->references = 1;
    string->text[length] = '\0';
    return string;
}

static void release(struct string *string) {
    if (BENCH_FREES && string != NULL && --string->references == 0) bench_free(string);
}

/* Takes over the caller's reference to STRING and puts it, or an equal string seen before, in SLOT.
 */
static void put(struct strings *strings, size_t slot, struct string *string, struct digest digest) {
    struct string **shared = &strings->shared[digest.hash % SHARED], *seen = *shared;
    if (seen != NULL && seen->length == string->length &&
        memcmp(seen->text, string->text, string->length) == 0) {
        if (BENCH_FREES) seen->references++;
        release(string);
        string = seen;
    } else {
        release(seen);
        if (BENCH_FREES) string->references++;
        *shared = string;
    }
    release(strings->slot[slot]);
    strings->slot[slot] = string;
    strings->digest[slot] = digest;
}

/* A word of a vocabulary of WORDS, so that equal ones come up. */
static void make(struct strings *strings, size_t slot) {
    uint64_t bits = bench_mix(bench_random_below(&strings->random, WORDS));
    uint32_t length = SHORTEST + (uint32_t)(bits % (LONGEST / 2 - SHORTEST + 1));
    struct string *string = new_string(length);
    for (uint32_t i = 0; i < length; i++) { /* sixteen letters from each number */
        if (i % 16 == 0) bits = bits * 6364136223846793005u + 1442695040888963407u;
        string->text[i] = (char)('a' + (bits >> i % 16 * 4) % 16);
    }
    put(strings, slot, string, (struct digest){length, hash_text(string->text, length)});
}

/* Returns whether the two strings were short enough. */
static bool join(struct strings *strings, size_t slot, size_t left, size_t right) {
    const struct string *a = strings->slot[left], *b = strings->slot[right];
    struct digest da = strings->digest[left], db = strings->digest[right];
    if (a->length + b->length > LONGEST) return false;
    struct string *string = new_string(a->length + b->length);
    memcpy(string->text, a->text, a->length);
    memcpy(string->text + a->length, b->text, b->length);
    struct digest digest = {da.length + db.length, da.hash * strings->power[db.length] + db.hash};
    put(strings, slot, string, digest);
    return true;
}

/* Splits the string in SLOT in two: the front stays there, the rear goes to OTHER. */
static bool split(struct strings *strings, size_t slot, size_t other) {
    const struct string *whole = strings->slot[slot];
    struct digest all = strings->digest[slot];
    if (whole->length < 2 * SHORTEST || slot == other) return false;
    uint32_t at =
        (uint32_t)bench_random_between(&strings->random, SHORTEST, whole->length - SHORTEST);
    struct string *front = new_string(at), *rear = new_string(whole->length - at);
    memcpy(front->text, whole->text, at);
    memcpy(rear->text, whole->text + at, whole->length - at);
    struct digest df = {at, hash_text(front->text, at)};
    struct digest dr = {all.length - at, all.hash - df.hash * strings->power[all.length - at]};
    put(strings, slot, front, df);
    put(strings, other, rear, dr);
    return true;
}

static void step(struct strings *strings) {
    size_t a = bench_random_below(&strings->random, strings->count);
    size_t b = bench_random_below(&strings->random, strings->count);
    size_t c = bench_random_below(&strings->random, strings->count);
    switch (bench_random_below(&strings->random, 4)) {
    case 0:
        make(strings, a);
        break;
    case 1:
        if (!split(strings, a, b)) make(strings, b);
        break;
    default:
        if (!join(strings, a, b, c)) make(strings, a);
        break;
    }
}

static void check(const struct strings *strings) {
    uint64_t wrong = 0;
    for (size_t i = 0; i < strings->count; i++) {
        const struct string *string = strings->slot[i];
        struct digest digest = strings->digest[i];
        wrong += string->length != digest.length || string->text[string->length] != '\0' ||
                 hash_text(string->text, string->length) != digest.hash;
    }
    bench_expect("the number of damaged strings", wrong, 0);
}

static void run(double scale) {
    struct strings strings = {.count = bench_scaled(200000, scale, 100), .random = {3}};
    strings.slot = bench_new_pointers(strings.count);
    strings.shared = bench_new_pointers(SHARED);
    strings.digest = bench_alloc_leaf(strings.count * sizeof *strings.digest);
    strings.power[0] = 1;
    for (int i = 1; i <= LONGEST; i++) strings.power[i] = strings.power[i - 1] * 31;
    for (size_t i = 0; i < strings.count; i++) make(&strings, i);
    size_t steps = bench_scaled(6000000, scale, 1000);
    for (size_t i = 0; i < steps; i++) step(&strings);
    check(&strings);
    if (BENCH_FREES) {
        for (size_t i = 0; i < strings.count; i++) release(strings.slot[i]);
        for (size_t i = 0; i < SHARED; i++) release(strings.shared[i]);
    }
    bench_free(strings.slot);
    bench_free(strings.shared);
    bench_free(strings.digest);
}
