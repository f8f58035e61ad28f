package model

import "net/netip"

// JoinAddrs returns addresses as a list separated by commas; an invalid one is empty.
func JoinAddrs(addrs []netip.Addr) string {
	var b []byte
	for i, a := range addrs {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.AppendTo(b)
	}
	return string(b)
}
