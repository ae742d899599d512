#!/usr/bin/env bash
# All tests in their short form: unit tests and simulator, the same under the address
# and undefined-behaviour sanitizers, the portal's pages in a browser, and the lab.
# Knows how to build and count; what is tested stands in tests/. Builds with warnings as
# errors in directories of its own.
#
# The lab takes longest and mostly waits. Beside it, in the time that it leaves, goes what
# knows no time but its own: the build with sanitizers and the simulators in it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp -d)
beside=
trap '[ -z "$beside" ] || kill -- "-$beside"; rm -rf "$log"' EXIT
status=0

build() { # DIRECTORY TARGET MESON-OPTION...
    local dir=$1 target=$2
    shift 2
    echo "== build $dir"
    [ -f "$dir/build.ninja" ] || meson setup "$dir" --werror "$@" >"$log/$dir.setup" 2>&1 || {
        cat "$log/$dir.setup"
        return 1
    }
    ninja -C "$dir" "$target" >"$log/$dir.ninja" 2>&1 || {
        grep -v '^\[' "$log/$dir.ninja"
        return 1
    }
}

# Prints meson's own lines as they come. meson counts programs: the cases inside them
# are counted later, from what cmocka reported. Many of them wait: several go at once.
suite() { # DIRECTORY HOW-MANY SUITE...
    local dir=$1 processes=$2 base
    shift 2
    base="$dir-$1" # the first names the file
    echo "== test $dir: $*"
    meson test -C "$dir" --no-rebuild --print-errorlogs --num-processes "$processes" \
        --timeout-multiplier 8 --logbase "$base" "${@/#/--suite=}" </dev/null
    local ended=$?
    cp "$dir/meson-logs/$base.json" "$log/"
    return "$ended"
}

export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
sanitized() {
    build build-asan-test meson-test-prereq -Dbuildtype=debugoptimized \
        -Db_sanitize=address,undefined -Db_lundef=false || return 2
    suite build-asan-test 2 sim
}

# The names in pytest's own summary.
failed_of() { # FILE...
    sed -nE 's/^(FAILED|ERROR) (tests.*)/\2/p' "$@" | sed 's/ - .*//' | sort -u
}

# The lab runs real programs in real time, ten tests side by side, of which four only wait
# (conftest.py): limits are three times what they are alone, and on a loaded machine
# one may pass all the same. What failed, if it is little, gets one more try alone, and the
# report says so; failing twice is failing.
lab() {
    echo "== test lab"
    local root=() again
    [ "$(id -u)" = 0 ] || root=(sudo --preserve-env=POSTERN_BUILD,POSTERN_LAB_PATIENCE,COLUMNS)
    export POSTERN_BUILD=build-test POSTERN_LAB_PATIENCE=3 COLUMNS=100
    "${root[@]}" tests/lab/run.sh -rfEs -n 10 --durations 15 </dev/null 2>&1 |
        tee "$log/lab" && return
    mapfile -t again < <(failed_of "$log/lab")
    if [ "${#again[@]}" = 0 ] || [ "${#again[@]}" -gt 8 ]; then
        status=1
        return
    fi
    echo "== test lab, once more what failed: ${again[*]}"
    "${root[@]}" /usr/bin/python3 -m pytest -q -rfE -p no:cacheprovider "${again[@]}" \
        </dev/null 2>&1 | tee "$log/again" || status=1
}

# Skipped, and counted as one, where there is no browser or nothing that drives it.
pages() {
    echo "== test pages"
    if ! command -v chromium >/dev/null || ! command -v node >/dev/null ||
        [ ! -d tests/portal/node_modules/playwright-core ]; then
        echo "the portal's pages are not tested: chromium, node or playwright is missing" >&2
        echo "# skipped 1" >"$log/pages"
        return
    fi
    POSTERN_BUILD=build-test POSTERN_SHORT=1 node --test --test-reporter=tap \
        tests/portal/pages.test.mjs </dev/null >"$log/pages" 2>&1 || status=1
    grep -E '^ *not ok|^# (pass|fail|cancelled|skipped|duration)' "$log/pages"
}

