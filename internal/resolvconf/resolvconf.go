// Package resolvconf reads files in the format of resolv.conf(5).
package resolvconf

import (
	"net/netip"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/input"
)

// maxSize is far above the length of any resolv.conf, in bytes.
const maxSize = 64 << 10

// Read reads a file, which must be a regular one.
func Read(file string) (model.DNS, error) {
	data, err := input.Read(file, maxSize)
	return parse(data), err
}

// parse reads a file in the format of resolv.conf(5). Of several domain or
// search lines the last one counts. Name servers that are no addresses are left out.
func parse(data []byte) (d model.DNS) {
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				d.Nameservers = append(d.Nameservers, f[1])
			}
		case "domain":
			d.Domain = f[1]
		case "search":
			d.Search = f[1:]
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}
