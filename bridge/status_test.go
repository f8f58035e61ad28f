package bridge

import (
	"errors"
	"strings"
	"testing"

	"flatnet/internal/nft"
	"flatnet/internal/nl"
	"flatnet/rtnl"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// bareKernel has no links, and can make links of all kinds but one.
func bareKernel(lacks string) *Host {
	route := func() (*rtnl.Conn, error) {
		return rtnl.New(nl.New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
			if len(reqs) == 0 {
				return nil, errors.New("nothing was asked")
			}
			switch req := reqs[0]; req.Header.Type {
			case unix.RTM_GETLINK:
				if req.Header.Flags&netlink.Dump == netlink.Dump {
					return done(req)
				}
			case unix.RTM_GETADDR, unix.RTM_GETROUTE:
				return done(req)
			case unix.RTM_NEWLINK: // a link with a multicast MAC, as a question
				if strings.Contains(string(req.Data), lacks) {
					return answer(int(unix.EOPNOTSUPP), reqs)
				}
				return answer(int(unix.EADDRNOTAVAIL), reqs)
			}
			return answer(int(unix.ENODEV), reqs)
		}))), nil
	}
	return &Host{route: route, nft: func() (*nft.Conn, error) { return nil, nft.ErrUnsupported }}
}

func TestStatusNamesWhatTheKernelLacks(t *testing.T) {
	n := flatNetwork()
	n.IPMasq = false
	for lacks, want := range map[string]string{"bridge": "CONFIG_BRIDGE", "veth": "CONFIG_VETH"} {
		err := bareKernel(lacks).Status(n, &fakeAllocator{})
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrUnsupported) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("without %s: %v", lacks, err)
		}
	}
	if err := bareKernel("none").Status(n, &fakeAllocator{}); err != nil {
		t.Errorf("with all: %v", err)
	}
}

func TestStatusIsUnavailableWithoutAddresses(t *testing.T) {
	n := flatNetwork()
	n.IPMasq = false
	err := bareKernel("none").Status(n, &exhausted{})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrExhausted) {
		t.Errorf("%v", err)
	}
	n.NoAddress = true
	if err := bareKernel("none").Status(n, &exhausted{}); err != nil {
		t.Errorf("a network without addresses: %v", err)
	}
}

type exhausted struct{ fakeAllocator }

func (*exhausted) Free(Locals) error { return ErrExhausted }
