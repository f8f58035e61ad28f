package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/conflict"
	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/forward"
	"flatnet/bridge/host"
	"flatnet/bridge/link"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/bridge/shaping"
	"flatnet/bridge/share"
	"flatnet/rtnl"
)

// An adding is an ADD under way.
type adding struct {
	*call
	n      *model.Network // with the resolved MTU
	r      *model.Request
	alloc  model.Allocator
	inside *link.Sandbox

	arrival records.Lock // until the link has its alias
	before  rtnl.Link    // the bridge as it was at first
	after   rtnl.Link    // and when the link could be found
	lease   model.Lease
	leased  bool
	made    bool // something that has to be undone

	a      *model.Attachment
	shared share.Change // to what the network's attachments share
	br     link.Bridge
	end    rtnl.Link
}

// Add makes an attachment and returns its result, which last may complete. If that or anything
// else fails, it leaves nothing of its own: only the bridge, which is shared, stays, and what the
// network's other attachments share is as it was.
func (h *Host) Add(n *model.Network, r *model.Request, alloc model.Allocator, last func(*model.Result) error) (res model.Result, err error) {
	if err := n.CheckRequest(r); err != nil { // before a turn is taken, which makes a file
		return model.Result{}, err
	}
	inside, err := link.Enter(r.NetNS)
	if err != nil {
		return model.Result{}, err
	}
	defer inside.Close()
	c, done, err := h.inTurn(r.Key)
	if err != nil {
		return model.Result{}, err
	}
	defer done()
	c.Noted = c.turn
	ad := &adding{call: c, n: n, r: r, alloc: alloc, inside: inside}
	defer func() { ad.arrival.Close(); ad.lease.Flight.Close() }()
	if err := ad.check(); err != nil {
		return model.Result{}, err
	}
	steps := []func() error{ad.takeLease, ad.makeBridge, ad.makePair, ad.configure, ad.putRules, ad.connect}
	if n.LinkFirst || n.NoAddress { // another plugin may ask for the addresses through the link
		steps = []func() error{ad.withoutLease, ad.makeBridge, ad.makePair, ad.configure, ad.putRules, ad.connect}
	}
	if n.LinkFirst && !n.NoAddress {
		steps = append(steps, ad.takeLease, ad.makeBridge, ad.configure, ad.putRules, ad.connect, ad.announce)
	}
	finish := func() error {
		res = link.Result(ad.a, ad.br, ad.end, r.NetNS)
		if res.DNS = n.DNS; res.DNS.Empty() {
			res.DNS = ad.lease.DNS
		}
		return last(&res)
	}
	for _, step := range append(steps, ad.checkShared, finish) {
		if err := step(); err != nil {
			return model.Result{}, errors.Join(ad.cause(err), ad.undo(h), inside.Withdraw())
		}
	}
	return res, nil
}

// check finds out what is in the way before anything is made.
func (ad *adding) check() (err error) {
	if err := ad.inside.CheckVacant(ad.r.Key.IfName); err != nil {
		return err
	}
	wanted := ad.n
	ad.arrival, err = ad.records.Begin(wanted, func() (first bool, err error) {
		ad.br, ad.n, err = Look(ad.Host, wanted, ad.r, ad.records.Attachment)
		return ad.n.First, err
	})
	ad.before = ad.br.Link
	return err
}

// Look finds a network's bridge and what on the host is in the way of an attachment, and
// resolves the network's MTU. It changes nothing.
func Look(h *host.Host, n *model.Network, r *model.Request, recorded conflict.Recorded) (br link.Bridge, resolved *model.Network, err error) {
	if br, err = link.FindBridge(h, n); err != nil {
		return br, n, err
	}
	former, first, err := conflict.Former(h, n, recorded)
	err = errors.Join(err, conflict.Overlap(h, br.Gateway, n, br.Fresh(n)), conflict.Shared(h, br.Link, n, n.Prefixes()))
	if err != nil {
		return br, n, err
	}
	if n, err = resolve(h, n); err == nil {
		n.Former, n.First = former, first
		err = shaping.Check(r.Bandwidth, n.MTU)
	}
	return br, n, err
}

