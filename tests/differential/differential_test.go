package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"

	"flatnet/bridge/model"
	"flatnet/cni"
	"flatnet/ipam"
)

// An engine notes what an ADD asks for.
type engine struct{ config *model.Config }

func (e *engine) Add(c *model.Config) (model.Result, error) {
	e.config = c
	return model.Result{}, nil
}
func (*engine) Check(*model.Config, model.Result) error { return nil }
func (*engine) Del(*model.Config) error                 { return nil }
func (*engine) GC(*model.Config, []model.Key) error     { return nil }
func (*engine) Status(*model.Config) error              { return nil }

// flatnet is flatnet's reading, its address ranges as it would lease them; nil
// if it refuses.
func flatnet(stdin []byte, args string) (*model.Config, [][]ipam.Range, string) {
	env := map[string]string{
		"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/x", "CNI_PATH": "/x", "CNI_ARGS": args,
	}
	var e engine
	var out bytes.Buffer
	cni.Main(cni.Call{
		Getenv: func(k string) string { return env[k] },
		Stdin:  bytes.NewReader(stdin), Stdout: &out, Stderr: &out,
	}, &e)
	if e.config == nil {
		return nil, nil, out.String()
	}
	var sets [][]ipam.Range
	for _, set := range e.config.IPAM.Sets {
		var ranges []ipam.Range
		for _, r := range set {
			valid, err := ipam.NewRange(r)
			if err != nil {
				return nil, nil, err.Error()
			}
			ranges = append(ranges, valid)
		}
		sets = append(sets, ranges)
	}
	if _, err := ipam.NewSets(e.config.IPAM.Sets); err != nil {
		return nil, nil, err.Error()
	}
	return e.config, sets, ""
}

// wider are the refusals of the reference where flatnet takes more on purpose:
// /31 and /127 (RFC 3021, RFC 6164), several addresses in IP= (SPEC 1.1.0 is
// silent, Podman has it), a MAC address beside an IP address, which no single
// reference plugin reads, Kubernetes' keys, and subnets with host bits, which are
// masked.
var wider = []string{"has host bits set", "too small to allocate from", "invalid pair", "unknown args", "ip: invalid", "error parsing value of pair"}

var seeds = []string{
	`{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet"}`,
	`{"cniVersion":"0.3.1","name":"mynet","type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"ipam":{"type":"flatnet-ipam","subnet":"10.22.0.0/16","routes":[{"dst":"0.0.0.0/0"}]}}`,
	`{"cniVersion":"1.0.0","name":"n","type":"x","isDefaultGateway":true,"hairpinMode":true,"mtu":1400,"forceAddress":true,"vlan":5,
		"vlanTrunk":[{"id":7},{"minID":100,"maxID":105}],"preserveDefaultVlan":true,"macspoofchk":true,"portIsolation":true,
		"dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["a","b"],"options":["o"]},
		"ipam":{"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","rangeEnd":"10.1.0.20","gateway":"10.1.0.254"},{"subnet":"10.2.0.0/24"}],[{"subnet":"fd00:1::/64"}]],
		"routes":[{"dst":"::/0","gw":"fd00:1::9","mtu":1400,"advmss":1200,"priority":5,"table":100,"scope":200}],"dataDir":"/tmp/x","resolvConf":"/etc/resolv.conf"},
		"args":{"cni":{"ips":["10.1.0.11"],"mac":"02:00:00:00:00:01"}},
		"runtimeConfig":{"ips":["fd00:1::5/64"],"mac":"02:00:00:00:00:02","ipRanges":[[{"subnet":"10.9.0.0/16"}]]}}`,
	`{"NAME":"n","Type":"x","ipam":{"Subnet":"10.1.0.0/31"}}`,
	`{"name":"n","ipam":{"subnet":"10.1.0.0/24","rangeEnd":"10.1.0.255"}}`,
	`{"cniVersion":"1.0.0","name":"n","ipam":{"type":"flatnet-ipam","subnet":"10.1.0.0/24","routes":[{"dst":"192.0.2.9/24"}]}}`,
	`{"cniVersion":"1.0.0","name":"n","ipam":{"type":"flatnet-ipam","subnet":"10.1.0.9/24"}}`,
}

func TestSeedsAreAccepted(t *testing.T) {
	for _, s := range seeds {
		if c, _, refusal := flatnet([]byte(s), "IgnoreUnknown=1;IP=10.22.0.7"); c == nil {
			t.Errorf("%s: %s", s, refusal)
		}
	}
}

