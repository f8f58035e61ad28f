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

	"flatnet/bridge"
)

// Dir is the configuration directory that netavark uses when run by root.
const Dir = "/run/containers/networks/aardvark-dns"

// SearchDomain is what the server takes off names before it looks them up
// (PODMAN_DEFAULT_SEARCH_DOMAIN of netavark's constants.rs).
const SearchDomain = "dns.podman"

// A Record is one container in one network. Of a container with several
// interfaces in one network, the last record counts.
type Record struct {
	Key       bridge.Key
	Names     []string // see [ValidName]; none: the container ID's first 12 bytes
	Addresses []netip.Addr
	Listen    []netip.Addr // where the network's containers ask: its gateways
	Upstream  []netip.Addr // whom the server asks about other names; none: the host's servers
	Internal  bool         // other names are not looked up
}

// A Server is aardvark-dns with its configuration directory.
type Server struct {
	Dir     string
	Program string // absolute path; empty: not installed
}

// Find returns the host's server. The directories are those in which Podman
// looks for its helpers (helper_binaries_dir of containers.conf(5)).
func Find() Server {
	s := Server{Dir: Dir}
	for _, dir := range []string{"/usr/local/libexec", "/usr/local/lib", "/usr/libexec", "/usr/lib"} {
		path := filepath.Join(dir, "podman", processName)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			s.Program = path
			break
		}
	}
	return s
}

// Installed says whether there is a server.
func (s Server) Installed() bool { return s.Program != "" }

const (
	// lockWait is how long others may hold the lock: some milliseconds, or as
	// long as the server takes to start.
	lockWait = 10 * time.Second
	// serveWait is how long the server may take until it answers.
	serveWait = 5 * time.Second
)

// Add makes a record known and returns when the server answers by it, with the
// addresses that it listens at. Without a server there are none, nor for a
// record without addresses, or of a network where nobody could listen.
func (s Server) Add(r Record) (servers []string, err error) {
	if !s.Installed() || len(r.Addresses) == 0 || len(r.Listen) == 0 {
		return nil, nil
	}
	if len(r.Names) == 0 {
		r.Names = []string{fmt.Sprintf("%.12s", r.Key.ContainerID)}
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(s.Dir, "..", "aardvark.lock"), lockWait)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.edit(r.Key.Network, of(r.Key), &r); err != nil {
		return nil, err
	}
	if err = s.tell(); err == nil {
		err = s.ensure()
	}
	deadline := time.Now().Add(serveWait)
	for _, a := range r.Listen {
		if err == nil {
			err = s.await(a, r, deadline)
			servers = append(servers, a.String())
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.edit(r.Key.Network, of(r.Key), nil), s.tell())
	}
	return servers, nil
}

// await returns when the server at addr knows the record. A server that was
// about to end when it was told of the record is started again.
func (s Server) await(addr netip.Addr, r Record, deadline time.Time) error {
	for {
		err := ask(netip.AddrPortFrom(addr, port), r.Names[0]+"."+SearchDomain, r.Addresses[0].Is6())
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("aardvark-dns at %s: %w", addr, err)
		}
		if err := s.ensure(); err != nil {
			return err
		}
	}
}

// Remove makes a record unknown; one that is not there is no error. It starts
// no server.
func (s Server) Remove(key bridge.Key) error { return s.remove(key.Network, of(key)) }

// Keep makes the records of a network unknown that are of none of the valid
// attachments.
func (s Server) Keep(network string, valid []bridge.Key) error {
	return s.remove(network, func(id string) bool {
		return !slices.ContainsFunc(valid, func(key bridge.Key) bool { return key.Network == network && key.ContainerID == id })
	})
}

func (s Server) remove(network string, drop func(id string) bool) (err error) {
	if has, err := s.has(network, drop); err != nil || !has {
		return err
	}
	unlock, err := lock(filepath.Join(s.Dir, "..", "aardvark.lock"), lockWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.edit(network, drop, nil); err != nil {
		return err
	}
	return s.tell()
}

// ValidName accepts what can be looked up: labels of 1 to 63 bytes between
// dots, 241 bytes with them, which leaves room for the search domain (RFC 1035,
// section 2.3.4); less what would end a word of the configuration file.
func ValidName(s string) error {
	if len(s) > 253-len(SearchDomain)-1 {
		return fmt.Errorf("%.60q... is too long for a name", s)
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f }) {
			return fmt.Errorf("%.60q is not a name that can be looked up", s)
		}
	}
	return nil
}
