// Package listeners finds programs of the host that lose a port when a container
// publishes it: the translation comes before the program's socket.
package listeners

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge"
	"flatnet/internal/sockdiag"
)

// protocols of port mappings that have sockets to look for (IPPROTO_* of
// linux/in.h). The kernel has no list of SCTP's without loading a module.
func protocols() map[uint8]string { return map[uint8]string{6: "tcp", 17: "udp"} }

// Find returns a sentence for each program of the host that listens at a port of
// the list, for a container with these addresses. It asks the kernel once for
// each protocol and family. A kernel that can't tell finds none.
func Find(ports []bridge.PortMapping, ips []bridge.IP) []string {
	ipv4 := slices.ContainsFunc(ips, func(ip bridge.IP) bool { return ip.Address.Addr().Is4() })
	ipv6 := slices.ContainsFunc(ips, func(ip bridge.IP) bool { return ip.Address.Addr().Is6() })
	var found []string
	for protocol, name := range protocols() {
		some, published := publishedBy(ports, protocol)
		if !some {
			continue
		}
		for _, s := range list(protocol) {
			lost := func(p bridge.PortMapping) bool { return p.Protocol == protocol && takes(p, s, ipv4, ipv6) }
			if !published[s.Addr.Port()] || !slices.ContainsFunc(ports, lost) || expected(s) {
				continue
			}
			text := fmt.Sprintf("port %d/%s is published although a program of the host listens at %s: what is sent to that port reaches the container, and not the program",
				s.Addr.Port(), name, s.Addr)
			if !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	slices.Sort(found)
	return found
}

// publishedBy reports which host ports the list has of a protocol, and whether
// there is any. There may be tens of thousands of ports, and as many sockets.
func publishedBy(ports []bridge.PortMapping, protocol uint8) (some bool, published *[1 << 16]bool) {
	published = new([1 << 16]bool)
	for _, p := range ports {
		if p.Protocol == protocol {
			some, published[p.HostPort] = true, true
		}
	}
	return some, published
}

func list(protocol uint8) []sockdiag.Socket {
	c, err := sockdiag.Dial()
	if err != nil {
		return nil
	}
	defer c.Close()
	sockets, err := c.Listeners(protocol)
	if err != nil {
		return nil
	}
	return sockets
}

// takes reports whether a published port translates what a socket would get.
func takes(p bridge.PortMapping, s sockdiag.Socket, ipv4, ipv6 bool) bool {
	if p.HostPort != s.Addr.Port() {
		return false
	}
	if p.HostIP.IsValid() { // also 0.0.0.0 and [::], which mean one family
		ipv4, ipv6 = ipv4 && p.HostIP.Is4(), ipv6 && p.HostIP.Is6()
	}
	at := s.Addr.Addr()
	if all := at.IsUnspecified(); all {
		return ipv4 && (at.Is4() || !s.OnlyIPv6) || ipv6 && at.Is6()
	}
	same := !p.HostIP.IsValid() || p.HostIP.IsUnspecified() || p.HostIP == at
	return same && !at.IsMulticast() && reached(at) && (ipv4 && at.Is4() || ipv6 && at.Is6())
}

// reached reports whether an address of the host leads to published ports:
// [::1] never does.
func reached(a netip.Addr) bool { return a.Is4() || !a.IsLoopback() }

// expected reports whether a socket is of a program that is known to share its
// port: Podman and its conmon listen at the ports that they publish, so that
// nobody else takes them, and the network's own gateway keeps its DNS server.
func expected(s sockdiag.Socket) bool {
	processes, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range processes {
		comm, _ := os.ReadFile(path)
		if !slices.Contains([]string{"conmon", "podman", "aardvark-dns"}, strings.TrimSpace(string(comm))) {
			continue
		}
		if held, _ := s.HeldBy(filepath.Base(filepath.Dir(path))); held {
			return true
		}
	}
	return false
}
