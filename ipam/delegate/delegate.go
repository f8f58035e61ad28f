// Package delegate leases addresses by another IPAM plugin (SPEC 1.1.0, section 4).
package delegate

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
	"flatnet/internal/subprocess"
	"flatnet/ipam"
)

// An Allocator is the [model.Allocator] over another IPAM plugin. The addresses
// that it gives are recorded in a lease file as well, so that everything which
// depends on who is attached, such as GC and the network's last DEL, is as it is
// with flatnet's own leases, whatever the plugin reports.
type Allocator struct {
	Plugin Plugin
	Store  *ipam.Store // without ranges
}

var _ model.Allocator = Allocator{}

// Lease asks the plugin for key's addresses. A key that has a lease got no DEL,
// but its link is gone: that lease is given back first, since plugins refuse
// to give a second one. After an error the caller must Release (SPEC 1.1.0,
// section 4).
func (d Allocator) Lease(key model.Key, want []netip.Addr, locals model.Locals) (got model.Lease, err error) {
	keys, err := d.Store.Keys()
	if got.Had = slices.Contains(keys, key); got.Had {
		_, err = d.Release([]model.Key{key}, false)
	}
	if err != nil {
		return got, err
	}
	out, err := d.Plugin.run("ADD", key)
	if err != nil {
		return got, err
	}
	res, err := d.Plugin.Decode(out)
	if err != nil {
		return got, d.Plugin.errorf(err, "result of ADD: %w", err)
	}
	got.Routes, got.DNS = res.Routes, res.DNS
	var addrs []netip.Addr
	for _, ip := range res.IPs {
		a := ip.Address.Addr()
		if slices.Contains(addrs, a) {
			return got, d.Plugin.errorf(model.ErrInvalid, "result of ADD has %s twice", a)
		}
		addrs = append(addrs, a)
		got.Addresses = append(got.Addresses, model.Address{Prefix: ip.Address, Gateway: ip.Gateway})
	}
	if len(addrs) == 0 {
		return got, d.Plugin.errorf(model.ErrInvalid, "result of ADD has no address")
	}
	for _, a := range want {
		if !slices.Contains(addrs, a) {
			return got, d.Plugin.errorf(model.ErrInvalid, "gave %v, and not the wanted address %s", addrs, a)
		}
	}
	return got, d.Store.Record(key, addrs, locals)
}

// Release has the plugin take the keys' addresses back, which is no error if it
// has leased none. Those for which it fails keep their records. Whether they get the same
// addresses again is up to the plugin.
func (d Allocator) Release(keys []model.Key, _ bool) (left []model.Key, err error) {
	var released []model.Key
	for _, key := range keys {
		if _, failed := d.Plugin.run("DEL", key); failed != nil {
			err = errors.Join(err, fmt.Errorf("release %s: %w", key, failed))
			continue
		}
		released = append(released, key)
	}
	left, serr := d.Store.Release(released, false)
	return left, errors.Join(err, serr)
}

// Keys lists the keys that have leases.
func (d Allocator) Keys() ([]model.Key, error) { return d.Store.Keys() }

// Free passes STATUS on.
func (d Allocator) Free(model.Locals) error {
	_, err := d.Plugin.run("STATUS", model.Key{})
	return err
}

// Check passes CHECK on, and compares the record.
func (d Allocator) Check(key model.Key, addrs []netip.Addr) error {
	_, err := d.Plugin.run("CHECK", key)
	return errors.Join(err, d.Store.Check(key, addrs))
}

// GC passes GC on, for leases that only the plugin has.
func (d Allocator) GC() error {
	_, err := d.Plugin.run("GC", model.Key{})
	return err
}

const (
	// pluginWait bounds a call of a plugin: a DHCP server may take its time.
	pluginWait = 45 * time.Second
	// maxReply bounds what a plugin may write to stdout, in bytes.
	maxReply = 1 << 20
)

// A Plugin is another plugin that manages addresses (SPEC 1.1.0, section 4).
type Plugin struct {
	Type   string                             // ipam.type: the name of its file
	Path   string                             // CNI_PATH
	Conf   []byte                             // the whole configuration, as it came
	Decode func([]byte) (model.Result, error) // reads a result of any version
}

// run executes the plugin with the environment and the configuration that this
// process received; the zero key stands for the network as a whole. An error that
// the plugin reports is a [model.Coded].
func (p Plugin) run(command string, key model.Key) ([]byte, error) {
	path, err := p.Find()
	if err != nil {
		return nil, err
	}
	env := []string{"CNI_COMMAND=" + command}
	if key != (model.Key{}) { // GC sends DEL for others than the runtime named
		env = append(env, "CNI_CONTAINERID="+key.ContainerID, "CNI_IFNAME="+key.IfName)
	}
	out, err := subprocess.Command{
		Args: []string{path}, Env: env, Input: p.Conf,
		Output: 1, Limit: maxReply, Timeout: pluginWait,
	}.Run()
	switch {
	case len(out) > maxReply:
		return nil, fmt.Errorf("ipam.type %q: %s wrote more than %d bytes to stdout", p.Type, command, maxReply)
	case err == nil:
		return out, nil
	case errors.Is(err, subprocess.ErrTimeout):
		return nil, p.errorf(model.ErrBusy, "%s took longer than %v", command, pluginWait)
	}
	return nil, p.failure(command, out, err)
}

// Find returns the plugin's path, found in CNI_PATH, or a [model.ErrInvalid].
func (p Plugin) Find() (string, error) {
	for _, dir := range filepath.SplitList(p.Path) {
		path := filepath.Join(dir, p.Type)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", p.errorf(model.ErrInvalid, "no such plugin in CNI_PATH %q; install it there, or leave ipam.type out for flatnet's own", p.Path)
}

// failure returns the error that a plugin reported (SPEC 1.1.0, section 5,
// "Error"), or one about a plugin that reported none.
func (p Plugin) failure(command string, out []byte, err error) error {
	if o, perr := strictjson.Parse(out); perr == nil {
		code, _ := o.Uint("code", math.MaxUint64)
		msg, _ := o.String("msg")
		if details, _ := o.String("details"); details != "" {
			msg += ": " + details
		}
		if code != 0 {
			return model.WithCode(code, fmt.Errorf("plugin %s: %s: %s", p.Type, command, msg))
		}
	}
	return p.errorf(err, "%s failed without a CNI error (%.100q): %w", command, out, err)
}

// errorf returns an error about the plugin that is also of a kind.
func (p Plugin) errorf(kind error, format string, args ...any) error {
	return model.Errorf(kind, "ipam.type %q: %w", p.Type, fmt.Errorf(format, args...))
}
