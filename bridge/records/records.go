// Package records keeps what a reload has to restore, and what the kernel's own
// records, the links, don't show. DEL looks for what an attachment's record has, and for
// everything without one: a record that can't be written is warned about and refuses no
// attachment. It also has the locks by which
// verbs take turns.
package records

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/input"
	"flatnet/internal/peer"
	"flatnet/internal/rootless"
	"flatnet/internal/strictjson"

	"golang.org/x/sys/unix"
)

// A Dir is the directory of one network namespace, for several may share a /run. Its
// name is the namespace's inode number, which another one may have had before; so a
// reload removes what no link shows. Like rules, records end with the boot.
//
//	.lock             bytes of it are locks, see Turn, Arrive and Alone; it contains what
//	                  package host notes of nf_tables
//	.accept_ra        interfaces whose accept_ra was raised from 1 to 2
//	NETWORK/bridge    what the network's attachments share
//	NETWORK/ID:IFNAME an attachment
//	.gone             attachments whose records were removed without a DEL, see Trace
//
// Where there can be no directory, nothing is kept, with a warning.
type Dir struct {
	path string
	warn func(string)
	dry  bool
}

// Own returns the directory of the calling thread's namespace. warn hears what fails no
// verb.
func Own(warn func(string)) Dir {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return Dir{"/proc is not mounted\x00/none", warn, false} // names that nothing can have
	}
	root := "/run/flatnet" // has the directories of all network namespaces
	if st.Uid != 0 {       // files of nsfs belong to the host's root, who is somebody else here
		root = rootless.Records()
	}
	return In(filepath.Join(root, strconv.FormatUint(st.Ino, 10)), warn)
}

// In is Own of a path.
func In(path string, warn func(string)) Dir { return Dir{path, warn, false} }

// Dry returns the directory for a caller that only reads: no lock is taken, and the file of
// locks is not opened.
func (d Dir) Dry(dry bool) Dir {
	d.dry = dry
	return d
}

// networkFile is the name of a network's record. Names of attachments have a colon.
const networkFile = "bridge"

func (d Dir) networkFile(network string) string { return filepath.Join(d.path, network, networkFile) }

func (d Dir) attachmentFile(key model.Key) string {
	return filepath.Join(d.path, key.Network, key.ContainerID+":"+key.IfName)
}

// Share records what a network's attachments share, unless that is what Merge has found,
// and returns the record, which is another for each value of any field. ADDs at the same
// moment record one after the other, so that none loses another's subnet.
func (d Dir) Share(s, found *model.Shared) (record string) {
	text := encode(networkFields(s))
	if found != nil && slices.Equal(found.Leaving, s.Leaving) && bytes.Equal(encode(networkFields(found)), text) {
		return string(text)
	}
	lock, err := d.lock("another ADD", Wait, unix.LOCK_EX, model.Place(networkFile, s.Name))
	d.say(err, "network %s", s.Name)
	defer lock.Close()
	d.Merge(s)
	d.write(d.networkFile(s.Name), encode(sharedFields(s)))
	return string(encode(networkFields(s)))
}

// PutBack replaces the record of a network by an earlier one, and reports whether it did: if it
// is still the one that Share has returned, and no attachment but key's has been recorded since.
func (d Dir) PutBack(earlier *model.Shared, record string, key model.Key) bool {
	lock, err := d.lock("another ADD", Wait, unix.LOCK_EX, model.Place(networkFile, earlier.Name))
	if err != nil {
		return false
	}
	defer lock.Close()
	now := d.Network(earlier.Name)
	st, err := os.Stat(d.networkFile(earlier.Name))
	if err != nil || now == nil || string(encode(networkFields(now))) != record {
		return false
	}
	for other, at := range d.Since() {
		if other.Network == key.Network && other != key && !at.Before(st.ModTime()) {
			return false
		}
	}
	leave(earlier, now)
	d.write(d.networkFile(earlier.Name), encode(sharedFields(earlier)))
	return true
}

// Left removes peers from those that are leaving, when no route to them is left.
func (d Dir) Left(network string, gone []peer.Peer) {
	if len(gone) == 0 {
		return
	}
	lock, err := d.lock("another ADD", Wait, unix.LOCK_EX, model.Place(networkFile, network))
	if err != nil {
		return // the next one removes them
	}
	defer lock.Close()
	path := d.networkFile(network)
	now := d.Network(network)
	st, err := os.Stat(path)
	if now == nil || err != nil {
		return
	}
	now.Leaving = slices.DeleteFunc(now.Leaving, func(p peer.Peer) bool { return slices.Contains(gone, p) })
	d.write(path, encode(sharedFields(now)))
	d.say(os.Chtimes(path, time.Time{}, st.ModTime()), "network %s", network) // what it was made by is as old as before
}

