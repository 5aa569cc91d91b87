/* Boehm's interface for C++: objects of classes that derive from gc are allocated on the heap, of
 * those that derive from gc_cleanup are destroyed when they are found dead; and
 *
 *     new (UseGC) T, new (PointerFreeGC) T, new (NoGC) T
 *
 * for others.  The program is linked with libgccpp as well, whose global operator new gives
 * uncollectable objects, which hold what they refer to. */
#ifndef GC_CPP_H
#define GC_CPP_H

#include "gc.h"

#include <new>

#ifdef GC_NAMESPACE
#define GC_NS_QUALIFY(T) boehmgc::T
#else
#define GC_NS_QUALIFY(T) T
#endif
#define GC_cdecl GC_CALLBACK
#ifndef GC_NO_OPERATOR_NEW_ARRAY
#define GC_OPERATOR_NEW_ARRAY
#endif
#define GC_PLACEMENT_DELETE

#if defined(GC_NEW_ABORTS_ON_OOM) || defined(_LIBCPP_NO_EXCEPTIONS)
#define GC_OP_NEW_OOM_CHECK(object)                                                                \
    do {                                                                                           \
        if (!(object)) GC_abort_on_oom();                                                          \
    } while (0)
#elif defined(GC_INCLUDE_NEW)
#define GC_OP_NEW_OOM_CHECK(object)                                                                \
    do {                                                                                           \
        if (!(object)) throw std::bad_alloc();                                                     \
    } while (0)
#else
GC_API void GC_CALL GC_throw_bad_alloc();
#define GC_OP_NEW_OOM_CHECK(object)                                                                \
    do {                                                                                           \
        if (!(object)) GC_throw_bad_alloc();                                                       \
    } while (0)
#endif

#ifdef GC_NAMESPACE
namespace boehmgc {
#endif

enum GCPlacement {
    UseGC,
#ifndef GC_NAME_CONFLICT
    GC = UseGC,
#endif
    NoGC,
    PointerFreeGC
#ifdef GC_ATOMIC_UNCOLLECTABLE
    ,
    PointerFreeNoGC
#endif
};

class gc {
  public:
    inline void *operator new(size_t size);
    inline void *operator new(size_t size, GCPlacement placement);
    inline void *operator new(size_t size, void *p) GC_NOEXCEPT;
    inline void operator delete(void *object) GC_NOEXCEPT;
    inline void operator delete(void *object, GCPlacement) GC_NOEXCEPT;
    inline void operator delete(void *object, void *) GC_NOEXCEPT;
#ifdef GC_OPERATOR_NEW_ARRAY
    inline void *operator new[](size_t size);
    inline void *operator new[](size_t size, GCPlacement placement);
    inline void *operator new[](size_t size, void *p) GC_NOEXCEPT;
    inline void operator delete[](void *object) GC_NOEXCEPT;
    inline void operator delete[](void *object, GCPlacement) GC_NOEXCEPT;
    inline void operator delete[](void *object, void *) GC_NOEXCEPT;
#endif
};

class gc_cleanup : virtual public gc {
  public:
    inline gc_cleanup();
    inline virtual ~gc_cleanup();

  private:
    inline static void GC_cdecl cleanup(void *object, void *offset);
};

extern "C" {
typedef void(GC_CALLBACK *GCCleanUpFunc)(void *object, void *data);
}

#ifdef GC_NAMESPACE
}
#endif

inline void *operator new(size_t size, GC_NS_QUALIFY(GCPlacement) placement,
    GC_NS_QUALIFY(GCCleanUpFunc) cleanup = 0, void *data = 0);
inline void operator delete(
    void *object, GC_NS_QUALIFY(GCPlacement), GC_NS_QUALIFY(GCCleanUpFunc), void *) GC_NOEXCEPT;
#ifdef GC_OPERATOR_NEW_ARRAY
inline void *operator new[](size_t size, GC_NS_QUALIFY(GCPlacement) placement,
    GC_NS_QUALIFY(GCCleanUpFunc) cleanup = 0, void *data = 0);
#endif

