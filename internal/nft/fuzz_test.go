package nft

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func seed(f *testing.F, typ uint16) {
	for _, g := range golden {
		if data, err := hex.DecodeString(g.data); err == nil && g.typ == msgType(typ) {
			f.Add(data)
		}
	}
}

// What was read can be written, and is then read as the same.
func FuzzRule(f *testing.F) {
	seed(f, unix.NFT_MSG_NEWRULE)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRule(netlink.Message{Data: data})
		if err != nil {
			return
		}
		attrs, err := encode(func(c *codec) { r.pass(c) })
		if err != nil {
			return // a name with a NUL byte
		}
		again, err := decodeRule(netlink.Message{Data: append([]byte{byte(r.Table.Family), 0, 0, 0}, attrs...)})
		if err != nil || again.Handle != r.Handle || !again.Equal(r) {
			t.Errorf("got %+v, %v, want %+v", again, err, r)
		}
	})
}

func FuzzElements(f *testing.F) {
	seed(f, unix.NFT_MSG_NEWSETELEM)
	f.Fuzz(func(t *testing.T, data []byte) {
		elements, err := decodeElements(netlink.Message{Data: data})
		if err != nil || elements == nil {
			return
		}
		m, err := Set{}.elements(0, elements).encode()
		if err != nil {
			return
		}
		again, err := decodeElements(m)
		if err != nil || len(again) != len(elements) {
			t.Fatalf("got %+v, %v, want %+v", again, err, elements)
		}
		for i, e := range elements {
			if a := again[i]; !bytes.Equal(a.Key, e.Key) || !bytes.Equal(a.Data, e.Data) || a.Comment != e.Comment ||
				(a.Verdict == nil) != (e.Verdict == nil) || a.Verdict != nil && *a.Verdict != *e.Verdict {
				t.Errorf("got %+v, want %+v", a, e)
			}
		}
	})
}
