/* Cairn: a garbage-collected heap for C programs.
 *
 * Allocate with gc_alloc() and never free.  The collector finds pointers in registers, on the
 * stack, in static data, in thread-local storage, in ranges named with gc_add_root(), and in the
 * objects it finds from there.  Memory from malloc or mmap is NOT searched: name it with
 * gc_add_root(), or keep it on the managed heap.
 *
 * "May collect" below says that a call can run a collection.  What gc_alloc() returns never
 * moves; nor does a leaf, unless nothing but precise references of cairn/embed.h leads to it.  Any
 * thread may use the heap once it is attached (see "Threads"): all functions may be called by
 * several threads at once, but for two calls about one object of which one frees or resizes it.
 * No function here may be called from a signal handler.
 *
 * The manual is docs/api.md; the words used here are explained in docs/glossary.md. */
#ifndef CAIRN_GC_H
#define CAIRN_GC_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The inline allocation below bakes the heap's layout into programs.  gc_init() refuses a
 * program that was compiled for another layout. */
#define GC_ABI 5

#if defined(GC_BUILDING_LIBRARY)
#define GC_API __attribute__((__visibility__("default")))
#else
#define GC_API
#endif

/* ---- Starting ------------------------------------------------------------------------------- */

/* Which write barrier finds the old pages that the program wrote to (docs/barrier.md). */
enum gc_barrier {
    GC_BARRIER_AUTO,     /* the best that works here and can't make a system call fail */
    GC_BARRIER_UFFD,     /* asynchronous userfaultfd, read with PAGEMAP_SCAN (Linux 6.7) */
    GC_BARRIER_MPROTECT, /* mprotect and SIGSEGV: system calls into old objects fail with EFAULT,
                            unless gc_prepare_write() was called first */
    GC_BARRIER_NONE,     /* the whole old space counts as written */
    GC_BARRIER_CROSS,    /* UFFD and MPROTECT at once, compared: for testing the barriers */
    GC_BARRIER_EXPLICIT, /* the program says it, by gc_write() (cairn/embed.h); never AUTO */
    GC_BARRIER_EXPLICIT_CROSS /* the same, and page protection finds stores that didn't say so */
};

/* What the program stores references with, gc_write() or plain assignments (docs/barrier.md, rules
 * 12 and 15). */
enum gc_writes {
    GC_WRITES_PLAINLY, /* anything: GC_BARRIER_EXPLICIT can't be had */
    GC_WRITES_TYPED,   /* gc_write(), into objects with types */
    GC_WRITES_ALL      /* gc_write(), into what gc_alloc() makes, too */
};

/* How threads are stopped for a collection (docs/threads.md). */
enum gc_stop {
    GC_STOP_SIGNAL,   /* by a signal, wherever they are */
    GC_STOP_SAFEPOINT /* when they allocate, call gc_safepoint() or block: all must do so often */
};

/* How references are found on the stacks and in the registers of threads (docs/types.md, rule
 * 12). */
enum gc_stack_scan {
    GC_STACK_SCAN_AMBIGUOUS, /* all of it is searched, and what a word may mean doesn't move */
    GC_STACK_SCAN_PRECISE    /* only variables in a GC_FRAME() and frames with stack maps count
                                (cairn/embed.h); implies GC_STOP_SAFEPOINT */
};

/* Which threads may use the heap. */
enum gc_attach {
    GC_ATTACH_EXPLICIT, /* those that called gc_thread_attach(), or that gc_pthread_create() made */
    GC_ATTACH_AUTO      /* any: its first allocation attaches it */
};

/* Who runs the finalizers that are ready (cairn/finalize.h). */
enum gc_finalizers {
    GC_FINALIZERS_MANUAL, /* the program, by gc_run_finalizers() */
    GC_FINALIZERS_THREAD, /* a thread of the library's own, started when there is one to run */
    GC_FINALIZERS_INLINE  /* the thread that collected, before its allocation returns */
};

