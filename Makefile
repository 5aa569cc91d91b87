# Builds the library, the benchmark, the examples and the tests.  `make help` lists the targets.
#
# Everything that is built goes to $(B), so that several builds live side by side:
#     make B=build-clang CC=clang
# A change of the compiler or its flags is noticed (the file $(B)/flags) and rebuilds what it
# concerns.

VERSION   := 0.1.0
SOVERSION := 0

# ---- What may be set from outside ----------------------------------------------------------------

B       := build
PREFIX  := /usr/local
DESTDIR :=
CFLAGS  ?= -O2 -g
ifeq ($(origin CC),default)
CC      := gcc
endif
SANITIZE     :=
TEST_OPTIONS :=
TEST_JOBS    := $(shell nproc)
DEMO_BYTES   := 200000000

# ---- Flags ---------------------------------------------------------------------------------------

WARN   := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla
COMMON := -std=gnu11 $(WARN) -Iinclude -I. $(CPPFLAGS)
LDLIBS := -lunwind -lpthread -ldl

# A collector reads stacks that AddressSanitizer has poisoned, and handles SIGSEGV itself.  Fake
# stacks would keep local variables where no collector looks for them.
ifeq ($(SANITIZE),thread)
COMMON += -fsanitize=thread -fno-omit-frame-pointer -DGC_SANITIZE -DGC_SANITIZE_THREAD
else ifneq ($(SANITIZE),)
COMMON += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer \
          -DGC_SANITIZE
export ASAN_OPTIONS  := detect_stack_use_after_return=0:detect_leaks=0:handle_segv=0:$(ASAN_OPTIONS)
export UBSAN_OPTIONS := print_stacktrace=1:$(UBSAN_OPTIONS)
endif

# Programs see the public headers as a user's program does; the library's own files see what is
# internal.
PROGFLAGS := $(COMMON)
LIBFLAGS  := $(COMMON) -fvisibility=hidden -fPIC -DGC_BUILDING_LIBRARY -fno-strict-aliasing

# ---- Default target ------------------------------------------------------------------------------

.DELETE_ON_ERROR:
.PHONY: all libraries examples
all: libraries examples

# ---- What the build depends on besides files -----------------------------------------------------

