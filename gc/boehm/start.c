/* Opening the heap as Boehm's programs expect it, the variables and settings of old, and messages.
 * Owns the exported variables, which the program may change at any time; what has an effect after
 * GC_init() is read where it is used (docs/boehm.md, "Settings"). */
#define _GNU_SOURCE
#include "gc/boehm/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cairn/finalize.h"
#include "gc/api.h"
#include "gc/arena.h"
#include "gc/collect.h"
#include "gc/heap.h"
#include "gc/thread.h"
#include "runtime/globals.h"
#include "runtime/log.h"
#include "runtime/options.h"

/* ---- Variables ------------------------------------------------------------------------------ */

static void *return_null(size_t size);
static void abort_with(const char *message);
static void no_other_roots(void);

EXPORT int GC_all_interior_pointers = 1;
EXPORT int GC_dont_expand;
EXPORT int GC_dont_gc;
EXPORT int GC_dont_precollect;
EXPORT int GC_finalize_on_demand;
EXPORT int GC_find_leak;
EXPORT int GC_full_freq = 19;
EXPORT int GC_java_finalization = 1;
EXPORT int GC_no_dls;
EXPORT int GC_parallel;
EXPORT int GC_use_entire_heap;
EXPORT GC_word GC_free_space_divisor = 3;
EXPORT GC_word GC_gc_no;
EXPORT GC_word GC_max_retries;
EXPORT GC_word GC_non_gc_bytes;
EXPORT unsigned long GC_time_limit = GC_TIME_UNLIMITED;
EXPORT char *GC_stackbottom;
EXPORT void *GC_least_plausible_heap_addr = (void *)~(uintptr_t)0;
EXPORT void *GC_greatest_plausible_heap_addr;
EXPORT GC_oom_func GC_oom_fn = return_null;
EXPORT GC_abort_func GC_on_abort = abort_with;
EXPORT GC_on_heap_resize_proc GC_on_heap_resize;
EXPORT GC_finalizer_notifier_proc GC_finalizer_notifier;
EXPORT GC_push_other_roots_proc GC_push_other_roots = no_other_roots;

static void no_other_roots(void) {}

/* ---- Messages ------------------------------------------------------------------------------- */

static GCI_GLOBAL int log_fd = STDERR_FILENO;
static GCI_GLOBAL bool print_stats; /* GC_PRINT_STATS */

static void default_warning(char *format, GC_word argument) {
    char line[512];
    int length = snprintf(line, sizeof line, "GC Warning: ");
    int more = snprintf(line + length, sizeof line - (size_t)length, format, argument);
    length += more > 0 ? more : 0;
    if (length >= (int)sizeof line) length = sizeof line - 1;
    ssize_t written = write(log_fd, line, (size_t)length);
    (void)written;
}

static GC_warn_proc warn_procedure = default_warning;

