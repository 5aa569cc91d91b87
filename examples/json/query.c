/* Queries: a path is compiled to a list of steps, and each step leads from a value to some of its
 * parts.  Values are handed on as they are found, so that a query over a large document holds
 * nothing of its own. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cairn/gc.h>

const char json_query_help[] =
    "A PATH is a row of steps, each of which leads from a value to some of its parts:\n"
    "  .name         the members of an object with that name; a name without quotes may\n"
    "                hold anything but spaces and the characters . [ ] * \" =\n"
    "  [\"a name\"]    the same for any name, with JSON's escapes\n"
    "  [3]  [-1]     the item of an array, counted from 0, or from the end\n"
    "  [*]  .*       all items of an array, all members' values of an object\n"
    "  [name=\"text\"] those items or members' values which are objects that have a\n"
    "                member of that name with that string\n"
    "  ..step        applies the step to the value and to all that is in it, however\n"
    "                deep: ..name  ..*  ..[0]  ..[\"a name\"]\n"
    "The path . or $ is the whole document; other paths may begin with $ as well.\n";

enum step_kind { STEP_END, STEP_NAME, STEP_INDEX, STEP_ALL, STEP_WHERE };

struct step {
    enum step_kind kind;
    bool deep;              /* came after ".." */
    int64_t index;          /* of STEP_INDEX */
    struct json_value name; /* of STEP_NAME and STEP_WHERE */
    struct json_value text; /* of STEP_WHERE */
};

/* The steps hold pointers to their texts and come from gc_alloc() therefore. */
struct json_query {
    size_t count;
    struct step steps[]; /* COUNT of them and a STEP_END */
};

/* ---- Compiling ------------------------------------------------------------------------------- */

struct compiler {
    const char *path, *at;
    struct json_error *error;
};

static bool fail(const struct compiler *c, const char *expected) {
    c->error->line = 1;
    c->error->column = 1;
    for (const char *at = c->path; at < c->at; at++) {
        if (((unsigned char)*at & 0xc0) != 0x80) c->error->column++;
    }
    size_t length = json_utf8_length(c->at);
    if (*c->at == '\0') {
        snprintf(c->error->message, sizeof c->error->message,
            "found the end of the path, expected %s", expected);
    } else {
        snprintf(c->error->message, sizeof c->error->message, "found '%.*s', expected %s",
            length == 0 ? 1 : (int)length, c->at, expected);
    }
    return false;
}

static bool fail_memory(const struct compiler *c) {
    c->error->line = c->error->column = 0;
    snprintf(c->error->message, sizeof c->error->message, "out of memory");
    return false;
}

/* A piece of the path as a text of its own. */
static bool copy(const struct compiler *c, const char *text, size_t length, char **out) {
    *out = gc_alloc_leaf(length + 1);
    if (*out == NULL) return fail_memory(c);
    memcpy(*out, text, length);
    return true;
}

/* A name without quotes. */
static bool compile_bare(struct compiler *c, struct json_value *name) {
    size_t length = strcspn(c->at, ".[]*\"= \t\r\n");
    if (length == 0) return fail(c, "a name without quotes");
    char *text;
    if (!copy(c, c->at, length, &text)) return false;
    *name = (struct json_value){.kind = JSON_STRING, .length = (uint32_t)length, .text = text};
    c->at += length;
    return true;
}

/* A text in quotes; JSON's own parser reads it. */
static bool compile_quoted(struct compiler *c, struct json_value *name) {
    const char *end = c->at + 1;
    while (*end != '"' && *end != '\0') end += end[0] == '\\' && end[1] != '\0' ? 2 : 1;
    if (*end == '\0') {
        c->at = end;
        return fail(c, "'\"'");
    }
    size_t length = (size_t)(end + 1 - c->at);
    char *text;
    if (!copy(c, c->at, length, &text)) return false;
    if (!json_parse(text, length, name, c->error)) {
        if (c->error->line != 0) c->error->column += (size_t)(c->at - c->path);
        return false;
    }
    c->at = end + 1;
    return true;
}

/* Whether a number and a ']' stand here. */
static bool at_index(const char *at) {
    if (*at == '-') at++;
    size_t digits = strspn(at, "0123456789");
    return digits > 0 && at[digits] == ']';
}

