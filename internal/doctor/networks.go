package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/report"
	"flatnet/internal/rootless"
	"flatnet/rtnl"
)

// networks compares what attachments have with what they need, and says what STATUS would.
func (d *Doctor) networks() {
	all, err := d.Inventory.Status("")
	attached := map[string]bool{}
	var overlaps []advice.Repairable
	for _, n := range all {
		d.network(n)
		for _, sub := range n.Subnets {
			d.subnets = append(d.subnets, sub.Masked())
		}
		attached[n.Name] = true
		overlaps = append(overlaps, advice.Repairs(n.Err)...)
	}
	for _, n := range d.Configured() {
		if !attached[n.Network] {
			d.configured(n)
			d.subnets = append(d.subnets, n.Subnets...)
			attached[n.Network] = n.Network != ""
			overlaps = append(overlaps, advice.Repairs(errors.Join(n.Failed, n.Status))...)
		}
	}
	overlaps = slices.DeleteFunc(overlaps, func(r advice.Repairable) bool { return r.Check != advice.Collisions })
	if len(overlaps) > 0 {
		d.add(report.Warn, advice.Collisions, texts(overlaps), commands(overlaps))
	} else {
		d.add(report.OK, advice.Collisions, fmt.Sprintf("nothing else has a subnet of the %d networks with a container or a configuration", len(attached)), "")
	}
	for _, e := range leaves(err) {
		if !d.said[e.Error()] {
			d.said[e.Error()] = true
			d.add(report.Fail, "networks", e.Error(), recordOf(e))
		}
	}
}

const reload = "flatnet reload"

func (d *Doctor) network(n *report.Network) {
	attached := len(n.Attachments)
	check := "network " + n.Name
	switch {
	case n.Faults != nil:
		for _, e := range leaves(n.Faults) {
			d.said[e.Error()] = true
		}
		text, repair := n.Faults.Error(), d.repair(n)
		if repair != reload { // alone, it would not
			text = strings.ReplaceAll(text, " ("+reload+" mends that)", "")
		}
		d.add(report.Fail, check, text, repair)
	case n.State == report.NoRecord:
		d.add(report.Warn, check, fmt.Sprintf("%d attached. %s", attached, n.Status), "restart the containers that are named or, if none is, one of the network's")
	case n.Status != "":
		d.add(report.Warn, check, n.State+": "+n.Status, commands(advice.Repairs(n.Err)))
	default:
		d.add(report.OK, check, fmt.Sprintf("%d attached, nothing missing", attached), "")
	}
}

// configured reports a network without containers.
func (d *Doctor) configured(n report.Configured) {
	check := "network " + n.Network
	failed := advice.Repairs(n.Failed)
	repair := "edit " + n.Path + " until this succeeds: flatnet plan -f " + advice.Word(n.Path)
	if n.Netavark {
		repair = "podman network rm " + advice.Word(n.Network) + ", and create it again with other options"
	}
	switch {
	case len(failed) > 0:
		d.add(report.Fail, check, n.Path+": an ADD fails: "+n.Failed.Error(), commands(failed))
	case n.Network == "":
		d.add(report.Fail, "configuration", n.Failed.Error(), repair)
	case n.Failed != nil:
		d.add(report.Fail, check, n.Path+": "+n.Failed.Error(), repair)
	case n.Status != nil:
		d.add(report.Warn, check, n.Path+": "+n.Status.Error(), commands(advice.Repairs(n.Status)))
	default:
		d.add(report.OK, check, "configured in "+n.Path+", no container; an ADD can succeed", "")
	}
}

// commands joins what repairs several things, each once.
func commands(all []advice.Repairable) string {
	var texts []string
	for _, r := range all {
		if !slices.Contains(texts, r.Repair) {
			texts = append(texts, r.Repair)
		}
	}
	return strings.Join(texts, "; ")
}

// leaves returns the errors that errors.Join has joined, each of which has a line of its own.
func leaves(err error) (all []error) {
	many, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var texts []string
	for _, e := range many.Unwrap() {
		all, texts = append(all, leaves(e)...), append(texts, e.Error())
	}
	if strings.Join(texts, "\n") != err.Error() { // it is one error of several kinds
		return []error{err}
	}
	return all
}

// repair returns the commands that mend what a network lacks: a reload, after what a reload
// would stumble over.
func (d *Doctor) repair(n *report.Network) string {
	var steps []string
	for _, e := range leaves(n.Faults) {
		if step := recordOf(e); step != "" && !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
	}
	if c, err := host.Open(d.Engine.Warn); err == nil {
		defer c.Close()
		steps = append(steps, obstacles(c, &n.Shared)...)
	}
	return strings.Join(append(steps, reload), "; ")
}

// recordOf returns the command that removes a record which can't be read, if that is what an
// error is about. A container that it was of has to be started again to have another one.
func recordOf(err error) string {
	path, _, found := strings.Cut(err.Error(), ": ")
	if !found || !strings.HasPrefix(path, rootless.Records()+"/") {
		return ""
	}
	return "rm " + advice.Word(path)
}

// obstacles returns the commands without which a reload can't make a network's bridge what it
// was: a bridge that has another name now, a link of somebody else that has its name, and IPv6
// that is switched off.
func obstacles(c *host.Host, s *model.Shared) (steps []string) {
	links, err := c.Links()
	if err != nil || s.Bridge == "" {
		return nil
	}
	named := slices.IndexFunc(links, func(l rtnl.Link) bool { return l.Name == s.Bridge })
	renamed := slices.IndexFunc(links, func(l rtnl.Link) bool {
		made, ok := model.MadeFor(l.Alias)
		return ok && made == s.Name && l.Kind == "bridge" && l.Name != s.Bridge && string(l.MAC) == string(s.BridgeMAC[:])
	})
	if named >= 0 && links[named].Kind != "bridge" {
		steps = append(steps, move(links[named], unused(links, s.Bridge))...)
		named = -1
	}
	if named < 0 && renamed >= 0 {
		steps = append(steps, move(links[renamed], s.Bridge)...)
	}
	return append(steps, disabled(c, s)...)
}

// move returns the commands that rename a link: before Linux 6.2 one that is up has to go down.
func move(l rtnl.Link, name string) []string {
	steps := []string{"ip link set " + advice.Word(l.Name) + " down", "ip link set " + advice.Word(l.Name) + " name " + advice.Word(name)}
	if l.Up() {
		steps = append(steps, "ip link set "+advice.Word(name)+" up")
	}
	return steps
}

// unused returns a name that no link has.
func unused(links []rtnl.Link, name string) string {
	for i := 0; ; i++ {
		other := fmt.Sprintf("%.9s-old%d", name, i)
		if !slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Name == other }) {
			return other
		}
	}
}

// disabled returns the command that switches IPv6 on, if the network's gateway has to be on an
// interface that has none.
func disabled(c *host.Host, s *model.Shared) []string {
	if !slices.ContainsFunc(s.Subnets, func(sub model.Subnet) bool { return sub.Addr().Is6() }) {
		return nil
	}
	for _, iface := range []string{s.GatewayName(), "default"} {
		name := "net/ipv6/conf/" + iface + "/disable_ipv6"
		v, err := c.Sysctl.Get(name)
		if err == nil && v == "1" {
			return []string{"echo 0 >" + advice.Word("/proc/sys/"+name)}
		}
		if err == nil { // what new interfaces get matters only if there is none
			break
		}
	}
	return nil
}
