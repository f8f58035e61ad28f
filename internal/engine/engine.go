// Package engine joins the host, the leases and the names: for each call of a door
// it chooses the address management and does what the call asks for, in order.
package engine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"flatnet/bridge"
	"flatnet/bridge/model"
	"flatnet/internal/dns"
	"flatnet/internal/listeners"
	"flatnet/internal/registry"
	"flatnet/internal/resolvconf"
	"flatnet/internal/rootless"
	"flatnet/internal/subnetfile"
	"flatnet/ipam"
	"flatnet/ipam/delegate"
)

// A Host makes, checks and removes attachments; [bridge.Host] does.
type Host interface {
	Add(n *model.Network, r *model.Request, alloc model.Allocator, last func(*model.Result) error) (model.Result, error)
	Check(*model.Network, *model.Request, *model.Result, model.Allocator) error
	Delete(key model.Key, alloc model.Allocator, withBridge bool) error
	GC(network string, valid []model.Key, alloc model.Allocator) error
	Clear(network string, keys []model.Key, alloc model.Allocator) error
	Status(*model.Network, model.Allocator) error
	Vacant(*model.Network) error
	Owners() ([]model.Owner, error)
	Survey(deep bool) ([]*model.Survey, error)
	Reload() (mended []string, err error)
}

// Names serves the names of containers; [dns.Server] does.
type Names interface {
	// Installed reports whether there is a server for Add to use.
	Installed() bool
	// ListenPort returns the port that it listens on; 0 is 53, as containers ask.
	ListenPort() uint16
	// Add returns the addresses at which the record is served; none if no server
	// can be used.
	Add(dns.Record) (servers []string, err error)
	// Remove removes an attachment's record; one that does not exist is no error.
	Remove(model.Key) error
	// Keep removes the network's records that belong to no valid attachment.
	Keep(network string, valid []model.Key) error
}

// An Engine serves calls. Its methods don't change the configuration.
type Engine struct {
	Host  Host
	Names Names
	Warn  func(string) // gets problems that are no errors

	// Managed networks are created and removed by Podman, which also refuses to
	// publish ports that are in use. Their bridge is removed with the last
	// attachment.
	Managed bool

	// A Dry engine's Host changes nothing, and its leases are only what would be.
	Dry bool

	// Decode reads the result of a delegated IPAM plugin.
	Decode func([]byte) (model.Result, error)
}

// New returns the engine of the host in whose network namespace the process runs.
func New() Engine {
	warn := func(s string) { fmt.Fprintln(os.Stderr, "flatnet:", s) }
	return Engine{Host: bridge.NewHost(), Names: dns.Find(warn), Warn: warn}
}

// prepare returns the network as the host needs it, and its address management.
func (e Engine) prepare(c *model.Config) (n model.Network, alloc model.Allocator, err error) {
	n = c.Network
	if err := ipam.ValidNetwork(n.Name); err != nil {
		return n, nil, err
	}
	cfg := ipam.Config{Network: n.Name, Dir: cmp.Or(c.IPAM.DataDir, ipam.DefaultDir), Warn: e.Warn, Dry: e.Dry}
	if cfg.Sets, err = ipam.NewSets(c.IPAM.Sets); err != nil { // none for DEL
		return n, nil, err
	}
	n.Subnets, n.DataDir = nil, c.IPAM.DataDir
	for _, r := range cfg.Sets.Ranges() {
		if n.MTU != 0 && n.MTU < model.MinMTU6 && r.Subnet.Addr().Is6() {
			return n, nil, model.Errorf(model.ErrInvalid, "mtu: %d is less than %d, the least for IPv6", n.MTU, model.MinMTU6)
		}
		n.Subnets = append(n.Subnets, model.Subnet{Prefix: r.Subnet, Gateway: r.Gateway})
	}
	if c.Names {
		if err := dns.ValidNetwork(n.Name); err != nil {
			return n, nil, err
		}
		if n.ServesDNS = e.Names.Installed(); n.ServesDNS {
			n.DNSPort = e.Names.ListenPort()
		}
	}
	store := ipam.New(cfg, e.Host.Owners)
	if c.IPAM.Type == "" {
		return n, store, nil
	}
	plugin := delegate.Plugin{Type: c.IPAM.Type, Path: c.IPAM.Path, Conf: c.IPAM.Conf, Decode: e.Decode}
	return n, delegate.Allocator{Plugin: plugin, Store: store}, nil
}

// current is prepare with the subnets that this host has now.
func (e Engine) current(c *model.Config) (n model.Network, alloc model.Allocator, err error) {
	c, file, err := subnetfile.Read(c)
	if err != nil {
		return n, nil, err
	}
	n, alloc, err = e.prepare(c)
	return n, file.Watch(alloc), err
}

// Add makes an attachment, or leaves nothing behind. With names, the result
// has the DNS servers that serve them.
func (e Engine) Add(c *model.Config) (model.Result, error) {
	result, err := subnetfile.Settled(func() (model.Result, error) { return e.attach(c) })
	if err != nil {
		return result, err
	}
	if len(c.Request.Ports) > 0 && !e.Managed {
		for _, text := range listeners.Find(c.Request.Ports, result.IPs) {
			e.Warn(text)
		}
	}
	if !e.Dry {
		registry.Added(c, &result, e.Warn)
	}
	return result, nil
}

