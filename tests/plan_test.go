package tests

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A planned is what flatnet plan --json prints.
type planned struct {
	Network, Door, Source, HostInterface, MTUFrom, Status string
	Bridge                                                struct {
		Name   string
		Exists bool
	}
	Gateways []struct {
		Address, Interface string
		Exists             bool
	}
	Container struct {
		Interface, MAC string
		Addresses      []struct{ Address, Gateway string }
		Routes         []struct {
			Dst, GW  string
			Priority int
		}
	}
	MTU                                                      int
	Masquerade, Internal, Isolated, SpoofCheck, PortIsolated bool
	VLAN                                                     int
	Ports                                                    []struct{ Host, Target, Protocol string }
	Changes, Nameservers, Warnings, Unknown                  []string
}

// host is all that an ADD could change on the host, with times of files. Carriers are left
// out: the kernel reports them some time after a link was raised.
func (b box) host() string {
	b.t.Helper()
	return b.state() + b.Sh(`ip -o addr | awk '$4 !~ /^fe80/ {print $2, $4}'; ip -o link | sed 's/NO-CARRIER,//; s/,LOWER_UP//' | awk '{print $2, $3, $5}'; { ip route; ip -6 route | grep -v ^fe80; } | sed 's/ linkdown//'; ip rule
		find /run/flatnet /var/lib/flatnet /run/containers /etc/cni /etc/containers -printf '%p %s %T@ %m\n' 2>/dev/null | sort
		cd /proc/sys/net; cat ipv4/ip_forward ipv6/conf/*/forwarding ipv4/conf/*/route_localnet ipv4/conf/*/forwarding ipv6/conf/*/accept_ra`)
}

