package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// A host ID is all that a host of several needs to be told.
func TestHostID(t *testing.T) {
	b := newBox(t)
	// As a tunnel such as Nebula's, whose subnet is that of all hosts.
	b.Sh("ip tuntap add tun0 mode tun; ip addr add 10.100.0.3/16 dev tun0; ip link set tun0 up")
	with := func(keys string) func(*lab.Call) { return func(c *lab.Call) { c.Conf = conf(keys) } }
	c1 := b.attach("c1", with(`"hostId":3`))
	// The shape in which the seed's project writes it: everything twice.
	c2 := b.attach("c2", with(`"hostId":3,"ipam":{"type":"flatnet-ipam","hostId":3,"subnet":"10.100.3.0/24","gateway":"10.100.3.1",`+
		`"routes":[{"dst":"0.0.0.0/0"},{"dst":"10.100.0.0/16","gw":"10.100.3.1"}]}`))
	if c1.addr != "10.100.3.10" || c2.addr != "10.100.3.11" || c1.result.IPs[0].Gateway != "10.100.3.1" {
		t.Errorf("%+v and %+v", c1.result.IPs, c2.result.IPs)
	}
	if err := c1.Ping(c2.addr); err != nil {
		t.Error(err)
	}
	if rules := b.Run("nft", "list", "ruleset"); !strings.Contains(rules, "ip daddr != 10.100.0.0/16") || strings.Contains(rules, "10.87.0.0/16") {
		t.Errorf("the flat range is not 10.100.0.0/16:\n%s", rules)
	}
	b.do(c1.then("CHECK"))
	b.do(lab.Call{Command: "STATUS", Conf: newer(conf(`"ipam":{"hostId":3}`))})
	b.do(c1.then("DEL"))
	b.do(c2.then("DEL"))

	// Another ID: nobody is left, so the bridge's address is replaced.
	c3 := b.attach("c3", with(`"hostId":254,"ipMasq":false,"ipam":{"rangeStart":"10.100.254.254","ranges":[[{"subnet":"fd10:254::/64"}]]}`))
	if c3.addr != "10.100.254.254" || len(c3.result.IPs) != 2 {
		t.Errorf("%+v", c3.result.IPs)
	}
	if got := links(t, b.Place)[bridgeName].ipv4(); !slices.Equal(got, []string{"10.100.254.1/24"}) {
		t.Errorf("the bridge has %v", got)
	}
	b.do(c3.then("DEL"))
	b.Run("ip", "link", "del", "tun0")
	b.clean()
}

// What contradicts a host ID or a subnet file is refused by name, and nothing is touched.
func TestSpanConflicts(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	before := b.state()
	for _, tt := range []struct {
		keys  string
		texts []string
	}{
		{`"hostId":0`, []string{"hostId", "1 to 254"}},
		{`"hostId":255`, []string{"hostId", "255"}},
		{`"hostId":"3"`, []string{"hostId", "number"}},
		{`"hostId":3,"ipam":{"hostId":4}`, []string{"ipam.hostId", "4", "3"}},
		{`"hostId":3,"ipam":{"subnet":"10.100.4.0/24"}`, []string{"ipam.subnet", "10.100.4.0/24", "10.100.3.0/24", "hostId"}},
		{`"hostId":3,"ipam":{"gateway":"10.100.4.1"}`, []string{"10.100.4.1"}},
		{`"ipam":{"hostId":3,"ranges":[[{"subnet":"10.1.0.0/24"}]]}`, []string{"ipam.ranges", "10.1.0.0/24", "hostId"}},
		{`"hostId":3,"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24"}]]}`, []string{"ipRanges", "10.1.0.0/24", "hostId"}},
		{`"hostId":3,"disableContainerInterface":true`, []string{"hostId", "disableContainerInterface"}},
		{`"hostId":3,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}`, []string{"hostId", "host-local"}},
		{`"hostId":3,"subnetFile":"/run/f"`, []string{"subnetFile", "hostId"}},
		{`"subnetFile":"run/f"`, []string{"subnetFile", "run/f", "absolute"}},
		{`"subnetFile":"/run/../f"`, []string{"subnetFile", "/run/../f"}},
		{`"subnetFile":"/run/f","ipam":{"subnet":"10.1.0.0/24"}`, []string{"ipam.subnet", "subnetFile"}},
		{`"subnetFile":"/run/f","ipam":{"gateway":"10.1.0.1"}`, []string{"ipam.gateway", "subnetFile"}},
		{`"subnetFile":"/run/f","ipam":{"ranges":[[{"subnet":"fd00::/64"}]]}`, []string{"ipam.ranges", "fd00::/64", "subnetFile"}},
		{`"registryEndpoints":["https://10.1.1.1/"]`, []string{"registryEndpoints[0]", "https://10.1.1.1/", "http://"}},
		{`"registryEndpoints":["http://10.1.1.1/a b"]`, []string{"registryEndpoints[0]", "a b"}},
		{`"registryEndpoints":"http://10.1.1.1/"`, []string{"registryEndpoints", "list"}},
		{`"registryEndpoints":[` + strings.TrimSuffix(strings.Repeat(`"http://10.1.1.1/",`, 17), ",") + `]`, []string{"registryEndpoints", "17", "16"}},
		{`"registryEnabled":true`, []string{"registryEnabled", "registryEndpoints"}},
		{`"subnetFile":"/run/f","ipam":{"subnetFile":"/run/g"}`, []string{"ipam.subnetFile", "/run/g", "/run/f"}},
	} {
		add := call("ADD", "c1")
		add.Conf = conf(tt.keys)
		b.refused(add, 7, tt.texts...)
	}
	b.same(before)
}

