package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// setup is netavark's stdin for a container in 10.99.5.0/24.
func setup(id string) string {
	return fmt.Sprintf(`{"container_id":%q,"network":{"name":"five","network_interface":"br-five","subnets":[{"subnet":"10.99.5.0/24"}]},`+
		`"network_options":{"interface_name":"eth0"}}`, id)
}

// netavark calls the plugin as netavark does, with the namespace of its name.
func (b box) netavark(command, id string) error {
	cmd := b.Cmd(program, command, "/run/netns/"+id)
	cmd.Stdin = strings.NewReader(setup(id))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", command, id, err, out)
	}
	return nil
}

// Nothing of a network is left after its last container, so that another one
// may have its subnet or the name of its bridge.
func TestNetavarkBridgeGoesWithTheLast(t *testing.T) {
	b := newBox(t)
	for _, id := range []string{"c1", "c2"} {
		b.NetNS(id)
		if err := b.netavark("setup", id); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		id   string
		left bool
	}{{"c1", true}, {"c2", false}, {"c2", false}} {
		if err := b.netavark("teardown", c.id); err != nil {
			t.Error(err)
		}
		if left := strings.Contains(b.Run("ip", "link"), "br-five"); left != c.left {
			t.Errorf("after the teardown of %s the bridge is there: %v", c.id, left)
		}
	}
}

// A bridge is left alone that somebody else made, has a port in, or that
// containers of the other door use.
func TestNetavarkBridgeOfOthersStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, between string }{
		"made by hand":  {before: "ip link add br-five type bridge"},
		"with a port":   {between: "ip link add other type veth peer name end; ip link set other master br-five"},
		"a name of its": {between: "ip link set br-five alias mine"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.NetNS("c1")
			b.Sh(c.before)
			if err := b.netavark("setup", "c1"); err != nil {
				t.Fatal(err)
			}
			b.Sh(c.between)
			if err := b.netavark("teardown", "c1"); err != nil {
				t.Error(err)
			}
			if !strings.Contains(b.Run("ip", "link"), "br-five") {
				t.Error("the bridge is gone")
			}
		})
	}
	t.Run("of the other door", func(t *testing.T) {
		b := newBox(t)
		b.NetNS("c1")
		other := b.attach("c2", func(c *lab.Call) {
			c.Conf = `{"cniVersion":"1.0.0","name":"five","type":"flatnet","bridge":"br-five","ipam":{"subnet":"10.99.5.0/24"}}`
		})
		for _, command := range []string{"setup", "teardown"} {
			if err := b.netavark(command, "c1"); err != nil {
				t.Error(err)
			}
		}
		if err := b.Ping(other.addr); err != nil {
			t.Error(err)
		}
		b.do(other.then("DEL"))
		if !strings.Contains(b.Run("ip", "link"), "br-five") {
			t.Error("the bridge is gone, which a DEL must leave")
		}
	})
}

// The bridge may go between any two steps of a setup of another container.
func TestNetavarkBridgeComesAndGoes(t *testing.T) {
	b := newBox(t)
	var wg sync.WaitGroup
	for i := range 4 {
		id := fmt.Sprint("c", i)
		b.NetNS(id)
		wg.Go(func() {
			for range 25 {
				for _, command := range []string{"setup", "teardown"} {
					if err := b.netavark(command, id); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if out := b.Run("ip", "link"); strings.Contains(out, "br-five") || strings.Contains(out, "fn-") {
		t.Errorf("left: %s", out)
	}
}
