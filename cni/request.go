package cni

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// parseArgs reads CNI_ARGS, "KEY=VALUE;KEY=VALUE", into req. As in the
// reference plugins, an unknown key is an error unless IgnoreUnknown is true, and
// IP may list several addresses, separated by commas.
func parseArgs(s string, req *model.Request) error {
	if s == "" {
		return nil
	}
	seen := map[string]bool{}
	unknown, ignore := "", false
	for pair := range strings.SplitSeq(s, ";") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || key == "" || strings.Contains(value, "="):
			return fmt.Errorf("%.60q is not of the form KEY=VALUE", pair)
		case seen[key]:
			return fmt.Errorf("%.60q is given twice", key)
		}
		seen[key] = true
		var err error
		switch {
		case key == "IP" && value != "":
			for s := range strings.SplitSeq(value, ",") {
				ip, ierr := parseIP(s)
				req.IPs, err = append(req.IPs, ip), cmp.Or(err, ierr)
			}
		case key == "MAC" && value != "":
			req.MAC, err = model.ParseHardwareAddr(value)
		case key == "IgnoreUnknown":
			ignore = value == "1" || strings.EqualFold(value, "true")
			if !ignore && value != "0" && !strings.EqualFold(value, "false") {
				err = fmt.Errorf("%.60q is none of 1, true, 0, false", value)
			}
		case key == "K8S_POD_NAME" && value != "": // Podman's and Kubernetes' name of the container
			req.Names = append(req.Names, value)
		case key != "IP" && key != "MAC" && !strings.HasPrefix(key, "K8S_POD_"):
			unknown = pair
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if unknown != "" && !ignore {
		return fmt.Errorf("%.60q means nothing to flatnet; IgnoreUnknown=1 would let it pass", unknown)
	}
	return nil
}

// parseIP reads an address, with or without a prefix length. The length is ignored:
// the subnet's is what counts.
func parseIP(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	return fields.ParseAddr(s)
}

// readRequest reads the request's keys (CONVENTIONS.md of the CNI). Addresses of
// args.cni and runtimeConfig add up with those of CNI_ARGS; the last MAC address
// takes precedence.
func readRequest(doc, runtime *strictjson.Object, req *model.Request) {
	for _, o := range []*strictjson.Object{doc.Object("args").Object("cni"), runtime} {
		req.IPs = append(req.IPs, fields.Texts(o, "ips", parseIP)...)
		if mac := fields.MAC(o, "mac"); mac != (model.HardwareAddr{}) {
			req.MAC = mac
		}
	}
	req.Names = append(req.Names, runtime.Object("aliases").Strings(req.Key.Network)...)
	bandwidth := runtime.Object("bandwidth")
	req.Bandwidth.Ingress = readLimit(bandwidth, "ingressRate", "ingressBurst")
	req.Bandwidth.Egress = readLimit(bandwidth, "egressRate", "egressBurst")
	for _, o := range runtime.ManyObjects("portMappings", fields.MaxPorts) {
		req.Ports = append(req.Ports, model.PortMapping{
			Protocol: cmp.Or(fields.Text(o, "protocol", parseProtocol), model.TCP),
			HostIP:   fields.HostIP(o, "hostIP"), HostPort: fields.Port(o, "hostPort"),
			ContainerPort: fields.Port(o, "containerPort"),
		})
	}
	req.Ports = fields.Translatable(runtime, "portMappings", req.Ports)
}

func parseProtocol(s string) (uint8, error) { return fields.ParseProtocol(strings.ToLower(s)) }

// maxRate is far above any interface's rate, in bits, and far from overflows.
const maxRate = 1 << 50

func readLimit(o *strictjson.Object, rate, burst string) (l model.Limit) {
	l.Rate, _ = o.Uint(rate, maxRate)
	l.Burst, _ = o.Uint(burst, maxRate)
	if l.Rate == 0 && l.Burst != 0 {
		o.Fail(burst, "must not be given without %s", rate)
	}
	return l
}
