package nft

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

func seed(f *testing.F, typ uint16) {
	for _, g := range golden {
		if data, err := hex.DecodeString(g.data); err == nil && g.typ == msgType(typ) {
			f.Add(data)
		}
	}
}

// one decodes a message about one object.
func one[T any](m netlink.Message, decode func(Family, nl.Reader) T) (v T, err error) {
	err = read([]netlink.Message{m}, func(f Family, r nl.Reader) { v = decode(f, r) })
	return v, err
}

// What was read can be written, and is then read as the same.
func FuzzRule(f *testing.F) {
	seed(f, unix.NFT_MSG_NEWRULE)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := one(netlink.Message{Data: data}, readRule)
		if err != nil {
			return
		}
		if len(data) > 1<<16-1<<10 {
			return // with what is added it may not fit into an attribute
		}
		if slices.ContainsFunc(r.Exprs, func(e Expr) bool { return e.Name == "" && len(e.Data) == 0 }) {
			return // what is empty is not written
		}
		again, err := one(encode(r, newMsg, 0), readRule)
		if err != nil || !again.Equal(r) {
			t.Errorf("got %+v, %v, want %+v", again, err, r)
		}
	})
}

func FuzzElements(f *testing.F) {
	seed(f, unix.NFT_MSG_NEWSETELEM)
	f.Fuzz(func(t *testing.T, data []byte) {
		elements, err := one(netlink.Message{Data: data}, ports.elements)
		if err != nil || elements == nil || len(data) > 1<<14 || slices.Contains(elements, Element{Set: ports}) {
			return
		}
		m := encode(Elements(elements), newMsg, 0)
		if again, err := one(m, ports.elements); err != nil || !slices.Equal(again, elements) {
			t.Fatalf("got %+v, %v, want %+v", again, err, elements)
		}
	})
}
