// Package listeners finds sockets of the host's programs: those that lose a port when a
// container publishes it, since the translation comes before the program's socket, and
// the one that a DNS server would have to share its port with. The kernel lists sockets by
// sock_diag(7): without looking at processes, and without the list of all connections
// that /proc/net/tcp is.
package listeners

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"flatnet/bridge/model"
	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// maxNamed bounds the number of sockets that are named.
const maxNamed = 20

// Find returns a sentence for each program of the host that listens at a port of
// the list, for a container with these addresses; of very many, for some of them and
// their number. It asks the kernel once for each protocol and family. If the kernel
// can't answer, none is found. There may be tens of thousands of ports, and as many
// sockets.
func Find(ports []model.PortMapping, ips []model.IP) []string {
	ipv4 := slices.ContainsFunc(ips, func(ip model.IP) bool { return ip.Address.Addr().Is4() })
	ipv6 := slices.ContainsFunc(ips, func(ip model.IP) bool { return ip.Address.Addr().Is6() })
	var found []string
	shared := sync.OnceValue(sharing)
	// The kernel has no list of SCTP's sockets without loading a module.
	for protocol, name := range map[uint8]string{model.TCP: "tcp", model.UDP: "udp"} {
		published := map[uint16][]model.PortMapping{}
		for _, p := range ports {
			if p.Protocol == protocol {
				published[p.HostPort] = append(published[p.HostPort], p)
			}
		}
		if len(published) == 0 {
			continue
		}
		sockets, _ := listeners(protocol)
		for _, s := range sockets {
			lost := func(p model.PortMapping) bool { return takes(p, s, ipv4, ipv6) }
			if slices.ContainsFunc(published[s.Addr.Port()], lost) && !shared()[s.Inode] {
				found = append(found, fmt.Sprintf("port %d/%s is published although a program of the host listens at %s: "+
					"what is sent to that port reaches the container, and not the program; stop it, or choose another host port", s.Addr.Port(), name, s.Addr))
			}
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if more := len(found) - maxNamed; more > 0 {
		text := fmt.Sprintf("programs of the host listen at %d more addresses and ports that are published", more)
		found = append(found[:maxNamed], text)
	}
	return found
}

// takes reports whether a published port translates packets to a socket of the same
// protocol and port.
func takes(p model.PortMapping, s Socket, ipv4, ipv6 bool) bool {
	if p.HostIP.IsValid() { // also 0.0.0.0 and [::], which mean one family
		ipv4, ipv6 = ipv4 && p.HostIP.Is4(), ipv6 && p.HostIP.Is6()
	}
	at := s.Addr.Addr()
	if at.IsUnspecified() {
		return ipv4 && (at.Is4() || !s.OnlyIPv6) || ipv6 && at.Is6()
	}
	same := !p.HostIP.IsValid() || p.HostIP.IsUnspecified() || p.HostIP == at
	// Nothing that is sent to [::1] is translated.
	return same && !at.IsMulticast() && (ipv4 && at.Is4() || ipv6 && at.Is6() && !at.IsLoopback())
}

// sharing returns the inodes of the sockets of programs that are known to share
// their ports: Podman and its conmon listen at the ports that they publish, so that
// no other program takes them, and the network's own gateway keeps its DNS server.
func sharing() map[uint32]bool {
	inodes := map[uint32]bool{}
	processes, _ := names("/proc") // among other things
	for _, p := range processes {
		comm, _ := os.ReadFile("/proc/" + p + "/comm")
		if slices.Contains([]string{"conmon", "podman", "aardvark-dns"}, strings.TrimSpace(string(comm))) {
			held, _ := HeldBy(p) // it may have ended
			for _, inode := range held {
				inodes[inode] = true
			}
		}
	}
	return inodes
}

// A Socket is bound to a local address.
type Socket struct {
	Addr     netip.AddrPort // unspecified: all of the namespace's addresses
	OnlyIPv6 bool           // IPV6_V6ONLY: [::] does not include 0.0.0.0
	Inode    uint32         // as in the link /proc/PID/fd/N, "socket:[INODE]"
}

// Of linux/inet_diag.h. Ports and addresses are in network byte order, the rest in
// the machine's.
const (
	requestSize = 56 // struct inet_diag_req_v2
	replySize   = 72 // struct inet_diag_msg
	idOffset    = 8  // of struct inet_diag_sockid in the request; in the reply 4
	onlyIPv6    = 11 // INET_DIAG_SKV6ONLY

	stateClose  = 7  // TCP_CLOSE: of a UDP socket that is not connected
	stateListen = 10 // TCP_LISTEN
)

// HeldBy lists the inodes of the sockets that a process has open, of which its files
// in /proc must be readable.
func HeldBy(pid string) (inodes []uint32, err error) {
	dir := filepath.Join("/proc", pid, "fd")
	files, err := names(dir)
	for _, f := range files {
		link, _ := os.Readlink(filepath.Join(dir, f)) // it may be closed again
		number, isSocket := strings.CutPrefix(strings.TrimSuffix(link, "]"), "socket:[")
		if inode, err := strconv.ParseUint(number, 10, 32); isSocket && err == nil {
			inodes = append(inodes, uint32(inode))
		}
	}
	return inodes, err
}

// names lists a directory, unlike os.ReadDir in any order.
func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// ask sends requests, as dumps or not, in the calling thread's network namespace.
func ask(flags netlink.HeaderFlags, requests ...[]byte) (all []Socket, err error) {
	c, err := nl.Dial(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag %w", err)
	}
	defer c.Close()
	for _, req := range requests {
		msgs, derr := c.Do(unix.SOCK_DIAG_BY_FAMILY, flags, req)
		err = errors.Join(err, derr)
		for _, m := range msgs {
			s, derr := decode(m.Data)
			err = errors.Join(err, derr)
			all = append(all, s)
		}
	}
	return all, err
}

// Receiver returns the socket to which the kernel would deliver a UDP packet
// that is sent to an address of the host; the one that is bound to the most
// specific address. Without any the error is ENOENT, which a kernel without
// CONFIG_INET_UDP_DIAG returns, too.
func Receiver(to netip.AddrPort) (Socket, error) {
	req := request(to.Addr().Is6(), unix.IPPROTO_UDP, ^uint32(0))
	// The kernel looks for the receiver of a packet from "src" to "dst".
	id := req[idOffset:]
	binary.BigEndian.PutUint16(id[2:], to.Port())
	copy(id[20:], to.Addr().AsSlice())
	all, err := ask(0, req)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("sock_diag: %d replies instead of one", len(all))
	}
	if err != nil {
		return Socket{}, err
	}
	return all[0], nil
}

// listeners lists the sockets of a protocol, IPPROTO_TCP or IPPROTO_UDP, of both
// families, that wait for anybody's packets in the calling thread's network
// namespace. The kernel leaves out connections.
func listeners(protocol uint8) ([]Socket, error) {
	state := uint32(1 << stateListen)
	if protocol == unix.IPPROTO_UDP {
		state = 1 << stateClose
	}
	all, err := ask(netlink.Dump, request(false, protocol, state), request(true, protocol, state))
	return slices.DeleteFunc(all, func(s Socket) bool { return s.Addr.Port() == 0 }), err
}

// request is a struct inet_diag_req_v2 for sockets in the states of a mask.
func request(ipv6 bool, protocol uint8, states uint32) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = unix.AF_INET, protocol
	if ipv6 {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[4:], states)
	binary.NativeEndian.PutUint64(b[idOffset+40:], ^uint64(0)) // INET_DIAG_NOCOOKIE, twice: any socket
	return b
}

// decode reads a struct inet_diag_msg and its attributes.
func decode(b []byte) (Socket, error) {
	b, r := nl.Read(b, replySize)
	addr := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	if b[0] == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(b[8:12]))
	}
	s := Socket{Addr: netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[4:])), Inode: binary.NativeEndian.Uint32(b[68:])}
	s.OnlyIPv6 = r.Fixed(onlyIPv6, 1)[0] != 0
	return s, r.Err()
}
