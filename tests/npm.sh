#!/bin/bash
# Sees to a package from the npm registry, for checks by programs that weren't written here.
#
#     tests/npm.sh DIRECTORY PACKAGE@VERSION
#
# Installs it in DIRECTORY, which has no other, unless it is there, and Node.js where there is none and apt-get can.
# The status is 77, after a line that says why, if there is no Node.js or no registry to be had:
# then there is nothing to check with.
set -u
directory=$1 package=$2

lacking() {
    echo "not checked: $1"
    exit 77
}

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { [ "$(id -u)" = 0 ] && command -v apt-get && apt-get update -q &&
        apt-get install -q -y --no-install-recommends nodejs npm; } >/dev/null 2>&1 ||
        lacking "there is no Node.js, and it can't be installed"
fi
[ ! -e "$directory/there" ] || exit 0
mkdir -p "$directory" && cd "$directory" || exit 1
timeout 60 npm view --fetch-retries=1 "$package" version >/dev/null 2>&1 ||
    lacking "the npm registry doesn't answer for $package"
timeout 120 npm install --prefix . --ignore-scripts --no-audit --no-fund --no-save --no-package-lock \
    --loglevel=error "$package"
case $? in
0) ;;
124) lacking "the npm registry is too slow" ;;
*) lacking "npm can't install $package, which the registry has" ;;
esac
touch there
