package hosts

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A block is shell commands of a recipe in docs/hosts.md.
type block struct {
	first  bool // for machine 1 only
	script string
}

// recipe returns the commands below a heading of docs/hosts.md. Those for machines with a
// tunnel begin with what keeps packets from leaving without it.
func recipe(t *testing.T, heading string) (blocks []block) {
	t.Helper()
	blocks = blocksOf(t, heading)
	if len(blocks) != 2 {
		t.Fatalf("docs/hosts.md has %d blocks of commands for %s", len(blocks), heading)
	}
	if strings.Contains(blocks[1].script, unit) {
		return append(blocksOf(t, withoutTunnel), blocks...)
	}
	return blocks
}

// What docs/hosts.md has against packets that leave without the tunnel.
const (
	withoutTunnel = "Without the tunnel"
	unit          = "flat-or-nowhere"
	nowhere       = "unreachable 10.100.0.0/16 metric 4278198272"
)

func blocksOf(t *testing.T, heading string) (blocks []block) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(root, "docs/hosts.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(doc), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?ms)^```sh\n# on (machine 1|each machine)\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block{m[1] == "machine 1", m[2]})
	}
	if !found || len(blocks) == 0 {
		t.Fatalf("docs/hosts.md has no commands for %s", heading)
	}
	return blocks
}

// installs matches what engines.sh has done already.
var installs = regexp.MustCompile(`(?m)^(apt install .*|GOBIN=\S+ go install .*)$`)

// on is a block as machine n runs it in the laboratory.
func (b block) on(n int) string {
	script := installs.ReplaceAllString(b.script, ":")
	script = strings.ReplaceAll(script, "HOST=2\n", fmt.Sprintf("HOST=%d\n", n))
	script = strings.ReplaceAll(script, "-iface eth0", "-iface "+lab.LANInterface)
	return strings.ReplaceAll(script, "sleep 1", "sleep 0.1")
}

// machines are hosts that have the stand-ins for systemd and Podman.
func machines(t *testing.T) []*host {
	t.Helper()
	dir := engines(t)
	hosts := newHosts(t, 3, dir)
	for _, h := range hosts {
		here, _ := filepath.Abs(".")
		h.Sh(fmt.Sprintf(`ln -sf %[1]s/systemctl %[1]s/podman %[2]s /usr/local/bin/; ln -sf %[3]s/usr/bin/* /usr/local/bin/
			ln -sfn %[3]s/usr/lib/nebula /usr/lib/nebula; mkdir -p /etc/nebula /etc/wireguard /etc/systemd/system`, here, program, dir))
	}
	return hosts
}

// follow runs a block on the hosts that it is for.
func follow(t *testing.T, hosts []*host, dir string, b block) {
	t.Helper()
	for _, h := range hosts {
		if b.first && h.n != 1 {
			continue
		}
		h.Run("env", "UNITS="+unitsOf(dir), "sh", "-ec", b.on(h.n))
	}
}

// join attaches a container to the network that a recipe has created, by netavark's door.
func (h *host) join(id string, port int) container {
	h.t.Helper()
	c := container{Place: h.NetNS(id)}
	cmd := h.Cmd(program, "setup", c.Path)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"container_id":%q,"container_name":%q,"port_mappings":[{"container_port":80,"host_ip":"","host_port":%d,
		"protocol":"tcp","range":1}],"network":%s,"network_options":{"interface_name":"eth0"}}`, id, id, port, h.Read("/run/flat.json")))
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("host %d: setup: %v: %s", h.n, err, out)
	}
	var status struct {
		Interfaces map[string]struct{ Subnets []struct{ IPNet string } }
	}
	if err := json.Unmarshal(out, &status); err != nil || len(status.Interfaces["eth0"].Subnets) == 0 {
		h.t.Fatalf("setup wrote %s: %v", out, err)
	}
	c.addr = netip.MustParsePrefix(status.Interfaces["eth0"].Subnets[0].IPNet).Addr().String()
	c.Serve(net.JoinHostPort(c.addr, "80"))
	return c
}

// works checks what a recipe promises, by a container on each host.
func works(t *testing.T, hosts []*host) (all []container) {
	t.Helper()
	for _, h := range hosts {
		all = append(all, h.join("web", 8080))
	}
	flat(t, all...)
	for i, h := range hosts {
		h.outside(all[i], 8080)
	}
	return all
}

// daemonsOf shows what the recipe's daemons said, if the test fails.
func daemonsOf(t *testing.T, hosts []*host) {
	t.Cleanup(func() {
		for _, h := range hosts {
			if t.Failed() {
				out, _ := h.Try("sh", "-c", "tail -n 20 /run/log/*")
				t.Logf("host %d:\n%s", h.n, out)
			}
		}
	})
}

// The recipe of docs/hosts.md, as a person follows it on three machines.
func TestRecipeFlannel(t *testing.T) {
	hosts := machines(t)
	daemonsOf(t, hosts)
	for _, b := range recipe(t, "flannel") {
		follow(t, hosts, engines(t), b)
	}
	works(t, hosts)
}

func TestRecipeNebula(t *testing.T) {
	hosts := machines(t)
	daemonsOf(t, hosts)
	blocks := recipe(t, "Nebula")
	follow(t, hosts, engines(t), blocks[0])
	follow(t, hosts, engines(t), blocks[1])
	for _, h := range hosts[1:] {
		for _, file := range []string{"ca.crt", fmt.Sprintf("%d.crt", h.n), fmt.Sprintf("%d.key", h.n)} {
			h.Write("/etc/nebula/"+file, hosts[0].Read("/etc/nebula/"+file))
		}
	}
	follow(t, hosts, engines(t), blocks[2])
	all := works(t, hosts)
	hosts[0].closed(hosts[1], all)
	hosts[0].keepsIn(all)
}

// closed checks that a machine has no port open to the others by Nebula, at any of its
// addresses, and answers what the recipe says. Its own container is all[0].
func (h *host) closed(other *host, all []container) {
	t := h.t
	t.Helper()
	h.Sh(`nft 'table ip machine { counter any { }; counter pings { }; chain input { type filter hook input priority 0;
		iifname nebula1 ip protocol icmp counter name pings accept; iifname nebula1 counter name any; }; }'`)
	for _, from := range []lab.Place{other.Place, all[1].Place} {
		for _, to := range []string{overlay(h.n), fmt.Sprintf("10.100.%d.1", h.n), fmt.Sprintf("10.100.%d.255", h.n), fmt.Sprintf("10.100.%d.0", h.n)} {
			for _, protocol := range []string{"tcp", "udp"} {
				from.Try("timeout", "0.2", "bash", "-c", "echo x >/dev/"+protocol+"/"+to+"/22")
			}
		}
		sees(t, "behind what is dropped", from, all[0].addr, map[bool]string{true: overlay(other.n), false: all[1].addr}[from == other.Place])
	}
	if err := other.Ping(overlay(h.n)); err != nil {
		t.Errorf("ping of the machine: %v", err)
	}
	if err := other.Ping(fmt.Sprintf("10.100.%d.1", h.n), "-w", "1"); err == nil {
		t.Error("the gateway answers")
	}
	if out := h.Run("nft", "list", "counter", "ip", "machine", "any"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("packets for the machine arrive: %s", out)
	}
	if out := h.Run("nft", "list", "counter", "ip", "machine", "pings"); strings.Contains(out, "packets 0 ") {
		t.Errorf("nothing is counted: %s", out)
	}
}