void gcb_warn(const char *format, GC_word argument) {
    char copy[256];
    strncpy(copy, format, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    __atomic_load_n(&warn_procedure, __ATOMIC_RELAXED)(copy, argument);
}

EXPORT void GC_ignore_warn_proc(char *message, GC_word argument) {
    (void)message, (void)argument;
}

EXPORT void GC_set_warn_proc(GC_warn_proc function) {
    __atomic_store_n(&warn_procedure, function, __ATOMIC_RELAXED);
}

EXPORT GC_warn_proc GC_get_warn_proc(void) {
    return __atomic_load_n(&warn_procedure, __ATOMIC_RELAXED);
}

EXPORT void GC_set_log_fd(int fd) {
    log_fd = fd;
}

void gcb_print_collection(const struct gc_heap *heap, enum gc_collection kind) {
    if (!print_stats) return;
    char line[160];
    int length = snprintf(line, sizeof line, "Collection %lu, %s: %lu KB live of %lu KB\n",
        GC_gc_no, kind == GC_FULL ? "full" : "minor", heap->live_bytes / 1024,
        gci_arena_taken_bytes(&heap->arena) / 1024);
    ssize_t written = write(log_fd, line, (size_t)length);
    (void)written;
}

static void print_to(int fd, const char *format, va_list arguments) {
    char line[1024];
    int length = vsnprintf(line, sizeof line, format, arguments);
    if (length <= 0) return;
    if (length >= (int)sizeof line) length = sizeof line - 1;
    ssize_t written = write(fd, line, (size_t)length);
    (void)written;
}

/* Boehm's own, which its debugging programs call. */
#define DEFINE_PRINT(name, fd)                                                                     \
    EXPORT void name(const char *format, ...);                                                     \
    EXPORT __attribute__((format(printf, 1, 2))) void name(const char *format, ...) {              \
        va_list arguments;                                                                         \
        va_start(arguments, format);                                                               \
        print_to(fd, format, arguments);                                                           \
        va_end(arguments);                                                                         \
    }                                                                                              \
    _Static_assert(1, "")

DEFINE_PRINT(GC_printf, STDOUT_FILENO);
DEFINE_PRINT(GC_err_printf, STDERR_FILENO);
DEFINE_PRINT(GC_log_printf, log_fd);

static void abort_with(const char *message) {
    if (message != NULL) gci_print("%s\n", message);
}

EXPORT void GC_set_abort_func(GC_abort_func function) {
    __atomic_store_n(&GC_on_abort, function, __ATOMIC_RELAXED);
}

EXPORT GC_abort_func GC_get_abort_func(void) {
    return __atomic_load_n(&GC_on_abort, __ATOMIC_RELAXED);
}

EXPORT void GC_abort_on_oom(void) {
    gci_print("Insufficient memory for the allocation\n");
    GC_get_abort_func()(NULL);
    abort();
}

static void *return_null(size_t size) {
    (void)size;
    errno = ENOMEM;
    return NULL;
}

EXPORT void GC_set_oom_fn(GC_oom_func function) {
    __atomic_store_n(&GC_oom_fn, function, __ATOMIC_RELAXED);
}

EXPORT GC_oom_func GC_get_oom_fn(void) {
    return __atomic_load_n(&GC_oom_fn, __ATOMIC_RELAXED);
}

void gcb_cannot(bool *said, const char *function, const char *why) {
    const struct gc_heap *heap = gci_default_heap();
    if (heap == NULL || !heap->options.log || __atomic_exchange_n(said, true, __ATOMIC_RELAXED))
        return;
    gci_log("%s(): %s", function, why);
}

/* ---- The environment ------------------------------------------------------------------------ */

/* Variables have no say over a program with privileges of its file. */
static const char *variable(const char *name) {
    return secure_getenv(name);
}

/* Decimal, with k, M or G behind; 0 if it isn't. */
static size_t size_variable(const char *name) {
    const char *text = variable(name);
    char *end;
    if (text == NULL || *text < '0' || *text > '9') return 0;
    size_t size = strtoull(text, &end, 10);
    switch (*end) {
    case 'k':
    case 'K':
        return size << 10;
    case 'm':
    case 'M':
        return size << 20;
    case 'g':
    case 'G':
        return size << 30;
    default:
        return size;
    }
}

static GCI_GLOBAL size_t max_heap_size;
static GCI_GLOBAL unsigned markers;
static GCI_GLOBAL int suspend_signal, restart_signal = SIGXCPU;
static GCI_GLOBAL int rate = 10, prior_attempts = 1, pages_executable, manual_vdb;
static GCI_GLOBAL int force_unmap;
int gcb_no_automatic;
static GCI_GLOBAL enum { OFF, ON, NEVER } incremental;
static GCI_GLOBAL size_t min_bytes_allocd = 1;
static GCI_GLOBAL GC_word bytes_per_finalizer = 10000;
static GCI_GLOBAL unsigned long time_limit_ns;

static void read_environment(void) {
    size_t size = size_variable("GC_MAXIMUM_HEAP_SIZE");
    if (size > 0) max_heap_size = size;
    if (variable("GC_DONT_GC") != NULL) GC_dont_gc = 1;
    if (variable("GC_FIND_LEAK") != NULL) GC_find_leak = 1;
    if (variable("GC_ALL_INTERIOR_POINTERS") != NULL) GC_all_interior_pointers = 1;
    if (variable("GC_PRINT_STATS") != NULL || variable("GC_PRINT_VERBOSE_STATS") != NULL)
        print_stats = true;
    if ((size = size_variable("GC_MARKERS")) > 0 || (size = size_variable("GC_NPROCS")) > 0)
        markers = size < 64 ? (unsigned)size : 64;
    if ((size = size_variable("GC_FREE_SPACE_DIVISOR")) > 0) GC_free_space_divisor = size;
    if ((size = size_variable("GC_FULL_FREQUENCY")) > 0) GC_full_freq = (int)size;
    if ((size = size_variable("GC_PAUSE_TIME_TARGET")) > 0) GC_time_limit = size;
    if (variable("GC_USE_ENTIRE_HEAP") != NULL) GC_use_entire_heap = 1;
    if (variable("GC_FORCE_UNMAP_ON_GCOLLECT") != NULL) force_unmap = 1;
    if (variable("GC_ABORT_ON_LEAK") != NULL) gcb_abort_on_leak();
    if (variable("GC_DISABLE_INCREMENTAL") != NULL) incremental = NEVER;
    if (variable("GC_ENABLE_INCREMENTAL") != NULL && incremental != NEVER) incremental = ON;
    const char *file = variable("GC_LOG_FILE");
    int fd = file != NULL ? open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) log_fd = fd;
}

