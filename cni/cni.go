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
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/fields"
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
func read(call Call) (*request, error) {
	req := &request{version: newest, command: call.Getenv("CNI_COMMAND")}
	var e env
	if req.command != "VERSION" { // which needs no other variable
		var err error
		if e, err = environment(call.Getenv); err != nil {
			return req, model.WithCode(codeEnvironment, err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(call.Stdin, strictjson.MaxSize+1))
	if err != nil {
		return req, model.WithCode(codeIO, fmt.Errorf("reading the configuration from stdin: %w", err))
	}
	doc, err := strictjson.Parse(data)
	if req.command == "VERSION" {
		if err == nil {
			req.version = requestedVersion(doc)
		}
		return req, nil // whatever else is in it
	}
	if err != nil {
		return req, model.WithCode(codeDecode, fmt.Errorf("configuration on stdin: %w", err))
	}
	if req.version, err = configVersion(doc, req.command); err != nil {
		return req, err
	}
	return req, req.configure(doc, e, data)
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

// An env is the part of the environment that a command uses; the rest may hold
// anything. Podman, for one, asks for VERSION with dummies in it.
type env struct {
	command, containerID, netns, ifName, args, path string
}

// environment reads and validates the variables of SPEC section 2,
// "Parameters".
func environment(getenv func(string) string) (e env, err error) {
	const attachment, others = "ADD DEL CHECK", "GC STATUS VERSION"
	e.command = getenv("CNI_COMMAND")
	if !slices.Contains(strings.Fields(attachment+" "+others), e.command) {
		return e, fmt.Errorf("CNI_COMMAND: %.20q is none of %s %s", e.command, attachment, others)
	}
	var missing []string
	for _, v := range [...]struct {
		name     string
		value    *string
		required string
		optional string
		valid    func(string) error
	}{
		{"CNI_CONTAINERID", &e.containerID, attachment, "", model.ValidContainerID},
		{"CNI_IFNAME", &e.ifName, attachment, "", e.validIfName},
		{"CNI_NETNS", &e.netns, "ADD CHECK", "DEL", anything},
		{"CNI_ARGS", &e.args, "", attachment, anything},
		{"CNI_PATH", &e.path, "", attachment + " " + others, anything},
	} {
		required := strings.Contains(v.required, e.command)
		if !required && !strings.Contains(v.optional, e.command) {
			continue
		}
		*v.value = getenv(v.name)
		if *v.value == "" {
			if required {
				missing = append(missing, v.name)
			}
			continue
		}
		if err := v.valid(*v.value); err != nil {
			return e, fmt.Errorf("%s: %w", v.name, err)
		}
	}
	if missing != nil {
		return e, fmt.Errorf("%s must be set for %s", strings.Join(missing, ", "), e.command)
	}
	return e, nil
}

func anything(string) error { return nil }

func (e env) validIfName(s string) error {
	if e.command == "ADD" {
		_, err := fields.ParseIfName(s)
		return err
	}
	return model.ValidIfName(s)
}

// newest is the version of replies to calls whose own is not known.
const newest = "1.1.0"

// Versions are all released versions of the SPEC, oldest first. As all their
// numbers have one digit, they compare as strings.
func Versions() []string {
	return []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", newest}
}

func parseVersion(s string) (string, error) {
	if all := Versions(); !slices.Contains(all, s) {
		return "", fmt.Errorf("%.40q is not supported, only %s are", s, strings.Join(all, ", "))
	}
	return s, nil
}

// configVersion returns the version in which a configuration is written: 0.1.0
// if it has none, as in the reference library. DEL reads an unknown version as the
// newest: all versions agree on what it needs.
func configVersion(doc *strictjson.Object, command string) (string, error) {
	s, _ := doc.String("cniVersion")
	if err := doc.Err(); err != nil {
		return newest, model.WithCode(codeDecode, err)
	}
	version, err := parseVersion(cmp.Or(s, "0.1.0"))
	since := map[string]string{"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}[command]
	switch {
	case err != nil && command == "DEL":
		return newest, nil
	case err != nil:
		return newest, model.WithCode(codeVersion, fmt.Errorf("cniVersion: %w", err))
	case version < since:
		err = fmt.Errorf("cniVersion: %q has no %s, which came with %q", version, command, since)
		return version, model.WithCode(codeVersion, err)
	}
	return version, nil
}

// requestedVersion returns the version that a VERSION call names, if it looks like
// one.
func requestedVersion(doc *strictjson.Object) string {
	version, _ := doc.String("cniVersion")
	parts := strings.Split(version, ".")
	if strings.Trim(version, ".0123456789") != "" || len(parts) != 3 || slices.Contains(parts, "") {
		return newest
	}
	return version
}

// encodeVersions writes the reply to VERSION (SPEC section 5, "Version").
func encodeVersions(version string) []byte {
	w := strictjson.Writer{Bytes: make([]byte, 0, 256)}
	w.Begin("", '{')
	w.String("cniVersion", version)
	w.Strings("supportedVersions", Versions())
	w.End('}')
	return append(w.Bytes, '\n')
}

// The codes of errors that this package detects; see the package's documentation.
const (
	codeVersion     = 1
	codeEnvironment = 4
	codeIO          = 5
	codeDecode      = 6
	codeConfig      = 7
	codeOther       = 110
)

// errorCode is the one place where errors become codes. Of the kinds in a
// joined error the first in the table decides.
func errorCode(err error) uint64 {
	var known model.Coded
	if errors.As(err, &known) {
		return known.Code
	}
	for _, k := range [...]struct {
		kind error
		code uint64
	}{
		{model.ErrLimited, 51},
		{model.ErrUnavailable, 50},
		{model.ErrInvalid, codeConfig},
		{model.ErrNoContainer, 3},
		{model.ErrNetNS, codeEnvironment},
		{model.ErrBusy, 11},
		{model.ErrExhausted, 100},
		{model.ErrTaken, 101},
		{model.ErrConflict, 102},
		{model.ErrUnsupported, 103},
		{model.ErrChanged, 104},
		{syscall.EIO, codeIO},
		{syscall.ENOSPC, codeIO},
		{syscall.EDQUOT, codeIO},
		{syscall.EROFS, codeIO},
	} {
		if errors.Is(err, k.kind) {
			return k.code
		}
	}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return codeIO
	}
	return codeOther
}

// encodeError writes the error object of SPEC section 5, "Error". Its details
// are left out: the message is complete.
func encodeError(version string, err error) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("cniVersion", version)
	w.Uint("code", errorCode(err))
	// Joined errors come one a line.
	msg := strings.ReplaceAll(advice.Of(err), "\n", "; ")
	if errors.Is(err, model.ErrNoContainer) || errors.Is(err, model.ErrNetNS) {
		msg = "CNI_NETNS: " + msg
	}
	w.String("msg", msg)
	w.End('}')
	return append(w.Bytes, '\n')
}
