/* Writes profiles: as folded stacks, a line for each, and as the message Profile of pprof's
 * profile.proto, whose encoding (of Protocol Buffers) is done here: three kinds of fields are
 * needed, and libprotobuf-c and zlib would otherwise have to be linked into every program that uses
 * the library.  For that reason too the gzip file has its contents as they are, in stored blocks
 * (RFC 1951, 3.2.4; RFC 1952).  Owns nothing.  Called by gc/profile.c, in a thread that may take
 * any lock. */
#include "runtime/profile_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cairn/gc.h"
#include "runtime/describe.h"
#include "runtime/output.h"

#define UNKNOWN "[unknown]"

/* ---- Bytes ---------------------------------------------------------------------------------- */

struct bytes {
    uint8_t *at;
    size_t count, capacity;
    bool failed; /* there was no memory for all */
};

static void add(struct bytes *b, const void *what, size_t count) {
    if (count > b->capacity - b->count) {
        size_t capacity = 2 * (b->count + count) + 1024;
        uint8_t *more = realloc(b->at, capacity);
        if (more == NULL) b->failed = true;
        if (b->failed) return;
        b->at = more;
        b->capacity = capacity;
    }
    if (count > 0) memcpy(b->at + b->count, what, count);
    b->count += count;
}

/* ---- Folded stacks -------------------------------------------------------------------------- */

/* Names as they stand in a line: what separates frames can't be in one. */
static void add_name(struct bytes *b, const struct gci_place *place, uintptr_t address) {
    char text[600];
    if (place != NULL && place->function != NULL)
        snprintf(text, sizeof text, "%s", place->function);
    else
        gci_place_print(place, address, text, sizeof text);
    for (char *c = text; *c != '\0'; c++)
        if (*c == ';' || *c == '\n') *c = ':';
    add(b, text, strlen(text));
}

static void fold(struct bytes *b, const struct gci_profile *profile, unsigned value,
    const struct gci_places *places) {
    for (size_t i = 0; i < profile->count; i++) {
        const struct gci_profile_stack *stack = &profile->stacks[i];
        char number[32];
        if (stack->values[value] == 0) continue;
        for (uint32_t d = stack->depth; d-- > 0;) {
            uintptr_t address = stack->pcs[d] - 1;
            add_name(b, gci_place_at(places, address), address);
            if (d > 0) add(b, ";", 1);
        }
        if (stack->depth == 0) add(b, UNKNOWN, strlen(UNKNOWN));
        snprintf(number, sizeof number, " %lld\n", (long long)stack->values[value]);
        add(b, number, strlen(number));
    }
}

/* ---- Protocol Buffers ----------------------------------------------------------------------- */

static void add_varint(struct bytes *b, uint64_t value) {
    uint8_t text[10];
    size_t count = 0;
    do {
        text[count++] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        value >>= 7;
    } while (value != 0);
    add(b, text, count);
}

static void add_number(struct bytes *b, unsigned field, uint64_t value) {
    if (value == 0) return; /* the default */
    add_varint(b, field << 3 | 0);
    add_varint(b, value);
}

/* A string, a message, or packed numbers. */
static void add_part(struct bytes *b, unsigned field, const void *what, size_t count) {
    add_varint(b, field << 3 | 2);
    add_varint(b, count);
    add(b, what, count);
}

/* WHAT is emptied, to be used again. */
static void add_message(struct bytes *b, unsigned field, struct bytes *what) {
    add_part(b, field, what->at, what->count);
    b->failed |= what->failed;
    what->count = 0;
}

/* The fields' numbers in profile.proto. */
enum { SAMPLE_TYPE = 1, SAMPLE, MAPPING, LOCATION, FUNCTION, STRING_TABLE };
enum { TIME_NANOS = 9, DURATION_NANOS, PERIOD_TYPE, PERIOD, DEFAULT_SAMPLE_TYPE = 14 };

