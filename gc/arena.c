/* The arena owns the reserved address range, the tables that describe it, and which blocks are
 * used.  Invariants: everything below the frontier is committed, and so are its tables;
 * used_blocks + free_blocks == frontier; a free block is in the pool or in a free run, never
 * both.  Called with the heap in one thread's hands. */
#include "gc/arena.h"

#include <errno.h>
#include <string.h>

#include "gc/event.h"
#include "gc/quarantine.h"
#include "gc/runs.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define MIN_RESERVE ((size_t)16 << 20)
#define COMMIT_STEP ((size_t)4 << 20)
#define HUGE_PAGE   ((size_t)2 << 20)
#define HUGE_PART   ((size_t)128 << 20) /* of the arena, on huge pages */
#define HUGE_NS     1000000u /* to zero one: 0.1 ms, or 4.5 ms if the host has it, measured */
#define ALIGNED     ((size_t)1 << 30) /* larger arenas start at a multiple of it */
#define POOL_MAX    1024u             /* blocks; more go to the runs, where they join */
#define TABLE_SLACK 64u /* bytes past the last entry: side bytes are read 64 at a time */

/* The size of one table for an arena of BYTES. */
static size_t table_bytes(enum gci_table_name name, size_t bytes, unsigned page_shift) {
    size_t blocks = bytes >> GCI_BLOCK_SHIFT, pages = bytes >> page_shift;
    switch (name) {
    case GCI_TABLE_SIDE:
    case GCI_TABLE_TYPES:
        return bytes / GC_GRANULE + TABLE_SLACK;
    case GCI_TABLE_TAGS:
        return blocks + TABLE_SLACK;
    case GCI_TABLE_LIVE:
        return blocks * sizeof(uint16_t);
    case GCI_TABLE_BLOCKS:
        return blocks * sizeof(struct gci_block);
    case GCI_TABLE_BLOCK_RUNS:
        return (blocks + 1) * sizeof(struct gci_run_node);
    case GCI_TABLE_PAGES:
        return pages * sizeof(struct gci_page);
    case GCI_TABLE_AMBIGUOUS_RUNS:
    case GCI_TABLE_LEAF_RUNS:
    case GCI_TABLE_TYPED_RUNS:
        return (pages + 1) * sizeof(struct gci_run_node);
    case GCI_TABLE_POOL:
        return blocks * sizeof(uint32_t);
    case GCI_TABLES:
        break;
    }
    return 0;
}

static size_t round_up(size_t value, size_t unit) {
    return (value + unit - 1) / unit * unit;
}

static void unreserve(struct gci_arena *arena) {
    for (unsigned i = 0; i < GCI_TABLES; i++)
        if (arena->tables[i].base != NULL)
            gci_vm_unmap(arena->tables[i].base, arena->tables[i].reserved);
    if (arena->base != 0) gci_vm_unmap((void *)arena->base, arena->reserved);
    memset(arena, 0, sizeof *arena);
}

/* Reserves an arena of BYTES and all its tables, or nothing. */
static bool reserve(struct gci_arena *arena, size_t bytes, unsigned page_shift) {
    arena->page_shift = page_shift;
    arena->base = (uintptr_t)gci_vm_reserve(bytes, bytes >= ALIGNED ? ALIGNED : HUGE_PAGE);
    arena->reserved = bytes;
    bool done = arena->base != 0;
    for (unsigned i = 0; i < GCI_TABLES && done; i++) {
        struct gci_table *table = &arena->tables[i];
        table->reserved = round_up(table_bytes(i, bytes, page_shift), gci_page_size());
        table->base = gci_vm_reserve(table->reserved, i == GCI_TABLE_SIDE ? HUGE_PAGE : 4096);
        done = table->base != NULL;
    }
    if (!done) unreserve(arena);
    return done;
}

/* Was so much refused that what is left of the address space must be left to the program? */
static bool room_is_left(size_t bytes) {
    void *probe = gci_vm_reserve(bytes / 4, 4096);
    if (probe == NULL) return false;
    gci_vm_unmap(probe, bytes / 4);
    return true;
}

