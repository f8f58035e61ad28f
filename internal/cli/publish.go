package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/report"
)

// A Publisher publishes and unpublishes ports of running containers.
type Publisher interface {
	// Publish publishes further ports of an attachment, all or none.
	Publish(key model.Key, further []model.PortMapping) error
	// Unpublish takes away the ports of a container's attachments for which leaves returns
	// true.
	Unpublish(keys []model.Key, leaves func(model.Publication) bool) error
}

// portsOf lists the attachments of a container, or of all; with a network, only those in it.
// One without a record has no MAC address.
func (c *Call) portsOf(container, network string) (found []*model.Attachment, err error) {
	all, err := c.Host.Survey(false)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		for _, a := range s.Attachments {
			if !s.Recorded {
				a.MAC = model.HardwareAddr{}
			}
			found = append(found, a)
		}
	}
	if container != "" {
		id, err := c.identify(container, found)
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(a *model.Attachment) bool { return a.Key.ContainerID != id })
	}
	var networks []string
	for _, a := range found {
		networks = append(networks, a.Key.Network)
	}
	if network != "" {
		found = slices.DeleteFunc(found, func(a *model.Attachment) bool { return a.Key.Network != network })
		if len(found) == 0 {
			slices.Sort(networks)
			return nil, fmt.Errorf("%s is not on network %q, but on %s", cmp.Or(container, "no container"), network, some(slices.Compact(networks)))
		}
	}
	return found, nil
}

// maxCandidates bounds how many things an error lists.
const maxCandidates = 10

// some joins texts, or only the first ones if there are very many.
func some(texts []string) string {
	if more := len(texts) - maxCandidates; more > 0 {
		texts = append(slices.Clone(texts[:maxCandidates]), fmt.Sprintf("%d more", more))
	}
	return cmp.Or(strings.Join(texts, ", "), "none")
}

// identify returns the ID of the container that a word means: a name, an ID, or the
// beginning of just one ID.
func (c *Call) identify(word string, all []*model.Attachment) (string, error) {
	containers := c.Names()
	var exact, begin, words []string
	for _, a := range all {
		id := a.Key.ContainerID
		words = append(words, containers[id], id)
		switch {
		case id == word || containers[id] == word:
			exact = append(exact, id)
		case strings.HasPrefix(id, word):
			begin = append(begin, id)
		}
	}
	for _, ids := range [][]string{exact, begin} {
		slices.Sort(ids)
		switch ids = slices.Compact(ids); {
		case len(ids) == 1:
			return ids[0], nil
		case len(ids) > 1:
			for i, id := range ids {
				ids[i] = strings.TrimSpace(id + " " + containers[id])
			}
			return "", fmt.Errorf("%q may be %d containers: %s", word, len(ids), some(ids))
		}
	}
	if err := c.changed(word); err != nil {
		return "", err
	}
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	return "", fmt.Errorf("no attached container has the name or ID %q%s", word, suggest(word, words))
}

// changed reports that a container's host interface no longer shows whose it is, if that is so.
func (c *Call) changed(word string) error {
	all, _ := c.Inventory.List("") // what can't be read is in the way of nothing here
	for _, a := range all {
		if a.Repair != "" && (a.Name == word || strings.HasPrefix(a.Key.ContainerID, word)) {
			return fmt.Errorf("%s: %s of its host interface %q; first run: %s", a.Key, a.State, a.HostEnd, a.Repair)
		}
	}
	return nil
}

// parseAll reads the ports that a command line names. A port of the container that is not named
// is the host's if same is set, and otherwise 0.
func parseAll(args []string, same bool) (all []model.PortMapping, err error) {
	for _, text := range args {
		ports, err := parsePorts(text)
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			if same {
				p.ContainerPort = cmp.Or(p.ContainerPort, p.HostPort)
			}
			all = append(all, p)
		}
		if len(all) > fields.MaxPorts {
			return nil, misused("more than %d ports", fields.MaxPorts)
		}
	}
	return all, nil
}

// rows describes attachments as a list does.
func rows(found []*model.Attachment, containers map[string]string) (all []*report.Attachment) {
	for _, a := range found {
		row := &report.Attachment{Key: a.Key, Name: containers[a.Key.ContainerID], Addresses: a.IPs(), Ports: a.Ports, HostEnd: a.HostEnd, State: report.Attached}
		if a.MAC == (model.HardwareAddr{}) {
			row.State = report.NoRecord
		}
		all = append(all, row)
	}
	return all
}

// publish publishes ports. Without any, it lists the published ones.
func publish(c *Call, q query) ([]string, error) {
	further, err := parseAll(q.args[min(1, len(q.args)):], true)
	if err != nil {
		return nil, err
	}
	found, err := c.portsOf(q.arg(0), q.value("--network"))
	if err != nil {
		return nil, err
	}
	if len(further) == 0 {
		lost := unrecorded(found)
		lines, err := c.published(found, q.has("--json"))
		return lines, errors.Join(err, lost)
	}
	if q.has("--json") {
		return nil, misused("--json is for listing, without a PORT")
	}
	a := slices.MinFunc(found, func(a, b *model.Attachment) int { // as a runtime's ports: where the default route is
		lost := func(a *model.Attachment) int { return map[bool]int{true: 1}[a.MAC == model.HardwareAddr{}] }
		return cmp.Or(cmp.Compare(lost(a), lost(b)), cmp.Compare(a.Rank, b.Rank))
	})
	if err := c.Publisher.Publish(a.Key, further); err != nil {
		return nil, err
	}
	if a.Ports, err = model.Publications(further, a.Addresses); err != nil {
		return nil, err
	}
	return c.said("published", []*model.Attachment{a}, nil), nil
}

