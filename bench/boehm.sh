#!/bin/bash
# What a program written for Boehm's collector pays for that: each workload with Cairn's own calls,
# out of line, and with Boehm's, in Cairn's library (and in Debian's, for comparison).  The native calls
# are made with a byte more in each object, too: what Boehm's semantics of one past the end cost.
#
#     bench/boehm.sh DRIVER [OPTION-OF-DRIVER...]
#
# BOEHM_WORKLOADS (all), BOEHM_RUNS (3), BOEHM_SCALE (0.3) say what is run.  BOEHM_STRICT=1: it's a
# failure if a workload is more than 5 % slower than with the native calls, or 20 % one that does
# little besides allocating.
set -u -o pipefail

driver=$1
shift
"$driver" run "${BOEHM_WORKLOADS:-all}" --with cairn-calls,cairn-byte,boehm-cairn,boehm \
    --runs "${BOEHM_RUNS:-3}" --scale "${BOEHM_SCALE:-0.3}" "$@" |
    awk -v strict="${BOEHM_STRICT-}" '
    { print }
    # Eleven numbers, and before them the threads if any workload has them.  The table of means at the
    # end has fewer.
    NF < 13 { next }
    { wall = $(NF - 10); cpu = $(NF - 8); w = NF > 13 ? $1 " " $3 : $1 }
    $2 == "cairn-calls" { native[w] = wall; native_cpu[w] = cpu }
    $2 == "cairn-byte" { byte[w] = wall }
    $2 == "boehm-cairn" { ours[w] = wall; ours_cpu[w] = cpu; order[++n] = w }
    $2 == "boehm" { theirs[w] = wall }
    END {
        print ""
        print "Boehm'"'"'s calls in Cairn'"'"'s library / native calls (bars: 1.05, loops that allocate only 1.20)"
        printf "%-16s %6s %6s %17s %14s\n", "", "wall", "cpu", "to a byte more", "Debian'"'"'s wall"
        for (i = 1; i <= n; i++) {
            w = order[i]
            if (!(native[w] > 0)) continue
            ratio = ours[w] / native[w]
            cpu = native_cpu[w] > 0 ? ours_cpu[w] / native_cpu[w] : 1
            limit = w ~ /^(short_lived|mt_alloc)/ ? 1.2 : 1.05
            over = ratio > limit && cpu > limit
            if (over) missed++
            printf "%-16s %6.2f %6.2f %17s %14s%s\n", w, ratio, cpu, (byte[w] > 0) ? sprintf("%.2f", ours[w] / byte[w]) : "-", w in theirs ? sprintf("%.2f", theirs[w] / native[w]) : "-", over ? "  over " limit : ""
            logs += log(ratio)
            if (byte[w] > 0) byte_logs += log(ours[w] / byte[w])
            count++
        }
        if (count == 0) exit 1
        printf "%-16s %6.2f %6s %17.2f\n", "geometric mean", exp(logs / count), "", exp(byte_logs / count)
        print missed + 0 " of " count " over their bars, by wall and processor time"
        exit strict == "1" && missed > 0
    }'
