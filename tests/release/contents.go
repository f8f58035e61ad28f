package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/goreleaser/nfpm/v2/files"
)

// A list gathers a package's contents; the first error sticks.
type list struct {
	*release
	format   string
	contents files.Contents
	err      error
}

// contents lists the files of a package.
func (r *release) contents(f format, arch string) (files.Contents, error) {
	l := &list{release: r, format: f.name}
	l.program(f, arch)
	l.completions(f)
	for _, page := range []string{"flatnet.1", "flatnet-cni.7"} {
		section := page[len(page)-1:]
		l.compressed(filepath.Join(l.made, page), "/usr/share/man/man"+section+"/"+page+".gz")
	}
	l.documents(arch)
	l.licenses(arch)
	return l.contents, l.err
}

// firewalls are the units that lose rules of containers, with what restores these.
var firewalls = map[string]string{
	"firewalld":            "firewalld.conf",
	"ip6tables":            "firewall-reload.conf",
	"iptables":             "firewall-reload.conf",
	"netfilter-persistent": "firewall.conf",
	"nftables":             "firewall-reload.conf",
	"ufw":                  "firewall.conf",
}

// program is the binary, by all names that something calls it by, and what starts it.
func (l *list) program(f format, arch string) {
	l.add("", l.binary(arch), "/usr/bin/flatnet", 0o755)
	l.link("/usr/bin/flatnet", f.plugins+"/flatnet")
	l.link("/usr/bin/flatnet", "/usr/libexec/netavark/flatnet")
	const units = "/usr/lib/systemd/system/"
	l.file("internal/packaging/flatnet.service", units+"flatnet.service", 0o644)
	for unit, name := range firewalls {
		l.dir(units + unit + ".service.d")
		l.file("internal/packaging/"+name, units+unit+".service.d/flatnet.conf", 0o644)
	}
	l.dir("/usr/share/flatnet")
	l.file("internal/install.sh", "/usr/share/flatnet/install.sh", 0o755)
	l.file("cni/flatnet.conflist", "/usr/share/flatnet/flatnet.conflist", 0o644)
}

func (l *list) completions(f format) {
	for shell, path := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/flatnet",
		"zsh":  f.zsh + "/_flatnet",
		"fish": "/usr/share/fish/vendor_completions.d/flatnet.fish",
	} {
		script, err := exec.Command(filepath.Join(l.made, "flatnet"), "completion", shell).Output()
		l.fail(err)
		l.bytes(script, path)
	}
}

const documentation = "/usr/share/doc/flatnet"

// documents are the README and what it links to, and what the binary is made of.
func (l *list) documents(arch string) {
	l.dir(documentation)
	l.dir(documentation + "/docs")
	l.file("README.md", documentation+"/README.md", 0o644)
	docs, err := filepath.Glob(filepath.Join(l.repo, "docs", "*"))
	l.fail(err)
	for _, path := range docs {
		l.add("", path, documentation+"/docs/"+filepath.Base(path), 0o644)
	}
	l.add("", l.binary(arch)+".cdx.json", documentation+"/flatnet.cdx.json", 0o644)
	if l.format == "deb" {
		l.compressed(filepath.Join(l.repo, "CHANGELOG.md"), documentation+"/changelog.gz")
		entry := fmt.Sprintf("flatnet (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n",
			packageVersion(l.version, l.date), l.maintainer, l.date.Format(time.RFC1123Z))
		l.zipped([]byte(entry), documentation+"/changelog.Debian.gz")
		return
	}
	l.file("CHANGELOG.md", documentation+"/CHANGELOG.md", 0o644)
}

func (l *list) fail(err error) {
	if l.err == nil && err != nil {
		l.err = err
	}
}

func (l *list) add(kind, source, path string, mode os.FileMode) {
	info := &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: l.date}
	l.contents = append(l.contents, &files.Content{Type: kind, Source: source, Destination: path, FileInfo: info})
}

func (l *list) dir(path string)        { l.add(files.TypeDir, "", path, 0o755) }
func (l *list) link(target, at string) { l.add(files.TypeSymlink, relative(target, at), at, 0o777) }

// file adds a file of the repository.
func (l *list) file(name, path string, mode os.FileMode) {
	l.add("", filepath.Join(l.repo, name), path, mode)
}

// bytes adds a file that is made here.
func (l *list) bytes(content []byte, path string) {
	f, err := os.CreateTemp(l.temp, "")
	if err != nil {
		l.fail(err)
		return
	}
	_, err = f.Write(content)
	l.fail(err)
	l.fail(f.Close())
	l.add("", f.Name(), path, 0o644)
}

// zipped adds a file that is made here, compressed as Debian asks for: without a name
// and a date.
func (l *list) zipped(content []byte, path string) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	l.fail(err)
	_, err = w.Write(content)
	l.fail(err)
	l.fail(w.Close())
	l.bytes(b.Bytes(), path)
}

// compressed adds a file so.
func (l *list) compressed(source, path string) {
	content, err := os.ReadFile(source)
	l.fail(err)
	l.zipped(content, path)
}

// relative is the target of a link, as Debian asks for it within /usr.
func relative(target, at string) string {
	rel, err := filepath.Rel(filepath.Dir(at), target)
	if err != nil { // of two absolute paths there is always one
		panic(err)
	}
	return rel
}