const flannelFile = "/run/flannel/subnet.env"

// flannel writes the file as flanneld does for the third /24, or another.
func (b box) flannel(third int, masquerades bool) {
	b.Run("mkdir", "-p", "/run/flannel")
	b.Write(flannelFile, fmt.Sprintf("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.%d.1/24\n"+
		"FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244:%[1]d::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=%t\n", third, masquerades))
}

// The subnet is the file's at each ADD; all other verbs do without the file.
func TestSubnetFile(t *testing.T) {
	b := newBox(t)
	file := func(c *lab.Call) { c.Conf = newer(conf(`"subnetFile":"` + flannelFile + `"`)) }
	b.NetNS("none")
	add, status := call("ADD", "none"), lab.Call{Command: "STATUS"}
	file(&add)
	file(&status)
	before := b.state()
	b.refused(add, 11, flannelFile, "does not exist", "flanneld")
	b.refused(status, 50, flannelFile, "does not exist")
	b.same(before)

	b.flannel(3, true)
	// As flanneld's own interfaces.
	b.Sh("ip link add flannel.1 type vxlan id 1 dstport 8472 dev up0; ip addr add 10.244.3.0/32 dev flannel.1; " +
		"ip addr add fd00:10:244:3::/128 dev flannel.1; ip link set flannel.1 up")
	b.do(status)
	c1, c2 := b.attach("c1", file), b.attach("c2", file)
	if c1.addr != "10.244.3.2" || len(c1.result.IPs) != 2 || c1.result.IPs[1].Address != "fd00:10:244:3::2/64" || c1.result.IPs[0].Gateway != "10.244.3.1" {
		t.Errorf("%+v", c1.result.IPs)
	}
	if err := c1.Ping(c2.addr); err != nil {
		t.Error(err)
	}
	if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, "10.244.0.0/16") {
		t.Errorf("FLANNEL_IPMASQ is true, so flannel masquerades:\n%s", rules)
	}
	b.do(status)

	// The host has got another subnet.
	b.flannel(7, false)
	b.refused(add, 102, "10.244.3.0/24", "10.244.7.0/24", "2 of its containers", "c1", "10.244.3.2")
	b.refused(status, 51, "10.244.3.0/24", "10.244.7.0/24")
	b.do(c1.then("CHECK"))
	b.Sh("rm " + flannelFile)
	b.do(c1.then("CHECK"))
	b.do(lab.Call{Command: "GC", Conf: strings.TrimSuffix(status.Conf, "}") + `,"cni.dev/valid-attachments":[{"containerID":"c2","ifname":"eth0"}]}`})
	if _, there := links(t, b.Place)["fn-c1"]; there {
		t.Error("GC left c1")
	}
	b.Sh("echo nonsense >" + flannelFile)
	b.do(c2.then("CHECK"))
	b.do(c2.then("DEL"))
	b.refused(add, 102, flannelFile, "line 1", "nonsense")
	b.flannel(7, false)
	b.do(status)
	if r := b.do(add); r.Addr() != "10.244.7.2" {
		t.Errorf("%+v", r.IPs)
	}
	if got := links(t, b.Place)[bridgeName].ipv4(); !slices.Equal(got, []string{"10.244.7.1/24"}) {
		t.Errorf("the bridge has %v", got)
	}
	if rules := b.Run("nft", "list", "ruleset"); !strings.Contains(rules, "ip daddr != 10.244.0.0/16") {
		t.Errorf("FLANNEL_IPMASQ is false, so flatnet masquerades, but not within FLANNEL_NETWORK:\n%s", rules)
	}
	add.Command = "DEL"
	b.do(add)
	b.Run("ip", "link", "del", "flannel.1")
	b.clean()
}

