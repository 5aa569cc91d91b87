#!/bin/bash
# Tests of the example program json: what it accepts, what it says about what it refuses, queries,
# and its behaviour as a command.  CAIRN_TEST_JSON and CAIRN_TEST_JSON_GENERATE name the programs.
set -u
. "$(dirname "$0")/report.sh"
export LC_ALL=C.UTF-8
unset CAIRN_LOG CAIRN_STRESS CAIRN_HEAP_LIMIT

json=${CAIRN_TEST_JSON:-build/examples/json}
generate=${CAIRN_TEST_JSON_GENERATE:-build/examples/json-generate}
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
cd "$directory" || exit 1

# gives NAME STATUS OUTPUT COMMAND...: standard input is passed on; both outputs are compared.
gives() {
    local name=$1 expected=$2 output=$3 actual status
    shift 3
    actual=$("$@" 2>&1)
    status=$?
    if [ "$status" = "$expected" ] && [ "$actual" = "$output" ]; then
        report "$name" true
    else
        printf 'expected status %s:\n%s\n' "$expected" "$output"
        printf 'got status %s:\n%s\n' "$status" "$actual"
        report "$name" false
    fi
}

# Texts are given in printf's notation.
accepts() { gives "$1" 0 "$3" "$json" -c - < <(printf "$2"); }
refuses() { gives "$1" 1 "<stdin>:$3" "$json" -c - < <(printf "$2"); }
finds() { gives "$1" 0 "$3" "$json" -q "$2" doc.json; }

good_documents() {
    accepts a_literal 'null' 'null'
    accepts space_around_everything ' \t\r\n[ 1 , 2 ]\n' '[1,2]'
    accepts empty_containers '[[],{},[{}],""]' '[[],{},[{}],""]'
    accepts numbers_keep_their_text '[0,-0,1.50,1e5,1E+05,123456789012345678901234567890]' \
        '[0,-0,1.50,1e5,1E+05,123456789012345678901234567890]'
    accepts equal_names_stay_in_order '{"b":1,"a":2,"b":3}' '{"b":1,"a":2,"b":3}'
    accepts escapes '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041"' '"\"\\/\b\f\n\r\tA"'
    accepts control_characters_are_escaped_again '"\\u0000\\u001f\\u007f"' '"\u0000\u001f'$'\x7f''"'
    accepts unicode_escapes '"\\u00e9\\u20AC\\ud83c\\udf81"' '"é€🎁"'
    accepts utf8 '"Ångström 京都 🎁"' '"Ångström 京都 🎁"'
    accepts a_string_longer_than_a_word '"0123456789012345678901234567890123456789\\n"' \
        '"0123456789012345678901234567890123456789\n"'
    accepts a_member_name_with_escapes '{"a\\u0020\\"b":1}' '{"a \"b":1}'
}

