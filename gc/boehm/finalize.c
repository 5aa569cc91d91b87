/* Finalizers and disappearing links by Cairn's own (cairn/finalize.h), and toggle references.  Owns
 * the table of toggle references (docs/boehm.md, "Finalizers"). */
#include "gc/boehm/layer.h"

#include <errno.h>
#include <string.h>

#include "cairn/finalize.h"
#include "gc/block.h"
#include "gc/heap.h"
#include "gc/watch.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/vm.h"

/* ---- Finalizers ----------------------------------------------------------------------------- */

/* What isn't in the heap is never found dead, which is no mistake. */
static void set_finalizer(void *object, GC_finalization_proc function, void *data,
    GC_finalization_proc *old_function, void **old_data, enum gc_order order) {
    gc_finalizer fresh = {function, data, (uint32_t)order}, old = {NULL, NULL, 0};
    gcb_need_heap();
    if (gc_base(object) == object) {
        int error = gc_finalizer_exchange(object, &fresh, &old);
        if (error == ENOMEM) gcb_or_oom(NULL, sizeof(struct gci_watch));
    } else if (function != NULL) {
        GCB_CANNOT("an object was given that doesn't start where it says, or isn't in the heap");
    }
    if (old_function != NULL) *old_function = old.function;
    if (old_data != NULL) *old_data = old.data;
}

/* Debugged objects: the program's finalizer is to see its own address of the object. */
struct closure {
    GC_finalization_proc function;
    void *data;
};

static void call_for_debugged(void *object, void *data) {
    const struct closure *closure = data;
    closure->function(GC_USR_PTR_FROM_BASE(object), closure->data);
}

static void set_debug_finalizer(void *object, GC_finalization_proc function, void *data,
    GC_finalization_proc *old_function, void **old_data, enum gc_order order) {
    void *base = gc_base(object), *was_data = NULL;
    GC_finalization_proc was = NULL;
    struct closure *closure = NULL;
    if (base == NULL || !gcb_is_debugged(base)) {
        set_finalizer(object, function, data, old_function, old_data, order);
        return;
    }
    if (function != NULL) {
        closure = GC_malloc(sizeof *closure);
        if (closure == NULL) return;
        *closure = (struct closure){function, data};
    }
    set_finalizer(
        base, function != NULL ? call_for_debugged : NULL, closure, &was, &was_data, order);
    if (was == call_for_debugged) {
        closure = was_data;
        was = closure->function;
        was_data = closure->data;
    }
    if (old_function != NULL) *old_function = was;
    if (old_data != NULL) *old_data = was_data;
}

/* Defines GC_NAME() and GC_debug_NAME(). */
#define REGISTER(name, order)                                                                      \
    EXPORT void GC_##name(void *object, GC_finalization_proc function, void *data,                 \
        GC_finalization_proc *old_function, void **old_data) {                                     \
        set_finalizer(object, function, data, old_function, old_data, order);                      \
    }                                                                                              \
    EXPORT void GC_debug_##name(void *object, GC_finalization_proc function, void *data,           \
        GC_finalization_proc *old_function, void **old_data) {                                     \
        set_debug_finalizer(object, function, data, old_function, old_data, order);                \
    }                                                                                              \
    _Static_assert(1, "")

REGISTER(register_finalizer, GC_ORDERED);
REGISTER(register_finalizer_ignore_self, GC_IGNORE_SELF);
REGISTER(register_finalizer_no_order, GC_UNORDERED);
REGISTER(register_finalizer_unreachable, GC_UNREACHABLE);

EXPORT int GC_should_invoke_finalizers(void) {
    return gc_finalizers_ready() > 0;
}

EXPORT int GC_invoke_finalizers(void) {
    size_t count = 0, some;
    gcb_functions_begin();
    while ((some = gc_run_finalizers()) > 0) count += some;
    gcb_functions_end(count > 0);
    return (int)count;
}

EXPORT void GC_finalize_all(void) {
    gcb_need_heap();
    gcb_functions_begin();
    gc_finalize_all();
    gcb_functions_end(true);
}

