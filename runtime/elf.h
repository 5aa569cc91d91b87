/* The files of loaded objects: which one an address lies in, and reading it.  A file may be cut
 * off, malformed or another one than was loaded: then reading fails, and nothing worse.  Takes
 * the loader's lock where it says so; allocates nothing. */
#ifndef CAIRN_RUNTIME_ELF_H
#define CAIRN_RUNTIME_ELF_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GCI_PATH_BYTES 1024

/* A loaded object. */
struct gci_elf_object {
    uintptr_t address; /* one in it */
    bool found;
    uintptr_t base;       /* what the loader adds to the file's addresses */
    uint64_t fingerprint; /* of its program headers */
    char path[GCI_PATH_BYTES];
};

/* Fills in all but ADDRESS from what the loader says of an object. */
void gci_elf_describe(struct gci_elf_object *object, const struct dl_phdr_info *info);

/* Opens the file of an object that was described; returns -1 if it can't. */
int gci_elf_open(struct gci_elf_object *object);

/* Both for the object that ADDRESS lies in; object->found says whether there is one.  Takes the
 * loader's lock. */
int gci_elf_find(struct gci_elf_object *object, const void *address);

/* The file's name without its directories. */
const char *gci_elf_file_name(const struct gci_elf_object *object);

/* Reads BYTES at OFFSET, or entry INDEX of a table at START of entries of BYTES bytes. */
bool gci_elf_read(int file, void *to, size_t bytes, uint64_t offset);
bool gci_elf_read_entry(int file, void *to, size_t bytes, uint64_t start, uint64_t index);

/* Whether FILE is an ELF file of this kind of machine with the program headers that were loaded. */
bool gci_elf_read_header(int file, const struct gci_elf_object *object, ElfW(Ehdr) * header);

/* How many sections it has. */
uint64_t gci_elf_sections(int file, const ElfW(Ehdr) * header);

#endif
