#!/bin/sh
# Tries figures, rules and dashboard against a real Prometheus (Debian's package, or
# PROMETHEUS and PROMTOOL): a broker on loopback, scraped for some seconds; then each
# expression of rules and dashboard must be one that it takes.
# Usage: contrib/prometheus/try.sh BUILD
set -eu
build=${1:-build}
here=$(cd "$(dirname "$0")" && pwd)
prometheus=${PROMETHEUS:-prometheus} promtool=${PROMTOOL:-promtool}
command -v "$prometheus" > /dev/null || { echo "no prometheus here; apt install prometheus" >&2; exit 2; }
dir=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2> /dev/null || true; done; wait; rm -rf "$dir"' EXIT
at=127.0.0.1:19440 web=127.0.0.1:19441
sed "s/127.0.0.1:9440/$at/; s/15s/1s/" "$here/prometheus.yml" > "$dir/prometheus.yml"
cp "$here/postern-alerts.yml" "$dir"
"$promtool" check config "$dir/prometheus.yml"
"$build/postern" broker --listen 127.0.0.1:19443 --public 127.0.0.1 --state "$dir/state" --no-portal \
    --metrics "$at" > "$dir/broker.log" 2>&1 &
pids=$!
"$prometheus" --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/tsdb" \
    --web.listen-address="$web" > "$dir/prometheus.log" 2>&1 &
pids="$pids $!"
ask() { curl -sS --fail-with-body -G "http://$web/api/v1/query" --data-urlencode "query=$1"; }
for i in $(seq 100); do
    ask 'up{job="postern"} == 1' 2> /dev/null | grep -q '"value"' && break
    [ "$i" -lt 100 ] || { echo "it was not scraped" >&2; cat "$dir/prometheus.log" >&2; exit 1; }
    sleep 0.2
done
ask 'postern_build_info{role="broker"}' | grep -q '"value"'
"$promtool" check metrics < /dev/null
curl -sS "http://$at/metrics" | "$promtool" check metrics
python3 -c '
import json, sys
for p in json.load(open(sys.argv[1]))["panels"]:
    for t in p["targets"]:
        print(t["expr"].replace("$instance", ".*"))
' "$here/../grafana/postern.json" | while read -r expr; do
    ask "$expr" > "$dir/answer" || { echo "refused: $expr" >&2; cat "$dir/answer" >&2; exit 1; }
done
echo "scraped, $(grep -c alert: "$here/postern-alerts.yml") rules and the dashboard's expressions are good"
