#!/bin/sh
# Usage: sbom.sh BINARY VERSION
# Prints the software bill of materials of a binary as CycloneDX 1.5: the
# modules that its own build information lists, and nothing that varies from
# run to run. Module paths and versions have no character that JSON quotes.
set -eu
sum=$(sha256sum <"$1" | cut -d' ' -f1)
go version -m "$1" | awk -v sum="$sum" -v version="$2" '
function component(type, name, version, purl) {
	printf "{\"type\": \"%s\", \"bom-ref\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", \"purl\": \"%s\"", type, purl, name, version, purl
}
NR == 1 { go = $NF; sub(/^go/, "", go) }
$1 == "dep" { paths[++n] = $2; versions[n] = $3 }
$1 == "build" && $2 ~ /^GOARCH=/ { arch = substr($2, 8) }
END {
	print "{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.5\",\n  \"version\": 1,\n  \"metadata\": {\"component\":"
	printf "    "
	component("application", "flatnet", version, "pkg:generic/flatnet@" version "?arch=" arch)
	printf ",\n    \"licenses\": [{\"license\": {\"id\": \"Apache-2.0\"}}], \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]}},\n  \"components\": [\n    ", sum
	component("library", "stdlib", go, "pkg:golang/stdlib@" go)
	for (i = 1; i <= n; i++) {
		printf "},\n    "
		component("library", paths[i], versions[i], "pkg:golang/" paths[i] "@" versions[i])
	}
	print "}\n  ]\n}"
}'
