package records

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/flock"

	"golang.org/x/sys/unix"
)

// Wait is how long a verb waits for another one.
const Wait = 10 * time.Second

// A Lock is held until it is closed or the process ends. Nil holds nothing. What is
// written to it can be lost, so errors of Close, which may be called again, don't matter.
type Lock = *os.File

// lock waits for bytes of the file of locks. Only that other holds one for longer is an
// error, a [model.ErrBusy]: without a lock, after a warning, the verb goes on.
func (d Dir) lock(other string, wait time.Duration, how int, at ...int64) (Lock, error) {
	if d.dry {
		return nil, nil
	}
	f, err := d.open()
	for _, offset := range at {
		if err == nil {
			err = flock.LockByte(f, offset, how, wait)
		}
	}
	if errors.Is(err, flock.ErrHeld) {
		flock.UnlockBytes(f)
		f.Close()
		return nil, fmt.Errorf("%s has been under way for %v; try again: %w", other, wait, err)
	}
	d.say(err, noLock, other)
	return f, nil
}

// noLock warns of the risk of having no lock.
const noLock = "no lock (continuing; %s at the same moment may conflict)"

// Turn waits until no other process has a verb of the attachment under way, such as an
// ADD whose runtime was killed.
func (d Dir) Turn(key model.Key) (Lock, error) {
	return d.lock("another call for "+key.String(), Wait, unix.LOCK_EX, key.Place())
}

// Turns takes the turns of all keys that no other process has one of, without a
// wait.
func (d Dir) Turns(keys []model.Key) (free, held []model.Key, turns Lock) {
	if d.dry {
		return keys, nil, nil
	}
	f, err := d.open()
	d.say(err, noLock, "another call for one of these attachments")
	for _, key := range keys {
		if err == nil && errors.Is(flock.LockByte(f, key.Place(), unix.LOCK_EX, 0), flock.ErrHeld) {
			held = append(held, key)
		} else {
			free = append(free, key)
		}
	}
	return free, held, f
}

// Arrive begins an ADD that has no link yet, beside other ADDs of the network and on its
// bridge. Until the lock is closed no removal of what these share goes on: when the link
// has its alias, or never will, and before the ADD itself removes anything.
func (d Dir) Arrive(n *model.Network) (Lock, error) {
	return d.lock("the removal of network "+n.Name, Wait, unix.LOCK_SH, model.Place(n.Name, ""), model.Place("", n.Bridge))
}

// alone is how long the ADD of a network's first container waits to be alone before it looks
// again whether it is the first, and then for twice as long each time, up to tenfold: it may have
// one of two locks meanwhile.
const alone = 20 * time.Millisecond

// Begin is Arrive of an ADD that looks at the network's containers, where the first one decides
// about all others: beside that ADD, there is no other of the network, nor on its bridge. The
// first containers of two ADDs would not see each other. look is called again as long as it
// reports that none is attached and other ADDs are under way.
func (d Dir) Begin(n *model.Network, look func() (first bool, err error)) (arrival Lock, err error) {
	for start := time.Now(); ; {
		if arrival, err = d.Arrive(n); err != nil {
			return nil, err
		}
		if first, err := look(); !first || err != nil {
			return arrival, err
		}
		arrival.Close()
		arrival, err = d.lock("another ADD of network "+n.Name, min(max(alone, time.Since(start)), 10*alone), unix.LOCK_EX, model.Place(n.Name, ""), model.Place("", n.Bridge))
		if err == nil {
			_, err = look()
			return arrival, err
		}
		if time.Since(start) > Wait {
			return nil, model.Errorf(model.ErrBusy, "other ADDs of network %s were under way for %v; try again", n.Name, Wait)
		}
	}
}

// Alone locks the place (see [model.Place]) of a network or bridge for its removal.
func (d Dir) Alone(place int64, wait time.Duration) (Lock, error) {
	return d.lock("an ADD", wait, unix.LOCK_EX, place)
}

// Bridge waits until no other ADD makes the bridge, or looks for networks that share it.
func (d Dir) Bridge(bridge string) (Lock, error) {
	return d.lock("an ADD of another network on bridge "+bridge, Wait, unix.LOCK_EX, model.Place(model.SharedMark, bridge))
}

// Peers waits until no other process changes routes to peers.
func (d Dir) Peers() (Lock, error) {
	return d.lock("a change of routes to peers", Wait, unix.LOCK_EX, model.Place("/peers", "")) // no network's name
}

// Memory opens the file of locks for what package host keeps in it; nil if that fails.
func (d Dir) Memory() *os.File {
	if d.dry {
		return nil
	}
	f, _ := d.open()
	return f
}

// lockFile is the name of the file of locks.
const lockFile = ".lock"

// open opens the file of locks.
func (d Dir) open() (Lock, error) {
	err := cmp.Or(os.MkdirAll(d.path, 0o700), d.keepPrivate(filepath.Dir(d.path)), d.keepPrivate(d.path))
	if err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(d.path, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// keepPrivate closes a directory of records, such as one that mkdir made, to other
// users, who could hold its locks.
func (d Dir) keepPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil || st.Mode().Perm()&0o077 == 0 {
		return err
	}
	if !st.IsDir() {
		return model.Errorf(model.ErrConflict, "%s must be a directory", dir)
	}
	if err = os.Chmod(dir, 0o700); err == nil {
		d.warn(fmt.Sprintf("directory %s was open to other users, who could hold its locks; its mode was %04o and now is 0700",
			dir, st.Mode().Perm()))
	}
	return err
}
