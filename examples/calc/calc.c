/* A calculator with a stack, as the shortest honest embedding of Cairn: its values are cells whose
 * layout the heap knows, and its value stack, in memory from malloc, is a range of precise roots.
 * docs/embedding.md walks through it.
 *
 *     calc '1 2 + .'                      prints 3
 *     calc '1 1000000 range sum .'        prints 500000500000
 *     calc 'nil 3 cons 2 cons 1 cons .'   prints (1 2 3)
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cairn/embed.h>

/* ---- Values --------------------------------------------------------------------------------- */

/* NULL is the empty list. */
struct number {
    double value;
};
struct pair {
    void *head, *tail;
};
GC_TYPE(struct pair, head, tail);

/* Numbers hold no pointers, but shall move and be told from pairs: a type with a trace function
 * that has nothing to visit. */
static void trace_number(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    (void)object, (void)bytes, (void)from, (void)to, (void)visitor;
}

static const gc_type *number_type;

static _Noreturn void fail(const char *what, const char *word) {
    fprintf(stderr, "calc: %s: %s\n", word, what);
    exit(1);
}

static void *need(void *p) {
    if (p == NULL) fail(strerror(ENOMEM), "memory");
    return p;
}

static bool is_number(const void *value) {
    return value != NULL && gc_type_of(value) == number_type;
}

static bool is_pair(const void *value) {
    return value != NULL && gc_type_of(value) != number_type;
}

/* ---- The value stack ------------------------------------------------------------------------ */

enum { DEPTH = 1 << 16 };

static void **stack; /* slots: NULL above the top, so that nothing is held there */
static size_t depth;

static void push(void *value, const char *word) {
    if (depth == DEPTH) fail("the stack is full", word);
    stack[depth++] = value;
}

static void *pop(const char *word) {
    if (depth == 0) fail("the stack is empty", word);
    void *value = stack[--depth];
    stack[depth] = NULL;
    return value;
}

static double pop_number(const char *word) {
    void *value = pop(word);
    if (!is_number(value)) fail("expected a number", word);
    return ((struct number *)value)->value;
}

static struct pair *pop_pair(const char *word) {
    void *value = pop(word);
    if (!is_pair(value)) fail("expected a list that isn't empty", word);
    return value;
}

static void push_number(double value, const char *word) {
    struct number *number = need(gc_alloc_typed(number_type));
    number->value = value;
    push(number, word);
}

/* HEAD and TAIL are in variables of C code while memory is allocated: whatever these refer to stays
 * where it is. */
static void push_pair(void *head, void *tail, const char *word) {
    struct pair *pair = need(gc_new(struct pair));
    pair->head = head;
    pair->tail = tail;
    push(pair, word);
}

/* ---- Words ---------------------------------------------------------------------------------- */

static void print(const void *value) {
    if (is_number(value)) {
        printf("%.15g", ((const struct number *)value)->value);
        return;
    }
    putchar('(');
    for (const struct pair *p = value; is_pair(p); p = p->tail) {
        print(p->head);
        if (p->tail != NULL) putchar(' ');
    }
    putchar(')');
}

/* The list of the numbers from FIRST to LAST, built from its end. */
static void range(double first, double last, const char *word) {
    push(NULL, word);
    for (double x = last; x >= first; x--) {
        push_number(x, word);
        void *head = pop(word), *tail = pop(word);
        push_pair(head, tail, word);
    }
}

static double sum(const void *list, const char *word) {
    double total = 0;
    for (const struct pair *p = list; p != NULL; p = p->tail) {
        if (!is_pair(p) || !is_number(p->head)) fail("expected a list of numbers", word);
        total += ((const struct number *)p->head)->value;
    }
    return total;
}

static bool arithmetic(const char *word) {
    if (strlen(word) != 1 || strchr("+-*/", *word) == NULL) return false;
    double b = pop_number(word), a = pop_number(word);
    push_number(*word == '+' ? a + b : *word == '-' ? a - b : *word == '*' ? a * b : a / b, word);
    return true;
}

static bool structure(const char *word) {
    if (strcmp(word, "nil") == 0) {
        push(NULL, word);
    } else if (strcmp(word, "cons") == 0) { /* list value -> list */
        void *head = pop(word), *tail = pop(word);
        if (is_number(tail)) fail("expected a list below the value", word);
        push_pair(head, tail, word);
    } else if (strcmp(word, "head") == 0) {
        push(pop_pair(word)->head, word);
    } else if (strcmp(word, "tail") == 0) {
        push(pop_pair(word)->tail, word);
    } else if (strcmp(word, "range") == 0) { /* first last -> list */
        double last = pop_number(word), first = pop_number(word);
        range(first, last, word);
    } else if (strcmp(word, "sum") == 0) {
        push_number(sum(pop(word), word), word);
    } else {
        return false;
    }
    return true;
}

static void run_word(const char *word) {
    char *end;
    double value = strtod(word, &end);
    if (end != word && *end == '\0') {
        push_number(value, word);
    } else if (strcmp(word, ".") == 0) {
        print(pop(word));
        putchar('\n');
    } else if (strcmp(word, "dup") == 0) {
        void *top = pop(word);
        push(top, word);
        push(top, word);
    } else if (strcmp(word, "swap") == 0) {
        void *b = pop(word), *a = pop(word);
        push(b, word);
        push(a, word);
    } else if (strcmp(word, "drop") == 0) {
        pop(word);
    } else if (!arithmetic(word) && !structure(word)) {
        fail("not a number nor one of + - * / . dup swap drop nil cons head tail range sum", word);
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        fprintf(argc < 2 ? stderr : stdout, "usage: calc 'WORD ...' ...    e.g. calc '1 2 + .'\n");
        return argc < 2 ? 2 : 0;
    }
    gc_type_desc desc = {.name = "number", .size = sizeof(struct number), .trace = trace_number};
    number_type = need((void *)gc_type_register(&desc));
    stack = need(calloc(DEPTH, sizeof *stack));
    if (gc_add_slots(stack, DEPTH) != 0) fail(strerror(ENOMEM), "memory");
    for (int i = 1; i < argc; i++)
        for (char *word = strtok(argv[i], " \t\n"); word != NULL; word = strtok(NULL, " \t\n"))
            run_word(word);
    return 0;
}