// leave adds to the peers that are leaving a network those of its record that it no longer has.
func leave(s, recorded *model.Shared) {
	seen := map[peer.Peer]bool{}
	for _, p := range s.Peers {
		seen[p] = true
	}
	s.Leaving = nil
	for _, p := range slices.Concat(recorded.Leaving, recorded.Peers) {
		if !seen[p] {
			seen[p] = true
			s.Leaving = append(s.Leaving, p)
		}
	}
}

// Merge adds to s the subnets in which earlier attachments have addresses, in front of
// its own, and the earlier peers that it no longer has. It returns the record that has them:
// nil without one that can be read.
func (d Dir) Merge(s *model.Shared) (recorded *model.Shared) {
	recorded = d.Network(s.Name)
	if recorded != nil {
		leave(s, recorded)
	}
	if recorded != nil && recorded.Bridge == s.Bridge {
		own := s.Served
		s.Served = slices.Clone(recorded.Served)
		for _, sub := range own {
			s.Serve(sub)
		}
	}
	return recorded
}

// Recall gives a network whose subnet file has not been read what is recorded of it, if
// anything: CHECK compares an attachment with what it was made by, and needs no such file.
func (d Dir) Recall(s *model.Shared) {
	if !s.Unread {
		return
	}
	if r := d.Network(s.Name); r != nil {
		s.Subnets, s.Flat, s.IPMasq = r.Subnets, r.Flat, r.IPMasq
	}
}

// Changed returns the keys of the configuration in which two networks differ.
func Changed(a, b *model.Shared) (keys []string) {
	other := networkFields(b)
	for i, f := range networkFields(a) {
		if f.text != other[i].text && f.key != "mac" && f.key != "mtu" && f.key != "served" && f.key != "spans" {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Save records an attachment.
func (d Dir) Save(a *model.Attachment) {
	d.write(d.attachmentFile(a.Key), encode(attachmentFields(a)))
}

func (d Dir) write(path string, data []byte) {
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = overwrite(path, data)
	}
	d.say(err, "flatnet reload will not restore this")
}

// overwrite replaces what a file holds by data, with white space up to the old length:
// a reader never finds less than a whole record.
func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		padding := bytes.Repeat([]byte{' '}, max(0, int(st.Size())-len(data)))
		_, err = f.WriteAt(append(data, padding...), 0)
	}
	return err
}

// say warns of an error, if there is one, with the text of the format before it.
func (d Dir) say(err error, format string, args ...any) {
	if err != nil {
		d.warn(fmt.Sprintf(format, args...) + ": " + err.Error())
	}
}

func encode(fields []field) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	for _, f := range fields {
		w.String(f.key, f.text)
	}
	w.End('}')
	return w.Bytes
}

// maxSize is more than the record of an attachment with all ports of a host needs.
const maxSize = 64 << 20

// load sets the fields from a record. One that is empty is about to be written, or was
// when its writer was killed: like a missing one it is not found.
func load(path string, fields []field) (found bool, err error) {
	data, err := input.Read(path, maxSize)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return false, nil
	}
	if err == nil {
		err = decode(data, fields)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

func decode(data []byte, fields []field) error {
	o, err := strictjson.ParseLarge(data, maxSize)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if text, ok := o.String(f.key); ok && text != f.text || f.required {
			if err := f.set(text); err != nil {
				o.Fail(f.key, "%w", err)
			}
		}
	}
	return o.Err()
}

// Network returns what is recorded of a network: nil without a record that can be read.
func (d Dir) Network(name string) *model.Shared {
	s := &model.Shared{Network: model.Network{Name: name}}
	if found, _ := load(d.networkFile(name), sharedFields(s)); !found {
		return nil
	}
	return s
}

// Networks returns the record of each network. What can't be read is reported in the
// error, and the rest is returned all the same.
func (d Dir) Networks() (all []*model.Shared, err error) {
	for _, file := range d.glob("*", networkFile) {
		s := &model.Shared{Network: model.Network{Name: filepath.Base(filepath.Dir(file))}}
		found, lerr := load(file, sharedFields(s))
		if found {
			all = append(all, s)
		}
		err = errors.Join(err, lerr)
	}
	return all, err
}

// Attachment returns what is recorded of key: nil without a record that can be read.
func (d Dir) Attachment(key model.Key) *model.Attachment {
	a := &model.Attachment{Key: key}
	a.Name = key.Network
	if found, _ := load(d.attachmentFile(key), attachmentFields(a)); !found {
		return nil
	}
	return a
}

