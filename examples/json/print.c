/* The printer.  It allocates nothing, so it can't run out of memory or start a collection. */
#include "json.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool json_flush(struct json_output *output) {
    const char *at = output->bytes;
    size_t left = output->used;
    output->used = 0;
    while (left > 0 && output->error == 0) {
        ssize_t written = write(STDOUT_FILENO, at, left);
        if (written >= 0) {
            at += written;
            left -= (size_t)written;
        } else if (errno != EINTR) {
            output->error = errno;
        }
    }
    return output->error == 0;
}

static void put(struct json_output *output, const char *text, size_t length) {
    while (length > sizeof output->bytes - output->used) {
        size_t fits = sizeof output->bytes - output->used;
        memcpy(output->bytes + output->used, text, fits);
        output->used += (uint32_t)fits;
        if (!json_flush(output)) return;
        text += fits;
        length -= fits;
    }
    memcpy(output->bytes + output->used, text, length);
    output->used += (uint32_t)length;
}

static void put_char(struct json_output *output, char c) {
    put(output, &c, 1);
}

static void put_line_break(struct json_output *output, enum json_style style, uint32_t level) {
    if (style != JSON_PRETTY) return;
    put_char(output, '\n');
    for (uint32_t i = 0; i < level; i++) put(output, "  ", 2);
}

/* Escapes only what has to be: quotes, backslashes and control characters. */
static void put_string(struct json_output *output, const struct json_value *value) {
    const char *from = value->text, *end = from + value->length;
    put_char(output, '"');
    for (const char *at = from; at < end; at++) {
        unsigned char c = (unsigned char)*at;
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        put(output, from, (size_t)(at - from));
        from = at + 1;
        static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *known = memchr(escaped, c, sizeof escaped - 1);
        if (known != NULL) {
            put(output, (char[]){'\\', letters[known - escaped]}, 2);
        } else {
            static const char digits[] = "0123456789abcdef";
            put(output, (char[]){'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]}, 6);
        }
    }
    put(output, from, (size_t)(end - from));
    put_char(output, '"');
}

static void put_value(struct json_output *output, const struct json_value *value,
    enum json_style style, uint32_t level);

static void put_container(struct json_output *output, const struct json_value *value,
    enum json_style style, uint32_t level) {
    bool object = value->kind == JSON_OBJECT;
    put_char(output, object ? '{' : '[');
    for (uint32_t i = 0; i < value->length && output->error == 0; i++) {
        if (i > 0) put_char(output, ',');
        put_line_break(output, style, level + 1);
        if (object) {
            put_string(output, &value->members[i].name);
            put(output, ": ", style == JSON_PRETTY ? 2 : 1);
        }
        put_value(output, object ? &value->members[i].value : &value->items[i], style, level + 1);
    }
    if (value->length > 0) put_line_break(output, style, level);
    put_char(output, object ? '}' : ']');
}

static void put_value(struct json_output *output, const struct json_value *value,
    enum json_style style, uint32_t level) {
    switch (value->kind) {
    case JSON_NULL:
        put(output, "null", 4);
        break;
    case JSON_FALSE:
        put(output, "false", 5);
        break;
    case JSON_TRUE:
        put(output, "true", 4);
        break;
    case JSON_NUMBER:
        put(output, value->text, value->length);
        break;
    case JSON_STRING:
        put_string(output, value);
        break;
    default:
        put_container(output, value, style, level);
    }
}

bool json_print(struct json_output *output, const struct json_value *value, enum json_style style) {
    if (style == JSON_RAW && value->kind == JSON_STRING) {
        put(output, value->text, value->length);
    } else {
        put_value(output, value, style == JSON_RAW ? JSON_COMPACT : style, 0);
    }
    put_char(output, '\n');
    return output->error == 0;
}
