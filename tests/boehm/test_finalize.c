/* Finalizers in all their orders, who runs them and when, and toggle references. */
#include "support.h"

#include <stdint.h>

#include "javaxfc.h"

struct node {
    struct node *next, *other;
    long number;
    long padding;
};

typedef void registrar(void *, GC_finalization_proc, void *, GC_finalization_proc *, void **);

static long runs, sum;
static long order[4 * MANY]; /* numbers, as they were finalized */

static void finalize(void *object, void *data) {
    const struct node *n = object;
    REQUIRE(GC_base(object) == object);
    if (runs < 4 * MANY) order[runs] = n->number;
    runs++;
    sum += (long)(intptr_t)data;
}

static struct node *new_node(long number, struct node *next) {
    struct node *n = GC_malloc(sizeof *n);
    n->number = number;
    n->next = next;
    GC_end_stubborn_change(n);
    return n;
}

/* Collects until nothing more is finalized. (One collection each time: with Boehm's, another one
 * takes unreachable finalizers from the queue again.) */
static void finalize_all(void) {
    for (int i = 0; i < 6; i++) {
        wipe_stack();
        GC_gcollect();
        wipe_stack();
        GC_invoke_finalizers();
    }
}

static void make_single(void *p) {
    registrar *reg = (registrar *)p;
    for (long i = 0; i < MANY; i++) reg(new_node(i, NULL), finalize, (void *)3, NULL, NULL);
}

static void check_single(registrar *reg) {
    runs = sum = 0;
    far_below(make_single, (void *)reg);
    finalize_all();
    REQUIRE_MOST(runs, MANY);
    REQUIRE(runs <= MANY);
    REQUIRE_EQUAL(sum, 3 * runs);
    finalize_all();
    REQUIRE(runs <= MANY);
}

static void each_kind_of_finalizer_runs_once(void) {
    GC_set_java_finalization(1);
    GC_INIT();
    check_single(GC_register_finalizer);
    check_single(GC_register_finalizer_ignore_self);
    check_single(GC_register_finalizer_no_order);
    check_single(GC_register_finalizer_unreachable);
}

static void living_objects_are_not_finalized(void) {
    GC_INIT();
    for (long i = 0; i < MANY; i++) {
        held[i] = new_node(i, NULL);
        GC_register_finalizer(held[i], finalize, NULL, NULL, NULL);
    }
    finalize_all();
    REQUIRE_EQUAL(runs, 0);
    memset(held, 0, sizeof held);
    finalize_all();
    REQUIRE_MOST(runs, MANY);
}

static void other(void *object, void *data) {
    (void)object;
    (void)data;
    runs += 100000;
}

static void the_last_finalizer_counts(void) {
    GC_INIT();
    GC_finalization_proc old = finalize;
    void *data = &old;
    void *p = held[0] = new_node(0, NULL);
    GC_register_finalizer(p, other, (void *)7, &old, &data);
    REQUIRE(old == NULL && data == NULL);
    GC_register_finalizer(p, finalize, (void *)8, &old, &data);
    REQUIRE(old == other && data == (void *)7);
    GC_register_finalizer(p, NULL, NULL, &old, &data);
    REQUIRE(old == finalize && data == (void *)8);
    GC_register_finalizer(p, NULL, NULL, &old, &data);
    REQUIRE(old == NULL && data == NULL);
    p = held[0] = NULL;
    finalize_all();
    REQUIRE_EQUAL(runs, 0);
}

static void what_is_not_in_the_heap_is_not_finalized(void) {
    GC_INIT();
    static struct node n;
    GC_finalization_proc old = finalize;
    void *data = &old;
    GC_register_finalizer(&n, finalize, NULL, &old, &data);
    REQUIRE(old == NULL && data == NULL);
    finalize_all();
    REQUIRE_EQUAL(runs, 0);
}

static void make_chains(void *p) {
    registrar *reg = (registrar *)p;
    for (long i = 0; i < MANY; i++) {
        struct node *last = new_node(2 * i + 1, NULL);
        struct node *first = new_node(2 * i, last);
        reg(last, finalize, NULL, NULL, NULL);
        reg(first, finalize, NULL, NULL, NULL);
    }
}

