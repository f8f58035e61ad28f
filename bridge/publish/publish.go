// Package publish changes which ports of a running container are published, with the same
// result as an ADD with these ports. It lasts until the container's next ADD.
//
// A call has the attachment's turn, so that no other one for it is under way. It changes the
// record first, and then the rules. If it is killed in between, a reload completes the change
// by the record, and DEL, which does not trust a record that was changed by hand, removes
// whatever the maps have.
package publish

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/host"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/internal/listeners"
	"flatnet/internal/rootless"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Publisher changes published ports in the network namespace of the process.
type Publisher struct {
	Warn func(string) // receives warnings
}

// A change is one call for one attachment.
type change struct {
	*host.Host
	records records.Dir
	key     model.Key
	old     model.Attachment  // its record, which is restored on failure
	a       *model.Attachment // with the network's record and the ports that it is to have
	end     rtnl.Link         // on the host
	addrs   []netip.Addr      // the host's
	locks   []records.Lock

	accepted bool // see foreign.Accept
}

// begin takes the turn of an attachment and reads its record. The caller closes the change.
func (p Publisher) begin(key model.Key) (*change, error) {
	opened, err := host.Open(p.Warn)
	if err != nil {
		return nil, err
	}
	c := &change{Host: opened, records: records.Own(p.Warn), key: key}
	if err := c.enter(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *change) enter() error {
	turn, err := c.records.Turn(c.key)
	if err != nil {
		return err
	}
	c.locks, c.Noted = []records.Lock{turn}, turn
	recorded, s := c.records.Attachment(c.key), c.records.Network(c.key.Network)
	if recorded == nil || s == nil {
		return model.Errorf(model.ErrChanged, "%s has no record: it has gone meanwhile, or an earlier version of flatnet attached it; "+
			"a container that is started anew is recorded", c.key)
	}
	ends, err := c.Ends(c.key)
	if err == nil && len(ends) == 0 {
		err = model.Errorf(model.ErrChanged, "the host interface of %s is missing: its container has gone", c.key)
	}
	if err != nil {
		return err
	}
	arrival, err := c.records.Arrive(&s.Network) // keeps the network from being removed meanwhile
	if err != nil {
		return err
	}
	c.locks = append(c.locks, arrival)
	a := *recorded
	a.Shared, a.SpoofCheck = *s, recorded.SpoofCheck
	c.old, c.a, c.end = *recorded, &a, ends[0]
	return nil
}

func (c *change) close() {
	for _, lock := range c.locks {
		lock.Close()
	}
	c.Host.Close()
}

// record writes the ports that the attachment is to have. If they can't be read back, nothing
// may be changed: no DEL would find it.
func (c *change) record() error {
	next := c.old
	next.Ports, next.ByHand = c.a.Ports, true
	c.a.ByHand = true
	c.records.Save(&next)
	if got := c.records.Attachment(c.key); got == nil || !got.ByHand || !slices.Equal(got.Ports, next.Ports) {
		c.records.Save(&c.old)
		return fmt.Errorf("the record of %s can't be written, so its ports stay as they are", c.key)
	}
	return nil
}

// Publish publishes further ports of an attachment, all or none. A port that is published
// already, to the same port of the container, is no error. If another container has it, that is
// a [model.ErrTaken].
func (p Publisher) Publish(key model.Key, further []model.PortMapping) error {
	c, err := p.begin(key)
	if err != nil {
		return err
	}
	defer c.close()
	added, err := c.plan(further)
	if err != nil {
		return err
	}
	if c.addrs, err = c.Addrs(); err != nil {
		return err
	}
	if err := c.mend(); err != nil {
		return err
	}
	if err := c.put(added, errLooked); !errors.Is(err, errLooked) { // before the record is touched
		return err
	}
	if err := c.record(); err != nil {
		return err
	}
	if err := c.put(added, nil); err != nil {
		return errors.Join(err, c.undo())
	}
	p.advise(c.a, further)
	return nil
}

// errLooked ends a trial: a transaction that could be filled, and is not to be committed.
var errLooked = errors.New("looked")

// mend removes what an earlier change left behind when it was killed. Otherwise this
// transaction could delete an element twice.
func (c *change) mend() error {
	if !c.old.ByHand {
		return nil
	}
	var gone []model.Publication
	_, err := c.Transact(func(tx *host.Tx) (err error) {
		gone, err = ports.Withdraw(tx, ports.Leaving{c.key: &c.old}, nil)
		return err
	})
	ports.Forget(c.Host, gone, nil, nil)
	return err
}

// undo restores the old record and its rules. The record stays marked as changed by hand: a
// reload at the same moment may have read the other one.
func (c *change) undo() error {
	c.old.ByHand = true
	c.records.Save(&c.old)
	before := *c.a
	before.Ports, before.ByHand = c.old.Ports, true
	_, err := c.Transact(func(tx *host.Tx) error { return ports.Restore(tx, []*model.Attachment{&before}, c.addrs) })
	return errors.Join(err, mirrored.Settle(c.Host))
}

// plan puts the ports that the attachment is to have into c.a, and returns those of them
// that its rules may lack.
func (c *change) plan(further []model.PortMapping) (*model.Attachment, error) {
	wanted, err := model.Publications(further, c.a.Addresses)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return nil, model.Errorf(model.ErrInvalid, "%s has no address to publish a port of", c.key)
	}
	if err := c.conflict(wanted); err != nil {
		return nil, err
	}
	c.a.Ports, err = model.Publications(append(mappings(c.old.Ports), further...), c.a.Addresses)
	if err != nil {
		return nil, err
	}
	had, asked := map[model.Publication]bool{}, map[place]bool{}
	for _, pub := range c.old.Ports {
		had[pub] = true
	}
	for _, pub := range wanted { // also those that are recorded already: they may be lost
		asked[placeOf(pub)] = true
	}
	added := *c.a
	added.Ports = slices.DeleteFunc(slices.Clone(c.a.Ports), func(pub model.Publication) bool {
		return had[pub] && !asked[placeOf(pub)]
	})
	return &added, nil
}

