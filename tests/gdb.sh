#!/bin/bash
# Runs gc/gdb/cairn-gdb.py in GDB, on a small program that is stopped in the middle and on core
# dumps of it.  CAIRN_TEST_LIBRARY names the library.  Everything is skipped where there is no GDB
# that can run a program.
set -u
. "$(dirname "$0")/report.sh"
library=${CAIRN_TEST_LIBRARY:-build/lib/libcairn.a}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
library=$(realpath "$library")
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT

for name in $(compgen -e CAIRN_); do
    case $name in CAIRN_TEST_*) ;; *) unset "$name" ;; esac
done

cat >"$directory/debuggee.c" <<'END'
#include <pthread.h>
#include <stdlib.h>
#include "cairn/embed.h"
#include "cairn/finalize.h"

struct node { struct node *left; long number; struct node *right; };
GC_TYPE(struct node, left, right);

struct node *volatile kept;                 /* a static variable */
void *addresses[7];                         /* of malloc's, in disguise: what the test asks about */
void **slots;

static void nothing(void *p, void *data) { }

static volatile int started;
static void *other(void *p) { for (;;) { gc_safepoint(); started = 1; } return p; }

__attribute__((noinline)) void stop_here(void) { __asm__ volatile(""); }

__attribute__((noinline)) static void drop_finalized(void *data) {
    struct node *finalized = gc_new(struct node);
    gc_finalizer_set(finalized, nothing, data, GC_UNORDERED);
    addresses[6] = (void *)~(unsigned long)finalized;
}

__attribute__((noinline)) static void clear(void) {
    volatile char stack[8192];
    for (unsigned i = 0; i < sizeof stack; i++) stack[i] = 0;
}

__attribute__((noinline)) static void hold(void) {
    struct node *root = gc_new(struct node), *leaf = gc_new(struct node);
    root->right = leaf;
    kept = root;
    void **plain = gc_alloc(48);
    plain[2] = leaf;
    slots[0] = plain;
    char *big = gc_alloc_leaf(100000);
    slots[1] = big;
    slots[3] = gc_ephemeron_new(leaf, gc_new(struct node));
    void **large = gc_alloc(60000);
    large[60000 / sizeof *large - 1] = gc_ephemeron_value(slots[3]);
    slots[4] = large;
    drop_finalized(plain);
    clear();
    gc_pin(plain);
    gc_collect(GC_FULL);
    addresses[0] = (void *)~(unsigned long)kept;
    addresses[1] = (void *)~(unsigned long)kept->right;
    addresses[2] = (void *)~(unsigned long)slots[0];
    addresses[3] = (void *)~((unsigned long)slots[1] + 70000);
    addresses[4] = (void *)~(unsigned long)gc_alloc_array(gc_type_of(kept), 5);
    slots[2] = (void *)~(unsigned long)addresses[4];
    addresses[5] = (void *)~(unsigned long)large[60000 / sizeof *large - 1];
}

int main(int argc, char **argv) {
    pthread_t thread;
    (void)argv;
    slots = calloc(8, sizeof *slots);
    gc_add_slots(slots, 8);
    gc_alloc(1);
    gc_pthread_create(&thread, NULL, other, NULL);
    while (!started) ;
    hold();
    stop_here();
    if (argc > 1) abort();
    return 0;
}
END

tests=(the_state_of_the_heap_is_printed threads_are_listed objects_are_described holders_are_found
    wrong_addresses_are_refused a_core_dump_without_the_heap_says_so
    a_core_dump_with_the_heap_is_read objects_beside_guard_pages_are_found
    a_program_that_is_not_started_has_no_heap)

# run NAME GDB-ARGUMENT...: what GDB prints goes to $directory/NAME.
run() {
    local name=$1
    shift
    gdb -nx -batch -q -ex "set debuginfod enabled off" -ex "set pagination off" "$@" \
        >"$directory/$name" 2>&1 </dev/null
}

# check NAME TEST PATTERN...: the output NAME has all the patterns.
check() {
    local output=$directory/$1 name=$2 good=true
    shift 2
    for pattern in "$@"; do
        if ! grep -qE -- "$pattern" "$output"; then
            good=false
            echo "no line matches: $pattern"
        fi
    done
    $good || cat "$output"
    report "$name" $good
}

skip_all() {
    echo "$1: the tests of the GDB script are skipped"
    skip "${tests[@]}"
    finish
}

echo "[==========] Running ${#tests[@]} test(s)."
command -v gdb >/dev/null || skip_all "there is no gdb"
run python -ex "python print(6 * 7)"
grep -qx 42 "$directory/python" || skip_all "this gdb has no Python"

readelf -S "$library" | grep -q debug_info || skip_all "the library has no debugging information"

