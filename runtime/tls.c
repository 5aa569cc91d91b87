/* Thread-local storage of stopped threads: see tls.h and docs/roots.md, rule 9.  Owns what the C
 * library says of its own structures, written once by gci_tls_init() and only read afterwards.
 * Called by the collector while threads are stopped, at any instruction: what a thread was just
 * changing may be half done, so every address that is read here is tried first, and a range that
 * is wrongly taken for thread-local storage costs time and nothing else.
 *
 * Where a thread's blocks are (x86-64, glibc):
 *
 *     static block        record (struct pthread)              table (dtv)
 *     ... [module 1] | [ ... | table | ... | specific[] ]      [capacity][generation][1][2]...
 *                    ^ thread pointer                                     ^ table     |
 *                                                                      malloc: [module 2]
 *
 * The offsets in the record come from data that the C library exports for debuggers
 * (libthread_db).  They are private to it, so each is looked at for sense, and without them only
 * the static block is known. */
#define _GNU_SOURCE
#include "runtime/tls.h"

#include <dlfcn.h>
#include <errno.h>

#include "cairn/gc.h"
#include "runtime/arch/arch.h"
#include "runtime/globals.h"
#include "runtime/vm.h"

#define WORD sizeof(uintptr_t)

#if defined(GCI_RECORD_AT_THREAD_POINTER) && defined(__GLIBC__)
#define HAS_RECORD 1
#else
#define HAS_RECORD 0
#endif

/* What the C library says; all sizes are in bytes, those of what isn't known are 0.  Written by
 * gci_tls_init() before there is a second thread of the heap. */
static GCI_GLOBAL struct {
    size_t record_bytes; /* from the thread pointer on */

    size_t table_offset; /* in the record: the table's address */
    size_t entry_bytes;  /* in the table */
    size_t block_offset; /* in an entry: the block's address, or -1 */

    size_t keys_offset;     /* in the record: addresses of blocks of thread-specific values */
    size_t key_blocks;      /* their number */
    size_t key_block_bytes; /* the first block lies in the record */

    size_t module_bytes;         /* that we look at of a struct link_map */
    size_t module_id_offset;     /* in it: the index in the table */
    size_t module_static_offset; /* in it: of a static block, below the thread pointer */
} libc;

/* ---- What the C library says ---------------------------------------------------------------- */

#if HAS_RECORD

/* As libthread_db has it: the size in bits of an element, their number, the first one's offset. */
struct field {
    uint32_t bits, count, offset;
};

enum { RECORD_MIN = 256, RECORD_MAX = 64 << 10, KEY_BLOCKS_MAX = 512 };

static size_t size_of(const char *symbol) {
    const uint32_t *bytes = dlsym(RTLD_DEFAULT, symbol);
    return bytes && *bytes % WORD == 0 && *bytes <= RECORD_MAX ? *bytes : 0;
}

/* Is there such a field, of one word, within the first LIMIT bytes of its structure? */
static bool find_word(const char *symbol, size_t limit, size_t *offset) {
    const struct field *field = dlsym(RTLD_DEFAULT, symbol);
    if (!field || field->bits != 8 * WORD || field->offset % WORD != 0) return false;
    *offset = field->offset;
    return field->offset < limit;
}

static void ask_for_table(void) {
    const struct field *entries = dlsym(RTLD_DEFAULT, "_thread_db_dtv_dtv");
    size_t capacity_offset;
    if (!entries || entries->bits != 8 * 2 * WORD || entries->offset != 0) return;
    if (!find_word("_thread_db_pthread_dtvp", libc.record_bytes, &libc.table_offset)) return;
    if (!find_word("_thread_db_dtv_t_counter", 1, &capacity_offset)) return;
    if (!find_word("_thread_db_dtv_t_pointer_val", 2 * WORD, &libc.block_offset)) return;
    libc.entry_bytes = 2 * WORD;
}

