/* Explains why an object is alive: a breadth-first search from the roots, remembering for each
 * object the word that led to it, until the target is met; the path found is a shortest one.  What
 * ephemerons and weak tables keep is only gone on with when their keys were met, after all else.
 * Uses memory of its own from the system: 56 bytes for each object passed, hash slots included.
 * Called by gc_explain(); the search runs with the world stopped, and what it found is printed when
 * the world runs again, since names are found by functions that take locks. */
#include "gc/explain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gc/block.h"
#include "gc/collect.h"
#include "gc/ephemeron.h"
#include "gc/slots.h"
#include "gc/type.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/vm.h"

struct step {
    gci_object object;
    const struct gci_type *type; /* NULL: none that is kept */
    const uintptr_t *word;       /* that refers to it */
    size_t bytes;                /* of the object */
    uint32_t from;               /* step whose object holds the word; GCI_NONE: a root */
    uint8_t root;                /* enum gci_root_kind */
    bool leaf;
    bool conditional; /* WORD is what an entry keeps, as long as what it doesn't keep lives */
};

struct search {
    struct gci_thread *thread; /* that explains */
    struct gc_heap *heap;
    uintptr_t address; /* that it asks about */
    bool known;        /* it is in TARGET */
    gci_object target;
    bool conditional;   /* what is met now */
    struct step *steps; /* in the order found: also the queue */
    uint32_t *slots;    /* hash of granule to step + 1; twice as many as steps */
    uint32_t count, capacity;
    uint32_t found;
    pid_t tid; /* whose stack or registers hold the root, if these do; else 0 */
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

/* An ephemeron, or the entries of a weak table. */
static bool is_weak(const struct step *step) {
    return step->type != NULL && step->type->weak != GCI_WEAK_NONE;
}

static bool was_met(const struct search *s, uintptr_t address) {
    gci_object object;
    return !gci_find(s->heap, address, &object) || s->slots[slot_of(s, object)] != 0;
}

static void meet(struct search *s, uintptr_t address, const uintptr_t *word, uint32_t from,
    enum gci_root_kind root) {
    gci_object object;
    if (s->found != GCI_NONE || !gci_find(s->heap, address, &object) || !make_room(s)) return;
    uint32_t slot = slot_of(s, object);
    if (s->slots[slot] != 0) return;
    uint8_t tag = s->heap->arena.tags[gci_block_of(object.granule)];
    const struct gci_type *type = tag & GCI_TAG_TYPED ? gci_type_at(s->heap, object.granule) : NULL;
    s->steps[s->count] = (struct step){object, type, word, gci_object_bytes(s->heap, object), from,
        (uint8_t)root, (tag & GCI_TAG_LEAF) != 0, s->conditional};
    s->slots[slot] = ++s->count;
    if (object.granule == s->target.granule) s->found = s->count - 1;
}

/* The word at WORD, by the heap's format. */
static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void meet_tagged(
    struct search *s, const uintptr_t *word, uint32_t from, enum gci_root_kind root) {
    uintptr_t address;
    if (gci_word_decode(&s->heap->words, *word, &address)) meet(s, address, word, from, root);
}

/* PAST_END: a word at an object's end means that, too. */
static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void meet_words(
    struct search *s, const uintptr_t *start, const uintptr_t *end, uint32_t from,
    enum gci_root_kind root, bool past_end, bool worded) {
    for (const uintptr_t *w = start; w < end && s->found == GCI_NONE; w++) {
        meet(s, *w, w, from, root);
        if (past_end && *w % GC_GRANULE == 0) meet(s, *w - 1, w, from, root);
        if (worded) meet_tagged(s, w, from, root);
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
    if (is_weak(step)) return; /* later */
    if (heap->arena.tags[gci_block_of(step->object.granule)] & GCI_TAG_TYPED) {
        struct field_search fields = {s, from};
        const struct gci_type *type = gci_type_at(heap, step->object.granule);
        gc_visitor visitor = {type->worded ? meet_tagged_field : meet_field, &fields, type, start,
            end, start, end, meet_field};
        gci_type_visit(&visitor);
        return;
    }
    meet_words(s, (const uintptr_t *)start, (const uintptr_t *)end, from, GCI_ROOT_RANGE,
        heap->options.one_past_end_in_heap, heap->words.on);
}

static void visit_root(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    struct search *s = context;
    bool precise = gci_root_is_precise(kind), words = s->heap->words.on;
    if (start == &s->thread->held) return; /* what is asked about */
    if (gci_root_is_worded(kind) && words)
        for (const uintptr_t *w = start; w < end; w++) meet_tagged(s, w, GCI_NONE, kind);
    else
        meet_words(s, start, end, GCI_NONE, kind, gci_root_means_past_end(s->heap, kind),
            words && !precise);
}

/* What the entries of the step numbered FROM keep now. */
static void meet_entries(struct search *s, uint32_t from) {
    const struct step step = s->steps[from];
    enum gci_weak weak = step.type->weak;
    const struct gci_entry *entry =
        (const struct gci_entry *)gci_granule_address(&s->heap->arena, step.object.granule);
    const struct gci_entry *end = entry + step.bytes / GCI_ENTRY_BYTES;
    s->conditional = true;
    for (; entry < end && weak != GCI_WEAK_BOTH && s->found == GCI_NONE; entry++) {
        const uintptr_t *held = weak == GCI_WEAK_KEY ? &entry->value : &entry->key;
        uintptr_t guard = weak == GCI_WEAK_KEY ? entry->key : entry->value;
        if (entry->key != 0 && was_met(s, guard)) meet(s, *held, held, from, GCI_ROOT_RANGE);
    }
    s->conditional = false;
}

/* One round over all entries that were met; true if anything was added.  Rounds go forwards and
 * backwards in turn, for chains of either order. */
static bool meet_all_entries(struct search *s, bool backwards) {
    uint32_t count = s->count;
    for (uint32_t n = 0; n < count && s->found == GCI_NONE && !s->failed; n++) {
        uint32_t i = backwards ? count - 1 - n : n;
        if (is_weak(&s->steps[i])) meet_entries(s, i);
    }
    return s->count != count && s->found == GCI_NONE && !s->failed;
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
    case GCI_ROOT_LAYER:
        strcpy(place, "range given to GC_add_roots");
        break;
    case GCI_ROOT_RANGE:
        strcpy(place, "range given to gc_add_root");
        break;
    }
    gci_print("  root: %s, at %p\n", place, (const void *)step->word);
}

/* WORD is in an entry of the object of STEP. */
static void print_condition(const uintptr_t *word, const struct step *step) {
    bool by_key = step->type->weak == GCI_WEAK_KEY;
    gci_print(", %s whose %s is %p",
        by_key ? "an ephemeron's value" : "a key in a table with weak values",
        by_key ? "key" : "value", (void *)(by_key ? word[-1] : word[1]));
}

/* The object at START, and which WORD of it leads on. */
static void print_step(
    const struct step *step, uintptr_t start, const uintptr_t *word, bool conditional) {
    const struct gci_type *type = step->type;
    char by[192], field[128];
    size_t offset = (uintptr_t)word - start;
    if (word == NULL)
        by[0] = '\0';
    else if (type == NULL || !gci_type_name_field(type, offset, field, sizeof field))
        snprintf(by, sizeof by, ", by its word at +%zu", offset);
    else if (step->bytes / GC_GRANULE > type->granules)
        snprintf(by, sizeof by, ", by the field %s of its element %zu, at +%zu", field,
            offset / type->size, offset);
    else
        snprintf(by, sizeof by, ", by its field %s, at +%zu", field, offset);
    gci_print("  -> %p, %s%s%zu bytes%s%s", (void *)start, type != NULL ? type->desc.name : "",
        type != NULL ? ", " : "", step->bytes, step->leaf ? ", leaf" : "", by);
    if (conditional) print_condition(word, step);
    gci_print("\n");
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
    print_root(&s->steps[next], s->tid);
    for (uint32_t i = next, n = 0; i != GCI_NONE; i = s->steps[i].from, n++) {
        if (n == 10 && length > 20) {
            gci_print("  ... %u objects ...\n", length - 20);
            for (; n < length - 10; n++) i = s->steps[i].from;
        }
        const struct step *step = &s->steps[i];
        uintptr_t start = gci_granule_address(arena, step->object.granule);
        const struct step *after = step->from != GCI_NONE ? &s->steps[step->from] : NULL;
        print_step(step, start, after ? after->word : NULL, after && after->conditional);
    }
}

static void search(struct gc_heap *heap, void *context) {
    struct search *s = context;
    s->known = gci_find(heap, s->address, &s->target);
    if (!s->known || !make_room(s)) return;
    gci_visit_roots(heap, visit_root, s);
    gci_slots_visit(heap, visit_root, s);
    uint32_t i = 0;
    bool backwards = true;
    do {
        for (; i < s->count && s->found == GCI_NONE && !s->failed; i++) {
            const struct step step = s->steps[i];
            if (step.leaf) continue;
            meet_object(s, &step, i);
        }
        backwards = !backwards;
    } while (meet_all_entries(s, backwards));
    if (s->found == GCI_NONE) return;
    const struct step *root = &s->steps[s->found];
    while (root->from != GCI_NONE) root = &s->steps[root->from];
    const struct gci_mutator *m = gci_mutator_at(&heap->world, (uintptr_t)root->word);
    if (m != NULL) s->tid = m->tid;
}

/* Names are found with the loader's lock, and by libunwind. */
static void print(void *context) {
    const struct search *s = context;
    void *address = (void *)gci_granule_address(&s->heap->arena, s->target.granule);
    if (s->found != GCI_NONE) {
        gci_print("cairn: the object at %p is kept alive by\n", address);
        print_path(s, s->found);
    } else {
        gci_print("cairn: nothing keeps the object at %p alive\n", address);
    }
}

/* The pointer is held until the world stands still, lest the object moves before it is found. */
int gci_explain(struct gci_thread *thread, uintptr_t address) {
    struct search s = {
        .thread = thread, .heap = thread->heap, .address = address, .found = GCI_NONE};
    thread->held = address;
    if (gci_with_world_stopped(thread, search, &s) != 0) s.failed = true;
    thread->held = 0;
    if (!s.failed && s.known) gci_aside(thread, print, &s);
    gci_leave(&thread->mutator);
    free_tables(&s);
    return s.failed ? ENOMEM : !s.known ? EINVAL : s.found != GCI_NONE ? 0 : ESRCH;
}
