/* Names for places where references were found, for gc_explain(): which function's frame, which
 * static variable (roots.h); and for instructions, for profiles (describe.h).  Owns nothing; only
 * what describes instructions allocates.  libunwind and the loader take
 * locks here, so it is called only while the program's threads run.  Static variables are named
 * from the symbol tables of the object's file on disk, as most of them are in no table that is
 * loaded; the file is read with pread(2) and may be cut off, malformed or another one than was
 * loaded: then there is no name, and nothing worse. */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include "runtime/describe.h"
#include "runtime/roots.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libunwind.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 128
#define PATH_BYTES 1024

/* ---- Loaded objects ------------------------------------------------------------------------- */

/* The object that ADDRESS lies in. */
struct object {
    uintptr_t address;
    bool found;
    uintptr_t base;       /* what the loader adds to the file's addresses */
    uint64_t fingerprint; /* of its program headers */
    char path[PATH_BYTES];
};

/* FNV-1a, going on from HASH. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

#define HASH_START 0xcbf29ce484222325u

static int match_object(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    struct object *object = context;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t offset = object->address - info->dlpi_addr - header->p_vaddr;
        if (header->p_type != PT_LOAD || offset >= header->p_memsz) continue;
        object->found = true;
        object->base = info->dlpi_addr;
        object->fingerprint =
            hash_bytes(HASH_START, info->dlpi_phdr, info->dlpi_phnum * sizeof *info->dlpi_phdr);
        snprintf(object->path, sizeof object->path, "%s", info->dlpi_name);
        return 1;
    }
    return 0;
}

/* The program itself has no name: the kernel knows its file. */
static void name_program(struct object *object) {
    ssize_t length = readlink("/proc/self/exe", object->path, sizeof object->path - 1);
    if (length < 0) length = 0;
    object->path[length] = '\0';
}

/* Returns where it is open, or -1. */
static int find_object(struct object *object, const void *address) {
    object->address = (uintptr_t)address;
    object->found = false;
    dl_iterate_phdr(match_object, object);
    if (!object->found) return -1;
    const char *path = object->path;
    if (*path == '\0') {
        name_program(object);
        path = "/proc/self/exe"; /* right even if the file was removed or replaced */
    }
    /* A name without a slash, as of the kernel's vdso, is not a path. */
    return strchr(path, '/') ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

static const char *file_name(const struct object *object) {
    const char *slash = strrchr(object->path, '/');
    const char *name = slash ? slash + 1 : object->path;
    return *name ? name : "the program";
}

/* ---- Symbols on disk ------------------------------------------------------------------------ */

static bool read_at(int file, void *to, size_t bytes, uint64_t offset) {
    if (offset > INT64_MAX) return false;
    ssize_t got;
    do got = pread(file, to, bytes, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)bytes;
}

/* Reads entry INDEX of a table at START of entries of BYTES bytes. */
static bool read_entry(int file, void *to, size_t bytes, uint64_t start, uint64_t index) {
    uint64_t offset;
    if (__builtin_mul_overflow(index, bytes, &offset)) return false;
    if (__builtin_add_overflow(offset, start, &offset)) return false;
    return read_at(file, to, bytes, offset);
}

/* Whether FILE is an ELF file of this kind of machine with the program headers that were loaded. */
static bool read_elf_header(int file, const struct object *object, ElfW(Ehdr) * header) {
    if (!read_at(file, header, sizeof *header, 0)) return false;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return false;
    if (header->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)) return false;
    if (header->e_phentsize != sizeof(ElfW(Phdr))) return false;
    if (header->e_shentsize != sizeof(ElfW(Shdr))) return false;
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) program;
        if (!read_entry(file, &program, sizeof program, header->e_phoff, i)) return false;
        hash = hash_bytes(hash, &program, sizeof program);
    }
    return hash == object->fingerprint;
}

/* Finds the object symbol that covers VALUE, an address as the file counts them, in the table
 * described by SECTION.  A table that claims to be larger than the file ends with the file. */