/* Whether "specific" is said to be one element or an array differs between versions. */
static void ask_for_keys(void) {
    const struct field *blocks = dlsym(RTLD_DEFAULT, "_thread_db_pthread_specific");
    size_t block_bytes = size_of("_thread_db_sizeof_pthread_key_data_level2");
    if (!blocks || blocks->offset % WORD != 0 || block_bytes > libc.record_bytes) return;
    uint64_t bytes = (uint64_t)blocks->bits * blocks->count / 8;
    if (bytes % WORD != 0 || bytes / WORD > KEY_BLOCKS_MAX) return;
    if (blocks->offset + bytes > libc.record_bytes) return;
    libc.keys_offset = blocks->offset;
    libc.key_blocks = (size_t)bytes / WORD;
    libc.key_block_bytes = block_bytes;
}

static void ask_for_modules(void) {
    size_t id, offset;
    if (!find_word("_thread_db_link_map_l_tls_modid", RECORD_MAX, &id)) return;
    if (!find_word("_thread_db_link_map_l_tls_offset", RECORD_MAX, &offset)) return;
    libc.module_id_offset = id;
    libc.module_static_offset = offset;
    libc.module_bytes = (id > offset ? id : offset) + WORD;
}

void gci_tls_init(void) {
    size_t bytes = size_of("_thread_db_sizeof_pthread");
    if (bytes < RECORD_MIN) return;
    libc.record_bytes = bytes;
    ask_for_table();
    ask_for_keys();
    ask_for_modules();
}

/* The list that the loader keeps for debuggers: it changes only under the lock that
 * dl_iterate_phdr(), our caller, holds. */
static const uintptr_t *find_static_offset(size_t id) {
    if (libc.module_bytes == 0) return NULL;
    for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
        const char *module = (const char *)map;
        if (*(const size_t *)(const void *)(module + libc.module_id_offset) == id)
            return (const uintptr_t *)(const void *)(module + libc.module_static_offset);
    }
    return NULL;
}

#else

void gci_tls_init(void) {}

static const uintptr_t *find_static_offset(size_t id) {
    (void)id;
    return NULL;
}

#endif

bool gci_tls_read_module(
    const struct dl_phdr_info *object, size_t size, struct gci_tls_module *module) {
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof object->dlpi_tls_data)
        return false;
    if (object->dlpi_tls_modid == 0) return false;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_TLS) continue;
        *module = (struct gci_tls_module){
            .id = object->dlpi_tls_modid,
            .bytes = object->dlpi_phdr[i].p_memsz,
            .static_offset = find_static_offset(object->dlpi_tls_modid),
            .seen = object->dlpi_tls_data != NULL,
            .distance = (uintptr_t)object->dlpi_tls_data - gci_thread_pointer(),
        };
        return true;
    }
    return false;
}

/* ---- Visiting ------------------------------------------------------------------------------- */

/* One visit of one thread. */
struct walk {
    uintptr_t thread_pointer;
    uintptr_t skip_low, skip_high;
    uintptr_t page; /* found readable; 1: none yet */
    gci_root_visitor *visit;
    void *context;
};

/* The word at ADDRESS, if there is one. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static bool read_word(
    struct walk *walk, uintptr_t address, uintptr_t *value) {
    if (address % WORD != 0) return false;
    uintptr_t page = address & ~(uintptr_t)(gci_page_size() - 1);
    if (page != walk->page && !gci_is_readable(address)) return false;
    walk->page = page;
    *value = *(const uintptr_t *)address;
    return true;
}

/* gc_buffers is initial-exec: at the same distance from every thread's thread pointer. */
void gci_visit_without_buffers(uintptr_t thread_pointer, uintptr_t start, uintptr_t end,
    enum gci_root_kind kind, gci_root_visitor *visit, void *context) {
    _Static_assert(_Alignof(struct gc_thread_buffers) % WORD == 0 &&
                       sizeof(struct gc_thread_buffers) % WORD == 0,
        "what is left is in whole words");
    uintptr_t low = thread_pointer + ((uintptr_t)&gc_buffers - gci_thread_pointer());
    uintptr_t high = low + sizeof gc_buffers;
    if (high <= start || low >= end) low = high = end;
    if (start < low) visit(context, kind, (const uintptr_t *)start, (const uintptr_t *)low);
    if (high < end) visit(context, kind, (const uintptr_t *)high, (const uintptr_t *)end);
}

