# make help lists the targets. All but build, install and lint require root, and
# install the packages that they use (tests/setup.sh).

# A tag, or else the commit: the same in every clone, of any depth and owner.
describe  = git -c safe.directory='*' describe --dirty
committed = git -c safe.directory='*' log -1 --format=%ct 2>/dev/null
VERSION  ?= $(shell $(describe) --tags --exact-match 2>/dev/null || $(describe) --always --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
COMMIT   ?= $(shell $(describe) --always --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
BIN      ?= bin/flatnet
DIST     ?= dist
MAN      ?= bin/man
FUZZTIME ?= 1m
STRIP    ?= -s -w
ARCHES   ?= amd64 arm64 arm riscv64 386 ppc64le s390x

# The date of what is made, in seconds since 1970: of the commit.
SOURCE_DATE_EPOCH ?= $(shell $(committed) || echo 0)
MAINTAINER ?= The maintainers of flatnet <maintainers@flatnet.invalid>

# The directories that Podman searches by default. For other runtimes:
# make install PLUGINDIR=/opt/cni/bin DOORS=cni
export DESTDIR     ?=
export PREFIX      ?= /usr/local
export PLUGINDIR   ?= $(PREFIX)/lib/cni
export CONFDIR     ?= /etc/cni/net.d
export NETAVARKDIR ?= $(PREFIX)/libexec/netavark
export DOORS       ?=
export FORCE       ?=

# The tests that make long runs at full length, and make test in short.
LONG ?= TestFaultAt|TestStorm|TestCycles|TestTorn|TestKernels|TestThousandsOfPorts$$

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help go build man release install uninstall demo test audit seccomp long cover bench performance fuzz lint vuln clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

go:
	@internal/go.sh

# Without inlining in flatnet's own code, and with functions aligned to 4 bytes
# instead of 32, the binary is 7 % smaller. ADD takes as long: its 0.3 million
# instructions more are below what a measurement shows.
# The linker writes its file page by page, and so it stays in the page cache: a
# copy, of larger folios, starts and runs a tenth faster.
build: go ## bin/flatnet: static, stripped and the same on every machine
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -buildmode=exe -gcflags=flatnet/...=-l \
		-ldflags '$(STRIP) -buildid= -funcalign=4 -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o $(BIN).linked .
	@rm -f $(BIN) && cp $(BIN).linked $(BIN) && rm $(BIN).linked

man: go ## in MAN, or bin/man: the manual pages flatnet(1) and flatnet-cni(7), from docs
	@cd tests && go run ./man -version $(VERSION) -date $$(date -u -d @$(SOURCE_DATE_EPOCH) +%F) $(abspath $(MAN))

# ARM is that of the first Raspberry Pi. The command that prints the completions runs
# here, and the manual pages are of this version.
release: go ## in DIST, for each of ARCHES: binary, bill of materials, Debian and RPM package; and checksums
	rm -rf $(DIST)
	for arch in $(ARCHES); do \
		bin=$(DIST)/flatnet-$(VERSION)-linux-$$arch; \
		GOARCH=$$arch GOARM=6 $(MAKE) -s build BIN=$$bin && internal/sbom.sh $$bin $(VERSION) >$$bin.cdx.json || exit 1; \
	done
	$(MAKE) -s build BIN=$(DIST)/made/flatnet && $(MAKE) -s man MAN=$(abspath $(DIST))/made
	cd tests/release && go run . -version $(VERSION) -date $(SOURCE_DATE_EPOCH) -maintainer '$(MAINTAINER)' \
		-dist $(abspath $(DIST)) -made $(abspath $(DIST))/made $(ARCHES)
	rm -r $(DIST)/made
	cd $(DIST) && sha256sum flatnet* >SHA256SUMS

install: build ## the command, completions, the plugin for each interface of this machine's Podman; after make man its pages
	@MAN=$(MAN) internal/install.sh install $(BIN)

uninstall: ## removes the installed files, except edited networks; FORCE=1: even while containers use them
	@internal/install.sh uninstall

demo: build ## a real container on the network, in a world of its own
	@tests/setup.sh demo
	@cd tests && CGO_ENABLED=0 go run ./demo

test: build ## all tests: units, end to end, Podman
	@tests/setup.sh test
	@cd tests && go run ./report ..:race . release

seccomp: build ## writes docs/seccomp*.json from traces of all that flatnet does
	@tests/setup.sh test
	@cd tests && FLATNET_WRITE=1 go test -count=1 -run 'TestSeccompProfile$$|TestSeccompChildrenProfile' .
	@git diff --stat docs/seccomp.json docs/seccomp-children.json

audit: build ## counts lines and bytes, and writes the counts of docs/audit.md anew
	@cd tests && go run ./audit ..

long: build ## faults at every system call, storms, disks and kernels at full length: hours
	@tests/setup.sh long
	@cd tests && FLATNET_LONG=1 go run ./report . -- -timeout=6h -v -run '$(LONG)'

cover: build ## test coverage by package, of unit and end-to-end tests together
	@tests/setup.sh test
	@tests/cover.sh

bench: build ## times and costs beside the floor (tests/bench/floor), Debian's plugins and netavark; BENCH=quick: in two minutes
	@tests/setup.sh bench
	@cd tests && go run ./bench $(addprefix -,$(BENCH))

performance: build ## make bench, written to docs/performance.md and README.md
	@tests/setup.sh bench
	@cd tests && go run ./bench $(addprefix -,$(BENCH)) -write ../docs/performance.md && go run ./figures ..

fuzz: go ## every fuzz target, for FUZZTIME each
	@FUZZTIME=$(FUZZTIME) tests/fuzz.sh

lint: go ## gofmt, go vet and staticcheck
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "gofmt -w: $$out"; exit 1; }
	go vet ./... && $(STATICCHECK) ./...
	for dir in tests tests/release; do (cd $$dir && go vet ./... && $(STATICCHECK) ./...) || exit 1; done

vuln: go ## govulncheck; VULNDB=file:///DIR is a copy of its database, where the public one is not reached
	@GOBIN=$(CURDIR)/bin go install golang.org/x/vuln/cmd/govulncheck@v1.9.0
	@for dir in . tests tests/release; do \
		(cd $$dir && $(CURDIR)/bin/govulncheck $(if $(VULNDB),-db $(VULNDB)) ./...); \
		case $$? in 0) ;; 3) exit 1 ;; *) echo "NOT CHECKED for known vulnerabilities: $$dir" ;; esac; \
	done

clean: ## removes the files of build and release
	rm -rf bin dist
