/* The debugging allocators, and finding leaks (docs/boehm.md, rules 30 to 35).
 *
 * A debugged object begins with a header: where it was allocated, how many bytes the program asked
 * for, and a word made of the object's address; a like word follows the program's bytes, where they
 * end in a multiple of eight, and others fill the object.  A store beyond the ends changes one of
 * them, which is found when the object is freed and after each collection. */
#include "gc/boehm/layer.h"

#include <stdlib.h>
#include <string.h>

#include "gc/block.h"
#include "gc/heap.h"
#include "runtime/globals.h"
#include "runtime/log.h"

struct header {
    const char *file;
    GC_word line;
    GC_word bytes;
    GC_word check;
};

EXPORT const size_t GC_debug_header_size = sizeof(struct header);

_Static_assert(sizeof(struct header) == 32, "as Boehm's");

#define WORD  sizeof(GC_word)
#define START UINT64_C(0xa5c396e1d2b4780f)
#define END   UINT64_C(0x3c5a87f01e2d4b69)

static GCI_GLOBAL bool in_use; /* some object is debugged */
static GCI_GLOBAL bool abort_on_leak;

void gcb_abort_on_leak(void) {
    abort_on_leak = true;
}

EXPORT size_t GC_get_debug_header_size(void) {
    return sizeof(struct header);
}

static GC_word *end_of(struct header *header) {
    return (GC_word *)((char *)(header + 1) + (header->bytes + WORD - 1) / WORD * WORD);
}

bool gcb_is_debugged(const void *base) {
    const struct header *header = base;
    size_t bytes = GC_size(base);
    return bytes > sizeof *header && (header->check ^ START) == (GC_word)base &&
           header->bytes < bytes;
}

void *gcb_undressed(void *p) {
    if (!__atomic_load_n(&in_use, __ATOMIC_RELAXED)) return p;
    struct header *header = (struct header *)p - 1;
    return GC_base(p) == header && gcb_is_debugged(header) ? header : p;
}

/* Its check word was written over, but for the rest it is one. */
static bool was_debugged(struct header *header) {
    size_t bytes = GC_size(header);
    return bytes > sizeof *header && header->bytes < bytes - sizeof *header - WORD &&
           *end_of(header) == ((GC_word)header ^ END);
}

/* Where it was written to that the program doesn't own; NULL: nowhere.  What is left of the header
 * is trusted. */
static void *smashed(struct header *header) {
    GC_word *last = (GC_word *)((char *)header + GC_size(header)) - 1;
    if (header->check != ((GC_word)header ^ START)) return &header->check;
    if (header->bytes > GC_size(header) - sizeof *header - WORD) return &header->bytes;
    for (GC_word *w = end_of(header); w <= last; w++)
        if (*w != ((GC_word)header ^ END)) return w;
    return NULL;
}

/* ---- Allocating ----------------------------------------------------------------------------- */

/* Makes P, of SIZE bytes and the header's and the end's more, a debugged object. */
static void *dress(void *p, size_t size, const char *file, int line) {
    struct header *header = p;
    if (p == NULL) return NULL;
    __atomic_store_n(&in_use, true, __ATOMIC_RELAXED);
    *header = (struct header){file, (GC_word)line, size, 0};
    GC_word *last = (GC_word *)((char *)p + GC_size(p)) - 1;
    for (GC_word *w = end_of(header); w <= last; w++) *w = (GC_word)p ^ END;
    /* Last: while it is wrong the object isn't taken for a debugged one by who looks at all. */
    __atomic_store_n(&header->check, (GC_word)p ^ START, __ATOMIC_RELEASE);
    return header + 1;
}

static size_t dressed_size(size_t size) {
    const size_t more = sizeof(struct header) + 2 * WORD;
    return size > PTRDIFF_MAX - more ? PTRDIFF_MAX : size + more;
}