/* Where a large object is placed among the free runs of pages. */
enum gc_fit { GC_FIT_FIRST, GC_FIT_BEST, GC_FIT_WORST };

/* Finding objects that the program lost without gc_free() (docs/leaks.md). */
enum gc_leaks {
    GC_LEAKS_OFF,
    GC_LEAKS_SAMPLED, /* counts them all, and says of a sample where they were allocated */
    GC_LEAKS_ALL      /* says so of every one: each allocation is slow then */
};

/* What is done so that mistakes are noticed. */
enum gc_poison {
    GC_POISON_OFF,
    GC_POISON_FILL, /* what is freed is filled with 0xfb */
    GC_POISON_GUARD /* the same, and a large object ends at a page that can't be accessed */
};

/* Options for gc_init().  Fill it with gc_options_init(), then change fields.  Each field has an
 * environment variable, named in docs/options.md, which wins over the field, so that one who
 * runs a program can tune it without its source. */
typedef struct gc_options {
    uint32_t abi;                 /* GC_ABI; set by gc_options_init() */
    uint32_t size;                /* sizeof(gc_options); set by gc_options_init() */
    size_t heap_limit;            /* bytes the heap may hold; 0: 7/8 of the machine's or cgroup's */
    size_t heap_reserve;          /* bytes of address space to reserve; less is taken if refused */
    size_t nursery;               /* bytes allocated between minor collections; 0: by cost */
    size_t mark_stack_limit;      /* bytes the mark stack may grow to; 0: no limit */
    const char *trace;            /* file for a timeline of collections; NULL or "": none */
    uint64_t tag_mask;            /* a word is a reference if, of these bits, exactly those of */
    uint64_t tag_value;           /* TAG_VALUE are set (docs/tags.md) */
    uint64_t tag_kind_mask;       /* and these, up to 6 adjacent bits, are the number of a bit */
    uint64_t tag_kinds;           /* that is set in TAG_KINDS */
    uint64_t tag_address_mask;    /* which of its bits are the address; 0: references are plain */
    uint32_t tag_address_left;    /* by how much to shift these to the left, */
    uint32_t tag_address_right;   /* or to the right, to get the address */
    size_t profile_interval;      /* bytes allocated, on average, from one sample to the next */
    size_t site_memory;           /* bytes that the table of allocation sites may take */
    const char *profile;          /* file that a profile is written to at exit; NULL: none.  Ends in
                                     .folded, .pb or .pb.gz (docs/profiling.md) */
    uint32_t site_depth;          /* callers that are told apart in an allocation site, up to 256 */
    uint32_t find_leaks;          /* enum gc_leaks */
    uint32_t growth_percent;      /* old space may grow by this much between full collections */
    uint32_t barrier;             /* enum gc_barrier */
    uint32_t writes_explicitly;   /* enum gc_writes; choosing GC_BARRIER_EXPLICIT says TYPED */
    uint32_t large_fit;           /* enum gc_fit */
    uint32_t stop;                /* enum gc_stop */
    uint32_t stop_signal;         /* its number; 0: a real-time signal, SIGRTMAX - 5 */
    uint32_t attach;              /* enum gc_attach */
    uint32_t stack_scan;          /* enum gc_stack_scan */
    uint32_t workers;             /* threads that mark at once; 0: as many as there are CPUs */
    uint32_t stress;              /* n > 0: collect at every nth allocation */
    uint32_t release_after;       /* collections a free page waits before the OS gets it back */
    uint32_t compact_percent;     /* compact when so much of the blocks is unused; 0: when asked */
    uint32_t protect_moved;       /* n > 0: what objects were moved out of can't be accessed for so
                                     many collections */
    uint32_t finalizers;          /* enum gc_finalizers */
    uint32_t type_stats;          /* n > 0: one of n minor collections counts objects by type */
    uint8_t prepares_writes;      /* calls gc_prepare_write(): AUTO may take MPROTECT */
    uint8_t one_past_end_in_heap; /* heap words also hold the object that ends where they point */
    uint8_t cgroup_limit;         /* respect the cgroup's memory limit */
    uint8_t huge_pages;           /* ask for transparent huge pages */
    uint8_t log;                  /* one line on stderr for each collection */
    uint8_t verify;               /* check every invariant of the heap at each collection */
    uint8_t poison;               /* enum gc_poison */
    uint8_t dump_heap;            /* the heap is in core dumps, too: for debuggers */
} gc_options;

