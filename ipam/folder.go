package ipam

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
)

const (
	fileName = "allocations.json"
	tempName = fileName + ".tmp"
	lockName = ".lock"

	// maxFile bounds a lease file in bytes: half a million leases.
	maxFile = 64 << 20
	// maxAside bounds how many broken files are kept. The first ones tell the
	// most; a host on which files keep breaking must not fill up with them.
	maxAside = 9

	// plainNetwork is the network whose files lie in the data directory itself.
	plainNetwork = "flatnet"
)

// A folder is where a network's lease file lies. All files are opened from its
// descriptor and without following links, so that nothing outside is touched
// even if the directory is moved or replaced meanwhile. The zero folder stands for
// one that does not exist.
type folder struct {
	base *os.File // the data directory; nil if dir is that
	dir  *os.File
	lock *os.File // nil: not locked, for reading only
}

// openFolder opens the folder of a network in the data directory. Without
// create, one that is missing is an fs.ErrNotExist.
func openFolder(dataDir, network string, create bool) (folder, error) {
	if err := ValidNetwork(network); err != nil {
		return folder{}, err
	}
	if !filepath.IsAbs(dataDir) {
		return folder{}, model.Errorf(model.ErrInvalid, "data directory %q is not an absolute path", dataDir)
	}
	base, err := openBase(filepath.Clean(dataDir), create)
	f := folder{dir: base}
	if err == nil && network != plainNetwork {
		f.base = base
		f.dir, err = openBelow(base, network, create)
	}
	if err != nil {
		f.close()
		return folder{}, fmt.Errorf("data directory %q (ipam.dataDir): %w", dataDir, err)
	}
	return f, nil
}

// ValidNetwork reports an error unless a network of that name can have a folder.
func ValidNetwork(network string) error {
	if err := model.ValidName(network); err != nil {
		return model.Errorf(model.ErrInvalid, "network name: %w", err)
	}
	if strings.HasPrefix(network, fileName) {
		return model.Errorf(model.ErrInvalid, "network name %q is the lease file's", network)
	}
	return nil
}

// openBelow opens, or if create is set makes, a directory in another.
func openBelow(base *os.File, name string, create bool) (*os.File, error) {
	if create {
		err := unix.Mkdirat(int(base.Fd()), name, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, pathError("mkdir", filepath.Join(base.Name(), name), err)
		}
	}
	return openDir(base, name)
}

func (f folder) path(name string) string { return filepath.Join(f.dir.Name(), name) }

// close unlocks the folder as well: only these descriptors have the locks.
// Nothing is written through them, so errors of close(2) don't matter: the leases
// stand as they are.
func (f folder) close() {
	for _, file := range [...]*os.File{f.lock, f.dir, f.base} {
		file.Close() // nil has none
	}
}

// leave is close for a locked folder. One of its own in the data directory goes
// if it has no lease file, so that none stays of networks that were removed.
// What can't be removed may stay; above all a lease file that was set aside.
func (f folder) leave() {
	if f.base != nil {
		if _, err := f.stat(fileName); errors.Is(err, fs.ErrNotExist) {
			_ = errors.Join(f.remove(tempName), f.remove(lockName))
			_ = unix.Unlinkat(int(f.base.Fd()), filepath.Base(f.dir.Name()), unix.AT_REMOVEDIR)
		}
	}
	f.close()
}

