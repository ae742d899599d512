#!/usr/bin/env bash
# The main job, to watch: a host behind one NAT, a client behind another, a broker
# between them. Builds three private networks out of network namespaces, runs the real
# programs in them and takes everything away again, also after Ctrl-C or a failure.
# It knows the command line of postern only. Usage: tests/demo/demo.sh [POSTERN]
set -euo pipefail
export LC_ALL=C.UTF-8

postern=$(realpath "${1:-build/postern}")
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "demo: network namespaces need root; run it as root" >&2
        exit 1
    }
    exec sudo -- "$(realpath "$0")" "$postern"
fi

id=$$
tmp=$(mktemp -d /tmp/postern-demo.XXXXXX)
names="net broker hgw home cgw laptop"
steps=0
bold='' dim='' green='' plain=''
if [ -t 1 ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'
fi

# ---------------------------------------------------------------- taking it away
clean_up() {
    status=$?
    trap '' INT TERM HUP EXIT
    set +e
    local name ns
    for name in $names; do
        ns=pd-$id-$name
        [ -e "/run/netns/$ns" ] || continue
        ip netns pids "$ns" | xargs -r kill 2>/dev/null || :
    done
    for name in $names; do
        ns=pd-$id-$name
        [ -e "/run/netns/$ns" ] || continue
        ended "$ns" || ip netns pids "$ns" | xargs -r kill -9 2>/dev/null || :
        ip netns del "$ns"
    done
    if [ "$status" != 0 ]; then
        echo
        echo "demo: it did not get through; what the programs said last:"
        tail -n 5 "$tmp"/*.log 2>/dev/null || :
    fi
    rm -rf "$tmp"
    [ "$status" != 0 ] || echo "All programs, networks and keys of this demo are gone again."
    exit "$status"
}
ended() { # every program of a namespace, within two seconds
    until_true 2 no_programs "$1"
}
no_programs() { [ -z "$(ip netns pids "$1")" ]; }

# ---------------------------------------------------------------- small tools
in_ns() { # NAME COMMAND...: as on that machine
    local name=$1
    shift
    ip netns exec "pd-$id-$name" unshare --uts -- \
        sh -c 'hostname "$1"; shift; exec "$@"' sh "$name" "$@"
}
start() { # LOG NAME COMMAND...: in the background
    local log=$tmp/$1.log name=$2
    shift 2
    in_ns "$name" "$@" >"$log" 2>&1 </dev/null &
}
until_true() { # SECONDS COMMAND...: asks again and again
    local until=$((SECONDS + $1 + 1))
    shift
    while ! "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.05
    done
}
says() { grep -q -- "$2" "$tmp/$1.log" 2>/dev/null; }
answers() { in_ns "$1" curl -s -o /dev/null --max-time 1 "$2"; }
listens() { [ -n "$(in_ns "$1" ss -Hltn "sport = :$2")" ]; }
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }
step() {
    steps=$((steps + 1))
    printf '\n%s%s. %s%s\n' "$bold" "$steps" "$1" "$plain"
}
show() { printf '   %s%s$ %s%s\n' "$dim" "$1" "$2" "$plain"; }
indent() { sed 's/^/   /'; }
die() {
    echo "demo: $1" >&2
    exit 1
}

# ---------------------------------------------------------------- the networks
picture() {
    cat <<'PICTURE'

        the public network 203.0.113.0/24
   ──┬───────────────────────┬────────────────────────┬──
     │ .2                    │ .1                     │ .3
  ┌──┴────────┐         ┌────┴─────┐          ┌───────┴───┐
  │ NAT       │         │  broker  │          │ NAT       │
  └──┬────────┘         └──────────┘          └───────┬───┘
     │ 192.168.1.0/24                  10.0.0.0/24    │
  ┌──┴────────┐                               ┌───────┴───┐
  │   home    │  a web page and sshd,         │  laptop   │
  │  (host)   │  on 127.0.0.1 only            │ (client)  │
  └───────────┘                               └───────────┘
  Both NATs drop every packet from outside that nobody inside has asked for.

PICTURE
}
cable() { # A IF-A ADDRESS-A B IF-B [ADDRESS-B]
    ip link add "$2" netns "pd-$id-$1" type veth peer name "$5" netns "pd-$id-$4"
    ip -n "pd-$id-$1" addr add "$3" dev "$2"
    ip -n "pd-$id-$1" link set "$2" up
    [ -z "${6:-}" ] || ip -n "pd-$id-$4" addr add "$6" dev "$5"
    ip -n "pd-$id-$4" link set "$5" up
}
masquerade() { # NAME: translates what leaves by wan0, drops what comes uninvited
    ip netns exec "pd-$id-$1" sysctl -qw net.ipv4.ip_forward=1
    ip netns exec "pd-$id-$1" nft -f - <<'RULES'
table ip nat {
    chain out { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
}
table ip filter {
    chain from_wan { iifname "wan0" ct state != { established, related } drop; }
    chain forward { type filter hook forward priority 0; jump from_wan; }
    chain input { type filter hook input priority 0; jump from_wan; }
}
RULES
}
build_networks() {
    local name
    for name in $names; do
        ip netns add "pd-$id-$name"
        ip -n "pd-$id-$name" link set lo up
    done
    ip -n "pd-$id-net" link add br0 type bridge
    ip -n "pd-$id-net" link set br0 up
    cable broker eth0 203.0.113.1/24 net broker
    cable hgw wan0 203.0.113.2/24 net hgw
    cable cgw wan0 203.0.113.3/24 net cgw
    for name in broker hgw cgw; do
        ip -n "pd-$id-net" link set "$name" master br0
    done
    cable home eth0 192.168.1.2/24 hgw lan0 192.168.1.1/24
    cable laptop eth0 10.0.0.2/24 cgw lan0 10.0.0.1/24
    ip -n "pd-$id-home" route add default via 192.168.1.1
    ip -n "pd-$id-laptop" route add default via 10.0.0.1
    masquerade hgw
    masquerade cgw
}

# ---------------------------------------------------------------- the programs
start_web() {
    mkdir -p "$tmp/www"
    echo '<h1>Hello from the machine at home, which no port leads to.</h1>' \
        >"$tmp/www/index.html"
    start web home python3 -m http.server --bind 127.0.0.1 --directory "$tmp/www" 8080
}
start_sshd() {
    # sshd insists on this directory; it stays when a real sshd needs it too.
    mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$tmp/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$tmp/user_key"
    cp "$tmp/user_key.pub" "$tmp/authorized_keys"
    cat >"$tmp/sshd_config" <<CONFIG
Port 2222
ListenAddress 127.0.0.1
HostKey $tmp/host_key
AuthorizedKeysFile $tmp/authorized_keys
PermitRootLogin prohibit-password
PidFile none
StrictModes no
UsePAM no
CONFIG
    start sshd home "$(command -v sshd || echo /usr/sbin/sshd)" -D -e -f "$tmp/sshd_config"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

echo "${bold}Postern: a server that listens on nothing, reached from anywhere.${plain}"
echo "This machine now plays all the parts, each in a network of its own:"
picture
build_networks
start_web
start_sshd
until_true 10 answers home http://127.0.0.1:8080/ || die "the web page did not start"
until_true 10 listens home 2222 || die "sshd did not start"

step "The broker starts. It is the only one with a public address, and prints its link."
show broker "postern broker"
start broker broker "$postern" broker --json --state "$tmp/broker" --listen 203.0.113.1:443
until_true 10 says broker ready || die "the broker did not start"
broker_link=$(field link <"$tmp/broker.log")
echo "$broker_link" | indent

step "The host publishes its ssh and web servers. It opens no port: it dials out."
show home "postern serve --broker LINK ssh=2222 web=8080"
start serve home "$postern" serve --json --state "$tmp/host" --broker "$broker_link" \
    ssh=2222 web=8080
until_true 10 says serve ready || die "the host did not start"
echo "sockets that listen on its network: $(in_ns home ss -Hltn | grep -vc '127\.0\.0\.1' || :)" |
    indent

step "The host invites. The link, or its QR code, lets one device in, once."
show home "postern invite"
in_ns home "$postern" invite --qr --state "$tmp/host" >"$tmp/invite"
invite=$(grep -om 1 'postern://[^ ]*' "$tmp/invite")
sed 's|^On the other machine: postern join .*|On the other machine: postern join LINK|' \
    "$tmp/invite" | indent

step "The client joins with the link: one action, nothing to configure."
show laptop "postern join LINK"
in_ns laptop "$postern" join --state "$tmp/client" "$invite" | indent

step "The client opens the web page through a local port."
show laptop "postern connect home:web 127.0.0.1:8888"
start connect laptop "$postern" connect --json --state "$tmp/client" home:web 127.0.0.1:8888
until_true 15 says connect ready || die "the connection did not come up"
show laptop "curl http://127.0.0.1:8888/"
in_ns laptop curl -sS --max-time 10 http://127.0.0.1:8888/ | indent

step "The packets' way: through the broker at once, then straight from NAT to NAT."
until_true 15 says connect '"event":"path".*udp-punch' || die "no direct path was found"
sed -n '/"event":"path"/{
    s/.*"kind":"\([^"]*\)".*"remote":"\([^"]*\)".*"rtt_ms":\([0-9.]*\).*"elapsed_ms":\([0-9.]*\).*/\4 \1 \2 \3/p
}' "$tmp/connect.log" |
    while read -r elapsed kind remote rtt; do
        printf '   after %6.1f ms  %s%-9s%s  to %-19s  round trip %.1f ms\n' \
            "$elapsed" "$green" "$kind" "$plain" "$remote" "$rtt"
    done
echo "The relay carries ciphertext only; connections move over without a break." | indent

step "The client logs in by ssh, with postern as its way."
show laptop "ssh -o ProxyCommand='postern nc %h ssh' root@home"
in_ns laptop ssh -q -i "$tmp/user_key" -o BatchMode=yes -o IdentitiesOnly=yes \
    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=15 \
    -o "ProxyCommand=$postern nc --state $tmp/client %h ssh" root@home \
    'echo "hello from $(hostname), whose address $(hostname -I | tr -d " ") is hidden behind its NAT"' |
    indent
echo
