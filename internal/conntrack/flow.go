package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

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

func header(ipv6 bool) []byte {
	family := byte(unix.AF_INET)
	if ipv6 {
		family = unix.AF_INET6
	}
	return []byte{family, unix.NFNETLINK_V0, 0, 0}
}

func (q Query) encode() ([]byte, error) {
	original, reply := uint32(filterProtoNum), uint32(0)
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.Nested(ctaTupleOrig, func(t *netlink.AttributeEncoder) error {
		t.Nested(ctaTupleProto, func(p *netlink.AttributeEncoder) error {
			p.Uint8(ctaProtoNum, q.Protocol)
			if q.Port != 0 {
				original |= filterDstPort
				p.Uint16(ctaProtoDstPort, q.Port)
			}
			return nil
		})
		return nil
	})
	if q.Server.IsValid() {
		reply = filterIPSrc
		ae.Nested(ctaTupleReply, func(t *netlink.AttributeEncoder) error {
			t.Nested(ctaTupleIP, func(ip *netlink.AttributeEncoder) error {
				src := uint16(ctaIPv4Src)
				if q.Server.Is6() {
					src = ctaIPv6Src
				}
				ip.Bytes(src, q.Server.AsSlice())
				return nil
			})
			return nil
		})
	}
	ae.Nested(ctaFilter, func(f *netlink.AttributeEncoder) error {
		f.ByteOrder = binary.NativeEndian // unlike everything else
		f.Uint32(ctaFilterOrigFlags, original)
		f.Uint32(ctaFilterReplyFlags, reply)
		return nil
	})
	attrs, err := ae.Encode()
	return append(header(q.IPv6), attrs...), err
}

func (f Flow) encode() ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(ctaTupleOrig|unix.NLA_F_NESTED, f.original)
	if f.id != nil {
		ae.Bytes(ctaID, f.id)
	}
	attrs, err := ae.Encode()
	return append(header(f.Dst.Addr().Is6()), attrs...), err
}

var errShort = errors.New("conntrack message without a header")

func decode(b []byte) (Flow, error) {
	var f Flow
	if len(b) < headerSize {
		return f, errShort
	}
	ad, err := netlink.NewAttributeDecoder(b[headerSize:])
	if err != nil {
		return f, err
	}
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			f.original = ad.Bytes()
			f.Protocol, f.Src, f.Dst, err = decodeTuple(f.original)
		case ctaTupleReply:
			_, f.Server, _, err = decodeTuple(ad.Bytes())
		case ctaID:
			f.id = ad.Bytes()
		}
		if err != nil {
			return f, err
		}
	}
	return f, ad.Err()
}

func decodeTuple(b []byte) (protocol uint8, src, dst netip.AddrPort, err error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return 0, src, dst, err
	}
	var srcIP, dstIP netip.Addr
	var srcPort, dstPort uint16
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleIP:
			ad.Nested(func(ip *netlink.AttributeDecoder) error {
				for ip.Next() {
					switch ip.Type() {
					case ctaIPv4Src, ctaIPv6Src:
						srcIP, _ = netip.AddrFromSlice(ip.Bytes())
					case ctaIPv4Dst, ctaIPv6Dst:
						dstIP, _ = netip.AddrFromSlice(ip.Bytes())
					}
				}
				return ip.Err()
			})
		case ctaTupleProto:
			ad.Nested(func(p *netlink.AttributeDecoder) error {
				p.ByteOrder = binary.BigEndian
				for p.Next() {
					switch p.Type() {
					case ctaProtoNum:
						protocol = p.Uint8()
					case ctaProtoSrcPort:
						srcPort = p.Uint16()
					case ctaProtoDstPort:
						dstPort = p.Uint16()
					}
				}
				return p.Err()
			})
		}
	}
	return protocol, netip.AddrPortFrom(srcIP, srcPort), netip.AddrPortFrom(dstIP, dstPort), ad.Err()
}
