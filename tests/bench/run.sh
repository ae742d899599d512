#!/bin/sh
# Measures Postern beside its peers in one run and prints the tables.
# Needs root; builds nothing. Usage: tests/bench/run.sh [--quick] [--only PART,...]
# POSTERN_BUILD names the build directory (default: build in the project's root).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "bench: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "network namespaces need root; run it with sudo"
for program in ip ss sysctl python3 openssl; do
    command -v "$program" >/dev/null || fail "$program is missing"
done
cd "$root"
exec /usr/bin/python3 tests/bench/bench.py "$@"