/* When the first collection has been, then the second. */
static void what_points_is_finalized_before_what_it_points_to(void) {
    GC_set_finalize_on_demand(1);
    GC_INIT();
    far_below(make_chains, (void *)GC_register_finalizer);
    wipe_stack();
    GC_gcollect();
    GC_invoke_finalizers();
    REQUIRE_MOST(runs, MANY);
    for (long i = 0; i < runs; i++) REQUIRE(order[i] % 2 == 0);
    long before = runs;
    finalize_all();
    REQUIRE_MOST(runs, 2 * MANY);
    for (long i = before; i < before + MANY / 2; i++) REQUIRE(order[i] % 2 == 1);
}

static void without_order_all_go_at_once(void) {
    GC_set_finalize_on_demand(1);
    GC_INIT();
    far_below(make_chains, (void *)GC_register_finalizer_no_order);
    wipe_stack();
    GC_gcollect();
    GC_invoke_finalizers();
    REQUIRE_MOST(runs, 2 * MANY);
}

static void make_rings(void *p) {
    registrar *reg = (registrar *)p;
    for (long i = 0; i < MANY; i++) {
        struct node *a = new_node(i, NULL), *b = new_node(i, a);
        a->next = b;
        GC_end_stubborn_change(a);
        reg(a, finalize, NULL, NULL, NULL);
    }
}

static void make_selves(void *p) {
    registrar *reg = (registrar *)p;
    for (long i = 0; i < MANY; i++) {
        struct node *a = new_node(i, NULL);
        a->next = a;
        GC_end_stubborn_change(a);
        reg(a, finalize, NULL, NULL, NULL);
    }
}

static long warnings;
static void count_warning(char *text, GC_word number) {
    (void)text;
    (void)number;
    warnings++;
}

static long ran(void (*make)(void *), registrar *reg) {
    runs = 0;
    far_below(make, (void *)reg);
    finalize_all();
    return runs;
}

static void cycles_are_finalized_only_without_order(void) {
    GC_set_java_finalization(1);
    GC_INIT();
    GC_set_warn_proc(count_warning);
    REQUIRE_EQUAL(ran(make_rings, GC_register_finalizer), 0);
    REQUIRE(warnings > 0);
    REQUIRE_EQUAL(ran(make_rings, GC_register_finalizer_ignore_self), 0);
    REQUIRE_MOST(ran(make_rings, GC_register_finalizer_no_order), MANY);
}

static void pointers_to_themselves_are_ignored_when_asked(void) {
    GC_INIT();
    GC_set_warn_proc(GC_ignore_warn_proc);
    REQUIRE_EQUAL(ran(make_selves, GC_register_finalizer), 0);
    REQUIRE_MOST(ran(make_selves, GC_register_finalizer_ignore_self), MANY);
    REQUIRE_MOST(ran(make_selves, GC_register_finalizer_no_order), MANY);
}

static void make_unreachable(void *p) {
    (void)p;
    for (long i = 0; i < MANY; i++) {
        struct node *resource = new_node(2 * i + 1, NULL), *user = new_node(2 * i, resource);
        GC_register_finalizer_unreachable(resource, finalize, NULL, NULL, NULL);
        GC_register_finalizer_no_order(user, finalize, NULL, NULL, NULL);
    }
}

static void unreachable_finalizers_wait_for_others(void) {
    GC_set_java_finalization(1);
    GC_set_finalize_on_demand(1);
    GC_INIT();
    far_below(make_unreachable, NULL);
    wipe_stack();
    GC_gcollect();
    GC_invoke_finalizers();
    REQUIRE_MOST(runs, MANY);
    for (long i = 0; i < runs; i++) REQUIRE(order[i] % 2 == 0);
    finalize_all();
    REQUIRE_MOST(runs, 2 * MANY);
}

static void make_with_data(void *p) {
    for (long i = 0; i < MANY; i++) {
        struct node *data = new_node(i, NULL);
        watch(p, data);
        GC_register_finalizer(new_node(i, NULL), other, data, NULL, NULL);
    }
}

