package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"flatnet/internal/nft"
	"flatnet/internal/nl"
	"flatnet/internal/sysctl"
	"flatnet/ns"
	"flatnet/rtnl"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// A fakeKernel answers what an ADD and its undoing ask, keeps what they make,
// and refuses one message. It shows what the real kernel can't be made to do at
// will; that the messages are right, only the real one shows.
type fakeKernel struct {
	host, inside map[string]fakeLink
	tables       int
	next         int // index of the next link
	count        int // messages so far that change something or ask
	refuse       int // the message to refuse, counted from 1; 0: none
	refused      string
}

type fakeLink struct {
	name  string
	index int
	mac   []byte
	kind  string
	peer  int
}

var errRefused = unix.ENOBUFS

// refusedAdvice says whether the refused message was a question about tables of
// others or the uplink, which no verb depends on.
func (k *fakeKernel) refusedAdvice() bool {
	return k.refused == fmt.Sprintf("message type %d", unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN) ||
		k.refused == fmt.Sprintf("message type %d of one", unix.RTM_GETROUTE)
}

func newFake(refuse int) *fakeKernel {
	return &fakeKernel{host: map[string]fakeLink{}, inside: map[string]fakeLink{}, next: 10, refuse: refuse}
}

// conn connects to a part of the fake.
func (k *fakeKernel) conn(serve nltest.Func) *nl.Conn {
	return nl.New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
		if len(reqs) == 0 {
			return nil, errors.New("nothing was asked")
		}
		k.count++
		if k.count == k.refuse {
			k.refused = fmt.Sprintf("message type %d", reqs[0].Header.Type)
			if reqs[0].Header.Type == unix.RTM_GETROUTE && reqs[0].Header.Flags&netlink.Dump == 0 {
				k.refused += " of one"
			}
			return answer(int(errRefused), reqs)
		}
		return serve(reqs)
	}))
}

// route is rtnetlink with the links of one namespace.
func (k *fakeKernel) route(links map[string]fakeLink) *rtnl.Conn {
	return rtnl.New(k.conn(func(reqs []netlink.Message) ([]netlink.Message, error) {
		req := reqs[0]
		switch req.Header.Type {
		case unix.RTM_GETLINK:
			index := int(binary.NativeEndian.Uint32(req.Data[4:]))
			for name, l := range links {
				if name == fakeName(req.Data) || l.index == index {
					return reply(req, unix.RTM_NEWLINK, l.encode())
				}
			}
			if req.Header.Flags&netlink.Dump == netlink.Dump {
				return dump(req, links)
			}
			return answer(int(unix.ENODEV), reqs)
		case unix.RTM_GETNSID:
			return reply(req, unix.RTM_NEWNSID, []byte{0, 0, 0, 0, 8, 0, unix.NETNSA_NSID, 0, 0, 0, 0, 0})
		case unix.RTM_NEWLINK:
			if _, taken := links[fakeName(req.Data)]; taken {
				return answer(int(unix.EEXIST), reqs)
			}
			k.create(req.Data)
		case unix.RTM_DELLINK:
			index := int(binary.NativeEndian.Uint32(req.Data[4:]))
			maps.DeleteFunc(k.host, func(_ string, l fakeLink) bool { return l.index == index })
			clear(k.inside)
		case unix.RTM_GETADDR, unix.RTM_GETROUTE:
			if req.Header.Flags&netlink.Dump == 0 {
				return answer(int(unix.ENETUNREACH), reqs) // no default route
			}
			return done(req)
		}
		return answer(0, reqs)
	}))
}

// nft is nf_tables with one table.
func (k *fakeKernel) nft() (*nft.Conn, error) {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	return nft.New(k.conn(func(reqs []netlink.Message) ([]netlink.Message, error) {
		req := reqs[0]
		switch req.Header.Type {
		case subsystem | unix.NFT_MSG_GETRULE, subsystem | unix.NFT_MSG_GETCHAIN:
			return done(req)
		case subsystem | unix.NFT_MSG_GETTABLE:
			name := attributes(req.Data[4:])[unix.NFTA_TABLE_NAME]
			if k.tables == 0 || req.Data[0] != unix.NFPROTO_IPV4 || string(name) != "flatnet\x00" {
				return answer(int(unix.ENOENT), reqs)
			}
			return reply(req, subsystem|unix.NFT_MSG_NEWTABLE, make([]byte, 4))
		case subsystem | unix.NFT_MSG_GETGEN:
			return reply(req, subsystem|unix.NFT_MSG_NEWGEN, make([]byte, 4))
		}
		k.tables = 1
		if reqs[1].Header.Type == subsystem|unix.NFT_MSG_DELTABLE {
			k.tables = 0
		}
		return answer(0, reqs[len(reqs)-2:len(reqs)-1])
	})), nil
}

