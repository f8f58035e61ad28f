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
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call="+bridged, func(t *testing.T) {
			b := newBox(t)
			b.Sh("for f in ip ip6; do f=/proc/sys/net/bridge/bridge-nf-call-${f}tables; test -e $f && echo " + bridged + " >$f; done")
			is := isolation{box: b, members: map[string]member{}}
			is.attach()
			b.Outside.Sh("ip route add 10.87.0.0/16 via 192.0.2.1; ip -6 route add fd87::/32 via 2001:db8::1")
			places := map[string]lab.Place{"outside": b.Outside, "host": b.Place}
			for name, m := range is.members {
				places[name] = m.Place
			}
			for from, place := range places {
				for to := range is.members {
					is.reach(from, place, to)
				}
			}
			is.asked.Wait()
			is.internalWithRoutes()
		})
	}
}

// An isolation is a world with containers of open, isolated and internal networks.
type isolation struct {
	box
	members map[string]member
	asked   sync.WaitGroup
}

// A member is a container that serves port 80, published as another.
type member struct {
	container
	port int
}

func (is *isolation) attach() {
	const open, isolated, internal = `"isolation":"none",`, "", `"internal":true,`
	for i, m := range []struct {
		id, network string
		n           int // of the network
		keys        string
	}{
		{"open1", "open1", 1, open}, {"open2", "open2", 2, open}, {"closed1", "closed1", 3, isolated}, {"closed2", "closed2", 4, isolated},
		{"internal", "internal", 5, internal}, {"open1-sibling", "open1", 1, open},
	} {
		port := 8000 + i
		c := is.box.attach(m.id, func(c *lab.Call) { c.Conf = publish(net4and6(m.network, m.n, m.keys), mapping(port, 80, "")) })
		c.Serve(net.JoinHostPort(c.addr, "80"))
		c.Serve(net.JoinHostPort(c.addr6(), "80"))
		is.members[m.id] = member{c, port}
	}
}

// ask fails the test unless the server answers or not as wanted. Most of the
// refusals are waits, so all are asked at once.
func (is *isolation) ask(from lab.Place, to string, want bool, about string) {
	is.asked.Go(func() {
		if got, err := from.Ask(to); (err == nil) != want {
			is.t.Errorf("%s: %q, %v", about, got, err)
		}
	})
}

// reach asks a member from a place, directly and by its published port.
func (is *isolation) reach(from string, place lab.Place, to string) {
	isOpen := func(s string) bool { return strings.HasPrefix(s, "open") }
	same := from == to || isOpen(from) && strings.TrimSuffix(from, "-sibling") == strings.TrimSuffix(to, "-sibling")
	outer := from == "outside" || from == "host"
	direct := same || outer || isOpen(from) && isOpen(to)
	published := true
	if to == "internal" || from == "internal" {
		published = same || from == "host"
		direct = published
	}
	m := is.members[to]
	for _, addr := range []string{m.addr, m.addr6()} {
		is.ask(place, net.JoinHostPort(addr, "80"), direct, from+" to "+to+" directly")
	}
	for _, host := range []string{lab.HostAddr, hostAddr6} {
		if from == "internal" && !same {
			continue // has no route to it: see internalWithRoutes
		}
		if from == "internal" {
			host = strings.NewReplacer("192.0.2.1", "10.87.5.1", "2001:db8::1", "fd87:0:0:5::1").Replace(host)
		}
		is.ask(place, net.JoinHostPort(host, fmt.Sprint(m.port)), published, from+" to "+to+" by the port on "+host)
	}
}

