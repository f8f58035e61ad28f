package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"flatnet/internal/strictjson"

	"golang.org/x/sys/unix"
)

// recordsDir is where records are kept: like rules, they end with the boot.
// Those of each network namespace are in a directory of its own, for several may
// share a /run. Its name is the namespace's inode number, which another one may
// have had before; so a reload removes what no link tells of.
const recordsDir = "/run/flatnet"

// ownRecords is the directory of the calling thread's namespace; none if there
// is no telling.
func ownRecords() string {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return ""
	}
	return filepath.Join(recordsDir, strconv.FormatUint(st.Ino, 10))
}

// A records is a directory that tells what [Host.Reload] has to restore: what
// the kernel's own records, the links, don't say. Nothing else relies on it, so
// one that can't be written is no reason to refuse an attachment. The zero
// value keeps nothing.
//
//	.lock                   held exclusively by a reload, shared by whoever else changes rules;
//	                        bytes of it by an ADD and a last DEL, see [arrival]
//	NETWORK/firewall:SUBNET a [Firewall], also of a bridge; the slash is written as "_"
//	NETWORK/bridge          what its attachments have in common on the host, see saveNetwork
//	NETWORK/ID:IFNAME       a [wish]; locked as long as an ADD with ports goes on
//	.accept_ra              interfaces whose accept_ra was raised from 1 to 2, see keepRouters
type records struct {
	dir  string
	warn func(string)
}

// A wish is what an attachment has beside its network's rules and links.
type wish struct {
	Key   Key
	Ports []Publication `json:",omitempty"`
	Guard *Guard        `json:",omitempty"` // nil: the port may send what it likes
	// Bandwidth is what limits the host end.
	Bandwidth Bandwidth `json:",omitzero"`
	// Internal is the network, where nobody outside reaches published ports.
	Internal bool `json:",omitempty"`
}

func (r records) say(err error) {
	if err != nil && r.warn != nil {
		r.warn(err.Error())
	}
}

// firewallFile begins the names of records of firewalls.
const firewallFile = "firewall"

func (r records) firewallFile(f Firewall) string {
	return filepath.Join(r.dir, f.Network, firewallFile+":"+strings.ReplaceAll(f.place(), "/", "_"))
}

func (r records) wishFile(key Key) string {
	return filepath.Join(r.dir, key.Network, key.ContainerID+":"+key.IfName)
}

func (r records) saveFirewall(f Firewall) { r.save(r.firewallFile(f), f) }
func (r records) saveWish(w wish)         { r.save(r.wishFile(w.Key), w) }

func (r records) save(path string, v any) {
	if r.dir == "" {
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		r.say(err)
		return
	}
	r.write(path, data)
}

func (r records) write(path string, data []byte) {
	if r.dir == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		r.say(fmt.Errorf("flatnet reload will not restore this: %w", err))
	}
}

