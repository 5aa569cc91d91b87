/* Code with stack maps.  Owns the registered ranges, sorted by address, which change with the lock
 * held, and each thread's list of known frames, from the top of its stack on: written with the
 * world stopped by the thread that collects, or by its own thread where that stands between two
 * functions of the program's (KEEPS_FRAMES).  Invariant: a frame is on the list only if each step
 * down to it was certain; what is beyond the first uncertain one counts as ambiguous. */
#define GC_NO_INLINE
#include "gc/code.h"

#include <errno.h>
#include <string.h>

#include "cairn/embed.h"
#include "gc/api.h"
#include "gc/frames.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "runtime/log.h"
#include "runtime/unwind.h"
#include "runtime/vm.h"

#define WORD sizeof(uintptr_t)

_Static_assert(GC_SAVED_REGISTERS == GCI_SAVED_REGISTERS, "the same registers, in the same order");

/* At the start of memory of its own, followed by copies of the maps and their slots. */
struct gc_code {
    uintptr_t start, end;
    size_t count;
    uint32_t flags;
    size_t room; /* bytes */
    gc_stack_map maps[];
};

struct gci_known_frame {
    uintptr_t low, high; /* from the stack pointer to beyond the return address */
    const gc_stack_map *map;
};

/* ---- Looking up ----------------------------------------------------------------------------- */

/* How many ranges begin at or below ADDRESS. */
static size_t count_below(const struct gc_heap *heap, uintptr_t address) {
    size_t low = 0, high = heap->code_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (heap->code[middle]->start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The code that a call belongs to which returns to PC: its last byte is just before. */
static const struct gc_code *find_code(const struct gc_heap *heap, uintptr_t pc) {
    size_t below = count_below(heap, pc - 1);
    return below > 0 && pc <= heap->code[below - 1]->end ? heap->code[below - 1] : NULL;
}

static const gc_stack_map *find_map(const struct gc_code *code, uintptr_t pc) {
    size_t low = 0, high = code->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code->maps[middle].return_offset < pc - code->start)
            low = middle + 1;
        else
            high = middle;
    }
    return low < code->count && code->maps[low].return_offset == pc - code->start ? &code->maps[low]
                                                                                  : NULL;
}

/* ---- Finding frames ------------------------------------------------------------------------- */

static bool add_frame(struct gci_thread *thread, struct gci_known_frame frame) {
    struct gci_known_frame *known =
        gci_vm_with_room(thread->known, thread->known_count, &thread->known_capacity, sizeof frame);
    if (known == NULL) return false;
    thread->known = known;
    known[thread->known_count++] = frame;
    return true;
}

static uintptr_t word_at(uintptr_t address) {
    return *(const volatile uintptr_t *)address;
}

/* From a frame that MAP describes to its caller's. */
static enum gci_step step_by_map(struct gci_thread *thread, struct gci_registers *registers,
    uintptr_t high, const gc_stack_map *map) {
    uintptr_t low = registers->sp, room = high - low;
    if (low % WORD != 0 || room < WORD || map->frame_bytes > room - WORD) return GCI_STEP_UNKNOWN;
    uintptr_t back = low + map->frame_bytes;
    if (!add_frame(thread, (struct gci_known_frame){low, back + WORD, map}))
        return GCI_STEP_UNKNOWN;
    for (unsigned i = 0; i < GC_SAVED_REGISTERS; i++) {
        if (map->saved[i] == 0) continue;
        registers->saved[i] = word_at(back - map->saved[i]);
        registers->known |= 1u << i;
    }
    registers->pc = word_at(back);
    registers->sp = back + WORD;
    return GCI_STEP_CALLER;
}

/* From a frame without a map, in code that keeps the frame pointer. */
static enum gci_step step_by_pointer(struct gci_registers *registers, uintptr_t high) {
    uintptr_t frame = registers->saved[GC_RBP];
    if (!(registers->known >> GC_RBP & 1) || frame % WORD != 0 || frame < registers->sp ||
        frame > high - 2 * WORD)
        return GCI_STEP_UNKNOWN;
    registers->saved[GC_RBP] = word_at(frame);
    registers->known = 1u << GC_RBP;
    registers->pc = word_at(frame + WORD);
    registers->sp = frame + 2 * WORD;
    return GCI_STEP_CALLER;
}

