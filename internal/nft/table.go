package nft

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// A Family is an address family of nf_tables (NFPROTO_* of linux/netfilter.h).
type Family uint32

// The families.
const (
	Inet   Family = unix.NFPROTO_INET // IPv4 and IPv6
	IPv4   Family = unix.NFPROTO_IPV4
	Netdev Family = unix.NFPROTO_NETDEV // frames of single devices
	Bridge Family = unix.NFPROTO_BRIDGE
	IPv6   Family = unix.NFPROTO_IPV6
)

// String is the family's name in nft's language.
func (f Family) String() string {
	names := map[Family]string{Inet: "inet", IPv4: "ip", Netdev: "netdev", Bridge: "bridge", IPv6: "ip6"}
	return cmp.Or(names[f], fmt.Sprintf("family %d", uint32(f)))
}

// option is the family's name in CONFIG_ options.
func (f Family) option() string {
	return cmp.Or(map[Family]string{IPv4: "IPV4", IPv6: "IPV6"}[f], strings.ToUpper(f.String()))
}

// A Table contains chains and sets.
type Table struct {
	Family Family
	Name   string
}

func (t Table) name() string   { return t.Family.String() + " " + t.Name }
func (t Table) String() string { return "table " + t.name() }

func (t Table) kind() (uint16, Family) { return unix.NFT_MSG_NEWTABLE, t.Family }
func (t Table) identify() []byte       { return nl.Text(unix.NFTA_TABLE_NAME, t.Name) }
func (t Table) define() []byte {
	return append(t.identify(), number(unix.NFTA_TABLE_FLAGS, uint32(0))...)
}

// with identifies an object of the table, whose name has the same number in all messages:
// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE and so on.
func (t Table) with(typ uint16, name string) []byte {
	return append(t.identify(), nl.Text(typ, name)...)
}

// A Hook is where packets enter a base chain (enum nf_inet_hooks; the numbers
// of the bridge family's NF_BR_* are the same, and Netdev has its own).
type Hook uint32

// The hooks.
const (
	Ingress     Hook = unix.NF_NETDEV_INGRESS // what the chain's device receives
	Prerouting  Hook = unix.NF_INET_PRE_ROUTING
	Input       Hook = unix.NF_INET_LOCAL_IN
	Forward     Hook = unix.NF_INET_FORWARD
	Output      Hook = unix.NF_INET_LOCAL_OUT
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

// A ChainType is the type of a base chain.
type ChainType string

// The types of base chains.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
)

// A Chain is a list of rules. With a Type it is a base chain, which packets
// enter at a hook; without, rules jump to it.
type Chain struct {
	Table Table
	Name  string

	Type     ChainType
	Hook     Hook
	Device   string // of a base chain of the Netdev family; see [Conn.Chain]
	Priority int32  // lowest first; NF_IP_PRI_* of linux/netfilter_ipv4.h
	Drop     bool   // the policy: what reaches the end is dropped instead of accepted
}

// String names a chain or, without a name, all of a table's.
func (ch Chain) String() string {
	if ch.Name == "" {
		return "chains of " + ch.Table.String()
	}
	return "chain " + ch.Table.name() + " " + ch.Name
}

func (ch Chain) kind() (uint16, Family) { return unix.NFT_MSG_NEWCHAIN, ch.Table.Family }

func (ch Chain) identify() []byte { return ch.Table.with(unix.NFTA_CHAIN_NAME, ch.Name) }

func (ch Chain) define() []byte {
	if ch.Type == "" {
		return ch.identify()
	}
	policy := Accept
	if ch.Drop {
		policy = Drop
	}
	return slices.Concat(ch.identify(), nl.Text(unix.NFTA_CHAIN_TYPE, string(ch.Type)), number(unix.NFTA_CHAIN_POLICY, policy),
		nl.Nest(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, ch.Hook), number(unix.NFTA_HOOK_PRIORITY, ch.Priority),
			nl.Text(unix.NFTA_HOOK_DEV, ch.Device)))
}

