/* Root hooks.  Owns the list of them, in memory from the system; it changes with the lock held, so
 * never in a collection.  Invariant: a hook of a thread is on it only while the thread is attached.
 * The public functions are here, too; they are entered and left as those in gc/api.c are. */
#define GC_NO_INLINE
#include "gc/hooks.h"

#include <errno.h>
#include <string.h>

#include "gc/api.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "gc/type.h"
#include "runtime/log.h"
#include "runtime/vm.h"

struct gci_hook {
    gc_root_hook *function;
    void *data;
    struct gci_thread *thread; /* NULL: the heap's */
};

/* ---- Calling -------------------------------------------------------------------------------- */

/* What a hook is given: a visitor without a type. */
struct report {
    gc_visitor visitor; /* first */
    const struct gc_heap *heap;
    enum gc_root_pass pass;
    gci_root_visitor *visit;
    void *context;
};

static void report_as(gc_visitor *visitor, uintptr_t *slot, enum gci_root_kind kind) {
    const struct report *report = (const struct report *)(const void *)visitor;
    const struct gci_arena *arena = &report->heap->arena;
    uintptr_t address = (uintptr_t)slot;
    if (slot == NULL || address % sizeof *slot != 0)
        gci_fatal("a root hook reports the slot %p: expected the address of an aligned word",
            (void *)slot);
    if (address - arena->base < arena->reserved)
        gci_fatal("a root hook reports the slot %p, which lies in the heap: the fields of objects "
                  "are the business of their types",
            (void *)slot);
    if (report->pass == GC_ROOTS_PRECISE) report->visit(report->context, kind, slot, slot + 1);
}

static void report_slot(gc_visitor *visitor, uintptr_t *slot) {
    report_as(visitor, slot, GCI_ROOT_HOOK);
}

static void report_plain_slot(gc_visitor *visitor, uintptr_t *slot) {
    report_as(visitor, slot, GCI_ROOT_HOOK_PLAIN);
}

void gc_visit_ambiguous(gc_visitor *visitor, const void *from, const void *to) {
    const struct report *report = (const struct report *)(const void *)visitor;
    if (visitor->type != NULL)
        gci_fatal("the trace function of type %s calls gc_visit_ambiguous(), which is for root "
                  "hooks: GC_TYPE_AMBIGUOUS_HOLDER is for such types",
            visitor->type->desc.name);
    uintptr_t start = (uintptr_t)from, end = (uintptr_t)to, word = sizeof(uintptr_t);
    if (start > end || (start == 0 && end > 0))
        gci_fatal("a root hook reports the range [%p, %p), which is none", from, to);
    start = (start + word - 1) / word * word;
    end = end / word * word;
    if (report->pass == GC_ROOTS_AMBIGUOUS && start < end)
        report->visit(
            report->context, GCI_ROOT_HOOK_WORDS, (const uintptr_t *)start, (const uintptr_t *)end);
}

void gci_hooks_visit(
    struct gc_heap *heap, enum gc_root_pass pass, gci_root_visitor *visit, void *context) {
    heap->in_hook = true;
    for (size_t i = 0; i < heap->hook_count; i++) {
        const struct gci_hook *hook = &heap->hooks[i];
        if (hook->thread != NULL && hook->thread->mutator.vanished) continue;
        struct report report = {
            {.visit = report_slot, .visit_plain = report_plain_slot}, heap, pass, visit, context};
        hook->function(&report.visitor, pass, hook->data);
    }
    heap->in_hook = false;
}

/* ---- The list ------------------------------------------------------------------------------- */

static int add(struct gc_heap *heap, struct gci_hook hook) {
    if (hook.function == NULL) return EINVAL;
    gci_heap_lock(heap);
    struct gci_hook *hooks =
        gci_vm_with_room(heap->hooks, heap->hook_count, &heap->hook_capacity, sizeof *hooks);
    if (hooks != NULL) {
        heap->hooks = hooks;
        hooks[heap->hook_count++] = hook;
    }
    gci_heap_unlock(heap);
    return hooks != NULL ? 0 : ENOMEM;
}

static void take_out(struct gc_heap *heap, size_t i) {
    memmove(heap->hooks + i, heap->hooks + i + 1, (--heap->hook_count - i) * sizeof *heap->hooks);
}

/* The one that was added last, if there are several. */
static int remove_one(struct gc_heap *heap, struct gci_hook hook) {
    int error = ENOENT;
    gci_heap_lock(heap);
    for (size_t i = heap->hook_count; i-- > 0 && error != 0;) {
        const struct gci_hook *h = &heap->hooks[i];
        if (h->function != hook.function || h->data != hook.data || h->thread != hook.thread)
            continue;
        take_out(heap, i);
        error = 0;
    }
    gci_heap_unlock(heap);
    return error;
}

void gci_hooks_forget(struct gci_thread *thread) {
    struct gc_heap *heap = thread->heap;
    for (size_t i = heap->hook_count; i-- > 0;)
        if (heap->hooks[i].thread == thread) take_out(heap, i);
}

/* ---- Public functions ----------------------------------------------------------------------- */

int gci_entry_add_hook(gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame);
int gci_entry_remove_hook(gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame);
int gci_entry_add_global(gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame);
int gci_entry_remove_global(
    gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame);

GCI_ENTRY(gc_add_root_hook, gci_entry_add_hook);
GCI_ENTRY(gc_remove_root_hook, gci_entry_remove_hook);
GCI_ENTRY(gc_add_global_root_hook, gci_entry_add_global);
GCI_ENTRY(gc_remove_global_root_hook, gci_entry_remove_global);

int gci_entry_add_hook(gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return errno;
    return gci_api_leave(thread, add(thread->heap, (struct gci_hook){hook, data, thread}));
}

int gci_entry_remove_hook(gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter(frame);
    if (thread == NULL) return errno;
    return gci_api_leave(thread, remove_one(thread->heap, (struct gci_hook){hook, data, thread}));
}

int gci_entry_add_global(gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    return gci_api_leave_if_attached(
        thread, add(gci_default_heap(), (struct gci_hook){hook, data, NULL}));
}

int gci_entry_remove_global(
    gc_root_hook *hook, void *data, size_t c, const struct gci_frame *frame) {
    (void)c;
    struct gci_thread *thread = gci_api_enter_if_attached(frame);
    return gci_api_leave_if_attached(
        thread, remove_one(gci_default_heap(), (struct gci_hook){hook, data, NULL}));
}
