/* Listeners: what they are told of and in which order, which functions run with the world stopped,
 * and what a listener may not do. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cairn/embed.h"
#include "child.h"
#include "gc/thread.h"
#include "support.h"
#include "threads_support.h"
#include "typed_model.h"

/* ---- A model of what a listener hears ------------------------------------------------------- */

/* Checks each event against those before it.  Written under the heap's lock, but for ENDED. */
static struct heard {
    bool collecting;
    uint64_t number, ns; /* of the last one */
    uint32_t phase, thread, kind;
    const char *reason;
    uint64_t phases, of_phase[GC_PHASES], of_kind[3];
    uint64_t grown, returned;
    uint64_t ended, compacted, promoted_all, marked; /* atomic */
    int attached, detached, failed;                  /* atomic */
} heard;

static void check_collection(const gc_event *event) {
    REQUIRE(heard.collecting);
    REQUIRE(event->collection == heard.number && event->thread == heard.thread);
    REQUIRE(event->kind == heard.kind && event->reason == heard.reason);
    REQUIRE(event->ns >= heard.ns);
    heard.ns = event->ns;
}

static void hears_begin(const gc_event *event, void *data) {
    REQUIRE(data == &heard && !heard.collecting);
    REQUIRE_EQUAL(event->collection, heard.number + 1);
    REQUIRE(event->reason != NULL && event->kind <= GC_COMPACT);
    REQUIRE(event->ns >= heard.ns && event->thread == (uint32_t)gettid());
    REQUIRE(event->heap_bytes <= event->resident_bytes);
    heard.collecting = true;
    heard.number = event->collection;
    heard.ns = event->ns;
    heard.kind = event->kind;
    heard.reason = event->reason;
    heard.thread = event->thread;
    heard.of_kind[event->kind]++;
    heard.phase = GC_PHASES;
}

/* VERIFY comes twice, the first time after MARK. */
static void hears_phase(const gc_event *event, void *data) {
    static uint32_t last; /* but for that */
    REQUIRE(data == &heard && heard.phase == GC_PHASES);
    check_collection(event);
    REQUIRE(event->phase < GC_PHASES && strcmp(gc_phase_name(event->phase), "?") != 0);
    REQUIRE((event->phase == GC_PHASE_STOP) == (heard.of_phase[GC_PHASE_STOP] < heard.number));
    if (event->phase != GC_PHASE_VERIFY) {
        REQUIRE(event->phase == GC_PHASE_STOP || event->phase > last);
        last = event->phase;
    }
    REQUIRE(event->phase != GC_PHASE_MAKE_YOUNG || event->kind != GC_MINOR);
    REQUIRE(event->phase != GC_PHASE_REMEMBERED || event->kind == GC_MINOR);
    heard.of_phase[event->phase]++;
    heard.phases++;
    heard.phase = event->phase;
}

static void hears_phase_end(const gc_event *event, void *data) {
    REQUIRE(data == &heard);
    check_collection(event);
    REQUIRE_EQUAL(event->phase, heard.phase);
    heard.phase = GC_PHASES;
    if (event->phase == GC_PHASE_START) heard.collecting = false;
}

static void hears_growth(const gc_event *event, void *data) {
    REQUIRE(data == &heard && event->bytes > 0);
    REQUIRE_EQUAL(event->collection, heard.collecting ? heard.number : 0);
    heard.grown += event->bytes;
}

static void hears_return(const gc_event *event, void *data) {
    REQUIRE(data == &heard && event->bytes > 0);
    heard.returned += event->bytes;
}

/* Several threads' may come at once, and late. */
static void hears_end(const gc_event *event, void *data) {
    REQUIRE(data == &heard && event->thread == (uint32_t)gettid());
    REQUIRE(event->collection > 0 && event->pause_ns > 0 && event->reason != NULL);
    __atomic_add_fetch(&heard.ended, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&heard.compacted, event->compacted, __ATOMIC_RELAXED);
    __atomic_add_fetch(&heard.promoted_all, event->promoted_all, __ATOMIC_RELAXED);
    __atomic_add_fetch(&heard.marked, event->marked_bytes, __ATOMIC_RELAXED);
    free(malloc(100)); /* may be done here */
}

