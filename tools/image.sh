#!/usr/bin/env bash
# Makes an OCI image, build-image/postern-ARCH.tar, of each full binary in build-static: the
# program, a user without privileges, its state in /state. Needs no engine; 'podman load' and
# 'docker load' take it. The same binary gives the same image.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n "1s/.*version: '\([^']*\)'.*/\1/p" meson.build)
date=$(sed -n "s/^manual_date = '\([^']*\)'.*/\1/p" meson.build)
uid=65532
declare -A go=([x86_64]=amd64 [aarch64]=arm64)

blob() { # FILE: becomes one; prints its size and digest as members of a descriptor
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    printf '"size":%s,"digest":"sha256:%s"' "$(stat -c %s "$1")" "$digest"
    mv "$1" "$at/blobs/sha256/$digest"
}
image() { # ARCH
    local root layer config manifest content
    at=build-image/postern-$1
    root=build-image/root
    rm -rf "$at" "$root"
    mkdir -p "$at/blobs/sha256" "$root/usr/bin" "$root/etc" "$root/state" "$root/tmp"
    install -m 755 "build-static/postern-$1" "$root/usr/bin/postern"
    echo "postern:x:$uid:$uid::/state:/usr/bin/postern" >"$root/etc/passwd"
    echo "postern:x:$uid:" >"$root/etc/group"
    chmod 700 "$root/state" && chmod 1777 "$root/tmp"
    local as=(--sort=name --mtime=@0 --format=gnu --directory "$root")
    tar "${as[@]}" --owner=0 --group=0 --numeric-owner -cf build-image/layer etc tmp usr
    tar "${as[@]}" --owner=$uid --group=$uid --numeric-owner -rf build-image/layer state
    content=$(sha256sum build-image/layer | cut -d' ' -f1)
    gzip -n9 <build-image/layer >build-image/layer.gz
    layer=$(blob build-image/layer.gz)
    cat >build-image/config <<CONFIG
{"created":"${date}T00:00:00Z","architecture":"${go[$1]}","os":"linux","config":{"User":"$uid:$uid",
"Env":["POSTERN_STATE=/state","PATH=/usr/bin"],"Entrypoint":["/usr/bin/postern"],"Cmd":["--help"],
"WorkingDir":"/state","Volumes":{"/state":{}},"StopSignal":"SIGTERM",
"Healthcheck":{"Test":["CMD","/usr/bin/postern","status","--check"],"Interval":30000000000,"Timeout":10000000000,
"StartPeriod":60000000000},"Labels":{"org.opencontainers.image.title":"postern",
"org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0"}},
"rootfs":{"type":"layers","diff_ids":["sha256:$content"]},"history":[{"created":"${date}T00:00:00Z"}]}
CONFIG
    config=$(blob build-image/config)
    local media=application/vnd.oci.image
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' \
        $media.manifest.v1+json $media.config.v1+json "$config" $media.layer.v1.tar+gzip "$layer" >build-image/manifest
    manifest=$(blob build-image/manifest)
    printf '{"schemaVersion":2,"mediaType":"%s","manifests":[{"mediaType":"%s",%s,"platform":%s,"annotations":%s}]}' \
        $media.index.v1+json $media.manifest.v1+json "$manifest" \
        "{\"architecture\":\"${go[$1]}\",\"os\":\"linux\"}" \
        "{\"org.opencontainers.image.ref.name\":\"localhost/postern:$version\"}" >"$at/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$at/oci-layout"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$at" -cf "$at.tar" .
    rm -rf "$at" "$root" build-image/layer
    sha256sum "$at.tar"
}
mkdir -p build-image
some=""
for arch in "${!go[@]}"; do
    [ ! -e "build-static/postern-$arch" ] || { image "$arch"; some=yes; }
done
[ -n "$some" ] || { echo "image: build-static is empty: make static first" >&2; exit 1; }
