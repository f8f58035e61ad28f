package nft

import (
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// An Element is an element of a set or map.
type Element struct {
	Key     []byte // see [Concat]
	Data    []byte // in a map
	Comment string // up to 253 bytes, as nft shows it
}

// Concat joins the fields of a concatenation: each is filled up with NUL to
// the 4 bytes of a register.
func Concat(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, f...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	return b
}

// Name is an interface name as a key or as data to compare with (IFNAMSIZ).
func Name(ifname string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, ifname)
	return b
}

// Elements are elements to add to a set, or to delete from it by their keys.
type Elements struct {
	Set  Set
	List []Element
}

// perMessage bounds the elements of one message, an attribute of less than 64 KiB.
// The largest has a key and data of 64 bytes each and user data of 256, with seven
// attribute headers and the alignment of three values.
const perMessage = 150

func (e Elements) String() string {
	s := "elements of " + e.Set.String()
	if len(e.List) == 1 && e.List[0].Comment != "" {
		s += ` "` + e.List[0].Comment + `"`
	}
	return s
}

func (e Elements) kind() (uint16, Family) { return unix.NFT_MSG_NEWSETELEM, e.Set.Table.Family }

func (e Elements) identify(c *nl.Codec) {
	keys := Elements{e.Set, make([]Element, len(e.List))}
	for i, el := range e.List {
		keys.List[i].Key = el.Key
	}
	keys.define(c)
}

func (e Elements) define(c *nl.Codec) {
	c.Text(unix.NFTA_SET_ELEM_LIST_TABLE, e.Set.Table.Name)
	c.Text(unix.NFTA_SET_ELEM_LIST_SET, e.Set.Name)
	if len(e.List) > 0 {
		passElements(c, e.List)
	}
}

func passElements(c *nl.Codec, list []Element) []Element {
	return nl.List(c, unix.NFTA_SET_ELEM_LIST_ELEMENTS, unix.NFTA_LIST_ELEM, list, func(c *nl.Codec, e Element) Element {
		e.Key = value(c, unix.NFTA_SET_ELEM_KEY, e.Key)
		e.Data = value(c, unix.NFTA_SET_ELEM_DATA, e.Data)
		e.Comment = comment(c, unix.NFTA_SET_ELEM_USERDATA, e.Comment)
		return e
	})
}

func readElements(_ Family, c *nl.Codec) []Element { return passElements(c, nil) }
