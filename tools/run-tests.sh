#!/bin/sh
# All tests in their short form: unit tests and simulator, the same under the address
# and undefined-behaviour sanitizers, then the lab. The closing line adds up what the
# runners counted themselves.
set -u
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
status=0

build() { # directory, meson options...
    dir=$1
    shift
    [ -f "$dir/build.ninja" ] || meson setup "$dir" --werror "$@" >"$log/setup" 2>&1 || {
        cat "$log/setup"
        exit 1
    }
    ninja -C "$dir" >"$log/ninja" 2>&1 || {
        cat "$log/ninja"
        exit 1
    }
}

suite() { # name, directory
    echo "== $1"
    meson test -C "$2" --no-rebuild --print-errorlogs >"$log/$1" 2>&1 || status=1
    grep -E '^ *[0-9]+/[0-9]+ |^Ok:|^Fail:|FAILED|ERROR' "$log/$1"
    cp "$2/meson-logs/testlog.txt" "$log/$1.full"
}

build build -Dbuildtype=release -Db_ndebug=false
suite unit build
build build-asan-test -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1 suite sanitized build-asan-test

echo "== lab"
POSTERN_BUILD=build tests/lab/run.sh >"$log/lab" 2>&1 || status=1
cat "$log/lab"

# cmocka prints "[  PASSED  ] N test(s)", pytest "N passed, N failed, N skipped".
sum() { awk -v what="$1" '
    $0 ~ "\\[  " what "  \\]" { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+$/) { n += $i; break } }
    END { print n + 0 }' "$log/unit.full" "$log/sanitized.full"; }
lab() { grep -oE "[0-9]+ $1" "$log/lab" | tail -n 1 | grep -oE '^[0-9]+' || echo 0; }
# cmocka repeats its summary on stderr: only "[  PASSED  ]" lines of stdout are counted once.
passed=$(($(sum PASSED) + $(lab passed)))
failed=$(($(sum FAILED) + $(lab failed) + $(lab error)))
skipped=$(($(sum SKIPPED) + $(lab skipped)))
[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
