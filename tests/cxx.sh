#!/bin/bash
# Compiles tests/cxx.cc against the static library with each C++ compiler that is there and runs it.
# CAIRN_TEST_LIBRARY names the library.  The output has the form of a cmocka program's, so that
# tests/run.sh counts both alike.
set -u
unset CAIRN_LOG CAIRN_STRESS CAIRN_HEAP_LIMIT

library=${CAIRN_TEST_LIBRARY:-build/lib/libcairn.a}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT

passed=0 failures=() skipped=()

# report NAME GOOD: GOOD is "true" or anything else.
report() {
    if [ "$2" = true ]; then
        passed=$((passed + 1))
        echo "[       OK ] $1"
    else
        failures+=("$1")
        echo "[  FAILED  ] $1"
    fi
}

tests=(the_header_compiles_as_cxx a_chain_of_objects_survives a_frame_ends_with_an_exception all_calls_link)
compilers=(g++ clang++)
echo "[==========] cxx: Running $((${#tests[@]} * ${#compilers[@]})) test(s)."
for compiler in "${compilers[@]}"; do
    if ! command -v "$compiler" >/dev/null; then
        for test in "${tests[@]}"; do
            skipped+=("$test/$compiler")
            echo "[  SKIPPED ] $test/$compiler"
        done
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

echo "[==========] cxx: $((passed + ${#failures[@]} + ${#skipped[@]})) test(s) run."
echo "[  PASSED  ] $passed test(s)."
if [ ${#skipped[@]} != 0 ]; then echo "[  SKIPPED ] cxx: ${#skipped[@]} test(s), listed below:"; fi
if [ ${#failures[@]} != 0 ]; then
    echo "[  FAILED  ] ${#failures[@]} test(s), listed below:"
    printf '[  FAILED  ] %s\n' "${failures[@]}"
    exit 1
fi