/* Sets *options to the defaults of the library the program runs with.  ABI and SIZE are the
 * program's own; use gc_options_init(). */
GC_API void gc_options_init_abi(gc_options *options, uint32_t abi, uint32_t size);
static inline void gc_options_init(gc_options *options) {
    gc_options_init_abi(options, GC_ABI, (uint32_t)sizeof *options);
}

/* Creates the heap.  OPTIONS may be NULL (the defaults).  Optional: the first allocation calls
 * gc_init(NULL).  Attaches the calling thread. Returns 0; EINVAL if a field has a value it can't
 * have (one line on stderr says which and what is accepted) or the ABI number or the structure's
 * size is another library's; EALREADY if the heap exists; ENOMEM if there is not even address
 * space for the smallest heap. */
GC_API int gc_init(const gc_options *options);

/* ---- Allocating ----------------------------------------------------------------------------- */

/* All allocators return zeroed memory, aligned to 16 bytes, or NULL with errno ENOMEM when the
 * heap limit or the machine's memory is reached after a full collection and the handler of
 * gc_set_oom_handler() gave up, or when the size is beyond PTRDIFF_MAX.  A size of 0 gives a
 * distinct object of 16 bytes. All of them may collect. */

/* SIZE bytes whose every aligned word may be a pointer, also into the middle of an object. */
GC_API void *gc_alloc(size_t size);

/* SIZE bytes that hold no pointers to the heap: text, numbers, pixels.  Never searched, so
 * cheaper, and never write-protected. */
GC_API void *gc_alloc_leaf(size_t size);

/* Like gc_alloc(), at a multiple of ALIGNMENT, a power of two up to 1 GiB (else NULL, errno
 * EINVAL). */
GC_API void *gc_alloc_aligned(size_t alignment, size_t size);

/* Changes the size of the object at P and keeps its kind (pointers or leaf) and contents up to
 * the smaller size; bytes beyond the old size are zero.  May return another address: P is then
 * freed, as by gc_free().  P NULL: gc_alloc(SIZE).  SIZE 0 frees P and returns NULL with errno
 * unchanged.  On failure returns NULL, errno ENOMEM, and the object at P is untouched.  P must
 * be the start of an object: anything else aborts with a message. */
GC_API void *gc_realloc(void *p, size_t size);

/* A copy of the string S, itself a leaf object. */
GC_API char *gc_strdup(const char *s);

/* Optional: gives the object at P back at once.  The caller promises that nothing uses it any
 * more.  P NULL does nothing.  A pointer that isn't the start of a live object prints what it is
 * and aborts. Never collects. */
GC_API void gc_free(void *p);

/* ---- Asking --------------------------------------------------------------------------------- */

/* The usable size in bytes of the object at P, at least what was asked for; 0 if P isn't the
 * start of a live object.  Never collects. */
GC_API size_t gc_size(const void *p);

/* The start of the object that P points into, or NULL.  One past an object's end is not in it.
 * Never collects. */
GC_API void *gc_base(const void *p);

/* ---- Collecting ----------------------------------------------------------------------------- */

enum gc_collection {
    GC_MINOR,  /* what was allocated since the last collection */
    GC_FULL,   /* the whole heap */
    GC_COMPACT /* the whole heap; moves what may move out of sparse blocks, and returns all free
                  memory to the operating system (docs/compaction.md) */
};

