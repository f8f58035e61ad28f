// Package dns lets containers of a network find each other by name. The server
// is aardvark-dns, Podman's own. It is started and configured as netavark does
// it (config.md of containers/aardvark-dns), with the same files, so that one
// server answers for the containers of netavark's and flatnet's networks.
package dns

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"flatnet/bridge/model"
	"flatnet/internal/flock"
	"flatnet/internal/input"
	"flatnet/internal/rootless"
	"flatnet/internal/subprocess"

	"golang.org/x/sys/unix"
)

// Dir is the configuration directory that netavark uses when run by root.
const Dir = "/run/containers/networks/aardvark-dns"

// SearchDomain is the domain that the server removes from a name before it looks
// it up (PODMAN_DEFAULT_SEARCH_DOMAIN of netavark's constants.rs).
const SearchDomain = "dns.podman"

// lockWait bounds the wait for the lock, which others hold for some milliseconds,
// or for as long as the server takes to start.
const lockWait = 10 * time.Second

// A Record is a container's entry in a network. If a container has several
// interfaces in one network, the last record replaces the others.
type Record struct {
	Key       model.Key
	Names     []string // none: the container ID's first 12 bytes
	Addresses []netip.Addr
	Listen    []netip.Addr // the network's gateways, where its containers ask; none is link-local
	Upstream  []netip.Addr // servers to ask about other names; none: the host's
	Internal  bool         // other names are not looked up
}

// A Server is aardvark-dns with its configuration directory.
type Server struct {
	Dir     string
	Program func() string // absolute path; empty: not installed
	Warn    func(string)  // reports a failure that fails no call
	Port    uint16        // that it listens on, as netavark's; 0: 53, which containers ask
}

// Find returns the host's server. Its program is looked for when it is asked for, in the
// directories in which Podman looks for its helpers (helper_binaries_dir of
// containers.conf(5)).
func Find(warn func(string)) Server {
	find := func() string {
		dirs := []string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}
		return subprocess.Find(processName, dirs)
	}
	s := Server{Dir: cmp.Or(rootless.Names(), Dir), Program: find, Warn: warn}
	if text := os.Getenv(portVariable); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err == nil && n != port {
			s.Port = uint16(n)
		}
		if err != nil || n == 0 {
			warn(fmt.Sprintf("%s: %.20q is not a port (dns_bind_port of containers.conf); containers are not found by name", portVariable, text))
			s.Program = func() string { return "" }
		}
	}
	return s
}

// portVariable is where Podman passes netavark the dns_bind_port of containers.conf(5), and
// so its plugins.
const portVariable = "NETAVARK_DNS_PORT"

// ListenPort returns the port that the server listens on; 0 is 53.
func (s Server) ListenPort() uint16 { return s.Port }

func (s Server) port() uint16 { return cmp.Or(s.Port, port) }

// Installed reports whether there is a server.
func (s Server) Installed() bool { return s.Program() != "" }

// Add publishes a record and returns the addresses at which the server answers.
// It returns none without a server, for a record without addresses, for a network
// without a gateway, and if the server can't be used: a container must start even
// if its name can't be found, so that is a warning. The only error is that others
// hold the lock, a [model.ErrBusy].
func (s Server) Add(r Record) (servers []string, err error) {
	r.Names = s.validNames(r)
	if !s.Installed() || len(r.Addresses) == 0 || len(r.Listen) == 0 {
		return nil, nil
	}
	err = s.locked(func() error {
		if err := s.publish(r); err != nil {
			s.Warn(fmt.Sprintf("containers of network %s are not found by name, and %.12s gets the host's DNS servers: %v", r.Key.Network, r.Key.ContainerID, err))
			// A file with addresses that can't be bound would keep the server
			// from starting for other networks.
			return s.withdraw(r.Key.Network, of(r.Key))
		}
		servers = strings.Split(model.JoinAddrs(r.Listen), ",")
		return nil
	})
	if err != nil && !errors.Is(err, model.ErrBusy) {
		s.Warn(fmt.Sprintf("container names: %v", err))
		err = nil
	}
	return servers, err
}

// Remove withdraws a record. One that does not exist is no error. It starts no
// server.
func (s Server) Remove(key model.Key) error { return s.remove(key.Network, of(key)) }

// Keep withdraws the records of a network that belong to none of the valid
// attachments.
func (s Server) Keep(network string, valid []model.Key) error {
	return s.remove(network, func(id string) bool {
		return !slices.ContainsFunc(valid, func(key model.Key) bool { return key.Network == network && key.ContainerID == id })
	})
}

// remove withdraws the records that drop selects. Without any it takes no lock.
func (s Server) remove(network string, drop func(id string) bool) error {
	edits, err := s.edits(network, drop, nil)
	if err != nil || len(edits) == 0 || ValidNetwork(network) != nil { // the server's own file
		return err
	}
	return s.locked(func() error { return s.withdraw(network, drop) })
}

