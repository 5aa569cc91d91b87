/* Watches: which objects have finalizers, guardians, weak references and links, and what becomes of
 * these when objects move, are freed, or die.  Owns heap->watches.
 *
 *   record   one for each watched object, and for each slot outside the heap that has a link; found
 *            by its address in a hash table of chains, and in an array, in the order of registration
 *   watch    a finalizer, a guardian's claim, a weak reference or a link; on the chain of the record
 *            of its object.  A link is on that of its slot's holder, too (gc/link.c)
 *
 * Invariants: every record's object is live and has KEYED; those that are not marked are in the
 * array's last part, so that a minor collection looks at no other; a watch's OBJECT is its record's key.  Only
 * an old record may be without watches and links, from one full collection to the next.  Written with
 * the lock held or the world stopped (docs/finalization.md). */
#include "gc/watch.h"

#include "gc/block.h"
#include "gc/link.h"
#include "gc/word.h"
#include "runtime/log.h"
#include "runtime/vm.h"

#define CELL_BYTES    GCI_WATCH_CELL_BYTES
#define STOCK_BYTES   ((size_t)256 << 10) /* mapped at a time */
#define FIRST_BUCKETS 512u                /* a page of them */
#define AHEAD         8u                  /* records fetched before they are looked at */

_Static_assert(sizeof(struct gci_watch) <= CELL_BYTES, "a watch is a cell");
_Static_assert(sizeof(gc_guardian) <= CELL_BYTES, "a guardian is a cell");
_Static_assert(sizeof(struct gci_watched) <= CELL_BYTES, "a record is a cell");

/* ---- Memory --------------------------------------------------------------------------------- */

static void *take_cell(struct gci_stock *stock) {
    void **cell = stock->free;
    if (cell != NULL) {
        stock->free = *cell;
        return cell;
    }
    if (stock->fresh == stock->end) {
        uint8_t *memory = gci_vm_map(STOCK_BYTES);
        if (memory == NULL) return NULL;
        stock->fresh = memory;
        stock->end = memory + STOCK_BYTES;
    }
    stock->fresh += CELL_BYTES;
    return stock->fresh - CELL_BYTES;
}

static void give_cell(struct gci_stock *stock, void *cell) {
    *(void **)cell = stock->free;
    stock->free = cell;
}

struct gci_watches *gci_watches_of(struct gc_heap *heap) {
    if (heap->watches != NULL) return heap->watches;
    size_t own = gci_whole_pages(sizeof(struct gci_watches));
    struct gci_watches *w = gci_vm_map(own + FIRST_BUCKETS * sizeof *w->buckets);
    if (w == NULL) return NULL;
    w->buckets = (struct gci_watched **)(void *)((uint8_t *)w + own);
    w->shift = 64 - (unsigned)__builtin_ctz(FIRST_BUCKETS);
    __atomic_store_n(&heap->watches, w, __ATOMIC_RELEASE);
    return w;
}

/* ---- Records -------------------------------------------------------------------------------- */

static size_t bucket_count(const struct gci_watches *w) {
    return (size_t)1 << (64 - w->shift);
}

/* Neighbours have neighbouring buckets, 64 granules at a time: objects that were made one after the
 * other are mostly watched so, too, and a cache line of buckets serves several of them. */
static struct gci_watched **bucket_of(const struct gci_watches *w, uintptr_t key) {
    uint64_t granule = key / GC_GRANULE;
    uint64_t far = granule / 64 * UINT64_C(0x9e3779b97f4a7c15) >> w->shift;
    return &w->buckets[far ^ granule % 64];
}

static void enter(struct gci_watches *w, struct gci_watched *record) {
    struct gci_watched **bucket = bucket_of(w, record->key);
    record->chain = *bucket;
    *bucket = record;
}

static void take_out(struct gci_watches *w, struct gci_watched *record) {
    struct gci_watched **link = bucket_of(w, record->key);
    while (*link != record) link = &(*link)->chain;
    *link = record->chain;
}

/* Four times as many buckets when there are twice as many records as that.  Without memory for them
 * the chains become longer. */
