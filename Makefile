CFLAGS ?= -O2 -g
CC ?= gcc
B := build
WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla
LIBFLAGS := -std=gnu11 $(WARN) -Iinclude -I. -fvisibility=hidden -fPIC -DGC_BUILDING_LIBRARY -fno-strict-aliasing
SRC := $(wildcard gc/*.c runtime/*.c)
OBJ := $(SRC:%.c=$(B)/obj/%.o)
all: $(B)/lib/libcairn.a
$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(LIBFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(B)/lib/libcairn.a: $(OBJ)
	@mkdir -p $(@D)
	rm -f $@
	ar rcs $@ $(OBJ)
-include $(OBJ:.o=.d)
