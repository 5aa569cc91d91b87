/* A JSON reader on the managed heap: nothing in this example calls free, and nothing keeps count.
 *
 * parse.c turns a text into a tree of struct json_value, query.c finds parts of a tree, print.c
 * writes a tree, main.c is the program.  What holds pointers (arrays, objects, the parser's stack)
 * comes from gc_alloc(), text from gc_alloc_leaf(), which the collector never searches. */
#ifndef CAIRN_EXAMPLE_JSON_H
#define CAIRN_EXAMPLE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arrays and objects may be nested this deep.  The parser keeps its own stack, but queries and the
 * printer call themselves once for each level. */
#define JSON_MAX_DEPTH 10000

/* Items of an array, members of an object and bytes of a text are counted in 32 bits. */
#define JSON_MAX_LENGTH UINT32_MAX

enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

/* A value is 16 bytes and lies inside the array or object that holds it: only what it points to is
 * an object of the heap. */
struct json_value {
    uint32_t kind;   /* enum json_kind */
    uint32_t length; /* bytes of a text, items of an array, members of an object */
    union {
        const char *text; /* a string's bytes in UTF-8, or a number as it was written; a leaf object
                             with a NUL at the end that LENGTH doesn't count */
        struct json_value *items;
        struct json_member *members; /* in the order of the text, equal names included */
    };
};

/* The name is a JSON_STRING.  Two values in a row, which is how the parser's stack holds them. */
struct json_member {
    struct json_value name;
    struct json_value value;
};

/* ---- parse.c ---- */

struct json_error {
    size_t line, column; /* from 1, columns in characters; both 0: not at a place in the text */
    char message[240];   /* "found this, expected that" */
};

/* Parses the LENGTH bytes at TEXT, after which a NUL must follow.  Accepts what RFC 8259 accepts,
 * in UTF-8, apart from \u escapes of half a surrogate pair.  Returns false and fills *ERROR when
 * the text is wrong or the heap is full.  May collect. */
bool json_parse(
    const char *text, size_t length, struct json_value *document, struct json_error *error);

/* The length in bytes of the UTF-8 character at TEXT, or 0 if there is none.  A NUL must follow the
 * text. */
size_t json_utf8_length(const char *text);

/* A number's value as a double, converted each time it is asked for.  Any other value gives 0. */
double json_number(const struct json_value *value);

/* ---- query.c ---- */

struct json_query;

/* Compiles a path; NULL, with a message in *ERROR (columns of the path), if it is wrong or the heap
 * is full. */
struct json_query *json_query_compile(const char *path, struct json_error *error);

/* Calls FOUND for each value of DOCUMENT that QUERY leads to, in the order of the text, until it
 * returns false. */
typedef bool json_found(const struct json_value *value, void *data);
void json_query_run(const struct json_query *query, const struct json_value *document,
    json_found *found, void *data);

/* The path language, for --help. */
extern const char json_query_help[];

/* ---- print.c ---- */

enum json_style {
    JSON_PRETTY,  /* indented, one item a line */
    JSON_COMPACT, /* no spaces at all */
    JSON_RAW      /* as compact, but a string is printed as it is, without quotes */
};

/* Standard output, buffered.  ERROR is the errno of the first write that failed; then nothing more
 * is written. */
struct json_output {
    int error;
    uint32_t used;
    char bytes[64 * 1024];
};

/* Writes VALUE and a newline.  Returns false once a write has failed. */
bool json_print(struct json_output *output, const struct json_value *value, enum json_style style);
bool json_flush(struct json_output *output);

#endif