static enum gci_step step(const struct gc_heap *heap, struct gci_thread *thread,
    struct gci_registers *registers, uintptr_t high, bool *gap) {
    const struct gc_code *code = find_code(heap, registers->pc);
    if (code == NULL) return gci_unwind(registers, high);
    const gc_stack_map *map = find_map(code, registers->pc);
    if (map != NULL) return step_by_map(thread, registers, high, map);
    *gap = true;
    return code->flags & GC_CODE_FRAME_POINTER ? step_by_pointer(registers, high)
                                               : GCI_STEP_UNKNOWN;
}

/* What isn't found is searched as ambiguous words; where these don't count it would be lost. */
static __attribute__((no_sanitize("address"), no_sanitize("thread"))) void find_frames(
    struct gci_thread *thread, const struct gci_frame *frame) {
    struct gc_heap *heap = thread->heap;
    struct gci_registers registers;
    uintptr_t high = gci_stack_end(&heap->world, &thread->mutator, (uintptr_t)frame), pc;
    enum gci_step last;
    bool gap = false;
    thread->known_count = 0;
    if (high == 0) return;
    gci_registers_at_entry(&registers, frame);
    do {
        pc = registers.pc;
        last = step(heap, thread, &registers, high, &gap);
        if (gci_stacks_are_precise(heap) && (gap || last == GCI_STEP_UNKNOWN))
            gci_fatal("a frame on the stack of thread %d, which returns to %p, %s; with precise "
                      "stack_scan references above it would be lost",
                (int)thread->mutator.tid, (void *)pc,
                gap ? "is of registered code and has no stack map" : "can't be followed");
    } while (last == GCI_STEP_CALLER);
}

void gci_code_find_frames(struct gc_heap *heap) {
    for (struct gci_mutator *m = heap->world.first; m != NULL; m = m->next) {
        struct gci_thread *thread = (struct gci_thread *)(void *)m;
        if (thread->keeps_frames) continue;
        thread->known_count = 0;
        bool at_entry = !m->vanished && !m->leaves && !m->interruption.valid &&
                        __atomic_load_n(&m->blocking, __ATOMIC_RELAXED) == 0;
        if (at_entry && heap->code_count > 0)
            find_frames(thread, (const struct gci_frame *)m->scan_from);
    }
}

/* ---- Keeping what was found ----------------------------------------------------------------- */

void gci_code_keep_frames(struct gci_thread *thread, const struct gci_frame *frame) {
    if (__atomic_load_n(&thread->heap->code_count, __ATOMIC_RELAXED) == 0) return;
    gci_heap_lock(thread->heap);
    find_frames(thread, frame);
    thread->keeps_frames = true;
    gci_heap_unlock(thread->heap);
}

void gci_code_drop_frames(struct gci_thread *thread) {
    thread->keeps_frames = false;
}

void gci_entry_keep_frames(struct gci_thread *thread, size_t b, size_t c, struct gci_frame *frame);
GCI_ENTRY(gci_code_keep_frames_here, gci_entry_keep_frames);
__asm__(".hidden gci_code_keep_frames_here");

void gci_entry_keep_frames(struct gci_thread *thread, size_t b, size_t c, struct gci_frame *frame) {
    (void)b, (void)c;
    if (thread == NULL) return;
    uintptr_t before = thread->mutator.scan_from; /* it may park while it waits for the lock */
    thread->mutator.scan_from = (uintptr_t)frame;
    gci_code_keep_frames(thread, frame);
    thread->mutator.scan_from = before;
}

/* ---- Visiting ------------------------------------------------------------------------------- */

struct filter {
    const struct gci_thread *thread;
    gci_root_visitor *visit;
    void *context;
};

/* The registers that a known frame has saved are its caller's, and may be anything. */
static void visit_saved(const struct filter *filter, const struct gci_known_frame *frame) {
    for (unsigned i = 0; i < GC_SAVED_REGISTERS; i++) {
        if (frame->map->saved[i] == 0) continue;
        const uintptr_t *word = (const uintptr_t *)(frame->high - WORD - frame->map->saved[i]);
        filter->visit(filter->context, GCI_ROOT_STACK, word, word + 1);
    }
}

/* A range of the stack, but for what known frames cover. */
static void visit_unknown(
    void *context, enum gci_root_kind kind, const uintptr_t *start, const uintptr_t *end) {
    const struct filter *filter = context;
    uintptr_t at = (uintptr_t)start, stop = (uintptr_t)end;
    for (size_t i = 0; i < filter->thread->known_count; i++) {
        const struct gci_known_frame *frame = &filter->thread->known[i];
        if (frame->low < at || frame->high > stop) continue;
        if (at < frame->low)
            filter->visit(
                filter->context, kind, (const uintptr_t *)at, (const uintptr_t *)frame->low);
        visit_saved(filter, frame);
        at = frame->high;
    }
    if (at < stop)
        filter->visit(filter->context, kind, (const uintptr_t *)at, (const uintptr_t *)stop);
}

