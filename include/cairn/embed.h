/* Cairn for language implementers: objects whose layout the heap knows.
 *
 * The collector reads and writes the pointer fields of a typed object and nothing else in it, and a
 * minor collection or a compaction moves the object, unless a word that only may be a reference
 * means it: one on a stack, in a register, in static data, or in an object from gc_alloc().  So C
 * code needs to do nothing about its local variables.  It must not keep the only pointer to a typed
 * object where the collector doesn't look, nor depend on its address (docs/types.md).
 *
 * Thread rules and errors are as in cairn/gc.h. */
#ifndef CAIRN_EMBED_H
#define CAIRN_EMBED_H

#include <stddef.h>
#include <stdint.h>

#include "cairn/gc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Types ---------------------------------------------------------------------------------- */

typedef struct gc_visitor gc_visitor;

/* Reports the pointer fields of the object at OBJECT, of BYTES bytes, that lie in [FROM, TO): calls
 * gc_visit() for each.  What is outside of the range may be left out, so that a part of a large
 * object is searched at the price of that part.  An array's unused end reads as zero.  Called while
 * threads are stopped, by several threads at once: it may read the object, and must not allocate,
 * lock, or look at other objects, which may have moved. */
typedef void gc_trace_function(
    void *object, size_t bytes, void *from, void *to, gc_visitor *visitor);

/* SLOT, a field of the object being traced or, in a root hook, a word outside the heap, holds NULL
 * or the start of an object; in a heap with tagged words (docs/tags.md), a word of its format. */
GC_API void gc_visit(gc_visitor *visitor, void **slot);

/* The same for a field that holds an object's plain address, or NULL, in a heap with tagged words;
 * in others there is no difference. */
GC_API void gc_visit_plain(gc_visitor *visitor, void **slot);

enum gc_type_flags {
    GC_TYPE_LEAF = 1,              /* no pointers: neither offsets nor a trace function; its objects
                                     move in compactions only */
    GC_TYPE_PINNED = 2,            /* its objects never move (leaves: until gc_unpin()) */
    GC_TYPE_AMBIGUOUS_HOLDER = 4,  /* any word may be a reference, or none: searched and kept in
                                      place like what gc_alloc() makes */
    GC_TYPE_LAYOUT_MAY_CHANGE = 8, /* which words of an object are pointers may change while it
                                      lives (docs/types.md, rule 17) */
    GC_TYPE_PLAIN_FIELDS = 16,     /* in a heap with tagged words: the pointers at its offsets are
                                     plain addresses all the same (docs/tags.md) */
};

/* The layout of one object, or of each element of an array. */
typedef struct gc_type_desc {
    const char *name;         /* for messages; copied */
    size_t size;              /* bytes, 1 to 1 MiB */
    const uint32_t *pointers; /* offsets of the pointer fields, multiples of 8, ascending; copied */
    size_t pointer_count;
    gc_trace_function *trace; /* instead of POINTERS, for layouts that vary from object to object */
    uint32_t flags;           /* enum gc_type_flags */
    const char *fields;       /* names of the pointers at POINTERS, separated by commas; NULL: they
                                 are named by their offsets; copied */
} gc_type_desc;

/* A registered type.  Its fields are the library's. */
typedef struct gc_type {
    uint32_t bytes;  /* of one object */
    uint32_t buffer; /* from which inline code takes one: its offset in struct gc_thread_buffers */
    const struct gc_type_desc *desc;
} gc_type;

/* Registers a type, for as long as the process runs; opens the heap.  Returns NULL with errno
 * EINVAL if the description contradicts itself, EEXIST if the name is taken, ENOSPC if there are
 * 60,000 types already, or 238 of at most 16 bytes, ENOMEM; one line on stderr says which type,
 * what was wrong, and what is accepted. */
GC_API const gc_type *gc_type_register(const gc_type_desc *desc);

/* A zeroed object of TYPE, or NULL with errno ENOMEM.  May collect. */
GC_API void *gc_alloc_typed(const gc_type *type);

/* The same; SIZE is the type's size, and best a constant. */
GC_API void *gc_new_typed(const gc_type *type, size_t size);

/* The same for an array of COUNT objects of TYPE, one after the other; the reference to it is its
 * start.  COUNT 0 is as 1. */
GC_API void *gc_alloc_array(const gc_type *type, size_t count);

/* As gc_alloc_typed() and gc_alloc_array(), for an object that is going to live long: it is old
 * from the start, lies among others that are, is never copied, and lives until the first full
 * collection that doesn't find it.  It may refer to young objects at once.  Slower than gc_new():
 * for what would be copied otherwise.  How much of a type survives, gc_type_get_stats() says.  May
 * collect. */
GC_API void *gc_alloc_old(const gc_type *type);
GC_API void *gc_alloc_old_array(const gc_type *type, size_t count);

/* How long objects of a type live, by samples: in one of so many minor collections as the option
 * type_stats says, all that was allocated since the one before is counted, and what of it lives. */
