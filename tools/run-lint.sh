#!/usr/bin/env bash
# Looks for what the compiler lets pass: format, clang-tidy, cppcheck, functions that
# nobody here may call, and functions and files that grew too long. Says what it found
# and ends with 1 if there is any. Usage: tools/run-lint.sh [BUILD-DIRECTORY]
set -uo pipefail
cd "$(dirname "$0")/.."
dir=${1:-build}
found=0
mapfile -t sources < <(git ls-files '*.c' '*.h')
mapfile -t units < <(git ls-files 'src/*.c')

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
        --error-exitcode=1 -j 2 -D_GNU_SOURCE -I src -I include src 2>&1
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

check "format (clang-format)" format
check "banned functions" banned
check "length: functions of 60 lines, files of 800" lengths
check "clang-tidy" tidy
check "cppcheck" cpp_check
exit "$found"
