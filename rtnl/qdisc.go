package rtnl

import (
	"encoding/binary"
	"math"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of linux/pkt_sched.h and linux/pkt_cls.h.
const (
	tcRoot        = 0xffffffff // TC_H_ROOT
	tcIngress     = 0xfffffff1 // TC_H_INGRESS
	ingressHandle = 0xffff0000 // ffff:, which the ingress qdisc always has
	tbfHandle     = 0x00010000 // 1:

	tbfParms, tbfRate64, tbfBurst = 1, 4, 6 // TCA_TBF_*
	linkLayerEthernet             = 1       // TC_LINKLAYER_ETHERNET

	u32Sel, u32Act      = 5, 7 // TCA_U32_*
	u32Terminal         = 1    // TC_U32_TERMINAL
	mirredParms         = 2    // TCA_MIRRED_PARMS
	actKind, actOptions = 1, 2 // TCA_ACT_*
	stolen              = 4    // TC_ACT_STOLEN
	egressRedirect      = 1    // TCA_EGRESS_REDIR
)

// A TokenBucket is the qdisc tbf(8).
type TokenBucket struct {
	Rate  uint64 // bytes per second
	Burst uint32 // bytes
	Limit uint32 // bytes that may wait
}

// SetTokenBucket limits what a link sends, in place of the qdisc that it has.
func (c *Conn) SetTokenBucket(link int, t TokenBucket) error {
	// struct tc_tbf_qopt: rate and peakrate (tc_ratespec), limit, buffer, mtu. Its
	// rate has 32 bits; the kernel takes the higher one of it and TCA_TBF_RATE64.
	parms := make([]byte, 36)
	parms[1] = linkLayerEthernet
	native.PutUint32(parms[8:], uint32(min(t.Rate, math.MaxUint32)))
	native.PutUint32(parms[24:], t.Limit)
	return c.do(unix.RTM_NEWQDISC, netlink.Create|netlink.Replace,
		tcMsg(link, tbfHandle, tcRoot, 0), nl.Text(unix.TCA_KIND, "tbf"),
		nl.Nest(unix.TCA_OPTIONS, nl.Attr(tbfParms, parms), nl.Attr(tbfRate64, native.AppendUint64(nil, t.Rate)), u32(tbfBurst, t.Burst)))
}

// TokenBuckets returns the rate and the limit of each link that sends by a root tbf, by its
// index. The kernel reports the burst as a time, which is left out.
func (c *Conn) TokenBuckets() (map[int]TokenBucket, error) {
	all := map[int]TokenBucket{}
	_, err := dump(c, "qdiscs", unix.RTM_GETQDISC, func(b []byte) (struct{}, error) {
		h, r := read(b, len(tcMsg(0, 0, 0, 0)))
		options := r.nest(unix.TCA_OPTIONS)
		parms := options.Octets(tbfParms) // see SetTokenBucket
		if native.Uint32(h[12:]) == tcRoot && r.Text(unix.TCA_KIND) == "tbf" && len(parms) >= 28 {
			t := TokenBucket{Rate: uint64(native.Uint32(parms[8:])), Limit: native.Uint32(parms[24:])}
			if rate := options.Octets(tbfRate64); len(rate) == 8 {
				t.Rate = native.Uint64(rate)
			}
			all[int(native.Uint32(h[4:]))] = t
		}
		return struct{}{}, r.Err()
	}, tcMsg(0, 0, 0, 0))
	return all, err
}

// RedirectIngress sends all that a link receives to another link first, and
// thence onward. The link must not have an ingress qdisc yet (EEXIST).
func (c *Conn) RedirectIngress(from, to int) error {
	if err := c.create(unix.RTM_NEWQDISC, ingress(from)...); err != nil {
		return err
	}
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	info := 1<<16 | uint32(native.Uint16(all)) // priority 1, every protocol
	// struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
	redirect := words(0, 0, stolen, 0, 0, egressRedirect, uint32(to))
	// struct tc_u32_sel with one key, whose mask is zero, so that it matches every
	// packet. u32 is in more kernels than matchall.
	everything := make([]byte, 32)
	everything[0], everything[2] = u32Terminal, 1
	action := nl.Nest(1, nl.Text(actKind, "mirred"), nl.Nest(actOptions, nl.Attr(mirredParms, redirect)))
	return c.create(unix.RTM_NEWTFILTER, tcMsg(from, 0, ingressHandle, info), nl.Text(unix.TCA_KIND, "u32"),
		nl.Nest(unix.TCA_OPTIONS, nl.Nest(u32Act, action), nl.Attr(u32Sel, everything)))
}

// DeleteIngress removes what RedirectIngress made. A link without it is ENOENT or
// EINVAL.
func (c *Conn) DeleteIngress(link int) error {
	return c.do(unix.RTM_DELQDISC, 0, ingress(link)...)
}

// HasIngressFilter reports whether a filter takes what a link receives, such as the
// one that RedirectIngress makes.
func (c *Conn) HasIngressFilter(link int) (bool, error) {
	filters, err := c.nl.Do(unix.RTM_GETTFILTER, netlink.Dump, tcMsg(link, 0, ingressHandle, 0))
	return len(filters) > 0, err
}

func ingress(link int) [][]byte {
	return [][]byte{tcMsg(link, ingressHandle, tcIngress, 0), nl.Text(unix.TCA_KIND, "ingress")}
}

// tcMsg is struct tcmsg of linux/rtnetlink.h, of family AF_UNSPEC.
func tcMsg(link int, handle, parent, info uint32) []byte {
	return words(unix.AF_UNSPEC, uint32(link), handle, parent, info)
}
