package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A Type is a data type of nft (enum datatypes of its datatype.h). The kernel
// only keeps it, so that nft can print elements.
type Type uint8

// The types of keys and data.
const (
	VerdictType Type = 1  // data of a verdict map
	IPv4Addr    Type = 7  // ipv4_addr, 4 bytes
	IPv6Addr    Type = 8  // ipv6_addr, 16 bytes
	EtherAddr   Type = 9  // ether_addr, 6 bytes
	InetProto   Type = 12 // inet_proto, 1 byte
	InetService Type = 13 // inet_service: a port, 2 bytes in network byte order
	Mark        Type = 19 // mark, 4 bytes in host byte order
	IfName      Type = 41 // ifname, IFNAMSIZ bytes filled up with NUL
)

func (t Type) size() uint32 {
	switch t {
	case IPv4Addr, Mark:
		return 4
	case IPv6Addr, IfName:
		return 16
	case EtherAddr:
		return 6
	case InetProto:
		return 1
	case InetService:
		return 2
	}
	return 0
}

// userData tells nft how to print keys of the type: {type, length, value} with
// NFTNL_UDATA_SET_KEYBYTEORDER of libnftnl's udata.h and nft's enum byteorder.
func (t Type) userData() []byte {
	const keyByteOrder, hostEndian, bigEndian = 0, 1, 2
	order := uint32(bigEndian)
	if t == IfName || t == Mark {
		order = hostEndian
	}
	return binary.NativeEndian.AppendUint32([]byte{keyByteOrder, 4}, order)
}

// typeBits is TYPE_BITS of nft's datatype.h: a concatenation is written as one
// number.
const typeBits = 6

// layout returns the number and size in bytes of a type or concatenation.
func layout(types []Type) (number, size uint32) {
	if len(types) == 1 {
		return uint32(types[0]), types[0].size()
	}
	for _, t := range types {
		number = number<<typeBits | uint32(t)
		size += (t.size() + 3) &^ 3 // each field starts at a register of 4 bytes
	}
	return number, size
}

// A Set is a named set of keys, or with Data a map.
type Set struct {
	Table Table
	Name  string
	Key   []Type // several make a concatenation, see [Concat]
	Data  []Type // of a map; [VerdictType] alone makes a verdict map
}

func (s Set) String() string {
	kind := "set "
	if len(s.Data) > 0 {
		kind = "map "
	}
	return kind + s.Table.name() + " " + s.Name
}

func (s Set) path(c *codec) {
	c.text(unix.NFTA_SET_TABLE, s.Table.Name)
	c.text(unix.NFTA_SET_NAME, s.Name)
}

func (s Set) create() []request {
	return []request{{unix.NFT_MSG_NEWSET, 0, s.Table.Family, func(c *codec) {
		s.path(c)
		var flags uint32
		if len(s.Data) > 0 {
			flags = unix.NFT_SET_MAP
		}
		number(c, unix.NFTA_SET_FLAGS, flags)
		key, size := layout(s.Key)
		number(c, unix.NFTA_SET_KEY_TYPE, key)
		number(c, unix.NFTA_SET_KEY_LEN, size)
		if len(s.Data) > 0 {
			data, size := layout(s.Data)
			if data == uint32(VerdictType) {
				data = unix.NFT_DATA_VERDICT
			}
			number(c, unix.NFTA_SET_DATA_TYPE, data)
			number(c, unix.NFTA_SET_DATA_LEN, size)
		}
		// Required, though it only serves to refer to a set without a name.
		number(c, unix.NFTA_SET_ID, uint32(1))
		if len(s.Key) == 1 {
			c.octets(unix.NFTA_SET_USERDATA, s.Key[0].userData())
		}
	}}}
}

func (s Set) remove() []request {
	return []request{{unix.NFT_MSG_DELSET, 0, s.Table.Family, s.path}}
}

func (s Set) get() request {
	return request{unix.NFT_MSG_GETSET, 0, s.Table.Family, s.path}
}

// flush takes the set's elements away.
func (s Set) flush() request {
	return s.elements(unix.NFT_MSG_DELSETELEM, nil)
}
