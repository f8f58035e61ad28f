package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
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

// internalSuffix makes a file that of an internal network (INTERNAL_SUFFIX of
// aardvark-dns' config/constants.rs). No network has a % in its name.
const internalSuffix = "%int"

func (s Server) files(network string) [2]string {
	path := filepath.Join(s.Dir, network)
	return [2]string{path, path + internalSuffix}
}

// has says whether a network has a record that drop means. It waits for no lock.
func (s Server) has(network string, drop func(id string) bool) (bool, error) {
	for _, path := range s.files(network) {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if _, rest := split(data, drop); len(rest) != len(data) {
			return true, nil
		}
	}
	return false, nil
}

// edit puts a record, or if it is nil none, in the place of those of a network
// that drop means. A file without records is removed.
func (s Server) edit(network string, drop func(id string) bool, r *Record) error {
	for i, path := range s.files(network) {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		count, content := split(data, drop)
		if r != nil && r.Internal == (i == 1) {
			_, lines, _ := strings.Cut(string(content), "\n")
			content, count = []byte(r.header()+lines+r.line()), count+1
		}
		switch {
		case count > 0 && string(content) != string(data):
			err = s.replace(path, content)
		case count == 0 && data != nil:
			err = os.Remove(path)
		default:
			err = nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// replace writes a file so that the server reads the old or the new one. The
// server reads all files of its directory, so what is not finished lies beside
// that.
func (s Server) replace(path string, content []byte) error {
	temp := filepath.Join(s.Dir, "..", "flatnet-"+filepath.Base(path)+".tmp")
	err := os.WriteFile(temp, content, 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(temp))
	}
	return err
}

// split returns a file without the records of the containers that drop means,
// and how many others there are.
func split(data []byte, drop func(id string) bool) (records int, rest []byte) {
	first := true
	for line := range strings.Lines(string(data)) {
		id, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case first:
			first = false
		case drop(id):
			continue
		default:
			records++
		}
		rest = append(rest, line...)
	}
	return records, rest
}

// of means the records of a container.
func of(key model.Key) func(id string) bool {
	return func(id string) bool { return id == key.ContainerID }
}

func (r Record) header() string {
	if len(r.Upstream) == 0 {
		return join(r.Listen) + "\n"
	}
	return join(r.Listen) + " " + join(r.Upstream) + "\n"
}

func (r Record) line() string {
	var v4, v6 []netip.Addr
	for _, a := range r.Addresses {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	return fmt.Sprintf("%s %s %s %s\n", r.Key.ContainerID, join(v4), join(v6), strings.Join(r.Names, ","))
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