static void hears_failure(const gc_event *event, void *data) {
    REQUIRE(data == &heard && event->bytes > 0);
    __atomic_add_fetch(&heard.failed, 1, __ATOMIC_RELAXED);
}

static void hears_attached(const gc_event *event, void *data) {
    REQUIRE(data == &heard && event->thread == (uint32_t)gettid());
    __atomic_add_fetch(&heard.attached, 1, __ATOMIC_RELAXED);
}

static void hears_detached(const gc_event *event, void *data) {
    REQUIRE(data == &heard && event->thread == (uint32_t)gettid());
    __atomic_add_fetch(&heard.detached, 1, __ATOMIC_RELAXED);
}

static const gc_listener all_ears = {.size = sizeof(gc_listener),
    .data = &heard,
    .collection_begin = hears_begin,
    .phase_begin = hears_phase,
    .phase_end = hears_phase_end,
    .heap_grown = hears_growth,
    .heap_returned = hears_return,
    .collection_end = hears_end,
    .out_of_memory = hears_failure,
    .thread_attached = hears_attached,
    .thread_detached = hears_detached};

static void listen(void) {
    gc_stats before = statistics();
    heard = (struct heard){.number = before.all.count, .phase = GC_PHASES};
    heard.of_phase[GC_PHASE_STOP] = before.all.count;
    REQUIRE_EQUAL(gc_add_listener(&all_ears), 0);
}

/* What was heard is what the statistics say. */
static void check_heard(const gc_stats *before) {
    gc_stats after = statistics();
    uint64_t collections = after.all.count - before->all.count;
    REQUIRE_EQUAL(gc_remove_listener(&all_ears), 0);
    REQUIRE(!heard.collecting && heard.phase == GC_PHASES && collections > 0);
    REQUIRE_EQUAL(heard.number, after.all.count);
    REQUIRE_EQUAL(heard.ended, collections);
    REQUIRE_EQUAL(heard.of_kind[GC_MINOR], after.minor.count - before->minor.count);
    REQUIRE_EQUAL(
        heard.of_kind[GC_FULL] + heard.of_kind[GC_COMPACT], after.full.count - before->full.count);
    REQUIRE_EQUAL(heard.compacted, after.compactions - before->compactions);
    uint64_t searched = collections - heard.promoted_all;
    REQUIRE_EQUAL(
        heard.of_phase[GC_PHASE_REMEMBERED], heard.of_kind[GC_MINOR] - heard.promoted_all);
    REQUIRE_EQUAL(heard.of_phase[GC_PHASE_ROOTS], searched);
    REQUIRE_EQUAL(heard.of_phase[GC_PHASE_MARK], collections);
    REQUIRE_EQUAL(heard.of_phase[GC_PHASE_START], collections);
    REQUIRE_EQUAL(heard.grown, after.committed_bytes - before->committed_bytes);
    REQUIRE(heard.returned <= after.released_bytes); /* which counts parts of blocks besides */
}

static void the_random_program_is_heard(void) {
    struct typed_plan plan = typed_model_usual_plan(1);
    struct typed_result result;
    gc_stats before = statistics();
    plan.steps /= 4;
    plan.compacts = true;
    listen();
    typed_model_run(&plan, &result);
    collect(GC_MINOR);
    collect(GC_FULL);
    collect(GC_COMPACT);
    check_heard(&before);
    REQUIRE(heard.of_kind[GC_COMPACT] > 0 && heard.compacted > 0 && heard.marked > 0);
    REQUIRE_EQUAL(heard.of_phase[GC_PHASE_VERIFY] > 0, getenv("CAIRN_VERIFY") != NULL);
}

