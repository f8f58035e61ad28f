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
func one[T any](m netlink.Message, read func(Family, *nl.Codec) []T) (v T, err error) {
	all, err := decode([]netlink.Message{m}, read)
	if len(all) == 1 {
		v = all[0]
	}
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
		m, err := encode(r, newMsg, 0)
		if err != nil {
			return // a name with a NUL byte
		}
		again, err := one(m, readRule)
		if err != nil || !again.Equal(r) {
			t.Errorf("got %+v, %v, want %+v", again, err, r)
		}
	})
}

func FuzzElements(f *testing.F) {
	seed(f, unix.NFT_MSG_NEWSETELEM)
	f.Fuzz(func(t *testing.T, data []byte) {
		elements, err := decode([]netlink.Message{{Data: data}}, readElements)
		if err != nil || elements == nil {
			return
		}
		m, err := encode(Elements(elements), newMsg, 0)
		if err != nil {
			return
		}
		if again, err := decode([]netlink.Message{m}, readElements); err != nil || !slices.Equal(again, elements) {
			t.Fatalf("got %+v, %v, want %+v", again, err, elements)
		}
	})
}