static void widen(struct gci_watches *w) {
    size_t count = bucket_count(w);
    if (w->count < 2 * count) return;
    struct gci_watched **old = w->buckets, **fresh = gci_vm_map(4 * count * sizeof *fresh);
    if (fresh == NULL) return;
    w->buckets = fresh;
    w->shift -= 2;
    for (size_t i = 0; i < count; i++) {
        for (struct gci_watched *record = old[i], *next; record != NULL; record = next) {
            next = record->chain;
            enter(w, record);
        }
    }
    if (count > FIRST_BUCKETS) gci_vm_unmap(old, count * sizeof *old);
}

/* Closes the gaps from FROM on. */
static void close_gaps(struct gci_watches *w, size_t from) {
    size_t kept = from, settled = w->settled;
    for (size_t i = from; i < w->all_count; i++) {
        struct gci_watched *record = w->all[i];
        if (i + 2 * AHEAD < w->all_count) __builtin_prefetch(w->all[i + 2 * AHEAD], 1);
        if (i == w->settled) settled = kept;
        if (record == NULL) continue;
        record->place = kept;
        w->all[kept++] = record;
    }
    w->settled = w->settled == w->all_count ? kept : settled;
    w->all_empty -= w->all_count - kept;
    w->all_count = kept;
}

/* Room for one more; there always is where one has been taken out.  False without memory. */
static bool has_room(struct gci_watches *w) {
    if (w->all_count < w->all_capacity) return true;
    if (w->all_empty > w->all_count / 2) close_gaps(w, 0);
    struct gci_watched **all =
        gci_vm_with_room(w->all, w->all_count, &w->all_capacity, sizeof *w->all);
    if (all != NULL)
        w->all = all;
    else if (w->all_empty > 0)
        close_gaps(w, 0);
    return w->all_count < w->all_capacity;
}

static void put_last(struct gci_watches *w, struct gci_watched *record) {
    record->place = w->all_count;
    w->all[w->all_count++] = record;
}

static void take_away(struct gci_watches *w, const struct gci_watched *record) {
    w->all[record->place] = NULL;
    w->all_empty++;
}

struct gci_watched *gci_watched_find(const struct gci_watches *w, uintptr_t key) {
    struct gci_watched *record = *bucket_of(w, key);
    while (record != NULL && record->key != key) record = record->chain;
    return record;
}

void gci_watched_fetch(const struct gci_watches *w, uintptr_t key) {
    __builtin_prefetch(bucket_of(w, key));
}

struct gci_watched *gci_watched_make(
    struct gc_heap *heap, uintptr_t key, const gci_object *object) {
    struct gci_watched *record = gci_watched_find(heap->watches, key);
    return record != NULL ? record : gci_watched_add(heap, key, object);
}

struct gci_watched *gci_watched_add(struct gc_heap *heap, uintptr_t key, const gci_object *object) {
    struct gci_watches *w = heap->watches;
    struct gci_watched *record = has_room(w) ? take_cell(&w->records) : NULL;
    if (record == NULL) return NULL;
    *record = (struct gci_watched){.key = key, .old = true, .outside = object == NULL};
    if (object != NULL) {
        uint8_t *side = &heap->arena.side[object->granule];
        record->old = __atomic_fetch_or(side, GCI_SIDE_KEYED, __ATOMIC_RELAXED) & GCI_SIDE_MARK;
    }
    w->count++;
    widen(w);
    enter(w, record);
    put_last(w, record);
    return record;
}

static void drop(struct gci_watches *w, struct gci_watched *record) {
    take_out(w, record);
    take_away(w, record);
    give_cell(&w->records, record);
    w->count--;
}

void gci_watched_drop_if_empty(struct gci_watches *w, struct gci_watched *record) {
    if (record->watches == NULL && record->links == NULL) drop(w, record);
}

/* ---- Watches -------------------------------------------------------------------------------- */

