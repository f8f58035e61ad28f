package ipam

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
)

// openBase opens, or if create is set makes, the data directory. That must not be a
// symbolic link. Its parents may be, as /var is on some systems, where only root
// could have made the link; others are a [model.ErrConflict]. path has no trailing
// slash, which would follow a link.
func openBase(path string, create bool) (*os.File, error) {
	resolved, err := resolve(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		var dir *os.File
		if dir, err = openDir(nil, resolved); !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
	}
	if !create {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return openBase(path, false)
}

// maxLinks is the kernel's own bound (MAXSYMLINKS of linux/namei.h).
const maxLinks = 40

// resolve replaces the symbolic links among a path's parents.
func resolve(path string) (string, error) {
	done, rest := "/", strings.Split(strings.TrimPrefix(path, "/"), "/")
	for links := 0; len(rest) > 1; {
		next := filepath.Join(done, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(next)
		if errors.Is(err, unix.EINVAL) { // not a link
			done = next
			continue
		}
		if err == nil {
			err = onlyRootChanges(done, next)
		}
		if links++; err == nil && links > maxLinks {
			err = pathError("readlink", next, unix.ELOOP)
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
func onlyRootChanges(dir, link string) error {
	var in, of unix.Stat_t
	err := errors.Join(pathError("stat", dir, unix.Stat(dir, &in)), pathError("lstat", link, unix.Lstat(link, &of)))
	if err == nil && (isOthers(of) || isOthers(in) || in.Mode&0o022 != 0 && in.Mode&unix.S_ISVTX == 0) {
		err = model.Errorf(model.ErrConflict,
			"%s is a symbolic link that other users can change, and so is not followed; name the directory that it leads to", link)
	}
	return err
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
		return pathError("fstat", dir.Name(), err)
	}
	if isOthers(st) {
		return model.Errorf(model.ErrConflict, "%s belongs to user %d, but must belong to root; run chown on it, or choose another ipam.dataDir",
			dir.Name(), st.Uid)
	}
	mode, harm := st.Mode&0o7777, mask
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
		return pathError("chmod", dir.Name(), err)
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
		_, err := folder{dir: dir}.stat(filepath.Join(name, lockName))
		network := e.IsDir() && err == nil // another one's folder
		if !network && !strings.HasPrefix(name, fileName) && name != lockName && name != own {
			return model.Errorf(model.ErrConflict,
				"%s is open to other users (mode %04o), so they could hold the locks of leases in it, but it is used for %s as well; run chmod go= on it, or choose another ipam.dataDir",
				dir.Name(), mode, name)
		}
	}
	return nil
}