/* Collects now.  Returns 0; EINVAL for another KIND; EBUSY while collection is disabled, or when
 * the list of loaded objects can't be read for want of memory. */
GC_API int gc_collect(enum gc_collection kind);

/* Keeps collections from starting until gc_enable() was called as often.  The heap grows
 * meanwhile; at the heap limit allocation fails. */
GC_API void gc_disable(void);
/* Aborts with a message when called more often than gc_disable(). */
GC_API void gc_enable(void);

/* Tells the collector of BYTES of memory outside the heap (negative: fewer) that are released
 * once objects of this heap die; it collects earlier for them.  Never collects itself. */
GC_API void gc_account_external(ptrdiff_t bytes);

/* Makes the collector search the BYTES bytes at START for pointers at every collection.  Returns
 * 0, EINVAL if START is NULL or BYTES is 0 or the range wraps around, ENOMEM.  The range must
 * stay readable until it is removed. */
GC_API int gc_add_root(const void *start, size_t bytes);
/* Removes a range that was added with the same START and BYTES.  Returns 0, or ENOENT. */
GC_API int gc_remove_root(const void *start, size_t bytes);

/* Pins the object P points into: it keeps its address for as long as it lives.  (What gc_alloc()
 * returns never moves anyhow.)  A pin doesn't keep an object alive and doesn't count: one
 * gc_unpin() ends it. Both return 0, or EINVAL when P points into no live object.  Never
 * collect. */
GC_API int gc_pin(const void *p);
GC_API int gc_unpin(const void *p);

/* Before a system call stores into the N bytes at P: opens their pages, so that the call can't
 * fail with EFAULT under GC_BARRIER_MPROTECT.  Not needed, and nearly free, under the other
 * barriers.  The range may lie outside the heap.  Never collects; the next collection ends its
 * effect. */
GC_API void gc_prepare_write(void *p, size_t n);

/* HANDLER is called when an allocation of SIZE bytes can't be met.  It may drop references and
 * return nonzero: the collector collects and tries once more.  It returns 0 to give up: the
 * allocation returns NULL with errno ENOMEM.  NULL: no handler.  The handler may not allocate
 * from the heap.  DATA is not a root. */
typedef int (*gc_oom_handler)(size_t size, void *data);
GC_API void gc_set_oom_handler(gc_oom_handler handler, void *data);

/* ---- Threads -------------------------------------------------------------------------------- */

/* A thread that uses the heap is attached: its registers, stack and thread-local storage are
 * roots, and it can be stopped for a collection.  The thread that opens the heap is attached; so is
 * one made by gc_pthread_create(); others call gc_thread_attach(), or with GC_ATTACH_AUTO just
 * allocate.  Memory that only a thread refers to that isn't attached is freed.  A thread that
 * returns, calls pthread_exit() or is cancelled detaches by itself, after the last destructor of
 * its thread-specific values.
 *
 * With #define CAIRN_PTHREADS before this header is included, pthread_create() and its like mean
 * the functions here, so that a program needs no other change. */

/* Attaches the calling thread, and unblocks the stop signal in it.  Opens the heap if need be.
 * Returns 0; EALREADY if it is attached; ENOMEM; EBUSY in a thread that is ending.  May wait for
 * a collection, never runs one. */
GC_API int gc_thread_attach(void);

/* Detaches the calling thread: from here on its stack is no root, and it may not touch the heap.
 * Returns 0, or ESRCH if it isn't attached.  May wait for a collection, never runs one. */
GC_API int gc_thread_detach(void);

/* Where a thread lets a collection stop it, in a loop that doesn't allocate.  Needed only with
 * GC_STOP_SAFEPOINT; else it makes stopping faster.  Costs a load and a test. */
static inline void gc_safepoint(void);