// Attachments returns the records of a network, a container or both; "*" stands for all.
// What can't be read is reported in the error, and the rest is returned all the same.
// Others may add and drop records meanwhile.
func (d Dir) Attachments(network, containerID string) (map[model.Key]*model.Attachment, error) {
	all, errs := map[model.Key]*model.Attachment{}, []error(nil)
	// Network names and IDs have no character that a pattern gives a meaning to.
	for _, file := range d.glob(network, containerID+":*") {
		id, ifName, _ := strings.Cut(filepath.Base(file), ":")
		key, kerr := model.NewKey(filepath.Base(filepath.Dir(file)), id, ifName)
		a := &model.Attachment{Key: key}
		a.Name = key.Network
		found, lerr := load(file, attachmentFields(a))
		if found && kerr == nil {
			all[key] = a
		}
		errs = append(errs, kerr, lerr)
	}
	return all, errors.Join(errs...)
}

// Since returns when each attachment was recorded, which its ADD does once its link is
// there: the time of the file's birth or, where a file system has none, of its last change.
func (d Dir) Since() map[model.Key]time.Time {
	all := map[model.Key]time.Time{}
	for _, file := range d.glob("*", "*:*") {
		key, ok := keyOf(file)
		var st unix.Statx_t
		if !ok || unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_MTIME, &st) != nil {
			continue
		}
		at := st.Mtime
		if st.Mask&unix.STATX_BTIME != 0 {
			at = st.Btime
		}
		all[key] = time.Unix(at.Sec, int64(at.Nsec))
	}
	return all
}

// Others returns the attachments that are recorded in other network namespaces, with the
// directory of one: their containers may live there.
func (d Dir) Others() map[model.Key]string {
	all := map[model.Key]string{}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(d.path), "*", "*", "*:*"))
	for _, file := range files {
		dir := filepath.Dir(filepath.Dir(file))
		if key, ok := keyOf(file); ok && dir != d.path {
			all[key] = dir
		}
	}
	return all
}

// keyOf returns the attachment that a file is the record of.
func keyOf(file string) (model.Key, bool) {
	id, ifName, _ := strings.Cut(filepath.Base(file), ":")
	key, err := model.NewKey(filepath.Base(filepath.Dir(file)), id, ifName)
	return key, err == nil
}

// glob lists records by the patterns of their directory and name.
func (d Dir) glob(network, name string) []string {
	files, _ := filepath.Glob(filepath.Join(d.path, network, name))
	return files
}

// Drop removes the record of an attachment, and the note that Trace has left of an earlier one.
func (d Dir) Drop(key model.Key) error {
	d.DropTrace(key)
	err := os.Remove(d.attachmentFile(key))
	if err != nil {
		err = d.remove(d.attachmentFile(key))
	}
	return err
}

// DropNetwork removes all records of a network.
func (d Dir) DropNetwork(network string) error { return d.remove(filepath.Join(d.path, network)) }

// freshRecord is how young a record of a network is kept although no link shows it:
// an ADD writes it before the link has its alias.
const freshRecord = 30 * time.Second

// DropOld removes the record of what a network's attachments share, unless it is
// fresh.
func (d Dir) DropOld(network string) error {
	if !d.IsOld(network) {
		return nil
	}
	return d.remove(d.networkFile(network))
}

// IsOld reports whether there is a record of a network that DropOld removes.
func (d Dir) IsOld(network string) bool {
	st, err := os.Stat(d.networkFile(network))
	return err == nil && time.Since(st.ModTime()) >= freshRecord
}

// remove removes a file or directory, if there is one: a read-only file system, or what
// is no directory, refuse that as well.
func (d Dir) remove(path string) error {
	err := os.RemoveAll(path)
	if err == nil {
		return nil
	}
	_, serr := os.Lstat(path)
	if errors.Is(serr, fs.ErrNotExist) || errors.Is(serr, unix.ENOTDIR) || errors.Is(serr, unix.EINVAL) { // without /proc
		return nil
	}
	return err
}

func (d Dir) raisedFile() string { return filepath.Join(d.path, ".accept_ra") }

// Raised lists the interfaces whose accept_ra was raised. The record may be missing or
// broken.
func (d Dir) Raised() []string {
	data, _ := input.Read(d.raisedFile(), strictjson.MaxSize)
	o, _ := strictjson.Parse(data)
	return o.Strings("interfaces")
}

// SaveRaised records an interface whose accept_ra is about to be raised.
func (d Dir) SaveRaised(interfaces []string) {
	slices.Sort(interfaces)
	var w strictjson.Writer
	w.Begin("", '{')
	w.Strings("interfaces", slices.Compact(interfaces))
	w.End('}')
	d.write(d.raisedFile(), w.Bytes)
}

// DropRaised removes the record of raised interfaces.
func (d Dir) DropRaised() error { return d.remove(d.raisedFile()) }
