#!/bin/sh
# Prints how much of each package is run by the unit tests and, through a
# binary that counts, by the end-to-end tests. Left out are tests about the
# binary itself, and those whose Podman does not see where the counts go.
set -eu
cd "$(dirname "$0")/.."
counts=$(mktemp -d)
trap 'rm -rf "$counts"; make -s build' EXIT
go test -cover ./... -args -test.gocoverdir="$counts" >/dev/null
go build -cover -o "$counts/flatnet" .
mkdir -p bin
printf '#!/bin/sh\nGOCOVERDIR=%s exec %s/flatnet "$@"\n' "$counts" "$counts" >bin/flatnet
chmod +x bin/flatnet
go -C tests test -count=1 -timeout=30m \
	-skip 'Podman|NetavarkPorts|Binary|Reproducible|Install|StartsNoProcess|Kernels|FaultAt|FailedADD|Confined|Cycles|Runtime|SBOM' . || echo "(some tests fail with the binary that counts)"
go tool covdata percent -i="$counts"
