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
	"slices"

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
	return slices.Contains([]string{"create", "setup", "teardown", "info"}, word)
}

// Main serves one call and returns the process's exit status. It writes to
// stdout at most once. An attachment that can't be reported is removed again;
// for this the process must outlive a closed stdout (SIGPIPE).
func (p Plugin) Main(call Call) int {
	p.stderr = call.Stderr
	reply, attached, err := p.serve(call)
	if err != nil {
		reply = encode("error", err.Error())
	}
	if len(reply) > 0 {
		if _, werr := call.Stdout.Write(reply); werr != nil {
			fmt.Fprintf(call.Stderr, "flatnet: can't write the reply %s: %v\n", reply, werr)
			if attached != nil {
				if derr := p.Engine.Del(attached); derr != nil {
					fmt.Fprintf(call.Stderr, "flatnet: can't remove the attachment: %v\n", derr)
				}
			}
			return 1
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

// serve returns the reply, and the attachment if one was made.
func (p Plugin) serve(call Call) (reply []byte, attached *model.Config, err error) {
	args := append(slices.Clone(call.Args), "", "")
	command, netns := args[0], args[1]
	if !IsCommand(command) || len(call.Args) > 2 || (netns != "") != (command == "setup" || command == "teardown") {
		return nil, nil, fmt.Errorf("arguments %q: want create, setup <netns>, teardown <netns> or info", call.Args)
	}
	if command == "info" {
		return encode("version", p.Version, "api_version", apiVersion), nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(call.Stdin, strictjson.MaxSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading stdin: %w", err)
	}
	doc, err := strictjson.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("JSON on stdin: %w", err)
	}
	switch command {
	case "create":
		reply, err = p.create(doc)
	case "setup":
		reply, attached, err = p.setup(doc, netns)
	case "teardown":
		var c model.Config
		if c, err = readAttachment(doc); err == nil {
			err = p.Engine.Del(&c)
		}
	}
	for _, note := range doc.Notes() {
		fmt.Fprintln(p.stderr, "flatnet: "+command+":", note)
	}
	return reply, attached, err
}

func (p Plugin) setup(doc *strictjson.Object, netns string) ([]byte, *model.Config, error) {
	c, err := p.readSetup(doc, netns)
	if err != nil {
		return nil, nil, err
	}
	result, err := p.Engine.Add(&c)
	if err != nil {
		return nil, nil, err
	}
	return encodeStatus(c.Request.Key.IfName, &result), &c, nil
}

// encode returns an object of strings; keys and values alternate.
func encode(texts ...string) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	for i := 0; i < len(texts); i += 2 {
		w.String(texts[i], texts[i+1])
	}
	w.End('}')
	return w.Bytes
}
