package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/peers"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/bridge/shaping"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Delete removes an attachment: its link, its lease and, with the network's
// last attachment, what the network's attachments share. What is gone already is no
// error. withBridge is for a caller without another owner of bridges: the last
// attachment takes along the bridge that was made for the network, unless that has a
// port of somebody else's.
func (h *Host) Delete(key model.Key, alloc model.Allocator, withBridge bool) error {
	c, done, err := h.inTurn(key)
	if err != nil {
		return err
	}
	defer done()
	c.Noted = c.turn
	return c.remove(key, func() ([]model.Key, error) { return alloc.Release([]model.Key{key}, true) }, withBridge)
}

// remove removes an attachment and, with the network's last one, what these share. The
// lease goes last, by giveBack, which returns the keys that still have one: an address
// must not be leased anew while a port leads to it or a link has it.
func (c *call) remove(key model.Key, giveBack func() ([]model.Key, error), withBridge bool) error {
	ends, err := c.detach([]model.Key{key}, c.Ends)
	if err != nil {
		return err
	}
	finish, err := c.deleteEnds(key, ends[key])
	if err != nil {
		return err
	}
	left, err := giveBack()
	if err == nil {
		err = c.leave(key.Network, left, withBridge)
	}
	return errors.Join(err, finish())
}

// maxAsked is how often deleteEnds asks for a link: the kernel answers when it has begun
// to delete it, unless that waits for something else.
const maxAsked = 100

// deleteEnds is removeEnds that returns when the host has none of the links any more.
// The kernel then goes on to wait until nothing refers to them, for some milliseconds
// (netdev_run_todo of net/core/dev.c), and finish waits for that. What belongs to the
// links is gone before: nobody could find it without them and the lease.
func (c *call) deleteEnds(key model.Key, ends []rtnl.Link) (finish func() error, err error) {
	own, err := host.Open(c.Warn)
	if err != nil { // c's socket does it as well, but later
		return func() error { return nil }, c.removeEnds(key, ends)
	}
	err = shaping.Remove(c.Host, key)
	begun, done := make(chan bool), make(chan error, 1)
	go func(ends []rtnl.Link) { // its own: c's are counted down meanwhile
		close(begun)
		done <- deleteLinks(own, ends)
		own.Close()
	}(ends)
	<-begun
	for range maxAsked {
		if len(ends) == 0 || len(done) > 0 {
			break
		}
		if l, err := c.LinkByIndex(ends[0].Index); err == nil && l.Index == 0 {
			ends = ends[1:]
		}
	}
	if len(ends) == 0 && err == nil {
		return func() error { return <-done }, nil
	}
	return func() error { return nil }, errors.Join(err, <-done)
}

// detach removes what belongs to attachments but their links, which find finds, and
// their leases. It returns the links, which are to be deleted next, of those that it
// has not failed for.
func (c *call) detach(keys []model.Key, find func(model.Key) ([]rtnl.Link, error)) (map[model.Key][]rtnl.Link, error) {
	var errs []error
	ends, leaving := map[model.Key][]rtnl.Link{}, map[model.Key]*model.Attachment{}
	for _, key := range keys {
		recorded := c.records.Attachment(key)
		found, err := find(key)
		if err == nil {
			err = c.cutOff(key, recorded, found)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", key, err))
			continue
		}
		ends[key], leaving[key] = found, recorded
	}
	if err := c.removeElements(leaving); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	return ends, errors.Join(errs...)
}

