package tests

import (
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A machine is a Debian that its own systemd has booted and that has the package. The
// container web has a published port in the network flatnet; open0 is the bridge of a
// network with forwardAccept.
type machine struct {
	*lab.World
	seen      box // the world without the Debian
	t         *testing.T
	web, open lab.Place
	want      string // what flatnet has of nf_tables
}

const openNetwork = `{"cniVersion":"1.1.0","name":"open","type":"flatnet","bridge":"open0","forwardAccept":true,"ipam":{"subnet":"10.88.1.0/24"}}`

// Whatever of the real firewalls takes rules of containers away, they are there again
// when systemctl returns.
func TestSystemdUnit(t *testing.T) {
	b := newBox(t)
	web, open := b.NetNS("web"), b.NetNS("open")
	booted, err := b.Systemd()
	if err != nil {
		t.Skipf("NO DEBIAN WITH SYSTEMD TO TEST WITH: %v", err)
	}
	booted.Write("/root/new.deb", packages(t, "*.deb", newVersion)[0])
	booted.Run("dpkg", "-i", "/root/new.deb")
	booted.Sh("systemctl add-wants nftables.service flatnet.service; systemctl add-wants firewalld.service flatnet.service") // as an earlier version had it
	booted.Run("dpkg", "-i", "/root/new.deb")
	if links := booted.Sh("find /etc/systemd -name flatnet.service"); links != "/etc/systemd/system/multi-user.target.wants/flatnet.service\n" {
		t.Errorf("the unit is started by %s", links)
	}
	booted.Run("systemd-analyze", "--man=no", "verify", "flatnet.service", "nftables.service", "firewalld.service", "netfilter-persistent.service")
	if state := booted.Sh("systemctl is-enabled flatnet.service"); state != "enabled\n" {
		t.Errorf("after the installation the unit is %q", state)
	}
	add := call("ADD", "web")
	add.Conf = conf(`"macspoofchk":true,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`)
	if r := booted.Call("/usr/bin/flatnet", add); r.Exit != 0 {
		t.Fatalf("ADD: %s", r.Stdout)
	}
	web.Serve(":80")
	b.Outside.Serve(":80")
	m := machine{booted, b, t, web, open, sorted(rulesOf(booted))}
	for _, part := range []struct {
		name string
		test func(machine)
	}{{"nftables", machine.flushes}, {"firewalld", machine.firewalld}, {"forwardAccept", machine.accepts}} {
		t.Run(part.name, func(t *testing.T) {
			m.World, m.seen, m.t = booted.In(t), b.in(t), t
			part.test(m)
		})
	}
	if failed := booted.Sh("journalctl -u flatnet.service -u nftables.service -p warning -o cat"); failed != "" {
		t.Errorf("the unit says: %s", failed)
	}
}

// rulesOf is what flatnet has of nf_tables.
func rulesOf(w *lab.World) string {
	return w.Sh("nft list ruleset | awk '/^table/ { own = / flatnet/ } own' | sed 's/counter packets.*//'")
}

// after runs commands, after which flatnet's tables are as they were, and the published
// port is reached from outside.
func (m machine) after(commands string) {
	m.t.Helper()
	m.Sh("systemctl reset-failed; " + commands) // of how often a unit was started
	_, err := m.seen.Outside.Ask(net.JoinHostPort(lab.HostAddr, "8080"))
	rules := sorted(rulesOf(m.World))
	if err != nil || rules != m.want {
		m.t.Fatalf("after %s: %v\n%s\n%s", commands, err, difference(m.want, rules), m.Sh("journalctl -u flatnet.service -u nftables.service -u firewalld.service -o cat"))
	}
}

// passes asks whether a container gets at a server outside.
func (m machine) passes(container lab.Place, want bool, when string) {
	m.t.Helper()
	if _, err := container.Ask(net.JoinHostPort(lab.OutsideAddr, "80")); (err == nil) != want {
		m.t.Errorf("%s: a container gets outside: %v, want %v (%v)", when, err == nil, want, err)
	}
}

// flushes has nftables.service flush all rules, in every way and however fast.
func (m machine) flushes() {
	for _, commands := range []string{
		"systemctl start nftables", "systemctl restart nftables", "systemctl reload nftables", "systemctl stop nftables",
		"for i in 1 2; do systemctl restart nftables; systemctl reload nftables; systemctl stop nftables; systemctl start nftables; done",
		"systemctl restart nftables & systemctl restart netfilter-persistent & systemctl start flatnet & wait", "systemctl stop nftables",
		"nft flush ruleset; ip link set flatnet-br0 down; sysctl -qw net.ipv4.ip_forward=0; systemctl start flatnet",
	} {
		m.after(commands)
	}
}

// firewalld keeps flatnet's tables, and keeps containers from the outside until it is
// told what flatnet advises.
func (m machine) firewalld() {
	for _, commands := range []string{
		"systemctl start firewalld", "systemctl restart firewalld", "systemctl reload firewalld",
		"firewall-cmd --reload", "firewall-cmd --complete-reload", "systemctl stop firewalld", "systemctl start firewalld nftables",
	} {
		m.after(commands)
		m.passes(m.web, strings.Contains(commands, "stop"), commands)
	}
	const advice = "firewall-cmd --zone=trusted --add-interface="
	status := lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}
	r := m.Call("/usr/bin/flatnet", status)
	if r.Code != 51 || !strings.Contains(r.Msg, "inet firewalld filter_FORWARD") || !strings.Contains(r.Msg, advice+bridgeName+" ") {
		m.t.Errorf("STATUS: %s", r.Stdout)
	}
	out := m.Sh("flatnet doctor || true")
	for _, want := range []string{"OK    bridge, veth, NAT: works\n", "containers of a new network send", advice + bridgeName + " "} {
		if !strings.Contains(out, want) {
			m.t.Errorf("the doctor does not say %q:\n%s", want, out)
		}
	}
	m.after(advice + bridgeName)
	m.passes(m.web, true, "in the trusted zone")
	if r := m.Call("/usr/bin/flatnet", status); r.Exit != 0 {
		m.t.Errorf("STATUS in the trusted zone: %s", r.Stdout)
	}
	// A zone from which containers get outside, but at nothing of the host's.
	m.after(`
		firewall-cmd --permanent --new-zone=containers
		firewall-cmd --permanent --zone=containers --add-interface=` + bridgeName + `
		firewall-cmd --permanent --new-policy=containers-out
		firewall-cmd --permanent --policy=containers-out --add-ingress-zone=containers
		firewall-cmd --permanent --policy=containers-out --add-egress-zone=ANY
		firewall-cmd --permanent --policy=containers-out --set-target=ACCEPT
		firewall-cmd --reload`)
	m.passes(m.web, true, "in a zone of their own")
	m.seen.Serve(":7070")
	if _, err := m.web.Ask(gateway + ":7070"); err == nil {
		m.t.Error("a container gets at a port of the host's")
	}
}