/* Where nothing dies, most minor collections search nothing. */
static void a_collection_that_promotes_everything_is_heard(void) {
    static void **volatile list;
    gc_stats before = statistics();
    listen();
    /* Some of the first may be full ones, which seem cheap to a program that was preempted. */
    for (unsigned i = 0; i < 100000 || (i < 2000000 && heard.promoted_all == 0); i++) {
        void **item = gc_alloc(64);
        *item = list;
        list = item;
    }
    check_heard(&before);
    REQUIRE(heard.promoted_all > 0 && heard.marked >= heard.promoted_all << 20);
}

static gc_event last_end;
static void *kept[1000];

static void keep_end(const gc_event *event, void *data) {
    (void)data;
    last_end = *event;
}

static void what_a_collections_end_says_is_what_statistics_say(void) {
    gc_listener listener = {.size = sizeof listener, .collection_end = keep_end};
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    for (unsigned kind = GC_MINOR; kind <= GC_COMPACT; kind++) {
        for (unsigned i = 0; i < 1000; i++) kept[i] = gc_alloc(1 + i * 7);
        uint64_t before_ns = statistics().all.total_ns;
        collect(kind);
        REQUIRE(kept[999] != NULL);
        gc_stats stats = statistics();
        REQUIRE_EQUAL(last_end.kind, kind);
        REQUIRE_EQUAL(last_end.collection, stats.all.count);
        REQUIRE_EQUAL(last_end.bytes_after, stats.live_bytes);
        REQUIRE_EQUAL(last_end.nursery_bytes, stats.nursery_bytes);
        REQUIRE_EQUAL(last_end.compacted, kind == GC_COMPACT);
        REQUIRE(last_end.bytes_before >= 1000);
        REQUIRE(last_end.pause_ns >= stats.all.total_ns - before_ns); /* the threads go on later */
        REQUIRE(last_end.marked_objects >= 1000);
        REQUIRE(strcmp(last_end.reason, "the program asked") == 0);
    }
    REQUIRE_EQUAL(gc_remove_listener(&listener), 0);
}

/* ---- Threads -------------------------------------------------------------------------------- */

enum { THREADS = 3 };

static void *allocates(void *argument) {
    static _Thread_local void *list;
    for (unsigned i = 0; i < 60000; i++) {
        void **p = gc_alloc(16 + i % 50 * 8);
        if (i % 8 == 0) *p = list, list = p;
        if (i % 4000 == 0) list = NULL;
        if (i % 20000 == 0) REQUIRE_EQUAL(gc_collect(i % 40000 == 0 ? GC_FULL : GC_MINOR), 0);
    }
    return argument;
}

static void collections_of_several_threads_are_heard_one_by_one(void) {
    gc_stats before = statistics();
    listen();
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) threads[i] = start_thread(allocates, NULL);
    allocates(NULL);
    for (unsigned i = 0; i < THREADS; i++) end_thread(threads[i]);
    /* A thread that is joined may be in its listener's function. */
    while (__atomic_load_n(&heard.detached, __ATOMIC_RELAXED) < THREADS) sleep_ms(1);
    check_heard(&before);
    REQUIRE_EQUAL(heard.attached, THREADS);
    REQUIRE_EQUAL(heard.detached, THREADS);
}

static volatile uint64_t turns;
static uint64_t turns_seen;
static int stage;

static void *turns_round(void *unused) {
    raise_flag(&stage, 1);
    while (look_at(&stage) != 2) {
        turns++;
        gc_safepoint();
    }
    return unused;
}

static void looks_at_turns(const gc_event *event, void *data) {
    if (event->phase == GC_PHASE_STOP || event->phase == GC_PHASE_START) return;
    uint64_t *moved = data, before = turns;
    for (volatile unsigned i = 0; i < 20000; i++) continue;
    *moved += turns - before;
    turns_seen++;
}