// plan plans, which must change nothing.
func (b box) plan(stdin string, args ...string) (string, error) {
	b.t.Helper()
	before := b.host()
	cmd := b.Cmd(append([]string{program, "plan"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); ok {
		err = fmt.Errorf("status %d: %s", exit.ExitCode(), stderr.String())
	}
	if after := b.host(); after != before {
		b.t.Errorf("plan %q changed\n%s\nto\n%s", args, before, after)
	}
	return stdout.String(), err
}

// planOf is a plan for the container, as JSON.
func (b box) planOf(stdin, id string) (p planned) {
	b.t.Helper()
	out, err := b.plan(stdin, "-f", "-", "--json", "--container", id)
	if err != nil {
		b.t.Fatalf("plan of %s: %v", stdin, err)
	}
	fromJSON(b.t, out, &p)
	return p
}

// compare compares a plan with what an ADD has made: in the container and on the host.
func (b box) compare(p planned, inside lab.Place, id string) {
	b.t.Helper()
	in, on := links(b.t, inside), links(b.t, b.Place)
	eth0, end, br := in[p.Container.Interface], on[p.HostInterface], on[p.Bridge.Name]
	if eth0.IfName == "" || eth0.Address != p.Container.MAC || end.Master != p.Bridge.Name || br.Linkinfo.Kind != "bridge" {
		b.t.Errorf("%+v: %+v, %+v, %+v", p, eth0, end, br)
	}
	if p.MTU != 0 && (eth0.MTU != p.MTU || end.MTU != p.MTU) || p.MTU == 0 && eth0.MTU != 1500 {
		b.t.Errorf("MTU is %d and not %d (%s)", eth0.MTU, p.MTU, p.MTUFrom)
	}
	has := func(l link, address string) bool {
		return slices.ContainsFunc(l.AddrInfo, func(a struct {
			Local     string
			Prefixlen int
			Family    string
			Scope     string
		}) bool {
			return fmt.Sprintf("%s/%d", a.Local, a.Prefixlen) == address
		})
	}
	global := 0
	for _, a := range eth0.AddrInfo {
		if a.Scope == "global" {
			global++
		}
	}
	if global != len(p.Container.Addresses) {
		b.t.Errorf("%d addresses and not %+v", global, p.Container.Addresses)
	}
	for _, a := range p.Container.Addresses {
		if !has(eth0, a.Address) {
			b.t.Errorf("%s has no address %s", id, a.Address)
		}
	}
	for _, g := range p.Gateways {
		if !has(on[g.Interface], g.Address) {
			b.t.Errorf("%s has no address %s", g.Interface, g.Address)
		}
	}
	b.compareRest(p, inside)
}

// compareRest compares routes and rules.
func (b box) compareRest(p planned, inside lab.Place) {
	b.t.Helper()
	routes := strings.Split(inside.Sh("ip -N route show table all; ip -N -6 route show table all"), "\n")
	for _, r := range p.Container.Routes {
		dst := strings.NewReplacer("0.0.0.0/0", "default", "::/0", "default").Replace(r.Dst)
		i := slices.IndexFunc(routes, func(line string) bool {
			return strings.HasPrefix(line, dst+" via "+r.GW+" ") && (r.Priority == 0 || strings.Contains(line, fmt.Sprintf(" metric %d", r.Priority)))
		})
		if i < 0 {
			b.t.Errorf("no route %+v in %q", r, routes)
		}
	}
	rules := b.Run("nft", "list", "ruleset")
	made := 0
	for _, m := range regexp.MustCompile(`(?m)^table (\w+) (\S+) \{|^\tchain (\S+) \{`).FindAllStringSubmatch(rules, -1) {
		if m[3] != "" {
			made++
		}
	}
	said := 0
	for _, c := range p.Changes {
		if m := regexp.MustCompile(`^chain (\w+) (\S+) (\S+) is made`).FindStringSubmatch(c); m != nil {
			said++
			if _, err := b.Try("nft", "list", "chain", m[1], m[2], m[3]); err != nil {
				b.t.Errorf("%s: %v", c, err)
			}
		}
	}
	if said != made && !p.SpoofCheck { // its chains are one check's
		b.t.Errorf("%d chains are made, and planned were %d: %q\n%s", made, said, p.Changes, rules)
	}
	if masquerades := strings.Contains(rules, "daddr != 224.0.0.0/4"); masquerades != p.Masquerade && len(p.Container.Addresses) > 0 && strings.Contains(p.Container.Addresses[0].Address, ".") {
		b.t.Errorf("masquerade is %v: %s", p.Masquerade, rules)
	}
}

// plannedConfs are configurations of CNI, with what a plan must say of each.
var plannedConfs = []struct{ name, conf, want string }{
	{"the least", lab.Conf, `"masquerade": true`},
	{"dual stack and ports", publish(dual, mapping(8080, 80, ""), mapping(53, 53, `,"protocol":"udp","hostIP":"127.0.0.1"`)), `"host": "127.0.0.1:53"`},
	{"IPv6", `{"cniVersion":"1.1.0","name":"six","type":"flatnet","bridge":"br6","ipam":{"subnet":"fd99::/64"}}`, `"gateway": "fd99::1"`},
	{"keys", conf(`"mtu":1300,"ipMasq":false,"isDefaultGateway":false,"isolation":"none","hairpinMode":true,"ipam":{"subnet":"10.99.0.0/24",` +
		`"rangeStart":"10.99.0.50","gateway":"10.99.0.9","routes":[{"dst":"10.7.0.0/16"},{"dst":"10.8.0.0/16","gw":"10.99.0.3","priority":7}]}`), `"mtu": 1300`},
	{"internal", conf(`"internal":true`), `"internal": true`},
	{"limits", conf(`"macspoofchk":true,"portIsolation":true,"inbound":"published","runtimeConfig":{"bandwidth":{"ingressRate":1000000},"mac":"02:00:00:00:00:09","ips":["10.87.1.77"]}`),
		`"mac": "02:00:00:00:00:09"`},
	{"duplicate address detection", `{"cniVersion":"1.0.0","name":"dad","type":"flatnet","enabledad":true,"ipam":{"subnet":"fd98::/64"}}`, `"dad": true`},
	{"no address", conf(`"disableContainerInterface":true`), `"addresses": []`},
}

// A plan is what the ADD after it makes, and changes nothing itself: for the first container of
// a network, and for the second.
func TestPlanIsWhatAddMakes(t *testing.T) {
	t.Parallel()
	for _, tt := range plannedConfs {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t)
			for i, id := range []string{"web", "second"} {
				if i == 1 && strings.Contains(tt.conf, "8080") || strings.Contains(tt.conf, "10.87.1.77") && i == 1 {
					return // the first one has the port, or the address
				}
				out, err := b.plan(tt.conf, "-f", "-", "--json", "--container", id)
				if err != nil || !strings.Contains(out, tt.want) {
					t.Fatalf("%v: no %s in %s", err, tt.want, out)
				}
				var p planned
				fromJSON(t, out, &p)
				if p.Bridge.Exists != (i == 1) || p.Status != "" || len(p.Unknown) > 0 {
					t.Errorf("%+v", p)
				}
				c := b.attach(id, func(c *lab.Call) { c.Conf = tt.conf })
				if c.result.Stderr != "" || len(p.Warnings) > 0 {
					t.Errorf("warnings are %q and not %q", c.result.Stderr, p.Warnings)
				}
				for j, ip := range c.result.IPs {
					if p.Container.Addresses[j].Address != ip.Address || p.Container.Addresses[j].Gateway != ip.Gateway {
						t.Errorf("%+v and not %+v", ip, p.Container.Addresses[j])
					}
				}
				if i == 0 {
					b.compare(p, c.Place, id)
				} else if chains := strings.Count(strings.Join(p.Changes, "\n"), "chain "); chains > 0 {
					t.Errorf("the second container makes chains: %q", p.Changes)
				}
			}
		})
	}
}