bad_documents() {
    local string_end="'\"' at the end of the string or \\u for this character"
    local pair='\ud800 to \udbff followed by \udc00 to \udfff'
    refuses the_empty_text '' '1:1: found the end of the text, expected a value'
    refuses only_space ' \n ' '2:2: found the end of the text, expected a value'
    refuses trailing_text '{}\n x' "2:2: found 'x', expected the end of the text after the value"
    refuses a_comma_at_the_end '[1,]' "1:4: found ']', expected a value"
    refuses a_comma_at_an_objects_end '{"a":1,}' \
        "1:8: found '}', expected a member's name in double quotes after ','"
    refuses a_missing_comma '[1 2]' "1:4: found '2', expected ',' or ']'"
    refuses a_missing_colon '{"a" 1}' "1:6: found '1', expected ':' after the member's name"
    refuses a_name_without_quotes '{a:1}' \
        "1:2: found 'a', expected a member's name in double quotes or '}'"
    refuses an_open_array '[1' "1:3: found the end of the text, expected ',' or ']'"
    refuses the_wrong_bracket '[1}' "1:3: found '}', expected ',' or ']'"
    refuses a_wrong_word '[nul]' "1:2: found 'nul', expected a value"
    refuses a_longer_word '[trueish]' "1:2: found 'trueish', expected a value"
    refuses a_leading_zero '[01]' '1:2: found a number with a leading zero, expected one without'
    refuses a_minus_alone '[-]' "1:3: found ']', expected a digit after '-'"
    refuses a_point_without_digits '[1.]' "1:4: found ']', expected a digit after the decimal point"
    refuses an_exponent_without_digits '[1e+]' "1:5: found ']', expected a digit of the exponent"
    refuses a_plus_sign '[+1]' "1:2: found '+', expected a value"
    refuses an_open_string '["abc' \
        "1:6: found the end of the text, expected $string_end"
    refuses a_line_break_in_a_string '["a\nb"]' \
        "1:4: found a line break, expected $string_end"
    refuses a_nul_byte '[\0]' '1:2: found the control character 0x00, expected a value'
    refuses an_unknown_escape '"\\x"' \
        "1:3: found 'x', expected one of \" \\ / b f n r t u after the backslash"
    refuses a_short_unicode_escape '"\\u12"' \
        "1:6: found '\"', expected four hexadecimal digits after \\u"
    refuses half_a_pair '"\\ud800"' \
        "1:2: found half of a surrogate pair (\ud800), expected $pair"
    refuses a_lone_low_surrogate '"\\udc00"' \
        "1:2: found half of a surrogate pair (\udc00), expected $pair"
    refuses invalid_utf8 '"\xc3("' '1:2: found the byte 0xc3, which is not UTF-8, expected UTF-8'
    refuses an_overlong_form '"\xc0\xaf"' \
        '1:2: found the byte 0xc0, which is not UTF-8, expected UTF-8'
    refuses a_surrogate_in_utf8 '"\xed\xa0\x80"' \
        '1:2: found the byte 0xed, which is not UTF-8, expected UTF-8'
    refuses a_byte_order_mark '\xef\xbb\xbf[]' \
        '1:1: found a byte order mark, expected a value (RFC 8259 forbids the mark)'
    refuses utf16 '\xff\xfe[\0' '1:1: found UTF-16 or UTF-32, expected UTF-8'
    refuses columns_count_characters '["é京🎁" x]' "1:8: found 'x', expected ',' or ']'"
}

queries() {
    local items='[{"n":"x","v":1},{"n":"y","v":2.5},{"n":"y","v":[3]}]'
    printf '%s' "{\"a\":$items" ',"odd \"name":"q","a":7}' >doc.json
    finds the_whole_document . "$(cat doc.json)"
    finds every_member_of_a_name .a "$items"$'\n7'
    finds an_index '.a[1].v' 2.5
    finds an_index_from_the_end '$.a[-1].v[0]' 3
    finds an_index_out_of_range '.a[3]' ''
    finds all_items '.a[*].n' $'"x"\n"y"\n"y"'
    finds all_members '.a[0].*' $'"x"\n1'
    finds a_name_in_quotes '["odd \"name"]' '"q"'
    finds items_with_a_text '.a[n="y"].v' $'2.5\n[3]'
    finds names_at_any_depth ..v $'1\n2.5\n[3]'
    finds items_at_any_depth '..[0]' $'{"n":"x","v":1}\n3'
    finds nothing_of_that_name .b ''
    gives a_raw_string 0 'q"' "$json" -r -q '["odd \"name"]' <(printf '{"odd \\"name":"q\\""}')
    gives a_count 0 3 "$json" --count -q '.a[*]' doc.json
    gives a_sum 0 3.5 "$json" --sum -q ..v doc.json
    gives a_wrong_path 2 "json: --query .a[, column 4: found the end of the path, expected a name \
without quotes" "$json" -q '.a[' doc.json
    gives a_wrong_text_in_a_path 2 "json: --query [\"\\x\"], column 4: found 'x', expected one of \
\" \\ / b f n r t u after the backslash" "$json" -q '["\x"]' doc.json
}