// waiting calls the plugin and returns when it waits for the leases' lock.
func (b box) waiting(c lab.Call) (reply chan lab.Reply) {
	b.t.Helper()
	reply = make(chan lab.Reply, 1)
	inode := strings.TrimSpace(b.Run("stat", "-c", "%i", ipamDir+"/.lock"))
	go func() { reply <- b.Call(program, c) }()
	err := lab.Until(5*time.Second, func() error {
		for line := range strings.Lines(b.Read("/proc/locks")) {
			if strings.Contains(line, "-> FLOCK") && strings.Contains(line, ":"+inode+" ") {
				return nil
			}
		}
		return fmt.Errorf("no call waits for the lock of inode %s:\n%s", inode, b.Read("/proc/locks"))
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return reply
}

// A file that changes while an ADD waits for others decides nevertheless: nothing is leased
// in the subnet that the host no longer has.
func TestSubnetFileChangesDuringADD(t *testing.T) {
	for name, keys := range map[string]string{"lease first": "", "link first": `,"enabledad":true`} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.flannel(3, false)
			file := func(c *lab.Call) { c.Conf = newer(conf(`"subnetFile":"` + flannelFile + `"` + keys)) }
			c1 := b.attach("c1", file)
			b.NetNS("c2")
			add := call("ADD", "c2")
			file(&add)

			unlock := b.lock() // beside a container of the earlier subnet it is an error
			reply := b.waiting(add)
			b.flannel(7, false)
			unlock()
			if r := <-reply; r.Code != 102 || !strings.Contains(r.Stdout, "10.244.7.0/24") {
				t.Errorf("%s", r.Stdout)
			}
			if got := b.leases(); len(got) != 1 {
				t.Errorf("leases %v", got)
			}
			b.do(c1.then("DEL"))

			unlock = b.lock()
			reply = b.waiting(add)
			b.flannel(8, false)
			unlock()
			r := <-reply
			if r.Exit != 0 || r.Addr() != "10.244.8.2" {
				t.Errorf("%s", r.Stdout)
			}
			if got := links(t, b.Place)[bridgeName].ipv4(); !slices.Equal(got, []string{"10.244.8.1/24"}) {
				t.Errorf("the bridge has %v", got)
			}
			add.Command = "DEL"
			b.do(add)
			b.clean()

			b.flannel(3, false)
			add.Command = "ADD"
			unlock = b.lock()
			reply = b.waiting(add)
			b.Sh("rm " + flannelFile)
			unlock()
			if r := <-reply; r.Code != 11 || !strings.Contains(r.Stdout, "does not exist") {
				t.Errorf("%s", r.Stdout)
			}
			b.clean()
		})
	}
}

// A change of one family counts, and on a bridge that somebody else made, which keeps its
// addresses. The network's own bridge loses the gateway of the earlier subnet, and nothing
// that a person has added.
func TestSubnetChanges(t *testing.T) {
	file := func(c *lab.Call) { c.Conf = newer(conf(`"subnetFile":"` + flannelFile + `"`)) }
	for _, premade := range []bool{true, false} {
		t.Run(fmt.Sprint("premade ", premade), func(t *testing.T) {
			b := newBox(t)
			b.flannel(3, false)
			if premade {
				b.Sh("ip link add " + bridgeName + " type bridge; ip link set " + bridgeName + " up")
			}
			c1 := b.attach("c1", file)
			change := "s/fd00:10:244:3::/fd00:10:244:7::/"
			if !premade {
				change += ";s/10.244.3.1/10.244.7.1/"
			}
			b.Sh("sed -i '" + change + "' " + flannelFile + "; ip addr add 172.20.0.1/24 dev " + bridgeName)
			b.NetNS("c2")
			add := call("ADD", "c2")
			file(&add)
			b.refused(add, 102, "fd00:10:244:7::/64", "1 of its containers", "c1")
			b.do(c1.then("DEL"))
			b.do(add)
			addrs := b.Run("ip", "-o", "addr", "show", "dev", bridgeName)
			if strings.Contains(addrs, "fd00:10:244:3::1") != premade || !strings.Contains(addrs, "fd00:10:244:7::1") || !strings.Contains(addrs, "172.20.0.1") {
				t.Errorf("the bridge has %s", addrs)
			}
			add.Command = "DEL"
			b.do(add)
		})
	}
}

