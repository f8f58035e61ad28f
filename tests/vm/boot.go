package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Machine is what is booted.
type Machine struct {
	Kernel  Kernel
	Cmdline string   // further kernel parameters
	Modules []string // that are in the initramfs
	Init    string   // shell script: all that happens
	First   string   // a static program instead, which finds nothing but Files and modules
	Files   map[string]string
	Timeout time.Duration
}

// Boot runs the machine until its script is done, and returns what it wrote to
// the console. The script is the first process, run by busybox's shell, and
// finds the files where Files says, each a copy of a file of this machine, as
// well as /proc, /sys and /dev. "load NAME" inserts a module and what it needs,
// as far as that is not there.
func (m Machine) Boot(dir string) (string, error) {
	initramfs, err := m.initramfs()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(file, initramfs, 0o600); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.Timeout)
	defer cancel()
	// The timer of an emulated machine may miss the test that the kernel makes of
	// it while other programs have the CPU.
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "512", "-nic", "none",
		"-nographic", "-no-reboot", "-kernel", filepath.Join(m.Kernel.dir, "vmlinuz"), "-initrd", file,
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check "+m.Cmdline)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	err = cmd.Run()
	out := strings.ReplaceAll(console.String(), "\r", "")
	if ctx.Err() != nil {
		err = fmt.Errorf("not done within %v", m.Timeout)
	}
	return out, err
}

// prologue is what the first process does before the script. A process that
// wants a module by name finds no modprobe.
const prologue = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mkdir -p /run/netns
ln -s /proc/self/fd /dev/fd
load() { for f in $(cat /modules/$1.order); do insmod /modules/$f 2>/dev/null; done; }
`

// initramfs packs files and modules, and what the script needs or else the first program.
func (m Machine) initramfs() ([]byte, error) {
	var a archive
	files := map[string]string{}
	for to, from := range m.Files {
		files[strings.TrimPrefix(to, "/")] = from
	}
	if m.First != "" {
		files["init"] = m.First
	} else if err := m.shell(&a, files); err != nil {
		return nil, err
	}
	for to, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		a.file(to, 0o755, content)
	}
	if err := m.modules(&a); err != nil {
		return nil, err
	}
	return a.bytes(), nil
}

// shell adds the script, and busybox with its applets.
func (m Machine) shell(a *archive, files map[string]string) error {
	for _, dir := range []string{"proc/x", "sys/x", "dev/x", "run/x"} {
		a.parents(dir)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	files["bin/busybox"] = busybox
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "modprobe" && name != "busybox" && name != "init" {
			a.link("bin/"+name, "busybox")
		}
	}
	a.file("init", 0o755, []byte(prologue+m.Init))
	return nil
}

// modules adds the modules, and for each a list of what has to be inserted in which order.
func (m Machine) modules(a *archive) error {
	packed := map[string]bool{}
	for _, name := range m.Modules {
		needs, err := m.Kernel.load(name)
		if err != nil {
			return err
		}
		order := ""
		for _, file := range needs {
			base := strings.TrimSuffix(filepath.Base(file), ".xz")
			order += base + "\n"
			if packed[base] {
				continue
			}
			packed[base] = true
			content, err := module(file)
			if err != nil {
				return fmt.Errorf("module %s: %w", file, err)
			}
			a.file("modules/"+base, 0o644, content)
		}
		a.file("modules/"+name+".order", 0o644, []byte(order))
	}
	return nil
}
