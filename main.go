// A call lives for milliseconds: the runtime need not look for limits of its
// cgroup, nor watch them.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Flatnet gives containers a flat network on a Linux host. The binary has one
// door for container runtimes that speak CNI, one for Podman 5 and newer, which
// runs it as a plugin of netavark, and one for people.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"flatnet/bridge"
	"flatnet/bridge/model"
	"flatnet/cni"
	"flatnet/internal/cli"
	"flatnet/internal/dns"
	"flatnet/internal/listeners"
	"flatnet/internal/netavark"
	"flatnet/ipam"
)

// version is set by the Makefile.
var version = "unknown"

func main() {
	host := bridge.NewHost()
	plugin := len(os.Args) > 1 && netavark.IsCommand(os.Args[1])
	if os.Getenv("CNI_COMMAND") == "" && !plugin {
		os.Exit(cli.Main(os.Args[1:], version, host, os.Stdout, os.Stderr))
	}
	// A reply that nobody reads must be an error and not the end: see cni.Main.
	// This costs 0.1 ms less than signal.Notify, but children inherit what is
	// ignored; so what starts one calls Notify first.
	signal.Ignore(syscall.SIGPIPE)
	if os.Getenv("CNI_COMMAND") == "" {
		// Nobody calls teardown for a setup that was interrupted. One that goes
		// on finds that nobody reads its reply, and undoes itself.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		call := netavark.Call{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		os.Exit(netavark.Plugin{
			Host: host, Names: dns.Find(warn), Version: version,
			DataDir: ipam.DefaultDir, Networks: netavark.NetworkDir,
		}.Main(call))
	}
	call := cni.Call{Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(cni.Main(call, engine{host}))
}

// An engine joins the protocol to the host and to the addresses.
type engine struct{ host *bridge.Host }

func warn(s string) { fmt.Fprintln(os.Stderr, "flatnet:", s) }

// records is the names' server where there is nothing to start.
func records() dns.Server { return dns.Server{Dir: dns.Dir, Warn: warn} }

func (e engine) allocator(c *cni.Config) (model.Allocator, error) {
	cfg := ipam.Config{
		Network: c.Network.Name,
		Dir:     c.IPAM.DataDir,
		Warn:    warn,
	}
	if cfg.Dir == "" {
		cfg.Dir = ipam.DefaultDir
	}
	if len(c.IPAM.Sets) > 0 { // DEL has none
		sets, err := rangeSets(c.IPAM.Sets)
		if err != nil {
			return nil, fmt.Errorf("ipam: %w", err)
		}
		cfg.Sets = sets
		for _, r := range sets.Ranges() {
			c.Network.Subnets = append(c.Network.Subnets, model.Subnet{Prefix: r.Subnet(), Gateway: r.Gateway()})
		}
	}
	if c.DNS {
		if err := dns.ValidNetwork(c.Network.Name); err != nil {
			return nil, fmt.Errorf("dnsEnabled: %w", err)
		}
		c.Network.ServesDNS = dns.Find(warn).Installed()
	}
	store := ipam.New(cfg, e.host.Owners)
	if c.IPAM.Type == "" {
		return store, nil
	}
	plugin := ipam.Plugin{Type: c.IPAM.Type, Path: c.Path, Conf: c.Raw, Decode: cni.ReadResult}
	return ipam.Delegate{Plugin: plugin, Store: store}, nil
}

func rangeSets(in [][]cni.Range) (ipam.Sets, error) {
	var sets [][]ipam.Range
	for _, set := range in {
		var out []ipam.Range
		for _, r := range set {
			valid, err := ipam.NewRange(r.Subnet, r.Start, r.End, r.Gateway)
			if err != nil {
				return ipam.Sets{}, err
			}
			out = append(out, valid)
		}
		sets = append(sets, out)
	}
	return ipam.NewSets(sets...)
}

func (e engine) Add(c *cni.Config) (model.Result, error) {
	alloc, err := e.allocator(c)
	if err != nil {
		return model.Result{}, err
	}
	if d, ok := alloc.(ipam.Delegate); ok {
		err = d.Plugin.Find()
	} else {
		err = resolvConf(c)
	}
	if err != nil {
		return model.Result{}, err
	}
	result, err := e.host.Add(c.Network, c.Request, alloc)
	if err == nil && len(c.Request.Ports) > 0 {
		for _, text := range listeners.Find(c.Request.Ports, result.IPs) {
			warn(text)
		}
	}
	if err == nil && c.DNS {
		if result.DNS, err = e.name(c, result); err != nil {
			err = errors.Join(fmt.Errorf("dnsEnabled: %w", err), e.Del(c))
		}
	}
	return result, err
}

// name makes the container known by its names, and returns the result's DNS
// settings with the servers that know them.
func (e engine) name(c *cni.Config, result model.Result) (model.DNS, error) {
	names := dns.Find(warn)
	if !names.Installed() {
		warn("dnsEnabled: aardvark-dns is not installed, so containers will not find each other by name")
	}
	r := dns.Record{Key: c.Request.Key, Names: c.Request.Names, Internal: c.Network.Internal}
	for _, ip := range result.IPs {
		r.Addresses = append(r.Addresses, ip.Address.Addr())
		if c.Network.IsGateway && ip.Gateway.IsValid() && !ip.Gateway.IsLinkLocalUnicast() && !slices.Contains(r.Listen, ip.Gateway) {
			r.Listen = append(r.Listen, ip.Gateway)
		}
	}
	servers, err := names.Add(r)
	if len(servers) > 0 {
		result.DNS.Nameservers = servers
		result.DNS.Search = append(result.DNS.Search, dns.SearchDomain)
	}
	return result.DNS, err
}

// resolvConf takes the DNS settings from the file that the configuration names,
// unless it has some itself.
func resolvConf(c *cni.Config) error {
	dns := c.Network.DNS
	if c.IPAM.ResolvConf == "" || len(dns.Nameservers)+len(dns.Search)+len(dns.Options) > 0 || dns.Domain != "" {
		return nil
	}
	data, err := readSmall(c.IPAM.ResolvConf)
	if err != nil {
		return fmt.Errorf("ipam.resolvConf: %w", err)
	}
	c.Network.DNS = cni.ParseResolvConf(data)
	return nil
}

// maxSmall is far above the length of any resolv.conf.
const maxSmall = 64 << 10

// readSmall reads a regular file. It waits for nobody, such as a FIFO's writer.
func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxSmall)
	}
	return data, err
}

func (e engine) Check(c *cni.Config, prev model.Result) error {
	alloc, err := e.allocator(c)
	if err != nil {
		return err
	}
	return e.host.Check(c.Network, c.Request, prev, alloc)
}

func (e engine) Del(c *cni.Config) error {
	alloc, err := e.allocator(c)
	if err != nil {
		return err
	}
	return errors.Join(records().Remove(c.Request.Key), e.host.Delete(c.Request.Key, alloc))
}

func (e engine) GC(c *cni.Config, valid []model.Key) error {
	alloc, err := e.allocator(c)
	if err != nil {
		return err
	}
	err = errors.Join(records().Keep(c.Network.Name, valid), e.host.GC(c.Network.Name, valid, alloc))
	if d, ok := alloc.(ipam.Delegate); ok {
		err = errors.Join(err, d.GC())
	}
	return err
}

func (e engine) Status(c *cni.Config) error {
	alloc, err := e.allocator(c)
	if err != nil {
		return err
	}
	if c.IPAM.Type == "" {
		if err := resolvConf(c); err != nil {
			return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
		}
	}
	return e.host.Status(c.Network, alloc)
}
