#!/bin/sh
# Usage: go.sh
# Fails, saying what to do, where Go is missing or can't build flatnet. One from 1.21 on
# fetches the Go that go.mod names by itself.
set -u
cd "$(dirname "$0")/.." || exit
need=$(sed -n 's/^go //p' go.mod)
as=${SUDO_USER:+sudo }
fail() {
	echo "flatnet needs Go $need, and $*" >&2
	if [ -x /usr/local/go/bin/go ]; then
		echo "Use the one in /usr/local/go/bin: ${as}env PATH=/usr/local/go/bin:\$PATH make" >&2
		exit 1
	fi
	echo "Any Go from 1.21 on is good, for it fetches Go $need by itself:
  Debian 13, sid  apt install golang
  Debian 12       apt install -t bookworm-backports golang
  Ubuntu 24.04    apt install golang
  Ubuntu 22.04    apt install golang-1.23-go, and PATH=/usr/lib/go-1.23/bin:\$PATH make
  Fedora          dnf install golang, and GOTOOLCHAIN=auto make
  Alpine          apk add go
  elsewhere       https://go.dev/dl" >&2
	exit 1
}

go=$(command -v go) || fail "there is none in PATH${as:+, which sudo has set (sudo env PATH=\$PATH make keeps yours)}."
have=$(go env GOVERSION 2>&1)
case $have in
go[1-9]*) [ "$(printf '%s\n' "go$need" "$have" | sort -V | head -n 1)" != "go$need" ] || exit 0 ;;
esac
own=$(GOTOOLCHAIN=local go version | cut -d ' ' -f 3)
minor=${own#go1.}
if [ "${minor%%.*}" -lt 21 ]; then
	fail "$go is ${own#go}, too old to fetch it."
fi
fail "$go is ${own#go} and does not fetch it ($(echo "$have" | tail -n 1)): GOTOOLCHAIN=auto make"