/* After a collection that made some ready, in the thread that collected. */
void gcb_finalizers_are_ready(void *data) {
    (void)data;
    gcb_tell_the_dead();
    if (gc_finalizers_ready() == 0) return;
    if (!__atomic_load_n(&GC_finalize_on_demand, __ATOMIC_RELAXED)) {
        GC_invoke_finalizers();
        return;
    }
    GC_finalizer_notifier_proc notifier = __atomic_load_n(&GC_finalizer_notifier, __ATOMIC_RELAXED);
    if (notifier != NULL) notifier();
}

static GCI_GLOBAL GC_await_finalize_proc await;

EXPORT void GC_set_await_finalize_proc(GC_await_finalize_proc function) {
    __atomic_store_n(&await, function, __ATOMIC_RELAXED);
}

EXPORT GC_await_finalize_proc GC_get_await_finalize_proc(void) {
    return __atomic_load_n(&await, __ATOMIC_RELAXED);
}

/* What is told of when threads run again, since the program's procedures may take any lock: objects
 * that became ready, and, with the lowest bit set, those that lead to themselves. */
static GCI_GLOBAL uintptr_t *news;
static GCI_GLOBAL size_t news_count, news_capacity;

static void note(uintptr_t what) {
    uintptr_t *room = gci_vm_with_room(news, news_count, &news_capacity, sizeof *news);
    if (room == NULL) return; /* nobody is told */
    news = room;
    news[news_count++] = what;
}

void gcb_becomes_ready(struct gc_heap *heap, uintptr_t object) {
    (void)heap;
    gcb_note_given_away();
    if (__atomic_load_n(&await, __ATOMIC_RELAXED) != NULL) note(object);
}

void gcb_is_in_cycle(struct gc_heap *heap, uintptr_t object) {
    (void)heap;
    note(object | 1);
}

/* With the lock held. */
void gcb_tell_news(void) {
    GC_await_finalize_proc function = __atomic_load_n(&await, __ATOMIC_RELAXED);
    for (size_t i = 0; i < news_count; i++)
        if (news[i] & 1)
            gcb_warn("Finalization cycle involving %p\n", news[i] & ~(uintptr_t)1);
        else if (function != NULL)
            function((void *)news[i]);
    news_count = 0;
}

EXPORT void GC_dump_finalization(void) {
    gc_stats stats = {.size = sizeof stats};
    gc_get_stats(&stats);
    gci_print("*** %lu finalizers, %lu ready, %lu run since the start; %lu links; %lu cycles\n",
        stats.finalizers, stats.finalizers_ready, stats.finalizers_run, stats.links,
        stats.finalizer_cycles);
}

/* ---- Disappearing links --------------------------------------------------------------------- */

static int register_link(void **link, const void *object, enum gc_weak_kind kind) {
    void *base = gc_base(object);
    gcb_need_heap();
    if (base == NULL) return GC_SUCCESS; /* it is never found dead */
    if ((uintptr_t)link % sizeof *link != 0) {
        gci_log("the disappearing link at %p isn't aligned", (void *)link);
        GC_get_abort_func()("Bad arg to GC_general_register_disappearing_link");
        __builtin_abort();
    }
    int error = gc_link_register(link, base, kind);
    if (error == EEXIST) { /* of the new object, from now on */
        gc_link_unregister(link, kind);
        error = gc_link_register(link, base, kind);
        if (error == 0) return GC_DUPLICATE;
    }
    if (error != ENOMEM) return GC_SUCCESS;
    gcb_or_oom(NULL, sizeof(struct gci_watch));
    return GC_NO_MEMORY;
}

static int move_link(void **link, void **new_link, enum gc_weak_kind kind) {
    switch (gc_link_move(link, new_link, kind)) {
    case 0:
        return GC_SUCCESS;
    case EEXIST:
        return GC_DUPLICATE;
    case ENOMEM:
        return GC_NO_MEMORY;
    default:
        return GC_NOT_FOUND;
    }
}

