package tests

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// net4and6 is a dual-stack network of its own bridge and subnets.
func net4and6(name string, n int, keys string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"flatnet","bridge":"br%d",%s"ipam":{"type":"flatnet-ipam",
		"ranges":[[{"subnet":"10.87.%d.0/24"}],[{"subnet":"fd87:0:0:%d::/64"}]]}}`, name, n, keys, n, n)
}

// Who reaches whom, by packets in both families: directly, and by a published
// port.
func TestIsolation(t *testing.T) {
	t.Parallel()
	const open, isolated, internal = `"isolation":"none",`, "", `"internal":true,`
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call="+bridged, func(t *testing.T) {
			b := newBox(t)
			b.Sh("for f in ip ip6; do f=/proc/sys/net/bridge/bridge-nf-call-${f}tables; test -e $f && echo " + bridged + " >$f; done")
			members := map[string]container{}
			for i, m := range []struct{ name, keys string }{
				{"open1", open}, {"open2", open}, {"closed1", isolated}, {"closed2", isolated}, {"internal", internal}, {"open1", open},
			} {
				id, n := m.name, i+1
				if members[id].addr != "" {
					id, n = id+"-sibling", 1
				}
				c := b.attach(id, func(c *lab.Call) {
					c.Conf = publish(net4and6(m.name, n, m.keys), mapping(8000+i, 80, ""))
				})
				c.Serve(net.JoinHostPort(c.addr, "80"))
				c.Serve(net.JoinHostPort(c.addr6(), "80"))
				members[id] = c
			}
			b.Outside.Sh("ip route add 10.87.0.0/16 via 192.0.2.1; ip -6 route add fd87::/32 via 2001:db8::1")
			ports := map[string]int{"open1": 8000, "open2": 8001, "closed1": 8002, "closed2": 8003, "internal": 8004, "open1-sibling": 8005}
			places := map[string]lab.Place{"outside": b.Outside, "host": b.Place}
			for name, c := range members {
				places[name] = c.Place
			}
			// Most of the refusals are waits, so all are asked at once.
			var asked sync.WaitGroup
			ask := func(from lab.Place, to string, want bool, what string) {
				asked.Go(func() {
					if got, err := from.Ask(to); (err == nil) != want {
						t.Errorf("%s: %q, %v", what, got, err)
					}
				})
			}
			isOpen := func(s string) bool { return strings.HasPrefix(s, "open") }
			for from, place := range places {
				for to, c := range members {
					same := from == to || isOpen(from) && strings.TrimSuffix(from, "-sibling") == strings.TrimSuffix(to, "-sibling")
					outer := from == "outside" || from == "host"
					direct := same || outer || isOpen(from) && isOpen(to)
					published := true
					if to == "internal" || from == "internal" {
						published = same || from == "host"
						direct = published
					}
					for _, addr := range []string{c.addr, c.addr6()} {
						ask(place, net.JoinHostPort(addr, "80"), direct, from+" to "+to+" directly")
					}
					for _, host := range []string{lab.HostAddr, hostAddr6} {
						if from == "internal" && !same {
							continue // has no route to it: see below
						}
						if from == "internal" {
							host = strings.NewReplacer("192.0.2.1", "10.87.5.1", "2001:db8::1", "fd87:0:0:5::1").Replace(host)
						}
						ask(place, net.JoinHostPort(host, fmt.Sprint(ports[to])), published, from+" to "+to+" by the port on "+host)
					}
				}
			}
			asked.Wait()
			// With a route of its own making, an internal container gets no further:
			// not even a packet.
			b.Outside.Run("nft", `table inet watch { counter seen { }; chain in { type filter hook prerouting priority -400; ip saddr 10.87.5.0/24 counter name seen; ip6 saddr fd87:0:0:5::/64 counter name seen; }; }`)
			in := members["internal"]
			in.Sh("ip route add default via 10.87.5.1; ip -6 route add default via fd87:0:0:5::1")
			b.Outside.Serve(lab.OutsideAddr + ":80")
			b.Outside.Serve("[" + outsideAddr6 + "]:80")
			for _, to := range []string{lab.OutsideAddr + ":80", "[" + outsideAddr6 + "]:80", lab.HostAddr + ":8000", "[" + hostAddr6 + "]:8002"} {
				ask(in.Place, to, false, "internal to "+to)
			}
			asked.Wait()
			if seen := b.Outside.Run("nft", "list", "counter", "inet", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
				t.Errorf("the outside has seen the internal network: %s", seen)
			}
		})
	}
}

func TestPortIsolation(t *testing.T) {
	b := newBox(t)
	isolated := func(c *lab.Call) { c.Conf = strings.Replace(dual, `"ipam"`, `"portIsolation":true,"ipam"`, 1) }
	c1, c2 := b.attach("c1", isolated), b.attach("c2", isolated)
	for _, to := range []string{gateway, lab.OutsideAddr, outsideAddr6} {
		if err := c1.Ping(to); err != nil {
			t.Error(err)
		}
	}
	for _, to := range []string{c2.addr, c2.addr6()} {
		if c1.Ping(to) == nil {
			t.Errorf("reaches %s", to)
		}
	}
}

// A container that pretends to be another, in any way, is not heard.
func TestSpoofCheck(t *testing.T) {
	b := newBox(t)
	conf := strings.Replace(dual, `"ipam"`, `"macspoofchk":true,"ipam"`, 1)
	liar := b.attach("liar", func(c *lab.Call) { c.Conf = conf })
	victim := b.attach("victim", func(c *lab.Call) { c.Conf = conf })
	witness := b.attach("witness", func(c *lab.Call) { c.Conf = conf })
	mac := links(t, liar.Place)["eth0"].Address
	honest := func() {
		t.Helper()
		for _, to := range []string{gateway, lab.OutsideAddr, victim.addr, victim.addr6(), "fd87:0:0:1::1"} {
			if err := liar.Ping(to); err != nil {
				t.Error(err)
			}
		}
	}
	honest()
	b.do(liar.then("CHECK"))
	// Packets with another source address.
	liar.Sh("ip addr add 10.87.1.77/24 dev eth0; ip addr add fd87:0:0:1::77/64 dev eth0 nodad")
	for _, c := range [][2]string{{"10.87.1.77", witness.addr}, {"fd87:0:0:1::77", witness.addr6()}} {
		if out, err := liar.Try("ping", "-n", "-c", "1", "-W", "1", "-I", c[0], c[1]); err == nil {
			t.Errorf("is heard as %s: %s", c[0], out)
		}
	}
	// Answers to who has somebody else's address.
	liar.Sh("ip addr add " + victim.addr + "/24 dev eth0; ip addr add " + victim.addr6() + "/64 dev eth0 nodad")
	victim.Sh("ip link set eth0 down")
	witness.Sh("ip neigh flush dev eth0")
	for _, addr := range []string{victim.addr, victim.addr6()} {
		witness.Try("ping", "-n", "-c", "1", "-W", "1", addr)
		if n := witness.Run("ip", "neigh", "show", addr); strings.Contains(n, mac) {
			t.Errorf("the liar is taken for %s: %s", addr, n)
		}
	}
	liar.Sh("ip addr del 10.87.1.77/24 dev eth0; ip addr del " + victim.addr + "/24 dev eth0; ip addr del " + victim.addr6() + "/64 dev eth0; ip addr del fd87:0:0:1::77/64 dev eth0")
	victim.Sh("ip link set eth0 up; ip addr add " + victim.addr6() + "/64 dev eth0 nodad") // lost when it went down
	b.Run("nft", "flush", "ruleset")
	b.reload()
	honest()
	// Advertisements, from the liar's own address, of somebody else's.
	victim.Sh("ip link set eth0 down")
	liar.Sh("cd /proc/sys/net/ipv6; echo 1 >conf/all/forwarding; echo 1 >conf/eth0/proxy_ndp; echo 0 >neigh/eth0/proxy_delay; ip neigh add proxy " + victim.addr6() + " dev eth0")
	witness.Sh("ip neigh flush dev eth0") // may have heard of the victim
	witness.Try("ping", "-n", "-c", "1", "-W", "1", victim.addr6())
	if n := witness.Run("ip", "neigh", "show", victim.addr6()); strings.Contains(n, mac) {
		t.Errorf("the liar advertises %s: %s", victim.addr6(), n)
	}
	// Packets behind two VLAN tags, which to their receiver are none.
	witness.Run("nft", "table ip watch { counter seen { }; counter honest { }; chain in { type filter hook prerouting priority -400; ip saddr 10.87.1.77 counter name seen; ip saddr "+liar.addr+" ip protocol 253 counter name honest; }; }")
	const tag = "81000000"
	for _, tags := range []string{"", tag, tag + tag} {
		liar.SendFrame("eth0", taggedIPv4(t, liar, witness, "10.87.1.77", tags))
		liar.SendFrame("eth0", taggedIPv4(t, liar, witness, liar.addr, tags))
	}
	if n := witness.Run("nft", "list", "counter", "ip", "watch", "honest"); !strings.Contains(n, "packets 2 ") {
		t.Errorf("of three packets two have at most one tag: %s", n)
	}
	if seen := witness.Run("nft", "list", "counter", "ip", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
		t.Errorf("is heard as 10.87.1.77: %s", seen)
	}
	liar.Sh("ip neigh del proxy " + victim.addr6() + " dev eth0")
	victim.Sh("ip link set eth0 up; ip addr add " + victim.addr6() + "/64 dev eth0 nodad")
	honest()
	// Frames with another MAC address.
	liar.Sh("ip link set eth0 address 02:00:00:00:00:99")
	if liar.Ping(gateway) == nil {
		t.Error("is heard by another MAC address")
	}
	for _, c := range []container{liar, victim, witness} {
		b.do(c.then("DEL"))
	}
	b.clean()
}

// taggedIPv4 is a frame between containers, with VLAN tags in hexadecimal, and
// an empty packet of the protocol that is for experiments (RFC 3692).
func taggedIPv4(t *testing.T, from, to container, source, tags string) []byte {
	t.Helper()
	mac := func(c container) string { return strings.ReplaceAll(links(t, c.Place)["eth0"].Address, ":", "") }
	frame, err := hex.DecodeString(mac(to) + mac(from) + tags + "0800")
	if err != nil {
		t.Fatal(err)
	}
	src, dst := netip.MustParseAddr(source).As4(), netip.MustParseAddr(to.addr).As4()
	header := slices.Concat([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0}, src[:], dst[:])
	var sum uint32
	for word := range slices.Chunk(header, 2) {
		sum += uint32(binary.BigEndian.Uint16(word))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum+sum>>16))
	return append(frame, header...)
}