/* Around what may block for long, a read(2) or a wait: in between the thread counts as stopped, so
 * it may not touch the heap, nor allocate, and a collection doesn't wait for it or signal it.
 * References that it keeps in its registers and on its stack at the call of gc_blocking_begin()
 * hold.  Signal handlers that run in between may not touch the heap either.  May be nested.
 * gc_blocking_end() may wait for a collection; aborts with a message when called more often than
 * begin. In a thread that isn't attached both do nothing. */
GC_API void gc_blocking_begin(void);
GC_API void gc_blocking_end(void);

/* Stacks that aren't a thread's own: of coroutines and fibers.  Each is a root for as long as it is
 * registered, whether it runs or not. */
typedef struct gc_stack gc_stack;

/* Registers the BYTES bytes at LOW, the whole stack, which stay readable until it is unregistered.
 * Returns NULL with errno EINVAL (no range, or it overlaps a registered one) or ENOMEM. */
GC_API gc_stack *gc_stack_register(void *low, size_t bytes);
/* Ends it.  Returns 0; EBUSY if a thread runs on it; EINVAL if STACK is NULL. */
GC_API int gc_stack_unregister(gc_stack *stack);
/* Optional for a program, to spare the collector the search of whole stacks, not for a single
 * switch: one that calls it does so before every switch.  The calling thread leaves the
 * stack it runs on for STACK (NULL: its own), in the next statement, by swapcontext() or the like.
 * What it holds on the stack it leaves above this call, and in the registers that a called function
 * must preserve, stays a root.  Between the call and the switch it may use 1 KiB of stack and may
 * not take up new references. */
GC_API void gc_stack_switch(gc_stack *stack);

/* As the functions of <pthread.h> and <signal.h> whose names they have, for threads that use the
 * heap.  gc_pthread_create() makes one that is attached from its first instruction to its last: its
 * argument is a root until then, and its result until it is joined.  The functions that take
 * signal sets leave the stop signal out of them, so that a thread can be stopped that blocks all
 * signals or waits for any. */
GC_API int gc_pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
GC_API int gc_pthread_join(pthread_t thread, void **result);
GC_API int gc_pthread_detach(pthread_t thread);
GC_API void gc_pthread_exit(void *result) __attribute__((__noreturn__));
GC_API int gc_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
GC_API int gc_sigprocmask(int how, const sigset_t *set, sigset_t *old);
GC_API int gc_sigwait(const sigset_t *set, int *number);
GC_API int gc_sigwaitinfo(const sigset_t *set, siginfo_t *info);
GC_API int gc_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout);
GC_API int gc_sigsuspend(const sigset_t *set);

#ifdef CAIRN_PTHREADS
#define pthread_create  gc_pthread_create
#define pthread_join    gc_pthread_join
#define pthread_detach  gc_pthread_detach
#define pthread_exit    gc_pthread_exit
#define pthread_sigmask gc_pthread_sigmask
#define sigprocmask     gc_sigprocmask
#define sigwait         gc_sigwait
#define sigwaitinfo     gc_sigwaitinfo
#define sigtimedwait    gc_sigtimedwait
#define sigsuspend      gc_sigsuspend
#endif

/* ---- Seeing --------------------------------------------------------------------------------- */

typedef struct gc_pauses {
    uint64_t count;    /* collections */
    uint64_t total_ns; /* sum of their pauses */
    uint64_t p50_ns;   /* half of the pauses were at most this long, to within 7 % */
    uint64_t p99_ns;
    uint64_t max_ns;
} gc_pauses;

