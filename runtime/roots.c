/* Static data and the stack's ends: see roots.h and docs/roots.md.  Owns the list of the loaded
 * objects' writable segments, cut down to what can hold the program's references, and that of the
 * objects with thread-local variables; both are replaced as a whole, under the loader's lock, so
 * whoever reads them sees one state of the loader.  Every range that leaves this file is word
 * aligned and was readable a moment before.  Called by the collector at the start of a collection
 * and when a thread attaches; only gci_stack_base() may call malloc. */
#define _GNU_SOURCE
#include "runtime/roots.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/globals.h"
#include "runtime/tls.h"
#include "runtime/vm.h"

#define WORD sizeof(uintptr_t)

struct gci_segment {
    uintptr_t start, end;
};

static uintptr_t round_down(uintptr_t address, size_t unit) {
    return address & ~(uintptr_t)(unit - 1);
}

static uintptr_t round_up(uintptr_t address, size_t unit) {
    return round_down(address + (unit - 1), unit);
}

/* ---- Cutting holes into a range ------------------------------------------------------------- */

#define MAX_HOLES (8 + GCI_EXCLUDED_MAX)

/* What is left out of a range, sorted by address. */
struct holes {
    size_t count;
    struct gci_segment at[MAX_HOLES];
};

/* A word that lies partly in a hole is in it.  A hole too many is no hole: scanning too much is
 * safe. */
static void add_hole(struct holes *holes, uintptr_t start, uintptr_t end) {
    if (start >= end || holes->count == MAX_HOLES) return;
    start = round_down(start, WORD);
    end = round_up(end, WORD);
    size_t i = holes->count++;
    for (; i > 0 && holes->at[i - 1].start > start; i--) holes->at[i] = holes->at[i - 1];
    holes->at[i] = (struct gci_segment){start, end};
}

typedef bool range_function(void *context, uintptr_t start, uintptr_t end);

/* Calls EACH with what the holes leave of [start, end), in whole words, until it returns false. */
static bool cut(uintptr_t start, uintptr_t end, const struct holes *holes, range_function *each,
    void *context) {
    start = round_up(start, WORD);
    end = round_down(end, WORD);
    for (size_t i = 0; i < holes->count && start < end; i++) {
        const struct gci_segment *hole = &holes->at[i];
        if (hole->end <= start || hole->start >= end) continue;
        if (hole->start > start && !each(context, start, hole->start)) return false;
        start = hole->end;
    }
    return start >= end || each(context, start, end);
}

/* ---- The lists ------------------------------------------------------------------------------ */

/* What a walk over the loaded objects needs to build lists beside those in force. */
struct reading {
    const struct gci_static_roots *old;
    struct gci_static_roots fresh;
    bool unchanged, out_of_memory;
    bool again; /* read them, whatever the counters say */
};

static size_t list_bytes(size_t capacity, size_t item) {
    return round_up(capacity * item, gci_page_size());
}

static bool append(void *context, uintptr_t start, uintptr_t end) {
    struct reading *reading = context;
    struct gci_static_roots *fresh = &reading->fresh;
    struct gci_segment *segments =
        gci_vm_with_room(fresh->segments, fresh->count, &fresh->capacity, sizeof *segments);
    reading->out_of_memory = !segments;
    if (!segments) return false;
    fresh->segments = segments;
    segments[fresh->count++] = (struct gci_segment){start, end};
    return true;
}

static bool append_module(struct reading *reading, const struct gci_tls_module *module) {
    struct gci_static_roots *fresh = &reading->fresh;
    struct gci_tls_module *modules = gci_vm_with_room(
        fresh->modules, fresh->module_count, &fresh->module_capacity, sizeof *modules);
    reading->out_of_memory = !modules;
    if (!modules) return false;
    fresh->modules = modules;
    modules[fresh->module_count++] = *module;
    return true;
}

/* Is the object one whose data never refers to the heap: libunwind, which only gc_explain()
 * uses, and the loader? (docs/roots.md, rule 6.) */
static bool is_left_out(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strncmp(name, "libunwind", 9) == 0 || strncmp(name, "ld-linux", 8) == 0;
}

/* Returns nonzero to end the walk: at the first object if the loader has done nothing since the
 * last reading. */