typedef struct gc_type_stats {
    uint32_t size;              /* set by the caller to sizeof(gc_type_stats) */
    uint64_t collections;       /* in which objects were counted, of all types */
    uint64_t allocated_objects; /* that these found allocated */
    uint64_t allocated_bytes;
    uint64_t survived_objects; /* of these, still alive then */
    uint64_t survived_bytes;
} gc_type_stats;

/* Fills *STATS for TYPE.  Returns 0; EINVAL if STATS->size is smaller than the first version of the
 * structure; ENOTSUP for types whose objects have none (GC_TYPE_LEAF, GC_TYPE_AMBIGUOUS_HOLDER).
 * Any thread may call it; it takes the world's lock.  Never collects. */
GC_API int gc_type_get_stats(const gc_type *type, gc_type_stats *stats);

/* The type of the object that P, its start, refers to; NULL if it has none.  Of an object of
 * gc_alloc_with_tag(), what the hook answers; NULL while its first word is 0. */
GC_API const gc_type *gc_type_of(const void *p);

/* ---- Identity ------------------------------------------------------------------------------- */

/* A number for the object that starts at P, of any kind: the same each time for as long as the
 * object lives, wherever it moves, also by gc_realloc(); never that of another object, before or
 * after.  It says nothing about the address.  0 if P is NULL, or, with errno ENOMEM, if there is no
 * memory to keep it in: 24 to 48 bytes an object outside the heap, only of objects that were asked
 * about.  Aborts with a message if P isn't the start of a live object.  Any thread may call it; it
 * takes the world's lock the first time, and may wait for a collection then.  Never collects
 * itself. */
GC_API uint64_t gc_identity_hash(const void *p);

/* ---- Ephemerons ----------------------------------------------------------------------------- */

/* An ephemeron is an object of 32 bytes that refers to a key and a value.  It doesn't keep its key
 * alive, and it keeps its value alive only as long as itself and its key are alive otherwise: a value
 * may refer to its own key.  When the key is found dead, key and value read NULL, both from the same
 * moment on, which is a collection (docs/ephemerons.md; Hayes: Ephemerons: a new finalization
 * mechanism, OOPSLA 1997).
 *
 * KEY is the start of a live object of any kind.  VALUE is NULL, the start of an object, or a word
 * that is no address in the heap.  In a heap with tagged words (docs/tags.md) both are plain
 * addresses.  An object that is a key must not be given to gc_free(), nor to gc_realloc().
 *
 * A reference to an ephemeron is one like to any other object; it may move.  Threads may use one at
 * once: each read and store is atomic.  None of these collects but gc_ephemeron_new(), which
 * may. */
typedef struct gc_ephemeron gc_ephemeron;

/* NULL with errno ENOMEM; or EINVAL, and one line on stderr, if KEY or VALUE isn't as above. */
GC_API gc_ephemeron *gc_ephemeron_new(void *key, void *value);

/* NULL when the key is dead or gc_ephemeron_clear() was called.  A program that has read the key,
 * and keeps it, finds the value, too. */
GC_API void *gc_ephemeron_key(const gc_ephemeron *ephemeron);
GC_API void *gc_ephemeron_value(const gc_ephemeron *ephemeron);

/* Nonzero when they read NULL for good. */
GC_API int gc_ephemeron_is_dead(const gc_ephemeron *ephemeron);

/* Returns 0; ESRCH, and nothing changes, if the key is dead; EINVAL, and one line on stderr, if VALUE
 * isn't as above. */
GC_API int gc_ephemeron_set_value(gc_ephemeron *ephemeron, void *value);

/* As if the key had died. */
GC_API void gc_ephemeron_clear(gc_ephemeron *ephemeron);

/* ---- Weak tables ---------------------------------------------------------------------------- */

/* A hash table from keys to values, which need no other object: it is one of the heap, and has 40 to
 * 120 bytes for each entry.  With weak keys each entry is as an ephemeron: the value may refer to its
 * key, and lives as long as key and table do.  With weak values the key lives as long as its value
 * and the table do.  With both weak the table keeps neither, and the entry ends when one of them is
 * dead.  Entries that ended are gone, and not counted any more, when the collection that found it
 * out is over.
 *
 * Keys and values are starts of live objects, or words other than NULL that are no address in the
 * heap; such a word never dies.  In a heap with tagged words both are plain addresses.
 *
 * Several threads may use a table at once: it has a lock.  (A child of fork() must not use a table
 * that another thread was using.)  A reference to it is one like to any other object; it may
 * move. */
enum gc_table_kind {
    GC_TABLE_STRONG,
    GC_TABLE_WEAK_KEYS,
    GC_TABLE_WEAK_VALUES,
    GC_TABLE_WEAK_BOTH
};
typedef struct gc_table gc_table;

/* A key's hash: always the same, wherever the key moves; and whether two keys are equal, so that
 * their hashes are, too.  They may look at the keys.  They must not use the table, nor leave by
 * longjmp(), nor call what may collect. */
typedef uintptr_t gc_table_hash(const void *key);
typedef int gc_table_equal(const void *a, const void *b);

