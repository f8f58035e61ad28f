// Package subnetfile reads the file in which flannel, or whatever else distributes subnets,
// says which one this host has.
//
// The file decides where packets go, so it is believed only if nobody but root, or the
// user whom flatnet runs as, can have written it: neither the file nor any directory of its
// path may be another user's, or be writable by others. In a user namespace, where the host's
// root has no number of its own, it is known as the owner of the root directory.
package subnetfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge/model"

	"golang.org/x/sys/unix"
)

// maxSize bounds the file in bytes.
const maxSize = 16 << 10

// errChanged is a file that says something else than what an ADD was about to lease by.
const errChanged = model.Kind("the subnet file has changed")

// maxTries bounds how often an ADD begins anew because the file has changed.
const maxTries = 3

// Settled calls add, which reads the file and leases by what it says, until the file does not
// change meanwhile.
func Settled(add func() (model.Result, error)) (result model.Result, err error) {
	for range maxTries {
		if result, err = add(); !errors.Is(err, errChanged) {
			break
		}
	}
	return result, err
}

// A Text is what was read of a file; the zero value is that of a network without one.
type Text struct {
	path string
	data []byte
}

// Watch returns an allocator that leases nothing unless the file still has this text: it looks
// when it has the lease, however long that took, such as for another call's end. What it has
// leased by an earlier text, it gives back.
func (t Text) Watch(alloc model.Allocator) model.Allocator {
	if t.path == "" {
		return alloc
	}
	return watched{alloc, t}
}

type watched struct {
	model.Allocator
	text Text
}

func (w watched) Lease(key model.Key, want []netip.Addr, locals model.Locals) (model.Lease, error) {
	l, err := w.Allocator.Lease(key, want, locals)
	if err != nil {
		return l, err
	}
	if err = w.text.check(); err == nil {
		return l, nil
	}
	l.Flight.Close()
	if !l.Had {
		_, rerr := w.Release([]model.Key{key}, false)
		err = errors.Join(err, rerr)
	}
	return model.Lease{Had: l.Had}, err
}

// check reports a file that has another text now.
func (t Text) check() error {
	now, err := read(t.path)
	if err == nil && bytes.Equal(now, t.data) {
		return nil
	}
	return model.Errorf(model.ErrBusy, "subnetFile: %s: %w while this call waited; try again", t.path, errChanged)
}

// Outdated returns why an ADD failed: err, unless it is a [model.ErrConflict] of an ADD that
// went by an earlier text of the file, which may be right now.
func Outdated(alloc model.Allocator, err error) error {
	w, ok := alloc.(watched)
	if !ok || !errors.Is(err, model.ErrConflict) {
		return err
	}
	return cmp.Or(w.text.check(), err)
}

// Fill is Read for a caller that leases nothing.
func Fill(c *model.Config) (*model.Config, error) {
	filled, _, err := Read(c)
	return filled, err
}

// Read returns the configuration with what the file says that it names, or as it is if it
// names none. The subnets of a network's definition must be those of the file.
//
// A missing file is a [model.ErrBusy], for its writer may be about to start, and any other
// one that can't be used a [model.ErrConflict].
func Read(c *model.Config) (*model.Config, Text, error) {
	if c.Span.SubnetFile == "" {
		return c, Text{}, nil
	}
	path := c.Span.SubnetFile
	data, err := read(path)
	var f file
	if err == nil {
		f, err = parse(data)
		if err != nil {
			err = model.Errorf(model.ErrConflict, "%s: %w", path, err)
		}
	}
	if err != nil {
		return nil, Text{}, fmt.Errorf("subnetFile: %w", err)
	}
	filled := *c
	n := &filled.Network
	if filled.Span.FileFlat {
		n.Flat = slices.Concat(f.networks, n.Flat)
	}
	if filled.Span.FileMasq {
		n.IPMasq = !f.masquerades
	}
	n.PathMTU, n.Unread = f.mtu, false
	filled.IPAM.Sets, err = merge(c.IPAM.Sets, f.ranges())
	if err != nil {
		return nil, Text{}, model.Errorf(model.ErrConflict, "subnetFile: %s: %w", path, err)
	}
	return &filled, Text{path, data}, nil
}

