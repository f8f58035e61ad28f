// Package differential compares flatnet's reading of a configuration with that
// of the CNI project's own libraries: its types, and host-local's reader.
package differential

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
)

// A conf is what the reference bridge plugin reads (its NetConf can't be
// imported). Pointers tell what is absent, for the defaults differ.
type conf struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	DNS       types.DNS
	Bridge    *string `json:"bridge"`
	MTU       int     `json:"mtu"`
	IsGateway *bool   `json:"isGateway"`
	IsDefault *bool   `json:"isDefaultGateway"`
	Masq      *bool   `json:"ipMasq"`
	Force     bool    `json:"forceAddress"`
	Hairpin   bool    `json:"hairpinMode"`
	Promisc   bool    `json:"promiscMode"`
	VLAN      int     `json:"vlan"`
	Trunk     []struct {
		MinID *int `json:"minID"`
		MaxID *int `json:"maxID"`
		ID    *int `json:"id"`
	} `json:"vlanTrunk"`
	KeepDefault bool `json:"preserveDefaultVlan"`
	SpoofCheck  bool `json:"macspoofchk"`
	DAD         bool `json:"enabledad"`
	NoAddress   bool `json:"disableContainerInterface"`
	Isolation   bool `json:"portIsolation"`
	IPAM        *struct {
		Type   string `json:"type"`
		Subnet *string
		Ranges []any
	} `json:"ipam"`
	Args struct {
		CNI struct {
			MAC string `json:"mac"`
		} `json:"cni"`
	} `json:"args"`
	Runtime struct {
		MAC      string `json:"mac"`
		DNS      any    `json:"dns"`
		IPRanges []any  `json:"ipRanges"`
	} `json:"runtimeConfig"`
}

// A reading is what a configuration comes to for the reference plugins.
type reading struct {
	conf
	mac    string
	trunk  []uint16
	ranges bool // whether ipam names any, which flatnet need not
	ipam   *allocator.IPAMConfig
}

// macArgs is what the reference bridge plugin reads of CNI_ARGS.
type macArgs struct {
	types.CommonArgs
	MAC types.UnmarshallableString
}

// read is the reference's reading, or its refusal.
func read(stdin []byte, args string) (r reading, err error) {
	if err := json.Unmarshal(stdin, &r.conf); err != nil {
		return r, err
	}
	if err := utils.ValidateNetworkName(r.Name); err != nil {
		return r, err
	}
	env := macArgs{}
	if err := types.LoadArgs(args, &env); err != nil {
		return r, err
	}
	for _, mac := range []string{string(env.MAC), r.Args.CNI.MAC, r.Runtime.MAC} {
		if mac != "" {
			r.mac = mac
		}
	}
	if r.mac != "" {
		hw, err := net.ParseMAC(r.mac)
		if err != nil {
			return r, err
		}
		r.mac = hw.String()
	}
	for _, t := range r.Trunk {
		switch {
		case t.MinID != nil && t.MaxID != nil:
			for id := *t.MinID; id <= *t.MaxID && id <= 4095; id++ {
				r.trunk = append(r.trunk, uint16(id))
			}
		case t.MinID != nil || t.MaxID != nil:
			return r, fmt.Errorf("minID and maxID belong together")
		}
		if t.ID != nil {
			r.trunk = append(r.trunk, uint16(*t.ID))
		}
	}
	slices.Sort(r.trunk)
	r.trunk = slices.Compact(r.trunk)
	r.ranges = len(r.Runtime.IPRanges) > 0 || r.IPAM != nil && (len(r.IPAM.Ranges) > 0 || r.IPAM.Subnet != nil)
	if r.ranges && r.IPAM != nil {
		r.ipam, _, err = allocator.LoadIPAMConfig(stdin, args)
	}
	return r, err
}

// addr is an address of the reference as flatnet has it; of none, the zero one.
func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func prefix(n net.IPNet) netip.Prefix {
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr(n.IP), ones)
}
