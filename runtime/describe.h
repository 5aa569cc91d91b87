/* Names for code: which function of which file instructions belong to, for reports and profiles;
 * and call stacks by libunwind.  All of it takes the loader's lock or libunwind's, and what says so
 * calls malloc: by a thread that isn't waited for (docs/profiling.md, rule 6). */
#ifndef CAIRN_RUNTIME_DESCRIBE_H
#define CAIRN_RUNTIME_DESCRIBE_H

#include <stddef.h>
#include <stdint.h>

/* Part of a file that is mapped as code. */
struct gci_mapping {
    uintptr_t start, end;
    uint64_t offset;   /* in the file */
    uintptr_t base;    /* what the loader adds to the file's addresses */
    char *path;        /* "" if it has none */
    char build_id[72]; /* hexadecimal; "" if there is none */
};

/* An instruction. */
struct gci_place {
    uintptr_t address;
    const struct gci_mapping *mapping; /* NULL: in no file */
    char *function;                    /* NULL: not known */
    uintptr_t function_start;
};

struct gci_places {
    struct gci_place *places; /* by address, none twice */
    size_t count;
    struct gci_mapping *mappings;
    size_t mapping_count;
};

/* Describes COUNT addresses, which may be in any order, but for 0.  Each file is read once.  What isn't known
 * stays so, but 0 places if there is no memory.  Calls malloc. */
struct gci_places gci_places_describe(const uintptr_t *addresses, size_t count);
void gci_places_free(struct gci_places *places);

/* That of ADDRESS; NULL if it was not among those described. */
const struct gci_place *gci_place_at(const struct gci_places *places, uintptr_t address);

/* "name (+0x1c) in prog", or what is known instead, into BUFFER. */
void gci_place_print(const struct gci_place *place, uintptr_t address, char *buffer, size_t bytes);

/* The calls, innermost first, that the calling thread's stack has above FRAME: at most MOST. */
uint32_t gci_backtrace(uintptr_t frame, uintptr_t *pcs, uint32_t most);

#endif