static bool search_table(int file, const ElfW(Shdr) * section, uintptr_t value, ElfW(Sym) * found) {
    bool any = false;
    if (section->sh_entsize != sizeof(ElfW(Sym))) return false;
    uint64_t count = section->sh_size / sizeof(ElfW(Sym));
    ElfW(Sym) chunk[128];
    for (uint64_t i = 0; i < count; i += sizeof chunk / sizeof *chunk) {
        size_t n = sizeof chunk / sizeof *chunk;
        if (count - i < n) n = (size_t)(count - i);
        uint64_t offset = section->sh_offset + i * sizeof *chunk;
        if (offset < section->sh_offset || !read_at(file, chunk, n * sizeof *chunk, offset)) break;
        for (size_t j = 0; j < n; j++) {
            const ElfW(Sym) *symbol = &chunk[j];
            if (ELF64_ST_TYPE(symbol->st_info) != STT_OBJECT) continue;
            if (symbol->st_shndx == SHN_UNDEF || value - symbol->st_value >= symbol->st_size)
                continue;
            if (any && symbol->st_size >= found->st_size) continue; /* the narrowest says most */
            *found = *symbol;
            any = true;
        }
    }
    return any;
}

/* Reads the name of a symbol of SECTION, cut to the room there is. */
static bool read_name(int file, const ElfW(Ehdr) * header, const ElfW(Shdr) * section,
    const ElfW(Sym) * symbol, char *name, size_t bytes) {
    ElfW(Shdr) strings;
    if (!read_entry(file, &strings, sizeof strings, header->e_shoff, section->sh_link))
        return false;
    if (strings.sh_type != SHT_STRTAB || symbol->st_name >= strings.sh_size) return false;
    uint64_t offset;
    if (__builtin_add_overflow(strings.sh_offset, symbol->st_name, &offset)) return false;
    size_t length = 0;
    while (length < bytes - 1 && read_at(file, name + length, 1, offset + length)) {
        if (name[length] == '\0') break;
        length++;
    }
    name[length] = '\0';
    return length > 0;
}

/* Looks in all tables of TYPE.  The symbol's offset from ADDRESS goes to *OFFSET. */
static bool name_from_file(int file, const struct object *object, ElfW(Word) type, char *name,
    size_t bytes, size_t *offset) {
    ElfW(Ehdr) header;
    if (!read_elf_header(file, object, &header)) return false;
    uint64_t sections = header.e_shnum;
    ElfW(Shdr) section;
    if (sections == 0 && read_entry(file, &section, sizeof section, header.e_shoff, 0))
        sections = section.sh_size; /* too many for the header's field */
    uintptr_t value = object->address - object->base;
    for (uint64_t i = 0; i < sections; i++) {
        ElfW(Sym) symbol;
        if (!read_entry(file, &section, sizeof section, header.e_shoff, i)) return false;
        if (section.sh_type != type || !search_table(file, &section, value, &symbol)) continue;
        *offset = value - symbol.st_value;
        if (read_name(file, &header, &section, &symbol, name, bytes)) return true;
    }
    return false;
}

/* The loader knows the symbols that the object exports, whatever became of its file. */
static bool name_from_loader(const void *address, char *name, size_t bytes, size_t *offset) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (!dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT)) return false;
    if (!info.dli_sname || !symbol || ELF64_ST_TYPE(symbol->st_info) != STT_OBJECT) return false;
    *offset = (uintptr_t)address - (uintptr_t)info.dli_saddr;
    if (*offset >= symbol->st_size) return false;
    snprintf(name, bytes, "%s", info.dli_sname);
    return true;
}

bool gci_describe_static(const void *address, char *buffer, size_t bytes) {
    struct object object;
    int file = find_object(&object, address);
    if (!object.found) {
        snprintf(buffer, bytes, "static data");
        return false;
    }
    char name[NAME_BYTES];
    size_t offset = 0;
    bool named = false;
    if (file >= 0) {
        named = name_from_file(file, &object, SHT_SYMTAB, name, sizeof name, &offset) ||
                name_from_file(file, &object, SHT_DYNSYM, name, sizeof name, &offset);
        close(file);
    }
    if (!named) named = name_from_loader(address, name, sizeof name, &offset);
    if (!named) {
        snprintf(buffer, bytes, "static data of %s+0x%zx", file_name(&object),
            (size_t)(object.address - object.base));
    } else if (offset == 0) {
        snprintf(buffer, bytes, "static variable %s in %s", name, file_name(&object));
    } else {
        snprintf(buffer, bytes, "static variable %s+%zu in %s", name, offset, file_name(&object));
    }
    return true;
}

/* ---- Frames --------------------------------------------------------------------------------- */

struct function {
    char name[NAME_BYTES];
    size_t offset; /* of the instruction where the frame stands */
};

