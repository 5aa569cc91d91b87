/* All symbols of the loaded objects' files: see symbols.h.  Owns nothing; the table is its
 * caller's.  Called by gc/snapshot.c, before threads are stopped, and to look up while they
 * are.  Invariant: a name of the table is terminated, whatever its file says. */
#define _GNU_SOURCE
#include "runtime/symbols.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

#include "runtime/elf.h"
#include "runtime/vm.h"

#define NAMES_MAX ((size_t)256 << 20) /* bytes of one object's names: a larger table is damaged */
#define LOOK_BACK 8                   /* symbols before the nearest that may cover an address */

struct gci_symbol_text {
    char *text;
    size_t bytes; /* mapped */
};

/* Room for BYTES of text, zeroed and with a zero behind it. */
static char *new_text(struct gci_symbols *s, size_t bytes) {
    struct gci_symbol_text *texts =
        gci_vm_with_room(s->texts, s->text_count, &s->text_capacity, sizeof *texts);
    if (texts == NULL) return NULL;
    s->texts = texts;
    bytes = gci_whole_pages(bytes + 1);
    char *text = gci_vm_map(bytes);
    if (text != NULL) texts[s->text_count++] = (struct gci_symbol_text){text, bytes};
    return text;
}

static bool add(struct gci_symbols *s, struct gci_symbol symbol) {
    struct gci_symbol *symbols =
        gci_vm_with_room(s->symbols, s->count, &s->capacity, sizeof *symbols);
    if (symbols == NULL) return false;
    s->symbols = symbols;
    symbols[s->count++] = symbol;
    return true;
}

static bool is_wanted(const ElfW(Sym) * symbol) {
    unsigned type = ELF64_ST_TYPE(symbol->st_info);
    return (type == STT_OBJECT || type == STT_FUNC) && symbol->st_shndx != SHN_UNDEF &&
           symbol->st_size > 0;
}

/* All symbols of the table described by SECTION; a table that claims to be larger than its file
 * ends with the file. */
static void read_table(struct gci_symbols *s, int file, const struct gci_elf_object *object,
    const ElfW(Ehdr) * header, const ElfW(Shdr) * section, const char *file_name) {
    ElfW(Shdr) strings;
    if (section->sh_entsize != sizeof(ElfW(Sym)) ||
        !gci_elf_read_entry(file, &strings, sizeof strings, header->e_shoff, section->sh_link) ||
        strings.sh_type != SHT_STRTAB || strings.sh_size > NAMES_MAX)
        return;
    char *names = new_text(s, strings.sh_size);
    if (names == NULL || !gci_elf_read(file, names, strings.sh_size, strings.sh_offset)) return;
    uint64_t count = section->sh_size / sizeof(ElfW(Sym));
    ElfW(Sym) chunk[128];
    for (uint64_t i = 0; i < count; i += sizeof chunk / sizeof *chunk) {
        size_t n = sizeof chunk / sizeof *chunk;
        if (count - i < n) n = (size_t)(count - i);
        if (!gci_elf_read(file, chunk, n * sizeof *chunk, section->sh_offset + i * sizeof *chunk))
            return;
        for (size_t j = 0; j < n; j++) {
            if (!is_wanted(&chunk[j]) || chunk[j].st_name >= strings.sh_size) continue;
            struct gci_symbol symbol = {object->base + chunk[j].st_value, chunk[j].st_size,
                names + chunk[j].st_name, file_name, ELF64_ST_TYPE(chunk[j].st_info) == STT_FUNC};
            if (!add(s, symbol)) return;
        }
    }
}