// answer acknowledges the first request, or refuses it. A request's NLM_F_EXCL
// is an answer's NLM_F_ACK_TLVS, so flags must not be sent back.
func answer(errno int, reqs []netlink.Message) ([]netlink.Message, error) {
	req := reqs[0]
	req.Header.Flags = 0
	return nltest.Error(errno, []netlink.Message{req})
}

func reply(req netlink.Message, typ netlink.HeaderType, data []byte) ([]netlink.Message, error) {
	h := netlink.Header{Type: typ, Sequence: req.Header.Sequence, PID: nltest.PID}
	return []netlink.Message{{Header: h, Data: data}}, nil
}

// done ends a dump of nothing.
func done(req netlink.Message) ([]netlink.Message, error) {
	msgs, err := reply(req, netlink.Done, make([]byte, 4))
	msgs[0].Header.Flags = netlink.Multi
	return msgs, err
}

// dump lists links.
func dump(req netlink.Message, links map[string]fakeLink) (msgs []netlink.Message, err error) {
	for _, l := range links {
		one, err := reply(req, unix.RTM_NEWLINK, l.encode())
		if err != nil {
			return nil, err
		}
		one[0].Header.Flags = netlink.Multi
		msgs = append(msgs, one...)
	}
	end, err := done(req)
	return append(msgs, end...), err
}

// attributes finds attributes by type.
func attributes(b []byte) map[uint16][]byte {
	found := map[uint16][]byte{}
	ad, err := netlink.NewAttributeDecoder(b)
	for err == nil && ad.Next() {
		found[ad.Type()] = ad.Bytes()
	}
	return found
}

func fakeName(b []byte) string {
	name := attributes(b[unix.SizeofIfInfomsg:])[unix.IFLA_IFNAME]
	return string(name[:max(0, len(name)-1)])
}

func (k *fakeKernel) create(b []byte) {
	attrs := attributes(b[unix.SizeofIfInfomsg:])
	info := attributes(attrs[unix.IFLA_LINKINFO])
	k.next += 2
	l := fakeLink{name: fakeName(b), index: k.next, mac: attrs[unix.IFLA_ADDRESS], kind: string(info[unix.IFLA_INFO_KIND])}
	if l.kind == "veth" {
		peer := attributes(info[unix.IFLA_INFO_DATA])[1]
		l.peer = k.next + 1
		k.inside[fakeName(peer)] = fakeLink{name: fakeName(peer), index: l.peer, mac: attributes(peer[unix.SizeofIfInfomsg:])[unix.IFLA_ADDRESS], peer: l.index, kind: "veth"}
	}
	k.host[l.name] = l
}

func (l fakeLink) encode() []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(l.index))
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.IFLA_ADDRESS, l.mac)
	ae.String(unix.IFLA_IFNAME, l.name)
	ae.Uint32(unix.IFLA_LINK, uint32(l.peer))
	ae.Int32(unix.IFLA_LINK_NETNSID, 0)
	ae.Nested(unix.IFLA_LINKINFO, func(n *netlink.AttributeEncoder) error {
		n.String(unix.IFLA_INFO_KIND, l.kind)
		return nil
	})
	attrs, err := ae.Encode()
	if err != nil {
		panic(err)
	}
	return append(b, attrs...)
}

// fakeAllocator leases one address, if it is not told to fail.
type fakeAllocator struct {
	leased bool
	fail   error
}

func (f *fakeAllocator) Lease(Key, []netip.Addr, Locals) (Lease, bool, error) {
	held := f.leased
	f.leased = f.fail == nil
	return Lease{Addresses: []Address{{pfx("10.87.1.2/24"), ip("10.87.1.1")}}}, held, f.fail
}

func (f *fakeAllocator) Release([]Key) ([]Key, error) {
	f.leased = false
	return nil, nil
}

func (f *fakeAllocator) Check(Key, []netip.Addr) error { return nil }
func (f *fakeAllocator) Keys() ([]Key, error)          { return nil, nil }
func (f *fakeAllocator) Free(Locals) error             { return nil }

