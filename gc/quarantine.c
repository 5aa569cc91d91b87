/* Quarantine.  A block that objects were moved out of, and in which nothing lives, isn't reused at
 * once when the option protect_moved is set: it is inaccessible, with its side and type bytes as
 * they were, so that a fault can be explained.  Owns arena->quarantine.  Invariants: such a block
 * is free, counts as resident, and is neither in the pool nor in a run; outside of collections it
 * is protected.  It gives way when memory is short.  Called with the world stopped, or the lock
 * held (docs/stale.md, rules 1 to 4). */
#include "gc/quarantine.h"

#include <string.h>

#include "gc/arena.h"
#include "gc/block.h"
#include "gc/type.h"
#include "runtime/fault.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define MOST_BLOCKS 4096u /* 256 MiB, and at most 8192 of the process's 65530 mappings */

static GCI_GLOBAL struct gc_heap *watched; /* for the handler; set at opening */

/* ---- Faults --------------------------------------------------------------------------------- */

/* The object that covers GRANULE was moved: its first word, which is forbidden, says where to. */
static uintptr_t moved_to(const struct gci_arena *arena, uint32_t block, size_t granule) {
    uintptr_t start = gci_granule_address(arena, granule);
    if (gci_vm_commit((void *)gci_block_address(arena, block), GCI_BLOCK_BYTES) != 0) return 0;
    return *(const uintptr_t *)start;
}

/* In the handler of any thread, the world running or not: it only looks, and ends the program. */
static bool explain(uintptr_t address, bool write) {
    const struct gc_heap *heap = watched;
    const struct gci_arena *arena = &heap->arena;
    if (address - arena->base >= gci_arena_used_bytes(arena)) return false;
    size_t granule = gci_address_granule(arena, address);
    uint32_t block = gci_block_of(granule);
    const struct gci_block *b = &arena->blocks[block];
    if (b->list != GCI_QUARANTINE) return false;
    const char *what = write ? "writes to" : "reads from";
    gci_object object;
    if (!gci_block_find(arena, granule, &object))
        gci_fatal("a stale pointer: the program %s %p, in memory that objects were moved out of in "
                  "collection %u; none was there",
            what, (void *)address, b->prev);
    uintptr_t start = gci_granule_address(arena, object.granule);
    const char *type = b->size_class == GCI_TYPED
                           ? gci_type_recorded(heap, object.granule)->desc.name
                           : "none (a leaf)";
    if (!(arena->side[object.granule] & GCI_SIDE_MOVED))
        gci_fatal(
            "a stale pointer: the program %s %p, %zu bytes into what was an object of type %s "
            "at %p, which nothing referred to in collection %u",
            what, (void *)address, (size_t)(address - start), type, (void *)start, b->prev);
    gci_fatal(
        "a stale pointer: the program %s %p, %zu bytes into an object of type %s that was moved "
        "from %p to %p in collection %u",
        what, (void *)address, (size_t)(address - start), type, (void *)start,
        (void *)moved_to(arena, block, object.granule), b->prev);
}

void gci_quarantine_open(struct gc_heap *heap) {
    if (heap->options.protect_moved == 0) return;
    watched = heap;
    heap->arena.quarantine.poison = heap->options.poison;
    if (gci_fault_serve(explain) != 0)
        gci_log("protect_moved: stale pointers fault without a message, since SIGSEGV can't be "
                "caught");
}

/* ---- In and out ----------------------------------------------------------------------------- */

static bool has_moved(const struct gci_arena *arena, uint32_t block) {
    const uint8_t *side = arena->side + gci_block_granule(block);
    for (unsigned g = 0; g < GCI_BLOCK_GRANULES; g += 8)
        if (gci_load8(side + g) & GCI_SIDE_MOVED * UINT64_C(0x0101010101010101)) return true;
    return false;
}

