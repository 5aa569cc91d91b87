/* Cairn as an ordinary program uses it: default options, counters from gc_get_stats().  For
 * cairn-typed bench_start() also registers what BENCH_TYPE() told the linker to gather. */
#include "bench/bench.h"

#ifdef BENCH_CAIRN_TYPED
enum { MOST_POINTERS = 1024 }; /* in one structure */

struct pointer {
    void *to;
};
BENCH_TYPE(pointer, BENCH_FIELD(pointer, to));

const gc_type *bench_pointer_type;

extern const struct bench_layout *const __start_bench_layouts[];
extern const struct bench_layout *const __stop_bench_layouts[];

static void register_type(const struct bench_layout *layout) {
    uint32_t pointers[MOST_POINTERS];
    size_t count = 0;
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct bench_field *field = &layout->fields[i];
        for (size_t at = 0; at < field->bytes; at += sizeof(void *)) {
            if (count == MOST_POINTERS) bench_fail("too many pointers in %s", layout->name);
            pointers[count++] = (uint32_t)(field->offset + at);
        }
    }
    gc_type_desc desc = {.name = layout->name,
        .size = layout->size,
        .pointers = count > 0 ? pointers : NULL,
        .pointer_count = count,
        .flags = count > 0 ? 0 : GC_TYPE_LEAF};
    *layout->type = gc_type_register(&desc);
    if (*layout->type == NULL) bench_fail("can't register %s", layout->name);
}

static void register_types(void) {
    for (const struct bench_layout *const *entry = __start_bench_layouts;
         entry < __stop_bench_layouts; entry++)
        register_type(*entry);
    bench_pointer_type = bench_type_pointer;
}
#else
static void register_types(void) {}
#endif

void bench_start(void) {
    int error = gc_init(NULL);
    if (error != 0) bench_fail("gc_init failed: error %d", error);
    register_types();
}

void bench_report(struct bench_counters *counters) {
    gc_stats stats = {.size = sizeof stats};
    int error = gc_get_stats(&stats);
    if (error != 0) bench_fail("gc_get_stats failed: error %d", error);
    counters->minor = stats.minor.count;
    counters->full = stats.full.count;
    counters->pause_p50_ns = stats.all.p50_ns;
    counters->pause_p99_ns = stats.all.p99_ns;
    counters->pause_max_ns = stats.all.max_ns;
}