/* HASH and EQUAL both NULL: keys are the same if they are the same object.  NULL with errno ENOMEM;
 * or EINVAL and one line on stderr.  May collect. */
GC_API gc_table *gc_table_new(enum gc_table_kind kind, gc_table_hash *hash, gc_table_equal *equal);

/* The value of KEY, or NULL.  Never collects. */
GC_API void *gc_table_get(gc_table *table, const void *key);

/* Gives KEY the value VALUE; a key that is there already, and equal, stays.  Makes the table larger
 * or smaller if need be.  Returns 0; EINVAL, after one line on stderr unless it is NULL, if KEY or
 * VALUE isn't as above; ENOMEM, and nothing changes.  May collect. */
GC_API int gc_table_set(gc_table *table, void *key, void *value);

/* Returns 0, or ENOENT if KEY isn't there.  Never collects. */
GC_API int gc_table_remove(gc_table *table, const void *key);

/* How many entries there are.  Never collects. */
GC_API size_t gc_table_count(gc_table *table);

/* Goes through the entries, in the order in which they were added: with *POSITION 0 it finds the
 * first, and sets *POSITION for the next call.  Returns 1 and sets *KEY and *VALUE, or 0 when there
 * is no more.  Entries may be removed and may die meanwhile; when one is added, others may be passed
 * over or come again.  Never collects. */
GC_API int gc_table_next(gc_table *table, size_t *position, void **key, void **value);

/* ---- Layouts that an object's first word tells ---------------------------------------------- */

/* Finds the layout of an object of gc_alloc_with_tag() from TAG, its first word, which isn't 0: a
 * registered type, but no ambiguous holder; of an object that is larger than the type it is an
 * array.  The same word has the same answer always.  It is called at any time, while threads are
 * stopped, by several threads at once, and must not allocate, lock, or call the library.  It may
 * look at static data and memory from malloc; at an object of the heap only if that never moves (of
 * gc_alloc(), of a pinned type), and lives as long as the object whose tag refers to it
 * (docs/types.md, rules 18 to 20). */
typedef const gc_type *gc_layout_hook(uintptr_t tag);

/* Sets the heap's only layout hook, before the first gc_alloc_with_tag(); opens the heap.  Returns
 * 0; EINVAL if HOOK is NULL; EALREADY if there is one; ENOMEM.  Never collects. */
GC_API int gc_set_layout_hook(gc_layout_hook *hook);

/* SIZE bytes, at least 8, zeroed but for the first word, which is TAG.  TAG 0: the object has no
 * fields, and the program must store its tag before any reference.  The heap has no word of its own
 * in the object.  NULL with errno ENOMEM.  Aborts with a message if there is no hook.  May
 * collect. */
GC_API void *gc_alloc_with_tag(uintptr_t tag, size_t size);

/* ---- Precise roots -------------------------------------------------------------------------- */

/* COUNT slots from SLOTS on are roots: each holds NULL, the start of an object, or a word outside
 * the heap (in a heap with tagged words: a word of its format), and a collection that moves the
 * object changes it.  They lie in memory from malloc or mmap; in static data, on a stack or in an
 * object of gc_alloc() they would be searched as ambiguous words besides, and in an object that may
 * move they must not lie.  The memory must stay readable until they are removed, with the same
 * SLOTS and COUNT.  Return 0; EINVAL (adding) if SLOTS is NULL or not aligned, or COUNT is 0 or too
 * large; ENOMEM; ENOENT if they weren't added.  Never collect. */
GC_API int gc_add_slots(void **slots, size_t count);
GC_API int gc_remove_slots(void **slots, size_t count);

/* A slot of the library's own, for a reference from where the collector doesn't look: it holds P,
 * an object's start, a plain address in every heap, or NULL, until it is freed.  gc_handle_new()
 * returns NULL with errno ENOMEM if there is no memory.  Different threads may use different
 * handles at once, and read one; they must be attached, and not between gc_blocking_begin() and
 * _end().  A handle that was freed must not be used.  None of these collects. */
typedef struct gc_handle gc_handle;
GC_API gc_handle *gc_handle_new(void *p);
GC_API void *gc_handle_get(const gc_handle *handle);
GC_API void gc_handle_set(gc_handle *handle, void *p);
GC_API void gc_handle_free(gc_handle *handle); /* NULL does nothing */

/* ---- Stores --------------------------------------------------------------------------------- */

/* A program that chose GC_BARRIER_EXPLICIT says with these where it stores references.  Under the
 * other barriers they store and nothing else, so that one program runs under all of them.  OBJECT
 * is the object's start, and the slots lie in it.  They cost less than 1 ns, never collect, are no
 * safepoints, and may be used by several threads at once, attached ones (docs/barrier.md, rules 12
 * to 15).
 *
 * Numbers, and references in memory that is no object, are stored as ever.  So may be the first
 * references in a new object, if they are local variables since before it was allocated, and
 * nothing that may collect comes in between:
 *
 *     struct node *n = gc_new(struct node);
 *     n->left = left, n->right = right; */

