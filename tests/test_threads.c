/* Threads that come and go, share the heap, free one another's objects, and help to mark. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "support.h"
#include "threads_support.h"

/* ---- Attaching and detaching ---------------------------------------------------------------- */

/* A thread the heap doesn't know by itself. */
static void *run_plain(void *(*f)(void *), void *argument) {
    pthread_t thread;
    void *result;
    REQUIRE_EQUAL(pthread_create(&thread, NULL, f, argument), 0);
    REQUIRE_EQUAL(pthread_join(thread, &result), 0);
    return result;
}

static void *attach_and_detach(void *unused) {
    REQUIRE_EQUAL(gc_thread_detach(), ESRCH);
    for (unsigned i = 0; i < 3; i++) {
        errno = ERANGE;
        REQUIRE_EQUAL(gc_thread_attach(), 0);
        REQUIRE_EQUAL(gc_thread_attach(), EALREADY);
        memset(gc_alloc(100), 1, 100);
        REQUIRE_EQUAL(statistics().threads, 2);
        REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
        REQUIRE_EQUAL(gc_thread_detach(), 0);
        REQUIRE_EQUAL(gc_thread_detach(), ESRCH);
        REQUIRE_EQUAL(errno, ERANGE);
        REQUIRE_EQUAL(statistics().threads, 1);
    }
    return unused;
}

static void wrong_calls_are_answered(void) {
    REQUIRE_EQUAL(gc_thread_detach(), ESRCH);
    REQUIRE_EQUAL(gc_thread_attach(), 0); /* opens the heap */
    REQUIRE_EQUAL(gc_thread_attach(), EALREADY);
    run_plain(attach_and_detach, NULL);
    REQUIRE_EQUAL(gc_thread_detach(), 0);
    REQUIRE_EQUAL(gc_thread_detach(), ESRCH);
    REQUIRE_EQUAL(statistics().threads, 0);
    REQUIRE_EQUAL(gc_thread_attach(), 0);
    collect_times(2);
}

static void *attach_and_return(void *unused) {
    REQUIRE_EQUAL(gc_thread_attach(), 0);
    memset(gc_alloc(100), 1, 100);
    return unused;
}

static void *attach_and_exit(void *unused) {
    attach_and_return(unused);
    pthread_exit(unused);
}

static void *attach_and_wait(void *unused) {
    attach_and_return(unused);
    for (;;) pause();
    return unused;
}

static void threads_that_end_detach(void) {
    gc_alloc(16);
    for (unsigned i = 0; i < 20; i++) {
        run_plain(attach_and_return, NULL);
        REQUIRE_EQUAL(statistics().threads, 1);
        run_plain(attach_and_exit, NULL);
        REQUIRE_EQUAL(statistics().threads, 1);
        pthread_t thread;
        REQUIRE_EQUAL(pthread_create(&thread, NULL, attach_and_wait, NULL), 0);
        while (statistics().threads == 1) sched_yield();
        collect(GC_MINOR);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        REQUIRE_EQUAL(statistics().threads, 1);
        collect(GC_MINOR);
    }
    REQUIRE_EQUAL(statistics().thread_slots, 16);
}

/* Destructors of keys made before the heap was opened, and after. */
static pthread_key_t early, late;
static int destroyed;

static void allocate_much(void) {
    for (unsigned i = 0; i < 200; i++) memset(gc_alloc(16 + i * 50), 1, 16 + i * 50);
}

static void destroy(void *value) {
    const char *p = value;
    REQUIRE(all_bytes(p, 3, 40));
    allocate_much();
    gc_collect(GC_FULL);
    REQUIRE(all_bytes(p, 3, 40));
    destroyed++;
}

static void *leave_values(void *unused) {
    REQUIRE_EQUAL(gc_thread_attach(), 0);
    pthread_setspecific(early, memset(gc_alloc(40), 3, 40));
    pthread_setspecific(late, memset(gc_alloc(40), 3, 40));
    clear_stack();
    return unused;
}

static void destructors_may_allocate(void) {
    REQUIRE_EQUAL(pthread_key_create(&early, destroy), 0);
    gc_alloc(16);
    REQUIRE_EQUAL(pthread_key_create(&late, destroy), 0);
    for (int i = 0; i < 20; i++) {
        run_plain(leave_values, NULL);
        REQUIRE_EQUAL(destroyed, 2 * (i + 1));
        REQUIRE_EQUAL(statistics().threads, 1);
    }
}

/* One that comes back as long as it is let. */
static int rounds, answers[8];

static void come_back(void *value) {
    answers[rounds++] = gc_thread_attach();
    pthread_setspecific(late, value);
}

static void *leave_a_stubborn_value(void *unused) {
    REQUIRE_EQUAL(gc_thread_attach(), 0);
    pthread_setspecific(late, &late);
    return unused;
}

