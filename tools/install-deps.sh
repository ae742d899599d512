#!/bin/sh
# Installs what Postern needs from the distribution's archive: build, test, lab, bench
# or all. Does nothing, quickly, when all is there. Debian 12 gets ngtcp2 from its
# backports, which are switched on with the mirror that the machine already uses.
set -eu

build="gcc meson ninja-build pkg-config libc6-dev libgnutls28-dev nanopb libnanopb-dev
 python3-protobuf protobuf-compiler libuv1-dev libsqlite3-dev libsodium-dev
 libqrencode-dev libcmocka-dev libngtcp2-dev libngtcp2-crypto-gnutls-dev"
test="python3 python3-pytest procps"
lab="nftables iproute2 conntrack tcpdump iperf3 nginx-light openssh-server openssh-client
 dnsmasq-base bind9-dnsutils curl rsync socat coturn netcat-openbsd"
bench="stunnel4 haproxy openssh-server openssh-client iperf3"
lint="clang-format clang-tidy cppcheck"
fuzz="clang libclang-rt-14-dev"

want=""
for set in "${@:-build}"; do
    case "$set" in
    build) want="$want $build" ;;
    test) want="$want $build $test" ;;
    lab) want="$want $build $test $lab" ;;
    bench) want="$want $build $test $lab $bench" ;;
    lint) want="$want $build $lint" ;;
    fuzz) want="$want $build $fuzz" ;;
    all) want="$want $build $test $lab $bench $lint $fuzz" ;;
    *) echo "install-deps: no set is called '$set'; use build, test, lab, bench, lint, fuzz or all" >&2
       exit 2 ;;
    esac
done

installed() {
    dpkg-query -W -f='${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed'
}

missing=""
for p in $want; do
    installed "$p" || missing="$missing $p"
done
old_ngtcp2=""
if installed libngtcp2-dev &&
    dpkg --compare-versions "$(dpkg-query -W -f='${Version}' libngtcp2-dev)" lt 1.11; then
    old_ngtcp2=yes
fi
[ -n "$missing$old_ngtcp2" ] || exit 0

command -v apt-get >/dev/null || {
    echo "install-deps: this needs Debian or a system with apt; missing:$missing" >&2
    exit 1
}
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "install-deps: run it as root, or install sudo; missing:$missing" >&2
        exit 1
    }
    sudo="sudo"
fi
export DEBIAN_FRONTEND=noninteractive

update() { $sudo apt-get -qq update; }

# The first mirror among the machine's own sources.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; exit } }'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk '$1 == "URIs:" && $2 ~ /debian\/?$/ { print $2; exit }'
}

echo "installing:$missing"
update
offered=$(apt-cache madison libngtcp2-dev | awk '{ print $3 }' | sort -V | tail -n 1)
if [ -z "$offered" ] || dpkg --compare-versions "$offered" lt 1.11; then
    uri=$(mirror | head -n 1)
    [ -n "$uri" ] || { echo "install-deps: no mirror found for backports; add them by hand" >&2; exit 1; }
    echo "deb $uri bookworm-backports main" |
        $sudo tee /etc/apt/sources.list.d/bookworm-backports.list >/dev/null
    update
fi
plain=""
for p in $missing; do
    case "$p" in libngtcp2*) ;; *) plain="$plain $p" ;; esac
done
[ -z "$plain" ] || $sudo apt-get install -y -qq --no-install-recommends $plain >/dev/null
if ! installed libngtcp2-dev || [ -n "$old_ngtcp2" ] || ! installed libngtcp2-crypto-gnutls-dev; then
    release=""
    best=$(apt-cache policy libngtcp2-dev | awk '/Candidate:/ { print $2 }')
    dpkg --compare-versions "$best" ge 1.11 || release="-t bookworm-backports"
    $sudo apt-get install -y -qq --no-install-recommends $release \
        libngtcp2-dev libngtcp2-crypto-gnutls-dev >/dev/null
fi
