package nft

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The groups of interfaces (ip-link(8)), numbers of 4 bytes in host byte order.
const (
	MetaIifGroup MetaKey = unix.NFT_META_IIFGROUP // of the input interface
	MetaOifGroup MetaKey = unix.NFT_META_OIFGROUP // of the output interface
)

// A Bounded is a Set with a limit to its elements, beyond which adding one is
// ENFILE. Kernels before 6.5 count the elements of no other set, see
// [Batch.DeleteEmpty].
type Bounded struct {
	Set
	Size uint32
}

func (s Bounded) create() []request {
	all := s.Set.create()
	set := all[0].pass
	all[0].pass = func(c *codec) {
		set(c)
		c.nest(unix.NFTA_SET_DESC, func(n *codec) { number(n, unix.NFTA_SET_DESC_SIZE, s.Size) })
	}
	return all
}

// DeleteEmpty deletes sets that must have no elements, not even such as the
// same batch deletes: otherwise Commit's error is EBUSY (NLM_F_NONREC).
func (b *Batch) DeleteEmpty(sets ...Bounded) {
	for _, s := range sets {
		b.put("delete", s, netlink.HeaderFlags(unix.NLM_F_NONREC), s.remove())
	}
}

// Insert adds rules at the beginning of their chains; the last one is first.
func (b *Batch) Insert(rules ...Rule) {
	for _, r := range rules {
		requests := r.create()
		requests[0].flags &^= netlink.Append
		b.put("insert", r, netlink.Create, requests)
	}
}
