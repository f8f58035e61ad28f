package listeners

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// listen opens a TCP or UDP socket, and returns its address.
func listen(t *testing.T, network, addr string) netip.AddrPort {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if addr[0] == '[' && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			t.Skip("needs IPv6 on lo: sysctl net.ipv6.conf.lo.disable_ipv6=0")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if network[:3] == "tcp" {
		l, err := net.Listen(network, addr)
		check(err)
		t.Cleanup(func() { l.Close() })
		a := l.Addr().(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	l, err := net.ListenPacket(network, addr)
	check(err)
	t.Cleanup(func() { l.Close() })
	a := l.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func TestListeners(t *testing.T) {
	for _, l := range []struct {
		network, addr string
		protocol      uint8
		only          bool
	}{
		{"tcp4", "127.0.0.1:0", unix.IPPROTO_TCP, false},
		{"tcp4", "0.0.0.0:0", unix.IPPROTO_TCP, false},
		{"tcp", "[::]:0", unix.IPPROTO_TCP, false},
		{"tcp6", "[::]:0", unix.IPPROTO_TCP, true},
		{"udp4", "127.0.0.1:0", unix.IPPROTO_UDP, false},
		{"udp6", "[::1]:0", unix.IPPROTO_UDP, true},
	} {
		addr := listen(t, l.network, l.addr)
		list, err := listeners(l.protocol)
		if err != nil {
			t.Fatal(err)
		}
		same := func(s Socket) bool { return s.Addr == addr && s.OnlyIPv6 == l.only && s.Inode != 0 }
		if !slices.ContainsFunc(list, same) {
			t.Errorf("%s %s is not in %v", l.network, addr, list)
		}
	}
}

func TestReceiver(t *testing.T) {
	all := listen(t, "udp4", "0.0.0.0:0")
	local := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), all.Port())
	if s, err := Receiver(local); err != nil || s.Addr != all {
		t.Errorf("%s would be received by %v, %v; want %s", local, s, err, all)
	}
	if s, err := Receiver(local); err == nil {
		if own, err := HeldBy("self"); !slices.Contains(own, s.Inode) || err != nil {
			t.Errorf("the own socket is held by another process: %v", err)
		}
		if other, err := HeldBy("1"); slices.Contains(other, s.Inode) {
			t.Errorf("the own socket is held by process 1: %v", err)
		}
	}
	one := listen(t, "udp4", "127.0.0.1:0")
	if s, err := Receiver(one); err != nil || s.Addr != one {
		t.Errorf("%s would be received by %v, %v", one, s, err)
	}
	if s, err := Receiver(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), one.Port())); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a packet to another address would be received by %v, %v", s, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, replySize))
	f.Add(append(make([]byte, replySize), 5, 0, onlyIPv6, 0, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) { decode(b) })
}
