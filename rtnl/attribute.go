package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// octets encodes an attribute (struct nlattr); one without a payload is left out.
// A payload that is too long for an attribute is cut: nothing that is longer than
// the kernel accepts comes near that.
func octets(typ uint16, payload []byte) []byte {
	if len(payload) == 0 {
		return nil
	}
	payload = payload[:min(len(payload), math.MaxUint16-unix.NLA_HDRLEN)]
	b, _ := netlink.MarshalAttributes([]netlink.Attribute{{Type: typ, Data: payload}}) // fails for a wrong Length alone
	return b
}

func u8(typ uint16, v uint8) []byte   { return octets(typ, []byte{v}) }
func u32(typ uint16, v uint32) []byte { return octets(typ, native.AppendUint32(nil, v)) }

// nonzero is u32, left out if v is 0.
func nonzero(typ uint16, v uint32) []byte {
	if v == 0 {
		return nil
	}
	return u32(typ, v)
}

// text encodes a string with the NUL byte at its end.
func text(typ uint16, s string) []byte { return octets(typ, append([]byte(s), 0)) }

func nest(typ uint16, attrs ...[]byte) []byte {
	return octets(typ|unix.NLA_F_NESTED, slices.Concat(attrs...))
}

// A reader decodes the attributes of a message or of a nest. Its getters return
// zero for an attribute that is absent, and the last one of its type otherwise.
// The first error of a message and its nests sticks.
type reader struct {
	attrs []netlink.Attribute
	err   *error
}

// read returns a message's fixed header, which has a size, and its attributes. The
// header of a message that is too short is zero.
func read(b []byte, size int) (header []byte, r reader) {
	r.err = new(error)
	if len(b) < size {
		r.fail(errors.New("rtnetlink message is too short"))
		b = make([]byte, size)
	}
	return b[:size], r.inside(b[size:])
}

func (r reader) inside(b []byte) reader {
	attrs, err := netlink.UnmarshalAttributes(b)
	r.fail(err)
	return reader{attrs, r.err}
}

func (r reader) fail(err error) {
	if *r.err == nil {
		*r.err = err
	}
}

// octets returns a payload, or nil.
func (r reader) octets(typ uint16) (payload []byte) {
	for _, a := range r.attrs {
		if a.Type&^(netlink.Nested|netlink.NetByteOrder) == typ {
			payload = a.Data
		}
	}
	return payload
}

func (r reader) nest(typ uint16) reader { return r.inside(r.octets(typ)) }

func (r reader) fixed(typ uint16, size int) []byte {
	b := r.octets(typ)
	if len(b) == size {
		return b
	}
	if b != nil {
		r.fail(fmt.Errorf("rtnetlink attribute %d has %d bytes instead of %d", typ, len(b), size))
	}
	return make([]byte, size)
}

func (r reader) flag(typ uint16) bool  { return r.fixed(typ, 1)[0] != 0 }
func (r reader) u32(typ uint16) uint32 { return native.Uint32(r.fixed(typ, 4)) }

func (r reader) text(typ uint16) string { return strings.TrimRight(string(r.octets(typ)), "\x00") }

func (r reader) addr(typ uint16) netip.Addr {
	b := r.octets(typ)
	a, ok := netip.AddrFromSlice(b)
	if !ok && b != nil {
		r.fail(fmt.Errorf("rtnetlink attribute %d is no IP address", typ))
	}
	return a
}

// nsid returns a NETNSA_NSID, or -1 (NETNSA_NSID_NOT_ASSIGNED) without one.
func (r reader) nsid(typ uint16) int {
	if r.octets(typ) == nil {
		return unix.NETNSA_NSID_NOT_ASSIGNED
	}
	return int(int32(r.u32(typ)))
}

// prefix joins an address and the length in a header of struct ifaddrmsg or rtmsg,
// which begin alike. Other families than IPv4 and IPv6 are errors, too.
func (r reader) prefix(header []byte, a netip.Addr) netip.Prefix {
	p := netip.PrefixFrom(a, int(header[1]))
	if !p.IsValid() || family(a) != header[0] {
		r.fail(fmt.Errorf("no valid prefix of family %d with length %d", header[0], header[1]))
	}
	return p
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
