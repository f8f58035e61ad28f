// Package lockdir keeps a file that processes of root share in a directory of its own.
// A process locks the directory, reads the file and replaces it whole; others may
// read it meanwhile. The directory is trusted before it is used: no other user may
// change what it contains or hold its locks.
//
// Everything is opened from the directory's descriptor and without following links,
// so that nothing outside is touched even if the directory is moved or replaced
// meanwhile. Errors of system calls name the file.
package lockdir

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/flock"
	"flatnet/internal/sysctl"

	"golang.org/x/sys/unix"
)

// lockName is the name of the file that is locked, and by other tools may be, too.
const lockName = ".lock"

// A Place is where a Dir is.
type Place struct {
	Base string // a directory by an absolute path
	Sub  string // the name of the Dir in it; empty: Base itself
	Own  bool   // nothing but Dirs is in Base, so its mode may be changed
	File string // the name of the file, with which the names of no Dir may begin
	Warn func(format string, args ...any)
	// Dry is for a caller that wants to know what it would do: nothing is made, locked or
	// written, and only errors that can be seen are returned. A missing directory is an
	// empty one.
	Dry bool
}

// A Dir is an open directory. A nil Dir has nothing to close.
type Dir struct {
	Place
	Unsure bool // the file is not signed from now on

	path string
	dir  *os.File
	lock *os.File // nil: not locked, for reading only
	boot string   // this boot's ID (random(4)), if locked and known
}

// Open opens the directory for reading without the lock. One that is missing is an
// fs.ErrNotExist; one whose path other users can change, or that is not a directory, a
// [model.ErrConflict].
func (p Place) Open() (*Dir, error) { return p.open(false) }

