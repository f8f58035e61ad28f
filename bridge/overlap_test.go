package bridge

import (
	"errors"
	"strings"
	"testing"

	"flatnet/internal/nl"
	"flatnet/rtnl"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// The interface that has an address of the subnet may be the bridge itself, made
// after it was looked for, or be gone when it is asked for its name.
func TestOverlapWithWhatComesAndGoes(t *testing.T) {
	for name, conflict := range map[string]bool{"other": true, DefaultBridge: false, "": false} {
		c := rtnl.New(nl.New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
			ae := netlink.NewAttributeEncoder()
			switch reqs[0].Header.Type {
			case unix.RTM_GETADDR: // 10.87.1.1/24 of the interface 7
				ae.Bytes(unix.IFA_ADDRESS, []byte{10, 87, 1, 1})
				attrs, err := ae.Encode()
				if err != nil {
					return nil, err
				}
				msgs, err := reply(reqs[0], unix.RTM_NEWADDR, append([]byte{unix.AF_INET, 24, 0, 0, 7, 0, 0, 0}, attrs...))
				msgs[0].Header.Flags = netlink.Multi
				end, _ := done(reqs[0])
				return append(msgs, end...), err
			case unix.RTM_GETLINK:
				if name == "" {
					return answer(int(unix.ENODEV), reqs)
				}
				ae.String(unix.IFLA_IFNAME, name)
				attrs, err := ae.Encode()
				if err != nil {
					return nil, err
				}
				return reply(reqs[0], unix.RTM_NEWLINK, append(make([]byte, unix.SizeofIfInfomsg), attrs...))
			}
			return done(reqs[0])
		})))
		n := flatNetwork()
		n.Subnets = []Subnet{{pfx("10.87.1.0/24"), ip("10.87.1.1")}}
		err := checkOverlap(c, bridgeState{}, n, n.prefixes())
		if errors.Is(err, ErrConflict) != conflict || conflict && !strings.Contains(err.Error(), "interface other") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
