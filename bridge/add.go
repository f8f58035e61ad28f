package bridge

import (
	"errors"
	"fmt"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Add makes an attachment and says what it came to be. If it fails, it leaves
// nothing of its own: only the bridge, which is shared, stays.
func (h *Host) Add(n Network, r Request, alloc Allocator) (res Result, err error) {
	if err := n.checkRequest(r); err != nil { // before a turn is taken, which makes a file
		return Result{}, err
	}
	inside, err := h.enter(r.NetNS)
	if err != nil {
		return Result{}, err
	}
	defer inside.leave()
	if err := n.checkRequest(r); err != nil { // before there is even a file of locks
		return Result{}, err
	}
	c, err := h.route()
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	err = h.records.inTurn(r.Key, func() (err error) {
		res, err = h.attach(c, inside, n, r, alloc)
		return err
	})
	return res, err
}

// attach is Add with its sockets open: c on the host, inside in the container.
func (h *Host) attach(c *rtnl.Conn, inside sandbox, n Network, r Request, alloc Allocator) (Result, error) {
	if err := checkVacant(inside, r.Key.IfName); err != nil {
		return Result{}, err
	}
	var err error
	if inside.arrival, err = h.arrive(n); err != nil {
		return Result{}, err
	}
	defer inside.arrival.end()
	br, err := findBridge(c, n.Bridge, n.VLANs)
	if err != nil {
		return Result{}, err
	}
	if err := errors.Join(checkOverlap(c, br, n, n.fresh(br)), checkShared(c, br, n, n.prefixes())); err != nil {
		return Result{}, err
	}
	if n.MTU == 0 {
		if n.MTU, err = inheritedMTU(c); err != nil {
			return Result{}, err
		}
	}
	if err := r.Bandwidth.check(n.MTU); err != nil {
		return Result{}, err
	}

	if n.LinkFirst || n.NoAddress {
		return h.attachFirst(c, inside, br, n, r, alloc)
	}
	lease, held, err := alloc.Lease(r.Key, r.IPs, locals(c, br))
	if err != nil {
		return Result{}, err
	}
	defer lease.end()
	var a Attachment
	if err = h.makeRoom(c, r.Key, held, namedEnds); err == nil {
		a, err = Plan(n, r, lease)
	}
	if err == nil {
		var res Result
		res, err = h.apply(c, inside, br, a, rtnl.Link{})
		if err == nil {
			err = h.checkSharedAgain(c, br, n, r.Key, res)
		}
		if err == nil {
			res.DNS = n.DNS
			return res, nil
		}
	}
	inside.arrival.end()
	return Result{}, errors.Join(err, h.undo(r.Key, alloc, held))
}

// makeRoom removes links of an earlier namespace of this container, for which no DEL
// was sent, as find finds them. There may be one without a lease, and with a lease
// there may be rules without a link.
func (h *Host) makeRoom(c *rtnl.Conn, key Key, held bool, find func(*rtnl.Conn, Key) ([]rtnl.Link, error)) error {
	if !held {
		links, err := find(c, key)
		if err != nil || len(links) == 0 {
			return err
		}
	}
	return errors.Join(h.unpublished(key), removeLinks(c, key, hostEnds))
}

// undo removes what a failed ADD made: any link of key's, for there was none
// before, and its lease, unless it held that from before. Its socket is a new
// one, since the other may be what failed.
func (h *Host) undo(key Key, alloc Allocator, held bool) error {
	if !held {
		return h.remove(key, alloc, false)
	}
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	return errors.Join(h.unpublished(key), removeLinks(c, key, hostEnds))
}

// checkVacant makes sure that the container has no interface of that name.
func checkVacant(inside sandbox, name string) error {
	switch l, err := inside.LinkByName(name); {
	case err == nil:
		return fmt.Errorf("interface %s exists already in the container (a %s, index %d): %w",
			name, orText(l.Kind, "device"), l.Index, ErrTaken)
	case !errors.Is(err, unix.ENODEV):
		return fmt.Errorf("find %s in the container: %w", name, err)
	}
	return nil
}

// apply makes an attachment in the kernel. host is its host end if the pair is made
// already, and zero if not.
func (h *Host) apply(c *rtnl.Conn, inside sandbox, br bridgeState, a Attachment, host rtnl.Link) (Result, error) {
	br, err := h.ensureBridge(c, br, a)
	if err != nil {
		return Result{}, err
	}
	if err := h.forward(c, a); err != nil {
		return Result{}, err
	}
	h.records.saveNetwork(a, br)
	published, err := h.publish(c, a)
	if err != nil {
		return Result{}, err
	}
	defer published() // once the link says whose the ports are
	fresh := host.Index == 0
	if fresh {
		if host, err = makePair(c, inside, a); err != nil {
			return Result{}, err
		}
	}
	if err := h.finish(c, inside, br, a, host, fresh); err != nil {
		return Result{}, because(err, c, inside, a, host)
	}
	return a.result(br, host, inside.netns.Path()), nil
}

// finish makes of a pair an attachment. The container's end comes first, so that the
// host end, raised last, finds everything in place.
func (h *Host) finish(c *rtnl.Conn, inside sandbox, br bridgeState, a Attachment, host rtnl.Link, fresh bool) error {
	if err := h.configure(inside, host.Peer, a); err != nil {
		return err
	}
	if fresh {
		if a.Bandwidth != (Bandwidth{}) {
			h.records.saveWish(a.wish())
		}
		if err := limit(c, a, host.Index); err != nil {
			return err
		}
	}
	if err := errors.Join(h.firewall(a.Firewall), h.guard(a, host.Name)); err != nil {
		return err
	}
	if err := h.openLoopback(a); err != nil {
		return err
	}
	if err := checkPair(c, inside, a, host); err != nil {
		return err
	}
	host.Alias = a.owner().alias()
	return h.connect(c, br, a, host)
}

// connect makes the host end a port of the bridge, raises it and gives it host's
// alias.
func (h *Host) connect(c *rtnl.Conn, br bridgeState, a Attachment, host rtnl.Link) error {
	if a.VLANs.any() {
		if err := a.VLANs.attach(c, host.Index, br); err != nil {
			return fmt.Errorf("attach %s to bridge %s: %w", host.Name, a.Bridge, portError(a.Bridge, err))
		}
	}
	change := rtnl.LinkChange{Index: host.Index, Up: true, Master: br.Index, Alias: host.Alias}
	if err := c.SetLink(change); err != nil {
		return fmt.Errorf("attach %s to bridge %s: %w", host.Name, a.Bridge, portError(a.Bridge, err))
	}
	if a.HairpinMode || h.needsHairpin(a) {
		if err := c.SetHairpin(host.Index); err != nil {
			return fmt.Errorf("hairpin mode of %s: %w", host.Name, err)
		}
	}
	if a.PortIsolated {
		if err := c.IsolatePort(host.Index); err != nil {
			return fmt.Errorf("isolate port %s: %w", host.Name, err)
		}
	}
	return nil
}

// result reports the attachment in a namespace.
func (a Attachment) result(br bridgeState, host rtnl.Link, netns string) Result {
	res := Result{Interfaces: []Interface{
		{Name: a.Bridge, MAC: br.MAC.String(), MTU: br.MTU},
		{Name: host.Name, MAC: a.Key.Mark().String(), MTU: host.MTU},
		{Name: a.Key.IfName, MAC: a.MAC.String(), MTU: host.MTU, Sandbox: netns},
	}, Routes: a.Routes}
	if br.gateway.Index != br.Index && len(a.Gateways) > 0 {
		gw := br.gateway
		res.Interfaces = append(res.Interfaces, Interface{Name: gw.Name, MAC: gw.MAC.String(), MTU: gw.MTU})
	}
	for _, addr := range a.Addresses {
		res.IPs = append(res.IPs, IP{Address: addr.Prefix, Gateway: addr.Gateway, Interface: 2})
	}
	return res
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// inheritedMTU is that of the device of the default route, IPv4's before
// IPv6's; 0 if there is none. lo is none: its packets go nowhere, and its MTU is
// more than a veth can have.
func inheritedMTU(c *rtnl.Conn) (uint32, error) {
	for _, ipv6 := range []bool{false, true} {
		index, err := c.DefaultRouteLink(ipv6)
		if err != nil {
			return 0, fmt.Errorf("find the default route: %w", err)
		}
		if index == 0 {
			continue
		}
		l, err := c.LinkByIndex(index)
		if err != nil {
			return 0, fmt.Errorf("find the default route's device: %w", err)
		}
		if l.Flags&unix.IFF_LOOPBACK == 0 {
			return l.MTU, nil
		}
	}
	return 0, nil
}
