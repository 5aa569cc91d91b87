/* The sizes of a program's own free lists (gc_inline.h). */
#ifndef GC_TINY_FL_H
#define GC_TINY_FL_H

#ifndef GC_GRANULE_BYTES
#define GC_GRANULE_BYTES 16
#define GC_GRANULE_WORDS 2
#endif
#define GC_WORDS_TO_GRANULES(n) ((n) / GC_GRANULE_WORDS)
#ifndef GC_TINY_FREELISTS
#define GC_TINY_FREELISTS 25
#endif
#define GC_RAW_BYTES_FROM_INDEX(i) ((i)*GC_GRANULE_BYTES)

#endif
