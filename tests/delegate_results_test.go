package tests

import (
	"os"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// Whatever a plugin answers, it is understood or refused, and then undone.
func TestDelegatedResults(t *testing.T) {
	for _, c := range []struct {
		name, result string
		code         int // 0: it is understood
	}{
		{"1.1.0", `{"cniVersion":"1.1.0","ips":[{"address":"10.10.0.5/24"}],"routes":[{"dst":"198.51.100.0/24","mtu":1300}]}`, 0},
		{"1.0.0", `{"cniVersion":"1.0.0","ips":[{"address":"10.10.0.5/24"}],"routes":[{"dst":"198.51.100.0/24"}]}`, 0},
		{"0.3.1", `{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.10.0.5/24"}],"routes":[{"dst":"198.51.100.0/24"}],"dns":{}}`, 0},
		{"0.2.0", `{"cniVersion":"0.2.0","ip4":{"ip":"10.10.0.5/24","routes":[{"dst":"198.51.100.0/24"}]},"dns":{}}`, 0},
		{"0.1.0, which does not say so", `{"ip4":{"ip":"10.10.0.5/24","routes":[{"dst":"198.51.100.0/24"}]}}`, 0},
		{"nothing", ``, 110},
		{"no JSON", `hello`, 110},
		{"a version of the future", `{"cniVersion":"9.0.0","ips":[{"address":"10.10.0.5/24"}]}`, 110},
		{"the same address twice", `{"cniVersion":"1.1.0","ips":[{"address":"10.10.0.5/24"},{"address":"10.10.0.5/25"}]}`, 7},
		{"a route that can't be", `{"cniVersion":"1.1.0","ips":[{"address":"10.10.0.5/24"}],"routes":[{"dst":"198.51.100.0/24","gw":"192.0.2.77"}]}`, 110},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, add := stubbed(t)
			c1 := b.NetNS("c1")
			b.Write("/run/result", c.result)
			if c.code != 0 {
				b.refused(add, c.code)
				b.nothingOfNet()
				return
			}
			b.do(add)
			if out := c1.Run("ip", "route"); !strings.Contains(out, "198.51.100.0/24 via 10.10.0.1") {
				t.Errorf("routes: %s", out)
			}
		})
	}
}

func TestDelegatedFlood(t *testing.T) {
	b, add := stubbed(t)
	b.NetNS("c1")
	b.Write(plugins+"/stub", "#!/bin/sh\n[ $CNI_COMMAND != ADD ] || head -c 100000000 /dev/zero\n")
	b.refused(add, 110, "ADD", "1048576 bytes")
	b.nothingOfNet()
}

func TestDelegatedToDHCP(t *testing.T) {
	b := newBox(t)
	server := b.NetNS("server")
	b.Sh("ip link add br0 up type bridge; ip link add s up master br0 type veth peer name eth0 netns server")
	server.Sh("ip addr add 10.10.0.1/24 dev eth0; ip link set eth0 up")
	b.Sh("mkdir -p /run/cni; : >/run/udhcpd.leases")
	b.Write("/run/udhcpd.conf", "start 10.10.0.50\nend 10.10.0.60\ninterface eth0\nlease_file /run/udhcpd.leases\n"+
		"pidfile /run/udhcpd.pid\noption subnet 255.255.255.0\noption router 10.10.0.1\noption lease 600\n")
	b.background(server, "busybox", "udhcpd", "-f", "/run/udhcpd.conf")
	b.background(b.Place, plugins+"/dhcp", "daemon")
	b.Sh("timeout 10 sh -c 'until [ -S /run/cni/dhcp.sock ] && [ -s /run/udhcpd.pid ]; do sleep 0.02; done'")
	c := b.attach("c1", func(c *lab.Call) {
		c.Conf = bridgeConf("flatnet", "1.0.0", `"ipam":{"type":"dhcp"}`)
	})
	if !strings.HasPrefix(c.addr, "10.10.0.5") || c.result.IPs[0].Gateway != "10.10.0.1" {
		t.Errorf("the result is %s", c.result.Stdout)
	}
	if out := c.Run("ip", "route"); !strings.Contains(out, "default via 10.10.0.1") {
		t.Errorf("routes: %s", out)
	}
	if err := c.Ping("10.10.0.1"); err != nil {
		t.Error(err)
	}
	b.do(c.then("CHECK"))
	b.do(c.then("DEL"))
	b.nothingOfNet()
}

// background starts a program that ends with the test.
func (b box) background(p lab.Place, args ...string) {
	b.t.Helper()
	cmd := p.Cmd(args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}
