#!/usr/bin/env bash
# Builds one self-contained postern for any Linux: musl and every library from the
# distribution's own source packages (apt-get source, checked by its keys), outside the tree in a
# cache. Usage: tools/static.sh [--arch x86_64|aarch64] [--profile full|client|host] [--jobs N].
# It comes to build-static/postern-ARCH[-PROFILE], what it was made of to build-static/SOURCES.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$PWD
arch=$(uname -m) profile=full jobs=$(nproc)
while [ $# -gt 0 ]; do
    case "$1" in
    --arch) arch=$2 ;;
    --profile) profile=$2 ;;
    --jobs) jobs=$2 ;;
    *) sed -n '4,5s/^# //p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
case "$arch" in x86_64 | aarch64) ;; *) echo "static: '$arch' is not known; x86_64 or aarch64" >&2; exit 2 ;; esac

cache=${POSTERN_STATIC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/postern-static}
mkdir -p "$cache/lists/partial" "$cache/archives/partial" "$cache/source" "$cache/$arch/log"
root=$cache/$arch/root
tool=$arch-linux-gnu
[ "$arch" != "$(uname -m)" ] || tool=""
export PATH=$root/bin:$PATH PKG_CONFIG_LIBDIR=$root/lib/pkgconfig PKG_CONFIG_PATH=

