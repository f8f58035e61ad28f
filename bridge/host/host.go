// Package host is the machine as the parts of an attachment use it: the sockets that
// one verb has, what the host's links say of their owners, and transactions of
// nf_tables.
package host

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/nft"
	"flatnet/internal/sysctl"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Host is what one verb has opened of the machine whose network namespace the
// process runs in. It is not safe for concurrent use.
type Host struct {
	*rtnl.Conn
	Sysctl sysctl.Dir
	Warn   func(string) // hears what is wrong and yet no error
	Noted  *os.File     // has what need not be looked at again, see [Tx.Stands]; nil: look

	rules *nft.Conn
}

// Open opens the host. The caller closes it.
func Open(warn func(string)) (*Host, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	return &Host{Conn: c, Sysctl: sysctl.Proc, Warn: warn}, nil
}

// Close closes all sockets.
func (h *Host) Close() {
	if h.rules != nil {
		h.rules.Close()
	}
	h.Conn.Close()
}

// Say warns of an error that fails no verb.
func (h *Host) Say(err error) {
	if err != nil {
		h.Warn(err.Error())
	}
}

// Rules returns the socket to nf_tables, which is opened by the first call. A kernel
// without nf_tables is a [model.ErrUnsupported], at the first question at the latest.
func (h *Host) Rules() (*nft.Conn, error) {
	var err error
	if h.rules == nil {
		h.rules, err = nft.Dial()
	}
	return h.rules, kind(err)
}

// A Tx is a transaction of nf_tables: parts ask by its Conn and add to its Batch.
type Tx struct {
	*nft.Conn
	*nft.Batch
	NoBridge   bool  // the kernel has no bridge family, or no input interface in it
	NoFIB      bool  // the kernel has no CONFIG_NFT_FIB_*
	NoOptional bool  // rules that a network can do without are refused
	Lacks      error // why something is left out

	// Bridge, FIB and Optional are set by parts that add what the above would leave out.
	Bridge, FIB, Optional bool

	host *Host
	note *note                // nil: not read yet
	seen map[nft.Table]string // what stands when the transaction has succeeded

	absent []nft.Table // see [Host.Try]
}

// Transact commits what fill adds to a batch, unless that is nothing; see
// [nft.Conn.Transact] for how often fill is called. If the kernel lacks something,
// fill is called without what there are substitutes for, one by one, and then without
// what is optional. Which of it was left out is returned.
func (h *Host) Transact(fill func(*Tx) error) (without Tx, err error) {
	c, err := h.Rules()
	if err != nil {
		return Tx{}, err
	}
	var full Tx // the first attempt
	var lacks error
	for i := range 8 {
		tx := Tx{NoBridge: i&1 != 0, NoFIB: i&2 != 0, NoOptional: i&4 != 0}
		if tx.NoBridge && !full.Bridge || tx.NoFIB && !full.FIB || tx.NoOptional && !full.Optional {
			continue // it would be the same
		}
		tx.Conn, tx.Lacks, tx.host = c, lacks, h
		err := c.Transact(func(b *nft.Batch) error {
			tx.Batch, tx.seen = b, nil
			return fill(&tx)
		})
		if !errors.Is(err, nft.ErrUnsupported) {
			if err == nil && i == 0 {
				h.keep(&tx)
			}
			return tx, kind(err)
		}
		if i < 2 { // everything, and with the substitute for the bridge family
			lacks = both(lacks, kind(err))
		}
		if i == 0 {
			full = tx
		}
	}
	return Tx{}, lacks
}

// both returns an error that names what each of two attempts lacks.
func both(first, second error) error {
	if first == nil || first.Error() == second.Error() {
		return second
	}
	return fmt.Errorf("%w; and instead %w", first, second)
}

