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
// again. strace holds up one of the sends before the commit until all is flushed.
func TestReloadBesideAFlush(t *testing.T) {
	b := newBox(t)
	b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	count := func() int { return strings.Count(b.Run("nft", "list", "ruleset"), "\n") }
	sends := func() int { return strings.Count(b.Sh("cat /run/reload.trace 2>/dev/null || :"), "sendto(") }
	want := count()
	for when := 2; when <= 10; when += 2 {
		b.Run("nft", "delete", "table", "ip", "flatnet") // so that there is something to commit
		b.Sh("rm -f /run/reload.trace")
		cmd := b.Cmd("strace", "-f", "-qq", "-o", "/run/reload.trace", "-e", "trace=sendto",
			"-e", fmt.Sprintf("inject=sendto:delay_enter=500000:when=%d", when), program, "reload")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(10 * time.Second); sends() < when-1 && time.Now().Before(until); {
		}
		b.Run("nft", "flush", "ruleset")
		if err := cmd.Wait(); err != nil {
			t.Errorf("reload held up at send %d: %v", when, err)
		}
		if got := count(); got != want {
			t.Errorf("held up at send %d of %d, a reload makes %d lines, not %d", when, sends(), got, want)
			b.reload()
		}
	}
}
