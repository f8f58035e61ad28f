package nft

import (
	"errors"
	"net/netip"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flatnet/internal/testns"
)

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*Conn)) {
	t.Helper()
	testns.Run(t, func() {
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		fn(c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// nft runs nft's own commands in the calling thread's namespace.
func nft(t *testing.T, commands ...string) string {
	t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft to compare with: apt-get install nftables")
	}
	out, err := exec.Command(path, strings.Join(commands, "; ")).CombinedOutput()
	if err != nil {
		t.Errorf("nft %v: %v: %s", commands, err, out)
	}
	return string(out)
}

var (
	ip     = Table{IPv4, "flatnet"}
	ip6    = Table{IPv6, "flatnet"}
	bridge = Table{Bridge, "flatnet"}

	postrouting = Chain{Table: ip, Name: "postrouting", Type: NAT, Hook: Postrouting, Priority: 100}
	prerouting  = Chain{Table: ip, Name: "prerouting", Type: NAT, Hook: Prerouting, Priority: -100}
	forward     = Chain{Table: ip, Name: "forward", Type: Filter, Hook: Forward, Drop: true}
	output6     = Chain{Table: ip6, Name: "output", Type: "route", Hook: Output}
	spoofing    = Chain{Table: bridge, Name: "prerouting", Type: Filter, Hook: Prerouting, Priority: -300}
	own         = Chain{Table: ip, Name: "masq-x"}

	flat   = Set{Table: ip, Name: "flat", Key: Types{IPv4Addr}}
	hosts  = Set{Table: ip6, Name: "hosts", Key: Types{IPv6Addr}}
	ports  = Set{Table: ip, Name: "ports", Key: Types{InetProto, IPv4Addr, InetService}, Data: Types{IPv4Addr, InetService}}
	links  = Set{Table: ip, Name: "links", Key: Types{IfName}, Data: Types{IPv4Addr}}
	macs   = Set{Table: bridge, Name: "macs", Key: Types{IfName, EtherAddr}}
	ports6 = Set{Table: ip6, Name: "services", Key: Types{InetService}}
)

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func elements() []Elements {
	return []Elements{
		{{Set: flat, Key: string(addr("10.87.0.1"))}},
		{{Set: hosts, Key: string(addr("2001:db8::1")), Comment: "a"}},
		{{
			Set:  ports,
			Key:  Concat([]byte{unix.IPPROTO_TCP}, addr("192.0.2.1"), []byte{0x1f, 0x90}),
			Data: Concat(addr("10.87.1.2"), []byte{0, 80}), Comment: "flatnet/c/eth0",
		}},
		{{Set: links, Key: string(Name("fn-1")), Data: string(addr("10.87.1.3"))}},
		{{Set: macs, Key: Concat(Name("fn-1"), []byte{2, 0, 0, 0, 0, 1})}},
	}
}

func rules() []Rule {
	on := func(ch Chain, comment string, exprs ...Expr) Rule {
		return Rule{Table: ch.Table, Chain: ch.Name, Exprs: exprs, Comment: comment}
	}
	saddr := Payload{NetworkHeader, 12, 4}.Load(Reg1)
	daddr := Payload{NetworkHeader, 16, 4}.Load(Reg1)
	return []Rule{
		on(postrouting, "flatnet",
			Payload{NetworkHeader, 12, 3}.Load(Reg1), Cmp(Reg1, Equal, []byte{10, 87, 1}),
			daddr, LookupNot("flat", Reg1),
			daddr, Bitwise(Reg1, []byte{0xf0, 0, 0, 0}), Cmp(Reg1, NotEqual, []byte{0xe0, 0, 0, 0}),
			Masquerade()),
		on(postrouting, "", Meta(MetaOifName, Reg1), Cmp(Reg1, Equal, Name("eth0")), Masquerade()),
		on(prerouting, "", Immediate(Reg1, addr("10.87.1.1")), Translate(IPv4, Reg1, 0)),
		on(prerouting, "",
			Meta(MetaL4Proto, Reg1), Payload{NetworkHeader, 16, 4}.Load(Reg32(1)), Payload{TransportHeader, 2, 2}.Load(Reg32(2)),
			LookupData("ports", Reg1, Reg1), Translate(IPv4, Reg1, Reg32(1))),
		on(forward, "", Ct(CtStatus, Reg1), Bitwise(Reg1, []byte{0x20, 0, 0, 0}), Cmp(Reg1, NotEqual, make([]byte, 4)),
			Verdict(Accept, "")),
		on(forward, "", Fib(Reg1), Cmp(Reg1, Equal, []byte{unix.RTN_LOCAL, 0, 0, 0}), Verdict(unix.NFT_RETURN, "")),
		on(forward, "", saddr, Cmp(Reg1, unix.NFT_CMP_GTE, addr("10.87.1.7")), Cmp(Reg1, unix.NFT_CMP_LTE, addr("10.87.1.9")), Verdict(Drop, "")),
		on(forward, "", Meta(MetaIifName, Reg1), Cmp(Reg1, Equal, Name("fn-1")), Verdict(Goto, "masq-x")),
		on(own, "", Meta(unix.NFT_META_IIF, Reg1), Cmp(Reg1, Equal, []byte{1, 0, 0, 0}), Verdict(Accept, "")),
		on(output6, "", Payload{NetworkHeader, 8, 16}.Load(Reg1), Lookup("hosts", Reg1), Verdict(Accept, "")),
		on(spoofing, "", Meta(MetaIifName, Reg1), Payload{LinkHeader, 6, 6}.Load(Reg32(4)), Lookup("macs", Reg1), Verdict(Accept, "")),
	}
}

func everything() *Batch {
	b := new(Batch)
	b.Create(ip, ip6, bridge)
	b.Add(postrouting, prerouting, forward, output6, spoofing, own, flat, hosts, ports, links, macs, ports6)
	for _, e := range elements() {
		b.Add(e)
	}
	for _, r := range rules() {
		b.Add(r)
	}
	return b
}

func TestKernelHoldsWhatIsCommitted(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		if err := c.Commit(everything()); err != nil {
			t.Error(err)
			return
		}
		if got := nft(t, "list ruleset"); got != ruleset {
			t.Errorf("nft list ruleset:\n%s\nwant:\n%s", got, ruleset)
		}
		var got []Rule
		for _, ch := range []Chain{postrouting, prerouting, forward, own, output6, spoofing} {
			rules, err := c.Rules(ch.Table, ch.Name)
			if err != nil {
				t.Error(err)
			}
			got = append(got, rules...)
		}
		want := rules()
		if len(got) != len(want) {
			t.Errorf("got %d rules, want %d", len(got), len(want))
			return
		}
		for i := range want {
			if !got[i].Equal(want[i]) || got[i].Handle == 0 {
				t.Errorf("got rule %+v\nwant %+v", got[i], want[i])
			}
		}
		for _, e := range elements() {
			got, err := c.Elements(e[0].Set)
			if err != nil || !slices.Equal(got, e) {
				t.Errorf("%v: got %+v, %v\nwant %+v", e, got, err, e)
			}
			one, err := find(c, e[0].Set, e[0].Key)
			if err != nil || one != e[0] {
				t.Errorf("%v: got %+v, %v", e, one, err)
			}
		}
	})
}

// find returns the element with a key, or the zero one.
func find(c *Conn, s Set, key string) (Element, error) {
	e := Element{Set: s, Key: key}
	found, err := c.Find([]Element{e, e})
	return append(found, Element{})[0], err
}

// commit commits what fill puts into a batch.
func commit(c *Conn, fill func(*Batch)) error {
	var b Batch
	fill(&b)
	return c.Commit(&b)
}

func has(t *testing.T, c *Conn, o Object, want bool) {
	t.Helper()
	if got, err := c.Has(o); err != nil || got != want {
		t.Errorf("has %v: %v, %v, want %v", o, got, err, want)
	}
}

func TestKernelForgetsWhatIsDeleted(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		if err := c.Commit(everything()); err != nil {
			t.Error(err)
			return
		}
		installed, err := c.Rules(ip, "postrouting")
		if err != nil {
			t.Error(err)
			return
		}
		if err := commit(c, func(b *Batch) {
			b.Delete(installed[0], elements()[2])
			b.Delete(elements()[1])
			b.Flush(own)
		}); err != nil {
			t.Error(err)
		}
		if left, err := c.Rules(ip, "postrouting"); err != nil || !reflect.DeepEqual(left, installed[1:]) {
			t.Errorf("rules left: %+v, %v", left, err)
		}
		if left, err := c.Rules(ip, "masq-x"); err != nil || len(left) != 0 {
			t.Errorf("rules left: %+v, %v", left, err)
		}
		for _, s := range []Set{ports, hosts} {
			if left, err := c.Elements(s); err != nil || len(left) != 0 {
				t.Errorf("%v has %+v, %v", s, left, err)
			}
		}
		if e, err := find(c, ports, elements()[2][0].Key); e.Key != "" || err != nil {
			t.Errorf("deleted element: %v, %v", e, err)
		}

		for _, o := range []Object{ip, postrouting, flat} {
			has(t, c, o, true)
		}
		if err := commit(c, func(b *Batch) {
			b.Flush(forward)
			b.Flush(postrouting)
			b.Delete(elements()[3], own, flat, ip6, bridge)
		}); err != nil {
			t.Error(err)
		}
		for _, o := range []Object{ip6, own, flat} {
			has(t, c, o, false)
		}
		has(t, c, ip, true)
		has(t, c, links, true)
	})
}