static void threads_stand_still_from_stop_to_start(void) {
    uint64_t moved = 0;
    gc_listener listener = {.size = sizeof listener, .data = &moved, .phase_begin = looks_at_turns};
    pthread_t thread = start_thread(turns_round, NULL);
    wait_for(&stage, 1);
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t before = turns;
        while (turns == before) sleep_ms(1);
        collect(i % 2 == 0 ? GC_FULL : GC_MINOR);
    }
    REQUIRE_EQUAL(gc_remove_listener(&listener), 0);
    raise_flag(&stage, 2);
    end_thread(thread);
    REQUIRE(turns_seen > 100);
    REQUIRE_EQUAL(moved, 0);
}

/* Stays in a function of the second group until other threads have collected. */
static void waits_for_others(const gc_event *event, void *data) {
    (void)event;
    (void)data;
    raise_flag(&stage, 1);
    while (look_at(&stage) != 2) sleep_ms(1);
}

static gc_listener waiting = {.size = sizeof waiting, .thread_attached = waits_for_others};

static void *ends_at_once(void *unused) {
    return unused;
}

static void *removes_it(void *unused) {
    REQUIRE_EQUAL(gc_remove_listener(&waiting), 0);
    REQUIRE_EQUAL(look_at(&stage), 2);
    return unused;
}

/* A signal handler may use objects: so it must not run while its thread isn't waited for. */
static int handled;

static void on_signal(int number) {
    (void)number;
    raise_flag(&handled, 1);
}

static int removing;
static struct gci_mutator *remover_itself;

static void *removes_and_is_signalled(void *unused) {
    remover_itself = gci_self;
    raise_flag(&removing, 1);
    while (look_at(&stage) != 1) sleep_ms(1);
    raise_flag(&removing, 2);
    REQUIRE_EQUAL(gc_remove_listener(&waiting), 0);
    return unused;
}

static void handlers_wait_until_a_listener_is_removed(void) {
    signal(SIGUSR1, on_signal);
    pthread_t remover = start_thread(removes_and_is_signalled, NULL), slow;
    while (look_at(&removing) != 1) sleep_ms(1);
    REQUIRE_EQUAL(gc_add_listener(&waiting), 0);
    slow = start_thread(ends_at_once, NULL);
    while (look_at(&removing) != 2) sleep_ms(1);
    while (__atomic_load_n(&remover_itself->state, __ATOMIC_ACQUIRE) != GCI_BLOCKING) sleep_ms(1);
    REQUIRE_EQUAL(pthread_kill(remover, SIGUSR1), 0);
    sleep_ms(20);
    REQUIRE_EQUAL(look_at(&handled), 0);
    raise_flag(&stage, 2);
    end_thread(slow);
    end_thread(remover);
    REQUIRE_EQUAL(handled, 1);
}

static void removing_waits_for_functions_that_run_and_these_hold_up_no_collection(void) {
    REQUIRE_EQUAL(gc_add_listener(&waiting), 0);
    pthread_t slow = start_thread(ends_at_once, NULL), remover;
    while (look_at(&stage) != 1) sleep_ms(1);
    REQUIRE_EQUAL(pthread_create(&remover, NULL, removes_it, NULL), 0); /* isn't attached */
    collect_times(10);
    sleep_ms(10);
    raise_flag(&stage, 2);
    end_thread(slow);
    REQUIRE_EQUAL(pthread_join(remover, NULL), 0);
    stage = 0;
    end_thread(start_thread(ends_at_once, NULL));
    REQUIRE_EQUAL(stage, 0);
}

static void *allocates_once(void *unused) {
    REQUIRE(gc_alloc(16) != NULL);
    REQUIRE_EQUAL(gc_thread_detach(), 0);
    return unused;
}

static void threads_that_attach_themselves_are_heard(void) {
    pthread_t thread;
    listen();
    REQUIRE_EQUAL(pthread_create(&thread, NULL, allocates_once, NULL), 0);
    REQUIRE_EQUAL(pthread_join(thread, NULL), 0);
    REQUIRE(heard.attached == 1 && heard.detached == 1);
    REQUIRE_EQUAL(gc_remove_listener(&all_ears), 0);
}