bool gci_quarantine_add(struct gc_heap *heap, uint32_t block) {
    struct gci_arena *arena = &heap->arena;
    struct gci_quarantine *q = &arena->quarantine;
    uint8_t tag = arena->tags[block];
    if (heap->options.protect_moved == 0 || q->refused || tag & GCI_TAG_CLOSED) return false;
    if (!has_moved(arena, block)) return false;
    if (q->count >= MOST_BLOCKS && (q->first == q->fresh || gci_quarantine_end(arena, 1) == 0))
        return false;
    arena->tags[block] = GCI_USE_FREE;
    arena->live[block] = 0;
    arena->blocks[block].zeroed = false;
    arena->used_blocks--;
    arena->free_blocks++;
    q->count++;
    struct gci_block *b = &arena->blocks[block];
    b->list = GCI_QUARANTINE;
    b->size_class = (uint8_t)gci_tag_kind(tag);
    b->prev = (uint32_t)heap->collections + 1;
    b->next = GCI_NONE;
    if (q->first == GCI_NONE)
        q->first = block;
    else
        arena->blocks[q->last].next = block;
    q->last = block;
    if (q->fresh == GCI_NONE) q->fresh = block;
    return true;
}

/* The number of blocks from FIRST on that lie one behind the other in the queue and in the arena,
 * up to MOST. */
static uint32_t run_length(const struct gci_arena *arena, uint32_t first, uint32_t most) {
    uint32_t length = 1;
    while (length < most && arena->blocks[first + length - 1].next == first + length) length++;
    return length;
}

static void readmit(struct gci_arena *arena, uint32_t first, uint32_t length) {
    struct gci_quarantine *q = &arena->quarantine;
    if (q->poison)
        memset(
            (void *)gci_block_address(arena, first), GCI_POISON, (size_t)length << GCI_BLOCK_SHIFT);
    q->first = arena->blocks[first + length - 1].next;
    if (q->first == GCI_NONE) q->last = GCI_NONE;
    q->count -= length;
    for (uint32_t b = first; b < first + length; b++) {
        arena->blocks[b].list = GCI_NO_LIST;
        arena->blocks[b].next = arena->blocks[b].prev = GCI_NONE;
        if (q->fresh == b) q->fresh = q->first;
    }
    for (uint32_t b = first; b < first + length; b++) gci_arena_readmit(arena, b, 1);
}

uint32_t gci_quarantine_end(struct gci_arena *arena, uint32_t count) {
    struct gci_quarantine *q = &arena->quarantine;
    uint32_t ended = 0;
    while (ended < count && q->first != GCI_NONE) {
        uint32_t first = q->first, length = run_length(arena, first, count - ended);
        if (gci_vm_commit(
                (void *)gci_block_address(arena, first), (size_t)length << GCI_BLOCK_SHIFT) != 0)
            break;
        readmit(arena, first, length);
        ended += length;
    }
    return ended;
}

static void end_old(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    uint32_t now = (uint32_t)heap->collections + 1, count = 0;
    for (uint32_t b = arena->quarantine.first; b != arena->quarantine.fresh;
         b = arena->blocks[b].next) {
        if (now - arena->blocks[b].prev < heap->options.protect_moved) break;
        count++;
    }
    gci_quarantine_end(arena, count);
}

void gci_quarantine_settle(struct gc_heap *heap) {
    struct gci_arena *arena = &heap->arena;
    struct gci_quarantine *q = &arena->quarantine;
    if (q->count == 0) return;
    end_old(heap);
    gci_fault_install();
    while (q->fresh != GCI_NONE) {
        uint32_t first = q->fresh, length = run_length(arena, first, GCI_NONE);
        if (gci_vm_forbid(
                (void *)gci_block_address(arena, first), (size_t)length << GCI_BLOCK_SHIFT) != 0) {
            gci_log("protect_moved: the system refuses to protect more memory: from here on stale "
                    "pointers are not noticed");
            q->refused = true;
            gci_quarantine_end(arena, q->count);
            q->fresh = GCI_NONE;
            return;
        }
        q->fresh = arena->blocks[first + length - 1].next;
    }
}