void gci_code_visit_thread(
    struct gc_heap *heap, const struct gci_thread *thread, gci_root_visitor *visit, void *context) {
    struct filter filter = {thread, visit, context};
    if (thread->known_count == 0)
        gci_mutator_visit(&heap->world, &thread->mutator, visit, context);
    else
        gci_mutator_visit(&heap->world, &thread->mutator, visit_unknown, &filter);
}

void gci_code_visit_slots(const struct gc_heap *heap, gci_root_visitor *visit, void *context) {
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next) {
        const struct gci_thread *thread = (const struct gci_thread *)(const void *)m;
        for (size_t i = 0; i < thread->known_count; i++) {
            const struct gci_known_frame *frame = &thread->known[i];
            for (size_t s = 0; s < frame->map->slot_count; s++) {
                const uintptr_t *slot = (const uintptr_t *)(frame->low + frame->map->slots[s]);
                visit(context, GCI_ROOT_CODE, slot, slot + 1);
            }
        }
    }
}

/* ---- Registering ---------------------------------------------------------------------------- */

static bool refuse(const void *start, size_t map, const char *what) {
    gci_log("gc_code_register(%p): map %zu: %s", start, map, what);
    return false;
}

static bool is_saved_at(const gc_stack_map *map, uint32_t offset) {
    for (unsigned i = 0; i < GC_SAVED_REGISTERS; i++)
        if (map->saved[i] != 0 && map->frame_bytes - map->saved[i] == offset) return true;
    return false;
}

static bool check_map(const void *start, size_t bytes, const gc_stack_map *maps, size_t i) {
    const gc_stack_map *map = &maps[i];
    if (map->return_offset == 0 || map->return_offset > bytes ||
        (i > 0 && map->return_offset <= maps[i - 1].return_offset))
        return refuse(start, i, "expected return offsets that ascend and lie in the code");
    if (map->frame_bytes % WORD != 0 || map->frame_bytes > GC_FRAME_BYTES_MAX)
        return refuse(start, i, "expected a frame of up to 1 MiB, a multiple of 8 bytes");
    for (unsigned r = 0; r < GC_SAVED_REGISTERS; r++)
        if (map->saved[r] % WORD != 0 || map->saved[r] > map->frame_bytes)
            return refuse(start, i, "expected saved registers in the frame, at multiples of 8");
    for (size_t s = 0; s < map->slot_count; s++) {
        uint32_t slot = map->slots[s];
        if (slot % WORD != 0 || slot >= map->frame_bytes || (s > 0 && slot <= map->slots[s - 1]))
            return refuse(start, i, "expected slots that ascend, in the frame, at multiples of 8");
        if (is_saved_at(map, slot))
            return refuse(start, i, "a slot is where a register of the caller's is saved");
    }
    return true;
}

static int check(const struct gc_heap *heap, const void *start, size_t bytes,
    const gc_stack_map *maps, size_t count, uint32_t flags) {
    if (start == NULL || bytes == 0 || bytes > UINT32_MAX || (uintptr_t)start + bytes < bytes ||
        (maps == NULL && count > 0) || (flags & ~(uint32_t)GC_CODE_FRAME_POINTER) != 0) {
        gci_log("gc_code_register(%p): expected a range below 4 GiB, maps, and flags that exist",
            start);
        return EINVAL;
    }
    for (size_t i = 0; i < count; i++)
        if (!check_map(start, bytes, maps, i)) return EINVAL;
    return gci_stacks_are_precise(heap) && !gci_can_unwind() ? ENOTSUP : 0;
}

static struct gc_code *copy(
    const void *start, size_t bytes, const gc_stack_map *maps, size_t count, uint32_t flags) {
    size_t slots = 0;
    for (size_t i = 0; i < count; i++) slots += maps[i].slot_count;
    size_t room = sizeof(struct gc_code) + count * sizeof *maps + slots * sizeof(uint32_t);
    room = gci_whole_pages(room);
    struct gc_code *code = gci_vm_map(room);
    if (code == NULL) return NULL;
    *code = (struct gc_code){(uintptr_t)start, (uintptr_t)start + bytes, count, flags, room};
    uint32_t *to = (uint32_t *)(void *)(code->maps + count);
    for (size_t i = 0; i < count; i++) {
        code->maps[i] = maps[i];
        code->maps[i].slots = to;
        for (size_t s = 0; s < maps[i].slot_count; s++) *to++ = maps[i].slots[s];
    }
    return code;
}

