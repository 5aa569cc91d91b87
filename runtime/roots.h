/* Where the program keeps references outside the heap: stacks, static data, thread-local
 * storage.
 *
 * Every range given to a visitor is readable, its start and end are multiples of a word, and its
 * words are ambiguous.  The library's own data and the threads' gc_buffers are left out. */
#ifndef CAIRN_RUNTIME_ROOTS_H
#define CAIRN_RUNTIME_ROOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gci_root_kind { GCI_ROOT_STACK, GCI_ROOT_STATIC, GCI_ROOT_TLS, GCI_ROOT_RANGE };

typedef void gci_root_visitor(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end);

/* Tracks the writable segments of the loaded objects.  All memory is from gci_vm_map(). */
struct gci_static_roots {
    struct gci_segment *segments;
    size_t count, capacity;
    uint64_t adds, subs; /* the loader's counters when the list was read */
};

/* Reads the list again if objects were loaded or unloaded.  Takes the loader's lock: call it
 * before threads are stopped.  Returns 0 or ENOMEM (the list is then as it was). */
int gci_static_roots_refresh(struct gci_static_roots *roots);

/* Visits the writable, non-RELRO parts of each segment on the list. */
void gci_static_roots_visit(
    const struct gci_static_roots *roots, gci_root_visitor *visit, void *context);

void gci_static_roots_clear(struct gci_static_roots *roots);

/* Visits the calling thread's thread-local variables, of all loaded objects. */
void gci_tls_roots_visit(gci_root_visitor *visit, void *context);

/* The high end of the calling thread's stack, exclusive; NULL if the system doesn't say.
 * *LOWEST, unless LOWEST is NULL, becomes the least address that the stack may grow down to. */
const uintptr_t *gci_stack_base(const uintptr_t **lowest);

/* For gc_explain().  Both write a description of the place ADDRESS into BUFFER, always
 * terminated: the function whose frame on the calling thread's stack holds it ("frame of
 * parse_value (+0x1c)", found with libunwind), and the symbol of a static variable ("static
 * variable table+8 in libfoo.so").  They return false if they know no more than the kind of
 * place, and then describe that. */
bool gci_describe_stack(const void *address, char *buffer, size_t bytes);
bool gci_describe_static(const void *address, char *buffer, size_t bytes);

#endif
