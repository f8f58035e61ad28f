package lockdir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
	"flatnet/internal/sysctl"
	"flatnet/internal/trace"
)

// maxAside bounds how many files are set aside. The first ones tell the most; a host
// on which files keep breaking must not fill up with them.
const maxAside = 9

// FilePath returns the path of the file.
func (d *Dir) FilePath() string { return filepath.Join(d.path, d.File) }

func (d *Dir) temp() string { return d.File + ".tmp" }

// Read returns the file's content, but not more bytes than limit and one. It needs no
// lock, for a file is replaced whole, except by Overwrite.
func (d *Dir) Read(limit int64) ([]byte, error) {
	file, err := d.open(d.File, os.O_RDONLY|unix.O_NONBLOCK) // in case it has become a FIFO meanwhile
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var b bytes.Buffer
	if info, err := file.Stat(); err == nil {
		b.Grow(int(min(info.Size(), limit)) + bytes.MinRead)
	}
	_, err = b.ReadFrom(io.LimitReader(file, limit+1))
	return b.Bytes(), err
}

// Replace replaces and signs the file: after a crash there is the old or the new one.
//
// The directory is not synced, which would double the wait. A power cut may
// then bring back the file of some seconds before.
func (d *Dir) Replace(data []byte) error {
	t := trace.Call("replace", d.FilePath())
	err := d.replace(data)
	t.Done(err)
	return err
}

func (d *Dir) replace(data []byte) error {
	if d.Dry {
		return d.writable()
	}
	err := d.writeTemp(data, true)
	if err == nil {
		fd := int(d.dir.Fd())
		err = pathError("rename", d.FilePath(), unix.Renameat(fd, d.temp(), fd, d.File))
	}
	if err != nil {
		return errors.Join(err, d.Remove(d.temp()))
	}
	d.Sign()
	return nil
}

// Probe fails if Replace would, and changes nothing. It does not wait for the disk: a
// file system that has no room says so when it is written to, and what a disk that
// breaks says later is for Replace.
func (d *Dir) Probe(data []byte) error {
	if d.Dry {
		return d.writable()
	}
	return errors.Join(d.writeTemp(data, false), d.Remove(d.temp()))
}

// writeTemp writes a new temporary file, in place of one that a process left which
// was killed. After an error the caller must remove it.
func (d *Dir) writeTemp(data []byte, sync bool) error {
	err := d.write(d.temp(), os.O_CREATE|os.O_EXCL, data, sync)
	if errors.Is(err, fs.ErrExist) {
		if err = d.Remove(d.temp()); err == nil {
			err = d.write(d.temp(), os.O_CREATE|os.O_EXCL, data, sync)
		}
	}
	return err
}

// Overwrite writes over the present content, and over what remains of it line feeds,
// and signs the file. It reports whether it could. On a full disk most file systems
// need no space for that, if the file does not grow; and there it is the last resort: a
// process that reads without the lock may find the file half written, and a power cut
// may leave it so.
func (d *Dir) Overwrite(data []byte) bool {
	if d.Dry {
		return true
	}
	st, err := d.stat(d.File)
	room := int(st.Size) - len(data)
	done := err == nil && room >= 0 && d.write(d.File, 0, append(data, bytes.Repeat([]byte{'\n'}, room)...), true) == nil
	if done {
		d.Sign()
	}
	return done
}

// IsFull reports whether an error means that there is no space left.
func IsFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// write writes to a file from its start, and with sync waits for the disk.
func (d *Dir) write(name string, flags int, data []byte, sync bool) error {
	file, err := d.open(name, os.O_WRONLY|unix.O_NONBLOCK|flags)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil && sync {
		err = pathError("fdatasync", file.Name(), unix.Fdatasync(int(file.Fd())))
	}
	return errors.Join(err, file.Close())
}

// SetAside gives the file a second name under which it stays when it is replaced. The
// name is empty if too many are kept already.
func (d *Dir) SetAside() (name string, err error) {
	if d.Dry {
		return "", nil
	}
	fd := int(d.dir.Fd())
	for n := 1; n <= maxAside; n++ {
		name = fmt.Sprintf("%s.broken-%d", d.File, n)
		if err = unix.Linkat(fd, d.File, fd, name, 0); !errors.Is(err, fs.ErrExist) {
			return name, pathError("link", filepath.Join(d.path, name), err)
		}
	}
	return "", nil
}

// Remove deletes a file of the directory; one that is missing is no error.
func (d *Dir) Remove(name string) error {
	if d.Dry {
		return nil
	}
	err := unix.Unlinkat(int(d.dir.Fd()), name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return pathError("unlink", filepath.Join(d.path, name), err)
}

// open opens or makes a regular file.
func (d *Dir) open(name string, flags int) (*os.File, error) {
	path := filepath.Join(d.path, name)
	if d.dir == nil {
		return nil, pathError("open", path, unix.ENOENT)
	}
	if flags&os.O_EXCL == 0 { // else it is made
		if st, err := d.stat(name); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, model.Errorf(model.ErrConflict, "%s must be a regular file, and no link to one", path)
		}
	}
	fd, err := -1, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Openat(int(d.dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// stat describes a file, without following links.
func (d *Dir) stat(name string) (st unix.Stat_t, err error) {
	if d.dir == nil {
		return st, pathError("stat", filepath.Join(d.path, name), unix.ENOENT)
	}
	err = unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, pathError("stat", filepath.Join(d.path, name), err)
}

// pathError adds the call and the file to the error of a system call, if there is
// one.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// An older copy of the file may have been restored, or somebody may have edited it. So
// the lock file, which is not replaced when the file is, holds a stamp of the last one
// that was signed: the boot and the result of stat(2), of which its inode and, as
// nobody can set it, the time of its last change (ctime) matter most. If the whole
// directory was restored, the copy of the file has others, too.

// stamp describes the file as it is now; empty if that is unknown or d is Unsure. Its
// length is always the same, so that one can be written over another even if the disk is
// full.
func (d *Dir) stamp() string {
	st, err := d.stat(d.File)
	if err != nil || d.boot == "" || d.Unsure {
		return ""
	}
	return fmt.Sprintf("%36.36s %016x %016x %016x %016x.%08x %016x.%08x\n",
		d.boot, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
}

// Sign notes the file as it is now. If that can't be noted, it is not signed.
func (d *Dir) Sign() {
	if !d.Dry {
		_, _ = d.lock.WriteAt([]byte(d.stamp()), 0)
	}
}

// Signed reports whether the file is the one that Sign was called for last, and in this
// boot.
func (d *Dir) Signed() bool {
	stamp := d.stamp()
	last := make([]byte, len(stamp))
	n, _ := d.lock.ReadAt(last, 0) // the error is the file's end
	return n > 0 && string(last[:n]) == stamp
}

// OfThisBoot reports whether a file may have been signed in this boot: not if the stamp is
// another boot's. It needs no lock.
func (d *Dir) OfThisBoot() bool {
	lock, err := d.open(lockName, os.O_RDONLY)
	if err != nil {
		return true
	}
	defer lock.Close()
	boot, err := sysctl.Proc.Get("kernel/random/boot_id")
	last := make([]byte, len(boot))
	_, rerr := lock.ReadAt(last, 0)
	return err != nil || rerr != nil || string(last) == boot
}