typedef struct gc_stats {
    uint32_t size;         /* set by the caller to sizeof(gc_stats); the library fills that much */
    uint32_t barrier;      /* enum gc_barrier in force; AUTO before gc_init() */
    gc_pauses minor, full; /* pauses by kind of collection */
    gc_pauses all;         /* pauses of both */
    gc_pauses stops;       /* how long it took until all other threads stood still */
    uint64_t allocated_bytes; /* since the start */
    uint64_t allocated_large; /* of these, in objects beyond 8 KiB */
    uint64_t live_bytes;      /* found live by the last collection */
    uint64_t heap_bytes;      /* blocks and large objects in use, garbage and holes included */
    uint64_t free_bytes;      /* held for reuse */
    uint64_t committed_bytes; /* address space made usable so far, side tables not counted */
    uint64_t released_bytes;  /* given back to the operating system since the start */
    uint64_t external_bytes;  /* as told by gc_account_external() */
    uint64_t nursery_bytes;   /* to be allocated between two minor collections */
    uint64_t dirty_pages;     /* found by the barrier since the start */
    uint64_t open_blocks;   /* pointer-bearing old blocks left unprotected by the last collection */
    uint64_t closed_blocks; /* write-protected ones */
    uint64_t promoted_bytes; /* survived their first collection, since the start */
    uint64_t mark_ns;        /* spent marking, since the start */
    uint64_t threads;        /* attached now */
    uint64_t thread_slots;   /* records of threads that exist, in use or not */
    uint64_t workers;        /* threads of the collector's own that exist */
    uint64_t moved_bytes;    /* of promoted_bytes, copied: objects with types (cairn/embed.h) */

    uint64_t small_bytes;      /* blocks of objects up to 8 KiB, after the last collection */
    uint64_t small_live_bytes; /* of these, live; the rest is fragmentation */
    uint64_t compactions;      /* since the start; what follows is of the last one */
    uint64_t compact_before, compact_after; /* bytes of such blocks, without and with compaction */
    uint64_t compact_live;                  /* bytes live in them */
    uint64_t compact_moved;                 /* of these, moved */
    uint64_t compact_by_roots;              /* of these, held by ambiguous words in roots, */
    uint64_t compact_by_objects;            /* by words of objects without a type, */
    uint64_t compact_by_pins;               /* by gc_pin() or their type, */
    uint64_t compact_by_kind;   /* or that never move, because any word in them may be a pointer */
    uint64_t compact_released;  /* bytes given back to the operating system */
    uint64_t compact_ns;        /* the pause, of which */
    uint64_t compact_moving_ns; /* for moving */
    uint64_t tenured_bytes;     /* of allocated_bytes, by gc_alloc_old() (cairn/embed.h) */
    uint64_t finalizers;        /* objects have now (cairn/finalize.h), */
    uint64_t finalizers_ready;  /* wait to be run, */
    uint64_t finalizers_run;    /* were run since the start */
    uint64_t finalizer_cycles;  /* of objects with ordered ones, reported since the start */
    uint64_t guarded;           /* objects that guardians wait for, or have in their queues */
    uint64_t weak_references, links; /* that exist; a cleared link does no more */

    /* Ephemerons, and entries of weak tables, in the last collection (docs/ephemerons.md): */
    uint64_t ephemerons_met;     /* searched, */
    uint64_t ephemerons_pended;  /* of these, before their keys were found; one may count twice */
    uint64_t ephemerons_cleared; /* whose keys were dead */
} gc_stats;

/* Fills *STATS as far as STATS->size says.  Returns 0; EINVAL if that size is smaller than the
 * first version of the structure.  Never collects. */
GC_API int gc_get_stats(gc_stats *stats);

/* Checks every invariant of the heap.  Returns 0, or how many are broken; each of these is
 * printed on stderr (of those in blocks the first 20).  Never collects. */
GC_API size_t gc_verify(void);

/* Prints on stderr what keeps the object that P points into alive: a root, named by its frame's
 * function, its static symbol or its range, and the chain of objects that leads from it to P.
 * Returns 0; ESRCH if nothing does; EINVAL if P points into no live object; ENOMEM.  Never
 * collects. */
GC_API int gc_explain(const void *p);

