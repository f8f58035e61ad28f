package cni

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// protocols of port mappings, as IPPROTO_* of linux/in.h.
var protocols = map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}

// maxPorts bounds how many ports one container publishes: all of each protocol.
const maxPorts = 3 * math.MaxUint16

// readPorts reads runtimeConfig.portMappings (CONVENTIONS.md of the CNI).
func readPorts(runtime *strictjson.Object) []model.PortMapping {
	var ports []model.PortMapping
	for _, o := range runtime.ManyObjects("portMappings", maxPorts) {
		p := model.PortMapping{HostPort: readPort(o, "hostPort"), ContainerPort: readPort(o, "containerPort")}
		name, ok := o.String("protocol")
		if !ok {
			name = "tcp"
		}
		if p.Protocol, ok = protocols[strings.ToLower(name)]; !ok {
			o.Fail("protocol", "%.60q is none of tcp, udp, sctp", name)
		}
		if s, _ := o.String("hostIP"); s != "" {
			ip, err := parseHostIP(s)
			if err != nil {
				o.Fail("hostIP", "%w", err)
			}
			p.HostIP = ip
		}
		ports = append(ports, p)
	}
	return ports
}

func readPort(o *strictjson.Object, key string) uint16 {
	n, ok := o.Uint(key, math.MaxUint16)
	if n == 0 && ok {
		o.Fail(key, "0 is no port")
	} else if n == 0 {
		o.Fail(key, "is missing")
	}
	return uint16(n)
}

func parseHostIP(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return ip, fmt.Errorf("%.60q is not an IP address", s)
	case ip.Zone() != "":
		return ip, fmt.Errorf("%.60q has a zone", s)
	case ip.IsMulticast():
		return ip, fmt.Errorf("%.60q is a multicast address", s)
	}
	return ip.Unmap(), nil
}

// readIsolation reads whether other networks are kept away.
func readIsolation(doc *strictjson.Object, otherwise bool) bool {
	switch s, ok := doc.String("isolation"); {
	case !ok:
		return otherwise
	case s == "network":
		return true
	case s != "none":
		doc.Fail("isolation", "%.60q is none of network, none", s)
	}
	return false
}

// readInbound reads whether others reach published ports only.
func readInbound(doc *strictjson.Object) bool {
	s, ok := doc.String("inbound")
	if ok && s != "any" && s != "published" {
		doc.Fail("inbound", "%.60q is none of any, published", s)
	}
	return s == "published"
}

// maxRate is far above any interface's rate, in bits, and far from overflows.
const maxRate = 1 << 50

// readBandwidth reads runtimeConfig.bandwidth (CONVENTIONS.md of the CNI).
func readBandwidth(o *strictjson.Object) (b model.Bandwidth) {
	b.Ingress = readLimit(o, "ingressRate", "ingressBurst")
	b.Egress = readLimit(o, "egressRate", "egressBurst")
	return b
}

func readLimit(o *strictjson.Object, rate, burst string) (l model.Limit) {
	l.Rate, _ = o.Uint(rate, maxRate)
	l.Burst, _ = o.Uint(burst, maxRate)
	if l.Rate == 0 && l.Burst != 0 {
		o.Fail(burst, "must not be given without %s", rate)
	}
	return l
}