static void client_data_lives_until_then(void) {
    GC_set_finalize_on_demand(1);
    GC_INIT();
    struct watched *w = new_watched();
    far_below(make_with_data, w);
    collect_all();
    REQUIRE_EQUAL(alive(w), MANY);
    GC_invoke_finalizers();
    finalize_all();
    REQUIRE_FEW(alive(w), MANY);
}

static void revive(void *object, void *data) {
    (void)data;
    held[runs++] = object;
}

static void make_revived(void *p) {
    (void)p;
    for (long i = 0; i < MANY; i++) {
        struct node *n = new_node(i, new_node(-i, NULL));
        GC_register_finalizer(n, revive, NULL, NULL, NULL);
    }
}

static void finalizers_may_revive(void) {
    GC_INIT();
    far_below(make_revived, NULL);
    finalize_all();
    REQUIRE_MOST(runs, MANY);
    long before = runs;
    finalize_all(); /* what is reachable again isn't finalized again */
    REQUIRE_EQUAL(runs, before);
    for (long i = 0; i < runs; i++) {
        struct node *n = held[i];
        REQUIRE_EQUAL(n->number, -n->next->number);
        GC_register_finalizer(n, finalize, NULL, NULL, NULL); /* and may be registered again */
    }
    runs = 0;
    memset(held, 0, sizeof held);
    finalize_all();
    REQUIRE_MOST(runs, before);
}

static long notes;
static void notify(void) {
    notes++;
}

static void on_demand_finalizers_run_only_when_invoked(void) {
    GC_INIT();
    GC_set_finalize_on_demand(1);
    GC_set_finalizer_notifier(notify);
    REQUIRE(GC_get_finalizer_notifier() == notify);
    far_below(make_single, (void *)GC_register_finalizer);
    collect_all();
    for (int i = 0; i < 100000; i++) GC_malloc(64);
    REQUIRE_EQUAL(runs, 0);
    REQUIRE(notes > 0);
    REQUIRE(GC_should_invoke_finalizers());
    int n = GC_invoke_finalizers();
    REQUIRE_EQUAL(n, runs);
    REQUIRE_MOST(n, MANY);
    while (GC_should_invoke_finalizers()) GC_invoke_finalizers();
    REQUIRE_EQUAL(GC_invoke_finalizers(), 0);
}

static void a_notifier_may_invoke_finalizers(void) {
    GC_INIT();
    GC_set_finalize_on_demand(1);
    GC_set_finalizer_notifier((GC_finalizer_notifier_proc)(void (*)(void))GC_invoke_finalizers);
    far_below(make_single, (void *)GC_register_finalizer);
    collect_all();
    GC_malloc(10);
    GC_gcollect();
    REQUIRE_MOST(runs, MANY);
}

static void finalizers_run_during_allocation(void) {
    GC_INIT();
    far_below(make_single, (void *)GC_register_finalizer);
    wipe_stack();
    for (int i = 0; i < 3000000; i++) GC_malloc(64);
    REQUIRE_MOST(runs, MANY);
}

static void allocate_in_finalizer(void *object, void *data) {
    (void)object;
    (void)data;
    for (int i = 0; i < 300; i++) held[0] = GC_malloc(200);
    runs++;
}

static void make_allocating(void *p) {
    (void)p;
    for (long i = 0; i < MANY; i++)
        GC_register_finalizer(new_node(i, NULL), allocate_in_finalizer, NULL, NULL, NULL);
}

static void finalizers_may_allocate_and_collect(void) {
    GC_INIT();
    far_below(make_allocating, NULL);
    finalize_all();
    REQUIRE_MOST(runs, MANY);
}

static void all_finalizers_run_at_the_end_if_asked(void) {
    GC_INIT();
    for (long i = 0; i < 100; i++) {
        held[i] = new_node(i, NULL);
        GC_register_finalizer(held[i], finalize, NULL, NULL, NULL);
    }
    collect_all();
    REQUIRE_EQUAL(runs, 0);
    GC_finalize_all();
    REQUIRE_EQUAL(runs, 100);
}

static long awaited;
static void await(void *object) {
    (void)object;
    awaited++;
}

