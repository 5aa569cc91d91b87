#!/usr/bin/env bash
# Checks the models of this directory with spin: each model must hold, searched to the end, and each
# of its broken variants (every BROKEN_... that its text names) must be caught.  A line for each
# run: model, variant, states, depth, seconds, unreached statements, what was found.  Exit status 0
# if all is as expected.  JOBS=n runs n at a time (2).  Any arguments name the models to check.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "check.sh: $tool is needed and not installed (Debian: apt-get install $tool)" >&2
        exit 2
    fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

memory=4000   # MB for one search
seconds=1800  # for one search, on a slow machine
safety=-DSAFETY
liveness='-DNP -DNFAIR=3' # a cycle without progress, under weak fairness

# All runs, longest first: model|what|options of the model|of the verifier's build|of its run|holds
list_holding() {
    cat <<END
stop|3 mutators|-DMUTATORS=3 -DOPERATIONS=1 -DNO_FAULTS -DNO_ATTACHING -DNO_SPURIOUS|$safety -DCOLLAPSE|-m10000
alloc|2 mutators||$safety|-m5000000
crew|3 workers, 1 round|-DWORKERS=3 -DROUNDS=1|$safety|-m10000
stop|2 mutators, stops end|-DOPERATIONS=2|$liveness|-m10000 -l -f
crew|2 workers, rounds end||$liveness|-m10000 -l -f
stop|2 mutators||$safety|-m200000
crew|2 workers||$safety|-m10000
fork|fork||$safety|-m50000
fork|fork and _Fork|-DFORKS_RAW|$safety|-m50000
fork|loading|-DLOADS|$safety|-m50000
END
}

list_broken() {
    local file model variant options
    for file in "$here"/*.pml; do
        model=$(basename "$file" .pml)
        grep -o 'BROKEN_[A-Z_]*' "$file" | sort -u | while read -r variant; do
            options=-D$variant
            case $model/$variant in
            fork/BROKEN_NOTICE_*) options+=' -DFORKS_RAW' ;;
            fork/BROKEN_LOADER_LAST) options+=' -DLOADS' ;;
            esac
            echo "$model|$variant|$options|$safety|-m200000"
        done
    done
}

# Prints the line of one run; writes "passed" or "failed" into a file of its own.
run() {
    local model what options build search output verdict outcome states depth unreached start level
    IFS='|' read -r model what options build search <<<"$1"
    cd "$(mktemp -d "$work/run.XXXXXX")"
    start=$(date +%s.%N)
    level=-O2
    if [[ $what == BROKEN_* ]]; then level=-O1; fi # most of its time is the compiler's
    # The options are lists of words.
    # shellcheck disable=SC2086
    if ! { spin -a $options "$here/$model.pml" &&
        gcc "$level" -w "-DMEMLIM=$memory" $build -o pan pan.c; } >build.log 2>&1; then
        sed 's/^/    /' build.log >&2
        verdict='does not build' outcome=failed
        output=/dev/null
    else
        output=pan.log
        timeout "$seconds" ./pan $search >"$output" 2>&1 || true
        if grep -q 'max search depth too small\|out of memory\|VECTORSZ' "$output"; then
            verdict='search truncated' outcome=failed
        elif grep -q 'errors: 0' "$output" && ! grep -q 'Search not completed' "$output"; then
            verdict='no error, full coverage' outcome=passed
        elif grep -q 'errors: [1-9]' "$output"; then
            verdict=caught:\ $(sed -n 's/^pan:[0-9]*: \(.*\) (at depth.*/\1/p' "$output" | head -n 1)
            outcome=caught
        else
            verdict='search not completed' outcome=failed
        fi
    fi
    if [[ $what == BROKEN_* ]]; then
        case $outcome in
        caught) outcome=passed ;;
        passed) verdict='NOT CAUGHT' outcome=failed ;;
        esac
    elif [[ $outcome == caught ]]; then
        verdict=${verdict/caught/ERROR} outcome=failed
    fi
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$output" | head -n 1)
    depth=$(sed -n 's/.*depth reached \([0-9]*\),.*/\1/p' "$output" | head -n 1)
    unreached=$(sed -n 's/^\s*(\([0-9]*\) of [0-9]* states)/\1/p' "$output" |
        awk '{ sum += $1 } END { print sum + 0 }')
    printf '%-5s %-30s %9s %8s %6.1f %4s  %s\n' "$model" "$what" "${states:--}" "${depth:--}" \
        "$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')" "$unreached" "$verdict"
    echo "$outcome" >outcome
    rm -f pan pan.? pan.log ./*.trail
}
export -f run
export here work memory seconds

printf '%-5s %-30s %9s %8s %6s %4s  %s\n' model variant states depth s unr. found
{
    list_holding
    list_broken
} | { if [[ $# -gt 0 ]]; then grep -E "^($(IFS='|' && echo "$*"))\\|"; else cat; fi; } \
    >"$work/all"
# It is the inner shell that expands $1.
# shellcheck disable=SC2016
tr '\n' '\0' <"$work/all" | xargs -0 -P "${JOBS:-2}" -I{} bash -c 'run "$1"' run {}

total=$(wc -l <"$work/all")
passed=$(cat "$work"/run.*/outcome 2>/dev/null | grep -c passed || true)
echo "$passed passed, $((total - passed)) failed"
[[ $passed -eq $total && $total -gt 0 ]]
