package ipam

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The lease file is believed without a look at the host's links only if it is
// the one that was written last. An older copy of it may have been restored, or
// somebody may have edited it. So the lock file, which is not replaced when a
// lease file is, holds the result of stat(2) for the last one: its inode and, as
// nobody can set it, the time of its last change (ctime) matter most. If the
// whole folder was restored, the copy of the lease file has others, too.

// stampSize is the length of a stamp: always the same, so that one can be
// written over another even if the disk is full.
const stampSize = 5*17 + 2*9

// stamp describes the lease file as it is now; empty if that is unknown.
func (f folder) stamp() string {
	st, err := f.stat(fileName)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%016x %016x %016x %016x.%08x %016x.%08x\n",
		st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
}

// sign notes that the lease file is what a holder of the lock has written or
// compared with the links, unless l is unsure. Where that can't be noted, the next
// one compares it.
func (f folder) sign(l *leases) {
	if !l.unsure {
		_, _ = unix.Pwrite(int(f.lock.Fd()), []byte(f.stamp()), 0)
	}
}

// signed reports whether the lease file is the one that sign was called for last.
func (f folder) signed() bool {
	var last [stampSize + 1]byte
	n, err := unix.Pread(int(f.lock.Fd()), last[:], 0)
	return err == nil && n > 0 && string(last[:n]) == f.stamp()
}
