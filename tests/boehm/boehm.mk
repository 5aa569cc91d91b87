# The tests of Boehm's interface and what compares the two libraries: docs/boehm-tests.md.
#
# Included by the top Makefile.  Each tests/boehm/test_NAME.c is compiled twice, with Debian's headers
# (build/tests/boehm/debian/NAME) and with Cairn's (.../cairn/NAME), and each is run with both
# libraries.  Without Cairn's headers and library there is Debian's half only.

BOEHM_INCLUDE := /usr/include/gc
BOEHM_NAMES   := $(patsubst tests/boehm/test_%.c,%,$(sort $(wildcard tests/boehm/test_*.c)))
BOEHM_SIDES   := debian $(if $(wildcard include/cairn/boehm/gc.h),cairn)
BOEHM_LIB_DIR := $(B)/lib/boehm
BOEHM_FLAGS   := $(WARN) -Itests -Itests/boehm -I. -pthread
BOEHM_OBJECTS :=

BOEHM_HEADERS_debian := -isystem $(BOEHM_INCLUDE)
BOEHM_LIBGC_debian   := -lgc
BOEHM_LIBCPP_debian  := -lgccpp
BOEHM_HEADERS_cairn  := -Iinclude/cairn/boehm
BOEHM_LIBGC_cairn    := $(BOEHM_LIB_DIR)/libgc.so.1
BOEHM_LIBCPP_cairn   := $(BOEHM_LIB_DIR)/libgccpp.so.1
BOEHM_NEEDS_cairn    := $(BOEHM_LIBGC_cairn) $(BOEHM_LIBCPP_cairn)

# $(1): the side whose headers these are.
define BOEHM_RULES
BOEHM_OBJ_$(1) := $$(BOEHM_NAMES:%=$$(B)/obj/tests/boehm/$(1)/test_%.o) \
    $$(B)/obj/tests/boehm/$(1)/support.o
BOEHM_CPP_$(1) := $$(B)/obj/tests/boehm/$(1)/cpp.o
BOEHM_OBJECTS += $$(BOEHM_OBJ_$(1)) $$(BOEHM_CPP_$(1))
$$(BOEHM_OBJ_$(1)): $$(B)/obj/tests/boehm/$(1)/%.o: tests/boehm/%.c $$(B)/flags
	@mkdir -p $$(@D)
	$$(CC) -std=gnu11 $$(BOEHM_FLAGS) $$(BOEHM_HEADERS_$(1)) $$(CFLAGS) -MMD -MP -c $$< -o $$@
$$(BOEHM_CPP_$(1)): tests/boehm/cpp.cc $$(B)/flags
	@mkdir -p $$(@D)
	$$(BOEHM_CXX) -std=gnu++17 -Wall -Wextra -Itests -Itests/boehm $$(BOEHM_HEADERS_$(1)) \
	    $$(CFLAGS) -MMD -MP -c $$< -o $$@
$$(B)/tests/boehm/$(1)/cpp: $$(BOEHM_CPP_$(1))
$$(B)/tests/boehm/$(1)/%: $$(B)/obj/tests/boehm/$(1)/test_%.o \
        $$(B)/obj/tests/boehm/$(1)/support.o $$(B)/obj/tests/child.o | $$(BOEHM_NEEDS_$(1))
	@mkdir -p $$(@D)
	$$(BOEHM_LINK) $$(CFLAGS) $$(LDFLAGS) -rdynamic -pthread $$(filter %.o,$$^) \
	    $$(if $$(findstring /cpp,$$@),$$(BOEHM_LIBCPP_$(1))) $$(BOEHM_LIBGC_$(1)) \
	    -lcmocka -ldl -o $$@
BOEHM_PROGRAMS += $$(BOEHM_NAMES:%=$$(B)/tests/boehm/$(1)/%)
endef
BOEHM_CXX = $(if $(findstring clang,$(CC)),clang++,g++)
BOEHM_LINK = $(if $(findstring /cpp,$@),$(BOEHM_CXX),$(CC))
$(foreach side,$(BOEHM_SIDES),$(eval $(call BOEHM_RULES,$(side))))
.SECONDARY: $(BOEHM_OBJECTS)

BOEHM_PLUGIN := $(B)/tests/boehm/plugin.so
$(BOEHM_PLUGIN): tests/boehm/plugin.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(BOEHM_FLAGS) $(CFLAGS) $(LDFLAGS) -fPIC -shared $< -o $@

.PHONY: test-boehm
test-boehm: export CAIRN_TEST_BOEHM_PLUGIN := $(abspath $(BOEHM_PLUGIN))
test-boehm: $(BOEHM_PROGRAMS) $(BOEHM_PLUGIN)
	@bash tests/boehm/run.sh $(B)/tests/boehm $(if $(filter cairn,$(BOEHM_SIDES)),$(BOEHM_LIB_DIR))

-include $(BOEHM_OBJECTS:.o=.d)

# ---- Programs from Debian ------------------------------------------------------------------------

# Against Debian's own library with CLIENTS_LIBRARY=debian: the noise.
CLIENTS_PACKAGES := ecl guile-3.0 w3m
CLIENTS_LIBRARY  := $(if $(filter cairn,$(BOEHM_SIDES)),$(BOEHM_LIB_DIR),debian)
CLIENTS_SCRATCH  := $(B)/clients

$(CLIENTS_SCRATCH)/measure: tests/clients/measure.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(CFLAGS) $(LDFLAGS) $< -o $@

.PHONY: test-clients run-test-clients
test-clients:
	+@$(MAKE) --no-print-directory deps DEPS="$(DEPS) $(CLIENTS_PACKAGES)"
	+@$(MAKE) --no-print-directory run-test-clients

run-test-clients: $(CLIENTS_SCRATCH)/measure $(if $(filter debian,$(CLIENTS_LIBRARY)),,$(BOEHM_NEEDS_cairn))
	@bash tests/clients.sh $(CLIENTS_SCRATCH) $(CLIENTS_LIBRARY)