/* *SLOT = VALUE, at once for other threads, and after whatever was stored before.  SLOT is the
 * address of a pointer of any type.  In programs compiled without optimisation it aborts with a
 * message if SLOT isn't in OBJECT. */
GC_API void gc_write(void *object, void *slot, const void *value);

/* Before the program itself stores references into the COUNT slots from SLOTS on, by an atomic
 * exchange for instance.  What it will store is in local variables already; and the thread does
 * nothing in between that may collect. */
GC_API void gc_will_write(void *object, void *slots, size_t count);

/* Copies COUNT references to the slots from TO on; the ranges may overlap.  FROM may be anywhere,
 * and may be changed by other threads meanwhile.  Word by word, where memcpy(3) may be stopped
 * within one. */
GC_API void gc_copy_slots(void *object, void *to, const void *from, size_t count);

/* ---- Frames --------------------------------------------------------------------------------- */

/* GC_FRAME(a, b, ...), a statement, says that the variables a, b, ..., up to 16 and all pointers,
 * are precise roots from here to the end of the block:
 *
 *     struct node *list = NULL, *node = NULL;
 *     GC_FRAME(list, node);
 *     node = gc_new(struct node);        may change LIST, if what it refers to moves
 *
 * They hold NULL, an object's start, or a word outside the heap, at the latest here.  With
 * GC_STACK_SCAN_PRECISE they are the only variables that hold anything; otherwise the search of the
 * stack holds what they refer to, in place, and frames are needed only where variables lie
 * elsewhere.  Costs four stores and a load for the frame, one store for each variable, and that the
 * variables are kept in memory.
 *
 * A block is left by its end, return, break, goto or, if its file is compiled with -fexceptions, a
 * C++ exception or a cancellation.  After longjmp() frames that it has jumped over are still there:
 * a program takes gc_frame_top() before setjmp() and gives it to gc_frame_restore() when that
 * returns for the second time, before anything that may collect.  Between gc_blocking_begin() and
 * gc_blocking_end() a thread may neither enter such a block nor leave one.  Coroutines that use
 * frames are switched with gc_stack_switch(), which changes the frames with the stack. */
#define GC_FRAME(...) GC_FRAME_NUMBERED(__COUNTER__, __VA_ARGS__)

typedef struct gc_frame {
    struct gc_frame *previous;
    void *const *const *variables; /* where they are */
    size_t count;
} gc_frame;

/* The calling thread's innermost frame, NULL if there is none; and back to it. */
static inline gc_frame *gc_frame_top(void) {
    return gc_buffers.frames;
}
static inline void gc_frame_restore(gc_frame *frame) {
    gc_buffers.frames = frame;
    __asm__ volatile("" ::: "memory");
}

/* ---- Root hooks ----------------------------------------------------------------------------- */

/* A root hook tells a collection of references that the program keeps in a way of its own: of the
 * part of a value stack that is in use, say.  Each collection calls it twice or more, with all
 * threads stopped, first to hear of ambiguous words and then, when these have been looked at, of
 * slots. gc_visit() counts in the second pass and gc_visit_ambiguous() in the first, and nothing
 * happens in the other one, so that a hook needn't look at PASS.
 *
 * It may read memory outside the heap, wherever its thread was stopped; with GC_STOP_SIGNAL that
 * may be between any two instructions.  It must not allocate, call any other function of the
 * library, lock, nor look into objects, which may have moved.  It may run in any thread. */
enum gc_root_pass { GC_ROOTS_AMBIGUOUS, GC_ROOTS_PRECISE };
typedef void gc_root_hook(gc_visitor *visitor, enum gc_root_pass pass, void *data);

/* For a hook: the words in [FROM, TO), as far as they are aligned, may be references, also into the
 * middle of objects, and what they may mean stays in place.  The range may be in the heap, in a
 * leaf object for instance, and is empty if FROM is TO; else it aborts with a message, as
 * gc_visit() does when its slot is NULL, unaligned, or in the heap. */
GC_API void gc_visit_ambiguous(gc_visitor *visitor, const void *from, const void *to);

/* HOOK is called with DATA until it is removed by the same thread, or the thread detaches.  Return
 * 0; EINVAL if HOOK is NULL; ENOMEM; ENOENT if it wasn't added.  Never collect. */
GC_API int gc_add_root_hook(gc_root_hook *hook, void *data);
GC_API int gc_remove_root_hook(gc_root_hook *hook, void *data);

/* The same for hooks that belong to no thread; any may add and remove them. */
GC_API int gc_add_global_root_hook(gc_root_hook *hook, void *data);
GC_API int gc_remove_global_root_hook(gc_root_hook *hook, void *data);

/* ---- Stack maps ----------------------------------------------------------------------------- */

