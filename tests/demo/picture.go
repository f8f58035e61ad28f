package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flatnet/tests/lab"
)

// An iface is what ip -json -details addr says of an interface.
type iface struct {
	IfName, Address, Master, IfAlias string
	MTU                              int
	AddrInfo                         []struct {
		Local     string
		Prefixlen int
		Family    string
	} `json:"addr_info"`
}

func (i iface) addr() string {
	for _, a := range i.AddrInfo {
		if a.Family == "inet" {
			return fmt.Sprintf("%s/%d", a.Local, a.Prefixlen)
		}
	}
	return ""
}

func ifaces(t lab.TB, p lab.Place) []iface {
	var all []iface
	if err := json.Unmarshal([]byte(p.Run("ip", "-json", "-details", "addr")), &all); err != nil {
		t.Fatalf("ip -json addr: %v", err)
	}
	return all
}

// hostEnds names the bridge's ports.
func hostEnds(w *lab.World) string {
	var names []string
	for _, i := range ifaces(w.TB, w.Place) {
		if i.Master == bridgeName {
			names = append(names, i.IfName)
		}
	}
	return strings.Join(names, " ")
}

// picture draws the network as the kernel has it.
func picture(w *lab.World, guests []guest) {
	host := map[string]iface{}
	for _, i := range ifaces(w.TB, w.Place) {
		host[i.IfName] = i
	}
	say("the outside %s", lab.OutsideAddr)
	say("     |")
	say("%s  %s  the host", lab.Uplink, host[lab.Uplink].addr())
	say("     |  masquerade")
	br := host[bridgeName]
	say("%s  %s  %s", br.IfName, br.addr(), br.Address)
	for _, g := range guests {
		inside := ifaces(w.TB, g.place)
		own := inside[slices.IndexFunc(inside, func(i iface) bool { return strings.HasPrefix(i.addr(), g.addr+"/") })]
		for _, i := range host {
			if i.Master == bridgeName && strings.HasSuffix(i.IfAlias, " "+g.addr) {
				say("     +-- %s --- %s  %s  %s  mtu %d  in %s", i.IfName, own.IfName, own.addr(), own.Address, own.MTU, g.name)
			}
		}
	}
}
