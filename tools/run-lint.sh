#!/usr/bin/env bash
# Looks for what the compiler lets pass: format, clang-tidy, cppcheck, functions that
# nobody here may call, sockets and libuv outside of io/, clocks and files in core/,
# functions and files that grew too long, floors that know what they must not, rooms
# that know one another in a circle, and files that src/README.md does not name. Says
# what it found and ends with 1 if there is any.
# Usage: tools/run-lint.sh [--staged] [BUILD-DIRECTORY]
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
    # not the build's zero, which clang takes from 16 on
    printf '%s\n' "${units[@]}" | xargs -P 2 -n 4 clang-tidy -p "$dir" --quiet \
        --extra-arg=-ftrivial-auto-var-init=uninitialized 2>/dev/null |
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
# Sockets and the loop are io/'s: the floors above say what they want in its words. The
# portal's web library alone hands out the kernel's addresses.
kernel='uv|io/loop_uv|sys/(socket|un|epoll|eventfd|timerfd|ioctl)|netinet/[a-z0-9_]+'
kernel+='|arpa/inet|poll|netdb|linux/sockios'
calls='setsockopt|getsockopt|socket|bind|listen|connect|send|recv|sendto|recvfrom|sendmsg'
calls+='|recvmsg|shutdown|accept4?|socketpair|getpeername|getsockname|poll|ioctl'
above=(src/{path,session,host,client,broker,portal,cli}/*.[ch])
only_in_io() {
    grep -nE "^#include [<\"]($kernel)\.h[>\"]" "${above[@]}"
    grep -nE "(^|[^>._a-zA-Z0-9])($calls)\(" "${above[@]}" | grep -vE '^[^:]*:[0-9]+: *(/?\*|")'
    printf '%s\n' "${above[@]}" | grep -vE '^src/portal/web(_conns)?\.c$' |
        xargs grep -nE '^#include "io/sockaddr\.h"'
    printf '%s\n' "${sources[@]}" | grep -v '^src/io/' |
        xargs grep -nE '^#include [<"](uv|io/loop_uv)\.h[>"]'
    :
}
# What decides takes time and randomness as arguments and opens nothing. The text form of
# an address alone is libc's.
pure='time|clock_gettime|gettimeofday|nanosleep|usleep|sleep|getenv|getpid|rand|random'
pure+='|getrandom|randombytes[a-z_]*|open|fopen|read|write|close|pthread_[a-z_]+|fork'
pure_core() {
    grep -nE "^#include [<\"]($kernel|time|sys/[a-z]+|fcntl|unistd|pthread|sqlite3|errno)\.h[>\"]" \
        src/core/*.[ch] | grep -vE '^src/core/addr\.c:[0-9]+:#include <arpa/inet\.h>'
    grep -nE "(^|[^>._a-zA-Z0-9])($pure|$calls)\(" src/core/*.c |
        grep -vE '^[^:]*:[0-9]+: *(/?\*|")'
    :
}
# A function's body stands between a line that is "{" and a line that is "}".
lengths() {
    awk 'FNR == 1 { if (file != "" && lines > 1000) print file ": " lines " lines"
                    file = FILENAME }
         { lines = FNR }
         /^{$/ { begin = FNR }
         /^}$/ { if (FNR - begin > 61) print FILENAME ":" begin ": function of " \
                     FNR - begin - 1 " lines" }
         END { if (lines > 1000) print file ": " lines " lines" }' "${sources[@]}"
}

# What a floor may include (docs/DESIGN.md).
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
        grep -rnE '^ *# *include "[^"]*/' "src/$floor" --include='*.[ch]' |
            grep -vE "#include \"(${below[$floor]// /|})/" || :
    done
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
check "sockets and libuv in io/ only" only_in_io
check "core/ is pure" pure_core
check "length: functions of 60 lines, files of 1,000" lengths
check "floors include only those below" floors
check "no circle between rooms" tools/check-rooms.py
check "src/README.md names every file" described
if [ "${#units[@]}" -gt 0 ]; then
    check "clang-tidy" tidy
    check "cppcheck" cpp_check
fi
exit "$found"
