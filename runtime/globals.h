/* Where the library keeps its own writable globals: in a section of its own, so that the scanner of
 * static data can leave them out also when the library is linked statically into the program
 * (docs/roots.md, rule 6).  The linker defines the section's ends. */
#ifndef CAIRN_RUNTIME_GLOBALS_H
#define CAIRN_RUNTIME_GLOBALS_H

/* Goes before every writable variable of static storage in the library, except thread-local ones:
 *     static GCI_GLOBAL struct gc_heap *default_heap;
 * All of the section is bytes in the file, so nothing large belongs here. */
#define GCI_GLOBAL __attribute__((section("cairn_data")))

/* Weak: both are NULL where nothing of the section was linked. */
extern char __start_cairn_data[] __attribute__((weak, visibility("hidden")));
extern char __stop_cairn_data[] __attribute__((weak, visibility("hidden")));

#endif
