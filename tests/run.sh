#!/bin/bash
# Runs test programs and counts their tests.
#
#     tests/run.sh [-v] [-j N] PROGRAM...
#
# A program is a cmocka program, or anything that prints cmocka's closing lines.  With -j N up to N
# run at once; what they say is shown in the order of the arguments.  A program's output is shown
# when a test of it failed, or always with -v.  A program that crashes, takes longer than
# TEST_TIMEOUT seconds (1800), or ends otherwise than its closing lines say counts as one more
# failure.  The last line is "N passed, N failed"; the exit status is 0 only if tests ran and none
# failed.
set -u

verbose=false at_once=1
while :; do
    case ${1-} in
    -v) verbose=true ;;
    -j) at_once=$2 && shift ;;
    -j*) at_once=${1#-j} ;;
    *) break ;;
    esac
    shift
done

outputs=$(mktemp -d) || exit 1
trap 'rm -rf "$outputs"' EXIT

# The sum of the numbers in the closing lines "[  WORD  ] 3 test(s)".
count() {
    sed -nE "s/^\[ +$1 +\] (.*: )?([0-9]+) test\(s\).*/\2/p" "$output" |
        awk '{ sum += $1 } END { print sum + 0 }'
}

# run NUMBER PROGRAM: the output goes to NUMBER, then status and milliseconds to NUMBER.end.
run() {
    local began shell=
    began=$(date +%s%N)
    [ "${2%.sh}" = "$2" ] || shell=bash
    timeout -k 10 "${TEST_TIMEOUT:-1800}" $shell "$2" >"$outputs/$1" 2>&1 </dev/null
    echo $? $((($(date +%s%N) - began) / 1000000)) >"$outputs/$1.new"
    mv "$outputs/$1.new" "$outputs/$1.end"
}

passed=0 failed=0 skipped=0

# report NUMBER PROGRAM, which has ended.
report() {
    local output=$outputs/$1 program=$2 name status ms good bad left ran trouble= note=
    name=$(basename "$program")
    read -r status ms <"$output.end"
    good=$(count PASSED) bad=$(count FAILED) left=$(count SKIPPED)
    ran=$(sed -nE 's/^\[=+\] (.*: )?Running ([0-9]+) test\(s\).*/\2/p' "$output" |
        awk '{ sum += $1 } END { print sum + 0 }')

    # What the closing lines don't tell.
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then
        trouble="it took longer than ${TEST_TIMEOUT:-1800} s"
    elif [ "$status" -gt 128 ]; then
        trouble="it died of signal $((status - 128))"
    elif [ "$status" != 0 ] && [ "$bad" = 0 ]; then
        trouble="its exit status is $status"
    elif [ "$status" = 0 ] && [ "$bad" != 0 ]; then
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
    [ "$left" = 0 ] || note=", $left skipped"
    printf '%-24s %3d passed, %d failed%s (%d.%03d s)\n' "$name" "$good" "$bad" "$note" \
        $((ms / 1000)) $((ms % 1000))
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
    rm -f "$output"
}

programs=("$@") reported=0 running=0
# Reports of those that have ended, up to the first that hasn't.
report_ended() {
    while [ -e "$outputs/$reported.end" ]; do
        report "$reported" "${programs[$reported]}"
        reported=$((reported + 1))
    done
}
for number in "${!programs[@]}"; do
    if [ "$running" -ge "$at_once" ]; then
        wait -n
        running=$((running - 1))
    fi
    report_ended
    run "$number" "${programs[$number]}" &
    running=$((running + 1))
done
wait
report_ended

[ $skipped = 0 ] || echo "($skipped skipped)"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ] && [ $reported = ${#programs[@]} ]