// keepsIn checks that what is for other hosts' containers stays on the host while the tunnel
// is away, and that new containers come.
func (h *host) keepsIn(all []container) {
	t := h.t
	t.Helper()
	h.Outside.Sh(`nft 'table ip out { counter clear { }; chain pre { type filter hook prerouting priority -300; ip daddr 10.100.0.0/16 counter name clear; }; }'`)
	leaks := func(from lab.Place) bool {
		t.Helper()
		if err := from.Ping(all[1].addr, "-w", "1"); err == nil {
			t.Error("a container of another host answers without the tunnel")
		}
		if err := from.Ping(lab.OutsideAddr); err != nil { // behind it on the same way
			t.Error(err)
		}
		return !strings.Contains(h.Outside.Run("nft", "reset", "counter", "ip", "out", "clear"), "packets 0 ")
	}
	h.Sh("kill -- -$(cat /run/log/nebula@flat.pid)")
	if err := lab.Until(soon, func() error {
		if _, err := h.Try("ip", "link", "show", "nebula1"); err != nil {
			return nil
		}
		return fmt.Errorf("nebula1 is still there")
	}); err != nil {
		t.Fatal(err)
	}
	early := h.join("early", 8081)
	for _, from := range []lab.Place{h.Place, all[0].Place, early.Place} {
		if leaks(from) {
			t.Error("packets for another host's container leave in clear")
		}
	}
	h.Run("ip", "route", "del", "unreachable", "10.100.0.0/16")
	if !leaks(all[0].Place) {
		t.Error("the outside gets nothing, even without the unreachable route")
	}
	h.enable(unit, "nebula@flat")
	flat(t, all[0], all[1], early)
}

// enable starts units.
func (h *host) enable(units ...string) {
	h.t.Helper()
	h.Run(append([]string{"env", "UNITS=" + unitsOf(engines(h.t)), "systemctl", "enable", "--now"}, units...)...)
}

// unitsOf are the directories in which packages have units.
func unitsOf(dir string) string {
	return dir + "/usr/lib/systemd/system " + dir + "/lib/systemd/system"
}

// A real Podman takes the commands of all recipes.
func TestRecipesPodman(t *testing.T) {
	t.Parallel()
	w := lab.New(t)
	podman, err := w.Debian("trixie", root)
	if err != nil {
		t.Skipf("NO PODMAN OF DEBIAN trixie TO TEST WITH: %v", err)
	}
	podman.World.Sh("mkdir -p /run/flannel")
	podman.World.Write(subnetFile, "FLANNEL_NETWORK=10.100.0.0/16\nFLANNEL_SUBNET=10.100.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n")
	for _, heading := range []string{"flannel", "Nebula", "WireGuard"} {
		commands := regexp.MustCompile(`(?m)^podman .*$`).FindAllString(blocksOf(t, heading)[1].script, -1)
		if len(commands) != 2 {
			t.Fatalf("%s has %q", heading, commands)
		}
		run := strings.Replace(commands[1], "-it --network flat debian", podman.World.Cgroup()+" --network flat "+lab.Image+" ip -4 addr show eth0", 1)
		out := podman.World.Sh("HOST=2\n" + commands[0] + "\n" + run + "\npodman network rm flat")
		if !strings.Contains(out, "inet 10.100.2.") {
			t.Errorf("the container of the recipe for %s has %s", heading, out)
		}
	}
}