/* Bytes of the heap without huge pages: Guile's and ECL's would be a quarter larger. */
#define HUGE_FROM ((size_t)24 << 20)

/* Boehm lets the heap grow by about its live size divided by so much; 3 is its default, and 50 %
 * here take as much memory as its 33 and what it loses by fragmentation: measured with w3m. */
static uint32_t growth_of(GC_word divisor) {
    if (divisor == 0) return 50;
    GC_word percent = 150 / divisor;
    return percent < 10 ? 10 : percent > 1000 ? 1000 : (uint32_t)percent;
}

static void fill_options(gc_options *options) {
    gc_options_init(options);
    read_environment();
    options->attach = GC_ATTACH_AUTO;
    options->finalizers = GC_FINALIZERS_MANUAL;
    options->one_past_end_in_heap = 0;
    options->compact_percent = 0;
    options->growth_percent = growth_of(GC_free_space_divisor);
    options->workers = markers;
    if (max_heap_size >= (size_t)1 << 20) options->heap_limit = max_heap_size;
    if (suspend_signal != 0) options->stop_signal = (uint32_t)suspend_signal;
}

/* ---- Starting ------------------------------------------------------------------------------- */

bool gcb_open;

/* CAIRN_ variables win: what is given so the program can't change.  Written when the heap opens. */
static GCI_GLOBAL bool growth_is_given, limit_is_given;

static void open_heap(void) {
    gc_options options;
    fill_options(&options);
    int error = gc_init(&options);
    if (error != 0 && error != EALREADY) {
        gci_log("GC_init(): the heap can't be opened: error %d", error);
        GC_get_abort_func()("the heap can't be opened");
        abort();
    }
    struct gc_heap *heap = gci_default_heap();
    growth_is_given = gci_options_are_given("CAIRN_GROWTH_PERCENT");
    limit_is_given = gci_options_are_given("CAIRN_HEAP_LIMIT");
    heap->arena.huge_from = HUGE_FROM;
    GC_least_plausible_heap_addr = (void *)heap->arena.base;
    GC_greatest_plausible_heap_addr = (void *)(heap->arena.base + heap->arena.reserved);
    if (GC_stackbottom == NULL) GC_stackbottom = (char *)gci_thread_self()->mutator.stack.high;
    GC_parallel = (markers != 0 ? (int)markers : (int)sysconf(_SC_NPROCESSORS_ONLN)) - 1;
    gcb_slack = GC_all_interior_pointers != 0;
    gcb_layer.has_slack = gcb_slack > 0;
    heap->layer = &gcb_layer;
    gci_policy_init(heap);
    heap->static_roots.filter = &gcb_static_filter;
    gcb_static_filter.changed = true;
    if (gc_add_global_root_hook(gcb_visit_roots, NULL) != 0)
        gci_fatal("GC_init(): there is no memory for the list of roots");
    gc_set_finalizer_notify(gcb_finalizers_are_ready, NULL);
    if (GC_find_leak) atexit(GC_gcollect); /* a last look */
}

static GCI_GLOBAL bool ended; /* by GC_deinit() */

