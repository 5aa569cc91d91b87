/* Collections at every single instruction of an allocation.  The thread runs with the processor's
 * trap flag set.  At the instruction that is to be tried, the handler of SIGTRAP wakes another
 * thread, which collects, and waits until it has done so: the stop signal finds the handler, whose
 * frame has the registers of the interrupted allocation. Inside the library, where a thread isn't
 * stopped, the collection is only started, and the allocation goes on. */
#if !defined(__clang__) && !defined(GC_SANITIZE)
#pragma GCC optimize("O2", "omit-frame-pointer")
#endif
#define _GNU_SOURCE
#include "child.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "cairn/embed.h"
#include "gc/thread.h"
#include "support.h"
#include "threads_support.h"

#if defined(__x86_64__)

void step_on(void);
void step_off(void);
__asm__(".text\n"
        "step_on:\n    pushfq\n    orl $0x100, (%rsp)\n    popfq\n    ret\n"
        "step_off:\n    pushfq\n    andl $~0x100, (%rsp)\n    popfq\n    ret\n");

/* ---- Stepping ------------------------------------------------------------------------------- */

enum { NEVER = -1, EVERYWHERE = -2 };
enum { PATIENCE = 1500 }; /* instructions inside the library; then the rest isn't stepped through */

static int collect_at; /* the instruction, counted outside the library; or one of the above */
static enum gc_collection kind;
static int outside, inside; /* instructions so far */
static int collections;     /* that the handler waited for */

/* What the collecting thread is asked for, and what it has done. */
static uint32_t asked, done;
static int shall_end;

static void *collect_when_asked(void *unused) {
    uint32_t seen = 0, now;
    while (!look_at(&shall_end)) {
        while ((now = __atomic_load_n(&asked, __ATOMIC_ACQUIRE)) == seen && !look_at(&shall_end))
            sched_yield();
        if (now == seen) break;
        seen = now;
        REQUIRE_EQUAL(gc_collect(kind), 0);
        __atomic_store_n(&done, seen, __ATOMIC_RELEASE);
    }
    return unused;
}

/* What the processor would do in one instruction after the other, each with a trap. */
static void repeat_at_once(ucontext_t *user) {
    greg_t *registers = user->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    if (code[0] != 0xf3 || code[1] != 0xaa) return; /* rep stosb */
    memset((void *)registers[REG_RDI], (int)registers[REG_RAX], (size_t)registers[REG_RCX]);
    registers[REG_RDI] += registers[REG_RCX];
    registers[REG_RCX] = 0;
}

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    repeat_at_once(context);
    uint32_t ask = __atomic_load_n(&asked, __ATOMIC_RELAXED);
    if (gci_self->inside) {
        if (inside++ % 97 == 0 && collect_at == EVERYWHERE)
            if (__atomic_load_n(&done, __ATOMIC_ACQUIRE) == ask)
                __atomic_store_n(&asked, ask + 1, __ATOMIC_RELEASE);
        if (inside > PATIENCE) ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
        return;
    }
    int at = outside++;
    /* A stop signal came inside: the library is about to look whether one did. */
    if (__atomic_load_n(&gci_self->state, __ATOMIC_ACQUIRE) == GCI_REQUESTED) return;
    if (at != collect_at && collect_at != EVERYWHERE) return;
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != ask) sched_yield();
    __atomic_store_n(&asked, ++ask, __ATOMIC_RELEASE);
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != ask) sched_yield();
    collections++;
}

static void install_trap(void) {
    struct sigaction action = {.sa_flags = SA_NODEFER | SA_SIGINFO};
    action.sa_sigaction = on_trap;
    sigemptyset(&action.sa_mask);
    REQUIRE_EQUAL(sigaction(SIGTRAP, &action, NULL), 0);
}

/* ---- Objects -------------------------------------------------------------------------------- */

enum { OBJECTS = 4000 };

