package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// in runs f on a thread of its own in the named network namespace, or in the
// world's if the name is empty. The thread ends with f.
func in(netns string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- enter(netns, f)
	}()
	return <-done
}

func enter(netns string, f func() error) error {
	if netns == "" {
		return f()
	}
	file, err := os.Open(path(netns))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", netns, err)
	}
	return f()
}

// path is the file of a named network namespace.
func path(netns string) string { return "/run/netns/" + netns }

// newNetNS makes a network namespace. It stays until the world ends, because
// the kernel's work on a deleted one would disturb later measurements.
func newNetNS(name string) error {
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path(name), nil, 0o444); err != nil {
		return err
	}
	return in("", func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path(name), "", unix.MS_BIND, "")
	})
}

// newHost makes a network namespace that plays a host.
func newHost(name string) error {
	if err := newNetNS(name); err != nil {
		return err
	}
	return in(name, func() error { return sh("ip link set lo up") })
}

// sh runs shell commands in the caller's network namespace.
func sh(script string) error {
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}