struct gci_watch *gci_watch_new(struct gci_watches *w, enum gci_watch_kind kind) {
    struct gci_watch *watch = take_cell(&w->watches);
    if (watch == NULL) return NULL;
    *watch =
        (struct gci_watch){.kind = (uint8_t)kind, .listed = watch->listed, .recent = watch->recent};
    w->counts[kind]++;
    return watch;
}

void gci_watch_give(struct gci_watches *w, struct gci_watch *watch) {
    w->counts[watch->kind]--;
    watch->kind = GCI_WATCH_FREE;
    give_cell(&w->watches, watch);
}

static struct gci_watch **next_ready(struct gci_watch *watch) {
    return watch->kind == GCI_WATCH_GUARDED ? &watch->guarded.next_ready
                                            : &watch->finalizer.next_ready;
}

void gci_watch_join(struct gci_watched *of, struct gci_watch *watch) {
    __atomic_store_n(&watch->object, of->key, __ATOMIC_RELAXED);
    watch->prev = NULL;
    watch->next = of->watches;
    if (of->watches != NULL) of->watches->prev = watch;
    of->watches = watch;
}

static void unchain(struct gci_watches *w, struct gci_watch *watch) {
    if (watch->next != NULL) watch->next->prev = watch->prev;
    if (watch->prev != NULL)
        watch->prev->next = watch->next;
    else
        gci_watched_find(w, watch->object)->watches = watch->next;
    watch->next = watch->prev = NULL;
}

void gci_watch_leave(struct gci_watches *w, struct gci_watch *watch) {
    unchain(w, watch);
    __atomic_store_n(&watch->object, 0, __ATOMIC_RELAXED);
}

void gci_watch_change(struct gci_watches *w, struct gci_watched *to, struct gci_watch *watch) {
    struct gci_watched *from = gci_watched_find(w, watch->object);
    unchain(w, watch);
    gci_watch_join(to, watch);
    gci_watched_drop_if_empty(w, from);
}

/* One past the end is in the heap. */
static bool may_refer(const struct gc_heap *heap, uintptr_t word) {
    uintptr_t used = gci_arena_used_bytes(&heap->arena), address;
    if (word - heap->arena.base <= used) return true;
    return heap->words.on && gci_word_decode(&heap->words, word, &address) &&
           address - heap->arena.base < used;
}

bool gci_watches_note_data(struct gc_heap *heap, struct gci_watch *finalizer) {
    struct gci_watches *w = heap->watches;
    if (finalizer->recent || !may_refer(heap, (uintptr_t)finalizer->finalizer.data)) return true;
    struct gci_watch **recent =
        gci_vm_with_room(w->recent, w->recent_count, &w->recent_capacity, sizeof *recent);
    if (recent == NULL) return false;
    w->recent = recent;
    /* Room for all of the recent ones, so that the next collection needs none. */
    struct gci_watch **with_data = gci_vm_with_room(w->with_data,
        w->with_data_count + w->recent_count, &w->with_data_capacity, sizeof *with_data);
    if (with_data == NULL) return false;
    w->with_data = with_data;
    w->recent[w->recent_count++] = finalizer;
    finalizer->recent = true;
    return true;
}

void gci_ready_push(struct gci_ready *queue, struct gci_watch *watch) {
    *next_ready(watch) = NULL;
    if (queue->last != NULL)
        *next_ready(queue->last) = watch;
    else
        queue->first = watch;
    queue->last = watch;
}

struct gci_watch *gci_ready_pop(struct gci_ready *queue) {
    struct gci_watch *watch = queue->first;
    if (watch == NULL) return NULL;
    queue->first = *next_ready(watch);
    if (queue->first == NULL)
        queue->last = NULL;
    else
        __builtin_prefetch(*next_ready(queue->first));
    return watch;
}

void gci_watch_make_ready(struct gci_watches *w, struct gci_watch *watch) {
    watch->ready = true;
    if (watch->kind == GCI_WATCH_FINALIZER) {
        gci_count_waiting(w, 1);
        gci_ready_push(&w->ready, watch);
    } else {
        gci_ready_push(&watch->guarded.guardian->ready, watch);
    }
}

/* ---- Guardians ------------------------------------------------------------------------------ */