/* Defines GC_debug_NAME(). */
#define DEFINE_DEBUG(name)                                                                         \
    EXPORT void *GC_debug_##name(size_t size, const char *s, int i) {                              \
        return dress(GC_##name(dressed_size(size)), size, s, i);                                   \
    }                                                                                              \
    _Static_assert(1, "")

DEFINE_DEBUG(malloc);
DEFINE_DEBUG(malloc_atomic);
DEFINE_DEBUG(malloc_uncollectable);
DEFINE_DEBUG(malloc_atomic_uncollectable);
DEFINE_DEBUG(malloc_ignore_off_page);
DEFINE_DEBUG(malloc_atomic_ignore_off_page);
DEFINE_DEBUG(malloc_stubborn);

EXPORT void *GC_debug_generic_or_special_malloc(size_t size, int kind, const char *s, int i) {
    /* A kind's descriptor is about objects without a header: such an object gets none. */
    if (!gcb_kind_takes_headers((unsigned)kind)) return GC_generic_or_special_malloc(size, kind);
    return dress(GC_generic_or_special_malloc(dressed_size(size), kind), size, s, i);
}

EXPORT void *GC_debug_gcj_malloc(size_t size, void *table, const char *s, int i) {
    (void)s, (void)i;
    return GC_gcj_malloc(size, table);
}

EXPORT void *GC_debug_malloc_replacement(size_t size) {
    return GC_debug_malloc(size, "unknown", 0);
}

EXPORT void *GC_debug_realloc_replacement(void *p, size_t size) {
    return GC_debug_realloc(p, size, "unknown", 0);
}

EXPORT char *GC_debug_strdup(const char *string, const char *s, int i) {
    return string == NULL ? NULL : GC_debug_strndup(string, SIZE_MAX, s, i);
}

EXPORT char *GC_debug_strndup(const char *string, size_t size, const char *s, int i) {
    size_t length = strnlen(string, size);
    char *copy = GC_debug_malloc_atomic(length + 1, s, i);
    if (copy == NULL) return NULL;
    memcpy(copy, string, length);
    copy[length] = '\0';
    return copy;
}

EXPORT wchar_t *GC_debug_wcsdup(const wchar_t *string, const char *s, int i) {
    size_t bytes = (wcslen(string) + 1) * sizeof *string;
    wchar_t *copy = GC_debug_malloc_atomic(bytes, s, i);
    if (copy != NULL) memcpy(copy, string, bytes);
    return copy;
}

EXPORT void GC_debug_change_stubborn(const void *p) {
    (void)p;
}

EXPORT void GC_debug_end_stubborn_change(const void *p) {
    const void *base = GC_base((void *)(uintptr_t)p);
    if (base == NULL) {
        gci_print("GC_debug_end_stubborn_change() called on bad pointer %p\n", p);
        GC_get_abort_func()("GC_end_stubborn_change: bad pointer");
        abort();
    }
    GC_end_stubborn_change(p);
}

/* ---- Freeing -------------------------------------------------------------------------------- */

static void bad_free(const void *p) {
    gci_print("Invalid pointer passed to free(): %p\n", p);
    GC_get_abort_func()("Invalid pointer passed to free()");
    abort();
}

EXPORT void GC_debug_free(void *p) {
    if (p == NULL) return;
    struct header *header = GC_base(p);
    if (header == NULL) {
        if (!GC_is_heap_ptr(p) &&
            (p < GC_least_plausible_heap_addr || p >= GC_greatest_plausible_heap_addr))
            bad_free(p);
        gci_print("GC_debug_free: found previously deallocated (?) object at %p\n", p);
        return;
    }
    if ((void *)(header + 1) != p || (!gcb_is_debugged(header) && !was_debugged(header))) {
        gci_print("GC_debug_free called on pointer %p w/o debugging info\n", p);
        if (p == (void *)header) GC_free(p);
        return;
    }
    void *where = smashed(header);
    if (where != NULL)
        gci_print("GC_debug_free: found smashed location at %p in or near object at %p (%s:%d, "
                  "sz= %lu)\n",
            where, p, where == &header->check ? "?" : header->file, (int)header->line,
            header->bytes);
    header->check = 0;
    GC_free(header);
}