// A change is seen also where the range of all hosts is another now, or is not given. When
// nobody is left, the network's own bridge has the new gateways in place of the former ones
// without being told to, and keeps what a person has added.
func TestSubnetChangesWithItsRange(t *testing.T) {
	for _, c := range []struct{ name, keys, change, now, gateways string }{
		{"another range", "", "s/fd00:10:244:/fd00:20:244:/", "fd00:20:244:3::/64", "10.244.3.1/24 172.20.0.1/24 fd00:20:244:3::1/64 fd99::1/64"},
		{"another range of IPv4", "", `s/=10\.244\./=10.99./`, "10.99.3.0/24", "10.99.3.1/24 172.20.0.1/24 fd00:10:244:3::1/64 fd99::1/64"},
		{"no range", `,"noMasq":[]`, "s/fd00:10:244:3::/fd00:10:244:7::/", "fd00:10:244:7::/64", "10.244.3.1/24 172.20.0.1/24 fd00:10:244:7::1/64 fd99::1/64"},
		{"both", "", `s/=10\.244\./=10.99./;s/fd00:10:244:/fd00:20:244:/`, "10.99.3.0/24", "10.99.3.1/24 172.20.0.1/24 fd00:20:244:3::1/64 fd99::1/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.flannel(3, false)
			file := func(call *lab.Call) { call.Conf = newer(conf(`"subnetFile":"` + flannelFile + `"` + c.keys)) }
			c1 := b.attach("c1", file)
			b.Run("sed", "-i", c.change, flannelFile)
			b.Sh("ip addr add 172.20.0.1/24 dev " + bridgeName + "; ip addr add fd99::1/64 dev " + bridgeName + " nodad")
			b.NetNS("c2")
			add := call("ADD", "c2")
			file(&add)
			b.refused(add, 102, c.now, "1 of its containers", "c1")
			b.do(c1.then("DEL"))
			b.do(lab.Call{Command: "STATUS", Conf: add.Conf})
			b.do(add)
			var got []string
			for line := range strings.Lines(b.Run("ip", "-o", "addr", "show", "dev", bridgeName, "scope", "global")) {
				got = append(got, strings.Fields(line)[3])
			}
			slices.Sort(got)
			if strings.Join(got, " ") != c.gateways {
				t.Errorf("the bridge has %v, want %s", got, c.gateways)
			}
		})
	}
}

// Further ranges come beside that of all hosts, unless the list is empty.
func TestRangesOfAllHostsStay(t *testing.T) {
	for _, c := range []struct{ keys, want string }{
		{`"hostId":2,"noMasq":["192.168.100.0/24"]`, "10.100.0.0/16 192.168.100.0/24"},
		{`"hostId":2,"noMasq":[]`, ""},
		{`"subnetFile":"` + flannelFile + `","noMasq":["192.168.100.0/24"]`, "10.244.0.0/16 192.168.100.0/24"},
	} {
		t.Run(c.keys, func(t *testing.T) {
			b := newBox(t)
			b.flannel(3, false)
			b.attach("c1", func(call *lab.Call) { call.Conf = newer(conf(c.keys)) })
			rules := b.Run("nft", "list", "ruleset")
			for _, r := range []string{"10.100.0.0/16", "10.244.0.0/16", "192.168.100.0/24"} {
				if strings.Contains(rules, r) != strings.Contains(c.want, r) {
					t.Errorf("%s: %s in\n%s", c.keys, r, rules)
				}
			}
		})
	}
}