// The same for networks of netavark, whole ones and some that create has still to complete.
func TestPlanIsWhatSetupMakes(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{
		subnet5, `"subnets":[{"subnet":"10.99.5.0/24","gateway":"10.99.5.9"},{"subnet":"fd00:5::/64"}],"options":{"mtu":"1300","isolate":"false"}`,
		`"internal":true,` + subnet5, subnet5 + `,"options":{"no_default_route":"1","metric":"7","masquerade":"false"},"routes":[{"destination":"10.8.0.0/16","gateway":"10.99.5.3"}]`,
		`"subnets":[]`, `"ipv6_enabled":false`,
	} {
		t.Run(keys, func(t *testing.T) {
			b := newBox(t)
			inside := b.NetNS("c1")
			n := network{keys: strings.TrimPrefix(keys, `"internal":true,`)}
			definition, err := b.create(n)
			if err != nil {
				t.Fatalf("create: %v: %s", err, definition)
			}
			if n.keys != keys {
				definition = strings.Replace(definition, `"internal":false`, `"internal":true`, 1)
			}
			p := b.planOf(definition, "c1")
			if p.Door != "netavark" || p.Network != "opt" || p.Status != "" {
				t.Errorf("%+v", p)
			}
			if n.keys == keys {
				if own := b.planOf(`{"name":"opt","id":"1","driver":"flatnet","internal":false,`+keys+`}`, "c1"); fmt.Sprint(own) != fmt.Sprint(p) {
					t.Errorf("before create %+v\nafter it %+v", own, p)
				}
			}
			if out, err := b.exec("setup", "c1", definition, n); err != nil || out == "" {
				t.Fatalf("setup: %v: %s", err, out)
			}
			b.compare(p, inside, "c1")
		})
	}
}

