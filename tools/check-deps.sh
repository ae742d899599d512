#!/bin/sh
# Says in one line what the build misses; with names of libraries behind it, these too.
missing=""
for program in meson ninja pkg-config cc; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
if command -v pkg-config >/dev/null; then
    for lib in gnutls libmicrohttpd libuv libsodium sqlite3 miniupnpc 'libngtcp2 >= 1.11' 'libngtcp2_crypto_gnutls >= 1.11' "$@"; do
        pkg-config --exists "$lib" || missing="$missing '$lib'"
    done
fi
[ -z "$missing" ] && exit 0
echo "make: missing:$missing; run tools/install-deps.sh build (or make demo, which does)" >&2
exit 1