// takeLease leases addresses and plans the attachment with them.
func (ad *adding) takeLease() (err error) {
	ad.leased = ad.made // a plugin that failed may have leased something
	ad.lease, err = ad.alloc.Lease(ad.r.Key, ad.r.IPs, ad.Locals(ad.br.Gateway, ad.br.Addrs))
	if err != nil {
		return err
	}
	ad.leased, ad.made = true, true
	if ad.end.Index == 0 {
		find := ad.NamedEnds
		if ad.r.HostEnd != "" {
			find = ad.Ends
		}
		err = ad.removeEarlier(ad.lease.Had, find)
	}
	if err == nil {
		ad.a, err = model.Plan(ad.n, ad.r, &ad.lease)
	}
	return err
}

// withoutLease plans the attachment before addresses are leased. A link of an earlier
// namespace that was renamed must be found now, for DEL looks no further when it has
// found the new one. But to list all links takes long on a host with thousands, and a
// key without a lease has none, unless its network gives no addresses.
func (ad *adding) withoutLease() (err error) {
	find := ad.Ends
	if leases, err := ad.alloc.Keys(); err == nil && !ad.n.NoAddress && !slices.Contains(leases, ad.r.Key) {
		find = ad.NamedEnds
	}
	if err = ad.removeEarlier(false, find); err == nil {
		ad.a, err = model.Plan(ad.n, ad.r, &ad.lease)
	}
	return err
}

// removeEarlier removes links of an earlier namespace of this container, for which no
// DEL was sent, as find finds them. There may be one without a lease, and with a lease
// there may be rules without a link.
func (ad *adding) removeEarlier(held bool, find func(model.Key) ([]rtnl.Link, error)) error {
	ends, err := find(ad.r.Key)
	if err != nil || len(ends) == 0 && !held {
		return err
	}
	all, err := ad.detach([]model.Key{ad.r.Key}, ad.Ends)
	if err == nil {
		err = ad.removeEnds(ad.r.Key, all[ad.r.Key])
	}
	return err
}