EXPORT void GC_init(void) {
    static GCI_GLOBAL int opening;
    ended = false;
    if (__atomic_load_n(&gcb_open, __ATOMIC_ACQUIRE)) return;
    if (__atomic_exchange_n(&opening, 1, __ATOMIC_ACQ_REL) != 0) {
        while (!__atomic_load_n(&gcb_open, __ATOMIC_ACQUIRE)) sched_yield();
        return;
    }
    open_heap();
    __atomic_store_n(&gcb_open, true, __ATOMIC_RELEASE);
    size_t initial = size_variable("GC_INITIAL_HEAP_SIZE");
    if (initial > 0) GC_expand_hp(initial);
}

EXPORT int GC_is_init_called(void) {
    return __atomic_load_n(&gcb_open, __ATOMIC_ACQUIRE) && !ended;
}

/* The heap lives as long as the process. */
EXPORT void GC_deinit(void) {
    ended = true;
}

EXPORT void GC_enable_incremental(void) {
    if (incremental != NEVER) incremental = ON;
    gcb_need_heap();
}

/* It is so from the start; what the program asked is what it is told. */
EXPORT int GC_is_incremental_mode(void) {
    return incremental == ON;
}

bool gcb_never_incremental(void) {
    return incremental == NEVER;
}

EXPORT unsigned GC_get_version(void) {
    return GC_VERSION_MAJOR << 16 | GC_VERSION_MINOR << 8 | GC_VERSION_MICRO;
}

/* ---- The lock ------------------------------------------------------------------------------- */

/* While it has the lock a thread is "inside the library", so that nothing stops it.  It may be held
 * up where it takes the lock and where it lets go of it: both save the caller's registers.  One that
 * is blocking counts as stopped, and what it saved when it began to is what is searched. */
static __thread bool entered __attribute__((tls_model("initial-exec")));

void gcb_entry_lock(size_t a, size_t b, size_t c, const struct gci_frame *frame);
void gcb_entry_unlock(size_t a, size_t b, size_t c, const struct gci_frame *frame);
GCI_ENTRY(gcb_lock, gcb_entry_lock);
GCI_ENTRY(gcb_unlock, gcb_entry_unlock);

void gcb_entry_lock(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    gcb_need_heap();
    struct gci_thread *thread = gci_thread_self();
    if (thread != NULL && !thread->mutator.inside && thread->mutator.blocking == 0) {
        entered = true;
        gci_enter(&thread->mutator, frame);
    }
    gci_heap_lock(gci_default_heap());
}

void gcb_entry_unlock(size_t a, size_t b, size_t c, const struct gci_frame *frame) {
    (void)a, (void)b, (void)c;
    struct gci_thread *thread = gci_thread_self();
    struct gci_world *world = &gci_default_heap()->world;
    if (entered) thread->mutator.scan_from = (uintptr_t)frame;
    if (gci_lock_is_awaited(&world->lock)) world->handed_over = true;
    gci_world_unlock(world);
    if (!entered) return;
    entered = false;
    gci_leave(&thread->mutator);
}

/* ---- Settings ------------------------------------------------------------------------------- */

/* Defines GC_set_NAME() and GC_get_NAME() for a variable. */
#define SETTING(type, name, variable)                                                              \
    EXPORT void GC_set_##name(type value) {                                                        \
        __atomic_store_n(&(variable), value, __ATOMIC_RELAXED);                                    \
    }                                                                                              \
    EXPORT type GC_get_##name(void) {                                                              \
        return __atomic_load_n(&(variable), __ATOMIC_RELAXED);                                     \
    }                                                                                              \
    _Static_assert(1, "")

SETTING(int, find_leak, GC_find_leak);
SETTING(int, finalize_on_demand, GC_finalize_on_demand);
SETTING(int, force_unmap_on_gcollect, force_unmap);
SETTING(GC_on_heap_resize_proc, on_heap_resize, GC_on_heap_resize);
SETTING(GC_finalizer_notifier_proc, finalizer_notifier, GC_finalizer_notifier);
SETTING(GC_push_other_roots_proc, push_other_roots, GC_push_other_roots);