// The chain of a device, and what there is of several objects.
func TestKernelHasChainsOfDevices(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		netdev := Table{Netdev, "flatnet"}
		port := Chain{Table: netdev, Name: "port", Type: Filter, Hook: Ingress, Device: "lo", Priority: -300}
		plain, none := Chain{Table: netdev, Name: "plain"}, Chain{Table: netdev, Name: "none"}
		if err := commit(c, func(b *Batch) { b.Add(netdev, port, plain) }); err != nil {
			t.Error(err)
			return
		}
		for _, want := range []Chain{port, plain, none} {
			got, err := c.Chain(Chain{Table: netdev, Name: want.Name})
			if want == none {
				want = Chain{}
			}
			if got != want || err != nil {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		}
		there, err := Existing(c, none, port, Chain{Table: ip, Name: "port"}, plain)
		if !slices.Equal(there, []Chain{port, plain}) || err != nil {
			t.Errorf("there are %v, %v", there, err)
		}
		gone := port
		gone.Name, gone.Device = "gone", "none"
		if err := commit(c, func(b *Batch) { b.Add(gone) }); err != nil && (!errors.Is(err, unix.ENOENT) || errors.Is(err, ErrUnsupported)) {
			t.Errorf("without the device: %v", err) // which Linux 6.16 does not need
		}
	})
}

