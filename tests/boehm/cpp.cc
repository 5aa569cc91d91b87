/* The C++ half of test_cpp.c: gc_cpp.h's classes and operators, gc_allocator.h's allocators. */
#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS

#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "gc_cpp.h"

#include "gc_allocator.h"

#include "cpp.h"

extern "C" {
[[noreturn]] void child_fail(const char *file, int line, const char *format, ...);
void far_below(void (*f)(void *), void *p);
void collect_all(void);
void wipe_stack(void);
struct watched;
watched *new_watched(void);
void watch(watched *w, void *object);
std::size_t alive(const watched *w);
extern void *held[];
}

#define REQUIRE(condition)                                                                         \
    ((condition) ? (void)0 : child_fail(__FILE__, __LINE__, "not so: %s", #condition))

namespace {

const std::size_t many = 1000;

struct node : public gc {
    node *next;
    long number;
    explicit node(long n, node *p = nullptr) : next(p), number(n) {}
};

void make_nodes(void *p) {
    for (std::size_t i = 0; i < many; i++) watch(static_cast<watched *>(p), new node(1));
}

long destroyed;

struct resource : public gc_cleanup {
    long magic = 4711;
    ~resource() {
        REQUIRE(magic == 4711);
        destroyed++;
    }
};

struct derived : public resource {
    char more[100];
};

void make_resources(void *) {
    for (std::size_t i = 0; i < many; i++) {
        if (i % 2 == 0) new resource;
        else new derived;
    }
}

void clean(void *object, void *data) {
    REQUIRE(*static_cast<long *>(object) == 12 && data == reinterpret_cast<void *>(3));
    destroyed++;
}

void make_cleaned(void *) {
    for (std::size_t i = 0; i < many; i++)
        new (GC, clean, reinterpret_cast<void *>(3)) long(12);
}

typedef std::vector<node *, gc_allocator<node *>> gc_vector;
typedef std::list<node *, traceable_allocator<node *>> traceable_list;

void fill_vector(void *p) {
    gc_vector *v = new (GC) gc_vector;
    held[0] = v;
    for (std::size_t i = 0; i < many; i++) {
        v->push_back(new node(static_cast<long>(i)));
        watch(static_cast<watched *>(p), v->back());
    }
}

void fill_list(void *p) {
    traceable_list *l = new traceable_list; /* from operator new: libgccpp's, or malloc's */
    held[0] = l;
    for (std::size_t i = 0; i < many; i++) {
        l->push_back(new node(static_cast<long>(i)));
        watch(static_cast<watched *>(p), l->back());
    }
}

void fill_atomic(void *p) {
    typedef std::vector<std::uintptr_t, gc_allocator<unsigned long>> atomic_vector;
    atomic_vector *v = new (GC) atomic_vector;
    held[0] = v;
    for (std::size_t i = 0; i < many; i++) {
        node *n = new node(1);
        watch(static_cast<watched *>(p), n);
        v->push_back(reinterpret_cast<std::uintptr_t>(n));
    }
}

struct outside {
    node *pointer;
};

void make_outside(void *p) {
    for (std::size_t i = 0; i < many; i++) {
        outside *o = new outside;
        o->pointer = new node(1);
        watch(static_cast<watched *>(p), o->pointer);
        held[i] = reinterpret_cast<void *>(~reinterpret_cast<std::uintptr_t>(o));
    }
}

} // namespace

void cpp_objects_are_collected(void) {
    GC_INIT();
    watched *w = new_watched();
    far_below(make_nodes, w);
    collect_all();
    REQUIRE(alive(w) <= many / 10);
}

void cpp_objects_hold(void) {
    GC_INIT();
    node *list = nullptr;
    for (long i = 0; i < 100000; i++) list = new node(i, list);
    held[0] = list;
    collect_all();
    long i = 100000;
    for (; list != nullptr; list = list->next) REQUIRE(list->number == --i);
    REQUIRE(i == 0);
    node *array = new node[1]{node(5)};
    REQUIRE(GC_base(array) == array && array->number == 5);
    delete[] array;
    delete new node(1);
}

void cpp_placements(void) {
    GC_INIT();
    watched *w = new_watched();
    for (std::size_t i = 0; i < many; i++) {
        long *p = new (NoGC) long(7);
        watch(w, p);
        REQUIRE(GC_base(p) == p);
        long *q = new (PointerFreeGC) long[4];
        REQUIRE(GC_base(q) == q);
        long *r = new (GC) long[4];
        REQUIRE(GC_base(r) == r && r[0] == 0);
    }
    collect_all();
    REQUIRE(alive(w) == many);
    char room[sizeof(node)];
    node *n = new (static_cast<void *>(room)) node(3);
    REQUIRE(static_cast<void *>(n) == room);
}

void cpp_destructors_run(void) {
    GC_INIT();
    far_below(make_resources, nullptr);
    for (int i = 0; i < 3; i++) {
        collect_all();
        GC_invoke_finalizers();
    }
    REQUIRE(destroyed >= static_cast<long>(many - many / 10));
    REQUIRE(destroyed <= static_cast<long>(many));
    destroyed = 0;
    delete new derived; /* once only */
    for (int i = 0; i < 3; i++) {
        collect_all();
        GC_invoke_finalizers();
    }
    REQUIRE(destroyed <= 1 + static_cast<long>(many / 10));
}

void cpp_cleanup_functions_run(void) {
    GC_INIT();
    far_below(make_cleaned, nullptr);
    for (int i = 0; i < 3; i++) {
        collect_all();
        GC_invoke_finalizers();
    }
    REQUIRE(destroyed >= static_cast<long>(many - many / 10));
}

void cpp_containers_hold(void) {
    GC_INIT();
    watched *w = new_watched();
    far_below(fill_vector, w);
    collect_all();
    REQUIRE(alive(w) == many);
    const gc_vector &v = *static_cast<gc_vector *>(held[0]);
    for (std::size_t i = 0; i < many; i++) REQUIRE(v[i]->number == static_cast<long>(i));
    held[0] = nullptr;
    collect_all();
    REQUIRE(alive(w) <= many / 10);
    typedef std::basic_string<char, std::char_traits<char>, gc_allocator<char>> gc_string;
    gc_string s("some words that are longer than fifteen characters");
    collect_all();
    REQUIRE(s.substr(5, 5) == gc_string("words") && GC_base(&s[0]) != nullptr);
    std::map<int, node *, std::less<int>, gc_allocator<std::pair<const int, node *>>> m;
    for (int i = 0; i < 1000; i++) m[i] = new node(i);
    collect_all();
    for (int i = 0; i < 1000; i++) REQUIRE(m[i]->number == i);
    std::vector<node *, gc_allocator_ignore_off_page<node *>> far(100000);
    far[99999] = new node(1);
    collect_all();
    REQUIRE(far[99999]->number == 1);
}

void cpp_traceable_containers_hold(void) {
    GC_INIT();
    watched *w = new_watched();
    far_below(fill_list, w);
    collect_all();
    REQUIRE(alive(w) == many);
    delete static_cast<traceable_list *>(held[0]);
    held[0] = nullptr;
    collect_all();
    REQUIRE(alive(w) <= many / 10);
}

void cpp_atomic_containers_do_not(void) {
    GC_INIT();
    watched *w = new_watched();
    far_below(fill_atomic, w);
    collect_all();
    REQUIRE(alive(w) <= many / 10);
}

/* With libgccpp, plain operator new allocates what is traced and isn't collected. */
void cpp_operator_new_is_traced(void) {
    GC_INIT();
    watched *w = new_watched();
    far_below(make_outside, w);
    REQUIRE(GC_base(new outside) != nullptr);
    collect_all();
    REQUIRE(alive(w) == many);
    for (std::size_t i = 0; i < many; i++)
        delete reinterpret_cast<outside *>(~reinterpret_cast<std::uintptr_t>(held[i]));
    collect_all();
    REQUIRE(alive(w) <= many / 10);
}

void cpp_failure_throws(void) {
    GC_INIT();
    GC_set_warn_proc(GC_ignore_warn_proc);
    bool thrown = false;
    volatile std::size_t most = std::size_t(1) << 60;
    try {
        held[0] = new (GC) char[most];
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    REQUIRE(thrown);
    thrown = false;
    try {
        gc_allocator<char> a;
        held[0] = a.allocate(most);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    REQUIRE(thrown);
}
