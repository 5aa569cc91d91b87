# The benchmark program: build/cairn-bench and one build/bench/bench-ALLOCATOR for each allocator.
#
# Included by the top Makefile, which defines B, CC, CFLAGS, WARN and the rule for the library.  A
# workload is a file in bench/workloads/, or in bench/workloads/ALLOCATOR/ if only that one can run
# it; an allocator is a file in bench/allocators/ with its section in bench/alloc.h, its lines below
# and its name in bench/driver/catalogue.c.  cairn-typed shares cairn's file.  Allocators whose
# header isn't installed are left out, and so is OCaml's program without ocamlopt.  cairn-calls is
# cairn with its calls out of line, from the shared library, and cairn-byte that with a byte more in
# each object; boehm-cairn is boehm's program, the very
# same objects, with Cairn's libgc.so.1 instead of Debian's.

bench_has = $(shell printf '\043include <$(1)>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo $(2))
BENCH_ALLOCATORS := cairn cairn-typed cairn-calls cairn-byte malloc \
    $(call bench_has,gc.h,boehm) $(call bench_has,mimalloc.h,mimalloc)
BENCH_OCAMLOPT := $(shell command -v ocamlopt 2>/dev/null)

BENCH_DEFINE_cairn := -DBENCH_CAIRN
BENCH_LIBS_cairn := -lunwind -lpthread -ldl
BENCH_ARCHIVE_cairn := $(B)/lib/libcairn.a
BENCH_DEFINE_cairn-typed := -DBENCH_CAIRN -DBENCH_CAIRN_TYPED
BENCH_LIBS_cairn-typed := $(BENCH_LIBS_cairn)
BENCH_ARCHIVE_cairn-typed := $(BENCH_ARCHIVE_cairn)
BENCH_FILE_cairn-typed := cairn
BENCH_DEFINE_cairn-calls := -DBENCH_CAIRN -DGC_NO_INLINE
BENCH_LIBS_cairn-calls := -Wl,-rpath,$(abspath $(B)/lib)
BENCH_ARCHIVE_cairn-calls := $(B)/lib/libcairn.so
BENCH_FILE_cairn-calls := cairn
BENCH_DEFINE_cairn-byte := $(BENCH_DEFINE_cairn-calls) -DBENCH_BYTES_MORE=1
BENCH_LIBS_cairn-byte := $(BENCH_LIBS_cairn-calls)
BENCH_ARCHIVE_cairn-byte := $(BENCH_ARCHIVE_cairn-calls)
BENCH_FILE_cairn-byte := cairn
BENCH_DEFINE_boehm := -DBENCH_BOEHM
BENCH_LIBS_boehm := -lgc
BENCH_DEFINE_malloc := -DBENCH_MALLOC
BENCH_DEFINE_mimalloc := -DBENCH_MIMALLOC
BENCH_LIBS_mimalloc := -lmimalloc

BENCH_FLAGS := -std=gnu11 $(WARN) -Iinclude -I.
BENCH_SOURCES := bench/fragment.c bench/gcbench.c bench/runner.c bench/threads.c \
    $(sort $(wildcard bench/workloads/*.c))
BENCH_DRIVER_OBJECTS := $(patsubst bench/%.c,$(B)/bench/obj/%.o,$(wildcard bench/driver/*.c))
BENCH_PROGRAMS := $(BENCH_ALLOCATORS:%=$(B)/bench/bench-%)
BENCH_OBJECTS := $(BENCH_DRIVER_OBJECTS)

# $(1): the allocator.
define BENCH_RULES
BENCH_OBJECTS_$(1) := $$(patsubst bench/%.c,$$(B)/bench/obj/$(1)/%.o,\
    $$(BENCH_SOURCES) $$(sort $$(wildcard bench/workloads/$(1)/*.c)) \
    bench/allocators/$(or $(BENCH_FILE_$(1)),$(1)).c)
BENCH_OBJECTS += $$(BENCH_OBJECTS_$(1))
$$(B)/bench/obj/$(1)/%.o: bench/%.c
	@mkdir -p $$(@D)
	$$(CC) $$(BENCH_FLAGS) $$(CFLAGS) $$(BENCH_DEFINE_$(1)) -MMD -MP -c $$< -o $$@
$$(B)/bench/bench-$(1): $$(BENCH_OBJECTS_$(1)) $$(BENCH_ARCHIVE_$(1))
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) $$(LDFLAGS) -pthread $$^ $$(BENCH_LIBS_$(1)) -o $$@
endef
$(foreach allocator,$(BENCH_ALLOCATORS),$(eval $(call BENCH_RULES,$(allocator))))

ifneq ($(and $(filter boehm,$(BENCH_ALLOCATORS)),$(wildcard include/cairn/boehm/gc.h)),)
BENCH_PROGRAMS += $(B)/bench/bench-boehm-cairn
$(B)/bench/bench-boehm-cairn: $(BENCH_OBJECTS_boehm) $(B)/lib/boehm/libgc.so.1
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -pthread $^ -Wl,-rpath,$(abspath $(B)/lib/boehm) -o $@
endif

# ocamlopt leaves its intermediate files beside the source, so it gets a copy.
ifneq ($(BENCH_OCAMLOPT),)
BENCH_PROGRAMS += $(B)/bench/bench-ocaml
$(B)/bench/bench-ocaml: bench/ocaml/binary_trees.ml
	@mkdir -p $(B)/bench/obj/ocaml
	cp $< $(B)/bench/obj/ocaml/binary_trees.ml
	cd $(B)/bench/obj/ocaml && $(BENCH_OCAMLOPT) -o bench-ocaml binary_trees.ml
	mv $(B)/bench/obj/ocaml/bench-ocaml $@
endif

$(B)/bench/obj/driver/%.o: bench/driver/%.c
	@mkdir -p $(@D)
	$(CC) $(BENCH_FLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(B)/cairn-bench: $(BENCH_DRIVER_OBJECTS) | $(BENCH_PROGRAMS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(BENCH_DRIVER_OBJECTS) -lm -o $@

# What the interface of Boehm's costs beside Cairn's own calls: docs/boehm-tests.md.
.PHONY: bench-boehm
bench-boehm: $(B)/cairn-bench $(BENCH_PROGRAMS)
	@bash bench/boehm.sh $(B)/cairn-bench

.PHONY: bench
bench: $(B)/cairn-bench $(BENCH_PROGRAMS)
	$(B)/cairn-bench run all --runs 3 --json $(B)/bench.json

-include $(BENCH_OBJECTS:.o=.d)
