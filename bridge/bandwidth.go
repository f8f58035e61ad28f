package bridge

import (
	"errors"
	"fmt"
	"math"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// What goes to the container waits at the host end of its pair. What comes from
// it is sent through a device of its own first (ifb), for only a queue can make
// anybody wait. That device has the owner's mark, too, and its name is of the
// same hash as [Key.HostNames]'s second.

// limit applies the attachment's bandwidth limits to the host end.
func limit(c *rtnl.Conn, a Attachment, host int) error {
	if a.Bandwidth.Ingress.Rate > 0 {
		if err := c.SetTokenBucket(host, a.Bandwidth.Ingress.bucket()); err != nil {
			return fmt.Errorf("limit what goes to the container: %w", needs(err, "CONFIG_NET_SCH_TBF"))
		}
	}
	if a.Bandwidth.Egress.Rate == 0 {
		return nil
	}
	name, mark := a.Key.ifbName(), a.Key.Mark()
	if err := c.AddIFB(name, mark[:], a.MTU); err != nil {
		return fmt.Errorf("make %s: %w", name, needs(err, "CONFIG_IFB"))
	}
	ifb, err := c.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := c.SetTokenBucket(ifb.Index, a.Bandwidth.Egress.bucket()); err != nil {
		return fmt.Errorf("limit what comes from the container: %w", needs(err, "CONFIG_NET_SCH_TBF"))
	}
	if err := c.RedirectIngress(host, ifb.Index); err != nil {
		return fmt.Errorf("redirect what comes from the container to %s: %w", name,
			needs(err, "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 or CONFIG_NET_ACT_MIRRED"))
	}
	return nil
}

// needs explains the errors of a kernel that has no such device, queue or filter.
func needs(err error, config string) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %s (%v)", ErrUnsupported, config, err)
	}
	return err
}

const (
	minBurst = 16 << 10 // bytes: some full frames
	latency  = 25       // milliseconds that a packet may wait, as in the reference
)

func (l Limit) bucket() rtnl.TokenBucket {
	rate, burst := max(l.Rate/8, 1), l.Burst/8
	if burst == 0 {
		burst = rate / 10
	}
	burst = min(max(burst, minBurst), math.MaxUint32/2)
	return rtnl.TokenBucket{
		Rate: rate, Burst: uint32(burst),
		Limit: uint32(min(burst+rate/1000*latency, math.MaxUint32)),
	}
}

// removeIFB deletes the device of key's limit, if it has one.
func removeIFB(c *rtnl.Conn, key Key) error {
	l, err := c.LinkByName(key.ifbName())
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return fmt.Errorf("find link %s: %w", key.ifbName(), err)
	case l.Kind != "ifb" || !owns(key, l):
		return nil
	}
	return deleteLink(c, l)
}

// limitFaults lists the limits that a host end has lost; restoreLimit sets them.
func limitFaults(c *rtnl.Conn, a Attachment, host rtnl.Link) (found []fault) {
	if a.Bandwidth.Ingress.Rate > 0 && host.Qdisc != "tbf" {
		found = append(found, fault{"the limit of what goes to the container by " + host.Name, "missing"})
	}
	if a.Bandwidth.Egress.Rate > 0 {
		ifb, err := c.LinkByName(a.Key.ifbName())
		if err != nil || ifb.Qdisc != "tbf" || !ifb.Up() || !owns(a.Key, ifb) {
			found = append(found, fault{"the limit of what comes from the container by " + a.Key.ifbName(), "missing"})
		}
	}
	return found
}

// restoreLimit is limit for a host end that may have some of it already.
func restoreLimit(c *rtnl.Conn, a Attachment, host int) error {
	if err := removeIFB(c, a.Key); err != nil {
		return err
	}
	if err := c.DeleteIngress(host); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove the ingress queue of link %d: %w", host, err)
	}
	return limit(c, a, host)
}
