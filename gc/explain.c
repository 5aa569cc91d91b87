/* Explains why an object is alive: a breadth-first search from the roots, remembering for each
 * object the word that led to it, until the target is met; the path found is a shortest one.
 * Uses memory of its own from the system: 40 bytes for each object passed, hash slots included.
 * Called by gc_explain(); the search runs with the world stopped, and what it found is printed when
 * the world runs again, since names are found by functions that take locks. */
#include "gc/explain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gc/block.h"
#include "gc/collect.h"
#include "gc/slots.h"
#include "gc/type.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/vm.h"

struct step {
    gci_object object;
    const uintptr_t *word; /* that refers to it */
    size_t bytes;          /* of the object */
    uint32_t from;         /* step whose object holds the word; GCI_NONE: a root */
    uint8_t root;          /* enum gci_root_kind */
    bool leaf;
};

struct search {
    struct gc_heap *heap;
    gci_object target;
    struct step *steps; /* in the order found: also the queue */
    uint32_t *slots;    /* hash of granule to step + 1; twice as many as steps */
    uint32_t count, capacity;
    uint32_t found;
    pid_t thread; /* whose stack or registers hold the root, if these do; else 0 */
    bool failed;
};

static uint32_t slot_of(const struct search *s, gci_object object) {
    uint64_t hash = (uint64_t)object.granule * 0x9e3779b97f4a7c15u;
    uint32_t mask = 2 * s->capacity - 1, at = (uint32_t)(hash >> 32) & mask;
    while (s->slots[at] != 0 && s->steps[s->slots[at] - 1].object.granule != object.granule)
        at = (at + 1) & mask;
    return at;
}

static void free_tables(struct search *s) {
    if (s->steps != NULL) gci_vm_unmap(s->steps, s->capacity * (size_t)sizeof *s->steps);
    if (s->slots != NULL) gci_vm_unmap(s->slots, 2 * (size_t)s->capacity * sizeof *s->slots);
}

static bool make_room(struct search *s) {
    if (s->count < s->capacity) return true;
    struct search bigger = *s;
    bigger.capacity = s->capacity == 0 ? 1u << 14 : s->capacity * 2;
    bigger.steps = NULL;
    bigger.slots = NULL;
    if (bigger.capacity < 1u << 31)
        bigger.steps = gci_vm_map(bigger.capacity * (size_t)sizeof *s->steps);
    if (bigger.steps != NULL)
        bigger.slots = gci_vm_map(2 * (size_t)bigger.capacity * sizeof *s->slots);
    if (bigger.slots == NULL) {
        free_tables(&bigger);
        s->failed = true;
        return false;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        bigger.steps[i] = s->steps[i];
        bigger.slots[slot_of(&bigger, s->steps[i].object)] = i + 1;
    }
    free_tables(s);
    *s = bigger;
    return true;
}

static void meet(struct search *s, uintptr_t address, const uintptr_t *word, uint32_t from,
    enum gci_root_kind root) {
    gci_object object;
    if (s->found != GCI_NONE || !gci_find(s->heap, address, &object) || !make_room(s)) return;
    uint32_t slot = slot_of(s, object);
    if (s->slots[slot] != 0) return;
    uint8_t tag = s->heap->arena.tags[gci_block_of(object.granule)];
    s->steps[s->count] = (struct step){object, word, gci_object_bytes(s->heap, object), from,
        (uint8_t)root, (tag & GCI_TAG_LEAF) != 0};
    s->slots[slot] = ++s->count;
    if (object.granule == s->target.granule) s->found = s->count - 1;
}

/* The word at WORD, by the heap's format. */
static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void meet_tagged(
    struct search *s, const uintptr_t *word, uint32_t from, enum gci_root_kind root) {
    uintptr_t address;
    if (gci_word_decode(&s->heap->words, *word, &address)) meet(s, address, word, from, root);
}

static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void meet_words(
    struct search *s, const uintptr_t *start, const uintptr_t *end, uint32_t from,
    enum gci_root_kind root) {
    bool past_end = from == GCI_NONE || s->heap->options.one_past_end_in_heap;
    for (const uintptr_t *w = start; w < end && s->found == GCI_NONE; w++) {
        meet(s, *w, w, from, root);
        if (past_end && *w % GC_GRANULE == 0) meet(s, *w - 1, w, from, root);
        if (s->heap->words.on) meet_tagged(s, w, from, root);
    }
}

struct field_search {
    struct search *search;
    uint32_t from;
};

static void meet_field(gc_visitor *visitor, uintptr_t *slot) {
    const struct field_search *fields = visitor->context;
    if (fields->search->found == GCI_NONE)
        meet(fields->search, *slot, slot, fields->from, GCI_ROOT_RANGE);
}

static void meet_tagged_field(gc_visitor *visitor, uintptr_t *slot) {
    const struct field_search *fields = visitor->context;
    if (fields->search->found == GCI_NONE)
        meet_tagged(fields->search, slot, fields->from, GCI_ROOT_RANGE);
}

/* All that may be a reference in the object of STEP, the step numbered FROM. */
static void meet_object(struct search *s, const struct step *step, uint32_t from) {
    const struct gc_heap *heap = s->heap;
    uintptr_t start = gci_granule_address(&heap->arena, step->object.granule);
    uintptr_t end = start + step->bytes;
    if (heap->arena.tags[gci_block_of(step->object.granule)] & GCI_TAG_TYPED) {
        struct field_search fields = {s, from};
        const struct gci_type *type = gci_type_at(heap, step->object.granule);
        gc_visitor visitor = {type->worded ? meet_tagged_field : meet_field, &fields, type, start,
            end, start, end, meet_field};
        gci_type_visit(&visitor);
        return;
    }
    meet_words(s, (const uintptr_t *)start, (const uintptr_t *)end, from, GCI_ROOT_RANGE);
}