// said returns a line for each selected port, or range of ports.
func (c *Call) said(verb string, found []*model.Attachment, s selection) (lines []string) {
	containers := c.Names()
	for _, a := range found {
		a.Ports = slices.DeleteFunc(a.Ports, func(pub model.Publication) bool { return !s.has(pub) })
		for _, p := range report.PortTexts(a.Ports) {
			id := short(a.Key.ContainerID)
			lines = append(lines, fmt.Sprintf("%s %s of %s in network %s", verb, p, cmp.Or(containers[a.Key.ContainerID], id), a.Key.Network))
		}
	}
	return lines
}

// A selection has the mappings that a command line names, by protocol and port of the host.
// Nil selects everything.
type selection map[hostPort][]model.PortMapping

type hostPort struct {
	protocol uint8
	port     uint16
}

func selectionOf(named []model.PortMapping) selection {
	s := selection{}
	for _, p := range named {
		at := hostPort{p.Protocol, p.HostPort}
		s[at] = append(s[at], p)
	}
	return s
}

func (s selection) has(pub model.Publication) bool {
	return s == nil || slices.ContainsFunc(s[hostPort{pub.Protocol, pub.Host.Port()}], func(p model.PortMapping) bool { return selects(p, pub) })
}

// selects reports whether a mapping matches a publication. What the mapping leaves open matches
// anything.
func selects(p model.PortMapping, pub model.Publication) bool {
	return pub.Host.IsValid() && (!p.HostIP.IsValid() || p.HostIP == pub.Host.Addr()) &&
		(p.ContainerPort == 0 || p.ContainerPort == pub.Target.Port())
}

// published returns a table of ports.
func (c *Call) published(found []*model.Attachment, json bool) ([]string, error) {
	containers := c.Names()
	found = slices.DeleteFunc(found, func(a *model.Attachment) bool { return len(report.PortTexts(a.Ports)) == 0 })
	if json {
		return []string{report.ListJSON(rows(found, containers))}, nil
	}
	rows := [][]string{{"NETWORK", "CONTAINER", "NAME", "PORT"}}
	for _, a := range found {
		for _, p := range report.PortTexts(a.Ports) {
			rows = append(rows, []string{a.Key.Network, short(a.Key.ContainerID), cmp.Or(containers[a.Key.ContainerID], "-"), p})
		}
	}
	return table(rows), nil
}

// unpublish takes ports away.
func unpublish(c *Call, q query) ([]string, error) {
	named, err := parseAll(q.args[1:], false)
	if err == nil && (len(named) > 0) == q.has("--all") {
		err = misused("name the ports, or all of them by --all")
	}
	if err != nil {
		return nil, err
	}
	found, err := c.portsOf(q.arg(0), q.value("--network"))
	if err != nil {
		return nil, err
	}
	var chosen selection
	if !q.has("--all") {
		chosen = selectionOf(named)
	}
	if err := cmp.Or(unrecorded(found), checkPublished(named, found, q.arg(0))); err != nil {
		return nil, err
	}
	var keys []model.Key
	var has []string
	for _, a := range found {
		keys, has = append(keys, a.Key), append(has, report.PortTexts(a.Ports)...)
	}
	if len(has) == 0 {
		return []string{"nothing to unpublish: " + q.arg(0) + " publishes no port"}, nil
	}
	if err := c.Publisher.Unpublish(keys, chosen.has); err != nil {
		return nil, err
	}
	return c.said("unpublished", found, chosen), nil
}

// unrecorded returns an error that names the attachments without a record that can be read: which
// ports they publish is not known.
func unrecorded(found []*model.Attachment) error {
	var errs []error
	for _, a := range found {
		if a.MAC == (model.HardwareAddr{}) {
			errs = append(errs, fmt.Errorf("no record of %s: which ports it publishes is not known; restart the container, which records it", a.Key))
		}
	}
	return errors.Join(errs...)
}

// checkPublished returns an error about a named port that the container does not publish.
func checkPublished(named []model.PortMapping, found []*model.Attachment, container string) error {
	all := map[hostPort][]model.Publication{}
	var has []string
	for _, a := range found {
		has = append(has, report.PortTexts(a.Ports)...)
		for _, pub := range a.Ports {
			at := hostPort{pub.Protocol, pub.Host.Port()}
			all[at] = append(all[at], pub)
		}
	}
	for _, p := range named {
		is := func(pub model.Publication) bool { return selects(p, pub) }
		if !slices.ContainsFunc(all[hostPort{p.Protocol, p.HostPort}], is) {
			return fmt.Errorf("%s does not publish %s; it publishes %s", container, written(p), some(has))
		}
	}
	return nil
}

// written formats a mapping for people.
func written(p model.PortMapping) string {
	text := fmt.Sprintf("%d/%s", p.HostPort, model.ProtocolName(p.Protocol))
	if p.ContainerPort != 0 {
		text = fmt.Sprintf("%d->%d/%s", p.HostPort, p.ContainerPort, model.ProtocolName(p.Protocol))
	}
	if p.HostIP.IsValid() {
		text = strings.TrimSuffix(netip.AddrPortFrom(p.HostIP, 0).String(), "0") + text
	}
	return text
}
