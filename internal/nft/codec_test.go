package nft

import (
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
)

func TestCommentAmongOtherUserData(t *testing.T) {
	tests := []struct {
		data []byte
		want string
	}{
		{[]byte{1, 2, 7, 7, commentTag, 3, 'h', 'i', 0}, "hi"},
		{[]byte{commentTag, 0}, ""},
		{nil, ""},
		{[]byte{commentTag}, ""},
		{[]byte{commentTag, 4, 'h', 'i', 0}, ""},
		{[]byte("ID:5d1f"), ""}, // as agents of other firewalls write it
	}
	for _, tt := range tests {
		c := &codec{r: []netlink.Attribute{{Type: 1, Data: tt.data}}}
		if got := c.comment(1, ""); got != tt.want || c.err != nil {
			t.Errorf("%v: got %q, %v", tt.data, got, c.err)
		}
	}
}

func TestCodecRefusesWrongSizesAndValues(t *testing.T) {
	tests := map[string]func(*codec){
		"attribute 1 has 3 bytes instead of 4":  func(c *codec) { number(c, 1, uint32(0)) },
		"attribute 1 has 3 bytes instead of 8":  func(c *codec) { c.long(1, 0) },
		"attribute 2 is out of range: 257":      func(c *codec) { number(c, 2, Family(0)) },
		"attribute 2 is 257 instead of 1":       func(c *codec) { c.constant(2, 1) },
		"attribute 2 has unknown flags 0x100":   func(c *codec) { c.flag(2, 1, false) },
		"attribute 5 has 1 bytes instead of 12": func(c *codec) { c.takeN(5, 12) },
	}
	for want, pass := range tests {
		c := &codec{r: []netlink.Attribute{{Type: 1, Data: []byte{0, 0, 0}}, {Type: 2, Data: []byte{0, 0, 1, 1}}, {Type: 5, Data: []byte{1}}}}
		if pass(c); c.err == nil || c.err.Error() != want {
			t.Errorf("got %v, want %s", c.err, want)
		}
		c.fail(errors.New("later"))
		if c.err.Error() != want {
			t.Errorf("the first error is lost: %v", c.err)
		}
	}
}
