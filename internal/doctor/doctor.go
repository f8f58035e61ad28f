// Package doctor looks for what keeps flatnet from working on a host, and says what
// repairs it. It changes nothing but what STATUS notes of the kernel (see package host).
package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/engine"
	"flatnet/internal/input"
	"flatnet/internal/inventory"
	"flatnet/internal/report"
	"flatnet/internal/rootless"

	"golang.org/x/sys/unix"
)

// A Doctor examines a host through its engine, and reads files below Root.
type Doctor struct {
	Engine    engine.Engine
	Inventory inventory.Inventory
	Root      string // "/" but for tests
	Self      string // the running binary
	// Configured tries the networks that are configured, with containers or without.
	Configured func() []report.Configured

	found   []report.Finding
	subnets []netip.Prefix  // of the networks that there are
	said    map[string]bool // errors that a finding has already
}

// Examine makes all checks, in an order in which each may explain the next.
func (d *Doctor) Examine() []report.Finding {
	d.found, d.subnets, d.said = nil, nil, map[string]bool{}
	if elsewhere := rootless.Elsewhere("doctor"); elsewhere != "" {
		d.add(report.Fail, "privileges", fmt.Sprintf("user %d may not change the host's network", os.Geteuid()),
			"run it as root, or for a rootless Podman: "+elsewhere)
		return d.found
	}
	d.kernel()
	d.router()
	d.networks()
	d.changed()
	d.leftovers()
	d.wsl()
	d.podman()
	d.rootless()
	d.installed()
	d.names()
	d.disks()
	return d.found
}

// add adds a finding. Others have chosen parts of the texts, which must not reach a terminal
// as they are.
func (d *Doctor) add(verdict, check, seen, repair string) {
	d.found = append(d.found, report.Finding{Verdict: verdict, Check: plain(check), Seen: plain(seen), Repair: plain(repair)})
}

// plain is [advice.Plain] of each line.
func plain(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = advice.Plain(lines[i])
	}
	return strings.Join(lines, "\n")
}

// maxFile bounds a file in bytes: more than a list of packages has, or a binary.
const maxFile = 64 << 20

