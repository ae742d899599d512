#!/usr/bin/env bash
# Runs each fuzz target for a while (libFuzzer, clang). It begins with the inputs in
# tests/fuzz/corpus/TARGET, if there are any; what it finds grows in the build directory,
# where an input that breaks something is kept too. Usage: tools/run-fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
dir=build-fuzz
command -v clang >/dev/null || {
    echo "fuzz: clang is missing; run tools/install-deps.sh fuzz" >&2
    exit 1
}
[ -f "$dir/build.ninja" ] || CC=clang meson setup "$dir" -Dfuzz=true \
    -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C "$dir" >/dev/null
status=0
for target in "$dir"/tests/fuzz/fuzz_*; do
    [ -f "$target" ] && [ -x "$target" ] || continue
    name=$(basename "$target")
    corpora=("$dir/corpus/${name#fuzz_}")
    mkdir -p "${corpora[0]}"
    [ ! -d "tests/fuzz/corpus/${name#fuzz_}" ] || corpora+=("tests/fuzz/corpus/${name#fuzz_}")
    echo "== $name, $seconds s"
    "$target" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$dir/$name-" "${corpora[@]}" 2>&1 |
        grep -E 'SUMMARY|ERROR|^stat::(number_of_executed|new_units)|Test unit written' ||
        status=1
done
[ "$status" = 0 ] || echo "fuzz: inputs that broke a target: $dir/fuzz_*-*" >&2
exit "$status"
