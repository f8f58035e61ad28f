// Package bridge has the verbs that apply, compare and remove attachments. Each is a
// short walk over the parts, which are packages of their own:
//
//	link       the bridge, the veth pair and the container's side of it
//	path       the MTU of the way to other hosts
//	conflict   what else has the network's addresses
//	vlan       VLANs of the bridge's ports
//	forward    the host as a router
//	peers      routes to other hosts' containers
//	firewall   the network's rules
//	ports      published ports
//	mirrored   WSL2's mirrored networking
//	antispoof  macspoofchk
//	shaping    bandwidth
//	foreign    other people's firewalls
//	upkeep     what CHECK and a reload look at and ADD does not
//
// This package decides about their order and the locks. What is removed last, with a
// network's last attachment, is decided by asking the links. Undo is DEL.
package bridge

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/host"
	"flatnet/bridge/link"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/path"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/bridge/shaping"
	"flatnet/rtnl"
)

// A Host is the machine on which attachments are made, checked and removed: the
// network namespace in which the process runs. Its verbs are safe against other
// processes that do the same.
type Host struct {
	warn func(string) // hears what is wrong and yet no error
	dry  bool
}

// NewHost returns the host, which warns on stderr.
func NewHost() *Host {
	return &Host{func(s string) { fmt.Fprintln(os.Stderr, "flatnet:", s) }, false}
}

// NewDryHost returns the host for questions: it takes and notes nothing, so only Status,
// Lacks, Owners and Survey may be called.
func NewDryHost(warn func(string)) *Host { return &Host{warn, true} }

// A call is what one verb works with.
type call struct {
	*host.Host
	records  records.Dir
	turn     records.Lock // see inTurn
	sparing  bool         // see Clear
	thorough bool         // look also for what package upkeep does
}

func (h *Host) open() (*call, error) {
	opened, err := host.Open(h.warn)
	if err != nil {
		return nil, err
	}
	return &call{Host: opened, records: records.Own(h.warn).Dry(h.dry)}, nil
}

// inTurn opens the host for a verb of one attachment, and waits until no other process
// has one of the same under way.
func (h *Host) inTurn(key model.Key) (c *call, done func(), err error) {
	if c, err = h.open(); err != nil {
		return nil, nil, err
	}
	if c.turn, err = c.records.Turn(key); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, func() { c.Close(); c.turn.Close() }, nil
}

// Owners lists what the host's links say of their owners: see [records.Dir.Owners].
func (h *Host) Owners() ([]model.Owner, error) {
	c, err := h.open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	links, err := c.Links()
	return c.records.Owners(links), err
}

// resolve returns the network with the MTU that its links get.
func resolve(h *host.Host, n *model.Network) (*model.Network, error) {
	resolved := *n
	var err error
	if n.MTU == 0 {
		resolved.MTU, err = link.InheritedMTU(h)
	}
	if err == nil {
		err = path.Fit(h, n, &resolved)
	}
	return &resolved, err
}

// removeEnds deletes host ends of key and what belongs to them.
func (c *call) removeEnds(key model.Key, ends []rtnl.Link) error {
	return errors.Join(shaping.Remove(c.Host, key), deleteLinks(c.Host, ends))
}

func deleteLinks(h *host.Host, links []rtnl.Link) (err error) {
	for _, l := range links {
		err = errors.Join(err, h.DeleteLink(l))
	}
	return err
}

// removeElements removes published ports and guards of attachments, and their records,
// so that no reload brings them back. Each of leaving has what is recorded of it, or
// nil.
func (c *call) removeElements(leaving map[model.Key]*model.Attachment) error {
	var heirs []*model.Attachment
	var errs []error
	has := false
	for key, a := range leaving {
		errs = append(errs, c.records.Drop(key))
		has = has || a == nil || len(a.Ports) > 0 || a.ByHand || a.SpoofCheck
		if a == nil || len(a.Ports) > 0 {
			others, _ := c.records.Attachments("*", key.ContainerID) // a reload reports what can't be read
			heirs = slices.AppendSeq(heirs, maps.Values(others))
		}
	}
	slices.SortFunc(heirs, model.ByRank)
	if err := errors.Join(errs...); err != nil || !has {
		return err
	}
	var gone []model.Publication
	_, err := c.Transact(func(tx *host.Tx) error {
		removed, err := ports.Remove(tx, leaving, heirs)
		if err != nil {
			return err
		}
		if len(removed) > 0 { // a further attempt finds nothing left
			gone = removed
		}
		for key, a := range leaving {
			if err := antispoof.Remove(tx, key, a); err != nil {
				return err
			}
		}
		return nil
	})
	ports.Forget(c.Host, gone, nil, nil)
	if errors.Is(err, model.ErrUnsupported) {
		return nil // and so there are none
	}
	return errors.Join(err, mirrored.Settle(c.Host))
}