# What stands in for functions of the C library is for the shared library only.
SRC := $(sort $(wildcard gc/*.c runtime/*.c))
INTERPOSE_SRC := runtime/interpose.c
OBJ := $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(INTERPOSE_SRC),$(SRC)))
INTERPOSE_OBJ := $(INTERPOSE_SRC:%.c=$(B)/obj/%.o)

# The functions of the C library's that the shared library exports, too.  Calls of them in the
# library itself are made calls of __wrap_NAME, which leads to the C library's.
INTERPOSED := pthread_create pthread_join pthread_detach pthread_exit pthread_sigmask sigprocmask \
              sigwait sigwaitinfo sigtimedwait sigsuspend ppoll pselect epoll_pwait

# Two files that are written again only when their contents change: the compiler with its flags, and
# the list of the library's sources.
quote = '$(subst ','\'',$(1))'
.PHONY: FORCE
$(B)/flags: CONTENTS = $(CC) $(LIBFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS) $(INTERPOSED)
$(B)/sources: CONTENTS = $(SRC) $(BOEHM_SRC)
$(B)/flags $(B)/sources: FORCE
	@mkdir -p $(@D)
	@new=$@.$$$$; \
	{ printf '%s\n' $(call quote,$(CONTENTS)); $(CC) --version 2>&1 | head -n 1; } >$$new; \
	if cmp -s $$new $@; then rm -f $$new; else mv -f $$new $@; fi

# ---- The library ---------------------------------------------------------------------------------

STATIC_LIB := $(B)/lib/libcairn.a
SHARED_LIB := $(B)/lib/libcairn.so.$(VERSION)

libraries: $(STATIC_LIB) $(B)/lib/libcairn.so
all: boehm

$(OBJ) $(INTERPOSE_OBJ): $(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(LIBFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(STATIC_LIB): $(OBJ) $(B)/sources
	@mkdir -p $(@D)
	rm -f $@
	ar rcs $@ $(OBJ)

# A sanitizer's functions come from the program, so that only the plain library can be checked for
# undefined symbols.  The bounds of the library's own section of data (__start_*, __stop_*) are made
# by the linker, which exports them unless a version script says otherwise.
$(SHARED_LIB): $(OBJ) $(INTERPOSE_OBJ) $(B)/sources
	@mkdir -p $(@D)
	@echo '{ local: __start_*; __stop_*; };' >$(@D)/local.map
	$(CC) -shared -Wl,-soname,libcairn.so.$(SOVERSION) $(if $(SANITIZE),,-Wl,-z,defs) -Wl,-z,now \
	    -Wl,--version-script=$(@D)/local.map $(INTERPOSED:%=-Wl,--wrap=%) \
	    $(COMMON) $(CFLAGS) $(LDFLAGS) $(OBJ) $(INTERPOSE_OBJ) $(LDLIBS) -o $@

$(B)/lib/libcairn.so.$(SOVERSION): $(SHARED_LIB)
	ln -sf $(<F) $@

$(B)/lib/libcairn.so: $(B)/lib/libcairn.so.$(SOVERSION)
	ln -sf $(<F) $@

# The shared library may export gc_* and, without a version, each of $(INTERPOSED); nothing else.
.PHONY: check-exports
check-exports: $(B)/lib/libcairn.so
	@nm -D --defined-only $(SHARED_LIB) | awk -v interposed='$(INTERPOSED)' ' \
	    BEGIN { split(interposed, names); for (i in names) wanted[names[i]] = 1 } \
	    $$3 ~ /^gc_/ { n++; next } \
	    $$3 in wanted { delete wanted[$$3]; next } \
	    { print "exported: " $$3; bad = 1 } \
	    END { for (name in wanted) { print "not exported: " name; bad = 1 } \
	    if (!n) print "nothing is exported"; \
	    else if (!bad) print n " symbols are exported as gc_*, and those that stand in"; \
	    exit bad || !n }'

# ---- Boehm's interface ---------------------------------------------------------------------------

# A library of its own with Boehm's names and no others: for programs that were linked with his.
BOEHM_DIR := $(B)/lib/boehm
BOEHM_SRC := $(sort $(wildcard gc/boehm/*.c))
BOEHM_OBJ := $(BOEHM_SRC:%.c=$(B)/obj/%.o)
BOEHM_LIB := $(BOEHM_DIR)/libgc.so.1

.PHONY: boehm
boehm: $(BOEHM_DIR)/libgc.so $(BOEHM_DIR)/libgccpp.so

$(BOEHM_OBJ): $(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(LIBFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BOEHM_LIB): $(OBJ) $(BOEHM_OBJ) $(B)/sources
	@mkdir -p $(@D)
	@echo '{ global: GC_*; local: *; };' >$(@D)/boehm.map
	$(CC) -shared -Wl,-soname,libgc.so.1 $(if $(SANITIZE),,-Wl,-z,defs) -Wl,-z,now \
	    -Wl,--version-script=$(@D)/boehm.map \
	    $(COMMON) $(CFLAGS) $(LDFLAGS) $(OBJ) $(BOEHM_OBJ) $(LDLIBS) -o $@

$(BOEHM_DIR)/libgc.so: $(BOEHM_LIB)
	ln -sf $(<F) $@

CXX_FOR_BOEHM := $(if $(findstring clang,$(CC)),clang++,g++)
BOEHM_CPP_LIB := $(BOEHM_DIR)/libgccpp.so.1
$(BOEHM_CPP_LIB): gc/boehm/gccpp.cc include/cairn/boehm/gc.h $(BOEHM_LIB) $(B)/flags
	@mkdir -p $(@D)
	$(CXX_FOR_BOEHM) -shared -std=gnu++14 -Wall -Wextra -Iinclude -fPIC -fvisibility=hidden \
	    $(CFLAGS) $(LDFLAGS) -Wl,-soname,libgccpp.so.1 $< $(BOEHM_LIB) -o $@

$(BOEHM_DIR)/libgccpp.so: $(BOEHM_CPP_LIB)
	ln -sf $(<F) $@

# Every name that Debian's libgc.so.1 exports is exported, or listed in docs/boehm.md as absent.
.PHONY: check-boehm-exports
check-boehm-exports: $(BOEHM_LIB)
	@nm -D --defined-only $(BOEHM_LIB) | awk ' \
	    FILENAME == "docs/boehm.md" { \
	        if (/^\| `(GC_[A-Za-z_]*|_end)` \| absent/) { gsub("`", "", $$2); absent[$$2] = 1 } \
	        next } \
	    FILENAME == "-" { ours[$$3] = 1; n++; next } \
	    /^#/ { next } \
	    !($$1 in ours) && !($$1 in absent) { print "neither exported nor documented: " $$1; bad = 1 } \
	    ($$1 in ours) && ($$1 in absent) { print "documented as absent, but exported: " $$1; bad = 1 } \
	    { wanted[$$1] = 1 } \
	    END { for (name in ours) if (!(name in wanted)) print "besides: " name; \
	    if (!bad) print n " names are exported; all others of Debian'"'"'s are documented"; \
	    exit bad || !n }' docs/boehm.md - tests/boehm/exports.txt

# ---- The benchmark -------------------------------------------------------------------------------

# It has a makefile of its own: $(B)/cairn-bench and the target bench.  Other allocators are
# measured as they are, so there is none with a sanitizer.
ifneq ($(wildcard bench/bench.mk),)
include bench/bench.mk
$(BENCH_OBJECTS): $(B)/flags
ifeq ($(SANITIZE),)
all: $(B)/cairn-bench
endif
endif

# ---- Examples ------------------------------------------------------------------------------------

JSON_OBJ := $(patsubst %,$(B)/obj/examples/json/%.o,main parse query print)
GENERATE_OBJ := $(B)/obj/examples/json/generate.o
CALC_OBJ := $(B)/obj/examples/calc/calc.o

LEAK_OBJ := $(B)/obj/examples/snapshot/leak.o

examples: $(B)/examples/json $(B)/examples/json-generate $(B)/examples/calc $(B)/examples/leak

$(JSON_OBJ) $(GENERATE_OBJ) $(CALC_OBJ) $(LEAK_OBJ): $(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/examples/json: $(JSON_OBJ) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(B)/examples/calc: $(CALC_OBJ) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(B)/examples/leak: $(LEAK_OBJ) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(B)/examples/json-generate: $(GENERATE_OBJ)
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $^ -o $@

# Made once and kept; the name says the size.
BIG_JSON := $(B)/demo/generated-$(DEMO_BYTES).json
$(BIG_JSON): | $(B)/examples/json-generate
	@mkdir -p $(@D)
	$(B)/examples/json-generate $(DEMO_BYTES) >$@.new
	mv -f $@.new $@

# What needs packages gets them first and then compiles in a make of its own, which may run in
# parallel.
.PHONY: demo run-demo
demo: deps
	+@$(MAKE) --no-print-directory run-demo

run-demo: $(B)/examples/json $(BIG_JSON)
	@sh examples/json/demo.sh $(B)/examples/json $(BIG_JSON)

# ---- Tests ---------------------------------------------------------------------------------------

# Each tests/test_NAME.c is a program, $(B)/tests/NAME.  Other files there are linked into every
# one, apart from plugins, which tests load at run time, soak.c, and auto.c, which a test runs, linked with
# the shared library before the C library, and after it.
TEST_NAMES   := $(patsubst tests/test_%.c,%,$(sort $(wildcard tests/test_*.c)))
TEST_PLUGINS := $(patsubst tests/%.c,$(B)/tests/%.so,$(sort $(wildcard tests/plugin*.c)))
TEST_SHARED  := $(filter-out tests/test_%.c tests/plugin%.c tests/auto.c tests/soak.c,\
                  $(sort $(wildcard tests/*.c)))
TEST_SHARED_OBJ := $(TEST_SHARED:%.c=$(B)/obj/%.o)
TEST_OBJ     := $(TEST_NAMES:%=$(B)/obj/tests/test_%.o) $(TEST_SHARED_OBJ)
TEST_BIN     := $(TEST_NAMES:%=$(B)/tests/%)
TEST_AUTO_OBJ := $(B)/obj/tests/auto.o

# The tests of a build with SANITIZE=1: not those that cancel threads or switch stacks, which leave
# poisoned stacks behind, nor those that limit the address space or step through instructions.
SANITIZE_TESTS := $(filter-out blocking fork stacks step threads,$(TEST_NAMES))
# Links the library as a user's C++ program does, without a sanitizer's run-time library.
CXX_TEST := $(if $(SANITIZE),,tests/cxx.sh)
SOAK_TEST := $(if $(SANITIZE),,tests/soak.sh)
# A debugger sees too much of a program with a sanitizer.
GDB_TEST := $(if $(SANITIZE),,tests/gdb.sh)
TESTS_TO_RUN := $(if $(SANITIZE),$(SANITIZE_TESTS),$(TEST_NAMES))

$(TEST_OBJ) $(TEST_AUTO_OBJ): $(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) -Itests $(CFLAGS) -MMD -MP -c $< -o $@

SOAK_OBJ := $(B)/obj/tests/soak.o
$(SOAK_OBJ): $(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) -Itests $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/tests/soak: $(SOAK_OBJ) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(TEST_BIN): $(B)/tests/%: $(B)/obj/tests/test_%.o $(TEST_SHARED_OBJ) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $(filter-out %.a,$^) $(STATIC_LIB) -lcmocka $(LDLIBS) -o $@
$(B)/tests/layer: $(BOEHM_OBJ)

$(TEST_PLUGINS): $(B)/tests/%.so: tests/%.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) -fPIC -shared -MMD -MP -MF $(B)/obj/tests/$*.d $< -o $@
$(TEST_PLUGINS): | $(B)/obj/tests
$(B)/obj/tests:
	@mkdir -p $@

$(B)/tests/auto: LIBRARIES := $(SHARED_LIB)
$(B)/tests/auto-late: LIBRARIES := -lc $(SHARED_LIB)
$(B)/tests/auto $(B)/tests/auto-late: $(TEST_AUTO_OBJ) $(B)/lib/libcairn.so
	@mkdir -p $(@D)
	$(CC) $(PROGFLAGS) $(CFLAGS) $(LDFLAGS) $< $(LIBRARIES) -Wl,-rpath,$(abspath $(B)/lib) -o $@

.PHONY: test tests run-test
test: deps
	+@$(MAKE) --no-print-directory run-test

tests: $(TEST_BIN) $(TEST_PLUGINS) $(B)/tests/auto $(B)/tests/auto-late $(B)/tests/soak

run-test: export CAIRN_TEST_SOAK := $(abspath $(B)/tests/soak)
run-test: export CAIRN_TEST_PLUGIN := $(abspath $(B)/tests/plugin.so)
run-test: export CAIRN_TEST_LIBRARY := $(abspath $(STATIC_LIB))
run-test: export CAIRN_TEST_SHARED := $(abspath $(SHARED_LIB))
run-test: export CAIRN_TEST_AUTO := $(abspath $(B)/tests/auto)
run-test: export CAIRN_TEST_AUTO_LATE := $(abspath $(B)/tests/auto-late)
run-test: export CAIRN_TEST_JSON := $(abspath $(B)/examples/json)
run-test: export CAIRN_TEST_CALC := $(abspath $(B)/examples/calc)
run-test: export CAIRN_TEST_JSON_GENERATE := $(abspath $(B)/examples/json-generate)
run-test: tests examples
	@bash tests/run.sh -j $(TEST_JOBS) $(TEST_OPTIONS) $(TESTS_TO_RUN:%=$(B)/tests/%) tests/json.sh \
	    tests/profile.sh $(CXX_TEST) $(GDB_TEST) $(SOAK_TEST)

# With ThreadSanitizer (SANITIZE=thread): the soak alone, its threads stopped at safepoints, as that
# sanitizer keeps signals back.
.PHONY: test-threads
test-threads: export CAIRN_TEST_SOAK := $(abspath $(B)/tests/soak)
test-threads: export SOAK_THREAD_SANITIZER := 1
test-threads: export SOAK_SECONDS := 24
test-threads: $(B)/tests/soak
	@bash tests/run.sh tests/soak.sh

# Checks by packages from the npm registry, which tests/npm.sh gets; where it can't they are left out
# with a message.  The snapshot is of a million objects: does memlab, which reads those of V8, find
# the leak in it?  And is the timeline what a viewer expects?
MEMLAB      := @memlab/core@2.0.5
TRACE_MODEL := @tracerbench/trace-model@8.0.0
with_npm     = @bash tests/npm.sh $(B)/npm/$(1) $(2); status=$$?; [ $$status != 77 ] || exit 0; \
               [ $$status = 0 ] || exit 1; export NODE_PATH=$(abspath $(B)/npm/$(1))/node_modules;

.PHONY: test-snapshot check-trace
test-snapshot: $(B)/examples/leak
	$(B)/examples/leak $(B)/leak.heapsnapshot 1020000
	$(call with_npm,memlab,$(MEMLAB)) node tests/snapshot.cjs $(B)/leak.heapsnapshot

check-trace: $(B)/examples/json $(BIG_JSON)
	$(call with_npm,trace-model,$(TRACE_MODEL)) bash tests/trace_model.sh \
	    $(abspath $(B)/examples/json) --count -q ..name $(abspath $(BIG_JSON))

# The protocols between threads, as models: needs spin.
.PHONY: models
models:
	@bash docs/models/check.sh

# Boehm's interface: the conformance tests, and programs from Debian.
ifeq ($(SANITIZE),)
include tests/boehm/boehm.mk
endif

# ---- Packages ------------------------------------------------------------------------------------

DEPS := binutils g++ gdb iso-codes libc6-dev libcmocka-dev libgc-dev liblzma-dev \
        libmimalloc-dev libunwind-dev make pkg-config protobuf-compiler python3 spin systemtap-sdt-dev
CC_COMMAND := $(firstword $(CC))
CC_PACKAGE := $(if $(filter cc,$(CC_COMMAND)),gcc,$(CC_COMMAND))

# Quick and silent when all is there.
.PHONY: deps
deps:
	@if ! command -v dpkg-query >/dev/null; then \
	    echo "This is not Debian.  Needed are: $(CC_PACKAGE) $(DEPS)" >&2; exit 0; \
	fi; \
	there=" $$(dpkg-query -W -f '$${db:Status-Status}:$${Package} ' $(DEPS) 2>/dev/null)"; \
	missing=; \
	for package in $(DEPS); do \
	    case "$$there" in *" installed:$$package "*) ;; *) missing="$$missing $$package";; esac; \
	done; \
	command -v $(CC_COMMAND) >/dev/null || missing=" $(CC_PACKAGE)$$missing"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then \
	    echo "Some packages are missing.  Install them with:" >&2; \
	    echo "    sudo apt-get install$$missing" >&2; exit 1; \
	fi; \
	echo "Installing:$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -q && apt-get install -q -y --no-install-recommends $$missing

# ---- Installing ----------------------------------------------------------------------------------

HEADERS := $(sort $(shell cd include && find cairn -name '*.h'))
DOCS    := README.md LICENSE $(sort $(wildcard docs/*.md))

TO_INCLUDE := $(DESTDIR)$(PREFIX)/include
TO_LIB     := $(DESTDIR)$(PREFIX)/lib
TO_DOC     := $(DESTDIR)$(PREFIX)/share/doc/cairn
TO_SHARE   := $(DESTDIR)$(PREFIX)/share/cairn

define PC_FILE
prefix=$(PREFIX)
includedir=$${prefix}/include
libdir=$${prefix}/lib

Name: cairn
Description: A garbage-collected heap for C programs
Version: $(VERSION)
Cflags: -I$${includedir}
Libs: -L$${libdir} -lcairn
Libs.private: -lpthread -ldl
Requires.private: libunwind
endef
export PC_FILE

.PHONY: install uninstall
install: libraries boehm
	@for header in $(HEADERS); do \
	    install -D -m 644 "include/$$header" "$(TO_INCLUDE)/$$header" || exit 1; \
	done
	install -D -m 644 $(STATIC_LIB) $(TO_LIB)/libcairn.a
	install -D -m 755 $(SHARED_LIB) $(TO_LIB)/libcairn.so.$(VERSION)
	ln -sf libcairn.so.$(VERSION) $(TO_LIB)/libcairn.so.$(SOVERSION)
	ln -sf libcairn.so.$(SOVERSION) $(TO_LIB)/libcairn.so
	install -D -m 755 -t $(TO_LIB)/cairn/boehm $(BOEHM_LIB) $(BOEHM_CPP_LIB)
	ln -sf libgc.so.1 $(TO_LIB)/cairn/boehm/libgc.so
	ln -sf libgccpp.so.1 $(TO_LIB)/cairn/boehm/libgccpp.so
	@mkdir -p $(TO_LIB)/pkgconfig
	@printf '%s\n' "$$PC_FILE" >$(TO_LIB)/pkgconfig/cairn.pc
	install -D -m 644 gc/gdb/cairn-gdb.py $(TO_SHARE)/cairn-gdb.py
	install -d $(TO_DOC)
	install -m 644 $(DOCS) $(TO_DOC)
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

uninstall:
	rm -f $(HEADERS:%=$(TO_INCLUDE)/%)
	rm -f $(TO_LIB)/libcairn.a $(TO_LIB)/libcairn.so $(TO_LIB)/libcairn.so.$(SOVERSION)
	rm -f $(TO_LIB)/libcairn.so.$(VERSION) $(TO_LIB)/pkgconfig/cairn.pc $(TO_SHARE)/cairn-gdb.py
	rm -f $(addprefix $(TO_LIB)/cairn/boehm/,libgc.so libgc.so.1 libgccpp.so libgccpp.so.1)
	rm -f $(addprefix $(TO_DOC)/,$(notdir $(DOCS)))
	@for dir in $(TO_DOC) $(TO_SHARE) $(TO_INCLUDE)/cairn $(TO_LIB)/cairn; do \
	    if [ -d $$dir ]; then find $$dir -depth -type d -empty -delete; fi; \
	done
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

# ---- Housekeeping --------------------------------------------------------------------------------

C_FILES = $(shell find bench examples gc include runtime tests -name '*.[ch]' | sort)

.PHONY: format format-check clean help
format:
	clang-format -i $(C_FILES)

format-check:
	clang-format --dry-run -Werror $(C_FILES)

clean:
	rm -rf $(B)

define HELP
make                 the libraries, the benchmark and the examples
make deps            install the Debian packages that are missing (root), or say which
make test            run all tests, as many programs at once as there are CPUs (TEST_JOBS);
                     TEST_OPTIONS=-v shows their output
make test-boehm      Boehm's interface, with Debian's library and with Cairn's
make test-clients    Guile, w3m and ECL with both: output, time, memory
make bench-boehm     the benchmark through Boehm's interface, beside the native calls
make test-threads    with SANITIZE=thread: the soak test under ThreadSanitizer
make test-snapshot   whether memlab (from npm) finds a leak in a heap snapshot
make check-trace     have a timeline read by a package of npm's
make models          check the models of the protocols between threads, in docs/models
make demo            the JSON example at work, on real files and on a large one
make bench           the benchmark, Cairn beside other allocators
make boehm           the library with Boehm's interface, libgc.so.1, in build/lib/boehm
make check-boehm-exports   see that it exports what Debian's does
make check-exports   see that the shared library exports gc_* and what it stands in for only
make install         to PREFIX ($(PREFIX)), below DESTDIR if that is set
make uninstall       the reverse
make format          clang-format on every C file; format-check only looks
make clean           remove $(B)

CC=clang  CFLAGS=-O3  B=build-clang   another compiler, flags, directory for what is built
SANITIZE=1                            with AddressSanitizer and UndefinedBehaviorSanitizer
endef
export HELP

help:
	@printf '%s\n' "$$HELP"

# Two of these in one command must not compile the same files at the same time.
ifneq ($(filter demo test,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

-include $(OBJ:.o=.d) $(INTERPOSE_OBJ:.o=.d) $(JSON_OBJ:.o=.d) $(GENERATE_OBJ:.o=.d) $(CALC_OBJ:.o=.d) $(LEAK_OBJ:.o=.d)
-include $(TEST_OBJ:.o=.d) $(TEST_AUTO_OBJ:.o=.d)
-include $(SOAK_OBJ:.o=.d) $(BOEHM_OBJ:.o=.d)
-include $(TEST_PLUGINS:$(B)/tests/%.so=$(B)/obj/tests/%.d)