as_a_command() {
    gives pretty_printing 0 $'{\n  "a": [\n    1,\n    {}\n  ],\n  "b": null\n}' "$json" - \
        < <(printf '{"a":[1,{}],"b":null}')
    gives a_check_prints_nothing 0 '' "$json" --check doc.json
    gives a_missing_file 1 'json: none.json: No such file or directory' "$json" none.json
    gives a_directory 1 'json: .: Is a directory' "$json" .
    gives later_files_are_still_read 1 $'json: none.json: No such file or directory\n1' \
        "$json" none.json - < <(printf 1)
    gives no_file 2 'json: no file is named; try json --help' "$json"
    gives a_wrong_repeat 2 'json: --repeat takes a number from 1, not x; try json --help' \
        "$json" --repeat x doc.json
    gives a_full_disk 1 'json: writing the output: No space left on device' \
        bash -c '"$1" doc.json >/dev/full' - "$json"
    "$generate" 1000000 >million.json
    gives a_closed_pipe_ends_quietly 0 '{"seed":1,"' \
        bash -c '"$1" -c million.json | head -c 11' - "$json"
    gives the_help 0 'usage: json' bash -c '"$1" --help | head -n 1 | cut -d " " -f 1,2' - "$json"
    "$json" --check --stats doc.json 2>stats
    gives statistics 0 'read allocated collections heap' \
        bash -c 'cut -d " " -f 1 stats | grep -v pauses | xargs'
}

nesting() {
    local deep
    deep=$(printf '%10000s' '' | tr ' ' '[')$(printf '%10000s' '' | tr ' ' ']')
    printf '%s' "$deep" >deep.json
    gives ten_thousand_levels 0 "$deep" "$json" -c deep.json
    gives a_query_through_all_levels 0 9999 "$json" --count -q '..*' deep.json
    printf '[%s]' "$deep" >deeper.json
    gives one_level_more 1 "deeper.json:1:10001: found '[' inside 10000 arrays and objects, \
expected no deeper nesting" "$json" deeper.json
}

large_documents() {
    "$json" -c million.json >once.json && "$json" -c once.json >twice.json
    report printing_and_parsing_again_changes_nothing "$(cmp -s once.json twice.json && echo true)"
    "$json" -p once.json | "$json" -c - >thrice.json
    report nor_does_indenting "$(cmp -s once.json thrice.json && echo true)"
    local orders
    orders=$(grep -c '"placed"' million.json)
    gives old_trees_make_room_for_new_ones 0 "$orders" \
        env CAIRN_HEAP_LIMIT=64M "$json" --repeat 100 --count -q '.orders[*]' million.json
    gives under_stress_and_verification 0 "$(cat doc.json)" \
        env CAIRN_STRESS=1 CAIRN_VERIFY=1 CAIRN_POISON=1 "$json" -c doc.json
    "$generate" 20000000 >large.json
    CAIRN_HEAP_LIMIT=40M "$json" --check large.json 2>message
    gives a_full_heap_is_reported 0 'large.json: out of memory' sed 's/ after.*//' message
    gives a_heap_too_small_for_the_text 1 'json: large.json: out of memory, reading the file' \
        env CAIRN_HEAP_LIMIT=10M "$json" --check large.json
    "$generate" 100000 5 >first && "$generate" 100000 5 >second
    report the_generator_is_deterministic "$(cmp -s first second && echo true)"
}

files_of_iso_codes() {
    local file=/usr/share/iso-codes/json/iso_3166-1.json
    [ -f $file ] || return 0
    gives a_country_by_its_code 0 Iceland "$json" -r -q '.3166-1[alpha_2="IS"].name' $file
}

echo "[==========] Running tests of $json"
good_documents
bad_documents
queries
as_a_command
nesting
large_documents
files_of_iso_codes
echo "[==========] Running $((passed + ${#failures[@]})) test(s)."
finish