func TestKernelRefuses(t *testing.T) {
	nowhere := Rule{Table: ip, Chain: "masq-x", Handle: 4711}
	tests := []struct {
		name string
		fill func(*Batch)
		want error
		text string
	}{
		{"a chain that exists", func(b *Batch) { b.Add(ip); b.Create(own); b.Add(ports) }, unix.EEXIST,
			"create chain ip flatnet masq-x: file exists"},
		{"a chain without its table", func(b *Batch) { b.Add(spoofing) }, unix.ENOENT,
			"add chain bridge flatnet prerouting: no such file or directory"},
		{"a set that does not exist", func(b *Batch) { b.Add(in(own, Lookup("flat", Reg1))) }, unix.ENOENT,
			"add rule ip flatnet masq-x: no such file or directory"},
		{"an element that does not exist", func(b *Batch) { b.Add(ports); b.Delete(elements()[2]) }, unix.ENOENT,
			`delete elements of map ip flatnet ports "flatnet/c/eth0": no such file or directory`},
		{"a rule without its handle", func(b *Batch) { b.Delete(Rule{Table: ip, Chain: "masq-x"}) }, unix.ENOENT,
			"delete rule ip flatnet masq-x: no such file or directory"},
		{"a comment that is too long", func(b *Batch) { b.Add(Rule{Table: ip, Chain: "masq-x", Comment: strings.Repeat("x", 254)}) }, unix.ERANGE,
			"add rule ip flatnet masq-x \"" + strings.Repeat("x", 254) + "\": numerical result out of range (Attribute failed policy validation)"},
		{"a rule that does not exist", func(b *Batch) { b.Delete(nowhere) }, unix.ENOENT,
			"delete rule ip flatnet masq-x: no such file or directory"},
		{"a chain that is used", func(b *Batch) { b.Add(forward, in(forward, Verdict(unix.NFT_JUMP, "masq-x"))); b.Delete(own) }, unix.EBUSY,
			"delete chain ip flatnet masq-x: device or resource busy"},
		{"an unknown expression", func(b *Batch) { b.Add(in(own, accept, Expr{Name: "nosuch"})) }, ErrUnsupported,
			"add rule ip flatnet masq-x: expression nosuch: not supported by this kernel (no such file or directory)"},
		{"an unknown chain type", func(b *Batch) { b.Add(Chain{Table: ip, Name: "x", Type: "nosuch"}) }, ErrUnsupported,
			"add chain ip flatnet x: CONFIG_NF_TABLES_IPV4: not supported by this kernel (no such file or directory)"},
		{"an unknown family", func(b *Batch) { b.Add(Table{77, "x"}) }, ErrUnsupported,
			"add table family 77 x: CONFIG_NF_TABLES_FAMILY 77: not supported by this kernel (operation not supported)"},
	}
	inNamespace(t, func(c *Conn) {
		if err := commit(c, func(b *Batch) { b.Create(ip, own) }); err != nil {
			t.Error(err)
			return
		}
		for _, tt := range tests {
			if err := commit(c, tt.fill); !errors.Is(err, tt.want) || err.Error() != tt.text {
				t.Errorf("%s: got %q, want %q", tt.name, err, tt.text)
			}
		}
		has(t, c, ports, false) // nothing of a refused batch is left
		has(t, c, own, true)    // and nothing is left to read
	})
}

