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

	"flatnet/internal/flock"
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

// entries are the elements of sets that the wish comes to.
func (w wish) entries() []entry {
	all := entries(w.Key, w.Ports)
	if w.Guard != nil {
		all = append(all, w.Guard.entries(w.Key)...)
	}
	return all
}

// during runs fn while no reload is under way, which could otherwise restore
// what fn removes.
func (r records) during(fn func() error) error {
	unlock, err := r.lock(unix.LOCK_SH)
	if errors.Is(err, ErrBusy) {
		return err
	}
	if err != nil {
		r.say(fmt.Errorf("no lock, so a reload at this moment could go wrong: %w", err))
		return fn()
	}
	defer unlock()
	return fn()
}

// lockWait is how long a reload may take; it takes some milliseconds.
const lockWait = 10 * time.Second

// lock waits for the lock; how is LOCK_SH or LOCK_EX.
func (r records) lock(how int) (unlock func() error, err error) {
	return r.lockWithin(how, lockWait)
}

func (r records) lockWithin(how int, wait time.Duration) (unlock func() error, err error) {
	if r.dir == "" {
		return func() error { return nil }, nil
	}
	f, err := r.open()
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(f, how, wait); err != nil {
		if errors.Is(err, flock.ErrHeld) {
			err = fmt.Errorf("%w: %w", err, ErrBusy)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// inTurn runs a verb of one attachment while no other process has one of the same
// under way, such as an ADD whose runtime was killed. One that goes on for longer than
// the wait is an [ErrBusy].
func (r records) inTurn(key Key, verb func() error) error {
	f, err := r.open()
	if err == nil && f != nil {
		defer f.Close() // nothing was written to it
		err = flock.LockByte(f, key.Place(), unix.LOCK_EX, lockWait)
	}
	switch {
	case errors.Is(err, flock.ErrHeld):
		return fmt.Errorf("another call for %s has been under way for %v; try again: %w: %w", key, lockWait, err, ErrBusy)
	case err != nil:
		r.say(fmt.Errorf("can't lock %s (continuing; another call for it at the same moment may conflict): %w", key, err))
	}
	return verb()
}

// open opens the file of locks: nil if nothing is kept.
func (r records) open() (*os.File, error) {
	if r.dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(r.dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

func (r records) say(err error) {
	if err != nil && r.warn != nil {
		r.warn(err.Error())
	}
}

// hold keeps the record of an ADD that goes on from being taken for a vanished
// attachment's, until it is closed: nil if there is no record to keep.
func (r records) hold(key Key) *os.File {
	if r.dir == "" {
		return nil
	}
	f, err := os.Open(r.wishFile(key))
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	return f
}

// held says whether an ADD holds the record, or could.
func (r records) held(key Key) bool {
	if r.dir == "" {
		return false
	}
	f, err := os.Open(r.wishFile(key))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// firewallFile begins the names of records of firewalls.
const firewallFile = "firewall:"

func (r records) firewallFile(f Firewall) string {
	return filepath.Join(r.dir, f.Network, firewallFile+strings.ReplaceAll(f.place(), "/", "_"))
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
	return w, r.dir != "" && load(r.wishFile(key), &w) == nil && w.Key == key
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
	path := r.wishFile(key)
	return unlessGone(os.Remove(path), path)
}

// know says whether there may be a record of the network.
func (r records) know(network string) bool {
	if r.dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(r.dir, network))
	return !errors.Is(err, fs.ErrNotExist)
}

func (r records) dropNetwork(network string) error {
	if r.dir == "" {
		return nil
	}
	path := filepath.Join(r.dir, network)
	return unlessGone(os.RemoveAll(path), path)
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
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "*"))
	for _, file := range files {
		if filepath.Base(file) == networkFile {
			continue
		}
		var lerr error
		if strings.HasPrefix(filepath.Base(file), firewallFile) {
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
	files, _ := filepath.Glob(filepath.Join(r.dir, network, firewallFile+"*")) // the pattern is valid
	for _, file := range files {
		if more, err := appendRecord(all, file); err == nil {
			all = more
		}
	}
	return all
}

// wishesOf reads what is recorded of a container's attachments; those of internal
// networks come last. What can't be read is left out: a reload names it.
func (r records) wishesOf(containerID string) (wishes []wish) {
	// The ID has no character that a pattern gives a meaning to.
	files, _ := filepath.Glob(filepath.Join(r.dir, "*", containerID+":*"))
	for _, file := range files {
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
