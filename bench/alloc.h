/* The allocation interface that the workloads are written against.
 *
 * Compiled once for each allocator, with exactly one of BENCH_CAIRN, BENCH_BOEHM, BENCH_MALLOC and
 * BENCH_MIMALLOC defined, and for cairn-typed BENCH_CAIRN and BENCH_CAIRN_TYPED.  Everything on
 * the way to the allocator is inline, so that a workload costs what a program written for that
 * allocator would cost.  bench_start() and bench_report() live in bench/allocators/.
 *
 * A workload names the layout of its structures once, with BENCH_TYPE(), and makes them with
 * bench_new() and its like.  cairn-typed then moves them: a workload mustn't depend on an address,
 * nor keep the only pointer to something where no collector looks.
 *
 * With BENCH_THREADS defined, as bench/threads.h does, pthread_create() and its like mean what a
 * program of several threads calls under that allocator.  Without it nothing of this concerns a
 * file, so that the workloads of one thread are compiled as if there were no others. */
#ifndef BENCH_ALLOC_H
#define BENCH_ALLOC_H

#ifdef BENCH_THREADS
#include <pthread.h>
#endif
#include <stddef.h>
#include <stdint.h>

#if defined(BENCH_CAIRN) + defined(BENCH_BOEHM) + defined(BENCH_MALLOC) +                          \
        defined(BENCH_MIMALLOC) !=                                                                 \
    1
#error "define exactly one of BENCH_CAIRN, BENCH_BOEHM, BENCH_MALLOC, BENCH_MIMALLOC"
#endif

/* BENCH_FREES: bench_free() does something.  A workload tests it before it walks a structure for no
 * other reason than to free it. */
#if defined(BENCH_CAIRN)
#ifdef BENCH_THREADS
#define CAIRN_PTHREADS
#endif
#include <cairn/gc.h>
#ifdef BENCH_CAIRN_TYPED
#include <cairn/embed.h>
#define BENCH_ALLOCATOR "cairn-typed"
#else
#define BENCH_ALLOCATOR "cairn"
#endif
#ifndef BENCH_BYTES_MORE
#define BENCH_BYTES_MORE 0 /* cairn-byte: 1, as Boehm's interface has it */
#endif
#define BENCH_FREES            0
#define BENCH_TAKE(size)       gc_alloc((size) + BENCH_BYTES_MORE)
#define BENCH_TAKE_RAW(size)   gc_alloc((size) + BENCH_BYTES_MORE)
#define BENCH_TAKE_LEAF(size)  gc_alloc_leaf((size) + BENCH_BYTES_MORE)
#define BENCH_GIVE_BACK(block) ((void)(block))
#elif defined(BENCH_BOEHM)
#ifdef BENCH_THREADS
#define GC_THREADS
#endif
#include <gc.h>
#define BENCH_ALLOCATOR        "boehm"
#define BENCH_FREES            0
#define BENCH_TAKE(size)       GC_MALLOC(size)
#define BENCH_TAKE_RAW(size)   GC_MALLOC(size)
#define BENCH_TAKE_LEAF(size)  GC_MALLOC_ATOMIC(size)
#define BENCH_GIVE_BACK(block) ((void)(block))
#elif defined(BENCH_MALLOC)
#include <stdlib.h>
#define BENCH_ALLOCATOR        "malloc"
#define BENCH_FREES            1
#define BENCH_TAKE(size)       calloc(1, size)
#define BENCH_TAKE_RAW(size)   malloc(size)
#define BENCH_TAKE_LEAF(size)  malloc(size)
#define BENCH_GIVE_BACK(block) free(block)
#else
#include <mimalloc.h>
#define BENCH_ALLOCATOR        "mimalloc"
#define BENCH_FREES            1
#define BENCH_TAKE(size)       mi_calloc(1, size)
#define BENCH_TAKE_RAW(size)   mi_malloc(size)
#define BENCH_TAKE_LEAF(size)  mi_malloc(size)
#define BENCH_GIVE_BACK(block) mi_free(block)
#endif

/* Says so and exits. */
_Noreturn void bench_out_of_memory(size_t size);

/* SIZE zeroed bytes that may hold pointers.  Never NULL. */
static inline void *bench_alloc(size_t size) {
    void *block = BENCH_TAKE(size);
    if (__builtin_expect(block == NULL, 0)) bench_out_of_memory(size);
    return block;
}

/* SIZE bytes that may hold pointers, of any content: the caller sets them at once.
 * A program without a collector spares itself the zeroing here.  Never NULL. */
static inline void *bench_alloc_raw(size_t size) {
    void *block = BENCH_TAKE_RAW(size);
    if (__builtin_expect(block == NULL, 0)) bench_out_of_memory(size);
    return block;
}

/* SIZE bytes of any content that will hold no pointers.  Never NULL. */
static inline void *bench_alloc_leaf(size_t size) {
    void *block = BENCH_TAKE_LEAF(size);
    if (__builtin_expect(block == NULL, 0)) bench_out_of_memory(size);
    return block;
}

/* Called where a program without a collector frees; nothing with a collector. */
static inline void bench_free(void *block) {
    BENCH_GIVE_BACK(block);
}