gc_guardian *gci_guardian_new(struct gci_watches *w, enum gc_order order) {
    gc_guardian *guardian = take_cell(&w->records);
    if (guardian == NULL) return NULL;
    *guardian = (gc_guardian){.order = (uint8_t)order, .next = w->guardians};
    w->guardians = guardian;
    return guardian;
}

void gci_guardian_free(struct gci_watches *w, gc_guardian *guardian) {
    gc_guardian **link = &w->guardians;
    while (*link != guardian) link = &(*link)->next;
    *link = guardian->next;
    guardian->freed = true;
}

void gci_guardian_let_go(struct gci_watches *w, gc_guardian *guardian) {
    if (--guardian->count == 0 && guardian->freed) give_cell(&w->records, guardian);
}

/* ---- Objects that are freed, resized, moved ------------------------------------------------- */

/* What the program had of a watch whose object ends. */
static void end_watch(struct gc_heap *heap, struct gci_watch *watch) {
    struct gci_watches *w = heap->watches;
    if (watch->kind == GCI_WATCH_LINK) {
        gci_link_store(heap, gci_link_slot(heap, watch), 0);
        struct gci_watched *holder = watch->link.holder;
        bool other = holder->key != watch->object;
        gci_link_end(w, watch);
        if (other) gci_watched_drop_if_empty(w, holder);
        return;
    }
    gci_watch_leave(w, watch);
    if (watch->ready && watch->kind == GCI_WATCH_FINALIZER) gci_count_waiting(w, -1);
    if (watch->ready || watch->kind == GCI_WATCH_WEAK) return; /* is in a queue, or the program's */
    if (watch->kind == GCI_WATCH_GUARDED) gci_guardian_let_go(w, watch->guarded.guardian);
    gci_watch_give(w, watch);
}

/* The links with slots from OFFSET on. */
static void end_links(struct gci_watches *w, struct gci_watched *holder, size_t offset) {
    for (struct gci_watch *link = holder->links, *next; link != NULL; link = next) {
        next = link->link.next;
        if (link->link.offset < offset) continue;
        struct gci_watched *target = gci_watched_find(w, link->object);
        gci_link_end(w, link);
        if (target != holder) gci_watched_drop_if_empty(w, target);
    }
}

static struct gci_watched *record_at(const struct gc_heap *heap, size_t granule) {
    if (heap->watches == NULL) return NULL;
    return gci_watched_find(heap->watches, gci_granule_address(&heap->arena, granule));
}

void gci_watches_forget(struct gc_heap *heap, size_t granule) {
    struct gci_watched *record = record_at(heap, granule);
    if (record == NULL) return;
    end_links(heap->watches, record, 0);
    while (record->watches != NULL) end_watch(heap, record->watches);
    drop(heap->watches, record);
}

void gci_watches_cut(struct gc_heap *heap, size_t granule, size_t bytes) {
    struct gci_watched *record = record_at(heap, granule);
    if (record == NULL) return;
    end_links(heap->watches, record, bytes);
    gci_watched_drop_if_empty(heap->watches, record);
}

/* The slot of LINK, whose object went from FROM to TO, if it said so. */
static void follow(struct gc_heap *heap, uintptr_t slot, uintptr_t from, uintptr_t to) {
    uintptr_t word = __atomic_load_n((const uintptr_t *)slot, __ATOMIC_RELAXED);
    if (word == from)
        gci_link_store(heap, slot, to);
    else if (word == ~from)
        gci_link_store(heap, slot, ~to);
}

/* The record's object is at KEY now, in the words of its watches and links. */
static void change_key(struct gc_heap *heap, struct gci_watched *record, uintptr_t key) {
    uintptr_t before = record->key;
    record->key = key;
    for (struct gci_watch *watch = record->watches; watch != NULL; watch = watch->next) {
        if (watch->object != 0) __atomic_store_n(&watch->object, key, __ATOMIC_RELAXED);
        if (watch->kind == GCI_WATCH_LINK) follow(heap, gci_link_slot(heap, watch), before, key);
    }
}

