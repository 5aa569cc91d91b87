/* The roots of a heap snapshot, as nodes: one for each frame, static variable, range, that holds
 * references.  Frames are followed by gc's own reader of unwind tables, and symbols looked up in a
 * table read before, since nothing here may lock: the world is stopped.  Owns struct gci_roots from
 * gci_roots_find() to gci_roots_free().  Called by gc/snapshot.c. */
#include "gc/snapshot.h"

#include <errno.h>
#include <stdio.h>

#include "gc/arena.h"
#include "gc/block.h"
#include "gc/explain.h"
#include "gc/slots.h"
#include "gc/word.h"
#include "runtime/vm.h"

#define FRAMES_MAX 4096u /* of a thread that are told apart; the rest counts as the outermost's */

const char *const gci_group_names[GCI_GROUPS] = {"(stacks and registers)", "(static data)",
    "(thread-local storage)", "(ranges of gc_add_root)", "(slots of gc_add_slots)", "(handles)",
    "(variables in a GC_FRAME)", "(frames of gc_code_register)", "(root hooks)", "(finalizers)",
    "(the library)"};

/* ---- Frames --------------------------------------------------------------------------------- */

static bool add_frame(struct gci_roots *r, struct gci_root_frame frame) {
    struct gci_root_frame *frames =
        gci_vm_with_room(r->frames, r->frame_count, &r->frame_capacity, sizeof *frames);
    if (frames == NULL) return false;
    r->frames = frames;
    frames[r->frame_count++] = frame;
    return true;
}

/* Those of one stopped thread, upwards.  Where the tables end, what is above counts as the last
 * function's. */
static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void find_frames(
    struct gci_roots *r, const struct gci_mutator *m) {
    struct gci_registers registers;
    uintptr_t low;
    if (!gci_mutator_registers(m, &registers, &low)) return;
    uintptr_t high = gci_stack_end(&r->heap->world, m, registers.sp);
    bool interrupted = m->interruption.valid;
    for (unsigned i = 0; high != 0 && i < FRAMES_MAX; i++) {
        uintptr_t pc = registers.pc;
        bool last = i + 1 == FRAMES_MAX || gci_unwind(&registers, high) != GCI_STEP_CALLER;
        uintptr_t end = last ? high : registers.sp;
        if (!add_frame(r, (struct gci_root_frame){low, end, pc, m->tid, interrupted}) || last)
            return;
        low = end;
        interrupted = false;
    }
}

/* The frame that holds ADDRESS: one thread's lie upwards one after the other. */
static const struct gci_root_frame *frame_at(const struct gci_roots *r, uintptr_t address) {
    for (size_t first = 0, end; first < r->frame_count; first = end) {
        end = first + 1;
        while (end < r->frame_count && r->frames[end].low == r->frames[end - 1].high) end++;
        if (address < r->frames[first].low || address >= r->frames[end - 1].high) continue;
        size_t low = first, high = end - 1;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (address >= r->frames[middle].high)
                low = middle + 1;
            else
                high = middle;
        }
        return &r->frames[low];
    }
    return NULL;
}

/* ---- Nodes ---------------------------------------------------------------------------------- */

static enum gci_root_group group_of(enum gci_root_kind kind) {
    switch (kind) {
    case GCI_ROOT_STACK:
        return GCI_GROUP_STACKS;
    case GCI_ROOT_STATIC:
        return GCI_GROUP_STATIC;
    case GCI_ROOT_TLS:
        return GCI_GROUP_TLS;
    case GCI_ROOT_RANGE:
    case GCI_ROOT_LAYER:
        return GCI_GROUP_RANGES;
    case GCI_ROOT_SLOT:
        return GCI_GROUP_SLOTS;
    case GCI_ROOT_HANDLE:
        return GCI_GROUP_HANDLES;
    case GCI_ROOT_READY:
    case GCI_ROOT_FINALIZER:
        return GCI_GROUP_FINALIZERS;
    case GCI_ROOT_FRAME:
        return GCI_GROUP_FRAMES;
    case GCI_ROOT_CODE:
        return GCI_GROUP_CODE;
    case GCI_ROOT_HOOK:
    case GCI_ROOT_HOOK_PLAIN:
    case GCI_ROOT_HOOK_WORDS:
        return GCI_GROUP_HOOKS;
    }
    return GCI_GROUP_LIBRARY;
}