/* What stands in brackets, and the ']'. */
static bool compile_bracket(struct compiler *c, struct step *step) {
    bool quoted = *c->at == '"';
    if (*c->at == '*') {
        c->at++;
        step->kind = STEP_ALL;
    } else if (at_index(c->at)) {
        char *end;
        step->kind = STEP_INDEX;
        step->index = strtoll(c->at, &end, 10);
        c->at = end;
    } else {
        step->kind = STEP_NAME;
        if (!(quoted ? compile_quoted : compile_bare)(c, &step->name)) return false;
        if (*c->at == '=') {
            c->at++;
            step->kind = STEP_WHERE;
            if (*c->at != '"') return fail(c, "a text in double quotes after '='");
            if (!compile_quoted(c, &step->text)) return false;
        } else if (!quoted) {
            return fail(c, "'=' after a name without quotes");
        }
    }
    if (*c->at != ']') return fail(c, "']'");
    c->at++;
    return true;
}

static bool compile_step(struct compiler *c, struct step *step) {
    if (*c->at != '.' && *c->at != '[') return fail(c, "'.' or '['");
    if (*c->at == '.') {
        c->at++;
        step->deep = *c->at == '.';
        if (step->deep) c->at++;
    }
    if (*c->at == '[') {
        c->at++;
        return compile_bracket(c, step);
    }
    if (*c->at == '*') {
        c->at++;
        step->kind = STEP_ALL;
        return true;
    }
    step->kind = STEP_NAME;
    return compile_bare(c, &step->name);
}

struct json_query *json_query_compile(const char *path, struct json_error *error) {
    struct compiler c = {.path = path, .at = path, .error = error};
    /* Each step takes at least one character. */
    struct json_query *query =
        gc_alloc(sizeof *query + (strlen(path) + 1) * sizeof query->steps[0]);
    if (query == NULL) {
        fail_memory(&c);
        return NULL;
    }
    if (*c.at == '\0') {
        fail(&c, "'.', '[' or '$'");
        return NULL;
    }
    if (strcmp(path, ".") == 0) return query;
    if (*c.at == '$') c.at++;
    while (*c.at != '\0') {
        if (!compile_step(&c, &query->steps[query->count++])) return NULL;
    }
    return query;
}

/* ---- Running --------------------------------------------------------------------------------- */

struct run {
    json_found *found;
    void *data;
};

static bool same_text(const struct json_value *a, const struct json_value *b) {
    return a->kind == b->kind && a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

/* The Nth part of a container. */
static const struct json_value *part(const struct json_value *value, uint32_t n) {
    return value->kind == JSON_ARRAY ? &value->items[n] : &value->members[n].value;
}

static bool holds(const struct json_value *value, const struct step *where) {
    if (value->kind != JSON_OBJECT) return false;
    for (uint32_t i = 0; i < value->length; i++) {
        const struct json_member *member = &value->members[i];
        if (same_text(&member->name, &where->name) && same_text(&member->value, &where->text)) {
            return true;
        }
    }
    return false;
}

static bool run_steps(
    const struct run *run, const struct json_value *value, const struct step *step);

/* Applies STEP to VALUE itself, and goes on with the next step. */
static bool run_step(
    const struct run *run, const struct json_value *value, const struct step *step) {
    if (value->kind != JSON_ARRAY && value->kind != JSON_OBJECT) return true;
    if (step->kind == STEP_INDEX) {
        int64_t index = step->index < 0 ? step->index + value->length : step->index;
        if (value->kind != JSON_ARRAY || index < 0 || index >= value->length) return true;
        return run_steps(run, &value->items[index], step + 1);
    }
    if (step->kind == STEP_NAME && value->kind != JSON_OBJECT) return true;
    for (uint32_t i = 0; i < value->length; i++) {
        const struct json_value *next = part(value, i);
        if (step->kind == STEP_NAME && !same_text(&value->members[i].name, &step->name)) continue;
        if (step->kind == STEP_WHERE && !holds(next, step)) continue;
        if (!run_steps(run, next, step + 1)) return false;
    }
    return true;
}

static bool run_steps(
    const struct run *run, const struct json_value *value, const struct step *step) {
    if (step->kind == STEP_END) return run->found(value, run->data);
    if (!run_step(run, value, step)) return false;
    if (!step->deep || (value->kind != JSON_ARRAY && value->kind != JSON_OBJECT)) return true;
    for (uint32_t i = 0; i < value->length; i++) {
        if (!run_steps(run, part(value, i), step)) return false;
    }
    return true;
}

void json_query_run(const struct json_query *query, const struct json_value *document,
    json_found *found, void *data) {
    struct run run = {.found = found, .data = data};
    run_steps(&run, document, query->steps);
}