static int enter_code(struct gc_heap *heap, struct gc_code *code) {
    size_t at = count_below(heap, code->start);
    if ((at > 0 && heap->code[at - 1]->end > code->start) ||
        (at < heap->code_count && heap->code[at]->start < code->end)) {
        gci_log("gc_code_register(%p): overlaps other registered code", (void *)code->start);
        return EINVAL;
    }
    struct gc_code **ranges =
        gci_vm_with_room(heap->code, heap->code_count, &heap->code_capacity, sizeof *ranges);
    if (ranges == NULL) return ENOMEM;
    heap->code = ranges;
    memmove(ranges + at + 1, ranges + at, (heap->code_count - at) * sizeof *ranges);
    ranges[at] = code;
    __atomic_store_n(&heap->code_count, heap->code_count + 1, __ATOMIC_RELAXED);
    return 0;
}

/* Does a thread that is blocking have a frame of CODE? */
static bool is_kept(const struct gc_heap *heap, const struct gc_code *code) {
    for (const struct gci_mutator *m = heap->world.first; m != NULL; m = m->next) {
        const struct gci_thread *thread = (const struct gci_thread *)(const void *)m;
        for (size_t i = 0; thread->keeps_frames && i < thread->known_count; i++) {
            const gc_stack_map *map = thread->known[i].map;
            if (map >= code->maps && map < code->maps + code->count) return true;
        }
    }
    return false;
}

static int leave_code(struct gc_heap *heap, struct gc_code *code) {
    size_t at = 0;
    while (at < heap->code_count && heap->code[at] != code) at++;
    if (at == heap->code_count) return EINVAL;
    if (is_kept(heap, code)) return EBUSY;
    __atomic_store_n(&heap->code_count, heap->code_count - 1, __ATOMIC_RELAXED);
    memmove(heap->code + at, heap->code + at + 1, (heap->code_count - at) * sizeof *heap->code);
    gci_vm_unmap(code, code->room);
    return 0;
}

/* ---- Public functions ----------------------------------------------------------------------- */

struct registration {
    const void *start;
    size_t bytes;
    const gc_stack_map *maps;
    size_t count;
    uint32_t flags;
};

gc_code *gci_entry_code_register(
    const struct registration *r, size_t b, size_t c, const struct gci_frame *frame);
int gci_entry_code_unregister(gc_code *code, size_t b, size_t c, const struct gci_frame *frame);
gc_code *gci_code_register(const struct registration *r, size_t b, size_t c);

GCI_ENTRY(gci_code_register, gci_entry_code_register);
__asm__(".hidden gci_code_register");
GCI_ENTRY(gc_code_unregister, gci_entry_code_unregister);

/* An entry function passes three arguments on. */
gc_code *gc_code_register(
    const void *start, size_t bytes, const gc_stack_map *maps, size_t count, uint32_t flags) {
    struct registration r = {start, bytes, maps, count, flags};
    gc_code *code = gci_code_register(&r, 0, 0);
    __asm__ volatile("" : : "r"(&r) : "memory"); /* R is there until then */
    return code;
}

gc_code *gci_entry_code_register(
    const struct registration *r, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    struct gc_heap *heap = gci_default_heap();
    int error = check(heap, r->start, r->bytes, r->maps, r->count, r->flags);
    struct gc_code *code = NULL;
    if (error == 0) {
        code = copy(r->start, r->bytes, r->maps, r->count, r->flags);
        gci_heap_lock(heap);
        error = code == NULL ? ENOMEM : enter_code(heap, code);
        gci_heap_unlock(heap);
    }
    if (error != 0 && code != NULL) gci_vm_unmap(code, code->room);
    gci_api_leave_if_attached(thread, 0);
    if (error == 0) return code;
    errno = error;
    return NULL;
}

int gci_entry_code_unregister(gc_code *code, size_t b, size_t c, const struct gci_frame *frame) {
    (void)b, (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    gci_heap_lock(gci_default_heap());
    int error = leave_code(gci_default_heap(), code);
    gci_heap_unlock(gci_default_heap());
    return gci_api_leave_if_attached(thread, error);
}
