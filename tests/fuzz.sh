#!/bin/sh
# Runs every fuzz target of both modules for FUZZTIME each.
set -eu
cd "$(dirname "$0")/.."
grep -rn --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:.*func / /' |
	while read -r file target; do
		dir=$(dirname "$file")
		echo "== $target in $dir"
		go -C "$dir" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" . </dev/null || exit 1
	done
