// Package listeners finds programs of the host that lose a port when a container
// publishes it: the translation comes before the program's socket.
package listeners

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"flatnet/bridge/model"
	"flatnet/internal/sockdiag"
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
		sockets, _ := sockdiag.Listeners(protocol)
		for _, s := range sockets {
			lost := func(p model.PortMapping) bool { return takes(p, s, ipv4, ipv6) }
			if slices.ContainsFunc(published[s.Addr.Port()], lost) && !shared()[s.Inode] {
				found = append(found, fmt.Sprintf("port %d/%s is published although a program of the host listens at %s: "+
					"what is sent to that port reaches the container, and not the program", s.Addr.Port(), name, s.Addr))
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
func takes(p model.PortMapping, s sockdiag.Socket, ipv4, ipv6 bool) bool {
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
	processes, _ := sockdiag.Names("/proc") // among other things
	for _, p := range processes {
		comm, _ := os.ReadFile("/proc/" + p + "/comm")
		if slices.Contains([]string{"conmon", "podman", "aardvark-dns"}, strings.TrimSpace(string(comm))) {
			held, _ := sockdiag.HeldBy(p) // it may have ended
			for _, inode := range held {
				inodes[inode] = true
			}
		}
	}
	return inodes
}
