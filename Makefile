# make help lists the targets. Everything but build, install and lint needs
# root, and installs what it needs (tests/setup.sh).

# A tag, or else the commit: the same in every clone, whatever its depth.
VERSION  ?= $(shell git describe --tags --exact-match --dirty 2>/dev/null || git describe --always --abbrev=12 --exclude='*' --dirty 2>/dev/null || echo unknown)
BIN      ?= bin/flatnet
FUZZTIME ?= 1m

# Where Podman looks by default; for other runtimes: make install
# PLUGINDIR=/opt/cni/bin DOORS=cni
export DESTDIR     ?=
export PREFIX      ?= /usr/local
export PLUGINDIR   ?= $(PREFIX)/lib/cni
export CONFDIR     ?= /etc/cni/net.d
export NETAVARKDIR ?= $(PREFIX)/libexec/netavark
export DOORS       ?=

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help build install uninstall demo test bench fuzz lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

build: ## bin/flatnet: static, stripped and the same on every machine
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -buildmode=exe \
		-ldflags '-s -w -buildid= -X main.version=$(VERSION)' -o $(BIN) .

install: build ## flatnet, for people and through each door that this machine's Podman has
	@internal/install.sh install $(BIN)

uninstall: ## what install put there; a network that was edited stays
	@internal/install.sh uninstall

demo: build ## a real container on the network, in a world of its own
	@tests/setup.sh demo
	@cd tests && go run ./demo

test: build ## all tests: units, end to end, Podman
	@tests/setup.sh test
	@cd tests && go run ./report .. .

bench: build ## ADD and DEL beside the floor and Debian's bridge plugin
	@tests/setup.sh bench
	@cd tests && go run ./bench

fuzz: ## every fuzz target, for FUZZTIME each
	@FUZZTIME=$(FUZZTIME) tests/fuzz.sh

lint: ## gofmt, go vet and staticcheck
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "gofmt -w: $$out"; exit 1; }
	go vet ./... && $(STATICCHECK) ./...
	cd tests && go vet ./... && $(STATICCHECK) ./...

clean: ## removes what build made
	rm -rf bin
