#!/usr/bin/env bash
# The main job, visibly: a host behind a NAT publishes a web page and ssh, a client
# behind another NAT joins with one link and uses both. Everything happens in network
# namespaces of this machine and is removed afterwards. Needs root.
set -euo pipefail
postern=$(readlink -f "${1:-build/postern}")
[ "$(id -u)" = 0 ] || { echo "demo: network namespaces need root; run it with sudo" >&2; exit 1; }
id=demo$$
tmp=$(mktemp -d)
ns() { echo "$id-$1"; }
in_ns() { local n=$1; shift; ip netns exec "$(ns "$n")" "$@"; }
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

cleanup() {
    set +e
    for n in inet nata natb host client broker; do
        ip netns pids "$(ns $n)" 2>/dev/null | xargs -r kill 2>/dev/null
    done
    for _ in $(seq 50); do
        left=$(for n in inet nata natb host client broker; do ip netns pids "$(ns $n)" 2>/dev/null; done)
        [ -z "$left" ] && break
        sleep 0.1
    done
    for n in inet nata natb host client broker; do
        ip netns pids "$(ns $n)" 2>/dev/null | xargs -r kill -9 2>/dev/null
        ip netns del "$(ns $n)" 2>/dev/null
    done
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

cat <<'PICTURE'

      192.168.1.2            198.51.100.1       203.0.113.1            192.168.2.2
      +--------+   +-------+                               +-------+   +--------+
      |  host  |---| NAT A |-----------+       +-----------| NAT B |---| client |
      +--------+   +-------+         +-----------+         +-------+   +--------+
       web, ssh    masquerade        | "internet"|         masquerade
      no open port                   +-----------+
                                           |
                                     +-----------+
                                     |  broker   |  192.0.2.1, port 443
                                     +-----------+
PICTURE

for n in inet nata natb host client broker; do
    ip netns add "$(ns $n)"
    in_ns $n ip link set lo up
done
cable() { # ns-a name-a addr-a ns-b name-b addr-b
    ip link add "$2" netns "$(ns "$1")" type veth peer name "$5" netns "$(ns "$4")"
    in_ns "$1" ip addr add "$3" dev "$2"
    in_ns "$4" ip addr add "$6" dev "$5"
    in_ns "$1" ip link set dev "$2" up
    in_ns "$4" ip link set dev "$5" up
}
cable host eth0 192.168.1.2/24 nata lan 192.168.1.1/24
cable client eth0 192.168.2.2/24 natb lan 192.168.2.1/24
cable nata wan 198.51.100.1/24 inet to-a 198.51.100.254/24
cable natb wan 203.0.113.1/24 inet to-b 203.0.113.254/24
cable broker eth0 192.0.2.1/24 inet to-c 192.0.2.254/24
in_ns host ip route add default via 192.168.1.1
in_ns client ip route add default via 192.168.2.1
in_ns nata ip route add default via 198.51.100.254
in_ns natb ip route add default via 203.0.113.254
in_ns broker ip route add default via 192.0.2.254
for n in inet nata natb; do in_ns $n sysctl -qw net.ipv4.ip_forward=1; done
for n in nata natb; do
    in_ns $n nft -f - <<'RULES'
table inet nat {
    chain outward {
        type nat hook postrouting priority 100
        oifname "wan" masquerade
    }
    chain to_router {
        type filter hook input priority 0
        iifname "wan" ct state != { established, related } drop
    }
    chain through {
        type filter hook forward priority 0
        iifname "wan" ct state != { established, related } drop
    }
}
RULES
done

wait_for() { # seconds, what, command...
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "demo: $what did not happen in time" >&2; cat "$tmp"/*.err >&2; exit 1; }
        sleep 0.1
    done
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

say "1. The broker starts on a public address and prints its link."
in_ns broker "$postern" broker --listen 192.0.2.1:443 --state "$tmp/broker" --json >"$tmp/broker.out" 2>"$tmp/broker.err" &
wait_for 10 "the broker's start" grep -q ready "$tmp/broker.out"
link=$(field link <"$tmp/broker.out")
echo "   $link"

say "2. The host has a web page and an ssh server, bound to 127.0.0.1 only."
mkdir -p "$tmp/www" "$tmp/ssh"
echo "Hello from behind NAT A. Nothing here listens on the network." >"$tmp/www/index.html"
(cd "$tmp/www" && exec ip netns exec "$(ns host)" python3 -m http.server 8080 --bind 127.0.0.1 >"$tmp/web.out" 2>"$tmp/web.err") &
ssh-keygen -q -t ed25519 -N '' -f "$tmp/ssh/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$tmp/ssh/user_key"
cp "$tmp/ssh/user_key.pub" "$tmp/ssh/authorized_keys"
chmod 700 "$tmp" "$tmp/ssh"
cat >"$tmp/ssh/config" <<CONF
Port 22
ListenAddress 127.0.0.1
HostKey $tmp/ssh/host_key
AuthorizedKeysFile $tmp/ssh/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PidFile none
UsePAM no
CONF
mkdir -p /run/sshd
in_ns host /usr/sbin/sshd -D -e -f "$tmp/ssh/config" >"$tmp/sshd.out" 2>"$tmp/sshd.err" &
in_ns host "$postern" serve --broker "$link" --name home --state "$tmp/host" --json 22 web=8080 >"$tmp/serve.out" 2>"$tmp/serve.err" &
wait_for 10 "the host's start" grep -q ready "$tmp/serve.out"
echo "   \$ postern serve --broker LINK 22 web=8080"
echo "   TCP sockets of the host that a network could reach: $(in_ns host ss -Hlnt | grep -cv '127.0.0.1' || true)"

say "3. The host invites: a link for one use, and its QR code."
echo "   \$ postern invite"
in_ns host "$postern" invite --state "$tmp/host" --qr | tee "$tmp/invite.txt" | sed 's/^/   /'
invite=$(grep -o 'postern://[^ ]*' "$tmp/invite.txt" | head -n 1)

say "4. The client joins: one action, nothing to configure."
echo "   \$ postern join LINK"
in_ns client "$postern" join --state "$tmp/client" "$invite" | sed 's/^/   /'

say "5. The client opens the web page through a local port."
in_ns client "$postern" connect --state "$tmp/client" --json home:web 127.0.0.1:8888 >"$tmp/connect.out" 2>"$tmp/connect.err" &
wait_for 10 "the connection" grep -q ready "$tmp/connect.out"
echo "   \$ postern connect home:web 127.0.0.1:8888"
echo "   \$ curl http://127.0.0.1:8888/"
echo "   $(in_ns client curl -sS --max-time 10 http://127.0.0.1:8888/)"
wait_for 20 "the direct path" grep -q '"kind":"udp-punch","local"' "$tmp/connect.out"
say "   The way the packets took:"
sed -n 's/.*"event":"path".*"kind":"\([^"]*\)".*"remote":"\([^"]*\)".*"rtt_ms":\([0-9.]*\),"elapsed_ms":\([0-9.]*\).*/   after \4 ms: \1 through \2, round trip \3 ms/p' "$tmp/connect.out"

say "6. ssh logs in through it."
echo "   \$ ssh -o ProxyCommand='postern nc %h %p' root@home"
in_ns client ssh -q -i "$tmp/ssh/user_key" -o BatchMode=yes -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null -o ConnectTimeout=20 \
    -o "ProxyCommand=$postern nc --state $tmp/client %h %p" root@home \
    'echo "   logged in; the addresses here: $(ip -brief -4 addr show eth0 | awk "{print \$3}"), seen only by its own LAN"'

say "Done. Everything is removed again."
