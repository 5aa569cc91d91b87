/* Side bytes (gc/block.c): the cover of marked objects and the sweep, which compute on 64 granules
 * at a time, against a walk over one granule after another, on blocks filled at random; and finding
 * an object from any granule. */
#include <string.h>

#include "bench/random.h"
#include "child.h"
#include "gc/block.h"
#include "model.h"

enum { BLOCKS = 2, GRANULES = BLOCKS * GCI_BLOCK_GRANULES, ROUNDS = 3000 };

struct picture {
    uint8_t side[GRANULES + 64];
    uint8_t tags[BLOCKS];
    int32_t object[GRANULES]; /* start of the object that covers it, or -1 */
    bool marked[GRANULES];    /* a marked object covers it */
    struct gci_arena arena;
    struct bench_random random;
};

static uint32_t below(struct picture *p, uint32_t n) {
    return (uint32_t)bench_random_below(&p->random, n);
}

/* Fills both blocks with objects and holes; of what length and how many marked differs from block
 * to block. */
static void draw(struct picture *p) {
    memset(p->side, 0, sizeof p->side);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        uint32_t longest = 1u << below(p, 9), holes = below(p, 4), live = below(p, 5);
        uint32_t at = b * GCI_BLOCK_GRANULES, end = at + GCI_BLOCK_GRANULES;
        p->tags[b] = GCI_USE_BUMP | GCI_TAG_UNSWEPT;
        while (at < end) {
            uint32_t length = 1 + below(p, longest);
            if (length > end - at) length = end - at;
            bool hole = below(p, 4) < holes, marked = !hole && below(p, 4) < live;
            for (uint32_t g = at; g < at + length; g++) {
                p->object[g] = hole ? -1 : (int32_t)at;
                p->marked[g] = marked;
            }
            if (!hole) {
                p->side[at] |= GCI_SIDE_START | (marked ? GCI_SIDE_MARK : 0);
                if (below(p, 5) == 0) p->side[at] |= GCI_SIDE_PINNED;
                p->side[at + length - 1] |= GCI_SIDE_END;
            }
            at += length;
        }
    }
    p->arena.side = p->side;
    p->arena.tags = p->tags;
}

static struct picture *new_picture(void) {
    static struct picture p;
    p.random.state = model_seed();
    return &p;
}

static void the_cover_is_what_a_walk_finds(void) {
    struct picture *p = new_picture();
    for (unsigned round = 0; round < ROUNDS; round++) {
        draw(p);
        uint32_t word = below(p, GRANULES / 64), rest = GCI_MASK_WORDS - word % GCI_MASK_WORDS;
        uint32_t words = round % 4 == 0 ? rest : 1 + below(p, rest);
        uint64_t cover[GCI_MASK_WORDS];
        gci_marked_cover(&p->arena, word * 64, words, cover);
        for (uint32_t g = 0; g < words * 64; g++)
            REQUIRE_EQUAL(cover[g / 64] >> g % 64 & 1, p->marked[word * 64 + g]);
    }
}

static void sweeping_clears_the_dead_and_nothing_else(void) {
    struct picture *p = new_picture();
    for (unsigned round = 0; round < ROUNDS; round++) {
        draw(p);
        static uint8_t before[sizeof p->side];
        memcpy(before, p->side, sizeof before);
        uint32_t block = below(p, BLOCKS), first = block * GCI_BLOCK_GRANULES;
        uint64_t cover[GCI_MASK_WORDS];
        gci_block_sweep(&p->arena, block, false, round % 2 == 0 ? cover : NULL);
        for (uint32_t g = 0; g < GRANULES; g++) {
            bool swept = g - first < GCI_BLOCK_GRANULES && !p->marked[g];
            REQUIRE_EQUAL(p->side[g], swept ? 0 : before[g]);
            if (round % 2 == 0 && g - first < GCI_BLOCK_GRANULES)
                REQUIRE_EQUAL(cover[(g - first) / 64] >> g % 64 & 1, p->marked[g]);
        }
        REQUIRE((p->tags[block] & GCI_TAG_UNSWEPT) == 0);
        REQUIRE((p->tags[1 - block] & GCI_TAG_UNSWEPT) != 0);
    }
}

static void an_object_is_found_from_each_of_its_granules(void) {
    struct picture *p = new_picture();
    for (unsigned round = 0; round < 300; round++) {
        draw(p);
        for (uint32_t g = 0; g < GRANULES; g++) {
            gci_object object = {0};
            bool found = gci_block_find(&p->arena, g, &object);
            REQUIRE_EQUAL(found, p->object[g] >= 0);
            if (!found) continue;
            REQUIRE_EQUAL(object.granule, p->object[g]);
            if (object.granule != g) continue;
            size_t granules = gci_small_granules(p->side, g);
            REQUIRE(p->side[g + granules - 1] & GCI_SIDE_END);
            REQUIRE_EQUAL(p->object[g + granules - 1], g);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(the_cover_is_what_a_walk_finds),
        CHILD_TEST(sweeping_clears_the_dead_and_nothing_else),
        CHILD_TEST(an_object_is_found_from_each_of_its_granules),
    };
    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
