package nft

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// An Element is an element of a set or map.
type Element struct {
	Key     []byte   // see [Concat]
	Data    []byte   // in a map
	Verdict *Verdict // in a verdict map
	Comment string   // up to 253 bytes, as nft shows it
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

func (e Elements) String() string {
	s := "elements of " + e.Set.String()
	if len(e.List) == 1 && e.List[0].Comment != "" {
		s += ` "` + e.List[0].Comment + `"`
	}
	return s
}

// listSize bounds the elements of one message: an attribute has less than 64 KiB.
const listSize = 60_000

func (e Elements) create() []request {
	return e.requests(unix.NFT_MSG_NEWSETELEM, e.List)
}

func (e Elements) remove() []request {
	return e.requests(unix.NFT_MSG_DELSETELEM, keys(e.List))
}

// requests are as few messages as possible.
func (e Elements) requests(msg uint16, list []Element) (out []request) {
	for len(list) > 0 {
		n, size := 1, list[0].size()
		for n < len(list) && size+list[n].size() <= listSize {
			size += list[n].size()
			n++
		}
		out = append(out, e.Set.elements(msg, list[:n]))
		list = list[n:]
	}
	return out
}

// size is at least the size of the element's nest. Its seven attribute headers
// and the alignment of its four values are within the constant.
func (e Element) size() int {
	n := 64 + len(e.Key) + len(e.Data) + len(e.Comment)
	if e.Verdict != nil {
		n += 16 + len(e.Verdict.Chain)
	}
	return n
}

func keys(elements []Element) []Element {
	out := make([]Element, len(elements))
	for i, e := range elements {
		out[i].Key = e.Key
	}
	return out
}

// elements is a request about elements of the set, or without any about all.
func (s Set) elements(msg uint16, elements []Element) request {
	return request{msg, 0, s.Table.Family, func(c *codec) {
		c.text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
		c.text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		if elements != nil {
			list(c, unix.NFTA_SET_ELEM_LIST_ELEMENTS, elements, passElement)
		}
	}}
}

func passElement(c *codec, e Element) Element {
	e.Key = c.value(unix.NFTA_SET_ELEM_KEY, e.Key)
	if e.Data != nil || e.Verdict != nil || c.has(unix.NFTA_SET_ELEM_DATA) {
		c.nest(unix.NFTA_SET_ELEM_DATA, func(n *codec) {
			switch {
			case e.Verdict != nil:
				e.Verdict.data(n)
			case n.has(unix.NFTA_DATA_VERDICT):
				v := Verdict{}.data(n)
				e.Verdict = &v
			default:
				e.Data = n.octets(unix.NFTA_DATA_VALUE, e.Data)
			}
		})
	}
	e.Comment = c.comment(unix.NFTA_SET_ELEM_USERDATA, e.Comment)
	return e
}

func decodeElements(m netlink.Message) ([]Element, error) {
	var out []Element
	_, err := decodeMessage(m, func(c *codec) {
		out = list(c, unix.NFTA_SET_ELEM_LIST_ELEMENTS, nil, passElement)
	})
	return out, err
}
