package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"flatnet/internal/nft"
	"flatnet/internal/sysctl"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Host is the machine on which attachments are made, checked and removed.
// Its verbs are safe against other processes that do the same.
type Host struct {
	route  func() (*rtnl.Conn, error) // dials in the calling thread's namespace
	nft    func() (*nft.Conn, error)
	sysctl sysctl.Dir

	records records
	warn    func(string) // told what is wrong and yet no error; nil: nobody
}

// NewHost returns the host in whose network namespace the process runs.
func NewHost() *Host {
	warn := func(s string) { fmt.Fprintln(os.Stderr, "flatnet:", s) }
	return &Host{
		route: rtnl.Dial, nft: nft.Dial, sysctl: sysctl.Proc,
		records: records{ownRecords(), warn}, warn: warn,
	}
}

// say warns of something that is no error.
func (h *Host) say(s string) {
	if h.warn != nil {
		h.warn(s)
	}
}

// Owners lists what the host's links say of whom they belong to.
func (h *Host) Owners() ([]Owner, error) {
	c, err := h.route()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	links, err := c.Links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return ownersOf(links), nil
}

// locals is the [Locals] of the host that c is connected to. The addresses of the
// bridge are known already, and some have no route: tentative ones, or those in
// a VRF.
func locals(c *rtnl.Conn, br bridgeState) Locals {
	return func(a netip.Addr) (Local, error) {
		if slices.ContainsFunc(br.addrs, func(own rtnl.Addr) bool { return own.Prefix.Addr() == a }) {
			return Local{Prefix: netip.PrefixFrom(a, a.BitLen()), Link: br.gateway.Name}, nil
		}
		r, err := c.Local(a)
		if err != nil {
			return Local{}, fmt.Errorf("look up whether the host has %s: %w", a, err)
		}
		if !r.Dst.IsValid() {
			return Local{}, nil
		}
		l := Local{Prefix: r.Dst, Link: fmt.Sprintf("with index %d", r.Index)}
		if link, err := c.LinkByIndex(r.Index); err == nil {
			l.Link = link.Name
		}
		return l, nil
	}
}

func ownersOf(links []rtnl.Link) (owners []Owner) {
	for _, l := range links {
		if l.Kind == "veth" && len(l.MAC) == len(HardwareAddr{}) {
			owners = append(owners, parseOwner(l.Name, HardwareAddr(l.MAC), l.Alias))
		}
	}
	return owners
}

// hostEnds finds the host ends of key's veth pairs: normally one, under one of the
// names that it may have. Only if there is none, the host's other links are looked
// through, since somebody may have renamed it.
func hostEnds(c *rtnl.Conn, key Key) ([]rtnl.Link, error) {
	found, err := namedEnds(c, key)
	if err != nil || len(found) > 0 {
		return found, err
	}
	links, err := c.Links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return endsAmong(links, key), nil
}

// endsAmong picks the host ends of key's veth pairs.
func endsAmong(links []rtnl.Link, key Key) (found []rtnl.Link) {
	for _, l := range links {
		if l.Kind == "veth" && owns(key, l) {
			found = append(found, l)
		}
	}
	return found
}

// namedEnds is hostEnds under the names that key's host end may have. A link of such
// a name that is another's is not listed.
func namedEnds(c *rtnl.Conn, key Key) (found []rtnl.Link, err error) {
	for _, name := range key.HostNames() {
		l, err := c.LinkByName(name)
		switch {
		case errors.Is(err, unix.ENODEV):
		case err != nil:
			return nil, fmt.Errorf("find link %s: %w", name, err)
		case l.Kind == "veth" && owns(key, l):
			found = append(found, l)
		}
	}
	return found, nil
}

// owns reports whether a link of the host is key's: it has the mark, and its alias, if
// it has one of ours, names no other owner, since marks are short.
func owns(key Key, l rtnl.Link) bool {
	mark := key.Mark()
	if string(l.MAC) != string(mark[:]) {
		return false
	}
	o := parseOwner(l.Name, mark, l.Alias)
	return o.Key == key || o.Key == Key{}
}