static struct object {
    char *p;
    size_t size;
    uint64_t number;
} objects[OBJECTS];
static size_t count, made;
static uint64_t randoms = 1;

/* All that is allocated while stepping is checked: zeroed, then filled and kept, at random in the
 * place of another. */
static __attribute__((noinline)) void keep(void *p, size_t size) {
    size_t at = count < OBJECTS ? count++ : next_random(&randoms) % OBJECTS;
    REQUIRE(p != NULL && gc_size(p) >= size && gc_base(p) == p);
    REQUIRE(all_bytes(p, 0, gc_size(p)));
    objects[at] = (struct object){p, size, made++};
    fill_object(p, size, objects[at].number);
}

static int by_address(const void *a, const void *b) {
    const struct object *left = a, *right = b;
    return (left->p > right->p) - (left->p < right->p);
}

static __attribute__((noinline)) void check_objects(void) {
    REQUIRE_EQUAL(gc_verify(), 0);
    for (size_t i = 0; i < count; i++) {
        const struct object *o = &objects[i];
        REQUIRE(gc_base(o->p) == o->p && gc_base(o->p + o->size - 1) == o->p);
        REQUIRE_EQUAL(gc_size(o->p), (o->size + 15) / 16 * 16);
        REQUIRE(check_object(o->p, o->size, o->number));
    }
    qsort(objects, count, sizeof *objects, by_address);
    for (size_t i = 1; i < count; i++)
        REQUIRE(objects[i].p >= objects[i - 1].p + gc_size(objects[i - 1].p));
}

/* ---- Allocations ---------------------------------------------------------------------------- */

typedef void *allocation(void);

static __attribute__((noinline)) void *allocate_16(void) {
    return gc_alloc(16);
}
static __attribute__((noinline)) void *allocate_48(void) {
    return gc_alloc(48);
}
static __attribute__((noinline)) void *allocate_leaf_32(void) {
    return gc_alloc_leaf(32);
}
static __attribute__((noinline)) void *allocate_1024(void) {
    return gc_alloc(1024);
}

/* Typed, but what is written into them may be anything. */
static void trace_nothing(void *object, size_t bytes, void *from, void *to, gc_visitor *visitor) {
    (void)object, (void)bytes, (void)from, (void)to, (void)visitor;
}

static const gc_type *type_16, *type_48;

static const gc_type *type_by_tag(uintptr_t tag);

static void register_types(void) {
    gc_type_desc desc = {.name = "sixteen", .size = 16, .trace = trace_nothing};
    type_16 = gc_type_register(&desc);
    desc = (gc_type_desc){.name = "forty-eight", .size = 48, .trace = trace_nothing};
    type_48 = gc_type_register(&desc);
    REQUIRE(type_16 != NULL && type_48 != NULL);
    REQUIRE_EQUAL(gc_set_layout_hook(type_by_tag), 0);
}

static __attribute__((noinline)) void *allocate_typed_16(void) {
    return gc_new_typed(type_16, 16);
}
static __attribute__((noinline)) void *allocate_typed_48(void) {
    void *p = gc_alloc_typed(type_48);
    REQUIRE(gc_type_of(p) == type_48);
    return p;
}

/* A frame that is half entered, or half left. */
static __attribute__((noinline)) void *allocate_in_a_frame(void) {
    void *p = NULL, *other = &p;
    GC_FRAME(p, other);
    p = gc_new_typed(type_16, 16);
    REQUIRE(other == &p);
    return p;
}

/* Its first word, which is anything later, tells the layout. */
static const gc_type *type_by_tag(uintptr_t tag) {
    (void)tag;
    return type_16;
}

static __attribute__((noinline)) void *allocate_with_tag_16(void) {
    uint64_t *p = gc_alloc_with_tag(0x77, 16);
    REQUIRE(*p == 0x77);
    *p = 0;
    return p;
}
static __attribute__((noinline)) void *allocate_with_tag_48(void) {
    uint64_t *p = gc_alloc_with_tag(0x77, 48);
    REQUIRE(*p == 0x77 && gc_type_of(p) == type_16);
    *p = 0;
    return p;
}