/* A frame's node, or where no frame is known the stack's. */
static void place_on_stack(
    const struct gci_roots *r, struct gci_root_node *node, uintptr_t address) {
    const struct gci_root_frame *frame = frame_at(r, address);
    if (frame == NULL) {
        const struct gci_mutator *m = gci_mutator_at(&r->heap->world, address);
        node->tid = m != NULL ? m->tid : 0;
        node->start = m != NULL ? m->stack.low : 0;
        return;
    }
    node->tid = frame->tid;
    node->start = frame->low;
    node->pc = frame->pc;
    node->interrupted = frame->interrupted;
    node->symbol = gci_symbol_at(r->symbols, frame->pc - 1, true);
}

/* The range that was named and holds ADDRESS; what none holds is the library's own. */
static void place_in_range(
    const struct gci_roots *r, struct gci_root_node *node, uintptr_t address, bool precise) {
    for (size_t i = 0; i < r->heap->range_count; i++) {
        const struct gci_root_range *range = &r->heap->ranges[i];
        if (range->precise != precise || address - (uintptr_t)range->start >= range->bytes)
            continue;
        node->start = (uintptr_t)range->start;
        return;
    }
    node->group = GCI_GROUP_LIBRARY;
}

/* What is known of the place ADDRESS of a root of KIND, in the order of nodes of one group. */
static struct gci_root_node place(
    const struct gci_roots *r, enum gci_root_kind kind, uintptr_t address) {
    struct gci_root_node node = {
        .group = (uint8_t)group_of(kind), .precise = gci_root_is_precise(kind)};
    switch (kind) {
    case GCI_ROOT_STACK:
    case GCI_ROOT_FRAME:
    case GCI_ROOT_CODE:
        place_on_stack(r, &node, address);
        break;
    case GCI_ROOT_STATIC:
        node.symbol = gci_symbol_at(r->symbols, address, false);
        if (node.symbol != NULL) node.start = node.symbol->start;
        break;
    case GCI_ROOT_LAYER: /* one for each page */
        node.start = address & ~(uintptr_t)(gci_page_size() - 1);
        break;
    case GCI_ROOT_RANGE:
    case GCI_ROOT_SLOT:
        place_in_range(r, &node, address, kind == GCI_ROOT_SLOT);
        break;
    default:
        break;
    }
    if (kind == GCI_ROOT_STATIC && node.symbol == NULL) { /* one node for each page of it */
        node.start = address & ~(uintptr_t)(gci_page_size() - 1);
        const struct gci_symbol_file *file = gci_symbol_file_at(r->symbols, address);
        if (file != NULL && node.start < file->start) node.start = file->start;
    }
    return node;
}

static bool is_same(const struct gci_root_node *a, const struct gci_root_node *b) {
    return a->group == b->group && a->precise == b->precise && a->start == b->start &&
           a->pc == b->pc && a->tid == b->tid && a->symbol == b->symbol;
}

/* The number of the node of that place: words come in the order of their addresses, so that it is
 * that of the one before or a new one, and at worst there are two of one name. */
static uint32_t find_node(struct gci_roots *r, const struct gci_root_node *wanted) {
    uint32_t *last = &r->last[wanted->group];
    if (*last > 0 && is_same(&r->nodes[*last - 1], wanted)) return *last - 1;
    struct gci_root_node *nodes =
        gci_vm_with_room(r->nodes, r->node_count, &r->node_capacity, sizeof *nodes);
    if (nodes == NULL || r->node_count >= GCI_NONE - 1) {
        r->failed = true;
        return 0;
    }
    r->nodes = nodes;
    nodes[r->node_count++] = *wanted;
    *last = (uint32_t)r->node_count;
    return *last - 1;
}

/* ---- References ----------------------------------------------------------------------------- */

static void meet(
    struct gci_roots *r, enum gci_root_kind kind, uintptr_t address, const uintptr_t *word) {
    gci_object object;
    if (r->failed || !gci_find(r->heap, address, &object)) return;
    struct gci_root_node wanted = place(r, kind, (uintptr_t)word);
    uint32_t node = find_node(r, &wanted);
    struct gci_root_edge *edges =
        gci_vm_with_room(r->edges, r->edge_count, &r->edge_capacity, sizeof *edges);
    if (edges == NULL || r->edge_count >= GCI_NONE) r->failed = true;
    if (r->failed) return;
    r->edges = edges;
    edges[r->edge_count++] = (struct gci_root_edge){node, object, (uintptr_t)word};
    r->nodes[node].edges++;
}

static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void visit(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    struct gci_roots *r = context;
    const struct gci_word_format *words = &r->heap->words;
    bool precise = gci_root_is_precise(kind), worded = gci_root_is_worded(kind) && words->on;
    bool past_end = gci_root_means_past_end(r->heap, kind);
    for (const uintptr_t *w = start; w < end; w++) {
        uintptr_t word = *w, address;
        if (!worded) meet(r, kind, word, w);
        if (past_end && word % GC_GRANULE == 0) meet(r, kind, word - 1, w);
        if ((worded || (!precise && words->on)) && gci_word_decode(words, word, &address))
            meet(r, kind, address, w);
    }
}

