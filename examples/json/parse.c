/* The parser.  It doesn't call itself: values go to a stack of its own, and where an array or
 * object ends, what it holds is copied from there to an object of exactly the right size.  Stack
 * and frames lie on the managed heap and grow with gc_realloc(): the values on the stack are the
 * only references to what has been read so far, so the collector has to see them, and it would not
 * see memory from malloc. */
#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cairn/gc.h>

/* An array or object that has not ended yet. */
struct frame {
    size_t first; /* where its values start on the stack */
    bool object;
};

/* Names repeat in nearly every object, so one copy serves many.  Each name has one place; the next
 * name that wants the place takes it.  That bounds the table and the work for any text. */
#define NAME_CACHE 1024u
#define NAME_MAX   64u

struct parser {
    const char *start, *at, *end;
    struct json_value *stack;
    size_t used, capacity;
    struct frame *frames;
    size_t depth, frame_capacity;
    struct json_value *names; /* NAME_CACHE strings, or places without one (no text) */
    struct json_error *error;
};

/* ---- Errors ---------------------------------------------------------------------------------- */

/* Lines and columns are counted only when somebody wants to read them. */
static void locate(const struct parser *p, const char *where) {
    size_t line = 1, column = 1;
    for (const char *c = p->start; c < where; c++) {
        if (*c == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*c & 0xc0) != 0x80) {
            column++;
        }
    }
    p->error->line = line;
    p->error->column = column;
}

__attribute__((format(printf, 3, 4))) static bool fail(
    const struct parser *p, const char *where, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->error->message, sizeof p->error->message, format, arguments);
    va_end(arguments);
    locate(p, where);
    return false;
}

static bool fail_memory(const struct parser *p) {
    p->error->line = p->error->column = 0;
    snprintf(p->error->message, sizeof p->error->message,
        "out of memory after %zu of %zu bytes of text", (size_t)(p->at - p->start),
        (size_t)(p->end - p->start));
    return false;
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Says in words what stands at WHERE. */
static const char *describe(const struct parser *p, const char *where, char *out, size_t size) {
    unsigned char c = (unsigned char)*where;
    size_t length = json_utf8_length(where);
    size_t word = 0;
    while (word < 24 && is_word(where[word])) word++;
    if (where >= p->end) {
        snprintf(out, size, "the end of the text");
    } else if (c == '\n' || c == '\r') {
        snprintf(out, size, "a line break");
    } else if (c == '\t') {
        snprintf(out, size, "a tab");
    } else if (c < 0x20 || c == 0x7f) {
        snprintf(out, size, "the control character 0x%02x", c);
    } else if (word > 0) {
        snprintf(
            out, size, "'%.*s%s'", (int)word, where, word == 24 && is_word(where[24]) ? "..." : "");
    } else if (length > 0) {
        snprintf(out, size, "'%.*s'", (int)length, where);
    } else {
        snprintf(out, size, "the byte 0x%02x, which is not UTF-8", c);
    }
    return out;
}

static bool fail_found(const struct parser *p, const char *where, const char *expected) {
    char found[80];
    return fail(
        p, where, "found %s, expected %s", describe(p, where, found, sizeof found), expected);
}

/* ---- Text ------------------------------------------------------------------------------------ */

static bool is_continuation(char c) {
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t json_utf8_length(const char *text) {
    unsigned char first = (unsigned char)text[0];
    unsigned char second = first == 0 ? 0 : (unsigned char)text[1];
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4 || !is_continuation((char)second)) return 0;
    if (first < 0xe0) return 2;
    /* Longer than needed, surrogates, beyond 0x10ffff: the second byte tells. */
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
        return 0;
    }
    if (!is_continuation(text[2])) return 0;
    if (first < 0xf0) return 3;
    return is_continuation(text[3]) ? 4 : 0;
}

static char *encode_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* The value of four hexadecimal digits, or UINT32_MAX. */
static uint32_t hex4(const char *digits) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        } else {
            return UINT32_MAX;
        }
        value = value << 4 | digit;
    }
    return value;
}