static void a_thread_that_is_ending_cannot_attach(void) {
    gc_alloc(16);
    REQUIRE_EQUAL(pthread_key_create(&late, come_back), 0);
    run_plain(leave_a_stubborn_value, NULL);
    REQUIRE(rounds > 2);
    for (int i = 0; i < rounds; i++) REQUIRE(answers[i] == EALREADY || answers[i] == EBUSY);
    REQUIRE_EQUAL(statistics().threads, 0 + 1);
    collect_times(2);
}

static void *do_nothing(void *unused) {
    return unused;
}

static void *allocate_a_little(void *unused) {
    memset(gc_alloc(64), 1, 64);
    memset(gc_alloc_leaf(64), 1, 64);
    memset(gc_alloc(2000), 1, 2000);
    return unused;
}

/* No memory but that of what they allocate, and the blocks of one serve the next. */
static void many_short_threads_leave_nothing(void) {
    enum { THREADS = 100000 };
    for (unsigned i = 0; i < 100; i++) end_thread(start_thread(allocate_a_little, NULL));
    size_t before = resident_bytes();
    uint64_t heap = statistics().heap_bytes;
    for (unsigned i = 0; i < THREADS; i++)
        end_thread(start_thread(i % 64 == 0 ? allocate_a_little : do_nothing, NULL));
    REQUIRE_EQUAL(statistics().threads, 1);
    REQUIRE_EQUAL(statistics().thread_slots, 16);
    size_t grown = resident_bytes() - before;
    if (resident_bytes() > before && grown > (size_t)12 << 20)
        child_fail(__FILE__, __LINE__, "resident memory grew by %zu KiB", grown >> 10);
    REQUIRE(statistics().heap_bytes - heap < (uint64_t)12 << 20);
    REQUIRE_EQUAL(gc_verify(), 0);
}

static void a_thread_leaves_its_blocks_to_the_next(void) {
    end_thread(start_thread(allocate_a_little, NULL));
    uint64_t heap = statistics().heap_bytes;
    for (unsigned i = 0; i < 30; i++) end_thread(start_thread(allocate_a_little, NULL));
    REQUIRE_EQUAL(statistics().heap_bytes, heap);
}

/* No more address space: threads that exist already can't all attach. */
static int attached, refused, shall_end;

static void *attach_if_possible(void *unused) {
    int error = gc_thread_attach();
    REQUIRE(error == 0 || error == ENOMEM);
    __atomic_fetch_add(error == 0 ? &attached : &refused, 1, __ATOMIC_ACQ_REL);
    while (!look_at(&shall_end)) usleep(1000);
    REQUIRE_EQUAL(gc_thread_detach(), error == 0 ? 0 : ESRCH);
    return unused;
}

static int may_attach;

static void *attach_when_told(void *unused) {
    while (!look_at(&may_attach)) usleep(1000);
    return attach_if_possible(unused);
}

