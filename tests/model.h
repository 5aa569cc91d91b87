/* A random program and a model of what it must find: see model.c. */
#ifndef CAIRN_TESTS_MODEL_H
#define CAIRN_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model_plan {
    uint64_t seed;
    uint64_t steps;
    size_t most_objects; /* the model drops roots beyond this many */
    bool large;          /* objects of up to 1 MB, else of up to 8 KiB */
    bool collections;    /* asks for some itself */
};

struct model_result {
    uint64_t allocations, frees, reallocations, collections;
    size_t most_live;        /* objects */
    double retained_percent; /* of the garbage at its full collections, on average */
};

/* Runs in a child (it ends the process if anything is wrong).  RESULT may be NULL. */
void model_run(const struct model_plan *plan, struct model_result *result);

/* CAIRN_TEST_SEED, or else a new one; prints it. */
uint64_t model_seed(void);

#endif
