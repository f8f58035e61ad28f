package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
)

// openBase opens the data directory, which must not be a symbolic link. Its
// parents may be, as /var is on some systems, where only root could have made
// the link; others are a [model.ErrConflict]. path has no trailing slash, which
// would follow a link.
func openBase(path string) (*os.File, error) {
	dir, err := openUnlinked(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	dir, err = openUnlinked(resolved)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	return openDir(nil, resolved) // openat2(2) is Linux 5.6's; or an error in our words
}

// openUnlinked opens a directory on whose path there is no symbolic link.
func openUnlinked(path string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// maxLinks is the kernel's own bound (MAXSYMLINKS of linux/namei.h).
const maxLinks = 40

// resolve replaces the symbolic links among a path's parents.
func resolve(path string) (string, error) {
	done, rest := "/", strings.Split(strings.TrimPrefix(path, "/"), "/")
	for links := 0; len(rest) > 1; {
		next := filepath.Join(done, rest[0])
		var st unix.Stat_t
		if err := unix.Lstat(next, &st); err != nil {
			return "", &fs.PathError{Op: "lstat", Path: next, Err: err}
		}
		rest = rest[1:]
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			done = next
			continue
		}
		if err := onlyRootChanges(done, next, st); err != nil {
			return "", err
		}
		target, err := os.Readlink(next)
		if links++; err == nil && links > maxLinks {
			err = &fs.PathError{Op: "readlink", Path: next, Err: unix.ELOOP}
		}
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.FieldsFunc(target, func(c rune) bool { return c == '/' }), rest...)
	}
	return filepath.Join(done, rest[0]), nil
}

// onlyRootChanges reports an error if another user made a symbolic link, or
// could replace it in its directory.
func onlyRootChanges(dir, link string, of unix.Stat_t) error {
	var in unix.Stat_t
	if err := unix.Stat(dir, &in); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if isOthers(of) || isOthers(in) || in.Mode&0o022 != 0 && in.Mode&unix.S_ISVTX == 0 {
		return fmt.Errorf("%s is a symbolic link that other users can change, and so is not followed; name the directory that it leads to: %w",
			link, model.ErrConflict)
	}
	return nil
}

// isOthers reports whether a file belongs to another user than root and the caller.
func isOthers(st unix.Stat_t) bool { return st.Uid != 0 && int(st.Uid) != os.Geteuid() }

// secure makes sure that no other user can hold a folder's locks or replace its
// files: a mode that is too wide is repaired. A folder of another user, and a
// data directory that is also used for something else, are a [model.ErrConflict].
func (s *Store) secure(f folder) error {
	if f.base == nil {
		return s.secureDir(f.dir, 0o077, "")
	}
	mask := uint32(0o022)
	if f.base.Name() == DefaultDir { // the locks of the network flatnet lie there
		mask = 0o077
	}
	return errors.Join(s.secureDir(f.base, mask, filepath.Base(f.dir.Name())), s.secureDir(f.dir, 0o077, "."))
}

// secureDir takes the permissions of mask from other users. own is a file in the
// directory that is flatnet's; "." stands for all of them.
func (s *Store) secureDir(dir *os.File, mask uint32, own string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: dir.Name(), Err: err}
	}
	mode := st.Mode & 0o7777
	if isOthers(st) {
		return fmt.Errorf("%s belongs to user %d, but must belong to root; run chown on it, or choose another ipam.dataDir: %w",
			dir.Name(), st.Uid, model.ErrConflict)
	}
	harm := mask
	if mode&unix.S_ISVTX != 0 { // others can't replace what isn't theirs
		harm &^= 0o022
	}
	if mode&harm == 0 {
		return nil
	}
	if dir.Name() != DefaultDir && own != "." {
		if err := onlyLeases(dir, mode, own); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(int(dir.Fd()), mode&^mask); err != nil {
		return &fs.PathError{Op: "chmod", Path: dir.Name(), Err: err}
	}
	s.say("directory %s was open to other users, who could hold its locks; its mode was %04o and now is %04o", dir.Name(), mode, mode&^mask)
	return nil
}

// onlyLeases reports an error if a directory has anything but own in it that is
// not flatnet's, for which other users may need it.
func onlyLeases(dir *os.File, mode uint32, own string) error {
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		lock := filepath.Join(name, lockName)
		if strings.HasPrefix(name, fileName) || name == lockName || name == own ||
			e.IsDir() && unix.Fstatat(int(dir.Fd()), lock, new(unix.Stat_t), unix.AT_SYMLINK_NOFOLLOW) == nil {
			continue
		}
		return fmt.Errorf("%s is open to other users (mode %04o), so they could hold the locks of leases in it, but it is used for %s as well; run chmod go= on it, or choose another ipam.dataDir: %w",
			dir.Name(), mode, name, model.ErrConflict)
	}
	return nil
}