// A place is where a port is published.
type place struct {
	protocol uint8
	host     netip.AddrPort
}

func placeOf(pub model.Publication) place { return place{pub.Protocol, pub.Host} }

// conflict reports a wanted port that the container has published already, for another
// port of its own or in another network.
func (c *change) conflict(wanted []model.Publication) error {
	asked := map[model.Publication][]model.Publication{} // by port
	for _, w := range wanted {
		if w.Host.IsValid() {
			asked[w.HostPort()] = append(asked[w.HostPort()], w)
		}
	}
	others, _ := c.records.Attachments("*", c.key.ContainerID) // a reload reports what can't be read
	for key, a := range others {
		for _, pub := range a.Ports {
			if !pub.Host.IsValid() {
				continue
			}
			for _, w := range asked[pub.HostPort()] {
				overlaps := pub.Host == w.Host || pub.Everywhere() || w.Everywhere()
				if overlaps && (pub.Host != w.Host || pub.Target != w.Target) {
					return model.Errorf(model.ErrTaken, "%v of %s leads to %v already; unpublish that first", pub, key, pub.Target)
				}
			}
		}
	}
	return nil
}

// mappings is the inverse of [model.Publications].
func mappings(all []model.Publication) (ports []model.PortMapping) {
	for _, pub := range all {
		if pub.Host.IsValid() {
			ports = append(ports, model.PortMapping{Protocol: pub.Protocol,
				HostIP: pub.Host.Addr(), HostPort: pub.Host.Port(), ContainerPort: pub.Target.Port()})
		}
	}
	return ports
}

// put makes ports reachable, in the order of an ADD: first the network's own rules, without
// which route_localnet would do harm. With an error to end with, put only checks whether it
// could be done.
func (c *change) put(added *model.Attachment, end error) error {
	closed := slices.ContainsFunc(c.old.Ports, func(pub model.Publication) bool { return pub.Local })
	var replaced []model.Publication
	_, err := c.Transact(func(tx *host.Tx) error {
		if err := firewall.Put(tx, &c.a.Shared, firewall.HasIPv6(c.Host)); err != nil {
			return err
		}
		if tx.Len() > 0 && end == nil && !c.accepted { // accept rules come first, as in an ADD
			c.accepted = true
			foreign.Accept(c.Host, &c.a.Shared)
		}
		taken, err := ports.Put(tx, added, c.addrs, c.records.Gone(c.Host))
		if err == nil && closed { // those of 127.0.0.1 may no longer be that only
			_, err = ports.Withdraw(tx, ports.Leaving{c.key: c.a}, nil)
		}
		if len(taken) > 0 { // a further attempt finds nothing left
			replaced = taken
		}
		return cmp.Or(err, end)
	})
	if err != nil {
		return err
	}
	c.Say(ports.CheckIsolated(c.Host, c.a))
	ports.Forget(c.Host, replaced, added.Ports, c.addrs)
	if ports.NeedsHairpin(c.Host, c.a) && !c.end.Hairpin {
		err = c.SetPort("hairpin mode", c.end, unix.IFLA_BRPORT_MODE)
	}
	if err == nil {
		err = ports.OpenLoopback(c.Host, c.a)
	}
	if err == nil {
		err = mirrored.Put(c.Host, c.a)
	}
	return err
}

// advise warns of what a caller may not expect of the ports that it has just published.
func (p Publisher) advise(a *model.Attachment, further []model.PortMapping) {
	var ips []model.IP
	for _, addr := range a.Addresses {
		ips = append(ips, model.IP{Address: addr.Prefix})
	}
	for _, text := range listeners.Find(further, ips) {
		p.Warn(text)
	}
	if rootless.Podman() {
		p.Warn("the port is published in the network namespace of your rootless containers; on the host, Podman's port " +
			"forwarder listens at the ports of podman run -p only")
	}
	if a.Internal {
		p.Warn("network " + a.Name + " is internal: only the host and the network's containers reach the port")
	}
}
