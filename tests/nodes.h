/* Objects for tests of what happens when one dies, with a type or without. */
#ifndef CAIRN_TESTS_NODES_H
#define CAIRN_TESTS_NODES_H

#include "cairn/embed.h"

struct node {
    struct node *next, *other;
    size_t number;
};
GC_TYPE(struct node, next, other);

/* Whether make() gives them the type. */
static bool typed;

static struct node *make(size_t number, struct node *next) {
    struct node *n = typed ? gc_new(struct node) : gc_alloc(sizeof *n);
    n->next = next;
    n->number = number;
    return n;
}

#endif
