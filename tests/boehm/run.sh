#!/bin/bash
# Runs the tests of Boehm's interface with Debian's libgc and with Cairn's, and compares.
#
#     tests/boehm/run.sh PROGRAMS [LIBRARIES]
#
# PROGRAMS/HEADERS/NAME are cmocka programs, compiled with the headers of "debian" or of "cairn".
# LIBRARIES is where Cairn's libgc.so.1 is; without it only Debian's is run.  A test that doesn't
# pass with a library is a failure unless differences.txt beside this script says "LIBRARY TEST
# RESULT reason"; a line there that isn't so any more is told.  BOEHM_TESTS: only the programs of
# these names.
set -u

programs=$1
libraries=${2-}
here=$(dirname "$0")
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

# One line a test: LIBRARY NAME RESULT HEADERS.  Shows what a program said about a failure.
run_program() { # headers library program
    local name output status seconds began
    name=$(basename "$3")
    output=$scratch/$1-$2-$name
    began=$(date +%s%N)
    if [ "$2" = cairn ]; then
        LD_LIBRARY_PATH=$libraries timeout -k 5 "${TEST_TIMEOUT:-1800}" "$3" >"$output" 2>&1 </dev/null
    else
        timeout -k 5 "${TEST_TIMEOUT:-1800}" "$3" >"$output" 2>&1 </dev/null
    fi
    status=$?
    # cmocka prints its marks in the midst of what a test prints without a newline.
    sed -nE "s/.*\[ +(OK|FAILED|SKIPPED) +\] ([a-z0-9_]+)\$/$2 $name.\2 \1 $1/p" "$output" |
        awk '!seen[$2]++' >"$output.results"
    local ran
    ran=$(sed -nE 's/^\[=+\] (.*: )?Running ([0-9]+) test\(s\).*/\2/p' "$output")
    if [ "$(wc -l <"$output.results")" != "${ran:-none}" ] || [ "$status" -gt 123 ]; then
        echo "$2 $name.whole_program FAILED $1" >>"$output.results"
        echo "(it ended with status $status, $(wc -l <"$output.results") of ${ran:-no} tests)" >>"$output"
    fi
    seconds=$((($(date +%s%N) - began) / 10000000))
    printf '%-7s headers, %-7s library: %-14s %3d tests, %d.%02d s\n' "$1" "$2" "$name" \
        "$(wc -l <"$output.results")" $((seconds / 100)) $((seconds % 100))
}

which_libraries=debian
[ -z "$libraries" ] || which_libraries="debian cairn"
for headers in debian cairn; do
    [ -d "$programs/$headers" ] || continue
    for library in $which_libraries; do
        for program in "$programs/$headers"/*; do
            case $program in *.so | *.d) continue ;; esac
            name=$(basename "$program")
            [ -z "${BOEHM_TESTS-}" ] || case " $BOEHM_TESTS " in *" $name "*) ;; *) continue ;; esac
            run_program "$headers" "$library" "$program"
        done
    done
done

cat "$scratch"/*.results >"$scratch/all"
# What was expected and what came, compared; programs with failures nobody expected.
awk -v libraries="$which_libraries" '
    FNR == NR {
        if ($0 ~ /^#/ || NF == 0) next
        expected[$1 " " $2] = $3
        next
    }
    {
        key = $1 " " $2
        ran[key] = 1
        if ($3 == "OK") good++
        if ($3 != "OK") not_ok[key] = 1
        if ($3 == "SKIPPED") skipped++
        want = key in expected ? expected[key] : "OK"
        if ($3 == want) next
        if ($3 == "OK" || want == "EITHER") next
        print "not as documented: " $2 " with " $1 "'"'"'s library and " $4 "'"'"'s headers: " $3
        split($2, part, ".")
        print $4 "-" $1 "-" part[1] >"'"$scratch"'/bad"
        bad++
    }
    END {
        for (key in expected)
            if (key in ran && !(key in not_ok) && expected[key] != "EITHER")
                print "documented as different, but passes: " key
        listed = 0
        for (key in not_ok) if (key in expected) listed++
        printf "%d passed, %d failed, %d skipped; %d documented differences\n", good, bad,
            skipped, listed
        exit bad > 0 || good == 0
    }' "$here/differences.txt" "$scratch/all"
status=$?
if [ -f "$scratch/bad" ]; then
    sort -u "$scratch/bad" | while read -r output; do
        printf -- '---- %s (headers, library, program)\n' "$output"
        awk '/\[ RUN/ { text = "" } { text = text $0 "\n" } /\[  FAILED  \] [a-z0-9_]+$/ { printf "%s", text; text = "" } END { if (text ~ /status/) printf "%s", text }' \
            "$scratch/$output" | cut -c1-300 | head -${BOEHM_LINES:-60}
    done
fi
exit $status
