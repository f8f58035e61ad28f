package engine

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"flatnet/bridge/model"
)

// maxResolvConf is far above the length of any resolv.conf, in bytes.
const maxResolvConf = 64 << 10

// resolvConf returns the network's DNS settings. If it has none itself, they are
// those of the file that the configuration names.
func resolvConf(c *model.Config) (model.DNS, error) {
	d := c.Network.DNS
	if c.IPAM.ResolvConf == "" || len(d.Nameservers)+len(d.Search)+len(d.Options)+len(d.Domain) > 0 {
		return d, nil
	}
	// A device has no end, and a FIFO might wait for its writer.
	info, err := os.Stat(c.IPAM.ResolvConf)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxResolvConf) {
		err = fmt.Errorf("%s is not a regular file of at most %d bytes", c.IPAM.ResolvConf, maxResolvConf)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(c.IPAM.ResolvConf)
	}
	if err != nil {
		return d, fmt.Errorf("ipam.resolvConf: %w", err)
	}
	return parseResolvConf(data), nil
}

// parseResolvConf reads a file in the format of resolv.conf(5). Of several domain or
// search lines the last one counts. Name servers that are no addresses are left out.
func parseResolvConf(data []byte) (d model.DNS) {
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
