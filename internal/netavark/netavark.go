// Package netavark is flatnet's door for Podman 5 and newer, whose network
// tool netavark calls plugins by
//
//	create            a network's definition is completed and validated
//	setup <netns>     a container is attached
//	teardown <netns>  a container is detached
//	info              versions
//
// with JSON on stdin and stdout (plugin-API.md of containers/netavark, API
// version 1.0.0). A failure is {"error": "..."} and exit status 1.
//
// Create tells Podman that flatnet manages the addresses itself. So this door
// and the CNI door share the leases of networks of the same name.
package netavark

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/dns"
	"flatnet/internal/strictjson"
	"flatnet/ipam"
)

// NetworkDir is where Podman keeps the networks of the host by default
// (network_config_dir of containers.conf(5)).
const NetworkDir = "/etc/containers/networks"

// apiVersion is API_VERSION of netavark's plugin.rs.
const apiVersion = "1.0.0"

// A Host attaches and detaches; [bridge.Host] is one.
type Host interface {
	Add(model.Network, model.Request, model.Allocator) (model.Result, error)
	DeleteWithBridge(model.Key, model.Allocator) error
	Status(model.Network, model.Allocator) error
	Owners() ([]model.Owner, error)
}

// Names makes containers known to each other by name; [dns.Server] does.
type Names interface {
	// Installed says whether there is a server for Add to use.
	Installed() bool
	// Add returns when the record is served, and by which addresses; by none
	// where no server can be used. See [dns.Server.Add].
	Add(dns.Record) (servers []string, err error)
	// Remove removes an attachment's record; one that is not there is no error.
	Remove(model.Key) error
}

// A Plugin answers calls.
type Plugin struct {
	Host     Host
	Names    Names
	Version  string
	DataDir  string // of the leases, see [ipam.DefaultDir]
	Networks string // Podman's definitions of networks, see [NetworkDir]

	stderr io.Writer // of the call
}

// A Call is one invocation as Podman or netavark made it.
type Call struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// IsCommand says whether a program's first argument is a command of this door.
func IsCommand(word string) bool {
	return slices.Contains([]string{"create", "setup", "teardown", "info"}, word)
}

// Main serves one call and returns the process's exit status. It writes to
// stdout at most once. An attachment that can't be reported is removed again;
// for this the process must outlive a closed stdout (SIGPIPE).
func (p Plugin) Main(call Call) int {
	p.stderr = call.Stderr
	reply, undo, err := p.serve(call)
	status := 0
	if err != nil {
		reply, status = encodeError(err), 1
	}
	if len(reply) == 0 {
		return status
	}
	if _, err := call.Stdout.Write(reply); err != nil {
		fmt.Fprintf(call.Stderr, "flatnet: can't write the reply %s: %v\n", reply, err)
		if err := undo(); err != nil {
			fmt.Fprintf(call.Stderr, "flatnet: can't remove the attachment: %v\n", err)
		}
		return 1
	}
	return status
}

// serve returns the reply, and what undoes the work if nobody reads it.
func (p Plugin) serve(call Call) (reply []byte, undo func() error, err error) {
	undo = func() error { return nil }
	command, path, err := arguments(call.Args)
	if err != nil {
		return nil, undo, err
	}
	if command == "info" {
		var w strictjson.Writer
		w.Begin("", '{')
		w.String("version", p.Version)
		w.String("api_version", apiVersion)
		w.End('}')
		return w.Bytes, undo, nil
	}
	data, err := io.ReadAll(io.LimitReader(call.Stdin, strictjson.MaxSize+1))
	if err != nil {
		return nil, undo, fmt.Errorf("reading stdin: %w", err)
	}
	doc, err := strictjson.Parse(data)
	if err != nil {
		return nil, undo, fmt.Errorf("JSON on stdin: %w", err)
	}
	switch command {
	case "create":
		reply, err = p.create(doc)
	case "setup":
		var a attachment
		if a, err = readSetup(doc, path); err == nil {
			undo = func() error { return p.teardown(a.request.Key) }
			reply, err = p.setup(a)
		}
	case "teardown":
		var key model.Key
		if key, err = readKey(doc); err == nil {
			err = p.teardown(key)
		}
	}
	for _, note := range doc.Notes() {
		fmt.Fprintln(p.stderr, "flatnet: "+command+":", note)
	}
	return reply, undo, err
}

func arguments(args []string) (command, path string, err error) {
	if len(args) == 0 || !IsCommand(args[0]) {
		return "", "", fmt.Errorf("arguments %q: want create, setup <netns>, teardown <netns> or info", args)
	}
	command, args = args[0], args[1:]
	switch needs := command == "setup" || command == "teardown"; {
	case needs && (len(args) != 1 || args[0] == ""):
		return "", "", fmt.Errorf("%s takes one argument, the path of a network namespace, got %q", command, args)
	case !needs && len(args) > 0:
		return "", "", fmt.Errorf("%s takes no argument, got %q", command, args)
	case needs:
		path = args[0]
	}
	return command, path, nil
}

func encodeError(err error) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("error", err.Error())
	w.End('}')
	return w.Bytes
}

// encode writes what the strict writer has no words for.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

func (p Plugin) allocator(network string, sets ipam.Sets) model.Allocator {
	warn := func(s string) { fmt.Fprintln(p.stderr, "flatnet:", s) }
	return ipam.New(ipam.Config{Network: network, Dir: p.DataDir, Sets: sets, Warn: warn}, p.Host.Owners)
}

func (p Plugin) setup(a attachment) ([]byte, error) {
	alloc := p.allocator(a.network.Name, a.sets)
	a.network.ServesDNS = a.dns && p.Names.Installed()
	result, err := p.Host.Add(a.network, a.request, alloc)
	if err != nil {
		return nil, err
	}
	var servers []string
	if a.dns {
		if servers, err = p.Names.Add(a.record(result)); err != nil {
			err = fmt.Errorf("container names of network %s: %w", a.network.Name, err)
			return nil, errors.Join(err, p.teardown(a.request.Key))
		}
	}
	return encodeStatus(a.request.Key.IfName, result, servers), nil
}

// teardown takes nothing from the namespace, the network's definition or the
// kernel for granted: all may be gone.
func (p Plugin) teardown(key model.Key) error {
	return errors.Join(p.Names.Remove(key), p.Host.DeleteWithBridge(key, p.allocator(key.Network, ipam.Sets{})))
}
