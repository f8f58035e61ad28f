package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers itself
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// architectures has the names that distributions give to Go's architectures.
var architectures = map[string]map[string]string{
	"amd64":   {"deb": "amd64", "rpm": "x86_64"},
	"arm64":   {"deb": "arm64", "rpm": "aarch64"},
	"arm":     {"deb": "armhf", "rpm": "armv6hl"}, // GOARM=6
	"riscv64": {"deb": "riscv64", "rpm": "riscv64"},
	"386":     {"deb": "i386", "rpm": "i686"},
	"ppc64le": {"deb": "ppc64el", "rpm": "ppc64le"},
	"s390x":   {"deb": "s390x", "rpm": "s390x"},
}

// A format is a kind of package.
type format struct {
	name string
	// Where Podman and others of these distributions look for CNI plugins, and where
	// completions of zsh are.
	plugins, zsh string
}

var formats = []format{
	{name: "deb", plugins: "/usr/lib/cni", zsh: "/usr/share/zsh/vendor-completions"},
	{name: "rpm", plugins: "/usr/libexec/cni", zsh: "/usr/share/zsh/site-functions"},
}

const description = `Flat network for containers, as a CNI plugin and a plugin of netavark
Each container gets an address of one bridge, by which the host and all other
containers reach it; towards the outside it is masqueraded. One static binary
serves Podman of any version, and other container runtimes that take CNI
plugins. It runs no iptables and no nft, and there is no daemon.`

// pack writes the package of one format for one architecture.
func (r *release) pack(f format, arch, name string) error {
	info := &nfpm.Info{
		Name: "flatnet", Arch: name, Platform: "linux", Section: "net", Priority: "optional",
		Version: packageVersion(r.version, r.date), VersionSchema: "none", Release: "1",
		Maintainer: r.maintainer, Description: description, License: "Apache-2.0", MTime: r.date,
		DisableGlobbing: true,
	}
	contents, err := r.contents(f, arch)
	if err != nil {
		return err
	}
	info.Contents = contents
	scripts := filepath.Join(r.repo, "internal/packaging")
	info.Scripts = nfpm.Scripts{
		PostInstall: filepath.Join(scripts, "postinst.sh"),
		PreRemove:   filepath.Join(scripts, "prerm.sh"),
		PostRemove:  filepath.Join(scripts, "postrm.sh"),
	}
	// Nothing is needed: the binary is static, and executes nothing. Podman is what it
	// is for, as a rule, and aardvark-dns gives names to containers.
	info.Suggests = []string{"podman", "aardvark-dns"}
	info.Deb.Arch, info.Deb.Compression = name, "gzip:9"
	info.RPM.Arch, info.RPM.Compression = name, "gzip:9"
	info.RPM.BuildHost = "localhost" // else this machine's name
	packager, err := nfpm.Get(f.name)
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(r.dist, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	return errors.Join(packager.Package(info, out), out.Close())
}
