package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// What .github/SECURITY.md says of a container with CAP_NET_ADMIN: without a user
// namespace the kernel lets it at the host's interfaces, in one it does not.
func TestNetAdminAndTheHostsLinks(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	n, err := c.PeerLinks("setpriv", "--no-new-privs", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")
	if want := len(links(t, b.Place)); err != nil || n != want {
		t.Errorf("with CAP_NET_ADMIN alone a container sees %d of the host's %d interfaces, %v; SECURITY.md says all", n, want, err)
	}
	sleeper := b.Cmd("unshare", "-U", "-r", "-n", "sh", "-c", "echo $$; exec sleep 1000")
	out, err := sleeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	add := call("ADD", "c2")
	add.NetNS = fmt.Sprintf("/proc/%d/ns/net", pid)
	b.do(add)
	n, err = b.PeerLinks("nsenter", "-t", fmt.Sprint(pid), "-U", "-n", "--preserve-credentials")
	if n != 0 || err != nil && !strings.Contains(err.Error(), "permitted") && !strings.Contains(err.Error(), "denied") {
		t.Errorf("in a user namespace of its own a container sees %d of the host's interfaces, %v", n, err)
	}
	add.Command = "DEL"
	b.do(add)
}

// mute keeps the place's kernel from sending anything more: neighbour discovery
// and multicast reports go out whenever a timer says so. Frames of
// [lab.Place.SendFrame] pass by its rules.
func (b box) mute(p lab.Place) {
	b.t.Helper()
	for _, family := range []string{"arp", "ip", "ip6"} {
		p.Run("nft", "table "+family+" mute { chain out { type filter hook output priority 0; policy drop; }; }")
	}
	b.Settle()
}

// One frame with a sibling's source address moves the sibling's entry in the
// bridge's forwarding database, except with macspoofchk.
func TestForwardingDatabase(t *testing.T) {
	t.Parallel()
	for _, family := range []string{"", "bridge", "netdev"} {
		guarded := family != ""
		t.Run("macspoofchk "+family, func(t *testing.T) {
			b := newGuardBox(t, family)
			guard := func(c *lab.Call) { c.Conf = conf(fmt.Sprintf(`"macspoofchk":%v`, guarded)) }
			liar, victim := b.attach("liar", guard), b.attach("victim", guard)
			if err := victim.Ping(gateway); err != nil {
				t.Fatal(err)
			}
			b.mute(victim.Place) // or else its entry moves back
			mac := links(t, victim.Place)["eth0"].Address
			liar.SendFrame("eth0", ether([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, victim.hardware(t), 0x88b5, make([]byte, 46)))
			want := "fn-liar"
			if guarded {
				want = "fn-victim"
			}
			if fdb := b.Run("bridge", "fdb", "show", "br", bridgeName); !strings.Contains(fdb, mac+" dev "+want+" master") {
				t.Errorf("%s is not behind %s: %s", mac, want, fdb)
			}
		})
	}
}
