package cni

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// parseArgs reads CNI_ARGS, "KEY=VALUE;KEY=VALUE", into req. As in the
// reference plugins, a key that means nothing is an error unless IgnoreUnknown
// says otherwise, and IP may list several addresses, separated by commas.
func parseArgs(s string, req *model.Request) error {
	if s == "" {
		return nil
	}
	var seen []string
	unknown, ignore := "", false
	for pair := range strings.SplitSeq(s, ";") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || key == "" || strings.Contains(value, "="):
			return fmt.Errorf("%.60q is not of the form KEY=VALUE", pair)
		case slices.Contains(seen, key):
			return fmt.Errorf("%.60q is given twice", key)
		}
		seen = append(seen, key)
		switch {
		case (key == "IP" || key == "MAC") && value == "":
		case key == "IP":
			for ip := range strings.SplitSeq(value, ",") {
				if err := want(req, ip); err != nil {
					return fmt.Errorf("IP: %w", err)
				}
			}
		case key == "MAC":
			mac, err := model.ParseHardwareAddr(value)
			if err != nil {
				return fmt.Errorf("MAC: %w", err)
			}
			req.MAC = mac
		case key == "IgnoreUnknown":
			switch strings.ToLower(value) {
			case "1", "true":
				ignore = true
			case "0", "false":
			default:
				return fmt.Errorf("IgnoreUnknown: %.60q is none of 1, true, 0, false", value)
			}
		case key == "K8S_POD_NAME" && value != "": // Podman's and Kubernetes' name of the container
			req.Names = append(req.Names, value)
		case !strings.HasPrefix(key, "K8S_POD_"):
			unknown = pair
		}
	}
	if unknown != "" && !ignore {
		return fmt.Errorf("%.60q means nothing to flatnet; IgnoreUnknown=1 would let it pass", unknown)
	}
	return nil
}

// readWishes reads the "ips" and "mac" of args.cni or runtimeConfig into req
// (CONVENTIONS.md of the CNI). Addresses add up with those that other places
// ask for; a MAC address takes precedence over theirs.
func readWishes(o *strictjson.Object, req *model.Request) {
	for i, ip := range o.Strings("ips") {
		if err := want(req, ip); err != nil {
			o.Fail(fmt.Sprintf("ips[%d]", i), "%w", err)
		}
	}
	if s, _ := o.String("mac"); s != "" {
		mac, err := model.ParseHardwareAddr(s)
		if err != nil {
			o.Fail("mac", "%w", err)
		}
		req.MAC = mac
	}
}

// want adds an address, with or without a prefix length, to those that req
// asks for, once. The length means nothing: the subnet's is what counts.
func want(req *model.Request, s string) error {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		p, perr := netip.ParsePrefix(s)
		if perr != nil {
			return fmt.Errorf("%.60q is not an IP address", s)
		}
		addr = p.Addr()
	}
	if addr.Zone() != "" {
		return fmt.Errorf("%.60q has a zone, which only means something on its host", s)
	}
	if addr = addr.Unmap(); !slices.Contains(req.IPs, addr) {
		req.IPs = append(req.IPs, addr)
	}
	return nil
}
