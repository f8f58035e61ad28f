package lockdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A dry directory reads what is there, and nothing that is done with it has an effect: not
// on one that is missing, and not beside somebody who has the lock.
func TestDry(t *testing.T) {
	base := t.TempDir()
	place := Place{Base: base, Sub: "missing", File: "file", Warn: t.Errorf, Dry: true}
	if _, err := place.Lock(false, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without create: %v", err)
	}
	use := func(d *Dir, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		data, rerr := d.Read(100)
		name, aerr := d.SetAside()
		f, lerr := d.LockBytes([]int64{1})
		locked, berr := d.LockedBytes(0, 10)
		if err := errors.Join(d.Replace([]byte("new")), d.Probe(nil), d.Remove("file"), aerr, lerr, berr); err != nil || f != nil || name != "" || len(locked) > 0 {
			t.Errorf("%v, %v, %q, %v", err, f, name, locked)
		}
		if string(data) != want || want == "" && !errors.Is(rerr, fs.ErrNotExist) || !d.Overwrite(nil) {
			t.Errorf("read %q, %v", data, rerr)
		}
		d.Sign()
		d.Leave()
	}
	d, err := place.Lock(true, 0)
	use(d, err, "")
	if names, _ := os.ReadDir(base); len(names) > 0 {
		t.Errorf("there is %v", names)
	}

	place.Dry = false
	real, err := place.Lock(true, time.Second)
	if err == nil {
		err = real.Replace([]byte("old"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer real.Leave()
	place.Dry = true
	d, err = place.Lock(true, 0)
	if err == nil && !d.Signed() {
		t.Error("the file is not signed")
	}
	use(d, err, "old")
	if data, err := real.Read(100); string(data) != "old" || !real.Signed() {
		t.Errorf("the file became %q, %v", data, err)
	}
	dir := filepath.Join(base, "missing")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	d, err = place.Lock(true, 0)
	use(d, err, "old")
	var st unix.Stat_t
	if unix.Stat(dir, &st); st.Mode&0o777 != 0o777 {
		t.Errorf("the mode became %o", st.Mode)
	}
}
