package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// look surveys the network that is asked for, or all.
func (c *Call) look(q query, deep bool) ([]*model.Survey, error) {
	all, err := c.Host.Survey(deep)
	name := q.arg(0)
	if name == "" || err != nil {
		return all, err
	}
	var known []string
	for _, s := range all {
		known = append(known, s.Name)
	}
	all = slices.DeleteFunc(all, func(s *model.Survey) bool { return s.Name != name })
	if len(all) == 0 {
		err = fmt.Errorf("network %q has no attachment on this host%s", name, suggest(name, known))
	}
	return all, err
}

// state says whether a reload can restore an attachment.
func state(s *model.Survey, a *model.Attachment) string {
	if s.Recorded && a.MAC != (model.HardwareAddr{}) {
		return "attached"
	}
	return "no record"
}

// hostEnd returns the name of the host's interface; quoted, if it is one that no tool
// would make: who has a network namespace gives names there, and a terminal obeys some.
func hostEnd(a *model.Attachment) string {
	if model.ValidIfName(a.HostEnd) != nil {
		return strconv.Quote(a.HostEnd)
	}
	return a.HostEnd
}

func short(id string) string { return fmt.Sprintf("%.12s", id) }

// list returns a line for each attachment.
func list(c *Call, q query) ([]string, error) {
	all, err := c.look(q, false)
	if err != nil {
		return nil, err
	}
	containers := c.Names()
	if q.has("--json") {
		return []string{listJSON(all, containers)}, nil
	}
	rows := [][]string{{"NETWORK", "CONTAINER", "NAME", "INTERFACE", "ADDRESSES", "PORTS", "HOST INTERFACE", "STATE"}}
	for _, s := range all {
		for _, a := range s.Attachments {
			rows = append(rows, []string{s.Name, short(a.Key.ContainerID), cmp.Or(containers[a.Key.ContainerID], "-"), a.Key.IfName,
				cmp.Or(model.JoinAddrs(a.IPs()), "-"), cmp.Or(strings.Join(ports(a), ","), "-"), hostEnd(a), state(s, a)})
		}
	}
	return table(rows), nil
}

// A span is consecutive ports that lead to consecutive ones.
type span struct {
	host, protocol string
	first, to      uint16
	n              int
}

// ports returns an attachment's published ports as people write them: those of both
// families once, and consecutive ones as a range.
func ports(a *model.Attachment) (texts []string) {
	var spans []span
	seen := map[span]bool{} // a port of both families
	for _, p := range a.Ports {
		if !p.Host.IsValid() {
			continue // closed, not published
		}
		host := ""
		if !p.Everywhere() {
			host = netip.AddrPortFrom(p.Host.Addr(), 0).String()
			host = strings.TrimSuffix(host, "0")
		}
		s := span{host, model.ProtocolName(p.Protocol), p.Host.Port(), p.Target.Port(), 1}
		if seen[s] {
			continue
		}
		seen[s] = true
		if n := len(spans); n > 0 && spans[n-1].precedes(s) {
			spans[n-1].n++
			continue
		}
		spans = append(spans, s)
	}
	for _, s := range spans {
		texts = append(texts, fmt.Sprintf("%s%s->%s/%s", s.host, ending(s.first, s.n), ending(s.to, s.n), s.protocol))
	}
	return texts
}

func (s span) precedes(o span) bool {
	return s.host == o.host && s.protocol == o.protocol && int(o.first)-int(s.first) == s.n && int(o.to)-int(s.to) == s.n
}

// ending returns the n ports from first on.
func ending(first uint16, n int) string {
	if n == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, int(first)+n-1)
}

