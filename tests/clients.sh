#!/bin/bash
# Programs of Debian's that use Boehm's collector - Guile, w3m, ECL - with Debian's libgc and with
# another one: their output, wall time, processor time and largest resident set.
#
#     tests/clients.sh SCRATCH LIBRARIES
#
# SCRATCH is for what is built and written (with SCRATCH/measure, from tests/clients/measure.c).
# LIBRARIES is where the other libgc.so.1 is, or "debian": the same against itself, which shows the
# noise.  Set from outside:
#
#     CLIENTS_RUNS    pairs of runs, each in turn first (5)
#     CLIENTS_ONLY    "guile w3m ecl", or some of them
#     CLIENTS_SCALE   how much they do, in percent (100: about a second each)
#     CLIENTS_STRICT  1: a bar that isn't met is a failure, too
#     CLIENTS_PIN     1: each program on one processor only
#
# A difference of output, a crash and a hang are failures.  With CAIRN_VERIFY (or CAIRN_STRESS) in the
# environment there are one run each, a tenth of the work, and no bars.  The bars: no program slower,
# 1.2 times faster in the geometric mean, at most 1.3 times the memory.
set -u

scratch=$1
libraries=$2
here=$(dirname "$0")/clients
runs=${CLIENTS_RUNS:-5}
only=${CLIENTS_ONLY:-guile w3m ecl}
percent=${CLIENTS_SCALE:-100}
checking=false
if [ -n "${CAIRN_VERIFY-}${CAIRN_STRESS-}" ]; then
    checking=true
    runs=1
    [ -n "${CLIENTS_SCALE-}" ] || percent=10
fi

mkdir -p "$scratch" || exit 1
scratch=$(cd "$scratch" && pwd)
mkdir -p "$scratch/home" "$scratch/tmp"
results=$scratch/results
: >"$results"
failures=0

# What the programs see is the same for both: nothing of the user's.
common=(env -u DISPLAY HOME="$scratch/home" XDG_CACHE_HOME="$scratch/home/cache" LC_ALL=C.UTF-8 TERM=dumb
    TMPDIR="$scratch/tmp" GUILE_AUTO_COMPILE=0)
[ -z "${CLIENTS_PIN-}" ] || common=(taskset -c 0 "${common[@]}")

# The path of the libraries that the side's programs load; none is Debian's.
path_of() {
    if [ "$1" = other ] && [ "$libraries" != debian ]; then echo "$(cd "$libraries" && pwd)"; fi
}

# run SIDE OUTPUT COMMAND...: prints what measure does.  Options of Cairn's are for its side only.
run() {
    local side=$1 output=$2
    shift 2
    if [ "$side" = other ]; then
        "$scratch/measure" "${seconds:-300}" "$output" "${common[@]}" LD_LIBRARY_PATH="$(path_of other)" "$@"
    else
        "$scratch/measure" "${seconds:-300}" "$output" "${common[@]}" "$@"
    fi
}

show_difference() {
    echo "---- $1: the first lines that differ (Debian's <, the other's >)"
    diff "$2" "$3" | cut -c1-200 | head -20
}

# ended_well NAME SIDE SAID: whether that run did, by what measure said of it; else it is a failure.
ended_well() {
    [ "${3##* }" != 0 ] || return 0
    echo "$1 with $2's library: exit status ${3##* }"
    tail -5 "$scratch/$1.$2" | cut -c1-200
    failures=$((failures + 1))
    return 1
}

# pairs NAME COMMAND...: runs of both in turn; a line in $results for each.
pairs() {
    local name=$1 pair order side said
    shift
    for ((pair = 0; pair < runs; pair++)); do
        order="debian other"
        [ $((pair % 2)) = 0 ] || order="other debian"
        for side in $order; do
            said=$(run "$side" "$scratch/$name.$side" "$@")
            echo "$name $side $pair $said" >>"$results"
            ended_well "$name" "$side" "$said" || return
        done
        if ! cmp -s "$scratch/$name.debian" "$scratch/$name.other"; then
            show_difference "$name" "$scratch/$name.debian" "$scratch/$name.other"
            failures=$((failures + 1))
            return
        fi
    done
}

# same NAME TRIES COMMAND...: one run of both, outputs compared, nothing measured.  A side that crashes
# or hangs has so many tries, and that is told.
same() {
    local name=$1 tries=$2 side said try
    shift 2
    for side in debian other; do
        for ((try = 1; try <= tries; try++)); do
            said=$(seconds=120 run "$side" "$scratch/$name.$side" "$@")
            [ "${said##* }" != 0 ] || break
            [ $try = "$tries" ] || echo "$name with $side's library: exit status ${said##* }; once more"
        done
        ended_well "$name" "$side" "$said" || return
    done
    if cmp -s "$scratch/$name.debian" "$scratch/$name.other"; then
        echo "$name: the same output"
    else
        show_difference "$name" "$scratch/$name.debian" "$scratch/$name.other"
        failures=$((failures + 1))
    fi
}

