/* Makes a program that uses malloc() and free() one whose leaks are found: see "Finding leaks" in
 * docs/boehm.md. */
#ifndef GC_LEAK_DETECTOR_H
#define GC_LEAK_DETECTOR_H

#ifndef GC_DEBUG
#define GC_DEBUG
#endif
#include "gc.h"

#ifndef GC_DONT_INCLUDE_STDLIB
#include <stdlib.h>
#include <string.h>
#endif

#undef malloc
#define malloc(size) GC_MALLOC(size)
#undef calloc
#define calloc(count, size) GC_MALLOC((count) * (size))
#undef free
#define free(p) GC_FREE(p)
#undef realloc
#define realloc(p, size) GC_REALLOC(p, size)
#undef strdup
#define strdup(string) GC_STRDUP(string)
#undef strndup
#define strndup(string, size) GC_STRNDUP(string, size)
#ifdef GC_REQUIRE_WCSDUP
#include <wchar.h>
#undef wcsdup
#define wcsdup(string) GC_WCSDUP(string)
#endif
#undef memalign
#define memalign(alignment, size) GC_memalign(alignment, size)
#undef posix_memalign
#define posix_memalign(result, alignment, size) GC_posix_memalign(result, alignment, size)

#ifndef CHECK_LEAKS
#define CHECK_LEAKS() GC_gcollect()
#endif

#endif
