// Command release makes the Debian and RPM packages of binaries that make release has
// built, byte for byte the same for the same input and date. It is a module of its own:
// nfpm brings more packages than all other tests do.
//
//	release [FLAGS] ARCH...
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A release is what all packages have in common.
type release struct {
	version    string // of the binaries: a tag or a commit
	date       time.Time
	maintainer string
	repo       string // directories
	dist       string
	made       string // has the manual pages, and a flatnet that runs on this machine
	temp       string // has files that are made for the packages
}

func main() {
	r := release{}
	flag.StringVar(&r.version, "version", "", "of the binaries DIST/flatnet-VERSION-linux-ARCH")
	date := flag.Int64("date", 0, "of everything in the packages, in seconds since 1970")
	flag.StringVar(&r.maintainer, "maintainer", "", "name and address for the packages")
	flag.StringVar(&r.repo, "repo", "../..", "the repository")
	flag.StringVar(&r.dist, "dist", "", "directory of the binaries, and of the packages")
	flag.StringVar(&r.made, "made", "", "directory of the manual pages, and of a flatnet for this machine")
	flag.Parse()
	r.date = time.Unix(*date, 0).UTC()
	if err := r.run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func (r *release) run(arches []string) (err error) {
	if r.temp, err = os.MkdirTemp("", "release"); err != nil {
		return err
	}
	defer os.RemoveAll(r.temp)
	for _, arch := range arches {
		names, ok := architectures[arch]
		if !ok {
			return fmt.Errorf("no package can be made for the architecture %s", arch)
		}
		for _, f := range formats {
			if err := r.pack(f, arch, names[f.name]); err != nil {
				return fmt.Errorf("%s for %s: %w", f.name, arch, err)
			}
		}
	}
	return nil
}

// binary is the path of an architecture's binary.
func (r *release) binary(arch string) string {
	return filepath.Join(r.dist, "flatnet-"+r.version+"-linux-"+arch)
}