# What failed and what needed a second try, a name a line ("failed: NAME", "flaky: NAME"),
# then "N flaky", and last "N passed, N failed, N skipped", in which the flaky ones have
# passed; out of cmocka's, node's and pytest's summaries. A program without such a summary (the simulator, or one
# that crashed) counts as one test.
count() {
    python3 - "$log" <<'PYTHON'
import glob, json, re, sys

total = {"passed": 0, "failed": 0, "skipped": 0}
failing = []
for path in glob.glob(sys.argv[1] + "/*.json"):
    for line in open(path):
        test = json.loads(line)
        text = (test.get("stdout") or "") + (test.get("stderr") or "")
        found = re.findall(r"^\[ +(PASSED|FAILED|SKIPPED) +\] (\d+) test\(s\)", text, re.M)
        for what, n in found:
            total[what.lower()] += int(n)
        good = test["result"] in ("OK", "SKIP")
        if not good:
            broken = re.findall(r"^\[ +FAILED +\] ([a-z]\w+)$", text, re.M)
            failing += [f"{test['name']}: {name}" for name in broken] or [test["name"]]
        if not found:
            total["passed" if test["result"] == "OK" else
                  "skipped" if good else "failed"] += 1
        elif not good and not any(what == "FAILED" for what, _ in found):
            total["failed"] += 1
names = {"pass": "passed", "fail": "failed", "cancelled": "failed", "skipped": "skipped"}
pages = open(sys.argv[1] + "/pages").read()
for what, n in re.findall(r"^# (pass|fail|cancelled|skipped) (\d+)$", pages, re.M):
    total[names[what]] += int(n)
failing += re.findall(r"^ *not ok \d+ - (.*)$", pages, re.M)

def lab(name):
    """pytest's own sum, and who failed; nothing where it did not run."""
    try:
        lines = open(f"{sys.argv[1]}/{name}").read().splitlines()
    except FileNotFoundError:
        return {}, []
    summary = next((l for l in reversed(lines) if re.search(r"\d+ \w+.* in [\d.]+s", l)), "")
    found = {"passed": 0, "failed": 0, "skipped": 0}
    for n, what in re.findall(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)", summary):
        found[{"xfailed": "skipped", "xpassed": "failed", "error": "failed",
               "errors": "failed"}.get(what, what)] += int(n)
    bad = [l.split(" ", 1)[1].split(" - ")[0] for l in lines
           if re.match("(FAILED|ERROR) tests", l)]
    return found, bad

again, bad_again = lab("again")
sums, first = lab("lab")
for what, n in sums.items():
    if what != "failed" or not again:   # the second try counts
        total[what] += n
failing += bad_again if again else first
for what, n in again.items():
    total[what] += n
flaky = sorted(set(first) - set(bad_again)) if again else []
for name in failing:
    print("failed: " + name)
for name in flaky:
    print("flaky: " + name)
print(f"{len(flaky)} flaky")
print("{passed} passed, {failed} failed, {skipped} skipped".format(**total))
PYTHON
}

build build-test all -Dbuildtype=release -Db_ndebug=false || exit 1
suite build-test 4 unit sim || status=1
set -m # a group of its own, which an end of this script takes along
(
    chrt --idle --pid 0 "$BASHPID"
    sanitized
) >"$log/beside" 2>&1 &
beside=$!
set +m
pages
lab
wait "$beside"
sanitized=$?
beside=
cat "$log/beside"
[ "$sanitized" = 2 ] && exit 1
[ "$sanitized" = 0 ] || status=1
suite build-asan-test 4 unit || status=1

counted=$(count)
sum=${counted##*$'\n'}
echo
case $status:$sum in
0:*" 0 failed,"*) ;;
0:*) status=1 ;;
*:*" 0 failed,"*) echo "a test runner ended with a failure that it did not count" >&2 ;;
esac
echo "$counted" # the sum is its last line
exit "$status"
