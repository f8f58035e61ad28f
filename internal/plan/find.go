package plan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/input"
	"flatnet/internal/strictjson"
)

// plugin is flatnet's type in configurations.
const plugin = "flatnet"

// A source is a network's configuration, and where it was found.
type source struct {
	path     string
	network  string
	netavark bool
	doc      *strictjson.Object // the whole document
	own      *strictjson.Object // flatnet's part of it
	others   []string           // the list's other plugins
	late     bool               // flatnet is not the first of them
}

// read reads a file in any of the formats: a list of CNI plugins, a single one, or a network of
// Podman's netavark back end.
func read(path string) (s source, err error) {
	s.path = path
	var data []byte
	if path == "-" {
		s.path = "stdin"
		data, err = io.ReadAll(io.LimitReader(os.Stdin, strictjson.MaxSize+1))
	} else {
		data, err = input.Read(path, strictjson.MaxSize)
	}
	if errors.Is(err, input.ErrKind) {
		err = fmt.Errorf("%w (-f - reads stdin)", err)
	}
	if err != nil {
		return s, err
	}
	doc, err := strictjson.Parse(data)
	if err != nil {
		return s, fmt.Errorf("%s: %w", s.path, err)
	}
	s.doc = doc
	return s, s.classify()
}

// classify determines a document's format, and finds flatnet's part in it.
func (s *source) classify() error {
	s.network, _ = s.doc.String("name")
	typ, _ := s.doc.String("type")
	driver, isNetwork := s.doc.String("driver")
	s.netavark = isNetwork || s.doc.Has("network_interface") || s.doc.Has("subnets")
	switch {
	case s.doc.Has("plugins"):
		s.netavark = false
		for i, o := range s.doc.Objects("plugins") {
			if t, _ := o.String("type"); t == plugin && s.own == nil {
				s.own, s.late = o, i > 0
			} else {
				s.others = append(s.others, t)
			}
		}
	case typ == plugin:
		s.own = s.doc
	case s.netavark && driver == plugin:
		s.own = s.doc
	case s.netavark && typ == "":
		return fmt.Errorf("%s: driver: %.60q is not flatnet", s.path, driver)
	}
	if err := s.doc.Err(); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	if s.own == nil {
		return fmt.Errorf("%s: no plugin has the type flatnet", s.path)
	}
	return nil
}

// find returns the configuration of a network or, without a name, of the only one. It reads
// what a CNI runtime would read, and then Podman's networks; files that are not flatnet's are
// skipped.
func (p Planner) find(network string) (source, error) {
	var first source
	var names []string
	var failed error
	for _, path := range append(files(p.CNI, ".conf", ".conflist", ".json"), files(p.Podman, ".json")...) {
		s, err := read(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			failed = errors.Join(failed, err)
		case err != nil || network != "" && s.network != network || slices.Contains(names, s.network):
		default:
			if names = append(names, s.network); len(names) == 1 {
				first = s
			}
		}
	}
	switch len(names) {
	case 0:
		if network != "" {
			network = " " + strconv.Quote(network)
		}
		where := fmt.Errorf("no flatnet network%s is configured in %s or %s; name a file with -f", network, p.CNI, p.Podman)
		return first, errors.Join(where, failed)
	case 1:
		return first, nil
	}
	return first, fmt.Errorf("name one of the networks %s", strings.Join(names, ", "))
}

// files lists the regular files of a directory with one of some extensions, sorted.
func files(dir string, extensions ...string) (paths []string) {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && slices.Contains(extensions, filepath.Ext(name)) {
			paths = append(paths, path)
		}
	}
	return paths
}

// conf returns what libcni writes to flatnet's stdin for an ADD (buildOneConfig of its api.go).
func (s *source) conf() string {
	var w strictjson.Writer
	w.Begin("", '{')
	w.CopyFields(s.own, "name", "cniVersion", "prevResult")
	w.String("name", s.network)
	version, _ := s.doc.String("cniVersion")
	for _, v := range s.doc.Strings("cniVersions") { // of a list: the newest is used
		version = max(version, v)
	}
	if version != "" {
		w.String("cniVersion", version)
	}
	if s.late {
		w.Begin("prevResult", '{')
		w.End('}')
	}
	w.End('}')
	return string(w.Bytes)
}

// exec returns what netavark writes to a plugin's stdin for setup (NetworkPluginExec of its
// types.rs).
func exec(network, container, ifName string) string {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("container_id", container)
	w.Begin("network_options", '{')
	w.String("interface_name", ifName)
	w.End('}')
	w.Copy(`"network":` + network)
	w.End('}')
	return string(w.Bytes)
}

// whole reports whether a definition has everything that create adds.
func (s *source) whole() bool { return s.doc.NonZero("network_interface") && s.doc.NonZero("subnets") }

// text returns the definition.
func (s *source) text() string {
	var w strictjson.Writer
	w.Begin("", '{')
	w.CopyFields(s.doc)
	w.End('}')
	return string(w.Bytes)
}

// placeholder stands for the ID of a container that is not named.
const placeholder = "00000000000000000000000000000000"

func validContainer(id string) error {
	if err := model.ValidContainerID(id); err != nil {
		return fmt.Errorf("--container: %w", err)
	}
	return nil
}