// Try finds out whether what fill adds could be committed, and leaves it undone: at
// its end the batch deletes what is not there. If that is refused, everything before
// it could be done.
//
// A kernel that could do a batch can do it again, unless the tables that it is to make are
// in the way: if none of the absent ones exists, a batch is tried once (see [Host.tried]).
func (h *Host) Try(fill func(*Tx) error, absent ...nft.Table) error {
	c, err := h.Rules()
	if err != nil {
		return err
	}
	tx := Tx{Conn: c, NoFIB: true, NoOptional: true, host: h, absent: absent}
	if err = tx.try(fill); errors.Is(err, nft.ErrUnsupported) && tx.Bridge {
		tx.NoBridge = true
		if without := tx.try(fill); without == nil || !errors.Is(without, nft.ErrUnsupported) {
			err = without
		} else {
			err = both(err, without)
		}
	}
	return kind(err)
}

func (tx *Tx) try(fill func(*Tx) error) error {
	tx.Batch = &nft.Batch{}
	if err := fill(tx); err != nil || tx.Len() == 0 {
		return err
	}
	tried, known := tx.host.tried(tx)
	if known {
		return nil
	}
	tx.Delete(nft.Chain{Table: nft.Table{Family: nft.IPv4, Name: "flatnet.none"}, Name: "none"})
	if err := tx.Commit(tx.Batch); !errors.Is(err, unix.ENOENT) {
		return err
	}
	tx.host.prove(tried)
	return nil
}

// kind gives errors of nf_tables the kinds that the doors tell apart.
func kind(err error) error {
	switch {
	case errors.Is(err, nft.ErrUnsupported):
		return model.Errorf(model.ErrUnsupported, "%w", err)
	case errors.Is(err, nft.ErrChanging):
		return model.Errorf(model.ErrBusy, "%w; try again", err)
	}
	return err
}

// Owners returns whom links belong to.
func Owners(links []rtnl.Link) (owners []model.Owner) {
	for _, l := range links {
		if l.Kind == "veth" && len(l.MAC) == len(model.HardwareAddr{}) {
			owners = append(owners, model.ParseOwner(l.Name, model.HardwareAddr(l.MAC), l.Alias))
		}
	}
	return owners
}

// Ends finds the host ends of key's veth pairs: normally one, under one of the names
// that it may have. Only if there is none, the host's other links are looked through,
// since somebody may have renamed it.
func (h *Host) Ends(key model.Key) ([]rtnl.Link, error) {
	found, err := h.NamedEnds(key)
	if err != nil || len(found) > 0 {
		return found, err
	}
	links, err := h.Links()
	return EndsAmong(links, key), err
}

// EndsAmong picks the host ends of key's veth pairs.
func EndsAmong(links []rtnl.Link, key model.Key) (found []rtnl.Link) {
	for _, l := range links {
		if l.Kind == "veth" && Owns(key, l) {
			found = append(found, l)
		}
	}
	return found
}

// NamedEnds is [Host.Ends] under the names that key's host end may have. A link of
// such a name that is another's is not listed.
func (h *Host) NamedEnds(key model.Key) (found []rtnl.Link, err error) {
	for _, name := range key.HostNames() {
		l, err := h.LinkByName(name)
		if err != nil {
			return nil, err
		}
		found = append(found, EndsAmong([]rtnl.Link{l}, key)...)
	}
	return found, nil
}

// Owns reports whether a link of the host is key's: it has the mark, and its alias, if
// it has one of ours, names no other owner, since marks are short.
func Owns(key model.Key, l rtnl.Link) bool {
	mark := key.Mark()
	if string(l.MAC) != string(mark[:]) {
		return false
	}
	o := model.ParseOwner(l.Name, mark, l.Alias)
	return o.Key == key || o.Key == model.Key{}
}

// Addrs returns the host's own addresses, each once.
func (h *Host) Addrs() (addrs []netip.Addr, err error) {
	all, err := h.Addresses(0)
	seen := map[netip.Addr]bool{}
	for _, a := range all {
		if addr := a.Prefix.Addr(); !seen[addr] {
			seen[addr] = true
			addrs = append(addrs, addr)
		}
	}
	return addrs, err
}