// cutOff takes down the host ends of an attachment that may be guarded: its container
// may be alive, and could send what it likes from when its guard goes until the link
// does. Without a record, the guard is likely if the network has any.
func (c *call) cutOff(key model.Key, recorded *model.Attachment, ends []rtnl.Link) error {
	if len(ends) == 0 || recorded != nil && !recorded.SpoofCheck {
		return nil
	}
	if recorded == nil {
		rules, err := c.Rules()
		if err != nil {
			return nil // and so there are no rules
		}
		if has, err := antispoof.Has(rules, key.Network); err != nil || !has {
			return nil // the removal reports it
		}
	}
	for _, l := range ends {
		if err := c.SetLink(l, rtnl.LinkChange{Down: true}); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	return nil
}

// retry is how long a removal waits for ADDs before it asks again whether anything is left
// to remove, and then for twice as long each time, up to a second: the questions of
// a hundred DELs that wait for one another would leave that one no processor.
const retry = 20 * time.Millisecond

// unlessUsed runs remove while no ADD that concerns the place is under way, unless
// used. An ADD that is under way is waited for until its link makes it used, or it
// ends; after [records.Wait], that is a [model.ErrBusy].
func (c *call) unlessUsed(place int64, used func() (bool, error), remove func() error) error {
	for start := time.Now(); ; {
		lock, held := c.records.Alone(place, min(max(retry, time.Since(start)), time.Second))
		is, err := used()
		if is || err != nil || held == nil {
			defer lock.Close()
			if is || err != nil {
				return err
			}
			return remove()
		}
		if time.Since(start) > records.Wait {
			return model.Errorf(model.ErrBusy, "ADDs were under way for %v; try again", records.Wait)
		}
	}
}

// leave removes what the network's attachments share, if none is left. leases are
// the keys that have one: of these, the ones whose links can be found without
// listing all of the host's answer as a rule.
func (c *call) leave(network string, leases []model.Key, withBridge bool) error {
	for _, key := range leases[:min(len(leases), 3)] {
		if ends, err := c.NamedEnds(key); err == nil && len(ends) > 0 {
			return nil
		}
	}
	var links []rtnl.Link
	used := func() (is bool, err error) {
		if links, err = c.Links(); host.Attached(links, network, leases) {
			return true, nil // however much other links change
		}
		return false, err
	}
	return c.unlessUsed(model.Place(network, ""), used, func() error {
		err := c.removeNetwork(network, links)
		if withBridge {
			err = errors.Join(err, c.removeBridges(network, links))
		}
		return err
	})
}

// removeNetwork deletes the network's tables, what is left of attachments whose namespace
// vanished without a DEL, and the routes to peers, and sets route_localnet back, which the
// rules made harmless. links are the host's. If one of them may be a recorded attachment's,
// whose link somebody has changed, everything stays.
func (c *call) removeNetwork(network string, links []rtnl.Link) error {
	s := c.records.Network(network)
	dead, _ := c.records.Attachments(network, "*") // a reload reports what can't be read
	if host.Living(links, dead) {
		return nil
	}
	if s != nil && s.ForwardAccept {
		foreign.Remove(c.Host, network)
	}
	unclaimed := maps.Clone(dead)
	defer c.records.Claim(unclaimed).Close()
	err := c.removeElements(dead)
	c.records.Trace(unclaimed)
	if err == nil {
		_, err = c.Transact(func(tx *host.Tx) error { return firewall.Remove(tx, network) })
	}
	if err != nil && !errors.Is(err, model.ErrUnsupported) { // else there are none
		return err
	}
	err = nil
	for _, l := range links { // records may have been lost
		if isMadeFor(l, network) && !hasPorts(links, l) {
			err = errors.Join(err, ports.CloseLoopback(c.Host, l.Name))
		}
	}
	if s != nil && !ports.LoopbackClosed(c.Host, s.GatewayName()) { // to read all networks takes long
		all, _ := c.records.Networks()
		shares := func(o *model.Shared) bool { return o.Name != network && o.GatewayName() == s.GatewayName() }
		if !slices.ContainsFunc(all, shares) {
			err = errors.Join(err, ports.CloseLoopback(c.Host, s.GatewayName()))
		}
	}
	return errors.Join(err, peers.Drop(c.Host, c.records, network, s))
}

// removeBridges removes the bridges that were made for a network, once they have no
// ports.
func (c *call) removeBridges(network string, links []rtnl.Link) (err error) {
	for _, br := range links {
		if !isMadeFor(br, network) {
			continue
		}
		used := func() (bool, error) {
			links, err := c.Links()
			mine := slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Index == br.Index && isMadeFor(l, network) })
			return !mine || hasPorts(links, br), err
		}
		err = errors.Join(err, c.unlessUsed(model.Place("", br.Name), used, func() error { return c.DeleteLink(br) }))
	}
	return err
}

// isMadeFor reports whether a link is a bridge that flatnet made for a network.
func isMadeFor(l rtnl.Link, network string) bool {
	made, ok := model.MadeFor(l.Alias)
	return ok && made == network && l.Kind == "bridge"
}

func hasPorts(links []rtnl.Link, br rtnl.Link) bool {
	return slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Master == br.Index })
}

