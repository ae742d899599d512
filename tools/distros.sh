#!/usr/bin/env bash
# Builds the program and runs its unit tests on each distribution that the README names, in a
# root of its own made by debootstrap: DISTROS, or those named behind it. Knows how to get
# there; what is built and tested is make's. Root.
set -euo pipefail
cd "$(dirname "$0")/.."
roots=build-distros
# What a name is, for debootstrap: its suite, the script that knows how it is laid out (and
# where it is to be had), the sections, the key that it is checked by. Debian 12, Debian 13,
# Ubuntu 26.04 LTS.
declare -A script=([bookworm]=sid [trixie]=sid [resolute]=gutsy)
declare -A sections=([bookworm]=main [trixie]=main [resolute]=main,universe)
declare -A keys=([bookworm]=debian [trixie]=debian [resolute]=ubuntu)

inside() { # ROOT COMMAND...: with a /proc, terminals and processes of its own, which end with it
    local root=$1
    shift
    unshare --mount --pid --fork --kill-child sh -c \
        'mount -t proc proc "$0/proc" && mount -t devpts -o newinstance,ptmxmode=666 devpts "$0/dev/pts" &&
            mount --bind "$0/dev/pts/ptmx" "$0/dev/ptmx" && exec chroot "$0" /usr/bin/env -i \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root \
            DEBIAN_FRONTEND=noninteractive "$@"' "$root" "$@"
}

root_of() { # NAME
    local root=$roots/$1
    [ -e "$root/made" ] && return
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=buildd --include=ca-certificates --components="${sections[$1]}" \
        --keyring="/usr/share/keyrings/${keys[$1]}-archive-keyring.gpg" \
        "$1" "$root" '' "${script[$1]}" >"$roots/$1.log" 2>&1 || {
        tail -n 3 "$roots/$1.log" >&2
        return 1
    }
    : >"$root/made"
}

# What git knows of this tree, as it is now.
source_into() { # ROOT
    rm -rf "$1/src" && mkdir "$1/src" &&
        tools/list-source.sh | tar --create --null --files-from=- |
            tar --extract --directory "$1/src"
}

one() { # NAME
    [ -n "${script[$1]:-}" ] || {
        echo "distros: '$1' is not known; one of: ${!script[*]}" >&2
        return 1
    }
    echo "== $1"
    root_of "$1" && source_into "$roots/$1" && inside "$roots/$1" sh -c 'cd /src && tools/install-deps.sh build test && make &&
        build/postern --version && make tests && meson test -C build --no-rebuild --suite unit -t 4' </dev/null
}

[ "$(id -u)" = 0 ] || {
    echo "distros: run it as root" >&2
    exit 1
}
status=0
for name in "${@:-bookworm trixie resolute}"; do
    for each in $name; do
        if (one "$each"); then echo "$each: builds, and its unit tests pass"; else
            echo "$each: FAILED"
            status=1
        fi
    done
done
exit $status