void gci_watches_moved(struct gc_heap *heap, size_t from, size_t to, size_t bytes) {
    struct gci_watches *w = heap->watches;
    struct gci_watched *record = record_at(heap, from);
    if (record == NULL) return;
    end_links(w, record, bytes);
    if (record->watches == NULL && record->links == NULL) {
        drop(w, record);
        return;
    }
    take_out(w, record);
    take_away(w, record);
    has_room(w);
    change_key(heap, record, gci_granule_address(&heap->arena, to));
    record->old =
        __atomic_fetch_or(&heap->arena.side[to], GCI_SIDE_KEYED, __ATOMIC_RELAXED) & GCI_SIDE_MARK;
    enter(w, record);
    put_last(w, record);
    for (struct gci_watch *watch = record->watches; watch != NULL; watch = watch->next)
        if (watch->ready) w->ready_young = true;
}

/* ---- In a collection ------------------------------------------------------------------------ */

/* The slots of what died may be anybody's by now: their links end, while all can still be found. */
static void end_dead_links(struct gc_heap *heap, size_t from) {
    struct gci_watches *w = heap->watches;
    for (size_t i = from; i < w->all_count; i++) {
        struct gci_watched *record = w->all[i];
        if (record == NULL || record->links == NULL || record->outside ||
            gci_watched_lives(heap, record))
            continue;
        while (record->links != NULL) gci_link_end(w, record->links);
    }
}

static void settle(struct gc_heap *heap, struct gci_watched *record) {
    struct gci_watches *w = heap->watches;
    struct gci_arena *arena = &heap->arena;
    bool empty = record->watches == NULL && record->links == NULL;
    if (!empty && record->outside) return;
    if (empty || !gci_watched_lives(heap, record)) {
        drop(w, record);
        return;
    }
    uintptr_t key = gci_present(heap, record->key);
    if (key != record->key) {
        take_out(w, record);
        change_key(heap, record, key);
        arena->side[gci_address_granule(arena, key)] |= GCI_SIDE_KEYED;
        enter(w, record);
    }
    record->old = true;
}

/* What settle() is about to look at: the record first, and when that has come, its object. */
static void fetch(const struct gc_heap *heap, size_t i) {
    const struct gci_watches *w = heap->watches;
    if (i + 2 * AHEAD < w->all_count) __builtin_prefetch(w->all[i + 2 * AHEAD], 1);
    const struct gci_watched *soon = i + AHEAD < w->all_count ? w->all[i + AHEAD] : NULL;
    if (soon == NULL) return;
    __builtin_prefetch(heap->arena.side + ((soon->key - heap->arena.base) >> GCI_GRANULE_SHIFT));
    if (soon->watches == NULL) __builtin_prefetch(bucket_of(w, soon->key));
}

/* The recent ones join the others; in a full collection those that ended go. */
static void settle_data(struct gci_watches *w, bool full) {
    size_t kept = full ? 0 : w->with_data_count;
    for (size_t i = kept; i < w->with_data_count; i++) {
        struct gci_watch *watch = w->with_data[i];
        watch->listed = watch->kind == GCI_WATCH_FINALIZER;
        if (watch->listed) w->with_data[kept++] = watch;
    }
    w->with_data_count = kept;
    for (size_t i = 0; i < w->recent_count; i++) {
        struct gci_watch *watch = w->recent[i];
        watch->recent = false;
        if (watch->listed || watch->kind != GCI_WATCH_FINALIZER) continue;
        watch->listed = true;
        w->with_data[w->with_data_count++] = watch;
    }
    w->recent_count = 0;
}

void gci_watches_update(struct gc_heap *heap, bool full) {
    struct gci_watches *w = heap->watches;
    if (w == NULL) return;
    size_t from = full ? 0 : w->settled;
    if (w->counts[GCI_WATCH_LINK] > 0) end_dead_links(heap, from);
    for (size_t i = from; i < w->all_count; i++) {
        fetch(heap, i);
        if (w->all[i] != NULL) settle(heap, w->all[i]);
    }
    close_gaps(w, from);
    w->settled = w->all_count;
    settle_data(w, full);
    w->ready_young = false;
}