// FuzzText varies the text of configurations.
func FuzzText(f *testing.F) {
	for _, s := range seeds {
		for _, args := range []string{"", "IP=10.1.0.7", "MAC=02:00:00:00:00:03;IP=10.22.0.7/16"} {
			f.Add([]byte(s), args)
		}
	}
	f.Fuzz(agree)
}

// FuzzValues varies the values of a configuration that always is JSON.
func FuzzValues(f *testing.F) {
	f.Add("10.1.0.0/24", "10.1.0.5", "10.1.0.9", "10.1.0.1", "0.0.0.0/0", "10.1.0.2", "10.1.0.7", "02:00:00:00:00:01", "br0", 1500, 100, uint16(0))
	f.Add("fd00::/64", "", "fd00::ffff", "", "2001:db8::/32", "fd00::9", "fd00::7/64", "", "", 0, 0, uint16(0xffff))
	f.Add("10.0.0.0/30", "10.0.0.0", "10.0.0.3", "10.0.0.2", "10.0.0.0/8", "", "::ffff:10.0.0.1", "02-00-00-00-00-01", "b", 68, 4094, uint16(0x0f0f))
	f.Fuzz(func(t *testing.T, subnet, start, end, gateway, dst, gw, ip, mac, br string, number, vlan int, flags uint16) {
		object := map[string]any{"cniVersion": "1.0.0", "name": "n", "type": "x", "mtu": number, "vlan": vlan}
		for i, key := range []string{
			"isGateway", "isDefaultGateway", "ipMasq", "forceAddress", "hairpinMode", "promiscMode", "macspoofchk", "portIsolation", "preserveDefaultVlan",
		} {
			if flags>>i&1 != 0 {
				object[key] = flags>>(i+1)&1 != 0
			}
		}
		text := func(o map[string]any, key, value string) map[string]any {
			if value != "" {
				o[key] = value
			}
			return o
		}
		text(object, "bridge", br)
		r := text(text(text(text(map[string]any{}, "subnet", subnet), "rangeStart", start), "rangeEnd", end), "gateway", gateway)
		ipam := map[string]any{"ranges": []any{[]any{r}}, "routes": []any{
			text(text(map[string]any{"mtu": number, "advmss": vlan, "priority": number, "table": vlan, "scope": vlan & 0xff}, "dst", dst), "gw", gw),
		}}
		if flags&0x8000 != 0 {
			r["routes"], ipam = ipam["routes"], r
		}
		object["ipam"] = ipam
		object["args"] = map[string]any{"cni": map[string]any{"mac": mac}}
		object["runtimeConfig"] = map[string]any{"ips": []string{ip}}
		stdin, err := json.Marshal(object)
		if err != nil {
			return
		}
		agree(t, stdin, "IP="+ip)
	})
}

// otherCase says whether a key is written in another case than it has in this
// file: encoding/json, and so the reference, reads it all the same, and flatnet
// does not know it.
func otherCase(stdin []byte) bool {
	for _, key := range keys.FindAllSubmatch(stdin, -1) {
		for _, seed := range seeds {
			for _, known := range keys.FindAllStringSubmatch(seed, -1) {
				if string(key[1]) != known[1] && strings.EqualFold(string(key[1]), known[1]) {
					return true
				}
			}
		}
	}
	return false
}

// keys are what looks like a key of an object.
var keys = regexp.MustCompile(`"([^"]*)"\s*:`)

// agree fails unless the reference accepts what flatnet accepts, and reads the
// same out of it. flatnet may refuse more.
func agree(t *testing.T, stdin []byte, args string) {
	if otherCase(stdin) {
		return
	}
	args = strings.TrimSuffix("IgnoreUnknown=1;"+args, ";")
	got, sets, _ := flatnet(stdin, args)
	if got == nil {
		return
	}
	want, err := read(stdin, args)
	if err != nil {
		if !slices.ContainsFunc(wider, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Fatalf("flatnet accepts %s with %s, which the reference refuses: %v", stdin, args, err)
		}
		return
	}
	if diff := compare(got, sets, want); diff != "" {
		t.Fatalf("%s\n%s with %s", diff, stdin, args)
	}
}

