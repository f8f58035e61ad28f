package dns

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge/model"
)

// A network's file has the addresses to listen at in its first line, and, if
// there are any, the servers to ask about other names:
//
//	10.87.1.1,fd87::1 9.9.9.9
//
// and a line for each container: ID, IPv4 and IPv6 addresses, names.
//
//	0d8d354710ce 10.87.1.2 fd87::2 web,www

// internalSuffix marks the file of an internal network (INTERNAL_SUFFIX of
// aardvark-dns' config/constants.rs). No network has a % in its name.
const internalSuffix = "%int"

// A file is one to write, or to remove if it has no content.
type file struct{ path, content string }

// edits returns the files of a network that change if r takes the place of the
// records that drop selects. If r is nil, nothing does. A file without records
// is removed.
func (s Server) edits(network string, drop func(id string) bool, r *Record) ([]file, error) {
	var list []file
	for _, suffix := range []string{"", internalSuffix} {
		path := filepath.Join(s.Dir, network+suffix)
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		header, records := split(string(data), drop)
		if r != nil && r.Internal == (suffix != "") {
			header, records = r.header(), records+r.line()
		}
		if records == "" {
			header = ""
		}
		if header+records != string(data) {
			list = append(list, file{path, header + records})
		}
	}
	return list, nil
}

// edit makes these edits. The server reads every file of its directory, so a new
// one is written beside it and moved there.
func (s Server) edit(network string, drop func(id string) bool, r *Record) error {
	list, err := s.edits(network, drop, r)
	for _, f := range list {
		if f.content == "" {
			err = errors.Join(err, os.Remove(f.path))
			continue
		}
		temp := filepath.Join(s.Dir, "..", "flatnet-"+filepath.Base(f.path)+".tmp")
		werr := os.WriteFile(temp, []byte(f.content), 0o600)
		if werr == nil {
			werr = os.Rename(temp, f.path)
		}
		if werr != nil {
			os.Remove(temp)
		}
		err = errors.Join(err, werr)
	}
	return err
}

// split returns a file's first line, and the others without those of the
// containers that drop selects.
func split(content string, drop func(id string) bool) (header, records string) {
	lines := strings.SplitAfter(content, "\n")
	kept := slices.DeleteFunc(lines[1:], func(line string) bool {
		id, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		return drop(id)
	})
	return lines[0], strings.Join(kept, "")
}

// of selects the records of a container.
func of(key model.Key) func(id string) bool {
	return func(id string) bool { return id == key.ContainerID }
}

func (r Record) header() string {
	return strings.TrimSpace(model.JoinAddrs(r.Listen)+" "+model.JoinAddrs(r.Upstream)) + "\n"
}

func (r Record) line() string {
	v4 := slices.DeleteFunc(slices.Clone(r.Addresses), netip.Addr.Is6)
	v6 := slices.DeleteFunc(slices.Clone(r.Addresses), netip.Addr.Is4)
	return strings.Join([]string{r.Key.ContainerID, model.JoinAddrs(v4), model.JoinAddrs(v6), strings.Join(r.Names, ",")}, " ") + "\n"
}
