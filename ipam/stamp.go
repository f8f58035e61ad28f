package ipam

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The lease file is believed without a look at the host's links only if it is
// the one that was written last. An older copy of it may have been restored, or
// somebody may have edited it. So the lock file, which is not replaced when a
// lease file is, holds what stat(2) says of the last one: its inode and, as
// nobody can set it, the time of its last change (ctime) matter most. If the
// whole folder was restored, the copy of the lease file has others, too.

// stampSize is the length of a stamp: always the same, so that one can be
// written over another even if the disk is full.
const stampSize = 5*17 + 2*9

// stamp describes the lease file as it is now.
func (f folder) stamp() ([]byte, error) {
	var st unix.Stat_t
	if err := f.stat(fileName, &st); err != nil {
		return nil, err
	}
	return fmt.Appendf(make([]byte, 0, stampSize), "%016x %016x %016x %016x.%08x %016x.%08x\n",
		st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// sign notes that the lease file is what a holder of the lock has written or
// compared with the links. Where that can't be noted, the next one compares it.
func (f folder) sign() {
	if stamp, err := f.stamp(); err == nil {
		_, _ = unix.Pwrite(int(f.lock.Fd()), stamp, 0)
	}
}

// signed reports whether the lease file is the one that sign was called for last.
func (f folder) signed() bool {
	now, err := f.stamp()
	if err != nil {
		return false
	}
	var last [stampSize + 1]byte
	n, err := unix.Pread(int(f.lock.Fd()), last[:], 0)
	return err == nil && string(last[:n]) == string(now)
}
