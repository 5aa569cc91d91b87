/* Pointers to fresh objects stored all over a 200 MB old heap: the worst case of a barrier that
 * remembers pages, since soon every page was written to.  Slot and object of the i-th store are a
 * function of i, so that the checks need no memory of what was stored where. */
#include "bench/bench.h"
#include "bench/random.h"

BENCH_WORKLOAD(old_scatter, "10 M random stores of fresh objects into a 200 MB old heap");

enum { SLOTS = 63, CHECK_STEP = 64 };

struct fresh {
    uint64_t serial, slot;
    uint64_t rest;
};
BENCH_TYPE(fresh);

/* Every other object. */
struct longer {
    struct fresh fresh;
    uint64_t unused;
};
BENCH_TYPE(longer);

/* 512 bytes. */
struct page {
    uint64_t number;
    struct fresh *slot[SLOTS];
};
BENCH_TYPE(page, BENCH_FIELD(page, slot));

static uint64_t slot_of(uint64_t serial, uint64_t slots) {
    return bench_reduce(bench_mix(serial * BENCH_RANDOM_STEP), slots);
}

static struct page **build(uint64_t count) {
    struct page **pages = bench_new_pointers(count);
    for (uint64_t i = 0; i < count; i++) {
        BENCH_STORE(pages, &pages[i], bench_new(page));
        pages[i]->number = i;
    }
    return pages;
}

/* Returns how many slots it filled that were empty. */
static uint64_t scatter(struct page **pages, uint64_t slots, uint64_t stores) {
    uint64_t filled = 0;
    for (uint64_t serial = 0; serial < stores; serial++) {
        uint64_t slot = slot_of(serial, slots);
        struct fresh *fresh =
            serial % 2 == 0 ? bench_new_raw(fresh) : &bench_new_raw(longer)->fresh;
        fresh->serial = serial;
        fresh->slot = slot;
        fresh->rest = serial % 1000;
        struct page *page = pages[slot / SLOTS];
        struct fresh **place = &page->slot[slot % SLOTS];
        filled += *place == NULL;
        bench_free(*place);
        BENCH_STORE(page, place, fresh);
    }
    return filled;
}

/* Every object is in the slot that its serial number says, and for a sample of the stores, nothing
 * older than that store is in its slot. */
static void check(struct page **pages, uint64_t count, uint64_t stores, uint64_t filled) {
    uint64_t found = 0, misplaced = 0, stale = 0, slots = count * SLOTS;
    for (uint64_t slot = 0; slot < slots; slot++) {
        const struct page *page = pages[slot / SLOTS];
        const struct fresh *fresh = page->slot[slot % SLOTS];
        if (fresh == NULL) continue;
        found++;
        misplaced += fresh->slot != slot || slot_of(fresh->serial, slots) != slot ||
                     fresh->rest != fresh->serial % 1000 || page->number != slot / SLOTS;
    }
    for (uint64_t serial = 0; serial < stores; serial += CHECK_STEP) {
        uint64_t slot = slot_of(serial, slots);
        const struct fresh *fresh = pages[slot / SLOTS]->slot[slot % SLOTS];
        stale += fresh == NULL || fresh->serial < serial;
    }
    bench_expect("the number of filled slots", found, filled);
    bench_expect("the number of misplaced objects", misplaced, 0);
    bench_expect("the number of stale objects", stale, 0);
}

static void run(double scale) {
    uint64_t count = bench_scaled(400000, scale, 100);
    uint64_t stores = bench_scaled(10000000, scale, 1000);
    struct page **pages = build(count);
    uint64_t filled = scatter(pages, count * SLOTS, stores);
    check(pages, count, stores, filled);
    if (BENCH_FREES) {
        for (uint64_t i = 0; i < count; i++) {
            for (int slot = 0; slot < SLOTS; slot++) bench_free(pages[i]->slot[slot]);
            bench_free(pages[i]);
        }
    }
    bench_free(pages);
}