enum kind_of_buffer { AMBIGUOUS, LEAF, TYPED, BY_TAG };

static const struct way {
    allocation *allocate;
    size_t size;
    enum kind_of_buffer kind;
} ways[] = {{allocate_16, 16, AMBIGUOUS}, {allocate_48, 48, AMBIGUOUS},
    {allocate_leaf_32, 32, LEAF}, {allocate_1024, 1024, AMBIGUOUS}, {allocate_typed_16, 16, TYPED},
    {allocate_typed_48, 48, TYPED}, {allocate_with_tag_16, 16, BY_TAG},
    {allocate_with_tag_48, 48, BY_TAG}, {allocate_in_a_frame, 16, TYPED}};
enum { WAYS = sizeof ways / sizeof *ways };

static const struct gc_buffer *buffer_of(const struct way *way) {
    switch (way->kind) {
    case LEAF:
        return &gc_buffers.leaf;
    case TYPED:
        return &gc_buffers.typed;
    case BY_TAG:
        return &gc_buffers.by_tag;
    default:
        return &gc_buffers.ambiguous;
    }
}

static void *allocate_garbage(const struct way *way) {
    switch (way->kind) {
    case LEAF:
        return gc_alloc_leaf(16);
    case TYPED:
        return gc_alloc_typed(type_16);
    case BY_TAG:
        return gc_alloc_with_tag(0, 16);
    default:
        return gc_alloc(16);
    }
}

/* Where in the buffer the allocation begins. */
enum place {
    ANYWHERE,
    AT_THE_START,
    IN_THE_MIDDLE,
    FITS_EXACTLY,
    AT_THE_END,
    ENDS_THE_BLOCK,
    PLACES
};

static bool is_at(const struct gc_buffer *buffer, size_t size, enum place place) {
    size_t left = buffer->limit - buffer->cursor;
    switch (place) {
    case AT_THE_START:
        return buffer->limit != 0 && buffer->cursor % 65536 == 0 && left > size;
    case IN_THE_MIDDLE:
        return left > size && left < 2048;
    case FITS_EXACTLY:
        return left == size;
    case AT_THE_END:
        return left < size;
    case ENDS_THE_BLOCK:
        return left == size && buffer->limit % 65536 == 0;
    default:
        return true;
    }
}

/* Small garbage, until the buffer is so; at most some blocks of it. */
static __attribute__((noinline)) bool fill_until(const struct way *way, enum place place) {
    for (unsigned i = 0; i < 3 * 4096; i++) {
        if (is_at(buffer_of(way), way->size, place)) return true;
        char *p = allocate_garbage(way);
        memset(p, 0x55, 16);
    }
    return false;
}

static __attribute__((noinline)) void step(const struct way *way, int at) {
    allocation *allocate = way->allocate;
    outside = inside = 0;
    collect_at = at;
    step_on();
    void *p = allocate();
    step_off();
    collect_at = NEVER;
    keep(p, way->size);
}

static __attribute__((noinline)) void step_through(const struct way *way, enum place place) {
    for (int at = 0;; at++) {
        fill_until(way, place);
        step(way, at);
        if (at >= outside) break;
    }
    fill_until(way, place);
    step(way, EVERYWHERE);
    check_objects();
}

static void collect_at_each_instruction(enum gc_collection of_kind) {
    need_optimised_code();
    register_types();
    kind = of_kind;
    install_trap();
    pthread_t thread = start_thread(collect_when_asked, NULL);
    for (unsigned w = 0; w < WAYS; w++)
        for (enum place place = ANYWHERE; place < PLACES; place++) step_through(&ways[w], place);
    REQUIRE(collections > 500);
    raise_flag(&shall_end, 1);
    end_thread(thread);
    collect_times(2);
    check_objects();
}

