package rtnl

import (
	"encoding/binary"
	"math"
	"net"

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
	b, err := encodeTokenBucket(link, t)
	return c.ack(unix.RTM_NEWQDISC, netlink.Create|netlink.Replace, b, err)
}

func encodeTokenBucket(link int, t TokenBucket) ([]byte, error) {
	return encode(tcMsg(link, tbfHandle, tcRoot, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.TCA_KIND, "tbf")
		ae.Nested(unix.TCA_OPTIONS, func(o *netlink.AttributeEncoder) error {
			// struct tc_tbf_qopt: rate and peakrate (tc_ratespec), limit, buffer, mtu.
			p := make([]byte, 36)
			p[1] = linkLayerEthernet
			native.PutUint32(p[8:], uint32(min(t.Rate, math.MaxUint32)))
			native.PutUint32(p[24:], t.Limit)
			o.Bytes(tbfParms, p)
			if t.Rate > math.MaxUint32 {
				o.Uint64(tbfRate64, t.Rate)
			}
			o.Uint32(tbfBurst, t.Burst)
			return nil
		})
	})
}

// AddIFB makes an intermediate functional block device, up: what is redirected
// to it, its qdisc can hold back. A name that exists is EEXIST.
func (c *Conn) AddIFB(name string, mac net.HardwareAddr, mtu uint32) error {
	b, err := encodeIFB(name, mac, mtu)
	return c.ack(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, b, err)
}

func encodeIFB(name string, mac net.HardwareAddr, mtu uint32) ([]byte, error) {
	return encode(ifInfo(0, unix.IFF_UP, unix.IFF_UP), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFLA_ADDRESS, mac)
		if mtu != 0 {
			ae.Uint32(unix.IFLA_MTU, mtu)
		}
		ae.String(unix.IFLA_IFNAME, name)
		linkInfo(ae, "ifb", nil)
	})
}

// RedirectIngress sends all that a link receives to another link first, and
// thence onward. The link must not have an ingress qdisc yet (EEXIST).
func (c *Conn) RedirectIngress(from, to int) error {
	b, err := encodeIngress(from)
	if err := c.ack(unix.RTM_NEWQDISC, netlink.Create|netlink.Excl, b, err); err != nil {
		return err
	}
	b, err = encodeRedirect(from, to)
	return c.ack(unix.RTM_NEWTFILTER, netlink.Create|netlink.Excl, b, err)
}

// DeleteIngress removes what RedirectIngress made. A link without it is ENOENT or
// EINVAL.
func (c *Conn) DeleteIngress(link int) error {
	b, err := encodeIngress(link)
	return c.ack(unix.RTM_DELQDISC, 0, b, err)
}

func encodeIngress(link int) ([]byte, error) {
	return encode(tcMsg(link, ingressHandle, tcIngress, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.TCA_KIND, "ingress")
	})
}

// encodeRedirect is a filter that matches everything. u32 is in more kernels
// than matchall.
func encodeRedirect(from, to int) ([]byte, error) {
	const priority = 1
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	info := uint32(priority)<<16 | uint32(native.Uint16(all))
	return encode(tcMsg(from, 0, ingressHandle, info), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.TCA_KIND, "u32")
		ae.Nested(unix.TCA_OPTIONS, func(o *netlink.AttributeEncoder) error {
			o.Nested(u32Act, func(acts *netlink.AttributeEncoder) error {
				acts.Nested(1, func(act *netlink.AttributeEncoder) error {
					act.String(actKind, "mirred")
					act.Nested(actOptions, func(m *netlink.AttributeEncoder) error {
						// struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
						p := make([]byte, 28)
						native.PutUint32(p[8:], stolen)
						native.PutUint32(p[20:], egressRedirect)
						native.PutUint32(p[24:], uint32(to))
						m.Bytes(mirredParms, p)
						return nil
					})
					return nil
				})
				return nil
			})
			// struct tc_u32_sel with one key, whose mask is zero.
			sel := make([]byte, 32)
			sel[0], sel[2] = u32Terminal, 1
			o.Bytes(u32Sel, sel)
			return nil
		})
	})
}

// tcMsg is struct tcmsg of linux/rtnetlink.h, of family AF_UNSPEC.
func tcMsg(link int, handle, parent, info uint32) []byte {
	b := make([]byte, 20)
	native.PutUint32(b[4:], uint32(link))
	native.PutUint32(b[8:], handle)
	native.PutUint32(b[12:], parent)
	native.PutUint32(b[16:], info)
	return b
}