static void name_function(unw_cursor_t *frame, struct function *function) {
    unw_word_t offset = 0;
    int error = unw_get_proc_name(frame, function->name, sizeof function->name, &offset);
    function->offset = offset;
    if (error == 0 || error == -UNW_ENOMEM) return; /* the latter: the name was cut */
    unw_word_t instruction = 0;
    unw_get_reg(frame, UNW_REG_IP, &instruction);
    struct object object;
    int file = find_object(&object, (const void *)instruction);
    if (file >= 0) close(file);
    snprintf(function->name, sizeof function->name, "a function of %.100s",
        object.found ? file_name(&object) : "no file");
    function->offset = instruction - (object.found ? object.base : 0);
}

/* The name of the register whose value in FRAME was saved at ADDRESS by a function that it called,
 * or NULL. */
static const char *register_saved_at(unw_cursor_t *frame, unw_word_t address) {
#if defined(__x86_64__)
    static const struct {
        unw_regnum_t number;
        const char *name;
    } saved[] = {
        {UNW_X86_64_RBX, "rbx"},
        {UNW_X86_64_RBP, "rbp"},
        {UNW_X86_64_R12, "r12"},
        {UNW_X86_64_R13, "r13"},
        {UNW_X86_64_R14, "r14"},
        {UNW_X86_64_R15, "r15"},
    };
    for (size_t i = 0; i < sizeof saved / sizeof *saved; i++) {
        unw_save_loc_t location;
        if (unw_get_save_loc(frame, saved[i].number, &location) != 0) continue;
        if (location.type == UNW_SLT_MEMORY && location.u.addr == address) return saved[i].name;
    }
#else
    (void)frame;
    (void)address;
#endif
    return NULL;
}

#define MAX_FRAMES (1 << 20) /* a damaged stack may go round in circles */

/* Walks up to the frame that holds ADDRESS.  Its caller's is in *CALLER, unless it has none
 * (*OUTERMOST). */
static bool find_frame(
    unw_word_t address, unw_cursor_t *frame, unw_cursor_t *caller, bool *outermost) {
    unw_context_t registers;
    if (unw_getcontext(&registers) != 0 || unw_init_local(frame, &registers) != 0) return false;
    unw_word_t low, high;
    if (unw_get_reg(frame, UNW_REG_SP, &low) != 0) return false;
    for (int i = 0; i < MAX_FRAMES; i++, low = high, *frame = *caller) {
        *caller = *frame;
        *outermost = unw_step(caller) <= 0 || unw_get_reg(caller, UNW_REG_SP, &high) != 0;
        if (*outermost) return address >= low;
        if (address >= low && address < high) return true;
    }
    return false;
}

bool gci_describe_stack(const void *address, char *buffer, size_t bytes) {
    unw_cursor_t frame, caller;
    bool outermost = false;
    if (!find_frame((unw_word_t)address, &frame, &caller, &outermost)) {
        snprintf(buffer, bytes, "stack");
        return false;
    }
    struct function holder, owner;
    name_function(&frame, &holder);
    const char *name = outermost ? NULL : register_saved_at(&caller, (unw_word_t)address);
    if (name) {
        name_function(&caller, &owner);
        snprintf(buffer, bytes, "register %s of %s (+0x%zx), saved by %s", name, owner.name,
            owner.offset, holder.name);
    } else {
        snprintf(buffer, bytes, "frame of %s (+0x%zx)", holder.name, holder.offset);
    }
    return true;
}

uint32_t gci_backtrace(uintptr_t frame, uintptr_t *pcs, uint32_t most) {
    unw_context_t registers;
    unw_cursor_t cursor;
    uint32_t depth = 0;
    if (unw_getcontext(&registers) != 0 || unw_init_local(&cursor, &registers) != 0) return 0;
    for (int i = 0; i < MAX_FRAMES && depth < most && unw_step(&cursor) > 0; i++) {
        unw_word_t sp, pc;
        if (unw_get_reg(&cursor, UNW_REG_SP, &sp) != 0 ||
            unw_get_reg(&cursor, UNW_REG_IP, &pc) != 0 || pc == 0)
            break;
        if (sp > frame) pcs[depth++] = pc;
    }
    return depth;
}

