#include "tag_formats.h"

#include <stdlib.h>
#include <string.h>

#include "child.h"

#define TOP(bits) ((uint64_t)(bits) << 48)

/* ---- The lowest bit is set in integers (OCaml) ---------------------------------------------- */

static uint64_t even_box(const void *p, uint32_t salt) {
    (void)salt;
    return (uint64_t)(uintptr_t)p;
}

static void *even_unbox(uint64_t word) {
    return (void *)(uintptr_t)word;
}

static bool even_is_reference(uint64_t word) {
    return (word & 1) == 0 && word != 0;
}

static uint64_t even_immediate(uint64_t payload) {
    return payload | 1;
}

/* ---- The lowest bit is set in references, the next says weak (V8) --------------------------- */

static uint64_t odd_box(const void *p, uint32_t salt) {
    return (uint64_t)(uintptr_t)p + 1 + (salt % 2) * 2;
}

static void *odd_unbox(uint64_t word) {
    return (void *)(uintptr_t)(word & ~UINT64_C(3));
}

static bool odd_is_reference(uint64_t word) {
    return (word & 1) == 1;
}

static uint64_t odd_immediate(uint64_t payload) {
    return payload & ~UINT64_C(1);
}

/* ---- Three low bits are the kind (Lisp) ------------------------------------------------------ */

static uint64_t lisp_box(const void *p, uint32_t salt) {
    return (uint64_t)(uintptr_t)p + 1 + salt % 4 * 2; /* 1, 3, 5, 7: pairs, functions, ... */
}

static void *lisp_unbox(uint64_t word) {
    return (void *)(uintptr_t)(word - (word & 7));
}

static bool lisp_is_reference(uint64_t word) {
    return (word & 1) != 0;
}

static uint64_t lisp_immediate(uint64_t payload) {
    return (payload & ~UINT64_C(7)) | (payload / 16 % 4 * 2); /* small integers, characters */
}

/* ---- NaN boxes with plain references (JavaScriptCore) ---------------------------------------- */

static uint64_t cell_box(const void *p, uint32_t salt) {
    (void)salt;
    return (uint64_t)(uintptr_t)p;
}

static bool cell_is_reference(uint64_t word) {
    return (word & (TOP(0xfffe) | 2)) == 0 && word != 0;
}

static uint64_t cell_immediate(uint64_t payload) {
    return payload / 16 % 2 == 0 ? TOP(0xfffe) | payload : TOP(0x4040) | payload;
}

/* ---- NaN boxes with the kind in 17 high bits (LuaJIT) ---------------------------------------- */

#define ITYPE(n) (~(uint64_t)(n) << 47) /* 4: strings, ..., 12: userdata; 13: numbers */

static uint64_t lua_box(const void *p, uint32_t salt) {
    return ITYPE(4 + salt % 9) | (uint64_t)(uintptr_t)p;
}

static void *lua_unbox(uint64_t word) {
    return (void *)(uintptr_t)(word & ((UINT64_C(1) << 47) - 1));
}

static bool lua_is_reference(uint64_t word) {
    return word >= ITYPE(12) && word < ITYPE(3);
}

static uint64_t lua_immediate(uint64_t payload) {
    static const uint8_t others[] = {0, 1, 2, 3, 13};
    unsigned which = payload / 16 % 7;
    return which == 5   ? payload
           : which == 6 ? TOP(0x7ff0) | payload
                        : ITYPE(others[which]) | payload;
}

/* ---- Sixteen low bits are colours (ZGC) ------------------------------------------------------ */

static uint64_t colour_box(const void *p, uint32_t salt) {
    return (uint64_t)(uintptr_t)p << 16 | (salt * 0x9e37 & 0xffff);
}

static void *colour_unbox(uint64_t word) {
    return (void *)(uintptr_t)(word >> 16);
}

static bool colour_is_reference(uint64_t word) {
    return word >> 16 != 0;
}

static uint64_t colour_immediate(uint64_t payload) {
    (void)payload;
    return 0;
}

/* ---- A granule's number, and a mark above it ------------------------------------------------- */

static uint64_t scaled_box(const void *p, uint32_t salt) {
    return UINT64_C(1) << 63 | (uint64_t)(salt & 0xff) << 48 | (uint64_t)(uintptr_t)p >> 4;
}

static void *scaled_unbox(uint64_t word) {
    return (void *)(uintptr_t)(word << 16 >> 12);
}

static bool scaled_is_reference(uint64_t word) {
    return word >> 63 != 0;
}

static uint64_t scaled_immediate(uint64_t payload) {
    return payload / 16 % 2 == 0 ? payload >> 4 : payload;
}

const struct tag_format tag_formats[TAG_FORMATS] = {
    {"even", 1, 0, 0, 0, ~UINT64_C(1), 0, 0, even_box, even_unbox, even_is_reference,
        even_immediate},
    {"odd", 1, 1, 0, 0, ~UINT64_C(3), 0, 0, odd_box, odd_unbox, odd_is_reference, odd_immediate},
    {"lisp", 0, 0, 7, 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7, ~UINT64_C(7), 0, 0, lisp_box, lisp_unbox,
        lisp_is_reference, lisp_immediate},
    {"cell", TOP(0xfffe) | 2, 0, 0, 0, UINT64_C(0x0001fffffffffffd), 0, 0, cell_box, even_unbox,
        cell_is_reference, cell_immediate},
    {"lua", TOP(0xfff8), TOP(0xfff8), UINT64_C(15) << 47, 0x0ff8, (UINT64_C(1) << 47) - 1, 0, 0,
        lua_box, lua_unbox, lua_is_reference, lua_immediate},
    {"colour", 0, 0, 0, 0, ~UINT64_C(0xffff), 0, 16, colour_box, colour_unbox, colour_is_reference,
        colour_immediate},
    {"scaled", UINT64_C(1) << 63, UINT64_C(1) << 63, 0, 0, (UINT64_C(1) << 48) - 1, 4, 0,
        scaled_box, scaled_unbox, scaled_is_reference, scaled_immediate},
};

const struct tag_format *tag_format_chosen(void) {
    const char *name = getenv("CAIRN_TEST_FORMAT");
    for (unsigned i = 0; name != NULL && i < TAG_FORMATS; i++)
        if (strcmp(tag_formats[i].name, name) == 0) return &tag_formats[i];
    child_fail(__FILE__, __LINE__, "CAIRN_TEST_FORMAT names no format");
}

void tag_format_open(const struct tag_format *format) {
    gc_options options;
    gc_options_init(&options);
    options.tag_mask = format->mask;
    options.tag_value = format->value;
    options.tag_kind_mask = format->kind_mask;
    options.tag_kinds = format->kinds;
    options.tag_address_mask = format->address_mask;
    options.tag_address_left = format->left;
    options.tag_address_right = format->right;
    REQUIRE_EQUAL(gc_init(&options), 0);
}