static void attaching_without_memory_fails(void) {
    enum { THREADS = 40 };
    pthread_t threads[THREADS];
    pthread_attr_t small;
    struct rlimit limit;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 << 10);
    collect(GC_FULL); /* the list of loaded objects needs memory, too */
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE_EQUAL(pthread_create(&threads[i], &small, attach_when_told, NULL), 0);
    REQUIRE_EQUAL(getrlimit(RLIMIT_AS, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 1 << 20;
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
    raise_flag(&may_attach, 1);
    while (look_at(&attached) + look_at(&refused) < THREADS) usleep(1000);
    REQUIRE(look_at(&attached) <= 15 && look_at(&refused) > 0);
    REQUIRE_EQUAL(gc_collect(GC_FULL), 0);
    REQUIRE_EQUAL(statistics().threads, attached + 1);
    limit.rlim_cur = before;
    REQUIRE_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
    raise_flag(&shall_end, 1);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    REQUIRE_EQUAL(statistics().threads, 1);
}

/* ---- Sharing -------------------------------------------------------------------------------- */

/* Slots that all threads exchange objects through; whoever gets one out checks it and frees it, or
 * resizes it, or drops it. */
struct shared {
    uint64_t size, number;
    uint64_t rest[];
};

enum { SLOTS = 512, SHARERS = 4 };
static struct shared *slots[SLOTS];

static size_t any_size(uint64_t *state) {
    uint64_t r = next_random(state);
    switch (r % 8) {
    case 0:
        return 8193 + r / 8 % 100000;
    case 1:
    case 2:
        return 1025 + r / 8 % 7168;
    default:
        return sizeof(struct shared) + r / 8 % 1000;
    }
}

static void fill_shared(struct shared *p, size_t size, uint64_t number) {
    p->size = size;
    p->number = number;
    fill_object(p->rest, size - sizeof *p, number);
}

static void check_shared(const struct shared *p) {
    REQUIRE(gc_base(p) == p && gc_size(p) >= p->size);
    REQUIRE(check_object(p->rest, p->size - sizeof *p, p->number));
}

/* Frees it, or something like that. */
static void use_up(struct shared *p, uint64_t *state) {
    size_t size;
    check_shared(p);
    switch (next_random(state) % 4) {
    case 0:
    case 1:
        gc_free(p);
        break;
    case 2:
        size = any_size(state);
        size_t least = size < p->size ? size : p->size, whole = p->size;
        uint64_t number = p->number;
        p = gc_realloc(p, size);
        REQUIRE(p != NULL && p->size == whole && p->number == number);
        if (least == whole) check_shared(p);
        fill_shared(p, size, number);
        check_shared(p);
        __atomic_store_n(&slots[next_random(state) % SLOTS], p, __ATOMIC_RELEASE);
        break;
    default:
        break;
    }
}

static int sharer_steps = 6000;

static void *share(void *seed) {
    uint64_t state = (uintptr_t)seed * 7919 + 1;
    for (int i = 0; i < sharer_steps; i++) {
        size_t size = any_size(&state), at = next_random(&state) % SLOTS;
        struct shared *p = i % 3 == 0 ? gc_alloc_leaf(size) : gc_alloc(size);
        REQUIRE(p != NULL && all_bytes(p, 0, size));
        fill_shared(p, size, state >> 20);
        p = __atomic_exchange_n(&slots[at], p, __ATOMIC_ACQ_REL);
        if (p != NULL) use_up(p, &state);
        if (i % 512 == 0) gc_collect(next_random(&state) % 3 == 0 ? GC_FULL : GC_MINOR);
    }
    return NULL;
}

static void threads_free_and_resize_one_anothers_objects(void) {
    pthread_t threads[SHARERS];
    for (uintptr_t i = 0; i < SHARERS; i++) threads[i] = start_thread(share, (void *)i);
    share((void *)99);
    for (unsigned i = 0; i < SHARERS; i++) end_thread(threads[i]);
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i] != NULL) check_shared(slots[i]);
    REQUIRE_EQUAL(gc_verify(), 0);
    collect_times(2);
}

static void threads_share_quickly(void) {
    sharer_steps = 10000;
    threads_free_and_resize_one_anothers_objects();
}

/* The last reference to what is freed or resized is the argument, while others collect. */
static void *collect_all_the_time(void *unused) {
    while (!look_at(&shall_end)) {
        gc_collect(GC_FULL);
        gc_alloc(50000);
    }
    return unused;
}

static __attribute__((noinline)) void *resized(size_t from, size_t to) {
    return gc_realloc(gc_alloc(from), to);
}

static void *free_and_resize(void *seed) {
    uint64_t state = (uintptr_t)seed + 1;
    for (unsigned i = 0; i < 8000; i++) {
        gc_free(gc_alloc(any_size(&state)));
        size_t to = any_size(&state);
        char *p = resized(any_size(&state), to);
        REQUIRE_EQUAL(gc_size(p) >= to, 1);
        REQUIRE(gc_base(p) == p);
        memset(p, 5, to);
        gc_free(p);
    }
    return NULL;
}

static void what_is_being_freed_or_resized_is_not_collected(void) {
    pthread_t collector = start_thread(collect_all_the_time, NULL);
    pthread_t threads[2] = {
        start_thread(free_and_resize, NULL), start_thread(free_and_resize, &shall_end)};
    end_thread(threads[0]);
    end_thread(threads[1]);
    raise_flag(&shall_end, 1);
    end_thread(collector);
    REQUIRE_EQUAL(gc_verify(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(wrong_calls_are_answered),
        CHILD_TEST(threads_that_end_detach),
        CHILD_TEST(destructors_may_allocate),
        CHILD_TEST(a_thread_that_is_ending_cannot_attach),
        CHILD_TEST(many_short_threads_leave_nothing),
        CHILD_TEST(a_thread_leaves_its_blocks_to_the_next),
        CHILD_TEST(attaching_without_memory_fails),
        CHILD_TEST(
            threads_free_and_resize_one_anothers_objects, "CAIRN_VERIFY=1", "CAIRN_POISON=1"),
        CHILD_TEST(threads_free_and_resize_one_anothers_objects, "CAIRN_VERIFY=1", "CAIRN_POISON=1",
            "CAIRN_STOP=safepoint", "CAIRN_BARRIER=mprotect"),
        CHILD_TEST(threads_share_quickly, "CAIRN_NURSERY=1M"),
        CHILD_TEST(what_is_being_freed_or_resized_is_not_collected, "CAIRN_POISON=1"),
        CHILD_TEST(what_is_being_freed_or_resized_is_not_collected, "CAIRN_VERIFY=1"),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