// attach makes an attachment in the subnets that this host has now.
func (e Engine) attach(c *model.Config) (result model.Result, err error) {
	n, alloc, err := e.current(c)
	if err != nil {
		return result, err
	}
	if d, ok := alloc.(delegate.Allocator); ok {
		_, err = d.Plugin.Find()
	} else {
		n.DNS, err = resolvConf(c)
	}
	if err != nil {
		return result, err
	}
	result, err = e.Host.Add(&n, &c.Request, alloc, func(result *model.Result) error { return e.name(c, result) })
	return result, subnetfile.Outdated(alloc, err)
}

// name publishes the container's names, if it has any, and puts the servers that serve them
// into the result.
func (e Engine) name(c *model.Config, result *model.Result) error {
	if !c.Names {
		return nil
	}
	if !e.Names.Installed() && !e.Managed {
		e.Warn("dnsEnabled: aardvark-dns is not installed, so containers will not find each other by name")
	}
	r := dns.Record{Key: c.Request.Key, Names: c.Request.Names, Upstream: c.Upstream, Internal: c.Network.Internal}
	for _, ip := range result.IPs {
		r.Addresses = append(r.Addresses, ip.Address.Addr())
		// A link-local gateway can't be asked without naming the link.
		serves := c.Network.IsGateway && ip.Gateway.IsValid() && !ip.Gateway.IsLinkLocalUnicast()
		if serves && !slices.Contains(r.Listen, ip.Gateway) {
			r.Listen = append(r.Listen, ip.Gateway)
		}
	}
	servers, err := e.Names.Add(r)
	if len(servers) > 0 {
		result.DNS.Nameservers = servers
		result.DNS.Search = append(result.DNS.Search, dns.SearchDomain)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("container names of network %s: %w", c.Network.Name, err), e.Names.Remove(c.Request.Key))
	}
	return err
}

// Check compares an attachment with the result that its ADD, and the plugins after
// it, reported.
func (e Engine) Check(c *model.Config, prev model.Result) error {
	n, alloc, err := e.prepare(c)
	if err != nil {
		return err
	}
	return e.Host.Check(&n, &c.Request, &prev, alloc)
}

// Del removes an attachment; one that does not exist is no error.
func (e Engine) Del(c *model.Config) error {
	_, alloc, err := e.prepare(c)
	if err != nil {
		return err
	}
	err = errors.Join(e.Names.Remove(c.Request.Key), e.Host.Delete(c.Request.Key, alloc, e.Managed))
	if err == nil {
		registry.Removed(c, alloc, e.Warn)
	}
	return err
}

// GC removes all attachments of the network but the valid ones.
func (e Engine) GC(c *model.Config, valid []model.Key) error {
	n, alloc, err := e.prepare(c)
	if err != nil {
		return err
	}
	registered := registry.Leased(c, alloc)
	err = errors.Join(e.Names.Keep(n.Name, valid), e.Host.GC(n.Name, valid, alloc))
	registry.Collected(c, registered, alloc, e.Warn)
	if d, ok := alloc.(delegate.Allocator); ok {
		err = errors.Join(err, d.GC())
	}
	return err
}

// Status reports whether an Add could succeed.
func (e Engine) Status(c *model.Config) error {
	n, alloc, err := e.current(c)
	if err != nil {
		return subnetfile.Unavailable(c, err)
	}
	if c.IPAM.Type == "" {
		if _, err := resolvConf(c); err != nil {
			return model.Errorf(model.ErrUnavailable, "%w", err)
		}
	}
	return e.Host.Status(&n, alloc)
}

// Subnets returns the subnets of a network that would be created, each with its
// gateway, or an error if it is invalid or collides with something of the host (a
// [model.ErrConflict]). It changes nothing.
func (e Engine) Subnets(c *model.Config) ([]model.Subnet, error) {
	n, _, err := e.current(c)
	if err != nil {
		return nil, err
	}
	// Other firewalls don't prevent a network: they may have changed before its
	// first container comes, and the ADD reports them.
	n.ForwardAccept = true
	if rootless.Podman() { // it creates networks in the host's namespace, and containers in its own
		return n.Subnets, e.Host.Vacant(&n)
	}
	return n.Subnets, e.Host.Status(&n, Unleased{})
}

// Unleased is the address management of a network that has no attachment yet.
type Unleased struct{ model.Allocator }

// Unleased keeps STATUS from looking for attachments of an earlier network of that name.
func (Unleased) Unleased() {}

// Keys lists none.
func (Unleased) Keys() ([]model.Key, error) { return nil, nil }

// Free reports that there is a free address.
func (Unleased) Free(model.Locals) error { return nil }

// resolvConf returns the network's DNS settings. If it has none itself, they are
// those of the file that the configuration names.
func resolvConf(c *model.Config) (model.DNS, error) {
	if c.IPAM.ResolvConf == "" || !c.Network.DNS.Empty() {
		return c.Network.DNS, nil
	}
	d, err := resolvconf.Read(c.IPAM.ResolvConf)
	if err != nil {
		return d, fmt.Errorf("ipam.resolvConf: %w", err)
	}
	return d, nil
}