/* The references by their nodes, in the order in which they were found. */
static bool sort(struct gci_roots *r) {
    uint32_t first = 0;
    r->sorted_bytes = gci_whole_pages(r->edge_count * sizeof *r->sorted);
    if (r->edge_count == 0) return true;
    r->sorted = gci_vm_map(r->sorted_bytes);
    if (r->sorted == NULL) return false;
    for (size_t i = 0; i < r->node_count; i++) {
        r->nodes[i].first = first;
        first += r->nodes[i].edges;
        r->nodes[i].edges = 0;
    }
    for (size_t i = 0; i < r->edge_count; i++) {
        struct gci_root_node *node = &r->nodes[r->edges[i].node];
        r->sorted[node->first + node->edges++] = (uint32_t)i;
    }
    return true;
}

int gci_roots_find(struct gci_roots *r) {
    for (const struct gci_mutator *m = r->heap->world.first; m != NULL; m = m->next)
        find_frames(r, m);
    gci_visit_roots(r->heap, visit, r);
    gci_slots_visit(r->heap, visit, r);
    return r->failed || !sort(r) ? ENOMEM : 0;
}

void gci_roots_free(struct gci_roots *r) {
    if (r->nodes) gci_vm_unmap(r->nodes, gci_whole_pages(r->node_capacity * sizeof *r->nodes));
    if (r->edges) gci_vm_unmap(r->edges, gci_whole_pages(r->edge_capacity * sizeof *r->edges));
    if (r->frames) gci_vm_unmap(r->frames, gci_whole_pages(r->frame_capacity * sizeof *r->frames));
    if (r->sorted) gci_vm_unmap(r->sorted, r->sorted_bytes);
}

/* ---- Names ---------------------------------------------------------------------------------- */

static void name_on_stack(
    const struct gci_roots *r, const struct gci_root_node *node, char *buffer, size_t bytes) {
    char owner[32] = "coroutine";
    if (node->tid != 0) snprintf(owner, sizeof owner, "thread %d", (int)node->tid);
    uintptr_t pc = node->pc - (node->interrupted ? 1 : 0);
    const struct gci_symbol_file *file = gci_symbol_file_at(r->symbols, pc);
    if (node->pc == 0)
        snprintf(buffer, bytes, "stack of %s", owner);
    else if (node->symbol != NULL)
        snprintf(buffer, bytes, "%s() +0x%zx in %s, %s", node->symbol->name,
            (size_t)(pc - node->symbol->start), node->symbol->file, owner);
    else
        snprintf(buffer, bytes, "0x%zx in %s, %s", (size_t)(file != NULL ? pc - file->start : pc),
            file != NULL ? file->name : "no file", owner);
}

void gci_root_name(
    const struct gci_roots *r, const struct gci_root_node *node, char *buffer, size_t bytes) {
    const struct gci_symbol_file *file;
    switch ((enum gci_root_group)node->group) {
    case GCI_GROUP_STACKS:
    case GCI_GROUP_FRAMES:
    case GCI_GROUP_CODE:
        name_on_stack(r, node, buffer, bytes);
        return;
    case GCI_GROUP_STATIC:
        file = gci_symbol_file_at(r->symbols, node->start);
        if (node->symbol != NULL)
            snprintf(buffer, bytes, "%s in %s", node->symbol->name, node->symbol->file);
        else
            snprintf(buffer, bytes, "static data of %s+0x%zx",
                file != NULL ? file->name : "no file",
                (size_t)(node->start - (file != NULL ? file->start : 0)));
        return;
    case GCI_GROUP_TLS:
        snprintf(buffer, bytes, "thread-local variables");
        return;
    case GCI_GROUP_RANGES:
        snprintf(buffer, bytes, "range at %p", (void *)node->start);
        return;
    case GCI_GROUP_SLOTS:
        snprintf(buffer, bytes, "slots at %p", (void *)node->start);
        return;
    case GCI_GROUP_HANDLES:
        snprintf(buffer, bytes, "handles");
        return;
    case GCI_GROUP_HOOKS:
        snprintf(buffer, bytes, node->precise ? "slots of root hooks" : "words of root hooks");
        return;
    case GCI_GROUP_FINALIZERS:
        snprintf(buffer, bytes,
            node->precise ? "objects whose finalizers are ready" : "data of finalizers");
        return;
    case GCI_GROUP_LIBRARY:
    case GCI_GROUPS:
        snprintf(buffer, bytes, "what the library keeps for a thread");
        return;
    }
}