static int read_object(struct dl_phdr_info *object, size_t size, void *context) {
    struct reading *reading = context;
    bool counts = size >= offsetof(struct dl_phdr_info, dlpi_subs) + sizeof object->dlpi_subs;
    if (counts && !reading->again && reading->old->capacity &&
        object->dlpi_adds == reading->old->adds && object->dlpi_subs == reading->old->subs) {
        reading->unchanged = true;
        return 1;
    }
    reading->fresh.adds = counts ? object->dlpi_adds : 0;
    reading->fresh.subs = counts ? object->dlpi_subs : 0;

    if (is_left_out(object->dlpi_name)) return 0;
    struct gci_tls_module module;
    if (gci_tls_read_module(object, size, &module) && !append_module(reading, &module)) return 1;
    struct holes holes = {.count = 0};
    add_hole(&holes, (uintptr_t)__start_cairn_data, (uintptr_t)__stop_cairn_data);
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        if (header->p_type != PT_GNU_RELRO) continue;
        uintptr_t start = object->dlpi_addr + header->p_vaddr;
        add_hole(&holes, start, start + header->p_memsz);
    }
    const struct gci_static_filter *filter = reading->old->filter;
    uint32_t excluded = filter != NULL ? filter->excluded_count : 0;
    for (uint32_t i = 0; i < excluded; i++)
        add_hole(&holes, filter->excluded[i].start, filter->excluded[i].end);
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_W)) continue;
        uintptr_t start = object->dlpi_addr + header->p_vaddr;
        if (filter != NULL && filter->wants != NULL &&
            !filter->wants(object->dlpi_name, start, header->p_memsz))
            continue;
        if (!cut(start, start + header->p_memsz, &holes, append, reading)) return 1;
    }
    return 0;
}

int gci_static_roots_refresh(struct gci_static_roots *roots) {
    struct reading reading = {.old = roots};
    struct gci_static_filter *filter = roots->filter;
    if (filter != NULL)
        reading.again = __atomic_exchange_n(&filter->changed, false, __ATOMIC_ACQ_REL);
    dl_iterate_phdr(read_object, &reading);
    if (reading.unchanged) return 0;
    if (reading.out_of_memory) {
        gci_static_roots_clear(&reading.fresh);
        if (reading.again) __atomic_store_n(&filter->changed, true, __ATOMIC_RELEASE);
        return ENOMEM;
    }
    gci_static_roots_clear(roots);
    *roots = reading.fresh;
    roots->filter = filter;
    return 0;
}

void gci_static_roots_clear(struct gci_static_roots *roots) {
    if (roots->capacity)
        gci_vm_unmap(roots->segments, list_bytes(roots->capacity, sizeof *roots->segments));
    if (roots->module_capacity)
        gci_vm_unmap(roots->modules, list_bytes(roots->module_capacity, sizeof *roots->modules));
    *roots = (struct gci_static_roots){.segments = NULL};
}

/* ---- Only what can be read (docs/roots.md, rule 7) ------------------------------------------ */

/* The kernel copies the signal set from the page before it rejects the first argument, so that
 * nothing is changed and EFAULT says that the page can't be read.  0.09 us, measured; asking for a
 * whole range with MADV_POPULATE_READ came to 0.5 us a page. */
bool gci_is_readable(uintptr_t address) {
    if (address == 0) return false; /* means no set at all */
    return syscall(SYS_rt_sigprocmask, ~0, address, NULL, 8) == 0 || errno != EFAULT;
}

void gci_visit_readable(uintptr_t start, uintptr_t end, enum gci_root_kind kind,
    gci_root_visitor *visit, void *context) {
    size_t page = gci_page_size();
    uintptr_t run = start; /* [run, at) is readable */
    for (uintptr_t at = start; at < end;) {
        uintptr_t next = round_down(at, page) + page;
        if (!gci_is_readable(round_down(at, page))) {
            if (run < at) visit(context, kind, (const uintptr_t *)run, (const uintptr_t *)at);
            run = next;
        }
        at = next;
    }
    if (run < end) visit(context, kind, (const uintptr_t *)run, (const uintptr_t *)end);
}

void gci_static_roots_visit(
    const struct gci_static_roots *roots, gci_root_visitor *visit, void *context) {
    int saved_errno = errno;
    for (size_t i = 0; i < roots->count; i++) {
        const struct gci_segment *segment = &roots->segments[i];
        gci_visit_readable(segment->start, segment->end, GCI_ROOT_STATIC, visit, context);
    }
    errno = saved_errno;
}

/* ---- The stack ------------------------------------------------------------------------------ */

const uintptr_t *gci_stack_base(const uintptr_t **lowest) {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return NULL;
    void *low = NULL;
    size_t bytes = 0;
    int error = pthread_attr_getstack(&attributes, &low, &bytes);
    pthread_attr_destroy(&attributes);
    if (error || !low) return NULL;
    if (lowest) *lowest = low;
    return (const uintptr_t *)round_down((uintptr_t)low + bytes, WORD);
}

/* Is there a mapping at PAGE?  To read from a place where there is none yet would make a stack just
 * above it grow; mincore() only looks. */
static bool page_is_mapped(uintptr_t page) {
    unsigned char resident;
    return mincore((void *)page, 1, &resident) == 0 || errno != ENOMEM;
}

uintptr_t gci_stack_extent(uintptr_t lowest, uintptr_t base) {
    int saved_errno = errno;
    size_t page = gci_page_size();
    uintptr_t extent = base;
    while (extent > lowest) {
        uintptr_t below = round_down(extent - 1, page);
        if (!page_is_mapped(below) || !gci_is_readable(below)) break;
        extent = below > lowest ? below : lowest;
    }
    errno = saved_errno;
    return extent;
}