EXPORT void *GC_debug_realloc(void *p, size_t size, const char *s, int i) {
    if (p == NULL) return GC_debug_malloc(size, s, i);
    if (size == 0) {
        GC_debug_free(p);
        return NULL;
    }
    struct header *header = GC_base(p);
    if (header == NULL) bad_free(p);
    if (!gcb_is_debugged(header)) {
        gci_print("GC_debug_realloc called on pointer %p w/o debugging info\n", p);
        return GC_realloc(p, size);
    }
    void *q = GC_debug_generic_or_special_malloc(size, (int)gcb_kind_of(header), s, i);
    if (q == NULL) return NULL;
    memcpy(q, p, size < header->bytes ? size : header->bytes);
    GC_debug_free(p);
    return q;
}

/* ---- In a collection ------------------------------------------------------------------------ */

#define REPORTED 40u /* leaks, and smashed objects, of one collection */

/* With the world stopped: no lock, no malloc. */
typedef void object_function(void *object, bool leaf, unsigned *count);

/* Calls FUNCTION for each object of young blocks that is marked, or isn't. */
static unsigned each_object(
    const struct gc_heap *heap, bool with_mark, uint8_t in, object_function *function) {
    const struct gci_arena *arena = &heap->arena;
    unsigned count = 0;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        uint8_t tag = arena->tags[b];
        if (gci_tag_use(tag) == GCI_USE_FREE || (tag & in) != in) continue;
        size_t first = gci_block_granule(b);
        for (size_t g = first; g < first + GCI_BLOCK_GRANULES; g++) {
            uint8_t side = arena->side[g];
            if (side & GCI_SIDE_START && !(side & GCI_SIDE_MARK) == !with_mark)
                function((void *)gci_granule_address(arena, g), tag & GCI_TAG_LEAF, &count);
        }
    }
    return count;
}

static void count_one(void *object, bool leaf, unsigned *count) {
    (void)object, (void)leaf;
    ++*count;
}

static void print_leak(void *object, bool leaf, unsigned *count) {
    if (++*count > REPORTED) return;
    const struct header *header = object;
    if (gcb_is_debugged(object))
        gci_print("%p (%s:%d, sz= %lu, %s)\n", (void *)(uintptr_t)(header + 1), header->file,
            (int)header->line, header->bytes, leaf ? "PTRFREE" : "NORMAL");
    else
        gci_print("object at %p of appr. %zu bytes (%s)\n", object, GC_size(object),
            leaf ? "atomic" : "composite");
}

void gcb_report_leaks(const struct gc_heap *heap) {
    if (!GC_find_leak) return;
    unsigned leaks = each_object(heap, false, GCI_TAG_YOUNG, count_one);
    if (leaks == 0) return;
    gci_print("Found %u leaked objects:\n", leaks);
    each_object(heap, false, GCI_TAG_YOUNG, print_leak);
    if (abort_on_leak) {
        GC_get_abort_func()("Leaked or smashed objects encountered");
        abort();
    }
}

static void print_smashed(void *object, bool leaf, unsigned *count) {
    struct header *header = object;
    (void)leaf;
    if (!gcb_is_debugged(object)) return;
    void *where = smashed(header);
    if (where == NULL || ++*count > REPORTED) return;
    gci_print("GC_check_heap_block: found smashed heap object: %p in or near object at %p (%s:%d, "
              "sz= %lu)\n",
        where, (void *)(header + 1), header->file, (int)header->line, header->bytes);
}

void gcb_report_smashed(const struct gc_heap *heap) {
    if (__atomic_load_n(&in_use, __ATOMIC_RELAXED)) each_object(heap, true, 0, print_smashed);
}
