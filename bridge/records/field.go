package records

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/peer"
)

// A field is one value of a record: its key, which is that of the configuration if it
// has one, the text of the value, and how to set the value from a text. A record without
// a required one is of an earlier version.
type field struct {
	key, text string
	set       func(string) error
	required  bool
}

func ifName(key string, v *string) field {
	return field{key, *v, func(s string) error { *v = s; return model.ValidIfName(s) }, true}
}

func dir(key string, v *string) field {
	return field{key, *v, func(s string) error {
		*v = s
		if s != "" && !filepath.IsAbs(s) {
			return fmt.Errorf("%q is not an absolute path", s)
		}
		return nil
	}, false}
}

func mac(key string, v *model.HardwareAddr) field {
	return field{key, v.String(), func(s string) (err error) { *v, err = model.ParseHardwareAddr(s); return err }, false}
}

func flag(key string, v *bool) field {
	set := func(s string) (err error) { *v, err = strconv.ParseBool(s); return err }
	return field{key, strconv.FormatBool(*v), set, false}
}

func number[T uint16 | uint32 | uint64](key string, v *T) field {
	set := func(s string) (err error) { *v, err = parseNumber[T](s); return err }
	return field{key, strconv.FormatUint(uint64(*v), 10), set, false}
}

func parseNumber[T uint16 | uint32 | uint64](s string) (T, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil && uint64(T(n)) != n {
		err = fmt.Errorf("%s is too large", s)
	}
	return T(n), err
}

// list is a field of several values, whose texts have no comma.
func list[T any](key string, v *[]T, format func(T) string, parse func(string) (T, error)) field {
	var texts []string
	for _, e := range *v {
		texts = append(texts, format(e))
	}
	return field{key, strings.Join(texts, ","), func(s string) error {
		for s := range strings.SplitSeq(s, ",") {
			e, err := parse(s)
			if err != nil {
				return err
			}
			*v = append(*v, e)
		}
		return nil
	}, false}
}

// networkFields are those of what a network's attachments share that its configuration decides.
func networkFields(s *model.Shared) []field {
	return []field{
		ifName("bridge", &s.Bridge), mac("mac", &s.BridgeMAC), number("mtu", &s.MTU),
		flag("isGateway", &s.IsGateway), flag("ipMasq", &s.IPMasq), list("noMasq", &s.Flat, netip.Prefix.String, netip.ParsePrefix),
		flag("promiscMode", &s.PromiscMode), flag("hairpinMode", &s.HairpinMode),
		flag("internal", &s.Internal), flag("isolation", &s.Isolated), flag("portIsolation", &s.PortIsolated),
		flag("inbound", &s.PublishedOnly), flag("forwardAccept", &s.ForwardAccept), flag("dnsEnabled", &s.ServesDNS), number("dnsPort", &s.DNSPort),
		flag("macspoofchk", &s.SpoofCheck), flag("disableContainerInterface", &s.NoAddress),
		flag("allowOverlap", &s.AllowOverlap), dir("dataDir", &s.DataDir),
		number("vlan", &s.VLANs.ID), flag("preserveDefaultVlan", &s.VLANs.KeepDefault),
		list("vlanTrunk", &s.VLANs.Trunk, func(id uint16) string { return strconv.Itoa(int(id)) }, parseNumber[uint16]),
		flag("spans", &s.Spans), list("peers", &s.Peers, peer.Peer.String, peer.Parse),
		list("subnets", &s.Subnets, formatSubnet, parseSubnet), list("served", &s.Served, formatSubnet, parseSubnet),
	}
}

// sharedFields are all fields of that record: also those that no verb of an attachment goes by.
func sharedFields(s *model.Shared) []field {
	return append(networkFields(s), list("leaving", &s.Leaving, peer.Peer.String, peer.Parse))
}

// attachmentFields are those of the record of one attachment, beside its name.
func attachmentFields(a *model.Attachment) []field {
	return []field{
		ifName("hostEnd", &a.HostEnd), mac("mac", &a.MAC), number("mtu", &a.MTU),
		flag("internal", &a.Internal), flag("macspoofchk", &a.SpoofCheck), flag("disableContainerInterface", &a.NoAddress),
		list("addresses", &a.Addresses, formatSubnet, parseSubnet), number("rank", &a.Rank),
		number("ingressRate", &a.Bandwidth.Ingress.Rate), number("ingressBurst", &a.Bandwidth.Ingress.Burst),
		number("egressRate", &a.Bandwidth.Egress.Rate), number("egressBurst", &a.Bandwidth.Egress.Burst),
		list("ports", &a.Ports, formatPort, parsePort), flag("portsByHand", &a.ByHand),
	}
}

// none stands for an address that there is not.
const none = "-"

func formatSubnet(s model.Subnet) string {
	return s.Prefix.String() + " " + cmp.Or(model.JoinAddrs([]netip.Addr{s.Gateway}), none)
}

func parseSubnet(text string) (s model.Subnet, err error) {
	prefix, gateway, _ := strings.Cut(text, " ")
	if s.Prefix, err = netip.ParsePrefix(prefix); err == nil && gateway != none {
		s.Gateway, err = netip.ParseAddr(gateway)
	}
	return s, err
}

func formatPort(p model.Publication) string {
	host, _ := p.Host.MarshalText() // empty if it is invalid
	local := map[bool]string{true: "local", false: none}[p.Local]
	return fmt.Sprintf("%d %s %s %s", p.Protocol, cmp.Or(string(host), none), p.Target, local)
}

func parsePort(text string) (p model.Publication, err error) {
	f := strings.Split(text, " ")
	if len(f) != 4 {
		return p, fmt.Errorf("%q is no published port", text)
	}
	protocol, err := strconv.ParseUint(f[0], 10, 8)
	p.Protocol, p.Local = uint8(protocol), f[3] == "local"
	host := strings.TrimPrefix(f[1], none)
	err = errors.Join(err, p.Host.UnmarshalText([]byte(host)), p.Target.UnmarshalText([]byte(f[2])))
	return p, err
}
