/* The files of loaded objects: see elf.h.  Owns nothing.  Called by runtime/describe.c and
 * runtime/symbols.c. */
#define _GNU_SOURCE
#include "runtime/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Loaded objects ------------------------------------------------------------------------- */

/* FNV-1a, going on from HASH. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

#define HASH_START 0xcbf29ce484222325u

void gci_elf_describe(struct gci_elf_object *object, const struct dl_phdr_info *info) {
    object->found = true;
    object->base = info->dlpi_addr;
    object->fingerprint =
        hash_bytes(HASH_START, info->dlpi_phdr, info->dlpi_phnum * sizeof *info->dlpi_phdr);
    snprintf(object->path, sizeof object->path, "%s", info->dlpi_name);
}

static int match_object(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    struct gci_elf_object *object = context;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t offset = object->address - info->dlpi_addr - header->p_vaddr;
        if (header->p_type != PT_LOAD || offset >= header->p_memsz) continue;
        gci_elf_describe(object, info);
        return 1;
    }
    return 0;
}

/* The program itself has no name: the kernel knows its file. */
static void name_program(struct gci_elf_object *object) {
    ssize_t length = readlink("/proc/self/exe", object->path, sizeof object->path - 1);
    if (length < 0) length = 0;
    object->path[length] = '\0';
}

int gci_elf_open(struct gci_elf_object *object) {
    const char *path = object->path;
    if (*path == '\0') {
        name_program(object);
        path = "/proc/self/exe"; /* right even if the file was removed or replaced */
    }
    /* A name without a slash, as of the kernel's vdso, is not a path. */
    return strchr(path, '/') ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

int gci_elf_find(struct gci_elf_object *object, const void *address) {
    object->address = (uintptr_t)address;
    object->found = false;
    dl_iterate_phdr(match_object, object);
    return object->found ? gci_elf_open(object) : -1;
}

const char *gci_elf_file_name(const struct gci_elf_object *object) {
    const char *slash = strrchr(object->path, '/');
    const char *name = slash ? slash + 1 : object->path;
    return *name ? name : "the program";
}

/* ---- Files --------------------------------------------------------------------------------- */

bool gci_elf_read(int file, void *to, size_t bytes, uint64_t offset) {
    if (offset > INT64_MAX) return false;
    ssize_t got;
    do got = pread(file, to, bytes, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)bytes;
}

bool gci_elf_read_entry(int file, void *to, size_t bytes, uint64_t start, uint64_t index) {
    uint64_t offset;
    if (__builtin_mul_overflow(index, bytes, &offset)) return false;
    if (__builtin_add_overflow(offset, start, &offset)) return false;
    return gci_elf_read(file, to, bytes, offset);
}

bool gci_elf_read_header(int file, const struct gci_elf_object *object, ElfW(Ehdr) * header) {
    if (!gci_elf_read(file, header, sizeof *header, 0)) return false;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return false;
    if (header->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)) return false;
    if (header->e_phentsize != sizeof(ElfW(Phdr))) return false;
    if (header->e_shentsize != sizeof(ElfW(Shdr))) return false;
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) program;
        if (!gci_elf_read_entry(file, &program, sizeof program, header->e_phoff, i)) return false;
        hash = hash_bytes(hash, &program, sizeof program);
    }
    return hash == object->fingerprint;
}

uint64_t gci_elf_sections(int file, const ElfW(Ehdr) * header) {
    ElfW(Shdr) section;
    if (header->e_shnum != 0) return header->e_shnum;
    if (!gci_elf_read_entry(file, &section, sizeof section, header->e_shoff, 0)) return 0;
    return section.sh_size; /* too many for the header's field */
}