/* BENCH_TYPE(TAG, BENCH_FIELD(TAG, MEMBER)...), at file scope, says which members of struct TAG
 * hold pointers, to the starts of objects: each a pointer or an array of them.  With none the
 * structure is one that might hold pointers but doesn't, like what bench_alloc() gives: no leaf.
 *
 * bench_new(TAG)                   one struct TAG, zeroed
 * bench_new_raw(TAG)               one of any content, which the caller sets at once
 * bench_new_array(TAG, count)      that many, one after the other, zeroed
 * bench_new_array_raw(TAG, count)  that many of any content
 * bench_new_pointers(count)        an array of pointers, NULL
 *
 * None is ever NULL.  They cost what bench_alloc() and bench_alloc_raw() do, except with
 * cairn-typed. */
#ifdef BENCH_CAIRN_TYPED
struct bench_field {
    size_t offset, bytes;
};

/* What bench_start() registers, setting *TYPE. */
struct bench_layout {
    const char *name;
    size_t size;
    const struct bench_field *fields;
    size_t field_count;
    const gc_type **type;
};

/* Of one pointer. */
extern const gc_type *bench_pointer_type;

#define BENCH_FIELD(tag, member)                                                                   \
    { offsetof(struct tag, member), sizeof(((struct tag *)0)->member) }
#define BENCH_TYPE(tag, ...)                                                                       \
    static const gc_type *bench_type_##tag;                                                        \
    static const struct bench_field bench_fields_##tag[] = {__VA_ARGS__};                          \
    static const struct bench_layout bench_layout_##tag = {.name = __FILE__ ":" #tag,              \
        .size = sizeof(struct tag),                                                                \
        .fields = bench_fields_##tag,                                                              \
        .field_count = sizeof bench_fields_##tag / sizeof(struct bench_field),                     \
        .type = &bench_type_##tag};                                                                \
    static const struct bench_layout *const bench_layout_entry_##tag                               \
        __attribute__((__used__, __section__("bench_layouts"))) = &bench_layout_##tag

static inline void *bench_alloc_typed(const gc_type *type, size_t size) {
    void *block = gc_new_typed(type, size);
    if (__builtin_expect(block == NULL, 0)) bench_out_of_memory(size);
    return block;
}
static inline void *bench_alloc_array(const gc_type *type, size_t count) {
    void *block = gc_alloc_array(type, count);
    if (__builtin_expect(block == NULL, 0)) bench_out_of_memory(type->desc->size * count);
    return block;
}

#define bench_new(tag)                  ((struct tag *)bench_alloc_typed(bench_type_##tag, sizeof(struct tag)))
#define bench_new_raw(tag)              bench_new(tag)
#define bench_new_array(tag, count)     ((struct tag *)bench_alloc_array(bench_type_##tag, count))
#define bench_new_array_raw(tag, count) bench_new_array(tag, count)
#define bench_new_pointers(count)       bench_alloc_array(bench_pointer_type, count)
#else
#define BENCH_TYPE(tag, ...)                                                                       \
    _Static_assert(sizeof(struct tag) % 8 == 0, "an array of it must be aligned")

#define bench_new(tag)              ((struct tag *)bench_alloc(sizeof(struct tag)))
#define bench_new_raw(tag)          ((struct tag *)bench_alloc_raw(sizeof(struct tag)))
#define bench_new_array(tag, count) ((struct tag *)bench_alloc((count) * sizeof(struct tag)))
#define bench_new_array_raw(tag, count)                                                            \
    ((struct tag *)bench_alloc_raw((count) * sizeof(struct tag)))
#define bench_new_pointers(count) bench_alloc((count) * sizeof(void *))
#endif

/* Stores VALUE at SLOT, a pointer in OBJECT, which may be old.  With cairn-typed by gc_write(), so
 * that the workloads that store so can be run under CAIRN_BARRIER=explicit with
 * CAIRN_WRITES_EXPLICITLY=typed: docs/bench.md names them. */
#ifdef BENCH_CAIRN_TYPED
#define BENCH_STORE(object, slot, value) gc_write(object, slot, value)
#else
#define BENCH_STORE(object, slot, value) ((void)(object), (void)(*(slot) = (value)))
#endif

/* Calls WAIT, which waits for other threads, as the allocator's manual has it: a thread that sleeps
 * need not be woken to be stopped. */
#ifdef BENCH_BOEHM
static inline void *bench_waiting(void *wait) {
    (*(void (**)(void))wait)();
    return NULL;
}
#endif
static inline void bench_wait(void (*wait)(void)) {
#ifdef BENCH_CAIRN
    gc_blocking_begin();
    wait();
    gc_blocking_end();
#elif defined(BENCH_BOEHM)
    GC_do_blocking(bench_waiting, (void *)&wait);
#else
    wait();
#endif
}

/* What an allocator did in this process; all zero for one that doesn't collect. */
struct bench_counters {
    uint64_t minor, full; /* collections */
    uint64_t pause_p50_ns, pause_p99_ns, pause_max_ns;
};

/* Before the first allocation. */
void bench_start(void);
/* After the last one. */
void bench_report(struct bench_counters *counters);

#endif /* BENCH_ALLOC_H */
