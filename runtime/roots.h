/* Where the program keeps references outside the heap: stacks and static data.  Thread-local
 * storage is in tls.h.
 *
 * Every range given to a visitor is readable, its start and end are multiples of a word, and its
 * words are ambiguous.  The library's own data and the threads' gc_buffers are left out. */
#ifndef CAIRN_RUNTIME_ROOTS_H
#define CAIRN_RUNTIME_ROOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gci_root_kind {
    GCI_ROOT_STACK,
    GCI_ROOT_STATIC,
    GCI_ROOT_TLS,
    GCI_ROOT_RANGE,
    GCI_ROOT_FINALIZER,  /* the data of a finalizer */
    GCI_ROOT_SLOT,       /* from here on precise: each word is a reference or NULL */
    GCI_ROOT_HANDLE,     /* the same */
    GCI_ROOT_READY,      /* the same: an object whose finalizer is ready */
    GCI_ROOT_FRAME,      /* the same: a variable in a GC_FRAME() */
    GCI_ROOT_CODE,       /* the same: in a frame of code with stack maps */
    GCI_ROOT_HOOK,       /* the same: reported by a root hook, */
    GCI_ROOT_HOOK_PLAIN, /* or that by gc_visit_plain() */
    GCI_ROOT_HOOK_WORDS, /* ambiguous: by gc_visit_ambiguous(), */
    GCI_ROOT_LAYER       /* or a range that was named to the layer above (gc/boehm) */
};

typedef void gci_root_visitor(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end);

/* What the program says of static data (gc/boehm/roots.c): asked and read when the lists are read,
 * with the loader's lock and the world's held; the latter is who changes it to hold, too.  PATH: of
 * the loaded object, "" for the program. */
#define GCI_EXCLUDED_MAX 48u
struct gci_static_filter {
    bool (*wants)(const char *path, uintptr_t start, size_t bytes); /* NULL: everything */
    struct {
        uintptr_t start, end;
    } excluded[GCI_EXCLUDED_MAX];
    uint32_t excluded_count;
    bool changed; /* atomic: the lists must be read again */
};

/* Tracks the loaded objects: their writable segments, and those with thread-local variables.  All
 * memory is from gci_vm_map(). */
struct gci_static_roots {
    struct gci_segment *segments;
    size_t count, capacity;
    struct gci_tls_module *modules; /* for gci_tls_visit() */
    size_t module_count, module_capacity;
    uint64_t adds, subs;              /* the loader's counters when the lists were read */
    struct gci_static_filter *filter; /* or NULL */
};

/* Reads the lists again if objects were loaded or unloaded.  Takes the loader's lock: call it
 * before threads are stopped.  Returns 0 or ENOMEM (the lists are then as they were). */
int gci_static_roots_refresh(struct gci_static_roots *roots);

/* Visits the writable, non-RELRO parts of each segment on the list. */
void gci_static_roots_visit(
    const struct gci_static_roots *roots, gci_root_visitor *visit, void *context);

void gci_static_roots_clear(struct gci_static_roots *roots);

/* The part of [START, END) whose pages can be read just now, as visits of KIND.  START and END are
 * multiples of a word. */
void gci_visit_readable(uintptr_t start, uintptr_t end, enum gci_root_kind kind,
    gci_root_visitor *visit, void *context);

/* Can the word at ADDRESS, a multiple of a word, be read?  Changes errno. */
bool gci_is_readable(uintptr_t address);

/* The high end of the calling thread's stack, exclusive; NULL if the system doesn't say.
 * *LOWEST, unless LOWEST is NULL, becomes the least address that the stack may grow down to. */
const uintptr_t *gci_stack_base(const uintptr_t **lowest);

/* The lowest address, not below LOWEST, from which all can be read up to BASE (words, both): the
 * part of a stack that exists, as the first thread's grows only when it is used.  It isn't made to
 * grow. */
uintptr_t gci_stack_extent(uintptr_t lowest, uintptr_t base);

/* For gc_explain().  Both write a description of the place ADDRESS into BUFFER, always
 * terminated: the function whose frame on the calling thread's stack holds it ("frame of
 * parse_value (+0x1c)", found with libunwind), and the symbol of a static variable ("static
 * variable table+8 in libfoo.so").  They return false if they know no more than the kind of
 * place, and then describe that. */
bool gci_describe_stack(const void *address, char *buffer, size_t bytes);
bool gci_describe_static(const void *address, char *buffer, size_t bytes);

#endif
