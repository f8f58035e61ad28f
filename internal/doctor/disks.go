package doctor

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"flatnet/internal/advice"
	"flatnet/internal/report"
	"flatnet/internal/rootless"

	"golang.org/x/sys/unix"
)

// A place is a directory in which an ADD writes.
type place struct {
	dir  string   // the check
	ours []string // directories of flatnet's own there, which must be the caller's
}

// disks looks for directories in which ADD could write nothing.
func (d *Doctor) disks() {
	leases, records := cmp.Or(rootless.Leases(nil), "/var/lib/flatnet"), rootless.Records()
	for _, p := range []place{{leases, []string{leases, leases + "/ipam"}}, {records, []string{records}}} {
		if !d.owned(p) {
			continue
		}
		path := filepath.Join(d.Root, p.dir)
		if len(p.ours) > 1 {
			path = filepath.Join(path, "ipam") // which may be on a file system of its own
		}
		var fs unix.Statfs_t
		for unix.Statfs(path, &fs) == unix.ENOENT && len(path) > 1 {
			path = filepath.Dir(path)
		}
		d.disk(p.dir, path, &fs)
	}
}

// owned reports whether a place is the caller's: another user could change what is there, so
// flatnet refuses it.
func (d *Doctor) owned(p place) bool {
	for _, dir := range p.ours {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(d.Root, dir), &st) == nil && int(st.Uid) != os.Geteuid() {
			d.add(report.Fail, p.dir, fmt.Sprintf("%s belongs to user %d, so an ADD refuses it", dir, st.Uid), fmt.Sprintf("chown %d:%d %s", os.Geteuid(), os.Getegid(), advice.Word(dir)))
			return false
		}
	}
	return true
}

// disk looks at the file system of a place: btrfs and others count no inodes.
func (d *Doctor) disk(check, path string, fs *unix.Statfs_t) {
	const block, low = 4096, 1 << 20 // a lease file of few containers; of hundreds
	free := fs.Bavail * uint64(fs.Bsize)
	switch {
	case fs.Flags&unix.ST_RDONLY != 0:
		d.add(report.Fail, check, "is on a read-only file system", "mount -o remount,rw "+advice.Word(path))
	case fs.Files > 0 && fs.Ffree == 0:
		d.add(report.Fail, check, "the file system has no free inode, so no ADD can write there", "remove files that you don't need: df -i "+advice.Word(path))
	case free < block:
		d.add(report.Fail, check, fmt.Sprintf("%d KiB are free, so no ADD can write there", free>>10), "remove files that you don't need: df -h "+advice.Word(path))
	case free < low:
		d.add(report.Warn, check, fmt.Sprintf("%d KiB are free", free>>10), "df -h "+advice.Word(path))
	default:
		d.add(report.OK, check, fmt.Sprintf("%d MiB are free", free>>20), "")
	}
}
