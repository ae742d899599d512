#!/usr/bin/env bash
# Looks for what the compiler lets pass: format, clang-tidy, cppcheck, functions that
# nobody here may call, functions and files that grew too long, floors that know what
# they must not, and files that src/README.md does not name. Says what it found and ends
# with 1 if there is any. Usage: tools/run-lint.sh [--staged] [BUILD-DIRECTORY]
# --staged: clang-tidy and cppcheck look at what is about to be committed only.
set -uo pipefail
cd "$(dirname "$0")/.."
staged=""
if [ "${1:-}" = --staged ]; then
    staged=yes
    shift
fi
dir=${1:-build}
found=0
mapfile -t sources < <(git ls-files '*.c' '*.h')
if [ -n "$staged" ]; then
    mapfile -t units < <(git diff --cached --name-only --diff-filter=d -- 'src/*.c')
    looked=("${units[@]}")
else
    mapfile -t units < <(git ls-files 'src/*.c')
    looked=(src)
fi

check() { # TITLE COMMAND...: fails when the command prints anything or fails
    local title=$1 out
    shift
    if out=$("$@" 2>&1) && [ -z "$out" ]; then
        echo "ok    $title"
    else
        echo "FOUND $title"
        printf '%s\n' "$out" | sed 's/^/      /'
        found=1
    fi
}

format() { clang-format --dry-run --Werror "${sources[@]}" 2>&1 | grep 'error:' || :; }
tidy() {
    printf '%s\n' "${units[@]}" | xargs -P 2 -n 4 clang-tidy -p "$dir" --quiet 2>/dev/null |
        grep -E 'warning:|error:' | sed 's|^.*\.\./src/|src/|' | sort -u || :
}
cpp_check() {
    cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability \
        --inline-suppr --suppress=missingIncludeSystem --suppress=nullPointerOutOfMemory \
        --suppress=legacyUninitvar \
        --error-exitcode=1 -j 2 -D_GNU_SOURCE -I src "${looked[@]}" 2>&1
}
banned() {
    grep -nE '(^|[^_a-zA-Z0-9])(strcpy|strcat|sprintf|vsprintf|atoi|alloca|gets)[ ]*\(' \
        "${sources[@]}" || :
}
# A function's body stands between a line that is "{" and a line that is "}".
lengths() {
    awk 'FNR == 1 { if (file != "" && lines > 800) print file ": " lines " lines"
                    file = FILENAME }
         { lines = FNR }
         /^{$/ { begin = FNR }
         /^}$/ { if (FNR - begin > 61) print FILENAME ":" begin ": function of " \
                     FNR - begin - 1 " lines" }
         END { if (lines > 800) print file ": " lines " lines" }' "${sources[@]}"
}

# What a floor may include (docs/DESIGN.md), and that io/ alone knows libuv.
floors() {
    local floor
    local -A below=(
        [core]="core" [io]="core io" [path]="core io path" [session]="core io path session"
        [broker]="core io path session broker" [host]="core io path session host"
        [client]="core io path session client" [helper]="core io helper"
        [portal]="core io path session broker client portal"
        [cli]="core io path session broker host client portal cli")
    for floor in src/*/; do
        floor=$(basename "$floor")
        grep -rnE '^#include "[a-z]+/' "src/$floor" --include='*.[ch]' |
            grep -vE "#include \"(${below[$floor]// /|})/" || :
    done
    grep -rnE '<uv\.h>|"io/loop_uv\.h"' src --include='*.[ch]' | grep -v '^src/io/' || :
}
# Files of src/ without a line in src/README.md, and lines without a file.
described() {
    diff <(git ls-files 'src/*.[ch]' 'src/*.py' 'src/*.proto' 'src/*.options' \
        'src/portal/files/*' | sort) \
        <(awk '/^## / { dir = $2 } /^\| `/ { split($0, cell, "|"); n = split(cell[2], name, "`")
              for (i = 2; i <= n; i += 2) print dir name[i] }' src/README.md | sort) |
        sed -nE 's/^< (.*)/src\/README.md has no line for \1/p; s/^> (.*)/src\/README.md: there is no \1/p'
}

check "format (clang-format)" format
check "banned functions" banned
check "length: functions of 60 lines, files of 800" lengths
check "floors include only those below" floors
check "src/README.md names every file" described
if [ "${#units[@]}" -gt 0 ]; then
    check "clang-tidy" tidy
    check "cppcheck" cpp_check
fi
exit "$found"
