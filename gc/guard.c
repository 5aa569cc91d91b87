/* Guard pages.  Under CAIRN_POISON=guard the run of pages of a large object is one page longer
 * than the object, which ends where that page begins, and the page is inaccessible: who runs
 * past the object's end faults there, and the fault says what he ran past.  Owns the count of
 * such pages and, in the page table's entry of each, PREV: whether it is protected.  Called by
 * gc/large.c (docs/debugging.md, rules 6 to 9). */
#include "gc/guard.h"

#include "gc/arena.h"
#include "gc/block.h"
#include "gc/large.h"
#include "gc/type.h"
#include "runtime/fault.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define MOST_GUARDS 16384u /* two mappings each, of the process's 65530 */

static GCI_GLOBAL struct gc_heap *watched; /* for the handler; set at opening */

static void *page_address(const struct gci_arena *arena, uint32_t page) {
    return (void *)(arena->base + ((uintptr_t)page << arena->page_shift));
}

/* In the handler of any thread, the world running or not: it only looks, and ends the program. */
static bool explain(uintptr_t address, bool write) {
    const struct gc_heap *heap = watched;
    const struct gci_arena *arena = &heap->arena;
    uintptr_t offset = address - arena->base;
    if (offset >= gci_arena_used_bytes(arena)) return false;
    uint8_t tag = gci_tag(arena, (uint32_t)(offset >> GCI_BLOCK_SHIFT));
    uint32_t page = (uint32_t)(offset >> arena->page_shift), head = arena->pages[page].head;
    if (gci_tag_use(tag) != GCI_USE_LARGE || head > page ||
        page - head != arena->pages[head].pages - 1)
        return false;
    gci_object object = gci_large_object(arena, head);
    uintptr_t start = gci_granule_address(arena, object.granule);
    static const char *const kinds[GCI_KINDS] = {"ambiguous", "a leaf", "typed"};
    enum gci_kind kind = gci_tag_kind(tag);
    bool typed = kind == GCI_TYPED;
    gci_fatal("an overrun: the program %s %p, byte %zu of an object of %zu bytes (%s%s) at %p",
        write ? "writes to" : "reads from", (void *)address, (size_t)(address - start),
        gci_large_bytes(arena, object), typed ? "of type " : "",
        typed ? gci_type_recorded(heap, object.granule)->desc.name : kinds[kind], (void *)start);
}

void gci_guard_open(struct gc_heap *heap) {
    if (heap->options.poison != GC_POISON_GUARD) return;
    watched = heap;
    heap->arena.guard_pages = 1;
    if (gci_fault_serve(explain) != 0)
        gci_log("poison: who runs into a guard page faults without a message, since SIGSEGV can't "
                "be caught");
}

void gci_guard_raise(struct gci_arena *arena, uint32_t page) {
    arena->pages[page].prev = 0;
    if (arena->guards_refused) return;
    if (arena->guards == MOST_GUARDS ||
        gci_vm_forbid(page_address(arena, page), (size_t)1 << arena->page_shift) != 0) {
        arena->guards_refused = true;
        gci_log("poison: no more mappings for guard pages: large objects allocated from here on "
                "have none (%u have one)",
            arena->guards);
        return;
    }
    arena->pages[page].prev = 1;
    arena->guards++;
}

/* The page is a mapping of its own, whose memory was charged before: this needs nothing. */
void gci_guard_lower(struct gci_arena *arena, uint32_t page) {
    if (arena->pages[page].prev == 0) return;
    int error = gci_vm_commit(page_address(arena, page), (size_t)1 << arena->page_shift);
    if (error != 0)
        gci_fatal("the guard page at %p can't be made accessible (errno %d)",
            page_address(arena, page), error);
    arena->pages[page].prev = 0;
    arena->guards--;
    if (arena->guards < MOST_GUARDS / 2) arena->guards_refused = false;
}