func (p Place) open(create bool) (*Dir, error) {
	p.Base = filepath.Clean(p.Base) // a trailing slash would follow a link
	d := &Dir{Place: p, path: filepath.Join(p.Base, p.Sub)}
	// Nearly always the directory is there and no link in its path, as one call shows
	// (Linux 5.6). Any other answer is for the checks that follow.
	how := unix.OpenHow{Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	if fd, err := unix.Openat2(unix.AT_FDCWD, d.path, &how); err == nil {
		d.dir = os.NewFile(uintptr(fd), d.path)
		return d, nil
	}
	err := d.checkPath()
	if err == nil && create {
		err = os.MkdirAll(d.path, 0o700)
	}
	if err == nil {
		d.dir, err = os.OpenFile(d.path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// maxReopened bounds how often one call opens a directory again that is gone.
const maxReopened = 100

// errGone reports a directory that was removed or replaced while its lock was
// waited for.
var errGone = errors.New("removed or replaced while its lock was waited for; try again")

// Lock opens the directory and locks it against other processes and goroutines; after
// the wait, that is a [model.ErrBusy]. With create, it is made if it is missing, and
// secured. Another process may remove it meanwhile (see [Dir.Leave]); then it is opened
// again. Without create, one that has neither lock nor file is an fs.ErrNotExist.
func (p Place) Lock(create bool, wait time.Duration) (d *Dir, err error) {
	if p.Dry {
		return p.look(create)
	}
	end := time.Now().Add(wait)
	for range maxReopened {
		d, err = p.open(create)
		if err == nil && create {
			err = d.secure()
		}
		if err == nil {
			err = d.acquire(create, end)
		}
		if err == nil {
			return d, nil
		}
		d.Close()
		if !errors.Is(err, errGone) && !(create && errors.Is(err, fs.ErrNotExist)) {
			break
		}
	}
	return nil, err
}

// acquire locks the directory until a time. After an error the caller must close it.
//
// Somebody may remove the lock file while it is locked, and others then make and
// lock a new one; so the directory itself is locked as well.
func (d *Dir) acquire(create bool, end time.Time) (err error) {
	if d.lock, err = d.openLock(create); err != nil {
		return err
	}
	for _, file := range [...]*os.File{d.lock, d.dir} {
		if err := flock.Lock(file, unix.LOCK_EX, time.Until(end)); err != nil {
			return err
		}
	}
	d.boot, _ = sysctl.Proc.Get("kernel/random/boot_id")
	locked, err := d.dir.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(d.path); err != nil || !os.SameFile(now, locked) {
		return model.Errorf(model.ErrBusy, "%s was %w", d.path, errGone)
	}
	return nil
}

// openLock opens the lock file. It makes one if create is set, or if there is a file
// without a lock. On a read-only file system it is not opened for writing, which a
// caller that changes nothing doesn't need.
func (d *Dir) openLock(create bool) (*os.File, error) {
	flags := os.O_RDWR
	if !create {
		_, err := d.stat(d.File)
		create = err == nil
	}
	if create {
		flags |= os.O_CREATE
	}
	lock, err := d.open(lockName, flags)
	if errors.Is(err, unix.EROFS) {
		if lock, err := d.open(lockName, os.O_RDONLY); err == nil {
			return lock, nil
		}
	}
	return lock, err
}

// LockBytes locks bytes of the directory for sharing until the file that it returns
// is closed, however the process ends. They are independent of Lock.
func (d *Dir) LockBytes(offsets []int64) (*os.File, error) {
	if d.Dry {
		return nil, nil
	}
	fd, err := unix.Openat(int(d.dir.Fd()), ".", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	for _, offset := range offsets {
		if err := flock.LockByte(f, offset, unix.LOCK_SH, 0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// LockedBytes returns the offsets among n from an offset on that LockBytes has locked
// for others.
func (d *Dir) LockedBytes(offset, n int64) (map[int64]bool, error) {
	if d.dir == nil {
		return nil, nil
	}
	return flock.LockedBytes(d.dir, offset, n)
}

// Close unlocks the directory as well: only these descriptors have the locks.
// Nothing is written through them, so errors of close(2) don't matter.
func (d *Dir) Close() {
	if d != nil {
		d.lock.Close() // nil has nothing to close
		d.dir.Close()
	}
}

// Leave is Close for a locked directory. One in Base is removed if it has no file. What
// can't be removed may stay; above all a file that was set aside.
func (d *Dir) Leave() {
	if d != nil && d.Sub != "" && !d.Dry {
		if _, err := d.stat(d.File); errors.Is(err, fs.ErrNotExist) {
			_ = errors.Join(d.Remove(d.temp()), d.Remove(lockName), unix.Rmdir(d.path))
		}
	}
	d.Close()
}

// checkPath reports an error unless the directory and Base can be opened by name. They
// must not be symbolic links. Their parents may be, as /var is on some systems, where
// only root could have made the link; others are a [model.ErrConflict]. What is missing
// is no error.
func (d *Dir) checkPath() error {
	if err := checkLinks(filepath.Dir(d.Base)); err != nil {
		return err
	}
	for _, path := range slices.Compact([]string{d.Base, d.path}) {
		if info, err := os.Lstat(path); err == nil && !info.IsDir() {
			return model.Errorf(model.ErrConflict, "%s is a symbolic link or no directory; name the directory itself", path)
		}
	}
	return nil
}

// checkLinks reports an error if another user made a symbolic link of a path, or
// could replace it in its directory. The path may have "..", which must not be
// resolved before the links are.
func checkLinks(path string) error {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return nil
	}
	dir := path[:slash]
	target, err := os.Readlink(path)
	if err != nil { // no link
		return checkLinks(dir)
	}
	if _, err := os.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // such as ELOOP: else it leads to an end
	}
	var in, of unix.Stat_t
	if err := errors.Join(unix.Stat(dir+"/", &in), unix.Lstat(path, &of)); err != nil {
		return pathError("stat", path, err)
	}
	if isOthers(of) || isOthers(in) || in.Mode&0o022 != 0 && in.Mode&unix.S_ISVTX == 0 {
		return model.Errorf(model.ErrConflict,
			"%s is a symbolic link that other users can change, so it is not followed; name the directory that it leads to", path)
	}
	if !filepath.IsAbs(target) {
		target = dir + "/" + target
	}
	return cmp.Or(checkLinks(target), checkLinks(dir))
}

// isOthers reports whether a file belongs to another user than root and the caller.
func isOthers(st unix.Stat_t) bool { return st.Uid != 0 && int(st.Uid) != os.Geteuid() }

// secure makes sure that no other user can hold the directory's locks or replace its
// files: a mode that is too wide is repaired. A directory of another user, and a Base
// that is also used for something else, are a [model.ErrConflict].
func (d *Dir) secure() error {
	mask := uint32(0o022)
	if d.Sub == "" || d.Own { // it has locks itself
		mask = 0o077
	}
	if d.Sub == "" {
		return d.secureDir(d.dir, mask)
	}
	base, err := os.OpenFile(d.Base, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer base.Close()
	return errors.Join(d.secureDir(base, mask), d.secureDir(d.dir, 0o077))
}

// secureDir takes the permissions of mask from other users.
func (d *Dir) secureDir(dir *os.File, mask uint32) error {
	path := dir.Name()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return pathError("fstat", path, err)
	}
	if isOthers(st) {
		return model.Errorf(model.ErrConflict,
			"%s belongs to user %d, but must belong to root; run chown on it, or choose another directory", path, st.Uid)
	}
	mode, harm := st.Mode&0o7777, mask
	if mode&unix.S_ISVTX != 0 { // others can't replace what isn't theirs
		harm &^= 0o022
	}
	if mode&harm == 0 {
		return nil
	}
	if path == d.Base && !d.Own {
		if err := d.checkContent(dir, mode); err != nil {
			return err
		}
	}
	if d.Dry {
		return nil
	}
	if err := unix.Fchmod(int(dir.Fd()), mode&^mask); err != nil {
		return pathError("chmod", path, err)
	}
	d.Warn("directory %s was open to other users, who could hold its locks; its mode was %04o and now is %04o",
		path, mode, mode&^mask)
	return nil
}

// checkContent reports an error if Base, which is open, has anything in it that is not of a
// Dir, for which other users may need it.
func (d *Dir) checkContent(base *os.File, mode uint32) error {
	names, err := base.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(d.Base, name)
		info, err := os.Lstat(path)
		_, lerr := os.Lstat(filepath.Join(path, lockName))
		isDir := path == d.path || err == nil && info.IsDir() && lerr == nil
		if !isDir && !strings.HasPrefix(name, d.File) && name != lockName {
			return model.Errorf(model.ErrConflict,
				"%s is open to other users (mode %04o), so they could hold the locks in it, but it is used for %s as well; "+
					"run chmod go= on it, or choose another directory", d.Base, mode, name)
		}
	}
	return nil
}
