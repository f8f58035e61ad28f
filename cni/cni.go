// Package cni is flatnet's door for container runtimes that speak the
// Container Network Interface: environment and configuration in, result or
// error out, in the shapes of all released versions of the CNI SPEC. It
// validates everything before it calls the [Engine], and makes no system call
// of its own.
//
// Errors carry these codes (SPEC 1.1.0, section 5, "Error"):
//
//	  1  cniVersion is not supported, or too old for the command
//	  3  the container does not exist              model.ErrNoContainer
//	  4  a variable of the environment is invalid  model.ErrNetNS for CNI_NETNS
//	  5  reading, writing or the file system failed
//	  6  the configuration is not JSON that can be read in one way
//	  7  the configuration is invalid              model.ErrInvalid
//	 11  try again later                           model.ErrBusy
//	 50  no attachment can be made                 model.ErrUnavailable
//	 51  attachments may be cut off, too           model.ErrLimited
//	100  the network has no free address           model.ErrExhausted
//	101  an address or name has another owner      model.ErrTaken
//	102  the host is not as flatnet needs it       model.ErrConflict
//	103  the kernel lacks a feature                model.ErrUnsupported
//	104  the attachment is not as ADD made it      model.ErrChanged
//	110  any other failure, as a rule the kernel's
package cni

import (
	"fmt"
	"io"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// A Call is one invocation as the runtime made it.
type Call struct {
	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// An Engine does what a valid call asks for (SPEC 1.1.0, section 2). The error
// kinds of package model decide the codes of its errors.
//
// On DEL a value that is wrong reads as if it were absent, Request has neither
// MAC nor IPs, its NetNS may be anything, and IPAM has no Sets.
type Engine interface {
	// Add makes an attachment, or leaves nothing behind.
	Add(c *model.Config) (model.Result, error)
	// Check compares an attachment with the result that its ADD, and the
	// plugins after it, reported.
	Check(c *model.Config, prev model.Result) error
	// Del removes an attachment; one that does not exist is no error.
	Del(c *model.Config) error
	// GC removes all attachments of the network but the valid ones.
	GC(c *model.Config, valid []model.Key) error
	// Status reports whether an Add could succeed.
	Status(c *model.Config) error
}

// Main serves one call and returns the process's exit status. It writes to
// stdout at most once. An attachment that can't be reported is removed again;
// for this the process must outlive a closed stdout (SIGPIPE).
func Main(call Call, engine Engine) int {
	req, err := read(call)
	for _, warning := range req.warnings {
		fmt.Fprintln(call.Stderr, "flatnet: configuration:", warning)
	}
	var reply []byte
	if err == nil {
		reply, err = req.serve(engine)
	}
	if err != nil {
		reply = encodeError(req.version, err)
	}
	if len(reply) > 0 {
		if _, werr := call.Stdout.Write(reply); werr != nil {
			fmt.Fprintf(call.Stderr, "flatnet: can't write the reply %s: %v\n", reply, werr)
			if err == nil && req.command == "ADD" {
				if derr := engine.Del(&req.config); derr != nil {
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

// A request is a call that has been read and found valid.
type request struct {
	command  string
	version  string // of the reply
	config   model.Config
	prev     model.Result // for CHECK
	valid    []model.Key  // for GC
	warnings []string     // for ADD: likely mistakes in the configuration
}

// read validates a call. If it fails, the request has at least the version of
// the reply.
func read(call Call) (request, error) {
	req := request{version: newest}
	env, err := environment(call.Getenv)
	if err != nil {
		return req, failure{codeEnvironment, err}
	}
	req.command = env.command
	data, err := io.ReadAll(io.LimitReader(call.Stdin, strictjson.MaxSize+1))
	if err != nil {
		return req, failure{codeIO, fmt.Errorf("reading the configuration from stdin: %w", err)}
	}
	doc, err := strictjson.Parse(data)
	if req.command == "VERSION" {
		if err == nil {
			req.version = requestedVersion(doc)
		}
		return req, nil // whatever else is in it
	}
	if err != nil {
		return req, failure{codeDecode, fmt.Errorf("configuration on stdin: %w", err)}
	}
	if req.version, err = configVersion(doc, req.command); err != nil {
		return req, err
	}
	return req, req.configure(doc, env, data)
}

func (r *request) serve(engine Engine) ([]byte, error) {
	switch r.command {
	case "ADD":
		result, err := engine.Add(&r.config)
		if err != nil {
			return nil, err
		}
		return encodeResult(r.version, &result), nil
	case "CHECK":
		return nil, engine.Check(&r.config, r.prev)
	case "DEL":
		return nil, engine.Del(&r.config)
	case "GC":
		return nil, engine.GC(&r.config, r.valid)
	case "STATUS":
		return nil, engine.Status(&r.config)
	}
	return encodeVersions(r.version), nil // VERSION
}
