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
#include "runtime/elf.h"
#include "runtime/roots.h"
#include "runtime/symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <libunwind.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 128

/* ---- Symbols on disk ------------------------------------------------------------------------ */

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
        if (offset < section->sh_offset || !gci_elf_read(file, chunk, n * sizeof *chunk, offset))
            break;
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
    if (!gci_elf_read_entry(file, &strings, sizeof strings, header->e_shoff, section->sh_link))
        return false;
    if (strings.sh_type != SHT_STRTAB || symbol->st_name >= strings.sh_size) return false;
    uint64_t offset;
    if (__builtin_add_overflow(strings.sh_offset, symbol->st_name, &offset)) return false;
    size_t length = 0;
    while (length < bytes - 1 && gci_elf_read(file, name + length, 1, offset + length)) {
        if (name[length] == '\0') break;
        length++;
    }
    name[length] = '\0';
    return length > 0;
}

/* Looks in all tables of TYPE.  The symbol's offset from ADDRESS goes to *OFFSET. */
static bool name_from_file(int file, const struct gci_elf_object *object, ElfW(Word) type,
    char *name, size_t bytes, size_t *offset) {
    ElfW(Ehdr) header;
    if (!gci_elf_read_header(file, object, &header)) return false;
    uint64_t sections = gci_elf_sections(file, &header);
    ElfW(Shdr) section;
    uintptr_t value = object->address - object->base;
    for (uint64_t i = 0; i < sections; i++) {
        ElfW(Sym) symbol;
        if (!gci_elf_read_entry(file, &section, sizeof section, header.e_shoff, i)) return false;
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
    struct gci_elf_object object;
    int file = gci_elf_find(&object, address);
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
        snprintf(buffer, bytes, "static data of %s+0x%zx", gci_elf_file_name(&object),
            (size_t)(object.address - object.base));
    } else if (offset == 0) {
        snprintf(buffer, bytes, "static variable %s in %s", name, gci_elf_file_name(&object));
    } else {
        snprintf(buffer, bytes, "static variable %s+%zu in %s", name, offset,
            gci_elf_file_name(&object));
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
    struct gci_elf_object object;
    int file = gci_elf_find(&object, (const void *)instruction);
    if (file >= 0) close(file);
    snprintf(function->name, sizeof function->name, "a function of %.100s",
        object.found ? gci_elf_file_name(&object) : "no file");
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

static void describe_mapping(
    struct gci_places *p, struct gci_mapping *mapping, const struct gci_symbols *symbols) {
    struct gci_elf_object object;
    int file = gci_elf_find(&object, (const void *)mapping->start);
    if (file >= 0) close(file);
    mapping->path = strdup(object.found ? object.path : "");
    size_t first = first_from(p, mapping->start), end = first_from(p, mapping->end);
    for (size_t at = first; at < end; at++) {
        struct gci_place *place = &p->places[at];
        const struct gci_symbol *symbol = gci_symbol_at(symbols, place->address, true);
        place->mapping = mapping;
        if (symbol == NULL) continue;
        place->function = strdup(symbol->name);
        place->function_start = symbol->start;
    }
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
    struct gci_symbols symbols = {.count = 0};
    gci_symbols_load(&symbols);
    dl_iterate_phdr(note_mappings, &p);
    for (size_t i = 0; i < p.mapping_count; i++) describe_mapping(&p, &p.mappings[i], &symbols);
    gci_symbols_free(&symbols);
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