func readChain(family Family, r nl.Reader) Chain {
	hook := r.Nest(unix.NFTA_CHAIN_HOOK)
	return Chain{
		Table:    Table{family, r.Text(unix.NFTA_CHAIN_TABLE)},
		Name:     r.Text(unix.NFTA_CHAIN_NAME),
		Type:     ChainType(r.Text(unix.NFTA_CHAIN_TYPE)),
		Hook:     Hook(u32(hook, unix.NFTA_HOOK_HOOKNUM)),
		Device:   hook.Text(unix.NFTA_HOOK_DEV),
		Priority: int32(u32(hook, unix.NFTA_HOOK_PRIORITY)),
		Drop:     r.Octets(unix.NFTA_CHAIN_POLICY) != nil && u32(r, unix.NFTA_CHAIN_POLICY) == uint32(Drop),
	}
}

// A Type is a data type of nft: its number (enum datatypes of nft's datatype.h) in
// the upper byte, its size in the lower one. The kernel only keeps the number, so
// that nft can print elements.
type Type uint16

// The types of keys and data.
const (
	IPv4Addr    Type = 7<<8 | 4   // ipv4_addr
	IPv6Addr    Type = 8<<8 | 16  // ipv6_addr
	EtherAddr   Type = 9<<8 | 6   // ether_addr
	InetProto   Type = 12<<8 | 1  // inet_proto
	InetService Type = 13<<8 | 2  // inet_service: a port in network byte order
	IfName      Type = 41<<8 | 16 // ifname: IFNAMSIZ bytes filled up with NUL
)

// Types are up to three types, which are a concatenation if there are several (see
// [Concat]).
type Types [3]Type

// layout returns the number and size in bytes of a type or concatenation.
func (types Types) layout() (number, size uint32) {
	padding := uint32(0)
	if types[1] != 0 {
		padding = 3 // each field starts at a register of 4 bytes
	}
	for _, t := range types {
		if t != 0 {
			number = number<<6 | uint32(t>>8) // TYPE_BITS of nft's datatype.h
		}
		size += (uint32(t&0xff) + padding) &^ padding
	}
	return number, size
}

// A Set is a named set of keys, or with Data a map.
type Set struct {
	Table Table
	Name  string
	Key   Types
	Data  Types // of a map
}

func (s Set) String() string {
	kind := "set "
	if s.Data[0] != 0 {
		kind = "map "
	}
	return kind + s.Table.name() + " " + s.Name
}

func (s Set) kind() (uint16, Family) { return unix.NFT_MSG_NEWSET, s.Table.Family }

func (s Set) identify() []byte { return s.Table.with(unix.NFTA_SET_NAME, s.Name) }

func (s Set) define() []byte {
	var flags uint32
	if s.Data[0] != 0 {
		flags = unix.NFT_SET_MAP
	}
	key, keySize := s.Key.layout()
	data, dataSize := s.Data.layout()
	b := slices.Concat(s.identify(), number(unix.NFTA_SET_FLAGS, flags),
		number(unix.NFTA_SET_KEY_TYPE, key), number(unix.NFTA_SET_KEY_LEN, keySize),
		nonzero(unix.NFTA_SET_DATA_TYPE, data), nonzero(unix.NFTA_SET_DATA_LEN, dataSize),
		// Required, though it only serves to refer to a set without a name.
		number(unix.NFTA_SET_ID, uint32(1)))
	if s.Key[1] == 0 {
		b = append(b, nl.Attr(unix.NFTA_SET_USERDATA, keyByteOrder(s.Key[0]))...)
	}
	return b
}

