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
// even if the directory is moved or replaced meanwhile. The zero folder is one
// that is not there; writing to it does nothing.
type folder struct {
	base *os.File // the data directory; nil if dir is that
	dir  *os.File
	lock *os.File // nil: not locked, for reading only
}

// openFolder opens the folder of a network in the data directory. Without
// create, one that is missing is an fs.ErrNotExist.
func openFolder(dataDir, network string, create bool) (folder, error) {
	if err := model.ValidName(network); err != nil {
		return folder{}, fmt.Errorf("network name: %w: %w", err, model.ErrInvalid)
	}
	if err := ValidNetwork(network); err != nil {
		return folder{}, err
	}
	if !filepath.IsAbs(dataDir) {
		return folder{}, fmt.Errorf("data directory %q is not an absolute path: %w", dataDir, model.ErrInvalid)
	}
	f, err := openPath(filepath.Clean(dataDir), network, create)
	if err != nil {
		return f, fmt.Errorf("data directory %q (ipam.dataDir): %w", dataDir, err)
	}
	return f, nil
}

// ValidNetwork reports an error unless a network of that name can have a folder.
func ValidNetwork(network string) error {
	if strings.HasPrefix(network, fileName) {
		return fmt.Errorf("network name %q is the lease file's: %w", network, model.ErrInvalid)
	}
	return nil
}

func openPath(path, network string, create bool) (folder, error) {
	base, err := openBase(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return folder{}, err
		}
		base, err = openBase(path)
	}
	if err != nil || network == plainNetwork {
		return folder{dir: base}, err
	}
	dir, err := openDir(base, network)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mkdirat(int(base.Fd()), network, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			base.Close()
			return folder{}, &fs.PathError{Op: "mkdir", Path: filepath.Join(path, network), Err: err}
		}
		dir, err = openDir(base, network)
	}
	if err != nil {
		base.Close()
		return folder{}, err
	}
	return folder{base: base, dir: dir}, nil
}

func (f folder) path(name string) string { return filepath.Join(f.dir.Name(), name) }

// close unlocks the folder as well: only these descriptors have the locks.
// Nothing is written through them, so what close(2) may say is of no interest:
// the leases stand as they are.
func (f folder) close() {
	for _, file := range [...]*os.File{f.lock, f.dir, f.base} {
		if file != nil {
			file.Close()
		}
	}
}

// leave is close for a locked folder. One of its own in the data directory goes
// if it has no lease file, so that none stays of networks that were removed.
// What can't be removed may stay; above all a lease file that was set aside.
func (f folder) leave() {
	if f.base != nil && f.lock != nil && errors.Is(f.stat(fileName, new(unix.Stat_t)), fs.ErrNotExist) {
		_ = errors.Join(f.remove(tempName), f.remove(lockName))
		_ = unix.Unlinkat(int(f.base.Fd()), filepath.Base(f.dir.Name()), unix.AT_REMOVEDIR)
	}
	f.close()
}

// read returns the lease file. One that is too long is an errBroken.
func (f folder) read() ([]byte, error) {
	// Not blocking, lest something that is no file holds us up.
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
		return nil, fmt.Errorf("%s is not a regular file: %w", file.Name(), model.ErrConflict)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%w: %d bytes", errBroken, info.Size())
	}
	// Nobody writes to a file that has got its name, so this is its length.
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return data, nil
}

// write replaces the lease file: after a crash there is the old or the new one.
//
// The directory is not synced, which would double the wait. A power cut may
// then bring back the lease file of some seconds before; that ends all
// containers, so at worst one gets another address when it starts again.
func (f folder) write(data []byte) error {
	if f.dir == nil {
		return nil
	}
	if err := f.writeTemp(data); err != nil {
		return err
	}
	dir := int(f.dir.Fd())
	if err := unix.Renameat(dir, tempName, dir, fileName); err != nil {
		err = &fs.PathError{Op: "rename", Path: f.path(tempName), Err: err}
		return errors.Join(err, f.remove(tempName))
	}
	return nil
}

// save replaces the lease file by l.
func (f folder) save(l *leases) error {
	err := f.write(l.encode())
	if err == nil && f.dir != nil && !l.unsure {
		f.sign()
	}
	return err
}

// shrink writes leases over the present ones, if they take no more room: most
// file systems need no space for that. It is the last resort on a full disk: a
// process that reads without the lock may find the file half written, and a power
// cut may leave it so.
func (f folder) shrink(l *leases) error {
	file, err := openAt(f.dir, fileName, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	data := l.encode()
	room := int(info.Size()) - len(data)
	if !info.Mode().IsRegular() || room < 0 {
		return fmt.Errorf("%s can't be written in place: %w", file.Name(), unix.ENOSPC)
	}
	if _, err := file.WriteAt(append(data, bytes.Repeat([]byte{'\n'}, room)...), 0); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(file.Fd())); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: file.Name(), Err: err}
	}
	if !l.unsure {
		f.sign()
	}
	return nil
}

// isFull reports whether an error means that there is no space left.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// probe fails if write would.
func (f folder) probe(data []byte) error {
	if err := f.writeTemp(data); err != nil {
		return err
	}
	return f.remove(tempName)
}

func (f folder) writeTemp(data []byte) error {
	// A process that was killed may have left one.
	if err := f.remove(tempName); err != nil {
		return err
	}
	file, err := openAt(f.dir, tempName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		if err = unix.Fdatasync(int(file.Fd())); err != nil {
			err = &fs.PathError{Op: "fdatasync", Path: file.Name(), Err: err}
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, f.remove(tempName))
	}
	return nil
}

// remove deletes a file; one that is missing is no error.
func (f folder) remove(name string) error {
	err := unix.Unlinkat(int(f.dir.Fd()), name, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "unlink", Path: f.path(name), Err: err}
	}
	return nil
}

// setAside gives the lease file a second name under which it stays when it is
// replaced. The name is empty if too many broken ones are kept already.
func (f folder) setAside() (name string, err error) {
	dir := int(f.dir.Fd())
	for n := 1; n <= maxAside; n++ {
		name = fmt.Sprintf("%s.broken-%d", fileName, n)
		err = unix.Linkat(dir, fileName, dir, name, 0)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", &fs.PathError{Op: "link", Path: f.path(name), Err: err}
		}
	}
	return "", nil
}

func openDir(parent *os.File, name string) (*os.File, error) {
	dir, err := openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	var path *fs.PathError
	if errors.Is(err, unix.ENOTDIR) && errors.As(err, &path) {
		return nil, fmt.Errorf("%s is no directory, or a link to one: %w", path.Path, model.ErrConflict)
	}
	return dir, err
}

// openAt opens a file of parent; nil stands for an absolute name.
func openAt(parent *os.File, name string, flags int, perm uint32) (*os.File, error) {
	at, path := unix.AT_FDCWD, name
	if parent != nil {
		at, path = int(parent.Fd()), filepath.Join(parent.Name(), name)
	}
	for {
		fd, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		switch {
		case err == nil && flags&unix.O_NONBLOCK != 0:
			// It did not keep us waiting; os.File would begin to poll it.
			if err := unix.SetNonblock(fd, false); err != nil {
				return nil, errors.Join(&fs.PathError{Op: "fcntl", Path: path, Err: err}, unix.Close(fd))
			}
			return os.NewFile(uintptr(fd), path), nil
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("%s is a symbolic link, which is not followed: %w", path, model.ErrConflict)
		case !errors.Is(err, unix.EINTR):
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}
