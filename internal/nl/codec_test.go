package nl

import (
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
)

func TestCodecRefusesWrongSizesAndValues(t *testing.T) {
	tests := map[string]func(*Codec){
		"attribute 1 has 3 bytes instead of 4":  func(c *Codec) { Number(c, 1, uint32(0)) },
		"attribute 1 has 3 bytes instead of 8":  func(c *Codec) { c.Fixed(1, make([]byte, 8)) },
		"attribute 2 is 257 instead of 1":       func(c *Codec) { c.Constant(2, 1) },
		"attribute 2 has unknown flags 0x100":   func(c *Codec) { c.Flag(2, 1, false) },
		"attribute 5 has 1 bytes instead of 12": func(c *Codec) { c.Fixed(5, make([]byte, 12)) },
	}
	for want, pass := range tests {
		c := &Codec{r: []netlink.Attribute{{Type: 1, Data: []byte{0, 0, 0}}, {Type: 2, Data: []byte{0, 0, 1, 1}}, {Type: 5, Data: []byte{1}}}}
		if pass(c); c.err == nil || c.err.Error() != want {
			t.Errorf("got %v, want %s", c.err, want)
		}
		c.Fail(errors.New("later"))
		if c.err.Error() != want {
			t.Errorf("the first error is lost: %v", c.err)
		}
	}
}