// attachTo runs one ADD on a fake kernel.
func attachTo(t *testing.T, k *fakeKernel, alloc Allocator) error {
	t.Helper()
	_, err := attachNetwork(t, k, alloc, flatNetwork())
	return err
}

func attachNetwork(t *testing.T, k *fakeKernel, alloc Allocator, n Network) (Result, error) {
	t.Helper()
	proc := t.TempDir()
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/eth0/arp_notify", "net/ipv4/conf/" + DefaultBridge + "/forwarding"} {
		file := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := &Host{
		route:  func() (*rtnl.Conn, error) { return k.route(k.host), nil },
		nft:    k.nft,
		sysctl: sysctl.Dir(proc),
	}
	netns, err := ns.Current() // only its descriptor's number is used
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	inside := sandbox{Conn: k.route(k.inside), netns: netns, conf6: h.sysctl}
	return h.attach(k.route(k.host), inside, n, Request{Key: testKey}, alloc)
}

func TestAttachOnFakeKernel(t *testing.T) {
	k, alloc := newFake(0), &fakeAllocator{}
	if err := attachTo(t, k, alloc); err != nil {
		t.Fatal(err)
	}
	if len(k.host) != 2 || len(k.inside) != 1 || k.tables != 1 || !alloc.leased {
		t.Errorf("made %+v, leased %v", k, alloc.leased)
	}
}

// Whichever message is refused, a failed ADD names the reason and leaves
// nothing but the bridge.
func TestAttachUndoneAtEveryMessage(t *testing.T) {
	whole := newFake(0)
	if err := attachTo(t, whole, &fakeAllocator{}); err != nil {
		t.Fatal(err)
	}
	for refuse := 1; refuse <= whole.count; refuse++ {
		k, alloc := newFake(refuse), &fakeAllocator{}
		err := attachTo(t, k, alloc)
		if k.refusedAdvice() {
			if err != nil {
				t.Errorf("message %d: advice can't be had: %v", refuse, err)
			}
			continue
		}
		if !errors.Is(err, errRefused) {
			t.Errorf("message %d (%s): error %v", refuse, k.refused, err)
		}
		delete(k.host, DefaultBridge)
		if len(k.host) != 0 || len(k.inside) != 0 || k.tables != 0 || alloc.leased {
			t.Errorf("message %d (%s) left host links %v, inside %v, %d tables, lease %v",
				refuse, k.refused, k.host, k.inside, k.tables, alloc.leased)
		}
	}
	t.Logf("refused each of %d messages in turn", whole.count)
}

func TestAttachKeepsALeaseFromBefore(t *testing.T) {
	whole := newFake(0)
	if err := attachTo(t, whole, &fakeAllocator{}); err != nil {
		t.Fatal(err)
	}
	// A link of before may be looked for first.
	for refuse := whole.count; refuse <= whole.count+4; refuse++ {
		k, alloc := newFake(refuse), &fakeAllocator{leased: true}
		if err := attachTo(t, k, alloc); k.refused != "" && (err == nil) != k.refusedAdvice() || !alloc.leased {
			t.Errorf("error %v, leased %v", err, alloc.leased)
		}
	}
}

func TestAttachWithoutLease(t *testing.T) {
	k := newFake(0)
	if err := attachTo(t, k, &fakeAllocator{fail: ErrExhausted}); !errors.Is(err, ErrExhausted) || len(k.host) != 0 {
		t.Errorf("error %v, links %v", err, k.host)
	}
}

// An interface that the container has already is neither replaced nor removed,
// and its lease stays.
func TestAttachLeavesAnExistingInterface(t *testing.T) {
	k, alloc := newFake(0), &fakeAllocator{}
	if err := attachTo(t, k, alloc); err != nil {
		t.Fatal(err)
	}
	if err := attachTo(t, k, alloc); !errors.Is(err, ErrTaken) || len(k.inside) != 1 || !alloc.leased {
		t.Errorf("error %v, inside %v, leased %v", err, k.inside, alloc.leased)
	}
}

// A link of the wanted name with another mark stays, and the second name is taken.
func TestAttachTakesTheSecondName(t *testing.T) {
	k := newFake(0)
	names := testKey.HostNames()
	k.host[names[0]] = fakeLink{index: 7, mac: []byte{2, 1, 2, 3, 4, 5}, kind: "veth"}
	err := attachTo(t, k, &fakeAllocator{})
	if err != nil || k.host[names[0]].index != 7 || k.host[names[1]].index == 0 {
		t.Errorf("error %v, links %v", err, k.host)
	}
}