static void minor_collections_at_each_instruction(void) {
    collect_at_each_instruction(GC_MINOR);
}
static void full_collections_at_each_instruction(void) {
    collect_at_each_instruction(GC_FULL);
}

/* Holes that gc_free() made are in blocks of others. */
static void collections_at_each_instruction_in_freed_holes(void) {
    need_optimised_code();
    kind = GC_FULL;
    install_trap();
    for (unsigned i = 0; i < OBJECTS; i++) {
        size_t size = i % 3 == 0 ? 64 : 32;
        keep(gc_alloc(size), size);
    }
    collect_times(2);
    pthread_t thread = start_thread(collect_when_asked, NULL);
    for (int at = 0; at < 60; at++) {
        size_t victim = next_random(&randoms) % count;
        gc_free(objects[victim].p);
        objects[victim] = objects[--count];
        gc_alloc(1000); /* ends the hole in use */
        step(&ways[at % 2], at);
        step(&ways[at % 2], at / 2);
        check_objects();
    }
    raise_flag(&shall_end, 1);
    end_thread(thread);
}

/* ---- A store into a new object -------------------------------------------------------------- */

struct node {
    struct node *next;
    uint64_t value[5];
};

static __attribute__((noinline)) struct node *make_pair(void) {
    struct node *a = gc_alloc(sizeof *a), *b = gc_alloc(16);
    b->next = a;
    a->next = gc_alloc(sizeof *a);
    a->next->value[0] = 1234567;
    a->value[4] = 42;
    return b;
}

static struct node *pairs[500];

static void check_pair(const struct node *b) {
    REQUIRE(gc_base(b) == b && gc_size(b) == 16 && gc_size(b->next) == sizeof(struct node));
    REQUIRE_EQUAL(b->next->value[4], 42);
    REQUIRE_EQUAL(gc_size(b->next->next), sizeof(struct node));
    REQUIRE_EQUAL(b->next->next->value[0], 1234567);
}

static void new_objects_are_visible_before_they_are_stored_into(void) {
    need_optimised_code();
    install_trap();
    pthread_t thread = start_thread(collect_when_asked, NULL);
    for (unsigned round = 0; round < 4; round++) {
        unsigned n = 0;
        kind = round % 2 == 0 ? GC_MINOR : GC_FULL;
        do {
            outside = inside = 0;
            collect_at = round < 2 ? (int)n : EVERYWHERE;
            step_on();
            struct node *pair = make_pair();
            step_off();
            int at = collect_at;
            collect_at = NEVER;
            check_pair(pair);
            pairs[n++] = pair;
            if (at >= outside) break;
        } while (n < (round < 2 ? 500u : 30u));
        for (unsigned i = 0; i < n; i++) check_pair(pairs[i]);
        REQUIRE_EQUAL(gc_verify(), 0);
    }
    raise_flag(&shall_end, 1);
    end_thread(thread);
}

/* ---- Stores into old objects ---------------------------------------------------------------- */

enum { COPIED = 3 };

struct holder {
    struct holder *to[2 * COPIED];
    uint64_t number;
};
GC_TYPE(struct holder, to[0], to[1], to[2], to[3], to[4], to[5]);

static struct holder *old_holder;

static inline struct holder *new_holder(uint64_t number) {
    struct holder *n = gc_new(struct holder);
    n->number = number;
    return n;
}

static __attribute__((noinline)) void write_new(void) {
    gc_write(old_holder, &old_holder->to[0], new_holder(11));
    gc_write(old_holder, &old_holder->to[1], new_holder(12));
}

static __attribute__((noinline)) void exchange_new(void) {
    struct holder *n = new_holder(11), *m = new_holder(12);
    gc_will_write(old_holder, &old_holder->to[0], 2);
    (void)__atomic_exchange_n(&old_holder->to[0], n, __ATOMIC_SEQ_CST);
    __atomic_store_n(&old_holder->to[1], m, __ATOMIC_RELEASE);
}