#ifdef GC_NAMESPACE
namespace boehmgc {
#endif

/* What all of the operators below allocate with. */
inline void *gc_place(size_t size, GCPlacement placement) {
    void *object;
    switch (placement) {
    case UseGC:
        object = GC_MALLOC(size);
        break;
    case PointerFreeGC:
        object = GC_MALLOC_ATOMIC(size);
        break;
#ifdef GC_ATOMIC_UNCOLLECTABLE
    case PointerFreeNoGC:
        object = GC_MALLOC_ATOMIC_UNCOLLECTABLE(size);
        break;
#endif
    case NoGC:
    default:
        object = GC_MALLOC_UNCOLLECTABLE(size);
    }
    GC_OP_NEW_OOM_CHECK(object);
    return object;
}

inline void *gc::operator new(size_t size) {
    return gc_place(size, UseGC);
}
inline void *gc::operator new(size_t size, GCPlacement placement) {
    return gc_place(size, placement);
}
inline void *gc::operator new(size_t, void *p) GC_NOEXCEPT {
    return p;
}
inline void gc::operator delete(void *object) GC_NOEXCEPT {
    GC_FREE(object);
}
inline void gc::operator delete(void *object, GCPlacement) GC_NOEXCEPT {
    GC_FREE(object);
}
inline void gc::operator delete(void *, void *) GC_NOEXCEPT {}
#ifdef GC_OPERATOR_NEW_ARRAY
inline void *gc::operator new[](size_t size) {
    return gc_place(size, UseGC);
}
inline void *gc::operator new[](size_t size, GCPlacement placement) {
    return gc_place(size, placement);
}
inline void *gc::operator new[](size_t, void *p) GC_NOEXCEPT {
    return p;
}
inline void gc::operator delete[](void *object) GC_NOEXCEPT {
    GC_FREE(object);
}
inline void gc::operator delete[](void *object, GCPlacement) GC_NOEXCEPT {
    GC_FREE(object);
}
inline void gc::operator delete[](void *, void *) GC_NOEXCEPT {}
#endif

/* The object that the finalizer is registered for is the whole one that this is a part of. */
inline gc_cleanup::gc_cleanup() {
    char *self = reinterpret_cast<char *>(this);
    char *base = static_cast<char *>(GC_base(self));
    GC_finalization_proc old_function = 0;
    void *old_data = 0;
    if (base == 0) return;
    GC_register_finalizer_ignore_self(
        base, cleanup, reinterpret_cast<void *>(self - base), &old_function, &old_data);
    if (old_function != 0) /* another part's was first, or the program's */
        GC_register_finalizer_ignore_self(base, old_function, old_data, 0, 0);
}

inline gc_cleanup::~gc_cleanup() {
    void *base = GC_base(this);
    if (base != 0) GC_register_finalizer_ignore_self(base, 0, 0, 0, 0);
}

inline void GC_CALLBACK gc_cleanup::cleanup(void *object, void *offset) {
    char *self = static_cast<char *>(object) + reinterpret_cast<ptrdiff_t>(offset);
    reinterpret_cast<gc_cleanup *>(self)->~gc_cleanup();
}

#ifdef GC_NAMESPACE
}
#endif

inline void *operator new(size_t size, GC_NS_QUALIFY(GCPlacement) placement,
    GC_NS_QUALIFY(GCCleanUpFunc) cleanup, void *data) {
    void *object = GC_NS_QUALIFY(gc_place)(size, placement);
    if (cleanup != 0 && placement == GC_NS_QUALIFY(UseGC))
        GC_REGISTER_FINALIZER_IGNORE_SELF(object, cleanup, data, 0, 0);
    return object;
}
inline void operator delete(
    void *object, GC_NS_QUALIFY(GCPlacement), GC_NS_QUALIFY(GCCleanUpFunc), void *) GC_NOEXCEPT {
    GC_FREE(object);
}
#ifdef GC_OPERATOR_NEW_ARRAY
inline void *operator new[](size_t size, GC_NS_QUALIFY(GCPlacement) placement,
    GC_NS_QUALIFY(GCCleanUpFunc) cleanup, void *data) {
    return ::operator new(size, placement, cleanup, data);
}
#endif

#endif
