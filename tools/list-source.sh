#!/bin/sh
# The files of the source tree, as they are now, each ended by a zero byte: what git knows or would
# take; in a release archive, which has no git, all but what a build made.
cd "$(dirname "$0")/.." || exit 1
if [ -e .git ] && command -v git >/dev/null; then
    git ls-files -z --cached --others --exclude-standard
else
    find . -mindepth 1 \( -path './build' -o -path './build-*' -o -name __pycache__ \) -prune -o ! -type d -print0
fi | xargs -0 sh -c 'for name; do [ ! -e "$name" ] || printf "%s\0" "$name"; done' sh
