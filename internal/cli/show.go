package cli

import (
	"fmt"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/report"
)

// show draws networks.
func show(c *Call, q query) ([]string, error) {
	all, err := c.look(q)
	if err != nil {
		return nil, err
	}
	if q.has("--dot") && q.has("--mermaid") {
		return nil, misused("--dot and --mermaid are two formats: choose one")
	}
	containers := c.Names()
	switch {
	case q.has("--dot"):
		return graph(all, containers, "graph flatnet {", "  %q [label=%q];", "  %q -- %q [label=%q];", "}"), nil
	case q.has("--mermaid"):
		return graph(all, containers, "graph LR", "  %s[%q]", "  %s --- %s", ""), nil
	}
	var lines []string
	for _, s := range all {
		lines = append(lines, strings.Join(headline(s), "  "))
		for i, a := range s.Attachments {
			branch, below := "├─ ", "│  "
			if i == len(s.Attachments)-1 {
				branch, below = "└─ ", "   "
			}
			lines = append(lines, branch+printable(a.HostEnd)+" ── "+strings.Join(leaf(a, containers), "  "))
			for _, p := range report.PortTexts(a.Ports) {
				lines = append(lines, below+"   "+p)
			}
		}
	}
	if len(lines) == 0 {
		lines = []string{"no container is attached"}
	}
	return lines, nil
}

// headline names a network, its bridge and the bridge's addresses.
func headline(s *model.Survey) []string {
	words := []string{s.Name, s.Bridge}
	for _, p := range s.GatewayPrefixes() {
		words = append(words, p.String())
	}
	if s.Internal {
		words = append(words, "internal")
	}
	return words
}

// leaf describes an attachment's end in the container.
func leaf(a *model.Attachment, containers map[string]string) []string {
	words := []string{a.Key.IfName, model.JoinAddrs(a.IPs())}
	id := short(a.Key.ContainerID)
	if name := containers[a.Key.ContainerID]; name != "" {
		return append(words, name+" ("+id+")")
	}
	return append(words, id)
}

// graph writes networks as nodes and edges in the given formats; an edge's label is left
// out if its format has no place for it.
func graph(all []*model.Survey, containers map[string]string, begin, node, edge, end string) []string {
	lines := []string{begin}
	n := 0
	add := func(label string) string {
		n++
		id := fmt.Sprintf("n%d", n)
		lines = append(lines, fmt.Sprintf(node, id, label))
		return id
	}
	for _, s := range all {
		network := add(strings.Join(headline(s), " "))
		for _, a := range s.Attachments {
			text := strings.Join(append(leaf(a, containers), report.PortTexts(a.Ports)...), " ")
			args := []any{network, add(text), printable(a.HostEnd)}
			lines = append(lines, fmt.Sprintf(edge, args[:strings.Count(edge, "%")]...))
		}
	}
	if end != "" {
		lines = append(lines, end)
	}
	return lines
}