/* The length of the escape sequence at AT (a backslash), or 0 after an error. */
static size_t escape_length(const struct parser *p, const char *at) {
    if (at[1] != '\0' && strchr("\"\\/bfnrt", at[1]) != NULL) return 2;
    if (at[1] != 'u') {
        fail_found(p, at + 1, "one of \" \\ / b f n r t u after the backslash");
        return 0;
    }
    uint32_t code = hex4(at + 2);
    if (code == UINT32_MAX) {
        const char *wrong = at + 2;
        while (is_word(*wrong) && strchr("0123456789abcdefABCDEF", *wrong) != NULL) wrong++;
        fail_found(p, wrong, "four hexadecimal digits after \\u");
        return 0;
    }
    if (code < 0xd800 || code > 0xdfff) return 6;
    bool pair = code <= 0xdbff && at[6] == '\\' && at[7] == 'u';
    uint32_t low = pair ? hex4(at + 8) : UINT32_MAX;
    if (low >= 0xdc00 && low <= 0xdfff) return 12;
    fail(p, at,
        "found half of a surrogate pair (%.6s), expected \\ud800 to \\udbff followed by "
        "\\udc00 to \\udfff",
        at);
    return 0;
}

/* Copies a string's inside, whose escapes have been checked; returns the end of the copy. */
static char *unescape(char *to, const char *from, const char *end) {
    static const char plain[] = "\"\\/bfnrt";
    static const char meant[] = "\"\\/\b\f\n\r\t";
    while (from < end) {
        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        if (from[1] != 'u') {
            *to++ = meant[strchr(plain, from[1]) - plain];
            from += 2;
            continue;
        }
        uint32_t code = hex4(from + 2);
        from += 6;
        if (code >= 0xd800 && code <= 0xdbff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (hex4(from + 2) - 0xdc00);
            from += 6;
        }
        to = encode_utf8(to, code);
    }
    return to;
}

/* Makes VALUE hold a copy of LENGTH bytes at TEXT. */
static bool copy_text(struct parser *p, struct json_value *value, enum json_kind kind,
    const char *text, size_t length) {
    if (length >= JSON_MAX_LENGTH) {
        return fail(
            p, text, "found a text of %zu bytes, expected fewer than %u", length, JSON_MAX_LENGTH);
    }
    char *copy = gc_alloc_leaf(length + 1);
    if (copy == NULL) return fail_memory(p);
    memcpy(copy, text, length);
    value->kind = kind;
    value->length = (uint32_t)length;
    value->text = copy;
    return true;
}

/* As copy_text(), but a name that was seen lately shares its text. */
static bool copy_name(struct parser *p, struct json_value *value, const char *text, size_t length) {
    if (length > NAME_MAX) return copy_text(p, value, JSON_STRING, text, length);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    struct json_value *cached = &p->names[(hash ^ hash >> 15) % NAME_CACHE];
    bool hit =
        cached->text != NULL && cached->length == length && memcmp(cached->text, text, length) == 0;
    if (!hit && !copy_text(p, cached, JSON_STRING, text, length)) return false;
    *value = *cached;
    return true;
}

/* Skips bytes that a string may hold as they are, other than UTF-8 beyond ASCII.  May stop early
 * close to the end. */
static const char *skip_plain(const char *at, const char *end) {
    /* Eight at a time: a byte's high bit is set in STOP if the byte is '"', '\\', below 0x20 or
     * above 0x7f. A borrow can only set bits above one that is rightly set, and the lowest one is
     * the first byte. */
    const uint64_t ones = 0x0101010101010101u, high = ones << 7;
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
        uint64_t stop = ((word - ones * 0x20) | (quote - ones) | (backslash - ones) | word) & high;
        if (stop != 0) return at + (__builtin_ctzll(stop) >> 3);
    }
    return at;
}