func listJSON(all []*model.Survey, containers map[string]string) string {
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, s := range all {
		for _, a := range s.Attachments {
			w.Begin("", '{')
			w.String("network", a.Key.Network)
			w.String("container", a.Key.ContainerID)
			w.String("name", containers[a.Key.ContainerID])
			w.String("interface", a.Key.IfName)
			writeAddrs(&w, "addresses", a.IPs())
			w.Begin("ports", '[')
			for _, p := range a.Ports {
				if p.Host.IsValid() {
					w.Begin("", '{')
					w.String("hostIP", p.Host.Addr().String())
					w.Uint("hostPort", uint64(p.Host.Port()))
					w.Uint("containerPort", uint64(p.Target.Port()))
					w.String("protocol", model.ProtocolName(p.Protocol))
					w.End('}')
				}
			}
			w.End(']')
			w.String("hostInterface", a.HostEnd)
			w.String("state", state(s, a))
			w.End('}')
		}
	}
	w.End(']')
	return string(w.Bytes)
}

func writeAddrs(w *strictjson.Writer, key string, addrs []netip.Addr) {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	w.Strings(key, texts)
}

// status returns a line for each network, and below those what each misses.
func status(c *Call, q query) ([]string, error) {
	all, err := c.look(q, true)
	if err != nil {
		return nil, err
	}
	rows := [][]string{{"NETWORK", "BRIDGE", "GATEWAYS", "ATTACHMENTS", "ADDRESSES IN USE", "STATE"}}
	var errs []error
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, s := range all {
		verdict := "ok"
		switch {
		case s.Faults != nil:
			verdict = "incomplete"
			errs = append(errs, fmt.Errorf("network %s: %w", s.Name, s.Faults))
		case !s.Recorded:
			verdict = "no record"
		}
		var gateways []netip.Addr
		for _, p := range s.GatewayPrefixes() {
			gateways = append(gateways, p.Addr())
		}
		rows = append(rows, []string{s.Name, cmp.Or(s.Bridge, "-"), cmp.Or(model.JoinAddrs(gateways), "-"),
			fmt.Sprint(len(s.Attachments)), cmp.Or(strings.Join(inUse(s), ", "), "-"), verdict})
		w.Begin("", '{')
		w.String("network", s.Name)
		w.String("bridge", s.Bridge)
		writeAddrs(&w, "gateways", gateways)
		w.Uint("attachments", uint64(len(s.Attachments)))
		w.String("state", verdict)
		if s.Faults != nil {
			w.String("faults", s.Faults.Error())
		}
		w.End('}')
	}
	w.End(']')
	if q.has("--json") {
		return []string{string(w.Bytes)}, errors.Join(errs...)
	}
	return table(rows), errors.Join(errs...)
}

// inUse counts the addresses of each subnet that attachments have.
func inUse(s *model.Survey) (texts []string) {
	for _, sub := range s.Served {
		n := 0
		for _, a := range s.Attachments {
			for _, ip := range a.IPs() {
				if sub.Contains(ip) {
					n++
				}
			}
		}
		text := fmt.Sprint(n)
		if free := 32 - sub.Bits(); sub.Addr().Is4() && free > 1 {
			text += fmt.Sprintf("/%d", 1<<free-3) // less the network's address, the broadcast address and the gateway
		}
		texts = append(texts, text+" of "+sub.Masked().String())
	}
	return texts
}

// doctor returns a line for each finding, and below it what repairs it.
func doctor(c *Call, q query) (lines []string, err error) {
	found := c.Examine()
	failed := 0
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, f := range found {
		if f.Verdict == model.Fail {
			failed++
		}
		lines = append(lines, c.colored(f.Verdict)+"  "+f.Check+": "+strings.ReplaceAll(f.Seen, "\n", "\n      "))
		if f.Repair != "" {
			lines = append(lines, "      -> "+f.Repair)
		}
		w.Begin("", '{')
		w.String("verdict", f.Verdict)
		w.String("check", f.Check)
		w.String("seen", f.Seen)
		w.String("repair", f.Repair)
		w.End('}')
	}
	w.End(']')
	if q.has("--json") {
		lines = []string{string(w.Bytes)}
	}
	if failed > 0 {
		err = fmt.Errorf("%d of %d checks failed", failed, len(found))
	}
	return lines, err
}

// colored pads a verdict, in its colour.
func (c *Call) colored(verdict string) string {
	colour := map[string]int{model.OK: green, model.Warn: yellow, model.Fail: red}[verdict]
	return c.paint(fmt.Sprintf("%-4s", verdict), colour)
}
