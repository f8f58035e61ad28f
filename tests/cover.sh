#!/bin/sh
# Usage: cover.sh [PROFILE]
# Prints how much of each package is run by the unit tests and, through a
# binary that counts, by the end-to-end tests; and writes the profile for go
# tool cover. Left out are tests about the binary itself, and those whose Podman
# does not see where the counts go.
set -eu
cd "$(dirname "$0")/.."
counts=$(mktemp -d)
restore() {
	rm -rf "$counts" bin/flatnet
	make -s build
}
trap restore EXIT
go test -cover ./... -args -test.gocoverdir="$counts" >/dev/null
go build -buildvcs=false -cover -o "$counts/flatnet" .
mkdir -p bin
rm -f bin/flatnet
printf '#!/bin/sh\nGOCOVERDIR=%s exec %s/flatnet "$@"\n' "$counts" "$counts" >bin/flatnet
chmod +x bin/flatnet
leave='Podman|NetavarkPorts|Binary|Reproducible|Install|NoProcess|Kernels|FaultAt|FailedADD|Confined|Cycles|Runtime|Release|SBOM|Touch|Writes|Nobody|Storm'
go -C tests run ./report . -- -race=false -skip "$leave" || echo "the above fails with the binary that counts"
go tool covdata percent -i="$counts"
[ $# = 0 ] || go tool covdata textfmt -i="$counts" -o="$1"
