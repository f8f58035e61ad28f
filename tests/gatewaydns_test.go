package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// What is sent to port 53 of a gateway is for the DNS server there, whoever sends
// it, and whatever container of which network has published port 53. Only a
// container that names the gateway's address gets it.
func TestGatewaysKeepTheirDNS(t *testing.T) {
	const otherGateway, gateway6 = "10.87.9.1", "fd87:0:0:1::1"
	b := newBox(t)
	dns := mapping(53, 53, `,"protocol":"udp"`) + "," + mapping(53, 53, "")
	first := b.attach("first", func(c *lab.Call) { c.Conf = dual })
	pihole := b.attach("pihole", func(c *lab.Call) { c.Conf = publish(dual, dns) })
	other := b.attach("other", func(c *lab.Call) { c.Conf = dualOther })
	for _, addr := range []string{pihole.addr, "[" + pihole.addr6() + "]"} {
		pihole.ServeUDP(addr + ":53")
		pihole.Serve(addr + ":53")
	}
	for _, addr := range []string{gateway, "[" + gateway6 + "]", otherGateway} {
		b.ServeUDP(addr + ":53")
		b.Serve(addr + ":53")
	}
	ask := func(from lab.Place, to, want string) {
		t.Helper()
		if got, err := from.AskUDP(to+":53", 0); !strings.HasPrefix(got, want+" to ") {
			t.Errorf("%s answers %q, not %s: %v", to, got, want, err)
		}
	}
	for _, c := range []struct {
		from lab.Place
		to   []string
	}{
		{first.Place, []string{gateway, "[" + gateway6 + "]", otherGateway}},
		{pihole.Place, []string{gateway, "[" + gateway6 + "]"}},
		{other.Place, []string{gateway, otherGateway}},
		{b.Place, []string{gateway, "[" + gateway6 + "]", otherGateway}},
		{b.Outside, []string{gateway}},
	} {
		for _, to := range c.to {
			if to == gateway {
				c.from.Sh("ip route get " + gateway + " >/dev/null 2>&1 || ip route add 10.87.1.0/24 via " + lab.HostAddr)
			}
			ask(c.from, to, strings.Trim(to, "[]"))
			if got, err := c.from.Ask(to + ":53"); got == "" || err != nil {
				t.Errorf("tcp to %s: %q, %v", to, got, err)
			}
		}
	}
	ask(b.Outside, lab.HostAddr, pihole.addr)
	ask(b.Outside, "["+hostAddr6+"]", pihole.addr6())
	ask(other.Place, lab.HostAddr, pihole.addr)
	b.do(pihole.then("DEL"))

	named := b.attach("named", func(c *lab.Call) {
		c.Conf = publish(dual, mapping(53, 53, `,"protocol":"udp","hostIP":"`+gateway+`"`))
	})
	named.ServeUDP(named.addr + ":53")
	ask(first.Place, gateway, named.addr)
	ask(first.Place, otherGateway, otherGateway)
	b.do(named.then("CHECK"))
	b.Sh(saveAndLoad)
}