/* Code that the program generates may say which words of its frames are references: then these are
 * precise roots, and the rest of the frame isn't looked at.  A map describes a frame at one call:
 * what it says must hold from the call to the return.
 *
 *     the caller's frame
 *     the return address of the code's function     <- stack pointer at the call + FRAME_BYTES
 *     ...
 *     the word of a slot                             <- stack pointer at the call + its offset
 *     ...                                            <- stack pointer at the call
 *     the return address of the call: the code's start + RETURN_OFFSET
 *
 * The registers that a called function must preserve belong to the code's caller until the code has
 * saved them: SAVED says where, and they are then handed on to whoever looks for them further up.
 * Registers hold nothing across a call that a map should know: what the code keeps in one counts as
 * ambiguous, and with GC_STACK_SCAN_PRECISE not at all. */
enum gc_saved_register { GC_RBX, GC_RBP, GC_R12, GC_R13, GC_R14, GC_R15, GC_SAVED_REGISTERS };

#define GC_FRAME_BYTES_MAX ((uint32_t)1 << 20)

typedef struct gc_stack_map {
    uint32_t return_offset; /* ascending from map to map; up to the code's length */
    uint32_t frame_bytes;   /* a multiple of 8, up to GC_FRAME_BYTES_MAX */
    const uint32_t *slots;  /* offsets, multiples of 8 below FRAME_BYTES, ascending */
    size_t slot_count;
    uint32_t saved[GC_SAVED_REGISTERS]; /* bytes below the return address; 0: not saved */
} gc_stack_map;

enum gc_code_flags {
    GC_CODE_FRAME_POINTER =
        1 /* all functions begin with push %rbp; mov %rsp, %rbp, and keep it so */
};

/* Registers the BYTES bytes of code at START with COUNT maps, which are copied.  It calls C
 * functions and is called by them as they call each other.  A frame that returns to where no map is
 * counts as ambiguous, and so does all above it, unless GC_CODE_FRAME_POINTER says where its
 * caller's is; also all frames above a C function without unwind tables
 * (-fno-asynchronous-unwind-tables), and those of a thread that is stopped by a signal.  With
 * GC_STACK_SCAN_PRECISE the first two end the program with a message.  Returns NULL with errno
 * EINVAL and a line on stderr if something is wrong with the range, which may not overlap another,
 * or with a map; ENOMEM; ENOTSUP with GC_STACK_SCAN_PRECISE where frames can't be followed, that is
 * on other processors than x86-64 and with a C library other than glibc 2.35 or later.  Never
 * collects. */
typedef struct gc_code gc_code;
GC_API gc_code *gc_code_register(
    const void *start, size_t bytes, const gc_stack_map *maps, size_t count, uint32_t flags);

/* Ends it; no frame of it may be on a stack.  Returns 0; EINVAL if CODE isn't registered; EBUSY if
 * a thread that is blocking has such a frame.  Never collects. */
GC_API int gc_code_unregister(gc_code *code);

/* ---- Listening ------------------------------------------------------------------------------ */

/* The parts of a collection, in their order (docs/tracing.md, rule 2); some are left out where there
 * is nothing for them to do. */
enum gc_phase {
    GC_PHASE_STOP,    /* until all threads stand still */
    GC_PHASE_PREPARE, /* gives up open buffers; counts objects by type, looks for missed stores */
    GC_PHASE_MAKE_YOUNG, /* of a full one: ends the sweep, clears marks */
    GC_PHASE_REMEMBERED, /* of a minor one: searches what is old and may have been written to */
    GC_PHASE_ROOTS,
    GC_PHASE_MARK,     /* without the two before: everything young is promoted */
    GC_PHASE_LIVENESS, /* what depends on which objects died */
    GC_PHASE_COMPACT,
    GC_PHASE_SETTLE, /* sorts the blocks by what lives in them */
    GC_PHASE_CLOSE,  /* protects old blocks */
    GC_PHASE_POLICY, /* sizes the nursery, gives memory back */
    GC_PHASE_VERIFY, /* with the option verify */
    GC_PHASE_START,  /* lets the threads go on */
    GC_PHASES
};

/* "stop", "make young" and so on; "?" for what is none. */
GC_API const char *gc_phase_name(enum gc_phase phase);

/* What happened.  Valid while the function that is given it runs.  A field that its description
 * doesn't name for an event is 0. */
typedef struct gc_event {
    uint64_t ns;             /* when, by CLOCK_MONOTONIC */
    uint32_t thread;         /* in which thread: its number in the system, as of gettid(2) */
    uint32_t phase;          /* enum gc_phase, of a phase's begin and end */
    uint64_t collection;     /* its number, from 1; of what a collection does, also heap_grown */
    uint32_t kind;           /* enum gc_collection, of the same; COMPACT if it was asked to */
    uint32_t compacted;      /* collection_end: it did */
    const char *reason;      /* why it is run; a string that stays */
    uint64_t bytes;          /* grown, returned, asked for in vain */
    uint64_t heap_bytes;     /* in blocks that are in use, but of thread_detached, out_of_memory */
    uint64_t resident_bytes; /* these, and free blocks not returned to the system */
    uint64_t bytes_before;   /* of a collection: live after the one before, or allocated since */
    uint64_t bytes_after;    /* collection_end: live, and so are all that follow */
    uint64_t nursery_bytes;  /* to be allocated until the next minor collection */
    uint64_t marked_objects, marked_bytes; /* by this one */
    uint64_t moved_bytes;
    uint64_t dirty_pages;
    uint64_t pause_ns;     /* from the begin until the threads may go on */
    uint32_t promoted_all; /* a minor one that promoted everything young, and searched nothing */
} gc_event;

