// Command initramfs is the first process of a machine that has flatnet and nothing else,
// see TestInitramfs. It calls flatnet as container runtimes do, by both doors, and prints
// PASS or FAIL for each call, and DONE at the end.
package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	conf = `{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","runtimeConfig":{
		"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}}`
	podman = `{"container_id":"c1","container_name":"c1","port_mappings":null,
		"network":{"name":"flatnet","id":"f1a7","driver":"flatnet","network_interface":"flatnet-br0","dns_enabled":false,
		"internal":false,"ipv6_enabled":false,"ipam_options":{"driver":"flatnet"},
		"subnets":[{"subnet":"10.87.1.0/24","gateway":"10.87.1.1"}]},
		"network_options":{"interface_name":"eth0"}}`
	netns = "/run/netns/c1"
	guest = "10.87.1.2"
)

func main() {
	if err := prepare(); err != nil {
		fmt.Println("FAIL prepare:", err)
	} else {
		cni()
		netavark()
		made()
		fmt.Println("DONE")
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// prepare mounts /proc, inserts the modules, and makes the container's namespace.
func prepare() error {
	if err := os.Mkdir("/proc", 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	orders, err := filepath.Glob("/modules/*.order")
	if err != nil {
		return err
	}
	for _, order := range orders {
		if err := load(order); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(netns), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(netns, nil, 0o600); err != nil {
		return err
	}
	return within(true, func() error {
		return unix.Mount("/proc/thread-self/ns/net", netns, "", unix.MS_BIND, "")
	})
}

func load(order string) error {
	names, err := os.ReadFile(order)
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(names)) {
		f, err := os.Open("/modules/" + name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST && err != unix.ENODEV { // built in; for another CPU
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return nil
}

// within runs f on a thread in the container's namespace, or in a new one. The thread is
// not used again.
func within(unshare bool, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unshare {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				done <- err
				return
			}
		} else {
			file, err := os.Open(netns)
			if err == nil {
				err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- f()
	}()
	return <-done
}

// flatnet runs it, and returns its output if it succeeds.
func flatnet(what, stdin string, env []string, args ...string) string {
	cmd := exec.Command("/flatnet", args...)
	cmd.Env = append(env, "CNI_CONTAINERID=c1", "CNI_NETNS="+netns, "CNI_IFNAME=eth0")
	cmd.Stdin = strings.NewReader(stdin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if err != nil {
		fmt.Printf("FAIL %s: %v: %s %s\n", what, err, out.String(), stderr.String())
		return ""
	}
	fmt.Println("PASS", what)
	return out.String()
}

func cni() {
	call := func(verb, conf string) string { return flatnet(verb, conf, []string{"CNI_COMMAND=" + verb}) }
	newer := strings.Replace(conf, "1.0.0", "1.1.0", 1)
	call("VERSION", conf)
	call("STATUS", newer)
	result := call("ADD", conf)
	traffic("CNI")
	call("CHECK", strings.TrimSuffix(conf, "}")+`,"prevResult":`+result+"}")
	if list := flatnet("list", "", nil, "list"); !strings.Contains(list, guest) {
		fmt.Println("FAIL list:", list)
	}
	flatnet("status", "", nil, "status")
	flatnet("reload", "", nil, "reload")
	call("DEL", conf)
	call("GC", strings.TrimSuffix(newer, "}")+`,"cni.dev/valid-attachments":[]}`)
}

func netavark() {
	flatnet("info", "", nil, "info")
	flatnet("setup", podman, nil, "setup", netns)
	traffic("netavark")
	flatnet("teardown", podman, nil, "teardown", netns)
}

// traffic has the host read from a server in the container.
func traffic(door string) {
	var listener net.Listener
	err := within(false, func() (err error) {
		listener, err = net.Listen("tcp", ":80")
		return err
	})
	if err != nil {
		fmt.Println("FAIL listen:", err)
		return
	}
	defer listener.Close()
	go func() {
		if c, err := listener.Accept(); err == nil {
			io.WriteString(c, "flat")
			c.Close()
		}
	}()
	c, err := net.DialTimeout("tcp", guest+":80", time.Minute)
	if err != nil {
		fmt.Printf("FAIL traffic of %s: %v\n", door, err)
		return
	}
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "flat" || err != nil {
		fmt.Printf("FAIL traffic of %s: %q, %v\n", door, got, err)
		return
	}
	fmt.Println("PASS traffic of", door)
}

// made reports files that are neither ours, the kernel's, nor what the document lists.
func made() {
	filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			fmt.Println("FAIL walk:", err)
		case path == "/proc" || path == "/modules" || path == "/run/netns" || path == "/dev" || path == "/run/flatnet" || path == "/var/lib/flatnet":
			return fs.SkipDir
		case path != "/" && path != "/init" && path != "/flatnet" && path != "/run" && path != "/var" && path != "/var/lib" && path != "/root":
			fmt.Println("FAIL there is", path)
		}
		return nil
	})
}
