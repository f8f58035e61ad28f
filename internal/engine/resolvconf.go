package engine

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"flatnet/bridge/model"
)

// resolvConf returns the network's DNS settings. If it has none itself, they are
// those of the file that the configuration names.
func resolvConf(c *model.Config) (model.DNS, error) {
	d := c.Network.DNS
	if c.IPAM.ResolvConf == "" || len(d.Nameservers)+len(d.Search)+len(d.Options)+len(d.Domain) > 0 {
		return d, nil
	}
	data, err := readSmall(c.IPAM.ResolvConf)
	if err != nil {
		return d, fmt.Errorf("ipam.resolvConf: %w", err)
	}
	return parseResolvConf(data), nil
}

// maxSmall is far above the length of any resolv.conf.
const maxSmall = 64 << 10

// readSmall reads a regular file. It does not wait, such as for a FIFO's writer.
func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxSmall)
	}
	return data, err
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
