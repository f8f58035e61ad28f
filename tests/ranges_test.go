package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// One rule has no room for hundreds of ranges. Those that don't fit into it are not masqueraded
// either, in both families, and everything else still is, also after a reload.
func TestManyRanges(t *testing.T) {
	b := newBox(t)
	otherHost(b)
	const first4, last4, first6, last6 = "10.128.0.5", "10.129.143.5", "fd88::5", "fd88:0:0:18f::5"
	b.Outside.IP(fmt.Sprintf("addr add %s/32 dev lo\naddr add %s/32 dev lo\naddr add %s/128 dev lo nodad\naddr add %s/128 dev lo nodad",
		first4, last4, first6, last6))
	var ranges []string
	for i := range 400 {
		ranges = append(ranges, fmt.Sprintf(`"10.%d.%d.0/24"`, 128+i/256, i%256), fmt.Sprintf(`"fd88:0:0:%x::/64"`, i))
	}
	c1 := b.attach("c1", with(dual, `"noMasq":[`+strings.Join(ranges, ",")+`]`))
	want := map[string]string{lab.OutsideAddr: lab.HostAddr, outsideAddr6: hostAddr6}
	for _, addr := range []string{first4, last4, first6, last6} {
		b.Outside.Serve(net.JoinHostPort(addr, "80"))
		want[addr] = c1.addr
		if strings.Contains(addr, ":") {
			want[addr] = c1.addr6()
		}
	}
	b.sees(c1.Place, want)
	b.do(c1.then("CHECK"))
	b.Sh("nft flush ruleset")
	b.refused(c1.then("CHECK"), 104, "masquerade-10.87.1.0/24")
	b.reload()
	b.sees(c1.Place, want)
	b.do(c1.then("CHECK"))
	if again := b.Run(program, "reload"); again != "nothing was missing\n" {
		t.Errorf("a second reload says %q", again)
	}
	b.do(c1.then("DEL"))
	b.clean()
}

// What the kernel refuses for one network takes nothing from the others, and is not called
// mended.
func TestReloadRestoresWhatItCan(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", with(publish(dual, mapping(8080, 80, "")), `"macspoofchk":true`))
	c2 := b.attach("c2", with(publish(dualOther, mapping(8081, 80, "")), `"macspoofchk":true`))
	for _, c := range []container{c1, c2} {
		c.Serve("[::]:80")
	}
	// A chain of the name that the network's has, and of another type.
	const spoiler = "add table ip flatnet; add chain ip flatnet masquerade-10.87.1.0/24 { type filter hook postrouting priority 5; }"
	b.Sh("nft flush ruleset; nft '" + spoiler + "'; ip link set fn-c1 nomaster")
	out, err := b.Try(program, "reload")
	if err == nil || !strings.Contains(err.Error(), "network flatnet: add chain ip flatnet masquerade-10.87.1.0/24") {
		t.Errorf("reload: %v", err)
	}
	for line, is := range map[string]bool{
		"mended: table ip flatnet was": false, "mended: table ip6 flatnet was": false, "mended: table bridge flatnet was": false,
		"mended: table ip flatnet-other was": true, "mended: table ip6 flatnet-other was": true, "mended: table bridge flatnet-other was": true,
		"mended: host interface fn-c1 was not on bridge": true, "nothing was missing": false,
	} {
		if strings.Contains(out, line) != is {
			t.Errorf("reload says %q: %q should be there: %v", out, line, is)
		}
	}
	b.do(c2.then("CHECK"))
	b.refused(c1.then("CHECK"), 104, "masquerade-10.87.1.0/24")
	if _, err := b.Outside.Ask(lab.HostAddr + ":8081"); err != nil {
		t.Error(err)
	}
	if got, err := b.Outside.Ask(lab.HostAddr + ":8080"); err == nil {
		t.Errorf("a port is published without the network's rules: %q", got)
	}
	b.Sh("nft delete table ip flatnet")
	b.reload()
	for _, c := range []container{c1, c2} {
		b.do(c.then("CHECK"))
	}
	if _, err := b.Outside.Ask(lab.HostAddr + ":8080"); err != nil {
		t.Error(err)
	}
	// Nothing is claimed of a network that is alone, either.
	b.do(c2.then("DEL"))
	b.Sh("nft flush ruleset; nft '" + spoiler + "'")
	if out, err := b.Try(program, "reload"); err == nil || strings.Contains(out, "mended") {
		t.Errorf("reload says %q (%v)", out, err)
	}
	b.Sh("nft delete table ip flatnet")
	b.do(c1.then("DEL"))
}
