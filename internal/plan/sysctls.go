package plan

import (
	"errors"
	"io/fs"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/link"
	"flatnet/bridge/model"
)

// settings lists the sysctls that an ADD sets of interfaces that it makes, or gives the first
// address of a subnet. Others are among what the host lacks.
func settings(c *host.Host, br link.Bridge, a *model.Attachment) (all []model.Fault) {
	differs := func(family, iface, name, want string) {
		path := "net/" + family + "/conf/" + iface + "/" + name
		v, err := c.Sysctl.Get(path)
		if errors.Is(err, fs.ErrNotExist) { // it inherits this
			v, err = c.Sysctl.Get("net/" + family + "/conf/default/" + name)
		}
		if err == nil && v != want {
			all = append(all, model.Fault{Thing: "sysctl " + path, State: v, Mend: "is set from " + v + " to " + want})
		}
	}
	gw := a.GatewayName()
	var quiet []string
	if br.Index == 0 {
		quiet = append(quiet, a.Bridge)
	}
	if lacksGateway(br, a) && !listens(c, br) && !slices.Contains(quiet, gw) {
		quiet = append(quiet, gw)
	}
	for _, iface := range quiet {
		differs("ipv6", iface, "accept_ra", "0")
		differs("ipv6", iface, "accept_dad", "0")
	}
	if br.Gateway.Index != 0 {
		return all
	}
	if v, err := c.Sysctl.Get("net/ipv4/ip_forward"); err == nil && v != "0" && a.Forwards(true) { // else it is set with that
		differs("ipv4", gw, "forwarding", "1")
	}
	if slices.ContainsFunc(a.Ports, model.Publication.Loopback) {
		differs("ipv4", gw, "route_localnet", "1")
	}
	return all
}

// lacksGateway reports whether the bridge is to get a gateway address.
func lacksGateway(br link.Bridge, a *model.Attachment) bool {
	for _, p := range a.GatewayPrefixes() {
		has := false
		for _, addr := range br.Addrs {
			has = has || addr.Prefix == p
		}
		if !has {
			return true
		}
	}
	return false
}

// listens reports whether the host has learned a route or address by a bridge that somebody
// else made: it then goes on listening to routers there.
func listens(c *host.Host, br link.Bridge) bool {
	if _, ours := model.MadeFor(br.Alias); ours || br.Index == 0 {
		return false
	}
	learned, err := c.Advertised()
	return err != nil || slices.Contains(learned, br.Gateway.Index)
}
