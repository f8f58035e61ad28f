// Package dns lets containers of a network find each other by name. The server
// is aardvark-dns, Podman's own: it is started and fed as netavark does it
// (config.md of containers/aardvark-dns), with the same files, so that one
// server knows the containers of all networks, netavark's and flatnet's.
package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"flatnet/bridge/model"
	"flatnet/internal/flock"
)

// Dir is the configuration directory that netavark uses when run by root.
const Dir = "/run/containers/networks/aardvark-dns"

// SearchDomain is what the server takes off names before it looks them up
// (PODMAN_DEFAULT_SEARCH_DOMAIN of netavark's constants.rs).
const SearchDomain = "dns.podman"

// A Record is one container in one network. Of a container with several
// interfaces in one network, the last record counts.
type Record struct {
	Key       model.Key
	Names     []string // none: the container ID's first 12 bytes
	Addresses []netip.Addr
	Listen    []netip.Addr // where the network's containers ask: its gateways
	Upstream  []netip.Addr // whom the server asks about other names; none: the host's servers
	Internal  bool         // other names are not looked up
}

// A Server is aardvark-dns with its configuration directory.
type Server struct {
	Dir     string
	Program string       // absolute path; empty: not installed
	Warn    func(string) // gets what keeps names from working, which fails no call
}

// Find returns the host's server. The directories are those in which Podman
// looks for its helpers (helper_binaries_dir of containers.conf(5)).
func Find(warn func(string)) Server {
	dirs := []string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}
	return Server{Dir: Dir, Program: executable(processName, dirs), Warn: warn}
}

// executable returns the path of a program in the first directory that has it,
// or "" if none does.
func executable(name string, dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && filepath.IsAbs(path) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// Installed reports whether there is a server.
func (s Server) Installed() bool { return s.Program != "" }

// lockWait is how long others may hold the lock: some milliseconds, or as long
// as the server takes to start.
const lockWait = 10 * time.Second

// Add makes a record known and returns the addresses at which the server
// answers. There are none without a server, for a record without addresses, for
// a network without a gateway, and if the server can't be used: names are no
// reason not to start a container, so that is only a warning. The one error is
// a [model.ErrBusy] lock.
func (s Server) Add(r Record) (servers []string, err error) {
	r.Names = s.validNames(r)
	r.Listen = slices.DeleteFunc(slices.Clone(r.Listen), netip.Addr.IsLinkLocalUnicast) // the server knows no zones
	if !s.Installed() || len(r.Addresses) == 0 || len(r.Listen) == 0 {
		return nil, nil
	}
	err = s.locked(func() error {
		err := s.edit(r.Key.Network, of(r.Key), &r)
		if err == nil {
			err = s.tell()
		}
		if err == nil {
			err = s.serve(r)
		}
		switch {
		case err == nil:
		case errors.Is(err, errUnconfirmed):
			s.warn("%v; names of network %s may not be found", err, r.Key.Network)
		default:
			s.warn("containers of network %s are not found by name, and %.12s gets the host's DNS servers: %v", r.Key.Network, r.Key.ContainerID, err)
			// A file whose addresses can't be bound would keep the server from
			// starting for other networks.
			return errors.Join(s.edit(r.Key.Network, of(r.Key), nil), s.tell())
		}
		for _, a := range r.Listen {
			servers = append(servers, a.String())
		}
		return nil
	})
	return servers, s.unlessBusy(err)
}

// Remove makes a record unknown; one that is not there is no error. It starts
// no server.
func (s Server) Remove(key model.Key) error { return s.remove(key.Network, of(key)) }

// Keep makes the records of a network unknown that are of none of the valid
// attachments.
func (s Server) Keep(network string, valid []model.Key) error {
	return s.remove(network, func(id string) bool {
		return !slices.ContainsFunc(valid, func(key model.Key) bool { return key.Network == network && key.ContainerID == id })
	})
}

func (s Server) remove(network string, drop func(id string) bool) error {
	if ValidNetwork(network) != nil {
		return nil
	}
	if has, err := s.has(network, drop); err != nil || !has {
		return err
	}
	return s.locked(func() error {
		if err := s.edit(network, drop, nil); err != nil {
			return err
		}
		return s.unlessBusy(s.tell())
	})
}

// locked runs fn while no other flatnet or netavark edits the files. A lock
// that others keep is a [model.ErrBusy].
func (s Server) locked(fn func() error) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(s.Dir, "..", "aardvark.lock"), lockWait)
	if errors.Is(err, flock.ErrHeld) {
		return fmt.Errorf("%w: %w", err, model.ErrBusy)
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(), unlock())
}

// unlessBusy turns every error but a [model.ErrBusy] into a warning.
func (s Server) unlessBusy(err error) error {
	if err == nil || errors.Is(err, model.ErrBusy) {
		return err
	}
	s.warn("container names: %v", err)
	return nil
}

func (s Server) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}

// ValidNetwork rejects a network whose file would be one of the server's own.
func ValidNetwork(name string) error {
	if name == pidFile {
		return fmt.Errorf("%q can't be a network with container names, because aardvark-dns keeps its process ID in a file of that name: %w", name, model.ErrInvalid)
	}
	return nil
}

// validNames returns the names of r that can be looked up, each once. DNS can't
// hold the others, and a file that is not UTF-8 makes the server skip the
// whole network.
func (s Server) validNames(r Record) []string {
	var names []string
	for _, name := range r.Names {
		if err := validName(name); err != nil {
			s.warn("%v; container %.12s is not found by it", err, r.Key.ContainerID)
		} else if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = []string{strings.ReplaceAll(fmt.Sprintf("%.12s", r.Key.ContainerID), ".", "-")}
	}
	return names
}

// validName accepts what can be looked up: labels of 1 to 63 bytes between
// dots, 241 bytes with them, which leaves room for the search domain (RFC 1035,
// section 2.3.4); less what would end a word of the configuration file.
func validName(s string) error {
	if len(s) > 253-len(SearchDomain)-1 {
		return fmt.Errorf("%.60q... is too long for a DNS name", s)
	}
	valid := utf8.ValidString(s)
	for label := range strings.SplitSeq(s, ".") {
		valid = valid && label != "" && len(label) <= 63 && !strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f })
	}
	if !valid {
		return fmt.Errorf("%.60q can't be a DNS name", s)
	}
	return nil
}
