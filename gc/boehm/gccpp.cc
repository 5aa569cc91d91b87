// The library libgccpp: global operators new and delete whose objects are roots of the heap, and
// the exception of gc_cpp.h (docs/boehm.md, "C++").
#define GC_INCLUDE_NEW
#include "cairn/boehm/gc.h"

#include <new>

#define EXPORT __attribute__((__visibility__("default")))

EXPORT void GC_throw_bad_alloc();
EXPORT void GC_throw_bad_alloc() {
    throw std::bad_alloc();
}

static void *take(std::size_t size) {
    void *object = GC_malloc_uncollectable(size);
    if (object == 0) GC_throw_bad_alloc();
    return object;
}

EXPORT void *operator new(std::size_t size) {
    return take(size);
}
EXPORT void *operator new[](std::size_t size) {
    return take(size);
}
EXPORT void operator delete(void *object) noexcept {
    GC_free(object);
}
EXPORT void operator delete[](void *object) noexcept {
    GC_free(object);
}
EXPORT void operator delete(void *object, std::size_t) noexcept {
    GC_free(object);
}
EXPORT void operator delete[](void *object, std::size_t) noexcept {
    GC_free(object);
}