static void visit_root(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    struct search *s = context;
    if (gci_root_is_worded(kind) && s->heap->words.on)
        for (const uintptr_t *w = start; w < end; w++) meet_tagged(s, w, GCI_NONE, kind);
    else
        meet_words(s, start, end, GCI_NONE, kind);
}

static void print_root(const struct step *step, pid_t thread) {
    char place[256] = "";
    switch ((enum gci_root_kind)step->root) {
    case GCI_ROOT_STACK:
        if (thread == 0)
            strcpy(place, "stack of a coroutine");
        else if (gci_self == NULL || thread == gci_self->tid)
            gci_describe_stack(step->word, place, sizeof place);
        else
            snprintf(place, sizeof place, "stack or registers of thread %d", (int)thread);
        break;
    case GCI_ROOT_STATIC:
        gci_describe_static(step->word, place, sizeof place);
        break;
    case GCI_ROOT_TLS:
        strcpy(place, "thread-local variable");
        break;
    case GCI_ROOT_SLOT:
        strcpy(place, "slot given to gc_add_slots");
        break;
    case GCI_ROOT_HANDLE:
        strcpy(place, "handle of gc_handle_new");
        break;
    case GCI_ROOT_READY:
        strcpy(place, "waits for its finalizer, or in the queue of a guardian");
        break;
    case GCI_ROOT_FINALIZER:
        strcpy(place, "data of a finalizer");
        break;
    case GCI_ROOT_FRAME:
        strcpy(place, "variable in a GC_FRAME");
        break;
    case GCI_ROOT_CODE:
        strcpy(place, "frame of code given to gc_code_register");
        break;
    case GCI_ROOT_HOOK:
    case GCI_ROOT_HOOK_PLAIN:
    case GCI_ROOT_HOOK_WORDS:
        strcpy(place, "root hook");
        break;
    case GCI_ROOT_RANGE:
        strcpy(place, "range given to gc_add_root");
        break;
    }
    gci_print("  root: %s, at %p\n", place, (const void *)step->word);
}

static void print_path(const struct search *s, uint32_t at) {
    const struct gci_arena *arena = &s->heap->arena;
    uint32_t length = 0;
    /* The steps point backwards: turn the path around by marking it with its successors. */
    uint32_t next = GCI_NONE;
    for (uint32_t i = at; i != GCI_NONE; length++) {
        uint32_t from = s->steps[i].from;
        s->steps[i].from = next;
        next = i;
        i = from;
    }
    print_root(&s->steps[next], s->thread);
    for (uint32_t i = next, n = 0; i != GCI_NONE; i = s->steps[i].from, n++) {
        if (n == 10 && length > 20) {
            gci_print("  ... %u objects ...\n", length - 20);
            for (; n < length - 10; n++) i = s->steps[i].from;
        }
        const struct step *step = &s->steps[i];
        uintptr_t start = gci_granule_address(arena, step->object.granule);
        gci_print("  -> %p, %zu bytes%s", (void *)start, step->bytes, step->leaf ? ", leaf" : "");
        if (step->from != GCI_NONE)
            gci_print(
                ", by its word at +%zu", (size_t)((uintptr_t)s->steps[step->from].word - start));
        gci_print("\n");
    }
}

static void search(struct gc_heap *heap, void *context) {
    struct search *s = context;
    if (!make_room(s)) return;
    gci_visit_roots(heap, visit_root, s);
    gci_slots_visit(heap, visit_root, s);
    for (uint32_t i = 0; i < s->count && s->found == GCI_NONE && !s->failed; i++) {
        const struct step step = s->steps[i];
        if (step.leaf) continue;
        meet_object(s, &step, i);
    }
    if (s->found == GCI_NONE) return;
    const struct step *root = &s->steps[s->found];
    while (root->from != GCI_NONE) root = &s->steps[root->from];
    const struct gci_mutator *m = gci_mutator_at(&heap->world, (uintptr_t)root->word);
    if (m != NULL) s->thread = m->tid;
}

int gci_explain(struct gci_thread *thread, gci_object target) {
    struct gc_heap *heap = thread->heap;
    struct search s = {.heap = heap, .target = target, .found = GCI_NONE};
    if (gci_with_world_stopped(thread, search, &s) != 0) s.failed = true;
    /* Names are found with the loader's lock, and by libunwind with all signals blocked: so as who
     * collects, the thread must not be waited for meanwhile, nor its lock taken when it forks. */
    int cancel;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    uint64_t signals = gci_signals_block();
    gci_world_enter(&heap->world, &thread->mutator);
    gci_block(&thread->mutator);
    void *address = (void *)gci_granule_address(&heap->arena, target.granule);
    if (s.found != GCI_NONE) {
        gci_print("cairn: the object at %p is kept alive by\n", address);
        print_path(&s, s.found);
    } else if (!s.failed) {
        gci_print("cairn: nothing keeps the object at %p alive\n", address);
    }
    gci_unblock(&thread->mutator);
    gci_world_exit(&heap->world);
    gci_signals_restore(signals);
    pthread_setcancelstate(cancel, NULL);
    gci_leave(&thread->mutator);
    free_tables(&s);
    return s.failed ? ENOMEM : s.found != GCI_NONE ? 0 : ESRCH;
}
