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
		if err := c.SetTokenBucket(host, a.Bandwidth.Ingress.bucket(a.MTU)); err != nil {
			return fmt.Errorf("limit what goes to the container: %w", needs(err, "CONFIG_NET_SCH_TBF"))
		}
	}
	if a.Bandwidth.Egress.Rate == 0 {
		return nil
	}
	name, mark := a.Key.ifbName(), a.Key.Mark()
	if err := c.AddLink("ifb", name, mark[:], a.MTU); err != nil {
		return fmt.Errorf("make %s: %w", name, needs(err, "CONFIG_IFB"))
	}
	ifb, err := c.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := c.SetTokenBucket(ifb.Index, a.Bandwidth.Egress.bucket(a.MTU)); err != nil {
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
	defaultBurst = 16 << 10 // bytes, at least: some full frames
	maxBurst     = math.MaxUint32 / 2
	latency      = 25 // milliseconds that a packet may wait, as in the reference
)

// fullFrame is how many bytes the longest frame of an interface has for a queue:
// with its Ethernet header (psched_mtu of net/pkt_sched.h).
func fullFrame(mtu uint32) uint64 {
	if mtu == 0 {
		mtu = 1500 // ETH_DATA_LEN, what the kernel makes of it
	}
	return uint64(mtu) + 14 // ETH_HLEN
}

// check rejects bursts that can't be given. tbf drops every frame that is longer
// than its burst; it does segment long TCP packets (tbf_segment of
// net/sched/sch_tbf.c).
func (b Bandwidth) check(mtu uint32) error {
	for _, l := range [...]struct {
		key   string
		burst uint64
	}{{"ingressBurst", b.Ingress.Burst}, {"egressBurst", b.Egress.Burst}} {
		switch least := fullFrame(mtu); {
		case l.burst == 0:
		case l.burst/8 < least:
			return fmt.Errorf("runtimeConfig.bandwidth.%s: %d bits are less than a full frame of the interface, which would never be sent; give at least %d: %w",
				l.key, l.burst, 8*least, ErrInvalid)
		case l.burst/8 > maxBurst:
			return fmt.Errorf("runtimeConfig.bandwidth.%s: %d bits are more than %d: %w", l.key, l.burst, uint64(8*maxBurst), ErrInvalid)
		}
	}
	return nil
}

func (l Limit) bucket(mtu uint32) rtnl.TokenBucket {
	rate, burst := max(l.Rate/8, 1), l.Burst/8
	if burst == 0 {
		burst = min(max(rate/10, defaultBurst, fullFrame(mtu)), maxBurst)
	}
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