/* The same for one that changes nothing. */
#define SETTING_KEPT(type, name, variable)                                                         \
    EXPORT void GC_set_##name(type value) {                                                        \
        __atomic_store_n(&(variable), value, __ATOMIC_RELAXED);                                    \
        GCB_CANNOT("it is kept, and changes nothing");                                             \
    }                                                                                              \
    EXPORT type GC_get_##name(void) {                                                              \
        return __atomic_load_n(&(variable), __ATOMIC_RELAXED);                                     \
    }                                                                                              \
    _Static_assert(1, "")

SETTING_KEPT(int, java_finalization, GC_java_finalization);
SETTING_KEPT(int, dont_expand, GC_dont_expand);
SETTING_KEPT(int, full_freq, GC_full_freq);
SETTING_KEPT(GC_word, non_gc_bytes, GC_non_gc_bytes);
SETTING_KEPT(GC_word, max_retries, GC_max_retries);
SETTING_KEPT(int, dont_precollect, GC_dont_precollect);
SETTING_KEPT(GC_word, allocd_bytes_per_finalizer, bytes_per_finalizer);
SETTING_KEPT(size_t, min_bytes_allocd, min_bytes_allocd);
SETTING_KEPT(int, rate, rate);
SETTING_KEPT(int, max_prior_attempts, prior_attempts);
SETTING_KEPT(int, manual_vdb_allowed, manual_vdb);

EXPORT void GC_set_all_interior_pointers(int on) {
    GC_all_interior_pointers = on;
    if (GC_is_init_called() && !on)
        GCB_CANNOT("the heap is open: pointers into the middle of objects go on holding them");
}

EXPORT int GC_get_all_interior_pointers(void) {
    return GC_all_interior_pointers;
}

EXPORT void GC_set_free_space_divisor(GC_word divisor) {
    GC_free_space_divisor = divisor;
    struct gc_heap *heap = gci_default_heap();
    if (heap != NULL && !growth_is_given) heap->options.growth_percent = growth_of(divisor);
}

EXPORT GC_word GC_get_free_space_divisor(void) {
    return GC_free_space_divisor;
}

EXPORT void GC_set_time_limit(unsigned long milliseconds) {
    GC_time_limit = milliseconds;
    GCB_CANNOT("it is kept, and changes nothing");
}

EXPORT unsigned long GC_get_time_limit(void) {
    return GC_time_limit;
}

EXPORT void GC_set_time_limit_tv(struct GC_timeval_s limit) {
    GC_time_limit = limit.tv_ms;
    time_limit_ns = limit.tv_nsec;
    GCB_CANNOT("it is kept, and changes nothing");
}

EXPORT struct GC_timeval_s GC_get_time_limit_tv(void) {
    return (struct GC_timeval_s){GC_time_limit, time_limit_ns};
}

EXPORT void GC_set_pages_executable(int on) {
    pages_executable = on;
    if (on) GCB_CANNOT("objects are never executable here");
}

EXPORT int GC_get_pages_executable(void) {
    return pages_executable;
}

EXPORT void GC_set_disable_automatic_collection(int on) {
    gcb_no_automatic = on;
}

EXPORT int GC_get_disable_automatic_collection(void) {
    return gcb_no_automatic;
}

EXPORT void GC_set_markers_count(unsigned count) {
    if (!GC_is_init_called())
        markers = count < 64 ? count : 64;
    else
        GCB_CANNOT("the heap is open");
}

EXPORT int GC_get_parallel(void) {
    return GC_parallel;
}

EXPORT void GC_set_max_heap_size(GC_word bytes) {
    max_heap_size = bytes;
    struct gc_heap *heap = gci_default_heap();
    if (heap == NULL || limit_is_given) return;
    gcb_lock();
    gci_heap_set_limit(heap, bytes);
    gcb_unlock();
}

EXPORT void GC_set_suspend_signal(int number) {
    if (!GC_is_init_called())
        suspend_signal = number;
    else
        GCB_CANNOT("the heap is open");
}

EXPORT int GC_get_suspend_signal(void) {
    int number = gci_stop_signal();
    return number != 0 ? number : suspend_signal != 0 ? suspend_signal : SIGRTMAX - 5;
}

EXPORT void GC_set_thr_restart_signal(int number) {
    restart_signal = number;
    GCB_CANNOT("threads go on without a signal");
}

EXPORT int GC_get_thr_restart_signal(void) {
    return restart_signal;
}