static void what_is_enqueued_is_announced(void) {
    GC_INIT();
    GC_set_finalize_on_demand(1);
    GC_set_await_finalize_proc(await);
    REQUIRE(GC_get_await_finalize_proc() == await);
    far_below(make_single, (void *)GC_register_finalizer);
    collect_all();
    REQUIRE_MOST(awaited, MANY);
    REQUIRE_EQUAL(runs, 0);
}

static void finalizers_wait_for_the_object_of_any_kind(void) {
    GC_INIT();
    static allocator *const kinds[] = {GC_malloc, GC_malloc_atomic, GC_malloc_ignore_off_page};
    for (int k = 0; k < 3; k++)
        for (size_t bytes = 40; bytes < 10000; bytes += 6000) {
            runs = 0;
            for (long i = 0; i < 100; i++) {
                held[i] = kinds[k](bytes);
                GC_register_finalizer(held[i], finalize, NULL, NULL, NULL);
            }
            finalize_all();
            REQUIRE_EQUAL(runs, 0);
            memset(held, 0, sizeof held);
            finalize_all();
            REQUIRE_MOST(runs, 100);
        }
}

/* Toggle references: who points to them from outside decides whether they are strong. */
static GC_ToggleRefStatus toggle_says;
static long toggle_calls;

static GC_ToggleRefStatus toggle(void *object) {
    (void)object;
    toggle_calls++;
    return toggle_says;
}

static void make_toggled(void *p) {
    for (long i = 0; i < MANY; i++) {
        struct node *n = new_node(i, NULL);
        watch(p, n);
        REQUIRE_EQUAL(GC_toggleref_add(n, 1), GC_SUCCESS);
    }
}

static void toggle_references_hold_while_strong(void) {
    GC_INIT();
    GC_set_toggleref_func(toggle);
    REQUIRE(GC_get_toggleref_func() == toggle);
    toggle_says = GC_TOGGLE_REF_STRONG;
    struct watched *w = new_watched();
    far_below(make_toggled, w);
    collect_all();
    REQUIRE_EQUAL(alive(w), MANY);
    REQUIRE(toggle_calls >= MANY);
    toggle_says = GC_TOGGLE_REF_WEAK;
    collect_all();
    REQUIRE_FEW(alive(w), MANY);
}

static void dropped_toggle_references_are_forgotten(void) {
    GC_INIT();
    GC_set_toggleref_func(toggle);
    toggle_says = GC_TOGGLE_REF_DROP;
    struct watched *w = new_watched();
    far_below(make_toggled, w);
    collect_all();
    REQUIRE_FEW(alive(w), MANY);
    toggle_calls = 0;
    collect_all();
    REQUIRE_EQUAL(toggle_calls, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CHILD_TEST(each_kind_of_finalizer_runs_once),
        CHILD_TEST(living_objects_are_not_finalized),
        CHILD_TEST(the_last_finalizer_counts),
        CHILD_TEST(what_is_not_in_the_heap_is_not_finalized),
        CHILD_TEST(what_points_is_finalized_before_what_it_points_to),
        CHILD_TEST(without_order_all_go_at_once),
        CHILD_TEST(cycles_are_finalized_only_without_order),
        CHILD_TEST(pointers_to_themselves_are_ignored_when_asked),
        CHILD_TEST(unreachable_finalizers_wait_for_others),
        CHILD_TEST(client_data_lives_until_then),
        CHILD_TEST(finalizers_may_revive),
        CHILD_TEST(on_demand_finalizers_run_only_when_invoked),
        CHILD_TEST(a_notifier_may_invoke_finalizers),
        CHILD_TEST(finalizers_run_during_allocation),
        CHILD_TEST(finalizers_may_allocate_and_collect),
        CHILD_TEST(all_finalizers_run_at_the_end_if_asked),
        CHILD_TEST(what_is_enqueued_is_announced),
        CHILD_TEST(finalizers_wait_for_the_object_of_any_kind),
        CHILD_TEST(toggle_references_hold_while_strong),
        CHILD_TEST(dropped_toggle_references_are_forgotten),
    };
    return cmocka_run_group_tests_name("boehm_finalize", tests, NULL, NULL);
}
