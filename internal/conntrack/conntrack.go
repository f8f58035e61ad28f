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
// the family, and all of them not by an IPv6 server: then there are others of the protocol,
// too, and the caller must look at port and server itself.
func list(c *nl.Conn, q Query) (flows []Flow, err error) {
	msgs, err := c.Do(msgGet, netlink.Dump, q.encode())
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
		header := netlink.Header{Type: msgDelete, Flags: netlink.Request | netlink.Acknowledge}
		requests[i] = netlink.Message{Header: header, Data: f.encode()}
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

func encode(ipv6 bool, attrs ...[]byte) []byte {
	family := byte(unix.AF_INET)
	if ipv6 {
		family = unix.AF_INET6
	}
	return append([]byte{family, unix.NFNETLINK_V0, 0, 0}, slices.Concat(attrs...)...)
}

func (q Query) encode() []byte {
	original, reply := uint32(filterProtoNum), uint32(0)
	var port, answers []byte
	if q.Port != 0 {
		original |= filterDstPort
		port = nl.Attr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, q.Port))
	}
	// Asked for an IPv6 address, Linux 6.18 leaves out just the flows that have it.
	if q.Server.Is4() {
		reply = filterIPSrc
		answers = nl.Nest(ctaTupleReply, nl.Nest(ctaTupleIP, nl.Attr(ctaIPv4Src, q.Server.AsSlice())))
	}
	return encode(q.IPv6,
		nl.Nest(ctaTupleOrig, nl.Nest(ctaTupleProto, nl.Attr(ctaProtoNum, []byte{q.Protocol}), port)), answers,
		nl.Nest(ctaFilter, // in host byte order, unlike everything else
			nl.Attr(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, original)),
			nl.Attr(ctaFilterReplyFlags, binary.NativeEndian.AppendUint32(nil, reply))))
}

func (f Flow) encode() []byte {
	return encode(f.Dst.Addr().Is6(), nl.Attr(ctaTupleOrig|unix.NLA_F_NESTED, f.original), nl.Attr(ctaID, f.id))
}

func decode(b []byte) (f Flow, err error) {
	_, r := nl.Read(b, headerSize)
	f.original, f.id = r.Octets(ctaTupleOrig), r.Octets(ctaID)
	f.Protocol, f.Src, f.Dst = readTuple(r.Nest(ctaTupleOrig))
	_, f.Server, _ = readTuple(r.Nest(ctaTupleReply))
	return f, r.Err()
}

func readTuple(r nl.Reader) (protocol uint8, src, dst netip.AddrPort) {
	ip, proto := r.Nest(ctaTupleIP), r.Nest(ctaTupleProto)
	end := func(v4, v6, port uint16) netip.AddrPort {
		addr, ok := netip.AddrFromSlice(ip.Octets(v4))
		if !ok {
			addr, _ = netip.AddrFromSlice(ip.Octets(v6))
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(proto.Fixed(port, 2)))
	}
	return proto.Fixed(ctaProtoNum, 1)[0], end(ctaIPv4Src, ctaIPv6Src, ctaProtoSrcPort), end(ctaIPv4Dst, ctaIPv6Dst, ctaProtoDstPort)
}