EXPORT int GC_register_disappearing_link(void **link) {
    void *base = gc_base(link);
    if (base == NULL) {
        gci_log("GC_register_disappearing_link(%p): not in an object", (void *)link);
        GC_get_abort_func()("Bad arg to GC_register_disappearing_link");
        __builtin_abort();
    }
    return register_link(link, base, GC_WEAK_SHORT);
}

EXPORT int GC_general_register_disappearing_link(void **link, const void *object) {
    return register_link(link, object, GC_WEAK_SHORT);
}

EXPORT int GC_unregister_disappearing_link(void **link) {
    return gci_default_heap() != NULL && gc_link_unregister(link, GC_WEAK_SHORT) == 0;
}

EXPORT int GC_move_disappearing_link(void **link, void **new_link) {
    return move_link(link, new_link, GC_WEAK_SHORT);
}

EXPORT int GC_register_long_link(void **link, const void *object) {
    return register_link(link, object, GC_WEAK_LONG);
}

EXPORT int GC_unregister_long_link(void **link) {
    return gci_default_heap() != NULL && gc_link_unregister(link, GC_WEAK_LONG) == 0;
}

EXPORT int GC_move_long_link(void **link, void **new_link) {
    return move_link(link, new_link, GC_WEAK_LONG);
}

/* ---- Toggle references ---------------------------------------------------------------------- */

/* One object; STRONG: its address is a root.  The table is in memory of the system's and changes
 * with the lock held. */
struct toggle {
    uintptr_t object;
    bool strong;
};

static GCI_GLOBAL struct toggle *toggles;
static GCI_GLOBAL size_t toggle_count, toggle_capacity;
static GCI_GLOBAL GC_toggleref_func toggle_function;

EXPORT void GC_set_toggleref_func(GC_toggleref_func function) {
    __atomic_store_n(&toggle_function, function, __ATOMIC_RELAXED);
}

EXPORT GC_toggleref_func GC_get_toggleref_func(void) {
    return __atomic_load_n(&toggle_function, __ATOMIC_RELAXED);
}

EXPORT int GC_toggleref_add(void *object, int strong) {
    if (GC_get_toggleref_func() == NULL) return GC_SUCCESS;
    if (gc_base(object) != object) {
        GCB_CANNOT("an object was given that doesn't start where it says, or isn't in the heap");
        return GC_SUCCESS;
    }
    gcb_lock();
    struct toggle *list = gci_vm_with_room(toggles, toggle_count, &toggle_capacity, sizeof *list);
    if (list != NULL) {
        toggles = list;
        list[toggle_count++] = (struct toggle){(uintptr_t)object, strong != 0};
    }
    gcb_unlock();
    return list != NULL ? GC_SUCCESS : GC_NO_MEMORY;
}

/* When a full collection begins, while threads still run: the program says what each is. */
void gcb_toggles_ask(void) {
    GC_toggleref_func function = GC_get_toggleref_func();
    size_t kept = 0;
    if (function == NULL) return;
    for (size_t i = 0; i < toggle_count; i++) {
        struct toggle toggle = toggles[i];
        GC_ToggleRefStatus status = function((void *)toggle.object);
        if (status == GC_TOGGLE_REF_DROP) continue;
        toggle.strong = status == GC_TOGGLE_REF_STRONG;
        toggles[kept++] = toggle;
    }
    toggle_count = kept;
}

void gcb_toggles_visit(gc_visitor *visitor) {
    for (size_t i = 0; i < toggle_count; i++)
        if (toggles[i].strong) gc_visit(visitor, (void **)(void *)&toggles[i].object);
}

/* When all that lives is marked. */
void gcb_toggles_settle(const struct gc_heap *heap) {
    size_t kept = 0;
    for (size_t i = 0; i < toggle_count; i++) {
        size_t granule = gci_address_granule(&heap->arena, toggles[i].object);
        if (heap->arena.side[granule] & GCI_SIDE_MARK) toggles[kept++] = toggles[i];
    }
    toggle_count = kept;
}