static void visit_readable(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    const struct walk *walk = context;
    gci_visit_readable((uintptr_t)start, (uintptr_t)end, kind, walk->visit, walk->context);
}

static void visit_part(struct walk *walk, uintptr_t start, uintptr_t end) {
    if (start >= end) return;
    gci_visit_without_buffers(walk->thread_pointer, start, end, GCI_ROOT_TLS, visit_readable, walk);
}

/* The BYTES at START, which may be anything, as far as they are memory in whole words.  Programs
 * have the lower half of the addresses. */
static void visit_range(struct walk *walk, uintptr_t start, size_t bytes) {
    if (start > INTPTR_MAX || bytes > INTPTR_MAX - start) return;
    uintptr_t end = (start + bytes) & ~(WORD - 1);
    start = (start + WORD - 1) & ~(WORD - 1);
    if (walk->skip_low >= end || walk->skip_high <= start) {
        visit_part(walk, start, end);
    } else {
        visit_part(walk, start, walk->skip_low);
        visit_part(walk, walk->skip_high, end);
    }
}

/* A thread that just gets a larger table has the old one: still in place or just freed, with the
 * capacity overwritten by an address.  The entries are there until another thread allocates. */
static bool find_in_table(struct walk *walk, size_t id, uintptr_t *block) {
    uintptr_t table, capacity;
    if (!read_word(walk, walk->thread_pointer + libc.table_offset, &table)) return false;
    if (!read_word(walk, table - libc.entry_bytes, &capacity) || id > capacity) return false;
    if (!read_word(walk, table + id * libc.entry_bytes + libc.block_offset, block)) return false;
    return *block != 0 && *block != UINTPTR_MAX;
}

/* The loader notes 0 while nothing is decided, -1 for blocks that it allocates for each thread when
 * that first touches one of the variables. */
static bool find_block(struct walk *walk, const struct gci_tls_module *module, uintptr_t *block) {
    uintptr_t offset;
    if (module->static_offset && read_word(walk, (uintptr_t)module->static_offset, &offset) &&
        offset != 0 && offset != UINTPTR_MAX) {
        *block = walk->thread_pointer - offset;
        return true;
    }
    if (libc.entry_bytes != 0) return find_in_table(walk, module->id, block);
    *block = walk->thread_pointer + module->distance;
    return module->seen;
}

/* Thread-specific values whose blocks aren't in the record: those of keys from 32 on. */
static void visit_key_blocks(struct walk *walk) {
    uintptr_t record = walk->thread_pointer, block;
    for (size_t i = 0; i < libc.key_blocks; i++) {
        if (!read_word(walk, record + libc.keys_offset + i * WORD, &block) || block == 0) continue;
        if (block - record >= libc.record_bytes) visit_range(walk, block, libc.key_block_bytes);
    }
}

void gci_tls_visit(uintptr_t thread_pointer, uintptr_t skip_low, uintptr_t skip_high,
    const struct gci_static_roots *modules, gci_root_visitor *visit, void *context) {
    struct walk walk = {thread_pointer, skip_low, skip_high, 1, visit, context};
    int saved_errno = errno;
    visit_range(&walk, thread_pointer, libc.record_bytes);
    visit_key_blocks(&walk);
    for (size_t i = 0; i < modules->module_count; i++) {
        uintptr_t block;
        if (find_block(&walk, &modules->modules[i], &block))
            visit_range(&walk, block, modules->modules[i].bytes);
    }
    errno = saved_errno;
}
