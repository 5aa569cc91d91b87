/* Names for places where references were found, for gc_explain(): which function's frame, which
 * static variable. See roots.h.  Owns nothing and allocates nothing.  libunwind and the loader take
 * locks here, so it is called only while the program's threads run.  Static variables are named
 * from the symbol tables of the object's file on disk, as most of them are in no table that is
 * loaded; the file is read with pread(2) and may be cut off, malformed or another one than was
 * loaded: then there is no name, and nothing worse. */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include "runtime/elf.h"
#include "runtime/roots.h"

#include <dlfcn.h>
#include <elf.h>
#include <libunwind.h>
#include <link.h>
#include <stdio.h>
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