/* What gc_profile_write() writes. */
enum gc_profile_format {
    GC_PROFILE_BY_NAME,     /* what the path ends in: .live.folded, .folded, .pb or .pb.gz */
    GC_PROFILE_FOLDED,      /* a line for each stack, with the bytes allocated: for flame graphs */
    GC_PROFILE_FOLDED_LIVE, /* the same, with the bytes in use */
    GC_PROFILE_PPROF,     /* profile.proto of pprof, with objects and bytes allocated and in use */
    GC_PROFILE_PPROF_GZIP /* the same in a gzip file */
};

/* Begins a profile: from here on allocations are sampled, one for INTERVAL bytes on average (0: the
 * option profile_interval), with their call stacks; what was counted before is forgotten.  Under
 * GC_LEAKS_ALL every one is, whatever INTERVAL says.  Returns 0; EALREADY if one is being made;
 * EINVAL if INTERVAL is more than 1 TiB; ENOMEM.  Any thread may call it, and the other two.  Never
 * collects. */
GC_API int gc_profile_start(size_t interval);
/* Ends it: no more is sampled.  What was stays, to be written; whether it is still in use is
 * followed further.  Returns 0, or ESRCH if none is being made. */
GC_API int gc_profile_stop(void);
/* Writes the profile that is being made, or was, to PATH, in FORMAT of enum gc_profile_format.
 * In use is what no collection has found dead: gc_collect(GC_FULL) before makes that exact.
 * Returns 0; EINVAL if PATH is NULL, FORMAT none of these, or the name says none; ESRCH if no
 * profile was ever begun; ENOMEM; or what the system said of the file.  Calls malloc.  Never
 * collects. */
GC_API int gc_profile_write(const char *path, int format);

/* Runs a full collection, and prints on stderr which objects were found unreachable that were never
 * given to gc_free(), since the last such report, by where they were allocated, most bytes first.
 * Returns how many they are; always 0 when the option find_leaks is off.  They are gone, and their
 * memory is used again: each is reported once.  At exit the same is done. Calls malloc. */
GC_API size_t gc_find_leaks(void);
/* Runs a full collection, unless collection is disabled, and writes what is alive then to a
 * file, as a heap snapshot in V8's format (".heapsnapshot"), which Chrome's DevTools and memlab
 * open: objects by type, their sizes and references, and roots by name (docs/snapshots.md).
 * PATH is replaced when all is written; where it is a pipe or the like it is written to
 * directly.  Returns 0; EINVAL if PATH is NULL; ENOMEM; EOVERFLOW if there are more objects than
 * the format can number; or the error of the file, of which nothing is left then.  All threads
 * are stopped for the collection and for most of the writing, some 0.5 s for a million objects.
 * May not be called between gc_blocking_begin() and _end(). */
GC_API int gc_snapshot_write(const char *path);
/* The same to a file descriptor, which stays open; after an error a part may have been written.
 * EBADF if FILE is negative. */
GC_API int gc_snapshot_write_fd(int file);

/* "cairn 0.1.0". */
GC_API const char *gc_version(void);

/* ---- The inline fast path ------------------------------------------------------------------- */

/* What follows is the library's own business; programs use the functions above. */

#define GC_GRANULE   16u   /* bytes described by one side byte */
#define GC_SMALL_MAX 1024u /* larger objects are not bump-allocated */
#define GC_HOT_TYPES 16u   /* types whose objects have a buffer of their own */

#define GC_CARD_SHIFT 10u /* 1 KiB, of which GC_BARRIER_EXPLICIT remembers that it was written */

#define GC_SIDE_START 0x01u /* an object starts in this granule */
#define GC_SIDE_END   0x02u /* an object ends in this granule */

/* A thread's open hole of one kind: [limit, cursor) is zeroed, its side bytes are zero.  Objects
 * are taken from its upper end: why is in docs/memory.md, rule 10. */
struct gc_buffer {
    uintptr_t cursor;
    uintptr_t limit;
};

