/* One singly linked list of fifty million cells: everything survives, and marking can neither
 * recurse nor be shared out, since each cell is found only through the one before it. */
#include "bench/bench.h"

BENCH_WORKLOAD(list_deep, "a list of 50 M cells, built and traversed 3 times");

enum { TRAVERSALS = 3 };

struct cell {
    struct cell *next;
    uint64_t value;
};
BENCH_TYPE(cell, BENCH_FIELD(cell, next));

static struct cell *build(uint64_t count) {
    struct cell *head = NULL;
    for (uint64_t i = 1; i <= count; i++) {
        struct cell *cell = bench_new_raw(cell);
        cell->next = head;
        cell->value = i;
        head = cell;
    }
    return head;
}

static void run(double scale) {
    uint64_t count = bench_scaled(50000000, scale, 1000);
    struct cell *head = build(count);
    for (int i = 0; i < TRAVERSALS; i++) {
        uint64_t length = 0, sum = 0;
        /* Bounded, lest a damaged list be walked for ever. */
        for (const struct cell *cell = head; cell != NULL && length <= count; cell = cell->next) {
            length++;
            sum += cell->value;
        }
        bench_expect("the list's length", length, count);
        bench_expect("the list's sum", sum, count * (count + 1) / 2);
    }
    while (BENCH_FREES && head != NULL) {
        struct cell *next = head->next;
        bench_free(head);
        head = next;
    }
}
