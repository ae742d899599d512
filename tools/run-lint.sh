#!/usr/bin/env bash
# Looks for what the compiler lets pass: format, clang-tidy, cppcheck, functions that
# nobody here may call, sockets and libuv outside of io/, and functions and files that
# grew too long. Says what it found and ends with 1 if there is any. Usage: tools/run-lint.sh [BUILD-DIRECTORY]
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
check "sockets and libuv in io/ only" only_in_io
check "length: functions of 60 lines, files of 800" lengths
check "clang-tidy" tidy
check "cppcheck" cpp_check
exit "$found"
