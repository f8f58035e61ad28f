package lockdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
)

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
			return model.Errorf(model.ErrConflict, "%s is no directory, or a link to one", path)
		}
	}
	return nil
}

// checkLinks reports an error if another user made a symbolic link of a path, or
// could replace it in its directory. The path may have "..", which must not be
// resolved before the links are.
func checkLinks(path string) error {
	for slash := strings.LastIndexByte(path, '/'); slash >= 0; slash = strings.LastIndexByte(path, '/') {
		target, err := os.Readlink(path)
		dir := path[:slash]
		if err == nil { // a link
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
			if err := checkLinks(target); err != nil {
				return err
			}
		}
		path = dir
	}
	return nil
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
		if err := d.checkContent(mode); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(int(dir.Fd()), mode&^mask); err != nil {
		return pathError("chmod", path, err)
	}
	d.Warn("directory %s was open to other users, who could hold its locks; its mode was %04o and now is %04o",
		path, mode, mode&^mask)
	return nil
}

// checkContent reports an error if Base has anything in it that is not of a Dir, for
// which other users may need it.
func (d *Dir) checkContent(mode uint32) error {
	entries, err := os.ReadDir(d.Base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, path := e.Name(), filepath.Join(d.Base, e.Name())
		_, err := os.Lstat(filepath.Join(path, lockName))
		isDir := path == d.path || e.IsDir() && err == nil
		if !isDir && !strings.HasPrefix(name, d.File) && name != lockName {
			return model.Errorf(model.ErrConflict,
				"%s is open to other users (mode %04o), so they could hold the locks in it, but it is used for %s as well; "+
					"run chmod go= on it, or choose another directory", d.Base, mode, name)
		}
	}
	return nil
}