func (f folder) stat(name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(f.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, pathError("stat", f.path(name), err)
}

// read returns the lease file. One that is too long is an errBroken.
func (f folder) read() ([]byte, error) {
	// O_NONBLOCK: the opening of a FIFO must not wait for its writer.
	file, err := openAt(f.dir, fileName, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, model.Errorf(model.ErrConflict, "%s is not a regular file", file.Name())
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s: %w: %d bytes", file.Name(), errBroken, info.Size())
	}
	// Nobody writes to a file that has got its name, so this is its length.
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return data, nil
}

// save replaces the lease file by l: after a crash there is the old or the new one.
//
// The directory is not synced, which would double the wait. A power cut may
// then bring back the lease file of some seconds before; that ends all
// containers, so at worst one gets another address when it starts again.
func (f folder) save(l *leases) error {
	if err := f.writeTemp(l.encode()); err != nil {
		return err
	}
	dir := int(f.dir.Fd())
	if err := unix.Renameat(dir, tempName, dir, fileName); err != nil {
		return errors.Join(pathError("rename", f.path(tempName), err), f.remove(tempName))
	}
	f.sign(l)
	return nil
}

// saveInPlace writes leases over the present ones, if they take no more room: most
// file systems need no space for that. It is the last resort on a full disk: a
// process that reads without the lock may find the file half written, and a power
// cut may leave it so.
func (f folder) saveInPlace(l *leases) error {
	st, err := f.stat(fileName)
	if err != nil {
		return err
	}
	data := l.encode()
	room := int(st.Size) - len(data)
	if room < 0 {
		return pathError("write", f.path(fileName), unix.ENOSPC)
	}
	data = append(data, bytes.Repeat([]byte{'\n'}, room)...)
	if err := f.write(fileName, 0, data); err != nil {
		return err
	}
	f.sign(l)
	return nil
}

// probe fails if save would.
func (f folder) probe(l *leases) error {
	if err := f.writeTemp(l.encode()); err != nil {
		return err
	}
	return f.remove(tempName)
}

// writeTemp writes a new temporary file. It leaves none if that fails.
func (f folder) writeTemp(data []byte) error {
	// A process that was killed may have left one.
	if err := f.remove(tempName); err != nil {
		return err
	}
	err := f.write(tempName, unix.O_CREAT|unix.O_EXCL, data)
	if err != nil {
		return errors.Join(err, f.remove(tempName))
	}
	return nil
}

// write writes to a file from its start, and waits for the disk.
func (f folder) write(name string, flags int, data []byte) error {
	file, err := openAt(f.dir, name, unix.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = pathError("fdatasync", file.Name(), unix.Fdatasync(int(file.Fd())))
	}
	return errors.Join(err, file.Close())
}

// isFull reports whether an error means that there is no space left.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// remove deletes a file; one that is missing is no error.
func (f folder) remove(name string) error {
	err := unix.Unlinkat(int(f.dir.Fd()), name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return pathError("unlink", f.path(name), err)
}

// setAside gives the lease file a second name under which it stays when it is
// replaced. The name is empty if too many broken ones are kept already.
func (f folder) setAside() (name string, err error) {
	dir := int(f.dir.Fd())
	for n := 1; n <= maxAside; n++ {
		name = fmt.Sprintf("%s.broken-%d", fileName, n)
		err = unix.Linkat(dir, fileName, dir, name, 0)
		if !errors.Is(err, fs.ErrExist) {
			return name, pathError("link", f.path(name), err)
		}
	}
	return "", nil
}

// openDir opens a directory of parent; nil stands for an absolute name.
func openDir(parent *os.File, name string) (*os.File, error) {
	dir, err := openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	var path *fs.PathError
	if errors.Is(err, unix.ENOTDIR) && errors.As(err, &path) {
		return nil, model.Errorf(model.ErrConflict, "%s is no directory, or a link to one", path.Path)
	}
	return dir, err
}

// openAt opens a file of parent; nil stands for an absolute name.
func openAt(parent *os.File, name string, flags int, perm uint32) (*os.File, error) {
	at, path := unix.AT_FDCWD, name
	if parent != nil {
		at, path = int(parent.Fd()), filepath.Join(parent.Name(), name)
	}
	fd, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, model.Errorf(model.ErrConflict, "%s is a symbolic link, which is not followed", path)
	}
	if err != nil {
		return nil, pathError("open", path, err)
	}
	_ = unix.SetNonblock(fd, false) // O_NONBLOCK has served; os.File would begin to poll the file
	return os.NewFile(uintptr(fd), path), nil
}

// pathError is the error of a system call, if there is one, with its path.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
