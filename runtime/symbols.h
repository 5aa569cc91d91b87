/* The symbols of all loaded objects in one table, for naming places where no lock may be taken:
 * while threads are stopped.  Read once, before (docs/snapshots.md, rule 4). */
#ifndef CAIRN_RUNTIME_SYMBOLS_H
#define CAIRN_RUNTIME_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A function, or a static variable. */
struct gci_symbol {
    uintptr_t start;
    size_t bytes;
    const char *name;
    const char *file; /* without its directories */
    bool function;
};

/* A loaded object. */
struct gci_symbol_file {
    uintptr_t start, end;
    const char *name;
};

/* In memory of its own, from the system. */
struct gci_symbols {
    struct gci_symbol *symbols; /* by START */
    size_t count, capacity;
    struct gci_symbol_file *files;
    size_t file_count, file_capacity;
    struct gci_symbol_text *texts; /* tables of names */
    size_t text_count, text_capacity;
};

/* Reads what it can: a file that can't be read, or want of memory, leaves symbols out.  Takes the
 * loader's lock; *SYMBOLS is zero. */
void gci_symbols_load(struct gci_symbols *symbols);
void gci_symbols_free(struct gci_symbols *symbols);

/* The narrowest one that covers ADDRESS, or NULL.  Takes no lock. */
const struct gci_symbol *gci_symbol_at(
    const struct gci_symbols *symbols, uintptr_t address, bool function);

/* The object that ADDRESS lies in, or NULL. */
const struct gci_symbol_file *gci_symbol_file_at(
    const struct gci_symbols *symbols, uintptr_t address);

#endif