typedef void gc_event_function(const gc_event *event, void *data);

/* A listener: functions that are called when something happens, each of which may be NULL.
 *
 * Those of the first group are called with the world stopped, or with the heap's lock held.  They
 * must not allocate from the heap or by malloc, print by stdio, lock, wait, nor call the library but
 * for gc_phase_name(): they store what they need in memory that is there already.
 *
 * Those of the second group are called while all threads run, the caller among them, which can be
 * stopped for another collection meanwhile; several threads may call them at once.  They may do
 * anything but call functions of the library that may touch the heap; gc_alloc() among them ends
 * the program with a message, if it notices.
 *
 * No function here may leave by longjmp() or a C++ exception. */
typedef struct gc_listener {
    uint32_t size; /* sizeof(gc_listener) */
    void *data;    /* given to each; no root */

    gc_event_function *collection_begin; /* threads are about to be stopped */
    gc_event_function *phase_begin;
    gc_event_function *phase_end;
    gc_event_function *heap_grown;    /* by BYTES, more than ever before */
    gc_event_function *heap_returned; /* BYTES went back to the system */

    gc_event_function *collection_end; /* the threads go on */
    gc_event_function *out_of_memory;  /* an allocation of BYTES fails */
    gc_event_function *thread_attached;
    gc_event_function *thread_detached; /* the calling thread isn't attached any more */
} gc_listener;

/* Adds *LISTENER, which must stay as it is until it is removed; opens the heap.  Returns 0; EINVAL
 * if it is NULL or its SIZE is smaller than that of the first version; EEXIST if it is there;
 * ENOSPC if 16 are; ENOMEM.  The functions are called from a next event on, in the order in which
 * listeners were added.  Any thread may call these; they take the world's lock and never collect. */
GC_API int gc_add_listener(const gc_listener *listener);

/* Returns 0, and none of its functions is running or will; or ENOENT.  Waits for those that run,
 * so none of them may wait for the caller. */
GC_API int gc_remove_listener(const gc_listener *listener);

/* From here on writes a timeline of collections to the file PATH, which it makes or empties, in the
 * JSON of Chrome's trace events, for Perfetto's and Chrome's viewers; in PATH %p means the process's
 * number and %% a percent sign.  Returns 0; EALREADY if there is a timeline, by the option trace
 * perhaps; EINVAL if PATH is NULL, empty, too long, has another letter after a percent sign, or
 * names what is neither a file nor a character device; what open(2) failed with; ENOMEM.  Any thread
 * may call it; never collects. */
GC_API int gc_trace_start(const char *path);

/* Ends it: the file is whole when this returns.  Returns 0; ENOENT if there is none; or what the
 * first write that failed did so with, of which a line on stderr told.  The end of the program, by
 * exit() or by returning from main(), does the same. */
GC_API int gc_trace_stop(void);

/* ---- Types of C structures ------------------------------------------------------------------ */

/* At file scope: says that the members named, at most 16, are the pointers of T that the heap
 * knows.  In the same file, or wherever a header with this line is included, gc_new(T) allocates
 * one:
 *
 *     struct node { struct node *left, *right; long key; };
 *     GC_TYPE(struct node, left, right);
 *     struct node *n = gc_new(struct node);
 *
 * The type is registered at the first gc_new(), under the name that is written here; the same name
 * in two files must mean the same layout.  GC_LEAF_TYPE(T): it has no pointers. */
#define GC_TYPE(T, ...) GC_TYPE_NUMBERED(__COUNTER__, T, __VA_ARGS__)
#define GC_LEAF_TYPE(T) GC_ENTER_TYPE(__COUNTER__, T, NULL, 0, GC_TYPE_LEAF, NULL)

/* A zeroed object of T, a struct T * or whatever T says; NULL with errno ENOMEM.  May collect.
 * Aborts with a message if there is no GC_TYPE() for T in this file, or its description is
 * refused. */