// What an ADD would refuse, a plan refuses with the same words and the status 1.
func TestPlanFailsAsAddDoes(t *testing.T) {
	b := newBox(t)
	b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	b.Sh("ip link add d0 type veth peer name d1; ip addr add 10.50.0.1/16 dev d0; ip link set d0 up; ip link set d1 up")
	for _, tt := range []struct{ name, conf, want string }{
		{"a port of another container", publish(dual, mapping(8080, 81, "")), "is published by flatnet/web/eth0"},
		{"the subnet of an interface", conf(`"name":"n","bridge":"b1","ipam":{"subnet":"10.50.3.0/24"}`), "overlaps with"},
		{"a subnet on the same bridge", `{"cniVersion":"1.0.0","name":"n","type":"flatnet","ipam":{"subnet":"10.87.1.0/25"}}`, "10.87.1"},
		{"no bridge", conf(`"name":"n","bridge":"d0","ipam":{"subnet":"10.60.0.0/24"}`), "d0"},
		{"the address of another", conf(`"runtimeConfig":{"ips":["10.87.1.2"]}`), "10.87.1.2"},
		{"an unknown word", conf(`"isolation":"x"`), "isolation"},
		{"no free address", `{"cniVersion":"1.0.0","name":"full","type":"flatnet","bridge":"b2","ipam":{"subnet":"10.61.0.0/31","rangeStart":"10.61.0.0","rangeEnd":"10.61.0.0"}}`, "10.61.0.0"},
		{"a burst that is too small", conf(`"runtimeConfig":{"bandwidth":{"ingressRate":8000,"ingressBurst":8}}`), "ingressBurst"},
	} {
		conf := strings.Replace(tt.conf, `"name":"flatnet",`, "", strings.Count(tt.conf, `"name":"n"`))
		b.NetNS("second")
		out, err := b.plan(conf, "-f", "-")
		c := call("ADD", "second")
		c.Conf = conf
		r := b.Call(program, c)
		if err == nil || r.Exit == 0 || out != "" || !strings.HasPrefix(err.Error(), "status 1: flatnet: "+r.Msg+" (an ADD would fail with this error") || !strings.Contains(r.Msg, tt.want) {
			t.Errorf("%s: the plan says %v, and ADD %s", tt.name, err, r.Stdout)
		}
		b.Sh("ip netns del second")
	}
	for _, tt := range []struct{ conf, want string }{
		{`{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"},{"type":"flatnet"}]}`, "prevResult"},
		{`{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}`, "no plugin has the type flatnet"},
		{`{"name":"x","driver":"bridge","subnets":[]}`, "driver"},
		{`{`, "stdin"}, {`{"name":"x","driver":"flatnet","subnets":[{"subnet":"10.50.3.0/24"}],"network_interface":"b"}`, "overlaps with"},
		{`{"name":"x","driver":"flatnet","options":{"bad":"1"}}`, "options.bad"},
	} {
		if out, err := b.plan(tt.conf, "-f", "-"); err == nil || out != "" || !strings.Contains(err.Error(), "status 1: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v: %s", tt.conf, err, out)
		}
	}
}

// Networks are found where the runtimes find them, lists are read as libcni reads them, and
// neither the ruleset's generation nor anything else changes.
func TestPlanFindsNetworks(t *testing.T) {
	b := newBox(t)
	if _, err := b.plan("", "none"); err == nil || !strings.Contains(err.Error(), `no flatnet network "none" is configured in /etc/cni/net.d`) {
		t.Errorf("without any: %v", err)
	}
	b.Run("mkfifo", "/etc/cni/net.d/00-five.conflist") // nobody writes to it
	b.Write("/etc/cni/net.d/10-other.conflist", `{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}`)
	b.Write("/etc/cni/net.d/50-five.conflist", `{"cniVersions":["0.4.0","1.0.0"],"name":"five","plugins":[{"type":"flatnet","bridge":"br-five","ipam":{"subnet":"10.99.5.0/24"}},{"type":"tuning"}]}`)
	out, err := b.plan("")
	if err != nil || !strings.Contains(out, "network     five (cni, /etc/cni/net.d/50-five.conflist)") || !strings.Contains(out, "the plugin tuning of the list") {
		t.Errorf("the only one: %v: %s", err, out)
	}
	b.Write("/etc/cni/net.d/40-five.conf", `{"cniVersion":"1.0.0","name":"five","type":"flatnet","bridge":"br-four","ipam":{"subnet":"10.99.4.0/24"}}`)
	b.Sh("mkdir -p /etc/containers/networks")
	b.Write("/etc/containers/networks/pod.json", `{"name":"pod","id":"1","driver":"flatnet","network_interface":"br-pod","subnets":[{"subnet":"10.99.6.0/24"}]}`)
	if out, err := b.plan("", "five"); err != nil || !strings.Contains(out, "br-four") {
		t.Errorf("the first one: %v: %s", err, out)
	}
	if out, err := b.plan("", "pod"); err != nil || !strings.Contains(out, "network     pod (netavark, /etc/containers/networks/pod.json)") || !strings.Contains(out, "10.99.6.2/24") {
		t.Errorf("Podman's: %v: %s", err, out)
	}
	if _, err := b.plan(""); err == nil || !strings.Contains(err.Error(), "name one of the networks five, pod") {
		t.Errorf("without a name: %v", err)
	}
	if _, err := b.plan("", "-f", "/etc/cni/net.d/40-five.conf", "pod"); err == nil || !strings.Contains(err.Error(), `has the network "five" and not "pod"`) {
		t.Errorf("another name: %v", err)
	}
	b.Write("/run/new.conflist", `{"cniVersion":"1.0.0","name":"new","plugins":[{"type":"flatnet","bridge":"br-new","ipam":{"subnet":"10.99.7.0/24"}}]}`)
	if out := b.Sh("cd /run; " + program + " plan -f new.conflist --container 0123456789ab --json"); !strings.Contains(out, `"hostInterface": "fn-01234567"`) {
		t.Errorf("of a file: %s", out)
	}
	b.attach("web")
	b.Run("nft", "add table inet ufw; add chain inet ufw forward { type filter hook forward priority 0; policy drop; }")
	generation := func() string {
		return regexp.MustCompile(`NFTA_GEN_ID=[0-9]+`).FindString(b.Sh(program + " trace reload 2>&1"))
	}
	before := generation()
	out, err = b.plan(lab.Conf, "-f", "-")
	if err != nil || !strings.Contains(out, "10.87.1.3/24") || !regexp.MustCompile(`STATUS +limited connectivity: .*inet ufw`).MatchString(out) {
		t.Errorf("behind another firewall: %v: %s", err, out)
	}
	if after := generation(); before == "" || after != before {
		t.Errorf("the generation was %s and is %s", before, after)
	}
}

