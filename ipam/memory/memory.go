// Package memory remembers which addresses attachments had that gave them back, so that a
// container that is stopped and started, or restarted, gets the same ones: it is released
// in between.
//
// Nothing in a memory is relied on. Who comes back to an address gets it only if anybody
// could have it.
package memory

import (
	"cmp"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"flatnet/bridge/model"
)

// A Memory is what is remembered, the oldest first: texts of the form
// "<container ID>/<interface>=<address>,<address>".
type Memory []string

// limit bounds a Memory, and that of all networks without leases; the oldest is forgotten
// first.
const limit = 128

// Parse reads what String wrote. What cannot be understood is remembered of nobody.
func Parse(text string) Memory {
	if text == "" {
		return nil
	}
	return newest(strings.Split(text, " "))
}

// newest forgets what is too much.
func newest(m Memory) Memory { return m[max(0, len(m)-limit):] }

// String returns one text without line breaks, empty for nothing.
func (m Memory) String() string { return strings.Join(m, " ") }

// mark is what the text about a key begins with.
func mark(key model.Key) string { return key.ContainerID + "/" + key.IfName + "=" }

// addrs returns the addresses in a text.
func addrs(text string) (list []netip.Addr) {
	for s := range strings.SplitSeq(text[strings.LastIndexByte(text, '=')+1:], ",") {
		if a, err := netip.ParseAddr(s); err == nil {
			list = append(list, a)
		}
	}
	return list
}

// Add returns m with a key that had addresses, as the only one that had these.
func (m Memory) Add(key model.Key, had []netip.Addr) Memory {
	return newest(append(m.Without(key, had), mark(key)+model.JoinAddrs(had)))
}

// Without returns m without a key, and without those that had one of the addresses.
func (m Memory) Without(key model.Key, had []netip.Addr) Memory {
	return slices.DeleteFunc(m, func(text string) bool {
		return strings.HasPrefix(text, mark(key)) ||
			slices.ContainsFunc(addrs(text), func(a netip.Addr) bool { return slices.Contains(had, a) })
	})
}

// Of returns the addresses that a key had.
func (m Memory) Of(key model.Key) []netip.Addr {
	for _, text := range m {
		if strings.HasPrefix(text, mark(key)) {
			return addrs(text)
		}
	}
	return nil
}

// All returns the addresses that anybody had, the one given back first before others.
func (m Memory) All() (all []netip.Addr) {
	for _, text := range m {
		all = append(all, addrs(text)...)
	}
	return all
}

// file is in the data directory, and has a line for each text of a network whose folder
// went with its last lease: the network's name, a space and the text. No network has a
// name that begins like the lease file's, and so it is in nobody's way there.
const file = "allocations.json.released"

// maxFile is more than limit lines have bytes.
const maxFile = 1 << 20

// Keep keeps m in a data directory, in place of what is kept there of the network. What
// can't be written is forgotten, and of two processes that write at once one wins.
func Keep(dir, network string, m Memory) {
	all := slices.DeleteFunc(read(dir), func(line string) bool { return strings.HasPrefix(line, network+" ") })
	if len(m) == 0 && len(all) == 0 {
		os.Remove(filepath.Join(dir, file))
		return
	}
	for _, text := range m {
		all = append(all, network+" "+text)
	}
	temp := filepath.Join(dir, file+".new")
	os.Remove(temp) // of a process that was killed
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	_, err = f.WriteString(strings.Join(newest(all), "\n") + "\n")
	if err = cmp.Or(err, f.Close()); err == nil {
		err = os.Rename(temp, filepath.Join(dir, file))
	}
	if err != nil {
		os.Remove(temp)
	}
}

// Recall returns what is kept of a network.
func Recall(dir, network string) (m Memory) {
	for _, line := range read(dir) {
		if text, ok := strings.CutPrefix(line, network+" "); ok {
			m = append(m, text)
		}
	}
	return newest(m)
}

// read returns the lines of the file, if that is the caller's own: others may be able to
// make files in the directory.
func read(dir string) Memory {
	f, err := os.OpenFile(filepath.Join(dir, file), syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}
