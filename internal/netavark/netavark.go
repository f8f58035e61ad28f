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
// Create declares to Podman that flatnet manages the addresses itself. So this door
// and the CNI door share the leases of networks of the same name.
package netavark

import (
	"fmt"
	"io"

	"flatnet/bridge/model"
	"flatnet/internal/engine"
	"flatnet/internal/strictjson"
)

// NetworkDir is where Podman keeps the networks of the host by default
// (network_config_dir of containers.conf(5)).
const NetworkDir = "/etc/containers/networks"

// apiVersion is API_VERSION of netavark's plugin.rs.
const apiVersion = "1.0.0"

// A Plugin answers calls.
type Plugin struct {
	Engine   engine.Engine
	Version  string
	Networks string // directory of Podman's definitions of networks, see [NetworkDir]

	stderr io.Writer // of the call
}

// A Call is one invocation as Podman or netavark made it.
type Call struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// IsCommand reports whether a program's first argument is a command of this door.
func IsCommand(word string) bool {
	_, known := arguments(word)
	return known
}

// arguments returns how many arguments a command has.
func arguments(command string) (count int, known bool) {
	switch command {
	case "create", "info":
		return 0, true
	case "setup", "teardown":
		return 1, true // the path of a network namespace
	}
	return 0, false
}

// Main serves one call and returns the process's exit status. It writes to
// stdout at most once. An attachment that can't be reported is removed again;
// for this the process must outlive a closed stdout (SIGPIPE).
func (p Plugin) Main(call Call) int {
	p.stderr = call.Stderr
	reply, undo, err := p.serve(call)
	status := 0
	if err != nil {
		var w strictjson.Writer
		w.Begin("", '{')
		w.String("error", err.Error())
		w.End('}')
		reply, status = w.Bytes, 1
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

// serve returns the reply, and a function that undoes the work if the reply can't be
// delivered.
func (p Plugin) serve(call Call) (reply []byte, undo func() error, err error) {
	undo = func() error { return nil }
	command, args := "", call.Args
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if count, known := arguments(command); !known || len(args) != count || count > 0 && args[0] == "" {
		return nil, undo, fmt.Errorf("arguments %q: want create, setup <netns>, teardown <netns> or info", call.Args)
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
	var c model.Config
	switch command {
	case "create":
		reply, err = p.create(doc)
	case "setup":
		if c, err = p.readSetup(doc, args[0]); err == nil {
			undo = func() error { return p.Engine.Del(&c) }
			reply, err = p.setup(&c)
		}
	case "teardown":
		if c, err = readAttachment(doc); err == nil {
			err = p.Engine.Del(&c)
		}
	}
	for _, note := range doc.Notes() {
		fmt.Fprintln(p.stderr, "flatnet: "+command+":", note)
	}
	return reply, undo, err
}

func (p Plugin) setup(c *model.Config) ([]byte, error) {
	result, err := p.Engine.Add(c)
	if err != nil {
		return nil, err
	}
	return encodeStatus(c.Request.Key.IfName, &result), nil
}