/* At a '"'. */
static bool parse_string(struct parser *p, struct json_value *value, bool name) {
    const char *first = p->at + 1, *at = first;
    bool escapes = false;
    for (;;) {
        at = skip_plain(at, p->end);
        unsigned char c = (unsigned char)*at;
        if (c == '"') break;
        size_t length = 1;
        if (c == '\\') {
            escapes = true;
            length = escape_length(p, at);
            if (length == 0) return false;
        } else if (c < 0x20) {
            return fail_found(p, at, "'\"' at the end of the string or \\u for this character");
        } else if (c >= 0x80) {
            length = json_utf8_length(at);
            if (length == 0) return fail_found(p, at, "UTF-8");
        }
        at += length;
    }
    p->at = at + 1;
    size_t length = (size_t)(at - first);
    if (!escapes) {
        return name ? copy_name(p, value, first, length)
                    : copy_text(p, value, JSON_STRING, first, length);
    }
    if (!copy_text(p, value, JSON_STRING, first, length)) return false;
    char *text = (char *)value->text;
    char *end = unescape(text, first, at);
    *end = '\0';
    value->length = (uint32_t)(end - text);
    return true;
}

static const char *skip_digits(const char *at) {
    while (*at >= '0' && *at <= '9') at++;
    return at;
}

/* At a digit or '-'. */
static bool parse_number(struct parser *p, struct json_value *value) {
    const char *first = p->at, *at = first;
    if (*at == '-') at++;
    const char *digits = at;
    at = skip_digits(at);
    if (at == digits) return fail_found(p, at, "a digit after '-'");
    if (*digits == '0' && at > digits + 1) {
        return fail(p, digits, "found a number with a leading zero, expected one without");
    }
    if (*at == '.') {
        digits = ++at;
        at = skip_digits(at);
        if (at == digits) return fail_found(p, at, "a digit after the decimal point");
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        digits = at;
        at = skip_digits(at);
        if (at == digits) return fail_found(p, at, "a digit of the exponent");
    }
    p->at = at;
    return copy_text(p, value, JSON_NUMBER, first, (size_t)(at - first));
}

