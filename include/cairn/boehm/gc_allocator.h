/* Boehm's interface for the C++ library's containers: gc_allocator<T>, whose memory is collected,
 * gc_allocator_ignore_off_page<T>, and traceable_allocator<T>, whose memory is searched and freed
 * by the container. */
#ifndef GC_ALLOCATOR_H
#define GC_ALLOCATOR_H

#include "gc.h"

#include <new>

#if defined(GC_NEW_ABORTS_ON_OOM) || defined(_LIBCPP_NO_EXCEPTIONS)
#define GC_ALLOCATOR_THROW_OR_ABORT() GC_abort_on_oom()
#else
#define GC_ALLOCATOR_THROW_OR_ABORT() throw std::bad_alloc()
#endif

/* GC_DECLARE_PTRFREE(T): T holds no pointers. */
struct GC_true_type {};
struct GC_false_type {};
template <class T> struct GC_type_traits { GC_false_type GC_is_ptr_free; };
#define GC_DECLARE_PTRFREE(T)                                                                      \
    template <> struct GC_type_traits<T> { GC_true_type GC_is_ptr_free; }
GC_DECLARE_PTRFREE(char);
GC_DECLARE_PTRFREE(signed char);
GC_DECLARE_PTRFREE(unsigned char);
GC_DECLARE_PTRFREE(signed short);
GC_DECLARE_PTRFREE(unsigned short);
GC_DECLARE_PTRFREE(signed int);
GC_DECLARE_PTRFREE(unsigned int);
GC_DECLARE_PTRFREE(signed long);
GC_DECLARE_PTRFREE(unsigned long);
GC_DECLARE_PTRFREE(float);
GC_DECLARE_PTRFREE(double);
GC_DECLARE_PTRFREE(long double);

inline void *GC_selective_check(void *object) {
    if (object == 0) GC_ALLOCATOR_THROW_OR_ABORT();
    return object;
}
template <class Free> inline void *GC_selective_alloc(size_t size, Free, bool ignore_off_page) {
    return GC_selective_check(ignore_off_page ? GC_MALLOC_IGNORE_OFF_PAGE(size) : GC_MALLOC(size));
}
template <>
inline void *GC_selective_alloc<GC_true_type>(size_t size, GC_true_type, bool ignore_off_page) {
    return GC_selective_check(
        ignore_off_page ? GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(size) : GC_MALLOC_ATOMIC(size));
}

/* How an allocator of each name gets memory. */
struct GC_collected {
    template <class T> static void *take(size_t size) {
        return GC_selective_alloc(size, GC_type_traits<T>().GC_is_ptr_free, false);
    }
};
struct GC_collected_near {
    template <class T> static void *take(size_t size) {
        return GC_selective_alloc(size, GC_type_traits<T>().GC_is_ptr_free, true);
    }
};
struct GC_traceable {
    template <class T> static void *take(size_t size) {
        return GC_selective_check(GC_MALLOC_UNCOLLECTABLE(size));
    }
};

/* Defines the class template NAME, with memory from SOURCE. */
#define GC_DEFINE_ALLOCATOR(name, source)                                                          \
    template <class T> class name {                                                                \
      public:                                                                                      \
        typedef size_t size_type;                                                                  \
        typedef ptrdiff_t difference_type;                                                         \
        typedef T *pointer;                                                                        \
        typedef const T *const_pointer;                                                            \
        typedef T &reference;                                                                      \
        typedef const T &const_reference;                                                          \
        typedef T value_type;                                                                      \
        template <class U> struct rebind { typedef name<U> other; };                               \
        name() GC_NOEXCEPT {}                                                                      \
        name(const name &) GC_NOEXCEPT {}                                                          \
        template <class U> GC_ATTR_EXPLICIT name(const name<U> &) GC_NOEXCEPT {}                   \
        ~name() GC_NOEXCEPT {}                                                                     \
        name &operator=(const name &) GC_NOEXCEPT { return *this; }                                \
        pointer address(reference r) const { return &r; }                                          \
        const_pointer address(const_reference r) const { return &r; }                              \
        T *allocate(size_type count, const void * = 0) {                                           \
            return static_cast<T *>(source::template take<T>(count * sizeof(T)));                  \
        }                                                                                          \
        void deallocate(pointer p, size_type) GC_NOEXCEPT { GC_FREE(p); }                          \
        size_type max_size() const GC_NOEXCEPT { return size_t(-1) / sizeof(T); }                  \
        void construct(pointer p, const T &value) { new (p) T(value); }                            \
        void destroy(pointer p) { p->~T(); }                                                       \
    };                                                                                             \
    template <> class name<void> {                                                                 \
      public:                                                                                      \
        typedef size_t size_type;                                                                  \
        typedef ptrdiff_t difference_type;                                                         \
        typedef void *pointer;                                                                     \
        typedef const void *const_pointer;                                                         \
        typedef void value_type;                                                                   \
        template <class U> struct rebind { typedef name<U> other; };                               \
    };                                                                                             \
    template <class T, class U>                                                                    \
    inline bool operator==(const name<T> &, const name<U> &) GC_NOEXCEPT {                         \
        return true;                                                                               \
    }                                                                                              \
    template <class T, class U>                                                                    \
    inline bool operator!=(const name<T> &, const name<U> &) GC_NOEXCEPT {                         \
        return false;                                                                              \
    }

GC_DEFINE_ALLOCATOR(gc_allocator, GC_collected)
GC_DEFINE_ALLOCATOR(gc_allocator_ignore_off_page, GC_collected_near)
GC_DEFINE_ALLOCATOR(traceable_allocator, GC_traceable)

#endif
