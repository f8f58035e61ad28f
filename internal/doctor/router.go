package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/report"
)

// router looks at what the host does with packets of any network: it asks for one that does
// not exist and would have the default bridge.
func (d *Doctor) router() {
	n := &model.Network{}
	err := d.statusOn(n, model.DefaultBridge)
	if !errors.Is(err, model.ErrLimited) {
		err = nil // what the kernel lacks has a check of its own
	}
	seen := map[string][]advice.Repairable{}
	for _, r := range advice.Repairs(err) {
		seen[r.Check] = append(seen[r.Check], r)
	}
	d.forwarding(seen[advice.Forwarding])
	d.advertisements()
	if all := seen[advice.Firewalls]; len(all) > 0 {
		d.add(report.Warn, advice.Firewalls, texts(all), commands(all))
	} else {
		d.add(report.OK, advice.Firewalls, "no chain of others is found to drop what containers send", "")
	}
	d.filter()
}

// unnamed replaces the network of the question in an answer.
func unnamed(text string) string {
	return strings.NewReplacer("network "+stranger, "a new network", "flatnet-"+stranger, "its bridge").Replace(text)
}

func texts(all []advice.Repairable) string {
	var lines []string
	for _, r := range all {
		lines = append(lines, unnamed(r.Error()))
	}
	return strings.Join(lines, "\n")
}

// forwarding reports whether the host forwards, and answers that arrive at its uplink, too.
func (d *Doctor) forwarding(lacks []advice.Repairable) {
	state := func(path string) string {
		switch v := d.read("proc/sys/net/" + path); v {
		case "0":
			return "off"
		case "":
			return "not there"
		}
		return "on"
	}
	v4, v6 := state("ipv4/ip_forward"), state("ipv6/conf/all/forwarding")
	text := fmt.Sprintf("IPv4 is %s, IPv6 is %s", v4, v6)
	if v4 == "off" || v6 == "off" {
		text += "; the first container of a network that needs it switches it on"
	}
	if len(lacks) > 0 {
		d.add(report.Warn, advice.Forwarding, texts(lacks), commands(lacks))
		return
	}
	d.add(report.OK, advice.Forwarding, text, "")
}

// advertisements looks for interfaces on which the host has learned a route or an address from
// a router, and would no longer: a host that forwards IPv6 listens with accept_ra 2 only.
func (d *Doctor) advertisements() {
	const check = "router advertisements"
	c, err := host.Open(d.Engine.Warn)
	if err != nil {
		d.add(report.Warn, check, err.Error(), "")
		return
	}
	defer c.Close()
	learned, err := c.Advertised()
	if err != nil {
		d.add(report.Warn, check, err.Error(), "")
		return
	}
	forwards, _ := c.Sysctl.Get("net/ipv6/conf/all/forwarding")
	listens := []string{}
	for _, index := range learned {
		l, err := c.LinkByIndex(index)
		name := "net/ipv6/conf/" + l.Name + "/accept_ra"
		v, verr := c.Sysctl.Get(name)
		switch {
		case cmp.Or(err, verr) != nil: // it has gone
		case forwards != "0" && v == "1":
			d.add(report.Warn, check, fmt.Sprintf("the host forwards IPv6, and so no longer listens to routers on %s, from which it has addresses or routes (accept_ra is 1)", l.Name),
				"echo 2 >"+advice.Word("/proc/sys/"+name))
			return
		default:
			listens = append(listens, l.Name+" has accept_ra "+v)
		}
	}
	if len(listens) == 0 {
		d.add(report.OK, check, "the host has no address or route of a router", "")
		return
	}
	text := strings.Join(listens, ", ")
	if forwards == "0" {
		text += "; an ADD that switches forwarding on raises 1 to 2"
	}
	d.add(report.OK, check, text, "")
}

// filter reports sysctls that change what packets meet.
func (d *Doctor) filter() {
	bridged := "is off: bridged packets don't pass the host's IP firewall"
	if d.read("proc/sys/net/bridge/bridge-nf-call-iptables") == "1" {
		bridged = "bridged packets pass the host's IP firewall as well"
	} else if _, err := os.Stat(filepath.Join(d.Root, "proc/sys/net/bridge")); err != nil {
		bridged = "is not loaded: bridged packets don't pass the host's IP firewall"
	}
	d.add(report.OK, "br_netfilter", bridged, "")
	strict := map[string]string{
		"0": "off", "1": "strict: a container of several networks is answered on the one that its route names", "2": "loose",
	}
	v := d.read("proc/sys/net/ipv4/conf/all/rp_filter")
	d.add(report.OK, "rp_filter", cmp.Or(strict[v], "not there"), "")
}
