// Package remains lists what a host has of attachments and networks besides their links, so
// that leftovers can be separated from what is in use. It changes none of it.
package remains

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/peers"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/internal/nft"
	"flatnet/rtnl"
)

// A Host is what was found. Links were listed last: an ADD makes its link first, so whatever
// has no link has lost its owner.
type Host struct {
	Networks map[string]*model.Shared        // by their records
	Recorded map[model.Key]*model.Attachment // by theirs
	Since    map[model.Key]time.Time         // when each was recorded
	Others   map[model.Key]string            // recorded in other network namespaces: there
	Gone     map[model.Key]bool              // were recorded here, and removed without a DEL
	Ports    []model.Key                     // that have published ports
	Guarded  []model.Key                     // that macspoofchk checks
	Tables   map[string][]string             // of a network, as nft names them
	Owners   []model.Owner                   // of links
	Limits   map[model.HardwareAddr]string   // devices of limits (package shaping), by mark
	Idle     map[string]string               // networks and the bridges made for them that have no ports
	Routes   []peers.Stray                   // to peers of nobody
	links    *host.Index
	records  records.Dir
	named    map[string]bool // networks that aliases of links name
	warn     func(string)
}

// Look lists all of it. The error reports what can't be read, and the rest is returned all the
// same, unless links can't be listed.
func Look(warn func(string)) (*Host, error) {
	opened, err := host.Open(warn)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	dir := records.Own(warn)
	h := &Host{Networks: map[string]*model.Shared{}, Tables: map[string][]string{}, Limits: map[model.HardwareAddr]string{},
		Idle: map[string]string{}, named: map[string]bool{}, records: dir, warn: warn}
	networks, nerr := dir.Networks()
	for _, s := range networks {
		h.Networks[s.Name] = s
	}
	var aerr error
	h.Recorded, aerr = dir.Attachments("*", "*")
	h.Since, h.Others, h.Gone = dir.Since(), dir.Others(), dir.Traces()
	var rerr error
	h.Routes, rerr = peers.Strays(opened, dir)
	err = errors.Join(nerr, aerr, rerr, h.lookAtRules(opened))
	if lerr := h.lookAtLinks(opened); lerr != nil { // all would seem to have lost theirs
		return nil, errors.Join(err, lerr)
	}
	return h, err
}

// Lockable returns an error if verbs can't take turns: without these, a removal could collide
// with an ADD.
func Lockable(warn func(string)) error {
	f := records.Own(warn).Memory()
	if f == nil {
		return errors.New("the locks of /run/flatnet can't be taken, so nothing can be removed safely")
	}
	return f.Close()
}

// Lost lists the attachments that have a link and no record: see [records.Dir.Unrecorded].
func (h *Host) Lost() ([]model.Owner, error) {
	opened, err := host.Open(h.warn)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	return h.records.Unrecorded(opened)
}

// Lost is what to say of an attachment without a record.
func Lost(o model.Owner) string { return records.Lost(o).Error() }

// CollectRoutes deletes the stray routes that may be. An ADD that needs one of them meanwhile
// keeps it.
func CollectRoutes(warn func(string)) error {
	opened, err := host.Open(warn)
	if err != nil {
		return err
	}
	defer opened.Close()
	return peers.Collect(opened, records.Own(warn))
}

// lookAtRules lists tables of networks, and the owners of elements. A kernel without
// nf_tables has none.
func (h *Host) lookAtRules(opened *host.Host) error {
	rules, err := opened.Rules()
	if err == nil {
		h.Ports, err = ports.Owners(rules)
	}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Bridge, nft.Netdev} {
		if err != nil {
			break
		}
		chains, cerr := rules.Chains(family)
		if !errors.Is(cerr, nft.ErrUnsupported) {
			err = cerr
		}
		for _, ch := range chains {
			h.addTable(ch.Table)
		}
	}
	for network := range h.Tables {
		if err == nil {
			var guarded []model.Key
			guarded, err = antispoof.Owners(rules, network)
			h.Guarded = append(h.Guarded, guarded...)
		}
	}
	if errors.Is(err, model.ErrUnsupported) || errors.Is(err, nft.ErrUnsupported) {
		return nil
	}
	return err
}

// addTable adds a table, if it is a network's: see [host.Table].
func (h *Host) addTable(t nft.Table) {
	network, own := strings.CutPrefix(t.Name, "flatnet-")
	if t.Name == "flatnet" {
		network, own = t.Name, true
	}
	text := t.String()
	if own && model.ValidName(network) == nil && t == host.Table(t.Family, network) && !slices.Contains(h.Tables[network], text) {
		h.Tables[network] = append(h.Tables[network], text)
	}
}

// lookAtLinks lists the owners of links, the devices of limits, and bridges without ports.
func (h *Host) lookAtLinks(opened *host.Host) error {
	links, err := opened.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	h.Owners = host.Owners(links)
	h.links = host.NewIndex(links)
	used := map[int]bool{}
	for _, l := range links {
		used[l.Master] = true
		if key, _, ok := model.CutAlias(l.Alias); ok && l.Kind == "veth" {
			h.named[key.Network] = true
		}
	}
	for _, l := range links {
		network, made := model.MadeFor(l.Alias)
		switch {
		case l.Kind == "bridge" && made && !used[l.Index]:
			h.Idle[network] = l.Name
		case l.Kind == "ifb" && len(l.MAC) == len(model.HardwareAddr{}) && strings.HasPrefix(l.Name, "fb-"):
			h.Limits[model.HardwareAddr(l.MAC)] = l.Name
		}
	}
	return nil
}

// Linked reports whether an attachment has a link on the host, or maybe has one.
func (h *Host) Linked(key model.Key) bool {
	_, has := h.Find(key)
	return has != 0
}

// Find returns the link that has the most signs of an attachment: see [host.Index.Find].
func (h *Host) Find(key model.Key) (rtnl.Link, host.Signs) {
	if a := h.Recorded[key]; a != nil {
		return h.links.Find(key, a.HostEnd)
	}
	return h.links.Find(key)
}

// Forget removes the notes about attachments of Gone.
func (h *Host) Forget(keys []model.Key) {
	for _, key := range keys {
		h.records.DropTrace(key)
	}
}

// Busy reports whether a verb of the attachment is under way, or may be.
func (h *Host) Busy(key model.Key) bool { return h.records.Busy(key) }

// Used reports whether a network has attachments: links that name it or, since an ADD sets the
// alias last, have another sign of one of its keys.
func (h *Host) Used(network string, keys []model.Key) bool {
	return h.named[network] || slices.ContainsFunc(keys, h.Linked)
}