// accepts has forwardAccept beside firewalld: its table is its own, unless it is
// configured to share it. Then what it loses is back when systemctl returns.
func (m machine) accepts() {
	add := call("ADD", "open")
	add.Conf = openNetwork
	r := m.Call("/usr/bin/flatnet", add)
	if r.Exit != 0 || strings.Contains(r.Stderr, "not permitted") || !strings.Contains(r.Stderr, "--zone=trusted --add-interface=open0 ") {
		m.t.Errorf("ADD: %s, %s", r.Stdout, r.Stderr)
	}
	m.want = sorted(rulesOf(m.World))
	m.passes(m.open, false, "beside firewalld's own table")
	for _, after := range []struct {
		commands string
		passes   bool
	}{
		{"sed -i 's/^NftablesTableOwner=.*/NftablesTableOwner=no/' /etc/firewalld/firewalld.conf; systemctl restart firewalld", true},
		{"systemctl restart firewalld; systemctl reload firewalld; systemctl reload firewalld", true},
		{"systemctl stop firewalld", true},
		{"systemctl start firewalld", true},
		{"firewall-cmd --reload", false}, // systemd does not see it
		{"systemctl start flatnet", true},
		{"firewall-cmd --complete-reload; flatnet reload", true},
	} {
		m.after(after.commands)
		m.passes(m.open, after.passes, after.commands)
	}
	// A policy of iptables, which also drops what is sent to the other network's port.
	m.Sh("systemctl stop firewalld; iptables -P FORWARD DROP; mkdir -p /etc/iptables; iptables-save >/etc/iptables/rules.v4; flatnet reload")
	m.passes(m.open, true, "beside a policy of iptables")
	m.Sh("systemctl restart netfilter-persistent")
	m.passes(m.open, true, "after iptables-restore")
}
