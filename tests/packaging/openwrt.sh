#!/usr/bin/env bash
# The recipe of packaging/openwrt without OpenWrt: its Makefile's steps under stand-ins of the
# SDK's rules.mk and package.mk, the package laid over a copy of this machine's root that is
# thrown away (overlayfs), and its init script run there by BusyBox's shell through a stand-in of
# rc.common and procd, which knows what the real ones take. Takes the file of `make static
# PROFILE=host`, else build/postern. Root; busybox, shellcheck.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || { echo "openwrt.sh: run it as root" >&2; exit 1; }
    exec unshare --mount --pid --net --fork --kill-child --mount-proc "$0" inside
fi
fail() { echo "openwrt.sh: FAILED: $*" >&2; tail -n 5 "$at"/*.log "$at/procd/log" >&2 2>/dev/null || true; exit 1; }
step() { echo "== $*"; }
is() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
until_so() { # WHAT COMMAND...
    local what=$1 n
    shift
    for n in $(seq 150); do "$@" && return 0; sleep 0.2; done
    fail "$what"
}
at=$(mktemp -d)
mount -t tmpfs tmpfs "$at"
ip link set lo up
program=build-static/postern-$(uname -m)-host
[ -x "$program" ] || program=${POSTERN_BUILD:-build}/postern
broker=${POSTERN_BUILD:-build}/postern
echo "with $program"

step "shellcheck and BusyBox's shell"
script=packaging/openwrt/files/postern.init
shellcheck --shell=dash "$script"
busybox sh -n "$script"

step "the Makefile's steps"
sdk=$at/sdk
mkdir -p "$sdk/include" "$at/feed"
cp -r packaging/openwrt "$at/feed/postern"
install -m 755 "$program" "$at/feed/postern/files/postern"
cat >"$sdk/rules.mk" <<'RULES'
INCLUDE_DIR := $(TOPDIR)/include
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
RULES
# As the SDK's: what is listed in conffiles and is no file of the package goes to keep.d.
cat >"$sdk/include/package.mk" <<'PACKAGE'
define BuildPackage
$(foreach name,SECTION CATEGORY TITLE,$(if $(findstring $(name):=,$(Package/$(1))),,$(error $(1) has no $(name))))
compile:
	$(Build/Compile)
	rm -rf $(OUT)
	mkdir -p $(OUT)/CONTROL
	$(call Package/$(1)/install,$(OUT))
	echo "$(PKG_NAME) $(PKG_VERSION)-$(PKG_RELEASE) $(PKG_LICENSE)" >$(OUT)/CONTROL/control
	for x in $(strip $(Package/$(1)/conffiles)); do [ -f $(OUT)$$$$x ] || { \
		mkdir -p $(OUT)/lib/upgrade/keep.d && echo $$$$x >>$(OUT)/lib/upgrade/keep.d/$(1); }; done
endef
PACKAGE
make -s -C "$at/feed/postern" compile TOPDIR="$sdk" OUT="$at/package"
version=$(sed -n "1s/.*version: '\([^']*\)'.*/\1/p" meson.build)
is control "$(cat "$at/package/CONTROL/control")" "postern $version-1 Apache-2.0"
is "what sysupgrade keeps" "$(cat "$at/package/lib/upgrade/keep.d/postern")" /etc/postern/
is "what is in it" "$(cd "$at/package" && find usr etc -type f -perm 755 | sort | xargs)" \
    "etc/init.d/postern usr/bin/postern"

step "on a router"
for dir in etc usr; do
    mkdir -p "$at/over/$dir" "$at/over/$dir.work"
    mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$at/over/$dir,workdir=$at/over/$dir.work" "/$dir"
done
cp -r "$at"/package/usr/. /usr/
cp -r "$at"/package/etc/. /etc/
mount --bind "$(command -v busybox)" /bin/sh
mkdir -p "$at/procd"
export PROCD=$at/procd
# What the script may call, and no other word; an instance is a file of what it was told.
cat >/etc/rc.common <<'COMMON'
#!/bin/sh
initscript=$1 action=${2:-help}
name=$(basename "$initscript")
shift 2
procd_open_instance() { : >"$PROCD/new"; }
procd_set_param() {
	local type=$1
	shift
	case "$type" in
	command) printf '%s\n' "$@" >"$PROCD/command" ;;
	env) printf '%s\n' "$@" >"$PROCD/env" ;;
	respawn) [ $# = 3 ] || echo "respawn takes three numbers" >&2; echo "$@" >"$PROCD/respawn" ;;
	stdout | stderr) ;;
	*) echo "rc.common: $type is not known" >&2; exit 1 ;;
	esac
}
procd_close_instance() { mv "$PROCD/new" "$PROCD/instance"; }
procd_send_signal() { [ "$1" = "$name" ] && kill -HUP "$(cat "$PROCD/pid")"; }
. "$initscript"
[ "$USE_PROCD" = 1 ] || exit 1
case "$action" in
start)
	rm -f "$PROCD/instance"
	start_service
	[ -e "$PROCD/instance" ] || exit 0
	(
		while read -r pair; do export "$pair"; done <"$PROCD/env"
		set --
		while read -r word; do set -- "$@" "$word"; done <"$PROCD/command"
		exec "$@" >>"$PROCD/log" 2>&1
	) &
	echo $! >"$PROCD/pid"
	;;
stop) kill -TERM "$(cat "$PROCD/pid")" ;;
reload) reload_service ;;
enable) [ -n "$START" ] && [ -n "$STOP" ] && ln -sf "../init.d/$name" "/etc/rc.d/S$START$name" ;;
*) exit 1 ;;
esac
COMMON
mkdir /etc/rc.d
is "its version" "$(postern version | cut -d' ' -f1)" postern
/etc/init.d/postern enable
[ -x /etc/rc.d/S95postern ] || fail "it is not enabled"
said=$(/etc/init.d/postern start 2>&1)
grep -q "^postern: nothing is published here yet" <<<"$said" || fail "it starts what cannot work: '$said'"
[ ! -e "$at/procd/instance" ] || fail "procd has an instance that cannot work"
POSTERN_STATE=$at/broker $broker broker --json --public 127.0.0.1:8443 --listen 127.0.0.1:8443 >"$at/broker.log" &
until_so "the broker is not ready" grep -q '"ready"' "$at/broker.log"
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$at/broker.log")
export POSTERN_STATE=/etc/postern
postern serve --json --broker "$link" --name router 22 >"$at/serve.log" &
pid=$!
until_so "serve is not ready" grep -q '"ready"' "$at/serve.log"
kill "$pid" && wait "$pid"
/etc/init.d/postern start
until_so "the unit is not ready" grep -qi "ready" "$at/procd/log"
is "how it is started again" "$(cat "$at/procd/respawn")" "3600 5 0"
postern invite | grep -q 'postern://' || fail "no invite"
postern status --check >/dev/null || fail "status does not know it"
/etc/init.d/postern reload
until_so "it does not read again" grep -q "^read again" "$at/procd/log"
pid=$(cat "$at/procd/pid")
/etc/init.d/postern stop
until_so "it does not end" sh -c "! kill -0 $pid 2>/dev/null"
echo "openwrt: built, started, used, read again, stopped"
