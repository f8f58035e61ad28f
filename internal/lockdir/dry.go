package lockdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"flatnet/internal/sysctl"

	"golang.org/x/sys/unix"
)

// look is Lock for a caller that changes nothing: what others change meanwhile it may see.
func (p Place) look(create bool) (*Dir, error) {
	d, err := p.open(false)
	switch {
	case err == nil:
		err = d.secure()
	case create && errors.Is(err, fs.ErrNotExist):
		return &Dir{Place: p, path: filepath.Join(p.Base, p.Sub)}, nil
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	d.lock, _ = d.open(lockName, os.O_RDONLY) // its stamp: see Signed
	d.boot, _ = sysctl.Proc.Get("kernel/random/boot_id")
	return d, nil
}

// writable reports why a file could not be made in the directory, or where that would be
// made, as far as permissions show.
func (d *Dir) writable() error {
	for path := d.path; ; path = filepath.Dir(path) {
		err := unix.Access(path, unix.W_OK)
		if !errors.Is(err, unix.ENOENT) || path == filepath.Dir(path) {
			return pathError("write", path, err)
		}
	}
}
