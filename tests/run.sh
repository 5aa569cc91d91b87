#!/bin/bash
# Runs test programs and counts their tests.
#
#     tests/run.sh [-v] PROGRAM...
#
# A program is a cmocka program, or anything that prints cmocka's closing lines.  Its output is
# shown when a test of it failed, or always with -v.  A program that crashes, takes longer than
# TEST_TIMEOUT seconds (600), or ends otherwise than its closing lines say counts as one more
# failure.  The last line is "N passed, N failed"; the exit status is 0 only if tests ran and none
# failed.
set -u

verbose=false
if [ "${1-}" = -v ]; then
    verbose=true
    shift
fi

output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

# The sum of the numbers in the closing lines "[  WORD  ] 3 test(s)".
count() {
    sed -nE "s/^\[ +$1 +\] (.*: )?([0-9]+) test\(s\).*/\2/p" "$output" |
        awk '{ sum += $1 } END { print sum + 0 }'
}

passed=0 failed=0 skipped=0
for program in "$@"; do
    name=$(basename "$program")
    began=$(date +%s%N)
    if [ "${program%.sh}" != "$program" ]; then
        timeout -k 10 "${TEST_TIMEOUT:-600}" bash "$program" >"$output" 2>&1 </dev/null
    else
        timeout -k 10 "${TEST_TIMEOUT:-600}" "$program" >"$output" 2>&1 </dev/null
    fi
    status=$?
    ms=$((($(date +%s%N) - began) / 1000000))
    good=$(count PASSED) bad=$(count FAILED) left=$(count SKIPPED)
    ran=$(sed -nE 's/^\[=+\] (.*: )?Running ([0-9]+) test\(s\).*/\2/p' "$output" |
        awk '{ sum += $1 } END { print sum + 0 }')

    # What the closing lines don't tell.
    trouble=
    if [ $status = 124 ] || [ $status = 137 ]; then
        trouble="it took longer than ${TEST_TIMEOUT:-600} s"
    elif [ $status -gt 128 ]; then
        trouble="it died of signal $((status - 128))"
    elif [ $status != 0 ] && [ "$bad" = 0 ]; then
        trouble="its exit status is $status"
    elif [ $status = 0 ] && [ "$bad" != 0 ]; then
        trouble="its exit status is 0 although tests failed"
    elif [ $((good + bad + left)) -lt "$ran" ]; then
        trouble="it ended after $((good + bad + left)) of $ran tests"
    elif [ "$ran" = 0 ]; then
        trouble="it ran no tests"
    fi
    [ -z "$trouble" ] || bad=$((bad + 1))

    if $verbose || [ "$bad" != 0 ]; then
        printf -- '---- %s\n' "$program"
        cat "$output"
        [ -z "$trouble" ] || echo "$name: $trouble"
        printf -- '----\n'
    fi
    note=
    [ "$left" = 0 ] || note=", $left skipped"
    printf '%-24s %3d passed, %d failed%s (%d.%03d s)\n' "$name" "$good" "$bad" "$note" \
        $((ms / 1000)) $((ms % 1000))
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
done

[ $skipped = 0 ] || echo "($skipped skipped)"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