#define gc_new(T)                                                                                  \
    ((T *)gc_new_typed(__extension__({                                                             \
        static const gc_type *gc_here;                                                             \
        const gc_type *gc_it = __atomic_load_n(&gc_here, __ATOMIC_ACQUIRE);                        \
        if (__builtin_expect(gc_it == NULL, 0)) {                                                  \
            gc_it = gc_type_entered(gc_types_here, #T);                                            \
            __atomic_store_n(&gc_here, gc_it, __ATOMIC_RELEASE);                                   \
        }                                                                                          \
        gc_it;                                                                                     \
    }),                                                                                            \
        sizeof(T)))

/* ---- The inline fast path ------------------------------------------------------------------- */

/* What follows is the library's own business; programs use the functions and macros above. */

struct gc_type_entry {
    struct gc_type_entry *next;
    gc_type_desc desc;
};

/* Of each file that includes this one. */
static struct gc_type_entry *gc_types_here __attribute__((__unused__));

#define GC_TYPE_NUMBERED(n, T, ...)                                                                \
    static const uint32_t GC_JOIN(gc_offsets_, n)[] = {                                            \
        GC_JOIN(GC_EACH_, GC_COUNT(__VA_ARGS__))(T, __VA_ARGS__)};                                 \
    GC_ENTER_TYPE(n, T, GC_JOIN(gc_offsets_, n), GC_COUNT(__VA_ARGS__), 0, #__VA_ARGS__)

#define GC_ENTER_TYPE(n, T, offsets, count, flags, fields)                                         \
    __attribute__((__constructor__)) static void GC_JOIN(gc_enter_, n)(void) {                     \
        static struct gc_type_entry entry = {                                                      \
            NULL, {#T, sizeof(T), offsets, count, NULL, flags, fields}};                           \
        entry.next = gc_types_here;                                                                \
        gc_types_here = &entry;                                                                    \
    }                                                                                              \
    struct gc_type_entry

#define GC_JOIN(a, b)  GC_JOIN_(a, b)
#define GC_JOIN_(a, b) a##b
#define GC_COUNT(...)                                                                              \
    GC_SEVENTEENTH(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define GC_SEVENTEENTH(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, ...) q

#define GC_EACH_1(T, m)       (uint32_t) offsetof(T, m)
#define GC_EACH_2(T, m, ...)  GC_EACH_1(T, m), GC_EACH_1(T, __VA_ARGS__)
#define GC_EACH_3(T, m, ...)  GC_EACH_1(T, m), GC_EACH_2(T, __VA_ARGS__)
#define GC_EACH_4(T, m, ...)  GC_EACH_1(T, m), GC_EACH_3(T, __VA_ARGS__)
#define GC_EACH_5(T, m, ...)  GC_EACH_1(T, m), GC_EACH_4(T, __VA_ARGS__)
#define GC_EACH_6(T, m, ...)  GC_EACH_1(T, m), GC_EACH_5(T, __VA_ARGS__)
#define GC_EACH_7(T, m, ...)  GC_EACH_1(T, m), GC_EACH_6(T, __VA_ARGS__)
#define GC_EACH_8(T, m, ...)  GC_EACH_1(T, m), GC_EACH_7(T, __VA_ARGS__)
#define GC_EACH_9(T, m, ...)  GC_EACH_1(T, m), GC_EACH_8(T, __VA_ARGS__)
#define GC_EACH_10(T, m, ...) GC_EACH_1(T, m), GC_EACH_9(T, __VA_ARGS__)
#define GC_EACH_11(T, m, ...) GC_EACH_1(T, m), GC_EACH_10(T, __VA_ARGS__)
#define GC_EACH_12(T, m, ...) GC_EACH_1(T, m), GC_EACH_11(T, __VA_ARGS__)
#define GC_EACH_13(T, m, ...) GC_EACH_1(T, m), GC_EACH_12(T, __VA_ARGS__)
#define GC_EACH_14(T, m, ...) GC_EACH_1(T, m), GC_EACH_13(T, __VA_ARGS__)
#define GC_EACH_15(T, m, ...) GC_EACH_1(T, m), GC_EACH_14(T, __VA_ARGS__)
#define GC_EACH_16(T, m, ...) GC_EACH_1(T, m), GC_EACH_15(T, __VA_ARGS__)

/* The frame is whole before it is linked, and the memory stays its own until it is not linked any
 * more: the empty assembly keeps the compiler to that order (docs/types.md, rule 9). */
static inline void gc_frame_enter(gc_frame *frame) {
    frame->previous = gc_buffers.frames;
    __asm__ volatile("" ::: "memory");
    gc_buffers.frames = frame;
}
static inline void gc_frame_leave(gc_frame *frame) {
    gc_frame_restore(frame->previous);
}

#define GC_FRAME_NUMBERED(n, ...)                                                                  \
    void *const *const GC_JOIN(gc_variables_, n)[] = {                                             \
        GC_JOIN(GC_AT_, GC_COUNT(__VA_ARGS__))(__VA_ARGS__)};                                      \
    gc_frame GC_JOIN(gc_frame_, n) __attribute__((__cleanup__(gc_frame_leave))) = {                \
        NULL, GC_JOIN(gc_variables_, n), GC_COUNT(__VA_ARGS__)};                                   \
    gc_frame_enter(&GC_JOIN(gc_frame_, n))

/* Where a variable is; one that is no pointer can't be compared with NULL. */
#define GC_AT_1(v)       ((void *const *)&(v) + 0 * sizeof((v) == (void *)0))
#define GC_AT_2(v, ...)  GC_AT_1(v), GC_AT_1(__VA_ARGS__)
#define GC_AT_3(v, ...)  GC_AT_1(v), GC_AT_2(__VA_ARGS__)
#define GC_AT_4(v, ...)  GC_AT_1(v), GC_AT_3(__VA_ARGS__)
#define GC_AT_5(v, ...)  GC_AT_1(v), GC_AT_4(__VA_ARGS__)
#define GC_AT_6(v, ...)  GC_AT_1(v), GC_AT_5(__VA_ARGS__)
#define GC_AT_7(v, ...)  GC_AT_1(v), GC_AT_6(__VA_ARGS__)
#define GC_AT_8(v, ...)  GC_AT_1(v), GC_AT_7(__VA_ARGS__)
#define GC_AT_9(v, ...)  GC_AT_1(v), GC_AT_8(__VA_ARGS__)
#define GC_AT_10(v, ...) GC_AT_1(v), GC_AT_9(__VA_ARGS__)
#define GC_AT_11(v, ...) GC_AT_1(v), GC_AT_10(__VA_ARGS__)
#define GC_AT_12(v, ...) GC_AT_1(v), GC_AT_11(__VA_ARGS__)
#define GC_AT_13(v, ...) GC_AT_1(v), GC_AT_12(__VA_ARGS__)
#define GC_AT_14(v, ...) GC_AT_1(v), GC_AT_13(__VA_ARGS__)
#define GC_AT_15(v, ...) GC_AT_1(v), GC_AT_14(__VA_ARGS__)
#define GC_AT_16(v, ...) GC_AT_1(v), GC_AT_15(__VA_ARGS__)

GC_API const gc_type *gc_type_entered(const struct gc_type_entry *entries, const char *name);
GC_API void *gc_alloc_typed_slow(const gc_type *type) __attribute__((__malloc__));
GC_API void *gc_alloc_with_tag_slow(
    uintptr_t tag, size_t size); /* not __malloc__: the tag may be a pointer */
GC_API uint64_t gc_identity_hash_slow(const void *p);
GC_API const gc_type *gc_library_type(size_t which);

typedef void *gc_any_pointer __attribute__((__may_alias__));
typedef uintptr_t gc_tag_word __attribute__((__may_alias__));

/* The value is in a register or on the stack, the card is set, the slot is written: a thread may be
 * stopped for a collection between any two of these (docs/barrier.md, rule 12).  The empty assembly
 * keeps the compiler to that order: it loads the value no later than at the first. */
extern inline __attribute__((__gnu_inline__, __always_inline__)) void gc_store(
    void *slot, const void *value) {
    __asm__ volatile("" : "+r"(value) : : "memory");
    uint8_t *cards = gc_buffers.cards;
    if (cards != NULL)
        __atomic_store_n(&cards[(uintptr_t)slot >> GC_CARD_SHIFT], 1, __ATOMIC_RELAXED);
    __asm__ volatile("" : : : "memory");
    __atomic_store_n((gc_any_pointer *)slot, (void *)(uintptr_t)value, __ATOMIC_RELEASE);
}

extern inline __attribute__((__gnu_inline__, __always_inline__)) void gc_mark_cards(
    void *slots, size_t count) {
    __asm__ volatile("" : : : "memory");
    uint8_t *cards = gc_buffers.cards;
    if (cards != NULL && count > 0) {
        uintptr_t card = (uintptr_t)slots >> GC_CARD_SHIFT;
        uintptr_t last = ((uintptr_t)slots + (count - 1) * sizeof(void *)) >> GC_CARD_SHIFT;
        do {
            __atomic_store_n(&cards[card], 1, __ATOMIC_RELAXED);
        } while (card++ < last);
    }
    __asm__ volatile("" : : : "memory");
}

#if !defined(GC_NO_INLINE) && defined(__OPTIMIZE__)
extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_new_typed(
    const gc_type *type, size_t size) {
    uint32_t offset = __atomic_load_n(&type->buffer, __ATOMIC_RELAXED); /* it may become hot */
    void *p = gc_bump((struct gc_buffer *)(void *)((char *)&gc_buffers + offset), size);
    return __builtin_expect(p != NULL, 1) ? p : gc_alloc_typed_slow(type);
}

extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_alloc_typed(
    const gc_type *type) {
    return gc_new_typed(type, type->bytes);
}

extern inline __attribute__((__gnu_inline__, __always_inline__)) void gc_write(
    void *object, void *slot, const void *value) {
    (void)object;
    gc_store(slot, value);
}

extern inline __attribute__((__gnu_inline__, __always_inline__)) void gc_will_write(
    void *object, void *slots, size_t count) {
    (void)object;
    gc_mark_cards(slots, count);
}

/* A thread that is stopped before the tag is stored shows an object without fields, of zeroes. */
extern inline __attribute__((__gnu_inline__, __always_inline__)) void *gc_alloc_with_tag(
    uintptr_t tag, size_t size) {
    void *p = gc_bump(&gc_buffers.by_tag, size);
    if (__builtin_expect(p == NULL, 0)) return gc_alloc_with_tag_slow(tag, size);
    *(gc_tag_word *)p = tag;
    return p;
}
#endif

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_EMBED_H */
