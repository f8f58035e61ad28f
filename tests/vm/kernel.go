// Package vm boots Debian's kernels in qemu, with an initramfs that holds the
// files of the caller's choice and single kernel modules. It needs no KVM.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"flatnet/tests/lab"
)

// A Kernel is one of Debian's, unpacked: its image and all its modules.
type Kernel struct {
	Version string // uname -r
	dir     string
}

// fetchTimeout bounds how long a mirror may take.
const fetchTimeout = 5 * time.Minute

// Debian returns the newest kernel for virtual machines of a suite such as
// "trixie". It is fetched once for a user of the machine, from the mirror that
// the machine's apt uses.
func Debian(suite string) (Kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Kernel{}, err
	}
	dir := filepath.Join(cache, "flatnet-tests", "kernels", suite)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return Kernel{}, err
	}
	lock, err := os.Create(dir + ".lock")
	if err != nil {
		return Kernel{}, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return Kernel{}, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		temp := dir + ".tmp"
		err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o700))
		if err == nil {
			err = fetch(suite, temp)
		}
		if err == nil {
			err = os.Rename(temp, dir)
		}
		if err != nil {
			return Kernel{}, fmt.Errorf("kernel of %s: %w", suite, err)
		}
	}
	versions, err := filepath.Glob(filepath.Join(dir, "lib/modules/*"))
	if err != nil || len(versions) != 1 {
		return Kernel{}, fmt.Errorf("kernel of %s: %d kernels in %s (%v)", suite, len(versions), dir, err)
	}
	return Kernel{filepath.Base(versions[0]), dir}, nil
}

// kernelPackage is a package with a part of a kernel: its image, its modules
// or, in older suites, both.
var kernelPackage = regexp.MustCompile(`(?m)^linux-(image|modules|binary)-[0-9].*-cloud-amd64$`)

// fetch unpacks a suite's kernel into dir.
func fetch(suite, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	run := func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", name, err, stderr.String())
		}
		return string(out), err
	}
	const keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
	sources := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keys, lab.Mirror(), suite)
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "apt/lists/partial"), 0o700); err != nil {
		return err
	}
	private := []string{
		"-o", "Dir::Etc::sourcelist=" + dir + "/sources.list", "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + dir + "/apt/lists", "-o", "Dir::Cache=" + dir + "/apt", "-o", "APT::Sandbox::User=root",
	}
	if _, err := run("apt-get", append(private, "-q", "update")...); err != nil {
		return err
	}
	deps, err := run("apt-cache", append(private, "depends", "--recurse", "--important", "linux-image-cloud-amd64")...)
	if err != nil {
		return err
	}
	packages := kernelPackage.FindAllString(deps, -1)
	slices.Sort(packages)
	packages = slices.Compact(packages)
	if len(packages) == 0 {
		return fmt.Errorf("no kernel among %q", deps)
	}
	if _, err := run("apt-get", append(append(private, "-q", "download"), packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := run("dpkg-deb", "-x", deb, dir+"/root"); err != nil {
			return err
		}
	}
	return arrange(run)
}

// arrange puts the image to vmlinuz and the modules under lib/modules, where
// modprobe looks for them, and removes the rest.
func arrange(run func(string, ...string) (string, error)) error {
	_, err := run("sh", "-ec", `
		mkdir -p lib
		for d in root/usr/lib/modules root/lib/modules; do [ ! -d $d ] || mv $d lib/; done
		for f in root/boot/vmlinuz-* lib/modules/*/vmlinuz; do [ ! -e $f ] || mv $f vmlinuz; done
		rm -rf root apt sources.list *.deb
		depmod -b . "$(ls lib/modules)"`)
	return err
}

// load lists the module files that have to be inserted for a module, in order.
func (k Kernel) load(name string) ([]string, error) {
	out, err := exec.Command("modprobe", "-d", k.dir, "-S", k.Version, "--show-depends", name).Output()
	if err != nil {
		return nil, fmt.Errorf("module %s of %s: %w", name, k.Version, err)
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); f[0] == "insmod" {
			files = append(files, f[1])
		}
	}
	return files, nil
}

// module returns the contents of a module's file.
func module(file string) ([]byte, error) {
	if filepath.Ext(file) == ".xz" {
		return exec.Command("xz", "-dc", file).Output()
	}
	return os.ReadFile(file)
}
