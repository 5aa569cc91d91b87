#!/bin/bash
# Reads a profile with programs that were not written here: gzip, and protoc, which knows the
# encoding but not the message, so that the fields' numbers are those of pprof's profile.proto.
# CAIRN_TEST_JSON and CAIRN_TEST_JSON_GENERATE name the example's programs.
set -u
. "$(dirname "$0")/report.sh"
unset CAIRN_LOG CAIRN_STRESS CAIRN_HEAP_LIMIT CAIRN_PROFILE CAIRN_FIND_LEAKS

json=${CAIRN_TEST_JSON:-build/examples/json}
generate=${CAIRN_TEST_JSON_GENERATE:-build/examples/json-generate}
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT

tests=(a_gzip_file_is_sound protoc_reads_what_it_holds all_formats_tell_the_same)
echo "[==========] profile-files: Running ${#tests[@]} test(s)."
if ! command -v protoc >/dev/null; then
    skip "${tests[@]}"
    finish
fi

"$generate" 300000 >"$directory/in.json"
for ending in pb.gz pb folded; do
    CAIRN_PROFILE="$directory/out.$ending" CAIRN_PROFILE_INTERVAL=4K "$json" "$directory/in.json" \
        >/dev/null || echo "the example failed"
done

good=false
gzip -t "$directory/out.pb.gz" && gzip -dc "$directory/out.pb.gz" >"$directory/unzipped.pb" && good=true
report a_gzip_file_is_sound $good

# Messages of a kind, and what they must have: 4 types of values (1), samples (2), mappings (3) of
# files, locations (4), functions (5), and the names among the strings (6).
count() {
    grep -c "$1" "$directory/text"
}
good=true
protoc --decode_raw <"$directory/unzipped.pb" >"$directory/text" || good=false
[ "$(count '^1 {')" = 4 ] || good=false
[ "$(count '^2 {')" -gt 5 ] || good=false
[ "$(count '^3 {')" -ge 1 ] || good=false
[ "$(count '^4 {')" -gt 5 ] || good=false
[ "$(count '^5 {')" = "$(count '^4 {')" ] || good=false
for text in alloc_objects alloc_space inuse_objects inuse_space main "$(realpath "$json")"; do
    [ "$(count "^6: \"$text\"\$")" -ge 1 ] || good=false
done
[ "$(count '^12: 4096$')" = 1 ] || good=false
report protoc_reads_what_it_holds $good

# Three runs of one program, each sampled for itself: names that have many samples are in all.
good=true
protoc --decode_raw <"$directory/out.pb" >"$directory/text" || good=false
top=$(sed 's/.*;\([^;]*\) [0-9]*$/\1/' "$directory/out.folded" | sort | uniq -c | sort -rn | head -1 |
    awk '{ print $2 }')
[ -n "$top" ] && [ "$(count "^6: \"$top\"\$")" -ge 1 ] || good=false
report all_formats_tell_the_same $good

finish
