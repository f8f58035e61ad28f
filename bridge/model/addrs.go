package model

import (
	"net/netip"
	"strings"
)

// JoinAddrs returns addresses as a list separated by commas.
func JoinAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
