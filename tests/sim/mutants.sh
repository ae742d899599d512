#!/bin/sh
# Does the simulator of whole programs find what is broken on purpose? Each patch of world/mutants is put on a copy of this
# tree, built, and hunted; a mutant that survives is a failure. Names choose some of them:
#     tests/sim/mutants.sh [NAME...]
# A patch that begins with "hunt: --with PART" is hunted in such seeds only.
# MUTANTS_DIR: where the copy is built (a fresh one; kept when it is given). MUTANTS_SEEDS, MUTANTS_LIMIT: how many seeds
# (400) and seconds (300) each gets.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=${MUTANTS_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/postern-mutants-XXXXXX")}
seeds=${MUTANTS_SEEDS:-400}
limit=${MUTANTS_LIMIT:-300}
[ -n "${MUTANTS_DIR:-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/tree"
(cd "$top" && git ls-files -z | tar --null -T - -cf -) | tar -xf - -C "$dir/tree"
cd "$dir/tree"
[ -f build/build.ninja ] || meson setup build -Dbuildtype=release -Db_ndebug=false >/dev/null
survived=0
hunt() {
	if ! ninja -C build tests/sim/world/faults tests/sim/world/test_house_commands >"$dir/ninja.log" 2>&1; then
		tail -5 "$dir/ninja.log"
		return 2
	fi
	# shellcheck disable=SC2086
	build/tests/sim/world/faults --seeds "$1" --limit "$limit" --no-shrink ${2:-} >"$dir/out" 2>"$dir/err" || return 1
	played=$(sed -n 's/ seeds,.*//p' "$dir/out")
	timeout 300 build/tests/sim/world/test_house_commands >"$dir/out" 2>"$dir/err" || return 3
}
if ! hunt 24; then
	cat "$dir/err"
	echo "without any mutant a seed fails"
	exit 1
fi
[ $# -gt 0 ] || set -- $(cd tests/sim/world/mutants && ls -- *.patch)
for name; do
	name=${name%.patch}
	if ! patch -s -p1 --dry-run <"tests/sim/world/mutants/$name.patch" >/dev/null; then
		printf '%-24s does not fit the source any more\n' "$name"
		survived=$((survived + 1))
		continue
	fi
	patch -s -p1 <"tests/sim/world/mutants/$name.patch"
	rc=0
	hunt "$seeds" "$(sed -n '1s/^hunt: //p' "tests/sim/world/mutants/$name.patch")" || rc=$?
	patch -s -R -p1 <"tests/sim/world/mutants/$name.patch"
	if [ $rc = 1 ]; then
		printf '%-24s found by seed %s: %s\n' "$name" "$(sed -n 's/ seeds.*//p' "$dir/out" | tail -1)" \
			"$(grep -m1 . "$dir/err" | cut -c1-90)"
	elif [ $rc = 3 ]; then
		printf '%-24s found by test_commands: %s\n' "$name" "$(grep -m1 '^seed\|ERROR' "$dir/err" | cut -c1-90)"
	elif [ $rc = 2 ]; then
		printf '%-24s cannot be built\n' "$name"
		survived=$((survived + 1))
	else
		printf '%-24s SURVIVES %s seeds\n' "$name" "$played"
		survived=$((survived + 1))
	fi
done
[ $survived = 0 ]