/* The table for the debugger if there is one, as it has all symbols; else that for the loader. */
static void read_file(
    struct gci_symbols *s, int file, const struct gci_elf_object *object, const char *file_name) {
    ElfW(Ehdr) header;
    ElfW(Shdr) section, best = {.sh_type = SHT_NULL};
    if (!gci_elf_read_header(file, object, &header)) return;
    uint64_t sections = gci_elf_sections(file, &header);
    for (uint64_t i = 0; i < sections; i++) {
        if (!gci_elf_read_entry(file, &section, sizeof section, header.e_shoff, i)) break;
        if (section.sh_type == SHT_SYMTAB ||
            (section.sh_type == SHT_DYNSYM && best.sh_type == SHT_NULL))
            best = section;
    }
    if (best.sh_type != SHT_NULL) read_table(s, file, object, &header, &best, file_name);
}

static int read_object(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    struct gci_symbols *s = context;
    struct gci_elf_object object;
    struct gci_symbol_file about = {UINTPTR_MAX, 0, NULL};
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD) continue;
        uintptr_t start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
        if (start < about.start) about.start = start;
        if (end > about.end) about.end = end;
    }
    gci_elf_describe(&object, info);
    int file = gci_elf_open(&object); /* completes the path */
    const char *name = gci_elf_file_name(&object);
    char *copy = new_text(s, strlen(name));
    struct gci_symbol_file *files =
        gci_vm_with_room(s->files, s->file_count, &s->file_capacity, sizeof *files);
    if (files != NULL) s->files = files;
    if (copy != NULL && files != NULL) {
        strcpy(copy, name);
        about.name = copy;
        files[s->file_count++] = about;
        if (file >= 0) read_file(s, file, &object, copy);
    }
    if (file >= 0) close(file);
    return 0;
}

/* By their starts; of those with the same start the widest first.  Shell's method with Tokuda's
 * gaps, each 9/4 of the next: qsort(3) may call malloc. */
static bool is_before(const struct gci_symbol *a, const struct gci_symbol *b) {
    return a->start != b->start ? a->start < b->start : a->bytes > b->bytes;
}

static void sort(struct gci_symbol *symbols, size_t count) {
    size_t gap = 1;
    while (gap < count / 9) gap = gap * 9 / 4 + 1;
    for (; gap > 0; gap = gap > 1 ? gap * 4 / 9 > 0 ? gap * 4 / 9 : 1 : 0) {
        for (size_t i = gap; i < count; i++) {
            struct gci_symbol symbol = symbols[i];
            size_t at = i;
            for (; at >= gap && is_before(&symbol, &symbols[at - gap]); at -= gap)
                symbols[at] = symbols[at - gap];
            symbols[at] = symbol;
        }
    }
}

void gci_symbols_load(struct gci_symbols *symbols) {
    dl_iterate_phdr(read_object, symbols);
    sort(symbols->symbols, symbols->count);
}

void gci_symbols_free(struct gci_symbols *s) {
    for (size_t i = 0; i < s->text_count; i++) gci_vm_unmap(s->texts[i].text, s->texts[i].bytes);
    if (s->texts) gci_vm_unmap(s->texts, gci_whole_pages(s->text_capacity * sizeof *s->texts));
    if (s->symbols) gci_vm_unmap(s->symbols, gci_whole_pages(s->capacity * sizeof *s->symbols));
    if (s->files) gci_vm_unmap(s->files, gci_whole_pages(s->file_capacity * sizeof *s->files));
    *s = (struct gci_symbols){.count = 0};
}

const struct gci_symbol *gci_symbol_at(
    const struct gci_symbols *s, uintptr_t address, bool function) {
    size_t low = 0, high = s->count;
    while (low < high) { /* the first beyond ADDRESS */
        size_t middle = (low + high) / 2;
        if (s->symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low, looked = 0; i-- > 0 && looked < LOOK_BACK; looked++) {
        const struct gci_symbol *symbol = &s->symbols[i];
        if (symbol->function == function && address - symbol->start < symbol->bytes) return symbol;
    }
    return NULL;
}

const struct gci_symbol_file *gci_symbol_file_at(
    const struct gci_symbols *symbols, uintptr_t address) {
    for (size_t i = 0; i < symbols->file_count; i++)
        if (address - symbols->files[i].start < symbols->files[i].end - symbols->files[i].start)
            return &symbols->files[i];
    return NULL;
}
