package model

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
)

// tcp maps a port of a host address to port 80.
func tcp(host string, port uint16) PortMapping {
	p := PortMapping{Protocol: TCP, HostPort: port, ContainerPort: 80}
	if host != "" {
		p.HostIP = ip(host)
	}
	return p
}

func pub(host, target string) Publication {
	return Publication{Protocol: TCP, Host: at(host), Target: at(target)}
}

// local is a publication on the loopback address only, or on no address.
func local(host, target string) Publication {
	p := Publication{Protocol: TCP, Target: at(target), Local: true}
	if host != "" {
		p.Host = at(host)
	}
	return p
}

func TestPublications(t *testing.T) {
	v4, v6, other4 := address("10.87.1.2/24", ""), address("fd87::2/64", ""), address("10.88.0.2/24", "")
	for _, tt := range []struct {
		name  string
		ports []PortMapping
		addrs []Address
		want  []Publication // nil: refused
	}{
		{"each family that the container has", []PortMapping{tcp("", 8080)}, []Address{v4, v6},
			[]Publication{pub("0.0.0.0:8080", "10.87.1.2:80"), pub("[::]:8080", "[fd87::2]:80")}},
		{"one family", []PortMapping{tcp("", 8080)}, []Address{v6}, []Publication{pub("[::]:8080", "[fd87::2]:80")}},
		{"that of the host address", []PortMapping{tcp("192.0.2.1", 8080), tcp("::", 8081)}, []Address{v4, v6},
			[]Publication{pub("192.0.2.1:8080", "10.87.1.2:80"), pub("[::]:8081", "[fd87::2]:80")}},
		{"the first address of a family", []PortMapping{tcp("0.0.0.0", 80)}, []Address{v4, other4},
			[]Publication{pub("0.0.0.0:80", "10.87.1.2:80")}},
		{"the same twice", []PortMapping{tcp("", 80), tcp("0.0.0.0", 80)}, []Address{v4},
			[]Publication{pub("0.0.0.0:80", "10.87.1.2:80")}},
		{"one port on two addresses", []PortMapping{tcp("192.0.2.1", 80), tcp("192.0.2.9", 80)}, []Address{v4},
			[]Publication{pub("192.0.2.1:80", "10.87.1.2:80"), pub("192.0.2.9:80", "10.87.1.2:80")}},
		{"the loopback address only", []PortMapping{tcp("127.0.0.1", 8080)}, []Address{v4, v6, other4},
			[]Publication{local("127.0.0.1:8080", "10.87.1.2:80"), local("", "[fd87::2]:80"), local("", "10.88.0.2:80")}},
		{"the loopback address twice", []PortMapping{tcp("127.0.0.1", 8080), tcp("127.0.0.1", 8081)}, []Address{v4, v6},
			[]Publication{local("127.0.0.1:8080", "10.87.1.2:80"), local("127.0.0.1:8081", "10.87.1.2:80"),
				local("", "[fd87::2]:80")}},
		{"the loopback address and others", []PortMapping{tcp("127.0.0.1", 8080), tcp("", 8081)}, []Address{v4, v6},
			[]Publication{pub("127.0.0.1:8080", "10.87.1.2:80"), pub("0.0.0.0:8081", "10.87.1.2:80"),
				pub("[::]:8081", "[fd87::2]:80")}},
		{"the loopback address and another family", []PortMapping{tcp("127.0.0.1", 8080), tcp("::", 8080)}, []Address{v4, v6},
			[]Publication{local("127.0.0.1:8080", "10.87.1.2:80"), pub("[::]:8080", "[fd87::2]:80")}},
		{"no address of the family", []PortMapping{tcp("::", 80)}, []Address{v4}, nil},
		{"IPv6 loopback", []PortMapping{tcp("::1", 80)}, []Address{v4, v6}, nil},
		{"IPv6 link-local", []PortMapping{tcp("fe80::1", 80)}, []Address{v4, v6}, nil},
		{"everywhere and somewhere", []PortMapping{tcp("", 80), {TCP, ip("127.0.0.1"), 80, 81}}, []Address{v4}, nil},
		{"somewhere and everywhere", []PortMapping{{TCP, ip("127.0.0.1"), 80, 81}, tcp("", 80)}, []Address{v4}, nil},
		{"two targets", []PortMapping{tcp("", 80), {TCP, netip.Addr{}, 80, 81}}, []Address{v4}, nil},
	} {
		got, err := Publications(tt.ports, tt.addrs)
		if !reflect.DeepEqual(got, tt.want) || (err == nil) != (tt.want != nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
	}
	if got, err := Publications([]PortMapping{tcp("", 80)}, nil); got != nil || err != nil {
		t.Errorf("before addresses are leased: %v, %v", got, err)
	}
}