// In a user's own namespaces the file is root's, who is nobody there, or the user's own.
func TestRootlessSubnetFile(t *testing.T) {
	b := newBox(t)
	b.flannel(3, false)
	u := b.tenant("54321")
	own := u.home + "/subnet.env"
	b.Sh("cp -p " + flannelFile + " " + own + "; chown 54321 " + own)
	for i, file := range []string{flannelFile, own} {
		id := fmt.Sprint("c", i)
		u.netns(id)
		if r := u.do("ADD", id, conf(`"subnetFile":"`+file+`"`)); r.Addr() != fmt.Sprint("10.244.3.", 2+i) {
			t.Errorf("%s: %+v", file, r.IPs)
		}
	}
	b.Sh("chmod g+w " + own)
	u.netns("c2")
	if r := u.call("ADD", "c2", conf(`"subnetFile":"`+own+`"`)); r.Code != 102 {
		t.Errorf("a file that a group can write: %s", r.Stdout)
	}
	const others = "/var/lib/other/subnet.env"
	b.Sh("mkdir /var/lib/other; cp " + flannelFile + " " + others + "; chown -R 12345 /var/lib/other")
	if r := u.call("ADD", "c2", conf(`"subnetFile":"`+others+`"`)); r.Code != 102 || !strings.Contains(r.Stdout, "make it your own") {
		t.Errorf("another user's file: %s", r.Stdout)
	}
	u.do("DEL", "c0", lab.Conf)
	u.do("DEL", "c1", lab.Conf)
}

// Netavark's networks have the subnets written down when they are created.
func TestNetavarkSpan(t *testing.T) {
	b := newBox(t)
	inside := b.NetNS("c1")
	up := func(n network) string {
		t.Helper()
		definition, err := b.create(n)
		if err != nil {
			t.Fatalf("create: %v: %s", err, definition)
		}
		if out, err := b.exec("setup", "c1", definition, n); err != nil {
			t.Fatalf("setup: %v: %s", err, out)
		}
		return definition
	}
	down := func(definition string) {
		t.Helper()
		if out, err := b.exec("teardown", "c1", definition, network{}); err != nil || out != "" {
			t.Errorf("teardown: %v: %s", err, out)
		}
	}
	definition := up(network{keys: `"options":{"host_id":"3","no_masquerade":"10.9.0.0/16"}`})
	if !strings.Contains(definition, `"subnet":"10.100.3.0/24","gateway":"10.100.3.1","lease_range":{"start_ip":"10.100.3.10","end_ip":"10.100.3.254"}`) {
		t.Error(definition)
	}
	if addrs := inside.Run("ip", "addr"); !strings.Contains(addrs, "inet 10.100.3.10/24") {
		t.Error(addrs)
	}
	if rules := b.Run("nft", "list", "ruleset"); !strings.Contains(rules, "ip daddr != 10.100.0.0/16 ip daddr != 10.9.0.0/16") {
		t.Error(rules)
	}
	down(definition)
	b.flannel(3, false)
	definition = up(network{keys: `"ipv6_enabled":true,"options":{"subnet_file":"` + flannelFile + `"}`})
	if addrs := inside.Run("ip", "addr"); !strings.Contains(addrs, "inet 10.244.3.2/24") || !strings.Contains(addrs, "inet6 fd00:10:244:3::2/64") {
		t.Error(addrs)
	}
	b.flannel(7, false)
	b.NetNS("c2")
	if out, err := b.exec("setup", "c2", definition, network{}); err == nil || !strings.Contains(out, "10.244.7.0/24") || !strings.Contains(out, "10.244.3.0/24") {
		t.Errorf("setup after a change: %v: %s", err, out)
	}
	b.Sh("rm " + flannelFile)
	down(definition)
	for options, text := range map[string]string{
		`"host_id":"0"`: "1 to 254", `"host_id":"300"`: "254", `"host_id":"3","subnet_file":"/run/f"`: "together",
		`"subnet_file":"f"`: "absolute", `"subnet_file":"/run/f"`: "does not exist",
	} {
		if out, err := b.create(network{keys: `"options":{` + options + `}`}); err == nil || !strings.Contains(out, text) {
			t.Errorf("create with %s: %v: %s", options, err, out)
		}
	}
	if out, err := b.create(network{keys: subnet5 + `,"options":{"host_id":"3"}`}); err == nil || !strings.Contains(out, "10.100.3.0/24") {
		t.Errorf("create with another subnet: %v: %s", err, out)
	}
}