compiler=${CC:-gcc}
# CC may be several words.
# shellcheck disable=SC2086
$compiler -O1 -g -I"$root/include" "$directory/debuggee.c" "$library" -lunwind -lpthread -ldl \
    -o "$directory/debuggee" || { report compile false; finish; }

script=$root/gc/gdb/cairn-gdb.py
commands=(-x "$script" -ex "cairn heap" -ex "cairn threads")
for i in 0 1 2 3 4; do
    commands+=(-ex "echo [object $i]\\n" -ex "cairn object ~(unsigned long)addresses[$i]")
done
commands+=(-ex "echo [holders]\\n" -ex "cairn holders ~(unsigned long)addresses[1]"
    -ex "echo [root]\\n" -ex "cairn holders ~(unsigned long)addresses[0]"
    -ex "echo [slot]\\n" -ex "cairn holders ~(unsigned long)addresses[2]"
    -ex "echo [value]\\n" -ex "cairn holders ~(unsigned long)addresses[5]"
    -ex "echo [finalized]\\n" -ex "cairn holders ~(unsigned long)addresses[6]"
    -ex "cairn object ~(unsigned long)addresses[6]")

run live -ex "handle SIG59 nostop noprint pass" -ex "break stop_here" -ex run "${commands[@]}" \
    -ex "cairn object 16" -ex "cairn object" -ex kill "$directory/debuggee"
grep -q "hit Breakpoint 1\|Breakpoint 1, stop_here" "$directory/live" || {
    cat "$directory/live"
    skip_all "gdb can't run a program here"
}
check live the_state_of_the_heap_is_printed "^heap at 0x.*blocks of 64 KiB" \
    "large, leaf .* blocks" "bump, typed .* blocks" "^collections: 1 \(0 minor, 1 full\)" \
    "^types: 2, "
check live threads_are_listed "^thread 1 \(LWP [0-9]+\): running; stack \[0x" \
    "^thread [23] \(LWP [0-9]+\): "
check live objects_are_described "^0x[0-9a-f]+, struct node, 32 bytes" \
    "^0x[0-9a-f]+, ambiguous, 48 bytes" "state: old, pinned" "^0x[0-9a-f]+, leaf, 102400 bytes" \
    "kind: leaf, large" "the address is 70000 bytes into it" "struct node\[\], 128 bytes" \
    "state: young"
check live holders_are_found ": 0x[0-9a-f]+, struct node, 32 bytes, field right at \+16" \
    ": 0x[0-9a-f]+, ambiguous, 48 bytes, word at \+16" ": static variable kept" \
    ": slots at 0x" ": 0x[0-9a-f]+, gc_ephemeron, 32 bytes, key of entry 0, weak" \
    ": 0x[0-9a-f]+, gc_ephemeron, 32 bytes, value of entry 0, kept by its key" \
    ": 0x[0-9a-f]+, ambiguous, 61440 bytes, word at \+59992" ": waits for its finalizer" \
    ": data of the finalizer of 0x" "state: old, hashed or watched"
check live wrong_addresses_are_refused "0x10 is not in the heap, which is" "expected an address"

# GDB's own core files leave out what the kernel would.
run core -ex "handle SIG59 nostop noprint pass" -ex "break stop_here" -ex run \
    -ex "set use-coredump-filter on" -ex "set dump-excluded-mappings off" \
    -ex "gcore $directory/core.1" -ex kill "$directory/debuggee"
run without "${commands[@]}" "$directory/debuggee" "$directory/core.1"
check without a_core_dump_without_the_heap_says_so "the program ran with CAIRN_DUMP_HEAP=1"
run core2 -ex "set environment CAIRN_DUMP_HEAP=1" -ex "handle SIG59 nostop noprint pass" \
    -ex "break stop_here" -ex run -ex "gcore $directory/core.2" -ex kill "$directory/debuggee"
run with "${commands[@]}" "$directory/debuggee" "$directory/core.2"
check with a_core_dump_with_the_heap_is_read "^heap at 0x.*blocks of 64 KiB" \
    "struct node, 32 bytes" ": static variable kept" "field right at \+16" ": slots at 0x"

run guard -ex "set environment CAIRN_POISON=guard" -ex "handle SIG59 nostop noprint pass" \
    -ex "break stop_here" -ex run "${commands[@]}" -ex kill "$directory/debuggee"
check guard objects_beside_guard_pages_are_found "^0x[0-9a-f]+, leaf, 100000 bytes" \
    "the address is 70000 bytes into it" ": 0x[0-9a-f]+, ambiguous, 60000 bytes, word at \+59992"

run none -x "$script" -ex "cairn heap" "$directory/debuggee"
check none a_program_that_is_not_started_has_no_heap "there is no heap yet|no heap of Cairn's"
finish