double json_number(const struct json_value *value) {
    return value->kind == JSON_NUMBER ? strtod(value->text, NULL) : 0;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static const char *skip_space(const char *at) {
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
    return at;
}

static bool parse_literal(
    struct parser *p, struct json_value *value, enum json_kind kind, const char *word) {
    size_t length = strlen(word);
    if (strncmp(p->at, word, length) != 0 || is_word(p->at[length])) {
        return fail_found(p, p->at, "a value");
    }
    p->at += length;
    value->kind = kind;
    return true;
}

/* Everything but arrays and objects. */
static bool parse_scalar(struct parser *p, struct json_value *value) {
    switch (*p->at) {
    case '"':
        return parse_string(p, value, false);
    case 't':
        return parse_literal(p, value, JSON_TRUE, "true");
    case 'f':
        return parse_literal(p, value, JSON_FALSE, "false");
    case 'n':
        return parse_literal(p, value, JSON_NULL, "null");
    default:
        if (*p->at == '-' || (*p->at >= '0' && *p->at <= '9')) return parse_number(p, value);
        return fail_found(p, p->at, "a value");
    }
}

static bool push(struct parser *p, struct json_value value) {
    if (p->used == p->capacity) {
        size_t capacity = p->capacity * 2;
        struct json_value *stack = gc_realloc(p->stack, capacity * sizeof *stack);
        if (stack == NULL) return fail_memory(p);
        p->stack = stack;
        p->capacity = capacity;
    }
    p->stack[p->used++] = value;
    return true;
}

/* At a '[' or '{'. */
static bool open_container(struct parser *p) {
    if (p->depth == JSON_MAX_DEPTH) {
        return fail(p, p->at, "found '%c' inside %d arrays and objects, expected no deeper nesting",
            *p->at, JSON_MAX_DEPTH);
    }
    if (p->depth == p->frame_capacity) {
        size_t capacity = p->frame_capacity * 2;
        struct frame *frames = gc_realloc(p->frames, capacity * sizeof *frames);
        if (frames == NULL) return fail_memory(p);
        p->frames = frames;
        p->frame_capacity = capacity;
    }
    p->frames[p->depth++] = (struct frame){.first = p->used, .object = *p->at == '{'};
    p->at++;
    return true;
}

/* Past a ']' or '}': replaces the values of the innermost container on the stack by the container.
 * What stays above the top of the stack is part of the tree anyway, so nothing is gained by
 * clearing it. */
static bool close_container(struct parser *p) {
    const struct frame *frame = &p->frames[--p->depth];
    size_t values = p->used - frame->first;
    size_t length = frame->object ? values / 2 : values;
    struct json_value container = {.kind = frame->object ? JSON_OBJECT : JSON_ARRAY};
    if (length > JSON_MAX_LENGTH) {
        return fail(p, p->at - 1, "found the end of %zu items, expected at most %u", length,
            JSON_MAX_LENGTH);
    }
    if (length > 0) {
        container.items = gc_alloc(values * sizeof *container.items);
        if (container.items == NULL) return fail_memory(p);
        memcpy(container.items, p->stack + frame->first, values * sizeof *container.items);
        container.length = (uint32_t)length;
    }
    p->used = frame->first;
    return push(p, container);
}

/* A member's name, the colon and the space around them; leaves the parser before the value. */
static bool parse_name(struct parser *p, const char *expected) {
    struct json_value name;
    if (*p->at != '"') return fail_found(p, p->at, expected);
    if (!parse_string(p, &name, true) || !push(p, name)) return false;
    p->at = skip_space(p->at);
    if (*p->at != ':') return fail_found(p, p->at, "':' after the member's name");
    p->at = skip_space(p->at + 1);
    return true;
}

/* After a value inside a container: closes what ends here, and stands before the next value, if
 * any.  Sets *MORE to whether there is one. */
static bool parse_after_value(struct parser *p, bool *more) {
    while (p->depth > 0) {
        bool object = p->frames[p->depth - 1].object;
        p->at = skip_space(p->at);
        char c = *p->at;
        if (c == ',') {
            *more = true;
            p->at = skip_space(p->at + 1);
            return !object || parse_name(p, "a member's name in double quotes after ','");
        }
        if (c != (object ? '}' : ']')) {
            return fail_found(p, p->at, object ? "',' or '}'" : "',' or ']'");
        }
        p->at++;
        if (!close_container(p)) return false;
    }
    *more = false;
    return true;
}

static bool parse_document(struct parser *p) {
    for (bool more = true; more;) {
        p->at = skip_space(p->at);
        char c = *p->at;
        if (c == '[' || c == '{') {
            if (!open_container(p)) return false;
            p->at = skip_space(p->at);
            if (*p->at != (c == '{' ? '}' : ']')) {
                if (c == '{' && !parse_name(p, "a member's name in double quotes or '}'")) {
                    return false;
                }
                continue;
            }
            p->at++;
            if (!close_container(p)) return false;
        } else {
            struct json_value value = {.kind = JSON_NULL};
            if (!parse_scalar(p, &value) || !push(p, value)) return false;
        }
        if (!parse_after_value(p, &more)) return false;
    }
    p->at = skip_space(p->at);
    return p->at == p->end || fail_found(p, p->at, "the end of the text after the value");
}

/* Encodings that start with a mark of their own. */
static bool check_start(const struct parser *p) {
    if (strncmp(p->start, "\xef\xbb\xbf", 3) == 0) {
        return fail(
            p, p->start, "found a byte order mark, expected a value (RFC 8259 forbids the mark)");
    }
    if (strncmp(p->start, "\xff\xfe", 2) == 0 || strncmp(p->start, "\xfe\xff", 2) == 0) {
        return fail(p, p->start, "found UTF-16 or UTF-32, expected UTF-8");
    }
    return true;
}

bool json_parse(
    const char *text, size_t length, struct json_value *document, struct json_error *error) {
    struct parser p = {
        .start = text, .at = text, .end = text + length, .error = error, .capacity = 256};
    p.frame_capacity = 32;
    p.stack = gc_alloc(p.capacity * sizeof *p.stack);
    p.frames = gc_alloc_leaf(p.frame_capacity * sizeof *p.frames);
    p.names = gc_alloc(NAME_CACHE * sizeof *p.names);
    if (p.stack == NULL || p.frames == NULL || p.names == NULL) return fail_memory(&p);
    if (!check_start(&p) || !parse_document(&p)) return false;
    *document = p.stack[0];
    return true;
}