/* The part of a thread's state that inline code uses.  Written by its own thread only, but for
 * STOP, and for all of it while the thread is stopped where it can't be using it; all zero in a
 * thread that is not attached, which sends it down the slow path. */
struct gc_thread_buffers {
    uint8_t *side;  /* side byte of address p is side[p / GC_GRANULE] */
    uint8_t *cards; /* card byte of address p is cards[p >> GC_CARD_SHIFT]; NULL: there are none */
    struct gc_buffer ambiguous;
    struct gc_buffer leaf;
    struct gc_buffer hot[GC_HOT_TYPES]; /* of one type each: docs/types.md, rule 2 */
    struct gc_buffer by_tag;            /* of gc_alloc_with_tag() */
    struct gc_buffer typed;             /* of all others, not for inline code */
    struct gc_buffer none;              /* has never room */
    struct gc_frame *frames; /* innermost GC_FRAME() of cairn/embed.h; also of an unknown thread */
    uint32_t stop;           /* nonzero: a collection waits for this thread */
    struct gc_buffer apart;  /* of Boehm's interface: docs/policy.md, rule 7 */
};

extern GC_API __thread struct gc_thread_buffers gc_buffers
    __attribute__((__tls_model__("initial-exec")));

GC_API void *gc_alloc_slow(size_t size) __attribute__((__malloc__, __alloc_size__(1)));
GC_API void *gc_alloc_leaf_slow(size_t size) __attribute__((__malloc__, __alloc_size__(1)));

GC_API void gc_safepoint_slow(void);

static inline void gc_safepoint(void) {
    if (__builtin_expect(__atomic_load_n(&gc_buffers.stop, __ATOMIC_RELAXED) != 0, 0))
        gc_safepoint_slow();
}

#define GC_INLINE extern inline __attribute__((__gnu_inline__, __always_inline__))

/* Takes SIZE bytes from BUFFER, or returns NULL.  The cursor is moved first and the side byte that
 * makes the object visible is written last, before anything is stored into the object, so that a
 * thread stopped at any instruction has lost nothing and shown nothing half done (docs/memory.md,
 * rule 6; docs/threads.md, rule 9).  The empty assembly keeps the compiler to that order. */
GC_INLINE void *gc_bump(struct gc_buffer *buffer, size_t size) {
    uintptr_t end = buffer->cursor;
    size_t bytes = (size + (GC_GRANULE - 1)) & ~(size_t)(GC_GRANULE - 1);
    if (__builtin_expect(size - 1 >= GC_SMALL_MAX || bytes > end - buffer->limit, 0)) return NULL;
    uintptr_t start = end - bytes;
    if (start == 0)
        __builtin_unreachable(); /* an empty buffer has no room: no test for NULL follows */
    buffer->cursor = start;
    __asm__ volatile("" ::: "memory");
    uint8_t *side = gc_buffers.side + start / GC_GRANULE;
    if (bytes == GC_GRANULE) {
        *side = GC_SIDE_START | GC_SIDE_END;
    } else {
        side[bytes / GC_GRANULE - 1] = GC_SIDE_END;
        __asm__ volatile("" ::: "memory");
        *side = GC_SIDE_START;
    }
    __asm__ volatile("" ::: "memory");
    return (void *)start;
}

#if !defined(GC_NO_INLINE) && defined(__OPTIMIZE__)
GC_INLINE void *gc_alloc(size_t size) {
    void *p = gc_bump(&gc_buffers.ambiguous, size);
    return __builtin_expect(p != NULL, 1) ? p : gc_alloc_slow(size);
}

GC_INLINE void *gc_alloc_leaf(size_t size) {
    void *p = gc_bump(&gc_buffers.leaf, size);
    return __builtin_expect(p != NULL, 1) ? p : gc_alloc_leaf_slow(size);
}
#endif
#undef GC_INLINE

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_GC_H */
