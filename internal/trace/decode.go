package trace

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxHex   = 32  // bytes of a payload that is written as hexadecimal digits
	maxText  = 256 // bytes of a text
	maxDepth = 8   // of nests
	// maxMessage bounds a message's text: more than one fits into a line.
	maxMessage = 1900
)

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// messages splits a datagram into messages, up to the first malformed one.
func messages(b []byte) (all []header) {
	for len(b) >= unix.NLMSG_HDRLEN {
		length := binary.NativeEndian.Uint32(b)
		if length < unix.NLMSG_HDRLEN || uint64(length) > uint64(len(b)) {
			break
		}
		all = append(all, header{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]),
			binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:length]})
		b = b[min(align(int(length)), len(b)):]
	}
	return all
}

// An attribute is a struct nlattr, without the flags of its type.
type attribute struct {
	typ     uint16
	payload []byte
}

// attributes splits a message or nest into attributes, up to the first malformed one.
func attributes(b []byte) (all []attribute) {
	for len(b) >= unix.NLA_HDRLEN {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.NLA_HDRLEN || length > len(b) {
			break
		}
		typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		all = append(all, attribute{typ, b[unix.NLA_HDRLEN:length:length]})
		b = b[min(align(length), len(b)):]
	}
	return all
}

// decode returns a message as text. Attributes of a reply that have no name here are left out.
func (s *Socket) decode(h header, sent bool) string {
	data := h.data
	name, fixed, nest := kindOf(s.protocol, h.typ)
	d := decoder{all: sent}
	d.add("%s%s", name, flagNames(h, isGet(s.protocol, h.typ)))
	family := byte(unix.AF_UNSPEC)
	if len(data) > 0 {
		family = data[0]
	}
	if nest == "link" && family == unix.AF_BRIDGE {
		nest = "bridgeport"
	}
	rest := d.fixed(fixed, data)
	if nest == "" {
		d.payload(" ", "", rest)
	} else {
		d.attributes(nest, rest, 0)
	}
	if d.left > 0 {
		d.add(" +%d attributes", d.left)
	}
	return d.String()
}

// A decoder writes a message as text of a bounded length.
type decoder struct {
	strings.Builder
	all  bool // also attributes without a name
	left int  // attributes that are left out
}

func (d *decoder) add(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); d.Len()+len(text) <= maxMessage {
		d.WriteString(text)
	}
}

// fixed writes the fields of a fixed header that are not zero, and returns what follows it. A
// field is written NAME/SIZE.
func (d *decoder) fixed(fields string, data []byte) (rest []byte) {
	for _, field := range strings.Fields(fields) {
		name, text, _ := strings.Cut(field, "/")
		size, _ := strconv.Atoi(text)
		if len(data) < size {
			return nil
		}
		if v := number(binary.NativeEndian, data[:size]); name != "" && v != 0 {
			format := " %s=%d"
			if strings.HasSuffix(name, "flags") || name == "change" || name == "handle" || name == "parent" {
				format = " %s=%#x"
			}
			d.add(format, name, v)
		}
		data = data[size:]
	}
	return data
}

// number reads a number of 1, 2, 4 or 8 bytes.
func number(order binary.ByteOrder, b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(order.Uint16(b))
	case 4:
		return uint64(order.Uint32(b))
	case 8:
		return order.Uint64(b)
	}
	return 0
}

// attributes writes the attributes of a nest that [layout] describes.
func (d *decoder) attributes(nest string, b []byte, depth int) {
	prefix, list := layout(nest)
	chosen := "" // the kind of an expression or link, on which its data depends
	for _, a := range attributes(b) {
		typ, payload := a.typ, a.payload
		name, kind := find(list, typ)
		switch {
		case d.Len() > maxMessage*9/10:
			d.left++
			continue
		case name == "" && !d.all, kind == "-" && !d.all:
			d.left++
			continue
		case name == "":
			d.add(" #%d[%d]=%s", typ, len(payload), digits(payload))
			continue
		}
		if kind == "s" {
			chosen = string(trimNUL(payload))
		}
		if kind == "?" {
			kind = nest + " " + chosen
			if _, known := layout(kind); known == "" {
				kind = "x"
			}
		}
		if len(kind) <= 1 || depth >= maxDepth {
			d.payload(" "+prefix+name+"=", kind, payload)
			continue
		}
		if inside, ok := strings.CutPrefix(kind, "@"); ok {
			kind, payload = inside, payload[min(unix.SizeofIfInfomsg, len(payload)):]
		}
		d.add(" %s%s={", prefix, name)
		d.attributes(kind, payload, depth+1)
		d.WriteString(" }") // add leaves room for as many as are open
	}
}

// payload writes a payload of a kind: see [layout].
func (d *decoder) payload(name, kind string, b []byte) {
	text := ""
	switch addr, is := netip.AddrFromSlice(b); {
	case kind == "s":
		text = quote(trimNUL(b))
	case kind == "a" && is:
		text = addr.String()
	case kind == "I" && len(b) == 4:
		text = strconv.Itoa(int(int32(binary.BigEndian.Uint32(b))))
	case kind == "i" && len(b) == 4:
		text = strconv.Itoa(int(int32(binary.NativeEndian.Uint32(b))))
	case (kind == "n" || kind == "N") && (len(b) == 1 || len(b) == 2 || len(b) == 4 || len(b) == 8):
		order := binary.ByteOrder(binary.NativeEndian)
		if kind == "N" {
			order = binary.BigEndian
		}
		text = strconv.FormatUint(number(order, b), 10)
	case kind == "m" && len(b) == 6:
		text = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
	case len(b) == 0 && name == " ":
		return
	default:
		text = digits(b)
	}
	d.add("%s%s", name, text)
}

// digits returns bytes as hexadecimal digits, at most some of them.
func digits(b []byte) string {
	if len(b) > maxHex {
		return "0x" + hex.EncodeToString(b[:maxHex]) + fmt.Sprintf("...(%d bytes)", len(b))
	}
	return "0x" + hex.EncodeToString(b)
}

func trimNUL(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// quote returns a text in quotation marks, with escapes for all but printable ASCII.
func quote(b []byte) string {
	if len(b) > maxText {
		return strconv.QuoteToASCII(string(b[:maxText])) + "..."
	}
	return strconv.QuoteToASCII(string(b))
}
