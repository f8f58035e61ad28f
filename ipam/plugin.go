package ipam

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"flatnet/bridge/model"
)

const (
	// pluginWait bounds a call of a plugin: a DHCP server may take its time.
	pluginWait = 45 * time.Second
	// maxReply bounds what a plugin may write to stdout, in bytes.
	maxReply = 1 << 20
)

// A Plugin is another plugin that manages addresses (SPEC 1.1.0, section 4).
type Plugin struct {
	Type   string                             // ipam.type: the name of its file
	Path   string                             // CNI_PATH
	Conf   []byte                             // the whole configuration, as it came
	Decode func([]byte) (model.Result, error) // reads a result of any version
}

// run executes the plugin with the environment and the configuration that this
// process received; the zero key stands for the network as a whole. What the
// plugin reports is a [model.PluginError].
func (p Plugin) run(command string, key model.Key) ([]byte, error) {
	path, err := p.find()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.WaitDelay = time.Second // if a child of its own keeps stdout open
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command)
	if key != (model.Key{}) { // GC sends DEL for others than the runtime named
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+key.ContainerID, "CNI_IFNAME="+key.IfName)
	}
	var out reply
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(p.Conf), &out, os.Stderr
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else the plugin inherits that it is ignored
	err = cmd.Run()
	switch {
	case out.full:
		return nil, fmt.Errorf("ipam.type %q: %s wrote more than %d bytes to stdout", p.Type, command, maxReply)
	case err == nil:
		return out.data, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("ipam.type %q: %s took longer than %v: %w", p.Type, command, pluginWait, model.ErrBusy)
	}
	return nil, p.failure(command, out.data, err)
}

// Find reports an error unless CNI_PATH leads to the plugin.
func (p Plugin) Find() error {
	_, err := p.find()
	return err
}

func (p Plugin) find() (string, error) {
	for _, dir := range filepath.SplitList(p.Path) {
		path := filepath.Join(dir, p.Type)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("ipam.type %q: no such plugin in CNI_PATH %q: %w", p.Type, p.Path, model.ErrInvalid)
}

// failure is what a plugin that failed says about it (SPEC 1.1.0, section 5,
// "Error"), or that it says nothing.
func (p Plugin) failure(command string, out []byte, err error) error {
	var said struct {
		Code    uint64 `json:"code"`
		Msg     string `json:"msg"`
		Details string `json:"details"`
	}
	if json.Unmarshal(out, &said) != nil || said.Code == 0 {
		return fmt.Errorf("ipam.type %q: %s failed without a CNI error (%.100q): %w", p.Type, command, out, err)
	}
	if said.Details != "" {
		said.Msg += ": " + said.Details
	}
	return model.PluginError{Plugin: p.Type, Command: command, Code: said.Code, Msg: said.Msg}
}

// A reply takes no more than maxReply bytes.
type reply struct {
	data []byte
	full bool
}

func (r *reply) Write(b []byte) (int, error) {
	if r.full = r.full || len(r.data)+len(b) > maxReply; r.full {
		return 0, io.ErrShortWrite
	}
	r.data = append(r.data, b...)
	return len(b), nil
}