// read returns a file's first line; of one that can't be read, nothing.
func (d *Doctor) read(path string) string {
	data, _ := input.Read(filepath.Join(d.Root, path), maxFile)
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

// kernel asks what a network that does not exist would miss: STATUS tries the links and
// rules of each feature, and names what the kernel lacks.
func (d *Doctor) kernel() {
	seen := map[string]bool{}
	for _, f := range []struct {
		check, verdict string
		network        model.Network
	}{
		{"bridge, veth, NAT", report.Fail, model.Network{}},
		{"inbound: published", report.Warn, model.Network{PublishedOnly: true}},
		{"macspoofchk", report.Warn, model.Network{SpoofCheck: true}},
		{"VLANs", report.Warn, model.Network{VLANs: model.VLANs{ID: 2}}},
	} {
		f.network.ForwardAccept = true // so that other firewalls hide nothing; they have a check of their own
		err := d.status(&f.network)
		switch {
		case errors.Is(err, model.ErrLimited): // as is any network: see router
			continue
		case err == nil:
			d.add(report.OK, f.check, "works", "")
			continue
		}
		if !seen[err.Error()] { // else explained already
			seen[err.Error()] = true
			text, repair := unnamed(strings.TrimPrefix(err.Error(), model.ErrUnavailable.Error()+": ")), ""
			switch {
			case errors.Is(err, unix.EPERM):
				text = advice.Of(err)
			case errors.Is(err, model.ErrUnsupported):
				repair = "load the module of that option with modprobe, or use a kernel that has it"
			}
			d.add(f.verdict, f.check, text, repair)
		}
	}
}

// stranger is the network that [Doctor.kernel] asks about.
const stranger = "doctor"

// status asks about a network that no one has: TEST-NET-1 (RFC 5737) is nobody's.
func (d *Doctor) status(n *model.Network) error { return d.statusOn(n, "flatnet-"+stranger) }

func (d *Doctor) statusOn(n *model.Network, bridge string) error {
	n.Name, n.Bridge, n.IsGateway, n.IPMasq, n.Isolated, n.AllowOverlap = stranger, bridge, true, true, true, true
	n.Subnets = []model.Subnet{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1")}}
	return d.Engine.Host.Status(n, engine.Unleased{})
}

// changed names links whose MAC address or alias somebody has changed.
func (d *Doctor) changed() {
	all, _ := d.Inventory.List("") // leftovers reports what can't be read
	for _, a := range all {
		if a.Repair != "" {
			d.add(report.Warn, "host interface "+a.HostEnd, fmt.Sprintf("of %s: %s", a.Key, a.State), a.Repair)
		}
	}
}

// leftovers counts what has lost its owner, by kind.
func (d *Doctor) leftovers() {
	all, err := d.Inventory.Garbage("")
	for _, e := range leaves(err) {
		if !d.said[e.Error()] {
			d.add(report.Warn, "leftovers", e.Error(), recordOf(e))
		}
	}
	count, routes := map[string]int{}, 0
	for _, l := range all {
		switch {
		case l.Kind == report.Route:
			routes++
			d.route(l)
		case l.Kept == "":
			count[l.Kind]++
		}
	}
	var texts []string
	for kind, n := range count {
		texts = append(texts, fmt.Sprintf("%s: %d", kind, n))
	}
	slices.Sort(texts)
	switch {
	case len(texts) > 0:
		d.add(report.Warn, "leftovers", "containers went without a DEL and left "+strings.Join(texts, ", "), "flatnet gc lists them, flatnet gc --yes removes them")
	case err == nil && routes == 0:
		d.add(report.OK, "leftovers", "none: every lease, rule and record has its link", "")
	}
}

// route names a route of flatnet's number that no record has. It may lead packets where nobody
// wants them any more.
func (d *Doctor) route(l *report.Leftover) {
	to, _, _ := strings.Cut(l.What, " dev ") // whose name may be anything
	seen, repair := "the route "+l.What+" has flatnet's number, and is in no record", "ip route del "+to+" proto 87"
	if l.Kept != "" {
		seen += ": " + l.Kept
	} else {
		repair = "flatnet gc --yes, or " + repair
	}
	d.add(report.Warn, "leftovers", seen, repair)
}

// wsl reports what WSL2 needs for Windows to reach containers by their address.
func (d *Doctor) wsl() {
	release := d.read("proc/sys/kernel/osrelease")
	if !strings.Contains(strings.ToLower(release), "microsoft") {
		return
	}
	if _, err := os.Stat(filepath.Join(d.Root, "sys/class/net/loopback0")); err == nil {
		d.add(report.OK, "WSL2", release+", mirrored networking: Windows reaches published ports by 127.0.0.1, and no container by its address", "")
		return
	}
	d.add(report.OK, "WSL2", release+", NAT: for Windows to reach containers by address, type in an administrator's PowerShell",
		strings.Join(d.routes(source()), "; "))
}

// routes returns the commands that lead Windows to the IPv4 networks that there are or, without
// any, to those of flatnet's own pool.
func (d *Doctor) routes(via string) (all []string) {
	for _, p := range d.subnets {
		if text := fmt.Sprintf("route add %s mask %s %s", p.Masked().Addr(), net.IP(net.CIDRMask(p.Bits(), 32)), via); p.Addr().Is4() && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	if len(all) == 0 {
		all = append(all, "route add 10.87.0.0 mask 255.255.0.0 "+via)
	}
	return all
}

// source returns the address that the host has towards the outside: the source that the
// kernel chooses for 192.0.2.1 (RFC 5737). Nothing is sent.
func source() string {
	const otherwise = "<the address of eth0>"
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return otherwise
	}
	defer unix.Close(fd)
	if unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}) != nil {
		return otherwise
	}
	own, err := unix.Getsockname(fd)
	if a, ok := own.(*unix.SockaddrInet4); ok && err == nil {
		return fmt.Sprintf("%d.%d.%d.%d", a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3])
	}
	return otherwise
}

// rootless reports sysctls by which ordinary users get no user namespace, without which
// there is no rootless Podman.
func (d *Doctor) rootless() {
	for _, s := range []struct{ path, refuses, seen string }{
		{"user/max_user_namespaces", "0", "can't run"},
		{"kernel/unprivileged_userns_clone", "0", "can't run"},                                             // Debian's and Arch's
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "needs the AppArmor profile of its package"}, // Ubuntu's
	} {
		if v := d.read("proc/sys/" + s.path); v == s.refuses {
			d.add(report.OK, "rootless Podman", fmt.Sprintf("%s: %s is %s", s.seen, strings.ReplaceAll(s.path, "/", "."), v), "")
		}
	}
}