# guile_compile SIDE NAME: tests/clients/NAME.scm to $scratch/SIDE-NAME.go.
guile_compile() {
    local said
    said=$(run "$1" "$scratch/compile.$1" guile --no-auto-compile -c \
        "(use-modules (system base compile)) (compile-file \"$here/$2.scm\" #:output-file \"$scratch/$1-$2.go\")")
    if [ "${said##* }" != 0 ]; then
        echo "Guile's compiler with $1's library: exit status ${said##* }"
        tail -5 "$scratch/compile.$1"
        failures=$((failures + 1))
    fi
}

for program in $only; do
    n=$((percent * 40 / 100))
    case $program in
    guile)
        for file in allocate features threads; do guile_compile debian $file; done
        # Guile's compiler is a program that uses the library, too.
        if ! $checking || [ "${CLIENTS_COMPILE-}" = 1 ]; then guile_compile other features; fi
        pairs guile guile --no-auto-compile -c \
            "(load-compiled \"$scratch/debian-allocate.go\") (main $((n > 0 ? n : 1)))"
        same guile-features 1 guile --no-auto-compile -c "(load-compiled \"$scratch/debian-features.go\")"
        same guile-threads 5 guile --no-auto-compile -c "(load-compiled \"$scratch/debian-threads.go\")"
        if [ -f "$scratch/other-features.go" ]; then
            same guile-compiled 1 guile --no-auto-compile -c \
                "(load-compiled \"$scratch/other-features.go\")"
        fi
        rm -f "$scratch/other-features.go"
        ;;
    w3m)
        awk -v sections=$((percent * 700 / 100 + 1)) -f "$here/page.awk" >"$scratch/page.html"
        pairs w3m w3m -dump -T text/html -cols 120 "$scratch/page.html"
        ;;
    ecl)
        pairs ecl ecl --norc --load "$here/bench.lisp" --eval \
            "(progn (run $((n > 0 ? n : 1))) (ext:quit 0))"
        ;;
    *)
        echo "CLIENTS_ONLY: \"$program\" is none of guile, w3m, ecl" >&2
        exit 2
        ;;
    esac
done

awk -v checking=$checking -v strict="${CLIENTS_STRICT-}" -v programs="$only" -v debian="$libraries" '
    # Sorts a[1..n]; they are few.
    function sort(a, n,  i, k, x) {
        for (i = 2; i <= n; i++) {
            x = a[i]
            for (k = i - 1; k >= 1 && a[k] > x; k--) a[k + 1] = a[k]
            a[k + 1] = x
        }
    }
    function quantile(a, n, q,  place, low) {
        place = 1 + (n - 1) * q
        low = int(place)
        return low >= n ? a[n] : a[low] + (place - low) * (a[low + 1] - a[low])
    }
    function median_of(values, name, side,  i, a, n) {
        n = 0
        for (i = 0; (name, side, i) in values; i++) a[++n] = values[name, side, i]
        if (n == 0) return 0
        sort(a, n)
        return quantile(a, n, 0.5)
    }
    function bar(met) { if (!met) missed++; return met ? "met" : "NOT MET" }
    { wall[$1, $2, $3] = $4; cpu[$1, $2, $3] = $5; rss[$1, $2, $3] = $6 }
    END {
        other = debian == "debian" ? "the same" : "Cairn"
        printf "%-6s %9s %9s  %-21s %9s %10s %10s %6s\n", "", "Debian s", other " s",
            "time ratio (quartiles)", "CPU ratio", "Debian MiB", other " MiB", "ratio"
        m = split(programs, names)
        for (p = 1; p <= m; p++) {
            name = names[p]
            n = 0
            for (i = 0; (name, "other", i) in wall && (name, "debian", i) in wall; i++) {
                n++
                ratio[n] = wall[name, "other", i] / wall[name, "debian", i]
                cpus[n] = cpu[name, "debian", i] > 0 ? cpu[name, "other", i] / cpu[name, "debian", i] : 1
            }
            if (n == 0) continue
            sort(ratio, n)
            sort(cpus, n)
            time = quantile(ratio, n, 0.5)
            memory = median_of(rss, name, "other") / median_of(rss, name, "debian")
            printf "%-6s %9.3f %9.3f  %5.3f (%5.3f-%5.3f)   %9.3f %10.1f %10.1f %6.2f\n", name,
                median_of(wall, name, "debian"), median_of(wall, name, "other"), time,
                quantile(ratio, n, 0.25), quantile(ratio, n, 0.75), quantile(cpus, n, 0.5),
                median_of(rss, name, "debian") / 1024, median_of(rss, name, "other") / 1024, memory
            logs += log(time)
            cpu_logs += log(quantile(cpus, n, 0.5))
            count++
            if (time > 1) slower = slower " " name
            if (memory > 1.3) larger = larger " " name
        }
        if (count == 0) exit 1
        if (checking == "true") exit 0
        mean = exp(-logs / count)
        printf "geometric mean: %.3f times faster (CPU time: %.3f)\n", mean, exp(-cpu_logs / count)
        print "no program slower: " bar(slower == "") slower
        print "1.2 times faster in the geometric mean: " bar(mean >= 1.2)
        print "at most 1.3 times the memory: " bar(larger == "") larger
        exit strict == "1" && missed > 0
    }' "$results"
status=$?
[ $failures = 0 ] || echo "$failures failures"
[ $failures = 0 ] && [ $status = 0 ]
