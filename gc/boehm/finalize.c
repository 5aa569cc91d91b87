/* Finalizers, disappearing links, toggle references. */
#include "gc/boehm/layer.h"

#define DEFINE_REGISTER(name)                                                                      \
    EXPORT void GC_##name(void *object, GC_finalization_proc function, void *data,                 \
        GC_finalization_proc *old_function, void **old_data) {                                     \
        (void)object, (void)function, (void)data;                                                  \
        if (old_function != NULL) *old_function = NULL;                                            \
        if (old_data != NULL) *old_data = NULL;                                                    \
    }                                                                                              \
    _Static_assert(1, "")
DEFINE_REGISTER(register_finalizer);
DEFINE_REGISTER(register_finalizer_ignore_self);
DEFINE_REGISTER(register_finalizer_no_order);
DEFINE_REGISTER(register_finalizer_unreachable);

EXPORT int GC_register_disappearing_link(void **link) { (void)link; return 0; }
EXPORT int GC_general_register_disappearing_link(void **link, const void *object) { (void)link, (void)object; return 0; }
EXPORT int GC_move_disappearing_link(void **link, void **new_link) { (void)link, (void)new_link; return 0; }
EXPORT int GC_unregister_disappearing_link(void **link) { (void)link; return 0; }
EXPORT int GC_invoke_finalizers(void) { return 0; }