// With a route of its own making, an internal container gets no further: not even
// a packet.
func (is *isolation) internalWithRoutes() {
	outside, in := is.Outside, is.members["internal"]
	outside.Run("nft", `table inet watch { counter seen { }; chain in { type filter hook prerouting priority -400; ip saddr 10.87.5.0/24 counter name seen; ip6 saddr fd87:0:0:5::/64 counter name seen; }; }`)
	in.Sh("ip route add default via 10.87.5.1; ip -6 route add default via fd87:0:0:5::1")
	outside.Serve(lab.OutsideAddr + ":80")
	outside.Serve("[" + outsideAddr6 + "]:80")
	for _, to := range []string{lab.OutsideAddr + ":80", "[" + outsideAddr6 + "]:80", lab.HostAddr + ":8000", "[" + hostAddr6 + "]:8002"} {
		is.ask(in.Place, to, false, "internal to "+to)
	}
	is.asked.Wait()
	is.Settle()
	if seen := outside.Run("nft", "list", "counter", "inet", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
		is.t.Errorf("the outside has seen the internal network: %s", seen)
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
func TestSpoofCheck(t *testing.T) { eachFamily(t, guardBox.spoofCheck) }

func (b guardBox) spoofCheck() {
	w := spoofing{b.box, b.attach("liar", withConf(guarded)), b.attach("victim", withConf(guarded)), b.attach("witness", withConf(guarded))}
	w.honest()
	b.do(w.liar.then("CHECK"))
	w.otherSource()
	w.otherAnswers()
	b.flush()
	b.reload()
	w.honest()
	w.otherAdvertisements()
	w.tagged()
	w.victimUp()
	w.honest()
	// Frames with another MAC address.
	w.liar.Sh("ip link set eth0 address 02:00:00:00:00:99")
	if w.liar.Ping(gateway) == nil {
		b.t.Error("is heard by another MAC address")
	}
	for _, c := range []container{w.liar, w.victim, w.witness} {
		b.do(c.then("DEL"))
	}
	b.clean()
}

// A spoofing is a world in which the liar pretends to be the victim, before the
// witness.
type spoofing struct {
	box
	liar, victim, witness container
}

// honest fails the test unless the liar reaches everybody as itself.
func (w spoofing) honest() {
	w.t.Helper()
	for _, to := range []string{gateway, lab.OutsideAddr, w.victim.addr, w.victim.addr6(), "fd87:0:0:1::1"} {
		if err := w.liar.Ping(to); err != nil {
			w.t.Error(err)
		}
	}
}

// victimUp sets the victim's interface up, with the address that was lost when it
// went down.
func (w spoofing) victimUp() {
	w.victim.Sh("ip link set eth0 up; ip addr add " + w.victim.addr6() + "/64 dev eth0 nodad")
}

// otherSource sends packets with another source address.
func (w spoofing) otherSource() {
	w.liar.Sh("ip addr add 10.87.1.77/24 dev eth0; ip addr add fd87:0:0:1::77/64 dev eth0 nodad")
	for _, c := range [][2]string{{"10.87.1.77", w.witness.addr}, {"fd87:0:0:1::77", w.witness.addr6()}} {
		if out, err := w.liar.Try("ping", "-n", "-c", "1", "-W", "1", "-I", c[0], c[1]); err == nil {
			w.t.Errorf("is heard as %s: %s", c[0], out)
		}
	}
	w.liar.Sh("ip addr del 10.87.1.77/24 dev eth0; ip addr del fd87:0:0:1::77/64 dev eth0")
}

// otherAnswers answers whoever asks for the victim's addresses.
func (w spoofing) otherAnswers() {
	addr, addr6 := w.victim.addr+"/24 dev eth0", w.victim.addr6()+"/64 dev eth0"
	w.liar.Sh("ip addr add " + addr + "; ip addr add " + addr6 + " nodad")
	w.victim.Sh("ip link set eth0 down")
	w.witness.Sh("ip neigh flush dev eth0")
	for _, addr := range []string{w.victim.addr, w.victim.addr6()} {
		w.unknown(addr)
	}
	w.liar.Sh("ip addr del " + addr + "; ip addr del " + addr6)
	w.victimUp()
}

// otherAdvertisements advertises, from the liar's own address, the victim's.
func (w spoofing) otherAdvertisements() {
	w.victim.Sh("ip link set eth0 down")
	w.liar.Sh("cd /proc/sys/net/ipv6; echo 1 >conf/all/forwarding; echo 1 >conf/eth0/proxy_ndp; echo 0 >neigh/eth0/proxy_delay; ip neigh add proxy " + w.victim.addr6() + " dev eth0")
	w.witness.Sh("ip neigh flush dev eth0") // may have heard of the victim
	w.unknown(w.victim.addr6())
	w.liar.Sh("ip neigh del proxy " + w.victim.addr6() + " dev eth0")
}

// unknown fails the test if the witness, asking for an address, hears of the liar.
func (w spoofing) unknown(addr string) {
	w.t.Helper()
	mac := links(w.t, w.liar.Place)["eth0"].Address
	w.witness.Try("ping", "-n", "-c", "1", "-W", "1", addr)
	if n := w.witness.Run("ip", "neigh", "show", addr); strings.Contains(n, mac) {
		w.t.Errorf("the liar is taken for %s: %s", addr, n)
	}
}

// tagged sends packets behind two VLAN tags, which to their receiver are none.
func (w spoofing) tagged() {
	w.witness.Run("nft", "table ip watch { counter seen { }; counter honest { }; chain in { type filter hook prerouting priority -400; ip saddr 10.87.1.77 counter name seen; ip saddr "+w.liar.addr+" ip protocol 253 counter name honest; }; }")
	const tag = "81000000"
	for _, tags := range []string{"", tag, tag + tag} {
		w.liar.SendFrame("eth0", taggedIPv4(w.t, w.liar, w.witness, "10.87.1.77", tags))
		w.liar.SendFrame("eth0", taggedIPv4(w.t, w.liar, w.witness, w.liar.addr, tags))
	}
	if n := w.witness.Run("nft", "list", "counter", "ip", "watch", "honest"); !strings.Contains(n, "packets 2 ") {
		w.t.Errorf("of three packets two have at most one tag: %s", n)
	}
	if seen := w.witness.Run("nft", "list", "counter", "ip", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
		w.t.Errorf("is heard as 10.87.1.77: %s", seen)
	}
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