int gci_arena_open(struct gci_arena *arena, size_t bytes, bool huge_pages) {
    unsigned page_shift = (unsigned)__builtin_ctzl(gci_page_size());
    GCI_CHECK(page_shift <= GCI_BLOCK_SHIFT);
    GCI_CHECK(bytes >> page_shift < GCI_RUN_EDGE); /* as the option's range sees to */
    memset(arena, 0, sizeof *arena);
    bytes = bytes / HUGE_PAGE * HUGE_PAGE;
    for (bool refused = false;; bytes = bytes / 2 / HUGE_PAGE * HUGE_PAGE, refused = true) {
        if (bytes < MIN_RESERVE) return ENOMEM;
        if (!reserve(arena, bytes, page_shift)) continue;
        if (!refused || bytes < 2 * MIN_RESERVE || room_is_left(bytes)) break;
        unreserve(arena);
    }
    arena->side = arena->tables[GCI_TABLE_SIDE].base;
    arena->types = arena->tables[GCI_TABLE_TYPES].base;
    arena->tags = arena->tables[GCI_TABLE_TAGS].base;
    arena->live = (uint16_t *)(void *)arena->tables[GCI_TABLE_LIVE].base;
    arena->blocks = (struct gci_block *)(void *)arena->tables[GCI_TABLE_BLOCKS].base;
    arena->pages = (struct gci_page *)(void *)arena->tables[GCI_TABLE_PAGES].base;
    arena->pool = (uint32_t *)(void *)arena->tables[GCI_TABLE_POOL].base;
    arena->block_limit = GCI_NONE;
    arena->quarantine.first = arena->quarantine.last = arena->quarantine.fresh = GCI_NONE;
    arena->huge_pages = huge_pages;
    gci_runs_init(&arena->block_runs,
        (struct gci_run_node *)(void *)arena->tables[GCI_TABLE_BLOCK_RUNS].base, GC_FIT_FIRST);
    return 0;
}

void gci_arena_close(struct gci_arena *arena) {
    if (arena->base != 0) unreserve(arena);
}

/* Only the first part of the arena, which holds a small heap and the nursery, and only while they
 * come quickly: docs/memory.md, rule 1. */
static void use_huge_pages(struct gci_arena *arena, uint8_t *start, size_t bytes) {
    gci_vm_advise_huge(start, bytes, true);
    arena->huge_pages = gci_vm_touch_is_quick(start, HUGE_NS);
    if (!arena->huge_pages) gci_vm_advise_huge(start, bytes, false);
}

/* Makes the first BYTES of the arena and what describes them usable. */
static int commit_to(struct gci_arena *arena, size_t bytes) {
    for (unsigned i = 0; i < GCI_TABLES; i++) {
        struct gci_table *table = &arena->tables[i];
        size_t need = round_up(table_bytes(i, bytes, arena->page_shift), (size_t)64 << 10);
        if (need > table->reserved) need = table->reserved;
        if (need <= table->committed) continue;
        int error = gci_vm_commit(table->base + table->committed, need - table->committed);
        if (error != 0) return error;
        if (arena->dumped) gci_vm_dump(table->base + table->committed, need - table->committed);
        table->committed = need;
    }
    uint8_t *start = (uint8_t *)arena->base + arena->committed;
    int error = arena->barrier != NULL ? gci_barrier_cover(arena->barrier, bytes) : 0;
    if (error != 0) return error;
    error = gci_vm_commit(start, bytes - arena->committed);
    if (error != 0) return error;
    if (arena->dumped) gci_vm_dump(start, bytes - arena->committed);
    if (arena->huge_pages && arena->committed >= arena->huge_from && arena->committed < HUGE_PART)
        use_huge_pages(arena, start, (bytes < HUGE_PART ? bytes : HUGE_PART) - arena->committed);
    uint64_t more = bytes - arena->committed;
    arena->committed = bytes;
    gci_event_grown(arena->heap, more);
    return 0;
}

/* Moves the frontier up by LENGTH blocks; false if the address space or the machine's memory
 * ends. */
static bool extend(struct gci_arena *arena, uint32_t length) {
    size_t end = gci_arena_used_bytes(arena) + ((size_t)length << GCI_BLOCK_SHIFT);
    if (end > arena->reserved) return false;
    if (end > arena->committed) {
        size_t generous = round_up(end + arena->committed / 8, COMMIT_STEP);
        if (generous > arena->reserved) generous = arena->reserved;
        if (commit_to(arena, generous) != 0 && commit_to(arena, end) != 0) return false;
    }
    for (uint32_t b = arena->frontier; b < arena->frontier + length; b++)
        arena->blocks[b] = (struct gci_block){.list = GCI_NO_LIST, .zeroed = true};
    __atomic_store_n(&arena->frontier, arena->frontier + length, __ATOMIC_RELAXED);
    arena->free_blocks += length;
    return true;
}