func TestKernelHasNothing(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		for _, o := range []Object{ip, own, ports} {
			has(t, c, o, false)
		}
		if rules, err := c.Rules(ip, "masq-x"); err != nil || len(rules) != 0 {
			t.Errorf("rules: %v, %v", rules, err)
		}
		if _, err := c.Elements(ports); !errors.Is(err, unix.ENOENT) {
			t.Errorf("elements: %v", err)
		}
		if e, err := find(c, ports, string(make([]byte, 12))); e.Key != "" || err != nil {
			t.Errorf("element: %v, %v", e, err)
		}
		if err := commit(c, func(b *Batch) { b.Add(ip, ports) }); err != nil {
			t.Error(err)
		}
		if _, err := find(c, ports, "\x01"); !errors.Is(err, unix.EINVAL) || errors.Is(err, ErrUnsupported) {
			t.Errorf("key of another size: %v", err)
		}
	})
}

func TestRulesOfOthersAreNotEqual(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		nft(t, "add table ip flatnet", "add chain ip flatnet masq-x { type nat hook postrouting priority 0; }",
			"add map ip flatnet links { type ifname : verdict; }",
			"add rule ip flatnet masq-x meta mark set meta mark ^ 1",
			"add rule ip flatnet masq-x meta mark set meta mark << 1",
			"add rule ip flatnet masq-x fib saddr type local accept",
			"add rule ip flatnet masq-x counter accept",
			"add rule ip flatnet masq-x ct reply packets > 1 accept",
			"add rule ip flatnet masq-x meta mark set 1",
			"add rule ip flatnet masq-x iifname vmap @links",
			"add rule ip flatnet masq-x masquerade random",
			"add rule ip flatnet masq-x snat to 192.0.2.1",
			"add rule ip flatnet masq-x ip saddr & 255.255.240.0 == 10.88.0.0 accept")
		rules, err := c.Rules(ip, "masq-x")
		if err != nil || len(rules) != 10 {
			t.Errorf("%d rules, %v", len(rules), err)
			return
		}
		for i, at := range []int{1, 1, 0, 0, 0, 1, 1, 0, 1} {
			if len(rules[i].Exprs[at].Data) == 0 {
				t.Errorf("rule %d lost its data", i)
			}
			for _, similar := range []Expr{
				Bitwise(Reg1, []byte{1, 0, 0, 0}), Fib(Reg1), Ct(CtStatus, Reg1), Meta(unix.NFT_META_MARK, Reg1),
				Lookup("links", Reg1), LookupData("links", Reg1, Reg1), Masquerade(), Translate(IPv4, Reg1, 0),
			} {
				if rules[i].Exprs[at].Equal(similar) {
					t.Errorf("rule %d has %v", i, similar)
				}
			}
			if !rules[i].Equal(rules[i]) || rules[i].Equal(rules[i+1]) {
				t.Errorf("rule %d is not like itself only", i)
			}
		}
	})
}

// What nft 1.0.6 prints for everything(). In the bridge family it calls the
// priority -300 dstnat.
const ruleset = `table ip flatnet {
	set flat {
		type ipv4_addr
		elements = { 10.87.0.1 }
	}

	map ports {
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
		elements = { tcp . 192.0.2.1 . 8080 comment "flatnet/c/eth0" : 10.87.1.2 . 80 }
	}

	map links {
		type ifname : ipv4_addr
		elements = { "fn-1" : 10.87.1.3 }
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.87.1.0/24 ip daddr != @flat ip daddr != 224.0.0.0/4 masquerade comment "flatnet"
		oifname "eth0" masquerade
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		dnat to 10.87.1.1
		dnat ip to meta l4proto . ip daddr . th dport map @ports
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
		ct status dnat accept
		fib daddr type local return
		ip saddr 10.87.1.7-10.87.1.9 drop
		iifname "fn-1" goto masq-x
	}

	chain masq-x {
		iif "lo" accept
	}
}
table ip6 flatnet {
	set hosts {
		type ipv6_addr
		elements = { 2001:db8::1 comment "a" }
	}

	set services {
		type inet_service
	}

	chain output {
		type route hook output priority filter; policy accept;
		ip6 saddr @hosts accept
	}
}
table bridge flatnet {
	set macs {
		type ifname . ether_addr
		elements = { "fn-1" . 02:00:00:00:00:01 }
	}

	chain prerouting {
		type filter hook prerouting priority dstnat; policy accept;
		iifname . ether saddr @macs accept
	}
}
`
