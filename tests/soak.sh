#!/bin/bash
# Runs the soak test for SOAK_SECONDS (10) in all, shared out among settings of the heap: every
# barrier, one to four threads that mark, with and without the checks of every collection, threads
# stopped by the signal and at safepoints.  CAIRN_TEST_SOAK names the program, CAIRN_TEST_PLUGIN its
# plugin.  A run that fails is shown; it names its seed, SOAK_SEED sets that for all runs.  With
# SOAK_THREAD_SANITIZER=1 the program was built with ThreadSanitizer, and there are fewer settings.
set -u
. "$(dirname "$0")/report.sh"

soak=${CAIRN_TEST_SOAK:-build/tests/soak}
total=${SOAK_SECONDS:-10}
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

# Settings of the caller's would be the same in all runs.
for name in $(compgen -e CAIRN_); do
    case $name in CAIRN_TEST_*) ;; *) unset "$name" ;; esac
done
export CAIRN_POISON=1

# NAME SETTING...
runs=(
    "uffd CAIRN_BARRIER=uffd CAIRN_WORKERS=2"
    "mprotect CAIRN_BARRIER=mprotect CAIRN_WORKERS=4"
    "none CAIRN_BARRIER=none CAIRN_WORKERS=1"
    "cross CAIRN_BARRIER=cross CAIRN_WORKERS=2"
    "uffd_verified CAIRN_BARRIER=uffd CAIRN_WORKERS=1 CAIRN_VERIFY=1 CAIRN_STRESS=20"
    "mprotect_verified CAIRN_BARRIER=mprotect CAIRN_WORKERS=2 CAIRN_VERIFY=1 CAIRN_STRESS=50"
    "none_verified CAIRN_BARRIER=none CAIRN_WORKERS=4 CAIRN_VERIFY=1 CAIRN_STRESS=100"
    "cross_verified CAIRN_BARRIER=cross CAIRN_WORKERS=4 CAIRN_VERIFY=1 CAIRN_STRESS=50"
    "safepoints CAIRN_STOP=safepoint CAIRN_WORKERS=2"
    "attached_by_use CAIRN_ATTACH=auto CAIRN_WORKERS=2"
)
# Signals are delayed under ThreadSanitizer, so threads are stopped at safepoints; its shadow needs
# most of the address space; and page faults tell it nothing.  There are no suppressions: a report
# that is suppressed takes the loader's lock all the same, and waits for who collects with it.
if [ "${SOAK_THREAD_SANITIZER-}" = 1 ]; then
    export CAIRN_STOP=safepoint CAIRN_HEAP_RESERVE=4G CAIRN_BARRIER=none
    export TSAN_OPTIONS="history_size=4 ${TSAN_OPTIONS-}"
    runs=("one_marks CAIRN_WORKERS=1" "two_mark CAIRN_WORKERS=2" "four_mark CAIRN_WORKERS=4"
        "stress CAIRN_WORKERS=2 CAIRN_STRESS=20")
fi

seconds=$(((total + ${#runs[@]} - 1) / ${#runs[@]}))
echo "[==========] Running ${#runs[@]} test(s)."
for run in "${runs[@]}"; do
    read -r -a words <<<"$run"
    name=soak_${words[0]}
    # Time for what deadlocks to notice it itself.
    timeout -k 10 $((seconds + 150)) env "${words[@]:1}" "$soak" --seconds "$seconds" \
        ${SOAK_SEED:+--seed "$SOAK_SEED"} >"$output" 2>&1 </dev/null
    status=$?
    echo "$name: ${words[*]:1}: $(head -n 1 "$output"), $(grep -a ' actions in ' "$output")"
    if [ $status = 0 ]; then
        report "$name" true
    else
        cat "$output"
        echo "exit status $status"
        report "$name" false
    fi
done
finish