static void to_runs(struct gci_arena *arena, uint32_t first, uint32_t length) {
    uint32_t joined;
    gci_runs_give(&arena->block_runs, first, length, &joined);
}

static void flush_pool(struct gci_arena *arena) {
    while (arena->pool_count > 0) {
        uint32_t block = arena->pool[--arena->pool_count];
        arena->blocks[block].list = GCI_NO_LIST;
        to_runs(arena, block, 1);
    }
}

static uint32_t not_resident(const struct gci_arena *arena, uint32_t first, uint32_t length) {
    uint32_t count = 0;
    for (uint32_t b = first; b < first + length; b++) count += !arena->blocks[b].resident;
    return count;
}

/* Counts LENGTH free blocks from FIRST as used; gives them back to the runs if that breaks the
 * limit even after other free memory was returned to the system. */
static bool account(struct gci_arena *arena, uint32_t first, uint32_t length) {
    uint32_t fresh = not_resident(arena, first, length);
    if ((uint64_t)arena->resident_blocks + fresh > arena->block_limit) {
        uint32_t excess = arena->resident_blocks + fresh - arena->block_limit;
        gci_arena_release(arena, excess > length ? excess : length);
        fresh = not_resident(arena, first, length); /* the release may have met these */
        if ((uint64_t)arena->resident_blocks + fresh > arena->block_limit) {
            for (uint32_t b = first; b < first + length; b++) arena->blocks[b].list = GCI_NO_LIST;
            to_runs(arena, first, length);
            return false;
        }
    }
    for (uint32_t b = first; b < first + length; b++) {
        arena->blocks[b].resident = true;
        arena->blocks[b].list = GCI_NO_LIST;
    }
    arena->resident_blocks += fresh;
    arena->free_blocks -= length;
    arena->used_blocks += length;
    return true;
}

uint32_t gci_arena_take(struct gci_arena *arena, bool grow) {
    if (arena->pool_count > 0) {
        uint32_t block = arena->pool[--arena->pool_count];
        if (account(arena, block, 1)) return block;
        if (!grow) return GCI_NONE;
    }
    if (!grow && arena->block_runs.free_units == 0) return GCI_NONE;
    return gci_arena_take_run(arena, 1, 1);
}

/* Fresh blocks at the frontier.  A free run that ends there is used as their beginning. */
static uint32_t take_fresh(struct gci_arena *arena, uint32_t length, uint32_t alignment) {
    uint32_t edge = arena->frontier;
    const struct gci_run_node *nodes = arena->block_runs.nodes;
    uint32_t tail = edge > 0 && nodes[edge - 1].length & GCI_RUN_EDGE
                        ? nodes[edge - 1].length & ~GCI_RUN_EDGE
                        : 0;
    uint32_t run = edge - tail;
    uint32_t first = (run + alignment - 1) & ~(alignment - 1);
    if (first < run || length > GCI_NONE / 2 - first) return GCI_NONE;
    uint32_t end = first + length;
    if (end > edge) {
        if (!extend(arena, end - edge)) return GCI_NONE;
        to_runs(arena, edge, end - edge);
    }
    gci_runs_take_at(&arena->block_runs, run, first, length);
    return first;
}

static uint32_t take_run(struct gci_arena *arena, uint32_t length, uint32_t alignment) {
    if (length > arena->block_limit) return GCI_NONE;
    if (length == 1 && alignment == 1 && arena->pool_count > 0) return gci_arena_take(arena, false);
    uint32_t first = gci_runs_take(&arena->block_runs, length, alignment);
    if (first == GCI_NONE && arena->pool_count > 0 && (length > 1 || alignment > 1)) {
        flush_pool(arena); /* its blocks may join the runs to one that is long enough */
        first = gci_runs_take(&arena->block_runs, length, alignment);
    }
    if (first == GCI_NONE) first = take_fresh(arena, length, alignment);
    if (first == GCI_NONE) return GCI_NONE;
    return account(arena, first, length) ? first : GCI_NONE;
}

