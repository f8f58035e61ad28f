package tests

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"flatnet/tests/lab"
)

func (b box) reload() {
	b.t.Helper()
	b.Run(program, "reload")
}

// All that can be told apart by packets or by nft is as before, in every part
// that was lost, and a second reload changes nothing.
func TestReloadAfterAFlush(t *testing.T) {
	b := newBox(t)
	web := b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	b.attach("other", func(c *lab.Call) { c.Conf = strings.Replace(dualOther, `"bridge"`, `"internal":true,"bridge"`, 1) })
	web.Serve(web.addr + ":80")
	rules := func() string { return sorted(b.Run("nft", "list", "ruleset")) }
	before := rules()
	for _, lose := range []string{
		"flush ruleset", "flush chain ip flatnet.ports output", "flush map ip flatnet.ports everywhere",
		"delete table ip6 flatnet.ports", "delete table ip flatnet", "flush chain ip6 flatnet-other forward-br9", "add table ip x",
	} {
		b.Run("nft", lose)
		b.reload()
		b.reload()
		b.Sh("nft delete table ip x 2>/dev/null || :")
		if after := rules(); after != before {
			t.Errorf("after %s:\n%s\nnot\n%s", lose, after, before)
		}
		if _, err := b.Outside.Ask(net.JoinHostPort(lab.HostAddr, "8080")); err != nil {
			t.Errorf("after %s: %v", lose, err)
		}
		b.do(web.then("CHECK"))
	}
	b.do(web.then("DEL"))
	b.Run("nft", "flush", "ruleset")
	b.reload()
	if left := b.Run("nft", "list", "ruleset"); strings.Contains(left, "ports") || strings.Contains(left, "flatnet {") {
		t.Errorf("what was removed is back:\n%s", left)
	}
}

// What there is no record of is named, and the rest restored.
func TestReloadWithoutRecords(t *testing.T) {
	b := newBox(t)
	lost := b.attach("lost", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	kept := b.attach("kept", func(c *lab.Call) { c.Conf = publish(dualOther, mapping(8081, 80, "")) })
	kept.Serve("0.0.0.0:80")
	b.Sh("nft flush ruleset; rm -r /run/flatnet/*/flatnet")
	_, err := b.Try(program, "reload")
	for _, name := range []string{"network flatnet", "flatnet/lost/eth0", lost.addr, lost.addr6()} {
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "kept") {
			t.Errorf("reload does not name %s: %v", name, err)
		}
	}
	if _, err := b.Outside.Ask(lab.HostAddr + ":8081"); err != nil {
		t.Error(err)
	}
	for _, c := range []container{lost, kept} {
		b.do(c.then("DEL"))
	}
}