// Locals looks up addresses of the host. Those of an interface are known already, and
// some have no route: tentative ones, or those in a VRF.
func (h *Host) Locals(l rtnl.Link, known []rtnl.Addr) model.Locals {
	return func(a netip.Addr) (model.Local, error) {
		if slices.ContainsFunc(known, func(own rtnl.Addr) bool { return own.Prefix.Addr() == a }) {
			return model.Local{Prefix: netip.PrefixFrom(a, a.BitLen()), Link: l.Name}, nil
		}
		r, err := h.Local(a)
		if err != nil || !r.Dst.IsValid() {
			return model.Local{}, err
		}
		other, _ := h.LinkByIndex(r.Index) // it may have gone
		return model.Local{Prefix: r.Dst, Link: cmp.Or(other.Name, fmt.Sprintf("with index %d", r.Index))}, nil
	}
}

// Advertised lists the interfaces on which the host has a route or an address by
// router advertisements. (An address that is not permanent may be a DHCPv6 client's as
// well; there, too, the routes are a router's.)
func (h *Host) Advertised() (indexes []int, err error) {
	routes, err := h.Routes(unix.AF_INET6, 0)
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_RA && !slices.Contains(indexes, r.Index) {
			indexes = append(indexes, r.Index)
		}
	}
	addrs, aerr := h.Addresses(0)
	for _, a := range addrs {
		temporary := a.Prefix.Addr().Is6() && a.Flags&unix.IFA_F_PERMANENT == 0
		if temporary && !slices.Contains(indexes, a.Index) {
			indexes = append(indexes, a.Index)
		}
	}
	return indexes, errors.Join(err, aerr)
}

// Lacking returns an error that is EOPNOTSUPP as a [model.ErrUnsupported] which names the
// CONFIG_ option of what the kernel lacks, and others as they are.
func Lacking(config string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w (%w)", model.Unsupported(config), err)
	}
	return err
}

// UnlessExists returns nil for EEXIST, and other errors as they are.
func UnlessExists(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// IfPossible is the error about a sysctl that an attachment can do without, unless
// there is none (no IPv6, or an MTU too small for it), or /proc/sys is read-only, as
// inside of other containers.
func IfPossible(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// Table returns a network's own table: "flatnet" for the network of that name. It is
// made with the network's first attachment and deleted with its last, so no rule of
// one network can be lost to another's removal.
func Table(family nft.Family, network string) nft.Table {
	if network == "flatnet" {
		return nft.Table{Family: family, Name: network}
	}
	return nft.Table{Family: family, Name: "flatnet-" + network}
}

// ChainFaults returns the faults of chains that are not as they should be.
func ChainFaults(chains []nft.Ruleset) (faults []model.Fault) {
	for _, r := range chains {
		faults = append(faults, model.Fault{Thing: "the " + r.String(), State: "not as it should be", Table: r.Table.String()})
	}
	return faults
}

// Bridged reports whether what bridges merely forward enters the hooks of a family
// (br_netfilter), as if it came from the bridge and left by it.
func (h *Host) Bridged(family nft.Family) bool {
	if family == nft.Inet {
		return h.Bridged(nft.IPv4) || h.Bridged(nft.IPv6)
	}
	v, err := h.Sysctl.Get("net/bridge/bridge-nf-call-" + family.String() + "tables")
	return err == nil && v != "0"
}

// Bridges matches packets that come from, or leave by, the bridges of flatnet networks, or
// other interfaces.
func Bridges(key nft.MetaKey, op nft.CmpOp) []nft.Expr {
	return nft.CompareBits(nft.Meta(key, nft.Reg1), nft.HostOrder(model.GroupMask),
		op, nft.HostOrder(model.GroupIsolated&model.GroupMask))
}