/* ---- Instructions --------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b) {
    uintptr_t x = ((const struct gci_place *)a)->address,
              y = ((const struct gci_place *)b)->address;
    return (x > y) - (x < y);
}

/* The position of the first place at ADDRESS or above. */
static size_t first_from(const struct gci_places *p, uintptr_t address) {
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->places[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct gci_place *gci_place_at(const struct gci_places *places, uintptr_t address) {
    size_t at = first_from(places, address);
    return at < places->count && places->places[at].address == address ? &places->places[at] : NULL;
}

static void read_build_id(const struct dl_phdr_info *info, const ElfW(Phdr) * note, char *text) {
    const uint8_t *at = (const uint8_t *)(info->dlpi_addr + note->p_vaddr);
    const uint8_t *end = at + note->p_memsz;
    while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) header;
        memcpy(&header, at, sizeof header);
        size_t name = ((size_t)header.n_namesz + 3) / 4 * 4;
        size_t bytes = ((size_t)header.n_descsz + 3) / 4 * 4;
        at += sizeof header;
        if (name + bytes > (size_t)(end - at)) return;
        if (header.n_type == NT_GNU_BUILD_ID && header.n_descsz <= 32 && header.n_namesz == 4 &&
            memcmp(at, "GNU", 4) == 0) {
            for (size_t i = 0; i < header.n_descsz; i++)
                snprintf(text + 2 * i, 3, "%02x", at[name + i]);
            return;
        }
        at += name + bytes;
    }
}

/* Room for one more. */
static struct gci_mapping *add_mapping(struct gci_places *p) {
    if ((p->mapping_count & (p->mapping_count - 1)) == 0) {
        size_t capacity = p->mapping_count == 0 ? 1 : 2 * p->mapping_count;
        struct gci_mapping *more = realloc(p->mappings, capacity * sizeof *more);
        if (more == NULL) return NULL;
        p->mappings = more;
    }
    struct gci_mapping *m = &p->mappings[p->mapping_count++];
    *m = (struct gci_mapping){.path = NULL};
    return m;
}

/* Notes the parts of an object that places lie in. */
static int note_mappings(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    struct gci_places *p = context;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X)) continue;
        size_t first = first_from(p, start);
        if (first == p->count || p->places[first].address >= end) continue;
        struct gci_mapping *m = add_mapping(p);
        if (m == NULL) return 1;
        m->start = start;
        m->end = end;
        m->offset = header->p_offset;
        m->base = info->dlpi_addr;
        for (size_t j = 0; j < info->dlpi_phnum; j++)
            if (info->dlpi_phdr[j].p_type == PT_NOTE)
                read_build_id(info, &info->dlpi_phdr[j], m->build_id);
    }
    return 0;
}

/* A symbol that covers a place: where its name is. */
struct covering {
    uint64_t size; /* of the symbol; 0: none yet */
    uint64_t value;
    uint64_t name;
};

/* Finds for each place in [FIRST, END) the function's symbol in the table of SECTION; the narrowest
 * says most. */
static void cover_places(int file, const ElfW(Shdr) * section, uintptr_t base,
    const struct gci_places *p, size_t first, size_t end, struct covering *covering) {
    ElfW(Sym) chunk[512];
    uint64_t count = section->sh_size / sizeof *chunk;
    for (uint64_t i = 0; i < count; i += sizeof chunk / sizeof *chunk) {
        size_t n = sizeof chunk / sizeof *chunk;
        if (count - i < n) n = (size_t)(count - i);
        uint64_t offset = section->sh_offset + i * sizeof *chunk;
        if (offset < section->sh_offset || !read_at(file, chunk, n * sizeof *chunk, offset)) return;
        for (size_t j = 0; j < n; j++) {
            const ElfW(Sym) *symbol = &chunk[j];
            unsigned type = ELF64_ST_TYPE(symbol->st_info);
            if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol->st_shndx == SHN_UNDEF)
                continue;
            size_t at = first_from(p, base + symbol->st_value);
            for (at = at < first ? first : at; at < end; at++) {
                if (p->places[at].address - base - symbol->st_value >= symbol->st_size) break;
                struct covering *c = &covering[at];
                if (c->size != 0 && c->size <= symbol->st_size) continue;
                *c = (struct covering){symbol->st_size, symbol->st_value, symbol->st_name};
            }
        }
    }
}

