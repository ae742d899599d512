#!/usr/bin/env bash
# The life of the Debian packages of build-deb/: installed, enabled, used, upgraded, refused an
# older one, purged, in a copy of this machine's root that is thrown away (overlayfs; the
# machine itself is not touched, and stays without the packages). Without a systemd that runs:
# units are enabled and verified, and what they start is started by hand. Root.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || { echo "deb.sh: run it as root" >&2; exit 1; }
    exec unshare --mount --pid --net --fork --kill-child "$0" inside
fi

at=$PWD/build-deb/life
mkdir -p "$at"
mount -t tmpfs tmpfs "$at"
mkdir "$at/up" "$at/work" "$at/root" "$at/debs"
cp build-deb/postern_*.deb build-deb/postern-broker_*.deb "$at/debs"
mount -t overlay overlay -o "lowerdir=/,upperdir=$at/up,workdir=$at/work" "$at/root"
root=$at/root
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir "$root/tmp/debs" && cp "$at"/debs/* "$root/tmp/debs"
ip link set lo up

broker_pid=""
on_this() { exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 "$@"; }
on() { (on_this "$@"); }
step() { echo "== $*"; }
fail() { echo "deb.sh: FAILED: $*" >&2; exit 1; }
is() { # WHAT GOT WANTED
    [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}
helper=/usr/libexec/postern/postern-helper
helper_is_ready() {
    is "the helper's owner and mode" "$(on stat -c '%U:%G %a' $helper)" "root:postern 750"
    is "the helper's capabilities" "$(on getcap $helper)" \
        "$helper cap_net_bind_service,cap_net_admin,cap_net_raw=ep"
}
units_are() {
    local unit
    for unit in postern-broker postern-serve; do
        is "$unit" "$(on systemctl is-enabled $unit.service || true)" "$1"
    done
}
# Another version of the same packages.
as_version() { # VERSION
    local package
    for package in postern postern-broker; do
        dpkg-deb -R "$(echo "$at/debs/$package"_*_*.deb)" "$at/new"
        sed -i -e "s/^Version: .*/Version: $1/" -e "s/postern (= [^)]*)/postern (= $1)/" \
            "$at/new/DEBIAN/control"
        dpkg-deb --build --root-owner-group "$at/new" "$root/tmp/debs-$1-$package.deb" >/dev/null
        rm -rf "$at/new"
    done
}
everything() {
    (cd "$root" && find bin etc lib opt run sbin srv usr var \( -path var/lib/dpkg -o -path var/log \
        -o -path var/cache -o -path var/tmp \) -prune -o -print | sort)
}

! on dpkg -s postern >/dev/null 2>&1 || fail "postern is installed on this machine already"
everything >"$at/before"

step install
on sh -c 'dpkg -i /tmp/debs/*.deb' >"$at/log" 2>&1 || { cat "$at/log" >&2; fail "it does not install"; }
helper_is_ready
units_are disabled
on getent group postern >/dev/null || fail "there is no group postern"
is "the broker's home" "$(on getent passwd postern-broker | cut -d: -f6)" /var/lib/postern-broker
on sh -c 'postern --version && man -w postern-serve postern-state && postern complete -- ver' >/dev/null
for unit in system/postern-broker system/postern-serve user/postern-up; do
    said=$(on systemd-analyze verify --man=no "/lib/systemd/$unit.service" 2>&1 ||
        on systemd-analyze verify --man=no --user "/usr/lib/systemd/$unit.service" 2>&1 || true)
    ! grep -i postern <<<"$said" || fail "$unit is not clean"
done

step helper
may() { on setpriv --reuid postern-broker --regid postern-broker "$@" test -x $helper; }
may --groups "$(on getent group postern | cut -d: -f3)" || fail "the group postern may not run the helper"
! may --clear-groups || fail "everybody may run the helper"
on grep -q SupplementaryGroups=postern /lib/systemd/system/postern-broker.service ||
    fail "the broker may not run the helper"

step enable and use
on systemctl enable postern-broker postern-serve 2>/dev/null
units_are enabled
echo 'BROKER_OPTIONS="--public 127.0.0.1:8443 --listen 127.0.0.1:8443"' >>"$root/etc/default/postern-broker"
on install -d -o postern-broker -m 700 /var/lib/postern-broker
on_this sh -c '. /etc/default/postern-broker; export POSTERN_STATE=/var/lib/postern-broker
    exec setpriv --reuid postern-broker --regid postern-broker --clear-groups \
    postern broker --json $BROKER_OPTIONS' >"$at/broker" &
broker_pid=$!
for _ in $(seq 100); do grep -q '"ready"' "$at/broker" && break; sleep 0.2; done
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$at/broker")
[ -n "$link" ] || fail "the broker is not ready"
on timeout -s TERM 20 sh -c 'postern serve --json --broker "$0" --name home 22 >/tmp/serve & pid=$!
    until grep -q ready /tmp/serve; do sleep 0.2; done; postern invite >/tmp/invite; kill $pid; wait $pid' "$link"
key=$(on postern keys --json)
state=$(on sh -c 'cd /var/lib/postern && ls')

step upgrade
as_version 99.0
on sh -c 'dpkg -i --force-confold /tmp/debs-99.0-*.deb' >"$at/log" 2>&1 ||
    { cat "$at/log" >&2; fail "it does not upgrade"; }
helper_is_ready
units_are enabled
is "the device key" "$(on postern keys --json)" "$key"
is "the state directory" "$(on sh -c 'cd /var/lib/postern && ls')" "$state"
grep -q 127.0.0.1:8443 "$root/etc/default/postern-broker" || fail "the settings are lost"

step downgrade
! on sh -c 'dpkg -i /tmp/debs/postern_*.deb' >"$at/log" 2>&1 || fail "an older version was let in"
is "lines about it" "$(grep -c '^postern: ' "$at/log")" 1
is "the version" "$(on dpkg-query -W -f '${Version} ${db:Status-Status}' postern)" "99.0 installed"
is "the device key" "$(on postern keys --json)" "$key"

step purge
kill "$broker_pid" && wait "$broker_pid" || true
on dpkg --purge postern-broker postern >"$at/log" 2>&1 || { cat "$at/log" >&2; fail "it is not purged"; }
grep -q '^postern: left as they are' "$at/log" || fail "nothing says what is left"
everything >"$at/after"
left=$(comm -13 "$at/before" "$at/after")
is "what is left" "$(grep -i postern <<<"$left" || true)" ""
echo "packages: installed, enabled, used, upgraded, not downgraded, purged"
[ -z "$left" ] || { echo "left by programs of the system:"; echo "$left"; }