/* Strings are written as they come, and have the numbers 0, 1, ... in that order. */
struct encoder {
    struct bytes out, part, numbers;
    uint64_t strings;
};

static uint64_t string(struct encoder *e, const char *text) {
    add_part(&e->out, STRING_TABLE, text, strlen(text));
    return e->strings++;
}

static void add_value_type(struct encoder *e, unsigned field, uint64_t type, uint64_t unit) {
    add_number(&e->part, 1, type);
    add_number(&e->part, 2, unit);
    add_message(&e->out, field, &e->part);
}

static void encode_head(struct encoder *e, const struct gci_profile *profile) {
    string(e, "");
    uint64_t count = string(e, "count"), bytes = string(e, "bytes"), space = string(e, "space");
    uint64_t alloc_space = string(e, "alloc_space");
    add_value_type(e, SAMPLE_TYPE, string(e, "alloc_objects"), count);
    add_value_type(e, SAMPLE_TYPE, alloc_space, bytes);
    add_value_type(e, SAMPLE_TYPE, string(e, "inuse_objects"), count);
    add_value_type(e, SAMPLE_TYPE, string(e, "inuse_space"), bytes);
    add_value_type(e, PERIOD_TYPE, space, bytes);
    add_number(&e->out, PERIOD, profile->interval);
    add_number(&e->out, TIME_NANOS, profile->time_ns);
    add_number(&e->out, DURATION_NANOS, profile->duration_ns);
    add_number(&e->out, DEFAULT_SAMPLE_TYPE, alloc_space);
}

static void encode_mapping(
    struct encoder *e, const struct gci_places *places, const struct gci_mapping *m) {
    struct bytes *b = &e->part;
    add_number(b, 1, (uint64_t)(m - places->mappings) + 1);
    add_number(b, 2, m->start);
    add_number(b, 3, m->end);
    add_number(b, 4, m->offset);
    add_number(b, 5, string(e, m->path != NULL ? m->path : ""));
    add_number(b, 6, string(e, m->build_id));
    add_number(b, 7, 1); /* there are functions' names, but no lines */
    add_message(&e->out, MAPPING, b);
}

/* A function and a location have the number of the place plus 1.  Two places in one function name
 * it twice, which readers join by name. */
static void encode_place(struct encoder *e, const struct gci_places *places, size_t at) {
    const struct gci_place *place = &places->places[at];
    struct bytes *b = &e->part;
    char text[600];
    uint64_t number = at + 1;
    gci_place_print(place, place->address, text, sizeof text);
    uint64_t name = string(e, place->function != NULL ? place->function : text);
    add_number(b, 1, number);
    add_number(b, 2, name);
    add_number(b, 3, name);
    add_message(&e->out, FUNCTION, b);
    add_number(&e->numbers, 1, number); /* Line.function_id */
    add_number(b, 1, number);
    if (place->mapping != NULL) add_number(b, 2, (uint64_t)(place->mapping - places->mappings) + 1);
    add_number(b, 3, place->address);
    add_message(b, 4, &e->numbers);
    add_message(&e->out, LOCATION, b);
}

/* Where samples lie of which nothing is known. */
static void encode_unknown(struct encoder *e, uint64_t number) {
    uint64_t name = string(e, UNKNOWN);
    add_number(&e->part, 1, number);
    add_number(&e->part, 2, name);
    add_message(&e->out, FUNCTION, &e->part);
    add_number(&e->numbers, 1, number);
    add_number(&e->part, 1, number);
    add_message(&e->part, 4, &e->numbers);
    add_message(&e->out, LOCATION, &e->part);
}

