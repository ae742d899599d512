#!/usr/bin/env bash
# Builds the program in two folders, one deeper than the other, at two times, in two languages
# and with debugging information, and compares every byte of what came of it. With --short only
# the helper and the files that are made by programs: a few seconds in place of minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
targets=(program)
results=(postern postern-helper)
if [ "${1:-}" = --short ]; then
    targets=(postern-helper postern.pb.c src/portal/page_files.c)
    results=("${targets[@]}")
fi
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT

build() { # FOLDER NAME-OF-THE-BUILD VARIABLE=VALUE...
    local folder=$at/$1 dir=$2
    shift 2
    mkdir -p "$folder"
    tools/list-source.sh | tar --create --null --files-from=- |
        tar --extract --touch --directory "$folder"
    (
        cd "$folder"
        env CCACHE_DISABLE=1 "$@" meson setup "$dir" -Dbuildtype=debugoptimized -Dtests=disabled
        env CCACHE_DISABLE=1 "$@" ninja -C "$dir" "${targets[@]}"
    ) >"$at/log" 2>&1 || {
        tail -n 20 "$at/log" >&2
        exit 1
    }
}

build one build TZ=UTC LC_ALL=C
build two/levels/deeper other-build TZ=Asia/Tokyo LC_ALL=C.UTF-8
for name in "${results[@]}"; do
    one=$at/one/build/$name two=$at/two/levels/deeper/other-build/$name
    [ -e "$one" ] || [ ! -e "$two" ] || exit 1
    [ ! -e "$one" ] || cmp "$one" "$two" || {
        echo "reproducible: $name is another in another folder" >&2
        exit 1
    }
done
echo "reproducible: ${results[*]}: equal in two folders"