// keyByteOrder is user data for nft, which prints keys by it: {type, length, value}
// with NFTNL_UDATA_SET_KEYBYTEORDER of libnftnl's udata.h and nft's enum byteorder.
func keyByteOrder(t Type) []byte {
	const keyByteOrder, hostEndian, bigEndian = 0, 1, 2
	if t == IfName {
		return binary.NativeEndian.AppendUint32([]byte{keyByteOrder, 4}, hostEndian)
	}
	return binary.NativeEndian.AppendUint32([]byte{keyByteOrder, 4}, bigEndian)
}

// An Element is an element of a set or map.
type Element struct {
	Set     Set
	Key     string // see [Concat]
	Data    string // in a map
	Comment string // up to 253 bytes, as nft shows it
}

// Place returns an element without anything that is not part of its identity: a set
// has one element at a place.
func (e Element) Place() Element { return Element{Set: e.Set, Key: e.Key} }

// Concat joins the fields of a concatenation: each is filled up with NUL to
// the 4 bytes of a register.
func Concat(fields ...[]byte) string {
	var b []byte
	for _, f := range fields {
		b = append(b, f...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	return string(b)
}

// Name is an interface name as a key or as data to compare with (IFNAMSIZ).
func Name(ifname string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, ifname)
	return b
}

// Elements are elements to add to their sets, or to delete from these by their keys.
type Elements []Element

// perMessage bounds the elements of one message, an attribute of less than 64 KiB.
// The largest has a key and data of 64 bytes each and user data of 256, with seven
// attribute headers and the alignment of three values.
const perMessage = 150

// messages divides elements into those of each set that fit into one message.
func (all Elements) messages() (lists []Elements) {
	last := map[Set]int{} // index of a set's last list
	for _, e := range all {
		i, found := last[e.Set]
		if !found || len(lists[i]) == perMessage {
			i = len(lists)
			last[e.Set] = i
			lists = append(lists, nil)
		}
		lists[i] = append(lists[i], e)
	}
	return lists
}

func (all Elements) String() string {
	s := "elements of " + all[0].Set.String()
	if len(all) == 1 && all[0].Comment != "" {
		s += ` "` + all[0].Comment + `"`
	}
	return s
}

func (all Elements) kind() (uint16, Family) { return unix.NFT_MSG_NEWSETELEM, all[0].Set.Table.Family }

func (all Elements) identify() []byte {
	places := make(Elements, len(all))
	for i, e := range all {
		places[i] = e.Place()
	}
	return places.define()
}

func (all Elements) define() []byte {
	var items []byte
	for _, e := range all {
		items = append(items, nl.Nest(unix.NFTA_LIST_ELEM, value(unix.NFTA_SET_ELEM_KEY, []byte(e.Key)),
			value(unix.NFTA_SET_ELEM_DATA, []byte(e.Data)), comment(unix.NFTA_SET_ELEM_USERDATA, e.Comment))...)
	}
	return append(all[0].Set.identify(), nl.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, items)...)
}

// elements decodes a message about elements of the set.
func (s Set) elements(_ Family, r nl.Reader) (found []Element) {
	for _, e := range r.List(unix.NFTA_SET_ELEM_LIST_ELEMENTS, unix.NFTA_LIST_ELEM) {
		found = append(found, Element{
			Set:     s,
			Key:     string(e.Nest(unix.NFTA_SET_ELEM_KEY).Octets(unix.NFTA_DATA_VALUE)),
			Data:    string(e.Nest(unix.NFTA_SET_ELEM_DATA).Octets(unix.NFTA_DATA_VALUE)),
			Comment: commentIn(e.Octets(unix.NFTA_SET_ELEM_USERDATA)),
		})
	}
	return found
}

// allElements are the elements of a set, which is identified as the set itself is:
// NFTA_SET_ELEM_LIST_TABLE and _SET are the same numbers.
type allElements struct{ Set }

func (s allElements) String() string         { return "elements of " + s.Set.String() }
func (s allElements) kind() (uint16, Family) { return unix.NFT_MSG_NEWSETELEM, s.Table.Family }
