/* A random program of typed and other objects, and a model of what it must find: see
 * typed_model.c. */
#ifndef CAIRN_TESTS_TYPED_MODEL_H
#define CAIRN_TESTS_TYPED_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tag_format;

struct typed_plan {
    uint64_t seed;
    uint64_t steps;
    uint32_t most_objects; /* the model drops references beyond this many */
    uint32_t check_every;  /* steps between two walks over all that is reachable */
    uint32_t
        ambiguous_one_in; /* so many objects, one is untyped or of a type that holds anything */
    uint32_t old_one_in;  /* so many typed objects, one is allocated old; 0: none */
    bool hashes;          /* asks for identity hashes */
    bool large;           /* arrays of 100 KB and 1 MB, too */
    bool static_root;     /* else the root is a word on the stack */
    bool compacts;        /* half of the full collections it asks for compact */
    const struct tag_format *format; /* of the heap's words, or NULL */
    bool by_tag;                     /* objects whose first word tells their layout, too */
};

struct typed_result {
    uint64_t allocations, moved, checks;
    uint32_t most_live;           /* objects */
    uint64_t moved_by_compaction; /* of leaves and objects beyond 1 KiB, that nothing else moves */
    double retained_percent;      /* of the garbage at full collections, on average */
};

/* It is less by far, but for plans in which much is ambiguous: 83 was seen. */
#define RETAINED_MOST 95

/* 120,000 steps with 10,000 objects, large ones and hashes too; less under CAIRN_STRESS. */
struct typed_plan typed_model_usual_plan(uint64_t seed);

/* Runs in a child (it ends the process if anything is wrong). */
void typed_model_run(const struct typed_plan *plan, struct typed_result *result);

/* Says in a line what happened. */
void typed_model_print(const struct typed_result *result);

#endif
