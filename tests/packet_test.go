package tests

import (
	"testing"

	"flatnet/tests/lab"
)

func TestPackets(t *testing.T) {
	b := newBox(t)
	open := func(c *lab.Call) { c.Conf = conf(`"isolation":"none"`) }
	c1, c2 := b.attach("c1", open), b.attach("c2", open)
	flat := b.attach("c3", func(c *lab.Call) { // another host's subnet, played by another network
		c.Conf = `{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","isolation":"none","ipam":{"type":"flatnet-ipam","subnet":"10.87.9.0/24"}}`
	})
	for _, c := range []struct {
		name     string
		from     lab.Place
		to       lab.Place
		addr     string
		arriveAs string // the client's address, as the server sees it
	}{
		{"container to gateway", c1.Place, b.Place, gateway, c1.addr},
		{"container to itself", c1.Place, c1.Place, "127.0.0.1", "127.0.0.1"},
		{"host to container", b.Place, c1.Place, c1.addr, gateway},
		{"container to container", c1.Place, c2.Place, c2.addr, c1.addr},
		{"container to the outside", c1.Place, b.Outside, lab.OutsideAddr, lab.HostAddr},
		{"container to the flat network", c1.Place, flat.Place, flat.addr, c1.addr},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.from.Ping(c.addr); err != nil {
				t.Error(err)
			}
			c.to.Serve(c.addr + ":80")
			if as, err := c.from.Ask(c.addr + ":80"); as != c.arriveAs || err != nil {
				t.Errorf("arrives as %q, not %q: %v", as, c.arriveAs, err)
			}
		})
	}
}

func TestWithoutMasqueradeTheOutsideSeesTheContainer(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"ipMasq":false`) })
	if err := c.Ping(lab.OutsideAddr); err == nil {
		t.Error("the outside has no route back, and still answers")
	}
	b.Outside.Run("ip", "route", "add", "10.87.1.0/24", "via", lab.HostAddr)
	b.Outside.Serve(":80")
	if as, err := c.Ask(lab.OutsideAddr + ":80"); as != c.addr || err != nil {
		t.Errorf("arrives as %q: %v", as, err)
	}
}
