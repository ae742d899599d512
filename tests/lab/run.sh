#!/bin/sh
# Runs the lab: real programs between network namespaces, through real NAT rules.
# Needs root; builds nothing. Usage: tests/lab/run.sh [--full] [pytest arguments]
# POSTERN_BUILD names the build directory (default: build in the project's root).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "lab: $1" >&2
    exit 1
}

if [ "${1:-}" = "--full" ]; then
    shift
    POSTERN_LAB_FULL=1
    export POSTERN_LAB_FULL
fi
[ "$(id -u)" = 0 ] || fail "network namespaces need root; run it with sudo"
[ -w /dev/net/tun ] || fail "/dev/net/tun is missing; load the tun module"
for program in ip nft ss sysctl conntrack python3; do
    command -v "$program" >/dev/null ||
        fail "$program is missing; install iproute2, nftables, procps, conntrack, python3"
done
python3=/usr/bin/python3
"$python3" -m pytest --version >/dev/null 2>&1 ||
    fail "pytest is missing; install python3-pytest"

# What only some tests need: they are skipped, and counted as skipped, without it.
for program in socat ssh sshd nginx curl iperf3 dnsmasq dig rsync tcpdump nc \
    turnutils_stunclient turnutils_natdiscovery; do
    command -v "$program" >/dev/null ||
        echo "lab: $program is missing: its tests will be skipped" >&2
done

cd "$root"
exec "$python3" -m pytest -q -rs -p no:cacheprovider tests/lab "$@"