uint32_t gci_arena_take_run(struct gci_arena *arena, uint32_t length, uint32_t alignment) {
    uint32_t first = take_run(arena, length, alignment);
    while (first == GCI_NONE && gci_quarantine_end(arena, arena->quarantine.count) > 0)
        first = take_run(arena, length, alignment);
    return first;
}

void gci_arena_readmit(struct gci_arena *arena, uint32_t first, uint32_t length) {
    if (length == 1 && arena->pool_count < POOL_MAX) {
        arena->blocks[first].list = GCI_POOL_LIST;
        arena->pool[arena->pool_count++] = first;
    } else {
        to_runs(arena, first, length);
    }
}

void gci_arena_give(struct gci_arena *arena, uint32_t first, uint32_t length) {
    for (uint32_t b = first; b < first + length; b++) {
        arena->tags[b] = (uint8_t)(GCI_USE_FREE | (arena->tags[b] & GCI_TAG_CLOSED));
        arena->live[b] = 0;
        arena->blocks[b].list = GCI_NO_LIST;
        arena->blocks[b].zeroed = false;
    }
    arena->used_blocks -= length;
    arena->free_blocks += length;
    gci_arena_readmit(arena, first, length);
}

/* The side and type bytes of free blocks go with them, where they fill pages of their own. */
static void discard_bytes(struct gci_arena *arena, uint32_t first, uint32_t end) {
    size_t start = gci_block_granule(first), bytes = gci_block_granule(end) - start;
    if (!gci_arena_side_fills_pages()) return;
    (void)gci_vm_discard(arena->types + start, bytes);
    if (gci_vm_discard(arena->side + start, bytes) != 0) return;
    for (uint32_t b = first; b < end; b++) arena->blocks[b].side_used = false;
}

uint32_t gci_arena_release(struct gci_arena *arena, uint32_t count) {
    flush_pool(arena);
    uint32_t released = 0;
    for (uint32_t end = arena->frontier; end > 0 && released < count; end--) {
        uint32_t first = end;
        while (first > 0 && end - first < count - released &&
               gci_tag_use(arena->tags[first - 1]) == GCI_USE_FREE &&
               arena->blocks[first - 1].list != GCI_QUARANTINE && arena->blocks[first - 1].resident)
            first--;
        if (first == end) continue;
        if (gci_vm_discard((void *)gci_block_address(arena, first), (size_t)(end - first)
                                                                        << GCI_BLOCK_SHIFT) == 0) {
            for (uint32_t b = first; b < end; b++) {
                arena->blocks[b].resident = false;
                arena->blocks[b].zeroed = true;
            }
            released += end - first;
            arena->resident_blocks -= end - first;
            discard_bytes(arena, first, end);
        }
        end = first + 1;
    }
    if (released > 0) gci_event_returned(arena->heap, (uint64_t)released << GCI_BLOCK_SHIFT);
    return released;
}

size_t gci_check_arena(const struct gci_arena *arena) {
    uint32_t used = 0, resident = 0, pooled = 0, quarantined = 0;
    for (uint32_t b = 0; b < arena->frontier; b++) {
        used += gci_tag_use(arena->tags[b]) != GCI_USE_FREE;
        resident += arena->blocks[b].resident;
        pooled += arena->blocks[b].list == GCI_POOL_LIST;
        quarantined += arena->blocks[b].list == GCI_QUARANTINE;
    }
    size_t broken = gci_check_runs(&arena->block_runs);
    if (used != arena->used_blocks || arena->used_blocks + arena->free_blocks != arena->frontier) {
        gci_log(
            "arena: %u blocks in use, counted %u of %u", used, arena->used_blocks, arena->frontier);
        broken++;
    }
    if (resident != arena->resident_blocks) {
        gci_log("arena: %u blocks resident, counted %u", resident, arena->resident_blocks);
        broken++;
    }
    if (pooled != arena->pool_count || quarantined != arena->quarantine.count ||
        pooled + quarantined + arena->block_runs.free_units != arena->free_blocks) {
        gci_log("arena: %u blocks pooled, %u counted, %u in quarantine, %u counted, %u free",
            pooled, arena->pool_count, quarantined, arena->quarantine.count, arena->free_blocks);
        broken++;
    }
    return broken;
}