// Without root, what can't be asked is unknown, and the rest is there.
func TestPlanWithoutRoot(t *testing.T) {
	b := newBox(t)
	b.attach("web")
	b.Sh("chmod 755 /etc/cni /etc/cni/net.d; cp " + root + "/cni/flatnet.conflist /etc/cni/net.d/87-flatnet.conflist; chmod 644 /etc/cni/net.d/*")
	before := b.host()
	out, err := b.Try("setpriv", "--reuid=65534", "--clear-groups", program, "plan", "flatnet")
	if err != nil || !strings.Contains(out, "bridge      flatnet-br0 (exists)") || !strings.Contains(out, "gateway     10.87.1.1/24 on flatnet-br0 (exists)") ||
		!strings.Contains(out, "unknown     addresses: ") || strings.Contains(out, "STATUS ") {
		t.Errorf("%v: %s", err, out)
	}
	if after := b.host(); after != before {
		t.Errorf("it changed\n%s\nto\n%s", before, after)
	}
}

// A plan names each sysctl that the ADD after it sets, as a trace of that shows, and no other.
func TestPlanNamesEachSysctl(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ conf, before string }{
		"a new network":                {publish(dual, mapping(8080, 80, "")), ""},
		"on a router":                  {publish(lab.Conf, mapping(8080, 80, "")), "sysctl -w net.ipv4.ip_forward=1 net.ipv4.conf.default.forwarding=0"},
		"where interfaces are careful": {dual, "sysctl -w net.ipv6.conf.default.accept_ra=0"},
		"on somebody's bridge":         {dual, "sysctl -w net.ipv4.ip_forward=1; ip link add flatnet-br0 type bridge; ip link set flatnet-br0 up"},
		"without a gateway":            {conf(`"isGateway":false,"ipMasq":false`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(tt.before)
			b.NetNS("c1")
			out, err := b.plan(tt.conf, "-f", "-", "--json")
			if err != nil {
				t.Fatal(err)
			}
			var p planned
			fromJSON(t, out, &p)
			var plans, made []string
			for _, c := range p.Changes {
				if text, ok := strings.CutPrefix(c, "sysctl "); ok {
					plans = append(plans, strings.Fields(text)[0])
				}
			}
			add := call("ADD", "c1")
			cmd := b.Cmd(program)
			cmd.Env = append(add.Env(), "FLATNET_TRACE=1")
			cmd.Stdin = strings.NewReader(tt.conf)
			trace, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, trace)
			}
			for _, m := range regexp.MustCompile(`write "/proc/sys/([^"]+)"`).FindAllStringSubmatch(string(trace), -1) {
				made = append(made, m[1])
			}
			slices.Sort(plans)
			slices.Sort(made)
			if !slices.Equal(plans, made) {
				t.Errorf("planned were\n%s\nand set\n%s", strings.Join(plans, "\n"), strings.Join(made, "\n"))
			}
		})
	}
}
