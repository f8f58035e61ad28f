package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
	"flatnet/internal/flock"
)

// lockWait is how long others may hold the lock. They do for a millisecond
// each, so this passes only if one of them is stuck.
const lockWait = 10 * time.Second

// locked returns the folder with its locks, which make other processes and
// goroutines wait, or a [model.ErrBusy] after the wait. Without create, a
// folder that has neither lock nor lease file is an fs.ErrNotExist.
//
// The lock file is what other tools may lock, too. But somebody may remove it
// while it is held, and others then make and lock a new one; so the folder
// itself is locked as well.
func (f folder) locked(create bool, wait time.Duration) (folder, error) {
	end := time.Now().Add(wait)
	file, err := f.openLock(create)
	if err != nil {
		return f, err
	}
	f.lock = file
	for _, each := range [...]*os.File{f.lock, f.dir} {
		err := flock.Lock(each, unix.LOCK_EX, time.Until(end))
		if errors.Is(err, flock.ErrHeld) {
			err = fmt.Errorf("%w: %w", err, model.ErrBusy)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// errGone is a folder that was removed or replaced while its lock was waited for.
var errGone = fmt.Errorf("removed or replaced while its lock was waited for; try again: %w", model.ErrBusy)

// maxReopened bounds how often one call opens a folder again that is gone.
const maxReopened = 100

// lock opens and locks the network's folder. Another process may have removed
// it meanwhile, with the network's last lease; then it is opened, and if create
// is set made, again.
func (s *Store) lock(create bool) (f folder, err error) {
	end := time.Now().Add(s.wait)
	for range maxReopened {
		f.close()
		f, err = openFolder(s.cfg.Dir, s.cfg.Network, create)
		if err == nil && create {
			err = s.secure(f)
		}
		if err == nil {
			f, err = f.locked(create, time.Until(end))
		}
		if err == nil {
			err = f.present()
		}
		if !errors.Is(err, errGone) && !(create && errors.Is(err, fs.ErrNotExist)) {
			break
		}
	}
	return f, err
}

// present is an errGone unless the folder still is the one of its path.
func (f folder) present() error {
	at, name := unix.AT_FDCWD, f.dir.Name()
	if f.base != nil {
		at, name = int(f.base.Fd()), filepath.Base(name)
	}
	var is, was unix.Stat_t
	if err := unix.Fstat(int(f.dir.Fd()), &was); err != nil {
		return &fs.PathError{Op: "fstat", Path: f.dir.Name(), Err: err}
	}
	err := unix.Fstatat(at, name, &is, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || is.Dev != was.Dev || is.Ino != was.Ino {
		return fmt.Errorf("%s was %w", f.dir.Name(), errGone)
	}
	return nil
}

func (f folder) stat(name string, st *unix.Stat_t) error {
	return unix.Fstatat(int(f.dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (f folder) openLock(create bool) (*os.File, error) {
	if !create {
		lock, err := openAt(f.dir, lockName, unix.O_RDWR, 0)
		if errors.Is(err, unix.EROFS) { // a DEL without a lease writes nothing
			lock, err = openAt(f.dir, lockName, unix.O_RDONLY, 0)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return lock, err
		}
		// Leases without a lock need one; where there is neither, nothing is made.
		if err := f.stat(fileName, new(unix.Stat_t)); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: f.path(fileName), Err: err}
		}
	}
	return openAt(f.dir, lockName, unix.O_RDWR|unix.O_CREAT, 0o600)
}
