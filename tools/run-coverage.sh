#!/usr/bin/env bash
# How much of src/ the tests run, by directory: unit tests and simulator, and where it is
# root the lab, with gcc's counters in a build of its own. Usage: tools/run-coverage.sh
# POSTERN_COVERAGE_LAB: "no", or pytest's arguments for a part of the lab ("-k roam").
# What was killed with KILL wrote no counts.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=build-coverage
part=${POSTERN_COVERAGE_LAB:-}
failed=0

[ -f "$dir/build.ninja" ] ||
    meson setup "$dir" -Dbuildtype=debugoptimized -Db_coverage=true >/dev/null
ninja -C "$dir" >/dev/null
find "$dir" -name '*.gcda' -delete
meson test -C "$dir" --no-rebuild --print-errorlogs --timeout-multiplier 4 </dev/null || failed=1
if [ "$part" = no ] || [ "$(id -u)" != 0 ]; then
    echo "coverage: without the lab" >&2
else
    # shellcheck disable=SC2086 # they are words
    POSTERN_BUILD=$dir POSTERN_LAB_PATIENCE=3 tests/lab/run.sh $part </dev/null || failed=1
fi
gcovr --root . --filter 'src/' --exclude-unreachable-branches --csv - "$dir" |
    python3 -c '
import collections, csv, os, sys
sums = collections.defaultdict(lambda: [0] * 4)
for row in csv.DictReader(sys.stdin):
    counts = [int(row[k]) for k in ("line_covered", "line_total", "branch_covered", "branch_total")]
    for name in (os.path.dirname(row["filename"]) + "/", "in all"):
        sums[name] = [a + b for a, b in zip(sums[name], counts)]
print("%-14s %16s %7s %18s %7s" % ("directory", "lines run", "", "branches taken", ""))
for name in sorted(sums, key=lambda n: (n == "in all", n)):
    l, lines, b, branches = sums[name]
    print("%-14s %7d of %5d %6.1f%% %9d of %5d %6.1f%%" % (
        name, l, lines, 100 * l / max(lines, 1), b, branches, 100 * b / max(branches, 1)))
'
if [ "$failed" = 1 ]; then
    echo "coverage: a test failed: see above" >&2
fi
exit "$failed"
