// Package rootless finds the directories of a caller that is root of a user namespace
// only, as the plugins of a rootless Podman are. Such a root can write neither to
// /var/lib nor to the host's /run, and its leases have nothing to do with the leases of
// the host's root: its containers are in a network namespace of the user's own.
//
// Each function returns "" for a caller whose directories are the system's.
package rootless

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Podman reports whether a rootless Podman, or a command of podman unshare, makes the
// call. Podman itself goes by this variable (UsernsEnvName of containers/storage), and
// passes it on to netavark and to plugins. See [Disinherit].
func Podman() bool { return os.Getenv(configured) == "done" }

const configured = "_CONTAINERS_USERNS_CONFIGURED"

// Disinherit forgets what the host's root may have inherited of a user's environment: its
// directories are the system's. It comes before all else that the process does.
func Disinherit() {
	if Podman() && hostRoot() {
		os.Unsetenv(configured)
	}
}

// Leases returns the directory of the caller's own leases. They must outlive a reboot,
// and so are not beside netavark's. Only a Podman whose run root is not the default one
// has them there: it has a network namespace of its own.
//
// failed is the error of the system's directory, or nil if it was not tried. It matters
// for a caller that is no Podman. The root of a container with a /var/lib of its own
// never gets another directory.
func Leases(failed error) string {
	refused := errors.Is(failed, fs.ErrPermission) || errors.Is(failed, fs.ErrNotExist) || errors.Is(failed, syscall.EROFS)
	if !Podman() && (!refused || hostRoot() || owns("/var/lib")) {
		return ""
	}
	if dir := config(); dir != "" && dir != runDir() {
		return filepath.Join(resolve(dir), "flatnet", "ipam")
	}
	if data := dataHome(); data != "" {
		return filepath.Join(data, "flatnet", "ipam")
	}
	return filepath.Join(Records(), "ipam")
}

// Networks returns where Podman has the definitions of the user's networks by default
// (getDefaultNetavarkConfigDir of containers/common).
func Networks() string {
	if dir := Storage(); dir != "" {
		return filepath.Join(dir, "networks")
	}
	return ""
}

// Storage returns Podman's default graph root of the user.
func Storage() string {
	if data := dataHome(); Podman() && data != "" {
		return filepath.Join(data, "containers", "storage")
	}
	return ""
}

// Names returns the configuration directory of the user's aardvark-dns.
func Names() string {
	if dir := cmp.Or(config(), runDir()); Podman() && dir != "" {
		return filepath.Join(dir, "aardvark-dns")
	}
	return ""
}

// Records returns the directory of records for a caller that is not the host's root:
// /run/flatnet where /run is its own, as rootless Podman provides it to plugins.
func Records() string {
	const system = "/run/flatnet"
	if dir := os.Getenv("XDG_RUNTIME_DIR"); !owns("/run") && filepath.IsAbs(dir) {
		return filepath.Join(dir, "flatnet")
	}
	return system
}

// Elsewhere returns the command line by which a command of flatnet reaches the containers
// of the user's rootless Podman, if the caller's network namespace is not theirs.
func Elsewhere(args ...string) string {
	// Sysctls of a network namespace belong to the root of its owner, a user namespace.
	if os.Geteuid() == 0 && (!Podman() || owns("/run") || owns("/proc/sys/net/ipv4/ip_forward")) {
		return ""
	}
	return "podman unshare --rootless-netns flatnet " + strings.Join(args, " ")
}

// Refusal returns why a command that needs root of the network namespace, and what it has
// recorded, can't be run by the caller, and the command line that can; empty if it can.
func Refusal(args ...string) string {
	elsewhere := Elsewhere(args...)
	switch {
	case elsewhere == "":
		return ""
	case Podman():
		return args[0] + ": this is the host's network, and your containers are in another: " + elsewhere
	}
	return args[0] + " must be run as root: sudo flatnet " + strings.Join(args, " ") + " (for your rootless Podman: " + elsewhere + ")"
}

// hostRoot reports whether the host's root is root here as well, also if that is
// unknown. Files of nsfs belong to the host's root.
func hostRoot() bool {
	info, err := os.Stat("/proc/self/ns/user")
	return err != nil || info.Sys().(*syscall.Stat_t).Uid == 0
}

// owns reports whether a directory exists and belongs to the caller.
func owns(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid()
}

// dataHome is XDG_DATA_HOME of the XDG Base Directory Specification.
func dataHome() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return resolve(dir)
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) && owns(home) {
		return filepath.Join(resolve(home), ".local", "share")
	}
	return ""
}

// Settings returns the directory of the user's own containers.conf.
func Settings() string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); Podman() && filepath.IsAbs(dir) {
		return filepath.Join(dir, "containers")
	}
	if home := os.Getenv("HOME"); Podman() && filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "containers")
	}
	return ""
}

// runDir is the directory that Podman gives to netavark by default (NetworkRunDir of
// containers/common).
func runDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "containers", "networks")
	}
	return ""
}

// config returns the directory that netavark was given (its option --config), if it is
// what has called the plugin.
func config() string {
	if !Podman() {
		return ""
	}
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(os.Getppid()), "cmdline"))
	args := strings.Split(string(data), "\x00")
	if i := slices.Index(args, "--config"); filepath.Base(args[0]) == "netavark" && i > 0 && i+1 < len(args) && filepath.IsAbs(args[i+1]) {
		return filepath.Clean(args[i+1])
	}
	return ""
}

// resolve follows links on the way to a directory of the user, such as /home is on some
// systems: the host's root has made them, whose files look like other users' here. The
// directory's own owner is checked when it is used.
func resolve(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}
