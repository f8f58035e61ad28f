// Package conntrack finds and deletes the kernel's records of connections by
// ctnetlink. Names are those of linux/netfilter/nfnetlink_conntrack.h.
package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var errUnsupported = errors.New("CONFIG_NF_CT_NETLINK: not supported by this kernel")

const (
	msgGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	msgDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
)

// Forget deletes those flows selected by queries that are stale; one that is gone is no
// error, and a newer one with the same addresses and ports stays. It asks and deletes in
// the calling thread's network namespace, and goes on after an error.
func Forget(queries []Query, stale func(Flow) bool) error {
	if len(queries) == 0 {
		return nil
	}
	c, err := nl.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("conntrack: %w", err)
	}
	defer c.Close()
	var old []Flow
	for _, q := range queries {
		flows, ferr := list(c, q)
		err = errors.Join(err, ferr)
		old = append(old, slices.DeleteFunc(flows, func(f Flow) bool { return !stale(f) })...)
	}
	return errors.Join(err, remove(c, old))
}

// A Query selects flows of one protocol and family. The kernel goes through all
// that it has.
type Query struct {
	Protocol uint8 // IPPROTO_*
	IPv6     bool
	Port     uint16     // that the first packet went to; 0: any
	Server   netip.Addr // that answers, of the same family; invalid: any
}

// list lists the flows that a query selects. Kernels before 5.8 select by nothing but
// the family: then there are others of the protocol, too, and the caller must look at
// port and server itself.
func list(c *nl.Conn, q Query) (flows []Flow, err error) {
	req, err := q.encode()
	if err != nil {
		return nil, err
	}
	msgs, err := c.Do(msgGet, netlink.Dump, req)
	if errors.Is(err, unix.EINVAL) { // nfnetlink has no such subsystem
		return nil, errUnsupported
	}
	for _, m := range msgs {
		f, derr := decode(m.Data)
		err = errors.Join(err, derr)
		if f.Protocol == q.Protocol {
			flows = append(flows, f)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return flows, nil
}

// remove deletes flows. All are tried; the first error is returned.
func remove(c *nl.Conn, flows []Flow) (first error) {
	requests := make([]netlink.Message, len(flows))
	for i, f := range flows {
		data, err := f.encode()
		if err != nil {
			return fmt.Errorf("delete connection %v: %w", f, err)
		}
		header := netlink.Header{Type: msgDelete, Flags: netlink.Request | netlink.Acknowledge}
		requests[i] = netlink.Message{Header: header, Data: data}
	}
	for _, err := range c.Each(requests) {
		if first == nil && err != nil && !errors.Is(err, unix.ENOENT) {
			first = fmt.Errorf("delete connection %v: %w", flows[0], err)
		}
		flows = flows[1:]
	}
	return first
}

// Attributes of nfnetlink_conntrack.h.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaFilter     = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src, ctaIPv4Dst = 1, 2
	ctaIPv6Src, ctaIPv6Dst = 3, 4

	ctaProtoNum, ctaProtoSrcPort, ctaProtoDstPort = 1, 2, 3

	ctaFilterOrigFlags, ctaFilterReplyFlags = 1, 2

	// CTA_FILTER_F_* of net/netfilter/nf_conntrack.h: which parts of the tuple count.
	filterIPSrc, filterProtoNum, filterDstPort = 1 << 0, 1 << 3, 1 << 5
)

// headerSize is the size of struct nfgenmsg: nfgen_family, version, res_id.
const headerSize = 4

// A Flow is a connection, or for UDP what the kernel takes for one.
type Flow struct {
	Protocol uint8
	Src, Dst netip.AddrPort // of its first packet, before any translation
	Server   netip.AddrPort // whose answers belong to it: where Dst is translated to

	original []byte // CTA_TUPLE_ORIG, as the kernel wrote it
	id       []byte // CTA_ID
}

func (f Flow) String() string { return fmt.Sprintf("%d %s > %s", f.Protocol, f.Src, f.Dst) }

func encode(ipv6 bool, pass func(*nl.Codec)) ([]byte, error) {
	family := byte(unix.AF_INET)
	if ipv6 {
		family = unix.AF_INET6
	}
	attrs, err := nl.Encode(pass)
	return append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...), err
}

func (q Query) encode() ([]byte, error) {
	original, reply := uint32(filterProtoNum), uint32(0)
	return encode(q.IPv6, func(c *nl.Codec) {
		c.Nest(ctaTupleOrig, func(tuple *nl.Codec) {
			tuple.Nest(ctaTupleProto, func(proto *nl.Codec) {
				proto.Bytes(ctaProtoNum, []byte{q.Protocol})
				if q.Port != 0 {
					original |= filterDstPort
					proto.Bytes(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, q.Port))
				}
			})
		})
		if q.Server.IsValid() {
			reply = filterIPSrc
			c.Nest(ctaTupleReply, func(tuple *nl.Codec) {
				src := uint16(ctaIPv4Src)
				if q.Server.Is6() {
					src = ctaIPv6Src
				}
				tuple.Nest(ctaTupleIP, func(ip *nl.Codec) { ip.Bytes(src, q.Server.AsSlice()) })
			})
		}
		c.Nest(ctaFilter, func(f *nl.Codec) { // in host byte order, unlike everything else
			f.Bytes(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, original))
			f.Bytes(ctaFilterReplyFlags, binary.NativeEndian.AppendUint32(nil, reply))
		})
	})
}

func (f Flow) encode() ([]byte, error) {
	return encode(f.Dst.Addr().Is6(), func(c *nl.Codec) {
		c.Bytes(ctaTupleOrig|unix.NLA_F_NESTED, f.original)
		c.Bytes(ctaID, f.id)
	})
}

var errShort = errors.New("conntrack message without a header")

func decode(b []byte) (f Flow, err error) {
	if len(b) < headerSize {
		return f, errShort
	}
	err = nl.Decode(b[headerSize:], func(c *nl.Codec) {
		f.original = c.Bytes(ctaTupleOrig, nil)
		f.id = c.Bytes(ctaID, nil)
		c.Fail(nl.Decode(f.original, func(tuple *nl.Codec) { f.Protocol, f.Src, f.Dst = readTuple(tuple) }))
		c.Nest(ctaTupleReply, func(tuple *nl.Codec) { _, f.Server, _ = readTuple(tuple) })
	})
	return f, err
}

func readTuple(c *nl.Codec) (protocol uint8, src, dst netip.AddrPort) {
	var srcIP, dstIP netip.Addr
	c.Nest(ctaTupleIP, func(ip *nl.Codec) {
		srcIP, _ = netip.AddrFromSlice(ip.Bytes(ctaIPv4Src, ip.Bytes(ctaIPv6Src, nil)))
		dstIP, _ = netip.AddrFromSlice(ip.Bytes(ctaIPv4Dst, ip.Bytes(ctaIPv6Dst, nil)))
	})
	c.Nest(ctaTupleProto, func(proto *nl.Codec) {
		port := func(typ uint16) uint16 { return binary.BigEndian.Uint16(proto.Fixed(typ, []byte{0, 0})) }
		protocol = proto.Fixed(ctaProtoNum, []byte{0})[0]
		src = netip.AddrPortFrom(srcIP, port(ctaProtoSrcPort))
		dst = netip.AddrPortFrom(dstIP, port(ctaProtoDstPort))
	})
	return protocol, src, dst
}
