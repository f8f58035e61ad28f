// Package peer has the words for the subnets of other hosts: what they are, how a
// configuration and a record write them, and which ones are possible. It makes no
// system call.
package peer

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Peer is a subnet of another host's containers, and the way there from this host, as
// ip-route(8) has it.
type Peer struct {
	Subnet netip.Prefix // without host bits
	Via    netip.Addr   // the next hop; invalid: the device leads there itself, as a tunnel does
	Dev    string       // an interface of the host; empty: the one that leads to Via
}

// String returns the peer as Parse reads it.
func (p Peer) String() string {
	way := p.Dev
	if p.Via.IsValid() {
		way = p.Via.String()
		if p.Dev != "" {
			way += "%" + p.Dev
		}
	}
	return p.Subnet.String() + "@" + way
}

// Route returns the peer as ip-route(8) writes it.
func (p Peer) Route() string {
	text := p.Subnet.String()
	if p.Via.IsValid() {
		text += " via " + p.Via.String()
	}
	if p.Dev != "" {
		text += " dev " + p.Dev
	}
	return text
}

// Parse reads SUBNET@ADDRESS, SUBNET@INTERFACE or SUBNET@ADDRESS%INTERFACE. The caller
// validates it, see [Peer.Check].
func Parse(s string) (p Peer, err error) {
	subnet, way, found := strings.Cut(s, "@")
	p.Subnet, err = netip.ParsePrefix(subnet)
	if err != nil || !found {
		return Peer{}, fmt.Errorf("%.80q is not in the form 10.87.2.0/24@192.0.2.2, 10.87.2.0/24@wg0 or fd00:87:2::/64@fe80::2%%eth0", s)
	}
	via, dev, _ := strings.Cut(way, "%")
	if p.Via, err = netip.ParseAddr(via); err != nil && dev == "" {
		return Peer{Subnet: p.Subnet, Dev: way}, nil
	}
	p.Dev = dev
	if err != nil {
		return Peer{}, fmt.Errorf("%.80q: %.40q is not an IP address", s, via)
	}
	return p, nil
}

// ParseList reads what [Parse] reads, separated by commas.
func ParseList(s string) (all []Peer, err error) {
	for text := range strings.SplitSeq(s, ",") {
		p, err := Parse(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Check reports the key, and the value, that make a peer one that no host can have. The
// caller validates what is a name of an interface.
func (p Peer) Check() (key string, err error) {
	s, via := p.Subnet, p.Via
	switch first := s.Addr(); {
	case first.Is4In6() || first.IsMulticast() || first.IsLoopback() || first.IsLinkLocalUnicast():
		return "subnet", fmt.Errorf("%s has no addresses of other hosts' containers", s)
	case s.Bits() == 0:
		return "subnet", fmt.Errorf("%s is all addresses; the default route is the host's own", s)
	case strings.Contains(p.Dev, ","):
		return "dev", fmt.Errorf("%q has a comma, which separates peers in a record", p.Dev)
	case via.IsValid():
		return "via", p.checkVia()
	case p.Dev == "":
		return "via", errors.New("must be given, or dev: the address of the other host, or the interface that leads to it")
	}
	return "", nil
}

func (p Peer) checkVia() error {
	switch via := p.Via; {
	case via.Is4() != p.Subnet.Addr().Is4():
		return fmt.Errorf("%s is not of the family of the subnet %s", via, p.Subnet)
	case via.IsUnspecified() || via.IsMulticast() || via.IsLoopback():
		return fmt.Errorf("%s is no other host's address", via)
	case p.Subnet.Contains(via):
		return fmt.Errorf("%s is in the subnet %s, so it can't be the way there", via, p.Subnet)
	case via.Is6() && via.IsLinkLocalUnicast() && p.Dev == "":
		return fmt.Errorf("%s is link-local, so dev must name the interface", via)
	}
	return nil
}

// CheckAll reports peers whose subnets overlap each other or own, a network's subnets.
func CheckAll(peers []Peer, own []netip.Prefix) error {
	order := make([]int, len(peers)) // by address, and the wider ones first
	for i, p := range peers {
		order[i] = i
		for _, subnet := range own {
			if p.Subnet.Overlaps(subnet) {
				return fmt.Errorf("peers[%d].subnet: %s overlaps with %s, which is the network's own; leave it out", i, p.Subnet, subnet.Masked())
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := peers[a].Subnet, peers[b].Subnet
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})
	for n := 1; n < len(order); n++ {
		i, j := max(order[n-1], order[n]), min(order[n-1], order[n])
		if peers[i].Subnet.Overlaps(peers[j].Subnet) { // two that overlap have none between them that does not
			return fmt.Errorf("peers[%d].subnet: %s overlaps with peers[%d], %s", i, peers[i].Subnet, j, peers[j].Subnet)
		}
	}
	return nil
}
