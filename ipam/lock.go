package ipam

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
	"flatnet/internal/flock"
)

// lockWait is how long others may hold the lock. They do for a millisecond
// each, so this passes only if one of them is stuck.
const lockWait = 10 * time.Second

// maxReopened bounds how often one call opens a folder again that is gone.
const maxReopened = 100

// errGone reports a folder that was removed or replaced while its lock was
// waited for.
var errGone = errors.New("removed or replaced while its lock was waited for; try again")

// lock opens the network's folder and locks it against other processes and
// goroutines; after the wait, that is a [model.ErrBusy]. Another process may have
// removed the folder meanwhile, with the network's last lease; then it is opened,
// and if create is set made, again. Without create, a folder that has neither lock
// nor lease file is an fs.ErrNotExist.
func (s *Store) lock(create bool) (f folder, err error) {
	end := time.Now().Add(s.wait)
	for range maxReopened {
		f, err = openFolder(s.cfg.Dir, s.cfg.Network, create)
		if err == nil && create {
			err = s.secure(f)
		}
		if err == nil {
			err = f.acquire(create, end)
		}
		if err == nil {
			return f, nil
		}
		f.close()
		if !errors.Is(err, errGone) && !(create && errors.Is(err, fs.ErrNotExist)) {
			break
		}
	}
	return folder{}, err
}

// acquire locks the folder until a time. After an error the caller must close it.
//
// The lock file is what other tools may lock, too. But somebody may remove it
// while it is held, and others then make and lock a new one; so the folder
// itself is locked as well.
func (f *folder) acquire(create bool, end time.Time) (err error) {
	if f.lock, err = f.openLock(create); err != nil {
		return err
	}
	for _, file := range [...]*os.File{f.lock, f.dir} {
		err := flock.Lock(file, unix.LOCK_EX, time.Until(end))
		if errors.Is(err, flock.ErrHeld) {
			return model.Errorf(model.ErrBusy, "%w", err)
		}
		if err != nil {
			return err
		}
	}
	locked, err := f.dir.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(f.dir.Name()); err != nil || !os.SameFile(now, locked) {
		return model.Errorf(model.ErrBusy, "%s was %w", f.dir.Name(), errGone)
	}
	return nil
}

// openLock opens the lock file. It makes one if create is set, or if there are
// leases without a lock. On a read-only file system it is not opened for writing,
// which a DEL without a lease doesn't need.
func (f folder) openLock(create bool) (*os.File, error) {
	flags := unix.O_RDWR
	if _, err := f.stat(fileName); create || err == nil {
		flags |= unix.O_CREAT
	}
	lock, err := openAt(f.dir, lockName, flags, 0o600)
	if errors.Is(err, unix.EROFS) {
		if lock, err := openAt(f.dir, lockName, unix.O_RDONLY, 0); err == nil {
			return lock, nil
		}
	}
	return lock, err
}
