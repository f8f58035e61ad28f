package subnetfile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

// A file is what it says.
type file struct {
	networks    []netip.Prefix // the ranges of all hosts
	subnets     []netip.Prefix // this host's, with the gateway's address: one of a family
	mtu         uint32         // of the way to other hosts
	masquerades bool           // its writer does so itself
}

// The keys, which pkg/subnet of flannel writes and its CNI plugin requires.
const (
	network, network6 = "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"
	subnet, subnet6   = "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"
	mtu, masquerade   = "FLANNEL_MTU", "FLANNEL_IPMASQ"
)

// parse reads KEY=VALUE lines. Empty ones, comments and keys that are unknown are skipped,
// since a newer flannel may have more.
func parse(data []byte) (f file, err error) {
	seen := map[string]int{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, "=")
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
			continue
		case !ok || key != strings.TrimSpace(key) || key == "":
			return file{}, fmt.Errorf("line %d: %.60q is not of the form KEY=VALUE", n, line)
		case seen[key] != 0:
			return file{}, fmt.Errorf("line %d: %.60q is given twice, first in line %d", n, key, seen[key])
		}
		seen[key] = n
		if err := f.set(key, value); err != nil {
			return file{}, fmt.Errorf("line %d: %s: %w", n, key, err)
		}
	}
	for _, pair := range [][2]string{{subnet, network}, {subnet6, network6}} {
		if (seen[pair[0]] == 0) != (seen[pair[1]] == 0) {
			return file{}, fmt.Errorf("%s and %s belong together, and only one of them is there", pair[0], pair[1])
		}
	}
	for _, key := range []string{subnet, mtu, masquerade} {
		if seen[key] == 0 && (key != subnet || seen[subnet6] == 0) {
			return file{}, fmt.Errorf("%s is missing, so the file is not complete, or not flannel's", key)
		}
	}
	return f, f.check(seen)
}

func (f *file) set(key, value string) (err error) {
	switch key {
	case network, network6: // several are separated by commas
		for s := range strings.SplitSeq(value, ",") {
			var p netip.Prefix
			if p, err = parsePrefix(s, key == network); err != nil {
				return err
			}
			f.networks = append(f.networks, p.Masked())
		}
	case subnet, subnet6:
		p, err := parsePrefix(value, key == subnet)
		if err == nil && p.Addr().Is4() && p.Addr() == model.LastOf(p.Masked()) {
			err = fmt.Errorf("%q has the subnet's broadcast address, which can't be the gateway's", value)
		}
		f.subnets = append(f.subnets, p)
		return err
	case mtu:
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n == 0 || fields.CheckMTU(n) != nil {
			return fmt.Errorf("%.60q is not the MTU of an interface", value)
		}
		f.mtu = uint32(n)
	case masquerade:
		if value != "true" && value != "false" {
			return fmt.Errorf("%.60q is neither true nor false", value)
		}
		f.masquerades = value == "true"
	}
	return nil
}

func parsePrefix(s string, is4 bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	a := p.Addr()
	switch {
	case err != nil || a.Is4In6() || a.Is4() != is4:
		example := map[bool]string{true: "10.244.3.1/24", false: "fd00:10:244:3::1/64"}[is4]
		return p, fmt.Errorf("%.60q is not of the form %s", s, example)
	case a.IsMulticast() || a.IsLoopback() || p.Masked().Addr().IsUnspecified() || a.IsLinkLocalUnicast():
		return p, fmt.Errorf("%.60q is not a subnet of hosts", s)
	case a.BitLen()-p.Bits() < 2:
		return p, fmt.Errorf("%.60q has no room for a gateway and containers", s)
	}
	return p, nil
}

// check rejects a subnet that is no part of the networks. lines are those of the keys.
func (f *file) check(lines map[string]int) error {
	for _, s := range f.subnets {
		key := map[bool]string{true: subnet, false: subnet6}[s.Addr().Is4()]
		if !slices.ContainsFunc(f.networks, func(n netip.Prefix) bool { return n.Bits() <= s.Bits() && n.Contains(s.Addr()) }) {
			return fmt.Errorf("line %d: %s: %s is no part of the network %v", lines[key], key, s, f.networks)
		}
	}
	return nil
}

// ranges returns the range set of each subnet. The subnet's address is the gateway's, as
// flannel has it, unless it has no host bits.
func (f *file) ranges() (sets [][]model.Range) {
	for _, s := range f.subnets {
		r := model.Range{Subnet: s.Masked()}
		if s != s.Masked() {
			r.Gateway = s.Addr()
		}
		sets = append(sets, []model.Range{r})
	}
	return sets
}
