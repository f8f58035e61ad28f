// Package plan shows what an ADD would make, and makes nothing. It calls the doors themselves
// with a configuration, as a runtime would, and replaces the host below the engine by one that
// only queries: so the parsers, the leases, the checks and their errors are those of an ADD.
// What the caller is not permitted to see is listed as unknown.
package plan

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"flatnet/bridge"
	"flatnet/bridge/model"
	"flatnet/cni"
	"flatnet/internal/advice"
	"flatnet/internal/cli"
	"flatnet/internal/dns"
	"flatnet/internal/engine"
	"flatnet/internal/netavark"
	"flatnet/internal/strictjson"
)

// A Planner finds configurations.
type Planner struct {
	CNI    string // directory of CNI's configurations
	Podman string // directory of the networks of Podman's netavark back end
}

// ConfDir is where runtimes of CNI keep configurations by default.
const ConfDir = "/etc/cni/net.d"

// A Plan is what an ADD would make.
type Plan struct {
	source
	container     string // empty: any
	Attachment    *model.Attachment
	BridgeExists  bool
	Hairpin       bool // of the port: as configured, or for published ports where br_netfilter is at work
	Gateways      []gateway
	MTUFrom       string
	DNS           []string
	Changes       []model.Fault // what the host lacks and an ADD makes or sets
	Status        string        // what STATUS reports; empty: nothing
	Warnings      []string      // that an ADD would print
	Unknown       []string      // what the caller may not ask, each with the reason
	StatusUnknown bool          // it is one of these

	failed error // of the ADD, with its kinds, which its reply has not
	status error // the same of STATUS
}

func (p *Plan) warn(text string) { p.Warnings = append(p.Warnings, text) }

// Run returns a plan as lines of text, or as JSON. Its error is the one that the ADD would
// return.
func (p Planner) Run(q cli.PlanQuery) ([]string, error) {
	if q.Container != "" {
		if err := validContainer(q.Container); err != nil {
			return nil, err
		}
	}
	s, err := p.source(q)
	if err != nil {
		return nil, errors.New(advice.Plain(err.Error()))
	}
	made := &Plan{source: s, container: q.Container}
	if err := p.make(made); err != nil {
		return nil, errors.New(advice.Plain(err.Error()))
	}
	if q.JSON {
		return []string{string(made.json())}, nil
	}
	return made.text(), nil
}

// make calls the door that the configuration is of.
func (p Planner) make(made *Plan) error {
	if made.source.netavark {
		return made.netavark(p.Podman)
	}
	return made.cni()
}

func (p Planner) source(q cli.PlanQuery) (source, error) {
	if q.File == "" {
		return p.find(q.Network)
	}
	s, err := read(q.File)
	if err == nil && q.Network != "" && s.network != q.Network {
		err = fmt.Errorf("%s has the network %q and not %q", s.path, s.network, q.Network)
	}
	return s, err
}

// engine returns the engine that a door calls for the plan.
func (p *Plan) engine() engine.Engine {
	return engine.Engine{Host: &dryHost{bridge.NewDryHost(p.warn), p}, Names: &dryNames{dns.Find(p.warn)}, Warn: p.warn, Dry: true}
}

const (
	ifName = "eth0"               // as runtimes call a container's first interface
	netns  = "/run/netns/planned" // is not opened
)

// pluginDirs are searched for a delegated IPAM plugin if CNI_PATH is not set.
const pluginDirs = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni:/usr/local/lib/cni"

// cni calls the door of CNI.
func (p *Plan) cni() error {
	env := map[string]string{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": cmp.Or(p.container, placeholder), "CNI_NETNS": netns, "CNI_IFNAME": ifName,
		"CNI_PATH": cmp.Or(os.Getenv("CNI_PATH"), pluginDirs)}
	var stdout, stderr strings.Builder
	e := p.engine()
	e.Decode = cni.ReadResult
	status := cni.Main(cni.Call{Getenv: func(key string) string { return env[key] }, Stdin: strings.NewReader(p.conf()), Stdout: &stdout, Stderr: &stderr}, e)
	for line := range strings.Lines(stderr.String()) {
		p.warn(strings.TrimPrefix(strings.TrimSpace(line), "flatnet: "))
	}
	reply, err := strictjson.Parse([]byte(stdout.String()))
	if err != nil {
		return fmt.Errorf("the reply of ADD: %w", err)
	}
	if status != 0 {
		msg, _ := reply.String("msg")
		code, _ := reply.Uint("code", 1<<32-1)
		return fmt.Errorf("%s (an ADD would fail with this error, code %d)", msg, code)
	}
	p.DNS = reply.Object("dns").Strings("nameservers")
	return nil
}

// netavark calls the door of netavark: setup and, for an incomplete definition, create before
// it.
func (p *Plan) netavark(networks string) error {
	e := p.engine()
	e.Managed = true
	door := &netavark.Plugin{Engine: e, Networks: networks}
	network := p.source.text()
	if !p.whole() {
		reply, err := answer(door, network, "create")
		if err != nil {
			return err
		}
		network = reply
	}
	reply, err := answer(door, exec(network, cmp.Or(p.container, placeholder), ifName), "setup", netns)
	if err != nil {
		return err
	}
	doc, err := strictjson.Parse([]byte(reply))
	if err == nil {
		p.DNS = doc.Strings("dns_server_ips")
	}
	return err
}

func answer(door *netavark.Plugin, stdin string, args ...string) (string, error) {
	var stdout strings.Builder
	if status := door.Main(args, strings.NewReader(stdin), &stdout); status != 0 {
		msg := stdout.String()
		if doc, err := strictjson.Parse([]byte(stdout.String())); err == nil {
			msg, _ = doc.String("error")
		}
		return "", fmt.Errorf("%s (%s would fail with this error)", msg, args[0])
	}
	return stdout.String(), nil
}