# ---------------------------------------------------------------- sources
# This machine's own archives, with the keys that it checks them by, as places of sources.
sources() {
    apt-get indextargets --format '$(ORIGIN)|$(SIGNED_BY)|$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n -E 's/^(Debian|Debian Backports|Ubuntu)\|([^|]*)\|/\2|/p' | sort -u |
        while IFS='|' read -r key place; do
            case "$key" in /*) key="[signed-by=$key] " ;; *) key= ;; esac
            echo "deb-src $key$place"
        done
}
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$cache/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$cache/lists" -o Dir::Cache="$cache" -o APT::Sandbox::User=root "$@"
}
fetch() { # PACKAGE: source/PACKAGE/tree, with the distribution's patches where it still has them
    [ ! -d "$cache/source/$1" ] || return 0
    if [ ! -e "$cache/sources.list" ]; then
        sources >"$cache/sources.list.new"
        apt -o Dir::Etc::SourceList="$cache/sources.list.new" update
        mv "$cache/sources.list.new" "$cache/sources.list"
    fi
    rm -rf "$cache/source/$1.new" && mkdir "$cache/source/$1.new"
    (cd "$cache/source/$1.new" && if apt source --download-only "$1"; then
        dpkg-source --no-check -x ./*.dsc tree
    else
        rm -f ./*.dsc && apt source --tar-only "$1" && rm -f ./*.asc && mkdir tree && tar -C tree --strip-components=1 -xf ./*.orig.tar.*
    fi) >"$cache/source/$1.log" 2>&1 || { tail -n 3 "$cache/source/$1.log" >&2; return 1; }
    mv "$cache/source/$1.new" "$cache/source/$1"
}

# ---------------------------------------------------------------- libraries
# Each is built in a copy of its source, by what of its own build makes the static library.
export CC=musl-gcc CFLAGS="-O2 -fPIC -ffunction-sections -fdata-sections -fstack-protector-strong \
    -fno-unwind-tables -fno-asynchronous-unwind-tables"
export AR=${tool:+$tool-}ar RANLIB=${tool:+$tool-}ranlib STRIP=${tool:+$tool-}strip
small() { export CFLAGS=${CFLAGS/-O2/-Os}; } # what is large, and not where the time goes
configured() { # OPTION...
    [ -e configure ] || autoreconf -fi
    ./configure --host="$arch-linux-musl" --prefix="$root" --libdir="$root/lib" \
        --disable-shared --enable-static "$@"
}
with_cmake() { # OPTION...
    cmake -S . -B out -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$arch" -DCMAKE_BUILD_TYPE=None \
        -DCMAKE_INSTALL_PREFIX="$root" -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_FIND_ROOT_PATH="$root" \
        -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF "$@"
    cmake --build out -j"$jobs"
    cmake --install out
}
compiled() { # LIBRARY FILE...
    local library=$1
    shift
    rm -f ./*.o
    $CC $CFLAGS -I. -c "$@"
    $AR rcs "$root/lib/lib$library.a" ./*.o
}

build_musl() {
    # its musl-gcc sees no header of the system's: the kernel's are put beside its own
    CC=${tool:+$tool-}gcc ./configure --prefix="$root" --syslibdir="$root/lib" --disable-shared \
        --enable-wrapper=gcc --target="$arch-linux-musl"
    make -j"$jobs" AR="$AR" RANLIB="$RANLIB" install
    # all that it links is static, and its addresses are random all the same
    sed -i 's|Scrt1\.o|rcrt1.o|; s|^-dynamic-linker [^ ]*|-static -pie --no-dynamic-linker -z text|' \
        "$root/lib/musl-gcc.specs"
    local linux=/usr/include asm=/usr/include/$arch-linux-gnu/asm
    [ -z "$tool" ] || linux=/usr/$tool/include asm=/usr/$tool/include/asm
    ln -sfn "$linux/linux" "$linux/asm-generic" "$root/include/"
    ln -sfn "$asm" "$root/include/asm"
    mkdir -p "$root/lib/pkgconfig"
}
build_nettle() {
    configured --enable-mini-gmp --disable-documentation --disable-openssl
    make -j"$jobs" SUBDIRS= && make SUBDIRS= install
}
build_gnutls28() {
    small
    AUTOPOINT=true GTKDOCIZE=true autoreconf -fi # Debian's patches touch what it is made of
    configured --with-nettle-mini --with-included-libtasn1 --with-included-unistring \
        --without-p11-kit --without-idn --without-zlib --without-brotli --without-zstd --without-tpm \
        --without-tpm2 --disable-doc --disable-tools --disable-tests --disable-cxx --disable-libdane \
        --disable-nls --disable-openssl-compatibility --disable-srp-authentication --disable-gost \
        --disable-heartbeat-support --disable-guile --disable-maintainer-mode \
        --with-default-trust-store-file=/etc/ssl/certs/ca-certificates.crt
    make -j"$jobs" -C gl && make -j"$jobs" -C lib && make -C lib install
}
build_ngtcp2() {
    configured --enable-lib-only --with-gnutls
    make -j"$jobs" && make install
}
build_libsodium() { configured --disable-pie && make -j"$jobs" && make install; }
build_libmicrohttpd() {
    configured --disable-doc --disable-examples --disable-curl --disable-https --disable-bauth \
        --disable-dauth
    make -j"$jobs" -C src/microhttpd && make -C src/microhttpd install && make -C src/include install
    make install-pkgconfigDATA
}
build_libuv1() {
    with_cmake -DLIBUV_BUILD_TESTS=OFF -DLIBUV_BUILD_BENCH=OFF
    rm -f "$root"/lib/libuv.so* && cp out/libuv*.a "$root/lib/libuv.a"
}
build_qrencode() { with_cmake -DWITH_TOOLS=NO -DWITHOUT_PNG=ON; }
build_miniupnpc() {
    with_cmake -DUPNPC_BUILD_SHARED=OFF -DUPNPC_BUILD_TESTS=OFF -DUPNPC_BUILD_SAMPLE=OFF
}
build_sqlite3() { # its own configure makes the one big file with a compiler of this machine
    small
    (unset CC CFLAGS AR RANLIB && ./configure --disable-tcl && make sqlite3.c sqlite3.h)
    CFLAGS="$CFLAGS -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_THREADSAFE=1 -DSQLITE_DQS=0 -DSQLITE_OMIT_DEPRECATED \
        -DSQLITE_DEFAULT_MEMSTATUS=0 \
        -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_OMIT_TRACE -DSQLITE_OMIT_JSON \
        -DSQLITE_OMIT_COMPLETE -DSQLITE_OMIT_DECLTYPE -DSQLITE_OMIT_UTF16" compiled sqlite3 sqlite3.c
    cp sqlite3.h "$root/include"
    described sqlite3 "$(cat VERSION)" -lsqlite3
}
build_nanopb() {
    compiled protobuf-nanopb pb_common.c pb_encode.c pb_decode.c
    cp pb*.h "$root/include"
}
build_libnatpmp() {
    CFLAGS="$CFLAGS -DENABLE_STRNATPMPERR" compiled natpmp natpmp.c getgateway.c
    cp natpmp.h natpmp_declspec.h "$root/include"
}
described() { # NAME VERSION LIBS: its .pc
    printf 'Name: %s\nDescription: %s\nVersion: %s\nCflags: -I%s\nLibs: -L%s %s\n' \
        "$1" "$1" "$2" "$root/include" "$root/lib" "$3" >"$root/lib/pkgconfig/$1.pc"
}
build() { # PACKAGE
    local done=$cache/$arch/$1.done log=$cache/$arch/log/$1 at=$cache/$arch/build/$1
    fetch "$1"
    [ ! -e "$done" ] || return 0
    echo "static: building $1 for $arch" >&2
    rm -rf "$at" && mkdir -p "$cache/$arch/build" && cp -a "$cache/source/$1/tree" "$at"
    (cd "$at" && "build_$1") >"$log" 2>&1 & # behind || its -e would not count
    wait $! || { tail -n 15 "$log" >&2; exit 1; }
    rm -rf "$at"
    : >"$done"
}

libraries="musl nettle gnutls28 ngtcp2 libuv1 libsodium sqlite3 nanopb miniupnpc libnatpmp"
[ "$profile" = client ] || libraries="$libraries qrencode"
[ "$profile" != full ] || libraries="$libraries libmicrohttpd"
natpmp=enabled
for library in $libraries; do
    # the one that it can do without: PCP and UPnP remain
    [ "$library" != libnatpmp ] || fetch libnatpmp 2>/dev/null || { natpmp=disabled; continue; }
    build "$library"
done

# ---------------------------------------------------------------- the program
name=postern-$arch
[ "$profile" = full ] || name=$name-$profile
at=$cache/$arch/program-$profile
cat >"$cache/$arch/machine.ini" <<MACHINE
[binaries]
# -B: a library that is looked for by its name is ours, never this machine's
c = ['$root/bin/musl-gcc', '-B$root/lib']
ar = '$AR'
strip = '$STRIP'
pkgconfig = 'pkg-config'
[built-in options]
c_args = ['-I$root/include', '-ffunction-sections', '-fdata-sections', '-fno-unwind-tables',
    '-fno-asynchronous-unwind-tables']
c_link_args = ['-L$root/lib', '-Wl,--gc-sections', '-Wl,-z,relro,-z,now']
prefer_static = true
[properties]
needs_exe_wrapper = $([ -n "$tool" ] && echo true || echo false)
[host_machine]
system = 'linux'
cpu_family = '$arch'
cpu = '$arch'
endian = 'little'
MACHINE
unset CC CFLAGS AR RANLIB
qr=$([ "$profile" = client ] && echo disabled || echo enabled)
speed=$([ "$profile" = full ] && echo 2 || echo s)
rm -rf "$at"
meson setup "$at" --cross-file "$cache/$arch/machine.ini" -Dbuildtype=release -Doptimization="$speed" \
    -Db_ndebug=false -Dtests=disabled -Dhelper=disabled -Dprofile="$profile" -Dqr="$qr" -Dnat_pmp="$natpmp" -Dipsec_mb=disabled \
    >"$cache/$arch/log/setup" 2>&1 || { tail -n 5 "$cache/$arch/log/setup" >&2; exit 1; }
ninja -C "$at" -j"$jobs" postern >"$cache/$arch/log/program" 2>&1 || { tail -n 20 "$cache/$arch/log/program" >&2; exit 1; }
mkdir -p build-static
"$STRIP" -o "build-static/$name" "$at/postern"
(cd "$cache/source" && ls -- */*.orig.tar.* | grep -v asc$ | sed 's|.*/||') >build-static/SOURCES
sha256sum "build-static/$name"
