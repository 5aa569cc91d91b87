/* See support.h. */
#include "support.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *held[4 * MANY];

__attribute__((noinline)) void wipe_stack(void) {
    volatile char rubbish[32768];
    for (size_t i = 0; i < sizeof rubbish; i++) rubbish[i] = 0;
}

void collect_all(void) {
    for (int i = 0; i < 2; i++) {
        wipe_stack();
        GC_gcollect();
    }
}

__attribute__((noinline)) void far_below(void (*f)(void *), void *p) {
    volatile char room[8192];
    room[0] = 0;
    f(p);
    room[sizeof room - 1] = 0;
}

struct watched *new_watched(void) {
    struct watched *w = calloc(1, sizeof *w);
    REQUIRE(w != NULL);
    return w;
}

void watch(struct watched *w, void *object) {
    void *base = GC_base(object);
    REQUIRE(base != NULL);
    REQUIRE(w->count < sizeof w->links / sizeof *w->links);
    void **link = &w->links[w->count++];
    *link = (void *)GC_HIDE_POINTER(object);
    REQUIRE_EQUAL(GC_general_register_disappearing_link(link, base), GC_SUCCESS);
}

size_t alive(const struct watched *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->count; i++) n += w->links[i] != NULL;
    return n;
}

void *watched_object(const struct watched *w, size_t i) {
    REQUIRE(w->links[i] != NULL);
    return GC_REVEAL_POINTER(w->links[i]);
}

void *need_function(const char *name) {
    void *f = dlsym(RTLD_DEFAULT, name);
    if (f == NULL) child_skip("this library has no such function");
    return f;
}

struct order {
    allocator *allocate;
    size_t bytes;
    struct watched *watched;
};

static void allocate_parents(void *p) {
    const struct order *o = p;
    for (size_t i = 0; i < MANY; i++) {
        void **parent = o->allocate(o->bytes);
        REQUIRE(parent != NULL);
        *parent = GC_malloc(24);
        GC_end_stubborn_change(parent);
        watch(o->watched, *parent);
        held[i] = parent;
    }
}

size_t children_kept(allocator *allocate, size_t bytes) {
    struct watched *w = new_watched();
    struct order o = {allocate, bytes, w};
    far_below(allocate_parents, &o);
    collect_all();
    size_t n = alive(w);
    memset(held, 0, sizeof held);
    return n;
}

static void allocate_garbage(void *p) {
    const struct order *o = p;
    for (size_t i = 0; i < MANY; i++) watch(o->watched, o->allocate(o->bytes));
}

size_t garbage_kept(allocator *allocate, size_t bytes) {
    struct watched *w = new_watched();
    struct order o = {allocate, bytes, w};
    far_below(allocate_garbage, &o);
    collect_all();
    return alive(w);
}

const char *output_of(void (*f)(void)) {
    static char text[1 << 20];
    int file = memfd_create("output", 0), out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    REQUIRE(file >= 0 && out >= 0 && err >= 0);
    fflush(NULL);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    f();
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    close(file);
    return text;
}

struct element {
    struct element *next;
    long number;
};

void check_list(long length) {
    struct element *list = NULL;
    for (long i = 0; i < length; i++) {
        struct element *e = GC_malloc(sizeof *e);
        e->next = list;
        e->number = i;
        GC_end_stubborn_change(e);
        list = e;
    }
    for (struct element *e = list; e != NULL; e = e->next) REQUIRE_EQUAL(e->number, --length);
    REQUIRE_EQUAL(length, 0);
}