// Records of an earlier namespace of the same inode number are not restored, and
// go.
func TestReloadIgnoresOldRecords(t *testing.T) {
	b := newBox(t)
	old := b.attach("old", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	other := b.attach("other", func(c *lab.Call) { c.Conf = publish(dualOther, mapping(8081, 80, "")) })
	b.Sh("cp -a /run/flatnet /run/saved")
	b.do(old.then("DEL"))
	b.do(other.then("DEL"))
	b.Sh("rm -r /run/flatnet; mv /run/saved /run/flatnet; find /run/flatnet -type f -exec touch -d @1 {} +")
	c := b.attach("c1")
	before := b.state()
	b.reload()
	b.same(before)
	if left := b.Sh("cd /run/flatnet/*; find . -type f ! -name .lock ! -path './.gone/*' | sort"); left != "./flatnet/bridge\n./flatnet/c1:eth0\n" {
		t.Errorf("left are %s", left)
	}
	b.do(c.then("DEL"))
}

// Where br_netfilter is switched on late, a reload lets a container reach its own
// published port again.
func TestReloadAfterBridgeNetfilter(t *testing.T) {
	b := newBox(t)
	if _, err := b.Try("test", "-e", "/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		t.Log("no br_netfilter here, so only a plain reload is tried: load the module")
	}
	bridged := func(v string) {
		b.Sh("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do test ! -e $f || echo " + v + " >$f; done")
	}
	bridged("0")
	c := b.attach("c1", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	c.Serve("[::]:80")
	bridged("1")
	b.reload()
	for _, host := range []string{lab.HostAddr, hostAddr6} {
		if _, err := c.Ask(net.JoinHostPort(host, "8080")); err != nil {
			t.Error(err)
		}
	}
}

// sorted is a listing with its tables in order: nft lists them by age.
func sorted(rules string) string {
	tables := strings.SplitAfter(rules, "\n}\n")
	for i := range tables {
		for j := range i {
			if tables[i] < tables[j] {
				tables[i], tables[j] = tables[j], tables[i]
			}
		}
	}
	return strings.Join(tables, "")
}

// Reloads beside ADD and DEL bring nothing back and lose nothing.
func TestReloadRace(t *testing.T) {
	b := newBox(t)
	const containers, rounds = 8, 6
	var calls sync.WaitGroup
	for i := range containers {
		b.NetNS(fmt.Sprint("c", i))
	}
	stop := make(chan bool)
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := b.Try(program, "reload"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range containers {
		calls.Go(func() {
			c := call("ADD", fmt.Sprint("c", i))
			c.Conf = publish(lab.Conf, mapping(8000+i, 80, ""))
			for range rounds {
				for _, c.Command = range []string{"ADD", "DEL"} {
					if r := b.Call(program, c); r.Exit != 0 {
						t.Errorf("%s %s: %s", c.Command, c.ID, r.Stdout)
					}
				}
			}
			c.Command = "ADD"
			if r := b.Call(program, c); r.Exit != 0 {
				t.Errorf("ADD %s: %s", c.ID, r.Stdout)
			}
		})
	}
	calls.Wait()
	close(stop)
	reloads.Wait()
	for i := range containers {
		if list := b.Run("nft", "list", "map", "ip", "flatnet.ports", "everywhere"); !strings.Contains(list, fmt.Sprintf(`flatnet/c%d/eth0`, i)) {
			t.Errorf("c%d's port is lost:\n%s", i, list)
		}
	}
	for i := range containers {
		b.do(lab.Call{Command: "DEL", ID: fmt.Sprint("c", i), IfName: "eth0", Conf: lab.Conf})
	}
	b.clean()
}

// A hundred ADDs at once, each with a port, and a hundred DELs.
func TestParallelADDsWithPorts(t *testing.T) {
	b := newBox(t)
	const n = 100
	var script strings.Builder
	for i := range n {
		fmt.Fprintf(&script, "netns add c%d\n", i)
	}
	cmd := b.Cmd("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := func(command string) time.Duration {
		begin := time.Now()
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() {
				c := call(command, fmt.Sprint("c", i))
				c.Conf = publish(lab.Conf, mapping(9000+i, 80, ""))
				if r := b.Call(program, c); r.Exit != 0 {
					t.Errorf("%s %s: %s", command, c.ID, r.Stdout)
				}
			})
		}
		calls.Wait()
		return time.Since(begin)
	}
	adds := all("ADD")
	list := b.Run("nft", "list", "map", "ip", "flatnet.ports", "everywhere")
	for i := range n {
		if !strings.Contains(list, fmt.Sprintf("tcp . %d comment \"flatnet/c%d/eth0\"", 9000+i, i)) {
			t.Errorf("port %d is lost", 9000+i)
		}
	}
	t.Logf("%d ADDs with ports at once: %v, DELs: %v", n, adds, all("DEL"))
	b.clean()
}

// What an ADD with a port costs beside many mappings.
func TestManyPorts(t *testing.T) {
	b := newBox(t)
	b.NetNS("probe")
	measure := func() time.Duration {
		best := time.Hour
		for range 15 {
			c := call("ADD", "probe")
			c.Conf = publish(lab.Conf, mapping(80, 80, ""))
			begin := time.Now()
			b.do(c)
			best = min(best, time.Since(begin))
			c.Command = "DEL"
			b.do(c)
		}
		return best
	}
	b.attach("first")
	none := measure()
	mappings := make([]string, 1000)
	for i := range mappings {
		mappings[i] = mapping(10000+i, 80, "")
	}
	begin := time.Now()
	many := b.attach("many", func(c *lab.Call) { c.Conf = publish(lab.Conf, mappings...) })
	whole := time.Since(begin)
	t.Logf("ADD with one port (with nsenter): %v beside none, %v beside 1000 mappings; one ADD with 1000 ports %v", none, measure(), whole)
	begin = time.Now()
	b.do(many.then("DEL"))
	t.Logf("its DEL %v", time.Since(begin))
}

// An attachment without a record stays named, by reload, status and doctor, whatever its
// network's next ADD records; restarting its container ends that.
func TestLostRecordsStayNamed(t *testing.T) {
	b := newBox(t)
	guarded := func(c *lab.Call) { c.Conf = publish(conf(`"macspoofchk":true`), mapping(8081, 80, "")) }
	for _, lose := range []string{"rm /run/flatnet/*/flatnet/g1:eth0", "rm -r /run/flatnet"} {
		g1, g2 := b.attach("g1", guarded), b.attach("g2")
		b.Sh(lose + "; nft flush ruleset")
		g3 := b.attach("g3")
		lost := []container{g1}
		if strings.Contains(lose, "-r") {
			lost = append(lost, g2)
		}
		for range 2 {
			for _, command := range []string{"reload", "status"} {
				out, err := b.Try(program, command)
				for _, c := range lost {
					if want := "no record of flatnet/" + c.add.ID + "/eth0 (" + c.addr + ")"; err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: flatnet %s says %q, %v", lose, command, out, err)
					}
				}
				if err != nil && strings.Contains(err.Error(), "g3") {
					t.Errorf("%s: flatnet %s names g3: %v", lose, command, err)
				}
			}
		}
		if out := b.Sh(program + " doctor || :"); !strings.Contains(out, "WARN  network flatnet: 3 attached. no record of flatnet/g1/eth0") {
			t.Errorf("%s: doctor says %s", lose, out)
		}
		for _, c := range lost {
			b.do(c.then("DEL"))
			b.do(c.add)
		}
		b.reload()
		b.Run(program, "status")
		for _, c := range []container{g1, g2, g3} {
			b.do(c.then("DEL"))
			b.Run("ip", "netns", "del", c.add.ID)
		}
	}
}
