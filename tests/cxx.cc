// Cairn from C++: the header compiles without a warning, inline allocation works, and objects with
// constructors, references and virtual functions live on the managed heap.  Run by cxx.sh.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>

#include "cairn/embed.h"
#include "cairn/finalize.h"

struct Node {
    Node *left;
    long number;
};
GC_TYPE(Node, left);

namespace {

[[gnu::noinline]] void throw_from_frame(Node *&outer) {
    Node *inner = gc_new(Node);
    GC_FRAME(inner);
    outer->left = inner;
    throw inner->number;
}

bool a_frame_ends_with_an_exception() {
    Node *outer = gc_new(Node);
    GC_FRAME(outer);
    gc_frame *top = gc_frame_top();
    bool caught = false;
    try {
        throw_from_frame(outer);
    } catch (long) {
        caught = true;
    }
    gc_collect(GC_MINOR);
    return caught && gc_frame_top() == top && outer->left->number == 0;
}

class Shape {
  public:
    virtual ~Shape() = default;
    virtual int area() const = 0;
    static void *operator new(std::size_t size) { return gc_alloc(size); }
    static void operator delete(void *p) { gc_free(p); }
};

class Square : public Shape {
  public:
    explicit Square(int side, Shape *next) : side_(side), next_(next) {}
    int area() const override { return side_ * side_ + (next_ != nullptr ? next_->area() : 0); }

  private:
    int side_;
    Shape *next_;
};

Shape *shapes;

bool a_chain_of_objects_survives() {
    for (int i = 1; i <= 100; i++) {
        shapes = new Square(i, shapes);
        for (int n = 0; n < 5000; n++) new Square(n, nullptr);
    }
    gc_collect(GC_FULL);
    return shapes->area() == 338350 && gc_base(shapes) == shapes && gc_verify() == 0;
}

bool all_calls_link() {
    gc_options options;
    gc_options_init(&options);
    gc_stats stats;
    stats.size = sizeof stats;
    char *copy = gc_strdup("text");
    void *p = gc_realloc(gc_alloc_leaf(10), 100);
    void *aligned = gc_alloc_aligned(64, 10);
    delete new Square(1, nullptr);
    return gc_get_stats(&stats) == 0 && std::strcmp(copy, "text") == 0 && gc_size(p) >= 100 &&
           reinterpret_cast<std::uintptr_t>(aligned) % 64 == 0;
}

} // namespace

int main() {
    std::printf(
        "%s %s\n", "a_chain_of_objects_survives", a_chain_of_objects_survives() ? "true" : "false");
    std::printf("%s %s\n", "a_frame_ends_with_an_exception",
        a_frame_ends_with_an_exception() ? "true" : "false");
    std::printf("%s %s\n", "all_calls_link", all_calls_link() ? "true" : "false");
}