// locked runs fn while no other flatnet or netavark edits the files. The lock is
// flock(2)'s of netavark's file, which is made inaccessible to other users, for
// they could hold it.
func (s Server) locked(fn func() error) error {
	err := os.MkdirAll(s.Dir, 0o700)
	f, oerr := os.OpenFile(filepath.Join(s.Dir, "..", "aardvark.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err := errors.Join(err, oerr); err != nil {
		return err
	}
	defer f.Close()
	if err := flock.Lock(f, unix.LOCK_EX, lockWait); err != nil {
		return err
	}
	return fn()
}

// ValidNetwork rejects a network whose file would be one of the server's own.
func ValidNetwork(name string) error {
	if name == pidFile {
		return model.Errorf(model.ErrInvalid, "%q can't be a network with container names, because aardvark-dns keeps its process ID in a file of that name", name)
	}
	return nil
}

// validNames returns the names of r that can be looked up, each once. DNS has no
// room for the others, and a file that is not UTF-8 makes the server skip the
// whole network.
func (s Server) validNames(r Record) []string {
	var names []string
	for _, name := range r.Names {
		if !validName(name) {
			s.Warn(fmt.Sprintf("%.60q can't be a DNS name; container %.12s is not found by it", name, r.Key.ContainerID))
		} else if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = []string{strings.ReplaceAll(fmt.Sprintf("%.12s", r.Key.ContainerID), ".", "-")}
	}
	return names
}

// validName reports whether a name can be looked up: labels of 1 to 63 bytes
// between dots, 242 bytes with them, which leaves room for the search domain
// (RFC 1035, section 2.3.4); without what would end a word of the configuration
// file.
func validName(s string) bool {
	valid := utf8.ValidString(s) && len(s) <= 253-len("."+SearchDomain)
	for label := range strings.SplitSeq(s, ".") {
		valid = valid && label != "" && len(label) <= 63
	}
	return valid && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f })
}

// A network's file has the addresses to listen at in its first line, and, if
// there are any, the servers to ask about other names:
//
//	10.87.1.1,fd87::1 9.9.9.9
//
// and a line for each container: ID, IPv4 and IPv6 addresses, names.
//
//	0d8d354710ce 10.87.1.2 fd87::2 web,www

// internalSuffix marks the file of an internal network (INTERNAL_SUFFIX of
// aardvark-dns' config/constants.rs). No network has a % in its name.
const internalSuffix = "%int"

// maxFile is more than a network of 65,000 containers needs, in bytes.
const maxFile = 64 << 20

// edits returns the files of a network that change if r takes the place of the
// records that drop selects, by their paths. If r is nil, nothing does. A file
// without records is empty, and to be removed.
func (s Server) edits(network string, drop func(id string) bool, r *Record) (map[string]string, error) {
	changed := map[string]string{}
	for _, suffix := range []string{"", internalSuffix} {
		path := filepath.Join(s.Dir, network+suffix)
		data, err := input.Read(path, maxFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		header, records := split(string(data), drop)
		if r != nil && r.Internal == (suffix != "") {
			header = strings.TrimSpace(model.JoinAddrs(r.Listen)+" "+model.JoinAddrs(r.Upstream)) + "\n"
			v4 := slices.DeleteFunc(slices.Clone(r.Addresses), netip.Addr.Is6)
			v6 := slices.DeleteFunc(slices.Clone(r.Addresses), netip.Addr.Is4)
			records += fmt.Sprintln(r.Key.ContainerID, model.JoinAddrs(v4), model.JoinAddrs(v6), strings.Join(r.Names, ","))
		}
		if records == "" {
			header = ""
		}
		if header+records != string(data) {
			changed[path] = header + records
		}
	}
	return changed, nil
}

// edit makes these edits. The server reads every file of its directory, so a new
// one is written beside it and moved there.
func (s Server) edit(network string, drop func(id string) bool, r *Record) error {
	edits, err := s.edits(network, drop, r)
	for path, content := range edits {
		if content == "" {
			err = errors.Join(err, os.Remove(path))
			continue
		}
		temp := filepath.Join(s.Dir, "..", "flatnet-"+filepath.Base(path)+".tmp")
		werr := os.WriteFile(temp, []byte(content), 0o600)
		if werr == nil {
			werr = os.Rename(temp, path)
		}
		if werr != nil {
			os.Remove(temp)
		}
		err = errors.Join(err, werr)
	}
	return err
}

// split returns a file's first line, and the others without those of the
// containers that drop selects.
func split(content string, drop func(id string) bool) (header, records string) {
	lines := strings.SplitAfter(content, "\n")
	kept := slices.DeleteFunc(lines[1:], func(line string) bool {
		id, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		return drop(id)
	})
	return lines[0], strings.Join(kept, "")
}

// of selects the records of a container.
func of(key model.Key) func(id string) bool {
	return func(id string) bool { return id == key.ContainerID }
}
