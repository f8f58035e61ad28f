package ipam

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
	"flatnet/internal/subprocess"
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
// process received; the zero key stands for the network as a whole. An error that
// the plugin reports is a [model.PluginError].
func (p Plugin) run(command string, key model.Key) ([]byte, error) {
	path, err := p.find()
	if err != nil {
		return nil, err
	}
	env := []string{"CNI_COMMAND=" + command}
	if key != (model.Key{}) { // GC sends DEL for others than the runtime named
		env = append(env, "CNI_CONTAINERID="+key.ContainerID, "CNI_IFNAME="+key.IfName)
	}
	out, err := subprocess.Command{
		Args: []string{path}, Env: env, Input: p.Conf,
		Output: 1, Limit: maxReply, Timeout: pluginWait,
	}.Run()
	switch {
	case len(out) > maxReply:
		return nil, fmt.Errorf("ipam.type %q: %s wrote more than %d bytes to stdout", p.Type, command, maxReply)
	case err == nil:
		return out, nil
	case errors.Is(err, subprocess.ErrTimeout):
		return nil, p.errorf(model.ErrBusy, "%s took longer than %v", command, pluginWait)
	}
	return nil, p.failure(command, out, err)
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
	return "", p.errorf(model.ErrInvalid, "no such plugin in CNI_PATH %q", p.Path)
}

// failure returns the error that a plugin reported (SPEC 1.1.0, section 5,
// "Error"), or one about a plugin that reported none.
func (p Plugin) failure(command string, out []byte, err error) error {
	e := model.PluginError{Plugin: p.Type, Command: command}
	if o, perr := strictjson.Parse(out); perr == nil {
		e.Code, _ = o.Uint("code", math.MaxUint64)
		e.Msg, _ = o.String("msg")
		if details, _ := o.String("details"); details != "" {
			e.Msg += ": " + details
		}
	}
	if e.Code == 0 {
		return p.errorf(err, "%s failed without a CNI error (%.100q): %w", command, out, err)
	}
	return e
}

// errorf returns an error about the plugin that is also of a kind.
func (p Plugin) errorf(kind error, format string, args ...any) error {
	return model.Errorf(kind, "ipam.type %q: %w", p.Type, fmt.Errorf(format, args...))
}