// merge returns the range sets of a definition, which must be those of the file in each
// family that the file has; without any, they are the file's.
func merge(defined, file [][]model.Range) ([][]model.Range, error) {
	if len(defined) == 0 {
		return file, nil
	}
	all := slices.Clone(defined)
	for _, f := range file {
		want := f[0].Subnet
		is := func(set []model.Range) bool { return set[0].Subnet == want }
		family := func(set []model.Range) bool { return set[0].Subnet.Addr().Is4() == want.Addr().Is4() }
		switch i := slices.IndexFunc(defined, family); {
		case slices.ContainsFunc(defined, is):
		case i >= 0:
			return nil, fmt.Errorf("the host's subnet is %s, and the network was created with %s: "+
				"remove the network with its containers, and create it again", want, defined[i][0].Subnet)
		default:
			return nil, fmt.Errorf("the host has the subnet %s as well, and the network was created without: "+
				"remove the network with its containers, and create it again", want)
		}
	}
	return all, nil
}

// Unavailable returns an error of Fill as what STATUS reports, and others as they are.
func Unavailable(c *model.Config, err error) error {
	if c.Span.SubnetFile == "" || errors.Is(err, model.ErrInvalid) {
		return err
	}
	return model.Errorf(model.ErrUnavailable, "%w", err)
}

// read reads the file, if it can be believed.
func read(path string) ([]byte, error) {
	fd, err := open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, model.Errorf(model.ErrBusy, "%s does not exist: flannel writes it when it has a subnet for this host. "+
			"Start flanneld (or what else writes the file), see why it does not get one, and try again", path)
	case err != nil:
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = model.Errorf(model.ErrConflict, "%s has more than %d bytes, so it is no such file", path, maxSize)
	}
	return data, err
}

// open opens the file by one directory after the other, and checks each of them before it
// is used. It follows no symbolic link.
func open(path string) (fd int, err error) {
	at, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	var root unix.Stat_t
	if err = unix.Fstat(at, &root); err == nil {
		err = trust(&root, root.Uid, "/", false)
	}
	names := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, place := 0, ""; i < len(names) && err == nil; i++ {
		place += "/" + names[i]
		file := i == len(names)-1
		flags := unix.O_RDONLY | unix.O_DIRECTORY
		if file {
			flags = unix.O_RDONLY | unix.O_NONBLOCK // else a FIFO would wait for its writer
		}
		var st unix.Stat_t
		fd, err = unix.Openat(at, names[i], flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(at)
		at = fd
		switch {
		case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR):
			err = model.Errorf(model.ErrConflict, "%s is a symbolic link or no directory; name the path without", place)
		case err != nil:
			err = &fs.PathError{Op: "open", Path: place, Err: err}
		default:
			if err = unix.Fstat(fd, &st); err == nil {
				err = trust(&st, root.Uid, place, file)
			}
		}
	}
	if err != nil {
		unix.Close(at) // or it is -1
		return -1, err
	}
	return at, nil
}

// systemDirs are directories in which only root makes files. In a user namespace root looks
// like any other user that is not mapped there (overflowuid).
func systemDirs() []string { return []string{"/run/flannel", "/run", "/etc/flannel", "/etc"} }

// trust rejects what another user than root may have put there. In a sticky directory nobody
// else can replace what root owns.
func trust(st *unix.Stat_t, root uint32, place string, isFile bool) error {
	sticky := !isFile && st.Mode&unix.S_ISVTX != 0
	switch {
	case isFile && st.Mode&unix.S_IFMT != unix.S_IFREG:
		return model.Errorf(model.ErrConflict, "%s is not a regular file", place)
	case isFile && root != 0 && st.Uid == root && !slices.Contains(systemDirs(), filepath.Dir(place)):
		return model.Errorf(model.ErrConflict, "%s may be any user's, as a user namespace does not tell: "+
			"make it your own, or have root put it into one of %v", place, systemDirs())
	case st.Uid != 0 && st.Uid != root && int(st.Uid) != os.Geteuid():
		return model.Errorf(model.ErrConflict, "%s belongs to the user %d, and is believed only if it is root's", place, st.Uid)
	case st.Mode&0o022 != 0 && !sticky:
		return model.Errorf(model.ErrConflict, "%s can be written by others (mode %04o), so it is not believed: chmod go-w %[1]s",
			place, st.Mode&0o7777)
	}
	return nil
}