/* ---- Roots ---------------------------------------------------------------------------------- */

static void visit_data(
    struct gci_watch *const *list, size_t count, gci_root_visitor *visit, void *context) {
    for (size_t i = 0; i < count; i++) {
        const uintptr_t *data = (const uintptr_t *)(const void *)&list[i]->finalizer.data;
        if (list[i]->kind == GCI_WATCH_FINALIZER)
            visit(context, GCI_ROOT_FINALIZER, data, data + 1);
    }
}

void gci_watches_visit_data(struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    const struct gci_watches *w = heap->watches;
    if (w == NULL) return;
    visit_data(w->recent, w->recent_count, visit, context);
    if (!w->minor) visit_data(w->with_data, w->with_data_count, visit, context);
}

static void visit_queue(const struct gci_ready *queue, gci_root_visitor *visit, void *context) {
    for (struct gci_watch *watch = queue->first; watch != NULL; watch = *next_ready(watch))
        if (watch->object != 0) visit(context, GCI_ROOT_READY, &watch->object, &watch->object + 1);
}

void gci_watches_visit_ready(struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    const struct gci_watches *w = heap->watches;
    if (w == NULL || (w->minor && !w->ready_young)) return;
    visit_queue(&w->ready, visit, context);
    for (const gc_guardian *g = w->guardians; g != NULL; g = g->next)
        visit_queue(&g->ready, visit, context);
}

/* ---- Checking ------------------------------------------------------------------------------- */

static bool is_whole(const struct gci_watches *w, const struct gci_watched *record) {
    const struct gci_watch *before = NULL;
    for (const struct gci_watch *watch = record->watches; watch != NULL; watch = watch->next) {
        if (watch->object != record->key || watch->prev != before) return false;
        if (watch->kind == GCI_WATCH_FREE) return false;
        if (watch->kind == GCI_WATCH_LINK &&
            gci_watched_find(w, watch->link.holder->key) != watch->link.holder)
            return false;
        before = watch;
    }
    return true;
}

static bool is_in_place(const struct gc_heap *heap, const struct gci_watched *record, size_t i) {
    const struct gci_watches *w = heap->watches;
    bool old = record->old;
    if (record->place != i || (i < w->settled && !old)) return false;
    if (gci_watched_find(w, record->key) != record) return false;
    size_t offset = record->key - heap->arena.base;
    if (record->outside) return old && offset >= gci_arena_used_bytes(&heap->arena);
    if (offset >= gci_arena_used_bytes(&heap->arena)) return false;
    uint8_t side = heap->arena.side[offset >> GCI_GRANULE_SHIFT];
    const uint8_t wanted = GCI_SIDE_START | GCI_SIDE_KEYED;
    return (side & wanted) == wanted && !(side & GCI_SIDE_MARK) == !old &&
           (old || record->watches != NULL || record->links != NULL);
}

size_t gci_check_watches(const struct gc_heap *heap) {
    const struct gci_watches *w = heap->watches;
    size_t listed = 0, indexed = 0, broken = 0;
    if (w == NULL) return 0;
    for (size_t i = 0; i < w->all_count; i++) {
        const struct gci_watched *record = w->all[i];
        if (record == NULL) continue;
        listed++;
        if (is_in_place(heap, record, i) && is_whole(w, record) &&
            gci_check_links(w, record, &indexed))
            continue;
        gci_log("watches: the record for %p, %s, is broken or out of place", (void *)record->key,
            record->old ? "old" : "young");
        broken++;
    }
    if (listed != w->count || listed + w->all_empty != w->all_count) {
        gci_log("watches: %zu records of %zu in the array, %zu empty, but %zu in the table", listed,
            w->all_count, w->all_empty, w->count);
        broken++;
    }
    if (broken == 0 && indexed != w->index.count) {
        gci_log("watches: %zu links in the index, but %zu of holders that have theirs in it",
            w->index.count, indexed);
        broken++;
    }
    return broken;
}
