#!/bin/bash
# Compiles tests/cxx.cc against the static library with each C++ compiler that is there and runs it.
# CAIRN_TEST_LIBRARY names the library.
set -u
. "$(dirname "$0")/report.sh"
unset CAIRN_LOG CAIRN_STRESS CAIRN_HEAP_LIMIT

library=${CAIRN_TEST_LIBRARY:-build/lib/libcairn.a}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT

tests=(the_header_compiles_as_cxx a_chain_of_objects_survives a_frame_ends_with_an_exception all_calls_link)
compilers=(g++ clang++)
echo "[==========] cxx: Running $((${#tests[@]} * ${#compilers[@]})) test(s)."
for compiler in "${compilers[@]}"; do
    if ! command -v "$compiler" >/dev/null; then
        skip "${tests[@]/%//$compiler}"
        continue
    fi
    good=false
    "$compiler" -std=c++17 -O2 -Wall -Wextra -Werror -I"$root/include" \
        "$root/tests/cxx.cc" "$library" -lunwind -lpthread -ldl -o "$directory/cxx" && good=true
    report "the_header_compiles_as_cxx/$compiler" $good
    : >"$directory/output"
    [ $good = false ] || "$directory/cxx" >"$directory/output"
    for test in "${tests[@]:1}"; do
        report "$test/$compiler" "$(sed -n "s/^$test //p" "$directory/output")"
    done
done

finish
