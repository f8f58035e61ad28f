package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// A network's last DEL beside somebody who flushes all rules leaves no more than
// another one: no route_localnet, no record, no rule.
func TestLastDELBesideAFlush(t *testing.T) {
	b := newBox(t)
	for round := range 30 {
		web := b.attach("web", func(c *lab.Call) {
			c.Conf = publish(strings.Replace(dual, `"type":"flatnet"`, `"type":"flatnet","macspoofchk":true`, 1), mapping(8080, 80, ""))
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			b.Cmd("sh", "-c", fmt.Sprintf("for i in 1 2 3; do nft flush ruleset; done; : %d", round)).Run()
		})
		r := b.Call(program, web.then("DEL"))
		wg.Wait()
		if r.Exit != 0 {
			t.Errorf("round %d: %s", round, r.Stdout)
			b.do(web.then("DEL"))
		}
		if v := strings.TrimSpace(b.Run("cat", "/proc/sys/net/ipv4/conf/"+bridgeName+"/route_localnet")); v != "0" {
			t.Errorf("round %d: route_localnet is %s", round, v)
		}
		if left := b.Sh("find /run/flatnet -mindepth 2 ! -name .lock"); left != "" {
			t.Errorf("round %d: records are left: %s", round, left)
		}
		b.clean()
		b.Run("ip", "netns", "del", "web")
	}
}

// A flush that comes between what a reload asked and what it commits makes it ask
// again. inject holds up one of the sends before the commit until all is flushed.
func TestReloadBesideAFlush(t *testing.T) {
	inject := injector(t)
	b := newBox(t)
	b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	count := func() int { return strings.Count(b.Run("nft", "list", "ruleset"), "\n") }
	want := count()
	for n := 2; n <= 10; n += 2 {
		f := fault{point: point{call: "sendto", n: n}, until: "/run/flushed"}
		b.Run("nft", "delete", "table", "ip", "flatnet") // so that there is something to commit
		b.Sh("rm -f " + traceFile + " " + f.until)
		cmd := b.Cmd(append(f.wrapper(inject), program, "reload")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := lab.Until(10*time.Second, func() error {
			if !f.met(b) {
				return fmt.Errorf("not %s: %s", f, b.Read(traceFile))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		b.Run("nft", "flush", "ruleset")
		b.Write(f.until, "")
		if err := cmd.Wait(); err != nil {
			t.Errorf("reload %s: %v", f, err)
		}
		if got := count(); got != want {
			t.Errorf("a reload %s makes %d lines, not %d", f, got, want)
			b.reload()
		}
	}
}