static void name_functions(int file, const struct object *object, ElfW(Word) type,
    struct gci_places *p, size_t first, size_t end, struct covering *covering) {
    ElfW(Ehdr) header;
    ElfW(Shdr) section;
    if (!read_elf_header(file, object, &header)) return;
    uint64_t sections = header.e_shnum;
    if (sections == 0 && read_entry(file, &section, sizeof section, header.e_shoff, 0))
        sections = section.sh_size;
    for (uint64_t i = 0; i < sections; i++) {
        if (!read_entry(file, &section, sizeof section, header.e_shoff, i)) return;
        if (section.sh_type != type || section.sh_entsize != sizeof(ElfW(Sym))) continue;
        memset(covering + first, 0, (end - first) * sizeof *covering);
        cover_places(file, &section, object->base, p, first, end, covering);
        for (size_t at = first; at < end; at++) {
            char name[NAME_BYTES * 4];
            const ElfW(Sym) symbol = {.st_name = (ElfW(Word))covering[at].name};
            if (covering[at].size == 0 || p->places[at].function != NULL) continue;
            if (!read_name(file, &header, &section, &symbol, name, sizeof name)) continue;
            p->places[at].function = strdup(name);
            p->places[at].function_start = object->base + covering[at].value;
        }
    }
}

static void describe_mapping(
    struct gci_places *p, struct gci_mapping *mapping, struct covering *covering) {
    struct object object;
    int file = find_object(&object, (const void *)mapping->start);
    mapping->path = strdup(object.found ? object.path : "");
    size_t first = first_from(p, mapping->start), end = first_from(p, mapping->end);
    for (size_t at = first; at < end; at++) p->places[at].mapping = mapping;
    if (file < 0) return;
    name_functions(file, &object, SHT_SYMTAB, p, first, end, covering);
    name_functions(file, &object, SHT_DYNSYM, p, first, end, covering);
    close(file);
}

/* Enters each of COUNT addresses once, by open addressing; false if there is no memory. */
static bool enter_places(struct gci_places *p, const uintptr_t *addresses, size_t count) {
    unsigned bits = 4;
    while ((size_t)1 << bits < 2 * count) bits++;
    uintptr_t *seen = calloc((size_t)1 << bits, sizeof *seen); /* 0 stands for none */
    p->places = malloc((count > 0 ? count : 1) * sizeof *p->places);
    if (seen == NULL || p->places == NULL) {
        free(seen);
        free(p->places);
        p->places = NULL;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        size_t mask = ((size_t)1 << bits) - 1;
        size_t at = addresses[i] * UINT64_C(0x9e3779b97f4a7c15) >> (64 - bits);
        while (seen[at] != 0 && seen[at] != addresses[i]) at = (at + 1) & mask;
        if (seen[at] != 0 || addresses[i] == 0) continue;
        seen[at] = addresses[i];
        p->places[p->count++] = (struct gci_place){.address = addresses[i]};
    }
    free(seen);
    qsort(p->places, p->count, sizeof *p->places, by_address);
    return true;
}

struct gci_places gci_places_describe(const uintptr_t *addresses, size_t count) {
    struct gci_places p = {.count = 0};
    if (!enter_places(&p, addresses, count)) return p;
    struct covering *covering = calloc(p.count > 0 ? p.count : 1, sizeof *covering);
    if (covering == NULL) return p;
    dl_iterate_phdr(note_mappings, &p);
    for (size_t i = 0; i < p.mapping_count; i++) describe_mapping(&p, &p.mappings[i], covering);
    free(covering);
    return p;
}

void gci_places_free(struct gci_places *places) {
    for (size_t i = 0; i < places->count; i++) free(places->places[i].function);
    for (size_t i = 0; i < places->mapping_count; i++) free(places->mappings[i].path);
    free(places->places);
    free(places->mappings);
    *places = (struct gci_places){.count = 0};
}

void gci_place_print(const struct gci_place *place, uintptr_t address, char *buffer, size_t bytes) {
    const struct gci_mapping *m = place != NULL ? place->mapping : NULL;
    const char *path = m != NULL && m->path != NULL ? m->path : "", *slash = strrchr(path, '/');
    if (slash != NULL) path = slash + 1;
    if (m == NULL)
        snprintf(buffer, bytes, "%p", (void *)address);
    else if (place->function == NULL)
        snprintf(buffer, bytes, "%s+0x%zx", *path != '\0' ? path : "the program",
            (size_t)(address - m->base));
    else
        snprintf(buffer, bytes, "%s (+0x%zx) in %s", place->function,
            (size_t)(address - place->function_start), *path != '\0' ? path : "the program");
}