// read reads a record of one JSON object.
func (r records) read(path string) (*strictjson.Object, error) {
	if r.dir == "" {
		return nil, fs.ErrNotExist
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	o, err := strictjson.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// raised lists the interfaces whose accept_ra was raised, which saveRaised has
// recorded. The record may be missing or broken.
func (r records) raised() []string {
	o, err := r.read(filepath.Join(r.dir, raisedFile))
	if err != nil {
		return nil
	}
	return o.Strings("interfaces")
}

const raisedFile = ".accept_ra"

func (r records) saveRaised(interfaces []string) {
	slices.Sort(interfaces)
	var w strictjson.Writer
	w.Begin("", '{')
	w.Strings("interfaces", slices.Compact(interfaces))
	w.End('}')
	r.write(filepath.Join(r.dir, raisedFile), w.Bytes)
}

func (r records) dropRaised() error {
	path := filepath.Join(r.dir, raisedFile)
	return unlessGone(os.Remove(path), path)
}

// wish returns what is recorded for key; one of an earlier time may be broken.
func (r records) wish(key Key) (w wish, ok bool) {
	if r.dir == "" {
		return w, false
	}
	err := load(r.wishFile(key), &w)
	if errors.Is(err, fs.ErrNotExist) {
		err = load(r.older().wishFile(key), &w)
	}
	return w, err == nil && w.Key == key
}

// load reads a record. An empty one is about to be written, or was when its
// writer was killed: like a missing one it is an fs.ErrNotExist.
func load(path string, v any) error {
	data, err := os.ReadFile(path)
	switch {
	case err == nil && len(data) == 0:
		err = fs.ErrNotExist
	case err == nil:
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// freshRecord is how young a record of a network is kept although no link tells
// of it: an ADD writes it before the link has its alias.
const freshRecord = 30 * time.Second

// dropOld forgets a firewall, unless its record is fresh.
func (r records) dropOld(f Firewall) error { return r.dropOldFile(r.firewallFile(f)) }

func (r records) dropOldFile(file string) error {
	if st, err := os.Stat(file); err != nil || time.Since(st.ModTime()) < freshRecord {
		return nil
	}
	return os.Remove(file)
}

// dropWish and dropNetwork forget.
func (r records) dropWish(key Key) error {
	if r.dir == "" {
		return nil
	}
	path, older := r.wishFile(key), r.older().wishFile(key)
	return errors.Join(unlessGone(os.Remove(path), path), unlessGone(os.Remove(older), older))
}

// know says whether there may be a record of the network.
func (r records) know(network string) bool {
	if r.dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(r.dir, network))
	return !errors.Is(err, fs.ErrNotExist) || len(r.files(network, "*")) > 0
}

func (r records) dropNetwork(network string) error {
	if r.dir == "" {
		return nil
	}
	path := filepath.Join(r.dir, network)
	err := unlessGone(os.RemoveAll(path), path)
	for _, file := range r.files(network, "*") {
		err = errors.Join(err, unlessGone(os.Remove(file), file))
	}
	return err
}

// older is where binaries before 23 November 2026 kept records: of all network
// namespaces in one directory. Nothing is written there any more.
func (r records) older() records { return records{dir: filepath.Dir(r.dir)} }

// files lists records: the colon-separated parts of their names may be patterns.
// Each record of an older binary is listed unless there is a newer one of its
// name.
func (r records) files(network, begin string) []string {
	// Network names and IDs have no character that a pattern gives a meaning to.
	files, _ := filepath.Glob(filepath.Join(r.dir, network, begin+":*"))
	older, _ := filepath.Glob(filepath.Join(r.older().dir, network, begin+":*"))
	for _, file := range older {
		rel, err := filepath.Rel(r.older().dir, file)
		if err == nil && !slices.Contains(files, filepath.Join(r.dir, rel)) {
			files = append(files, file)
		}
	}
	return files
}

// unlessGone is the error of a removal, if there was anything to remove: a
// read-only file system, or what is no directory, refuse that as well.
func unlessGone(err error, path string) error {
	if err == nil {
		return nil
	}
	if _, serr := os.Lstat(path); errors.Is(serr, fs.ErrNotExist) || errors.Is(serr, unix.ENOTDIR) {
		return nil
	}
	return err
}

// all reads every record. What can't be read is reported in the error, and
// the rest is returned all the same. Wishes of internal networks come last.
// Others may add and drop records meanwhile.
func (r records) all() (firewalls []Firewall, wishes []wish, err error) {
	if r.dir == "" { // else the working directory's files would be read
		return nil, nil, nil
	}
	for _, file := range r.files("*", "*") {
		var lerr error
		if strings.HasPrefix(filepath.Base(file), firewallFile+":") {
			firewalls, lerr = appendRecord(firewalls, file)
		} else {
			wishes, lerr = appendRecord(wishes, file)
		}
		err = errors.Join(err, lerr)
	}
	slices.SortStableFunc(wishes, internalLast)
	return firewalls, wishes, err
}

// firewalls reads what is recorded of a network's firewalls, or with "*" of all
// networks'. What can't be read is left out: a reload names it.
func (r records) firewalls(network string) (all []Firewall) {
	if r.dir == "" {
		return nil
	}
	for _, file := range r.files(network, firewallFile) {
		if more, err := appendRecord(all, file); err == nil {
			all = more
		}
	}
	return all
}

// wishesIn reads what is recorded of a network's attachments. What can't be read is
// left out: a reload names it.
func (r records) wishesIn(network string) (wishes []wish) {
	if r.dir == "" {
		return nil
	}
	for _, file := range r.files(network, "*") {
		if strings.HasPrefix(filepath.Base(file), firewallFile+":") {
			continue
		}
		if more, err := appendRecord(wishes, file); err == nil {
			wishes = more
		}
	}
	return wishes
}

// wishesOf reads what is recorded of a container's attachments; those of internal
// networks come last. What can't be read is left out: a reload names it.
func (r records) wishesOf(containerID string) (wishes []wish) {
	if r.dir == "" {
		return nil
	}
	for _, file := range r.files("*", containerID) {
		if more, err := appendRecord(wishes, file); err == nil {
			wishes = more
		}
	}
	slices.SortStableFunc(wishes, internalLast)
	return wishes
}

func internalLast(a, b wish) int {
	switch {
	case a.Internal == b.Internal:
		return 0
	case b.Internal:
		return -1
	}
	return 1
}

func appendRecord[T any](to []T, file string) ([]T, error) {
	var v T
	err := load(file, &v)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return to, nil
	case err != nil:
		return to, err
	}
	return append(to, v), nil
}
