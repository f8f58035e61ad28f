package lab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Advertise sends one router advertisement (RFC 4861, section 4.2) to all nodes
// on an interface of the place: a default route for lifetime seconds, and a
// prefix for autoconfiguration.
func (p Place) Advertise(ifName string, prefix netip.Prefix, lifetime int) {
	t := p.world.TB
	t.Helper()
	if out, err := p.role("advertise", ifName+" "+prefix.String()+" "+strconv.Itoa(lifetime)).CombinedOutput(); err != nil {
		t.Fatalf("advertise: %v: %s", err, out)
	}
}

func beRouter(args []string) error {
	words := strings.Fields(args[0])
	ifc, err := net.InterfaceByName(words[0])
	if err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(words[1])
	if err != nil {
		return err
	}
	lifetime, err := strconv.Atoi(words[2])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	// Receivers drop what does not come from the link itself (section 6.1.2).
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, ifc.Index),
		bindLinkLocal(fd, ifc))
	if err == nil {
		all := &unix.SockaddrInet6{ZoneId: uint32(ifc.Index), Addr: netip.MustParseAddr("ff02::1").As16()}
		err = unix.Sendto(fd, advertisement(prefix, uint16(lifetime)), 0, all)
	}
	return errors.Join(err, unix.Close(fd))
}

// bindLinkLocal waits for the interface to have a link-local address that is not
// tentative any more.
func bindLinkLocal(fd int, ifc *net.Interface) (err error) {
	for end := time.Now().Add(peerTimeout); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		addrs, aerr := ifc.Addrs()
		err = errors.Join(aerr, errors.New("no link-local address"))
		for _, a := range addrs {
			p, perr := netip.ParsePrefix(a.String())
			if perr != nil || !p.Addr().Is6() || !p.Addr().IsLinkLocalUnicast() {
				continue
			}
			if err = unix.Bind(fd, &unix.SockaddrInet6{ZoneId: uint32(ifc.Index), Addr: p.Addr().As16()}); err == nil {
				return nil
			}
		}
	}
	return err
}

// advertisement leaves the checksum to the kernel.
func advertisement(prefix netip.Prefix, lifetime uint16) []byte {
	const hopLimit, onLinkAutonomous = 64, 0xc0
	b := []byte{134, 0, 0, 0, hopLimit, 0}
	b = binary.BigEndian.AppendUint16(b, lifetime)
	b = append(b, make([]byte, 8)...) // reachable time and retransmit timer: not specified
	// Prefix information, section 4.6.2: type, length in units of 8 bytes, ...
	b = append(b, 3, 4, byte(prefix.Bits()), onLinkAutonomous)
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime)) // valid
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime)) // preferred
	b = append(b, make([]byte, 4)...)
	return append(b, prefix.Masked().Addr().AsSlice()...)
}
