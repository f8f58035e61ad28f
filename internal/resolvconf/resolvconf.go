// Package resolvconf reads files in the format of resolv.conf(5).
package resolvconf

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"flatnet/bridge/model"
)

// maxSize is far above the length of any resolv.conf, in bytes.
const maxSize = 64 << 10

// Read reads a file, which must be a regular one.
func Read(file string) (model.DNS, error) {
	// A device has no end, and a FIFO might wait for its writer.
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxSize) {
		err = fmt.Errorf("%s is not a regular file of at most %d bytes", file, maxSize)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
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