// GC removes every attachment of a network but the valid ones, and with the last
// one what they shared, also if it is gone already. It goes on after an error and
// reports all of them.
func (h *Host) GC(network string, valid []model.Key, alloc model.Allocator) error {
	c, err := h.open()
	if err != nil {
		return err
	}
	defer c.Close()
	keys, err := c.known(network, alloc)
	keep := map[model.Key]bool{}
	for _, key := range valid {
		keep[key] = true
	}
	var stale []model.Key
	for _, key := range keys {
		if !keep[key] {
			keep[key] = true // named only once
			stale = append(stale, key)
		}
	}
	return errors.Join(err, c.collect(network, stale, alloc, false))
}

// Clear removes what is left of those of some attachments of a network that have no link,
// and with no attachment left what they shared, with the bridge. It is for a caller that
// does not know which containers live: what an ADD makes meanwhile stays.
func (h *Host) Clear(network string, keys []model.Key, alloc model.Allocator) error {
	c, err := h.open()
	if err != nil {
		return err
	}
	defer c.Close()
	c.sparing = true
	return c.collect(network, keys, alloc, true)
}

// collect removes attachments and, with no other one left, what they shared.
func (c *call) collect(network string, keys []model.Key, alloc model.Allocator, withBridge bool) error {
	err := c.removeAll(keys, alloc)
	leases, lerr := alloc.Keys()
	if lerr == nil {
		lerr = c.leave(network, leases, withBridge)
	}
	return errors.Join(err, lerr)
}

// known lists a network's attachments by their leases, links and records. A key may
// be listed several times.
func (c *call) known(network string, alloc model.Allocator) ([]model.Key, error) {
	keys, err := alloc.Keys()
	links, lerr := c.Links()
	for _, o := range host.Owners(links) {
		if o.Key.Network == network {
			keys = append(keys, o.Key)
		}
	}
	recorded, rerr := c.records.Attachments(network, "*")
	return slices.AppendSeq(keys, maps.Keys(recorded)), errors.Join(err, lerr, rerr)
}

// atOnce is how many attachments a GC removes before it gives back their leases and
// lets other calls for them go on.
const atOnce = 64

// removeAll removes attachments in batches that read and write the leases once. One
// that has another call under way is waited for at the end.
func (c *call) removeAll(keys []model.Key, alloc model.Allocator) error {
	var errs []error
	var later []model.Key
	for batch := range slices.Chunk(keys, atOnce) {
		free, held, turns := c.records.Turns(batch)
		errs = append(errs, c.removeBatch(free, alloc))
		turns.Close()
		later = append(later, held...)
	}
	for _, key := range later {
		turn, err := c.records.Turn(key)
		if err == nil {
			err = c.removeBatch([]model.Key{key}, alloc)
			turn.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleting is how many deletions of links a GC waits for at a time.
const deleting = 32

// removeBatch removes attachments whose turns the caller has, so that their links
// don't change after they are listed; those that have one only if c is not sparing.
func (c *call) removeBatch(keys []model.Key, alloc model.Allocator) error {
	links, err := c.Links()
	if err != nil || len(keys) == 0 {
		return err
	}
	marked := map[string][]rtnl.Link{}
	for _, l := range links {
		marked[string(l.MAC)] = append(marked[string(l.MAC)], l)
	}
	if c.sparing {
		keys = slices.DeleteFunc(slices.Clone(keys), c.records.Seen(links))
	}
	ends, err := c.detach(keys, func(key model.Key) ([]rtnl.Link, error) {
		mark := key.Mark()
		return host.EndsAmong(marked[string(mark[:])], key), nil
	})
	errs := []error{err}
	var gone []model.Key
	var waits []func() error
	for _, key := range keys {
		links, detached := ends[key]
		if !detached {
			continue
		}
		finish, err := c.deleteEnds(key, links)
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", key, err))
			continue
		}
		gone, waits = append(gone, key), append(waits, finish)
		if len(waits) == deleting {
			errs, waits = append(errs, waits[0]()), waits[1:]
		}
	}
	for _, finish := range waits {
		errs = append(errs, finish())
	}
	if len(gone) > 0 {
		if _, err := alloc.Release(gone, false); err != nil {
			errs = append(errs, fmt.Errorf("give back the leases of %v: %w", gone, err))
		}
	}
	return errors.Join(errs...)
}