// compare returns the first difference.
func compare(got *model.Config, sets [][]ipam.Range, want reading) (diff string) {
	same := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) && diff == "" {
			diff = fmt.Sprintf("%s: flatnet reads %v, the reference %v", what, got, want)
		}
	}
	n := got.Network
	same("name", n.Name, want.Name)
	if want.Bridge != nil {
		same("bridge", n.Bridge, *want.Bridge)
	}
	same("mtu", n.MTU, want.MTU)
	if def := want.IsDefault; want.IsGateway != nil || def != nil && *def {
		same("isGateway", n.IsGateway, want.IsGateway != nil && *want.IsGateway || def != nil && *def || def == nil && n.IsDefaultGateway)
	}
	if want.IsDefault != nil {
		same("isDefaultGateway", n.IsDefaultGateway, *want.IsDefault)
	}
	if want.Masq != nil {
		same("ipMasq", n.IPMasq, *want.Masq)
	}
	same("forceAddress", n.ForceAddress, want.Force)
	same("hairpinMode", n.HairpinMode, want.Hairpin)
	same("promiscMode", n.PromiscMode, want.Promisc)
	same("vlan", n.VLANs.ID, want.VLAN)
	same("vlanTrunk", n.VLANs.Trunk, want.trunk)
	same("preserveDefaultVlan", n.VLANs.KeepDefault, want.KeepDefault)
	same("macspoofchk", n.SpoofCheck, want.SpoofCheck)
	same("enabledad", n.DAD, want.DAD)
	same("disableContainerInterface", n.NoAddress, want.NoAddress)
	same("portIsolation", n.PortIsolated, want.Isolation)
	if want.Runtime.DNS == nil {
		same("dns", n.DNS, model.DNS{Nameservers: want.DNS.Nameservers, Domain: want.DNS.Domain, Search: want.DNS.Search, Options: want.DNS.Options})
	}
	mac := got.Request.MAC.String()
	if (got.Request.MAC == model.HardwareAddr{}) {
		mac = ""
	}
	same("mac", mac, want.mac)
	if got.IPAM.Type != "" || want.ipam == nil || n.NoAddress {
		return diff
	}
	same("ipam.dataDir", got.IPAM.DataDir, want.ipam.DataDir)
	same("ipam.resolvConf", got.IPAM.ResolvConf, want.ipam.ResolvConf)
	same("ranges", describe(sets), describeReference(want.ipam.Ranges))
	same("routes", routes(n.Routes), referenceRoutes(want.ipam))
	var ips []netip.Addr
	for _, ip := range want.ipam.IPArgs {
		if a := addr(ip); !slices.Contains(ips, a) {
			ips = append(ips, a)
		}
	}
	same("requested addresses", got.Request.IPs, ips)
	return diff
}

func describe(sets [][]ipam.Range) (all []string) {
	for _, set := range sets {
		for _, r := range set {
			all = append(all, fmt.Sprint(r.Subnet, " ", r, " ", r.Gateway))
		}
		all = append(all, ";")
	}
	return all
}

func describeReference(sets []allocator.RangeSet) (all []string) {
	for _, set := range sets {
		for _, r := range set {
			subnet, start, end := prefix(net.IPNet(r.Subnet)), addr(r.RangeStart), addr(r.RangeEnd)
			// flatnet leaves out network and broadcast addresses that a range names.
			first, last := subnet.Addr().Next(), lastHost(subnet)
			if start.Less(first) {
				start = first
			}
			if last.Less(end) {
				end = last
			}
			all = append(all, fmt.Sprintf("%s %s-%s %s", subnet, start, end, addr(r.Gateway)))
		}
		all = append(all, ";")
	}
	return all
}

// lastHost is the last address of a subnet that a host may have: before IPv4's
// broadcast address.
func lastHost(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	if a.Is4() {
		a = a.Prev()
	}
	return a
}

func routes(list []model.Route) (all []string) {
	for _, r := range list {
		all = append(all, route(r.Dst, r.Gateway, r.MTU, r.AdvMSS, r.Priority, r.Table, r.Scope))
	}
	return all
}

func referenceRoutes(c *allocator.IPAMConfig) (all []string) {
	for _, r := range c.Routes {
		all = append(all, route(prefix(r.Dst).Masked(), addr(r.GW), r.MTU, r.AdvMSS, r.Priority, r.Table, r.Scope))
	}
	return all
}

func route[N, T, S any](dst netip.Prefix, gw netip.Addr, mtu, advmss, priority N, table *T, scope *S) string {
	s := fmt.Sprint(dst, " ", gw, " ", mtu, " ", advmss, " ", priority)
	if table != nil {
		s += fmt.Sprint(" table ", *table)
	}
	if scope != nil {
		s += fmt.Sprint(" scope ", *scope)
	}
	return s
}