static void encode_stack(
    struct encoder *e, const struct gci_profile_stack *stack, const struct gci_places *places) {
    for (uint32_t d = 0; d < stack->depth; d++) {
        const struct gci_place *place = gci_place_at(places, stack->pcs[d] - 1);
        if (place != NULL) add_varint(&e->numbers, (uint64_t)(place - places->places) + 1);
    }
    if (stack->depth == 0) add_varint(&e->numbers, places->count + 1);
    add_message(&e->part, 1, &e->numbers);
    for (unsigned v = 0; v < GCI_PROFILE_VALUES; v++)
        add_varint(&e->numbers, (uint64_t)stack->values[v]);
    add_message(&e->part, 2, &e->numbers);
    add_message(&e->out, SAMPLE, &e->part);
}

static struct bytes encode(const struct gci_profile *profile, const struct gci_places *places) {
    struct encoder e = {.strings = 0};
    encode_head(&e, profile);
    for (size_t i = 0; i < places->mapping_count; i++)
        encode_mapping(&e, places, &places->mappings[i]);
    for (size_t i = 0; i < places->count; i++) encode_place(&e, places, i);
    encode_unknown(&e, places->count + 1);
    for (size_t i = 0; i < profile->count; i++) encode_stack(&e, &profile->stacks[i], places);
    free(e.part.at);
    free(e.numbers.at);
    return e.out;
}

/* ---- gzip ----------------------------------------------------------------------------------- */

static uint32_t crc32_of(const struct bytes *b) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < b->count; i++) {
        crc ^= b->at[i];
        for (unsigned bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void add_little_endian(struct bytes *b, uint64_t value, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i);
        add(b, &byte, 1);
    }
}

static struct bytes in_gzip(const struct bytes *plain) {
    static const uint8_t header[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    struct bytes b = {.failed = plain->failed};
    add(&b, header, sizeof header);
    for (size_t from = 0; from == 0 || from < plain->count; from += 0xffff) {
        size_t count = plain->count - from < 0xffff ? plain->count - from : 0xffff;
        add_little_endian(&b, from + count == plain->count, 1); /* the last block? */
        add_little_endian(&b, count, 2);
        add_little_endian(&b, ~count, 2);
        add(&b, plain->at + from, count);
    }
    add_little_endian(&b, crc32_of(plain), 4);
    add_little_endian(&b, plain->count, 4);
    return b;
}

/* ---- Files ---------------------------------------------------------------------------------- */

static int write_whole(const char *path, const struct bytes *b) {
    struct gci_output output;
    int error = gci_output_open(&output, path);
    if (error != 0) return error;
    gci_output_bytes(&output, b->at, b->count);
    return gci_output_close(&output, 0);
}

static struct gci_places describe_all(const struct gci_profile *profile) {
    size_t total = 0, count = 0;
    for (size_t i = 0; i < profile->count; i++) total += profile->stacks[i].depth;
    uintptr_t *addresses = malloc((total > 0 ? total : 1) * sizeof *addresses);
    if (addresses == NULL) return (struct gci_places){.count = 0};
    for (size_t i = 0; i < profile->count; i++)
        for (uint32_t d = 0; d < profile->stacks[i].depth; d++)
            addresses[count++] = profile->stacks[i].pcs[d] - 1; /* the call, not what follows it */
    struct gci_places places = gci_places_describe(addresses, total);
    free(addresses);
    return places;
}

int gci_profile_write_file(const char *path, int format, const struct gci_profile *profile) {
    struct gci_places places = describe_all(profile);
    struct bytes b = {.failed = places.places == NULL};
    if (b.failed) return ENOMEM;
    if (format == GC_PROFILE_FOLDED || format == GC_PROFILE_FOLDED_LIVE)
        fold(&b, profile, format == GC_PROFILE_FOLDED_LIVE ? GCI_LIVE_BYTES : GCI_ALLOC_BYTES,
            &places);
    else
        b = encode(profile, &places);
    if (format == GC_PROFILE_PPROF_GZIP) {
        struct bytes zipped = in_gzip(&b);
        free(b.at);
        b = zipped;
    }
    int error = b.failed ? ENOMEM : write_whole(path, &b);
    free(b.at);
    gci_places_free(&places);
    return error;
}
