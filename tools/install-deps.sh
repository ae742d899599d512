#!/bin/sh
# Installs what Postern needs from the distribution's archive: build, test, lab, bench,
# portal, lint, fuzz, coverage, deb, distros, static, static-aarch64, openwrt or all. Does nothing, quickly, when all is there. Debian 12 gets
# ngtcp2 from its backports, which are switched on with the mirror that the machine
# already uses.
set -eu

build="gcc meson ninja-build pkg-config libc6-dev libgnutls28-dev nanopb libnanopb-dev
 python3-protobuf protobuf-compiler libuv1-dev libsqlite3-dev libsodium-dev
 libqrencode-dev libnftables-dev libnetfilter-log-dev libnetfilter-queue-dev
 libminiupnpc-dev libnatpmp-dev libmicrohttpd-dev libcmocka-dev libngtcp2-dev libngtcp2-crypto-gnutls-dev"
# Faster encryption; built for x86-64 alone, and Postern goes on without it.
optional="libipsec-mb-dev"
test="python3 python3-pytest python3-pytest-xdist procps iproute2"
lab="nftables iptables iproute2 conntrack tcpdump iperf3 nginx-light openssh-server openssh-client
 dnsmasq-base bind9-dnsutils tinyproxy tayga miniupnpd nmap curl rsync socat coturn netcat-openbsd
 redis-server openssl zsh fish mandoc man-db git libnginx-mod-stream"
bench="stunnel4 haproxy libnginx-mod-stream wireguard-go wireguard-tools openssh-server openssh-client
 iperf3"
portal="chromium nodejs zbar-tools"
command -v npm >/dev/null || portal="$portal npm" # others' nodejs brings its own
lint="clang-format clang-tidy cppcheck"
fuzz="clang libclang-rt-dev"
coverage="gcovr"
deb="debhelper bash-completion dpkg-dev lintian libcap2-bin systemd"
static="gcc make meson ninja-build pkg-config dpkg-dev cmake autoconf automake libtool tcl linux-libc-dev nanopb
 python3-protobuf protobuf-compiler"
static_aarch64="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
openwrt="busybox-static shellcheck make"
distros="debootstrap debian-archive-keyring ubuntu-keyring"

want=""
for set in "${@:-build}"; do
    case "$set" in
    build) want="$want $build" ;;
    test) want="$want $build $test" ;;
    lab) want="$want $build $test $lab" ;;
    bench) want="$want $build $test $lab $bench" ;;
    portal) want="$want $build $portal" ;;
    lint) want="$want $build $lint" ;;
    fuzz) want="$want $build $fuzz" ;;
    coverage) want="$want $build $test $coverage" ;;
    deb) want="$want $build $deb" ;;
    distros) want="$want $distros" ;;
    openwrt) want="$want $openwrt" ;;
    static) want="$want $static" ;;
    static-aarch64) want="$want $static_aarch64" ;;
    static-x86_64) want="$want gcc-x86-64-linux-gnu libc6-dev-amd64-cross qemu-user-static" ;;
    all) want="$want $build $test $lab $bench $portal $lint $fuzz $coverage" ;;
    *) echo "install-deps: no set is called '$set'; use build, test, lab, bench, portal, lint, fuzz, coverage, deb, distros, static, static-aarch64, openwrt or all" >&2
       exit 2 ;;
    esac
done

installed() {
    dpkg-query -W -f='${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed'
}

missing=""
for p in $(printf '%s\n' $want | sort -u); do
    installed "$p" || missing="$missing $p"
done
# What is only better to have, where apt knows of it.
want_optional() {
    case " $want " in *" libgnutls28-dev "*) ;; *) return 0 ;; esac
    for p in $optional; do
        case " $missing " in *" $p "*) continue ;; esac
        installed "$p" || ! apt-cache policy "$p" 2>/dev/null | grep -q 'Candidate: [^(]' ||
            missing="$missing $p"
    done
}
want_optional
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

# Where this machine gets Debian from, with the key that it checks it by, as the start
# of a one-line source. Security archives have no backports.
mirror() {
    {
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            awk '$1 == "deb" && !/security/ {
                sub(/^deb /, ""); split($0, f, " "); o = ""; i = 1
                if (f[1] ~ /^\[/) do { o = o f[i] " " } while (f[i++] !~ /\]$/)
                if (f[i] ~ /debian/) print "deb " o f[i] }'
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
            awk 'BEGIN { RS = "" } {
                uri = key = ""
                n = split($0, line, "\n")
                for (i = 1; i <= n; i++) {
                    split(line[i], f, " ")
                    if (f[1] == "URIs:") uri = f[2]
                    if (f[1] == "Signed-By:") key = f[2]
                }
                if (uri ~ /debian/ && uri !~ /security/)
                    print "deb " (key ~ /^\// ? "[signed-by=" key "] " : "") uri }'
    } | head -n 1
}

echo "installing:$missing"
update
want_optional # a fresh machine has learned only now what there is
offered=$(apt-cache madison libngtcp2-dev | awk '{ print $3 }' | sort -V | tail -n 1)
if [ -z "$offered" ] || dpkg --compare-versions "$offered" lt 1.11; then
    source=$(mirror)
    [ -n "$source" ] || {
        echo "install-deps: ngtcp2 1.11 is not offered here; add bookworm-backports to apt's sources" >&2
        exit 1
    }
    echo "$source bookworm-backports main" |
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
