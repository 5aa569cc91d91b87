/* Formats of words, as language runtimes have them (docs/tags.md), each told to the heap by options
 * and done here by the runtime's own arithmetic. */
#ifndef CAIRN_TESTS_TAG_FORMATS_H
#define CAIRN_TESTS_TAG_FORMATS_H

#include <stdbool.h>
#include <stdint.h>

#include "cairn/gc.h"

struct tag_format {
    const char *name;
    uint64_t mask, value, kind_mask, kinds, address_mask;
    uint32_t left, right;
    /* A reference to P.  SALT chooses among the kinds and the bits that are free. */
    uint64_t (*box)(const void *p, uint32_t salt);
    void *(*unbox)(uint64_t word);
    bool (*is_reference)(uint64_t word);
    /* A word with PAYLOAD, an address perhaps, in it that is no reference; 0 if there are none. */
    uint64_t (*immediate)(uint64_t payload);
};

#define TAG_FORMATS 7
extern const struct tag_format tag_formats[TAG_FORMATS];

/* That which CAIRN_TEST_FORMAT names. */
const struct tag_format *tag_format_chosen(void);

/* Opens the heap with it. */
void tag_format_open(const struct tag_format *format);

#endif
