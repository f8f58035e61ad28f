// Package shaping limits the bandwidth of containers.
//
// Frames to a container wait in a queue at the host end of its pair. Frames from it
// are sent through a device of its own first (ifb), since only a sender's queue can
// hold frames back. That device has the owner's mark as its MAC address.
package shaping

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

const (
	defaultBurst = 16 << 10 // bytes, at least: some full frames
	maxBurst     = math.MaxUint32 / 2
	latency      = 25 // milliseconds that a packet may wait, as in the reference
)

// Check rejects bursts that can't be given on an interface with an MTU (0: the
// kernel's default).
func Check(b model.Bandwidth, mtu uint32) error {
	return cmp.Or(checkBurst("ingressBurst", b.Ingress.Burst, mtu), checkBurst("egressBurst", b.Egress.Burst, mtu))
}

// checkBurst rejects bursts in bits. tbf drops every frame that is longer than its
// burst; it does segment long TCP packets (tbf_segment of net/sched/sch_tbf.c).
func checkBurst(key string, burst uint64, mtu uint32) error {
	switch least := fullFrame(mtu); {
	case burst == 0: // the default
	case burst/8 < least:
		return model.Errorf(model.ErrInvalid, "runtimeConfig.bandwidth.%s: %d bits are less than a full frame "+
			"of the interface, which would never be sent; give at least %d", key, burst, 8*least)
	case burst/8 > maxBurst:
		return model.Errorf(model.ErrInvalid, "runtimeConfig.bandwidth.%s: %d bits are more than %d",
			key, burst, uint64(8*maxBurst))
	}
	return nil
}

// fullFrame returns the bytes of an interface's longest frame with its Ethernet
// header, as a queue counts them (psched_mtu of net/pkt_sched.h).
func fullFrame(mtu uint32) uint64 {
	return uint64(cmp.Or(mtu, 1500)) + 14 // ETH_DATA_LEN, ETH_HLEN
}

// Buckets returns the queues of an attachment's limits; the zero value is none.
func Buckets(a *model.Attachment) (ingress, egress rtnl.TokenBucket) {
	if a.Bandwidth.Ingress.Rate > 0 {
		ingress = bucket(a.Bandwidth.Ingress, a.MTU)
	}
	if a.Bandwidth.Egress.Rate > 0 {
		egress = bucket(a.Bandwidth.Egress, a.MTU)
	}
	return ingress, egress
}

func bucket(l model.Limit, mtu uint32) rtnl.TokenBucket {
	rate, burst := max(l.Rate/8, 1), l.Burst/8
	if burst == 0 {
		burst = min(max(rate/10, defaultBurst, fullFrame(mtu)), maxBurst)
	}
	return rtnl.TokenBucket{
		Rate: rate, Burst: uint32(burst),
		Limit: uint32(min(burst+rate/1000*latency, math.MaxUint32)),
	}
}

// Put applies an attachment's limits to its host end, in place of those that are there.
func Put(h *host.Host, a *model.Attachment, index int) error {
	err := put(h, a, index)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// Parts of an earlier limit are there.
	if err := Remove(h, a.Key); err != nil {
		return err
	}
	if err := h.DeleteIngress(index); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove the ingress queue of link %d: %w", index, err)
	}
	return put(h, a, index)
}

func put(h *host.Host, a *model.Attachment, index int) error {
	if a.Bandwidth.Ingress.Rate > 0 {
		if err := h.SetTokenBucket(index, bucket(a.Bandwidth.Ingress, a.MTU)); err != nil {
			return failed("limit the rate to the container", "CONFIG_NET_SCH_TBF", err)
		}
	}
	if a.Bandwidth.Egress.Rate == 0 {
		return nil
	}
	name, mark := a.Key.IFBName(), a.Key.Mark()
	if err := h.AddLink("ifb", name, mark[:], a.MTU); err != nil {
		return failed("limit the rate from the container", "CONFIG_IFB", err)
	}
	ifb, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if err := h.SetTokenBucket(ifb.Index, bucket(a.Bandwidth.Egress, a.MTU)); err != nil {
		return failed("limit the rate from the container", "CONFIG_NET_SCH_TBF", err)
	}
	if err := h.RedirectIngress(index, ifb.Index); err != nil {
		return failed("redirect frames from the container to "+name,
			"CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 or CONFIG_NET_ACT_MIRRED", err)
	}
	return nil
}

// failed names the options that a kernel lacks which has no such device, queue or
// filter.
func failed(step, config string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
		return model.Errorf(model.ErrUnsupported, "%s: the kernel lacks %s (%w)", step, config, err)
	}
	return fmt.Errorf("%s: %w", step, err)
}

// Remove deletes the device of key's limit, if there is one. The rest goes with the
// host end.
func Remove(h *host.Host, key model.Key) error {
	l, err := h.LinkByName(key.IFBName())
	if err != nil || l.Kind != "ifb" || !host.Owns(key, l) {
		return err
	}
	return h.DeleteLink(l)
}

// Faults lists the limits that a host end lacks.
func Faults(h *host.Host, a *model.Attachment, end rtnl.Link) (faults []model.Fault) {
	if a.Bandwidth.Ingress.Rate > 0 && end.Qdisc != "tbf" {
		faults = append(faults, model.Fault{Thing: "the rate limit to the container on " + end.Name, State: model.Missing, Link: end.Name})
	}
	if a.Bandwidth.Egress.Rate == 0 {
		return faults
	}
	name := a.Key.IFBName()
	ifb, err := h.LinkByName(name)
	redirected, ferr := h.HasIngressFilter(end.Index)
	if err != nil || ferr != nil || !redirected || ifb.Qdisc != "tbf" || !ifb.Up() || !host.Owns(a.Key, ifb) {
		faults = append(faults, model.Fault{Thing: "the rate limit from the container by " + name, State: model.Missing})
	}
	return faults
}
