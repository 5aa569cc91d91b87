# For scripts that test, which source it: counts results, and prints them in the form of a cmocka
# program's, so that tests/run.sh counts all alike.  Not a test itself.

passed=0 failures=() skipped=()

# report NAME GOOD: GOOD is "true" or anything else.
report() {
    if [ "$2" = true ]; then
        passed=$((passed + 1))
        echo "[       OK ] $1"
    else
        failures+=("$1")
        echo "[  FAILED  ] $1"
    fi
}

# skip NAME...
skip() {
    skipped+=("$@")
    printf '[  SKIPPED ] %s\n' "$@"
}

# The closing lines, and the end of the script.
finish() {
    echo "[==========] $((passed + ${#failures[@]} + ${#skipped[@]})) test(s) run."
    echo "[  PASSED  ] $passed test(s)."
    if [ ${#skipped[@]} != 0 ]; then
        echo "[  SKIPPED ] ${#skipped[@]} test(s), listed below:"
        printf '[  SKIPPED ] %s\n' "${skipped[@]}"
    fi
    if [ ${#failures[@]} != 0 ]; then
        echo "[  FAILED  ] ${#failures[@]} test(s), listed below:"
        printf '[  FAILED  ] %s\n' "${failures[@]}"
        exit 1
    fi
    exit 0
}
