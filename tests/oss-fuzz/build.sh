#!/bin/bash -eu
# Builds every fuzz target for OSS-Fuzz (google.github.io/oss-fuzz, "Integrating
# a Go project"), whose base image brings compile_native_go_fuzzer, and the
# seed corpora, which are in the targets' own code. It has not been tried in
# that image; the list is what make fuzz runs.
cd "$(dirname "$0")/../.."
grep -rn --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' . | sed 's|^\./\(.*\)/[^/]*:[0-9]*:func |\1 |' |
	while read -r dir target; do
		case $dir in
		tests/*) module=tests package=flatnet/$dir ;;
		*) module=. package=flatnet/$dir ;;
		esac
		(cd $module && compile_native_go_fuzzer "$package" "$target" "$(echo "${dir##*/}_$target" | tr '[:upper:]' '[:lower:]')")
	done