/* Copies, and overwrites what it copied from. */
static __attribute__((noinline)) void copy_new(void) {
    for (unsigned i = 0; i < COPIED; i++)
        gc_write(old_holder, &old_holder->to[COPIED + i], new_holder(11 + i));
    gc_copy_slots(old_holder, &old_holder->to[0], &old_holder->to[COPIED], COPIED);
    for (unsigned i = 0; i < COPIED; i++) gc_write(old_holder, &old_holder->to[COPIED + i], NULL);
}

static __attribute__((noinline)) void write_in_range(void) {
    struct holder *n = new_holder(11);
    n->to[0] = n; /* a first reference, to itself */
    gc_write(old_holder, &old_holder->to[1], new_holder(12));
    gc_write(old_holder, &old_holder->to[0], n->to[0]);
}

static __attribute__((noinline)) void check_written(void) {
    for (unsigned i = 0; i < 2; i++) {
        const struct holder *n = old_holder->to[i];
        REQUIRE(gc_base(n) == n && n->number == 11 + i && gc_type_of(n) == gc_type_of(old_holder));
    }
}

static void (*const writes[])(void) = {write_new, exchange_new, copy_new, write_in_range};

static __attribute__((noinline)) int write_at(void (*write)(void), int at) {
    outside = inside = 0;
    collect_at = at;
    step_on();
    write();
    step_off();
    collect_at = NEVER;
    return outside;
}

static void stores_at_each_instruction(enum gc_collection of_kind) {
    need_optimised_code();
    install_trap();
    kind = of_kind;
    old_holder = new_holder(1);
    collect_times(4);
    pthread_t thread = start_thread(collect_when_asked, NULL);
    for (unsigned w = 0; w < sizeof writes / sizeof *writes; w++) {
        bool everywhere = false;
        for (int at = 0; !everywhere; at++) {
            everywhere = write_at(writes[w], at) <= at;
            if (everywhere) write_at(writes[w], EVERYWHERE);
            check_written();
            collect(GC_MINOR); /* they are young, or old, and referred to by nothing else */
            check_written();
        }
        REQUIRE_EQUAL(gc_verify(), 0);
    }
    REQUIRE(collections > 100);
    raise_flag(&shall_end, 1);
    end_thread(thread);
}

static void minor_collections_at_each_instruction_of_a_store(void) {
    stores_at_each_instruction(GC_MINOR);
}
static void full_collections_at_each_instruction_of_a_store(void) {
    stores_at_each_instruction(GC_FULL);
}

#endif

/* No collection by the thread that steps: each of its instructions takes microseconds. */
#define STRICT            "CAIRN_VERIFY=1", "CAIRN_POISON=1", "CAIRN_NURSERY=1G"
#define EXPLICIT(barrier) "CAIRN_WRITES_EXPLICITLY=typed", "CAIRN_BARRIER=" barrier

int main(void) {
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
        CHILD_TEST(minor_collections_at_each_instruction, STRICT),
        CHILD_TEST(minor_collections_at_each_instruction, STRICT, "CAIRN_BARRIER=none"),
        CHILD_TEST(full_collections_at_each_instruction, STRICT),
        CHILD_TEST(collections_at_each_instruction_in_freed_holes, STRICT),
        CHILD_TEST(new_objects_are_visible_before_they_are_stored_into, STRICT),
        CHILD_TEST(minor_collections_at_each_instruction_of_a_store, STRICT, EXPLICIT("explicit")),
        CHILD_TEST(full_collections_at_each_instruction_of_a_store, STRICT, EXPLICIT("explicit")),
        CHILD_TEST(
            minor_collections_at_each_instruction_of_a_store, STRICT, EXPLICIT("explicit-cross")),
        CHILD_TEST(minor_collections_at_each_instruction_of_a_store, STRICT),
#endif
    };
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
