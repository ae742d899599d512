#!/usr/bin/env bash
# Builds the Debian packages of what is here into build-deb/. Knows how packaging/debian becomes
# a source package; what the packages are stands there.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n "1s/.*version: '\([^']*\)'.*/\1/p" meson.build)
date=$(sed -n "s/^manual_date = '\([^']*\)'.*/\1/p" meson.build)
# Ubuntu has no unstable.
suite=$(. /etc/os-release && [ "$ID" = ubuntu ] && echo "$VERSION_CODENAME" || echo unstable)
at=build-deb/postern-$version
rm -rf build-deb
mkdir -p "$at"
tools/list-source.sh | tar --create --null --files-from=- | tar --extract --directory "$at"
cp -r packaging/debian "$at/debian"
cat >"$at/debian/changelog" <<CHANGES
postern ($version) $suite; urgency=medium

  * See /usr/share/doc/postern/changelog.gz.

 -- The Postern developers <postern@localhost>  $(LC_ALL=C date -u -R -d "$date")
CHANGES
(cd "$at" && dpkg-buildpackage --build=binary --no-sign) >build-deb/log 2>&1 || {
    tail -n 30 build-deb/log >&2
    exit 1
}
rm -rf "$at"
ls build-deb/*.deb
if command -v lintian >/dev/null; then
    # The project has no address to write to yet.
    lintian --allow-root --tag-display-limit 0 --fail-on error,warning \
        --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog build-deb/*.changes
fi
