package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

// Help about what parsePorts reads.
const (
	portHelp = `PORT is [HOSTIP:]HOSTPORT[:CONTAINERPORT][/PROTOCOL], as in podman run -p:
8080:80, 127.0.0.1:53:53/udp, [2001:db8::1]:443, 9000-9009:80-89. CONTAINER is
a name, an ID or the beginning of one. If it is in several networks, the one
with its default route gets the port. It loses the port when it stops or is
started again, and podman port does not list it.`

	unpublishHelp = `PORT is written as for flatnet publish; without HOSTIP or CONTAINERPORT, any
matches. Ports of podman run -p can be taken away as well. Open connections of
TCP go on.`
)

func networkOption() option {
	return option{name: "--network", value: "NETWORK", summary: "the container's attachment to this network"}
}

// parsePorts reads ports in the syntax of podman run -p, except that a single number is the
// host's port. Where no container's port is given, ContainerPort is 0.
func parsePorts(text string) (ports []model.PortMapping, err error) {
	p := model.PortMapping{Protocol: model.TCP}
	rest, protocol, named := strings.Cut(text, "/")
	if named {
		if p.Protocol, err = fields.ParseProtocol(strings.ToLower(protocol)); err != nil {
			return nil, misused("port %q: protocol %w", text, err)
		}
	}
	host, numbers, err := splitHost(rest)
	if err == nil && host != "" {
		if p.HostIP, err = fields.ParseAddr(host); err == nil && p.HostIP.IsMulticast() {
			err = fmt.Errorf("%s is a multicast address", host)
		}
	}
	if err != nil {
		return nil, misused("port %q: %w", text, err)
	}
	hostPorts, containerPorts, both := strings.Cut(numbers, ":")
	first, n, err := parseRange(hostPorts)
	to, m := 0, n
	if err == nil && both {
		to, m, err = parseRange(containerPorts)
	}
	if err == nil && n != m {
		err = fmt.Errorf("%s are %d ports and %s are %d", hostPorts, n, containerPorts, m)
	}
	if err != nil {
		return nil, misused("port %q: %w", text, err)
	}
	for i := range n {
		p.HostPort = uint16(first + i)
		if both {
			p.ContainerPort = uint16(to + i)
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// splitHost splits off the host's address: it is in brackets, has dots, or precedes two ports.
func splitHost(text string) (host, ports string, err error) {
	if in, after, ok := strings.Cut(text, "]:"); ok && strings.HasPrefix(in, "[") {
		return in[1:], after, nil
	}
	before, after, _ := strings.Cut(text, ":")
	switch n := strings.Count(text, ":"); {
	case n > 2:
		return "", "", errors.New("an IPv6 address must be in brackets, as in [2001:db8::1]:8080:80")
	case n == 2 || n == 1 && strings.Contains(before, "."):
		return before, after, nil
	}
	return "", text, nil
}

// parseRange reads a port, or the first and the last one of several.
func parseRange(text string) (first, n int, err error) {
	a, b, several := strings.Cut(text, "-")
	if first, err = parsePort(a); err != nil || !several {
		return first, 1, err
	}
	last, err := parsePort(b)
	if err == nil && last < first {
		err = fmt.Errorf("%s ends before it begins", text)
	}
	return first, last - first + 1, err
}

func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port from 1 to %d", text, math.MaxUint16)
	}
	return int(n), nil
}