// makeBridge makes the bridge, or what it lacks, and the host a router.
func (ad *adding) makeBridge() error {
	ad.made = true
	s := &ad.a.Shared
	if ad.br.Index == 0 {
		lock, err := ad.records.Bridge(s.Bridge)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	br, added, err := link.Ensure(ad.Host, ad.br, s)
	if err != nil {
		return err
	}
	ad.br = br
	if err := forward.Put(ad.Host, s, br.Gateway.Index, ad.records); err != nil {
		return err
	}
	if added { // said once, not with every ADD
		ad.Say(forward.CheckUplink(ad.Host, s))
	}
	if s.BridgeMAC = model.HardwareAddr(br.MAC); len(ad.a.Addresses) > 0 || s.NoAddress { // more is known when there are
		return ad.shared.Put(ad.Host, ad.records, s)
	}
	return nil
}

func (ad *adding) makePair() (err error) {
	if ad.end, err = link.MakePair(ad.Host, ad.inside, ad.a); err != nil {
		return err
	}
	return shaping.Put(ad.Host, ad.a, ad.end.Index)
}

// configure sets up the container's end before the host end is raised, which finds
// everything in place.
func (ad *adding) configure() error {
	err := ad.inside.Configure(ad.a, ad.end.Peer)
	if errors.Is(err, model.ErrTaken) { // a neighbour has the address, so the next ADD better gets another
		ad.lease.Again = false
	}
	ad.a.SetRank()
	return err
}

// putRules makes what the attachment needs in nf_tables: one transaction.
func (ad *adding) putRules() error {
	a := ad.a
	a.HostEnd, a.MTU = ad.end.Name, ad.end.MTU // both as they are
	if a.SpoofCheck {
		if err := antispoof.Settle(ad.Host, a.HostEnd); err != nil {
			return err
		}
	}
	ad.records.Save(a) // and so its DEL need not look for rules that it does not have
	var addrs []netip.Addr
	if len(a.Ports) > 0 {
		var err error
		if addrs, err = ad.Addrs(); err != nil {
			return err
		}
	}
	asked := false
	var replaced []model.Publication
	without, err := ad.Transact(func(tx *host.Tx) error {
		if err := firewall.PutUnseen(tx, ad.Host, &a.Shared, ad.shared.Record); err != nil {
			return err
		}
		if tx.Len() > 0 && !asked { // accept rules come first: a later ADD finds the network's own only with them
			asked = true
			foreign.Accept(ad.Host, &a.Shared)
		}
		taken, err := ports.Put(tx, a, addrs, ad.replaceable)
		if err != nil {
			return err
		}
		if len(taken) > 0 { // a further attempt finds nothing left
			replaced = taken
		}
		return antispoof.Put(tx, []*model.Attachment{a}, nil)
	})
	switch {
	case errors.Is(err, model.ErrUnsupported) && !firewall.Required(&a.Shared) && !a.SpoofCheck && len(a.Ports) == 0:
		ad.Say(fmt.Errorf("network %s is not isolated from others: %w", a.Name, err))
	case err != nil:
		return err
	case without.NoOptional:
		ad.Say(fmt.Errorf("network %s is not isolated from others in IPv6: %w", a.Name, without.Lacks))
	}
	ad.Say(ports.CheckIsolated(ad.Host, a))
	ports.Forget(ad.Host, replaced, a.Ports, addrs)
	if err := ports.OpenLoopback(ad.Host, a); err != nil { // harmless only once the network's rules stand
		return err
	}
	return mirrored.Put(ad.Host, a)
}

// replaceable reports whether an owner's ports may be taken over: it has gone, or it is
// the same container's and the default route leads to this network, for that is the way
// that answers to clients take.
func (ad *adding) replaceable(owner string) (bool, error) {
	if key, _ := model.ParseKey(owner); ad.r.Key.SharesContainer(owner) {
		if a := ad.records.Attachment(key); a != nil && a.Rank > ad.a.Rank {
			return true, nil
		}
	}
	return ad.records.Gone(ad.Host)(owner)
}

// connect makes the host end a port of the bridge and raises it, if the container has
// not taken the pair away.
func (ad *adding) connect() (err error) {
	if err := link.CheckPair(ad.Host, ad.inside, ad.a, ad.end); err != nil {
		return err
	}
	ad.end.Alias = ad.a.Owner().Alias()
	ad.after, err = link.Connect(ad.Host, ad.br, ad.a, ad.end, ports.NeedsHairpin(ad.Host, ad.a))
	return err
}

func (ad *adding) announce() error { return ad.inside.Announce(ad.a, ad.end.Peer) }

// checkShared looks once more for another network on the bridge whose addresses are in
// the way: see [conflict.NeedsRecheck].
func (ad *adding) checkShared() error {
	if !conflict.NeedsRecheck(ad.before, ad.after, ad.n) {
		return nil
	}
	lock, err := ad.records.Bridge(ad.n.Bridge)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := conflict.SharedAgain(ad.Host, ad.br.Link, ad.a); err != nil {
		ends, ferr := ad.Ends(ad.a.Key)
		ad.end = rtnl.Link{} // see cause
		return errors.Join(err, ferr, ad.removeEnds(ad.a.Key, ends))
	}
	return nil
}

// cause returns why a step failed: err, unless the container has taken the interface away.
func (ad *adding) cause(err error) error {
	if ad.end.Index != 0 && ad.a != nil {
		if taken := link.CheckPair(ad.Host, ad.inside, ad.a, ad.end); errors.Is(taken, model.ErrChanged) {
			return taken
		}
	}
	return err
}

// undo removes what a failed ADD made: any link of key's, for there was none
// before, and its lease, unless it held that from before. Its sockets are new
// ones, since the others may be what failed.
func (ad *adding) undo(h *Host) error {
	if !ad.made {
		return nil
	}
	ad.arrival.Close()
	c, err := h.open()
	if err != nil {
		return err
	}
	defer c.Close()
	giveBack := ad.alloc.Keys
	if ad.leased && !ad.lease.Had {
		giveBack = func() ([]model.Key, error) {
			return ad.alloc.Release([]model.Key{ad.r.Key}, ad.lease.Again)
		}
	}
	return errors.Join(c.remove(ad.r.Key, giveBack, false), ad.shared.Undo(c.Host, c.records, ad.r.Key))
}
