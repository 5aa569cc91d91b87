#!/bin/sh
# A tour of the json example.
#
#     demo.sh JSON-PROGRAM LARGE-FILE
#
# It stops at the first thing that goes wrong.
set -eu

json=$(realpath "$1")
large=$(realpath "$2")
iso=/usr/share/iso-codes/json

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '\n== %s\n\n' "$1"; }

# run ARGUMENT...: shows the command, then runs it.
run() {
    shown='$ json'
    for argument in "$@"; do
        case $argument in
        *[!A-Za-z0-9_./:=,+-]*) shown="$shown '$argument'" ;;
        *) shown="$shown $argument" ;;
        esac
    done
    printf '%s\n' "$shown"
    "$json" "$@"
}

say 'Real files, from the package iso-codes: one country, and the emirates of all countries'
cd $iso
run --pretty -q '.3166-1[alpha_2="IS"]' iso_3166-1.json
run --raw -q '.3166-2[type="Emirate"].name' iso_3166-2.json

say 'How many names are there in all of these files, at whatever depth?'
run --count -q ..name iso_*.json

say 'A wrong document is refused with the place of the error'
cd "$work"
printf '{\n  "name": "Cairn",\n  "stones": [1, 2, 3,]\n}\n' >wrong.json
cat wrong.json
status=0
run wrong.json 2>&1 || status=$?
[ $status = 1 ]

size=$(($(wc -c <"$large") / 1000000))
say "A generated file of $size MB: what do all items of all orders cost?"
echo 'Text and tree live on the managed heap, and the program frees nothing.  After the answer come'
echo "the last lines of the collector's log (CAIRN_LOG=1) and what --stats says."
echo
export CAIRN_LOG=1
ln -s "$large" large.json
run --stats --sum -q '.orders[*].items[*].price' large.json 2>log || {
    cat log
    exit 1
}
unset CAIRN_LOG
echo
grep '^cairn: ' log | tail -n 3
echo
grep -v '^cairn: ' log

say 'The same file parsed three times: each tree makes room for the next'
run --stats --repeat 3 --count -q '.orders[*]' large.json 2>&1