static volatile size_t too_much = SIZE_MAX - 5;

/* ---- Memory --------------------------------------------------------------------------------- */

static void *volatile big; /* or clang leaves out that it becomes NULL */

static void make_big(void *none) {
    (void)none;
    big = gc_alloc(48u << 20);
    REQUIRE(big != NULL);
}

static void memory_that_grows_returns_and_ends_is_heard(void) {
    need_optimised_code();
    gc_stats before = statistics();
    listen();
    call_below(make_big, NULL);
    REQUIRE(heard.grown >= 48u << 20);
    big = NULL;
    collect(GC_COMPACT);
    REQUIRE(heard.returned >= 40u << 20);
    REQUIRE(gc_alloc((size_t)100 << 20) == NULL && errno == ENOMEM);
    REQUIRE_EQUAL(heard.failed, 1);
    REQUIRE(gc_alloc(too_much) == NULL && errno == ENOMEM);
    REQUIRE_EQUAL(heard.failed, 2);
    check_heard(&before);
}

/* ---- Fork ----------------------------------------------------------------------------------- */

static void a_child_of_fork_goes_on_listening(void) {
    gc_stats before = statistics();
    int status;
    listen();
    collect(GC_FULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    collect(GC_MINOR);
    check_heard(&before);
    if (child == 0) _exit(0);
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

/* ---- The list, and mistakes ----------------------------------------------------------------- */

static char order[64];

static void writes_letter(const gc_event *event, void *data) {
    (void)event;
    strncat(order, data, 1);
}

static void listeners_are_called_in_order_and_may_come_and_go(void) {
    gc_listener listeners[17];
    for (unsigned i = 0; i < 17; i++)
        listeners[i] = (gc_listener){.size = sizeof(gc_listener),
            .data = &"abcdefghijklmnopq"[i],
            .collection_begin = writes_letter};
    for (unsigned i = 0; i < 16; i++) REQUIRE_EQUAL(gc_add_listener(&listeners[i]), 0);
    REQUIRE_EQUAL(gc_add_listener(&listeners[16]), ENOSPC);
    REQUIRE_EQUAL(gc_add_listener(&listeners[7]), EEXIST);
    collect(GC_FULL);
    REQUIRE(strcmp(order, "abcdefghijklmnop") == 0);
    for (unsigned i = 0; i < 16; i += 2) REQUIRE_EQUAL(gc_remove_listener(&listeners[i]), 0);
    REQUIRE_EQUAL(gc_remove_listener(&listeners[0]), ENOENT);
    REQUIRE_EQUAL(gc_add_listener(&listeners[16]), 0);
    order[0] = '\0';
    collect(GC_FULL);
    REQUIRE(strcmp(order, "bdfhjlnpq") == 0);
    for (unsigned i = 1; i < 17; i += i < 15 ? 2 : 1)
        REQUIRE_EQUAL(gc_remove_listener(&listeners[i]), 0);
    collect(GC_FULL);
    REQUIRE_EQUAL(strlen(order), 9);
}

static void what_is_no_listener_is_refused(void) {
    gc_listener small = {.size = sizeof small - 8};
    REQUIRE_EQUAL(gc_remove_listener(&small), ENOENT); /* there is no heap yet */
    REQUIRE_EQUAL(gc_add_listener(NULL), EINVAL);
    REQUIRE_EQUAL(gc_add_listener(&small), EINVAL);
    small.size = 0;
    REQUIRE_EQUAL(gc_add_listener(&small), EINVAL);
    REQUIRE_EQUAL(gc_remove_listener(&small), ENOENT);
    REQUIRE_EQUAL(gc_remove_listener(NULL), ENOENT);
    small.size = sizeof small + 64; /* of a later version: no harm */
    REQUIRE_EQUAL(gc_add_listener(&small), 0);
    collect(GC_FULL);
    REQUIRE_EQUAL(gc_remove_listener(&small), 0);
    REQUIRE(strcmp(gc_phase_name(GC_PHASE_MAKE_YOUNG), "make young") == 0);
    REQUIRE(strcmp(gc_phase_name(GC_PHASES), "?") == 0);
}

static void allocates_a_lot(const gc_event *event, void *data) {
    (void)event;
    (void)data;
    for (;;) REQUIRE(gc_alloc(10000) != NULL);
}

static void collects(const gc_event *event, void *data) {
    (void)event;
    (void)data;
    gc_collect(GC_MINOR);
}

static void removes_itself(const gc_event *event, void *data) {
    (void)event;
    gc_remove_listener(data);
}

static void a_listener_that_allocates_while_threads_are_stopped_ends_the_program(void) {
    gc_listener listener = {.size = sizeof listener, .phase_begin = allocates_a_lot};
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    collect(GC_FULL);
}

static void a_listener_that_allocates_after_a_collection_ends_the_program(void) {
    gc_listener listener = {.size = sizeof listener, .collection_end = allocates_a_lot};
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    collect(GC_FULL);
}

static void a_listener_that_collects_ends_the_program(void) {
    gc_listener listener = {.size = sizeof listener, .out_of_memory = collects};
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    REQUIRE(gc_alloc(too_much) == NULL);
}

static void a_listener_that_removes_itself_ends_the_program(void) {
    gc_listener listener = {.size = sizeof listener, .thread_detached = removes_itself};
    listener.data = &listener;
    REQUIRE_EQUAL(gc_add_listener(&listener), 0);
    gc_thread_detach();
}

int main(void) {
#define SAYS "a listener calls a function that may touch the heap"
    const struct CMUnitTest tests[] = {CHILD_TEST(the_random_program_is_heard),
        CHILD_TEST(the_random_program_is_heard, "CAIRN_VERIFY=1", "CAIRN_STRESS=300",
            "CAIRN_BARRIER=mprotect", "CAIRN_POISON=1"),
        CHILD_TEST(the_random_program_is_heard, "CAIRN_BARRIER=none", "CAIRN_WORKERS=3",
            "CAIRN_NURSERY=1M"),
        CHILD_TEST(a_collection_that_promotes_everything_is_heard, "CAIRN_NURSERY=1M"),
        CHILD_TEST(what_a_collections_end_says_is_what_statistics_say),
        CHILD_TEST(collections_of_several_threads_are_heard_one_by_one),
        CHILD_TEST(collections_of_several_threads_are_heard_one_by_one, "CAIRN_STOP=safepoint",
            "CAIRN_VERIFY=1", "CAIRN_STRESS=500"),
        CHILD_TEST(threads_stand_still_from_stop_to_start),
        CHILD_TEST(handlers_wait_until_a_listener_is_removed),
        CHILD_TEST(removing_waits_for_functions_that_run_and_these_hold_up_no_collection),
        CHILD_TEST(threads_that_attach_themselves_are_heard, "CAIRN_ATTACH=auto"),
        CHILD_TEST(memory_that_grows_returns_and_ends_is_heard, "CAIRN_HEAP_LIMIT=64M"),
        CHILD_TEST(a_child_of_fork_goes_on_listening),
        CHILD_TEST(listeners_are_called_in_order_and_may_come_and_go),
        CHILD_TEST(what_is_no_listener_is_refused),
        CHILD_ABORT(a_listener_that_allocates_while_threads_are_stopped_ends_the_program, SAYS),
        CHILD_ABORT(a_listener_that_allocates_after_a_collection_ends_the_program, SAYS),
        CHILD_ABORT(a_listener_that_collects_ends_the_program, SAYS),
        CHILD_ABORT(a_listener_that_removes_itself_ends_the_program, SAYS)};
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
