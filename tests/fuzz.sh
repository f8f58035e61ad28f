#!/bin/sh
# Runs every fuzz target of both modules for FUZZTIME each, with FUZZWORKERS, but
# for those in FUZZSKIP.
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:.*func / /' |
	grep -v "${FUZZSKIP:-^$}" |
	while read -r file target; do
		dir=$(dirname "$file")
		echo "== $target in $dir"
		go -C "$dir" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" -fuzzminimizetime 1s \
			-parallel "${FUZZWORKERS:-$(nproc)}" . </dev/null >"$log" 2>&1 && status=0 || status=$?
		grep execs "$log" | tail -n 1
		[ $status = 0 ] && continue
		# go test sometimes takes its own deadline for a failure, without an input that fails.
		if grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; then continue; fi
		cat "$log"
		exit 1
	done
